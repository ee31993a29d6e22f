"""Whether money, goods and jobs add up: every invariant of an economy in every replica and period, whoever plays it.

An economy whose kernel has IDENTITIES is checked sector by sector: those that it calls EXACT are integers and must be zero. Of any other
the INVARIANTS must vanish within rounding. Periods count from 0.
"""
from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

import envs
from envs.core.batch import Batch
from envs.core.economy import unknown
from kernels.core.arrays import Array, allocate, namespace, to_host
from rllib_macro import evaluate, leaks
from rllib_macro.config import RunConfig
from rllib_macro.crises import Crisis
from rllib_macro.describe import first_sentence
from rllib_macro.env_runner import Player, fresh_player, set_up_torch
from rllib_macro.run import Run

TOLERANCE = {np.float64: 1e-12, np.float32: 1e-5}  # of what contains reals, by the precision of play
LEARNED = ("trained", "untrained")  # behaviours that are networks; all others are rules
Number = int | float


@dataclass(frozen=True)
class Law:
    """One invariant: what it says, and its errors by sector, (R,) each, which may not exceed the tolerance."""

    name: str
    says: str
    errors: Callable[[Any, Any, Any], Mapping[str, Array]]
    tolerance: float


def laws(kernel: ModuleType, real: Any) -> list[Law]:
    """What a kernel promises: its IDENTITIES, or its INVARIANTS, whose only sector has no name."""
    if hasattr(kernel, "IDENTITIES"):
        return [Law(name, first_sentence(errors.__doc__), errors, 0 if name in kernel.EXACT else TOLERANCE[np.float64])
                for name, errors in kernel.IDENTITIES.items()]
    return [Law(name, first_sentence(error.__doc__), _of_nobody(error), TOLERANCE[real]) for name, error in kernel.INVARIANTS.items()]


def _of_nobody(error: Callable[[Any, Any, Any], Array]) -> Callable[[Any, Any, Any], Mapping[str, Array]]:
    """An invariant as errors by sector: its largest error in each replica, of a sector without a name."""
    def errors(p: Any, b: Any, s: Any) -> Mapping[str, Array]:
        found = abs(error(p, b, s))
        return {"": found.reshape(len(found), -1).max(1)}
    return errors


@dataclass(frozen=True)
class Violation:
    """An invariant that was broken; `also` names the others that broke in the same period and replica."""

    identity: str
    sector: str
    period: int
    replica: int
    amount: Number
    also: tuple[str, ...] = ()


@dataclass
class Finding:
    """What an audit of one behaviour found: the largest error of every invariant, the first violation, and what `leak` was planted."""

    violations: int = 0
    checks: int = 0
    periods: int = 0
    replicas: int = 0
    largest: dict[str, Number] = field(default_factory=dict)
    first: Violation | None = None
    leak: dict[str, Any] | None = None


class Auditor:
    """A `Batch.watch` that checks every invariant; its `finding` grows with every period. `matrices` keeps those of the last period.

    Where the batch runs compiled twins and the kernel has a compiled check, that goes first, and the definitions say what is wrong.
    """

    def __init__(self, batch: Batch, matrices: bool = False):
        self.batch, self.kernel = batch, batch.kernel
        self.laws = laws(self.kernel, batch.real)
        self.page = getattr(self.kernel, "page", lambda s: s)
        self.quick = _quick(batch)
        self.finding = Finding(replicas=batch.size, largest={law.name: 0 for law in self.laws})
        self.wanted = matrices
        self.matrices: dict[str, Any] = {}
        self.sums = 0  # that are checked in a period

    def __call__(self, before: Any, after: Any) -> None:
        if not (self.sums and self.quick and self.quick.fine(before, after)):  # the first period is for the definitions
            b, s = self.page(before), self.page(after)
            with np.errstate(all="ignore"):  # an error that is no number is found, not warned of
                found = [law.errors(self.batch.p, b, s) for law in self.laws]
            values = [value for errors in found for value in errors.values()]
            self.sums = len(values) * self.batch.size
            if to_host(namespace(values[0]).concatenate(values)).any():
                self._look(found)
        if self.wanted:
            self.matrices = matrices(self.kernel, before, after)
        self.finding.checks += self.sums
        self.finding.periods += 1

    def _look(self, found: list[Mapping[str, Array]]) -> None:
        """Remember the largest errors of a period, count what is broken and tell what was first."""
        broken: list[Violation] = []
        for law, errors in zip(self.laws, found, strict=True):
            table = np.stack([to_host(error) for error in errors.values()])
            sizes = np.nan_to_num(np.abs(table.astype(np.float64)), nan=np.inf, posinf=np.inf)
            self.finding.largest[law.name] = max(self.finding.largest[law.name], _number(sizes.max(), table))
            broken += [Violation(law.name, list(errors)[k], self.finding.periods, int(replica), table[k, replica].item())
                       for k, replica in np.argwhere(sizes > law.tolerance)]
        if broken:
            self.finding.violations += len(broken)
            self.finding.first = self.finding.first or self._told(broken)

    def _told(self, broken: list[Violation]) -> Violation:
        """The violation that names best what is wrong in the first replica with one; the others beside it."""
        replica = min(violation.replica for violation in broken)
        order = getattr(self.kernel, "NARROWEST", [law.name for law in self.laws])
        first, *others = sorted((v for v in broken if v.replica == replica), key=lambda v: order.index(v.identity))
        return replace(first, also=tuple(f"{v.identity} {v.sector}".rstrip() for v in others))


class Quick:
    """The compiled check of a kernel, kernels/<economy>_check.py: whether nothing at all is wrong."""

    def __init__(self, batch: Batch, model: ModuleType):
        self.batch, self.model = batch, model
        self.before: Any = None
        self.opening: Any = None
        self.errors = allocate(model.Rewards, model, batch.p, batch.size, batch.xp, np.float64)

    def fine(self, before: Any, after: Any) -> bool:
        """Whether every error is zero."""
        if before is not self.before:
            self.before, self.opening = before, self.model.Actions(**vars(before))
        self.model.check(self.batch.p, after, self.opening, self.errors)
        return not to_host(self.batch.xp.concatenate(list(vars(self.errors).values()))).any()


def _quick(batch: Batch) -> Quick | None:
    """The compiled check, where twins run and the kernel has one."""
    name = f"{batch.kernel.__name__}_check"
    if batch.backend == "numpy" or importlib.util.find_spec(name) is None:
        return None
    return Quick(batch, importlib.import_module(name))


def _number(size: np.floating, table: np.ndarray) -> Number:
    """A size as a Python number, whole if the table is."""
    return int(size) if table.dtype.kind == "i" else float(size)


def matrices(kernel: ModuleType, before: Any, after: Any) -> dict[str, dict[str, dict[str, int]]]:
    """Balance sheets and flows of replica 0 in micro-units: {matrix: {row: {column: amount}}}."""
    books = {"balance sheets": (kernel.BALANCE, kernel.SECTORS, (after,)), "flows": (kernel.FLOWS, kernel.ACCOUNTS, (before, after))}
    return {name: {row: {column: int(entries[column](*states)[0]) for column in columns if column in entries}
                   for row, entries in rows.items()} for name, (rows, columns, states) in books.items()}


# -- who plays

@dataclass(frozen=True)
class Settings:
    """How an audit is played: one long world, unless `episodes` restarts it at the horizon; a crisis or shocks; a planted leak."""

    periods: int = 200
    replicas: int = 16
    seed: int = 0
    episodes: bool = False
    crisis: Crisis = Crisis("")
    leak: leaks.Leak | None = None
    matrices: bool = False


class Session:
    """One behaviour about to be audited."""

    def __init__(self, config: RunConfig, networks: Mapping[str, Any], how: Settings):
        self.how = how
        self.player: Player = fresh_player(config, networks, how.replicas, how.seed)
        batch = self.player.batch
        for name in how.crisis.impulses:
            if not hasattr(batch.e, name):
                raise unknown("shock", name, batch.economy.name, vars(batch.e))
        batch.impulses = dict(how.crisis.impulses)
        batch.adjust({**how.crisis.params, **(how.leak.params if how.leak else {})})
        batch.watch = self.auditor = Auditor(batch, how.matrices)

    def run(self, after_each: Callable[[], None] = lambda: None) -> Finding:
        """Play and check all periods; where a leak is planted, those up to the first violation."""
        leak, finding = self.how.leak, self.auditor.finding
        with leaks.planted(self.player.batch.kernel, leak) if leak else nullcontext() as trace:
            for t in range(self.how.periods):
                self.player.play(1, t)
                after_each()
                if leak and finding.first:
                    break
        if leak and trace:
            finding.leak = {"name": leak.name, "does": leak.does, "after": leak.phase, "acts_from": trace.first}
        return finding


def sessions(config: RunConfig, behaviours: Sequence[str], how: Settings, run: Run | None = None) -> dict[str, Session]:
    """What is to be audited, by behaviour (`behaviour` tells what they may be); `run` has the weights of trained ones."""
    if not how.episodes:
        config = _endless(config, how.periods)
    if how.leak:
        config = config.model_copy(update={"backend": "numpy", "device": "cpu"})
    set_up_torch(config)
    found = {}
    for text in behaviours:
        plan = behaviour(text, list(config.policies), run is not None)
        rules = {type_: name for type_, name in plan.items() if name not in LEARNED}
        played = evaluate.scripted(config, rules)
        networks: dict[str, Any] = {}
        for name in LEARNED:
            if name in plan.values():
                made = evaluate.modules(played, run.weights() if run and name == "trained" else None)
                networks |= {type_: network for type_, network in made.items() if plan[type_] == name}
        found[text] = Session(played, networks, how)
    return found


def behaviour(text: str, types: Sequence[str], trained: bool) -> dict[str, str]:
    """What every type does: `scripted`, `random`, `untrained`, `trained` or another rule, and after + what single types do instead:
    scripted+random:firm, trained+taylor93:central_bank."""
    whole, *single = text.split("+")
    plan = dict.fromkeys(types, whole)
    for part in single:
        name, _, type_ = part.rpartition(":")
        if type_ not in types or not name:
            raise ValueError(f"after + a behaviour must look like random:TYPE, where TYPE is one of {', '.join(types)}; got {part!r}")
        plan[type_] = name
    if "trained" in plan.values() and not trained:
        raise ValueError("only a run has trained policies; give a run's folder, or choose untrained")
    return plan


def separate(text: str) -> list[str]:
    """Behaviours between commas; those within parentheses belong to a rule."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def usual(config: RunConfig) -> list[str]:
    """What an economy is audited with: its scripts, if every type has one, random play and untrained networks."""
    economy = envs.load(config.economy)
    scripts = all("scripted" in economy.rules.get(type_, {}) for type_ in economy.agents)
    return [*(["scripted"] if scripts else []), "random", "untrained"]


def _endless(config: RunConfig, periods: int) -> RunConfig:
    """The configuration with a horizon beyond these periods, where the economy lets its Params decide."""
    horizon = envs.load(config.economy).horizon
    if not isinstance(horizon, str):
        return config
    return config.model_copy(update={"params": {**config.params, horizon: periods + 1}})
