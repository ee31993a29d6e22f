"""A run is a folder: written while training, read back by everything that comes after.

    config.yaml                        the resolved configuration
    params.json                        the same with versions of the program, the economy and its libraries
    progress.csv  result.json          one row for each iteration;  events.out.tfevents.*  the same for TensorBoard
    checkpoints/iteration_000100/      everything training goes on from, without pickle, with a manifest of sizes and hashes
    policies/<type>_000100.safetensors weights anybody can load without unpickling
    episodes/episode_000100_<type>.npz one replica-batch of play, period by period
    evaluation.json  plots/*.png  report.html
"""
from __future__ import annotations

import csv
import importlib.metadata
import json
import math
import os
import platform
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import envs
from rllib_macro.config import RunConfig, check_against, load, to_dict, to_yaml
from rllib_macro.store import MANIFEST, StoreError, verify

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
        return cls(path, check_against(config, envs.load(config.economy)))

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
        folder = self.path / "checkpoints" / _folder(have[-1] if iteration is None else iteration)
        try:
            verify(folder)
        except StoreError as error:
            raise RunError(str(error)) from None
        return folder

    def save_checkpoint(self, algorithm: Any, iteration: int, label: str = "") -> Path:
        """Save the algorithm and its policies' weights; a checkpoint appears whole or not at all."""
        folder = self.path / "checkpoints" / (_folder(iteration) + label)
        if folder.exists():
            return folder
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        algorithm.save_to_path(partial)
        os.replace(partial, folder)
        self.save_policies(algorithm, iteration)
        return folder

    def save_policies(self, algorithm: Any, iteration: int) -> None:
        """Weights of every policy as safetensors."""
        (self.path / "policies").mkdir(exist_ok=True)
        weights = algorithm.learner_group.get_weights()
        for type_, module in weights.items():
            tensors = {name: torch.as_tensor(value).contiguous() for name, value in module.items()}
            save_file(tensors, self.path / "policies" / f"{type_}_{iteration:06d}.safetensors")

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
        have = self.checkpoints() or self.saved()
        iteration = have[-1] if iteration is None and have else iteration
        found = {}
        for type_, policy in self.config.policies.items():
            if policy.rule is not None:
                continue
            file = self.path / "policies" / f"{type_}_{iteration or 0:06d}.safetensors"
            try:
                found[type_] = load_file(file)
            except FileNotFoundError:
                saved = sorted({int(f.stem.rpartition("_")[2]) for f in (self.path / "policies").glob(f"{type_}_*.safetensors")})
                raise RunError(f"{file} is missing; saved iterations are {', '.join(map(str, saved)) or 'none'}") from None
            except SafetensorError as error:
                raise RunError(f"{file} is damaged ({error}); restore it from a copy, or use another iteration") from None
        return found

    # -- what was measured

    def progress(self) -> pandas.DataFrame:
        """One row for each iteration."""
        file = self.path / "progress.csv"
        if not file.is_file():
            raise RunError(f"{self.path} has no progress.csv; train it first")
        return pandas.read_csv(file)


class Progress:
    """Writes each iteration's numbers to progress.csv, result.json and TensorBoard's event file."""

    def __init__(self, path: Path, after: int | None = None):
        from tensorboardX import SummaryWriter
        self.path, self.rows, self.columns = path, list[dict[str, Any]](), list[str]()
        if after is not None:
            self._continue(after)
        self.events = SummaryWriter(str(path), purge_step=after)

    def write(self, row: Mapping[str, Any]) -> None:
        """Append one iteration; `row["iteration"]` counts from 1."""
        self.rows.append(dict(row))
        with (self.path / "result.json").open("a") as file:
            file.write(json.dumps(row) + "\n")
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite()
        else:
            with (self.path / "progress.csv").open("a", newline="") as file:
                csv.DictWriter(file, self.columns, restval="").writerow(row)
        for name, value in row.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                self.events.add_scalar(name, value, row["iteration"])

    def close(self) -> None:
        self.events.close()

    def _rewrite(self) -> None:
        partial = self.path / "progress.csv.partial"
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        os.replace(partial, self.path / "progress.csv")

    def _continue(self, after: int) -> None:
        """Keep the rows up to iteration `after`; later ones, which will be played again, move to result_superseded.json."""
        file = self.path / "result.json"
        lines = [line for line in file.read_text().splitlines() if line] if file.exists() else []
        rows = [json.loads(line) for line in lines]
        self.rows = [row for row in rows if row["iteration"] <= after]
        later = [row for row in rows if row["iteration"] > after]
        if later:
            with (self.path / "result_superseded.json").open("a") as kept:
                kept.writelines(json.dumps(row) + "\n" for row in later)
            partial = self.path / "result.json.partial"
            partial.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
            os.replace(partial, file)
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
        if self.rows:
            self._rewrite()


def versions(config: RunConfig) -> dict[str, Any]:
    """Versions of what a run depends on."""
    economy = envs.load(config.economy)
    return {"economy_version": economy.kernel.VERSION, "python": platform.python_version(),
            "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES}}


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
