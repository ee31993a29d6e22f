"""The gather-trade-build world: every phase by hand in a small world, and what must hold whatever happens."""
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

import envs
from envs.core.batch import Batch
from kernels import gather_trade_build as gtb
from kernels import gather_trade_build_book as book
from kernels import gather_trade_build_taxes as taxes
from kernels import gather_trade_build_views as views
from kernels import gather_trade_build_world as maps
from kernels.core.arrays import adjust, allocate
from tests.worlds import golden, needs_compiler, world

NAME = "gather_trade_build"
SMALL = {"height": 9, "width": 9, "layout": (8,), "fixed_four": False, "horizon": 20, "view_range": 2, "max_price": 4, "order_duration": 2,
         "max_orders": 2, "starting_coin": (20.0,), "tax_period": 2, "regrowth_stone": 0.3, "regrowth_wood": 0.3}
WORLDS = {  # where definition and twin are compared
    "small": SMALL,
    "every agent has goods to sell": {**SMALL, "goods": 2},
    "sub-spaces": {**SMALL, "multi_action": True, "goods": 1, "order": (2, 1, 0, 3, 4), "class_sizes": (1, 3), "crra": (0.5, 1.0),
                   "move_labor": (1.0, 2.0), "planner_goal": 2, "energy_warmup": 5.0, "warmup_method": 1, "tax_model": 2,
                   "bracket_spacing": 1, "tax_day": 1},
    "the whole of a procedural map": {**SMALL, "full_view": True, "halfwidth_stone": 2, "halfwidth_wood": 1, "most_wood": 3,
                                      "planner_goal": 1, "scenario": 2, "wood_coverage": 0.1, "stone_coverage": 0.1},
    "a crowd": {**SMALL, "n_agents": 31, "equality_weight": 0.5, "bracket_spacing": 2, "tax_model": 3, "planner_sees_map": False,
                "fixed_rates": (0.1, 0.2, 0.3, 0.4, 0.5)},
    "Saez": {**SMALL, "tax_model": 2, "samples": 600, "sample_income": np.linspace(-20, 700, 500) ** 1.0,
             "sample_rate": np.linspace(0.1, 0.6, 500), "tax_day": 1},
    "Saez, shared": {**SMALL, "tax_model": 2, "saez_shared": True, "samples": 40, "pool_samples": 30, "tax_day": 1,
                     "sample_income": np.linspace(-20, 700, 500), "sample_rate": np.linspace(0.1, 0.6, 500),
                     "pool_income": np.linspace(900, -5, 500), "pool_rate": np.linspace(0.2, 0.5, 500)},
    "work": {"scenario": 5, "order": (5, 3), "horizon": 4, "tax_period": 2, "height": 1, "width": 1, "n_agents": 5, "planner_goal": 2,
             "mask_first_step": False},
}
FLOAT32 = {"mobile": 2e-5, "planner": 2e-4, "welfare": 1e-4}  # differences of utilities
FLAT_MAP = {"height": 5, "width": 5, "layout": (0,) * 25, "n_agents": 2, "fixed_four": False, "view_range": 1, "planner_goal": 0}
quick = settings(deadline=None, max_examples=25, derandomize=True, database=None)


def place(p, s, *places):
    """Put the agents on these (row, column) in every replica."""
    s.occupant[...] = 0
    for i, (row, col) in enumerate(places):
        s.row[:, i], s.col[:, i] = row, col
        s.occupant[:, (row + p.margin) * p.stride + col + p.margin] = i + 2


def empty_field(*places, **values):
    """Agents on a map of 5 x 5 tiles without anything, unless `layout` puts something there."""
    p, s, a, e, r = world(NAME, **{**FLAT_MAP, "n_agents": max(2, len(places)), **values})
    place(p, s, *places)
    e.order[...] = np.arange(p.n_agents)
    e.luck[...] = e.regrowth[...] = 0.999
    return p, s, a, e, r


def orders(s, *placed):
    """Deeds of one period: (agent, "buy" or "sell", good, price)."""
    s.period += 1
    s.doing[...] = 0
    for agent, side, good, price in placed:
        s.doing[0, agent, (gtb.DO_BUY_STONE if side == "buy" else gtb.DO_SELL_STONE) + 2 * good] = price + 1


def market(n=2, coin=10.0, goods=3, **values):
    return empty_field(*[(0, i) for i in range(n)], coin=coin, goods=goods, **values)


def traded(s):
    """(buyer, seller, price) of each trade of the period."""
    return [(buyer, seller, price) for _, buyer, seller, _, _, price, _, _ in s.trades[0, :s.n_trades[0]].tolist()]


def auction(p, s, *placed):
    orders(s, *placed)
    s.n_trades[...] = 0
    gtb.trade(p, s)


# -- the auction

@pytest.mark.parametrize(("first", "then", "price"), [
    ((0, "sell", 0, 3), (1, "buy", 0, 7), 3), ((1, "buy", 0, 7), (0, "sell", 0, 3), 7)])
def test_the_older_order_sets_the_price(first, then, price):
    p, s, *_ = market()
    auction(p, s, first)
    auction(p, s, then)
    assert traded(s) == [(1, 0, price)]
    assert s.coin[0] == approx([10 + price, 10 - price]) and s.goods[0, :, 0].tolist() == [2, 4]
    assert s.labor[0] == approx([0.25, 0.25]) and not s.coin_escrow.any() and not s.open_orders.any()
    assert s.price_history[0, 0, 0, price] == 1


def test_of_two_new_orders_the_ask_sets_the_price():
    p, s, *_ = market()
    auction(p, s, (0, "buy", 1, 9), (1, "sell", 1, 2))
    assert traded(s) == [(0, 1, 2)] and s.coin[0] == approx([8, 12])


def test_the_best_price_comes_first_then_the_older_order_then_the_lower_number():
    p, s, *_ = market(n=5)
    auction(p, s, (3, "buy", 0, 5))
    auction(p, s, (1, "buy", 0, 5), (2, "buy", 0, 5))
    auction(p, s, (4, "buy", 0, 6))
    for buyer in (4, 3, 1, 2):
        auction(p, s, (0, "sell", 0, 0)) if buyer != 2 else auction(p, s, (3, "sell", 0, 0))
        assert [trade[0] for trade in traded(s)] == [buyer]


def test_nobody_trades_with_himself_but_with_the_next_best():
    p, s, *_ = market(n=3)
    auction(p, s, (0, "sell", 0, 1))
    auction(p, s, (2, "sell", 0, 4))
    auction(p, s, (0, "buy", 0, 6))
    assert traded(s) == [(0, 2, 4)]
    assert book.rows(p, s, 0) == [(0, 1, 0, 1, 3)]
    auction(p, s, (0, "buy", 0, 6))
    assert traded(s) == [] and len(book.rows(p, s, 0)) == 2  # a book may cross against its owner


def test_an_order_is_matched_in_its_period_and_those_of_its_duration_then_returned():
    p, s, *_ = market(order_duration=2)
    auction(p, s, (0, "buy", 0, 4), (1, "sell", 1, 9))
    assert s.coin[0, 0] == 6 and s.goods[0, 1, 1] == 2
    auction(p, s)
    assert len(book.rows(p, s, 0)) == 2
    auction(p, s, (1, "sell", 0, 4))  # its third and last period
    assert traded(s) == [(0, 1, 4)]
    assert s.coin_escrow[0].tolist() == [0, 0] and s.goods[0, 1, 1] == 3 and not book.rows(p, s, 0)


def test_orders_need_room_and_cover():
    p, s, *_ = market(max_orders=1, coin=3.0, goods=((0, 1), (1, 0)))
    auction(p, s, (0, "buy", 0, 4), (1, "sell", 1, 2))
    assert not book.rows(p, s, 0) and not s.labor.any()
    auction(p, s, (0, "buy", 0, 3))
    auction(p, s, (0, "sell", 0, 0), (0, "buy", 1, 0))
    assert [row[:4] for row in book.rows(p, s, 0)] == [(0, 0, 0, 3), (1, 0, 0, 0)]


def test_sales_are_forgotten_by_half_a_percent_in_a_period():
    p, s, *_ = market()
    auction(p, s, (0, "buy", 1, 9), (1, "sell", 1, 2))
    auction(p, s)
    assert s.price_history[0, 1, 1, 2] == 0.995 and s.price_history.sum() == 0.995


# -- building

def test_a_house_takes_wood_and_stone_and_pays():
    p, s, *_ = empty_field((2, 2), (0, 0), goods=((1, 1), (1, 1)), goods_escrow=((0, 0), (0, 0)), build_payment=12.0)
    s.build_payment[...] = 12
    s.doing[0, 0, gtb.DO_BUILD] = 1
    gtb.build(p, s)
    here = (2 + p.margin) * p.stride + 2 + p.margin
    assert s.goods[0].tolist() == [[0, 0], [1, 1]] and s.coin[0].tolist() == [12, 0] and s.labor[0].tolist() == [10, 0]
    assert s.owner[0, here] == 2 and s.ground[0, here] == gtb.HOUSE | gtb.INSIDE
    s.goods[0, 0] = 1
    gtb.build(p, s)
    assert s.coin[0, 0] == 12 and s.built[0, 0] == 0  # not twice on one tile


@pytest.mark.parametrize("code", [maps.STONE, maps.WOOD])
def test_nobody_builds_on_a_source(code):
    p, s, *_ = empty_field((2, 2), (0, 0), layout=(0,) * 12 + (code,) + (0,) * 12, goods=1)
    s.doing[0, 0, gtb.DO_BUILD] = 1
    gtb.build(p, s)
    assert not s.built.any()


def test_goods_set_aside_build_nothing():
    p, s, *_ = empty_field((2, 2), (0, 0), goods=((1, 0), (0, 0)), goods_escrow=((0, 1), (0, 0)))
    s.doing[0, 0, gtb.DO_BUILD] = 1
    gtb.build(p, s)
    assert not s.built.any()


# -- moving and collecting

def move(p, s, e, *chosen, order=None):
    s.doing[...] = 0
    s.doing[0, :len(chosen), gtb.DO_MOVE] = chosen
    e.order[0] = np.arange(p.n_agents) if order is None else order
    gtb.gather(p, s, e)
    return list(zip(s.row[0].tolist(), s.col[0].tolist()))


@pytest.mark.parametrize(("chosen", "place_"), [(gtb.LEFT, (2, 1)), (gtb.RIGHT, (2, 3)), (gtb.UP, (1, 2)), (gtb.DOWN, (3, 2)), (0, (2, 2))])
def test_a_move_goes_one_tile_and_costs_labor(chosen, place_):
    p, s, a, e, r = empty_field((2, 2), (0, 0))
    assert move(p, s, e, chosen)[0] == place_
    assert s.labor[0].tolist() == [1.0 if chosen else 0.0, 0.0]


def test_an_earlier_mover_frees_its_tile_and_blocks_the_next():
    p, s, a, e, r = empty_field((2, 1), (2, 2))
    assert move(p, s, e, gtb.RIGHT, gtb.RIGHT) == [(2, 1), (2, 3)]
    p, s, a, e, r = empty_field((2, 1), (2, 2))
    assert move(p, s, e, gtb.RIGHT, gtb.RIGHT, order=[1, 0]) == [(2, 2), (2, 3)]
    p, s, a, e, r = empty_field((2, 1), (2, 3))
    assert move(p, s, e, gtb.RIGHT, gtb.LEFT, order=[1, 0]) == [(2, 1), (2, 2)]


def test_water_edges_and_other_peoples_houses_block():
    layout = [0] * 25
    layout[1] = maps.WATER
    p, s, a, e, r = empty_field((0, 0), (4, 4), layout=tuple(layout))
    for chosen in (gtb.LEFT, gtb.UP, gtb.RIGHT):
        assert move(p, s, e, chosen)[0] == (0, 0)
    below = (1 + p.margin) * p.stride + p.margin
    s.owner[0, below], s.ground[0, below] = 3, gtb.HOUSE | gtb.INSIDE
    assert move(p, s, e, gtb.DOWN)[0] == (0, 0)
    s.owner[0, below] = 2
    assert move(p, s, e, gtb.DOWN)[0] == (1, 0)
    assert not s.labor[0, 1] and s.labor[0, 0] == 1


def test_who_stands_on_a_resource_collects_without_acting():
    layout = [0] * 25
    layout[12], layout[13] = maps.WOOD, maps.STONE
    p, s, a, e, r = empty_field((2, 2), (2, 3), layout=tuple(layout), bonus=0.5)
    e.luck[0, 0, 1], e.luck[0, 1, 0] = 0.4, 0.6
    move(p, s, e)
    assert s.goods[0].tolist() == [[0, 2], [1, 0]]  # good luck brings a second unit, and takes one from the map
    assert s.labor[0].tolist() == [1, 1] and s.units.sum() == 0
    move(p, s, e)
    assert s.goods[0].tolist() == [[0, 2], [1, 0]]


def test_an_empty_source_regrows_when_its_draw_is_below_its_chance():
    layout = [0] * 25
    layout[12], layout[13] = maps.WOOD, maps.STONE
    p, s, a, e, r = empty_field((0, 0), (4, 4), layout=tuple(layout), regrowth_wood=0.1, regrowth_stone=0.2)
    s.units[...] = 0
    s.ground &= ~np.uint8(3)
    e.regrowth[0] = 0.15, 0.15
    gtb.regrow(p, s, e)
    assert s.units.sum() == 1 and views.inner(p, s.ground)[0, 2, 3] == gtb.INSIDE | 16 | 1
    e.regrowth[0] = 0.0, 0.0
    gtb.regrow(p, s, e), gtb.regrow(p, s, e)
    assert s.units.sum() == 2  # no more than one unit on a tile


def test_neighbours_help_a_source_to_regrow():
    layout = [0] * 25
    layout[12], layout[13], layout[14] = maps.WOOD, maps.WOOD, maps.STONE
    p, s, a, e, r = empty_field((0, 0), (4, 4), layout=tuple(layout), regrowth_wood=0.9, halfwidth_wood=1, most_wood=2)
    s.units[0, s.source[0]] = 0, 2, 1
    s.ground[0, s.source[0, 0]] = gtb.INSIDE | 32
    for u, grows in ((0.31, False), (0.29, True)):  # 0.9 / 9 for itself and twice for two units beside it
        e.regrowth[0] = u
        gtb.regrow(p, s, e)
        assert (s.units[0, s.source[0, 0]] == 1) == grows


# -- taxes

def test_an_income_is_taxed_bracket_by_bracket_and_all_of_it_comes_back():
    p, s, a, e, r = empty_field((0, 0), (4, 4), coin=((100.0, 20.0),), last_coin=((50.0, 20.0),), tax_day=100)
    s.rates[...] = 0.1, 0.2, 0.5, 0, 0, 0, 0
    gtb.tax(p, s, a, e)
    due = 0.1 * 9.7 + 0.2 * (39.475 - 9.7) + 0.5 * (50 - 39.475)
    assert s.tax_paid[0] == approx([due, 0]) and s.lump_sum[0] == approx(due / 2)
    assert s.coin[0] == approx([100 - due / 2, 20 + due / 2]) and (s.last_coin == s.coin).all()
    assert s.last_income[0].tolist() == [50, 0] and s.last_marginal[0].tolist() == [0.5, 0.1]
    assert s.last_effective[0] == approx([due / 50, 0]) and s.tax_day[0] == 1 and s.occupancy[0, :3].tolist() == [1, 0, 1]


def test_what_bids_have_set_aside_is_income_but_is_not_seized():
    p, s, a, e, r = empty_field((0, 0), (4, 4), coin=((1.0, 0.0),), coin_escrow=((99.0, 0.0),), tax_day=100)
    s.rates[...] = 1.0
    gtb.tax(p, s, a, e)
    assert s.last_income[0, 0] == 100 and s.tax_paid[0].tolist() == [1, 0] and s.coin[0].tolist() == [0.5, 0.5]


def test_the_planner_sets_rates_on_the_first_day_and_zero_keeps_them():
    p, s, a, e, r = empty_field((0, 0), (4, 4), rate=(0, 1, 2, 21, 0, 22, 4))
    s.rate_index[0, 4] = 7
    gtb.tax(p, s, a, e)
    assert s.rates[0] == approx([0, 0, 0.05, 1, 0.35, 0, 0.15]) and (s.rates == s.posted_rates).all()
    a.rate[...] = 5
    gtb.tax(p, s, a, e)
    assert s.rates[0, 0] == 0 and s.tax_day[0] == 3


@pytest.mark.parametrize(("spacing", "want"), [
    (taxes.US, [0, 9.7, 39.475, 84.2, 160.725, 204.1, 510.3]), (taxes.LINEAR, [0, 25, 50, 75, 100]),
    (taxes.LOGARITHMIC, [0, 12.5, 25, 50, 100])])
def test_brackets_are_spaced_as_asked(spacing, want):
    assert taxes.cutoffs(adjust(gtb.Params(), bracket_spacing=spacing)) == approx(want)


def test_annealing_opens_the_rates_slowly():
    p = adjust(gtb.Params(), annealing=(-100, 0.001))
    assert taxes.highest(p, np.array([0, 400, 900, 5000])) == approx([0.1, 0.5, 1.0, 1.0])
    s = world(NAME, **FLAT_MAP, annealing=(-100, 0.001))[1]
    assert s.planner_mask.reshape(7, 22)[0].tolist() == [1] * 4 + [0] * 18  # none, 0, 5 and 10 percent


def test_the_elasticity_is_the_slope_of_log_income_on_the_log_of_what_is_left():
    rate = np.linspace(0.1, 0.7, 50)
    assert taxes.estimate(30 * (1 - rate) ** 0.4, rate, 0.5) == approx(0.02 * 0.4 + 0.98 * 0.5)
    assert taxes.estimate(30 * (1 - rate) ** -0.4, rate, 0.5) == approx(0.98 * 0.5)  # never negative
    assert taxes.estimate(np.full(50, 30.0), np.full(50, 0.2), 0.5) == 0.5  # nothing can be learned


def test_the_saez_formula_by_hand():
    """All incomes in bin 30 of 100: there g is half of its value 1 below them, and a = 30.5 / 0.5; with nobody above, the top rate is 1."""
    rates = taxes.saez(np.array([0.0, 50.0, 100.0]), np.full(500, 30.5), 1.0, taxes.UNIFORM_WEIGHTS)
    tau = 0.5 / (0.5 + 61)
    schedule = [*(tau * (k + 1) / 31 for k in range(31)), *(tau + (1 - tau) * (k - 30) / 70 for k in range(31, 100))]
    assert rates == approx([np.mean(schedule[:50]), np.mean(schedule[50:]), 1], abs=1e-7)


def test_rates_are_random_until_the_formula_has_seen_enough():
    p, s, a, e, r = empty_field((0, 0), (4, 4), tax_model=gtb.SAEZ, samples=499)
    e.random_rate[...] = 0.3
    gtb.tax(p, s, a, e)
    assert s.rates[0] == approx([0.3] * 7)


def test_shared_incomes_are_those_that_all_remembered_when_their_episodes_began_and_the_own_since():
    p, s, *_ = world(NAME, replicas=2, **FLAT_MAP, tax_model=gtb.SAEZ, saez_shared=True)
    s.pool_samples[...], s.samples[...] = (2, 501), (3, 503)
    s.pool_income[0, :3], s.pool_income[1] = (10, 20, 99), np.arange(1000, 1500)
    s.sample_income[0, :3], s.sample_income[1, :4] = (10, 20, 30), (77, 40, 50, 88)
    s.pool_rate[0, :2], s.sample_rate[0, 2], s.sample_rate[1, 1:3] = (0.1, 0.2), 0.3, (0.4, 0.5)
    before = [10, 20, *range(1000, 1500)]
    for b, since, rates in ((0, [30], [0.3]), (1, [40, 50], [0.4, 0.5])):
        income, rate = taxes.known(p, s, b)
        assert income.tolist() == before + since and rate[:2].tolist() == [0.1, 0.2] and rate[502:].tolist() == rates
    alone = adjust(p, saez_shared=False)
    assert taxes.known(alone, s, 0)[0].tolist() == [10, 20, 30]
    assert taxes.known(alone, s, 1)[0][-3:].tolist() == [77, 40, 50] and len(taxes.known(alone, s, 1)[0]) == 500


# -- other components

def test_wealth_is_redistributed_equally():
    p, s, *_ = empty_field((0, 0), (4, 4), coin=((10.0, 0.0),), coin_escrow=((0.0, 6.0),))
    gtb.redistribute(p, s)
    assert s.coin[0].tolist() == [8, 2]


def test_hours_earn_coins_by_skill():
    p, s, *_ = world(NAME, **{**WORLDS["work"], "skill": (1.0, 2.0, 3.0, 4.0, 5.0), "labor": 7.0})
    s.doing[0, :, gtb.DO_WORK] = 0, 10, 0, 0, 100
    gtb.work(p, s)
    assert s.coin[0].tolist() == [0, 20, 0, 0, 500] and s.labor[0].tolist() == [7, 10, 7, 7, 100]


def test_labor_skills_rise_with_the_number_of_the_agent():
    skill = world(NAME, **WORLDS["work"])[1].skill[0]
    assert (np.diff(skill) > 0).all() and skill[0] >= 1 and skill[-1] <= 3


# -- rewards

def test_a_reward_is_the_change_of_utility():
    p, s, a, e, r = empty_field((0, 0), (4, 4), crra=(0.0,), energy_cost=0.5)
    s.coin[0], s.labor[0] = (3, 0), (2, 4)
    gtb.reward(p, s, r)
    assert r.mobile[0] == approx([3 - 0.5 * 2, -0.5 * 4]) and r.planner[0] == approx(0, abs=1e-9)  # one owns all: no equality
    s.coin[0] = 3, 3
    gtb.reward(p, s, r)
    assert r.mobile[0] == approx([0, 3]) and r.planner[0] == approx(3)


def test_utility_of_coins_is_isoelastic_and_logarithmic_at_one():
    for eta, want in ((0.23, (16**0.77 - 1) / 0.77), (1.0, np.log(16)), (2.0, 1 - 1 / 16)):
        p, s, a, e, r = empty_field((0, 0), (4, 4), crra=(eta,), starting_coin=(1.0,))
        s.coin[0] = 16
        gtb.reward(p, s, r)
        assert r.mobile[0] == approx([want, want])


def test_labor_weighs_more_with_every_rewarding_period():
    p, s, a, e, r = empty_field((0, 0), (4, 4), energy_warmup=10.0, warmup_method=gtb.AUTO)
    assert s.energy_weight[0] == 0
    for k, coin in enumerate((1, 2, 2, 3)):
        s.coin[...] = coin
        gtb.reward(p, s, r)
        assert s.energy_weight[0] == approx(1 - np.exp(-min(k + 1, 2 + (k == 3)) / 10))


def test_classes_differ_in_what_labor_costs_them():
    p, s, a, e, r = empty_field((0, 0), (2, 2), (4, 4), class_sizes=(1, 2), move_labor=(1.0, 3.0), starting_coin=(5.0, 9.0))
    assert s.coin[0].tolist() == [5, 9, 9] and s.kind[0].tolist() == [0, 1, 1]
    move(p, s, e, gtb.RIGHT, gtb.RIGHT, gtb.LEFT)
    assert s.labor[0].tolist() == [1, 3, 3]


def test_equality_and_welfare_are_those_of_the_recorded_table():
    for case in json.loads(golden("gtb_social_metrics.json").read_text()):
        assert views.equality(np.array([case["endowments"]]))[0] == approx(case["equality"], abs=1e-12), case["n"]
        for values, want in (({}, "eq_prod_w1"), ({"equality_weight": 0.65}, "eq_prod_w065"),
                             ({"planner_goal": gtb.INCOME_WEIGHTED_COIN}, "inv_coin")):
            s = world(NAME, **{**FLAT_MAP, "height": 11, "width": 11, "layout": (0,) * 121, "n_agents": case["n"], **values,
                               "starting_coin": tuple(case["endowments"]), "class_sizes": (1,) * case["n"]})[1]
            assert s.welfare[0] == approx(case[want], rel=1e-12), (case["n"], want)


# -- starts

def test_fixed_payments_and_corners_are_those_of_the_recorded_table():
    table = json.loads(golden("gtb_fixed_four.json").read_text())
    for key, told in table.items():
        n, cap = (int(part) for part in key.removeprefix("n").split("_pmsm"))
        assert 10 * maps.ranked(n, float(cap), maps.RANKED_DRAWS, 1) == approx(told["avg_ranked_payment"], rel=1e-12), key
        assert maps.corner_starts(n, 25, 25) == [tuple(place_) for place_ in told["ranked_locs"]], key


def test_four_agents_start_in_the_corners_with_the_payments_of_their_ranks():
    s = world(NAME)[1]
    assert sorted(zip(s.row[0], s.col[0])) == [(0, 0), (0, 24), (24, 0), (24, 24)]
    payment = dict(zip(zip(s.row[0].tolist(), s.col[0].tolist()), s.build_payment[0]))
    assert payment[0, 24] == approx(11.331640623590097) and payment[24, 24] == approx(22.249614304395735)


def test_the_most_skilled_start_above_the_water_of_a_split_world():
    batch = Batch(envs.load(NAME), adjust(gtb.Params(), scenario=maps.SPLIT, layout=(1,)), 20, backend="numpy", seed=1)
    best = batch.s.build_payment.argmax(1)
    above = batch.s.row < 12
    assert above.sum(1).tolist() == [1] * 20 and (above.argmax(1) == best).all()
    assert (views.inner(batch.p, batch.s.ground)[:, 12] == gtb.INSIDE | gtb.WATER).all()


COUNTS = {"open_quadrant": (33, 20, 20), "open_quadrant_dry": (0, 20, 20), "closed_quadrant": (49, 20, 20), "mixed_15x15": (21, 12, 23),
          "mixed_25x25": (37, 45, 43), "mixed_40x40": (0, 36, 27), "quadrant_40x40": (108, 51, 49), "quadrant_40x40_dry": (0, 51, 49),
          "small_9x9": (15, 9, 13), "top_wood_bottom_stone_14x14": (0, 9, 9), "scattered_25x25": (0, 24, 27)}


@pytest.mark.parametrize("name", maps.SHIPPED)
def test_shipped_layouts_have_the_counts_of_the_published_ones(name):
    codes = maps.read(name)
    assert tuple(int((codes == code).sum()) for code in (maps.WATER, maps.STONE, maps.WOOD)) == COUNTS[name]
    p = adjust(gtb.Params(), **maps.named(name))
    assert (maps.layout_tiles(p.layout, p.height, p.width) == codes).all()


def test_any_file_in_the_format_is_a_layout(tmp_path):
    (tmp_path / "mine.txt").write_text("W @;\n S ;\nA  ;\n")
    assert maps.named(tmp_path / "mine.txt") == {"height": 3, "width": 3, "layout": (2, 0, 3, 0, 1, 0, 0, 0, 0)}
    (tmp_path / "bad.txt").write_text("W @;S;")
    with pytest.raises(ValueError, match="rows of one length"):
        maps.read(tmp_path / "bad.txt")
    with pytest.raises(ValueError, match="did you mean 'open_quadrant'"):
        maps.read("open_quadrent")
    with pytest.raises(ValueError, match="set params.height and params.width"):
        world(NAME, layout=(8,))


@pytest.mark.parametrize("scenario", [maps.UNIFORM, maps.MULTI_ZONE, maps.QUADRANT])
def test_procedural_maps_cover_what_they_should(scenario):
    p = adjust(gtb.Params(), scenario=scenario, wood_coverage=0.05, stone_coverage=0.05)
    ground = views.inner(p, Batch(envs.load(NAME), p, 8, backend="numpy", seed=2).s.ground)
    for bit in gtb.SOURCE:
        assert ((ground & bit) > 0).mean((1, 2)) == approx([0.05] * 8, rel=0.41)
    assert not ((ground & gtb.SOURCE[0]) > 0)[(ground & gtb.SOURCE[1]) > 0].any()
    assert len({layer.tobytes() for layer in ground}) == 8  # every replica has its own


@pytest.mark.parametrize(("values", "sentence"), [
    ({"order": (0, 0)}, "params.order must name each component once"), ({"n_agents": 300, "fixed_four": False}, "at most 253"),
    ({"class_sizes": (1, 1)}, "must add up to n_agents"), ({"tax_model": 3}, "a rate for each of 7 brackets"),
    ({"order": (4, 0)}, "must end with component 4")])
def test_params_that_do_not_fit_are_one_sentence(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        world(NAME, **values)


# -- whatever happens

PARAMS = st.fixed_dictionaries({
    "n_agents": st.integers(2, 6), "multi_action": st.booleans(), "max_orders": st.integers(1, 3), "order_duration": st.integers(0, 4),
    "max_price": st.integers(1, 4), "order": st.permutations([0, 1, 2, 3]).map(tuple), "most_wood": st.integers(1, 2),
    "scenario": st.sampled_from([maps.LAYOUT, maps.SPLIT, maps.UNIFORM, maps.MULTI_ZONE, maps.QUADRANT])})
RANDOM = dict.fromkeys(("mobile", "planner"), "random")


def anywhere(values, **more):
    """Params of a small world of any scenario; multi-zone maps need some room."""
    room = {"height": 16, "width": 16} if values["scenario"] == maps.MULTI_ZONE else {}
    covered = {"wood_coverage": 0.1, "stone_coverage": 0.1}
    return adjust(gtb.Params(), **{**SMALL, "starting_coin": (8.0,), **covered, **room, **values, **more})


def crossed(p, s, b, g):
    """Pairs of a bid and an ask of different owners with bid >= ask."""
    rows = [row for row in book.rows(p, s, b) if row[0] == g]
    return [(bid, ask) for bid in rows for ask in rows
            if (bid[1], ask[1]) == (0, 1) and bid[2] != ask[2] and bid[3] >= ask[3]]


@quick
@given(PARAMS, st.sampled_from([0.0, 0.3]), st.integers(0, 10**6))
def test_nothing_is_lost_nobody_trades_with_himself_and_the_book_never_crosses(values, regrowth, seed):
    p = anywhere(values, regrowth_stone=regrowth, regrowth_wood=regrowth)
    batch = Batch(envs.load(NAME), p, 3, backend="numpy", seed=seed, real=np.float64, rules=RANDOM)
    batch.s.goods[...] = 2
    lying, houses = batch.s.units.sum(1, dtype=int), np.zeros(3, int)  # units and houses on the ground

    def watch(before, s):
        for law, broken_by in gtb.INVARIANTS.items():
            assert np.abs(broken_by(p, before, s)).max() < 1e-12, law
        for b in range(3):
            for _, buyer, seller, bid, ask, price, bid_age, ask_age in s.trades[b, :s.n_trades[b]].tolist():
                assert buyer != seller and price == (ask if bid_age <= ask_age else bid) and bid >= ask
            assert not crossed(p, s, b, 0) and not crossed(p, s, b, 1)
            for orders_ in (*s.bids[b], *s.asks[b]):
                assert (np.diff(orders_) >= 0).all()
        grown = s.units.sum(1, dtype=int) - lying + (s.gathered > 0).sum((1, 2))  # who finds two units takes one from the ground
        assert (grown >= 0).all() and (regrowth or not grown.any())
        lying[...] = s.units.sum(1, dtype=int)
        assert ((s.ground & 3 > 0) == (s.units > 0)).all() and (s.units <= 2).all() and not s.units[(s.ground & 48) == 0].any()
        houses[...] += s.built.sum(1)
        assert ((s.ground & gtb.HOUSE > 0).sum(1) == houses).all() and ((s.owner > 0).sum(1) == houses).all()
        assert sorted(np.argwhere(s.occupant[0] > 0)[:, 0]) == sorted(gtb.tile(p, s.row, s.col)[0])

    batch.watch = watch
    for _ in range(12):
        batch.step({})


def each_alone(p, s, i):
    """A world for every option of every head, side by side as in a mask, with the actions in which agent i alone takes it."""
    n = p.n_mask
    worlds = gtb.State(**{name: np.repeat(array, n, 0) for name, array in vars(s).items()})
    a, e, r = (allocate(cls, gtb, p, n, np, np.float64) for cls in (gtb.Actions, gtb.Shocks, gtb.Rewards))
    head = np.repeat(np.arange(p.n_spaces), gtb.heads(p))
    a.action[np.arange(n), i, head] = np.concatenate([np.arange(options) for options in gtb.heads(p)])
    e.order[...] = np.arange(p.n_agents)
    e.luck[...] = e.regrowth[...] = 0.999
    return worlds, a, e, r, a.action.any((1, 2))


def lived_in(values, seed):
    """A batch of one replica after some periods of random play, and one of its agents."""
    batch = Batch(envs.load(NAME), anywhere(values, starting_coin=(3.0,)), 1, backend="numpy", seed=seed, real=np.float64, rules=RANDOM)
    batch.s.goods[...] = 1
    for _ in range(1 + seed % 8):
        batch.step({})
    return batch, seed % batch.p.n_agents


@quick
@given(PARAMS, st.integers(0, 10**6))
def test_masks_are_what_the_components_accept(values, seed):
    """In every state, an action does something if and only if it is legal, wherever its component stands in the order."""
    batch, i = lived_in(values, seed)
    p = batch.p
    s, a, e, _, tries = each_alone(p, batch.s, i)
    gtb.choose(p, s, a)
    deed, labor, before = s.doing[:, i].argmax(-1), s.labor[:, i].copy(), gtb.tile(p, s.row[:, i], s.col[:, i])
    gtb.build(p, s)
    builds = s.built[:, i] == 1
    labor += builds * p.build_labor[0]
    gtb.trade(p, s)
    orders_ = s.labor[:, i] > labor
    gtb.gather(p, s, e)
    moves = gtb.tile(p, s.row[:, i], s.col[:, i]) != before
    acted = np.select([deed == gtb.DO_BUILD, deed == gtb.DO_MOVE], [builds, moves], orders_) | ~tries
    assert acted.tolist() == batch.s.mask[0, i].astype(bool).tolist()


@quick
@given(PARAMS, st.integers(0, 10**6))
def test_a_period_with_an_illegal_action_is_one_without_it_and_with_a_legal_one_is_not(values, seed):
    """In the usual order of components; another one may take or give what an action needs before its turn comes."""
    batch, i = lived_in({**values, "order": (gtb.BUILD, gtb.AUCTION, gtb.GATHER, gtb.TAX)}, seed)
    s, a, e, r, tries = each_alone(batch.p, batch.s, i)
    gtb.step(batch.p, s, a, e, r)
    differs = np.zeros(len(tries), bool)
    for name in vars(s).keys() - {"doing"}:
        array = getattr(s, name).reshape(len(tries), -1)
        differs |= (array != array[0]).any(1)  # the first option is to do nothing
    assert (differs | ~tries).tolist() == batch.s.mask[0, i].astype(bool).tolist()


@quick
@given(PARAMS, st.integers(0, 10**6))
def test_a_planner_sets_the_rates_that_are_legal_and_no_other(values, seed):
    batch, _ = lived_in({**values, "rate_step": 0.25}, seed)
    p, n = batch.p, 1 + batch.p.n_rates
    s = gtb.State(**{name: np.repeat(array, n, 0) for name, array in vars(batch.s).items()})
    a, e, _ = (allocate(cls, gtb, p, n, np, np.float64) for cls in (gtb.Actions, gtb.Shocks, gtb.Rewards))
    a.rate[...] = np.arange(n)[:, None]
    before = s.rates.copy()
    gtb.tax(p, s, a, e)
    legal = batch.s.planner_mask.reshape(p.n_brackets, n).astype(bool).T
    wanted = np.concatenate([before[:1], np.broadcast_to(taxes.levels(p)[:, None], (n - 1, p.n_brackets))])
    assert s.rates == approx(np.where(legal, wanted, before))


@quick
@given(st.integers(0, 2**31), st.integers(0, 10**6))
def test_random_play_takes_legal_options_only(seed, clock):
    p, s, a, e, r = world(NAME, seed=3, replicas=4, **SMALL)
    e.address[...] = [[b, clock, seed, 7] for b in range(4)]
    gtb.play(p, s, a, e)
    assert np.take_along_axis(s.mask, a.action.astype(int), -1).all()
    assert np.take_along_axis(s.planner_mask.reshape(4, p.n_brackets, -1), a.rate[:, :, None].astype(int), -1).all()


def test_a_permutation_of_agents_is_drawn_with_equal_chances():
    p = adjust(gtb.Params(), **SMALL, n_agents=3)
    s = gtb.initial_state(p, 6000, np, None, np.float64)
    e = allocate(gtb.Shocks, gtb, p, 6000, np, np.float64)
    e.address[:, 0] = np.arange(6000)
    gtb.draw(p, s, e)
    assert (np.sort(e.order) == np.arange(3)).all()
    found = np.unique(e.order @ np.array([9, 3, 1]), return_counts=True)[1]
    assert len(found) == 6 and (abs(found - 1000) < 4 * 29).all()  # four standard deviations
    assert len(np.unique(e.luck)) > 30_000 and abs(e.luck.mean() - 0.5) < 0.01


@needs_compiler
def test_a_compiled_batch_plays_what_the_definition_plays():
    economy = dataclasses.replace(envs.load(NAME), horizon=15)
    p = adjust(gtb.Params(), **{**SMALL, "annealing": (-2, 0.2), "energy_warmup": 3.0, "starting_coin": (6.0,)})
    rules = dict.fromkeys(("mobile", "planner"), "random")
    worlds = [Batch(economy, p, 3, backend=backend, seed=5, rules=rules) for backend in ("numpy", "native")]
    for _ in range(40):
        rewards = [batch.step({})[0] for batch in worlds]
        for type_ in rewards[0]:
            assert rewards[0][type_] == approx(rewards[1][type_], abs=1e-12)
    one, other = (batch.state_dict() for batch in worlds)
    for key, value in one.items():
        assert value == approx(other[key], rel=1e-12, abs=1e-12), key
