"""Stochastic growth in quarters: beta .99, risk aversion 2, depreciation .025."""
from dataclasses import replace

from envs.growth import ECONOMY as GROWTH
from kernels import growth

ECONOMY = replace(GROWTH, name="growth_quarterly", calibration=growth.quarterly())
