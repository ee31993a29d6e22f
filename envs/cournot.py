"""The Cournot duopoly as its producers meet it: quantities on a grid of 0.3 units, 1 percent of the equilibrium's 30."""
from envs.core.choices import levels
from envs.core.economy import Agent, Economy
from envs.core.features import identity, public
from kernels import cournot

ECONOMY = Economy(
    name="cournot",
    kernel=cournot,
    horizon=1,
    agents={name: Agent(count=1, sees=(identity(), public("price", scale=0.01)), chooses=(levels(name, 0, 60, 201),), reward_unit="coins")
            for name in ("home", "foreign")},
    measures={"price": lambda s: s.price, "quantity": lambda s: s.quantity},
    backend="numpy",
)
