"""First-order conditions on nodes of tomorrow's capital, as in the endogenous grid of Carroll (2006), and the reference of every model.

What one more unit of tomorrow's capital is worth depends on tomorrow's states alone, so it is computed once at the nodes; from there every
state of today finds the capital at which marginal cost meets worth, by one Newton step on an interpolant, and the next round corrects what
that step left. Rounds are combined as Anderson (1965) does. Accumulation may be linear or log-linear, risk aversion anything, depreciation
constant, drawn once, or moving by a chain. Axes: B problem, J level (a pair of productivity and depreciation), N node, uniform in log k.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from kernels import growth
from kernels.core.arrays import Array, namespace
from kernels.growth import Params
from kernels.growth_vfi import levels
from rllib_macro import diagnostics
from rllib_macro.solvers.policy import Policy, Share, Stopwatch

MEMORY = 6  # rounds that are combined
NEAR = 0.1  # change of log k' below which they are
STARTS = ("prior", "neutral")
RATES = 9  # at which a problem is solved whose rate is drawn from a range
REFERENCE_NODES, REFERENCE_ERROR = 1_500, -8.5
EDGE = 1e-9  # a share stays so far from 0 and 1


@dataclass(frozen=True)
class Table:
    """A function of (k, z, d) from its values at uniform nodes of x = log k or k, productivity levels and rates of depreciation.

    Between nodes polynomials of degree order - 1, beyond them straight lines in log k; between rates the polynomial through all of them.
    """

    nodes: np.ndarray  # (N,)
    rates: np.ndarray  # (M,)
    values: np.ndarray  # (Z, M, N)
    logs: bool = True
    order: int = 4

    def __call__(self, k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
        place = ((np.log(k) if self.logs else k) - self.nodes[0]) / self.width
        inside = np.clip(place, 0, len(self.nodes) - 1)
        beyond = place - inside
        if not self.logs and beyond.any():
            edge = self.nodes[0] + inside * self.width
            beyond = np.where(beyond, np.log(k / edge) * edge / self.width, 0)
        away = abs(d[..., None] - self.rates)
        if (away.min(-1) < 1e-12).all():
            return self._row(z, away.argmin(-1), inside, beyond)
        return sum(part * self._row(z, m, inside, beyond) for m, part in enumerate(_lagrange(d, self.rates)))

    @property
    def width(self) -> float:
        """Between two nodes."""
        return (self.nodes[-1] - self.nodes[0]) / (len(self.nodes) - 1)

    def _row(self, z: Any, m: Any, inside: np.ndarray, beyond: np.ndarray) -> np.ndarray:
        start, parts, slopes = weights_at(inside, len(self.nodes), self.order)
        cells = [self.values[z, m, start + q] for q in range(self.order)]
        value = sum(part * cell for part, cell in zip(parts, cells, strict=True))
        return value + beyond * sum(slope * cell for slope, cell in zip(slopes, cells, strict=True)) if beyond.any() else value


def weights_at(place: Array, n: int, order: int) -> tuple[Array, list[Array], list[Array]]:
    """First of the `order` neighbours of a place among nodes 0 .. n-1, and the weights of their values and for the slope there."""
    xp = namespace(place)
    start = xp.clip(xp.floor(place).astype(np.int64) - (order // 2 - 1), 0, n - order)
    u = place - start
    if order == 2:
        return start, [1 - u, u], [0 * u - 1, 0 * u + 1]
    a, b, c = u - 1, u - 2, u - 3
    ab, bc, uc, ua = a * b, b * c, u * c, u * a
    parts = [a * bc * (-1 / 6), u * bc * 0.5, a * uc * -0.5, u * ab * (1 / 6)]
    slopes = [(ab + a * c + bc) * (-1 / 6), (u * b + uc + bc) * 0.5, (ua + uc + a * c) * -0.5, (ua + u * b + ab) * (1 / 6)]
    return start, parts, slopes


def _lagrange(x: np.ndarray, nodes: np.ndarray) -> list[np.ndarray]:
    """Weights of the polynomial through all nodes."""
    return [np.prod([(x - other) / (node - other) for other in nodes if other != node], axis=0) + 0 * x for node in nodes]


@dataclass
class Problem:
    """Calibrations of one shape, as arrays: everything a first-order condition needs at nodes of capital."""

    beta: Array  # (B, 1, 1)
    crra: Array  # (B, 1, 1)
    power: Array  # (B, J, 1) elasticity of the cost of tomorrow's capital: 1, or 1/d
    weights: Array  # (B, J, J)
    log_k: Array  # (B, 1, N)
    resources: Array  # (B, J, N)
    price: Array  # (B, J, N) saved = price k'^power
    base: Array  # (B, J, N) return of capital, and what it gains
    per_saved: Array  # (B, J, N) with every unit saved
    log_after: Array  # (B, J, N) log k', the unknown
    rounds: int = 0
    error: float = np.inf


def problem(models: Sequence[Params], nodes: int, xp: ModuleType = np, span: tuple[float, float] | None = None,
            start: Share | None = None) -> Problem:
    """Arrays for calibrations of one shape; every rate of depreciation moves by its chain or is the only one. `start` is a share to
    begin with, else the log-linear rule."""
    z, d, _ = levels(models[0])
    columns: dict[str, list] = {name: [] for name in ("power", "weights", "log_k", "resources", "price", "base", "per_saved", "log_after")}
    for model in models:
        z, d, weights = levels(model)
        low, high = span or span_of(model)
        x, rate, level = xp.linspace(np.log(low), np.log(high), nodes)[None, :], xp.asarray(d)[:, None], xp.asarray(z)[:, None]
        k = xp.exp(x)
        full = k + 0 * rate
        y = growth.resources(model, full, level, rate)
        base = growth.marginal_return(model, full, level, rate, 0 * full)
        found = {
            "power": 1 / rate if model.log_linear else 0 * rate + 1, "weights": xp.asarray(weights), "log_k": x, "resources": y,
            "price": full ** ((rate - 1) / rate) if model.log_linear else 0 * full + 1, "base": base,
            "per_saved": growth.marginal_return(model, full, level, rate, 0 * full + 1) - base,
            "log_after": _prior(model, full, z, d, xp) if start is None else xp.log(
                growth.next_capital(model, full, rate, start(full, level + 0 * full.astype(int), full * 0 + rate) * y)),
        }
        for name, column in columns.items():
            column.append(found[name])
    numbers = {name: xp.asarray([getattr(model, name) for model in models], dtype=float)[:, None, None] for name in ("beta", "crra")}
    return Problem(**numbers, **{name: xp.stack(column) for name, column in columns.items()})


def span_of(p: Params) -> tuple[float, float]:
    """Capital from below to above the box and every rest point."""
    low, high = growth.box(p)
    stay = [growth.steady_state(p, d) * a ** (1 / (1 - p.alpha)) for d in p.depreciation for a in p.productivity]
    return min(0.97 * low, 0.9 * min(stay)), max(1.03 * high, 1.1 * max(stay))


def _prior(p: Params, k: Array, z: np.ndarray, d: np.ndarray, xp: ModuleType) -> Array:
    """log k' to start from: the log-linear rule, or the log-utility share where accumulation is log-linear."""
    if p.log_linear:
        known = growth.closed_form(replace(p, crra=1.0))
        rate, share = xp.asarray(d)[:, None], xp.asarray(known.share(np.ones(len(z)), z, d) if known else p.alpha * p.beta + 0 * d)[:, None]
        return xp.log(growth.next_capital(p, k, rate, share * growth.output(p, k, xp.asarray(z)[:, None])))
    center, root, lift = (xp.asarray(part) for part in growth.log_linear_rule(p, d))
    return center[:, None] + root[:, None] * (xp.log(k) - center[:, None]) + lift[xp.arange(len(z)), xp.asarray(z)][:, None]


def iterate(q: Problem, tolerance: float, most: int, out_of_time: Callable[[], bool] = lambda: False) -> None:
    """Rounds until log k' changes by no more than the tolerance. Writes log_after, rounds, error."""
    xp = namespace(q.resources)
    shape = q.log_after.shape
    past: list[tuple[Array, Array]] = []
    before: tuple[Array, Array] | None = None
    ceiling = xp.log(0.9999 * q.resources / q.price) / q.power
    for _ in range(most):
        x = q.log_after.reshape(shape[0], -1)
        step = _round(q, xp).reshape(shape[0], -1) - x
        q.rounds, q.error = q.rounds + 1, float(abs(step).max())
        if before is not None and q.error < NEAR:
            past = [*past[1 - MEMORY:], (x - before[0], step - before[1])]
        before = x, step
        q.log_after = xp.minimum((x + _combined(step, past, xp)).reshape(shape), ceiling)
        if q.error <= tolerance or out_of_time():
            return


def _round(q: Problem, xp: ModuleType) -> Array:
    """log k' by one Newton step on: log u'(c) + log of the price of capital = log worth, whose right side is known at the nodes."""
    saved = q.price * xp.exp(q.power * q.log_after)
    c = q.resources - saved
    gain = xp.exp(-q.crra * xp.log(c)) * (q.base + q.per_saved * saved)
    worth = xp.log(q.beta * (q.weights @ gain))
    low, high = q.log_k[..., :1], q.log_k[..., -1:]
    density = (worth.shape[-1] - 1) / (high - low)
    there, slope = interpolated(worth, (q.log_after - low) * density)
    cost = xp.log(q.power * saved) - q.log_after  # log of what one more unit of k' costs
    residual = -q.crra * xp.log(c) + cost - there
    return q.log_after - residual / (q.crra * q.power * saved / c + q.power - 1 - slope * density)


def interpolated(rows: Array, place: Array) -> tuple[Array, Array]:
    """Cubics through the rows (B, J, N) at places (B, J, N) among their nodes 0 .. N-1, straight lines beyond: values and slopes."""
    xp, n = namespace(rows), rows.shape[-1]
    inside = xp.clip(place, 0, n - 1)
    start, parts, slopes = weights_at(inside, n, 4)
    cell = start + n * xp.arange(start.size // start.shape[-1]).reshape(*start.shape[:-1], 1)
    flat = rows.ravel()
    cells = [flat[cell + i] for i in range(4)]
    slope = sum(a * b for a, b in zip(slopes, cells, strict=True))
    return sum(a * b for a, b in zip(parts, cells, strict=True)) + (place - inside) * slope, slope


def utility(q: Problem, c: Array) -> Array:
    """u(c) of every problem, whose risk aversions may differ."""
    xp = namespace(c)
    log = q.crra == 1
    if bool(log.all()):
        return xp.log(c)
    return xp.where(log, xp.log(c), c ** (1 - q.crra) / xp.where(log, 1, 1 - q.crra))


def by_level(p: Params, rows: np.ndarray) -> np.ndarray:
    """(Z, M, N) from the rows (B, J, N): of problems with one rate each, or of one with all pairs."""
    return rows.transpose(1, 0, 2) if len(rows) > 1 else rows.reshape(len(p.productivity), -1, rows.shape[-1])


def _combined(step: Array, past: list[tuple[Array, Array]], xp: ModuleType) -> Array:
    """The step that the last rounds together suggest: changes of steps are made to cancel this one as well as they can."""
    if not past:
        return step
    moves, turns = (xp.stack(part, axis=1) for part in zip(*past, strict=True))  # (B, m, JN)
    size = xp.sqrt((turns**2).sum(-1, keepdims=True)) + 1e-300
    unit = turns / size
    gram = unit @ xp.swapaxes(unit, 1, 2) + 1e-13 * xp.eye(len(past))
    part = xp.linalg.solve(gram, unit @ step[..., None])
    return step - (((moves + turns) / size) * part).sum(1)


def solve(p: Params, *, seconds: float | None = None, seed: int = 0, nodes: int = 400, rates: Sequence[float] | None = None,
          tolerance: float = 1e-11, most: int = 2_000, start: str = "prior") -> Policy:
    """The policy at `nodes` capitals, cubic between them; where the rate is drawn from a range, at `rates` of it.

    start: `prior`, the log-linear rule, or `neutral`, the same share of resources everywhere. Raises ValueError for too few nodes. The seed
    is not used.
    """
    growth.validate(p)
    if nodes < 8:
        raise ValueError(f"egm needs at least 8 nodes, got {nodes}; 400 give Euler errors of about 1e-10")
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
    watch = Stopwatch()
    stays = len(p.depreciation) > 1 and not p.depreciation_transition
    chosen = np.asarray(rates if rates is not None else chebyshev(p.depreciation, RATES) if stays else p.depreciation, float)
    models = [replace(p, depreciation=(float(d),)) for d in chosen] if stays or rates is not None and not p.depreciation_transition else [p]
    span = span_of(p)
    q = problem(models, nodes, span=span, start=None if start == "prior" else _neutral(p))
    iterate(q, tolerance, most, lambda: seconds is not None and watch.seconds > seconds)
    log_c = np.log(q.resources - q.price * np.exp(q.power * q.log_after))
    table = Table(q.log_k[0, 0], chosen, by_level(p, log_c))
    return Policy(p, "egm", LogConsumption(p, table), _Value(p, q, chosen), watch.seconds,
                  {"nodes": nodes, "iterations": q.rounds, "last_change": q.error, "converged": q.error <= tolerance})


def _neutral(p: Params) -> Share:
    """The share of resources that is saved at rest."""
    d = (min(p.depreciation) + max(p.depreciation)) / 2
    k, c = growth.steady_state(p, d), growth.steady_consumption(p, d)
    kept = k if not p.log_linear else k**p.alpha - c
    return lambda k, z, d: kept / (kept + c) + 0 * k


def chebyshev(depreciation: Sequence[float], n: int) -> np.ndarray:
    """Extrema of a Chebyshev polynomial on the range of rates, ends included."""
    low, high = min(depreciation), max(depreciation)
    return (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * np.arange(n) / (n - 1))


@dataclass(frozen=True)
class LogConsumption:
    """1 - c / resources, from a table of log c."""

    p: Params
    log_consumption: Table

    def __call__(self, k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
        c = np.exp(self.log_consumption(k, z, d))
        return np.clip(1 - c / growth.resources(self.p, k, z, d), EDGE, 1 - EDGE)


@dataclass(frozen=True)
class _Value:
    """V in units of (1-beta): the integral of what one more unit of capital is worth today, levels from the Bellman equation."""

    p: Params
    q: Problem
    rates: np.ndarray

    @cached_property
    def table(self) -> Table:
        q = self.q
        saved = q.price * np.exp(q.power * q.log_after)
        c, n = q.resources - saved, q.log_k.shape[-1]
        width = (q.log_k[..., -1:] - q.log_k[..., :1]) / (n - 1)
        worth = (1 - q.beta) * c**-q.crra * (q.base + q.per_saved * saved) * np.exp(q.log_k)  # dV / d log k
        left, right = _padded(worth)
        area = width * (-left[..., :-1] + 13 * worth[..., :-1] + 13 * worth[..., 1:] - right[..., 1:]) / 24
        value = np.concatenate([0 * area[..., :1], area.cumsum(-1)], -1)
        place = (q.log_after - q.log_k[..., :1]) / width
        after, _ = interpolated(q.weights @ value, place)  # E V' at today's choice
        short = ((1 - q.beta) * utility(q, c) + q.beta * after - value)[..., n // 4: -n // 4].mean(-1)
        level = np.linalg.solve(np.eye(value.shape[1]) - q.beta * q.weights, short[..., None])
        return Table(q.log_k[0, 0], self.rates, by_level(self.p, value + level))

    def __call__(self, k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
        return self.table(k, z, d)


def _padded(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours to the left and to the right, at the ends by cubic extrapolation."""
    first = 4 * row[..., :1] - 6 * row[..., 1:2] + 4 * row[..., 2:3] - row[..., 3:4]
    last = 4 * row[..., -1:] - 6 * row[..., -2:-1] + 4 * row[..., -3:-2] - row[..., -4:-3]
    return np.concatenate([first, row[..., :-1]], -1), np.concatenate([row[..., 1:], last], -1)


@lru_cache(maxsize=32)
def reference(p: Params) -> Policy:
    """The policy to measure others by: the closed form if one is known, else this method with so many nodes, at every rate of
    `diagnostics.rates`, that the largest Euler error in the box is below 10^-8.5 (checked)."""
    known = growth.closed_form(p)
    if known is not None:
        return Policy(p, "closed form", known.share, known.value)
    rates = None if p.depreciation_transition else tuple(diagnostics.rates(p))
    found = solve(p, nodes=REFERENCE_NODES, rates=rates, tolerance=1e-12)
    worst = diagnostics.euler_errors(p, found.share).max
    if not worst <= REFERENCE_ERROR:
        raise ValueError(f"the reference policy reaches Euler errors of 10^{worst:.1f} only, not of 10^{REFERENCE_ERROR}; "
                         "choose parameters nearer to the calibrations, or compare Euler errors alone")
    return Policy(p, "reference", found.share, found.value, found.seconds, {**found.facts, "log10_max_euler_error_box": worst})
