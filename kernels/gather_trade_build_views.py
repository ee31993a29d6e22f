"""What is seen of the gather-trade-build world: the flat vectors in the order of the original program, packed windows, and their unpacking.

A flat vector is a table of parts, each with a name, the condition under which it is there, its length and its values. The tables are
alphabetical in the original's keys. Axes: B replica, N agent, P price level, K bracket.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.core.arrays import Array, namespace
from kernels.gather_trade_build_taxes import marginal

BUILD, AUCTION, GATHER, TAX, LABOR = 0, 1, 2, 3, 5  # components, as in gather_trade_build
STONE_BIT, WOOD_BIT, HOUSE_BIT, WATER_BIT, STONE_SOURCE_BIT, WOOD_SOURCE_BIT, INSIDE_BIT = (1 << k for k in range(7))
CHANNELS = (STONE_BIT, WOOD_BIT, HOUSE_BIT, WATER_BIT, STONE_SOURCE_BIT, WOOD_SOURCE_BIT, INSIDE_BIT)  # of the original's world-map
LEAST_SALES = 0.001  # below which a market rate is not a mean
PER_CAPITA = 1000.0  # scale of productivity in the one-step economy


@dataclass(frozen=True)
class Part:
    """A block of a flat vector: `key` is its name in the original program, `name` ours; values (B, N, n) or, seen by all, (B, n)."""

    key: str
    name: str
    there: Callable[[Any], bool]
    length: Callable[[Any], int]
    values: Callable[[Any, Any], Array]


def _has(component: int) -> Callable[[Any], bool]:
    return lambda p: component in p.order


def _one(p: Any) -> int:
    return 1


def _prices(p: Any) -> int:
    return p.n_prices


def _brackets(p: Any) -> int:
    return p.n_brackets


def _agents(p: Any) -> int:
    return p.n_agents


def _scale(p: Any) -> float:
    """Of inventories and price histories."""
    return 0.01 if p.scaled_view else 1.0


def _others(levels: str, g: int) -> Callable[[Any, Any], Array]:
    return lambda p, s: getattr(s, levels)[:, g].sum(1, keepdims=True) - getattr(s, levels)[:, g]


def _own(levels: str, g: int) -> Callable[[Any, Any], Array]:
    return lambda p, s: getattr(s, levels)[:, g]


def _all(levels: str, g: int) -> Callable[[Any, Any], Array]:
    return lambda p, s: getattr(s, levels)[:, g].sum(1)


def _sales(s: Any, g: int) -> Array:
    """Sales by price, remembered: (B, P), summed agent by agent."""
    total = 0 * s.price_history[:, g, 0]
    for i in range(s.price_history.shape[2]):
        total = total + s.price_history[:, g, i]
    return total


def _market_rate(g: int) -> Callable[[Any, Any], Array]:
    def rate(p: Any, s: Any) -> Array:
        xp, sales = namespace(s), _sales(s, g)
        value, weight = 0 * sales[:, 0], 0 * sales[:, 0]
        for k in range(p.n_prices):
            value, weight = value + k * sales[:, k], weight + sales[:, k]
        return (value / xp.maximum(weight, LEAST_SALES))[:, None]
    return rate


def _history(g: int) -> Callable[[Any, Any], Array]:
    return lambda p, s: _sales(s, g) * _scale(p)


def _time(p: Any, s: Any) -> Array:
    return s.period[:, None] / p.horizon if p.scaled_view else s.period[:, None] * 1.0


def _column(name: str) -> Callable[[Any, Any], Array]:
    return lambda p, s: getattr(s, name)[:, :, None]


def _income_now(s: Any) -> Array:
    return s.coin + s.coin_escrow - s.last_coin


def _marginal_now(p: Any, s: Any) -> Array:
    return marginal(s, _income_now(s))[:, :, None]


def _sorted_incomes(p: Any, s: Any) -> Array:
    return namespace(s).sort(s.last_income, -1) / p.tax_period


MARKET = tuple(
    Part(f"ContinuousDoubleAuction-{key}-{good}", f"{name} {good.lower()}", _has(AUCTION), length, make(g))
    for key, name, length, make in (("market_rate", "market_rate", _one, _market_rate),
                                    ("price_history", "price_history", _prices, _history))
    for g, good in enumerate(("Stone", "Wood")))


def _orders(key: str, name: str, levels: str, make: Callable[[str, int], Callable[[Any, Any], Array]]) -> tuple[Part, ...]:
    return tuple(Part(f"ContinuousDoubleAuction-{key}-{good}", f"{name} {good.lower()}", _has(AUCTION), _prices, make(levels, g))
                 for g, good in enumerate(("Stone", "Wood")))


TAXES = (
    Part("PeriodicBracketTax-curr_rates", "rate", _has(TAX), _brackets, lambda p, s: s.posted_rates),
    Part("PeriodicBracketTax-is_first_day", "is_first_day", _has(TAX), _one, lambda p, s: (s.tax_day == 1)[:, None]),
    Part("PeriodicBracketTax-is_tax_day", "is_tax_day", _has(TAX), _one, lambda p, s: (s.tax_day >= p.tax_period)[:, None]),
    Part("PeriodicBracketTax-last_incomes", "last_incomes", _has(TAX), _agents, _sorted_incomes),
)
PHASE = Part("PeriodicBracketTax-tax_phase", "tax_phase", _has(TAX), _one, lambda p, s: s.tax_day[:, None] / p.tax_period)
TIME = Part("time", "time", lambda p: True, _one, _time)


def _carries(key: str) -> Callable[[Any], bool]:
    return lambda p: p.has_map and (key != "of agent" or not p.full_view)


def _goods_of(who: str) -> tuple[Part, ...]:
    """Inventory; the planner's own is empty."""
    def of(g: int) -> Callable[[Any, Any], Array]:
        if who == "planner":
            return lambda p, s: 0.0 * s.welfare[:, None]
        return lambda p, s: (s.coin if g < 0 else s.goods[:, :, g])[:, :, None] * _scale(p)
    return tuple(Part(f"world-inventory-{good}", f"inventory {good.lower()}", _carries(who), _one, of(g))
                 for g, good in ((-1, "Coin"), (0, "Stone"), (1, "Wood")))


def _places(there: Callable[[Any], bool]) -> tuple[Part, ...]:
    return (Part("world-loc-col", "column", there, _one, lambda p, s: s.col[:, :, None] / p.width),
            Part("world-loc-row", "row", there, _one, lambda p, s: s.row[:, :, None] / p.height))


AGENT: tuple[Part, ...] = (
    Part("Build-build_payment", "build_payment", _has(BUILD), _one, lambda p, s: s.build_payment[:, :, None] / p.build_payment),
    Part("Build-build_skill", "build_skill", _has(BUILD), _one, _column("build_skill")),
    *_orders("available_asks", "available_asks", "ask_levels", _others),
    *_orders("available_bids", "available_bids", "bid_levels", _others),
    *MARKET[:2],
    *_orders("my_asks", "my_asks", "ask_levels", _own),
    *_orders("my_bids", "my_bids", "bid_levels", _own),
    *MARKET[2:],
    Part("Gather-bonus_gather_prob", "bonus", _has(GATHER), _one, _column("bonus")),
    *TAXES,
    Part("PeriodicBracketTax-marginal_rate", "marginal_rate", _has(TAX), _one, _marginal_now),
    PHASE,
    Part("SimpleLabor-skill", "skill", _has(LABOR), _one, lambda p, s: s.skill[:, :, None] / p.labor_skill_cap),
    TIME,
    *_goods_of("agent"),
    *_places(lambda p: p.has_map and not p.full_view),
)

PLANNER: tuple[Part, ...] = (
    *_orders("full_asks", "asks", "ask_levels", _all),
    *_orders("full_bids", "bids", "bid_levels", _all),
    *MARKET,
    *TAXES,
    PHASE,
    TIME,
    Part("world-equality", "equality", lambda p: not p.has_map, _one, lambda p, s: equality(s.coin + s.coin_escrow)[:, None]),
    *_goods_of("planner"),
    Part("world-normalized_per_capita_productivity", "productivity", lambda p: not p.has_map, _one,
         lambda p, s: ((s.coin + s.coin_escrow).sum(-1) / p.n_agents / PER_CAPITA)[:, None]),
)

OF_AGENT: tuple[Part, ...] = (
    Part("PeriodicBracketTax-curr_marginal_rate", "marginal_rate", _has(TAX), _one, _marginal_now),
    Part("PeriodicBracketTax-last_income", "last_income", _has(TAX), _one, lambda p, s: s.last_income[:, :, None] / p.tax_period),
    Part("PeriodicBracketTax-last_marginal_rate", "last_marginal_rate", _has(TAX), _one, _column("last_marginal")),
    *_goods_of("of agent"),
    *_places(lambda p: p.has_map and not p.full_view and p.planner_sees_map),
)


# -- flat vectors

def width(p: Any, table: tuple[Part, ...]) -> int:
    """Numbers in the vector of a table."""
    return sum(part.length(p) for part in table if part.there(p))


def names(p: Any, table: tuple[Part, ...]) -> tuple[str, ...]:
    """A name for each number in it."""
    found: list[str] = []
    for part in table:
        if part.there(p):
            n = part.length(p)
            found += [part.name] if n == 1 else [f"{part.name}[{k}]" for k in range(n)]
    return tuple(found)


def write_flat(p: Any, s: Any) -> None:
    """Writes flat, planner_flat, of_agents."""
    for table, out in ((AGENT, s.flat), (PLANNER, s.planner_flat), (OF_AGENT, s.of_agents)):
        start = 0
        for part in table:
            if part.there(p):
                values, n = part.values(p, s), part.length(p)
                out[..., start:start + n] = values[:, None] if values.ndim < out.ndim else values
                start += n


def equality(coin: Array) -> Array:
    """1 less the Gini coefficient of (B, N) endowments, over its largest value; 1 - 2 mean of Lorenz shares from 30 agents on."""
    xp, n = namespace(coin), coin.shape[1]
    if n >= 30:
        shares = xp.cumsum(xp.sort(coin, -1), -1) / (coin.sum(-1) + 1e-10)[:, None]
        return 1 - (1 - 2 / (n + 1) * shares.sum(-1))
    apart = abs(coin[:, :, None] - coin[:, None, :]).sum((1, 2))
    return 1 - apart / (2 * n * coin.sum(-1) + 1e-10) / ((n - 1) / n)


# -- the map

def view_names(p: Any, side: tuple[int, int] | None = None) -> tuple[str, ...]:
    """A name for each byte of an agent's packed window, or of a map of `side` rows and columns."""
    rows, columns = side or ((p.height, p.width) if p.full_view else (p.window, p.window))
    half = (0, 0) if side or p.full_view else (p.view_range, p.view_range)
    return tuple(f"{layer}[{row - half[0]},{col - half[1]}]"
                 for layer in ("ground", "owner", "occupant") for row in range(rows) for col in range(columns))


def enterable(ground: Array, owner: Array, occupant: Array, agent: Array) -> Array:
    """Whether an agent may enter a tile: on the map, no water, nobody there, no house of somebody else."""
    return ((ground & (INSIDE_BIT | WATER_BIT)) == INSIDE_BIT) & (occupant == 0) & ((owner == 0) | (owner == agent + 2))


def inner(p: Any, layer: Array) -> Array:
    """A layer (B, T) without its margin: (B, height, width)."""
    grid = layer.reshape(len(layer), p.height + 2 * p.margin, p.stride)
    return grid[:, p.margin:p.margin + p.height, p.margin:p.margin + p.width]


def write_windows(p: Any, s: Any) -> None:
    """What each agent sees of ground, owners and agents; codes are 1 for oneself, j + 2 for agent j; and what the planner sees of
    them all. Writes view, planner_view."""
    xp = namespace(s)
    if p.planner_has_view:
        for k, layer in enumerate((s.ground, s.owner, s.occupant)):
            s.planner_view[:, k] = inner(p, layer).reshape(len(layer), -1)
    for i in range(p.n_agents):
        if p.full_view:
            seen = [inner(p, layer).reshape(len(layer), -1) for layer in (s.ground, s.owner, s.occupant)]
        else:
            middle = (s.row[:, i].astype(np.int64) + p.margin) * p.stride + s.col[:, i] + p.margin
            reach = xp.arange(-p.view_range, p.view_range + 1)
            around = (reach[:, None] * p.stride + reach[None, :]).ravel()
            seen = [xp.take_along_axis(layer, middle[:, None] + around, 1) for layer in (s.ground, s.owner, s.occupant)]
        s.view[:, i, 0] = seen[0]
        for layer in (1, 2):
            s.view[:, i, layer] = xp.where(seen[layer] == i + 2, 1, seen[layer])


def channels(ground: Array, has_water: bool = True, has_inside: bool = True) -> Array:
    """The original's world-map from ground bytes (..., tiles): channels stone, wood, house, water, stone source, wood source, inside, as
    0 and 1 (..., channels, tiles)."""
    bits = [bit for bit in CHANNELS if (has_water or bit != WATER_BIT) and (has_inside or bit != INSIDE_BIT)]
    return namespace(ground).stack([(ground & bit) > 0 for bit in bits], -2)


def unpack(p: Any, view: Array, has_water: bool = True) -> tuple[Array, Array]:
    """The original's world-map (B, N, channels, h, w) of 0 and 1 and world-idx_map (B, N, 2, h, w) of codes from packed windows."""
    side = (p.height, p.width) if p.full_view else (p.window, p.window)
    bits = channels(view[:, :, 0], has_water, not p.full_view)
    return bits.reshape(*bits.shape[:3], *side), view[:, :, 1:].reshape(*view.shape[:2], 2, *side)
