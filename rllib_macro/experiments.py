"""What behaviour implies: impulse responses, and rules in place of a type, both against the same draws without the change."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from scipy import stats

import envs
from envs.core.batch import Batch
from envs.core.economy import Economy
from kernels.core.arrays import to_host
from rllib_macro import evaluate
from rllib_macro.config import RunConfig
from rllib_macro.env_runner import fixed_params, fresh_player
from rllib_macro.run import RunError

CONFIDENCE = 0.95
OWN = "own"  # unit of a plain difference
Paths = dict[str, np.ndarray]  # measure or reward/type: (episodes, periods)


@dataclass(frozen=True)
class Response:
    """A measure's path with the shock less its path without, period by period: mean and 95 % band over all paired episodes.

    `unit` is percent for 100 times a difference of logs, points for 100 times a difference, own for a plain difference; the baseline is
    the path without shock in the measure's own unit.
    """

    mean: list[float]
    low: list[float]
    high: list[float]
    baseline: list[float]
    unit: str


@dataclass(frozen=True)
class Sign:
    """Whether the mean response over some quarters after a shock has the sign that theory expects, with all of its 95 % interval."""

    measure: str
    expected: str
    quarters: tuple[int, int]
    value: float
    low: float
    high: float
    holds: bool


@dataclass(frozen=True)
class Impulse:
    """Responses of every measure and reward to shocks whose first effects come in period `first`, and how they fit the expected signs."""

    responses: dict[str, Response]
    signs: list[Sign]
    first: int
    pairs: int


def impulse(config: RunConfig, policies: Mapping[str, Any], shocks: Mapping[str, float], at: int = 1, *, quarters: int = 1,
            seeds: Sequence[int] = (0, 1, 2), replicas: int = 64, within: Mapping[str, float] | None = None) -> Impulse:
    """Responses to so much added to the draws of some shocks in `quarters` periods from period `at` (from 0) on.

    `within` are Params in force in the episodes, with and without the shocks, but not in the play that warms them up. Every episode is
    played twice with the same random numbers, from the same start, once with the shocks; policies react to what they see. Signs are
    expected of a single shock only.
    """
    economy = envs.load(config.economy)
    last = economy.periods(fixed_params(config)) - 1
    _require_shocks(economy, shocks)
    if not 0 <= at <= last:
        raise RunError(f"the shock must come in period 0 to {last}, got {at}")
    found: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for seed in seeds:
        without = paths(config, policies, seed, replicas, within=within)
        shocked = paths(config, policies, seed, replicas, {t: shocks for t in range(at, at + quarters)}, within=within)
        for name in without:
            found.setdefault(name, []).append((without[name], shocked[name]))
    baseline, with_shock = ({name: np.concatenate([pair[i] for pair in pairs]) for name, pairs in found.items()} for i in (0, 1))
    moved = {name: _difference(baseline[name], with_shock[name], economy.study.scales.get(name, OWN)) for name in baseline}
    responses = {name: _response(moved[name], baseline[name], unit(economy, name)) for name in moved}
    signs = _signs(economy, *next(iter(shocks.items())), moved, at + 1) if len(shocks) == 1 else []
    return Impulse(responses, signs, at + 1, len(seeds) * replicas)


def compare(config: RunConfig, policies: Mapping[str, Any], type_: str, rules: Sequence[str], *, seeds: Sequence[int] | None = None,
            replicas: int | None = None) -> list[dict[str, Any]]:
    """Rewards and measures when a type follows each of some rules, the others' behaviour fixed: a row for learned play and for each rule.

    `gain` is each type's reward less that under the learned policy, with a 95 % t interval over the paired seeds.
    """
    learned = evaluate.play(config, policies, seeds=seeds, replicas=replicas)
    rows = [{"rule": "learned", "rewards": _means(learned.rewards), "measures": _means(learned.measures), "gain": {}}]
    for rule in rules:
        played = evaluate.play(config, policies, {type_: rule}, seeds=seeds, replicas=replicas)
        gain = {t: interval(np.subtract(of, learned.rewards[t])) for t, of in played.rewards.items()}
        rows.append({"rule": rule, "rewards": _means(played.rewards), "measures": _means(played.measures), "gain": gain})
    return rows


def paths(config: RunConfig, policies: Mapping[str, Any], seed: int, replicas: int, shocks: Mapping[int, Mapping[str, float]] | None = None,
          watch: Callable[[Batch], None] | None = None, explore: bool = True, within: Mapping[str, float] | None = None) -> Paths:
    """Every measure and mean reward in every period of one episode of fresh replicas, with Params changed after any warm-up.

    `shocks` are what is added to draws, {period: {shock: size}}; `watch` is called with the batch after every period, the last of which
    leaves the State of a new episode.
    """
    player = fresh_player(config, policies, replicas, seed)
    batch = player.batch
    batch.adjust(within)
    frames: dict[str, list[np.ndarray]] = {}
    for t in range(batch.economy.periods(batch.p)):
        batch.impulses = {name: (t, size) for name, size in (shocks or {}).get(t, {}).items()}
        player.play(1, t, explore)
        for name, measured in batch.measured.items():
            frames.setdefault(name, []).append(np.array(to_host(measured)))
        for type_ in batch.economy.agents:
            frames.setdefault(f"reward/{type_}", []).append(to_host(batch.paid(type_)).mean(1))
        if watch:
            watch(batch)
    return {name: np.stack(frame, 1) for name, frame in frames.items()}


def unit(economy: Economy, name: str) -> str:
    """Unit of a response: percent or points where the economy says so, the reward's own, or the measure's own."""
    type_ = name.removeprefix("reward/")
    if type_ == name:
        return economy.study.scales.get(name, OWN)
    declared = {field.name: field.metadata.get("unit") for field in fields(economy.kernel.Rewards)}
    return declared[economy.known_as(type_)] or economy.agents[type_].reward_unit or OWN


def interval(values: Any) -> dict[str, float]:
    """Mean of independent values and its 95 % t interval; NaN bounds for a single value."""
    values = np.asarray(values, float)
    mean, half = float(values.mean()), float(_half_width(values)) if len(values) > 1 else float("nan")
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _half_width(values: np.ndarray) -> Any:
    """Of the 95 % t interval of means along the first axis."""
    n = len(values)
    return stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(0, ddof=1) / np.sqrt(n)


def _require_shocks(economy: Economy, shocks: Mapping[str, float]) -> None:
    """RunError unless all of them are shocks that something can be added to."""
    known = [field.name for field in fields(economy.kernel.Shocks) if field.metadata.get("dtype", "real") == "real"]
    for shock in shocks:
        if shock not in known:
            raise RunError(f"this economy has no shock {shock!r}; its shocks are: {', '.join(known) or 'none'}")


def _difference(without: np.ndarray, with_shock: np.ndarray, scale: str) -> np.ndarray:
    """The response of each pair; NaN where a logarithm is asked of what is not positive."""
    without, with_shock = without.astype(float), with_shock.astype(float)
    if scale == "percent":
        with np.errstate(invalid="ignore", divide="ignore"):
            found = 100 * np.log(with_shock / without)
        return np.where((without > 0) & (with_shock > 0), found, np.nan)
    return (100 if scale == "points" else 1) * (with_shock - without)


def _response(moved: np.ndarray, without: np.ndarray, unit: str) -> Response:
    mean, half = moved.mean(0), _half_width(moved)
    return Response(mean.tolist(), (mean - half).tolist(), (mean + half).tolist(), without.mean(0).tolist(), unit)


def _signs(economy: Economy, shock: str, size: float, moved: Paths, first: int) -> list[Sign]:
    """The signs expected of a shock, in quarters that are counted from its first effects, as far as the episode reaches."""
    found = []
    for measure, (sign, start, end) in economy.study.signs.get(shock, {}).items():
        window = moved[measure][:, first + start:first + end + 1]
        if window.size and size:
            expected = sign if size > 0 else -sign
            of = interval(window.mean(1))
            found.append(Sign(measure, "+" if expected > 0 else "-", (start, start + window.shape[1] - 1), of["mean"], of["low"],
                              of["high"], holds=of["low"] > 0 if expected > 0 else of["high"] < 0))
    return found


def _means(table: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in table.items()}
