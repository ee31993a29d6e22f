"""Integer money: payments are rounded once, sums and splits are exact."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.core import ledger

WEIGHTS = st.lists(st.floats(0, 1e6, allow_nan=False, width=32), min_size=1, max_size=20)


def test_a_payment_is_rounded_to_a_millionth():
    assert ledger.micro(np.array([1.2345678, -0.5e-6, 1.5e-6])).tolist() == [1234568, 0, 2]
    assert ledger.coins(np.array([2_500_000])).tolist() == [2.5]


def test_shares_round_and_taxes_floor():
    money = np.array([10, 11, 13])
    assert ledger.share(money, 0.25).tolist() == [2, 3, 3]  # 2.5 to even, 2.75, 3.25
    assert ledger.floor_share(money, 0.25).tolist() == [2, 2, 3]


def test_a_split_is_cumulative_rounding():
    assert ledger.split(np.array([10]), np.array([[1.0, 1.0, 1.0]])).tolist() == [[3, 4, 3]]  # ends at 3.33, 6.67, 10
    assert ledger.split(np.array([7]), np.array([[0.0, 0.0]])).tolist() == [[0, 7]]


@given(total=st.integers(0, 2**50), weights=WEIGHTS)
def test_a_split_sums_to_the_whole_and_owes_nobody(total, weights):
    parts = ledger.split(np.array([total]), np.array([weights]))[0]
    assert parts.sum() == total
    assert (parts >= 0).all()


@given(total=st.integers(0, 2**40), weights=WEIGHTS)
def test_a_part_is_off_by_less_than_a_unit_of_rounding_at_each_end(total, weights):
    whole = sum(weights)
    if whole > 0:
        fair = np.array(weights, float) / whole * total
        assert (np.abs(ledger.split(np.array([total]), np.array([weights]))[0] - fair) <= 1 + 1e-9 * total).all()


def test_many_pay_one_and_nobody_is_nobody():
    amounts, owner = np.array([[2**60, 1, 5, 9], [1, 2, 3, 4]]), np.array([[0, 0, 1, -1], [1, 1, 1, 1]], np.int32)
    assert ledger.pour(amounts, owner, 2).tolist() == [[2**60 + 1, 5], [0, 10]]  # floats would lose the 1


def test_a_tally_counts_in_an_order_of_no_importance():
    rng = np.random.default_rng(0)
    values, owner = rng.random((1, 1000)), np.zeros((1, 1000), np.int32)
    order = rng.permutation(1000)
    assert ledger.tally(values, owner, 1) == ledger.tally(values[:, order], owner, 1)
    assert ledger.tally(values, owner, 1)[0, 0] == pytest.approx(values.sum(), rel=1e-10)
    assert ledger.tally(None, np.array([[0, -1, 0]]), 1).tolist() == [[2.0]]


def test_an_overdraft_is_a_loan():
    deposits, loans = np.array([-30, 5]), np.array([10, 0])
    assert ledger.overdraw(deposits, loans).tolist() == [30, 0]
    assert deposits.tolist() == [0, 5] and loans.tolist() == [40, 0]


def test_a_matrix_fills_what_a_row_does_not_name_with_zeros():
    rows = {"gift": {"giver": lambda s: -s, "taker": lambda s: s}, "find": {"taker": lambda s: 2 * s}}
    found = ledger.matrix(rows, ("giver", "taker"), np.array([5, 7]))
    assert found[:, :, 0].tolist() == [[-5, 5], [0, 10]]
    assert found.sum(1)[:, 1].tolist() == [0, 14]
