"""The command line, `python -m rllib_macro VERB`: each verb calls one function of the package and prints what it returns.

What is slow to import waits until a verb needs it. A user's mistake is one sentence on stderr and exit code 2; with --json, stdout is
JSON and nothing else.
"""
from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rllib_macro import (  # noqa: F401 - their verbs register themselves
    research,
    verbs_2022,
    verbs_audit,
    verbs_experiments,
    verbs_gather_trade_build,
    verbs_scorecard,
    verbs_solve,
    verbs_sweep,
)
from rllib_macro.terminal import (
    PROGRAM,
    Backend,
    Json,
    Mistake,
    RunFolder,
    Settings,
    Watch,
    app,
    argument,
    asked,
    checked,
    comment,
    config_file,
    configurations,
    console,
    described,
    emit,
    in_full,
    last,
    must_be_writable,
    option,
    per_replica,
    resumable,
    runs_in,
    saved_iteration,
    say,
    scripts_of,
    show_outcome,
    size,
    spelled_out,
    spread,
    table,
    word,
    worst,
)

if TYPE_CHECKING:
    from rllib_macro.config import RunConfig
    from rllib_macro.run import Run

# --- looking ----------------------------------------------------------------------------------------------------------


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Economies, configurations and sweeps that are here."""
    import envs
    from rllib_macro.describe import first_sentence
    economies = [{"name": name, "description": first_sentence(envs.load(name).kernel.__doc__)} for name in envs.names()]
    configs = [{"name": name, "path": str(file), "description": comment(file)} for name, file in configurations().items()]
    sweeps = [{"name": name, "path": str(file), "description": comment(file)} for name, file in configurations("sweeps").items()]
    if as_json:
        return emit({"economies": economies, "configurations": configs, "sweeps": sweeps})
    table("Economies", ("name", "description"), [(row["name"], row["description"]) for row in economies])
    table("Configurations", ("name", "description"), [(row["name"], row["description"]) for row in configs])
    table("Sweeps", ("name", "description"), [(row["name"], row["description"]) for row in sweeps])


@app.command()
def describe(
    name: Annotated[str, argument("ECONOMY|CONFIG", "An economy (rbc) or a configuration (rbc_quick, tune_configs/rbc.yaml).")],
    settings: Settings = None,
    features: Annotated[Literal["raw", "scaled", "digits"] | None, option(None, "View of the observations.")] = None,
    as_json: Json = False,
) -> None:
    """Timing, Params, agents, observations, choices, rules and measures; of a configuration also who learns and when."""
    from rllib_macro import describe as description
    changes = [*(settings or []), *([f"features={features}"] if features else [])]
    with asked():
        config, run = described(name, changes)
        told = description.describe(config, run)
    if as_json:
        return emit(told)
    description.show(told, console())


@app.command()
def schema(
    what: Annotated[Literal["run", "sweep"], argument("run|sweep", "Of configurations of runs (if left out), or of sweeps.")] = "run",
) -> None:
    """JSON Schema of a configuration or of a sweep, for editors that check and complete YAML."""
    if what == "sweep":
        from rllib_macro import sweep
        return emit(sweep.schema())
    from rllib_macro import config
    emit(config.schema())


@app.command()
def check(
    what: Annotated[Literal["machine", "best-response"], argument("machine|best-response", "What is checked.")] = "machine",
    as_json: Json = False,
) -> None:
    """Versions, compiler, GPU, the native backend and one tiny run: ok, or what to do. Exit code 1 if something essential fails.

    `check best-response` repeats best responses in a game with a known answer, in some minutes: how often intervals hold the truth.
    """
    if what == "best-response":
        return research.check_best_response(as_json)
    from rllib_macro import check as checking
    with console(stderr=True).status("") as status:
        findings = checking.machine(lambda what: status.update(f"looking at: {what}"))
    if as_json:
        emit([dataclasses.asdict(finding) for finding in findings])
    else:
        checking.show(findings, console())
    raise typer.Exit(int(any(finding.essential and not finding.ok for finding in findings)))


# --- training and playing ---------------------------------------------------------------------------------------------

Layout = Annotated[Literal["2022"] | None, option(None, "Write also RUN/layout_2022, the file tree of the program of 2022.")]


@app.command()
def train(
    config: Annotated[str | None, argument("CONFIG", "A YAML file, or a name in tune_configs.")] = None,
    settings: Settings = None,
    resume: Annotated[Path | None, option("RUN", "Go on with this run; only stop.iterations=N may change.")] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where run folders are made.")] = Path("runs"),
    device: Annotated[str | None, option("cpu|cuda", "The same as device=...")] = None,
    layout: Layout = None,
    as_json: Json = False,
) -> None:
    """Train a configuration in a new folder DIR/NAME, or go on with a run; compare all types with their baselines, write the report."""
    changes = [*(settings or []), *([f"device={device}"] if device else [])]
    if resume:
        run = _resume(resume, [*([config] if config else []), *changes], as_json, layout)
    elif config:
        run = _train(checked(config_file(config), changes), runs, as_json, layout)
    else:
        raise Mistake("name a configuration, such as rbc_quick, or a run to go on with: --resume RUN")
    if layout:
        from rllib_macro import layout_2022
        layout_2022.write(run, run.path / layout_2022.FOLDER)
    show_outcome(run, as_json)


def _train(config: RunConfig, runs: Path, as_json: bool, layout: str | None) -> Run:
    from rllib_macro import train as training
    path = runs / config.name
    must_be_writable(runs)
    _must_fit(layout, config)
    if not path.exists():  # else `train` refuses, and says how to go on
        from rllib_macro import check as checking
        with asked():
            checking.configuration(config)
            _tell_size(training.size_of_logs(config))
    with resumable(path), Watch(config.stop.iterations, config.policies, console(stderr=as_json)) as watch:
        return training.train(config, runs, watch)


def _tell_size(megabytes: float) -> None:
    """Say on stderr how large the dense logs will be, where a run keeps any while it trains."""
    if megabytes:
        say(f"the dense logs will take about {size(megabytes)}")


def _must_fit(layout: str | None, config: RunConfig) -> None:
    """Refuse a layout that cannot hold the run, before hours of work."""
    if layout:
        from rllib_macro import layout_2022
        with asked():
            layout_2022.require(config)


def _resume(path: Path, changes: Sequence[str], as_json: bool, layout: str | None) -> Run:
    from rllib_macro import check as checking
    from rllib_macro import train as training
    from rllib_macro.config import from_dict, to_dict
    from rllib_macro.run import Run
    changes = [in_full(change) for change in changes]
    for change in changes:
        if not change.startswith("stop.iterations="):
            raise Mistake(f"a run goes on with its own settings: only stop.iterations=N may change, got {change!r}; train anew for others")
    with asked():
        run = Run.open(path)
        iterations = from_dict(to_dict(run.config), changes).stop.iterations
        run.checkpoint()  # before anything is written
        if (done := run.checkpoints()[-1]) > iterations:
            raise Mistake(f"{path} is trained for {done} iterations already; give stop.iterations={done} or more")
        checking.configuration(run.config)
    _must_fit(layout, run.config)
    with resumable(path), Watch(iterations, run.config.policies, console(stderr=as_json)) as watch:
        return training.resume(path, watch, iterations if changes else None)


@app.command()
def rollout(
    run: RunFolder,
    checkpoint: Annotated[int | None, option("N", "Iteration whose policies play (default: the newest).", min=0)] = None,
    replicas: Annotated[int, typer.Option(metavar="N", min=1, help="Copies of the economy.")] = 8,
    seed: Annotated[int | None, option("N", "Seed of the play (default: the run's).", min=0)] = None,
    rule: Annotated[list[str] | None, option("TYPE=RULE", "Script a type, such as firm=random; may be repeated.")] = None,
    out: Annotated[Path | None, option("DIR", "Folder for the episode (default: RUN/episodes/seed_N).")] = None,
    parquet: Annotated[bool, typer.Option("--parquet", help="Keep it also as Parquet tables.")] = False,
    layout: Layout = None,
    as_json: Json = False,
) -> None:
    """Play one episode with a run's policies, keep it as npz files in a new place and print its means."""
    from rllib_macro import evaluate, rollout_log
    from rllib_macro.env_runner import make_batch
    from rllib_macro.run import Run
    with asked():
        found = Run.open(run)
        iteration = saved_iteration(found, checkpoint)
        policies = evaluate.modules(found.config, found.weights(iteration))
        scripts = scripts_of(rule or [], found.config)
        config = evaluate.scripted(found.config, scripts)
        make_batch(config, 1)  # knows the rules
        _must_fit(layout, config)
    seed = config.seed if seed is None else seed
    folder = out or found.path / "episodes" / "_".join((f"seed_{seed}", *(f"{t}-{word(text)}" for t, text in scripts.items())))
    must_be_writable(folder)
    if there := sorted(folder.glob(f"episode_{iteration:06d}_*.npz")):
        raise Mistake(f"{there[0]} exists already; choose another --out, or another --seed")
    with asked():
        megabytes = rollout_log.forecast(config, replicas, parquet=parquet)
        rollout_log.require_room(megabytes, folder)
    if not as_json:
        console().print(f"The log will take about {size(megabytes)}.")
    log = rollout_log.record(config, policies, replicas, seed, iteration)
    files = rollout_log.save(log, folder, iteration, list(config.policies))
    if parquet:
        files += rollout_log.save_tables(log, folder, iteration, config)
    if layout:
        from rllib_macro import layout_2022
        files += layout_2022.write(found, found.path / layout_2022.FOLDER)
        files += layout_2022.write_episode(config, log, iteration, found.path / layout_2022.FOLDER)
    rewards, measures = ({key.removeprefix(kind): per_replica(array) for key, array in log.items() if key.startswith(kind)}
                         for kind in ("rewards/", "measure/"))
    if as_json:
        return emit({"run": str(run), "iteration": iteration, "seed": seed, "replicas": replicas, "rules": scripts,
                     "forecast_mb": megabytes,
                     "rewards": {type_: sum(values) / replicas for type_, values in rewards.items()},
                     "measures": {name: sum(values) / replicas for name, values in measures.items()},
                     "files": [str(file) for file in files]})
    told = {f"reward of {type_}": values for type_, values in rewards.items()} | measures
    table(f"Policies of iteration {iteration}, seed {seed}: mean per period ± standard deviation over {replicas} replicas",
          ("quantity", "mean"), [(name, spread(values)) for name, values in told.items()], right=True)
    last(folder)


@app.command()
def plot(
    folders: Annotated[list[Path], argument("RUN...", "A run's folder; or several runs, or a sweep, to be set beside each other.")],
    by: Annotated[str | None, option("KEY", "Several runs: panels for each value of this key, such as params.open_economy.")] = None,
    out: Annotated[Path | None, option("DIR", "Several runs: where the figures go (default: figures/ beside the first run).")] = None,
    as_json: Json = False,
) -> None:
    """Draw a run's figures into RUN/plots; of several runs, how what they learned hangs together and their members over an episode."""
    from rllib_macro import plots
    from rllib_macro.run import Run
    with asked():
        runs = [Run.open(path) for folder in folders for path in runs_in(folder)]
    if len(runs) == 1:
        if by or out:
            raise Mistake("--by and --out are for several runs; name more, or leave them out")
        files = [str(file) for file in plots.draw(runs[0])]
    else:
        where = out or runs[0].path.parent / "figures"
        must_be_writable(where)
        files = [str(file) for file in plots.draw_many(runs, where, by)]
    if as_json:
        return emit({"files": files})
    for file in files:
        last(file)


@app.command()
def report(run: RunFolder, as_json: Json = False) -> None:
    """Write RUN/report.html, one self-contained page."""
    from rllib_macro import report as reporting
    from rllib_macro.run import Run
    with asked():
        found = Run.open(run)
    file = reporting.write(found)
    if as_json:
        return emit({"files": [str(file)]})
    last(file)


# --- measuring --------------------------------------------------------------------------------------------------------


@app.command()
def replay(
    trace: Annotated[Path, argument("TRACE", "A recorded trace, an .npz file.")],
    backend: Annotated[list[Backend] | None, option(
        None, "Backend to step on, may be repeated (default: numpy, and native where there is a compiler).")] = None,
    real: Annotated[Literal["float32", "float64"], typer.Option(help="Precision.")] = "float32",
    as_json: Json = False,
) -> None:
    """Step an economy through a recorded trace: largest deviation of every quantity against its tolerance. Exit code 1 outside."""
    from rllib_macro import replay as replaying
    on_cpu = [name.value for name in backend if name != Backend.cuda] if backend else _cpu_backends()
    found = [replaying.replay(trace, on_cpu, real=real)] if on_cpu else []
    if Backend.cuda in (backend or ()):
        found.append(replaying.replay(trace, device="cuda", real=real))
    whole = dataclasses.replace(found[0], deviations=tuple(row for part in found for row in part.deviations))
    if as_json:
        emit(whole.as_dict())
    else:
        table(f"{whole.format} in {whole.real}: of each quantity the comparison that comes closest to its tolerance",
              ("quantity", "backend", "configuration", "step", "deviation", "tolerance", ""), worst(whole.deviations))
        off, of = len(whole.failures), len(whole.deviations)
        console().print(f"{off} of {of} comparisons are outside their tolerance." if off else f"All {of} comparisons are within tolerance.")
    raise typer.Exit(0 if whole.ok else 1)


def _cpu_backends() -> list[str]:
    from kernels.core import launch
    return ["numpy"] if launch.native_problem() else ["numpy", "native"]


@app.command()
def bench(
    economy: Annotated[str, argument("ECONOMY", "An economy, such as rbc.")],
    params: Annotated[list[str] | None, argument("KEY=VALUE", "Params, such as n_firms=5.")] = None,
    replicas: Annotated[int | None, option("N", "Copies of the economy (default: 128, or 32 for a quick look).", min=1)] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A rough look in half a minute instead of three to five minutes.")] = False,
    only: Annotated[str | None, option("GOAL,...", "growth: only these goals, such as G1,G7.")] = None,
    against: Annotated[Path | None, option("BINARY", "growth: a compiled program that solves jesusfv, as the opponent.")] = None,
    into: Annotated[Path | None, option("FILE", "growth: a Markdown page whose table is replaced; figures go beside it.")] = None,
    as_json: Json = False,
) -> None:
    """Measure speed: against stock RLlib and a bare PyTorch loop with the same arithmetic, interleaved in one run, or, of an economy with
    books, of whole periods small and large and with the audit on. `bench growth` holds every solver against the truth, for up to an hour.
    """
    if economy == "growth":
        from rllib_macro.verbs_solve import bench_growth
        return bench_growth(params or [], quick, only, against, into, as_json)
    if only or against or into:
        raise Mistake("--only, --against and --into are for bench growth; leave them out")
    if economy == "gather_trade_build":
        from rllib_macro import bench_gather_trade_build
        return bench_gather_trade_build.command(params or [], replicas, quick, as_json)
    import envs
    from rllib_macro.config import check_against, from_dict
    with asked():
        changes = spelled_out(params or [], economy)
        if other := next((change for change in changes if not change.startswith("params.")), None):
            raise Mistake(f"bench takes Params, such as n_firms=5, and its own options; got {other!r}")
        given = check_against(from_dict({"economy": economy}, changes), envs.load(economy)).params
        books = hasattr(envs.load(economy).kernel, "IDENTITIES")
        if books and replicas:
            raise Mistake(f"bench {economy} measures fixed numbers of replicas; leave --replicas out")
    from rllib_macro import bench as benching
    from rllib_macro import bench_worlds
    with console(stderr=True).status(f"measuring {economy}"):
        measured = (bench_worlds.bench(economy, quick=quick, params=given) if books else
                    benching.bench(economy, quick=quick, replicas=replicas, params=given))
    if as_json:
        return emit(measured)
    console().print(bench_worlds.table(measured) if books else benching.table(measured))


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a ± that the terminal cannot show is no reason to stop
    app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
