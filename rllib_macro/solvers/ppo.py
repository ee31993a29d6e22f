"""The growth model solved by RLlib's own PPO."""
from __future__ import annotations

import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from kernels.growth import Params
from rllib_macro.solvers.learned import PERIODS, play_stock
from rllib_macro.solvers.policy import Policy

STEPS = 130_000  # over which rates fall where only seconds are given
LANES = 64


def solve(p: Params, *, seconds: float | None = 60, steps: int | None = None, seed: int = 0, start: str = "neutral", lr: float = 2e-3,
          rollout: int = 32, minibatch: int = 512, epochs: int = 10, periods: int = PERIODS) -> Policy:
    """Train until `seconds` of CPU time or `steps` of the environment are used up; `rollout` periods in every lane make a batch."""
    config = PPOConfig().training(
        lr=[[0, lr], [steps or STEPS, lr / 50]], train_batch_size_per_learner=LANES * rollout, minibatch_size=minibatch, num_epochs=epochs,
        lambda_=0.9, clip_param=0.2, vf_clip_param=100.0, vf_loss_coeff=1.0, entropy_coeff=0.0, use_kl_loss=False, grad_clip=1.0,
    )
    config.env_runners(rollout_fragment_length=rollout)
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[64, 64], fcnet_activation="tanh", vf_share_layers=False,
                                                     head_fcnet_hiddens=[]))
    return play_stock(config, p, "ppo", mean, seconds=seconds, steps=steps, seed=seed, start=start, periods=periods, lanes=LANES)


def mean(inputs: torch.Tensor) -> torch.Tensor:
    """Actions without noise: the means, which are the first half of what the network says."""
    return inputs[:, :inputs.shape[1] // 2]
