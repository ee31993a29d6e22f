"""Recorded episodes of the gather-trade-build world are repeated exactly, and damaged ones are one sentence."""
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from rllib_macro import __main__ as cli
from rllib_macro.replay import TraceError, replay
from tests.worlds import BACKENDS, golden

TRACES = ("crowd8x8_s12", "full_obs_s21", "multi_action_s20", "onestep_s33_e0", "phase1_multi_ep_s6_e0", "phase1_multi_ep_s6_e1",
          "tax_saez_s16_e0", "tax_usfed_s13", "tutorial_masked_s1", "tutorial_scripted_s4", "uniform_s28", "wealth_redist_s19")
OBSERVED = {"o/a/flat", "o/a/action_mask", "o/p/flat", "o/p/p_i", "o/p/action_mask", "o/a/time", "rew", "s/inv", "s/labor"}
ON_A_MAP = {"o/a/world-map", "o/a/world-idx_map", "s/loc", "s/map_Stone", "s/map_Wood", "s/house_owner", "s/price_history", "book/rows",
            "ev/trade", "ev/build", "ev/gather", "ev/tax"}


def trace(name):
    return golden(f"gtb_{name}.npz")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", TRACES)
def test_a_recorded_episode_is_repeated(name, backend):
    report = replay(trace(name), (backend,))
    assert report.format == "gather-trade-build episode"
    assert report.ok, [(row.quantity, row.deviation, row.step) for row in report.failures]
    compared = {row.quantity for row in report.deviations}
    assert OBSERVED | (ON_A_MAP if name != "onestep_s33_e0" else set()) <= compared
    exact = {row.quantity for row in report.deviations if row.atol == 0}
    assert all(row.atol <= 1e-9 for row in report.deviations)
    assert "saez" in name or compared - exact == {"rew", "s/opt_metric", "s/energy_weight"} & compared
    assert {key for key in compared if key.startswith(("o/", "book/", "ev/trade", "s/loc"))} <= exact


# -- traces from anybody

@pytest.fixture
def copied(tmp_path):
    """A short recorded episode, and a function that changes it: (path, arrays, told) -> path."""
    source = trace("onestep_s33_e0")

    def change(arrays=None, told=None):
        file = tmp_path / "trace.npz"
        np.savez(file, **{**np.load(source), **(arrays or {})})
        kept = json.loads(source.with_suffix(".json").read_text())
        file.with_suffix(".json").write_text(json.dumps({**kept, **(told or {})}))
        return file
    return change


def config(**changes):
    """The configuration with some keys changed."""
    told = json.loads(trace("onestep_s33_e0").with_suffix(".json").read_text())["config"]
    return {"config": {key: value for key, value in {**told, **changes}.items() if value is not None}}


def test_a_deviation_is_found(copied):
    recorded = np.load(trace("onestep_s33_e0"))["rew"]
    recorded[1, 3] += 1e-6
    found = replay(copied({"rew": recorded}), ("numpy",))
    assert [row.quantity for row in found.failures] == ["rew"] and found.failures[0].step == 1


@pytest.mark.parametrize(("arrays", "told", "sentence"), [
    ({"rew": np.zeros((2, 4))}, {}, r"rew must hold finite numbers in shape \(2, 21\)"),
    ({"s/inv": np.full((3, 20, 3), np.nan)}, {}, "s/inv must hold finite numbers"),
    ({"act/agents": np.full((2, 20), -1)}, {}, "actions must not be negative"),
    ({"act/planner": np.zeros((2, 1), np.int16)}, {}, r"act/planner must hold finite numbers in shape \(2, 7\)"),
    ({}, {"config": 3}, "must be an object with the episode's `config`"),
    ({}, {"pre": 3}, "`pre` must say how the replica was"),
    ({}, dict(scenario_name="chess"), "scenario_name must begin with one of"),
    ({}, dict(n_agents=10**9), "n_agents must lie between 0 and 1000000"),
    ({}, dict(n_agents="many"), "invalid literal"),
    ({}, dict(taxes=1), "has the unknown key 'taxes'"),
    ({}, dict(components=[["Fish", {}]]), "unknown component 'Fish'"),
    ({}, dict(components=[["SimpleLabor", {"pareto": 1}]]), "has the unknown key 'pareto'"),
    ({}, dict(components=[["PeriodicBracketTax", {"tax_model": "flat"}]]), "tax_model cannot be 'flat'"),
    ({}, dict(components=3), "components must be a list"),
])
def test_a_damaged_trace_is_one_sentence(copied, arrays, told, sentence):
    told = told if set(told) <= {"config", "pre"} else config(**told)
    with pytest.raises(TraceError, match=sentence) as caught:
        replay(copied(arrays, told), ("numpy",))
    assert "\n" not in str(caught.value)


def test_a_trace_without_its_configuration_says_so(tmp_path):
    shutil.copy(trace("onestep_s33_e0"), tmp_path / "alone.npz")
    with pytest.raises(TraceError, match="needs its configuration in alone.json beside it"):
        replay(tmp_path / "alone.npz", ("numpy",))


def test_the_command_repeats_an_episode():
    done = CliRunner().invoke(cli.app, ["replay", str(trace("onestep_s33_e0")), "--backend", "numpy"])
    assert done.exit_code == 0, done.output
    assert "gather-trade-build episode" in done.output and "within tolerance" in done.output
