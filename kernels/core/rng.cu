// Twin of Draws.bits in kernels/core/rng.py, for any number of items: it needs no compilation for each.
extern "C" void bits(i64 replicas, i64 n, const i64 *replica, const i64 *clock, u32 stream, u32 k0, u32 k1,
                     u32 *x, u32 *y, u32 *z, u32 *w) {
  for (i64 b = 0; b < replicas; ++b, x += n, y += n, z += n, w += n)
    for (i64 i = 0; i < n; ++i) {
      const u32x4 drawn = philox({(u32)replica[b], (u32)i, (u32)clock[b], stream}, k0, k1);
      x[i] = drawn.x, y[i] = drawn.y, z[i] = drawn.z, w[i] = drawn.w;
    }
}
