"""Value iteration on a grid of capital, for many calibrations at once.

A replica is one calibration of the growth model: what can be saved from every state and what every choice costs are given as arrays, so
that the equations of the model stay in kernels/growth.py. Values are in units of (1-beta). Axes: B replica, J level (a pair of productivity
and depreciation), K point of the grid, of today's capital and of tomorrow's. Published program: Aruoba and Fernandez-Villaverde (2015).
"""
from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from kernels import growth
from kernels.core.arrays import Array, allocate, namespace, param, per
from kernels.core.launch import kernel

VERSION = 1
AXES = {"J": "n_levels", "K": "n_points"}
NEVER = -1e300  # payoff of a choice that leaves nothing to consume


@dataclass(frozen=True)
class Params:
    n_levels: int = param(5, "pairs of productivity and depreciation", low=1)
    n_points: int = param(17_820, "points of the grid of capital", low=2)
    most_sweeps: int = param(100_000, "sweeps after which a call returns", low=1)
    tolerance: float = param(1e-7, "largest change of the value, or error left, at which it is solved", unit="(1-beta) utility", low=0)


@dataclass(eq=False)
class State:
    beta: Array = per(doc="discount factor")
    crra: Array = per(doc="relative risk aversion; 1 is log utility")
    weights: Array = per("J", "J", doc="probabilities of tomorrow's level, row by row for today's")
    lift: Array = per("J", "J", doc="value from tomorrow on of one unit per period at a level: (I - beta weights)^-1 - I")
    resources: Array = per("J", "K", unit="goods", doc="what can be consumed or saved")
    price: Array = per("J", "K", doc="factor of today's state in the cost of tomorrow's capital; 1 where accumulation is linear")
    goods: Array = per("J", "K", unit="goods", doc="factor of the point chosen in that cost; capital itself where accumulation is linear")
    choice: Array = per("J", "K", dtype="i32", doc="point chosen for tomorrow")
    value: Array = per("J", "K", unit="(1-beta) utility", doc="V")
    worth: Array = per("J", "K", unit="(1-beta) utility", doc="beta E V' of every choice")
    gain: Array = per("J", "K", unit="(1-beta) utility", doc="(1-beta) u(c) of the point chosen")
    below: Array = per("J", "K", unit="(1-beta) utility", doc="twin only: the same one point lower")
    above: Array = per("J", "K", unit="(1-beta) utility", doc="twin only: the same one point higher")
    delta: Array = per("J", "K", unit="(1-beta) utility", doc="change of V in the last sweep")
    low: Array = per("J", unit="(1-beta) utility", doc="least change of V at a level")
    high: Array = per("J", unit="(1-beta) utility", doc="largest change of V at a level")
    jump: Array = per("J", unit="(1-beta) utility", doc="largest difference of the changes of neighbours")
    change: Array = per(unit="(1-beta) utility", doc="sup |change of V| in the last sweep")
    moved: Array = per(dtype="i64", doc="choices that changed in the last sweep")
    still: Array = per(dtype="i32", doc="sweeps in a row in which no choice changed")
    sweeps: Array = per(dtype="i32", doc="sweeps so far")
    done: Array = per(dtype="i32", doc="1 once solved")
    drift: Array = per("J", unit="(1-beta) utility", doc="twin only: bound on how far the worth of neighbours has moved apart")
    due: Array = per("J", "K", unit="(1-beta) utility", doc="twin only: drift at which the choices of a tile could change")


@dataclass(eq=False)
class Actions:
    """None."""


@dataclass(eq=False)
class Shocks:
    """None."""


@dataclass(eq=False)
class Rewards:
    """None."""


def problem(models: Sequence[growth.Params], capital: Array, xp: ModuleType = np) -> tuple[Params, State]:
    """The arrays of calibrations of one shape on their grids of capital (B, K); rates of depreciation move by a chain or are alone.

    Values and choices start at zero: V = 0, the lowest point.
    """
    n = levels(models[0])[0].size
    p = Params(n_levels=n, n_points=capital.shape[1])
    s = blank(p, len(models), xp)
    for b, model in enumerate(models):
        z, d, weights = levels(model)
        s.beta[b], s.crra[b], k = model.beta, model.crra, capital[b]
        s.weights[b] = xp.asarray(weights)
        s.lift[b] = xp.asarray(np.linalg.inv(np.eye(n) - model.beta * weights) - np.eye(n))
        rate = xp.asarray(d)[:, None]
        s.resources[b] = growth.resources(model, k[None, :], xp.asarray(z)[:, None], rate)
        s.price[b], s.goods[b] = (k ** ((rate - 1) / rate), k ** (1 / rate)) if model.log_linear else (1, k)
    if bool((s.resources[..., 0] <= s.price[..., 0] * s.goods[..., 0]).any()):
        raise ValueError("the lowest capital of the grid cannot be reached from itself; raise params.box_low or widen the grid below")
    return p, s


def blank(p: Params, replicas: int = 1, xp: ModuleType = np) -> State:
    """Arrays for problems that are yet to be filled in."""
    s = allocate(State, sys.modules[__name__], p, replicas, xp, np.float64)
    s.due -= 1
    return s


def levels(model: growth.Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Number of the productivity level and rate of depreciation of every level, and their weights; productivity slowest."""
    n, m = len(model.productivity), len(model.depreciation)
    rates = np.reshape(model.depreciation_transition or (1.0,), (m, m))
    return np.repeat(np.arange(n), m), np.tile(model.depreciation, n), np.kron(np.reshape(model.transition, (n, n)), rates)


@kernel("growth_vfi.cu")
def sweep_as_published(p: Params, s: State) -> None:
    """Plain sweeps, until the value changes by no more than the tolerance. Safe only because every sweep chooses anew."""
    for _ in range(p.most_sweeps):
        running = s.done == 0
        if not running.any():
            return
        _sweep(p, s, running)
        s.done[running] = (s.change <= p.tolerance)[running]


@kernel("growth_vfi.cu")
def iterate_policy(p: Params, s: State) -> None:
    """Sweeps that solve the mean change of every level exactly, until no choice changed twice *and* what is left is within the tolerance.

    A constant added to V at a level moves no choice, so it need not be waited for (MacQueen, 1966; Porteus, 1971; by level as Bertsekas and
    Castanon, 1989). A small change of V alone proves nothing: V is so flat that five points cost less than 1e-7. Nor do choices that stay
    once, the best for the guess that V started from.
    """
    for _ in range(p.most_sweeps):
        running = s.done == 0
        if not running.any():
            return
        _sweep(p, s, running)
        s.value[running] += (s.lift @ ((s.low + s.high) / 2)[..., None])[running]
        left = (s.high - s.low).max(-1) / 2 * s.beta / (1 - s.beta)
        s.still[running] = ((s.still + 1) * (s.moved == 0))[running]
        s.done[running] = ((s.still > 1) & (left <= p.tolerance))[running]


def _sweep(p: Params, s: State, running: Array) -> None:
    """One sweep of the replicas that run; the others stay as they are."""
    written = ("choice", "value", "worth", "gain", "delta", "low", "high", "jump", "change", "moved", "sweeps")
    kept = {} if running.all() else {name: getattr(s, name).copy() for name in written}
    for phase in (expect, choose, enjoy):
        phase.definition(p, s)  # all replicas at once, on a GPU too, where twins give each replica one block
    for name, before in kept.items():
        getattr(s, name)[~running] = before[~running]


@kernel("growth_vfi.cu")
def expect(p: Params, s: State) -> None:
    """worth_j = beta sum_j' weights_jj' V_j', added up in the order of j'. Writes worth."""
    s.worth[...] = 0
    for after in range(p.n_levels):
        s.worth += s.weights[:, :, after, None] * s.value[:, after, None]
    s.worth *= s.beta[:, None, None]


@kernel("growth_vfi.cu")
def choose(p: Params, s: State) -> None:
    """The point from which the next one is no better, where payoffs rise, then fall: (1-beta) u(c) + worth. Writes choice, gain, moved.

    Each state looks at its last choice and the two beside it; where that is no longer best, the interval is halved.
    """
    xp = namespace(s)
    shape = s.choice.shape
    b, j, i = (xp.broadcast_to(xp.arange(n).reshape(-1, *[1] * (2 - axis)), shape) for axis, n in enumerate(shape))
    here = s.choice.astype(np.int64)
    wrong = _rises(p, s, (b, j, i), here) | ((here > 0) & ~_rises(p, s, (b, j, i), here - 1))
    at = b[wrong], j[wrong], i[wrong]
    low, high = xp.full(at[0].shape, -1), xp.full(at[0].shape, p.n_points - 1)
    while bool((high - low > 1).any()):
        middle = (low + high + 1) // 2
        up = _rises(p, s, at, middle)
        low, high = xp.where(up, middle, low), xp.where(up, high, xp.maximum(middle, low + 1))
    s.choice[wrong] = high
    s.gain[...] = _gain(s, (b, j, i), s.choice)
    s.moved[...] = (s.choice != here).sum((1, 2))


def _rises(p: Params, s: State, at: tuple[Array, Array, Array], point: Array) -> Array:
    """Whether the next point pays more than this one."""
    xp = namespace(s)
    after = xp.minimum(point + 1, p.n_points - 1)
    b, j, _ = at
    return _gain(s, at, after) + s.worth[b, j, after] > _gain(s, at, point) + s.worth[b, j, point]


def _gain(s: State, at: tuple[Array, Array, Array], point: Array) -> Array:
    """(1-beta) u(c), or NEVER where nothing is left to consume."""
    xp = namespace(s)
    b, j, _ = at
    c = s.resources[at] - s.price[at] * s.goods[b, j, point]
    some = xp.where(c > 0, c, 1)
    crra = s.crra[b]
    if bool((s.crra == 1).all()):
        utility = xp.log(some)
    else:
        utility = xp.where(crra == 1, xp.log(some), some ** (1 - crra) / xp.where(crra == 1, 1, 1 - crra))
    return xp.where(c > 0, (1 - s.beta[b]) * utility, NEVER)


@kernel("growth_vfi.cu")
def enjoy(p: Params, s: State) -> None:
    """V = (1-beta) u(c) + beta E V' at the points chosen. Writes value, delta, low, high, jump, change, sweeps."""
    xp = namespace(s)
    fresh = s.gain + xp.take_along_axis(s.worth, s.choice.astype(np.int64), 2)
    s.delta[...] = fresh - s.value
    s.value[...] = fresh
    s.low[...], s.high[...] = s.delta.min(2), s.delta.max(2)
    s.jump[...] = abs(s.delta[:, :, 1:] - s.delta[:, :, :-1]).max(2)
    s.change[...] = xp.maximum(abs(s.low), abs(s.high)).max(1)
    s.sweeps += 1
