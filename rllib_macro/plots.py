"""Figures of a run: rewards, measures, learning, one episode and best responses, with the labels and units of the economy's declarations.

`sections` decides what a run can show, as panels. `draw` puts them on PNG files; the report puts the same panels on a page, by `svg`.
`draw_many` sets several runs beside each other: how what they learned hangs together, and their members over time.
"""
from __future__ import annotations

import io
import re
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from html import escape
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import stats

import envs
from envs.core.economy import Economy
from rllib_macro import extras, schedule
from rllib_macro.config import RunConfig, to_dict
from rllib_macro.run import Run, RunError

INK, QUIET, SHADE = "#22303c", "#5b6772", "#e6ecf1"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4d4d4d")  # Okabe and Ito: safe for the colour-blind
DASHES = ("-", (0, (5, 1.5)), (0, (2, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"], "font.size": 8.5, "svg.fonttype": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": QUIET, "axes.labelcolor": QUIET,
    "axes.labelsize": 8.5, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlecolor": INK, "axes.grid": True,
    "axes.axisbelow": True, "axes.unicode_minus": True, "grid.color": "#e9edf0", "grid.linewidth": 0.7, "xtick.color": QUIET,
    "ytick.color": QUIET, "xtick.major.size": 3, "ytick.major.size": 0, "lines.linewidth": 1.6, "lines.solid_capstyle": "round",
    "legend.frameon": False, "legend.fontsize": 8, "text.color": INK, "text.parse_math": False, "figure.facecolor": "white",
}
SIZE, LEFT, RIGHT, TOP, BOTTOM = (3.75, 2.5), 0.7, 0.12, 0.42, 0.46  # inches: a panel, and its margins around the axes
POINTS = 1500  # of a line; longer runs are averaged in as many blocks
HEAT = 40  # largest number of members drawn one by one; of more, the spread is drawn
WORDS = {"kl": "KL divergence", "lr": "learning rate", "grad_norm": "norm of the gradient"}
LAST = 10  # iterations at the end of a run over which runs are compared
HATCHES = ("", "////", "....", "xxxx")
PAIRS = (("reward/consumer", "reward/firm"), ("measure/price", "measure/consumption"), ("measure/wage", "measure/hours"),
         ("measure/income_tax", "reward/government"))  # of which those are drawn that an economy has
UNITS = {"output": "units", "consumption": "units", "exports": "units"}  # of measures that no State field is named after
MEMBERS = ("state/price", "state/wage", "state/labor", "state/sold", "state/capital")  # the same
LETTERS = "ABCD"  # of runs whose members are drawn beside each other
LEARNING = {"entropy": "nats", "kl": "nats", "policy_loss": "", "value_loss": "", "grad_norm": "", "lr": "", "entropy_weight": ""}


@dataclass(frozen=True)
class Panel:
    """One chart: what it shows, its unit, one sentence of explanation if there is one, and how it is drawn."""

    title: str
    unit: str
    draw: Callable[[Axes], None]
    note: str = ""


@matplotlib.rc_context(STYLE)
def draw(run: Run) -> list[Path]:
    """Draw everything that the run can show, and what its model adds, as plots/<name>.png; RunError if nothing was recorded."""
    drawn = sections(run)
    key = "   ".join(f"{number}: after {k}, {'; '.join(what)}" for number, (k, what) in enumerate(phases(run.config).items(), 1))
    made = {}
    for name, panels in drawn.items():
        title = f"{run.config.name} ({run.config.economy}): {name}"
        phased = name not in ("episode", "equilibrium")
        made[name] = figure(panels, title, key if phased else "", 4 if len(panels) > 12 else 3)
    if own := extras.of(run.config):
        made |= own.figures(run)
    (run.path / "plots").mkdir(exist_ok=True)
    files = [run.path / "plots" / f"{name}.png" for name in made]
    for file, drawing in zip(files, made.values()):
        drawing.savefig(file, dpi=110)
    return files


def sections(run: Run) -> dict[str, list[Panel]]:
    """What there is to see, as {section: panels}: rewards, measures, learning, episode, equilibrium; those without data are left out."""
    economy, frame = envs.load(run.config.economy), rows(run)
    found = {"rewards": rewards(run.config, economy, frame), "measures": measures(run.config, economy, frame),
             "learning": learning(run.config, economy, frame), "episode": episode(run, economy),
             "equilibrium": deviations(run, economy)}
    return {name: panels for name, panels in found.items() if panels}


def rows(run: Run) -> pandas.DataFrame:
    """One row for each iteration; RunError if there is none."""
    try:
        frame = run.progress().apply(pandas.to_numeric, errors="coerce")
    except (pandas.errors.EmptyDataError, pandas.errors.ParserError):
        frame = pandas.DataFrame()
    frame = frame.dropna(subset=["iteration"]) if "iteration" in frame else frame.iloc[:0]
    if frame.empty:
        raise RunError(f"{run.path} has no finished iteration in its progress.csv, so there is nothing to plot; train it first")
    return frame


def phases(config: RunConfig) -> dict[int, list[str]]:
    """{iteration: everything that starts or ends there} in order."""
    events: dict[int, list[str]] = {}
    for k, what in schedule.phases(config):
        events.setdefault(k, []).append(what)
    return events


# -- over the iterations


def rewards(config: RunConfig, economy: Economy, frame: pandas.DataFrame) -> list[Panel]:
    """The mean reward of every type."""
    types = list(economy.agents)
    return [Panel(type_, f"{economy.agents[type_].reward_unit or 'reward'} per period",
                  _lines(config, frame, {type_: f"reward/{type_}"}, types=types, named=True),
                  _declared(economy, economy.known_as(type_), "Rewards").get("doc", ""))
            for type_ in types if f"reward/{type_}" in frame]


def measures(config: RunConfig, economy: Economy, frame: pandas.DataFrame) -> list[Panel]:
    """Every measure, with the window on the choice of the same name shaded, and every Param that moves."""
    panels = []
    for name in economy.measures:
        if f"measure/{name}" in frame:
            window = next((w for w in config.windows if w.rpartition(".")[2] == name and f"window/{w}/low" in frame), None)
            about = _declared(economy, name, "State", "Actions")
            panels.append(Panel(_words(name), about.get("unit", ""), _lines(config, frame, {"": f"measure/{name}"}, window=window),
                                f"Shaded: the window on {window}." if window else ""))
    for column in frame.columns[frame.columns.str.startswith("param/")]:
        name = column.removeprefix("param/")
        about = _declared(economy, name, "Params")
        panels.append(Panel(_words(name), about.get("unit", ""), _lines(config, frame, {"": column}), about.get("doc", "")))
    return panels


def learning(config: RunConfig, economy: Economy, frame: pandas.DataFrame) -> list[Panel]:
    """Diagnostics of the learners, one line for each type, entropies apart as their sizes differ; empty where nobody learned."""
    panels: list[Panel] = []
    types = list(economy.agents)
    for name, unit in LEARNING.items():
        columns = {type_: f"learn/{type_}/{name}" for type_ in types if f"learn/{type_}/{name}" in frame}
        title = WORDS.get(name, _words(name))
        charts = {title: columns} if name != "entropy" else {f"{title}: {type_}": {type_: c} for type_, c in columns.items()}
        panels += [Panel(title, unit, _lines(config, frame, shown, types=types)) for title, shown in charts.items() if shown]
    return panels


def _lines(config: RunConfig, frame: pandas.DataFrame, columns: Mapping[str, str], window: str | None = None, types: Sequence[str] = (),
           named: bool = False) -> Callable[[Axes], None]:
    """Draws columns over the iterations: thin as recorded, thick as moving average; phase lines behind them."""
    block = np.arange(len(frame)) * POINTS // max(len(frame), POINTS)
    every = frame[["iteration", *columns.values(), *([f"window/{window}/low", f"window/{window}/high"] if window else [])]]
    thinned = every.groupby(block).mean().replace([np.inf, -np.inf], np.nan)

    def draw_on(ax: Axes) -> None:
        ax.set_xlim(0, max(frame["iteration"].max(), 1))
        ax.set_xlabel("iteration")
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        if window:
            ax.fill_between(thinned["iteration"], thinned[f"window/{window}/low"], thinned[f"window/{window}/high"], color=SHADE, lw=0)
        for label, column in columns.items():
            style = types.index(label) if types else 0
            shade = COLOURS[style % len(COLOURS)]
            known = thinned[["iteration", column]]
            if column.startswith("learn/"):
                known = known.dropna()  # a type may skip iterations
            smooth = known[column].rolling(max(len(known) // 40, 1), center=True, min_periods=1).mean().where(known[column].notna())
            ax.plot(known["iteration"], known[column], color=shade, alpha=0.35, lw=0.7)
            ax.plot(known["iteration"], smooth, color=shade, ls=DASHES[style % len(DASHES) if len(columns) > 1 else 0], label=label,
                    marker="o" if smooth.count() < 3 else None, ms=4, clip_on=bool(smooth.count() >= 3))
        values = thinned[list(columns.values())].to_numpy(float)
        values = values[np.isfinite(values)]
        if not values.size:
            ax.text(0.5, 0.5, "no finite number", transform=ax.transAxes, ha="center", color=QUIET)
        elif len(columns) > 1 and values.min() > 0 and values.max() > 100 * values.min():
            ax.set_yscale("log")
            ax.yaxis.set_major_formatter(lambda value, _: short(value))
        elif len(columns) == 1:
            last = thinned[next(iter(columns.values()))].tail(max(len(thinned) // 40, 1)).mean()
            ax.set_title(f"ends at {short(last)}" if np.isfinite(last) else "", loc="right", size=8, weight="normal", color=QUIET, pad=14)
        if len(columns) > 1:
            ax.legend(handlelength=2.4, borderaxespad=0.2)
        _mark_phases(ax, phases(config), named)

    return draw_on


def _mark_phases(ax: Axes, events: Mapping[int, list[str]], named: bool) -> None:
    """A numbered line where something starts or ends, and who starts to learn if `named`; numbers too close to each other join."""
    labels: list[tuple[int, str]] = []
    end = ax.get_xlim()[1]
    for number, (k, what) in enumerate(events.items(), 1):
        if k <= end:
            ax.axvline(k, color=QUIET, lw=0.8, ls=(0, (1, 2)), gid="phase", zorder=1.5)
            if named and (learners := [event for event in what if event.endswith(" learns")]):
                ax.text(k + 0.008 * end, 0.5, ", ".join(learners), transform=ax.get_xaxis_transform(), rotation=90, va="center", size=7,
                        color=QUIET, zorder=1.6)
            if labels and k - labels[-1][0] < 0.04 * end:
                labels[-1] = (labels[-1][0], f"{labels[-1][1]},{number}")
            else:
                labels.append((k, str(number)))
    for start, text in labels:
        ax.text(start, 1.03, text, transform=ax.get_xaxis_transform(), ha="center", color=QUIET, size=7.5, gid="phase number")


# -- one episode


def episode(run: Run, economy: Economy) -> list[Panel]:
    """The first replica of the newest dense episode: heat maps of few members over time, the spread of many, lines of single numbers."""
    files = sorted((run.path / "episodes").glob("episode_*_market.npz"), key=lambda file: (len(file.name), file.name))
    if not files:
        return []
    panels: list[tuple[int, Panel]] = []
    try:
        with np.load(files[-1], allow_pickle=False) as stored:
            for name, field in _quantities(economy).items():
                if name in stored.files:
                    panels += _over_time(economy, field, np.asarray(stored[name][0], float))
    except (OSError, ValueError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(f"{files[-1]} is damaged ({error}); remove it, and the plots leave the episode out") from None
    return [panel for _, panel in sorted(panels, key=lambda item: item[0])]


def _quantities(economy: Economy) -> dict[str, Any]:
    """{name in a dense log: declaration} of the real numbers that a replica has once or once for each member of an axis."""
    state, actions = fields(economy.kernel.State), fields(economy.kernel.Actions)
    posted = {f.name for f in state}  # an action of that name is the State of the next period
    named = {f"state/{f.name}": f for f in state} | {f"action/{f.name}": f for f in actions if f.name not in posted}
    return {name: f for name, f in named.items() if f.metadata["dtype"] == "real" and len(f.metadata["axes"]) < 2}


def _over_time(economy: Economy, field: Any, array: np.ndarray, title: str = "",
               limits: tuple[float, float] | None = None) -> list[tuple[int, Panel]]:
    """[(rank of the kind of chart, chart)] of a quantity (T, ...); no chart of what never changes. `limits` are those of the colours."""
    periods, about = len(array), field.metadata
    array = np.where(np.isfinite(array), array, np.nan).reshape(periods, -1)
    if about["doc"].startswith("flow"):
        array = array[1:]  # states are recorded before each step, and a flow is then that of the period before
    if not array.size or not np.ptp(np.nan_to_num(array), axis=0).any():
        return []
    member = _member(economy, about["axes"][0]) if about["axes"] else ""
    rank, kind = (2, _line) if array.shape[1] == 1 else (0, _heat) if array.shape[1] <= HEAT else (1, _spread)

    def draw_on(ax: Axes) -> None:
        if kind is _heat:
            _heat(ax, array, member, about["unit"], limits)
        else:
            kind(ax, array, member, about["unit"])
        ax.set_xlim(-0.5, periods - 0.5)
        ax.set_xlabel(_period(economy))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    unit = member if kind is _heat else about["unit"]
    return [(rank, Panel(title or _words(field.name), unit, draw_on, about["doc"].removeprefix("flow: ")))]


def _heat(ax: Axes, array: np.ndarray, member: str, unit: str, limits: tuple[float, float] | None = None) -> None:
    """Members upwards, time to the right; colours diverge from zero where signs differ."""
    low, high = limits or (np.nanmin(array), np.nanmax(array))
    signed = low < -1e-6 * high < 0  # below zero by more than rounding
    limit = max(-low, high)
    image = ax.imshow(array.T, aspect="auto", origin="lower", interpolation="none", cmap="PuOr" if signed else "YlGnBu",
                      vmin=-limit if signed else low, vmax=limit if signed else high)
    ax.grid(False)
    ax.yaxis.set_major_locator(MaxNLocator(6, integer=True))
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.24, pad=0.03, aspect=14, anchor=(0, 0.5), format=lambda v, _: short(v))
    bar.set_label(unit)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.yaxis.set_major_locator(MaxNLocator(4))


def _spread(ax: Axes, array: np.ndarray, member: str, unit: str) -> None:
    """Median, middle half and middle nine tenths of the members."""
    time = np.arange(len(array))
    low, quarter, median, three, high = np.nanquantile(array, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1)
    ax.fill_between(time, low, high, color=COLOURS[0], alpha=0.15, lw=0)
    ax.fill_between(time, quarter, three, color=COLOURS[0], alpha=0.3, lw=0)
    ax.plot(time, median, color=COLOURS[0])
    ax.set_title(f"{array.shape[1]:,} {member}s: median, 50 %, 90 %", loc="right", size=7.5, weight="normal", color=QUIET, pad=14)


def _line(ax: Axes, array: np.ndarray, member: str, unit: str) -> None:
    ax.plot(array[:, 0], color=COLOURS[0], marker="o", ms=3)


# -- best responses


def deviations(run: Run, economy: Economy) -> list[Panel]:
    """What every deviator earned before and after, by checkpoint; and in the plane of the first two types' rewards where each leads."""
    found = [result for _, result in run.best_responses()]
    panels = []
    for deviator in dict.fromkeys(result["deviator"] for result in found):
        own = sorted((result for result in found if result["deviator"] == deviator), key=lambda result: result["checkpoint"])
        after = [result["profile"] + result["gain"] for result in own]
        reach = [(result["profile"] + result["ci_low"], result["profile"] + result["ci_high"]) for result in own]
        panels.append(bars(
            deviator, _reward_unit(economy, deviator), [f"iteration {result['checkpoint']:,}" for result in own],
            {"profile": [result["profile"] for result in own], "deviating": after}, {"deviating": reach},
            [_change(result["gain"]) for result in own],
            note="Above the bars the gain, a lower bound on epsilon; lines: its 95 % interval."))
    x, y = (*economy.agents, "", "")[:2]
    moves = [(result["deviator"], *zip(result["rewards"][x], result["rewards"][y])) for result in found
             if {x, y} <= (result.get("rewards") or {}).keys()]
    return panels + ([_arrows(economy, x, y, moves)] if moves else [])


def _arrows(economy: Economy, x: str, y: str, moves: Sequence[Any]) -> Panel:
    """From the profile to the profile with the deviation, in the plane of two types' rewards, an arrow for each (deviator, from, to)."""
    def draw_on(ax: Axes) -> None:
        colour = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(dict.fromkeys(name for name, *_ in moves))}
        for name, start, end in moves:
            ax.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": colour[name], "lw": 1.6, "shrinkA": 0, "shrinkB": 0})
            ax.plot(*start, marker="o", ms=4, color=INK, ls="")
            ax.plot(*end, marker="", color=colour[name], label=name if name not in ax.get_legend_handles_labels()[1] else None)
        ax.margins(0.15)
        ax.set_xlabel(f"{x} ({_reward_unit(economy, x)})")
        ax.xaxis.set_major_formatter(lambda value, _: short(value))
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.legend(handlelength=1.5, borderaxespad=0.2)

    return Panel("where deviations lead", f"{y} ({_reward_unit(economy, y)})", draw_on,
                 "Dots: rewards of the profile; an arrow's head: those when the type of its colour has deviated.")


def bars(title: str, unit: str, labels: Sequence[str], groups: Mapping[str, Sequence[float]],
         reach: Mapping[str, Sequence[tuple[float, float]]] | None = None, above: Sequence[str] = (), note: str = "",
         line: tuple[str, float] | None = None, across: str = "") -> Panel:
    """A cluster of bars for each label, one bar of each group.

    `reach` are the ends of error bars, `above` a word for each cluster, `line` a name and a height, `across` what the labels are.
    """
    def draw_on(ax: Axes) -> None:
        width, place = 0.8 / len(groups), np.arange(len(labels))
        for i, (name, values) in enumerate(groups.items()):
            at = place + (i - (len(groups) - 1) / 2) * width
            style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "hatch": HATCHES[i % len(HATCHES)], "edgecolor": "white", "lw": 0}
            ax.bar(at, values, 0.92 * width, label=name, **style)
            if name in (reach or {}):
                ends = np.array(reach[name], float).T  # type: ignore[index]
                ax.vlines(at, *ends, color=INK, lw=1.2)
        ax.axhline(0, color=QUIET, lw=0.8)
        if line:
            ax.axhline(line[1], color=INK, lw=1.3, ls=DASHES[1], label=line[0])
        tops = np.nanmax([[*values] for values in groups.values()] + [[high for _, high in of] for of in (reach or {}).values()], axis=0)
        for k, text in enumerate(above):
            ax.annotate(text, (float(place[k]), max(float(tops[k]), 0.0)), (0, 3), textcoords="offset points", ha="center", size=8)
        ax.set_xticks(place, labels)
        middle, half = (len(labels) - 1) / 2, max(len(labels), 2) / 2  # a single cluster is not as wide as the panel
        ax.set_xlim(middle - half, middle + half)
        ax.grid(axis="x", visible=False)
        low, high = ax.get_ylim()
        ax.set_xlabel(across)
        if len(groups) > 1:
            ax.set_ylim(low, high + 0.28 * (high - low))  # room for the legend
            ax.legend(ncols=2, loc="upper center", handlelength=1.6, columnspacing=1, borderaxespad=0.1)

    return Panel(title, unit, draw_on, note)


def _change(number: float) -> str:
    """A difference in three digits with its sign."""
    return f"{'+' if number >= 0 else ''}{short(float(f'{number:.3g}'))}"


def _reward_unit(economy: Economy, deviator: str) -> str:
    """The unit of the reward of a type, or of an agent such as firm_3."""
    type_ = deviator if deviator in economy.agents else deviator.rpartition("_")[0]
    return f"{economy.agents[type_].reward_unit or 'reward'} per period" if type_ in economy.agents else "reward per period"


# -- many runs


@matplotlib.rc_context(STYLE)
def draw_many(runs: Sequence[Run], folder: Path, by: str | None = None) -> list[Path]:
    """Draw what several runs of one economy show together as folder/regressions.png and folder/members.png; RunError if they do not fit.

    `by` names a key of the configuration (params.open_economy) whose values have panels of their own.
    """
    names = {run.config.economy for run in runs}
    if len(names) != 1:
        raise RunError(f"the runs play different economies ({', '.join(sorted(names))}); compare those of one")
    made = {}
    if panels := regressions(runs, by):
        title = f"{names.pop()}: {len(runs)} runs, means of their last {LAST} iterations"
        made["regressions"] = figure(panels, title, columns=len({panel.title for panel in panels}))
    shown = [run for run in runs if list((run.path / "episodes").glob("episode_*_market.npz"))][:len(LETTERS)]
    if panels := members(shown):
        key = "   ".join(f"{letter}: {run.path.name}" for letter, run in zip(LETTERS, shown))
        made["members"] = figure(panels, "The first replica of the episode logged last", key, columns=len(shown))
    folder.mkdir(parents=True, exist_ok=True)
    for name, drawn in made.items():
        drawn.savefig(folder / f"{name}.png", dpi=110)
    return [folder / f"{name}.png" for name in made]


def regressions(runs: Sequence[Run], by: str | None = None) -> list[Panel]:
    """Each of PAIRS that the runs recorded, a point for each run and the least-squares line, in panels for each value of `by`."""
    economy = envs.load(runs[0].config.economy)
    groups: dict[str, list[pandas.Series]] = {}
    for run in runs:
        group = f"{by.rpartition('.')[2]} = {_setting(run, by)}" if by else ""
        groups.setdefault(group, []).append(rows(run).tail(LAST).mean())
    panels = []
    for number, (group, found) in enumerate(groups.items()):
        table = pandas.DataFrame(found)
        panels += [_scatter(economy, group, x, y, table[[x, y]].dropna().to_numpy(), COLOURS[number % len(COLOURS)])
                   for x, y in PAIRS if {x, y} <= set(table)]
    return panels


def _scatter(economy: Economy, group: str, x: str, y: str, points: np.ndarray, colour: str) -> Panel:
    def draw_on(ax: Axes) -> None:
        ax.scatter(points[:, 0], points[:, 1], s=18, color=colour, edgecolor="white", lw=0.5, zorder=3)
        said = [group, f"{len(points)} runs"]
        if len(points) > 2 and np.ptp(points[:, 0]) > 0:
            line = stats.linregress(*points.T)
            ends = points[:, 0].min(), points[:, 0].max()
            ax.plot(ends, [line.intercept + line.slope * end for end in ends], color=INK, lw=1.2)
            said[1] = f"r² = {line.rvalue**2:.2g}, {said[1]}"
        ax.margins(0.08)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.3 * (high - low))  # room for the words
        ax.text(0.98, 0.98, "\n".join(filter(None, said)), transform=ax.transAxes, ha="right", va="top", size=8, color=QUIET)
        ax.set_xlabel(_axis(economy, x))
        ax.xaxis.set_major_formatter(lambda value, _: short(value))
        ax.xaxis.set_major_locator(MaxNLocator(5))

    return Panel(f"{_named(x)} and {_named(y)}", _axis(economy, y), draw_on, group)


def _named(column: str) -> str:
    """A column of progress.csv in words: consumer reward, price."""
    kind, _, name = column.partition("/")
    return f"{name} reward" if kind == "reward" else _words(name)


def _axis(economy: Economy, column: str) -> str:
    """The same with its unit: consumer reward (utils), price (coins/unit)."""
    kind, _, name = column.partition("/")
    unit = economy.agents[name].reward_unit if kind == "reward" else _declared(economy, name, "State", "Actions").get("unit")
    unit = unit or UNITS.get(name, "")
    return f"{_named(column)} ({unit})" if unit else _named(column)


def members(runs: Sequence[Run]) -> list[Panel]:
    """Heat maps of MEMBERS over one episode, a row for each quantity and a column for each run (A, B, ...), colours alike in a row."""
    panels = []
    stored = [_newest_market(run) for run in runs]
    for name in MEMBERS:
        arrays = [(run, _quantities(envs.load(run.config.economy))[name], np.asarray(log[name][0], float))
                  for run, log in zip(runs, stored) if name in log and log[name].ndim == 3 and log[name].shape[2] <= HEAT]
        if not arrays or len(arrays) < len(runs):
            continue
        seen = np.concatenate([array[1 if field.metadata["doc"].startswith("flow") else 0:].ravel() for _, field, array in arrays])
        seen = seen[np.isfinite(seen)]
        limits = (float(seen.min()), float(seen.max())) if seen.size and np.ptp(seen) else None
        for letter, (run, field, array) in zip(LETTERS, arrays):
            title = f"{_words(field.name)}, {letter}"
            drawn = _over_time(envs.load(run.config.economy), field, array, title, limits)
            panels.append(drawn[0][1] if drawn else _still(title))
    return panels


def _still(title: str) -> Panel:
    def draw_on(ax: Axes) -> None:
        ax.text(0.5, 0.5, "never changes", transform=ax.transAxes, ha="center", color=QUIET)

    return Panel(title, "", draw_on)


def _newest_market(run: Run) -> dict[str, np.ndarray]:
    """The market file of the newest dense episode; RunError if it is damaged."""
    file = max((run.path / "episodes").glob("episode_*_market.npz"), key=lambda file: (len(file.name), file.name))
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in MEMBERS if name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(f"{file} is damaged ({error}); remove it, and the figures leave it out") from None


def _setting(run: Run, key: str) -> str:
    """What a run's configuration, or its economy's default, says under a dotted key; RunError if there is none of that name."""
    value: Any = to_dict(run.config)
    for part in key.split("."):
        value = value.get(part, _MISSING) if isinstance(value, Mapping) else _MISSING
    if value is _MISSING and key.startswith("params."):
        value = getattr(envs.load(run.config.economy).defaults(), key.removeprefix("params."), _MISSING)
    if value is _MISSING:
        raise RunError(f"{run.path} has no setting {key}; group the runs by one of its configuration, such as params.open_economy")
    return str(value).lower() if isinstance(value, bool) else str(value)


_MISSING = object()


# -- figures


@matplotlib.rc_context(STYLE)
def figure(panels: Sequence[Panel], title: str = "", key: str = "", columns: int = 3) -> Figure:
    """Panels in a grid, in reading order, with a title above and a key to the phase numbers below."""
    columns = min(columns, len(panels))
    lines = textwrap.wrap(key, 62 * columns)
    above, below = 0.4 * bool(title), 0.17 * len(lines)
    tall = ceil(len(panels) / columns)
    width, height = SIZE[0] * columns, SIZE[1] * tall + above + below
    made = Figure(figsize=(width, height))
    made.subplots_adjust(LEFT / width, (BOTTOM + below) / height, 1 - RIGHT / width, 1 - (TOP + above) / height,
                         (LEFT + RIGHT) / (SIZE[0] - LEFT - RIGHT), (TOP + BOTTOM) / (SIZE[1] - TOP - BOTTOM))
    for number, panel in enumerate(panels, 1):
        ax = made.add_subplot(tall, columns, number)
        ax.set_title(panel.title, loc="left", pad=14)
        ax.set_ylabel(panel.unit)
        ax.yaxis.set_major_formatter(lambda value, _: short(value))
        panel.draw(ax)
    made.text(0.1 / width, 1 - 0.1 / height, title, va="top", size=12, weight="bold")
    made.text(0.1 / width, 0.1 / height, "\n".join(lines), va="bottom", size=8, color=QUIET)
    return made


@matplotlib.rc_context(STYLE)
def svg(made: Figure, name: str, label: str) -> str:
    """A figure as an <svg> element to stand inside a page, with text that can be read out and selected. `name` is its own on the page."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):  # ids that no other figure of the page has
        made.savefig(text, format="svg", metadata={"Date": None})
    body = text.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", body[body.index("<svg"):], flags=re.DOTALL)
    body = re.sub(r'<g id="[^"]*"', "<g", body)  # ids that nothing refers to, the same in every figure
    return body.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def short(number: float) -> str:
    """A number in few characters: 0.05, 2,145, 142k, 3.1M."""
    scales = ((1e9, 1e9, "bn"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
    divisor, letter = next(((divisor, letter) for limit, divisor, letter in scales if abs(number) >= limit), (1, ""))
    return f"{number / divisor:,.4g}{letter}".replace("-", "\N{MINUS SIGN}")


def _words(name: str) -> str:
    return name.replace("_", " ")


def _declared(economy: Economy, name: str, *places: str) -> Mapping[str, Any]:
    """What the kernel declares about a name, searched in dataclasses such as State; empty if it is in none of them."""
    found = (f.metadata for place in places for f in fields(getattr(economy.kernel, place)) if f.name == name)
    return next(found, {})


def _member(economy: Economy, axis: str) -> str:
    """What one element of an axis is called: the agent type of that number, or else the axis's Param without n_."""
    size = economy.kernel.AXES[axis]
    return next((type_ for type_, agent in economy.agents.items() if agent.count == size), size.removeprefix("n_"))


def _period(economy: Economy) -> str:
    unit = _declared(economy, economy.horizon, "Params").get("unit") if isinstance(economy.horizon, str) else ""
    return f"period ({unit})" if unit else "period"
