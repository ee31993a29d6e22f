"""Stochastic growth against theory: numbers by hand, closed forms that solve their own equations, the log-linear rule where it is exact."""
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from kernels import growth
from rllib_macro import diagnostics

WORLDS = {
    "": {},
    "risk averse": {"crra": 2.0, "depreciation": (0.025,), "beta": 0.99},
    "log-linear": {
        "log_linear": 1, "depreciation": (0.8, 0.9, 1.0), "depreciation_transition": growth.jesusfv_markov().depreciation_transition},
}
T1, T2, T3 = growth.jesusfv_corrected(), growth.jesusfv_extended(), growth.quarterly()
HALF = replace(T1, alpha=0.5, beta=0.8, depreciation=(0.5,), productivity=(1.0, 2.0), transition=(0.75, 0.25, 0.5, 0.5))


def one(*values):
    return tuple(np.array([value]) for value in values)


# -- by hand: alpha 1/2, capital 4

def test_output_and_resources():
    k, z, d = one(4.0, 1, 0.5)
    assert growth.output(HALF, k, z) == approx(4)  # 2 sqrt 4
    assert growth.resources(HALF, k, z, d) == approx(6)  # + half of the capital
    assert growth.resources(replace(HALF, log_linear=1), k, z, d) == approx(4)


def test_capital_of_tomorrow():
    k, d, saved = one(4.0, 0.5, 1.0)
    assert growth.next_capital(HALF, k, d, saved) == approx(1)
    assert growth.next_capital(replace(HALF, log_linear=1), k, d, saved) == approx(2)  # sqrt 4 sqrt 1


def test_utility_and_its_inverse():
    c = np.array([2.0])
    assert growth.reward(HALF, c) == approx(np.log(2)) and growth.marginal_utility(HALF, c) == approx(0.5)
    averse = replace(HALF, crra=3.0)
    assert growth.reward(averse, c) == approx(-1 / 8) and growth.marginal_utility(averse, c) == approx(1 / 8)
    assert growth.consumption_of(averse, np.array([1 / 8])) == approx(2)


def test_what_capital_yields_and_costs():
    k, z, d, saved = one(4.0, 0, 0.5, 1.0)
    assert growth.marginal_return(HALF, k, z, d, saved) == approx(0.25 + 0.5)  # alpha y/k + 1 - d
    log_linear = replace(HALF, log_linear=1)
    assert growth.capital_price(log_linear, k, d, saved) == approx(1)  # saved / (d k') = 1 / (.5 * 2)
    assert growth.marginal_return(log_linear, k, z, d, saved) == approx(0.25 + 0.25)  # alpha y/k + (1-d)/d saved/k


def test_successors_of_two_chains():
    p = replace(HALF, depreciation=(0.5, 1.0), depreciation_transition=(0.9, 0.1, 0.2, 0.8))
    z, d, probability = growth.successors(p, *one(0, 1.0))
    assert z.tolist() == [[0, 0, 1, 1]] and d.tolist() == [[0.5, 1.0, 0.5, 1.0]]
    assert probability == approx(np.array([[0.75 * 0.2, 0.75 * 0.8, 0.25 * 0.2, 0.25 * 0.8]]))
    assert growth.expectation(d, probability) == approx(0.2 * 0.5 + 0.8)


def test_an_expectation_is_a_weighted_sum_whatever_the_weights_add_up_to():
    _, d, published = growth.successors(growth.jesusfv(), *one(2, 1.0))
    assert growth.expectation(d, published) == approx(1.0001) and growth.expectation(d, growth.successors(T1, *one(2, 1.0))[2]) == approx(1)


def test_the_published_steady_state():
    assert growth.steady_state(replace(T1, alpha=1 / 3)) == approx(0.178198287392527, rel=1e-12)
    assert growth.steady_consumption(replace(T1, alpha=1 / 3), 1.0) == approx(0.384533146478611, rel=1e-12)


@pytest.mark.parametrize("make", growth.MODELS.values(), ids=growth.MODELS)
def test_a_steady_state_is_a_rest_point(make):
    """At k*, with productivity 1 for ever, saving d k* (all of k* where capital does not last) is what the Euler equation asks for."""
    p = replace(make(), productivity=(1.0,), transition=(1.0,))
    for rate in p.depreciation:
        p = replace(p, depreciation=(rate,), depreciation_transition=())
        k, z, d = one(growth.steady_state(p, rate), 0, rate)
        there, c = growth.resources(p, k, z, d), growth.steady_consumption(p, rate)
        assert growth.next_capital(p, k, d, there - c) == approx(k, rel=1e-12)
        assert growth.euler_consumption(p, lambda k, z, d, s=1 - c / there: 0 * k + s, k, z, d) == approx(c, rel=1e-12)


# -- closed forms

@pytest.mark.parametrize("p", [
    T1, growth.jesusfv(), growth.hercowitz_sampson(), replace(growth.hercowitz_sampson(), depreciation_transition=(), depreciation=(0.7,)),
], ids=["corrected", "published", "hercowitz-sampson", "one rate"])
def test_a_closed_form_solves_euler_and_bellman_equations(p):
    known = growth.closed_form(p)
    at = diagnostics.states(p, "box")
    assert diagnostics.errors(p, known.share, at).max() < 1e-13
    there = growth.resources(p, at.k, at.z, at.d)
    saved = known.share(at.k, at.z, at.d) * there
    z, d, probability = growth.successors(p, at.z, at.d)
    k = growth.next_capital(p, at.k, at.d, saved)[..., None] + 0 * d
    bellman = (1 - p.beta) * growth.reward(p, there - saved) + p.beta * growth.expectation(known.value(k, z, d), probability)
    assert known.value(at.k, at.z, at.d) == approx(bellman, abs=1e-13)


def test_shares_of_the_closed_form():
    """alpha beta where rows sum to one; with the published weights the middle level saves more, as its future counts 1.0001."""
    assert growth.closed_form(T1).shares.ravel() == approx(T1.alpha * T1.beta, rel=1e-12)
    published = growth.closed_form(replace(growth.jesusfv(), alpha=1 / 3)).shares.ravel()
    assert published == approx([0.31666667, 0.31666689, 0.31669810, 0.31666689, 0.31666667], abs=5e-9)
    constant = replace(growth.hercowitz_sampson(), depreciation=(0.9,), depreciation_transition=())
    assert growth.closed_form(constant).shares.ravel() == approx(constant.alpha * 0.95 * 0.9 / (1 - 0.95 * 0.1), rel=1e-12)


def test_no_closed_form_is_claimed_where_none_is_known():
    assert all(growth.closed_form(p) is None for p in (T2, T3, growth.jesusfv_markov(), growth.aldrich(), replace(T1, crra=2.0)))


# -- the log-linear rule

def test_the_log_linear_rule_is_exact_for_log_utility_and_full_depreciation():
    center, root, lift = growth.log_linear_rule(T1, np.array([1.0]))
    assert root == approx(T1.alpha, rel=1e-12) and lift[0] == approx(np.log(T1.productivity), abs=1e-14)
    at = diagnostics.states(T1, "box")
    assert growth.prior_share(T1, at.k, at.z, at.d) == approx(T1.alpha * T1.beta, rel=1e-12)


@pytest.mark.parametrize(("p", "mean", "largest"), [(T2, -2.73, -1.66), (T3, -3.02, -2.32)], ids=["extended", "quarterly"])
def test_euler_errors_of_the_log_linear_rule(p, mean, largest):
    found = diagnostics.euler_errors(p, lambda k, z, d: growth.prior_share(p, k, z, d))
    assert (found.mean, found.max) == approx((mean, largest), abs=0.006)


def test_the_log_linear_rule_is_the_slope_of_the_solution():
    """Without shocks the error of the rule falls with the square of the distance to rest."""
    p = replace(T3, productivity=(1.0,), transition=(1.0,))
    off = []
    for distance in (1e-2, 5e-3):
        k, z, d = one(growth.steady_state(p) * np.exp(distance), 0, 0.025)
        share = lambda k, z, d: growth.prior_share(p, k, z, d)  # noqa: E731
        off.append(abs(growth.euler_consumption(p, share, k, z, d) / ((1 - share(k, z, d)) * growth.resources(p, k, z, d)) - 1)[0])
    assert off[0] / off[1] == approx(4, rel=0.05)


# -- one definition for all arrays

@given(k=st.floats(0.05, 40), z=st.integers(0, 4), rate=st.integers(0, 2), share=st.floats(0.05, 0.95),
       crra=st.sampled_from([1.0, 0.5, 2.0]), log_linear=st.integers(0, 1))
@settings(max_examples=25, deadline=None)
def test_tensors_arrays_and_numbers_agree(k, z, rate, share, crra, log_linear):
    torch = pytest.importorskip("torch")
    p = replace(growth.jesusfv_markov(), crra=crra, log_linear=log_linear)
    d, a = p.depreciation[rate], p.productivity[z]
    there = a * k**p.alpha + (0 if log_linear else (1 - d) * k)
    saved = share * there
    c, after = there - saved, k ** (1 - d) * saved**d if log_linear else saved
    gain = p.alpha * a * k ** (p.alpha - 1) + ((1 - d) / d * saved / k if log_linear else 1 - d)
    utility = np.log(c) if crra == 1 else c ** (1 - crra) / (1 - crra)
    arrays = [np.full(3, value) for value in (k, z, d, saved, c)]
    for K, Z, D, S, C in (arrays, [torch.from_numpy(array) for array in arrays]):
        found = (growth.resources(p, K, Z, D), growth.next_capital(p, K, D, S), growth.marginal_return(p, K, Z, D, S),
                 growth.reward(p, C), growth.marginal_utility(p, C))
        for value, wanted in zip(found, (there, after, gain, utility, c**-crra), strict=True):
            assert np.asarray(value) == approx(np.full(3, wanted), rel=1e-12, abs=1e-12)


def test_euler_consumption_is_the_same_on_tensors():
    torch = pytest.importorskip("torch")
    for p in (T1, T3, growth.jesusfv_markov(), growth.hercowitz_sampson()):
        at = diagnostics.states(p, "core")
        arrays = at.k[::50], at.z[::50], at.d[::50]
        share = lambda k, z, d: 0.3 + (0.01 + 0 * k) * z  # noqa: E731
        wanted = growth.euler_consumption(p, share, *arrays)
        found = growth.euler_consumption(p, share, *(torch.from_numpy(a) for a in arrays))
        assert found.numpy() == approx(wanted, rel=1e-12)
        assert growth.prior_share(p, *(torch.from_numpy(a) for a in arrays)).numpy() == approx(growth.prior_share(p, *arrays), rel=1e-11)


# -- what is refused

@pytest.mark.parametrize(("values", "sentence"), [
    ({"beta": 1.0}, "params.beta must lie strictly between 0 and 1, got 1"),
    ({"alpha": 0.0}, "params.alpha must lie strictly between 0 and 1, got 0"),
    ({"crra": 0.0}, "params.crra must be positive"),
    ({"depreciation": (-0.1,)}, r"params.depreciation must lie in \(0, 1\]"),
    ({"depreciation": (0.8, 0.9, 1.0)}, "more than two levels but no depreciation_transition"),
    ({"productivity": (0.0, 1, 1, 1, 1)}, "params.productivity must be positive"),
    ({"productivity": ()}, r"params.productivity must be positive, got \(\); give levels around 1"),
    ({"log_linear": 2}, "params.log_linear must be 0 or 1, got 2"),
    ({"transition": (1.2, -0.2, *T1.transition[2:])}, "params.transition must not be negative, got -0.2; give probabilities"),
    ({"depreciation": (0.9, 1.0), "depreciation_transition": (2.0, -1.0, 0.5, 0.5)},
     "params.depreciation_transition must not be negative, got -1"),
    ({"transition": (0.5, 0.5)}, "params.transition must be 5 rows of 5 probabilities"),
    ({"transition": (0.9, *T1.transition[1:])}, "row 1 of params.transition sums to 0.9273, so .*; make it sum to 1"),
    ({"box_low": 2.0}, "leave no grid.*; give 0 < box_low < box_high"),
])
def test_a_model_without_solution_is_refused_with_the_fix(values, sentence):
    with pytest.raises(ValueError, match=sentence):
        growth.validate(replace(T1, **values))


def test_published_weights_may_be_solved_but_not_drawn_from():
    growth.validate(growth.jesusfv())
    with pytest.raises(ValueError, match="row 3 of params.transition sums to 1.0001, so nothing can be drawn from it"):
        growth.validate(growth.jesusfv(), sampled=True)


def test_only_who_has_the_published_weights_is_sent_to_the_corrected_ones():
    with pytest.raises(ValueError, match=r"make it sum to 1 \(model jesusfv_corrected does\)$"):
        growth.validate(growth.jesusfv(), sampled=True)
    with pytest.raises(ValueError, match="row 1 of params.transition .* make it sum to 1$"):
        growth.validate(replace(T1, productivity=(1.0,), transition=(0.9,)))


def test_tauchen_rows():
    """White noise on -2, 0, 2: a sixth of it lies below -1, a sixth above 1."""
    levels, rows = growth.tauchen(3, persistence=0.0, deviation=1.0, width=2.0)
    assert levels == approx((-2, 0, 2)) and np.reshape(rows, (3, 3)) == approx(np.tile([0.158655, 0.682689, 0.158655], (3, 1)), abs=1e-6)
