"""A run of the RBC economy as the file tree of the program published in 2022; `import_2022` reads such trees back.

    hparams.yaml                             settings, sections metadata, agents, world, train
    action_arrays.npz                        consumption_choices (11, 1), work_choices (5, 1), price_and_wage (30, 3), tax_choices (36, 2)
    episode_<k>_<type>.npz                   one dense episode, as played by the policies of iteration k; "final": of the last
    saved_models/<type>_policy_<k>.pt        weights after k iterations; "latest": the newest
    br_<type>_output.txt                     best responses of a type, a line for each: rewards before and after, the improvement
    br<type>/saved_models/, br<type>/episode_<k>_<type>.npz    the profile of iteration k with the best response in it, all types

B replicas, T periods, N consumers, F firms. Keys of an episode, of consumers, firms and government: states f32, the rows before each
period in economic units, (B, T, N, 4F + 5), (B, T, F, 5F + 6), (B, T, 1, 4F + 3); actions i32, option numbers, (B, T, N, F + 2), (B, T, F),
(B, T, 1); rewards f32 (B, T, agents); action_array, the grid of hours, of prices and wages, of taxes; aux_array f32, what consumers got
(B, T, N, F), what firms exported (B, T, F).

That program numbers the files in br<type>/ by the iterations of the best response, so that those of one profile overwrite another's.
Here k is the profile's. Of several best responses to a profile the largest gain is kept, of its training seeds too; the standard
deviations in the text are over these. The value layer is the profile's, as a deviation is kept without.

Two things differ, because they were pickled objects, which run code when they are read: the grids are an .npz instead of
action_arrays.pickle, and the government's aux_array is an empty f32 array instead of None. The weights of the end carry the number of the
last iteration, counted from 0, as they did there.
"""
from __future__ import annotations

import os
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from envs.core.batch import Batch
from kernels.core import launch
from rllib_macro import evaluate, hparams_2022, rollout_log, schedule
from rllib_macro.config import RunConfig
from rllib_macro.env_runner import make_batch
from rllib_macro.hparams_2022 import TYPES, LayoutError
from rllib_macro.run import Run, RunError

__all__ = ["FOLDER", "LayoutError", "require", "write", "write_episode"]

FOLDER = "layout_2022"
HIDDEN = 128
GRIDS = {"consumer": "work_choices", "firm": "price_and_wage", "government": "tax_choices"}
FLOWS = {"consumer": "bought", "firm": "exported"}
DAMAGE = (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error)


def require(config: RunConfig) -> None:
    """LayoutError unless runs of this configuration can be written."""
    hparams_2022.from_config(config)


def write(run: Run, folder: str | Path) -> list[Path]:
    """Write settings, grids, the policies of all saved iterations, all dense episodes and best responses of types; files are replaced.

    LayoutError if the run has settings that the tree cannot hold, RunError if a file of the run is damaged.
    """
    folder, config = Path(folder), run.config
    settings = hparams_2022.from_config(config, run.path.name, run.path.absolute().parent.name)
    batch = make_batch(config, 1)
    files = [_put(folder / "hparams.yaml", lambda file: file.write(yaml.safe_dump(settings).encode())),
             _put(folder / "action_arrays.npz", lambda file: np.savez(file, allow_pickle=False, **hparams_2022.action_arrays(batch.p)))]
    saved = run.saved()
    for k in saved:
        labels = [_label(config, k), *(["latest"] if k == saved[-1] else [])]
        files += _write_policies(folder / "saved_models", evaluate.modules(config, run.weights(k)), batch, labels)
    if 0 not in saved and run.checkpoints():
        files += _write_policies(folder / "saved_models", evaluate.modules(config), batch, ["0"])
    for k, log in _episodes(run):
        files += write_episode(config, log, k, folder)
    for type_ in TYPES:
        files += _write_best_responses(run, type_, folder, batch)
    return list(dict.fromkeys(files))


def write_episode(config: RunConfig, log: Mapping[str, np.ndarray], k: int, folder: str | Path) -> list[Path]:
    """Write one dense log (see `rollout_log.record`), played by the policies of iteration k, as three files."""
    require(config)
    label = "final" if k == config.stop.iterations else str(k)
    try:
        episode = _episode(config, log, k)
    except DAMAGE as error:
        raise RunError(f"the episode of iteration {k} is not one of this run ({error}); remove its files, or play it anew") from None
    return [_put(Path(folder) / f"episode_{label}_{type_}.npz", _npz(arrays)) for type_, arrays in episode.items()]


def _episode(config: RunConfig, log: Mapping[str, np.ndarray], k: int) -> dict[str, dict[str, np.ndarray]]:
    """{type: {key: array}} of an episode's files."""
    states, flows, grids = _replayed(config, log, k)
    chosen = {type_: log[f"chosen/{type_}"].astype(np.int32) for type_ in TYPES}
    return {type_: {
        "states": states[type_], "actions": chosen[type_] if type_ == "consumer" else chosen[type_][..., 0],
        "rewards": log[f"rewards/{type_}"].astype(np.float32), "action_array": grids[GRIDS[type_]],
        "aux_array": flows.get(type_, np.zeros(0, np.float32)),
    } for type_ in TYPES}


def _npz(arrays: Mapping[str, np.ndarray]) -> Callable[[Any], Any]:
    return lambda file: np.savez_compressed(file, allow_pickle=False, **arrays)


def _pt(tensors: Mapping[str, Tensor]) -> Callable[[Any], Any]:
    return lambda file: torch.save(dict(tensors), file)


def _put(file: Path, save: Callable[[Any], Any]) -> Path:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as stream:
        save(stream)
    os.replace(partial, file)
    return file


# --- episodes ---------------------------------------------------------------------------------------------------------


def _episodes(run: Run) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """(iteration, dense log) of every episode kept in the run."""
    for market in sorted((run.path / "episodes").glob("episode_*_market.npz")):
        number = market.name.split("_")[1]
        if not number.isdecimal():
            continue
        try:
            log = _arrays(market)
            for type_ in TYPES:
                log |= {f"{name}/{type_}": array for name, array in _arrays(market.with_name(f"episode_{number}_{type_}.npz")).items()}
            missing = [name for type_ in TYPES for name in (f"chosen/{type_}", f"rewards/{type_}") if name not in log]
            if missing:
                raise KeyError(missing[0])
        except DAMAGE as error:
            raise RunError(f"the episode {market} is damaged ({error}); remove its files, and the layout leaves it out") from None
        yield int(number), log


def _arrays(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as stored:
        return dict(stored)


def _replayed(config: RunConfig, log: Mapping[str, np.ndarray], k: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Rows before each period, and what consumers got and firms exported in it: (B, T, agents, columns); and the grids.

    The log has flows of the period before, so each period is stepped once more from its state with its choices.
    """
    replicas, periods = log["state/price"].shape[:2]
    batch = make_batch(config.model_copy(update={"features": "raw"}), replicas)
    now = schedule.plan(config, k)
    batch.adjust(now.params, now.windows)
    rows: dict[str, list[np.ndarray]] = {type_: [] for type_ in TYPES}
    flows: dict[str, list[np.ndarray]] = {type_: [] for type_ in FLOWS}
    for t in range(periods):
        for field in fields(batch.s):
            getattr(batch.s, field.name)[...] = log[f"state/{field.name}"][:, t]
        for type_ in TYPES:
            rows[type_].append(batch.observe(type_).copy())
            batch.decide(type_, log[f"chosen/{type_}"][:, t].astype(np.int64))
        with launch.use(batch.backend):
            batch.kernel.step(batch.p, batch.s, batch.a, batch.e, batch.r)
        for type_, name in FLOWS.items():
            flows[type_].append(getattr(batch.s, name).astype(np.float32))
    stacked = [{type_: np.stack(frames, 1) for type_, frames in of.items()} for of in (rows, flows)]
    return stacked[0], stacked[1], hparams_2022.action_arrays(batch.p)


# --- policies ---------------------------------------------------------------------------------------------------------


def _write_policies(folder: Path, policies: Mapping[str, Any], batch: Batch, labels: Sequence[str]) -> list[Path]:
    files = []
    for type_ in TYPES:
        tensors = published(policies[type_].state_dict(), [head.options for head in batch.heads[type_]])
        files += [_put(folder / f"{type_}_policy_{label}.pt", _pt(tensors)) for label in labels]
    return files


def parameters(width: int, heads: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published network in their order: two layers of 128 units, one layer for each head, the value.

    A type with one head calls it fc3, one with several action_heads.<i>.
    """
    layers = {"fc1": (HIDDEN, width), "fc2": (HIDDEN, HIDDEN)}
    layers |= {"fc3" if len(heads) == 1 else f"action_heads.{i}": (options, HIDDEN) for i, options in enumerate(heads)}
    layers |= {"fc4": (1, HIDDEN)}
    return {f"{name}.{part}": shape for name, (out, into) in layers.items() for part, shape in (("weight", (out, into)), ("bias", (out,)))}


def _label(config: RunConfig, k: int) -> str:
    """The number in the names of files with the weights of iteration k; those of the end carry the number of the last iteration."""
    return str(k if k < config.stop.iterations else k - 1)


# --- best responses ---------------------------------------------------------------------------------------------------


def _write_best_responses(run: Run, type_: str, folder: Path, batch: Batch) -> list[Path]:
    """br_<type>_output.txt and br<type>/ of a type's best responses; nothing where it has none."""
    found = [(where, result) for where, result in run.best_responses() if result["deviator"] == type_]
    if not found:
        return []
    lines = "".join(_line(run.config, result) for _, result in found)
    files = [_put(folder / f"br_{type_}_output.txt", lambda file: file.write(lines.encode()))]
    best = {result["checkpoint"]: (where, result) for where, result in sorted(found, key=lambda item: item[1]["gain"])}
    for k, (where, result) in sorted(best.items()):
        weights = run.weights(k)
        weights[type_] = weights[type_] | _deviation(where, type_, result)
        policies = evaluate.modules(run.config, weights)
        files += _write_policies(folder / f"br{type_}" / "saved_models", policies, batch, [_label(run.config, k)])
        log = rollout_log.record(run.config, policies, seed=run.config.seed, iteration=k)
        files += write_episode(run.config, log, k, folder / f"br{type_}")
    return files


def _line(config: RunConfig, result: Mapping[str, Any]) -> str:
    """One line of br_<type>_output.txt: means over training seeds, and their standard deviations (of the profile 0 if not recorded)."""
    gains = np.array(result.get("gains") or [result["gain"]])
    before = np.array(result.get("profiles") or np.full(len(gains), result["profile"]))
    said = [f"{of.mean()} ({of.std()})" for of in (before, before + gains, gains)]
    return (f"mean reward (std) on rollout {_label(config, result['checkpoint'])}: before BR training {said[0]}, "
            f"after BR training {said[1]}, mean improvement {said[2]}\n")


def _deviation(where: Path, type_: str, result: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of the training seed that gained most."""
    file = where / f"{type_}_seed_{int(np.argmax(result.get('gains') or [result['gain']]))}.safetensors"
    try:
        return load(file.read_bytes())
    except (OSError, SafetensorError) as error:
        raise RunError(f"{file} is damaged ({error}); remove the folder {where} to leave it out") from None


def published(weights: Mapping[str, Tensor], heads: Sequence[int]) -> dict[str, Tensor]:
    """Our weights of a shared 2 x 128 trunk under the published names, the heads taken apart."""
    trunk = [weights[f"trunk.{layer}.{part}"] for layer in (0, 2) for part in ("weight", "bias")]
    split = [weights[f"policy.{part}"].split(list(heads)) for part in ("weight", "bias")]
    tensors = [*trunk, *(tensor for head in zip(*split, strict=True) for tensor in head), weights["value.weight"], weights["value.bias"]]
    names = parameters(weights["trunk.0.weight"].shape[1], heads)
    return {name: tensor.detach().cpu().clone() for name, tensor in zip(names, tensors, strict=True)}


def ours(tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Weights in the published order, whatever their names, under ours, the heads put together."""
    names = [f"trunk.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")]
    heads = {f"policy.{part}": torch.cat(list(tensors[4 + offset:-2:2])) for offset, part in enumerate(("weight", "bias"))}
    return dict(zip(names, tensors[:4])) | heads | {"value.weight": tensors[-2], "value.bias": tensors[-1]}
