"""Choices worked out by hand: the order of products, what windows exclude, what option numbers and shares mean."""
from types import SimpleNamespace

import numpy as np
import pytest

import envs
from envs.core.choices import Head, grid, interval, levels, pick, product, residual
from kernels import rbc

P = SimpleNamespace(n_goods=3, most=4.0)
FIRM, GOVERNMENT, CONSUMER = (envs.load("rbc").agents[type_].chooses for type_ in ("firm", "government", "consumer"))


def written(choice, chosen, p=P, **shapes):
    """Action fields after a choice wrote the options `chosen`, (B, agents, heads)."""
    a = SimpleNamespace(**{name: np.full(shape, np.nan, np.float32) for name, shape in shapes.items()})
    choice.write(p, np.array(chosen), a, {})
    return a


def test_a_firms_options_are_five_times_the_price_plus_the_wage():
    p = rbc.Params(n_firms=4)
    a = written(FIRM[0], [[[0], [1], [12], [29]]], p, price=(1, 4), wage=(1, 4))
    assert a.price.tolist() == [[0, 0, 1000, 2500]]
    assert a.wage.tolist() == [[0, 11, 22, 44]]
    assert FIRM[0].heads(p) == [Head("price*wage", 30)]


def test_a_governments_options_are_six_times_the_income_tax_plus_the_corporate_tax():
    a = written(GOVERNMENT[0], [[[0]], [[7]], [[11]], [[30]]], rbc.Params(), income_tax=(4,), corporate_tax=(4,))
    assert a.income_tax == pytest.approx([0, 0.2, 0.2, 1])
    assert a.corporate_tax == pytest.approx([0, 0.2, 1, 0])


def test_a_consumer_has_a_head_for_each_good_one_for_hours_and_one_for_the_employer():
    heads = [head for choice in CONSUMER for head in choice.heads(rbc.Params())]
    assert heads == [Head("demand", 11)] * 10 + [Head("hours", 5), Head("employer", 10)]


def test_a_consumer_works_by_quarters_of_full_time():
    a = written(CONSUMER[1], [[[0], [1], [2], [3], [4]]], rbc.Params(), hours=(1, 5))
    assert a.hours.tolist() == [[0, 260, 520, 780, 1040]]


def test_levels_are_equally_spaced_and_may_end_at_a_param():
    assert levels("x", 0, "most", 5).grid(P).tolist() == [0, 1, 2, 3, 4]
    assert levels("x", 0, "most", 5).grid(P).dtype == np.float32


def test_levels_of_each_member_are_written_in_its_own_column():
    a = written(levels("x", 0, 2, 3, each="n_goods"), [[[0, 1, 2], [2, 2, 0]]], x=(1, 2, 3))
    assert a.x.tolist() == [[[0, 1, 2], [2, 2, 0]]]


def test_a_pick_is_the_number_of_the_member():
    choice = pick("x", "n_goods")
    assert choice.heads(P) == [Head("x", 3)]
    assert written(choice, [[[2], [0]]], x=(1, 2)).x.tolist() == [[2, 0]]
    assert choice.violations(P, {"x": (1, 2)}).tolist() == [1, 0, 0]


def test_a_share_of_an_interval_lies_that_far_between_its_ends():
    assert written(interval("x", 1, "most"), [[[0.0], [0.5], [1.0]]], x=(1, 3)).x.tolist() == [[1, 2.5, 4]]
    assert interval("x").heads(P) == [Head("x", 0)] and interval("x").violations(P, {"x": (0, 0.5)}).size == 0


@pytest.mark.parametrize(("window", "bounds"), [((2, 3), (2, 3)), ((-9, 9), (1, 4)), ((3, 9), (3, 4)), ((4, 4), (4, 4))])
def test_a_window_narrows_an_interval_and_never_widens_it(window, bounds):
    assert interval("x", 1, "most").bounds(P, {"x": window}) == bounds


def test_a_window_beside_an_interval_is_an_error():
    with pytest.raises(ValueError, match=r"^the window \[5, 6\] on x misses its interval \[1, 4\]; widen it$"):
        interval("x", 1, "most").bounds(P, {"x": (5, 6)})


def test_windows_count_the_levels_that_lie_outside():
    assert levels("x", 0, 4, 5).violations(P, {"x": (1, 3)}).tolist() == [1, 0, 0, 0, 1]
    assert levels("x", 0, 4, 5, each="n_goods").violations(P, {"x": (4, 4)}).tolist() == [1, 1, 1, 1, 0] * 3
    assert levels("x", 0, 4, 5).violations(P, {"y": (9, 9)}).tolist() == [0] * 5


def test_a_product_adds_the_violations_of_its_factors():
    both = product(levels("x", 0, 1, 2), levels("y", 0, 2, 3))
    assert both.violations(P, {"x": (1, 1), "y": (0, 1)}).tolist() == [1, 1, 2, 0, 0, 1]


def test_a_level_on_the_edge_of_a_window_is_legal_in_float32():
    assert levels("x", 0, 1, 6).violations(P, {"x": (0, 0.2)}).tolist() == [0, 0, 1, 1, 1, 1]


def test_options_are_described_in_economic_units():
    assert product(levels("x", 0, 1, 2), levels("y", 0, 22, 3)).options(P) == "{0, 1} x {0, 11, 22}"
    assert levels("x", 0, 2, 3, each="n_goods").options(P) == "0, 1, 2 of each of 3"
    assert (pick("x", "n_goods").options(P), interval("x", 0, "most").options(P)) == ("0 .. 2", "[0, 4]")


# -- lists of values, what the state permits, corrections

def test_a_grid_is_the_values_listed():
    assert written(grid("rate", (-0.5, 0.0, 2.0)), [[[2], [0]]], rate=(1, 2)).rate.tolist() == [[2, -0.5]]


def test_a_correction_is_added_to_what_stands_there():
    a = SimpleNamespace(rate=np.array([[1.0, 5.0]], np.float32))
    residual("rate", (-0.5, 0.0)).write(P, np.array([[[0], [1]]]), a, {})
    assert a.rate.tolist() == [[0.5, 5.0]]


def test_a_pair_is_permitted_where_both_of_its_members_are():
    s = SimpleNamespace(purse=np.array([[1.0, 3.0]]))
    cheap = grid("price", (1.0, 2.0), lambda p, s, values: values <= s.purse[:, :, None])
    even = grid("count", (1.0, 2.0, 3.0), lambda p, s, values: values % 2 == 0 * s.purse[:, :1, None])
    assert product(cheap, even).legal(P, s).astype(int).tolist() == [[[0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0]]]
    free = levels("colour", 0, 1, 2)
    assert product(free, free).legal(P, s) is None and interval("share").legal(P, s) is None and pick("good", "n_goods").legal(P, s) is None
    assert product(cheap, free).legal(P, s).astype(int).tolist() == [[[1, 1, 0, 0], [1, 1, 1, 1]]]
