"""The random variables of a policy: independent categorical heads and Beta-distributed shares, drawn and scored as arrays.

A network's output is the heads' inputs side by side: `options` logits for a categorical head, two numbers for an interval. Everything
here works on rows (N, ...); H heads.
"""
from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from envs.core.choices import Head
from kernels.core import categorical, launch

ILLEGAL = -1e9  # finite: 0 * log 0 stays 0, no NaN in an entropy
EPSILON = 1e-6  # keeps a drawn share off 0 and 1, where a Beta density may be infinite


@dataclass(frozen=True)
class Group:
    """Neighbouring heads of equal size, scored by one softmax: heads [first, last) and inputs [low, high)."""

    first: int
    last: int
    low: int
    high: int
    options: int


class Heads:
    """Draws and scores of the heads of one agent type, whose names and sizes are `heads`. `backend` draws on a CPU: auto, numpy, native."""

    def __init__(self, heads: Sequence[Head], backend: str = "auto"):
        self.heads = tuple(heads)
        self.widths = [head.options or 2 for head in heads]
        self.width = sum(self.widths)
        self.groups = list(_group(self.heads, self.widths))
        self.continuous = any(head.options == 0 for head in heads)
        self.table = None if self.continuous else categorical.layout(tuple(head.options for head in heads))
        self.backend = ("numpy" if launch.native_problem() else "native") if backend == "auto" else backend

    # -- playing

    def draw(self, inputs: Tensor, generator: torch.Generator, uniform: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Options and shares (N, H) with their joint log-probability (N,). int32 where all heads are categorical, else float32."""
        if self.table is not None:
            if uniform is None:
                uniform = torch.rand(len(inputs), len(self.heads), generator=generator, device=inputs.device)
            with launch.use(self.backend):
                return _draw_categorical(self.table, inputs, uniform)
        drawn = torch.empty(len(inputs), len(self.heads), device=inputs.device)
        for group in self.groups:
            part = inputs[:, group.low:group.high].unflatten(1, (group.last - group.first, -1))
            drawn[:, group.first:group.last] = _draw(part, group.options, generator)
        return drawn, self.log_prob(inputs, drawn)[0]

    def mode(self, inputs: Tensor) -> Tensor:
        """The likeliest options and the mean shares (N, H), for play without exploration."""
        chosen = torch.empty(len(inputs), len(self.heads), dtype=torch.float32 if self.continuous else torch.int32, device=inputs.device)
        for group in self.groups:
            part = inputs[:, group.low:group.high].unflatten(1, (group.last - group.first, -1))
            if group.options:
                chosen[:, group.first:group.last] = part.argmax(-1).to(chosen.dtype)
            else:
                a, b = _beta(part)
                chosen[:, group.first:group.last] = a / (a + b)
        return chosen

    # -- learning

    def log_prob(self, inputs: Tensor, chosen: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Joint log-probability (N,) of what was chosen, and the entropy (N,) summed over heads with `weights` (H,)."""
        logp = entropy = torch.zeros((), device=inputs.device)
        for group in self.groups:
            part = inputs[:, group.low:group.high].unflatten(1, (group.last - group.first, -1))
            of = chosen[:, group.first:group.last]
            lp, h = _score_categorical(part, of) if group.options else _score_beta(part, of)
            logp = logp + lp.sum(-1)
            entropy = entropy + (h.sum(-1) if weights is None else h @ weights[group.first:group.last])
        return logp, entropy


def _group(heads: Sequence[Head], widths: Sequence[int]) -> list[Group]:
    groups, first, low = [], 0, 0
    for (options, width), members in itertools.groupby(zip((h.options for h in heads), widths, strict=True)):
        n = len(list(members))
        groups.append(Group(first, first + n, low, low + n * width, options))
        first, low = first + n, low + n * width
    return groups


def _draw_categorical(table: categorical.Params, logits: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    option = torch.empty(len(logits), table.n_heads, dtype=torch.int32, device=logits.device)
    logp = torch.empty(len(logits), device=logits.device)
    arrays = [_shared(tensor) for tensor in (logits.contiguous(), uniform, option, logp)]
    categorical.draw(*categorical.tables(table, *arrays))
    return option, logp


def _shared(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as a NumPy array, or as a CuPy array if it lives on a GPU; nothing is copied."""
    if tensor.is_cuda:
        import cupy
        return cupy.from_dlpack(tensor)
    return tensor.numpy()


def _score_categorical(part: Tensor, option: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (N, H). Rows go last: a softmax over few neighbouring numbers takes a CPU many times longer."""
    scores = torch.log_softmax(part.movedim(0, -1), 1)  # (H, options, N)
    logp = scores.gather(1, option.T.long().unsqueeze(1)).squeeze(1)
    return logp.T, -(scores.exp() * scores).sum(1).T


def _draw(part: Tensor, options: int, generator: torch.Generator) -> Tensor:
    if options:
        noise = torch.empty_like(part).exponential_(generator=generator)
        return (part - noise.log()).argmax(-1).to(torch.float32)
    a, b = _beta(part)
    x, y = torch._standard_gamma(a, generator=generator), torch._standard_gamma(b, generator=generator)
    return (x / (x + y)).clamp(EPSILON, 1 - EPSILON)


def _beta(part: Tensor) -> tuple[Tensor, Tensor]:
    """Concentrations 1 + softplus(x): the density is bounded and has one peak."""
    a, b = (1 + softplus(part)).unbind(-1)
    return a, b


def _score_beta(part: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    density = torch.distributions.Beta(*_beta(part), validate_args=False)
    return density.log_prob(share.clamp(EPSILON, 1 - EPSILON)), density.entropy()
