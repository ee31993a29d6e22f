"""Sections of docs/results/monetary.md, made from experiments and runs."""
from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from rllib_macro import evaluate, experiments, scored_play
from rllib_macro.config import RunConfig
from rllib_macro.crises import CRISES as KNOWN
from rllib_macro.crises import Crisis
from rllib_macro.crises import together as crisis_of
from rllib_macro.moments import hodrick_prescott
from rllib_macro.run import Run, RunError
from rllib_macro.sections import replace
from rllib_macro.subject import subject
from rllib_macro.terminal import PROGRAM, plainly

ECONOMY = "monetary"
COMPARE = f"{PROGRAM} compare {ECONOMY} --type central_bank --rules learned"
CRISES = (("spread",), ("losses",), ("losses", "bail_in"), ("losses", "forbearance"), ("losses", "spread"), ("losses", "spread", "bail_in"),
          ("losses", "spread", "buffer_release"), ("capital_rule",))
LEARNED_CRISES = (("spread",), ("losses",), ("losses", "spread"))
CRISIS_SHOWN = ("output", "real_credit", "failures", "debt_ratio")
QUARTERS, DROPPED = 344, 100
VARIANTS = {  # label: Params
    "as it is": (),
    "benefits of 20 % of the mean wage": ("replacement=0.2",),
    "benefits of 70 %": ("replacement=0.7",),
    "flat tax, no transfers": ("transfer=0", "income_tax=0.20"),
    "higher tax, twice the transfers": ("transfer=0.124", "income_tax=0.34"),
    "real rate of the rule 0 %": ("neutral_rate=0",),
    "real rate of the rule 3 %": ("neutral_rate=0.03",),
    "full reserves: banks hold all deposits as reserves": ("reserve_ratio=1",),
    "no credit": ("leverage_limit=0", "leverage_target=0", "credit_line=0"),
    "consumers alike in ability, patience and ownership": ("ability_volatility=0", "star_entry=0", "impatient=0", "owners=1",
                                                           "ownership_tail=1000"),
    "flexible prices: all may change, by as much as they like": ("reprice_chance=1", "price_step=10", "cost_memory=1"),
}
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
    eased = _lost(0.0, "easing")
    lines += ["", f"Percent, or points of rates and shares; means of quarters 4 to 12 with half of their 95 % interval over {PAIRS} pairs, "
              "and the largest response with its quarter; 1,000 consumers. Six quarters of demand "
              f"{100 * SLUMP[1]:g} % cost {lost[0.0]:.1f} %-quarters of output over 24 quarters where the policy rate cannot fall below "
              f"zero, and {lost[-1.0]:.1f} where it can: the bound makes the slump {100 * (lost[0.0] / lost[-1.0] - 1):.0f} % deeper. "
              "Where the central bank also buys assets at the bound, a percent of annual output each quarter, to sell them afterwards "
              f"(`easing`), the slump costs {eased:.1f}."]
    return "\n".join(lines)


def _cell(of: experiments.Response, first: int) -> str:
    """Mean over quarters 4 to 12 with half its interval, and the largest response."""
    window = slice(first + 3, first + 12)
    mean, half = np.mean(of.mean[window]), np.mean(np.subtract(of.high, of.low)[window]) / 2
    worst = first + int(np.argmax(np.abs(of.mean[first:])))
    return f"{mean:.2f} ± {half:.2f}, {of.mean[worst]:.2f} ({worst - first})"


def _lost(bound: float, rule: str = "inertial") -> float:
    """Output lost in a slump of demand, percent times quarters over 24 quarters; all start from the same states."""
    at_rest = subject(ECONOMY, [f"policies.central_bank.rule={rule}"])
    shock, size, quarters = SLUMP
    told = experiments.impulse(at_rest.config, at_rest.policies, {shock: size}, 1, quarters=quarters, seeds=(1000,), replicas=PAIRS,
                               within={"lower_bound": bound})
    return -float(np.sum(told.responses["output"].mean[told.first:told.first + 24]))


def crises(_: Sequence[Path] = ()) -> str:
    """What credit crises cost against the same draws without them, scripted play: output over 24 quarters, credit, failures."""
    at_rest = subject(ECONOMY)
    lines = ["Made by `python -m rllib_macro.results_monetary crises --into docs/results/monetary.md`.", "",
             "| crisis | output lost in 24 quarters, %-quarters | real credit after 12 quarters, % | failures in 12 quarters, points | "
             "debt ratio after 24 quarters, points |", "| --: | --: | --: | --: | --: |"]
    calm = _after(None, at_rest.config, at_rest.policies)
    for names in CRISES:
        hit = _after(crisis_of(ECONOMY, names), at_rest.config, at_rest.policies)
        credit = 100 * np.log(hit["real_credit"] / calm["real_credit"])
        cells = (_output_lost(calm, hit), credit[:, 12], 100 * (hit["failures"] - calm["failures"])[:, :12].sum(1),
                 100 * (hit["debt_ratio"] - calm["debt_ratio"])[:, 24])
        shown = (experiments.interval(cell) for cell in cells)
        lines.append(f"| {' + '.join(names)} | " + " | ".join(f"{of['mean']:.1f} ± {of['mean'] - of['low']:.1f}" for of in shown) + " |")
    return "\n".join([*lines, "", f"Against the same {PAIRS} worlds with the same draws and no crisis, with half of the 95 % interval; the "
                      f"rules of a crisis hold from the start of an episode. {_told()}"])


def _after(crisis: Crisis | None, config: RunConfig, policies: Mapping[str, Any]) -> experiments.Paths:
    """What a crisis is measured by, from its first quarter on; None: the same worlds without one."""
    shocks, params = (_by_period(crisis), crisis.params) if crisis else ({}, {})
    played = experiments.paths(config, policies, 1000, PAIRS, shocks, within=params)
    return {name: played[name][:, 2:] for name in CRISIS_SHOWN}


def _output_lost(calm: experiments.Paths, hit: experiments.Paths) -> np.ndarray:
    """Percent times quarters over 24 quarters, of each pair."""
    return -100 * np.log(hit["output"] / calm["output"])[:, :24].sum(1)


def _by_period(crisis: Crisis) -> dict[int, dict[str, float]]:
    """Shocks of a crisis by period: {period: {shock: size}}."""
    shocks: dict[int, dict[str, float]] = {}
    for name, (first, size, *length) in crisis.impulses.items():
        for period in range(first, first + (length[0] if length else 1)):
            shocks.setdefault(period, {})[name] = size
    return shocks


def _told() -> str:
    """What each crisis is."""
    names = dict.fromkeys(name for names in CRISES for name in names)
    return "; ".join(f"`{name}`: {KNOWN[ECONOMY][name].does}" for name in names) + "."


def fiscal(_: Sequence[Path] = ()) -> str:
    """Output for each unit of government purchases, under rules of the central bank, scripted play otherwise."""
    lines = ["Made by `python -m rllib_macro.results_monetary fiscal --into docs/results/monetary.md`.", "",
             "| central bank | government | output for a unit of purchases, 8 quarters | 4q inflation, points, mean of 8 quarters | "
             "debt ratio after 24 quarters, points |", "| --: | --: | --: | --: | --: |"]
    for bank, government in itertools.product(("inertial", "fixed_rate(rate=0)"), ("scripted", "balanced_budget")):
        without, bought = _purchases(evaluate.scripted(subject(ECONOMY).config, {"central_bank": bank, "government": government}), {})
        prices, debt = (100 * (bought[name] - without[name]) for name in ("inflation_4q", "debt_ratio"))
        cells = (_multiplier(without, bought), *(f"{of['mean']:.2f} ± {of['mean'] - of['low']:.2f}" for of in (
            experiments.interval(prices[:, 2:10].mean(1)), experiments.interval(debt[:, 26]))))
        lines.append(f"| {bank} | {government} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Purchases rise by 1 % of output, of which 95 % are left a quarter later; {PAIRS} pairs, half of the 95 "
                      "% interval. `fixed_rate(rate=0)` keeps the rate at zero whatever happens, as at the lower bound."])


def _purchases(config: RunConfig, policies: Mapping[str, Any]) -> list[experiments.Paths]:
    """The same worlds without and with more purchases."""
    shock, size, _quarters = SHOCKS["purchases +1 % of output"]
    return [experiments.paths(config, policies, 1000, PAIRS, shocks) for shocks in ({}, {1: {shock: size}})]


def _multiplier(without: experiments.Paths, bought: experiments.Paths) -> str:
    """Output for a unit of purchases over eight quarters, a ratio of means, with half of its 95 % interval."""
    spent, made = (bought[name][:, 2:10].sum(1) - without[name][:, 2:10].sum(1) for name in ("purchases", "output"))
    ratio = made.mean() / spent.mean()
    half = experiments.interval((made - ratio * spent) / spent.mean())
    return f"{ratio:.2f} ± {half['mean'] - half['low']:.2f}"


def learned(folders: Sequence[Path]) -> str:
    """Runs beside the same economy with all types scripted: crises, purchases, and who owns what at the end of an episode."""
    if not folders:
        raise RunError("name the folders of runs whose policies play, such as runs/monetary_residual")
    lines = [f"Made by `python -m rllib_macro.results_monetary learned {' '.join(map(str, folders))} --into docs/results/monetary.md`.", "",
             "| who plays | " + " | ".join(f"output lost in 24 quarters, %-quarters: {' + '.join(names)}" for names in LEARNED_CRISES)
             + " | output for a unit of purchases, 8 quarters | wealth Gini | bottom 50 % | income Gini |",
             "| --: | " + "--: | " * (len(LEARNED_CRISES) + 4)]
    for folder in folders:
        run = Run.open(folder)
        trained = evaluate.modules(run.config, run.weights(None))
        types = [type_ for type_, policy in run.config.policies.items() if policy.rule is None]
        for who, config, policies in (("scripts", evaluate.scripted(run.config, dict.fromkeys(types, "scripted")), {}),
                                      (f"learned {', '.join(types)}", run.config, trained)):
            calm = _after(None, config, policies)
            hit = (_after(crisis_of(ECONOMY, names), config, policies) for names in LEARNED_CRISES)
            lost = [experiments.interval(_output_lost(calm, of)) for of in hit]
            owned = scored_play.inequality_after(config, policies, seed=1000, replicas=PAIRS)
            cells = (*(f"{of['mean']:.1f} ± {of['mean'] - of['low']:.1f}" for of in lost), _multiplier(*_purchases(config, policies)),
                     *(f"{owned[name].mean():.3f}" for name in ("gini", "bottom_50_share", "income_gini")))
            lines.append(f"| {run.config.name}: {who} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Against the same {PAIRS} worlds with the same draws, with half of the 95 % interval; who owns what is "
                      "measured in the last quarter of an episode."])


def variants(_: Sequence[Path] = ()) -> str:
    """Long scripted play under other parameters: inequality, credit, limit cases."""
    lines = ["Made by `python -m rllib_macro.results_monetary variants --into docs/results/monetary.md`.", "",
             "| economy | wealth Gini | top 10 % | bottom 50 % | income Gini | unemployment, % | inflation, % | std output, % | "
             "real credit over output | relative std consumption | relative std investment | relative std real credit |",
             "|" + " --: |" * 12]
    for label, settings in VARIANTS.items():
        of = scored_play.behaviours(ECONOMY, ["scripted"], settings, QUARTERS)[0]
        found = scored_play.series(of, 0, 16, QUARTERS, DROPPED)
        kept = {name: series[:, DROPPED:] for name, series in found.items() if series.ndim == 2}
        swing = {name: hodrick_prescott(100 * np.log(kept[name])).std(1).mean()
                 for name in ("output", "consumption", "investment", "real_credit")}
        cells = (*(f"{found[name].mean():.2f}" for name in ("gini", "top_10_share", "bottom_50_share", "income_gini")),
                 *(f"{100 * kept[name].mean():.1f}" for name in ("unemployment", "inflation")), f"{swing['output']:.2f}",
                 f"{(kept['real_credit'] / kept['output']).mean():.2f}",
                 *(f"{swing[name] / swing['output']:.2f}" for name in ("consumption", "investment", "real_credit")))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Means of 16 replicas and {QUARTERS - DROPPED} quarters after {DROPPED}, 4,000 consumers; cycles by the "
                      "filter of Hodrick and Prescott, relative ones over that of output."])


def central_bank(files: Sequence[Path]) -> str:
    """What `compare --json` found, as Markdown."""
    found = json.loads(_only(files).read_text(encoding="utf-8"))
    if "rows" not in found:
        raise RunError(f"{files[0]} is not what compare prints; make it with: {COMPARE} --json > {files[0]}")
    rows = {row["rule"]: row for row in found["rows"]}
    names = [name for name in rows if name.startswith("learned")]
    if not names:
        raise RunError(f"{files[0]} has no learned policy; make it with: {COMPARE}")
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


SECTIONS: dict[str, Callable[[Sequence[Path]], str]] = {
    "impulses": impulses, "crises": crises, "fiscal": fiscal, "variants": variants, "central_bank": central_bank, "together": together,
    "learned": learned}


def main(
    section: Annotated[str, typer.Argument(help=f"Which section: {', '.join(SECTIONS)}.")],
    inputs: Annotated[list[Path] | None, typer.Argument(help="The file or run folders that it is made from.")] = None,
    into: Annotated[Path | None, typer.Option(metavar="FILE", help="Markdown file in which the section is replaced.")] = None,
) -> None:
    """Make one section of docs/results/monetary.md."""
    with plainly():
        if section not in SECTIONS:
            raise RunError(f"there is no section {section!r}; choose one of {', '.join(SECTIONS)}")
        text = SECTIONS[section](inputs or [])
        if into is not None:
            replace(into, section, text)
    typer.echo(text if into is None else str(into))


if __name__ == "__main__":
    typer.run(main)
