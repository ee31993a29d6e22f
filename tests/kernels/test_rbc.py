"""The real-business-cycle economy: numbers worked out by hand, what must always hold, scripted episodes, random play."""
from copy import deepcopy

import numpy as np
import pytest
from pytest import approx

import envs
from envs.core.batch import Batch
from kernels import rbc
from kernels.core.launch import use
from rllib_macro.replay import RBC_ATOL
from tests.worlds import BACKENDS, world

SMALL = {"n_consumers": 7, "n_firms": 3}
WORLDS = {  # where definition and twin are compared; the first one has every switch on and its last quarter next
    "everything on": {**SMALL, "interest": 0.1, "gift": 0.01, "crra": 0.5, "boost": 0.5, "labor_floor": 700.0, "horizon": 4,
                      "ponzi_consumer": 0.5, "ponzi_firm": 2.0, "theta_pareto": 0.0, "firm_reward_weight": 0.0},
    "as published": {"gift": 0.01, "clamp_budget": False},
    "small": SMALL,
    "closed": {**SMALL, "open_economy": False, "income_tax": 0.2, "corporate_tax": 0.4},
    "log utility": {**SMALL, "crra": 1.0, "crra_shift": 0.5},
    "last quarter in debt": {**SMALL, "horizon": 4, "ponzi_consumer": 0.1, "ponzi_firm": 2.0, "budget": -5000.0, "firm_budget": -1e6,
                             "boost": 0.3, "interest": 0.1},
    "debtors want to buy": {**SMALL, "clamp_budget": False, "budget": (-50.0, 0.0, 10.0, 700.0, 2000.0, 5.0, 10000.0), "inventory": 3.0},
    "debtors may not buy": {**SMALL, "budget": (-50.0, 0.0, 10.0, 700.0, 2000.0, 5.0, 10000.0), "inventory": 3.0},
    "free goods": {**SMALL, "price": 0.0, "budget": 0.0, "inventory": (0.0, 5.0, 500.0)},
    "nobody works": {**SMALL, "hours": 0.0},
    "one consumer, one firm": {"n_consumers": 1, "n_firms": 1, "budget": 1e4, "inventory": 1.5},
    "many firms": {"n_consumers": 2, "n_firms": 13, "labor_share": (0.5, 0.1), "initial_capital": (1.0, 2.0, 3.0)},
}
FLOAT32 = RBC_ATOL
BOTH = pytest.mark.parametrize("backend", BACKENDS)


def village(wants=0, **values):
    """Two consumers and one firm in the first quarter; consumers want `wants` units, nobody does anything else yet."""
    p, s, a, e, r = world("rbc", **{"n_consumers": 2, "n_firms": 1, "price": 10.0, "wage": 5.0, **values})
    a.demand[...] = wants
    return p, s, a, e, r


# -- baskets

def test_a_basket_shrinks_to_the_budget():
    p, s, a, e, r = village(budget=(20, 1000), wants=3)
    rbc.afford(p, s, a)
    assert s.basket[0, :, 0] == approx([2, 3])
    assert s.demand[0] == approx([5])


def test_all_goods_of_a_basket_shrink_alike():
    p, s, a, e, r = village(n_consumers=1, n_firms=2, price=(10, 30), budget=40, wants=(2, 1))  # costs 50
    rbc.afford(p, s, a)
    assert s.basket[0, 0] == approx([1.6, 0.8])


def test_who_can_just_pay_gets_all():
    p, s, a, e, r = village(budget=30, wants=3)
    rbc.afford(p, s, a)
    assert (s.basket == 3).all()


def test_free_goods_need_no_money():
    p, s, a, e, r = village(price=0, budget=0, wants=4)
    rbc.afford(p, s, a)
    assert (s.basket == 4).all()


def test_who_has_nothing_buys_nothing():
    p, s, a, e, r = village(budget=0, wants=4)
    rbc.afford(p, s, a)
    assert (s.basket == 0).all()


@pytest.mark.parametrize(("clamp", "basket"), [(True, 0), (False, -1)])
def test_a_debtor_buys_nothing_or_in_the_released_program_less_than_nothing(clamp, basket):
    p, s, a, e, r = village(clamp_budget=clamp, budget=-10, wants=3)
    rbc.afford(p, s, a)
    assert s.basket[0, :, 0] == approx(basket)


def test_wages_of_this_quarter_cannot_be_spent_now():
    p, s, a, e, r = village(budget=0, wants=1, hours=1000, inventory=10)
    rbc.step(p, s, a, e, r)
    assert s.sold == 0 and s.budget[0] == approx([5000, 5000])


# -- work

def test_everybody_who_comes_is_hired():
    p, s, a, e, r = world("rbc", n_consumers=3, n_firms=2, hours=(100, 20, 3), employer=(1, 0, 1), wage=(2, 10), income_tax=0.25)
    rbc.hire(p, s, a)
    assert s.labor[0] == approx([20, 103])
    assert s.wage_bill[0] == approx([40, 1030])
    assert s.income[0] == approx([750, 30, 22.5])


# -- sales

def test_a_short_firm_serves_pro_rata():
    p, s, a, e, r = village(inventory=1, basket=[[3], [1]], demand=4)
    rbc.deliver(p, s)
    assert s.bought[0, :, 0] == approx([0.75, 0.25])
    assert s.sold == approx(1) and s.rationed == 1
    assert s.spending[0] == approx([7.5, 2.5])


@pytest.mark.parametrize(("inventory", "flag"), [(4, 0), (4 + 1e-9, 0), (4 - 1e-9, 1)])
def test_a_stock_that_just_suffices_is_not_short(inventory, flag):
    p, s, a, e, r = village(inventory=inventory, basket=2, demand=4)
    rbc.deliver(p, s)
    assert s.rationed == flag
    assert s.bought[0, :, 0] == approx([2, 2], abs=1e-8)


def test_an_empty_shelf_that_nobody_wants_is_not_short():
    p, s, a, e, r = village(inventory=0, rationed=1)
    rbc.deliver(p, s)
    assert s.rationed == 0 and s.sold == 0


@pytest.mark.parametrize(("price", "exported"), [(499.99, 0), (500, 3), (2500, 3)])
def test_the_world_buys_from_its_price_on_at_the_firms_price(price, exported):
    p, s, a, e, r = village(price=price, inventory=5, sold=2)
    rbc.sell_abroad(p, s)
    assert s.exported == exported
    assert s.revenue == approx((2 + exported) * price)


@pytest.mark.parametrize(("inventory", "exported"), [(50, 50), (100, 100), (150, 100)])
def test_the_world_buys_up_to_its_quota(inventory, exported):
    p, s, a, e, r = village(price=500, inventory=inventory)
    rbc.sell_abroad(p, s)
    assert s.exported == exported


def test_a_closed_economy_sells_nothing_abroad():
    p, s, a, e, r = village(price=500, inventory=50, sold=1, open_economy=False)
    rbc.sell_abroad(p, s)
    assert s.exported == 0 and s.revenue == 500


def test_consumers_are_served_before_the_world():
    p, s, a, e, r = village(price=500, inventory=3, budget=1e6, wants=2)
    rbc.step(p, s, a, e, r)
    assert s.sold == approx(3) and s.exported == 0


# -- production

def test_output_is_cobb_douglas():
    p, s, a, e, r = village(initial_capital=(10000.0,), labor_share=(0.5,), productivity=0.01, inventory=7, sold=2, exported=4, labor=2500)
    rbc.produce(p, s)
    assert s.produced == approx(0.01 * 100 * 50)
    assert s.inventory == approx(7 - 2 - 4 + 50)


def test_alpha_is_the_exponent_of_labour():
    p, s, a, e, r = village(labor_share=(0.25,), initial_capital=(16.0,), productivity=1, labor=81)
    rbc.produce(p, s)
    assert s.produced == approx(16**0.75 * 81**0.25)  # 8 times 3


@pytest.mark.parametrize(("labor", "produced"), [(299.9, 0), (300, 300)])
def test_below_the_labour_floor_nothing_is_made(labor, produced):
    p, s, a, e, r = village(labor_floor=300, labor_share=(1.0,), productivity=1, labor=labor)
    rbc.produce(p, s)
    assert s.produced == approx(produced)
    assert s.labor == labor  # and paid


def test_investment_produces_from_the_next_quarter_on():
    p, s, a, e, r = village(labor_share=(0.0,), initial_capital=(100.0,), productivity=1, price=500, inventory=20, hours=0)
    rbc.step(p, s, a, e, r)
    assert s.invested == approx(1000) and s.capital == approx(1100)  # a tenth of 20 units exported at 500
    assert s.produced == approx(100)


# -- firms

def test_a_surplus_is_invested_in_part_and_the_rest_taxed():
    p, s, a, e, r = village(firm_budget=50, corporate_tax=0.4, revenue=3000, wage_bill=2000, initial_capital=(7.0,))
    rbc.settle_firms(p, s, r)
    assert [s.invested, s.profit, s.tax_revenue, r.firm, s.firm_budget, s.capital] == approx([100, 900, 360, 540, 590, 107])


def test_a_loss_is_neither_invested_nor_taxed():
    p, s, a, e, r = village(firm_budget=50, corporate_tax=0.4, revenue=2000, wage_bill=3000, initial_capital=(7.0,))
    rbc.settle_firms(p, s, r)
    assert [s.invested, s.profit, s.tax_revenue, r.firm, s.firm_budget, s.capital] == approx([0, -1000, 0, -1000, -950, 7])


def test_interest_is_paid_on_money_not_on_debt_and_is_no_reward():
    p, s, a, e, r = world("rbc", n_consumers=2, n_firms=2, interest=0.1, firm_budget=(200, -200), budget=(100, -100))
    rbc.settle_firms(p, s, r)
    rbc.settle_consumers(p, s, a, r)
    assert s.firm_budget[0] == approx([220, -200]) and s.budget[0] == approx([110, -100])
    assert s.interest_paid == approx(30)
    assert not r.firm.any() and not r.consumer.any()


@pytest.mark.parametrize(("budget", "reward"), [(0, 1500), (-1000, 1000), (-999, 1500)])
def test_a_firm_out_of_debt_enjoys_its_revenue(budget, reward):
    p, s, a, e, r = village(boost=0.5, investment_share=0, firm_budget=budget, revenue=1000)
    rbc.settle_firms(p, s, r)
    assert r.firm == approx(reward)
    assert s.firm_budget == approx(budget + 1000)  # a reward, not money


# -- consumers

def test_the_tax_comes_back_in_equal_shares_also_to_who_does_not_work():
    p, s, a, e, r = village(income_tax=0.5, hours=(100, 0), budget=0, gift=0.01)
    rbc.step(p, s, a, e, r)
    assert s.tax_revenue == approx(250)  # half of 100 hours at 5
    assert s.budget[0] == approx([250 + 125.01, 125.01])


@pytest.mark.parametrize(("crra", "bought", "utility"), [(0, 3, 3), (0.5, 3, 2), (1, np.e - 1, 1), (2, 1, 0.5), (0.1, 0, 0)])
def test_utility_is_isoelastic(crra, bought, utility):
    p, s, a, e, r = village(crra=crra, bought=bought, theta=0)
    rbc.settle_consumers(p, s, a, r)
    assert r.consumer[0] == approx(utility)


def test_log_utility_is_the_limit():
    utility = {}
    for crra in (1 - 1e-8, 1):
        p, s, a, e, r = village(crra=crra, bought=[[3.0], [8.0]])
        rbc.settle_consumers(p, s, a, r)
        utility[crra] = r.consumer[0]
    assert utility[1] == approx(np.log([4, 9]))
    assert utility[1 - 1e-8] == approx(utility[1], rel=1e-6)


def test_an_hour_costs_half_its_disutility():
    p, s, a, e, r = village(theta=0.01, theta_pareto=0, hours=(1040, 0))
    rbc.settle_consumers(p, s, a, r)
    assert r.consumer[0] == approx([-5.2, 0])


@pytest.mark.parametrize(("period", "consumer", "firm"), [(9, -30, -15), (8, 0, 0), (0, 0, 0)])
def test_debt_is_punished_in_the_last_quarter_only(period, consumer, firm):
    p, s, a, e, r = village(ponzi_consumer=3, ponzi_firm=5, budget=(-10, 10), firm_budget=-300, period=period)
    rbc.penalise_debt(p, s, r)
    assert r.consumer[0] == approx([consumer, 0])
    assert r.firm == approx(firm)


# -- government

@pytest.mark.parametrize(("weight", "welfare"), [(0.0025, 5.5), (1, 1003), (0, 3)])
def test_welfare_weighs_firms(weight, welfare):
    p, s, a, e, r = village(firm_reward_weight=weight)
    r.consumer[...], r.firm[...] = (1, 2), 1000
    rbc.value_welfare(p, s, r)
    assert r.government == approx(welfare)


def test_what_is_posted_holds_in_the_next_quarter():
    p, s, a, e, r = village(income_tax=0.5, hours=100)
    a.price[...], a.wage[...], a.income_tax[...], a.corporate_tax[...] = 2000, 33, 0.2, 0.4
    rbc.step(p, s, a, e, r)
    assert s.income[0] == approx(250)  # at the old wage and tax
    assert [s.price, s.wage, s.income_tax, s.corporate_tax, s.period] == approx([2000, 33, 0.2, 0.4, 1])


# -- the first quarter

def test_the_able_suffer_less_from_work():
    s = world("rbc")[1]
    assert s.theta[0, [0, 99]] == approx([0.01, 0.0031623], abs=5e-8)
    assert (np.diff(s.theta[0]) < 0).all()
    assert world("rbc", theta_factor=0.5)[1].theta[0, 0] == approx(0.005)
    assert (world("rbc", theta_pareto=0)[1].theta == 0.01).all()


@pytest.mark.parametrize(("firms", "levels", "capital"), [
    (10, (5000, 10000), [5000] * 5 + [10000] * 5), (3, (5000, 10000), [5000, 10000, 10000]), (1, (5000, 10000), [10000]),
    (4, (1,), [1] * 4), (6, (1, 2, 3), [1, 1, 2, 2, 3, 3]),
])
def test_capital_has_a_level_for_each_group_of_firms(firms, levels, capital):
    assert world("rbc", n_firms=firms, initial_capital=levels)[1].capital[0].tolist() == capital


def test_labour_shares_are_repeated_over_the_firms():
    assert world("rbc", n_firms=13)[1].labor_share[0] == approx([0.2, 0.3, 0.4, 0.6, 0.8] * 2 + [0.2, 0.3, 0.4])


def test_the_first_quarter_is_the_published_one():
    p, s, *_ = world("rbc", replicas=3)
    assert s.firm_budget.shape == (3, 10) and (s.firm_budget == 2_200_000).all() and (s.budget == 2000).all()
    assert (s.price == 1000).all() and not any(x.any() for x in (s.wage, s.inventory, s.rationed, s.income_tax, s.corporate_tax, s.period))


# -- what must always hold

def test_productivity_returns_to_its_mean_after_a_shock_and_raises_output_in_proportion():
    p, s, a, e, r = village(hours=400.0, capital=16.0, labor_share=(0.5,), tfp_persistence=0.5)
    e.tfp[...] = np.log(2)
    rbc.step(p, s, a, e, r)
    assert s.produced[0, 0] == approx(0.01 * 4 * 800**0.5)  # seen now, at work next quarter
    e.tfp[...] = 0
    rbc.step(p, s, a, e, r)
    assert s.tfp[0] == approx(0.5 * np.log(2))
    rbc.produce(p, s)
    assert s.produced[0, 0] / s.capital[0, 0] ** 0.5 == approx(2**0.5 * 0.01 * 800**0.5)


@pytest.mark.parametrize(("broken", "plant"), [
    ("goods", lambda s: s.inventory.__iadd__(0.001)), ("goods", lambda s: s.sold.__imul__(1.001)),
    ("money", lambda s: s.budget.__iadd__(1)), ("money", lambda s: s.firm_budget.__iadd__(1)),
    ("money", lambda s: s.interest_paid.__iadd__(10)), ("no_negative_stock", lambda s: s.inventory.__isub__(1000)),
])
def test_a_planted_error_breaks_an_invariant(broken, plant):
    p, s, a, e, r = world("rbc", np.float64, 4, seed=5, interest=0.1, gift=0.01)
    before = deepcopy(s)
    rbc.step(p, s, a, e, r)
    error = {name: np.abs(invariant(p, before, s)).max() for name, invariant in rbc.INVARIANTS.items()}
    assert max(error.values()) < 1e-12
    plant(s)
    assert np.abs(rbc.INVARIANTS[broken](p, before, s)).max() > 1e-8


# -- scripted episodes of the released program

PUBLISHED = {"gift": 0.01, "clamp_budget": False}
SCRIPTS = {  # parameters; what everybody wants, hours, price, wage, income and corporate tax; rewards
    "S1": ({}, (10, 1040, 1000, 22, 0, 0), [-4.1807, -2.1994] + [4.1585] * 8, 2.6888, -128184.1),
    "S2": ({}, (0, 1040, 2500, 11, 0, 0), [-4.1807] * 10, -4.1807, 102832.9),
    "S3": ({"open_economy": False}, (1, 520, 500, 22, 0.2, 0.4),
           [-2.0904, 1.8394, 5.4860, 4.4372, 4.2005, 4.1267] + [4.0241] * 4, 3.4096, -74687.2),
    "S4": ({"interest": 0.1, "initial_wage": 22.0}, (2, 780, 1500, 33, 0.4, 0.6), [-3.1356] + [4.1790] * 9, 3.4475, -146921.3),
    "S5": ({"open_economy": False}, (5, 0, 1000, 22, 0, 0), [0] * 10, 0, 0),
}


def act_out(script, backend, dtype=np.float32):
    """Ten periods of one script: final state, (periods, consumers) and (periods, firms) rewards."""
    params, (demand, hours, price, wage, income_tax, corporate_tax), *_ = SCRIPTS[script]
    p, s, a, e, r = world("rbc", dtype, **PUBLISHED, **params)
    a.demand[...], a.hours[...], a.employer[...] = demand, hours, np.arange(p.n_consumers) % p.n_firms
    a.price[...], a.wage[...], a.income_tax[...], a.corporate_tax[...] = price, wage, income_tax, corporate_tax
    consumer, firm = [], []
    for _ in range(p.horizon):
        with use(backend):
            rbc.step(p, s, a, e, r)
        consumer.append(r.consumer[0].copy())
        firm.append(r.firm[0].copy())
    return s, np.array(consumer, float), np.array(firm, float)


@BOTH
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_scripted_episode_pays_what_the_released_program_paid(script, backend):
    *_, by_period, mean, firm_mean = SCRIPTS[script]
    _, consumer, firm = act_out(script, backend)
    assert consumer.mean(1).round(4) + 0.0 == approx(by_period, abs=1e-9)
    assert [consumer.mean().round(4) + 0.0, firm.mean().round(1) + 0.0] == approx([mean, firm_mean], abs=1e-6)


@BOTH
def test_the_scripted_stocks_capital_and_budgets_are_those_of_the_released_program(backend):
    assert act_out("S1", backend)[0].inventory[0].astype(float).round(3) == approx(
        [57.887, 62.286, 67.019, 77.590, 89.830, 100.788, 101.184, 101.581, 102.381, 103.187], abs=1e-6)
    assert act_out("S2", backend)[0].capital[0].astype(float).round(1) == approx(
        [102128.1, 106920.0, 110549.3, 115835.2, 121954.9] + [132040.0] * 5, abs=1e-6)
    idle = act_out("S5", backend)[0]
    assert (idle.rationed == 1).all() and idle.budget[0].astype(float).round(1) == approx(2000.1, abs=1e-6)


# -- random play: means of 128 replicas, and the standard errors of the published ones

STANDARD_ERRORS = (0.05, 1170, 29)
RANDOM = {"consumer": "random", "firm": "random", "government": "random"}
FIXED = RANDOM | {"firm": "constant(price=1000, wage=22)", "government": "constant(income_tax=0, corporate_tax=0)"}


@pytest.mark.parametrize(("params", "rules", "means"), [
    ({}, RANDOM, (5.80, -18267, 123)),
    ({"open_economy": False}, RANDOM, (5.68, -28496, -144)),
    ({"interest": 0.1, "initial_wage": 22.0}, RANDOM, (6.79, -29198)),
    ({"theta_factor": 0.0}, FIXED, (5.292, -43910, -568.5)),
], ids=["open", "closed", "template", "random consumers"])
def test_random_play_pays_on_average_what_was_published(params, rules, means):
    economy = envs.load("rbc")
    batch = Batch(economy, rbc.Params(**PUBLISHED, **params), 128, seed=2022, rules=rules)
    paid = [{type_: rewards.mean(1, dtype=float) for type_, rewards in batch.step({})[0].items()} for _ in range(10)]
    assert (batch.age == 0).all()  # a whole episode
    for type_, mean, error in zip(("consumer", "firm", "government"), means, STANDARD_ERRORS):
        by_replica = np.mean([rewards[type_] for rewards in paid], 0)
        own_error = by_replica.std(ddof=1) / len(by_replica) ** 0.5
        assert by_replica.mean() == approx(mean, abs=4 * np.hypot(error, own_error)), type_
