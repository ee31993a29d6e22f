"""Planted leaks: ways in which a program may lose or invent money, each of which an audit must find in the quarter in which it first acts.

A leak acts after a phase of the quarter, which is wrapped in the kernel's module while the leak is planted, so that money moves exactly as
if the program had that defect. `expected` is the identity, and the sector or row, that must be named first.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core.ledger import LIMIT, MICRO, coins, floor_share, micro
from rllib_macro.describe import first_sentence

Tamper = Callable[[Any, Any], None]


@dataclass(frozen=True)
class Leak:
    """A defect: what it does to (p, s) after a phase, what finds it, and the Params under which it acts soon."""

    name: str
    phase: str
    tamper: Tamper
    expected: tuple[str, str]
    params: Mapping[str, float] = field(default_factory=dict)

    @property
    def does(self) -> str:
        """What is wrong, in a sentence."""
        return first_sentence(self.tamper.__doc__)


LEAKS: dict[str, dict[str, Leak]] = {"monetary": {}}  # model (file of kernels/) -> name -> leak


def leak(phase: str, identity: str, sector: str, **params: float) -> Callable[[Tamper], Tamper]:
    """Declare a leak of the monetary economy under its function's name."""
    def declare(tamper: Tamper) -> Tamper:
        LEAKS["monetary"][tamper.__name__] = Leak(tamper.__name__, phase, tamper, (identity, sector), params)
        return tamper
    return declare


@dataclass
class Trace:
    """How often the leak's phase has run, and the first quarter, from 0, in which the leak changed the State; None before."""

    quarters: int = 0
    first: int | None = None


@contextmanager
def planted(kernel: ModuleType, of: Leak) -> Iterator[Trace]:
    """Within the block the kernel's definitions have this leak."""
    sound, trace = getattr(kernel, of.phase), Trace()

    def leaking(p: Any, s: Any, *others: Any) -> None:
        sound(p, s, *others)
        before = {name: array.copy() for name, array in vars(s).items()} if trace.first is None else {}
        of.tamper(p, s)
        if any(not np.array_equal(array, getattr(s, name), equal_nan=array.dtype.kind == "f") for name, array in before.items()):
            trace.first = trace.quarters
        trace.quarters += 1

    setattr(kernel, of.phase, leaking)
    try:
        yield trace
    finally:
        setattr(kernel, of.phase, sound)


# -- wages, taxes, benefits

@leak("pay_incomes", "T4", "government")
def income_tax_short(p: Any, s: Any) -> None:
    """The treasury receives one unit less of income tax than is paid."""
    s.treasury -= 1


@leak("pay_incomes", "T1", "flows, wages")
def wage_short(p: Any, s: Any) -> None:
    """One worker is paid one unit less than his firm pays."""
    everybody, who = np.arange(len(s.employer)), (s.employer >= 0).argmax(1)
    s.wage_income[everybody, who] -= 1
    s.deposits[everybody, who] -= 1


@leak("pay_incomes", "T4", "government")
def benefits_from_nowhere(p: Any, s: Any) -> None:
    """One consumer receives a benefit of one coin that the treasury does not pay."""
    s.benefits[:, 0] += MICRO
    s.deposits[:, 0] += MICRO


@leak("match_workers", "T7", "firms")
def double_payroll(p: Any, s: Any) -> None:
    """One worker stands on a second firm's payroll."""
    s.employees[:, 0] += 1


@leak("distribute", "T4", "government")
def dividend_tax_lost(p: Any, s: Any) -> None:
    """The tax on dividends reaches nobody."""
    s.treasury -= floor_share(s.dividends, p.dividend_tax).sum(1)


# -- goods

@leak("trade", "T1", "flows of firms current")
def revenue_dropped(p: Any, s: Any) -> None:
    """One firm receives one unit less of revenue than its buyers pay."""
    s.revenue[:, 0] -= 1
    s.firm_deposits[:, 0] -= 1


@leak("trade", "T4", "government")
def purchases_unpaid(p: Any, s: Any) -> None:
    """The government buys, but its account is not charged."""
    s.treasury += s.purchases


@leak("trade", "T8", "firms")
def goods_vanish(p: Any, s: Any) -> None:
    """A hundredth of one firm's inventory vanishes from the shelf."""
    s.inventory[:, 0] *= 0.99


@leak("trade", "T4", "firms")
def stock_written_up(p: Any, s: Any) -> None:
    """One firm's inventory is worth a coin more than it cost."""
    s.inventory_cost[:, 0] += MICRO


@leak("accumulate", "T8", "capital of firms")
def capital_conjured(p: Any, s: Any) -> None:
    """One firm has a hundredth more capital than it had and bought, and its books show it."""
    s.capital[:, 0] *= 1.01
    s.capital_value[:, 0] = micro(s.capital[:, 0] * s.price_level)


@leak("accumulate", "T6", "the nation")
def capital_overvalued(p: Any, s: Any) -> None:
    """One firm's capital stands in the books for a coin more than the price of what is there."""
    s.capital_value[:, 0] += MICRO


# -- credit

@leak("lend_to_firms", "T4", "firms")
def loan_without_deposit(p: Any, s: Any) -> None:
    """One firm borrows a coin that never reaches its account."""
    s.firm_borrowed[:, 0] += MICRO
    s.firm_loans[:, 0] += MICRO


@leak("switch_banks", "T4", "banks")
def account_without_loan(p: Any, s: Any) -> None:
    """One firm takes its deposit to another bank and leaves its loan behind."""
    everywhere, old = np.arange(len(s.firm_bank)), s.firm_bank[:, 0].copy()
    new = (old + 1) % p.n_banks
    s.firm_bank[:, 0] = new
    s.moved_deposits[everywhere, old] -= s.firm_deposits[:, 0]
    s.moved_deposits[everywhere, new] += s.firm_deposits[:, 0]


@leak("settle_firms", "T4", "firms")
def repayment_without_effect(p: Any, s: Any) -> None:
    """Firms repay principal, but owe as much as before."""
    s.firm_loans += s.firm_repaid


@leak("settle_firms", "T10", "firms")
def dividend_overdrawn(p: Any, s: Any) -> None:
    """One firm pays out a coin more than it has, and no overdraft is booked."""
    paid = s.firm_deposits[:, 0] + MICRO
    s.firm_dividends[:, 0] += paid
    s.firm_deposits[:, 0] -= paid


@leak("resolve_consumers", "T4", "consumers")
def debt_forgotten(p: Any, s: Any) -> None:
    """The loans of one consumer in debt disappear without a write-off."""
    everybody, who = np.arange(len(s.loans)), s.loans.argmax(1)
    s.loans[everybody, who] = 0


@leak("finance_entrants", "T4", "firms", entry_size=1.0)
def equity_call_lost(p: Any, s: Any) -> None:
    """What owners pay in for entrants arrives nowhere."""
    s.firm_deposits -= s.equity_issued


# -- banks

@leak("settle_consumers", "T4", "consumers")
def deposit_interest_withheld(p: Any, s: Any) -> None:
    """Interest on consumers' deposits is booked, but not credited."""
    s.deposits -= s.interest_received


@leak("settle_banks", "T1", "flows, interest on loans")
def interest_to_nobody(p: Any, s: Any) -> None:
    """One bank receives one unit less of interest than its debtors pay."""
    s.loan_interest[:, 0] -= 1
    s.equity[:, 0] -= 1


@leak("settle_banks", "T5", "banks")
def coupons_twice(p: Any, s: Any) -> None:
    """Coupons are added to the capital of banks twice."""
    s.equity += s.coupons


@leak("distribute", "T1", "flows, dividends")
def dividends_in_floats(p: Any, s: Any) -> None:
    """Dividends are split in single precision and rounded one by one."""
    paid = coins(s.firm_dividends.sum(1) + s.bank_dividends.sum(1))[:, None]
    gained = micro((s.ownership.astype(np.float32) * paid.astype(np.float32)).astype(np.float64)) - s.dividends
    s.dividends += gained
    s.deposits += gained


@leak("resolve_banks", "T5", "banks")
def write_off_uncharged(p: Any, s: Any) -> None:
    """Banks write loans off, but their capital does not bear it."""
    s.equity += s.write_offs


@leak("resolve_banks", "T4", "consumers", resolution=1, capital_failure=0.5, capital_minimum=0.6)
def bail_in_twice(p: Any, s: Any) -> None:
    """Depositors of a failed bank are cut once too often."""
    s.deposits -= s.bailed_in


# -- government, central bank, numbers

@leak("settle_banks", "T4", "government")
def central_bank_profit_kept(p: Any, s: Any) -> None:
    """The central bank books its profit as remitted, but the treasury's account does not rise."""
    s.treasury -= s.central_bank_coupons + s.advance_interest.sum(1) - s.reserve_interest.sum(1)


@leak("balance_treasury", "T3", "government")
def bond_too_many(p: Any, s: Any) -> None:
    """One bank holds a bond of one unit that nobody issued."""
    s.bank_bonds[:, 0] += 1


@leak("balance_treasury", "T1", "flows of banks capital")
def reserves_conjured(p: Any, s: Any) -> None:
    """One bank has a coin of reserves that nobody paid in."""
    s.reserves[:, 0] += MICRO


@leak("innovate", "T11", "firms")
def beyond_the_integers(p: Any, s: Any) -> None:
    """One firm owes, and has in its account, more than integers can count without wrapping around."""
    everywhere = np.arange(len(s.firm_bank))
    for firm in (s.firm_loans, s.firm_deposits, s.firm_borrowed):
        firm[:, 0] += LIMIT
    for bank in (s.bank_loans, s.bank_deposits):
        bank[everywhere, s.firm_bank[:, 0]] += LIMIT


@leak("observe", "T11", "consumers")
def not_a_number(p: Any, s: Any) -> None:
    """One consumer's permanent income is not a number."""
    s.permanent_income[:, 0] = np.nan
