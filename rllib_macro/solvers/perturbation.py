"""The first-order solution in logs around the steady state, as a policy: what every other method may start from."""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.policy import Policy, Stopwatch


@dataclass(frozen=True)
class LogLinear:
    """log k' = log k* + root (log k - log k*) + lift_z, as a share of resources."""

    p: Params

    def __call__(self, k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
        rates, number = np.unique(d, return_inverse=True)
        center, root, lift = growth.log_linear_rule(self.p, rates)
        number = number.reshape(np.shape(d))
        after = np.exp(center[number] + root[number] * (np.log(k) - center[number]) + lift[number, z])
        return np.clip(after / growth.resources(self.p, k, z, d), self.p.least_saving, self.p.most_saving)


def solve(p: Params, *, seconds: float | None = None, seed: int = 0) -> Policy:
    """The log-linear rule, one for every rate of depreciation, which it takes to stay. Exact for log utility and full depreciation.

    Raises ValueError where accumulation is log-linear: with log utility the closed form is exact there.
    """
    growth.validate(p)
    if p.log_linear:
        raise ValueError("perturbation knows linear accumulation only; use method=egm, or the closed form where utility is logarithmic")
    watch = Stopwatch()
    root = growth.log_linear_rule(p, np.array([(min(p.depreciation) + max(p.depreciation)) / 2]))[1]
    return Policy(p, "perturbation", LogLinear(p), None, watch.seconds, {"order": 1, "root": float(root[0])})
