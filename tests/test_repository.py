"""The repository stands alone: fixed folders, no machine's paths, no registry's address, torch first."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {".ci", "docs", "envs", "kernels", "rllib_macro", "tests", "tune_configs", "tutorials"}
MACHINE_PATH = re.compile(r"(?<![\w.])(?:/(?:root|work|opt|mnt|home/\w+|Users/\w+)/|[A-Z]:\\Users\\)")
REGISTRY = re.compile(r"\b(?:pypi|pythonhosted|anaconda|download\.pytorch)\.(?:org|com|io|nvidia)\b")


def repository_files() -> list[Path]:
    """Files that git tracks or would track, relative to the root."""
    if not (ROOT / ".git").exists():
        pytest.skip("git knows which files belong to the repository, and this copy has no .git")
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(name) for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def text(file: Path) -> str:
    """Content of a text file, nothing of a binary one."""
    data = (ROOT / file).read_bytes()
    return "" if b"\0" in data else data.decode("utf-8", errors="replace")


def foreign(content: str) -> list[str]:
    """Machine-specific absolute paths and package-registry hosts in a text."""
    return MACHINE_PATH.findall(content) + REGISTRY.findall(content)


def test_top_level_folders_are_the_layers():
    assert {file.parts[0] for file in repository_files() if len(file.parts) > 1} <= FOLDERS


def test_no_file_names_a_machine_or_a_registry():
    found = {str(file): names for file in repository_files() if (names := foreign(text(file)))}
    assert not found


@pytest.mark.parametrize(("path", "separator"), [("|home|ada|runs", "/"), ("|root|.cache", "/"), ("C:|Users|ada", "\\")])
def test_a_machines_path_is_seen(path, separator):
    path = path.replace("|", separator)
    assert foreign(f"folder={path}")
    assert not foreign(f"folder=runs{path}")


@pytest.mark.parametrize("host", [".".join(["files", "pythonhosted", "org"]), ".".join(["pypi", "org"])])
def test_a_registrys_host_is_seen(host):
    assert foreign(f"--index-url https://{host}/simple") == [host.removeprefix("files.")]


def test_torch_is_the_first_requirement():
    assert (ROOT / "requirements.txt").read_text().startswith("torch==2.13.0\n")


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-gpu.txt"])
def test_requirements_are_exact(name):
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+(\[\w+(,\w+)*\])?==[\w.]+|-r requirements\.txt", line)] == []


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.M)[1].split()
    listed = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in listed.splitlines() if line.startswith("  make ")] == targets
