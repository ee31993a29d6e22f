"""TD3 and DDPG on RLlib's new API stack: networks, transitions, losses by hand, annealing, checkpoints, Tune."""
import copy

import gymnasium as gym
import numpy as np
import pytest
import torch
from pytest import approx
from ray import tune
from ray.rllib.env.single_agent_episode import SingleAgentEpisode

from kernels import growth
from rllib_macro.solvers import ddpg, sac, td3
from rllib_macro.solvers.learned import ray_here
from rllib_macro.td3 import MODULE, TD3, DDPGConfig, RowData, Rows, TD3Config, TD3Module, Wide, follow
from rllib_macro.vector_env import ENV

SEEN, DONE = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32), gym.spaces.Box(-1, 1, (1,), np.float32)
T1 = growth.jesusfv_corrected()


@pytest.fixture(scope="module", autouse=True)
def one_ray():
    with ray_here():
        yield


def config(cls=TD3Config, **settings):
    return (cls().environment(ENV, env_config={"economy": "growth", "params": {"periods": 5}}).debugging(seed=1, log_level="ERROR")
            .env_runners(num_envs_per_env_runner=8)
            .training(**{"hidden": (8,), "train_batch_size_per_learner": 16, "num_steps_sampled_before_learning_starts": 32} | settings))


def learner(cls=TD3Config, **settings):
    return config(cls, **settings).build_learner_group(spaces={MODULE: (SEEN, DONE)})._learner


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    return {"obs": rng.normal(size=(n, 3)).astype(np.float32), "actions": rng.uniform(-1, 1, (n, 1)).astype(np.float32),
            "rewards": rng.normal(size=n).astype(np.float32), "next_obs": rng.normal(size=(n, 3)).astype(np.float32),
            "terminated": (np.arange(n) % 2).astype(np.float32)}


def module(inference_only=False, **changes):
    return TD3Module(observation_space=SEEN, action_space=DONE, inference_only=inference_only,
                     model_config={"hidden": (8,), "twin_q": True, "seed": 0} | changes)


# -- networks

def test_a_runner_gets_the_actor_and_its_average_but_no_critic():
    of = {name.split(".")[0] for name in module().get_state(inference_only=True)}
    assert of == {"actor", "average"} and "critics" in {name.split(".")[0] for name in module().get_state()}
    assert not hasattr(module(inference_only=True), "critics")


def test_play_starts_in_the_middle_of_the_interval_and_explores_around_it():
    net, seen = module(), torch.randn(200, 3)
    assert not net.forward_inference({"obs": seen})["actions"].any()
    net.noise = 0.2
    assert net.forward_exploration({"obs": seen})["actions"].std().item() == approx(0.2, rel=0.2)


def test_ddpg_has_one_critic():
    assert len(module(twin_q=True).critics) == 2 and len(module(twin_q=False).critics) == 1
    assert (DDPGConfig().policy_delay, DDPGConfig().target_noise, DDPGConfig().twin_q) == (1, 0.0, False)


def test_slopes_are_derivatives_with_respect_to_the_first_input():
    net, x = Wide(3, (8, 8), 1).double(), torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    value, slope = net.with_slope(x)
    assert torch.equal(value, net(x))
    assert torch.allclose(slope[:, 0], torch.autograd.grad(value.sum(), x)[0][:, 0])


def test_a_target_moves_by_its_rate():
    target, main = [torch.zeros(2)], [torch.ones(2)]
    follow(target, main, 0.25)
    follow(target, main, 0.25)
    assert target[0].tolist() == approx([0.4375] * 2)


# -- transitions

def test_the_rows_of_an_episode_are_its_transitions():
    episode = SingleAgentEpisode(observations=[np.full(3, i, np.float32) for i in range(4)], actions=[np.zeros(1, np.float32)] * 3,
                                 rewards=[1.0, 2.0, 3.0], terminated=True, len_lookback_buffer=0)
    kept = Rows(10)
    assert kept.add([episode]) == 3 == len(kept)
    assert kept.columns["obs"][:3, 0].tolist() == [0, 1, 2] and kept.columns["next_obs"][:3, 0].tolist() == [1, 2, 3]
    assert kept.columns["rewards"][:3].tolist() == [1, 2, 3] and kept.columns["terminated"][:3].tolist() == [0, 0, 1]


def test_the_newest_rows_replace_the_oldest():
    def episode(value):
        return SingleAgentEpisode(observations=[np.full(3, value, np.float32)] * 3, actions=[np.zeros(1, np.float32)] * 2,
                                  rewards=[value] * 2, truncated=True, len_lookback_buffer=0)
    kept = Rows(3)
    kept.add([episode(1.0), episode(2.0)])
    assert sorted(kept.columns["rewards"].tolist()) == [1, 2, 2] and len(kept) == 3
    again = Rows(3)
    again.set_state(copy.deepcopy(kept.get_state()))
    assert again.added == 4 and np.array_equal(again.columns["rewards"], kept.columns["rewards"])


# -- learning

def test_the_target_is_the_lower_critic_and_nothing_follows_a_terminated_episode():
    own = learner(target_noise=0.0, gamma=0.9)
    for critic, value in zip(own.net.target_critics, (2.0, 3.0)):
        torch.nn.init.zeros_(critic.last.weight)
        torch.nn.init.zeros_(critic.skip.weight)
        torch.nn.init.constant_(critic.last.bias, value)
    batch = {name: torch.from_numpy(column) for name, column in rows(4).items()} | {"left": 1.0}
    assert torch.allclose(own.target(batch), batch["rewards"] + torch.tensor([1.8, 0, 1.8, 0]))


def test_a_delayed_actor_and_its_optimizer_rest_between_their_steps():
    own = learner(policy_delay=2)
    before = copy.deepcopy(own.net.state_dict())
    own.update(training_data=RowData(columns=rows(16)))
    assert all(torch.equal(before[name], value) for name, value in own.net.state_dict().items() if not name.startswith("critics"))
    assert not own.get_optimizer(MODULE, "actor").state
    own.update(training_data=RowData(columns=rows(16, 1)))
    moved = {name.split(".")[0] for name, value in own.net.state_dict().items() if not torch.equal(before[name], value)}
    assert moved == {"actor", "average", "critics", "target_actor", "target_critics"}


def test_a_frozen_actor_stays_while_its_critics_learn():
    own = learner(policy_delay=1)
    before = copy.deepcopy(own.net.state_dict())
    own.update(training_data=RowData(columns=rows(64)), frozen=True)
    changed = {name.split(".")[0] for name, value in own.net.state_dict().items() if not torch.equal(before[name], value)}
    assert changed == {"critics", "target_critics"}


def test_nothing_is_left_to_learn_when_annealing_is_over():
    own = learner()
    before = copy.deepcopy(own.net.actor.state_dict())
    own.update(training_data=RowData(columns=rows(64)), left=0.0)
    assert all(torch.equal(before[name], value) for name, value in own.net.actor.state_dict().items())


# -- the algorithm

def trained(cls=TD3Config, iterations=7, **settings):
    algorithm = config(cls, anneal_over=400, **settings).build_algo()
    for _ in range(iterations):
        algorithm.train()
    return algorithm


def weights(algorithm):
    return algorithm.learner_group._learner.net.state_dict()


@pytest.mark.parametrize("cls", [TD3Config, DDPGConfig])
def test_two_hundred_steps_with_one_seed_end_in_the_same_weights(cls):
    one, two = trained(cls), trained(cls)
    assert one.env_steps > 200 and one.local_replay_buffer.columns["rewards"][:200].std() > 0
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())
    runner = one.env_runner.module
    assert torch.equal(runner.actor.last.weight, one.learner_group._learner.net.actor.last.weight)
    assert runner.noise == approx(0.3 * (1 - one.env_steps / 400))
    one.stop(), two.stop()


def test_a_restored_algorithm_has_the_weights_that_were_saved(tmp_path):
    one = trained(iterations=3)
    one.save_to_path(tmp_path)
    two = config().build_algo()
    two.restore_from_path(tmp_path)
    assert two.env_steps == one.env_steps > 0
    assert all(torch.equal(value, weights(two)[name]) for name, value in weights(one).items())
    one.stop(), two.stop()


def test_tune_trains_it(tmp_path, monkeypatch):
    monkeypatch.delenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", raising=False)  # a sweep in the same process writes its files itself
    space = config(anneal_over=400).training(critic_lr=tune.grid_search([3e-3]))
    run = tune.RunConfig(stop={"training_iteration": 3}, storage_path=str(tmp_path), verbose=0)
    told = tune.Tuner(TD3, param_space=space, run_config=run).fit()
    assert len(told) == 1 and not told.errors and told[0].metrics["learners"][MODULE]["lr"] < 3e-3
    assert list(tmp_path.rglob("events.out.tfevents*"))


# -- as solvers of the growth model

@pytest.mark.parametrize("method", [td3, ddpg])
def test_the_solver_keeps_within_its_steps_and_tells_its_path(method):
    policy = method.solve(T1, seconds=None, steps=1500, batch=32, updates_per_step=0.1)
    k, z, d = np.array([[0.1, 0.2]]), np.array([[0, 4]]), np.ones((1, 2))
    assert policy.share(k, z, d).shape == k.shape and ((policy.share(k, z, d) > 0.01) & (policy.share(k, z, d) < 0.99)).all()
    assert 1500 <= policy.facts["env_steps"] <= 1500 + 64 * 4 and policy.facts["path"][-1][3] == policy.facts["env_steps"]
    assert policy.facts["path"][0][1] >= policy.facts["best"]


@pytest.mark.parametrize(("settings", "message"), [
    ({"start": "warm"}, "start must be one of neutral, prior"),
    ({"cold_start": "critic"}, "cold_start must be one of both, actor"),
    ({"seconds": None}, "needs a budget"),
])
def test_a_wrong_setting_is_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        td3.solve(T1, **settings)


def test_a_chain_that_cannot_be_drawn_is_refused():
    for method in (td3, sac):
        with pytest.raises(ValueError, match="sums to 1.0001"):
            method.solve(growth.jesusfv())


