"""Hand-written behaviour: how rules are named, what they do, how their mistakes are told."""
import numpy as np
import pytest

import envs
from envs.core.batch import Batch
from envs.core.rules import legal_choice
from kernels import rbc

RBC = envs.load("rbc")
SMALL = rbc.Params(n_consumers=4, n_firms=2)


def decided(type_, rule, **state):
    """Actions after one type followed a rule in a world with some State fields set."""
    world = Batch(RBC, SMALL, rules={type_: rule})
    for name, value in state.items():
        getattr(world.s, name)[...] = value
    world.decide(type_, None)
    return world.a


def test_constant_fills_every_choice_with_its_value():
    a = decided("government", "constant(income_tax=0.2, corporate_tax=4e-1)")
    assert (a.income_tax, a.corporate_tax) == (pytest.approx([0.2]), pytest.approx([0.4]))


def test_arguments_left_out_keep_their_defaults():
    a = decided("government", " fixed( income_tax = 0.6 ) ")
    assert (a.income_tax, a.corporate_tax) == (pytest.approx([0.6]), pytest.approx([0.2]))


def test_firms_that_keep_their_terms_post_todays():
    a = decided("firm", "keep", price=[[700, 800]], wage=[[1, 2]])
    assert (a.price.tolist(), a.wage.tolist()) == ([[700, 800]], [[1, 2]])


def test_a_government_that_keeps_its_taxes_posts_todays():
    a = decided("government", "keep", income_tax=0.4, corporate_tax=0.6)
    assert (a.income_tax, a.corporate_tax) == (pytest.approx([0.4]), pytest.approx([0.6]))


def test_idle_consumers_neither_buy_nor_work():
    a = decided("consumer", "idle")
    assert not a.demand.any() and not a.hours.any()


def test_the_cobweb_turns_a_high_price_into_a_large_planting():
    world = Batch(envs.load("tests.economies.cobweb"), rules={"producer": "naive(share=1)"})
    world.s.price[...], world.s.stock[...] = 4.0, [[0.5, 2.5, 9.0]]
    world.decide("producer", None)
    assert world.a.offer.tolist() == [[0, 2, 4]]
    assert world.a.planted.tolist() == [[2, 2, 2]]  # (4 - 1) / 0.5 sacks at cost 1, for three producers


def test_choices_given_for_a_scripted_type_are_ignored():
    world = Batch(RBC, SMALL, rules=dict.fromkeys(RBC.agents, "random") | {"government": "fixed(income_tax=0.6)"})
    world.step({"government": np.zeros((1, 1, 1), int)})
    assert world.s.income_tax == pytest.approx([0.6])


def test_a_uniform_number_picks_among_the_legal_options():
    legal = np.array([False, True, False, True])
    assert legal_choice(np.array([0.0, 0.49, 0.5, 0.999]), legal).tolist() == [1, 1, 3, 3]
    each = np.array([[True, False], [False, True]])
    assert legal_choice(np.array([0.9, 0.1]), each).tolist() == [0, 1]


@pytest.mark.parametrize(("rule", "sentence"), [
    ("keap", "unknown rule 'keap' of firm; did you mean 'keep'?"),
    ("taylor", "unknown rule 'taylor' of firm; choose one of constant, random, idle, keep"),
    ("keep(wage=3)", "unknown argument 'wage' of firm's rule keep; there are none"),
    ("constant(price=3)", "constant needs a value for each choice of firm: constant(price=..., wage=...)"),
    ("constant(price=cheap, wage=1)", "rule 'constant(price=cheap, wage=1)' must look like name(key=number, ...)"),
    ("constant(3)", "rule 'constant(3)' must look like name(key=number, ...)"),
    ("keep; import os", "rule 'keep; import os' must look like name or name(key=number, ...)"),
])
def test_a_mistake_in_a_rule_is_one_sentence(rule, sentence):
    with pytest.raises(ValueError) as caught:
        Batch(RBC, SMALL, rules={"firm": rule})
    assert str(caught.value) == sentence


def test_a_misspelt_argument_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="^unknown argument 'income' of government's rule fixed; did you mean 'income_tax'\\?$"):
        Batch(RBC, SMALL, rules={"government": "fixed(income=0.3)"})
