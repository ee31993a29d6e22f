"""The monetary economy as its agents meet it: who acts, what each sees and chooses, and the scripts that stand in for learning.

Observations are free of scale: money over permanent income, sales or output, rates in quarters of a point, logarithms of ratios, all
clipped to +-5. Policies see every field of State that the script of their type reads; any subset of types can be scripted while the rest
learns.
"""
from envs.core.choices import grid
from envs.core.economy import Agent, Economy, Search, Study
from envs.core.features import own, public
from envs.core.rules import on_grid
from kernels import monetary
from kernels.core.arrays import namespace
from kernels.core.ledger import coins
from kernels.monetary import QUARTERS

RATE = 100 / 4  # one unit is four points
TINY = 1e-9


# -- what is seen

def known(name, of=None, scale=1.0, normal=0.0):
    """Something everybody knows, as a distance from what is normal, clipped."""
    return public(name, of=lambda s: scale * ((of(s) if of else getattr(s, name)) - normal), transform="clip")


def private(name, of=None, scale=1.0):
    """Something only its owner sees, clipped."""
    return own(name, of=lambda s: scale * (of(s) if of else getattr(s, name)), transform="clip")


def log_ratio(x, y):
    """log(x / y), with both kept above zero."""
    xp = namespace(x)
    return xp.log(xp.maximum(x, TINY) / xp.maximum(y, TINY))


def over_income(money):
    """A consumer's money over permanent income of a quarter."""
    return lambda s: coins(money(s)) / (s.price_level[:, None] * s.permanent_income + TINY)


def over_sales(money):
    """A firm's money over the value of expected sales."""
    return lambda s: coins(money(s)) / (s.price * s.expected_sales + TINY)


def leverage(s):
    """Loans of a firm over its assets and deposits."""
    return coins(s.firm_loans) / (coins(s.capital_value + s.inventory_cost + s.firm_deposits) + TINY)


def capital_ratio(s):
    """A bank's capital over its loans."""
    return s.equity / (s.bank_loans + 1.0)


def tightness(s):
    """Log vacancies over unemployment."""
    return log_ratio(s.vacancies + 1e-3, s.unemployment + 1e-3)


def over_output(money):
    """Money over output of a quarter."""
    return lambda s: coins(money(s)) / (s.output * s.price_level + TINY)


def deficit(s):
    """Public deficit over output: what the treasury paid less what it received, a flow of the last quarter."""
    received = s.income_taxes.sum(1) + s.firm_tax.sum(1) + s.bank_tax.sum(1) + s.advance_interest.sum(1)
    paid = s.benefits.sum(1) + s.purchases + s.coupons.sum(1) + s.reserve_interest.sum(1) + s.recapitalised.sum(1)
    return coins(paid - received) / (s.output * s.price_level)


def poverty(s):
    """Share of consumers whose deposits last less than a quarter of a quarter."""
    return (coins(s.deposits) < 0.25 * s.permanent_income * s.price_level[:, None]).mean(1)


COMMON = (
    known("policy_rate", scale=RATE),
    known("inflation_4q", scale=RATE),
    known("unemployment", scale=10),
    known("output_gap", scale=RATE),
    known("wage_growth", scale=RATE),
    known("mean deposit rate", lambda s: s.deposit_rate.mean(1), RATE),
    known("mean loan rate", lambda s: s.base_rate.mean(1), RATE),
    known("debt_ratio"),
)


# -- what the state permits

def affordable(p, s, values):
    """Spending that deposits, what is left of the credit line and a quarter's income can pay; the least is always there."""
    xp = namespace(s)
    line = xp.maximum(p.credit_line * QUARTERS - over_income(lambda s: s.loans)(s), 0)
    funds = over_income(lambda s: s.deposits)(s) + xp.where(s.excluded == 0, line, 0) + 1
    return (values <= funds[:, :, None]) | (values == values[0])


def creditable(p, s, values):
    """Nobody excluded borrows, nobody without a debt repays early."""
    return ((values <= 0) | (s.excluded == 0)[:, :, None]) & ((values >= 0) | (s.loans > 0)[:, :, None])


def repriceable(p, s, values):
    """Prices move only when the firm may change them."""
    return (values == 0) | (s.can_reprice == 1)[:, :, None]


def liquidity(s):
    """What a firm can pay in advance: deposits, and what the leverage limit of its bank still lends; coins (R, F)."""
    xp = namespace(s)
    limit = xp.take_along_axis(s.leverage_cap, s.firm_bank.astype(xp.int64), 1)
    return coins(s.firm_deposits) + xp.maximum(limit * coins(s.capital_value + s.inventory_cost) - coins(s.firm_loans), 0)


def payable_staff(p, s, values):
    """Staff grows only as far as liquidity pays its wages in advance."""
    return (values <= 0) | ((1 + values) * (s.wage * s.labor)[:, :, None] <= liquidity(s)[:, :, None])


def payable_capital(p, s, values):
    """Investment beyond depreciation stays within the liquidity that wages leave."""
    left = liquidity(s) - s.wage * s.labor_wanted
    return (values <= 1) | (values * (p.depreciation / QUARTERS * s.capital * s.price_level[:, None])[:, :, None] <= left[:, :, None])


def payable_wages(p, s, values):
    """No wage cuts where wages never fall."""
    return (values >= 0) | (not p.wages_never_fall) | (s.wage < 0)[:, :, None]


def prudent_limit(p, s, values):
    """A bank short of capital does not loosen its standard."""
    return (values <= s.leverage_cap[:, :, None]) | (capital_ratio(s) >= p.capital_minimum)[:, :, None] | (values == values[0])


def prudent_spread(p, s, values):
    """A bank short of capital does not lower its loan rate."""
    spread = s.base_rate - s.policy_rate[:, None] + monetary.eased(p, s)[:, None]
    return (values >= spread[:, :, None]) | (capital_ratio(s) >= p.capital_minimum)[:, :, None] | (values == values[-1])


def within_bounds(p, s, values):
    """The policy rate stays between its bounds."""
    ahead = s.policy_rate[:, None, None] + values
    return ((ahead >= p.lower_bound - TINY) | (values >= 0)) & ((ahead <= p.upper_bound + TINY) | (values <= 0))


def near_the_bound(p, s):
    """Whether the policy rate is within a quarter of a point of its lower bound, (R,)."""
    return s.policy_rate <= p.lower_bound + 0.0025


def at_the_bound(p, s, values):
    """Assets are bought where the rate is near its lower bound, and sold when there are any."""
    bound = near_the_bound(p, s)[:, None, None]
    return (values == 0) | (values > 0) & bound | (values < 0) & (s.bonds_purchased > 0)[:, None, None]


def lawful_tax(p, s, values):
    """The income tax stays between its bounds, and does not fall above the debt ceiling."""
    ahead = s.income_tax[:, None, None] + values
    solvent = (s.debt_ratio < p.debt_ceiling)[:, None, None]
    return (values == 0) | (ahead > p.tax_low - TINY) & (ahead < p.tax_high + TINY) & ((values > 0) | solvent)


def lawful_expansion(p, s, values):
    """No expansion above the debt ceiling."""
    return (values <= 0) | (s.debt_ratio < p.debt_ceiling)[:, None, None]


# -- scripts

def buffer_stock(p, s, a, draws):
    """Consumers: c / y^p = (1 + chi (m / y^p - b*)) exp(-k (r - r0)), at least 0.35, borrowing what it takes, normal effort."""
    xp = namespace(s)
    wealth = over_income(lambda s: s.deposits - s.loans)(s)
    chi = xp.where(s.impatient == 1, p.wealth_response_impatient, p.wealth_response)
    cheapness = xp.exp(-p.rate_response * (s.real_deposit_rate - (p.neutral_rate - p.deposit_margin)))
    a.spending[...] = xp.maximum((1 + chi * (wealth - s.buffer)) * cheapness[:, None], 0.35)
    a.borrowing[...], a.effort[...] = 1, 1


def markup_pricing(p, s, a, draws):
    """Firms: price = markup over smoothed marginal cost, staff and capital towards plan, wages with past and expected prices and the
    labour market."""
    xp = namespace(s)
    expected = s.expected_inflation[:, None]
    stock_gap = xp.clip((p.stock_target * s.expected_sales - s.inventory) / (p.stock_target * s.expected_sales + TINY), -2, 2)
    markup = p.markup * (1 + p.stock_pricing * stock_gap) * (1 + expected / QUARTERS) * xp.exp(s.cost_shock)[:, None]
    a.price_change[...] = xp.clip(xp.log(markup * s.wage * s.unit_labor / s.price), -p.price_step, p.price_step)
    slack = p.wage_slope * (p.natural_unemployment - s.unemployment)[:, None]
    indexed = expected + p.wage_indexation * (s.inflation_4q[:, None] - expected)
    a.wage_change[...] = (indexed + p.growth) / QUARTERS + slack + p.wage_convergence * xp.log(s.mean_wage[:, None] / s.wage)
    staffing = xp.where(s.labor > 0, s.labor_wanted * s.hours / xp.maximum(s.labor, TINY), 2)  # of full time
    a.hiring[...] = p.hiring_speed * (staffing - 1)
    worn = p.depreciation / QUARTERS * s.capital
    user_cost = xp.maximum(s.real_rate + p.depreciation, 0.06)
    desired = p.capital_share * QUARTERS * s.expected_sales / (p.markup * user_cost) * xp.exp(s.investment_shock)[:, None]
    needed = worn + p.growth / QUARTERS * s.capital
    target = xp.clip(needed + p.invest_speed * (desired - s.capital), 0, QUARTERS * worn)
    a.investment[...] = (p.invest_inertia * s.investment_plan + (1 - p.invest_inertia) * target) / worn


def constant_margins(p, s, a, draws):
    """Banks: normal spreads and standard."""
    a.loan_spread[...], a.deposit_spread[...], a.leverage_limit[...] = p.loan_margin, p.deposit_margin, p.leverage_limit


def debt_rule(p, s, a, draws):
    """Government: tau = 0.27 + 0.05 (b - b*), constant purchases and benefits."""
    a.tax_step[...] = p.income_tax + p.debt_response * (s.debt_ratio - p.debt_target) - s.income_tax
    a.purchases_step[...], a.benefit_step[...] = 0, 0


def balanced_budget(p, s, a, draws):
    """Government: the income tax that would have balanced the last quarter's budget."""
    base = coins((s.wage_income + s.interest_received).sum(1)) / (s.output * s.price_level)
    a.tax_step[...] = deficit(s) / (base + TINY)
    a.purchases_step[...], a.benefit_step[...] = 0, 0


def taylor(p, s, a, draws, inflation=0.5, gap=0.5, smoothing=0.0, neutral=-1.0):
    """Central bank: i = rho i_-1 + (1 - rho) (r* + pi + a (pi - pi*) + b gap); the neutral rate is the economy's unless given."""
    natural = p.neutral_rate if neutral < 0 else neutral
    wanted = natural + s.inflation_4q + inflation * (s.inflation_4q - p.inflation_target) + gap * s.output_gap
    a.rate_step[...] = (1 - smoothing) * (wanted - s.policy_rate)
    a.asset_purchases[...] = 0


def taylor93(p, s, a, draws):
    """Central bank: Taylor (1993), i = r* + pi + 0.5 (pi - pi*) + 0.5 gap."""
    taylor(p, s, a, draws)


def taylor99(p, s, a, draws):
    """Central bank: Taylor (1999), with 1.0 on the gap."""
    taylor(p, s, a, draws, gap=1.0)


def inertial(p, s, a, draws):
    """Central bank: Taylor (1993) smoothed, 0.8 of the last rate."""
    taylor(p, s, a, draws, smoothing=0.8)


def easing(p, s, a, draws):
    """Central bank: the inertial rule; it buys assets worth a percent of a year's output in every quarter in which its rate is near the
    lower bound, and sells as much in others, while it has any."""
    xp = namespace(s)
    inertial(p, s, a, draws)
    a.asset_purchases[...] = xp.where(near_the_bound(p, s), 0.01, xp.where(s.bonds_purchased > 0, -0.01, 0))


def difference(p, s, a, draws):
    """Central bank: the rate moves by 0.5 (pi - pi*) a year and half of the change of the gap (Orphanides, 2003)."""
    a.rate_step[...] = 0.5 * (s.inflation_4q - p.inflation_target) / QUARTERS + 0.5 * s.gap_change
    a.asset_purchases[...] = 0


def average_inflation(p, s, a, draws, makeup=1.0):
    """Central bank: Taylor (1993), and more where inflation has missed its target on average over four years."""
    taylor(p, s, a, draws)
    a.rate_step += makeup * (s.average_inflation - p.inflation_target)


def fixed_rate(p, s, a, draws, rate=0.035):
    """Central bank: the same rate for ever."""
    a.rate_step[...] = rate - s.policy_rate
    a.asset_purchases[...] = 0


SPENDING = grid("spending", (0.4, 0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0), affordable)
BORROWING = grid("borrowing", (-0.5, 0.0, 0.5, 1.0), creditable)
EFFORT = grid("effort", (0, 1, 2))
PRICE = grid("price_change", (-0.06, -0.03, -0.015, 0.0, 0.015, 0.03, 0.06), repriceable)
HIRING = grid("hiring", (-0.10, -0.05, -0.02, 0.0, 0.02, 0.05, 0.10), payable_staff)
INVESTMENT = grid("investment", (0.0, 0.5, 0.8, 1.0, 1.25, 1.6, 2.2), payable_capital)
WAGE = grid("wage_change", (-0.005, 0.0, 0.0025, 0.005, 0.0075, 0.010, 0.015), payable_wages)
LOAN_SPREAD = grid("loan_spread", (0.01, 0.015, 0.02, 0.0275, 0.04), prudent_spread)
DEPOSIT_SPREAD = grid("deposit_spread", (0.005, 0.010, 0.015))
LEVERAGE = grid("leverage_limit", (0.45, 0.55, 0.65, 0.75, 0.85), prudent_limit)
RATE_STEP = grid("rate_step", (-0.01, -0.005, -0.0025, 0.0, 0.0025, 0.005, 0.01), within_bounds)
ASSETS = grid("asset_purchases", (-0.01, 0.0, 0.01), at_the_bound)
TAX = grid("tax_step", (-0.01, 0.0, 0.01), lawful_tax)
PURCHASES = grid("purchases_step", (-0.02, 0.0, 0.02), lawful_expansion)
BENEFITS = grid("benefit_step", (-0.05, 0.0, 0.05), lawful_expansion)

# What experiments know beforehand: signs are those of the responses to a rise of the shock, in quarters after it came.
LATER, SOON = (4, 12), (1, 4)
TAYLOR_1993 = {"inflation": 0.5, "gap": 0.5, "smoothing": 0.0, "neutral": monetary.Params.neutral_rate}
STUDY = Study(
    scales=dict.fromkeys(("output", "consumption", "investment", "purchases", "hours", "employment", "real_wage", "real_credit"), "percent")
    | dict.fromkeys(("unemployment", "vacancies", "inflation", "inflation_4q", "policy_rate", "loan_spread", "output_gap", "capacity_use",
                     "debt_ratio", "income_tax", "capital_ratio", "charge_offs", "failures", "overdrafts", "rationed", "shortage",
                     "labor_share"), "points"),
    signs={
        "policy_rate": {"output": (-1, *LATER), "investment": (-1, *LATER), "inflation_4q": (-1, *LATER), "real_credit": (-1, *LATER),
                        "unemployment": (1, *LATER)},
        "demand": {"output": (1, *SOON), "inflation_4q": (1, *SOON), "investment": (1, *SOON), "unemployment": (-1, *SOON)},
        "purchases": {"output": (1, *LATER), "inflation_4q": (1, *LATER), "unemployment": (-1, *LATER), "investment": (-1, 8, 12)},
        "loan_spread": {"output": (-1, *LATER), "investment": (-1, *LATER), "real_credit": (-1, *LATER), "inflation_4q": (-1, *LATER),
                        "unemployment": (1, *LATER)},
        "tfp": {"inflation_4q": (-1, *LATER), "output": (1, 8, 12)},
        "cost_push": {"inflation_4q": (1, *LATER), "output": (-1, *LATER)},
    },
    searches={"central_bank": {
        "best_constant": Search("fixed_rate", {"rate": (0.0, 0.08)}),
        "tuned_taylor": Search(
            "taylor", {"inflation": (0.0, 3.0), "gap": (0.0, 2.0), "smoothing": (0.0, 0.95), "neutral": (0.0, 0.04)},
            starts=(TAYLOR_1993, TAYLOR_1993 | {"gap": 1.0}, TAYLOR_1993 | {"smoothing": 0.8})),
    }},
    bars={"central_bank": ("best_constant", "taylor93_steps")},
    readouts={"central_bank": ("policy_rate", ("inflation_4q", "output_gap"))},
)

ECONOMY = Economy(
    name="monetary",
    kernel=monetary,
    horizon="horizon",
    endless=True,
    real="float64",
    agents={
        "consumer": Agent(
            count="n_consumers",
            sees=(*COMMON, private("deposits", over_income(lambda s: s.deposits), 1 / 4), private("loans", over_income(lambda s: s.loans)),
                  private("permanent_income", lambda s: log_ratio(s.permanent_income, s.normal_wage[:, None])),
                  private("ability", lambda s: log_ratio(s.ability, 1 + 0 * s.ability)),
                  private("employed", lambda s: (s.employer >= 0) * 1.0), private("spell", scale=1 / 4), private("excluded", scale=1 / 28),
                  private("buffer", scale=1 / 10), private("ownership", lambda s: s.ownership * s.ownership.shape[1], 1 / 4),
                  private("impatient"), known("demand_shock", scale=RATE), known("real_deposit_rate", scale=RATE)),
            chooses=(SPENDING, BORROWING, EFFORT),
            reward_unit="utils",
        ),
        "firm": Agent(
            count="n_firms",
            sees=(*COMMON, private("deposits", over_sales(lambda s: s.firm_deposits)),
                  private("loans", over_sales(lambda s: s.firm_loans), 1 / 8),
                  private("capital", lambda s: log_ratio(s.capital, s.expected_sales) - log_ratio(
                      s.normal_capital, s.trend_output / s.expected_sales.shape[1])[:, None]),
                  private("stock", lambda s: s.inventory / (s.expected_sales + TINY), 2),
                  private("demand", lambda s: log_ratio(s.noticed_demand, s.expected_sales), 4),
                  private("relative price", lambda s: log_ratio(s.price, s.price_level[:, None]), 10),
                  private("relative wage", lambda s: log_ratio(s.wage, s.mean_wage[:, None]), 10),
                  private("markup", lambda s: log_ratio(s.price, s.wage * s.unit_labor), 5),
                  private("staffing", lambda s: log_ratio(s.labor_wanted * s.hours, s.labor), 4), private("hours", scale=2),
                  private("size", lambda s: log_ratio(s.expected_sales, s.expected_sales.mean(1)[:, None])),
                  private("leverage", leverage, 2), private("loan_rate", scale=RATE), private("can_reprice"),
                  private("planned investment", lambda s: s.investment_plan / (s.capital + TINY), 40),
                  known("fill_rate"), known("expected_inflation", scale=RATE), private("real_rate", scale=RATE),
                  known("cost_shock", scale=100), known("investment_shock", scale=RATE)),
            chooses=(PRICE, HIRING, INVESTMENT, WAGE),
        ),
        "bank": Agent(
            count="n_banks",
            sees=(*COMMON, private("capital ratio", capital_ratio, 10),
                  private("liquidity", lambda s: s.reserves / (s.bank_deposits + 1.0), 5),
                  private("losses", lambda s: s.write_offs / (s.bank_loans + 1.0), 100), known("credit_growth", scale=10),
                  private("loan rate", lambda s: s.base_rate - s.base_rate.mean(1)[:, None], RATE * 4),
                  private("deposit rate", lambda s: s.deposit_rate - s.policy_rate[:, None], RATE * 4),
                  private("market", lambda s: s.bank_loans / (s.bank_loans.sum(1)[:, None] + 1.0), 2),
                  private("advances", lambda s: s.advances / (s.bank_deposits + 1.0), 5), private("leverage_cap")),
            chooses=(LOAN_SPREAD, DEPOSIT_SPREAD, LEVERAGE),
        ),
        "government": Agent(
            count=1,
            sees=(*COMMON, known("deficit", deficit, 10), known("coupon", scale=RATE), known("income_tax", scale=4),
                  known("purchases_level"), known("replacement"), known("poverty", poverty)),
            chooses=(TAX, PURCHASES, BENEFITS),
        ),
        "central_bank": Agent(
            count=1,
            sees=(  # what a statistical office, banks and surveys of firms tell; the scales make standard deviations about one
                known("inflation", scale=75, normal=0.02), known("inflation_4q", scale=100, normal=0.02),
                *(known(f"inflation {k} quarters ago", lambda s, k=k: QUARTERS * log_ratio(
                    getattr(s, f"price_{k}"), getattr(s, f"price_{k + 1}")), 75, 0.02) for k in (1, 2, 3)),
                known("expected_inflation", scale=300, normal=0.02), known("wage_growth", scale=100, normal=0.04),
                known("output_gap", scale=25), known("gap_change", scale=50),
                known("output over trend", lambda s: log_ratio(s.output, s.trend_output), 25), known("sentiment", scale=25),
                known("unemployment", scale=30, normal=0.06), known("tightness", tightness), known("fill_rate", scale=8, normal=0.7),
                known("hours_worked", scale=20, normal=0.93), known("capacity_use", scale=20, normal=0.8),
                known("consumption share", over_output(lambda s: s.spending.sum(1)), 40, 0.57),
                known("investment share", over_output(lambda s: s.investment.sum(1)), 40, 0.23),
                known("purchases share", over_output(lambda s: s.purchases), 100, 0.2),
                known("labor share", over_output(lambda s: s.wage_bill.sum(1)), 40, 0.59),
                known("stocks over sales", lambda s: s.inventory.sum(1) / (s.expected_sales.sum(1) + TINY), 20, 0.12),
                known("planned output", lambda s: log_ratio(s.output_wanted.sum(1), s.output), 50, 0.015),
                known("planned staff", lambda s: log_ratio(s.labor_wanted.sum(1), s.labor.sum(1)), 25, -0.09),
                known("planned investment", lambda s: s.investment_plan.sum(1) / (s.capital.sum(1) + TINY), 200, 0.034),
                known("markup", lambda s: log_ratio(s.price, s.wage * s.unit_labor).mean(1), 100, 0.135),
                known("policy_rate", scale=30, normal=0.035), known("rate_change", scale=75),
                known("assets bought", over_output(lambda s: s.bonds_purchased), 2),
                known("real_deposit_rate", scale=50), known("real loan rate", lambda s: s.real_rate.mean(1), 50, 0.04),
                known("loan spread", lambda s: s.loan_rate.mean(1) - s.policy_rate, 1000, 0.0225),
                known("credit_growth", scale=12, normal=0.02), known("mean leverage", lambda s: leverage(s).mean(1), 20, 0.32),
                known("capital ratio of banks", lambda s: s.equity.sum(1) / (s.bank_loans.sum(1) + 1.0), 40, 0.14),
                known("charge_offs", scale=30, normal=0.03), known("debt_ratio", scale=8, normal=0.55),
                known("wealth of consumers", over_output(lambda s: s.deposits.sum(1) - s.loans.sum(1)), 4, 3.4),
                known("permanent income", lambda s: log_ratio(s.permanent_income.sum(1), s.output), 30, -0.525),
            ),
            chooses=(RATE_STEP, ASSETS),
        ),
    },
    measures={
        "output": lambda s: s.output,
        "consumption": lambda s: coins(s.spending.sum(1)) / s.price_level,
        "investment": lambda s: coins(s.investment.sum(1)) / s.price_level,
        "inventory_change": lambda s: s.inventory_change,
        "purchases": lambda s: coins(s.purchases) / s.price_level,
        "hours": lambda s: s.hours_worked,
        "employment": lambda s: 1 - s.unemployment,
        "unemployment": lambda s: s.unemployment,
        "vacancies": lambda s: s.vacancies,
        "real_wage": lambda s: s.mean_wage / s.price_level,
        "real_credit": lambda s: s.credit,
        "inflation": lambda s: s.inflation,
        "inflation_4q": lambda s: s.inflation_4q,
        "policy_rate": lambda s: s.policy_rate,
        "loan_spread": lambda s: s.loan_rate.mean(1) - s.policy_rate,
        "output_gap": lambda s: s.output_gap,
        "capacity_use": lambda s: s.capacity_use,
        "debt_ratio": lambda s: s.debt_ratio,
        "income_tax": lambda s: s.income_tax,
        "capital_ratio": lambda s: s.equity.sum(1) / (s.bank_loans.sum(1) + 1.0),
        "charge_offs": lambda s: s.charge_offs,
        "failures": lambda s: s.failures,
        "overdrafts": lambda s: s.overdrafts,
        "rationed": lambda s: s.rationed,
        "shortage": lambda s: s.shortage,
        "labor_share": lambda s: coins(s.wage_bill.sum(1)) / (s.output * s.price_level),
    },
    rules={
        "consumer": {"scripted": buffer_stock, "scripted_steps": on_grid(buffer_stock, SPENDING)},
        "firm": {"scripted": markup_pricing, "scripted_steps": on_grid(markup_pricing, PRICE, HIRING, INVESTMENT, WAGE)},
        "bank": {"scripted": constant_margins},
        "government": {"scripted": debt_rule, "balanced_budget": balanced_budget},
        "central_bank": {"scripted": inertial, "inertial": inertial, "taylor": taylor, "taylor93": taylor93, "taylor99": taylor99,
                         "easing": easing, "difference": difference, "average_inflation": average_inflation, "fixed_rate": fixed_rate,
                         "taylor93_steps": on_grid(taylor93, RATE_STEP),
                         "taylor99_steps": on_grid(taylor99, RATE_STEP), "scripted_steps": on_grid(inertial, RATE_STEP)},
    },
    warm_up="burn_in",
    study=STUDY,
)
