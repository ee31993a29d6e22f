"""Verbs that question a trained run: best responses, the epsilon table, impulse responses, rules in place of a type."""
from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from rllib_macro.terminal import Json, RunFolder, app, asked, console, emit, last, number, option, table

Checkpoint = Annotated[int | None, option("N", "Iteration whose profile is questioned (default: the newest).", min=0)]
Iterations = Annotated[int, typer.Option(metavar="N", min=1, help="Iterations in which the deviation learns.")]
TrainingSeeds = Annotated[int, typer.Option(metavar="N", min=2, help="Training seeds: their spread makes the interval.")]
Episodes = Annotated[int, typer.Option(metavar="N", min=64, help="Paired fresh episodes for each training seed.")]
Label = Annotated[str | None, option("TEXT", "Name of the analysis (default: iteration_N); one that exists is refused.")]


@app.command("best-response")
def best_response(
    run: RunFolder,
    type: Annotated[str, typer.Option(metavar="TYPE", help="Type that deviates, or all.")] = "all",
    agent: Annotated[str | None, option("AGENT", "One agent that deviates alone, such as firm_3.")] = None,
    checkpoint: Checkpoint = None, iterations: Iterations = 200, seeds: TrainingSeeds = 5, episodes: Episodes = 128,
    fresh: Annotated[bool, typer.Option("--fresh", help="Deviations start from new weights, not from the frozen policy.")] = False,
    label: Label = None, as_json: Json = False,
) -> None:
    """What a type, or one agent, still gains by leaving the learned profile: a lower bound on epsilon with its 95 % interval."""
    from rllib_macro import best_response as responding
    options: dict[str, Any] = {"checkpoint": checkpoint, "iterations": iterations, "seeds": seeds, "episodes": episodes, "label": label,
               "start": "fresh" if fresh else "checkpoint", "watch": _watch}
    found = _opened(run)
    with asked():
        results = responding.equilibrium(found, **options) if agent is None and type == "all" else [
            responding.best_response(found, agent or type, **options)]
    _show(results, as_json, found.path)


@app.command()
def equilibrium(
    run: RunFolder, checkpoint: Checkpoint = None, iterations: Iterations = 200, seeds: TrainingSeeds = 5, episodes: Episodes = 128,
    label: Label = None, as_json: Json = False,
) -> None:
    """The epsilon table: best responses of all types, which then stand in the report."""
    from rllib_macro import best_response as responding
    from rllib_macro import report
    found = _opened(run)
    with asked():
        results = responding.equilibrium(found, checkpoint=checkpoint, iterations=iterations, seeds=seeds, episodes=episodes, label=label,
                                         watch=_watch)
    _show(results, as_json, report.write(found))


@app.command()
def impulse(
    run: RunFolder,
    shock: Annotated[str, typer.Option(metavar="NAME", help="Shock of the economy, such as tfp.")],
    size: Annotated[float, typer.Option(metavar="X", help="Added to one draw, in the shock's unit.")] = 0.01,
    at: Annotated[int, typer.Option(metavar="N", min=0, help="Period of the episode in which it comes.")] = 1,
    replicas: Annotated[int, typer.Option(metavar="N", min=2, help="Copies of the economy for each seed.")] = 64,
    checkpoint: Checkpoint = None, as_json: Json = False,
) -> None:
    """Impulse responses of the learned economy: the same draws with and without one shock, 95 % bands over paired episodes."""
    from rllib_macro import evaluate, experiments
    found = _opened(run)
    with asked():
        responses = experiments.impulse(found.config, evaluate.modules(found.config, found.weights(checkpoint)), shock, size, at,
                                        seeds=found.config.evaluation.seeds, replicas=replicas)
    if as_json:
        return emit({name: asdict(response) for name, response in responses.items()})
    periods = [str(t) for t in range(len(next(iter(responses.values())).mean))]
    rows = [(name, *(f"{number(m)} ({number((h - low) / 2)})" for m, low, h in zip(r.mean, r.low, r.high, strict=True)))
            for name, r in responses.items()]
    table(f"Response to {size:g} more of {shock} in period {at}, by period (half width of the 95 % band)", ("quantity", *periods), rows,
          right=True)


@app.command()
def compare(
    run: RunFolder,
    type: Annotated[str, typer.Option(metavar="TYPE", help="Type that the rules replace.")],
    rule: Annotated[list[str], typer.Option(metavar="RULE", help="Such as 'fixed(income_tax=0.2, corporate_tax=0.2)'; may be repeated.")],
    checkpoint: Checkpoint = None, as_json: Json = False,
) -> None:
    """Rewards when a type follows hand-written rules while the others behave as they learned to."""
    from rllib_macro import evaluate, experiments
    found = _opened(run)
    with asked():
        rows = experiments.compare(found.config, evaluate.modules(found.config, found.weights(checkpoint)), type, rule)
    if as_json:
        return emit(rows)
    types = list(rows[0]["rewards"])
    table(f"Rewards when {type} follows a rule, behaviour of the others fixed", ("rule", *types, f"gain of {type}"),
          [(row["rule"], *(number(row["rewards"][t]) for t in types),
            "" if not row["gain"] else f"{number(row['gain'][type]['mean'])} ({number(row['gain'][type]['low'])} to "
            f"{number(row['gain'][type]['high'])})") for row in rows], right=True)


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
