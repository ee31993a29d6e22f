"""What an experiment is done with: a run, whose policies play, or an economy, whose types follow their rule `scripted`."""
from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import envs
from envs.core.economy import Economy
from rllib_macro import evaluate
from rllib_macro.config import Policy, RunConfig, check_against, from_dict, load, to_dict
from rllib_macro.run import Run, RunError
from rllib_macro.terminal import CONFIGS, spelled_out

SCRIPTED = "scripted"


@dataclass(frozen=True)
class Subject:
    """Who plays: a checked configuration, the policies of the types that no rule plays, and the run they are from, if they are from one."""

    config: RunConfig
    policies: Mapping[str, Any]
    run: Run | None = None


def subject(name: str, settings: Sequence[str] = (), checkpoint: int | None = None) -> Subject:
    """The run in a folder, or an economy where there is no such folder, with key=value settings; ValueError says what is wrong.

    A type of an economy whose rule is set to null plays with the network that training would start from.
    """
    if is_run(name):
        run = Run.open(name)
        config = changed(run.config, settings)
        return Subject(config, evaluate.modules(config, run.weights(checkpoint)), run)
    config = scripted(name, settings)
    return Subject(config, _policies(config))


def for_type(name: str, type_: str, settings: Sequence[str] = (), checkpoint: int | None = None) -> Subject:
    """The same where one type is looked at: an economy is then that of the configuration in which this type learns, if there is one."""
    file = None if is_run(name) else learner(name, type_)
    if file is None:
        return subject(name, settings, checkpoint)
    config = check_against(load(file, spelled_out(settings, name)), _economy(name))
    others = {other: policy if other != type_ else Policy(rule="random") for other, policy in config.policies.items()}
    return Subject(config, _policies(config.model_copy(update={"policies": others})))


def is_run(name: str) -> bool:
    """Whether a name is that of a run's folder."""
    return (Path(name) / "config.yaml").is_file()


def changed(config: RunConfig, settings: Sequence[str]) -> RunConfig:
    """A configuration with settings, in which a Param may stand without `params.`; ConfigError where they do not fit."""
    if not settings:
        return config
    return check_against(from_dict(to_dict(config), spelled_out(settings, config.economy)), envs.load(config.economy))


def scripted(name: str, settings: Sequence[str] = ()) -> RunConfig:
    """The configuration of an economy all of whose types are scripted, unless the settings say otherwise."""
    economy = _economy(name)
    told = spelled_out(settings, name)
    lacking = [type_ for type_ in economy.agents if SCRIPTED not in economy.rules.get(type_, {})
               and not any(setting.startswith(f"policies.{type_}.rule=") for setting in told)]
    if lacking:
        raise RunError(f"{name} has no script for {', '.join(lacking)}: give a run's folder, or say what they do, such as "
                       f"policies.{lacking[0]}.rule=random")
    policies = {type_: {"rule": SCRIPTED} for type_ in economy.agents if type_ not in lacking}
    return check_against(from_dict({"economy": name, "policies": policies}, told), economy)


def learner(economy: str, type_: str) -> Path | None:
    """The configuration in which one type of an economy learns while the others are scripted: tune_configs/<economy>_<type>.yaml."""
    file = CONFIGS / f"{economy}_{type_}.yaml"
    return file if file.is_file() else None


def _policies(config: RunConfig) -> dict[str, Any]:
    """Networks as training would start from, of the types that no rule plays."""
    return dict(evaluate.modules(config)) if any(policy.rule is None for policy in config.policies.values()) else {}


def _economy(name: str) -> Economy:
    try:
        return envs.load(from_dict({"economy": name}).economy)
    except ValueError as error:
        if "/" in name or Path(name).exists():
            raise RunError(f"{name} is not a run folder: it has no config.yaml; give the path of one, or an economy, "
                           f"one of {', '.join(envs.names())}") from None
        near = difflib.get_close_matches(name, envs.names(), 1)
        raise RunError(f"there is no run or economy {name!r}; did you mean {near[0]!r}?" if near else str(error)) from None
