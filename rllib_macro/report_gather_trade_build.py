"""What a run of the gather-trade-build world adds to its episodes, figures and report.

Beside the arrays of an episode it keeps a dense log of one replica, in the schema of the original program: what is drawn of a single world
is from the newest of them, with agents numbered by skill. Numbers of all replicas, and what they were earlier in training, are from the
arrays.
"""
from __future__ import annotations

import shlex
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import envs
from rllib_macro import gather_trade_build_log as logs
from rllib_macro import plots, report
from rllib_macro import plots_gather_trade_build as pictures
from rllib_macro.config import RunConfig
from rllib_macro.env_runner import fixed_params, fresh_player
from rllib_macro.plots import Panel
from rllib_macro.run import Run, RunError
from rllib_macro.terminal import number

SOCIAL = ("productivity", "equality", "equality_times_productivity")
ENDS = (*SOCIAL, "labor", "utility")  # measures whose last value is that of the whole episode


def play(config: RunConfig, policies: Mapping[str, Any], seed: int = 0, iteration: int | None = None,
         every: int = logs.EVERY) -> logs.Recorder:
    """An episode of policies and rules in one fresh replica, under the windows and Params of an iteration (the last if none is named)."""
    player = fresh_player(config, policies, 1, seed, iteration)
    with logs.watched(player.batch, every=every) as made:
        for t in range(player.batch.economy.periods(player.batch.p)):
            player.play(1, t)
    return made


def keep(run: Run, iteration: int, policies: Mapping[str, Any]) -> list[Path]:
    """The dense log of an episode as episodes/episode_<iteration>.lz4."""
    made = play(run.config, policies, run.config.seed, iteration)
    return [logs.write(made.log, run.path / "episodes" / f"episode_{iteration:06d}.lz4")]


def figures(run: Run) -> dict[str, Figure]:
    """Rewards and social measures over training, and the breakdown of the newest episode."""
    rewards = plots.rewards(run.config, envs.load(run.config.economy), plots.rows(run))
    title = f"{run.config.name} ({run.config.economy}): rewards and social measures"
    made = {"social": plots.figure([*rewards, *_social(run, _logged(run))], title)}
    if file := _newest(run):
        made |= {f"episode_{name}": drawn for name, drawn in pictures.breakdown(_log(file)).items()}
    return made


def sections(run: Run) -> dict[str, tuple[str, str]]:
    """What all replicas come to, and one world as it went."""
    return {"social": ("Productivity and equality", _ends(run)), "world": ("One world", _world(run))}


# -- all replicas, over training


@dataclass(frozen=True)
class Logged:
    """Of one logged episode: what its replicas end with, {measure: (B,)}, and the mean rate of every bracket above its cutoff (K,)."""

    iteration: int
    ends: dict[str, np.ndarray]
    cutoffs: np.ndarray
    rates: np.ndarray


def _logged(run: Run) -> list[Logged]:
    """All episodes that were logged while the run trained and at its end, in order; RunError if one is damaged."""
    found, year = [], fixed_params(run.config).tax_period
    for file in sorted((run.path / "episodes").glob("episode_*_market.npz"), key=lambda file: (len(file.name), file.name)):
        try:
            with np.load(file, allow_pickle=False) as stored:
                ends = {name: stored[f"measure/{name}"][:, -1] for name in ENDS}
                rates = stored["state/rates"][:, 1::year].mean((0, 1))  # states are those before each period; rates are set in the first
                found.append(Logged(int(file.name.split("_")[1]), ends, stored["state/cutoffs"][0, 0], rates))
        except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise RunError(f"{file} is damaged ({error}); remove it, and figures and report leave it out") from None
    return found


def _social(run: Run, logged: list[Logged]) -> list[Panel]:
    """Social measures over training, and where a planner learns and several episodes were logged, its rates."""
    economy, frame = envs.load(run.config.economy), plots.rows(run)
    titles = [name.replace("_", " ") for name in SOCIAL]
    measured = [replace(panel, title=panel.title.replace(" times ", " × ")) for panel in plots.measures(run.config, economy, frame)
                if panel.title in titles]
    taught = run.config.policies["planner"].rule is None and len(logged) > 1
    return [*measured, *([_rates(logged)] if taught else [])]


def _rates(logged: list[Logged]) -> Panel:
    """The mean rate of every bracket in each logged episode."""
    cutoffs = logged[-1].cutoffs
    names = [f"{low:.0f} to {high:.0f}" for low, high in zip(cutoffs, cutoffs[1:])] + [f"over {cutoffs[-1]:.0f}"]

    def draw_on(ax: Axes) -> None:
        colours = matplotlib.colormaps["viridis_r"](np.linspace(0.12, 1, len(names)))  # light to dark: low to high incomes
        for k, (name, colour) in enumerate(zip(names, colours)):
            ax.plot([one.iteration for one in logged], [100 * one.rates[k] for one in logged], marker="o", ms=3, color=colour, label=name,
                    clip_on=False)
        ax.set_xlim(0, logged[-1].iteration)
        ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        ax.set_ylim(0, 140)
        ax.set_yticks(range(0, 101, 25))
        ax.set_xlabel("iteration")
        ax.legend(ncols=3, loc="upper center", handlelength=1, columnspacing=1, labelspacing=0.2, borderaxespad=0.1, fontsize=7)
    return Panel("tax rates by bracket", "percent", draw_on, "Means of the logged episodes, by income in a tax year, in coins.")


def _ends(run: Run) -> str:
    """A table of what the newest logged episode ends with, and the same over training."""
    logged = _logged(run)
    grid = report.grid(_social(run, logged), "social")
    more = "" if len(logged) > 1 else " Where a planner learns, <code>log.episode_every</code> adds its rates by bracket."
    said = f"<p>Over training, means over the periods of each iteration.{more}</p>{grid}"
    if not logged:
        return said
    last = logged[-1].ends
    lines = [[name.replace("_times_", " × ").replace("_", " "), _typeset(number(float(last[name].mean()))),
              number(float(last[name].std(ddof=1)))] for name in ENDS]
    caption = (f"At the end of an episode, policies of iteration {logged[-1].iteration:,}, {len(last[SOCIAL[0]])} replicas. Productivity: "
               "coins of all agents. Equality: 1 less the Gini coefficient of coins.")
    return report.html_table(["", "mean", "standard deviation"], lines, caption) + said


def _typeset(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")


# -- one world


def _newest(run: Run) -> Path | None:
    return max((run.path / "episodes").glob("episode_*.lz4"), key=lambda file: (len(file.name), file.name), default=None)


def _log(file: Path) -> logs.Log:
    """A dense log with agents numbered by skill; RunError if it cannot be read."""
    try:
        return logs.by_skill(logs.read(file))
    except ValueError as error:
        raise RunError(f"{error}, or remove it, and figures and report leave it out") from None


def _world(run: Run) -> str:
    """Maps, a film, who traded and built what, and everything over time."""
    file = _newest(run)
    if file is None:
        kept = run.path / "episodes" / f"episode_{(run.saved() or [0])[-1]:06d}.lz4"
        command = shlex.join(["python", "-m", "rllib_macro", "log", str(run.path), "--out", str(kept)])
        return f"<p>No dense log has been kept yet: <code>{escape(command)}</code> keeps one.</p>"
    log = _log(file)
    summary = logs.summary(log)
    lines = [[str(i), *map(_typeset, row)] for i, row in zip(summary.index, summary.to_numpy())]
    table = report.html_table(["agent", *summary.columns], lines, "Agents by skill: the last is paid most. Of what was sold and bought, "
                              "pieces and their mean price.", numbers=False)
    grid = report.grid([*pictures.over_time(log), *pictures.coins(log)], "world")
    said = f"<p>One replica of the newest episode, <code>episodes/{escape(file.name)}</code>.</p>"
    if not log["world"][0]:
        return said + table + grid
    return "".join((said, _drawn(pictures.snapshots(log), "Maps of the episode"), _film(log), table,
                    _drawn(pictures.movement(log), "Where agents were, and what they traded"), grid))


def _drawn(made: Figure, title: str) -> str:
    return f"<figure>{plots.svg(made, title, title)}</figure>"


def _film(log: logs.Log) -> str:
    """The page that plays the episode, in a frame whose script can reach nothing outside it."""
    page = escape(pictures.page(log, "The episode, period by period"))
    return f'<iframe sandbox="allow-scripts" title="The episode, period by period" srcdoc="{page}"></iframe>'
