"""The economies as their agents meet them: one file each, found by its name, registered nowhere."""
from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from envs.core.economy import Economy


def names() -> list[str]:
    """Names of the economies shipped in this folder: ["rbc", ...]."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_"))


def load(name: str) -> Economy:
    """The `ECONOMY` of envs/<name>.py or of any importable module ("my_package.cobweb"); ValueError names the nearest one."""
    module = f"envs.{name}" if name in names() else name
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and module != error.name and not module.startswith(error.name + "."):
            raise
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(names())} or an importable module"
        raise ValueError(f"unknown economy {name!r}; {hint}") from None
    if not hasattr(found, "ECONOMY"):
        raise ValueError(f"module {module!r} has no ECONOMY; assign an Economy to that name")
    economy = found.ECONOMY
    if not economy.name:
        economy.name = name
    return economy
