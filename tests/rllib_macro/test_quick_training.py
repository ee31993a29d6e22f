"""What `make train` promises, for three seeds of one setting."""
import json
from pathlib import Path

import numpy as np
import pytest

import envs
from rllib_macro import train
from rllib_macro.config import check_against, load
from rllib_macro.evaluate import beats

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
