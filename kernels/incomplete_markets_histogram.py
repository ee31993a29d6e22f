"""The wealth of a continuum of households as a histogram that a saving rule and the chain of incomes move on: no sampling of households.

A model of its own to the compiler. Everywhere: p Params, s State; axes B replica, Z level, E income state, N node of aggregate capital,
G bin, T period. Source: Young (2010), "Solving the incomplete markets model with aggregate uncertainty using the Krusell-Smith algorithm
and non-stochastic simulations".
"""
from __future__ import annotations

from dataclasses import dataclass, make_dataclass

import numpy as np

from kernels.core.arrays import Array, param, per
from kernels.core.launch import kernel

AXES = {"Z": "n_levels", "E": "n_incomes", "N": "n_nodes", "G": "n_bins", "T": "n_periods"}


@dataclass(frozen=True)
class Params:
    n_levels: int = param(2, "levels of productivity", low=1)
    n_incomes: int = param(2, "income states", low=1)
    n_nodes: int = param(4, "nodes of aggregate capital at which the rule is given, in rising order", low=1)
    n_bins: int = param(1000, "bins of wealth, equally spaced", low=2)
    n_periods: int = param(1000, "periods of a call", low=1)
    top: float = param(100.0, "wealth of the last bin; who would own more owns this", unit="goods")


@dataclass(eq=False)
class State:
    mass: Array = per("E", "G", unit="share", doc="households in each income state and bin at the start of the next period")
    rule: Array = per("Z", "E", "N", "G", unit="goods", doc="wealth tomorrow")
    nodes: Array = per("N", unit="goods", doc="aggregate capital at which the rule is given; in between and beyond it is linear")
    incomes: Array = per("Z", "Z", "E", "E", doc="rows of tomorrow's income state given both levels and today's")
    level: Array = per("T", dtype="i32", doc="number of the level of productivity")
    following: Array = per("T", dtype="i32", doc="number of the level in the period after")
    capital: Array = per("T", unit="goods", doc="wealth per household at the start of the period")
    moved: Array = per("E", "G", unit="share", doc="flow: households after saving, in today's income state")


Actions, Shocks, Rewards = (make_dataclass(name, [], eq=False) for name in ("Actions", "Shocks", "Rewards"))  # none


@kernel("incomplete_markets_histogram.cu")
def move(p: Params, s: State) -> None:
    """Households of a bin move to the two bins around k'(k, e, K, z), in such shares that their mean is k'; then incomes change. Writes
    mass, capital, moved."""
    wealth, width = np.linspace(0, p.top, p.n_bins), p.top / (p.n_bins - 1)
    for b in range(len(s.mass)):
        for t in range(p.n_periods):
            z = s.level[b, t]
            s.capital[b, t] = capital = (s.mass[b] * wealth).sum()
            n, weight = bracket(s.nodes[b], capital)
            saved = s.rule[b, z, :, n]
            if weight:
                saved = saved + weight * (s.rule[b, z, :, n + 1] - saved)
            place = np.clip(saved / width, 0, p.n_bins - 1)
            low = np.minimum(place.astype(np.int64), p.n_bins - 2)
            high = s.mass[b] * (place - low)
            for e in range(p.n_incomes):
                s.moved[b, e] = np.bincount(low[e], s.mass[b, e] - high[e], p.n_bins)
                s.moved[b, e] += np.bincount(low[e] + 1, high[e], p.n_bins)
            s.mass[b] = s.incomes[b, z, s.following[b, t]].T @ s.moved[b]


def bracket(nodes: np.ndarray, x: float) -> tuple[int, float]:
    """The node below x, or the last but one, or the first, and how far x lies from it towards the next; (0, 0) of a single node."""
    if len(nodes) == 1:
        return 0, 0.0
    n = int(np.clip(np.searchsorted(nodes, x, side="right") - 1, 0, len(nodes) - 2))
    return n, float((x - nodes[n]) / (nodes[n + 1] - nodes[n]))
