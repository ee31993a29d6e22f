"""Draws from many categorical distributions at once: the hot loop of playing a policy with many heads.

A row holds the logits of H heads side by side, L in all. One pass gives the options and their joint log-probability. Axes: B row,
L logit, H head.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from kernels.core.arrays import Array, namespace, param, per
from kernels.core.launch import kernel

VERSION = 1
AXES = {"L": "n_logits", "H": "n_heads"}


@dataclass(frozen=True)
class Params:
    n_logits: int = param(2, "logits of all heads", low=1)
    n_heads: int = param(1, "heads", low=1)
    start: tuple[int, ...] = param((0, 2), "first logit of each head, and the end of the last")


@dataclass(eq=False)
class State:
    logits: Array = per("L", doc="unnormalised log-probabilities")
    uniform: Array = per("H", doc="one uniform in [0, 1] for each head")


@dataclass(eq=False)
class Actions:
    option: Array = per("H", dtype="i32", doc="option drawn")
    logp: Array = per(doc="log-probability of all options together")


@dataclass(eq=False)
class Shocks:
    """None: the uniforms are given."""


@dataclass(eq=False)
class Rewards:
    """None."""


def layout(options: tuple[int, ...]) -> Params:
    """Parameters for heads of these sizes: layout((11, 5)) has 16 logits that start at 0 and 11."""
    start = (0, *itertools.accumulate(options))
    return Params(start[-1], len(options), start)


@kernel("categorical.cu")
def draw(p: Params, s: State, a: Actions) -> None:
    """First option whose cumulative probability exceeds the uniform, so never one of probability zero. Writes option, logp."""
    xp = namespace(s)
    a.logp[...] = 0
    for h, (low, high) in enumerate(itertools.pairwise(p.start)):
        logits = s.logits[:, low:high]
        logits = logits - logits.max(-1, keepdims=True)
        weight = xp.exp(logits)
        cumulated = xp.cumsum(weight, -1)
        target = xp.minimum(s.uniform[:, h, None], 1 - 2.0**-24) * cumulated[:, -1:]  # rounds to less than the total
        option = (cumulated[:, :-1] <= target).sum(-1)
        a.option[:, h] = option
        a.logp += (xp.take_along_axis(logits, option[:, None], 1) - xp.log(cumulated[:, -1:]))[:, 0]


def tables(p: Params, logits: Array, uniform: Array, option: Array, logp: Array) -> tuple[Params, State, Actions]:
    """Arrays of the right shapes as the arguments of `draw`."""
    if np.shape(logits)[1] != p.n_logits:
        raise ValueError(f"logits must have {p.n_logits} columns, got {np.shape(logits)[1]}")
    return p, State(logits, uniform), Actions(option, logp)
