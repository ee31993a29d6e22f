"""The profile of 2022: its curricula and switches work, its file tree is written and read, and reading it executes nothing."""
import io
import json
import math
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
import yaml
from pytest import approx
from safetensors.torch import save_file
from typer.testing import CliRunner

import envs
from rllib_macro import __main__ as cli
from rllib_macro import evaluate, hparams_2022, import_2022, layout_2022, results_2022, rollout_log, sections
from rllib_macro.config import check_against, from_dict, from_text, to_dict
from rllib_macro.env_runner import Player, make_batch
from rllib_macro.hparams_2022 import ImportError2022, LayoutError
from rllib_macro.learner import loss, prepare
from rllib_macro.run import Run, RunError
from rllib_macro.schedule import phases, plan, trains
from tests.rllib_macro.published import SMALL, profile, published_tree, untrained_run

TYPES = ("consumer", "firm", "government")

# --- curricula --------------------------------------------------------------------------------------------------------

OPENINGS = {  # template: length of the windows, iterations in which prices, wages and tax rates become available
    "short": (30000, {500: 15000, 1500: 10000, 2000: 20000, 0: 30000, 2500: 30000}, {11: 15000, 33: 15000, 0: 30000, 44: 30000},
              {0.2: 6000, 0.4: 12000, 0.6: 18000, 0.8: 24000, 1.0: 30000}),
    "long": (100000, {500: 50000, 1500: 33334, 2000: 66667, 0: 100000, 2500: 100000},
             {11: 50000, 33: 50000, 0: 100000, 44: 100000}, {0.2: 20000, 0.4: 40000, 0.6: 60000, 0.8: 80000, 1.0: 100000}),
    "test": (10, {500: 5, 1500: 4, 2000: 7, 0: 10, 2500: 10}, {11: 5, 33: 5, 0: 10, 44: 10}, {0.2: 2, 0.4: 4, 0.6: 6, 0.8: 8, 1.0: 10}),
}


@pytest.mark.parametrize("template", OPENINGS)
def test_prices_wages_and_taxes_become_available_in_the_published_iterations(template):
    length, prices, wages, taxes = OPENINGS[template]
    run = profile(
        f"windows.firm.price=[[0, [1000, 1000]], [{length}, [0, 2500]]]", f"windows.firm.wage=[[0, [22, 22]], [{length}, [0, 44]]]",
        f"windows.government.income_tax=[[{length}, [0, 0]], [{2 * length}, [0, 1]]]",
        f"windows.government.corporate_tax=[[{length}, [0, 0]], [{2 * length}, [0, 1]]]")

    def is_open(choice, value, k):
        low, high = np.float32(plan(run, k).windows[choice])
        return bool(low <= np.float32(value) <= high)

    for choice, opens, begin in (("firm.price", prices, 0), ("firm.wage", wages, 0), ("government.income_tax", taxes, length),
                                 ("government.corporate_tax", taxes, length)):
        for value, k in opens.items():
            assert not is_open(choice, value, begin + k - 1), (choice, value)
            assert is_open(choice, value, begin + k) and is_open(choice, value, begin + 10 * length), (choice, value)
    assert is_open("firm.price", 1000, 0) and is_open("firm.wage", 22, 0) and is_open("government.income_tax", 0, 0)


def test_types_take_turns():
    run = profile("policies.consumer.train_cycle=[10, [0, 6]]", "policies.firm.train_cycle=[10, [6, 10]]", "policies.firm.train_from=20")
    turns = [plan(run, k).train for k in range(40)]
    assert [("consumer" in now) for now in turns] == [k % 10 <= 5 for k in range(40)]
    assert [("firm" in now) for now in turns] == [k >= 20 and k % 10 > 5 for k in range(40)]
    assert (0, "firm takes turns: 6 to 9 of every 10 iterations") in phases(run)


def test_a_turn_falls_within_the_intervals_of_training():
    policy = from_text("economy: rbc\npolicies: {firm: {train_during: [[4, 9]], train_cycle: [3, [1, 2]]}}").policies["firm"]
    assert [k for k in range(20) if trains(policy, k)] == [4, 7]


@pytest.mark.parametrize("cycle", ["[4, [2, 2]]", "[4, [3, 5]]", "[0, [0, 0]]", "4", "[4, [-1, 2]]"])
def test_a_turn_that_cannot_be_is_refused(cycle):
    with pytest.raises(ValueError, match=r"policies\.firm\.train_cycle.* must be "):
        from_text(f"economy: rbc\npolicies: {{firm: {{train_cycle: {cycle}}}}}")


def test_every_type_has_its_own_multiple_of_the_learning_rate():
    assert {type_: of["lr"] for type_, of in plan(profile(), 100_000).coefficients.items()} == approx(
        {"consumer": 1e-3, "firm": 1e-3, "government": 5e-5})


@pytest.mark.parametrize(("type_", "start"), [("consumer", 0), ("firm", 30000), ("government", 60000)])
def test_the_entropy_of_a_type_restarts_when_it_starts_to_learn(type_, start):
    entropy = [plan(profile(), start + k).coefficients[type_]["entropy"] for k in (0, 10000, 23026, 90000)]
    assert entropy == approx([0.5, 0.5 / math.e, 0.05, 0.05], rel=1e-4)


def test_describe_prints_the_timetable():
    told = json.loads(CliRunner().invoke(cli.app, ["describe", "tune_configs/rbc_2022.yaml", "--json"]).stdout)
    when = {(row["iteration"], row["what"]) for row in told["run"]["timetable"]}
    assert {(0, "consumer learns"), (30000, "firm learns"), (60000, "government learns")} <= when


# --- switches ---------------------------------------------------------------------------------------------------------


def quantiles(config, iteration):
    """Options of every type, (periods, rows, heads), played by policies for which all options are equally likely."""
    batch = make_batch(config)
    policies = evaluate.modules(config)
    for module in policies.values():
        torch.nn.init.zeros_(module.policy.weight)
        torch.nn.init.zeros_(module.policy.bias)
    rollout, _ = Player(batch, policies, config).play(4, iteration)
    return {type_: x.chosen.clone() for type_, x in rollout.types.items()}


def test_frozen_uniforms_draw_the_same_quantile_in_every_period_and_iteration():
    config = profile(*SMALL, "windows={}", "replicas=16")
    first, later = quantiles(config, 0), quantiles(config, 7)
    for type_ in ("firm", "government"):
        assert all(torch.equal(first[type_][0], drawn) for drawn in (*first[type_], *later[type_]))
        assert len(first[type_].unique()) > 5  # agents differ
    assert not torch.equal(first["consumer"][0], first["consumer"][1])
    fresh = quantiles(profile(*SMALL, "windows={}", "replicas=16", "compat.frozen_uniforms=[]"), 0)
    assert not torch.equal(fresh["firm"][0], fresh["firm"][1])


@pytest.mark.parametrize("masks", ["additive_2022", "boolean"])
def test_what_is_masked_is_never_played(masks):
    config = profile(*SMALL, f"compat.masks={masks}", "replicas=64")
    batch = make_batch(config)
    player = Player(batch, evaluate.modules(config), config)
    rollout, _ = player.play(4, 0)
    assert rollout.types["firm"].chosen.unique().tolist() == [10, 11, 12, 13, 14]  # the price 1000 with any wage
    lowest = rollout.types["firm"].penalty.min().item()
    assert lowest == (-1000 if masks == "additive_2022" else -1e9)


def test_additive_masks_lower_a_logit_for_each_violated_window():
    config = profile(*SMALL, "windows={firm.price: [1000, 1000], firm.wage: [22, 22]}")
    penalty = Player(make_batch(config), evaluate.modules(config), config)._penalty("firm")
    assert penalty.view(6, 5)[[2, 2, 0, 0], [2, 0, 2, 0]].tolist() == [0, -1000, -1000, -2000]


def test_the_views_have_the_published_widths():
    batch = make_batch(profile("replicas=1"))
    assert {type_: layout.width for type_, layout in batch.layout.items()} == {"consumer": 144, "firm": 155, "government": 133}


@pytest.mark.parametrize("kind", ["ppo", "policy_gradient"])
def test_an_update_is_the_published_arithmetic_written_out(kind):
    """Returns with gamma once, advantages of the current values standardised, the larger of two mean value losses, summed entropies."""
    clip = None if kind == "policy_gradient" else 0.1
    config = profile(*SMALL, f"policies.consumer.loss={kind}", f"policies.consumer.value_clip={'null' if clip is None else clip}")
    policy, module = config.policies["consumer"], evaluate.modules(config)["consumer"]
    rollout, _ = Player(make_batch(config), {**evaluate.modules(config), "consumer": module}, config).play(4, 0)
    x = rollout.types["consumer"]
    columns = prepare(x, rollout.count["consumer"], policy, module, torch.Generator(), torch.device("cpu"))
    with torch.no_grad():
        for parameter in module.parameters():  # as after a first update
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    total, _ = loss(module, columns, policy, 0.5, None)

    reward = (x.rewards / 5).double()
    returns = torch.stack([reward[t] + 0.9999 * reward[t + 1:].sum(0) for t in range(4)]).flatten()
    logits, value = module.inputs_and_values(x.obs.flatten(0, 1))
    heads = [torch.distributions.Categorical(logits=part) for part in logits.double().split([11] * 3 + [5, 3], 1)]
    logp = sum(head.log_prob(x.chosen.flatten(0, 1)[:, i]) for i, head in enumerate(heads))
    advantage = returns - value.detach().double()
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-6)
    huber = torch.nn.functional.smooth_l1_loss
    if kind == "ppo":
        ratio = (logp - x.logp.flatten().double()).exp()
        actor = -torch.min(ratio * advantage, ratio.clamp(0.9, 1.1) * advantage).mean()
        old = columns["values"].double()
        critic = torch.max(huber(value.double(), returns), huber(old + (value.double() - old).clamp(-clip, clip), returns))
    else:
        actor, critic = -(logp * advantage).mean(), huber(value.double(), returns)
    expected = actor + critic - 0.5 * sum(head.entropy().mean() for head in heads)
    assert total.item() == approx(expected.item(), rel=1e-5)


def test_the_gift_and_unclamped_budgets_reach_the_economy():
    batch = make_batch(profile(*SMALL))
    assert (batch.p.gift, batch.p.clamp_budget, batch.p.crra_shift, batch.p.initial_wage, batch.p.interest) == (0.01, False, 1.0, 0.0, 0.0)


# --- the layout -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def tree(run, tmp_path_factory):
    return published_tree(run, tmp_path_factory.mktemp("experiment") / "rollout-1640995200-25")


@pytest.fixture
def copy(tree, tmp_path):
    """A copy of the tree, to be changed."""
    shutil.copytree(tree, tmp_path / "copy")
    return tmp_path / "copy"


def grids():
    return hparams_2022.action_arrays(make_batch(profile(*SMALL), 1).p)


def stored(file):
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def test_the_tree_has_the_published_files(run, tmp_path):
    files = {str(file.relative_to(tmp_path)) for file in layout_2022.write(run, tmp_path)}
    assert files == {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {"hparams.yaml", "action_arrays.npz"} | {f"episode_{k}_{t}.npz" for k in (4, "final") for t in TYPES} | {
        f"saved_models/{t}_policy_{k}.pt" for k in (4, 7, "latest") for t in TYPES}


def test_the_settings_are_those_of_the_published_sweep():
    made = hparams_2022.from_config(profile())
    assert list(made) == ["metadata", "agents", "world", "train"]
    assert yaml.safe_load(yaml.safe_dump(made)) == made
    agents, world, train = made["agents"], made["world"], made["train"]
    assert (train["lr"], train["entropy"], train["batch_size"], train["clip_grad_norm"], train["base_seed"]) == (0.001, 0.5, 128, 2.0, 2345)
    assert (train["use_ppo"], train["ppo_num_updates"], train["ppo_clip_param"], train["num_episodes"]) == (True, 2, 0.1, 200000)
    assert (agents["consumer_reward_scale"], agents["firm_reward_scale"], agents["government_reward_scale"]) == (5, 30000, 1000)
    assert (agents["government_lr_multiple"], agents["government_counts_firm_reward"]) == (approx(0.05), 1)
    assert agents["firm_anneal_prices"] == {"anneal_on": True, "start": 1000, "increase_const": 0.05, "decrease_const": approx(1 / 30)}
    assert (agents["firm_training_start"], agents["government_begin_anneal_action"]) == (30000, 30000)
    assert (world["initial_firm_endowment"], world["production_alpha"], world["initial_capital"]) == (2.2e6, "fixed_array", "twolevel")
    assert (world["initial_wages"], world["interest_rate"], world["importer_price"], world["use_importer"]) == (0, 0, 500, 1)


def test_the_grids_have_the_published_shapes():
    arrays = hparams_2022.action_arrays(make_batch(profile(), 1).p)
    assert {name: (array.shape, str(array.dtype)) for name, array in arrays.items()} == {
        "consumption_choices": ((11, 1), "float32"), "work_choices": ((5, 1), "float32"), "price_and_wage": ((30, 3), "float32"),
        "tax_choices": ((36, 2), "float32")}
    assert arrays["price_and_wage"][[0, 1, 12]].tolist() == [[0, 0, approx(0.1)], [0, 11, approx(0.1)], [1000, 22, approx(0.1)]]


def test_an_episode_has_the_published_keys_and_shapes(run, tree):
    b, t, n, f = 8, 4, 6, 3
    shapes = {"consumer": [(b, t, n, 4 * f + 5), (b, t, n, f + 2), (b, t, n), (5, 1), (b, t, n, f)],
              "firm": [(b, t, f, 5 * f + 6), (b, t, f), (b, t, f), (30, 3), (b, t, f)],
              "government": [(b, t, 1, 4 * f + 3), (b, t, 1), (b, t, 1), (36, 2), (0,)]}
    for type_, expected in shapes.items():
        arrays = stored(tree / f"episode_4_{type_}.npz")
        assert list(arrays) == ["states", "actions", "rewards", "action_array", "aux_array"]
        assert [array.shape for array in arrays.values()] == expected
        assert [str(array.dtype) for array in arrays.values()] == ["float32", "int32", "float32", "float32", "float32"]


def test_the_arrays_of_an_episode_are_what_was_played(run, tree):
    market, consumer = (stored(run.path / "episodes" / f"episode_000004_{name}.npz") for name in ("market", "consumer"))
    arrays, firm = stored(tree / "episode_4_consumer.npz"), stored(tree / "episode_4_firm.npz")
    assert np.array_equal(arrays["states"][:, :, 2, :3], market["state/price"])
    assert np.array_equal(arrays["states"][..., -2], market["state/budget"])
    assert np.array_equal(arrays["actions"], consumer["chosen"])
    assert np.array_equal(arrays["rewards"], consumer["rewards"])
    assert np.array_equal(arrays["aux_array"][:, :-1], market["state/bought"][:, 1:])  # the log has flows of the period before
    utility = (((arrays["aux_array"] + 1.0) ** 0.9 - 1) / 0.9).sum(-1)
    work = arrays["states"][..., -1] / 2 * arrays["action_array"][arrays["actions"][..., 3], 0]
    assert utility - work == approx(arrays["rewards"], abs=1e-4)
    assert np.array_equal(firm["aux_array"][:, :-1], market["state/exported"][:, 1:])


def test_weights_are_written_in_the_published_order_under_the_published_names(run, tree):
    weights = run.weights(4)
    consumer = torch.load(tree / "saved_models" / "consumer_policy_4.pt", weights_only=True)
    firm = torch.load(tree / "saved_models" / "firm_policy_4.pt", weights_only=True)
    layers = ["fc1", "fc2", *(f"action_heads.{i}" for i in range(5)), "fc4"]
    assert list(consumer) == [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]
    assert list(firm) == [f"{layer}.{part}" for layer in ("fc1", "fc2", "fc3", "fc4") for part in ("weight", "bias")]
    assert torch.equal(consumer["action_heads.3.weight"], weights["consumer"]["policy.weight"][33:38])  # hours, after three goods
    assert torch.equal(firm["fc3.bias"], weights["firm"]["policy.bias"])
    assert (tree / "saved_models" / "firm_policy_4.pt").stat().st_size < 200_000  # a head's file is not that of all heads


def test_the_weights_of_the_end_have_the_number_of_the_last_iteration(run, tree):
    last, latest = (torch.load(tree / "saved_models" / f"firm_policy_{label}.pt", weights_only=True) for label in (7, "latest"))
    assert torch.equal(last["fc1.weight"], run.weights(8)["firm"]["trunk.0.weight"])
    assert torch.equal(last["fc1.weight"], latest["fc1.weight"])


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["features=scaled"], "cannot hold features=scaled, only digits"),
        (["policies.firm.network.hidden=[64, 64]"], r"cannot hold policies.firm.network.hidden=\[64, 64\], only \[128, 128\]"),
        (["policies.firm.network.activation=tanh"], "cannot hold policies.firm.network.activation=tanh, only relu"),
        (["policies.firm.network.shared_trunk=false"], "cannot hold policies.firm.network.shared_trunk=False, only True"),
        (["policies.consumer.network.equivariant={sees: [price], moves: [demand]}"], "cannot hold policies.consumer.network.equivariant"),
        (["policies.firm.rule=keep"], r"holds learned policies only; leave out policies\.firm\.rule"),
        (["policies.firm.returns=gae"], "cannot hold policies.firm.returns=gae, only single_gamma_2022"),
        (["policies.firm.epochs=4"], "cannot hold policies.firm.epochs=4, only 2"),
        (["policies.firm.lr=[[0, 1.0e-3], [9, 0]]"], "cannot hold policies.firm.lr="),
        (["policies.firm.entropy=0.2"], "cannot hold policies.firm.entropy=0.2"),
        (["params.gift=0"], "cannot hold params.gift=0, only 0.01"),
        (["params.tfp_volatility=0.01"], "cannot hold params.tfp_volatility=0.01, only 0.0"),
        (["params.theta_factor=[[0, 0], [9, 1]]"], "cannot hold params.theta_factor="),
        (["windows.firm.price=[500, 1500]"], r"cannot hold windows.firm.price=\[500.0, 1500.0\], only null"),
        (["compat.frozen_uniforms=[]"], r"cannot hold compat.frozen_uniforms=\[\], only \[firm, government\]"),
        (["policies.firm.train_cycle=[4, [0, 1]]"], r"cannot hold policies.firm.train_cycle=\[4, \[0, 1\]\], only null"),
        (["policies.consumer.head_entropy={hours: 2}"], "cannot hold policies.consumer.head_entropy.hours=2"),
    ],
)
def test_what_the_files_of_2022_cannot_say_is_refused(overrides, sentence):
    with pytest.raises(LayoutError, match=sentence):
        layout_2022.require(profile(*overrides))


def test_runs_of_other_economies_are_refused():
    config = check_against(from_text("economy: tests.economies.cobweb"), envs.load("tests.economies.cobweb"))
    with pytest.raises(LayoutError, match="holds runs of the economy rbc only"):
        layout_2022.require(config)


def test_a_damaged_episode_is_named(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    file = tmp_path / "run" / "episodes" / "episode_000004_firm.npz"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(RunError, match="is damaged .*; remove its files, and the layout leaves it out"):
        layout_2022.write(Run.open(tmp_path / "run"), tmp_path / "out")
    np.savez(file, chosen=np.zeros((8, 4, 2, 1)), rewards=np.zeros(3))
    with pytest.raises(RunError, match="the episode of iteration 4 is not one of this run"):
        layout_2022.write(Run.open(tmp_path / "run"), tmp_path / "out")


def test_best_responses_of_types_are_written_beside_the_run(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    copied = Run.open(tmp_path / "run")
    for label, gains in (("iteration_000004", [3.0, 5.0]), ("again", [1.0])):
        folder = copied.path / "best_response" / "firm" / label
        folder.mkdir(parents=True)
        for seed in range(len(gains)):
            weights = {name: x + seed + 1 for name, x in copied.weights(4)["firm"].items() if not name.startswith("value.")}
            save_file(weights, folder / f"firm_seed_{seed}.safetensors")
        (folder / "result.json").write_text(json.dumps({
            "deviator": "firm", "checkpoint": 4, "profile": 11.0, "gain": sum(gains) / len(gains), "ci_low": 0.0, "ci_high": 1.0,
            "gains": gains, "profiles": [10.0, 12.0][:len(gains)]}))
    layout_2022.write(copied, tmp_path / "tree")
    lines = (tmp_path / "tree" / "br_firm_output.txt").read_text().splitlines()
    assert lines == [
        "mean reward (std) on rollout 4: before BR training 10.0 (0.0), after BR training 11.0 (0.0), mean improvement 1.0 (0.0)",
        "mean reward (std) on rollout 4: before BR training 11.0 (1.0), after BR training 15.0 (2.0), mean improvement 4.0 (1.0)"]
    files = {str(file.relative_to(tmp_path / "tree")) for file in (tmp_path / "tree").glob("br*/**/*") if file.is_file()}
    assert files == {f"brfirm/saved_models/{t}_policy_4.pt" for t in TYPES} | {f"brfirm/episode_4_{t}.npz" for t in TYPES}
    places = [tmp_path / "tree" / where / "saved_models" for where in ("brfirm", ".")]
    mine, other = (torch.load(place / "firm_policy_4.pt", weights_only=True) for place in places)
    assert torch.allclose(mine["fc1.weight"], other["fc1.weight"] + 2)  # the second training seed gained more
    assert torch.equal(mine["fc4.weight"], other["fc4.weight"])
    same = [torch.load(place / "consumer_policy_4.pt", weights_only=True) for place in places]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


def test_best_responses_go_into_the_layout_on_request(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    options = ["--iterations", "1", "--seeds", "2", "--episodes", "64", "--layout", "2022"]
    done = CliRunner().invoke(cli.app, ["best-response", str(tmp_path / "run"), "--type", "government", *options])
    assert done.exit_code == 0, done.stderr or done.exception
    tree = tmp_path / "run" / "layout_2022"
    line = re.fullmatch(r"mean reward \(std\) on rollout 7: before BR training (\S+) \(\S+\), after BR training (\S+) \(\S+\), "
                        r"mean improvement (\S+) \(\S+\)\n", (tree / "br_government_output.txt").read_text())
    before, after, gain = map(float, line.groups())
    (_, result), = Run.open(tmp_path / "run").best_responses()
    assert (before, gain) == approx((result["profile"], result["gain"])) and after == approx(before + gain)
    assert (tree / "brgovernment" / "episode_final_firm.npz").is_file()


def test_a_layout_that_cannot_hold_the_run_is_refused_before_anything_is_learned(tmp_path):
    run = Run.create(profile(*SMALL, "compat.frozen_uniforms=[]"), tmp_path)
    refused = CliRunner().invoke(cli.app, ["equilibrium", str(run.path), "--layout", "2022"])
    assert refused.exit_code == 2 and "cannot hold compat.frozen_uniforms" in refused.stderr


def test_a_best_response_that_lacks_its_weights_is_named(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    folder = tmp_path / "run" / "best_response" / "firm" / "x"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"deviator": "firm", "checkpoint": 4, "profile": 1, "gain": 1, "ci_low": 0, "ci_high": 1}')
    with pytest.raises(RunError, match="firm_seed_0.safetensors is damaged .*; remove the folder"):
        layout_2022.write(Run.open(tmp_path / "run"), tmp_path / "tree")


# --- reading it back --------------------------------------------------------------------------------------------------

VARIANTS = {
    "the published sweep": [],
    "turns": ["policies.consumer.train_cycle=[10, [0, 6]]", "policies.firm={train_cycle: [10, [6, 10]], train_from: 0, lr: 1.0e-3, "
              "entropy: {exp: 10000, from: 0.5, floor: 0.05, start: 30000}, gamma: 0.9999, returns: single_gamma_2022, "
              "advantages: every_update_2022, epochs: 2, minibatches: 1, clip: 0.1, value_weight: 1.0, value_clip: 0.1, "
              "value_clip_mode: mean_max_2022, grad_clip: 2.0, reward_scale: 30000, "
              "network: {hidden: [128, 128], activation: relu, shared_trunk: true, init: torch}}"],
    "intervals": ["policies.firm.train_during=[[10, 20], [40, 50]]", "policies.government.train_every=5"],
    "policy gradient": [f"policies.{t}.{setting}" for t in TYPES for setting in ("loss=policy_gradient", "epochs=1", "value_clip=null")],
    "a closed economy of one kind": ["params.open_economy=false", "params.labor_share=[0.5]", "params.initial_capital=[1]",
                                     "params.theta_pareto=0", "params.firm_reward_weight=0", "params.boost=0.5", "params.labor_floor=300"],
    "proportional": ["params.labor_share=[0.2, 0.4, 0.6, 0.8, 1.0]",
                     "params.initial_capital=[0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]"],
    "no curricula": ["windows={}", "params.theta_factor=1", *(f"policies.{t}.entropy=0.1" for t in TYPES),
                     *(f"policies.{t}.grad_clip=null" for t in TYPES)],
    "penalties": ["params.ponzi_consumer=0.5", "params.ponzi_firm=20", "params.interest=0.1", "params.initial_wage=22"],
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_survive_the_file_of_2022(variant):
    config = profile(*VARIANTS[variant])
    back = hparams_2022.to_config(yaml.safe_load(yaml.safe_dump(hparams_2022.from_config(config))), 0.1)
    assert [plan(back, k).train for k in range(0, 70000, 997)] == [plan(config, k).train for k in range(0, 70000, 997)]
    mine, theirs = make_batch(config, 1).p, make_batch(back, 1).p
    assert all(getattr(theirs, name) == approx(value) for name, value in vars(mine).items())
    for k in (0, 12345, 45678):
        assert plan(back, k).windows.keys() == plan(config, k).windows.keys()
        for name, window in plan(config, k).windows.items():
            assert plan(back, k).windows[name] == approx(window, abs=1e-9)
        for type_ in TYPES:
            assert plan(back, k).coefficients[type_] == approx(plan(config, k).coefficients[type_])


TEMPLATE = {  # what the released templates and sweep write, beside what follows from the sizes
    "firm_anneal_wages": {"anneal_on": True, "start": 22.0, "increase_const": 22.0 / 100000, "decrease_const": 22.0 / 100000},
    "firm_anneal_prices": {"anneal_on": True, "start": 1000.0, "increase_const": 1500.0 / 100000, "decrease_const": 1000.0 / 100000},
    "government_anneal_taxes": {"anneal_on": True, "start": 0.0, "increase_const": 1.0 / 100000},
    "firm_begin_anneal_action": 0, "government_begin_anneal_action": 100000, "firm_training_start": 100000,
    "government_training_start": 200000, "consumer_anneal_theta": {"anneal_on": True, "exp_decay_length_in_steps": 30000},
}


def test_the_long_template_becomes_its_curriculum():
    hparams = hparams_2022.from_config(profile())
    del hparams["metadata"]  # as in the templates
    hparams["agents"] |= TEMPLATE
    for key in ("consumer_noponzi_start", "firm_noponzi_start", "firm_lr_multiple", "consumer_training_start"):
        del hparams["agents"][key]  # have defaults in that program
    config = hparams_2022.to_config(hparams)
    assert config.windows["firm.price"] == ((0, (1000, 1000)), (100000, (0, 2500)))
    assert config.windows["government.corporate_tax"] == ((100000, (0, 0)), (200000, (0, 1)))
    assert [config.policies[type_].train_from for type_ in TYPES] == [0, 100000, 200000]
    assert config.params["theta_factor"].exp == 30000


def changed(section, key, value):
    hparams = hparams_2022.from_config(profile())
    if value is None:
        del hparams[section][key]
    else:
        hparams[section][key] = value
    return hparams


@pytest.mark.parametrize(
    ("section", "key", "value", "sentence"),
    [
        ("world", "crra_param", None, "hparams.yaml has no world.crra_param; it is not the settings file of a run of 2022"),
        ("world", "crra_param", "high", "world.crra_param in hparams.yaml must be a number, got high"),
        ("world", "crra_param", float("nan"), "world.crra_param in hparams.yaml must be a number, got nan"),
        ("world", "crra_param", 10**400, "world.crra_param in hparams.yaml must be a number, got 1000"),
        ("world", "production_alpha", "random", "world.production_alpha in hparams.yaml must be a number, fixed_array or proportional"),
        ("agents", "num_firms", 2.5, "agents.num_firms in hparams.yaml must be a whole number, got 2.5"),
        ("agents", "num_firms", 10**6, "names more than the 1,024 agents"),
        ("agents", "num_governments", 2, "agents.num_governments in hparams.yaml must be 1"),
        ("agents", "firm_noponzi_eta", 0.1, "agents.firm_noponzi_eta in hparams.yaml must be 0"),
        ("agents", "consumer_anneal_theta", 5, "agents.consumer_anneal_theta in hparams.yaml must be a mapping with anneal_on, got 5"),
        ("agents", "firm_anneal_wages", {"anneal_on": True, "start": 22, "increase_const": -1, "decrease_const": 1}, "windows only open"),
        ("agents", "firm_training_list", [[5, 1]], r"policies.firm.train_during must be intervals \[start, end\]"),
        ("train", "use_ppo", None, "hparams.yaml has no train.use_ppo"),
        ("train", "gamma", 1.5, "policies.consumer.gamma must be at most 1, got 1.5"),
        ("train", "digit_representation_size", 5, "train.digit_representation_size in hparams.yaml must be 10"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence(section, key, value, sentence):
    with pytest.raises(ImportError2022, match=sentence):
        hparams_2022.to_config(changed(section, key, value))


def test_an_imported_run_has_the_weights_and_episodes_of_the_original(run, tree, tmp_path):
    made = import_2022.read(tree, tmp_path)
    assert (made.policies, made.episodes, made.reproduced) == ([4, 8], [4, 8], True)
    assert made.run.path == tmp_path / "rollout-1640995200-25"
    assert made.run.saved() == [4, 8]
    for k in (4, 8):
        mine, theirs = run.weights(k), made.run.weights(k)
        assert all(torch.equal(theirs[t][name], x) for t in TYPES for name, x in mine[t].items())
        for name in (*TYPES, "market"):
            before, after = (stored(of.path / "episodes" / f"episode_{k:06d}_{name}.npz") for of in (run, made.run))
            assert before.keys() == after.keys()
            for key in before:
                np.testing.assert_allclose(after[key], before[key], rtol=1e-5, atol=1e-4, err_msg=f"{name} {key}")
    frame = made.run.progress()
    assert frame["iteration"].tolist() == [5, 8]
    assert frame["reward/firm"][0] == approx(stored(tree / "episode_4_firm.npz")["rewards"].mean())


def test_an_imported_run_is_played_described_and_evaluated_and_not_resumed(tree, tmp_path):
    done = CliRunner().invoke(cli.app, ["import-2022", str(tree), "--name", "old", "--runs", str(tmp_path)])
    assert (done.exit_code, done.stderr) == (0, "")
    assert "Policies of iterations 4, 8; episodes of iterations 4, 8." in done.stdout
    assert "This economy pays the recorded rewards" in done.stdout
    path = tmp_path / "old"
    assert done.stdout.splitlines()[-1] == str(path)
    played = json.loads(CliRunner().invoke(cli.app, ["rollout", str(path), "--json", "--layout", "2022"]).stdout)
    assert played["iteration"] == 8
    assert (path / "layout_2022" / "saved_models" / "firm_policy_latest.pt").is_file()
    assert (path / "layout_2022" / "episode_final_firm.npz").is_file()
    assert CliRunner().invoke(cli.app, ["describe", str(path / "config.yaml"), "--json"]).exit_code == 0
    found = Run.open(path)
    outcome = evaluate.play(found.config, evaluate.modules(found.config, found.weights(4)), iteration=4)
    assert np.isfinite([*outcome.rewards["consumer"], *outcome.rewards["firm"]]).all()
    refused = CliRunner().invoke(cli.app, ["train", "--resume", str(path)])
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)
    assert "has no checkpoint" in refused.stderr


def test_a_rollout_with_rules_has_no_place_in_the_layout(tree, tmp_path):
    import_2022.read(tree, tmp_path, "old")
    done = CliRunner().invoke(cli.app, ["rollout", str(tmp_path / "old"), "--rule", "firm=random", "--layout", "2022"])
    assert done.exit_code == 2
    assert "holds learned policies only" in done.stderr
    assert not (tmp_path / "old" / "layout_2022").exists()


def test_a_training_that_the_layout_cannot_hold_is_refused_before_it_starts(tmp_path):
    done = CliRunner().invoke(cli.app, ["train", "tune_configs/rbc_quick.yaml", "--layout", "2022", "--runs", str(tmp_path)])
    assert done.exit_code == 2
    assert "cannot hold features=scaled" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_governments_pickled_none_is_skipped(copy, tmp_path):
    file = copy / "episode_4_government.npz"
    arrays = stored(file)
    np.savez(file, **(arrays | {"aux_array": np.array(None, dtype=object)}))
    with pytest.raises(ValueError, match="allow_pickle"):
        stored(file)
    assert import_2022.read(copy, tmp_path / "runs").episodes == [4, 8]


def test_weights_are_read_by_their_order_whatever_their_names(copy, run, tmp_path):
    file = copy / "saved_models" / "firm_policy_4.pt"
    state = torch.load(file, weights_only=True)
    torch.save({f"layer{i}": tensor.double() for i, tensor in enumerate(state.values())}, file)
    assert torch.equal(import_2022.read(copy, tmp_path / "runs").run.weights(4)["firm"]["value.bias"], run.weights(4)["firm"]["value.bias"])


def test_only_the_latest_weights_are_enough(copy, tmp_path):
    for file in copy.glob("saved_models/*_[0-9].pt"):
        file.unlink()
    for file in copy.glob("episode_*"):
        file.unlink()
    made = import_2022.read(copy, tmp_path / "runs")
    assert (made.policies, made.episodes, made.run.saved()) == ([8], [], [8])


def test_the_plain_grids_of_our_own_tree_are_read_too(copy, tmp_path):
    (copy / "action_arrays.pickle").unlink()
    np.savez(copy / "action_arrays.npz", **grids())
    assert import_2022.read(copy, tmp_path / "runs").reproduced


def test_rewards_that_this_economy_does_not_pay_are_told(copy, tmp_path):
    file = copy / "episode_4_firm.npz"
    arrays = stored(file)
    np.savez(file, **(arrays | {"rewards": arrays["rewards"] * 2}))
    made = import_2022.read(copy, tmp_path / "runs")
    assert not made.reproduced
    assert made.deviation["firm"] == approx(0.5, rel=0.01)


def test_the_mean_of_the_log_is_over_all_replicas_and_fewer_are_kept(copy, tmp_path):
    made = import_2022.read(copy, tmp_path / "runs", replicas=3)
    assert stored(made.run.path / "episodes" / "episode_000004_firm.npz")["rewards"].shape[0] == 3
    assert made.run.progress()["reward/firm"][0] == approx(stored(copy / "episode_4_firm.npz")["rewards"].mean())


def test_an_existing_run_is_not_touched(tree, tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(RunError, match="old exists already; choose another --name"):
        import_2022.read(tree, tmp_path, "old")
    with pytest.raises(ValueError, match="name must be a folder name"):
        import_2022.read(tree, tmp_path, "../old")


def test_the_shipped_settings_read_from_a_run_play_like_the_profile(tree, tmp_path):
    config = import_2022.read(tree, tmp_path).run.config
    assert to_dict(config)["compat"] == {"masks": "additive_2022", "frozen_uniforms": ["firm", "government"]}
    assert check_against(from_dict(to_dict(config)), envs.load("rbc")) == config


def remove(pattern):
    return lambda folder: [file.unlink() for file in folder.glob(pattern)]


def rewrite(name, **arrays):
    return lambda folder: np.savez(folder / name, **(stored(folder / name) | arrays))


def weights_of(change):
    def apply(folder):
        file = folder / "saved_models" / "firm_policy_4.pt"
        torch.save(change(torch.load(file, weights_only=True)), file)
    return apply


def pickled(value):
    return lambda folder: (folder / "action_arrays.pickle").write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (remove("hparams.yaml"), "has no hparams.yaml; give the folder of one run"),
        (lambda folder: (folder / "hparams.yaml").write_text("agents: {"), "as YAML"),
        (lambda folder: (folder / "hparams.yaml").write_text("agents: !!python/object/apply:os.getcwd []"), "could not determine a constr"),
        (lambda folder: (folder / "hparams.yaml").write_bytes(b"\x80\x81"), "is not text"),
        (lambda folder: (folder / "hparams.yaml").write_text("world: {}"), "has no section agents"),
        (lambda folder: (folder / "hparams.yaml").write_text("# " + "x" * 2**20), "has 1,048,578 bytes and cannot be"),
        (remove("action_arrays.pickle"), "has no action_arrays.pickle"),
        (pickled(b""), "is not a pickled dict of arrays, or it is damaged"),
        (pickled([1, 2]), "holds the opcode EMPTY_LIST; only a dict of plain arrays is read"),
        (pickled({"price_and_wage": np.zeros((3, 3))}), "consumption_choices of the action arrays is not the grid of this economy"),
        (pickled({"price_and_wage": np.arange(9.0).reshape(3, 3)}), "one share"),
        (remove("saved_models/*"), "has no files such as consumer_policy_0.pt"),
        (remove("saved_models/firm_policy_4.pt"), "firm_policy_4.pt cannot be read"),
        (weights_of(lambda state: dict(list(state.items())[:-1])), "has 7 tensors and the network of this run 8"),
        (weights_of(lambda state: state | {"fc3.bias": torch.zeros(31)}), r"has the shape \(31,\) where fc3.bias of this run has \(30,\)"),
        (weights_of(lambda state: state | {"fc3.bias": torch.full((30,), torch.nan)}), "has weights that are not finite"),
        (weights_of(lambda state: torch.zeros(3)), "is not a state dict of plain tensors"),
        (weights_of(lambda state: state | {"fc3.bias": "text"}), "is not a state dict of plain tensors"),
        (remove("episode_4_firm.npz"), "episode_4_firm.npz is damaged .*; remove it"),
        (rewrite("episode_4_firm.npz", states=np.zeros((8, 4, 3, 5), np.float32)), r"states in .* has the shape \(8, 4, 3, 5\) instead of"),
        (rewrite("episode_4_firm.npz", states=np.zeros((2, 4, 3, 21), np.float32)), "have different numbers of replicas"),
        (rewrite("episode_4_firm.npz", actions=np.full((8, 4, 3), 30)), "actions in .* has numbers that are no option of a firm"),
        (rewrite("episode_4_firm.npz", actions=np.zeros((8, 4, 3))), "actions in .* is not an array of int32"),
        (rewrite("episode_4_firm.npz", rewards=np.full((8, 4, 3), np.inf)), "rewards in .* has numbers that are not finite"),
    ],
)
def test_a_tree_that_is_not_whole_is_one_sentence_and_leaves_nothing(copy, tmp_path, damage, sentence):
    damage(copy)
    with pytest.raises(ImportError2022, match=sentence) as caught:
        import_2022.read(copy, tmp_path / "runs")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("runs/*")) and not list(tmp_path.glob("runs/.*"))


# --- the pickle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("python", [True, False])
def test_a_pickled_dict_of_arrays_is_read_as_it_was(protocol, python):
    arrays = grids() | {"indices": np.arange(6, dtype=np.int32).reshape(2, 3), "long": np.arange(3), "double": np.eye(2),
                        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big-endian": np.arange(3, dtype=">f4"),
                        "view": np.arange(12.0)[::2], "empty": np.zeros((0, 3), np.float32), "scalar": np.array(1.5)}
    if python:
        buffer = io.BytesIO()
        pickle._Pickler(buffer, protocol).dump(arrays)
        data = buffer.getvalue()
    else:
        data = pickle.dumps(arrays, protocol)
    back = import_2022.read_arrays(data)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert back[name].shape == array.shape and back[name].dtype == array.dtype.newbyteorder("="), name
        assert np.array_equal(back[name], array), name


def test_a_pickle_of_an_older_numpy_is_read():
    data = pickle.dumps(grids(), 4).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    old = data.replace(b"\x8c\x16numpy.core.multiarray", b"\x8c\x15numpy.core.multiarray")
    frame = old.index(b"\x95")  # its length has changed
    old = old[:frame + 1] + (len(old) - frame - 9).to_bytes(8, "little") + old[frame + 9:]
    assert pickle.loads(old).keys() == grids().keys()  # noqa: S301  (our own bytes)
    assert np.array_equal(import_2022.read_arrays(old)["tax_choices"], grids()["tax_choices"])


class Payload:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Payload(eval, "1"), r"holds the name '(builtins|__builtin__)\.eval'"),
        ({"a": Payload(exec, "1")}, r"holds the name '(builtins|__builtin__)\.exec'"),
        ({"a": Payload(np.load, "x", None, True)}, "holds the name 'numpy"),
        ({"a": np.array([None, 1])}, "an array of other things than numbers|the opcode EMPTY_LIST"),
        ({"a": np.array([(1, 2.0)], dtype="i4,f8")}, "an array of other things than numbers"),
        ({"a": np.array(["text"])}, "an array of other things than numbers"),
        ({"a": np.array([1 + 2j])}, "an array of other things than numbers"),
        ({"a": 1}, "holds a value that is no array"),
        ({1: np.zeros(2)}, "holds a key that is not text"),
        ({(1, 2): np.zeros(2)}, "holds a key that is not text"),
        ({"a": {"b": np.zeros(2)}}, "holds a value that is no array"),
        (np.zeros(2), "is not a pickled dict of arrays"),
        ({"a": np.float32(1)}, "holds the name 'numpy.*scalar'"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_anything_else_in_a_pickle_is_refused(value, sentence, protocol):
    with pytest.raises(ImportError2022, match=sentence):
        import_2022.read_arrays(pickle.dumps(value, protocol))


@pytest.mark.parametrize(
    "data",
    [
        b"cnumpy\nndarray\n(tR.", b"cnumpy\nndarray\n.", b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00zlibtR.",
        b"}q\x00h\x00X\x01\x00\x00\x00ah\x00s.", b"0.", b"}u.", b"(}.", b"}h\x07s.", b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"}r\xff\xff\xff\x7f.", b"\x80\x04cos\nsystem\n\x8c\x04true\x85R.", b"V\n" * 40, b"(" * 500 + b".", b"}}}.", b"}N\x85b.",
    ],
)  # fmt: skip
def test_malformed_and_hostile_opcodes_are_refused_or_harmless(data):
    try:
        assert import_2022.read_arrays(data) == {}
    except ImportError2022 as error:
        assert "\n" not in str(error)


def test_an_array_whose_bytes_do_not_fit_its_shape_is_refused():
    data = pickle.dumps({"a": np.zeros(4, np.float32)}, 4)
    assert data.count(b"K\x04\x85") == 1
    for shape in (b"K\x05\x85", b"K\x00\x85"):
        with pytest.raises(ImportError2022, match="an array whose size is not that of its bytes"):
            import_2022.read_arrays(data.replace(b"K\x04\x85", shape))


# --- results ----------------------------------------------------------------------------------------------------------


def test_the_smoke_table_stands_beside_the_published_numbers(tmp_path):
    runs = []
    for seed in range(3):
        made = Run.create(profile(*SMALL, f"name=s{seed}", f"seed={seed}"), tmp_path)
        rows = "".join(f"{k},{5.0 + seed},{-60e3 - seed},{600 + seed}\n" for k in range(1, 201))
        (made.path / "progress.csv").write_text("iteration,reward/consumer,reward/firm,measure/hours\n" + rows)
        runs.append(made)
    text = results_2022.smoke(runs)
    assert "| 10 | 5.66 | 6.00 ± 1.00 | 5.00 to 7.00 | -67,600 | -60,001 ± 1 | -60,002 to -60,000 | 650 | 601 ± 1 | 600 to 602 |" in text
    assert "6 of the 18 published numbers lie within the 95 % prediction interval" in text
    file = tmp_path / "table.md"
    file.write_text("before\n<!-- smoke: begin -->\nold\n<!-- smoke: end -->\nafter\n")
    sections.replace(file, "smoke", text)
    assert file.read_text() == f"before\n<!-- smoke: begin -->\n{text}\n<!-- smoke: end -->\nafter\n"
    with pytest.raises(RunError, match="needs at least 2 runs"):
        results_2022.smoke(runs[:1])
    (runs[0].path / "progress.csv").write_text("iteration,reward/consumer\n1,2\n")
    with pytest.raises(RunError, match="has no reward/firm in iteration 1|has no reward/consumer in iteration 11"):
        results_2022.smoke(runs)


def test_a_dense_log_played_by_an_imported_run_is_like_any_other(tree, tmp_path):
    found = import_2022.read(tree, tmp_path).run
    log = rollout_log.record(found.config, evaluate.modules(found.config, found.weights()), 2, 0, 8)
    assert log["chosen/consumer"].shape == (2, 4, 6, 5)
