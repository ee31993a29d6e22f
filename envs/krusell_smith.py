"""Households that save against unemployment in good and bad times, as each of them meets it: one shared policy, many lives.

What a household sees is what decides: what it has, in units of the economy's capital, whether it works, how much capital there is, and the
times. Its share of resources saved is feasible whatever it is. Source: Krusell and Smith (1998), den Haan, Judd and Juillard (2010).
"""
from envs.core.choices import interval
from envs.core.economy import Agent, Economy, Posted
from envs.core.features import own, public
from kernels import incomplete_markets
from kernels.core.arrays import namespace
from kernels.core.inequality import gini


def keep(p, s, a, draws):
    """Households: consume what they earn, and keep their wealth."""
    a.saving[...] = s.wealth / namespace(s).maximum(s.resources, incomplete_markets.TINY)


def permanent_income(p, s, a, draws):
    """Households: consume the interest on wealth and what the average household earns; luck goes into wealth (Hall, 1978)."""
    xp = namespace(s)
    wanted = (s.gross_return - 1)[:, None] * s.wealth + (s.resources - s.gross_return[:, None] * s.wealth).mean(1)[:, None]
    a.saving[...] = 1 - xp.clip(wanted / xp.maximum(s.resources, incomplete_markets.TINY), 1 - p.most_saving, 1)


ECONOMY = Economy(
    name="krusell_smith",
    kernel=incomplete_markets,
    calibration=incomplete_markets.krusell_smith(),
    horizon="periods",
    endless=True,
    agents={
        "household": Agent(
            count="n_households",
            sees=(own("cushion", scale=1 / 2), own("supplied"), public("log_capital", scale=5),
                  public("productivity", scale=100)),
            chooses=(interval("saving", 0, "most_saving"),),
            reward_unit="utils",
        ),
    },
    measures={
        "capital": Posted(lambda s: s.capital),
        "output": Posted(lambda s: s.output),
        "consumption": lambda s: s.consumption.mean(1),
        "wage": Posted(lambda s: s.wage),
        "return": Posted(lambda s: s.gross_return - 1),
        "unemployment": Posted(lambda s: (s.supplied == 0).mean(1)),
        "gini": Posted(lambda s: gini(s.wealth)),
    },
    rules={"household": {"idle": keep, "keep": keep, "permanent_income": permanent_income}},
    backend="numpy",
)
