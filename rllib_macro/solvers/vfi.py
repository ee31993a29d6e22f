"""Value iteration: the published program to the last digit, a fast mode on a grid, and one that chooses between the points too.

`bitwise` repeats the program of Aruoba and Fernandez-Villaverde (2015) on its own grid, sweep by sweep, in a fraction of its time. `fast`
stops on the policy, solves the level of the value exactly after every sweep and may start from a known solution. `continuous` keeps the
value at few nodes, cubic between them. `published` runs a port of the program itself, to compare with.
"""
from __future__ import annotations

import math
import resource
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np

from kernels import growth, growth_vfi
from kernels.core.arrays import Array, namespace, to_host
from kernels.core.launch import BackendError, cuda_problem, find_compiler, native_problem, use
from kernels.growth import Params
from kernels.growth_vfi import State
from rllib_macro.solvers import egm
from rllib_macro.solvers.policy import Policy, Stopwatch

POINTS, STEP = 17_820, 1e-5  # the published grid
CHECK = "0.14654"  # what the published program prints to be checked, as far as alpha's digits leave it
NODES = 400  # of the continuous mode
GRID_MODES, STARTS = ("bitwise", "fast"), ("zero", "known")
MODES = (*GRID_MODES, "continuous", "published")
PORT = Path(growth_vfi.__file__).with_name("growth_port.cpp")
SWEEPS = 50  # between two looks at the clock


def published_grid(p: Params) -> np.ndarray:
    """k_i = .5 k* + 1e-5 i with k* = (alpha beta)^(1/(1-alpha)), in the arithmetic of the published program."""
    return 0.5 * (p.alpha * p.beta) ** (1 / (1 - p.alpha)) + STEP * np.arange(POINTS)


def grid_of(p: Params, points: int = POINTS) -> np.ndarray:
    """The published grid where it is meant, else equal steps from below to above the box and every rest point."""
    return published_grid(p) if is_published(p) and points == POINTS else np.linspace(*egm.span_of(p), points)


def is_published(p: Params) -> bool:
    """Whether the published program solves this model: all capital wears out, log utility."""
    return p.depreciation == (1.0,) and p.crra == 1


def solve(p: Params, *, seconds: float | None = None, seed: int = 0, mode: str | None = None, points: int | None = None,
          start: str = "zero", tolerance: float | None = None, rates: int = egm.RATES, device: str = "cpu") -> Policy:
    """The policy on a grid of capital, straight lines between its points; from `points` nodes, cubic between them, in the continuous mode.

    mode: `bitwise`, from V = 0 until the value changes by no more than 1e-7, the default where the published program fits; `continuous`,
    the default elsewhere; `fast`, the default where `points` are asked for; `published`. start: `zero` or, fast mode only, `known`: the
    closed form or the endogenous grid. A rate drawn from a range is solved at `rates` of it. device: cpu or, on a grid, cuda. The seed is
    not used.

    facts: iterations, sup_diff, on a grid also check, the k' chosen at the 1,000th capital and the third productivity.
    """
    growth.validate(p)
    mode = mode or ("fast" if points is not None else "bitwise" if is_published(p) else "continuous")
    _check(p, mode, start, points)
    if device != "cpu" and mode not in GRID_MODES:
        raise ValueError(f"mode={mode} runs on a CPU only; choose device=cpu, or mode=fast with device=cuda")
    if mode == "continuous":
        return _continuous(p, points or NODES, seconds, tolerance or 1e-11, rates)
    if mode == "published":
        return _published(p)
    return _on_grid(p, mode, points or POINTS, seconds, start, tolerance or (1e-7 if mode == "bitwise" else 1e-11), rates, device)


def _check(p: Params, mode: str, start: str, points: int | None) -> None:
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
    if start not in STARTS or start != "zero" and mode != "fast":
        raise ValueError(f"start must be zero or, with mode=fast, known, got {start!r} with mode={mode}")
    if mode == "bitwise" and not is_published(p):
        raise ValueError("the published program knows log utility and full depreciation only; use mode=fast or continuous for this model")
    if mode == "published" and replace(p, alpha=growth.jesusfv().alpha) != growth.jesusfv():
        raise ValueError("the published program's numbers are those of jesusfv; choose that model, or mode=bitwise")
    if mode in ("bitwise", "published") and points not in (None, POINTS):
        raise ValueError(f"the published program has {POINTS} points, got points={points}; leave points out, or use mode=fast")
    if points is not None and points < 10:
        raise ValueError(f"vfi needs at least 10 points of capital, got {points}; the published grid has 17820")


def _models(p: Params, rates: int) -> tuple[list[Params], np.ndarray]:
    """One model for each rate that stays, or the model itself; and the rates."""
    if len(p.depreciation) == 1 or p.depreciation_transition:
        return [p], np.array(p.depreciation)
    chosen = egm.chebyshev(p.depreciation, rates)
    return [replace(p, depreciation=(float(d),)) for d in chosen], chosen


# -- choices among the points of a grid

def _on_grid(p: Params, mode: str, points: int, seconds: float | None, start: str, tolerance: float, rates: int, device: str) -> Policy:
    watch, xp = Stopwatch(), namespace_of(device)
    models, chosen = _models(p, rates)
    grid = grid_of(p, points)
    grids = xp.asarray(np.broadcast_to(grid, (len(models), points)))
    q, s = growth_vfi.problem(models, grids, xp)
    if mode == "bitwise":
        power = np.array([math.pow(k, p.alpha) for k in grid])  # the C library's, as its logarithm
        s.resources[0] = xp.asarray(np.array(p.productivity)[:, None] * power)
    elif start == "known":
        begin(s, grids, models)
    sweep = growth_vfi.sweep_as_published if mode == "bitwise" else growth_vfi.iterate_policy
    with watch.pause():
        ready(sweep, q)
    sweep_on = sweep if device == "cpu" else sweep.definition  # a twin would give a single problem one block of the GPU
    with backend():
        while not s.done.all() and (seconds is None or watch.seconds < seconds):
            sweep_on(replace(q, most_sweeps=SWEEPS, tolerance=tolerance), s)
    share, value = _tables(p, s, grid, chosen)
    middle = min(2, len(p.productivity) - 1) * len(models[0].depreciation)
    facts = {"mode": mode, "iterations": int(s.sweeps.max()), "sup_diff": float(s.change.max()), "converged": bool(s.done.all()),
             "check": float(grid[int(s.choice[0, middle, min(999, points - 1)])]), "points": points,
             "backend": "cuda" if device == "cuda" else "numpy" if native_problem() else "native"}
    return Policy(p, "vfi", share, value, watch.seconds, facts)


def namespace_of(device: str) -> ModuleType:
    """NumPy or CuPy; BackendError where there is no GPU."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if device == "cpu":
        return np
    if problem := cuda_problem():
        raise BackendError(problem)
    import cupy
    return cupy


def backend() -> AbstractContextManager:
    """The compiled twin where there is a compiler."""
    return use("numpy" if native_problem() else "native")


def ready(sweep: Callable[..., None], q: growth_vfi.Params) -> None:
    """Let the twin be compiled, by a call that has nothing to do."""
    if not native_problem():
        s = growth_vfi.blank(q)
        s.done += 1
        with backend():
            sweep(q, s)


def begin(s: State, grids: Array, models: Sequence[Params]) -> None:
    """Start from the closed form, or from the endogenous grid: the nearest points of the grids (B, K), and the value."""
    xp = namespace(s)
    for b, model in enumerate(models):
        z, d, _ = growth_vfi.levels(model)
        known, grid = growth.closed_form(model), grids[b]
        if known is not None:
            at = z, growth.depreciation_index(model, d)
            share, level, slope = (xp.asarray(table[at])[:, None] for table in (known.shares, known.level, known.slope))
            s.value[b] = level + slope * xp.log(grid)
        else:
            policy, shape = egm.solve(model, nodes=200, tolerance=1e-9), (len(z), grid.size)
            states = [np.broadcast_to(v, shape) for v in (to_host(grid), z[:, None], d[:, None])]
            assert policy.value is not None
            share, s.value[b] = xp.asarray(policy.share(*states)), xp.asarray(policy.value(*states))
        after = growth.next_capital(model, grid[None, :], xp.asarray(d)[:, None], share * s.resources[b])
        step = (grid[-1] - grid[0]) / (grid.size - 1)
        s.choice[b] = xp.clip((after - grid[0]) / step + 0.5, 0, grid.size - 1)


def _tables(p: Params, s: State, grid: np.ndarray, rates: np.ndarray) -> tuple[egm.LogConsumption, egm.Table]:
    """Share saved and value off the grid: log consumption and value are straight between points."""
    xp = namespace(s)
    saved = s.price * xp.take_along_axis(s.goods, s.choice.astype(np.int64), 2)
    rows = (egm.by_level(p, to_host(v)) for v in (xp.log(s.resources - saved), s.value))
    log_c, value = (egm.Table(grid, rates, v, logs=False, order=2) for v in rows)
    return egm.LogConsumption(p, log_c), value


# -- any choice, a value that is cubic between nodes

def _continuous(p: Params, nodes: int, seconds: float | None, tolerance: float, rates: int) -> Policy:
    """Sweeps in which each state improves its choice by one Newton step on what it pays, then enjoys it. At first V is linear in log
    capital, as steep as at rest."""
    watch = Stopwatch()
    models, chosen = _models(p, rates)
    q = egm.problem(models, nodes, span=egm.span_of(p))
    q.log_after = q.log_k + 0 * q.resources
    low, width, one = q.log_k[..., :1], (q.log_k[..., -1:] - q.log_k[..., :1]) / (nodes - 1), np.eye(q.weights.shape[1])
    lift = np.linalg.inv(one - q.beta * q.weights) - one
    stay, enjoyed = (of(p, (min(p.depreciation) + max(p.depreciation)) / 2) for of in (growth.steady_state, growth.steady_consumption))
    value = (1 - p.beta) * growth.marginal_utility(p, enjoyed) * stay / p.beta * q.log_k + 0 * q.resources
    sweeps, moved, left = 0, np.inf, np.inf
    while max(moved, left) > tolerance and sweeps < 20_000 and (seconds is None or watch.seconds < seconds):
        worth = q.beta * (q.weights @ value)
        _, slope = egm.interpolated(worth, (q.log_after - low) / width)
        saved = q.price * np.exp(q.power * q.log_after)
        c = q.resources - saved
        residual = np.log((1 - q.beta) * q.power * saved) - q.crra * np.log(c) - np.log(slope / width)
        step = np.clip(residual / (q.power + q.crra * q.power * saved / c), -1, 1)
        q.log_after = np.minimum(q.log_after - step, np.log(0.9999 * q.resources / q.price) / q.power)
        ahead, _ = egm.interpolated(worth, (q.log_after - low) / width)
        delta = (1 - q.beta) * egm.utility(q, q.resources - q.price * np.exp(q.power * q.log_after)) + ahead - value
        least, most = delta.min(-1, keepdims=True), delta.max(-1, keepdims=True)
        value = value + delta + lift @ ((least + most) / 2)
        sweeps, moved, left = sweeps + 1, float(abs(step).max()), float(((most - least) / 2 * q.beta / (1 - q.beta)).max())
    log_c = np.log(q.resources - q.price * np.exp(q.power * q.log_after))
    table, value_of = (egm.Table(q.log_k[0, 0], chosen, egm.by_level(p, rows)) for rows in (log_c, value))
    facts = {"mode": "continuous", "iterations": sweeps, "sup_diff": float(abs(delta).max()), "converged": max(moved, left) <= tolerance,
             "points": nodes, "backend": "numpy"}
    return Policy(p, "vfi", egm.LogConsumption(p, table), value_of, watch.seconds, facts)


# -- against the published program

def against(binary: str | None = None, repeats: int = 5) -> dict[str, Any]:
    """Median CPU seconds of a compiled program and of the bitwise mode, run in turn, and the median of their ratios.

    binary: the published program, compiled by the user; without one the opponent is the port in kernels/growth_port.cpp, compiled with -O3.
    """
    theirs, ours = _in_turn(binary, [lambda: solve(growth.jesusfv(), mode="bitwise").seconds], repeats)
    return {"opponent": "program" if binary else "port", "opponent_cpu_seconds": median(theirs), "cpu_seconds": median(ours),
            "ratio": _ratio(ours, theirs), "repeats": repeats}


def times(binary: str | None = None, repeats: int = 5) -> dict[str, float]:
    """Ratios of CPU seconds to those of the program: `bitwise`, `fast` (from V = 0) and `seeded` (from the closed form); `seconds` of the
    program; and the `policies that differ` between the fast modes and the bitwise one."""
    p, found = growth.jesusfv(), {}
    settings = {"bitwise": {}, "fast": {"mode": "fast"}, "seeded": {"mode": "fast", "start": "known"}}

    def measure(name: str) -> Callable[[], float]:
        def once() -> float:
            found[name] = solve(p, **settings[name])  # type: ignore[arg-type]
            return found[name].seconds
        return once

    theirs, *ours = _in_turn(binary, [measure(name) for name in settings], repeats)
    differ = max(compared(found[name], found["bitwise"])["policies that differ"] for name in ("fast", "seeded"))
    ratios = {name: _ratio(mine, theirs) for name, mine in zip(settings, ours, strict=True)}
    return {**ratios, "seconds": median(theirs), "policies that differ": differ}


def compared(policy: Policy, other: Policy) -> dict[str, float]:
    """States of the published grid in which two policies choose different points, and the largest difference of their values there."""
    p, grid = policy.p, published_grid(policy.p)
    k, z = (axis.ravel() for axis in np.meshgrid(grid, np.arange(len(p.productivity)), indexing="ij"))
    d = np.ones_like(k)
    assert policy.value is not None and other.value is not None
    apart = abs(policy.share(k, z, d) - other.share(k, z, d)) * growth.resources(p, k, z, d)
    return {"policies that differ": int((apart > STEP / 2).sum()), "values": float(abs(policy.value(k, z, d) - other.value(k, z, d)).max())}


def _published(p: Params) -> Policy:
    """What the port of the program finds."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "kept"
        spent, told = _run(str(compile_port(Path(folder))), repr(p.alpha), str(kept))
        value, chosen = np.fromfile(kept).reshape(2, POINTS, len(p.productivity)).transpose(0, 2, 1)
    grid = published_grid(p)
    y = growth.resources(p, grid[None, :], np.arange(len(p.productivity))[:, None], np.ones((1, 1)))
    log_c, value_of = (egm.Table(grid, np.ones(1), v[:, None], logs=False, order=2) for v in (np.log(y - chosen), value))
    sweeps, change, check = told.split()
    facts = {"mode": "published", "iterations": int(sweeps), "sup_diff": float(change), "converged": True, "check": float(check),
             "points": POINTS, "backend": "port"}
    return Policy(p, "vfi", egm.LogConsumption(p, log_c), value_of, spent, facts)


def compile_port(folder: Path) -> Path:
    """The port of the published program, compiled as its authors compile theirs."""
    compiler = find_compiler()
    if compiler is None:
        raise BackendError("a comparison needs a C++ compiler: install g++ or set CXX, or give the path of a compiled program")
    program = folder / "growth_port"
    subprocess.run([compiler, "-O3", str(PORT), "-o", str(program)], check=True)
    return program


def _in_turn(binary: str | None, measures: Sequence[Callable[[], float]], repeats: int) -> list[list[float]]:
    """CPU seconds of the program and of every measure, one after the other, so that a busy machine slows all alike."""
    with tempfile.TemporaryDirectory() as folder:
        program = binary or str(compile_port(Path(folder)))
        for measure in measures:
            measure()
        if CHECK not in (printed := _run(program)[1]):
            raise ValueError(f"{program} does not print the check {CHECK}..., but {printed.strip()[-80:]!r}; "
                             "give a program that solves jesusfv")
        rounds = [[_run(program)[0], *(measure() for measure in measures)] for _ in range(repeats)]
    return [list(column) for column in zip(*rounds, strict=True)]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return median(mine / other for mine, other in zip(ours, theirs, strict=True))


def _run(program: str, *arguments: str) -> tuple[float, str]:
    """CPU seconds of a child process, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        printed = subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ValueError(f"{program} could not be run ({error}); give the path of the compiled program") from None
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed
