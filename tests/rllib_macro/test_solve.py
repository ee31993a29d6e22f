"""`solve growth`: every model by every method that fits it, mistakes in one sentence, and what is written where."""
import inspect
import json

import numpy as np
import pytest

from rllib_macro import solve
from rllib_macro.solvers.policy import Policy
from tests.rllib_macro.test_cli import mistake, output, run


def test_methods_are_the_files_that_solve():
    exact = {"vfi", "egm", "perturbation", "krusell-smith", "aiyagari"}
    neural = {"euler-lm", "euler-adam", "actor-critic-lm", "neural-grid"}
    assert exact | neural | {"td3", "ddpg", "structural", "model-based", "sac", "ppo"} <= set(solve.methods())


@pytest.mark.parametrize("name", solve.methods())
def test_a_method_says_what_it_does_and_takes_settings_by_name(name):
    solver = solve.method(name)
    parameters = inspect.signature(solver).parameters
    assert solver.__doc__
    assert list(parameters)[0] == "p"
    assert all(of.kind == of.KEYWORD_ONLY for of in list(parameters.values())[1:])
    assert {"seconds", "seed"} <= set(parameters)


def test_every_model_has_methods():
    listed = json.loads(output("solve", "growth", "--list", "--json"))
    named = {"jesusfv", "jesusfv-extended", "quarterly", "hercowitz-sampson", "aldrich", "aiyagari", "krusell-smith"}
    assert named <= set(listed["models"])
    assert all(of["methods"] and of["description"] for of in listed["models"].values())
    assert "egm" not in listed["models"]["krusell-smith"]["methods"]


def test_the_published_program_is_the_default():
    found = json.loads(output("solve", "growth", "--model", "jesusfv", "--method", "vfi", "--json"))
    assert found["iterations"] == 257
    assert found["check"] == 0.14654914369569541
    assert found["log10_max_euler_error_box"] == pytest.approx(-4.24, abs=0.02)


def test_a_solution_goes_into_a_new_folder(tmp_path):
    folder = tmp_path / "quarterly"
    told = output("solve", "growth", "crra=3", "nodes=100", "--model", "quarterly", "--out", folder)
    assert told.splitlines()[-1] == str(folder)
    assert {file.name for file in folder.iterdir()} == {"solution.json", "policy.npz", "policy.png", "euler_errors.png"}
    kept = np.load(folder / "policy.npz")
    assert kept["saving"].shape == kept["capital"].shape == (201 * 5,)
    assert json.loads((folder / "solution.json").read_text())["log10_mean_euler_error_box"] < -5
    assert "exists already" in mistake("solve", "growth", "--out", folder)


@pytest.mark.parametrize(("words", "says"), [
    (["--model", "jesusfw"], "did you mean 'jesusfv'?"),
    (["--method", "eggm"], "did you mean 'egm'?"),
    (["node=100"], "did you mean 'nodes'?"),
    (["beta=1"], "params.beta must lie strictly between 0 and 1, got 1"),
    (["depreciation=[-0.1]"], "params.depreciation must lie in (0, 1]"),
    (["box_low=2"], "leave no grid between them"),
    (["transition=[1]"], "params.transition must be 5 rows of 5 probabilities"),
    (["alpha=much"], "params.alpha must be a number, got 'much'"),
    (["nodes=many"], "nodes should be a valid integer"),
    (["--method", "euler-lm", "hidden=24"], "hidden should be a list such as [1, 2], got '24'"),
    (["--method", "euler-lm", "start=half"], "start should be 'prior' or 'neutral', got 'half'"),
    (["nodes"], "a setting must look like KEY=VALUE, got 'nodes'"),
    (["--model", "krusell-smith", "--method", "egm"], "method egm does not fit model krusell-smith; choose one of"),
    (["--model", "krusell-smith", "beta=1.1"], "beta"),
    (["--method", "td3"], "row 3 of params.transition sums to 1.0001"),
    (["--method", "vfi", "--model", "quarterly", "mode=bitwise"], "use mode="),
    (["--method", "vfi", "points=3"], "points"),
    (["--against", "nothing"], "--against needs --method vfi"),
])
def test_a_mistake_is_one_sentence_with_the_fix(words, says):
    assert says in mistake("solve", "growth", *words)


def test_a_program_that_solves_something_else_is_no_opponent(tmp_path, monkeypatch):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho 42\n")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    assert "does not print the check 0.14654..., but '42'" in mistake("solve", "growth", "--method", "vfi", "--against", "program")


def test_households_are_judged_and_drawn(tmp_path):
    told = output("solve", "growth", "--model", "aiyagari", "--out", tmp_path / "aiyagari")
    assert "log10 mean euler error ergodic" in told
    assert {file.name for file in (tmp_path / "aiyagari").iterdir()} == {"solution.json", "households.png"}


def test_a_reference_that_fails_loses_nothing(monkeypatch):
    def nothing(p):
        raise ValueError("the reference policy reaches too little")
    monkeypatch.setattr("rllib_macro.solvers.egm.reference", nothing)
    found = json.loads(output("solve", "growth", "--model", "quarterly", "--json"))
    assert found["reference"] == "the reference policy reaches too little"
    assert "log10_mean_euler_error_box" in found


def test_only_growth_is_solved():
    assert "say solve growth --model MODEL" in mistake("solve", "rbc")


def test_long_paths_are_for_machines_only(monkeypatch):
    def solver(p, *, seconds=None, seed=0):
        """Saves a third."""
        return Policy(p, "egm", lambda k, z, d: 0 * k + 1 / 3, facts={"path": [[1, 2]] * 30, "steps": 7})
    monkeypatch.setattr(solve, "prepared", lambda model, method, settings: (solve.model(model), solver, {}))
    shown = run("solve", "growth", "--model", "jesusfv-corrected").stdout
    assert "steps" in shown and "path" not in shown
