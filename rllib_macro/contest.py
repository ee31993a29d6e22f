"""Who plays a type best: rules, searched-for rules and learned policies in its place, all of them on the same fresh draws.

The loss of a type is minus its mean reward per agent and period. Whatever plays it, all others behave as they did: by their scripts, or as
they learned to. Differences are paired episode by episode.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import statsmodels.api
from scipy import optimize
from scipy.stats import qmc

import envs
from envs.core import rules as rules_
from envs.core.batch import Batch
from envs.core.choices import Levels
from envs.core.economy import unknown
from kernels.core.arrays import to_host
from rllib_macro import evaluate, schedule
from rllib_macro.config import Policy, RunConfig, check_against, load, to_dict
from rllib_macro.experiments import Paths, interval, paths
from rllib_macro.run import Run, RunError
from rllib_macro.subject import Subject
from rllib_macro.terminal import spelled_out

LEARNED, UNTRAINED, RANDOM = "learned", "untrained", "random"
SEARCH = 4_000_000  # offset of the seeds on which rules are searched for
SEARCHED, SEARCH_SEEDS = 512, 4  # most episodes and seeds on which a trial is played: the worst episodes weigh much
SCREENED = 4  # one in so many of these episodes screens the first trials
SCALAR = 20  # most trials of a rule with one argument
Shares = dict[str, dict[str, float]]  # choice: value: share of the times it was chosen
Watch = Callable[[str], None]


@dataclass(frozen=True)
class Contender:
    """A way to play one type: the configuration and the policies with which everybody plays, what a reader should know about it, and
    whether networks draw what they choose or take what they find most probable."""

    name: str
    config: RunConfig
    policies: Mapping[str, Any]
    told: Mapping[str, Any] = field(default_factory=dict)
    explore: bool = True


@dataclass(frozen=True)
class Play:
    """What came of a contender: paths over all episodes, and what a policy, learned or not, chose from its grids."""

    paths: Paths
    chosen: Shares

    def loss(self, type_: str) -> np.ndarray:
        """Minus the mean reward of a type in each episode."""
        return -self.paths[f"reward/{type_}"].mean(1)


@dataclass(frozen=True)
class Sampling:
    """The fresh episodes on which contenders meet."""

    seeds: tuple[int, ...]
    replicas: int

    @property
    def episodes(self) -> int:
        return len(self.seeds) * self.replicas


# --- who plays --------------------------------------------------------------------------------------------------------


def split(rules: Sequence[str]) -> list[str]:
    """Rules of lists separated by commas, those within brackets apart: ["a,b(x=1, y=2)"] -> ["a", "b(x=1, y=2)"]."""
    return [rule.strip() for text in rules for rule in re.split(r",(?![^(]*\))", text) if rule.strip()]


def require(config: RunConfig, type_: str, rules: Sequence[str]) -> None:
    """ValueError unless the type is known and every rule is one of its own, of its searches, or learned, untrained or random."""
    economy = envs.load(config.economy)
    if type_ not in economy.agents:
        raise unknown("agent type", type_, config.economy, economy.agents)
    known = [LEARNED, UNTRAINED, RANDOM, *economy.study.searches.get(type_, {}), "constant", *economy.rules.get(type_, {})]
    for rule in rules:
        if (name := rule.partition("(")[0]) not in known:
            raise unknown("rule", name, type_, known)
        if name not in (LEARNED, UNTRAINED, *economy.study.searches.get(type_, {})):
            rules_.parse(rule, economy, type_)


def scripted(base: RunConfig, policies: Mapping[str, Any], type_: str, rule: str) -> Contender:
    """The type by a rule."""
    return Contender(rule, evaluate.scripted(base, {type_: rule}), policies)


def untrained(base: RunConfig, policies: Mapping[str, Any], type_: str, like: Policy) -> Contender:
    """The type by a network of that kind with the weights that training would start from."""
    config = _with_policy(base, type_, like.model_copy(update={"rule": None}))
    return Contender(UNTRAINED, config, {**policies, type_: evaluate.modules(_alone(config, type_))[type_]})


def learned(base: RunConfig, policies: Mapping[str, Any], type_: str, run: Run, name: str = LEARNED,
            checkpoint: int | None = None) -> Contender:
    """The type as it learned to play in a run, with what it saw and could choose there; nothing else is taken from the run. The only
    network of a play takes what it finds most probable: exploring is for training.
    """
    own = run.config.policies.get(type_)
    if run.config.economy != base.economy or own is None or own.rule is not None:
        raise RunError(f"{run.path} has no {type_} of {base.economy} that learned; name runs that have one, or leave 'learned' out")
    if run.config.features != base.features and any(type_ != other for other in policies):
        raise RunError(f"{run.path} learned with features={run.config.features}, the others see features={base.features}; use like runs")
    windows = {of: window for of, window in base.windows.items() if not of.startswith(f"{type_}.")}
    final = schedule.plan(run.config, run.config.stop.iterations).windows
    windows |= {of: window for of, window in final.items() if of.startswith(f"{type_}.")}
    config = _with_policy(base, type_, own).model_copy(update={"features": run.config.features, "windows": windows})
    alone = _alone(config, type_).model_copy(update={"seed": base.evaluation.seeds[0]})  # whose starts are at hand
    module = evaluate.modules(alone, run.weights(checkpoint))[type_]
    told = {"run": str(run.path), "seed": run.config.seed, "params": to_dict(run.config)["params"]}
    return Contender(name, config, {**policies, type_: module}, told, explore=any(other != type_ for other in policies))


def found(base: RunConfig, policies: Mapping[str, Any], type_: str, name: str, sampling: Sampling, trials: int,
          watch: Watch | None = None) -> Contender:
    """The type by the rule of one of its economy's searches, with the arguments found on other seeds than those of the evaluation."""
    of = envs.load(base.economy).study.searches[type_][name]
    seeds = tuple(SEARCH + seed for seed in sampling.seeds[:SEARCH_SEEDS])
    other = Sampling(seeds, max(1, min(sampling.episodes, SEARCHED) // len(seeds)))
    result = search(base, policies, type_, of.rule, of.bounds, other, trials, watch, of.starts)
    return Contender(name, evaluate.scripted(base, {type_: result["rule"]}), policies, {"found": result})


def trained(file: Path, settings: Sequence[str], root: Path, seeds: Sequence[int], train: Callable[[RunConfig], Run]) -> list[Run]:
    """The runs root/<configuration>_seed<n>: those that are there, which must be finished, and the others, which `train` makes."""
    runs = []
    for seed in seeds:
        path = root / f"{file.stem}_seed{seed}"
        if not path.exists():
            config = load(file, [*spelled_out(settings, load(file).economy), f"seed={seed}", f"name={path.name}"])
            train(check_against(config, envs.load(config.economy)))
        run = Run.open(path)
        if not (path / "evaluation.json").is_file() or max(run.checkpoints(), default=0) < run.config.stop.iterations:
            raise RunError(f"{path} is not finished; go on with: train --resume {path}, or name other runs with --runs")
        runs.append(run)
    return runs


def _with_policy(config: RunConfig, type_: str, policy: Policy) -> RunConfig:
    return config.model_copy(update={"policies": {**config.policies, type_: policy}})


def _alone(config: RunConfig, type_: str) -> RunConfig:
    """The configuration with only this type left to a network."""
    others = {other: policy if other == type_ else Policy(rule="random") for other, policy in config.policies.items()}
    return config.model_copy(update={"policies": others})


# --- playing ----------------------------------------------------------------------------------------------------------


def play(contender: Contender, type_: str, sampling: Sampling) -> Play:
    """Every episode of the sampling."""
    return contest([contender], type_, sampling)[contender.name]


def contest(contenders: Sequence[Contender], type_: str, sampling: Sampling, watch: Watch | None = None) -> dict[str, Play]:
    """All contenders on the same episodes, {name: what came of it}."""
    taken: dict[str, list[Paths]] = {of.name: [] for of in contenders}
    counted: dict[str, _Counter] = {of.name: _Counter(type_, of.config) for of in contenders}
    for seed in sampling.seeds:  # starts of one seed are at hand as long as it is played
        for number, of in enumerate(contenders, 1):
            if watch:
                watch(f"playing {of.name} ({number} of {len(contenders)})")
            taken[of.name].append(paths(of.config, of.policies, seed, sampling.replicas, watch=counted[of.name],
                                        explore=of.explore))
    return {name: Play({key: np.concatenate([part[key] for part in parts]) for key in parts[0]}, counted[name].shares())
            for name, parts in taken.items()}


class _Counter:
    """Counts what a type chose from its grids, where no hand-written rule plays it."""

    def __init__(self, type_: str, config: RunConfig):
        chooses = envs.load(config.economy).agents[type_].chooses if config.policies[type_].rule in (None, RANDOM) else ()
        self.choices = [choice for choice in chooses if isinstance(choice, Levels)]
        self.counts: dict[str, np.ndarray] = {}
        self.grids: dict[str, np.ndarray] = {}

    def __call__(self, batch: Batch) -> None:
        for choice in self.choices:
            grid = self.grids.setdefault(choice.name, choice.grid(batch.p))
            values = to_host(getattr(batch.a, choice.name)).reshape(-1, 1)
            options = np.abs(values - grid).argmin(1)
            self.counts[choice.name] = self.counts.get(choice.name, 0) + np.bincount(options, minlength=len(grid))

    def shares(self) -> Shares:
        return {name: {f"{value:g}": float(share) for value, share in zip(self.grids[name], count / count.sum())}
                for name, count in self.counts.items()}


# --- searching --------------------------------------------------------------------------------------------------------


def search(base: RunConfig, policies: Mapping[str, Any], type_: str, rule: str, bounds: Mapping[str, tuple[float, float]],
           sampling: Sampling, trials: int = 60, watch: Watch | None = None, starts: Sequence[Mapping[str, float]] = ()) -> dict[str, Any]:
    """Arguments of a rule, within bounds, with which the type loses least: {"rule", "arguments", "loss", "trials", "seeds", "episodes"}.

    One argument by Brent's method within its bounds. Several: half of the trials, a Latin hypercube beside the starts, are screened on a
    quarter of the episodes; the best of them and all starts are played on all episodes, and Nelder and Mead's simplex goes on around the
    best: what is found loses no more there than any start. All trials are played on the same draws.
    """
    losses: dict[tuple[str, Sampling], tuple[float, dict[str, float]]] = {}

    def loss(values: np.ndarray, on: Sampling = sampling) -> float:
        given = {name: float(f"{value:.4g}") for name, value in zip(bounds, np.atleast_1d(values))}
        text = f"{rule}({', '.join(f'{name}={value:g}' for name, value in given.items())})"
        if (text, on) not in losses:
            if watch:
                watch(f"searching {rule}, trial {len(losses) + 1}")
            losses[text, on] = float(play(scripted(base, policies, type_, text), type_, on).loss(type_).mean()), given
        return losses[text, on][0]

    low, high = np.array(list(bounds.values())).T
    if len(bounds) == 1:
        optimize.minimize_scalar(loss, bounds=(low[0], high[0]), method="bounded",
                                 options={"maxiter": min(trials, SCALAR), "xatol": 2e-3 * (high[0] - low[0])})
    else:
        known = [np.array([start[name] for name in bounds]) for start in starts]
        drawn = qmc.LatinHypercube(len(bounds), seed=sampling.seeds[0]).random(max(1, trials // 2 - len(known)))
        few = replace(sampling, replicas=-(-sampling.replicas // SCREENED))
        screened = min([*known, *qmc.scale(drawn, low, high)], key=lambda point: loss(point, few))
        best = min([*known, screened], key=loss)
        inwards = np.where(best > (low + high) / 2, -0.15, 0.15) * (high - low)
        optimize.minimize(loss, best, method="Nelder-Mead", bounds=list(zip(low, high)), options={
            "initial_simplex": np.vstack([best, best + np.diag(inwards)]), "maxfev": max(1, trials - len(losses)), "xatol": 0, "fatol": 0})
    text, _ = min((key for key in losses if key[1] == sampling), key=lambda key: losses[key][0])
    found_loss, arguments = losses[text, sampling]
    return {"rule": text, "arguments": arguments, "loss": found_loss, "trials": len(losses), "seeds": list(sampling.seeds),
            "episodes": sampling.episodes}


# --- a whole comparison -----------------------------------------------------------------------------------------------


def compared(about: Subject, type_: str, names: Sequence[str], runs: Sequence[Run], sampling: Sampling, trials: int = 60,
         checkpoint: int | None = None, watch: Watch | None = None) -> dict[str, Any]:
    """{"rows": a row for each of the names, "bars": ...}: rules, searches, `learned` (each of the runs), always untrained and random."""
    base, others = about.config, {other: module for other, module in about.policies.items() if other != type_}
    economy, contenders = envs.load(base.economy), []
    for name in dict.fromkeys([*names, UNTRAINED, RANDOM]):
        if name == LEARNED:
            contenders += [learned(base, others, type_, run, LEARNED if len(runs) == 1 else f"{LEARNED}[{i}]", checkpoint)
                           for i, run in enumerate(runs)]
        elif name == UNTRAINED:
            contenders.append(untrained(base, others, type_, (runs[0].config if runs else base).policies[type_]))
        elif name in economy.study.searches.get(type_, {}):
            contenders.append(found(base, others, type_, name, sampling, trials, watch))
        else:
            contenders.append(scripted(base, others, type_, name))
    plays = contest(contenders, type_, sampling, watch)
    rows = table(contenders, plays, type_)
    if of := economy.study.readouts.get(type_):
        for row in rows:
            if row["rule"].startswith(LEARNED):
                row["readout"] = readout(plays[row["rule"]].paths, *of)
    return {"rows": rows, "bars": bars(plays, type_, economy.study.bars.get(type_, ()))}


# --- what came of it --------------------------------------------------------------------------------------------------


def table(contenders: Sequence[Contender], plays: Mapping[str, Play], type_: str) -> list[dict[str, Any]]:
    """A row for each contender: its loss with standard error, rewards of all types, measures, and its paired differences from the others.

    `difference` is the contender's loss less the other's, `gain` each type's reward less that under the first contender, with 95 %
    intervals over the episodes.
    """
    first, rows = plays[contenders[0].name].paths, []
    for of in contenders:
        own = plays[of.name]
        loss, rewards = own.loss(type_), [name for name in own.paths if name.startswith("reward/")]
        rows.append({
            "rule": of.name, **of.told, "loss": standard_error(loss),
            "difference": {other: interval(loss - plays[other].loss(type_)) for other in plays if other != of.name},
            "rewards": {name.removeprefix("reward/"): float(own.paths[name].mean()) for name in rewards},
            "gain": {name.removeprefix("reward/"): interval(own.paths[name].mean(1) - first[name].mean(1)) for name in rewards},
            "measures": {name: float(values.mean()) for name, values in own.paths.items() if name not in rewards},
            **({"chosen": own.chosen} if own.chosen else {}),
        })
    return rows


def standard_error(values: np.ndarray) -> dict[str, float]:
    """Mean of independent values and its standard error."""
    return {"mean": float(values.mean()), "se": float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")}


def bars(plays: Mapping[str, Play], type_: str, against: Sequence[str]) -> dict[str, Any]:
    """Whether learning beats certain rules: the relative reduction of the loss, 1 - L / L_rule, by all training seeds and by each.

    Intervals (95 %, delta method) are over the episodes; `met` is whether those of all training seeds lie above zero for every rule. Empty
    without learned policies or without one of the rules.
    """
    names = [name for name in plays if re.fullmatch(rf"{LEARNED}(\[\d+\])?", name)]
    if not names or not against or any(rule not in plays for rule in against):
        return {}
    told: dict[str, Any] = {}
    for rule in against:
        other = plays[rule].loss(type_)
        mean = np.mean([plays[name].loss(type_) for name in names], axis=0)
        told[f"vs_{rule}"] = reduction(mean, other) | {"seeds": {name: reduction(plays[name].loss(type_), other) for name in names}}
    return told | {"met": all(of["low"] > 0 for bar in told.values() for of in bar["seeds"].values())}


def reduction(loss: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """1 - mean loss / mean other, paired, with its 95 % interval by the delta method."""
    ratio = loss.mean() / other.mean()
    of = interval((loss - ratio * other) / other.mean())
    return {"mean": float(1 - ratio), "low": float(1 - ratio + of["low"]), "high": float(1 - ratio + of["high"])}


def readout(of: Paths, instrument: str, inputs: Sequence[str]) -> dict[str, Any]:
    """The linear rule nearest to what was played,  i = c + rho i_-1 + sum b_k x_k,-1, by least squares over all quarters but the first.

    Standard errors are clustered by episode. r2 is of the level, r2_change of the change, which inertia does not explain. A long-run
    response is b_k / (1 - rho), with its standard error by the delta method.
    """
    episodes, quarters = of[instrument].shape
    seen = [np.ones(episodes * (quarters - 1)), *(of[name][:, :-1].ravel() for name in (instrument, *inputs))]
    known = of[instrument][:, 1:].ravel()
    fit = statsmodels.api.OLS(known, np.stack(seen, 1)).fit(
        cov_type="cluster", cov_kwds={"groups": np.repeat(np.arange(episodes), quarters - 1)})
    change = known - seen[1]
    spread = float(((change - change.mean()) ** 2).sum())
    rho, covariance = fit.params[1], np.asarray(fit.cov_params())
    long_run = {}
    for k, name in enumerate(inputs, 2):
        slope = np.zeros(len(fit.params))
        slope[k], slope[1] = 1 / (1 - rho), fit.params[k] / (1 - rho) ** 2
        long_run[name] = {"value": float(fit.params[k] / (1 - rho)), "se": float(np.sqrt(slope @ covariance @ slope))}
    names = ["constant", f"lagged {instrument}", *inputs]
    return {
        "instrument": instrument,
        "coefficients": {name: {"value": float(b), "se": float(se)} for name, b, se in zip(names, fit.params, fit.bse)},
        "r2": float(fit.rsquared), "r2_change": 1 - float((fit.resid**2).sum()) / spread if spread else float("nan"),
        "long_run": long_run, "episodes": episodes, "quarters": quarters - 1,
    }


def cross_play(runs: Sequence[Run], type_: str, sampling: Sampling | None = None, watch: Watch | None = None) -> dict[str, Any]:
    """Each run's policy of a type among the others of every run: the loss, [policy][others], and the paired difference from the policy
    that learned among those others. A policy that loses more among strangers than the one at home is fitted to whom it learned with."""
    if len(runs) < 2:
        raise RunError(f"cross-play needs two runs or more, got {len(runs)}")
    names, columns = [str(run.path) for run in runs], []
    for home in runs:
        own = evaluate.modules(home.config, home.weights())
        contenders = [learned(home.config, own, type_, run, name) for run, name in zip(runs, names)]
        drawn = sampling or Sampling(runs[0].config.evaluation.seeds, runs[0].config.evaluation.replicas)
        plays = contest(contenders, type_, drawn, watch)
        columns.append([plays[name].loss(type_) for name in names])
    return {
        "type": type_, "runs": names,
        "loss": [[standard_error(columns[j][i]) for j in range(len(runs))] for i in range(len(runs))],
        "difference": [[interval(columns[j][i] - columns[j][j]) for j in range(len(runs))] for i in range(len(runs))],
    }
