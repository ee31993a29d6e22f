"""The cobweb market as its agents meet it: an economy that no file of the project knows, loaded as envs.load("tests.economies.cobweb")."""
from envs.core.choices import interval, levels
from envs.core.economy import Agent, Economy
from envs.core.features import identity, own, public
from envs.core.rules import constant
from kernels.core.arrays import namespace
from tests.economies import cobweb_kernel

MARKET = (public("price", scale=lambda p: 1 / p.choke_price), public("demand_shock"), public("levy"))


def in_the_barn(p, s, values):
    """Nobody offers more than his barn holds."""
    return values <= s.stock[:, :, None]


def naive(p, s, a, draws, share=0.5):
    """Producers: sell all that can be sold, expect today's price tomorrow and plant `share` of what it would pay for (Ezekiel, 1938)."""
    xp = namespace(s)
    step = p.most_sold / (cobweb_kernel.OFFERS - 1)
    a.offer[...] = xp.minimum(xp.floor(s.stock / step) * step, p.most_sold)
    a.planted[...] = xp.clip(share * (s.price - p.unit_cost) / p.slope / p.n_producers, 0, p.capacity)[:, None]


ECONOMY = Economy(
    kernel=cobweb_kernel,
    horizon=6,  # seasons
    endless=True,
    backend="numpy",
    agents={
        "producer": Agent(
            count="n_producers",
            sees=(*MARKET, own("stock"), own("growing"), own("wealth", scale=1 / 10, transform="signed_log"), public("stock"), identity()),
            chooses=(levels("offer", 0, "most_sold", cobweb_kernel.OFFERS, allowed=in_the_barn), interval("planted", 0, "capacity")),
            reward_unit="coins",
        ),
        "regulator": Agent(count=1, sees=(*MARKET, public("stock")), chooses=(interval("levy", 0, 0.5),), reward_unit="coins"),
    },
    measures={"output": lambda s: s.growing.sum(-1), "price": lambda s: s.price},
    rules={"producer": {"naive": naive}, "regulator": {"laissez_faire": constant(levy=0)}},
)
