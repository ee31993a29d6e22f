"""One replica of an economy behind the dict interfaces of RLlib and PettingZoo, for stock algorithms, conformance tests and debugging.

`MacroEnv` plays exactly what `Batch` plays in the replica of the same number, bit for bit, at the price of a Python object per agent.
"""
from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.rllib.env.multi_agent_env import MultiAgentEnv

import envs
from envs.core.batch import Batch, with_values
from envs.core.choices import Masked, Product
from envs.core.economy import unknown
from rllib_macro.policies import agent_id, spaces

KEYS = ("economy", "params", "features", "seed", "replica", "windows", "rules", "backend", "illegal")
SPACING = 2**16  # replica numbers reserved for the environments of one env runner

Dict = dict[str, Any]


class MacroEnv(MultiAgentEnv):
    """One replica of an economy; all agents act in every period. Agents are called consumer_0, ..., `policy_of` gives their policies.

    Keys of `config`, all but the first optional:
      economy   a file of envs/ ("rbc") or an importable module
      params    {name: value}, differences from the kernel's Params
      features  view of the observations: scaled (default), raw, digits
      seed      of all randomness (default 0)
      replica   number of the replica, by which worlds of one seed differ; the default counts the environments of all env runners
      windows   {"firm.price": [low, high]}, legal ranges of choices in economic units
      rules     {"government": "fixed(income_tax=0.3)"}; types that follow a rule are not agents of the environment
      backend   auto (default), numpy or native
      illegal   what becomes of a choice that a window or the state forbids, since stock policies know no masks:
                clip (default) takes the nearest legal level instead, or does nothing where options have no order; error raises
                ValueError

    Rewards are in the economy's units, unscaled. A finite economy terminates at its horizon, an endless one is truncated; either way the
    observation returned with the last reward is the true final one. `reset(seed=...)` begins that seed's world anew; `reset()` begins the
    next episode of the present one. RLlib checks a new environment with `reset(seed=42)`, and 42 stays: seed with
    `AlgorithmConfig.debugging(seed=...)`, or set `disable_env_checking=True` to keep the seed of the config.
    """

    def __init__(self, config: Mapping[str, Any]):
        _check(config)
        self.config = dict(config)
        self.config.setdefault("replica", _replica(config))
        self.economy = envs.load(config["economy"])
        self.params = with_values(self.economy.defaults(), config.get("params") or {})
        self.batch = self._begin(config.get("seed") or 0)
        self.unseen = True  # whether an episode has begun that `reset` has not returned yet
        self.types = {t: [agent_id(t, i) for i in range(n)] for t, n in self.batch.count.items() if t not in self.batch.rules}
        self.possible_agents = [agent for agents in self.types.values() for agent in agents]
        self.agents = list(self.possible_agents)
        of_type = spaces(self.economy, self.params, self.batch.features)
        self.observation_spaces = {agent: of_type[t][0] for t, agents in self.types.items() for agent in agents}
        self.action_spaces = {agent: of_type[t][1] for t, agents in self.types.items() for agent in agents}
        super().__init__()

    def reset(self, *, seed: int | None = None, options: Dict | None = None) -> tuple[Dict, Dict]:
        """First observations of an episode, and empty infos."""
        super().reset(seed=seed)
        if seed is not None:
            self.batch = self._begin(seed)
        elif not self.unseen:
            self.batch.reset()
        self.unseen = False
        return self._observe(), {agent: {} for agent in self.possible_agents}

    def step(self, action_dict: Mapping[str, Any]) -> tuple[Dict, Dict, Dict, Dict, Dict]:
        """One period: observations, rewards, terminateds, truncateds, infos, each by agent."""
        rewards, done = self.batch.step({t: self._choices(t, action_dict) for t in self.types})
        over = self.unseen = bool(done[0])  # the batch begins the next episode by itself
        ended = dict.fromkeys((*self.possible_agents, "__all__"), over)
        goes_on = dict.fromkeys(ended, False)
        endless = self.economy.endless
        return (
            self._observe(self.batch.final if over else None),
            {agent: r for t, agents in self.types.items() for agent, r in zip(agents, rewards[t][0].tolist())},
            goes_on if endless else ended,
            ended if endless else goes_on,
            {agent: {} for agent in self.possible_agents},
        )

    def _begin(self, seed: int) -> Batch:
        """The replica of a seed before its first episode."""
        given = self.config
        batch = Batch(
            self.economy, self.params, seed=seed, first=given["replica"], keep_final=True, rules=given.get("rules"),
            features=given.get("features", "scaled"), backend=given.get("backend", "auto"),
        )
        batch.adjust(windows=given.get("windows"))
        return batch

    def _observe(self, final: Mapping[str, np.ndarray] | None = None) -> Dict:
        seen = final or {t: self.batch.observe(t) for t in self.types}
        return {agent: row for t, agents in self.types.items() for agent, row in zip(agents, seen[t][0])}

    def _choices(self, type_: str, actions: Mapping[str, Any]) -> np.ndarray:
        """Choices (1, agents, heads) as a Batch takes them, legal ones."""
        agents = self.types[type_]
        if any(agent not in actions for agent in agents):
            raise ValueError(f"step needs an action of {next(agent for agent in agents if agent not in actions)}; give one for every agent")
        given = [actions[agent] for agent in agents]
        rows = [np.hstack(parts) for parts in given] if isinstance(given[0], tuple) else given
        continuous = any(not head.options for head in self.batch.heads[type_])
        chosen = np.asarray(rows, np.float32 if continuous else np.int64).reshape(1, len(agents), -1)
        if continuous and not np.isfinite(chosen).all():
            raise ValueError(f"an action of {type_} is not finite; look for a policy whose weights are not")
        allowed = self._legalise(type_, chosen)
        if self.config.get("illegal") == "error" and (allowed != chosen).any():
            i, h = np.argwhere(allowed[0] != chosen[0])[0]
            choice = self.batch.heads[type_][h].choice
            raise ValueError(f"{agents[i]} chose {chosen[0, i, h]:g} for {choice} (head {h}), which is not legal now; choose "
                             f"{allowed[0, i, h]:g}, or set illegal=clip")
        return allowed

    def _legalise(self, type_: str, chosen: np.ndarray) -> np.ndarray:
        """The choices, each illegal one replaced by the nearest that is legal."""
        legal, start = self.batch.legal(type_), 0
        chosen = chosen.copy()
        for h, (head, places) in enumerate(self._grids[type_]):
            chosen[:, :, h] = chosen[:, :, h].clip(0, head.options - 1 if head.options else 1)
            if head.options and legal is not None:
                chosen[:, :, h] = _nearest(chosen[:, :, h].astype(np.int64), legal[..., start:start + head.options], places)
            start += head.options
        return chosen

    @functools.cached_property
    def _grids(self) -> dict[str, list[tuple[Any, np.ndarray]]]:
        """Every head with the places of its options on its grid, (options, factors)."""
        return {t: [(head, _places(choice, head)) for choice in agent.chooses for head in choice.heads(self.params)]
                for t, agent in self.economy.agents.items()}


def ParallelView(config: Mapping[str, Any]) -> Any:
    """A PettingZoo ParallelEnv over MacroEnv, made from the same config. Raises ImportError where PettingZoo is not installed."""
    return _parallel_class()(MacroEnv(config))


@functools.cache
def _parallel_class() -> type:
    try:
        from pettingzoo import ParallelEnv
    except ImportError:
        raise ImportError("ParallelView needs PettingZoo; pip install pettingzoo") from None

    class View(ParallelEnv):
        metadata = {"name": "rllib_macro", "render_modes": []}

        def __init__(self, env: MacroEnv):
            self.env = env
            self.possible_agents, self.agents = env.possible_agents, list(env.possible_agents)
            self.observation_spaces, self.action_spaces = env.observation_spaces, env.action_spaces

        def observation_space(self, agent: str) -> Any:
            return self.observation_spaces[agent]

        def action_space(self, agent: str) -> Any:
            return self.action_spaces[agent]

        def reset(self, seed: int | None = None, options: Dict | None = None) -> tuple[Dict, Dict]:
            self.agents = list(self.possible_agents)
            return self.env.reset(seed=seed, options=options)

        def step(self, actions: Mapping[str, Any]) -> tuple[Dict, Dict, Dict, Dict, Dict]:
            observations, rewards, terminated, truncated, infos = self.env.step(actions)
            if terminated.pop("__all__") | truncated.pop("__all__"):
                self.agents = []
            return observations, rewards, terminated, truncated, infos

    return View


def _check(config: Mapping[str, Any]) -> None:
    for key in config:
        if key not in KEYS:
            raise unknown("key", key, "the environment's config", KEYS)
    if "economy" not in config:
        raise ValueError('the environment needs an economy; add economy="rbc" to its config')
    if config.get("illegal", "clip") not in ("clip", "error"):
        raise ValueError(f"illegal must be clip or error, got {config['illegal']!r}")


def _replica(config: Any) -> int:
    """Number of the next environment of this env runner; RLlib gives them all one context, whose vector_index nothing else advances."""
    if not hasattr(config, "vector_index"):
        return 0
    config.vector_index += 1
    return (config.worker_index or 0) * SPACING + config.vector_index - 1


def _places(choice: Any, head: Any) -> np.ndarray:
    if isinstance(choice, Masked):  # options that have no order: the nearest to each is option 0, doing nothing
        places = np.eye(head.options, dtype=np.int64)
        places[0] = 0
        return places
    sizes = [factor.n for factor in choice.factors] if isinstance(choice, Product) else [head.options]
    return np.stack([axis.ravel() for axis in np.indices(sizes)], -1)


def _nearest(chosen: np.ndarray, legal: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Options (1, agents), the illegal ones replaced by the legal option fewest steps away on the grid, the lower of two."""
    if not legal.any(-1).all():
        raise ValueError("the windows and the state together leave an agent no option; widen the windows")
    distance = ((places[chosen][:, :, None, :] - places) ** 2).sum(-1)
    return np.where(legal, distance, np.iinfo(np.int64).max).argmin(-1)
