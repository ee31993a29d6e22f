"""The books of the monetary economy: balance sheets, flows of a quarter, and the identities that hold in every quarter of every replica.

`BALANCE` and `FLOWS` are the matrices of Godley and Lavoie (2007) as data: every row names who holds or gains (+) and who owes or pays (-).
Financial rows and all columns sum to zero, in integers. `IDENTITIES` are what `audit` checks, T1 to T11: each maps sectors to what is
wrong there, zero if nothing is; what contains real quantities is relative and rounds at 1e-12. They read States, or `Page`s of them, on
which every total is taken once; of the State before a quarter only the fields named in `REMEMBERED`.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np

from kernels.core.arrays import Array, namespace
from kernels.core.ledger import LIMIT, Matrix

SECTORS = ("consumers", "firms", "banks", "government", "central bank")
ACCOUNTS = ("consumers", "firms current", "firms capital", "banks current", "banks capital", "government", "central bank current",
            "central bank capital")
REMEMBERED = ("deposits", "loans", "firm_deposits", "firm_loans", "capital", "inventory", "inventory_cost", "bank_deposits", "bank_loans",
              "equity", "bank_bonds", "advances", "reserves", "bonds", "central_bank_bonds", "treasury")
Errors = Mapping[str, Array]  # sector or row -> (R,)


class Page:
    """A State whose sums are taken once, however many identities ask for them; it is read within the quarter and then thrown away."""

    bank: Array
    firm_bank: Array
    equity: Array

    def __init__(self, s: Any):
        vars(self).update(vars(s))
        self.kind = type(s)
        self._total: dict[str, Array] = {}
        self._places: tuple[Array, Array] | None = None

    def total(self, name: str) -> Array:
        """Sum of a field over its agents, (R,)."""
        if name not in self._total:
            value = getattr(self, name)
            self._total[name] = value.sum(1) if value.ndim > 1 else value
        return self._total[name]

    def by_bank(self, consumers: Array, firms: Array) -> Array:
        """Balances of consumers and firms by their banks: int64 (R, B)."""
        xp = namespace(consumers)
        replicas, banks = self.equity.shape
        if self._places is None:
            first = banks * xp.arange(replicas)[:, None]
            self._places = (self.bank + first).ravel(), (self.firm_bank + first).ravel()
        total = xp.zeros(replicas * banks, np.int64)
        for place, amounts in zip(self._places, (consumers, firms), strict=True):
            xp.add.at(total, place, amounts.ravel())
        return total.reshape(replicas, banks)


def page(s: Any) -> Page:
    """The page of a State; itself if it is one."""
    return s if isinstance(s, Page) else Page(s)


def _total(name: str, sign: int = 1) -> Callable[[Any], Array]:
    """Sum of a field over its agents, with a sign."""
    return (lambda s: page(s).total(name)) if sign > 0 else (lambda s: -page(s).total(name))


def _sum(plus: tuple[str, ...], minus: tuple[str, ...] = ()) -> Callable[[Any], Array]:
    """Sums of some fields less those of others."""
    def entry(s: Any) -> Array:
        of = page(s)
        return sum(map(of.total, plus)) - sum(map(of.total, minus))
    return entry


_firms_worth = _sum(("capital_value", "inventory_cost", "firm_deposits"), ("firm_loans",))

BALANCE: Matrix = {
    "deposits": {"consumers": _total("deposits"), "firms": _total("firm_deposits"), "banks": _total("bank_deposits", -1)},
    "firm loans": {"firms": _total("firm_loans", -1), "banks": _total("firm_loans")},
    "consumer loans": {"consumers": _total("loans", -1), "banks": _sum(("bank_loans",), ("firm_loans",))},
    "government bonds": {"banks": _total("bank_bonds"), "government": _total("bonds", -1), "central bank": _total("central_bank_bonds")},
    "reserves": {"banks": _total("reserves"), "central bank": _total("reserves", -1)},
    "advances": {"banks": _total("advances", -1), "central bank": _total("advances")},
    "treasury account": {"government": _total("treasury"), "central bank": _total("treasury", -1)},
    "equity of firms": {"consumers": _firms_worth, "firms": lambda s: -_firms_worth(s)},
    "equity of banks": {"consumers": _total("equity"), "banks": _total("equity", -1)},
    "fixed capital": {"firms": _total("capital_value")},
    "inventories": {"firms": _total("inventory_cost")},
}
REAL_ROWS = ("fixed capital", "inventories")  # the only rows whose sum is not zero: the wealth of the nation


def firm_equity(s: Any) -> Array:
    """Capital, inventories and deposits less loans of each firm, at book value: int64 (R, F)."""
    return s.capital_value + s.inventory_cost + s.firm_deposits - s.firm_loans


def net_worth(s: Any) -> Array:
    """Of each consumer, deposits less loans plus the share in all firms and banks, in coins: float64 (R, C)."""
    owned = (firm_equity(s).sum(1) + s.equity.sum(1))[:, None]
    return (s.deposits - s.loans + s.ownership * owned) / 1e6


# -- flows of a quarter, from states before (b) and after (s) it

def _paid(name: str, sign: int = 1) -> Callable[[Any, Any], Array]:
    """A flow of the quarter, with a sign."""
    entry = _total(name, sign)
    return lambda b, s: entry(s)


def _rise(name: str, sign: int = 1) -> Callable[[Any, Any], Array]:
    """Rise of a stock over the quarter, with a sign."""
    entry = _total(name, sign)
    return lambda b, s: entry(s) - entry(b)


def _both(*entries: Callable[[Any, Any], Array]) -> Callable[[Any, Any], Array]:
    """Sum of entries."""
    return lambda b, s: sum(entry(b, s) for entry in entries)


def _firms_kept(b: Any, s: Any) -> Array:
    """Retained earnings of firms: what comes in less what goes out, goods in stock at cost."""
    return _firms_earned(s) + _inventories(b, s)


_firms_earned = _sum(("revenue", "firm_interest_received"), ("wage_bill", "firm_interest_paid", "firm_tax", "firm_dividends"))
_inventories = _rise("inventory_cost")
_banks_kept = _sum(("loan_interest", "coupons", "reserve_interest"), ("deposit_interest", "advance_interest", "bank_tax", "bank_dividends"))
_remitted = _sum(("central_bank_coupons", "advance_interest"), ("reserve_interest",))  # all profit of the central bank


def bank_kept(s: Any) -> Array:
    """Retained earnings of each bank: int64 (R, B)."""
    return (s.loan_interest + s.coupons + s.reserve_interest - s.deposit_interest - s.advance_interest - s.bank_tax - s.bank_dividends)


def _now(entry: Callable[[Any], Array], sign: int = 1) -> Callable[[Any, Any], Array]:
    """What the quarter's flows alone decide, with a sign."""
    return lambda b, s: sign * entry(s)


FLOWS: Matrix = {
    "consumption": {"consumers": _paid("spending", -1), "firms current": _paid("spending")},
    "purchases": {"firms current": _paid("purchases"), "government": _paid("purchases", -1)},
    "investment": {"firms current": _paid("investment"), "firms capital": _paid("investment", -1)},
    "inventory change": {"firms current": _rise("inventory_cost"), "firms capital": _rise("inventory_cost", -1)},
    "wages": {"consumers": _paid("wage_income"), "firms current": _paid("wage_bill", -1)},
    "benefits and transfers": {"consumers": _paid("benefits"), "government": _paid("benefits", -1)},
    "income tax": {"consumers": _paid("income_taxes", -1), "government": _paid("income_taxes")},
    "corporate tax": {"firms current": _paid("firm_tax", -1), "banks current": _paid("bank_tax", -1),
                      "government": _both(_paid("firm_tax"), _paid("bank_tax"))},
    "interest on loans": {"consumers": _paid("interest_paid", -1), "firms current": _paid("firm_interest_paid", -1),
                          "banks current": _paid("loan_interest")},
    "interest on deposits": {"consumers": _paid("interest_received"), "firms current": _paid("firm_interest_received"),
                             "banks current": _paid("deposit_interest", -1)},
    "coupons": {"banks current": _paid("coupons"), "government": _both(_paid("coupons", -1), _paid("central_bank_coupons", -1)),
                "central bank current": _paid("central_bank_coupons")},
    "interest on reserves": {"banks current": _paid("reserve_interest"), "central bank current": _paid("reserve_interest", -1)},
    "interest on advances": {"banks current": _paid("advance_interest", -1), "central bank current": _paid("advance_interest")},
    "central bank profit": {"government": _now(_remitted), "central bank current": _now(_remitted, -1)},
    "dividends": {"consumers": _paid("dividends"), "firms current": _paid("firm_dividends", -1),
                  "banks current": _paid("bank_dividends", -1)},
    "retained earnings of firms": {"firms current": lambda b, s: -_firms_kept(b, s), "firms capital": _firms_kept},
    "retained earnings of banks": {"banks current": _now(_banks_kept, -1), "banks capital": _now(_banks_kept)},
    "recapitalisation": {"banks capital": _paid("recapitalised"), "government": _paid("recapitalised", -1)},
    "bail-in": {"consumers": _paid("bailed_in", -1), "firms capital": _paid("firm_bailed_in", -1), "banks capital": _paid("bail_in")},
    "equity issue": {"consumers": _paid("equity_paid", -1), "firms capital": _paid("equity_issued")},
    "account transfers": {"banks capital": _now(_sum(("moved_deposits",), ("moved_loans",)))},
    "change of deposits": {"consumers": _rise("deposits", -1), "firms capital": _rise("firm_deposits", -1),
                           "banks capital": _rise("bank_deposits")},
    "change of firm loans": {  # before write-offs
        "firms capital": _both(_rise("firm_loans"), _paid("firm_forgiven")),
        "banks capital": _both(_rise("firm_loans", -1), _paid("firm_forgiven", -1))},
    "change of consumer loans": {
        "consumers": _both(_rise("loans"), _paid("forgiven")),
        "banks capital": _both(_rise("firm_loans"), _rise("bank_loans", -1), _now(_sum(("firm_forgiven",), ("write_offs",))))},
    "change of bonds": {"banks capital": _rise("bank_bonds", -1), "government": _rise("bonds"),
                        "central bank capital": _rise("central_bank_bonds", -1)},
    "change of reserves": {"banks capital": _rise("reserves", -1), "central bank capital": _rise("reserves")},
    "change of advances": {"banks capital": _rise("advances"), "central bank capital": _rise("advances", -1)},
    "change of the treasury account": {"government": _rise("treasury", -1), "central bank capital": _rise("treasury")},
}


# -- identities

def t1_matrices(p: Any, b: Any, s: Any) -> Errors:
    """Every financial row and every column of both matrices sums to zero; net worth is what is left of a column of the balance sheet."""
    b, s = page(b), page(s)
    flow_rows, flow_columns = _margins(FLOWS, b, s)
    stock_rows, stock_columns = _margins(BALANCE, s)
    errors = {f"flows, {row}": total for row, total in flow_rows.items()}
    errors |= {f"flows of {account}": total for account, total in flow_columns.items()}
    errors |= {f"balance sheet, {row}": total for row, total in stock_rows.items() if row not in REAL_ROWS}
    return errors | {f"balance sheet of {sector}": stock_columns[sector] for sector in ("firms", "banks", "central bank")}


def _margins(rows: Matrix, *states: Any) -> tuple[dict[str, Array], dict[str, Array]]:
    """Sums of the rows and of the columns of a matrix of accounts: int64 (R,) each."""
    across: dict[str, Array] = {}
    down: dict[str, Array] = {}
    for row, entries in rows.items():
        for column, entry in entries.items():
            value = entry(*states)
            across[row] = across[row] + value if row in across else value
            down[column] = down[column] + value if column in down else value
    return across, down


def t2_reserves(p: Any, b: Any, s: Any) -> Errors:
    """Reserves seen from both sides: sum over banks of D + E + Adv - L - B_b equals B_cb + Adv - T."""
    s = page(s)
    deposits, loans = s.by_bank(s.deposits, s.firm_deposits), s.by_bank(s.loans, s.firm_loans)
    own = deposits + s.equity + s.advances - loans - s.bank_bonds
    issued = s.central_bank_bonds + s.advances.sum(1) - s.treasury
    return {"banks": _worst(own - s.reserves), "central bank": own.sum(1) - issued}


def t3_bonds(p: Any, b: Any, s: Any) -> Errors:
    """Bonds held are bonds issued."""
    return {"government": s.bank_bonds.sum(1) + s.central_bank_bonds - s.bonds}


CHANGES: dict[str, dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {  # balance -> what adds to it and what takes from it in a quarter
    "consumers": {
        "deposits": (("wage_income", "benefits", "interest_received", "dividends", "borrowed"),
                     ("income_taxes", "spending", "interest_paid", "repaid", "bailed_in", "equity_paid")),
        "loans": (("borrowed",), ("repaid", "forgiven")),
    },
    "firms": {
        "firm_deposits": (("revenue", "firm_interest_received", "firm_borrowed", "equity_issued"),
                          ("wage_bill", "investment", "firm_interest_paid", "firm_tax", "firm_dividends", "firm_repaid", "firm_bailed_in")),
        "firm_loans": (("firm_borrowed",), ("firm_repaid", "firm_forgiven")),
        "inventory_cost": (("wage_bill",), ("goods_cost",)),
    },
}


def t4_stocks_and_flows(p: Any, b: Any, s: Any) -> Errors:
    """Every balance of every agent closes at opening plus flows less write-offs."""
    s = page(s)
    errors = {sector: _worst(*(_gap(b, s, balance, *changes) for balance, changes in of.items())) for sector, of in CHANGES.items()}
    held = s.moved_deposits + s.by_bank(s.deposits - b.deposits, s.firm_deposits - b.firm_deposits)
    lent = s.moved_loans + s.by_bank(s.borrowed - s.repaid, s.firm_borrowed - s.firm_repaid) - s.write_offs
    received = s.total("income_taxes") + s.total("firm_tax") + s.total("bank_tax") + _remitted(s)
    paid = s.total("benefits") + s.purchases + s.total("coupons") + s.central_bank_coupons + s.total("recapitalised")
    return errors | {
        "banks": _worst(b.bank_deposits + held - s.bank_deposits, b.bank_loans + lent - s.bank_loans),
        "government": b.treasury + received - paid + s.bonds - b.bonds - s.treasury,
    }


def _gap(b: Any, s: Any, balance: str, plus: tuple[str, ...], minus: tuple[str, ...]) -> Array:
    """Opening balance and what came, less what went and the closing balance, of each agent."""
    gap = getattr(b, balance) - getattr(s, balance)
    for name in plus:
        gap += getattr(s, name)
    for name in minus:
        gap -= getattr(s, name)
    return gap


def t5_bank_equity(p: Any, b: Any, s: Any) -> Errors:
    """E' = E + retained earnings + recapitalisation + bail-in - write-offs, for each bank."""
    return {"banks": _worst(b.equity + bank_kept(s) + s.recapitalised + s.bail_in - s.write_offs - s.equity)}


def t6_wealth(p: Any, b: Any, s: Any) -> Errors:
    """Net worth of consumers and government is capital and inventories, relative."""
    s = page(s)
    xp = namespace(s)
    nation = s.total("capital_value") + s.total("inventory_cost")
    consumers = s.total("deposits") - s.total("loans") + _firms_worth(s) + s.total("equity")
    claims = consumers + s.treasury - s.bonds
    value = (s.total("capital") * s.price_level) * 1e6 + s.total("inventory_cost")
    rounding = 0.5 * s.capital.shape[1]  # of each firm's book value to a unit
    off = xp.maximum(xp.abs(nation - value) - rounding, 0) / xp.maximum(value, 1)
    return {"the nation": xp.maximum(xp.abs(claims - nation) / xp.maximum(value, 1), off)}


def t7_jobs(p: Any, b: Any, s: Any) -> Errors:
    """Heads on payrolls are consumers with a job, firm by firm, and every employer exists."""
    xp = namespace(s)
    replicas, firms = s.employees.shape
    place = xp.clip(s.employer, -1, firms - 1) + (firms + 1) * xp.arange(replicas)[:, None] + 1  # the unemployed come first
    heads = xp.bincount(place.ravel(), minlength=replicas * (firms + 1)).reshape(replicas, firms + 1)[:, 1:]
    return {"firms": _worst(heads - s.employees), "consumers": (s.employer >= firms).sum(1) + (s.employer < -1).sum(1)}


def t8_goods(p: Any, b: Any, s: Any) -> Errors:
    """Opening inventory plus output is sales plus closing inventory, and K' = K + (investment - wear) / P, firm by firm, relative."""
    xp = namespace(s)
    supply = b.inventory + s.produced
    unit = (1e-6 / s.price_level)[:, None]  # of money, in goods: wear is rounded to it
    off = xp.maximum(xp.abs(b.capital + (s.investment - s.worn) * unit - s.capital) - unit, 0)
    return {"firms": (xp.abs(supply - s.sales - s.inventory) / xp.maximum(supply, 1)).max(1),
            "capital of firms": (off / xp.maximum(s.capital, 1)).max(1)}


def t9_output(p: Any, b: Any, s: Any) -> Errors:
    """Domestic product by expenditure, by production and by income is the same, relative."""
    s = page(s)
    xp = namespace(s)
    stock = _inventories(b, s)
    spent = s.total("spending") + s.purchases + s.total("investment") + stock
    made = s.total("revenue") + stock
    earned = s.total("wage_income") + s.total("revenue") - s.total("goods_cost")
    scale = xp.maximum(spent, 1)
    return {"expenditure and production": xp.abs(spent - made) / scale, "production and income": xp.abs(made - earned) / scale}


NOT_NEGATIVE = {
    "consumers": ("deposits", "loans"), "firms": ("firm_deposits", "firm_loans", "capital", "inventory", "inventory_cost"),
    "banks": ("bank_deposits", "bank_loans", "bank_bonds", "advances", "reserves"), "government": ("bonds", "treasury"),
    "central bank": ("central_bank_bonds",),
}


def t10_nothing_negative(p: Any, b: Any, s: Any) -> Errors:
    """No negative deposit, loan, bond, reserve, capital or inventory."""
    xp = namespace(s)

    def below(names: tuple[str, ...]) -> Array:
        """The most that one of these balances lies below zero."""
        least = [value.min(1) if value.ndim > 1 else value for value in (getattr(s, name) for name in names)]
        return xp.maximum(-xp.stack(least).min(0), 0)
    return {sector: below(names) for sector, names in NOT_NEGATIVE.items()}


def t11_finite(p: Any, b: Any, s: Any) -> Errors:
    """Every real is finite, and every balance is far from the end of the integers, beyond which identities hold modulo 2^64."""
    s = page(s)
    xp = namespace(s)
    errors = {}
    for owner, (reals, balances) in _owned(s.kind).items():
        real, money = (xp.concatenate([getattr(s, name).reshape(len(s.bonds), -1) for name in names], 1) for names in (reals, balances))
        errors[owner] = (~xp.isfinite(real.sum(1))).astype(np.int64) + (money.max(1) > LIMIT) + (money.min(1) < -LIMIT)
    return errors


OWNERS = {"C": "consumers", "F": "firms", "B": "banks", "": "government"}


@lru_cache
def _owned(kind: type) -> dict[str, tuple[list[str], list[str]]]:
    """Reals, and balances of money, of a State by owner; what is not a flow is a balance."""
    owned: dict[str, tuple[list[str], list[str]]] = {owner: ([], []) for owner in OWNERS.values()}
    for f in fields(kind):
        real, balance = f.metadata["dtype"] == "real", f.metadata["unit"] == "micro" and not f.metadata["doc"].startswith("flow")
        if real or balance:
            owned[OWNERS[f.metadata["axes"][0] if f.metadata["axes"] else ""]][balance].append(f.name)
    return owned


IDENTITIES: dict[str, Callable[[Any, Any, Any], Errors]] = {
    "T1": t1_matrices, "T2": t2_reserves, "T3": t3_bonds, "T4": t4_stocks_and_flows, "T5": t5_bank_equity, "T6": t6_wealth, "T7": t7_jobs,
    "T8": t8_goods, "T9": t9_output, "T10": t10_nothing_negative, "T11": t11_finite,
}
EXACT = ("T1", "T2", "T3", "T4", "T5", "T7", "T10", "T11")  # integers: zero, not nearly zero
NARROWEST = ("T11", "T7", "T8", "T4", "T5", "T3", "T1", "T9", "T10", "T2", "T6")  # of several broken at once the first tells most


def _worst(*errors: Array) -> Array:
    """The largest error of any agent, (R,)."""
    xp = namespace(errors[0])
    return xp.stack([worst for error in errors for worst in (error.max(1), -error.min(1))]).max(0)


def _law(identity: Callable[[Any, Any, Any], Errors]) -> Callable[[Any, Any, Any], Array]:
    """An identity as an invariant: the largest error of any sector, (R,)."""
    def broken_by(p: Any, b: Any, s: Any) -> Array:
        xp = namespace(s)
        return xp.stack([xp.abs(xp.asarray(error).astype(np.float64)) for error in identity(p, b, s).values()]).max(0)
    broken_by.__doc__ = identity.__doc__
    return broken_by


INVARIANTS = {name: _law(identity) for name, identity in IDENTITIES.items()}
