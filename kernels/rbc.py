"""Real-business-cycle economy: consumers, firms, a government.

`step` advances every replica by one quarter, calling its phases in order. All agents act at once on the posted terms of the quarter;
what they post takes effect in the next one. A phase reads anything and writes only what its docstring names. Everywhere:
p Params, s State, a Actions, e Shocks, r Rewards; axes B replica, C consumer (index j), F firm and its good (index i).
Model: Curry, Trott, Phade, Bai and Zheng (2022), arXiv:2201.01163, as their released program computes it.
"""
from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core.arrays import Array, allocate, namespace, param, per
from kernels.core.launch import kernel
from kernels.core.rng import Draws

VERSION = 1
AXES = {"C": "n_consumers", "F": "n_firms"}
SOURCE = "Curry et al. (2022)"


@dataclass(frozen=True)
class Params:
    n_consumers: int = param(100, "consumers", symbol="N", low=1, source=SOURCE)
    n_firms: int = param(10, "firms, each making its own good", symbol="F", low=1, source=SOURCE)
    horizon: int = param(10, "periods of an episode", symbol="T", unit="quarters", low=1, source=SOURCE)
    crra: float = param(0.1, "relative risk aversion; 1 is log utility", symbol="eta", low=0, source=SOURCE)
    crra_shift: float = param(1.0, "added to consumption inside utility", unit="units", low=0, source="released program")
    theta: float = param(0.01, "disutility of work of the least able consumer", unit="utils/hour", low=0, source=SOURCE)
    theta_pareto: float = param(4.0, "shape of the spread of theta, theta_j = theta (1 - j/N)^(1/b); 0: all alike", symbol="b", low=0,
                                source="released program")
    theta_factor: float = param(1.0, "curriculum factor on theta, read at reset", low=0, source=SOURCE)
    productivity: float = param(0.01, "total factor productivity", symbol="A", low=0, source="released program")
    tfp_persistence: float = param(0.9, "persistence of log productivity", symbol="rho", low=0, source="Kydland and Prescott (1982)")
    tfp_volatility: float = param(0.0, "standard deviation of innovations to log productivity; 0: no shocks, as in 2022", symbol="sigma",
                                  low=0, source="Kydland and Prescott (1982)")
    labor_share: tuple[float, ...] = param((0.2, 0.3, 0.4, 0.6, 0.8), "labour exponents, repeated over the firms", symbol="alpha",
                                           source="released program")
    initial_capital: tuple[float, ...] = param((5000.0, 10000.0), "capital levels, one for each equal group of firms", symbol="K_0",
                                               source=SOURCE)
    consumer_budget: float = param(2000.0, "a consumer's first budget", symbol="B_0", unit="coins", source=SOURCE)
    firm_budget_per_consumer: float = param(22000.0, "a firm's first budget for each consumer", symbol="M_0/N", unit="coins", source=SOURCE)
    initial_price: float = param(1000.0, "price in the first quarter", unit="coins/unit", low=0, source=SOURCE)
    initial_wage: float = param(0.0, "wage in the first quarter", unit="coins/hour", low=0, source=SOURCE)
    initial_inventory: float = param(0.0, "units on every shelf at the start", unit="units", low=0, source=SOURCE)
    interest: float = param(0.0, "paid on positive budgets at the end of a quarter", symbol="r", unit="1/quarter", low=0, source=SOURCE)
    gift: float = param(0.0, "given to every consumer each quarter (0.01 in the released program)", unit="coins", source="released program")
    clamp_budget: bool = param(True, "a debtor buys nothing; if false his basket turns negative, as in the released program")
    investment_share: float = param(0.1, "share of a positive surplus that becomes capital", symbol="k", low=0, source=SOURCE)
    open_economy: bool = param(True, "whether the rest of the world buys (open economy)", source=SOURCE)
    export_price: float = param(500.0, "least price at which the rest of the world buys, at the firm's own price", symbol="p_exp",
                                unit="coins/unit", low=0, source=SOURCE)
    export_quota: float = param(100.0, "most units of a good exported in a quarter", symbol="q_exp", unit="units", low=0, source=SOURCE)
    labor_floor: float = param(0.0, "hours below which a firm produces nothing", unit="hours", low=0, source="released program")
    boost: float = param(0.0, "share of revenue added to the reward of a firm out of debt", low=0, source="released program")
    firm_reward_weight: float = param(0.0025, "weight of firms' rewards in welfare; 0 counts consumers only", low=0,
                                      source="released program")
    ponzi_consumer: float = param(0.0, "last reward falls by this times the final debt in coins", low=0, source="released program")
    ponzi_firm: float = param(0.0, "last reward falls by this times the final debt in hundreds of coins", low=0, source="released program")


@dataclass(eq=False)
class State:
    price: Array = per("F", unit="coins/unit", doc="posted for this quarter")
    wage: Array = per("F", unit="coins/hour", doc="posted for this quarter")
    inventory: Array = per("F", unit="units", doc="on the shelf at the start of the quarter")
    rationed: Array = per("F", doc="1 where demand exceeded the inventory of the last quarter")
    income_tax: Array = per(unit="share", doc="rate on wages this quarter")
    corporate_tax: Array = per(unit="share", doc="rate on profits this quarter")
    period: Array = per(dtype="i32", unit="quarters", doc="quarters played in this episode")
    budget: Array = per("C", unit="coins", doc="a consumer's money")
    theta: Array = per("C", unit="utils/hour", doc="disutility of work, constant in an episode")
    firm_budget: Array = per("F", unit="coins", doc="a firm's money, negative when in debt")
    capital: Array = per("F", unit="units", doc="a firm's capital")
    labor_share: Array = per("F", doc="labour exponent, constant")
    tfp: Array = per(doc="log deviation of productivity from A this quarter, seen before anybody acts")
    basket: Array = per("C", "F", unit="units", doc="flow: what each consumer asks for and can pay")
    demand: Array = per("F", unit="units", doc="flow: sum of the baskets")
    labor: Array = per("F", unit="hours", doc="flow: hours worked at the firm")
    bought: Array = per("C", "F", unit="units", doc="flow: what each consumer got")
    sold: Array = per("F", unit="units", doc="flow: what the consumers got")
    exported: Array = per("F", unit="units", doc="flow: what the rest of the world got")
    produced: Array = per("F", unit="units", doc="flow: output, on the shelf next quarter")
    revenue: Array = per("F", unit="coins", doc="flow: from consumers and exports")
    wage_bill: Array = per("F", unit="coins", doc="flow: wages paid, before tax")
    invested: Array = per("F", unit="coins", doc="flow: turned into capital")
    profit: Array = per("F", unit="coins", doc="flow: surplus less investment, before tax")
    spending: Array = per("C", unit="coins", doc="flow: paid for goods")
    income: Array = per("C", unit="coins", doc="flow: wage after tax")
    tax_revenue: Array = per(unit="coins", doc="flow: income and corporate tax, paid back in equal shares")
    interest_paid: Array = per(unit="coins", doc="flow: interest on positive budgets")


@dataclass(eq=False)
class Actions:
    demand: Array = per("C", "F", unit="units", doc="wanted of each good")
    hours: Array = per("C", unit="hours", doc="hours worked")
    employer: Array = per("C", dtype="i32", doc="index of the firm worked for")
    price: Array = per("F", unit="coins/unit", doc="price of the next quarter")
    wage: Array = per("F", unit="coins/hour", doc="wage of the next quarter")
    income_tax: Array = per(unit="share", doc="rate of the next quarter")
    corporate_tax: Array = per(unit="share", doc="rate of the next quarter")


@dataclass(eq=False)
class Shocks:
    tfp: Array = per(doc="innovation to log productivity of the next quarter; zero unless tfp_volatility is positive")


@dataclass(eq=False)
class Rewards:
    consumer: Array = per("C", unit="utils", doc="utility of consumption less disutility of work")
    firm: Array = per("F", unit="coins", doc="change of budget before interest")
    government: Array = per(unit="utils", doc="welfare: consumers' rewards plus weighted firms' rewards")


def initial_state(p: Params, replicas: int, xp: ModuleType = np, draws: Draws | None = None, real: Any = np.float32) -> State:
    """The first quarter: equal budgets, posted terms, two capital levels; the same in every replica, nothing is drawn."""
    s = allocate(State, _this(), p, replicas, xp, real)
    s.price[...], s.wage[...], s.inventory[...] = p.initial_price, p.initial_wage, p.initial_inventory
    s.budget[...], s.firm_budget[...] = p.consumer_budget, p.firm_budget_per_consumer * p.n_consumers
    rank = xp.arange(p.n_consumers) / p.n_consumers
    s.theta[...] = p.theta * p.theta_factor * ((1 - rank) ** (1 / p.theta_pareto) if p.theta_pareto else 1.0)
    s.labor_share[...] = xp.asarray(np.resize(p.labor_share, p.n_firms))
    groups = [k * p.n_firms // len(p.initial_capital) for k in range(1, len(p.initial_capital))]
    s.capital[...] = xp.asarray(np.array(p.initial_capital)[np.searchsorted(groups, np.arange(p.n_firms), side="right")])
    return s


def draw_shocks(p: Params, s: State, e: Shocks, draws: Draws) -> None:
    """Innovations to log productivity, normal with standard deviation tfp_volatility; none by default."""
    e.tfp[...] = p.tfp_volatility * draws.normal(0, 1)[:, 0] if p.tfp_volatility else 0


@kernel("rbc.cu")
def step(p: Params, s: State, a: Actions, e: Shocks, r: Rewards) -> None:
    """One quarter, phase by phase."""
    afford(p, s, a)
    hire(p, s, a)
    deliver(p, s)
    sell_abroad(p, s)
    produce(p, s)
    settle_firms(p, s, r)  # after production: investment becomes capital of the next quarter
    settle_consumers(p, s, a, r)
    penalise_debt(p, s, r)
    value_welfare(p, s, r)
    post_terms(p, s, a)
    innovate(p, s, e)


@kernel("rbc.cu")
def afford(p: Params, s: State, a: Actions) -> None:
    """Baskets shrink to what their buyers can pay: q_ij min(1, B_j / sum_i p_i q_ij). Writes basket, demand."""
    xp = namespace(s)
    cost = (a.demand * s.price[:, None, :]).sum(-1)
    poor = (cost > 0) & (cost > s.budget)
    share = xp.where(poor, s.budget / xp.where(poor, cost, 1), 1)
    if p.clamp_budget:
        share = xp.maximum(share, 0)
    xp.multiply(a.demand, share[:, :, None], out=s.basket)
    s.demand[...] = s.basket.sum(1)


@kernel("rbc.cu")
def hire(p: Params, s: State, a: Actions) -> None:
    """Everybody who comes is hired: L_i = sum of h_j over e_j = i. Writes labor, wage_bill, income."""
    xp = namespace(s)
    works_here = a.employer[:, :, None] == xp.arange(p.n_firms, dtype=a.employer.dtype)
    s.labor[...] = (a.hours[:, :, None] * works_here).sum(1)
    s.wage_bill[...] = s.labor * s.wage
    s.income[...] = (1 - s.income_tax[:, None]) * xp.take_along_axis(s.wage, a.employer.astype(np.int64), 1) * a.hours


@kernel("rbc.cu")
def deliver(p: Params, s: State) -> None:
    """A short good is shared in proportion to demand: c_ij = D_ij min(1, y_i / D_i). Writes rationed, bought, sold, spending."""
    xp = namespace(s)
    short = (s.demand > 0) & (s.demand > s.inventory)
    fill = xp.where(short, s.inventory / xp.where(short, s.demand, 1), 1)
    s.rationed[...] = short
    xp.multiply(s.basket, fill[:, None, :], out=s.bought)
    s.sold[...] = s.bought.sum(1)
    s.spending[...] = (s.bought * s.price[:, None, :]).sum(-1)


@kernel("rbc.cu")
def sell_abroad(p: Params, s: State) -> None:
    """The rest of the world buys what is left, at most q_exp units, where p_i >= p_exp. Writes exported, revenue."""
    xp = namespace(s)
    wanted = xp.where(s.price >= p.export_price, p.export_quota, 0) if p.open_economy else 0
    s.exported[...] = xp.clip(s.inventory - s.sold, 0, wanted)
    s.revenue[...] = (s.sold + s.exported) * s.price


@kernel("rbc.cu")
def produce(p: Params, s: State) -> None:
    """Y_i = A exp(z) K_i^(1 - alpha_i) L_i^alpha_i goes on the shelf. Writes produced, inventory."""
    xp = namespace(s)
    labor = xp.where(s.labor < p.labor_floor, 0, s.labor)
    s.produced[...] = p.productivity * xp.exp(s.tfp)[:, None] * s.capital ** (1 - s.labor_share) * labor**s.labor_share
    s.inventory += s.produced - s.sold - s.exported


@kernel("rbc.cu")
def settle_firms(p: Params, s: State, r: Rewards) -> None:
    """Surplus g_i invests k max(0, g_i), the rest is profit, taxed if positive. Writes invested, profit, tax_revenue, firm_budget,
    capital, interest_paid, firm rewards."""
    xp = namespace(s)
    surplus = s.revenue - s.wage_bill
    s.invested[...] = xp.maximum(p.investment_share * surplus, 0)
    s.profit[...] = surplus - s.invested
    tax = s.corporate_tax[:, None] * xp.maximum(s.profit, 0)
    s.tax_revenue[...] = s.income_tax * s.wage_bill.sum(-1) + tax.sum(-1)
    r.firm[...] = s.profit - tax
    s.firm_budget += r.firm
    if p.boost:
        r.firm += xp.where(s.firm_budget > 0, p.boost * s.revenue, 0)
    interest = p.interest * xp.maximum(s.firm_budget, 0)
    s.firm_budget += interest
    s.interest_paid[...] = interest.sum(-1)
    s.capital += s.invested


@kernel("rbc.cu")
def settle_consumers(p: Params, s: State, a: Actions, r: Rewards) -> None:
    """Utility sum_i ((c_ij + 1)^(1 - eta) - 1) / (1 - eta) less theta_j h_j / 2; wage, tax rebate, gift and interest come in, spending
    goes out. Writes budget, interest_paid, consumer rewards."""
    xp = namespace(s)
    enjoyed = s.bought + p.crra_shift
    utility = xp.log(enjoyed) if p.crra == 1 else (enjoyed ** (1 - p.crra) - 1) / (1 - p.crra)
    r.consumer[...] = utility.sum(-1) - s.theta / 2 * a.hours
    s.budget += p.gift - s.spending + s.income + s.tax_revenue[:, None] / p.n_consumers
    interest = p.interest * xp.maximum(s.budget, 0)
    s.budget += interest
    s.interest_paid += interest.sum(-1)


@kernel("rbc.cu")
def penalise_debt(p: Params, s: State, r: Rewards) -> None:
    """In the last quarter final debt costs utility: lambda max(0, -B). Writes consumer and firm rewards."""
    if not (p.ponzi_consumer or p.ponzi_firm):
        return
    xp = namespace(s)
    last = s.period[:, None] == p.horizon - 1
    r.consumer -= xp.where(last, p.ponzi_consumer * xp.maximum(-s.budget, 0), 0)
    r.firm -= xp.where(last, p.ponzi_firm / 100 * xp.maximum(-s.firm_budget, 0), 0)


@kernel("rbc.cu")
def value_welfare(p: Params, s: State, r: Rewards) -> None:
    """Welfare sum_j r_j + weight sum_i r_i. Writes the government's reward."""
    r.government[...] = r.consumer.sum(-1) + p.firm_reward_weight * r.firm.sum(-1)


@kernel("rbc.cu")
def post_terms(p: Params, s: State, a: Actions) -> None:
    """Prices, wages and tax rates of the next quarter are announced. Writes price, wage, income_tax, corporate_tax, period."""
    s.price[...], s.wage[...] = a.price, a.wage
    s.income_tax[...], s.corporate_tax[...] = a.income_tax, a.corporate_tax
    s.period += 1


@kernel("rbc.cu")
def innovate(p: Params, s: State, e: Shocks) -> None:
    """Log productivity of the next quarter: z' = rho z + e. Writes tfp."""
    s.tfp[...] = p.tfp_persistence * s.tfp + e.tfp


def _goods(p: Params, before: State, after: State) -> Array:
    """Stock at the end less stock at the start, output, sales and exports, relative to the largest of them."""
    xp = namespace(after)
    parts = (after.inventory, -before.inventory, -after.produced, after.sold, after.exported)
    return sum(parts) / xp.maximum(1, sum(abs(part) for part in parts))


def _money(p: Params, before: State, after: State) -> Array:
    """Money at the end less money at the start, export revenue, gifts and interest, plus investment, relative to all of it."""
    xp = namespace(after)
    parts = [after.budget.sum(-1), after.firm_budget.sum(-1), -before.budget.sum(-1), -before.firm_budget.sum(-1),
             after.invested.sum(-1), -(after.exported * before.price).sum(-1), -after.interest_paid]
    gross = sum(abs(x).sum(-1) for x in (after.budget, after.firm_budget, after.revenue, after.wage_bill)) + sum(map(abs, parts))
    return (sum(parts) - p.gift * p.n_consumers) / xp.maximum(1, gross)


def _no_negative_stock(p: Params, before: State, after: State) -> Array:
    """The part of a stock that lies below zero, relative to what was sold."""
    xp = namespace(after)
    return xp.minimum(after.inventory, 0) / xp.maximum(1, after.sold)


INVARIANTS = {"goods": _goods, "money": _money, "no_negative_stock": _no_negative_stock}


def _this() -> ModuleType:
    import sys
    return sys.modules[__name__]
