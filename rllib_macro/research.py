"""Verbs that question a trained run: best responses and the epsilon table."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Literal

import typer

from rllib_macro.terminal import Json, RunFolder, app, asked, console, emit, last, number, option, table

Checkpoint = Annotated[int | None, option("N", "Iteration whose profile is questioned (default: the newest).", min=0)]
Iterations = Annotated[int, typer.Option(metavar="N", min=1, help="Iterations in which the deviation learns.")]
TrainingSeeds = Annotated[int, typer.Option(metavar="N", min=2, help="Training seeds: their spread makes the interval.")]
Episodes = Annotated[int, typer.Option(metavar="N", min=64, help="Paired fresh episodes for each training seed.")]
Layout = Annotated[Literal["2022"] | None, option(None, "Write also RUN/layout_2022, the file tree of the program of 2022.")]
Label = Annotated[str | None, option("TEXT", "Name of the analysis (default: iteration_N); one that exists is refused.")]


@app.command("best-response")
def best_response(
    run: RunFolder,
    type: Annotated[str, typer.Option(metavar="TYPE", help="Type that deviates, or all.")] = "all",
    agent: Annotated[str | None, option("AGENT", "One agent that deviates alone, such as firm_3.")] = None,
    checkpoint: Checkpoint = None, iterations: Iterations = 200, seeds: TrainingSeeds = 5, episodes: Episodes = 128,
    fresh: Annotated[bool, typer.Option("--fresh", help="Deviations start from new weights, not from the frozen policy.")] = False,
    label: Label = None, layout: Layout = None, as_json: Json = False,
) -> None:
    """What a type, or one agent, still gains by leaving the learned profile: a lower bound on epsilon with its 95 % interval."""
    from rllib_macro import best_response as responding
    options: dict[str, Any] = {"checkpoint": checkpoint, "iterations": iterations, "seeds": seeds, "episodes": episodes, "label": label,
               "start": "fresh" if fresh else "checkpoint", "watch": _watch}
    found = _opened(run)
    with asked(), _laid_out(found, layout):
        results = responding.equilibrium(found, **options) if agent is None and type == "all" else [
            responding.best_response(found, agent or type, **options)]
    _show(results, as_json, found.path)


@app.command()
def equilibrium(
    run: RunFolder, checkpoint: Checkpoint = None, iterations: Iterations = 200, seeds: TrainingSeeds = 5, episodes: Episodes = 128,
    label: Label = None, layout: Layout = None, as_json: Json = False,
) -> None:
    """The epsilon table: best responses of all types, which then stand in the report."""
    from rllib_macro import best_response as responding
    from rllib_macro import report
    found = _opened(run)
    with asked(), _laid_out(found, layout):
        results = responding.equilibrium(found, checkpoint=checkpoint, iterations=iterations, seeds=seeds, episodes=episodes, label=label,
                                         watch=_watch)
    _show(results, as_json, report.write(found))


def check_best_response(as_json: bool) -> None:
    """Coverage of intervals, share of planted deviations found, share of equilibria left in peace; exit code 1 below 90 %."""
    from rllib_macro import self_check
    found = self_check.coverage(watch=_watch)
    if as_json:
        emit(asdict(found))
    else:
        shares = (("intervals that hold the exact gain", found.covered), ("planted deviations found", found.found),
                  ("equilibria left in peace", found.left_in_peace))
        table(f"{found.repetitions} repetitions, {found.deviations} trained deviations worth {number(found.mean_exact_gain)} "
              f"of {number(found.possible_gain)} coins", ("nominal 95 % intervals", "share"),
              [(name, f"{100 * share:.1f} %") for name, share in shares], right=True)
    raise typer.Exit(int(min(found.covered, found.found, found.left_in_peace) < 0.9))


@contextmanager
def _laid_out(run: Any, layout: str | None) -> Iterator[None]:
    """Refuse a layout that cannot hold the run before the block, write it after."""
    if layout:
        from rllib_macro import layout_2022
        layout_2022.require(run.config)
    yield
    if layout:
        layout_2022.write(run, run.path / layout_2022.FOLDER)


def _opened(run: Any) -> Any:
    from rllib_macro.run import Run
    with asked():
        return Run.open(run)


def _watch(line: str) -> None:
    console(stderr=True).print(line, style="dim", highlight=False)


def _show(results: list[Any], as_json: bool, where: Any) -> None:
    if as_json:
        return emit([asdict(result) for result in results])
    rows = [(r.deviator, str(r.checkpoint), number(r.profile), number(r.gain), f"{number(r.ci_low)} to {number(r.ci_high)}",
             "" if r.share_of_training_gain is None else f"{100 * r.share_of_training_gain:.2g} %",
             r.verdict + (" (profile differs from the training log)" if r.mismatch else "")) for r in results]
    table("Gain of the best deviation found: a lower bound on epsilon",
          ("deviator", "iteration", "profile", "gain", "95 % interval", "of training", "verdict"), rows)
    last(where)
