// The small dialect in which every twin is written: one block steps one replica, its threads are lanes.
//
//   DEVICE void pay(const Params &p, const State &s) { FOR_LANES(i, F) {...}  BARRIER();  FOR_LANES(j, C) {...} }
//
// Under CUDA these are threads, __syncthreads and __shared__; under a host compiler lanes are one loop (fast) or real threads
// (so that ThreadSanitizer sees a missing BARRIER). Params, State, ... and axis lengths are generated from their Python
// declarations; array fields point at the current replica. No atomics on floats: a sum is taken by one lane, in a fixed order. Integers are
// added by all lanes at once, since their sum does not depend on the order.
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
DEVICE void add(i64 *cell, i64 amount) { atomicAdd((u64 *)cell, (u64)amount); }
DEVICE void add(i32 *cell, i32 amount) { atomicAdd(cell, amount); }
DEVICE void set_bits(u64 *word, u64 bits) { atomicOr(word, bits); }
DEVICE i32 count_bits(u64 word) { return __popcll(word); }
DEVICE i64 bits_of(double x) { return __double_as_longlong(x); }
DEVICE double double_of(i64 bits) { return __longlong_as_double(bits); }
#else
#include "host.h"
#endif
typedef REAL real;

template <class T> struct Only { typedef T type; };  // a bound takes the type of what it bounds
template <class T> DEVICE T at_most(T x, typename Only<T>::type bound) { return x < bound ? x : bound; }
template <class T> DEVICE T at_least(T x, typename Only<T>::type bound) { return x > bound ? x : bound; }
template <class T> DEVICE T between(T x, typename Only<T>::type a, typename Only<T>::type b) { return at_most(at_least(x, a), b); }

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

// Sum of x(0), ..., x(n - 1) by pairs of halves, in the very order of NumPy's: to the last digit the sum of a definition.
template <class Term> DEVICE auto pairwise(int n, Term x) -> decltype(x(0)) {
  decltype(x(0)) left[32];
  int size[32], rest[32], depth = 0, from = 0;
  bool right[32];
  size[0] = n;
  for (;;) {
    for (; size[depth] > 128; ++depth) {
      size[depth + 1] = size[depth] / 2 - size[depth] / 2 % 8;
      rest[depth] = size[depth] - size[depth + 1];
      right[depth] = false;
    }
    const int m = size[depth], whole = m < 8 ? 0 : m - m % 8;
    decltype(x(0)) sum = 0, part[8] = {};
    for (int i = 0; i < whole; i += 8)
      for (int k = 0; k < 8; ++k) part[k] += x(from + i + k);
    if (whole) sum = ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
    for (int i = whole; i < m; ++i) sum += x(from + i);
    from += m;
    for (; depth && right[depth - 1]; --depth) sum = left[depth - 1] + sum;
    if (!depth) return sum;
    left[depth - 1] = sum, right[depth - 1] = true, size[depth] = rest[depth - 1];
  }
}

// The same, taken by one lane when all have come, and known to all. To be called by all lanes, as the following functions.
template <class Term> DEVICE auto sum(int n, Term x) -> decltype(x(0)) {
  SHARED(decltype(x(0)), cell, 1);
  BARRIER();
  FOR_LANES(lane, 1) cell[0] = pairwise(n, x);
  BARRIER();
  return cell[0];
}

// Sum of what the lanes counted, known to all.
DEVICE i64 together(i64 part) {
  SHARED(i64, cell, 1);
  BARRIER();
  FOR_LANES(lane, 1) cell[0] = 0;
  BARRIER();
  add(cell, part);
  BARRIER();
  return cell[0];
}

// Money, the twin of ledger.py: int64 micro-units, each payment rounded once.
constexpr i32 MICRO = 1000000;
constexpr double FINE = 4294967296.0;
template <class T> DEVICE i64 micro(T coins) { return (i64)rint(coins * MICRO); }
template <class T> DEVICE i64 fine(T labor) { return (i64)rint(labor * (T)FINE); }
DEVICE double coins(i64 money) { return (double)money / MICRO; }
DEVICE i64 share(i64 money, double rate) { return (i64)rint((double)money * rate); }
DEVICE i64 floor_share(i64 money, double rate) { return (i64)floor((double)money * rate); }

// Many to one: amounts are added to the cells of their owners 0 .. owners - 1. Few owners are served one after another: adding to a cell
// waits for the last addition to it, adding up does not.
DEVICE void pour(const i64 *amounts, const i32 *owner, int n, i64 *cells, int owners) {
  if (owners <= 8) {
    for (int b = 0; b < owners; ++b) {
      i64 sum = 0;
      FOR_LANES(k, n) sum += owner[k] == b ? amounts[k] : 0;
      add(cells + b, sum);
    }
  } else
    FOR_LANES(k, n) if (owner[k] >= 0) add(cells + owner[k], amounts[k]);
}

// One to many: out_k = round(V c_k) - round(V c_(k-1)), c the prefix share of the weights. One lane sums them into `prefix`, n cells that
// are zero before and after and keep the bits of doubles meanwhile.
template <class Weight> DEVICE void split(i64 total, int n, Weight weight, i64 *out, i64 *prefix) {
  BARRIER();
  FOR_LANES(lane, 1) {
    double sum = 0;
    for (int k = 0; k < n; ++k) prefix[k] = bits_of(sum += weight(k));
  }
  BARRIER();
  const double sum = double_of(prefix[n - 1]), whole = sum > 0 ? sum : 1;
  FOR_LANES(k, n) {
    const i64 start = k ? at_most((i64)rint(double_of(prefix[k - 1]) / whole * (double)total), total) : 0;
    const i64 end = k < n - 1 ? at_most((i64)rint(double_of(prefix[k]) / whole * (double)total), total) : total;
    out[k] = end - start;
  }
  BARRIER();
  FOR_LANES(k, n) prefix[k] = 0;
  BARRIER();
}

// Payments always settle: what is missing on an account becomes a loan; returns the new loan.
DEVICE i64 overdraw(i64 *deposits, i64 *loans) {
  const i64 drawn = at_least(-*deposits, 0);
  *deposits += drawn;
  *loans += drawn;
  return drawn;
}
