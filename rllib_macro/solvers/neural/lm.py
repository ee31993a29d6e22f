"""Levenberg and Marquardt's method: Gauss-Newton steps on a sum of squares, damped as much as it takes to lower it.

Levenberg (1944), Marquardt (1963). The damping is a multiple of the diagonal of J'J, so that a weight that hardly matters may move far.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from rllib_macro.solvers.neural.nets import Use, jacobian

EASIER, HARDER = 0.25, 4.0
MOST = 1e8  # damping at which a step no longer moves anything
FLOOR = 1e-6  # of the mean of the diagonal: damping of weights that do not matter at all


class Marquardt:
    """The damping, which adapts: a quarter after a step that lowered the sum of squares, four times after one that did not."""

    def __init__(self, damping: float = 1e-3):
        self.damping = damping

    def improve(self, weights: Tensor, residuals: Callable[[Tensor, list[Use] | None], Sequence[Tensor]]) -> tuple[Tensor, float]:
        """Weights after one step, and the largest residual before it: of vectors (N,), whose samples are the network's uses' first axis."""
        uses = list[Use]()
        parts = residuals(weights, uses)
        found, slopes = torch.cat(list(parts)), torch.cat([jacobian(part, uses, len(weights)) for part in parts])

        def evaluate(trial: Tensor) -> Tensor:
            with torch.no_grad():
                return torch.cat(list(residuals(trial, None)))

        return self.step(weights, found, slopes, evaluate)[0], float(found.detach().abs().max())

    def step(self, weights: Tensor, residual: Tensor, jacobian: Tensor, evaluate: Callable[[Tensor], Tensor]) -> tuple[Tensor, bool]:
        """Weights w - x with (J'J + damping diag J'J) x = J'r, and whether they lower the sum of squares: if none do, w itself.

        `evaluate` gives the residuals (N,) of other weights, residual and jacobian are (N,) and (N, P) at these.
        """
        r, j = residual.detach().numpy(), jacobian.numpy()
        normal, slope, loss = j.T @ j, j.T @ r, float(r @ r)
        diagonal = np.diagonal(normal) + FLOOR * np.diagonal(normal).mean()
        while self.damping < MOST:
            change = _solve(normal, self.damping * diagonal, slope)
            if change is not None:
                trial = weights - torch.from_numpy(change)
                found = evaluate(trial)
                if float(found @ found) < loss:
                    self.damping *= EASIER
                    return trial, True
            self.damping *= HARDER
        self.damping /= HARDER
        return weights, False


def _solve(normal: np.ndarray, added: np.ndarray, slope: np.ndarray) -> np.ndarray | None:
    """x with (normal + diag(added)) x = slope; None where rounding leaves the matrix without a Cholesky factor."""
    damped = normal + np.diag(added)
    try:
        factor = scipy.linalg.cho_factor(damped, lower=True, overwrite_a=True, check_finite=False)
        return scipy.linalg.cho_solve(factor, slope, check_finite=False)
    except scipy.linalg.LinAlgError:
        return None
