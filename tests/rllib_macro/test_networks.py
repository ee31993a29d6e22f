"""The networks: sizes of the published ones, and a shared part that treats the members of another type alike."""
import pytest
import torch

from envs.core.choices import Head
from rllib_macro.config import Equivariant, from_text
from rllib_macro.evaluate import modules
from rllib_macro.networks import EquivariantSkip

PUBLISHED = """
economy: rbc
features: digits
policies: &all
  consumer: {network: &n {hidden: [128, 128], activation: relu, shared_trunk: true, init: torch}}
  firm: {network: *n}
  government: {network: *n}
"""


def test_the_networks_of_2022_have_the_published_number_of_parameters():
    built = modules(from_text(PUBLISHED))
    counts = {type_: sum(p.numel() for p in module.parameters()) for type_, module in built.items()}
    assert counts == {"consumer": 51_326, "firm": 40_479, "government": 38_437}


def test_the_same_seed_builds_the_same_network_and_another_seed_another():
    first, again, other = (modules(from_text("{economy: rbc, policies: {firm: {}}}", [f"seed={s}"]))["firm"] for s in (0, 0, 1))
    assert torch.equal(first.policy.weight, again.policy.weight)
    assert not torch.equal(first.policy.weight, other.policy.weight)


@pytest.fixture
def skip():
    heads = [Head("demand", 4)] * 3 + [Head("hours", 5), Head("employer", 3)]
    part = EquivariantSkip(heads, [[0, 3], [1, 4], [2, 5]], ["demand", "employer"])
    torch.nn.init.normal_(part.map.weight)
    return part


def test_a_member_moves_only_the_logits_that_concern_it(skip):
    obs = torch.randn(1, 6)
    changed = obs.clone()
    changed[0, 4] += 1.0  # a feature of member 1
    moved = (skip(changed) - skip(obs))[0].ne(0).nonzero()[:, 0].tolist()
    assert moved == [4, 5, 6, 7, 3 * 4 + 5 + 1]  # its four demand logits and its employer logit


def test_exchanging_two_members_exchanges_their_logits(skip):
    obs = torch.randn(1, 6)
    swapped = obs[:, [1, 0, 2, 4, 3, 5]]
    out, other = skip(obs)[0], skip(swapped)[0]
    torch.testing.assert_close(out[:4], other[4:8])
    torch.testing.assert_close(out[[17, 18, 19]], other[[18, 17, 19]])


def test_a_choice_without_one_head_or_option_for_each_member_is_refused():
    with pytest.raises(ValueError, match="hours must have one head or one option for each of the 3 members"):
        EquivariantSkip([Head("hours", 5)], [[0], [1], [2]], Equivariant(sees=("price",), moves=("hours",)).moves)
