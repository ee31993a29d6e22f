"""Krusell and Smith, exactly and learned: the law of motion, den Haan's test, and what both methods must agree on."""
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from pytest import approx

from kernels import incomplete_markets as model
from rllib_macro import households
from rllib_macro.denhaan import alone, den_haan, r2
from rllib_macro.households import Problem, Simulation, Table, fitted_law, gini, lorenz, node_weights, wealth_grid
from rllib_macro.solvers import krusell_smith, neural_krusell_smith
from rllib_macro.solvers.policy import Policy

KS = model.krusell_smith()
LAW = np.array([[0.12, 0.966], [0.14, 0.963]])


@cache
def exact() -> Policy:
    return krusell_smith.solve(KS)


@cache
def learned() -> Policy:
    torch.set_num_threads(1)
    return neural_krusell_smith.solve(KS, rounds=7, states=1200)


def followed(law, periods=3000):
    """A simulation whose capital does exactly what a law says."""
    level = households.level_path(KS, periods, 1)
    return Simulation(KS, np.zeros(1), level, alone(law, level[:-1], 38.0), np.ones((2, 1)), np.zeros((4, 0)))


# -- den Haan's test

def test_den_haans_errors_of_a_law_that_holds_are_zero():
    test = den_haan(LAW, followed(LAW))
    assert test.largest < 1e-10 and test.r2 == approx(np.ones(2), abs=1e-12)


def test_a_law_that_is_always_a_tenth_of_a_percent_too_high_errs_by_what_adds_up():
    """log K' = b0 + b1 log K with one b1 and b0 off by d: the gap goes to d / (1 - b1)."""
    law, d = np.array([[0.144, 0.96], [0.146, 0.96]]), 1e-3
    test = den_haan(law + [[d, 0], [d, 0]], followed(law))
    assert test.largest == approx(100 * d / 0.04, rel=1e-6)


def test_the_law_is_recovered_from_capital_that_follows_it():
    happened = followed(LAW)
    law, fit = fitted_law(happened.level[:-1], happened.capital)
    assert law == approx(LAW, abs=1e-9) and fit == approx(np.ones(2))


def test_noise_lowers_r2_by_its_share_of_the_variance():
    generator, level = np.random.default_rng(0), np.zeros(20_001, int)
    y = np.zeros(20_001)
    for t in range(20_000):
        y[t + 1] = 0.8 * y[t] + generator.normal()
    assert r2(np.array([[0.0, 0.8]]), level, np.exp(y)) == approx([0.64], abs=0.02)  # 1 - sigma^2 / (sigma^2 / (1 - .8^2))


# -- pieces

def test_polynomials_through_the_nodes_are_met_exactly():
    nodes, x = np.array([30.0, 37.0, 43.0, 50.0]), np.array([31.0, 40.0, 55.0])
    cubic = lambda k: 2 - 0.3 * k + 0.01 * k**2 - 1e-4 * k**3  # noqa: E731
    assert node_weights(nodes, x) @ cubic(nodes) == approx(cubic(x), rel=1e-12)
    assert node_weights(np.array([5.0]), x) == approx(np.ones((3, 1)))


def test_the_gini_of_equals_is_zero_and_of_one_owner_among_four_three_quarters():
    assert gini(np.array([2.0]), np.array([1.0])) == approx(0)
    assert gini(np.array([0.0, 8.0]), np.array([3.0, 1.0])) == approx(0.75)
    assert gini(np.array([1.0, 3.0]), np.array([0.5, 0.5])) == approx(0.25)
    people, owned = lorenz(np.array([3.0, 1.0]), np.array([0.5, 0.5]))
    assert people == approx([0, 0.5, 1]) and owned == approx([0, 0.25, 1])


def test_endogenous_grid_points_improve_a_guess_as_the_euler_equation_says():
    """Where the household saves, c of the improved policy equals what the Euler equation asks for if tomorrow follows the guess."""
    wealth, nodes = wealth_grid(400, 400, 4), np.array([35.0, 39.0, 43.0])
    problem = Problem.at(KS, wealth, nodes, LAW)
    guess = problem.earned[..., None] * 0.8 + 0.02 * problem.gross[:, None, :, None] * wealth
    better = Table(KS, wealth, nodes, problem.improved(guess))
    share = Table(KS, wealth, nodes, guess).share
    k, e, z = np.array([5.0, 40.0, 90.0]), np.array([1, 0, 1]), np.array([0, 1, 1])
    big_k = np.full(3, 39.0)
    consumed = better.consumption(k, e, big_k, z)
    saved = model.resources(KS, k, e, big_k, z) - consumed
    assert (saved > 1).all()
    assert consumed == approx(model.euler_consumption(KS, share, LAW, saved, e, big_k, z), rel=2e-4)


def test_a_path_of_levels_has_the_length_of_times_that_the_chain_says():
    level = households.level_path(KS, 20_000, 3)
    assert level.mean() == approx(0.5, abs=0.05) and (level[1:] == level[:-1]).mean() == approx(7 / 8, abs=0.01)


# -- the exact solution

def test_the_law_of_motion_is_right_to_the_sixth_digit_of_r2_and_for_ten_thousand_periods():
    facts = exact().facts
    assert facts["converged"] and min(facts["r2"].values()) >= 0.999998
    assert facts["den_haan_max_percent"] <= 0.20 and facts["den_haan_mean_percent"] <= 0.06
    assert 39.4 <= facts["mean_capital"] <= 39.7
    assert exact().seconds <= 8


def test_the_law_is_that_of_the_comparison_project_to_two_thousandths():
    """Maliar, Maliar and Valli (2010) report .123815 + .965565 log K in bad and .137800 + .963238 log K in good times."""
    assert np.array(exact().facts["law"]) == approx(np.array([[0.123815, 0.965565], [0.137800, 0.963238]]), abs=2e-3)


def test_euler_errors_of_the_exact_solution_are_small_where_households_are():
    errors = households.euler_errors(exact())
    assert errors.facts()["log10_mean_euler_error_ergodic"] < -4.5 and errors.facts()["log10_max_euler_error_ergodic"] < -2.5
    finer = krusell_smith.solve(KS, points=300)
    assert households.euler_errors(finer).facts()["log10_mean_euler_error_ergodic"] < errors.facts()["log10_mean_euler_error_ergodic"] - 0.3


def test_the_law_is_also_tested_on_paths_to_which_it_was_not_fitted():
    """The medians of three other seeds, and no time of the method's."""
    facts = exact().facts
    tests = [den_haan(facts["law"], households.simulate(KS, exact().share, households.level_path(KS, 11_000, seed))) for seed in (1, 2, 3)]
    assert facts["den_haan_fresh_max_percent"] == approx(np.median([test.largest for test in tests]))
    assert facts["den_haan_fresh_mean_percent"] == approx(np.median([test.mean for test in tests]))
    assert 0 < facts["den_haan_fresh_mean_percent"] < facts["den_haan_fresh_max_percent"] < 0.35
    assert facts["den_haan_fresh_max_percent"] != facts["den_haan_max_percent"]


@pytest.mark.parametrize("solver", [krusell_smith, neural_krusell_smith])
def test_what_the_fresh_paths_take_is_not_counted(solver, monkeypatch):
    def slow(*args):
        until = time.process_time() + 1
        while time.process_time() < until:
            pass
        return {"den_haan_fresh_max_percent": 0.0}
    small = {"rounds": 1, "periods": 500, "burn": 100} | ({"states": 50, "steps": 1} if solver is neural_krusell_smith else {})
    monkeypatch.setattr(solver, "fresh_paths", slow)
    began = time.process_time()
    policy = solver.solve(KS, **small)
    assert policy.facts["den_haan_fresh_max_percent"] == 0 and policy.seconds <= time.process_time() - began - 1


def test_consumption_rises_in_wealth_and_with_work_and_is_concave():
    k = np.linspace(0.5, 90, 180)
    at = [[exact().share(k, np.full(180, e), np.full(180, 39.5), np.full(180, z)) for e in (0, 1)] for z in (0, 1)]
    for z in (0, 1):
        consumed = [(1 - at[z][e]) * model.resources(KS, k, np.full(180, e), np.full(180, 39.5), np.full(180, z)) for e in (0, 1)]
        assert (np.diff(consumed, axis=1) > 0).all() and (consumed[1] > consumed[0]).all()
        assert (np.diff(consumed, 2, axis=1) < 2e-3).all()
        assert all(c[1] - c[0] > 2 * (c[-1] - c[-2]) for c in consumed)


def test_thousands_of_households_with_luck_of_their_own_own_what_the_continuum_owns():
    """In each period their capital does what the law says of one of the two times."""
    _, capital = households.play(exact(), households=5000, periods=250, seed=5)
    assert 37 < capital[100:].mean() < 42
    law = np.array(exact().facts["law"])
    growth = np.log(capital[1:, 0] / capital[:-1, 0])
    told = np.stack([np.log(model.next_capital(law, capital[:-1, 0], np.full(249, z)) / capital[:-1, 0]) for z in (0, 1)])
    assert np.abs(growth - told).min(0)[100:].max() < 5e-4


def test_capital_answers_to_patience_as_it_does_without_risk():
    """Unemployment is insured so well that K / K* is near one, whatever beta."""
    hurried = replace(KS, beta=0.985)
    capital = krusell_smith.solve(hurried, periods=2000, burn=500, rounds=6).facts["mean_capital"]
    assert capital / exact().facts["mean_capital"] == approx(model.steady_state(hurried) / model.steady_state(KS), rel=0.02)


@pytest.mark.parametrize(("p", "says"), [
    (model.aiyagari(), "krusell-smith needs aggregate risk, and params.productivity has one level; use the method aiyagari"),
    (replace(KS, transition=(.7, .2, .05, .05, .1, .8, .05, .05, .1, .1, .3, .5, .1, .1, .1, .7)), "shares that depend on the level"),
])
def test_a_model_that_the_method_does_not_fit_is_refused(p, says):
    for solver in (krusell_smith, neural_krusell_smith):
        with pytest.raises(ValueError, match=says):
            solver.solve(p)


@pytest.mark.parametrize(("settings", "says"), [
    ({"rounds": 0}, "rounds must be at least 1, got 0; the law comes of the first one"),
    ({"periods": 500, "burn": 1000}, "burn=1000 leaves too few of periods=500 to fit a law to; give a burn below periods"),
    ({"periods": 1000, "burn": 999}, "burn=999 leaves too few"),
    ({"burn": -1}, "burn=-1 leaves"),
])
def test_lengths_that_leave_nothing_to_fit_are_refused(settings, says):
    for solver in (krusell_smith, neural_krusell_smith):
        with pytest.raises(ValueError, match=says):
            solver.solve(KS, **settings)


def test_a_budget_of_seconds_is_kept():
    policy = krusell_smith.solve(KS, seconds=0)
    assert policy.facts["iterations"] == 1 and not policy.facts["converged"]


def test_the_same_seed_gives_the_same_law():
    short = {"periods": 1000, "burn": 200, "rounds": 2}
    assert krusell_smith.solve(KS, **short).facts["law"] == krusell_smith.solve(KS, **short).facts["law"]
    assert krusell_smith.solve(KS, seed=1, **short).facts["law"] != krusell_smith.solve(KS, **short).facts["law"]


# -- the learned one

def test_the_learned_policy_is_the_exact_one_to_a_percent_and_so_is_its_world():
    apart, worst = households.policy_distance(learned(), exact())
    assert apart < 0.01 and worst < 0.03
    assert learned().facts["mean_capital"] == approx(exact().facts["mean_capital"], rel=0.01)
    assert min(learned().facts["r2"].values()) > 0.9999
    assert 0 < learned().facts["den_haan_fresh_mean_percent"] < learned().facts["den_haan_fresh_max_percent"] < 2


def test_a_learned_policy_is_feasible_everywhere_and_bound_where_the_unemployed_own_nothing():
    k = np.array([0.0, 0.0, 500.0])
    share = learned().share(k, np.array([0, 1, 1]), np.full(3, 39.0), np.array([0, 1, 1]))
    assert ((share > 0) & (share < 1)).all() and share[0] < 0.02


def test_the_residual_is_zero_for_the_exact_policy_and_where_all_is_consumed_and_more_is_wanted():
    """phi(a, b) = 0 if and only if a, b >= 0 and a b = 0."""
    savings = neural_krusell_smith.Savings(KS, (4,))
    states = neural_krusell_smith.Points(KS, 0).draw(64)
    for state in states:
        assert len(state) == 64

    class Exact(neural_krusell_smith.Savings):
        def __call__(self, weights, wealth, income, capital, level, uses=None):
            return torch.from_numpy(exact().share(*(np.asarray(x) for x in torch.broadcast_tensors(wealth, income, capital, level))))
    law = torch.tensor(exact().facts["law"])
    found = neural_krusell_smith.residual(KS, Exact(KS, (4,)), law, torch.zeros(0), states)
    assert found.abs().mean() < 1e-3
    weights = savings.net.initial(torch.Generator().manual_seed(0))
    assert neural_krusell_smith.residual(KS, savings, law, weights, states).abs().mean() > 3 * found.abs().mean()
