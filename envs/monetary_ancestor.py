"""The monetary economy with the action sets of its ancestor: 5 for the central bank, 75 for a bank, 30 for a consumer, 45 for a firm.

One head for each type over the product of its choices, the last factor fastest. What the ancestor does not choose stays as scripted: wages,
taxes, purchases and benefits. Source: the README of "Multi-Agent Macroeconomic Simulation with Reinforcement Learning" (2025), which names
the factors and their numbers; the values are this project's.
"""
from dataclasses import replace

from envs import monetary
from envs.core.choices import grid, product, residual
from envs.monetary import ECONOMY as MONETARY

CHOOSES = {
    "consumer": (product(grid("spending", (0.6, 0.8, 1.0, 1.2, 1.5), monetary.affordable),
                         grid("borrowing", (0.0, 1.0), monetary.creditable), grid("effort", (0, 1, 2))),),
    "firm": (product(grid("price_change", (-0.03, -0.015, 0.0, 0.015, 0.03), monetary.repriceable),
                     grid("hiring", (-0.05, 0.0, 0.05), monetary.payable_staff),
                     grid("investment", (0.5, 1.0, 1.6), monetary.payable_capital)),
             residual("wage_change", (0.0,))),
    "bank": (product(grid("loan_spread", (0.01, 0.015, 0.02, 0.0275, 0.04), monetary.prudent_spread),
                     grid("deposit_spread", (0.005, 0.010, 0.015)),
                     grid("leverage_limit", (0.45, 0.55, 0.65, 0.75, 0.85), monetary.prudent_limit)),),
    "government": (residual("tax_step", (0.0,)), residual("purchases_step", (0.0,)), residual("benefit_step", (0.0,))),
    "central_bank": (grid("rate_step", (-0.005, -0.0025, 0.0, 0.0025, 0.005), monetary.within_bounds), residual("asset_purchases", (0.0,))),
}
ECONOMY = replace(MONETARY, name="monetary_ancestor",
                  agents={type_: replace(agent, chooses=CHOOSES[type_]) for type_, agent in MONETARY.agents.items()})
