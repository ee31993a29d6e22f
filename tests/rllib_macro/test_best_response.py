"""Best responses in a game whose answer is known: Cournot's duopoly, gains computed exactly from the policies' probabilities."""
import json

import numpy as np
import pytest
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rllib_macro import best_response as br
from rllib_macro.run import Progress, RunError
from rllib_macro.self_check import EQUILIBRIUM, _probabilities, coverage, exact_gain, grid, plant
from tests.rllib_macro.tiny import tiny


@pytest.fixture(scope="module")
def off_by_five_percent(tmp_path_factory):
    run = plant(tmp_path_factory.mktemp("runs"), home=1.05 * EQUILIBRIUM)
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


def test_a_deviator_learns_in_the_world_in_which_it_is_measured():
    config = tiny("evaluation.params={theta_factor: 0.5}")
    assert br.deviating(config, "firm", None, 0, 1, None).params["theta_factor"] == 0.5
    assert br.deviating(tiny(), "firm", None, 0, 1, None).params["theta_factor"] == 0.0


def test_no_label_is_overwritten(off_by_five_percent):
    run, result = off_by_five_percent
    before = (run.path / "best_response/home/iteration_000000/result.json").read_bytes()
    with pytest.raises(RunError, match="exists already; give this analysis another --label"):
        br.best_response(run, "home", iterations=1, seeds=2)
    assert (run.path / "best_response/home/iteration_000000/result.json").read_bytes() == before
    assert json.loads(before)["gain"] == result.gain


def test_at_the_equilibrium_no_profitable_deviation_is_found(tmp_path):
    run = plant(tmp_path, home=EQUILIBRIUM, spread=0.02)
    result = br.best_response(run, "home", iterations=60, seeds=3, episodes=256, start="checkpoint")
    assert result.verdict == "no profitable deviation found"
    assert abs(result.gain) < 0.01 * 900 * 0.01


@pytest.mark.parametrize(("deviator", "sentence"), [
    ("farm", "'farm' is no type that learns in this run; choose one of home, foreign, or an agent such as home_0"),
    ("home_1", "there is no home_1: home agents are numbered 0 to 0"),
])
def test_an_unknown_deviator_is_named(tmp_path, deviator, sentence):
    with pytest.raises(RunError, match=sentence):
        br.best_response(plant(tmp_path, 30.0), deviator)


def test_a_missing_checkpoint_is_an_error_never_a_zero(tmp_path):
    with pytest.raises(RunError, match="home_000007.safetensors is missing; saved iterations are 0"):
        br.best_response(plant(tmp_path, 30.0), "home", checkpoint=7)


def test_the_interval_over_training_seeds_is_students():
    mean, low, high = br.interval([np.array([1.0, 3.0]), np.array([3.0, 5.0]), np.array([6.0])])
    assert mean == pytest.approx(4.0)
    assert (low, high) == pytest.approx((4 - 4.302653 * 2 / 3**0.5, 4 + 4.302653 * 2 / 3**0.5))


def test_tensorboard_shows_epsilon_at_the_checkpoints_step(off_by_five_percent):
    run, result = off_by_five_percent
    events = EventAccumulator(str(run.path)).Reload()
    assert set(events.Tags()["scalars"]) == {"epsilon/home", "epsilon/home/ci_low", "epsilon/home/ci_high"}
    shown = {name: [(event.step, event.value) for event in events.Scalars(name)] for name in events.Tags()["scalars"]}
    assert shown["epsilon/home"] == [(0, pytest.approx(result.gain))]
    assert shown["epsilon/home/ci_low"] == [(0, pytest.approx(result.ci_low))]


def test_epsilon_of_an_earlier_checkpoint_hides_no_iteration(tmp_path):
    run = plant(tmp_path, home=EQUILIBRIUM)
    progress = Progress(run.path)
    for k in range(1, 6):
        progress.write({"iteration": k, "reward/home": 10.0 * k})
    progress.close()
    br.show(run, br.Result("home", 2, 1.0, None, False, 0.5, 0.25, float("nan"), None, [0.5], 64, 10, ""))
    events = EventAccumulator(str(run.path)).Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/home")] == [(k, 10.0 * k) for k in range(1, 6)]
    assert [(event.step, event.value) for event in events.Scalars("epsilon/home")] == [(2, 0.5)]
    assert "epsilon/home/ci_high" not in events.Tags()["scalars"]


def test_what_everybody_earns_before_and_after_is_kept(off_by_five_percent):
    run, result = off_by_five_percent
    assert result.rewards["home"] == pytest.approx([result.profile, result.profile + result.gain])
    assert np.mean(result.profiles) == pytest.approx(result.profile)
    home = [float(_probabilities(run, "home", own) @ grid()) for own in trained_deviations(run)]
    less = np.mean(home) - 31.5  # the other producer sells 30 and loses as much of its price as the deviator sells more
    assert result.rewards["foreign"][1] - result.rewards["foreign"][0] == pytest.approx(-30 * less, rel=0.02)
    (folder, read), = run.best_responses()
    assert folder.name == "iteration_000000" and read["rewards"] == result.rewards


def test_a_damaged_result_is_named(tmp_path):
    run = plant(tmp_path, EQUILIBRIUM)
    folder = run.path / "best_response" / "home" / "x"
    folder.mkdir(parents=True)
    for text in ("{", "[]", '{"deviator": "home", "checkpoint": 0, "profile": 1, "gain": null, "ci_low": 0, "ci_high": 1}'):
        (folder / "result.json").write_text(text)
        with pytest.raises(RunError, match="result.json is damaged .*; remove its folder"):
            run.best_responses()


@pytest.mark.slow
def test_intervals_cover_the_exact_gain_and_planted_deviations_are_found():
    found = coverage()
    assert found.repetitions == 200
    assert found.covered >= 0.9
    assert found.found >= 0.9
    assert found.left_in_peace >= 0.9
