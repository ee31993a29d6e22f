"""What a sweep is: a run, the dotted keys of it that vary, how its trials are chosen and compared.

`load` reads a sweep's file and builds every trial's configuration, so that a mistake is one sentence before anything starts.
`tuning` plays what this describes, `ranking` makes its tables. `sweep_solvers` has sweeps over solvers instead of runs.
"""
from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationError

import envs
from rllib_macro import config as configs
from rllib_macro.config import ConfigError, Count, FolderName, Part, Positive, Real, RunConfig, Seed, Stop, check_against

Point = dict[str, Any]  # one trial: {"number": 3, "vary": {"policies.firm.clip": 0.1}, "seed": 0}

LEARNING = r"policies\.\w+\.(?!rule\b|network\b|train_|agents_per_update\b)\w+.*"  # keys that may change while a policy is copied
DIGITS = 4  # to which draws are rounded, so that a table can be read and typed in again


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] >= pair[1]:
        raise configs._must_be("[low, high] with low below high")
    return pair


def _distinct(values: tuple) -> tuple:
    if len(set(values)) < len(values):
        raise configs._must_be("a list without repetitions")
    return values


class Uniform(Part):
    """Draws between two numbers, everywhere equally dense."""

    uniform: Annotated[tuple[Real, Real], AfterValidator(_rising)] = Field(description="[low, high].")


class LogUniform(Part):
    """Draws between two positive numbers whose logarithms are equally dense everywhere."""

    loguniform: Annotated[tuple[Positive, Positive], AfterValidator(_rising)] = Field(description="[low, high].")


def _kind(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "<list>"
    if isinstance(value, Mapping | Part):
        return "<log>" if isinstance(value, LogUniform) or "loguniform" in dict(value) else "<uniform>"
    return None


AXIS = "a list of values, {uniform: [low, high]} or {loguniform: [low, high]}"
Axis = Annotated[
    Annotated[Annotated[tuple[Any, ...], Field(min_length=1)], Tag("<list>")]
    | Annotated[Uniform, Tag("<uniform>")]
    | Annotated[LogUniform, Tag("<log>")],
    Discriminator(_kind, custom_error_type="must_be", custom_error_message="must be {what}", custom_error_context={"what": AXIS}),
]


class Asha(Part):
    """Asynchronous successive halving: at each rung, trials worse than the best 1 / reduction of those before them stop."""

    grace: Count = Field(default=10, description="Iterations before the first rung.")
    reduction: Annotated[Real, Field(gt=1)] = Field(default=3.0, description="Iterations between rungs grow, and survivors shrink, so.")


class Pbt(Part):
    """Population-based training: the worst quarter goes on from copies of the best quarter, with its values perturbed."""

    every: Count = Field(default=10, description="Iterations between perturbations.")


class Resources(Part):
    """What trials get of the machine or cluster."""

    cpus_per_trial: Annotated[Real, Field(ge=0)] = Field(
        default=1.0, description="CPU cores of a trial's main process; those of its env runners and learners come on top."
    )
    max_concurrent: Count | None = Field(default=None, description="Trials at a time; null: as many as the CPUs and GPUs allow.")
    max_failures: Annotated[int, Field(strict=True, ge=0)] = Field(
        default=3, description="Times that a trial goes on from its newest checkpoint after a node or process died."
    )


class Comparison(Part):
    """What sweeps of runs and of solvers share: how many trials there are, and how they are compared."""

    beside: ClassVar[tuple[str, ...]]  # how columns begin that tables show beside the metric

    name: FolderName = Field(description="Name of the sweep, whose folder is runs/<name>; left out: the file's name without .yaml.")
    search: str
    vary: dict[str, Axis]
    seeds: Annotated[tuple[Seed, ...], AfterValidator(_distinct)] = Field(
        default=(0,), min_length=1, description="Seeds of every setting; they replace the seed of the run or of the method."
    )
    samples: Count = Field(default=8, description="All searches but grid: how many settings are drawn; each is tried with every seed.")
    metric: str
    mode: Literal["max", "min"]
    resources: Resources = Field(default=Resources(), description="What trials get of the machine or cluster.")

    def columns(self) -> list[str]:
        """Columns of tables that say what was varied."""
        return list(self.vary)


class Sweep(Comparison):
    """A sweep: the run that is varied, what varies, how trials are chosen and compared."""

    beside = ("reward/",)

    config: str = Field(description="Configuration of the run that is varied, relative to this file.")
    search: Literal["grid", "random", "asha", "pbt"] = Field(
        default="grid", description="All combinations; or `samples` draws: to their end, with weak ones stopped early, as a population."
    )
    vary: dict[str, Axis] = Field(
        min_length=1, description="Dotted key of the run -> values: " + AXIS + ". policies.*.clip is that of every type that learns; "
        "keys joined by commas get the same value."
    )
    set_: dict[str, Any] = Field(default={}, alias="set", description="Dotted key of the run -> value that all trials share; also with *.")
    stop: Stop | None = Field(default=None, description="When a trial ends; null: as the run says.")
    metric: str = Field(description="Column of progress.csv by which trials are ranked, such as reward/government.")
    mode: Literal["max", "min"] = Field(default="max", description="Whether large or small is good.")
    last: Count = Field(default=10, description="Iterations at the end of a trial over which results are averaged.")
    asha: Asha = Field(default=Asha(), description="search: asha.")
    pbt: Pbt = Field(default=Pbt(), description="search: pbt.")


class Plan(Protocol):
    """What is needed to play a sweep and to rank its trials."""

    @property
    def sweep(self) -> Comparison: ...

    @property
    def points(self) -> list[Point]: ...

    @property
    def last(self) -> int:
        """Rows at the end of a trial over which results are averaged."""

    def length(self, number: int) -> int:
        """Rows of a trial that was not stopped early."""


@dataclass(frozen=True)
class Design:
    """A sweep that was read and checked: the run that it varies, and its trials with their configurations."""

    sweep: Sweep
    run: RunConfig
    points: list[Point]
    runs: list[RunConfig]

    @property
    def last(self) -> int:
        return self.sweep.last

    def length(self, number: int) -> int:
        return self.runs[number].stop.iterations


def schema() -> dict[str, Any]:
    """JSON Schema of a sweep's file, over runs or over solvers, for editors that check and complete YAML."""
    from rllib_macro.sweep_solvers import SolverSweep
    kinds: list[dict[str, Any]] = [kind.model_json_schema(by_alias=True) for kind in (Sweep, SolverSweep)]
    parts: dict[str, Any] = {}
    for kind in kinds:
        kind["required"].remove("name")  # a file's name stands in for it
        parts |= kind.pop("$defs")
    return {"anyOf": kinds, "$defs": parts}


def own(override: str) -> bool:
    """Whether an override such as samples=4 changes the sweep itself; others change the run of all its trials."""
    return override.partition("=")[0].partition(".")[0] in _names()


def load(path: str | Path, overrides: Sequence[str] = ()) -> Design:
    """The sweep in a file, with overrides of its own keys (samples=4) or its run's (replicas=8); ConfigError names the first mistake."""
    path = Path(path)
    data = configs._read(path, ())
    for override in overrides:
        key, equals, text = override.partition("=")
        first, _, rest = (key if own(override) else f"set.{key}").partition(".")
        keys = [first, rest] if first in ("vary", "set") else key.split(".")
        if not (equals and all(keys)):
            raise ConfigError(f"an override must look like samples=4 or policies.firm.lr=1e-4, got {configs._show(override)}")
        data = configs._put(data, keys, configs._parse(text, f"the override {key}"))
    try:
        sweep = Sweep.model_validate({"name": path.stem} | data)
    except ValidationError as problem:
        raise ConfigError(configs._sentence(problem.errors()[0])) from None
    stop = {"stop.iterations": sweep.stop.iterations} if sweep.stop else {}
    plain = {key: value for key, value in (sweep.set_ | stop).items() if "*" not in key}
    run = configs.load(path.parent / sweep.config, [f"name={sweep.name}", *_assignments(plain, [])])
    types = _learners(configs.to_dict(check_against(run, envs.load(run.economy))))
    run = configs.load(path.parent / sweep.config, [f"name={sweep.name}", *_assignments(sweep.set_ | stop, types)])
    return design(sweep, check_against(run, envs.load(run.economy)))


def design(sweep: Sweep, run: RunConfig) -> Design:
    """All trials of a sweep over a run; ConfigError if one of them cannot be."""
    _check(sweep, run)
    points = [{"number": number, "vary": vary, "seed": seed}
              for number, (vary, seed) in enumerate(itertools.product(_settings(sweep), sweep.seeds))]
    base = configs.to_dict(run)
    return Design(sweep, run, points, [of_point(base, point) for point in points])


def of_point(base: Mapping[str, Any], point: Point) -> RunConfig:
    """A trial's configuration: the run's, as a dictionary, with the values and the seed of one point."""
    config = configs.from_dict(base, [*_assignments(point["vary"], _learners(base)), f"seed={point['seed']}"])
    return check_against(config, envs.load(config.economy))


def short(key: str) -> str:
    """A dotted key as a column's or a folder's name: policies.firm.clip -> firm.clip."""
    return ",".join(part.strip().removeprefix("policies.").removeprefix("params.") for part in key.split(","))


def _names() -> list[str]:
    return [field.alias or name for name, field in Sweep.model_fields.items()]


def _learners(run: Mapping[str, Any]) -> list[str]:
    return [type_ for type_, policy in run["policies"].items() if policy["rule"] is None]


def _assignments(values: Mapping[str, Any], types: Sequence[str]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for keys, value in values.items() for key in _keys(keys, types)]


def _keys(keys: str, types: Sequence[str]) -> Iterator[str]:
    """The dotted keys that one key of `vary` or `set` stands for: policies.*.clip, seed -> policies.firm.clip, ..., seed."""
    for key in map(str.strip, keys.split(",")):
        if "*" in key and not re.fullmatch(r"policies\.\*\.[^*]+", key):
            raise ConfigError(f"'{key}' is no key of a run: * stands for an agent type, as in policies.*.clip")
        yield from (key.replace("*", type_) for type_ in types) if "*" in key else [key]


def _settings(sweep: Comparison) -> Iterator[dict[str, Any]]:
    """{dotted key: value} of every setting; draws are the same on every machine, and more `samples` only add to them."""
    if sweep.search == "grid":
        for values in itertools.product(*sweep.vary.values()):
            yield dict(zip(sweep.vary, values))
        return
    rng = np.random.default_rng(0)
    for _ in range(sweep.samples):
        yield {key: _draw(axis, rng) for key, axis in sweep.vary.items()}


def _draw(axis: Any, rng: np.random.Generator) -> Any:
    if isinstance(axis, Uniform):
        return rounded(rng.uniform(*axis.uniform))
    if isinstance(axis, LogUniform):
        return rounded(np.exp(rng.uniform(*np.log(axis.loguniform))))
    return axis[rng.integers(len(axis))]


def rounded(value: float) -> float:
    """A drawn value as it is used and shown."""
    return float(f"{value:.{DIGITS}g}")


def _check(sweep: Sweep, run: RunConfig) -> None:
    types = _learners(configs.to_dict(run))
    varied = [key for keys in sweep.vary for key in _keys(keys, types)]
    fixed = [key for keys in sweep.set_ for key in _keys(keys, types)]
    for where, keys in (("vary", varied), ("set", fixed)):
        for key, advice in (("seed", "list the seeds under seeds: [0, 1]"), ("name", "the sweep has a name")):
            if key in keys:
                raise ConfigError(f"{where} cannot have '{key}'; {advice}")
    if twice := [key for key in dict.fromkeys(varied) if (varied + fixed).count(key) > 1]:
        raise ConfigError(f"'{twice[0]}' gets two values, in vary or in set; keep one of them")
    _check_axes(sweep)
    for key in varied if sweep.search == "pbt" else ():
        if not re.fullmatch(LEARNING, key):
            raise ConfigError(f"vary.{key} cannot be in a population, whose members copy each other's policies; "
                              "vary how policies learn, such as policies.firm.lr, or choose another search")
    for search, first in (("asha", sweep.asha.grace), ("pbt", sweep.pbt.every)):
        if sweep.search == search and first >= run.stop.iterations:
            key = "asha.grace" if search == "asha" else "pbt.every"
            raise ConfigError(f"{key} must be less than the {run.stop.iterations} iterations of a trial, got {first}")
    _check_metric(sweep.metric, run)


def _check_axes(sweep: Comparison) -> None:
    for key, axis in sweep.vary.items():
        if sweep.search == "grid" and not isinstance(axis, tuple):
            raise ConfigError(f"vary.{key} must be a list of values in a grid; or choose search: random")


def _check_metric(metric: str, run: RunConfig) -> None:
    economy = envs.load(run.economy)
    if metric.startswith("evaluation/") and not run.evaluation.every:
        raise ConfigError(f"metric {metric} needs evaluations during training; set evaluation.every")
    if metric.partition("/")[0] in ("learn", "param", "window", "time"):
        return
    known = [f"{kind}/{type_}" for kind in ("reward", "evaluation") for type_ in economy.agents]
    configs._require("column", metric, "metric", [*known, *(f"measure/{name}" for name in economy.measures)])
