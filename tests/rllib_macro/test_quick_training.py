"""What `make train` promises, for three seeds of one setting, and that a killed run loses nothing it had saved."""
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import envs
from rllib_macro import train
from rllib_macro.config import check_against, load
from rllib_macro.evaluate import beats
from tests.rllib_macro.tiny import TINY

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_quick_configuration_reaches_the_published_regime(tmp_path, seed):
    config = load(ROOT / "tune_configs" / "rbc_quick.yaml", [f"seed={seed}"])
    run = train.train(check_against(config, envs.load("rbc")), tmp_path)
    found = json.loads((run.path / "evaluation.json").read_text())
    rewards = found["rewards"]
    assert len(found["seeds"]) >= 3
    assert all(beats(rewards[type_], baseline) for type_ in rewards for baseline in ("untrained", "random"))
    assert np.mean(rewards["firm"]["trained"]) >= 100_000
    assert np.mean(rewards["government"]["trained"]) >= 2_500  # welfare per period, firms' share included


def test_a_killed_run_goes_on_from_its_last_checkpoint_as_if_never_interrupted(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY.replace("iterations: 4", "iterations: 60") + "checkpoint: {every: 5}\n")

    def command(*arguments):
        return [sys.executable, "-m", "rllib_macro", "train", *arguments, "--runs", str(tmp_path)]

    subprocess.run(command(str(file), "name=whole"), cwd=ROOT, check=True, capture_output=True)
    for attempt in range(3):
        arguments = ("--resume", str(tmp_path / "killed")) if attempt else (str(file), "name=killed")
        begun = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait_for(lambda n=attempt: len(list((tmp_path / "killed" / "checkpoints").glob("iteration_*/manifest.json"))) >= 2 * n + 1)
        begun.send_signal(signal.SIGKILL)
        begun.wait()
    subprocess.run(command("--resume", str(tmp_path / "killed")), cwd=ROOT, check=True, capture_output=True)
    for type_ in ("consumer", "firm", "government"):
        whole, killed = (load_file(tmp_path / name / "policies" / f"{type_}_000060.safetensors") for name in ("whole", "killed"))
        assert all(torch.equal(whole[name], killed[name]) for name in whole)


def _wait_for(happened, seconds=120):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "the run saved nothing in two minutes"
        time.sleep(0.02)
