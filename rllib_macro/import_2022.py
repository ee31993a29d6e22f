"""A run of the program published in 2022 becomes a run folder, and nothing in it is executed on the way.

Settings are read as safe YAML, weights with `weights_only`, episodes without object arrays, and of the pickled grids only what a dict of
arrays consists of: opcodes are walked, nothing that a pickle names is ever imported or called. What the tree holds: `layout_2022`.
"""
from __future__ import annotations

import json
import math
import os
import pickletools
import re
import shutil
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from envs.core.batch import Batch
from kernels import rbc
from rllib_macro import hparams_2022, rollout_log, schedule
from rllib_macro.config import ConfigError, RunConfig, from_dict, mapping, to_dict, to_yaml
from rllib_macro.env_runner import make_batch
from rllib_macro.hparams_2022 import TYPES, ImportError2022
from rllib_macro.layout_2022 import ours, parameters
from rllib_macro.run import Progress, Run, RunError, versions

__all__ = ["ImportError2022", "Imported", "read", "read_arrays"]

LARGEST = {"hparams.yaml": 2**20, "action_arrays": 2**16, ".pt": 2**26}  # bytes; real files are many times smaller
MOST_NUMBERS = 2**28  # in one array of an episode
CLOSE = 1e-3  # relative difference of rewards that float32 explains


@dataclass(frozen=True)
class Imported:
    """The run that was made, the iterations whose policies and episodes it has, and how well its rewards are reproduced.

    `deviation` is the largest difference between a recorded reward and the one this economy pays for the same state and actions,
    relative to the largest reward of the type.
    """

    run: Run
    policies: list[int]
    episodes: list[int]
    deviation: dict[str, float] = field(default_factory=dict)

    @property
    def reproduced(self) -> bool:
        """Whether this economy pays the recorded rewards."""
        return all(value < CLOSE for value in self.deviation.values())


def read(folder: str | Path, root: str | Path = "runs", name: str | None = None, replicas: int = 8) -> Imported:
    """Make root/<name> from a folder with hparams.yaml; of every dense episode the first `replicas` are kept, all count in progress.csv.

    The name is by default the folder's. The run can be played, evaluated, plotted and answered by best responses; it has no checkpoints,
    since optimizers were not saved. ImportError2022 if a file is missing, damaged or not of such a run, RunError if the new folder exists.
    """
    folder = Path(folder)
    if not (folder / "hparams.yaml").is_file():
        raise ImportError2022(f"{folder} has no hparams.yaml; give the folder of one run, such as experiment/rollout-1640995200-0")
    grids = _grids(folder)
    config = hparams_2022.to_config(_settings(folder / "hparams.yaml"), _investment(grids), _name(folder.absolute().name))
    _require_same_grids(config, grids)
    if name is not None:
        config = from_dict(to_dict(config) | {"name": name})
    target, partial = Path(root) / config.name, Path(root) / f".{config.name}.partial"
    if target.exists():
        raise RunError(f"{target} exists already; choose another --name")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        (partial / "config.yaml").write_text(to_yaml(config))
        source = {"imported_from": folder.name, "config": to_dict(config)}
        (partial / "params.json").write_text(json.dumps(source | versions(config), indent=1))
        policies = _policies(config, folder / "saved_models", partial / "policies")
        episodes, deviation = _episodes(config, folder, partial, replicas)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Imported(Run.open(target), policies, episodes, deviation)


def _settings(file: Path) -> dict[str, Any]:
    try:
        return mapping(_content(file, LARGEST["hparams.yaml"]).decode("utf-8"), str(file))
    except UnicodeDecodeError:
        raise ImportError2022(f"{file} is not text; it must be the settings file of a run of 2022") from None
    except ConfigError as error:
        raise ImportError2022(str(error)) from None


def _content(file: Path, most: int) -> bytes:
    try:
        size = file.stat().st_size
        if size > most:
            raise ImportError2022(f"{file} has {size:,} bytes and cannot be what its name says; at most {most:,} are read")
        return file.read_bytes()
    except OSError as error:
        raise ImportError2022(f"{file} cannot be read ({error.strerror}); restore it from a copy") from None


def _name(text: str) -> str:
    """A folder's name as a run may have it."""
    return re.sub(r"[^\w.-]", "_", text, flags=re.ASCII).lstrip(".-") or "imported"


# --- the grids --------------------------------------------------------------------------------------------------------


def _grids(folder: Path) -> dict[str, np.ndarray]:
    pickled, plain = folder / "action_arrays.pickle", folder / "action_arrays.npz"
    if pickled.is_file():
        grids = read_arrays(_content(pickled, LARGEST["action_arrays"]), str(pickled))
    elif plain.is_file():
        _content(plain, LARGEST["action_arrays"])
        with _Npz(plain) as stored:
            grids = {name: stored.array(name, np.float32, (None, None)) for name in hparams_2022.action_arrays(rbc.Params())}
    else:
        raise ImportError2022(f"{folder} has no action_arrays.pickle (or .npz), which says what actions mean; copy it from the run")
    return grids


def _investment(grids: Mapping[str, np.ndarray]) -> float:
    """The share of surplus that every firm invests, as a number that a person would write."""
    terms = grids.get("price_and_wage")
    if terms is None or terms.ndim != 2 or terms.shape[1] != 3 or not len(terms) or len(np.unique(terms[:, 2])) != 1:
        raise ImportError2022("price_and_wage of the action arrays must have rows (price, wage, share), one share in all: investment is no "
                              "choice here")
    return float(str(terms[0, 2].astype(np.float32)))


def _require_same_grids(config: RunConfig, grids: Mapping[str, np.ndarray]) -> None:
    for name, here in hparams_2022.action_arrays(make_batch(config, 1).p).items():
        there = grids.get(name)
        if there is None or there.shape != here.shape or not np.allclose(there, here, rtol=1e-6, atol=0):
            raise ImportError2022(f"{name} of the action arrays is not the grid of this economy, so its actions have no meaning here")


MARK = object()
ARRAY, DTYPE, BYTES, BUFFER = "array", "dtype", "bytes", "buffer"
CALLABLE = {"_codecs encode": BYTES, "__builtin__ bytes": BYTES, "numpy dtype": DTYPE} | {
    f"numpy.{core}.{function}": meaning for core in ("core", "_core")
    for function, meaning in (("multiarray _reconstruct", ARRAY), ("numeric _frombuffer", BUFFER))}
NAMED = CALLABLE | {"numpy ndarray": "ndarray"}
NUMBERS = ("f4", "f8", "i4", "i8")


class _Named(str):
    """One of the names that a pickled array consists of; it stands for nothing that could be called."""


@dataclass
class _Made:
    """An array or dtype under construction."""

    kind: str
    parts: tuple = ()


def read_arrays(data: bytes, source: str = "the pickle") -> dict[str, np.ndarray]:
    """The arrays of numbers in a pickled {text: array}, written by NumPy with protocol 2 to 5, without unpickling.

    ImportError2022 for any other content: the opcodes are walked here, and the only things they can make are whole numbers, text, bytes,
    tuples, one dict, and arrays of float32, float64, int32 or int64.
    """
    try:
        return {_key(name): _array(value) for name, value in _dict(data).items()}
    except ImportError2022 as error:
        raise ImportError2022(f"{source} holds {error}; only a dict of plain arrays is read") from None
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        raise ImportError2022(f"{source} is not a pickled dict of arrays, or it is damaged; restore it from a copy") from None


def _dict(data: bytes) -> dict[Any, Any]:
    """What the opcodes leave on the stack."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, given, _ in pickletools.genops(data):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            break
        if name in LITERALS:
            stack.append(given if opcode.arg else LITERALS[name])
        elif name in ("EMPTY_DICT", "MARK"):
            stack.append({} if name == "EMPTY_DICT" else MARK)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else int(str(given))] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(given))])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(_named(given if name == "GLOBAL" else " ".join(_pop(stack, 2))))
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(_marked(stack) if name == "TUPLE" else _pop(stack, int(name[-1]))))
        elif name == "REDUCE":
            stack.append(_made(*_pop(stack, 2)))
        elif name == "BUILD":
            made, state = _pop(stack, 2)
            made.parts += (state,)
            stack.append(made)
        elif name in ("SETITEM", "SETITEMS"):
            items = _pop(stack, 2) if name == "SETITEM" else _marked(stack)
            stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))
        else:
            raise ImportError2022(f"the opcode {name}")
    result, = stack
    return result


LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()} | dict.fromkeys((
    "BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "BYTEARRAY8"))


def _pop(stack: list[Any], n: int) -> list[Any]:
    popped = stack[-n:]
    if len(popped) < n or any(value is MARK for value in popped):
        raise ValueError("the stack is too short")
    del stack[-n:]
    return popped


def _marked(stack: list[Any]) -> list[Any]:
    """Everything above the last mark, which goes too."""
    start = max(i for i, value in enumerate(stack) if value is MARK)
    above = stack[start + 1:]
    del stack[start:]
    return above


def _key(value: Any) -> str:
    if type(value) is not str:
        raise ImportError2022("a key that is not text")
    return value


def _named(name: Any) -> _Named:
    if name not in NAMED:
        raise ImportError2022(f"the name {str(name)[:60].replace(' ', '.')!r}")
    return _Named(NAMED[name])


def _made(function: Any, arguments: Any) -> Any:
    """What a call in a pickled array stands for; nothing is called."""
    if not isinstance(function, _Named) or function not in CALLABLE.values() or not isinstance(arguments, tuple):
        raise ImportError2022("a call of what is no part of an array")
    if function == BYTES:  # protocol 2 has no bytes: it writes them as text in latin1, and none at all as bytes()
        text, encoding = arguments or ("", "latin1")
        if encoding != "latin1":
            raise ImportError2022("text in an encoding that NumPy does not use")
        return text.encode("latin1")
    return _Made(str(function), arguments)


def _dtype(made: Any) -> np.dtype:
    """A dtype from its code and, if it has a state (version, byte order, ...), its byte order."""
    code, order = made.parts[0], "<"
    for state in made.parts[3:]:
        order = state[1]
    if made.kind != DTYPE or code not in NUMBERS or order not in ("<", ">", "=", "|"):
        raise ImportError2022("an array of other things than numbers")
    return np.dtype(code).newbyteorder(order)


def _array(made: Any) -> np.ndarray:
    """An array from its state (version, shape, dtype, whether Fortran order, bytes), or from (bytes, dtype, shape, order)."""
    if not isinstance(made, _Made) or made.kind not in (ARRAY, BUFFER):
        raise ImportError2022("a value that is no array")
    if made.kind == BUFFER:
        raw, dtype, shape, order = made.parts
    else:
        _, shape, dtype, fortran, raw = made.parts[-1]
        order = "F" if fortran is True else "C"
    of = _dtype(dtype)
    if not isinstance(raw, bytes | bytearray) or not all(type(n) is int and n >= 0 for n in shape) or order not in ("C", "F"):
        raise ValueError("not the parts of an array")
    if math.prod(shape) * of.itemsize != len(raw):
        raise ImportError2022("an array whose size is not that of its bytes")
    return np.frombuffer(bytes(raw), of).reshape(shape, order=order).astype(of.newbyteorder("="))


# --- policies ---------------------------------------------------------------------------------------------------------


def _policies(config: RunConfig, folder: Path, target: Path) -> list[int]:
    """Write the weights of every label as safetensors under its iteration; the iterations."""
    matches = [re.fullmatch(r"[a-z]+_policy_(\d{1,15})\.pt", file.name) for file in folder.glob("*_policy_*.pt")]
    labels = sorted({match[1] for match in matches if match}, key=int)
    if not labels and list(folder.glob("*_policy_latest.pt")):
        labels = ["latest"]
    if not labels:
        raise ImportError2022(f"{folder} has no files such as consumer_policy_0.pt; a run without weights cannot be played")
    batch = make_batch(config, 1)
    target.mkdir()
    iterations = []
    for label in labels:
        k = config.stop.iterations if label == "latest" or int(label) == config.stop.iterations - 1 else int(label)
        for type_ in TYPES:
            shapes = parameters(batch.layout[type_].width, [head.options for head in batch.heads[type_]])
            save_file(ours(_weights(folder / f"{type_}_policy_{label}.pt", shapes)), target / f"{type_}_{k:06d}.safetensors")
        iterations.append(k)
    return iterations


def _weights(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> list[Tensor]:
    """The tensors of a state dict, which must be as many and of such shapes, in that order; names do not matter."""
    _content(file, LARGEST[".pt"])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol of a file that is refused or fits
            state = torch.load(file, map_location="cpu", weights_only=True)
        found = [tuple(tensor.shape) for tensor in state.values()]
        fitting = found == list(shapes.values())
        tensors = [tensor.detach().to(torch.float32).contiguous().clone() for tensor in state.values()] if fitting else []
    except Exception as error:  # whatever a damaged or a foreign file makes torch raise
        raise ImportError2022(f"{file} is not a state dict of plain tensors ({_first(str(error))}); restore it from a copy") from None
    if len(found) != len(shapes):
        raise ImportError2022(f"{file} has {len(found)} tensors and the network of this run {len(shapes)}; it is of another run")
    for (name, shape), of in zip(shapes.items(), found):
        if shape != of:
            raise ImportError2022(f"{file} has the shape {of} where {name} of this run has {shape}; it is of another run")
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        raise ImportError2022(f"{file} has weights that are not finite; remove the files of this label to import the others")
    return tensors


def _first(text: str) -> str:
    """The first words of an error of torch, which can have a page."""
    return (text.split("\n")[0].split(". ")[0].strip() or "it is damaged")[:100]


# --- episodes ---------------------------------------------------------------------------------------------------------


class _Npz:
    """An .npz file whose arrays are read one by one, headers first, and never as objects."""

    def __init__(self, file: Path):
        self.file = file

    def __enter__(self) -> _Npz:
        try:
            self.archive = zipfile.ZipFile(self.file)
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise self.damaged(error) from None
        return self

    def __exit__(self, *unused: Any) -> None:
        self.archive.close()

    def array(self, name: str, dtype: Any, shape: Sequence[int | None], most: int | None = None) -> np.ndarray:
        """The first `most` rows of an array of this kind of numbers and this shape, None standing for any length."""
        try:
            with self.archive.open(f"{name}.npy") as member:
                version = np.lib.format.read_magic(member)
                header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                found, fortran, of = header(member)
                if len(found) != len(shape) or any(want not in (None, n) for want, n in zip(shape, found)):
                    want = tuple("any" if n is None else n for n in shape)
                    raise ImportError2022(f"{name} in {self.file} has the shape {found} instead of {want}".replace("'", ""))
                if of.kind != np.dtype(dtype).kind or fortran:
                    raise ImportError2022(f"{name} in {self.file} is not an array of {np.dtype(dtype)} in C order")
                rows = (found[0] if most is None else min(most, found[0]), *found[1:])
                if math.prod(rows) > MOST_NUMBERS:
                    raise ImportError2022(f"{name} in {self.file} has more than {MOST_NUMBERS:,} numbers; no run of 2022 saved so many")
                raw = member.read(math.prod(rows) * of.itemsize)
                array = np.frombuffer(raw, of).reshape(rows).astype(dtype)
        except ImportError2022:
            raise
        except KeyError:
            raise ImportError2022(f"{self.file} has no array {name}; it is no episode of a run of 2022") from None
        except (OSError, ValueError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, SyntaxError) as error:
            raise self.damaged(error) from None
        if not np.isfinite(array).all():
            raise ImportError2022(f"{name} in {self.file} has numbers that are not finite; remove the file, and the import leaves it out")
        return array

    def damaged(self, error: Exception) -> ImportError2022:
        return ImportError2022(f"{self.file} is damaged ({_first(str(error))}); remove it, and the import leaves it out")


def _episodes(config: RunConfig, folder: Path, target: Path, replicas: int) -> tuple[list[int], dict[str, float]]:
    """Write every dense episode, and a row of progress.csv for each; their iterations, and the largest deviations of rewards.

    An episode k was played before the update of iteration k and is row k + 1, as in other runs; "final", of the last iteration, is filed
    under the end of the run.
    """
    matches = [re.fullmatch(r"episode_(\d{1,15}|final)_consumer\.npz", file.name) for file in folder.glob("episode_*_consumer.npz")]
    found = {config.stop.iterations if match[1] == "final" else int(match[1]): match[1] for match in matches if match}
    rows: set[int] = set()
    deviation: dict[str, float] = {}
    if not found:
        return [], deviation
    progress = Progress(target)
    try:
        for k, label in sorted(found.items()):
            played = k - (label == "final")
            log, means, off = _episode(config, {type_: folder / f"episode_{label}_{type_}.npz" for type_ in TYPES}, played, replicas)
            rollout_log.save(log, target / "episodes", k, list(TYPES))
            deviation = {type_: max(off[type_], deviation.get(type_, 0.0)) for type_ in TYPES}
            if played not in rows:
                progress.write(_row(config, played, means))
                rows.add(played)
    finally:
        progress.close()
    return sorted(found), deviation


def _row(config: RunConfig, k: int, means: Mapping[str, float]) -> dict[str, Any]:
    """What progress.csv holds of iteration k."""
    now = schedule.plan(config, k)
    windows = {f"window/{name}/{end}": x for name, window in now.windows.items() for end, x in zip(("low", "high"), window)}
    return {"iteration": k + 1, **means, **{f"param/{name}": x for name, x in now.params.items()}, **windows}


def _episode(config: RunConfig, files: Mapping[str, Path], k: int,
             replicas: int) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, float]]:
    """One episode as a dense log; mean rewards of all replicas and measures of those kept; deviations of its rewards."""
    batch = make_batch(config, 1)
    periods = batch.economy.periods(batch.p)
    states, actions, rewards = {}, {}, {}
    means: dict[str, float] = {}
    raw = make_batch(config.model_copy(update={"features": "raw"}), 1)
    for type_, file in files.items():
        n, heads = batch.count[type_], batch.heads[type_]
        with _Npz(file) as stored:
            everybody = stored.array("rewards", np.float32, (None, periods, n))
            states[type_] = stored.array("states", np.float32, (None, periods, n, raw.layout[type_].width), replicas)
            tail = (len(heads),) if len(heads) > 1 else ()
            actions[type_] = stored.array("actions", np.int32, (None, periods, n, *tail), replicas).reshape(-1, periods, n, len(heads))
        if (actions[type_] < 0).any() or (actions[type_] >= np.array([head.options for head in heads])).any():
            raise ImportError2022(f"actions in {file} has numbers that are no option of a {type_}; remove the file")
        rewards[type_] = everybody[:replicas]
        means[f"reward/{type_}"] = float(everybody.mean(dtype=float))
    if len({len(array) for of in (states, actions, rewards) for array in of.values()}) != 1 or not len(rewards["firm"]):
        raise ImportError2022(f"the files of the episode {files['consumer']} have different numbers of replicas, or none; remove them")
    log, paid = _played(config, k, states, actions)
    log |= {f"rewards/{type_}": array for type_, array in rewards.items()}
    off = {type_: float(np.abs(paid[type_] - rewards[type_]).max() / max(np.abs(rewards[type_]).max(), 1.0)) for type_ in TYPES}
    return log, means | {f"measure/{name[8:]}": float(x.mean()) for name, x in log.items() if name.startswith("measure/")}, off


def _played(config: RunConfig, k: int, states: Mapping[str, np.ndarray],
            actions: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The dense log of recorded rows and choices, and the rewards (B, T, agents) that this economy pays for them, period by period."""
    batch = make_batch(config, len(states["firm"]))
    now = schedule.plan(config, k)
    batch.adjust(now.params, now.windows)
    batch.reset()
    frames: dict[str, list[np.ndarray]] = {}
    for t in range(states["firm"].shape[1]):
        _fill(batch, {type_: rows[:, t] for type_, rows in states.items()})
        chosen = {type_: of[:, t].astype(np.int64) for type_, of in actions.items()}
        seen = {f"state/{f.name}": getattr(batch.s, f.name) for f in fields(batch.s)} | {f"obs/{t_}": batch.observe(t_) for t_ in TYPES}
        kept = {name: array.copy() for name, array in seen.items()}
        with np.errstate(all="ignore"):  # of foreign numbers; deviations tell
            paid, _ = batch.step(chosen)
        kept |= {f"action/{name}": array.copy() for name, array in vars(batch.a).items()}
        kept |= {f"measure/{name}": array for name, array in batch.measured.items()}
        kept |= {f"chosen/{type_}": actions[type_][:, t] for type_ in TYPES} | {f"paid/{type_}": array for type_, array in paid.items()}
        for name, array in kept.items():
            frames.setdefault(name, []).append(array)
    log = {name: np.stack(of, 1) for name, of in frames.items()}
    return log, {type_: log.pop(f"paid/{type_}") for type_ in TYPES}


def _fill(batch: Batch, rows: Mapping[str, np.ndarray]) -> None:
    """Write a State from the rows in which that program keeps it: the market, then what each consumer and firm has."""
    s, f = batch.s, batch.count["firm"]
    market, consumer, firm = rows["government"][:, 0], rows["consumer"][:, :, 4 * f + 3:], rows["firm"][:, :, 4 * f + 3:]
    for i, name in enumerate(("price", "wage", "inventory", "rationed")):
        getattr(s, name)[...] = market[:, i * f:(i + 1) * f]
    for i, name in enumerate(("income_tax", "corporate_tax", "period")):
        getattr(s, name)[...] = market[:, 4 * f + i]
    s.budget[...], s.theta[...] = consumer[:, :, 0], consumer[:, :, 1]
    s.firm_budget[...], s.capital[...], s.labor_share[...] = firm[:, :, 0], firm[:, :, 1], firm[:, :, 2]


def listed(iterations: Iterable[int]) -> str:
    """0, 10,000, ..., 200,000: a few numbers of many."""
    known = [f"{k:,}" for k in iterations]
    return ", ".join(known if len(known) <= 6 else [*known[:2], "...", known[-1]]) or "none"
