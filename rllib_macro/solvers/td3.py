"""The growth model solved by TD3, free of any model of it."""
from __future__ import annotations

from kernels.growth import Params
from rllib_macro.solvers.learned import PERIODS, learn
from rllib_macro.solvers.policy import Policy
from rllib_macro.structural import GrowthModule
from rllib_macro.td3 import TD3Config

FROZEN = {"both": 0.3, "actor": 0.0}  # share of the budget in which only the critics learn, from the prior


def solve(p: Params, *, seconds: float | None = 60, steps: int | None = None, seed: int = 0, start: str = "neutral",
          cold_start: str = "both", actor_lr: float = 1e-3, critic_lr: float = 1e-3, batch: int = 256, updates_per_step: float = 1.0,
          noise: float = 0.3, periods: int = PERIODS) -> Policy:
    """Train until `seconds` of CPU time or `steps` of the environment are used up. From the prior, `cold_start` both first learns what the
    prior is worth, its actor frozen; actor does without, and loses the prior. `noise` explores, at first, in halves of the interval."""
    config = tuned(TD3Config(), start, cold_start, actor_lr, critic_lr, batch, updates_per_step, noise)
    return learn(config, p, "td3", seconds=seconds, steps=steps, seed=seed, start=start, periods=periods, network=GrowthModule)


def tuned(config: TD3Config, start: str, cold_start: str, actor_lr: float, critic_lr: float, batch: int, updates_per_step: float,
          noise: float) -> TD3Config:
    """The settings in RLlib's words."""
    if cold_start not in FROZEN:
        raise ValueError(f"cold_start must be one of {', '.join(FROZEN)}, got {cold_start!r}")
    return config.training(actor_lr=actor_lr, critic_lr=critic_lr, train_batch_size_per_learner=batch, updates_per_step=updates_per_step,
                           exploration_noise=noise, frozen_for=FROZEN[cold_start] if start == "prior" else 0.0)
