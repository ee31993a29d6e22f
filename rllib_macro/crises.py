"""Crises as data: what hits an economy in its second quarter, and which rules meet it; several may come together."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from envs.core.batch import Impulse
from envs.core.economy import unknown

START = 1  # period of an episode in which shocks come


@dataclass(frozen=True)
class Crisis:
    """Shifts of draws, {shock: (first period, size, periods)}, and Params in force from the start of the episode, though not before it."""

    does: str
    impulses: Mapping[str, Impulse] = field(default_factory=dict)
    params: Mapping[str, float] = field(default_factory=dict)


CRISES: dict[str, dict[str, Crisis]] = {  # model (file of kernels/) -> name -> crisis
    "monetary": {
        "spread": Crisis("loans cost 300 basis points more for four quarters", impulses={"loan_spread": (START, 0.03, 4)}),
        "capital_rule": Crisis("banks lend up to a capital of 13 % of loans instead of 10.5 %", params={"capital_lending": 0.13}),
        "losses": Crisis("firm loans worth 30 % of bank capital are written off", impulses={"bank_equity": (START, 0.30)}),
        "buffer_release": Crisis("banks may use their buffer: they lend up to a capital of 8 % of loans", params={"capital_lending": 0.08}),
        "bail_out": Crisis("the government recapitalises failed banks", params={"resolution": 0}),
        "bail_in": Crisis("depositors recapitalise failed banks", params={"resolution": 1}),
        "forbearance": Crisis("failed banks go on as they are", params={"resolution": 2}),
    },
}


def together(model: str, names: Iterable[str]) -> Crisis:
    """Several crises of a model as one; ValueError if one is unknown or two contradict each other."""
    known = CRISES.get(model, {})
    impulses: dict[str, Impulse] = {}
    params: dict[str, Any] = {}
    told = []
    for name in dict.fromkeys(names):
        if name not in known:
            raise unknown("crisis", name, model, known)
        crisis = known[name]
        if twice := (impulses.keys() & crisis.impulses.keys()) | (params.keys() & crisis.params.keys()):
            raise ValueError(f"crisis {name} and another one both set {', '.join(sorted(twice))}; leave one of them out")
        impulses |= crisis.impulses
        params |= crisis.params
        told.append(crisis.does)
    return Crisis("; ".join(told), impulses, params)
