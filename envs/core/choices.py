"""What agents choose, as data: heads of a policy, grids in economic units, windows, action spaces all come from these lines.

A choice has one head or several; a head is `categorical` over options or an `interval` in [0, 1]. A batch of choices is an array
(B, agents, heads): option numbers, and shares for intervals.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kernels.core.arrays import Array, namespace

Window = tuple[float, float]
Number = float | str  # a number or the name of a Param
Allowed = Callable[[Any, Any, Array], Array]  # (Params, State, grid values) -> bool (B, agents or 1, values)


@dataclass(frozen=True)
class Head:
    """One random variable of a policy: `options` > 0 categories, or 0 for a share in [0, 1]. `choice` names the choice it is part of."""

    choice: str
    options: int


class Choice(Protocol):
    """What every kind of choice can do."""

    @property
    def name(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def heads(self, p: Any) -> list[Head]: ...

    def violations(self, p: Any, windows: Mapping[str, Window]) -> np.ndarray: ...

    def legal(self, p: Any, s: Any) -> Array | None: ...

    def write(self, p: Any, chosen: Array, a: Any, windows: Mapping[str, Window]) -> None: ...

    def options(self, p: Any) -> str: ...


def _value(p: Any, number: Number) -> float:
    return float(getattr(p, number)) if isinstance(number, str) else float(number)


def _fill(a: Any, name: str, values: Array) -> None:
    """Write values (B, agents, k) into an Actions field of whatever rank has the same number of elements."""
    field = getattr(a, name)
    field[...] = values.reshape(field.shape)


@dataclass(frozen=True)
class Levels:
    """One of a few values: `n` equally spaced ones from low to high, or those listed in `values`; with `each`, one such choice for every
    member of an axis. `allowed` tells which of them the state permits. A `residual` choice is added to what the rule `scripted` of the type
    does."""

    name: str
    low: Number
    high: Number
    n: int
    each: str | None = None
    values: tuple[float, ...] = ()
    allowed: Allowed | None = None
    residual: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def grid(self, p: Any) -> np.ndarray:
        """The values in economic units, float32."""
        if self.values:
            return np.array(self.values, np.float32)
        return np.linspace(_value(p, self.low), _value(p, self.high), self.n, dtype=np.float32)

    def legal(self, p: Any, s: Any) -> Array | None:
        """Values that the state permits now: bool (B, agents or 1, options of all heads); None if it always permits all."""
        if self.allowed is None:
            return None
        xp = namespace(s)
        return xp.tile(self.allowed(p, s, xp.asarray(self.grid(p))), (1, 1, len(self.heads(p))))

    def heads(self, p: Any) -> list[Head]:
        return [Head(self.name, self.n)] * (getattr(p, self.each) if self.each else 1)

    def violations(self, p: Any, windows: Mapping[str, Window]) -> np.ndarray:
        return np.tile(_outside(self.grid(p), windows.get(self.name)), len(self.heads(p)))

    def write(self, p: Any, chosen: Array, a: Any, windows: Mapping[str, Window]) -> None:
        values = namespace(chosen).asarray(self.grid(p))[chosen]
        field = getattr(a, self.name)
        _fill(a, self.name, values.reshape(field.shape) + field if self.residual else values)

    def options(self, p: Any) -> str:
        values = ", ".join(f"{v:g}" for v in self.grid(p))
        return f"{values} of each of {getattr(p, self.each)}" if self.each else values


@dataclass(frozen=True)
class Pick:
    """The number of one member of an axis: 0 .. n - 1, where n is the value of the Param `among`."""

    name: str
    among: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def heads(self, p: Any) -> list[Head]:
        return [Head(self.name, getattr(p, self.among))]

    def violations(self, p: Any, windows: Mapping[str, Window]) -> np.ndarray:
        return _outside(np.arange(getattr(p, self.among), dtype=np.float32), windows.get(self.name))

    def legal(self, p: Any, s: Any) -> Array | None:
        return None

    def write(self, p: Any, chosen: Array, a: Any, windows: Mapping[str, Window]) -> None:
        _fill(a, self.name, chosen)

    def options(self, p: Any) -> str:
        return f"0 .. {getattr(p, self.among) - 1}"


@dataclass(frozen=True)
class Masked:
    """Options that stand for themselves, one head for each size that `sizes` makes of Params; the State field `mask` holds 1 for every
    option of all heads that is legal now, one row for each agent."""

    name: str
    sizes: Callable[[Any], Sequence[int]]
    mask: str

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def heads(self, p: Any) -> list[Head]:
        return [Head(self.name, n) for n in self.sizes(p)]

    def violations(self, p: Any, windows: Mapping[str, Window]) -> np.ndarray:
        return np.concatenate([_outside(np.arange(n, dtype=np.float32), windows.get(self.name)) for n in self.sizes(p)])

    def legal(self, p: Any, s: Any) -> Array | None:
        mask = getattr(s, self.mask)
        return mask.reshape(len(mask), -1, sum(self.sizes(p))).view(bool)

    def write(self, p: Any, chosen: Array, a: Any, windows: Mapping[str, Window]) -> None:
        _fill(a, self.name, chosen)

    def options(self, p: Any) -> str:
        return ", ".join(f"0 .. {n - 1}" for n in self.sizes(p))


@dataclass(frozen=True)
class Interval:
    """A continuous value low + share (high - low), share in [0, 1] from a Beta distribution; a window narrows the bounds."""

    name: str
    low: Number = 0.0
    high: Number = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def heads(self, p: Any) -> list[Head]:
        return [Head(self.name, 0)]

    def violations(self, p: Any, windows: Mapping[str, Window]) -> np.ndarray:
        return np.zeros(0, np.int64)

    def legal(self, p: Any, s: Any) -> Array | None:
        return None

    def write(self, p: Any, chosen: Array, a: Any, windows: Mapping[str, Window]) -> None:
        low, high = self.bounds(p, windows)
        _fill(a, self.name, low + chosen * (high - low))

    def bounds(self, p: Any, windows: Mapping[str, Window]) -> Window:
        """Least and largest value that may be chosen now; ValueError if the window misses the interval."""
        low, high = _value(p, self.low), _value(p, self.high)
        least, most = windows.get(self.name, (low, high))
        if max(low, least) > min(high, most):
            raise ValueError(f"the window [{least:g}, {most:g}] on {self.name} misses its interval [{low:g}, {high:g}]; widen it")
        return max(low, least), min(high, most)

    def options(self, p: Any) -> str:
        return f"[{_value(p, self.low):g}, {_value(p, self.high):g}]"


@dataclass(frozen=True)
class Product:
    """One head over the grid of several choices, the first factor slowest: option = first * size of second + second."""

    factors: tuple[Levels, ...]

    @property
    def name(self) -> str:
        return "*".join(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(factor.name for factor in self.factors)

    def heads(self, p: Any) -> list[Head]:
        return [Head(self.name, int(np.prod([factor.n for factor in self.factors])))]

    def violations(self, p: Any, windows: Mapping[str, Window]) -> np.ndarray:
        parts = np.meshgrid(*(factor.violations(p, windows) for factor in self.factors), indexing="ij")
        return np.sum([part.ravel() for part in parts], axis=0)

    def legal(self, p: Any, s: Any) -> Array | None:
        """Pairs whose members are all permitted."""
        parts = [factor.legal(p, s) for factor in self.factors]
        if all(part is None for part in parts):
            return None
        xp = namespace(s)
        together = xp.ones((1, 1, 1), bool)
        for factor, part in zip(self.factors, parts, strict=True):
            part = xp.ones((1, 1, factor.n), bool) if part is None else part
            together = together[..., :, None] & part[..., None, :]
            together = together.reshape(*together.shape[:2], -1)
        return together

    def write(self, p: Any, chosen: Array, a: Any, windows: Mapping[str, Window]) -> None:
        after = 1
        for factor in reversed(self.factors):
            factor.write(p, chosen // after % factor.n, a, windows)
            after *= factor.n

    def options(self, p: Any) -> str:
        return " x ".join(f"{{{factor.options(p)}}}" for factor in self.factors)


def levels(name: str, low: Number, high: Number, n: int, each: str | None = None, allowed: Allowed | None = None) -> Levels:
    """`n` equally spaced values from low to high, one head; with `each` (a Param) one head for every member of that axis. `allowed` is a
    function (p, s, values) that tells which values the state permits, bool (B, agents or 1, values)."""
    return Levels(name, low, high, n, each, (), allowed)


def grid(name: str, values: tuple[float, ...], allowed: Allowed | None = None) -> Levels:
    """One of the values listed, in their order, one head; `allowed` as in `levels`."""
    return Levels(name, values[0], values[-1], len(values), None, values, allowed)


def residual(name: str, values: tuple[float, ...]) -> Levels:
    """One of the values listed, added to what the type's rule `scripted` does: a policy that always chooses zero is the script."""
    return Levels(name, values[0], values[-1], len(values), None, values, None, True)


def pick(name: str, among: str) -> Pick:
    """One member of an axis whose length is the Param `among`."""
    return Pick(name, among)


def masked(name: str, sizes: Callable[[Any], Sequence[int]], mask: str) -> Masked:
    """Option numbers of heads with these sizes, a function of Params, among those that the State field `mask` permits."""
    return Masked(name, sizes, mask)


def interval(name: str, low: Number = 0.0, high: Number = 1.0) -> Interval:
    """A continuous value between low and high (Beta head)."""
    return Interval(name, low, high)


def product(*factors: Levels) -> Product:
    """One head over the Cartesian product of levels, the first factor slowest."""
    return Product(factors)


def _outside(grid: np.ndarray, window: Window | None) -> np.ndarray:
    """1 where a grid value lies outside the window, compared in float32, else 0."""
    if window is None:
        return np.zeros(len(grid), np.int64)
    low, high = np.float32(window[0]), np.float32(window[1])
    return ((grid < low) | (grid > high)).astype(np.int64)
