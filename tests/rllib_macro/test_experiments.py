"""Experiments: a shock moves what theory says it moves, by as much, and nothing before it comes."""
import json
from dataclasses import fields, replace

import numpy as np
import pytest
from pytest import approx
from typer.testing import CliRunner

import envs
from envs.core import rules
from rllib_macro import __main__ as program
from rllib_macro import evaluate, experiments
from rllib_macro.run import RunError
from tests.rllib_macro.quiet import SMALL, quiet
from tests.rllib_macro.tiny import tiny

KEPT = ("policies.firm.rule=keep", "policies.government.rule=keep")
HELD = ("policies.central_bank.rule=fixed_rate(rate=0.05)", "lower_bound=-1")


@pytest.fixture(scope="module")
def config():
    return tiny(*KEPT, "params.tfp_persistence=0.5", "policies.consumer.rule=constant(demand=0, hours=260, employer=1)")


def test_a_productivity_shock_raises_output_in_proportion_from_the_next_quarter_on(config):
    output = experiments.impulse(config, {}, {"tfp": float(np.log(1.1))}, at=1, replicas=4).responses["output"]
    assert output.mean[:2] == [0, 0]
    assert output.mean[2] == approx(0.1 * output.baseline[2], rel=1e-4)
    assert output.mean[3] == approx((1.1**0.5 - 1) * output.baseline[3], rel=1e-4)
    assert output.low[2] == approx(output.high[2])  # nothing else differs between the two worlds
    assert output.unit == "own"


def test_without_a_shock_nothing_moves():
    config = tiny(*KEPT)
    found = experiments.impulse(config, evaluate.modules(config), {"tfp": 0.0}, replicas=4, seeds=[0, 1])
    assert all(value == 0 for response in found.responses.values() for value in response.mean)


def test_an_unknown_shock_or_period_is_named(config):
    with pytest.raises(RunError, match="this economy has no shock 'tpf'; its shocks are: tfp"):
        experiments.impulse(config, {}, {"tpf": 1.0})
    with pytest.raises(RunError, match="the shock must come in period 0 to 3, got 4"):
        experiments.impulse(config, {}, {"tfp": 1.0}, at=4)


def test_nothing_is_added_to_a_shock_of_whole_numbers():
    with pytest.raises(RunError, match="no shock 'lottery'"):
        experiments.impulse(quiet(), {}, {"lottery": 1.0})


def test_a_shock_to_a_rate_held_fixed_moves_it_by_as_many_points_in_each_of_its_quarters():
    found = experiments.impulse(quiet(*HELD), {}, {"policy_rate": 0.01}, at=2, quarters=3, seeds=[7], replicas=3)
    rate = found.responses["policy_rate"]
    assert rate.mean == approx([0, 0, 0, 1, 1, 1, *[0] * 6], abs=1e-9)
    assert rate.low == approx(rate.high)
    assert (rate.unit, found.first, found.pairs) == ("points", 3, 3)


def test_a_bound_within_the_episodes_does_not_reach_back_to_where_they_start():
    bound, free = (experiments.paths(quiet(), {}, 9, 3, within=within) for within in ({"upper_bound": 0.0}, None))
    assert bound["policy_rate"].max() == 0 < free["policy_rate"][:, 0].min()
    assert (bound["unemployment"][:, 0] == free["unemployment"][:, 0]).all()
    assert (bound["debt_ratio"][:, 0] == approx(free["debt_ratio"][:, 0], rel=0.05))


def test_a_level_responds_in_percent():
    config = quiet(*HELD)
    found = experiments.impulse(config, {}, {"demand": 0.05}, seeds=[7], replicas=3).responses["consumption"]
    without, shocked = (experiments.paths(config, {}, 7, 3, shocks)["consumption"] for shocks in ({}, {1: {"demand": 0.05}}))
    assert found.mean == approx((100 * (np.log(shocked) - np.log(without))).mean(0))
    assert found.baseline == approx(without.mean(0))
    assert (found.unit, found.mean[:2]) == ("percent", [0, 0])
    assert found.mean[2] > 0


def test_two_shocks_come_together_and_no_sign_is_expected_of_them():
    config, both = quiet(*HELD), {"policy_rate": 0.01, "demand": 0.05}
    found = experiments.impulse(config, {}, both, seeds=[7], replicas=2)
    demand = experiments.impulse(config, {}, {"demand": 0.05}, seeds=[7], replicas=2)
    assert found.responses["policy_rate"].mean[2] == approx(1)
    assert found.responses["consumption"].mean[2] == approx(demand.responses["consumption"].mean[2], abs=0.5)
    assert (found.signs, bool(demand.signs)) == ([], True)


@pytest.mark.parametrize(("declared", "size", "expected", "holds"), [
    (1, 0.01, "+", True), (-1, 0.01, "-", False), (1, -0.01, "-", True), (-1, -0.01, "+", False)])
def test_a_sign_holds_where_all_of_the_interval_has_it(monkeypatch, declared, size, expected, holds):
    economy = envs.load("monetary")
    signs = {"policy_rate": {"policy_rate": (declared, 0, 1)}}
    monkeypatch.setattr(economy, "study", replace(economy.study, signs=signs))
    sign, = experiments.impulse(quiet(*HELD), {}, {"policy_rate": size}, seeds=[7], replicas=3).signs
    assert (sign.expected, sign.quarters, sign.holds) == (expected, (0, 1), holds)
    assert sign.value == approx(100 * size / 2)  # one of its two quarters


@pytest.mark.parametrize("name", envs.names())
def test_what_an_economy_says_of_its_study_exists(name):
    economy = envs.load(name)
    study = economy.study
    shocks = {field.name for field in fields(economy.kernel.Shocks)}
    assert set(study.scales) <= set(economy.measures)
    assert set(study.scales.values()) <= {"percent", "points"}
    assert set(study.signs) <= shocks
    assert {measure for signs in study.signs.values() for measure in signs} <= set(economy.measures)
    for type_, searches in study.searches.items():
        for of in searches.values():
            assert rules.parse(f"{of.rule}({', '.join(f'{name}={low}' for name, (low, _) in of.bounds.items())})", economy, type_)
            for start in of.starts:
                assert all(low <= start[name] <= high for name, (low, high) in of.bounds.items())
    for type_, against in study.bars.items():
        assert all(rule in study.searches.get(type_, {}) or rules.parse(rule, economy, type_) for rule in against)
    for type_, (instrument, inputs) in study.readouts.items():
        assert type_ in economy.agents
        assert {instrument, *inputs} <= set(economy.measures)


def test_the_verb_says_what_moved_and_which_signs_hold():
    told = CliRunner().invoke(program.app, ["impulse", "monetary", *SMALL, "--shock", "policy_rate=+0.01", "--pairs", "4", "--json"])
    found = json.loads(told.stdout)
    assert found["policy_rate"].keys() == {"mean", "low", "high", "baseline", "unit"}
    assert {sign["measure"] for sign in found["signs"]} == {"output", "investment", "inflation_4q", "real_credit", "unemployment"}
    assert found["signs"][0]["quarters"] == [4, 9]  # the episode ends before the twelfth quarter after the shock
    shown = CliRunner().invoke(program.app, ["impulse", "monetary", *SMALL, "--shock", "tfp", "--size", "-0.01", "--replicas", "2"])
    assert "Responses to -0.01 of tfp in period 1, 2 pairs" in shown.stdout
    assert "hold" in shown.stdout


def test_a_mistaken_param_within_is_one_sentence():
    for text, sentence in (("lower_bond=-1", "error: unknown param 'lower_bond' of this economy; did you mean 'lower_bound'?"),
                           ("lower_bound", "error: --within must look like lower_bound=-1, got 'lower_bound'")):
        told = CliRunner().invoke(program.app, ["impulse", "monetary", *SMALL, "--shock", "tfp", "--within", text])
        assert (told.exit_code, told.stderr.strip()) == (2, sentence)


def test_a_corporate_tax_moves_money_from_firms_to_consumers_budgets():
    config = tiny("policies.firm.rule=constant(price=1000, wage=0)", "policies.consumer.rule=constant(demand=1, hours=1040, employer=0)")
    rows = experiments.compare(config, evaluate.modules(config), "government", [
        "constant(income_tax=0, corporate_tax=0)", "constant(income_tax=0, corporate_tax=1)"], seeds=[0, 1], replicas=2)
    assert [row["rule"].count("corporate_tax=1") for row in rows] == [0, 0, 1]
    assert rows[1]["rewards"]["firm"] > rows[2]["rewards"]["firm"]
    assert rows[2]["gain"]["firm"]["mean"] == approx(rows[2]["rewards"]["firm"] - rows[0]["rewards"]["firm"])
