// The small dialect in which every twin is written: one block steps one replica, its threads are lanes.
//
//   DEVICE void pay(const Params &p, const State &s) { FOR_LANES(i, F) {...}  BARRIER();  FOR_LANES(j, C) {...} }
//
// Under CUDA these are threads, __syncthreads and __shared__; under a host compiler lanes are one loop (fast) or real threads
// (so that ThreadSanitizer sees a missing BARRIER). Params, State, ... and axis lengths are generated from their Python
// declarations; array fields point at the current replica. No atomics on floats: a sum is taken by one lane, in index order.
#ifdef __CUDACC__
typedef unsigned char u8;
typedef int i32;
typedef long long i64;
typedef unsigned int u32;
typedef unsigned long long u64;
#define DEVICE __device__ __forceinline__
#define MEMBER __device__
#define FOR_LANES(i, n) for (int i = threadIdx.x; i < (n); i += blockDim.x)
#define BARRIER() __syncthreads()
#define SHARED(type, name, n) __shared__ type name[n]
#else
#include "host.h"
#endif
typedef REAL real;

DEVICE real at_most(real x, real bound) { return x < bound ? x : bound; }
DEVICE real at_least(real x, real bound) { return x > bound ? x : bound; }

// Philox4x32-10 (Salmon et al., 2011): a pure function of counter and key, so a draw depends only on its address.
struct u32x4 { u32 x, y, z, w; };
DEVICE u32x4 philox(u32x4 c, u32 k0, u32 k1) {
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
    u64 p = (u64)0xD2511F53u * c.x, q = (u64)0xCD9E8D57u * c.z;
    c = {(u32)(q >> 32) ^ c.y ^ k0, (u32)q, (u32)(p >> 32) ^ c.w ^ k1, (u32)p};
  }
  return c;
}
DEVICE float unit_float(u32 bits) { return ((bits >> 9) + 0.5f) * 1.1920928955078125e-7f; }  // in (0, 1), exact
