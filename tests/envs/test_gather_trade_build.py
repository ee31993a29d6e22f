"""The gather-trade-build world as its agents meet it: vectors and masks of the original program, packed windows, episodes, curricula."""
import dataclasses

import numpy as np
import pytest
from pytest import approx

import envs
from envs.core.batch import Batch
from kernels import gather_trade_build as gtb
from kernels import gather_trade_build_views as views
from kernels import gather_trade_build_world as maps
from kernels.core.arrays import adjust
from tests.kernels.test_gather_trade_build import SMALL

NAME, ORIGINAL = "gather_trade_build", "gather_trade_build_original"
RANDOM = {"mobile": "random", "planner": "random"}


def batch(name=NAME, size=2, horizon=None, rules=RANDOM, backend="numpy", seed=4, **values):
    economy = envs.load(name)
    p = adjust(gtb.Params(), **values)
    return Batch(dataclasses.replace(economy, horizon=horizon or p.horizon), p, size, backend=backend, seed=seed, rules=rules)


@pytest.mark.parametrize(("values", "flat", "of_agent", "planner", "mask", "planner_mask"), [
    ({}, 136, 8, 86, 50, 154),
    ({"n_agents": 10}, 142, 8, 92, 50, 154),
    ({"full_view": True}, 134, 3, 86, 50, 154),
    ({"planner_sees_map": False}, 136, 6, 86, 50, 154),
    ({"multi_action": True}, 136, 8, 86, 55, 154),
    ({"scenario": maps.ONE_STEP, "order": (gtb.LABOR, gtb.TAX), "n_agents": 20, "height": 1, "width": 1}, 33, 3, 33, 101, 154),
])
def test_vectors_and_masks_have_the_sizes_of_the_original(values, flat, of_agent, planner, mask, planner_mask):
    p = adjust(gtb.Params(), **values)
    assert (p.n_seen, p.n_seen_of_agent, p.n_planner_seen, p.n_mask, p.n_planner_mask) == (flat, of_agent, planner, mask, planner_mask)
    assert len(views.names(p, views.AGENT)) == flat and len(set(views.names(p, views.AGENT))) == flat
    for table in (views.AGENT, views.PLANNER, views.OF_AGENT):
        keys = [part.key for part in table]
        assert keys == sorted(keys)


def test_the_packed_window_unpacks_to_the_maps_of_the_original():
    world = batch(n_agents=4)
    for _ in range(60):
        world.step({})
    seen, codes = views.unpack(world.p, world.s.view)
    assert seen.shape == (2, 4, 7, 11, 11) and codes.shape == (2, 4, 2, 11, 11)
    s, p = world.s, world.p
    for b in range(2):
        for i in range(4):
            assert codes[b, i, 1, 5, 5] == 1
            for down, right in ((0, 0), (-5, 3), (4, -2), (2, 5)):
                row, col = s.row[b, i] + down, s.col[b, i] + right
                inside = 0 <= row < 25 and 0 <= col < 25
                assert seen[b, i, 6, 5 + down, 5 + right] == inside
                ground = views.inner(p, s.ground)[b, row, col] if inside else 0
                assert seen[b, i, :6, 5 + down, 5 + right].tolist() == [bool(ground & bit) for bit in views.CHANNELS[:6]]


def test_both_environments_play_one_world_and_differ_in_what_they_show():
    packed, original = batch(), batch(ORIGINAL)
    for _ in range(20):
        one, other = packed.step({})[0], original.step({})[0]
        assert (one["mobile"] == other["mobile"]).all()
    seen = original.observe("mobile")
    world_map, codes = views.unpack(original.p, original.s.view)
    assert seen.shape == (2, 4, 847 + 242 + 136)
    assert (seen[:, :, :847] == world_map.reshape(2, 4, -1)).all() and (seen[:, :, 847:1089] == codes.reshape(2, 4, -1)).all()
    assert (seen[:, :, 1089:] == packed.observe("mobile")[:, :, :136]).all()
    planner = original.observe("planner")
    assert planner.shape == (2, 1, 6 * 625 + 2 * 625 + 86 + 4 * 8)
    assert planner[0, 0, 3750:5000].reshape(2, 25, 25)[1].max() == 5  # agents 0 .. 3 are told by j + 2


def test_a_single_action_is_one_number_and_several_are_one_for_each_sub_space():
    single, several = batch(starting_coin=(9.0,)), batch(starting_coin=(9.0,), multi_action=True)
    assert [head.options for head in single.heads["mobile"]] == [50]
    assert [head.options for head in several.heads["mobile"]] == [2, 12, 12, 12, 12, 5]
    assert [head.options for head in single.heads["planner"]] == [22] * 7
    for world, bid in ((single, np.full((2, 4, 1), 5)), (several, np.tile([0, 4, 0, 0, 0, 0], (2, 4, 1)))):
        world.script({"planner": "idle", "mobile": "idle"})
        del world.rules["mobile"]
        world.step({"mobile": bid})
        assert (world.s.coin == 6).all() and (world.s.coin_escrow == 3).all() and world.s.bid_levels[0, 0, :, 3].tolist() == [1] * 4


def test_the_planner_chooses_on_the_first_day_of_a_tax_year_only():
    world = batch(tax_period=3, rules={"mobile": "random"}, horizon=50)
    for day in range(7):
        free = world.legal("planner").reshape(2, 7, 22)
        assert free[:, :, 0].all() and (free[:, :, 1:] == (day % 3 == 0)).all()
        world.step({"planner": np.full((2, 1, 7), 3 if day == 0 else 0)})
        assert world.s.rates == approx(np.full((2, 7), 0.1))


@pytest.mark.parametrize("values", [{"disable_taxes": True}, {"tax_model": gtb.US_FEDERAL}, {"tax_model": gtb.SAEZ}])
def test_a_planner_without_a_say_can_only_keep_rates(values):
    world = batch(**values)
    assert world.legal("planner").sum() == 2 * 7
    world.step({})
    assert not world.a.rate.any()
    if values.get("tax_model") == gtb.US_FEDERAL:
        assert world.s.rates[0] == approx([0.10, 0.12, 0.22, 0.24, 0.32, 0.35, 0.37])


@pytest.mark.parametrize(("rule", "rates"), [
    ("free_market", [0] * 7), ("flat_tax(rate=0.42)", [0.4] * 7), ("us_federal", [0.1, 0.1, 0.2, 0.25, 0.3, 0.35, 0.35])])
def test_rules_of_the_planner_choose_rates_that_exist(rule, rates):
    world = batch(rules={"mobile": "idle", "planner": rule})
    world.step({})
    assert world.s.rates[0] == approx(rates)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_curricula_and_memories_outlive_an_episode(backend):
    world = batch(horizon=4, annealing=(-1, 0.25), energy_warmup=10.0, tax_model=gtb.MODEL, backend=backend)
    assert world.s.rate_limit.tolist() == [0.25, 0.25] and world.s.energy_weight.tolist() == [0, 0]
    for _ in range(4):
        world.step({})
    assert world.s.episodes.tolist() == [1, 1] and world.s.period.tolist() == [0, 0]
    assert world.s.rate_limit.tolist() == [0.5, 0.5] and world.s.energy_weight == approx(1 - np.exp(-0.1))
    assert world.legal("planner").reshape(2, 7, 22)[0, 0].sum() == 1 + 11  # 0, 5, ..., 50 percent


def test_the_saez_formula_remembers_and_begins_with_its_mean_rates():
    world = batch(horizon=6, size=1, tax_model=gtb.SAEZ, tax_period=2, n_agents=2, fixed_four=False)
    world.s.samples[...], world.s.elasticity[...] = 700, 0.3
    world.s.sample_income[...], world.s.sample_rate[...] = np.linspace(1, 90, 500), np.linspace(0.1, 0.5, 500)
    for _ in range(5):
        world.step({})
    rates, mean = world.s.rates.copy(), world.s.mean_rates.copy()
    assert mean.any() and world.s.samples[0] == 704
    world.step({})
    assert world.s.samples[0] == 706 and world.s.elasticity[0] != 0.3
    assert world.s.rates == approx(mean) and world.s.posted_rates == approx(rates)


SHARED = {**SMALL, "n_agents": 2, "tax_model": gtb.SAEZ, "tax_period": 2, "horizon": 4}  # 4 incomes in an episode


def with_windfalls(world, periods):
    """Play, in a land where every agent finds as many coins as its number and its replica's say."""
    for _ in range(periods):
        world.s.coin += np.arange(world.s.coin.size).reshape(world.s.coin.shape)
        world.step({})


@pytest.mark.parametrize("shared", [False, True])
def test_replicas_that_share_incomes_know_enough_after_fewer_episodes(shared, monkeypatch):
    """With three replicas and eight incomes to know, the second episode begins with the formula, the same for all, or at random."""
    monkeypatch.setattr(gtb.taxes, "SAMPLES", 8)
    world = batch(size=3, saez_shared=shared, **SHARED)
    with_windfalls(world, 4)
    income, rate = (array[:, :4].ravel().copy() for array in (world.s.sample_income, world.s.sample_rate))
    assert world.s.samples.tolist() == [4] * 3 and len(set(income)) > 4
    with_windfalls(world, 1)
    if shared:
        wanted = gtb.taxes.saez(world.s.cutoffs[0], income, gtb.taxes.estimate(income, rate, 0.5), world.p.saez_weights)
        assert world.s.rates == approx(np.tile(wanted.clip(0, 1), (3, 1)), abs=1e-12)
    else:
        assert world.s.rates == approx(world.e.random_rate)


def test_a_replica_that_shares_with_nobody_is_as_it_was():
    rates = []
    for shared in (False, True):
        world = batch(size=1, saez_shared=shared, **SHARED | {"n_agents": 5, "tax_period": 1, "horizon": 25})
        with_windfalls(world, 101)  # in the last period 500 incomes are known, just enough
        assert world.s.samples[0] == 505 and (world.s.elasticity != 0.5).all()
        rates.append(world.s.rates.copy())
    assert np.array_equal(*rates)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_replicas_of_different_ages_share_and_go_on_from_a_checkpoint(backend):
    def world():
        return batch(size=5, backend=backend, saez_shared=True, **SHARED | {"n_agents": 6, "tax_period": 1, "horizon": 20})

    first, by_definition = world(), batch(size=5, saez_shared=True, **SHARED | {"n_agents": 6, "tax_period": 1, "horizon": 20})
    for each in (first, by_definition):
        with_windfalls(each, 7)
        each.reset(np.arange(5) < 2)
        with_windfalls(each, 23)
    assert first.s.pool_samples.tolist() == [162] * 2 + [120] * 3 and (first.s.elasticity != 0.5).all()
    second = world()
    second.load_state_dict(first.state_dict())
    for each in (first, second, by_definition):
        with_windfalls(each, 15)
    for name, array in vars(first.s).items():
        assert np.array_equal(array, getattr(second.s, name)), name
        assert array == approx(getattr(by_definition.s, name), rel=1e-9, abs=1e-9), name


def test_classes_of_agents_differ_and_are_seen():
    world = batch(n_agents=5, class_sizes=(2, 3), starting_coin=(1.0, 7.0), crra=(0.0, 0.5), fixed_four=False)
    assert world.s.coin[0].tolist() == [1, 1, 7, 7, 7]
    assert world.s.utility[0] == approx([0, 0, *[(7**0.5 - 1) / 0.5] * 3])
    seen = world.observe("mobile")
    assert seen.shape == (2, 5, 137 + 1 + 363) and seen[0, :, 137].tolist() == [0, 0, 1, 1, 1]


def test_the_horizon_and_any_map_and_number_of_agents_are_params():
    for values in ({"n_agents": 60, "fixed_four": False}, {**maps.named("mixed_40x40"), "n_agents": 7}, SMALL,
                   {**maps.named("top_wood_bottom_stone_14x14"), "view_range": 2}):
        world = batch(**{**values, "horizon": 5})
        assert not world.step({})[1].any()
        for _ in range(4):
            done = world.step({})[1]
        assert done.all() and (world.age == 0).all()


def test_the_one_step_economy_pays_by_hours_and_taxes_in_its_second_period():
    world = batch(horizon=2, scenario=maps.ONE_STEP, order=(gtb.LABOR, gtb.TAX), tax_period=2, n_agents=3, height=1, width=1,
                  planner_goal=gtb.INCOME_WEIGHTED_UTILITY, labor_exponent=2.0, labor_cost=0.01, rules={"planner": "flat_tax(rate=0.5)"})
    assert world.legal("mobile").sum() == 2 * 3  # nobody works in the first period
    world.step({"mobile": np.zeros((2, 3, 1), int)})
    assert world.legal("mobile").all()
    skill = world.s.skill[0].copy()
    rewards, done = world.step({"mobile": np.full((2, 3, 1), 10)})
    income = 10 * skill
    want = income / 2 + income.sum() / 6 - 0.01 * 10**2
    assert rewards["mobile"][0] == approx(want) and done.all()
    weights = 1 / np.maximum(income, 1)
    assert rewards["planner"][0, 0] == approx((weights / weights.sum() * want).sum())


def test_an_episode_that_has_not_begun_is_not_counted():
    rules = dict.fromkeys(("mobile", "planner"), "random")
    batch = Batch(envs.load("gather_trade_build"), adjust(gtb.Params(), horizon=3), rules=rules)
    batch.reset()
    assert batch.s.episodes.tolist() == [0]
    for _ in range(3):
        batch.step({})
    batch.reset()
    assert batch.s.episodes.tolist() == [1]
