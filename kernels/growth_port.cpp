// The opponent of value iteration: what the program of Aruoba and Fernandez-Villaverde (2015) does, written anew from their description.
//
// Same grid, same layout (capital outside, productivity inside), same sweeps: expected values first, then for every productivity a walk up
// the grid that starts where the last capital's choice was and stops when the value no longer rises. To be compiled with -O3. Called as
// `growth_port [alpha [file]]`; prints sweeps, the last change and the capital chosen at the 1,000th point and the third productivity, and
// writes values, then choices, to the file.
#include <cmath>
#include <cstdio>
#include <cstdlib>

constexpr int POINTS = 17820, LEVELS = 5;
constexpr double BETA = 0.95, TOLERANCE = 1e-7;
constexpr double PRODUCTIVITY[LEVELS] = {0.9792, 0.9896, 1.0, 1.0106, 1.0212};
constexpr double CHAIN[LEVELS][LEVELS] = {{0.9727, 0.0273, 0, 0, 0},
                                          {0.0041, 0.9806, 0.0153, 0, 0},
                                          {0, 0.0082, 0.9837, 0.0082, 0},
                                          {0, 0, 0.0153, 0.9806, 0.0041},
                                          {0, 0, 0, 0.0273, 0.9727}};

static double capital[POINTS], output[POINTS][LEVELS], value[POINTS][LEVELS];
static double expected[POINTS][LEVELS], fresh[POINTS][LEVELS], chosen[POINTS][LEVELS];

static void expect() {
  for (int z = 0; z < LEVELS; ++z)
    for (int i = 0; i < POINTS; ++i) {
      double sum = 0;
      for (int after = 0; after < LEVELS; ++after) sum += CHAIN[z][after] * value[i][after];
      expected[i][z] = sum;
    }
}

static void choose() {
  for (int z = 0; z < LEVELS; ++z)
    for (int i = 0, from = 0; i < POINTS; ++i) {
      double best = -1e5;
      for (int g = from; g < POINTS; ++g) {
        const double now = (1 - BETA) * std::log(output[i][z] - capital[g]) + BETA * expected[g][z];
        if (!(now > best)) break;
        best = now, from = g;
      }
      fresh[i][z] = best, chosen[i][z] = capital[from];
    }
}

static double replace() {
  double change = 0;
  for (int z = 0; z < LEVELS; ++z)
    for (int i = 0; i < POINTS; ++i) {
      const double apart = std::fabs(value[i][z] - fresh[i][z]);
      if (apart > change) change = apart;
      value[i][z] = fresh[i][z];
    }
  return change;
}

int main(int arguments, char **argument) {
  const double alpha = arguments > 1 ? std::atof(argument[1]) : 0.33333333333, stay = std::pow(alpha * BETA, 1 / (1 - alpha));
  for (int i = 0; i < POINTS; ++i) {
    capital[i] = 0.5 * stay + 0.00001 * i;
    for (int z = 0; z < LEVELS; ++z) output[i][z] = PRODUCTIVITY[z] * std::pow(capital[i], alpha);
  }
  int sweeps = 0;
  double change = 1;
  while (change > TOLERANCE) expect(), choose(), change = replace(), ++sweeps;
  std::printf("%d %.17g %.17g\n", sweeps, change, chosen[999][2]);
  if (arguments < 3) return 0;
  std::FILE *kept = std::fopen(argument[2], "wb");
  const bool whole = kept && std::fwrite(value, sizeof value, 1, kept) && std::fwrite(chosen, sizeof chosen, 1, kept);
  return whole && !std::fclose(kept) ? 0 : 1;
}
