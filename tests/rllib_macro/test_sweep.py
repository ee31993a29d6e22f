"""Sweeps: a mistake is one sentence before Ray starts, a trial is the run it stands for, and an interruption changes no number."""
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
import ray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from typer.testing import CliRunner

from rllib_macro import __main__ as cli
from rllib_macro import sweep, train, tuning, verbs_sweep
from rllib_macro.config import ConfigError
from rllib_macro.ranking import interval, ranked, summary
from rllib_macro.run import Run, RunError
from rllib_macro.terminal import CONFIGS
from tests.rllib_macro.tiny import TINY

HANDLER = signal.getsignal(signal.SIGINT)  # default, or ignored where tests run in the background

SWEEPS = sorted(path for path in (CONFIGS / "sweeps").glob("*.yaml") if "\nconfig: " in path.read_text())
SMALL = """
config: tiny.yaml
vary: {policies.firm.clip: [0.1, 0.2]}
metric: reward/government
"""


@pytest.fixture
def file(tmp_path):
    """A function that writes a sweep, changed by more lines of YAML, beside the run that it varies."""
    def write(*lines: str, text: str = SMALL) -> Path:
        (tmp_path / "tiny.yaml").write_text(TINY)
        given = {line.partition(":")[0] for line in lines}
        kept = [line for line in text.strip().splitlines() if line.partition(":")[0] not in given]
        (tmp_path / "small.yaml").write_text("\n".join([*kept, *lines]))
        return tmp_path / "small.yaml"

    return write


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    started = train.start_ray()
    yield
    if started:
        ray.shutdown()


# --- what a sweep is --------------------------------------------------------------------------------------------------


def test_a_grid_is_every_combination_with_every_seed(file):
    found = sweep.load(file("vary: {policies.firm.clip: [0.1, 0.2], params.n_firms: [2, 3]}", "seeds: [4, 5]"))
    values = [(run.policies["firm"].clip, run.params["n_firms"], run.seed) for run in found.runs]
    assert values == [(clip, firms, seed) for clip in (0.1, 0.2) for firms in (2, 3) for seed in (4, 5)]
    assert [point["number"] for point in found.points] == list(range(8))
    assert {run.name for run in found.runs} == {"small"}


def test_draws_are_the_same_every_time_and_more_samples_only_add_to_them(file):
    vary = "vary: {policies.firm.lr: {loguniform: [1e-5, 1e-2]}, policies.firm.gamma: {uniform: [0.9, 1]}, policies.firm.epochs: [1, 2, 5]}"
    few, many = (sweep.load(file(vary, "search: random", f"samples: {n}", "seeds: [0, 1]")) for n in (2, 50))
    assert [point["vary"] for point in few.points] == [point["vary"] for point in many.points[:4]]
    assert few.points[0]["vary"] == few.points[1]["vary"]  # each draw with every seed
    firms = [run.policies["firm"] for run in many.runs]
    assert all(1e-5 <= firm.lr <= 1e-2 and 0.9 <= firm.gamma <= 1 for firm in firms)
    assert {firm.epochs for firm in firms} == {1, 2, 5}
    assert len({firm.lr for firm in firms}) == 50
    assert sum(firm.lr < 10**-3.5 for firm in firms) == pytest.approx(50, abs=20)  # as many below as above the geometric mean


def test_one_value_may_go_to_every_type_and_to_several_keys(file):
    found = sweep.load(file("vary: {'policies.*.clip, policies.firm.value_clip': [0.1, 0.3]}", "set: {policies.*.gamma: 0.5}"))
    run = found.runs[1]
    assert [policy.clip for policy in run.policies.values()] == [0.3, 0.3, 0.3]
    assert (run.policies["firm"].value_clip, run.policies["consumer"].value_clip) == (0.3, None)
    assert [policy.gamma for policy in run.policies.values()] == [0.5, 0.5, 0.5]


def test_overrides_change_the_sweep_or_the_run_of_all_its_trials(file):
    changes = ["seeds=[7]", "vary.params.n_firms=[2]", "replicas=3", "policies.firm.lr=1e-4", "stop.iterations=5", "asha.grace=2"]
    found = sweep.load(file(), changes)
    assert (found.sweep.seeds, found.sweep.asha.grace, found.sweep.stop.iterations) == ((7,), 2, 5)
    assert {(run.replicas, run.policies["firm"].lr, run.stop.iterations, run.params["n_firms"]) for run in found.runs} == {(3, 1e-4, 5, 2)}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_sweeps_that_ship_are_sound(path):
    found = sweep.load(path)
    assert len(found.points) == len({run.model_dump_json() for run in found.runs})
    assert path.read_text().startswith("# ")


def test_the_sweep_of_2022_is_two_runs():
    found = sweep.load(CONFIGS / "sweeps" / "rbc_2022.yaml")
    assert [{policy.epochs for policy in run.policies.values()} for run in found.runs] == [{2}, {4}]
    assert {run.seed for run in found.runs} == {2345}


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (["sample: 3"], "unknown key 'sample' in the configuration; did you mean 'samples'?"),
        (["metric: reward/firm\nmetric: reward/firm"], "duplicate key 'metric' in line"),
        (["vary: {policies.firm.clp: [1]}"], "unknown key 'clp' in policies.firm; did you mean 'clip'?"),
        (["vary: {policies.frm.clip: [1]}"], "unknown key 'frm' in policies; did you mean 'firm'?"),
        (["vary: {params.n_frms: [1]}"], "unknown key 'n_frms' in params; did you mean 'n_firms'?"),
        (["set: {replica: 3}"], "unknown key 'replica' in the configuration; did you mean 'replicas'?"),
        (["vary: {params.n_firms: [3, 0]}"], "params.n_firms must be at least 1, got 0"),
        (["vary: {policies.firm.clip: 0.1}"], "vary.policies.firm.clip must be a list of values, {uniform: [low, high]} or"),
        (["vary: {policies.firm.clip: []}"], "vary.policies.firm.clip must be a list of 1 or more entries, got []"),
        (["vary: {policies.firm.clip: {unifrm: [0, 1]}}"], "unknown key 'unifrm' in vary.policies.firm.clip; did you mean 'uniform'?"),
        (["vary: {policies.firm.clip: {uniform: [1, 0]}}"], "uniform must be [low, high] with low below high, got [1, 0]"),
        (["vary: {policies.firm.clip: {loguniform: [0, 1]}}"], "loguniform[0] must be greater than 0, got 0"),
        (["vary: {policies.firm.clip: {uniform: [0.1, 1]}}"], "must be a list of values in a grid; or choose search: random"),
        (["vary: {'params.*': [1]}"], "'params.*' is no key of a run: * stands for an agent type, as in policies.*.clip"),
        (["vary: {seed: [1, 2]}"], "vary cannot have 'seed'; list the seeds under seeds: [0, 1]"),
        (["set: {seed: 1}"], "set cannot have 'seed'; list the seeds"),
        (["set: {policies.*.clip: 1}"], "'policies.firm.clip' gets two values, in vary or in set; keep one of them"),
        (["vary: {}"], "vary must be a list of 1 or more entries"),
        (["seeds: [1, 1]"], "seeds must be a list without repetitions, got [1, 1]"),
        (["search: gird"], "search must be 'grid', 'random', 'asha' or 'pbt', got \"gird\""),
        (["search: asha"], "asha.grace must be less than the 4 iterations of a trial, got 10"),
        (["search: asha", "asha: {reduction: 1}"], "asha.reduction must be greater than 1, got 1"),
        (["search: pbt", "pbt: {every: 1}", "vary: {params.crra: [1]}"], "vary.params.crra cannot be in a population"),
        (["search: pbt", "pbt: {every: 1}", "vary: {policies.firm.network.hidden: [[8]]}"], "cannot be in a population"),
        (["metric: reward/goverment"], "unknown column 'reward/goverment' in metric; did you mean 'reward/government'?"),
        (["metric: measure/outptu"], "unknown column 'measure/outptu' in metric; did you mean 'measure/output'?"),
        (["metric: evaluation/firm"], "metric evaluation/firm needs evaluations during training; set evaluation.every"),
        (["config: tinny.yaml"], "tinny.yaml (No such file or directory); give the path of a YAML file"),
        (["resources: {max_concurrent: 0}"], "resources.max_concurrent must be at least 1, got 0"),
    ],
)
def test_a_mistake_is_one_sentence_and_nothing_starts(file, tmp_path, lines, sentence):
    path = file(*lines)
    before = sorted(tmp_path.iterdir())
    result = CliRunner().invoke(cli.app, ["sweep", str(path), "--runs", str(tmp_path / "runs")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["rbc_smok"], "there is no sweep rbc_smok; did you mean rbc_smoke?"),
        (["rbc_smoke", "n_frms=3"], "unknown key 'n_frms'; did you mean 'n_firms'?"),
        (["rbc_smoke", "n_firms=0"], "params.n_firms must be at least 1, got 0"),
        (["rbc_smoke", "samples"], "an override must look like samples=4 or policies.firm.lr=1e-4"),
        (["rbc_smoke", "windows.firm.price=[100, 200]"], "leave no option; widen them"),
        (["rbc_smoke", "--resume"], "is not a sweep's folder: it has no sweep.yaml; start the sweep without --resume"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(tmp_path, arguments, sentence):
    result = CliRunner().invoke(cli.app, ["sweep", *arguments, "--runs", str(tmp_path / "runs")])
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr.splitlines()[-1]
    assert not (tmp_path / "runs").exists()


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert interval([1, 2, 3, 4, 100])[0] == 3
    assert interval([100, 1, 2, 3, 4, 5, 6, -50])[0] == pytest.approx(3.5)
    assert interval([1, 2])[0] == 1.5


def test_an_interval_needs_three_values_and_holds_the_middle():
    middle, low, high = interval([1.0, 2.0, 4.0, 3.0, 5.0])
    assert 1 <= low < middle < high <= 5
    assert interval([1.0, 2.0, 4.0, 3.0, 5.0]) == (middle, low, high)  # the resamples are the same every time
    assert np.isnan(interval([1, 2])[1:]).all()
    assert np.isnan(interval([])).all()
    assert interval([2, 2, 2]) == (2, 2, 2)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    bounds = [interval(rng.normal(size=20))[1:] for _ in range(100)]
    assert 85 <= sum(low <= 0 <= high for low, high in bounds) <= 99


def rows(*entries):
    """Trials of a made-up sweep: (clip, seed, welfare, ended)."""
    return [{"trial": f"{n:03d}", "policies.firm.clip": clip, "seed": seed, "reward/government": welfare, "reward/firm": 10 * welfare,
             "iterations": 4, "ended": ended} for n, (clip, seed, welfare, ended) in enumerate(entries)]


def test_trials_are_ranked_and_those_that_failed_come_last(file):
    found = sweep.load(file())
    made = rows((0.1, 0, 5.0, "finished"), (0.2, 0, 7.0, "stopped early"), (0.2, 1, 9.0, "failed"), (0.1, 1, np.nan, "finished"))
    assert ranked(made, found.sweep)["trial"].tolist() == ["001", "000", "003", "002"]
    smallest = found.sweep.model_copy(update={"mode": "min"})
    assert ranked(made, smallest)["trial"].tolist() == ["000", "001", "003", "002"]


def test_settings_are_compared_over_their_seeds(file):
    found = sweep.load(file())
    made = rows(*((clip, seed, 100 * clip + seed, "finished") for clip in (0.1, 0.2) for seed in range(4)), (0.2, 9, -1e9, "failed"))
    table = summary(ranked(made, found.sweep), found.sweep)
    assert table["policies.firm.clip"].tolist() == [0.2, 0.1]
    assert table["seeds"].tolist() == [4, 4]
    assert table["reward/government"].tolist() == pytest.approx([21.5, 11.5])
    assert (table["reward/government/low"] < table["reward/government"]).all()
    assert table["reward/firm/high"].to_numpy() == pytest.approx(10 * table["reward/government/high"].to_numpy())


def test_without_a_trial_the_tables_are_empty(file):
    found = sweep.load(file())
    assert len(summary(ranked([], found.sweep), found.sweep)) == 0


def test_a_member_of_a_population_keeps_its_seed_and_its_values_stay_within_bounds(file):
    found = sweep.load(file("vary: {policies.firm.gamma: {uniform: [0.9, 1]}, policies.firm.epochs: [1, 2, 3]}", "search: pbt",
                            "pbt: {every: 1}", "samples: 2", "seeds: [3, 4]"))
    weak, strong = (SimpleNamespace(config={"run": 0, "point": point}) for point in found.points[:2])
    population = tuning._scheduler(found)
    for _ in range(50):
        config, _ = population._get_new_config(weak, strong)
        assert (config["point"]["number"], config["point"]["seed"]) == (0, 3)
        assert 0.9 <= config["point"]["vary"]["policies.firm.gamma"] <= 1
        assert config["point"]["vary"]["policies.firm.epochs"] in (1, 2, 3)


# --- playing ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep of two trials, one of which cannot learn, interrupted by Ctrl-C and resumed; and what the commands printed."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "small.yaml").write_text(SMALL.replace("policies.firm.clip: [0.1, 0.2]", "policies.firm.reward_scale: [30000, 1.0e-44]"))
    options = ["sweep", str(folder / "small.yaml"), "checkpoint.every=2", "last=2", "resources.max_concurrent=1", "--runs",
               str(folder / "runs")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verbs_sweep.SweepWatch, "__call__", interrupt)
        stopped = CliRunner().invoke(cli.app, options)
    result = CliRunner().invoke(cli.app, [*options, "--resume", "--json"])
    return SimpleNamespace(path=folder / "runs" / "small", options=options, stopped=stopped, result=result, found=json.loads(result.stdout))


def interrupt(watch, point, row, ended):
    if row.get("iteration") == 3:
        os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_says_how_to_go_on(swept):
    assert (swept.stopped.exit_code, swept.stopped.stdout) == (130, "")
    sentence, again = swept.stopped.stderr.strip().split("; go on with: python -m rllib_macro ")
    assert sentence == "stopped with 2 of 2 trials unfinished"
    assert shlex.split(again) == [*swept.options, "--resume"]
    assert signal.getsignal(signal.SIGINT) == HANDLER


def test_a_trial_is_the_run_it_stands_for_also_after_an_interruption(swept, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "finish", lambda run: run)
    trial = Run.open(swept.path / "000_firm.reward_scale=30000_seed=0")
    run = train.train(trial.config, tmp_path)
    ours, theirs = trial.progress(), run.progress()
    columns = [name for name in theirs if name != "seconds" and not name.startswith("time/") and not name.endswith("/seconds")]
    pandas.testing.assert_frame_equal(ours[columns], theirs[columns])
    assert set(ours) == set(theirs)
    ours, theirs = trial.weights(), run.weights()
    assert all(ours[type_][name].equal(theirs[type_][name]) for type_ in theirs for name in theirs[type_])


def test_a_sweep_leaves_tunes_files_and_one_ranked_table(swept):
    trial = swept.path / "000_firm.reward_scale=30000_seed=0"
    names = {path.name for path in trial.iterdir()}
    assert {"params.json", "result.json", "progress.csv", "config.yaml", "checkpoint_000000", "checkpoint_000001"} <= names
    assert not list(trial.rglob("*.pkl"))
    assert Run.open(trial).checkpoints() == [4]
    table = pandas.read_csv(swept.path / "results.csv")
    assert table["ended"].tolist() == ["finished", "failed"]
    assert table["policies.firm.reward_scale"].tolist() == [30000, 1e-44]
    assert table["reward/government"][0] == pytest.approx(Run.open(trial).progress()["reward/government"].iloc[-2:].mean())
    settings = pandas.read_csv(swept.path / "summary.csv")
    assert settings["reward/government"].tolist() == table["reward/government"][:1].tolist()


def test_tensorboard_shows_every_trial_and_its_settings(swept):
    events = EventAccumulator(str(swept.path / "000_firm.reward_scale=30000_seed=0"))
    events.Reload()
    assert {"reward/firm", "reward/government", "measure/price", "measure/wage", "measure/income_tax"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("reward/firm")] == [1, 2, 3, 4]
    assert any(name.startswith("_hparams_") for name in events.summary_metadata)


def test_a_trial_that_cannot_learn_is_reported_and_the_others_go_on(swept):
    assert swept.result.exit_code == 1
    reason = swept.found["failed"]["001_firm.reward_scale=1e-44_seed=0"]
    assert reason.startswith("the loss of policy 'firm' is not finite in iteration 1; lower its lr")
    assert swept.found["trials"][0]["ended"] == "finished"
    assert swept.found["trials"][1]["iterations"] == 1


def test_a_second_sweep_into_a_folder_is_refused_and_so_are_other_settings(swept):
    before = {path: path.stat().st_mtime_ns for path in swept.path.rglob("*")}
    refused = CliRunner().invoke(cli.app, swept.options)
    assert refused.exit_code == 2
    assert "exists already; choose another name=..., or go on with it: sweep ... --resume" in refused.stderr
    refused = CliRunner().invoke(cli.app, [*swept.options, "n_firms=2", "--resume"])
    assert refused.exit_code == 2
    assert "was started with other settings" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in swept.path.rglob("*")} == before


def test_resuming_says_whom_it_trusts_and_changes_no_result_of_a_sweep_that_has_ended(swept):
    before = (swept.path / "results.csv").read_text()
    again = CliRunner().invoke(cli.app, [*swept.options, "--resume"])
    assert again.exit_code == 1
    assert tuning.TRUST in again.stderr
    assert again.stdout.splitlines()[-1] == str(swept.path / "results.csv")
    assert "failed: the loss of policy 'firm' is not finite" in again.stderr
    assert (swept.path / "results.csv").read_text() == before


def test_a_sweep_killed_before_tune_saved_anything_starts_anew(file, tmp_path, monkeypatch):
    played = []
    monkeypatch.setattr(tuning, "_fit", lambda found, path, tuner, watch: played.append(path))
    found = sweep.load(file())
    tuning.start(found, tmp_path / "runs")
    (tmp_path / "runs" / "small" / "experiment_state-2026.json").write_text('{"trial_data": [')  # cut short
    tuning.resume(found, tmp_path / "runs")
    assert len(played) == 2
    assert [path.suffix for path in (tmp_path / "runs" / "small").glob("experiment_state*")] == [".damaged"]


def test_a_trial_larger_than_the_machine_is_refused(file, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(RunError, match=r"a trial needs 1000 CPU and there are \d+; lower resources"):
        tuning.start(sweep.load(file("resources: {cpus_per_trial: 1000}")), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_sweep_over_what_cannot_be_is_an_error_from_python_too(file):
    with pytest.raises(ConfigError, match="did you mean 'clip'"):
        sweep.load(file("vary: {policies.firm.clp: [1]}"))


# --- kills ------------------------------------------------------------------------------------------------------------


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "rllib_macro", *map(str, arguments)]


def run_command(*arguments: object) -> None:
    done = subprocess.run(command(*arguments), cwd=CONFIGS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_driver_killed_half_way_and_resumed_gives_the_table_of_an_undisturbed_sweep(tmp_path):
    run_command("sweep", "rbc_smoke", "--runs", tmp_path / "undisturbed")
    driver = subprocess.Popen(command("sweep", "rbc_smoke", "--runs", tmp_path / "killed"), cwd=CONFIGS.parent)
    total = sum(run.stop.iterations for run in sweep.load(CONFIGS / "sweeps" / "rbc_smoke.yaml").runs)
    logs = tmp_path / "killed" / "rbc_smoke"
    try:
        while sum(len(log.read_text().splitlines()) for log in logs.glob("*/result.json")) < total / 2:
            assert driver.poll() is None, "the sweep ended before it could be killed"
            time.sleep(0.02)
    finally:
        driver.kill()
        driver.wait()
    assert not (logs / "results.csv").exists()
    run_command("sweep", "rbc_smoke", "--runs", tmp_path / "killed", "--resume")
    assert (logs / "results.csv").read_text() == (tmp_path / "undisturbed" / "rbc_smoke" / "results.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("search", ["asha", "pbt"])
def test_weak_trials_stop_early_or_go_on_from_strong_ones(tmp_path, file, search):
    shutil.copy(file("vary: {policies.firm.lr: {loguniform: [1e-5, 1e-2]}}", f"search: {search}", "samples: 4", "stop: {iterations: 12}",
                     "last: 2", "asha: {grace: 2, reduction: 2}", "pbt: {every: 3}"), tmp_path / f"{search}.yaml")
    found = sweep.load(tmp_path / f"{search}.yaml")
    results = tuning.start(found, tmp_path / "runs")
    assert not results.failed
    if search == "asha":
        assert {"finished", "stopped early"} == set(results.trials["ended"])
        assert (results.trials["iterations"] < 12).tolist() == (results.trials["ended"] == "stopped early").tolist()
    else:
        assert results.trials["iterations"].tolist() == [12] * 4
        rates = [Run.open(path).progress()["learn/firm/lr"].dropna().nunique() for path in sorted(results.path.glob("0*"))]
        assert max(rates) > 1  # somebody went on with another's learning rate
        assert len(results.settings) == 1
