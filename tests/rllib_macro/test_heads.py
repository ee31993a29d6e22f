"""The random variables of a policy: what is drawn has the probabilities that are reported."""
import numpy as np
import pytest
import torch

from envs.core.choices import Head
from kernels.core import categorical, launch
from rllib_macro.heads import ILLEGAL, Heads

CONSUMER = [Head("demand", 11)] * 10 + [Head("hours", 5), Head("employer", 10)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_neighbouring_heads_of_equal_size_are_scored_together():
    groups = Heads(CONSUMER).groups
    assert [(g.first, g.last, g.low, g.high) for g in groups] == [(0, 10, 0, 110), (10, 11, 110, 115), (11, 12, 115, 125)]


def test_log_probability_and_entropy_equal_torchs_distributions():
    heads, inputs = Heads(CONSUMER), torch.randn(50, 125, generator=generator())
    chosen, logp = heads.draw(inputs, generator(1))
    parts = [torch.distributions.Categorical(logits=x) for x in inputs.split([h.options for h in CONSUMER], 1)]
    want = sum(d.log_prob(chosen[:, i].long()) for i, d in enumerate(parts))
    torch.testing.assert_close(logp, want, rtol=1e-5, atol=1e-5)
    mine, entropy = heads.log_prob(inputs, chosen)
    torch.testing.assert_close(mine, want, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, sum(d.entropy() for d in parts), rtol=1e-5, atol=1e-5)


def test_entropies_are_weighted_head_by_head():
    heads, inputs = Heads([Head("a", 2), Head("b", 4)]), torch.zeros(1, 6)
    _, entropy = heads.log_prob(inputs, torch.zeros(1, 2, dtype=torch.int32), torch.tensor([1.0, 12.0]))
    assert entropy.item() == pytest.approx(np.log(2) + 12 * np.log(4))


def test_options_are_drawn_as_often_as_their_probability_says():
    heads, p = Heads([Head("a", 3)]), torch.tensor([0.2, 0.5, 0.3])
    chosen, _ = heads.draw(p.log().repeat(60_000, 1), generator())
    share = torch.bincount(chosen[:, 0].long(), minlength=3) / 60_000
    torch.testing.assert_close(share, p, rtol=0, atol=4 * (0.25 / 60_000) ** 0.5)


def test_an_illegal_option_is_never_drawn_even_by_the_largest_uniform():
    heads = Heads([Head("a", 3)])
    inputs = torch.tensor([[0.0, 0.0, ILLEGAL]]).repeat(2, 1)
    chosen, logp = heads.draw(inputs, generator(), uniform=torch.tensor([[1.0], [1e-9]]))
    assert chosen[:, 0].tolist() == [1, 0]
    assert logp.tolist() == pytest.approx([np.log(0.5)] * 2)


@pytest.mark.skipif(launch.native_problem() is not None, reason=str(launch.native_problem()))
def test_the_compiled_draw_picks_the_options_of_its_definition():
    rng = np.random.default_rng(0)
    table = categorical.layout(tuple(h.options for h in CONSUMER))
    for dtype in (np.float32, np.float64):
        logits = (3 * rng.standard_normal((500, table.n_logits))).astype(dtype)
        logits[:, 3] = ILLEGAL
        uniform = rng.random((500, table.n_heads)).astype(dtype)
        found = {}
        for backend in ("numpy", "native"):
            option, logp = np.zeros((500, table.n_heads), np.int32), np.zeros(500, dtype)
            with launch.use(backend):
                categorical.draw(*categorical.tables(table, logits, uniform, option, logp))
            found[backend] = option, logp
        np.testing.assert_array_equal(found["numpy"][0], found["native"][0])
        np.testing.assert_allclose(found["numpy"][1], found["native"][1], rtol=1e-5 if dtype == np.float32 else 1e-12)


def test_a_share_has_the_density_and_mean_of_its_beta_distribution():
    heads = Heads([Head("share", 0)])
    inputs = torch.tensor([[1.0, -1.0]]).repeat(20_000, 1)
    share, logp = heads.draw(inputs, generator())
    a, b = (1 + np.log1p(np.exp(x)) for x in (1.0, -1.0))
    assert share.dtype == torch.float32
    assert (share > 0).all()
    assert (share < 1).all()
    assert share.mean().item() == pytest.approx(a / (a + b), abs=4 * (0.25 / 20_000) ** 0.5)
    torch.testing.assert_close(logp, torch.distributions.Beta(torch.tensor(a), torch.tensor(b)).log_prob(share[:, 0].double()).float(),
                               rtol=1e-4, atol=1e-4)
    assert heads.mode(inputs)[0, 0].item() == pytest.approx(a / (a + b))


def test_mixed_heads_keep_their_order_and_the_same_seed_draws_the_same():
    heads = Heads([Head("a", 3), Head("share", 0), Head("b", 2)])
    inputs = torch.randn(200, 7, generator=generator(2))
    first, logp = heads.draw(inputs, generator(5))
    second, _ = heads.draw(inputs, generator(5))
    assert torch.equal(first, second)
    assert set(first[:, 0].tolist()) <= {0.0, 1.0, 2.0}
    assert set(first[:, 2].tolist()) <= {0.0, 1.0}
    torch.testing.assert_close(heads.log_prob(inputs, first)[0], logp)


def test_play_without_exploration_takes_the_likeliest_option():
    heads = Heads([Head("a", 3), Head("b", 2)])
    assert heads.mode(torch.tensor([[0.0, 2.0, 1.0, 3.0, 0.0]])).tolist() == [[1, 0]]
