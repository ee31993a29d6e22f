"""Replays recorded episodes of the gather-trade-build world: an .npz file of arrays, and a .json file of that name with its configuration.

The episode is played from its first frame with the recorded actions and draws; every frame of states, order book, rewards, events and
observations is compared with what was recorded. Nothing in either file is executed.
"""
from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.core.batch import check_params
from kernels import gather_trade_build as gtb
from kernels import gather_trade_build_book as book
from kernels import gather_trade_build_taxes as taxes
from kernels import gather_trade_build_views as views
from kernels import gather_trade_build_world as world
from kernels.core.arrays import adjust, allocate, to_host
from rllib_macro.replay import Arrays, Deviation, Player, TraceError, compare

COMPONENTS = {"Build": gtb.BUILD, "ContinuousDoubleAuction": gtb.AUCTION, "Gather": gtb.GATHER, "PeriodicBracketTax": gtb.TAX,
              "WealthRedistribution": gtb.REDISTRIBUTION, "SimpleLabor": gtb.LABOR}
SCENARIOS = ("layout_from_file", "split_layout", "uniform", "multi_zone", "quadrant", "one-step-economy")
SKILLS = {"none": world.NO_SKILL, "pareto": world.PARETO, "lognormal": world.LOGNORMAL}
MOST = 1_000_000  # of any number that sizes an array

Named = dict[str, Callable[[Any], dict[str, Any]]]


def _same(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: value}


def _class(name: str) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: (float(value),)}


def _one_of(name: str, known: dict[str, int]) -> Callable[[Any], dict[str, Any]]:
    return lambda value: {name: known[value]}


def _nothing(value: Any) -> dict[str, Any]:
    return {}


# The trace's names of what Params holds; the value of a key becomes Params.
OF_SCENARIO: Named = {
    "n_agents": _same("n_agents"), "episode_length": _same("horizon"), "world_size": lambda v: {"height": v[0], "width": v[1]},
    "multi_action_mode_agents": _same("multi_action"), "allow_observation_scaling": _same("scaled_view"),
    "planner_gets_spatial_info": _same("planner_sees_map"), "full_observability": _same("full_view"),
    "mobile_agent_observation_range": _same("view_range"), "starting_agent_coin": _class("starting_coin"),
    "resource_regen_prob": lambda v: {"regrowth_stone": v, "regrowth_wood": v}, "isoelastic_eta": _class("crra"),
    "energy_cost": _same("energy_cost"), "energy_warmup_constant": _same("energy_warmup"),
    "energy_warmup_method": _one_of("warmup_method", {"decay": gtb.DECAYING, "auto": gtb.AUTO}),
    "planner_reward_type": _one_of("planner_goal", {
        "coin_eq_times_productivity": gtb.COIN_EQ, "inv_income_weighted_coin_endowments": gtb.INCOME_WEIGHTED_COIN,
        "inv_income_weighted_utility": gtb.INCOME_WEIGHTED_UTILITY}),
    "mixing_weight_gini_vs_coin": lambda v: {"equality_weight": 1 - v},
    "wood_regen_halfwidth": _same("halfwidth_wood"), "stone_regen_halfwidth": _same("halfwidth_stone"),
    "wood_regen_weight": _same("regrowth_wood"), "stone_regen_weight": _same("regrowth_stone"),
    "wood_max_health": _same("most_wood"), "stone_max_health": _same("most_stone"),
    "agent_reward_type": _one_of("agent_goal", {"coin_minus_labor_cost": gtb.COIN_MINUS_LABOR,
                                                "isoelastic_coin_minus_labor": gtb.ISOELASTIC}),
    "labor_exponent": _same("labor_exponent"), "labor_cost": _same("labor_cost"),
    **dict.fromkeys(("scenario_name", "components", "env_layout_file", "fixed_four_skill_and_loc", "multi_action_mode_planner",
                     "flatten_observations", "flatten_masks", "starting_wood_coverage", "starting_stone_coverage", "wood_clumpiness",
                     "stone_clumpiness", "gradient_steepness", "checker_source_blocks", "water_row", "skill_rank_of_top_agents",
                     "dense_log_frequency", "world_dense_log_frequency", "collate_agent_step_and_reset_data", "seed"), _nothing),
}
OF_COMPONENT: dict[str, Named] = {
    "Build": {"payment": _same("build_payment"), "payment_max_skill_multiplier": _same("skill_cap"), "build_labor": _class("build_labor"),
              "skill_dist": _one_of("build_skill", SKILLS)},
    "ContinuousDoubleAuction": {"max_bid_ask": _same("max_price"), "order_labor": _same("order_labor"),
                                "order_duration": _same("order_duration"), "max_num_orders": _same("max_orders")},
    "Gather": {"move_labor": _class("move_labor"), "collect_labor": _class("collect_labor"), "skill_dist": _one_of("gather_skill", SKILLS)},
    "PeriodicBracketTax": {
        "disable_taxes": _same("disable_taxes"), "period": _same("tax_period"), "rate_min": _same("rate_min"),
        "rate_max": _same("rate_max"), "rate_disc": _same("rate_step"),
        "n_brackets": _same("brackets"), "top_bracket_cutoff": _same("top_cutoff"),
        "usd_scaling": _same("usd_scaling"), "fixed_bracket_rates": lambda v: {"fixed_rates": tuple(v or ())},
        "bracket_spacing": _one_of("bracket_spacing", {"us-federal": taxes.US, "linear": taxes.LINEAR, "log": taxes.LOGARITHMIC}),
        "tax_model": _one_of("tax_model", {"model_wrapper": gtb.MODEL, "us-federal-single-filer-2018-scaled": gtb.US_FEDERAL,
                                           "saez": gtb.SAEZ, "fixed-bracket-rates": gtb.FIXED}),
        "pareto_weight_type": _one_of("saez_weights", {"inverse_income": taxes.INVERSE_INCOME, "uniform": taxes.UNIFORM_WEIGHTS}),
        "saez_fixed_elas": lambda v: {"saez_elasticity": -1.0 if v is None else v},
        "tax_annealing_schedule": lambda v: {"annealing": tuple(v or ())},
    },
    "WealthRedistribution": {},
    "SimpleLabor": {"mask_first_step": _same("mask_first_step"), "payment_max_skill_multiplier": _same("labor_skill_cap"),
                    "pareto_param": _nothing},
}
COMPONENT_DEFAULTS: dict[str, dict[str, Any]] = {  # of the recorded program, where they are not ours
    "Build": {"payment_max_skill_multiplier": 1, "skill_dist": "none"}, "Gather": {"skill_dist": "none"},
    "ContinuousDoubleAuction": {"max_num_orders": None},
}


@dataclass(frozen=True)
class Episode:
    """One recorded episode: parameters, how it was before it began, arrays."""

    p: gtb.Params
    before: dict[str, Any]
    arrays: Arrays

    @property
    def steps(self) -> int:
        return len(self.arrays["rew"])

    @property
    def has_water(self) -> bool:
        return "static/map_Water" in self.arrays


def recognises(arrays: Arrays) -> bool:
    """Whether a file holds an episode of this format."""
    return {"act/agents", "act/planner", "s/inv", "rew"} <= set(arrays)


def episode(where: str, arrays: Arrays) -> Episode:
    """The episode in a file and the one beside it, checked; TraceError says what is wrong with them."""
    file = Path(where).with_suffix(".json")
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TraceError(f"{where} needs its configuration in {file.name} beside it; copy that file too") from error
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{file} is not JSON ({' '.join(str(error).split())[:100]}); copy it again") from error
    if not isinstance(told, dict) or not isinstance(told.get("config"), dict):
        raise TraceError(f"{file} must be an object with the episode's `config`")
    before = told.get("pre") or {}
    if not isinstance(before, dict):
        raise TraceError(f"{file}: `pre` must say how the replica was before the episode, as an object")
    p = params(str(file), told["config"], arrays)
    _check(where, p, arrays)
    return Episode(p, before, arrays)


def params(where: str, config: dict[str, Any], arrays: Arrays) -> gtb.Params:
    """The parameters that a trace's configuration describes; the map is the recorded one."""
    scenario = str(config.get("scenario_name", "")).split("/")[0]
    if scenario not in SCENARIOS:
        raise TraceError(f"{where}: scenario_name must begin with one of {', '.join(SCENARIOS)}, got {scenario!r}")
    values: dict[str, Any] = {"fixed_four": False, "equality_weight": 1.0, "scenario": world.ONE_STEP}
    if scenario == "one-step-economy":
        values["planner_goal"] = gtb.INCOME_WEIGHTED_UTILITY
    values |= _translated(where, OF_SCENARIO, config)
    components = config.get("components")
    if not isinstance(components, list) or not all(isinstance(c, list) and len(c) == 2 and isinstance(c[1], dict) for c in components):
        raise TraceError(f"{where}: components must be a list of [name, options]")
    for name, given in components:
        if name not in OF_COMPONENT:
            raise TraceError(f"{where}: unknown component {name!r}; this economy has {', '.join(COMPONENTS)}")
        values |= _translated(f"{where}: {name}", OF_COMPONENT[name], COMPONENT_DEFAULTS.get(name, {}) | given)
    if values.get("max_orders", 0) is None:
        values["max_orders"] = values.get("order_duration", 50)
    values["order"] = tuple(COMPONENTS[name] for name, _ in components)
    try:
        for name in ("n_agents", "horizon", "height", "width", "max_orders", "max_price", "view_range", "tax_period", "brackets"):
            if name in values and not 0 <= int(values[name]) <= MOST:
                raise ValueError(f"{name} must lie between 0 and {MOST}, got {values[name]!r}")
        if scenario != "one-step-economy":
            values |= {"scenario": world.LAYOUT, "layout": tuple(_codes(where, arrays, values).ravel().tolist())}
        return check_params(adjust(gtb.Params(), **values))
    except TraceError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise TraceError(f"{where}: {' '.join(str(error).split())}") from error


def _translated(where: str, known: Named, given: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise TraceError(f"{where} has the unknown key {key!r}; known are {', '.join(known)}")
        try:
            found |= known[key](value)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise TraceError(f"{where}: {key} cannot be {str(value)[:60]!r}") from error
    return found


def _codes(where: str, arrays: Arrays, values: dict[str, Any]) -> np.ndarray:
    """Tile codes of the recorded map."""
    shape = (int(values.get("height", 25)), int(values.get("width", 25)))
    codes = np.zeros(shape, np.int64)
    for key, code in (("Water", world.WATER), ("StoneSourceBlock", world.STONE), ("WoodSourceBlock", world.WOOD)):
        layer = arrays.get(f"static/map_{key}")
        if layer is None and key == "Water":
            continue
        if layer is None or layer.shape != shape:
            raise TraceError(f"{where}: static/map_{key} must be there, with shape {shape}; record the trace again")
        codes[layer > 0] = code
    return codes


def _check(where: str, p: gtb.Params, arrays: Arrays) -> None:
    """Every array that is played has the length and shape that the parameters ask for, and actions are within their heads."""
    T, n, K = len(arrays["rew"]), p.n_agents, p.n_brackets
    heads = (n, p.n_spaces) if p.multi_action else (n,)
    shapes: dict[str, tuple[int, ...]] = {
        "rew": (T, n + 1), "act/agents": (T, *heads), "s/inv": (T + 1, n, 3), "s/escrow": (T + 1, n, 3), "s/labor": (T + 1, n),
        "act/planner": (T, K if p.planner_acts else 1)}
    if p.has_map:
        shapes |= {"s/loc": (T + 1, n, 2), "s/map_Stone": (T + 1, p.height, p.width), "s/map_Wood": (T + 1, p.height, p.width),
                   "s/house_owner": (T + 1, p.height, p.width)}
    for name in ("build_payment", "build_skill", "bonus_gather_prob"):
        if p.has_map:
            shapes[f"s/{name}"] = (T + 1, n)
    if gtb.GATHER in p.order:
        shapes["rng/gather_order"] = (T, n)
    for key, shape in shapes.items():
        if key not in arrays:
            raise TraceError(f"{where} lacks {key}; record the trace again with every array of the format")
        if arrays[key].shape != shape or arrays[key].dtype.kind not in "fiu" or not np.isfinite(arrays[key]).all():
            raise TraceError(f"{where}: {key} must hold finite numbers in shape {shape}, got {arrays[key].dtype} {arrays[key].shape}")
    if T < 1:
        raise TraceError(f"{where} holds no step; record at least one")
    if p.has_map and (arrays["s/loc"].min() < 0 or (arrays["s/loc"] >= (p.height, p.width)).any()):
        raise TraceError(f"{where}: s/loc leaves the map of {p.height} x {p.width} tiles")
    if gtb.GATHER in p.order and (np.sort(arrays["rng/gather_order"], -1) != np.arange(n)).any():
        raise TraceError(f"{where}: rng/gather_order must be permutations of the {n} agents")
    if arrays["act/agents"].min() < 0 or arrays["act/planner"].min() < 0:
        raise TraceError(f"{where}: actions must not be negative")
    if p.has_map and (arrays["s/house_owner"].max() >= n):
        raise TraceError(f"{where}: s/house_owner names agents that are not 0 .. {n - 1}")


# -- what was drawn

def shocks(told: Episode) -> list[dict[str, np.ndarray]]:
    """Shocks of each step, as they were recorded."""
    p, arrays = told.p, told.arrays
    T, n = told.steps, p.n_agents
    order = arrays["rng/gather_order"].astype(np.int32) if gtb.GATHER in p.order else np.tile(np.arange(n, dtype=np.int32), (T, 1))
    luck = np.ones((T, n, 2))
    for t, agent, good, *_, u in arrays.get("ev/gather", np.zeros((0, 7))):
        if 0 <= t < T and 0 <= agent < n and 0 <= good < 2:
            luck[int(t), int(agent), int(good)] = u
    regrowth = np.ones((T, p.n_sources))
    if p.has_map:
        codes = world.layout_tiles(p.layout, p.height, p.width)
        place = np.full(codes.shape, -1)
        place[(codes == world.STONE) | (codes == world.WOOD)] = np.arange(p.n_sources)
        for good in ("Stone", "Wood"):
            at = arrays[f"rng/regen_idx_{good}"].astype(int)
            regrowth[:, place[at[:, 0], at[:, 1]]] = arrays[f"rng/regen_u_{good}"]
    rate = np.zeros((T, p.n_brackets))
    if "rng/saez_t" in arrays:
        rate[arrays["rng/saez_t"].astype(int)] = arrays["rng/saez_uniform"]
    return [{"order": order[t], "luck": luck[t], "regrowth": regrowth[t], "random_rate": rate[t]} for t in range(T)]


# -- how it began

def first_state(told: Episode, xp: Any, real: Any) -> gtb.State:
    """The state of the first frame."""
    p, arrays = told.p, told.arrays
    s = gtb.initial_state(p, 1, np, None, real)
    s.occupant[...] = 0
    s.coin[0], s.coin_escrow[0] = arrays["s/inv"][0, :, 0], arrays["s/escrow"][0, :, 0]
    s.goods[0], s.goods_escrow[0] = arrays["s/inv"][0, :, 1:], arrays["s/escrow"][0, :, 1:]
    s.labor[0] = arrays["s/labor"][0]
    for field, key in (("build_payment", "build_payment"), ("build_skill", "build_skill"), ("bonus", "bonus_gather_prob"),
                       ("skill", "skill"), ("production", "production"), ("last_coin", "last_coin"), ("last_income", "last_income"),
                       ("last_marginal", "last_marginal_rate"), ("last_effective", "last_effective_rate"), ("utility", "opt_metric")):
        if f"s/{key}" in arrays:
            getattr(s, field)[0] = arrays[f"s/{key}"][0][:p.n_agents]
    if p.has_map:
        _first_map(p, s, arrays)
    if gtb.TAX in p.order:
        s.tax_day[0] = arrays["s/tax_cycle_pos"][0]
        s.rate_index[0], s.rates[0] = arrays["s/curr_rate_indices"][0], arrays["s/curr_rates"][0]
        s.posted_rates[0], s.rate_limit[0] = s.rates[0], arrays["s/annealed_rate_max"][0]
        s.collected[0] = arrays["s/total_collected_taxes"][0]
    _first_memory(p, s, told.before)
    s.welfare[0] = arrays["s/opt_metric"][0][-1]
    if "s/energy_weight" in arrays:
        s.energy_weight[0] = arrays["s/energy_weight"][0]
    gtb.observe(p, s)
    return s if xp is np else gtb.State(**{name: xp.asarray(array) for name, array in vars(s).items()})


def _first_map(p: gtb.Params, s: gtb.State, arrays: Arrays) -> None:
    s.row[0], s.col[0] = arrays["s/loc"][0, :, 0], arrays["s/loc"][0, :, 1]
    s.occupant[0, gtb.tile(p, s.row, s.col)[0]] = np.arange(p.n_agents) + 2
    units = {g: arrays[f"s/map_{name}"][0] for g, name in enumerate(("Stone", "Wood"))}
    ground, owner = (views.inner(p, layer)[0] for layer in (s.ground, s.owner))
    ground &= np.uint8(255 - 1 - 2)
    for g, layer in units.items():
        ground |= ((layer > 0) * gtb.HAS[g]).astype(np.uint8)
    views.inner(p, s.units)[0] = units[0] + units[1]
    houses = arrays["s/house_owner"][0]
    ground |= ((houses >= 0) * gtb.HOUSE).astype(np.uint8)
    owner[...] = np.where(houses >= 0, houses + 2, 0)


def _first_memory(p: gtb.Params, s: gtb.State, before: dict[str, Any]) -> None:
    """What the replica remembered of earlier episodes."""
    s.episodes[...], s.rewarding[...] = int(before.get("completions", 0)), int(before.get("auto_warmup_integrator", 0))
    if p.tax_model == gtb.SAEZ:
        kept = before.get("saez_buffer") or []
        for k, (income, rate) in enumerate(kept[-taxes.SAMPLES:]):
            s.sample_income[0, k], s.sample_rate[0, k] = income, rate
        s.samples[...] = min(len(kept), taxes.SAMPLES)
        s.elasticity[...] = before.get("elas_t", taxes.FIRST_ELASTICITY)
        s.mean_rates[0] = before.get("running_avg", s.mean_rates[0])


# -- what is compared

def seen(told: Episode, s: gtb.State) -> dict[str, np.ndarray]:
    """One frame of the trace, as the economy has it now: the keys of the file."""
    p = told.p
    found = {
        "s/inv": _stocks(s.coin, s.goods), "s/escrow": _stocks(s.coin_escrow, s.goods_escrow), "s/labor": s.labor,
        "s/opt_metric": np.concatenate([s.utility, s.welfare[:, None]], 1), "s/skill": s.skill, "s/production": s.production,
        "o/a/flat": s.flat, "o/a/action_mask": s.mask, "o/p/flat": s.planner_flat, "o/p/p_i": s.of_agents,
        "o/p/action_mask": s.planner_mask if p.planner_acts else np.ones((1, 1), np.uint8),
        "o/p/time": s.period[:, None] / p.horizon, "o/a/time": np.broadcast_to(s.period[:, None, None] / p.horizon, (1, p.n_agents, 1)),
        "s/auto_warmup_integrator": s.rewarding, "s/energy_weight": s.energy_weight,
    }
    if gtb.TAX in p.order:
        found |= {"s/tax_cycle_pos": s.tax_day, "s/last_coin": s.last_coin, "s/last_income": s.last_income,
                  "s/last_marginal_rate": s.last_marginal, "s/last_effective_rate": s.last_effective, "s/curr_rates": s.rates,
                  "s/curr_rate_indices": s.rate_index, "s/total_collected_taxes": s.collected, "s/annealed_rate_max": s.rate_limit,
                  "s/saez_elas_t": s.elasticity, "s/saez_running_avg": s.mean_rates,
                  "s/saez_buffer_len": np.minimum(s.samples, taxes.SAMPLES)}
    if gtb.AUCTION in p.order:
        found |= {"s/n_orders": s.open_orders, "s/bid_hist": s.bid_levels, "s/ask_hist": s.ask_levels, "s/price_history": s.price_history}
    if p.has_map:
        found |= _map_frame(told, s)
    return {key: np.array(value[0]) for key, value in found.items() if key in told.arrays}


def _map_frame(told: Episode, s: gtb.State) -> dict[str, np.ndarray]:
    p = told.p
    ground, owner, units = (views.inner(p, layer) for layer in (s.ground, s.owner, s.units))
    whole = views.channels(s.planner_view[:, 0], told.has_water, False) if p.planner_has_view else np.zeros(p.height * p.width)
    view, idx = views.unpack(p, s.view, told.has_water)
    return {
        "s/loc": np.stack([s.row, s.col], -1), "s/house_owner": owner.astype(int) - 2 + (owner == 0),
        "s/map_Stone": units * ((ground & 1) > 0), "s/map_Wood": units * ((ground & 2) > 0),
        "o/a/world-map": view, "o/a/world-idx_map": idx, "o/p/world-map": whole.reshape(1, -1, p.height, p.width),
        "o/p/world-idx_map": s.planner_view[:, 1:].reshape(1, 2, p.height, p.width) if p.planner_has_view else idx,
    }


def _stocks(coin: np.ndarray, goods: np.ndarray) -> np.ndarray:
    return np.concatenate([coin[:, :, None], goods], -1)


UTILITY_KEYS = ("rew", "s/opt_metric", "s/energy_weight")
PLAYED = ("s/loc", "s/map", "s/house", "s/n_orders", "s/bid", "s/ask", "s/price", "s/labor", "o/", "book", "ev/trade", "ev/build",
          "ev/gather")  # what no rate changes, and observations: rounding them hides what the formula's arithmetic may differ by


def tolerance(p: gtb.Params, key: str) -> float:
    """What may differ: nothing, but for transcendental functions and what the Saez formula makes of them."""
    if p.tax_model == gtb.SAEZ and not key.startswith(PLAYED):
        return 1e-9
    return 1e-12 if key in UTILITY_KEYS else 0.0


def play(where: str, arrays: Arrays, player: Player) -> Iterator[Deviation]:
    """The whole episode on every backend."""
    told = episode(where, arrays)
    for backend in player.backends:
        yield from _play(told, Path(where).stem, backend, player)


def _play(told: Episode, name: str, backend: str, player: Player) -> Iterator[Deviation]:
    p, xp = told.p, player.xp
    s = first_state(told, xp, np.float64)
    a, e, r = (allocate(cls, gtb, p, 1, xp, np.float64) for cls in (gtb.Actions, gtb.Shocks, gtb.Rewards))
    frames, rewards, rows, events = [seen(told, _on_host(s))], [], [book.rows(p, _on_host(s), 0)], Events()
    with player.playing(backend):
        for t, drawn in enumerate(shocks(told)):
            for field, value in drawn.items():
                getattr(e, field)[0] = xp.asarray(value)
            a.action[0] = xp.asarray(told.arrays["act/agents"][t].reshape(p.n_agents, p.n_spaces))
            a.rate[0] = xp.asarray(told.arrays["act/planner"][t])
            gtb.step(p, s, a, e, r)
            here = _on_host(s)
            frames.append(seen(told, here))
            rows.append(book.rows(p, here, 0))
            rewards.append(np.append(to_host(r.mobile)[0], to_host(r.planner)[0]))
            events.record(p, here, drawn["order"], t)
    for key in frames[0]:
        within = tolerance(p, key)
        yield compare(name, backend, key, np.stack([frame[key] for frame in frames]), told.arrays[key], within, within)
    yield compare(name, backend, "rew", np.stack(rewards), told.arrays["rew"], tolerance(p, "rew"), tolerance(p, "rew"))
    if gtb.AUCTION in p.order:
        yield _listed(name, backend, "book/rows", [row for frame in rows for row in frame], told.arrays["book/rows"], 0)
        yield compare(name, backend, "book/count", np.array([len(frame) for frame in rows]), told.arrays["book/count"], 0, 0)
    for key, found in events.lists().items():
        if key in told.arrays:
            recorded = told.arrays[key]
            if key == "ev/build":  # listed in an order that changes nothing; where the houses stand is compared frame by frame
                recorded = recorded[np.lexsort((recorded[:, 1], recorded[:, 0]))][:, [0, 1, 4]]
            yield _listed(name, backend, key, found, recorded, tolerance(p, key))


def _listed(name: str, backend: str, key: str, found: list, recorded: np.ndarray, atol: float) -> Deviation:
    """Rows of events in their order; another number of them is a deviation of that many."""
    if len(found) != len(recorded):
        return Deviation(name, backend, key, float(abs(len(found) - len(recorded))), atol, 0, 0, False)
    if not found:
        return Deviation(name, backend, key, 0.0, atol, 0, 0, True)
    return compare(name, backend, key, np.array(found, np.float64), recorded[:, :len(found[0])], atol, 0)


def _on_host(s: gtb.State) -> gtb.State:
    return s if isinstance(s.coin, np.ndarray) else gtb.State(**{name: to_host(array) for name, array in vars(s).items()})


class Events:
    """What happened, as rows of the trace's event arrays."""

    def __init__(self) -> None:
        self.trade: list[list] = []
        self.build: list[list] = []
        self.gather: list[list] = []
        self.tax: list[list] = []

    def record(self, p: gtb.Params, s: gtb.State, order: np.ndarray, t: int) -> None:
        for good, *rest in s.trades[0, :s.n_trades[0]].tolist():
            self.trade.append([t, good, *rest])
        for i in np.flatnonzero(s.built[0]).tolist():
            self.build.append([t, i, s.build_payment[0, i]])
        for i in order.tolist():
            for g in np.flatnonzero(s.gathered[0, i]).tolist():
                self.gather.append([t, i, g, s.gathered[0, i, g], s.row[0, i], s.col[0, i]])
        if gtb.TAX in p.order and s.tax_day[0] == 1:
            for i in range(p.n_agents):
                self.tax.append([t, i, s.last_income[0, i], s.tax_paid[0, i], s.last_marginal[0, i], s.last_effective[0, i], s.lump_sum[0]])

    def lists(self) -> dict[str, list]:
        return {"ev/trade": self.trade, "ev/build": self.build, "ev/gather": self.gather, "ev/tax": self.tax}
