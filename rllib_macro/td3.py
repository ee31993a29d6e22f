"""TD3 and DDPG on RLlib's new API stack, which ships neither: deterministic actors for lanes of an economy whose choices are intervals.

DDPG (Lillicrap et al., 2016) is TD3 (Fujimoto et al., 2018) with `twin_q=False, policy_delay=1, target_noise=0`. Transitions are kept as
arrays and a call of the learner makes many gradient steps, since RLlib's path by episodes takes many times as long as the arithmetic of a
small network. Learning rates and noise fall linearly to zero over `anneal_over` steps; what plays in the end is an average of the actor.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from ray.rllib.algorithms.sac import SAC, SACConfig
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.training_data import TrainingData
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.torch import TorchRLModule
from ray.rllib.execution.rollout_ops import synchronous_parallel_sample
from ray.rllib.utils.metrics import (
    ENV_RUNNER_RESULTS,
    ENV_RUNNER_SAMPLING_TIMER,
    LEARNER_RESULTS,
    LEARNER_UPDATE_TIMER,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
    NUM_ENV_STEPS_TRAINED,
    SYNCH_WORKER_WEIGHTS_TIMER,
    TIMERS,
)
from torch import Tensor, nn

from rllib_macro.vector_env import register

MODULE = "default_policy"
COLUMNS = ("obs", "actions", "rewards", "next_obs", "terminated")


# -- transitions

class Rows:
    """The newest `capacity` transitions as arrays. Offers what an RLlib Algorithm asks of its replay buffer."""

    def __init__(self, capacity: int):
        self.capacity, self.added = capacity, 0
        self.columns: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, episodes: Sequence[Any]) -> int:
        """Keep the transitions of (pieces of) episodes; returns how many they are."""
        parts = [transitions(episode) for episode in episodes if len(episode)]
        if not parts:
            return 0
        new = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
        n = len(new["rewards"])
        if not self.columns:
            self.columns = {name: np.empty((self.capacity, *column.shape[1:]), column.dtype) for name, column in new.items()}
        at = (self.added + np.arange(n)) % self.capacity
        for name, column in new.items():
            self.columns[name][at] = column
        self.added += n
        return n

    def sample(self, num_items: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Rows drawn with replacement, everywhere alike."""
        at = rng.integers(0, len(self), num_items)
        return {name: column[at] for name, column in self.columns.items()}

    def get_state(self) -> dict[str, Any]:
        return {"added": self.added, "columns": {name: column[:len(self)] for name, column in self.columns.items()}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.added = state["added"]
        for name, column in state["columns"].items():
            self.columns[name] = np.empty((self.capacity, *column.shape[1:]), column.dtype)
            self.columns[name][:len(column)] = column


def transitions(episode: Any) -> dict[str, np.ndarray]:
    """The transitions of a SingleAgentEpisode: obs, actions, rewards, next_obs, terminated (T, ...), all float32."""
    seen = np.asarray(episode.get_observations(), np.float32)
    ended = np.zeros(len(seen) - 1, np.float32)
    ended[-1] = episode.is_terminated
    return {"obs": seen[:-1], "actions": np.asarray(episode.get_actions(), np.float32).reshape(len(ended), -1),
            "rewards": np.asarray(episode.get_rewards(), np.float32), "next_obs": seen[1:], "terminated": ended}


@dataclass
class RowData(TrainingData):
    """Transitions drawn for several gradient steps, one after the other."""

    columns: dict[str, np.ndarray] | None = None

    def validate(self) -> None:
        if self.columns is None:
            raise ValueError("RowData holds columns of transitions")

    def solve_refs(self) -> None:
        """Nothing: rows travel with the call."""

    def shard(self, num_shards: int, len_lookback_buffer: int | None = None, **kwargs: Any) -> list[tuple[RowData, dict]]:
        return [(self, {})] * num_shards


# -- networks

class Wide(nn.Module):
    """A tanh network beside a linear map of its inputs, summed; with `zero` both start at zero."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, zero: bool = False):
        super().__init__()
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.last, self.skip = nn.Linear(sizes[-1], outputs), nn.Linear(inputs, outputs, bias=False)
        if zero:
            for parameter in (self.last.weight, self.last.bias, self.skip.weight):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        hidden = x
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        return self.last(hidden) + self.skip(x)

    def with_slope(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs, and their derivatives with respect to the first input, carried forward through the layers."""
        hidden, slope = x, None
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
            slope = (1 - hidden * hidden) * (layer.weight[:, 0] if slope is None else slope @ layer.weight.T)
        return self.last(hidden) + self.skip(x), slope @ self.last.weight.T + self.skip.weight[:, 0]


class TD3Module(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI):
    """An actor a = tanh((base + network) / 2), its average, and one critic or two, Q(observation, action).

    `model_config`: hidden, twin_q, seed. The actor's network is zero at first, so that play starts at the base, which is 0 here, the middle
    of every interval. With exploration, actions have normal noise of standard deviation `noise`.
    """

    framework = "torch"

    def setup(self) -> None:
        width, self.choices = self.observation_space.shape[0], self.action_space.shape[0]
        self.noise = 0.0
        self.hidden = tuple(self.model_config["hidden"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.model_config["seed"])
            self.actor = Wide(width, self.hidden, self.choices, zero=True)
            self.average = copy.deepcopy(self.actor).requires_grad_(False)
            if not self.inference_only:
                self.critics = self.make_critics(width)
        self.generator = torch.Generator().manual_seed(self.model_config["seed"])

    def make_critics(self, width: int) -> nn.ModuleList:
        """Networks of an observation of `width` and an action."""
        return nn.ModuleList(Wide(width + self.choices, self.hidden, 1) for _ in range(1 + self.model_config["twin_q"]))

    def base(self, obs: Tensor) -> Tensor | float:
        """What the actor's network is added to."""
        return 0.0

    def act(self, obs: Tensor, actor: nn.Module | None = None) -> Tensor:
        """Actions (N, choices) in [-1, 1]."""
        return torch.tanh((self.base(obs) + (actor or self.actor)(obs)) / 2)

    def q(self, obs: Tensor, actions: Tensor, critics: nn.ModuleList) -> Tensor:
        """The values (critics, N) of actions."""
        rows = torch.cat([obs, actions], -1)
        return torch.stack([critic(rows)[:, 0] for critic in critics])

    # RLlib's own names

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: self.act(batch[Columns.OBS], self.average)}

    def _forward_exploration(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        actions = self.act(batch[Columns.OBS])
        noise = torch.randn(actions.shape, generator=self.generator) * self.noise
        return {Columns.ACTIONS: (actions + noise).clamp(-1, 1)}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {"q": self.q(batch[Columns.OBS], batch[Columns.ACTIONS], self.critics)}

    def make_target_networks(self) -> None:
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.target_actor = copy.deepcopy(self.actor).requires_grad_(False)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.critics, self.target_critics), (self.actor, self.target_actor)]

    def forward_target(self, batch: dict[str, Any], **kwargs: Any) -> Tensor:
        return self.q(batch[Columns.OBS], batch[Columns.ACTIONS], self.target_critics).amin(0)

    def get_non_inference_attributes(self) -> list[str]:
        return ["critics", "target_critics", "target_actor"]


# -- learning

class TD3Learner(TorchLearner):
    """Gradient steps on transitions: the critics' every time, the actor's every `policy_delay`-th, its optimiser untouched between."""

    def build(self) -> None:
        torch.set_num_threads(1)
        torch.utils.deterministic.fill_uninitialized_memory = False  # under RLlib's determinism NaN would fill every new tensor
        super().build()
        self._learner_connector = None  # rows need no connectors
        self.net = self.module[MODULE].unwrapped()
        self.net.make_target_networks()
        self.steps = 0
        self.generator = torch.Generator().manual_seed((self.config.seed or 0) + 1)
        self.followers = [([*main.parameters()], [*target.parameters()]) for main, target in self.net.get_target_network_pairs()]
        self.averaged = [*self.net.actor.parameters()], [*self.net.average.parameters()]

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        module = self._module[module_id].unwrapped()
        for name, part, lr in (("critic", module.critics, config.critic_lr), ("actor", module.actor, config.actor_lr)):
            parameters = list(part.parameters())
            self.register_optimizer(module_id=module_id, optimizer_name=name, optimizer=torch.optim.Adam(parameters, fused=True),
                                    params=parameters, lr_or_lr_schedule=lr)

    def update(self, *args: Any, training_data: RowData, timesteps: Any = None, left: float = 1.0, frozen: bool = False,
               **kwargs: Any) -> Any:
        """As many gradient steps as the rows have batches. `left` (from 1 to 0) is what annealing leaves of rates and noise; while the
        actor is `frozen`, critics learn what it is worth."""
        self._check_is_built()
        self._weights_seq_no += 1
        config = self.config
        optimizers = {name: self.get_optimizer(MODULE, name) for name in ("critic", "actor")}
        optimizers["critic"].param_groups[0]["lr"] = config.critic_lr * left
        optimizers["actor"].param_groups[0]["lr"] = config.actor_lr * left
        columns = {name: torch.from_numpy(column) for name, column in (training_data.columns or {}).items()}
        n, losses = len(columns["rewards"]), {"critic_loss": torch.zeros(()), "actor_loss": torch.zeros(())}
        for batch in self.batches(columns, n // config.train_batch_size_per_learner, left):
            losses["critic_loss"] = _descend(self.critic_loss(batch), optimizers["critic"])
            self.steps += 1
            if self.steps % config.policy_delay == 0:
                if not frozen:
                    self.net.critics.requires_grad_(False)
                    losses["actor_loss"] = _descend(self.actor_loss(batch), optimizers["actor"])
                    self.net.critics.requires_grad_(True)
                for main, target in self.followers:
                    follow(target, main, config.tau)
                follow(self.averaged[1], self.averaged[0], config.average_rate)
        for name, value in losses.items():
            self.metrics.log_value((MODULE, name), value.item(), window=1)
        self.metrics.log_value((MODULE, "lr"), config.critic_lr * left, window=1)
        self.metrics.log_value(NUM_ENV_STEPS_TRAINED, n, reduce="sum")
        return self.metrics.reduce()

    def batches(self, columns: dict[str, Tensor], count: int, left: float) -> Any:
        """The batches of `count` gradient steps."""
        size = len(columns["rewards"]) // count
        for i in range(count):
            yield {name: column[i * size:(i + 1) * size] for name, column in columns.items()} | {"left": left}

    @torch.no_grad()
    def target(self, batch: Mapping[str, Any]) -> Tensor:
        """r + gamma min_i Q_i'(s', mu'(s') + clipped noise), without the second term where an episode terminated."""
        net, config, seen = self.net, self.config, batch["next_obs"]
        actions = net.act(seen, net.target_actor)
        noise = torch.randn(actions.shape, generator=self.generator) * config.target_noise * batch.get("left", 1.0)
        actions = (actions + noise.clamp(-config.target_noise_clip, config.target_noise_clip)).clamp(-1, 1)
        return batch["rewards"] + config.gamma * (1 - batch["terminated"]) * net.q(seen, actions, net.target_critics).amin(0)

    def critic_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Mean squared distance of every critic to the target, summed."""
        values = self.net.q(batch["obs"], batch["actions"], self.net.critics)
        return ((values - self.target(batch)) ** 2).mean(1).sum()

    def actor_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """-Q_1(s, mu(s))."""
        return -self.net.q(batch["obs"], self.net.act(batch["obs"]), self.net.critics[:1]).mean()

    def compute_loss_for_module(self, *, module_id: str, config: Any = None, batch: Mapping[str, Any], fwd_out: Any = None) -> Tensor:
        return self.critic_loss(batch)


def _descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def follow(target: list[Tensor], main: list[Tensor], rate: float) -> None:
    """target <- target + rate (main - target)."""
    torch._foreach_lerp_(target, main, rate)


# -- the algorithm

class TD3Config(SACConfig):
    """RLlib's configuration of TD3. `environment(env_config=...)` takes the keys of MacroVectorEnv, `training` what is added here:

    policy_delay, target_noise, target_noise_clip   of TD3; noise in units of actions, which lie between -1 and 1
    exploration_noise   standard deviation at first
    updates_per_step    gradient steps per transition
    anneal_over         steps over which rates and noise fall to zero; None leaves them
    frozen_for          share of the budget in which only the critics learn, as after a start from a known policy
    average_rate        with which the averaged actor follows the actor
    hidden              layers of every network
    """

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or TD3)
        self.policy_delay, self.target_noise, self.target_noise_clip = 2, 0.1, 0.2
        self.exploration_noise, self.updates_per_step = 0.3, 0.5
        self.anneal_over: int | None = None
        self.frozen_for = 0.0
        self.average_rate = 0.01
        self.hidden: tuple[int, ...] = (64, 64)
        self.network: type[TD3Module] = TD3Module
        self.network_config: dict[str, Any] = {}
        self.actor_lr = self.critic_lr = 1e-3
        self.tau, self.gamma = 0.01, 0.95
        self.train_batch_size_per_learner = 256
        self.num_steps_sampled_before_learning_starts = 1024
        self.replay_buffer_config: dict[str, Any] = {"type": "EpisodeReplayBuffer", "capacity": 100_000}  # of `Rows`; RLlib wants this name
        self.rollout_fragment_length = 4
        self.min_time_s_per_iteration, self.min_sample_timesteps_per_iteration = None, 0
        self.num_env_runners, self.num_envs_per_env_runner = 0, 64
        self.gym_env_vectorize_mode = "vector_entry_point"
        self.disable_env_checking = True
        self.export_native_model_files = False

    def training(self, *, policy_delay: int | None = None, target_noise: float | None = None, target_noise_clip: float | None = None,
                 exploration_noise: float | None = None, updates_per_step: float | None = None, anneal_over: int | None = None,
                 frozen_for: float | None = None, average_rate: float | None = None, hidden: Sequence[int] | None = None,
                 **kwargs: Any) -> Self:
        super().training(**kwargs)
        given = {"policy_delay": policy_delay, "target_noise": target_noise, "target_noise_clip": target_noise_clip,
                 "exploration_noise": exploration_noise, "updates_per_step": updates_per_step, "anneal_over": anneal_over,
                 "frozen_for": frozen_for, "average_rate": average_rate, "hidden": hidden}
        for name, value in given.items():
            if value is not None:
                setattr(self, name, value)
        return self

    def validate(self) -> None:
        super().validate()
        if self.num_learners > 1:
            raise ValueError(f"TD3 learns in one process, got num_learners={self.num_learners}; use 0 or 1")

    def built_from(self) -> dict[str, Any]:
        """What the module is built from."""
        return {"hidden": tuple(self.hidden), "twin_q": self.twin_q, "seed": self.seed or 0} | self.network_config

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        return RLModuleSpec(module_class=self.network, model_config=self.built_from())

    def get_default_learner_class(self) -> type:
        return TD3Learner

    @property
    def _model_config_auto_includes(self) -> dict[str, Any]:
        return self.built_from()

    def build_learner_connector(self, *args: Any, **kwargs: Any) -> None:
        """None: rows need no connectors."""


class FromRows(SAC):
    """An algorithm that keeps its transitions as Rows: one `train()` samples a fragment in every lane and makes the gradient steps due."""

    def setup(self, config: Any) -> None:
        register()  # in this process, and again where Ray was started anew
        super().setup(config)
        self.rng = np.random.default_rng((self.config.seed or 0, 1))
        self.due = 0.0

    def _create_local_replay_buffer_if_necessary(self, config: Any) -> Rows:
        return Rows(int(self.config.replay_buffer_config["capacity"]))

    @property
    def env_steps(self) -> int:
        """Transitions sampled so far, before a restart too."""
        return int(self.metrics.peek((ENV_RUNNER_RESULTS, NUM_ENV_STEPS_SAMPLED_LIFETIME), default=0))

    @property
    def timesteps(self) -> dict[str, int]:
        """What schedules of RLlib go by."""
        return {NUM_ENV_STEPS_SAMPLED_LIFETIME: self.env_steps}

    def training_step(self) -> None:
        config = self.config
        with self.metrics.log_time((TIMERS, ENV_RUNNER_SAMPLING_TIMER)):
            episodes, results = synchronous_parallel_sample(worker_set=self.env_runner_group, concat=True, _uses_new_env_runners=True,
                                                            _return_metrics=True)
        self.metrics.aggregate(results, key=ENV_RUNNER_RESULTS)
        new = self.local_replay_buffer.add(episodes)
        if self.env_steps < config.num_steps_sampled_before_learning_starts:
            return
        self.due += new * config.updates_per_step
        count, self.due = int(self.due), self.due % 1
        if count:
            with self.metrics.log_time((TIMERS, LEARNER_UPDATE_TIMER)):
                rows = self.local_replay_buffer.sample(count * config.train_batch_size_per_learner, self.rng)
                self.metrics.aggregate(self.learn(rows, count), key=LEARNER_RESULTS)
            with self.metrics.log_time((TIMERS, SYNCH_WORKER_WEIGHTS_TIMER)):
                self.env_runner_group.sync_weights(from_worker_or_learner_group=self.learner_group, policies=[MODULE], inference_only=True)

    def learn(self, rows: dict[str, np.ndarray], count: int) -> list[Any]:
        """So many gradient steps, each on its part of the rows; the learners' metrics."""
        raise NotImplementedError


class TD3(FromRows):
    """The algorithm."""

    config: TD3Config

    @classmethod
    def get_default_config(cls) -> TD3Config:
        return TD3Config()

    def setup(self, config: Any) -> None:
        super().setup(config)
        self.used: Callable[[], float] | None = None  # share of the budget that is used up, where it is not one of steps
        self._explore()

    @property
    def left(self) -> float:
        """What annealing leaves of rates and noise now, from 1 to 0."""
        over = self.config.anneal_over
        used = max(self.used() if self.used else 0.0, self.env_steps / over if over else 0.0)
        return max(1.0 - used, 0.0)

    def training_step(self) -> None:
        super().training_step()
        self._explore()

    def learn(self, rows: dict[str, np.ndarray], count: int) -> list[Any]:
        left = self.left
        return self.learner_group.update(training_data=RowData(columns=rows), timesteps=self.timesteps, left=left,
                                         frozen=1 - left < self.config.frozen_for)

    def _explore(self) -> None:
        """Runners explore with what annealing leaves of the noise."""
        noise = self.config.exploration_noise * self.left

        def set_noise(runner: Any) -> None:
            runner.module.noise = noise

        self.env_runner_group.foreach_env_runner(set_noise)


class DDPGConfig(TD3Config):
    """DDPG: one critic, no delay, no noise in the target."""

    def __init__(self, algo_class: type | None = None):
        super().__init__(algo_class=algo_class or DDPG)
        self.twin_q, self.policy_delay, self.target_noise = False, 1, 0.0


class DDPG(TD3):
    """Deep deterministic policy gradients."""

    @classmethod
    def get_default_config(cls) -> DDPGConfig:
        return DDPGConfig()
