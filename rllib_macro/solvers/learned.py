"""What the solvers that learn by playing share: budgets, evaluations on the way, the Policy they return."""
from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.core.columns import Columns
from ray.rllib.utils.metrics import ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME

from kernels import growth
from kernels.growth import Params
from rllib_macro import diagnostics
from rllib_macro.solvers import egm
from rllib_macro.solvers.policy import Policy, Share, Stopwatch
from rllib_macro.structural import Sight
from rllib_macro.td3 import MODULE, TD3, TD3Config, TD3Module
from rllib_macro.vector_env import register

PERIODS = 10  # of an episode: short ones meet all of the box
EVALUATIONS, LAST = 40, 10
MEMORY = 100 * 2**20  # bytes of Ray's object store


@contextlib.contextmanager
def ray_here() -> Iterator[None]:
    """Ray on this machine for as long as needed; one that runs already stays."""
    if ray.is_initialized():
        yield
        return
    ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=MEMORY, log_to_driver=False, logging_level="ERROR")
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """RLlib's advice about API stacks is for those who write algorithms."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def environment(p: Params, periods: int = PERIODS) -> dict[str, Any]:
    """The env_config of lanes of a model, in episodes of so many periods that start anywhere in the box."""
    return {"economy": "growth", "params": asdict(p) | {"periods": periods, "warm_up": 0}}


class Evaluator:
    """Euler errors and policy distances of what is learned, at equal parts of the budget; their time is not counted."""

    def __init__(self, p: Params, watch: Stopwatch, seconds: float | None, steps: int | None, evaluations: int = EVALUATIONS):
        if seconds is None and steps is None:
            raise ValueError("solving needs a budget; give seconds, steps or both")
        growth.validate(p, sampled=True)
        self.p, self.watch, self.seconds, self.steps, self.every = p, watch, seconds, steps, 1 / evaluations
        self.reference, self.path, self.next = egm.reference(p).share, list[list[float]](), 0.0

    def used(self, env_steps: int) -> float:
        """Share of the budget that is used up."""
        return max(self.watch.seconds / self.seconds if self.seconds else 0.0, env_steps / self.steps if self.steps else 0.0)

    def look(self, share: Callable[[], Share], env_steps: int) -> bool:
        """Evaluate if it is time to; whether the budget is used up."""
        used = self.used(env_steps)
        if used >= self.next or used >= 1:
            with self.watch.pause():
                now = share()
                error, distance = diagnostics.euler_errors(self.p, now).mean, diagnostics.policy_distance(self.p, now, self.reference)[0]
            self.path.append([round(self.watch.seconds, 3), error, distance, env_steps])
            self.next = max(self.next + self.every, used)
        return used >= 1

    def facts(self) -> dict[str, Any]:
        """The path of [CPU seconds, log10 mean Euler error on the box, mean policy distance, env steps], the medians of its last ten rows,
        and the best and the worst error of all."""
        last = np.array(self.path[-LAST:])
        return {"env_steps": int(self.path[-1][3]), "path": self.path,
                "median_of_last_10": float(np.median(last[:, 1])), "distance_of_last_10": float(np.median(last[:, 2])),
                "best": min(row[1] for row in self.path), "worst": max(row[1] for row in self.path)}


def share_of(p: Params, actor: torch.nn.Module, sight: Sight) -> Share:
    """The share that an actor saves, in float64; the actor is copied."""
    actor = copy.deepcopy(actor).double()

    @torch.no_grad()
    def share(k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
        k_, z_, d_ = (torch.from_numpy(np.ascontiguousarray(x, dtype)) for x, dtype in ((k, float), (z, np.int64), (d, float)))
        at = sight.places(z_, d_)
        odds = sight.base(at, k_, growth.resources(p, k_, z_, d_)) + actor(sight.see(at, k_))[..., 0]
        return sight.share(odds).numpy()

    return share


def learn(config: TD3Config, p: Params, method: str, *, seconds: float | None, steps: int | None, seed: int, start: str,
          periods: int = PERIODS, network: type[TD3Module] | None = None) -> Policy:
    """Train TD3 or one of its kin until the budget is used up; what plays is the averaged actor."""
    growth.validate(p, sampled=True)
    sight = Sight(p, start)
    config.environment(register(), env_config=environment(p, periods)).debugging(seed=seed, log_level="ERROR").training(gamma=p.beta)
    config.network, config.network_config = network or config.network, {"params": asdict(p), "start": start}
    with quiet(), ray_here():
        algorithm: TD3 = config.build_algo()
        try:
            watch = Stopwatch()
            evaluator = Evaluator(p, watch, seconds, steps)
            algorithm.used = lambda: evaluator.used(algorithm.env_steps)
            net: TD3Module = algorithm.learner_group._learner.module[MODULE].unwrapped()
            while not evaluator.look(lambda: share_of(p, net.average, sight), algorithm.env_steps):
                algorithm.training_step()
            return Policy(p, method, share_of(p, net.average, sight), seconds=watch.seconds,
                          facts=evaluator.facts() | {"start": start, "seed": seed})
        finally:
            algorithm.stop()


def play_stock(config: AlgorithmConfig, p: Params, method: str, mean: Callable[[torch.Tensor], torch.Tensor], *, seconds: float | None,
               steps: int | None, seed: int, start: str, periods: int = PERIODS, lanes: int = 64) -> Policy:
    """Train one of RLlib's own algorithms until the budget is used up; `mean` turns its module's output into actions without noise."""
    growth.validate(p, sampled=True)
    if start != "neutral":
        raise ValueError(f"{method} is RLlib's own and starts from its own first weights; use start=neutral, or td3 for start={start}")
    config.environment(register(), env_config=environment(p, periods), disable_env_checking=True)
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=lanes, gym_env_vectorize_mode="vector_entry_point")
    config.reporting(min_time_s_per_iteration=None, min_sample_timesteps_per_iteration=0)
    config.training(gamma=p.beta).debugging(seed=seed, log_level="ERROR")
    sight, counted = Sight(p), (ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME)
    with quiet(), ray_here():
        algorithm = config.build_algo()
        try:
            torch.set_num_threads(1)
            torch.utils.deterministic.fill_uninitialized_memory = False
            watch = Stopwatch()
            evaluator = Evaluator(p, watch, seconds, steps)
            module = algorithm.learner_group._learner.module[MODULE].unwrapped()
            while not evaluator.look(lambda: module_share(p, module, sight, mean), int(algorithm.metrics.peek(counted, default=0))):
                algorithm.training_step()
            return Policy(p, method, module_share(p, module, sight, mean), seconds=watch.seconds,
                          facts=evaluator.facts() | {"start": start, "seed": seed})
        finally:
            algorithm.stop()


def module_share(p: Params, module: Any, sight: Sight, mean: Callable[[torch.Tensor], torch.Tensor]) -> Share:
    """The share that a copy of RLlib's module saves; its actions lie between -1 and 1."""
    module = copy.deepcopy(module)

    @torch.no_grad()
    def share(k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
        k_, z_, d_ = (torch.from_numpy(np.ascontiguousarray(x, dtype)) for x, dtype in ((k, float), (z, np.int64), (d, float)))
        seen = sight.see(sight.places(z_, d_), k_).float()
        inputs = module.forward_inference({Columns.OBS: seen.reshape(-1, 3)})[Columns.ACTION_DIST_INPUTS]
        action = mean(inputs)[:, 0].double().reshape(k_.shape).clamp(-1, 1)
        return (p.least_saving + (p.most_saving - p.least_saving) * (action + 1) / 2).numpy()

    return share
