"""Sections of docs/results/monetary.md, made from experiments and runs."""
from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from rllib_macro import evaluate, experiments
from rllib_macro.results_2022 import replace
from rllib_macro.run import Run, RunError
from rllib_macro.subject import subject
from rllib_macro.terminal import PROGRAM

ECONOMY = "monetary"
PAIRS = 64
SHOCKS = {  # what the rows of the table are called: shock, size, quarters in a row
    "policy rate +100 bp": ("policy_rate", 0.01, 1),
    "demand -2 %": ("demand", -0.02, 1),
    "purchases +1 % of output": ("purchases", 0.05, 1),
    "loan spread +200 bp, 4 quarters": ("loan_spread", 0.02, 4),
    "productivity -1 %": ("tfp", -0.01, 1),
    "markup +2 %": ("cost_push", 0.02, 1),
}
SHOWN = ("output", "investment", "unemployment", "inflation_4q", "real_credit")
SLUMP = ("demand", -0.024, 6)
BAR_TAYLOR, BAR_CONSTANT = 0.25, 0.15  # what the learned loss should lie below Taylor (1993) on the same steps, and below the best constant


def impulses(_: Sequence[Path] = ()) -> str:
    """Mean responses over quarters 4 to 12 and their largest values, scripted play; and what the lower bound costs in a slump."""
    at_rest = subject(ECONOMY)
    lines = [f"Made by `python -m rllib_macro.results_monetary impulses --into docs/results/monetary.md`; one shock at a time: "
             f"`{PROGRAM} impulse {ECONOMY} --shock policy_rate=0.01 --pairs {PAIRS}`.", "",
             "| shock | " + " | ".join(f"{name}: mean, largest (quarter)" for name in SHOWN) + " | signs that do not hold |",
             "| --: | " + "--: | " * len(SHOWN) + "--: |"]
    for label, (shock, size, quarters) in SHOCKS.items():
        told = experiments.impulse(at_rest.config, at_rest.policies, {shock: size}, 1, quarters=quarters, seeds=(1000,), replicas=PAIRS)
        cells = [_cell(told.responses[name], told.first) for name in SHOWN]
        missed = [f"{sign.measure} in quarters {sign.quarters[0]} to {sign.quarters[1]}" for sign in told.signs if not sign.holds]
        lines.append(f"| {label} | " + " | ".join(cells) + f" | {', '.join(missed) or 'none'} |")
    lost = {bound: _lost(bound) for bound in (0.0, -1.0)}
    lines += ["", f"Percent, or points of rates and shares; means of quarters 4 to 12 with half of their 95 % interval over {PAIRS} pairs, "
              "and the largest response with its quarter; 1,000 consumers. Six quarters of demand "
              f"{100 * SLUMP[1]:g} % cost {lost[0.0]:.1f} %-quarters of output over 24 quarters where the policy rate cannot fall below "
              f"zero, and {lost[-1.0]:.1f} where it can: the bound makes the slump {100 * (lost[0.0] / lost[-1.0] - 1):.0f} % deeper."]
    return "\n".join(lines)


def _cell(of: experiments.Response, first: int) -> str:
    """Mean over quarters 4 to 12 with half its interval, and the largest response."""
    window = slice(first + 3, first + 12)
    mean, half = np.mean(of.mean[window]), np.mean(np.subtract(of.high, of.low)[window]) / 2
    worst = first + int(np.argmax(np.abs(of.mean[first:])))
    return f"{mean:.2f} ± {half:.2f}, {of.mean[worst]:.2f} ({worst - first})"


def _lost(bound: float) -> float:
    """Output lost in a slump of demand, percent times quarters over 24 quarters."""
    at_rest = subject(ECONOMY, [f"params.lower_bound={bound}"])
    shock, size, quarters = SLUMP
    told = experiments.impulse(at_rest.config, at_rest.policies, {shock: size}, 1, quarters=quarters, seeds=(1000,), replicas=PAIRS)
    return -float(np.sum(told.responses["output"].mean[told.first:told.first + 24]))


def central_bank(files: Sequence[Path]) -> str:
    """What `compare --json` found, as Markdown."""
    found = json.loads(_only(files).read_text(encoding="utf-8"))
    rows = {row["rule"]: row for row in found["rows"]}
    names = [name for name in rows if name.startswith("learned")]
    if not names:
        raise RunError(f"{files[0]} has no learned policy; make it with: {PROGRAM} compare {ECONOMY} --type central_bank --rules learned")
    lines = [f"Made by `{PROGRAM} compare {ECONOMY} --type central_bank --rules {','.join(_rules(rows))} --json > compare.json`, then "
             "`python -m rllib_macro.results_monetary central_bank compare.json --into docs/results/monetary.md`.", "",
             "| rule | loss (standard error) | " + " | ".join(f"less that of {name}" for name in names) + " |",
             "| --: | --: | " + "--: | " * len(names)]
    for row in rows.values():
        shown = [_interval(row["difference"].get(other)) for other in names]
        lines.append(f"| {_named(row)} | {row['loss']['mean']:.2f} ({row['loss']['se']:.2f}) | {' | '.join(shown)} |")
    lines += ["", "Positive: the rule loses more than the learned policy, with the 95 % interval of the paired difference."]
    for rule, bar in (("taylor93_steps", BAR_TAYLOR), ("best_constant", BAR_CONSTANT)):
        if rule in rows:
            cuts = [1 - rows[name]["loss"]["mean"] / rows[rule]["loss"]["mean"] for name in names]
            lines.append(f"Against {rule} the learned policies lose {', '.join(f'{100 * cut:.0f} %' for cut in cuts)} less "
                         f"(bar: {100 * bar:.0f} %, {'met' if min(cuts) >= bar else 'missed'}).")
    for name in names:
        lines += [_read(name, rows[name])]
    return "\n".join(lines)


def _rules(rows: Mapping[str, Any]) -> list[str]:
    """Names as they were asked for: learned once, the nulls not at all."""
    asked = ["learned" if name.startswith("learned") else name for name in rows]
    return list(dict.fromkeys(name for name in asked if name not in ("random", "untrained")))


def _named(row: Mapping[str, Any]) -> str:
    """A rule, with what a search found."""
    found = row.get("found")
    return row["rule"] + (f": {found['rule']}" if found else "")


def _interval(of: Mapping[str, float] | None) -> str:
    return "" if of is None else f"{of['mean']:.2f} ({of['low']:.2f} to {of['high']:.2f})"


def _read(name: str, row: Mapping[str, Any]) -> str:
    """Steps and fitted rule of a learned policy in a sentence."""
    steps = row.get("chosen", {}).get("rate_step", {})
    fitted = row.get("readout", {})
    chosen = ", ".join(f"{10_000 * float(step):+.0f} bp {100 * share:.0f} %" for step, share in steps.items())
    return f"`{name}` chooses {chosen or 'no steps'}." + (f" {_fitted(fitted)}" if fitted else "")


def _fitted(of: Mapping[str, Any]) -> str:
    terms = ", ".join(f"{key} {value['value']:.3f} ({value['se']:.3f})" for key, value in of["coefficients"].items())
    lasting = ", ".join(f"{key} {value['value']:.2f} ({value['se']:.2f})" for key, value in of["long_run"].items())
    return (f"As a linear rule for the rate: {terms}; R2 {of['r2']:.2f}, of changes {of['r2_change']:.2f}; in the long run {lasting}.")


def together(folders: Sequence[Path]) -> str:
    """A run in which all types learn beside the same economy with all types scripted: rewards and measures on fresh seeds."""
    run = Run.open(_only(folders))
    trained = evaluate.modules(run.config, run.weights(None))
    learners = [type_ for type_, policy in run.config.policies.items() if policy.rule is None]
    plays = {"learned": evaluate.play(run.config, trained),
             "scripted": evaluate.play(run.config, trained, dict.fromkeys(learners, "scripted")),
             "random": evaluate.play(run.config, trained, dict.fromkeys(learners, "random"))}
    lines = [f"Made by `{PROGRAM} train {run.config.name}`, then `python -m rllib_macro.results_monetary together runs/{run.config.name} "
             "--into docs/results/monetary.md`.", "", "| | all learned | all scripted | all random |", "| --: | --: | --: | --: |"]
    for type_ in learners:
        lines.append(f"| reward of {type_} | " + " | ".join(f"{np.mean(of.rewards[type_]):.4g}" for of in plays.values()) + " |")
    for name in plays["learned"].measures:
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(f"{np.mean(of.measures[name]):.4g}" for of in plays.values()) + " |")
    share = np.mean(plays["learned"].measures["output"]) / np.mean(plays["scripted"].measures["output"])
    seeds, replicas = len(run.config.evaluation.seeds), run.config.evaluation.replicas
    return "\n".join([*lines, "", f"Means over episodes of {run.config.params.get('horizon', 40)} quarters, {replicas} replicas for each "
                      f"of {seeds} seeds. Output is {100 * share:.1f} % of that under the scripts."])


def _only(files: Sequence[Path]) -> Path:
    if len(files) != 1:
        raise RunError(f"one file or folder is needed, got {len(files)}")
    return files[0]


SECTIONS: dict[str, Callable[[Sequence[Path]], str]] = {"impulses": impulses, "central_bank": central_bank, "together": together}


def main(
    section: Annotated[str, typer.Argument(help=f"Which section: {', '.join(SECTIONS)}.")],
    inputs: Annotated[list[Path] | None, typer.Argument(help="The file or run folder that it is made from.")] = None,
    into: Annotated[Path | None, typer.Option(metavar="FILE", help="Markdown file in which the section is replaced.")] = None,
) -> None:
    """Make one section of docs/results/monetary.md."""
    try:
        if section not in SECTIONS:
            raise RunError(f"there is no section {section!r}; choose one of {', '.join(SECTIONS)}")
        text = SECTIONS[section](inputs or [])
        if into is not None:
            replace(into, section, text)
    except (ValueError, OSError, KeyError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(text if into is None else str(into))


if __name__ == "__main__":
    typer.run(main)
