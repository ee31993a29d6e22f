// Twins of kernels/growth_vfi.py: same names, same argument order, written for one replica (dialect: core/lanes.cuh).
//
// Choices are looked at again only where they could have changed. A choice beats its neighbours by a margin, and the worth of neighbours
// can have moved apart by no more than `drift` since; so most sweeps only add up, with the very numbers that looking would have given.
#ifdef __CUDACC__
constexpr i32 TILE = 1, WIDE = 1;  // neighbouring threads read neighbouring points
#else
constexpr i32 TILE = 32, WIDE = 8;  // neighbouring points share a test, and fill a vector register
#endif
constexpr i32 TILES = (K + TILE - 1) / TILE, LANES = 128;
constexpr real NEVER = -1e300, ROUNDING = 2.3e-16;

// The largest of what the lanes found, known to all; to be called by all lanes.
DEVICE real largest(real mine) {
  SHARED(real, part, LANES);
  BARRIER();
  FOR_LANES(lane, LANES) part[lane] = mine;
  BARRIER();
  FOR_LANES(lane, 1)
    for (int k = 1; k < LANES; ++k) part[0] = at_least(part[k], part[0]);
  BARRIER();
  return part[0];
}

DEVICE real utility(real crra, real c) { return crra == 1 ? log(c) : pow(c, 1 - crra) / (1 - crra); }

// (1-beta) u(c) of state i at level j with point g, or NEVER where nothing is left to consume.
DEVICE real gain_of(const State &s, i32 j, i32 i, i32 g) {
  if (g < 0 || g >= K) return NEVER;
  const real c = s.resources[j * K + i] - s.price[j * K + i] * s.goods[j * K + g];
  return c > 0 ? (1 - *s.beta) * utility(*s.crra, c) : NEVER;
}
DEVICE real payoff(const State &s, i32 j, i32 i, i32 g) { return gain_of(s, j, i, g) + s.worth[j * K + g]; }
DEVICE bool rises(const State &s, i32 j, i32 i, i32 g) { return g + 1 < K && payoff(s, j, i, g + 1) > payoff(s, j, i, g); }

// The first point from which payoffs do not rise, looked for in growing steps from a guess, then by halves.
DEVICE i32 search(const State &s, i32 j, i32 i, i32 guess) {
  i32 low, high, stride = 1;
  if (rises(s, j, i, guess)) {
    low = guess, high = at_most(guess + 1, K - 1);
    while (rises(s, j, i, high)) low = high, stride *= 2, high = at_most(high + stride, K - 1);
  } else {
    high = guess, low = guess - 1;
    while (low >= 0 && !rises(s, j, i, low)) high = low, stride *= 2, low = at_least(low - stride, -1);
  }
  while (high - low > 1) {
    const i32 middle = (low + high) / 2;
    if (rises(s, j, i, middle)) low = middle;
    else high = middle;
  }
  return high;
}

// A point with the gains there and at its neighbours.
struct Spot { i32 point; real below, here, above; };
DEVICE Spot spot(const State &s, i32 j, i32 i, i32 g) { return {g, gain_of(s, j, i, g - 1), gain_of(s, j, i, g), gain_of(s, j, i, g + 1)}; }

// Moves to the best point, and returns by how much that beats the better of its neighbours.
DEVICE real climb(const State &s, i32 j, i32 i, Spot &at) {
  const real *worth = s.worth + j * K;
  for (int moves = 0;; ++moves) {
    const i32 g = at.point;
    const real here = at.here + worth[g], below = at.below + worth[at_least(g - 1, 0)], above = at.above + worth[at_most(g + 1, K - 1)];
    const bool up = above > here;
    if (!up && (g == 0 || here > below)) return here - at_least(below, above);
    if (moves > 1) at = spot(s, j, i, search(s, j, i, g));
    else if (up) at = {g + 1, at.here, at.above, gain_of(s, j, i, g + 2)};
    else at = {g - 1, gain_of(s, j, i, g - 2), at.below, at.here};
  }
}

// worth_j = beta sum_j' weights_jj' V_j', added up in the order of j'.
DEVICE void expect(const Params &, const State &s) {
  FOR_LANES(tile, J * TILES) {
    const i32 j = tile / TILES, from = tile % TILES * TILE, n = at_most(TILE, K - from);
    real sum[TILE];
    for (int x = 0; x < n; ++x) sum[x] = 0;
    for (int after = 0; after < J; ++after) {
      const real weight = s.weights[j * J + after], *value = s.value + after * K + from;
      if (weight != 0)
        for (int x = 0; x < n; ++x) sum[x] += weight * value[x];
    }
    for (int x = 0; x < n; ++x) s.worth[j * K + from + x] = *s.beta * sum[x];
  }
  BARRIER();
}

// By how much the choices of a tile beat their neighbours: the least margin, not positive if one of them does not.
DEVICE real margin_of(const State &s, i32 j, i32 from, i32 to) {
  const real *worth = s.worth + j * K, *below = s.below + j * K, *gain = s.gain + j * K, *above = s.above + j * K;
  const i32 *choice = s.choice + j * K;
  real margin[TILE];
  for (int x = 0; x < to - from; ++x) {
    const i32 i = from + x, g = choice[i];
    const real under = below[i] + worth[g > 0 ? g - 1 : 0], over = above[i] + worth[g < K - 1 ? g + 1 : K - 1];
    margin[x] = gain[i] + worth[g] - at_least(under, over);
  }
  for (int x = 1; x < to - from; ++x) margin[0] = at_most(margin[x], margin[0]);
  return margin[0];
}

// The point from which the next one is no better.
DEVICE void choose(const Params &, const State &s) {
  i64 moved = 0;
  FOR_LANES(tile, J * TILES) {
    const i32 j = tile / TILES, t = tile % TILES, from = t * TILE, to = at_most(from + TILE, K);
    if (s.drift[j] >= s.due[j * K + t]) {
      real margin = *s.sweeps ? margin_of(s, j, from, to) : 0;
      if (!(margin > 0)) {
        i32 shift = 0;
        margin = 1e300;
        for (int i = from; i < to; ++i) {
          const i32 x = j * K + i, last = s.choice[x];
          const bool known = *s.sweeps && !shift;
          Spot at = known ? Spot{last, s.below[x], s.gain[x], s.above[x]} : spot(s, j, i, between(last + shift, 0, K - 1));
          margin = at_most(climb(s, j, i, at), margin);
          shift = at.point - last, moved += shift != 0;
          s.choice[x] = at.point, s.below[x] = at.below, s.gain[x] = at.here, s.above[x] = at.above;
        }
      }
      s.due[j * K + t] = s.drift[j] + margin;
    }
  }
  moved = together(moved);
  FOR_LANES(lane, 1) *s.moved = moved;
  BARRIER();
}

// V = (1-beta) u(c) + beta E V' at the points chosen.
DEVICE void enjoy(const Params &, const State &s) {
  for (int j = 0; j < J; ++j) {
    const real *worth = s.worth + j * K, *gain = s.gain + j * K;
    const i32 *choice = s.choice + j * K;
    real *value = s.value + j * K, *delta = s.delta + j * K;
    FOR_LANES(i, K) {
      const real fresh = gain[i] + worth[choice[i]];
      delta[i] = fresh - value[i];
      value[i] = fresh;
    }
    BARRIER();
    real fall[WIDE], rise[WIDE], jump[WIDE];
    for (int k = 0; k < WIDE; ++k) fall[k] = -delta[0], rise[k] = delta[0], jump[k] = 0;
    FOR_LANES(part, (K - 1) / WIDE) {
      const real *now = delta + 1 + (K - 1) % WIDE + part * WIDE;
      for (int k = 0; k < WIDE; ++k) {
        fall[k] = at_least(-now[k], fall[k]), rise[k] = at_least(now[k], rise[k]);
        jump[k] = at_least(fabs(now[k] - now[k - 1]), jump[k]);
      }
    }
    FOR_LANES(i, (K - 1) % WIDE) {
      fall[0] = at_least(-delta[i + 1], fall[0]), rise[0] = at_least(delta[i + 1], rise[0]);
      jump[0] = at_least(fabs(delta[i + 1] - delta[i]), jump[0]);
    }
    for (int k = 1; k < WIDE; ++k) {
      fall[0] = at_least(fall[k], fall[0]), rise[0] = at_least(rise[k], rise[0]);
      jump[0] = at_least(jump[k], jump[0]);
    }
    const real low = -largest(fall[0]), high = largest(rise[0]), apart = largest(jump[0]);
    FOR_LANES(lane, 1) s.low[j] = low, s.high[j] = high, s.jump[j] = apart;
  }
  BARRIER();
  FOR_LANES(lane, 1) {
    real change = 0;
    for (int j = 0; j < J; ++j) change = at_least(at_least(s.high[j], -s.low[j]), change);
    *s.change = change;
    ++*s.sweeps;
    for (int j = 0; j < J; ++j) {  // by the triangle inequality, with what rounding adds to four sums of J + 2 numbers
      real apart = 0, size = 0;
      for (int after = 0; after < J; ++after) {
        apart += s.weights[j * J + after] * s.jump[after];
        size += s.weights[j * J + after] * at_least(fabs(s.value[after * K]), fabs(s.value[after * K + K - 1]));
      }
      s.drift[j] += *s.beta * apart + 4 * (J + 2) * ROUNDING * size;
    }
  }
  BARRIER();
}

DEVICE void sweep(const Params &p, const State &s) {
  expect(p, s);
  choose(p, s);
  enjoy(p, s);
}

// Plain sweeps, until the value changes by no more than the tolerance.
DEVICE void sweep_as_published(const Params &p, const State &s) {
  for (int swept = 0; swept < p.most_sweeps && !*s.done; ++swept) {
    sweep(p, s);
    FOR_LANES(lane, 1) *s.done = *s.change <= p.tolerance;
    BARRIER();
  }
}

// Sweeps that solve the mean change of every level exactly.
DEVICE void iterate_policy(const Params &p, const State &s) {
  for (int swept = 0; swept < p.most_sweeps && !*s.done; ++swept) {
    sweep(p, s);
    FOR_LANES(tile, J * TILES) {
      const i32 j = tile / TILES, from = tile % TILES * TILE, n = at_most(TILE, K - from);
      real lift = 0;
      for (int after = 0; after < J; ++after) lift += s.lift[j * J + after] * ((s.low[after] + s.high[after]) / 2);
      for (int i = j * K + from; i < j * K + from + n; ++i) s.value[i] += lift;
    }
    FOR_LANES(lane, 1) {
      real spread = 0;
      for (int j = 0; j < J; ++j) spread = at_least(s.high[j] - s.low[j], spread);
      *s.still = *s.moved ? 0 : *s.still + 1;
      *s.done = *s.still > 1 && spread / 2 * *s.beta / (1 - *s.beta) <= p.tolerance;
    }
    BARRIER();
  }
}
