"""The verb that plays many runs: `sweep`."""
from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

from rllib_macro.terminal import (
    PROGRAM,
    Json,
    Progressing,
    Settings,
    app,
    argument,
    asked,
    config_file,
    console,
    emit,
    last,
    must_be_writable,
    number,
    say,
    spelled_out,
    table,
)

if TYPE_CHECKING:
    import pandas

    from rllib_macro.sweep import Design
    from rllib_macro.sweep_solvers import SolverDesign
    from rllib_macro.tuning import Results

CHECKED = 8  # trials that are built in memory before any starts


@app.command()
def sweep(
    config: Annotated[str, argument("CONFIG", "A sweep: a YAML file, or a name in tune_configs/sweeps.")],
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the sweep where it was interrupted.")] = False,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where the sweep's folder is made.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Train a run many times with some of its keys varied, in a new folder DIR/NAME, and rank the trials; TensorBoard shows them all.

    A sweep with `solve: {model: ...}` instead of `config: ...` compares solvers of a growth model.

    Exit code 1 if a trial failed. --resume unpickles Tune's own files: use it only on folders that this machine wrote.
    """
    from rllib_macro import sweep_solvers, tuning
    from rllib_macro.sweep import Design
    found = _design(config, settings or [])
    path = runs / found.sweep.name
    must_be_writable(runs)
    if resume:
        say(tuning.TRUST)
    elif isinstance(found, Design) and not path.exists():  # else `start` refuses, and says how to go on
        _try(found)
    again = shlex.join(["sweep", config, *(settings or []), *(["--runs", str(runs)] if runs != Path("runs") else []), "--resume"])
    player: Any = tuning if isinstance(found, Design) else sweep_solvers
    play: Callable[..., Results] = player.resume if resume else player.start
    with _resumable(path, again), SweepWatch(found, console(stderr=as_json)) as watch:
        results = play(found, runs, watch)
    _show(found, results, path, as_json)
    raise typer.Exit(int(bool(results.failed)))


def _design(config: str, settings: Sequence[str]) -> Design | SolverDesign:
    """The sweep that was asked for: settings change the sweep itself, or what all its trials do."""
    from rllib_macro import sweep as sweeping
    from rllib_macro import sweep_solvers
    file = config_file(config, "sweeps")
    with asked():
        if sweep_solvers.is_one(file):
            return sweep_solvers.load(file, settings)
        own = [setting for setting in settings if sweeping.own(setting)]
        others = [setting for setting in settings if setting not in own]
        economy = sweeping.load(file).run.economy if others else ""
        return sweeping.load(file, [*own, *(spelled_out(others, economy) if others else [])])


def _try(found: Design) -> None:
    """Build some trials in memory, so that an impossible one is refused before the sweep's folder exists."""
    from rllib_macro import check as checking
    with asked():
        for run in found.runs[::max(1, len(found.runs) // CHECKED)]:
            checking.configuration(run)


@contextmanager
def _resumable(path: Path, again: str) -> Iterator[None]:
    """Ctrl-C within the block says how to go on with the sweep at `path`."""
    try:
        yield
    except KeyboardInterrupt as stop:
        hint = f"; go on with: {PROGRAM} {again}" if (path / "sweep.yaml").exists() else ""
        raise KeyboardInterrupt(f"{str(stop) or 'interrupted'}{hint}") from None


class SweepWatch(Progressing):
    """The progress of a sweep: a live line on a terminal, elsewhere a line for each trial that has ended."""

    def __init__(self, found: Design | SolverDesign, out: Console):
        self.metric = found.sweep.metric
        self.iterations = [found.length(point["number"]) for point in found.points]
        self.at: dict[int, int] = {}  # trial -> its iteration
        self.ended: set[int] = set()
        super().__init__(sum(self.iterations) or len(found.points), out, TextColumn("iterations" if any(self.iterations) else "trials"))

    def __call__(self, point: Mapping[str, Any], row: Mapping[str, float], ended: bool) -> None:
        """Take a trial's newest row, and whether the trial has ended."""
        trial = point["number"]
        self.at[trial] = int(row.get("iteration", 0))
        if ended:
            self.ended.add(trial)
        words = f"{len(self.ended)} of {len(self.iterations)} trials ended"
        self.bar.update(self.task, completed=sum(self.at.values()) if any(self.iterations) else len(self.ended), description=words)
        if ended and not self.live:
            values = "  ".join(f"{key} {value}" for key, value in point["vary"].items())
            result = f"{self.metric} {number(row[self.metric])}" if self.metric in row else ""
            far = f"iteration {self.at[trial]}/{self.iterations[trial]}  " if any(self.iterations) else ""
            line = f"{words}: trial {trial}  {values}  seed {point['seed']}  {far}{result}"
            self.out.print(Text(line.rstrip()), soft_wrap=True)


def _show(found: Design | SolverDesign, results: Results, path: Path, as_json: bool) -> None:
    if as_json:
        return emit({"sweep": str(path), "trials": results.trials.to_dict("records"), "settings": results.settings.to_dict("records"),
                     "failed": results.failed, "table": str(path / "results.csv")})
    from rllib_macro import ranking
    from rllib_macro.sweep import short
    sweep = found.sweep
    varied, measured = [key for key in sweep.columns() if key in results.trials], ranking.measured(results.trials, sweep)
    means = f"means of the last {found.last} iterations" if found.last > 1 else "what they were in the end"
    best = "largest" if sweep.mode == "max" else "smallest"
    table(f"Trials, {best} {sweep.metric} first; {means}",
          ("trial", *map(short, varied), "seed", *measured, "iterations", "ended"),
          _cells(results.trials.assign(trial=[name.partition("_")[0] for name in results.trials["trial"]]),
                 ["trial", *varied, "seed", *measured, "iterations", "ended"]), right=True)
    if len(sweep.seeds) > 1:
        varied = [key for key in varied if key in results.settings]
        table("Settings: interquartile mean over seeds, 95 % interval where there are three seeds or more",
              (*map(short, varied), "seeds", *(part for name in measured for part in (name, "low", "high"))),
              _cells(results.settings, [*varied, "seeds", *(part for name in measured for part in (name, f"{name}/low", f"{name}/high"))]),
              right=True)
    for trial, reason in results.failed.items():
        say(f"trial {trial} failed: {reason}")
    last(path / "results.csv")


def _cells(frame: pandas.DataFrame, columns: Sequence[str]) -> list[list[str]]:
    return [[_cell(row.get(column)) for column in columns] for row in frame.to_dict("records")]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else number(value)
    return str(value)
