"""Krusell and Smith's method: households expect log K' = b0_z + b1_z log K, and the b are those that their own saving brings about.

Each round solves the household's problem by endogenous grid points (Carroll, 2006), moves a histogram of households along one path of
shocks (Young, 2010) and fits the law to what aggregate capital did. Rounds are extrapolated (Anderson, 1965), which takes half as many of
them as damping does. Source: Krusell and Smith (1998), in the calibration of den Haan, Judd and Juillard (2010).
"""
from __future__ import annotations

from typing import Any

import numpy as np

from kernels import incomplete_markets as model
from kernels.incomplete_markets import Params
from rllib_macro.denhaan import den_haan
from rllib_macro.households import BLOCK, RANGE, Problem, Table, fitted_law, gini, level_path, simulate, wealth_grid
from rllib_macro.solvers.policy import Policy, Share, Stopwatch

DAMPING, MEMORY = 0.3, 3  # of a round, and rounds that an extrapolation remembers
PIVOTS = 0.94, 1.07  # aggregate capital, in steady states, at which laws are compared
FRESH = 3  # paths of shocks, other than the one of the fit, on which the law is tested


def solve(p: Params, *, seconds: float | None = None, seed: int = 0, points: int = 100, top: float = 1000.0, nodes: int = 5,
          bins: int = 1000, periods: int = 11000, burn: int = 1000, tolerance: float = 1e-6, rounds: int = 60) -> Policy:
    """The policy share(wealth, income, capital, level) and the law of motion that it brings about.

    points of wealth up to `top`, dense at 0; nodes of aggregate capital; bins of the histogram; tolerance of a round, of log K'. Stops with
    `converged` false after `rounds` or `seconds`. Of the facts, den_haan_max_percent and den_haan_mean_percent are den Haan's test on the
    path of shocks to which the law was fitted; den_haan_fresh_max_percent and den_haan_fresh_mean_percent are its medians on paths that
    were not used, whose time is not counted. Raises ValueError for a model without aggregate risk, or one in which income shares depend on
    more than the level.
    """
    require_aggregate_risk(p)
    require_lengths(rounds, periods, burn)
    clock, steady = Stopwatch(), model.steady_state(p)
    wealth, capitals, path = wealth_grid(points, top, 7), np.linspace(*RANGE, nodes) * steady, level_path(p, periods, seed)
    search, consumed = Search(np.tile(np.log(np.multiply(PIVOTS, steady)), len(p.productivity))), None
    errors, improvements = list[float](), 0
    for _ in range(rounds):
        law = law_through(search.x, steady)
        consumed, n = Problem.at(p, wealth, capitals, law).solve(consumed)
        improvements += n
        table = Table(p, wealth, capitals, consumed)
        happened = simulate(p, table.share, path, bins=bins)
        fitted, fit = fitted_law(path[burn:-1], happened.capital[burn:])
        error = values_of(fitted, steady) - search.x
        errors.append(float(np.abs(error).max()))
        if errors[-1] < tolerance or (seconds is not None and clock.seconds > seconds):
            break
        search.advance(error)
    with clock.pause():
        test, fresh = den_haan(law, happened, burn), fresh_paths(p, table.share, law, seed, periods, burn, bins)
    facts: dict[str, Any] = {
        "converged": errors[-1] < tolerance, "iterations": len(errors), "improvements": improvements, "law": law.tolist(),
        "r2": named(p, fit), "den_haan_max_percent": test.largest, "den_haan_mean_percent": test.mean, **fresh,
        "mean_capital": float(happened.capital[burn:].mean()),
        "sd_log_capital": float(np.log(happened.capital[burn:]).std()), "gini": gini(happened.bins, happened.mass.sum(0)), "seed": seed,
    }
    return Policy(p, "krusell-smith", table.share, seconds=clock.seconds, facts=facts)


def require_aggregate_risk(p: Params) -> None:
    """Raises ValueError where the method does not fit the model, with the fix."""
    parts = model.chain(p)
    if len(p.productivity) < 2:
        raise ValueError("krusell-smith needs aggregate risk, and params.productivity has one level; use the method aiyagari")
    after = np.einsum("ze,zyef->zyf", parts.shares, parts.incomes)
    if (off := np.abs(after - parts.shares).max()) > 1e-4:
        raise ValueError("krusell-smith needs income shares that depend on the level alone, and params.transition moves them by "
                         f"{off:.2g}; give rows that keep them, as employment_chain does")


def require_lengths(rounds: int, periods: int, burn: int) -> None:
    """Raises ValueError where nothing is left to fit a law to, with the fix."""
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}; the law comes of the first one")
    if not 0 <= burn <= periods - BLOCK:
        raise ValueError(f"burn={burn} leaves too few of periods={periods} to fit a law to; give a burn below periods, by {BLOCK} at least")


def fresh_paths(p: Params, share: Share, law: np.ndarray, seed: int, periods: int, burn: int, bins: int = 1000) -> dict[str, float]:
    """Den Haan's test of a law on paths of shocks to which it was not fitted, those of the next three seeds: its medians."""
    tests = [den_haan(law, simulate(p, share, level_path(p, periods, seed + k), bins=bins), burn) for k in range(1, FRESH + 1)]
    return {"den_haan_fresh_max_percent": float(np.median([test.largest for test in tests])),
            "den_haan_fresh_mean_percent": float(np.median([test.mean for test in tests]))}


def named(p: Params, values: np.ndarray) -> dict[str, float]:
    """One number for each level: bad and good where there are two."""
    names = ("bad", "good") if len(values) == 2 else [str(a) for a in p.productivity]
    return dict(zip(names, values.tolist(), strict=True))


# -- the search for the law: log K' at two pivots in each level


def values_of(law: np.ndarray, steady: float) -> np.ndarray:
    """log K' of a law (Z, 2) at the pivots: (2 Z,)."""
    return (law[:, :1] + law[:, 1:] * np.log(np.multiply(PIVOTS, steady))).ravel()


def law_through(values: np.ndarray, steady: float) -> np.ndarray:
    """The law (Z, 2) with these values at the pivots; the inverse of `values_of`."""
    at, y = np.log(np.multiply(PIVOTS, steady)), values.reshape(-1, 2)
    slope = (y[:, 1] - y[:, 0]) / (at[1] - at[0])
    return np.stack([y[:, 0] - slope * at[0], slope], 1)


class Search:
    """Anderson's (1965) extrapolation to where error(x) = 0, from the last few x and errors."""

    def __init__(self, start: np.ndarray):
        self.x, self.seen = start, list[tuple[np.ndarray, np.ndarray]]()

    def advance(self, error: np.ndarray) -> None:
        """Move x, knowing its error."""
        self.seen = [*self.seen[-MEMORY:], (self.x, error)]
        step = DAMPING * error
        if len(self.seen) > 1:
            moved, changed = (np.diff(np.stack(part), axis=0).T for part in zip(*self.seen, strict=True))
            step = step - (moved + DAMPING * changed) @ np.linalg.lstsq(changed, error, rcond=None)[0]
        self.x = self.x + step
