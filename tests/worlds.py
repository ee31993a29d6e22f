"""Worlds to test in: (p, s, a, e, r) of any economy, quiet ones for numbers worked out by hand and lived-in ones reached by random play."""
from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import envs
from envs.core.batch import SHOCKS, Batch
from kernels.core.arrays import adjust, allocate
from kernels.core.launch import Kernel, native_problem

ROOT = Path(__file__).parents[1]
needs_compiler = pytest.mark.skipif(bool(native_problem()), reason=f"native backend: {native_problem()}")
BACKENDS = ["numpy", pytest.param("native", marks=needs_compiler)]
PLAYED = 3  # periods of random play before a lived-in world is handed out


def world(name: str, dtype: Any = np.float64, replicas: int = 1, seed: int | None = None, xp: ModuleType = np, **values: Any) -> tuple:
    """(p, s, a, e, r) of the economy `name`; `values` are Params, else State fields, else Actions fields.

    Without a seed it is the first period and all actions are zero. With one, three periods were played at random and the next actions
    are drawn, in float64 whatever the dtype, so that a seed is the same world in every precision and on every device.
    """
    economy = envs.load(name)
    model = economy.kernel
    params = {f.name for f in fields(model.Params)}
    p = adjust(economy.defaults(), **{key: value for key, value in values.items() if key in params})
    s, a, e, r = (allocate(cls, model, p, replicas, xp, dtype) for cls in (model.State, model.Actions, model.Shocks, model.Rewards))
    lived = (model.initial_state(p, replicas, np, None, np.float64),) if seed is None else _lived(name, p, replicas, seed)
    for target, source in zip((s, a, e, r), lived):
        for field, value in vars(source).items():
            getattr(target, field)[...] = xp.asarray(value)
    for key, value in values.items():
        if key not in params:
            target = s if hasattr(s, key) else a
            getattr(target, key)[...] = xp.asarray(value)
    return p, s, a, e, r


@functools.lru_cache(maxsize=64)
def _lived(name: str, p: Any, replicas: int, seed: int) -> tuple:
    economy = envs.load(name)
    rules = dict.fromkeys(economy.agents, "random")
    batch = Batch(economy, p, replicas, backend="numpy", seed=seed, real=np.float64, rules=rules)
    for _ in range(min(PLAYED, economy.periods(p) - 1)):
        batch.step({})
    for type_ in economy.agents:
        batch.decide(type_, None)
    economy.kernel.draw_shocks(p, batch.s, batch.e, batch.draws(SHOCKS))
    return batch.s, batch.a, batch.e, batch.r


def modelled() -> list[str]:
    """Names of economies, one for each kernel: the economy of the kernel's own name, or else the first."""
    kernels: dict[ModuleType, str] = {}
    for name in sorted(envs.names(), key=lambda name: not envs.load(name).kernel.__name__.endswith(f".{name}")):
        kernels.setdefault(envs.load(name).kernel, name)
    return sorted(kernels.values())


def twins(name: str) -> list[Kernel]:
    """The functions of kernels/<name>.py that have a twin, in the order of the file."""
    return [thing for thing in vars(envs.load(name).kernel).values() if isinstance(thing, Kernel)]


def own(name: str, attribute: str, default: Any) -> Any:
    """What tests/kernels/test_<name>.py says about its economy under `attribute`, for the tests that every economy must pass."""
    module = f"tests.kernels.test_{name}"
    return getattr(importlib.import_module(module), attribute, default) if importlib.util.find_spec(module) else default


def run(kernel: Kernel, args: tuple, how: Any) -> None:
    """Call `how` (a kernel, its definition, ...) with those of (p, s, a, e, r) that the kernel takes."""
    how(*(dict(zip("psaer", args))[letter] for letter in kernel.arguments))


def golden(name: str) -> Path:
    """A recorded trace, kept beside the repository; the test is skipped where it is absent."""
    file = ROOT.parent / "shared" / "golden" / name
    if not file.exists():
        pytest.skip(f"recorded traces are kept outside the repository, and {name} is not here")
    return file
