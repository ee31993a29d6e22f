"""Learners that know the budget: what they see, what a choice is worth by hand, and what they learn in seconds."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytest import approx

import envs
from envs.core.batch import Batch
from kernels import growth
from rllib_macro import diagnostics
from rllib_macro.solvers import model_based, structural
from rllib_macro.solvers.learned import ray_here, share_of
from rllib_macro.structural import ModelBasedTD3Config, Sight, StructuralTD3Config
from rllib_macro.td3 import MODULE, Wide
from tests.rllib_macro.test_td3 import DONE, SEEN

MODELS = {"growth": growth.jesusfv_corrected(), "growth_extended": growth.jesusfv_extended(), "growth_quarterly": growth.quarterly()}
T1 = MODELS["growth"]


@pytest.fixture(scope="module", autouse=True)
def one_ray():
    with ray_here():
        yield


def states(p, n=200, seed=0):
    rng = np.random.default_rng(seed)
    d = rng.choice(p.depreciation, n) if p.depreciation_transition else rng.uniform(min(p.depreciation), max(p.depreciation), n)
    return tuple(map(torch.from_numpy, (rng.uniform(*growth.box(p), n), rng.integers(0, len(p.productivity), n), d)))


@pytest.mark.parametrize("economy", MODELS)
def test_networks_see_what_the_environment_shows(economy):
    p, batch = MODELS[economy], Batch(envs.load(economy), MODELS[economy], 50, seed=2)
    sight, s = Sight(p), batch.s
    places = sight.places(torch.from_numpy(s.productivity.astype(int)), torch.from_numpy(s.depreciation))
    seen = sight.see(places, torch.from_numpy(s.capital))
    assert np.abs(seen.numpy() - batch.observe("household")[:, 0]).max() < 1e-6
    k, z, d = sight.states(seen)
    assert np.allclose(k, s.capital) and np.array_equal(z, s.productivity) and np.allclose(d, s.depreciation)


@pytest.mark.parametrize("p", [replace(T1, productivity=(1.0,), transition=(1.0,)), replace(T1, box_high=1.0)])
def test_what_has_no_range_is_seen_as_it_is(p):
    """One level of productivity, whose log is 0, and a box that ends at the steady state, log 1 = 0, give no scale: it is 1."""
    batch = Batch(envs.load("growth"), p, 50, seed=2)
    s, seen = batch.s, batch.observe("household")[:, 0]
    gap, tfp = np.log(s.capital / s.steady_capital), np.log(p.productivity)[s.productivity.astype(int)]
    assert np.isfinite(seen).all()
    assert seen[:, 0] == approx(gap if p.box_high == 1 else gap / np.log(p.box_high), abs=1e-6)
    assert seen[:, 1] == approx(tfp / (abs(np.log(p.productivity)).max() or 1), abs=1e-6)
    sight = Sight(p)
    k, z, d = sight.states(sight.see(sight.places(*map(torch.from_numpy, (s.productivity.astype(int), s.depreciation))),
                                     torch.from_numpy(s.capital)))
    assert np.allclose(k, s.capital) and np.array_equal(z, s.productivity) and np.allclose(d, s.depreciation)


@pytest.mark.parametrize("p", [*MODELS.values(), growth.jesusfv_markov(), growth.hercowitz_sampson()])
def test_the_start_is_the_prior(p):
    sight, (k, z, d) = Sight(p, "prior"), states(p)
    share = share_of(p, Wide(3, (4,), 1, zero=True), sight)
    assert np.abs(share(k.numpy(), z.numpy(), d.numpy()) - growth.prior_share(p, k.numpy(), z.numpy(), d.numpy())).max() < 1e-6


def test_a_neutral_start_saves_half():
    share = share_of(T1, Wide(3, (4,), 1, zero=True), Sight(T1))
    assert share(*(x.numpy() for x in states(T1))) == approx(0.5)


def built(cls, p, **settings):
    config = cls().training(growth_model=p, start="prior", target_noise=0.0, hidden=(8,), **settings)
    return config.build_learner_group(spaces={MODULE: (SEEN, DONE)})._learner


def rows(sight, k, z, d, z_):
    """One transition as the environment tells it."""
    def seen(k, z, d):
        return sight.see(sight.places(*(torch.tensor([v]) for v in (z, d))), torch.tensor([k])).float()
    return {"obs": seen(k, z, d), "next_obs": seen(k, z_, d), "rewards": torch.zeros(1)}


def log_worth(learner, slope):
    """Make every critic slope * (log k - log k*)."""
    for critic in (*learner.net.critics, *learner.net.target_critics):
        for parameter in critic.parameters():
            torch.nn.init.zeros_(parameter)
        torch.nn.init.constant_(critic.skip.weight[:, :1], slope / learner.sight.scale[0])


def test_a_choice_is_worth_its_utility_and_what_is_carried_over():
    """At k*, technology 1 and a saving of alpha beta, c = c* and k' = k*. With W = b log(k'/k*) that is worth 0. Met by A', k* is
    worth log A' + beta b log A': consumption c* A', and k* A' carried over."""
    learner = built(StructuralTD3Config, T1, capital_from="rows")
    b, k = 0.4, float(growth.steady_state(T1))
    log_worth(learner, b)
    batch = next(iter(learner.batches(rows(learner.sight, k, 2, 1.0, 3), 1, 1.0)))
    assert learner.actor_loss(batch).item() == approx(0.0, abs=1e-6)
    seen, value, slope = learner.fitted(batch)
    log_a = float(np.log(1.0106))
    assert seen[0].tolist() == approx([0, 0, 0], abs=1e-6)
    assert value.item() == approx((1 + T1.beta * b) * log_a, abs=1e-6)
    assert slope.item() == approx(T1.alpha / (1 - T1.alpha * T1.beta), abs=1e-5)  # k u'(c) alpha y / k = alpha y / c


def test_the_gradient_of_a_choice_is_marginal_utility_less_the_worth_of_capital():
    """d/ds of log((1-s) y) + beta b log(s y) vanishes at s = beta b / (1 + beta b), and nowhere else."""
    for b, sign in ((0.4, 0), (0.2, -1), (0.8, 1)):
        s = T1.alpha * T1.beta
        exact = s / (T1.beta * (1 - s))
        learner = built(StructuralTD3Config, T1, capital_from="rows")
        log_worth(learner, exact if not sign else b)
        batch = next(iter(learner.batches(rows(learner.sight, 0.2, 1, 1.0, 1), 1, 1.0)))
        learner.actor_loss(batch).backward()
        pull = -learner.net.actor.last.bias.grad.item()
        assert pull == approx(0, abs=1e-6) if not sign else np.sign(pull) == sign


def test_exact_expectations_weigh_every_successor():
    learner = built(ModelBasedTD3Config, T1, capital_from="rows")
    for critic in learner.net.target_critics:
        for parameter in critic.parameters():
            torch.nn.init.zeros_(parameter)
        torch.nn.init.constant_(critic.skip.weight[:, 1:2], 1.0)  # V' is the observed log technology
    k = float(growth.steady_state(T1))
    batch = next(iter(learner.batches(rows(learner.sight, k, 1, 1.0, 4), 1, 1.0)))
    _, value, _ = learner.fitted(batch)
    log_a = np.log(T1.productivity)
    expected = np.reshape(T1.transition, (5, 5))[1] @ log_a * learner.sight.scale[1]
    assert value.item() == approx(log_a[1] + T1.beta * expected, abs=1e-5)


def test_without_the_envelope_slopes_do_not_count():
    plain, steep = (built(StructuralTD3Config, T1, envelope=weight, capital_from="rows") for weight in (0.0, 1.0))
    transition = rows(plain.sight, 0.2, 1, 1.0, 1)
    losses = [learner.critic_loss(next(iter(learner.batches(transition, 1, 1.0)))).item() for learner in (plain, steep)]
    _, value, slope = steep.fitted(next(iter(steep.batches(transition, 1, 1.0))))
    assert losses[0] == approx(value.item() ** 2) and losses[1] == approx(value.item() ** 2 + slope.item() ** 2)


@pytest.mark.parametrize("method", [structural, model_based])
def test_seconds_of_learning_leave_a_neutral_start_behind(method):
    policy = method.solve(T1, seconds=4, seed=0)
    assert diagnostics.euler_errors(T1, policy.share).mean < -1.7  # half saved everywhere: -.4
    assert policy.facts["path"][0][1] == approx(diagnostics.euler_errors(T1, lambda k, z, d: 0 * k + 0.5).mean)
    assert 4 <= policy.seconds < 6


def test_a_good_prior_is_not_lost():
    p = MODELS["growth_extended"]
    assert diagnostics.euler_errors(p, structural.solve(p, seconds=4, start="prior").share).mean < -2.5  # the prior has -2.73


def test_a_chain_that_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="sums to 1.0001"):
        structural.solve(growth.jesusfv())
    with pytest.raises(ValueError, match="beta"):
        model_based.solve(replace(T1, beta=1.0))
