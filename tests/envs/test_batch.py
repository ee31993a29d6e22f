"""Batches of replicas: mistakes are one sentence, windows and parameters change between episodes, every world has its own randomness."""
from dataclasses import replace

import numpy as np
import pytest

import envs
from envs.core.batch import SHOCKS, STARTS, Batch
from kernels import rbc
from tests.worlds import needs_compiler

RBC, COBWEB = envs.load("rbc"), envs.load("tests.economies.cobweb")
SMALL = rbc.Params(n_consumers=4, n_firms=2, horizon=3)
RANDOM = dict.fromkeys(RBC.agents, "random")


def cobweb(size=3, **more):
    return Batch(COBWEB, size=size, rules={"producer": "random", "regulator": "random"}, **more)


# -- mistakes

def small(**more):
    return Batch(RBC, SMALL, **more)


@pytest.mark.parametrize(("make", "sentence"), [
    (lambda: Batch(RBC, rbc.Params(n_firms=0)), "params.n_firms must be at least 1, got 0"),
    (lambda: Batch(RBC, rbc.Params(theta=-0.5)), "params.theta must be at least 0, got -0.5"),
    (lambda: Batch(RBC, rbc.Params(crra=float("nan"))), "params.crra must be at least 0, got nan"),
    (lambda: small(size=-3), "replicas must be at least 1, got -3"),
    (lambda: small(device="gpu"), "device must be cpu or cuda, got 'gpu'"),
    (lambda: small(backend="numba"), "backend must be auto, numpy or native, got 'numba'"),
    (lambda: small(features="raws"), "features must be one of raw, scaled, digits, got 'raws'"),
    (lambda: small(rules={"frim": "random"}), "unknown agent type 'frim' of rules; did you mean 'firm'?"),
    (lambda: small().adjust({"tehta": 1}), "unknown param 'tehta' of this economy; did you mean 'theta'?"),
    (lambda: small().adjust({"theta": -1}), "params.theta must be at least 0, got -1"),
    (lambda: small().adjust(windows={"firm.prise": (0, 1)}), "unknown choice 'firm.prise' of windows; did you mean 'firm.price'?"),
    (lambda: small().step({}), "step needs choices for consumer, which no rule scripts"),
    (lambda: envs.load("rcb"), "unknown economy 'rcb'; did you mean 'rbc'?"),
    (lambda: envs.load("no.such.module"), "unknown economy 'no.such.module'; choose one of NAMES or an importable module"),
    (lambda: envs.load("envs.core"), "module 'envs.core' has no ECONOMY; assign an Economy to that name"),
])
def test_a_mistake_is_one_sentence_that_says_what_to_change(make, sentence):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == sentence.replace("NAMES", ", ".join(envs.names()))


def test_sizes_beyond_this_machine_are_refused_before_anything_is_allocated():
    with pytest.raises(ValueError, match=r"^replicas=1 with n_consumers=10,000,000,000, n_firms=10 need 1,\d+ GiB, .*; make them smaller$"):
        Batch(RBC, rbc.Params(n_consumers=10**10))


def test_a_mistake_inside_an_economys_file_is_reported_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "broken_attribute.py").write_text("import math\nmath.sine\n")
    (tmp_path / "broken_import.py").write_text("import no_such_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(AttributeError, match="sine"):
        envs.load("broken_attribute")
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        envs.load("broken_import")


def test_windows_that_leave_nothing_are_an_error():
    world = Batch(RBC, SMALL)
    world.adjust(windows={"firm.price": (501, 999)})
    with pytest.raises(ValueError, match=r"^the windows on firm.price\*wage leave no option; widen them to include a grid value$"):
        world.legal("firm")
    masked_by_state = Batch(COBWEB)
    masked_by_state.adjust(windows={"producer.offer": (0.1, 0.9)})
    with pytest.raises(ValueError, match="^the windows on producer.offer leave no option"):
        masked_by_state.legal("producer")


# -- windows

def test_without_windows_everything_may_be_chosen():
    assert Batch(RBC, SMALL).legal("firm") is None


def test_each_violated_window_counts():
    world = Batch(RBC, SMALL)
    world.adjust(windows={"firm.price": (1000, 1000), "firm.wage": (22, 22)})
    violations = world.violations("firm")
    assert [violations[option] for option in (12, 11, 7, 0)] == [0, 1, 1, 2]  # (1000, 22), (1000, 11), (500, 22), (0, 0)
    assert np.flatnonzero(world.legal("firm")).tolist() == [12]


def test_a_new_window_replaces_the_old_one():
    world = Batch(RBC, SMALL)
    world.adjust(windows={"government.income_tax": (0, 0)})
    world.adjust(windows={"government.income_tax": (0, 1)})
    assert world.legal("government") is None


def test_what_the_state_forbids_is_forbidden_inside_a_window_too():
    world = Batch(COBWEB)
    world.s.stock[...] = [[0.5, 2, 9]]
    assert world.legal("producer")[0].astype(int).tolist() == [[1, 0, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    world.adjust(windows={"producer.offer": (1, 3)})
    assert world.legal("producer")[0, 2].astype(int).tolist() == [0, 1, 1, 1, 0]


# -- time

def test_params_read_at_reset_act_from_the_next_reset_on():
    world = Batch(RBC, SMALL)
    world.adjust({"initial_price": 500})
    assert world.s.price[0, 0] == 1000
    world.reset()
    assert world.s.price[0, 0] == 500


def test_the_longest_episode_is_the_horizon_even_if_it_shrinks():
    world = Batch(RBC, SMALL, rules=RANDOM, backend="numpy")  # a horizon is compiled into a twin
    world.step({})
    world.adjust({"horizon": 1})
    assert world.step({})[1].tolist() == [True]


def test_an_endless_economy_is_seen_as_it_was_cut_before_it_starts_anew():
    world = cobweb(size=2)
    for _ in range(5):
        world.step({})
    assert world.final is None
    world.step({})
    assert world.final["regulator"][:, 0, 2] == pytest.approx(world.a.levy)  # posted in the last season
    assert world.observe("regulator")[:, 0, 2].tolist() == [0, 0]
    world.step({})
    assert world.final is None


def test_replicas_reset_at_different_times_end_at_different_times():
    world = Batch(RBC, SMALL, 2, rules=RANDOM)
    world.step({})
    world.reset(np.array([True, False]))
    assert [world.step({})[1].tolist() for _ in range(3)] == [[False, False], [False, True], [True, False]]


# -- chance

def test_random_starts_differ_between_replicas_episodes_and_seeds_and_between_nothing_else():
    start = cobweb().s.stock
    assert len(np.unique(start)) == start.size
    assert np.array_equal(cobweb(size=5).s.stock[:3], start) and np.array_equal(cobweb(size=1, first=2).s.stock[0], start[2])
    assert not np.isin(cobweb(seed=1).s.stock, start).any()
    again = cobweb()
    again.reset()
    assert not np.isin(again.s.stock, start).any()


def test_the_worlds_that_warm_up_have_a_chance_of_their_own(monkeypatch):
    made = []
    monkeypatch.setattr("envs.core.batch.warmed_up", lambda key, bytes_each, periods, world: made.append(world(3)))
    scripts = {type_: {"scripted": next(iter(rules.values())), **rules} for type_, rules in COBWEB.rules.items()}
    played = Batch(replace(COBWEB, warm_up=2, rules=scripts), size=3, rules=dict.fromkeys(COBWEB.agents, "random"))
    warm, = made
    for purpose in (SHOCKS, STARTS):
        assert not np.isin(warm.draws(purpose).bits(0, 4)[0], played.draws(purpose).bits(0, 4)[0]).any()


def test_rules_of_two_types_do_not_share_their_chance(monkeypatch):
    drawn = {}

    def dice(type_):
        def rule(p, s, a, draws):
            drawn[type_] = draws.uniform(0, 3)
            return COBWEB.rules[type_][{"producer": "naive", "regulator": "laissez_faire"}[type_]](p, s, a, draws)
        return rule

    monkeypatch.setattr(COBWEB, "rules", {type_: {**COBWEB.rules[type_], "dice": dice(type_)} for type_ in COBWEB.agents})
    Batch(COBWEB, size=2, rules={"producer": "dice", "regulator": "dice"}).step({})
    assert not np.isin(drawn["producer"], drawn["regulator"]).any()


def test_demand_is_autoregressive_with_the_volatility_of_its_params():
    world, shocks = cobweb(size=4000), []
    for _ in range(2):
        shocks.append(world.s.demand_shock.copy())
        world.step({})
    assert shocks[0].std() == pytest.approx(0.1 / 0.6, rel=0.05)
    assert np.corrcoef(shocks)[0, 1] == pytest.approx(0.8, abs=0.02)
    assert (shocks[1] - 0.8 * shocks[0]).std() == pytest.approx(0.1, rel=0.05)


# -- backends and arrays

@needs_compiler
def test_the_native_backend_is_the_default_where_the_economy_prefers_it():
    assert Batch(RBC, SMALL).backend == "native" and Batch(COBWEB).backend == "numpy"


def test_observations_can_be_written_where_the_caller_wants_them():
    world = Batch(RBC, SMALL)
    out = np.zeros((1, 2, world.layout["firm"].width), np.float32)
    assert world.observe("firm", out) is out and out.any()


def test_option_numbers_may_come_as_floats():
    whole, real = Batch(RBC, SMALL), Batch(RBC, SMALL)
    choices = {t: whole.random_choices(t) for t in whole.count}
    whole.step(choices)
    real.step({t: chosen.astype(np.float32) for t, chosen in choices.items()})
    assert np.array_equal(whole.s.budget, real.s.budget) and np.array_equal(whole.s.price, real.s.price)


def test_uniform_random_play_reaches_every_option_equally_often():
    chosen = Batch(RBC, SMALL, 3000).random_choices("government")
    assert np.bincount(chosen.ravel(), minlength=36) == pytest.approx(np.full(36, 3000 / 36), rel=0.4)


def test_terms_are_measured_as_they_were_in_force_and_flows_as_they_came_out():
    terms = {"firm": "constant(price=1000, wage=22)", "government": "constant(income_tax=0.2, corporate_tax=0)"}
    world = Batch(RBC, SMALL, rules={"consumer": "idle", **terms})
    seen = []
    for _ in range(3):
        world.step({})
        seen.append((world.measured["wage"][0], round(float(world.measured["income_tax"][0]), 6)))
    assert seen == [(0, 0), (22, 0.2), (22, 0.2)]  # nothing is paid in the first quarter; over ten quarters the published 19.8 of 22
