// Twins of kernels/growth.py: same names, same argument order, written for one replica (dialect: core/lanes.cuh).
constexpr i32 Z = sizeof(Params::productivity) / sizeof(real), M = sizeof(Params::depreciation) / sizeof(real);
constexpr bool RATE_MOVES = sizeof(Params::depreciation_transition) == sizeof(real) * M * M && M > 1;

DEVICE real utility(const Params &p, real c) { return p.crra == 1 ? log(c) : pow(c, 1 - p.crra) / (1 - p.crra); }

// The steady state of the rate that was drawn.
DEVICE void note_rate(const Params &p, const State &s) {
  const real d = *s.depreciation;
  const real stay = p.log_linear ? p.alpha * p.beta * d / (1 - p.beta * (1 - d)) : p.alpha / (1 / p.beta - 1 + d);
  const real k = pow(stay, 1 / (1 - p.alpha));
  *s.steady_capital = k;
  *s.steady_consumption = pow(k, p.alpha) - (p.log_linear ? k : d * k);
}

// As many levels as have less cumulated probability than the draw.
template <i32 n> DEVICE i32 drawn(const real *row, real u) {
  real below = 0;
  i32 level = 0;
  for (int j = 0; j + 1 < n; ++j) below += row[j], level += u > below;
  return level;
}

// c = (1 - share) resources, and its reward.
DEVICE void consume(const Params &p, const State &s, const Actions &a, const Rewards &r) {
  FOR_LANES(lane, 1) {
    const real y = p.productivity[*s.productivity] * pow(*s.capital, p.alpha), d = *s.depreciation;
    const real there = p.log_linear ? y : y + (1 - d) * *s.capital;
    *s.output = y;
    *s.saved = between(*a.saving, p.least_saving, p.most_saving) * there;
    *s.consumption = there - *s.saved;
    *r.household = utility(p, *s.consumption / *s.steady_consumption) - (p.crra == 1 ? 0 : 1 / (1 - p.crra));
  }
  BARRIER();
}

// Tomorrow's capital.
DEVICE void accumulate(const Params &p, const State &s) {
  FOR_LANES(lane, 1) {
    const real d = *s.depreciation;
    *s.capital = p.log_linear ? pow(*s.capital, 1 - d) * pow(*s.saved, d) : *s.saved;
  }
  BARRIER();
}

// Tomorrow's levels.
DEVICE void move(const Params &p, const State &s, const Shocks &e) {
  FOR_LANES(lane, 1) {
    if (RATE_MOVES) {
      i32 rate = 0;
      for (int j = 1; j < M; ++j)
        if (fabs(*s.depreciation - p.depreciation[j]) < fabs(*s.depreciation - p.depreciation[rate])) rate = j;
      *s.depreciation = p.depreciation[drawn<M>(p.depreciation_transition + rate * M, *e.depreciation)];
      note_rate(p, s);
    }
    *s.productivity = drawn<Z>(p.transition + *s.productivity * Z, *e.productivity);
    *s.tfp = log(p.productivity[*s.productivity]);
  }
  BARRIER();
}

// Produce, share out, enjoy, and meet tomorrow's levels.
DEVICE void step(const Params &p, const State &s, const Actions &a, const Shocks &e, const Rewards &r) {
  consume(p, s, a, r);
  accumulate(p, s);
  move(p, s, e);
}
