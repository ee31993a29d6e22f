"""Which policy plays which agent, and the spaces of every agent type.

Agents are called consumer_0, consumer_1, ..., policies like the types: consumer, firm, ... This file alone knows both.
"""
from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
from gymnasium import spaces as gym

from envs.core.choices import Head
from envs.core.economy import Economy
from envs.core.features import Layout
from kernels.core.arrays import allocate


def policy_of(agent_id: str, *unused: Any, **unused_too: Any) -> str:
    """The policy, named like the type, that plays an agent: "central_bank_0" -> "central_bank". Serves as RLlib's policy_mapping_fn."""
    return agent_id.rpartition("_")[0]


def agent_id(type_: str, number: int) -> str:
    """Name of one agent of a type: ("central_bank", 0) -> "central_bank_0"."""
    return f"{type_}_{number}"


def spaces(economy: Economy, params: Any = None, features: str = "scaled") -> dict[str, tuple[gym.Space, gym.Space]]:
    """Observation and action space of every agent type. `params` are the kernel's Params, None for the economy's defaults."""
    p = params if params is not None else economy.defaults()
    state = allocate(economy.kernel.State, economy.kernel, p, 1)
    found: dict[str, tuple[gym.Space, gym.Space]] = {}
    for type_, agent in economy.agents.items():
        with np.errstate(all="ignore"):  # of a State of zeros only the shapes matter
            width = Layout(agent.sees, features, p, state, agent.number(p)).width
        heads = [head for choice in agent.chooses for head in choice.heads(p)]
        found[type_] = gym.Box(-np.inf, np.inf, (width,), np.float32), action_space(heads)
    return found


def action_space(heads: list[Head]) -> gym.Space:
    """Categorical heads are a MultiDiscrete (one alone a Discrete), intervals a Box of shares; where both occur a Tuple of such parts, in
    the order of the heads."""
    parts = [_part(list(alike)) for _, alike in groupby(heads, key=lambda head: head.options > 0)]
    return parts[0] if len(parts) == 1 else gym.Tuple(parts)


def _part(heads: list[Head]) -> gym.Space:
    if not heads[0].options:
        return gym.Box(0.0, 1.0, (len(heads),), np.float32)
    return gym.MultiDiscrete([head.options for head in heads]) if len(heads) > 1 else gym.Discrete(heads[0].options)
