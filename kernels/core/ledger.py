"""Money that is never lost: integer micro-units, one rounding for each payment, exact sums and splits, matrices that must be zero.

A payment is rounded once, at the payer, and the same integer reaches the payee. Integer sums do not depend on their order, so a ledger is
the same on every device. A `Matrix` of accounts names who gains and who loses in every row; `matrix` evaluates it for all replicas.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kernels.core.arrays import Array, namespace

MICRO = 1_000_000  # micro-units of one coin
FINE = 2.0**32  # counting units of one unit of labour
LIMIT = 2**62  # no balance may come near the end of int64, where identities still hold but money has wrapped around

Matrix = Mapping[str, Mapping[str, Callable[..., Array]]]  # row -> column -> f(states...) -> int64 (R,)


def micro(coins: Array) -> Array:
    """Coins in micro-units, rounded to the nearest: int64."""
    xp = namespace(coins)
    return xp.rint(coins * MICRO).astype(np.int64)


def coins(money: Array) -> Array:
    """Micro-units in coins, float64."""
    return money / MICRO


def share(money: Array, rate: Array | float) -> Array:
    """round(rate x money): interest, principal and other payments that are a rate times a balance, int64."""
    xp = namespace(money)
    return xp.rint(money * rate).astype(np.int64)


def floor_share(money: Array, rate: Array | float) -> Array:
    """floor(rate x money): taxes and rations, never more than the whole for a rate up to 1, int64."""
    xp = namespace(money)
    return xp.floor(money * rate).astype(np.int64)


def split(total: Array, weights: Array) -> Array:
    """One to many: total (R,) >= 0 over weights (R, n) >= 0 as x_k = round(V c_k) - round(V c_(k-1)), c the prefix share: sums to V.

    If all weights of a row are zero the last member takes everything.
    """
    xp = namespace(weights)
    prefix = xp.cumsum(weights, -1, dtype=np.float64)
    whole = prefix[..., -1:]
    ends = xp.rint(prefix / xp.where(whole > 0, whole, 1) * total[..., None]).astype(np.int64)
    ends = xp.minimum(ends, total[..., None])
    ends[..., -1] = total
    ends[..., 1:] -= ends[..., :-1].copy()
    return ends


def pour(amounts: Array, owner: Array, n: int) -> Array:
    """Many to one: amounts (R, m), int64, summed by owner (R, m) in 0 .. n - 1: (R, n), exact. Negative owners take nothing."""
    xp = namespace(amounts)
    replicas = amounts.shape[0]
    place = owner + xp.arange(replicas, dtype=np.int64)[:, None] * n
    valid = owner >= 0
    out = xp.zeros(replicas * n, amounts.dtype)
    xp.add.at(out, place[valid], amounts[valid])
    return out.reshape(replicas, n)


def tally(values: Array | None, owner: Array, n: int) -> Array:
    """Real values (R, m), or ones, summed by owner (R, m): (R, n) float64. Counted in units of 2^-32, so that the sum does not depend on
    its order. Negative owners count for nobody."""
    xp = namespace(owner)
    if values is None:
        return pour(xp.ones(owner.shape, np.int64), owner, n).astype(np.float64)
    return pour(xp.rint(values * FINE).astype(np.int64), owner, n) / FINE


def overdraw(deposits: Array, loans: Array) -> Array:
    """Payments always settle: what is missing on an account becomes a loan of the same bank. Changes both, returns the new loans."""
    xp = namespace(deposits)
    drawn = xp.maximum(-deposits, 0)
    deposits += drawn
    loans += drawn
    return drawn


def matrix(rows: Matrix, columns: tuple[str, ...], *states: Any) -> np.ndarray:
    """Matrix of accounts in numbers: int64 (rows, columns, R)."""
    entries = [{column: entry(*states) for column, entry in row.items()} for row in rows.values()]
    nothing = next(value for row in entries for value in row.values()) * 0
    xp = namespace(nothing)
    return xp.stack([xp.stack([row.get(column, nothing) for column in columns]) for row in entries])
