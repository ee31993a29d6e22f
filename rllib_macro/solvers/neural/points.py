"""States at which networks learn: a Sobol sequence over the box, denser towards its edges, as Chebyshev's nodes are."""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels import growth
from kernels.growth import Params


@dataclass(frozen=True)
class Points:
    """Tensors of one shape: capital, number of the productivity level, rate of depreciation."""

    k: Tensor
    z: Tensor
    d: Tensor


def sobol_points(p: Params, n: int, seed: int) -> Iterator[Points]:
    """Sets of n states without end, each the next piece of one scrambled sequence."""
    sequence = torch.quasirandom.SobolEngine(3, scramble=True, seed=seed)
    low, high = growth.box(p)
    rates = torch.tensor(p.depreciation, dtype=torch.float64)
    while True:
        u = sequence.draw(n, dtype=torch.float64)
        d = rates[_number(u[:, 2], len(rates))] if p.depreciation_transition else _towards_edges(u[:, 2], min(rates), max(rates))
        yield Points(_towards_edges(u[:, 0], low, high), _number(u[:, 1], len(p.productivity)), d)


def _towards_edges(u: Tensor, low: Any, high: Any) -> Tensor:
    return (low + high) / 2 - (high - low) / 2 * torch.cos(math.pi * u)


def _number(u: Tensor, n: int) -> Tensor:
    return (u * n).long().clamp(max=n - 1)
