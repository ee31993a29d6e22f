"""Cournot duopoly: two producers choose quantities at once, for one period; a yardstick for best responses.

Price a - (q_1 + q_2), unit cost c: the best reply to q_2 is (a - c - q_2) / 2, the equilibrium q_1 = q_2 = (a - c) / 3. Everywhere:
p Params, s State, a Actions, e Shocks, r Rewards. Source: Cournot (1838), chapter 7.
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
AXES: dict[str, str] = {}


@dataclass(frozen=True)
class Params:
    demand: float = param(100.0, "price at which nothing is sold", symbol="a", unit="coins/unit")
    cost: float = param(10.0, "cost of a unit", symbol="c", unit="coins/unit")


@dataclass(eq=False)
class State:
    price: Array = per(unit="coins/unit", doc="what the market paid in the period")
    quantity: Array = per(unit="units", doc="what both producers brought together")


@dataclass(eq=False)
class Actions:
    home: Array = per(unit="units", doc="quantity of the first producer")
    foreign: Array = per(unit="units", doc="quantity of the second producer")


@dataclass(eq=False)
class Shocks:
    """None."""


@dataclass(eq=False)
class Rewards:
    home: Array = per(unit="coins", doc="profit of the first producer")
    foreign: Array = per(unit="coins", doc="profit of the second producer")


def initial_state(p: Params, replicas: int, xp: ModuleType = np, draws: Draws | None = None, real: Any = np.float32) -> State:
    """An empty market."""
    return allocate(State, sys.modules[__name__], p, replicas, xp, real)


def draw_shocks(p: Params, s: State, e: Shocks, draws: Draws) -> None:
    """Nothing."""


def step(p: Params, s: State, a: Actions, e: Shocks, r: Rewards) -> None:
    """Both producers sell at the price that clears the market."""
    clear(p, s, a)
    pay(p, s, a, r)


def clear(p: Params, s: State, a: Actions) -> None:
    """Price a - (q_1 + q_2). Writes price, quantity."""
    s.quantity[...] = a.home + a.foreign
    s.price[...] = p.demand - s.quantity


def pay(p: Params, s: State, a: Actions, r: Rewards) -> None:
    """Profit (price - c) q. Writes rewards."""
    r.home[...], r.foreign[...] = (s.price - p.cost) * a.home, (s.price - p.cost) * a.foreign


def _demand(p: Params, before: State, after: State) -> Array:
    """Price and quantity lie on the demand curve."""
    return (p.demand - after.price - after.quantity) / p.demand


INVARIANTS = {"demand": _demand}
