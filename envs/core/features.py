"""What agents see, as data: the observation vector, its length, its table and its labels all come from these lines.

Three views of the same declarations: `raw` numbers; `scaled`, transformed to about unit size (the default); `digits`, where features
so marked become ten saw-tooth fractions (x mod 10^k) / 10^k, k = 1..10, and the others are scaled linearly (Curry et al., 2022).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.core.arrays import Array, namespace

VIEWS = ("raw", "scaled", "digits")
N_DIGITS = 10
BOUND = 5.0  # of clipped features
Scale = float | Callable[[Any], float]


@dataclass(frozen=True)
class Feature:
    """One block of columns: a field of State seen by everybody (`public`) or by its owner (`own`), or the agent's `identity`."""

    name: str
    kind: str
    scale: Scale = 1.0
    transform: str = "linear"
    digits: bool = False
    views: tuple[str, ...] = VIEWS
    when: str | None = None  # a Param that must not be zero for the feature to be there
    of: Callable[[Any], Array] | None = None  # State -> values, where it is no field of State
    labels: Callable[[Any], Sequence[str]] | None = None  # Params -> a name for each column, where they differ in kind

    def values(self, state: Any) -> Array:
        """What is seen, before scale and transform."""
        return self.of(state) if self.of else getattr(state, self.name)


def public(name: str, *, scale: Scale = 1.0, transform: str = "linear", digits: bool = False, views: tuple[str, ...] = VIEWS,
           when: str | None = None, of: Callable[[Any], Array] | None = None,
           labels: Callable[[Any], Sequence[str]] | None = None) -> Feature:
    """A State field of shape (B,) or (B, k), or what `of` makes of the State, the same for every agent: 1 or k columns. `when` names a
    Param: if it is 0, none of them. `labels` names the columns."""
    return Feature(name, "public", scale, transform, digits, views, when, of, labels)


def own(name: str, *, scale: Scale = 1.0, transform: str = "linear", digits: bool = False, views: tuple[str, ...] = VIEWS,
        when: str | None = None, of: Callable[[Any], Array] | None = None,
        labels: Callable[[Any], Sequence[str]] | None = None) -> Feature:
    """A State field of shape (B, agents) or (B, agents, k), or what `of` makes of the State; each agent sees its own row: 1 or k
    columns. `when` and `labels` as in `public`."""
    return Feature(name, "own", scale, transform, digits, views, when, of, labels)


def identity(*, views: tuple[str, ...] = VIEWS) -> Feature:
    """Which one of its type the agent is: one column for each agent of the type, 1 at its own place."""
    return Feature("identity", "identity", views=views)


def saw_tooth(x: Array) -> Array:
    """(x mod 10^k) / 10^k for k = 1..10 in a new last axis, modulo with non-negative result; same dtype as x."""
    xp = namespace(x)
    powers = 10.0 ** xp.arange(1, N_DIGITS + 1).astype(x.dtype)
    return xp.mod(x[..., None], powers) / powers


TRANSFORMS: dict[str, Callable[[Any, Array], Array]] = {
    "linear": lambda xp, x: x,
    "log1p": lambda xp, x: xp.log1p(xp.maximum(x, 0)),  # a stock may lie below zero by a rounding error
    "signed_log": lambda xp, x: xp.sign(x) * xp.log1p(xp.abs(x)),
    "clip": lambda xp, x: xp.clip(x, -BOUND, BOUND),
}


@dataclass(frozen=True)
class Column:
    """One row of the table that `describe` prints."""

    index: int
    name: str
    feature: str
    scale: float
    transform: str


class Layout:
    """The observation vector of one agent type under one view: its columns, and how to fill them."""

    def __init__(self, features: tuple[Feature, ...], view: str, p: Any, state: Any, count: int):
        if view not in VIEWS:
            raise ValueError(f"features must be one of {', '.join(VIEWS)}, got {view!r}")
        self.count, self.columns = count, list[Column]()
        self.blocks: list[tuple[Feature, slice, float, str]] = []
        for feature in features:
            if view in feature.views and (feature.when is None or getattr(p, feature.when)):
                self._add(feature, view, p, state)
        self.width = len(self.columns)

    def _add(self, feature: Feature, view: str, p: Any, state: Any) -> None:
        scale = 1.0 if view == "raw" else float(feature.scale(p) if callable(feature.scale) else feature.scale)
        transform = {"raw": "linear", "scaled": feature.transform, "digits": "digits" if feature.digits else "linear"}[view]
        if view == "digits" and (feature.digits or feature.transform != "linear"):
            scale = 1.0
        if feature.kind == "identity":
            labels = [f"is_{i}" for i in range(self.count)]
        elif feature.labels:
            labels = list(feature.labels(p))
        else:
            own_axes = 2 if feature.kind == "own" else 1
            members = feature.values(state).shape[own_axes:]
            labels = [f"{feature.name}[{i}]" for i in range(int(np.prod(members)))] if members else [feature.name]
            if feature.kind == "own":
                labels = [f"own {label}" for label in labels]
            if transform == "digits":
                labels = [f"{label} mod 1e{d}" for label in labels for d in range(1, N_DIGITS + 1)]
        start = len(self.columns)
        self.columns += [Column(start + i, label, feature.name, scale, transform) for i, label in enumerate(labels)]
        self.blocks.append((feature, slice(start, start + len(labels)), scale, transform))

    def where(self, name: str) -> list[int]:
        """Column numbers of a public feature, in the order of its axis."""
        return [c.index for c in self.columns if c.feature == name and not c.name.startswith("own ")]

    def write(self, state: Any, out: Array) -> None:
        """Fill out (B, count, width) from a State."""
        for feature, columns, scale, transform in self.blocks:
            out[:, :, columns] = self._block(feature, state, scale, transform, out)

    def _block(self, feature: Feature, state: Any, scale: float, transform: str, out: Array) -> Array:
        xp = namespace(out)
        if feature.kind == "identity":
            return xp.eye(self.count, dtype=out.dtype)
        x = feature.values(state)
        axes = 2 if feature.kind == "own" else 1
        x = x.reshape(*x.shape[:axes], -1)
        x = saw_tooth(x).reshape(*x.shape[:-1], -1) if transform == "digits" else TRANSFORMS[transform](xp, x)
        if scale != 1.0:
            x = x * scale
        return x if feature.kind == "own" else x[:, None, :]
