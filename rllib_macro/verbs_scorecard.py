"""The verb that asks how many US moments an economy reproduces, and whether learned behaviour does better than scripts and chance."""
from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from rllib_macro.terminal import PROGRAM, Json, Mistake, Progressing, Settings, app, argument, asked, console, emit, last, option

SECTION = "scorecard"


@app.command()
def scorecard(
    economy: Annotated[str, argument("ECONOMY", "An economy with the series of the scorecard: monetary.")],
    settings: Settings = None,
    policies: Annotated[str, typer.Option(metavar="NAME,...", help="Who plays: scripted, random, untrained, or runs' folders.")]
    = "scripted,random,untrained",
    replicas: Annotated[int, typer.Option(metavar="N", min=2, help="Copies of the economy.")] = 32,
    quarters: Annotated[int, typer.Option(metavar="N", min=41, help="Length of a play.")] = 344,
    drop: Annotated[int, typer.Option(metavar="N", min=0, help="Quarters at its start that do not count.")] = 100,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the play.")] = 0,
    filter: Annotated[Literal["hp", "band"], typer.Option(help="Hodrick-Prescott, or the band of 6 to 32 quarters.")] = "hp",
    into: Annotated[Path | None, option("FILE", f"Markdown file in which the part between <!-- {SECTION}: begin --> and "
                                        f"<!-- {SECTION}: end --> is replaced.")] = None,
    as_json: Json = False,
) -> None:
    """How many of 59 US moments are reproduced within sampling error, by scripts, random choices, untrained and trained policies.

    4,000 consumers and 400 firms play unless the settings say otherwise: fewer firms make aggregates noisier than their moments allow.
    """
    from rllib_macro import scorecard as scoring
    from rllib_macro import scored_play
    from rllib_macro.moments import SHORTEST
    from rllib_macro.sections import replace, require
    if quarters - drop < SHORTEST:
        raise Mistake(f"{quarters} quarters are too few: play {drop + SHORTEST} or more, or drop fewer than {drop}")
    if into is not None:
        with asked():
            require(into, SECTION)
    with asked():
        plays = scored_play.behaviours(economy, [name.strip() for name in policies.split(",") if name.strip()], settings or [], quarters)
    cards = {}
    with Playing(quarters, [of.name for of in plays]) as progress:
        for of in plays:
            cards[of.name] = scored_play.card(of, seed=seed, replicas=replicas, quarters=quarters, drop=drop, filter=filter,
                                              watch=partial(progress, of.name))
    if into is not None:
        changes = [*(settings or []), f"--policies {policies}", f"--replicas {replicas}", f"--quarters {quarters}", f"--drop {drop}",
                   f"--seed {seed}", f"--filter {filter}"]
        replace(into, SECTION, f"Made by `{' '.join((PROGRAM, SECTION, economy, *changes))} --into {into}`.\n\n{scoring.markdown(cards)}")
    if as_json:
        return emit(scoring.to_dict(cards))
    typer.echo(scoring.markdown(cards))
    if into is not None:
        last(into)


class Playing(Progressing):
    """The progress of long plays on stderr: a live line on a terminal, elsewhere one for every tenth of a play."""

    def __init__(self, quarters: int, names: list[str]):
        super().__init__(quarters * len(names), console(stderr=True))
        self.quarters, self.names = quarters, names

    def __call__(self, name: str, quarter: int) -> None:
        """So many quarters of a play are over."""
        if self.live:
            self.bar.update(self.task, completed=self.names.index(name) * self.quarters + quarter, description=name)
        elif quarter * 10 // self.quarters > (quarter - 1) * 10 // self.quarters:
            self.out.print(f"{name}: quarter {quarter} of {self.quarters}", style="dim")
