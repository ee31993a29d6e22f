"""The economy against steps recorded from the released program of Curry et al. (2022), and against its published numbers."""
import json

import numpy as np
import pytest

from kernels import rbc
from kernels.core.arrays import adjust, allocate
from kernels.core.launch import use
from rllib_macro import replay
from tests.worlds import BACKENDS, golden, needs_compiler

CONFIGURATIONS = ["A", "C", "E"]
EDGES = ("no_stock_everyone_wants_one", "demand_equals_stock_no_flag", "demand_just_above_stock_flag", "zero_budget_no_consumption",
         "free_goods_zero_budget", "nobody_wants_nobody_works", "price_exactly_500_export_threshold", "price_below_export_threshold",
         "full_taxation", "work_for_nothing", "firm_debt_no_interest_on_negative", "all_work_for_firm_0", "one_poor_consumer_scaled")


@pytest.fixture(scope="module")
def trace():
    file = golden("rbc_steps.npz")
    with np.load(file, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


def steps(trace, name):
    return replay.rbc_steps("rbc_steps.npz", name, trace)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_every_recorded_step_is_repeated(backend, real):
    report = replay.replay(golden("rbc_steps.npz"), (backend,), real=real)
    assert report.ok, report.failures
    assert sorted({row.configuration for row in report.deviations}) == CONFIGURATIONS


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_recorded_steps_are_episodes_random_states_and_edges(trace, name):
    assert (np.bincount(trace[f"{name}.kind"]) >= [30, 25, len(EDGES)]).all()
    assert tuple(json.loads(str(trace[f"{name}.edge_names"]))) == EDGES


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("real", [np.float32, np.float64])
def test_episodes_start_as_recorded(trace, name, real):
    recorded = steps(trace, name)
    first = (trace[f"{name}.kind"] == 0) & (trace[f"{name}.t"] == 0)
    want = {field: value[first] for field, value in recorded.state("in").items()}
    s = rbc.initial_state(recorded.p, first.sum(), real=real)
    s.theta *= want["theta"][:, :1] / recorded.p.theta  # the curriculum's factor was another one in every episode
    for field, value in want.items():
        assert getattr(s, field) == pytest.approx(value, rel=1e-6), field


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize(("backend", "real"), [("numpy", np.float64), ("numpy", np.float32),
                                              pytest.param("native", np.float32, marks=needs_compiler)])
def test_whole_episodes_stay_close(trace, name, backend, real):
    """Nothing is corrected between the periods, so rounding may add up: ten times the tolerance of one step."""
    recorded, T = steps(trace, name), json.loads(str(trace[f"{name}.cfg"]))["maxtime"]
    rows = np.flatnonzero(trace[f"{name}.kind"] == 0).reshape(-1, T)  # (episode, period)
    actions, outcome, p = recorded.actions(), recorded.state("out"), recorded.p
    s = rbc.initial_state(p, len(rows), real=real)
    s.theta[...] = recorded.state("in")["theta"][rows[:, 0]]
    a, e, r = (allocate(cls, rbc, p, len(rows), np, real) for cls in (rbc.Actions, rbc.Shocks, rbc.Rewards))
    for period in rows.T:
        for field, value in actions.items():
            getattr(a, field)[...] = value[period]
        with use(backend):
            rbc.step(p, s, a, e, r)
    for field, value in outcome.items():
        want, atol = value[rows[:, -1]], 10 * replay.RBC_ATOL.get(field, 0)
        assert getattr(s, field) == pytest.approx(want, rel=1e-4, abs=atol), field


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_welfare_may_count_consumers_alone(trace, name):
    recorded = steps(trace, name)
    p = adjust(recorded.p, firm_reward_weight=0)
    s, r = (allocate(cls, rbc, p, len(trace[f"{name}.kind"])) for cls in (rbc.State, rbc.Rewards))
    r.consumer[...], r.firm[...] = trace[f"{name}.rew_c"], trace[f"{name}.rew_f"]
    rbc.value_welfare(p, s, r)
    assert r.government == pytest.approx(trace[f"{name}.rew_g_consumer"], rel=1e-5, abs=1e-3)
    rbc.value_welfare(recorded.p, s, r)
    assert r.government == pytest.approx(trace[f"{name}.rew_g"], rel=1e-5, abs=1e-2)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_edges_are_where_they_seem(trace, name):
    edge = dict(zip(EDGES, np.flatnonzero(trace[f"{name}.kind"] == 2)))
    before, after, outcome = (f(*x) for f, x in ((steps(trace, name).state, ("in",)), (steps(trace, name).state, ("out",)),
                                                 (steps(trace, name).outcome, ())))
    equal, above = edge["demand_equals_stock_no_flag"], edge["demand_just_above_stock_flag"]
    assert (outcome["demand"][equal] == before["inventory"][equal]).any() and not after["rationed"][equal].any()
    assert (outcome["demand"][above] > before["inventory"][above]).any() and after["rationed"][above].any()
    assert before["price"][edge["price_exactly_500_export_threshold"]] == pytest.approx(500)
    assert not outcome["exported"][edge["price_below_export_threshold"]].any()
    assert (outcome["exported"][edge["price_exactly_500_export_threshold"]] > 0).any() == bool(steps(trace, name).p.open_economy)
