"""The monetary economy: numbers worked out by hand, phase by phase, and the stationary state. Its books are tested with `audit`."""
import numpy as np
import pytest
from pytest import approx

from kernels import monetary
from kernels.core.ledger import MICRO, coins
from tests.worlds import world

ONE = MICRO  # one coin


def town(**values):
    """Two consumers, one firm, one bank, no shocks; what is not named is as in the stationary state."""
    return world("monetary", **{"n_consumers": 2, "n_firms": 1, "n_banks": 1, **values})


# -- the stationary state

def test_the_stationary_state_solves_its_equations():
    p = monetary.Params(growth=0.0)
    at = monetary.stationary(p)
    r = p.neutral_rate + p.loan_margin + p.risk_premium * (p.leverage_target - 0.25) ** 2
    assert monetary.normal_loan_rate(p) == approx(r)
    assert at.output == approx(at.capital**p.capital_share * at.labor ** (1 - p.capital_share))
    assert p.capital_share * at.output / at.capital == approx(p.markup * (r + p.depreciation) / 4)  # marginal product over markup
    assert at.wage * at.labor / at.output == approx((1 - p.capital_share) / p.markup)
    assert at.consumption == approx(at.output * (1 - p.purchases_share) - p.depreciation / 4 * at.capital)


def test_patient_consumers_want_what_all_together_have():
    p, s, *_ = world("monetary", n_consumers=2000, n_firms=200, patient_target=1.0)
    wanted = (s.buffer * s.permanent_income * s.price_level).sum()
    assert wanted == approx(coins(s.deposits).sum(), rel=1e-9)


def test_every_bank_starts_with_its_target_capital_and_required_reserves():
    p, s, *_ = world("monetary", n_consumers=500, n_firms=50)
    assert s.equity == approx(p.capital_target * s.bank_loans, abs=1)
    assert (s.reserves >= np.rint(p.reserve_ratio * s.bank_deposits) - 1).all()


# -- policy and rates

def test_the_policy_rate_moves_by_the_step_and_stops_at_its_bounds():
    p, s, a, e, r = town(policy_rate=0.01, rate_step=-0.005)
    monetary.set_policy(p, s, a)
    assert s.policy_rate[0] == approx(0.005) and s.rate_change[0] == approx(-0.005)
    a.rate_step[...] = -0.02
    monetary.set_policy(p, s, a)
    assert s.policy_rate[0] == 0 and s.rate_change[0] == approx(-0.005)


def test_rates_are_the_policy_rate_and_a_spread():
    p, s, a, e, r = town(policy_rate=0.04, loan_spread=0.02, deposit_spread=0.01, firm_loans=0)
    a.leverage_limit[...] = 0.7
    monetary.post_rates(p, s, a)
    assert s.deposit_rate[0, 0] == approx(0.03) and s.base_rate[0, 0] == approx(0.06)
    monetary.price_loans(p, s)
    assert s.loan_rate[0, 0] == approx(0.06)  # no debt, no premium
    assert s.leverage_cap[0, 0] == 0.7


def test_asset_purchases_lower_the_rates_of_loans_and_new_bonds():
    p, s, a, e, r = town(policy_rate=0.04, loan_spread=0.02, deposit_spread=0.01, bonds_purchased=20 * ONE, nominal_output=50.0,
                         purchases_effect=0.05, bonds=100 * ONE, treasury=0, asset_purchases=0.05, coupon=0.01, term_premium=0.005)
    monetary.post_rates(p, s, a)
    assert s.base_rate[0, 0] == approx(0.06 - 0.05 * 0.1)  # a tenth of annual output: half a point
    monetary.balance_treasury(p, s, a)
    assert s.bonds_purchased[0] == 30 * ONE  # a twentieth of annual output more, and the coupon of new bonds with them
    assert s.coupon[0] == approx(0.01 + (0.04 + 0.005 - 0.05 * 0.15 - 0.01) / p.bond_maturity)


def test_leverage_costs_its_square():
    p, s, a, e, r = town(policy_rate=0.04, loan_spread=0.02, firm_loans=75 * ONE, capital_value=100 * ONE, inventory_cost=0,
                         firm_deposits=0)
    monetary.post_rates(p, s, a)
    monetary.price_loans(p, s)
    assert s.loan_rate[0, 0] == approx(0.06 + 0.1 * 0.5**2)


def test_investment_follows_a_smoothed_real_rate():
    p, s, a, e, r = town(firm_loans=0, real_rate=0.01, expected_inflation=0.02, rate_memory=0.4)
    s.base_rate[...] = 0.08
    monetary.price_loans(p, s)
    assert s.real_rate[0, 0] == approx(0.01 + 0.4 * 0.05)


def test_a_firm_that_changes_its_bank_pays_the_new_banks_rate_at_once():
    p, s, a, e, r = world("monetary", n_consumers=2, n_firms=1, n_banks=2, policy_rate=0.04, loan_spread=(0.03, 0.02), firm_loans=ONE,
                          firm_deposits=ONE, capital_value=100 * ONE, firm_bank=0, revenue=0)
    e.other_bank[...] = 1
    monetary.step(p, s, a, e, r)
    assert s.firm_bank[0, 0] == 1 and s.loan_rate[0, 0] == approx(0.06)
    assert s.moved_loans[0].tolist() == [-ONE, ONE]


# -- firms post terms

def test_a_price_moves_only_when_it_may():
    p, s, a, e, r = town(price=2.0, price_change=0.03, can_reprice=0)
    monetary.post_terms(p, s, a)
    assert s.price[0, 0] == 2.0
    s.can_reprice[...] = 1
    monetary.post_terms(p, s, a)
    assert s.price[0, 0] == approx(2 * np.exp(0.03))


def test_investment_is_a_multiple_of_depreciation():
    p, s, a, e, r = town(capital=100.0, price_level=2.0, investment=np.full((1, 1), 1.6))
    a.investment[...] = 1.6
    monetary.post_terms(p, s, a)
    assert s.investment_plan[0, 0] == approx(1.6 * 0.025 * 100)
    assert s.investment[0, 0] == 8 * ONE


# -- credit

def borrower(**values):
    """A firm with assets of 100 that wants to pay 50 in wages and owns nothing else."""
    return town(**{"capital_value": 100 * ONE, "inventory_cost": 0, "firm_loans": 0, "firm_deposits": 0, "loans": 0, "wage": 1.0,
                   "labor_wanted": 50.0, "leverage_cap": 0.75, "equity": 1000 * ONE, "sentiment": 0.0, **values})


def test_lending_creates_the_deposit():
    p, s, a, e, r = borrower()
    monetary.lend_to_firms(p, s)
    assert s.firm_loans[0, 0] == s.firm_deposits[0, 0] == s.firm_borrowed[0, 0] == 50 * ONE  # the wage bill
    assert s.rationed[0] == 0


def test_nobody_borrows_beyond_the_leverage_limit():
    p, s, a, e, r = borrower(labor_wanted=90.0)
    monetary.lend_to_firms(p, s)
    assert s.firm_loans[0, 0] == 75 * ONE


def test_a_bank_without_room_rations_all_alike():
    p, s, a, e, r = world("monetary", n_consumers=2, n_firms=2, n_banks=1, capital_value=100 * ONE, inventory_cost=0, firm_loans=0,
                          firm_deposits=0, loans=0, wage=1.0, labor_wanted=(20.0, 60.0), leverage_cap=0.75, equity=int(4.2 * ONE))
    monetary.lend_to_firms(p, s)  # 4.2 / 0.105 = 40 can be lent, 80 are asked for
    assert s.firm_loans[0] == approx([10 * ONE, 30 * ONE], abs=1)
    assert s.rationed[0] == approx(0.5)


def test_optimism_raises_the_debt_that_firms_want():
    p, s, a, e, r = borrower(labor_wanted=0.0, sentiment=0.1, sentiment_response=3.0, leverage_response=0.0, leverage_speed=0.5)
    monetary.lend_to_firms(p, s)
    assert coins(s.firm_loans)[0, 0] == approx(0.5 * 40 * np.exp(0.3))


def test_dear_loans_lower_the_debt_that_firms_want():
    p, s, a, e, r = borrower(labor_wanted=0.0, sentiment=0.0, leverage_response=5.0, leverage_speed=0.5, expected_inflation=0.02)
    s.loan_rate[...] = 0.02 + monetary.normal_loan_rate(p) + 0.03
    monetary.lend_to_firms(p, s)
    assert coins(s.firm_loans)[0, 0] == approx(0.5 * 40 * np.exp(-0.15))


def test_a_consumer_borrows_what_deposits_do_not_cover_up_to_his_line():
    p, s, a, e, r = town(deposits=(3 * ONE, 0), loans=0, firm_loans=0, permanent_income=5.0, price_level=1.0, spending=0, equity=1000 * ONE,
                         credit_line=0.2)
    a.spending[...], a.borrowing[...] = 1.0, 1.0
    monetary.lend_to_consumers(p, s, a)
    assert s.borrowed[0].tolist() == [2 * ONE, 4 * ONE]  # lines of 0.2 x 20
    assert s.spending[0].tolist() == [5 * ONE, 4 * ONE]


def test_the_excluded_get_no_credit_and_debts_can_be_repaid_early():
    p, s, a, e, r = town(deposits=(3 * ONE, 9 * ONE), loans=(0, 4 * ONE), excluded=(5, 0), permanent_income=5.0, price_level=1.0)
    a.spending[...], a.borrowing[...] = 1.0, (1.0, -0.5)
    monetary.lend_to_consumers(p, s, a)
    assert s.borrowed[0].tolist() == [0, 0] and s.repaid[0].tolist() == [0, 2 * ONE]
    assert s.spending[0].tolist() == [3 * ONE, 5 * ONE]


# -- work

def test_the_matching_function_is_that_of_den_haan_ramey_and_watson():
    p = monetary.Params(matching=1.0)
    assert monetary._matches(p, np.array([30.0]), np.array([20])) == approx([12.0])  # UV / (U + V)
    assert monetary._matches(p, np.array([0.0]), np.array([20])) == [0.0]


@pytest.mark.parametrize("n", [1, 2, 3, 30, 1000])
def test_the_lottery_is_a_bijection_that_its_key_shuffles(n):
    places = [monetary.shuffled(np.arange(n), np.full(n, key), n) for key in (1, 2)]
    assert all(sorted(place) == list(range(n)) for place in places)
    assert n < 30 or (places[0] != places[1]).mean() > 0.9


def test_the_lottery_favours_no_number():
    n, keys = 50, 4000
    first = np.concatenate([monetary.shuffled(np.arange(n), np.full(n, key), n)[:, None] for key in range(keys)], 1)
    means = first.mean(1)  # of places 0 .. 49, each with standard error 14.4 / sqrt(4000)
    assert np.abs(means - 24.5).max() < 4 * 14.43 / np.sqrt(keys)


def search(replicas=200, efforts=(2, 1, 0), openings=2):
    """Who of three times ten seekers of unequal effort is hired by a firm with a few vacancies, over many replicas."""
    p, s, a, e, r = world("monetary", replicas=replicas, n_consumers=30, n_firms=1, n_banks=1, employer=-1, fill_rate=1.0, matching=50.0)
    s.employees[...] = openings
    a.effort[...] = np.repeat(efforts, 10)
    e.lottery[...] = np.arange(replicas) * 7919
    e.matching[...] = 0.5
    monetary.match_workers(p, s, a, e)
    return s


def test_vacancies_are_filled_and_nobody_is_hired_twice():
    s = search(openings=4)
    assert (s.employees == 4).all() and ((s.employer == 0).sum(1) == 4).all()
    assert (s.unemployment == 26 / 30).all()


def test_more_search_finds_more_work():
    hired = (search(2000).employer == 0).reshape(2000, 3, 10).mean((0, 2))
    assert hired[0] > 1.3 * hired[1] > 1.3 * 1.5 * hired[2]  # three, two, one ticket


def test_excess_staff_leaves_and_liquidity_caps_it():
    values = dict(n_consumers=100, n_firms=1, n_banks=1, employer=0, ability=1.0, wage=1.0, separation=0.0, layoff_speed=1.0)
    p, s, a, e, r = world("monetary", **values, firm_deposits=1000 * ONE)
    e.separation[...] = (np.arange(100) + 0.5) / 100
    monetary.release_workers(p, s, a, e)
    assert (s.employer == 0).all()
    p, s, a, e, r = world("monetary", **values, firm_deposits=50 * ONE)  # pays 51 heads, 1.02 times its money
    e.separation[...] = (np.arange(100) + 0.5) / 100
    monetary.release_workers(p, s, a, e)
    assert (s.employer == 0).sum() == 51


def test_output_is_cobb_douglas_with_hours_in_a_band():
    p, s, a, e, r = town(employer=0, employees=2, ability=(2.0, 2.0), capital=8.0, labor_wanted=100.0, output_wanted=100.0, effort=1)
    monetary.produce(p, s, a)
    assert s.hours[0, 0] == 1.1
    assert s.produced[0, 0] == approx(8 ** (1 / 3) * 4.4 ** (2 / 3))
    assert s.full_time_output[0] == approx(8 ** (1 / 3) * 4 ** (2 / 3))
    s.hours[...], a.effort[...] = 1, 2
    monetary.produce(p, s, a)
    assert s.full_time_output[0] == approx(8 ** (1 / 3) * 4 ** (2 / 3))  # zeal and overtime do not move what is normal
    s.output_wanted[...] = 2.0
    monetary.produce(p, s, a)
    assert s.produced[0, 0] == approx(2.04)


def test_wages_are_taxed_and_benefits_paid_by_the_treasury():
    p, s, a, e, r = town(employer=(0, -1), spell=(0, 1), ability=(2.0, 1.0), wage=3.0, hours=1.0, deposits=0, firm_deposits=100 * ONE,
                         income_tax=0.25, mean_wage=3.0, replacement=0.4, transfer=0.1, treasury=0, effort=1)
    monetary.pay_incomes(p, s, a)
    assert s.wage_income[0].tolist() == [6 * ONE, 0] and s.firm_deposits[0, 0] == 94 * ONE
    assert s.deposits[0].tolist() == [int(4.8 * ONE), int(1.5 * ONE)]  # 6 - 1.5 + 0.3, and 1.2 + 0.3
    assert s.treasury[0] == 1_500_000 - 1_800_000


def test_benefits_end():
    p, s, a, e, r = town(employer=-1, spell=(2, 3), ability=1.0, mean_wage=2.0, replacement=0.5, transfer=0.0, assistance=0.1)
    monetary.pay_incomes(p, s, a)
    assert s.benefits[0].tolist() == [ONE, int(0.2 * ONE)]


# -- goods

def shops(**values):
    """Two firms with 10 units each at a price of 1; one consumer spends 12, nobody else buys."""
    return world("monetary", **{
        "n_consumers": 2, "n_firms": 2, "n_banks": 1, "inventory": (10.0, 10.0), "produced": 0.0, "price": (1.0, 1.0), "customers": 1.0,
        "deposits": (12 * ONE, 0), "investment": 0, "purchases_share": 0.0, "wage_bill": 0, "inventory_cost": (5 * ONE, 5 * ONE),
        "expected_sales": 6.0, "price_level": 1.0, "firm_deposits": 0, **values})


def sell(budget=12, **values):
    p, s, a, e, r = shops(**values)
    s.spending[...] = (budget * ONE, 0)
    s.investment[...] = 0
    monetary.trade(p, s)
    return s


def test_equal_shops_sell_alike():
    s = sell()
    assert s.sales[0] == approx([6, 6]) and s.revenue[0].tolist() == [6 * ONE, 6 * ONE]
    assert s.inventory[0] == approx([4, 4]) and s.inventory_cost[0].tolist() == [2 * ONE, 2 * ONE]
    assert s.goods_cost[0].tolist() == [3 * ONE, 3 * ONE] and s.deposits[0, 0] == 0


def test_the_dearer_shop_sells_less():
    s = sell(price=(1.0, 1.1))
    shares = 1 / (1 + 1.1**-4), 1.1**-4 / (1 + 1.1**-4)
    assert s.sales[0] == approx([12 * shares[0], 12 * shares[1] / 1.1])
    assert s.price_level[0] == approx(12 / s.sales[0].sum())


def test_what_one_shop_cannot_serve_the_other_does():
    s = sell(inventory=(2.0, 18.0))
    assert s.sales[0] == approx([2, 10]) and s.shortage[0] == approx(0)


def test_empty_shelves_leave_money_with_the_buyer():
    s = sell(budget=12, inventory=(2.0, 4.0))
    assert s.sales[0] == approx([2, 4]) and s.shortage[0] == approx(0.5)
    assert s.spending[0, 0] == 6 * ONE == s.deposits[0, 0]


def test_capital_wears_out_and_grows_by_what_was_bought():
    p, s, a, e, r = town(capital=100.0, investment=0, price_level=2.0, loss_chance=0.0)
    s.investment[...] = 10 * ONE
    e.loss[...] = 1
    monetary.accumulate(p, s, e)
    assert s.capital[0, 0] == approx(100 * 0.975 + 5)
    assert s.worn[0, 0] == 5 * ONE and s.capital_value[0, 0] == 205 * ONE


# -- settlement

def test_a_firm_pays_interest_principal_and_tax():
    p, s, a, e, r = town(firm_loans=100 * ONE, firm_deposits=50 * ONE, loan_rate=0.08, deposit_rate=0.04, revenue=40 * ONE,
                         goods_cost=20 * ONE,
                         worn=8 * ONE, treasury=0, payout=0.0, payout_excess=0.0, wage_bill=0)
    s.investment[...] = 0
    monetary.settle_firms(p, s)
    assert s.firm_interest_paid[0, 0] == 2 * ONE and s.firm_interest_received[0, 0] == ONE // 2 and s.firm_repaid[0, 0] == 5 * ONE
    assert s.firm_tax[0, 0] == int(0.21 * 10.5 * ONE) == s.treasury[0]  # 40 - 20 - 8 - 2 + 0.5
    assert s.firm_loans[0, 0] == 95 * ONE and s.firm_dividends[0, 0] == 0


def test_a_payment_that_exceeds_the_account_becomes_an_overdraft():
    p, s, a, e, r = town(deposits=(0, 0), loans=(8 * ONE, 0), base_rate=0.02, consumer_margin=0.06, consumer_amortisation=0.125)
    monetary.settle_consumers(p, s)
    assert s.interest_paid[0, 0] == int(0.16 * ONE) and s.deposits[0, 0] == 0
    assert s.loans[0, 0] == 7 * ONE + int(1.16 * ONE) == 8 * ONE + s.interest_paid[0, 0]  # the principal is borrowed anew


def test_dividends_reach_the_owners_to_the_last_unit():
    p, s, a, e, r = town(firm_dividends=10, bank_dividends=0, ownership=(0.25, 0.75), deposits=0, dividend_tax=0.27, treasury=0)
    s.income_taxes[...] = 0
    monetary.distribute(p, s)
    assert s.dividends[0].tolist() == [2, 8] and s.income_taxes[0].tolist() == [0, 2]
    assert s.deposits[0].sum() + s.treasury[0] == 10


def test_an_insolvent_firm_keeps_a_debt_of_half_its_capital():
    p, s, a, e, r = town(firm_loans=130 * ONE, firm_deposits=10 * ONE, capital_value=100 * ONE, inventory_cost=0, equity_shock=0.0)
    monetary.resolve_firms(p, s)
    assert s.firm_deposits[0, 0] == 0 and s.firm_loans[0, 0] == 50 * ONE and s.firm_forgiven[0, 0] == 70 * ONE
    assert s.failures[0] == 1


def test_a_crisis_costs_the_banks_a_share_of_their_capital():
    p, s, a, e, r = town(firm_loans=100 * ONE, capital_value=300 * ONE, equity=20 * ONE, equity_shock=0.3)
    monetary.resolve_firms(p, s)
    assert s.firm_forgiven[0, 0] == 6 * ONE


def test_a_consumer_who_cannot_serve_his_debt_is_discharged():
    p, s, a, e, r = debtors(employer=(-1, 0), deposits=0)
    settle(p, s)
    assert s.loans[0].tolist() == [0, int(10.2 * ONE)]  # who works has overdrawn his account by the interest
    assert s.forgiven[0].tolist() == [int(10.2 * ONE), 0]
    assert s.excluded[0].tolist() == [28, 0]


def debtors(**values):
    """Two consumers who owe ten coins each: a quarter's interest of 0.2 and principal of 1.25 are due, out of a benefit of 1.8."""
    return town(**{"loans": 10 * ONE, "base_rate": 0.02, "consumer_margin": 0.06, "consumer_amortisation": 0.125, "wage_income": 0,
                   "benefits": int(1.8 * ONE), "repaid": 0, "excluded": 0, **values})


def settle(p, s):
    monetary.settle_consumers(p, s)
    monetary.resolve_consumers(p, s)


def test_deposits_that_cover_what_is_due_prevent_a_discharge_even_if_nothing_is_left_of_them():
    p, s, a, e, r = debtors(employer=-1, deposits=(int(1.45 * ONE), int(1.44 * ONE)), deposit_rate=0.0)
    settle(p, s)
    assert s.deposits[0].tolist() == [0, 0] and s.insolvent[0].tolist() == [0, 1]
    assert s.loans[0].tolist() == [int(8.75 * ONE), 0]


def test_repaying_early_is_no_ground_for_a_discharge():
    p, s, a, e, r = debtors(employer=-1, deposits=0, benefits=2 * ONE, repaid=5 * ONE)  # 1.45 are due, 0.8 of income is 1.6
    settle(p, s)
    assert not s.insolvent.any() and not s.forgiven.any()


@pytest.mark.parametrize(("resolution", "equity", "taxpayer", "depositor"), [
    (monetary.BAIL_OUT, 8, 7, 0), (monetary.BAIL_IN, 8, 0, 7), (monetary.FORBEAR, 1, 0, 0)])
def test_a_failed_bank_is_restored_by_the_government_its_depositors_or_nobody(resolution, equity, taxpayer, depositor):
    p, s, a, e, r = town(firm_loans=100 * ONE, loans=0, equity=ONE, deposits=(70 * ONE, 0), firm_deposits=0, treasury=0,
                         resolution=resolution)
    monetary.resolve_banks(p, s)
    assert s.equity[0, 0] == equity * ONE
    assert -s.treasury[0] == taxpayer * ONE and s.bailed_in[0, 0] == depositor * ONE


def test_deficits_are_financed_with_bonds_and_reserves_are_the_residual():
    p, s, a, e, r = town(treasury=-10 * ONE, bonds=100 * ONE, central_bank_share=0.2, bonds_purchased=0, deposits=(60 * ONE, 40 * ONE),
                         firm_deposits=0, loans=0, firm_loans=20 * ONE, equity=5 * ONE, advances=0, asset_purchases=0.0)
    monetary.balance_treasury(p, s, a)
    assert s.bonds[0] == 110 * ONE and s.treasury[0] == 0
    assert s.central_bank_bonds[0] == 22 * ONE and s.bank_bonds[0, 0] == 88 * ONE
    assert s.reserves[0, 0] == 2 * ONE and s.advances[0, 0] == 5 * ONE  # 100 + 5 - 20 - 88 = -3, two are required


def test_an_entrant_is_financed_by_its_owners():
    p, s, a, e, r = world("monetary", n_consumers=2, n_firms=2, n_banks=1, capital=(0.1, 100.0), deposits=(500 * ONE, ONE),
                          ownership=(0.5, 0.5), firm_deposits=0, price_level=1.0, normal_capital=100.0, entrant_capital=0.2)
    monetary.finance_entrants(p, s)
    assert s.entrant[0].tolist() == [1, 0]
    assert s.equity_paid[0].tolist() == [15 * ONE, ONE]  # half of 1.5 x 20 each, as far as deposits go
    assert s.equity_issued[0].tolist() == [16 * ONE, 0] and s.firm_deposits[0].tolist() == [16 * ONE, 0]


# -- what is known afterwards

def test_inflation_is_the_log_change_of_the_price_level():
    p, s, a, e, r = town(price_level=1.02, price_1=1.01, price_4=1.0, expected_inflation=0.02, anchor=0.4)
    monetary.observe(p, s)
    assert s.inflation[0] == approx(4 * np.log(1.02 / 1.01)) and s.inflation_4q[0] == approx(np.log(1.02))
    assert s.expected_inflation[0] == approx(0.4 * 0.02 + 0.6 * (0.7 * 0.02 + 0.3 * np.log(1.02)))


def test_average_inflation_moves_a_sixteenth_of_the_way_in_a_quarter():
    p, s, a, e, r = town(price_level=1.01, price_1=1.0, average_inflation=0.02)
    monetary.observe(p, s)
    assert s.average_inflation[0] == approx(0.02 + (4 * np.log(1.01) - 0.02) / 16)


def test_potential_is_full_time_output_with_natural_unemployment():
    values = {"output": 0, "natural_unemployment": 0.04, "potential": 0.9, "full_time_output": 100.0, "price_level": 1.0}
    p, s, a, e, r = town(**values, unemployment=0.04, spending=45 * ONE, investment=0, purchases=0, inventory_change=0.0)
    monetary.observe(p, s)
    assert s.output_gap[0] == approx(0)
    s.unemployment[...] = 0.10  # the jobless could produce something too
    monetary.observe(p, s)
    assert s.output_gap[0] == approx(2 / 3 * np.log(0.90 / 0.96)) and s.gap_change[0] == approx(s.output_gap[0])


def test_a_super_earner_is_no_slack():
    """Two firms plan for ten ordinary workers each. One of them becomes eight times as able: her firm needs fewer hours, not fewer
    heads, and the gap says so little of it."""
    def gap(star, **values):
        p, s, a, e, r = world("monetary", n_consumers=20, n_firms=2, n_banks=1, employer=[0] * 10 + [1] * 10, employees=10, capital=1.0,
                              star=[star] + [0] * 19, ability=[1 + 7 * star] + [1.0] * 19, star_ability=8.0, unemployment=0.0, effort=1,
                              labor_wanted=10.0, output_wanted=10 ** (2 / 3), price_level=1.0, investment=0, purchases=0,
                              inventory_change=0.0, **values)
        monetary.produce(p, s, a)
        s.spending[...] = np.rint(s.produced.sum() / 20 * ONE)
        monetary.observe(p, s)
        return s.output_gap[0]

    assert 0 < gap(star=1) - gap(star=0) < 0.011  # output may exceed the plan by two percent, at one of two firms


def test_the_central_bank_loses_squared_points():
    p, s, a, e, r = town(inflation_4q=0.03, output_gap=-0.02, rate_change=0.01)
    monetary.reward(p, s, a, r)
    assert r.central_bank[0] == approx(-(1 + 0.25 * 4 + 0.1 * 1))


def test_normal_consumption_in_full_time_work_is_worth_minus_its_disutility():
    p, s, a, e, r = town(employer=0, price_level=1.0, frisch=1.0, disutility=0.8, demand_shock=0.0, effort=1)
    s.spending[...] = np.rint(s.normal_consumption * ONE)
    monetary.reward(p, s, a, r)
    assert r.consumer[0] == approx([-0.4, -0.4], abs=1e-5)


def test_overtime_that_a_firm_orders_costs_its_workers_utility():
    p, s, a, e, r = world("monetary", n_consumers=3, n_firms=2, n_banks=1, employer=(0, 1, -1), hours=(1.0, 1.1), effort=(1, 2, 1),
                          frisch=1.0, disutility=0.8, search_time=0.5, price_level=1.0, demand_shock=0.0)
    s.spending[...] = np.rint(s.normal_consumption * ONE)
    monetary.reward(p, s, a, r)
    assert r.consumer[0] == approx([-0.4, -0.4 * (1.1 * 1.1) ** 2, -0.4 * 0.25], abs=1e-5)


def test_hours_worked_are_those_of_the_firm_times_effort():
    p, s, a, e, r = world("monetary", n_consumers=4, n_firms=1, n_banks=1, employer=(0, 0, 0, -1), effort=(0, 1, 2, 1), ability=1.0,
                          labor_wanted=100.0)
    monetary.produce(p, s, a)
    assert s.hours_worked[0] == approx(1.1 * (0.8 + 1.0 + 1.1) / 4)


def test_a_firm_whose_debt_is_forgiven_earns_no_more_for_it():
    p, s, a, e, r = town(firm_loans=130 * ONE, firm_deposits=0, capital_value=100 * ONE, inventory_cost=0, equity_shock=0.0,
                         price_level=1.0, revenue=ONE)
    monetary.resolve_firms(p, s)
    monetary.reward(p, s, a, r)
    assert s.firm_forgiven[0, 0] == 80 * ONE and r.firm[0, 0] == approx(1 / s.normal_capital[0])


def test_trend_growth_moves_every_normal_level_and_no_ratio():
    p, s, a, e, r = town(growth=0.04)
    before = {name: getattr(s, name).copy() for name in ("trend", "normal_wage", "normal_capital", "normal_consumption", "normal_staffing")}
    monetary.innovate(p, s, e)
    assert s.trend / before["trend"] == approx(1.01) and s.normal_wage / before["normal_wage"] == approx(1.01)
    assert s.normal_staffing * s.normal_capital == approx(before["normal_staffing"] * before["normal_capital"])


def test_a_plan_restores_the_stock_and_takes_the_labour_it_needs():
    p, s, a, e, r = town(expected_sales=10.0, inventory=0.0, capital=8.0, normal_staffing=100.0)
    monetary.plan(p, s)
    wanted = 10 + p.stock_speed * p.stock_target * 10
    assert s.output_wanted[0, 0] == approx(wanted)
    assert s.labor_wanted[0, 0] == approx((wanted / 2) ** 1.5)


def test_a_firm_without_capital_does_not_hire_without_bound():
    p, s, a, e, r = town(expected_sales=10.0, inventory=0.0, capital=0.01, normal_staffing=0.5)
    monetary.plan(p, s)
    assert s.labor_wanted[0, 0] == approx(p.staffing_cap * 0.5 * 0.01)
