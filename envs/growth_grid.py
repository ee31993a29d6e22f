"""Stochastic growth with the share to save on a grid of 99, for policies that choose among options."""
from dataclasses import replace

from envs.core.choices import levels
from envs.growth import ECONOMY as GROWTH

HOUSEHOLD = replace(GROWTH.agents["household"], chooses=(levels("saving", "least_saving", "most_saving", 99),))
ECONOMY = replace(GROWTH, name="growth_grid", agents={"household": HOUSEHOLD})
