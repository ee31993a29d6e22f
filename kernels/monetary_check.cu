// Twin of kernels/monetary_check.py: the identities of monetary_books.py under their names, written for one replica (dialect:
// core/lanes.cuh). s is the State after the quarter, a what is remembered of it before. Uses s.scratch, and leaves it zero.

constexpr i64 LIMIT = (i64)1 << 62;

// The larger of a cell and a number, atomically.
DEVICE void raise(i64 *cell, i64 number) {
#ifdef __CUDACC__
  atomicMax((long long *)cell, (long long)number);
#else
  i64 old = __atomic_load_n(cell, __ATOMIC_RELAXED);
  while (number > old && !__atomic_compare_exchange_n(cell, &old, number, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
#endif
}

// The largest of what the lanes found, at least 0, known to all; of reals that are not negative in their bits, whose order is the same.
DEVICE i64 largest(i64 part) {
  SHARED(i64, cell, 1);
  BARRIER();
  FOR_LANES(lane, 1) cell[0] = 0;
  BARRIER();
  raise(cell, part);
  BARRIER();
  return cell[0];
}
DEVICE double largest_real(double part) { return double_of(largest(bits_of(part))); }

// The larger of an error found so far and |x|.
DEVICE i64 off(i64 worst, i64 x) { return at_least(worst, x < 0 ? -x : x); }
DEVICE double distance(double x, double y) { return x < y ? y - x : x - y; }

// How many numbers are not finite, in this lane's part of a field.
DEVICE i64 infinite(int n, const real *field) {
  i64 count = 0;
  FOR_LANES(i, n) count += !(field[i] - field[i] == 0);
  return count;
}

// Sum over banks.
DEVICE i64 total(const i64 *field) {
  i64 sum = 0;
  for (int b = 0; b < B; ++b) sum += field[b];
  return sum;
}

// T11 of one owner: whether a real is not finite, a balance too high, a balance too low.
DEVICE i64 broken(i64 wrong, i64 high, i64 low) { return (wrong > 0) + (high > LIMIT) + (low < -LIMIT); }

DEVICE void check(const Params &p, const State &s, const Actions &a, const Rewards &r) {
  SHARED(i64, cells, 4 * B);
  i64 *held = cells, *lent = cells + B, *gained = cells + 2 * B, *granted = cells + 3 * B;  // by bank: balances, and their changes
  FOR_LANES(b, 4 * B) cells[b] = 0;
  BARRIER();

  // consumers
  i64 gap = 0, low = 0, high = 0, nowhere = 0, deposits = 0, loans = 0, d_deposits = 0, d_loans = 0, wage_income = 0, benefits = 0;
  i64 income_taxes = 0, spending = 0, interest_received = 0, interest_paid = 0, dividends = 0, borrowed = 0, repaid = 0, forgiven = 0;
  i64 bailed_in = 0, equity_paid = 0;
  FOR_LANES(i, C) {
    const i64 money = s.deposits[i] - a.deposits[i], debt = s.loans[i] - a.loans[i];
    const i64 came = s.wage_income[i] + s.benefits[i] + s.interest_received[i] + s.dividends[i] + s.borrowed[i];
    const i64 went = s.income_taxes[i] + s.spending[i] + s.interest_paid[i] + s.repaid[i] + s.bailed_in[i] + s.equity_paid[i];
    gap = off(off(gap, came - went - money), s.borrowed[i] - s.repaid[i] - s.forgiven[i] - debt);
    low = at_most(at_most(low, s.deposits[i]), s.loans[i]), high = at_least(at_least(high, s.deposits[i]), s.loans[i]);
    deposits += s.deposits[i], loans += s.loans[i], d_deposits += money, d_loans += debt, wage_income += s.wage_income[i];
    benefits += s.benefits[i], income_taxes += s.income_taxes[i], spending += s.spending[i], interest_received += s.interest_received[i];
    interest_paid += s.interest_paid[i], dividends += s.dividends[i], borrowed += s.borrowed[i], repaid += s.repaid[i];
    forgiven += s.forgiven[i], bailed_in += s.bailed_in[i], equity_paid += s.equity_paid[i];
  }
  FOR_LANES(i, C) {
    const i32 bank = s.bank[i], firm = s.employer[i];
    add(held + bank, s.deposits[i]), add(lent + bank, s.loans[i]);
    add(gained + bank, s.deposits[i] - a.deposits[i]), add(granted + bank, s.borrowed[i] - s.repaid[i]);
    if (firm >= 0) add(s.scratch + at_most(firm, F - 1), (i64)1);
    nowhere += firm >= F || firm < -1;
  }
  i64 lowest = -largest(-low), most = largest(high);
  const i64 consumers_broken = broken(together(
    infinite(C, s.log_ability) + infinite(C, s.ability) + infinite(C, s.permanent_income) + infinite(C, s.buffer) + infinite(C, s.ownership)),
    most, lowest);
  i64 least = lowest;
  deposits = together(deposits), loans = together(loans), d_deposits = together(d_deposits), d_loans = together(d_loans);
  wage_income = together(wage_income), benefits = together(benefits), income_taxes = together(income_taxes), spending = together(spending);
  interest_received = together(interest_received), interest_paid = together(interest_paid), dividends = together(dividends);
  borrowed = together(borrowed), repaid = together(repaid), forgiven = together(forgiven), bailed_in = together(bailed_in);
  equity_paid = together(equity_paid);

  // firms
  i64 firm_deposits = 0, firm_loans = 0, d_firm_deposits = 0, d_firm_loans = 0, capital_value = 0, inventory_cost = 0, d_inventory_cost = 0;
  i64 revenue = 0, wage_bill = 0, goods_cost = 0, investment = 0, firm_interest_paid = 0, firm_interest_received = 0, firm_tax = 0;
  i64 firm_dividends = 0, firm_forgiven = 0, firm_bailed_in = 0, equity_issued = 0;
  low = high = 0;
  FOR_LANES(j, F) {
    const i64 money = s.firm_deposits[j] - a.firm_deposits[j], debt = s.firm_loans[j] - a.firm_loans[j];
    const i64 came = s.revenue[j] + s.firm_interest_received[j] + s.firm_borrowed[j] + s.equity_issued[j];
    const i64 went = s.wage_bill[j] + s.investment[j] + s.firm_interest_paid[j] + s.firm_tax[j] + s.firm_dividends[j] + s.firm_repaid[j]
      + s.firm_bailed_in[j];
    gap = off(off(gap, came - went - money), s.firm_borrowed[j] - s.firm_repaid[j] - s.firm_forgiven[j] - debt);
    gap = off(gap, s.wage_bill[j] - s.goods_cost[j] - (s.inventory_cost[j] - a.inventory_cost[j]));
    low = at_most(at_most(low, s.firm_deposits[j]), at_most(s.firm_loans[j], s.inventory_cost[j]));
    high = at_least(at_least(high, s.firm_deposits[j]), at_least(s.firm_loans[j], s.inventory_cost[j]));
    firm_deposits += s.firm_deposits[j], firm_loans += s.firm_loans[j], d_firm_deposits += money, d_firm_loans += debt;
    capital_value += s.capital_value[j], inventory_cost += s.inventory_cost[j], d_inventory_cost += s.inventory_cost[j] - a.inventory_cost[j];
    revenue += s.revenue[j], wage_bill += s.wage_bill[j], goods_cost += s.goods_cost[j], investment += s.investment[j];
    firm_interest_paid += s.firm_interest_paid[j], firm_interest_received += s.firm_interest_received[j], firm_tax += s.firm_tax[j];
    firm_dividends += s.firm_dividends[j], firm_forgiven += s.firm_forgiven[j], firm_bailed_in += s.firm_bailed_in[j];
    equity_issued += s.equity_issued[j];
  }
  const double unit = 1e-6 / *s.price_level;  // of money, in goods: wear is rounded to it
  double goods = 0, scarce = 0;
  i64 heads = 0, capital_low = 0, capital_high = 0;
  BARRIER();
  FOR_LANES(j, F) {
    const i32 bank = s.firm_bank[j];
    add(held + bank, s.firm_deposits[j]), add(lent + bank, s.firm_loans[j]);
    add(gained + bank, s.firm_deposits[j] - a.firm_deposits[j]), add(granted + bank, s.firm_borrowed[j] - s.firm_repaid[j]);
    heads = off(heads, s.scratch[j] - s.employees[j]);
    s.scratch[j] = 0;
    const double supply = a.inventory[j] + s.produced[j];
    goods = at_least(goods, distance(supply - s.sales[j], s.inventory[j]) / at_least(supply, 1));
    const double astray = distance(a.capital[j] + (double)(s.investment[j] - s.worn[j]) * unit, s.capital[j]) - unit;
    if (astray > 0) goods = at_least(goods, astray / at_least(s.capital[j], 1));
    scarce = at_least(scarce, -at_most(s.capital[j], s.inventory[j]));
    capital_low = at_most(capital_low, s.capital_value[j]), capital_high = at_least(capital_high, s.capital_value[j]);
  }
  gap = largest(gap), heads = largest(heads), goods = largest_real(goods), scarce = largest_real(scarce), nowhere = together(nowhere);
  lowest = -largest(-low), most = largest(at_least(high, capital_high)), least = at_most(least, lowest);
  const i64 firms_broken = broken(together(
    infinite(F, s.capital) + infinite(F, s.inventory) + infinite(F, s.price) + infinite(F, s.wage) + infinite(F, s.firm_productivity)
    + infinite(F, s.customers) + infinite(F, s.expected_sales) + infinite(F, s.output_wanted) + infinite(F, s.labor_wanted)
    + infinite(F, s.unit_labor) + infinite(F, s.real_rate) + infinite(F, s.loan_rate) + infinite(F, s.investment_plan)
    + infinite(F, s.smoothed_profit) + infinite(F, s.noticed_demand) + infinite(F, s.sales) + infinite(F, s.produced) + infinite(F, s.labor)
    + infinite(F, s.hours)), most, at_most(lowest, -largest(-capital_low)));
  firm_deposits = together(firm_deposits), firm_loans = together(firm_loans), d_firm_deposits = together(d_firm_deposits);
  d_firm_loans = together(d_firm_loans), capital_value = together(capital_value), inventory_cost = together(inventory_cost);
  d_inventory_cost = together(d_inventory_cost), revenue = together(revenue), wage_bill = together(wage_bill);
  goods_cost = together(goods_cost), investment = together(investment), firm_interest_paid = together(firm_interest_paid);
  firm_interest_received = together(firm_interest_received), firm_tax = together(firm_tax), firm_dividends = together(firm_dividends);
  firm_forgiven = together(firm_forgiven), firm_bailed_in = together(firm_bailed_in), equity_issued = together(equity_issued);

  // banks and government
  const i64 bank_deposits = total(s.bank_deposits), bank_loans = total(s.bank_loans), equity = total(s.equity);
  const i64 bank_bonds = total(s.bank_bonds), advances = total(s.advances), reserves = total(s.reserves), bail_in = total(s.bail_in);
  const i64 loan_interest = total(s.loan_interest), deposit_interest = total(s.deposit_interest), coupons = total(s.coupons);
  const i64 reserve_interest = total(s.reserve_interest), advance_interest = total(s.advance_interest), bank_tax = total(s.bank_tax);
  const i64 bank_dividends = total(s.bank_dividends), write_offs = total(s.write_offs), recapitalised = total(s.recapitalised);
  const i64 moved_deposits = total(s.moved_deposits), moved_loans = total(s.moved_loans);
  const i64 d_bank_deposits = bank_deposits - total(a.bank_deposits), d_bank_loans = bank_loans - total(a.bank_loans);
  const i64 d_bank_bonds = bank_bonds - total(a.bank_bonds), d_reserves = reserves - total(a.reserves);
  const i64 d_advances = advances - total(a.advances);
  const i64 purchases = *s.purchases, bonds = *s.bonds, central_bank_bonds = *s.central_bank_bonds, treasury = *s.treasury;
  const i64 d_bonds = bonds - *a.bonds, d_central_bank_bonds = central_bank_bonds - *a.central_bank_bonds, d_treasury = treasury - *a.treasury;
  const i64 remitted = *s.central_bank_coupons + advance_interest - reserve_interest;
  const i64 firms_kept = revenue + firm_interest_received - wage_bill - firm_interest_paid - firm_tax - firm_dividends + d_inventory_cost;
  const i64 banks_kept = loan_interest + coupons + reserve_interest - deposit_interest - advance_interest - bank_tax - bank_dividends;
  const i64 firms_worth = capital_value + inventory_cost + firm_deposits - firm_loans;

  const i64 sums[] = {  // T1: rows, then columns, that are not zero by their definition
    wage_income - wage_bill, loan_interest - interest_paid - firm_interest_paid, interest_received + firm_interest_received - deposit_interest,
    dividends - firm_dividends - bank_dividends, bail_in - bailed_in - firm_bailed_in, equity_issued - equity_paid,
    moved_deposits - moved_loans, d_bank_deposits - d_deposits - d_firm_deposits,
    d_loans + forgiven + d_firm_loans - d_bank_loans + firm_forgiven - write_offs, d_bonds - d_bank_bonds - d_central_bank_bonds,
    deposits + firm_deposits - bank_deposits, bank_loans - firm_loans - loans, bank_bonds - bonds + central_bank_bonds,
    wage_income + benefits - spending - income_taxes - interest_paid + interest_received + dividends - bailed_in - equity_paid - d_deposits
      + d_loans + forgiven,
    spending + purchases + investment + d_inventory_cost - wage_bill - firm_tax - firm_interest_paid + firm_interest_received
      - firm_dividends - firms_kept,
    firms_kept - investment - d_inventory_cost - firm_bailed_in + equity_issued - d_firm_deposits + d_firm_loans + firm_forgiven,
    banks_kept + recapitalised + bail_in + moved_deposits - moved_loans + d_bank_deposits - d_bank_loans - write_offs - d_bank_bonds
      - d_reserves + d_advances,
    income_taxes + firm_tax + bank_tax + remitted - purchases - benefits - coupons - *s.central_bank_coupons - recapitalised + d_bonds
      - d_treasury,
    d_reserves - d_central_bank_bonds - d_advances + d_treasury,
    bank_loans + bank_bonds + reserves - bank_deposits - advances - equity, central_bank_bonds - reserves + advances - treasury,
  };
  i64 matrices = 0;
  for (const i64 sum : sums) matrices = off(matrices, sum);

  i64 reserve_gap = 0, own = 0, equity_gap = 0;  // T2, T4, T5
  low = at_most(at_most(bonds, treasury), central_bank_bonds), high = at_least(at_least(bonds, treasury), central_bank_bonds);
  const i64 government_broken = broken(together(
    infinite(1, s.coupon) + infinite(1, s.income_tax) + infinite(1, s.purchases_level) + infinite(1, s.replacement)
    + infinite(1, s.policy_rate) + infinite(1, s.rate_change) + infinite(1, s.price_level) + infinite(1, s.price_1) + infinite(1, s.price_2)
    + infinite(1, s.price_3) + infinite(1, s.price_4) + infinite(1, s.inflation) + infinite(1, s.inflation_4q)
    + infinite(1, s.expected_inflation) + infinite(1, s.average_inflation) + infinite(1, s.real_deposit_rate) + infinite(1, s.unemployment) + infinite(1, s.output)
    + infinite(1, s.nominal_output) + infinite(1, s.trend_output) + infinite(1, s.output_gap) + infinite(1, s.gap_change)
    + infinite(1, s.mean_wage) + infinite(1, s.wage_growth) + infinite(1, s.debt_ratio) + infinite(1, s.credit)
    + infinite(1, s.credit_growth) + infinite(1, s.fill_rate) + infinite(1, s.vacancies) + infinite(1, s.hours_worked)
    + infinite(1, s.inventory_change) + infinite(1, s.rationed) + infinite(1, s.shortage) + infinite(1, s.overdrafts)
    + infinite(1, s.failures) + infinite(1, s.charge_offs) + infinite(1, s.capacity_use) + infinite(1, s.full_time_output)
    + infinite(1, s.sentiment)
    + infinite(1, s.trend) + infinite(1, s.tfp) + infinite(1, s.demand_shock) + infinite(1, s.purchases_shock)
    + infinite(1, s.investment_shock) + infinite(1, s.cost_shock) + infinite(1, s.spread_shock) + infinite(1, s.rate_shock)
    + infinite(1, s.equity_shock) + infinite(1, s.normal_staffing) + infinite(1, s.normal_consumption) + infinite(1, s.normal_wage)
    + infinite(1, s.normal_capital) + infinite(1, s.normal_equity)),
    at_least(high, *s.bonds_purchased), at_most(low, *s.bonds_purchased));
  least = at_most(least, low);
  low = high = 0;
  i64 equity_low = 0;
  for (int b = 0; b < B; ++b) {
    const i64 reserve = held[b] + s.equity[b] + s.advances[b] - lent[b] - s.bank_bonds[b];
    reserve_gap = off(reserve_gap, reserve - s.reserves[b]), own += reserve;
    gap = off(gap, a.bank_deposits[b] + s.moved_deposits[b] + gained[b] - s.bank_deposits[b]);
    gap = off(gap, a.bank_loans[b] + s.moved_loans[b] + granted[b] - s.write_offs[b] - s.bank_loans[b]);
    const i64 kept = s.loan_interest[b] + s.coupons[b] + s.reserve_interest[b] - s.deposit_interest[b] - s.advance_interest[b]
      - s.bank_tax[b] - s.bank_dividends[b];
    equity_gap = off(equity_gap, a.equity[b] + kept + s.recapitalised[b] + s.bail_in[b] - s.write_offs[b] - s.equity[b]);
    const i64 balances[] = {s.bank_deposits[b], s.bank_loans[b], s.bank_bonds[b], s.advances[b], s.reserves[b]};
    for (const i64 balance : balances) low = at_most(low, balance), high = at_least(high, balance);
    equity_low = at_most(equity_low, s.equity[b]), high = at_least(high, s.equity[b]);
  }
  least = at_most(least, low);
  const i64 banks_broken = broken(together(infinite(B, s.base_rate) + infinite(B, s.deposit_rate) + infinite(B, s.leverage_cap)), high,
                                  at_most(low, equity_low));
  const i64 received = income_taxes + firm_tax + bank_tax + remitted;
  const i64 paid = benefits + purchases + coupons + *s.central_bank_coupons + recapitalised;

  const i64 nation = capital_value + inventory_cost, claims = deposits - loans + firms_worth + equity + treasury - bonds;  // T6, T9
  const double value = sum(F, [&](int j) { return s.capital[j]; }) * *s.price_level * 1e6 + (double)inventory_cost;
  const double priced = at_least(distance((double)nation, value) - 0.5 * F, 0) / at_least(value, 1);
  const i64 spent = spending + purchases + investment + d_inventory_cost, made = revenue + d_inventory_cost;
  const i64 earned = wage_income + revenue - goods_cost;

  FOR_LANES(lane, 1) {
    *r.T1 = (double)matrices;
    *r.T2 = (double)off(reserve_gap, own - (central_bank_bonds + advances - treasury));
    *r.T3 = (double)off(0, bank_bonds + central_bank_bonds - bonds);
    *r.T4 = (double)off(gap, received - paid + d_bonds - d_treasury);
    *r.T5 = (double)equity_gap;
    *r.T6 = at_least((double)off(0, claims - nation) / at_least(value, 1), priced);
    *r.T7 = (double)off(heads, nowhere);
    *r.T8 = goods;
    *r.T9 = (double)off(off(0, spent - made), made - earned) / (double)at_least(spent, 1);
    *r.T10 = at_least((double)-least, scarce);
    *r.T11 = (double)at_least(at_least(consumers_broken, firms_broken), at_least(banks_broken, government_broken));
  }
}
