// lanes.cuh for a host compiler: replicas run one after another; lanes are one loop, or real threads with -DTHREADS.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
typedef uint8_t u8;
typedef int32_t i32;
typedef int64_t i64;
typedef uint32_t u32;
typedef uint64_t u64;
using std::ceil; using std::cos; using std::exp; using std::floor; using std::log; using std::pow; using std::rint; using std::sqrt;
#define DEVICE static inline
#define MEMBER inline
#ifdef THREADS
#include <pthread.h>
#include <thread>
#include <vector>
inline thread_local int lane_ = 0;
inline int lanes_ = 1;
inline thread_local int turn_ = 0;
inline pthread_barrier_t barrier_[2];  // in turn: a late lane must not see, to ThreadSanitizer, what an early one does after it
#define FOR_LANES(i, n) for (int i = lane_; i < (n); i += lanes_)
#define BARRIER() pthread_barrier_wait(&barrier_[turn_ ^= 1])
#define SHARED(type, name, n) static type name[n]
template <class T> inline void add_(T *cell, T amount) { __atomic_fetch_add(cell, amount, __ATOMIC_RELAXED); }
DEVICE void set_bits(u64 *word, u64 bits) { __atomic_fetch_or(word, bits, __ATOMIC_RELAXED); }
template <class F> void run(int replicas, int lanes, F step) {
  lanes_ = lanes;
  for (auto &barrier : barrier_) pthread_barrier_init(&barrier, nullptr, lanes);
  std::vector<std::thread> threads;
  for (int lane = 0; lane < lanes; ++lane)
    threads.emplace_back([=] {
      lane_ = lane;
      for (int replica = 0; replica < replicas; ++replica) { step(replica); BARRIER(); }
    });
  for (auto &thread : threads) thread.join();
  for (auto &barrier : barrier_) pthread_barrier_destroy(&barrier);
}
#else
#define FOR_LANES(i, n) for (int i = 0; i < (n); ++i)
#define BARRIER()
#define SHARED(type, name, n) static thread_local type name[n]
template <class T> inline void add_(T *cell, T amount) { *cell += amount; }
DEVICE void set_bits(u64 *word, u64 bits) { *word |= bits; }
template <class F> void run(int replicas, int, F step) { for (int replica = 0; replica < replicas; ++replica) step(replica); }
#endif
DEVICE void add(i64 *cell, i64 amount) { add_(cell, amount); }
DEVICE void add(i32 *cell, i32 amount) { add_(cell, amount); }
DEVICE i32 count_bits(u64 word) { return __builtin_popcountll(word); }
DEVICE i64 bits_of(double x) { i64 bits; std::memcpy(&bits, &x, sizeof x); return bits; }
DEVICE double double_of(i64 bits) { double x; std::memcpy(&x, &bits, sizeof x); return x; }
