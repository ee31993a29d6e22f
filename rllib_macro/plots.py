"""Figures of a run: rewards, measures, learning and one episode, each a panel with the labels and units of the economy's declarations.

`sections` decides what a run can show, as panels. `draw` puts them on PNG files; the report puts the same panels on a page, by `svg`.
"""
from __future__ import annotations

import io
import re
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import envs
from envs.core.economy import Economy
from rllib_macro import schedule
from rllib_macro.config import RunConfig
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
    """Draw everything that the run can show as plots/<section>.png; RunError if nothing was recorded."""
    drawn = sections(run)
    key = "   ".join(f"{number}: after {k}, {'; '.join(what)}" for number, (k, what) in enumerate(phases(run.config).items(), 1))
    (run.path / "plots").mkdir(exist_ok=True)
    files = []
    for name, panels in drawn.items():
        files.append(run.path / "plots" / f"{name}.png")
        title = f"{run.config.name} ({run.config.economy}): {name}"
        figure(panels, title, "" if name == "episode" else key, 4 if len(panels) > 12 else 3).savefig(files[-1], dpi=110)
    return files


def sections(run: Run) -> dict[str, list[Panel]]:
    """What there is to see: {"rewards": panels, "measures": ..., "learning": ..., "episode": ...}, sections without data left out."""
    economy, frame = envs.load(run.config.economy), rows(run)
    found = {"rewards": rewards(run.config, economy, frame), "measures": measures(run.config, economy, frame),
             "learning": learning(run.config, economy, frame), "episode": episode(run, economy)}
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
                  _declared(economy, type_, "Rewards").get("doc", ""))
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


def _over_time(economy: Economy, field: Any, array: np.ndarray) -> list[tuple[int, Panel]]:
    """[(rank of the kind of chart, chart)] of a quantity (T, ...); no chart of what never changes."""
    periods, about = len(array), field.metadata
    array = np.where(np.isfinite(array), array, np.nan).reshape(periods, -1)
    if about["doc"].startswith("flow"):
        array = array[1:]  # states are recorded before each step, and a flow is then that of the period before
    if not array.size or not np.ptp(np.nan_to_num(array), axis=0).any():
        return []
    member = _member(economy, about["axes"][0]) if about["axes"] else ""
    rank, kind = (2, _line) if array.shape[1] == 1 else (0, _heat) if array.shape[1] <= HEAT else (1, _spread)

    def draw_on(ax: Axes) -> None:
        kind(ax, array, member, about["unit"])
        ax.set_xlim(-0.5, periods - 0.5)
        ax.set_xlabel(_period(economy))
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    return [(rank, Panel(_words(field.name), member if kind is _heat else about["unit"], draw_on, about["doc"].removeprefix("flow: ")))]


def _heat(ax: Axes, array: np.ndarray, member: str, unit: str) -> None:
    """Members upwards, time to the right; colours diverge from zero where signs differ."""
    low, high = np.nanmin(array), np.nanmax(array)
    signed = low < 0 < high
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
def svg(panel: Panel, section: str) -> str:
    """One panel as an <svg> element to stand inside a page, with text that can be read out and selected."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": f"{section} {panel.title}"}):  # ids that no other panel of the page has
        figure([panel]).savefig(text, format="svg", metadata={"Date": None})
    body = text.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>", "", body[body.index("<svg"):], flags=re.DOTALL)
    return re.sub(r'<g id="[^"]*"', "<g", body)  # ids that nothing refers to, the same in every panel


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
