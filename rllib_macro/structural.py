"""Learners that know the structure of a growth model, its budget and its utility: only the worth of what is carried over is learned.

`StructuralTD3` does not know how likely the shocks are, it only meets them: its critic W(k', z, d) is the value of capital after the choice
and before the shock, and Q(s, a) = u(c) + beta W(k', z, d). `ModelBasedTD3` knows the chain as well: its critic is V(k, z, d), and
Q(s, a) = u(c) + beta sum over successors of P V(k', z', d'). Both are TD3's learner with other losses. With an `envelope` weight the
critic's slope is fitted too, to u'(c) R, what one more unit of capital is worth in a state (Benveniste and Scheinkman, 1979).

Utility is measured as by the environment, (u(c) - u(c*)) / c*^(1-gamma). Tensors of one shape: k capital, z and d as in kernels/growth.py.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from envs.growth import SEES
from kernels import growth
from kernels.growth import Params
from rllib_macro.td3 import TD3, TD3Config, TD3Learner, TD3Module, Wide

RATES = 257  # between which the prior's coefficients are interpolated where depreciation is drawn from a range
NEAR = 0.9, 1.1  # steady states at which they are taken
STARTS = ("neutral", "prior")


@dataclass(frozen=True)
class Places:
    """The part of states that no choice moves, and what follows from it: tensors of one shape."""

    z: Tensor
    d: Tensor
    steady_capital: Tensor
    steady_consumption: Tensor
    seen: Tensor  # (..., 2) the observation's columns tfp and kept
    rule: Tensor  # (..., 2) level and slope of the prior:  log saved = level + slope log k

    def __getitem__(self, rows: slice) -> Places:
        return Places(*(getattr(self, f.name)[rows] for f in fields(self)))


class Sight:
    """How the states of a model look to networks, and what the prior saves there. `start` neutral saves half of what can be saved."""

    def __init__(self, p: Params, start: str = "neutral"):
        if start not in STARTS:
            raise ValueError(f"start must be one of {', '.join(STARTS)}, got {start!r}")
        self.p, self.start = p, start
        self.scale = [float(f.scale(p) if callable(f.scale) else f.scale) for f in SEES]
        self.tfp = np.log(p.productivity)
        self.drawn = not p.depreciation_transition and len(p.depreciation) == 2
        self.rates = np.linspace(min(p.depreciation), max(p.depreciation), RATES) if self.drawn else np.array(p.depreciation, float)
        self.rule = torch.from_numpy(self._rule())

    def places(self, z: Tensor, d: Tensor) -> Places:
        """What z and d tell of states."""
        tfp = torch.as_tensor(self.tfp, dtype=d.dtype)[z]
        return Places(z, d, growth.steady_state(self.p, d), growth.steady_consumption(self.p, d),
                      torch.stack([tfp * self.scale[1], (1 - d) * self.scale[2]], -1), self._rule_at(z, d))

    def see(self, at: Places, k: Tensor) -> Tensor:
        """Observations (..., 3), as envs/growth.py makes them."""
        gap = torch.log(k / at.steady_capital) * self.scale[0]
        return torch.cat([gap[..., None], at.seen], -1)

    def states(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k, z, d of observations (..., 3)."""
        z = (obs[..., 1:2] / self.scale[1] - torch.as_tensor(self.tfp, dtype=obs.dtype)).abs().argmin(-1)
        d = 1 - obs[..., 2] / self.scale[2]
        if not self.drawn:
            d = torch.as_tensor(self.rates, dtype=obs.dtype)[growth.depreciation_index(self.p, d)]
        return torch.exp(obs[..., 0] / self.scale[0]) * growth.steady_state(self.p, d), z, d

    def base(self, at: Places, k: Tensor, there: Tensor) -> Tensor | float:
        """Log odds of the prior's place between the least and the largest share; `there` are the resources."""
        if self.start == "neutral":
            return 0.0
        share = torch.exp(at.rule[..., 0] + at.rule[..., 1] * torch.log(k)) / there
        return torch.logit(((share - self.p.least_saving) / (self.p.most_saving - self.p.least_saving)).clamp(1e-3, 1 - 1e-3))

    def share(self, odds: Tensor) -> Tensor:
        """Share of resources saved, between its bounds: 0 is the middle."""
        return self.p.least_saving + (self.p.most_saving - self.p.least_saving) * torch.sigmoid(odds)

    def _rule(self) -> np.ndarray:
        """Level and slope (Z, rates, 2) of the prior, whose saving is linear in logs."""
        z, d = np.meshgrid(np.arange(len(self.tfp)), self.rates, indexing="ij")
        k = [near * growth.steady_state(self.p, d) for near in NEAR]
        low, high = (np.log(growth.prior_share(self.p, at, z, d) * growth.resources(self.p, at, z, d)) for at in k)
        slope = (high - low) / np.log(NEAR[1] / NEAR[0])
        return np.stack([low - slope * np.log(k[0]), slope], -1)

    def _rule_at(self, z: Tensor, d: Tensor) -> Tensor:
        rule = self.rule.to(d.dtype)
        if not self.drawn:
            return rule[z, growth.depreciation_index(self.p, d)]
        at = (d - self.rates[0]) / (self.rates[1] - self.rates[0])
        i = at.floor().clamp(0, RATES - 2)
        weight, i = (at - i)[..., None], i.long()
        return rule[z, i] * (1 - weight) + rule[z, i + 1] * weight


class GrowthModule(TD3Module):
    """An actor whose share of saving starts at the prior. `model_config` has in addition `params` of the model and `start`."""

    def setup(self) -> None:
        self.sight = Sight(Params(**self.model_config["params"]), self.model_config["start"])
        super().setup()

    def base(self, obs: Tensor) -> Tensor | float:
        if self.sight.start == "neutral":
            return 0.0
        k, z, d = self.sight.states(obs)
        odds = self.sight.base(self.sight.places(z, d), k, growth.resources(self.sight.p, k, z, d))
        return odds[..., None] if isinstance(odds, Tensor) else odds


class StructuralModule(GrowthModule):
    """Its one critic sees a state, before or after the choice; it starts at zero."""

    def make_critics(self, width: int) -> nn.ModuleList:
        return nn.ModuleList([Wide(width, self.hidden, 1, zero=self.model_config.get("zero_critic", True))])


class StructuralLearner(TD3Learner):
    """Of the transitions it uses the shocks alone: with `capital_from` box, each is met from capital drawn anew, where the budget leads."""

    def build(self) -> None:
        super().build()
        self.sight: Sight = self.net.sight
        self.p = self.sight.p

    @torch.no_grad()
    def batches(self, columns: dict[str, Tensor], count: int, left: float) -> Iterator[dict[str, Any]]:
        k, z, d = self.sight.states(columns["obs"])
        low, high = growth.box(self.p)
        if self.config.capital_from == "box":
            k = low + (high - low) * torch.rand(k.shape, generator=self.generator)
        here, after = self.sight.places(z, d), self.successors(columns, z, d)
        there = growth.resources(self.p, k, z, d)
        base = self.sight.base(here, k, there)
        noise = torch.randn(k.shape, generator=self.generator) * (self.config.target_noise * left)
        size = len(k) // count
        for i in range(count):
            rows = slice(i * size, (i + 1) * size)
            yield {"k": k[rows], "here": here[rows], "there": there[rows], "noise": noise[rows], "obs": self.sight.see(here[rows], k[rows]),
                   "base": base[rows] if isinstance(base, Tensor) else base, "after": tuple(part[rows] for part in after)}

    def successors(self, columns: dict[str, Tensor], z: Tensor, d: Tensor) -> tuple[Any, ...]:
        """What followed: the places of the next states."""
        _, z_, d_ = self.sight.states(columns["next_obs"])
        return (self.sight.places(z_, d_),)

    def continuation(self, critic: nn.Module, at: Places, k: Tensor, after: tuple[Any, ...]) -> Tensor:
        """The worth of carrying k out of a period spent at places: W(k', z, d)."""
        return critic(self.sight.see(at, k))[..., 0]

    def utility(self, at: Places, c: Tensor) -> Tensor:
        """(u(c) - u(c*)) / c*^(1-gamma)."""
        return growth.reward(self.p, c / at.steady_consumption) - (0 if self.p.crra == 1 else 1 / (1 - self.p.crra))

    def saved(self, at: Places, k: Tensor, there: Tensor) -> Tensor:
        """What the actor saves of its resources."""
        return self.sight.share(self.sight.base(at, k, there) + self.net.actor(self.sight.see(at, k))[..., 0]) * there

    @torch.no_grad()
    def worth(self, at: Places, k: Tensor, after: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        """What a state is worth to the actor, u(c) + beta continuation by the target critic; and its slope in log k, k u'(c) R."""
        there = growth.resources(self.p, k, at.z, at.d)
        saved = self.saved(at, k, there)
        c, k_ = there - saved, growth.next_capital(self.p, k, at.d, saved)
        value = self.utility(at, c) + self.p.beta * self.continuation(self.net.target_critics[0], at, k_, after)
        gain = growth.marginal_utility(self.p, c / at.steady_consumption) / at.steady_consumption
        return value, k * gain * growth.marginal_return(self.p, k, at.z, at.d, saved)

    def fitted(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """What the critic sees, and what it should say there: value and slope. Capital after the choice is seen with the old shock and has
        the worth that it has with the new one."""
        here, (there,) = batch["here"], batch["after"]
        with torch.no_grad():
            share = self.sight.share(batch["base"] + self.net.actor(batch["obs"])[..., 0]) + batch["noise"]
            saved = share.clamp(self.p.least_saving, self.p.most_saving) * batch["there"]
            k = growth.next_capital(self.p, batch["k"], here.d, saved)
        return self.sight.see(here, k), *self.worth(there, k, ())

    def critic_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean squared distance of value, and with `envelope` as weight of slope, to what they should be."""
        seen, value, slope = self.fitted(batch)
        critic = self.net.critics[0]
        if not self.config.envelope:
            return ((critic(seen)[..., 0] - value) ** 2).mean()
        found, steep = critic.with_slope(seen)
        return ((found[..., 0] - value) ** 2).mean() + self.config.envelope * ((steep[..., 0] * self.sight.scale[0] - slope) ** 2).mean()

    def actor_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """-(u(c) + beta continuation): its gradient is u'(c) - beta W_k."""
        here, there = batch["here"], batch["there"]
        saved = self.sight.share(batch["base"] + self.net.actor(batch["obs"])[..., 0]) * there
        k = growth.next_capital(self.p, batch["k"], here.d, saved)
        value = self.utility(here, there - saved) + self.p.beta * self.continuation(self.net.critics[0], here, k, batch["after"])
        return -value.mean()


class ModelBasedLearner(StructuralLearner):
    """The critic V(k, z, d) and exact expectations over all that may follow."""

    def successors(self, columns: dict[str, Tensor], z: Tensor, d: Tensor) -> tuple[Any, ...]:
        z_, d_, probability = growth.successors(self.p, z, d)
        return self.sight.places(z_, d_), probability

    def continuation(self, critic: nn.Module, at: Places, k: Tensor, after: tuple[Any, ...]) -> Tensor:
        """sum over successors of P V(k', z', d')."""
        places, probability = after
        seen = self.sight.see(places, k[..., None].expand(probability.shape))
        return growth.expectation(critic(seen)[..., 0], probability)

    def fitted(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """The critic sees the state itself."""
        return batch["obs"], *self.worth(batch["here"], batch["k"], batch["after"])


class StructuralTD3Config(TD3Config):
    """RLlib's configuration of StructuralTD3; `training` takes in addition

    growth_model   the growth model's Params
    start          neutral (half of what can be saved) or prior (the log-linear rule)
    envelope       weight of the critic's slope; 0 leaves it to the values
    capital_from   box (drawn anew for every use of a transition) or rows (as it was)
    """

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or StructuralTD3)
        self.network = StructuralModule
        self.twin_q, self.policy_delay = False, 1
        self.envelope, self.capital_from = 1.0, "box"
        self.actor_lr = self.critic_lr = 3e-3
        self.tau, self.target_noise, self.average_rate = 0.02, 0.1, 0.005
        self.exploration_noise, self.updates_per_step = 0.1, 0.5

    def training(self, *, growth_model: Params | None = None, start: str | None = None, envelope: float | None = None,
                 capital_from: str | None = None, **kwargs: Any) -> Self:
        super().training(**kwargs)
        if growth_model is not None:
            self.network_config = {**self.network_config, "params": asdict(growth_model)}
            self.gamma = growth_model.beta
        if start is not None:
            self.network_config = {**self.network_config, "start": start}
        if envelope is not None:
            self.envelope = envelope
        if capital_from is not None:
            self.capital_from = capital_from
        return self

    def get_default_learner_class(self) -> type:
        return StructuralLearner


class StructuralTD3(TD3):
    """TD3 with a critic of what is carried over; the probabilities of shocks stay unknown to it."""

    @classmethod
    def get_default_config(cls) -> StructuralTD3Config:
        return StructuralTD3Config()


class ModelBasedTD3Config(StructuralTD3Config):
    """The same keys; probabilities are known."""

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or ModelBasedTD3)

    def get_default_learner_class(self) -> type:
        return ModelBasedLearner


class ModelBasedTD3(TD3):
    """TD3 with exact expectations in target and actor loss."""

    @classmethod
    def get_default_config(cls) -> ModelBasedTD3Config:
        return ModelBasedTD3Config()
