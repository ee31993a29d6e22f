"""Households that save against lasting changes of their earnings, without aggregate risk. Source: Aiyagari (1994)."""
from dataclasses import replace

from envs.core.economy import Agent
from envs.core.features import own, public
from envs.krusell_smith import ECONOMY as KRUSELL_SMITH
from kernels import incomplete_markets

HOUSEHOLD = Agent(
    count="n_households",
    sees=(own("cushion", scale=1 / 2), own("supplied"), public("log_capital", scale=5)),
    chooses=KRUSELL_SMITH.agents["household"].chooses,
    reward_unit="utils",
)
ECONOMY = replace(KRUSELL_SMITH, name="aiyagari", calibration=incomplete_markets.aiyagari(), agents={"household": HOUSEHOLD},
                  measures={name: measure for name, measure in KRUSELL_SMITH.measures.items() if name != "unemployment"})
