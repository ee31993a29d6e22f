"""The report of a run: one page that needs nothing but itself, written from the run folder.

Every number and chart is in the file, charts as inline SVG: nothing is loaded, it opens from disk and prints. No script runs, unless the
model adds an episode that moves, in a frame of its own.
"""
from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas

import envs
from envs.core.economy import Economy
from rllib_macro import extras, plots
from rllib_macro.config import Exponential, RunConfig, is_scheduled, to_yaml
from rllib_macro.env_runner import fixed_params
from rllib_macro.evaluate import BASELINES, beats
from rllib_macro.plots import Panel
from rllib_macro.run import Run, RunError

CSS = """
:root { --ink: #22303c; --quiet: #5b6772; --line: #dbe2e8; --soft: #f5f7f9; --accent: #0072b2; --good: #00694c; --bad: #a34700; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 1.5rem clamp(0.9rem, 3vw, 2.2rem) 4rem; }
h1 { margin: 0.4rem 0 0; font-size: 1.9rem; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin: 2.8rem 0 0.6rem; padding-top: 0.9rem; border-top: 1px solid var(--line); font-size: 1.3rem; }
h3 { margin: 1.4rem 0 0.4rem; font-size: 1rem; }
p { margin: 0.4rem 0 0.8rem; max-width: 78ch; }
a { color: var(--accent); }
.quiet, figcaption { color: var(--quiet); }
nav { margin: 1rem 0 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; font-size: 0.93rem; }
.verdict { padding: 0.7rem 1rem; border-left: 4px solid var(--good); background: var(--soft); max-width: none; }
.verdict.bad { border-color: var(--bad); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 11.5rem), 1fr)); gap: 0.9rem 1.4rem; margin: 1.3rem 0; }
.facts dt { color: var(--quiet); font-size: 0.83rem; }
.facts dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1.1rem 1.4rem; }
figure { margin: 0; min-width: 0; break-inside: avoid; }
figure svg { display: block; width: 100%; height: auto; }
iframe { width: 100%; height: 42rem; margin: 1rem 0; border: 1px solid var(--line); }
figcaption { font-size: 0.83rem; line-height: 1.4; padding: 0.1rem 0.4rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.93rem; font-variant-numeric: tabular-nums; }
.quiet.small { font-size: 0.88rem; }
th, td { padding: 0.32rem 0.9rem 0.32rem 0; text-align: left; vertical-align: top; }
th.n, td.n { text-align: right; white-space: nowrap; }
thead th { border-bottom: 1px solid var(--ink); font-weight: 600; white-space: nowrap; }
tbody tr.first > * { border-top: 1px solid var(--line); }
tbody tr.first .n { font-weight: 600; }
tbody th { font-weight: 600; }
.yes { color: var(--good); font-weight: 600; white-space: nowrap; } .no { color: var(--bad); font-weight: 600; white-space: nowrap; }
ol.phases { margin: 0.6rem 0 1.2rem; padding-left: 1.7rem; font-size: 0.9rem; columns: 24rem; column-gap: 2.2rem; }
ol.phases li { break-inside: avoid; overflow-wrap: anywhere; }
details { margin: 0.8rem 0; } summary { cursor: pointer; color: var(--accent); }
pre { margin: 0.6rem 0; padding: 0.9rem; background: var(--soft); overflow-x: auto; font-size: 0.82rem; line-height: 1.45; }
@media print { nav { display: none; } main { max-width: none; padding: 0; } body { font-size: 11pt; } h2 { break-after: avoid; }
  .grid { grid-template-columns: repeat(3, 1fr); } pre, .scroll { overflow: visible; white-space: pre-wrap; } }
"""
PARTS = {  # section: title, what it shows, what is said where there is nothing to show
    "rewards": ("Rewards", "Mean over agents, periods and replicas of each iteration: thin as played, thick as moving average. Numbered "
                "lines mark the phases of training:", "The recorded iterations hold no rewards."),
    "measures": ("The economy during training", "Measures of the same play; numbered lines are the phases listed above.",
                 "The recorded iterations hold no measures."),
    "learning": ("Learning", "What the learners reported, for each type in the iterations in which it trained.",
                 "No type learned in the recorded iterations, so there are no diagnostics."),
    "episode": ("One episode", "The first replica of the episode logged last: members of a type from bottom to top, or their spread where "
                "there are many, over the periods. What never changes is left out, and flows of the last period are not in the log.",
                "No episode has been logged yet: this is done when training ends."),
}


def write(run: Run) -> Path:
    """Write report.html into the run folder and return its path; RunError if nothing was recorded or a file is damaged."""
    frame, drawn = plots.rows(run), plots.sections(run)
    sections = {"result": ("Result", _result(run))}
    for name, (title, text, without) in PARTS.items():
        key = _phases(run.config) if name == "rewards" else ""
        sections[name] = (title, f"<p>{text}</p>{key}{grid(drawn[name], name)}" if name in drawn else f"<p>{without}</p>")
        if name == "rewards" and (own := extras.of(run.config)):
            sections |= own.sections(run)
    charts = grid(drawn["equilibrium"], "equilibrium") if "equilibrium" in drawn else ""
    sections["equilibrium"] = ("Is it an equilibrium?", _deviations(run) + charts)
    sections["parameters"] = ("Parameters", _parameters(run.config))
    sections["configuration"] = ("Configuration", _configuration(run))
    links = "".join(f'<a href="#{name}">{title}</a>' for name, (title, _) in sections.items())
    parts = "\n".join(f'<section id="{name}">\n<h2>{title}</h2>\n{body}\n</section>' for name, (title, body) in sections.items())
    economy = envs.load(run.config.economy)
    file, partial = run.path / "report.html", run.path / "report.html.partial"
    partial.write_text(f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(run.config.name)}</title>
<style>{CSS}</style>
</head>
<body>
<main>
<h1>{escape(run.config.name)}</h1>
<p class="quiet">{escape((economy.kernel.__doc__ or "").strip().partition(chr(10))[0])}</p>
<nav aria-label="Sections">{links}</nav>
{_facts(run.config, economy, frame)}
{parts}
</main>
</body>
</html>
""", encoding="utf-8")
    os.replace(partial, file)
    return file


# -- what was run


def _facts(config: RunConfig, economy: Economy, frame: pandas.DataFrame) -> str:
    """The run in a dozen numbers."""
    p, done, planned = fixed_params(config), int(frame["iteration"].iloc[-1]), config.stop.iterations
    seconds = frame.get("seconds", pandas.Series(np.nan, frame.index))
    spent = float(seconds.diff().where(lambda change: change >= 0, seconds).sum())  # the clock starts anew when a run is resumed
    steps = float(frame.get("agent_steps", pandas.Series(np.nan, frame.index)).sum())
    facts = {"economy": f"{config.economy}, version {economy.kernel.VERSION}"}
    for type_, agent in economy.agents.items():
        rule = config.policies[type_].rule
        facts[f"{type_} agents"] = f"{agent.number(p):,}" + (f", rule {rule}" if rule else "")
    facts |= {
        "periods of an episode": f"{economy.periods(p):,}",
        "replicas": f"{config.replicas:,}",
        "seed": str(config.seed),
        "iterations": f"{done:,}" + (f" of {planned:,} planned" if done < planned else ""),
        "time of training": _duration(spent),
        "agent-steps": f"{steps:,.0f}",
        "agent-steps per second": f"{steps / spent:,.0f}" if spent > 0 else "not known",
        "device": f"{config.device}, backend {config.backend}",
    }
    return '<dl class="facts">' + "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in facts.items()) + "</dl>"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.3g} s"


def _phases(config: RunConfig) -> str:
    items = [f"{f'After {k:,} iterations' if k else 'At the start'}: {'; '.join(what)}." for k, what in plots.phases(config).items()]
    return '<ol class="phases">' + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ol>"


# -- result


def _result(run: Run) -> str:
    """Trained play beside its baselines, seed by seed, and the economy it makes."""
    file = run.path / "evaluation.json"
    if not file.is_file():
        return "<p>Not evaluated yet: trained policies are compared with untrained, random and idle play when training ends.</p>"
    try:
        found = json.loads(file.read_text())
        seeds = [f"seed {seed}" for seed in found["seeds"]]
        measures = [[name.replace("_", " "), *_numbers(values, values)] for name, values in found["measures"].items()]
        text = _compared(run.config, found["rewards"], seeds, found["replicas"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is damaged ({error}); remove it, and the report leaves the comparison out") from None
    if not measures:
        return text
    table = html_table(["measure", "mean", *seeds], measures, "Mean over periods and replicas.")
    return f"{text}<details><summary>Measures of the economy under trained play</summary>{table}</details>"


def _compared(config: RunConfig, rewards: Mapping[str, Mapping[str, Sequence[float]]], seeds: Sequence[str], replicas: int) -> str:
    """What came out in one sentence, and the table behind it."""
    agents, lines, behind = envs.load(config.economy).agents, [], []
    played = [name for name in BASELINES if any(name in table for table in rewards.values())]
    for type_, table in rewards.items():
        values = [x for name in ("trained", *played) for x in table.get(name, ())]
        unit = f" ({agents[type_].reward_unit})" if type_ in agents and agents[type_].reward_unit else ""
        lines.append([type_ + unit, "trained", "", *_numbers(table["trained"], values)])
        for name in (name for name in played if name in table):
            won = f"{sum(mine > other for mine, other in zip(table['trained'], table[name]))} of {len(seeds)} seeds"
            if not beats(table, name):
                behind.append(f"the trained {type_} earns more than in {name} play on only {won}")
            lines.append(["", name, f"{'✓' if beats(table, name) else '✗'} on {won}", *_numbers(table[name], values)])
    scripted = "; ".join(f"{type_} follows the rule {policy.rule}" for type_, policy in config.policies.items() if policy.rule)
    if not lines:
        return f"<p>No type learned: {escape(scripted)}.</p>"
    sentence = (f"Not every baseline is beaten: {'; '.join(behind)}." if behind else
                f"Beside the trained others, every trained type earns more than in {_listed(played)} play, on all {len(seeds)} seeds.")
    caption = (f"Reward per agent and period in {replicas} fresh replicas for each seed. One type at a time plays otherwise than trained, "
               f"all others as trained{f'; {scripted}' if scripted else ''}.")
    table_ = html_table(["type", "play", "trained is ahead", "mean", *seeds], lines, caption)
    return f'<p class="verdict{" bad" if behind else ""}">{escape(sentence)}</p>{table_}'


def _listed(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else ""


def _numbers(values: Sequence[float], compared: Sequence[float]) -> list[str]:
    """Mean and values, all with the decimals that give the largest of `compared` four digits."""
    largest = max((abs(x) for x in compared if np.isfinite(x)), default=0.0)
    decimals = int(np.clip(3 - np.floor(np.log10(largest)), 0, 9)) if largest else 0
    return [f"{x:,.{decimals}f}".replace("-", "\N{MINUS SIGN}") for x in (float(np.mean(values)), *values)]


def _deviations(run: Run) -> str:
    """Every best response that was computed: what the deviator gained, how surely, and the verdict."""
    results = run.best_responses()
    if not results:
        command = f"python -m rllib_macro equilibrium {run.path}"
        return f"<p>Not asked yet: <code>{escape(command)}</code> trains best responses to this profile.</p>"
    lines = []
    for folder, found in results:
        try:
            profile, gain, low, high = (_numbers([found[name]], [found["profile"]])[1] for name in ("profile", "gain", "ci_low", "ci_high"))
            share = f"{100 * found['share_of_training_gain']:.2g} %" if found["share_of_training_gain"] is not None else "not known"
            lines.append([found["deviator"], str(found["checkpoint"]), profile, gain, f"{low} to {high}", share,
                          found["verdict"] + ("; the profile does not match the training log" if found["mismatch"] else "")])
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder / 'result.json'} is damaged ({error}); remove its folder to leave it out") from None
    caption = ("What one type, or one agent, gained by learning on alone against the frozen profile, on fresh paired episodes. Learning "
               "may miss a better deviation: each gain is a lower bound on epsilon, never an upper one.")
    head = ["deviator", "iteration", "reward of the profile", "gain", "95 % interval", "share of what training brought", "verdict"]
    return html_table(head, lines, caption, numbers=False)


# -- parameters and configuration


def _parameters(config: RunConfig) -> str:
    """The Params that are not as the economy declares them."""
    defaults = envs.load(config.economy).defaults()
    declared = {f.name: f for f in fields(defaults)}
    lines = []
    for name, given in config.params.items():
        about, default = declared[name].metadata, getattr(defaults, name)
        if given != default:
            lines.append([name, about["symbol"], _value(given), _value(default), about["unit"], about["doc"]])
    if not lines:
        return f"<p>All {len(declared)} Params of the economy have their default values.</p>"
    caption = f"Params that differ from their defaults, out of {len(declared)}."
    return html_table(["Param", "symbol", "in this run", "default", "unit", "meaning"], lines, caption, numbers=False)


def _value(given: Any) -> str:
    if isinstance(given, Exponential):
        return f"from {given.from_:g} towards {given.to:g}, exponential with {given.exp:g} iterations"
    if is_scheduled(given):
        return " → ".join(f"{value:g} (iteration {k:,})" for k, value in given)
    return ", ".join(f"{x:g}" for x in given) if isinstance(given, (tuple, list)) else str(given)


def _configuration(run: Run) -> str:
    """The resolved configuration, the versions it ran with, and the command that writes this page."""
    try:
        kept = json.loads((run.path / "params.json").read_text())
        versions = ", ".join(f"{name} {version}" for name, version in {"Python": kept["python"], **kept["libraries"]}.items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        versions = "not recorded"
    command = f"python -m rllib_macro report {run.path}"
    return (f"<p>Versions: {escape(versions)}. This page is written by <code>{escape(command)}</code>.</p>"
            f"<details><summary>Resolved configuration, defaults included</summary><pre>{escape(to_yaml(run.config))}</pre></details>")


# -- HTML


def grid(panels: Sequence[Panel], section: str) -> str:
    """Panels side by side, as many as there is room for."""
    return '<div class="grid">\n' + "\n".join(_figure(panel, section) for panel in panels) + "\n</div>"


def _figure(panel: Panel, section: str) -> str:
    chart = plots.svg(plots.figure([panel]), f"{section} {panel.title}", ", ".join(filter(None, (panel.title, panel.unit, panel.note))))
    return f"<figure>{chart}" + (f"<figcaption>{escape(panel.note)}</figcaption>" if panel.note else "") + "</figure>"


def html_table(head: Sequence[str], lines: Sequence[Sequence[str]], caption: str, numbers: bool = True) -> str:
    """A table of texts, escaped; with `numbers`, columns from `mean` on are aligned to the right. A verdict is coloured by its sign."""
    first = head.index("mean") if numbers else len(head)

    def row(tag: str, texts: Sequence[str]) -> str:
        kinds = ["n" if i >= first else {"✓": "yes", "✗": "no"}.get(text[:1], "") for i, text in enumerate(texts)]
        tags = ["th", *[tag] * (len(texts) - 1)]
        cells = "".join(f'<{tag} class="{kind}">{escape(text)}</{tag}>' for tag, kind, text in zip(tags, kinds, texts))
        return f'<tr class="{"first" if texts[0] else ""}">{cells}</tr>'

    body = "".join(row("td", line) for line in lines)
    return (f'<p class="quiet small">{escape(caption)}</p><div class="scroll" tabindex="0"><table><thead>{row("th", head)}</thead>'
            f"<tbody>{body}</tbody></table></div>")
