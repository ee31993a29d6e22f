"""Best responses in a game whose answer is known: Cournot's duopoly, gains computed exactly from the policies' probabilities."""
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import envs
from rllib_macro import best_response as br
from rllib_macro import evaluate
from rllib_macro.config import check_against, from_text
from rllib_macro.env_runner import make_batch
from rllib_macro.run import Run, RunError
from rllib_macro.store import save_tree

pytestmark = pytest.mark.xdist_group("ray")

DUOPOLY = """
economy: tests.economies.cournot
name: duopoly
replicas: 256
features: raw
policies:
  home: &p
    {lr: 0.03, entropy: 0.02, epochs: 4, minibatches: 1, clip: 0.3, reward_scale: 100, gamma: 1.0, lambda: 1.0, grad_clip: null,
     network: {hidden: [8]}}
  foreign: *p
"""
GRID = np.linspace(0, 60, 201)
EQUILIBRIUM = 30.0


def planted(folder, home, foreign=EQUILIBRIUM, spread=0.3):
    """A run whose checkpoint 0 plays bell-shaped quantities around the given ones."""
    config = from_text(DUOPOLY)
    run = Run.create(check_against(config, envs.load(config.economy)), folder)
    save_tree(run.path / "checkpoints" / "iteration_000000", {})
    (run.path / "policies").mkdir()
    for type_, quantity in (("home", home), ("foreign", foreign)):
        module = evaluate.modules(run.config)[type_]
        with torch.no_grad():
            module.policy.weight.zero_()
            module.policy.bias.copy_(torch.as_tensor(-((GRID - quantity) ** 2) / (2 * spread**2)).clamp(min=-60))
        save_file(module.state_dict(), run.path / "policies" / f"{type_}_000000.safetensors")
    return run


def probabilities(run, type_, weights):
    module = evaluate.modules(run.config)[type_]
    module.load_state_dict(weights, strict=False)
    obs = torch.from_numpy(make_batch(run.config, 1).observe(type_))[0]
    with torch.no_grad():
        return torch.softmax(module.inputs(obs)[0].double(), -1).numpy()


def exact_gain(run, own, of="home", other="foreign"):
    """Expected profit of the deviation less that of the planted policy, against the other's frozen mixture."""
    p, q = (probabilities(run, t, run.weights(0)[t]) for t in (of, other))
    own = probabilities(run, of, own)
    return float(((own - p) * GRID * (90 - GRID - q @ GRID)).sum())


@pytest.fixture(scope="module")
def off_by_five_percent(tmp_path_factory):
    run = planted(tmp_path_factory.mktemp("runs"), home=1.05 * EQUILIBRIUM)
    return run, br.best_response(run, "home", iterations=120, seeds=3, episodes=512, start="fresh")


def trained_deviations(run, deviator="home"):
    return [load_file(file) for file in sorted((run.path / "best_response" / deviator / "iteration_000000").glob("*.safetensors"))]


def test_a_producer_five_percent_off_its_best_reply_is_found_with_the_right_gain(off_by_five_percent):
    run, result = off_by_five_percent
    assert result.verdict == "profitable deviation found"
    assert result.bound == "lower bound on epsilon"
    best = 1.5**2 + 0.3**2  # what a sure 30 earns more than a bell around 31.5
    exact = np.mean([exact_gain(run, own) for own in trained_deviations(run)])
    assert result.ci_low <= exact <= result.ci_high
    assert 0.7 * best <= exact <= best + 1e-9


def test_the_profile_is_evaluated_beside_the_deviation(off_by_five_percent):
    _, result = off_by_five_percent
    assert result.profile == pytest.approx(31.5 * (90 - 31.5 - 30) - 0.09, rel=2e-3)
    assert result.training_log is None
    assert not result.mismatch


def test_no_label_is_overwritten(off_by_five_percent):
    run, result = off_by_five_percent
    before = (run.path / "best_response/home/iteration_000000/result.json").read_bytes()
    with pytest.raises(RunError, match="exists already; give this analysis another --label"):
        br.best_response(run, "home", iterations=1, seeds=2)
    assert (run.path / "best_response/home/iteration_000000/result.json").read_bytes() == before
    assert json.loads(before)["gain"] == result.gain


def test_at_the_equilibrium_no_profitable_deviation_is_found(tmp_path):
    run = planted(tmp_path, home=EQUILIBRIUM, spread=0.02)
    result = br.best_response(run, "home", iterations=60, seeds=3, episodes=256, start="checkpoint")
    assert result.verdict == "no profitable deviation found"
    assert abs(result.gain) < 0.01 * 900 * 0.01


@pytest.mark.parametrize(("deviator", "sentence"), [
    ("farm", "'farm' is no type that learns in this run; choose one of home, foreign, or an agent such as home_0"),
    ("home_1", "there is no home_1: home agents are numbered 0 to 0"),
])
def test_an_unknown_deviator_is_named(tmp_path, deviator, sentence):
    with pytest.raises(RunError, match=sentence):
        br.best_response(planted(tmp_path, 30.0), deviator)


def test_a_missing_checkpoint_is_an_error_never_a_zero(tmp_path):
    with pytest.raises(RunError, match="home_000007.safetensors is missing; saved iterations are 0"):
        br.best_response(planted(tmp_path, 30.0), "home", checkpoint=7)


def test_the_interval_over_training_seeds_is_students():
    mean, low, high = br.interval([np.array([1.0, 3.0]), np.array([3.0, 5.0]), np.array([6.0])])
    assert mean == pytest.approx(4.0)
    assert (low, high) == pytest.approx((4 - 4.302653 * 2 / 3**0.5, 4 + 4.302653 * 2 / 3**0.5))
