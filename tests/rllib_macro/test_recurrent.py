"""Recurrent policies: what agents remember while they play is what their learner goes on from, and it wins a game of memory."""
import numpy as np
import pandas
import pytest
import ray
import torch
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.multi_rl_module import MultiRLModuleSpec
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from safetensors.torch import load_file, save_file

import envs
from rllib_macro import best_response as br
from rllib_macro import describe, evaluate, experiments, train
from rllib_macro.algorithm import algorithm_config
from rllib_macro.config import ConfigError, Network, Recurrent, check_against, from_text
from rllib_macro.env import MacroEnv
from rllib_macro.env_runner import Player, fresh_player, make_batch
from rllib_macro.learner import loss, prepare
from rllib_macro.networks import Cell, MacroModule, OneDeviates, model_config
from rllib_macro.policies import policy_of
from rllib_macro.run import Run

CPU = torch.device("cpu")
CUE = """
economy: tests.economies.cue
name: cue
replicas: 6
policies:
  player: {minibatches: 2, lr: 1.0e-2, epochs: 4, network: {hidden: [8], policy_gain: 1.0, recurrent: {units: 5, sequence: 4}}}
evaluation: {replicas: 6, seeds: [7]}
"""
RECURRENT, CELL = "policies.player.network.recurrent", "policies.player.network.recurrent.cell"
KINDS = [[f"{CELL}={cell}", f"policies.player.network.shared_trunk={shared}"] for cell in ("gru", "lstm") for shared in ("true", "false")]


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    started = train.start_ray(cue("resources={num_env_runners: 2, num_learners: 2}"))  # room for the largest run below
    yield
    if started:
        ray.shutdown()


def cue(*overrides):
    config = from_text(CUE, overrides)
    return check_against(config, envs.load(config.economy))


def plain(config, **changes):
    """The player's settings without a scale of rewards, changed."""
    return config.policies["player"].model_copy(update=changes)


def columns_of(config, net, rollout, **changes):
    return prepare(rollout.types["player"], rollout.count["player"], plain(config, **changes), net, torch.Generator().manual_seed(0), CPU)


def staggered(config, periods):
    """Policies and a rollout in which the episodes of every second replica end a period later, so that cuts differ within a sequence."""
    built = evaluate.modules(config)
    player = Player(make_batch(config), built, config)
    player.play(1, 0)
    player.batch.reset(np.arange(config.replicas) % 2 == 0)
    return built["player"], player.play(periods, 1)[0], player


# --- the layer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_sequences_are_the_cell_stepped_from_row_to_row_and_begin_anew_after_a_cut(kind):
    torch.manual_seed(0)
    layer = Cell(3, Recurrent(cell=kind, units=4), Network(init="torch"))
    stepped = (torch.nn.GRUCell if kind == "gru" else torch.nn.LSTMCell)(3, 4)
    stepped.load_state_dict({name.removesuffix("_l0"): x for name, x in layer.layer.state_dict().items()})
    x, memory, cut = torch.randn(5, 7, 3), torch.randn(5, layer.memory), torch.rand(5, 7) < 0.3
    assert cut[:, :-1].any() and not cut.all()
    out, after = layer(x.flatten(0, 1), memory, cut.flatten())
    state = memory if kind == "gru" else tuple(memory.chunk(2, 1))
    for t in range(7):
        state = stepped(x[:, t], state)
        h = state if kind == "gru" else state[0]
        torch.testing.assert_close(out.view(5, 7, 4)[:, t], h)
        if t < 6:
            state = state * ~cut[:, t, None] if kind == "gru" else tuple(part * ~cut[:, t, None] for part in state)
    torch.testing.assert_close(after, state if kind == "gru" else torch.cat(state, 1))


def test_a_gated_unit_moves_its_memory_by_the_textbook_equations():
    layer = Cell(1, Recurrent(units=1), Network())
    weights = {"weight_ih_l0": [[0.5], [-0.3], [0.8]], "weight_hh_l0": [[0.2], [0.7], [-0.4]]}
    for name, values in weights.items():
        getattr(layer.layer, name).data = torch.tensor(values)
    x, h = 1.5, 0.6
    reset, update = 1 / (1 + np.exp(-(0.5 * x + 0.2 * h))), 1 / (1 + np.exp(-(-0.3 * x + 0.7 * h)))
    candidate = np.tanh(0.8 * x + reset * -0.4 * h)
    out, after = layer(torch.tensor([[x]]), torch.tensor([[h]]))
    assert out.item() == after.item() == pytest.approx((1 - update) * candidate + update * h, rel=1e-6)


def test_gradients_flow_back_through_a_sequence_and_end_at_a_cut():
    net = evaluate.modules(cue())["player"]
    obs = torch.randn(4, 1, requires_grad=True)
    cut = torch.tensor([False, True, False, False])
    net.inputs_and_values(obs, torch.zeros(1, net.memory), cut)[0][3].sum().backward()
    assert obs.grad[:, 0].ne(0).tolist() == [False, False, True, True]


@pytest.mark.parametrize(("shared", "towers"), [("true", 1), ("false", 2)])
def test_a_value_with_a_trunk_of_its_own_remembers_by_itself(shared, towers):
    config = cue(f"{CELL}=lstm", f"policies.player.network.shared_trunk={shared}")
    net = evaluate.modules(config)["player"]
    assert net.memory == towers * 2 * 5
    with train.algorithm(config) as algo:
        copy, learner = algo.env_runner.module["player"], algo.learner_group._learner.modules["player"]
        algo.train()
        assert copy.memory == net.memory and not hasattr(copy, "value")
        assert set(learner.state_dict()) - set(copy.state_dict()) == {"value.weight", "value.bias"}
        assert all(torch.equal(x, learner.state_dict()[name]) for name, x in copy.state_dict().items())
        assert set(learner.get_state(inference_only=True)) == set(copy.state_dict())  # what travels to runners elsewhere


# --- playing and learning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("overrides", KINDS)
def test_probabilities_and_values_at_learning_are_those_at_play(overrides):
    config = cue(*overrides, "params.horizon=3")
    net, rollout, _ = staggered(config, 8)
    x = rollout.types["player"]
    assert not x.cut.all(1).any() and x.cut.any(1).sum() > 4
    columns = columns_of(config, net, rollout)
    assert columns["obs"].shape == (2 * 12, 4, 1) and columns["memory"].shape == (2 * 12, net.memory)
    flat = {name: column.flatten(0, 1) for name, column in columns.items() if name != "memory"}
    with torch.no_grad():
        inputs, values = net.inputs_and_values(flat["obs"], columns["memory"], flat["cut"])
    logp, _ = net.heads.log_prob(inputs, flat["chosen"])
    torch.testing.assert_close(logp, flat["logp"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(values, flat["values"], rtol=1e-6, atol=1e-6)
    blind, _ = net.heads.log_prob(net.inputs(flat["obs"]), flat["chosen"])
    assert (blind - flat["logp"]).abs().max() > 1e-3  # memory matters for these numbers


def test_the_values_of_a_rollout_are_those_of_its_agents_stepped_one_by_one():
    config = cue("params.horizon=3", "policies.player.network.shared_trunk=false")
    net, rollout, _ = staggered(config, 8)
    x, want = rollout.types["player"], torch.zeros(8, 12)
    values = columns_of(config, net, rollout, lam=0.0, gamma=0.0)["values"].view(2, 12, 4).transpose(1, 2).reshape(8, 12)
    with torch.no_grad():
        for agent in range(12):
            memory = x.memory[0, agent:agent + 1]
            for t in range(8):
                want[t, agent] = net.values(x.obs[t, agent:agent + 1], memory)[0]
                _, memory = net.recall(x.obs[t, agent:agent + 1], memory)
                memory = memory * 0 if x.cut[t, agent] else memory
    torch.testing.assert_close(values, want, rtol=1e-6, atol=1e-6)


def test_a_learner_that_forgot_a_cut_would_see_other_probabilities():
    config = cue("params.horizon=3")
    net, rollout, _ = staggered(config, 8)
    columns = columns_of(config, net, rollout)
    _, honest = loss(net, columns, plain(config), 0.0, None)
    _, forgetful = loss(net, columns | {"cut": torch.zeros_like(columns["cut"])}, plain(config), 0.0, None)
    assert abs(honest["kl"]) < 1e-6 < 1e-4 < abs(forgetful["kl"])


@pytest.mark.parametrize("shared", ["true", "false"])
def test_an_episode_that_outlasts_a_rollout_is_worth_what_its_agents_expect_with_all_that_they_remember(shared):
    config = cue("params.horizon=4", f"policies.player.network.shared_trunk={shared}")
    net = evaluate.modules(config)["player"]
    player = Player(make_batch(config), {"player": net}, config)
    first, _ = player.play(2, 0)
    targets = columns_of(config, net, first, gamma=1.0, lam=0.0)["targets"][:, 1]
    earned = first.types["player"].rewards[1].clone()
    second, _ = player.play(2, 1)
    following = columns_of(config, net, second)["values"][:, 0]
    torch.testing.assert_close(targets, earned + following, rtol=1e-6, atol=1e-6)


def test_an_endless_economy_that_is_cut_is_worth_what_its_agents_expect_with_all_that_they_remember():
    config = from_text("economy: tests.economies.cobweb", ["replicas=3", "policies.producer.network={hidden: [8], recurrent: {units: 4}}",
                                                           "policies.regulator.rule=laissez_faire"])
    config = check_against(config, envs.load(config.economy))
    net = evaluate.modules(config)["producer"]
    rollout, _ = Player(make_batch(config), {"producer": net}, config).play(6, 0)
    x = rollout.types["producer"]
    assert x.cut[-1].all() and x.following_memory.shape == (9, net.memory)
    policy = config.policies["producer"].model_copy(update={"gamma": 1.0, "lam": 0.0})
    targets = prepare(x, 3, policy, net, torch.Generator(), CPU)["targets"][:, -1]
    seen = torch.cat([x.obs, x.following_obs[None]]).transpose(0, 1).flatten(0, 1)  # the end as a seventh period of the same episode
    with torch.no_grad():
        last = net.values(seen, torch.zeros(9, net.memory), torch.zeros(63, dtype=torch.bool)).view(9, 7)[:, -1]
    torch.testing.assert_close(targets, x.rewards[-1] + last, rtol=1e-6, atol=1e-6)


def test_memory_lasts_from_one_rollout_to_the_next_and_no_longer_than_the_episode():
    config = cue()
    built = evaluate.modules(config)
    whole, parts = (Player(make_batch(config), built, config) for _ in range(2))
    whole.play(3, 0)
    parts.play(2, 0)
    parts.play(1, 1)  # what is seen does not depend on the answers
    torch.testing.assert_close(parts.memory["player"], whole.memory["player"])
    parts.play(1, 2)
    assert parts.memory["player"].abs().min() > 0 and not parts.batch.age.any()
    rollout, _ = parts.play(1, 3)
    assert not rollout.types["player"].memory.any()


def test_every_minibatch_is_made_of_whole_sequences_and_drawn_agents_keep_theirs():
    config = cue()
    net, rollout, _ = staggered(config, 8)
    columns = columns_of(config, net, rollout)
    drawn = columns_of(config, net, rollout, agents_per_update=1)
    assert drawn["obs"].shape == (12, 4, 1) and len(drawn["memory"]) == 12
    for number in range(12):  # of both players in a replica, all four periods and the memory of one of them
        found = [all(torch.equal(drawn[name][number], columns[name][2 * number + player]) for name in columns) for player in (0, 1)]
        assert any(found)


def test_shards_hold_the_memories_of_their_agents():
    config = cue("params.horizon=3")
    net, rollout, _ = staggered(config, 8)
    whole = columns_of(config, net, rollout)
    parts = [columns_of(config, net, part) for part in rollout.shards(2)]
    for name, column in whole.items():
        shared = torch.cat([part[name].unflatten(0, (2, -1)) for part in parts], 1).flatten(0, 1)
        torch.testing.assert_close(shared, column, rtol=1e-6, atol=1e-6)


def test_one_who_deviates_remembers_by_its_own_network_and_alone_learns():
    config = cue("policies.player.network.shared_trunk=false")
    shared, own = (evaluate.modules(c)["player"] for c in (config, cue("seed=1")))
    both = OneDeviates(shared, own, 1, 2)
    player = Player(make_batch(config), {"player": both}, config)
    rollout, _ = player.play(4, 0)
    for agent, net in ((0, shared), (1, own)):
        its = rollout.types["player"].of_agent(agent, 2)
        columns = prepare(its, 1, plain(config), net, torch.Generator(), CPU)
        _, parts = loss(net, columns, plain(config), 0.0, None)
        assert abs(parts["kl"]) < 1e-6
        assert len(its.following_memory) == 0 if its.following_at is not None else its.following_memory is None
    _, parts = loss(shared, columns, plain(config), 0.0, None)
    assert abs(parts["kl"]) > 1e-4


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("recurrent", "least", "most"), [
    ("{cell: gru, units: 16}", 0.72, 0.75), ("{cell: lstm, units: 16}", 0.72, 0.75), ("null", 0.3, 0.45),
])
def test_a_cue_that_is_seen_once_is_repeated_by_those_who_remember(recurrent, least, most):
    with train.algorithm(cue("replicas=64", f"{RECURRENT}={recurrent}", "policies.player.network.hidden=[16]")) as algo:
        earned = [algo.train()["env_runners"]["reward/player"] for _ in range(16)]
    assert least <= np.mean(earned[-3:]) <= most  # three of four periods pay one point; half of it to those who guess
    assert np.mean(earned[:1]) < 0.5


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Episodes of six periods played in fours: a checkpoint falls into running episodes."""
    return train.train(_resumable(), tmp_path_factory.mktemp("runs"))


def _resumable():
    return cue("params.horizon=6", "periods=4", f"{RECURRENT}.sequence=2", "stop.iterations=5")


@pytest.mark.parametrize("interrupted_after", [1, 2])
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(uninterrupted, tmp_path, interrupted_after):
    def interrupt(row):
        if row["iteration"] == interrupted_after:
            raise KeyboardInterrupt

    with pytest.raises(train.Stopped):
        train.train(_resumable(), tmp_path, interrupt)
    run = train.resume(tmp_path / "cue")
    found, wanted = (load_file(of.path / "policies" / "player_000005.safetensors") for of in (run, uninterrupted))
    assert found.keys() == wanted.keys() and all(torch.equal(x, wanted[name]) for name, x in found.items())
    columns = [c for c in run.progress() if c != "seconds" and not c.startswith("time/") and not c.endswith("/seconds")]
    pandas.testing.assert_frame_equal(run.progress()[columns], uninterrupted.progress()[columns], check_like=True)


def test_a_run_is_evaluated_compared_and_questioned(uninterrupted):
    run = Run.open(uninterrupted.path)
    policies = evaluate.modules(run.config, run.weights())
    told = evaluate.compare(run.config, policies)
    assert set(told["rewards"]["player"]) >= {"trained", "untrained", "random"}
    paths = experiments.paths(run.config, policies, 3, 5, explore=False)  # period by period
    rollout, _ = fresh_player(run.config, policies, 5, 3).play(6, 0, explore=False)  # at once
    assert np.array_equal(paths["reward/player"].T, rollout.types["player"].rewards.view(6, 5, 2).mean(2).numpy())
    result = br.best_response(run, "player_1", iterations=2, seeds=2, episodes=8)
    assert np.isfinite([result.gain, result.ci_low]).all()


def test_workers_on_a_map_remember_too():
    network = "{hidden: [8], shared_trunk: true, map: {sees: view, bits: {ground: 7}, units: 4}, recurrent: {units: 8, sequence: 5}}"
    config = from_text("economy: gather_trade_build", [
        "replicas=3", "periods=10", "params={horizon: 20, fixed_four: false, starting_coin: [10.0]}", "policies.mobile.minibatches=2",
        f"policies.mobile.network={network}", "policies.planner.network={hidden: [8], recurrent: {cell: lstm, units: 3}}"])
    config = check_against(config, envs.load(config.economy))
    first = evaluate.modules(config)
    with train.algorithm(config) as algo:
        for _ in range(3):
            reported = algo.train()["learners"]
        for type_, part in (("mobile", "cell"), ("planner", "value_cell")):  # a planner chooses in the first period only, from no memory
            assert np.isfinite(float(reported[type_]["total_loss"]))
            began, now = (net[type_].state_dict() for net in (first, algo.learner_group._learner.modules))
            moved = {name: not torch.equal(x, began[name]) for name, x in now.items() if name.startswith(part)}
            assert len(moved) == 4 and all(moved.values())
    assert float(reported["mobile"]["rows"]) == 3 * 4 * 10


@pytest.mark.slow
def test_remote_runners_and_two_learners_train_and_agree():
    config = cue("resources={num_env_runners: 2, num_learners: 2}", "params.horizon=6", "periods=4", f"{RECURRENT}.sequence=2")
    with train.algorithm(config) as algo:
        for _ in range(3):
            algo.train()
        held = [result.get() for result in algo.learner_group.foreach_learner(lambda learner: learner.modules["player"].state_dict())]
        played = algo.env_runner_group.foreach_env_runner(lambda runner: runner.module["player"].state_dict(), local_env_runner=False)
    for other in (held[1], *played):
        assert all(torch.equal(x, held[0][name]) for name, x in other.items()) and any("value_cell" in name for name in other)


@pytest.mark.filterwarnings("ignore:.*Overriding environment")  # RLlib registers every environment under one name
def test_stock_ppo_wins_the_game_of_memory_with_the_same_network():
    config = cue("policies.player.network={hidden: [16], recurrent: {cell: lstm, units: 16, sequence: 3}}")  # episodes of 4 are padded
    batch = make_batch(config, 1)
    spec = RLModuleSpec(module_class=MacroModule,
                        model_config=model_config(config, "player", batch.heads["player"], batch.layout["player"]))
    algorithm = (
        PPOConfig()
        .environment(MacroEnv, env_config={"economy": config.economy})
        .multi_agent(policies={"player"}, policy_mapping_fn=policy_of)
        .env_runners(num_env_runners=0, num_envs_per_env_runner=4)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs={"player": spec}))
        .training(train_batch_size_per_learner=128, minibatch_size=128, num_epochs=8, lr=0.01, gamma=0.5)
        .experimental(_validate_config=False)  # it compares minibatches in agent steps with batches in environment steps
        .debugging(seed=0)
        .build_algo()
    )
    try:
        earned = [algorithm.train()["env_runners"]["episode_return_mean"] for _ in range(10)]
    finally:
        algorithm.stop()
    assert earned[0] < 4.5 and earned[-1] > 5.5  # of two players in three periods: 3 for guesses, at most 6


# --- what is told and refused -----------------------------------------------------------------------------------------


def test_sequences_that_do_not_fill_an_iteration_are_refused_with_the_fix():
    with pytest.raises(ConfigError, match="recurrent.sequence must divide the 30 periods of an iteration, got 25; use 15 or 30"):
        algorithm_config(cue("params.horizon=30", f"{RECURRENT}.sequence=25"))
    algorithm_config(cue("params.horizon=30", f"{RECURRENT}.sequence=40"))


@pytest.mark.parametrize(("first", "second"), [(f"{RECURRENT}.units=8", f"{RECURRENT}=null"),
                                               (f"{RECURRENT}=null", f"{RECURRENT}.units=8")])
def test_a_network_that_remembers_begins_with_its_like_only(tmp_path, first, second):
    file = tmp_path / "player.safetensors"
    save_file(evaluate.modules(cue(first))["player"].state_dict(), file)
    evaluate.modules(cue(first, f"policies.player.start={file}"))
    with pytest.raises(ConfigError, match="not those of this network"):
        evaluate.modules(cue(second, f"policies.player.start={file}"))


def test_a_recurrent_layer_is_described():
    assert describe.describe(cue())["run"]["policies"]["player"]["network"] == "8 tanh gru 5"
