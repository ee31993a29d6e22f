"""Long plays of the monetary economy, the series of which the scorecard is made: scripts, random choices, networks trained or not."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import envs
from kernels.core.arrays import to_host
from kernels.core.ledger import coins
from kernels.monetary_books import net_worth
from rllib_macro import evaluate, scorecard, subject
from rllib_macro.config import Policy, RunConfig
from rllib_macro.env_runner import fresh_player
from rllib_macro.moments import MODEL, Filter
from rllib_macro.run import Run, RunError

# A moment's error is that of its mean over replicas, plus what too few agents add to every aggregate: with F firms, whose sales and capital
# losses are their own, output has noise of about 1/sqrt(F). 400 firms and 4,000 consumers bring that well below the US standard errors.
SIZES = ("n_consumers=4000", "n_firms=400")
APART = 20  # quarters between two looks at the distribution of wealth, which moves slowly
Watch = Callable[[int], None]  # called with the number of quarters played


@dataclass(frozen=True)
class Behaviour:
    """Who plays for the scorecard."""

    name: str
    config: RunConfig
    policies: Mapping[str, Any]

    @property
    def scripted(self) -> list[str]:
        """Types that follow their script, whose doing is imposed on the moments."""
        return [type_ for type_, policy in self.config.policies.items() if policy.rule == subject.SCRIPTED]


def behaviours(economy: str, names: Sequence[str], settings: Sequence[str], quarters: int) -> list[Behaviour]:
    """Those of scorecard.NULLS, all types alike, or the policies of run folders; a single run is called trained, several by path."""
    lacking = [name for name in MODEL if name not in envs.load(economy).measures]
    if lacking:
        raise RunError(f"{economy} does not measure {', '.join(lacking)}: there is a scorecard of monetary only")
    changes = [*SIZES, *settings, f"horizon={quarters + 1}", "burn_in=0"]  # one episode, whose start is dropped
    runs = [name for name in names if name not in scorecard.NULLS]
    return [_of_run(economy, name, changes, "trained" if len(runs) == 1 else name) if name in runs else _alike(economy, name, changes)
            for name in dict.fromkeys(names)]


def _alike(economy: str, name: str, changes: Sequence[str]) -> Behaviour:
    config = subject.scripted(economy, changes)
    if name != subject.SCRIPTED:
        rule = "random" if name == "random" else None
        config = config.model_copy(update={"policies": {type_: Policy(rule=rule) for type_ in config.policies}})
    return Behaviour(name, config, evaluate.modules(config) if name == "untrained" else {})


def _of_run(economy: str, path: str, changes: Sequence[str], name: str) -> Behaviour:
    if not subject.is_run(path):
        raise RunError(f"there is no behaviour or run {path!r}; name a run's folder or one of {', '.join(scorecard.NULLS)}")
    run = Run.open(path)
    if run.config.economy != economy:
        raise RunError(f"{path} is a run of {run.config.economy}, not of {economy}; name one of this economy")
    config = subject.changed(run.config, changes)
    return Behaviour(name, config, evaluate.modules(config, run.weights()))


def card(of: Behaviour, *, seed: int = 0, replicas: int = 32, quarters: int = 344, drop: int = 100, filter: Filter = "hp",
         watch: Watch | None = None) -> scorecard.Card:
    """The scorecard of a behaviour; ValueError for too few quarters."""
    return scorecard.score(series(of, seed, replicas, quarters, drop, watch), drop=drop, scripted=of.scripted, filter=filter)


@np.errstate(all="ignore")  # random play may wreck an economy until its numbers overflow: such replicas are counted as broken
def series(of: Behaviour, seed: int, replicas: int, quarters: int, drop: int, watch: Watch | None = None) -> dict[str, np.ndarray]:
    """Every measure (R, T) of one long episode, and the distribution of wealth and income (R,), its mean over some of the kept quarters."""
    player = fresh_player(of.config, of.policies, replicas, seed)
    frames: dict[str, list[np.ndarray]] = {}
    wealth: dict[str, list[np.ndarray]] = {}
    for t in range(quarters):
        player.play(1, t)
        for name, measured in player.batch.measured.items():
            frames.setdefault(name, []).append(np.array(to_host(measured)))
        if t >= drop and (t - drop) % APART == 0:
            for name, value in _inequality(player.batch.s).items():
                wealth.setdefault(name, []).append(value)
        if watch:
            watch(t + 1)
    return {name: np.stack(frame, 1) for name, frame in frames.items()} | {name: np.mean(of, axis=0) for name, of in wealth.items()}


def inequality_after(config: RunConfig, policies: Mapping[str, Any], *, seed: int, replicas: int) -> dict[str, np.ndarray]:
    """The distribution of wealth and income (R,) in the last quarter of fresh episodes."""
    player = fresh_player(config, policies, replicas, seed)
    for t in range(player.batch.economy.periods(player.batch.p) - 1):  # one more would begin another episode
        player.play(1, t)
    return _inequality(player.batch.s)


def _inequality(s: Any) -> dict[str, np.ndarray]:
    """Of net worth and of gross income of the quarter, before tax."""
    income = s.wage_income + s.benefits + s.interest_received - s.interest_paid + s.dividends
    return scorecard.inequality(to_host(net_worth(s)), to_host(coins(income)))
