"""Many households save against income risk that nobody insures; what they save is the capital of their economy.

Every function of the model stands here once, for environments, solvers and diagnostics alike, on NumPy, CuPy or PyTorch arrays. A
household's state is (wealth, income, capital, level): what it owns, the number of its income state, the capital per household of all, the
number of the level of productivity. Everywhere: p Params, s State, a Actions, e Shocks, r Rewards; axes B replica, H household; Z levels, E
income states. Calibrations: one level (Aiyagari, 1994), two levels and two income states, unemployed and employed (Krusell and Smith, 1998,
in the version of den Haan, Judd and Juillard, 2010).
"""
from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core.arrays import Array, allocate, namespace, param, per
from kernels.core.rng import Draws

VERSION = 1
AXES = {"H": "n_households"}
LEVEL, OFFSET, ORDER, MEAN, WEALTH = range(5)  # streams of random numbers
SOURCE = "den Haan, Judd and Juillard (2010)"


def employment_chain(unemployment: Sequence[float] = (0.1, 0.04), spell: Sequence[float] = (2.5, 1.5),
                     duration: float = 8.0) -> tuple[float, ...]:
    """Probabilities of (level, employed) tomorrow, row by row for (bad, unemployed), (bad, employed), (good, unemployed), (good, employed).

    unemployment: its rate in bad and in good times, always reached at once; spell: mean quarters of unemployment while times do not change,
    after a change 0.75 times (to good) or 1.25 times (to bad) as likely to go on; duration: mean quarters of good and of bad times. Source:
    Krusell and Smith (1998), section II.
    """
    stay = 1 - 1 / duration
    on = {(z, z): 1 - 1 / spell[z] for z in (0, 1)}  # probability that unemployment goes on
    on |= {(0, 1): 0.75 * on[1, 1], (1, 0): 1.25 * on[0, 0]}
    rows = np.zeros((2, 2, 2, 2))  # level, employed, level', employed'
    for (z, z_), p_uu in on.items():
        lose = (unemployment[z_] - unemployment[z] * p_uu) / (1 - unemployment[z])
        rows[z, :, z_, 0] = p_uu, lose
        rows[z, :, z_] = (stay if z == z_ else 1 - stay) * np.stack([rows[z, :, z_, 0], 1 - rows[z, :, z_, 0]], -1)
    return tuple(rows.ravel().tolist())


@dataclass(frozen=True)
class Params:
    n_households: int = param(100, "households", symbol="N", low=1)
    alpha: float = param(0.36, "capital share of output", symbol="alpha", source=SOURCE, low=0)
    beta: float = param(0.99, "discount factor", symbol="beta", unit="per period", source=SOURCE, low=0)
    crra: float = param(1.0, "relative risk aversion; 1 is log utility", symbol="gamma", source=SOURCE, low=0)
    depreciation: float = param(0.025, "rate at which capital wears out", symbol="delta", unit="per period", source=SOURCE, low=0)
    productivity: tuple = param((0.99, 1.01), "levels of total factor productivity", symbol="A", source=SOURCE)
    labor: tuple = param((0.0, 1 / 0.9), "labour of a household in each income state", symbol="l", unit="efficiency units", source=SOURCE)
    benefit: tuple = param((0.15, 0.0), "paid in each income state out of a tax on labour", symbol="mu", unit="wages", source=SOURCE)
    transition: tuple = param(employment_chain(), "probabilities of tomorrow's (level, income state), row by row for today's", symbol="P",
                              source=SOURCE)
    most_saving: float = param(0.995, "largest share of resources that may be saved", unit="share", low=0)
    least_consumption: float = param(0.001, "consumption below which an episode's rewards fall no further", unit="steady states", low=0)
    start_low: float = param(0.8, "least capital at which an episode starts", unit="steady states", low=0)
    start_high: float = param(1.2, "largest capital at which an episode starts", unit="steady states", low=0)
    start_spread: float = param(0.6, "standard deviation of log wealth when an episode starts", low=0)
    periods: int = param(200, "length of an episode", unit="periods", low=1)


# -- calibrations

def krusell_smith() -> Params:
    """Good and bad times, employed and unemployed households: the calibration of the comparison project. A period is a quarter."""
    return Params()


def aiyagari(crra: float = 1.0, n_incomes: int = 7, persistence: float = 0.6, deviation: float = 0.2) -> Params:
    """No aggregate risk; log labour is AR(1) with this unconditional standard deviation, on n states. A period is a year."""
    states, rows = rouwenhorst(n_incomes, persistence, deviation)
    labor = np.exp(states)
    weights = stationary(rows)
    return Params(beta=0.96, crra=float(crra), depreciation=0.08, productivity=(1.0,), labor=tuple((labor / (weights @ labor)).tolist()),
                  benefit=(0.0,) * n_incomes, transition=tuple(rows.ravel().tolist()), periods=100)


MODELS: dict[str, Callable[..., Params]] = {f.__name__: f for f in (krusell_smith, aiyagari)}


def rouwenhorst(n: int, persistence: float, deviation: float) -> tuple[np.ndarray, np.ndarray]:
    """States (n,) and transition rows (n, n) of x' = persistence x + noise with unconditional standard deviation `deviation` (Rouwenhorst,
    1995).

    The rows are those of n - 1 independent switches, each of which stays as it is with probability (1 + persistence) / 2.
    """
    stay = (1 + persistence) / 2
    rows = np.ones((1, 1))
    for m in range(2, n + 1):
        wider = np.zeros((4, m, m))
        for corner, (i, j), weight in zip(wider, ((0, 0), (0, 1), (1, 0), (1, 1)), (stay, 1 - stay, 1 - stay, stay), strict=True):
            corner[i:i + m - 1, j:j + m - 1] = weight * rows
        rows = wider.sum(0)
        rows[1:-1] /= 2
    return np.linspace(-1, 1, n) * deviation * max(n - 1, 1) ** 0.5, rows


def stationary(rows: np.ndarray) -> np.ndarray:
    """The distribution (n,) that a chain keeps: x P = x, sum of x one."""
    n = len(rows)
    return np.linalg.lstsq(np.vstack([rows.T - np.eye(n), np.ones(n)]), np.append(np.zeros(n), 1.0), rcond=None)[0]


@functools.lru_cache(maxsize=256)
def validate(p: Params) -> None:
    """Raises ValueError, one sentence with the fix, where the model has no solution or nothing can be drawn from its chain."""
    if not 0 < p.beta < 1:
        raise ValueError(f"params.beta must lie strictly between 0 and 1, got {p.beta:g}; a discount factor such as 0.99 has a solution")
    if not 0 < p.alpha < 1:
        raise ValueError(f"params.alpha must lie strictly between 0 and 1, got {p.alpha:g}; the capital share of the data is about 0.36")
    if not 0 < p.depreciation <= 1:
        raise ValueError(f"params.depreciation must lie in (0, 1], got {p.depreciation:g}; give the share that wears out in a period")
    if p.crra <= 0:
        raise ValueError(f"params.crra must be positive, got {p.crra:g}; 1 is log utility")
    if not 0 < p.most_saving < 1:
        raise ValueError(f"params.most_saving must lie strictly between 0 and 1, got {p.most_saving:g}; something must be left to consume")
    if p.least_consumption <= 0:
        raise ValueError(f"params.least_consumption must be positive, got {p.least_consumption:g}; 0.001 is little enough")
    if not 0 < p.start_low <= p.start_high:
        raise ValueError(f"params.start_low={p.start_low:g} and start_high={p.start_high:g}; give 0 < start_low <= start_high")
    if not p.productivity or min(p.productivity) <= 0:
        raise ValueError(f"params.productivity must be positive, got {p.productivity}; give levels around 1")
    if not p.labor or len(p.labor) != len(p.benefit) or min(p.labor) < 0 or min(p.benefit) < 0 or max(p.labor) <= 0:
        raise ValueError("params.labor and benefit must have one number for each income state, none below 0 and some labour above; got "
                         f"{p.labor} and {p.benefit}")
    _validate_rows(p)


def _validate_rows(p: Params) -> None:
    levels, incomes = len(p.productivity), len(p.labor)
    n = levels * incomes
    if len(p.transition) != n * n:
        raise ValueError(f"params.transition must be {n} rows of {n} probabilities, one row for each productivity level and income state, "
                         f"got {len(p.transition)} numbers")
    if min(p.transition) < 0:
        raise ValueError(f"params.transition must not be negative, got {min(p.transition):g}; give probabilities")
    for i, total in enumerate(np.reshape(p.transition, (n, n)).sum(1)):
        if abs(total - 1) > 1e-9:
            raise ValueError(f"row {i + 1} of params.transition sums to {total:.6g}, so nothing can be drawn from it; make it sum to 1")
    of_level = np.reshape(p.transition, (levels, incomes, levels, incomes)).sum(-1)
    if np.ptp(of_level, axis=1).max() > 1e-9:
        raise ValueError("params.transition gives a level of productivity another probability in another income state; aggregate risk must "
                         "be the same for every household")


@dataclass(frozen=True, eq=False)
class Chain:
    """The joint chain taken apart: levels (Z, Z); incomes (Z, Z, E, E), rows of tomorrow's income state given both levels and today's;
    shares (Z, E), of households in each income state at a level; long_run (Z,), how often a level occurs."""

    levels: np.ndarray
    incomes: np.ndarray
    shares: np.ndarray
    long_run: np.ndarray


@functools.lru_cache(maxsize=256)
def chain(p: Params) -> Chain:
    """The parts of the joint chain; ValueError where `validate` finds a mistake."""
    validate(p)
    levels, incomes = len(p.productivity), len(p.labor)
    joint = np.reshape(p.transition, (levels, incomes, levels, incomes))
    of_level = joint.sum(-1)[:, 0]  # (Z, Z)
    given = joint.transpose(0, 2, 1, 3) / np.where(of_level > 0, of_level, 1)[:, :, None, None]
    given[of_level == 0] = np.eye(incomes)
    together = stationary(joint.reshape(levels * incomes, -1)).reshape(levels, incomes)
    long_run = together.sum(1)
    return Chain(of_level, given, together / long_run[:, None], long_run)


# -- the model: a household meets these prices, whatever the number of households

def output(p: Params, capital: Array, labor: Array, level: Array) -> Array:
    """Y = A_z K^alpha L^(1-alpha), per household."""
    return _among(p.productivity, level, capital) * capital**p.alpha * labor ** (1 - p.alpha)


def wage(p: Params, capital: Array, labor: Array, level: Array) -> Array:
    """w = (1-alpha) A_z (K/L)^alpha, per efficiency unit."""
    return (1 - p.alpha) * _among(p.productivity, level, capital) * (capital / labor) ** p.alpha


def gross_return(p: Params, capital: Array, labor: Array, level: Array) -> Array:
    """R = 1 - delta + alpha A_z (K/L)^(alpha-1)."""
    return 1 - p.depreciation + p.alpha * _among(p.productivity, level, capital) * (capital / labor) ** (p.alpha - 1)


def labor_supply(p: Params, level: Array, like: Array) -> Array:
    """L_z, efficiency units per household in a continuum, and the tax that pays its benefits, sum of benefits / L_z: (L, tax)."""
    shares = chain(p).shares
    supply = shares @ np.array(p.labor)
    return _among(supply.tolist(), level, like), _among((shares @ np.array(p.benefit) / supply).tolist(), level, like)


def earnings(p: Params, income: Array, wage: Array, tax: Array) -> Array:
    """w ((1-tax) l_i + mu_i)."""
    return wage * ((1 - tax) * _among(p.labor, income, wage) + _among(p.benefit, income, wage))


def resources(p: Params, wealth: Array, income: Array, capital: Array, level: Array) -> Array:
    """What can be consumed or saved in a continuum of households: R k + w ((1-tax) l_i + mu_i). All arguments of one shape, or
    broadcast."""
    labor, tax = labor_supply(p, level, capital)
    return gross_return(p, capital, labor, level) * wealth + earnings(p, income, wage(p, capital, labor, level), tax)


def reward(p: Params, c: Array) -> Array:
    """u(c) = log c, or (c^(1-gamma) - 1) / (1-gamma)."""
    return namespace(c).log(c) if p.crra == 1 else (c ** (1 - p.crra) - 1) / (1 - p.crra)


def marginal_utility(p: Params, c: Array) -> Array:
    """u'(c) = c^-gamma."""
    return 1 / c if p.crra == 1 else c**-p.crra


def consumption_of(p: Params, marginal: Array) -> Array:
    """The inverse of marginal utility: c = m^(-1/gamma)."""
    return 1 / marginal if p.crra == 1 else marginal ** (-1 / p.crra)


def successors(p: Params, income: Array, level: Array, like: Array) -> tuple[Array, Array, Array]:
    """What may follow: (income', level', probability), each of the states' shape and a last axis of Z E pairs, level slowest."""
    xp, levels, incomes = namespace(like), len(p.productivity), len(p.labor)
    probability = _table(p.transition, like).reshape(levels * incomes, -1)[level * incomes + income]
    pair = xp.arange(levels * incomes)
    return xp.broadcast_to(pair % incomes, probability.shape), xp.broadcast_to(pair // incomes, probability.shape), probability


def expectation(values: Array, probability: Array) -> Array:
    """E x' = sum over successors of probability x': over the last axis, in its order."""
    return (values * probability).sum(-1)


def next_capital(law: Any, capital: Array, level: Array) -> Array:
    """K' = exp(b0_z + b1_z log K), the law of motion that households expect; law (Z, 2)."""
    xp = namespace(capital)
    table = _table(law, capital)
    return xp.exp(table[level, 0] + table[level, 1] * xp.log(capital))


def euler_consumption(p: Params, share: Callable[..., Array], law: Any, saved: Array, income: Array, capital: Array, level: Array) -> Array:
    """Consumption that the Euler equation asks of who saves `saved` and follows `share` tomorrow:  u'(c) = beta E u'(c') R'.

    share(wealth, income, capital, level) is the share of resources saved, law what aggregate capital is expected to do. Where c would
    exceed all resources, the household may not borrow and consumes them: the policy is optimal if and only if it consumes the lesser of the
    two in every state.
    """
    income_, level_, probability = successors(p, income, level, saved)
    capital_ = next_capital(law, capital, level)[..., None] + 0 * probability
    wealth_ = saved[..., None] + 0 * probability
    consumed = (1 - share(wealth_, income_, capital_, level_)) * resources(p, wealth_, income_, capital_, level_)
    labor, _ = labor_supply(p, level_, saved)
    return consumption_of(p, p.beta * expectation(marginal_utility(p, consumed) * gross_return(p, capital_, labor, level_), probability))


def steady_state(p: Params) -> float:
    """Capital K* per household without any risk:  L (alpha A / (1/beta - 1 + delta))^(1/(1-alpha)), A and L at their averages."""
    long_run, shares = chain(p).long_run, chain(p).shares
    a, labor = long_run @ np.array(p.productivity), long_run @ shares @ np.array(p.labor)
    return float(labor * (p.alpha * a / (1 / p.beta - 1 + p.depreciation)) ** (1 / (1 - p.alpha)))


def steady_consumption(p: Params) -> float:
    """c* = Y* - delta K* per household."""
    capital = steady_state(p)
    return capital * ((1 / p.beta - 1 + p.depreciation) / p.alpha - p.depreciation)


def _table(values: Any, like: Array) -> Array:
    """The numbers as an array of the kind and precision of `like`."""
    xp = namespace(like)
    return xp.asarray(values, dtype=like.dtype)


def _among(values: Any, index: Array, like: Array) -> Array:
    return _table(values, like)[index]


# -- the economy

@dataclass(eq=False)
class State:
    wealth: Array = per("H", unit="goods", doc="what a household owns at the start of the period")
    income: Array = per("H", dtype="i32", doc="number of its income state")
    level: Array = per(dtype="i32", doc="number of the level of productivity")
    capital: Array = per(unit="goods", doc="wealth per household")
    labor: Array = per(unit="efficiency units", doc="labour per household")
    output: Array = per(unit="goods", doc="produced per household in the period, before anybody acts")
    wage: Array = per(unit="goods", doc="paid for an efficiency unit")
    gross_return: Array = per(doc="what a unit of wealth has become, R")
    tax: Array = per(unit="share", doc="on labour, pays the benefits")
    resources: Array = per("H", unit="goods", doc="wealth with its return, and earnings: what can be consumed or saved")
    productivity: Array = per(doc="log of the level of productivity")
    log_capital: Array = per(doc="log of capital less that of the steady state")
    cushion: Array = per("H", doc="log of resources in units of the capital per household")
    supplied: Array = per("H", unit="efficiency units", doc="labour of a household")
    consumption: Array = per("H", unit="goods", doc="flow: what a household consumed")


@dataclass(eq=False)
class Actions:
    saving: Array = per("H", unit="share", doc="share of resources saved")


@dataclass(eq=False)
class Shocks:
    level: Array = per(doc="uniform draw: where in its row the next level lies")
    order: Array = per("H", doc="uniform draws: the order in which households of one income state are dealt their luck")
    offset: Array = per(doc="uniform draw: where the dealing starts")


@dataclass(eq=False)
class Rewards:
    household: Array = per("H", unit="utils", doc="utility of consumption in units of the steady state's, u(c / c*)")


def initial_state(p: Params, replicas: int, xp: ModuleType = np, draws: Draws | None = None, real: Any = np.float32) -> State:
    """Income states in the shares of the level, wealth log-normal around a capital between start_low and start_high steady states; without
    draws, everybody owns that of the steady state."""
    parts = chain(p)
    s = allocate(State, sys.modules[__name__], p, replicas, xp, real)
    capital, spread = xp.full((replicas, 1), steady_state(p)), xp.zeros((replicas, p.n_households))
    if draws is not None:
        s.level[...] = _dealt(parts.long_run, draws.uniform(LEVEL, 1, np.float64))[:, 0]
        capital *= p.start_low + (p.start_high - p.start_low) * draws.uniform(MEAN, 1, np.float64)
        spread = p.start_spread * draws.normal(WEALTH, p.n_households, np.float64)
    wealth = xp.exp(spread)
    s.wealth[...] = capital * wealth / wealth.mean(-1, keepdims=True)
    place = xp.broadcast_to((xp.arange(p.n_households) + 0.5) / p.n_households, s.wealth.shape)
    s.income[...] = _dealt(parts.shares, place, s.level[:, None])
    produce(p, s)
    return s


def draw_shocks(p: Params, s: State, e: Shocks, draws: Draws) -> None:
    """Uniform numbers: one for the level, one for each household and one for all of them."""
    real = e.order.dtype.type
    e.level[...] = draws.uniform(LEVEL, 1, real)[:, 0]
    e.offset[...] = draws.uniform(OFFSET, 1, real)[:, 0]
    e.order[...] = draws.uniform(ORDER, p.n_households, real)


def step(p: Params, s: State, a: Actions, e: Shocks, r: Rewards) -> None:
    """Consume and save; meet tomorrow's times and luck; produce."""
    save(p, s, a)
    enjoy(p, s, r)
    meet_luck(p, s, e)
    produce(p, s)


def save(p: Params, s: State, a: Actions) -> None:
    """k' = share m, c = m - k'. Writes wealth, consumption."""
    s.wealth[...] = namespace(s).clip(a.saving, 0, p.most_saving) * s.resources
    s.consumption[...] = s.resources - s.wealth


def enjoy(p: Params, s: State, r: Rewards) -> None:
    """u(c / c*), c at least `least_consumption` c*: who saved nothing in an economy of such households is not paid minus infinity. Writes
    rewards."""
    r.household[...] = reward(p, namespace(s).maximum(s.consumption / steady_consumption(p), p.least_consumption))


def meet_luck(p: Params, s: State, e: Shocks) -> None:
    """Tomorrow's level and income states. Writes level, income.

    To a household its income is the Markov chain, draw by draw. All together are dealt evenly spaced places in the rows of the chain, those
    of one income state in random order, so that of every hundred unemployed as many find work as of a continuum, to within one household:
    where the shares of the continuum depend on the level alone, as unemployment does in Krusell and Smith, they are met exactly (if they
    are whole households).
    """
    xp, parts = namespace(s), chain(p)
    today = xp.array(s.level)
    s.level[...] = _dealt(parts.levels, e.level, today)
    order = xp.argsort(s.income + e.order.astype(np.float64), -1)
    replica = xp.arange(len(order))[:, None]
    sorted_income = s.income[replica, order].astype(np.int64)
    count = (s.income[:, :, None] == xp.arange(len(p.labor))).sum(1)  # (B, E)
    first = xp.cumsum(count, 1) - count
    rank = xp.arange(p.n_households) - first[replica, sorted_income]
    start = xp.where(sorted_income % 2 == 0, e.offset[:, None].astype(np.float64), 1 - e.offset[:, None].astype(np.float64))
    place = (rank + start) / count[replica, sorted_income]
    s.income[replica, order] = _dealt(parts.incomes, place, today[:, None], s.level[:, None], sorted_income)


def produce(p: Params, s: State) -> None:
    """Y = A K^alpha L^(1-alpha) with the labour of these households; wage, return and tax follow. Writes all that wealth and income
    imply."""
    xp = namespace(s)
    s.supplied[...] = _among(p.labor, s.income, s.wealth)
    s.capital[...], s.labor[...] = s.wealth.mean(1), s.supplied.mean(1)
    some = s.labor > 0  # a small population may be unemployed to the last
    labor = xp.where(some, s.labor, 1)
    s.output[...] = xp.where(some, output(p, s.capital, labor, s.level), 0)
    s.wage[...] = xp.where(some & (s.capital > 0), wage(p, xp.maximum(s.capital, TINY), labor, s.level), 0)
    s.gross_return[...] = xp.where(some & (s.capital > 0), gross_return(p, xp.maximum(s.capital, TINY), labor, s.level), 1 - p.depreciation)
    s.tax[...] = _among(p.benefit, s.income, s.wealth).mean(1) / labor
    s.resources[...] = s.gross_return[:, None] * s.wealth + earnings(p, s.income, s.wage[:, None], s.tax[:, None])
    s.productivity[...] = xp.log(_among(p.productivity, s.level, s.capital))
    capital = xp.maximum(s.capital, TINY)
    s.log_capital[...] = xp.log(capital / steady_state(p))
    s.cushion[...] = xp.log(xp.maximum(s.resources / capital[:, None], TINY))


TINY = 1e-9  # goods: a guard for logarithms


def _dealt(rows: np.ndarray, place: Array, *given: Array) -> Array:
    """The state in whose part of a row a place in [0, 1) lies: as many as have all their cumulated probability below it."""
    xp = namespace(place)
    below = xp.asarray(np.cumsum(rows, -1)[..., :-1])
    index = tuple(xp.asarray(i, dtype=np.int64) for i in given)
    return (place[..., None] >= (below[index] if index else below)).sum(-1)


# -- what must always hold

def _resources(p: Params, before: State, after: State) -> Array:
    """K' + C = Y + (1-delta) K."""
    there = before.output + (1 - p.depreciation) * before.capital
    return (after.capital + after.consumption.mean(1) - there) / there


def _shares(p: Params, before: State, after: State) -> Array:
    """Output is what labour and capital are paid: w L + (R - 1 + delta) K = Y."""
    paid = after.wage * after.labor + (after.gross_return - 1 + p.depreciation) * after.capital
    return (paid - after.output) / namespace(paid).maximum(after.output, TINY)


def _budgets(p: Params, before: State, after: State) -> Array:
    """Taxes are benefits: households have together what the economy has, Y + (1-delta) K."""
    there = after.output + (1 - p.depreciation) * after.capital
    return (after.resources.mean(1) - there) / namespace(there).maximum(there, TINY)


INVARIANTS = {"resources": _resources, "factor shares": _shares, "budgets": _budgets}
