"""The monetary economy as its agents meet it: scripts that are formulas, masks that follow the state, episodes that start warm."""
import numpy as np
import pytest
from pytest import approx

import envs
from envs import monetary
from envs.core.batch import Batch
from envs.core.rules import on_grid
from kernels.core.ledger import MICRO
from tests.worlds import world

ECONOMY = envs.load("monetary")
SMALL = ECONOMY.kernel.Params(n_consumers=40, n_firms=4, n_banks=2, burn_in=8)


def batch(economy=ECONOMY, size=3, rule="scripted", **more):
    return Batch(economy, SMALL, size, backend="numpy", rules=dict.fromkeys(economy.agents, rule) if rule else None, **more)


def acted(rule, state=(), **values):
    """(p, s, a) after a rule has acted; `state` holds State fields whose names Params have too."""
    p, s, a, e, r = world("monetary", **{"n_consumers": 2, "n_firms": 2, "n_banks": 1, **values})
    for name, value in dict(state).items():
        getattr(s, name)[...] = value
    rule(p, s, a, None)
    return p, s, a


# -- scripts

def test_taylor_1993_is_its_formula():
    p, s, a = acted(monetary.taylor93, inflation_4q=0.04, output_gap=-0.02, policy_rate=0.03)
    assert s.policy_rate + a.rate_step == approx(p.neutral_rate + 0.04 + 0.5 * 0.02 - 0.5 * 0.02)


def test_taylor_1999_weighs_the_gap_fully_and_the_inertial_rule_moves_a_fifth_of_the_way():
    state = {"inflation_4q": 0.02, "output_gap": 0.01, "policy_rate": 0.01}
    p, s, a = acted(monetary.taylor99, state)
    assert s.policy_rate + a.rate_step == approx(p.neutral_rate + 0.02 + 0.01)
    p, s, a = acted(monetary.inertial, state)
    assert a.rate_step == approx(0.2 * (p.neutral_rate + 0.02 + 0.005 - 0.01))


@pytest.mark.parametrize(("rate", "held", "bought"), [
    (0.0, 0, 0.01), (0.002, 0, 0.01), (0.003, 0, 0.0), (0.03, 5 * MICRO, -0.01)])
def test_easing_buys_assets_near_the_bound_and_sells_them_afterwards(rate, held, bought):
    p, s, a = acted(monetary.easing, policy_rate=rate, inflation_4q=rate, output_gap=-rate, bonds_purchased=held)
    assert a.asset_purchases[0] == bought


def test_the_difference_rule_needs_no_neutral_rate():
    p, s, a = acted(monetary.difference, inflation_4q=0.04, gap_change=0.01)
    assert a.rate_step == approx(0.5 * 0.02 / 4 + 0.5 * 0.01)


def test_a_bank_that_averages_inflation_makes_up_for_past_misses():
    p, s, a = acted(monetary.average_inflation, inflation_4q=0.02, output_gap=0.0, average_inflation=0.01, policy_rate=0.035)
    assert s.policy_rate + a.rate_step == approx(p.neutral_rate + 0.02 - 0.01)


def test_a_fixed_rate_is_reached_at_once():
    p, s, a = acted(lambda *args: monetary.fixed_rate(*args, rate=0.05), policy_rate=0.01)
    assert a.rate_step == approx(0.04)


def test_consumers_spend_more_than_permanent_income_when_richer_than_they_want():
    p, s, a = acted(monetary.buffer_stock, {"buffer": 3.0, "impatient": (0, 1)}, permanent_income=2.0, price_level=1.0,
                    deposits=(10 * MICRO, 6 * MICRO), loans=0,
                    real_deposit_rate=0.0, rate_response=0.0)
    assert a.spending[0] == approx([1 + p.wealth_response * 2, 1])


def test_spending_falls_with_the_real_rate():
    p, s, a = acted(monetary.buffer_stock, real_deposit_rate=0.05, wealth_response=0.0, wealth_response_impatient=0.0)
    wanted = np.exp(-p.rate_response * (0.05 - p.neutral_rate + p.deposit_margin))
    assert a.spending[0] == approx([wanted, wanted])


def test_firms_move_their_price_to_a_markup_over_marginal_cost():
    p, s, a = acted(monetary.markup_pricing, price=1.0, wage=2.0, unit_labor=0.45, expected_inflation=0.0, cost_shock=0.0,
                    stock_pricing=0.0)
    assert a.price_change[0] == approx(np.log(p.markup * 0.9), rel=1e-9)


def test_wages_follow_a_mixture_of_past_and_expected_inflation_and_the_labour_market():
    p, s, a = acted(monetary.markup_pricing, {"unemployment": 0.05}, wage=2.0, mean_wage=2.0, inflation_4q=0.06, expected_inflation=0.02,
                    wage_indexation=0.75, growth=0.01, natural_unemployment=0.06, wage_slope=0.1)
    assert a.wage_change[0] == approx((0.05 + 0.01) / 4 + 0.1 * 0.01)


def test_debt_above_target_raises_taxes():
    p, s, a = acted(monetary.debt_rule, {"income_tax": 0.30}, debt_ratio=0.8)
    assert s.income_tax + a.tax_step == approx(p.income_tax + p.debt_response * (0.8 - p.debt_target))


def test_a_balanced_budget_closes_last_quarters_deficit():
    p, s, a = acted(monetary.balanced_budget, wage_income=(50 * MICRO, 50 * MICRO), purchases=30 * MICRO, income_taxes=(10 * MICRO,
                                                                                                                        10 * MICRO),
                    output=100.0, price_level=1.0)
    assert a.tax_step == approx(0.1)  # ten are missing, a hundred are taxed


# -- grids

def test_a_rule_on_the_grid_plays_neighbours_and_is_right_on_average():
    p, s, a, e, r = world("monetary", replicas=4000, n_consumers=2, n_firms=1, n_banks=1)
    rule = on_grid(lambda p, s, a, draws: a.rate_step.__setitem__(..., 0.004), monetary.RATE_STEP)
    world_ = Batch(ECONOMY, SMALL, 2, backend="numpy")
    draws = type(world_.draws(1))((3, 4), np.arange(4000), np.zeros(4000, np.int64))
    rule(p, s, a, draws)
    assert set(np.round(a.rate_step, 6)) == {0.0025, 0.005}
    assert a.rate_step.mean() == approx(0.004, abs=3 * 0.0025 / 2 / np.sqrt(4000))


# -- masks

def legal(choice, type_, **values):
    """Which values of a choice are permitted in a state, for the first agent."""
    p, s, a, e, r = world("monetary", **{"n_consumers": 2, "n_firms": 2, "n_banks": 2, **values})
    mask = np.broadcast_to(choice.legal(p, s), (1, ECONOMY.agents[type_].number(p), choice.n))
    return [value for value, ok in zip(choice.values, mask[0, 0]) if ok]


def test_prices_stay_unless_they_may_change():
    assert legal(monetary.PRICE, "firm", can_reprice=0) == [0.0]
    assert legal(monetary.PRICE, "firm", can_reprice=1) == list(monetary.PRICE.values)


def test_the_rate_stays_between_its_bounds():
    assert legal(monetary.RATE_STEP, "central_bank", policy_rate=0.0025) == [-0.0025, 0.0, 0.0025, 0.005, 0.01]
    assert legal(monetary.RATE_STEP, "central_bank", policy_rate=0.195) == [-0.01, -0.005, -0.0025, 0.0, 0.0025, 0.005]


def test_assets_are_bought_only_at_the_bound():
    assert legal(monetary.ASSETS, "central_bank", policy_rate=0.03, bonds_purchased=0) == [0.0]
    assert legal(monetary.ASSETS, "central_bank", policy_rate=0.0, bonds_purchased=0) == [0.0, 0.01]
    assert legal(monetary.ASSETS, "central_bank", policy_rate=0.03, bonds_purchased=5) == [-0.01, 0.0]


def test_the_excluded_do_not_borrow_and_the_debtless_do_not_repay():
    assert legal(monetary.BORROWING, "consumer", excluded=3, loans=0) == [0.0]
    assert legal(monetary.BORROWING, "consumer", excluded=0, loans=0) == [0.0, 0.5, 1.0]
    assert legal(monetary.BORROWING, "consumer", excluded=3, loans=7) == [-0.5, 0.0]


def test_the_poor_cannot_plan_to_spend_much():
    broke = {"deposits": 0, "loans": 0, "excluded": 1, "permanent_income": 1.0, "price_level": 1.0}
    assert legal(monetary.SPENDING, "consumer", **broke) == [0.4, 0.6, 0.75, 0.9, 1.0]
    assert legal(monetary.SPENDING, "consumer", **{**broke, "loans": 100 * MICRO}) == [0.4, 0.6, 0.75, 0.9, 1.0]


def test_a_debt_beyond_the_line_does_not_lock_deposits_away():
    rich = {"deposits": 2 * MICRO, "loans": 100 * MICRO, "excluded": 0, "permanent_income": 1.0, "price_level": 1.0, "credit_line": 0.1}
    assert legal(monetary.SPENDING, "consumer", **rich) == list(monetary.SPENDING.values)  # 2 of deposits, 1 of income
    poorer = {**rich, "deposits": 0, "loans": int(0.1 * MICRO)}
    assert legal(monetary.SPENDING, "consumer", **poorer) == [0.4, 0.6, 0.75, 0.9, 1.0, 1.1, 1.25]  # 0.3 of the line are left


def test_a_firm_hires_and_invests_as_far_as_deposits_and_credit_pay():
    firm = {"wage": 1.0, "labor": 100.0, "labor_wanted": 100.0, "firm_deposits": 63 * MICRO, "firm_loans": 10 * MICRO,
            "capital_value": 100 * MICRO, "inventory_cost": 0, "leverage_cap": 0.5, "capital": 40.0, "price_level": 1.0}
    assert legal(monetary.HIRING, "firm", **firm) == [-0.10, -0.05, -0.02, 0.0, 0.02]  # 103 pay the wages of 102
    assert legal(monetary.INVESTMENT, "firm", **firm) == [0.0, 0.5, 0.8, 1.0, 1.25, 1.6, 2.2]  # depreciation is 1, 3 are left
    assert legal(monetary.INVESTMENT, "firm", **{**firm, "capital": 80.0}) == [0.0, 0.5, 0.8, 1.0, 1.25]
    assert legal(monetary.HIRING, "firm", **{**firm, "firm_loans": 90 * MICRO}) == [-0.10, -0.05, -0.02, 0.0]


@pytest.mark.parametrize(("type_", "choice", "values", "state"), [
    ("firm", "price_change", [0.0], {"can_reprice": 0}),
    ("firm", "hiring", [-0.05, -0.02, 0.0], {"wage": 1.0, "labor": 100.0, "firm_deposits": 0, "firm_loans": 10**12}),
    ("firm", "investment", [-0.2, -0.1, 0.0], {"wage": 1.0, "labor_wanted": 100.0, "firm_deposits": 0, "firm_loans": 10**12}),
    ("consumer", "spending", [-0.2, -0.1, -0.05, 0.0], {"deposits": 0, "loans": 0, "excluded": 1, "permanent_income": 1.0,
                                                       "price_level": 1.0}),
    ("bank", "leverage_limit", [-0.2, -0.1, 0.0], {"equity": 1, "bank_loans": 100}),
    ("bank", "loan_spread", [0.0, 0.005, 0.01], {"equity": 1, "bank_loans": 100}),
    ("government", "purchases_step", [-0.02, 0.0], {"debt_ratio": 2.0}),
    ("central_bank", "rate_step", [0.0, 0.0025, 0.005, 0.01], {"policy_rate": 0.0}),
    ("central_bank", "asset_purchases", [0.0, 0.01], {"policy_rate": 0.0, "bonds_purchased": 0}),
    ("central_bank", "asset_purchases", [-0.01, 0.0], {"policy_rate": 0.05, "bonds_purchased": 5})])
def test_corrections_stop_where_the_state_does_and_zero_is_always_permitted(type_, choice, values, state):
    chooses = {of.name: of for of in envs.load("monetary_residual").agents[type_].chooses}
    assert legal(chooses[choice], type_, **state) == values


@pytest.mark.parametrize("type_", ECONOMY.agents)
def test_policies_see_every_field_that_the_script_of_their_type_reads(type_):
    p, s, a, e, r = world("monetary", n_consumers=4, n_firms=2, n_banks=2)

    class Watched:
        def __init__(self):
            self.read = set()

        def __getattr__(self, name):
            self.read.add(name)
            return getattr(s, name)

    script, seen = Watched(), Watched()
    ECONOMY.rules[type_]["scripted"](p, script, a, None)
    for feature in ECONOMY.agents[type_].sees:
        feature.values(seen)
    assert script.read & vars(s).keys() <= seen.read


def test_a_bank_short_of_capital_neither_loosens_nor_undercuts():
    short = {"equity": 1, "bank_loans": 100, "leverage_cap": 0.65, "base_rate": 0.06, "policy_rate": 0.035}
    assert legal(monetary.LEVERAGE, "bank", **short) == [0.45, 0.55, 0.65]
    assert legal(monetary.LOAN_SPREAD, "bank", **{**short, "base_rate": 0.0599}) == [0.0275, 0.04]
    assert legal(monetary.LEVERAGE, "bank", **{**short, "equity": 9}) == list(monetary.LEVERAGE.values)


def test_above_the_debt_ceiling_the_government_does_not_expand():
    assert legal(monetary.TAX, "government", debt_ratio=2.0) == [0.0, 0.01]
    assert legal(monetary.PURCHASES, "government", debt_ratio=2.0) == [-0.02, 0.0]
    assert legal(monetary.TAX, "government", debt_ratio=0.5, tax_high=0.27) == [-0.01, 0.0]


# -- episodes

def test_episodes_start_from_different_states_that_scripted_play_has_reached():
    one = batch(size=8)
    starts = one.s.price_level.copy()
    assert len(set(starts)) > 1 and (starts != 1).all()  # prices were 1 before the first quarter
    one.reset()
    assert not np.array_equal(starts, one.s.price_level)


def test_without_a_warm_up_all_start_in_the_stationary_state():
    cold = Batch(ECONOMY, ECONOMY.kernel.Params(n_consumers=40, n_firms=4, burn_in=0), 3, backend="numpy")
    assert (cold.s.price_level == 1).all() and (cold.s.price_4 < 1).all() and (cold.s.revenue == 0).all()


@pytest.mark.parametrize("name", ["monetary_residual", "monetary_ancestor"])
def test_variants_share_everything_but_what_is_chosen(name):
    variant = envs.load(name)
    assert variant.kernel is ECONOMY.kernel and list(variant.agents) == list(ECONOMY.agents)
    assert all(variant.agents[t].sees == ECONOMY.agents[t].sees for t in variant.agents)


def test_zero_corrections_are_the_script():
    variant = envs.load("monetary_residual")
    scripted, corrected = batch(variant), batch(variant, rule=None)
    zeros = {type_: [choice.values.index(0.0) for choice in agent.chooses] for type_, agent in variant.agents.items()}
    for _ in range(5):
        scripted.step({})
        corrected.step({t: np.broadcast_to(zero, (3, corrected.count[t], len(zero))).copy() for t, zero in zeros.items()})
    assert np.array_equal(scripted.s.deposits, corrected.s.deposits)
    assert np.array_equal(scripted.s.price, corrected.s.price)


def test_the_ancestors_action_sets_have_its_sizes():
    heads = {t: [head.options for head in heads] for t, heads in batch(envs.load("monetary_ancestor")).heads.items()}
    assert [heads[t][0] for t in ("central_bank", "bank", "consumer", "firm")] == [5, 75, 30, 45]
    assert heads["government"] == [1, 1, 1] and heads["firm"][1:] == heads["central_bank"][1:] == [1]


def test_the_ancestors_joint_choices_obey_the_masks_of_single_ones():
    ancestor = batch(envs.load("monetary_ancestor"))
    ancestor.s.excluded[...] = 1
    ancestor.s.firm_deposits[...] = 0
    ancestor.s.leverage_cap[...] = 0
    borrows = np.arange(30) // 3 % 2 == 1  # spending slowest, effort fastest
    assert not ancestor.legal("consumer")[..., borrows].any()
    grows = (np.arange(45) // 3 % 3 == 2) | (np.arange(45) % 3 == 2)  # hires, or invests beyond depreciation
    firm = ancestor.legal("firm")[..., :45]
    assert not firm[..., grows].any() and firm[..., ~grows].any(-1).all()
