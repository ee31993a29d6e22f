"""Value functions by networks, and the three equations that a value and a policy satisfy together. Values are in units of (1-beta)."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.neural.nets import NEUTRAL, Features, Net, Savings, Start, Use
from rllib_macro.solvers.neural.points import Points

LEAST = 1e-3  # marginal values relative to what they should be: less is out of sight, and negative ones have no consumption


class Value:
    """V = u(c*) + b (log k - log k*) + b net with b = k* V_k(k*) = (1-beta) u'(c*) q* k* / beta: right to first order at the steady state.

    From a neutral start V = (1-beta) u(half of the resources) + beta u(half of those in the middle of the box) + b net.
    """

    def __init__(self, p: Params, hidden: Sequence[int], start: Start = "prior", first: int = 0):
        self.p, self.start, self.features = p, start, Features(p)
        self.net = Net((self.features.width, *hidden, 1), first)
        middle = torch.tensor((min(p.depreciation) + max(p.depreciation)) / 2, dtype=torch.float64)
        self.scale = float(self.slope(middle))
        k, z = torch.tensor(sum(growth.box(p)) / 2, dtype=torch.float64), torch.tensor(len(p.productivity) // 2)
        self.level = float(growth.reward(p, NEUTRAL * growth.resources(p, k, z, middle)))

    def slope(self, d: Tensor) -> Tensor:
        """b, the derivative of V with respect to log k at the steady state of rate d."""
        p, k = self.p, growth.steady_state(self.p, d)
        price = growth.capital_price(p, k, d, k)
        return (1 - p.beta) * growth.marginal_utility(p, growth.steady_consumption(p, d)) * price * k / p.beta

    def __call__(self, weights: Tensor, k: Tensor, z: Tensor, d: Tensor, uses: list[Use] | None = None) -> tuple[Tensor, Tensor]:
        """V and dV/dk in states of one shape."""
        p = self.p
        found, slope = self.net.with_slope(weights, self.features(k, z, d), self.features.along_log_k, uses)
        if self.start == "neutral":
            consumed = NEUTRAL * growth.resources(p, k, z, d)
            base = (1 - p.beta) * growth.reward(p, consumed) + p.beta * self.level
            rise = (1 - p.beta) * growth.marginal_utility(p, consumed) * NEUTRAL * growth.marginal_return(p, k, z, d, 0 * k)
            return base + self.scale * found, rise + self.scale * slope / k
        base, stay = self.slope(d), growth.steady_state(p, d)
        level = growth.reward(p, growth.steady_consumption(p, d))
        return level + base * (k.log() - stay.log()) + self.scale * found, (base + self.scale * slope) / k


@dataclass(frozen=True)
class Choice:
    """What saving a share in states (N,) means: consumption, what is saved, and everything that may follow (N, S)."""

    consumed: Tensor
    saved: Tensor
    k: Tensor
    z: Tensor
    d: Tensor
    probability: Tensor


def chosen(p: Params, share: Tensor, at: Points) -> Choice:
    """The consequences of saving a share of resources."""
    there = growth.resources(p, at.k, at.z, at.d)
    after = growth.next_capital(p, at.k, at.d, share * there)
    z, d, probability = growth.successors(p, at.z, at.d)
    return Choice((1 - share) * there, share * there, after[:, None].expand(d.shape), z, d, probability)


def q_value(p: Params, value: Tensor, choice: Choice) -> Tensor:
    """Q = (1-beta) u(c) + beta E V(k', z', d') for values (N, S) of the successors."""
    return (1 - p.beta) * growth.reward(p, choice.consumed) + p.beta * growth.expectation(value, choice.probability)


def envelope(p: Params, choice: Choice, at: Points) -> Tensor:
    """dV/dk of an optimal choice: (1-beta) u'(c) R."""
    return (1 - p.beta) * growth.marginal_utility(p, choice.consumed) * growth.marginal_return(p, at.k, at.z, at.d, choice.saved)


def first_order(p: Params, slope: Tensor, choice: Choice, at: Points) -> Tensor:
    """What one more unit saved is worth, relative to what it costs: beta E V_k(k', z', d') / ((1-beta) u'(c) q), 1 at an optimum."""
    price = growth.capital_price(p, at.k, at.d, choice.saved)
    return p.beta * growth.expectation(slope, choice.probability) / ((1 - p.beta) * growth.marginal_utility(p, choice.consumed) * price)


def optimality(savings: Savings, value: Value, weights: Tensor, at: Points, uses: list[Use] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Bellman equation, (V - Q) / ((1-beta) b), and first-order and envelope conditions, in units of consumption: (N,) each.

    Divided by 1-beta, a Bellman residual is an error of the level of V; without that it hardly counts, and learning is slower.
    """
    p = savings.p
    choice = chosen(p, savings(weights, at.k, at.z, at.d, uses), at)
    now, slope = value(weights, at.k, at.z, at.d, uses)
    after, slope_after = value(weights, choice.k, choice.z, choice.d, uses)
    return ((now - q_value(p, after, choice)) / ((1 - p.beta) * value.scale),
            growth.consumption_of(p, first_order(p, slope_after, choice, at).clamp(min=LEAST)) - 1,
            growth.consumption_of(p, (slope / envelope(p, choice, at)).clamp(min=LEAST)) - 1)
