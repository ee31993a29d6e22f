"""Many replicas of one economy, played as arrays: observe, choose, step, and again, on a CPU or a GPU, without Ray."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from envs.core import rules as rules_
from envs.core.choices import Head, Window
from envs.core.economy import Economy, Posted, unknown
from envs.core.features import Layout
from envs.core.snapshots import Bank, warmed_up
from kernels.core import launch, rng
from kernels.core.arrays import Array, adjust, allocate, needed, to_host

WARM_UP, SHOCKS, STARTS, RANDOM_PLAY, RULES = range(5)  # purposes: each has its own key, so that none of their draws are related
Impulse = tuple[int, float] | tuple[int, float, int]  # first period, what is added to the draw, for how many periods (one if left out)


class Batch:
    """`size` replicas of an economy. `first` is the number of the first replica: two batches of one seed whose numbers overlap
    play the same worlds there, whatever their sizes.

    Arrays live on `device` (cpu or cuda); on a CPU `backend` numpy runs the definitions, native their compiled twins, and auto takes
    native where the economy prefers it and a compiler is found. `keep_final` observes the end of every episode, not only where an endless
    economy is cut and values are bootstrapped. Raises ValueError for impossible sizes, BackendError for a device or backend that is not
    here.
    """

    def __init__(self, economy: Economy, params: Any = None, size: int = 1, *, device: str = "cpu", backend: str = "auto", seed: int = 0,
                 features: str = "scaled", real: Any = None, first: int = 0, rules: Mapping[str, str] | None = None,
                 keep_final: bool = False):
        self.economy, self.kernel = economy, economy.kernel
        self.p = check_params(params if params is not None else economy.defaults())
        if size < 1:
            raise ValueError(f"replicas must be at least 1, got {size}")
        self.size, self.seed, self.real, self.first, self.features = size, seed, real or np.dtype(economy.real).type, first, features
        require_memory(economy, self.p, size, self.real)
        self.xp, self.backend = _choose(device, backend, economy)
        self.windows: dict[str, dict[str, Window]] = {type_: {} for type_ in economy.agents}
        economy.check_parts(self.p)
        self.count = {type_: agent.number(self.p) for type_, agent in economy.agents.items()}
        self.resets = self.xp.zeros(size, np.int64)  # episodes started after the first, in each replica
        self.bank = self._bank()
        self.s = self._start()
        self.a, self.e, self.r = (allocate(cls, self.kernel, self.p, size, self.xp, self.real)
                                  for cls in (self.kernel.Actions, self.kernel.Shocks, self.kernel.Rewards))
        # State, Actions and Rewards as each type has them
        self.own = {t: tuple(economy.own(t, self.p, arrays) for arrays in (self.s, self.a, self.r)) for t in economy.agents}
        self.layout = {t: Layout(agent.sees, features, self.p, self.s, self.count[t]) for t, agent in economy.agents.items()}
        self.heads: dict[str, list[Head]] = {t: [h for c in agent.chooses for h in c.heads(self.p)] for t, agent in economy.agents.items()}
        self.rules: rules_.Rules = {}
        self.script(rules or {})
        self.clock = self.xp.zeros(size, np.int64)  # periods played since the batch was made, in each replica
        self.age = np.zeros(size, np.int64)  # periods played in the running episode
        self.keep_final = keep_final or economy.endless
        self.final: dict[str, Array] | None = None
        self.impulses: dict[str, Impulse] = {}  # shock -> what is added to its draws in some periods of an episode
        self.watch: Callable[[Any, Any], None] | None = None  # sees the State before and after each period, before any reset
        self._before: Any = None
        self.measured: dict[str, Array] = {}  # the economy's measures (B,) after the last step, before any reset

    # -- what may change between episodes

    def script(self, named: Mapping[str, str]) -> None:
        """From now on these types follow hand-written rules: {"government": "constant(income_tax=0.2, corporate_tax=0.2)"}."""
        for type_ in named:
            if type_ not in self.economy.agents:
                raise unknown("agent type", type_, "rules", self.economy.agents)
        self.rules = {type_: rules_.parse(text, self.economy, type_) for type_, text in named.items()}

    def adjust(self, params: Mapping[str, float] | None = None, windows: Mapping[str, Window] | None = None) -> None:
        """Anneal Params and set windows on choices, {"firm.price": (500, 1500)}; Params read at reset act from the next reset on."""
        if params:
            self.p = with_values(self.p, params)
        choices = [f"{type_}.{name}" for type_, agent in self.economy.agents.items() for c in agent.chooses for name in c.names]
        for name, window in (windows or {}).items():
            if name not in choices:
                raise unknown("choice", name, "windows", choices)
            type_, _, choice = name.partition(".")
            self.windows[type_][choice] = window

    # -- play

    def reset(self, where: np.ndarray | None = None) -> None:
        """Start a new episode in all replicas, or in those where the mask (B,) is true."""
        mask: Any = ... if where is None else self.xp.asarray(where)
        self.resets[mask] += 1
        with self._playing():
            start = self._start()
            if hasattr(self.kernel, "inherit"):  # what outlives an episode
                self.kernel.inherit(self.p, self.s, start)
        for f in fields(start):
            getattr(self.s, f.name)[mask] = getattr(start, f.name)[mask]
        self.age[... if where is None else where] = 0

    def observe(self, type_: str, out: Array | None = None) -> Array:
        """What the agents of a type see: (B, agents, width), written into `out` if given."""
        layout = self.layout[type_]
        out = self.xp.empty((self.size, layout.count, layout.width), np.float32) if out is None else out
        layout.write(self.own[type_][0], out)
        return out

    def violations(self, type_: str) -> np.ndarray:
        """How many windows each option of a type's heads violates: (options of all heads,), int."""
        chooses = self.economy.agents[type_].chooses
        return np.concatenate([choice.violations(self.p, self.windows[type_]) for choice in chooses])

    def legal(self, type_: str) -> Array | None:
        """Options that may be chosen now: bool (options,) or (B, agents, options) over all heads; None if all of them may."""
        allowed = self.violations(type_) == 0
        if not allowed.all():
            self._require_some(type_, allowed)
        by_state = [choice.legal(self.p, self.own[type_][0]) for choice in self.economy.agents[type_].chooses]
        if any(part is not None for part in by_state):
            return self._permitted(type_, by_state) & self.xp.asarray(allowed)
        return None if allowed.all() else self.xp.asarray(allowed)

    def _permitted(self, type_: str, by_choice: list[Array | None]) -> Array:
        """What the state permits over all heads of a type: bool (B, agents, options)."""
        parts = []
        for choice, part in zip(self.economy.agents[type_].chooses, by_choice, strict=True):
            options = sum(head.options for head in choice.heads(self.p))
            parts.append(self.xp.broadcast_to(True if part is None else part, (self.size, self.count[type_], options)))
        return self.xp.concatenate(parts, -1)

    def step(self, choices: Mapping[str, Array]) -> tuple[dict[str, Array], np.ndarray]:
        """Play one period. `choices` has (B, agents, heads) for every type that no rule scripts. Returns rewards {type: (B, agents)} and
        the mask (B,) of episodes that just ended; those replicas are reset, and `final` keeps what all saw before that until the next step.
        """
        for type_ in self.economy.agents:
            self.decide(type_, choices.get(type_))
        posted = {name: self.xp.array(measure(self.s)) for name, measure in self.economy.measures.items() if isinstance(measure, Posted)}
        with self._playing():
            self.kernel.draw_shocks(self.p, self.s, self.e, self.draws(SHOCKS))
            self._add_impulses()
            before = self._remember() if self.watch else None
            self.kernel.step(self.p, self.s, self.a, self.e, self.r)
            if self.watch:
                self.watch(before, self.s)
        self.measured = {name: posted[name] if name in posted else self.xp.array(measure(self.s))  # copies: the State changes
                         for name, measure in self.economy.measures.items()}
        self.clock += 1
        self.age += 1
        rewards = {t: self.paid(t).copy() for t in self.economy.agents}
        done = self.age >= self.economy.periods(self.p)
        self.final = None
        if done.any():
            self.final = {t: self.observe(t) for t in self.economy.agents} if self.keep_final else None
            self.reset(done if not done.all() else None)
        return rewards, done

    def paid(self, type_: str) -> Array:
        """Rewards of the last period: (B, agents)."""
        return getattr(self.own[type_][2], self.economy.known_as(type_)).reshape(self.size, self.count[type_])

    def _playing(self) -> contextlib.AbstractContextManager:
        """Within the block kernels run on this batch's backend."""
        return launch.use(self.backend) if self.xp is np else contextlib.nullcontext()

    def _add_impulses(self) -> None:
        """Shift the draws of the periods that have an impulse."""
        for name, (period, size, *length) in self.impulses.items():
            now = (self.age >= period) & (self.age < period + (length[0] if length else 1))
            getattr(self.e, name)[self.xp.asarray(now)] += size

    def _remember(self) -> Any:
        """The State as it is, for `watch`, kept until the next period: the fields that the kernel's invariants REMEMBER, or all."""
        if self._before is None:
            names = getattr(self.kernel, "REMEMBERED", vars(self.s))
            self._before = SimpleNamespace(**{name: array.copy() for name, array in vars(self.s).items() if name in names})
        for name, array in vars(self._before).items():
            array[...] = getattr(self.s, name)
        return self._before

    def decide(self, type_: str, chosen: Array | None) -> None:
        """Fill the Action fields of one type, from its rule or from its choices."""
        s, a, _ = self.own[type_]
        if type_ in self.rules:
            rule = self.rules[type_]
            if rule is not None:
                return rule(self.p, s, a, self.draws(RULES + list(self.economy.agents).index(type_)))
            chosen = self.random_choices(type_)
        elif chosen is None:
            raise ValueError(f"step needs choices for {type_}, which no rule scripts")
        start, chooses = 0, self.economy.agents[type_].chooses
        if any(getattr(choice, "residual", False) for choice in chooses):
            self._scripted(type_)
        for choice in chooses:
            n = len(choice.heads(self.p))
            part = chosen[:, :, start:start + n]
            if self.heads[type_][start].options and part.dtype.kind == "f":
                part = part.astype(np.int64)
            choice.write(self.p, part, a, self.windows[type_])
            start += n

    def _scripted(self, type_: str) -> None:
        """Fill the Action fields of one type as its rule `scripted` does."""
        s, a, _ = self.own[type_]
        self.economy.rules[type_]["scripted"](self.p, s, a, self.draws(RULES + list(self.economy.agents).index(type_)))

    def random_choices(self, type_: str) -> Array:
        """Uniform play among the legal options: (B, agents, heads), a function of the seed and each replica's clock."""
        heads, n = self.heads[type_], self.count[type_]
        stream = list(self.economy.agents).index(type_)
        u = self.draws(RANDOM_PLAY).uniform(stream, n * len(heads)).reshape(self.size, n, len(heads))
        legal, chosen, start = self.legal(type_), u.astype(np.float32), 0
        for h, head in enumerate(heads):
            if head.options:
                allowed = self.xp.ones(head.options, bool) if legal is None else legal[..., start:start + head.options]
                chosen[:, :, h] = rules_.legal_choice(u[:, :, h], allowed)
                start += head.options
        return chosen if any(not head.options for head in heads) else chosen.astype(np.int64)

    def draws(self, purpose: int) -> rng.Draws:
        """The random numbers of this period for one purpose."""
        return rng.Draws(rng.key(self.seed, purpose), self.first + self.xp.arange(self.size), self.clock)

    # -- to be able to go on exactly here

    def state_dict(self) -> dict[str, np.ndarray]:
        """Everything that play depends on besides parameters and seed, as plain arrays."""
        kept = {f"s.{name}": to_host(array).copy() for name, array in vars(self.s).items()}
        return kept | {"clock": to_host(self.clock).copy(), "age": self.age.copy(), "resets": to_host(self.resets).copy()}

    def load_state_dict(self, kept: Mapping[str, np.ndarray]) -> None:
        """Go on exactly where `state_dict` was taken."""
        for name, array in vars(self.s).items():
            array[...] = self.xp.asarray(kept[f"s.{name}"])
        self.clock[...], self.resets[...] = self.xp.asarray(kept["clock"]), self.xp.asarray(kept["resets"])
        self.age[...] = kept["age"]

    def _start(self) -> Any:
        """The states in which the episodes numbered `resets` start; a random start is addressed by replica and episode."""
        draws = rng.Draws(rng.key(self.seed, STARTS), self.first + self.xp.arange(self.size), self.resets)
        if self.bank is not None:
            return self.bank.state(draws)
        return self.kernel.initial_state(self.p, self.size, self.xp, draws, self.real)

    def _bank(self) -> Bank | None:
        """The states from which episodes start in an economy that is warmed up; None in others."""
        periods = self.economy.warm_up_periods(self.p)
        if not periods:
            return None
        cold = replace(self.economy, warm_up=0, horizon=10**9)
        names = (self.kernel.__name__, tuple(self.economy.agents), self.p, self.seed, self.xp.__name__, self.backend, self.real, periods)
        device = "cpu" if self.xp is np else "cuda"
        low, high = rng.key(self.seed, WARM_UP)
        return warmed_up(names, needed(self.kernel, self.p, 1, self.real), periods, lambda size: Batch(
            cold, self.p, size, device=device, backend=self.backend if device == "cpu" else "auto", seed=low | high << 32, real=self.real,
            rules=dict.fromkeys(self.economy.agents, "scripted")))

    def _require_some(self, type_: str, allowed: np.ndarray) -> None:
        start = 0
        for head in self.heads[type_]:
            if head.options and not allowed[start:start + head.options].any():
                raise ValueError(f"the windows on {type_}.{head.choice} leave no option; widen them to include a grid value")
            start += head.options


def with_values(p: Any, values: Mapping[str, Any]) -> Any:
    """Parameters with some of them changed; ValueError names the one that is unknown or too small."""
    names = [f.name for f in fields(p)]
    for name in values:
        if name not in names:
            raise unknown("param", name, "this economy", names)
    return check_params(adjust(p, **values))


def require_memory(economy: Economy, p: Any, size: int, real: Any = np.float32) -> None:
    """Sizes that this machine cannot hold are a mistake, found before anything is allocated."""
    need, have = needed(economy.kernel, p, size, real) / 2**30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    if need > have:
        lengths = ", ".join(f"{name}={getattr(p, name):,}" for name in economy.kernel.AXES.values())
        raise ValueError(f"replicas={size:,} with {lengths} need {need:,.0f} GiB, this machine has {have:,.0f}; make them smaller")


def check_params(p: Any) -> Any:
    """The parameters themselves, or ValueError naming the one that is too small."""
    for f in fields(p):
        low, value = f.metadata.get("low"), getattr(p, f.name)
        if low is not None and not value >= low:
            raise ValueError(f"params.{f.name} must be at least {low:g}, got {value:g}")
    return p


def _choose(device: str, backend: str, economy: Economy) -> tuple[Any, str]:
    """The array module and the backend for CPU arrays; a missing device or compiler is an error, never a silent change."""
    if device == "cuda":
        if problem := launch.cuda_problem():
            raise launch.BackendError(f"device=cuda: {problem}")
        import cupy
        return cupy, "cuda"
    if device != "cpu":
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if backend not in ("auto", "numpy", "native"):
        raise ValueError(f"backend must be auto, numpy or native, got {backend!r}")
    problem = launch.native_problem()
    if backend == "auto":
        return np, "native" if economy.backend == "native" and not problem else "numpy"
    if backend == "native" and problem:
        raise launch.BackendError(f"backend=native: {problem}")
    return np, backend


