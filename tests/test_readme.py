"""What README and tutorials tell a reader to type works, what they link to is there, and no number is left to be measured."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import typer
from typer.testing import CliRunner

from rllib_macro import __main__ as program

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "tutorials").glob("*.ipynb"))]
COMMAND = re.compile(r"python -m rllib_macro ([a-z-]+\b[^`\n]*)")
MAKE = re.compile(r"(?:^|`)make ([a-z-]+)", re.M)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
RUN_AT_ONCE = ("list", "describe", "schema")


def text(file: Path) -> str:
    """A document's text; of a notebook the explanations."""
    if file.suffix != ".ipynb":
        return file.read_text(encoding="utf-8")
    return "\n\n".join(cell.source for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == "markdown")


def commands(file: Path) -> list[list[str]]:
    """The command lines of a document, as words after `python -m rllib_macro`, comments left out."""
    return [shlex.split(found, comments=True) for found in COMMAND.findall(text(file))]


def parsed(words: list[str]) -> dict:
    """What the command line makes of a verb and its arguments; raises where it would refuse them."""
    verb = typer.main.get_command(program.app).commands[words[0]]
    with verb.make_context(words[0], words[1:]) as context:
        return dict(context.params)


def is_placeholder(name: str) -> bool:
    """RUN, TRACE.npz: a word the reader replaces."""
    return name.split(".")[0].isupper()


COMMANDS = [pytest.param(file, words, id=f"{file.stem}: {' '.join(words)}") for file in DOCUMENTS for words in commands(file)]


def test_the_readme_names_commands():
    verbs = {words[0] for words in commands(ROOT / "README.md")}
    assert verbs >= {"list", "describe", "train", "rollout", "report", "check", "bench", "replay", "schema", "log"}


@pytest.mark.parametrize(("file", "words"), COMMANDS)
def test_a_command_line_is_understood(file, words):
    given = parsed(words)
    if words[0] == "describe":
        program.described(given["name"], given["settings"] or [])
    elif words[0] == "train" and given["resume"] is None:
        program.checked(program.config_file(given["config"]), given["settings"] or [])
    elif words[0] == "train":
        assert all(word.startswith("stop.iterations=") for word in (given["config"], *(given["settings"] or [])) if word)
    folder = given.get("run") or given.get("resume")
    if isinstance(folder, (str, Path)) and not is_placeholder(str(folder)):
        assert Path(folder).parent == Path("runs")
        assert Path(folder).name in names_of_runs(file)
    if "trace" in given:
        assert is_placeholder(str(given["trace"]))


def names_of_runs(file: Path) -> set[str]:
    """Names of the run folders that a document's own commands make."""
    trained = [parsed(words) for words in commands(file) if words[0] == "train"]
    named = {word.removeprefix("name=") for given in trained for word in given["settings"] or [] if word.startswith("name=")}
    return named | {given["config"] for given in trained if given["config"] and given["resume"] is None}


@pytest.mark.parametrize("words", [["train", "--resum", "runs/x"], ["describe"], ["train", "rbc_quick", "--replicas", "3"]])
def test_a_command_line_that_the_program_refuses_is_seen(words):
    with pytest.raises(Exception, match="(?i)no such option|missing parameter"):
        parsed(words)


@pytest.mark.parametrize(("file", "words"), [p for p in COMMANDS if p.values[1][0] in RUN_AT_ONCE])
def test_a_quick_command_runs(file, words, monkeypatch):
    monkeypatch.chdir(ROOT)
    done = CliRunner().invoke(program.app, words)
    assert done.exit_code == 0, done.output
    assert done.output.strip()


def test_the_readmes_example_runs_and_prints_what_the_readme_says():
    readme = text(ROOT / "README.md")
    (example,) = re.findall(r"```python\n(.*?)```", readme, re.S)
    (last,) = re.findall(r"The last line it prints is `(.*)`", readme)
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    done = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == last


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.stem)
def test_make_targets_exist(file):
    targets = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    assert set(MAKE.findall(text(file))) <= set(targets)


def test_the_readme_shows_the_two_commands():
    assert {"train", "test"} <= set(MAKE.findall(text(ROOT / "README.md")))


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.stem)
def test_links_lead_to_files(file):
    linked = [link for link in LINK.findall(text(file)) if not re.match(r"[a-z]+:", link)]
    assert [link for link in linked if not (file.parent / link).exists()] == []


def test_files_that_the_readme_names_are_here():
    named = re.findall(r"`([\w./-]+\.(?:txt|toml|cff|yaml|py|md))`", text(ROOT / "README.md"))
    assert "requirements.txt" in named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_number_of_the_readme_was_measured():
    assert re.findall(r"\{\{\w*\}\}", text(ROOT / "README.md")) == []
