"""Whether things work before they are needed: `machine` looks at this computer, `configuration` at a run that is about to start."""
from __future__ import annotations

import importlib.metadata
import logging
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.text import Text

import envs
from envs.core.batch import Batch
from kernels.core import launch
from kernels.core.arrays import adjust
from rllib_macro import schedule
from rllib_macro.config import RunConfig, check_against, from_text
from rllib_macro.describe import print_table

REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
PYTHON = (3, 11)
SIZES = {"n_consumers": 4, "n_firms": 2}
TINY = f"""
economy: rbc
name: check
replicas: 2
params: {SIZES}
stop: {{iterations: 2}}
evaluation: {{replicas: 2, seeds: [1]}}
"""
TOLERANCE = 1e-4  # relative, between two float32 programs after a few periods
TRIES = 100  # iterations at which a run's windows are tried


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `found` says what is there, `advice` what to do if that is not `ok`."""

    what: str
    found: str
    ok: bool
    essential: bool = True
    advice: str = ""


# --- this computer ----------------------------------------------------------------------------------------------------


def machine(watch: Callable[[str], Any] = lambda what: None) -> list[Finding]:
    """Versions, compiler, GPU, the native backend, and one tiny run in a temporary folder; `watch` hears what is being looked at."""
    findings = []
    for what, look in LOOKS.items():
        watch(what)
        findings.append(look())
    return findings


def python() -> Finding:
    """The version of Python."""
    return Finding("python", f"{platform.python_version()} on {platform.system()}", sys.version_info >= PYTHON,
                   advice="install Python {}.{} or newer".format(*PYTHON))


def libraries(file: Path = REQUIREMENTS) -> Finding:
    """Installed libraries against the tested ones. A difference is worth knowing; whether it matters, the tiny run says."""
    pinned = dict(re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==([\w.]+)", file.read_text(encoding="utf-8"), re.M)) if file.is_file() else {}
    off = {name: (version, has) for name, version in pinned.items() if (has := installed(name)) != version}
    parts = [f"{name} {has} (tested: {version})" if has else f"{name} is missing" for name, (version, has) in off.items()]
    newest = ", ".join(f"{name} {version}" for name, version in list(pinned.items())[:4])
    return Finding("libraries", ", ".join(parts) or f"{len(pinned)} as tested: {newest}, ...", not off, False, INSTALL)


def installed(name: str) -> str | None:
    """The version of an installed distribution without its build (2.13.0+cpu -> 2.13.0); None if it is not installed."""
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def compiler() -> Finding:
    """The C++ compiler."""
    path = launch.find_compiler()
    if path is None:
        return Finding("compiler", "none", False, False, "install g++ or set CXX; everything works without one, more slowly")
    told = subprocess.run([path, "--version"], capture_output=True, text=True).stdout.splitlines()
    return Finding("compiler", told[0] if told else path, True, False)


def native() -> Finding:
    """The native backend: the compiled twins of an economy play as its definition does."""
    if problem := launch.native_problem():
        return Finding("native backend", "not available", False, False, problem)
    try:
        off = _distance()
    except (launch.BackendError, OSError) as error:
        return Finding("native backend", sentence(error), False, False, "repair or change the compiler (CXX), or set backend=numpy")
    found = f"compiled, agrees with the definition to {off:.0e}"
    return Finding("native backend", found, off < TOLERANCE, False, "set backend=numpy, and report this")


def _distance() -> float:
    """Largest relative distance between the rewards of one random episode on the two CPU backends."""
    economy = envs.load("rbc")
    p = adjust(economy.kernel.Params(), **SIZES)
    slow, fast = (Batch(economy, p, 2, backend=backend, rules=dict.fromkeys(economy.agents, "random")) for backend in ("numpy", "native"))
    off = 0.0
    for _ in range(economy.periods(p)):
        expected, got = slow.step({})[0], fast.step({})[0]
        off = max(off, *(float(np.max(np.abs(got[t] - expected[t]) / np.maximum(1, np.abs(expected[t])))) for t in expected))
    return off


def gpu() -> Finding:
    """Whether a GPU can be used."""
    if problem := launch.cuda_problem():
        return Finding("gpu", "none that can be used", False, False, f"{problem} (needed for device=cuda only)")
    import torch
    if not torch.cuda.is_available():
        return Finding("gpu", "CuPy sees one, PyTorch does not", False, False, NO_CUDA_TORCH)
    return Finding("gpu", torch.cuda.get_device_name(), True, False)


def tiny_run() -> Finding:
    """Train, evaluate and report the smallest sensible run in a folder that is deleted afterwards."""
    from rllib_macro import train
    config = from_text(TINY)
    started = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder:
            train.train(check_against(config, envs.load(config.economy)), folder)
    except Exception as error:  # whatever it is, the user wants to read it in the table
        logging.getLogger(__name__).debug("the tiny run failed", exc_info=True)
        found = f"{type(error).__name__}: {sentence(error)}"
        return Finding("tiny run", found, False, True, f"{INSTALL} into a fresh environment, and report this if it stays")
    return Finding("tiny run", f"{config.stop.iterations} iterations, evaluation and report in {time.perf_counter() - started:.0f} s", True)


LOOKS: dict[str, Callable[[], Finding]] = {
    "python": python, "libraries": libraries, "compiler": compiler, "native backend": native, "gpu": gpu, "tiny run": tiny_run,
}
INSTALL = "pip install -r requirements.txt"
NO_CUDA_TORCH = "this PyTorch cannot use the GPU: install its CUDA build, or choose device=cpu"


def sentence(error: BaseException) -> str:
    """An error's text on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def show(findings: list[Finding], console: Console) -> None:
    """Print what was found: ok, or what to do."""
    marks = [Text("ok", "green") if f.ok else Text("error", "red") if f.essential else Text("note", "yellow") for f in findings]
    print_table(console, "This computer", ("", "what", "found", "what to do"),
                [(mark, f.what, f.found, "" if f.ok else f.advice) for mark, f in zip(marks, findings)])


# --- a run that is about to start -------------------------------------------------------------------------------------


def configuration(config: RunConfig) -> None:
    """Build once, in memory, what a run is made of, so that an impossible one is refused before its folder exists.

    ValueError or BackendError say what is wrong: sizes, Params, windows that leave no choice, rules, networks, the device.
    """
    from envs.core.batch import require_memory
    from rllib_macro import evaluate
    from rllib_macro.env_runner import fixed_params, make_batch
    for replicas in (config.replicas, config.evaluation.replicas):
        require_memory(envs.load(config.economy), fixed_params(config), replicas)
    batch = make_batch(config, 1)
    if config.device == "cuda":
        import torch
        if not torch.cuda.is_available():
            raise launch.BackendError(f"device=cuda: {NO_CUDA_TORCH}")
    for k in _moments(config):
        now = schedule.plan(config, k)
        batch.adjust(now.params, now.windows)
        for type_ in config.policies:
            batch.decide(type_, batch.random_choices(type_))
    evaluate.modules(config)


def _moments(config: RunConfig) -> Iterator[int]:
    """Iterations at which something starts or ends, and some in between while windows or Params move."""
    last = config.stop.iterations - 1
    yield from sorted({0, last, *(k for k, _ in schedule.phases(config)), *range(0, last, max(1, last // TRIES))})
