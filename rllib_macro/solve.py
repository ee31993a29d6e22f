"""Models with known or computable solutions, the methods that solve them, and what is told about a solution.

A method is a file of rllib_macro/solvers with a function `solve(p, *, ...) -> Policy`; its keyword arguments are its settings.
"""
from __future__ import annotations

import difflib
import importlib
import inspect
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from envs.core.economy import unknown
from kernels import growth, incomplete_markets
from kernels.core.arrays import adjust
from rllib_macro import diagnostics, households
from rllib_macro.solvers.policy import Policy

END = "\n...\n"  # what YAML writes after a number or a word that stands alone
FOLDER = Path(__file__).parent / "solvers"
MODELS: dict[str, Callable[[], Any]] = {
    name.replace("_", "-"): make for name, make in (growth.MODELS | incomplete_markets.MODELS).items()}
OWN = {"aiyagari": "aiyagari", "krusell-smith": "krusell-smith"}  # model -> its method, where egm is not meant


def methods() -> list[str]:
    """Names of the methods: files of the folder that define `solve`."""
    return sorted(file.stem.replace("_", "-") for file in FOLDER.glob("*.py") if "\ndef solve(" in file.read_text(encoding="utf-8"))


def method(name: str) -> Callable[..., Policy]:
    """The function that solves by a method; ValueError names the nearest one."""
    name = name.replace("_", "-")
    if name not in methods():
        raise unknown("method", name, "solve", methods())
    return importlib.import_module(f"rllib_macro.solvers.{name.replace('-', '_')}").solve


def model(name: str) -> Any:
    """The Params of a model; ValueError names the nearest one."""
    name = name.replace("_", "-")
    if name not in MODELS:
        raise unknown("model", name, "solve", MODELS)
    return MODELS[name]()


def suits(solver: Callable[..., Policy], p: Any) -> bool:
    """Whether a method takes Params of this kind."""
    return isinstance(p, typing.get_type_hints(solver)["p"])


def prepared(model_name: str, method_name: str, settings: Sequence[str]) -> tuple[Any, Callable[..., Policy], dict[str, Any]]:
    """Params, solver and its settings from KEY=VALUE texts; a key is a setting of the method or a Param, with or without `params.`."""
    p, solver = model(model_name), method(method_name)
    if not suits(solver, p):
        fitting = [name for name in methods() if suits(method(name), p)]
        raise ValueError(f"method {method_name} does not fit model {model_name}; choose one of {', '.join(fitting)}")
    own = {name: parameter for name, parameter in inspect.signature(solver).parameters.items() if parameter.kind == parameter.KEYWORD_ONLY}
    params, chosen = {}, {}
    for text in settings:
        key, equals, value = text.partition("=")
        key = key.removeprefix("params.")
        if not equals:
            raise ValueError(f"a setting must look like KEY=VALUE, got {text!r}")
        if key in own:
            chosen[key] = _setting(key, value, typing.get_type_hints(solver)[key])
        elif hasattr(p, key):
            params[key] = _number(key, value, getattr(p, key))
        else:
            known = [*own, *vars(p)]
            near = difflib.get_close_matches(key, known, 1)
            raise ValueError(f"unknown setting {key!r} of {method_name}; " +
                             (f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(known)}"))
    p = adjust(p, **params)
    importlib.import_module(type(p).__module__).validate(p)
    return p, solver, chosen


def _setting(key: str, text: str, kind: Any) -> Any:
    """A setting as the method's annotation wants it."""
    try:
        return TypeAdapter(kind).validate_python(yaml.safe_load(text))
    except ValidationError as error:
        wanted = error.errors()[0]["msg"].removeprefix("Input should be ").replace("an instance of Sequence", "a list such as [1, 2]")
        raise ValueError(f"{key} should be {wanted}, got {text.removesuffix(END)!r}") from None


def _number(key: str, text: str, default: Any) -> Any:
    value = yaml.safe_load(text)
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(number, int | float) for number in value):
            raise ValueError(f"params.{key} must be a list of numbers such as [0.9, 1.0], got {text!r}")
    elif not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"params.{key} must be a number, got {text!r}")
    return value


def told(policy: Policy) -> dict[str, Any]:
    """What is said of a solution: CPU seconds, what the method has to tell, and Euler errors on every set that the model allows."""
    found: dict[str, Any] = {"method": policy.method, "cpu_seconds": policy.seconds, **policy.facts}
    return found | (judged(policy) if isinstance(policy.p, growth.Params) else households.euler_errors(policy).facts())


def judged(policy: Policy) -> dict[str, Any]:
    """Euler errors on box, core and ergodic set, distance to the reference policy, and the statistic of older tables."""
    from rllib_macro.solvers.egm import reference
    found: dict[str, Any] = {}
    for where in diagnostics.SETS if _sampled(policy.p) else diagnostics.SETS[:2]:
        errors = diagnostics.euler_errors(policy.p, policy.share, where)
        found |= {f"log10_mean_euler_error_{where}": errors.mean, f"log10_max_euler_error_{where}": errors.max}
    try:
        best = reference(policy.p).share
    except ValueError as problem:
        found["reference"] = str(problem)
    else:
        found["policy_distance_mean"], found["policy_distance_max"] = diagnostics.policy_distance(policy.p, policy.share, best)
    if _sampled(policy.p):
        found["legacy_euler"] = diagnostics.legacy_euler(policy.p, policy.share)
    return found


def _sampled(p: Any) -> bool:
    """Whether a chain can be drawn from the transition weights."""
    try:
        growth.validate(p, sampled=True)
    except ValueError:
        return False
    return True


def keep(policy: Policy, about: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write what is told, the policy on its box and figures into a new folder; the files."""
    folder.mkdir(parents=True)
    files = [folder / "solution.json"]
    files[0].write_text(json.dumps(about, indent=1, default=float), encoding="utf-8")
    if isinstance(policy.p, growth.Params):
        from rllib_macro import plots_growth
        at = diagnostics.states(policy.p, "box")
        share = at.of(policy.share)
        files.append(folder / "policy.npz")
        np.savez_compressed(files[-1], capital=at.k, productivity=at.z, depreciation=at.d, saving=share,
                            consumption=(1 - share) * growth.resources(policy.p, at.k, at.z, at.d))
        return files + plots_growth.draw(policy, folder)
    from rllib_macro import plots_households
    return files + plots_households.draw(policy, folder)
