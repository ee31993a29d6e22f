"""The verb that solves models whose solution is known or can be computed, by any of the methods."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from rllib_macro.terminal import Json, Mistake, Settings, app, argument, asked, console, emit, last, must_be_writable, option, table

FAMILY = "growth"


@app.command()
def solve(
    economy: Annotated[str, argument("ECONOMY", "The economy with models to solve: growth.")],
    settings: Settings = None,
    model: Annotated[str, typer.Option(metavar="MODEL", help="A model that `solve growth --list` prints.")] = "jesusfv",
    method: Annotated[str | None, option("METHOD", "How (default: egm, or the method of the model's own name).")] = None,
    seconds: Annotated[float | None, option("S", "CPU seconds that a method which improves with time may take.", min=0.1)] = None,
    start: Annotated[Literal["prior", "neutral"] | None, option(None, "Learning starts from the log-linear rule, or saves half.")] = None,
    seed: Annotated[int | None, option("N", "Seed of methods that draw random numbers.", min=0)] = None,
    against: Annotated[Path | None, option("BINARY", "A compiled program that solves jesusfv, timed in turn with ours.")] = None,
    out: Annotated[Path | None, option("DIR", "New folder for the policy on its box, what is printed and figures.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Print the models, their methods and settings, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Solve a model by an exact method, a neural network or reinforcement learning, and say how far the policy is from the truth.

    Settings are Params (crra=2) or the method's own (nodes=2000).
    """
    from rllib_macro import solve as solving
    if economy != FAMILY:
        raise Mistake(f"solve knows the models of growth, got {economy!r}; say solve growth --model MODEL")
    if list_:
        return _list(as_json)
    name = method or solving.OWN.get(model.replace("_", "-"), "egm")
    extra = [f"{key}={value}" for key, value in {"seconds": seconds, "start": start, "seed": seed}.items() if value is not None]
    if out is not None:
        if out.exists():
            raise Mistake(f"{out} exists already; choose another --out")
        must_be_writable(out)
    with asked():
        p, solver, chosen = solving.prepared(model, name, [*(settings or []), *extra])
        if against is not None and (name != "vfi" or not against.is_file()):
            raise Mistake("--against needs --method vfi and a compiled program that is there")
        with console(stderr=True).status(f"solving {model} by {name}"):
            policy = solver(p, **chosen)
            about: dict[str, Any] = {"economy": economy, "model": model, **solving.told(policy)}
    if against is not None:
        from rllib_macro.solvers import vfi
        with asked():
            about["against"] = vfi.against(str(against.resolve()))
    files = solving.keep(policy, about, out) if out is not None else []
    if as_json:
        return emit(about | ({"files": [str(file) for file in files]} if files else {}))
    rows = [(key.replace("_", " "), _shown(value)) for key, value in about.items() if not _long(value)]
    table(f"{model} by {name}", ("quantity", "value"), rows)
    if files:
        last(files[-1].parent)


def _long(value: Any) -> bool:
    """Paths of losses and the like are for machines."""
    return isinstance(value, list | tuple) and len(value) > 8


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(part)}" for key, part in value.items())
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _list(as_json: bool) -> None:
    """Models and the methods that fit them."""
    import inspect

    from rllib_macro import solve as solving
    from rllib_macro.describe import first_sentence
    solvers = {name: solving.method(name) for name in solving.methods()}
    fitting = {name: [way for way, solver in solvers.items() if solving.suits(solver, make())] for name, make in solving.MODELS.items()}
    told = {name: first_sentence(make.__doc__) for name, make in solving.MODELS.items()}
    ways: dict[str, dict[str, Any]] = {
        name: {"description": first_sentence(solver.__doc__),
               "settings": {key: value.default for key, value in inspect.signature(solver).parameters.items()
                                if value.kind == value.KEYWORD_ONLY}} for name, solver in solvers.items()}
    if as_json:
        return emit({"models": {name: {"description": told[name], "methods": fitting[name]} for name in told}, "methods": ways})
    table("Models", ("model", "description", "methods"), [(name, told[name], ", ".join(fitting[name])) for name in told])
    table("Methods", ("method", "description", "settings"),
          [(name, way["description"], ", ".join(f"{key}={value}" for key, value in way["settings"].items())) for name, way in ways.items()])


def _announce(id: str, rows: list[dict[str, Any]]) -> None:
    """One line on stderr for a goal that was measured."""
    told = ", ".join(f"{row['part']} {row['value']:.4g}{'' if row['met'] else ' (missed)'}" for row in rows)
    console(stderr=True).print(f"{id}: {told}", style="dim")


def bench_growth(settings: list[str], quick: bool, only: str | None, against: Path | None, into: Path | None, as_json: bool) -> None:
    """`bench growth`: every goal, a table, and the page and figures of the results."""
    from rllib_macro import bench_growth as benching
    from rllib_macro.sections import require
    if settings:
        raise Mistake(f"bench growth measures fixed calibrations; leave {settings[0]} out")
    if against is not None and not against.is_file():
        raise Mistake(f"there is no program {against}; compile it, or leave --against out")
    with asked():
        if into is not None:
            for section in (benching.SECTION, benching.AIYAGARI, benching.TRANSITIONS):
                require(into, section)
        chosen = [id.strip() for id in (only or "").split(",") if id.strip()]
        found = benching.bench(quick=quick, only=chosen, against=str(against.resolve()) if against else None, watch=_announce)
    if into is not None:
        _write(found, into, quick, bool(chosen))
    if as_json:
        return emit(found)
    console().print(benching.table(found))
    if into is not None:
        last(into)


def _write(found: dict[str, Any], page: Path, quick: bool, again: bool) -> None:
    """The page's tables, its figures, and beside it what they are made from; goals measured again replace those of before."""
    import json

    from rllib_macro import bench_growth as benching
    from rllib_macro import plots_growth
    from rllib_macro.sections import replace
    kept = page.with_suffix(".json")
    if again and kept.is_file():
        found = benching.merged(json.loads(kept.read_text(encoding="utf-8")), found)
    kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    replace(page, benching.SECTION, benching.markdown(found))
    if found["frontier"]:
        plots_growth.frontier(found["frontier"], page.with_name("growth_frontier.png"))
    ratios = {row["part"]: row["value"] for row in found["goals"] if row["id"] == "G3"}
    bitwise = next((row["value"] for row in found["goals"] if row["id"] == "G2"), None)
    if bitwise is not None and ratios:
        plots_growth.languages({"here, bitwise": bitwise, "here, fast": ratios["ratio"], "here, seeded": ratios["ratio, seeded"]},
                               page.with_name("growth_languages.png"))
    if not again:
        replace(page, benching.AIYAGARI, benching.aiyagari())
        replace(page, benching.TRANSITIONS, benching.transitions(*([benching.PUBLISHED_TRANSITIONS // 1000] if quick else [])))
