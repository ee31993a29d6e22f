"""Play without learning: how trained policies fare beside untrained, random and idle ones while all others stay trained."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

import envs
from envs.core.economy import unknown
from rllib_macro.config import RunConfig
from rllib_macro.env_runner import fresh_player, make_batch, run_spaces
from rllib_macro.networks import MacroModule, model_config
from rllib_macro.run import RunError

BASELINES = ("untrained", "random", "idle")


def modules(config: RunConfig, weights: Mapping[str, Mapping[str, Tensor]] | None = None) -> dict[str, MacroModule]:
    """The run's policies for playing: with the given weights, or with those that training starts from."""
    batch, spaces = make_batch(config, 1), run_spaces(config)
    built: dict[str, MacroModule] = {}
    for type_, policy in config.policies.items():
        if policy.rule is None:
            module = MacroModule(observation_space=spaces[type_][0], action_space=spaces[type_][1],
                                 model_config=model_config(config, type_, batch.heads[type_], batch.layout[type_]))
            if weights is not None:
                _load(module, weights[type_], type_)
            built[type_] = module.to("cuda" if config.device == "cuda" else "cpu").eval()
    return built


def _load(module: MacroModule, weights: Mapping[str, Tensor], type_: str) -> None:
    """Put weights into a network; RunError if they are those of another one."""
    own = {name: tuple(x.shape) for name, x in module.state_dict().items()}
    given = {name: tuple(x.shape) for name, x in weights.items()}
    if own != given:
        name = min(name for name, _ in set(own.items()) ^ set(given.items()))
        raise RunError(f"the weights of {type_} are not those of its network: {name} is {given.get(name, 'missing')} instead of "
                       f"{own.get(name, 'absent')}; use those of this run")
    module.load_state_dict(weights)


@dataclass(frozen=True)
class Outcome:
    """Mean reward per agent and period of every type, and mean measures, one number for each seed."""

    rewards: dict[str, list[float]]
    measures: dict[str, list[float]]


def play(config: RunConfig, policies: Mapping[str, Any], rules: Mapping[str, str] | None = None, *, seeds: Sequence[int] | None = None,
         replicas: int | None = None, iteration: int | None = None, explore: bool = True) -> Outcome:
    """One episode of many fresh replicas for each seed, under the windows and Params of an iteration (the last if none is named).

    `rules` script types in place of their policies, with the rules' names: {"firm": "random"}.
    """
    played = scripted(config, rules or {})
    rewards: dict[str, list[float]] = {}
    measures: dict[str, list[float]] = {}
    for seed in config.evaluation.seeds if seeds is None else seeds:
        player = fresh_player(played, policies, replicas or config.evaluation.replicas, seed, iteration)
        _, means = player.play(player.batch.economy.periods(player.batch.p), 0, explore)
        for name, value in means.items():
            type_ = name.removeprefix("reward/")
            (rewards if name != type_ else measures).setdefault(type_, []).append(value)
    return Outcome(rewards, measures)


def scripted(config: RunConfig, rules: Mapping[str, str]) -> RunConfig:
    """The configuration with some types following rules; ValueError names an unknown type."""
    for type_ in rules.keys() - config.policies.keys():
        raise unknown("agent type", type_, config.economy, config.policies)
    policies = {t: p.model_copy(update={"rule": rules[t]}) if t in rules else p for t, p in config.policies.items()}
    return config.model_copy(update={"policies": policies})


def compare(config: RunConfig, trained: Mapping[str, MacroModule]) -> dict[str, Any]:
    """For each type its reward trained, and untrained, random and idle while the others stay trained: {type: {name: [per seed]}}.

    `measures` are those of trained play.
    """
    everybody = play(config, trained)
    untrained = modules(config)
    table: dict[str, dict[str, list[float]]] = {}
    for type_ in trained:
        table[type_] = {"trained": everybody.rewards[type_],
                        "untrained": play(config, {**trained, type_: untrained[type_]}).rewards[type_],
                        "random": play(config, trained, {type_: "random"}).rewards[type_]}
        if "idle" in envs.load(config.economy).rules.get(type_, {}):
            table[type_]["idle"] = play(config, trained, {type_: "idle"}).rewards[type_]
    return {"seeds": list(config.evaluation.seeds), "replicas": config.evaluation.replicas, "rewards": table,
            "measures": everybody.measures}


def beats(table: Mapping[str, Sequence[float]], baseline: str) -> bool:
    """Whether trained play earns more than a baseline on every seed."""
    return bool(np.all(np.array(table["trained"]) > np.array(table[baseline])))
