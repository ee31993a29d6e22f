"""Policy and value by two small networks at once: Levenberg and Marquardt's method on Bellman, first-order and envelope residuals.

What actor-critic learning looks for, found as the root of the three equations that it satisfies.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.euler_lm import descended
from rllib_macro.solvers.neural.bellman import Value, optimality
from rllib_macro.solvers.neural.nets import SPREAD, Savings, Start, Use, on_arrays
from rllib_macro.solvers.neural.points import Points, sobol_points
from rllib_macro.solvers.policy import Policy


def solve(p: Params, *, seconds: float = 60, seed: int = 0, start: Start = "prior", steps: int | None = None,
          hidden: Sequence[int] = (20, 20), states: int = 600, every: int = 5) -> Policy:
    """The policy, and its value in units of (1-beta), after so many CPU seconds, or steps where given."""
    growth.validate(p)
    savings = Savings(p, hidden, start)
    value = Value(p, hidden, start, savings.net.after)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.cat([net.initial(generator, SPREAD) for net in (savings.net, value.net)])

    def residuals(at: Points, trial: Tensor, uses: list[Use] | None) -> Sequence[Tensor]:
        return optimality(savings, value, trial, at, uses)

    weights, progress = descended(savings, weights, residuals, sobol_points(p, states, seed), every, seconds, steps)
    worth = on_arrays(lambda k, z, d: value(weights, k, z, d)[0])
    return Policy(p, "actor-critic-lm", savings.share(weights), worth, progress.watch.seconds, progress.facts() | {"weights": len(weights)})
