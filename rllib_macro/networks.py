"""The policies' networks: a trunk, one head per choice, a value head, a part shared over the members of another type, an encoder of maps,
and a recurrent layer."""
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
from rllib_macro.config import ConfigError, MapEncoder, Network, Recurrent, RunConfig
from rllib_macro.heads import Heads

WEIGHTS = 30  # purpose of the random keys of first weights
ACTIVATION = {"tanh": nn.Tanh, "relu": nn.ReLU}
RECURRENT = {"gru": nn.GRU, "lstm": nn.LSTM}
KERNEL, STRIDE = 3, 2  # of convolutions over a map, in tiles
PIECE = 512  # rows of a map that are unpacked together
LABEL = re.compile(r"(?P<layer>[^\[]+)\[(?P<row>-?\d+),(?P<column>-?\d+)\]")


class MacroModule(TorchRLModule, ValueFunctionAPI, InferenceOnlyAPI):
    """One agent type's policy and value. `model_config` is what `model_config(...)` returns; its seed alone decides the first weights.

    An agent's memory is `memory` numbers, none without a recurrent layer: what the policy's layer remembers and, where the value has one of
    its own, what that remembers; so copies that only play have it, too. Where a method takes memories (C, memory), its rows are C sequences
    of equal length, one after the other, and `cut` (N,) marks rows with which an episode ended. Without memories every row is the first of
    an episode.
    """

    def setup(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.model_config["seed"])
            self._build()
        if start := self.model_config.get("start"):
            _begin(self, Path(start))

    def _build(self) -> None:
        network, config = Network(**self.model_config["network"]), self.model_config
        self.heads = Heads([Head(*head) for head in config["heads"]])
        width, tiles, recurrent = config["width"], config.get("map"), network.recurrent
        last = recurrent.units if recurrent else network.hidden[-1]
        self.trunk = _trunk(width, network, tiles)
        self.cell = Cell(network.hidden[-1], recurrent, network) if recurrent else None
        self.policy = _layer(last, self.heads.width, network.policy_gain, network)
        self.skip = EquivariantSkip(self.heads.heads, config["columns"], network.equivariant.moves) if network.equivariant else None
        self.value_trunk = self.value_cell = None
        if not network.shared_trunk and (recurrent or not self.inference_only):
            self.value_trunk = _trunk(width, network, tiles)
            self.value_cell = Cell(network.hidden[-1], recurrent, network) if recurrent else None
        if not self.inference_only:
            self.value = _layer(last, 1, 1.0, network)
        self.memory = sum(cell.memory for cell in (self.cell, self.value_cell) if cell)

    def inputs(self, obs: Tensor) -> Tensor:
        """The heads' inputs (N, width of all heads) for observations (N, width)."""
        return self._inputs(obs, self._hidden(obs))

    def recall(self, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The heads' inputs (N, ...) for what is seen (N, width) in sequences without a cut, and the memories (C, memory) after them."""
        own, of_value = self._memories(memory)
        hidden, own = self.cell(self.trunk(obs), own)  # type: ignore[misc]
        if self.value_cell is None:
            return self._inputs(obs, hidden), own
        _, of_value = self.value_cell(self.value_trunk(obs), of_value)  # type: ignore[misc]
        return self._inputs(obs, hidden), torch.cat([own, of_value], 1)

    def inputs_and_values(self, obs: Tensor, memory: Tensor | None = None, cut: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The heads' inputs (N, ...) and values (N,) with one pass through a shared trunk."""
        hidden = self._hidden(obs, memory, cut)
        seen = hidden if self.value_trunk is None else self._seen(obs, memory, cut)
        return self._inputs(obs, hidden), self.value(seen)[:, 0]

    def values(self, obs: Tensor, memory: Tensor | None = None, cut: Tensor | None = None) -> Tensor:
        """Values (N,) in units of scaled reward."""
        return self.value(self._seen(obs, memory, cut))[:, 0]

    def _hidden(self, obs: Tensor, memory: Tensor | None = None, cut: Tensor | None = None) -> Tensor:
        """What the heads are computed from."""
        hidden = self.trunk(obs)
        return hidden if self.cell is None else self.cell(hidden, self._memories(memory)[0], cut)[0]

    def _seen(self, obs: Tensor, memory: Tensor | None = None, cut: Tensor | None = None) -> Tensor:
        """What the value is computed from."""
        if self.value_trunk is None:
            return self._hidden(obs, memory, cut)
        seen = self.value_trunk(obs)
        return seen if self.value_cell is None else self.value_cell(seen, self._memories(memory)[1], cut)[0]

    def _memories(self, memory: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The memories of the policy and of the value."""
        if memory is None or self.value_cell is None:
            return memory, None
        own, of_value = memory.chunk(2, 1)
        return own, of_value

    def _inputs(self, obs: Tensor, hidden: Tensor) -> Tensor:
        inputs = self.policy(hidden)
        return inputs if self.skip is None else inputs + self.skip(obs)

    # RLlib's own names for the same things; its batches of a recurrent network are (sequences, periods, ...)

    def get_initial_state(self) -> dict[str, Any]:
        return {"memory": torch.zeros(self.memory)} if self.memory else {}

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        obs = batch[Columns.OBS]
        if not self.memory:
            return {Columns.ACTION_DIST_INPUTS: self.inputs(obs)}
        inputs, memory = self.recall(obs.flatten(0, 1), batch[Columns.STATE_IN]["memory"])
        return {Columns.ACTION_DIST_INPUTS: inputs.view(*obs.shape[:2], -1), Columns.STATE_OUT: {"memory": memory}}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        obs = batch[Columns.OBS]
        if not self.memory:
            return self.values(obs)
        return self.values(obs.flatten(0, 1), batch[Columns.STATE_IN]["memory"]).view(obs.shape[:2])

    def get_non_inference_attributes(self) -> list[str]:
        return ["value"] if self.cell is not None else ["value_trunk", "value"]


class OneDeviates:
    """Plays `shared` for all `count` agents of a type but one, whose inputs come from `own`: what a best response of one agent needs."""

    def __init__(self, shared: MacroModule, own: MacroModule, number: int, count: int):
        self.shared, self.own, self.number, self.count, self.memory = shared, own, number, count, shared.memory

    def inputs(self, obs: Tensor) -> Tensor:
        """The heads' inputs (N, ...) for observations (N, width), agents fastest."""
        inputs = self.shared.inputs(obs).clone()
        inputs[self.number::self.count] = self.own.inputs(obs[self.number::self.count])
        return inputs

    def recall(self, obs: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """The same in one period before which this is remembered (N, memory), and the memories after it."""
        inputs, after = (x.clone() for x in self.shared.recall(obs, memory))
        its = slice(self.number, None, self.count)
        inputs[its], after[its] = self.own.recall(obs[its], memory[its])
        return inputs, after


class Cell(nn.Module):
    """A recurrent layer whose memory of a row is its state: h of a GRU, h and c side by side of an LSTM, `units` numbers each."""

    def __init__(self, inputs: int, recurrent: Recurrent, network: Network):
        super().__init__()
        self.layer = RECURRENT[recurrent.cell](inputs, recurrent.units, batch_first=True)
        self.units, self.memory = recurrent.units, recurrent.units * (2 if recurrent.cell == "lstm" else 1)
        if network.init == "orthogonal":
            for name, x in self.layer.named_parameters():
                (nn.init.zeros_ if "bias" in name else nn.init.orthogonal_)(x)

    def forward(self, x: Tensor, memory: Tensor | None, cut: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Outputs (N, units) of rows that are C sequences one after the other, and the memories (C, ...) after their last rows.

        A row after one that is `cut` (N,) remembers nothing; without memories no row does.
        """
        memory = x.new_zeros(len(x), self.memory) if memory is None else memory
        x = x.unflatten(0, (len(memory), -1))
        ended = None if cut is None else cut.unflatten(0, (len(memory), -1))
        starts = [] if ended is None else (ended[:, :-1].any(0).nonzero()[:, 0] + 1).tolist()  # before which something is forgotten
        outputs = []
        for start, piece in zip([0, *starts], x.tensor_split(starts, 1), strict=True):
            if start and ended is not None:
                memory = memory.masked_fill(ended[:, start - 1, None], 0.0)
            output, memory = self._run(piece, memory)
            outputs.append(output)
        return torch.cat(outputs, 1).flatten(0, 1), memory

    def _run(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        before = [part[None].contiguous() for part in memory.split(self.units, 1)]
        output, after = self.layer(x, before[0] if len(before) == 1 else tuple(before))
        return output, after[0] if len(before) == 1 else torch.cat(after, 2)[0]


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
    others = [name for name in weights.keys() - own.keys() if not name.startswith("value")]  # the value's are of no use to who only plays
    if others or any(name not in weights or weights[name].shape != shape for name, shape in own.items()):
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
            "max_seq_len": network.recurrent and network.recurrent.sequence,  # RLlib's own name, for its own algorithms
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
