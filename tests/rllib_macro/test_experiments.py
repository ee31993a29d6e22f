"""Experiments: a shock moves what theory says it moves, by as much, and nothing before it comes."""
import numpy as np
import pytest

from rllib_macro import evaluate, experiments
from rllib_macro.run import RunError
from tests.rllib_macro.tiny import tiny

KEPT = ("policies.firm.rule=keep", "policies.government.rule=keep")


@pytest.fixture(scope="module")
def config():
    return tiny(*KEPT, "params.tfp_persistence=0.5", "policies.consumer.rule=constant(demand=0, hours=260, employer=1)")


def test_a_productivity_shock_raises_output_in_proportion_from_the_next_quarter_on(config):
    responses = experiments.impulse(config, {}, "tfp", float(np.log(1.1)), at=1, replicas=4)
    output = responses["output"]
    assert output.mean[:2] == [0, 0]
    assert output.mean[2] == pytest.approx(0.1 * output.baseline[2], rel=1e-4)
    assert output.mean[3] == pytest.approx((1.1**0.5 - 1) * output.baseline[3], rel=1e-4)
    assert output.low[2] == pytest.approx(output.high[2])  # nothing else differs between the two worlds


def test_without_a_shock_nothing_moves():
    config = tiny(*KEPT)
    responses = experiments.impulse(config, evaluate.modules(config), "tfp", 0.0, replicas=4, seeds=[0, 1])
    assert all(value == 0 for response in responses.values() for value in response.mean)


def test_an_unknown_shock_or_period_is_named(config):
    with pytest.raises(RunError, match="this economy has no shock 'tpf'; its shocks are: tfp"):
        experiments.impulse(config, {}, "tpf", 1.0)
    with pytest.raises(RunError, match="the shock must come in period 0 to 3, got 4"):
        experiments.impulse(config, {}, "tfp", 1.0, at=4)


def test_a_corporate_tax_moves_money_from_firms_to_consumers_budgets():
    config = tiny("policies.firm.rule=constant(price=1000, wage=0)", "policies.consumer.rule=constant(demand=1, hours=1040, employer=0)")
    rows = experiments.compare(config, evaluate.modules(config), "government", [
        "constant(income_tax=0, corporate_tax=0)", "constant(income_tax=0, corporate_tax=1)"], seeds=[0, 1], replicas=2)
    assert [row["rule"].count("corporate_tax=1") for row in rows] == [0, 0, 1]
    assert rows[1]["rewards"]["firm"] > rows[2]["rewards"]["firm"]
    assert rows[2]["gain"]["firm"]["mean"] == pytest.approx(rows[2]["rewards"]["firm"] - rows[0]["rewards"]["firm"])
