"""Observation vectors worked out by hand, and the two published layouts of the RBC economy column by column."""
from types import SimpleNamespace

import numpy as np
import pytest

import envs
from envs.core.batch import Batch
from envs.core.features import Layout, identity, own, public, saw_tooth

GLOBAL = [
    *(f"{name}[{i}]" for name in ("price", "wage", "inventory", "rationed") for i in range(10)), "income_tax", "corporate_tax", "period",
]
STATE = SimpleNamespace(
    rate=np.array([0.5, 0.25], np.float32),  # (B,)
    price=np.array([[1, 2, 3], [4, 5, 6]], np.float32),  # (B, k)
    budget=np.array([[10, -1], [0, 100]], np.float32),  # (B, agents)
    bought=np.arange(12, dtype=np.float32).reshape(2, 2, 3),  # (B, agents, k)
)


def digits(label):
    return [f"{label} mod 1e{k}" for k in range(1, 11)]


def names(view, type_):
    return [column.name for column in Batch(envs.load("rbc"), features=view).layout[type_].columns]


def seen(*features, view="scaled", p=None):
    """What both agents of both replicas see of STATE, (2, 2, width)."""
    layout = Layout(features, view, p, STATE, 2)
    out = np.empty((2, 2, layout.width), np.float32)
    layout.write(STATE, out)
    return out


# -- the published layouts

def test_the_raw_rows_are_those_of_2022():
    assert names("raw", "government") == GLOBAL
    assert names("raw", "consumer") == [*GLOBAL, "own budget", "own theta"]
    assert names("raw", "firm") == [*GLOBAL, "own firm_budget", "own capital", "own labor_share", *(f"is_{i}" for i in range(10))]
    assert [len(names("raw", type_)) for type_ in ("consumer", "firm", "government")] == [45, 56, 43]


def test_the_digits_replace_inventories_and_own_budgets_in_place():
    market = [*GLOBAL[:20], *(label for i in range(10) for label in digits(f"inventory[{i}]")), *GLOBAL[30:]]
    assert names("digits", "government") == market
    assert names("digits", "consumer") == [*market, *digits("own budget"), "own theta"]
    assert names("digits", "firm") == [
        *market, *digits("own firm_budget"), "own capital", "own labor_share", *(f"is_{i}" for i in range(10))]
    assert [len(names("digits", type_)) for type_ in ("consumer", "firm", "government")] == [144, 155, 133]


def test_the_digits_are_scaled_as_in_2022():
    world = Batch(envs.load("rbc"), features="digits")
    scales = {column.feature: column.scale for columns in world.layout.values() for column in columns.columns}
    assert scales == pytest.approx({
        "price": 1 / 2500, "wage": 1 / 44, "inventory": 1, "rationed": 1, "income_tax": 1, "corporate_tax": 1, "period": 1 / 10,
        "budget": 1, "theta": 100, "firm_budget": 1, "capital": 1 / 10000, "labor_share": 1, "identity": 1,
    })


def test_the_first_quarter_looks_as_it_should():
    world = Batch(envs.load("rbc"), features="scaled")
    firm = dict(zip(names("scaled", "firm"), world.observe("firm")[0, 7]))
    assert (firm["own price"], firm["price[3]"], firm["wage[0]"], firm["period"]) == pytest.approx((0.4, 0.4, 0, 0))
    assert (firm["own capital"], firm["is_7"], firm["is_6"], firm["own labor_share"]) == pytest.approx((1, 1, 0, 0.4))
    assert firm["own firm_budget"] == pytest.approx(np.log1p(2_200_000) / 10)


# -- the pieces

def test_a_saw_tooth_is_the_remainder_of_each_power_of_ten():
    assert saw_tooth(np.array([1234.0]))[0, :5] == pytest.approx([0.4, 0.34, 0.234, 0.1234, 0.01234])
    assert saw_tooth(np.array([-3.0]))[0, :2] == pytest.approx([0.7, 0.97])  # the remainder is never negative
    assert saw_tooth(np.ones((2, 3), np.float32)).shape == (2, 3, 10) and saw_tooth(np.ones(1, np.float32)).dtype == np.float32


def test_everybody_sees_what_is_public():
    assert seen(public("rate"), public("price")).tolist() == [[[0.5, 1, 2, 3]] * 2, [[0.25, 4, 5, 6]] * 2]


def test_everybody_sees_his_own_and_not_the_others():
    assert seen(own("budget")).tolist() == [[[10], [-1]], [[0], [100]]]
    assert seen(own("bought"))[1].tolist() == [[6, 7, 8], [9, 10, 11]]


def test_everybody_knows_who_he_is():
    assert seen(identity()).tolist() == [[[1, 0], [0, 1]]] * 2


def test_numbers_are_transformed_then_scaled():
    assert seen(public("price", scale=0.5))[0, 0].tolist() == [0.5, 1, 1.5]
    assert seen(public("rate", scale=lambda p: p), p=4)[:, 0, 0].tolist() == [2, 1]
    assert seen(own("budget", transform="signed_log"))[:, :, 0] == pytest.approx(
        np.array([[np.log(11), -np.log(2)], [0, np.log(101)]]))
    assert seen(own("budget", transform="log1p"))[0, :, 0] == pytest.approx([np.log(11), 0])


def test_the_raw_view_changes_no_number():
    assert seen(public("price", scale=9, transform="log1p", digits=True), view="raw")[0, 0].tolist() == [1, 2, 3]


def test_the_digits_view_expands_what_is_marked_and_scales_the_rest():
    out = seen(public("rate", scale=2), public("price", digits=True), view="digits")
    assert out.shape == (2, 2, 31)
    assert out[1, 0, [0, 1, 2, 11, 21]] == pytest.approx([0.5, 0.4, 0.04, 0.5, 0.6])


def test_a_feature_may_belong_to_some_views_only():
    assert seen(public("rate"), own("budget", views=("raw",))).shape[-1] == 1
    assert seen(public("rate"), own("budget", views=("raw",)), view="raw").shape[-1] == 2


def test_public_columns_are_found_by_name():
    layout = Layout((public("rate"), own("price"), public("price")), "scaled", None, STATE, 2)
    assert layout.where("price") == [2, 3, 4]


def test_an_unknown_view_is_an_error():
    with pytest.raises(ValueError, match="^features must be one of raw, scaled, digits, got 'raws'$"):
        Layout((), "raws", None, STATE, 2)


# -- made of the state

def test_a_feature_may_be_made_of_the_state_and_clipped():
    features = own("purse over price", of=lambda s: s.budget / s.price[:, :1], transform="clip"), public("twice", of=lambda s: 2 * s.rate)
    assert [column.name for column in Layout(features, "scaled", None, STATE, 2).columns] == ["own purse over price", "twice"]
    assert seen(*features).tolist() == [[[5, 1], [-1, 1]], [[0, 0.5], [5, 0.5]]]  # 10 and 25 are clipped
