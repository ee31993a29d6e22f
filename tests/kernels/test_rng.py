"""Randomness without state: published known answers, and draws that depend on their address alone."""
import ctypes

import numpy as np
import pytest

from kernels.core import launch
from kernels.core.launch import compile_host, native_problem
from kernels.core.rng import Draws, key, philox

KNOWN = [  # Random123, kat_vectors, philox4x32 10: counter, key, output
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]
COMPILED = """
extern "C" void bits(const u32 *c, const u32 *k, u32 *out) {
  u32x4 drawn = philox({c[0], c[1], c[2], c[3]}, k[0], k[1]);
  out[0] = drawn.x, out[1] = drawn.y, out[2] = drawn.z, out[3] = drawn.w;
}
extern "C" void units(const u32 *bits, float *out, int n) { for (int i = 0; i < n; ++i) out[i] = unit_float(bits[i]); }
"""


def draws(replicas=4, first=0, clock=7, seed=(1, 2)):
    return Draws(seed, first + np.arange(replicas), np.full(replicas, clock))


@pytest.fixture(scope="module")
def compiled():
    """The same generator as twins use it, compiled for the CPU."""
    if problem := native_problem():
        pytest.skip(problem)
    return ctypes.CDLL(str(compile_host("#define REAL float\n" + (launch.HERE / "lanes.cuh").read_text() + COMPILED)))


def call(function, *arrays):
    function(*(array.ctypes.data_as(ctypes.c_void_p) if hasattr(array, "ctypes") else array for array in arrays))


@pytest.mark.parametrize(("counter", "seed", "want"), KNOWN)
def test_arrays_give_the_published_answers(counter, seed, want):
    assert tuple(int(word) for word in philox(np, *counter, *seed)) == want


@pytest.mark.parametrize(("counter", "seed", "want"), KNOWN)
def test_twins_give_the_published_answers(compiled, counter, seed, want):
    out = np.zeros(4, np.uint32)
    call(compiled.bits, np.array(counter, np.uint32), np.array(seed, np.uint32), out)
    assert tuple(map(int, out)) == want


def test_twins_turn_bits_into_the_same_uniforms(compiled):
    some = draws(64)
    bits, out = np.ascontiguousarray(some.bits(3, 5)[0]), np.zeros((64, 5), np.float32)
    call(compiled.units, bits, out, bits.size)
    assert (out == some.uniform(3, 5)).all()


@pytest.mark.skipif(bool(native_problem()), reason=str(native_problem()))
@pytest.mark.parametrize(("replicas", "n"), [(1, 1), (5, 7), (3, 1000)])
def test_compiled_draws_are_the_same_bits(monkeypatch, replicas, n):
    some = Draws((0xFFFFFFFF, 7), 2**31 + 3 * np.arange(replicas), np.arange(replicas)[::-1] + 90)
    wanted = some.bits(4, n)
    monkeypatch.setattr("kernels.core.rng.philox", None)  # so that only the compiled ones are left
    with launch.use("native"):
        found = some.bits(4, n)
    assert all(one.dtype == other.dtype and one.shape == other.shape == (replicas, n) and (one == other).all()
               for one, other in zip(wanted, found, strict=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_uniforms_lie_strictly_between_zero_and_one_for_the_extreme_bits(monkeypatch, dtype):
    monkeypatch.setattr(Draws, "bits", lambda self, stream, n: (np.array([[0, 2**32 - 1]], np.uint32),) * 4)
    least, most = draws().uniform(0, 2, dtype)[0]
    assert 0 < least < most < 1
    assert np.isfinite(draws().normal(0, 2, dtype)).all()
    assert draws().integers(0, 2, 6).tolist() == [[0, 5]]


@pytest.mark.parametrize("draw", [lambda d: d.uniform(2, 6), lambda d: d.normal(2, 6), lambda d: d.integers(2, 6, 10)])
def test_a_replica_draws_alone_what_it_draws_among_many(draw):
    many = draw(draws(64))
    assert all((draw(draws(1, first=b)) == many[b]).all() for b in (0, 1, 63))


def test_more_items_leave_the_first_ones_as_they_were():
    assert (draws().uniform(0, 100)[:, :7] == draws().uniform(0, 7)).all()


def test_another_stream_clock_or_seed_is_another_draw():
    others = [draws(clock=8), draws(seed=(1, 3)), draws(seed=(2, 2)), draws(first=4)]
    drawn = [draws().uniform(0, 50), draws().uniform(1, 50), *(other.uniform(0, 50) for other in others)]
    assert all((one == other).mean() < 0.01 for k, one in enumerate(drawn) for other in drawn[:k])


def test_uniforms_normals_and_integers_have_their_moments():
    n = 200_000
    some = draws(1)
    uniform, normal, integers = some.uniform(0, n, np.float64), some.normal(1, n, np.float64), some.integers(2, n, 5)
    assert uniform.mean() == pytest.approx(1 / 2, abs=4 * (1 / 12 / n) ** 0.5)
    assert uniform.var() == pytest.approx(1 / 12, rel=0.01)
    assert normal.mean() == pytest.approx(0, abs=4 / n**0.5)
    assert [normal.var(), (normal**4).mean()] == pytest.approx([1, 3], rel=0.03)
    assert np.bincount(integers[0], minlength=5) / n == pytest.approx(np.full(5, 0.2), abs=4 * (0.16 / n) ** 0.5)
    assert np.corrcoef(uniform, normal)[0, 1] == pytest.approx(0, abs=4 / n**0.5)


def test_a_key_depends_on_every_part_and_its_place():
    parts = [(1,), (2,), (1, 0), (1, 1), (0, 1), (1, 2, 3), (3, 2, 1), (2**32,), (2**62, 1), (2**62 + 2**40, 1)]
    assert len({key(*some) for some in parts}) == len(parts)
    assert key(7, 1) == key(np.int64(7), np.uint32(1))
