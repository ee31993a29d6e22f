"""Measuring the gather-trade-build world: every number is there and finite, and the bars are told."""
import json
import math

from typer.testing import CliRunner

from rllib_macro import __main__ as cli


def test_a_quick_bench_measures_everything():
    done = CliRunner().invoke(cli.app, ["bench", "gather_trade_build", "max_orders=2", "--quick", "--replicas", "2", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    numbers = {name: value for name, value in result.items() if "per_second" in name}
    assert {"env_steps_per_second", "env_steps_per_second_10_agents", "batch_env_steps_per_second"} < set(numbers)
    assert all(math.isfinite(value) and value > 0 for value in numbers.values())
    assert set(result["bars"]) == set(result["met"]) and result["replicas"] == 2


def test_the_numbers_of_agents_are_fixed():
    done = CliRunner().invoke(cli.app, ["bench", "gather_trade_build", "n_agents=3"])
    assert done.exit_code == 2 and "leave n_agents out" in done.output
