"""Networks that read maps: bytes unpacked to the maps of the original program, first weights from a file, annealing that outlives a run."""
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import envs
from envs.core.batch import Batch
from rllib_macro import evaluate, train
from rllib_macro.config import ConfigError, check_against, from_text, load
from rllib_macro.env_runner import fixed_params

CONFIGS = Path(__file__).parents[2] / "tune_configs"
SMALL = """
economy: gather_trade_build
replicas: 3
periods: 5
params: {horizon: 10, fixed_four: false, starting_coin: [10.0]}
policies:
  mobile: {epochs: 1, minibatches: 2, network: {hidden: [8], shared_trunk: true, map: {sees: view, bits: {ground: 7}, units: 4}}}
  planner: {network: {hidden: [8], map: {sees: planner_view, bits: {ground: 7}, channels: [2, 2, 2], units: null}}}
"""
ISLAND = "{layout: small_9x9, fixed_four: false, starting_coin: [10.0], build_skill: 0, horizon: 100}"


def small(*overrides):
    config = from_text(SMALL, overrides)
    return check_against(config, envs.load(config.economy))


def played(name, type_, periods=60):
    """What agents see, (rows, columns), after random play in which they build houses and meet."""
    config = check_against(from_text(f"{{economy: {name}, seed: 3, params: {ISLAND}}}"), envs.load(name))
    batch = Batch(envs.load(name), fixed_params(config), 6, backend="numpy", seed=3, rules=dict.fromkeys(config.policies, "random"))
    batch.s.goods[...] = 2
    for _ in range(periods):
        batch.step({})
    return torch.from_numpy(batch.observe(type_)).flatten(0, 1)


def reader(type_, codes=5):
    """The part of a type's network that reads its map, in the same small world."""
    sees = "view" if type_ == "mobile" else "planner_view"
    network = f"{{map: {{sees: {sees}, bits: {{ground: 7}}, codes: {codes}}}}}"
    config = from_text(f"{{economy: gather_trade_build, params: {ISLAND}, policies: {{{type_}: {{network: {network}}}}}}}")
    return evaluate.modules(check_against(config, envs.load(config.economy)))[type_].trunk[0]


@pytest.mark.parametrize(("type_", "side", "channels"), [("mobile", 11, 7), ("planner", 9, 6)])
def test_unpacked_bytes_are_the_maps_of_the_original_program(type_, side, channels):
    packed, wanted = played("gather_trade_build", type_), played("gather_trade_build_original", type_)
    found = reader(type_).unpack(packed)
    bits, codes = found[:, :7], found[:, 7:]
    tiles = side * side
    assert torch.equal(bits[:, :channels].flatten(1), wanted[:, :channels * tiles])
    numbers = torch.arange(1.0, 6.0)[:, None, None]
    indices = torch.cat([(part * numbers).sum(1, keepdim=True) for part in codes.split(5, 1)], 1)
    assert torch.equal(indices.flatten(1), wanted[:, channels * tiles:(channels + 2) * tiles])
    assert codes.sum(1).max() == 2 and codes[:, :5].any() and codes[:, 5:].any()  # somebody stands on somebody's house


def test_a_code_beyond_the_last_counts_as_the_last():
    packed = played("gather_trade_build", "mobile")
    every, two = reader("mobile").unpack(packed), reader("mobile", codes=2).unpack(packed)
    for start, short in ((7, 7), (12, 9)):
        assert torch.equal(two[:, short], every[:, start])  # oneself
        assert torch.equal(two[:, short + 1], every[:, start + 1:start + 5].sum(1))  # anybody else


def test_many_rows_are_read_as_each_row_alone():
    part = evaluate.modules(small())["mobile"].trunk[0]
    obs = torch.randint(0, 3, (1300, 499), generator=torch.Generator().manual_seed(1)).float()
    with torch.no_grad():
        together = part(obs)
        apart = torch.cat([part(obs[k:k + 1]) for k in (0, 511, 512, 1299)])
    torch.testing.assert_close(together[[0, 511, 512, 1299]], apart)
    torch.testing.assert_close(part(obs).detach(), together)  # all at once where gradients are needed
    assert torch.equal(together[:, :136], obs[:, :136])  # other columns pass as they are


def test_the_map_moves_a_policy_that_reads_it_and_no_other():
    obs = torch.zeros(2, 499)
    obs[1, 136 + 60] = 64 + 16 + 1  # a stone where the agent stands
    for units, moves in ((4, True), (0, False)):
        net = evaluate.modules(small(f"policies.mobile.network.map.units={units}"))["mobile"]
        out = net.inputs(obs)
        assert torch.equal(out[0], out[1]) is not moves


def test_a_stone_or_a_house_has_the_weight_that_its_channel_has():
    part = reader("mobile", codes=2)
    flat = part.unpack(_row({136: 65.0, 137: 68.0, 136 + 121 + 1: 3.0}))
    assert flat[0, :, 0, 0].tolist() == [1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]  # stone, inside
    assert flat[0, :, 0, 1].tolist() == [0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0]  # somebody else's house, inside


def _row(values):
    row = torch.zeros(1, 499)
    for column, value in values.items():
        row[0, column] = value
    return row


def test_a_network_begins_with_the_weights_of_a_file(tmp_path):
    first = evaluate.modules(small("seed=1"))["mobile"]
    save_file({name: x.contiguous() for name, x in first.state_dict().items()}, tmp_path / "mobile.safetensors")
    again = evaluate.modules(small(f"policies.mobile.start={tmp_path}/mobile.safetensors"))["mobile"]
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in first.state_dict().items())
    with pytest.raises(ConfigError, match="not those of this network"):
        evaluate.modules(small(f"policies.planner.start={tmp_path}/mobile.safetensors"))
    with pytest.raises(ConfigError, match="cannot read the weights"):
        evaluate.modules(small(f"policies.planner.start={tmp_path}/nothing.safetensors"))


@pytest.mark.parametrize(("override", "sentence"), [
    ("policies.mobile.network.map.sees=veiw", "did you mean 'view'"),
    ("policies.mobile.network.map.sees=flat", "flat is no map"),
    ("policies.mobile.network.map.bits={grund: 7}", "view has no layer 'grund'; use ground, owner, occupant"),
    ("policies.mobile.network.map.channels=[8, 8, 8, 8]", "convolution 3 finds only 2 x 2 tiles"),
    ("policies.mobile.network.map.bits.ground=9", "at most 8"),
    ("params.planner_sees_map=false", "planner_view is not seen under these params"),
])
def test_a_mistake_about_a_map_is_one_sentence_with_the_fix(override, sentence):
    with pytest.raises(ConfigError, match=sentence):
        evaluate.modules(small(override))


def test_the_second_phase_plays_with_the_networks_of_the_first():
    first, second = (load(CONFIGS / f"gather_trade_build{name}.yaml", ["policies.mobile.start=null"]) for name in ("", "_planner"))
    nets = [evaluate.modules(check_against(config, envs.load(config.economy))) for config in (first, second)]
    assert list(nets[0]) == ["mobile"] and list(nets[1]) == ["mobile", "planner"]
    assert {name: x.shape for name, x in nets[0]["mobile"].state_dict().items()} == {
        name: x.shape for name, x in nets[1]["mobile"].state_dict().items()}


def test_annealing_and_training_go_on_from_a_checkpoint_as_if_nothing_had_happened(tmp_path):
    config = small("params.energy_warmup=20.0", "params.warmup_method=1", "params.annealing=[0, 0.05]")
    kept = ("episodes", "rewarding", "energy_weight", "rate_limit", "coin", "ground")

    def now(algo):
        s = algo.env_runner.player.batch.s
        weights = algo.learner_group.get_weights()
        return {name: getattr(s, name).copy() for name in kept} | {
            f"{type_}.{name}": np.array(x) for type_, of in weights.items() for name, x in of.items()}

    with train.algorithm(config) as algo:
        for _ in range(3):
            algo.train()
        saved, path = now(algo), algo.save_to_path(tmp_path / "checkpoint")
        assert (saved["rewarding"] > 0).any() and (saved["energy_weight"] > 0).any() and (saved["rate_limit"] > 0).all()
        algo.train()
        wanted = now(algo)
        algo.restore_from_path(path)
        assert all(np.array_equal(x, saved[name]) for name, x in now(algo).items())
        algo.train()
        assert all(np.array_equal(x, wanted[name]) for name, x in now(algo).items())
        assert not np.array_equal(wanted["episodes"], saved["episodes"])  # an episode ended in between
