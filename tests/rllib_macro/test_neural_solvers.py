"""Solvers of the growth models by networks: derivatives against finite differences, policies against what is known of the solution."""

import numpy as np
import pytest
import torch

from kernels import growth
from rllib_macro import diagnostics
from rllib_macro.solvers import actor_critic_lm, euler_adam, euler_lm, neural_grid
from rllib_macro.solvers.neural import bellman
from rllib_macro.solvers.neural.ancestor import NeuralGrid
from rllib_macro.solvers.neural.bellman import Value
from rllib_macro.solvers.neural.euler import euler_residual
from rllib_macro.solvers.neural.lm import Marquardt
from rllib_macro.solvers.neural.nets import Savings, Use, jacobian
from rllib_macro.solvers.neural.points import sobol_points

SOLVERS = {"euler-lm": euler_lm, "euler-adam": euler_adam, "actor-critic-lm": actor_critic_lm, "neural-grid": neural_grid}


def somewhere(p, n=7, seed=3):
    return next(sobol_points(p, n, seed))


def random_weights(net, seed=0):
    """Weights whose last layer is not zero."""
    return 0.3 * torch.randn(net.after, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=["jesusfv_extended", "jesusfv_markov", "quarterly", "hercowitz_sampson"])
def p(request):
    return growth.MODELS[request.param]()


# -- derivatives

def central(f, weights, i, step=1e-4):
    moved = torch.zeros_like(weights)
    moved[i] = step
    return (f(weights + moved) - f(weights - moved)) / (2 * step)


def test_the_jacobian_of_euler_residuals_is_what_differences_say(p):
    savings, at = Savings(p, (4, 3)), somewhere(p)
    weights, uses = random_weights(savings.net), list[Use]()
    slopes = jacobian(euler_residual(savings, weights, at, uses), uses, len(weights))
    differences = torch.stack([central(lambda w: euler_residual(savings, w, at), weights, i) for i in range(len(weights))], 1)
    assert torch.allclose(slopes, differences, rtol=1e-5, atol=1e-8)
    assert slopes.abs().max() > 0.01


def test_the_jacobians_of_bellman_first_order_and_envelope_residuals_are_what_differences_say(p):
    savings, at = Savings(p, (3, 3)), somewhere(p)
    value = Value(p, (4, 3), first=savings.net.after)
    weights, uses = 0.3 * random_weights(value.net), list[Use]()
    found = bellman.optimality(savings, value, weights, at, uses)
    for number, residual in enumerate(found):
        def one(w, number=number):
            return bellman.optimality(savings, value, w, at)[number]
        slopes = jacobian(residual, uses, len(weights))
        differences = torch.stack([central(one, weights, i) for i in range(len(weights))], 1)
        assert torch.allclose(slopes, differences, rtol=1e-5, atol=1e-6 * float(slopes.abs().max()))


@pytest.mark.parametrize("start", ["prior", "neutral"])
def test_the_slope_of_a_value_is_its_derivative(p, start):
    value, at = Value(p, (5, 4), start), somewhere(p)
    weights = random_weights(value.net)
    worth, slope = value(weights, at.k, at.z, at.d)
    above, below = (value(weights, at.k * (1 + e), at.z, at.d)[0] for e in (1e-6, -1e-6))
    assert torch.allclose(slope, (above - below) / (2e-6 * at.k), rtol=1e-6)
    assert worth.shape == at.k.shape


def test_a_newton_step_lowers_the_residual(p):
    savings, at = Savings(p, (8, 8), "neutral"), somewhere(p, 200)
    weights = savings.net.initial(torch.Generator().manual_seed(0))
    uses = list[Use]()
    found = euler_residual(savings, weights, at, uses)
    after, lower = Marquardt().step(weights, found, jacobian(found, uses, len(weights)), lambda w: euler_residual(savings, w, at).detach())
    assert lower
    assert euler_residual(savings, after, at).square().sum() < found.square().sum()


def test_a_line_is_fitted_in_a_few_newton_steps():
    x = torch.linspace(-1, 1, 20, dtype=torch.float64)
    slopes = torch.stack([x, torch.ones_like(x)], 1)
    weights, damper = torch.zeros(2, dtype=torch.float64), Marquardt()
    for _ in range(4):
        weights, _ = damper.step(weights, slopes @ weights - (2 * x + 1), slopes, lambda w: slopes @ w - (2 * x + 1))
    assert weights.numpy() == pytest.approx([2, 1], abs=1e-9)


def test_where_nothing_is_lower_the_weights_stay():
    weights, exact = torch.ones(1, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    after, lower = Marquardt().step(weights, exact, torch.ones(3, 1, dtype=torch.float64), lambda w: exact)
    assert (after.item(), lower) == (1.0, False)


# -- expectations

def loop_q(p, share, worth, k, z, d):
    """(1-beta) u(c) + beta sum over z', d' of P Q V(k', z', d'), one state at a time with plain floats."""
    saved = share * growth.resources(p, *(np.array([x]) for x in (k, z, d)))[0]
    consumed = growth.resources(p, *(np.array([x]) for x in (k, z, d)))[0] - saved
    after = k ** (1 - d) * saved**d if p.log_linear else saved
    total, n, m = 0.0, len(p.productivity), len(p.depreciation)
    for z_ in range(n):
        chance = p.transition[z * n + z_]
        if not p.depreciation_transition:
            total += chance * worth(after, z_, d)
            continue
        today = p.depreciation.index(d)
        for i, d_ in enumerate(p.depreciation):
            total += chance * p.depreciation_transition[today * m + i] * worth(after, z_, d_)
    utility = np.log(consumed) if p.crra == 1 else consumed ** (1 - p.crra) / (1 - p.crra)
    return (1 - p.beta) * utility + p.beta * total


def test_q_of_tensors_is_q_of_loops(p):
    value, at = Value(p, (5, 4)), somewhere(p, 10)
    weights, share = random_weights(value.net), torch.linspace(0.2, 0.8, 10, dtype=torch.float64)

    def worth(k, z, d):
        return value(weights, torch.tensor([k], dtype=torch.float64), torch.tensor([z]), torch.tensor([d], dtype=torch.float64))[0].item()
    choice = bellman.chosen(p, share, at)
    found = bellman.q_value(p, value(weights, choice.k, choice.z, choice.d)[0], choice)
    for i in range(10):
        state = at.k[i].item(), at.z[i].item(), at.d[i].item()
        assert found[i].item() == pytest.approx(loop_q(p, share[i].item(), worth, *state), rel=1e-12)


def test_the_ancestors_q_is_a_loop_too():
    p = growth.jesusfv_corrected()
    learner = NeuralGrid(p, 0)
    learner.target.double()
    at, consumed = somewhere(p, 10), torch.full((10,), 0.3, dtype=torch.float64)
    found = learner.q(at, consumed)
    for i in range(10):
        k, z = at.k[i].item(), at.z[i].item()
        there = p.productivity[z] * k**p.alpha
        total = 0.0
        for z_ in range(5):
            seen = torch.tensor([max(there - 0.3, 0) - 0.5, z_ / 4 - 0.5], dtype=torch.float64)
            total += p.transition[z * 5 + z_] * learner.target(seen).item()
        assert found[i].item() == pytest.approx(np.log(min(0.3, there) + 1e-4) + p.beta * total, abs=1e-12)


# -- starts and budgets

@pytest.mark.parametrize("method", SOLVERS)
def test_an_untrained_network_is_the_prior(method, p):
    policy = SOLVERS[method].solve(p, steps=0)
    at = diagnostics.states(p, "box")
    assert policy.share(at.k, at.z, at.d) == pytest.approx(growth.prior_share(p, at.k, at.z, at.d), abs=1e-15)


@pytest.mark.parametrize("method", SOLVERS)
def test_a_neutral_start_knows_no_prior(method, p, monkeypatch):
    for name in ("prior_share", "log_linear_rule"):
        monkeypatch.setattr(growth, name, None)
    policy = SOLVERS[method].solve(p, steps=0, start="neutral")
    k, z, d = np.array([0.1, 0.3]), np.array([0, 1]), np.array(p.depreciation[:1] * 2)
    assert policy.share(k, z, d).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("method, settings", [
    ("euler-lm", {}), ("euler-adam", {}), ("actor-critic-lm", {}), ("neural-grid", {"cold_critic": 1}),
    ("neural-grid", {"ancestor": True, "cold_actor": 20}),
])
def test_the_same_seed_gives_the_same_policy(method, settings):
    p = growth.jesusfv_corrected()
    first, again, other = (SOLVERS[method].solve(p, steps=3, seed=seed, start="neutral", **settings) for seed in (1, 1, 2))
    at = diagnostics.states(p, "core")
    shares = [policy.share(at.k, at.z, at.d) for policy in (first, again, other)]
    assert np.array_equal(shares[0], shares[1])
    assert not np.array_equal(shares[0], shares[2])
    assert first.facts["steps"] == 3
    assert ((shares[0] > 0) & (shares[0] < 1)).all()


def test_the_path_of_errors_ends_with_the_policys_own():
    p = growth.quarterly()
    policy = euler_lm.solve(p, seconds=0.5)
    (start, before), (spent, after) = policy.facts["path"][0], policy.facts["path"][-1]
    assert after == diagnostics.euler_errors(p, policy.share).mean < before
    assert start < 0.1 < 0.5 <= spent <= policy.seconds < 1.5


def test_the_ancestor_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="logarithmic utility"):
        neural_grid.solve(growth.quarterly(), ancestor=True)


# -- what is reached

@pytest.mark.parametrize("model", ["jesusfv_corrected", "quarterly"])
def test_three_seconds_of_newton_reach_small_errors_from_nothing(model):
    p = growth.MODELS[model]()
    assert diagnostics.euler_errors(p, euler_lm.solve(p, seconds=3, start="neutral").share).mean < -4


@pytest.mark.parametrize("model", ["jesusfv_corrected", "hercowitz_sampson"])
def test_newton_leaves_an_exact_prior_alone(model):
    p = growth.MODELS[model]()
    policy = euler_lm.solve(p, seconds=3)
    assert diagnostics.policy_distance(p, policy.share, growth.closed_form(p).share)[1] < 1e-14
    assert policy.facts["steps"] == 1


def test_newton_corrects_the_log_linear_rule_by_two_orders_within_twenty_steps():
    p = growth.jesusfv_extended()
    path = euler_lm.solve(p, steps=20, states=600, hidden=(12, 12)).facts["path"]
    assert path[-1][1] < path[0][1] - 2


def test_actor_and_critic_agree_with_the_closed_form():
    p = growth.jesusfv_corrected()
    policy, known = actor_critic_lm.solve(p, steps=40, hidden=(8, 8), start="neutral"), growth.closed_form(p)
    assert diagnostics.policy_distance(p, policy.share, known.share)[1] < 1e-3
    assert diagnostics.value_error(p, policy.value, known.value) < 1e-3


def test_adam_and_value_iteration_come_closer_to_the_truth():
    p, known = growth.jesusfv_corrected(), growth.closed_form(growth.jesusfv_corrected())
    adam = euler_adam.solve(p, steps=150, hidden=(16, 16), start="neutral", states=256)
    grid = neural_grid.solve(p, steps=300, hidden=(16, 16), start="neutral", states=256, cold_critic=50)
    assert diagnostics.policy_distance(p, adam.share, known.share)[0] < 0.05
    assert diagnostics.policy_distance(p, grid.share, known.share)[0] < 0.1
    assert diagnostics.value_error(p, grid.value, known.value) < 0.05
