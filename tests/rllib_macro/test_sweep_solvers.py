"""Sweeps over solvers: a trial is the solution that `solve` finds, TensorBoard shows its way there, and one table ranks them all."""
import json
import os
import shlex
import signal
from types import SimpleNamespace

import pandas
import pytest
import ray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from rllib_macro import __main__ as cli
from rllib_macro import solve, sweep, sweep_solvers, train, verbs_sweep
from rllib_macro.terminal import CONFIGS

SMALL = """
solve: {model: jesusfv-corrected}
vary: {solver: [{method: td3, steps: 200}, {method: euler-lm, steps: 2}]}
seeds: [0, 1]
"""
METRIC = "log10_mean_euler_error_box"


@pytest.fixture
def file(tmp_path):
    """A function that writes a sweep, some of its lines replaced."""
    def write(*lines: str):
        given = {line.partition(":")[0] for line in lines}
        kept = [line for line in SMALL.strip().splitlines() if line.partition(":")[0] not in given]
        (tmp_path / "small.yaml").write_text("\n".join([*kept, *lines]))
        return tmp_path / "small.yaml"

    return write


# --- what a sweep is --------------------------------------------------------------------------------------------------


def test_settings_may_come_alone_or_several_at_once(file):
    found = sweep_solvers.load(file("vary: {solver: [{method: td3, steps: 9}, {method: ppo}], beta: [0.9, 0.95]}"))
    assert [point["vary"] for point in found.points[::2]] == [
        {"beta": beta, "method": "td3", "steps": 9} if method == "td3" else {"beta": beta, "method": method}
        for method in ("td3", "ppo") for beta in (0.9, 0.95)]
    assert [point["seed"] for point in found.points] == [0, 1] * 4
    assert found.sweep.columns() == ["method", "steps", "beta"]
    p, _, chosen = sweep_solvers.prepared(found.sweep, found.points[1]["vary"], 1)
    assert (p.beta, chosen) == (0.9, {"steps": 9, "seed": 1})


def test_overrides_change_the_sweep_or_what_all_trials_do(file):
    found = sweep_solvers.load(file("vary: {method: [td3, structural]}"), ["seeds=[7]", "steps=30", "actor_lr=1e-5"])
    assert found.sweep.seeds == (7,)
    for point in found.points:
        assert sweep_solvers.prepared(found.sweep, point["vary"], 7)[2] == {"steps": 30, "actor_lr": 1e-5, "seed": 7}


def test_draws_are_settings_too(file):
    found = sweep_solvers.load(file("vary: {actor_lr: {loguniform: [1.0e-5, 1.0e-2]}}", "search: random", "samples: 3",
                                    "solve: {model: jesusfv-corrected, method: td3}"))
    rates = {point["vary"]["actor_lr"] for point in found.points}
    assert len(rates) == 3 and all(1e-5 <= rate <= 1e-2 for rate in rates)


def test_the_sweep_that_ships_compares_learners():
    found = sweep_solvers.load(CONFIGS / "sweeps" / "growth_learners.yaml")
    assert {(point["vary"]["method"], point["vary"]["steps"], point["seed"]) for point in found.points} == {
        (method, steps, seed) for seed in range(3)
        for method, steps in (("td3", 20000), ("sac", 20000), ("structural", 20000), ("ppo", 130000))}
    assert (found.sweep.metric, found.sweep.mode) == (METRIC, "min")


def test_the_schema_knows_both_kinds_of_sweeps():
    kinds = {kind["title"]: kind for kind in sweep.schema()["anyOf"]}
    assert set(kinds["SolverSweep"]["required"]) == {"solve", "vary"}
    assert set(kinds["Sweep"]["required"]) == {"config", "vary", "metric"}
    assert all(kind["additionalProperties"] is False for kind in kinds.values())


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["sed: [1]"], "unknown key 'sed' in the configuration; did you mean 'seeds'?"),
        (["solve: {modl: jesusfv}"], "unknown key 'modl' in solve; did you mean 'model'?"),
        (["solve: {model: jesusf}"], "unknown model 'jesusf' of solve; did you mean 'jesusfv'?"),
        (["solve: {model: krusell-smith}"], "solve.model krusell-smith has no Euler errors to compare solvers by; choose one of"),
        (["vary: {method: [td]}"], "unknown method 'td' of solve; did you mean 'td3'?"),
        (["vary: {method: [aiyagari]}"], "method aiyagari does not fit model jesusfv-corrected; choose one of"),
        (["vary: {beta: [0.9]}"], "every trial needs a method; say it under solve, in vary or in every entry of vary.solver"),
        (["vary: {solver: [{method: td3}, {steps: 3}]}"], "every trial needs a method"),
        (["vary: {solver: [td3]}"], 'vary.solver must be a list of settings such as {method: td3, steps: 20000}, got ["td3"]'),
        (["set: {stpes: 3}"], "unknown setting 'stpes' of td3; did you mean 'steps'?"),
        (["set: {steps: 3}"], "'steps' gets two values, in vary.solver and in set; keep one of them"),
        (["set: {seed: 3}"], "set cannot have 'seed'; list the seeds under seeds: [0, 1]"),
        (["set: {seconds: some}"], "seconds should be a valid number"),
        (["set: {seconds: -1}"], "seconds of td3 must be greater than 0, got -1"),
        (["set: {seconds: null}", "vary: {method: [td3]}"], "td3 needs a budget; give seconds, steps or both"),
        (["set: {beta: 1.0}"], "beta"),
        (["metric: log10_mean_euler_error_bx"], "unknown number 'log10_mean_euler_error_bx' in metric; did you mean"),
        (["metric: legacy_euler", "solve: {model: jesusfv}", "vary: {method: [egm]}"],
         "metric legacy_euler needs a chain, which jesusfv has not"),
        (["vary: {method: [td3], gamma: {uniform: [0, 1]}}"], "vary.gamma must be a list of values in a grid; or choose search: random"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_starts(file, tmp_path, lines, sentence):
    result = CliRunner().invoke(cli.app, ["sweep", str(file(*lines)), "--runs", str(tmp_path / "runs")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


# --- playing ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    started = train.start_ray()
    yield
    if started:
        ray.shutdown()


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep over two methods, and one that refuses its start; and what the command printed."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "small.yaml").write_text(SMALL.replace("steps: 2}]", "steps: 2}, {method: sac, start: prior}]"))
    options = ["sweep", str(folder / "small.yaml"), "resources.max_concurrent=1", "--runs", str(folder / "runs")]
    result = CliRunner().invoke(cli.app, [*options, "--json"])
    return SimpleNamespace(path=folder / "runs" / "small", options=options, result=result)


def test_one_table_ranks_the_solutions_and_they_are_those_of_solve(swept):
    table = pandas.read_csv(swept.path / "results.csv")
    assert table["method"].tolist()[:4] == ["euler-lm", "euler-lm", "td3", "td3"]
    assert set(table["ended"]) == {"finished"}
    settings = pandas.read_csv(swept.path / "summary.csv")
    assert settings[["method", "steps", "seeds"]].values.tolist() == [["euler-lm", 2, 2], ["td3", 200, 2]]
    p, solver, chosen = solve.prepared("jesusfv-corrected", "euler-lm", ["steps=2", "seed=1"])
    wanted = solve.judged(solver(p, **chosen))
    found = table[(table["method"] == "euler-lm") & (table["seed"] == 1)].iloc[0]
    assert found[METRIC] == pytest.approx(wanted[METRIC], abs=1e-9)
    assert found["policy_distance_mean"] == pytest.approx(wanted["policy_distance_mean"])


def test_tensorboard_shows_the_way_of_every_solution(swept):
    events = EventAccumulator(str(swept.path / "000_method=td3_steps=200_seed=0"))
    events.Reload()
    assert {"cpu_seconds", METRIC, "policy_distance_mean", "env_steps", "log10_mean_euler_error_ergodic"} <= set(events.Tags()["scalars"])
    assert [event.value for event in events.Scalars("env_steps")] == [0, 256, 256]
    assert [event.step for event in events.Scalars(METRIC)] == [1, 2, 3]
    assert any(name.startswith("_hparams_") for name in events.summary_metadata)


def test_a_solver_that_refuses_is_reported_and_the_others_go_on(swept):
    assert swept.result.exit_code == 1
    failed = json.loads(swept.result.stdout)["failed"]
    assert sorted(failed) == [f"{4 + seed:03d}_method=sac_start=prior_seed={seed}" for seed in (0, 1)]
    assert all(reason.startswith("sac is RLlib's own and starts from its own first weights") for reason in failed.values())


def test_a_folder_is_never_overwritten_and_other_settings_are_refused(swept):
    before = {path: path.stat().st_mtime_ns for path in swept.path.rglob("*")}
    for more, sentence in (([], "exists already; choose another name=..."), (["seeds=[3]", "--resume"], "was started with other settings")):
        refused = CliRunner().invoke(cli.app, [*swept.options, *more])
        assert refused.exit_code == 2
        assert sentence in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in swept.path.rglob("*")} == before


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_with_what_has_not_ended(file, tmp_path, monkeypatch):
    options = ["sweep", str(file("vary: {solver: [{method: euler-lm, steps: 2}, {method: euler-lm, steps: 3}]}")),
               "resources.max_concurrent=1", "--runs", str(tmp_path / "runs")]
    with monkeypatch.context() as patch:
        patch.setattr(verbs_sweep.SweepWatch, "__call__", lambda watch, point, row, ended: ended and os.kill(os.getpid(), signal.SIGINT))
        stopped = CliRunner().invoke(cli.app, options)
    assert stopped.exit_code == 130
    left, again = stopped.stderr.strip().split(" of 4 trials unfinished; go on with: python -m rllib_macro ")
    assert left in ("stopped with 2", "stopped with 3") and shlex.split(again) == [*options, "--resume"]
    ended = {log: log.read_text() for log in tmp_path.glob("runs/small/000_*/result.json")}
    assert ended
    result = CliRunner().invoke(cli.app, [*options, "--resume"])
    assert result.exit_code == 0, result.stderr
    assert len(pandas.read_csv(tmp_path / "runs" / "small" / "results.csv")) == 4
    assert all(log.read_text() == text for log, text in ended.items())
