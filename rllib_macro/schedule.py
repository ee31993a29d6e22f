"""What changes over a run: who trains, annealed Params, windows and coefficients, each a function of the iteration k.

k counts the iterations of the run from 0. `plan` is all that one iteration needs to know; `phases` tells a reader when things change.
"""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from typing import Any, overload

from rllib_macro.config import Exponential, Interval, Policy, RunConfig, Schedule, Window, is_scheduled


@dataclass(frozen=True)
class Plan:
    """One iteration: who trains, and every number that the iteration decides. Travels to the env runners with the weights."""

    train: list[str]  # agent types that train now
    params: dict[str, float]  # Param -> value, scheduled ones only
    windows: dict[str, tuple[float, float]]  # type.choice -> (low, high), economic units
    coefficients: dict[str, dict[str, float]]  # type that learns -> {"lr": ..., "entropy": ...}


def plan(config: RunConfig, k: int) -> Plan:
    """Everything that iteration k decides, for the types in `config.policies` (`check_against` fills in those left out)."""
    learners = {kind: policy for kind, policy in config.policies.items() if policy.rule is None}
    return Plan(
        train=[kind for kind, policy in learners.items() if trains(policy, k)],
        params={name: value(given, k) for name, given in config.params.items() if is_scheduled(given)},  # type: ignore[arg-type,misc]
        windows={name: value(window, k) for name, window in config.windows.items()},
        coefficients={
            kind: {"lr": value(policy.lr, k, policy.train_from), "entropy": value(policy.entropy, k, policy.train_from)}
            for kind, policy in learners.items()
        },
    )


def trains(policy: Policy, k: int) -> bool:
    """Whether a type trains in iteration k: never by a rule; within train_during if given, else from train_from, every train_every; and of
    these iterations in those whose place in train_cycle is its turn.
    """
    if policy.rule is not None or not _its_turn(policy, k):
        return False
    if policy.train_during is not None:
        return any(start <= k < end for start, end in policy.train_during)
    return k >= policy.train_from and k % policy.train_every == 0


def _its_turn(policy: Policy, k: int) -> bool:
    if policy.train_cycle is None:
        return True
    length, (start, end) = policy.train_cycle
    return start <= k % length < end


@overload
def value(schedule: Schedule, k: int, start: int = 0) -> float: ...
@overload
def value(schedule: Window, k: int, start: int = 0) -> tuple[float, float]: ...
def value(schedule: Any, k: int, start: int = 0) -> float | tuple[float, float]:
    """The number, or the (low, high) of a window, that a schedule gives in iteration k.

    A constant is itself. Points [[k, value], ...] are joined by straight lines, constant outside. An Exponential is
    max(to + (from - to) exp(-(k - start) / exp), floor), with `from` before `start`; the argument `start` stands in where it has none.
    """
    if isinstance(schedule, Exponential):
        elapsed = max(k - (start if schedule.start is None else schedule.start), 0)
        decayed = schedule.to + (schedule.from_ - schedule.to) * exp(-elapsed / schedule.exp)
        return decayed if schedule.floor is None else max(decayed, schedule.floor)
    if is_scheduled(schedule):
        return _between(schedule, k)
    return tuple(schedule) if isinstance(schedule, (tuple, list)) else float(schedule)


def _between(points: tuple[tuple[int, Any], ...], k: int) -> Any:
    """Linear interpolation; multiplies before it divides, so that a corner of a grid is reached exactly in its iteration."""
    after = bisect_right(points, k, key=lambda point: point[0])
    (k0, low), (k1, high) = points[max(after - 1, 0)], points[min(after, len(points) - 1)]

    def mix(a: float, b: float) -> float:
        return float(a) if k <= k0 or k0 == k1 else a + (b - a) * (k - k0) / (k1 - k0)

    return tuple(map(mix, low, high)) if isinstance(low, (tuple, list)) else mix(low, high)


def phases(config: RunConfig) -> list[tuple[int, str]]:
    """(iteration, what starts or ends there), in order: training of each type, corners of windows and Params within the run."""
    return sorted((event for event in _events(config) if event[0] < config.stop.iterations), key=lambda event: event[0])


def _events(config: RunConfig) -> Iterator[tuple[int, str]]:
    for kind, policy in config.policies.items():
        if policy.rule is None and policy.train_during is not None:
            for start, end in policy.train_during:
                yield start, f"{kind} learns"
                yield end, f"{kind} pauses"
        elif policy.rule is None:
            yield policy.train_from, f"{kind} learns"
        if policy.rule is None and policy.train_cycle is not None:
            length, (start, end) = policy.train_cycle
            yield 0, f"{kind} takes turns: {start} to {end - 1} of every {length} iterations"
    for name, given in {**config.windows, **config.params}.items():
        if isinstance(given, Exponential):
            yield given.start or 0, f"{name} moves from {given.from_:g} towards {given.to:g}"
        elif is_scheduled(given):
            yield from _corners(name, given)


def _corners(name: str, points: Any) -> Iterator[tuple[int, str]]:
    for index, (k, corner) in enumerate(points):
        verb = "stays at" if index == len(points) - 1 else "passes" if index else "moves from"
        yield k, f"{name} {verb} {_text(corner)}"


def _text(corner: float | Interval) -> str:
    return f"[{corner[0]:g}, {corner[1]:g}]" if isinstance(corner, tuple) else f"{corner:g}"
