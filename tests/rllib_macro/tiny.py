"""A run small enough to train in a test: six consumers, three firms, everybody starts in the first three iterations."""
from __future__ import annotations

from pathlib import Path

import envs
from rllib_macro.config import RunConfig, check_against, from_text

TINY = """
economy: rbc
name: tiny
replicas: 4
params: {n_consumers: 6, n_firms: 3, horizon: 4, theta_factor: [[0, 0], [3, 1]]}
windows:
  firm.price: [[0, [1000, 1000]], [2, [0, 2500]]]
policies:
  consumer:
    agents_per_update: 4
    entropy: 0.01
    head_entropy: {hours: 3}
    network: {equivariant: {sees: [price, wage], moves: [demand, employer]}}
  firm: {train_from: 1, epochs: 3, reward_scale: 30000}
  government: {train_from: 2, minibatches: 2, reward_scale: 1000}
stop: {iterations: 4}
evaluation: {replicas: 4, seeds: [7]}
"""


def tiny(*overrides: str) -> RunConfig:
    """The tiny configuration, checked, with dotted overrides."""
    config = from_text(TINY, overrides)
    return check_against(config, envs.load(config.economy))


GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden"
