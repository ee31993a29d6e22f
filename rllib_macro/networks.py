"""The policies' networks: a trunk, one head per choice, a value head, and a part shared over the members of another type."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from torch import Tensor, nn

from envs.core.choices import Head
from envs.core.features import Layout
from kernels.core import rng
from rllib_macro.config import Network, RunConfig
from rllib_macro.heads import Heads

WEIGHTS = 30  # purpose of the random keys of first weights
ACTIVATION = {"tanh": nn.Tanh, "relu": nn.ReLU}


class MacroModule(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """One agent type's policy and value. `model_config` is what `model_config(...)` returns; its seed alone decides the first weights."""

    def setup(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.model_config["seed"])
            self._build()

    def _build(self) -> None:
        network, config = Network(**self.model_config["network"]), self.model_config
        self.heads = Heads([Head(*head) for head in config["heads"]])
        width = config["width"]
        self.trunk = _trunk(width, network)
        self.policy = _layer(network.hidden[-1], self.heads.width, network.policy_gain, network)
        self.skip = EquivariantSkip(self.heads.heads, config["columns"], network.equivariant.moves) if network.equivariant else None
        self.shared = network.shared_trunk
        if not self.inference_only:
            self.value_trunk = None if self.shared else _trunk(width, network)
            self.value = _layer(network.hidden[-1], 1, 1.0, network)

    def inputs(self, obs: Tensor) -> Tensor:
        """The heads' inputs (N, width of all heads) for observations (N, width)."""
        return self._inputs(obs, self.trunk(obs))

    def inputs_and_values(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """The heads' inputs (N, ...) and values (N,) with one pass through a shared trunk."""
        hidden = self.trunk(obs)
        seen = hidden if self.value_trunk is None else self.value_trunk(obs)
        return self._inputs(obs, hidden), self.value(seen)[:, 0]

    def values(self, obs: Tensor) -> Tensor:
        """Values (N,) in units of scaled reward."""
        return self.value((self.value_trunk or self.trunk)(obs))[:, 0]

    def _inputs(self, obs: Tensor, hidden: Tensor) -> Tensor:
        inputs = self.policy(hidden)
        return inputs if self.skip is None else inputs + self.skip(obs)

    # RLlib's own names for the same things

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.inputs(batch[Columns.OBS])}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        return self.values(batch[Columns.OBS])

    def get_non_inference_attributes(self) -> list[str]:
        return ["value_trunk", "value"]


class OneDeviates:
    """Plays `shared` for all `count` agents of a type but one, whose inputs come from `own`: what a best response of one agent needs."""

    def __init__(self, shared: MacroModule, own: MacroModule, number: int, count: int):
        self.shared, self.own, self.number, self.count = shared, own, number, count

    def inputs(self, obs: Tensor) -> Tensor:
        """The heads' inputs (N, ...) for observations (N, width), agents fastest."""
        inputs = self.shared.inputs(obs).clone()
        inputs[self.number::self.count] = self.own.inputs(obs[self.number::self.count])
        return inputs


class EquivariantSkip(nn.Module):
    """Logits that concern member i move with what is seen of member i, by one linear map shared over the members; zero at first.

    `columns` (members, features) are the observation's columns. A choice with one head for each member gets its head's logits from that
    member; a choice with one option for each member gets one logit from each.
    """

    columns: Tensor

    def __init__(self, heads: Sequence[Head], columns: Sequence[Sequence[int]], moves: Sequence[str]):
        super().__init__()
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        members = len(columns)
        self.parts: list[tuple[int, int]] = []  # for each run of heads of one choice: its width, and outputs per member (0: not moved)
        for name in dict.fromkeys(head.choice for head in heads):
            sizes = [head.options for head in heads if head.choice == name]
            if name not in moves:
                self.parts.append((sum(size or 2 for size in sizes), 0))
            elif len(sizes) == members:
                self.parts.append((sum(sizes), sizes[0]))
            elif sizes == [members]:
                self.parts.append((members, 1))
            else:
                raise ValueError(f"equivariant.moves: {name} must have one head or one option for each of the {members} members")
        self.map = nn.Linear(len(columns[0]), sum(outputs for _, outputs in self.parts), bias=False)
        nn.init.zeros_(self.map.weight)

    def forward(self, obs: Tensor) -> Tensor:
        moved = self.map(obs[:, self.columns])
        pieces, start = [], 0
        for width, outputs in self.parts:
            pieces.append(moved[:, :, start:start + outputs].flatten(1) if outputs else obs.new_zeros(len(obs), width))
            start += outputs
        return torch.cat(pieces, 1)


def model_config(run: RunConfig, type_: str, heads: Sequence[Head], layout: Layout) -> dict[str, Any]:
    """What a MacroModule is built from, as plain data that travels to other processes."""
    network, number = run.policies[type_].network, list(run.policies).index(type_)
    columns: list[list[int]] = []
    if network.equivariant:
        seen = [layout.where(name) for name in network.equivariant.sees]
        if not all(seen) or len({len(c) for c in seen}) != 1:
            raise ValueError("equivariant.sees must name public features with one column for each member: "
                             + ", ".join(f"{n} has {len(c)}" for n, c in zip(network.equivariant.sees, seen, strict=True)))
        columns = [list(member) for member in zip(*seen, strict=True)]
    return {"network": network.model_dump(by_alias=True), "heads": [(h.choice, h.options) for h in heads], "width": layout.width,
            "columns": columns, "seed": rng.key(run.seed, WEIGHTS, number)[0]}


def _trunk(width: int, network: Network) -> nn.Sequential:
    layers: list[nn.Module] = []
    for hidden in network.hidden:
        layers += [_layer(width, hidden, 2**0.5, network), ACTIVATION[network.activation]()]
        width = hidden
    return nn.Sequential(*layers)


def _layer(inputs: int, outputs: int, gain: float, network: Network) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    if network.init == "orthogonal":
        nn.init.orthogonal_(layer.weight, gain)
        nn.init.zeros_(layer.bias)
    return layer
