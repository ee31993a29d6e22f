"""Stochastic growth: one household owns the capital of its economy and chooses how much of its resources to save.

Every function of the model stands here once, for environments, solvers and diagnostics alike, on NumPy, CuPy or PyTorch arrays. A state is
(k, z, d): capital, the number of a productivity level, the rate at which capital wears out. Everywhere: p Params, s State, a Actions,
e Shocks, r Rewards; axis B replica; S successors, all pairs (z', d') that may follow. Models: Brock and Mirman (1972); Hercowitz and
Sampson (1991); Aldrich, Fernandez-Villaverde, Gallant and Rubio-Ramirez (2011); Aruoba and Fernandez-Villaverde (2015).
"""
from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core.arrays import Array, allocate, namespace, param, per
from kernels.core.launch import kernel
from kernels.core.rng import Draws

VERSION = 1
AXES: dict[str, str] = {}
PRODUCTIVITY, DEPRECIATION, CAPITAL = range(3)  # streams of random numbers
CORRECTED = (
    0.9727, 0.0273, 0.0, 0.0, 0.0,
    0.0041, 0.9806, 0.0153, 0.0, 0.0,
    0.0, 0.00815, 0.9837, 0.00815, 0.0,
    0.0, 0.0, 0.0153, 0.9806, 0.0041,
    0.0, 0.0, 0.0, 0.0273, 0.9727,
)
PUBLISHED = (*CORRECTED[:11], 0.0082, 0.9837, 0.0082, *CORRECTED[14:])  # the middle row sums to 1.0001
AFV = "Aruoba and Fernandez-Villaverde (2015)"


@dataclass(frozen=True)
class Params:
    alpha: float = param(0.33333333333, "capital share of output", symbol="alpha", source=AFV + ", C++ program", low=0)
    beta: float = param(0.95, "discount factor", symbol="beta", unit="per period", source=AFV, low=0)
    crra: float = param(1.0, "relative risk aversion; 1 is log utility", symbol="gamma", source=AFV, low=0)
    productivity: tuple = param((0.9792, 0.9896, 1.0, 1.0106, 1.0212), "levels of total factor productivity", symbol="A", source=AFV)
    transition: tuple = param(CORRECTED, "probabilities of tomorrow's level, row by row for today's", symbol="P",
                              source=AFV + ", the middle row scaled to sum to 1")
    depreciation: tuple = param((1.0,), "rates at which capital wears out: their levels, or the ends of a range", symbol="d",
                                unit="per period", source=AFV)
    depreciation_transition: tuple = param((), "probabilities of tomorrow's rate, row by row; empty: a rate drawn from the range stays",
                                           symbol="Q")
    log_linear: int = param(0, "accumulation: 0 k' = (1-d) k + i, 1 k' = k^(1-d) i^d", source="Hercowitz and Sampson (1991)", low=0)
    box_low: float = param(0.5, "least capital of the box, in steady states", unit="k*", low=0)
    box_high: float = param(1.5, "largest capital of the box, in steady states", unit="k*", low=0)
    least_saving: float = param(0.01, "least share of resources that may be saved", unit="share", low=0)
    most_saving: float = param(0.99, "largest share of resources that may be saved", unit="share", low=0)
    periods: int = param(40, "length of an episode", unit="periods", low=1)
    warm_up: int = param(0, "periods of play by the log-linear rule before an episode; 0 starts anywhere in the box", unit="periods", low=0)


# -- calibrations

def jesusfv() -> Params:
    """The published program: its alpha and its transition weights, whose middle row sums to 1.0001 (no chain can be drawn from them)."""
    return Params(transition=PUBLISHED)


def jesusfv_corrected() -> Params:
    """The same with probabilities: the middle row is .00815, .9837, .00815."""
    return Params()


def jesusfv_extended() -> Params:
    """Depreciation is a pseudo-state: drawn from [.8, 1], then constant along the path."""
    return Params(depreciation=(0.8, 1.0))


def jesusfv_markov() -> Params:
    """Depreciation moves between .8, .9 and 1."""
    return Params(depreciation=(0.8, 0.9, 1.0), depreciation_transition=(0.9, 0.1, 0.0, 0.05, 0.9, 0.05, 0.0, 0.1, 0.9))


def hercowitz_sampson() -> Params:
    """Depreciation moves, and capital accumulates as k' = k^(1-d) i^d: log utility has a closed form."""
    return replace(jesusfv_markov(), log_linear=1)


def quarterly() -> Params:
    """A quarterly business-cycle calibration: beta .99, risk aversion 2, depreciation .025."""
    return Params(beta=0.99, crra=2.0, depreciation=(0.025,))


def aldrich() -> Params:
    """Aldrich et al. (2011): beta .984, risk aversion 2, log productivity AR(1) on four levels by Tauchen (1986), three deviations wide."""
    levels, rows = tauchen(4, persistence=0.95, deviation=0.005, width=3)
    return Params(alpha=0.35, beta=0.984, crra=2.0, depreciation=(0.01,), productivity=tuple(np.exp(levels)), transition=rows,
                  box_low=0.95, box_high=1.05)


MODELS: dict[str, Callable[[], Params]] = {f.__name__: f for f in (
    jesusfv, jesusfv_corrected, jesusfv_extended, jesusfv_markov, hercowitz_sampson, quarterly, aldrich)}


def tauchen(n: int, persistence: float, deviation: float, width: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Levels and transition rows of x' = persistence x + deviation epsilon on n equally spaced points (Tauchen, 1986)."""
    high = width * deviation / (1 - persistence**2) ** 0.5
    levels = np.linspace(-high, high, n)
    edges = [-np.inf, *((levels[1:] + levels[:-1]) / 2), np.inf]
    below = [[NormalDist(persistence * x, deviation).cdf(edge) for edge in edges] for x in levels]
    return tuple(levels.tolist()), tuple(np.diff(below, axis=1).ravel().tolist())


def validate(p: Params, sampled: bool = False) -> None:
    """Raises ValueError, one sentence with the fix, where no solution exists or, with `sampled`, where no chain can be drawn."""
    if not 0 < p.beta < 1:
        raise ValueError(f"params.beta must lie strictly between 0 and 1, got {p.beta:g}; a discount factor such as 0.95 has a solution")
    if not 0 < p.alpha < 1:
        raise ValueError(f"params.alpha must lie strictly between 0 and 1, got {p.alpha:g}; the capital share of the data is about 0.33")
    if p.crra <= 0:
        raise ValueError(f"params.crra must be positive, got {p.crra:g}; 1 is log utility")
    if not p.depreciation or min(p.depreciation) <= 0 or max(p.depreciation) > 1:
        raise ValueError(f"params.depreciation must lie in (0, 1], got {p.depreciation}; give shares of capital that wear out in a period")
    if not p.productivity or min(p.productivity) <= 0:
        raise ValueError(f"params.productivity must be positive, got {p.productivity}; give levels around 1")
    if p.log_linear not in (0, 1):
        raise ValueError(f"params.log_linear must be 0 or 1, got {p.log_linear}; 0 is k' = (1-d) k + i, 1 is k' = k^(1-d) i^d")
    if not p.depreciation_transition and len(p.depreciation) > 2:
        raise ValueError("params.depreciation has more than two levels but no depreciation_transition: give its rows, or two levels")
    if not 0 < p.box_low < p.box_high:
        raise ValueError(f"params.box_low={p.box_low:g} and params.box_high={p.box_high:g} leave no grid between them; "
                         "give 0 < box_low < box_high, in steady states")
    _require_rows("transition", p.transition, len(p.productivity), sampled)
    if p.depreciation_transition:
        _require_rows("depreciation_transition", p.depreciation_transition, len(p.depreciation), True)


def _require_rows(name: str, weights: Sequence[float], n: int, sampled: bool) -> None:
    if len(weights) != n * n:
        raise ValueError(f"params.{name} must be {n} rows of {n} probabilities, a row for every level of today, got {len(weights)} numbers")
    if min(weights) < 0:
        raise ValueError(f"params.{name} must not be negative, got {min(weights):g}; give probabilities")
    for i in range(n):
        total = sum(weights[i * n:(i + 1) * n])
        if abs(total - 1) > (1e-9 if sampled else 2e-4):
            known = " (model jesusfv_corrected does)" if tuple(weights) == PUBLISHED else ""
            raise ValueError(f"row {i + 1} of params.{name} sums to {total:.6g}, so nothing can be drawn from it; make it sum to 1{known}")


# -- the model

def output(p: Params, k: Array, z: Array) -> Array:
    """y = A_z k^alpha."""
    return _among(p.productivity, z, k) * k**p.alpha


def resources(p: Params, k: Array, z: Array, d: Array) -> Array:
    """What can be consumed or saved: y + (1-d) k, or y where accumulation is log-linear."""
    return output(p, k, z) if p.log_linear else output(p, k, z) + (1 - d) * k


def next_capital(p: Params, k: Array, d: Array, saved: Array) -> Array:
    """k' = saved, which holds what did not wear out, or k^(1-d) saved^d."""
    return k ** (1 - d) * saved**d if p.log_linear else saved


def reward(p: Params, c: Array) -> Array:
    """u(c) = log c, or c^(1-gamma) / (1-gamma)."""
    return namespace(c).log(c) if p.crra == 1 else c ** (1 - p.crra) / (1 - p.crra)


def marginal_utility(p: Params, c: Array) -> Array:
    """u'(c) = c^-gamma."""
    return 1 / c if p.crra == 1 else c**-p.crra


def consumption_of(p: Params, marginal: Array) -> Array:
    """The inverse of marginal utility: c = m^(-1/gamma)."""
    return 1 / marginal if p.crra == 1 else marginal ** (-1 / p.crra)


def capital_price(p: Params, k: Array, d: Array, saved: Array) -> Array:
    """Goods that one more unit of k' costs: 1, or saved / (d k')."""
    return saved / (d * next_capital(p, k, d, saved)) if p.log_linear else 1.0


def marginal_return(p: Params, k: Array, z: Array, d: Array, saved: Array) -> Array:
    """Goods that one more unit of k yields today with k' kept: alpha y/k + 1 - d, or alpha y/k + (1-d)/d saved/k."""
    worth = (1 - d) / d * saved / k if p.log_linear else 1 - d
    return p.alpha * output(p, k, z) / k + worth


def successors(p: Params, z: Array, d: Array) -> tuple[Array, Array, Array]:
    """What may follow: (z', d', probability), each of the states' shape and a last axis S, z' slowest.

    Probabilities are the weights of P: they sum to 1.0001 in the published middle row.
    """
    xp, n, m = namespace(d), len(p.productivity), len(p.depreciation)
    weights = _table(p.transition, d).reshape(n, n)[z]  # (..., Z)
    if not p.depreciation_transition:
        return xp.broadcast_to(xp.arange(n), weights.shape), xp.broadcast_to(d[..., None], weights.shape), weights
    rates = _table(p.depreciation_transition, d).reshape(m, m)[depreciation_index(p, d)]  # (..., M)
    both = (weights[..., :, None] * rates[..., None, :]).reshape(*weights.shape[:-1], n * m)
    levels, after = (xp.broadcast_to(v, (n, m)).reshape(n * m) for v in (xp.arange(n)[:, None], _table(p.depreciation, d)))
    return xp.broadcast_to(levels, both.shape), xp.broadcast_to(after, both.shape), both


def expectation(values: Array, probability: Array) -> Array:
    """E x' = sum over successors of probability x': over the last axis, in its order."""
    return (values * probability).sum(-1)


def euler_consumption(p: Params, share: Callable[..., Array], k: Array, z: Array, d: Array) -> Array:
    """Consumption that the Euler equation asks for, where tomorrow follows `share`:  u'(c) q = beta E u'(c') R'.

    share(k, z, d) is the share of resources saved. c equals it in every state if and only if the policy is optimal.
    """
    saved = share(k, z, d) * resources(p, k, z, d)
    after = next_capital(p, k, d, saved)
    z_, d_, probability = successors(p, z, d)
    k_ = after[..., None] + 0 * d_
    here = resources(p, k_, z_, d_)
    saving = share(k_, z_, d_) * here
    gain = marginal_utility(p, here - saving) * marginal_return(p, k_, z_, d_, saving)
    return consumption_of(p, p.beta * expectation(gain, probability) / capital_price(p, k, d, saved))


def depreciation_index(p: Params, d: Array) -> Array:
    """Number of a rate among its levels."""
    return abs(d[..., None] - _table(p.depreciation, d)).argmin(-1)


def _table(values: Sequence, like: Array) -> Array:
    """The numbers as an array of the kind and precision of `like`."""
    return namespace(like).asarray(values, dtype=like.dtype)


def _among(values: Sequence[float], index: Array, like: Array) -> Array:
    return _table(values, like)[index]


# -- what is known of the solution

def steady_state(p: Params, d: Any = None) -> Any:
    """Capital k* that stays where productivity is 1 and depreciation d (its middle if left out):  (alpha / (1/beta - 1 + d))^(1/(1-alpha)).

    Where accumulation is log-linear, s^(1/(1-alpha)) with s = alpha beta d / (1 - beta (1-d)).
    """
    d = (min(p.depreciation) + max(p.depreciation)) / 2 if d is None else d
    if p.log_linear:
        return (p.alpha * p.beta * d / (1 - p.beta * (1 - d))) ** (1 / (1 - p.alpha))
    return (p.alpha / (1 / p.beta - 1 + d)) ** (1 / (1 - p.alpha))


def steady_consumption(p: Params, d: Any) -> Any:
    """c* = k*^alpha - d k*, or k*^alpha - k* where accumulation is log-linear."""
    k = steady_state(p, d)
    return k**p.alpha - (k if p.log_linear else d * k)


def box(p: Params) -> tuple[float, float]:
    """Least and largest capital of the box: .5 and 1.5 of the least and largest k* by default."""
    stay = [steady_state(p, d) for d in p.depreciation]
    return p.box_low * min(stay), p.box_high * max(stay)


@dataclass(frozen=True)
class ClosedForm:
    """Log utility where capital accumulates as k' = k^(1-d) i^d (d = 1: k' = i), for any non-negative weights W of the pairs j = (z, d):

    V_j(k) = a_j + b_j log k in units of (1-beta), b = alpha (1-beta) + beta (W b) ((1-d) + alpha d), and the share of output invested is
    beta d (W b) / ((1-beta) + beta d (W b)). With probabilities and d = 1 it is alpha beta (Brock and Mirman, 1972).
    """

    p: Params
    shares: np.ndarray  # (Z, M)
    level: np.ndarray  # a, (Z, M)
    slope: np.ndarray  # b, (Z, M)

    def share(self, k: Array, z: Array, d: Array) -> Array:
        """Share of resources saved."""
        return _table(self.shares.tolist(), k)[z, depreciation_index(self.p, d)]

    def value(self, k: Array, z: Array, d: Array) -> Array:
        """V in units of (1-beta)."""
        at = z, depreciation_index(self.p, d)
        return _table(self.level.tolist(), k)[at] + _table(self.slope.tolist(), k)[at] * namespace(k).log(k)


def closed_form(p: Params) -> ClosedForm | None:
    """The exact solution where one is known, else None."""
    if p.crra != 1 or not (p.log_linear or min(p.depreciation) == 1) or (len(p.depreciation) > 1 and not p.depreciation_transition):
        return None
    n, m = len(p.productivity), len(p.depreciation)
    rates = np.reshape(p.depreciation_transition or (1.0,), (m, m))
    weights = np.kron(np.reshape(p.transition, (n, n)), rates)
    a, d = np.repeat(p.productivity, m), np.tile(p.depreciation, n)
    one, kept = np.eye(n * m), (1 - d) + p.alpha * d
    slope = np.linalg.solve(one - p.beta * kept[:, None] * weights, np.full(n * m, p.alpha * (1 - p.beta)))
    worth = p.beta * d * (weights @ slope)
    share = worth / (1 - p.beta + worth)
    level = np.linalg.solve(one - p.beta * weights, (1 - p.beta) * np.log((1 - share) * a) + worth * np.log(share * a))
    return ClosedForm(p, share.reshape(n, m), level.reshape(n, m), slope.reshape(n, m))


def log_linear_rule(p: Params, d: Array) -> tuple[Array, Array, Array]:
    """log k' = log k* + root (log k - log k*) + lift_z, the first-order solution around the k* of rate d: (log k*, root, lift (..., Z)).

    root solves x^2 - (1 + 1/beta + m (1-alpha) c*/(gamma k*)) x + 1/beta = 0 with m = 1 - beta (1-d); lift solves
    [(gamma k*/c*) ((1/beta - root + 1) I - P) + m (1-alpha) I] lift = m P log A + gamma (y*/c*) (I - P) log A. Exact for log utility and
    d = 1.
    """
    xp, n = namespace(d), len(p.productivity)
    k, c = steady_state(p, d), steady_consumption(p, d)
    m, gross, ratio = 1 - p.beta * (1 - d), 1 / p.beta, p.crra * k / c
    half = (1 + gross + m * (1 - p.alpha) / ratio) / 2
    root = half - (half**2 - gross) ** 0.5
    chain, a = _table(p.transition, d).reshape(n, n), xp.log(_table(p.productivity, d))
    one, column = _table(np.eye(n).tolist(), d), d[..., None, None] * 0 + 1
    left = ratio[..., None, None] * ((gross - root + 1)[..., None, None] * one - chain) + (m * (1 - p.alpha))[..., None, None] * one
    right = m[..., None, None] * (chain @ a)[:, None] + (p.crra * k**p.alpha / c)[..., None, None] * (a - chain @ a)[:, None] * column
    return xp.log(k), root, xp.linalg.solve(left, right)[..., 0]


def prior_share(p: Params, k: Array, z: Array, d: Array) -> Array:
    """A share of resources to start from: the log-linear rule's, kept within bounds; log utility's where accumulation is log-linear."""
    if p.log_linear:
        known = closed_form(replace(p, crra=1.0))
        return known.share(k, z, d) if known else p.alpha * p.beta * d / (1 - p.beta * (1 - d))
    xp = namespace(k)
    center, root, lift = log_linear_rule(p, d)
    raised = (lift * (z[..., None] == xp.arange(len(p.productivity)))).sum(-1)
    saved = xp.exp(center + root * (xp.log(k) - center) + raised)
    return xp.clip(saved / resources(p, k, z, d), p.least_saving, p.most_saving)


# -- the economy

@dataclass(eq=False)
class State:
    capital: Array = per(unit="goods", doc="capital at the start of the period")
    productivity: Array = per(dtype="i32", doc="number of the productivity level")
    depreciation: Array = per(unit="per period", doc="rate at which capital wears out")
    output: Array = per(unit="goods", doc="produced in the period")
    consumption: Array = per(unit="goods", doc="consumed in the period")
    saved: Array = per(unit="goods", doc="saved in the period")
    tfp: Array = per(unit="log", doc="log of the productivity level")
    steady_capital: Array = per(unit="goods", doc="k* of the rate and of productivity 1")
    steady_consumption: Array = per(unit="goods", doc="c* of the rate and of productivity 1")


@dataclass(eq=False)
class Actions:
    saving: Array = per(unit="share", doc="share of resources saved")


@dataclass(eq=False)
class Shocks:
    productivity: Array = per(doc="uniform draw: where in its row the next level lies")
    depreciation: Array = per(doc="uniform draw: where in its row the next rate lies")


@dataclass(eq=False)
class Rewards:
    household: Array = per(unit="log", doc="utility above that of the steady state, in consumption equivalents")


def initial_state(p: Params, replicas: int, xp: ModuleType = np, draws: Draws | None = None, real: Any = np.float64) -> State:
    """Capital anywhere in the box, every level alike; a rate that stays is drawn from its range. Without draws, the steady state."""
    s = allocate(State, sys.modules[__name__], p, replicas, xp, real)
    rates = xp.asarray(p.depreciation, dtype=real)
    if draws is None:
        s.productivity[...] = len(p.productivity) // 2
        s.depreciation[...] = rates[len(rates) // 2]
        _note_levels(p, s)
        s.capital[...] = s.steady_capital
        return s
    validate(p, sampled=True)
    u = [draws.uniform(stream, 1, real)[:, 0] for stream in (PRODUCTIVITY, DEPRECIATION, CAPITAL)]
    s.productivity[...] = xp.minimum(u[0] * len(p.productivity), len(p.productivity) - 1).astype(np.int32)
    if p.depreciation_transition:
        s.depreciation[...] = rates[xp.minimum(u[1] * len(rates), len(rates) - 1).astype(np.int64)]
    else:
        s.depreciation[...] = rates.min() + u[1] * (rates.max() - rates.min())
    low, high = box(p)
    s.capital[...] = low + u[2] * (high - low)
    _note_levels(p, s)
    return s


def _note_levels(p: Params, s: State) -> None:
    s.tfp[...] = namespace(s).log(_among(p.productivity, s.productivity, s.tfp))
    s.steady_capital[...], s.steady_consumption[...] = steady_state(p, s.depreciation), steady_consumption(p, s.depreciation)


def draw_shocks(p: Params, s: State, e: Shocks, draws: Draws) -> None:
    """One uniform number for each chain that moves."""
    real = e.productivity.dtype.type
    e.productivity[...] = draws.uniform(PRODUCTIVITY, 1, real)[:, 0]
    if p.depreciation_transition:
        e.depreciation[...] = draws.uniform(DEPRECIATION, 1, real)[:, 0]


@kernel("growth.cu")
def step(p: Params, s: State, a: Actions, e: Shocks, r: Rewards) -> None:
    """Produce, share out, enjoy, and meet tomorrow's levels."""
    consume(p, s, a, r)
    accumulate(p, s)
    move(p, s, e)


@kernel("growth.cu")
def consume(p: Params, s: State, a: Actions, r: Rewards) -> None:
    """c = (1 - share) resources; reward (u(c) - u(c*)) / c*^(1-gamma). Writes output, saved, consumption, rewards."""
    xp = namespace(s)
    s.output[...] = output(p, s.capital, s.productivity)
    there = s.output if p.log_linear else s.output + (1 - s.depreciation) * s.capital
    s.saved[...] = xp.clip(a.saving, p.least_saving, p.most_saving) * there
    s.consumption[...] = there - s.saved
    r.household[...] = reward(p, s.consumption / s.steady_consumption) - (0 if p.crra == 1 else 1 / (1 - p.crra))


@kernel("growth.cu")
def accumulate(p: Params, s: State) -> None:
    """k' = saved, or k^(1-d) saved^d. Writes capital."""
    s.capital[...] = next_capital(p, s.capital, s.depreciation, s.saved)


@kernel("growth.cu")
def move(p: Params, s: State, e: Shocks) -> None:
    """Tomorrow's levels: as many as have less cumulated probability than the draw. Writes productivity, depreciation, tfp and the
    steady state."""
    if p.depreciation_transition:
        rate = _drawn(p.depreciation_transition, len(p.depreciation), depreciation_index(p, s.depreciation), e.depreciation)
        s.depreciation[...] = _among(p.depreciation, rate, s.depreciation)
        s.steady_capital[...], s.steady_consumption[...] = steady_state(p, s.depreciation), steady_consumption(p, s.depreciation)
    s.productivity[...] = _drawn(p.transition, len(p.productivity), s.productivity, e.productivity)
    s.tfp[...] = _among([math.log(level) for level in p.productivity], s.productivity, s.tfp)


def _drawn(rows: Sequence[float], n: int, today: Array, u: Array) -> Array:
    below = _table(np.cumsum(np.reshape(rows, (n, n)), 1)[:, :-1].tolist(), u)
    return (u[:, None] > below[today]).sum(-1)


def _goods(p: Params, before: State, after: State) -> Array:
    """All goods of the period are consumed or saved."""
    there = resources(p, before.capital, before.productivity, before.depreciation)
    return (there - after.consumption - after.saved) / there


def _capital(p: Params, before: State, after: State) -> Array:
    """Tomorrow's capital is what accumulation makes of what was saved."""
    return 1 - next_capital(p, before.capital, before.depreciation, after.saved) / after.capital


INVARIANTS = {"goods": _goods, "capital": _capital}
