"""Tables and figure of docs/results/rbc_taxes.md, made from run folders so that no number is copied by hand.

    python -m rllib_macro.results_taxes fixed runs/rbc_fixed_taxes --into docs/results/rbc_taxes.md
    python -m rllib_macro.results_taxes relearned runs/rbc_fixed_taxes --into docs/results/rbc_taxes.md
    python -m rllib_macro.results_taxes open_closed runs/rbc_open_closed --into docs/results/rbc_taxes.md
    python -m rllib_macro.results_taxes figure runs/rbc_fixed_taxes --into docs/images/rbc_taxes.png

The first three replace the text between `<!-- fixed: begin -->` and `<!-- fixed: end -->`, or print it without --into.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import typer

import envs
from rllib_macro import evaluate, experiments, plots
from rllib_macro.results_2022 import markdown_table
from rllib_macro.run import Run, RunError
from rllib_macro.sections import replace
from rllib_macro.terminal import number, plainly, runs_in

RATES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
RULE = "fixed(income_tax={:g}, corporate_tax={:g})"
TYPES = ("consumer", "firm", "government")
SHOWN = ("price", "wage", "hours", "consumption", "income_tax", "corporate_tax")
INTO = "--into docs/results/rbc_taxes.md"
Means = dict[str, list[float]]  # {type or measure: [its mean in each run]}


def fixed(runs: Sequence[Run]) -> str:
    """Consumers and firms behave as they learned to under the learned government, and the rates are fixed: Markdown."""
    learned = _learned(runs)
    table = _compared(learned, [RULE.format(income, corporate) for income in RATES for corporate in RATES])
    lines = [_row(_told(rule), means) for rule, means in table.items() if len(set(_rates(rule))) < 2]
    grid = [[percent(income), *(_cell(table[RULE.format(income, corporate)]["government"]) for corporate in RATES)] for income in RATES]
    return "\n".join([
        f"Made by `python -m rllib_macro.results_taxes fixed {_folder(runs)} {INTO}`.", "",
        markdown_table(_head("both rates"), lines), "",
        f"Means per agent and period over {_drawn(learned)}. Welfare of every pair of rates, income tax downwards, corporate tax to the "
        "right:", "",
        markdown_table(["income tax", *map(percent, RATES)], grid),
    ])


def relearned(runs: Sequence[Run]) -> str:
    """Consumers and firms learned under each pair of fixed rates: Markdown."""
    table = _by_rule(runs)
    best = max((rule for rule in table if rule), key=lambda rule: float(np.mean(table[rule]["government"])))
    told = ""
    if None in table:
        won, most = (float(np.mean(table[rule]["government"])) for rule in (None, best))
        told = f" The learned government reaches {number(won)}, {100 * (won / most - 1):+.1f} % of the best fixed rates, {_told(best)}."
    return "\n".join([
        f"Made by `python -m rllib_macro sweep rbc_fixed_taxes \"seeds={_seeds(runs)}\"`, then `python -m rllib_macro.results_taxes "
        f"relearned {_folder(runs)} {INTO}`.", "",
        markdown_table(_head("both rates"), [_row(_told(rule), means) for rule, means in table.items()]), "",
        f"Means per agent and period over {_drawn(runs)}.{told}",
    ])


def open_closed(runs: Sequence[Run]) -> str:
    """The economy with and without an export market, as learned: Markdown."""
    lines = []
    for name, is_open in (("open", True), ("closed", False)):
        own = [run for run in runs if bool(run.config.params.get("open_economy", True)) == is_open]
        if not own:
            raise RunError(f"none of the runs is of the {name} economy; train them with: python -m rllib_macro sweep rbc_open_closed")
        lines += [_row(f"{name}, seed {run.config.seed}", _played([run])) for run in own] + [_row(f"{name}, mean", _played(own))]
    return "\n".join([
        f"Made by `python -m rllib_macro sweep rbc_open_closed \"seeds={_seeds(runs)}\"`, then `python -m rllib_macro.results_taxes "
        f"open_closed {_folder(runs)} {INTO}`.", "", markdown_table(_head("economy"), lines), "",
        f"Means per agent and period over {_drawn(runs)}.",
    ])


@matplotlib.rc_context(plots.STYLE)
def figure(runs: Sequence[Run]) -> Any:
    """Rewards under fixed rates, with behaviour fixed and learned anew, beside those of the learned government."""
    anew, economy = _by_rule(runs), envs.load("rbc")
    if None not in anew:
        _learned(runs)  # says so
    rules = [RULE.format(rate, rate) for rate in RATES]
    kept = _compared(_learned(runs), rules)
    panels = []
    for type_ in TYPES:
        values = {name: [float(np.mean(means[rule][type_])) if rule in means else np.nan for rule in rules]
                  for name, means in (("behaviour fixed", kept), ("learned anew", anew))}
        title = "welfare" if type_ == "government" else f"{type_} reward"
        panels.append(plots.bars(title, f"{economy.agents[type_].reward_unit} per period", [percent(rate) for rate in RATES], values,
                                 line=("learned government", float(np.mean(anew[None][type_]))),
                                 across="income tax and corporate tax, both"))
    return plots.figure(panels, "Fixed taxes beside the learned government")


def percent(rate: float) -> str:
    """A share for a reader."""
    return f"{100 * rate:g} %"


def _learned(runs: Sequence[Run]) -> list[Run]:
    found = [run for run in runs if run.config.policies["government"].rule is None]
    if not found:
        raise RunError("none of the runs has a government that learns; train one with: python -m rllib_macro sweep rbc_fixed_taxes")
    return found


def _by_rule(runs: Sequence[Run]) -> dict[str | None, Means]:
    """{rule of the government, None where it learned: means of its runs}, by rate, the learned one first."""
    groups: dict[str | None, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (_rates(run.config.policies["government"].rule), run.config.seed)):
        groups.setdefault(run.config.policies["government"].rule, []).append(run)
    return {rule: _played(of) for rule, of in groups.items()}


def _rates(rule: str | None) -> tuple[float, ...]:
    return () if rule is None else tuple(float(x) for x in re.findall(r"=\s*([\d.]+)", rule))


def _told(rule: str | None) -> str:
    return "learned" if rule is None else " and ".join(dict.fromkeys(map(percent, _rates(rule))))


def _played(runs: Sequence[Run]) -> Means:
    """What the runs' own policies earn and measure, each on the evaluation seeds of its configuration."""
    outcomes = [evaluate.play(run.config, evaluate.modules(run.config, run.weights())) for run in runs]
    tables = [outcome.rewards | outcome.measures for outcome in outcomes]
    return {name: [float(np.mean(table[name])) for table in tables] for name in tables[0]}


def _compared(runs: Sequence[Run], rules: Sequence[str]) -> dict[str | None, Means]:
    """{rule, None for the learned government: means} where the government follows it and all others behave as they learned to."""
    found = [experiments.compare(run.config, evaluate.modules(run.config, run.weights()), "government", rules) for run in runs]
    means: dict[str | None, Means] = {}
    for i, rule in enumerate([None, *rules]):
        tables = [rows[i]["rewards"] | rows[i]["measures"] for rows in found]
        means[rule] = {name: [table[name] for table in tables] for name in tables[0]}
    return means


def _head(first: str) -> list[str]:
    units = {t: envs.load("rbc").agents[t].reward_unit for t in TYPES}
    rewards = [f"consumer reward ({units['consumer']})", f"firm reward ({units['firm']})", "welfare"]
    return [first, *rewards, *(name.replace("_", " ") for name in SHOWN)]


def _row(name: str, means: Means) -> list[str]:
    return [name, *(_cell(means[of]) for of in (*TYPES, *SHOWN))]


def _cell(values: Sequence[float]) -> str:
    """The mean over runs, and their range where there are several."""
    mean = number(float(np.mean(values)))
    return mean if len(values) == 1 else f"{mean} ({number(min(values))} to {number(max(values))})"


def _drawn(runs: Sequence[Run]) -> str:
    seeds, evaluation = sorted({run.config.seed for run in runs}), runs[0].config.evaluation
    several = "; in brackets the range over training seeds" if len(seeds) > 1 else ", a single training seed, whose spread is unknown"
    return (f"{evaluation.replicas} fresh replicas for each of {len(evaluation.seeds)} evaluation seeds, "
            f"training seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}{several}")


def _seeds(runs: Sequence[Run]) -> str:
    return f"[{', '.join(map(str, sorted({run.config.seed for run in runs})))}]"


def _folder(runs: Sequence[Run]) -> str:
    return f"runs/{runs[0].config.name}"


SECTIONS: dict[str, Callable[[Sequence[Run]], str]] = {"fixed": fixed, "relearned": relearned, "open_closed": open_closed}


def main(
    section: Annotated[str, typer.Argument(help=f"What is made: {', '.join(SECTIONS)} or figure.")],
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or the sweep, that it is made from.")],
    into: Annotated[Path | None, typer.Option(metavar="FILE", help="Markdown file with the section, or where the figure goes.")] = None,
) -> None:
    """Make one table, or the figure, of docs/results/rbc_taxes.md from run folders."""
    with plainly():
        runs = [Run.open(path) for folder in folders for path in runs_in(folder)]
        if section == "figure":
            into = into or Path("rbc_taxes.png")
            figure(runs).savefig(into, dpi=110)
            return typer.echo(str(into))
        if section not in SECTIONS:
            raise RunError(f"there is no section {section!r}; choose one of {', '.join(SECTIONS)} or figure")
        text = SECTIONS[section](runs)
        if into is not None:
            replace(into, section, text)
    typer.echo(text if into is None else str(into))


if __name__ == "__main__":
    typer.run(main)
