"""Value iteration by Adam: a critic moves to what the Bellman operator makes of it, an actor to its best reply.

Expectations over the successors are exact and values are in units of (1-beta). The critic learns differences between states only, its slope
is matched to the envelope condition, and its level is found at the end in one stroke instead of creeping there at rate beta (MacQueen,
1966; Porteus, 1971).
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.neural import ancestor as published
from rllib_macro.solvers.neural.bellman import Value, chosen, envelope, q_value
from rllib_macro.solvers.neural.nets import Savings, Start, on_arrays
from rllib_macro.solvers.neural.points import Points, sobol_points
from rllib_macro.solvers.neural.progress import Progress
from rllib_macro.solvers.policy import Policy

COLD_CRITIC = 250  # steps
LEVEL_STATES = 4096  # over which the level of the value is found


def solve(p: Params, *, seconds: float = 60, seed: int = 0, start: Start = "prior", steps: int | None = None,
          hidden: Sequence[int] = (64, 64), states: int = 512, lr: float = 3e-3, tau: float = 0.05, match: float = 1.0,
          cold_critic: int | None = None, cold_actor: int = 0, ancestor: bool = False) -> Policy:
    """The policy, and its value, after so many CPU seconds, or steps where given.

    Every step moves the critic to the Bellman operator of a target, which follows it at rate `tau`, with `match` as the weight of the
    envelope condition, then the actor to its best reply. For the first `cold_critic` steps (250) the actor waits until the critic knows
    what the start is worth. `ancestor` runs the published version instead (neural/ancestor.py): its 500 steps, or `steps`, after
    `cold_actor` and `cold_critic` steps (0).
    """
    growth.validate(p)
    if ancestor:
        return published.solve(p, seed=seed, steps=steps, cold_actor=cold_actor, cold_critic=cold_critic or 0)
    generator, draws = torch.Generator().manual_seed(seed), sobol_points(p, states, seed)
    savings, value = Savings(p, hidden, start), Value(p, hidden, start)
    actor, critic = (net.initial(generator).requires_grad_() for net in (savings.net, value.net))
    target = critic.detach().clone()
    adams = [torch.optim.Adam([weights], lr) for weights in (critic, actor)]
    progress = Progress(p, seconds, steps, lambda: savings.share(actor))
    waits = COLD_CRITIC if cold_critic is None else cold_critic
    for step in progress:
        for adam in adams:
            adam.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * progress.done)) / 2
        at = next(draws)
        _descend(adams[0], critic_loss(savings, value, actor, critic, target, at, match))
        target.lerp_(critic.detach(), tau)
        if step >= waits:
            _descend(adams[1], -q_of(savings, value, actor, critic.detach(), at).mean() / value.scale)
    level = level_of(savings, value, actor, critic, next(sobol_points(p, LEVEL_STATES, seed)))
    worth = on_arrays(lambda k, z, d: level + value(critic, k, z, d)[0])
    facts = progress.facts() | {"weights": len(actor) + len(critic)}
    return Policy(p, "neural-grid", savings.share(actor.detach()), worth, progress.watch.seconds, facts)


def q_of(savings: Savings, value: Value, actor: Tensor, critic: Tensor, at: Points) -> Tensor:
    """Q of the actor's choice (N,): (1-beta) u(c) + beta E V(k', z', d')."""
    choice = chosen(savings.p, savings(actor, at.k, at.z, at.d), at)
    return q_value(savings.p, value(critic, choice.k, choice.z, choice.d)[0], choice)


def critic_loss(savings: Savings, value: Value, actor: Tensor, critic: Tensor, target: Tensor, at: Points, match: float) -> Tensor:
    """Variance of V - Q plus mean square of k (V_k - (1-beta) u'(c) R), in units of b^2."""
    with torch.no_grad():
        choice = chosen(savings.p, savings(actor, at.k, at.z, at.d), at)
        wanted = q_value(savings.p, value(target, choice.k, choice.z, choice.d)[0], choice)
        slope_wanted = envelope(savings.p, choice, at)
    found, slope = value(critic, at.k, at.z, at.d)
    return ((found - wanted).var() + match * (at.k * (slope - slope_wanted)).square().mean()) / value.scale**2


def level_of(savings: Savings, value: Value, actor: Tensor, critic: Tensor, at: Points) -> float:
    """What to add to V so that it equals Q of the actor's choice on average:  mean (Q - V) / (1-beta)."""
    with torch.no_grad():
        off = q_of(savings, value, actor, critic, at) - value(critic, at.k, at.z, at.d)[0]
    return float(off.mean()) / (1 - savings.p.beta)


def _descend(adam: torch.optim.Optimizer, loss: Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()
