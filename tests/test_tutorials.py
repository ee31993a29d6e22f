"""The notebooks run from top to bottom wherever Jupyter starts them, leave nothing behind, and are stored without outputs."""

import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
CELL_SECONDS = 300  # of the slowest cell on a busy machine; alone on two cores a whole notebook takes about a minute
STARTS = [(NOTEBOOKS[0], "."), *((file, "tutorials") for file in NOTEBOOKS)]  # Jupyter starts in their folder, some editors above it


def test_the_tutorials_are_numbered_and_say_so():
    titles = [nbformat.read(file, as_version=4).cells[0].source for file in NOTEBOOKS]
    assert [int(file.stem[:2]) for file in NOTEBOOKS] == list(range(1, len(NOTEBOOKS) + 1))
    assert [title.partition(" ")[2].partition(".")[0] for title in titles] == [str(n + 1) for n in range(len(titles))]


@pytest.mark.parametrize(("file", "start"), STARTS, ids=[f"{file.stem} from {start}" for file, start in STARTS])
def test_a_notebook_runs_from_top_to_bottom(file, start, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # a socket's path must be short
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    runs = set((ROOT / "runs").glob("*"))
    notebook = nbformat.read(file, as_version=4)
    NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(ROOT / start)}}).execute()
    assert any("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))
    assert set((ROOT / "runs").glob("*")) == runs


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_is_stored_without_outputs(file):
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert not [cell.id for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")]
    assert notebook.metadata.kernelspec.name == "python3"
