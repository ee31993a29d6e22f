"""Imports point one way, kernels <- envs <- rllib_macro, and no economy knows another."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OUTSIDE = {"tests", "tutorials"}
FORBIDDEN = {
    "kernels": {"envs", "rllib_macro", "ray", "torch", "gymnasium"} | OUTSIDE,
    "envs": {"rllib_macro", "ray", "torch"} | OUTSIDE,
    "rllib_macro": OUTSIDE,
}
ECONOMIES = {file.stem for layer in ("kernels", "envs") for file in (ROOT / layer).glob("*.py")} - {"__init__"}


def imports(source: str, file: Path) -> set[str]:
    """Dotted names that a source imports, wherever in the file: `from kernels import rbc` gives kernels.rbc."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = file.parts[: -node.level] if node.level else ()
            module = (*package, node.module) if node.module else package
            names |= {".".join((*module, alias.name)) for alias in node.names}
    return names


def borrowed() -> dict[str, str]:
    """{economy: kernel} of the economies that have no kernel of their own name, but import one of another: a calibration of that model."""
    own, found = {file.stem for file in (ROOT / "kernels").glob("*.py")}, {}
    for file in (ROOT / "envs").glob("*.py"):
        names = imports(file.read_text(encoding="utf-8"), file.relative_to(ROOT))
        taken = {name.split(".")[1] for name in names if name.startswith("kernels.")} - {"core"}
        if file.stem not in own and len(taken) == 1:
            found[file.stem] = taken.pop()
    return found


BORROWED = borrowed()


def family(name: str, economies: set[str] = ECONOMIES) -> str:
    """The economy that a file belongs to: monetary_books and monetary_residual belong to monetary, aiyagari to incomplete_markets."""
    name = BORROWED.get(name, name)
    return min((base for base in economies | {name} if name == base or name.startswith(f"{base}_")), key=len)


def violations(source: str, file: Path, economies: set[str] = ECONOMIES) -> list[str]:
    """One sentence for each import that the layers forbid; file is relative to the root."""
    layer, unit = file.parts[0], Path(file.parts[1]).stem
    others = {name for name in economies if family(name, economies) != family(unit, economies)}
    strangers = {f"{lower}.{name}" for lower in ("kernels", "envs") for name in others} if layer != "rllib_macro" else set()
    return [
        f"{file} must not import {name}"
        for name in sorted(imports(source, file))
        if name.split(".")[0] in FORBIDDEN[layer] or ".".join(name.split(".")[:2]) in strangers
    ]


@pytest.mark.parametrize("layer", FORBIDDEN)
def test_imports_point_one_way(layer):
    files = sorted((ROOT / layer).rglob("*.py"))
    assert files
    found = [sentence for file in files for sentence in violations(file.read_text(encoding="utf-8"), file.relative_to(ROOT))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("file", "source", "name"),
    [
        ("kernels/rbc.py", "import envs", "envs"),
        ("kernels/rbc.py", "def step():\n    import torch.nn", "torch.nn"),
        ("kernels/core/rng.py", "from gymnasium import spaces", "gymnasium.spaces"),
        ("kernels/rbc.py", "from kernels import growth", "kernels.growth"),
        ("kernels/rbc.py", "from .growth import Params", "kernels.growth.Params"),
        ("kernels/core/rng.py", "from .. import rbc", "kernels.rbc"),
        ("envs/rbc.py", "import ray", "ray"),
        ("envs/rbc.py", "from rllib_macro.config import Run", "rllib_macro.config.Run"),
        ("envs/rbc.py", "import kernels.growth as model", "kernels.growth"),
        ("envs/rbc.py", "from envs.growth import ECONOMY", "envs.growth.ECONOMY"),
        ("envs/core/batch.py", "from kernels import rbc", "kernels.rbc"),
        ("rllib_macro/train.py", "from tests.kernels import world", "tests.kernels.world"),
    ],
)
def test_an_import_against_the_layers_is_named(file, source, name):
    assert violations(source, Path(file), {"rbc", "growth"}) == [f"{file} must not import {name}"]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("kernels/rbc.py", "from .core.launch import kernel\nimport numpy"),
        ("kernels/core/launch.py", "from kernels.core import arrays"),
        ("envs/rbc.py", "from kernels import rbc\nfrom kernels.core import inequality\nfrom envs.core import Economy\nimport gymnasium"),
        ("rllib_macro/train.py", "import ray, torch, envs\nfrom kernels import rbc\nfrom . import config"),
    ],
)
def test_an_import_along_the_layers_is_fine(file, source):
    assert violations(source, Path(file), {"rbc", "growth"}) == []
