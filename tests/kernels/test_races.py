"""The whole step under ThreadSanitizer: lanes are real threads, so a missing BARRIER is a reported data race."""
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kernels.core.launch import HOST, Kernel, compile_host, find_compiler, native_problem
from tests.worlds import ROOT, modelled, needs_compiler, own, twins, world

SANITIZE = (*(flag for flag in HOST if flag != "-O3"), "-O1", "-g", "-fsanitize=thread")
RACE = 66  # exit code of a process in which ThreadSanitizer found one
STEPPED = [name for name in modelled() if any(kernel.name == "step" for kernel in twins(name))]
CHILD = """
import os, sys
os.environ.pop("LD_PRELOAD")  # for this process only, not for a compiler it might call
from pathlib import Path
from tests.kernels import test_races
test_races.play(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
"""


def library() -> str | None:
    """ThreadSanitizer's run-time library, which must be loaded before Python."""
    path = subprocess.run([find_compiler() or "", "-print-file-name=libtsan.so"], capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else None


pytestmark = [
    needs_compiler,
    pytest.mark.skipif(not native_problem() and not library(), reason="the compiler comes without ThreadSanitizer (libtsan)"),
]


def source_of(name: str) -> Path:
    return step_of(name).source


def step_of(name: str, source: Path | None = None) -> Kernel:
    """The step of an economy, with its twin read from another file if given."""
    step = next(kernel for kernel in twins(name) if kernel.name == "step")
    return Kernel(step.definition, str(source or step.source))


def worlds(name: str, replicas: int = 2) -> list[tuple]:
    """Two small worlds of one size."""
    values = next(iter(own(name, "WORLDS", {"": {}}).values()))
    return [world(name, np.float32, replicas, seed, **values) for seed in (1, 2)]


def play(name: str, source: Path, how: str) -> None:
    """What the child process does: one world on eight lanes, or two worlds at once on one lane each."""
    step = step_of(name, source)
    if how == "lanes":
        return step.run_native(worlds(name)[0], lanes=8, flags=(*SANITIZE, "-DTHREADS"))
    together = threading.Barrier(2)

    def live(args: tuple) -> None:
        step.run_native(args, flags=SANITIZE)
        for _ in range(5):
            together.wait()
            step.run_native(args, flags=SANITIZE)

    threads = [threading.Thread(target=live, args=(args,)) for args in worlds(name, replicas=100)]  # long enough to overlap
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def sanitized(name: str, source: Path, how: str) -> subprocess.CompletedProcess:
    """Run `play` in a child process under ThreadSanitizer; its library is built here, where compiling is fast."""
    compile_host(step_of(name, source).code(worlds(name)[0]), (*SANITIZE, "-DTHREADS") if how == "lanes" else SANITIZE)
    env = os.environ | {"LD_PRELOAD": str(library()), "TSAN_OPTIONS": f"exitcode={RACE}", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, name, str(source), how]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True)
    if "unexpected memory mapping" in done.stderr and shutil.which("setarch"):  # address randomisation beyond what it can handle
        done = subprocess.run(["setarch", "-R", *command], env=env, cwd=ROOT, capture_output=True, text=True)
    if "unexpected memory mapping" in done.stderr:
        pytest.skip("ThreadSanitizer does not start on this machine: unexpected memory mapping")
    return done


@pytest.mark.parametrize("name", STEPPED)
def test_lanes_of_a_step_do_not_race(name):
    done = sanitized(name, source_of(name), "lanes")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("phase", "number"), [("deliver", 0), ("settle_firms", 1), ("penalise_debt", 0)])
def test_a_missing_barrier_is_found(tmp_path, phase, number):
    """Each lane reads there what others wrote before: the served share of a good, taxes, rewards less penalties."""
    before, function, after = source_of("rbc").read_text().partition(f"DEVICE void {phase}(")
    parts = after.split("BARRIER();")
    (tmp_path / "rbc.cu").write_text(before + function + "BARRIER();".join(parts[:number + 1]) + "BARRIER();".join(parts[number + 1:]))
    done = sanitized("rbc", tmp_path / "rbc.cu", "lanes")
    assert done.returncode == RACE and "data race" in done.stderr


@pytest.mark.parametrize("name", STEPPED)
def test_two_worlds_stepped_at_once_share_nothing(name):
    done = sanitized(name, source_of(name), "worlds")
    assert done.returncode == 0, done.stderr
