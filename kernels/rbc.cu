// Twins of kernels/rbc.py: same names, same argument order, written for one replica (dialect: core/lanes.cuh).

// Baskets shrink to what their buyers can pay.
DEVICE void afford(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(j, C) {
    const real *want = a.demand + j * F;
    real cost = 0;
    for (int i = 0; i < F; ++i) cost += want[i] * s.price[i];
    real share = cost > 0 && cost > s.budget[j] ? s.budget[j] / cost : 1;
    if (p.clamp_budget) share = at_least(share, 0);
    for (int i = 0; i < F; ++i) s.basket[j * F + i] = want[i] * share;
  }
  BARRIER();
  FOR_LANES(i, F) {
    real demand = 0;
    for (int j = 0; j < C; ++j) demand += s.basket[j * F + i];
    s.demand[i] = demand;
  }
  BARRIER();
}

// Everybody who comes is hired.
DEVICE void hire(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(i, F) {
    real labor = 0;
    for (int j = 0; j < C; ++j) labor += a.employer[j] == i ? a.hours[j] : 0;
    s.labor[i] = labor;
    s.wage_bill[i] = labor * s.wage[i];
  }
  FOR_LANES(j, C) s.income[j] = (1 - *s.income_tax) * s.wage[a.employer[j]] * a.hours[j];
  BARRIER();
}

// A short good is shared in proportion to demand.
DEVICE void deliver(const Params &p, const State &s) {
  SHARED(real, fill, F);
  FOR_LANES(i, F) {
    bool lacking = s.demand[i] > 0 && s.demand[i] > s.inventory[i];
    fill[i] = lacking ? s.inventory[i] / s.demand[i] : 1;
    s.rationed[i] = lacking;
  }
  BARRIER();
  FOR_LANES(j, C) {
    real spending = 0;
    for (int i = 0; i < F; ++i) {
      real got = s.basket[j * F + i] * fill[i];
      s.bought[j * F + i] = got;
      spending += got * s.price[i];
    }
    s.spending[j] = spending;
  }
  BARRIER();
  FOR_LANES(i, F) {
    real sold = 0;
    for (int j = 0; j < C; ++j) sold += s.bought[j * F + i];
    s.sold[i] = sold;
  }
  BARRIER();
}

// The rest of the world buys what is left, at most the quota.
DEVICE void sell_abroad(const Params &p, const State &s) {
  FOR_LANES(i, F) {
    real wanted = p.open_economy && s.price[i] >= p.export_price ? p.export_quota : 0;
    s.exported[i] = at_most(at_least(s.inventory[i] - s.sold[i], 0), wanted);
    s.revenue[i] = (s.sold[i] + s.exported[i]) * s.price[i];
  }
  BARRIER();
}

// Output goes on the shelf.
DEVICE void produce(const Params &p, const State &s) {
  FOR_LANES(i, F) {
    real labor = s.labor[i] < p.labor_floor ? 0 : s.labor[i];
    s.produced[i] = p.productivity * exp(*s.tfp) * pow(s.capital[i], 1 - s.labor_share[i]) * pow(labor, s.labor_share[i]);
    s.inventory[i] += s.produced[i] - s.sold[i] - s.exported[i];
  }
  BARRIER();
}

// A positive surplus is invested in part; the rest is profit, taxed if positive.
DEVICE void settle_firms(const Params &p, const State &s, const Rewards &r) {
  SHARED(real, tax, F);
  SHARED(real, interest, F);
  FOR_LANES(i, F) {
    real surplus = s.revenue[i] - s.wage_bill[i];
    s.invested[i] = at_least(p.investment_share * surplus, 0);
    s.profit[i] = surplus - s.invested[i];
    tax[i] = *s.corporate_tax * at_least(s.profit[i], 0);
    r.firm[i] = s.profit[i] - tax[i];
    s.firm_budget[i] += r.firm[i];
    r.firm[i] += s.firm_budget[i] > 0 ? p.boost * s.revenue[i] : 0;
    interest[i] = p.interest * at_least(s.firm_budget[i], 0);
    s.firm_budget[i] += interest[i];
    s.capital[i] += s.invested[i];
  }
  BARRIER();
  FOR_LANES(lane, 1) {
    real wages = 0, taxes = 0, paid = 0;
    for (int i = 0; i < F; ++i) wages += s.wage_bill[i], taxes += tax[i], paid += interest[i];
    *s.tax_revenue = *s.income_tax * wages + taxes;
    *s.interest_paid = paid;
  }
  BARRIER();
}

// Isoelastic utility of consumption, zero at x = 1.
DEVICE real crra(real x, real eta) { return eta == 1 ? log(x) : (pow(x, 1 - eta) - 1) / (1 - eta); }

// Utility less disutility; wage, rebate, gift and interest come in, spending goes out.
DEVICE void settle_consumers(const Params &p, const State &s, const Actions &a, const Rewards &r) {
  SHARED(real, interest, C);
  FOR_LANES(j, C) {
    real utility = 0;
    for (int i = 0; i < F; ++i) utility += crra(s.bought[j * F + i] + p.crra_shift, p.crra);
    r.consumer[j] = utility - s.theta[j] / 2 * a.hours[j];
    s.budget[j] += p.gift - s.spending[j] + s.income[j] + *s.tax_revenue / p.n_consumers;
    interest[j] = p.interest * at_least(s.budget[j], 0);
    s.budget[j] += interest[j];
  }
  BARRIER();
  FOR_LANES(lane, 1) {
    real paid = 0;
    for (int j = 0; j < C; ++j) paid += interest[j];
    *s.interest_paid += paid;
  }
  BARRIER();
}

// In the last quarter final debt costs utility.
DEVICE void penalise_debt(const Params &p, const State &s, const Rewards &r) {
  if (*s.period == p.horizon - 1) {
    FOR_LANES(j, C) r.consumer[j] -= p.ponzi_consumer * at_least(-s.budget[j], 0);
    FOR_LANES(i, F) r.firm[i] -= p.ponzi_firm / 100 * at_least(-s.firm_budget[i], 0);
  }
  BARRIER();
}

// Welfare is the government's reward.
DEVICE void value_welfare(const Params &p, const State &s, const Rewards &r) {
  FOR_LANES(lane, 1) {
    real consumers = 0, firms = 0;
    for (int j = 0; j < C; ++j) consumers += r.consumer[j];
    for (int i = 0; i < F; ++i) firms += r.firm[i];
    *r.government = consumers + p.firm_reward_weight * firms;
  }
  BARRIER();
}

// Prices, wages and tax rates of the next quarter are announced.
DEVICE void post_terms(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(i, F) s.price[i] = a.price[i], s.wage[i] = a.wage[i];
  FOR_LANES(lane, 1) *s.income_tax = *a.income_tax, *s.corporate_tax = *a.corporate_tax, *s.period += 1;
  BARRIER();
}

// Log productivity of the next quarter.
DEVICE void innovate(const Params &p, const State &s, const Shocks &e) {
  FOR_LANES(lane, 1) *s.tfp = p.tfp_persistence * *s.tfp + *e.tfp;
  BARRIER();
}

// One quarter, phase by phase.
DEVICE void step(const Params &p, const State &s, const Actions &a, const Shocks &e, const Rewards &r) {
  afford(p, s, a);
  hire(p, s, a);
  deliver(p, s);
  sell_abroad(p, s);
  produce(p, s);
  settle_firms(p, s, r);
  settle_consumers(p, s, a, r);
  penalise_debt(p, s, r);
  value_welfare(p, s, r);
  post_terms(p, s, a);
  innovate(p, s, e);
}
