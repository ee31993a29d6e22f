"""Cournot duopoly (1838): two producers choose quantities at once, one period.

Price a - (q_1 + q_2), unit cost c: the best reply to q_2 is (a - c - q_2) / 2, the equilibrium q_1 = q_2 = (a - c) / 3.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np

from kernels.core.arrays import Array, allocate, param, per

VERSION = 1
AXES = {"F": "n_firms"}


@dataclass(frozen=True)
class Params:
    n_firms: int = param(2, "producers", low=1)
    demand: float = param(100.0, "price at which nothing is sold", symbol="a", unit="coins/unit")
    cost: float = param(10.0, "cost of a unit", symbol="c", unit="coins/unit")


@dataclass(eq=False)
class State:
    price: Array = per(unit="coins/unit", doc="what the market paid in the period")
    quantity: Array = per("F", unit="units", doc="what each producer brought")
    rank: Array = per("F", doc="0 for the first producer, 1 for the second, ...: all that is seen")


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


def initial_state(p, replicas, xp=np, draws=None, real=np.float32):
    """An empty market."""
    s = allocate(State, sys.modules[__name__], p, replicas, xp, real)
    s.rank[...] = xp.arange(p.n_firms)
    return s


def draw_shocks(p, s, e, draws):
    """Nothing."""


def step(p, s, a, e, r):
    """Both producers sell at the price that clears the market."""
    clear(p, s, a)
    pay(p, s, r)


def clear(p, s, a):
    """Price a - (q_1 + q_2). Writes price, quantity."""
    s.quantity[:, 0], s.quantity[:, 1] = a.home, a.foreign
    s.price[...] = p.demand - s.quantity.sum(-1)


def pay(p, s, r):
    """Profit (price - c) q. Writes rewards."""
    r.home[...], r.foreign[...] = ((s.price - p.cost) * s.quantity[:, i] for i in (0, 1))


INVARIANTS = {"demand": lambda p, before, after: (p.demand - after.price - after.quantity.sum(-1)) / p.demand}
