"""The neural grid value iteration of Bellmans Revenge (ygreif, 2018 to 2025), for comparison only: what `neural_grid` corrects.

Its actor puts out consumption itself, kept feasible by penalties; capital is drawn from [0, 1], most of which is never visited; values are
discounted sums of log consumption, 20 times what they are in units of (1-beta); float32; nothing anneals.
"""
from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.neural.nets import on_arrays
from rllib_macro.solvers.neural.points import Points
from rllib_macro.solvers.neural.progress import Progress
from rllib_macro.solvers.policy import Policy, Share

STEPS, BATCH, COLD_BATCH, LR, TAU, WIDTH = 500, 512, 1000, 1e-3, 0.01, 256
TINY = 1e-4  # added to consumption under the logarithm, and the least consumed and saved when the actor is judged
PENALTY, SHRINKS = 10.0, 0.99
ALLOWED = (0.05, 0.95)  # share of resources that may be consumed without penalty


class NeuralGrid:
    """Actor, critic and target critic, with Adam for the first two."""

    def __init__(self, p: Params, seed: int):
        self.p, self.generator = p, torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            width = 2 + (len(p.depreciation) > 1)
            self.actor, self.critic = _network(width, 1.0), _network(width, 0.0)
        self.target = copy.deepcopy(self.critic)
        self.actor_adam, self.critic_adam = (torch.optim.Adam(net.parameters(), LR) for net in (self.actor, self.critic))
        self.penalty = PENALTY

    def draw(self, n: int) -> Points:
        """States (n,): capital from [0, 1], any level, any rate."""
        k, z, d = torch.rand(3, n, generator=self.generator)
        rates = torch.tensor(self.p.depreciation)
        if self.p.depreciation_transition:
            d = rates[(d * len(rates)).long()]
        else:
            d = rates.min() + d * (rates.max() - rates.min())
        return Points(k.clamp(min=1e-6), (z * len(self.p.productivity)).long(), d)

    def seen(self, k: Tensor, z: Tensor, d: Tensor) -> Tensor:
        """The networks' inputs: every variable about its middle."""
        parts = [k - 0.5, *([d - sum(self.p.depreciation) / len(self.p.depreciation)] if len(self.p.depreciation) > 1 else []),
                 z / (len(self.p.productivity) - 1) - 0.5]
        return torch.stack([part.expand(k.shape) for part in parts], -1)

    def consumption(self, at: Points) -> Tensor:
        """What the actor says, feasible or not."""
        return self.actor(self.seen(at.k, at.z, at.d))[..., 0]

    def q(self, at: Points, consumed: Tensor) -> Tensor:
        """log min(c, Y) + beta E V_target(k', z', d'), the expectation exact."""
        there = growth.resources(self.p, at.k, at.z, at.d)
        z, d, probability = growth.successors(self.p, at.z, at.d)
        after = (there - consumed).clamp(min=0)[:, None].expand(d.shape)
        value = self.target(self.seen(after, z, d))[..., 0]
        return (torch.minimum(consumed, there) + TINY).log() + self.p.beta * growth.expectation(value, probability)

    def improve_critic(self, n: int = BATCH, tau: float = TAU) -> None:
        """One step towards Q of the actor's choice, which the target follows."""
        at = self.draw(n)
        with torch.no_grad():
            wanted = self.q(at, self.consumption(at).clamp(min=0))
        found = self.critic(self.seen(at.k, at.z, at.d))[..., 0]
        _descend(self.critic_adam, (found - wanted).square().mean())
        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.critic.parameters(), strict=True):
                old.lerp_(new, tau)

    def improve_actor(self) -> None:
        """One step up Q, less the penalty of what is barely feasible, which fades."""
        at = self.draw(BATCH)
        consumed, there = self.consumption(at), growth.resources(self.p, at.k, at.z, at.d)
        outside = (ALLOWED[0] * there - consumed).relu().square() + (consumed - ALLOWED[1] * there).relu().square()
        _descend(self.actor_adam, self.penalty * outside.mean() - self.q(at, consumed.clamp(min=0)).mean())
        self.penalty *= SHRINKS

    def cold_start(self, actor: int, critic: int) -> None:
        """Actor steps towards half of resources, critic steps towards that actor's value."""
        for _ in range(actor):
            at = self.draw(COLD_BATCH)
            half = growth.resources(self.p, at.k, at.z, at.d) / 2
            _descend(self.actor_adam, (self.consumption(at) - half).square().mean())
        for _ in range(critic):
            self.improve_critic(COLD_BATCH, tau=1.0)

    def share(self) -> Share:
        """The actor's policy, its consumption kept inside what is there."""
        actor = copy.deepcopy(self.actor)

        def saved(k: Tensor, z: Tensor, d: Tensor) -> Tensor:
            there = growth.resources(self.p, k, z, d)
            wanted = actor(self.seen(k, z, d).float())[..., 0].to(k.dtype)
            return 1 - torch.minimum(wanted.clamp(min=TINY), there - TINY) / there
        return on_arrays(saved)


def solve(p: Params, *, seed: int = 0, steps: int | None = None, cold_actor: int = 0, cold_critic: int = 0) -> Policy:
    """The policy after 500 alternating steps, or as many as are given. Raises ValueError where utility is not logarithmic."""
    if p.crra != 1 or p.log_linear:
        raise ValueError("the ancestor knows logarithmic utility and linear accumulation only; leave ancestor out, or take a jesusfv model")
    learner = NeuralGrid(p, seed)
    progress = Progress(p, np.inf, STEPS if steps is None else steps, learner.share)
    for step in progress:
        if step == 0:
            learner.cold_start(cold_actor, cold_critic)
        learner.improve_critic()
        learner.improve_actor()
    return Policy(p, "neural-grid", learner.share(), None, progress.watch.seconds, progress.facts() | {"ancestor": True})


def _network(width: int, bias: float) -> nn.Sequential:
    layers = [nn.Linear(width, WIDTH), nn.LeakyReLU(), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(), nn.Linear(WIDTH, 1)]
    for layer in layers[::2]:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(layers[-1].bias, bias)
    return nn.Sequential(*layers)


def _descend(adam: torch.optim.Optimizer, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()
