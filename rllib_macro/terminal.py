"""How the command line speaks: its mistakes and tables, what a user may name, the progress of a training.

What is slow to import waits until a verb needs it.
"""
from __future__ import annotations

import dataclasses
import difflib
import json
import logging
import math
import os
import re
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.text import Text
from typer.core import TyperGroup

if TYPE_CHECKING:
    from rllib_macro.config import RunConfig
    from rllib_macro.replay import Deviation
    from rllib_macro.run import Run

CONFIGS = Path(__file__).parents[1] / "tune_configs"
PROGRAM = "python -m rllib_macro"
FOLDERS = ("sweeps", "cluster")  # of CONFIGS, whose files are no configurations of runs
LAYERS = ("kernels", "envs", "rllib_macro")  # whose own errors are sentences for the user
INTERRUPTED = 130
WIDTH = 140  # of tables that no terminal shows


class Mistake(ValueError):
    """Something that the user should change, said in one sentence."""


class Backend(StrEnum):
    """Where a trace is replayed."""

    numpy = "numpy"
    native = "native"
    cuda = "cuda"


class Verbs(TyperGroup):
    """Runs a verb. A user's mistake becomes one sentence and exit code 2, Ctrl-C one sentence and 130; others are ours: a traceback."""

    def invoke(self, ctx: Any) -> Any:
        heard = logging.root.manager.disable
        logging.disable(logging.WARNING)  # hints of libraries are for us, and this project logs nothing
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            say(str(stop) or "interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if not isinstance(error, Mistake) and type(error).__module__.partition(".")[0] not in LAYERS:
                raise
            say(f"error: {' '.join(str(error).split())}")
            raise typer.Exit(2) from None
        finally:
            logging.disable(heard)


@contextmanager
def plainly() -> Iterator[None]:
    """The same for a program that is no verb: libraries give no hints, what a user can mend is one sentence and exit code 2."""
    heard = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    finally:
        logging.disable(heard)


app = typer.Typer(
    cls=Verbs, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich",
    help="Find, check and study equilibria of macroeconomic models in which every agent learns.",
    epilog="Start with [bold]list[/], then [bold]train rbc_quick[/]. A verb's own help: VERB --help.",
)


def argument(metavar: str, help: str) -> Any:
    """An argument as the help shows it."""
    return typer.Argument(metavar=metavar, help=help, show_default=False)


def option(metavar: str | None, help: str, **others: Any) -> Any:
    """An option as the help shows it, whose default is said in its help or is nothing."""
    return typer.Option(metavar=metavar, help=help, show_default=False, **others)


Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Settings = Annotated[list[str] | None, argument("KEY=VALUE", "Changes, such as policies.firm.lr=1e-4, or a Param such as n_firms=5.")]
RunFolder = Annotated[Path, argument("RUN", "A run's folder, such as runs/rbc_quick.")]


# --- what the user names ----------------------------------------------------------------------------------------------


@contextmanager
def asked() -> Iterator[None]:
    """Within the block any ValueError is about what the user asked for; elsewhere a ValueError is a defect."""
    try:
        yield
    except ValueError as error:
        raise Mistake(str(error)) from error


def described(name: str, settings: Sequence[str]) -> tuple[RunConfig, bool]:
    """The configuration that a name stands for, and whether it is one rather than an economy alone. An economy's name goes first."""
    import envs
    from rllib_macro.config import check_against, from_dict
    looks_like_one = name in configurations() or name.endswith((".yaml", ".yml")) or "/" in name
    if Path(name).is_file() or (looks_like_one and name not in envs.names()):
        return checked(config_file(name), settings), True
    try:
        economy = envs.load(from_dict({"economy": name}).economy)
    except ValueError as error:
        near = difflib.get_close_matches(name, [*envs.names(), *configurations()], 1)
        raise Mistake(f"there is no economy or configuration {name!r}; did you mean {near[0]!r}?" if near else str(error)) from error
    return check_against(from_dict({"economy": name}, spelled_out(settings, name)), economy), False


def config_file(name: str, folder: str | None = None) -> Path:
    """The configuration file that a path or a name in tune_configs, or in one of its FOLDERS, stands for."""
    path = Path(name)
    if path.is_file():
        return path
    here = configurations(folder)
    if (bare := name.removesuffix(".yaml")) in here:
        return here[bare]
    beside = [str(file) for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(name, [*beside, *map(str, here.values()), *here], 1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"give a YAML file or one of {', '.join(here)}"
    raise Mistake(f"there is no {'configuration' if folder is None else folder.removesuffix('s')} {name}; {hint}")


def checked(file: Path, settings: Sequence[str]) -> RunConfig:
    """A configuration file with changes, fitted to its economy."""
    import envs
    from rllib_macro.config import check_against, load
    with asked():
        named = next((setting.partition("=")[2] for setting in settings if setting.startswith("economy=")), None)
        config = load(file, spelled_out(settings, named or load(file).economy))
        return check_against(config, envs.load(config.economy))


def in_full(setting: str) -> str:
    """A setting under its whole key: iterations=200 is stop.iterations=200."""
    return f"stop.{setting}" if setting.partition("=")[0] == "iterations" else setting


def spelled_out(settings: Sequence[str], economy: str) -> list[str]:
    """Settings in which `iterations` stands for `stop.iterations`, and a Param may stand without `params.`: n_firms=5."""
    import envs
    from rllib_macro.config import RunConfig
    settings = [in_full(setting) for setting in settings]
    keys = RunConfig.model_fields.keys()
    short = [field.name for field in dataclasses.fields(envs.load(economy).kernel.Params) if field.name not in keys]
    for key in {setting.partition("=")[0] for setting in settings} - keys - set(short):
        if "." not in key and (near := difflib.get_close_matches(key, [*keys, *short], 1)):
            raise Mistake(f"unknown key {key!r}; did you mean {near[0]!r}?")
    return [f"params.{setting}" if setting.partition("=")[0] in short else setting for setting in settings]


def configurations(folder: str | None = None) -> dict[str, Path]:
    """{name: file} in tune_configs or in one of its FOLDERS, seen from here where that is shorter: {"rbc": tune_configs/rbc.yaml}."""
    here, root = Path.cwd(), CONFIGS / (folder or "")
    files = [file for file in sorted(root.rglob("*.yaml")) if folder or file.relative_to(root).parts[0] not in FOLDERS]
    return {str(file.relative_to(root).with_suffix("")): file.relative_to(here) if file.is_relative_to(here) else file for file in files}


def comment(file: Path) -> str:
    """A file's first comment line."""
    return next((line.lstrip("# ").rstrip() for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")), "")


def scripts_of(given: Iterable[str], config: RunConfig) -> dict[str, str]:
    """{type: rule} from type=rule; what a rule may be is the batch's to say."""
    scripts = {}
    for text in given:
        type_, equals, rule = text.partition("=")
        if not equals or type_ not in config.policies:
            raise Mistake(f"--rule must look like TYPE=random, where TYPE is one of {', '.join(config.policies)}; got {text!r}")
        scripts[type_] = rule
    return scripts


def saved_iteration(run: Run, iteration: int | None) -> int:
    """The iteration whose policies play: the one asked for, or the newest that was saved."""
    if iteration is not None:
        return iteration
    saved = run.checkpoints() or run.saved()
    if not saved:
        run.checkpoint()  # says so
    return saved[-1]


def runs_in(folder: Path) -> list[Path]:
    """The folder itself, or of a sweep its trials that have ended."""
    if not (folder / "sweep.yaml").is_file():
        return [folder]
    trials = sorted(path.parent for path in folder.glob("*/policies") if (path.parent / "config.yaml").is_file())
    if not trials:
        raise Mistake(f"{folder} is a sweep of which no trial has ended; go on with it: sweep ... --resume")
    return trials


def must_be_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before hours of work."""
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise Mistake(f"{folder} cannot be written: {nearest} is {'read-only' if nearest.is_dir() else 'a file'}; choose another folder")


@contextmanager
def resumable(path: Path) -> Iterator[None]:
    """Ctrl-C within the block says how to go on with the run at `path`."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if list(path.glob("checkpoints/iteration_*")):
            raise KeyboardInterrupt(f"{str(stop) or 'interrupted'}; go on with: {PROGRAM} train --resume {path}") from None
        hint = f"; delete {path} before you start again" if path.exists() else ""
        raise KeyboardInterrupt(f"interrupted before the first iteration{hint}") from None


# --- what the user sees -----------------------------------------------------------------------------------------------


class Progressing:
    """A progress bar that moves within a `with` block on a terminal, and is not shown elsewhere (`live` is None)."""

    def __init__(self, total: int, out: Console, *columns: TextColumn, **fields: Any):
        self.out = out
        self.bar = Progress(TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), *columns, console=out)
        self.task = self.bar.add_task("starting", total=total, **fields)
        coloured_pipe = "FORCE_COLOR" in os.environ and not out.file.isatty()  # notebooks set it
        self.live = Live(self.bar, console=out, refresh_per_second=4) if out.is_terminal and not coloured_pipe else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *unused: Any) -> None:
        if self.live:
            self.live.stop()


class Watch(Progressing):
    """The progress of a training: two live lines on a terminal, elsewhere one for the first iteration and every tenth of all."""

    def __init__(self, iterations: int, types: Iterable[str], out: Console):
        super().__init__(iterations, out, TextColumn("{task.fields[pace]}"), pace="")
        self.iterations, self.types = iterations, list(types)
        self.recent: deque[tuple[float, int]] = deque(maxlen=20)  # (seconds, agent steps) of the last iterations
        self.printed = -1  # tenths of the iterations

    def __call__(self, row: Mapping[str, Any]) -> None:
        """Take one iteration's row."""
        k = row["iteration"]
        self.recent.append((row["seconds"], row["agent_steps"]))
        pace, rewards = self._pace(k), self._rewards(row)
        if self.live:
            done = k == self.iterations
            self.bar.update(self.task, completed=k, pace=pace, description="evaluating" if done else "training")
            self.live.update(Group(self.bar, Text(rewards, overflow="ellipsis", no_wrap=True)))
        elif k * 10 // self.iterations > self.printed:
            self.printed = k * 10 // self.iterations
            self.out.print(Text(f"iteration {k}/{self.iterations}  {pace}  {rewards}"), soft_wrap=True)

    def _pace(self, k: int) -> str:
        """Agent-steps per second and time left, from the last iterations."""
        (first, _), (now, _) = self.recent[0], self.recent[-1]
        steps = sum(count for _, count in self.recent) - self.recent[0][1]
        seconds = now - first
        if len(self.recent) < 2:  # since the start of the run
            seconds, steps = now, self.recent[0][1]
        if seconds <= 0:
            return ""
        each = seconds / max(1, len(self.recent) - 1)
        return f"{steps / seconds:,.0f} agent-steps/s  {clock((self.iterations - k) * each)} left"

    def _rewards(self, row: Mapping[str, Any]) -> str:
        """The reward of every type, and who learns."""
        rewards = ", ".join(f"{type_} {number(row[f'reward/{type_}'])}" for type_ in self.types if f"reward/{type_}" in row)
        learning = [type_ for type_ in self.types if any(name.startswith(f"learn/{type_}/") for name in row)]
        return f"reward: {rewards}; learning: {', '.join(learning) or 'nobody'}"


def show_outcome(run: Run, as_json: bool) -> None:
    """How trained play compares with its baselines, what it measures, and where the report is."""
    found = json.loads((run.path / "evaluation.json").read_text())
    page, welfare = run.path / "report.html", _welfare(run, found)
    if as_json:
        return emit({"run": str(run.path), "iterations": run.config.stop.iterations, "evaluation": found, "welfare": welfare,
                     "report": str(page)})
    from rllib_macro.evaluate import BASELINES, beats
    rows = [(type_, spread(of["trained"]), *(spread(of[name]) + ("  ", " ✓")[beats(of, name)] if name in of else "" for name in BASELINES))
            for type_, of in found["rewards"].items()]
    seeds = ", ".join(map(str, found["seeds"]))
    table(f"Reward per agent and period, the others trained: mean ± standard deviation over the seeds {seeds}",
          ("reward of", "trained", *BASELINES), rows, right=True)
    console().print("✓ trained play earns more on every seed", style="dim")
    measures = ({"welfare": welfare} if welfare else {}) | found["measures"]
    table("Trained play, per period", ("measure", "mean"), [(name, spread(values)) for name, values in measures.items()], right=True)
    last(page)


def _welfare(run: Run, found: Mapping[str, Any]) -> list[float] | None:
    """Welfare of trained play on each seed: a measure of that name, or the reward that its declaration calls welfare."""
    import envs
    if "welfare" in found["measures"]:
        return found["measures"]["welfare"]
    declared = dataclasses.fields(envs.load(run.config.economy).kernel.Rewards)
    types = [field.name for field in declared if field.metadata.get("doc", "").startswith("welfare") and field.name in found["rewards"]]
    return found["rewards"][types[0]]["trained"] if types else None


def worst(deviations: Iterable[Deviation]) -> Iterator[tuple[Any, ...]]:
    """One row for each quantity and backend: the comparison that used most of its tolerance."""
    groups: dict[str, dict[str, list[Deviation]]] = {}
    for row in deviations:
        groups.setdefault(row.quantity, {}).setdefault(row.backend, []).append(row)
    for quantity, backends in groups.items():
        for backend, rows in backends.items():
            row = max(rows, key=lambda row: (not row.ok, row.deviation / row.atol if row.atol else row.deviation))
            tolerance = f"{row.atol:.1e}" + (f" + {row.rtol:g} of it" if row.rtol else "") if row.atol or row.rtol else "equal"
            yield quantity, backend, row.configuration, row.step, f"{row.deviation:.1e}", tolerance, "ok" if row.ok else "outside"


def console(stderr: bool = False) -> Console:
    """Where tables go: as wide as the terminal, or wide enough for a file."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else WIDTH)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], right: bool = False) -> None:
    """Rows under a title on stdout."""
    from rllib_macro.describe import print_table
    print_table(console(), title, columns, rows, right)


def last(path: Path | str) -> None:
    """The last line says where the files are; never wrapped, so that it can be copied."""
    typer.echo(str(path))


def say(sentence: str) -> None:
    """One line on stderr."""
    typer.echo(sentence, err=True)


def emit(value: Any) -> None:
    """JSON on stdout; a number that is not finite, which JSON does not know, is null."""
    typer.echo(json.dumps(_plain(value), indent=1, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def word(text: str) -> str:
    """A text as part of a folder's name: fixed(income_tax=0.3) -> fixed-income_tax-0.3."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def per_replica(values: Any) -> list[float]:
    """The mean of each replica: (B, T, ...) -> B numbers."""
    return values.reshape(len(values), -1).mean(1, dtype=float).tolist()


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation."""
    import numpy as np
    mean = number(float(np.mean(values)))
    return f"{mean} ± {number(float(np.std(values, ddof=1)))}" if len(values) > 1 else mean


def number(value: float) -> str:
    """A number for a reader: 0.0123, 12.3, 101,234."""
    whole = math.isfinite(value) and (abs(value) >= 1000 or value == int(value))
    return f"{value:,.0f}" if whole else f"{value:.3g}"


def size(megabytes: float) -> str:
    """Megabytes for a reader: 0.3 MB, 12 MB, 3.8 GB."""
    return f"{megabytes / 1000:,.1f} GB" if megabytes >= 1000 else f"{max(megabytes, 0.1):.{int(megabytes < 10)}f} MB"


def clock(seconds: float) -> str:
    """75 -> 1:15."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
