"""Diagnostics against closed forms: with log utility and full depreciation a constant share s errs by 1 - s / (alpha beta) everywhere."""
from dataclasses import replace

import numpy as np
import pytest
from pytest import approx

from kernels import growth
from rllib_macro import diagnostics

P = growth.jesusfv_corrected()
BEST = P.alpha * P.beta
TRUTH = growth.closed_form(P)


def constant(share):
    return lambda k, z, d: np.full(np.shape(k), share)


@pytest.mark.parametrize("where", diagnostics.SETS)
def test_a_constant_share_errs_alike_in_every_state(where):
    found = diagnostics.euler_errors(P, constant(0.3), where)
    wanted = np.log10(abs(1 - 0.3 / BEST))
    assert (found.mean, found.max, found.mean_log) == approx((wanted, wanted, wanted), rel=1e-9)


def test_the_closed_form_has_no_euler_error():
    assert diagnostics.errors(P, TRUTH.share, diagnostics.states(P, "box")).max() < 1e-13


def test_the_statistic_of_older_tables_is_in_units_of_marginal_utility():
    assert diagnostics.legacy_euler(P, constant(0.3)) == approx(abs(BEST / 0.3 - 1), rel=1e-9)


def test_the_distance_of_consumption_from_the_truth():
    assert diagnostics.policy_distance(P, constant(0.3), TRUTH.share) == approx((abs(0.7 / (1 - BEST) - 1),) * 2, rel=1e-9)


def test_saving_too_little_costs_what_the_closed_form_says():
    worth = np.log(0.7 / (1 - BEST)) + BEST / (1 - BEST) * np.log(0.3 / BEST)
    assert diagnostics.welfare_loss(P, constant(0.3), TRUTH.share, paths=50) == approx(np.exp(worth) - 1, rel=1e-6)
    assert worth < 0


def test_risk_averse_households_lose_more_from_the_same_mistake():
    cautious = replace(P, crra=5.0)
    wrong = [diagnostics.welfare_loss(p, constant(0.2), constant(BEST), paths=200) for p in (P, cautious)]
    assert wrong[0] < 0 and wrong[1] < 0


def test_values_are_compared_in_units_of_one_period():
    assert diagnostics.value_error(P, lambda *at: TRUTH.value(*at) + 0.25, TRUTH.value) == approx(0.25)


def test_the_box_spans_all_levels_and_eleven_rates():
    at = diagnostics.states(growth.jesusfv_extended(), "box")
    assert at.k.size == 201 * 5 * 11
    assert (at.k.min(), at.k.max()) == approx(growth.box(growth.jesusfv_extended()))
    assert np.unique(at.d) == approx(np.linspace(0.8, 1, 11))


def test_the_visited_states_are_ten_thousand_of_the_policy_itself():
    found = diagnostics.visited(P, TRUTH.share)
    assert found.k.size == 10_000
    assert (found.k > 0.9 * growth.steady_state(P)).all() and (found.k < 1.1 * growth.steady_state(P)).all()
    again = diagnostics.visited(P, TRUTH.share)
    assert (found.k == again.k).all()


def test_no_path_can_be_drawn_from_the_published_weights():
    with pytest.raises(ValueError, match="row 3 of params.transition sums to 1.0001"):
        diagnostics.euler_errors(growth.jesusfv(), TRUTH.share, "ergodic")


def test_a_moving_rate_visits_all_its_levels():
    p = growth.jesusfv_markov()
    assert set(np.unique(diagnostics.visited(p, lambda *at: growth.prior_share(p, *at)).d)) == {0.8, 0.9, 1.0}
