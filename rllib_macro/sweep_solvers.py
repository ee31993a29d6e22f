"""Sweeps over solvers of growth models: which method, with which of its settings, comes how close to the truth, for how many CPU seconds.

A sweep's file has `solve: {model: ...}` where a sweep over runs has `config: ...`. Every trial is one solution, with the files of `tuning`:
rows of its progress.csv, which TensorBoard shows, are the evaluations on the way, where the method makes some, and at the end what
`solve growth` says of the policy.
"""
from __future__ import annotations

import inspect
import itertools
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from ray import tune

from kernels import growth
from rllib_macro import config as configs
from rllib_macro import diagnostics, tuning
from rllib_macro import solve as solving
from rllib_macro import sweep as sweeping
from rllib_macro.config import ConfigError, Part
from rllib_macro.run import RunError, flat
from rllib_macro.solvers.policy import Policy
from rllib_macro.sweep import AXIS, Axis, Comparison, Point

METRIC = "log10_mean_euler_error_box"
PATH = ("cpu_seconds", METRIC, "policy_distance_mean", "env_steps")  # what rows of a path hold; some methods have the first two
DRAWN = (*(f"log10_{kind}_euler_error_ergodic" for kind in ("mean", "max")), "legacy_euler")  # known where a chain can be drawn
METRICS = ("cpu_seconds", *(f"log10_{kind}_euler_error_{where}" for where in diagnostics.SETS for kind in ("mean", "max")),
           "policy_distance_mean", "policy_distance_max", "legacy_euler", "median_of_last_10", "distance_of_last_10", "best", "worst")
BUNDLE = "solver"  # key of `vary` whose values are several settings each


class Solve(Part):
    """What is solved."""

    model: str = Field(description="A growth model that `solve growth --list` prints.")
    method: str | None = Field(default=None, description="The method of all trials; null: vary says it.")


class SolverSweep(Comparison):
    """A sweep over solvers: the model, what varies, how trials are chosen and compared."""

    beside = ("policy_distance_mean", "cpu_seconds")

    solve: Solve = Field(description="What is solved.")
    search: Literal["grid", "random"] = Field(default="grid", description="All combinations, or `samples` draws.")
    vary: dict[str, Axis] = Field(
        min_length=1, description="method, a setting of the method, or a Param of the model -> values: " + AXIS + f". Values of {BUNDLE} "
        "are several settings each: [{method: td3, steps: 20000}, {method: ppo, steps: 130000}]."
    )
    set_: dict[str, Any] = Field(default={}, alias="set", description="Setting or Param -> value that all trials share.")
    metric: str = Field(default=METRIC, description="By which trials are ranked: a number that `solve growth --json` prints.")
    mode: Literal["max", "min"] = Field(default="min", description="Whether large or small is good.")

    def columns(self) -> list[str]:
        """Columns of tables that say what was varied, each setting of a bundle in its own."""
        return list(dict.fromkeys(key for axis, values in self.vary.items()
                                  for key in ((name for value in values for name in value) if axis == BUNDLE else [axis])))


@dataclass(frozen=True)
class SolverDesign:
    """A sweep over solvers that was read and checked, and its trials."""

    sweep: SolverSweep
    points: list[Point]

    last: ClassVar[int] = 1  # what the policy is in the end counts

    def length(self, number: int) -> int:
        return 0


# --- reading ----------------------------------------------------------------------------------------------------------


def is_one(path: Path) -> bool:
    """Whether a sweep's file is about solvers."""
    return "solve" in configs._read(path, ())


def load(path: str | Path, overrides: Sequence[str] = ()) -> SolverDesign:
    """The sweep in a file, with overrides of its own keys (seeds=[0]) or settings for all trials (batch=128); ConfigError names the first
    mistake."""
    path = Path(path)
    data = configs._read(path, ())
    known = [field.alias or name for name, field in SolverSweep.model_fields.items()]
    for override in overrides:
        key, equals, text = override.partition("=")
        keys = (key if key.partition(".")[0] in known else f"set.{key}").split(".", 1)
        if not (equals and all(keys)):
            raise ConfigError(f"an override must look like seeds=[0] or batch=128, got {configs._show(override)}")
        data = configs._put(data, keys, configs._parse(text, f"the override {key}"))
    try:
        sweep = SolverSweep.model_validate({"name": path.stem} | data)
    except ValidationError as problem:
        raise ConfigError(configs._sentence(problem.errors()[0])) from None
    return design(sweep)


def design(sweep: SolverSweep) -> SolverDesign:
    """All trials of a sweep; ConfigError if one of them cannot be."""
    try:
        _check(sweep)
        points = []
        for setting in sweeping._settings(sweep):
            vary = {key: value for key, value in setting.items() if key != BUNDLE} | dict(setting.get(BUNDLE, {}))
            prepared(sweep, vary, sweep.seeds[0])
            points += [(vary, seed) for seed in sweep.seeds]
    except ConfigError:
        raise
    except ValueError as problem:
        raise ConfigError(str(problem)) from None
    return SolverDesign(sweep, [{"number": number, "vary": vary, "seed": seed} for number, (vary, seed) in enumerate(points)])


def prepared(sweep: SolverSweep, vary: Mapping[str, Any], seed: int) -> tuple[growth.Params, Callable[..., Policy], dict[str, Any]]:
    """Params, solver and its settings for one trial; ValueError if they do not fit each other."""
    settings = {"method": sweep.solve.method} | sweep.set_ | dict(vary)
    method = settings.pop("method")
    p, solver, chosen = solving.prepared(sweep.solve.model, method, [f"{key}={yaml.safe_dump(value, default_flow_style=True)}"
                                                                     for key, value in settings.items()])
    hints, parameters = typing.get_type_hints(solver), inspect.signature(solver).parameters
    for key, value in chosen.items():
        try:
            TypeAdapter(hints[key], config=ConfigDict(strict=True)).validate_python(value)
        except ValidationError as problem:
            raise ConfigError(configs._sentence(problem.errors()[0] | {"loc": (f"{key} of {method}",)})) from None
    budget = {key: chosen.get(key, parameters[key].default) for key in ("seconds", "steps") if key in parameters}
    for key, value in budget.items():
        if value is not None and value <= 0:
            raise ConfigError(f"{key} of {method} must be greater than 0, got {value}")
    if len(budget) == 2 and not any(budget.values()):
        raise ConfigError(f"{method} needs a budget; give seconds, steps or both")
    return p, solver, chosen | {"seed": seed}


def _check(sweep: SolverSweep) -> None:
    p = solving.model(sweep.solve.model)
    if not isinstance(p, growth.Params):
        fitting = [name for name, make in solving.MODELS.items() if isinstance(make(), growth.Params)]
        raise ConfigError(f"solve.model {sweep.solve.model} has no Euler errors to compare solvers by; choose one of {', '.join(fitting)}")
    sweeping._check_axes(sweep)
    bundles = sweep.vary.get(BUNDLE, ())
    if not isinstance(bundles, tuple) or not all(isinstance(bundle, Mapping) for bundle in bundles):
        raise ConfigError(f"vary.{BUNDLE} must be a list of settings such as {{method: td3, steps: 20000}}, got {configs._show(bundles)}")
    places = [("vary", [key for key in sweep.vary if key != BUNDLE]), (f"vary.{BUNDLE}", list(dict.fromkeys(itertools.chain(*bundles)))),
              ("set", list(sweep.set_)), ("solve", ["method"] if sweep.solve.method else [])]
    seen: dict[str, str] = {}
    for where, keys in places:
        for key in keys:
            if key.removeprefix("params.") == "seed":
                raise ConfigError(f"{where} cannot have 'seed'; list the seeds under seeds: [0, 1]")
            if before := seen.get(key):
                raise ConfigError(f"'{key}' gets two values, in {before} and in {where}; keep one of them")
            seen[key] = where
    if "method" not in seen or (seen["method"] == f"vary.{BUNDLE}" and not all("method" in bundle for bundle in bundles)):
        raise ConfigError(f"every trial needs a method; say it under solve, in vary or in every entry of vary.{BUNDLE}")
    configs._require("number", sweep.metric, "metric", METRICS)
    if sweep.metric in DRAWN and not solving._sampled(p):
        raise ConfigError(f"metric {sweep.metric} needs a chain, which {sweep.solve.model} has not; use {METRIC}")


# --- playing ----------------------------------------------------------------------------------------------------------


def start(found: SolverDesign, root: str | Path = "runs", watch: tuning.Watch | None = None) -> tuning.Results:
    """Solve everything in a new sweep's folder root/<name>; RunError if it exists or a trial needs more than the machine has."""
    path = Path(root).resolve() / found.sweep.name
    if path.exists():
        raise RunError(f"{Path(root) / found.sweep.name} exists already; choose another name=..., or go on with it: sweep ... --resume")
    with tuning.ray_for(len(found.points)):
        tuning.require({"CPU": found.sweep.resources.cpus_per_trial})
        tuning.make_folder(path, {"sweep.yaml": tuning.asked_for(found.sweep)})
        return tuning._fit(found, path, _tuner(found, path), watch)


def resume(found: SolverDesign, root: str | Path = "runs", watch: tuning.Watch | None = None) -> tuning.Results:
    """Go on with a sweep that was interrupted: trials that have not ended begin anew. Unpickles Tune's files: only for folders that this
    machine wrote."""
    path = Path(root).resolve() / found.sweep.name
    if not (path / "sweep.yaml").is_file():
        raise RunError(f"{Path(root) / found.sweep.name} is not a sweep's folder: it has no sweep.yaml; start the sweep without --resume")
    if not is_one(path / "sweep.yaml") or load(path / "sweep.yaml").sweep != found.sweep:
        raise RunError(f"{Path(root) / found.sweep.name} was started with other settings (its sweep.yaml); a sweep goes on with its "
                       "own: undo the change, or choose another name=...")
    with tuning.ray_for(len(found.points)):
        return tuning._fit(found, path, tuning.restored(path, _trainable(found)) or _tuner(found, path), watch)


def trial(config: dict[str, Any]) -> None:
    """One solution, reported to Tune row by row. Tune's config: {"sweep": the sweep as a dictionary, "point", "moves": False}."""
    sweep, point = SolverSweep.model_validate(config["sweep"]), config["point"]
    try:
        p, solver, chosen = prepared(sweep, point["vary"], point["seed"])
        policy = solver(p, **chosen)
        rows = rows_of(policy)
    except (ValueError, ArithmeticError, RuntimeError) as error:  # of this trial alone; the others go on
        tune.report({"failure": " ".join(str(error).split())})
        return
    for row in rows:
        tune.report({"row": row})


class Recorder(tuning.Recorder):
    """Records solutions as runs are recorded."""

    compared = ("log10_", *SolverSweep.beside)

    def describe(self, config: dict[str, Any], folder: Path) -> None:
        """Nothing: params.json and the sweep's own file say it all."""


def rows_of(policy: Policy) -> list[dict[str, Any]]:
    """The policy's path as rows, and what is told of it in the end."""
    told = solving.told(policy)
    rows = [dict(zip(PATH, map(float, row))) for row in told.pop("path", ())]
    rows.append({name: value for name, value in flat(told) if name != "seed"})
    return [{"iteration": number} | row for number, row in enumerate(rows, 1)]


def _trainable(found: SolverDesign) -> Any:
    return tune.with_resources(trial, {"cpu": found.sweep.resources.cpus_per_trial})


def _tuner(found: SolverDesign, path: Path) -> tune.Tuner:
    sweep = found.sweep
    return tune.Tuner(
        _trainable(found),
        param_space={"sweep": sweep.model_dump(mode="json", by_alias=True), "point": tune.grid_search(found.points), "moves": False},
        tune_config=tune.TuneConfig(max_concurrent_trials=sweep.resources.max_concurrent, reuse_actors=True,
                                    trial_name_creator=tuning.folder_name, trial_dirname_creator=tuning.folder_name),
        run_config=tune.RunConfig(name=path.name, storage_path=str(path.parent), callbacks=[Recorder()], verbose=0,
                                  failure_config=tune.FailureConfig(max_failures=sweep.resources.max_failures)))
