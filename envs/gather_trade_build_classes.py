"""The gather-trade-build world with several kinds of workers, each with numbers and a policy of its own: gatherers and builders.

Class k of params.class_sizes is one type of agents. Whatever Params give by class (move_labor, collect_labor, build_labor, starting_coin,
crra) sets the kinds apart; they meet on one map and in one auction. `classes` makes as many kinds as are wanted.
"""
from dataclasses import replace

from envs.gather_trade_build import ECONOMY as ONE_CLASS
from envs.gather_trade_build import FLAT, VIEW, held
from kernels import gather_trade_build as gtb
from kernels.core.arrays import namespace


def size_of(k):
    """How many agents class k has, a function of Params."""
    return lambda p: int(p.class_sizes[k]) if k < len(p.class_sizes) else 0


def coin_of(k):
    """Mean coins of class k, with those set aside."""
    def coin(s):
        mine = s.kind == k
        return (held(s) * mine).sum(-1) / namespace(s).maximum(mine.sum(-1), 1)
    return coin


def classes(name, *kinds):
    """The world with a type of agents, and so a policy, for each of these kinds; two agents of each unless params say otherwise."""
    worker = replace(ONE_CLASS.agents["mobile"], sees=(FLAT, VIEW), part_of="mobile")
    return replace(
        ONE_CLASS,
        name=name,
        agents={kind: replace(worker, count=size_of(k)) for k, kind in enumerate(kinds)}
        | {"planner": ONE_CLASS.agents["planner"]},
        measures=ONE_CLASS.measures | {f"coin_of_{kind}": coin_of(k) for k, kind in enumerate(kinds)},
        rules=dict.fromkeys(kinds, ONE_CLASS.rules["mobile"]) | {"planner": ONE_CLASS.rules["planner"]},
        calibration=gtb.Params(n_agents=2 * len(kinds), class_sizes=(2,) * len(kinds)),
    )


ECONOMY = classes("gather_trade_build_classes", "gatherer", "builder")
