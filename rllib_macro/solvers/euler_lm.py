"""A small network that makes Euler errors vanish: Levenberg and Marquardt's method on float64 residuals with exact derivatives.

The share saved is the log-linear rule's, corrected by the network, so that every state it proposes is feasible and the expectation over the
successors is exact. Euler residuals as a loss: Judd (1992), Maliar, Maliar and Winant (2021), Azinovic, Gaegauf and Scheidegger (2022).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.neural.euler import euler_residual
from rllib_macro.solvers.neural.lm import Marquardt
from rllib_macro.solvers.neural.nets import SPREAD, Savings, Start, Use
from rllib_macro.solvers.neural.points import Points, sobol_points
from rllib_macro.solvers.neural.progress import EXACT, Progress
from rllib_macro.solvers.policy import Policy

Residuals = Callable[[Points, Tensor, list[Use] | None], Sequence[Tensor]]  # at states, of weights

def solve(p: Params, *, seconds: float = 60, seed: int = 0, start: Start = "prior", steps: int | None = None,
          hidden: Sequence[int] = (24, 24), states: int = 1200, every: int = 5) -> Policy:
    """The policy after so many CPU seconds, or steps where given, at `states` drawn anew `every` few steps.

    `start="neutral"` saves half at first and knows nothing of the log-linear rule.
    """
    growth.validate(p)
    savings = Savings(p, hidden, start)
    weights = savings.net.initial(torch.Generator().manual_seed(seed), SPREAD)

    def residuals(at: Points, trial: Tensor, uses: list[Use] | None) -> list[Tensor]:
        return [euler_residual(savings, trial, at, uses)]

    weights, progress = descended(savings, weights, residuals, sobol_points(p, states, seed), every, seconds, steps)
    return Policy(p, "euler-lm", savings.share(weights), None, progress.watch.seconds, progress.facts() | {"weights": len(weights)})


def descended(savings: Savings, weights: Tensor, residuals: Residuals, draws: Iterator[Points], every: int, seconds: float,
              steps: int | None) -> tuple[Tensor, Progress]:
    """The weights when the budget is spent or all residuals are rounding, and how they came there; states are drawn `every` few steps."""
    damper, progress = Marquardt(), Progress(savings.p, seconds, steps, lambda: savings.share(weights))
    for step in progress:
        if step % every == 0:
            at = next(draws)
        weights, largest = damper.improve(weights, partial(residuals, at))
        if largest < EXACT:
            progress.stop()
    return weights, progress
