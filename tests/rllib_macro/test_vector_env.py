"""Lanes of an economy behind Gymnasium's interfaces are the replicas of a Batch."""
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs.core.batch import Batch, with_values
from rllib_macro.vector_env import LaneEnv, MacroVectorEnv, make

LANES, PERIODS = 6, 4
GROWTH = {"economy": "growth", "num_envs": LANES, "params": {"periods": PERIODS}, "seed": 3}


def actions_of(env, rng):
    """Random actions of all lanes, and the same as choices of a Batch."""
    if isinstance(env.single_action_space, gym.spaces.Box):
        share = rng.random((env.num_envs, len(env.heads)), np.float32)
        return 2 * share - 1, share
    option = rng.integers(0, env.single_action_space.n, env.num_envs)
    return option, option


@pytest.mark.parametrize(("economy", "rules"), [
    ("growth", None), ("growth_extended", None), ("growth_grid", None), ("cournot", {"foreign": "random"})])
def test_lanes_equal_the_batch_step_by_step(economy, rules):
    params = {"periods": PERIODS} if economy.startswith("growth") else {}
    env = MacroVectorEnv({"economy": economy, "num_envs": LANES, "params": params, "seed": 3, "rules": rules})
    loaded = envs.load(economy)
    p = with_values(loaded.defaults(), params)
    batch = Batch(loaded, p, LANES, seed=3, rules=rules, keep_final=True)
    rng, (seen, _) = np.random.default_rng(0), env.reset()
    for _ in range(3 * loaded.periods(p)):
        assert np.array_equal(seen, batch.observe(env.type)[:, 0])
        actions, choices = actions_of(env, rng)
        seen, rewards, terminated, truncated, _ = env.step(actions)
        expected, done = batch.step({env.type: choices.reshape(LANES, 1, -1)})
        assert np.allclose(rewards, expected[env.type][:, 0], rtol=1e-6, atol=1e-7)
        assert np.array_equal(terminated | truncated, done)
        if done.all():
            assert np.array_equal(seen, batch.final[env.type][:, 0])
            seen, rewards, terminated, truncated, _ = env.step(actions)
            assert not rewards.any() and not (terminated | truncated).any()


def test_an_endless_economy_is_truncated_at_its_horizon_and_never_ends():
    env = MacroVectorEnv(GROWTH)
    env.reset()
    flags = [env.step(np.zeros((LANES, 1), np.float32))[2:4] for _ in range(2 * (PERIODS + 1))]
    assert not any(terminated.any() for terminated, _ in flags)
    assert [truncated.all() for _, truncated in flags] == [False, False, False, True, False] * 2


def test_a_seed_fixes_the_play_and_another_seed_changes_it():
    def play(seed):
        env = MacroVectorEnv(GROWTH)
        first, _ = env.reset(seed=seed)
        return np.concatenate([first, *(env.step(np.full((LANES, 1), -0.4, np.float32))[0] for _ in range(2 * PERIODS))])
    assert np.array_equal(play(7), play(7))
    assert not np.array_equal(play(7), play(8))


def test_a_reset_without_a_seed_begins_other_episodes():
    env = MacroVectorEnv(GROWTH)
    assert not np.array_equal(env.reset()[0], env.reset()[0])


@pytest.mark.parametrize("economy", ["growth", "growth_grid"])
def test_one_lane_passes_the_checker_of_gymnasium(economy):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(infinity|env.unwrapped).*")
        check_env(LaneEnv({"economy": economy}), skip_render_check=True)


def test_one_lane_is_the_vector_of_one():
    lane, vector = LaneEnv(GROWTH | {"num_envs": 1}), MacroVectorEnv(GROWTH | {"num_envs": 1})
    assert np.array_equal(lane.reset(seed=5)[0], vector.reset(seed=5)[0][0])
    for action in np.linspace(-1, 1, PERIODS):
        one, many = lane.step(np.array([action], np.float32)), vector.step(np.array([[action]], np.float32))
        assert np.array_equal(one[0], many[0][0]) and one[1:4] == tuple(part[0] for part in many[1:4])


def test_spaces_are_gymnasiums_and_contain_what_is_seen():
    env = MacroVectorEnv(GROWTH)
    assert env.action_space.shape == (LANES, 1) and env.single_action_space == gym.spaces.Box(-1, 1, (1,), np.float32)
    assert env.reset()[0] in env.observation_space and env.step(env.action_space.sample())[0] in env.observation_space
    assert MacroVectorEnv({"economy": "growth_grid"}).single_action_space == gym.spaces.Discrete(99)


def test_the_registered_creator_makes_lanes_or_one_lane():
    assert make({"economy": "growth", "num_envs": 8}).num_envs == 8
    assert isinstance(make({"economy": "growth"}), LaneEnv)


@pytest.mark.parametrize(("config", "message"), [
    ({}, "needs an economy"),
    ({"economy": "growth", "lanes": 3}, "unknown key 'lanes'"),
    ({"economy": "rbc"}, "give rules to all types but one"),
    ({"economy": "rbc", "num_envs": 3, "rules": {"firm": "random", "government": "random"}}, "a multiple of the 100 agents"),
])
def test_a_mistake_is_one_sentence(config, message):
    with pytest.raises(ValueError, match=message):
        MacroVectorEnv(config)
