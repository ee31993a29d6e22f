"""What every economy owes: each twin equals its definition, whatever the lanes and the device, and nothing appears or vanishes.

An economy's own test file may say more: WORLDS, named values for `world` in which definition and twin are compared (phases at the sizes of
the first, the whole step in all), and FLOAT32, absolute tolerances of State and Rewards fields in single precision.
"""
from copy import deepcopy
from dataclasses import fields

import numpy as np
import pytest

import envs
from envs.core.batch import SHOCKS, Batch
from kernels.core.arrays import sizes, to_host
from kernels.core.launch import HOST, Kernel, cuda_problem, use
from tests.worlds import modelled, needs_compiler, own, run, twins, world

gpu = [pytest.mark.gpu, pytest.mark.skipif(bool(cuda_problem()), reason=str(cuda_problem()))]
TWINS = [(name, kernel) for name in modelled() for kernel in twins(name)]
STEPS = [(name, kernel) for name, kernel in TWINS if kernel.name == "step"]
PRECISIONS = [np.float32, np.float64]
EVERY_TWIN = pytest.mark.parametrize(("name", "kernel"), TWINS, ids=lambda it: getattr(it, "name", it))
EVERY_STEP = pytest.mark.parametrize(("name", "kernel"), STEPS, ids=lambda it: getattr(it, "name", it))
EVERY_PRECISION = pytest.mark.parametrize("dtype", PRECISIONS, ids=lambda dtype: dtype.__name__)


def worlds(name, kernel):
    """Names and values of the worlds in which a kernel is compared: phases at one size, since every size is compiled."""
    every = own(name, "WORLDS", {"": {}})
    model = envs.load(name).kernel
    length = [tuple(sizes(model, world(name, **values)[0]).values()) for values in every.values()]
    return {label: values for (label, values), size in zip(every.items(), length) if kernel.name == "step" or size == length[0]}


def arrays(args):
    """(field, where it was declared, array) of State, Actions, Shocks and Rewards."""
    return [(f, f"{type(arg).__name__}.{f.name}", getattr(arg, f.name)) for arg in args[1:] for f in fields(arg)]


def largest_summands(*moments):
    """The largest number of each unit and axes in each replica, before or after: what a sum of that kind was made of."""
    largest = {}
    for args in moments:
        for f, _, array in arrays(args):
            kind = (f.metadata["unit"], f.metadata["axes"])
            here = np.abs(to_host(array).astype(np.float64)).reshape(len(array), -1).max(1)
            largest[kind] = np.maximum(largest.get(kind, 0), here)
    return largest


def assert_equal(name, before, want, got):
    """float64 to 1e-12 of the largest summand, float32 to the economy's tolerances, integers exactly. Money of a float32 world is rounded
    from numbers of that precision, and is held to it."""
    real = next(array.dtype for _, _, array in arrays(want) if array.dtype.kind == "f")
    largest, atols = largest_summands(before, want), own(name, "FLOAT32", {})
    for (f, label, wanted), (_, _, found) in zip(arrays(want), arrays(got)):
        wanted, found = to_host(wanted), to_host(found)
        assert wanted.dtype == found.dtype and np.isfinite(wanted).all(), label
        if wanted.dtype.kind != "f" and not (real == np.float32 and f.metadata["unit"] == "micro"):
            assert (wanted == found).all(), label
            continue
        scale = largest[f.metadata["unit"], f.metadata["axes"]].reshape(-1, *[1] * (wanted.ndim - 1))
        exact = atols.get(f.name) == 0
        atol = 1e-12 * scale if real == np.float64 else atols.get(f.name, 1e-6 * scale)
        rtol = 0 if exact or real == np.float64 else 1e-5
        off = np.abs(found.astype(np.float64) - wanted)
        granted = (0 if exact else atol) + rtol * np.abs(wanted)
        assert (off <= granted).all(), f"{label} is off by {off.max()}, granted {granted.ravel()[(off - granted).argmax()]}"


def compare(name, kernel, how, dtype, replicas, values, xp=np, seed=11):
    """Play one world with the definition on NumPy, and with `how` on `xp`; both must end alike."""
    before, want = (world(name, dtype, replicas, seed, **values) for _ in range(2))
    got = world(name, dtype, replicas, seed, xp, **values)
    run(kernel, want, kernel.definition)
    run(kernel, got, how)
    assert_equal(name, before, want, got)


@needs_compiler
@pytest.mark.parametrize("replicas", [1, 5, 64])
@EVERY_PRECISION
@EVERY_TWIN
def test_a_twin_equals_its_definition(name, kernel, dtype, replicas):
    for values in worlds(name, kernel).values():
        compare(name, kernel, lambda *args: kernel.run_native(args), dtype, replicas, values)


@needs_compiler
@EVERY_PRECISION
@EVERY_STEP
def test_a_replica_alone_is_what_it_is_among_many(name, kernel, dtype):
    many, alone = (world(name, dtype, replicas, 11) for replicas in (5, 1))
    for args in (many, alone):
        run(kernel, args, lambda *args: kernel.run_native(args))
    for (_, label, among), (_, _, single) in zip(arrays(many), arrays(alone)):
        assert (among[:1] == single).all(), label


@needs_compiler
@EVERY_PRECISION
@EVERY_STEP
def test_one_lane_equals_32_threads_bit_for_bit(name, kernel, dtype):
    for values in list(worlds(name, kernel).values())[:2]:
        one, many = (world(name, dtype, 5, 11, **values) for _ in range(2))
        run(kernel, one, lambda *args: kernel.run_native(args))
        run(kernel, many, lambda *args: kernel.run_native(args, lanes=32, flags=(*HOST, "-DTHREADS")))
        for (_, label, single), (_, _, threaded) in zip(arrays(one), arrays(many)):
            assert (single == threaded).all(), label


@needs_compiler
def test_a_wrong_twin_is_seen(tmp_path):
    """One operator, one index, one rate at a time: the comparison above must not be blind to any of them."""
    step = next(kernel for name, kernel in STEPS if name == "rbc")
    text = step.source.read_text()
    mistakes = {
        "s.demand[i] > s.inventory[i];": "s.demand[i] < s.inventory[i];",
        "s.price[i] >= p.export_price": "s.price[i] <= p.export_price",
        "(1 - *s.income_tax)": "(1 - *s.corporate_tax)",
        "s.theta[j] / 2": "s.theta[j] / 2.001",
        "at_least(s.profit[i], 0)": "s.profit[i]",
    }
    flags = (HOST[0], "-O0", *HOST[3:])
    for k, (right, wrong) in enumerate(mistakes.items()):
        assert right in text
        (tmp_path / f"{k}.cu").write_text(text.replace(right, wrong))
        broken = Kernel(step.definition, str(tmp_path / f"{k}.cu"))
        with pytest.raises(AssertionError, match="is off by"):
            for values in worlds("rbc", step).values():
                compare("rbc", step, lambda *args, twin=broken: twin.run_native(args, flags=flags), np.float32, 5, values)


# -- what must always hold

def accounts(name, real, backend, periods=10):
    """Largest value of every invariant over periods of random play; episodes are not ended."""
    economy = envs.load(name)
    batch = Batch(economy, size=8, backend=backend, seed=3, real=real, rules=dict.fromkeys(economy.agents, "random"))
    worst = dict.fromkeys(batch.kernel.INVARIANTS, 0.0)
    for _ in range(periods):
        for type_ in economy.agents:
            batch.decide(type_, None)
        batch.kernel.draw_shocks(batch.p, batch.s, batch.e, batch.draws(SHOCKS))
        before = deepcopy(batch.s)
        with use(backend):
            batch.kernel.step(batch.p, batch.s, batch.a, batch.e, batch.r)
        batch.clock += 1
        for label, invariant in batch.kernel.INVARIANTS.items():
            worst[label] = max(worst[label], float(np.abs(invariant(batch.p, before, batch.s)).max()))
    return worst


@pytest.mark.parametrize(("real", "most"), [(np.float64, 1e-12), (np.float32, 1e-5)])
@pytest.mark.parametrize("backend", ["numpy", pytest.param("native", marks=needs_compiler)])
@pytest.mark.parametrize("name", [name for name in modelled() if hasattr(envs.load(name).kernel, "INVARIANTS")])
def test_nothing_appears_or_vanishes_in_random_play(name, backend, real, most):
    worst = accounts(name, real, backend)
    assert all(value <= most for value in worst.values()), worst


# -- on a GPU

@pytest.mark.parametrize("replicas", [1, 64])
@EVERY_PRECISION
@EVERY_TWIN
class TestOnGpu:
    pytestmark = gpu

    def test_a_twin_on_the_gpu_equals_the_definition(self, name, kernel, dtype, replicas):
        import cupy
        for values in worlds(name, kernel).values():
            compare(name, kernel, kernel, dtype, replicas, values, cupy)

    def test_a_definition_on_the_gpu_equals_itself(self, name, kernel, dtype, replicas):
        """Of a phase; the definition of a step calls its phases' twins."""
        import cupy
        for values in worlds(name, kernel).values():
            compare(name, kernel, kernel.definition, dtype, replicas, values, cupy)


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=str(cuda_problem()))
def test_arrays_reach_torch_without_a_copy():
    import cupy
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this build of torch has no CUDA")
    s = world("rbc", np.float32, 4, seed=1, xp=cupy)[1]
    tensor = torch.from_dlpack(s.budget)
    assert tensor.is_cuda and tensor.data_ptr() == s.budget.data.ptr and tensor.shape == s.budget.shape
    tensor.fill_(7)
    torch.cuda.synchronize()
    assert (s.budget == 7).all()
    back = cupy.from_dlpack(tensor * 2)
    assert (back == 14).all()


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda_problem()), reason=str(cuda_problem()))
def test_arrays_of_two_devices_do_not_mix():
    import cupy
    p, s, a, e, r = world("rbc", np.float32, xp=cupy)
    a.price = a.price.get()
    with pytest.raises(TypeError, match="Actions.price must live where the other arrays do, on the GPU"):
        envs.load("rbc").kernel.step(p, s, a, e, r)
