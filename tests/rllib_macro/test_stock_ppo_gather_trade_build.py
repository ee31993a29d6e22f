"""The introduction to training of the original program, on a current RLlib: its own PPO, five iterations, a roll-out, a breakdown."""
import numpy as np
import pytest
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.columns import Columns

from rllib_macro import gather_trade_build_log as logs
from rllib_macro import plots_gather_trade_build as pictures
from rllib_macro.env import MacroEnv
from rllib_macro.policies import policy_of

WORLD = {"economy": "gather_trade_build_original", "params": {"starting_coin": [10.0]}, "backend": "numpy"}
PERIODS = 30  # of the roll-out


@pytest.fixture(scope="module")
def trained():
    ray.init(address="local", include_dashboard=False, num_cpus=1)
    algorithm = (
        PPOConfig()
        .environment(MacroEnv, env_config=WORLD)
        .multi_agent(policies={"mobile", "planner"}, policy_mapping_fn=policy_of)
        .env_runners(num_env_runners=0)
        .training(train_batch_size_per_learner=10, minibatch_size=10, num_epochs=1)
        .build_algo()
    )
    before = algorithm.get_weights()
    yield algorithm, before, [algorithm.train() for _ in range(5)]
    algorithm.stop()
    ray.shutdown()


def act(algorithm, agent, seen):
    """What an agent's policy draws when it sees that."""
    module = algorithm.get_module(policy_of(agent))
    with torch.no_grad():
        logits = module.forward_inference({Columns.OBS: torch.from_numpy(seen)[None]})[Columns.ACTION_DIST_INPUTS]
    return module.get_inference_action_dist_cls().from_logits(logits).sample()[0].numpy()


def test_workers_and_planner_learn_without_masks(trained):
    algorithm, before, results = trained
    assert [result["env_runners"]["num_env_steps_sampled_lifetime"] for result in results] == [10, 20, 30, 40, 50]
    for type_ in ("mobile", "planner"):
        assert all(np.isfinite(result["learners"][type_]["total_loss"]) for result in results)
        assert any(not np.array_equal(weight, before[type_][name]) for name, weight in algorithm.get_weights()[type_].items())


def test_trained_policies_play_a_dense_log_that_breaks_down(trained):
    env = MacroEnv(WORLD)
    seen, _ = env.reset(seed=1)
    made = logs.Recorder(env.batch.p, env.batch.s, every=10)
    env.batch.watch = lambda before, after: made.period(after, env.batch.a, env.batch.e, env.batch.r)
    earned = dict.fromkeys(env.agents, 0.0)
    for _ in range(PERIODS):
        seen, paid, *_ = env.step({agent: act(trained[0], agent, row) for agent, row in seen.items()})
        earned = {agent: earned[agent] + reward for agent, reward in paid.items()}
    log = made.finish()
    assert len(log["actions"]) == PERIODS and any(frame[str(i)] for frame in log["actions"] for i in range(4))
    assert {"mobile_0": sum(frame["0"] for frame in log["rewards"]), "planner_0": sum(frame["p"] for frame in log["rewards"])} == (
        pytest.approx({agent: earned[agent] for agent in ("mobile_0", "planner_0")}))
    assert {*pictures.breakdown(log, sort="build_payment")} == {"maps", "time", "agents", "coins"}
