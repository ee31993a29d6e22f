"""The same training as a bare PyTorch loop: no Ray, no RLlib class, no metrics. The oracle of MacroPPO, and the yardstick of `bench`.

One `train()` plays one episode in every replica and makes every type's passes over it. Same seed, same iteration: same losses and same
weights as MacroPPO on a CPU. The 2022 variants, remote processes and rollouts other than one episode are left to MacroPPO.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kernels.core import rng
from rllib_macro import schedule
from rllib_macro.config import Network, Policy, RunConfig
from rllib_macro.env_runner import SAMPLING, make_batch, set_up_torch
from rllib_macro.evaluate import modules
from rllib_macro.heads import ILLEGAL, Heads
from rllib_macro.learner import MINIBATCHES, head_weights
from rllib_macro.losses import clipped_surrogate, clipped_value_loss, gae, standardise, value_loss
from rllib_macro.networks import MacroModule


class Net(nn.Module):
    """A policy and its value as plain layers, those of a module that nobody else uses."""

    def __init__(self, module: MacroModule):
        super().__init__()
        self.trunk, self.policy, self.skip, self.value_trunk, self.value = (
            getattr(module, name) for name in ("trunk", "policy", "skip", "value_trunk", "value"))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Heads' inputs (N, L) and values (N,)."""
        hidden = self.trunk(obs)
        inputs = self.policy(hidden) if self.skip is None else self.policy(hidden) + self.skip(obs)
        return inputs, self.value(hidden if self.value_trunk is None else self.value_trunk(obs))[:, 0]

    def inputs(self, obs: Tensor) -> Tensor:
        inputs = self.policy(self.trunk(obs))
        return inputs if self.skip is None else inputs + self.skip(obs)

    def values(self, obs: Tensor) -> Tensor:
        return self.value((self.value_trunk or self.trunk)(obs))[:, 0]


@dataclass
class Episode:
    """What the agents of one type saw, did and got: T periods, N agents of all replicas."""

    obs: Tensor  # (T, N, columns)
    chosen: Tensor  # (T, N, heads)
    logp: Tensor  # (T, N)
    rewards: Tensor  # (T, N)
    masks: list[Tensor | None]  # of each period: (L,) or (N, L), added to the heads' inputs
    final: Tensor | None  # (N, columns) seen at the end where values go on


class BareLoop:
    """A run trained in place: `nets` and `optimizers` by agent type, `iteration` the next to be made."""

    def __init__(self, config: RunConfig):
        _require_plain(config)
        set_up_torch(config)
        self.config, self.batch, self.iteration = config, make_batch(config), 0
        self.nets = {type_: Net(module) for type_, module in modules(config).items()}
        self.optimizers = {type_: torch.optim.Adam(net.parameters(), fused=True) for type_, net in self.nets.items()}
        self.heads = {type_: Heads(self.batch.heads[type_]) for type_ in self.nets}
        self.episodes = {type_: self._episode(type_) for type_ in self.nets}

    def train(self) -> dict[str, dict[str, float]]:
        """One iteration; the mean losses over the last pass of every type that trained."""
        now = schedule.plan(self.config, self.iteration)
        self.play(now)
        losses = {type_: self.learn(type_, **now.coefficients[type_]) for type_ in now.train}
        self.iteration += 1
        return losses

    @torch.no_grad()
    def play(self, now: schedule.Plan) -> None:
        """One episode of every replica, written over the last one."""
        batch = self.batch
        batch.adjust(now.params, now.windows)
        batch.reset()
        types = list(batch.economy.agents)
        generator = {type_: _generator(self.config.seed, 0, SAMPLING, self.iteration, types.index(type_)) for type_ in self.nets}
        for t in range(batch.economy.periods(batch.p)):
            choices = {}
            for type_, net in self.nets.items():
                x, n = self.episodes[type_], batch.count[type_]
                batch.observe(type_, out=x.obs[t].numpy().reshape(batch.size, n, -1))
                inputs, x.masks[t] = net.inputs(x.obs[t]), self._mask(type_)
                x.chosen[t], x.logp[t] = self.heads[type_].draw(inputs if x.masks[t] is None else inputs + x.masks[t], generator[type_])
                choices[type_] = x.chosen[t].numpy().reshape(batch.size, n, -1)
            rewards, _ = batch.step(choices)
            for type_, x in self.episodes.items():
                x.rewards[t] = torch.from_numpy(rewards[type_]).flatten()
        for type_, x in self.episodes.items():
            x.final = torch.from_numpy(batch.final[type_]).flatten(0, 1) if batch.economy.endless and batch.final else None

    def learn(self, type_: str, lr: float, entropy: float) -> dict[str, float]:
        """All passes of one type over its rows. Returns the mean losses of the last pass."""
        policy, net, heads, optimizer = self.config.policies[type_], self.nets[type_], self.heads[type_], self.optimizers[type_]
        generator = _generator(self.config.seed, MINIBATCHES, self.iteration, list(self.config.policies).index(type_), 0)
        weights = head_weights(policy, heads.heads)
        columns = self._columns(type_, policy, generator)
        n = len(columns["logp"])
        parts = min(policy.minibatches, n)
        optimizer.param_groups[0]["lr"] = lr
        for _ in range(policy.epochs):
            kept = []
            order = torch.randperm(n, generator=generator) if parts > 1 else None
            for k in range(parts):
                rows = None if order is None else order[n * k // parts:n * (k + 1) // parts]
                x = columns if rows is None else {name: column.index_select(0, rows) for name, column in columns.items()}
                inputs, values = net(x["obs"])
                logp, spread = heads.log_prob(inputs + x["mask"] if "mask" in x else inputs, x["chosen"], weights)
                of_policy = clipped_surrogate(logp, x["logp"], x["advantages"], policy.clip)
                if policy.value_clip is None:
                    of_value = value_loss(values, x["targets"], policy.value_loss)
                else:
                    of_value = clipped_value_loss(values, x["values"], x["targets"], policy.value_clip, policy.value_loss)
                total = of_policy - entropy * spread.mean() + policy.value_weight * of_value
                optimizer.zero_grad(set_to_none=True)
                total.backward()
                nn.utils.clip_grad_norm_(net.parameters(), policy.grad_clip or float("inf"))
                optimizer.step()
                kept.append(torch.stack([part.detach() for part in (total, of_policy, of_value, spread.mean())]))
        return dict(zip(("total_loss", "policy_loss", "value_loss", "entropy"), torch.stack(kept).mean(0).tolist(), strict=True))

    @torch.no_grad()
    def _columns(self, type_: str, policy: Policy, generator: torch.Generator) -> dict[str, Tensor]:
        """Rows to learn from: all agents of all replicas and periods, or those drawn of each replica and period."""
        x, net, count = self.episodes[type_], self.nets[type_], self.batch.count[type_]
        rewards = x.rewards / policy.reward_scale
        values = net.values(x.obs.flatten(0, 1)).view_as(rewards)
        last = torch.zeros_like(values[0]) if x.final is None else net.values(x.final)
        ends = torch.zeros_like(values, dtype=torch.bool)
        ends[-1] = True
        advantages = gae(rewards, values, torch.cat([values[1:], last[None]]), ends, policy.gamma, policy.lam)
        columns = {"obs": x.obs, "chosen": x.chosen, "logp": x.logp, "values": values, "targets": advantages + values,
                   "advantages": advantages}
        masks = [mask for mask in x.masks if mask is not None]
        if masks:
            columns["mask"] = torch.stack(masks).view(len(values), -1, self.heads[type_].width).expand(*values.shape, -1)
        rows = {name: column.flatten(0, 1) for name, column in columns.items()}
        if policy.agents_per_update is not None and policy.agents_per_update < count:
            groups = values.numel() // count
            drawn = torch.rand(groups, count, generator=generator).argsort(1)[:, :policy.agents_per_update]
            chosen = (drawn + count * torch.arange(groups)[:, None]).flatten()
            rows = {name: column.index_select(0, chosen) for name, column in rows.items()}
        return rows | {"advantages": standardise(rows["advantages"])}

    def _mask(self, type_: str) -> Tensor | None:
        legal, heads = self.batch.legal(type_), self.heads[type_]
        if legal is None:
            return None
        is_logit = torch.tensor([head.options > 0 for head, width in zip(heads.heads, heads.widths) for _ in range(width)])
        mask = torch.zeros(*legal.shape[:-1], heads.width)
        mask[..., is_logit] = torch.where(torch.from_numpy(legal), 0.0, ILLEGAL)
        return mask.view(-1, heads.width).squeeze(0)

    def _episode(self, type_: str) -> Episode:
        batch, heads = self.batch, self.heads[type_]
        periods, agents = batch.economy.periods(batch.p), batch.size * batch.count[type_]
        chosen = torch.zeros(periods, agents, len(heads.heads), dtype=torch.float32 if heads.continuous else torch.int32)
        return Episode(torch.zeros(periods, agents, batch.layout[type_].width), chosen, torch.zeros(periods, agents),
                       torch.zeros(periods, agents), [None] * periods, None)


def _generator(*purpose: int) -> torch.Generator:
    words = rng.key(*purpose)
    return torch.Generator().manual_seed(words[0] << 31 ^ words[1])


def _require_plain(config: RunConfig) -> None:
    """ValueError for what the loop does not know."""
    usual = RunConfig(economy=config.economy, name=config.name)
    compared: list[tuple[str, Any, Any]] = [(name, config, usual) for name in ("periods", "device", "compat")]
    compared += [(f"resources.{name}", config.resources, usual.resources) for name in ("num_env_runners", "num_learners")]
    compared += [(f"policies.{type_}.{name}", policy, Policy()) for type_, policy in config.policies.items()
                 for name in ("loss", "returns", "advantages", "value_clip_mode", "learn_from")]
    compared += [(f"policies.{type_}.network.recurrent", policy.network, Network()) for type_, policy in config.policies.items()]
    for name, given, default in compared:
        field = name.rpartition(".")[2]
        if getattr(given, field) != getattr(default, field):
            raise ValueError(f"the bare loop knows {name}={getattr(default, field)} only; leave it out, or train with MacroPPO")
