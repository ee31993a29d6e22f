"""Several kinds of workers, each a type of its own: what they see, choose and are paid are their rows of the one-class world."""
import numpy as np
import pytest

import envs
from envs.core.batch import Batch, with_values
from tests.kernels.test_gather_trade_build import SMALL
from tests.worlds import BACKENDS

NAME, ONE_CLASS = "gather_trade_build_classes", "gather_trade_build"
KINDS = ("gatherer", "builder")
VALUES = {**SMALL, "n_agents": 5, "class_sizes": (2, 3), "move_labor": (0.5, 2.0), "build_labor": (20.0, 5.0), "crra": (0.2, 1.0),
          "starting_coin": (30.0, 9.0), "max_price": 3}


def world(name=NAME, backend="numpy", rules=None, **values):
    economy = envs.load(name)
    return Batch(economy, with_values(economy.defaults(), VALUES | values), 3, backend=backend, seed=6, rules=rules, keep_final=True)


def together(of):
    """What both kinds have, one below the other."""
    return np.concatenate([of[kind] for kind in KINDS], 1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("multi_action", [False, True])
def test_two_kinds_play_the_world_of_one_whose_rows_they_share(backend, multi_action):
    apart, whole = (world(name, backend, multi_action=multi_action) for name in (NAME, ONE_CLASS))
    kind = whole.p.n_seen  # the column that tells one class from the other, which a policy of one's own need not see
    for _ in range(25):
        chosen = {t: apart.random_choices(t) for t in apart.count}
        assert np.array_equal(together({t: apart.observe(t) for t in KINDS}), np.delete(whole.observe("mobile"), kind, -1))
        assert np.array_equal(together({t: apart.legal(t) for t in KINDS}), whole.legal("mobile"))
        paid, _ = apart.step(chosen)
        paid_whole, _ = whole.step({"mobile": together(chosen), "planner": chosen["planner"]})
        assert np.array_equal(together(paid), paid_whole["mobile"]) and np.array_equal(paid["planner"], paid_whole["planner"])
        assert all(np.array_equal(array, getattr(whole.s, name)) for name, array in vars(apart.s).items())


def test_what_a_kind_has_are_views_of_the_arrays_of_all():
    batch = world()
    for kind, rows in (("gatherer", slice(0, 2)), ("builder", slice(2, 5))):
        s, a, r = batch.own[kind]
        for one, other in ((s.coin, batch.s.coin), (a.action, batch.a.action), (r.mobile, batch.r.mobile)):
            assert np.shares_memory(one, other)
        batch.s.bid_levels[...] = np.arange(5)[None, None, :, None]
        assert s.bid_levels[0, 0, :, 0].tolist() == list(range(5))[rows]
    assert batch.own["planner"][0] is batch.s


def test_each_kind_follows_its_own_rule():
    batch = world(rules={"gatherer": "constant(action=3)", "builder": "idle", "planner": "idle"})
    batch.step({})
    assert batch.a.action[0, :, 0].tolist() == [3, 3, 0, 0, 0]


def test_the_same_work_costs_each_kind_its_own_labor():
    batch = world(view_range=2, regrowth_stone=0.0, regrowth_wood=0.0)
    batch.s.units[...], batch.s.ground[...] = 0, batch.s.ground & ~np.uint8(3)
    before = batch.s.row * 100 + batch.s.col
    move = np.full((3, 5, 1), batch.heads["gatherer"][0].options - 1)  # down
    batch.step({"gatherer": move[:, :2], "builder": move[:, 2:], "planner": np.zeros((3, 1, batch.p.n_brackets), int)})
    moved = batch.s.row * 100 + batch.s.col != before
    assert moved[:, :2].any() and moved[:, 2:].any()
    assert np.array_equal(batch.s.labor, moved * np.array([0.5, 0.5, 2, 2, 2]))


def test_coins_are_measured_by_kind():
    batch = world(rules=dict.fromkeys((*KINDS, "planner"), "idle"), fixed_four=False)
    batch.step({})
    assert batch.measured["coin_of_gatherer"].tolist() == [30] * 3 and batch.measured["coin_of_builder"].tolist() == [9] * 3


@pytest.mark.parametrize(("sizes", "told"), [
    ((1, 2), "1 gatherer, 2 builder"), ((5,), "5 gatherer, 0 builder"), ((2, 2, 1), "2 gatherer, 2 builder")])
def test_kinds_that_are_not_all_agents_are_one_sentence(sizes, told):
    told += " must each be at least 1 and together all 5 mobile agents; change params so that they are"
    with pytest.raises(ValueError, match=f"^{told}$"):
        world(class_sizes=sizes)


def test_there_are_as_many_kinds_as_are_declared():
    economy = envs.gather_trade_build_classes.classes("three", "woodcutter", "mason", "trader")
    batch = Batch(economy, size=2, backend="numpy", rules=dict.fromkeys(economy.agents, "random"))
    batch.step({})
    assert batch.count == {"woodcutter": 2, "mason": 2, "trader": 2, "planner": 1}
