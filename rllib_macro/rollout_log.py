"""Dense logs: what every agent saw, chose and got in one episode of a few replicas, as plain arrays in one npz file per type.

Keys: obs (B, T, n, D) float32; chosen (B, T, n, H); rewards (B, T, n); every Actions field and every State field that has the type's
axis or none, under action/<name> and state/<name>, (B, T, ...), recorded before the step; measures under measure/<name> (B, T).
"""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kernels.core.arrays import to_host
from rllib_macro.config import RunConfig
from rllib_macro.env_runner import fresh_player


def record(config: RunConfig, policies: Mapping[str, Any], replicas: int = 8, seed: int = 0,
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
            keep(f"rewards/{type_}", getattr(batch.r, type_).reshape(replicas, -1))
        for type_, x in rollout.types.items():
            shape = (replicas, batch.count[type_], -1)
            keep(f"obs/{type_}", x.obs[0].reshape(shape).cpu().numpy())
            keep(f"chosen/{type_}", x.chosen[0].reshape(shape).cpu().numpy())
    return {name: np.stack(of, 1) for name, of in frames.items()}


def save(log: Mapping[str, np.ndarray], folder: Path, iteration: int, types: list[str]) -> list[Path]:
    """Write one npz for each agent type, and one for the market: episode_<iteration>_<type>.npz."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for type_ in types:
        own = {name.rpartition("/")[0]: array for name, array in log.items() if name.endswith(f"/{type_}") and name.count("/") == 1}
        files.append(folder / f"episode_{iteration:06d}_{type_}.npz")
        np.savez_compressed(files[-1], allow_pickle=False, **own)
    market = {name: array for name, array in log.items() if name.split("/")[0] in ("state", "action", "measure")}
    files.append(folder / f"episode_{iteration:06d}_market.npz")
    np.savez_compressed(files[-1], allow_pickle=False, **market)
    return files
