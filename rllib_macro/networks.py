"""The policies' networks: a trunk, one head per choice, a value head, a part shared over the members of another type, and an encoder of
maps."""
from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, ValueFunctionAPI
from ray.rllib.core.rl_module.torch import TorchRLModule
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import embedding

from envs.core.choices import Head
from envs.core.features import Layout
from kernels.core import rng
from rllib_macro.config import ConfigError, MapEncoder, Network, RunConfig
from rllib_macro.heads import Heads

WEIGHTS = 30  # purpose of the random keys of first weights
ACTIVATION = {"tanh": nn.Tanh, "relu": nn.ReLU}
KERNEL, STRIDE = 3, 2  # of convolutions over a map, in tiles
PIECE = 512  # rows of a map that are unpacked together
LABEL = re.compile(r"(?P<layer>[^\[]+)\[(?P<row>-?\d+),(?P<column>-?\d+)\]")


class MacroModule(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """One agent type's policy and value. `model_config` is what `model_config(...)` returns; its seed alone decides the first weights."""

    def setup(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.model_config["seed"])
            self._build()
        if start := self.model_config.get("start"):
            _begin(self, Path(start))

    def _build(self) -> None:
        network, config = Network(**self.model_config["network"]), self.model_config
        self.heads = Heads([Head(*head) for head in config["heads"]])
        width, tiles = config["width"], config.get("map")
        self.trunk = _trunk(width, network, tiles)
        self.policy = _layer(network.hidden[-1], self.heads.width, network.policy_gain, network)
        self.skip = EquivariantSkip(self.heads.heads, config["columns"], network.equivariant.moves) if network.equivariant else None
        self.shared = network.shared_trunk
        if not self.inference_only:
            self.value_trunk = None if self.shared else _trunk(width, network, tiles)
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


class MapReader(nn.Module):
    """Columns that are bytes of a map, unpacked and encoded, beside all other columns: (N, width) -> (N, self.width).

    A tile is one number: its layers' bytes, codes cut off, as digits of different bases. A constant table turns it into channels, bit by
    bit and code by code, exactly and in one look-up; the first weights that learn are those of the first convolution, or of `units`.
    Tiles of one layer stand row by row from column `first` on, layers one after the other; `shape` is rows and columns.
    """

    table: Tensor

    def __init__(self, encoder: MapEncoder, layers: Sequence[str], first: int, shape: tuple[int, int], width: int, network: Network):
        super().__init__()
        self.first, self.end, self.shape, self.tiles = first, first + len(layers) * shape[0] * shape[1], shape, shape[0] * shape[1]
        digits = [_unpacked(encoder.bits.get(layer), encoder.codes) for layer in layers]  # of each layer: (values, channels)
        self.largest = [None if layer in encoder.bits else float(encoder.codes) for layer in layers]
        self.base = [float(prod(len(digit) for digit in digits[:k])) for k in range(len(digits))]  # the first layer is the lowest digit
        rows = [torch.cat(of[::-1]) for of in itertools.product(*digits[::-1])]
        self.register_buffer("table", torch.stack(rows), persistent=False)
        self.encoder, out = _encoder(encoder, self.table.shape[1], shape, network)
        self.width = width - (self.end - first) + out

    def forward(self, obs: Tensor) -> Tensor:
        flat = torch.cat([obs[:, :self.first], obs[:, self.end:]], 1)
        return flat if self.encoder is None else torch.cat([flat, self.encode(obs)], 1)

    def encode(self, obs: Tensor) -> Tensor:
        """The map encoded (N, ...); on a CPU in pieces that stay in its cache where no gradient needs the whole."""
        if obs.is_cuda or torch.is_grad_enabled() or len(obs) <= PIECE:
            return self.encoder(self.unpack(obs))  # type: ignore[misc]
        return torch.cat([self.encoder(self.unpack(piece)) for piece in obs.split(PIECE)])  # type: ignore[misc]

    def unpack(self, obs: Tensor) -> Tensor:
        """The map as channels of 0 and 1: (N, channels, rows, columns), in memory a tile's channels next to each other."""
        tile: Tensor | None = None
        layers = obs[:, self.first:self.end].unflatten(1, (-1, self.tiles)).unbind(1)
        for layer, largest, base in zip(layers, self.largest, self.base, strict=True):
            code = layer if largest is None else layer.clamp(max=largest)
            tile = code if tile is None else torch.add(tile, code, alpha=base)
        assert tile is not None
        return embedding(tile.int(), self.table).unflatten(1, self.shape).permute(0, 3, 1, 2)


def _unpacked(bits: int | None, codes: int) -> Tensor:
    """What each value of a byte means: (values, channels) of 0 and 1, its bits from the lowest on, or a channel for each code but 0."""
    if bits is None:
        return torch.eye(codes + 1)[:, 1:]
    return (torch.arange(2**bits)[:, None] >> torch.arange(bits) & 1).float()


def _encoder(encoder: MapEncoder, channels: int, shape: tuple[int, int], network: Network) -> tuple[nn.Module | None, int]:
    """Convolutions, all that they leave in a row, a layer over it; and the width of their output. None of 0 units."""
    if encoder.units == 0:
        return None, 0
    parts: list[nn.Module] = []
    for number, out in enumerate(encoder.channels):
        if min(shape) < KERNEL:
            raise ConfigError(f"network.map.channels: convolution {number + 1} finds only {shape[0]} x {shape[1]} tiles and needs "
                              f"{KERNEL} x {KERNEL}; leave it out")
        parts += [_convolution(channels, out, network), ACTIVATION[network.activation]()]
        channels, shape = out, ((shape[0] - KERNEL) // STRIDE + 1, (shape[1] - KERNEL) // STRIDE + 1)
    parts.append(TilesInRow())
    width = channels * shape[0] * shape[1]
    if encoder.units is not None:
        parts += [_layer(width, encoder.units, 2**0.5, network), ACTIVATION[network.activation]()]
        width = encoder.units
    return nn.Sequential(*parts), width


class TilesInRow(nn.Module):
    """Channels of all tiles in a row, tile by tile as they lie in memory: (N, channels, rows, columns) -> (N, numbers)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def _convolution(inputs: int, outputs: int, network: Network) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, KERNEL, STRIDE)
    if network.init == "orthogonal":
        nn.init.orthogonal_(layer.weight, 2**0.5)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


def _begin(module: nn.Module, file: Path) -> None:
    """Give a network the weights in a file; ConfigError if it is missing or of another network."""
    try:
        weights = load_file(file)
    except (OSError, SafetensorError):
        raise ConfigError(f"start: cannot read the weights {file}; train what they come from first, or name a .safetensors file in the "
                          "policies of a run") from None
    own = {name: x.shape for name, x in module.state_dict().items()}
    if any(name not in weights or weights[name].shape != shape for name, shape in own.items()):
        raise ConfigError(f"start: the weights {file} are not those of this network; give both the same network and observations")
    module.load_state_dict({name: weights[name] for name in own})


def model_config(run: RunConfig, type_: str, heads: Sequence[Head], layout: Layout) -> dict[str, Any]:
    """What a MacroModule is built from, as plain data that travels to other processes."""
    network, start, number = run.policies[type_].network, run.policies[type_].start, list(run.policies).index(type_)
    columns: list[list[int]] = []
    if network.equivariant:
        seen = [layout.where(name) for name in network.equivariant.sees]
        if not all(seen) or len({len(c) for c in seen}) != 1:
            raise ValueError("equivariant.sees must name public features with one column for each member: "
                             + ", ".join(f"{n} has {len(c)}" for n, c in zip(network.equivariant.sees, seen, strict=True)))
        columns = [list(member) for member in zip(*seen, strict=True)]
    return {"network": network.model_dump(by_alias=True), "heads": [(h.choice, h.options) for h in heads], "width": layout.width,
            "columns": columns, "seed": rng.key(run.seed, WEIGHTS, number)[0], "map": network.map and _tiles(layout, network.map),
            "start": start and str(Path(start).resolve())}


def _tiles(layout: Layout, encoder: MapEncoder) -> dict[str, Any]:
    """Where the map stands among the columns: its layers in their order, its first column, rows and columns of tiles."""
    found = [column for column in layout.columns if column.feature == encoder.sees]
    if not found:
        raise ConfigError(f"network.map.sees: {encoder.sees} is not seen under these params; remove network.map")
    named = [LABEL.fullmatch(column.name) for column in found]
    places = [(m["layer"], int(m["row"]), int(m["column"])) for m in named if m]
    layers, rows, columns = (list(dict.fromkeys(axis)) for axis in zip(*places, strict=True)) if all(named) else ([], [], [])
    if places != list(itertools.product(layers, rows, columns)) or not places:
        raise ConfigError(f"network.map.sees: {encoder.sees} is no map, its columns are not labelled layer[row,column]; remove network.map")
    for layer in encoder.bits:
        if layer not in layers:
            raise ConfigError(f"network.map.bits: {encoder.sees} has no layer '{layer}'; use {', '.join(map(str, layers))}")
    if any(column.scale != 1 or column.transform != "linear" for column in found):
        raise ConfigError(f"network.map.sees: {encoder.sees} is not seen as bytes; use features: scaled or raw")
    return {"layers": layers, "first": found[0].index, "shape": (len(rows), len(columns))}


def _trunk(width: int, network: Network, tiles: dict[str, Any] | None = None) -> nn.Sequential:
    layers: list[nn.Module] = []
    if network.map and tiles:
        layers.append(reader := MapReader(network.map, tiles["layers"], tiles["first"], tuple(tiles["shape"]), width, network))
        width = reader.width
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
