"""Many calibrations of one model at once: an axis of the arrays, on a CPU or a GPU."""
from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from kernels import growth, growth_vfi
from kernels.core.arrays import to_host
from kernels.growth import Params
from rllib_macro.solvers import egm, vfi

METHODS = ("egm", "vfi")
TOGETHER = {("egm", "cpu"): 64, ("egm", "cuda"): 1_024, ("vfi", "cpu"): 4, ("vfi", "cuda"): 256}  # calibrations in memory at once


@dataclass(frozen=True)
class Many:
    """Policies at the nodes or points of every calibration. `seconds` are CPU seconds on a CPU, seconds of the clock on a GPU."""

    models: Sequence[Params]
    method: str
    capital: np.ndarray  # (B, N)
    share: np.ndarray  # (B, J, N) share of resources saved
    seconds: float
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def economies_per_second(self) -> float:
        return len(self.models) / self.seconds


def around(p: Params, n: int, seed: int = 0, width: float = 0.02) -> list[Params]:
    """n calibrations whose alpha, 1 - beta and productivity levels lie within `width` of p's; the first is p."""
    draws = 1 + width * np.random.default_rng(seed).uniform(-1, 1, (n, 3))
    draws[:1] = 1
    levels, rest = np.array(p.productivity), 1 - p.beta
    return [replace(p, alpha=float(p.alpha * a), beta=float(1 - rest * b), productivity=tuple((levels * c).tolist())) for a, b, c in draws]


def solve_many(models: Sequence[Params], *, method: str = "egm", device: str = "cpu", nodes: int = 200, points: int = vfi.POINTS,
               start: str = "known", tolerance: float = 1e-11) -> Many:
    """All calibrations, `egm` at `nodes` capitals or `vfi` (fast mode) at `points`. Rates of depreciation stay or move by their chains.

    Raises ValueError for calibrations of different shapes, BackendError where `device` is cuda and there is none.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    for p in models:
        growth.validate(p)
        if len(p.depreciation) > 1 and not p.depreciation_transition:
            raise ValueError("many calibrations take one rate of depreciation each, or a chain; give one for each rate of the range")
    shapes = {(len(p.productivity), len(p.depreciation), p.log_linear) for p in models}
    if len(shapes) != 1:
        raise ValueError(f"calibrations solved together must have as many levels as each other, got {len(shapes)} shapes; solve each alone")
    xp, size = vfi.namespace_of(device), TOGETHER[method, device]
    clock = time.process_time if device == "cpu" else time.perf_counter
    one = _by_egm if method == "egm" else _by_vfi
    if method == "vfi" and device == "cpu":
        vfi.ready(growth_vfi.iterate_policy, growth_vfi.Params(growth_vfi.levels(models[0])[0].size, points))
    began = clock()
    parts = [one(models[i:i + size], nodes if method == "egm" else points, start, tolerance, xp) for i in range(0, len(models), size)]
    capital, share, rounds, converged = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Many(models, method, capital, share, clock() - began, {"device": device, "iterations": rounds, "converged": converged})


def _by_egm(models: Sequence[Params], nodes: int, start: str, tolerance: float, xp: ModuleType) -> tuple[np.ndarray, ...]:
    q = egm.problem(models, nodes, xp)
    egm.iterate(q, tolerance, 2_000)
    share = q.price * xp.exp(q.power * q.log_after) / q.resources
    done = np.full(len(models), q.error <= tolerance)
    return to_host(xp.exp(q.log_k[:, 0])), to_host(share), np.full(len(models), q.rounds), done


def _by_vfi(models: Sequence[Params], points: int, start: str, tolerance: float, xp: ModuleType) -> tuple[np.ndarray, ...]:
    grids = xp.asarray(np.stack([vfi.grid_of(p, points) for p in models]))
    q, s = growth_vfi.problem(models, grids, xp)
    if start == "known":
        vfi.begin(s, grids, models)
    q = replace(q, tolerance=tolerance)
    with vfi.backend():
        growth_vfi.iterate_policy(q, s)
    share = s.price * xp.take_along_axis(s.goods, s.choice.astype(np.int64), 2) / s.resources
    return to_host(grids), to_host(share), to_host(s.sweeps), to_host(s.done) == 1
