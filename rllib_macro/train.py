"""Training: a configuration goes in, a run folder comes out; an interrupted run goes on as if nothing had happened."""
from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from kernels.core import launch
from rllib_macro import evaluate, extras, rollout_log, schedule
from rllib_macro.config import RunConfig
from rllib_macro.learner import NonFiniteLoss
from rllib_macro.run import Progress, Run, RunError
from rllib_macro.store import StoreError

Watch = Callable[[dict[str, Any]], None]  # called with every iteration's row
OBJECT_STORE = 200 * 2**20  # bytes; rollouts of remote runners pass through it, in-process ones do not


class Stopped(KeyboardInterrupt):
    """The user stopped a run; it was saved at `iteration`."""

    def __init__(self, iteration: int):
        super().__init__(f"stopped after iteration {iteration}")
        self.iteration = iteration


def train(config: RunConfig, root: str | Path = "runs", watch: Watch | None = None) -> Run:
    """Train a checked configuration in a new folder root/<name> and return the run, evaluated and logged.

    Raises ConfigError if parts of the configuration do not fit together, RunError if the folder exists or its dense logs would not fit on
    the disk, BackendError without the device it names, NonFiniteLoss (state saved) if learning diverges.
    """
    from rllib_macro.algorithm import algorithm_config
    _require_device(config)
    rollout_log.require_room(size_of_logs(config), Path(root))
    algorithm_config(config)  # what does not fit together is found before there is a folder
    run = Run.create(config, root)
    with algorithm(config) as algo:
        _loop(run, algo, Progress(run.path), watch)
    return finish(run)


def resume(path: str | Path, watch: Watch | None = None, iterations: int | None = None, checkpoint: int | None = None) -> Run:
    """Continue a run from its newest checkpoint (or a named one), to `iterations` in all if given; same weights as never interrupted."""
    run = Run.open(path)
    if iterations is not None:
        run.prolong(iterations)
    _require_device(run.config)
    folder = run.checkpoint(checkpoint)
    with algorithm(run.config) as algo:
        restore(algo, folder)
        if algo.iteration < run.config.stop.iterations:
            rollout_log.require_room(size_of_logs(run.config, algo.iteration), run.path)
            run.set_aside(algo.iteration)
            _loop(run, algo, Progress(run.path, after=algo.iteration), watch)
    return finish(run)


def restore(algo: Any, folder: Path) -> None:
    """Load a checkpoint into an algorithm; StoreError if it is damaged, RunError if it is of another run."""
    try:
        algo.restore_from_path(folder)
    except StoreError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise RunError(f"checkpoint {folder} is not one of this run ({reason}); use another checkpoint") from None


@contextmanager
def algorithm(config: RunConfig) -> Iterator[Any]:
    """A MacroPPO of a checked configuration, with Ray started if it was not, both stopped at the end."""
    from rllib_macro.algorithm import algorithm_config
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)  # its hints are about choices that are made here, not by the user
    with session(config):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            algo = algorithm_config(config).build_algo()
        try:
            yield algo
        finally:
            algo.stop()


@contextmanager
def session(config: RunConfig | None = None) -> Iterator[None]:
    """Within the block Ray runs; it is stopped at the end if it was not running before."""
    started = start_ray(config)
    try:
        yield
    finally:
        if started:
            ray.shutdown()


def start_ray(config: RunConfig | None = None) -> bool:
    """Join the cluster that RAY_ADDRESS names, or start a small local Ray; False if Ray runs already."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="ERROR")
        return True
    processes = 1
    if config is not None:
        processes += config.resources.num_env_runners + config.resources.num_learners + 1
    ray.init(address="local", include_dashboard=False, object_store_memory=OBJECT_STORE, log_to_driver=False, logging_level="ERROR",
             num_cpus=max(processes, os.cpu_count() or 1))
    return True


def _loop(run: Run, algo: Any, progress: Progress, watch: Watch | None) -> None:
    config, started = run.config, time.perf_counter()
    whole = True  # no iteration is half done
    try:
        while algo.iteration < config.stop.iterations:
            whole = False
            with _finishing() as asked_to_stop:
                row = iterate(algo, config, started)
            whole = True
            progress.write(row)
            if watch:
                watch(row)
            done = algo.iteration == config.stop.iterations
            if done or (config.checkpoint.every and algo.iteration % config.checkpoint.every == 0):
                run.save_checkpoint(algo, algo.iteration)
                run.forget_checkpoints(config.checkpoint.keep)
            if asked_to_stop and not done:
                raise KeyboardInterrupt
            if not done and config.log.episode_every and algo.iteration % config.log.episode_every == 0:
                log_episode(run, algo.iteration, _playing(algo))
    except KeyboardInterrupt:
        if not whole:  # weights are half updated: the run goes on from its last checkpoint
            raise
        run.save_checkpoint(algo, algo.iteration)
        raise Stopped(algo.iteration) from None
    except NonFiniteLoss as error:
        folder = run.save_checkpoint(algo, algo.iteration, "_not_finite")
        raise RunError(f"{error}; the state at that moment is saved in {folder}") from error
    finally:
        progress.close()


def iterate(algo: Any, config: RunConfig, started: float) -> dict[str, float]:
    """Train one iteration; its row of progress.csv, an evaluation included where one is due. `started` is on time.perf_counter's clock."""
    row = _row(algo.train(), config, time.perf_counter() - started)
    if config.evaluation.every and algo.iteration % config.evaluation.every == 0:
        outcome = evaluate.play(config, _playing(algo), iteration=algo.iteration)
        row |= {f"evaluation/{type_}": sum(of) / len(of) for type_, of in outcome.rewards.items()}
    return row


@contextmanager
def _finishing() -> Iterator[list[int]]:
    """Within the block Ctrl-C and a request to terminate wait for its end, and are then in the list; a second one comes at once."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def wait(number: int, frame: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)

    before = {number: signal.signal(number, wait) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _playing(algo: Any) -> dict[str, Any]:
    """The policies as the runners play them."""
    return dict(algo.env_runner.module.items())


def _row(result: dict[str, Any], config: RunConfig, seconds: float) -> dict[str, float]:
    """One iteration's numbers: rewards and measures, each type's learning, what the schedule decided, times."""
    iteration = int(result["training_iteration"])
    now = schedule.plan(config, iteration - 1)
    played, learned = result.get("env_runners", {}), result.get("learners", {})
    row: dict[str, Any] = {"iteration": iteration, "seconds": seconds,
                           "env_steps": played.get("num_env_steps_sampled", 0), "agent_steps": played.get("num_agent_steps_sampled", 0)}
    row |= {name if name.startswith("reward/") else f"measure/{name}": value for name, value in played.items() if _is_economic(name)}
    for type_, report in learned.items():
        if type_ in now.train:
            row |= {f"learn/{type_}/{name}": value for name, value in report.items() if "num_" not in name}
    row |= {f"param/{name}": value for name, value in now.params.items()}
    for name, (low, high) in now.windows.items():
        row |= {f"window/{name}/low": low, f"window/{name}/high": high}
    timers = result.get("timers", {})
    row |= {"time/sample": timers.get("env_runner_sampling_timer", 0.0), "time/learn": timers.get("learner_update_timer", 0.0)}
    return {name: int(value) if name in ("iteration", "env_steps", "agent_steps") else float(value) for name, value in row.items()}


_BOOKKEEPING = ("num_", "episode_", "sample", "time_", "weights_", "env_", "module_", "agent_")


def _is_economic(name: str) -> bool:
    return not name.startswith(_BOOKKEEPING)


def finish(run: Run) -> Run:
    """After training: compare trained play with its baselines, keep a dense episode, draw the plots and the report."""
    from rllib_macro import plots, report
    trained = evaluate.modules(run.config, run.weights())
    (run.path / "evaluation.json").write_text(json.dumps(evaluate.compare(run.config, trained), indent=1))
    log_episode(run, run.checkpoints()[-1], trained)
    plots.draw(run)
    report.write(run)
    return run


def log_episode(run: Run, iteration: int, policies: dict[str, Any]) -> list[Path]:
    """Play one episode with these policies and keep it under episodes/."""
    log = rollout_log.record(run.config, policies, seed=run.config.seed, iteration=iteration)
    files = rollout_log.save(log, run.path / "episodes", iteration, list(run.config.policies))
    own = extras.of(run.config)
    return files + (own.keep(run, iteration, policies) if own else [])


def size_of_logs(config: RunConfig, done: int = 0) -> float:
    """Megabytes of the dense episodes that a run logs after `done` iterations; 0 where it logs none but the last."""
    return rollout_log.forecast(config, episodes=rollout_log.episodes(config, done)) if config.log.episode_every else 0.0


def _require_device(config: RunConfig) -> None:
    if config.device == "cuda" and (problem := launch.cuda_problem()):
        raise launch.BackendError(f"device=cuda: {problem}")
    if config.backend == "native" and (problem := launch.native_problem()):
        raise launch.BackendError(f"backend=native: {problem}")
