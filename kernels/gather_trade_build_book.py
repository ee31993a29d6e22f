"""Orders of the double auction: one integer each, so that sorting integers sorts the book by priority.

An order is rank, period in which it was placed, and agent, from the highest bits to the lowest. The rank of an ask is its price, that of a
bid what its price lies below the highest one: the least integer is the best order, older before younger, then lower agent numbers. Orders
age together, so a sorted book stays sorted. A place without an order holds NONE, larger than any.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from kernels.core.arrays import Array, namespace

AGE_BITS, AGENT_BITS = 24, 16
NONE = 1 << 62


def bid(p: Any, price: Array, period: Array, agent: Any) -> Array:
    """The integer of a bid."""
    return _order(p.max_price - price, period, agent)


def ask(price: Array, period: Array, agent: Any) -> Array:
    """The integer of an ask."""
    return _order(price, period, agent)


def _order(rank: Any, period: Any, agent: Any) -> Any:
    period = period.astype(np.int64) if hasattr(period, "astype") else period
    return (rank << AGE_BITS | period) << AGENT_BITS | agent


def bid_price(p: Any, order: Array) -> Array:
    return p.max_price - ask_price(order)


def ask_price(order: Array) -> Array:
    return order >> (AGE_BITS + AGENT_BITS)


def placed(order: Array) -> Array:
    """The period in which an order was placed."""
    return order >> AGENT_BITS & (1 << AGE_BITS) - 1


def agent(order: Array) -> Array:
    """The number of an order's owner."""
    return order & (1 << AGENT_BITS) - 1


def insert(orders: Array, order: Array, accepted: Array) -> None:
    """Put one order into each sorted list (B, Q) that accepts one; its last place must be free there."""
    xp = namespace(orders)
    orders[:, -1] = xp.where(accepted, order, orders[:, -1])
    orders[...] = xp.sort(orders, -1)


def rows(p: Any, s: Any, b: int) -> list[tuple[int, int, int, int, int]]:
    """The book of one replica after a period: (good, 0 bid or 1 ask, agent, price, age), best first."""
    found = []
    for g in range(2):
        for side, orders, price in ((0, s.bids[b, g], lambda order: bid_price(p, order)), (1, s.asks[b, g], ask_price)):
            for order in map(int, orders[orders < NONE]):
                found.append((g, side, int(agent(order)), int(price(order)), int(s.period[b]) - int(placed(order)) + 1))
    return found
