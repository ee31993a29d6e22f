"""The Euler equation as a residual that a network's weights can make small."""
from __future__ import annotations

from torch import Tensor

from kernels import growth
from rllib_macro.solvers.neural.nets import Savings, Use
from rllib_macro.solvers.neural.points import Points


def euler_residual(savings: Savings, weights: Tensor, at: Points, uses: list[Use] | None = None) -> Tensor:
    """c_Euler / c - 1 in every state: the Euler error in units of consumption, with an exact expectation over the successors."""
    p, asked = savings.p, []

    def share(k: Tensor, z: Tensor, d: Tensor) -> Tensor:
        asked.append(savings(weights, k, z, d, uses))
        return asked[-1]

    wanted = growth.euler_consumption(p, share, at.k, at.z, at.d)
    return wanted / ((1 - asked[0]) * growth.resources(p, at.k, at.z, at.d)) - 1
