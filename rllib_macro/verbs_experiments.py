"""Verbs that try out behaviour, learned or scripted: impulse responses, and contests of rules and policies in place of a type."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rllib_macro.terminal import (
    Json,
    Mistake,
    Settings,
    Watch,
    app,
    argument,
    asked,
    console,
    emit,
    must_be_writable,
    number,
    option,
    resumable,
    say,
    table,
)

if TYPE_CHECKING:
    from rllib_macro.config import RunConfig
    from rllib_macro.run import Run

SHOWN = 8  # most periods that a table shows
TRAINED = 3  # seeds trained where no runs are named
SubjectName = Annotated[str, argument("RUN|ECONOMY", "A run's folder, or an economy whose types follow their scripts.")]
Checkpoint = Annotated[int | None, option("N", "Iteration of a run whose policies play (default: the newest).", min=0)]


@app.command()
def impulse(
    subject: SubjectName,
    settings: Settings = None,
    shock: Annotated[list[str] | None, option("NAME[=X]", "Shock of the economy, such as tfp=-0.01; may be repeated.")] = None,
    size: Annotated[float, typer.Option(metavar="X", help="Added to draws of shocks without a size of their own.")] = 0.01,
    within: Annotated[list[str] | None, option("PARAM=X", "Param in force in the episodes, not in the play that warms them up.")] = None,
    at: Annotated[int, typer.Option(metavar="N", min=0, help="Period of the episode whose draw it is added to.")] = 1,
    quarters: Annotated[int, typer.Option(metavar="N", min=1, help="Periods in a row in which it is added.")] = 1,
    pairs: Annotated[int | None, option("N", "Paired episodes in all (default: --replicas of every seed).", min=2)] = None,
    replicas: Annotated[int, typer.Option(metavar="N", min=2, help="Paired episodes of each evaluation seed.")] = 64,
    checkpoint: Checkpoint = None, as_json: Json = False,
) -> None:
    """Impulse responses: the same draws with and without shocks, 95 % bands over paired episodes, and the signs that theory expects.

    What a lower bound on the policy rate costs in a slump of six quarters is the difference between

    impulse monetary --shock demand=-0.012 --quarters 6

    and the same with --within lower_bound=-1, in the sum of the responses of output.
    """
    from envs.core.batch import with_values
    from rllib_macro import experiments
    from rllib_macro.env_runner import fixed_params
    from rllib_macro.subject import subject as named
    with asked():
        found, shocks = named(subject, settings or [], checkpoint), _numbers("shock", shock or [], "tfp", size)
        if not shocks:
            raise Mistake("name a shock, such as --shock tfp=-0.01")
        changed = _numbers("within", within or [], "lower_bound=-1")
        with_values(fixed_params(found.config), changed)
    seeds = found.config.evaluation.seeds if pairs is None else found.config.evaluation.seeds[:1]
    with console(stderr=True).status(f"playing {subject} with and without {', '.join(shocks)}"):
        told = experiments.impulse(found.config, found.policies, shocks, at, quarters=quarters, seeds=seeds, replicas=pairs or replicas,
                                   within=changed)
    if as_json:
        signs = {"signs": [asdict(sign) for sign in told.signs]} if told.signs else {}
        return emit({name: asdict(response) for name, response in told.responses.items()} | signs)
    length = len(next(iter(told.responses.values())).mean)
    periods = range(length) if length <= SHOWN else range(told.first, length, -(-(length - told.first) // (SHOWN - 2)))
    rows = [(name, r.unit, *(f"{number(r.mean[t])} ({number((r.high[t] - r.low[t]) / 2)})" for t in periods))
            for name, r in told.responses.items()]
    what = " and ".join(f"{size:+g} of {name}" for name, size in shocks.items())
    lasting = f"in period {at}" if quarters == 1 else f"in periods {at} to {at + quarters - 1}"
    table(f"Responses to {what} {lasting}, {told.pairs} pairs, by period (half width of the 95 % band)",
          ("quantity", "unit", *map(str, periods)), rows, right=True)
    if told.signs:
        table("Signs expected of the mean response", ("quantity", "expected", "quarters", "response", "95 % interval", ""), [
            (s.measure, s.expected, f"{s.quarters[0]} to {s.quarters[1]}", number(s.value), f"{number(s.low)} to {number(s.high)}",
             "holds" if s.holds else "does not hold") for s in told.signs])


@app.command()
def compare(
    subject: SubjectName,
    settings: Settings = None,
    type: Annotated[str, typer.Option(metavar="TYPE", help="Type that is played in several ways.")] = "",
    rules: Annotated[list[str] | None, option("RULE,...", "Rules, searches of the economy such as best_constant, and learned.")] = None,
    rule: Annotated[list[str] | None, option("RULE", "One more, such as 'fixed(income_tax=0.2, corporate_tax=0.2)'.")] = None,
    runs: Annotated[list[str] | None, option("RUN,...", f"Whose policies are `learned` (default: the run itself; of an economy {TRAINED} "
                                             "trainings of tune_configs/ECONOMY_TYPE.yaml, made in DIR where they are missing).")] = None,
    cross_play: Annotated[list[str] | None, option("RUN,...", "Runs whose policies of the type play among the others of each.")] = None,
    episodes: Annotated[int | None, option("N", "Fresh episodes (default: those of the configuration's evaluation).", min=2)] = None,
    trials: Annotated[int, typer.Option(metavar="N", min=2, help="Trials of each search for a rule's arguments.")] = 60,
    folder: Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where runs are looked for and made.")] = Path("runs"),
    checkpoint: Checkpoint = None, as_json: Json = False,
) -> None:
    """How rules and learned policies fare in place of a type, the others' behaviour fixed: losses, paired differences, what was learned.

    Rows for an untrained network and for random choices are always there.
    """
    from rllib_macro import contest
    from rllib_macro.run import Run
    from rllib_macro.subject import for_type
    wanted = contest.split([*(rules or []), *(rule or [])])
    if not type or not (wanted or cross_play):
        raise Mistake("say who is played and how: --type TYPE with --rules RULE,... or --cross-play RUN,...")
    with asked():
        about = for_type(subject, type, settings or [], checkpoint)
        contest.require(about.config, type, wanted)
        own = about.run and about.config.policies[type].rule is None
        if own and wanted and contest.LEARNED not in wanted:
            wanted = [contest.LEARNED, *wanted]
        sampling = _sampling(about.config, episodes)
        opened, strangers = ([Run.open(path) for path in contest.split(given or [])] for given in (runs, cross_play))
        if contest.LEARNED in wanted and not opened:
            opened = [about.run] if own and about.run else _trained(subject, type, settings or [], folder)
    with console(stderr=True).status(f"playing {subject}") as status:
        told: dict[str, Any] = {"economy": about.config.economy, "type": type, **_sizes(about.config), "episodes": sampling.episodes,
                                "seeds": sampling.seeds}
        if wanted:
            told |= contest.compared(about, type, wanted, opened, sampling, trials, checkpoint, status.update)
        if strangers:
            told["cross_play"] = contest.cross_play(strangers, type, sampling if episodes else None, status.update)
    if as_json:
        return emit(told)
    _show(told)


def _numbers(flag: str, given: Sequence[str], example: str, size: float | None = None) -> dict[str, float]:
    """{name: number} from NAME=X, or from NAME alone where there is a number for those."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        try:
            found[name] = float(value) if equals or size is None else size
        except ValueError:
            looks = example if size is None else f"{example} or {example}=-0.01"
            raise Mistake(f"--{flag} must look like {looks}, got {text!r}") from None
    return found


def _sampling(config: RunConfig, episodes: int | None) -> Any:
    from rllib_macro.contest import Sampling
    evaluation = config.evaluation
    return Sampling(evaluation.seeds, evaluation.replicas if episodes is None else -(-episodes // len(evaluation.seeds)))


def _sizes(config: RunConfig) -> dict[str, Any]:
    """Length of an episode and number of agents: losses depend on both."""
    import envs
    from rllib_macro.env_runner import fixed_params
    economy, p = envs.load(config.economy), fixed_params(config)
    return {"periods": economy.periods(p), "agents": {type_: agent.number(p) for type_, agent in economy.agents.items()}}


def _trained(economy: str, type_: str, settings: Sequence[str], folder: Path) -> list[Run]:
    """The runs of the configuration in which the type learns, trained where they are missing."""
    from rllib_macro import contest
    from rllib_macro.subject import learner
    if (file := learner(economy, type_)) is None:
        raise Mistake(f"there is no tune_configs/{economy}_{type_}.yaml to train a {type_} with; name runs with --runs, "
                      "or leave 'learned' out")
    must_be_writable(folder)
    return contest.trained(file, settings, folder, range(TRAINED), _training(folder))


def _training(folder: Path) -> Callable[[RunConfig], Run]:
    def train(config: RunConfig) -> Run:
        from rllib_macro import check as checking
        from rllib_macro import train as training
        checking.configuration(config)
        say(f"training {folder / config.name}")
        with resumable(folder / config.name), Watch(config.stop.iterations, config.policies, console(stderr=True)) as watch:
            return training.train(config, folder, watch)
    return train


def _show(told: Mapping[str, Any]) -> None:
    out = console()
    if rows := told.get("rows"):
        first, types = rows[0]["rule"], list(rows[0]["rewards"])
        sizes = ", ".join(f"{count:,} {type_}" for type_, count in told["agents"].items())
        lines = [(row["rule"], _with_error(row["loss"]), _with_interval(row["difference"].get(first)),
                  *(number(row["rewards"][type_]) for type_ in types)) for row in rows]
        table(f"Loss of {told['type']}, minus its reward, mean (standard error), and rewards of all: {told['episodes']} episodes of "
              f"{told['periods']} periods; {sizes}", ("rule", "loss", f"loss less that of {first}", *types), lines, right=True)
    for name, bar in told.get("bars", {}).items():
        if name != "met":
            out.print(f"learned {name.replace('_', ' ')}: reduces the loss by {100 * bar['mean']:.1f} % "
                      f"({100 * bar['low']:.1f} to {100 * bar['high']:.1f})")
    for row in told.get("rows", ()):
        for line in _findings(row):
            out.print(line)
    if crossed := told.get("cross_play"):
        table(f"Loss of the {crossed['type']} of a run (downwards) among the others of a run (to the right)", ("", *crossed["runs"]), [
            (name, *(_with_error(cell) for cell in cells)) for name, cells in zip(crossed["runs"], crossed["loss"])], right=True)


def _findings(row: Mapping[str, Any]) -> Iterator[str]:
    """What a search found, and what a learned policy does."""
    name = row["rule"]
    if "found" in row:
        yield f"{name} is {row['found']['rule']}, the best of {row['found']['trials']} trials on {row['found']['episodes']} other episodes"
    if name.startswith("learned"):
        for choice, shares in row.get("chosen", {}).items():
            yield f"{name} chose {choice}: " + ", ".join(f"{value} {100 * share:.0f} %" for value, share in shares.items())
    if fit := row.get("readout"):
        terms, long_run = (", ".join(f"{of} {_with_error(value)}" for of, value in fit[key].items())
                           for key in ("coefficients", "long_run"))
        yield (f"{name} as a linear rule for {fit['instrument']}: {terms}; R2 {fit['r2']:.2f}, of changes {fit['r2_change']:.2f}; "
               f"in the long run {long_run}")


def _with_error(of: Mapping[str, float]) -> str:
    return f"{number(of.get('mean', of.get('value', 0.0)))} ({number(of['se'])})"


def _with_interval(of: Mapping[str, float] | None) -> str:
    return "" if of is None else f"{number(of['mean'])} ({number(of['low'])} to {number(of['high'])})"
