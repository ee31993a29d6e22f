"""Measuring speed: every number is there and finite. How large it is depends on the machine and is no test's business."""
import io
import json
import math

from rich.console import Console

from rllib_macro import bench, bench_worlds

KEYS = ("ratio_sampling_vs_stock", "ratio_training_vs_stock", "ratio_training_vs_bare", "env_agent_steps_per_second",
        "native_agent_steps_per_second", "peak_rss_gb", "first_iteration_seconds")


def test_ratios_are_medians_within_repetitions_against_the_better_setting_of_stock():
    rates = {"batched_sampling": [60.0, 80.0, 100.0], "bare_sampling": [60.0, 80.0, 100.0], "stock_sampling_0": [1.0, 2.0, 2.0],
             "stock_sampling_1": [1.0, 1.0, 1.0], "batched_training": [9.0, 8.0, 10.0], "bare_training": [10.0, 10.0, 10.0],
             "stock_training_0": [1.0, 1.0, 1.0], "stock_training_1": [1.0, 2.0, 2.0], "numpy_step": [1.0, 3.0, 2.0]}
    found = bench.ratios(rates)
    assert found["ratio_sampling_vs_stock"] == 50  # of 60, 40, 50
    assert found["ratio_training_vs_stock"] == 5  # of 9, 4, 5
    assert found["ratio_training_vs_bare"] == 0.9
    assert (found["env_agent_steps_per_second"], found["native_agent_steps_per_second"]) == (2, None)


def test_minibatches_have_about_the_same_number_of_rows_for_every_type():
    policies = bench.run_config("rbc", 128, {}).policies
    assert {type_: policy.minibatches for type_, policy in policies.items()} == {"consumer": 31, "firm": 3, "government": 1}


def test_a_quick_bench_measures_everything():
    result = bench.bench("rbc", quick=True, replicas=2, params={"n_consumers": 4, "n_firms": 2})
    numbers = {name: value for name, value in result.items() if name in KEYS or name.endswith("_per_cpu_second")}
    assert set(KEYS) < set(numbers) and len(numbers) == len(KEYS) + 6
    assert set(result["bars"]) == set(result["met"]) == set(KEYS)
    if result["native_agent_steps_per_second"] is None:
        del numbers["native_agent_steps_per_second"]
    assert all(math.isfinite(value) and value > 0 for value in numbers.values())
    assert json.loads(json.dumps(result, allow_nan=False))["agents"] == {"consumer": 4, "firm": 2, "government": 1}
    out = io.StringIO()
    Console(file=out, width=120).print(bench.table(result))
    assert "ratio sampling vs stock" in out.getvalue()


def test_a_quick_bench_of_an_economy_with_books_measures_everything_and_balances():
    sizes = {"n_consumers": 60, "n_firms": 6, "n_banks": 2}
    result = bench_worlds.bench("monetary", quick=True, params=sizes)
    assert all(math.isfinite(result[name]) for name in result["bars"]) and set(result["bars"]) == set(result["met"])
    assert result["violations"] == 0
    assert json.loads(json.dumps(result, allow_nan=False))["agents"]["bank"] == 2
    out = io.StringIO()
    Console(file=out, width=120).print(bench_worlds.table(result))
    assert "audit cost" in out.getvalue()
