"""What a model adds to its runs by a module rllib_macro/report_<model>.py, where there is one; no other file names it.

`keep(run, iteration, policies)` writes what it keeps of an episode beside the arrays of `rollout_log`, and returns the files.
`figures(run)` are {name: figure} that become plots/<name>.png, and `sections(run)` {name: (title, HTML)} of the report.
"""
from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

import envs
from rllib_macro.config import RunConfig


def of(config: RunConfig) -> ModuleType | None:
    """The module of the model that a run plays, which economies with the same kernel share; None where there is none."""
    name = f"rllib_macro.report_{envs.load(config.economy).kernel.__name__.rpartition('.')[2]}"
    return importlib.import_module(name) if importlib.util.find_spec(name) else None
