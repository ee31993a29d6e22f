"""Whole episodes of the gather-trade-build world under a tax system: what every agent did and earned, and what they add up to.

`play` lets policies meet one of the SYSTEMS in fresh replicas. Axes: B replica, N agent, G good (0 stone, 1 wood), K tax bracket.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from kernels import gather_trade_build as gtb
from kernels import gather_trade_build_views as views
from kernels.core.arrays import to_host
from rllib_macro.config import RunConfig
from rllib_macro.env_runner import Player, fixed_params, fresh_player, set_up_torch
from rllib_macro.run import RunError

FREE, FEDERAL, SAEZ, LEARNED = "free market", "US federal", "Saez formula", "learned planner"
ANY = {"rate_max": gtb.Params.rate_max}  # only planners may have learned within narrower limits
SYSTEMS: dict[str, dict[str, Any]] = {  # Params of each tax system, in the order of the published figure
    FREE: {"disable_taxes": True}, FEDERAL: {"tax_model": gtb.US_FEDERAL, **ANY}, SAEZ: {"tax_model": gtb.SAEZ, **ANY},
    LEARNED: {"tax_model": gtb.MODEL}}
IN_FULL = {"disable_taxes": False, "annealing": (), "energy_warmup": 0.0,  # fresh replicas have met no curriculum: none holds them back
           "saez_shared": False}  # and what each knows of incomes is its own
SETTLING = 125  # tax years after which 8 % of the Saez formula's first guess of the elasticity are left
WARM_UP_SEED = 1_000_000  # added to the seed of the episodes from which it learns
AT_ONCE = 50  # periods that are played before their records are dropped
FLOWS = ("houses", "sold", "bought", "building", "sales", "purchases", "taxes", "paid back")  # of each agent, added up
RULES = {"free_market": FREE, "us_federal": FEDERAL}  # of a scripted planner


@dataclass(frozen=True)
class Episodes:
    """An episode of each of B replicas, agents in the order of what a house pays them.

    Of agents (B, N): payment, houses, labor, coin and utility at the end, sold and bought (units), income by source in coins; gathered is
    (B, N, G). Of all of them (B,): productivity, equality, equality_times_productivity, welfare, the planner's own goal. rates (B, K) are
    means over the periods in which they stood.
    """

    agents: dict[str, np.ndarray]
    social: dict[str, np.ndarray]
    rates: np.ndarray


def system_of(config: RunConfig) -> str:
    """The tax system that the agents of a run learned under; RunError if it is none of the SYSTEMS."""
    p, planner = fixed_params(config), config.policies["planner"]
    if p.disable_taxes:
        return FREE
    by_model = {params["tax_model"]: name for name, params in SYSTEMS.items() if name != FREE}
    if p.tax_model in (gtb.US_FEDERAL, gtb.SAEZ):
        return by_model[p.tax_model]
    if p.tax_model == gtb.MODEL and planner.rule is None:
        return LEARNED
    if p.tax_model == gtb.MODEL and planner.rule in RULES:
        return RULES[planner.rule]
    raise RunError(f"the run {config.name} was trained under tax model {p.tax_model} with the planner's rule {planner.rule!r}, none of "
                   f"{', '.join(SYSTEMS)}; leave it out")


def under(config: RunConfig, system: str) -> RunConfig:
    """The configuration for play under a tax system, rates not limited and labor at its full weight."""
    planner = config.policies["planner"].model_copy(update={"rule": None if system == LEARNED else "idle"})
    return config.model_copy(update={"params": {**config.params, **IN_FULL, **SYSTEMS[system]},
                                     "policies": {**config.policies, "planner": planner}})


def play(config: RunConfig, policies: Mapping[str, Any], system: str, seeds: Sequence[int], replicas: int) -> Episodes:
    """One episode of fresh replicas for each seed under a system. Those of one seed start alike under all systems: they are pairs."""
    played = under(config, system)
    set_up_torch(played)
    known = _saez_memory(played, policies, seeds[0] + WARM_UP_SEED, replicas) if system == SAEZ else None
    found = []
    for seed in seeds:
        player = fresh_player(played, policies, replicas, seed)
        batch = player.batch
        if known is not None:
            gtb.inherit(batch.p, known, batch.s)
        batch.watch = books = Books(batch.p, replicas)
        _episode(player, 0)
        found.append(books.close())
    return joined(found)


def _saez_memory(config: RunConfig, policies: Mapping[str, Any], seed: int, replicas: int) -> gtb.State:
    """The State of replicas in which the formula knows these agents."""
    player = fresh_player(config, policies, replicas, seed)
    for number in range(warm_up_episodes(player.batch.p)):
        _episode(player, number)
    return player.batch.s


def warm_up_episodes(p: gtb.Params) -> int:
    """How many episodes fill the Saez formula's memory of incomes and then settle its estimate of the elasticity."""
    years = ceil(gtb.taxes.SAMPLES / p.n_agents) + SETTLING
    return ceil(years / max(1, p.horizon // p.tax_period))


def _episode(player: Player, number: int) -> None:
    """Play one episode in all replicas."""
    periods = player.batch.economy.periods(player.batch.p)
    for t in range(0, periods, AT_ONCE):
        player.play(min(AT_ONCE, periods - t), number * periods + t)


class Books:
    """Adds up what agents do in one episode, to be called with the State before and after each period."""

    def __init__(self, p: gtb.Params, replicas: int):
        shape = (replicas, p.n_agents)
        self.flows = {name: np.zeros(shape) for name in FLOWS}
        self.gathered, self.rates, self.periods = np.zeros((*shape, 2)), np.zeros((replicas, p.n_brackets)), 0
        self.last: dict[str, np.ndarray] = {}

    def __call__(self, before: Any, after: Any) -> None:
        s = {name: to_host(getattr(after, name)) for name in (
            "built", "build_payment", "gathered", "tax_paid", "lump_sum", "rates", "trades", "n_trades", "coin", "coin_escrow", "labor",
            "utility", "welfare")}
        self.flows["houses"] += s["built"]
        self.flows["building"] += s["built"] * s["build_payment"]
        self.flows["taxes"] -= s["tax_paid"]
        self.flows["paid back"] += s["lump_sum"][:, None]
        self._trade(s["trades"], s["n_trades"])
        self.gathered += s["gathered"]
        self.rates += s["rates"]
        self.periods += 1
        self.last = {"payment": s["build_payment"], "labor": s["labor"], "coin": s["coin"] + s["coin_escrow"], "utility": s["utility"],
                     "welfare": s["welfare"]}
        self.last = {name: np.array(values) for name, values in self.last.items()}

    def _trade(self, trades: np.ndarray, count: np.ndarray) -> None:
        replica, event = np.nonzero(np.arange(trades.shape[1]) < count[:, None])
        _, buyer, seller, _, _, price, *_ = trades[replica, event].T
        for flow, agent, value in (("sold", seller, 1), ("bought", buyer, 1), ("sales", seller, price), ("purchases", buyer, -price)):
            np.add.at(self.flows[flow], (replica, agent), value)

    def close(self) -> Episodes:
        """The episodes so far."""
        welfare = self.last.pop("welfare")
        of_agents = {**self.last, **self.flows, "gathered": self.gathered}
        order = np.argsort(of_agents["payment"], 1, kind="stable")
        coin, equality = of_agents["coin"], views.equality(of_agents["coin"])
        social = {"productivity": coin.sum(1), "equality": equality, "equality_times_productivity": equality * coin.sum(1),
                  "welfare": welfare}
        by_payment = {name: np.take_along_axis(x, order if x.ndim == 2 else order[:, :, None], 1) for name, x in of_agents.items()}
        return Episodes(by_payment, social, self.rates / self.periods)


def joined(parts: Sequence[Episodes]) -> Episodes:
    """Episodes of several seeds or runs as one."""
    agents, social = ({name: np.concatenate([getattr(part, what)[name] for part in parts]) for name in getattr(parts[0], what)}
                      for what in ("agents", "social"))
    return Episodes(agents, social, np.concatenate([part.rates for part in parts]))

