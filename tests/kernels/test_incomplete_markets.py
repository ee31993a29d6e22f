"""Households with uninsured income risk: chains, prices and phases by hand, one economics on every kind of array, populations by theory."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytest import approx

import envs
from envs.core.batch import Batch
from kernels import incomplete_markets as model
from kernels import incomplete_markets_histogram as histogram
from kernels.core.launch import HOST, use
from tests.worlds import needs_compiler, world

KS, AIYAGARI = model.krusell_smith(), model.aiyagari()


# -- chains and prices

def test_the_chain_of_employment_is_the_one_of_the_comparison_project():
    printed = [[.525, .35, .03125, .09375], [.038889, .836111, .002083, .122917], [.09375, .03125, .291667, .583333],
               [.009115, .115885, .024306, .850694]]
    assert np.reshape(KS.transition, (4, 4)) == approx(np.array(printed), abs=5e-7)


def test_a_tenth_is_unemployed_in_bad_times_and_a_25th_in_good_ones_whatever_came_before():
    parts = model.chain(KS)
    assert parts.shares[:, 0] == approx([0.1, 0.04], abs=1e-12)
    assert parts.long_run == approx([0.5, 0.5])
    for z in (0, 1):
        for z_ in (0, 1):
            assert parts.shares[z] @ parts.incomes[z, z_] == approx(parts.shares[z_], abs=1e-12)


def test_rouwenhorsts_chain_has_the_moments_asked_for_and_binomial_weights():
    states, rows = model.rouwenhorst(7, 0.6, 0.2)
    assert rows.sum(1) == approx(np.ones(7)) and model.stationary(rows) == approx(np.array([1, 6, 15, 20, 15, 6, 1]) / 64)
    assert model.rouwenhorst(2, 0.6, 0.2)[1] == approx(np.array([[0.8, 0.2], [0.2, 0.8]]))
    weights = model.stationary(rows)
    assert weights @ states == approx(0, abs=1e-12) and weights @ states**2 == approx(0.04)
    assert (weights * states) @ rows @ states == approx(0.6 * 0.04)


def test_labour_of_the_average_household_is_one_in_aiyagari():
    assert model.chain(AIYAGARI).shares[0] @ AIYAGARI.labor == approx(1)


def test_prices_are_marginal_products_and_pay_out_all_output():
    capital, labor, level, step = np.array([36.0]), np.array([0.9]), np.array([1]), 1e-5
    y = model.output(KS, capital, labor, level)
    assert model.wage(KS, capital, labor, level) == approx((model.output(KS, capital, labor + step, level) - y) / step, rel=1e-4)
    rental = model.gross_return(KS, capital, labor, level) - 1 + KS.depreciation
    assert rental == approx((model.output(KS, capital + step, labor, level) - y) / step, rel=1e-4)
    assert model.wage(KS, capital, labor, level) * labor + rental * capital == approx(y)


def test_the_steady_state_returns_the_rate_of_time_preference():
    for p in (KS, AIYAGARI):
        flat = replace(p, productivity=(1.0,) * len(p.productivity))
        labor = model.chain(p).long_run @ model.chain(p).shares @ np.array(p.labor)
        capital = np.array([model.steady_state(p)])
        assert model.gross_return(flat, capital, labor, np.array([0])) == approx(1 / p.beta, rel=1e-12)
        made = model.output(flat, capital, labor, np.array([0]))[0]
        assert model.steady_consumption(p) == approx(made - p.depreciation * capital[0])


def test_taxes_pay_for_the_benefits():
    """mu u / (l (1-u)) with mu .15, u .1, l 1/.9: .015."""
    labor, tax = model.labor_supply(KS, np.array([0, 1]), np.ones(2))
    assert labor == approx([1.0, 0.96 / 0.9]) and tax == approx([0.015, 0.15 * 0.04 / (0.96 / 0.9)])


# -- the household's functions

@pytest.mark.parametrize("p", [KS, AIYAGARI, replace(KS, crra=3.0)], ids=["krusell_smith", "aiyagari", "crra 3"])
def test_the_economics_is_the_same_on_numpy_and_on_torch(p):
    """To 1e-12: resources, reward, marginal utility and its inverse, prices, expectations, the Euler equation."""
    generator = np.random.default_rng(0)
    n, levels, incomes = 200, len(p.productivity), len(p.labor)
    wealth, capital = generator.uniform(0, 60, n), generator.uniform(30, 50, n)
    income, level = generator.integers(incomes, size=n), generator.integers(levels, size=n)
    law = [[0.12, 0.965]] * levels

    def everything(xp, k, e, big_k, z):
        def share(wealth, income, capital, level):
            return wealth / (3 + wealth) * 0.95 + 0 * capital
        there = model.resources(p, k, e, big_k, z)
        labor, tax = model.labor_supply(p, z, k)
        return [there, labor, tax, model.reward(p, there), model.marginal_utility(p, there), model.consumption_of(p, there),
                model.wage(p, big_k, labor, z), model.gross_return(p, big_k, labor, z), model.next_capital(law, big_k, z),
                model.successors(p, e, z, k)[2], model.euler_consumption(p, share, law, 0.5 * k, e, big_k, z)]
    ours = everything(np, wealth, income, capital, level)
    theirs = everything(torch, *(torch.from_numpy(v) for v in (wealth, income, capital, level)))
    for one, other in zip(ours, theirs):
        assert np.abs(other.numpy() / np.where(one == 0, 1, one) - (one != 0)).max() < 1e-12


@pytest.mark.parametrize("crra", [1.0, 0.5, 4.0])
def test_marginal_utility_is_the_slope_of_utility_and_its_inverse_undoes_it(crra):
    p, c, step = replace(KS, crra=crra), np.linspace(0.3, 4, 9), 1e-6
    slope = (model.reward(p, c + step) - model.reward(p, c - step)) / (2 * step)
    assert model.marginal_utility(p, c) == approx(slope, rel=1e-6)
    assert model.consumption_of(p, model.marginal_utility(p, c)) == approx(c, rel=1e-12)


def test_without_risk_the_euler_equation_holds_at_the_steady_state():
    p = replace(KS, productivity=(1.0,), labor=(1.0,), benefit=(0.0,), transition=(1.0,))
    capital, there = model.steady_state(p), np.zeros(1, int)
    k = np.array([capital])
    consumed = model.resources(p, k, there, k, there) - k
    asked = model.euler_consumption(p, lambda wealth, income, big_k, level: wealth / model.resources(p, wealth, income, big_k, level),
                                    [[np.log(capital), 0.0]], k, there, k, there)
    assert asked == approx(consumed, rel=1e-12) and consumed == approx(model.steady_consumption(p))


@pytest.mark.parametrize(("change", "says"), [
    ({"beta": 1.0}, "params.beta must lie strictly between 0 and 1, got 1; a discount factor such as 0.99 has a solution"),
    ({"depreciation": -0.1}, "params.depreciation must lie in .0, 1., got -0.1; give the share"),
    ({"alpha": 1.2}, "params.alpha must lie strictly between 0 and 1"),
    ({"crra": 0.0}, "params.crra must be positive"),
    ({"transition": (0.9,) * 16}, "row 1 of params.transition sums to 3.6, so nothing can be drawn from it; make it sum to 1"),
    ({"transition": (1.2, -0.2, *KS.transition[2:])}, "params.transition must not be negative, got -0.2; give probabilities"),
    ({"transition": (1.0,)}, "params.transition must be 4 rows of 4 probabilities"),
    ({"transition": (0.5, 0, 0.5, 0, 0, 1.0, 0, 0, 0.5, 0, 0.5, 0, 0, 0.5, 0, 0.5)}, "aggregate risk must be the same for every household"),
    ({"productivity": (0.0, 1.0)}, "params.productivity must be positive"),
    ({"labor": (), "benefit": ()}, "params.labor and benefit must have one number for each income state"),
    ({"labor": (1.0,)}, "params.labor and benefit must have one number for each income state"),
    ({"start_low": 2.0}, "params.start_low=2 and start_high=1.2; give 0 < start_low <= start_high"),
    ({"most_saving": 1.0}, "something must be left to consume"),
    ({"least_consumption": 0.0}, "params.least_consumption must be positive"),
])
def test_a_model_without_a_solution_is_refused_in_one_sentence(change, says):
    with pytest.raises(ValueError, match=says):
        model.validate(replace(KS, **change))


def test_an_economy_does_not_start_from_such_a_model():
    with pytest.raises(ValueError, match="row 1 of params.transition sums to 3.6"):
        Batch(envs.load("krusell_smith"), replace(KS, transition=(0.9,) * 16), backend="numpy")


# -- phases, by hand

def test_what_is_not_saved_is_consumed_and_nobody_saves_all():
    p, s, a, e, r = world("krusell_smith", n_households=3)
    s.resources[...], a.saving[...] = [[2.0, 4.0, 10.0]], [[0.25, 0.0, 1.0]]
    model.save(p, s, a)
    assert s.wealth[0] == approx([0.5, 0.0, 9.95]) and s.consumption[0] == approx([1.5, 4.0, 0.05])


def test_the_reward_is_zero_at_the_consumption_of_the_steady_state():
    p, s, a, e, r = world("krusell_smith", n_households=2)
    s.consumption[...] = model.steady_consumption(p) * np.array([1.0, np.e])
    model.enjoy(p, s, r)
    assert r.household[0] == approx([0, 1])


def test_four_households_own_and_earn_what_one_can_compute_in_the_head():
    """K 4, L .75 / .9 with one of four unemployed, A .99: what they have together is Y + (1-delta) K."""
    p, s, a, e, r = world("krusell_smith", n_households=4, wealth=[[1, 3, 5, 7]], income=[[0, 1, 1, 1]], level=[0])
    model.produce(p, s)
    labor = 0.75 / 0.9
    y = 0.99 * 4**0.36 * labor**0.64
    assert s.output[0] == approx(y) and s.wage[0] == approx(0.64 * y / labor) and s.tax[0] == approx(0.15 / 4 / labor)
    assert s.resources.mean() == approx(y + 0.975 * 4)
    assert s.resources[0, 0] == approx(s.gross_return[0] * 1 + 0.15 * s.wage[0])


def test_an_economy_in_which_everybody_lost_all_stays_finite():
    p, s, a, e, r = world("krusell_smith", n_households=2, wealth=[[0, 0]], income=[[0, 0]], level=[0])
    model.produce(p, s)
    model.step(p, s, a, e, r)
    assert all(np.isfinite(array).all() for array in (*vars(s).values(), r.household))


@pytest.mark.parametrize("n", [50, 100, 500])
def test_unemployment_is_exactly_what_the_times_say(n):
    batch = Batch(envs.load("krusell_smith"), replace(KS, n_households=n), 8, backend="numpy", seed=4, rules={"household": "keep"})
    for _ in range(60):
        batch.step({})
        assert ((batch.s.supplied == 0).sum(1) == np.where(batch.s.level == 0, 0.1 * n, 0.04 * n)).all()


@pytest.mark.parametrize("name", ["krusell_smith", "aiyagari"])
def test_to_each_household_its_income_is_the_chain(name):
    """Frequencies of moves of single households, given both levels, within 4 standard errors of the rows."""
    p = envs.load(name).defaults()
    batch = Batch(envs.load(name), replace(p, n_households=50), 200, backend="numpy", seed=1, rules={"household": "keep"})
    levels, incomes = len(p.productivity), len(p.labor)
    seen = np.zeros((levels, levels, incomes, incomes))
    for _ in range(60):
        before, z = batch.s.income.copy(), batch.s.level.copy()
        batch.step({})
        np.add.at(seen, (z[:, None], batch.s.level[:, None], before, batch.s.income), 1)
    n = seen.sum(-1, keepdims=True)
    rows = model.chain(p).incomes
    error = 4 * np.sqrt(rows * (1 - rows) / np.maximum(n, 1)) + 1e-9
    assert (np.abs(seen / np.maximum(n, 1) - rows)[n[..., 0] > 100] < error[n[..., 0] > 100]).all()


def test_luck_does_not_depend_on_the_place_in_the_row():
    """Correlation of a household's number with its income after many periods, over many replicas: none."""
    batch = Batch(envs.load("krusell_smith"), replace(KS, n_households=20), 2000, backend="numpy", seed=2, rules={"household": "keep"})
    for _ in range(10):
        batch.step({})
    rate = (batch.s.supplied == 0).mean(0)
    assert np.abs(rate - rate.mean()).max() < 4.5 * np.sqrt(0.07 * 0.93 / 2000)


# -- the histogram

def frame(periods=50, bins=200, seed=0):
    """A rule that rises in wealth and aggregate capital, households anywhere, times that change."""
    generator = np.random.default_rng(seed)
    p = histogram.Params(2, 2, 3, bins, periods, 80.0)
    wealth, nodes = np.linspace(0, 80, bins), np.array([20.0, 40.0, 60.0])
    rule = 0.9 * wealth + 0.05 * nodes[:, None] + np.array([[[0.5]], [[2.0]]]) + np.array([0.0, 0.4])[:, None, None, None]
    mass = generator.random((2, bins))
    level = generator.integers(2, size=periods + 1).astype(np.int32)
    rows = model.chain(KS).incomes[None].copy()
    return p, histogram.State((mass / mass.sum())[None], rule[None].copy(), nodes[None], rows, level[None, :-1].copy(),
                              level[None, 1:].copy(), np.zeros((1, periods)), np.zeros((1, 2, bins)))


def test_nobody_appears_or_vanishes_in_the_histogram_and_unemployment_is_that_of_the_times():
    p, s = frame()
    s.mass[0] *= model.chain(KS).shares[s.level[0, 0]][:, None] / s.mass[0].sum(1, keepdims=True)
    histogram.move(p, s)
    assert s.mass.sum() == approx(1, abs=1e-12)
    assert s.mass[0].sum(1) == approx(model.chain(KS).shares[s.following[0, -1]], abs=1e-12)


def test_capital_of_the_next_period_is_what_households_save():
    """A single period: sum of mass times the rule, linear between the nodes."""
    p, s = frame(periods=1)
    mass, wealth = s.mass[0].copy(), np.linspace(0, 80, 200)
    histogram.move(p, s)
    z, k = s.level[0, 0], (mass * wealth).sum()
    assert s.capital[0, 0] == approx(k)
    expected = (mass * (0.9 * wealth + 0.05 * k + np.array([[0.5], [2.0]]) + (0.0, 0.4)[z])).sum()
    assert (s.mass[0] * wealth).sum() == approx(expected, rel=1e-12)


@needs_compiler
@pytest.mark.parametrize("lanes", [1, 4])
def test_the_compiled_histogram_is_its_definition(lanes):
    p, slow = frame()
    _, fast = frame()
    histogram.move(p, slow)
    if lanes == 1:
        with use("native"):
            histogram.move(p, fast)
    else:
        histogram.move.run_native((p, fast), lanes=lanes, flags=(*HOST, "-DTHREADS"))
    assert np.abs(fast.capital / slow.capital - 1).max() < 1e-12
    assert np.abs(fast.mass - slow.mass).max() < 1e-13
