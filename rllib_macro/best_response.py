"""How much could one type, or one agent, still gain by leaving the learned profile alone? A lower bound on epsilon, with its interval.

A checkpoint's policies are restored, all but one are frozen, that one goes on learning with the run's own algorithm under the
checkpoint's windows and Params, its entropy bonus fading to nothing. On validation seeds the best of several moments is kept (the
checkpoint itself among them), and on fresh seeds it is compared with the unmodified profile, episode by episode under the same random
numbers. Several training seeds give a t interval. Learning may miss a better deviation, so the gain is a lower bound, never an upper one.
"""
from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file
from scipy import stats
from torch import Tensor

import envs
from rllib_macro import evaluate, schedule
from rllib_macro.config import Deviation, RunConfig
from rllib_macro.env_runner import fresh_player, make_batch
from rllib_macro.run import Run, RunError
from rllib_macro.train import algorithm, session

CONFIDENCE = 0.95
MOMENTS = 8  # how often the deviation is tried on validation seeds while it learns
TRAINING, VALIDATION, FRESH = 1_000_000, 2_000_000, 3_000_000  # offsets that keep the seeds of each purpose apart
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Result:
    """What a type, or an agent, gained by deviating. Rewards are raw means per period (and agent), `gain` is a lower bound on epsilon."""

    deviator: str
    checkpoint: int
    profile: float  # reward of the unmodified profile on the fresh seeds
    training_log: float | None  # the type's reward in the run's own log at the checkpoint
    mismatch: bool  # profile and log differ by more than 4 standard errors and 2 percent
    gain: float
    ci_low: float
    ci_high: float
    share_of_training_gain: float | None  # gain over what training brought: profile less an untrained type among the trained others
    gains: list[float]  # one for each training seed
    episodes: int  # paired episodes for each training seed
    iterations: int
    verdict: str
    bound: str = "lower bound on epsilon"
    profiles: list[float] | None = None  # `profile` in the episodes of each training seed
    rewards: dict[str, list[float]] | None = None  # {type: [mean reward of the profile, of the profile with the deviation]}


def best_response(run: Run, deviator: str, *, checkpoint: int | None = None, iterations: int = 200, seeds: int = 5, episodes: int = 128,
                  start: str = "checkpoint", label: str | None = None, watch: Watch | None = None) -> Result:
    """Train the best response of a type ("firm") or of one agent ("firm_3") to a checkpoint's profile and measure its gain.

    `start` is where the deviation begins: checkpoint (the frozen policy itself) or fresh (new weights). Writes
    best_response/<deviator>/<label>/ into the run, by default label iteration_<checkpoint>; one that exists is refused. TensorBoard
    shows the gain at the checkpoint's iteration.
    """
    type_, number = _deviator(run.config, deviator)
    if seeds < 2:
        raise RunError(f"a best response needs at least 2 training seeds for its interval, got {seeds}")
    weights = run.weights(checkpoint)
    k = (run.checkpoints() or run.saved())[-1] if checkpoint is None else checkpoint
    folder = run.path / "best_response" / deviator / (label or f"iteration_{k:06d}")
    if folder.exists():
        raise RunError(f"{folder} exists already; give this analysis another --label")
    config = deviating(run.config, type_, number, k, iterations, run.path / "policies" / f"{type_}_{k:06d}.safetensors")
    profile = evaluate.modules(run.config, weights)
    found = []
    with session(config):
        for seed in range(seeds):
            own = deviation(config, weights, type_, seed, start, watch)
            found.append((own, paired(config, profile, own, type_, number, FRESH + seed, episodes)))
    result = _result(run, config, profile, type_, deviator, k, [pair for _, pair in found], iterations)
    _write(folder, result, type_, [own for own, _ in found])
    show(run, result)
    return result


def equilibrium(run: Run, *, watch: Watch | None = None, **options: Any) -> list[Result]:
    """Best responses of all types that learn; the table also goes to best_response/equilibrium_<checkpoint>.json."""
    types = [type_ for type_, policy in run.config.policies.items() if policy.rule is None]
    results = [best_response(run, type_, watch=watch, **options) for type_ in types]
    file = run.path / "best_response" / f"equilibrium_{options.get('label') or results[0].checkpoint}.json"
    file.write_text(json.dumps([asdict(result) for result in results], indent=1))
    return results


def interval(gains: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Mean gain and its 95 % t interval over training seeds: each seed's mean of paired episodes is one independent observation."""
    means = np.array([gain.mean() for gain in gains])
    half = stats.t.ppf((1 + CONFIDENCE) / 2, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means))
    return float(means.mean()), float(means.mean() - half), float(means.mean() + half)


@dataclass(frozen=True)
class Paired:
    """The same fresh episodes of the profile and of the deviation: the deviator's reward in each, every type's mean reward."""

    before: np.ndarray  # (episodes,)
    after: np.ndarray
    means: tuple[dict[str, float], dict[str, float]]

    @property
    def gain(self) -> np.ndarray:
        return self.after - self.before


def paired(config: RunConfig, profile: Mapping[str, Any], own: Any, type_: str, number: int | None, seed: int, episodes: int) -> Paired:
    """Play the profile, and the deviation `own` in it, under the same random numbers."""
    before, all_before = _played(config.model_copy(update={"deviation": None}), profile, type_, number, seed, episodes)
    after, all_after = _played(config, {**profile, type_: own}, type_, number, seed, episodes)
    return Paired(before, after, (all_before, all_after))


def paired_gain(config: RunConfig, profile: Mapping[str, Any], own: Any, type_: str, number: int | None, seed: int,
                episodes: int) -> np.ndarray:
    """What each of `episodes` fresh episodes pays the deviator more than the profile under the same random numbers: (episodes,)."""
    return paired(config, profile, own, type_, number, seed, episodes).gain


def episode_rewards(config: RunConfig, policies: Mapping[str, Any], type_: str, number: int | None, seed: int,
                    episodes: int) -> np.ndarray:
    """Mean reward per period of a type, or of one of its agents, in each of `episodes` replicas of one episode: (episodes,)."""
    return _played(config, policies, type_, number, seed, episodes)[0]


def _played(config: RunConfig, policies: Mapping[str, Any], type_: str, number: int | None, seed: int,
            episodes: int) -> tuple[np.ndarray, dict[str, float]]:
    """`episode_rewards`, and the mean reward of every type."""
    player = fresh_player(config, policies, episodes, seed)
    rollout, means = player.play(player.batch.economy.periods(player.batch.p), 0)
    rewards = rollout.types[type_].rewards.view(rollout.periods, episodes, -1).double().cpu().numpy()
    own = (rewards if number is None else rewards[:, :, number:number + 1]).mean((0, 2))
    return own, {t: means[f"reward/{t}"] for t in player.batch.economy.agents}


def deviating(config: RunConfig, type_: str, number: int | None, k: int, iterations: int, weights: Path) -> RunConfig:
    """The run's configuration with everything as it was at iteration k, and one type (or agent) learning alone for some iterations."""
    now = schedule.plan(config, k)
    policies = {t: p.model_copy(update={"train_during": ()}) for t, p in config.policies.items()}
    settings = {"train_from": 0, "train_every": 1, "train_during": None, "train_cycle": None, "lr": now.coefficients[type_]["lr"],
                "entropy": ((0, now.coefficients[type_]["entropy"]), (max(1, iterations // 2), 0.0))}
    policies[type_] = config.policies[type_].model_copy(update=settings)
    params = {**config.params, **now.params, **config.evaluation.params}  # the deviator learns in the world in which it is measured
    deviation = None if number is None else Deviation(type=type_, agent=number, weights=str(weights))
    return config.model_copy(update={
        "policies": policies, "params": params, "windows": dict(now.windows), "deviation": deviation,
        "stop": config.stop.model_copy(update={"iterations": iterations}),
        "evaluation": config.evaluation.model_copy(update={"every": 0}),
    })


def deviation(config: RunConfig, weights: Mapping[str, Mapping[str, Tensor]], type_: str, seed: int, start: str = "checkpoint",
              watch: Watch | None = None) -> Any:
    """The deviation that did best on validation seeds while it learned from one training seed, as a module."""
    number = config.deviation.agent if config.deviation else None
    config = config.model_copy(update={"seed": (config.seed + TRAINING + seed) % 2**63})
    candidates: list[tuple[float, Any]] = []
    with algorithm(config) as algo:
        kept = {t: w for t, w in weights.items() if t != type_ or start == "checkpoint"}
        algo.learner_group.set_weights({t: {name: x.numpy() for name, x in w.items()} for t, w in kept.items()})
        algo.send_weights()
        others = {t: copy.deepcopy(m) for t, m in algo.env_runner.module.items()}
        moments = {round(config.stop.iterations * (i + 1) / MOMENTS) for i in range(MOMENTS)} | {0}
        for iteration in range(config.stop.iterations + 1):
            if iteration in moments and not (iteration == 0 and start == "fresh"):
                own = copy.deepcopy(algo.env_runner.module[type_])
                value = episode_rewards(config, {**others, type_: own}, type_, number, VALIDATION + seed, 256).mean()
                candidates.append((float(value), own))
                if watch:
                    watch(f"{type_} deviates, seed {seed}, iteration {iteration}: {value:,.4g}")
            if iteration < config.stop.iterations:
                algo.train()
    return max(candidates, key=lambda candidate: candidate[0])[1]


def _result(run: Run, config: RunConfig, profile: Mapping[str, Any], type_: str, deviator: str, k: int, pairs: Sequence[Paired],
            iterations: int) -> Result:
    episodes, whole_type = len(pairs[0].before), config.deviation is None
    before = np.concatenate([pair.before for pair in pairs])
    untrained = {**profile, type_: evaluate.modules(run.config)[type_]}
    fresh = episode_rewards(config.model_copy(update={"deviation": None}), untrained, type_, None, FRESH, episodes).mean()
    gain, low, high = interval([pair.gain for pair in pairs])
    logged = _logged(run, type_, k)
    error = before.std(ddof=1) / np.sqrt(len(before))
    off = logged is not None and abs(before.mean() - logged) > max(4 * error, 0.02 * abs(logged))
    brought = before.mean() - fresh
    return Result(
        deviator, k, float(before.mean()), logged, bool(whole_type and off), gain, low, high,
        float(gain / brought) if brought > 0 else None, [float(pair.gain.mean()) for pair in pairs], episodes, iterations,
        "profitable deviation found" if low > 0 else "no profitable deviation found",
        profiles=[float(pair.before.mean()) for pair in pairs],
        rewards={t: [float(np.mean([pair.means[i][t] for pair in pairs])) for i in (0, 1)] for t in pairs[0].means[0]})


def show(run: Run, result: Result) -> None:
    """Add the gain and its interval to the run's TensorBoard events, as epsilon/<deviator> at the step of its checkpoint."""
    from tensorboardX import SummaryWriter
    with SummaryWriter(str(run.path), filename_suffix=f".epsilon_{result.deviator}") as events:
        for name, value in (("", result.gain), ("/ci_low", result.ci_low), ("/ci_high", result.ci_high)):
            if np.isfinite(value):
                events.add_scalar(f"epsilon/{result.deviator}{name}", value, result.checkpoint)


def _logged(run: Run, type_: str, k: int) -> float | None:
    """The type's mean reward over the five iterations up to k in the run's own log; None where the run keeps none."""
    try:
        table = run.progress()
    except RunError:
        return None
    rows = table[(table["iteration"] <= k) & (table["iteration"] > k - 5)]
    return float(rows[f"reward/{type_}"].mean()) if len(rows) else None


def _write(folder: Path, result: Result, type_: str, own: Sequence[Any]) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    (partial / "result.json").write_text(json.dumps(asdict(result), indent=1))
    for seed, module in enumerate(own):
        save_file({name: x.contiguous() for name, x in module.state_dict().items()}, partial / f"{type_}_seed_{seed}.safetensors")
    os.replace(partial, folder)


def _deviator(config: RunConfig, deviator: str) -> tuple[str, int | None]:
    """("firm", None) for a type, ("firm", 3) for an agent; RunError if there is no such learner."""
    learners = [type_ for type_, policy in config.policies.items() if policy.rule is None]
    if deviator in learners:
        return deviator, None
    type_, _, number = deviator.rpartition("_")
    if type_ in learners and number.isdigit():
        count = envs.load(config.economy).agents[type_].number(make_batch(config, 1).p)
        if int(number) < count:
            return type_, int(number)
        raise RunError(f"there is no {deviator}: {type_} agents are numbered 0 to {count - 1}")
    known = ", ".join(learners)
    raise RunError(f"{deviator!r} is no type that learns in this run; choose one of {known}, or an agent such as {learners[0]}_0")
