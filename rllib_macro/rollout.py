"""What one env runner hands to the learners: time-major arrays per agent type, no object per agent.

Axes: T period, B replica, N agents of a type in all replicas (replica slowest), D columns seen, H heads, L inputs of all heads,
M numbers remembered.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
from ray.rllib.core.learner.training_data import TrainingData
from torch import Tensor


@dataclass
class Trajectories:
    """What the agents of one type saw, did and got."""

    obs: Tensor  # (T, N, D) float32
    chosen: Tensor  # (T, N, H) int32 options, or float32 where a head is an interval
    logp: Tensor  # (T, N) joint log-probability of what was chosen
    rewards: Tensor  # (T, N) raw
    cut: Tensor  # (T, N) bool, the episode ended or was cut after this period
    penalty: Tensor | None  # (L,) or (T, N, L), added to the heads' inputs: what may not be chosen
    following_obs: Tensor | None  # (K, D) observations whose value continues a trajectory that did not end
    following_at: Tensor | None  # (K, 2) their period and agent
    memory: Tensor | None = None  # (sequences, N, M) remembered at the start of each of the equal sequences that the periods are cut into
    following_memory: Tensor | None = None  # (K, M) remembered when the following observations were seen

    def rows(self, low: int, high: int) -> Trajectories:
        """The agents low .. high - 1."""
        part = self._of(slice(low, high))
        if self.following_at is not None:
            inside = (self.following_at[:, 1] >= low) & (self.following_at[:, 1] < high)
            part |= self._followed(inside, self.following_at[inside] - self.following_at.new_tensor([0, low]))
        return replace(self, **part)

    def of_agent(self, number: int, count: int) -> Trajectories:
        """One agent of each replica, of types with `count` agents: N shrinks to the number of replicas."""
        part = self._of(slice(number, None, count))
        if self.following_at is not None:
            its = self.following_at[:, 1] % count == number
            part |= self._followed(its, torch.stack([self.following_at[its, 0], self.following_at[its, 1] // count], 1))
        return replace(self, **part)

    def _of(self, agents: slice) -> dict[str, Tensor]:
        """What these agents saw, did, got and remembered in the periods of the rollout."""
        kept = {name: getattr(self, name) for name in ("obs", "chosen", "logp", "rewards", "cut", "penalty", "memory")}
        return {name: x[:, agents] for name, x in kept.items() if x is not None and x.ndim > 1}

    def _followed(self, which: Tensor, at: Tensor) -> dict[str, Tensor]:
        """What comes after the periods of these (K,), now of the periods and agents `at`."""
        kept = {name: getattr(self, name) for name in ("following_obs", "following_memory")}
        return {name: x[which] for name, x in kept.items() if x is not None} | {"following_at": at}


@dataclass
class Rollout:
    """T periods of B replicas. `count` is the number of agents of each type in one replica."""

    types: dict[str, Trajectories]
    count: dict[str, int]
    replicas: int
    periods: int

    def env_steps(self) -> int:
        """Periods of all replicas."""
        return self.replicas * self.periods

    def agent_steps(self) -> int:
        """Decisions of all agents."""
        return self.env_steps() * sum(self.count.values())

    def shards(self, n: int) -> list[Rollout]:
        """n equal parts by replicas, so that every part holds every type and whole trajectories."""
        if n == 1:
            return [self]
        if self.replicas % n:
            raise ValueError(f"replicas ({self.replicas}) must be a multiple of num_learners ({n})")
        size = self.replicas // n
        return [Rollout({t: x.rows(i * size * self.count[t], (i + 1) * size * self.count[t]) for t, x in self.types.items()},
                        self.count, size, self.periods) for i in range(n)]


@dataclass
class RolloutData(TrainingData):
    """Rollouts of all runners in this process, or references to their shards: `references[runner][learner]`."""

    rollouts: list[Rollout] | None = None
    references: list[list[Any]] | None = None

    def validate(self) -> None:
        if (self.rollouts is None) == (self.references is None):
            raise ValueError("RolloutData holds either rollouts or references")

    def shard(self, num_shards: int, len_lookback_buffer: int | None = None, **kwargs: Any) -> list[tuple[RolloutData, dict]]:
        if self.references is not None:
            return [(replace(self, references=[[of[i]] for of in self.references]), {}) for i in range(num_shards)]
        parts = [rollout.shards(num_shards) for rollout in self.rollouts or []]
        return [(replace(self, rollouts=[of[i] for of in parts]), {}) for i in range(num_shards)]

    def solve_refs(self) -> None:
        if self.references is not None:
            self.rollouts = [ray.get(ref) for of in self.references for ref in of]
            self.references = None
