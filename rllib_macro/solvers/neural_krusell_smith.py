"""One learned policy for all households of Krusell and Smith, and the law of motion that a world of them brings about.

A small network corrects a rule of thumb until Euler equations hold at sampled states: Levenberg and Marquardt's method on Fischer and
Burmeister's residual, which is zero where either the Euler equation holds or nothing is saved and more would be consumed. The shock is
summed over, not sampled. In turns with it, all households of a histogram follow the policy, and the law that they expect is moved towards
the one that their capital follows. Nothing of the exact solution is used. Sources: Krusell and Smith (1998); Maliar, Maliar and Winant
(2021); Azinovic, Gaegauf and Scheidegger (2022).
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels import incomplete_markets as model
from kernels.incomplete_markets import Params
from rllib_macro.denhaan import den_haan
from rllib_macro.households import RANGE, TOP, fitted_law, gini, level_path, simulate
from rllib_macro.solvers.krusell_smith import Search, fresh_paths, law_through, named, require_aggregate_risk, require_lengths, values_of
from rllib_macro.solvers.neural.lm import Marquardt
from rllib_macro.solvers.neural.nets import Net, Use, jacobian
from rllib_macro.solvers.policy import Policy, Share, Stopwatch

States = tuple[Tensor, Tensor, Tensor, Tensor]  # wealth, income, capital, level
REACH = 1.5  # wealth at which the network learns, in tops of the histogram
MET = 0.86, 1.16  # aggregate capital at which the network learns, in steady states
PULL, FIRST, MOST = 0.96, 4, 0.02  # slope of the first law, length of the first round, most that a round moves a law
TINY = 1e-20  # a guard for the root
RICH = 10.0  # resources, in wages, at which the correction is halved: the Euler equation alone does not keep the rich from saving for ever
SOFT = 0.5  # goods: how softly the rule of thumb turns to saving nothing


class Savings:
    """s = sigmoid(logit(s_thumb) + net), s_thumb m = softplus of m less permanent income (1-beta) m + beta w: feasible whatever the net
    says."""

    def __init__(self, p: Params, hidden: Sequence[int]):
        self.p, self.steady = p, model.steady_state(p)
        levels, incomes = len(p.productivity), len(p.labor)
        self.pairs = torch.eye(levels * incomes, dtype=torch.float64)
        self.net = Net((2 + levels * incomes, *hidden, 1))
        at = np.arange(levels)
        labor, _ = model.labor_supply(p, at, np.full(levels, self.steady))
        self.earned = float((model.wage(p, np.full(levels, self.steady), labor, at) * labor) @ model.chain(p).long_run)

    def __call__(self, weights: Tensor, wealth: Tensor, income: Tensor, capital: Tensor, level: Tensor,
                 uses: list[Use] | None = None) -> Tensor:
        there = model.resources(self.p, wealth, income, capital, level)
        wanted = self.p.beta * (there - self.earned)  # what permanent income leaves
        thumb = torch.nn.functional.softplus(wanted / SOFT) * SOFT / there
        seen = torch.stack([(there / self.earned).log() / 2, ((capital / self.steady).log() * 5).expand_as(there)], -1)
        pair = self.pairs[level * len(self.p.labor) + income].expand(*there.shape, -1)
        correction = self.net(weights, torch.cat([seen, pair], -1), uses) / (1 + there / (RICH * self.earned))
        return (thumb.clamp(1e-6, 1 - 1e-6).logit() + correction).sigmoid()

    def on_arrays(self, weights: Tensor) -> Share:
        """The policy as a function of NumPy arrays, all of one shape or broadcast."""
        def share(wealth: np.ndarray, income: np.ndarray, capital: np.ndarray, level: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                reals = [torch.as_tensor(np.array(x, float)) for x in np.broadcast_arrays(wealth, income, capital, level)]
                return self(weights, reals[0], reals[1].long(), reals[2], reals[3].long()).numpy()
        return share


def residual(p: Params, policy: Savings, law: Tensor, weights: Tensor, states: States, uses: list[Use] | None = None) -> Tensor:
    """phi(k'/c, c_euler/c - 1) with phi(a, b) = a + b - sqrt(a^2 + b^2): zero if and only if a, b >= 0 and a b = 0."""
    wealth, income, capital, level = states
    there = model.resources(p, wealth, income, capital, level)
    saved = policy(weights, wealth, income, capital, level, uses) * there
    consumed = there - saved

    def share(wealth: Tensor, income: Tensor, capital: Tensor, level: Tensor) -> Tensor:
        return policy(weights, wealth, income, capital, level, uses)

    asked = model.euler_consumption(p, share, law, saved, income, capital, level)
    a, b = saved / consumed, asked / consumed - 1
    return a + b - (a**2 + b**2 + TINY).sqrt()


class Points:
    """States at which the network learns, a Sobol sequence: wealth dense at 0, aggregate capital anywhere that is met, all pairs of income
    and level alike."""

    def __init__(self, p: Params, seed: int):
        self.p, self.steady = p, model.steady_state(p)
        self.kept: States | None = None  # drawn instead of new ones
        self.sobol = torch.quasirandom.SobolEngine(3, scramble=True, seed=seed)

    def draw(self, n: int) -> States:
        """(wealth, income, capital, level), (n,) each."""
        if self.kept is not None:
            return self.kept
        u, incomes, levels = self.sobol.draw(n, dtype=torch.float64), len(self.p.labor), len(self.p.productivity)
        pair = (u[:, 2] * levels * incomes).long().clamp_(max=levels * incomes - 1)
        capital = self.steady * (MET[0] + (MET[1] - MET[0]) * u[:, 1])
        return REACH * TOP * self.steady * u[:, 0] ** 2, pair % incomes, capital, pair // incomes


def solve(p: Params, *, seconds: float | None = None, seed: int = 0, hidden: Sequence[int] = (16, 16), states: int = 2000, rounds: int = 20,
          steps: int = 10, periods: int = 11000, burn: int = 1000) -> Policy:
    """The learned policy share(wealth, income, capital, level) and the law of motion that households who follow it expect.

    A round is some steps of Levenberg and Marquardt's method, each at new `states` until half of the rounds are over, and one simulation.
    Stops after `rounds` or `seconds`. Of the facts, den_haan_max_percent and den_haan_mean_percent are den Haan's test on the path of
    shocks to which the law was fitted; den_haan_fresh_max_percent and den_haan_fresh_mean_percent are its medians on paths that were not
    used, whose time is not counted. Raises ValueError for a model without aggregate risk.
    """
    require_aggregate_risk(p)
    require_lengths(rounds, periods, burn)
    clock, steady, path = Stopwatch(), model.steady_state(p), level_path(p, periods, seed)
    policy, points, damper = Savings(p, hidden), Points(p, seed), Marquardt()
    weights = policy.net.initial(torch.Generator().manual_seed(seed))
    search = Search(values_of(np.tile([(1 - PULL) * np.log(steady), PULL], (len(p.productivity), 1)), steady))
    history = list[dict[str, float]]()
    for k in range(1, rounds + 1):
        law = law_through(search.x, steady)
        if k == rounds // 2:  # from now on the same ones, so that the law has a fixed point to settle at
            points.kept = points.draw(states)
        weights, loss = improved(p, policy, law, weights, points, damper, states, steps * (FIRST if k == 1 else 1))
        happened = simulate(p, policy.on_arrays(weights), path)
        fitted, fit = fitted_law(path[burn:-1], happened.capital[burn:])
        error = values_of(fitted, steady) - search.x
        history.append({"round": k, "seconds": clock.seconds, "log10_residual": float(np.log10(loss)),
                        "law_error": float(np.abs(error).max())})
        if k == rounds or (seconds is not None and clock.seconds > seconds):
            break
        if RANGE[0] < happened.capital[burn:].mean() / steady < RANGE[1]:  # else the policy is too young to tell
            search.advance(error.clip(-MOST, MOST))
    share = policy.on_arrays(weights)
    with clock.pause():
        test, fresh = den_haan(law, happened, burn), fresh_paths(p, share, law, seed, periods, burn)
    facts: dict[str, Any] = {
        "iterations": k, "law": law.tolist(), "r2": named(p, fit), "den_haan_max_percent": test.largest, "den_haan_mean_percent": test.mean,
        **fresh, "mean_capital": float(happened.capital[burn:].mean()), "sd_log_capital": float(np.log(happened.capital[burn:]).std()),
        "gini": gini(happened.bins, happened.mass.sum(0)), "seed": seed, "weights": len(weights), "history": history,
    }
    return Policy(p, "neural-krusell-smith", share, seconds=clock.seconds, facts=facts)


def improved(p: Params, policy: Savings, law: np.ndarray, weights: Tensor, points: Points, damper: Marquardt, n: int,
             steps: int) -> tuple[Tensor, float]:
    """The weights after some steps, and the root of the mean squared residual at the last states before its step."""
    expected, loss = torch.as_tensor(law), 0.0
    for _ in range(steps):
        states, uses = points.draw(n), list[Use]()
        found = residual(p, policy, expected, weights, states, uses)
        loss = float(found.detach().square().mean().sqrt())
        slopes = jacobian(found, uses, len(weights))

        def evaluate(trial: Tensor, states: States = states) -> Tensor:
            with torch.no_grad():
                return residual(p, policy, expected, trial, states)

        weights, _ = damper.step(weights, found, slopes, evaluate)
    return weights, loss
