"""Monetary economy: consumers, firms, banks, a government and a central bank on one set of books that balances to the last unit.

`step` advances every replica by one quarter, calling its phases in order. Money is created by lending, every payment has a payer and a
payee, and all of it is int64 micro-units (`core.ledger`). Agents act at once on what they saw at the start of the quarter. A phase reads
anything and writes only what its docstring names. Everywhere: p Params, s State, a Actions, e Shocks, r Rewards; axes R replica, C
consumer, F firm, B bank. All rates are per annum; where one is applied to a quarter it is divided by QUARTERS there. The matrices of
accounts and the identities that hold in every quarter are in `monetary_books`. Sources of the building blocks: Caiani et al. (2016),
Assenza, Delli Gatti and Grazzini (2015), Poledna et al. (2023), den Haan, Ramey and Watson (2000), Calvo (1983).
"""
from __future__ import annotations

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core.arrays import Array, allocate, namespace, param, per
from kernels.core.launch import kernel
from kernels.core.ledger import coins, floor_share, micro, overdraw, pour, share, split, tally
from kernels.core.rng import Draws
from kernels.monetary_books import (  # noqa: F401 - for audits
    ACCOUNTS,
    BALANCE,
    EXACT,
    FLOWS,
    IDENTITIES,
    INVARIANTS,
    NARROWEST,
    REMEMBERED,
    SECTORS,
    page,
)

VERSION = 4
AXES = {"C": "n_consumers", "F": "n_firms", "B": "n_banks"}
QUARTERS = 4  # in a year: rates are per annum, a period is a quarter
HOURS = (0.8, 1.0, 1.1)  # of an employed consumer, by effort; multiples of full time
ENTRIES = 3  # most tickets of a job seeker in the lottery for vacancies; effort 0, 1, 2 buys 1, 2, 3
AVERAGED = 16  # quarters over which inflation is averaged
BAIL_OUT, BAIL_IN, FORBEAR = 0, 1, 2  # what becomes of a bank without capital
CAIANI, ASSENZA, POLEDNA = "Caiani et al. (2016)", "Assenza et al. (2015)", "Poledna et al. (2023)"
TUNED = "tuned on the scorecard"


@dataclass(frozen=True)
class Params:
    n_consumers: int = param(1000, "consumers", symbol="H", low=2)
    n_firms: int = param(100, "firms", symbol="F", low=1)
    n_banks: int = param(4, "banks", symbol="B", low=1)
    horizon: int = param(40, "quarters of an episode", symbol="T", unit="quarters", low=1)
    growth: float = param(0.02, "of labour productivity", symbol="g", unit="1/year", low=0, source="US 1984 to 2019, less population")
    burn_in: int = param(240, "scripted quarters before the first episode may start: wealth settles in 200", unit="quarters", low=0)
    # firms
    capital_share: float = param(1 / 3, "elasticity of output with respect to capital", symbol="alpha", low=0,
                                 source="King and Rebelo (1999)")
    depreciation: float = param(0.10, "of capital", symbol="delta", unit="1/year", low=0, source="King and Rebelo (1999)")
    markup: float = param(1.15, "reset price over smoothed marginal cost", symbol="mu", low=1, source="labour share of 0.6")
    reprice_chance: float = param(0.33, "chance that a firm may change its price", symbol="1 - theta_p", unit="1/quarter", low=0,
                                  source="Calvo (1983); Nakamura and Steinsson (2008)")
    price_step: float = param(0.10, "largest change of a price in a quarter, in logs", low=0, source=TUNED)
    stock_target: float = param(0.17, "desired inventories over expected sales", symbol="nu", low=0, source=TUNED)
    stock_speed: float = param(0.17, "share of the inventory gap made good in a quarter", symbol="kappa", unit="1/quarter", low=0,
                               source=TUNED)
    stock_pricing: float = param(0.01, "markup's response to the inventory gap", symbol="psi", source=TUNED)
    sales_memory: float = param(0.31, "weight of the last quarter in expected sales", symbol="lambda_s", unit="1/quarter", low=0,
                                source=TUNED)
    cost_memory: float = param(0.05, "weight of the last quarter in the marginal cost that prices follow", unit="1/quarter", low=0,
                               source=TUNED)
    invest_speed: float = param(0.02, "share of the capital gap invested in a quarter", symbol="phi_K", unit="1/quarter", low=0,
                                source=TUNED)
    rate_memory: float = param(0.51, "weight of the last quarter in the real loan rate that investment follows", unit="1/quarter", low=0,
                               source=TUNED)
    invest_inertia: float = param(0.78, "weight of last quarter's plan in the investment plan", unit="1/quarter", low=0, source=TUNED)
    elasticity: float = param(5.0, "of a firm's share of demand with respect to its price", symbol="eta", low=1, source=TUNED)
    customer_memory: float = param(0.05, "speed at which customers follow market shares", unit="1/quarter", low=0, source=TUNED)
    staffing_cap: float = param(1.6, "largest labour per unit of capital, over its stationary value", low=1, source=TUNED)
    hours_low: float = param(0.9, "shortest working time of a firm, over full time", low=0)
    hours_high: float = param(1.1, "longest working time of a firm, over full time", low=0)
    capacity_staffing: float = param(1.6, "labour per unit of capital at full capacity, over its stationary value: defines capacity", low=1,
                                     source="mean utilisation of US manufacturing")
    leverage_target: float = param(0.40, "desired loans over assets", symbol="lambda*", low=0,
                                   source="Bernanke, Gertler and Gilchrist (1999)")
    leverage_response: float = param(7.4, "fall of log desired leverage for each unit of the real loan rate above its stationary value",
                                     symbol="epsilon", low=0, source=TUNED)
    leverage_speed: float = param(0.12, "share of the gap to desired leverage borrowed in a quarter", unit="1/quarter", low=0, source=TUNED)
    sentiment_response: float = param(7.2, "elasticity of desired leverage with respect to sentiment: standards move with the cycle", low=0,
                                      source=TUNED)
    sentiment_memory: float = param(0.29, "weight of the last quarter in sentiment", unit="1/quarter", low=0, source=TUNED)
    amortisation: float = param(0.05, "of firm loans", unit="1/quarter", low=0, source=CAIANI)
    payout: float = param(0.7, "dividends over smoothed profit", low=0, source=ASSENZA)
    payout_excess: float = param(0.08, "dividends out of liquidity above the buffer", unit="1/quarter", low=0, source=TUNED)
    buffer: float = param(1.1, "liquidity that a firm keeps, over its wage bill", low=0, source=TUNED)
    profit_memory: float = param(0.15, "weight of the last quarter in smoothed profit", unit="1/quarter", low=0, source=TUNED)
    loss_chance: float = param(0.0066, "chance that a firm loses part of its capital", unit="1/quarter", low=0, source=TUNED)
    loss_low: float = param(0.3, "smallest share of capital lost", low=0, source=TUNED)
    loss_high: float = param(0.95, "largest share of capital lost", low=0, source=TUNED)
    recovery: float = param(0.5, "loan kept by an insolvent firm, over the value of its capital", symbol="zeta", low=0, source=POLEDNA)
    entry_size: float = param(0.05, "a firm with less than this share of mean capital makes room for an entrant", low=0, source=TUNED)
    entrant_capital: float = param(0.2, "an entrant's first capital over the mean", low=0, source=TUNED)
    # labour market
    natural_unemployment: float = param(0.0645, "unemployment at which wages grow with prices and productivity", symbol="u*", low=0,
                                        source="mean US unemployment, 1959 to 2019")
    separation: float = param(0.05, "chance that a job ends by itself", symbol="s_x", unit="1/quarter", low=0,
                              source="tuned; den Haan, Ramey and Watson (2000) have 0.068")
    matching: float = param(1.27, "curvature of the matching function", symbol="iota", low=0, source="den Haan, Ramey and Watson (2000)")
    layoff_speed: float = param(0.76, "share of excess staff laid off in a quarter", unit="1/quarter", low=0, source=TUNED)
    hiring_speed: float = param(0.21, "share of the staffing gap closed in a quarter", unit="1/quarter", low=0, source=TUNED)
    vacancy_response: float = param(2.5, "elasticity of posted vacancies with respect to sentiment: the expected value of a worker", low=0,
                                    source=TUNED)
    wage_slope: float = param(0.059, "wage growth for each unit of unemployment below natural", symbol="phi_w", unit="1/quarter",
                              source=TUNED)
    wage_indexation: float = param(0.9, "weight of last year's inflation, against what is expected, in wage growth", symbol="iota_w",
                                   low=0, source="tuned; last quarter's: 0.58 in Smets and Wouters (2007), 1 in Christiano et al. (2005)")
    wage_convergence: float = param(0.10, "share of the gap to the mean wage closed in a quarter", unit="1/quarter", low=0, source=TUNED)
    wages_never_fall: bool = param(False, "whether wage cuts are impossible (downward nominal rigidity)")
    # consumers
    ability_persistence: float = param(0.9777, "of log ability", symbol="rho_e", low=0, source="Floden and Linde (2001), quarterly")
    ability_volatility: float = param(0.1066, "of log ability", symbol="sigma_e", low=0, source="Floden and Linde (2001), quarterly")
    star_entry: float = param(0.0002, "chance of becoming a super-earner", unit="1/quarter", low=0, source=TUNED)
    star_exit: float = param(0.02, "chance of ceasing to be one", unit="1/quarter", low=0, source=TUNED)
    star_ability: float = param(8.0, "ability of a super-earner, over that of an ordinary consumer", low=1, source=TUNED)
    income_memory: float = param(0.15, "weight of the last quarter in a patient consumer's permanent income", unit="1/quarter", low=0,
                                 source=TUNED)
    income_memory_impatient: float = param(0.7, "the same of an impatient one", unit="1/quarter", low=0, source=TUNED)
    impatient: float = param(0.40, "share of impatient consumers", low=0, source="hand-to-mouth share of about 30 %")
    buffer_impatient: float = param(-2.4, "net liquid wealth that the impatient want, in permanent income of a quarter", unit="quarters",
                                    source=TUNED)
    patient_target: float = param(0.75, "wealth that the patient want at first over what they have", low=0, source=TUNED)
    wealth_response: float = param(0.055, "spending out of a gap to desired wealth, patient", symbol="chi", unit="1/quarter", source=TUNED)
    wealth_response_impatient: float = param(0.15, "the same, impatient", unit="1/quarter", source=TUNED)
    rate_response: float = param(1.2, "fall of log spending for each unit of the real deposit rate", source=TUNED)
    credit_line: float = param(0.6, "largest consumer loan over permanent income of a year", unit="years", low=0, source=TUNED)
    consumer_amortisation: float = param(0.125, "of consumer loans", unit="1/quarter", low=0)
    service_limit: float = param(0.8, "debt service over income beyond which an unemployed consumer defaults", low=0)
    exclusion_time: int = param(28, "quarters without credit after a default", unit="quarters", low=0,
                                source="seven years of a credit record")
    ownership_tail: float = param(1.25, "Pareto exponent of shares in firms and banks", low=0, source="wealth shares of the SCF 2022")
    owners: float = param(0.45, "share of consumers who own shares", low=0, source="wealth shares of the SCF 2022")
    risk_aversion: float = param(1.0, "relative risk aversion of consumption; 1 is log utility", symbol="sigma", low=0)
    frisch: float = param(0.75, "elasticity of labour supply", symbol="phi", low=0.01)
    disutility: float = param(0.77, "weight of work in utility: full time is optimal at the stationary state", symbol="psi", low=0)
    search_time: float = param(0.25, "time that normal search takes, over full time; effort 0 takes half of it, effort 2 one and a half",
                               low=0)
    # banks
    loan_margin: float = param(0.02, "scripted spread of the loan rate over the policy rate", unit="1/year", source="Baa less ten years")
    deposit_margin: float = param(0.010, "scripted spread of the policy rate over the deposit rate", unit="1/year")
    consumer_margin: float = param(0.06, "spread of consumer loans over firm loans", unit="1/year")
    risk_premium: float = param(0.10, "loan rate's response to squared leverage above 0.25", unit="1/year", source=TUNED)
    leverage_limit: float = param(0.75, "scripted largest loans over assets of a borrower", low=0)
    capital_minimum: float = param(0.08, "capital over loans to which a bank is restored", low=0, source="Basel III")
    capital_lending: float = param(0.105, "capital over loans below which a bank lends nothing more", low=0, source="Basel III")
    capital_target: float = param(0.125, "capital over loans above which a bank pays dividends", low=0, source="Basel III")
    capital_failure: float = param(0.02, "capital over loans below which a bank is resolved", low=0)
    bank_payout: float = param(0.10, "dividends out of capital above the target", unit="1/quarter", low=0, source=TUNED)
    reserve_ratio: float = param(0.02, "reserves over deposits that a bank must hold", low=0)
    resolution: int = param(BAIL_OUT, "of a failed bank: 0 government recapitalises, 1 depositors are cut, 2 nothing", low=0)
    switching_gain: float = param(0.0025, "a firm changes to a bank that is cheaper by this much", unit="1/year", low=0)
    # government
    purchases_share: float = param(0.20, "government purchases over trend output", low=0, source="US 1984 to 2019: 0.215")
    income_tax: float = param(0.27, "first rate on wages and interest", symbol="tau", low=0)
    dividend_tax: float = param(0.27, "rate on dividends", low=0)
    corporate_tax: float = param(0.21, "rate on profits of firms and banks", low=0, source="statute")
    tax_low: float = param(0.15, "lowest income tax", low=0)
    tax_high: float = param(0.45, "highest income tax", low=0)
    replacement: float = param(0.45, "unemployment benefit over the mean wage", low=0, source="US states")
    benefit_time: int = param(2, "quarters for which it is paid", unit="quarters", low=0, source="26 weeks")
    assistance: float = param(0.15, "assistance afterwards, over the mean wage", low=0)
    transfer: float = param(0.062, "transfer to everybody, over the mean wage", low=0)
    debt_target: float = param(0.60, "public debt over annual output", symbol="b*", low=0, source="US mean")
    debt_response: float = param(0.05, "scripted income tax for each unit of debt above target", source="Bohn (1998)")
    debt_ceiling: float = param(1.5, "debt over annual output above which the government may not expand", low=0)
    bond_maturity: float = param(20.0, "mean maturity of bonds", unit="quarters", low=1)
    term_premium: float = param(0.005, "coupon of new bonds over the policy rate", unit="1/year")
    debt_weight: float = param(0.01, "weight of the squared debt gap, in tenths of annual output, in the government's reward", low=0)
    # central bank
    inflation_target: float = param(0.02, "goal for inflation", symbol="pi*", unit="1/year")
    neutral_rate: float = param(0.015, "real policy rate at which inflation is on target", symbol="r*", unit="1/year", source=TUNED)
    lower_bound: float = param(0.0, "lowest policy rate", unit="1/year")
    upper_bound: float = param(0.20, "highest policy rate", unit="1/year")
    corridor: float = param(0.0025, "facilities stand this far below and above the policy rate", unit="1/year", low=0)
    purchases_effect: float = param(0.05, "fall of loan rates and coupons for each unit of bonds bought over annual output", low=0,
                                    symbol="epsilon_q", unit="1/year", source="half a point for a tenth of output")
    central_bank_share: float = param(0.15, "of bonds held by the central bank without purchases", low=0)
    gap_weight: float = param(0.25, "of the squared output gap in the central bank's loss", low=0)
    rate_weight: float = param(0.10, "of the squared change of the policy rate in its loss", low=0)
    potential: float = param(0.97, "normal output over that in full time", symbol="Omega", low=0, source=TUNED)
    anchor: float = param(0.4, "weight of the target in expected inflation", low=0, source=TUNED)
    # shocks
    tfp_persistence: float = param(0.95, "of log total factor productivity", symbol="rho_z", low=0, source="Cooley and Prescott (1995)")
    tfp_volatility: float = param(0.0048, "of its innovations", symbol="sigma_z", low=0, source="Cooley and Prescott (1995)")
    demand_persistence: float = param(0.94, "of log desired spending", symbol="rho_d", low=0, source=TUNED)
    demand_volatility: float = param(0.0042, "of its innovations", symbol="sigma_d", low=0, source=TUNED)
    purchases_persistence: float = param(0.95, "of log government purchases", symbol="rho_g", low=0, source=TUNED)
    purchases_volatility: float = param(0.005, "of its innovations", symbol="sigma_g", low=0, source=TUNED)
    investment_persistence: float = param(0.93, "of log desired capital", symbol="rho_k", low=0, source=TUNED)
    investment_volatility: float = param(0.02, "of its innovations", symbol="sigma_k", low=0, source=TUNED)
    cost_persistence: float = param(0.8, "of the log markup", symbol="rho_mu", low=0)
    cost_volatility: float = param(0.002, "of its innovations", symbol="sigma_mu", low=0)
    spread_persistence: float = param(0.0, "of the shock to loan spreads", low=0)
    spread_volatility: float = param(0.0, "of its innovations", unit="1/year", low=0)
    rate_volatility: float = param(0.0, "of the policy rate around what the central bank chose", unit="1/year", low=0)
    firm_persistence: float = param(0.90, "of a firm's log productivity", symbol="rho_a", low=0, source=TUNED)
    firm_volatility: float = param(0.008, "of its innovations", symbol="sigma_a", low=0, source=TUNED)


@dataclass(eq=False)
class State:
    # consumers: stocks
    deposits: Array = per("C", dtype="i64", unit="micro", doc="a consumer's deposits")
    loans: Array = per("C", dtype="i64", unit="micro", doc="a consumer's debt")
    bank: Array = per("C", dtype="i32", doc="number of a consumer's bank")
    employer: Array = per("C", dtype="i32", doc="number of the firm worked for, -1 without work")
    spell: Array = per("C", dtype="i32", unit="quarters", doc="time without work")
    excluded: Array = per("C", dtype="i32", unit="quarters", doc="time still without credit after a default")
    impatient: Array = per("C", dtype="u8", doc="1 of the impatient type, constant")
    star: Array = per("C", dtype="u8", doc="1 while a super-earner")
    log_ability: Array = per("C", doc="log ability without super-earnings")
    ability: Array = per("C", unit="efficiency units", doc="work done in full time, known at the start of the quarter")
    permanent_income: Array = per("C", unit="units/quarter", doc="smoothed real disposable income")
    buffer: Array = per("C", unit="quarters", doc="desired net liquid wealth in permanent income, constant")
    ownership: Array = per("C", unit="share", doc="of all firms and banks, constant")
    # consumers: flows of the quarter
    wage_income: Array = per("C", dtype="i64", unit="micro", doc="flow: wages before tax")
    benefits: Array = per("C", dtype="i64", unit="micro", doc="flow: unemployment benefit, assistance and transfer")
    income_taxes: Array = per("C", dtype="i64", unit="micro", doc="flow: tax on wages, interest and dividends")
    spending: Array = per("C", dtype="i64", unit="micro", doc="flow: paid for goods")
    interest_received: Array = per("C", dtype="i64", unit="micro", doc="flow: on deposits")
    interest_paid: Array = per("C", dtype="i64", unit="micro", doc="flow: on loans")
    dividends: Array = per("C", dtype="i64", unit="micro", doc="flow: from firms and banks, before tax")
    borrowed: Array = per("C", dtype="i64", unit="micro", doc="flow: new loans")
    repaid: Array = per("C", dtype="i64", unit="micro", doc="flow: principal")
    forgiven: Array = per("C", dtype="i64", unit="micro", doc="flow: loans written off")
    insolvent: Array = per("C", dtype="u8", doc="flow: 1 if the interest and principal due are beyond income and deposits")
    bailed_in: Array = per("C", dtype="i64", unit="micro", doc="flow: deposits lost to the resolution of a bank")
    equity_paid: Array = per("C", dtype="i64", unit="micro", doc="flow: paid in for entrants")
    # firms: stocks
    firm_deposits: Array = per("F", dtype="i64", unit="micro", doc="a firm's deposits")
    firm_loans: Array = per("F", dtype="i64", unit="micro", doc="a firm's debt")
    firm_bank: Array = per("F", dtype="i32", doc="number of a firm's bank")
    capital: Array = per("F", unit="units", doc="a firm's capital")
    capital_value: Array = per("F", dtype="i64", unit="micro", doc="its book value at the price level")
    inventory: Array = per("F", unit="units", doc="unsold goods")
    inventory_cost: Array = per("F", dtype="i64", unit="micro", doc="their book value, at cost")
    price: Array = per("F", unit="coins/unit", doc="posted price")
    wage: Array = per("F", unit="coins/efficiency unit", doc="posted wage of full time")
    firm_productivity: Array = per("F", doc="log productivity of the firm")
    customers: Array = per("F", doc="customer base, 1 on average")
    can_reprice: Array = per("F", dtype="u8", doc="1 if the firm may change its price this quarter")
    expected_sales: Array = per("F", unit="units/quarter", doc="smoothed demand, as far as it is noticed")
    output_wanted: Array = per("F", unit="units/quarter", doc="output planned for the quarter")
    labor_wanted: Array = per("F", unit="efficiency units", doc="labour that it takes")
    unit_labor: Array = per("F", unit="efficiency units/unit", doc="smoothed labour of one more unit of output")
    real_rate: Array = per("F", unit="1/year", doc="smoothed real loan rate")
    loan_rate: Array = per("F", unit="1/year", doc="rate on the firm's loans")
    investment_plan: Array = per("F", unit="units/quarter", doc="capital goods planned for the last quarter")
    smoothed_profit: Array = per("F", unit="coins/quarter", doc="smoothed profit after tax")
    entrant: Array = per("F", dtype="u8", doc="1 in the quarter after entry")
    noticed_demand: Array = per("F", unit="units/quarter", doc="flow: demand for the firm's goods, noticed up to 1.15 of expected sales")
    sales: Array = per("F", unit="units/quarter", doc="flow: goods delivered")
    produced: Array = per("F", unit="units/quarter", doc="flow: output")
    employees: Array = per("F", dtype="i32", doc="flow: consumers who work there")
    labor: Array = per("F", unit="efficiency units", doc="flow: labour at work")
    hours: Array = per("F", doc="flow: working time over full time")
    # firms: flows
    revenue: Array = per("F", dtype="i64", unit="micro", doc="flow: from sales")
    wage_bill: Array = per("F", dtype="i64", unit="micro", doc="flow: wages paid")
    goods_cost: Array = per("F", dtype="i64", unit="micro", doc="flow: cost of the goods sold")
    investment: Array = per("F", dtype="i64", unit="micro", doc="flow: paid for capital goods; their budget before the goods market")
    worn: Array = per("F", dtype="i64", unit="micro", doc="flow: value of capital worn out or lost")
    firm_interest_paid: Array = per("F", dtype="i64", unit="micro", doc="flow: on loans")
    firm_interest_received: Array = per("F", dtype="i64", unit="micro", doc="flow: on deposits")
    firm_tax: Array = per("F", dtype="i64", unit="micro", doc="flow: corporate tax")
    firm_dividends: Array = per("F", dtype="i64", unit="micro", doc="flow: paid to owners")
    firm_borrowed: Array = per("F", dtype="i64", unit="micro", doc="flow: new loans")
    firm_repaid: Array = per("F", dtype="i64", unit="micro", doc="flow: principal")
    firm_forgiven: Array = per("F", dtype="i64", unit="micro", doc="flow: loans written off")
    firm_bailed_in: Array = per("F", dtype="i64", unit="micro", doc="flow: deposits lost to the resolution of a bank")
    equity_issued: Array = per("F", dtype="i64", unit="micro", doc="flow: paid in by owners")
    # banks: stocks
    bank_deposits: Array = per("B", dtype="i64", unit="micro", doc="deposits of all customers")
    bank_loans: Array = per("B", dtype="i64", unit="micro", doc="loans to all customers")
    equity: Array = per("B", dtype="i64", unit="micro", doc="a bank's capital")
    bank_bonds: Array = per("B", dtype="i64", unit="micro", doc="government bonds")
    advances: Array = per("B", dtype="i64", unit="micro", doc="owed to the central bank")
    reserves: Array = per("B", dtype="i64", unit="micro", doc="held at the central bank: the residual of the balance sheet")
    base_rate: Array = per("B", unit="1/year", doc="rate on the safest loan")
    deposit_rate: Array = per("B", unit="1/year", doc="rate on deposits")
    leverage_cap: Array = per("B", doc="largest loans over assets of a borrower")
    # banks: flows
    loan_interest: Array = per("B", dtype="i64", unit="micro", doc="flow: from all loans")
    deposit_interest: Array = per("B", dtype="i64", unit="micro", doc="flow: paid on all deposits")
    coupons: Array = per("B", dtype="i64", unit="micro", doc="flow: from bonds")
    reserve_interest: Array = per("B", dtype="i64", unit="micro", doc="flow: from the deposit facility")
    advance_interest: Array = per("B", dtype="i64", unit="micro", doc="flow: paid to the lending facility")
    bank_tax: Array = per("B", dtype="i64", unit="micro", doc="flow: corporate tax")
    bank_dividends: Array = per("B", dtype="i64", unit="micro", doc="flow: paid to owners")
    write_offs: Array = per("B", dtype="i64", unit="micro", doc="flow: loans lost")
    recapitalised: Array = per("B", dtype="i64", unit="micro", doc="flow: capital from the government")
    bail_in: Array = per("B", dtype="i64", unit="micro", doc="flow: capital from depositors")
    moved_deposits: Array = per("B", dtype="i64", unit="micro", doc="flow: deposits that came with customers of other banks, net")
    moved_loans: Array = per("B", dtype="i64", unit="micro", doc="flow: loans that came with them, net")
    # government and central bank
    bonds: Array = per(dtype="i64", unit="micro", doc="public debt")
    central_bank_bonds: Array = per(dtype="i64", unit="micro", doc="part of it held by the central bank")
    bonds_purchased: Array = per(dtype="i64", unit="micro", doc="part of it bought in asset purchases")
    treasury: Array = per(dtype="i64", unit="micro", doc="the government's account at the central bank")
    purchases: Array = per(dtype="i64", unit="micro", doc="flow: government purchases of goods")
    central_bank_coupons: Array = per(dtype="i64", unit="micro", doc="flow: coupons of the central bank's bonds")
    coupon: Array = per(unit="1/year", doc="average coupon of bonds")
    income_tax: Array = per(unit="share", doc="rate on wages and interest")
    purchases_level: Array = per(doc="purchases over their normal share of trend output")
    replacement: Array = per(doc="unemployment benefit over the mean wage")
    policy_rate: Array = per(unit="1/year", doc="rate of the central bank")
    rate_change: Array = per(unit="1/year", doc="flow: its last change")
    # aggregates, known to all at the start of the quarter
    price_level: Array = per(unit="coins/unit", doc="mean price paid")
    price_1: Array = per(unit="coins/unit", doc="price level one quarter ago")
    price_2: Array = per(unit="coins/unit", doc="two quarters ago")
    price_3: Array = per(unit="coins/unit", doc="three quarters ago")
    price_4: Array = per(unit="coins/unit", doc="four quarters ago")
    inflation: Array = per(unit="1/year", doc="annualised log change of the price level")
    inflation_4q: Array = per(unit="1/year", doc="log change over four quarters")
    expected_inflation: Array = per(unit="1/year", doc="what firms and consumers expect")
    average_inflation: Array = per(unit="1/year", doc="smoothed over four years")
    real_deposit_rate: Array = per(unit="1/year", doc="smoothed, less expected inflation")
    unemployment: Array = per(unit="share", doc="consumers without work")
    output: Array = per(unit="units/quarter", doc="real gross domestic product")
    nominal_output: Array = per(unit="coins/quarter", doc="smoothed nominal output")
    trend_output: Array = per(unit="units/quarter", doc="slow average of output, which purchases follow")
    output_gap: Array = per(unit="log", doc="output over potential")
    gap_change: Array = per(unit="log", doc="its change in a quarter")
    mean_wage: Array = per(unit="coins/efficiency unit", doc="mean posted wage, weighted by labour")
    wage_growth: Array = per(unit="1/year", doc="annualised growth of the mean wage")
    debt_ratio: Array = per(unit="years", doc="public debt over annual output")
    credit: Array = per(unit="units", doc="real loans of banks")
    credit_growth: Array = per(unit="1/year", doc="annualised growth of real loans")
    fill_rate: Array = per(unit="1/quarter", doc="smoothed chance that a vacancy is filled")
    vacancies: Array = per(unit="share", doc="flow: vacancies over consumers")
    hours_worked: Array = per(unit="share", doc="flow: working time of all, by effort and hours of their firm, over full time of all")
    inventory_change: Array = per(unit="units/quarter", doc="flow: change of inventories")
    rationed: Array = per(unit="share", doc="flow: firm credit refused")
    shortage: Array = per(unit="share", doc="flow: spending that found no goods")
    overdrafts: Array = per(unit="share", doc="flow: overdrafts over loans")
    failures: Array = per(unit="share", doc="flow: insolvent firms")
    charge_offs: Array = per(unit="1/year", doc="flow: write-offs over loans")
    capacity_use: Array = per(unit="share", doc="flow: output over capacity")
    full_time_output: Array = per(unit="units/quarter", doc="flow: what firms' heads would make in full time, were all of ordinary ability")
    sentiment: Array = per(unit="log", doc="smoothed output over trend: how willing firms and banks are to lever")
    # driving processes
    trend: Array = per(doc="labour productivity, 1 at first, grows at the rate g")
    tfp: Array = per(doc="log total factor productivity")
    demand_shock: Array = per(doc="log shift of desired spending")
    purchases_shock: Array = per(doc="log shift of government purchases")
    investment_shock: Array = per(doc="log shift of desired capital")
    cost_shock: Array = per(doc="log shift of the markup")
    spread_shock: Array = per(unit="1/year", doc="shift of loan rates")
    rate_shock: Array = per(unit="1/year", doc="shift of the policy rate this quarter")
    equity_shock: Array = per(unit="share", doc="share of bank capital that firm loans written off this quarter will cost")
    # the stationary state, growing with trend: what rewards and caps are measured in
    normal_staffing: Array = per(unit="efficiency units/unit", doc="stationary labour over capital")
    normal_consumption: Array = per(unit="units/quarter", doc="stationary consumption of a consumer")
    normal_wage: Array = per(unit="units/quarter", doc="stationary real wage")
    normal_capital: Array = per(unit="units", doc="stationary capital of a firm")
    normal_equity: Array = per(unit="units", doc="stationary real capital of a bank")
    scratch: Array = per("C", dtype="i64", doc="scratch: work space of compiled twins, zero between phases")


@dataclass(eq=False)
class Actions:
    spending: Array = per("C", doc="desired spending over permanent income")
    borrowing: Array = per("C", doc="share of the credit line that may be drawn; below zero that share of the debt is repaid early")
    effort: Array = per("C", dtype="i32", doc="0 less, 1 normal, 2 more: hours at work, intensity of search without")
    price_change: Array = per("F", unit="log", doc="change of the price, if the firm may change it")
    hiring: Array = per("F", doc="desired change of staff over staff")
    investment: Array = per("F", doc="capital goods wanted over depreciation")
    wage_change: Array = per("F", doc="growth of the wage")
    loan_spread: Array = per("B", unit="1/year", doc="loan rate less policy rate")
    deposit_spread: Array = per("B", unit="1/year", doc="policy rate less deposit rate")
    leverage_limit: Array = per("B", doc="largest loans over assets of a borrower")
    tax_step: Array = per(unit="share", doc="change of the income tax")
    purchases_step: Array = per(unit="log", doc="change of purchases")
    benefit_step: Array = per(unit="share", doc="change of the replacement rate")
    rate_step: Array = per(unit="1/year", doc="change of the policy rate")
    asset_purchases: Array = per(unit="share", doc="bonds bought from banks over annual output")


@dataclass(eq=False)
class Shocks:
    tfp: Array = per(doc="innovation to log productivity of the next quarter")
    demand: Array = per(doc="innovation to log desired spending of the next quarter")
    purchases: Array = per(doc="innovation to log government purchases of the next quarter")
    investment: Array = per(doc="innovation to log desired capital of the next quarter")
    cost_push: Array = per(doc="innovation to the log markup of the next quarter")
    loan_spread: Array = per(unit="1/year", doc="innovation to the shift of loan rates in the next quarter")
    policy_rate: Array = per(unit="1/year", doc="shift of the policy rate in the next quarter")
    bank_equity: Array = per(unit="share", doc="bank capital lost in the next quarter to firm loans written off; zero by default")
    matching: Array = per(doc="uniform: rounds the number of matches")
    vacancy: Array = per(doc="uniform: which vacancies are filled")
    lottery: Array = per(dtype="i64", doc="key of the lottery among job seekers")
    firm_productivity: Array = per("F", doc="innovation to a firm's log productivity of the next quarter")
    reprice: Array = per("F", doc="uniform: may the firm change its price in the next quarter")
    loss: Array = per("F", doc="uniform: does the firm lose capital")
    loss_size: Array = per("F", doc="uniform: how much")
    staffing: Array = per("F", doc="uniform: rounds the desired number of employees")
    other_bank: Array = per("F", dtype="i32", doc="number of the bank a firm compares its own with")
    ability: Array = per("C", doc="normal: innovation to ability of the next quarter")
    separation: Array = per("C", doc="uniform: is the job lost")
    star: Array = per("C", doc="uniform: does the consumer become, or cease to be, a super-earner")


@dataclass(eq=False)
class Rewards:
    consumer: Array = per("C", unit="utils", doc="utility of consumption less disutility of work, overtime included, and of search")
    firm: Array = per("F", doc="profit after tax less deposits lost, over stationary capital; debt forgiven and revaluation do not count")
    bank: Array = per("B", doc="profit after tax less write-offs, over stationary capital")
    government: Array = per(doc="mean consumer reward less the cost of a debt away from target")
    central_bank: Array = per(unit="points squared", doc="minus the loss (pi - pi*)^2 + 0.25 gap^2 + 0.1 (change of rate)^2")


# -- the start

@dataclass(frozen=True)
class Stationary:
    """The stationary state, for each consumer and quarter, real: from the user cost of capital r + delta and the natural rate."""

    output: float
    capital: float
    labor: float
    wage: float
    consumption: float


def stationary(p: Params) -> Stationary:
    """K/Y = alpha / (mu (r + delta)), Y = N (K/Y)^(alpha / (1 - alpha)), w = (1 - alpha) Y / (mu N), with N = 1 - u*."""
    loan_rate = normal_loan_rate(p)
    ratio = QUARTERS * p.capital_share / (p.markup * (loan_rate + p.depreciation))  # capital over output of a quarter
    labor = 1 - p.natural_unemployment
    output = labor * ratio ** (p.capital_share / (1 - p.capital_share))
    capital = ratio * output
    invested = (p.depreciation + p.growth) / QUARTERS * capital
    return Stationary(output, capital, labor, (1 - p.capital_share) * output / (p.markup * labor),
                      (1 - p.purchases_share) * output - invested)


def normal_loan_rate(p: Params) -> float:
    """The real loan rate of the stationary state: r* = neutral rate + margin + premium max(lambda* - 0.25, 0)^2."""
    return p.neutral_rate + p.loan_margin + p.risk_premium * max(p.leverage_target - 0.25, 0) ** 2


def initial_state(p: Params, replicas: int, xp: ModuleType = np, draws: Draws | None = None, real: Any = np.float64) -> State:
    """The stationary state with abilities, jobs, impatience and ownership drawn; patient consumers desire just the wealth they have."""
    s, draws = allocate(State, _this(), p, replicas, xp, real), draws or _no_draws(replicas, xp)
    at = stationary(p)
    people, firms = p.n_consumers, p.n_firms
    size = people / firms
    uniform = [draws.uniform(k, people, np.float64) for k in range(5)]
    spread = p.ability_volatility / np.sqrt(1 - p.ability_persistence**2)
    s.log_ability[...] = spread * draws.normal(5, people, np.float64)
    s.star[...] = uniform[4] * (p.star_entry + p.star_exit) < p.star_entry
    _rate_ability(p, s)
    working = uniform[0] < at.labor
    s.employer[...] = xp.where(working, xp.floor(uniform[1] * firms), -1)
    s.spell[...] = ~working
    s.impatient[...] = uniform[2] < p.impatient
    s.bank[...] = draws.integers(6, people, p.n_banks)
    s.firm_bank[...] = xp.arange(firms) % p.n_banks
    stake = xp.where(uniform[3] < p.owners, (uniform[3] / max(p.owners, 1e-9)) ** (-1 / p.ownership_tail) - 0.95, 0)
    stake = xp.maximum(stake, TINY)  # somebody owns everything, whoever was drawn
    s.ownership[...] = stake / stake.sum(1, keepdims=True)

    s.normal_staffing[...], s.normal_capital[...] = at.labor / at.capital, at.capital * size
    s.normal_consumption[...], s.normal_wage[...] = at.consumption, at.wage
    s.capital[...], s.inventory[...], s.expected_sales[...] = at.capital * size, p.stock_target * at.output * size, at.output * size
    s.price[...], s.wage[...], s.customers[...] = 1, at.wage, 1
    wage_bill = at.wage * at.labor * size
    s.capital_value[...] = micro(s.capital)
    s.inventory_cost[...] = micro(s.inventory * wage_bill / (at.output * size))
    s.firm_loans[...] = micro(p.leverage_target * (s.capital + s.inventory))
    s.firm_deposits[...] = micro(xp.full_like(s.capital, 1.15 * wage_bill + p.depreciation / QUARTERS * at.capital * size))
    s.investment_plan[...] = p.depreciation / QUARTERS * at.capital * size
    s.smoothed_profit[...] = 0.12 * at.output * size
    s.employees[...], s.hours[...] = tally(None, s.employer, firms), 1
    s.labor[...] = tally(s.ability, s.employer, firms)
    s.unit_labor[...] = at.labor / ((1 - p.capital_share) * at.output)

    s.price_level[...], s.trend[...] = 1, 1
    for quarters in range(1, 5):
        getattr(s, f"price_{quarters}")[...] = (1 + p.inflation_target) ** (-quarters / QUARTERS)
    s.inflation[...] = s.inflation_4q[...] = s.expected_inflation[...] = s.average_inflation[...] = p.inflation_target
    s.policy_rate[...] = p.neutral_rate + p.inflation_target
    s.coupon[...] = s.policy_rate + p.term_premium
    s.deposit_rate[...] = xp.maximum(s.policy_rate - p.deposit_margin, 0)[:, None]
    s.base_rate[...], s.leverage_cap[...] = (s.policy_rate + p.loan_margin)[:, None], p.leverage_limit
    s.loan_rate[...] = _loan_rate(p, s)
    s.real_rate[...] = s.loan_rate - p.inflation_target
    s.real_deposit_rate[...] = s.deposit_rate.mean(1) - p.inflation_target
    s.unemployment[...], s.fill_rate[...] = 1 - at.labor, 0.6
    s.income_tax[...], s.purchases_level[...], s.replacement[...] = p.income_tax, 1, p.replacement
    s.output[...] = s.trend_output[...] = s.nominal_output[...] = at.output * people
    s.mean_wage[...], s.debt_ratio[...] = at.wage, p.debt_target

    s.bonds[...] = micro(xp.full(replicas, p.debt_target * QUARTERS * at.output * people))
    s.central_bank_bonds[...] = share(s.bonds, p.central_bank_share)
    private = s.bonds - s.central_bank_bonds
    s.bank_bonds[...] = split(private, xp.ones((replicas, p.n_banks)))
    s.equity[...] = share(pour(s.firm_loans, s.firm_bank, p.n_banks), p.capital_target)
    s.normal_equity[...] = coins(s.equity).mean(1)
    money = s.firm_loans.sum(1) + private + s.central_bank_bonds - s.equity.sum(1)  # what banks hold, less their capital, is deposits
    _share_deposits(p, s, at, money - s.firm_deposits.sum(1))
    s.bank_deposits[...] = _bank_total(p, s.deposits, s.bank, s.firm_deposits, s.firm_bank)
    s.bank_loans[...] = _bank_total(p, s.loans, s.bank, s.firm_loans, s.firm_bank)
    s.reserves[...] = s.bank_deposits + s.equity - s.bank_loans - s.bank_bonds
    _borrow_reserves(p, s)
    s.credit[...] = coins(s.bank_loans).sum(1)
    plan(p, s)
    return s


def _share_deposits(p: Params, s: State, at: Stationary, money: Array) -> None:
    """Consumers' money by what they want to hold; the patient target is solved so that desired and actual wealth agree."""
    xp = namespace(s)
    earned = xp.maximum(s.ability * at.wage * (1 - p.income_tax), 0.2 * at.wage)
    s.permanent_income[...] = earned + (1 - p.dividend_tax) * s.ownership * p.n_consumers * 0.12 * at.output
    impatient = s.impatient == 1
    wanted_by_impatient = (p.buffer_impatient * s.permanent_income * impatient).sum(1)
    patient_income = (s.permanent_income * ~impatient).sum(1)
    target = p.patient_target * (coins(money) - wanted_by_impatient) / xp.maximum(patient_income, 1e-9)
    s.buffer[...] = xp.where(impatient, p.buffer_impatient, target[:, None])
    s.deposits[...] = split(money, xp.maximum(s.buffer, 0.3) * s.permanent_income)


def draw_shocks(p: Params, s: State, e: Shocks, draws: Draws) -> None:
    """Normal innovations of every process; uniforms for repricing, losses, separations and the lottery for jobs."""
    common = draws.normal(0, 7, np.float64)
    sizes = (p.tfp_volatility, p.demand_volatility, p.purchases_volatility, p.investment_volatility, p.cost_volatility, p.spread_volatility,
             p.rate_volatility)
    for k, (name, size) in enumerate(zip(COMMON, sizes, strict=True)):
        getattr(e, name)[...] = size * common[:, k]
    e.bank_equity[...] = 0
    x, y, z, _ = draws.bits(1, 1)
    e.matching[...], e.vacancy[...], e.lottery[...] = _unit(x)[:, 0], _unit(y)[:, 0], z[:, 0]
    e.firm_productivity[...] = p.firm_volatility * draws.normal(2, p.n_firms, np.float64)
    x, y, z, w = draws.bits(3, p.n_firms)
    e.reprice[...], e.loss[...], e.loss_size[...], e.staffing[...] = (_unit(word) for word in (x, y, z, w))
    e.other_bank[...] = draws.integers(4, p.n_firms, p.n_banks)
    x, y, z, w = draws.bits(5, p.n_consumers)
    xp = namespace(s)
    e.ability[...] = xp.sqrt(-2 * xp.log(_unit(x))) * xp.cos(2 * xp.pi * _unit(y))
    e.separation[...], e.star[...] = _unit(z), _unit(w)


COMMON = ("tfp", "demand", "purchases", "investment", "cost_push", "loan_spread", "policy_rate")  # shocks to the whole economy


def _unit(bits: Array) -> Array:
    """Uniforms strictly between 0 and 1 from 32 random bits, float64."""
    return (bits + 0.5) * 2.0**-32


# -- the quarter

@kernel("monetary.cu")
def step(p: Params, s: State, a: Actions, e: Shocks, r: Rewards) -> None:
    """One quarter, phase by phase."""
    set_policy(p, s, a)
    post_rates(p, s, a)
    switch_banks(p, s, e)
    price_loans(p, s)
    post_terms(p, s, a)
    lend_to_firms(p, s)
    release_workers(p, s, a, e)
    match_workers(p, s, a, e)
    produce(p, s, a)
    pay_incomes(p, s, a)
    lend_to_consumers(p, s, a)
    trade(p, s)
    accumulate(p, s, e)
    settle_firms(p, s)
    settle_consumers(p, s)
    settle_banks(p, s)
    distribute(p, s)
    resolve_firms(p, s)
    resolve_consumers(p, s)
    resolve_banks(p, s)
    finance_entrants(p, s)
    balance_treasury(p, s, a)
    observe(p, s)
    reward(p, s, a, r)
    innovate(p, s, e)
    plan(p, s)


@kernel("monetary.cu")
def set_policy(p: Params, s: State, a: Actions) -> None:
    """i = clip(i_-1 + step + shock, bounds); tax, purchases and benefits move by their steps. Writes policy_rate, rate_change, income_tax,
    purchases_level, replacement."""
    xp = namespace(s)
    rate = xp.clip(s.policy_rate + a.rate_step + s.rate_shock, p.lower_bound, p.upper_bound)
    s.rate_change[...] = rate - s.policy_rate
    s.policy_rate[...] = rate
    s.income_tax[...] = xp.clip(s.income_tax + a.tax_step, p.tax_low, p.tax_high)
    s.purchases_level[...] = xp.clip(s.purchases_level * xp.exp(a.purchases_step), *PURCHASES)
    s.replacement[...] = xp.clip(s.replacement + a.benefit_step, *REPLACEMENT)


PURCHASES, REPLACEMENT = (0.7, 1.3), (0.2, 0.7)  # bounds of what a government may choose


@kernel("monetary.cu")
def post_rates(p: Params, s: State, a: Actions) -> None:
    """Deposits earn max(0, i - spread), the safest loan costs max(0, i + spread - eased). Writes deposit_rate, base_rate, leverage_cap."""
    xp = namespace(s)
    rate = s.policy_rate[:, None]
    s.deposit_rate[...] = xp.maximum(rate - a.deposit_spread, 0)
    s.base_rate[...] = xp.maximum(rate + a.loan_spread + (s.spread_shock - eased(p, s))[:, None], 0)
    s.leverage_cap[...] = a.leverage_limit


def eased(p: Params, s: State) -> Array:
    """What asset purchases have taken off loan rates and new coupons: epsilon_q Q / (4 P Y), Q the bonds bought and still held, (R,)."""
    return p.purchases_effect * coins(s.bonds_purchased) / (QUARTERS * s.nominal_output)


@kernel("monetary.cu")
def switch_banks(p: Params, s: State, e: Shocks) -> None:
    """A firm compares its bank with one other and moves if that is cheaper by 25 basis points. Writes firm_bank, moved_deposits,
    moved_loans."""
    xp = namespace(s)
    own, other = (xp.take_along_axis(s.base_rate, bank.astype(np.int64), 1) for bank in (s.firm_bank, e.other_bank))
    moves = own - other > p.switching_gain
    nowhere = xp.where(moves, 0, -1)
    left, came = (xp.where(moves, bank, nowhere) for bank in (s.firm_bank, e.other_bank))
    s.moved_deposits[...] = pour(s.firm_deposits, came, p.n_banks) - pour(s.firm_deposits, left, p.n_banks)
    s.moved_loans[...] = pour(s.firm_loans, came, p.n_banks) - pour(s.firm_loans, left, p.n_banks)
    s.firm_bank[...] = xp.where(moves, e.other_bank, s.firm_bank)


@kernel("monetary.cu")
def price_loans(p: Params, s: State) -> None:
    """A firm pays the rate of the bank that it is with now, and a premium on leverage. Writes loan_rate, real_rate."""
    s.loan_rate[...] = _loan_rate(p, s)
    s.real_rate += p.rate_memory * (s.loan_rate - s.expected_inflation[:, None] - s.real_rate)


def _loan_rate(p: Params, s: State) -> Array:
    """r_j = base rate of its bank + premium max(L / (A + D) - 0.25, 0)^2, (R, F)."""
    xp = namespace(s)
    leverage = coins(s.firm_loans) / xp.maximum(coins(_assets(s) + s.firm_deposits), TINY)
    return xp.take_along_axis(s.base_rate, s.firm_bank.astype(np.int64), 1) + p.risk_premium * xp.maximum(leverage - 0.25, 0) ** 2


TINY = 1e-9


def _assets(s: State) -> Array:
    """Capital at the price level and inventories at cost: what a firm can borrow against, int64 (R, F)."""
    return s.capital_value + s.inventory_cost


@kernel("monetary.cu")
def post_terms(p: Params, s: State, a: Actions) -> None:
    """Firms that may change their price do, all set wages and decide how much to invest. Writes price, wage, investment_plan,
    investment."""
    xp = namespace(s)
    change = xp.clip(a.price_change, -p.price_step, p.price_step)
    s.price *= xp.where(s.can_reprice == 1, xp.exp(change), 1)
    growth = xp.maximum(a.wage_change, 0) if p.wages_never_fall else a.wage_change
    s.wage *= 1 + growth
    s.investment_plan[...] = a.investment * p.depreciation / QUARTERS * s.capital
    start = xp.maximum(p.entrant_capital * s.normal_capital[:, None] - s.capital, 0)
    s.investment_plan[...] = xp.where(s.entrant == 1, start, s.investment_plan)
    s.investment[...] = micro(s.investment_plan * s.price_level[:, None])


@kernel("monetary.cu")
def lend_to_firms(p: Params, s: State) -> None:
    """Firms move towards leverage lambda* exp(kappa sentiment - epsilon (r - r*)), r the real loan rate, or ask for wages + investment - D
    if that is more, at most lambda_b A - L; a bank serves all alike within its capital. The loan and the deposit rise by the same
    integer: money is created. Writes firm_loans, firm_deposits, firm_borrowed, investment, rationed."""
    xp = namespace(s)
    assets = _assets(s)
    wages = micro(s.wage * s.labor_wanted)
    dear = s.loan_rate - s.expected_inflation[:, None] - normal_loan_rate(p)
    target = p.leverage_target * xp.exp(p.sentiment_response * s.sentiment[:, None] - p.leverage_response * dear)
    wanted = share(share(assets, target) - s.firm_loans, p.leverage_speed) + share(s.firm_loans, p.amortisation)
    wanted = xp.maximum(wanted, wages + s.investment - s.firm_deposits)
    cap = xp.take_along_axis(s.leverage_cap, s.firm_bank.astype(np.int64), 1)
    wanted = xp.maximum(xp.minimum(wanted, share(assets, cap) - s.firm_loans), 0)
    granted = floor_share(wanted, _ration(p, s, wanted, s.firm_bank))
    s.firm_borrowed[...] = granted
    s.firm_loans += granted
    s.firm_deposits += granted
    asked = wanted.sum(1)
    s.rationed[...] = xp.where(asked > 0, 1 - granted.sum(1) / xp.maximum(asked, 1), 0)
    s.investment[...] = xp.maximum(xp.minimum(s.investment, s.firm_deposits - wages), 0)


def _ration(p: Params, s: State, wanted: Array, bank: Array) -> Array:
    """Share of new loans (R, n) that the applicant's bank can grant: capital over the lending ratio, less loans, over what is asked."""
    xp = namespace(s)
    loans = _bank_total(p, s.loans, s.bank, s.firm_loans, s.firm_bank)
    room = xp.maximum(s.equity / p.capital_lending - loans, 0)
    served = xp.minimum(room / xp.maximum(pour(wanted, bank, p.n_banks), 1), 1)
    return xp.take_along_axis(served, bank.astype(np.int64), 1)


def _bank_total(p: Params, consumers: Array, bank: Array, firms: Array, firm_bank: Array) -> Array:
    """Balances of all customers by bank, int64 (R, B)."""
    return pour(consumers, bank, p.n_banks) + pour(firms, firm_bank, p.n_banks)


@kernel("monetary.cu")
def release_workers(p: Params, s: State, a: Actions, e: Shocks) -> None:
    """Jobs end by themselves, and in excess of desired staff: chance 1 - (1 - s_x)(1 - speed x excess share). Wages are payable in advance,
    so staff is capped by liquidity. Writes employer, and employees, which until the match are the staff wanted."""
    xp = namespace(s)
    staff = tally(None, s.employer, p.n_firms)
    mean_ability = xp.where(staff > 0, tally(s.ability, s.employer, p.n_firms) / xp.maximum(staff, 1), 1)
    wanted = xp.minimum(staff * (1 + a.hiring), 1.02 * coins(s.firm_deposits) / xp.maximum(s.wage * mean_ability, TINY))
    wanted = xp.floor(xp.maximum(wanted, 1) + e.staffing)
    stay = staff * (1 - p.separation)
    excess = xp.clip((stay - wanted) / xp.maximum(stay, 1), 0, 1)
    working = s.employer >= 0
    leaves = 1 - (1 - p.separation) * (1 - p.layoff_speed * xp.take_along_axis(excess, xp.maximum(s.employer, 0).astype(np.int64), 1))
    lost = working & (e.separation < leaves)
    s.employer[...] = xp.where(lost, -1, s.employer)
    s.employees[...] = wanted


@kernel("monetary.cu")
def match_workers(p: Params, s: State, a: Actions, e: Shocks) -> None:
    """M = U V / (U^iota + V^iota)^(1/iota) matches; a lottery orders the seekers, vacancies are filled by systematic sampling, so all have
    the same chance. Writes employer, employees, spell, vacancies, fill_rate, unemployment."""
    xp = namespace(s)
    staff = tally(None, s.employer, p.n_firms)
    eagerness = xp.exp(p.vacancy_response * s.sentiment) / xp.clip(s.fill_rate, 0.35, 1)
    vacant = xp.ceil(xp.maximum(s.employees - staff, 0) * eagerness[:, None]).astype(np.int64)
    seeking = s.employer < 0
    entries = xp.clip(a.effort, 0, ENTRIES - 1) + 1
    seekers, offers = (seeking * entries).sum(1) / 2, vacant.sum(1)
    matches = _matches(p, seekers, offers) + e.matching
    hired = xp.minimum(xp.minimum(xp.floor(matches).astype(np.int64), offers), seeking.sum(1))
    replica, rank, who = _lottery(p, seeking, entries, e.lottery)
    chosen = rank < hired[replica]
    replica, rank, who = replica[chosen], rank[chosen], who[chosen]
    slot = xp.floor((rank + e.vacancy[replica]) * (offers[replica] / hired[replica])).astype(np.int64)
    slot = xp.minimum(slot, offers[replica] - 1)  # a uniform in single precision may be 1
    ends = xp.cumsum(vacant.ravel())
    firm = xp.searchsorted(ends, slot + (xp.cumsum(offers) - offers)[replica], side="right") - replica * p.n_firms
    s.employer[replica, who] = firm
    s.employees[...] = tally(None, s.employer, p.n_firms)
    s.spell[...] = xp.where(s.employer >= 0, 0, s.spell + 1)
    s.vacancies[...] = offers / p.n_consumers
    s.fill_rate[...] = 0.7 * s.fill_rate + 0.3 * hired / xp.maximum(offers, 1)
    s.unemployment[...] = (s.employer < 0).sum(1) / p.n_consumers


def _matches(p: Params, seekers: Array, offers: Array) -> Array:
    """U V / (U^iota + V^iota)^(1/iota), zero if there are none of either (den Haan, Ramey and Watson, 2000)."""
    xp = namespace(offers)
    both = (seekers > 0) & (offers > 0)
    u, v = xp.where(both, seekers, 1), xp.where(both, offers, 1)
    return xp.where(both, u * v / (u**p.matching + v**p.matching) ** (1 / p.matching), 0)


def _lottery(p: Params, seeking: Array, entries: Array, key: Array) -> tuple[Array, Array, Array]:
    """Replica, rank from 0 and number of every seeker: a seeker's place is the best of his tickets under a keyed bijection."""
    xp = namespace(seeking)
    tickets = ENTRIES * p.n_consumers
    replica, who = xp.nonzero(seeking)
    bought = entries[replica, who]
    places = [shuffled(ENTRIES * who + k, key[replica], tickets) for k in range(ENTRIES)]
    place = places[0]
    for k in range(1, ENTRIES):
        place = xp.where(bought > k, xp.minimum(place, places[k]), place)
    taken = xp.zeros((len(seeking), tickets), np.int32)
    taken[replica, place] = 1
    rank = xp.cumsum(taken, 1)[replica, place] - 1
    return replica, rank, who


def shuffled(index: Array, key: Array, n: int) -> Array:
    """Place of each index 0 .. n - 1 under the bijection that `key` names: a Feistel network of four rounds, walked back into range."""
    xp = namespace(index)
    low = max((n - 1).bit_length() // 2, 1)
    high = max((n - 1).bit_length() - low, 1)
    place, out = index.astype(np.uint32), None
    key = key.astype(np.uint32)
    while out is None or out.any():
        moved = place if out is None else place[out]
        moved = _feistel(xp, moved, key if out is None else key[out], low, high)
        if out is None:
            place = moved
        else:
            place[out] = moved
        out = place >= n
    return place.astype(np.int64)


def _feistel(xp: ModuleType, x: Array, key: Array, low: int, high: int) -> Array:
    """Four rounds on the two halves of x, `low` and `high` bits long."""
    left, right = x >> np.uint32(low), x & np.uint32((1 << low) - 1)
    for k in range(4):
        if k % 2:
            right = right ^ (_mixed(left, key, k) & np.uint32((1 << low) - 1))
        else:
            left = left ^ (_mixed(right, key, k) & np.uint32((1 << high) - 1))
    return left << np.uint32(low) | right


def _mixed(x: Array, key: Array, turn: int) -> Array:
    """A hash of 32 bits (finaliser of MurmurHash3; Appleby, 2011)."""
    x = (x + key + np.uint32(turn * 0x9E3779B9 & 0xFFFFFFFF)) * np.uint32(0x85EBCA6B)
    x = (x ^ x >> np.uint32(13)) * np.uint32(0xC2B2AE35)
    return x ^ x >> np.uint32(16)


@kernel("monetary.cu")
def produce(p: Params, s: State, a: Actions) -> None:
    """y = min(z a K^alpha (N h)^(1 - alpha), 1.02 y*) with hours h = clip(N* / N, 0.9, 1.1). Full-time output: the sum of
    z a K^alpha (e n)^(1 - alpha), n heads, e the mean ability of consumers without super-earnings. Writes labor, hours, hours_worked,
    produced, capacity_use, full_time_output."""
    xp = namespace(s)
    time = xp.asarray(HOURS)[xp.clip(a.effort, 0, 2)]
    labor = tally(s.ability * time, s.employer, p.n_firms)
    s.hours[...] = xp.clip(s.labor_wanted / xp.maximum(labor, TINY), p.hours_low, p.hours_high)
    s.labor[...] = labor * s.hours
    s.hours_worked[...] = xp.where(s.employer >= 0, time * _hours(s), 0).sum(1) / p.n_consumers
    skill = _skill(p, s)
    s.produced[...] = xp.minimum(skill * s.labor ** (1 - p.capital_share), 1.02 * s.output_wanted)
    capacity = skill * (p.capacity_staffing * s.normal_staffing[:, None] * s.capital) ** (1 - p.capital_share)
    s.capacity_use[...] = s.produced.sum(1) / xp.maximum(capacity.sum(1), TINY)
    ordinary = (s.ability / xp.where(s.star == 1, p.star_ability, 1)).mean(1, keepdims=True)
    s.full_time_output[...] = (skill * (ordinary * s.employees) ** (1 - p.capital_share)).sum(1)


def _hours(s: State) -> Array:
    """Working time, over full time, of the firm that a consumer works for; of the first firm without work, (R, C)."""
    xp = namespace(s)
    return xp.take_along_axis(s.hours, xp.maximum(s.employer, 0).astype(np.int64), 1)


def _skill(p: Params, s: State) -> Array:
    """z a K^alpha A^(1 - alpha): output of one unit of labour to the power 1 - alpha, (R, F)."""
    xp = namespace(s)
    level = s.trend ** (1 - p.capital_share)
    return level[:, None] * xp.exp(s.tfp[:, None] + s.firm_productivity) * s.capital**p.capital_share


@kernel("monetary.cu")
def pay_incomes(p: Params, s: State, a: Actions) -> None:
    """Pay w e h, taxed; benefit, assistance and transfer from the treasury. Overdrafts become loans. Writes wage_income, income_taxes,
    benefits, wage_bill, deposits, firm_deposits, firm_loans, firm_borrowed, treasury, overdrafts."""
    xp = namespace(s)
    firm = xp.maximum(s.employer, 0).astype(np.int64)
    working = s.employer >= 0
    rate = xp.take_along_axis(s.wage * s.hours, firm, 1)
    worked = s.ability * xp.asarray(HOURS)[xp.clip(a.effort, 0, 2)]
    s.wage_income[...] = xp.where(working, micro(rate * worked), 0)
    s.wage_bill[...] = pour(s.wage_income, s.employer, p.n_firms)
    s.income_taxes[...] = floor_share(s.wage_income, s.income_tax[:, None])
    wage = s.mean_wage[:, None]
    insured = xp.where(s.spell <= p.benefit_time, s.replacement[:, None] * wage * xp.minimum(s.ability, 1.5), p.assistance * wage)
    s.benefits[...] = xp.where(working, 0, micro(insured)) + micro(p.transfer * wage)
    s.firm_deposits -= s.wage_bill
    s.deposits += s.wage_income - s.income_taxes + s.benefits
    s.treasury += (s.income_taxes - s.benefits).sum(1)
    drawn = overdraw(s.firm_deposits, s.firm_loans)
    s.firm_borrowed += drawn
    s.overdrafts[...] = drawn.sum(1)


@kernel("monetary.cu")
def lend_to_consumers(p: Params, s: State, a: Actions) -> None:
    """A consumer wants spending x permanent income x taste; what deposits do not cover is borrowed up to the line that he opens and his
    bank grants. Writes deposits, loans, borrowed, repaid, spending (the budget)."""
    xp = namespace(s)
    nominal = s.permanent_income * s.price_level[:, None]
    early = xp.minimum(floor_share(s.loans, xp.maximum(-a.borrowing, 0)), xp.maximum(s.deposits, 0))
    s.deposits -= early
    s.loans -= early
    s.repaid[...] = early
    wanted = micro(a.spending * nominal * xp.exp(s.demand_shock)[:, None])
    line = xp.maximum(micro(p.credit_line * QUARTERS * nominal) - s.loans, 0)
    line = xp.where(s.excluded > 0, 0, floor_share(line, xp.maximum(a.borrowing, 0)))
    asked = xp.minimum(xp.maximum(wanted - s.deposits, 0), line)
    granted = floor_share(asked, _ration(p, s, asked, s.bank))
    s.borrowed[...] = granted
    s.loans += granted
    s.deposits += granted
    s.spending[...] = xp.minimum(wanted, s.deposits)


@kernel("monetary.cu")
def trade(p: Params, s: State) -> None:
    """Demand goes to firms by customers x price^(1 - eta), what they cannot serve is offered once to the others; all buyers get the same
    share of their budgets. Writes spending, purchases, investment, revenue, sales, noticed_demand, inventory, inventory_cost,
    goods_cost, customers, expected_sales, price levels, deposits, firm_deposits, treasury, inventory_change, shortage."""
    xp = namespace(s)
    public = micro(p.purchases_share * s.purchases_level * s.trend_output * xp.exp(s.purchases_shock) * s.price_level)
    budget = coins(s.spending.sum(1) + s.investment.sum(1) + public)
    appeal = s.customers * s.price ** (1 - p.elasticity)
    asked = appeal / appeal.sum(1, keepdims=True) * budget[:, None] / s.price
    supply = s.inventory + s.produced
    first = xp.minimum(asked, supply)
    left = (supply - first) * s.price
    unmet = ((asked - first) * s.price).sum(1)
    second = xp.minimum(unmet / xp.maximum(left.sum(1), TINY), 1)[:, None] * (supply - first)
    sales = xp.minimum(first + second, supply)
    worth = (sales * s.price).sum(1)
    filled = xp.where(unmet > left.sum(1), xp.minimum(worth / xp.maximum(budget, TINY), 1), 1)  # exactly 1 where goods suffice
    s.shortage[...] = 1 - filled
    s.spending[...] = floor_share(s.spending, filled[:, None])
    s.investment[...] = floor_share(s.investment, filled[:, None])
    s.purchases[...] = floor_share(public, filled)
    s.revenue[...] = split(s.spending.sum(1) + s.investment.sum(1) + s.purchases, sales * s.price)
    s.deposits -= s.spending
    s.firm_deposits += s.revenue - s.investment
    s.treasury -= s.purchases

    s.noticed_demand[...], s.sales[...] = xp.minimum(asked + second, 1.15 * s.expected_sales), sales
    s.expected_sales += p.sales_memory * (s.noticed_demand - s.expected_sales)
    held = s.inventory_cost + s.wage_bill
    s.goods_cost[...] = xp.where(supply > sales, share(held, sales / xp.maximum(supply, TINY)), held)
    s.inventory_cost[...] = held - s.goods_cost
    s.inventory_change[...] = (supply - sales - s.inventory).sum(1)
    s.inventory[...] = supply - sales
    value_share = sales * s.price / xp.maximum(worth, TINY)[:, None]
    s.customers[...] = xp.maximum((1 - p.customer_memory) * s.customers + p.customer_memory * p.n_firms * value_share, 0.02)
    for older, newer in ((4, 3), (3, 2), (2, 1)):
        getattr(s, f"price_{older}")[...] = getattr(s, f"price_{newer}")
    s.price_1[...] = s.price_level
    quantity = sales.sum(1)
    s.price_level[...] = xp.where(quantity > 0, worth / xp.maximum(quantity, TINY), s.price_level)


@kernel("monetary.cu")
def accumulate(p: Params, s: State, e: Shocks) -> None:
    """K' = K (1 - delta') - loss + I / P; losses are part of depreciation, whose mean stays delta. Writes capital, capital_value,
    worn."""
    xp = namespace(s)
    bought = coins(s.investment) / s.price_level[:, None]
    struck = xp.where(e.loss < p.loss_chance, p.loss_low + (p.loss_high - p.loss_low) * e.loss_size, 0)
    kept = (1 - _wear(p)) * (1 - struck)
    s.worn[...] = micro((1 - kept) * s.capital * s.price_level[:, None])
    s.capital[...] = kept * s.capital + bought
    s.capital_value[...] = micro(s.capital * s.price_level[:, None])


def _wear(p: Params) -> float:
    """Depreciation of a quarter without losses: delta / 4 less their mean."""
    return p.depreciation / QUARTERS - p.loss_chance * (p.loss_low + p.loss_high) / 2


@kernel("monetary.cu")
def settle_firms(p: Params, s: State) -> None:
    """Interest, principal and tax on profit = revenue - cost of goods - capital worn - interest; dividends out of smoothed profit and
    excess liquidity. Writes firm_interest_paid, firm_interest_received, firm_repaid, firm_tax, firm_dividends, smoothed_profit,
    firm_deposits, firm_loans, firm_borrowed, treasury, overdrafts."""
    xp = namespace(s)
    deposit_rate = xp.take_along_axis(s.deposit_rate, s.firm_bank.astype(np.int64), 1)
    leverage = coins(s.firm_loans) / xp.maximum(coins(_assets(s) + s.firm_deposits), TINY)
    s.firm_interest_paid[...] = share(s.firm_loans, s.loan_rate / QUARTERS)
    s.firm_interest_received[...] = share(xp.maximum(s.firm_deposits, 0), deposit_rate / QUARTERS)
    s.firm_repaid[...] = share(s.firm_loans, p.amortisation)
    profit = coins(s.revenue - s.goods_cost - s.worn - s.firm_interest_paid + s.firm_interest_received)
    s.firm_tax[...] = floor_share(micro(xp.maximum(profit, 0)), p.corporate_tax)
    s.firm_deposits += s.firm_interest_received - s.firm_interest_paid - s.firm_repaid - s.firm_tax
    s.firm_loans -= s.firm_repaid
    s.treasury += s.firm_tax.sum(1)
    drawn = overdraw(s.firm_deposits, s.firm_loans)
    s.firm_borrowed += drawn
    s.overdrafts += drawn.sum(1)
    s.smoothed_profit += p.profit_memory * (profit - coins(s.firm_tax) - s.smoothed_profit)
    buffer = share(s.wage_bill, p.buffer) + s.investment
    wanted = micro(p.payout * s.smoothed_profit) + share(s.firm_deposits - buffer, p.payout_excess)
    paid = xp.clip(wanted, 0, xp.maximum(s.firm_deposits - share(buffer, 0.5), 0))
    s.firm_dividends[...] = xp.where(leverage > p.leverage_target + 0.2, 0, paid)
    s.firm_deposits -= s.firm_dividends


@kernel("monetary.cu")
def settle_consumers(p: Params, s: State) -> None:
    """Deposit interest, taxed; loan interest and principal, overdrawn if need be. Who has no work, and whose interest and principal due
    exceed 0.8 of income and all deposits, is insolvent. Writes interest_received, interest_paid, repaid, borrowed, insolvent,
    income_taxes, deposits, loans, treasury, overdrafts."""
    xp = namespace(s)
    bank = s.bank.astype(np.int64)
    s.interest_received[...] = share(s.deposits, xp.take_along_axis(s.deposit_rate, bank, 1) / QUARTERS)
    s.interest_paid[...] = share(s.loans, (xp.take_along_axis(s.base_rate, bank, 1) + p.consumer_margin) / QUARTERS)
    principal = share(s.loans, p.consumer_amortisation)
    due = s.interest_paid + principal
    s.insolvent[...] = (s.employer < 0) & (due > p.service_limit * (s.wage_income + s.benefits)) & (s.deposits < due)
    tax = floor_share(s.interest_received, s.income_tax[:, None])
    s.repaid += principal
    s.income_taxes += tax
    s.deposits += s.interest_received - tax - due
    s.loans -= principal
    s.treasury += tax.sum(1)
    drawn = overdraw(s.deposits, s.loans)
    s.borrowed += drawn
    s.overdrafts += drawn.sum(1)


@kernel("monetary.cu")
def settle_banks(p: Params, s: State) -> None:
    """Interest on loans, bonds and reserves, less that on deposits and advances, is taxed; capital above target is paid out in part. The
    central bank remits its profit. Writes loan_interest, deposit_interest, coupons, central_bank_coupons, reserve_interest,
    advance_interest, bank_tax, bank_dividends, equity, treasury."""
    xp = namespace(s)
    rate = s.policy_rate[:, None]
    s.loan_interest[...] = _bank_total(p, s.interest_paid, s.bank, s.firm_interest_paid, s.firm_bank)
    s.deposit_interest[...] = _bank_total(p, s.interest_received, s.bank, s.firm_interest_received, s.firm_bank)
    s.coupons[...] = share(s.bank_bonds, s.coupon[:, None] / QUARTERS)
    s.central_bank_coupons[...] = share(s.central_bank_bonds, s.coupon / QUARTERS)
    s.reserve_interest[...] = share(xp.maximum(s.reserves, 0), xp.maximum(rate - p.corridor, 0) / QUARTERS)
    s.advance_interest[...] = share(s.advances, (rate + p.corridor) / QUARTERS)
    profit = s.loan_interest - s.deposit_interest + s.coupons + s.reserve_interest - s.advance_interest
    s.bank_tax[...] = floor_share(xp.maximum(profit, 0), p.corporate_tax)
    s.equity += profit - s.bank_tax
    s.treasury += s.bank_tax.sum(1) - s.coupons.sum(1) - s.central_bank_coupons
    s.treasury += s.central_bank_coupons + s.advance_interest.sum(1) - s.reserve_interest.sum(1)
    loans = _bank_total(p, s.loans, s.bank, s.firm_loans, s.firm_bank)
    s.bank_dividends[...] = floor_share(xp.maximum(s.equity - share(loans, p.capital_target), 0), p.bank_payout)
    s.equity -= s.bank_dividends


@kernel("monetary.cu")
def distribute(p: Params, s: State) -> None:
    """Dividends of firms and banks go to consumers by their shares, taxed. Writes dividends, income_taxes, deposits, treasury."""
    s.dividends[...] = split(s.firm_dividends.sum(1) + s.bank_dividends.sum(1), s.ownership)
    tax = floor_share(s.dividends, p.dividend_tax)
    s.income_taxes += tax
    s.deposits += s.dividends - tax
    s.treasury += tax.sum(1)


@kernel("monetary.cu")
def resolve_firms(p: Params, s: State) -> None:
    """A firm without equity sets its deposits against its loan, and the loan is written down to zeta P K; a crisis writes off more. Writes
    firm_deposits, firm_loans, firm_repaid, firm_forgiven, firm_productivity, failures."""
    xp = namespace(s)
    broke = _assets(s) + s.firm_deposits - s.firm_loans < 0
    settled = xp.where(broke, xp.minimum(s.firm_deposits, s.firm_loans), 0)
    s.firm_deposits -= settled
    s.firm_loans -= settled
    s.firm_repaid += settled
    lost = xp.where(broke, xp.maximum(s.firm_loans - share(s.capital_value, p.recovery), 0), 0)
    s.firm_loans -= lost
    owed = pour(s.firm_loans, s.firm_bank, p.n_banks)
    crisis = xp.clip(s.equity_shock[:, None] * s.equity / xp.maximum(owed, 1), 0, 1)
    struck = floor_share(s.firm_loans, xp.take_along_axis(crisis, s.firm_bank.astype(np.int64), 1))
    s.firm_loans -= struck
    s.firm_forgiven[...] = lost + struck
    s.firm_productivity[...] = xp.where(broke, 0, s.firm_productivity)
    s.failures[...] = broke.sum(1) / p.n_firms


@kernel("monetary.cu")
def resolve_consumers(p: Params, s: State) -> None:
    """Insolvent consumers are discharged and get no credit for seven years. Writes loans, forgiven, excluded."""
    xp = namespace(s)
    broke = s.insolvent == 1
    s.forgiven[...] = xp.where(broke, s.loans, 0)
    s.loans -= s.forgiven
    s.excluded[...] = xp.where(broke, p.exclusion_time, xp.maximum(s.excluded - 1, 0))


@kernel("monetary.cu")
def resolve_banks(p: Params, s: State) -> None:
    """Banks bear the write-offs; one with less than 2 % capital is restored to 8 % by the government, by its depositors, or not at all.
    Writes write_offs, equity, recapitalised, bail_in, bailed_in, firm_bailed_in, deposits, firm_deposits, treasury, charge_offs,
    overdrafts."""
    xp = namespace(s)
    s.write_offs[...] = _bank_total(p, s.forgiven, s.bank, s.firm_forgiven, s.firm_bank)
    s.equity -= s.write_offs
    loans = _bank_total(p, s.loans, s.bank, s.firm_loans, s.firm_bank)
    failed = s.equity < share(loans, p.capital_failure)
    lacking = xp.where(failed, share(loans, p.capital_minimum) - s.equity, 0)
    s.recapitalised[...] = lacking if p.resolution == BAIL_OUT else 0
    cut = xp.zeros(s.equity.shape)
    if p.resolution == BAIL_IN:
        deposits = _bank_total(p, s.deposits, s.bank, s.firm_deposits, s.firm_bank)
        cut = xp.minimum(lacking / xp.maximum(deposits, 1), 1)
    s.bailed_in[...] = floor_share(s.deposits, xp.take_along_axis(cut, s.bank.astype(np.int64), 1))
    s.firm_bailed_in[...] = floor_share(s.firm_deposits, xp.take_along_axis(cut, s.firm_bank.astype(np.int64), 1))
    s.bail_in[...] = _bank_total(p, s.bailed_in, s.bank, s.firm_bailed_in, s.firm_bank)
    s.deposits -= s.bailed_in
    s.firm_deposits -= s.firm_bailed_in
    s.equity += s.recapitalised + s.bail_in
    s.treasury -= s.recapitalised.sum(1)
    total = coins(loans.sum(1))
    s.charge_offs[...] = QUARTERS * coins(s.write_offs.sum(1)) / xp.maximum(total, TINY)
    s.overdrafts[...] = coins(s.overdrafts) / xp.maximum(total, TINY)


@kernel("monetary.cu")
def finance_entrants(p: Params, s: State) -> None:
    """A firm whose capital has fallen below 5 % of the mean, or of the normal if that is less, makes room for an entrant with mean prices
    and wages, for whose capital the owners pay what their deposits allow. Writes entrant, equity_issued, equity_paid, deposits,
    firm_deposits, price, wage, customers, expected_sales, unit_labor, firm_productivity, smoothed_profit."""
    xp = namespace(s)
    mean = s.capital.mean(1)[:, None]
    leaves = s.capital < p.entry_size * xp.minimum(mean, s.normal_capital[:, None])
    s.entrant[...] = leaves
    needed = xp.where(leaves, micro(1.5 * p.entrant_capital * s.normal_capital[:, None] * s.price_level[:, None]), 0)
    called = xp.minimum(split(needed.sum(1), s.ownership), s.deposits)
    s.equity_paid[...] = called
    s.equity_issued[...] = split(called.sum(1), needed.astype(np.float64)) if leaves.any() else 0
    s.deposits -= s.equity_paid
    s.firm_deposits += s.equity_issued
    size = p.entrant_capital * s.expected_sales.mean(1)[:, None]
    for field, fresh in ((s.price, s.price_level[:, None]), (s.wage, s.mean_wage[:, None]), (s.customers, p.entrant_capital),
                         (s.expected_sales, size), (s.unit_labor, s.unit_labor.mean(1)[:, None]), (s.firm_productivity, 0),
                         (s.smoothed_profit, 0)):
        field[...] = xp.where(leaves, fresh, field)


@kernel("monetary.cu")
def balance_treasury(p: Params, s: State, a: Actions) -> None:
    """The treasury's account is swept by issuing or redeeming bonds at par; the central bank holds its share and what it bought, banks the
    rest in proportion to deposits; reserves are the residual of a bank, and short ones are borrowed. Writes bonds, treasury,
    central_bank_bonds, bonds_purchased, bank_bonds, bank_deposits, bank_loans, reserves, advances, coupon."""
    xp = namespace(s)
    issued = xp.maximum(-s.treasury, -s.bonds)
    s.bonds += issued
    s.treasury += issued
    usual = share(s.bonds, p.central_bank_share)
    bought = s.bonds_purchased + micro(a.asset_purchases * QUARTERS * s.nominal_output)
    s.bonds_purchased[...] = xp.clip(bought, 0, s.bonds - usual)
    s.central_bank_bonds[...] = usual + s.bonds_purchased
    s.bank_deposits[...] = _bank_total(p, s.deposits, s.bank, s.firm_deposits, s.firm_bank)
    s.bank_loans[...] = _bank_total(p, s.loans, s.bank, s.firm_loans, s.firm_bank)
    s.bank_bonds[...] = split(s.bonds - s.central_bank_bonds, s.bank_deposits.astype(np.float64))
    s.reserves[...] = s.bank_deposits + s.equity + s.advances - s.bank_loans - s.bank_bonds
    _borrow_reserves(p, s)
    s.coupon += (xp.maximum(s.policy_rate + p.term_premium - eased(p, s), 0) - s.coupon) / p.bond_maturity


def _borrow_reserves(p: Params, s: State) -> None:
    """Banks below the reserve ratio borrow from the central bank, those above it repay. Writes reserves, advances."""
    xp = namespace(s)
    required = share(s.bank_deposits, p.reserve_ratio)
    change = xp.maximum(required - s.reserves, -s.advances)
    s.advances += change
    s.reserves += change


@kernel("monetary.cu")
def observe(p: Params, s: State) -> None:
    """What all know at the start of the next quarter. Potential output is Omega Y_full ((1 - u*) / (1 - u))^(1 - alpha), of full-time
    output with natural unemployment. Writes inflation*, expected_inflation, average_inflation, real_deposit_rate, permanent_income,
    output, nominal_output, sentiment, trend_output, output_gap, gap_change, mean_wage, wage_growth, debt_ratio, credit, credit_growth."""
    xp = namespace(s)
    level = s.price_level
    s.inflation[...] = QUARTERS * xp.log(level / s.price_1)
    s.inflation_4q[...] = xp.log(level / s.price_4)
    s.expected_inflation[...] = p.anchor * p.inflation_target + (1 - p.anchor) * (0.7 * s.expected_inflation + 0.3 * s.inflation_4q)
    s.average_inflation += (s.inflation - s.average_inflation) / AVERAGED
    s.real_deposit_rate += 0.25 * (s.deposit_rate.mean(1) - s.expected_inflation - s.real_deposit_rate)
    cash = coins(s.wage_income + s.benefits + s.interest_received - s.interest_paid + s.dividends - s.income_taxes) / level[:, None]
    memory = xp.where(s.impatient == 1, p.income_memory_impatient, p.income_memory)
    s.permanent_income += memory * (cash - s.permanent_income)
    s.permanent_income[...] = xp.maximum(s.permanent_income, 0.05 * s.normal_wage[:, None])
    spent = coins(s.spending.sum(1) + s.investment.sum(1) + s.purchases)
    s.output[...] = xp.maximum(spent / level + s.inventory_change, TINY)
    s.nominal_output[...] = 0.5 * s.nominal_output + 0.5 * s.output * level
    s.sentiment += p.sentiment_memory * (xp.log(s.output / s.trend_output) - s.sentiment)
    s.trend_output *= (1 + p.growth / QUARTERS) * (1 + 0.02 * xp.log(s.output / s.trend_output))
    staffed = xp.maximum(1 - s.unemployment, TINY) / (1 - p.natural_unemployment)
    potential = p.potential * xp.maximum(s.full_time_output, TINY) / staffed ** (1 - p.capital_share)
    gap = xp.log(s.output / potential)
    s.gap_change[...] = gap - s.output_gap
    s.output_gap[...] = gap
    weight = s.labor.sum(1)
    wage = xp.where(weight > 0, (s.wage * s.labor).sum(1) / xp.maximum(weight, TINY), s.mean_wage)
    s.wage_growth[...] = QUARTERS * xp.log(wage / s.mean_wage)
    s.mean_wage[...] = wage
    s.debt_ratio[...] = coins(s.bonds) / (QUARTERS * s.nominal_output)
    credit = xp.maximum(coins(s.bank_loans.sum(1)) / level, TINY)
    s.credit_growth[...] = QUARTERS * xp.log(credit / xp.maximum(s.credit, TINY))
    s.credit[...] = credit


@kernel("monetary.cu")
def reward(p: Params, s: State, a: Actions, r: Rewards) -> None:
    """Consumers: exp(d) u(c / c*) - psi n^(1 + 1/phi) / (1 + 1/phi); owners: profit after tax and losses on loans; the central bank: minus
    its quadratic loss in points. Writes all rewards."""
    xp = namespace(s)
    eaten = xp.maximum(coins(s.spending) / s.price_level[:, None] / s.normal_consumption[:, None], 0.01)
    utility = xp.log(eaten) if p.risk_aversion == 1 else (eaten ** (1 - p.risk_aversion) - 1) / (1 - p.risk_aversion)
    effort = xp.clip(a.effort, 0, 2)
    searched = p.search_time * (effort + 1) / 2
    time = xp.where(s.employer >= 0, xp.asarray(HOURS)[effort] * _hours(s), searched)
    power = 1 + 1 / p.frisch
    r.consumer[...] = xp.exp(s.demand_shock)[:, None] * utility - p.disutility * time**power / power
    profit = s.revenue - s.goods_cost - s.worn - s.firm_interest_paid + s.firm_interest_received - s.firm_tax
    r.firm[...] = coins(profit - s.firm_bailed_in) / (s.price_level * s.normal_capital)[:, None]
    gain = s.loan_interest - s.deposit_interest + s.coupons + s.reserve_interest - s.advance_interest - s.bank_tax - s.write_offs
    r.bank[...] = coins(gain) / (s.normal_equity * s.price_level)[:, None]
    debt = 10 * (s.debt_ratio - p.debt_target)
    r.government[...] = r.consumer.mean(1) - p.debt_weight * debt**2
    miss, gap, change = (100 * x for x in (s.inflation_4q - p.inflation_target, s.output_gap, s.rate_change))
    r.central_bank[...] = -(miss**2 + p.gap_weight * gap**2 + p.rate_weight * change**2)


@kernel("monetary.cu")
def innovate(p: Params, s: State, e: Shocks) -> None:
    """The driving processes of the next quarter: x' = rho x + e; trend and normal levels grow. Writes trend, normal_*, tfp, *_shock,
    firm_productivity, log_ability, star, ability, can_reprice."""
    pace = 1 + p.growth / QUARTERS
    for level in (s.trend, s.normal_consumption, s.normal_wage, s.normal_capital, s.normal_equity):
        level *= pace
    s.normal_staffing /= pace
    s.tfp[...] = p.tfp_persistence * s.tfp + e.tfp
    s.demand_shock[...] = p.demand_persistence * s.demand_shock + e.demand
    s.purchases_shock[...] = p.purchases_persistence * s.purchases_shock + e.purchases
    s.investment_shock[...] = p.investment_persistence * s.investment_shock + e.investment
    s.cost_shock[...] = p.cost_persistence * s.cost_shock + e.cost_push
    s.spread_shock[...] = p.spread_persistence * s.spread_shock + e.loan_spread
    s.rate_shock[...], s.equity_shock[...] = e.policy_rate, e.bank_equity
    s.firm_productivity[...] = p.firm_persistence * s.firm_productivity + e.firm_productivity
    s.can_reprice[...] = e.reprice < p.reprice_chance
    s.log_ability[...] = p.ability_persistence * s.log_ability + p.ability_volatility * e.ability
    xp = namespace(s)
    s.star[...] = xp.where(s.star == 1, e.star >= p.star_exit, e.star < p.star_entry)
    _rate_ability(p, s)


def _rate_ability(p: Params, s: State) -> None:
    """e = exp(x - var / 2), times the premium of super-earners, with mean one. Writes ability."""
    xp = namespace(s)
    variance = p.ability_volatility**2 / (1 - p.ability_persistence**2)
    stars = p.star_entry / max(p.star_entry + p.star_exit, TINY)
    premium = xp.where(s.star == 1, p.star_ability, 1) / (1 + stars * (p.star_ability - 1))
    s.ability[...] = xp.exp(s.log_ability - variance / 2) * premium


@kernel("monetary.cu")
def plan(p: Params, s: State) -> None:
    """y* = s^e + kappa (nu s^e - inv), labour N* = (y* / (z a K^alpha))^(1 / (1 - alpha)), capped by capital (a firm that lost its capital
    would else hire without bound). Writes output_wanted, labor_wanted, unit_labor."""
    xp = namespace(s)
    wanted = xp.maximum(s.expected_sales + p.stock_speed * (p.stock_target * s.expected_sales - s.inventory), 0.05 * s.expected_sales)
    skill = _skill(p, s)
    most = p.staffing_cap * s.normal_staffing[:, None] * s.capital
    s.labor_wanted[...] = xp.minimum((wanted / xp.maximum(skill, TINY)) ** (1 / (1 - p.capital_share)), most)
    s.output_wanted[...] = xp.minimum(wanted, skill * most ** (1 - p.capital_share))
    marginal = s.labor_wanted / xp.maximum((1 - p.capital_share) * s.output_wanted, TINY)
    s.unit_labor += p.cost_memory * (marginal - s.unit_labor)


def _no_draws(replicas: int, xp: ModuleType) -> Draws:
    return Draws((0, 0), xp.arange(replicas), xp.zeros(replicas, np.int64))


def _this() -> ModuleType:
    return sys.modules[__name__]
