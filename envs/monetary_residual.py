"""The monetary economy with policies that correct their scripts: what is chosen is added to what the type's script does.

A policy that always chooses zero is the script, and a window around zero that widens is a curriculum. Zero is always permitted; masks hold
back what goes beyond it. Observations, measures, scripts and books are those of `monetary`.
"""
from dataclasses import replace

from envs import monetary
from envs.core.choices import residual
from envs.monetary import ECONOMY as MONETARY
from envs.monetary import capital_ratio


def corrects(name, values, allowed):
    """A correction of a script, as far as the state permits."""
    return replace(residual(name, values), allowed=allowed)


def above_script(allowed):
    """A mask on multiples of the usual, for corrections of them: above zero they must be permitted on top of one."""
    return lambda p, s, values: (values <= 0) | allowed(p, s, 1 + values)


def sound(sign):
    """A bank short of capital corrects its script in one direction only: towards `sign`."""
    return lambda p, s, values: (sign * values >= 0) | (capital_ratio(s) >= p.capital_minimum)[:, :, None]


CHOOSES = {
    "consumer": (corrects("spending", (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2), above_script(monetary.affordable)),
                 residual("borrowing", (-1.0, -0.5, 0.0)), residual("effort", (-1, 0, 1))),
    "firm": (corrects("price_change", (-0.03, -0.015, 0.0, 0.015, 0.03), monetary.repriceable),
             corrects("hiring", (-0.05, -0.02, 0.0, 0.02, 0.05), monetary.payable_staff),
             corrects("investment", (-0.2, -0.1, 0.0, 0.1, 0.2), above_script(monetary.payable_capital)),
             corrects("wage_change", (-0.005, -0.0025, 0.0, 0.0025, 0.005), monetary.payable_wages)),
    "bank": (corrects("loan_spread", (-0.01, -0.005, 0.0, 0.005, 0.01), sound(1)), residual("deposit_spread", (-0.005, 0.0, 0.005)),
             corrects("leverage_limit", (-0.2, -0.1, 0.0, 0.1), sound(-1))),
    "government": (corrects("tax_step", (-0.01, 0.0, 0.01), monetary.lawful_tax),
                   corrects("purchases_step", (-0.02, 0.0, 0.02), monetary.lawful_expansion),
                   corrects("benefit_step", (-0.05, 0.0, 0.05), monetary.lawful_expansion)),
    "central_bank": (corrects("rate_step", (-0.01, -0.005, -0.0025, 0.0, 0.0025, 0.005, 0.01), monetary.within_bounds),
                     corrects("asset_purchases", (-0.01, 0.0, 0.01), monetary.at_the_bound)),
}
ECONOMY = replace(MONETARY, name="monetary_residual",
                  agents={type_: replace(agent, chooses=CHOOSES[type_]) for type_, agent in MONETARY.agents.items()})
