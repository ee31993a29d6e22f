// Twins of kernels/monetary.py: same names, same argument order, written for one replica (dialect: core/lanes.cuh). The field `scratch` is
// zero between phases.

static_assert(F <= C, "an economy with more firms than consumers runs on backend=numpy only");
constexpr i32 QUARTERS = 4, AVERAGED = 16, ENTRIES = 3, BAIL_OUT = 0, BAIL_IN = 1;
constexpr double TINY = 1e-9;

// Hours of an employed consumer, over full time.
DEVICE double full_time(i32 effort) { return effort <= 0 ? 0.8 : effort == 1 ? 1.0 : 1.1; }

// Work space of one integer for each bank: 0 or 1; shared memory is scarce.
DEVICE i64 *banks(int number) {
  SHARED(i64, cells, 2 * B);
  return cells + number * B;
}

// Work space of one share for each bank.
DEVICE double *bank_shares() {
  SHARED(double, shares, B);
  return shares;
}

// Balances of all customers by bank.
DEVICE void bank_total(const State &s, const i64 *consumers, const i64 *firms, i64 *cells) {
  FOR_LANES(b, B) cells[b] = 0;
  BARRIER();
  pour(consumers, s.bank, C, cells, B);
  pour(firms, s.firm_bank, F, cells, B);
  BARRIER();
}

// Sum over few banks.
DEVICE i64 sum_of_banks(const i64 *cells) {
  i64 sum = 0;
  for (int b = 0; b < B; ++b) sum += cells[b];
  return sum;
}

// Share of new loans that each bank can grant: capital over the lending ratio, less loans, over what is asked.
DEVICE const double *ration(const Params &p, const State &s, const i64 *wanted, const i32 *bank, int n) {
  i64 *loans = banks(0), *asked = banks(1);
  double *served = bank_shares();
  FOR_LANES(b, B) asked[b] = 0;
  bank_total(s, s.loans, s.firm_loans, loans);
  pour(wanted, bank, n, asked, B);
  BARRIER();
  FOR_LANES(b, B) {
    const double room = at_least((double)s.equity[b] / p.capital_lending - (double)loans[b], 0);
    served[b] = at_most(room / (double)at_least(asked[b], 1), 1);
  }
  BARRIER();
  return served;
}

// What a firm can borrow against: capital at the price level and inventories at cost.
DEVICE i64 assets(const State &s, int i) { return s.capital_value[i] + s.inventory_cost[i]; }

// Loans over assets and deposits.
DEVICE double leverage(const State &s, int i) {
  return coins(s.firm_loans[i]) / at_least(coins(assets(s, i) + s.firm_deposits[i]), TINY);
}

// Output of one unit of labour to the power 1 - alpha.
DEVICE real skill(const Params &p, const State &s, real level, int i) {
  return level * exp(*s.tfp + s.firm_productivity[i]) * pow(s.capital[i], p.capital_share);
}

// What the trend adds to it.
DEVICE real skill_level(const Params &p, const State &s) { return pow(*s.trend, 1 - p.capital_share); }

// Policy rate, tax, purchases and benefits move by their steps, within bounds.
DEVICE void set_policy(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(lane, 1) {
    const real rate = between(*s.policy_rate + *a.rate_step + *s.rate_shock, p.lower_bound, p.upper_bound);
    *s.rate_change = rate - *s.policy_rate;
    *s.policy_rate = rate;
    *s.income_tax = between(*s.income_tax + *a.tax_step, p.tax_low, p.tax_high);
    *s.purchases_level = between(*s.purchases_level * exp(*a.purchases_step), 0.7, 1.3);
    *s.replacement = between(*s.replacement + *a.benefit_step, 0.2, 0.7);
  }
  BARRIER();
}

// What asset purchases have taken off loan rates and new coupons.
DEVICE real eased(const Params &p, const State &s) {
  return p.purchases_effect * coins(*s.bonds_purchased) / (QUARTERS * *s.nominal_output);
}

// Rates on deposits and on the safest loan.
DEVICE void post_rates(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(b, B) {
    s.deposit_rate[b] = at_least(*s.policy_rate - a.deposit_spread[b], 0);
    s.base_rate[b] = at_least(*s.policy_rate + a.loan_spread[b] + (*s.spread_shock - eased(p, s)), 0);
    s.leverage_cap[b] = a.leverage_limit[b];
  }
  BARRIER();
}

// A firm compares its bank with one other and moves if that is cheaper.
DEVICE void switch_banks(const Params &p, const State &s, const Shocks &e) {
  FOR_LANES(b, B) s.moved_deposits[b] = s.moved_loans[b] = 0;
  BARRIER();
  FOR_LANES(i, F) {
    const i32 own = s.firm_bank[i], other = e.other_bank[i];
    if (s.base_rate[own] - s.base_rate[other] > p.switching_gain) {
      add(s.moved_deposits + other, s.firm_deposits[i]);
      add(s.moved_deposits + own, -s.firm_deposits[i]);
      add(s.moved_loans + other, s.firm_loans[i]);
      add(s.moved_loans + own, -s.firm_loans[i]);
      s.firm_bank[i] = other;
    }
  }
  BARRIER();
}

// A firm pays the rate of the bank that it is with now, and a premium on leverage.
DEVICE void price_loans(const Params &p, const State &s) {
  FOR_LANES(i, F) {
    const double excess = at_least(leverage(s, i) - 0.25, 0);
    s.loan_rate[i] = s.base_rate[s.firm_bank[i]] + p.risk_premium * (excess * excess);
    s.real_rate[i] += p.rate_memory * (s.loan_rate[i] - *s.expected_inflation - s.real_rate[i]);
  }
  BARRIER();
}

// Firms that may change their price do, all set wages and decide how much to invest.
DEVICE void post_terms(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(i, F) {
    if (s.can_reprice[i] == 1) s.price[i] *= exp(between(a.price_change[i], -p.price_step, p.price_step));
    s.wage[i] *= 1 + (p.wages_never_fall ? at_least(a.wage_change[i], 0) : a.wage_change[i]);
    const real start = at_least(p.entrant_capital * *s.normal_capital - s.capital[i], 0);
    s.investment_plan[i] = s.entrant[i] == 1 ? start : a.investment[i] * p.depreciation / QUARTERS * s.capital[i];
    s.investment[i] = micro(s.investment_plan[i] * *s.price_level);
  }
  BARRIER();
}

// Firms move towards their leverage, lower the dearer loans are, or ask for what wages and investment take; a bank serves all alike, and
// its loan is new money.
DEVICE void lend_to_firms(const Params &p, const State &s) {
  const real excess = at_least(p.leverage_target - (real)0.25, 0);
  const real normal = p.neutral_rate + p.loan_margin + p.risk_premium * (excess * excess);
  FOR_LANES(i, F) {
    const real dear = s.loan_rate[i] - *s.expected_inflation - normal;
    const real target = p.leverage_target * exp(p.sentiment_response * *s.sentiment - p.leverage_response * dear);
    const i64 wages = micro(s.wage[i] * s.labor_wanted[i]), limit = share(assets(s, i), s.leverage_cap[s.firm_bank[i]]) - s.firm_loans[i];
    const i64 gap = share(assets(s, i), target) - s.firm_loans[i];
    const i64 planned = share(gap, p.leverage_speed) + share(s.firm_loans[i], p.amortisation);
    s.firm_borrowed[i] = at_least(at_most(at_least(planned, wages + s.investment[i] - s.firm_deposits[i]), limit), 0);
  }
  BARRIER();
  const double *served = ration(p, s, s.firm_borrowed, s.firm_bank, F);
  const i64 asked = sum_of_banks(banks(1));
  i64 granted = 0;
  FOR_LANES(i, F) {
    const i64 wages = micro(s.wage[i] * s.labor_wanted[i]);
    s.firm_borrowed[i] = floor_share(s.firm_borrowed[i], served[s.firm_bank[i]]);
    granted += s.firm_borrowed[i];
    s.firm_loans[i] += s.firm_borrowed[i];
    s.firm_deposits[i] += s.firm_borrowed[i];
    s.investment[i] = at_least(at_most(s.investment[i], s.firm_deposits[i] - wages), 0);
  }
  granted = together(granted);
  FOR_LANES(lane, 1) *s.rationed = asked > 0 ? 1 - (double)granted / (double)asked : 0;
  BARRIER();
}

// Jobs end by themselves, and in excess of desired staff, which liquidity caps.
DEVICE void release_workers(const Params &p, const State &s, const Actions &a, const Shocks &e) {
  FOR_LANES(i, F) s.employees[i] = 0;
  BARRIER();
  FOR_LANES(j, C) if (s.employer[j] >= 0) {
    add(s.employees + s.employer[j], 1);
    add(s.scratch + s.employer[j], fine(s.ability[j]));
  }
  BARRIER();
  FOR_LANES(i, F) {
    const double staff = s.employees[i], mean_ability = staff > 0 ? (double)s.scratch[i] / FINE / staff : 1;
    double wanted = at_most(staff * (1 + a.hiring[i]), 1.02 * coins(s.firm_deposits[i]) / at_least(s.wage[i] * mean_ability, TINY));
    wanted = floor(at_least(wanted, 1) + e.staffing[i]);
    const double stay = staff * (1 - p.separation);
    s.scratch[i] = bits_of(between((stay - wanted) / at_least(stay, 1), 0, 1));
    s.employees[i] = (i32)wanted;
  }
  BARRIER();
  FOR_LANES(j, C) if (s.employer[j] >= 0) {
    const double excess = double_of(s.scratch[s.employer[j]]), leaves = 1 - (1 - p.separation) * (1 - p.layoff_speed * excess);
    if (e.separation[j] < leaves) s.employer[j] = -1;
  }
  BARRIER();
  FOR_LANES(i, F) s.scratch[i] = 0;
  BARRIER();
}

// Bits of the largest ticket.
DEVICE constexpr int ticket_bits(u32 largest) {
  int bits = 0;
  for (; largest; largest >>= 1) ++bits;
  return bits;
}

// A hash of 32 bits (finaliser of MurmurHash3).
DEVICE u32 mixed(u32 x, u32 key, u32 turn) {
  x = (x + key + turn * 0x9E3779B9u) * 0x85EBCA6Bu;
  x = (x ^ x >> 13) * 0xC2B2AE35u;
  return x ^ x >> 16;
}

// Place of a ticket under the bijection that `key` names: a Feistel network, walked back into range.
DEVICE u32 shuffled(u32 ticket, u32 key) {
  constexpr u32 tickets = (u32)ENTRIES * C;
  constexpr int bits = ticket_bits(tickets - 1), low = bits / 2 > 1 ? bits / 2 : 1, high = bits - low > 1 ? bits - low : 1;
  do {
    u32 left = ticket >> low, right = ticket & ((1u << low) - 1);
    for (u32 k = 0; k < 4; k += 2) {
      left ^= mixed(right, key, k) & ((1u << high) - 1);
      right ^= mixed(left, key, k + 1) & ((1u << low) - 1);
    }
    ticket = left << low | right;
  } while (ticket >= tickets);
  return ticket;
}

// A seeker's place in the lottery: the best of his tickets.
DEVICE u32 lottery_place(int j, int bought, u32 key) {
  u32 place = shuffled((u32)ENTRIES * j, key);
  for (int k = 1; k < bought; ++k) place = at_most(place, shuffled((u32)ENTRIES * j + k, key));
  return place;
}

// Matches of so many seekers and vacancies.
DEVICE double matches(const Params &p, double u, double v) {
  return u > 0 && v > 0 ? u * v / pow(pow(u, (double)p.matching) + pow(v, (double)p.matching), (double)(1 / p.matching)) : 0;
}

// A lottery orders the seekers, and vacancies are filled by systematic sampling.
DEVICE void match_workers(const Params &p, const State &s, const Actions &a, const Shocks &e) {
  constexpr int words = (ENTRIES * C + 63) / 64;
  u64 *taken = (u64 *)s.scratch, *before = taken + words;  // places of seekers, and how many there are before each word
  const u32 key = (u32)*e.lottery;
  i64 seekers = 0, tickets = 0;
  FOR_LANES(j, C) {
    if (s.employer[j] >= 0) add(s.scratch + s.employer[j], 1);
    else ++seekers, tickets += between(a.effort[j], 0, ENTRIES - 1) + 1;
  }
  seekers = together(seekers);
  tickets = together(tickets);
  const real eagerness = exp(p.vacancy_response * *s.sentiment) / between(*s.fill_rate, 0.35, 1);
  FOR_LANES(i, F) {
    s.employees[i] = (i32)ceil((double)at_least(s.employees[i] - s.scratch[i], 0) * eagerness);
    s.scratch[i] = 0;
  }
  BARRIER();
  FOR_LANES(j, C) if (s.employer[j] < 0) {
    const u32 place = lottery_place(j, between(a.effort[j], 0, ENTRIES - 1) + 1, key);
    set_bits(taken + place / 64, 1ull << place % 64);
  }
  FOR_LANES(lane, 1) for (int i = 1; i < F; ++i) s.employees[i] += s.employees[i - 1];
  BARRIER();
  FOR_LANES(lane, 1) for (int w = 1; w < words; ++w) before[w] = before[w - 1] + count_bits(taken[w - 1]);
  const i64 offers = s.employees[F - 1];
  const i64 hired = at_most(at_most((i64)floor(matches(p, tickets / 2.0, (double)offers) + *e.matching), offers), seekers);
  BARRIER();
  FOR_LANES(j, C) if (s.employer[j] < 0) {
    const u32 place = lottery_place(j, between(a.effort[j], 0, ENTRIES - 1) + 1, key);
    const i64 rank = before[place / 64] + count_bits(taken[place / 64] & ((1ull << place % 64) - 1));
    if (rank < hired) {
      const i64 slot = at_most((i64)floor((rank + (double)*e.vacancy) * ((double)offers / (double)hired)), offers - 1);
      int firm = 0, beyond = F;  // the first firm whose vacancies end after the slot
      while (firm < beyond) {
        const int middle = (firm + beyond) / 2;
        if (s.employees[middle] > slot) beyond = middle;
        else firm = middle + 1;
      }
      s.employer[j] = firm;
    }
  }
  BARRIER();
  FOR_LANES(i, F) s.employees[i] = 0;
  FOR_LANES(w, 2 * words) taken[w] = 0;
  BARRIER();
  i64 idle = 0;
  FOR_LANES(j, C) {
    if (s.employer[j] >= 0) add(s.employees + s.employer[j], 1);
    else ++idle;
    s.spell[j] = s.employer[j] >= 0 ? 0 : s.spell[j] + 1;
  }
  idle = together(idle);
  FOR_LANES(lane, 1) {
    *s.vacancies = (double)offers / p.n_consumers;
    *s.fill_rate = (real)0.7 * *s.fill_rate + 0.3 * (double)hired / (double)at_least(offers, 1);
    *s.unemployment = (double)idle / p.n_consumers;
  }
  BARRIER();
}

// Output of labour and capital, with hours between their bounds.
DEVICE void produce(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(j, C) if (s.employer[j] >= 0) add(s.scratch + s.employer[j], fine(s.ability[j] * full_time(a.effort[j])));
  BARRIER();
  const real level = skill_level(p, s);
  FOR_LANES(i, F) {
    const double labor = (double)s.scratch[i] / FINE;
    s.hours[i] = between(s.labor_wanted[i] / at_least(labor, TINY), p.hours_low, p.hours_high);
    s.labor[i] = labor * s.hours[i];
    const real able = skill(p, s, level, i);
    s.produced[i] = at_most(able * pow(s.labor[i], 1 - p.capital_share), (real)1.02 * s.output_wanted[i]);
    s.scratch[i] = bits_of(able * pow(p.capacity_staffing * *s.normal_staffing * s.capital[i], 1 - p.capital_share));
  }
  BARRIER();
  const auto worked = [&](int j) { return s.employer[j] >= 0 ? full_time(a.effort[j]) * s.hours[s.employer[j]] : 0; };
  const double time = sum(C, [&](int j) { return (real)worked(j); });
  const real output = sum(F, [&](int i) { return s.produced[i]; });
  const real capacity = sum(F, [&](int i) { return (real)double_of(s.scratch[i]); });
  const real ordinary = sum(C, [&](int j) { return s.star[j] == 1 ? s.ability[j] / (real)p.star_ability : s.ability[j]; }) / C;
  const real full = sum(F, [&](int i) { return skill(p, s, level, i) * pow(ordinary * s.employees[i], 1 - p.capital_share); });
  FOR_LANES(i, F) s.scratch[i] = 0;
  FOR_LANES(lane, 1) {
    *s.capacity_use = output / at_least(capacity, TINY);
    *s.full_time_output = full;
    *s.hours_worked = time / p.n_consumers;
  }
  BARRIER();
}

// Wages, taxed; benefit, assistance and transfer from the treasury; overdrafts become loans.
DEVICE void pay_incomes(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(i, F) s.wage_bill[i] = 0;
  BARRIER();
  const i64 transfer = micro(p.transfer * *s.mean_wage);
  i64 received = 0, drawn = 0;
  FOR_LANES(j, C) {
    i64 wage = 0, benefit = transfer;
    if (const i32 i = s.employer[j]; i >= 0) {
      wage = micro(s.wage[i] * s.hours[i] * (s.ability[j] * full_time(a.effort[j])));
      add(s.wage_bill + i, wage);
    } else {
      const real insured = *s.replacement * *s.mean_wage * at_most(s.ability[j], 1.5);
      benefit += micro(s.spell[j] <= p.benefit_time ? insured : p.assistance * *s.mean_wage);
    }
    const i64 tax = floor_share(wage, *s.income_tax);
    s.wage_income[j] = wage;
    s.income_taxes[j] = tax;
    s.benefits[j] = benefit;
    s.deposits[j] += wage - tax + benefit;
    received += tax - benefit;
  }
  received = together(received);
  FOR_LANES(i, F) {
    s.firm_deposits[i] -= s.wage_bill[i];
    const i64 loan = overdraw(s.firm_deposits + i, s.firm_loans + i);
    s.firm_borrowed[i] += loan;
    drawn += loan;
  }
  drawn = together(drawn);
  FOR_LANES(lane, 1) *s.treasury += received, *s.overdrafts = drawn;
  BARRIER();
}

// Desired spending; what deposits do not cover is borrowed up to the line that a consumer opens and his bank grants.
DEVICE void lend_to_consumers(const Params &p, const State &s, const Actions &a) {
  const real taste = exp(*s.demand_shock);
  FOR_LANES(j, C) {
    const real nominal = s.permanent_income[j] * *s.price_level;
    const i64 early = at_most(floor_share(s.loans[j], at_least(-a.borrowing[j], 0)), at_least(s.deposits[j], 0));
    s.deposits[j] -= early;
    s.loans[j] -= early;
    s.repaid[j] = early;
    s.spending[j] = micro(a.spending[j] * nominal * taste);
    const i64 most = at_least(micro(p.credit_line * QUARTERS * nominal) - s.loans[j], 0);
    const i64 line = s.excluded[j] > 0 ? 0 : floor_share(most, at_least(a.borrowing[j], 0));
    s.borrowed[j] = at_most(at_least(s.spending[j] - s.deposits[j], 0), line);
  }
  BARRIER();
  const double *served = ration(p, s, s.borrowed, s.bank, C);
  FOR_LANES(j, C) {
    s.borrowed[j] = floor_share(s.borrowed[j], served[s.bank[j]]);
    s.loans[j] += s.borrowed[j];
    s.deposits[j] += s.borrowed[j];
    s.spending[j] = at_most(s.spending[j], s.deposits[j]);
  }
  BARRIER();
}

// Demand goes to firms by customers and price, once more where goods are left; all buyers get the same share of their budgets.
DEVICE void trade(const Params &p, const State &s) {
  const i64 bid = micro(p.purchases_share * *s.purchases_level * *s.trend_output * exp(*s.purchases_shock) * *s.price_level);
  i64 wanted = 0, paid = 0;
  FOR_LANES(j, C) wanted += s.spending[j];
  FOR_LANES(i, F) {
    wanted += s.investment[i];
    s.sales[i] = s.customers[i] * pow(s.price[i], 1 - p.elasticity);
  }
  const double budget = coins(together(wanted) + bid);
  const real appeal = sum(F, [&](int i) { return s.sales[i]; });
  FOR_LANES(i, F) s.noticed_demand[i] = s.sales[i] / appeal * budget / s.price[i];
  const auto supply = [&](int i) { return s.inventory[i] + s.produced[i]; };
  const auto first = [&](int i) { return at_most(s.noticed_demand[i], supply(i)); };
  const real unmet = sum(F, [&](int i) { return (s.noticed_demand[i] - first(i)) * s.price[i]; });
  const real left = sum(F, [&](int i) { return (supply(i) - first(i)) * s.price[i]; });
  const real again = at_most(unmet / at_least(left, TINY), 1);
  FOR_LANES(i, F) {
    const real second = again * (supply(i) - first(i));
    s.sales[i] = at_most(first(i) + second, supply(i));
    s.noticed_demand[i] = at_most(s.noticed_demand[i] + second, (real)1.15 * s.expected_sales[i]);
  }
  const real worth = sum(F, [&](int i) { return s.sales[i] * s.price[i]; }), quantity = sum(F, [&](int i) { return s.sales[i]; });
  const real stocked = sum(F, [&](int i) { return supply(i) - s.sales[i] - s.inventory[i]; });
  const double filled = unmet > left ? at_most(worth / at_least(budget, TINY), 1) : 1;
  FOR_LANES(j, C) {
    s.spending[j] = floor_share(s.spending[j], filled);
    s.deposits[j] -= s.spending[j];
    paid += s.spending[j];
  }
  FOR_LANES(i, F) {
    s.investment[i] = floor_share(s.investment[i], filled);
    paid += s.investment[i];
  }
  const i64 purchases = floor_share(bid, filled);
  split(together(paid) + purchases, F, [&](int i) { return s.sales[i] * s.price[i]; }, s.revenue, s.scratch);
  FOR_LANES(i, F) {
    s.firm_deposits[i] += s.revenue[i] - s.investment[i];
    s.expected_sales[i] += p.sales_memory * (s.noticed_demand[i] - s.expected_sales[i]);
    const i64 held = s.inventory_cost[i] + s.wage_bill[i];
    s.goods_cost[i] = supply(i) > s.sales[i] ? share(held, s.sales[i] / at_least(supply(i), TINY)) : held;
    s.inventory_cost[i] = held - s.goods_cost[i];
    s.inventory[i] = supply(i) - s.sales[i];
    const real value_share = s.sales[i] * s.price[i] / at_least(worth, TINY);
    s.customers[i] = at_least((1 - p.customer_memory) * s.customers[i] + p.customer_memory * p.n_firms * value_share, 0.02);
  }
  FOR_LANES(lane, 1) {
    *s.shortage = 1 - filled;
    *s.purchases = purchases;
    *s.treasury -= purchases;
    *s.inventory_change = stocked;
    *s.price_4 = *s.price_3, *s.price_3 = *s.price_2, *s.price_2 = *s.price_1, *s.price_1 = *s.price_level;
    if (quantity > 0) *s.price_level = worth / at_least(quantity, TINY);
  }
  BARRIER();
}

// Capital wears out, is lost and bought.
DEVICE void accumulate(const Params &p, const State &s, const Shocks &e) {
  const real wear = p.depreciation / QUARTERS - p.loss_chance * (p.loss_low + p.loss_high) / 2;
  FOR_LANES(i, F) {
    const double bought = coins(s.investment[i]) / *s.price_level;
    const real struck = e.loss[i] < p.loss_chance ? p.loss_low + (p.loss_high - p.loss_low) * e.loss_size[i] : 0;
    const real kept = (1 - wear) * (1 - struck);
    s.worn[i] = micro((1 - kept) * s.capital[i] * *s.price_level);
    s.capital[i] = kept * s.capital[i] + bought;
    s.capital_value[i] = micro(s.capital[i] * *s.price_level);
  }
  BARRIER();
}

// Interest, principal and tax on profit; dividends out of smoothed profit and excess liquidity.
DEVICE void settle_firms(const Params &p, const State &s) {
  i64 taxes = 0, drawn = 0;
  FOR_LANES(i, F) {
    const bool indebted = leverage(s, i) > p.leverage_target + (real)0.2;
    const i64 interest = share(s.firm_loans[i], s.loan_rate[i] / QUARTERS);
    const i64 received = share(at_least(s.firm_deposits[i], 0), s.deposit_rate[s.firm_bank[i]] / QUARTERS);
    const i64 principal = share(s.firm_loans[i], p.amortisation);
    const double profit = coins(s.revenue[i] - s.goods_cost[i] - s.worn[i] - interest + received);
    const i64 tax = floor_share(micro(at_least(profit, 0)), p.corporate_tax);
    s.firm_interest_paid[i] = interest;
    s.firm_interest_received[i] = received;
    s.firm_repaid[i] = principal;
    s.firm_tax[i] = tax;
    s.firm_deposits[i] += received - interest - principal - tax;
    s.firm_loans[i] -= principal;
    taxes += tax;
    const i64 loan = overdraw(s.firm_deposits + i, s.firm_loans + i);
    s.firm_borrowed[i] += loan;
    drawn += loan;
    s.smoothed_profit[i] += p.profit_memory * (profit - coins(tax) - s.smoothed_profit[i]);
    const i64 buffer = share(s.wage_bill[i], p.buffer) + s.investment[i];
    const i64 wanted = micro(p.payout * s.smoothed_profit[i]) + share(s.firm_deposits[i] - buffer, p.payout_excess);
    const i64 paid = between(wanted, 0, at_least(s.firm_deposits[i] - share(buffer, 0.5), 0));
    s.firm_dividends[i] = indebted ? 0 : paid;
    s.firm_deposits[i] -= s.firm_dividends[i];
  }
  taxes = together(taxes);
  drawn = together(drawn);
  FOR_LANES(lane, 1) *s.treasury += taxes, *s.overdrafts += (double)drawn;
  BARRIER();
}

// Deposit interest, taxed; loan interest and principal, overdrawn if need be; who is insolvent.
DEVICE void settle_consumers(const Params &p, const State &s) {
  i64 taxes = 0, drawn = 0;
  FOR_LANES(j, C) {
    const i64 received = share(s.deposits[j], s.deposit_rate[s.bank[j]] / QUARTERS);
    const i64 interest = share(s.loans[j], (s.base_rate[s.bank[j]] + p.consumer_margin) / QUARTERS);
    const i64 principal = share(s.loans[j], p.consumer_amortisation), tax = floor_share(received, *s.income_tax);
    const i64 due = interest + principal;
    const double bearable = (double)p.service_limit * (double)(s.wage_income[j] + s.benefits[j]);
    s.insolvent[j] = s.employer[j] < 0 && (double)due > bearable && s.deposits[j] < due;
    s.interest_received[j] = received;
    s.interest_paid[j] = interest;
    s.repaid[j] += principal;
    s.income_taxes[j] += tax;
    s.deposits[j] += received - tax - due;
    s.loans[j] -= principal;
    taxes += tax;
    const i64 loan = overdraw(s.deposits + j, s.loans + j);
    s.borrowed[j] += loan;
    drawn += loan;
  }
  taxes = together(taxes);
  drawn = together(drawn);
  FOR_LANES(lane, 1) *s.treasury += taxes, *s.overdrafts += (double)drawn;
  BARRIER();
}

// Interest of banks, taxed; capital above target is paid out in part; the central bank remits its profit.
DEVICE void settle_banks(const Params &p, const State &s) {
  i64 *loans = banks(0);
  bank_total(s, s.interest_paid, s.firm_interest_paid, s.loan_interest);
  bank_total(s, s.interest_received, s.firm_interest_received, s.deposit_interest);
  bank_total(s, s.loans, s.firm_loans, loans);
  i64 received = 0;
  FOR_LANES(b, B) {
    s.coupons[b] = share(s.bank_bonds[b], *s.coupon / QUARTERS);
    s.reserve_interest[b] = share(at_least(s.reserves[b], 0), at_least(*s.policy_rate - p.corridor, 0) / QUARTERS);
    s.advance_interest[b] = share(s.advances[b], (*s.policy_rate + p.corridor) / QUARTERS);
    const i64 profit = s.loan_interest[b] - s.deposit_interest[b] + s.coupons[b] + s.reserve_interest[b] - s.advance_interest[b];
    s.bank_tax[b] = floor_share(at_least(profit, 0), p.corporate_tax);
    s.equity[b] += profit - s.bank_tax[b];
    received += s.bank_tax[b] - s.coupons[b] + s.advance_interest[b] - s.reserve_interest[b];
    s.bank_dividends[b] = floor_share(at_least(s.equity[b] - share(loans[b], p.capital_target), 0), p.bank_payout);
    s.equity[b] -= s.bank_dividends[b];
  }
  received = together(received);
  FOR_LANES(lane, 1) {
    *s.central_bank_coupons = share(*s.central_bank_bonds, *s.coupon / QUARTERS);  // paid by the treasury and remitted to it
    *s.treasury += received;
  }
  BARRIER();
}

// Dividends go to consumers by their shares, taxed.
DEVICE void distribute(const Params &p, const State &s) {
  i64 paid = 0, taxes = 0;
  FOR_LANES(i, F) paid += s.firm_dividends[i];
  FOR_LANES(b, B) paid += s.bank_dividends[b];
  split(together(paid), C, [&](int j) { return s.ownership[j]; }, s.dividends, s.scratch);
  FOR_LANES(j, C) {
    const i64 tax = floor_share(s.dividends[j], p.dividend_tax);
    s.income_taxes[j] += tax;
    s.deposits[j] += s.dividends[j] - tax;
    taxes += tax;
  }
  taxes = together(taxes);
  FOR_LANES(lane, 1) *s.treasury += taxes;
  BARRIER();
}

// A firm without equity loses its deposits and part of its loan; a crisis writes off more.
DEVICE void resolve_firms(const Params &p, const State &s) {
  i64 *owed = banks(0), failures = 0;
  double *crisis = bank_shares();
  FOR_LANES(b, B) owed[b] = 0;
  FOR_LANES(i, F) {
    s.firm_forgiven[i] = 0;
    if (assets(s, i) + s.firm_deposits[i] - s.firm_loans[i] < 0) {
      const i64 settled = at_most(s.firm_deposits[i], s.firm_loans[i]);
      s.firm_deposits[i] -= settled;
      s.firm_loans[i] -= settled;
      s.firm_repaid[i] += settled;
      s.firm_forgiven[i] = at_least(s.firm_loans[i] - share(s.capital_value[i], p.recovery), 0);
      s.firm_loans[i] -= s.firm_forgiven[i];
      s.firm_productivity[i] = 0;
      ++failures;
    }
  }
  BARRIER();
  pour(s.firm_loans, s.firm_bank, F, owed, B);
  failures = together(failures);
  FOR_LANES(b, B) crisis[b] = between(*s.equity_shock * (double)s.equity[b] / (double)at_least(owed[b], 1), 0, 1);
  BARRIER();
  FOR_LANES(i, F) {
    const i64 struck = floor_share(s.firm_loans[i], crisis[s.firm_bank[i]]);
    s.firm_loans[i] -= struck;
    s.firm_forgiven[i] += struck;
  }
  FOR_LANES(lane, 1) *s.failures = (double)failures / p.n_firms;
  BARRIER();
}

// Insolvent consumers are discharged and get no credit for some years.
DEVICE void resolve_consumers(const Params &p, const State &s) {
  FOR_LANES(j, C) {
    const bool broke = s.insolvent[j] == 1;
    s.forgiven[j] = broke ? s.loans[j] : 0;
    s.loans[j] -= s.forgiven[j];
    s.excluded[j] = broke ? p.exclusion_time : at_least(s.excluded[j] - 1, 0);
  }
  BARRIER();
}

// Banks bear the write-offs; one without capital is restored by the government, by its depositors, or not at all.
DEVICE void resolve_banks(const Params &p, const State &s) {
  i64 *loans = banks(0), *deposits = banks(1);
  double *cut = bank_shares();
  const bool bail_in = p.resolution == BAIL_IN;
  bank_total(s, s.forgiven, s.firm_forgiven, s.write_offs);
  bank_total(s, s.loans, s.firm_loans, loans);
  if (bail_in) bank_total(s, s.deposits, s.firm_deposits, deposits);
  FOR_LANES(b, B) {
    s.equity[b] -= s.write_offs[b];
    const bool failed = s.equity[b] < share(loans[b], p.capital_failure);
    const i64 lacking = failed ? share(loans[b], p.capital_minimum) - s.equity[b] : 0;
    s.recapitalised[b] = p.resolution == BAIL_OUT ? lacking : 0;
    cut[b] = bail_in ? at_most((double)lacking / (double)at_least(deposits[b], 1), 1) : 0;
    s.bail_in[b] = 0;
  }
  BARRIER();
  FOR_LANES(j, C) {
    s.bailed_in[j] = bail_in ? floor_share(s.deposits[j], cut[s.bank[j]]) : 0;
    s.deposits[j] -= s.bailed_in[j];
  }
  FOR_LANES(i, F) {
    s.firm_bailed_in[i] = bail_in ? floor_share(s.firm_deposits[i], cut[s.firm_bank[i]]) : 0;
    s.firm_deposits[i] -= s.firm_bailed_in[i];
  }
  BARRIER();
  if (bail_in) bank_total(s, s.bailed_in, s.firm_bailed_in, s.bail_in);
  FOR_LANES(b, B) s.equity[b] += s.recapitalised[b] + s.bail_in[b];
  FOR_LANES(lane, 1) {
    const double lent = at_least(coins(sum_of_banks(loans)), TINY);
    *s.treasury -= sum_of_banks(s.recapitalised);
    *s.charge_offs = QUARTERS * coins(sum_of_banks(s.write_offs)) / lent;
    *s.overdrafts = *s.overdrafts / MICRO / lent;
  }
  BARRIER();
}

// A firm with hardly any capital makes room for an entrant, whose capital the owners pay.
DEVICE void finance_entrants(const Params &p, const State &s) {
  const real capital = sum(F, [&](int i) { return s.capital[i]; }) / F, size = sum(F, [&](int i) { return s.expected_sales[i]; }) / F;
  const real unit_labor = sum(F, [&](int i) { return s.unit_labor[i]; }) / F;
  const i64 price = micro((real)1.5 * p.entrant_capital * *s.normal_capital * *s.price_level);
  i64 leaving = 0, paid = 0;
  FOR_LANES(i, F) {
    s.entrant[i] = s.capital[i] < p.entry_size * at_most(capital, *s.normal_capital);
    s.equity_issued[i] = 0;
    leaving += s.entrant[i];
  }
  FOR_LANES(j, C) s.equity_paid[j] = 0;
  leaving = together(leaving);
  if (leaving) {
    split(leaving * price, C, [&](int j) { return s.ownership[j]; }, s.equity_paid, s.scratch);
    FOR_LANES(j, C) {
      s.equity_paid[j] = at_most(s.equity_paid[j], s.deposits[j]);
      s.deposits[j] -= s.equity_paid[j];
      paid += s.equity_paid[j];
    }
    split(together(paid), F, [&](int i) { return s.entrant[i] ? (double)price : 0; }, s.equity_issued, s.scratch);
    FOR_LANES(i, F) if (s.entrant[i]) {
      s.price[i] = *s.price_level;
      s.wage[i] = *s.mean_wage;
      s.customers[i] = p.entrant_capital;
      s.expected_sales[i] = p.entrant_capital * size;
      s.unit_labor[i] = unit_labor;
      s.firm_productivity[i] = s.smoothed_profit[i] = 0;
    }
    FOR_LANES(i, F) s.firm_deposits[i] += s.equity_issued[i];
  }
  BARRIER();
}

// The treasury's account is swept by bonds, which banks hold in proportion to deposits; short reserves are borrowed.
DEVICE void balance_treasury(const Params &p, const State &s, const Actions &a) {
  FOR_LANES(lane, 1) {
    const i64 issued = at_least(-*s.treasury, -*s.bonds);
    *s.bonds += issued;
    *s.treasury += issued;
    const i64 usual = share(*s.bonds, p.central_bank_share), more = micro(*a.asset_purchases * QUARTERS * *s.nominal_output);
    *s.bonds_purchased = between(*s.bonds_purchased + more, 0, *s.bonds - usual);
    *s.central_bank_bonds = usual + *s.bonds_purchased;
    *s.coupon += (at_least(*s.policy_rate + p.term_premium - eased(p, s), 0) - *s.coupon) / p.bond_maturity;
  }
  bank_total(s, s.deposits, s.firm_deposits, s.bank_deposits);
  bank_total(s, s.loans, s.firm_loans, s.bank_loans);
  split(*s.bonds - *s.central_bank_bonds, B, [&](int b) { return (double)s.bank_deposits[b]; }, s.bank_bonds, banks(0));
  FOR_LANES(b, B) {
    const i64 reserves = s.bank_deposits[b] + s.equity[b] + s.advances[b] - s.bank_loans[b] - s.bank_bonds[b];
    const i64 change = at_least(share(s.bank_deposits[b], p.reserve_ratio) - reserves, -s.advances[b]);
    s.advances[b] += change;
    s.reserves[b] = reserves + change;
  }
  BARRIER();
}

// Inflation, output, incomes, credit and debt: what all know at the start of the next quarter.
DEVICE void observe(const Params &p, const State &s) {
  const real level = *s.price_level;
  i64 bought = 0;
  FOR_LANES(j, C) {
    const i64 income = s.wage_income[j] + s.benefits[j] + s.interest_received[j] - s.interest_paid[j] + s.dividends[j] - s.income_taxes[j];
    const double cash = coins(income) / level, memory = s.impatient[j] == 1 ? p.income_memory_impatient : p.income_memory;
    s.permanent_income[j] += memory * (cash - s.permanent_income[j]);
    s.permanent_income[j] = at_least(s.permanent_income[j], (real)0.05 * *s.normal_wage);
    bought += s.spending[j];
  }
  FOR_LANES(i, F) bought += s.investment[i];
  bought = together(bought) + *s.purchases;
  const real staff = sum(F, [&](int i) { return s.labor[i]; }), wages = sum(F, [&](int i) { return s.wage[i] * s.labor[i]; });
  const real deposit_rate = sum(B, [&](int b) { return s.deposit_rate[b]; }) / B;
  FOR_LANES(lane, 1) {
    *s.inflation = QUARTERS * log(level / *s.price_1);
    *s.inflation_4q = log(level / *s.price_4);
    const real lasting = (real)0.7 * *s.expected_inflation + (real)0.3 * *s.inflation_4q;
    *s.expected_inflation = p.anchor * p.inflation_target + (1 - p.anchor) * lasting;
    *s.average_inflation += (*s.inflation - *s.average_inflation) / AVERAGED;
    *s.real_deposit_rate += (real)0.25 * (deposit_rate - *s.expected_inflation - *s.real_deposit_rate);
    *s.output = at_least(coins(bought) / level + *s.inventory_change, TINY);
    *s.nominal_output = (real)0.5 * *s.nominal_output + (real)0.5 * *s.output * level;
    const real boom = log(*s.output / *s.trend_output);
    *s.sentiment += p.sentiment_memory * (boom - *s.sentiment);
    *s.trend_output *= (1 + p.growth / QUARTERS) * (1 + (real)0.02 * boom);
    const real staffed = at_least(1 - *s.unemployment, TINY) / (1 - p.natural_unemployment);
    const real potential = p.potential * at_least(*s.full_time_output, TINY) / pow(staffed, 1 - p.capital_share);
    const real gap = log(*s.output / potential), wage = staff > 0 ? wages / at_least(staff, TINY) : *s.mean_wage;
    *s.gap_change = gap - *s.output_gap;
    *s.output_gap = gap;
    *s.wage_growth = QUARTERS * log(wage / *s.mean_wage);
    *s.mean_wage = wage;
    *s.debt_ratio = coins(*s.bonds) / (QUARTERS * *s.nominal_output);
    const double credit = at_least(coins(sum_of_banks(s.bank_loans)) / level, TINY);
    *s.credit_growth = QUARTERS * log(credit / at_least(*s.credit, TINY));
    *s.credit = credit;
  }
  BARRIER();
}

// Utility of consumption less disutility of work; profits over capital; welfare less debt; minus the central bank's loss.
DEVICE void reward(const Params &p, const State &s, const Actions &a, const Rewards &r) {
  SHARED(double, toil, 6);  // of searching, then of working full time, with each effort
  const double power = 1 + 1 / p.frisch;
  FOR_LANES(k, 6) {
    const double time = k < 3 ? p.search_time * (k + 1.0) / 2 : full_time(k - 3);
    toil[k] = p.disutility * pow(time, power) / power;
  }
  FOR_LANES(i, F) s.scratch[i] = bits_of(pow((double)s.hours[i], power));  // what hours of the firm make of it
  BARRIER();
  const real taste = exp(*s.demand_shock);
  FOR_LANES(j, C) {
    const double eaten = at_least(coins(s.spending[j]) / *s.price_level / *s.normal_consumption, 0.01);
    const double utility = p.risk_aversion == 1 ? log(eaten) : (pow(eaten, (double)(1 - p.risk_aversion)) - 1) / (1 - p.risk_aversion);
    const i32 firm = s.employer[j], effort = between(a.effort[j], 0, 2);
    r.consumer[j] = taste * utility - (firm >= 0 ? toil[effort + 3] * double_of(s.scratch[firm]) : toil[effort]);
  }
  BARRIER();
  FOR_LANES(i, F) s.scratch[i] = 0;
  FOR_LANES(i, F) {
    const i64 profit = s.revenue[i] - s.goods_cost[i] - s.worn[i] - s.firm_interest_paid[i] + s.firm_interest_received[i] - s.firm_tax[i];
    r.firm[i] = coins(profit - s.firm_bailed_in[i]) / (*s.price_level * *s.normal_capital);
  }
  FOR_LANES(b, B) {
    const i64 profit = s.loan_interest[b] - s.deposit_interest[b] + s.coupons[b] + s.reserve_interest[b] - s.advance_interest[b];
    r.bank[b] = coins(profit - s.bank_tax[b] - s.write_offs[b]) / (*s.normal_equity * *s.price_level);
  }
  const real welfare = sum(C, [&](int j) { return r.consumer[j]; }) / C;
  FOR_LANES(lane, 1) {
    const real debt = 10 * (*s.debt_ratio - p.debt_target), miss = 100 * (*s.inflation_4q - p.inflation_target);
    const real gap = 100 * *s.output_gap, change = 100 * *s.rate_change;
    *r.government = welfare - p.debt_weight * (debt * debt);
    *r.central_bank = -(miss * miss + p.gap_weight * (gap * gap) + p.rate_weight * (change * change));
  }
  BARRIER();
}

// The driving processes of the next quarter; trend and normal levels grow.
DEVICE void innovate(const Params &p, const State &s, const Shocks &e) {
  FOR_LANES(lane, 1) {
    const real pace = 1 + p.growth / QUARTERS;
    *s.trend *= pace, *s.normal_consumption *= pace, *s.normal_wage *= pace, *s.normal_capital *= pace, *s.normal_equity *= pace;
    *s.normal_staffing /= pace;
    *s.tfp = p.tfp_persistence * *s.tfp + *e.tfp;
    *s.demand_shock = p.demand_persistence * *s.demand_shock + *e.demand;
    *s.purchases_shock = p.purchases_persistence * *s.purchases_shock + *e.purchases;
    *s.investment_shock = p.investment_persistence * *s.investment_shock + *e.investment;
    *s.cost_shock = p.cost_persistence * *s.cost_shock + *e.cost_push;
    *s.spread_shock = p.spread_persistence * *s.spread_shock + *e.loan_spread;
    *s.rate_shock = *e.policy_rate;
    *s.equity_shock = *e.bank_equity;
  }
  FOR_LANES(i, F) {
    s.firm_productivity[i] = p.firm_persistence * s.firm_productivity[i] + e.firm_productivity[i];
    s.can_reprice[i] = e.reprice[i] < p.reprice_chance;
  }
  const real variance = p.ability_volatility * p.ability_volatility / (1 - p.ability_persistence * p.ability_persistence);
  const real stars = p.star_entry / at_least(p.star_entry + p.star_exit, TINY), mean = 1 + stars * (p.star_ability - 1);
  FOR_LANES(j, C) {
    s.log_ability[j] = p.ability_persistence * s.log_ability[j] + p.ability_volatility * e.ability[j];
    s.star[j] = s.star[j] == 1 ? e.star[j] >= p.star_exit : e.star[j] < p.star_entry;
    s.ability[j] = exp(s.log_ability[j] - variance / 2) * ((s.star[j] == 1 ? p.star_ability : 1) / mean);
  }
  BARRIER();
}

// Output and labour of the next quarter; capital caps labour.
DEVICE void plan(const Params &p, const State &s) {
  const real beta = 1 - p.capital_share, level = skill_level(p, s);
  FOR_LANES(i, F) {
    const real expected = s.expected_sales[i], gap = p.stock_target * expected - s.inventory[i];
    const real wanted = at_least(expected + p.stock_speed * gap, (real)0.05 * expected), able = skill(p, s, level, i);
    const real most = p.staffing_cap * *s.normal_staffing * s.capital[i];
    s.labor_wanted[i] = at_most(pow(wanted / at_least(able, TINY), 1 / beta), most);
    s.output_wanted[i] = at_most(wanted, able * pow(most, beta));
    const real marginal = s.labor_wanted[i] / at_least(beta * s.output_wanted[i], TINY);
    s.unit_labor[i] += p.cost_memory * (marginal - s.unit_labor[i]);
  }
  BARRIER();
}

// One quarter, phase by phase.
DEVICE void step(const Params &p, const State &s, const Actions &a, const Shocks &e, const Rewards &r) {
  set_policy(p, s, a);
  post_rates(p, s, a);
  switch_banks(p, s, e);
  price_loans(p, s);
  post_terms(p, s, a);
  lend_to_firms(p, s);
  release_workers(p, s, a, e);
  match_workers(p, s, a, e);
  produce(p, s, a);
  pay_incomes(p, s, a);
  lend_to_consumers(p, s, a);
  trade(p, s);
  accumulate(p, s, e);
  settle_firms(p, s);
  settle_consumers(p, s);
  settle_banks(p, s);
  distribute(p, s);
  resolve_firms(p, s);
  resolve_consumers(p, s);
  resolve_banks(p, s);
  finance_entrants(p, s);
  balance_treasury(p, s, a);
  observe(p, s);
  reward(p, s, a, r);
  innovate(p, s, e);
  plan(p, s);
}
