"""The compiled check of the books: in whatever state it finds exactly what the identities find, and it leaves the state as it is."""
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest

import envs
from envs.core.batch import Batch
from kernels import monetary, monetary_check
from kernels.core.arrays import allocate, to_host
from kernels.core.launch import HOST, cuda_problem, use
from kernels.core.ledger import LIMIT
from tests.worlds import needs_compiler

P = monetary.Params(n_consumers=30, n_firms=5, n_banks=3, burn_in=0)
BALANCES = [f.name for f in fields(monetary.State) if f.metadata["unit"] == "micro" and not f.metadata["doc"].startswith("flow")]
REALS = [f.name for f in fields(monetary.State) if f.metadata["dtype"] == "real"]
OTHERS = [f.name for f in fields(monetary.State) if f.name not in REALS and f.name != "scratch"]


@pytest.fixture(scope="module")
def quarter():
    """Params, the State before and after a quarter of random play."""
    economy = envs.load("monetary")
    world = Batch(economy, P, 2, backend="numpy", rules=dict.fromkeys(economy.agents, "random"))
    seen = SimpleNamespace()

    def watch(before, after):
        seen.before, seen.after = copied(before), copied(after)
    world.watch = watch
    for _ in range(4):
        world.step({})
    return seen


def copied(arrays, kind=SimpleNamespace):
    return kind(**{name: array.copy() for name, array in vars(arrays).items()})


def errors(quarter, how, xp=np, **changed):
    """{identity: its largest error in each replica}, of the quarter with some cells of the last replica's State changed."""
    s, a = copied(quarter.after, monetary.State), copied(quarter.before, monetary_check.Actions)
    for name, change in changed.items():
        cells = getattr(s, name).reshape(2, -1)
        cells[1, -1] = change(cells[1, -1])
    for arg in (s, a):
        for name, array in vars(arg).items():
            setattr(arg, name, xp.asarray(array))
    kept, r = copied(s), allocate(monetary_check.Rewards, monetary_check, P, 2, xp, np.float64)
    with np.errstate(all="ignore"):
        how(P, s, a, r)
    assert all(np.array_equal(to_host(array), to_host(getattr(kept, name)), equal_nan=array.dtype.kind == "f")
               for name, array in vars(s).items())
    return {name: to_host(array) for name, array in vars(r).items()}


def native(*args):
    with use("native"):
        monetary_check.check(*args)


def lanes(*args):
    monetary_check.check.run_native(args, lanes=4, flags=(*HOST, "-DTHREADS"))


def assert_same(quarter, how, xp=np, **changed):
    want, got = errors(quarter, monetary_check.check.definition, **changed), errors(quarter, how, xp, **changed)
    for name, error in want.items():
        assert np.allclose(error, got[name], rtol=1e-9, atol=1e-15), (name, error, got[name])
    return want


def test_nothing_is_wrong_in_a_quarter_of_play(quarter):
    assert not any(error.any() for error in errors(quarter, monetary_check.check.definition).values())


@needs_compiler
def test_one_unit_more_is_found_in_the_same_identities(quarter):
    found = set()
    for name in OTHERS:
        change = (lambda x: (x + 1) % P.n_banks) if name in ("bank", "firm_bank") else lambda x: x + 1
        want = assert_same(quarter, native, **{name: change})
        assert not any(error[0] for error in want.values())
        found |= {identity for identity, error in want.items() if error[1]}
    assert found >= {"T1", "T2", "T3", "T4", "T5", "T6", "T7", "T9"}


@needs_compiler
@pytest.mark.parametrize("name", ["deposits", "firm_loans", "employees", "equity", "treasury"])
def test_lanes_find_the_same(quarter, name):
    assert_same(quarter, lanes, **{name: lambda x: x - 2})


@needs_compiler
def test_a_real_that_is_no_number_is_found_whichever_it_is(quarter):
    for value in (np.nan, np.inf, -np.inf):
        for name in REALS:
            assert errors(quarter, native, **{name: lambda x, value=value: value})["T11"].tolist() == [0, 1], name


@needs_compiler
def test_a_balance_near_the_end_of_the_integers_is_found_whichever_it_is(quarter):
    for value in (LIMIT + 1, -LIMIT - 1):
        for name in BALANCES:
            changed = {name: lambda x, value=value: value}
            assert errors(quarter, native, **changed)["T11"].tolist() == [0, 1] == (
                errors(quarter, monetary_check.check.definition, **changed)["T11"].tolist()), name


@needs_compiler
@pytest.mark.parametrize(("name", "change", "identity"), [
    ("deposits", lambda x: -5, "T10"), ("capital", lambda x: -0.25, "T10"), ("inventory", lambda x: x + 1, "T8"),
    ("capital", lambda x: x + 1e-3, "T8"), ("worn", lambda x: x + 1000, "T8"), ("inventory_cost", lambda x: x + 1, "T4"),
    ("sales", lambda x: 2 * x + 1, "T8"), ("price_level", lambda x: 1.001 * x, "T6"), ("employer", lambda x: P.n_firms + 3, "T7"),
    ("employer", lambda x: -2, "T7")])
def test_what_is_negative_gone_or_nowhere_is_found(quarter, name, change, identity):
    assert assert_same(quarter, native, **{name: change})[identity][1] > 0


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=str(cuda_problem()))
def test_the_check_on_a_gpu_is_that_of_the_definition(quarter):
    import cupy
    for name in OTHERS:
        change = (lambda x: (x + 1) % P.n_banks) if name in ("bank", "firm_bank") else lambda x: x + 1
        assert_same(quarter, monetary_check.check, cupy, **{name: change})
    assert_same(quarter, monetary_check.check, cupy)
