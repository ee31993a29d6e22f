"""Sections and figures of docs/results/gather_trade_build.md, made from run folders so that no number is copied by hand.

    python -m rllib_macro.results_gather_trade_build learning PHASE_ONE_RUN... --into docs/results/gather_trade_build.md
    python -m rllib_macro.results_gather_trade_build systems RUN... --into docs/results/gather_trade_build.md

Which tax system the workers of a run learned under is read from its configuration. Without --into the section is printed; with it the
figure is put beside the page. Everything is played in fresh replicas, as many as the runs' `evaluation` says.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib
import numpy as np
import pandas
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import envs
from kernels import gather_trade_build as gtb
from rllib_macro import evaluate, experiments, plots
from rllib_macro.env_runner import fixed_params
from rllib_macro.episodes_gather_trade_build import (
    ANY,
    FEDERAL,
    FREE,
    IN_FULL,
    LEARNED,
    SAEZ,
    SYSTEMS,
    Episodes,
    joined,
    play,
    system_of,
    warm_up_episodes,
)
from rllib_macro.results_2022 import markdown_table
from rllib_macro.run import Run, RunError
from rllib_macro.sections import replace, require
from rllib_macro.terminal import number, plainly, runs_in

ECONOMY = "gather_trade_build"
PAGE = f"docs/results/{ECONOMY}.md"
PUBLISHED = {  # productivity, equality, their product: Zheng et al. (2020), as drawn in the figure of the released program
    FREE: (3285, 0.39, 1278), FEDERAL: (2656, 0.48, 1261), SAEZ: (2759, 0.52, 1435), LEARNED: (2907, 0.57, 1664)}
WORKERS = {FREE: "no taxes", FEDERAL: "US federal taxes", SAEZ: "Saez taxes", LEARNED: "the planner"}  # what they learned with
OWN, PAPER = "their own system", "published, another setting"
SOCIAL = {"productivity": "productivity", "equality": "equality, %", "equality_times_productivity": "equality x productivity",
          "welfare": "planner's own goal"}
PUBLISHED_PERIODS = 4e9  # of the second phase: 4 million episodes of 1,000 periods
OUTCOMES = tuple(SOCIAL)[:3]  # those that are published
OVER_TRAINING = {  # measure: what it is called, whether it is counted per episode
    "productivity": ("coins of all workers", False), "utility": ("utility of a worker, utils", False),
    "labor": ("labor of a worker", False), "houses": ("houses in an episode", True), "trades": ("trades in an episode", True),
    "gathered": ("units gathered in an episode", True)}
OF_AGENTS = {"payment": "house pays", "houses": "houses built", "stone": "stone gathered", "wood": "wood gathered", "sold": "units sold",
             "bought": "units bought", "building": "coins from houses", "sales": "from sales", "purchases": "for purchases",
             "labor": "labor", "coin": "coins at the end", "utility": "utility"}
COLOURS = dict(zip(SYSTEMS, ("#4d4d4d", *plots.COLOURS[:3])))
MARKERS = dict(zip(WORKERS, "os^D"))
Made = tuple[str, Figure]


# -- what phase one learned

def learning(runs: Sequence[Run]) -> Made:
    """What workers learned without taxes: measures over training, fresh episodes before and after, and who does what."""
    for run in runs:
        if system_of(run.config) != FREE:
            raise RunError(f"{run.path} is no run of the first phase: its workers pay taxes; give runs without taxes, or ask for: systems")
    frames = [_by_episode(run) for run in runs]
    trained = [_played(run.config, evaluate.modules(run.config, run.weights()), FREE) for run in runs]
    untrained = [_played(run.config, evaluate.modules(run.config), FREE) for run in runs]
    changes = [[name, *(_spread([float(frame[measure].iloc[at]) for frame in frames]) for at in (0, -1))]
               for measure, (name, _) in OVER_TRAINING.items()]
    rows = [[of, *(_cell(_total(measure, episodes), measure) for episodes in (untrained, trained))] for measure, of in {
        **SOCIAL, "utility": "utility of a worker, utils", "labor": "labor of a worker", "houses": "houses", "sold": "trades",
        "gathered": "units gathered"}.items()]
    text = "\n".join([
        f"Made by `python -m rllib_macro.results_gather_trade_build learning {_named(runs)} --into {PAGE}`.", "",
        f"![What workers earn and do over the training, and who does what at its end]({ECONOMY}_learning.png)", "",
        f"Measures of the training itself, its first and last iterations that make an episode's length, {_trainings(runs)}. Coins, "
        "utility and labor are means over all periods of an episode; utility counts labor at the weight that it had then.", "",
        markdown_table(["", "at first", "at last"], changes), "",
        f"At the end of fresh episodes, labor at its full weight: {_fresh(runs)}.", "",
        markdown_table(["", "untrained", "trained"], rows), "",
        "Who does what: workers in the order of what a house pays them, means of an episode.", "",
        markdown_table([*OF_AGENTS.values()], _by_skill(joined(trained))),
    ])
    return text, _learning_figure(runs, frames, joined(trained))


def _by_episode(run: Run) -> pandas.DataFrame:
    """A row for each episode of all replicas: means over its iterations, flows as sums over its periods."""
    periods = envs.load(ECONOMY).periods(fixed_params(run.config))
    length = -(-periods // (run.config.periods or periods))  # iterations
    frame = run.progress()
    if len(frame) < length:
        raise RunError(f"{run.path} has {len(frame)} iterations, an episode takes {length}; train it for longer")
    kept = frame.iloc[:len(frame) // length * length]
    means = kept.groupby(np.arange(len(kept)) // length).mean(numeric_only=True)
    found = {name: means[f"measure/{name}"] * (periods if is_flow else 1) for name, (_, is_flow) in OVER_TRAINING.items()}
    return pandas.DataFrame({"iteration": means["iteration"], **found})


def _total(measure: str, parts: Sequence[Episodes]) -> list[np.ndarray]:
    """A measure of each episode, for each run: of all agents, except for means of utility and labor."""
    if measure in SOCIAL:
        return [part.social[measure] for part in parts]
    of_agents = [part.agents[measure] for part in parts]
    return [x.mean(1) if measure in ("utility", "labor") else x.reshape(len(x), -1).sum(1) for x in of_agents]


def _by_skill(episodes: Episodes) -> list[list[str]]:
    """A row for each worker, those whom a house pays least first."""
    columns = _columns(episodes)
    return [[_cell([columns[name][:, i]]) for name in OF_AGENTS] for i in range(columns["payment"].shape[1])]


def _columns(episodes: Episodes) -> dict[str, np.ndarray]:
    return {**episodes.agents, "stone": episodes.agents["gathered"][:, :, gtb.STONE], "wood": episodes.agents["gathered"][:, :, gtb.WOOD]}


@matplotlib.rc_context(plots.STYLE)
def _learning_figure(runs: Sequence[Run], frames: Sequence[pandas.DataFrame], episodes: Episodes) -> Figure:
    columns = _columns(episodes)
    labels = [f"{payment:.1f}" for payment in columns["payment"].mean(0)]

    def by_skill(title: str, unit: str, shown: Mapping[str, str]) -> plots.Panel:
        return plots.bars(title, unit, labels, {name: columns[key].mean(0).tolist() for key, name in shown.items()},
                          across="coins that a house pays")
    curves = [_curves(measure, name, runs, frames) for measure, (name, _) in OVER_TRAINING.items()]
    who = [by_skill("who gathers and builds", "units, houses", {"stone": "stone", "wood": "wood", "houses": "houses"}),
           by_skill("who trades", "units", {"sold": "sold", "bought": "bought"}),
           by_skill("where coins come from", "coins", {"building": "houses", "sales": "sales", "purchases": "purchases"})]
    return plots.figure([*curves, *who], "Phase one: workers learn without taxes")


def _curves(measure: str, name: str, runs: Sequence[Run], frames: Sequence[pandas.DataFrame]) -> plots.Panel:
    def draw_on(ax: Axes) -> None:
        for i, (run, frame) in enumerate(zip(runs, frames)):
            ax.plot(frame["iteration"], frame[measure], color=plots.COLOURS[i % len(plots.COLOURS)], label=f"seed {run.config.seed}")
        ax.set_xlabel("iteration")
        if len(runs) > 1 and measure == "productivity":
            ax.legend()
    title, _, unit = name.partition(", ")
    return plots.Panel(title, unit, draw_on)


# -- what each tax system brings

def systems(runs: Sequence[Run]) -> Made:
    """Every group of workers under every tax system, beside the published figures, and the rates."""
    _require_one_world(runs)
    groups = {system: [run for run in runs if system_of(run.config) == system] for system in SYSTEMS}
    found = {(workers, system): parts for workers, own in groups.items() for system in SYSTEMS
             if (parts := {run.path.name: _taxed(run, system, groups[LEARNED]) for run in own if _planner(run, system, groups[LEARNED])})}
    rates = _rates(found)
    text = "\n".join([
        f"Made by `python -m rllib_macro.results_gather_trade_build systems {_named(runs)} --into {PAGE}`.", "",
        f"![Productivity and equality of every tax system, their product beside the published one, the rates]({ECONOMY}_systems.png)", "",
        f"At the end of an episode: {_fresh(runs)}; {_trainings(runs)}. Differences are from the free market with the same workers in the "
        f"same worlds. The Saez formula has seen {warm_up_episodes(fixed_params(runs[0].config))} episodes of these workers before.", "",
        markdown_table(["workers learned with", "tax system", *SOCIAL.values(), *(f"difference in {SOCIAL[name]}" for name in OUTCOMES)],
               _compared(found)), "",
        "Beside the published figures. **They are of another setting**: the original's map, and a second phase "
        f"{number(PUBLISHED_PERIODS / max(map(_periods, runs)))} times as long as the longest training here. Ours "
        f"is {_map(runs[0])}. The last columns are equality x productivity as percent of that of the free market; workers who learned with "
        "their own system did so under that of their row.", "",
        markdown_table(["tax system", *(f"published {SOCIAL[name]}" for name in OUTCOMES), "published, % of free market",
                *(f"learned with {name}, %" for name in _shares(found))], _beside(found)), "",
        "Mean marginal rates in percent, by the income at which a bracket begins.", "",
        markdown_table(["rates", *(f"{cutoff:g}" for cutoff in gtb.taxes.cutoffs(fixed_params(runs[0].config)))],
               [[name, *(_spread(list(100 * of)) for of in np.transpose(values))] for name, values in rates.items()]),
    ])
    return text, _systems_figure(found, rates, runs[0])


def _require_one_world(runs: Sequence[Run]) -> None:
    """RunError unless all runs play the same world, whatever its taxes and curricula."""
    of_taxes = {*IN_FULL, *ANY, "tax_model", "warmup_method"}
    worlds = [{name: value for name, value in vars(fixed_params(run.config)).items() if name not in of_taxes} for run in runs]
    for run, one in zip(runs, worlds):
        differs = [name for name in one if one[name] != worlds[0][name]]
        if differs:
            raise RunError(f"{run.path} plays another world than {runs[0].path}: {', '.join(differs)} differ; compare runs of one world")


def _planner(run: Run, system: str, planners: Sequence[Run]) -> Run | None:
    """The run whose planner taxes the workers of a run: their own, else that of the same seed; under other systems the run itself."""
    if system != LEARNED or run in planners:
        return run
    return next((other for other in planners if other.config.seed == run.config.seed), None)


def _taxed(run: Run, system: str, planners: Sequence[Run]) -> Episodes:
    """The workers of a run under a system."""
    by = _planner(run, system, planners)
    assert by is not None
    workers = evaluate.modules(run.config, run.weights())
    return _played(by.config, {**evaluate.modules(by.config, by.weights()), "mobile": workers["mobile"]}, system)


def _played(config: Any, policies: Mapping[str, Any], system: str) -> Episodes:
    """The evaluation episodes of a configuration."""
    return play(config, policies, system, config.evaluation.seeds, config.evaluation.replicas)


Found = Mapping[tuple[str, str], Mapping[str, Episodes]]  # (system learned under, system played): {run: its episodes}


def _compared(found: Found) -> list[list[str]]:
    rows = []
    for (workers, system), parts in found.items():
        free = found[workers, FREE]
        cells = [_cell([part.social[name] for part in parts.values()], name) for name in SOCIAL]
        gains = [_cell([np.round(part.social[name] - free[run].social[name], 9)  # coins are moved about, which leaves traces
                        for run, part in parts.items()], name, sign=True) for name in OUTCOMES]
        rows.append([WORKERS[workers], system, *cells, *(gains if system != FREE else [""] * len(gains))])
    return rows


def _shares(found: Found) -> dict[str, dict[str, float]]:
    """Equality times productivity as percent of the free market's, if that is something, by system: for workers that met all systems, and
    for those at home."""
    means = {key: float(np.mean([part.social["equality_times_productivity"].mean() for part in parts.values()]))
             for key, parts in found.items()}
    groups = {name: {system: means[workers, system] for system in SYSTEMS if (workers, system) in means}
              for workers, name in WORKERS.items() if (workers, FREE) in means}
    home = {system: means[system, system] for system in SYSTEMS if (system, system) in means}
    if FREE in home and len(home) > 1:
        groups[OWN] = home
    return {name: {system: 100 * value / of[FREE] for system, value in of.items()} for name, of in groups.items() if of[FREE] > 0}


def _beside(found: Found) -> list[list[str]]:
    ours = _shares(found)
    return [[system, f"{productivity:,}", f"{100 * equality:.0f}", f"{product:,}", f"{100 * product / PUBLISHED[FREE][2]:.0f}",
             *(f"{of[system]:.0f}" if system in of else "" for of in ours.values())]
            for system, (productivity, equality, product) in PUBLISHED.items()]


def _rates(found: Found) -> dict[str, list[np.ndarray]]:
    """Mean rates by bracket of the systems that tax, for each run: of the workers that learned with the planner, or of the first."""
    workers = LEARNED if (LEARNED, LEARNED) in found else next(iter(found))[0]
    return {system: [part.rates.mean(0) for part in parts.values()] for (who, system), parts in found.items()
            if who == workers and system != FREE}


@matplotlib.rc_context(plots.STYLE)
def _systems_figure(found: Found, rates: Mapping[str, Sequence[np.ndarray]], run: Run) -> Figure:
    shares = {**_shares(found), PAPER: {system: 100 * product / PUBLISHED[FREE][2] for system, (*_, product) in PUBLISHED.items()}}
    bars = plots.bars("equality x productivity, by whom workers learned with", "% of the free market", list(SYSTEMS),
                      {name: [of.get(system, np.nan) for system in SYSTEMS] for name, of in shares.items()})
    panels = [plots.Panel("the trade-off", "equality, percent", lambda ax: _draw_trade_off(ax, found)), bars,
              plots.Panel("marginal rates", "percent", lambda ax: _draw_rates(ax, rates, gtb.taxes.cutoffs(fixed_params(run.config))))]
    made = plots.figure(panels, "Four tax systems")
    made.set_size_inches(15, 3.9)
    return made


def _draw_trade_off(ax: Axes, found: Found) -> None:
    """A mark for each group of workers under each system, of the means over all of its episodes."""
    for (workers, system), parts in found.items():
        productivity, equality = (np.mean([part.social[name].mean() for part in parts.values()]) for name in ("productivity", "equality"))
        ax.plot(productivity, 100 * equality, MARKERS[workers], color=COLOURS[system], ms=8, markeredgecolor="white")
    for system, colour in COLOURS.items():
        ax.plot([], [], "o", color=colour, ms=5, label=system)
    for workers in dict.fromkeys(workers for workers, _ in found):
        ax.plot([], [], MARKERS[workers], color="white", markeredgecolor=plots.QUIET, ms=5, label=f"learned with {WORKERS[workers]}")
    ax.margins(0.15)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.6 * (high - low))
    ax.set_xlabel("productivity, coins of all workers")
    ax.legend(ncols=2, fontsize=7, labelspacing=0.2, handletextpad=0.1, columnspacing=1, borderaxespad=0.1, loc="upper left")


def _draw_rates(ax: Axes, rates: Mapping[str, Sequence[np.ndarray]], cutoffs: np.ndarray) -> None:
    """A step for each bracket, all equally wide; shaded what lies between several trainings."""
    edges = np.arange(len(cutoffs) + 1)
    for name, of in rates.items():
        ax.stairs(100 * np.mean(of, 0), edges, baseline=None, lw=2, color=COLOURS[name], label=name)
        if len(of) > 1:
            ax.stairs(100 * np.max(of, 0), edges, baseline=100 * np.min(of, 0), fill=True, color=COLOURS[name], alpha=0.15)
    ax.set_ylim(0, 119)
    ax.set_yticks(range(0, 101, 25))
    ax.set_xticks(edges[:-1], [f"{cutoff:.0f}" for cutoff in cutoffs])
    ax.set_xlabel("brackets, by the income at which they begin, coins a tax year")
    ax.legend(ncols=3, columnspacing=0.8, handlelength=1.2, loc="upper center", borderaxespad=0.1)


# -- words

def _cell(parts: Sequence[np.ndarray], name: str = "", sign: bool = False) -> str:
    """Mean over all episodes with half its 95 % interval, and where there are several runs the range of their means."""
    scale = 100 if name == "equality" else 1
    of = experiments.interval(scale * np.concatenate(parts))
    half = of["mean"] - of["low"]
    varies = half > 1e-9 * abs(of["mean"])  # and is more than rounding
    shown = f"{'+' if sign and of['mean'] > 0 else ''}{number(of['mean'])}" + (f" ± {number(half)}" if varies else "")
    means = [scale * float(part.mean()) for part in parts]
    return shown if len(parts) == 1 else f"{shown} ({number(min(means))} to {number(max(means))})"


def _spread(values: Sequence[float]) -> str:
    """The mean over runs, and their range where there are several."""
    shown = number(float(np.mean(values)))
    return shown if len(values) == 1 else f"{shown} ({number(min(values))} to {number(max(values))})"


def _fresh(runs: Sequence[Run]) -> str:
    of = runs[0].config.evaluation
    return (f"means of {of.replicas} fresh replicas for each of {len(of.seeds)} evaluation seeds and each training, with half of the 95 % "
            "interval over episodes")


def _trainings(runs: Sequence[Run]) -> str:
    seeds = sorted({run.config.seed for run in runs})
    budget = sorted({_periods(run) for run in runs})
    steps = " to ".join(f"{steps / 1e6:.3g}" for steps in dict.fromkeys((budget[0], budget[-1])))
    spread = "in brackets the range over training seeds" if len(seeds) > 1 else "whose spread is unknown"
    return f"trained for {steps} million periods each, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}, {spread}"


def _periods(run: Run) -> int:
    """Periods of all replicas in a whole training."""
    config = run.config
    return config.replicas * (config.periods or fixed_params(config).horizon) * config.stop.iterations


def _map(run: Run) -> str:
    p = fixed_params(run.config)
    if p.scenario == gtb.world.LAYOUT and len(p.layout) > 1:
        return "the layout that `params.layout` gave"
    return "a map of this project's own"


def _named(runs: Sequence[Run]) -> str:
    return " ".join(f"runs/{run.config.name}" for run in runs)


SECTIONS: dict[str, Callable[[Sequence[Run]], Made]] = {"learning": learning, "systems": systems}


def main(
    section: Annotated[str, typer.Argument(help=f"What is made: {' or '.join(SECTIONS)}.")],
    folders: Annotated[list[Path], typer.Argument(help="Run folders, or sweeps, that it is made from.")],
    into: Annotated[Path | None, typer.Option(metavar="FILE", help="Markdown page with the section; the figure goes beside it.")] = None,
) -> None:
    """Make one section of docs/results/gather_trade_build.md from run folders."""
    with plainly():
        if section not in SECTIONS:
            raise RunError(f"there is no section {section!r}; choose one of {', '.join(SECTIONS)}")
        if into is not None:
            require(into, section)
        text, drawn = SECTIONS[section]([Run.open(path) for folder in folders for path in runs_in(folder)])
        if into is not None:
            drawn.savefig(into.with_name(f"{ECONOMY}_{section}.png"), dpi=110)
            replace(into, section, text)
    typer.echo(text if into is None else str(into))


if __name__ == "__main__":
    typer.run(main)
