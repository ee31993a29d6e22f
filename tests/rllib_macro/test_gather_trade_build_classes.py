"""Kinds of workers learn policies of their own, from the configuration to the best response."""
from pathlib import Path

import numpy as np
import pytest
import ray
from safetensors.numpy import load_file

import envs
from envs.core.batch import Batch
from rllib_macro import best_response, evaluate, rollout_log, train
from rllib_macro.config import ConfigError, check_against, load
from rllib_macro.env import MacroEnv

FILE = Path(__file__).parents[2] / "tune_configs" / "gather_trade_build_classes.yaml"
SHORT = ("replicas=3", "periods=5", "staggered=false", "params.horizon=10",
         "stop.iterations=2", "checkpoint.every=2", "evaluation.replicas=2")


def short(*overrides):
    config = load(FILE, (*SHORT, *overrides))
    return check_against(config, envs.load(config.economy))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    ray.init(address="local", include_dashboard=False, num_cpus=2)
    yield train.train(short(), tmp_path_factory.mktemp("runs"))
    ray.shutdown()


def test_both_kinds_learn_and_each_has_its_weights(trained):
    first = evaluate.modules(short())
    saved = {kind: load_file(trained.path / "policies" / f"{kind}_000002.safetensors") for kind in ("gatherer", "builder")}
    for kind, weights in saved.items():
        assert any(not np.array_equal(weights[name], x.numpy()) for name, x in first[kind].state_dict().items())
    assert any(not np.array_equal(saved["gatherer"][name], saved["builder"][name]) for name in saved["builder"])


def test_one_kind_may_look_for_a_best_response_to_the_others(trained):
    found = best_response.best_response(trained, "builder", iterations=1, seeds=2, episodes=2)
    assert found.deviator == "builder" and np.isfinite([found.gain, found.profile]).all()


def test_a_dense_log_has_a_table_for_each_kind_with_its_rows(trained):
    config = short()
    log = rollout_log.record(config, evaluate.modules(config), 2)
    tables = rollout_log.tables(log, config)
    assert {name: len(table) for name, table in tables.items()} == {
        "gatherer": 2 * 10 * 4, "builder": 2 * 10 * 2, "planner": 2 * 10, "market": 2 * 10}
    builder = tables["builder"].set_index(["replica", "period", "agent"])
    assert builder.loc[(1, 7, 0), "state/labor"] == log["state/labor"][1, 7, 4]
    assert builder.loc[(1, 7, 1), "reward"] == log["rewards/builder"][1, 7, 1]


def test_the_dict_interface_plays_what_the_batch_plays():
    economy = envs.load("gather_trade_build_classes")
    batch, env = Batch(economy, backend="numpy"), MacroEnv({"economy": economy.name, "backend": "numpy"})
    assert env.possible_agents == ["gatherer_0", "gatherer_1", "builder_0", "builder_1", "planner_0"]
    env.reset()
    for _ in range(5):
        chosen = {t: batch.random_choices(t) for t in batch.count}
        rewards, _ = batch.step(chosen)
        rows = {f"{t}_{i}": row for t in chosen for i, row in enumerate(chosen[t][0])}
        seen, paid, *_ = env.step({agent: row if agent == "planner_0" else int(row[0]) for agent, row in rows.items()})
        assert all(np.array_equal(seen[f"{t}_{i}"], row) for t in batch.count for i, row in enumerate(batch.observe(t)[0]))
        assert paid == {f"{t}_{i}": value for t in rewards for i, value in enumerate(rewards[t][0])}


def test_a_policy_of_a_kind_knows_how_many_agents_there_are():
    with pytest.raises(ConfigError, match="policies.builder.agents_per_update must be at most 2, the number of agents, got 3"):
        short("policies.builder.agents_per_update=3")
