"""The Cournot duopoly as its producers meet it: quantities on a grid of 0.3 units, 1 percent of the equilibrium's 30."""
from envs.core.choices import levels
from envs.core.economy import Agent, Economy
from envs.core.features import public
from tests.economies import cournot_kernel

STEP = 0.3

ECONOMY = Economy(
    kernel=cournot_kernel,
    horizon=1,
    agents={
        "home": Agent(count=1, sees=(public("rank"),), chooses=(levels("home", 0, 60, 201),), reward_unit="coins"),
        "foreign": Agent(count=1, sees=(public("rank"),), chooses=(levels("foreign", 0, 60, 201),), reward_unit="coins"),
    },
    measures={"price": lambda s: s.price},
    backend="numpy",
)
