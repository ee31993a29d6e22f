"""A network that makes Euler errors small by Adam: what most of the literature does, beside which the other methods are seen."""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.neural.euler import euler_residual
from rllib_macro.solvers.neural.nets import Savings, Start
from rllib_macro.solvers.neural.points import sobol_points
from rllib_macro.solvers.neural.progress import Progress
from rllib_macro.solvers.policy import Policy


def solve(p: Params, *, seconds: float = 60, seed: int = 0, start: Start = "prior", steps: int | None = None,
          hidden: Sequence[int] = (64, 64), states: int = 1024, lr: float = 3e-3) -> Policy:
    """The policy after so many CPU seconds, or steps where given, with fresh `states` in every step and a learning rate that falls
    from `lr` to zero as a cosine."""
    growth.validate(p)
    savings = Savings(p, hidden, start)
    weights = savings.net.initial(torch.Generator().manual_seed(seed)).requires_grad_()
    draws, adam = sobol_points(p, states, seed), torch.optim.Adam([weights], lr=lr)
    progress = Progress(p, seconds, steps, lambda: savings.share(weights))
    for _ in progress:
        adam.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * progress.done)) / 2
        adam.zero_grad()
        euler_residual(savings, weights, next(draws)).square().mean().backward()
        adam.step()
    final = weights.detach()
    return Policy(p, "euler-adam", savings.share(final), None, progress.watch.seconds, progress.facts() | {"weights": len(final)})
