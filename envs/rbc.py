"""The RBC economy as its agents meet it: who acts, what each sees and chooses.

Grids, order of columns and scales: Curry et al. (2022), sections 2.1 to 2.3 of whose program fix the views `raw` and `digits`.
"""
from envs.core.choices import levels, pick, product
from envs.core.economy import Agent, Economy, Posted
from envs.core.features import identity, own, public
from envs.core.rules import constant
from kernels import rbc
from kernels.core.inequality import gini

MARKET = (
    public("price", scale=1 / 2500),
    public("wage", scale=1 / 44),
    public("inventory", scale=1 / 4, transform="log1p", digits=True),
    public("rationed"),
    public("income_tax"),
    public("corporate_tax"),
    public("period", scale=lambda p: 1 / p.horizon),
    public("tfp", when="tfp_volatility"),
)
TERMS = tuple(own(name, scale=scale, transform=transform, views=("scaled",)) for name, scale, transform in (
    ("price", 1 / 2500, "linear"), ("wage", 1 / 44, "linear"), ("inventory", 1 / 4, "log1p"), ("rationed", 1, "linear")))


def keep(p, s, a, draws):
    """Firms: next quarter's price and wage are this quarter's."""
    a.price[...], a.wage[...] = s.price, s.wage


def keep_taxes(p, s, a, draws):
    """Government: next quarter's tax rates are this quarter's."""
    a.income_tax[...], a.corporate_tax[...] = s.income_tax, s.corporate_tax


def fixed(p, s, a, draws, income_tax=0.2, corporate_tax=0.2):
    """Government: the same two tax rates in every quarter."""
    a.income_tax[...], a.corporate_tax[...] = income_tax, corporate_tax


ECONOMY = Economy(
    name="rbc",
    kernel=rbc,
    horizon="horizon",
    agents={
        "consumer": Agent(
            count="n_consumers",
            sees=(*MARKET, own("budget", scale=1 / 10, transform="signed_log", digits=True),
                  own("theta", scale=lambda p: 1 / p.theta if p.theta else 1)),
            chooses=(levels("demand", 0, 10, 11, each="n_firms"), levels("hours", 0, 1040, 5), pick("employer", "n_firms")),
            reward_unit="utils",
        ),
        "firm": Agent(
            count="n_firms",
            sees=(*TERMS, *MARKET, own("firm_budget", scale=1 / 10, transform="signed_log", digits=True),
                  own("capital", scale=1 / 10000), own("labor_share"), identity()),
            chooses=(product(levels("price", 0, 2500, 6), levels("wage", 0, 44, 5)),),
            reward_unit="coins",
        ),
        "government": Agent(
            count=1,
            sees=MARKET,
            chooses=(product(levels("income_tax", 0, 1, 6), levels("corporate_tax", 0, 1, 6)),),
            reward_unit="utils",
        ),
    },
    measures={
        "output": lambda s: s.produced.sum(-1),
        "consumption": lambda s: s.sold.sum(-1),
        "exports": lambda s: s.exported.sum(-1),
        "hours": lambda s: s.labor.sum(-1) / s.budget.shape[-1],
        "price": Posted(lambda s: s.price.mean(-1)),
        "wage": Posted(lambda s: s.wage.mean(-1)),
        "income_tax": Posted(lambda s: s.income_tax),
        "corporate_tax": Posted(lambda s: s.corporate_tax),
        "capital": lambda s: s.capital.mean(-1),
        "gini": lambda s: gini(s.budget),
    },
    rules={
        "consumer": {"idle": constant(demand=0, hours=0, employer=0)},
        "firm": {"idle": keep, "keep": keep},
        "government": {"idle": keep_taxes, "keep": keep_taxes, "fixed": fixed},
    },
)
