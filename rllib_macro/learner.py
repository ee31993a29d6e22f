"""The learner: PPO on time-major rollouts, each agent type with its own coefficients, epochs and minibatches.

Every type that trains makes exactly `epochs` passes over its rows, or over the agents drawn for it; RLlib's own iterator repeats the
small types until the largest is through. Gradients are averaged over learners by one all-reduce per minibatch.

A recurrent policy learns from sequences where others learn from rows: its columns are (sequences, periods, ...), each sequence goes on from
the memory recorded when it was played, and gradients end where it begins (truncated backpropagation through time).
"""
from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.utils.metrics import NUM_ENV_STEPS_TRAINED, NUM_MODULE_STEPS_TRAINED
from torch import Tensor

from envs.core.choices import Head
from kernels.core import rng
from rllib_macro.config import Policy, from_dict
from rllib_macro.env_runner import set_up_torch
from rllib_macro.heads import ILLEGAL
from rllib_macro.losses import clipped_surrogate, clipped_value_loss, gae, single_gamma_2022, standardise, value_loss
from rllib_macro.networks import MacroModule
from rllib_macro.rollout import Rollout, RolloutData, Trajectories
from rllib_macro.schedule import Plan

MINIBATCHES = 20  # purpose of the random keys that order rows
Columns = dict[str, Tensor]


class NonFiniteLoss(RuntimeError):
    """A loss or its gradient was NaN or infinite, and was not applied. Carries the policy and the iteration."""

    def __init__(self, policy: str, iteration: int):
        super().__init__(f"the loss of policy {policy!r} is not finite in iteration {iteration}; lower its lr or entropy, or set grad_clip")
        self.policy, self.iteration = policy, iteration

    def __reduce__(self) -> tuple:
        return NonFiniteLoss, (self.policy, self.iteration)


class MacroLearner(TorchLearner):
    """RLlib's learner with our update: called with `training_data=RolloutData, plan=Plan, iteration=k`."""

    def build(self) -> None:
        self.run_config = from_dict(self.config.run)
        set_up_torch(self.run_config)
        super().build()
        self._learner_connector = None  # rollouts need no connectors
        self.world = torch.distributed.get_world_size() if self.config.num_learners > 1 else 1
        self.modules: dict[str, MacroModule] = {type_: module.unwrapped() for type_, module in self.module.items()}
        self.head_weights = {type_: head_weights(self.run_config.policies[type_], module.heads.heads, self._device)
                             for type_, module in self.modules.items()}

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        parameters = self.get_parameters(self._module[module_id])
        optimizer = torch.optim.Adam(parameters, fused=True)
        self.register_optimizer(module_id=module_id, optimizer=optimizer, params=parameters, lr_or_lr_schedule=1e-3)

    def update(self, *args: Any, training_data: RolloutData, plan: Plan, iteration: int, **kwargs: Any) -> Any:
        """Train the types that the plan names; returns the metrics of all of them."""
        self._check_is_built()
        training_data.validate()
        training_data.solve_refs()
        rollouts = training_data.rollouts or []
        self._weights_seq_no += 1
        for type_ in plan.train:
            started = time.perf_counter()
            report = self.train_type(type_, rollouts, plan.coefficients[type_], iteration)
            for name, value in (report | {"seconds": time.perf_counter() - started}).items():
                self.metrics.log_value((type_, name), value, window=1)
        self.metrics.log_value(NUM_ENV_STEPS_TRAINED, sum(r.env_steps() for r in rollouts), reduce="sum")
        return self.metrics.reduce()

    def train_type(self, type_: str, rollouts: list[Rollout], coefficients: dict[str, float], iteration: int) -> dict[str, float]:
        """`epochs` passes over one type's rows. Returns the last epoch's losses and the number of rows used."""
        policy, module = self.run_config.policies[type_], self.modules[type_]
        optimizer = self.get_optimizer(type_)
        optimizer.param_groups[0]["lr"] = coefficients["lr"]
        generator = self._generator(type_, iteration)
        columns = _joined([prepare(r.types[type_], r.count[type_], policy, module, generator, self._device) for r in rollouts])
        terms: list[dict[str, Tensor]] = []
        n, seen = len(columns["logp"]), 0
        if n == 0:  # nobody had a choice
            return {NUM_MODULE_STEPS_TRAINED: 0.0, "rows": 0.0}
        for epoch in range(policy.epochs):
            for rows in minibatches(n, policy.minibatches, generator, self._device):
                batch = columns if rows is None else {name: column.index_select(0, rows) for name, column in columns.items()}
                total, parts = loss(module, batch, policy, coefficients["entropy"], self.head_weights[type_])
                if not math.isfinite(total.item()):
                    raise NonFiniteLoss(type_, iteration)
                optimizer.zero_grad(set_to_none=True)
                total.backward()
                self._average_gradients(module)
                norm = torch.nn.utils.clip_grad_norm_(module.parameters(), policy.grad_clip or float("inf"))
                if not math.isfinite(norm.item()):
                    raise NonFiniteLoss(type_, iteration)
                optimizer.step()
                seen += batch["logp"].numel()
                if epoch == policy.epochs - 1:
                    terms.append(parts | {"grad_norm": norm})
        means = torch.stack([torch.stack(list(t.values())) for t in terms]).mean(0).tolist()
        return dict(zip(terms[0], means, strict=True)) | {NUM_MODULE_STEPS_TRAINED: float(seen), "rows": float(columns["logp"].numel()),
                                                         "lr": coefficients["lr"], "entropy_weight": coefficients["entropy"]}

    def compute_loss_for_module(self, *, module_id: str, config: Any = None, batch: Columns, fwd_out: Any = None) -> Tensor:
        """The total loss of one type on prepared columns, at entropy weight 0."""
        return loss(self.modules[module_id], batch, self.run_config.policies[module_id], 0.0, self.head_weights[module_id])[0]

    def set_state(self, state: dict[str, Any]) -> None:
        """Take over weights and optimizers whatever their age; who trains stays with the plan, not with a checkpoint."""
        self._weights_seq_no = 0
        super().set_state({name: value for name, value in state.items() if name != "should_module_be_updated"})

    def _generator(self, type_: str, iteration: int) -> torch.Generator:
        rank = torch.distributed.get_rank() if self.world > 1 else 0
        words = rng.key(self.run_config.seed, MINIBATCHES, iteration, list(self.run_config.policies).index(type_), rank)
        return torch.Generator(self._device).manual_seed(words[0] << 31 ^ words[1])

    def _average_gradients(self, module: MacroModule) -> None:
        if self.world == 1:
            return
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        torch.distributed.all_reduce(flat)
        for gradient, part in zip(gradients, (flat / self.world).split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def _make_modules_ddp_if_necessary(self) -> None:
        """Modules stay as they are: `_average_gradients` does what DDP would, also for types that pause."""


# -- the arithmetic, free of RLlib: the bare loop of `bench` uses the same functions

def head_weights(policy: Policy, heads: tuple[Head, ...], device: torch.device | None = None) -> Tensor | None:
    """Multipliers (H,) of the heads' entropies; None where all are one."""
    if not policy.head_entropy:
        return None
    return torch.tensor([policy.head_entropy.get(head.choice, 1.0) for head in heads], device=device)


@torch.no_grad()
def prepare(x: Trajectories, count: int, policy: Policy, module: MacroModule, generator: torch.Generator, device: torch.device) -> Columns:
    """Rows (R, ...) to learn from: what was seen and done, advantages, targets, values when it was done. Of a recurrent policy sequences
    (C, L, ...) of it, with what is cut in them and the memory (C, M) before each.
    """
    parts = None if x.memory is None else len(x.memory)
    obs, rewards, cut = in_rows(x.obs.to(device), parts), x.rewards.to(device) / policy.reward_scale, x.cut.to(device)
    remembered = {} if x.memory is None else {"cut": in_rows(cut, parts), "memory": x.memory.to(device).flatten(0, 1)}
    values = in_periods(module.values(**unrolled({"obs": obs} | remembered)), cut.shape, parts)
    if policy.returns == "single_gamma_2022":
        targets = single_gamma_2022(rewards, policy.gamma)
        advantages = targets - values
    else:
        following = torch.cat([values[1:], torch.zeros_like(values[:1])]) * ~cut  # where an episode goes on past the rollout: below
        if x.following_obs is not None and x.following_at is not None:
            at = x.following_at.to(device)
            memory = None if x.following_memory is None else x.following_memory.to(device)
            following[at[:, 0], at[:, 1]] = module.values(x.following_obs.to(device), memory)
        advantages = gae(rewards, values, following, cut, policy.gamma, policy.lam)
        targets = advantages + values
    columns = {"chosen": x.chosen.to(device), "logp": x.logp.to(device), "advantages": advantages, "targets": targets, "values": values}
    if x.penalty is not None and x.penalty.ndim == 3:
        columns["penalty"] = x.penalty.to(device)
    flat = {"obs": obs} | remembered | {name: in_rows(column, parts) for name, column in columns.items()}
    if policy.agents_per_update is not None and policy.agents_per_update < count:
        rows = drawn_agents(len(obs) // count, count, policy.agents_per_update, generator, device)
        flat = {name: column.index_select(0, rows) for name, column in flat.items()}
    if x.penalty is not None and x.penalty.ndim == 1:
        flat["penalty"] = x.penalty.to(device).expand(*flat["logp"].shape, -1)
    if policy.learn_from == "choices" and "penalty" in flat:
        rows = leaves_a_choice(flat["penalty"], module.heads.widths).nonzero()[:, 0]
        flat = {name: column.index_select(0, rows) for name, column in flat.items()}
    return flat


def leaves_a_choice(penalty: Tensor, widths: Sequence[int]) -> Tensor:
    """Whether more than one option of some head may be chosen: (R,) for what is added to the inputs (R, L) of heads with these widths."""
    return torch.stack([(part > ILLEGAL).sum(-1) > 1 for part in penalty.split(list(widths), -1)]).any(0)


def in_rows(column: Tensor, parts: int | None) -> Tensor:
    """(T, N, ...) as rows (T N, ...), or as sequences (parts N, T / parts, ...) where periods are cut into parts; agents go fastest."""
    return column.flatten(0, 1) if parts is None else column.unflatten(0, (parts, -1)).transpose(1, 2).flatten(0, 1)


def in_periods(values: Tensor, shape: torch.Size, parts: int | None) -> Tensor:
    """Values (T N,) of rows, or of sequences one after the other, as they were in time: (T, N) = `shape`."""
    return values.view(shape) if parts is None else values.view(parts, shape[1], -1).transpose(1, 2).reshape(shape)


def unrolled(batch: Columns) -> Columns:
    """Sequences (C, L, ...) as rows (C L, ...), one sequence after the other; rows, and the memories before sequences, as they are."""
    return {name: x if name == "memory" else x.flatten(0, 1) for name, x in batch.items()} if "memory" in batch else batch


def drawn_agents(groups: int, count: int, drawn: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Row numbers of `drawn` of the `count` agents of every replica and period, or sequence, without replacement: (groups * drawn,)."""
    order = torch.rand(groups, count, generator=generator, device=device).argsort(1)[:, :drawn]
    return (order + count * torch.arange(groups, device=device)[:, None]).flatten()


def minibatches(n: int, parts: int, generator: torch.Generator, device: torch.device) -> Iterator[Tensor | None]:
    """One pass over n rows in random order, in equal parts; None stands for all rows at once."""
    parts = min(parts, n)
    if parts == 1:
        yield None
        return
    order = torch.randperm(n, generator=generator, device=device)
    for k in range(parts):
        yield order[n * k // parts:n * (k + 1) // parts]


def loss(module: MacroModule, batch: Columns, policy: Policy, entropy_weight: float,
         weights: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """policy loss - entropy weight * entropy + value weight * value loss, and its parts."""
    batch = unrolled(batch)
    inputs, values = module.inputs_and_values(batch["obs"], batch.get("memory"), batch.get("cut"))
    if "penalty" in batch:
        inputs = inputs + batch["penalty"]
    logp, entropy = module.heads.log_prob(inputs, batch["chosen"], weights)
    advantages = batch["targets"] - values.detach() if policy.advantages == "every_update_2022" else batch["advantages"]
    advantages = standardise(advantages) if policy.advantages == "every_update_2022" else advantages
    if policy.loss == "ppo":
        of_policy = clipped_surrogate(logp, batch["logp"], advantages, policy.clip)
    else:
        of_policy = -(logp * advantages).mean()
    if policy.value_clip is None:
        of_value = value_loss(values, batch["targets"], policy.value_loss)
    else:
        of_value = clipped_value_loss(values, batch["values"], batch["targets"], policy.value_clip, policy.value_loss,
                                      policy.value_clip_mode)
    entropy = entropy.mean()
    total = of_policy - entropy_weight * entropy + policy.value_weight * of_value
    parts = {"total_loss": total, "policy_loss": of_policy, "value_loss": of_value, "entropy": entropy, "kl": (batch["logp"] - logp).mean()}
    return total, {name: part.detach() for name, part in parts.items()}


def _joined(parts: list[Columns]) -> Columns:
    """The rows of all rollouts, advantages standardised over all of them."""
    columns = parts[0] if len(parts) == 1 else {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return columns | {"advantages": standardise(columns["advantages"])}
