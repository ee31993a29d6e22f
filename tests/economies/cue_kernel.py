"""A game of memory. Who remembers nothing earns half a point in a period, who remembers the cue a whole one.

Axes: B replica, P player. Everywhere: p Params, s State, a Actions, e Shocks, r Rewards.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core.arrays import Array, allocate, param, per
from kernels.core.rng import Draws

VERSION = 1
AXES = {"P": "n_players"}


@dataclass(frozen=True)
class Params:
    n_players: int = param(2, "players", symbol="P", low=1)
    horizon: int = param(4, "periods of an episode", symbol="T", unit="periods", low=2)


@dataclass(eq=False)
class State:
    cue: Array = per("P", doc="0 or 1, drawn at the start of an episode")
    shown: Array = per("P", doc="-1 or 1 for the cue in the first period, 0 later")
    right: Array = per("P", doc="flow: 1 for an answer that was the cue, in the first period 0")


@dataclass(eq=False)
class Actions:
    answer: Array = per("P", doc="0 or 1")


@dataclass(eq=False)
class Shocks:
    nothing: Array = per(doc="no chance after the start")


@dataclass(eq=False)
class Rewards:
    player: Array = per("P", unit="points", doc="for the cue repeated, from the second period on")


def initial_state(p: Params, replicas: int, xp: ModuleType = np, draws: Draws | None = None, real: Any = np.float32) -> State:
    """A fair cue for each player; 1 without draws."""
    s = allocate(State, sys.modules[__name__], p, replicas, xp, real)
    s.cue[...] = 1.0 if draws is None else draws.uniform(0, p.n_players, real) < 0.5
    s.shown[...] = 2 * s.cue - 1
    return s


def draw_shocks(p: Params, s: State, e: Shocks, draws: Draws) -> None:
    """Nothing."""


def step(p: Params, s: State, a: Actions, e: Shocks, r: Rewards) -> None:
    """One period: answers count once the cue is no longer shown."""
    s.right[...] = (a.answer == s.cue) & (s.shown == 0)
    r.player[...] = s.right
    s.shown[...] = 0


INVARIANTS: dict[str, Any] = {}
