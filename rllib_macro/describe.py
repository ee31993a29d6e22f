"""What an economy or a run is, as tables: timing, numbers, agents, what they see and choose. All of it is read from the declarations.

`describe` returns plain data, full rows, ready for JSON; `show` prints it for a reader, with long runs of columns as one row.
"""
from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

import envs
from envs.core.batch import Batch, with_values
from envs.core.economy import Economy
from rllib_macro import schedule
from rllib_macro.config import Exponential, Policy, RunConfig, is_scheduled

Row = dict[str, Any]


def describe(config: RunConfig, run: bool = True) -> Row:
    """Everything about a checked configuration and its economy; without `run`, only the economy under the configuration's Params.

    ValueError for sizes that no economy can have.
    """
    economy = envs.load(config.economy)
    constants = {name: value for name, value in config.params.items() if not is_scheduled(value)}
    p = with_values(economy.defaults(), constants | schedule.plan(config, 0).params)
    batch = Batch(economy, p, backend="numpy", features=config.features)
    told = {
        "economy": economy.name,
        "description": first_sentence(economy.kernel.__doc__),
        "version": economy.kernel.VERSION,
        "periods": economy.periods(p),
        "endless": economy.endless,
        "timing": timing(economy.kernel),
        "params": params(config, p),
        "agents": [_agent(batch, type_) for type_ in economy.agents],
        "features": config.features,
        "observations": {type_: observations(batch, type_) for type_ in economy.agents},
        "choices": {type_: choices(batch, type_) for type_ in economy.agents},
        "rules": {type_: rules(economy, type_) for type_ in economy.agents},
        "measures": list(economy.measures),
    }
    return told | {"run": _run(config)} if run else told


# --- the parts --------------------------------------------------------------------------------------------------------


def timing(kernel: ModuleType) -> list[Row]:
    """The phases of `step` in the order in which they happen, as its source has them: {"phase", "does"} and "when" where conditional."""
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(kernel.step)))
    step = ast.parse(source).body[0]
    assert isinstance(step, ast.FunctionDef)
    return list(_phases(kernel, step.body))


def _phases(kernel: ModuleType, body: Sequence[ast.stmt], when: str = "") -> Iterator[Row]:
    note = {"when": when} if when else {}
    for node in body:
        if isinstance(node, ast.If | ast.For | ast.While):
            yield from _phases(kernel, node.body, ast.unparse(node).splitlines()[0].rstrip(":"))
            if isinstance(node, ast.If):
                yield from _phases(kernel, node.orelse, f"unless {ast.unparse(node.test)}")
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            name = ast.unparse(node.value.func)
            yield {"phase": name, "does": first_sentence(_documentation(kernel, name))} | note
        elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name)):
            yield {"phase": ast.unparse(node), "does": ""} | note


def _documentation(kernel: ModuleType, name: str) -> str | None:
    """The docstring of what the kernel's module calls `name`: trade, markets.clear."""
    found: Any = kernel
    for part in name.split("."):
        found = getattr(found, part, None)
    return getattr(found, "__doc__", None)


def params(config: RunConfig, p: Any) -> list[Row]:
    """One row for each of the kernel's Params; `default` is the economy's, `value` the one at the start, `schedule` how it moves, if it
    does."""
    rows, defaults = [], envs.load(config.economy).defaults()
    for field in fields(p):
        row = {"name": field.name, "default": getattr(defaults, field.name), "value": getattr(p, field.name),
               "meaning": field.metadata.get("doc", "")}
        row |= {key: field.metadata.get(key, "") for key in ("symbol", "unit", "source")}
        given = config.params.get(field.name)
        rows.append(row | {"schedule": scheduled(given)} if is_scheduled(given) else row)
    return rows


def _agent(batch: Batch, type_: str) -> Row:
    agent, field = batch.economy.agents[type_], _declared(batch.kernel.Rewards)[batch.economy.known_as(type_)]
    return {
        "type": type_, "count": batch.count[type_], "observes": batch.layout[type_].width, "heads": len(batch.heads[type_]),
        "reward": field["meaning"], "unit": field["unit"] or agent.reward_unit,
    }


def observations(batch: Batch, type_: str) -> list[Row]:
    """One row for each column of what the agents of a type see."""
    declared = _declared(batch.kernel.State)
    nothing = {"unit": "", "meaning": "1 for the agent itself"}
    return [vars(column) | declared.get(column.feature, nothing) for column in batch.layout[type_].columns]


def choices(batch: Batch, type_: str) -> list[Row]:
    """One row for each choice of a type: its heads with their options (0: a share of an interval), and the values they stand for."""
    declared = _declared(batch.kernel.Actions)
    return [
        {
            "name": choice.name, "heads": [head.options for head in choice.heads(batch.p)], "values": choice.options(batch.p),
            "unit": " x ".join(declared[name]["unit"] for name in choice.names),
            "meaning": "; ".join(declared[name]["meaning"] for name in choice.names),
        }
        for choice in batch.economy.agents[type_].chooses
    ]


def rules(economy: Economy, type_: str) -> list[Row]:
    """Hand-written behaviour that a type can follow, named as a configuration names it."""
    names = ", ".join(f"{name}=..." for choice in economy.agents[type_].chooses for name in choice.names)
    return [
        {"rule": f"constant({names})", "does": "The same values for every agent in every period."},
        {"rule": "random", "does": "Uniform play among the legal options."},
        *({"rule": _called(name, rule), "does": _told_rule(rule)} for name, rule in economy.rules.get(type_, {}).items()),
    ]


def _called(name: str, rule: Callable[..., None]) -> str:
    arguments = list(inspect.signature(rule).parameters.values())[4:]  # after p, s, a, draws
    return f"{name}({', '.join(map(str, arguments))})" if arguments else name


def _told_rule(rule: Callable[..., None]) -> str:
    held = inspect.getclosurevars(rule).nonlocals.get("values") if inspect.isfunction(rule) else None
    if isinstance(held, Mapping):  # a rule made by `constant`
        return ", ".join(f"{name}={value:g}" for name, value in held.items()) + " in every period."
    return first_sentence(rule.__doc__)


def _run(config: RunConfig) -> Row:
    """The settings of a run, who learns how, and when things change."""
    last = config.stop.iterations
    timetable = [{"iteration": k, "what": what} for k, what in schedule.phases(config)]
    policies = {type_: _policy(policy) for type_, policy in config.policies.items()}
    settings = {name: getattr(config, name) for name in ("name", "seed", "replicas", "periods", "features", "backend", "device")}
    windows = {name: scheduled(window) for name, window in config.windows.items()}
    return settings | {"iterations": last, "policies": policies, "windows": windows, "timetable": timetable}


def _policy(policy: Policy) -> Row:
    if policy.rule is not None:
        return {"rule": policy.rule}
    during = policy.train_during
    when = ", ".join(f"{a} to {b}" for a, b in during) if during is not None else f"from {policy.train_from}"
    if during is None and policy.train_every > 1:
        when += f", every {policy.train_every}"
    network, recurrent = f"{' x '.join(map(str, policy.network.hidden))} {policy.network.activation}", policy.network.recurrent
    network += f" {recurrent.cell} {recurrent.units}" if recurrent else ""
    told = {name: getattr(policy, name) for name in ("gamma", "epochs", "minibatches", "clip", "reward_scale")}
    return {
        "learns": when, "lr": scheduled(policy.lr), "entropy": scheduled(policy.entropy), "lambda": policy.lam, **told,
        "network": f"{network} equivariant" if policy.network.equivariant else network,
    }


def scheduled(given: Any) -> str:
    """A number, window or schedule in a few words: 0.001 · 0 -> 1 (0 to 160) · 0.5 -> 0, 1/e in 10000, at least 0.05."""
    if isinstance(given, Exponential):
        text = f"{given.from_:g} -> {given.to:g}, 1/e in {given.exp:g}"
        return text if given.floor is None else f"{text}, at least {given.floor:g}"
    if not is_scheduled(given):
        return _number(given)
    if len(given) == 1:
        return _number(given[0][1])
    return " -> ".join(_number(value) for _, value in given) + f" ({' to '.join(str(k) for k, _ in given)})"


def first_sentence(doc: str | None) -> str:
    """The first sentence of a docstring on one line; nothing where there is none."""
    text = " ".join((doc or "").strip().partition("\n\n")[0].split())
    match = re.match(r".*?\.(?=\s+[A-Z]|$)", text)
    return match[0] if match else text


def _declared(cls: type) -> dict[str, Row]:
    return {f.name: {"unit": f.metadata.get("unit", ""), "meaning": f.metadata.get("doc", "")} for f in fields(cls)}


# --- for a reader -----------------------------------------------------------------------------------------------------


def collapse(rows: Sequence[Row]) -> list[Row]:
    """Observation rows in which neighbouring columns of one feature are one row: price[0..9], index 0..9."""
    alike = itertools.groupby(rows, key=lambda row: (row["name"].startswith("own "), row["feature"], row["scale"], row["transform"]))
    groups = [list(group) for _, group in alike]
    return [group[0] | {"index": _range(group[0]["index"], group[-1]["index"]), "name": _range(group[0]["name"], group[-1]["name"])}
            for group in groups]


def _range(first: Any, last: Any) -> str:
    """Two texts that differ in numbers only, as one: price[0] and price[9] -> price[0..9]."""
    pairs = zip(re.findall(r"\d+|\D+", str(first)), re.findall(r"\d+|\D+", str(last)))
    return "".join(a if a == b else f"{a}..{b}" for a, b in pairs)


def show(told: Row, console: Console) -> None:
    """Print what `describe` returned."""
    ends = "is cut" if told["endless"] else "ends"
    console.print(f"[bold]{told['economy']}[/], version {told['version']}. {told['description']}")
    console.print(f"An episode {ends} after {told['periods']} periods.")
    if "run" in told:
        _show_run(told["run"], console)
    print_table(console, "Timing: one period", ("", "phase", "what happens"),
                [(n, row["phase"], f"{row['does']} ({row['when']})".strip() if "when" in row else row["does"])
                 for n, row in enumerate(told["timing"], 1)])
    print_table(console, "Params", ("name", "symbol", "default", "here", "unit", "meaning", "source"),
                [(row["name"], row["symbol"], _number(row["default"]), row.get("schedule") or _changed(row), row["unit"], row["meaning"],
                  row["source"]) for row in told["params"]])
    columns = ("type", "count", "observes", "heads", "reward", "unit")
    print_table(console, "Agents", columns, [tuple(row[column] for column in columns) for row in told["agents"]])
    columns = ("index", "name", "scale", "transform", "unit", "meaning")
    for type_, rows in told["observations"].items():
        print_table(console, f"What a {type_.replace('_', ' ')} observes ({told['features']})", columns,
                    [tuple(_number(row[column]) for column in columns) for row in collapse(rows)])
    print_table(console, "Choices", ("type", "choice", "heads", "options", "values", "unit"),
                [(type_, row["name"], len(row["heads"]), row["heads"][0] or "interval", row["values"], row["unit"])
                 for type_, rows in told["choices"].items() for row in rows])
    print_table(console, "Rules: hand-written behaviour", ("type", "rule", "what it does"),
                [(type_, row["rule"], row["does"]) for type_, rows in told["rules"].items() for row in rows])
    console.print(f"\n[bold]Measures[/]: {', '.join(told['measures']) or 'none'}")


def _show_run(run: Row, console: Console) -> None:
    periods = f", {run['periods']} periods per iteration" if run["periods"] else ""
    played = f"{run['iterations']} iterations of {run['replicas']} replicas{periods}"
    console.print(f"Run [bold]{run['name']}[/]: {played}, seed {run['seed']}, on {run['device']}.")
    columns = ("learns", "lr", "entropy", "gamma", "lambda", "epochs", "minibatches", "clip", "reward_scale", "network")
    print_table(console, "Who learns", ("type", *columns),
                [(type_, *(_number(row[name]) for name in columns)) if "learns" in row else (type_, f"never: rule {row['rule']}")
                 for type_, row in run["policies"].items()])
    print_table(console, "Windows: legal ranges", ("choice", "range"), list(run["windows"].items()))
    print_table(console, "Timetable", ("iteration", "what"), [(row["iteration"], row["what"]) for row in run["timetable"]])


def _changed(row: Row) -> str:
    return _number(row["value"]) if row["value"] != row["default"] else ""


def _number(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_number, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def print_table(console: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], right: bool = False) -> None:
    """Rows under a title; columns that are empty throughout are left out, and so is a table without rows. `right`: numbers, aligned."""
    cells = [[cell if isinstance(cell, Text) else Text(str(cell)) for cell in row] for row in rows]  # Text: brackets are no markup
    filled = [i for i in range(len(columns)) if any(len(row) > i and row[i] for row in cells)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for i in filled:
        table.add_column(columns[i], justify="right" if right and i else "left")
    for row in cells:
        table.add_row(*(row[i] if i < len(row) else "" for i in filled))
    if cells:
        console.print(Text(f"\n{title}", "bold"), soft_wrap=True)
        console.print(table)
