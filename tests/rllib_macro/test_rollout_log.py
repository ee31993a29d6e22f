"""Dense logs as tables, and how much room they take: the tables hold what the arrays hold, and a full disk is said beforehand."""
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from pytest import approx
from typer.testing import CliRunner

from rllib_macro import __main__ as cli
from rllib_macro import evaluate, rollout_log, train
from rllib_macro.run import RunError
from tests.rllib_macro.published import untrained_run
from tests.rllib_macro.tiny import tiny


@pytest.fixture(scope="module")
def config():
    return tiny("policies.government.rule=fixed(income_tax=0.4)")


@pytest.fixture(scope="module")
def log(config):
    return rollout_log.record(config, evaluate.modules(config), 3)


@pytest.fixture
def free(monkeypatch):
    """A function that leaves so many bytes free on every disk."""
    return lambda left: monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=left))


def test_a_row_of_a_table_is_what_one_agent_did_in_one_period(config, log, tmp_path):
    files = {file.stem: pandas.read_parquet(file) for file in rollout_log.save_tables(log, tmp_path, 4, config)}
    assert {name: len(table) for name, table in files.items()} == {
        "episode_000004_consumer": 3 * 4 * 6, "episode_000004_firm": 3 * 4 * 3, "episode_000004_government": 3 * 4,
        "episode_000004_market": 3 * 4}
    consumer = files["episode_000004_consumer"].set_index(["replica", "period", "agent"]).loc[(2, 1, 5)]
    assert consumer["reward"] == log["rewards/consumer"][2, 1, 5]
    assert consumer["state/budget"] == log["state/budget"][2, 1, 5]
    assert consumer["action/demand[1]"] == log["action/demand"][2, 1, 5, 1]
    assert consumer["chosen/demand[2]"] == log["chosen/consumer"][2, 1, 5, 2]
    assert consumer["chosen/employer"] == log["chosen/consumer"][2, 1, 5, 4]
    assert consumer["obs/own theta"] == log["obs/consumer"][2, 1, 5, -1]
    market = files["episode_000004_market"].set_index(["replica", "period"]).loc[(1, 3)]
    assert market["measure/output"] == log["measure/output"][1, 3]
    assert market["action/income_tax"] == approx(0.4)


def test_every_number_of_a_log_is_in_one_of_its_tables(config, log):
    tables = rollout_log.tables(log, config)
    numbers = sum(table.drop(columns=["replica", "period", "agent"], errors="ignore").size for table in tables.values())
    assert numbers == sum(array.size for array in log.values())


def test_a_scripted_type_has_rewards_but_no_observations(config, log):
    columns = list(rollout_log.tables(log, config)["government"])
    assert columns == ["replica", "period", "agent", "reward"]


@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("replicas", [2, 100])
def test_the_forecast_is_the_size_of_the_files(config, tmp_path, replicas, parquet):
    found = rollout_log.record(config, evaluate.modules(config), replicas)
    files = rollout_log.save(found, tmp_path, 0, list(config.policies))
    files += rollout_log.save_tables(found, tmp_path, 0, config) if parquet else []
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    assert rollout_log.forecast(config, replicas, parquet=parquet) == approx(megabytes, rel=0.2)
    assert rollout_log.forecast(config, replicas, 7, parquet) == approx(7 * rollout_log.forecast(config, replicas, 1, parquet))


@pytest.mark.parametrize(("every", "done", "count"), [(0, 0, 1), (4, 0, 3), (5, 0, 2), (3, 0, 4), (4, 5, 2), (20, 0, 1), (4, 10, 1)])
def test_a_run_of_ten_iterations_logs_when_it_is_due_and_at_its_end(every, done, count):
    due = {k for k in range(done + 1, 11) if every and k % every == 0} | {10}
    assert rollout_log.episodes(tiny("stop.iterations=10", f"log.episode_every={every}"), done) == len(due) == count


def test_logs_that_do_not_fit_are_refused_before_anything_is_written(free, tmp_path):
    free(5000)
    with pytest.raises(RunError, match=r"the dense logs would take about 0 MB and .* has 0 MB left; log fewer replicas or less often"):
        train.train(tiny("log.episode_every=1"), tmp_path / "runs")
    assert not list(tmp_path.iterdir())


def test_logs_that_fit_are_not_refused(free, tmp_path):
    free(10**6)
    rollout_log.require_room(0.999, tmp_path / "not" / "yet")
    with pytest.raises(RunError):
        rollout_log.require_room(1.001, tmp_path / "not" / "yet")


def test_a_rollout_says_its_size_and_keeps_tables_on_request(tmp_path, free):
    run = untrained_run(tmp_path)
    plain = CliRunner().invoke(cli.app, ["rollout", str(run.path), "--parquet", "--seed", "2"])
    assert plain.stdout.startswith("The log will take about 0.2 MB.\n")
    found = json.loads(CliRunner().invoke(cli.app, ["rollout", str(run.path), "--parquet", "--replicas", "2", "--json"]).stdout)
    tables = [name for name in found["files"] if name.endswith(".parquet")]
    assert len(tables) == 4
    firm = pandas.read_parquet(next(name for name in tables if "firm" in name))
    assert np.mean(firm["reward"]) == approx(found["rewards"]["firm"], rel=1e-5)
    assert 0 < found["forecast_mb"] < 1
    free(1000)
    refused = CliRunner().invoke(cli.app, ["rollout", str(run.path), "--seed", "9"])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "the dense logs would take about" in refused.stderr
    assert not (run.path / "episodes" / "seed_9").exists()


def test_a_training_that_logs_episodes_says_their_size_first(tmp_path, monkeypatch):
    file = tmp_path / "small.yaml"
    file.write_text("economy: rbc\nreplicas: 2\nparams: {n_consumers: 4, n_firms: 2, horizon: 3}\nstop: {iterations: 500}\n")
    monkeypatch.setattr(train, "train", lambda config, root, watch: (_ for _ in ()).throw(RunError("begun")))
    quiet, told = (CliRunner().invoke(cli.app, ["train", str(file), f"log.episode_every={every}", "--runs", str(tmp_path / "runs")])
                   for every in (0, 1))
    assert quiet.stderr == "error: begun\n"
    assert told.stderr.startswith("the dense logs will take about ") and told.stderr.endswith(" MB\nerror: begun\n")
