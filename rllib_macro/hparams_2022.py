"""The settings file of the program published in 2022 (Curry et al., arXiv:2201.01163) and a run's configuration, each made from the other.

`from_config` writes the sections metadata, agents, world and train; it refuses what they cannot say, by reading back what it wrote.
`to_config` reads them; where that program knows one behaviour only (digits, frozen uniforms, one gamma, its value clip, its masks, the
gift), the configuration gets the switch that reproduces it. Keys are those of that program; what it ignores is ignored here.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

import envs
from kernels import rbc
from kernels.core.arrays import adjust
from rllib_macro import schedule
from rllib_macro.config import ConfigError, Exponential, Policy, RunConfig, check_against, from_dict, is_scheduled, to_dict

ECONOMY = "rbc"
TYPES = ("consumer", "firm", "government")
EVERY = {"consumer": "train_consumers_every", "firm": "train_firms_every", "government": "train_government_every"}
ENTROPY = {"consumer": "consumer_anneal_entropy", "firm": "firm_anneal_entropy", "government": "govt_anneal_entropy"}
DIGITS = 10
MOST_AGENTS = 1024
LABOR_SHARES = (0.2, 0.3, 0.4, 0.6, 0.8)  # its "fixed_array"
TWO_LEVELS = (5000.0, 10000.0)  # its "twolevel"
FIXED = {"productivity": 0.01, "gift": 0.01, "crra_shift": 1.0, "clamp_budget": False}  # written into that program
NETWORK = {"hidden": [128, 128], "activation": "relu", "shared_trunk": True, "init": "torch"}
QUIRKS = {"returns": "single_gamma_2022", "advantages": "every_update_2022", "minibatches": 1, "value_clip_mode": "mean_max_2022"}
COMPAT = {"masks": "additive_2022", "frozen_uniforms": ["firm", "government"]}
ELSEWHERE = ("name", "backend", "device", "evaluation", "resources", "checkpoint", "log", "deviation", "lambda", "init")  # no part of it


class LayoutError(ValueError):
    """A run has settings that the files of 2022 cannot hold; the text is one sentence that names one of them."""


class ImportError2022(ValueError):
    """Files are not those of a run of 2022, or of one that this economy cannot play; the text is one sentence."""


# --- the grids --------------------------------------------------------------------------------------------------------


def action_arrays(p: rbc.Params) -> dict[str, np.ndarray]:
    """What the options of every choice stand for: {name: (options, columns) float32}; the share invested is the third column of firms."""
    chooses: dict[str, Any] = {type_: agent.chooses for type_, agent in envs.load(ECONOMY).agents.items()}
    (demand, hours, _), (terms,), (taxes,) = (chooses[type_] for type_ in TYPES)
    return {
        "consumption_choices": _product(demand.grid(p)), "work_choices": _product(hours.grid(p)),
        "price_and_wage": _product(*(factor.grid(p) for factor in terms.factors), [p.investment_share]),
        "tax_choices": _product(*(factor.grid(p) for factor in taxes.factors)),
    }


def _product(*grids: Any) -> np.ndarray:
    """All combinations, the first grid slowest: (combinations, grids)."""
    return np.stack([axis.ravel() for axis in np.meshgrid(*grids, indexing="ij")], -1).astype(np.float32)


# --- from a configuration ---------------------------------------------------------------------------------------------


def from_config(config: RunConfig, dirname: str = "", group: str = "") -> dict[str, Any]:
    """The four sections for a checked configuration; LayoutError names a setting that they cannot hold."""
    if config.economy != ECONOMY:
        raise LayoutError(f"the 2022 layout holds runs of the economy {ECONOMY} only, and this is one of {config.economy}")
    if scripted := [type_ for type_, policy in config.policies.items() if policy.rule is not None]:
        raise LayoutError(f"the 2022 layout holds learned policies only; leave out policies.{scripted[0]}.rule")
    p = adjust(rbc.Params(), **{name: value for name, value in config.params.items() if not is_scheduled(value)})
    made = {"metadata": {"dirname": dirname, "group": group}, "agents": _agents(config, p), "world": _world(p), "train": _train(config, p)}
    _require_same(config, to_config(made, p.investment_share))
    return made


def _agents(config: RunConfig, p: rbc.Params) -> dict[str, Any]:
    grids = action_arrays(p)
    market = 4 * p.n_firms + 3
    stocks = list(range(2 * p.n_firms, 3 * p.n_firms))
    theta = config.params.get("theta_factor")
    section: dict[str, Any] = {
        "num_consumers": p.n_consumers, "num_firms": p.n_firms, "num_governments": 1,
        "global_state_dim": market, "consumer_state_dim": market + 2, "firm_state_dim": market + 3 + p.n_firms,
        "government_state_dim": market,
        "consumer_action_dim": p.n_firms + 2, "firm_action_dim": 3, "government_action_dim": 2,
        "consumer_num_consume_actions": len(grids["consumption_choices"]), "consumer_num_work_actions": len(grids["work_choices"]),
        "consumer_num_whichfirm_actions": p.n_firms, "firm_num_actions": len(grids["price_and_wage"]),
        "government_num_actions": len(grids["tax_choices"]),
        "max_possible_consumption": float(grids["consumption_choices"].max()),
        "max_possible_hours_worked": float(grids["work_choices"].max()),
        "max_possible_price": float(grids["price_and_wage"][:, 0].max()),
        "max_possible_wage": float(grids["price_and_wage"][:, 1].max()),
        "consumer_digit_dims": [*stocks, market], "firm_digit_dims": [*stocks, market], "government_digit_dims": stocks,
        "firm_anneal_prices": _opening(config, "firm.price"), "firm_anneal_wages": _opening(config, "firm.wage"),
        "government_anneal_taxes": _opening(config, "government.income_tax"),
        "firm_begin_anneal_action": _begin(config, "firm.price", "firm.wage"),
        "government_begin_anneal_action": _begin(config, "government.income_tax"),
        "consumer_anneal_theta": ({"anneal_on": True, "exp_decay_length_in_steps": theta.exp} if isinstance(theta, Exponential)
                                  else {"anneal_on": False, "exp_decay_length_in_steps": 1}),
        "consumer_noponzi_eta": 0.0, "firm_noponzi_eta": 0.0, "consumer_noponzi_start": p.ponzi_consumer,
        "firm_noponzi_start": p.ponzi_firm, "consumer_penalty_scale": 1.0,
        "government_counts_firm_reward": int(p.firm_reward_weight != 0),
        "firm_reward_for_government_factor": p.firm_reward_weight or 0.0025, "should_boost_firm_reward": p.boost != 0,
    }
    rate, bonus = _rate(config), _bonus(config)
    for type_, policy in config.policies.items():
        section |= {f"{type_}_reward_scale": policy.reward_scale, f"{type_}_training_start": policy.train_from,
                    f"{type_}_lr_multiple": schedule.value(policy.lr, 0) / rate, ENTROPY[type_]: _fading(policy, bonus)}
        if policy.train_every > 1:
            section[EVERY[type_]] = policy.train_every
        if policy.train_during is not None:
            section[f"{type_}_training_list"] = [list(pair) for pair in policy.train_during]
        if isinstance(policy.entropy, Exponential) and policy.entropy.start is not None:
            section[f"{type_}_training_start"] = policy.entropy.start
    if (cycle := config.policies["consumer"].train_cycle) is not None:
        section |= {"training_schedule_mod": cycle[0], "consumer_mod_threshold": cycle[1][1] - 1}
    return section


def _world(p: rbc.Params) -> dict[str, Any]:
    alpha: Any = p.labor_share[0] if len(p.labor_share) == 1 else "fixed_array"
    if p.n_firms > 1 and p.labor_share == _rising(p.n_firms // 2):
        alpha = "proportional"
    capital = {TWO_LEVELS: "twolevel", _rising(p.n_firms): "proportional"}.get(p.initial_capital, "one")
    section = {
        "maxtime": p.horizon, "initial_firm_endowment": p.firm_budget_per_consumer * p.n_consumers,
        "initial_consumer_endowment": p.consumer_budget, "initial_stocks": p.initial_inventory, "initial_prices": p.initial_price,
        "initial_wages": p.initial_wage, "interest_rate": p.interest, "consumer_theta": p.theta, "crra_param": p.crra,
        "production_alpha": alpha, "initial_capital": capital, "importer_price": p.export_price, "importer_quantity": p.export_quota,
        "use_importer": int(p.open_economy), "labor_floor": p.labor_floor,
    }
    return section | ({"paretoscaletheta": p.theta_pareto} if p.theta_pareto else {})


def _rising(n: int) -> tuple[float, ...]:
    return tuple(round(0.2 * (i + 1), 9) for i in range(n))


def _train(config: RunConfig, p: rbc.Params) -> dict[str, Any]:
    first = config.policies["consumer"]
    section = {
        "batch_size": config.replicas, "base_seed": config.seed, "num_episodes": config.stop.iterations, "infinite_episodes": False,
        "save_dense_every": config.log.episode_every or config.stop.iterations,
        "save_model_every": config.checkpoint.every or config.stop.iterations,
        "lr": _rate(config), "gamma": first.gamma, "entropy": _bonus(config), "value_loss_weight": first.value_weight,
        "use_ppo": first.loss == "ppo", "ppo_num_updates": first.epochs, "ppo_clip_param": first.clip,
        "digit_representation_size": DIGITS, "lagr_num_steps": 1, "should_boost_firm_reward": p.boost != 0,
        "boost_firm_reward_factor": p.boost or 1.0,
    }
    return section | ({} if first.grad_clip is None else {"clip_grad_norm": first.grad_clip})


def _rate(config: RunConfig) -> float:
    """The learning rate of which every type has a multiple."""
    return max(schedule.value(policy.lr, 0) for policy in config.policies.values()) or 1.0


def _bonus(config: RunConfig) -> float:
    """The entropy weight at the start."""
    return schedule.value(config.policies["consumer"].entropy, 0)


def _fading(policy: Policy, bonus: float) -> dict[str, Any]:
    if not isinstance(policy.entropy, Exponential):
        return {"anneal_on": False, "exp_decay_length_in_steps": 1}
    floor = (policy.entropy.floor or 0.0) / bonus if bonus else 0.0
    return {"anneal_on": True, "exp_decay_length_in_steps": policy.entropy.exp, "coef_floor": floor}


def _opening(config: RunConfig, choice: str) -> dict[str, Any]:
    """How fast the two ends of a window move from where it starts."""
    window: Any = config.windows.get(choice)
    if not is_scheduled(window):
        return {"anneal_on": False, "start": 0.0, "increase_const": 0.0, "decrease_const": 0.0}
    (begin, (start, _)), (end, (low, high)) = window[0], window[-1]
    length = max(end - begin, 1)
    return {"anneal_on": True, "start": start, "increase_const": (high - start) / length, "decrease_const": (start - low) / length}


def _begin(config: RunConfig, *choices: str) -> int:
    """The iteration in which the first of some windows that move begins to."""
    moving: list[Any] = [config.windows[choice] for choice in choices if is_scheduled(config.windows.get(choice))]
    return moving[0][0][0] if moving else 0


def _require_same(config: RunConfig, read: RunConfig) -> None:
    """LayoutError naming the first setting that the files would not give back."""
    mine, theirs = dict(_settings(config)), dict(_settings(read))
    for key in mine | theirs:
        if not _alike(mine.get(key), theirs.get(key)):
            here, there = _brief(mine.get(key)), _brief(theirs.get(key))
            raise LayoutError(f"the 2022 layout cannot hold {key}={here}, only {there}; change it, or leave the layout out")


def _settings(config: RunConfig) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every setting that the files hold, defaults filled in."""
    whole = to_dict(config)
    whole["params"] = {f.name: f.default for f in fields(rbc.Params)} | whole["params"]
    horizon = whole["params"]["horizon"]
    whole["periods"] = None if config.periods == horizon else config.periods
    for policy in whole["policies"].values():
        if isinstance(policy["entropy"], dict):
            at = policy["entropy"].get("start")
            policy["entropy"] |= {"floor": policy["entropy"]["floor"] or None, "start": policy["train_from"] if at is None else at}
        if policy["loss"] == "policy_gradient":
            del policy["clip"]
    yield from _leaves(whole, "")


def _leaves(part: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in part.items():
        if key in ELSEWHERE:
            continue
        if isinstance(value, Mapping) and "exp" not in value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _alike(a: Any, b: Any) -> bool:
    """Equal, numbers up to rounding."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, Sequence) and isinstance(b, Sequence) and not isinstance(a, str):
        return len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)
    return a == b


def _brief(value: Any) -> str:
    text = "null" if value is None else str(value).replace("'", "")
    return text if len(text) <= 60 else f"{text[:57]}..."


# --- to a configuration -----------------------------------------------------------------------------------------------


class _Section:
    """One section of the file: its values, checked as they are asked for."""

    def __init__(self, hparams: Any, name: str):
        found = hparams.get(name) if isinstance(hparams, Mapping) else None
        if not isinstance(found, Mapping):
            raise ImportError2022(f"hparams.yaml has no section {name}; it needs agents, world and train")
        self.name, self.values = name, found

    def has(self, key: str) -> bool:
        return key in self.values

    def number(self, key: str, default: float | None = None) -> float:
        """A number of ordinary size."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
            raise self.wrong(key, "a number")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number that is not negative."""
        value = self.number(key, default)
        if value != int(value) or value < 0:
            raise self.wrong(key, "a whole number")
        return int(value)

    def flag(self, key: str, default: bool | None = None) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool | int | float):
            raise self.wrong(key, "true or false")
        return bool(value)

    def part(self, key: str) -> _Section:
        """A mapping inside the section."""
        if not isinstance(self.values.get(key), Mapping):
            raise self.wrong(key, "a mapping with anneal_on")
        return _Section({f"{self.name}.{key}": self.values[key]}, f"{self.name}.{key}")

    def wrong(self, key: str, expected: str) -> ImportError2022:
        if key not in self.values:
            return ImportError2022(f"hparams.yaml has no {self.name}.{key}; it is not the settings file of a run of 2022")
        value = self.values[key]
        got = _brief(value) if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
        return ImportError2022(f"{self.name}.{key} in hparams.yaml must be {expected}, got {got}")


def to_config(hparams: Any, investment_share: float = 0.1, name: str = "imported") -> RunConfig:
    """The checked configuration that plays and learns as the settings say; ImportError2022 where this project cannot.

    `investment_share` is the third column of the firms' grid, which is no part of the file.
    """
    agents, world, train = (_Section(hparams, section) for section in ("agents", "world", "train"))
    _require_known(agents, train)
    windows = {
        "firm.price": _window(agents, "firm_anneal_prices", "firm_begin_anneal_action", 0.0, agents.number("max_possible_price", 2500.0)),
        "firm.wage": _window(agents, "firm_anneal_wages", "firm_begin_anneal_action", 0.0, agents.number("max_possible_wage", 44.0)),
        "government.income_tax": _window(agents, "government_anneal_taxes", "government_begin_anneal_action", None, 1.0),
        "government.corporate_tax": _window(agents, "government_anneal_taxes", "government_begin_anneal_action", None, 1.0),
    }
    told = {
        "economy": ECONOMY, "name": name, "seed": train.whole("base_seed"), "replicas": train.whole("batch_size"), "features": "digits",
        "params": FIXED | {"investment_share": investment_share} | _params(agents, world, train),
        "policies": {type_: _policy(type_, agents, train) for type_ in TYPES},
        "windows": {choice: window for choice, window in windows.items() if window is not None},
        "stop": {"iterations": train.whole("num_episodes")},
        "checkpoint": {"every": train.whole("save_model_every")}, "log": {"episode_every": train.whole("save_dense_every")},
        "compat": COMPAT,
    }
    try:
        return check_against(from_dict(told), envs.load(ECONOMY))
    except ConfigError as error:
        raise ImportError2022(f"hparams.yaml asks for what cannot be played here: {error}") from None


def _require_known(agents: _Section, train: _Section) -> None:
    """What that program allows and this economy does not have."""
    if agents.whole("num_consumers") + agents.whole("num_firms") >= MOST_AGENTS:
        raise ImportError2022(f"hparams.yaml names more than the {MOST_AGENTS:,} agents that fit into a block of that program's kernel")
    if agents.whole("num_governments") != 1:
        raise ImportError2022("agents.num_governments in hparams.yaml must be 1: several share one tax, and this economy has one")
    if train.whole("digit_representation_size") != DIGITS:
        raise ImportError2022(f"train.digit_representation_size in hparams.yaml must be {DIGITS}, the number of digits that are seen here")
    for type_ in ("consumer", "firm"):
        if agents.number(f"{type_}_noponzi_eta", 0.0):
            raise ImportError2022(f"agents.{type_}_noponzi_eta in hparams.yaml must be 0: a penalty that grows by itself is not known here")


def _params(agents: _Section, world: _Section, train: _Section) -> dict[str, Any]:
    n, firms = agents.whole("num_consumers"), agents.whole("num_firms")
    counts = agents.whole("government_counts_firm_reward", 0) == 1
    theta = agents.part("consumer_anneal_theta")
    found: dict[str, Any] = {
        "n_consumers": n, "n_firms": firms, "horizon": world.whole("maxtime"), "crra": world.number("crra_param"),
        "theta": world.number("consumer_theta"), "theta_pareto": world.number("paretoscaletheta", 0.0),
        "consumer_budget": world.number("initial_consumer_endowment"),
        "firm_budget_per_consumer": world.number("initial_firm_endowment") / max(n, 1),
        "initial_price": world.number("initial_prices"), "initial_wage": world.number("initial_wages"),
        "initial_inventory": world.number("initial_stocks"), "interest": world.number("interest_rate"),
        "open_economy": world.flag("use_importer"), "export_price": world.number("importer_price"),
        "export_quota": world.number("importer_quantity"), "labor_floor": world.number("labor_floor", 0.0),
        "labor_share": _labor_share(world, firms), "initial_capital": _capital(world, firms),
        "boost": train.number("boost_firm_reward_factor", 1.0) if train.flag("should_boost_firm_reward") else 0.0,
        "firm_reward_weight": agents.number("firm_reward_for_government_factor", 1.0) if counts else 0.0,
        "ponzi_consumer": agents.number("consumer_noponzi_start", 0.0) / (agents.number("consumer_penalty_scale", 1.0) or 1.0),
        "ponzi_firm": agents.number("firm_noponzi_start", 0.0),
    }
    if theta.flag("anneal_on"):
        found["theta_factor"] = {"exp": theta.number("exp_decay_length_in_steps"), "from": 0, "to": 1}
    return found


def _labor_share(world: _Section, firms: int) -> list[float]:
    alpha = world.values.get("production_alpha")
    if alpha == "fixed_array":
        return list(LABOR_SHARES)
    if alpha == "proportional" and firms > 1:
        return list(_rising(firms // 2))
    if isinstance(alpha, str):
        raise world.wrong("production_alpha", "a number, fixed_array or proportional (of two firms or more)")
    return [world.number("production_alpha")]


def _capital(world: _Section, firms: int) -> list[float]:
    """Everything but its two words means one unit of capital."""
    kind = world.values.get("initial_capital")
    if kind == "twolevel":
        return list(TWO_LEVELS)
    return list(_rising(firms)) if kind == "proportional" else [1.0]


def _policy(type_: str, agents: _Section, train: _Section) -> dict[str, Any]:
    ppo, clip = train.flag("use_ppo"), train.number("ppo_clip_param", 0.1)
    start = agents.whole(f"{type_}_training_start", 0)
    told = {
        "lr": train.number("lr") * agents.number(f"{type_}_lr_multiple", 1.0), "gamma": train.number("gamma"),
        "entropy": _entropy(type_, agents, train.number("entropy")), "value_weight": train.number("value_loss_weight"),
        "reward_scale": agents.number(f"{type_}_reward_scale", 1.0),
        "grad_clip": train.number("clip_grad_norm") if train.has("clip_grad_norm") else None,
        "loss": "ppo" if ppo else "policy_gradient", "epochs": train.whole("ppo_num_updates") if ppo else 1, "clip": clip,
        "value_clip": clip if ppo else None, "network": NETWORK, "train_from": start, "train_every": agents.whole(EVERY[type_], 1),
    } | QUIRKS
    if type_ != "government" and agents.has("training_schedule_mod"):
        turns = {"train_from": 0, "train_every": 1, "train_cycle": _cycle(type_, agents)}
        return told | turns | {"entropy": _starting(told["entropy"], start)}
    if agents.has(f"{type_}_training_list"):
        return told | {"train_during": agents.values[f"{type_}_training_list"]}
    return told


def _entropy(type_: str, agents: _Section, bonus: float) -> Any:
    if not agents.has(ENTROPY[type_]) or not (fading := agents.part(ENTROPY[type_])).flag("anneal_on"):
        return bonus
    floor = fading.number("coef_floor", 0.0) * bonus
    return {"exp": fading.number("exp_decay_length_in_steps"), "from": bonus, "floor": floor or None}


def _starting(entropy: Any, start: int) -> Any:
    """The schedule with its start said: types that take turns learn from the beginning, their entropy still fades from its own start."""
    return entropy | {"start": start} if isinstance(entropy, dict) and start else entropy


def _cycle(type_: str, agents: _Section) -> list[Any]:
    """Consumers learn where the episode modulo `training_schedule_mod` is at most `consumer_mod_threshold`, firms elsewhere."""
    length, last = agents.whole("training_schedule_mod"), agents.whole("consumer_mod_threshold")
    if last > length - 2:
        raise ImportError2022("agents.consumer_mod_threshold in hparams.yaml must be below training_schedule_mod - 1, or firms never learn")
    return [length, [0, last + 1] if type_ == "consumer" else [last + 1, length]]


def _window(agents: _Section, key: str, begin_key: str, low: float | None, high: float) -> Any:
    """Points of a window that opens from one value to the whole grid; None where it is open from the start."""
    opening = agents.part(key)
    if not opening.flag("anneal_on"):
        return None
    start, begin, up = opening.number("start"), agents.whole(begin_key, 0), opening.number("increase_const")
    down = opening.number("decrease_const") if low is not None else 0.0
    if up < 0 or down < 0:
        raise ImportError2022(f"agents.{key} in hparams.yaml must have constants that are not negative: windows only open here")
    lengths = [(high - start) / up if up else 0.0, (start - (low or 0.0)) / down if down else 0.0]
    length = max(lengths)
    if not 0 < length < 2**53:
        return [start if low is not None else 0.0, start]
    length = math.ceil(length * (1 - 1e-12))
    least = start - down * length if low is not None else 0.0
    opened = [_tidy(least, low or 0.0), _tidy(start + up * length, high)]
    return [[begin, [start if low is not None else 0.0, start]], [begin + length, opened]]


def _tidy(end: float, target: float) -> float:
    """The end of the grid where a window ends there up to rounding."""
    return target if math.isclose(end, target, rel_tol=1e-9, abs_tol=1e-6) else end
