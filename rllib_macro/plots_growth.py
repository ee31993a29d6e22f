"""Figures of solved growth models: policy against the reference, maps of Euler errors, what each method reaches in which time."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kernels import growth
from rllib_macro import diagnostics
from rllib_macro.plots import COLOURS, DASHES, INK, QUIET, STYLE, Panel, figure
from rllib_macro.solvers.egm import reference
from rllib_macro.solvers.policy import Policy

PUBLISHED = "T1"  # the panel of the model that the published program solves, up to one row of probabilities
PUBLISHED_MAX = -4.24  # log10 of the largest Euler error of the published C++ program's solution of jesusfv
SPAN = 8  # powers of ten that a map of errors tells apart
LANGUAGES = {  # CPU time over that of the best C++: Aruoba and Fernandez-Villaverde (2015), table 1; ranges by their midpoint
    "C++": 1.0, "Fortran": 1.05, "Numba": 1.6, "Julia": 2.67, "Java": 2.4, "Matlab": 10, "PyPy": 44, "CPython": 212, "R": 600,
    "Mathematica": 800,
}


@matplotlib.rc_context(STYLE)
def draw(policy: Policy, folder: Path) -> list[Path]:
    """policy.png: saving and consumption against the reference; euler_errors.png: where the policy errs."""
    panels = {"policy": [saving(policy), distance(policy)], "euler_errors": error_maps(policy)}
    files = []
    for name, group in panels.items():
        files.append(folder / f"{name}.png")
        figure(group, f"{policy.method}: {name.replace('_', ' ')}").savefig(files[-1], dpi=110)
    return files


def saving(policy: Policy) -> Panel:
    """Share of resources saved over capital, for the lowest, middle and highest productivity; the reference as thin lines."""
    p, best = policy.p, reference(policy.p).share
    k, middle = np.linspace(*growth.box(p), 201), float(diagnostics.rates(p)[len(diagnostics.rates(p)) // 2])
    n = len(p.productivity)

    def draw(ax: Axes) -> None:
        for colour, z in zip(COLOURS, (0, n // 2, n - 1), strict=False):
            at = k, np.full(k.shape, z), np.full(k.shape, middle)
            ax.plot(k, policy.share(*at), color=colour, label=f"A = {p.productivity[z]:.3g}")
            ax.plot(k, best(*at), color=INK, linewidth=0.7, linestyle=DASHES[1])
        ax.set_xlabel("capital")
        ax.legend(title="thin: reference")
    return Panel("saving", "share of resources", draw)


def distance(policy: Policy) -> Panel:
    """|c / c_reference - 1| over capital, on a log scale."""
    p, best = policy.p, reference(policy.p).share
    k, n = np.linspace(*growth.box(p), 201), len(p.productivity)
    d = np.full(k.shape, float(diagnostics.rates(p)[len(diagnostics.rates(p)) // 2]))

    def draw(ax: Axes) -> None:
        for colour, z in zip(COLOURS, (0, n // 2, n - 1), strict=False):
            at = k, np.full(k.shape, z), d
            off = np.abs((1 - policy.share(*at)) / (1 - best(*at)) - 1)
            ax.plot(k, np.log10(np.maximum(off, 1e-17)), color=colour)
        ax.set_xlabel("capital")
    return Panel("off the reference", "log10 |c / c* − 1|", draw)


def error_maps(policy: Policy) -> list[Panel]:
    """log10 |EE| over capital and productivity, and over capital and depreciation where that varies."""
    p = policy.p
    at = diagnostics.states(p, "box")
    found = np.log10(np.maximum(diagnostics.errors(p, policy.share, at), 1e-17))
    cube = found.reshape(diagnostics.CAPITALS, len(p.productivity), -1)
    low, high = growth.box(p)
    maps = [_map("log10 |Euler error|, worst depreciation", "productivity", cube.max(2), (low, high), p.productivity)]
    rates = diagnostics.rates(p)
    if len(rates) > 1:
        maps.append(_map("log10 |Euler error|, worst productivity", "depreciation", cube.max(1), (low, high), rates))
    return maps


def _map(title: str, unit: str, errors: np.ndarray, capital: tuple[float, float], levels: Iterable[float]) -> Panel:
    levels = list(levels)

    def draw(ax: Axes) -> None:
        image = ax.imshow(errors.T, aspect="auto", origin="lower", extent=(*capital, -0.5, len(levels) - 0.5), cmap="YlGnBu_r",
                          vmin=max(errors.min(), errors.max() - SPAN))
        ax.figure.colorbar(image, ax=ax, pad=0.02)
        shown = np.unique(np.linspace(0, len(levels) - 1, 5).astype(int))
        ax.set_yticks(shown, [f"{levels[i]:.3g}" for i in shown])
        ax.set_xlabel("capital")
        ax.grid(False)
    return Panel(title, unit, draw)


@matplotlib.rc_context(STYLE)
def frontier(rows: Iterable[Mapping[str, Any]], file: Path) -> Path:
    """Mean Euler error on the box against CPU seconds, both logarithmic, a panel for each model, a line for each method.

    A row has model, method and path: [[CPU seconds, log10 mean |EE|], ...].
    """
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["model"]):
        by_model.setdefault(row["model"], []).append(row)
    names = sorted({row["method"] for group in by_model.values() for row in group})
    look: dict[str, tuple[str, Any]] = {
        name: (COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]) for i, name in enumerate(names)}
    made = Figure(figsize=(4.4 * len(by_model), 4.4))
    axes = made.subplots(1, len(by_model), sharey=True, squeeze=False)[0]
    for ax, (model, group) in zip(axes, by_model.items(), strict=True):
        for row in group:
            colour, dashes = look[row["method"]]
            seconds, errors = np.maximum(np.array(row["path"], float).T, [[1e-2], [-16.0]])
            ax.plot(seconds, errors, color=colour, linestyle=dashes, marker="o", markersize=2.5)
        _log_axis(ax)
        ax.set_title(model, loc="left")
        ax.set_xlabel("CPU seconds")
        if model == PUBLISHED:
            ax.axhline(PUBLISHED_MAX, color=QUIET, linewidth=0.7)
            ax.text(0.02, PUBLISHED_MAX, "largest error of the published grid solution", transform=ax.get_yaxis_transform(), size=7,
                    color=QUIET, va="bottom")
    axes[0].set_ylabel("log10 mean |Euler error|, box")
    lines = [matplotlib.lines.Line2D([], [], color=colour, linestyle=dashes, label=name) for name, (colour, dashes) in look.items()]
    made.legend(handles=lines, loc="lower center", ncols=min(6, len(lines)))
    made.subplots_adjust(0.09 if len(by_model) < 3 else 0.06, 0.26, 0.99, 0.92, 0.06)
    made.savefig(file, dpi=120)
    return file


@matplotlib.rc_context(STYLE)
def languages(ours: Mapping[str, float], file: Path) -> Path:
    """Time of value function iteration over that of C++: published languages, and ours as measured, {mode: ratio}."""
    bars = sorted({**LANGUAGES, **ours}.items(), key=lambda item: -item[1])
    made = Figure(figsize=(6.4, 0.3 * len(bars) + 0.9))
    ax = made.add_subplot()
    ax.barh([name for name, _ in bars], [ratio for _, ratio in bars], color=[COLOURS[0] if name in ours else QUIET for name, _ in bars])
    for i, (_, ratio) in enumerate(bars):
        ax.text(ratio * 1.08, i, f"{ratio:.3g}", va="center", size=7.5)
    _log_axis(ax)
    ax.set_xlabel("CPU time, C++ = 1; grey as published in 2015, blue measured here")
    ax.grid(axis="y", visible=False)
    made.subplots_adjust(0.2, 0.6 / (0.3 * len(bars) + 0.9), 0.94, 0.98)
    made.savefig(file, dpi=120)
    return file


def _log_axis(ax: Axes) -> None:
    """Powers of ten as plain numbers."""
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.xaxis.set_minor_formatter(lambda value, _: "")
