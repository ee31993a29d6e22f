"""The verb that reads a run of the program published in 2022."""
from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_macro.terminal import Json, app, argument, asked, console, emit, last, must_be_writable, option


@app.command("import-2022")
def import_2022(
    folder: Annotated[Path, argument("FOLDER", "Folder of one run of the program of 2022: hparams.yaml, saved_models/ and episodes.")],
    name: Annotated[str | None, option("NAME", "Name of the run (default: the folder's).")] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="Where run folders are made.")] = Path("runs"),
    replicas: Annotated[int, typer.Option(metavar="N", min=1, help="Replicas kept of each dense episode; means are over all.")] = 8,
    as_json: Json = False,
) -> None:
    """Read a run of the RBC economy's program of 2022 into a run folder, executing nothing; it can then be played and questioned."""
    from rllib_macro import import_2022 as importing
    must_be_writable(runs)
    with asked():
        made = importing.read(folder, runs, name, replicas)
    if as_json:
        return emit({"run": str(made.run.path), "policies": made.policies, "episodes": made.episodes, "deviation": made.deviation,
                     "reproduced": made.reproduced})
    out = console()
    out.print(f"Policies of iterations {importing.listed(made.policies)}; episodes of iterations {importing.listed(made.episodes)}.")
    if made.deviation:
        worst = ", ".join(f"{type_} {share:.1g}" for type_, share in made.deviation.items())
        said = "This economy pays the recorded rewards" if made.reproduced else "This economy does not pay the recorded rewards"
        out.print(f"{said}: the largest relative deviation is {worst}.")
    last(made.run.path)
