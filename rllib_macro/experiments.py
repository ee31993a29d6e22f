"""What learned behaviour implies: impulse responses, and rules in place of a type, both against the same draws without the change."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from kernels.core.arrays import to_host
from rllib_macro import evaluate
from rllib_macro.config import RunConfig
from rllib_macro.env_runner import fresh_player, make_batch
from rllib_macro.run import RunError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Response:
    """A measure's path with the shock less its path without, period by period: mean and 95 % band over all paired episodes."""

    mean: list[float]
    low: list[float]
    high: list[float]
    baseline: list[float]


def impulse(config: RunConfig, policies: Mapping[str, Any], shock: str, size: float, at: int = 1, *, seeds: Sequence[int] = (0, 1, 2),
            replicas: int = 64) -> dict[str, Response]:
    """Impulse responses of every measure and reward to `size` added to one draw of a shock in period `at` (from 0), {name: Response}.

    Every episode is played twice with the same random numbers, once with the shock; policies react to what they see.
    """
    economy = make_batch(config, 1)
    if not hasattr(economy.e, shock):
        known = ", ".join(vars(economy.e)) or "none"
        raise RunError(f"this economy has no shock {shock!r}; its shocks are: {known}")
    if not 0 <= at < economy.economy.periods(economy.p):
        raise RunError(f"the shock must come in period 0 to {economy.economy.periods(economy.p) - 1}, got {at}")
    without = [_paths(config, policies, seed, replicas, {}) for seed in seeds]
    shocked = [_paths(config, policies, seed, replicas, {shock: (at, size)}) for seed in seeds]
    return {name: _response(*(np.concatenate([paths[name] for paths in of]) for of in (without, shocked))) for name in without[0]}


def compare(config: RunConfig, policies: Mapping[str, Any], type_: str, rules: Sequence[str], *, seeds: Sequence[int] | None = None,
            replicas: int | None = None) -> list[dict[str, Any]]:
    """Rewards and measures when a type follows each of some rules, the others' behaviour fixed: a row for learned play and for each rule.

    `gain` is each type's reward less that under the learned policy, with a 95 % t interval over the paired seeds.
    """
    learned = evaluate.play(config, policies, seeds=seeds, replicas=replicas)
    rows = [{"rule": "learned", "rewards": _means(learned.rewards), "measures": _means(learned.measures), "gain": {}}]
    for rule in rules:
        played = evaluate.play(config, policies, {type_: rule}, seeds=seeds, replicas=replicas)
        gain = {t: _interval(np.subtract(of, learned.rewards[t])) for t, of in played.rewards.items()}
        rows.append({"rule": rule, "rewards": _means(played.rewards), "measures": _means(played.measures), "gain": gain})
    return rows


def _paths(config: RunConfig, policies: Mapping[str, Any], seed: int, replicas: int,
           impulses: Mapping[str, tuple[int, float]]) -> dict[str, np.ndarray]:
    """{measure or reward: (replicas, periods)} of one episode."""
    player = fresh_player(config, policies, replicas, seed)
    batch = player.batch
    batch.impulses = dict(impulses)
    frames: dict[str, list[np.ndarray]] = {}
    for t in range(batch.economy.periods(batch.p)):
        player.play(1, t)
        for name, measured in batch.measured.items():
            frames.setdefault(name, []).append(np.array(to_host(measured)))
        for type_ in batch.economy.agents:
            frames.setdefault(f"reward/{type_}", []).append(to_host(getattr(batch.r, type_)).reshape(replicas, -1).mean(1))
    return {name: np.stack(frame, 1) for name, frame in frames.items()}


def _response(without: np.ndarray, with_shock: np.ndarray) -> Response:
    difference = with_shock.astype(float) - without
    mean = difference.mean(0)
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(difference) - 1) * difference.std(0, ddof=1) / np.sqrt(len(difference))
    return Response(mean.tolist(), (mean - half).tolist(), (mean + half).tolist(), without.mean(0).tolist())


def _interval(gains: np.ndarray) -> dict[str, float]:
    mean = float(gains.mean())
    if len(gains) < 2:
        return {"mean": mean, "low": float("nan"), "high": float("nan")}
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _means(table: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in table.items()}
