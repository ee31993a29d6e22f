"""One replica behind the dict interfaces: equal to the batch, at home in stock RLlib and in PettingZoo."""
import builtins

import gymnasium as gym
import numpy as np
import pytest
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.env.env_context import EnvContext
from ray.rllib.utils.pre_checks.env import check_multiagent_environments

import envs
from envs.core.batch import Batch, with_values
from envs.core.choices import Head
from rllib_macro import env as env_module
from rllib_macro.env import MacroEnv, ParallelView
from rllib_macro.policies import action_space, agent_id, policy_of, spaces
from tests.worlds import needs_compiler

COBWEB = "tests.economies.cobweb"
SMALL = {"n_consumers": 4, "n_firms": 2, "horizon": 3}
RBC = {"economy": "rbc", "params": SMALL, "backend": "numpy"}
WORLDS = [
    pytest.param({**RBC}, id="rbc"),
    pytest.param({**RBC, "backend": "native"}, id="rbc-native", marks=needs_compiler),
    pytest.param({**RBC, "features": "digits", "windows": {"firm.price": [500, 1500]}}, id="rbc-windows"),
    pytest.param({**RBC, "rules": {"consumer": "random", "government": "fixed(income_tax=0.4)"}}, id="rbc-rules"),
    pytest.param({"economy": COBWEB}, id="cobweb"),
    pytest.param({"economy": COBWEB, "windows": {"producer.planted": [0.1, 2.3], "regulator.levy": [0.1, 0.3]}}, id="cobweb-windows"),
    pytest.param({"economy": COBWEB, "rules": {"regulator": "random"}}, id="cobweb-rules"),
]


def batch(config, size=1, **more):
    economy = envs.load(config["economy"])
    given = {key: config[key] for key in ("backend", "features", "rules") if key in config}
    world = Batch(economy, with_values(economy.defaults(), config.get("params", {})), size, **given, **more)
    world.adjust(windows=config.get("windows"))
    return world


def as_action(space, row):
    """What a policy would return for a row of choices."""
    if isinstance(space, gym.spaces.Tuple):
        return tuple(as_action(part, row[k:k + 1]) for k, part in enumerate(space))
    return int(row[0]) if isinstance(space, gym.spaces.Discrete) else row


def actions(env, choices, b):
    """The actions of all agents of a MacroEnv from the choices (B, agents, heads) of a batch."""
    return {agent: as_action(env.action_spaces[agent], row) for agent, row in rows(env, choices, b).items()}


def sampled(env):
    return {agent: env.action_spaces[agent].sample() for agent in env.agents}


def rows(env, seen, b):
    """What a batch has for the agents of replica b, by agent."""
    return {agent: seen[t][b, i] for t, agents in env.types.items() for i, agent in enumerate(agents)}


def equal(ours, theirs):
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[key], theirs[key]) for key in ours)


# -- the same world

@pytest.mark.parametrize("config", WORLDS)
def test_a_macro_env_is_one_replica_of_the_batch_bit_for_bit(config):
    together = batch(config, 5, seed=3, first=10, keep_final=True)
    alone = [MacroEnv({**config, "seed": 3, "replica": 10 + b}) for b in range(5)]
    seen = {t: together.observe(t) for t in together.count}
    assert all(equal(env.reset()[0], rows(env, seen, b)) for b, env in enumerate(alone))
    for _ in range(2 * together.economy.periods(together.p)):
        choices = {t: together.random_choices(t) for t in alone[0].types}
        rewards, done = together.step(choices)
        seen = {t: together.observe(t) for t in together.count}
        for b, env in enumerate(alone):
            observations, paid, terminated, truncated, infos = env.step(actions(env, choices, b))
            assert equal(observations, rows(env, together.final if done[b] else seen, b))
            assert equal(paid, rows(env, rewards, b))
            assert terminated["__all__"] == (done[b] and not together.economy.endless)
            assert truncated["__all__"] == (done[b] and together.economy.endless)
            assert infos == {agent: {} for agent in env.agents}
            if done[b]:
                assert equal(env.reset()[0], rows(env, seen, b))


@pytest.mark.parametrize("config", WORLDS)
def test_observations_are_in_their_spaces_and_sampled_actions_are_playable(config):
    env = MacroEnv(config)
    observations, _ = env.reset(seed=1)
    over = {"__all__": False}
    while not over["__all__"]:
        assert observations.keys() == set(env.agents) == env.observation_spaces.keys() == env.action_spaces.keys()
        assert all(env.observation_spaces[agent].contains(row) for agent, row in observations.items())
        observations, rewards, terminated, truncated, _ = env.step(sampled(env))
        assert all(type(reward) is float for reward in rewards.values())
        over = {key: terminated[key] or truncated[key] for key in terminated}
        assert set(over.values()) == {over["__all__"]}


def test_an_observation_is_not_overwritten_by_the_next():
    env = MacroEnv(RBC)
    first, _ = env.reset()
    kept = {agent: row.copy() for agent, row in first.items()}
    env.step(sampled(env))
    assert equal(first, kept)


def test_a_seed_begins_its_world_anew_whatever_was_played_before():
    env, fresh = MacroEnv({"economy": COBWEB}), MacroEnv({"economy": COBWEB, "seed": 7})
    for agent in env.agents:
        env.action_spaces[agent].seed(0)
    play = [sampled(env) for _ in range(3)]
    env.step(play[0])
    assert equal(env.reset(seed=7)[0], fresh.reset()[0])
    for action in play:
        assert equal(env.step(action)[0], fresh.step(action)[0])


def test_another_reset_is_another_episode():
    env = MacroEnv({"economy": COBWEB})
    starts = [env.reset(seed=7)[0], env.reset()[0], env.reset(seed=7)[0]]
    assert equal(starts[0], starts[2]) and not equal(starts[0], starts[1])


def test_the_environments_of_all_runners_play_different_worlds():
    first, second = (EnvContext({"economy": COBWEB}, worker_index=worker) for worker in (1, 2))
    replicas = [MacroEnv(context).config["replica"] for context in (first, first, second)]
    assert len(set(replicas)) == 3
    assert MacroEnv({"economy": COBWEB}).config["replica"] == 0


def test_types_that_follow_a_rule_are_no_agents():
    env = MacroEnv({**RBC, "rules": {"government": "fixed", "firm": "random"}})
    assert env.possible_agents == [f"consumer_{i}" for i in range(4)]
    env.step(sampled(env))
    assert env.batch.s.income_tax == pytest.approx([0.2])


# -- what is not legal

@pytest.mark.parametrize(("price", "wage", "nearest"), [(0, 0, (1, 1)), (5, 4, (3, 2)), (2, 4, (2, 2)), (2, 1, (2, 1))])
def test_an_illegal_choice_becomes_the_nearest_legal_one(price, wage, nearest):
    env = MacroEnv({**RBC, "windows": {"firm.price": [500, 1500], "firm.wage": [11, 22]}})
    play = sampled(env) | {"firm_0": 5 * price + wage}
    env.step(play)
    assert (env.batch.a.price[0, 0], env.batch.a.wage[0, 0]) == (500 * nearest[0], 11 * nearest[1])


def test_an_illegal_choice_is_an_error_if_asked_for():
    env = MacroEnv({**RBC, "windows": {"firm.price": [500, 1500]}, "illegal": "error"})
    legal = sampled(env) | {"firm_0": 5, "firm_1": 19}
    env.step(legal)
    with pytest.raises(ValueError, match=r"^firm_1 chose 25 for price\*wage \(head 0\), which is not legal now; choose 15, or set "):
        env.step(legal | {"firm_1": 25})


def test_nobody_offers_more_than_he_has():
    env = MacroEnv({"economy": COBWEB})
    env.batch.s.stock[...] = [[0.5, 2.5, 9]]
    env.step({f"producer_{i}": (4, np.array([0.5], np.float32)) for i in range(3)} | {"regulator_0": np.zeros(1, np.float32)})
    assert env.batch.s.sold.tolist() == [[0, 2, 4]]


def test_a_share_beyond_its_interval_becomes_its_end():
    env = MacroEnv({"economy": COBWEB})
    env.step(sampled(env) | {"regulator_0": np.array([1.7], np.float32)})
    assert env.batch.a.levy.tolist() == [0.5]


def test_windows_and_state_that_leave_nothing_together_are_an_error():
    env = MacroEnv({"economy": COBWEB, "windows": {"producer.offer": [4, 4]}})
    with pytest.raises(ValueError, match="^the windows and the state together leave an agent no option; widen the windows$"):
        env.step(sampled(env))


@pytest.mark.parametrize(("config", "sentence"), [
    ({"econmy": "rbc"}, "unknown key 'econmy' of the environment's config; did you mean 'economy'?"),
    ({"params": {}}, 'the environment needs an economy; add economy="rbc" to its config'),
    ({"economy": "rcb"}, "unknown economy 'rcb'; did you mean 'rbc'?"),
    ({"economy": "rbc", "params": {"n_firm": 3}}, "unknown param 'n_firm' of this economy; did you mean 'n_firms'?"),
    ({"economy": "rbc", "params": {"n_firms": 0}}, "params.n_firms must be at least 1, got 0"),
    ({"economy": "rbc", "windows": {"firm.wages": [0, 1]}}, "unknown choice 'firm.wages' of windows; did you mean 'firm.wage'?"),
    ({"economy": "rbc", "illegal": "ignore"}, "illegal must be clip or error, got 'ignore'"),
])
def test_a_mistake_in_the_config_is_one_sentence(config, sentence):
    with pytest.raises(ValueError) as caught:
        MacroEnv(config)
    assert str(caught.value) == sentence


def test_a_missing_or_broken_action_is_one_sentence():
    env = MacroEnv({"economy": COBWEB})
    with pytest.raises(ValueError, match="^step needs an action of producer_0; give one for every agent$"):
        env.step({})
    with pytest.raises(ValueError, match="^an action of regulator is not finite; look for a policy whose weights are not$"):
        env.step(sampled(env) | {"regulator_0": np.array([np.nan], np.float32)})


# -- policies and spaces

def test_agents_are_named_after_their_policies():
    assert (policy_of("consumer_17"), policy_of("central_bank_0", None, episode=None)) == ("consumer", "central_bank")
    assert policy_of(agent_id("central_bank", 3)) == "central_bank"


def test_spaces_follow_the_heads():
    found = spaces(envs.load("rbc"))
    assert found["consumer"][1] == gym.spaces.MultiDiscrete([11] * 10 + [5, 10])
    assert (found["firm"][1], found["government"][1]) == (gym.spaces.Discrete(30), gym.spaces.Discrete(36))
    assert spaces(envs.load("rbc"), features="raw")["firm"][0] == gym.spaces.Box(-np.inf, np.inf, (56,), np.float32)
    share = gym.spaces.Box(0, 1, (1,), np.float32)
    assert action_space([Head("a", 0)]) == share
    assert action_space([Head("a", 4), Head("b", 3), Head("c", 0), Head("d", 2)]) == gym.spaces.Tuple(
        [gym.spaces.MultiDiscrete([4, 3]), share, gym.spaces.Discrete(2)])


# -- PettingZoo

@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("config", WORLDS)
def test_pettingzoo_accepts_the_parallel_view(config):
    from pettingzoo.test import parallel_api_test, parallel_seed_test
    parallel_api_test(ParallelView(config), num_cycles=20)
    parallel_seed_test(lambda: ParallelView(config), num_cycles=20)


def test_without_pettingzoo_one_sentence_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest, **more):
        if name == "pettingzoo":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    env_module._parallel_class.cache_clear()
    with pytest.raises(ImportError, match="^ParallelView needs PettingZoo; pip install pettingzoo$"):
        ParallelView(RBC)


# -- RLlib

@pytest.mark.parametrize("config", WORLDS)
def test_rllib_accepts_the_environment(config):
    check_multiagent_environments(MacroEnv(config))


@pytest.fixture(scope="module")
def local_ray():
    started = not ray.is_initialized()
    if started:
        ray.init(address="local", num_cpus=1, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    yield
    if started:
        ray.shutdown()


@pytest.mark.filterwarnings("ignore:.*Overriding environment")  # RLlib registers every environment under one name
@pytest.mark.parametrize("config", [RBC, {"economy": COBWEB}], ids=["rbc", "cobweb"])
def test_stock_ppo_trains_one_policy_for_each_type(local_ray, config):
    types = envs.load(config["economy"]).agents
    algorithm = (
        PPOConfig()
        .environment(MacroEnv, env_config=config)
        .multi_agent(policies=set(types), policy_mapping_fn=policy_of)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=2)
        .rl_module(model_config={"fcnet_hiddens": [8]})
        .training(train_batch_size_per_learner=24, minibatch_size=16, num_epochs=1)
        .experimental(_validate_config=False)  # it compares minibatches in agent steps with batches in environment steps
        .build_algo()
    )
    try:
        before = algorithm.get_weights()
        for iteration in range(2):
            result = algorithm.train()
            assert result["env_runners"]["num_env_steps_sampled_lifetime"] == 24 * (iteration + 1)
            assert np.isfinite(result["env_runners"]["episode_return_mean"])
        assert set(result["learners"]) == {*types, "__all_modules__"}
        for type_ in types:
            moved = [not np.array_equal(weight, before[type_][key]) for key, weight in algorithm.get_weights()[type_].items()]
            assert any(moved), f"{type_} has not learned"
        playing = [env.unwrapped.config["replica"] for env in algorithm.env_runner.env.unwrapped.envs]
        assert len(set(playing)) == 2
    finally:
        algorithm.stop()
