"""Exact solvers against closed forms and against each other; each knows nothing of the others."""
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest import approx

from kernels import growth
from kernels.core.launch import BackendError, cuda_problem
from rllib_macro import diagnostics
from rllib_macro.solvers import calibrations, egm, perturbation, vfi
from rllib_macro.solvers.policy import Policy
from tests.worlds import needs_compiler

T1, T2, T3 = growth.jesusfv_corrected(), growth.jesusfv_extended(), growth.quarterly()
MARKOV, TWO_CHAINS = growth.jesusfv_markov(), growth.hercowitz_sampson()
ONE_RATE = replace(T2, depreciation=(0.9,))


@lru_cache(maxsize=32)
def solved(method, p, **settings):
    return {"egm": egm, "vfi": vfi, "perturbation": perturbation}[method].solve(p, **settings)


def distance(p, policy):
    return diagnostics.policy_distance(p, policy.share, egm.reference(p).share)[1]


# -- closed forms

def test_the_published_solution_lies_within_a_grid_step_of_the_generalised_closed_form_only():
    """C3 of growth: weights that sum to 1.0001 raise the share of the middle level; the textbook share is two steps off."""
    p = growth.jesusfv()
    grid, known = vfi.published_grid(p), growth.closed_form(p)
    k, z = (axis.ravel() for axis in np.meshgrid(grid, np.arange(5), indexing="ij"))
    d = np.ones_like(k)
    y, chosen = growth.resources(p, k, z, d), solved("vfi", p).share(k, z, d) * growth.resources(p, k, z, d)
    inside = known.share(k, z, d) * y > grid[0]
    assert (abs(chosen - known.share(k, z, d) * y) < vfi.STEP)[inside].all()
    assert abs(chosen - p.alpha * p.beta * y)[inside].max() > 2 * vfi.STEP


def test_the_published_solution_errs_as_measured():
    """On its grid points: log10 of the mean -4.67 or better, of the largest -4.24."""
    found = diagnostics.euler_errors(growth.jesusfv(), solved("vfi", growth.jesusfv()).share)
    assert found.max == approx(-4.24, abs=0.02) and -4.9 < found.mean < -4.6


@pytest.mark.parametrize(("method", "settings"), [("egm", {"start": "neutral"}), ("vfi", {"mode": "continuous"})], ids=["egm", "vfi"])
@pytest.mark.parametrize("p", [T1, growth.jesusfv(), TWO_CHAINS], ids=["corrected", "published", "hercowitz-sampson"])
def test_closed_forms_are_found_from_a_neutral_start(p, method, settings):
    policy = solved(method, p, **settings)
    assert policy.facts["converged"] and distance(p, policy) < 1e-9
    assert diagnostics.value_error(p, policy.value, growth.closed_form(p).value) < 1e-11


@needs_compiler
def test_choices_on_a_grid_come_as_near_to_hercowitz_and_sampson_as_the_grid_allows():
    """Capital is chosen to within a step, which is a few steps of consumption; four times the points leave a quarter of the distance."""
    off = []
    for points in (500, 2_000):
        policy = vfi.solve(TWO_CHAINS, points=points)
        off.append(distance(TWO_CHAINS, policy))
        assert policy.facts["converged"] and off[-1] < 4 * np.diff(vfi.grid_of(TWO_CHAINS, points)[:2])[0]
    assert off[0] > 2.5 * off[1]


# -- against each other

@pytest.mark.parametrize("p", [T2, MARKOV, T3, growth.aldrich(), replace(TWO_CHAINS, crra=2.0)],
                         ids=["extended", "markov", "quarterly", "aldrich", "risk-averse two chains"])
def test_first_order_conditions_and_value_iteration_agree(p):
    by_value, by_condition = solved("vfi", p, mode="continuous"), solved("egm", p)
    assert diagnostics.policy_distance(p, by_value.share, by_condition.share)[1] < 1e-8
    assert diagnostics.value_error(p, by_value.value, by_condition.value) < 1e-8


@needs_compiler
@pytest.mark.parametrize("p", [T2, MARKOV, T3], ids=["extended", "markov", "quarterly"])
def test_a_known_start_leads_to_the_same_choices(p):
    zero, known = (vfi.solve(p, mode="fast", points=800, start=start, rates=3) for start in vfi.STARTS)
    at = diagnostics.states(p, "box")
    assert (at.of(zero.share) == at.of(known.share)).all() and known.facts["iterations"] < zero.facts["iterations"]
    assert distance(p, zero) < 2e-2


def test_the_endogenous_grid_reaches_its_goal_in_milliseconds():
    runs = [egm.solve(ONE_RATE, nodes=400) for _ in range(5)]
    assert diagnostics.euler_errors(ONE_RATE, runs[0].share).max < -9
    assert np.median([run.seconds for run in runs]) < 0.02


def test_more_nodes_err_less():
    """A cubic errs with the fourth power of the distance between nodes."""
    errors = [diagnostics.euler_errors(T3, egm.solve(T3, nodes=nodes).share).max for nodes in (12, 24, 48)]
    assert errors[0] > errors[1] + 0.8 > errors[2] + 1.6


@pytest.mark.parametrize("make", growth.MODELS.values(), ids=growth.MODELS)
def test_every_model_has_a_reference_at_every_rate(make):
    p = make()
    reference = egm.reference(p)
    assert egm.reference(p) is reference and isinstance(reference, Policy)
    assert diagnostics.euler_errors(p, reference.share).max < -10


def test_between_rates_the_policy_is_as_good_as_at_them():
    policy = solved("egm", T2)
    for rate in (0.813, 0.9, 0.977):
        p = replace(T2, depreciation=(rate,))
        assert diagnostics.policy_distance(p, policy.share, egm.solve(p).share)[1] < 1e-9


def test_perturbation_is_the_log_linear_rule():
    for p in (T1, T2, T3):
        at = diagnostics.states(p, "core")
        assert perturbation.solve(p).share(at.k, at.z, at.d) == approx(growth.prior_share(p, at.k, at.z, at.d), rel=1e-12)


# -- what theory says of any solution

def economies():
    return st.builds(lambda alpha, beta, crra, d: replace(T1, alpha=alpha, beta=beta, crra=crra, depreciation=(d,)),
                     st.floats(0.2, 0.45), st.floats(0.9, 0.99), st.floats(0.5, 5), st.floats(0.02, 1))


@given(p=economies())
@settings(max_examples=15, deadline=None)
def test_more_capital_and_more_productivity_mean_more_of_both_goods(p):
    policy = egm.solve(p, nodes=100)
    assert policy.facts["converged"]
    k, z = np.meshgrid(np.linspace(*growth.box(p), 300), np.arange(5), indexing="ij")
    d = np.full(k.shape, p.depreciation[0])
    share, there = policy.share(k, z, d), growth.resources(p, k, z, d)
    assert (np.diff(share * there, axis=0) > 0).all() and (np.diff((1 - share) * there, axis=0) > 0).all()
    assert (np.diff((1 - share) * there, axis=1) > 0).all()
    value = policy.value(k, z, d)
    assert (np.diff(value, axis=0) > 0).all() and (np.diff(value, axis=1) > 0).all()
    assert (np.diff(value, 2, axis=0) < 0).all()


@given(p=economies(), scale=st.floats(0.5, 2))
@settings(max_examples=8, deadline=None)
def test_a_more_productive_economy_is_the_same_one_measured_in_smaller_units(p, scale):
    """Productivity times g is capital times g^(1/(1-alpha)), with the same shares saved."""
    larger = scale ** (1 / (1 - p.alpha))
    same = replace(p, productivity=tuple((scale * np.array(p.productivity)).tolist()), box_low=0.5 * larger, box_high=1.5 * larger)
    at = diagnostics.states(p, "box")
    k, z, d = at.k[::20], at.z[::20], at.d[::20]
    assert egm.solve(same).share(larger * k, z, d) == approx(egm.solve(p).share(k, z, d), abs=1e-7)


@pytest.mark.parametrize("policy", [
    lambda: solved("egm", T2), lambda: solved("vfi", T2, mode="continuous"), lambda: solved("vfi", growth.jesusfv()),
    lambda: perturbation.solve(T2),
], ids=["egm", "continuous", "grid", "perturbation"])
def test_a_policy_is_feasible_far_beyond_its_box(policy):
    share = policy().share
    k, z, d = np.geomspace(1e-6, 1e4, 60), np.arange(60) % 5, np.full(60, 1.0)
    found = share(k, z, d)
    assert found.shape == k.shape and ((found > 0) & (found < 1)).all()


def test_a_solver_stops_when_its_time_is_up():
    assert not egm.solve(growth.aldrich(), nodes=2_000, seconds=0.001).facts["converged"]
    assert not vfi.solve(T3, mode="continuous", seconds=0.001).facts["converged"]


# -- many calibrations

def test_many_calibrations_are_what_each_is_alone():
    models = calibrations.around(T3, 5)
    many = calibrations.solve_many(models, nodes=120)
    assert many.facts["converged"].all() and many.economies_per_second > 0
    for b in (0, 4):
        alone, k = egm.solve(models[b], nodes=120), many.capital[b]
        for z in range(5):
            assert many.share[b, z] == approx(alone.share(k, np.full(120, z), np.full(120, 0.025)), abs=1e-8)


@needs_compiler
def test_many_calibrations_by_value_iteration():
    models = calibrations.around(T1, 5)
    many = calibrations.solve_many(models, method="vfi", points=1_000)
    assert many.facts["converged"].all() and models[0] == T1
    for p, capital, share in zip(models, many.capital, many.share, strict=True):
        y = growth.output(p, capital[None, :], np.arange(5)[:, None])
        assert (abs(share - p.alpha * p.beta) * y).max() < np.diff(capital[:2])[0]


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=str(cuda_problem()))
@pytest.mark.parametrize("method", calibrations.METHODS)
def test_many_calibrations_are_the_same_on_a_gpu(method):
    models = calibrations.around(T1, 9)
    on_cpu, on_gpu = (calibrations.solve_many(models, method=method, points=1_000, device=device) for device in ("cpu", "cuda"))
    assert on_gpu.facts["converged"].all()
    np.testing.assert_allclose(on_gpu.share, on_cpu.share, rtol=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=str(cuda_problem()))
def test_a_gpu_chooses_as_the_published_program_does():
    p = growth.jesusfv()
    bitwise = vfi.solve(p, mode="bitwise")
    for settings_ in ({"mode": "bitwise"}, {"mode": "fast"}, {"mode": "fast", "start": "known"}):
        assert vfi.compared(vfi.solve(p, device="cuda", **settings_), bitwise)["policies that differ"] == 0


# -- against a program, and what is refused

@needs_compiler
def test_the_bitwise_mode_is_faster_than_the_program():
    found = vfi.against(repeats=1)
    assert found["opponent"] == "port" and 0 < found["ratio"] < 0.7 and found["cpu_seconds"] == approx(
        found["ratio"] * found["opponent_cpu_seconds"])
    ratios = vfi.times(repeats=1)
    assert ratios["policies that differ"] == 0 and ratios["seeded"] < ratios["fast"] < ratios["bitwise"] < 0.7


@pytest.mark.parametrize(("call", "sentence"), [
    (lambda: vfi.solve(T3, mode="bitwise"), "log utility and full depreciation only; use mode=fast or continuous"),
    (lambda: vfi.solve(T1, mode="published"), "the published program's numbers are those of jesusfv; choose that model, or mode=bitwise"),
    (lambda: vfi.solve(T1, mode="quick"), "mode must be one of bitwise, fast, continuous, published, got 'quick'"),
    (lambda: vfi.solve(T1, start="known"), "start must be zero or, with mode=fast, known"),
    (lambda: vfi.solve(T1, mode="bitwise", points=1000), "the published program has 17820 points, got points=1000; leave points out"),
    (lambda: vfi.solve(T1, points=3), "vfi needs at least 10 points of capital, got 3"),
    (lambda: vfi.solve(T3, device="cuda"), "mode=continuous runs on a CPU only; choose device=cpu, or mode=fast"),
    (lambda: vfi.solve(T1, device="tpu"), "device must be cpu or cuda, got 'tpu'"),
    (lambda: vfi.against("no such program"), "no such program could not be run .*; give the path of the compiled program"),
    (lambda: egm.solve(T1, nodes=3), "egm needs at least 8 nodes, got 3"),
    (lambda: egm.solve(T1, start="warm"), "start must be one of prior, neutral, got 'warm'"),
    (lambda: perturbation.solve(TWO_CHAINS), "perturbation knows linear accumulation only; use method=egm"),
    (lambda: calibrations.solve_many([T1], method="guess"), "method must be one of egm, vfi, got 'guess'"),
    (lambda: calibrations.solve_many([T2]), "take one rate of depreciation each, or a chain; give one for each rate of the range"),
    (lambda: calibrations.solve_many([T1, MARKOV]), "must have as many levels as each other, got 2 shapes; solve each alone"),
    *((lambda solve=solve: solve(replace(T1, beta=1.0)), "params.beta must lie strictly between 0 and 1")
      for solve in (vfi.solve, egm.solve, perturbation.solve)),
])
def test_a_mistake_is_one_sentence_with_the_fix(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call()


@pytest.mark.skipif(not cuda_problem(), reason="there is a GPU")
def test_a_missing_gpu_is_an_error():
    with pytest.raises(BackendError):
        calibrations.solve_many([T1], device="cuda")
