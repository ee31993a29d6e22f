"""Returns, advantages and the PPO loss: hand-worked numbers, and the recorded losses of the 2022 program."""
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.core.choices import Head
from rllib_macro.heads import Heads
from rllib_macro.losses import clipped_surrogate, clipped_value_loss, gae, single_gamma_2022, standardise, value_loss

GOLDEN = Path(__file__).parents[2].parent / "shared" / "golden" / "rbc_training.npz"
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="the recorded traces of the 2022 program are not beside this checkout")


@pytest.fixture(scope="module")
def recorded():
    with np.load(GOLDEN) as file:
        return {name: torch.from_numpy(np.array(file[name])) for name in file.files}


def column(*values):
    return torch.tensor(values)[:, None]


def test_advantages_of_an_episode_that_ends_discount_to_its_last_reward():
    advantages = gae(column(1.0, 2.0), column(0.5, 0.25), column(0.25, 0.0), torch.tensor([[False], [True]]), gamma=0.5, lam=1.0)
    assert advantages[:, 0].tolist() == [1 + 0.5 * 2 - 0.5, 2 - 0.25]


def test_advantages_with_lambda_zero_look_one_period_ahead():
    advantages = gae(column(1.0, 2.0), column(0.5, 0.25), column(0.25, 0.0), torch.tensor([[False], [True]]), gamma=0.5, lam=0.0)
    assert advantages[:, 0].tolist() == [1 + 0.5 * 0.25 - 0.5, 2 - 0.25]


def test_an_episode_that_was_cut_goes_on_with_the_value_of_its_last_observation():
    advantages = gae(column(1.0, 1.0), column(0.0, 0.0), column(10.0, 0.0), torch.tensor([[True], [True]]), gamma=0.9, lam=0.95)
    assert advantages[:, 0].tolist() == pytest.approx([1 + 9.0, 1.0])


def test_single_gamma_discounts_the_whole_rest_once():
    assert single_gamma_2022(column(1.0, 2.0, 4.0), 0.5)[:, 0].tolist() == [1 + 0.5 * 6, 2 + 0.5 * 4, 4]


def test_standardised_numbers_have_mean_zero_and_unbiased_deviation_one():
    x = standardise(torch.tensor([1.0, 2.0, 3.0, 6.0]))
    assert x.mean().item() == pytest.approx(0, abs=1e-6)
    assert x.std().item() == pytest.approx(1, abs=1e-5)


def test_a_clipped_gain_pays_no_more_than_the_clip():
    rewarded = clipped_surrogate(torch.log(torch.tensor([2.0])), torch.zeros(1), torch.ones(1), 0.2)
    punished = clipped_surrogate(torch.log(torch.tensor([2.0])), torch.zeros(1), -torch.ones(1), 0.2)
    assert (rewarded.item(), punished.item()) == pytest.approx((-1.2, 2.0))


def test_value_clipping_row_by_row_differs_from_the_larger_of_two_means():
    values, old, targets = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]), torch.tensor([1.0, 1.0])
    of_means = clipped_value_loss(values, old, targets, 0.5, "squared", "mean_max_2022")
    by_row = clipped_value_loss(values, old, targets, 0.5, "squared", "elementwise")
    assert of_means.item() == pytest.approx((0.25 + 1) / 2)
    assert by_row.item() == pytest.approx((0.25 + 1) / 2)
    values = torch.tensor([1.0, 1.5])
    assert clipped_value_loss(values, old, targets, 0.5, "squared", "elementwise").item() == pytest.approx((0.25 + 0.25) / 2)
    targets = torch.tensor([1.0, 0.2])
    assert clipped_value_loss(values, old, targets, 0.5, "squared", "elementwise").item() == pytest.approx((0.25 + 1.69) / 2)
    assert clipped_value_loss(values, old, targets, 0.5, "squared", "mean_max_2022").item() == pytest.approx((0 + 1.69) / 2)


def test_the_huber_loss_is_linear_beyond_one():
    assert value_loss(torch.tensor([3.0]), torch.zeros(1)).item() == pytest.approx(2.5)
    assert value_loss(torch.tensor([3.0]), torch.zeros(1), "squared").item() == pytest.approx(9)


@needs_golden
def test_returns_equal_those_of_the_2022_program(recorded):
    gamma, rewards = float(recorded["ret/gamma"]), recorded["ret/rewards"].transpose(0, 1)
    torch.testing.assert_close(single_gamma_2022(rewards, gamma).transpose(0, 1), recorded["ret/quirk"], rtol=1e-6, atol=1e-6)
    flat = rewards.flatten(1)
    ends = torch.zeros_like(flat, dtype=torch.bool)
    ends[-1] = True
    textbook = gae(flat, torch.zeros_like(flat), torch.zeros_like(flat), ends, gamma, 1.0)
    torch.testing.assert_close(textbook.view_as(rewards).transpose(0, 1), recorded["ret/textbook"], rtol=1e-6, atol=1e-6)


@needs_golden
def test_the_ppo_loss_and_its_gradients_equal_those_of_the_2022_program(recorded):
    def of(name):
        return recorded[f"ppo/{name}"]

    heads = Heads([Head("goods", 11), Head("hours", 5), Head("employer", 10)])
    logits = torch.cat([of(f"logits{i}").flatten(0, 2) for i in range(3)], 1).requires_grad_()
    old_logits = torch.cat([of(f"old_logits{i}").flatten(0, 2) for i in range(3)], 1)
    values, chosen, clip = of("values").flatten().requires_grad_(), of("actions").flatten(0, 2), float(of("clip"))
    returns = single_gamma_2022((of("rewards") / float(of("reward_scale"))).transpose(0, 1), float(of("gamma"))).transpose(0, 1)
    torch.testing.assert_close(returns, of("returns"), rtol=1e-6, atol=1e-6)
    old_logp, _ = heads.log_prob(old_logits, chosen)
    torch.testing.assert_close(old_logp, of("old_logp").flatten(), rtol=1e-6, atol=1e-6)
    logp, entropy = heads.log_prob(logits, chosen)
    of_policy = clipped_surrogate(logp, old_logp, standardise((returns.flatten() - values).detach()), clip)
    of_value = clipped_value_loss(values, of("old_values").flatten(), returns.flatten(), clip, "huber", "mean_max_2022")
    total = of_policy - float(of("entropy_coef")) * entropy.mean() + float(of("value_weight")) * of_value
    for mine, name in ((of_policy, "policy_loss"), (of_value, "value_loss"), (entropy.mean(), "entropy"), (total, "total")):
        torch.testing.assert_close(mine.detach(), of(name), rtol=1e-5, atol=1e-6)
    total.backward()
    torch.testing.assert_close(values.grad, of("grad_values").flatten(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(logits.grad, torch.cat([of(f"grad_logits{i}").flatten(0, 2) for i in range(3)], 1), rtol=1e-4, atol=1e-7)
