"""Stochastic growth as its household meets it: capital, productivity and wear are seen, the share of resources to save is chosen.

Other calibrations are a line each: envs/growth_extended.py, growth_quarterly.py; growth_grid.py chooses from a grid.
"""
import numpy as np

from envs.core.choices import interval
from envs.core.economy import Agent, Economy
from envs.core.features import public
from kernels import growth
from kernels.core.arrays import namespace


def capital_gap(s):
    """log k - log k*."""
    return namespace(s).log(s.capital / s.steady_capital)


SEES = (
    public("capital", of=capital_gap, scale=lambda p: 1 / (np.log(p.box_high) or 1)),
    public("tfp", scale=lambda p: 1 / (np.abs(np.log(p.productivity)).max() or 1)),
    public("kept", of=lambda s: 1 - s.depreciation, scale=lambda p: 1 / (1 - min(p.depreciation) or 1)),
)


def scripted(p, s, a, draws):
    """The log-linear rule of the steady state: exact for log utility and full depreciation."""
    a.saving[...] = growth.prior_share(p, s.capital, s.productivity, s.depreciation)


def steady(p, s, a, draws):
    """The share that the steady state saves, in every state."""
    there = growth.resources(p, s.steady_capital, 0 * s.productivity + len(p.productivity) // 2, s.depreciation)
    a.saving[...] = 1 - s.steady_consumption / there


ECONOMY = Economy(
    name="growth",
    kernel=growth,
    horizon="periods",
    agents={"household": Agent(count=1, sees=SEES, chooses=(interval("saving", "least_saving", "most_saving"),), reward_unit="log")},
    measures={
        "output": lambda s: s.output,
        "consumption": lambda s: s.consumption,
        "investment": lambda s: s.saved,
        "capital": lambda s: s.capital,
        "saving": lambda s: s.saved / (s.saved + s.consumption),
    },
    rules={"household": {"scripted": scripted, "steady": steady}},
    endless=True,
    real="float64",
    warm_up="warm_up",
)
