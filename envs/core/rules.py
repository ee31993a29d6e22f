"""Hand-written behaviour: functions (p, s, a, draws) that fill the Action fields of one agent type.

In a configuration a rule is named as it would be called: `rule: random`, `rule: constant(income_tax=0.2, corporate_tax=0.4)`.
`random` and `constant` exist for every type; an economy adds its own under `Economy.rules`.
"""
from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from envs.core.choices import Levels
from envs.core.economy import Economy, Rule, unknown
from kernels.core.arrays import Array, namespace
from kernels.core.rng import Draws


def constant(**values: float) -> Rule:
    """The same values for every agent in every period."""
    def rule(p: Any, s: Any, a: Any, draws: Draws) -> None:
        for name, value in values.items():
            getattr(a, name)[...] = value
    return rule


def on_grid(rule: Rule, *choices: Levels) -> Rule:
    """The rule as a policy with these heads could play it: what it wants is rounded to a neighbour on the grid at random, on average
    right."""
    def rounded(p: Any, s: Any, a: Any, draws: Draws) -> None:
        rule(p, s, a, draws)
        for k, choice in enumerate(choices):
            wanted = getattr(a, choice.name)
            xp = namespace(wanted)
            values = xp.asarray(choice.grid(p).astype(np.float64))
            below = xp.clip(xp.searchsorted(values, wanted, side="right") - 1, 0, len(values) - 2)
            weight = (wanted - values[below]) / (values[below + 1] - values[below])
            u = draws.uniform(GRID_STREAM + k, wanted.size // len(wanted), np.float64).reshape(wanted.shape)
            wanted[...] = xp.where(u < weight, values[below + 1], values[below])
    rounded.__doc__ = f"{(rule.__doc__ or '').rstrip('.')}; on the grid of the policy."
    return rounded


GRID_STREAM = 100  # no rule draws from streams so high


def parse(text: str, economy: Economy, type_: str) -> Rule | None:
    """The rule that `text` names for a type; None for `random`, which a Batch plays itself. ValueError names the nearest rule."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(([^()]*)\))?\s*", text)
    if not match:
        raise ValueError(f"rule {text!r} must look like name or name(key=number, ...)")
    name, values = match[1], _keywords(match[2] or "", text)
    if name == "random":
        return None
    if name == "constant":
        return _constant(economy, type_, values)
    known = economy.rules.get(type_, {})
    if name not in known:
        raise unknown("rule", name, type_, ["constant", "random", *known])
    accepted = list(inspect.signature(known[name]).parameters)[4:]  # after p, s, a, draws
    for value in values.keys() - set(accepted):
        raise unknown("argument", value, f"{type_}'s rule {name}", accepted)
    if not values:
        return known[name]
    return lambda p, s, a, draws: known[name](p, s, a, draws, **values)


def _constant(economy: Economy, type_: str, values: dict[str, float]) -> Rule:
    names = [name for choice in economy.agents[type_].chooses for name in choice.names]
    if set(values) != set(names):
        raise ValueError(f"constant needs a value for each choice of {type_}: constant({', '.join(f'{n}=...' for n in names)})")
    return constant(**values)


def _keywords(text: str, whole: str) -> dict[str, float]:
    values = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, equals, number = part.partition("=")
        try:
            values[key.strip()] = float(number)
        except ValueError:
            equals = ""
        if not equals:
            raise ValueError(f"rule {whole!r} must look like name(key=number, ...)")
    return values


def legal_choice(uniform: Array, legal: Array) -> Array:
    """Option drawn uniformly among the legal ones: uniform (...,), legal (..., options) bool -> option numbers (...,)."""
    xp = namespace(uniform)
    rank = xp.floor(uniform * legal.sum(-1)).astype(xp.int64)
    return xp.argmax(xp.cumsum(legal, -1) > rank[..., None], -1)


Rules = dict[str, Callable[..., None] | None]
