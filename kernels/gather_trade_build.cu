// Twins of kernels/gather_trade_build.py: same names, same argument order, written for one replica (dialect: core/lanes.cuh). What happens
// to agents one after another is done by one lane; what is seen is written by all. Phases that are no kernels of their own run within step.

static_assert(N <= 253, "maps name agents in one byte");
constexpr i32 BUILD = 0, AUCTION = 1, GATHER = 2, TAX = 3, REDISTRIBUTION = 4, LABOR = 5;
constexpr i32 DO_BUILD = 0, DO_BUY = 1, DO_SELL = 2, DO_MOVE = 5, DO_WORK = 6;  // DO_BUY + 2 g, DO_SELL + 2 g
constexpr i32 LEFT = 1, RIGHT = 2, UP = 3, DOWN = 4;
constexpr i32 HOUSE = 4, WATER = 8, INSIDE = 64;
constexpr i32 SOURCES = 48;  // of stone 16, of wood 32
constexpr i32 MOST_HOURS = 100;
constexpr i32 MODEL = 0, SAEZ = 2;
constexpr i32 ONE_STEP = 5;
constexpr i32 ORDER_STREAM = 0, LUCK_STREAM = 1, REGROWTH_STREAM = 2, RATES_STREAM = 3, PLAY_STREAM = 4, PLANNER_STREAM = 5;
constexpr i32 AGE_BITS = 24, AGENT_BITS = 16;
constexpr i64 NONE = (i64)1 << 62, TAKEN = -1;
constexpr i32 SAMPLES = 500, BINS = 100, FEWEST = 10;
constexpr double SMALL = 1e-9;

DEVICE i32 has(i32 g) { return 1 << g; }
DEVICE i32 source_of(i32 g) { return 16 << g; }
DEVICE i32 tile(i32 row, i32 col) { return (row + O) * D + col + O; }
DEVICE bool has_map(const Params &p) { return p.scenario != ONE_STEP; }
DEVICE bool planner_acts(const Params &p) {
  bool taxed = false;
  for (i32 component : p.order) taxed |= component == TAX;
  return taxed && p.tax_model == MODEL && !p.disable_taxes;
}
DEVICE bool acts(const Params &p, i32 wanted) {
  bool found = false;
  for (i32 component : p.order) found |= component == wanted;
  return found;
}

// The value that belongs to an agent's class.
template <int n> DEVICE real of_class(const real (&values)[n], i32 kind) { return values[kind < n ? kind : n - 1]; }

// Calls use(deed, options) for every sub-space of an action, in order.
template <class Use> DEVICE void each_space(const Params &p, Use use) {
  for (i32 component : p.order) {
    if (component == BUILD) use(DO_BUILD, 1);
    if (component == AUCTION)
      for (int k = 0; k < 4; ++k) use(DO_BUY + k, P);
    if (component == GATHER) use(DO_MOVE, 4);
    if (component == LABOR) use(DO_WORK, MOST_HOURS);
  }
}

// -- draws

// Calls use(k, word) for numbers k < n of a stream.
template <class Use> DEVICE void each_word(const Shocks &e, u32 stream, int n, Use use) {
  const u32 replica = (u32)e.address[0], clock = (u32)e.address[1], k0 = (u32)e.address[2], k1 = (u32)e.address[3];
  FOR_LANES(item, (n + 3) / 4) {
    const u32x4 drawn = philox({replica, (u32)item, clock, stream}, k0, k1);
    const u32 words[4] = {drawn.x, drawn.y, drawn.z, drawn.w};
    for (int k = 0; k < 4; ++k)
      if (4 * item + k < n) use(4 * item + k, words[k]);
  }
}
DEVICE real unit(u32 bits) { return (real)(((bits >> 9) + 0.5) * 1.1920928955078125e-7); }

// All draws of a period from their address.
DEVICE void draw(const Params &p, const State &s, const Shocks &e) {
  SHARED(u32, words, N);
  each_word(e, ORDER_STREAM, N, [=](int k, u32 word) { words[k] = word; });
  each_word(e, LUCK_STREAM, G * N, [=](int k, u32 word) { e.luck[k] = unit(word); });
  const int n = *s.sources;
  each_word(e, REGROWTH_STREAM, n, [=](int k, u32 word) { e.regrowth[k] = unit(word); });
  FOR_LANES(k, M - n) e.regrowth[n + k] = 0;
  each_word(e, RATES_STREAM, K, [=](int k, u32 word) { e.random_rate[k] = unit(word); });
  BARRIER();
  FOR_LANES(lane, 1) {
    for (int i = 0; i < N; ++i) e.order[i] = i;
    for (int i = N - 1; i > 0; --i) {
      const int other = (int)((u64)words[i] * (u64)(i + 1) >> 32);
      const i32 kept = e.order[i];
      e.order[i] = e.order[other];
      e.order[other] = kept;
    }
  }
  BARRIER();
}

// One of the legal options of a head, each as likely.
DEVICE i32 at_random(u32 word, const u8 *mask, int n) {
  i32 legal = 0;
  for (int k = 0; k < n; ++k) legal += mask[k];
  i32 rank = (i32)((u64)word * (u64)legal >> 32), k = 0;
  while (rank >= mask[k]) rank -= mask[k++];
  return k;
}

// Random play: every head takes one of its legal options.
DEVICE void play(const Params &p, const State &s, const Actions &a, const Shocks &e) {
  each_word(e, PLAY_STREAM, N * S, [&](int k, u32 word) {
    const u8 *mask = s.mask + k / S * A;
    int head = 0, size = S > 1 ? 0 : A;
    if (S > 1)
      each_space(p, [&](i32, i32 n) {
        if (head < k % S) mask += 1 + n;
        if (head++ == k % S) size = 1 + n;
      });
    a.action[k] = at_random(word, mask, size);
  });
  each_word(e, PLANNER_STREAM, K, [&](int k, u32 word) { a.rate[k] = at_random(word, s.planner_mask + k * (L + 1), L + 1); });
  BARRIER();
}

// -- what the components do

// The numbers chosen become deeds.
DEVICE void choose(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(lane, 1) *s.period += 1, *s.n_trades = 0, *s.lump_sum = 0;
  FOR_LANES(k, E * X) s.trades[k] = 0;
  FOR_LANES(i, N) {
    s.built[i] = 0, s.tax_paid[i] = 0;
    for (int g = 0; g < G; ++g) s.gathered[i * G + g] = 0;
    for (int j = 0; j < J; ++j) s.doing[i * J + j] = 0;
    int head = 0, start = 0;
    each_space(p, [&](i32 deed, i32 n) {
      const i32 chosen = a.action[i * S + head] - start;
      if (chosen > 0 && chosen <= n) s.doing[i * J + deed] = (short)chosen;
      if (p.multi_action)
        ++head;
      else
        start += n;
    });
  }
  BARRIER();
}

// One wood and one stone become a house on a tile without anything.
DEVICE void build(const Params &p, const State &s) {
  FOR_LANES(i, N) {
    const i32 here = tile(s.row[i], s.col[i]);
    s.built[i] = 0;
    if (s.doing[i * J + DO_BUILD] > 0 && s.goods[i * G] > 0 && s.goods[i * G + 1] > 0 && s.ground[here] == INSIDE) {
      for (int g = 0; g < G; ++g) s.goods[i * G + g] -= 1;
      s.ground[here] |= HOUSE;
      s.owner[here] = (u8)(i + 2);
      s.coin[i] += s.build_payment[i];
      s.labor[i] += of_class(p.build_labor, s.kind[i]);
      s.built[i] = 1;
    }
  }
  BARRIER();
}

// Orders: rank, period, agent (see gather_trade_build_book.py).
DEVICE i64 order_of(i32 rank, i32 period, i32 agent) { return (((i64)rank << AGE_BITS) | period) << AGENT_BITS | agent; }
DEVICE i32 rank_of(i64 order) { return (i32)(order >> (AGE_BITS + AGENT_BITS)); }
DEVICE i32 placed(i64 order) { return (i32)(order >> AGENT_BITS & ((1 << AGE_BITS) - 1)); }
DEVICE i32 agent_of(i64 order) { return (i32)(order & ((1 << AGENT_BITS) - 1)); }

// Put an order into a sorted list.
DEVICE void insert(i64 *orders, i64 order) {
  while (*orders < order) ++orders;
  for (; order != NONE; ++orders) {
    const i64 next = *orders;
    *orders = order;
    order = next;
  }
}

// Close the gaps of orders that are taken.
DEVICE void close_gaps(i64 *orders) {
  int left = 0;
  for (int q = 0; q < Q && orders[q] != NONE; ++q)
    if (orders[q] != TAKEN) orders[left++] = orders[q];
  for (; left < Q && orders[left] != NONE; ++left) orders[left] = NONE;
}

// Agent i offers to buy and to sell a unit; returns whether an order was placed.
DEVICE bool place(const Params &p, const State &s, int g, int i) {
  const int at = g * N + i;
  const i32 bid = s.doing[i * J + DO_BUY + 2 * g] - 1, ask = s.doing[i * J + DO_SELL + 2 * g] - 1;
  bool placed = false;
  if (bid >= 0 && s.open_orders[at] < p.max_orders && s.coin[i] >= bid) {
    s.coin[i] -= bid;
    s.coin_escrow[i] += bid;
    insert(s.bids + g * Q, order_of(p.max_price - bid, *s.period, i));
    s.bid_levels[at * P + bid] += 1;
    s.open_orders[at] += 1;
    s.labor[i] += p.order_labor;
    placed = true;
  }
  if (ask >= 0 && s.open_orders[at] < p.max_orders && s.goods[i * G + g] > 0) {
    s.goods[i * G + g] -= 1;
    s.goods_escrow[i * G + g] += 1;
    insert(s.asks + g * Q, order_of(ask, *s.period, i));
    s.ask_levels[at * P + ask] += 1;
    s.open_orders[at] += 1;
    s.labor[i] += p.order_labor;
    placed = true;
  }
  return placed;
}

// The buyer gets a unit and what he had offered above the price, the seller the price.
DEVICE void settle(const Params &p, const State &s, int g, i64 bid, i64 ask) {
  const i32 buyer = agent_of(bid), seller = agent_of(ask), offered = p.max_price - rank_of(bid), asked = rank_of(ask);
  const i32 price = placed(bid) >= placed(ask) ? asked : offered;
  const int b = g * N + buyer, a = g * N + seller;
  s.bid_levels[b * P + offered] -= 1;
  s.open_orders[b] -= 1;
  s.ask_levels[a * P + asked] -= 1;
  s.open_orders[a] -= 1;
  s.price_history[a * P + price] += 1;
  s.goods_escrow[seller * G + g] -= 1;
  s.goods[buyer * G + g] += 1;
  s.coin_escrow[buyer] -= offered;
  s.coin[seller] += price;
  s.coin[buyer] += offered - price;
  short *event = s.trades + *s.n_trades * X;
  const i32 told[X] = {g, buyer, seller, offered, asked, price, *s.period - placed(bid), *s.period - placed(ask)};
  for (int k = 0; k < X; ++k) event[k] = (short)told[k];
  *s.n_trades += 1;
}

// Each bid in turn, best first, meets the best ask that is not its owner's.
DEVICE void match(const Params &p, const State &s, int g) {
  i64 *bids = s.bids + g * Q, *asks = s.asks + g * Q;
  int first = 0;  // ask that is not taken
  bool traded = false;
  for (int q = 0; q < Q && bids[q] != NONE; ++q) {
    while (first < Q && asks[first] == TAKEN) ++first;
    const i32 offered = p.max_price - rank_of(bids[q]), buyer = agent_of(bids[q]);
    if (first == Q || asks[first] == NONE || offered < rank_of(asks[first])) break;
    int k = first;
    while (k < Q && (asks[k] == TAKEN || (asks[k] != NONE && agent_of(asks[k]) == buyer))) ++k;
    if (k == Q || asks[k] == NONE || offered < rank_of(asks[k])) continue;
    settle(p, s, g, bids[q], asks[k]);
    bids[q] = asks[k] = TAKEN;
    traded = true;
  }
  if (traded) close_gaps(bids), close_gaps(asks);
}

// Orders older than order_duration are taken from the book, and what they had set aside is returned.
DEVICE void expire(const Params &p, const State &s, int g) {
  const i32 oldest = *s.period - p.order_duration;
  if (oldest < 1) return;
  i64 *bids = s.bids + g * Q, *asks = s.asks + g * Q;
  bool gone = false;
  for (int q = 0; q < Q && bids[q] != NONE; ++q)
    if (placed(bids[q]) <= oldest) {
      const i32 i = agent_of(bids[q]), price = p.max_price - rank_of(bids[q]);
      s.coin_escrow[i] -= price;
      s.coin[i] += price;
      s.bid_levels[(g * N + i) * P + price] -= 1;
      s.open_orders[g * N + i] -= 1;
      bids[q] = TAKEN;
      gone = true;
    }
  if (gone) close_gaps(bids);
  gone = false;
  for (int q = 0; q < Q && asks[q] != NONE; ++q)
    if (placed(asks[q]) <= oldest) {
      const i32 i = agent_of(asks[q]), price = rank_of(asks[q]);
      s.goods_escrow[i * G + g] -= 1;
      s.goods[i * G + g] += 1;
      s.ask_levels[(g * N + i) * P + price] -= 1;
      s.open_orders[g * N + i] -= 1;
      asks[q] = TAKEN;
      gone = true;
    }
  if (gone) close_gaps(asks);
}

// The auction.
DEVICE void trade(const Params &p, const State &s) {
  FOR_LANES(k, G * N * P) s.price_history[k] *= (real)0.995;
  BARRIER();
  FOR_LANES(lane, 1) {
    bool placed[G];
    for (int g = 0; g < G; ++g) {
      placed[g] = false;
      for (int i = 0; i < N; ++i) placed[g] |= place(p, s, g, i);
    }
    for (int g = 0; g < G; ++g) {
      if (placed[g]) match(p, s, g);  // a book without a new order crosses nowhere except against its owner
      expire(p, s, g);
    }
  }
  BARRIER();
}

// Whether an agent may enter a tile.
DEVICE bool enterable(const State &s, i32 there, i32 i) {
  return (s.ground[there] & (INSIDE | WATER)) == INSIDE && s.occupant[there] == 0 && (s.owner[there] == 0 || s.owner[there] == i + 2);
}

// One agent after another moves if its target is free and collects a unit of what lies where it stands.
DEVICE void gather(const Params &p, const State &s, const Shocks &e) {
  FOR_LANES(lane, 1) for (int k = 0; k < N; ++k) {
    const i32 i = e.order[k], chosen = s.doing[i * J + DO_MOVE];
    const i32 row = s.row[i] + (chosen == DOWN) - (chosen == UP), col = s.col[i] + (chosen == RIGHT) - (chosen == LEFT);
    i32 here = tile(s.row[i], s.col[i]);
    if (chosen > 0 && enterable(s, tile(row, col), i)) {
      s.occupant[here] = 0;
      s.row[i] = (short)row, s.col[i] = (short)col;
      here = tile(row, col);
      s.labor[i] += of_class(p.move_labor, s.kind[i]);
    }
    s.occupant[here] = (u8)(i + 2);
    for (int g = 0; g < G; ++g) {
      const bool found = s.ground[here] & has(g);
      const i32 n = found ? 1 + (e.luck[i * G + g] < s.bonus[i]) : 0;
      s.gathered[i * G + g] = (short)n;
      if (found) {
        s.goods[i * G + g] += (short)n;
        s.units[here] -= 1;
        if (s.units[here] == 0) s.ground[here] &= (u8)~has(g);
        s.labor[i] += of_class(p.collect_labor, s.kind[i]);
      }
    }
  }
  BARRIER();
}

// Hours earn coins by skill.
DEVICE void work(const Params &p, const State &s) {
  FOR_LANES(i, N) {
    const i32 hours = s.doing[i * J + DO_WORK];
    if (hours > 0) s.labor[i] = hours;
    s.production[i] += hours * s.skill[i];
    s.coin[i] += hours * s.skill[i];
  }
  BARRIER();
}

// Everybody owns the same.
DEVICE void redistribute(const Params &p, const State &s) {
  FOR_LANES(lane, 1) {
    real total = 0;
    for (int i = 0; i < N; ++i) total += s.coin[i] + s.coin_escrow[i];
    for (int i = 0; i < N; ++i) s.coin[i] = total / N - s.coin_escrow[i];
  }
  BARRIER();
}

// -- taxes (see gather_trade_build_taxes.py)

// Number of an income's bracket.
DEVICE i32 bracket(const State &s, real income) {
  i32 place = 0;
  for (int k = 1; k < K; ++k) place += income >= s.cutoffs[k];
  return place;
}
DEVICE real marginal(const State &s, real income) { return income >= 0 ? s.rates[bracket(s, income)] : 0; }

// Tax on an income.
DEVICE real due(const State &s, real income) {
  real total = 0;
  for (int k = 0; k < K; ++k) {
    real part = at_least(income - s.cutoffs[k], 0);
    if (k + 1 < K) part = at_most(part, s.cutoffs[k + 1] - s.cutoffs[k]);
    total += s.rates[k] * part;
  }
  return total;
}

// Calls use(income, rate) for every sample from which the Saez formula computes. The pools of all replicas lie one after the other.
template <class Use> DEVICE void each_sample(const Params &p, const State &s, Use use) {
  if (p.saez_shared)
    for (i64 b = -*s.place; b < *s.sharing - *s.place; ++b)
      for (int k = 0; k < at_most(s.pool_samples[b], SAMPLES); ++k) use(s.pool_income[b * POOL + k], s.pool_rate[b * POOL + k]);
  for (int k = at_least(*s.samples - W, p.saez_shared ? *s.pool_samples : 0); k < *s.samples; ++k)
    use(s.sample_income[k % W], s.sample_rate[k % W]);
}

// Elasticity of taxable income over the samples, smoothed.
DEVICE double estimate(const Params &p, const State &s, double before) {
  int n = 0;
  double x_mean = 0, y_mean = 0, rate_mean = 0, rate_var = 0, xy = 0, xx = 0;
  each_sample(p, s, [&](double income, double rate) {
    if (income > 0 && rate < 1) ++n, x_mean += log(1 - rate), y_mean += log(income), rate_mean += rate;
  });
  if (n < FEWEST) return before;
  x_mean /= n, y_mean /= n, rate_mean /= n;
  each_sample(p, s, [&](double income, double rate) {
    if (income <= 0 || rate >= 1) return;
    const double x = log(1 - rate) - x_mean, y = log(income) - y_mean;
    xy += x * y, xx += x * x, rate_var += (rate - rate_mean) * (rate - rate_mean);
  });
  if (sqrt(rate_var / n) < 1e-6) return before;
  return (1 - 0.98) * at_least(xy / xx, 0) + 0.98 * before;
}

DEVICE double pareto_weight(const Params &p, double income) { return p.saez_weights == 0 ? 1 / at_least(income, 1) : 1; }

// Tax on an income under a schedule of equal bins.
DEVICE double binned_due(const double *tau, double width, double income) {
  double total = 0;
  for (int k = 0; k < BINS; ++k) total += tau[k] * between(income - k * width, 0, (k + 1) * width - k * width);
  return total;
}

// Bracket rates by the formula of Saez, from n samples.
DEVICE void saez(const Params &p, const State &s, int n, double elasticity, double *rate) {
  SHARED(double, share, BINS + 1);
  SHARED(double, mass, BINS + 1);
  SHARED(double, tau, BINS + 1);
  const double top = s.cutoffs[K - 1], width = top / BINS;
  for (int k = 0; k <= BINS; ++k) share[k] = mass[k] = 0;
  double below = 0, below_mass = 0, above_sum = 0;
  each_sample(p, s, [&](double z, double) {
    if (z < 0) {
      below += 1, below_mass += pareto_weight(p, 0);
    } else if (z >= top) {
      share[BINS] += 1, mass[BINS] += pareto_weight(p, z), above_sum += z;
    } else {
      int k = at_most((int)(z / width), BINS - 1);
      while (k > 0 && z < k * width) --k;
      while (k < BINS - 1 && z >= (k + 1) * width) ++k;
      share[k] += 1;
    }
  });
  double total = mass[BINS] + below_mass;
  for (int k = 0; k < BINS; ++k) {
    const double right = k + 1 < BINS ? (k + 1) * width : top;
    mass[k] = share[k] * pareto_weight(p, (right + k * width) / 2);
    total += mass[k];
  }
  double mass_above = mass[BINS] / (total + SMALL), share_above = share[BINS] / n;
  const double g_top = mass_above / (share_above + SMALL), mean = share[BINS] ? above_sum / share[BINS] : 0;
  const double a_top = share[BINS] ? mean / (mean - top + SMALL) : 0;
  tau[BINS] = (1 - g_top) / (1 - g_top + a_top * elasticity + SMALL);
  double right_weight = g_top;
  for (int k = BINS - 1; k >= 0; --k) {  // tau keeps g until the next loop
    mass_above += mass[k] / (total + SMALL), share_above += share[k] / n;
    const double left_weight = mass_above / (share_above + SMALL);
    tau[k] = (left_weight + right_weight) / 2;
    right_weight = left_weight;
  }
  double cumulated = below / n, last = 0;
  int last_at = -1;
  for (int k = 0; k <= BINS; ++k) {
    if (k < BINS) {
      const double here = share[k] / n, right = k + 1 < BINS ? (k + 1) * width : top;
      cumulated += here;
      if (share[k] == 0) continue;
      const double a = (right + k * width) / 2 * here / (between(1 - cumulated + 0.5 * here, 0, 1) + SMALL) / width;
      tau[k] = (1 - tau[k]) / (1 - tau[k] + a * elasticity + SMALL);
    }
    for (int j = last_at + 1; j < k; ++j) tau[j] = last + (tau[k] - last) * (j - last_at) / (k - last_at);
    last = tau[k], last_at = k;
  }
  double left = 0;
  for (int k = 0; k + 1 < K; ++k) {
    const double right = binned_due(tau, width, s.cutoffs[k + 1]);
    rate[k] = (right - left) / ((double)s.cutoffs[k + 1] - (double)s.cutoffs[k]);
    left = right;
  }
  rate[K - 1] = tau[BINS];
}

// The first day of a tax year.
DEVICE void set_rates(const Params &p, const State &s, const Actions &a, const Shocks &e) {
  if (p.tax_model == MODEL && !p.disable_taxes)
    for (int k = 0; k < K; ++k) {
      if (a.rate[k] > 0 && a.rate[k] <= L) s.rate_index[k] = a.rate[k] - 1;
      s.rates[k] = s.rate_levels[s.rate_index[k]];
    }
  if (p.tax_model == SAEZ && !p.disable_taxes) {
    const double limit = *s.rate_limit;
    int n = 0;
    each_sample(p, s, [&](double, double) { ++n; });
    if (n < SAMPLES) {
      for (int k = 0; k < K; ++k) s.rates[k] = (real)(p.rate_min + (limit - p.rate_min) * e.random_rate[k]);
    } else {
      double rate[K];
      *s.elasticity = (real)estimate(p, s, *s.elasticity);
      saez(p, s, n, p.saez_elasticity < 0 ? *s.elasticity : p.saez_elasticity, rate);
      for (int k = 0; k < K; ++k) {
        s.rates[k] = (real)at_most(at_least(rate[k], p.rate_min), limit);
        s.mean_rates[k] = (real)0.99 * s.mean_rates[k] + (real)(1 - 0.99) * s.rates[k];
      }
    }
  }
  for (int k = 0; k < K; ++k) s.posted_rates[k] = s.rates[k];
}

// Incomes of the year are taxed, all revenue comes back in equal parts.
DEVICE void enact(const Params &p, const State &s) {
  real total = 0;
  for (int i = 0; i < N; ++i) {
    const real income = s.coin[i] + s.coin_escrow[i] - s.last_coin[i], paid = at_most(s.coin[i], due(s, income));
    s.last_income[i] = income;
    s.last_marginal[i] = marginal(s, income);
    s.last_effective[i] = paid / at_least(income, (real)1e-6);
    s.total_income[i] += at_least(income, 0);
    s.total_paid[i] += paid;
    s.tax_paid[i] = paid;
    s.coin[i] -= paid;
    s.occupancy[bracket(s, income)] += 1;
    total += paid;
    if (p.tax_model == SAEZ) {
      const int at = *s.samples % W;
      s.sample_income[at] = income;
      s.sample_rate[at] = s.last_marginal[i];
      *s.samples += 1;
    }
  }
  *s.collected += total;
  *s.lump_sum = total / N;
  for (int i = 0; i < N; ++i) {
    s.coin[i] += *s.lump_sum;
    s.last_coin[i] = s.coin[i] + s.coin_escrow[i];
  }
}

// On the first day of a tax year rates are set, on its last day incomes are taxed.
DEVICE void tax(const Params &p, const State &s, const Actions &a, const Shocks &e) {
  FOR_LANES(lane, 1) {
    if (*s.tax_day == 1) set_rates(p, s, a, e);
    if (*s.tax_day >= p.tax_period) {
      enact(p, s);
      *s.tax_day = 0;
    }
    *s.tax_day += 1;
  }
  BARRIER();
}

// -- the map and what it is worth

// Live resources and sources of a kind around a tile.
DEVICE i32 alive_near(const State &s, i32 there, i32 g, i32 half) {
  i32 near = 0;
  for (int down = -half; down <= half; ++down)
    for (int right = -half; right <= half; ++right) {
      const i32 at = there + down * D + right;
      if (s.ground[at] & source_of(g)) near += at_least((i32)s.units[at], 1);
    }
  return near;
}

// A source gains a unit with a chance that grows with the resources around it.
DEVICE void regrow(const Params &p, const State &s, const Shocks &e) {
  SHARED(u8, gains, M);
  const i32 half[G] = {p.halfwidth_stone, p.halfwidth_wood}, most[G] = {p.most_stone, p.most_wood};
  const double weight[G] = {p.regrowth_stone / (double)((1 + 2 * half[0]) * (1 + 2 * half[0])),
                            p.regrowth_wood / (double)((1 + 2 * half[1]) * (1 + 2 * half[1]))};
  FOR_LANES(k, *s.sources) {
    const i32 there = s.source[k], ground = s.ground[there], g = ground & source_of(0) ? 0 : 1;
    const bool full = ground & has(g) && (most[g] == 1 || s.units[there] >= most[g]);
    gains[k] = !full && e.regrowth[k] < weight[g] * alive_near(s, there, g, half[g]);
  }
  BARRIER();
  FOR_LANES(k, *s.sources) if (gains[k]) {
    const i32 there = s.source[k];
    s.units[there] += 1;
    s.ground[there] |= (u8)((s.ground[there] & SOURCES) >> 4);
  }
  BARRIER();
}

// 1 less the Gini coefficient over its largest value.
DEVICE real equality(const real *coin) {
  real total = 0, apart = 0;
  for (int i = 0; i < N; ++i) total += coin[i];
  if (N >= 30) {
    real sorted[N], part = 0;
    for (int i = 0; i < N; ++i) {
      int k = i;
      for (; k > 0 && sorted[k - 1] > coin[i]; --k) sorted[k] = sorted[k - 1];
      sorted[k] = coin[i];
    }
    for (int i = 0; i < N; ++i) part += sorted[i], apart += part / (total + (real)1e-10);
    return 1 - (1 - (real)(2.0 / (N + 1)) * apart);
  }
  for (int j = 0; j < N; ++j) {
    real from = 0;
    for (int i = 0; i < N; ++i) from += coin[i] > coin[j] ? coin[i] - coin[j] : coin[j] - coin[i];
    apart += from;
  }
  return 1 - apart / (2 * N * total + (real)1e-10) / (real)((N - 1) / (double)N);
}

// Utility of every agent, and the planner's goal.
DEVICE void value(const Params &p, const State &s) {
  SHARED(real, coin, N);
  FOR_LANES(i, N) {
    coin[i] = s.coin[i] + s.coin_escrow[i];
    const double held = coin[i], eta = of_class(p.crra, s.kind[i]);
    if (has_map(p) || p.agent_goal == 1) {
      const double enjoyed = eta == 1 ? log(at_least(held, 1)) : (pow(held, 1 - eta) - 1) / (1 - eta);
      const real cost = has_map(p) ? p.energy_cost * *s.energy_weight : p.labor_cost;
      s.utility[i] = (real)(enjoyed - cost * s.labor[i]);
    } else
      s.utility[i] = coin[i] - p.labor_cost * pow(s.labor[i], p.labor_exponent);
  }
  BARRIER();
  FOR_LANES(lane, 1) {
    if (p.planner_goal == 0) {
      real total = 0;
      for (int i = 0; i < N; ++i) total += coin[i];
      *s.welfare = (p.equality_weight * equality(coin) + 1 - p.equality_weight) * (total / N);
    } else {
      real weights = 0, sum = 0;
      for (int i = 0; i < N; ++i) weights += 1 / at_least(has_map(p) ? coin[i] : s.production[i], 1);
      for (int i = 0; i < N; ++i)
        sum += 1 / at_least(has_map(p) ? coin[i] : s.production[i], 1) / weights * (p.planner_goal == 1 ? coin[i] : s.utility[i]);
      *s.welfare = sum;
    }
  }
  BARRIER();
}

// Rewards are changes of utility and welfare.
DEVICE void reward(const Params &p, const State &s, const Rewards &r) {
  FOR_LANES(i, N) r.mobile[i] = s.utility[i];
  FOR_LANES(lane, 1) *r.planner = *s.welfare;
  BARRIER();
  value(p, s);
  FOR_LANES(i, N) r.mobile[i] = s.utility[i] - r.mobile[i];
  BARRIER();
  FOR_LANES(lane, 1) {
    *r.planner = *s.welfare - *r.planner;
    real total = 0;
    for (int i = 0; i < N; ++i) total += r.mobile[i];
    *s.rewarding += total > (real)1e-5;
    const i32 done = p.warmup_method == 0 ? *s.episodes : *s.rewarding;
    if (p.energy_warmup != 0) *s.energy_weight = (real)(1 - exp(-done / (double)p.energy_warmup));
  }
  BARRIER();
}

// -- what is seen (see gather_trade_build_views.py)

// Numbers of one vector, written one after the other.
struct Pen {
  float *at;
  MEMBER void put(real x) { *at++ = (float)x; }
  MEMBER void put_exact(double x) { *at++ = (float)x; }
  template <class X> MEMBER void put_all(const X *x, int n) {
    for (int k = 0; k < n; ++k) at[k] = (float)x[k];
    at += n;
  }
};

// What all agents know of the market and of taxes.
struct Common {
  i32 *asks, *bids;  // [G][P] open orders by level
  float *history;    // [G][P]
  float *market_rate;  // [G]
  float *incomes;      // [N] ascending
};

// Rates, the two special days, last incomes.
DEVICE void put_taxes(Pen &pen, const Params &p, const State &s, const Common &c) {
  pen.put_all(s.posted_rates, K);
  pen.put(*s.tax_day == 1);
  pen.put(*s.tax_day >= p.tax_period);
  pen.put_all(c.incomes, N);
}
DEVICE void put_phase(Pen &pen, const Params &p, const State &s) { pen.put_exact(*s.tax_day / (double)p.tax_period); }
DEVICE void put_time(Pen &pen, const Params &p, const State &s) {
  pen.put_exact(p.scaled_view ? *s.period / (double)p.horizon : *s.period);
}
DEVICE void put_stock(Pen &pen, const Params &p, const State &s, int i) {
  pen.put(s.coin[i] * (p.scaled_view ? (real)0.01 : (real)1));
  for (int g = 0; g < G; ++g) pen.put_exact(s.goods[i * G + g] * (p.scaled_view ? 0.01 : 1.0));
}
DEVICE void put_place(Pen &pen, const Params &p, const State &s, int i) {
  pen.put_exact(s.col[i] / (double)p.width);
  pen.put_exact(s.row[i] / (double)p.height);
}
DEVICE real marginal_now(const State &s, int i) { return marginal(s, s.coin[i] + s.coin_escrow[i] - s.last_coin[i]); }

// Prices, orders and incomes that all see.
DEVICE void sum_up(const Params &p, const State &s, const Common &c) {
  FOR_LANES(k, G * P) {
    const int g = k / P, level = k % P;
    i32 asks = 0, bids = 0;
    real sales = 0;
    for (int i = 0; i < N; ++i) {
      const int at = (g * N + i) * P + level;
      asks += s.ask_levels[at], bids += s.bid_levels[at], sales += s.price_history[at];
    }
    c.asks[k] = asks, c.bids[k] = bids;
    c.history[k] = (float)(sales * (p.scaled_view ? (real)0.01 : (real)1));
  }
  FOR_LANES(g, G) {
    real value = 0, weight = 0;
    for (int level = 0; level < P; ++level) {
      real sales = 0;
      for (int i = 0; i < N; ++i) sales += s.price_history[(g * N + i) * P + level];
      value += level * sales, weight += sales;
    }
    c.market_rate[g] = (float)(value / at_least(weight, (real)0.001));
  }
  FOR_LANES(lane, 1) for (int i = 0; i < N; ++i) {
    const float income = (float)(s.last_income[i] / p.tax_period);
    int k = i;
    for (; k > 0 && c.incomes[k - 1] > income; --k) c.incomes[k] = c.incomes[k - 1];
    c.incomes[k] = income;
  }
  BARRIER();
}

// The flat vectors of agents and planner.
DEVICE void write_flat(const Params &p, const State &s) {
  SHARED(i32, asks, G * P);
  SHARED(i32, bids, G * P);
  SHARED(float, history, G * P);
  SHARED(float, market_rate, G);
  SHARED(float, incomes, N);
  SHARED(real, held, N);
  const Common c = {asks, bids, history, market_rate, incomes};
  const bool builds = acts(p, BUILD), trades = acts(p, AUCTION), gathers = acts(p, GATHER), taxes = acts(p, TAX), works = acts(p, LABOR);
  sum_up(p, s, c);
  FOR_LANES(i, N) {
    Pen pen = {s.flat + i * F};
    if (builds) pen.put(s.build_payment[i] / p.build_payment), pen.put(s.build_skill[i]);
    if (trades) {
      for (int g = 0; g < G; ++g)
        for (int k = 0; k < P; ++k) pen.at[g * P + k] = (float)(asks[g * P + k] - s.ask_levels[(g * N + i) * P + k]);
      pen.at += G * P;
      for (int g = 0; g < G; ++g)
        for (int k = 0; k < P; ++k) pen.at[g * P + k] = (float)(bids[g * P + k] - s.bid_levels[(g * N + i) * P + k]);
      pen.at += G * P;
      pen.put_all(market_rate, G);
      for (int g = 0; g < G; ++g) pen.put_all(s.ask_levels + (g * N + i) * P, P);
      for (int g = 0; g < G; ++g) pen.put_all(s.bid_levels + (g * N + i) * P, P);
      pen.put_all(history, G * P);
    }
    if (gathers) pen.put(s.bonus[i]);
    if (taxes) {
      put_taxes(pen, p, s, c);
      pen.put(marginal_now(s, i));
      put_phase(pen, p, s);
    }
    if (works) pen.put(s.skill[i] / p.labor_skill_cap);
    put_time(pen, p, s);
    if (has_map(p)) put_stock(pen, p, s, i);
    if (has_map(p) && !p.full_view) put_place(pen, p, s, i);
    pen.at = s.of_agents + i * I;
    if (taxes) pen.put(marginal_now(s, i)), pen.put(s.last_income[i] / p.tax_period), pen.put(s.last_marginal[i]);
    if (has_map(p) && !p.full_view) put_stock(pen, p, s, i);
    if (has_map(p) && !p.full_view && p.planner_sees_map) put_place(pen, p, s, i);
    held[i] = s.coin[i] + s.coin_escrow[i];
  }
  BARRIER();
  FOR_LANES(lane, 1) {
    Pen pen = {s.planner_flat};
    if (trades) {
      pen.put_all(asks, G * P);
      pen.put_all(bids, G * P);
      pen.put_all(market_rate, G);
      pen.put_all(history, G * P);
    }
    if (taxes) put_taxes(pen, p, s, c), put_phase(pen, p, s);
    put_time(pen, p, s);
    if (has_map(p)) {
      for (int k = 0; k < 3; ++k) pen.put(0);
    } else {
      real total = 0;
      for (int i = 0; i < N; ++i) total += held[i];
      pen.put(equality(held));
      pen.put(total / N / 1000);
    }
  }
  BARRIER();
}

// What each agent sees of ground, owners and agents: 1 for oneself, j + 2 for agent j.
DEVICE void write_windows(const Params &p, const State &s) {
  const u8 *layers[3] = {s.ground, s.owner, s.occupant};
  for (int i = 0; i < N; ++i) {
    u8 *view = s.view + i * Y * V;
    if (p.full_view) {
      FOR_LANES(k, 3 * ROWS) memcpy(view + k / ROWS * V + k % ROWS * COLUMNS, layers[k / ROWS] + tile(k % ROWS, 0), COLUMNS);
    } else {
      const i32 start = tile(s.row[i] - p.view_range, s.col[i] - p.view_range);
      FOR_LANES(k, 3 * Z) memcpy(view + k / Z * V + k % Z * Z, layers[k / Z] + start + k % Z * D, Z);
    }
  }
  if (p.planner_sees_map)
    FOR_LANES(k, 3 * ROWS) memcpy(s.planner_view + k / ROWS * MAP + k % ROWS * COLUMNS, layers[k / ROWS] + tile(k % ROWS, 0), COLUMNS);
  BARRIER();
  for (int i = 0; i < N; ++i) {
    u8 *owners = s.view + (i * Y + 1) * V;
    const u8 self = (u8)(i + 2);
    FOR_LANES(k, V) owners[k] = owners[k] == self ? 1 : owners[k];
  }
  FOR_LANES(i, N) s.view[(i * Y + 2) * V + (p.full_view ? s.row[i] * COLUMNS + s.col[i] : V / 2)] = 1;
  BARRIER();
}

// What each agent may do next.
DEVICE void permit(const Params &p, const State &s) {
  FOR_LANES(i, N) {
    u8 *mask = s.mask + i * A;
    if (!p.multi_action) *mask++ = 1;
    const i32 here = tile(s.row[i], s.col[i]);
    each_space(p, [&](i32 deed, i32 n) {
      if (p.multi_action) *mask++ = 1;
      if (deed == DO_BUILD)
        *mask = s.goods[i * G] > 0 && s.goods[i * G + 1] > 0 && s.ground[here] == INSIDE;
      else if (deed == DO_MOVE) {
        mask[0] = enterable(s, here - 1, i);
        mask[1] = enterable(s, here + 1, i);
        mask[2] = enterable(s, here - D, i);
        mask[3] = enterable(s, here + D, i);
      } else if (deed == DO_WORK) {
        for (int k = 0; k < MOST_HOURS; ++k) mask[k] = *s.period > 0 || !p.mask_first_step;
      } else {
        const int g = (deed - DO_BUY) / 2;
        const bool room = s.open_orders[g * N + i] < p.max_orders;
        if ((deed - DO_BUY) % 2 == 0)
          for (int k = 0; k < P; ++k) mask[k] = room && k <= s.coin[i];
        else
          for (int k = 0; k < P; ++k) mask[k] = room && s.goods[i * G + g] > 0;
      }
      mask += n;
    });
  }
  const bool sets = planner_acts(p) && *s.tax_day == 1;
  FOR_LANES(k, K) {
    u8 *mask = s.planner_mask + k * (L + 1);
    mask[0] = 1;
    for (int level = 0; level < L; ++level) mask[1 + level] = sets && s.rate_levels[level] <= *s.rate_limit;
  }
  BARRIER();
}

// What everybody sees and may do next.
DEVICE void observe(const Params &p, const State &s) {
  write_flat(p, s);
  if (has_map(p)) write_windows(p, s);
  permit(p, s);
}

// One period: components in their order, then regrowth, rewards, and what is seen next.
DEVICE void step(const Params &p, const State &s, const Actions &a, const Shocks &e, const Rewards &r) {
  choose(p, s, a);
  for (i32 component : p.order) {
    if (component == BUILD) build(p, s);
    if (component == AUCTION) trade(p, s);
    if (component == GATHER) gather(p, s, e);
    if (component == TAX) tax(p, s, a, e);
    if (component == REDISTRIBUTION) redistribute(p, s);
    if (component == LABOR) work(p, s);
  }
  regrow(p, s, e);
  reward(p, s, r);
  observe(p, s);
}
