"""The growth model solved by StructuralTD3."""
from __future__ import annotations

from kernels.growth import Params
from rllib_macro.solvers.learned import PERIODS, learn
from rllib_macro.solvers.policy import Policy
from rllib_macro.structural import StructuralTD3Config

FROZEN = 0.15  # share of the budget in which only the critic learns, from the prior


def solve(p: Params, *, seconds: float | None = 60, steps: int | None = None, seed: int = 0, start: str = "neutral",
          envelope: float = 1.0, actor_lr: float = 3e-3, critic_lr: float = 3e-3, batch: int = 256, updates_per_step: float = 0.5,
          periods: int = PERIODS) -> Policy:
    """A critic of capital after the choice; shocks are only met. Train until `seconds` of CPU time or `steps` of the environment are
    used up; `envelope` is the weight of the critic's slope, 0 leaves it to the values."""
    config = tuned(StructuralTD3Config(), start, envelope, actor_lr, critic_lr, batch, updates_per_step)
    return learn(config, p, "structural", seconds=seconds, steps=steps, seed=seed, start=start, periods=periods)


def tuned(config: StructuralTD3Config, start: str, envelope: float, actor_lr: float, critic_lr: float, batch: int,
          updates_per_step: float) -> StructuralTD3Config:
    """The settings in RLlib's words."""
    return config.training(envelope=float(envelope), actor_lr=actor_lr, critic_lr=critic_lr, updates_per_step=updates_per_step,
                           train_batch_size_per_learner=batch, frozen_for=FROZEN if start == "prior" else 0.0)
