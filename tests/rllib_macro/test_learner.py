"""The learner: every type makes its passes, with its own coefficients, and a loss that is not finite changes nothing."""
import copy

import pytest
import torch

import envs
from kernels.core import launch
from rllib_macro import schedule
from rllib_macro.config import ConfigError, check_against, from_text
from rllib_macro.env_runner import Player, make_batch
from rllib_macro.evaluate import modules, scripted
from rllib_macro.learner import drawn_agents, head_weights, loss, minibatches, prepare
from rllib_macro.train import algorithm
from tests.rllib_macro.tiny import tiny

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def algo():
    with algorithm(tiny()) as built:
        yield built


@pytest.fixture
def learner(algo):
    """The local learner, its weights, optimizers and settings as new after the test."""
    learner = algo.learner_group._learner
    kept = copy.deepcopy(learner.get_state(components=["rl_module", "optimizer"]))
    config = learner.run_config
    yield learner
    learner.run_config = config
    learner.set_state(kept)


def update(algo, learner, k, **policy):
    """One update of iteration k on fresh rollouts, with changes to the firm's settings; returns the weights that changed and metrics."""
    config = tiny()
    firm = config.policies["firm"].model_copy(update=policy)
    learner.run_config = config.model_copy(update={"policies": config.policies | {"firm": firm}})
    now = schedule.plan(learner.run_config, k)
    rollouts = algo.env_runner.sample(plan=now, iteration=k)
    before = {t: copy.deepcopy(m.state_dict()) for t, m in learner.modules.items()}
    reports = {t: learner.train_type(t, rollouts, now.coefficients[t], k) for t in now.train}
    moved = {t: max((m.state_dict()[name] - old).abs().max().item() for name, old in before[t].items())
             for t, m in learner.modules.items()}
    return moved, reports


@pytest.mark.parametrize(("k", "training"), [(0, {"consumer"}), (1, {"consumer", "firm"}), (2, {"consumer", "firm", "government"})])
def test_only_the_types_that_train_now_change(algo, learner, k, training):
    moved, _ = update(algo, learner, k)
    assert {type_ for type_, change in moved.items() if change > 0} == training


def test_every_type_makes_exactly_its_passes_over_its_rows(algo, learner):
    _, reports = update(algo, learner, 2)
    rows = {type_: (report["rows"], report["num_module_steps_trained"]) for type_, report in reports.items()}
    periods = 4 * 4  # replicas times quarters
    assert rows == {"consumer": (4 * periods, 2 * 4 * periods), "firm": (3 * periods, 3 * 3 * periods),
                    "government": (periods, 2 * periods)}


def test_the_learning_rate_of_a_type_is_its_own(algo, learner):
    slow, _ = update(algo, learner, 1, lr=1e-6, epochs=1, minibatches=1)
    fast, _ = update(algo, learner, 1, lr=1e-2, epochs=1, minibatches=1)
    assert slow["firm"] == pytest.approx(1e-6, rel=0.02)  # Adam's first step has the length of the learning rate
    assert fast["firm"] > 1e-3
    assert slow["consumer"] == pytest.approx(fast["consumer"], rel=0.5)


def test_a_strong_entropy_bonus_keeps_play_closer_to_uniform(algo, learner):
    _, without = update(algo, learner, 1, entropy=0.0, lr=3e-2, epochs=40)
    learner.set_state({"rl_module": {t: m.get_state() for t, m in algo.env_runner.module.items()}})
    _, with_bonus = update(algo, learner, 1, entropy=5.0, lr=3e-2, epochs=40)
    assert with_bonus["firm"]["entropy"] > without["firm"]["entropy"] + 0.05


def test_a_loss_that_is_not_finite_names_policy_and_iteration_and_changes_nothing(algo, learner):
    from rllib_macro.learner import NonFiniteLoss
    before = copy.deepcopy(learner.modules["firm"].state_dict())
    with pytest.raises(NonFiniteLoss, match=r"policy 'firm' is not finite in iteration 1"):
        update(algo, learner, 1, reward_scale=1e-44)
    assert all(torch.equal(old, learner.modules["firm"].state_dict()[name]) for name, old in before.items())


@pytest.fixture(scope="module")
def played():
    config = tiny("params.horizon=3", "replicas=2", "params.n_consumers=2", "policies.consumer.agents_per_update=1")
    built = modules(config)
    rollout, _ = Player(make_batch(config), built, config).play(3, 0)
    return config, built, rollout


def test_advantages_use_the_types_own_gamma_and_lambda(played):
    config, built, rollout = played
    x = rollout.types["government"]
    with torch.no_grad():
        values = built["government"].values(x.obs.flatten(0, 1)).view(3, 2)
    policy = config.policies["government"].model_copy(update={"gamma": 0.5, "lam": 1.0, "reward_scale": 1000.0})
    columns = prepare(x, 1, policy, built["government"], torch.Generator(), CPU)
    r = x.rewards / 1000
    want = r[0] + 0.5 * r[1] + 0.25 * r[2] - values[0]
    torch.testing.assert_close(columns["advantages"].view(3, 2)[0], want, rtol=1e-5, atol=1e-6)
    myopic = prepare(x, 1, policy.model_copy(update={"gamma": 0.0}), built["government"], torch.Generator(), CPU)
    torch.testing.assert_close(myopic["targets"].view(3, 2), r, rtol=1e-5, atol=1e-6)


def test_a_type_may_learn_from_the_periods_in_which_it_has_a_choice():
    config = check_against(from_text("""
        economy: gather_trade_build
        replicas: 2
        params: {horizon: 12, tax_period: 4, planner_sees_map: false}
        policies: {mobile: {rule: idle}, planner: {lambda: 1.0, gamma: 1.0, learn_from: choices}}
        """), envs.load("gather_trade_build"))
    built, policy = modules(config), config.policies["planner"]
    x = Player(make_batch(config), built, config).play(12, 0)[0].types["planner"]
    columns = prepare(x, 1, policy, built["planner"], torch.Generator(), CPU)
    first_days = [0, 4, 8]  # of three tax years; on all others the planner can only keep what is
    torch.testing.assert_close(columns["obs"], x.obs[first_days].flatten(0, 1))
    torch.testing.assert_close(columns["targets"], x.rewards.flip(0).cumsum(0).flip(0)[first_days].flatten())


@pytest.mark.parametrize("mistake, sentence", [
    ("policies.government={learn_from: choices}", "learn_from choices needs lambda 1 and no recurrent network"),
    ("policies.government={learn_from: choices, lambda: 1.0, network: {recurrent: {}}}", "needs lambda 1 and no recurrent network"),
    ("resources.num_learners=2", "works with one learner"),
])
def test_learning_from_choices_alone_has_conditions(mistake, sentence):
    with pytest.raises(ConfigError, match=sentence):
        tiny("policies.government.learn_from=choices", "policies.government.lambda=1.0", mistake)


def test_an_episode_that_outlasts_the_rollout_goes_on_with_the_value_of_what_is_seen_next():
    config = tiny("periods=3", "params.horizon=4")
    built = modules(config)
    player = Player(make_batch(config), built, config)
    policy = config.policies["government"].model_copy(update={"gamma": 1.0, "lam": 0.0})
    rollout, _ = player.play(3, 0)
    seen = torch.from_numpy(player.batch.observe("government"))[:, 0]
    with torch.no_grad():
        want = rollout.types["government"].rewards[2] / policy.reward_scale + built["government"].values(seen)
    columns = prepare(rollout.types["government"], 1, policy, built["government"], torch.Generator(), CPU)
    torch.testing.assert_close(columns["targets"].view(3, -1)[2], want, rtol=1e-5, atol=1e-6)


def test_a_rule_for_one_type_leaves_the_chance_of_the_others_as_it_was():
    config = tiny("policies.government.network.policy_gain=1e-9")
    built, chosen = modules(config), []
    for rules in ({}, {"government": "constant(income_tax=0, corporate_tax=0)"}):
        played = scripted(config, rules)
        player = Player(make_batch(played), {t: m for t, m in built.items() if t not in rules}, played)
        chosen.append([player.play(1, 0)[0].types["consumer"].chosen.clone() for _ in range(2)])
    assert torch.equal(chosen[0][0], chosen[1][0])
    rollouts = [torch.cat(c) for c in chosen]
    assert (rollouts[0] == rollouts[1]).float().mean() > 0.95  # the second period sees another tax, a little


def test_the_numpy_backend_needs_no_compiler(monkeypatch):
    monkeypatch.setattr(launch, "compile_host", lambda *of: pytest.fail("compiled"))
    launch._host_function.cache_clear()
    config = tiny("backend=numpy")
    Player(make_batch(config), modules(config), config).play(2, 0)


def test_probabilities_at_learning_equal_those_at_play(played):
    config, built, rollout = played
    for type_, x in rollout.types.items():
        policy = config.policies[type_].model_copy(update={"agents_per_update": None})
        columns = prepare(x, rollout.count[type_], policy, built[type_], torch.Generator(), CPU)
        inputs = built[type_].inputs(columns["obs"]) + columns.get("penalty", 0.0)
        logp, _ = built[type_].heads.log_prob(inputs, columns["chosen"])
        torch.testing.assert_close(logp, columns["logp"], rtol=1e-4, atol=1e-5)


def test_the_drawn_agents_are_different_ones_of_each_replica_and_period():
    rows = drawn_agents(50, 10, 3, torch.Generator().manual_seed(0), CPU)
    groups = (rows // 10).view(50, 3)
    assert torch.equal(groups, torch.arange(50)[:, None].expand(50, 3))
    assert all(len(set(group.tolist())) == 3 for group in rows.view(50, 3))
    assert torch.bincount(rows % 10, minlength=10).min() > 0


def test_minibatches_cover_every_row_once():
    parts = list(minibatches(10, 3, torch.Generator().manual_seed(0), CPU))
    assert sorted(torch.cat(parts).tolist()) == list(range(10))
    assert [len(p) for p in parts] == [3, 3, 4]
    assert list(minibatches(10, 1, torch.Generator(), CPU)) == [None]


def test_head_weights_follow_the_choices_they_name():
    config = tiny()
    heads = [head for choice in envs.load("rbc").agents["consumer"].chooses for head in choice.heads(make_batch(config, 1).p)]
    assert head_weights(config.policies["consumer"], tuple(heads)).tolist() == [1, 1, 1, 3, 1]
    assert head_weights(config.policies["firm"], ()) is None


def test_plain_policy_gradient_ignores_the_ratio(played):
    config, built, rollout = played
    policy = config.policies["firm"].model_copy(update={"loss": "policy_gradient", "epochs": 1})
    columns = prepare(rollout.types["firm"], 3, policy, built["firm"], torch.Generator(), CPU)
    _, parts = loss(built["firm"], columns, policy, 0.0, None)
    assert parts["policy_loss"].item() == pytest.approx(-(columns["logp"] * columns["advantages"]).mean().item(), rel=1e-4, abs=1e-5)
