"""Dense logs of the gather-trade-build world, in the schema of the original program, and what is computed from them.

A log is a dictionary that JSON can hold. `world` (T + 1 maps, {} between snapshots) and `states` (T + 1, by agent) are those before each
period and, last, at the end; `actions` and `rewards` (T) are by agent, "p" the planner; `Build`, `Trade`, `Gather` and `PeriodicTax` (T)
list what happened, where the component is there. PeriodicTax is [] but on tax days, and missing where taxes are disabled.
Source: Foundation 1.7.1, of Zheng et al. (2020), arXiv:2004.13332.
"""
from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lz4.frame
import numpy as np
import pandas

from envs.core.batch import Batch
from kernels import gather_trade_build as gtb
from kernels import gather_trade_build_views as views
from kernels import gather_trade_build_world as world
from kernels.core import launch
from kernels.core.arrays import Array, allocate, to_host
from rllib_macro import replay
from rllib_macro import replay_gather_trade_build as traces

Log = dict[str, Any]
EVERY = 50  # periods between two snapshots of the map
RESOURCES = ("Coin", "Stone", "Wood")
GOODS = ("Stone", "Wood")
LAYERS = (*GOODS, "StoneSourceBlock", "WoodSourceBlock")  # that every map has
SIDES = (("Sell", "seller"), ("Buy", "buyer"))
DEEDS = ("Build", "ContinuousDoubleAuction.Buy_Stone", "ContinuousDoubleAuction.Sell_Stone", "ContinuousDoubleAuction.Buy_Wood",
         "ContinuousDoubleAuction.Sell_Wood", "Gather", "SimpleLabor")  # names of what State.doing counts
EVENTS = {gtb.BUILD: "Build", gtb.AUCTION: "Trade", gtb.GATHER: "Gather", gtb.TAX: "PeriodicTax"}
LEAST_INCOME = 0.001  # below which a mean tax rate is not a share


# -- recording

class Recorder:
    """Writes down one replica period by period: `log` grows, and `metrics()` sums up the episode so far."""

    def __init__(self, p: gtb.Params, s: gtb.State, replica: int = 0, every: int = EVERY, has_water: bool | None = None):
        self.p, self.replica, self.every = p, replica, every
        self.has_water = p.scenario not in (world.UNIFORM, world.MULTI_ZONE) if has_water is None else has_water
        self.log: Log = {"world": [], "states": [], "actions": [], "rewards": []}
        self.log |= {name: [] for component, name in EVENTS.items() if component in p.order and not (name == "PeriodicTax"
                                                                                                    and p.disable_taxes)}
        self._state(_of(s, replica))
        self.elasticity = float(self.last["elasticity"])  # as it was before the last estimate

    def period(self, s: gtb.State, a: gtb.Actions, e: gtb.Shocks, r: gtb.Rewards) -> None:
        """One period that has just been played."""
        here, b = _of(s, self.replica), self.replica
        self.log["actions"].append(_actions(self.p, here, to_host(a.rate[b])))
        rewards = [*to_host(r.mobile[b]).tolist(), float(r.planner[b])]
        self.log["rewards"].append(dict(zip([*map(str, range(self.p.n_agents)), "p"], rewards)))
        happened: dict[str, Callable[[], Any]] = {
            "Build": lambda: _builds(self.p, self.last, here), "Trade": lambda: _trades(here),
            "Gather": lambda: _collected(here, to_host(e.order[b])), "PeriodicTax": lambda: _taxes(here, self.p.n_agents)}
        for name in happened.keys() & self.log.keys():
            self.log[name].append(happened[name]())
        if here["elasticity"] != self.last["elasticity"]:
            self.elasticity = float(self.last["elasticity"])
        self._state(here)

    def finish(self) -> Log:
        """The log with a map of its last frame."""
        self.log["world"][-1] = _world(self.p, self.last, self.has_water)
        return self.log

    def _state(self, here: dict[str, np.ndarray]) -> None:
        self.last = here
        t = len(self.log["states"])
        self.log["states"].append(_states(self.p, here))
        self.log["world"].append(_world(self.p, here, self.has_water) if t % self.every == 0 else {})

    def metrics(self) -> dict[str, float | None]:
        """What the original program reports of an episode; None where a mean has no members."""
        return metrics(self.p, self.last | {"elasticity": np.array(self.elasticity)}, self.log)


def record(batch: Batch, choose: Callable[[Batch], Mapping[str, Array]] | None = None, replica: int = 0, every: int = EVERY,
           periods: int | None = None) -> Recorder:
    """Play one replica from the start of an episode to its end, or for some periods. `choose(batch)` gives the choices of the types that
    no rule scripts."""
    with watched(batch, replica, every) as made:
        for _ in range(periods or batch.economy.periods(batch.p)):
            batch.step(choose(batch) if choose else {})
    return made


@contextmanager
def watched(batch: Batch, replica: int = 0, every: int = EVERY) -> Iterator[Recorder]:
    """Within the block every period that the batch plays is written down. ValueError if an episode has already begun: logs start with it.
    """
    if batch.age[replica]:
        raise ValueError(f"replica {replica} is in period {batch.age[replica]} of its episode; call batch.reset() before it is recorded")
    made, watching = Recorder(batch.p, batch.s, replica, every), batch.watch

    def watch(before: Any, after: Any) -> None:
        if watching:
            watching(before, after)
        made.period(after, batch.a, batch.e, batch.r)

    batch.watch = watch
    try:
        yield made
    finally:
        batch.watch = watching
    made.finish()


def replayed(file: str | Path, backend: str = "auto", every: int = EVERY) -> Recorder:
    """The log of a recorded episode, played again from its trace: an .npz file and the .json file beside it. `backend` is numpy or native;
    auto takes native where a compiler is found."""
    if backend == "auto":
        backend = "numpy" if launch.native_problem() else "native"
    told = traces.episode(str(file), replay._load(Path(file)))
    s = traces.first_state(told, np, np.float64)
    a, e, r = (allocate(cls, gtb, told.p, 1, np, np.float64) for cls in (gtb.Actions, gtb.Shocks, gtb.Rewards))
    made = Recorder(told.p, s, 0, every, told.has_water)
    with launch.use(backend):
        for t, drawn in enumerate(traces.shocks(told)):
            for field, value in drawn.items():
                getattr(e, field)[0] = value
            a.action[0] = told.arrays["act/agents"][t].reshape(told.p.n_agents, told.p.n_spaces)
            a.rate[0] = told.arrays["act/planner"][t]
            gtb.step(told.p, s, a, e, r)
            made.period(s, a, e, r)
    made.finish()
    return made


SEEN = ("flat", "view", "mask", "planner_flat", "planner_view", "of_agents", "planner_mask", "sample_income", "sample_rate",
        "pool_income", "pool_rate")


def _of(s: gtb.State, b: int) -> dict[str, np.ndarray]:
    """A copy of one replica, without what is only seen or remembered."""
    return {name: np.array(to_host(array[b])) for name, array in vars(s).items() if name not in SEEN}


def _world(p: gtb.Params, here: Mapping[str, np.ndarray], has_water: bool) -> Log:
    """Maps of resources, houses and sources; none in the one-step economy."""
    if not p.has_map:
        return {}
    ground, owner, units = (views.inner(p, here[name][None])[0] for name in ("ground", "owner", "units"))

    def layer(bit: int) -> list[list[float]]:
        return ((ground & bit) > 0).astype(float).tolist()
    house = {"owner": (owner.astype(int) - 2 + (owner == 0)).tolist(), "health": layer(views.HOUSE_BIT)}
    return {"Stone": (units * ((ground & views.STONE_BIT) > 0)).astype(float).tolist(),
            "Wood": (units * ((ground & views.WOOD_BIT) > 0)).astype(float).tolist(), "House": house,
            **({"Water": layer(views.WATER_BIT)} if has_water else {}),
            "StoneSourceBlock": layer(views.STONE_SOURCE_BIT), "WoodSourceBlock": layer(views.WOOD_SOURCE_BIT)}


def _states(p: gtb.Params, here: Mapping[str, np.ndarray]) -> Log:
    """Where every agent stands, what it has and what it can do; the planner has nothing."""
    skills = {gtb.BUILD: {"build_payment": "build_payment", "build_skill": "build_skill"}, gtb.GATHER: {"bonus_gather_prob": "bonus"},
              gtb.LABOR: {"skill": "skill", "production": "production"}}
    found = {}
    for i in range(p.n_agents):
        found[str(i)] = {
            "loc": [int(here["row"][i]), int(here["col"][i])],
            "inventory": _stock(here["coin"][i], here["goods"][i]), "escrow": _stock(here["coin_escrow"][i], here["goods_escrow"][i]),
            "endogenous": {"Labor": float(here["labor"][i])},
            **{key: float(here[field][i]) for component in p.order for key, field in skills.get(int(component), {}).items()}}
    nothing = dict.fromkeys(RESOURCES, 0)
    return found | {"p": {"inventory": nothing, "escrow": dict(nothing), "endogenous": {}}}


def _stock(coin: Any, goods: np.ndarray) -> Log:
    return {"Coin": float(coin), "Stone": int(goods[0]), "Wood": int(goods[1])}


def _actions(p: gtb.Params, here: Mapping[str, np.ndarray], rate: np.ndarray) -> Log:
    """{agent: {sub-space: what was chosen}}, without what was left alone."""
    chosen = {str(i): {DEEDS[deed]: int(here["doing"][i, deed]) for deed in gtb.spaces(p) if here["doing"][i, deed] > 0}
              for i in range(p.n_agents)}
    rates = enumerate(rate.tolist()) if p.planner_acts else ()
    names = [f"PeriodicBracketTax.TaxIndexBracket_{int(cutoff):03d}" for cutoff in here["cutoffs"]]
    return chosen | {"p": {names[k]: int(option) for k, option in rates if option > 0}}


def _builds(p: gtb.Params, before: Mapping[str, np.ndarray], here: Mapping[str, np.ndarray]) -> list[Log]:
    """Houses built, where their builders stood then: one that does several things in a period may have moved on."""
    moved_since = gtb.GATHER in p.order and p.order.index(gtb.BUILD) < p.order.index(gtb.GATHER)
    where = before if moved_since else here
    return [{"builder": i, "loc": [int(where["row"][i]), int(where["col"][i])], "income": float(here["build_payment"][i])}
            for i in np.flatnonzero(here["built"]).tolist()]


def _trades(here: Mapping[str, np.ndarray]) -> list[Log]:
    return [{"commodity": GOODS[good], "buyer": buyer, "bid": bid, "bid_lifetime": bid_age, "seller": seller, "ask": ask,
             "ask_lifetime": ask_age, "price": price, "cost": price, "income": price}
            for good, buyer, seller, bid, ask, price, bid_age, ask_age in here["trades"][:int(here["n_trades"])].tolist()]


def _collected(here: Mapping[str, np.ndarray], order: np.ndarray) -> list[Log]:
    return [{"agent": i, "resource": GOODS[g], "n": int(here["gathered"][i, g]), "loc": [int(here["row"][i]), int(here["col"][i])]}
            for i in order.tolist() for g in np.flatnonzero(here["gathered"][i]).tolist()]


def _taxes(here: Mapping[str, np.ndarray], n_agents: int) -> Any:
    """What everybody earned and paid on the last day of a tax year; [] on other days."""
    if here["tax_day"] != 1:
        return []
    paid = {str(i): {"income": float(here["last_income"][i]), "tax_paid": float(here["tax_paid"][i]),
                     "marginal_rate": float(here["last_marginal"][i]), "effective_rate": float(here["last_effective"][i]),
                     "lump_sum": float(here["lump_sum"])} for i in range(n_agents)}
    return {"schedule": here["rates"].tolist(), "cutoffs": here["cutoffs"].tolist(), **paid}


# -- files

PACKED: dict[str, Callable[[bytes], bytes]] = {  # by suffix; the original program's is .lz4, at this level
    ".lz4": lambda text: lz4.frame.compress(text, compression_level=16), ".gz": lambda text: gzip.compress(text, mtime=0),
    ".json": lambda text: text}


def write(log: Log, file: str | Path) -> Path:
    """The log as JSON, compressed if the name ends with .lz4 or .gz; whole or not at all. ValueError for another suffix than PACKED's."""
    file = Path(file)
    if file.suffix not in PACKED:
        raise ValueError(f"{file} must end with {', '.join(PACKED)}, which say how a dense log is stored; choose one of them")
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(PACKED[file.suffix](json.dumps(log, separators=(",", ":")).encode("utf-8")))
    os.replace(partial, file)
    return file


def read(file: str | Path) -> Log:
    """A log of this or of the original program; ValueError says what is wrong with the file."""
    file = Path(file)
    try:
        log = json.loads(_unpacked(file.read_bytes()).decode("utf-8"))
    except (OSError, ValueError, EOFError, RecursionError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:100]
        raise ValueError(f"{file} cannot be read as a dense log ({reason}); give JSON, or JSON compressed by lz4 or gzip") from error
    lacking = [name for name in ("world", "states", "actions", "rewards") if not isinstance(log, dict) or name not in log]
    if lacking:
        raise ValueError(f"{file} is no dense log: it lacks {', '.join(lacking)}")
    try:
        _require_whole(log)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"{file} is no dense log of this world ({type(error).__name__}: {error}); give one as it was written") from error
    return log


def _require_whole(log: Log) -> None:
    """Fails unless tables can be made of the log, and its maps are of one size, on which all agents are."""
    summary(log)
    if not len(log["world"]) == len(log["states"]) == len(log["actions"]) + 1 == len(log["rewards"]) + 1:
        raise ValueError("its parts do not have the same number of periods")
    layers = [layer for maps in log["world"] if maps for layer in (maps["House"]["owner"], *(maps[name] for name in LAYERS))]
    shapes, places = {np.shape(layer) for layer in layers}, series(log)
    if len(shapes) > 1 or any(places["row"].max() >= height or places["column"].max() >= width for height, width in shapes):
        raise ValueError("its maps are too small, or of different sizes")


def _unpacked(kept: bytes) -> bytes:
    """What lz4 and gzip, which their first bytes tell, have compressed."""
    if kept[:4] == b"\x04\x22\x4d\x18":
        return lz4.frame.decompress(kept)
    return gzip.decompress(kept) if kept[:2] == b"\x1f\x8b" else kept


# -- social metrics

def gini(coin: Any) -> Any:
    """Gini coefficient of endowments (..., N), relative to its largest value for fewer than 30 agents."""
    return 1 - views.equality(np.atleast_2d(np.asarray(coin, np.float64))).reshape(np.shape(coin)[:-1])[()]


def inverse_income_weights(coin: Any) -> np.ndarray:
    """Weights (..., N) proportional to 1 / max(coins, 1), which add up to 1."""
    weight = 1 / np.maximum(np.asarray(coin, np.float64), 1)
    return weight / weight.sum(-1, keepdims=True)


def social(coin: Any, utility: Any, equality_weight: float = 1.0) -> dict[str, Any]:
    """Productivity, equality and three measures of welfare of endowments and utilities (..., N)."""
    coin, utility = np.asarray(coin, np.float64), np.asarray(utility, np.float64)
    equality, weight = 1 - gini(coin), inverse_income_weights(coin)
    return {"productivity": coin.sum(-1), "equality": equality,
            "coin_eq_times_productivity": (equality_weight * equality + 1 - equality_weight) * coin.sum(-1) / coin.shape[-1],
            "inv_income_weighted_coin_endow": (coin * weight).sum(-1), "inv_income_weighted_utility": (utility * weight).sum(-1)}


def metrics(p: gtb.Params, last: Mapping[str, np.ndarray], log: Log) -> dict[str, float | None]:
    """The original program's metrics of an episode from its last frame (fields of State of one replica) and its log."""
    coin = last["coin"] + last["coin_escrow"]
    known = social(coin, last["utility"], p.equality_weight)
    if not p.has_map:  # in the one-step economy welfare weighs agents by what they earned before taxes
        known["inv_income_weighted_utility"] = (last["utility"] * inverse_income_weights(last["production"])).sum()
        del known["inv_income_weighted_coin_endow"]
    found: dict[str, Any] = {f"social{'' if name in ('productivity', 'equality') else '_welfare'}/{name}": value
                             for name, value in known.items()}
    if p.has_map:
        for i in range(p.n_agents):
            owned = (coin[i], *(last["goods"][i] + last["goods_escrow"][i]))
            found |= {f"endow/{i}/{name}": value for name, value in zip(RESOURCES, owned)}
            found |= {f"endogenous/{i}/Labor": last["labor"][i], f"util/{i}": last["utility"][i]}
        found |= {f"endow/p/{name}": 0.0 for name in RESOURCES} | {"util/p": last["welfare"]}
        found |= {"labor/weighted_cost": p.energy_cost * last["energy_weight"], "labor/warmup_integrator": last["rewarding"]}
    else:
        found |= {"endow/avg_agent/Coin": coin.mean(), "endogenous/avg_agent/Labor": last["labor"].mean(),
                  "util/avg_agent": last["utility"].mean(), "endow/p/Coin": 0.0, "util/p": last["welfare"]}
    if "Build" in log:
        count = np.bincount(builds(log)["agent"].to_numpy(int), minlength=p.n_agents)
        found |= {f"Build/{i}/n_builds": n for i, n in enumerate(count)}
        found["Build/total_builds"] = (last["owner"] > 0).sum()
    if "Trade" in log:
        found |= _trade_metrics(p, trades(log))
    if gtb.TAX in p.order:
        found |= _tax_metrics(p, last, log, coin)
    return {name: None if value is None else float(value) for name, value in found.items()}


def _trade_metrics(p: gtb.Params, sales: pandas.DataFrame) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for i in range(p.n_agents):
        for good in GOODS:
            for side, who in SIDES:
                price = sales["price"][(sales["commodity"] == good) & (sales[who] == i)]
                mean = float(price.mean()) if len(price) else None
                found |= {f"Trade/{i}/{side}{good}/{name}": mean for name in ("price", "cost", "income")}
                found[f"Trade/{i}/{side}{good}/n_sales"] = len(price)
    return found | {"Trade/n_trades": len(sales)}


def _tax_metrics(p: gtb.Params, last: Mapping[str, np.ndarray], log: Log, coin: np.ndarray) -> dict[str, Any]:
    years = [day for day in log.get("PeriodicTax", []) if day]
    schedule = np.mean([day["schedule"] for day in years], 0) if years else np.zeros(p.n_brackets)
    found: dict[str, Any] = {}
    for k, cutoff in enumerate(last["cutoffs"]):
        found[f"PeriodicTax/avg_bracket_rate/{int(cutoff):03d}"] = schedule[k]
        found[f"PeriodicTax/bracket_occupancy/{int(cutoff):03d}"] = last["occupancy"][k] / max(1, last["occupancy"].sum())
    if p.disable_taxes:
        return found
    rates = [day[str(i)]["effective_rate"] for day in years for i in range(p.n_agents)]
    share = last["total_paid"] / np.maximum(LEAST_INCOME, last["total_income"])
    found |= {"PeriodicTax/avg_effective_tax_rate": np.mean(rates) if rates else None,
              "PeriodicTax/total_collected_taxes": last["collected"],
              "PeriodicTax/avg_tax_rate/poorest": share[coin.argmin()], "PeriodicTax/avg_tax_rate/richest": share[coin.argmax()]}
    return found | ({"PeriodicTax/saez/estimated_elasticity": last["elasticity"]} if p.tax_model == gtb.SAEZ else {})


# -- tables

def agents(log: Log) -> list[str]:
    """Keys of the agents without the planner."""
    return [key for key in log["states"][0] if key != "p"]


def series(log: Log) -> dict[str, np.ndarray]:
    """Coin, Stone and Wood with what is set aside, and Labor: (T + 1, N); row and column: (T + 1, N)."""
    frames = [[frame[i] for i in agents(log)] for frame in log["states"]]
    found = {name: np.array([[one["inventory"][name] + one["escrow"][name] for one in frame] for frame in frames], float)
             for name in RESOURCES}
    found["Labor"] = np.array([[one["endogenous"]["Labor"] for one in frame] for frame in frames], float)
    where = np.array([[one.get("loc", (0, 0)) for one in frame] for frame in frames], int)
    return found | {"row": where[..., 0], "column": where[..., 1]}


def trades(log: Log) -> pandas.DataFrame:
    """A row for each trade: period, commodity, buyer, seller, bid, ask, price, bid_lifetime, ask_lifetime."""
    columns = ["commodity", "buyer", "seller", "bid", "ask", "price", "bid_lifetime", "ask_lifetime"]
    return pandas.DataFrame([(t, *(sale[name] for name in columns)) for t, sales in enumerate(log.get("Trade", [])) for sale in sales],
                            columns=["period", *columns])


def builds(log: Log) -> pandas.DataFrame:
    """A row for each house: period, agent, row, column, income."""
    return pandas.DataFrame([(t, one["builder"], *one["loc"], one["income"]) for t, day in enumerate(log.get("Build", [])) for one in day],
                            columns=["period", "agent", "row", "column", "income"])


def taxes(log: Log) -> pandas.DataFrame:
    """A row for each agent and tax year: period, agent, income, tax_paid, marginal_rate, effective_rate, lump_sum."""
    columns = ["income", "tax_paid", "marginal_rate", "effective_rate", "lump_sum"]
    return pandas.DataFrame([(t, int(i), *(day[i][name] for name in columns)) for t, day in enumerate(log.get("PeriodicTax", [])) if day
                             for i in agents(log)], columns=["period", "agent", *columns])


def incomes(log: Log) -> pandas.DataFrame:
    """Coins of every agent by source: houses, sales, purchases, work, taxes and what is paid back of them; their total is what its
    endowment has changed by, unless wealth is redistributed."""
    found = pandas.DataFrame(0.0, index=pandas.Index(range(len(agents(log))), name="agent"), columns=[
        "Build", *(f"{side} {good}" for side, _ in SIDES for good in GOODS), "Work", "Tax", "Lump sum"])
    found["Build"] += builds(log).groupby("agent")["income"].sum().reindex(found.index, fill_value=0)
    for (side, who), sign in zip(SIDES, (1, -1)):
        paid = trades(log).groupby(["commodity", who])["price"].sum()
        for good in GOODS:
            if good in paid.index:
                found[f"{side} {good}"] += sign * paid[good].reindex(found.index, fill_value=0)
    first, last = log["states"][0], log["states"][-1]
    found["Work"] += [last[i].get("production", 0.0) - first[i].get("production", 0.0) for i in agents(log)]
    year = taxes(log).groupby("agent")[["tax_paid", "lump_sum"]].sum().reindex(found.index, fill_value=0)
    found["Tax"], found["Lump sum"] = -year["tax_paid"], year["lump_sum"]
    if (found["Work"] == 0).all():
        found = found.drop(columns="Work")
    return found.assign(Total=found.sum(axis=1))


def business(log: Log) -> pandas.DataFrame:
    """What the original's breakdown prints: how often every agent sold, bought and built, and at which mean price."""
    sales, houses = trades(log), builds(log)
    found = []
    for i, key in enumerate(agents(log)):
        row: dict[tuple[str, str], float] = {}
        for good in GOODS:
            for side, who in SIDES:
                price = sales["price"][(sales["commodity"] == good) & (sales[who] == i)]
                row |= {(f"{side} {good}", "times"): len(price), (f"{side} {good}", "mean price"): price.mean()}
        mine = houses["income"][houses["agent"] == i]
        payment = float(log["states"][0][key].get("build_payment", np.nan))
        found.append(row | {("Build", "times"): len(mine), ("Build", "mean price"): payment})
    return pandas.DataFrame(found, index=pandas.Index(range(len(found)), name="agent"), columns=pandas.MultiIndex.from_tuples(found[0]))


def summary(log: Log) -> pandas.DataFrame:
    """The breakdown in words, a row for each agent: what a house pays, houses, pieces sold and bought at their mean prices, taxes less what
    is paid back, coins and labor at the end."""
    did, owned, earned = business(log), series(log), incomes(log)
    found = {}
    if "Build" in log:
        found = {"house pays": did["Build", "mean price"].map("{:.1f}".format), "houses": did["Build", "times"].map(str)}
    if "Trade" in log:
        found |= {f"{good.lower()} {verb}": did[f"{side} {good}"].apply(_at_price, axis=1)
                  for good in GOODS for (side, _), verb in zip(SIDES, ("sold", "bought"))}
    if any(log.get("PeriodicTax", [])):
        found["net taxes"] = (-earned["Tax"] - earned["Lump sum"]).map("{:,.1f}".format)
    found |= {name: pandas.Series(owned[of][-1]).map("{:,.0f}".format) for name, of in (("coins", "Coin"), ("labor", "Labor"))}
    return pandas.DataFrame(found).rename_axis("agent")


def _at_price(sales: pandas.Series) -> str:
    return f"{sales['times']:.0f} at {sales['mean price']:.1f}" if sales["times"] else "0"


def by_skill(log: Log) -> Log:
    """The log with agents numbered by what a house, or an hour of work, pays them; as it is where they are alike in that."""
    one = log["states"][0][agents(log)[0]]
    field = next((name for name in ("build_payment", "skill") if name in one), None)
    return sorted_by(log, field) if field else log


def sorted_by(log: Log, field: str) -> Log:
    """The log with agents numbered by a field of their first state, such as build_payment: the most skilled is the last."""
    old = sorted(agents(log), key=lambda i: log["states"][0][i][field])
    new = {int(i): k for k, i in enumerate(old)}
    renamed = {str(i): str(k) for i, k in new.items()}

    def frame(by_agent: Any) -> Any:
        return {renamed.get(key, key): by_agent[key] for key in (*old, *(key for key in by_agent if key not in renamed))}

    def happened(events: Any) -> Any:
        if isinstance(events, dict):
            return frame(events)
        return [{key: new[value] if key in ("agent", "builder", "buyer", "seller") else value for key, value in event.items()}
                for event in events]

    def houses(maps: Any) -> Any:
        if not maps:
            return maps
        owner = [[new.get(i, i) for i in row] for row in maps["House"]["owner"]]
        return maps | {"House": maps["House"] | {"owner": owner}}

    return {name: [houses(one) if name == "world" else frame(one) if name in ("states", "actions", "rewards") else happened(one)
                   for one in of] for name, of in log.items()}
