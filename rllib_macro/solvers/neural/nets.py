"""Small networks on one flat vector of weights, whose derivatives with respect to every weight, sample by sample, are exact and cheap.

A weight matrix W enters the residual r_i of a sample only through pre-activations x = W a + b, once for every state at which the sample
asks the network. So dr_i / dW is the sum over these uses of (dr_i / dx) a', and one backward pass to the pre-activations gives all of them.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.policy import Share

Start = Literal["prior", "neutral"]
NEUTRAL = 0.5  # share of resources saved where nothing is known
SPREAD = 2.0  # of the first weights for Newton's methods: units that bend inside the box gain an order of magnitude at 10 seconds


@dataclass(frozen=True)
class Use:
    """One use of a layer: the place of its first weight, what came in (N, ..., A) and what went out before the activation (N, ..., B)."""

    first: int
    inside: Tensor
    outside: Tensor
    biased: bool = True


class Net:
    """Layers of tanh units, the last one linear with a single unit: widths (inputs, ..., 1). Its weights begin at `first` in the vector of
    all weights, and end before `after`."""

    def __init__(self, widths: Sequence[int], first: int = 0):
        self.layers: list[tuple[int, int, int]] = []  # place of the first weight, inputs, outputs
        self.after = first
        for a, b in itertools.pairwise(widths):
            self.layers.append((self.after, a, b))
            self.after += (a + 1) * b

    def initial(self, generator: torch.Generator, spread: float = 1.0) -> Tensor:
        """Weights: normal with deviation spread / sqrt(inputs + 1), the last layer zero."""
        parts = [spread / (a + 1) ** 0.5 * torch.randn((a + 1) * b, generator=generator, dtype=torch.float64) for _, a, b in self.layers]
        return torch.cat([*parts[:-1], torch.zeros_like(parts[-1])])

    def __call__(self, weights: Tensor, x: Tensor, uses: list[Use] | None = None) -> Tensor:
        """The output (N, ...) for inputs x (N, ..., A). `uses` collects what `jacobian` needs."""
        for first, a, b in self.layers:
            x = _note(uses, first, x, x @ _matrix(weights, first, a, b).T + weights[first + a * b:first + (a + 1) * b])
            x = x.tanh() if first != self.layers[-1][0] else x
        return x[..., 0]

    def with_slope(self, weights: Tensor, x: Tensor, direction: Tensor, uses: list[Use] | None = None) -> tuple[Tensor, Tensor]:
        """The output and its derivative as the inputs move in a direction (A,)."""
        slope = direction.expand(x.shape)
        for first, a, b in self.layers:
            matrix = _matrix(weights, first, a, b)
            slope = _note(uses, first, slope, slope @ matrix.T, biased=False)
            x = _note(uses, first, x, x @ matrix.T + weights[first + a * b:first + (a + 1) * b])
            if first != self.layers[-1][0]:
                x = x.tanh()
                slope = slope * (1 - x * x)
        return x[..., 0], slope[..., 0]


def _matrix(weights: Tensor, first: int, a: int, b: int) -> Tensor:
    return weights[first:first + a * b].view(b, a)


def _note(uses: list[Use] | None, first: int, inside: Tensor, outside: Tensor, biased: bool = True) -> Tensor:
    if uses is not None:
        if not outside.requires_grad:
            outside.requires_grad_()
        uses.append(Use(first, inside, outside, biased))
    return outside


def jacobian(residual: Tensor, uses: list[Use], size: int) -> Tensor:
    """d r_i / d weights (N, size) of residuals (N,), each of which depends on its own sample only."""
    n, found = len(residual), residual.new_zeros(len(residual), size)
    slopes = torch.autograd.grad(residual.sum(), [use.outside for use in uses], retain_graph=True, materialize_grads=True)
    pairs: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
    for use, outside in zip(uses, slopes, strict=True):
        slope = outside.reshape(n, -1, outside.shape[-1])
        inside = use.inside.detach().reshape(n, -1, use.inside.shape[-1])
        pairs.setdefault(use.first, []).append((slope, inside, slope.sum(1) * use.biased))
    for first, parts in pairs.items():
        slope, inside = (torch.cat([part[i] for part in parts], 1) for i in (0, 1))
        matrix = (slope.transpose(1, 2) @ inside).reshape(n, -1)
        bias = sum(part[2] for part in parts)
        found[:, first:first + matrix.shape[1]] = matrix
        found[:, first + matrix.shape[1]:first + matrix.shape[1] + slope.shape[-1]] = bias
    return found


class Features:
    """What a network sees of a state: log capital, log productivity and, where it varies, depreciation, all in [-1, 1] over the box."""

    def __init__(self, p: Params):
        low, high = np.log(growth.box(p))
        self.middle, self.half = (low + high) / 2, (high - low) / 2
        self.least, self.range = min(p.depreciation), max(p.depreciation) - min(p.depreciation)
        level = np.log(p.productivity)
        self.levels = torch.tensor(2 * (level - level.min()) / max(np.ptp(level), 1e-12) - 1)
        self.width = 2 + (self.range > 0)
        self.along_log_k = torch.tensor([1 / self.half] + [0.0] * (self.width - 1), dtype=torch.float64)  # as log k rises by 1

    def __call__(self, k: Tensor, z: Tensor, d: Tensor) -> Tensor:
        """(..., width) for states of shape (...)."""
        parts = [(k.log() - self.middle) / self.half, self.levels[z].expand(k.shape)]
        if self.range:
            parts.append((2 * (d - self.least) / self.range - 1).expand(k.shape))
        return torch.stack(parts, -1)


class Savings:
    """s = sigmoid(logit(s_prior) + net): feasible whatever the net says, the prior while it is zero; s = sigmoid(net) if neutral."""

    def __init__(self, p: Params, hidden: Sequence[int], start: Start = "prior", first: int = 0):
        self.p, self.start, self.features = p, start, Features(p)
        self.net = Net((self.features.width, *hidden, 1), first)

    def __call__(self, weights: Tensor, k: Tensor, z: Tensor, d: Tensor, uses: list[Use] | None = None) -> Tensor:
        """The share of resources saved in states of one shape."""
        d = d[..., :1] if d.dim() > 1 and d.stride(-1) == 0 else d  # one rate for all successors: the prior's rule is found once for them
        known = growth.prior_share(self.p, k, z, d).logit() if self.start == "prior" else 0.0
        return (known + self.net(weights, self.features(k, z, d), uses)).sigmoid()

    def share(self, weights: Tensor) -> Share:
        """The policy with these weights as a function of NumPy arrays."""
        return on_arrays(lambda k, z, d: self(weights, k, z, d))


def on_arrays(f: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Share:
    """A function of tensors (k, z, d) as one of NumPy arrays."""
    def of(k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            found = f(torch.tensor(k, dtype=torch.float64), torch.tensor(z, dtype=torch.int64), torch.tensor(d, dtype=torch.float64))
            return found.to(torch.float64).numpy()
    return of
