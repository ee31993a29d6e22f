"""The growth model solved by DDPG, free of any model of it."""
from __future__ import annotations

from kernels.growth import Params
from rllib_macro.solvers.learned import PERIODS, learn
from rllib_macro.solvers.policy import Policy
from rllib_macro.solvers.td3 import tuned
from rllib_macro.structural import GrowthModule
from rllib_macro.td3 import DDPGConfig


def solve(p: Params, *, seconds: float | None = 60, steps: int | None = None, seed: int = 0, start: str = "neutral",
          cold_start: str = "both", actor_lr: float = 1e-3, critic_lr: float = 1e-3, batch: int = 256, updates_per_step: float = 1.0,
          noise: float = 0.3, periods: int = PERIODS) -> Policy:
    """As `td3`, with one critic, no delay and no noise in the target."""
    config = tuned(DDPGConfig(), start, cold_start, actor_lr, critic_lr, batch, updates_per_step, noise)
    return learn(config, p, "ddpg", seconds=seconds, steps=steps, seed=seed, start=start, periods=periods, network=GrowthModule)
