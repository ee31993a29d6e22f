"""An economy as data: who acts, what each type sees and chooses, how play is measured and scripted."""
from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from types import ModuleType
from typing import Any

from envs.core.choices import Choice
from envs.core.features import Feature
from kernels.core.arrays import Array, members

Rule = Callable[..., None]  # (p, s, a, draws) -> None, fills the Action fields of one type
Measure = Callable[[Any], Array]  # State -> (B,)
Sign = tuple[int, int, int]  # +1 or -1, first and last quarter after a shock in which theory expects it


@dataclass(frozen=True)
class Posted:
    """A measure of the terms in force in a period: taken before the period is played, whose end announces the next terms."""

    measure: Measure

    def __call__(self, state: Any) -> Array:
        return self.measure(state)


@dataclass(frozen=True)
class Agent:
    """One agent type: how many there are (a number, the name of a Param, or a function of Params), what they see, what they choose.

    `part_of` names a type of the kernel, a field of its Rewards, some of whose agents these are. The parts of a type hold its rows in the
    order in which an economy declares them; each sees, chooses and is paid as a type, with a policy of its own.
    """

    count: int | str | Callable[[Any], int]
    sees: tuple[Feature, ...]
    chooses: tuple[Choice, ...]
    reward_unit: str = ""
    part_of: str = ""

    def number(self, p: Any) -> int:
        """How many agents of this type live in one replica."""
        if callable(self.count):
            return self.count(p)
        return getattr(p, self.count) if isinstance(self.count, str) else self.count


@dataclass(frozen=True)
class Search:
    """A rule whose arguments are searched for, each between two bounds; `starts` are arguments of known rules of its kind."""

    rule: str
    bounds: Mapping[str, tuple[float, float]]
    starts: tuple[Mapping[str, float], ...] = ()


@dataclass(frozen=True)
class Study:
    """What experiments ask of an economy, beside what its agents need.

    scales: measure -> "percent" where its response is 100 times a difference of logs, "points" where it is 100 times a difference, left out
    where it is a plain difference. signs: shock -> measure -> sign of the response to a rise. searches: type -> name -> the Search for a
    rule. bars: type -> rules that a learned policy should beat. readouts: type -> measure that it controls, and measures to which a linear
    rule would respond.
    """

    scales: Mapping[str, str] = field(default_factory=dict)
    signs: Mapping[str, Mapping[str, Sign]] = field(default_factory=dict)
    searches: Mapping[str, Mapping[str, Search]] = field(default_factory=dict)
    bars: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    readouts: Mapping[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)


@dataclass
class Economy:
    """A kernel and the agents that live in it. `endless` economies are cut, not ended, at the horizon: values are bootstrapped. One with a
    `warm_up` starts its episodes from a bank of states reached by so many periods of scripted play, each type by its rule `scripted`."""

    kernel: ModuleType
    horizon: int | str
    agents: Mapping[str, Agent]
    measures: Mapping[str, Measure] = field(default_factory=dict)
    rules: Mapping[str, Mapping[str, Rule]] = field(default_factory=dict)
    endless: bool = False
    backend: str = "native"  # what `auto` means on a CPU with a compiler
    real: str = "float32"  # working precision
    warm_up: int | str = 0
    study: Study = field(default_factory=Study)
    name: str = ""
    calibration: Any = None  # Params from which an economy starts, where they are not the defaults of its kernel

    def defaults(self) -> Any:
        """The Params of the economy where none are given."""
        return self.kernel.Params() if self.calibration is None else self.calibration

    def periods(self, p: Any) -> int:
        """Length of an episode."""
        return getattr(p, self.horizon) if isinstance(self.horizon, str) else self.horizon

    def known_as(self, type_: str) -> str:
        """The type of the kernel that these agents are or are part of: the name of their Rewards field."""
        return self.agents[type_].part_of or type_

    def axis(self, type_: str) -> str:
        """The kernel's axis on which the agents of a part have their rows."""
        declared = {f.name: f.metadata["axes"] for f in fields(self.kernel.Rewards)}
        return declared[self.known_as(type_)][0]

    def counted_by(self, type_: str) -> int | str | Callable[[Any], int]:
        """The Param that counts the rows of arrays in which these agents are, or their number."""
        agent = self.agents[type_]
        return self.kernel.AXES[self.axis(type_)] if agent.part_of else agent.count

    def rows(self, type_: str, p: Any) -> slice:
        """Rows that a part holds among its type: those that follow the parts declared before it. Another type holds all."""
        if not self.agents[type_].part_of:
            return slice(None)
        before = [agent.number(p) for agent in list(self.agents.values())[:list(self.agents).index(type_)]
                  if agent.part_of == self.agents[type_].part_of]
        return slice(sum(before), sum(before) + self.agents[type_].number(p))

    def own(self, type_: str, p: Any, arrays: Any) -> Any:
        """State, Actions or Rewards as a type has them: a part has its rows of every array, as views; another type has all there is."""
        return members(arrays, self.axis(type_), self.rows(type_, p)) if self.agents[type_].part_of else arrays

    def check_parts(self, p: Any) -> None:
        """ValueError unless every part has agents and the parts of a type make up all of it."""
        for whole in dict.fromkeys(agent.part_of for agent in self.agents.values() if agent.part_of):
            parts = {type_: agent.number(p) for type_, agent in self.agents.items() if agent.part_of == whole}
            total = getattr(p, self.kernel.AXES[self.axis(next(iter(parts)))])
            if min(parts.values()) < 1 or sum(parts.values()) != total:
                told = ", ".join(f"{number} {type_}" for type_, number in parts.items())
                raise ValueError(f"{told} must each be at least 1 and together all {total} {whole} agents; change params so that they are")

    def warm_up_periods(self, p: Any) -> int:
        """Periods of scripted play before an episode may start."""
        return getattr(p, self.warm_up) if isinstance(self.warm_up, str) else self.warm_up


def unknown(what: str, name: str, where: str, names: Iterable[str]) -> ValueError:
    """The error for a name that is none of `names`: unknown('choice', 'prise', 'firm', ...) says "did you mean 'price'?"."""
    names = list(names)
    near = difflib.get_close_matches(name, names, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names)}" if names else "there are none"
    return ValueError(f"unknown {what} {name!r} of {where}; {hint}")
