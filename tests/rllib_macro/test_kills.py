"""A run that is killed at random moments, again and again, ends in the weights of an undisturbed one."""
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rllib_macro.run import Run
from tests.rllib_macro.tiny import TINY

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("kills", "iterations"), [(3, 300), pytest.param(20, 1500, marks=pytest.mark.slow)])
def test_a_run_killed_again_and_again_ends_in_the_weights_of_an_undisturbed_one(tmp_path, kills, iterations):
    file, moments, killed = tmp_path / "tiny.yaml", random.Random(0), 0
    file.write_text(TINY.replace("iterations: 4", f"iterations: {iterations}") + "checkpoint: {every: 5}\n")
    finish(begin(tmp_path, str(file), "name=whole"))
    run = begin(tmp_path, str(file), "name=killed")
    while killed < kills:
        reached = newest(tmp_path / "killed")
        wait_for(lambda: newest(tmp_path / "killed") > reached or run.poll() is not None)  # noqa: B023 - called at once
        time.sleep(moments.uniform(0, 0.5))
        if run.poll() is not None:
            break
        run.send_signal(signal.SIGKILL)
        run.wait()
        killed += 1
        run = begin(tmp_path, "--resume", str(tmp_path / "killed"))
    finish(run)
    assert killed == kills, "the run ended before it was killed often enough: give it more iterations"
    whole, other = (Run.open(tmp_path / name) for name in ("whole", "killed"))
    assert other.progress()["iteration"].tolist() == list(range(1, iterations + 1))
    for type_ in whole.config.policies:
        a, b = (load_file(of.path / "policies" / f"{type_}_{iterations:06d}.safetensors") for of in (whole, other))
        assert all(torch.equal(a[name], b[name]) for name in a)


def begin(runs, *arguments):
    return subprocess.Popen([sys.executable, "-m", "rllib_macro", "train", *arguments, "--runs", str(runs)], cwd=ROOT,
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(run):
    _, errors = run.communicate(timeout=600)
    assert run.returncode == 0, errors


def newest(path):
    return max((int(file.parent.name[-6:]) for file in (path / "checkpoints").glob("iteration_??????/manifest.json")), default=0)


def wait_for(happened, seconds=180):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "the run saved nothing in three minutes"
        time.sleep(0.02)
