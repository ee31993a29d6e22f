"""A recorded trace is repeated within its tolerances, a wrong economy is not, and a file that is no trace is refused in one sentence."""
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kernels import rbc
from kernels.core.arrays import allocate
from kernels.core.launch import BackendError, cuda_problem, native_problem
from rllib_macro import replay as module
from rllib_macro.replay import TraceError, compare, replay
from tests.worlds import ROOT, golden, world

CFG = {
    "num_consumers": 2, "num_firms": 1, "maxtime": 5, "interest_rate": 0.1, "crra": 0.5, "tfp": 0.01, "use_importer": 1,
    "importer_price": 500.0, "importer_quantity": 100.0, "labor_floor": 300.0, "boost_firm_reward": 1, "boost_factor": 0.5,
    "consumer_drip": 0.01, "consumer_theta": 0.01, "pareto_shape": 4.0, "initial_consumer_budget": 2000.0, "initial_firm_budget": 44000.0,
    "initial_stock": 40.0, "initial_price": 1000.0, "initial_wage": 22.0, "initial_capital": "twolevel", "production_alpha": "fixed_array",
}
BACKENDS = ("numpy",) if native_problem() else ("numpy", "native")


def rows(s):
    """What the agents of a village of one firm see, in the columns of a trace."""
    taxes = np.stack([s.income_tax, s.corporate_tax, s.period], 1)
    public = np.concatenate([s.price, s.wage, s.inventory, s.rationed, taxes], 1)
    own = {"cs": (s.budget, s.theta), "fs": (s.firm_budget, s.capital, s.labor_share, np.ones_like(s.capital)), "gs": ()}
    count = {"cs": s.budget.shape[1], "fs": s.capital.shape[1], "gs": 1}
    return {who: np.concatenate([np.repeat(public[:, None], count[who], 1), *(x[:, :, None] for x in columns)], -1).astype(np.float32)
            for who, columns in own.items()}


def recorded(steps=6, **changes):
    """A trace of configuration X: `steps` states of a village after random play, and one step from each."""
    p = module.rbc_params("X.cfg", json.dumps(CFG | changes))
    _, s, a, _, _ = world("rbc", np.float32, steps, seed=1, **{f: getattr(p, f) for f in vars(p)})
    e, r = (allocate(cls, rbc, p, steps) for cls in (rbc.Shocks, rbc.Rewards))
    seen = {f"X.in_{who}": x for who, x in rows(s).items()}
    rbc.step(p, s, a, e, r)
    seen |= {f"X.out_{who}": x for who, x in rows(s).items()}
    return seen | {
        "X.cfg": np.array(json.dumps(CFG | changes)),
        "X.act_c": np.concatenate([a.demand, a.hours[:, :, None], a.employer[:, :, None]], -1).astype(np.float32),
        "X.act_f": np.stack([a.price, a.wage, np.full_like(a.price, 0.1)], -1), "X.act_g": np.stack([a.income_tax, a.corporate_tax], -1),
        "X.consumed": s.bought, "X.exported": s.exported, "X.produced": s.produced, "X.hours": s.labor, "X.demand": s.demand,
        "X.tax": s.tax_revenue, "X.invested": s.invested, "X.rew_c": r.consumer, "X.rew_f": r.firm, "X.rew_g": r.government,
    }


@pytest.fixture
def trace(tmp_path):
    """A function that writes a trace with some arrays changed, or removed if None, and returns its path."""
    def write(**changed):
        arrays = recorded() | {f"X.{name}": array for name, array in changed.items()}
        np.savez(tmp_path / "trace.npz", **{name: array for name, array in arrays.items() if array is not None})
        return tmp_path / "trace.npz"
    return write


def cfg(**changes):
    """X.cfg with some numbers changed, or removed if None."""
    return np.array(json.dumps({key: value for key, value in (CFG | changes).items() if value is not None}))


# -- a trace that can be replayed

def test_every_quantity_has_its_deviation_and_its_tolerance(trace):
    report = replay(trace(), BACKENDS)
    assert report.ok and report.failures == [] and report.format == "rbc steps"
    assert {row.backend for row in report.deviations} == set(BACKENDS) and {row.configuration for row in report.deviations} == {"X"}
    row = next(row for row in report.deviations if row.quantity == "firm_budget")
    assert (row.atol, row.rtol, row.ok) == (1.0, 1e-5, True)
    exact = {row.quantity for row in report.deviations if row.atol == row.rtol == 0}
    assert exact == {"price", "wage", "rationed", "income_tax", "corporate_tax", "period", "theta", "labor_share"}
    assert len(report.deviations) == 22 * len(BACKENDS)


def test_a_report_is_json(trace):
    said = json.loads(json.dumps(replay(trace(), ("numpy",)).as_dict(), allow_nan=False))
    assert said["ok"] is True and said["real"] == "float32"
    assert set(said["deviations"][0]) == {"configuration", "backend", "quantity", "deviation", "atol", "rtol", "step", "ok"}


@pytest.mark.parametrize("real", ["float32", "float64"])
def test_the_released_programs_steps_are_repeated(real):
    report = replay(golden("rbc_steps.npz"), BACKENDS, real=real)
    assert report.ok, report.failures
    assert len(report.deviations) == 3 * 22 * len(BACKENDS)


@pytest.mark.parametrize(("key", "wrong", "seen"), [
    ("tfp", 1.01, {"produced"}), ("interest_rate", 1.01, {"firm_budget"}), ("crra", 1.01, {"consumer"}),
    ("importer_quantity", 0.5, {"exported", "firm"}), ("boost_factor", 1.01, {"firm"}), ("consumer_drip", 100, {"budget"}),
    ("labor_floor", 10, {"produced"}), ("use_importer", 0, {"exported"}),
])
def test_a_wrong_constant_is_seen_in_the_recorded_steps(tmp_path, key, wrong, seen):
    with np.load(golden("rbc_steps.npz"), allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files if name.startswith("E.")}
    numbers = json.loads(str(arrays["E.cfg"]))
    np.savez(tmp_path / "wrong.npz", **arrays | {"E.cfg": np.array(json.dumps(numbers | {key: numbers[key] * wrong}))})
    report = replay(tmp_path / "wrong.npz", ("numpy",))
    assert not report.ok and seen <= {row.quantity for row in report.failures}


def test_a_wrong_economy_is_seen_in_every_quantity_it_touches(trace, monkeypatch):
    path = trace()
    monkeypatch.setattr(rbc, "post_terms", lambda p, s, a: None)
    wrong = {row.quantity: row for row in replay(path, ("numpy",)).failures}
    assert "period" in wrong and wrong["period"].deviation == 1 and "consumer" not in wrong


def test_one_wrong_entry_is_found(trace):
    reward = recorded()["X.rew_c"]
    reward[4, 1] += 0.01
    (row,) = replay(trace(rew_c=reward), ("numpy",)).failures
    assert (row.quantity, row.step) == ("consumer", 4) and row.deviation == pytest.approx(0.01, rel=1e-2)


def test_a_deviation_is_held_against_its_tolerance():
    want = np.array([[100.0, 0.0], [1e6, 0.0]])
    assert compare("X", "numpy", "budget", want + 0.05, want, 0.05, 1e-5).ok
    assert compare("X", "numpy", "budget", want * (1 + 0.9e-5), want, 0, 1e-5).ok
    row = compare("X", "numpy", "budget", want + [[0, 0], [9, 0.06]], want, 0.05, 1e-5)
    assert (row.ok, row.step, row.deviation) == (False, 1, 9)
    for bad in (np.nan, np.inf):
        row = compare("X", "numpy", "budget", np.where(want == 100, bad, want), want, 0.05, 1e-5)
        assert not row.ok and row.step == 0 and json.dumps(row.deviation, allow_nan=False)


# -- files that cannot be replayed

def refused(path, text):
    with pytest.raises(TraceError, match=text) as caught:
        replay(path, ("numpy",))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    refused(tmp_path / "nowhere.npz", "there is no trace .*nowhere.npz; give the path of an .npz file")


@pytest.mark.parametrize("content", [b"", b"not a trace", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04\x95pickle", b"\0" * 4096])
def test_a_file_that_is_no_npz_is_refused(tmp_path, content):
    (tmp_path / "trace.npz").write_bytes(content)
    refused(tmp_path / "trace.npz", "trace.npz cannot be read as an .npz file of plain arrays")


def test_a_folder_is_refused(tmp_path):
    refused(tmp_path, "cannot be read as an .npz file")


def test_a_single_array_is_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    refused(tmp_path / "one.npy", "holds no named arrays; give an .npz file")


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_file_is_refused(trace, kept):
    path = trace()
    path.write_bytes(path.read_bytes()[:int(kept * path.stat().st_size)])
    refused(path, "cannot be read")


def test_a_damaged_file_is_refused_or_read_but_never_runs_anything(trace):
    path = trace()
    whole, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 150):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            replay(path, ("numpy",))
        except TraceError as error:
            assert "\n" not in str(error)


def test_objects_are_never_unpickled(trace, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)
    refused(trace(rew_c=np.array([Trap()], object)), "cannot be read as an .npz file of plain arrays .*holds Python objects")
    assert not (tmp_path / "sprung").exists()


def test_another_format_is_refused_with_the_keys_it_has(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(1), b=np.zeros(1))
    refused(tmp_path / "other.npz", r"none of the known formats \(rbc steps, gather-trade-build episode\); its keys are a, b$")


def test_a_file_that_is_not_a_zip_of_arrays_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("X.cfg", "hello")
    refused(tmp_path / "text.npz", "text.npz")


@pytest.mark.parametrize(("changed", "text"), [
    ({"act_c": None}, r"trace.npz lacks X.act_c; record the trace again"),
    ({"in_cs": None}, r"lacks X.in_cs"),
    ({"rew_f": np.zeros((6, 2))}, r"X.rew_f must have shape \(6, 1\) for the sizes in X.cfg, got \(6, 2\)"),
    ({"in_cs": np.zeros((5, 2, 9))}, r"X.in_cs must have shape \(6, 2, 9\)"),
    ({"tax": np.zeros((6, 1))}, r"X.tax must have shape \(6,\)"),
    ({"act_g": np.zeros(())}, "X.act_g holds no step"),
    ({"act_g": np.zeros((0, 2))}, "X.act_g holds no step"),
    ({"produced": np.full((6, 1), "much")}, "X.produced must hold finite numbers only"),
    ({"produced": np.full((6, 1), np.nan)}, "X.produced must hold finite numbers only"),
    ({"act_c": np.full((6, 2, 3), 1.0)}, "X.act_c names employers that are not 0 .. 0"),
    ({"act_c": np.full((6, 2, 3), -1.0)}, "names employers"),
    ({"act_c": np.full((6, 2, 3), 0.5)}, "names employers"),
    ({"act_f": np.arange(18.0).reshape(6, 1, 3)}, "X.act_f has several investment shares"),
    ({"cfg": np.zeros(3)}, r"X.cfg must be one string of JSON, got float64 of shape \(3,\)"),
    ({"cfg": np.array("{")}, "X.cfg is not JSON"),
    ({"cfg": np.array("[" * 100_000)}, "X.cfg is not JSON"),
    ({"cfg": np.array("[1]")}, "X.cfg must be a JSON object of the configuration's numbers, got list"),
    ({"cfg": cfg(tfp=None)}, "X.cfg lacks 'tfp'"),
    ({"cfg": cfg(labour_floor=3)}, "X.cfg has the unknown key 'labour_floor'; did you mean 'labor_floor'[?]"),
    ({"cfg": cfg(zzz=3)}, "X.cfg has the unknown key 'zzz'; remove it"),
    ({"cfg": cfg(crra="high")}, "crra must be a number, got 'high'"),
    ({"cfg": cfg(crra=float("nan"))}, "crra must be a number, got nan"),
    ({"cfg": cfg(crra=10**400)}, "crra must be a number"),
    ({"cfg": cfg(crra=True)}, "crra must be a number, got True"),
    ({"cfg": cfg(crra=-1)}, "params.crra must be at least 0, got -1"),
    ({"cfg": cfg(num_firms=0)}, "num_firms must be a whole number from 1 to 1000000, got 0"),
    ({"cfg": cfg(num_consumers=2.5)}, "num_consumers must be a whole number"),
    ({"cfg": cfg(num_consumers=10**9)}, "num_consumers must be a whole number"),
    ({"cfg": cfg(num_consumers=3)}, r"X.(in|out)_cs must have shape \(6, 3, 9\)"),
    ({"cfg": cfg(initial_capital="threelevel")}, "initial_capital must be one of twolevel, ones, proportional, got 'threelevel'"),
    ({"cfg": cfg(production_alpha=[])}, "production_alpha must be a number or one of fixed_array, proportional, got \\[\\]"),
])
def test_what_is_wrong_with_a_trace_is_said(trace, changed, text):
    refused(trace(**changed), text)


@pytest.mark.parametrize(("named", "capital"), [("twolevel", [5000, 10000, 10000]), ("ones", [1, 1, 1]), ("proportional", [0.2, 0.4, 0.6])])
def test_capital_may_be_named(named, capital):
    p = module.rbc_params("X.cfg", str(cfg(num_firms=3, initial_capital=named)))
    assert rbc.initial_state(p, 1).capital[0] == pytest.approx(capital)


@pytest.mark.parametrize(("named", "shares"), [
    (0.5, [0.5] * 4), ("fixed_array", [0.2, 0.3, 0.4, 0.6]), ("proportional", [0.2, 0.4, 0.2, 0.4]),
])
def test_labour_shares_may_be_named(named, shares):
    p = module.rbc_params("X.cfg", str(cfg(num_firms=4, production_alpha=named)))
    assert rbc.initial_state(p, 1).labor_share[0] == pytest.approx(shares)


def test_the_boost_has_a_switch():
    assert [module.rbc_params("X.cfg", str(cfg(boost_firm_reward=on))).boost for on in (0, 1)] == [0, 0.5]


# -- places that are not here

def test_a_backend_or_a_device_that_is_not_here_is_said(trace, monkeypatch):
    with pytest.raises(ValueError, match="device must be cpu or cuda, got 'tpu'"):
        replay(trace(), device="tpu")
    with pytest.raises(ValueError, match="backend must be numpy or native, got 'fortran'"):
        replay(trace(), ("fortran",))
    with pytest.raises(ValueError, match="real must be float32 or float64, got 'float16'"):
        replay(trace(), real="float16")
    monkeypatch.setattr(module.launch, "native_problem", lambda: "no C++ compiler found")
    with pytest.raises(BackendError, match="backend=native: no C"):
        replay(trace())
    monkeypatch.setattr(module.launch, "cuda_problem", lambda: "CuPy is not installed")
    with pytest.raises(BackendError, match="device=cuda: CuPy is not installed"):
        replay(trace(), device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=str(cuda_problem()))
@pytest.mark.parametrize("real", ["float32", "float64"])
def test_the_recorded_steps_are_repeated_on_a_gpu(real):
    report = replay(golden("rbc_steps.npz"), device="cuda", real=real)
    assert report.ok, report.failures


def test_replaying_needs_neither_ray_nor_torch():
    code = "import sys, rllib_macro.replay; assert not {'ray', 'torch', 'cupy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
