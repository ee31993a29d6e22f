"""A run is a folder: written while training, read back by everything that comes after.

    config.yaml                        the resolved configuration
    params.json                        the same with versions of the program, the economy and its libraries
    progress.csv  result.json          one row for each iteration;  events.out.tfevents.*  the same for TensorBoard
    checkpoints/iteration_000100/      everything training goes on from, without pickle, with a manifest of sizes and hashes
    policies/<type>_000100.safetensors weights anybody can load without unpickling
    episodes/episode_000100_<type>.npz one replica-batch of play, period by period, and what the model adds (extras.py)
    evaluation.json  plots/*.png  report.html
    best_response/firm/<label>/        what a type, or an agent, gained by deviating: result.json and weights
"""
from __future__ import annotations

import csv
import importlib.metadata
import itertools
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from torch import Tensor

import envs
from rllib_macro.config import RunConfig, check_against, load, to_dict, to_yaml
from rllib_macro.store import MANIFEST, StoreError, verify

TRUSTED = "RLLIB_MACRO_ECONOMIES"  # environment variable: modules of economies that a run folder may name, separated by commas
LIBRARIES = ("ray", "torch", "numpy", "gymnasium")


class RunError(ValueError):
    """A run folder is not what a command needs; the text is one sentence that says what to do."""


class Run:
    """One run folder, new (`create`) or existing (`open`)."""

    def __init__(self, path: Path, config: RunConfig):
        self.path, self.config = path, config

    @classmethod
    def create(cls, config: RunConfig, root: str | Path = "runs") -> Run:
        """Make the folder root/<name>; a folder that exists already is refused and left as it is."""
        path = Path(root) / config.name
        if path.exists():
            raise RunError(f"{path} exists already; choose another name=..., or continue it with: train --resume {path}")
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(to_yaml(config))
        (path / "params.json").write_text(json.dumps({"config": to_dict(config), **versions(config)}, indent=1))
        return cls(path, config)

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run, its configuration checked against its economy."""
        path = Path(path)
        if not (path / "config.yaml").is_file():
            raise RunError(f"{path} is not a run folder: it has no config.yaml; give the path of one, such as runs/rbc_quick")
        config = load(path / "config.yaml")
        if config.economy not in (*envs.names(), *sys.modules, *os.environ.get(TRUSTED, "").split(",")):
            raise RunError(f"{path} plays the economy {config.economy!r} of another project, whose code would run: if you trust it, set "
                           f"{TRUSTED}={config.economy}")
        try:
            economy = envs.load(config.economy)
        except (ImportError, ValueError) as error:
            raise RunError(f"{path / 'config.yaml'} names what is not here: {error}") from None
        return cls(path, check_against(config, economy))

    def require_version(self) -> None:
        """RunError if the economy has changed its behaviour since the run was made."""
        try:
            made_with = json.loads((self.path / "params.json").read_text())["economy_version"]
        except (OSError, ValueError, KeyError, TypeError):
            return  # not recorded, as in an imported run
        now = envs.load(self.config.economy).kernel.VERSION
        if made_with != now:
            raise RunError(f"{self.path} was made with version {made_with} of {self.config.economy}, this is version {now}: "
                           "play it with the program that made it, or train it anew")

    def prolong(self, iterations: int) -> None:
        """Change stop.iterations here and in config.yaml."""
        self.config = self.config.model_copy(update={"stop": self.config.stop.model_copy(update={"iterations": iterations})})
        partial = self.path / "config.yaml.partial"
        partial.write_text(to_yaml(self.config))
        os.replace(partial, self.path / "config.yaml")

    # -- checkpoints

    def checkpoints(self) -> list[int]:
        """Iterations that have a complete checkpoint, in order."""
        found = (self.path / "checkpoints").glob(f"iteration_*/{MANIFEST}")
        return sorted(int(manifest.parent.name.removeprefix("iteration_")) for manifest in found if _is_number(manifest.parent.name))

    def checkpoint(self, iteration: int | None = None) -> Path:
        """The folder of a checkpoint that is whole, the newest if none is named; RunError if it is missing or damaged."""
        have = self.checkpoints()
        if not have:
            raise RunError(f"{self.path} has no checkpoint; train it first: train --resume needs at least one")
        if iteration is not None and iteration not in have:
            raise RunError(f"{self.path} has no checkpoint of iteration {iteration}; it has {', '.join(map(str, have))}")
        self.require_version()
        folder = self.path / "checkpoints" / _folder(have[-1] if iteration is None else iteration)
        try:
            verify(folder)
        except StoreError as error:
            raise RunError(str(error)) from None
        return folder

    def save_checkpoint(self, algorithm: Any, iteration: int, label: str = "") -> Path:
        """Save the algorithm and its policies' weights; a checkpoint appears whole or not at all."""
        folder = self.path / "checkpoints" / (_folder(iteration) + label)
        if label:
            folder = _unused(folder)
        elif folder.exists():
            return folder
        else:
            self.save_policies(algorithm, iteration)  # first: a checkpoint that exists is complete
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        algorithm.save_to_path(partial)
        os.replace(partial, folder)
        return folder

    def save_policies(self, algorithm: Any, iteration: int) -> None:
        """Weights of every policy as safetensors."""
        (self.path / "policies").mkdir(exist_ok=True)
        weights = algorithm.learner_group.get_weights()
        for type_, module in weights.items():
            tensors = {name: torch.as_tensor(value).contiguous() for name, value in module.items()}
            file = self.path / "policies" / f"{type_}_{iteration:06d}.safetensors"
            partial = file.with_name(f".{file.name}.partial")
            save_file(tensors, partial)
            os.replace(partial, file)

    def set_aside(self, after: int) -> None:
        """Move checkpoints and policies later than an iteration, which will be played again, to superseded/, or superseded_2/, ..."""
        stale = [self.path / "checkpoints" / _folder(k) for k in self.checkpoints() if k > after]
        stale += [f for f in (self.path / "policies").glob("[!.]*.safetensors") if int(f.stem.rpartition("_")[2]) > after]
        aside = _unused(self.path / "superseded")
        for item in stale:
            (aside / item.parent.name).mkdir(parents=True, exist_ok=True)
            os.replace(item, aside / item.parent.name / item.name)

    def forget_checkpoints(self, keep: int | None) -> None:
        """Delete all but the newest `keep` checkpoints, as checkpoint.keep asks; None keeps all."""
        for iteration in self.checkpoints()[:-keep] if keep else []:
            shutil.rmtree(self.path / "checkpoints" / _folder(iteration))

    def saved(self) -> list[int]:
        """Iterations whose policies are kept for every type that learns, in order; an imported run has them without checkpoints."""
        types = [type_ for type_, policy in self.config.policies.items() if policy.rule is None]
        kept = [{int(number) for file in (self.path / "policies").glob(f"{type_}_*.safetensors")
                 if (number := file.stem.removeprefix(f"{type_}_")).isdecimal()} for type_ in types]
        return sorted(set.intersection(*kept)) if kept else []

    def weights(self, iteration: int | None = None) -> dict[str, dict[str, Tensor]]:
        """{type: {name: tensor}} of a saved iteration, the newest if none is named."""
        self.require_version()
        have = self.checkpoints() or self.saved()
        iteration = have[-1] if iteration is None and have else iteration
        found = {}
        for type_, policy in self.config.policies.items():
            if policy.rule is not None:
                continue
            file = self.path / "policies" / f"{type_}_{iteration or 0:06d}.safetensors"
            try:
                found[type_] = load_tensors(file.read_bytes())  # not mapped: a file that changes later cannot crash the process
            except FileNotFoundError:
                raise RunError(f"{file} is missing; saved iterations are {', '.join(map(str, self.saved())) or 'none'}") from None
            except (SafetensorError, OSError) as error:
                raise RunError(f"{file} is damaged ({error}); restore it from a copy, or use another iteration") from None
        return found

    # -- what was measured

    def progress(self) -> pandas.DataFrame:
        """One row for each iteration."""
        file = self.path / "progress.csv"
        if not file.is_file():
            raise RunError(f"{self.path} has no progress.csv; train it first")
        try:
            return pandas.read_csv(file)
        except pandas.errors.EmptyDataError:
            return pandas.DataFrame()
        except (OSError, ValueError, OverflowError) as error:
            raise RunError(f"{file} is damaged ({' '.join(str(error).split())}); restore it from a copy") from None


    def best_responses(self) -> list[tuple[Path, dict[str, Any]]]:
        """Folder and result of every best response that was computed, by deviator and label; RunError if one is damaged."""
        found = []
        for file in sorted((self.path / "best_response").glob("*/*/result.json")):
            try:
                result = json.loads(file.read_text())
                if not all(isinstance(result[name], (int, float)) for name in ("checkpoint", "profile", "gain", "ci_low", "ci_high")):
                    raise ValueError("a number is missing")
                found.append((file.parent, result | {"deviator": str(result["deviator"])}))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise RunError(f"{file} is damaged ({error}); remove its folder to leave it out") from None
        return found


class Progress:
    """Writes each iteration's numbers to progress.csv, result.json and TensorBoard's event file."""

    def __init__(self, path: Path, after: int | None = None):
        from tensorboardX import SummaryWriter
        self.path, self.columns = path, list[str]()
        if after is not None:
            self._continue(after)
        self.events = SummaryWriter(str(path), purge_step=None if after is None else after + 1)  # the first step to hide

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one iteration; `row["iteration"]` counts from 1."""
        with (self.path / "result.json").open("a") as file:
            file.write(json.dumps(row) + "\n")
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite([json.loads(line) for line in (self.path / "result.json").read_text().splitlines()])
        else:
            with (self.path / "progress.csv").open("a", newline="") as file:
                csv.DictWriter(file, self.columns, restval="").writerow(row)
        for name, value in row.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                self.events.add_scalar(name, value, row["iteration"])

    def close(self) -> None:
        self.events.close()

    def _rewrite(self, rows: Iterable[Mapping[str, Any]]) -> None:
        partial = self.path / "progress.csv.partial"
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(partial, self.path / "progress.csv")

    def _continue(self, after: int) -> None:
        """Keep the rows up to iteration `after`; later ones, which will be played again, move to result_superseded.json."""
        file = self.path / "result.json"
        lines = [line for line in file.read_bytes().splitlines() if line] if file.exists() else []
        rows = [row for number, line in enumerate(lines, 1) if (row := _recorded(file, line, number, number == len(lines))) is not None]
        kept_rows = [row for row in rows if row["iteration"] <= after]
        later = [row for row in rows if row["iteration"] > after]
        if len(kept_rows) < len(lines):
            with (self.path / "result_superseded.json").open("a") as kept:
                kept.writelines(json.dumps(row) + "\n" for row in later)
            partial = self.path / "result.json.partial"
            partial.write_text("".join(json.dumps(row) + "\n" for row in kept_rows))
            os.replace(partial, file)
        self.columns = list(dict.fromkeys(name for row in kept_rows for name in row))
        if kept_rows:
            self._rewrite(kept_rows)


def _recorded(file: Path, line: bytes, number: int, is_last: bool) -> dict[str, Any] | None:
    """A row of result.json; None for a last line that was cut off when the run was killed, RunError for another that cannot be read."""
    try:
        row = json.loads(line)
        if isinstance(row["iteration"], int):
            return row
    except (ValueError, KeyError, TypeError):
        pass
    if is_last:
        return None
    raise RunError(f"{file} is damaged in line {number}; restore it from a copy, or remove it, and the log starts anew")


def versions(config: RunConfig) -> dict[str, Any]:
    """Versions of what a run depends on."""
    economy = envs.load(config.economy)
    return {"economy_version": economy.kernel.VERSION, "python": platform.python_version(),
            "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES}}


def _unused(path: Path) -> Path:
    """The path itself, or with the first number from 2 on that makes it new."""
    return next(p for n in itertools.count(1) if not (p := path.with_name(path.name + (f"_{n}" if n > 1 else ""))).exists())


def _folder(iteration: int) -> str:
    return f"iteration_{iteration:06d}"


def _is_number(name: str) -> bool:
    return name.removeprefix("iteration_").isdigit()


def flat(nested: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float]]:
    """The numbers of nested dictionaries under names joined by /."""
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield f"{prefix}{name}", value
