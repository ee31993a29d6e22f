"""How close the solvers of the growth models come to the truth, and how fast: runs the goals, tells which are met."""
from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table

from envs.core.economy import unknown
from kernels import incomplete_markets
from rllib_macro import goals_growth, households
from rllib_macro.bench import processor, versions
from rllib_macro.goals_growth import GOALS, Goal, Options
from rllib_macro.solve import method

SECTION, AIYAGARI, TRANSITIONS = "bench", "aiyagari", "transitions"
PORT = "port of the published C++ program, -O3"
PUBLISHED_TRANSITIONS = 50_000_000  # of a training of MARL-BC (2026): 7.1 hours of PPO, 2.4 of TD3, on one CPU


def bench(*, quick: bool = False, only: Sequence[str] = (), against: str | None = None,
          watch: Callable[[str, list[dict[str, Any]]], None] = lambda id, rows: None) -> dict[str, Any]:
    """Every goal, or those of `only`, or with `quick` those that take seconds: {"goals": [...], "met": {id: bool}, ...}.

    Up to an hour; `quick` up to three minutes. ValueError names the nearest goal.
    """
    known = {goal.id: goal for goal in GOALS}
    if strangers := [id for id in only if id not in known]:
        raise unknown("goal", strangers[0], "bench growth", known)
    options, began = Options(against, quick), time.perf_counter()
    rows: list[dict[str, Any]] = []
    left: dict[str, str] = {}
    for goal in (known[id] for id in (only or known)):
        if problem := goal.problem():
            left[goal.id] = problem
        elif quick and not goal.quick and not only:
            left[goal.id] = "takes minutes: leave out --quick"
        else:
            rows += (new := _rows(goal, options))
            watch(goal.id, new)
    return {"economy": "growth", "goals": rows, "met": _met(rows), "not_measured": left,
            "opponent": "the program given" if against else PORT, "quick": quick, "cpu": processor(), "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2), "versions": versions(),
            "frontier": goals_growth.paths(), "seconds": round(time.perf_counter() - began, 1)}


def _met(rows: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """Whether all parts of a goal are met."""
    met: dict[str, bool] = {}
    for row in rows:
        met[row["id"]] = met.get(row["id"], True) and row["met"]
    return met


def _rows(goal: Goal, options: Options) -> list[dict[str, Any]]:
    """One line for each part."""
    began = time.process_time()
    values = goal.measure(options)
    spent = round(time.process_time() - began, 1)
    return [{"id": goal.id, "part": part.name, "definition": goal.definition, "value": values[part.name], "sense": part.sense,
             "pass": part.passes, "stretch": part.stretch, "met": part.holds(values[part.name], part.passes),
             "stretch_met": None if part.stretch is None else part.holds(values[part.name], part.stretch), "cpu_seconds": spent}
            for part in goal.parts if part.quick or not options.quick]


def merged(before: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """A result in which the goals measured again stand in place of those of before."""
    again = {row["id"] for row in new["goals"]}
    order = [goal.id for goal in GOALS]
    rows = sorted([*(row for row in before["goals"] if row["id"] not in again), *new["goals"]], key=lambda row: order.index(row["id"]))
    lines = {(line["model"], line["method"]): line for line in (*before["frontier"], *new["frontier"])}
    left = {id: why for id, why in {**before["not_measured"], **new["not_measured"]}.items() if id not in {row["id"] for row in rows}}
    return {**new, "goals": rows, "met": _met(rows), "not_measured": left, "frontier": list(lines.values())}


def table(result: Mapping[str, Any]) -> Table:
    """The result for a person."""
    shown = Table(title=f"Growth models against the truth: {result['cpu']}, {result['seconds']:.0f} s", title_justify="left")
    for column in ("goal", "part", "value", "bar", "met", "stretch", "met"):
        shown.add_column(column, justify="right" if column in ("value", "bar", "stretch") else "left")
    for row in result["goals"]:
        shown.add_row(*cells(row))
    for id, why in result["not_measured"].items():
        shown.add_row(id, f"not measured: {why}", *[""] * 5)
    return shown


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    stretch = ("", "") if row["stretch"] is None else (f"{row['sense']} {row['stretch']:g}", "yes" if row["stretch_met"] else "no")
    value = f"{row['value']:.8g}" if 0.99 < row["value"] < 1 else f"{row['value']:.4g}"  # a fit tells by its nines
    return row["id"], row["part"], value, f"{row['sense']} {row['pass']:g}", "yes" if row["met"] else "no", *stretch


def markdown(result: Mapping[str, Any]) -> str:
    """The result for a page: what each goal measures, and its numbers."""
    lines = ["| goal | what | part | value | bar | met | stretch | met |", "|---|---|---|---:|---:|---|---:|---|"]
    seen, told = set(), {goal.id: goal.definition for goal in GOALS}
    for row in result["goals"]:
        id, *others = cells(row)
        lines.append(f"| {' | '.join((id, '' if id in seen else told[id], *others))} |")
        seen.add(id)
    lines += [f"| {id} | not measured: {why} | | | | | | |" for id, why in result["not_measured"].items()]
    spent = sum({row["id"]: row["cpu_seconds"] for row in result["goals"]}.values())
    machine = f"{result['cpu']}, {result['cores']} cores, load {result['load']}"
    return "\n".join((*lines, "", f"{machine}; opponent: {result['opponent']}; {spent:,.0f} CPU seconds in all."))


def aiyagari() -> str:
    """Interest, capital and inequality in the economy of Aiyagari (1994) for five attitudes to risk, as Markdown."""
    lines = ["| risk aversion | interest, percent | capital | saving rate, percent | Gini of wealth | CPU seconds |", "|" + "---:|" * 6]
    for crra in range(1, 6):
        policy = method("aiyagari")(incomplete_markets.aiyagari(crra=float(crra)))
        of = policy.facts
        lines.append(f"| {crra} | {100 * of['r']:.3f} | {of['capital']:.3f} | {100 * of['saving_rate']:.2f} | {of['gini']:.3f} | "
                     f"{policy.seconds:.1f} |")
    return "\n".join(lines)


def transitions(n: int = PUBLISHED_TRANSITIONS) -> str:
    """What one network for all households of Krusell and Smith (1998) costs beside as many transitions as others train on, as Markdown."""
    learned = method("neural-krusell-smith")(incomplete_markets.krusell_smith())
    began = time.process_time()
    households.play(learned, households=10_000, periods=max(1, n // 10_000))
    played = time.process_time() - began
    errors = households.euler_errors(learned).facts()
    mean, largest = (errors[f"log10_{which}_euler_error_ergodic"] for which in ("mean", "max"))
    told = (f"Learning the policy that all households share took {learned.seconds:.1f} CPU seconds, playing {n:,} transitions with it "
            f"{played:.1f}. Its Euler errors on the states that it visits are {mean:.2f} in the mean and {largest:.2f} at most. MARL-BC "
            "(2026) gives 7.1 hours for PPO and 2.4 for TD3 on 50 million transitions and one CPU, and no Euler errors. Its learners see "
            "rewards only, ours knows the household's equations: the times compare how long one waits, not algorithms.")
    return textwrap.fill(told, 140)
