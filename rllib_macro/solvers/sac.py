"""The growth model solved by SAC: RLlib's own networks, losses and temperature, fed with transitions kept as arrays."""
from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import TD_ERROR_KEY

from kernels.growth import Params
from rllib_macro.solvers.learned import PERIODS, play_stock
from rllib_macro.solvers.policy import Policy
from rllib_macro.td3 import MODULE, FromRows

STEPS = 20_000  # over which rates fall where only seconds are given
NAMES = {"obs": "obs", "actions": "actions", "rewards": "rewards", "next_obs": "new_obs", "terminated": "terminateds"}


class RowSACConfig(SACConfig):
    """RLlib's configuration of SAC, and `updates_per_step`: gradient steps per transition."""

    def __init__(self) -> None:
        super().__init__(algo_class=RowSAC)
        self.updates_per_step = 0.25


class RowSAC(FromRows):
    """SAC on rows."""

    @classmethod
    def get_default_config(cls) -> RowSACConfig:
        return RowSACConfig()

    def learn(self, rows: dict[str, np.ndarray], count: int) -> list[Any]:
        size, results = self.config.train_batch_size_per_learner, []
        ones = np.ones(size, np.float32)
        for i in range(count):
            part = {NAMES[name]: column[i * size:(i + 1) * size] for name, column in rows.items()} | {"weights": ones, "n_step": ones}
            results = self.learner_group.update(batch=MultiAgentBatch({MODULE: SampleBatch(part)}, size), timesteps=self.timesteps)
        for result in results:
            result.get(MODULE, {}).pop(TD_ERROR_KEY, None)
        return results


def solve(p: Params, *, seconds: float | None = 60, steps: int | None = None, seed: int = 0, start: str = "neutral", lr: float = 1e-3,
          batch: int = 256, updates_per_step: float = 0.25, target_entropy: float = -5.0, periods: int = PERIODS) -> Policy:
    """Train until `seconds` of CPU time or `steps` of the environment are used up. A low target entropy lets the policy become sharp: with
    the usual -1 it keeps saving at random, and its mean is not the best share."""
    fall = [[0, lr], [steps or STEPS, lr / 50]]
    config = RowSACConfig().training(
        actor_lr=fall, critic_lr=fall, alpha_lr=fall, initial_alpha=0.02, target_entropy=target_entropy, tau=0.01,
        train_batch_size_per_learner=batch, num_steps_sampled_before_learning_starts=1000,
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 100_000},
    )
    config.updates_per_step = updates_per_step
    config.env_runners(rollout_fragment_length=4)
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", head_fcnet_hiddens=[],
                                                     fusionnet_hiddens=[64], fusionnet_activation="tanh"))
    return play_stock(config, p, "sac", mean, seconds=seconds, steps=steps, seed=seed, start=start, periods=periods)


def mean(inputs: torch.Tensor) -> torch.Tensor:
    """Actions without noise: the squashed means, which are the first half of what the network says."""
    return torch.tanh(inputs[:, :inputs.shape[1] // 2])
