"""Playing a sweep: every trial is a MacroPPO under Ray Tune, recorded as `train` records a run, ranked in one table at the end.

A sweep is a folder in Tune's layout; `start` makes a new one, `resume` goes on with one.

    sweep.yaml  run.yaml             what was asked for: the sweep, and the run that it varies
    000_firm.clip=0.1_seed=0/        a trial: config.yaml params.json, progress.csv result.json events.out.tfevents.* as of a run,
                                     checkpoint_000000/ ... Tune's; once it has ended, checkpoints/ and policies/: it opens as a run
    results.csv  summary.csv         one row for each trial, one for each setting, the best first
    tuner.pkl  experiment_state-*    Tune's memory, pickled: `resume` trusts only folders that this machine wrote
"""
from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas
import ray
import yaml
from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, PopulationBasedTraining, TrialScheduler
from safetensors.numpy import save_file
from tensorboardX.summary import hparams

from rllib_macro import config as configs
from rllib_macro import train
from rllib_macro.config import RunConfig
from rllib_macro.learner import NonFiniteLoss
from rllib_macro.ranking import ranked, row_of_trial, scalars, summary
from rllib_macro.run import Progress, RunError
from rllib_macro.store import load_tree
from rllib_macro.sweep import Comparison, Design, LogUniform, Plan, Point, Uniform, load, of_point, rounded, short

Watch = Callable[[Point, dict[str, float], bool], None]  # called with a trial, its newest row, and whether it has ended

TRUST = "a sweep resumes from Tune's own pickled files, which can run code: resume only folders that this machine wrote"
SETTINGS = {  # of Tune; what the user's environment says wins
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the Recorder writes the files
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a column may be missing in some iterations
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # modules beside the user's files stay importable
    "RAY_AIR_NEW_OUTPUT": "0",  # the older output can be silenced
}


# --- trials -----------------------------------------------------------------------------------------------------------


class Trial(tune.Trainable):
    """A MacroPPO with one point's values. Tune's config: {"run": the run as a dictionary, "point", "metric", "last", "cpus"}."""

    def setup(self, config: dict[str, Any]) -> None:
        self.stack = contextlib.ExitStack()
        self.run_config = of_point(config["run"], config["point"])
        self.algorithm = self.stack.enter_context(train.algorithm(self.run_config))
        self.metric, self.recent = config["metric"], deque[float](maxlen=config["last"])
        self.started = time.perf_counter()

    def step(self) -> dict[str, Any]:
        """One iteration: its row, as of a run, and `score`, the mean of the metric's newest values, which schedulers compare."""
        try:
            row = train.iterate(self.algorithm, self.run_config, self.started)
        except NonFiniteLoss as error:
            return {"failure": str(error), "done": True}
        if self.metric in row:
            self.recent.append(row[self.metric])
        score = {"score": float(np.mean(self.recent))} if self.recent else {}
        return {"row": row, "done": row["iteration"] >= self.run_config.stop.iterations} | score

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self.algorithm.save_checkpoint(checkpoint_dir)

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        self.algorithm.load_checkpoint(checkpoint_dir)

    def cleanup(self) -> None:
        self.stack.close()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Become another trial in the same process, whose start costs more than a short trial."""
        self.cleanup()
        self.setup(new_config)
        return True

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> Any:
        """What the trial's processes need: the main one, and RLlib's request for env runners, learners and GPUs."""
        from rllib_macro.algorithm import MacroPPO, algorithm_config
        wanted = algorithm_config(of_point(config["run"], config["point"])).resources(num_cpus_for_main_process=config["cpus"])
        return MacroPPO.default_resource_request(wanted.to_dict())


class Recorder(tune.Callback):
    """Writes what trials report as `train` writes a run, in the process that drives the sweep; TensorBoard's HParams included."""

    watch: ClassVar[Watch | None] = None  # not part of an instance, which Tune pickles
    compared: ClassVar[tuple[str, ...]] = ("reward/", "measure/", "evaluation/")  # how columns begin that HParams shows

    def __init__(self) -> None:
        self.logs: dict[str, Progress] = {}
        self.rows: dict[str, dict[str, float]] = {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._close(trial)
        folder = Path(trial.path)
        folder.mkdir(parents=True, exist_ok=True)
        self.describe(trial.config, folder)
        (folder / "params.json").write_text(json.dumps(trial.config["point"], indent=1))

    def describe(self, config: dict[str, Any], folder: Path) -> None:
        """Write what the trial does."""
        (folder / "config.yaml").write_text(configs.to_yaml(of_point(config["run"], config["point"])))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        if "row" not in result:
            return
        row, key = result["row"], trial.trial_id
        if key not in self.logs or self.rows[key]["iteration"] + 1 != row["iteration"]:  # the first row, or the first after a restart
            self._close(trial)
            self.logs[key] = Progress(Path(trial.path), after=row["iteration"] - 1)
        self.logs[key].write(row)
        self.rows[key] = row
        self._tell(trial, False)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        if trial.trial_id in self.logs:
            point, row = trial.config["point"], self.rows[trial.trial_id]
            economic = {name: value for name, value in row.items() if name.startswith(self.compared)}
            for part in hparams(scalars(point["vary"]) | {"seed": point["seed"]}, economic):
                self.logs[trial.trial_id].events.file_writer.add_summary(part)
        self._tell(trial, True)
        self._close(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._tell(trial, True)
        self._close(trial)

    def _tell(self, trial: Any, ended: bool) -> None:
        if Recorder.watch:
            Recorder.watch(trial.config["point"], self.rows.get(trial.trial_id, {}), ended)

    def _close(self, trial: Any) -> None:
        if trial.trial_id in self.logs:
            self.logs.pop(trial.trial_id).close()


class Population(PopulationBasedTraining):
    """Tune's, with two changes: a member keeps its own number and seed, and perturbed values stay within their bounds."""

    def __init__(self, vary: Mapping[str, Any], **kwargs: Any):
        self.bounds = {key: bounds for key, axis in vary.items() if (bounds := _bounds(axis))}
        super().__init__(hyperparam_mutations={"point": {"vary": {key: _domain(axis) for key, axis in vary.items()}}}, **kwargs)

    def _get_new_config(self, trial: Any, trial_to_clone: Any) -> tuple[dict, dict]:
        config, operations = super()._get_new_config(trial, trial_to_clone)
        vary = dict(config["point"]["vary"])
        for key, (low, high) in self.bounds.items():
            vary[key] = rounded(min(max(vary[key], low), high))
        return config | {"point": trial.config["point"] | {"vary": vary}}, operations


def _bounds(axis: Any) -> tuple[float, float] | None:
    return axis.uniform if isinstance(axis, Uniform) else axis.loguniform if isinstance(axis, LogUniform) else None


def _domain(axis: Any) -> Any:
    if isinstance(axis, Uniform):
        return tune.uniform(*axis.uniform)
    return tune.loguniform(*axis.loguniform) if isinstance(axis, LogUniform) else list(axis)


def folder_name(trial: Any) -> str:
    """A trial's folder: its number, what was varied and its seed, 003_firm.clip=0.1_seed=0; no values in a population, where they move."""
    point = trial.config["point"]
    vary = {} if trial.config["moves"] else point["vary"]
    values = [f"{short(key)}={value if isinstance(value, str) else json.dumps(value)}" for key, value in vary.items()]
    words = re.sub(r"[^\w.=+-]+", "-", "_".join(values).replace("*.", ""))[:100].strip("-")
    return "_".join(filter(None, (f"{point['number']:03d}", words, f"seed={point['seed']}")))


# --- playing ----------------------------------------------------------------------------------------------------------


class Stopped(KeyboardInterrupt):
    """The user stopped a sweep; its state is saved."""


@dataclass(frozen=True)
class Results:
    """What a sweep found: its folder, one row for each trial, one for each setting, and trials that failed with their reasons."""

    path: Path
    trials: pandas.DataFrame
    settings: pandas.DataFrame
    failed: dict[str, str]


def start(found: Design, root: str | Path = "runs", watch: Watch | None = None) -> Results:
    """Play a new sweep in root/<name>; RunError if the folder exists or a trial needs more than the machine has."""
    path = Path(root).resolve() / found.sweep.name
    if path.exists():
        raise RunError(f"{Path(root) / found.sweep.name} exists already; choose another name=..., or go on with it: sweep ... --resume")
    with _ray(found):
        make_folder(path, {"sweep.yaml": asked_for(found.sweep, config="run.yaml"), "run.yaml": configs.to_yaml(found.run)})
        return _fit(found, path, _tuner(found, path), watch)


def resume(found: Design, root: str | Path = "runs", watch: Watch | None = None) -> Results:
    """Go on with a sweep that was interrupted, in whatever way. Unpickles Tune's files: only for folders that this machine wrote."""
    path = Path(root).resolve() / found.sweep.name
    if not (path / "sweep.yaml").is_file():
        raise RunError(f"{Path(root) / found.sweep.name} is not a sweep's folder: it has no sweep.yaml; start the sweep without --resume")
    there = load(path / "sweep.yaml")
    if (there.sweep.model_copy(update={"config": found.sweep.config}), there.run) != (found.sweep, found.run):
        raise RunError(f"{Path(root) / found.sweep.name} was started with other settings (its sweep.yaml and run.yaml); "
                       "a sweep goes on with its own: undo the change, or choose another name=...")
    with _ray(found):
        return _fit(found, path, restored(path, Trial) or _tuner(found, path), watch)


def asked_for(sweep: Comparison, **changes: str) -> str:
    """A sweep as YAML that can be loaded again."""
    asked = sweep.model_dump(mode="json", by_alias=True) | changes
    return yaml.dump(asked, Dumper=configs._Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def make_folder(path: Path, files: Mapping[str, str]) -> None:
    """Make a sweep's folder with {name: text}, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (partial / name).write_text(text)
    os.replace(partial, path)


def restored(path: Path, trainable: Any) -> tune.Tuner | None:
    """Tune as it was when the sweep was interrupted; None if that happened before it had saved anything."""
    if not (_readable_states(path) and tune.Tuner.can_restore(str(path))):
        return None
    return tune.Tuner.restore(str(path), trainable, resume_unfinished=True, resume_errored=True)


def _readable_states(path: Path) -> list[Path]:
    """Tune's saved states, those set aside that were cut short by a kill."""
    states = []
    for state in path.glob("experiment_state-*.json"):
        try:
            json.loads(state.read_text())
            states.append(state)
        except ValueError:
            state.rename(state.with_suffix(".damaged"))
    return states


@contextlib.contextmanager
def _ray(found: Design) -> Iterator[None]:
    """Ray, large enough for one trial."""
    with ray_for(len(found.points), max(found.runs, key=lambda run: run.resources.num_env_runners + run.resources.num_learners)):
        for point in {(run.resources, run.device): point for run, point in zip(found.runs, found.points)}.values():
            require(Trial.default_resource_request(_tune_config(found, point)).required_resources)
        yield


@contextlib.contextmanager
def ray_for(trials: int, largest: RunConfig | None = None) -> Iterator[None]:
    """Ray, started if it was not; Tune's settings; Ctrl-C as it was before."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(trials)  # all trials exist from the start, and so in every saved state
    for name in ("ray.tune", "ray.rllib"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what went wrong is in the results
    before = signal.getsignal(signal.SIGINT)
    started = train.start_ray(largest)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not in the main thread, where Tune changes no signal either
            signal.signal(signal.SIGINT, before)
        if started:
            ray.shutdown()


def require(resources: Mapping[str, float]) -> None:
    """RunError if a trial needs more than this machine has; a cluster may grow."""
    have = {} if os.environ.get("RAY_ADDRESS") else ray.cluster_resources()
    for name, wanted in resources.items() if have else ():
        if wanted > (here := have.get(name, 0)):
            raise RunError(f"a trial needs {wanted:g} {name} and there are {here:g}; lower resources of the sweep or of its run")


def _tune_config(found: Design, point: Any) -> dict[str, Any]:
    sweep = found.sweep
    return {"run": configs.to_dict(found.run), "point": point, "metric": sweep.metric, "last": sweep.last,
            "cpus": sweep.resources.cpus_per_trial, "moves": sweep.search == "pbt"}


def _tuner(found: Design, path: Path) -> tune.Tuner:
    sweep, saved = found.sweep, found.run.checkpoint
    return tune.Tuner(
        Trial,
        param_space=_tune_config(found, tune.grid_search(found.points)),
        tune_config=tune.TuneConfig(scheduler=_scheduler(found), max_concurrent_trials=sweep.resources.max_concurrent, reuse_actors=True,
                                    trial_name_creator=folder_name, trial_dirname_creator=folder_name),
        run_config=tune.RunConfig(
            name=path.name, storage_path=str(path.parent), callbacks=[Recorder()], verbose=0,
            failure_config=tune.FailureConfig(max_failures=sweep.resources.max_failures),
            checkpoint_config=tune.CheckpointConfig(  # a population copies from checkpoints that are not its own: it keeps them all
                checkpoint_frequency=sweep.pbt.every if sweep.search == "pbt" else saved.every,
                num_to_keep=None if sweep.search == "pbt" else saved.keep, checkpoint_at_end=True)))


def _scheduler(found: Design) -> TrialScheduler:
    sweep = found.sweep
    common: dict[str, Any] = {"time_attr": "training_iteration", "metric": "score", "mode": sweep.mode}
    if sweep.search == "asha":
        halving = {"grace_period": sweep.asha.grace, "reduction_factor": sweep.asha.reduction}
        return ASHAScheduler(max_t=max(run.stop.iterations for run in found.runs), **halving, **common)
    if sweep.search == "pbt":
        return Population(sweep.vary, perturbation_interval=sweep.pbt.every, require_attrs=False, log_config=False, **common)
    return FIFOScheduler()


def _fit(found: Plan, path: Path, tuner: tune.Tuner, watch: Watch | None) -> Results:
    Recorder.watch = watch
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            grid = tuner.fit()
    finally:
        Recorder.watch = None
    rows, failed = [], {}
    for result in grid:
        folder, metrics = Path(result.path), result.metrics or {}
        reason = metrics.get("failure") or (str(result.error).strip().splitlines()[-1] if result.error else None)
        if reason:
            failed[folder.name] = reason if len(reason) <= 200 else f"{reason[:200]}..."
        if metrics.get("done") and result.checkpoint:
            as_run(folder, Path(result.checkpoint.path))
        point = metrics.get("config", {}).get("point") or found.points[int(folder.name.partition("_")[0])]
        rows.append(row_of_trial(found, folder, point, bool(metrics.get("done")), reason))
    trials = ranked([row for row in rows if row["iterations"]], found.sweep)
    settings = summary(trials, found.sweep)
    trials.to_csv(path / "results.csv", index=False)
    settings.to_csv(path / "summary.csv", index=False)
    if unfinished := len(found.points) - sum(row["ended"] != "unfinished" for row in rows):
        raise Stopped(f"stopped with {unfinished} of {len(found.points)} trials unfinished")
    return Results(path, trials, settings, failed)


def as_run(folder: Path, checkpoint: Path) -> None:
    """Let a trial's folder open as a run: its newest checkpoint and its policies under the names that `Run` knows."""
    state = load_tree(checkpoint)
    link = folder / "checkpoints" / f"iteration_{state['iteration']:06d}"
    link.parent.mkdir(exist_ok=True)
    if not link.exists():
        link.symlink_to(os.path.relpath(checkpoint, link.parent), target_is_directory=True)
    (folder / "policies").mkdir(exist_ok=True)
    for type_, weights in state["learner"]["rl_module"].items():
        save_file(weights, folder / "policies" / f"{type_}_{state['iteration']:06d}.safetensors")
