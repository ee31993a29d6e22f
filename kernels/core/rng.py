"""Randomness without state: every draw is a function of its address.

Philox4x32-10 (Salmon, Moraes, Dror and Shaw, 2011) turns a counter (replica, item, clock, stream) and a key (the seed) into 128 random
bits. Nothing has to be stored or advanced, any draw can be repeated anywhere, and a shock can be changed while all others stay.
"""
from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kernels.core import launch
from kernels.core.arrays import Array, namespace


def philox(xp: ModuleType, c0: Array, c1: Array, c2: Array, c3: Array, k0: Array, k1: Array) -> tuple[Array, ...]:
    """Philox4x32-10 on whole arrays: four uint32 arrays; integers in, integers out, identical on every device."""
    m, n, w0, w1, low, shift = (xp.uint64(v) for v in (0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85, 0xFFFFFFFF, 32))
    c0, c1, c2, c3, k0, k1 = (xp.asarray(v).astype(xp.uint64) for v in (c0, c1, c2, c3, k0, k1))
    for _ in range(10):
        p, q = m * c0, n * c2
        c0, c1, c2, c3 = (q >> shift) ^ c1 ^ k0, q & low, (p >> shift) ^ c3 ^ k1, p & low
        k0, k1 = (k0 + w0) & low, (k1 + w1) & low
    return tuple(c.astype(xp.uint32) for c in (c0, c1, c2, c3))


def key(*parts: int) -> tuple[int, int]:
    """Two 32-bit words that depend on every part: seeds of independent streams from (seed, purpose, iteration, ...)."""
    entropy = [len(parts), *(half for part in parts for half in (int(part) & 0xFFFFFFFF, int(part) >> 32))]  # (1,) is not (1, 0)
    words = np.random.SeedSequence(entropy).generate_state(2, np.uint32)
    return int(words[0]), int(words[1])


@dataclass(frozen=True)
class Draws:
    """All random numbers of one period: `clock` (B,) counts each replica's periods, `replica` (B,) tells replicas apart."""

    seed: tuple[int, int]
    replica: Array
    clock: Array

    def bits(self, stream: int, n: int) -> tuple[Array, ...]:
        """Four independent uint32 arrays (B, n) of stream number `stream`, drawn by the twin within `launch.use("native")`."""
        xp = namespace(self.replica)
        if xp is np and launch.in_use() == "native":
            return self._compiled_bits(stream, n)
        replica, clock = (xp.asarray(v)[:, None] for v in (self.replica, self.clock))
        counter: list[Array] = xp.broadcast_arrays(replica, xp.arange(n)[None, :], clock, xp.asarray(stream))
        return philox(xp, counter[0], counter[1], counter[2], counter[3], *self.seed)

    def _compiled_bits(self, stream: int, n: int) -> tuple[Array, ...]:
        replica, clock = (np.ascontiguousarray(v, np.int64) for v in (self.replica, self.clock))
        drawn = np.empty((4, len(replica), n), np.uint32)
        _compiled()(len(replica), n, replica.ctypes.data, clock.ctypes.data, stream, *self.seed, *(word.ctypes.data for word in drawn))
        return tuple(drawn)

    def uniform(self, stream: int, n: int, dtype: type = np.float32) -> Array:
        """(B, n) uniforms strictly between 0 and 1: (bits + 1/2) / 2^23."""
        return ((self.bits(stream, n)[0] >> 9) + 0.5).astype(dtype) * dtype(2.0**-23)

    def normal(self, stream: int, n: int, dtype: type = np.float32) -> Array:
        """(B, n) standard normals by Box and Muller (1958) in float64: sqrt(-2 log u) cos(2 pi v)."""
        xp = namespace(self.replica)
        x, y, *_ = self.bits(stream, n)
        return (xp.sqrt(-2 * xp.log((x + 0.5) * 2.0**-32)) * xp.cos(2 * xp.pi * (y * 2.0**-32))).astype(dtype)

    def integers(self, stream: int, n: int, high: int) -> Array:
        """(B, n) integers 0 .. high - 1, int64."""
        return (self.bits(stream, n)[0].astype(np.uint64) * np.uint64(high) >> np.uint64(32)).astype(np.int64)


@functools.lru_cache(maxsize=1)
def _compiled() -> Any:
    """The function of rng.cu, compiled for the CPU."""
    text = ("#define REAL float\n", (launch.HERE / "lanes.cuh").read_text(), (launch.HERE / "rng.cu").read_text())
    bits = ctypes.CDLL(str(launch.compile_host("".join(text)))).bits
    bits.argtypes, bits.restype = (*[ctypes.c_int64] * 2, *[ctypes.c_void_p] * 2, *[ctypes.c_uint32] * 3, *[ctypes.c_void_p] * 4), None
    return bits
