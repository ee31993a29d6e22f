"""MacroPPO: RLlib's PPO around array rollouts. RLlib configures, checkpoints, distributes and restores; the arithmetic is ours."""
from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ObjectLostError
from ray.rllib.algorithms.ppo import PPO, PPOConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from ray.tune.registry import register_env

import envs
from envs.core.batch import Batch
from rllib_macro import schedule
from rllib_macro.config import ConfigError, Recurrent, RunConfig, check_against, from_dict, to_dict
from rllib_macro.env import MacroEnv
from rllib_macro.env_runner import BatchedEnvRunner, fixed_params
from rllib_macro.learner import MacroLearner
from rllib_macro.networks import MacroModule, model_config
from rllib_macro.policies import policy_of
from rllib_macro.rollout import RolloutData
from rllib_macro.store import load_tree, save_tree

ENV = "rllib_macro"
FAILURES = 5  # times in a row that all remote runners may fail while they play
PATIENCE = 600.0  # seconds in which one of them must be back after all were lost, as when a node is replaced

register_env(ENV, MacroEnv)


class MacroPPOConfig(PPOConfig):
    """RLlib's configuration of a run; `run` is the whole RunConfig as a dictionary. Make one with `algorithm_config`."""

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or MacroPPO)
        self.env_runner_cls = BatchedEnvRunner
        self.run: dict[str, Any] = {}

    def get_default_learner_class(self) -> type:
        return MacroLearner

    @property
    def total_train_batch_size(self) -> int:
        """Env-steps of one iteration."""
        return max(self.num_env_runners, 1) * self.num_envs_per_env_runner * self.get_rollout_fragment_length()

    def validate_train_batch_size_vs_rollout_fragment_length(self) -> None:
        """Nothing: a rollout is one iteration's batch by construction."""


def algorithm_config(run: RunConfig) -> MacroPPOConfig:
    """The RLlib configuration of a checked run (see `config.check_against`)."""
    economy = envs.load(run.economy)
    sample = Batch(economy, fixed_params(run), 1, features=run.features, backend="numpy")
    learners = [type_ for type_, policy in run.policies.items() if policy.rule is None]
    trained = [type_ for type_ in learners if run.policies[type_].train_during != ()]
    specs = {type_: RLModuleSpec(module_class=MacroModule,
                                 model_config=model_config(run, type_, sample.heads[type_], sample.layout[type_]))
             for type_ in learners}
    r, periods = run.resources, run.periods or economy.periods(sample.p)
    _require_same_sights(run, sample)
    for type_ in trained:
        _require_whole_sequences(type_, run.policies[type_].network.recurrent, periods)
    config = (
        MacroPPOConfig()
        .environment(ENV, env_config={"economy": run.economy})
        .framework("torch")
        .multi_agent(policies=set(learners), policy_mapping_fn=policy_of, policies_to_train=trained)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs))
        .env_runners(num_env_runners=r.num_env_runners, num_envs_per_env_runner=run.replicas,
                     num_cpus_per_env_runner=r.num_cpus_per_env_runner, rollout_fragment_length=periods)
        .learners(num_learners=r.num_learners, num_gpus_per_learner=r.num_gpus_per_learner or int(run.device == "cuda"))
        .training(minibatch_size=None, train_batch_size_per_learner=None)
        .fault_tolerance(restart_failed_env_runners=True)
        .evaluation(evaluation_duration=run.replicas, evaluation_duration_unit="episodes")
        .checkpointing(export_native_model_files=False)
        .debugging(seed=run.seed % 2**31, log_level="ERROR")
    )
    config.env_runners(merge_env_runner_states=False, broadcast_env_runner_states=False)
    config.run = to_dict(run)
    return config


def _require_same_sights(run: RunConfig, sample: Batch) -> None:
    """ConfigError where fresh replicas would see or choose other things than those that learn."""
    if not run.evaluation.params:
        return
    fresh = run.model_copy(update={"params": {**run.params, **run.evaluation.params}})
    other = Batch(sample.economy, fixed_params(fresh), 1, features=run.features, backend="numpy")
    for type_ in sample.economy.agents:
        if (sample.count[type_], sample.heads[type_], sample.layout[type_].width) != (
                other.count[type_], other.heads[type_], other.layout[type_].width):
            raise ConfigError(f"evaluation.params change how many {type_} agents there are, what they see or what they choose; leave such "
                              "Params out")


def _require_whole_sequences(type_: str, recurrent: Recurrent | None, periods: int) -> None:
    """ConfigError unless the periods of an iteration are whole sequences, or fewer than one."""
    if recurrent and periods > recurrent.sequence and periods % recurrent.sequence:
        fits = max(length for length in range(1, recurrent.sequence) if periods % length == 0)
        raise ConfigError(f"policies.{type_}.network.recurrent.sequence must divide the {periods} periods of an iteration, got "
                          f"{recurrent.sequence}; use {fits} or {periods}, or other periods")


class MacroPPO(PPO):
    """The algorithm. One `train()` is one iteration of the run: plan, sample, update, send the weights back."""

    config: MacroPPOConfig

    @classmethod
    def get_default_config(cls) -> MacroPPOConfig:
        return MacroPPOConfig()

    def setup(self, config: Any) -> None:
        super().setup(config)
        self.run_config = check_against(from_dict(self.config.run), envs.load(self.config.run["economy"]))

    def training_step(self) -> None:
        plan = schedule.plan(self.run_config, self.iteration)
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER), reduce="mean", window=1):
            data = self._sample(plan)
        with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER), reduce="mean", window=1):
            results = self.learner_group.update(training_data=data, plan=plan, iteration=self.iteration)
            self.metrics.aggregate(results, key=LEARNER_RESULTS)
        with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER), reduce="mean", window=1):
            self.send_weights(plan.train)

    def _sample(self, plan: schedule.Plan) -> RolloutData:
        """One rollout from every runner; those that are lost are waited for only when all are."""
        order = {"plan": plan, "iteration": self.iteration}
        if self.env_runner_group.num_remote_env_runners() == 0:
            rollouts = self.env_runner.sample(**order)
            self.metrics.aggregate([self.env_runner.get_metrics()], key=ENV_RUNNER_RESULTS)
            return RolloutData(rollouts=rollouts)
        failures, deadline = 0, time.monotonic() + PATIENCE
        while True:
            asked = self.env_runner_group.num_healthy_remote_workers()
            data, metrics = self._answers(order)
            if metrics:
                self.metrics.aggregate(metrics, key=ENV_RUNNER_RESULTS)
                return data
            failures += asked > 0
            if failures > FAILURES or time.monotonic() > deadline:
                raise RuntimeError("no env runner answers any more; see their logs, add nodes, or use resources.num_env_runners=0")
            time.sleep(1.0)
            if self.restore_env_runners(self.env_runner_group):
                self.send_weights()

    def _answers(self, order: dict[str, Any]) -> tuple[RolloutData, list[Any]]:
        """What the remote runners played, and their metrics; in a learner of this process, less what was lost with its runner."""
        answers = self.env_runner_group.foreach_env_runner(
            "sample_shards", kwargs={"shards": max(1, self.config.num_learners), **order}, local_env_runner=False,
            timeout_seconds=self.config.sample_timeout_s)
        if self.config.num_learners:
            return RolloutData(references=[references for references, _ in answers]), [metrics for _, metrics in answers]
        rollouts, kept = [], []
        for references, metrics in answers:
            with contextlib.suppress(ObjectLostError):
                rollouts += ray.get(references)
                kept.append(metrics)
        return RolloutData(rollouts=rollouts), kept

    def send_weights(self, types: list[str] | None = None) -> None:
        """Runners get the learners' weights of these types, or of all."""
        types = list(self.env_runner.module.keys()) if types is None else types
        if not types:
            return
        local = getattr(self.learner_group, "_learner", None)
        if self.env_runner_group.num_remote_env_runners() == 0 and local is not None:
            for type_ in types:
                self.env_runner.module[type_].load_state_dict(local.modules[type_].state_dict(), strict=False)
        else:
            self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, policies=sorted(types), inference_only=True)

    # -- checkpoints: RLlib's own would unpickle; these hold JSON and safetensors alone, for the command line and for Tune

    def save_to_path(self, path: Any = None, **kwargs: Any) -> str:
        """Write everything that training goes on from: policies, optimizers, the local runner's replicas, the iteration."""
        path = Path(tempfile.mkdtemp() if path is None else path)
        learner = self.learner_group.get_state(components=["learner/rl_module", "learner/optimizer"])["learner"]
        runner = self.env_runner.get_state(not_components="rl_module")
        save_tree(path, {"iteration": self.iteration, "learner": learner, "runner": runner})
        return str(path)

    def restore_from_path(self, path: Any, **kwargs: Any) -> None:
        """Go on exactly where `save_to_path` was called; every runner then plays with the restored weights."""
        state = load_tree(Path(path))
        self.learner_group.set_state({"learner": state["learner"]})
        self.env_runner.set_state(state["runner"])
        self._iteration = state["iteration"]
        self.send_weights()
