"""What solvers of incomplete markets share: the household's problem by endogenous grid points, the wealth of many as a histogram, and what
is true of any policy: Euler errors where its households are, the distance to another, the law of motion that its aggregate follows."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import envs
from envs.core.batch import Batch
from envs.core.economy import Rule
from kernels import incomplete_markets as model
from kernels import incomplete_markets_histogram as histogram
from kernels.core import launch
from kernels.core.rng import Draws, key
from kernels.incomplete_markets import Params
from rllib_macro.solvers.policy import Policy, Share

BLOCK = 100  # periods that the histogram moves on in one call
RANGE = 0.76, 1.28  # aggregate capital for which rules are made, in steady states
NODES = 21  # of aggregate capital in a histogram's rule
TOP = 2.55  # wealth of the histogram's last bin, in steady states


# -- one household


def wealth_grid(n: int, top: float, power: float) -> np.ndarray:
    """n points from 0 to top, dense at 0: top (i / (n-1))^power."""
    return top * np.linspace(0, 1, n) ** power


def node_weights(nodes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(..., N) Lagrange's weights: the polynomial through values at the nodes is their weighted sum at x (...). For a handful of nodes."""
    x, n = np.asarray(x, float)[..., None, None], len(nodes)
    factors = (x - nodes) / np.where(np.eye(n, dtype=bool), 1, nodes[:, None] - nodes)  # (..., N, N)
    return np.where(np.eye(n, dtype=bool), 1, factors).prod(-1)


@dataclass(frozen=True)
class Problem:
    """What a household takes as given on a grid: its successors' prices and probabilities. Axes: Z level, E income, N node, G wealth."""

    p: Params
    wealth: np.ndarray  # (G,)
    nodes: np.ndarray  # (N,) aggregate capital
    mix: np.ndarray  # (Z, N, N) weights of the nodes at tomorrow's aggregate capital
    expected: np.ndarray  # (Z, N, E, Z', E') beta P R', R' at tomorrow's capital
    gross: np.ndarray  # (Z, N)
    earned: np.ndarray  # (Z, E, N)

    @classmethod
    def at(cls, p: Params, wealth: np.ndarray, nodes: np.ndarray, law: np.ndarray) -> Problem:
        """The problem of a household that expects log K' = law[z, 0] + law[z, 1] log K."""
        levels, incomes = len(p.productivity), len(p.labor)
        z, n = np.arange(levels)[:, None], np.broadcast_to(nodes, (levels, len(nodes)))
        labor, _ = model.labor_supply(p, z, nodes)
        tomorrow = model.next_capital(law, n, z)
        z_ = np.arange(levels)
        after = model.gross_return(p, tomorrow[..., None], model.labor_supply(p, z_, nodes)[0], z_)  # (Z, N, Z')
        joint = np.reshape(p.transition, (levels, incomes, levels, incomes))
        expected = p.beta * joint[:, None] * after[:, :, None, :, None]
        earned = model.resources(p, np.zeros(1), np.arange(incomes)[:, None], nodes, z[..., None])
        return cls(p, wealth, nodes, node_weights(nodes, tomorrow), expected, model.gross_return(p, n, labor, z), earned)

    def resources(self) -> np.ndarray:
        """(Z, E, N, G)."""
        return self.earned[..., None] + self.gross[:, None, :, None] * self.wealth

    def improved(self, consumed: np.ndarray) -> np.ndarray:
        """Consumption today (Z, E, N, G) if tomorrow's is `consumed`, by endogenous grid points (Carroll, 2006): where k' is a point of the
        grid the Euler equation gives c and the wealth from which it is saved; in between c is linear, below the first it is all there
        is."""
        p, wealth = self.p, self.wealth
        levels, incomes, nodes, points = consumed.shape
        tomorrow = self.mix.reshape(levels * nodes, nodes) @ consumed.transpose(2, 0, 1, 3).reshape(nodes, -1)
        following = model.marginal_utility(p, tomorrow).reshape(levels, nodes, levels * incomes, points)
        rows = self.expected.reshape(levels, nodes, incomes, levels * incomes)
        chosen = model.consumption_of(p, rows @ following).transpose(0, 2, 1, 3)  # (Z, E, N, G)
        today = (wealth + chosen - self.earned[..., None]) / self.gross[:, None, :, None]
        found = np.empty_like(chosen)
        for at in np.ndindex(levels, incomes, nodes):
            found[at] = np.interp(wealth, today[at], chosen[at])
        last, before = (slice(None), slice(None), slice(None), -1), (slice(None), slice(None), slice(None), -2)
        slope = (chosen[last] - chosen[before]) / (today[last] - today[before])
        found = np.where(wealth > today[..., -1:], chosen[..., -1:] + slope[..., None] * (wealth - today[..., -1:]), found)
        return np.where(wealth < today[..., :1], self.earned[..., None] + self.gross[:, None, :, None] * wealth, found)

    def solve(self, consumed: np.ndarray | None = None, tolerance: float = 1e-8, most: int = 5000) -> tuple[np.ndarray, int]:
        """The consumption (Z, E, N, G) that is its own best reply, to a relative tolerance, and how many improvements that took."""
        if consumed is None:
            consumed = self.earned[..., None] + np.maximum(self.gross[:, None, :, None] - 1, 0.02) * self.wealth
        for k in range(1, most + 1):
            before, consumed = consumed, self.improved(consumed)
            if np.abs(consumed / before - 1).max() < tolerance:
                return consumed, k
        raise ValueError(f"the household's problem did not converge in {most} iterations; is 1/beta below the return on capital?")


@dataclass(frozen=True)
class Table:
    """Consumption on a grid as a policy: linear in wealth, the polynomial through the nodes in aggregate capital."""

    p: Params
    wealth: np.ndarray
    nodes: np.ndarray
    consumed: np.ndarray  # (Z, E, N, G)

    def consumption(self, wealth: np.ndarray, income: np.ndarray, capital: np.ndarray, level: np.ndarray) -> np.ndarray:
        """c(k, e, K, z); all arguments of one shape, or broadcast."""
        wealth, income, capital, level = np.broadcast_arrays(wealth, income, capital, level)
        g = np.clip(np.searchsorted(self.wealth, wealth, side="right") - 1, 0, len(self.wealth) - 2)
        step = (wealth - self.wealth[g]) / (self.wealth[g + 1] - self.wealth[g])
        weights = node_weights(self.nodes, capital)
        consumed = np.zeros(wealth.shape)
        for n in range(len(self.nodes)):
            low, high = self.consumed[level, income, n, g], self.consumed[level, income, n, g + 1]
            consumed += weights[..., n] * (low + step * (high - low))
        return consumed

    def share(self, wealth: np.ndarray, income: np.ndarray, capital: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Share of resources saved, strictly inside (0, 1)."""
        there = model.resources(self.p, wealth, income, capital, level)
        return np.clip(1 - self.consumption(wealth, income, capital, level) / there, LEAST, 1 - LEAST)


LEAST = 1e-12  # share saved by who saves nothing


# -- all of them: a histogram over equally spaced bins


@dataclass(frozen=True)
class Simulation:
    """A continuum of households over time: level (T + 1,), capital (T,) at the start of each period, mass (E, G) after the last over bins
    (G,), and states (4, n) of (wealth, income, capital, level) met on the way, each as likely as it occurs."""

    p: Params
    bins: np.ndarray
    level: np.ndarray
    capital: np.ndarray
    mass: np.ndarray
    states: np.ndarray


def level_path(p: Params, periods: int, seed: int) -> np.ndarray:
    """(periods + 1,) numbers of the level, drawn from its chain; it starts where it is most of the time."""
    parts = model.chain(p)
    u = Draws(key(seed), np.zeros(1, np.int64), np.zeros(1, np.int64)).uniform(model.LEVEL, periods, np.float64)[0]
    ahead = (u[:, None, None] >= np.cumsum(parts.levels, 1)[:, :-1]).sum(-1).tolist()  # (T, Z): where each level would lead
    path = [int(parts.long_run.argmax())]
    for row in ahead:
        path.append(row[path[-1]])
    return np.array(path, np.int32)


def rule_table(p: Params, share: Share, nodes: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Wealth tomorrow (Z, E, N, G) of any policy."""
    level, income, capital, wealth = np.meshgrid(np.arange(len(p.productivity)), np.arange(len(p.labor)), nodes, bins, indexing="ij")
    return share(wealth, income, capital, level) * model.resources(p, wealth, income, capital, level)


def start_mass(p: Params, bins: np.ndarray, level: int, capital: float) -> np.ndarray:
    """(E, G): everybody owns the same, incomes are in the shares of the level."""
    g = int(np.clip(np.searchsorted(bins, capital, side="right") - 1, 0, len(bins) - 2))
    weight = (capital - bins[g]) / (bins[g + 1] - bins[g])
    mass = np.zeros((len(p.labor), len(bins)))
    mass[:, g], mass[:, g + 1] = (1 - weight) * model.chain(p).shares[level], weight * model.chain(p).shares[level]
    return mass


def simulate(p: Params, share: Share, level: np.ndarray, *, bins: int = 1000, top: float = TOP, sample: int = 0, burn: int = 1000,
             seed: int = 0) -> Simulation:
    """Everybody follows `share` along the levels (T + 1,), T whole hundreds. Runs the compiled twin where there is a compiler.

    top is the wealth of the last bin in steady states; `sample` states of households are drawn after `burn` periods.
    """
    periods = len(level) - 1
    if periods % BLOCK:
        raise ValueError(f"simulate moves {BLOCK} periods at a time, got {periods}; make the path a multiple of {BLOCK}, and one more")
    steady = model.steady_state(p)
    points, nodes = np.linspace(0, top * steady, bins), np.linspace(*RANGE, NODES) * steady
    s = _histogram(p, rule_table(p, share, nodes, points), nodes, start_mass(p, points, level[0], steady))
    sizes = histogram.Params(len(p.productivity), len(p.labor), NODES, bins, BLOCK, float(points[-1]))
    capital, states, generator = np.empty(periods), list[np.ndarray](), np.random.default_rng(seed)
    each = -(-sample * BLOCK // max(periods - burn, 1))
    with launch.use("numpy" if launch.native_problem() else "native"):
        for start in range(0, periods, BLOCK):
            s.level[0], s.following[0] = level[start:start + BLOCK], level[start + 1:start + BLOCK + 1]
            histogram.move(sizes, s)
            capital[start:start + BLOCK] = s.capital[0]
            if sample and start + BLOCK > burn:
                states.append(_drawn(points, s.mass[0], level[start + BLOCK], each, generator))
    met = np.concatenate(states, 1)[:, :sample] if states else np.empty((4, 0))
    return Simulation(p, points, level, capital, s.mass[0], met)


def _histogram(p: Params, rule: np.ndarray, nodes: np.ndarray, mass: np.ndarray) -> histogram.State:
    level, following = np.empty((2, 1, BLOCK), np.int32)
    return histogram.State(mass[None], np.ascontiguousarray(rule[None]), nodes[None], model.chain(p).incomes[None].copy(), level, following,
                           np.empty((1, BLOCK)), np.empty_like(mass)[None])


def _drawn(bins: np.ndarray, mass: np.ndarray, level: int, n: int, generator: np.random.Generator) -> np.ndarray:
    """n households of a histogram: (4, n)."""
    place = np.searchsorted(np.cumsum(mass.ravel()), generator.random(n) * mass.sum(), side="right").clip(0, mass.size - 1)
    income, bin_ = np.divmod(place, len(bins))
    return np.stack([bins[bin_], income, np.full(n, mass.sum(0) @ bins), np.full(n, level)])


def fitted_law(level: np.ndarray, capital: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of log K' on 1 and log K in each level: (law (Z, 2), R2 (Z,)). level and capital (T,)."""
    now, after = np.log(capital[:-1]), np.log(capital[1:])
    laws, fits = [], []
    for z in range(int(level.max()) + 1):
        x, y = now[level[:-1] == z], after[level[:-1] == z]
        slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
        law = y.mean() - slope * x.mean(), slope
        laws.append(law)
        fits.append(1 - ((y - law[0] - law[1] * x) ** 2).sum() / ((y - y.mean()) ** 2).sum())
    return np.array(laws), np.array(fits)


def lorenz(wealth: np.ndarray, mass: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lorenz curve of wealth (G,) held by mass (G,): shares of households and of what they own, poorest first, both from 0 to 1."""
    order = np.argsort(wealth, kind="stable")
    people, owned = np.cumsum(mass[order]), np.cumsum((mass * wealth)[order])
    return np.append(0, people / people[-1]), np.append(0, owned / owned[-1])


def gini(wealth: np.ndarray, mass: np.ndarray) -> float:
    """Gini coefficient of wealth (G,) held by mass (G,): 1 less twice the area under the Lorenz curve."""
    people, owned = lorenz(wealth, mass)
    return float(1 - ((owned[1:] + owned[:-1]) * np.diff(people)).sum())


# -- what is true of a policy, whoever made it; `policy.facts["law"]` is what its households expect


def ergodic(policy: Policy, n: int = 10_000, seed: int = 0, periods: int = 11_000, burn: int = 1000) -> np.ndarray:
    """n states (4, n) of (wealth, income, capital, level) in which households find themselves if all follow the policy."""
    return simulate(policy.p, policy.share, level_path(policy.p, periods, seed), sample=n, burn=burn, seed=seed).states


@dataclass(frozen=True)
class EulerErrors:
    """EE = 1 - min(c_euler, m) / c in some states, where c_euler is what the Euler equation asks for and m all there is; binding is the
    share of states in which the household would like to borrow."""

    error: np.ndarray
    binding: float

    def facts(self, where: str = "ergodic") -> dict[str, float]:
        """log10 of the mean and of the largest, and the mean of the log10 of the absolute errors."""
        size = np.maximum(np.abs(self.error), 1e-16)
        return {f"log10_mean_euler_error_{where}": float(np.log10(size.mean())),
                f"log10_max_euler_error_{where}": float(np.log10(size.max())),
                f"mean_log10_euler_error_{where}": float(np.log10(size).mean())}


def euler_errors(policy: Policy, states: np.ndarray | None = None) -> EulerErrors:
    """Euler errors of households in states (4, n), its own ergodic ones if left out."""
    p, (wealth, income, capital, level) = policy.p, unpacked(ergodic(policy) if states is None else states)
    there = model.resources(p, wealth, income, capital, level)
    saved = policy.share(wealth, income, capital, level) * there
    asked = model.euler_consumption(p, policy.share, policy.facts["law"], saved, income, capital, level)
    return EulerErrors(1 - np.minimum(asked, there) / (there - saved), float((asked > there).mean()))


def policy_distance(policy: Policy, reference: Policy, states: np.ndarray | None = None) -> tuple[float, float]:
    """Mean and largest |c / c_ref - 1| over states (4, n), the reference's ergodic ones if left out."""
    at = unpacked(ergodic(reference) if states is None else states)
    apart = np.abs((1 - policy.share(*at)) / (1 - reference.share(*at)) - 1)
    return float(apart.mean()), float(apart.max())


def unpacked(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(wealth, income, capital, level) of states (4, n), the numbers of income and level as integers."""
    return states[0], states[1].astype(np.int64), states[2], states[3].astype(np.int64)


# -- a finite population


def rule(policy: Policy) -> Rule:
    """The policy as a rule that plays the households of a Batch: its capital is what they own, not what a law says."""
    def follow(p: Any, s: Any, a: Any, draws: Draws) -> None:
        a.saving[...] = policy.share(s.wealth, s.income, s.capital[:, None], s.level[:, None])
    return follow


def play(policy: Policy, *, households: int = 10_000, replicas: int = 1, periods: int = 1000, seed: int = 0) -> tuple[Batch, np.ndarray]:
    """So many households follow the policy, each with luck of its own: the batch after that, and the capital of each replica (T, B)."""
    economy = replace(envs.load("krusell_smith"), horizon=10**9)
    batch = Batch(economy, replace(policy.p, n_households=households), replicas, backend="numpy", real=np.float64, seed=seed)
    batch.rules = {"household": rule(policy)}
    batch.reset()
    capital = np.empty((periods, replicas))
    for t in range(periods):
        capital[t] = batch.s.capital
        batch.step({})
    return batch, capital
