// Twin of kernels/core/categorical.py: one row of logits, lanes are heads (dialect: lanes.cuh).

// exp(x) for x <= 0: 2^n times a polynomial (Cody and Waite reduction, coefficients of Cephes expf), within 2 units in the last place.
// Without branches or calls, so that a host compiler turns the loop over options into vector instructions.
DEVICE float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  union { i32 bits; float value; } scale;
  scale.bits = ((i32)n + 127) << 23;
  return y * scale.value;
}
DEVICE double fast_exp(double x) { return exp(x); }

// First option whose cumulative probability exceeds the uniform, never one of probability zero.
DEVICE void draw(const Params &p, const State &s, const Actions &a) {
  SHARED(real, below, L);  // logits less the largest of their head
  SHARED(real, weight, L);
  SHARED(real, logp, H);
  FOR_LANES(h, H) {
    real top = s.logits[p.start[h]];
    for (int k = p.start[h]; k < p.start[h + 1]; ++k) top = at_least(s.logits[k], top);
    for (int k = p.start[h]; k < p.start[h + 1]; ++k) below[k] = s.logits[k] - top;
  }
  BARRIER();
  FOR_LANES(k, L) {
    const real w = fast_exp(below[k]);
    weight[k] = below[k] < -87 ? 0 : w;
  }
  BARRIER();
  FOR_LANES(h, H) {
    const int low = p.start[h], high = p.start[h + 1];
    real total = 0, sum = 0;
    for (int k = low; k < high; ++k) total += weight[k];
    const real target = at_most(s.uniform[h], 1 - 5.9604645e-8f) * total;  // 1 - 2^-24: rounds to less than the total
    int option = 0;
    for (int k = low; k < high - 1; ++k) {
      sum += weight[k];
      option += sum <= target;
    }
    a.option[h] = option;
    logp[h] = below[low + option] - log(total);
  }
  BARRIER();
  FOR_LANES(lane, 1) {
    real sum = 0;
    for (int h = 0; h < H; ++h) sum += logp[h];
    *a.logp = sum;
  }
  BARRIER();
}
