"""The verb that checks the books: `audit`."""
from __future__ import annotations

import difflib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.progress import TextColumn

from rllib_macro.terminal import (
    Json,
    Mistake,
    Progressing,
    Settings,
    app,
    argument,
    asked,
    console,
    described,
    emit,
    number,
    option,
    table,
)

if TYPE_CHECKING:
    from rllib_macro.audit import Finding, Session
    from rllib_macro.config import RunConfig
    from rllib_macro.crises import Crisis
    from rllib_macro.leaks import Leak
    from rllib_macro.run import Run

COINS = 1e6  # micro-units of one


@app.command()
def audit(
    name: Annotated[str, argument("ECONOMY|RUN", "An economy (monetary), a configuration (rbc_quick) or a run's folder.")],
    settings: Settings = None,
    policies: Annotated[str | None, option(
        "NAMES", "Behaviours, each audited by itself: scripted,random,untrained of an economy, trained of a run (the default), any rule, "
        "or a mix such as scripted+random:firm.")] = None,
    periods: Annotated[int, typer.Option(metavar="N", min=1, help="Periods of play.")] = 200,
    replicas: Annotated[int, typer.Option(metavar="N", min=1, help="Copies of the economy.")] = 16,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the play.")] = 0,
    episodes: Annotated[bool, typer.Option("--episodes", help="Start anew at the horizon instead of playing one long world.")] = False,
    shock: Annotated[list[str] | None, option("NAME=SIZE", "Added to a draw in period 1, as policy_rate=0.01; may be repeated.")] = None,
    crisis: Annotated[list[str] | None, option(
        "NAME", "spread, capital_rule or losses; bail_out, bail_in or forbearance. May be repeated.")] = None,
    inject: Annotated[str | None, option("LEAK", "Plant a leak, which the audit must find; list: which there are.")] = None,
    matrices: Annotated[bool, typer.Option("--matrices", help="Show balance sheets and flows of the last period, replica 0.")] = False,
    backend: Annotated[Literal["auto", "numpy", "native"] | None, option(None, "How arrays on a CPU are stepped.")] = None,
    as_json: Json = False,
) -> None:
    """Check every accounting identity, or other invariant, in every replica and period. Exit code 1 if one is broken."""
    import envs
    from rllib_macro import audit as auditing
    changes = [*(settings or []), *([f"backend={backend}"] if backend else [])]
    config, run = _subject(name, changes)
    model = envs.load(config.economy).kernel.__name__.rpartition(".")[2]
    if inject == "list":
        return _list_leaks(model, as_json)
    with asked():
        how = auditing.Settings(periods, replicas, seed, episodes, _crisis(model, crisis or [], shock or []),
                                _leak(model, inject, backend), matrices)
        if policies is None:
            behaviours = ["trained"] if run else ["scripted"] if inject else auditing.usual(config)
        else:
            behaviours = auditing.separate(policies)
        if not behaviours:
            raise Mistake("--policies names no behaviour; give some, such as scripted,random")
        with console(stderr=True).status("warming up"):
            ready = auditing.sessions(config, behaviours, how, run)
        if matrices and not hasattr(next(iter(ready.values())).player.batch.kernel, "BALANCE"):
            raise Mistake(f"{config.economy} has no matrices of accounts; leave --matrices out")
    findings = _played(ready, periods)
    if as_json:
        emit({behaviour: _plain(finding, ready[behaviour]) for behaviour, finding in findings.items()})
    else:
        _show(config.economy, how, ready, findings)
    raise typer.Exit(int(any(finding.violations for finding in findings.values())))


def _subject(name: str, changes: list[str]) -> tuple[RunConfig, Run | None]:
    """What is played, and the run whose weights do it, if a run's folder is named."""
    import envs
    if name in envs.names() or not Path(name).is_dir():
        return described(name, changes)[0], None
    from rllib_macro.run import Run
    from rllib_macro.subject import changed
    with asked():
        run = Run.open(name)
        return changed(run.config, changes), run


def _crisis(model: str, names: list[str], shocks: list[str]) -> Crisis:
    """The named crises, and shocks NAME=SIZE, as one."""
    from rllib_macro import crises
    found = crises.together(model, names)
    impulses = dict(found.impulses)
    for text in shocks:
        shock, _, amount = text.partition("=")
        try:
            size = float(amount)
        except ValueError:
            raise Mistake(f"--shock must look like policy_rate=0.01, got {text!r}") from None
        if shock in impulses:
            raise Mistake(f"{shock} is shocked twice; leave one of them out")
        impulses[shock] = (crises.START, size)
    return crises.Crisis(found.does, impulses, found.params)


def _leak(model: str, name: str | None, backend: str | None) -> Leak | None:
    """The leak of that name."""
    from rllib_macro.leaks import LEAKS
    if name is None:
        return None
    if backend not in (None, "auto", "numpy"):
        raise Mistake("--inject changes the definitions, which only backend numpy runs; leave --backend out")
    known = LEAKS.get(model, {})
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"--inject list shows those of {', '.join(LEAKS)}"
        raise Mistake(f"unknown leak {name!r} of {model}; {hint}")
    return known[name]


def _list_leaks(model: str, as_json: bool) -> None:
    from rllib_macro.leaks import LEAKS
    rows = [{"leak": leak.name, "does": leak.does, "after": leak.phase, "identity": leak.expected[0], "sector": leak.expected[1],
             "params": dict(leak.params)} for leak in LEAKS.get(model, {}).values()]
    if as_json:
        return emit(rows)
    table(f"Leaks of {model}", ("leak", "what is wrong", "after", "found by"),
          [(row["leak"], row["does"], row["after"], f"{row['identity']} {row['sector']}") for row in rows])


def _played(ready: dict[str, Session], periods: int) -> dict[str, Finding]:
    """All audits, one after the other."""
    out = console(stderr=True)
    with Progressing(periods * len(ready), out, TextColumn("")) as watch:
        findings = {}
        for behaviour, session in ready.items():
            watch.bar.update(watch.task, description=behaviour)
            findings[behaviour] = session.run(lambda: watch.bar.advance(watch.task))
    return findings


def _plain(finding: Finding, session: Session) -> dict[str, Any]:
    """A finding as JSON."""
    told = asdict(finding)
    if finding.leak is None:
        del told["leak"]
    if session.auditor.matrices:
        told["matrices"] = {matrix: {row: {column: amount / COINS for column, amount in entries.items()} for row, entries in rows.items()}
                            for matrix, rows in session.auditor.matrices.items()}
    return told


def _show(economy: str, how: Any, ready: dict[str, Session], findings: dict[str, Finding]) -> None:
    """The identities, what broke first, and the matrices."""
    laws = next(iter(ready.values())).auditor.laws
    checks = sum(finding.checks for finding in findings.values())
    about = f", {how.crisis.does}" if how.crisis.does else ""
    rows = []
    for law in laws:
        largest = [finding.largest[law.name] for finding in findings.values()]
        rows.append((law.name, law.says, *map(_error, largest), "holds" if all(size <= law.tolerance for size in largest) else "BROKEN"))
    table(f"{economy}: {how.replicas} replicas, {how.periods} periods, seed {how.seed}{about}; {checks:,} checks, largest error of each",
          ("identity", "what it says", *findings, "verdict"), rows)
    for behaviour, finding in findings.items():
        for sentence in _told(behaviour, finding):
            console().print(sentence, soft_wrap=True)
        auditor = ready[behaviour].auditor
        for matrix, entries in auditor.matrices.items():
            columns = auditor.kernel.ACCOUNTS if matrix == "flows" else auditor.kernel.SECTORS
            _show_matrix(f"{behaviour}: {matrix} of replica 0 in period {finding.periods - 1}, coins", columns, entries)


def _error(size: float) -> str:
    return "0" if size == 0 else number(size)


def _told(behaviour: str, finding: Finding) -> list[str]:
    """What broke, and what the leak did, in sentences."""
    told = []
    if leak := finding.leak:
        acted = "it never did anything" if leak["acts_from"] is None else f"it first moved something in period {leak['acts_from']}"
        told.append(f"Planted after {leak['after']}: {leak['does']} In this play {acted}.")
    if (first := finding.first) is None:
        return [*told, f"{behaviour}: nothing is broken."]
    where = f"{first.identity} {first.sector}".rstrip()
    told.append(f"{behaviour}: {where} is off by {_amount(first.amount)} in period {first.period}, replica {first.replica}, the first of "
                f"{finding.violations:,} violations.")
    if first.also:
        told.append(f"Broken with it: {', '.join(first.also)}.")
    return told


def _amount(amount: float) -> str:
    return f"{amount:,} units" if isinstance(amount, int) else number(amount)


def _show_matrix(title: str, columns: tuple[str, ...], rows: dict[str, dict[str, int]]) -> None:
    """Rows of accounts, and the sums of rows and columns; that of a column of a balance sheet is net worth."""
    whole = {"sum": {column: sum(entries.get(column, 0) for entries in rows.values()) for column in columns}}
    told = [(row, *(_coins(entries[column]) if column in entries else "" for column in columns), _coins(sum(entries.values())))
            for row, entries in {**rows, **whole}.items()]
    table(title, ("", *columns, "sum"), told, right=True)


def _coins(amount: int) -> str:
    return f"{amount / COINS:,.2f}" if amount else "0"
