"""Dense logs: what every agent saw, chose and got in one episode of a few replicas, as plain arrays in one npz file per type.

Keys: obs (B, T, n, D) float32; chosen (B, T, n, H); rewards (B, T, n); every Actions field and every State field that has the type's
axis or none, under action/<name> and state/<name>, (B, T, ...), recorded before the step; measures under measure/<name> (B, T).

`save_tables` writes the same as Parquet: a row for each replica, period and agent, and for each replica and period of the market.
"""
from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from kernels.core.arrays import to_host
from rllib_macro import evaluate
from rllib_macro.config import RunConfig
from rllib_macro.env_runner import fresh_player, make_batch
from rllib_macro.run import RunError

REPLICAS = 8  # that an episode of a run is logged with
MEGABYTE = 10**6


def record(config: RunConfig, policies: Mapping[str, Any], replicas: int = REPLICAS, seed: int = 0,
           iteration: int | None = None) -> dict[str, np.ndarray]:
    """One episode of `replicas` copies: {"obs/<type>", "chosen/<type>", "rewards/<type>", "state/<field>", "action/<field>",
    "measure/<name>"} -> arrays (B, T, ...); states before each step, measures after it."""
    player = fresh_player(config, policies, replicas, seed, iteration)
    batch = player.batch
    frames: dict[str, list[np.ndarray]] = {}

    def keep(name: str, array: Any) -> None:
        frames.setdefault(name, []).append(np.array(to_host(array)))

    for t in range(batch.economy.periods(batch.p)):
        for name, array in vars(batch.s).items():
            keep(f"state/{name}", array)
        rollout, _ = player.play(1, t)
        for name, array in vars(batch.a).items():
            keep(f"action/{name}", array)
        for name, array in batch.measured.items():
            keep(f"measure/{name}", array)
        for type_ in batch.economy.agents:
            keep(f"rewards/{type_}", batch.paid(type_))
        for type_, x in rollout.types.items():
            shape = (replicas, batch.count[type_], -1)
            keep(f"obs/{type_}", x.obs[0].reshape(shape).cpu().numpy())
            keep(f"chosen/{type_}", x.chosen[0].reshape(shape).cpu().numpy())
    return {name: np.stack(of, 1) for name, of in frames.items()}


def save(log: Mapping[str, np.ndarray], folder: Path, iteration: int, types: list[str]) -> list[Path]:
    """Write one npz for each agent type, and one for the market: episode_<iteration>_<type>.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, arrays in _parts(log, types).items():
        files.append(folder / f"episode_{iteration:06d}_{name}.npz")
        np.savez_compressed(files[-1], allow_pickle=False, **arrays)  # type: ignore[arg-type]
    return files


def _parts(log: Mapping[str, np.ndarray], types: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """{file: {key: array}} of a log: a file for each type, then the market's."""
    parts = {type_: {name.rpartition("/")[0]: array for name, array in log.items() if name.endswith(f"/{type_}") and name.count("/") == 1}
             for type_ in types}
    return parts | {"market": {name: array for name, array in log.items() if name.split("/")[0] in ("state", "action", "measure")}}


# --- tables -----------------------------------------------------------------------------------------------------------


def save_tables(log: Mapping[str, np.ndarray], folder: Path, iteration: int, config: RunConfig) -> list[Path]:
    """Write the tables of a log as episode_<iteration>_<type>.parquet and ..._market.parquet, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, table in tables(log, config).items():
        files.append(folder / f"episode_{iteration:06d}_{name}.parquet")
        partial = files[-1].with_name(f".{files[-1].name}.partial")
        partial.write_bytes(_parquet(table))
        os.replace(partial, files[-1])
    return files


def tables(log: Mapping[str, np.ndarray], config: RunConfig) -> dict[str, pandas.DataFrame]:
    """{type: a row for each replica, period and agent, "market": for each replica and period}, everything under the names of the log.

    A type has its rewards, observations (obs/<column>), options (chosen/<head>) and the fields on its axis; the market has the other
    fields and the measures. A field with one more axis has a column for each of its members: action/demand[3].
    """
    batch = make_batch(config, 1)
    kernel, found = batch.economy.kernel, {}
    declared = (("state", kernel.State), ("action", kernel.Actions))
    axes = {f"{kind}/{f.name}": f.metadata["axes"] for kind, of in declared for f in fields(of)}
    sizes = {name: kernel.AXES[of[0]] for name, of in axes.items() if of}  # Param that counts the rows of a field
    for type_ in batch.economy.agents:
        own = {"reward": log[f"rewards/{type_}"]}
        rows = batch.economy.rows(type_, batch.p)
        own |= {name: log[name][:, :, rows] for name, size in sizes.items() if size == batch.economy.counted_by(type_) and name in log}
        columns = _columns(own, ("replica", "period", "agent"))
        if f"chosen/{type_}" in log:
            labels = [column.name for column in batch.layout[type_].columns]
            columns |= _columns({"obs": log[f"obs/{type_}"]}, (), [f"obs/{label}" for label in labels])
            columns |= _columns({"chosen": log[f"chosen/{type_}"]}, (), [f"chosen/{name}" for name in _distinct(batch.heads[type_])])
        found[type_] = pandas.DataFrame(columns)
    counted = {batch.economy.counted_by(type_) for type_ in batch.economy.agents}
    others = {name for name in axes if sizes.get(name) not in counted}
    market = {name: array for name, array in log.items() if name in others or name.startswith("measure/")}
    return found | {"market": pandas.DataFrame(_columns(market, ("replica", "period")))}


def _distinct(heads: Sequence[Any]) -> list[str]:
    """The choice that each head is part of, numbered where it has several: demand[0], demand[1], hours."""
    names = [head.choice for head in heads]
    return [name if names.count(name) == 1 else f"{name}[{names[:i].count(name)}]" for i, name in enumerate(names)]


def _columns(arrays: Mapping[str, np.ndarray], index: Sequence[str], names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Columns of arrays whose first axes are the index's (three if it is empty), columns of those with further axes named or numbered."""
    deep = len(index) or 3
    shape = next(iter(arrays.values())).shape[:deep]
    columns = {name: number.reshape(-1).astype(np.int32) for name, number in zip(index, np.indices(shape))}
    for name, array in arrays.items():
        flat = array.reshape(int(np.prod(shape)), -1)
        labels = list(names) or ([name] if array.ndim == deep else [f"{name}[{i}]" for i in range(flat.shape[1])])
        columns |= dict(zip(labels, flat.T, strict=True))
    return columns


# --- room on the disk -------------------------------------------------------------------------------------------------


def forecast(config: RunConfig, replicas: int = REPLICAS, episodes: int = 1, parquet: bool = False) -> float:
    """Megabytes (10**6 bytes) that the logs of some episodes will take, on the line through untrained play of 4 and 16 replicas."""
    log = record(config, evaluate.modules(config), 16)
    few, many = (_packed({name: array[:n] for name, array in log.items()}, config, parquet) for n in (4, 16))
    return max(few / 4, few + (replicas - 4) * (many - few) / 12) * episodes / MEGABYTE


def _packed(log: Mapping[str, np.ndarray], config: RunConfig, parquet: bool) -> int:
    """Bytes of a log's files."""
    size = 0
    for arrays in _parts(log, list(config.policies)).values():
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, **arrays)  # type: ignore[arg-type]
        size += packed.tell()
    return size + sum(len(_parquet(table)) for table in (tables(log, config).values() if parquet else ()))


def _parquet(table: pandas.DataFrame) -> bytes:
    packed = io.BytesIO()
    table.to_parquet(packed, engine="pyarrow", compression="zstd", index=False)
    return packed.getvalue()


def episodes(config: RunConfig, done: int = 0) -> int:
    """How many episodes a run logs after `done` iterations: those due while it trains, and one at the end."""
    every, end = config.log.episode_every, config.stop.iterations
    return ((end - 1) // every - done // every if every and done < end else 0) + 1


def require_room(megabytes: float, folder: Path) -> None:
    """RunError if logs of this size do not fit on the disk of a folder, which need not exist yet."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free / MEGABYTE
    if megabytes > free:
        raise RunError(f"the dense logs would take about {megabytes:,.0f} MB and {there} has {free:,.0f} MB left; log fewer replicas or "
                       "less often (log.episode_every), or choose another folder")
