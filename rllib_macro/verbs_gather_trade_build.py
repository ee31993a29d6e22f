"""The verb for dense logs of the gather-trade-build world: `log`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rllib_macro.terminal import (
    Json,
    Mistake,
    Settings,
    app,
    argument,
    asked,
    console,
    described,
    emit,
    last,
    must_be_writable,
    number,
    option,
    saved_iteration,
    scripts_of,
    table,
    word,
)

if TYPE_CHECKING:
    from rllib_macro.config import RunConfig
    from rllib_macro.gather_trade_build_log import Log

STORED = (".lz4", ".gz", ".json")  # how names of dense logs end


@app.command("log")
def log_(
    subject: Annotated[str, argument("RUN|ECONOMY|FILE", "A run's folder, an economy, or a dense log, such as episode.lz4.")],
    settings: Settings = None,
    out: Annotated[Path | None, option(
        "FILE", "Where it is kept, as .lz4, .gz or .json (default: RUN/episodes/seed_N/episode_ITERATION.lz4, runs/ECONOMY_seed_N.lz4)."
    )] = None,
    seed: Annotated[int | None, option("N", "Seed of the play (default: that of the run, or 0).", min=0)] = None,
    rule: Annotated[list[str] | None, option(
        "TYPE=RULE", "Script a type, such as planner=us_federal; may be repeated. Other types of an economy play at random.")] = None,
    every: Annotated[int | None, option("N", "Periods between two maps (default: 50, as in the original program).", min=1)] = None,
    checkpoint: Annotated[int | None, option("N", "Iteration of a run whose policies play (default: the newest).", min=0)] = None,
    page: Annotated[Path | None, option("FILE", "Write also an HTML page that plays the episode.")] = None,
    figures: Annotated[Path | None, option("DIR", "Draw also maps, movement, trades and coins, as DIR/episode_*.png.")] = None,
    as_json: Json = False,
) -> None:
    """Gather, trade, build: play one episode, keep it in the original program's schema, and print who traded and built what. A FILE, also
    of the original program, is read and shown instead. Nothing that exists is overwritten.
    """
    from rllib_macro import gather_trade_build_log as logs
    from rllib_macro import plots_gather_trade_build as pictures
    _must_be_new([page, *(figures / f"episode_{name}.png" for name in pictures.FIGURES)] if figures else [page])
    if subject.endswith(STORED):
        if settings or rule or any(given is not None for given in (out, seed, every, checkpoint)):
            raise Mistake(f"{subject} is shown as it was played; only --page, --figures and --json go with a file")
        with asked():
            log = logs.read(subject)
        files = []
    else:
        log, file = _played(subject, settings or [], rule or [], seed, checkpoint, every or logs.EVERY, out)
        files = [file]
    log = logs.by_skill(log)
    if page:
        with asked():
            files.append(pictures.animate(log, page))
    if figures:
        files += pictures.draw(log, figures)
    _show(subject, log, files, as_json)


def _played(subject: str, settings: Sequence[str], rule: Sequence[str], seed: int | None, checkpoint: int | None, every: int,
            out: Path | None) -> tuple[Log, Path]:
    """An episode that was played, and the file in which it is kept."""
    from rllib_macro import gather_trade_build_log as logs
    from rllib_macro import report_gather_trade_build as worlds
    config, policies, iteration, folder = _players(subject, settings, rule, checkpoint)
    seed = config.seed if seed is None else seed
    name = "_".join((f"seed_{seed}", *(word(text) for text in rule)))
    file = out or (Path("runs") / f"{config.economy}_{name}.lz4" if iteration is None else folder / name / f"episode_{iteration:06d}.lz4")
    if file.suffix not in STORED:
        raise Mistake(f"{file} must end with {', '.join(STORED)}; choose another --out")
    _must_be_new([file])
    with console(stderr=True).status(f"playing {subject}"):
        log = worlds.play(config, policies, seed, iteration, every).log
    file.parent.mkdir(parents=True, exist_ok=True)
    return log, logs.write(log, file)


def _players(subject: str, settings: Sequence[str], rule: Sequence[str],
             checkpoint: int | None) -> tuple[RunConfig, Mapping[str, Any], int | None, Path]:
    """Who plays; of a run also the iteration and the folder of its episodes."""
    from rllib_macro import evaluate
    from rllib_macro.env_runner import make_batch
    from rllib_macro.subject import is_run
    from rllib_macro.subject import subject as named
    with asked():
        if is_run(subject):
            found = named(subject, settings, checkpoint)
            config, policies, iteration = found.config, found.policies, saved_iteration(found.run, checkpoint)  # type: ignore[arg-type]
            scripts = {}
        else:
            if checkpoint is not None:
                raise Mistake(f"{subject} is no run's folder, so it has no checkpoints; leave --checkpoint out")
            config, policies, iteration = described(subject, settings)[0], {}, None
            scripts = {type_: "random" for type_, policy in config.policies.items() if policy.rule is None}
        _must_have_logs(config)
        config = evaluate.scripted(config, scripts | scripts_of(rule, config))
        make_batch(config, 1)  # knows the rules
    return config, policies, iteration, Path(subject) / "episodes"


def _must_have_logs(config: RunConfig) -> None:
    import envs
    from kernels import gather_trade_build
    if envs.load(config.economy).kernel is not gather_trade_build:
        raise Mistake(f"{config.economy} has no dense log in the schema of the gather-trade-build world; `rollout` keeps episodes of all")


def _must_be_new(files: Sequence[Path | None]) -> None:
    """Refuse to overwrite, before anything is played."""
    for file in filter(None, files):
        if file.exists():
            raise Mistake(f"{file} exists already; choose another place, or remove it")
        must_be_writable(file.parent)


def _show(subject: str, log: Log, files: Sequence[Path], as_json: bool) -> None:
    """Who traded and built what, what it comes to, and where the files are."""
    from rllib_macro import gather_trade_build_log as logs
    coin = logs.series(log)["Coin"][-1]
    social = {"productivity": float(coin.sum()), "equality": 1 - float(logs.gini(coin))}
    social["equality_times_productivity"] = social["equality"] * social["productivity"]
    if as_json:
        return emit(social | {"agents": _numbers(log), "files": [str(file) for file in files]})
    summary = logs.summary(log)
    table(f"{subject}: agents by skill, the last is paid most; pieces at their mean price", ("agent", *summary.columns),
          [(i, *row) for i, row in zip(summary.index, summary.to_numpy())], right=True)
    console().print(", ".join(f"{name.replace('_times_', ' × ')} {number(value)}" for name, value in social.items()))
    for file in files:
        last(file)


def _numbers(log: Log) -> list[dict[str, Any]]:
    """The same as numbers: of each agent how often it did what at which mean price, and its coins by source."""
    from rllib_macro import gather_trade_build_log as logs
    did, earned = logs.business(log).astype(float), logs.incomes(log)
    kinds = did.columns.get_level_values(0).unique()
    return [{"agent": i, "did": {kind: did.loc[i][kind].to_dict() for kind in kinds}, "incomes": earned.loc[i].to_dict()}
            for i in did.index]
