"""The monetary economy with policies that correct their scripts: what is chosen is added to what the type's script does.

A policy that always chooses zero is the script, and a window around zero that widens is a curriculum. Observations, measures, scripts and
books are those of `monetary`.
"""
from dataclasses import replace

from envs.core.choices import residual
from envs.monetary import ECONOMY as MONETARY

CHOOSES = {
    "consumer": (residual("spending", (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2)), residual("borrowing", (-1.0, -0.5, 0.0)),
                 residual("effort", (-1, 0, 1))),
    "firm": (residual("price_change", (-0.03, -0.015, 0.0, 0.015, 0.03)), residual("hiring", (-0.05, -0.02, 0.0, 0.02, 0.05)),
             residual("investment", (-0.5, -0.2, 0.0, 0.2, 0.5)), residual("wage_change", (-0.005, -0.0025, 0.0, 0.0025, 0.005))),
    "bank": (residual("loan_spread", (-0.01, -0.005, 0.0, 0.005, 0.01)), residual("deposit_spread", (-0.005, 0.0, 0.005)),
             residual("leverage_limit", (-0.2, -0.1, 0.0, 0.1))),
    "government": (residual("tax_step", (-0.01, 0.0, 0.01)), residual("purchases_step", (-0.02, 0.0, 0.02)),
                   residual("benefit_step", (-0.05, 0.0, 0.05))),
    "central_bank": (residual("rate_step", (-0.005, -0.0025, 0.0, 0.0025, 0.005)), residual("asset_purchases", (0.0, 0.01))),
}
ECONOMY = replace(MONETARY, name="monetary_residual",
                  agents={type_: replace(agent, chooses=CHOOSES[type_]) for type_, agent in MONETARY.agents.items()})
