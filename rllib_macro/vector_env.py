"""An economy with one learning agent type behind Gymnasium's interfaces, for stock single-agent algorithms: many lanes, or one.

`MacroVectorEnv` plays a Batch: a lane is one agent of one replica, agents fastest. `LaneEnv` is the same with a single lane.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

import envs
from envs.core.batch import Batch, with_values
from envs.core.choices import Head
from envs.core.economy import unknown
from envs.core.features import Layout
from rllib_macro.policies import action_space

ENV = "rllib_macro_lanes"  # the name under which `register` makes the environment known to RLlib
KEYS = ("economy", "params", "features", "seed", "rules", "backend", "num_envs")

Dict = dict[str, Any]


class MacroVectorEnv(gym.vector.VectorEnv):
    """Lanes of one economy, replicas times agents, stepped as arrays.

    Keys of `config`, all but the first optional:
      economy   a file of envs/ ("growth") or an importable module
      num_envs  number of lanes, a multiple of the agents of a replica (default: one replica)
      params    {name: value}, differences from the Params of the economy
      features  view of the observations: scaled (default), raw, digits
      seed      of all randomness (default 0); `reset(seed=...)` begins that seed's worlds anew
      rules     {"government": "fixed(income_tax=0.3)"} for every type but the one that learns
      backend   auto (default), numpy or native

    Intervals are a Box between -1 and 1, the ends of the interval; categorical heads a Discrete or a MultiDiscrete. Economies of which the
    state forbids some choices are refused: stock policies know no masks. All lanes end together, at the horizon; the observation of that
    step is the final one, and the step after it ignores its actions and returns the first observations of the next episodes with reward 0
    (next-step reset). An endless economy is truncated there and never terminates.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}

    def __init__(self, config: Mapping[str, Any]):
        for key in config:
            if key not in KEYS:
                raise unknown("key", key, "the environment's config", KEYS)
        if "economy" not in config:
            raise ValueError('the environment needs an economy; add economy="growth" to its config')
        self.config = dict(config)
        self.economy = envs.load(config["economy"])
        self.params = with_values(self.economy.defaults(), config.get("params") or {})
        self.type = _learner(config, self.economy)
        self.agents = self.economy.agents[self.type].number(self.params)
        self.num_envs = config.get("num_envs") or self.agents
        if self.num_envs % self.agents:
            raise ValueError(f"num_envs must be a multiple of the {self.agents} agents of a replica, got {self.num_envs}")
        self.batch = self._begin(config.get("seed") or 0)
        self.heads = self.batch.heads[self.type]
        self.single_observation_space = gym.spaces.Box(-np.inf, np.inf, (self._layout.width,), np.float32)
        self.single_action_space = _box_or_discrete(self.heads, self.type)
        if self.batch.legal(self.type) is not None:
            raise ValueError(f"the state of {config['economy']} forbids some choices of {self.type}, which lanes cannot express; "
                             "use MacroEnv or the batched runner")
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.fresh = True  # whether an episode has begun of which nothing has been returned
        self.over = False  # whether the last step ended all episodes

    def reset(self, *, seed: int | None = None, options: Dict | None = None) -> tuple[np.ndarray, Dict]:
        """First observations (lanes, width) of new episodes in all lanes."""
        super().reset(seed=seed)
        if seed is not None:
            self.batch = self._begin(seed)
        elif not self.fresh:
            self.batch.reset()
        self.fresh = self.over = False
        return self._lanes(self.batch.observe(self.type)), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, Dict]:
        """One period: observations, rewards, terminated, truncated, each by lane, and an empty info."""
        ended = np.zeros(self.num_envs, bool)
        if self.over:
            self.fresh = self.over = False
            return self._lanes(self.batch.observe(self.type)), np.zeros(self.num_envs), ended, ended.copy(), {}
        rewards, done = self.batch.step({self.type: self._choices(actions)})
        self.over = self.fresh = bool(done.all())
        seen = self.batch.final[self.type] if self.batch.final else self.batch.observe(self.type)
        over = np.repeat(done, self.agents)
        terminated, truncated = (ended, over) if self.economy.endless else (over, ended)
        return self._lanes(seen), rewards[self.type].reshape(-1).astype(np.float64), terminated, truncated, {}

    @property
    def _layout(self) -> Layout:
        return self.batch.layout[self.type]

    def _begin(self, seed: int) -> Batch:
        """The replicas of a seed before their first episodes."""
        given = self.config
        return Batch(self.economy, self.params, self.num_envs // self.agents, seed=seed, rules=given.get("rules"), keep_final=True,
                     features=given.get("features", "scaled"), backend=given.get("backend", "auto"))

    def _lanes(self, seen: np.ndarray) -> np.ndarray:
        return seen.reshape(self.num_envs, -1)

    def _choices(self, actions: np.ndarray) -> np.ndarray:
        """Choices (B, agents, heads) as a Batch takes them."""
        given = np.asarray(actions)
        if isinstance(self.single_action_space, gym.spaces.Box):
            if not np.isfinite(given).all():
                raise ValueError(f"an action of {self.type} is not finite; look for a policy whose weights are not")
            given = (given.clip(-1.0, 1.0) + 1.0) / 2
        return given.reshape(-1, self.agents, len(self.heads))


class LaneEnv(gym.Env):
    """One lane of a MacroVectorEnv, made from the same config; the economy has one agent that learns."""

    metadata = {"render_modes": []}

    def __init__(self, config: Mapping[str, Any]):
        self.lanes = MacroVectorEnv(config)
        if self.lanes.num_envs != 1:
            raise ValueError(f"one lane needs an economy with one {self.lanes.type}, this has {self.lanes.agents}; use MacroVectorEnv")
        self.observation_space = self.lanes.single_observation_space
        self.action_space = self.lanes.single_action_space

    def reset(self, *, seed: int | None = None, options: Dict | None = None) -> tuple[np.ndarray, Dict]:
        super().reset(seed=seed)
        seen, _ = self.lanes.reset(seed=seed)
        return seen[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, Dict]:
        seen, rewards, terminated, truncated, _ = self.lanes.step(np.asarray(action)[None])
        return seen[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), {}


def make(config: Mapping[str, Any]) -> gym.Env | gym.vector.VectorEnv:
    """What RLlib asks for: lanes where the config has `num_envs` (gym_env_vectorize_mode="vector_entry_point"), else one lane.

    The environments of different env runners play different worlds.
    """
    given = dict(config)
    given["seed"] = (given.get("seed") or 0) + 1000 * (getattr(config, "worker_index", 0) or 0)
    return MacroVectorEnv(given) if "num_envs" in given else LaneEnv(given)


def register() -> str:
    """Make the environment known to RLlib; returns its name."""
    from ray.tune.registry import register_env

    register_env(ENV, make)
    return ENV


def _learner(config: Mapping[str, Any], economy: Any) -> str:
    """The one agent type that no rule scripts."""
    learners = [type_ for type_ in economy.agents if type_ not in (config.get("rules") or {})]
    if len(learners) != 1:
        raise ValueError(f"lanes are agents of one type, but {', '.join(learners) or 'none'} would learn in {config['economy']}; "
                         "give rules to all types but one")
    return learners[0]


def _box_or_discrete(heads: list[Head], type_: str) -> gym.Space:
    """A Box between -1 and 1 for intervals, else what policies.action_space says."""
    kinds = {head.options > 0 for head in heads}
    if len(kinds) > 1:
        raise ValueError(f"{type_} has intervals and categorical choices, for which stock algorithms have no action space; use MacroEnv")
    return action_space(heads) if kinds.pop() else gym.spaces.Box(-1.0, 1.0, (len(heads),), np.float32)
