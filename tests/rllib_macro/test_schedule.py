"""Schedules: what an iteration decides, worked out by hand and compared with the published curricula."""

import pickle
from math import exp
from pathlib import Path

import numpy as np
import pytest
from pytest import approx

from rllib_macro.config import Exponential, Policy, from_text, load
from rllib_macro.schedule import Plan, phases, plan, trains, value

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT.parent / "shared" / "golden" / "rbc_training.npz"
golden = pytest.mark.skipif(not GOLDEN.exists(), reason="the recorded curricula (shared/golden beside the repository) are absent")


def test_a_constant_is_the_same_in_every_iteration():
    assert value(3, 0) == value(3, 999) == 3.0
    assert value((0.0, 5.0), 7) == (0.0, 5.0)


def test_points_are_joined_by_straight_lines_and_constant_outside():
    points = ((10, 1.0), (20, 3.0), (40, 0.0))
    assert [value(points, k) for k in (0, 10, 15, 20, 30, 40, 99)] == [1.0, 1.0, 2.0, 3.0, 1.5, 0.0, 0.0]
    assert value(((5, 2.0),), 0) == value(((5, 2.0),), 9) == 2.0


def test_a_window_opens_at_both_ends():
    window = ((0, (1000.0, 1000.0)), (30000, (0.0, 2500.0)))
    assert value(window, 0) == (1000.0, 1000.0)
    assert value(window, 15000) == (500.0, 1750.0)
    assert value(window, 30000) == value(window, 50000) == (0.0, 2500.0)


@pytest.mark.parametrize("end", [10, 30000, 100000])
def test_a_window_reaches_every_grid_value_exactly_in_its_iteration(end):
    price, tax = ((0, (1000.0, 1000.0)), (end, (0.0, 2500.0))), ((0, (0.0, 0.0)), (end, (0.0, 1.0)))
    assert value(price, end // 2)[0] == 500.0
    assert [np.float32(value(tax, end * n // 5)[1]) for n in range(6)] == [np.float32(n / 5) for n in range(6)]


def test_an_exponential_waits_then_decays_to_its_floor():
    entropy = Exponential(**{"exp": 10, "from": 0.5, "floor": 0.05})
    assert value(entropy, 0, start=20) == value(entropy, 20, start=20) == 0.5
    assert value(entropy, 30, start=20) == approx(0.5 * exp(-1))
    assert value(entropy, 1000, start=20) == 0.05
    assert value(entropy.model_copy(update={"start": 5}), 15, start=20) == approx(0.5 * exp(-1))


def test_an_exponential_may_rise():
    theta = Exponential(**{"exp": 10, "from": 0, "to": 1})
    assert [value(theta, k) for k in (0, 10)] == approx([0, 1 - exp(-1)])
    assert value(Exponential(**{"exp": 10, "from": 0, "to": 1, "floor": 0.2}), 1) == 0.2


def test_a_type_trains_from_its_start_and_every_so_often():
    policy = Policy(train_from=4, train_every=3)
    assert [k for k in range(13) if trains(policy, k)] == [6, 9, 12]


def test_intervals_replace_the_start():
    policy = Policy(train_from=4, train_every=3, train_during=((0, 2), (5, 7)))
    assert [k for k in range(13) if trains(policy, k)] == [0, 1, 5, 6]


def test_a_type_played_by_a_rule_never_trains():
    assert not any(trains(Policy(rule="keep", train_during=((0, 9),)), k) for k in range(9))


RUN = from_text("""
economy: rbc
params: {n_firms: 3, labor_share: [0.2, 0.4], theta_factor: [[0, 0], [10, 1]], gift: {exp: 5}}
policies:
  consumer: {lr: [[0, 1.0], [10, 0.5]], entropy: 0.1}
  firm: {train_from: 4, entropy: {exp: 2, from: 1}}
  government: {rule: fixed}
windows: {firm.price: [[4, [1, 1]], [8, [0, 5]]], firm.wage: [0, 2]}
stop: {iterations: 20}
""")


def test_a_plan_holds_all_that_an_iteration_decides():
    assert plan(RUN, 6) == Plan(
        train=["consumer", "firm"],
        params={"theta_factor": 0.6, "gift": approx(exp(-6 / 5))},
        windows={"firm.price": (0.5, 3.0), "firm.wage": (0.0, 2.0)},
        coefficients={"consumer": {"lr": 0.7, "entropy": 0.1}, "firm": {"lr": 3e-4, "entropy": approx(exp(-1))}},
    )
    assert plan(RUN, 3).train == ["consumer"]


def test_a_plan_travels_to_other_processes():
    assert pickle.loads(pickle.dumps(plan(RUN, 6))) == plan(RUN, 6)  # noqa: S301  (our own bytes)


def test_phases_tell_when_something_starts_or_ends():
    assert phases(RUN) == [
        (0, "consumer learns"),
        (0, "theta_factor moves from 0"),
        (0, "gift moves from 1 towards 0"),
        (4, "firm learns"),
        (4, "firm.price moves from [1, 1]"),
        (8, "firm.price stays at [0, 5]"),
        (10, "theta_factor stays at 1"),
    ]


def test_phases_beyond_the_run_are_left_out():
    shorter = from_text("economy: rbc\npolicies: {firm: {train_from: 9}, bank: {train_during: [[2, 5], [7, 12]]}}\nstop: {iterations: 9}")
    assert phases(shorter) == [(2, "bank learns"), (5, "bank pauses"), (7, "bank learns")]


@pytest.mark.parametrize("file", ["rbc", "rbc_2022"])
def test_the_published_stages_start_at_30000_and_60000(file):
    run = load(ROOT / "tune_configs" / f"{file}.yaml")
    assert [plan(run, k).train[-1] for k in (0, 29999, 30000, 59999, 60000)] == ["consumer", "consumer", "firm", "firm", "government"]
    assert plan(run, 60000).windows == {
        "firm.price": (0, 2500), "firm.wage": (0, 44), "government.income_tax": (0, 1), "government.corporate_tax": (0, 1)
    }  # fmt: skip
    assert plan(run, 29999).windows["government.income_tax"] == (0, 0)
    assert plan(run, 40000).coefficients["firm"]["entropy"] == approx(0.5 * exp(-1))  # 10,000 iterations after its start


@golden
def test_the_theta_curriculum_is_the_published_one():
    trace = np.load(GOLDEN, allow_pickle=False)
    for length in (10000, 30000):
        run = from_text(f"economy: rbc\nparams: {{theta_factor: {{exp: {length}, from: 0, to: 1}}}}")
        ours = [plan(run, int(k)).params["theta_factor"] for k in trace["theta/episodes"]]
        np.testing.assert_allclose(ours, trace[f"theta/factor{length}"], rtol=1e-6)


@golden
def test_the_entropy_curriculum_is_the_published_one():
    trace = np.load(GOLDEN, allow_pickle=False)
    run = load(ROOT / "tune_configs" / "rbc_2022.yaml")
    for kind, policy in run.policies.items():
        ours = [plan(run, policy.train_from + int(k)).coefficients[kind]["entropy"] for k in trace["entropy/steps"]]
        np.testing.assert_allclose(ours, 0.5 * trace["entropy/coef10000"], rtol=1e-12)
