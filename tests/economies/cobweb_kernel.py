"""A market with a production lag: what is planted in one season can be sold in the next. Small enough to check every number by hand.

Axes: B replica, P producer. Everywhere: p Params, s State, a Actions, e Shocks, r Rewards.
Model: Ezekiel (1938), with stocks, an autoregressive demand and a levy.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core.arrays import Array, allocate, namespace, param, per
from kernels.core.rng import Draws

VERSION = 1
AXES = {"P": "n_producers"}
OFFERS = 5  # amounts that may be offered: 0 .. most_sold in equal steps


@dataclass(frozen=True)
class Params:
    n_producers: int = param(3, "producers", symbol="P", low=1)
    choke_price: float = param(10.0, "price at which nothing is bought, without a shock", symbol="a", unit="coins/sack")
    slope: float = param(0.5, "fall of the price with each sack", symbol="b", unit="coins/sack^2", low=0)
    unit_cost: float = param(1.0, "cost of planting", symbol="c", unit="coins/sack", low=0)
    capacity: float = param(3.0, "most sacks that can be planted in a season", unit="sacks", low=0)
    most_sold: float = param(4.0, "largest offer", unit="sacks", low=0)
    persistence: float = param(0.8, "of the demand shock", symbol="rho", low=0)
    volatility: float = param(0.1, "standard deviation of the innovation of demand", symbol="sigma", low=0)


@dataclass(eq=False)
class State:
    stock: Array = per("P", unit="sacks", doc="in the barn")
    growing: Array = per("P", unit="sacks", doc="planted last season, harvested at the end of this one")
    wealth: Array = per("P", unit="coins", doc="a producer's money")
    demand_shock: Array = per(doc="log deviation of demand, AR(1)")
    price: Array = per(unit="coins/sack", doc="of this season")
    levy: Array = per(unit="share", doc="rate on revenue, in force this season")
    sold: Array = per("P", unit="sacks", doc="flow: bought by the consumers")
    revenue: Array = per("P", unit="coins", doc="flow: before the levy")
    cost: Array = per("P", unit="coins", doc="flow: of planting")
    collected: Array = per(unit="coins", doc="flow: levy")


@dataclass(eq=False)
class Actions:
    offer: Array = per("P", unit="sacks", doc="brought to the market, at most the stock")
    planted: Array = per("P", unit="sacks", doc="sown, harvested in the next season")
    levy: Array = per(unit="share", doc="rate of the next season")


@dataclass(eq=False)
class Shocks:
    demand: Array = per(doc="standard normal innovation of demand")


@dataclass(eq=False)
class Rewards:
    producer: Array = per("P", unit="coins", doc="profit")
    regulator: Array = per(unit="coins", doc="consumer surplus plus levy")


def initial_state(p: Params, replicas: int, xp: ModuleType = np, draws: Draws | None = None, real: Any = np.float32) -> State:
    """Barns filled with 1 to 3 sacks and a demand drawn from its stationary distribution; 2 sacks and no shock without draws."""
    s = allocate(State, sys.modules[__name__], p, replicas, xp, real)
    s.stock[...], s.growing[...], s.price[...] = 2.0, 1.0, p.choke_price
    if draws is not None:
        s.stock += 2 * draws.uniform(0, p.n_producers, real) - 1
        s.demand_shock[...] = p.volatility / (1 - p.persistence**2) ** 0.5 * draws.normal(1, 1, real)[:, 0]
    return s


def draw_shocks(p: Params, s: State, e: Shocks, draws: Draws) -> None:
    """One normal innovation of demand in each replica."""
    e.demand[...] = draws.normal(0, 1)[:, 0]


def step(p: Params, s: State, a: Actions, e: Shocks, r: Rewards) -> None:
    """One season, phase by phase."""
    move_demand(p, s, e)
    trade(p, s, a, r)
    settle(p, s, a, r)
    harvest(p, s, a)
    s.levy[...] = a.levy


def move_demand(p: Params, s: State, e: Shocks) -> None:
    """z' = rho z + sigma eps. Writes demand_shock."""
    s.demand_shock[...] = p.persistence * s.demand_shock + p.volatility * e.demand


def trade(p: Params, s: State, a: Actions, r: Rewards) -> None:
    """Everything offered is sold at p = max(0, a exp(z) - b Q). Writes sold, price, regulator's reward (consumer surplus b Q^2 / 2)."""
    xp = namespace(s)
    s.sold[...] = a.offer
    quantity = s.sold.sum(-1)
    s.price[...] = xp.maximum(p.choke_price * xp.exp(s.demand_shock) - p.slope * quantity, 0)
    r.regulator[...] = p.slope * quantity**2 / 2


def settle(p: Params, s: State, a: Actions, r: Rewards) -> None:
    """Profit = (1 - levy) p q - c planted. Writes revenue, cost, collected, wealth, rewards."""
    s.revenue[...] = s.price[:, None] * s.sold
    s.cost[...] = p.unit_cost * a.planted
    s.collected[...] = s.levy * s.revenue.sum(-1)
    r.producer[...] = (1 - s.levy[:, None]) * s.revenue - s.cost
    r.regulator += s.collected
    s.wealth += r.producer


def harvest(p: Params, s: State, a: Actions) -> None:
    """Last season's seed fills the barn. Writes stock, growing."""
    s.stock += s.growing - s.sold
    s.growing[...] = a.planted


def _sacks(p: Params, before: State, after: State) -> Array:
    """Stock at the end less stock at the start, harvest and sales, relative to all of it."""
    parts = (after.stock, -before.stock, -before.growing, after.sold)
    return sum(parts) / (1 + sum(abs(part) for part in parts))


def _coins(p: Params, before: State, after: State) -> Array:
    """Producers' money at the end less money at the start, revenue after the levy and costs, relative to all of it."""
    parts = (after.wealth.sum(-1), -before.wealth.sum(-1), -after.revenue.sum(-1), after.collected, after.cost.sum(-1))
    return sum(parts) / (1 + sum(abs(part) for part in parts) + abs(after.wealth).sum(-1))


def _no_negative_stock(p: Params, before: State, after: State) -> Array:
    """The part of a stock that lies below zero."""
    return namespace(after).minimum(after.stock, 0)


INVARIANTS = {"sacks": _sacks, "coins": _coins, "no_negative_stock": _no_negative_stock}
