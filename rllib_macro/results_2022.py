"""Tables of docs/results/rbc_2022.md, made from run folders so that no number is copied by hand.

    python -m rllib_macro.results_2022 smoke runs/rbc_2022_smoke_* --into docs/results/rbc_2022.md
    python -m rllib_macro.results_2022 compressed runs/rbc_2022_compressed --into docs/results/rbc_2022.md
    python -m rllib_macro.results_2022 equilibrium runs/rbc_2022_compressed --into docs/results/rbc_2022.md

replace the text between the comments `<!-- smoke: begin -->` and `<!-- smoke: end -->`, or `compressed`, or print it without --into.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas
import typer
from scipy import stats

import envs
from rllib_macro import plots
from rllib_macro.run import Run, RunError
from rllib_macro.sections import replace

# The learning smoke test of the released program (its sweep settings, 8 replicas, one run on a CPU): only consumers learn.
PUBLISHED: dict[str, tuple[str, dict[int, float], str]] = {
    "reward/consumer": ("consumer reward", {0: 5.21, 10: 5.66, 50: 5.52, 100: 5.68, 150: 5.80, 199: 5.84}, "{:.2f}"),
    "reward/firm": ("firm reward", {0: -42.0e3, 10: -67.6e3, 50: -62.1e3, 100: -68.1e3, 150: -71.1e3, 199: -74.9e3}, "{:,.0f}"),
    "measure/hours": ("mean hours", {0: 504, 10: 650, 50: 629, 100: 678, 150: 702, 199: 708}, "{:.0f}"),
}
COMMAND = "python -m rllib_macro train tune_configs/rbc_2022.yaml stop.iterations=200 replicas=8 seed=N name=rbc_2022_smoke_N"


def smoke(runs: Sequence[Run]) -> str:
    """The smoke test of several seeds beside the published run, as Markdown; RunError if a run does not have its 200 iterations.

    A published number is one more draw from the distribution of which the seeds are a sample: it is expected, with probability 95 %,
    within mean +- t s sqrt(1 + 1/n).
    """
    if len(runs) < 2:
        raise RunError(f"the spread over seeds needs at least 2 runs, got {len(runs)}; train more with other seeds")
    tables = [run.progress().set_index("iteration") for run in runs]
    episodes = list(next(iter(PUBLISHED.values()))[1])
    lines, inside, ranged = [], 0, 0
    for episode in episodes:
        cells = [str(episode)]
        for column, (_, numbers, form) in PUBLISHED.items():
            values = np.array([_at(run, table, column, episode + 1) for run, table in zip(runs, tables)])
            half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / len(values))
            inside += abs(numbers[episode] - values.mean()) <= half
            ranged += values.min() <= numbers[episode] <= values.max()
            cells += [form.format(x) for x in (numbers[episode], values.mean(), values.std(ddof=1))]
            cells[-2:] = [f"{cells[-2]} ± {cells[-1]}", f"{form.format(values.min())} to {form.format(values.max())}"]
        lines.append(cells)
    names = [name for name, _, _ in PUBLISHED.values()]
    head = ["episode", *(text for name in names for text in (f"{name}, published", f"{len(runs)} seeds", "range"))]
    seeds = ", ".join(str(run.config.seed) for run in runs)
    count = len(episodes) * len(PUBLISHED)
    return "\n".join([
        f"Made by `{COMMAND}` for N = {seeds}, then `python -m rllib_macro.results_2022 smoke runs/rbc_2022_smoke_* --into "
        "docs/results/rbc_2022.md`.", "",
        markdown_table(head, lines), "",
        f"Means over replicas, periods and agents of one iteration; mean ± standard deviation and range over {len(runs)} seeds. "
        f"{inside} of the {count} published numbers lie within the 95 % prediction interval of the seeds, {ranged} within their range."
        f"{_duration(tables)}",
    ])


# Phases of the published curves (figure 3 of the paper, beside an independent replication): share of a window's length E at which a phase
# begins and ends, what the published runs show there. E is 30,000 in the paper.
PHASES: tuple[tuple[str, float, float, dict[str, str]], ...] = (
    ("only consumers learn, terms masked", 0, 1 / 3, {"price": "1000", "wage": "19.8", "firm": "-43K to -79K"}),
    ("1500 is open, 500 is not", 1 / 3, 1 / 2, {"price": "1225", "wage": "19.8", "firm": "-55K"}),
    ("500 is open, 2000 is not", 1 / 2, 2 / 3, {"price": "985 to 990", "wage": "19.5", "firm": "-65K to -68K"}),
    ("2000 is open", 2 / 3, 1, {"price": "1203 to 1215", "wage": "19.8", "firm": "-67K to -90K"}),
    ("firms learn, taxes still low", 1.2, 1.5, {"price": "1480 to 2260", "wage": "7.0 to 9.5", "firm": "38K to 100K",
                                                "welfare": "1200 to 2630"}),
    ("taxes of an untrained government near 50 %", 1.9, 2, {"price": "2090 to 2100", "wage": "12 to 12.6", "firm": "42K to 45K",
                                                          "welfare": "1350"}),
    ("the government has learned to cut them", 2.2, 3, {"price": "2340", "wage": "9.4 to 9.5", "firm": "125K to 130K", "welfare": "3320"}),
    ("later", 3, 5, {"price": "2145 to 2280", "wage": "8.5 to 10.2", "firm": "122K to 144K", "welfare": "3160 to 4050"}),
)
COLUMNS = {"price": ("measure/price", "{:,.0f}"), "wage": ("measure/wage", "{:.1f}"), "firm": ("reward/firm", "{:,.0f}"),
           "welfare": ("reward/government", "{:,.0f}")}


def compressed(runs: Sequence[Run]) -> str:
    """Every phase of the compressed curriculum beside the published runs, means over its iterations; RunError if it is not trained."""
    run, = runs
    table, window = run.progress().set_index("iteration"), run.config.policies["firm"].train_from
    lines = []
    for name, begin, end, published in PHASES:
        rows = table.loc[round(begin * window) + 1:round(end * window)]
        if rows.empty:
            raise RunError(f"{run.path} has not reached iteration {round(begin * window)}; go on with: train --resume {run.path}")
        cells = [text for short, (column, form) in COLUMNS.items() for text in (published.get(short, ""), form.format(rows[column].mean()))]
        lines.append([name, f"{round(begin * window):,} to {round(end * window):,}", *cells])
    head = ["phase", "iterations", *(text for short in COLUMNS for text in (f"{short}, published", "here"))]
    return "\n".join([
        f"Made by `python -m rllib_macro train tune_configs/{run.config.name}.yaml`, then `python -m rllib_macro.results_2022 compressed "
        f"runs/{run.config.name} --into docs/results/rbc_2022.md`.", "", markdown_table(head, lines), "",
        f"Means over the iterations of a phase, {run.config.replicas} replicas, seed {run.config.seed}; published ranges span the paper's "
        f"figure and an independent replication, read off plots.{_duration([table])}",
    ])


def equilibrium(runs: Sequence[Run]) -> str:
    """The epsilon table of a run as `equilibrium RUN` found it; RunError if it was not asked."""
    run, = runs
    found = [result for _, result in run.best_responses()]
    if not found:
        raise RunError(f"{run.path} has no best responses; make them with: python -m rllib_macro equilibrium {run.path}")
    def number(x: float | None) -> str:
        return "" if x is None else f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"

    lines = [[r["deviator"], number(r["training_log"]), number(r["profile"]) + (" (differs)" if r["mismatch"] else ""), number(r["gain"]),
              f"{number(r['ci_low'])} to {number(r['ci_high'])}",
              "" if r["share_of_training_gain"] is None else f"{100 * r['share_of_training_gain']:.2g} %", r["verdict"]] for r in found]
    first = found[0]
    page = f"docs/results/{'rbc_2022' if run.config.economy == 'rbc' else 'monetary'}.md"
    return "\n".join([
        f"Made by `python -m rllib_macro equilibrium runs/{run.config.name} --iterations {first['iterations']} "
        f"--seeds {len(first['gains'])} --episodes {first['episodes']}`, then `python -m rllib_macro.results_2022 equilibrium "
        f"runs/{run.config.name} --into {page}`.", "",
        markdown_table(["deviator", "reward in the training log", "of the profile on fresh seeds", "gain", "95 % interval",
                "share of what training brought", "verdict"], lines), "",
        f"Iteration {first['checkpoint']}, {first['episodes']} paired episodes for each of {len(first['gains'])} training seeds. "
        "Learning may miss a better deviation: each gain is a lower bound on epsilon.",
    ])


def _duration(tables: Sequence[pandas.DataFrame]) -> str:
    """How long training took, where that was recorded."""
    seconds = [table["seconds"].iloc[-1] for table in tables if "seconds" in table]
    if len(seconds) == 1:
        return f" Training took {seconds[0] / 60:.0f} minutes on a machine with other work to do."
    return f" Training took {min(seconds):.0f} to {max(seconds):.0f} seconds for each seed." if seconds else ""


def _at(run: Run, table: pandas.DataFrame, column: str, iteration: int) -> float:
    try:
        return float(table[column].loc[iteration])
    except KeyError:
        raise RunError(f"{run.path} has no {column} in iteration {iteration}; train it with: {COMMAND}") from None


def markdown_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["--:"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


SHOWN = ("consumer", "firm", "government", "price", "wage", "hours", "income tax", "corporate tax", "output")


def figure(run: Run) -> Any:
    """Rewards of the types, then prices, wages, hours, taxes and output over the iterations of a run."""
    economy, frame = envs.load(run.config.economy), plots.rows(run)
    panels = {panel.title: panel for panel in (*plots.rewards(run.config, economy, frame), *plots.measures(run.config, economy, frame))}
    return plots.figure([panels[title] for title in SHOWN], "The compressed 2022 curriculum")


SECTIONS: dict[str, Callable[[Sequence[Run]], str]] = {"smoke": smoke, "compressed": compressed, "equilibrium": equilibrium}


def main(
    section: Annotated[str, typer.Argument(help=f"What is made: {', '.join(SECTIONS)} or figure.")],
    runs: Annotated[list[Path], typer.Argument(help="The run folders that it is made from.")],
    into: Annotated[Path | None, typer.Option(metavar="FILE", help="Markdown file with the section, or where the figure goes.")] = None,
) -> None:
    """Make one table, or the figure, of docs/results/rbc_2022.md from run folders."""
    try:
        if section == "figure":
            into = into or Path("rbc_2022_compressed.png")
            figure(Run.open(runs[0])).savefig(into, dpi=90)
            return typer.echo(str(into))
        text = SECTIONS[section]([Run.open(path) for path in runs])
        if into is not None:
            replace(into, section, text)
    except (ValueError, KeyError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(text if into is None else str(into))


if __name__ == "__main__":
    typer.run(main)
