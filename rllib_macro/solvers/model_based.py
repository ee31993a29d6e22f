"""The growth model solved by ModelBasedTD3."""
from __future__ import annotations

from kernels.growth import Params
from rllib_macro.solvers.learned import PERIODS, learn
from rllib_macro.solvers.policy import Policy
from rllib_macro.solvers.structural import tuned
from rllib_macro.structural import ModelBasedTD3Config


def solve(p: Params, *, seconds: float | None = 60, steps: int | None = None, seed: int = 0, start: str = "neutral",
          envelope: float = 1.0, actor_lr: float = 3e-3, critic_lr: float = 3e-3, batch: int = 256, updates_per_step: float = 0.5,
          periods: int = PERIODS) -> Policy:
    """As `structural`, with a critic of states and exact expectations."""
    config = tuned(ModelBasedTD3Config(), start, envelope, actor_lr, critic_lr, batch, updates_per_step)
    return learn(config, p, "model-based", seconds=seconds, steps=steps, seed=seed, start=start, periods=periods)
