"""Stochastic growth where depreciation is a pseudo-state: drawn from [.8, 1] for each episode, then constant."""
from dataclasses import replace

from envs.growth import ECONOMY as GROWTH
from kernels import growth

ECONOMY = replace(GROWTH, name="growth_extended", calibration=growth.jesusfv_extended())
