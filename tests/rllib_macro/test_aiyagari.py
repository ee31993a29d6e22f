"""Aiyagari's stationary equilibrium against an independent computation, and what theory says about it."""
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from pytest import approx

from kernels import incomplete_markets as model
from rllib_macro.households import gini
from rllib_macro.solvers import aiyagari
from rllib_macro.solvers.policy import Policy


@cache
def solved(crra: float) -> Policy:
    return aiyagari.solve(model.aiyagari(crra))


def iterated(p, capital, wealth):
    """Value iteration by brute force, Howard's steps in between: consumption (E, G) of a household that may only own points of a grid; and
    the distribution that it keeps, by moving everybody until nothing moves."""
    incomes, g = len(p.labor), len(wealth)
    rows = np.reshape(p.transition, (incomes, incomes))
    there = model.resources(p, wealth, np.arange(incomes)[:, None], np.full((1, 1), capital), np.zeros((1, 1), int))
    consumed = there[:, :, None] - wealth
    utility = np.where(consumed > 0, model.reward(p, np.maximum(consumed, 1e-12)), -1e12)
    value, chosen = np.zeros((incomes, g)), None
    at = np.arange(incomes)[:, None], np.arange(g)
    while True:
        before, chosen = chosen, (utility + p.beta * (rows @ value)[:, None, :]).argmax(-1)
        if before is not None and (before == chosen).all():
            break
        for _ in range(60):
            value = utility[at[0], at[1], chosen] + p.beta * np.take_along_axis(rows @ value, chosen, 1)
    mass = np.full((incomes, g), 1 / (incomes * g))
    for _ in range(3000):
        moved = np.stack([np.bincount(chosen[e], mass[e], g) for e in range(incomes)])
        mass = rows.T @ moved
    return np.take_along_axis(consumed, chosen[:, :, None], 2)[:, :, 0], mass


@pytest.mark.parametrize("crra", [1.0, 3.0])
def test_saving_and_wealth_are_those_of_brute_force_value_iteration(crra):
    """At given prices: consumption within a step of the grid and half of one on average, of which wealth remembers a few percent."""
    p, capital = model.aiyagari(crra, n_incomes=3), 5.9
    ours = aiyagari.stationary(p, capital, 200, 800, 24.0)
    wealth = 24 * np.linspace(0, 1, 500) ** 1.5
    consumed, mass = iterated(p, capital, wealth)
    at = np.broadcast_arrays(wealth, np.arange(3)[:, None], np.full((1, 1), capital), np.zeros((1, 1), int))
    met = (mass > 1e-6) & (wealth < 15)  # nearer to the top, its being the top is felt
    assert np.abs(ours.table.consumption(*at) - consumed)[met].max() < np.diff(wealth).max()
    assert np.abs(ours.table.consumption(*at) - consumed)[met].mean() < np.diff(wealth).mean() / 2
    assert mass.sum(0) @ wealth == approx(ours.supply, rel=0.05)
    assert gini(wealth, mass.sum(0)) == approx(gini(ours.wealth, ours.mass.sum(0)), abs=0.02)


def test_households_own_the_capital_that_firms_use_and_consume_the_rest():
    """K = supply, and C = Y - delta K in the stationary state."""
    policy = solved(3.0)
    p, capital = policy.p, policy.facts["capital"]
    found = aiyagari.stationary(p, capital, 300, 1000, 30 * model.steady_state(p))
    assert found.supply == approx(capital, rel=1e-6)
    at = np.broadcast_arrays(found.wealth, np.arange(7)[:, None], np.full((1, 1), capital), np.zeros((1, 1), int))
    consumed = (found.mass * found.table.consumption(*at)).sum()
    output = float(model.output(p, np.array(capital), np.array(1.0), np.array(0)))
    assert consumed == approx(output - p.depreciation * capital, rel=1e-5)


def test_the_distribution_is_one_that_stays():
    p = model.aiyagari(2.0, n_incomes=3)
    found = aiyagari.stationary(p, 5.8, 100, 300, 60.0)
    at = np.broadcast_arrays(found.wealth, np.arange(3)[:, None], np.full((1, 1), 5.8), np.zeros((1, 1), int))
    saved = found.table.share(*at) * model.resources(p, *at)
    moved = np.zeros_like(found.mass)
    for e in range(3):
        for g, k in enumerate(saved[e]):
            low = min(np.searchsorted(found.wealth, k, side="right") - 1, 298)
            weight = min((k - found.wealth[low]) / (found.wealth[low + 1] - found.wealth[low]), 1)
            moved[e, low] += (1 - weight) * found.mass[e, g]
            moved[e, low + 1] += weight * found.mass[e, g]
    assert model.chain(p).incomes[0, 0].T @ moved == approx(found.mass, abs=1e-12)
    assert found.mass.sum(1) == approx(model.chain(p).shares[0], abs=1e-9)


def test_the_return_lies_below_the_rate_of_time_preference_and_falls_with_risk_aversion():
    """Aiyagari (1994): precautionary saving lowers the return, the more the more risk averse households are."""
    rates = [solved(crra).facts["r"] for crra in (1.0, 3.0, 5.0)]
    assert 1 / 0.96 - 1 > rates[0] > rates[1] > rates[2] > 0.03
    assert solved(1.0).facts["gini"] > solved(5.0).facts["gini"] > 0.3


def test_without_risk_the_return_goes_to_the_rate_of_time_preference():
    nearly = aiyagari.solve(model.aiyagari(1.0, deviation=0.02))
    assert nearly.facts["r"] == approx(1 / 0.96 - 1, abs=1e-4)


def test_more_risk_lowers_the_return():
    assert aiyagari.solve(model.aiyagari(3.0, deviation=0.4)).facts["r"] < solved(3.0).facts["r"] - 0.005


def test_the_poor_consume_all_they_have():
    policy = solved(1.0)
    capital = policy.facts["capital"]
    share = policy.share(np.zeros(1), np.zeros(1, int), np.full(1, capital), np.zeros(1, int))
    assert share < 1e-9 and policy.facts["constrained"] > 0 and policy.facts["mass_at_top"] < 1e-12


def test_a_model_with_aggregate_risk_is_refused():
    with pytest.raises(ValueError, match="use krusell-smith"):
        aiyagari.solve(model.krusell_smith())
    with pytest.raises(ValueError, match="params.beta must lie strictly between 0 and 1"):
        aiyagari.solve(replace(model.aiyagari(), beta=1.0))
