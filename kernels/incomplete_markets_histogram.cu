// Twin of kernels/incomplete_markets_histogram.py, written for one replica (dialect: core/lanes.cuh). Lanes are income states: each moves its
// own households, so that no two add to one bin.

DEVICE void move(const Params &p, const State &s) {
  SHARED(real, aggregate, 1);
  const real width = p.top / (G - 1), per_width = 1 / width;
  for (int t = 0; t < T; ++t) {
    const int z = s.level[t], z_ = s.following[t];
    FOR_LANES(lane, 1) {
      real sum = 0;
      for (int e = 0; e < E; ++e) {
        real part[4] = {0, 0, 0, 0};
        int g = 0;
        for (; g + 4 <= G; g += 4)
          for (int k = 0; k < 4; ++k) part[k] += s.mass[e * G + g + k] * (g + k);
        for (; g < G; ++g) part[0] += s.mass[e * G + g] * g;
        sum += (part[0] + part[1]) + (part[2] + part[3]);
      }
      aggregate[0] = s.capital[t] = sum * width;
    }
    BARRIER();
    const real capital = aggregate[0];
    int n = 0;
    while (n < N - 2 && s.nodes[n + 1] <= capital) ++n;
    const real weight = N > 1 ? (capital - s.nodes[n]) / (s.nodes[n + 1] - s.nodes[n]) : 0;
    FOR_LANES(e, E) {
      const real *mass = s.mass + e * G, *below = s.rule + ((z * E + e) * N + n) * G, *above = N > 1 ? below + G : below;
      real *moved = s.moved + e * G;
      for (int g = 0; g < G; ++g) moved[g] = 0;
      int first = 0, last = G - 1;
      while (first < G && mass[first] == 0) ++first;
      while (last > first && mass[last] == 0) --last;
      for (int g = first; g <= last; ++g) {
        const real place = between((below[g] + weight * (above[g] - below[g])) * per_width, 0, G - 1);
        const int low = at_most((int)place, G - 2);
        const real high = mass[g] * (place - low);
        moved[low] += mass[g] - high;
        moved[low + 1] += high;
      }
    }
    BARRIER();
    const real *row = s.incomes + (z * Z + z_) * E * E;
    FOR_LANES(g, G) {
      for (int e_ = 0; e_ < E; ++e_) {
        real sum = 0;
        for (int e = 0; e < E; ++e) sum += row[e * E + e_] * s.moved[e * G + g];
        s.mass[e_ * G + g] = sum;
      }
    }
    BARRIER();
  }
}
