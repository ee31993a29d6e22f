"""The gather-trade-build world as its agents meet it: workers on a map, and a planner who sets taxes.

Everything that is seen is written by the kernel in its last phase. Agents see their flat vector and a packed window: one byte for each tile
(bits: stone, wood, house, water, stone source, wood source, inside), one with the house's owner, one with who stands there (1 oneself,
j + 2 agent j). `gather_trade_build_original` shows the same as the original program does, unpacked.
"""
from envs.core.choices import masked
from envs.core.economy import Agent, Economy, Posted
from envs.core.features import own, public
from envs.core.rules import constant
from kernels import gather_trade_build as gtb
from kernels import gather_trade_build_taxes as taxes
from kernels import gather_trade_build_views as views
from kernels.core.arrays import namespace

FLAT = own("flat", labels=lambda p: views.names(p, views.AGENT))
VIEW = own("view", when="has_map", labels=views.view_names)
OF_PLANNER = (
    public("planner_flat", labels=lambda p: views.names(p, views.PLANNER)),
    public("of_agents", labels=lambda p: [
        f"{name} of {i}" for i in range(p.n_agents) for name in views.names(p, views.OF_AGENT) or ("nothing",)]),
)
ACTION = masked("action", gtb.heads, "mask")
RATE = masked("rate", gtb.planner_heads, "planner_mask")


def set_rates(p, s, a, wanted):
    """The rates that can be chosen nearest to those wanted, one for each bracket."""
    xp = namespace(s)
    gap = abs(s.rate_levels[:, None, :] - xp.asarray(wanted)[None, :, None])
    a.rate[...] = 1 + xp.argmin(gap, -1)


def flat_tax(p, s, a, draws, rate=0.3):
    """Planner: the same rate on all income."""
    set_rates(p, s, a, [rate] * p.n_brackets)


def free_market(p, s, a, draws):
    """Planner: no taxes."""
    set_rates(p, s, a, [0.0] * p.n_brackets)


def us_federal(p, s, a, draws):
    """Planner: rates of the US federal income tax of 2018, rounded to those that can be chosen."""
    set_rates(p, s, a, [taxes.US_RATES[min(k, 6)] for k in range(p.n_brackets)])


def held(s):
    """Coins of every agent, with those set aside."""
    return s.coin + s.coin_escrow


def economy(name, mobile, planner):
    """The economy with what its agents and its planner see."""
    return Economy(
        name=name,
        kernel=gtb,
        horizon="horizon",
        real="float64",
        agents={
            "mobile": Agent(count="n_agents", sees=mobile, chooses=(ACTION,), reward_unit="utils"),
            "planner": Agent(count=1, sees=planner, chooses=(RATE,)),
        },
        measures={
            "productivity": lambda s: held(s).sum(-1),
            "equality": lambda s: views.equality(held(s)),
            "equality_times_productivity": lambda s: views.equality(held(s)) * held(s).sum(-1),
            "labor": lambda s: s.labor.mean(-1),
            "utility": lambda s: s.utility.mean(-1),
            "gathered": lambda s: s.gathered.sum((1, 2)),
            "trades": lambda s: s.n_trades,
            "houses": lambda s: s.built.sum(-1),
            "taxes": lambda s: s.tax_paid.sum(-1),
            "mean_rate": Posted(lambda s: s.rates.mean(-1)),
        },
        rules={
            "mobile": {"idle": constant(action=0)},
            "planner": {"idle": constant(rate=0), "free_market": free_market, "us_federal": us_federal, "flat_tax": flat_tax},
        },
    )


ECONOMY = economy(
    "gather_trade_build",
    (FLAT, own("kind", when="has_classes"), VIEW),
    (*OF_PLANNER, public("planner_view", when="planner_has_view", labels=lambda p: views.view_names(p, (p.height, p.width)))),
)
