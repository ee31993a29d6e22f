"""Gather-trade-build world: agents gather wood and stone on a map, trade them in a double auction, build houses; a planner taxes income.

`step` advances every replica by one period: first what the components do, in the order of Params, then resources grow back, rewards are
paid, and everybody sees the new state. Agents act one after another where they can be in each other's way. A phase reads anything and
writes only what its docstring names. Everywhere: p Params, s State, a Actions, e Shocks, r Rewards; axes B replica, N agent (index i), G
good (0 stone, 1 wood), Q place in an order book, P price level, K tax bracket, T tile of the map with a margin on all sides.
Model: Zheng et al. (2020), arXiv:2004.13332; one-step economy: Zheng et al. (2022), arXiv:2108.02755, as their released program computes
them. Rooms of this house: `gather_trade_build_world` layouts, maps and starts, `_taxes` brackets and the Saez formula, `_book` orders,
`_views` what is seen. Components and scenarios are numbers: Params says which.
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels import gather_trade_build_book as book
from kernels import gather_trade_build_taxes as taxes
from kernels import gather_trade_build_views as views
from kernels import gather_trade_build_world as world
from kernels.core.arrays import Array, allocate, namespace, param, per, to_host
from kernels.core.launch import kernel
from kernels.core.rng import Draws

VERSION = 1
AXES = {
    "N": "n_agents", "G": "n_goods", "P": "n_prices", "Q": "n_orders", "K": "n_brackets", "L": "n_rates", "M": "n_sources", "T": "n_tiles",
    "S": "n_spaces", "A": "n_mask", "U": "n_planner_mask", "F": "n_seen", "H": "n_planner_seen", "I": "n_seen_of_agent", "V": "n_view",
    "Y": "n_layers", "J": "n_deeds", "W": "n_samples", "E": "n_events", "X": "n_event_words", "C": "n_classes", "D": "stride",
    "O": "margin", "Z": "window", "R": "n_address", "POOL": "n_pooled", "MAP": "n_planner_view", "ROWS": "height", "COLUMNS": "width",
}
BUILD, AUCTION, GATHER, TAX, REDISTRIBUTION, LABOR = range(6)  # components
STONE, WOOD = range(2)  # goods
DO_BUILD, DO_BUY_STONE, DO_SELL_STONE, DO_BUY_WOOD, DO_SELL_WOOD, DO_MOVE, DO_WORK = range(7)  # deeds: sub-spaces of an action
LEFT, RIGHT, UP, DOWN = range(1, 5)  # values of DO_MOVE
HAS = (1, 2)  # bits of a ground byte: at least one unit of stone, of wood
HOUSE, WATER, SOURCE, INSIDE = 4, 8, (16, 32), 64  # the others
MOST_HOURS = 100  # of SimpleLabor
DECAY = 0.995  # of the price history, in a period
ROUNDING = 1e-5  # a sum of rewards below it is none
MODEL, US_FEDERAL, SAEZ, FIXED = range(4)  # tax models
COIN_EQ, INCOME_WEIGHTED_COIN, INCOME_WEIGHTED_UTILITY = range(3)  # the planner's goals
DECAYING, AUTO = range(2)  # how the weight of labour warms up
COIN_MINUS_LABOR, ISOELASTIC = range(2)  # rewards of agents in the one-step economy
ORDER, LUCK, REGROWTH, RATES, PLAY, PLANNER_PLAY = range(6)  # streams of random numbers of a step
ZHENG, FOUNDATION = "Zheng et al. (2020)", "released program"
NAMED = {"layout": world.named}  # Params that may be given as texts: the name of a shipped layout, or a layout file


@dataclass(frozen=True)
class Params:
    scenario: int = param(world.LAYOUT, "0 layout, 1 split by water, 2 uniform, 3 multi-zone, 4 quadrant, 5 one-step economy", low=0)
    order: tuple[int, ...] = param((BUILD, AUCTION, GATHER, TAX), "components in the order in which they act: 0 Build, 1 "
                                   "ContinuousDoubleAuction, 2 Gather, 3 PeriodicBracketTax, 4 WealthRedistribution, 5 SimpleLabor")
    n_agents: int = param(4, "mobile agents, at most 253", low=2, source=ZHENG)
    horizon: int = param(1000, "periods of an episode", symbol="T", unit="periods", low=1, source=ZHENG)
    height: int = param(25, "rows of the map", unit="tiles", low=1)
    width: int = param(25, "columns of the map", unit="tiles", low=1)
    layout: tuple[int, ...] = param((0,), "number of a shipped layout, or the codes of all tiles row by row: 0 empty, 1 stone, 2 wood, "
                                    "3 water; gather_trade_build_world.named(FILE) gives them")
    multi_action: bool = param(False, "whether an agent acts in every sub-space in each period, or in one of them")
    view_range: int = param(5, "an agent sees so far in each direction", unit="tiles", low=0, source=ZHENG)
    full_view: bool = param(False, "whether agents see the whole map")
    planner_sees_map: bool = param(True, "whether the planner sees the map and where agents are")
    scaled_view: bool = param(True, "whether inventories, price histories and time are scaled in the flat observation")
    # gathering
    move_labor: tuple[float, ...] = param((1.0,), "of a move, for each class of agents", unit="labor", source=ZHENG)
    collect_labor: tuple[float, ...] = param((1.0,), "of collecting, for each class of agents", unit="labor", source=ZHENG)
    gather_skill: int = param(world.PARETO, "distribution of the chance of a second unit: 0 none, 1 Pareto(3), 2 lognormal", low=0)
    regrowth_stone: float = param(0.01, "chance that an empty source refills in a period", unit="1/period", low=0, source=ZHENG)
    regrowth_wood: float = param(0.01, "the same of wood", unit="1/period", low=0, source=ZHENG)
    halfwidth_stone: int = param(0, "neighbours so far away help a source to refill", unit="tiles", low=0)
    halfwidth_wood: int = param(0, "the same of wood", unit="tiles", low=0)
    most_stone: int = param(1, "largest number of units on a tile", unit="units", low=1)
    most_wood: int = param(1, "the same of wood", unit="units", low=1)
    # building
    build_payment: float = param(10.0, "coins for a house, before skill", unit="coins", low=0, source=ZHENG)
    build_labor: tuple[float, ...] = param((10.0,), "of building, for each class of agents", unit="labor", source=ZHENG)
    build_skill: int = param(world.PARETO, "distribution of skill: 0 none, 1 Pareto(4), 2 lognormal", low=0)
    skill_cap: float = param(3.0, "largest multiple of build_payment", low=1, source=ZHENG)
    # auction
    max_price: int = param(10, "highest bid or ask", unit="coins", low=0, source=ZHENG)
    order_labor: float = param(0.25, "of placing an order", unit="labor", low=0, source=ZHENG)
    order_duration: int = param(50, "an order lives for so many periods after its first", unit="periods", low=0, source=ZHENG)
    max_orders: int = param(5, "open orders of an agent for each good", low=1, source=ZHENG)
    # taxes
    tax_model: int = param(MODEL, "0 the planner chooses, 1 US federal 2018, 2 Saez formula, 3 fixed rates", low=0)
    disable_taxes: bool = param(False, "whether all rates are zero")
    tax_period: int = param(100, "length of a tax year", unit="periods", low=1, source=ZHENG)
    rate_min: float = param(0.0, "lowest rate", low=0, source=ZHENG)
    rate_max: float = param(1.0, "highest rate", low=0, source=ZHENG)
    rate_step: float = param(0.05, "between two rates that the planner can choose", low=1e-3, source=ZHENG)
    bracket_spacing: int = param(taxes.US, "of brackets: 0 US federal 2018, 1 linear, 2 logarithmic", low=0)
    brackets: int = param(5, "number of linear or logarithmic brackets", low=2)
    top_cutoff: float = param(100.0, "where the highest linear or logarithmic bracket begins", unit="coins", low=0)
    usd_scaling: float = param(1000.0, "dollars in a coin, of US brackets", unit="dollars/coin", low=1e-9, source=ZHENG)
    fixed_rates: tuple[float, ...] = param((), "rates of tax model 3, one for each bracket")
    saez_weights: int = param(taxes.INVERSE_INCOME, "Pareto weights of the Saez formula: 0 inverse income, 1 uniform", low=0)
    saez_shared: bool = param(False, "whether the Saez formula also knows the incomes of all replicas' finished episodes, as far as each "
                              "remembers them, so that replicas are no longer independent; they are those of one batch, or env runner")
    saez_elasticity: float = param(-1.0, "elasticity of taxable income in the Saez formula; negative: estimated")
    annealing: tuple[float, ...] = param((), "(w, m): the highest rate is min(1, m (c - w)) rate_max after c episodes; empty: rate_max")
    # utility
    starting_coin: tuple[float, ...] = param((0.0,), "coins at the start, for each class of agents", unit="coins")
    crra: tuple[float, ...] = param((0.23,), "curvature of the utility of coins, for each class of agents; 1 is log max(1, coins)",
                                    symbol="eta", source=ZHENG)
    energy_cost: float = param(0.21, "disutility of labor", symbol="beta", unit="utils/labor", low=0, source=ZHENG)
    energy_warmup: float = param(0.0, "time constant of the weight of labor, 0: full weight at once", unit="episodes or periods", low=0)
    warmup_method: int = param(DECAYING, "what the weight grows with: 0 episodes, 1 periods with a positive mean reward", low=0)
    planner_goal: int = param(COIN_EQ, "0 equality times productivity, 1 coins, 2 utilities weighted by inverse income", low=0)
    equality_weight: float = param(1.0, "weight of equality in the planner's first goal", low=0, source=ZHENG)
    # starts
    fixed_four: bool = param(True, "whether agents start in the corners with the mean payments of their ranks", source=ZHENG)
    class_sizes: tuple[int, ...] = param((), "agents of each class, in the order of their numbers; empty: one class")
    water_row: int = param(-1, "row of a split world that is water; negative: the middle")
    top_ranks: tuple[int, ...] = param((0,), "skill ranks that start above the water of a split world; 0 is the most skilled")
    wood_coverage: float = param(0.025, "of procedural maps; 1 or more counts tiles", low=0, source=FOUNDATION)
    stone_coverage: float = param(0.025, "the same of stone", low=0, source=FOUNDATION)
    wood_clumpiness: float = param(0.35, "share of sources grown in clumps", low=0, source=FOUNDATION)
    stone_clumpiness: float = param(0.5, "the same of stone", low=0, source=FOUNDATION)
    gradient_steepness: float = param(8.0, "of the chance of a source along a procedural map", low=0, source=FOUNDATION)
    checker: bool = param(False, "whether sources of procedural maps stand on the fields of one colour of a chessboard")
    # simple labor and the one-step economy
    labor_skill_cap: float = param(3.0, "largest skill of SimpleLabor", low=1, source=FOUNDATION)
    mask_first_step: bool = param(True, "whether nobody works in the first period of SimpleLabor")
    agent_goal: int = param(COIN_MINUS_LABOR, "in the one-step economy: 0 coins less labor_cost labor^x, 1 isoelastic", low=0)
    labor_exponent: float = param(2.0, "x of the cost of labor in the one-step economy", low=1, source=FOUNDATION)
    labor_cost: float = param(1.0, "weight of labor in the one-step economy", low=0, source=FOUNDATION)

    n_goods, n_deeds, n_event_words, n_address = 2, 7, 8, 4  # lengths of axes that never change

    @property
    def margin(self) -> int:
        """Tiles around the map that are outside of it, so that windows need no bounds."""
        return max(self.view_range, self.halfwidth_stone, self.halfwidth_wood, 1)

    @property
    def stride(self) -> int:
        return self.width + 2 * self.margin

    @property
    def n_tiles(self) -> int:
        return (self.height + 2 * self.margin) * self.stride

    @property
    def window(self) -> int:
        return 2 * self.view_range + 1

    @property
    def n_sources(self) -> int:
        """Most sources of a map."""
        if self.scenario in (world.LAYOUT, world.SPLIT):
            codes = world.layout_tiles(self.layout, self.height, self.width)
            return max(1, int(((codes == world.STONE) | (codes == world.WOOD)).sum()))
        return self.height * self.width if self.has_map else 1

    @property
    def n_prices(self) -> int:
        return self.max_price + 1

    @property
    def n_orders(self) -> int:
        return self.n_agents * self.max_orders

    @property
    def n_events(self) -> int:
        """Most trades in a period: each fills an order placed in it."""
        return 4 * self.n_agents

    @property
    def n_brackets(self) -> int:
        return len(taxes.cutoffs(self))

    @property
    def n_rates(self) -> int:
        return len(taxes.levels(self))

    @property
    def n_samples(self) -> int:
        return taxes.SAMPLES if self.tax_model == SAEZ else 1

    @property
    def n_pooled(self) -> int:
        return self.n_samples if self.saez_shared else 1

    @property
    def n_classes(self) -> int:
        return max(1, len(self.class_sizes))

    @property
    def has_classes(self) -> bool:
        return self.n_classes > 1

    @property
    def n_spaces(self) -> int:
        """Heads of an agent: one, or one for each sub-space."""
        return len(spaces(self)) if self.multi_action else 1

    @property
    def n_mask(self) -> int:
        return sum(heads(self))

    @property
    def n_planner_mask(self) -> int:
        return sum(planner_heads(self))

    @property
    def n_layers(self) -> int:
        return 3 if self.has_map else 1

    @property
    def n_view(self) -> int:
        """Tiles that an agent sees."""
        return 1 if not self.has_map else self.height * self.width if self.full_view else self.window**2

    @property
    def n_planner_view(self) -> int:
        """Tiles that the planner sees."""
        return self.height * self.width if self.planner_has_view else 1

    @property
    def n_seen(self) -> int:
        return views.width(self, views.AGENT)

    @property
    def n_planner_seen(self) -> int:
        return views.width(self, views.PLANNER)

    @property
    def n_seen_of_agent(self) -> int:
        return max(1, views.width(self, views.OF_AGENT))

    @property
    def has_map(self) -> bool:
        """Whether the world has a map: the one-step economy has none."""
        return self.scenario != world.ONE_STEP

    @property
    def planner_has_view(self) -> bool:
        return self.has_map and self.planner_sees_map

    @property
    def planner_acts(self) -> bool:
        """Whether the planner sets rates."""
        return TAX in self.order and self.tax_model == MODEL and not self.disable_taxes


@dataclass(eq=False)
class State:
    period: Array = per(dtype="i32", unit="periods", doc="periods played in this episode")
    episodes: Array = per(dtype="i32", unit="episodes", doc="episodes completed in this replica; survives a reset")
    rewarding: Array = per(dtype="i32", unit="periods", doc="periods with a positive mean reward, over all episodes; survives a reset")
    # agents
    coin: Array = per("N", unit="coins", doc="an agent's money, without what bids have set aside")
    coin_escrow: Array = per("N", unit="coins", doc="set aside by open bids")
    goods: Array = per("N", "G", dtype="i16", unit="units", doc="an agent's stone and wood, without what asks have set aside")
    goods_escrow: Array = per("N", "G", dtype="i16", unit="units", doc="set aside by open asks")
    labor: Array = per("N", unit="labor", doc="done in this episode")
    row: Array = per("N", dtype="i16", unit="tiles", doc="where an agent stands")
    col: Array = per("N", dtype="i16", unit="tiles", doc="where an agent stands")
    kind: Array = per("N", dtype="i32", doc="class of an agent")
    build_payment: Array = per("N", unit="coins", doc="what a house pays its builder")
    build_skill: Array = per("N", doc="skill drawn at reset")
    bonus: Array = per("N", doc="chance of a second unit when collecting")
    skill: Array = per("N", unit="coins/hour", doc="what an hour of SimpleLabor earns")
    production: Array = per("N", unit="coins", doc="earned by SimpleLabor in this episode, before taxes")
    doing: Array = per("N", "J", dtype="i16", doc="flow: what an agent chose in every sub-space, 0 nothing")
    gathered: Array = per("N", "G", dtype="i16", unit="units", doc="flow: collected")
    built: Array = per("N", dtype="i16", unit="houses", doc="flow: houses built")
    # the map
    ground: Array = per("T", dtype="u8", doc="bits of every tile: stone 1, wood 2, house 4, water 8, stone source 16, wood source 32, "
                        "inside 64")
    owner: Array = per("T", dtype="u8", doc="agent i's house: i + 2, none: 0")
    occupant: Array = per("T", dtype="u8", doc="agent i stands here: i + 2, nobody: 0")
    units: Array = per("T", dtype="u8", unit="units", doc="of the tile's resource")
    source: Array = per("M", dtype="i32", doc="tiles with a source, from top left to bottom right")
    sources: Array = per(dtype="i32", doc="how many there are")
    # the auction
    bids: Array = per("G", "Q", dtype="i64", doc="open bids, best first: see gather_trade_build_book")
    asks: Array = per("G", "Q", dtype="i64", doc="open asks, best first")
    open_orders: Array = per("G", "N", dtype="i16", doc="bids and asks of an agent")
    bid_levels: Array = per("G", "N", "P", dtype="i16", doc="open bids of an agent by price")
    ask_levels: Array = per("G", "N", "P", dtype="i16", doc="open asks of an agent by price")
    price_history: Array = per("G", "N", "P", unit="trades", doc="sales of an agent by price, forgotten slowly")
    trades: Array = per("E", "X", dtype="i16", doc="flow: good, buyer, seller, bid, ask, price, age of the bid, age of the ask")
    n_trades: Array = per(dtype="i32", unit="trades", doc="flow: how many there were")
    # taxes
    tax_day: Array = per(dtype="i32", unit="periods", doc="position in the tax year, 1 when rates are set")
    cutoffs: Array = per("K", unit="coins", doc="where each bracket begins, constant")
    rate_levels: Array = per("L", doc="rates that the planner can choose, constant")
    rate_limit: Array = per(doc="highest rate allowed in this episode")
    rate_index: Array = per("K", dtype="i32", doc="number of each bracket's rate, of a planner that chooses")
    rates: Array = per("K", doc="marginal rate of each bracket")
    posted_rates: Array = per("K", doc="rates as of the last day on which they were set: what is seen")
    last_coin: Array = per("N", unit="coins", doc="money at the start of the tax year")
    last_income: Array = per("N", unit="coins", doc="income of the last tax year")
    last_marginal: Array = per("N", doc="marginal rate of the last tax year")
    last_effective: Array = per("N", doc="tax paid over income of the last tax year")
    tax_paid: Array = per("N", unit="coins", doc="flow: on a tax day")
    lump_sum: Array = per(unit="coins", doc="flow: what each agent gets of the taxes")
    collected: Array = per(unit="coins", doc="taxes of this episode")
    total_income: Array = per("N", unit="coins", doc="positive incomes of all tax years")
    total_paid: Array = per("N", unit="coins", doc="taxes of all tax years")
    occupancy: Array = per("K", dtype="i32", doc="incomes that ended in each bracket")
    elasticity: Array = per(doc="of taxable income, as the Saez formula estimates it; survives a reset")
    mean_rates: Array = per("K", doc="running mean of Saez rates, with which an episode begins; survives a reset")
    sample_income: Array = per("W", unit="coins", doc="incomes that the Saez formula remembers; survives a reset")
    sample_rate: Array = per("W", doc="marginal rates of these; survives a reset")
    samples: Array = per(dtype="i32", doc="how many have been taken; survives a reset")
    pool_income: Array = per("POOL", unit="coins", doc="the same at the start of the episode, which all replicas know where they share")
    pool_rate: Array = per("POOL", doc="marginal rates of these")
    pool_samples: Array = per(dtype="i32", doc="how many had been taken then")
    place: Array = per(dtype="i32", doc="number of the replica among those that share, constant; 0 if none do")
    sharing: Array = per(dtype="i32", doc="how many replicas share, constant; 0 if none do")
    # welfare
    energy_weight: Array = per(doc="weight of labor in utility")
    utility: Array = per("N", unit="utils", doc="of an agent, since the start")
    welfare: Array = per(doc="the planner's goal")
    # what is seen
    flat: Array = per("N", "F", dtype="f32", doc="what an agent sees besides the map: see gather_trade_build_views")
    view: Array = per("N", "Y", "V", dtype="u8", doc="an agent's window: bytes of ground, house owners, agents (1 for oneself)")
    mask: Array = per("N", "A", dtype="u8", doc="1 for each action that is legal now")
    planner_flat: Array = per("H", dtype="f32", doc="what the planner sees besides the map")
    planner_view: Array = per("Y", "MAP", dtype="u8", doc="the whole map: bytes of ground, house owners, agents")
    of_agents: Array = per("N", "I", dtype="f32", doc="what the planner sees of each agent")
    planner_mask: Array = per("U", dtype="u8", doc="1 for each action of the planner that is legal now")


@dataclass(eq=False)
class Actions:
    action: Array = per("N", "S", dtype="i32", doc="of every head: 0 nothing, else an option of the sub-spaces in their order")
    rate: Array = per("K", dtype="i32", doc="for each bracket: 0 keeps its rate, k is the k-th rate")


@dataclass(eq=False)
class Shocks:
    order: Array = per("N", dtype="i32", doc="the order in which agents move and collect")
    luck: Array = per("N", "G", doc="uniform: an agent that collects finds a second unit if it is below bonus")
    regrowth: Array = per("M", doc="uniform: a source gains a unit if it is below its chance")
    random_rate: Array = per("K", doc="uniform: rates of the Saez model while it has seen too little")
    address: Array = per("R", dtype="i64", doc="replica, period and key from which the others were drawn")


@dataclass(eq=False)
class Rewards:
    mobile: Array = per("N", unit="utils", doc="change of utility: coins less labor")
    planner: Array = per(doc="change of the planner's goal")


# -- actions

def spaces(p: Params) -> list[int]:
    """Deeds that an agent can choose among, in the order of the components."""
    of = {BUILD: [DO_BUILD], AUCTION: [DO_BUY_STONE, DO_SELL_STONE, DO_BUY_WOOD, DO_SELL_WOOD], GATHER: [DO_MOVE], LABOR: [DO_WORK]}
    return [deed for component in p.order for deed in of.get(int(component), [])]


def options(p: Params, deed: int) -> int:
    """How many ways there are of a deed, without doing nothing."""
    return {DO_BUILD: 1, DO_MOVE: 4, DO_WORK: MOST_HOURS}.get(deed, p.n_prices)


def heads(p: Params) -> list[int]:
    """Options of each head of an agent, doing nothing included."""
    sizes = [options(p, deed) for deed in spaces(p)]
    return [1 + n for n in sizes] if p.multi_action else [1 + sum(sizes)]


def planner_heads(p: Params) -> list[int]:
    """Options of each head of the planner: a rate for each bracket, or to keep it."""
    return [1 + p.n_rates] * p.n_brackets


# -- an episode begins

def initial_state(p: Params, replicas: int, xp: ModuleType = np, draws: Draws | None = None, real: Any = np.float32) -> State:
    """A map with full sources, agents on free tiles or in the corners, their skills drawn; rates at their lowest."""
    _require(p)
    s = allocate(State, _this(), p, replicas, np, real)
    known = draws or Draws((0, 0), np.arange(replicas), np.zeros(replicas, np.int64))
    known = Draws(known.seed, to_host(known.replica), to_host(known.clock))
    world.lay_out(p, s, world.tiles(p, replicas, known))
    world.equip(p, s, known)
    world.settle(p, s, known)
    s.bids[...] = s.asks[...] = book.NONE
    if xp is not np:
        s = State(**{name: xp.asarray(array) for name, array in vars(s).items()})
    if p.saez_shared:
        s.place[...], s.sharing[...] = xp.arange(replicas), replicas
    taxes.begin(p, s)
    s.energy_weight[...] = 1
    _weigh_labor(p, s)
    _value(p, s)
    observe(p, s)
    return s


def inherit(p: Params, before: State, s: State) -> None:
    """What a new episode keeps of the one that ended: curricula and the memory of the Saez formula. Writes these, rates, what is seen."""
    for name in ("rewarding", "elasticity", "mean_rates", "sample_income", "sample_rate", "samples"):
        getattr(s, name)[...] = getattr(before, name)
    if p.saez_shared:
        s.pool_income[...], s.pool_rate[...], s.pool_samples[...] = s.sample_income, s.sample_rate, s.samples
    s.episodes[...] = before.episodes + (before.period > 0)  # one that has not begun is none
    taxes.begin(p, s, before)
    _weigh_labor(p, s)
    _value(p, s)
    observe(p, s)


def _require(p: Params) -> None:
    """One sentence with the fix where Params do not fit together."""
    if len(set(map(int, p.order))) != len(p.order) or not set(map(int, p.order)) <= set(range(6)):
        raise ValueError(f"params.order must name each component once, as numbers 0 to 5, got {p.order}")
    if p.n_agents > 253:
        raise ValueError(f"params.n_agents must be at most 253, for maps name agents in one byte, got {p.n_agents}")
    if p.class_sizes and sum(p.class_sizes) != p.n_agents:
        raise ValueError(f"params.class_sizes must add up to n_agents={p.n_agents}, got {p.class_sizes}")
    if p.tax_model == FIXED and len(p.fixed_rates) != p.n_brackets:
        raise ValueError(f"params.fixed_rates must have a rate for each of {p.n_brackets} brackets, got {len(p.fixed_rates)}")
    if REDISTRIBUTION in p.order and p.order[-1] != REDISTRIBUTION:
        raise ValueError("params.order must end with component 4, WealthRedistribution, where it has it")


def draw_shocks(p: Params, s: State, e: Shocks, draws: Draws) -> None:
    """Order of moves, luck of collectors, regrowth, random rates: functions of replica, period and seed."""
    e.address[:, 0], e.address[:, 1] = draws.replica, draws.clock
    e.address[:, 2], e.address[:, 3] = draws.seed
    draw(p, s, e)


@kernel("gather_trade_build.cu")
def draw(p: Params, s: State, e: Shocks) -> None:
    """All draws of a period from their address; numbers k = 0, 1, ... of a stream are words of Philox items k / 4. Writes order, luck,
    regrowth, random_rate."""
    xp = namespace(s)
    seed = tuple(int(word) for word in e.address[0, 2:])
    draws = Draws((seed[0], seed[1]), e.address[:, 0], e.address[:, 1])
    b, bits = xp.arange(len(s.period)), _words(draws, ORDER, p.n_agents)
    e.order[...] = xp.arange(p.n_agents, dtype=np.int32)
    for i in range(p.n_agents - 1, 0, -1):
        other = (bits[:, i].astype(np.uint64) * np.uint64(i + 1) >> np.uint64(32)).astype(np.int64)
        e.order[b, i], e.order[b, other] = e.order[b, other], e.order[b, i].copy()
    e.luck[...] = _unit(_words(draws, LUCK, 2 * p.n_agents)).reshape(e.luck.shape)
    there = xp.arange(p.n_sources) < s.sources[:, None]
    e.regrowth[...] = xp.where(there, _unit(_words(draws, REGROWTH, p.n_sources)), 0)
    e.random_rate[...] = _unit(_words(draws, RATES, p.n_brackets))


def _words(draws: Draws, stream: int, n: int) -> Array:
    """(B, n) random words of a stream."""
    drawn = draws.bits(stream, -(-n // 4))
    return namespace(drawn[0]).stack(drawn, -1).reshape(len(drawn[0]), -1)[:, :n]


def _unit(bits: Array) -> Array:
    """Uniforms strictly between 0 and 1, exact in single precision."""
    return ((bits >> 9) + 0.5) * 2.0**-23


@kernel("gather_trade_build.cu")
def play(p: Params, s: State, a: Actions, e: Shocks) -> None:
    """Random play from the same address: every head takes one of its legal options, each as likely. Writes all actions."""
    draws = Draws((int(e.address[0, 2]), int(e.address[0, 3])), e.address[:, 0], e.address[:, 1])
    a.action[...] = _at_random(_words(draws, PLAY, p.n_agents * p.n_spaces).reshape(a.action.shape), s.mask, heads(p))
    mask = s.planner_mask[:, None]
    a.rate[...] = _at_random(_words(draws, PLANNER_PLAY, p.n_brackets)[:, None], mask, planner_heads(p))[:, 0]


def _at_random(bits: Array, mask: Array, sizes: list[int]) -> Array:
    """Options (..., heads) drawn from the legal ones of heads side by side in a mask (..., options of all)."""
    xp, chosen, start = namespace(mask), [], 0
    for h, n in enumerate(sizes):
        legal = mask[..., start:start + n]
        rank = bits[..., h].astype(np.uint64) * legal.sum(-1, dtype=np.uint64) >> np.uint64(32)
        chosen.append(xp.argmax(xp.cumsum(legal, -1, dtype=np.uint64) > rank[..., None], -1))
        start += n
    return xp.stack(chosen, -1)


# -- a period

@kernel("gather_trade_build.cu")
def step(p: Params, s: State, a: Actions, e: Shocks, r: Rewards) -> None:
    """One period: components in their order, then regrowth, rewards, and what is seen next."""
    choose(p, s, a)
    for component in p.order:
        if component == BUILD:
            build(p, s)
        elif component == AUCTION:
            trade(p, s)
        elif component == GATHER:
            gather(p, s, e)
        elif component == TAX:
            tax(p, s, a, e)
        elif component == REDISTRIBUTION:
            redistribute(p, s)
        elif component == LABOR:
            work(p, s)
    regrow(p, s, e)
    reward(p, s, r)
    observe(p, s)


def choose(p: Params, s: State, a: Actions) -> None:
    """The numbers chosen become deeds: 0 nothing, then the options of each sub-space in turn. Writes period, doing, flows to zero."""
    s.period += 1
    for flow in (s.doing, s.gathered, s.built, s.n_trades, s.trades, s.tax_paid, s.lump_sum):
        flow[...] = 0
    start = 0
    for h, deed in enumerate(spaces(p)):
        chosen = a.action[:, :, h if p.multi_action else 0] - start
        n = options(p, deed)
        s.doing[:, :, deed] = chosen * ((chosen > 0) & (chosen <= n))
        start += 0 if p.multi_action else n


def build(p: Params, s: State) -> None:
    """One wood and one stone become a house on a tile without anything, for build_payment coins. Writes goods, ground, owner, coin, labor,
    built."""
    xp = namespace(s)
    b = xp.arange(len(s.period))
    for i in range(p.n_agents):
        here = tile(p, s.row[:, i], s.col[:, i])
        builds = (s.doing[:, i, DO_BUILD] > 0) & (s.goods[:, i] > 0).all(-1) & (s.ground[b, here] == INSIDE)
        s.goods[:, i] -= builds[:, None]
        s.ground[b, here] |= (builds * HOUSE).astype(np.uint8)
        s.owner[b, here] = xp.where(builds, i + 2, s.owner[b, here])
        s.coin[:, i] += builds * s.build_payment[:, i]
        s.labor[:, i] += builds * _of_class(p.build_labor, s.kind[:, i])
        s.built[:, i] = builds


@kernel("gather_trade_build.cu")
def trade(p: Params, s: State) -> None:
    """The auction: orders are placed, best bids meet best asks, what is too old is returned. Writes coin*, goods*, labor, bids, asks,
    open_orders, *_levels, price_history, trades, n_trades."""
    s.price_history *= DECAY
    for g in (STONE, WOOD):
        for i in range(p.n_agents):
            _bid(p, s, g, i)
            _ask(p, s, g, i)
    for g in (STONE, WOOD):
        _match(p, s, g)
        _expire(p, s, g)


def _bid(p: Params, s: State, g: int, i: int) -> None:
    """Agent i offers to buy a unit: the price is set aside. Writes coin, coin_escrow, labor, bids, open_orders, bid_levels."""
    chosen = s.doing[:, i, DO_BUY_STONE + 2 * g].astype(np.int64)
    price = namespace(s).maximum(chosen - 1, 0)
    accepted = (chosen > 0) & (s.open_orders[:, g, i] < p.max_orders) & (s.coin[:, i] >= price)
    s.coin[:, i] -= accepted * price
    s.coin_escrow[:, i] += accepted * price
    _place(p, s, g, i, accepted, price, s.bids, s.bid_levels, book.bid(p, price, s.period, i))


def _ask(p: Params, s: State, g: int, i: int) -> None:
    """Agent i offers to sell a unit, which is set aside. Writes goods, goods_escrow, labor, asks, open_orders, ask_levels."""
    chosen = s.doing[:, i, DO_SELL_STONE + 2 * g].astype(np.int64)
    price = namespace(s).maximum(chosen - 1, 0)
    accepted = (chosen > 0) & (s.open_orders[:, g, i] < p.max_orders) & (s.goods[:, i, g] > 0)
    s.goods[:, i, g] -= accepted
    s.goods_escrow[:, i, g] += accepted
    _place(p, s, g, i, accepted, price, s.asks, s.ask_levels, book.ask(price, s.period, i))


def _place(p: Params, s: State, g: int, i: int, accepted: Array, price: Array, orders: Array, levels: Array, order: Array) -> None:
    b = namespace(s).arange(len(s.period))
    book.insert(orders[:, g], order, accepted)
    levels[b, g, i, price] += accepted
    s.open_orders[:, g, i] += accepted
    s.labor[:, i] += accepted * p.order_labor


def _match(p: Params, s: State, g: int) -> None:
    """Each bid in turn, best first, meets the best ask that is not its owner's; they trade one unit if bid >= ask, at the price of the
    older order, or of the ask if both are new. Writes what a trade changes."""
    xp = namespace(s)
    b = xp.arange(len(s.period))
    bids, asks = s.bids[:, g], s.asks[:, g]
    for q in range(p.n_orders):
        bid = bids[:, q].copy()
        best = asks.min(-1)
        if not ((bid < book.NONE) & (best < book.NONE) & (book.bid_price(p, bid) >= book.ask_price(best))).any():
            break
        buyer = book.agent(bid)
        others = xp.where(book.agent(asks) == buyer[:, None], book.NONE, asks)
        place = others.argmin(-1)
        ask = others[b, place]
        trades = (bid < book.NONE) & (ask < book.NONE) & (book.bid_price(p, bid) >= book.ask_price(ask))
        bids[:, q] = xp.where(trades, book.NONE, bid)
        asks[b, place] = xp.where(trades, book.NONE, asks[b, place])
        _settle(p, s, g, trades, xp.where(trades, bid, book.bid(p, 0, 0, 0)), xp.where(trades, ask, book.ask(0, 0, 0)))
    bids[...], asks[...] = xp.sort(bids, -1), xp.sort(asks, -1)


def _settle(p: Params, s: State, g: int, trades: Array, bid: Array, ask: Array) -> None:
    """The buyer gets a unit and what he had offered above the price, the seller the price."""
    xp = namespace(s)
    b = xp.arange(len(s.period))
    buyer, seller, offered, asked = book.agent(bid), book.agent(ask), book.bid_price(p, bid), book.ask_price(ask)
    price = xp.where(book.placed(bid) >= book.placed(ask), asked, offered)
    for agent, levels, level in ((buyer, s.bid_levels, offered), (seller, s.ask_levels, asked)):
        levels[b, g, agent, level] -= trades
        s.open_orders[b, g, agent] -= trades
    s.price_history[b, g, seller, price] += trades
    s.goods_escrow[b, seller, g] -= trades
    s.goods[b, buyer, g] += trades
    s.coin_escrow[b, buyer] -= trades * offered
    s.coin[b, seller] += trades * price
    s.coin[b, buyer] += trades * (offered - price)
    at = xp.minimum(s.n_trades, p.n_events - 1)
    event = (g + 0 * buyer, buyer, seller, offered, asked, price, s.period - book.placed(bid), s.period - book.placed(ask))
    s.trades[b, at] = xp.where(trades[:, None], xp.stack(event, -1), s.trades[b, at])
    s.n_trades += trades


def _expire(p: Params, s: State, g: int) -> None:
    """Orders older than order_duration are taken from the book, and what they had set aside is returned."""
    xp = namespace(s)
    b = xp.arange(len(s.period))
    for orders, levels, buys in ((s.bids[:, g], s.bid_levels, True), (s.asks[:, g], s.ask_levels, False)):
        old = (orders < book.NONE) & (book.placed(orders) <= (s.period - p.order_duration)[:, None])
        for q in range(p.n_orders):
            gone = old[:, q]
            if not gone.any():
                continue
            agent = xp.where(gone, book.agent(orders[:, q]), 0)
            price = xp.where(gone, book.bid_price(p, orders[:, q]) if buys else book.ask_price(orders[:, q]), 0)
            if buys:
                s.coin_escrow[b, agent] -= gone * price
                s.coin[b, agent] += gone * price
            else:
                s.goods_escrow[b, agent, g] -= gone
                s.goods[b, agent, g] += gone
            levels[b, g, agent, price] -= gone
            s.open_orders[b, g, agent] -= gone
        orders[...] = xp.sort(xp.where(old, book.NONE, orders), -1)


@kernel("gather_trade_build.cu")
def gather(p: Params, s: State, e: Shocks) -> None:
    """One agent after another moves if its target is free and collects a unit of what lies where it stands, also if it did not move.
    Writes row, col, occupant, labor, goods, gathered, units, ground."""
    xp = namespace(s)
    b = xp.arange(len(s.period))
    for k in range(p.n_agents):
        i = e.order[:, k]
        chosen, row, col = s.doing[b, i, DO_MOVE], s.row[b, i], s.col[b, i]
        ahead_row, ahead_col = row + (chosen == DOWN) - (chosen == UP), col + (chosen == RIGHT) - (chosen == LEFT)
        here, ahead = tile(p, row, col), tile(p, ahead_row, ahead_col)
        moves = (chosen > 0) & views.enterable(s.ground[b, ahead], s.owner[b, ahead], s.occupant[b, ahead], i)
        s.row[b, i], s.col[b, i] = xp.where(moves, ahead_row, row), xp.where(moves, ahead_col, col)
        s.occupant[b, here] = xp.where(moves, 0, s.occupant[b, here])
        here = xp.where(moves, ahead, here)
        s.occupant[b, here] = i + 2
        s.labor[b, i] += moves * _of_class(p.move_labor, s.kind[b, i])
        for g in (STONE, WOOD):
            found = (s.ground[b, here] & HAS[g]) > 0
            n = found * (1 + (e.luck[b, i, g] < s.bonus[b, i]))
            s.goods[b, i, g] += n
            s.gathered[b, i, g] = n
            s.units[b, here] -= found
            emptied = found & (s.units[b, here] == 0)
            s.ground[b, here] &= ~(emptied * HAS[g]).astype(np.uint8)
            s.labor[b, i] += found * _of_class(p.collect_labor, s.kind[b, i])


def work(p: Params, s: State) -> None:
    """SimpleLabor: h hours earn h skill coins. Writes labor, production, coin."""
    hours = s.doing[:, :, DO_WORK]
    s.labor[...] = namespace(s).where(hours > 0, hours, s.labor)
    s.production += hours * s.skill
    s.coin += hours * s.skill


def redistribute(p: Params, s: State) -> None:
    """WealthRedistribution: everybody owns the same. Writes coin."""
    total = 0 * s.lump_sum
    for i in range(p.n_agents):
        total += s.coin[:, i] + s.coin_escrow[:, i]
    s.coin[...] = (total / p.n_agents)[:, None] - s.coin_escrow


def tax(p: Params, s: State, a: Actions, e: Shocks) -> None:
    """On the first day of a tax year rates are set, on its last day incomes are taxed and all revenue is paid back in equal parts. Writes
    tax_day, rate_index, rates, posted_rates, elasticity, mean_rates; coin, last_*, tax_paid, lump_sum, collected, total_*, occupancy,
    samples, sample_*."""
    first = s.tax_day == 1
    if first.any():
        taxes.set_rates(p, s, a.rate, e.random_rate, first)
    last = s.tax_day >= p.tax_period
    if last.any():
        taxes.enact(p, s, last)
    s.tax_day[...] = namespace(s).where(last, 1, s.tax_day + 1)


def regrow(p: Params, s: State, e: Shocks) -> None:
    """A source gains a unit with chance w / d^2 times the resources and sources of its kind among the d x d tiles around it. Writes units,
    ground."""
    xp = namespace(s)
    b = xp.arange(len(s.period))[:, None]
    there = xp.arange(p.n_sources) < s.sources[:, None]
    place = s.source.astype(np.int64)
    for g, weight, half, most in ((STONE, p.regrowth_stone, p.halfwidth_stone, p.most_stone),
                                  (WOOD, p.regrowth_wood, p.halfwidth_wood, p.most_wood)):
        alive = xp.where(s.ground & SOURCE[g], xp.maximum(s.units, 1), 0).astype(np.int64)
        near = sum(xp.roll(alive, down * p.stride + right, 1) for down in range(-half, half + 1) for right in range(-half, half + 1))
        mine = there & ((s.ground[b, place] & SOURCE[g]) > 0) & (s.units[b, place] < most)
        chance = weight / (1 + 2 * half)**2 * near[b, place]
        gains = mine & (e.regrowth < chance)
        s.units[b, place] += gains
        s.ground[b, place] |= (gains * HAS[g]).astype(np.uint8)


def reward(p: Params, s: State, r: Rewards) -> None:
    """Rewards are changes of utility and welfare since the last period; a positive mean reward makes labor weigh more. Writes rewards,
    utility, welfare, rewarding, energy_weight."""
    utility, welfare = s.utility.copy(), s.welfare.copy()
    _value(p, s)
    r.mobile[...] = s.utility - utility
    r.planner[...] = s.welfare - welfare
    total = 0 * welfare
    for i in range(p.n_agents):
        total += r.mobile[:, i]
    s.rewarding += total > ROUNDING
    _weigh_labor(p, s)


def _weigh_labor(p: Params, s: State) -> None:
    """1 - exp(-k / constant), k episodes completed or periods with a positive mean reward. Writes energy_weight."""
    if p.energy_warmup:
        done = s.episodes if p.warmup_method == DECAYING else s.rewarding
        s.energy_weight[...] = 1 - namespace(s).exp(-done / p.energy_warmup)


def _value(p: Params, s: State) -> None:
    """Utility of coins less labor of every agent, and the planner's goal. Writes utility, welfare."""
    xp = namespace(s)
    coin = s.coin + s.coin_escrow
    if p.has_map or p.agent_goal == ISOELASTIC:
        eta = _of_class(p.crra, s.kind)
        log = eta == 1
        power = xp.where(log, 0.5, 1 - eta)
        enjoyed = xp.where(log, xp.log(xp.maximum(coin, 1)), (coin**power - 1) / power)
        cost = p.energy_cost * s.energy_weight[:, None] if p.has_map else p.labor_cost
        s.utility[...] = enjoyed - cost * s.labor
    else:
        s.utility[...] = coin - p.labor_cost * s.labor**p.labor_exponent
    if p.planner_goal == COIN_EQ:
        equality = views.equality(coin)
        s.welfare[...] = (p.equality_weight * equality + 1 - p.equality_weight) * (coin.sum(-1) / p.n_agents)
    else:
        weight = 1 / xp.maximum(coin if p.has_map else s.production, 1)
        weight /= weight.sum(-1)[:, None]
        s.welfare[...] = (weight * (coin if p.planner_goal == INCOME_WEIGHTED_COIN else s.utility)).sum(-1)


@kernel("gather_trade_build.cu")
def observe(p: Params, s: State) -> None:
    """What everybody sees and may do next. Writes flat, view, mask, planner_*, of_agents."""
    views.write_flat(p, s)
    if p.has_map:
        views.write_windows(p, s)
    _permit(p, s)
    s.planner_mask[...] = taxes.legal(p, s)


def _permit(p: Params, s: State) -> None:
    """What each agent may do next. Writes mask."""
    start = 0
    if not p.multi_action:
        s.mask[:, :, 0], start = 1, 1
    for deed in spaces(p):
        if p.multi_action:
            s.mask[:, :, start], start = 1, start + 1
        n = options(p, deed)
        s.mask[:, :, start:start + n] = _legal(p, s, deed)
        start += n


def _legal(p: Params, s: State, deed: int) -> Array:
    """Which options of a deed the state permits: (B, N, options or 1)."""
    xp = namespace(s)
    if deed == DO_BUILD:
        ground = xp.take_along_axis(s.ground, tile(p, s.row, s.col), 1)
        return ((s.goods > 0).all(-1) & (ground == INSIDE))[:, :, None]
    if deed == DO_MOVE:
        return xp.stack([_can_enter(p, s, down, right) for down, right in ((0, -1), (0, 1), (-1, 0), (1, 0))], -1)
    if deed == DO_WORK:
        return xp.broadcast_to((s.period > 0)[:, None, None] | (not p.mask_first_step), (*s.coin.shape, 1))
    g, sells = divmod(deed - DO_BUY_STONE, 2)
    room = (s.open_orders[:, g] < p.max_orders)[:, :, None]
    if sells:
        return room & (s.goods[:, :, g, None] > 0)
    return room & (xp.arange(p.n_prices) <= s.coin[:, :, None])


def _can_enter(p: Params, s: State, down: int, right: int) -> Array:
    """Whether agents could step so far from where they are: (B, N)."""
    xp = namespace(s)
    ahead = tile(p, s.row + down, s.col + right)
    ground, owner, occupant = (xp.take_along_axis(layer, ahead, 1) for layer in (s.ground, s.owner, s.occupant))
    return views.enterable(ground, owner, occupant, xp.arange(p.n_agents))


def tile(p: Params, row: Array, col: Array) -> Array:
    """Number of a tile on the map with its margin."""
    return (row.astype(np.int64) + p.margin) * p.stride + col + p.margin


def _of_class(values: tuple[float, ...], kind: Array) -> Array:
    """The value that belongs to each agent's class; the last one serves all further classes."""
    xp = namespace(kind)
    return xp.asarray(values)[xp.minimum(kind, len(values) - 1)]


# -- what must always hold

def _coins(p: Params, before: State, after: State) -> Array:
    """Coins at the end less those at the start and payments for houses and work, relative to all of it: trade and tax make no coins."""
    xp = namespace(after)
    held, had = (s.coin.sum(-1) + s.coin_escrow.sum(-1) for s in (after, before))
    earned = (after.built * after.build_payment).sum(-1) + (after.production - before.production).sum(-1)
    return (held - had - earned) / xp.maximum(1, abs(held) + abs(had) + earned)


def _units(p: Params, before: State, after: State) -> Array:
    """Stone and wood of all agents at the end less at the start and gathered, plus built: zero to the unit."""
    held, had = (s.goods.sum(1, dtype=np.int64) + s.goods_escrow.sum(1, dtype=np.int64) for s in (after, before))
    return held - had - after.gathered.sum(1) + after.built.sum(1)[:, None]


def _set_aside(p: Params, before: State, after: State) -> Array:
    """Escrow less what open orders stand for."""
    xp = namespace(after)
    coins = (after.bid_levels * xp.arange(p.n_prices)).sum((1, 3)) - after.coin_escrow
    return xp.concatenate([coins, after.ask_levels.sum(3).transpose(0, 2, 1).reshape(len(coins), -1)
                           - after.goods_escrow.reshape(len(coins), -1)], -1)


def _counted(p: Params, before: State, after: State) -> Array:
    """Open orders by agent and level, less those in the book."""
    xp = namespace(after)
    levels = after.bid_levels.sum((2, 3)) + after.ask_levels.sum((2, 3))
    return xp.concatenate([levels - (after.bids < book.NONE).sum(-1) - (after.asks < book.NONE).sum(-1),
                           levels - after.open_orders.sum(-1)], -1)


def _no_negative_stock(p: Params, before: State, after: State) -> Array:
    """The part of goods that lies below zero."""
    return namespace(after).minimum(after.goods, 0) + namespace(after).minimum(after.goods_escrow, 0)


INVARIANTS = {"coins": _coins, "units": _units, "set_aside": _set_aside, "counted": _counted, "no_negative_stock": _no_negative_stock}
REMEMBERED = ("coin", "coin_escrow", "goods", "goods_escrow", "production")


def _this() -> ModuleType:
    return sys.modules[__name__]
