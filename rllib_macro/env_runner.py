"""The env runner that plays many replicas as arrays: one forward pass for each agent type and period, no Python object per agent."""
from __future__ import annotations

import copy
import time
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE
from ray.rllib.env import INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from ray.rllib.utils.metrics import (
    EPISODE_LEN_MEAN,
    EPISODE_RETURN_MEAN,
    NUM_AGENT_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_EPISODES,
    SAMPLE_TIMER,
)
from safetensors.torch import load_file
from torch import Tensor

import envs
from envs.core.batch import Batch
from kernels.core import rng
from kernels.core.arrays import adjust, to_host
from rllib_macro import schedule
from rllib_macro.config import RunConfig, from_dict, is_scheduled
from rllib_macro.heads import ILLEGAL, Heads
from rllib_macro.networks import OneDeviates
from rllib_macro.policies import spaces
from rllib_macro.rollout import Rollout, Trajectories
from rllib_macro.schedule import Plan

SAMPLING, FROZEN, EVALUATION = 10, 11, 12  # purposes of random keys, apart from those of a Batch
Following = tuple[int, Tensor, Tensor, Tensor | None]  # after which period, which agents, what they see then and what they remember


def fixed_params(config: RunConfig) -> Any:
    """The kernel's Params of a run; scheduled ones keep their defaults until `Batch.adjust` sets them."""
    fixed = {name: value for name, value in config.params.items() if not is_scheduled(value)}
    return adjust(envs.load(config.economy).defaults(), **fixed)


def make_batch(config: RunConfig, size: int | None = None, *, seed: int | None = None, first: int = 0) -> Batch:
    """The batch of replicas that a run plays, its scheduled Params and windows as in iteration 0."""
    batch = Batch(envs.load(config.economy), fixed_params(config), config.replicas if size is None else size, device=config.device,
                  backend=config.backend, seed=config.seed if seed is None else seed, features=config.features, first=first,
                  rules={type_: policy.rule for type_, policy in config.policies.items() if policy.rule is not None})
    now = schedule.plan(config, 0)
    batch.adjust(now.params, now.windows)
    batch.reset()
    return batch


def stagger(batch: Batch, periods: int | None) -> None:
    """Spread the replicas' ages over an episode in steps of a rollout: first episodes are cut early, later ones end in turn."""
    horizon = batch.economy.periods(batch.p)
    periods = periods or horizon
    batch.age[...] = periods * (np.arange(batch.size) % -(-horizon // periods))


def run_spaces(config: RunConfig) -> dict[str, Any]:
    """{type: (observation space, action space)} of the types that learn."""
    found = spaces(envs.load(config.economy), fixed_params(config), config.features)
    return {type_: found[type_] for type_, policy in config.policies.items() if policy.rule is None}


def set_up_torch(config: RunConfig) -> None:
    """PyTorch's settings in a process that plays or learns."""
    torch.set_num_threads(config.resources.torch_threads)
    torch.utils.deterministic.fill_uninitialized_memory = False  # RLlib asks for determinism; NaN in every new tensor is a debugging aid


def playing(modules: dict[str, Any], config: RunConfig) -> dict[str, Any]:
    """The policies as they play: themselves, and where one agent deviates, it alone by its type's module, the others by fixed weights."""
    of = config.deviation
    if of is None:
        return modules
    shared = copy.deepcopy(modules[of.type])
    shared.load_state_dict(load_file(of.weights), strict=False)  # a runner's copy has no value head
    count = envs.load(config.economy).agents[of.type].number(fixed_params(config))
    return modules | {of.type: OneDeviates(shared, modules[of.type], of.agent, count)}


class Player:
    """Plays policies in a batch and records what a learner needs. Buffers are made once: a rollout is valid until the next one.

    `memory` holds what agents with a recurrent policy remember, {type: (agents of all replicas, numbers)}, from one `play` to the next; at
    the start of an episode that is nothing.
    """

    def __init__(self, batch: Batch, modules: dict[str, Any], config: RunConfig, runner: int = 0):
        self.batch, self.modules, self.config, self.runner = batch, modules, config, runner
        self.device = torch.device("cuda" if config.device == "cuda" else "cpu")
        self.heads = {type_: Heads(batch.heads[type_], config.backend) for type_ in batch.economy.agents if type_ not in batch.rules}
        self.memory = {type_: torch.zeros(batch.size * batch.count[type_], modules[type_].memory, device=self.device)
                       for type_ in self.heads if modules[type_].memory}
        self.buffers: dict[tuple[str, int], dict[str, Tensor]] = {}
        self.frozen = {type_: self._uniform(type_, self._generator(FROZEN, list(batch.economy.agents).index(type_)))
                       for type_ in config.compat.frozen_uniforms if type_ in self.heads}

    @torch.no_grad()
    def play(self, periods: int, iteration: int, explore: bool = True) -> tuple[Rollout, dict[str, float]]:
        """Play some periods; returns the rollout and its averages: mean reward of each type and every measure, per period."""
        batch = self.batch  # each type draws from its own key: a rule for one leaves the others' chance as it was
        generator = {type_: self._generator(SAMPLING, iteration, number) for number, type_ in enumerate(batch.economy.agents)}
        buffers = {type_: self._buffer(type_, periods) for type_ in self.heads}
        penalty = {type_: self._penalty(type_) for type_ in self.heads}
        by_state = {type_: [p] for type_, p in penalty.items() if p is not None and p.ndim == 3}
        following: dict[str, list[Following]] = {type_: [] for type_ in self.heads}
        sums: dict[str, float] = {}
        for t in range(periods):
            self._remember(buffers, t)
            choices = {type_: self._choose(type_, buffers[type_], t, penalty[type_], generator[type_], explore)
                       for type_ in self.heads}
            rewards, done = batch.step(choices)
            self._record(rewards, done, buffers, t, following, sums)
            if by_state and t + 1 < periods:
                penalty.update({type_: self._penalty(type_) for type_ in by_state})
                for type_, seen in by_state.items():
                    seen.append(penalty[type_])  # type: ignore[arg-type]
        if not done.all():
            self._continue(periods, done, following)
        for type_, seen in by_state.items():
            penalty[type_] = torch.stack([p.flatten(0, 1) for p in seen])
        types = {type_: Trajectories(**buffers[type_], penalty=penalty[type_], **self._joined(following[type_])) for type_ in self.heads}
        rollout = Rollout(types, {t: batch.count[t] for t in self.heads}, batch.size, periods)
        return rollout, {name: total / periods for name, total in sums.items()}

    def _remember(self, buffers: dict[str, dict[str, Tensor]], t: int) -> None:
        """Empty the memories of episodes that begin; keep what is remembered at the start of a sequence for the learner."""
        for type_, memory in self.memory.items():
            begins = torch.from_numpy(self.batch.age == 0).to(self.device)
            memory[begins.repeat_interleave(self.batch.count[type_])] = 0.0
            sequence = self._sequence(type_)
            if t % sequence == 0:
                buffers[type_]["memory"][t // sequence] = memory

    def _sequence(self, type_: str) -> int:
        """Periods of a sequence of a recurrent policy."""
        return self.config.policies[type_].network.recurrent.sequence  # type: ignore[union-attr]

    def _inputs(self, type_: str, obs: Tensor) -> Tensor:
        """The heads' inputs for what a type sees now; what recurrent policies remember moves on."""
        if type_ not in self.memory:
            return self.modules[type_].inputs(obs)
        inputs, self.memory[type_] = self.modules[type_].recall(obs, self.memory[type_])
        return inputs

    def _choose(self, type_: str, buffer: dict[str, Tensor], t: int, penalty: Tensor | None, generator: torch.Generator,
                explore: bool) -> Any:
        batch, heads = self.batch, self.heads[type_]
        n = batch.count[type_]
        batch.observe(type_, out=self._array(buffer["obs"][t]).reshape(batch.size, n, -1))
        inputs = self._inputs(type_, buffer["obs"][t])
        if penalty is not None:
            inputs = inputs + (penalty if penalty.ndim == 1 else penalty.flatten(0, 1))
        if explore:
            buffer["chosen"][t], buffer["logp"][t] = heads.draw(inputs, generator, self.frozen.get(type_))
        else:
            buffer["chosen"][t] = heads.mode(inputs)
        return self._array(buffer["chosen"][t]).reshape(batch.size, n, -1)

    def _record(self, rewards: dict[str, Any], done: np.ndarray, buffers: dict, t: int, following: dict, sums: dict[str, float]) -> None:
        batch = self.batch
        for type_, reward in rewards.items():
            sums[f"reward/{type_}"] = sums.get(f"reward/{type_}", 0.0) + float(reward.mean())
        for name, measured in batch.measured.items():
            sums[name] = sums.get(name, 0.0) + float(measured.mean())
        for type_, buffer in buffers.items():
            buffer["rewards"][t] = self._tensor(rewards[type_]).flatten()
            buffer["cut"][t] = torch.from_numpy(done).to(self.device).repeat_interleave(batch.count[type_])
            if batch.final is not None:
                agents = buffer["cut"][t].nonzero()[:, 0]
                following[type_].append(self._following(type_, t, agents, batch.final[type_]))

    def _continue(self, periods: int, done: np.ndarray, following: dict) -> None:
        """Trajectories still running at the end of the rollout go on with what their agents see now."""
        for type_, seen in following.items():
            agents = torch.from_numpy(np.repeat(~done, self.batch.count[type_]).nonzero()[0]).to(self.device)
            seen.append(self._following(type_, periods - 1, agents, self.batch.observe(type_)))

    def _following(self, type_: str, t: int, agents: Tensor, seen: Any) -> Following:
        """What these agents see after period t, of what all of the type see (B, n, D), and what they remember of it and before."""
        memory = self.memory.get(type_)
        return t, agents, self._tensor(seen).flatten(0, 1)[agents], None if memory is None else memory[agents]

    @staticmethod
    def _joined(seen: list[Following]) -> dict[str, Tensor | None]:
        if not seen:
            return {"following_obs": None, "following_at": None}
        at = torch.cat([torch.stack([torch.full_like(agents, t), agents], 1) for t, agents, *_ in seen])
        memories = [memory for *_, memory in seen if memory is not None]
        return {"following_obs": torch.cat([obs for _, _, obs, _ in seen]), "following_at": at,
                "following_memory": torch.cat(memories) if memories else None}

    def _penalty(self, type_: str) -> Tensor | None:
        """What is added to the heads' inputs now, (L,) or (B, n, L); None where everything is allowed."""
        heads, batch = self.heads[type_], self.batch
        if self.config.compat.masks == "additive_2022":
            violations = batch.violations(type_)
            return torch.from_numpy(-1000.0 * violations).float().to(self.device) if violations.any() else None
        legal = batch.legal(type_)
        if legal is None:
            return None
        penalty = torch.where(self._tensor(legal), 0.0, ILLEGAL)
        if not heads.continuous:
            return penalty
        options = iter(penalty.split([h.options for h in heads.heads if h.options], -1))
        return torch.cat([next(options) if h.options else penalty.new_zeros(*penalty.shape[:-1], 2) for h in heads.heads], -1)

    def _buffer(self, type_: str, periods: int) -> dict[str, Tensor]:
        if (type_, periods) not in self.buffers:
            n, heads = self.batch.size * self.batch.count[type_], self.heads[type_]

            def empty(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
                return torch.zeros(periods, n, *shape, dtype=dtype, device=self.device)

            self.buffers[type_, periods] = {
                "obs": empty(self.batch.layout[type_].width), "logp": empty(), "rewards": empty(), "cut": empty(dtype=torch.bool),
                "chosen": empty(len(heads.heads), dtype=torch.float32 if heads.continuous else torch.int32),
            }
            if type_ in self.memory:
                shape = (-(-periods // self._sequence(type_)), *self.memory[type_].shape)
                self.buffers[type_, periods]["memory"] = torch.zeros(shape, device=self.device)
        return self.buffers[type_, periods]

    def _uniform(self, type_: str, generator: torch.Generator) -> Tensor:
        rows = self.batch.size * self.batch.count[type_]
        return torch.rand(rows, len(self.heads[type_].heads), generator=generator, device=self.device)

    def _generator(self, *purpose: int) -> torch.Generator:
        words = rng.key(self.config.seed, self.runner, *purpose)
        return torch.Generator(self.device).manual_seed(words[0] << 31 ^ words[1])

    def _array(self, tensor: Tensor) -> Any:
        """The tensor's memory as an array of the batch's module; nothing is copied."""
        if tensor.is_cuda:
            import cupy
            return cupy.from_dlpack(tensor)
        return tensor.numpy()

    def _tensor(self, array: Any) -> Tensor:
        """An array of the batch as a tensor on the player's device; nothing is copied where both are on a GPU."""
        if self.device.type != "cuda":
            return torch.from_numpy(np.ascontiguousarray(to_host(array)))
        return torch.from_dlpack(array.view(np.uint8)).bool() if array.dtype == bool else torch.from_dlpack(array)


def fresh_player(config: RunConfig, policies: Mapping[str, Any], replicas: int, seed: int, iteration: int | None = None) -> Player:
    """Policies about to play fresh replicas from one seed, under the windows and Params of an iteration (the last if none is named) and
    those Params that evaluation changes."""
    config = config.model_copy(update={"params": {**config.params, **config.evaluation.params}})
    batch = make_batch(config, replicas, seed=seed)
    now = schedule.plan(config, config.stop.iterations if iteration is None else iteration)
    batch.adjust(now.params, now.windows)
    batch.reset()
    modules = {type_: module for type_, module in policies.items() if type_ not in batch.rules}
    return Player(batch, playing(modules, config), config.model_copy(update={"seed": seed}))


class BatchedEnvRunner(EnvRunner, Checkpointable):
    """RLlib's env runner over a `Player`. Runner i plays replicas i * size, ..., so that runners never repeat each other."""

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config=config, **kwargs)
        self.worker_index: int = kwargs.get("worker_index") or 0
        self.run_config = from_dict(self.config.run)
        set_up_torch(self.run_config)
        self.plays = self.worker_index > 0 or self.config.num_env_runners == 0 or self.config.create_env_on_local_worker
        self.spaces, self.iteration = run_spaces(self.run_config), 0
        self.make_module()
        self.make_env()

    def make_env(self) -> None:
        """Build the batch; the local runner of a run with remote ones plays nothing and has none."""
        self.player = None
        if self.plays:
            runner = max(self.worker_index - 1, 0)
            config = self.run_config
            if self.config.in_evaluation:  # other chance than training's
                config = config.model_copy(update={"seed": rng.key(config.seed, EVALUATION)[0]})
            batch = make_batch(config, first=runner * config.replicas)
            if config.staggered and not self.config.in_evaluation:
                stagger(batch, config.periods)
            self.player = Player(batch, playing(dict(self.module.items()), config), config, runner)
        self.env = self.player and self.player.batch

    def make_module(self) -> None:
        """Build inference-only copies of the policies; their weights arrive by set_state."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        for of_type in spec.rl_module_specs.values():  # RLlib leaves specs that were given explicitly as they are
            of_type.inference_only = True
        self.module = spec.build()
        device = "cuda" if self.run_config.device == "cuda" else "cpu"
        self.module.foreach_module(lambda _, module: module.to(device))

    def get_spaces(self) -> dict[str, Any]:
        """{type: (observation space, action space)} and, under RLlib's key for it, both as dictionaries."""
        import gymnasium
        both = tuple(gymnasium.spaces.Dict({t: s[i] for t, s in self.spaces.items()}) for i in (0, 1))
        return {**self.spaces, INPUT_ENV_SPACES: both}

    def sample(self, *, plan: Plan | None = None, iteration: int | None = None, num_timesteps: int | None = None,
               num_episodes: int | None = None, explore: bool | None = None, force_reset: bool = False, **kwargs: Any) -> list[Rollout]:
        """Play one rollout as iteration `iteration` of the run decides. The rollout is valid until the next call."""
        if self.player is None:
            raise ValueError("this env runner has no batch: sample from the remote ones")
        if num_episodes is not None and not self.config.in_evaluation:
            return self._evaluator().sample(num_episodes=num_episodes, explore=explore)
        batch = self.player.batch
        self.iteration = self.iteration + 1 if iteration is None else iteration
        plan = schedule.plan(self.run_config, self.run_config.stop.iterations) if plan is None else plan
        batch.adjust(plan.params, plan.windows)
        if force_reset or num_episodes is not None or not batch.age.any():
            batch.reset()  # also where no episode is running: Params may just have changed
        horizon = batch.economy.periods(batch.p)
        periods = self.run_config.periods or horizon
        if num_episodes is not None:
            periods = horizon * -(-num_episodes // batch.size)
        elif num_timesteps is not None:
            periods = max(1, -(-num_timesteps // batch.size))
        started = time.perf_counter()
        rollout, means = self.player.play(periods, self.iteration, self.config.explore if explore is None else explore)
        if self.run_config.deviation is not None:  # only the one that deviates learns
            of = self.run_config.deviation
            rollout.types[of.type] = rollout.types[of.type].of_agent(of.agent, rollout.count[of.type])
            rollout.count[of.type] = 1
        self._log(rollout, means, time.perf_counter() - started)
        return [rollout]

    def _evaluator(self) -> BatchedEnvRunner:
        """A runner of the same weights with a batch of its own, so that RLlib's evaluation leaves training as it was."""
        config = self.config.copy(copy_frozen=False)
        config.in_evaluation = True
        other = BatchedEnvRunner(config, worker_index=self.worker_index, num_workers=self.num_workers)
        other.module.set_state(self.module.get_state())
        other.metrics = self.metrics
        return other

    def sample_shards(self, shards: int, **kwargs: Any) -> tuple[list[Any], Any]:
        """Play one rollout and leave it in the object store: references to its shards, one for each learner, and the metrics."""
        rollout, = self.sample(**kwargs)
        return [ray.put(shard) for shard in rollout.shards(shards)], self.get_metrics()

    def _log(self, rollout: Rollout, means: dict[str, float], seconds: float) -> None:
        ended = sum(int(x.cut[:, 0::rollout.count[t]].sum()) for t, x in list(rollout.types.items())[:1])
        for name, value in means.items():
            self.metrics.log_value(name, value, window=1)
        self.metrics.log_value(SAMPLE_TIMER, seconds, window=1)
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED, rollout.env_steps(), reduce="sum")
        self.metrics.log_value(NUM_AGENT_STEPS_SAMPLED, rollout.agent_steps(), reduce="sum")
        self.metrics.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, rollout.env_steps(), reduce="lifetime_sum")
        self.metrics.log_value(NUM_EPISODES, ended, reduce="sum")
        horizon = self.player.batch.economy.periods(self.player.batch.p)  # type: ignore[union-attr]
        total = sum(means[f"reward/{t}"] * n for t, n in rollout.count.items()) * horizon
        self.metrics.log_value(EPISODE_RETURN_MEAN, total, window=1)
        self.metrics.log_value(EPISODE_LEN_MEAN, horizon, window=1)

    def get_metrics(self) -> Any:
        return self.metrics.reduce()

    def assert_healthy(self) -> None:
        if self.module is None:
            raise RuntimeError("the env runner has no policies")

    # -- state: weights are always applied, also when their sequence number is older

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state: dict[str, Any] = {"iteration": self.iteration}
        if self.player is not None:
            state["batch"] = self.player.batch.state_dict()
            state["memory"] = {type_: memory.cpu().numpy().copy() for type_, memory in self.player.memory.items()}
        if self._check_component(COMPONENT_RL_MODULE, components, not_components):
            state[COMPONENT_RL_MODULE] = self.module.get_state()
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        if COMPONENT_RL_MODULE in state:
            weights = state[COMPONENT_RL_MODULE]
            self.module.set_state(ray.get(weights) if isinstance(weights, ray.ObjectRef) else weights)
        self.iteration = state.get("iteration", self.iteration)
        if self.player is not None and "batch" in state:
            self.player.batch.load_state_dict(state["batch"])
            for type_, memory in self.player.memory.items():
                memory.copy_(torch.as_tensor(state["memory"][type_]))

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        return (), {"config": self.config, "worker_index": self.worker_index, "num_workers": self.num_workers}

    def get_checkpointable_components(self) -> Collection[tuple[str, Any]]:
        return [(COMPONENT_RL_MODULE, self.module)]

    def stop(self) -> None:
        self.player = self.env = None
