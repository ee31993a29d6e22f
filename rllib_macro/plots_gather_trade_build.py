"""Figures of an episode of the gather-trade-build world, from its dense log: maps, stocks, movement, trades, incomes; and a page that
plays it.

`breakdown` makes the figures, `draw` puts them on PNG files. `animate` writes one HTML file that needs nothing else and loads nothing.
"""
from __future__ import annotations

import html
import json
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from rllib_macro import gather_trade_build_log as logs
from rllib_macro.plots import COLOURS, DASHES, INK, QUIET, SHADE, STYLE, Panel, bars, figure, short

GROUND, WATER = "#f7f5ef", "#c9dff0"
WOOD, STONE = "#2f7d4f", "#8b8378"  # of what lies on a tile; where a source is empty, its outline
LOOK = {"Stone": ("s", STONE), "Wood": ("^", WOOD)}
SOURCE_COLOURS = {"Build": "#0072B2", "Sell Stone": "#8b8378", "Sell Wood": "#2f7d4f", "Buy Stone": "#c4beb4", "Buy Wood": "#9ccbae",
                  "Work": "#56B4E9", "Tax": "#D55E00", "Lump sum": "#E69F00"}
FIGURES = ("maps", "time", "agents", "coins")  # of a breakdown
SNAPSHOTS = 5  # maps of an episode
SHOWN = 4  # agents whose movement and trades are drawn
STRIDE = 20  # periods between two points of a path
MAP = 2.6  # inches of a map's side


@matplotlib.rc_context(STYLE)
def draw(log: logs.Log, folder: Path, name: str = "episode") -> list[Path]:
    """The figures of `breakdown` as folder/<name>_<figure>.png."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for what, made in breakdown(log).items():
        files.append(folder / f"{name}_{what}.png")
        made.savefig(files[-1], dpi=110)
    return files


def breakdown(log: logs.Log, sort: str | None = None) -> dict[str, Figure]:
    """{name: figure} of FIGURES. `sort` numbers agents by a field of their state, such as build_payment. In the
    one-step economy, which has no map, there are only "time" and "coins"."""
    log = logs.sorted_by(log, sort) if sort else log
    made = {"maps": snapshots(log)} if log["world"][0] else {}
    made["time"] = figure(over_time(log), "Over time")
    if log["world"][0]:
        made["agents"] = movement(log)
    return made | {"coins": figure(coins(log), "Where coins came from and went")}


# -- the map

@matplotlib.rc_context(STYLE)
def snapshots(log: logs.Log, count: int = SNAPSHOTS) -> Figure:
    """Maps of `count` periods at equal distances, of those that were kept."""
    kept = [t for t, maps in enumerate(log["world"]) if maps]
    shown = [kept[k] for k in np.unique(np.linspace(0, len(kept) - 1, min(count, len(kept))).round().astype(int))]
    made, axes = _maps(len(shown), "Maps")
    for ax, t in zip(axes, shown):
        draw_map(ax, log, t)
        ax.set_title(f"period {t}", loc="left")
    _legend(made, log)
    return made


def _maps(count: int, title: str, rows: int = 1, below: float = 0.4) -> tuple[Figure, list[Axes]]:
    """A figure of `count` square axes in rows, with room for a title above and a legend below."""
    columns = ceil(count / rows)
    width, height = (MAP + 0.15) * columns + 0.15, (MAP + 0.35) * rows + 0.3 + below
    made = Figure(figsize=(width, height))
    made.text(0.1 / width, 1 - 0.1 / height, title, va="top", size=12, weight="bold")
    axes = []
    for k in range(count):
        row, column = divmod(k, columns)
        axes.append(made.add_axes((((MAP + 0.15) * column + 0.15) / width, 1 - (0.3 + (MAP + 0.35) * (row + 1)) / height,
                                   MAP / width, MAP / height)))
    return made, axes


def draw_map(ax: Axes, log: logs.Log, t: int, agents: bool = True) -> None:
    """The map of period t, which must have a snapshot: water, sources and what lies there, houses, agents with their numbers."""
    maps = log["world"][t]
    if not maps:
        kept = [k for k, one in enumerate(log["world"]) if one]
        raise ValueError(f"the log has no map of period {t}, but of {', '.join(map(str, kept[:8]))}...; record it with every=1 for all")
    _ground(ax, log)
    size = _dot(ax, log)
    for good, (marker, colour) in LOOK.items():
        source, there = np.array(maps[f"{good}SourceBlock"]) > 0, np.array(maps[good]) > 0
        for where, face in ((source & ~there, "none"), (there, colour)):
            rows, columns = np.nonzero(where)
            ax.scatter(columns, rows, 0.55 * size, marker=marker, facecolor=face, edgecolor=colour, lw=0.6, alpha=0.85)
    owner = np.array(maps["House"]["owner"])
    for i in np.unique(owner[owner >= 0]).tolist():
        rows, columns = np.nonzero(owner == i)
        ax.scatter(columns, rows, 1.3 * size, marker="p", color=COLOURS[i % len(COLOURS)], lw=0, alpha=0.6)
    if agents:
        for i, key in enumerate(logs.agents(log)):
            row, column = log["states"][t][key]["loc"]
            _agent(ax, i, row, column, size)


def _ground(ax: Axes, log: logs.Log) -> None:
    water = np.array(log["world"][0].get("Water", np.zeros_like(log["world"][0]["Stone"]))) > 0
    ax.imshow(water, cmap=LinearSegmentedColormap.from_list("", [GROUND, WATER]), vmin=0, vmax=1)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(False)
    for side in ax.spines.values():
        side.set_visible(True)
        side.set_color("#cfd6dc")


def _dot(ax: Axes, log: logs.Log) -> float:
    """Area of a marker, in points squared, that fills a tile."""
    side = max(np.shape(log["world"][0]["Stone"]))
    return float((72 * MAP / side) ** 2)


def _agent(ax: Axes, i: int, row: int, column: int, size: float) -> None:
    ax.scatter(column, row, min(2.4 * size, 150), color=COLOURS[i % len(COLOURS)], edgecolor="white", lw=1, zorder=4, clip_on=False)
    ax.text(column, row + 0.05, str(i), color="white", size=min(7, 0.75 * size**0.5), weight="bold", ha="center", va="center", zorder=5)


def _legend(made: Figure, log: logs.Log) -> None:
    """What the marks of a map mean, at the foot of a figure."""
    def mark(marker: str, label: str, face: str, edge: str) -> Line2D:
        return Line2D([], [], ls="", marker=marker, color=face, markeredgecolor=edge, label=label, ms=6)
    marks = [mark("^", "wood", WOOD, WOOD), mark("s", "stone", STONE, STONE), mark("s", "empty source", "white", QUIET),
             mark("p", "house, in its owner's colour", QUIET, QUIET), mark("o", "agent", QUIET, QUIET), mark("s", "water", WATER, WATER)]
    made.legend(handles=marks, loc="lower center", ncols=6, handletextpad=0.1, columnspacing=1.4)


# -- over time

def over_time(log: logs.Log) -> list[Panel]:
    """Coins, stone, wood and labor of every agent, houses built, and what trades were made at."""
    series, houses = logs.series(log), logs.builds(log)
    count = np.zeros_like(series["Coin"])
    for t, i in houses[["period", "agent"]].to_numpy(int):
        count[t + 1:, i] += 1
    panels = [_lines("coins", "coins", series["Coin"], "With what bids have set aside.", log)]
    if log["world"][0]:
        panels += [_lines("stone", "units", series["Stone"], "", log), _lines("wood", "units", series["Wood"], "", log)]
    panels.append(_lines("labor", "labor", series["Labor"], "Of moves, collecting, orders and building, added up.", log))
    if "Build" in log:
        panels.append(_lines("houses built", "houses", count, "", log))
    return panels + ([prices(log)] if "Trade" in log else [])


def _lines(title: str, unit: str, values: np.ndarray, note: str, log: logs.Log) -> Panel:
    """A line for each agent, tax days dotted."""
    def draw_on(ax: Axes) -> None:
        for i, line in enumerate(values.T):
            ax.plot(line, color=COLOURS[i % len(COLOURS)], ls=DASHES[i // len(COLOURS) % len(DASHES)], lw=1.3,
                    label=f"agent {i}" if i < 10 else None)
        _time(ax, log)
        if title == "coins":
            ax.legend(ncols=2, handlelength=1.4, columnspacing=1, borderaxespad=0.1)
            low, high = ax.get_ylim()
            ax.set_ylim(low, high + 0.25 * (high - low))
    return Panel(title, unit, draw_on, note)


def _time(ax: Axes, log: logs.Log) -> None:
    for t, day in enumerate(log.get("PeriodicTax", [])):
        if day:
            ax.axvline(t + 1, color=QUIET, lw=0.6, ls=(0, (1, 3)), zorder=0.5)
    ax.set_xlim(0, 1.04 * max(len(log["states"]) - 1, 1))
    ax.set_xlabel("period")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))


def prices(log: logs.Log) -> Panel:
    """The price of every trade, and their running mean."""
    sales = logs.trades(log)

    def draw_on(ax: Axes) -> None:
        for good, (marker, colour) in LOOK.items():
            mine = sales[sales["commodity"] == good]
            ax.scatter(mine["period"], mine["price"], 5, marker=marker, color=colour, alpha=0.35, lw=0)
            mean = mine["price"].rolling(max(len(mine) // 10, 1), center=True, min_periods=1).mean()
            ax.plot(mine["period"], mean, color=colour, label=f"{good.lower()}, {len(mine):,} trades")
        ax.margins(y=0.1)
        _time(ax, log)
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + 0.25 * (high - low))
        ax.legend(ncols=2, handlelength=1.4, columnspacing=1, loc="upper right", borderaxespad=0.1)
    return Panel("prices of trades", "coins", draw_on, "A mark is a trade, a line the running mean.")


# -- agent by agent

@matplotlib.rc_context(STYLE)
def movement(log: logs.Log, count: int = SHOWN) -> Figure:
    """Where the first agents were, and below what they sold (upwards) and bought (downwards)."""
    who = logs.agents(log)[:count]
    series, sales = logs.series(log), logs.trades(log)
    made, axes = _maps(2 * len(who), "Where agents were, and what they traded", 2, 0.55)
    top = max(float(sales["price"].max()) if len(sales) else 1.0, 1.0)
    for i in range(len(who)):
        _path(axes[i], log, i, series["row"][:, i], series["column"][:, i])
        skill = log["states"][0][who[i]].get("build_payment")
        axes[i].set_title(f"agent {i}" + (f", house pays {short(round(skill, 1))}" if skill else ""), loc="left")
        ax = axes[len(who) + i]
        place = ax.get_position()
        ax.set_position((place.x0 + 0.035 * place.width, place.y0 + 0.12 * place.height, 0.93 * place.width, 0.8 * place.height))
        _sticks(ax, log, i, sales, top, first=i == 0)
    marks = [Line2D([], [], color=colour, marker=marker, ms=4, label=f"{good.lower()}: sold up, bought down")
             for good, (marker, colour) in LOOK.items()]
    marks += [Line2D([], [], ls="", marker="o", color="white", markeredgecolor=INK, label="start"),
              Line2D([], [], ls="", marker="*", ms=9, color=INK, label="end")]
    made.legend(handles=marks, loc="lower center", ncols=4, columnspacing=1.6)
    return made


def _path(ax: Axes, log: logs.Log, i: int, rows: np.ndarray, columns: np.ndarray) -> None:
    """Tiles the darker the longer agent i stood there, its path, start and end."""
    _ground(ax, log)
    height, width = np.shape(log["world"][0]["Stone"])
    visits = np.zeros((height, width))
    np.add.at(visits, (rows, columns), 1.0)
    colour = COLOURS[i % len(COLOURS)]
    shaded = LinearSegmentedColormap.from_list("", ["white", colour])
    pixels = shaded(0.15 + 0.85 * np.log1p(visits) / np.log1p(visits.max()))
    pixels[..., 3] = np.where(visits > 0, 0.85, 0)
    ax.imshow(pixels)
    path = np.unique(np.append(np.arange(0, len(rows), STRIDE), len(rows) - 1))
    ax.plot(columns[path], rows[path], color=INK, lw=0.6, alpha=0.55)
    ax.plot(columns[0], rows[0], "o", ms=6, color="white", markeredgecolor=INK, zorder=5)
    ax.plot(columns[-1], rows[-1], "*", ms=11, color=INK, markeredgecolor="white", markeredgewidth=0.6, zorder=6)
    ax.set_xlim(-0.5, width - 0.5)
    ax.set_ylim(height - 0.5, -0.5)


def _sticks(ax: Axes, log: logs.Log, i: int, sales: pandas.DataFrame, top: float, first: bool) -> None:
    for good, (marker, colour) in LOOK.items():
        for who, sign in (("seller", 1), ("buyer", -1)):
            mine = sales[(sales["commodity"] == good) & (sales[who] == i)]
            ax.vlines(mine["period"], 0, sign * mine["price"], color=colour, lw=0.9)
            ax.scatter(mine["period"], sign * mine["price"], 7, marker=marker, color=colour, lw=0, zorder=3)
    ax.axhline(0, color=QUIET, lw=0.8)
    ax.set_ylim(-1.1 * top, 1.1 * top)
    _time(ax, log)
    ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    ax.yaxis.set_major_formatter(lambda value, _: short(abs(value)))
    ax.tick_params(axis="y", pad=1)
    if first:
        ax.set_title("price, coins", loc="left", size=8, weight="normal", color=QUIET)


# -- coins

def coins(log: logs.Log) -> list[Panel]:
    """Incomes by source, endowments at the end, and tax rates by bracket."""
    panels = [incomes(log), endowments(log)]
    return panels + ([rates(log)] if any(log.get("PeriodicTax", [])) else [])


def incomes(log: logs.Log) -> Panel:
    """Coins of every agent by source, what was paid below zero."""
    table = logs.incomes(log)
    table = table.loc[:, (table != 0).any()]

    def draw_on(ax: Axes) -> None:
        place = np.arange(len(table))
        above, below = np.zeros(len(table)), np.zeros(len(table))
        for source in table.columns.drop("Total", errors="ignore"):
            values = table[source].to_numpy()
            base = np.where(values >= 0, above, below)
            ax.bar(place, values, 0.7, base, color=SOURCE_COLOURS[source], label=source.lower(), edgecolor="white", lw=0.4)
            above, below = above + np.maximum(values, 0), below + np.minimum(values, 0)
        if "Total" in table:
            ax.plot(place, table["Total"], "D", ms=4.5, color=INK, markeredgecolor="white", label="total")
        ax.axhline(0, color=QUIET, lw=0.8)
        _by_agent(ax, len(table), 0.42)
        if len(table.columns):
            ax.legend(ncols=3, loc="upper center", handlelength=1, columnspacing=0.9, labelspacing=0.2, borderaxespad=0.1, fontsize=7)
    return Panel("incomes by source", "coins", draw_on)


def endowments(log: logs.Log) -> Panel:
    """What every agent has at the end."""
    series = logs.series(log)
    goods = [f"{short(stone)} stone\n{short(wood)} wood" for stone, wood in zip(series["Stone"][-1], series["Wood"][-1])]
    few = len(goods) <= SHOWN + 2 and bool(log["world"][0])
    equality = 1 - float(logs.gini(series["Coin"][-1]))
    made = bars("endowments", "coins", _names(len(goods)), {"coins": series["Coin"][-1]}, above=goods if few else ())

    def draw_on(ax: Axes) -> None:
        made.draw(ax)
        for i, bar in enumerate(ax.patches):
            bar.set_facecolor(COLOURS[i % len(COLOURS)])
        low, high = ax.get_ylim()
        ax.set_ylim(low, high + (0.3 if few else 0.1) * (high - low))
        ax.set_title(f"sum {short(round(float(series['Coin'][-1].sum())))}, equality {equality:.2f}", loc="right", size=8, weight="normal",
                     color=QUIET, pad=14)
    return Panel(made.title, made.unit, draw_on, "What agents have at the end. Equality is 1 less the Gini coefficient.")


def rates(log: logs.Log) -> Panel:
    """The marginal rate of every bracket: each tax year, their mean, and the incomes that were taxed."""
    years = [day for day in log["PeriodicTax"] if day]
    cutoffs, schedule = np.array(years[0]["cutoffs"]), 100 * np.array([day["schedule"] for day in years])
    income = logs.taxes(log)["income"].to_numpy()
    end = max(float(income.max()) * 1.1, cutoffs[2] if len(cutoffs) > 2 else cutoffs[-1], 1.0)
    edges = np.append(cutoffs[cutoffs < end], end)

    def draw_on(ax: Axes) -> None:
        for year in schedule:
            ax.stairs(year[:len(edges) - 1], edges, color=COLOURS[0], lw=0.8, alpha=0.25, baseline=None)
        said = f"mean of {len(years)} tax years" if len(years) > 1 else "the tax year"
        ax.stairs(schedule.mean(0)[:len(edges) - 1], edges, color=COLOURS[0], lw=2, baseline=None, label=said)
        ax.plot(np.maximum(income, 0), np.full(len(income), -4.0), "|", color=COLOURS[1], ms=7, label="incomes")
        ax.set_xlim(0, end)
        ax.set_ylim(-8, 128)
        ax.set_yticks(range(0, 101, 25))
        ax.set_xlabel("income in a tax year, coins")
        ax.xaxis.set_major_formatter(lambda value, _: short(value))
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.legend(loc="upper left", ncols=2, columnspacing=1, borderaxespad=0.1)
    return Panel("marginal tax rates", "percent", draw_on, "Thin: single tax years. The ticks at the foot are incomes.")


def _names(count: int) -> list[str]:
    """A label for each agent, or for some where there are many."""
    every = ceil(count / 12)
    return [f"agent {i}" if count <= SHOWN + 2 else str(i) if i % every == 0 else "" for i in range(count)]


def _by_agent(ax: Axes, count: int, room: float) -> None:
    """Agents along the horizontal axis, and room for a legend above."""
    ax.set_xticks(range(count), _names(count))
    ax.set_xlim(-0.6, count - 0.4)
    ax.grid(axis="x", visible=False)
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + room * (high - low))


# -- an episode that moves

def animate(log: logs.Log, file: str | Path, title: str = "gather, trade, build") -> Path:
    """One HTML file that plays the episode. Resources are those of the snapshots, less what was collected since; record with every=1 for
    a map that is exact in every period. ValueError for a world without a map."""
    file = Path(file)
    file.write_text(page(log, title), encoding="utf-8")
    return file


def page(log: logs.Log, title: str) -> str:
    """The text of that file."""
    if not log["world"][0]:
        raise ValueError("the one-step economy has no map, so there is nothing to animate; use breakdown")
    return PAGE.replace("DATA", json.dumps(_film(log), separators=(",", ":"))).replace("TITLE", html.escape(title))


def _film(log: logs.Log) -> dict[str, Any]:
    """What the page needs, in numbers only."""
    series, first = logs.series(log), log["world"][0]
    where = np.stack([series[name] for name in ("row", "column")], -1).astype(int)
    stock = np.stack([series[name] for name in ("Coin", "Stone", "Wood", "Labor")], -1).round(2)
    codes = [np.argwhere(np.array(first[f"{good}SourceBlock"]) > 0).tolist() for good in logs.GOODS]
    return {
        "size": list(np.shape(first["Stone"])), "water": np.argwhere(np.array(first.get("Water", [[0]])) > 0).tolist(), "sources": codes,
        "full": _filled(log, codes), "where": where.tolist(), "stock": stock.tolist(),
        "houses": logs.builds(log)[["period", "agent", "row", "column"]].to_numpy(int).tolist(),
        "trades": [[int(t), logs.GOODS.index(good), int(buyer), int(seller), float(price)] for t, good, buyer, seller, price in
                   logs.trades(log)[["period", "commodity", "buyer", "seller", "price"]].itertuples(index=False)],
        "taxes": [t for t, day in enumerate(log.get("PeriodicTax", [])) if day],
        "colours": [COLOURS[i % len(COLOURS)] for i in range(where.shape[1])],
        "look": {"ground": GROUND, "water": WATER, "goods": [STONE, WOOD], "ink": INK, "quiet": QUIET, "shade": SHADE},
    }


def _filled(log: logs.Log, sources: Sequence[list[list[int]]]) -> list[list[str]]:
    """For each period and good a word of 0 and 1: which sources carry a unit; "" where nothing has changed since."""
    words, last = [], ["", ""]
    now = [np.zeros(len(of), int) for of in sources]
    place = [{tuple(at): k for k, at in enumerate(of)} for of in sources]
    for t, maps in enumerate(log["world"]):
        for g, good in enumerate(logs.GOODS):
            if maps:
                layer = np.array(maps[good])
                now[g] = np.array([layer[row, column] > 0 for row, column in sources[g]], int)
            elif t:
                for event in log.get("Gather", [[]] * len(log["world"]))[t - 1]:
                    if event["resource"] == good:
                        now[g][place[g][tuple(event["loc"])]] = 0
        told = ["".join(map(str, one)) for one in now]
        words.append([new if new != old else "" for new, old in zip(told, last)])
        last = told
    return words


PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>TITLE</title>
<style>
body { font: 14px/1.4 Verdana, "DejaVu Sans", sans-serif; color: #22303c; margin: 1.2em auto; max-width: 1000px; padding: 0 1em }
h1 { font-size: 1.15em } #all { display: flex; flex-wrap: wrap; gap: 1.2em } canvas { display: block; max-width: 100% }
#bar { display: flex; gap: .7em; align-items: center; margin: .6em 0 } #bar input { flex: 1; min-width: 8em }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 13px }
td, th { padding: .15em .5em; text-align: right; border-bottom: 1px solid #e6ecf1 } th { color: #5b6772; font-weight: normal }
td:first-child, th:first-child { text-align: left }
small, #said { color: #5b6772; font-size: 12px } #said { height: 7.2em; overflow: hidden }
b.dot { display: inline-block; width: 1.5em; border-radius: .8em; color: white; text-align: center }
button, select { font: inherit; min-width: 4.6em }
</style></head><body>
<h1>TITLE</h1>
<div id="bar"><button id="go">play</button><input id="at" type="range" min="0" value="0" aria-label="period"><span id="when"></span>
<select id="pace" aria-label="periods per second"><option>5</option><option selected>20</option><option>60</option></select>
<span>per second</span></div>
<div id="all"><div><canvas id="map" role="img" aria-label="the map in this period"></canvas>
<small>Triangles are wood, squares stone, outlines empty sources; houses have their owner's colour.</small></div>
<div style="flex:1;min-width:300px"><table><thead><tr><th>agent</th><th>coins</th><th>stone</th><th>wood</th><th>houses</th><th>labor</th>
</tr></thead><tbody id="who"></tbody></table><canvas id="chart" role="img" aria-label="coins of all agents over time"></canvas>
<div id="said" aria-live="off"></div></div></div>
<noscript>This page needs JavaScript to play; it loads nothing.</noscript>
<script type="application/json" id="data">DATA</script>
<script>
"use strict";
const d = JSON.parse(document.getElementById("data").textContent), T = d.where.length - 1, n = d.colours.length;
const [H, W] = d.size, q = Math.max(6, Math.floor(540 / Math.max(H, W))), goods = ["stone", "wood"];
const $ = id => document.getElementById(id), map = $("map"), chart = $("chart"), at = $("at");
const sharp = window.devicePixelRatio || 1;
function canvas(c, w, h) {
  c.width = w * sharp; c.height = h * sharp; c.style.width = w + "px"; c.style.height = h + "px";
  const g = c.getContext("2d"); g.scale(sharp, sharp); return g;
}
const edge = 8, g = canvas(map, W * q + 2 * edge, H * q + 2 * edge), h = canvas(chart, 380, 170);
g.translate(edge, edge);
const full = []; d.full.forEach((now, t) => full.push(now.map((word, k) => word || full[t - 1][k])));
at.max = T;
let t = 0, playing = false, last = 0;
function disc(c, x, y, r, fill, edge) {
  c.beginPath(); c.arc(x, y, r, 0, 7); c.fillStyle = fill; c.fill(); if (edge) { c.strokeStyle = edge; c.lineWidth = 1.5; c.stroke(); }
}
function drawMap() {
  g.fillStyle = d.look.ground; g.fillRect(-edge, -edge, W * q + 2 * edge, H * q + 2 * edge);
  g.fillStyle = d.look.water; for (const [r, c] of d.water) g.fillRect(c * q, r * q, q, q);
  d.sources.forEach((of, k) => of.forEach(([r, c], i) => {
    const x = c * q + q / 2, y = r * q + q / 2, s = q * .32; g.beginPath();
    if (k) { g.moveTo(x, y - s); g.lineTo(x + s, y + s); g.lineTo(x - s, y + s); } else g.rect(x - s, y - s, 2 * s, 2 * s);
    g.closePath(); g.strokeStyle = d.look.goods[k]; g.lineWidth = 1; g.stroke();
    if (full[t][k][i] === "1") { g.fillStyle = d.look.goods[k]; g.fill(); }
  }));
  for (const [when, i, r, c] of d.houses) if (when < t) {
    const x = c * q, y = r * q; g.globalAlpha = .7; g.fillStyle = d.colours[i]; g.beginPath();
    g.moveTo(x + q / 2, y + q * .1);
    for (const [right, down] of [[.92, .45], [.92, .92], [.08, .92], [.08, .45]]) g.lineTo(x + q * right, y + q * down);
    g.closePath(); g.fill(); g.globalAlpha = 1;
  }
  g.font = "bold " + Math.max(9, Math.min(q * .55, 14)) + "px sans-serif"; g.textAlign = "center"; g.textBaseline = "middle";
  d.where[t].forEach(([r, c], i) => {
    disc(g, c * q + q / 2, r * q + q / 2, Math.min(q * .62, 15), d.colours[i], "white");
    g.fillStyle = "white"; g.fillText(i, c * q + q / 2, r * q + q / 2 + 1);
  });
}
const most = Math.max(1, ...d.stock.flat().map(x => x[0]));
function drawChart() {
  const w = 330, high = 135, x = k => 40 + k / Math.max(T, 1) * w, y = v => 10 + high * (1 - v / most);
  h.clearRect(0, 0, 380, 170); h.font = "11px sans-serif"; h.fillStyle = h.strokeStyle = d.look.quiet; h.lineWidth = 1;
  h.textAlign = "right"; h.textBaseline = "middle"; h.fillText(Math.round(most), 36, y(most)); h.fillText(0, 36, y(0));
  h.textAlign = "left"; h.textBaseline = "top"; h.fillText("coins; dotted: tax days", 40, high + 16);
  h.setLineDash([1, 4]);
  for (const day of d.taxes) { h.beginPath(); h.moveTo(x(day + 1), y(0)); h.lineTo(x(day + 1), y(most)); h.stroke(); }
  h.setLineDash([]); h.beginPath(); h.moveTo(40, y(0)); h.lineTo(40 + w, y(0)); h.stroke(); h.lineWidth = 1.6;
  for (let i = 0; i < n; i++) {
    h.strokeStyle = d.colours[i];
    for (const [end, shade] of [[T, .2], [t, 1]]) {
      h.globalAlpha = shade; h.beginPath(); for (let k = 0; k <= end; k++) h.lineTo(x(k), y(d.stock[k][i][0])); h.stroke();
    }
  }
}
function show() {
  drawMap(); drawChart(); at.value = t; $("when").textContent = "period " + t + " of " + T;
  const owned = Array(n).fill(0); for (const [when, i] of d.houses) if (when < t) owned[i]++;
  $("who").innerHTML = d.stock[t].map((s, i) => `<tr><td><b class="dot" style="background:${d.colours[i]}">${i}</b></td>` +
    `<td>${s[0].toFixed(1)}</td><td>${s[1]}</td><td>${s[2]}</td><td>${owned[i]}</td><td>${s[3].toFixed(0)}</td></tr>`).join("");
  $("said").innerHTML = d.trades.filter(e => e[0] < t).slice(-5).reverse().map(e =>
    `period ${e[0] + 1}: ${e[2]} buys ${goods[e[1]]} from ${e[3]} for ${e[4]}`).join("<br>");
}
function tick(now) {
  if (!playing) return;
  const due = Math.floor((now - last) * $("pace").value / 1000);
  if (due > 0) { last = now; t = Math.min(T, t + due); show(); if (t === T) return play(false); }
  requestAnimationFrame(tick);
}
function play(on) {
  playing = on; $("go").textContent = on ? "pause" : "play";
  if (on) { if (t === T) t = 0; last = performance.now(); requestAnimationFrame(tick); }
}
$("go").onclick = () => play(!playing);
at.oninput = () => { t = +at.value; show(); };
if (/^#[0-9]+$/.test(location.hash)) t = Math.min(T, +location.hash.slice(1));
show();
</script></body></html>
"""
