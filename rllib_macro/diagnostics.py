"""How good a policy of a growth model is, whoever made it: Euler errors, distance to a reference, welfare, on named sets of states.

A policy is a function share(k, z, d), the share of resources saved. Definitions: Judd (1992) for Euler errors in units of consumption;
Aruoba, Fernandez-Villaverde and Rubio-Ramirez (2006) for the sets.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kernels import growth
from kernels.growth import Params
from rllib_macro.solvers.policy import Share

CAPITALS, RATES = 201, 11  # of the lattice of a box
CORE = (0.7, 1.3)  # steady states
BURN, VISITED = 1_000, 10_000
CHUNK = 20_000  # states evaluated at once
SETS = ("box", "core", "ergodic")


@dataclass(frozen=True)
class States:
    """Arrays of one shape: capital, number of the productivity level, rate of depreciation."""

    k: np.ndarray
    z: np.ndarray
    d: np.ndarray

    def chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The states in parts that fit a cache."""
        for i in range(0, self.k.size, CHUNK):
            yield self.k[i:i + CHUNK], self.z[i:i + CHUNK], self.d[i:i + CHUNK]

    def of(self, f: Share) -> np.ndarray:
        """f(k, z, d) in every state."""
        return np.concatenate([f(*part) for part in self.chunks()])


@dataclass(frozen=True)
class EulerErrors:
    """log10 of the mean and of the maximum of |EE|, and the mean of log10 |EE|; EE = 1 - c_Euler / c."""

    mean: float
    max: float
    mean_log: float


def rates(p: Params) -> np.ndarray:
    """Rates of depreciation to look at: the levels of a chain, or 11 points of the range in which a rate stays."""
    if p.depreciation_transition or len(p.depreciation) == 1:
        return np.array(p.depreciation, float)
    return np.linspace(min(p.depreciation), max(p.depreciation), RATES)


def states(p: Params, where: str, share: Share | None = None) -> States:
    """The lattice `box` or `core` (201 capitals x productivity x depreciation), or 10,000 states that `share` itself visits, `ergodic`."""
    if where == "ergodic":
        if share is None:
            raise ValueError("the ergodic set is the one that a policy visits; give its share")
        return visited(p, share)
    low, high = growth.box(p) if where == "box" else (factor * growth.steady_state(p) for factor in CORE)
    lattice = np.meshgrid(np.linspace(low, high, CAPITALS), np.arange(len(p.productivity)), rates(p), indexing="ij")
    return States(*(axis.ravel() for axis in lattice))


def visited(p: Params, share: Share, seed: int = 0) -> States:
    """10,000 states of one path after 1,000 periods; where the rate stays, an equal part of them at each of 11 rates."""
    stays = not p.depreciation_transition
    d = rates(p) if stays else np.array(p.depreciation[:1])
    steps = -(-VISITED // len(d))
    path = [now for i, now in enumerate(walk(p, share, growth.steady_state(p, d), d, BURN + steps, seed)) if i >= BURN]
    return States(*(np.concatenate([getattr(now, name) for now in path])[:VISITED] for name in ("k", "z", "d")))


def walk(p: Params, share: Share, k: np.ndarray, d: np.ndarray, periods: int, seed: int) -> Iterator[States]:
    """The states of len(k) paths, period by period, productivity starting at its middle level; the seed fixes the shocks."""
    growth.validate(p, sampled=True)
    rng, n, m = np.random.default_rng(seed), len(p.productivity), len(p.depreciation)
    below = np.cumsum(np.reshape(p.transition, (n, n)), 1)[:, :-1]
    rate_below = np.cumsum(np.reshape(p.depreciation_transition, (m, m)), 1)[:, :-1] if p.depreciation_transition else None
    k, d, z = np.array(k, float), np.array(d, float), np.full(len(k), n // 2)
    for _ in range(periods):
        yield States(k, z, d)
        k = growth.next_capital(p, k, d, share(k, z, d) * growth.resources(p, k, z, d))
        z = (rng.random(len(k))[:, None] > below[z]).sum(1)
        if rate_below is not None:
            rate = (rng.random(len(k))[:, None] > rate_below[growth.depreciation_index(p, d)]).sum(1)
            d = np.array(p.depreciation)[rate]


def errors(p: Params, share: Share, at: States) -> np.ndarray:
    """|EE| in every state: |1 - c_Euler / c|."""
    def one(k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
        c = (1 - share(k, z, d)) * growth.resources(p, k, z, d)
        return np.abs(1 - growth.euler_consumption(p, share, k, z, d) / c)
    return at.of(one)


def euler_errors(p: Params, share: Share, where: str = "box") -> EulerErrors:
    """Euler errors of a policy on a named set."""
    found = np.maximum(errors(p, share, states(p, where, share)), 1e-17)
    return EulerErrors(float(np.log10(found.mean())), float(np.log10(found.max())), float(np.log10(found).mean()))


def legacy_euler(p: Params, share: Share, periods: int = 500, seed: int = 0) -> float:
    """mean |beta E u'(c')/u'(c) R' - 1| along one path: in units of marginal utility, kept for comparison with older tables."""
    rate = np.array([rates(p).mean()]) if not p.depreciation_transition else np.array(p.depreciation[:1])
    path = [(now.k, now.z, now.d) for now in walk(p, share, growth.steady_state(p, rate), rate, periods, seed)]
    k, z, d = (np.concatenate(part) for part in zip(*path, strict=True))
    c = (1 - share(k, z, d)) * growth.resources(p, k, z, d)
    asked = growth.euler_consumption(p, share, k, z, d)
    return float(np.abs(growth.marginal_utility(p, asked) / growth.marginal_utility(p, c) - 1).mean())


def policy_distance(p: Params, share: Share, reference: Share, where: str = "box") -> tuple[float, float]:
    """Mean and maximum of |c / c_reference - 1|; the ergodic set is the reference's."""
    at = states(p, where, reference)
    off = np.abs((1 - at.of(share)) / (1 - at.of(reference)) - 1)
    return float(off.mean()), float(off.max())


def welfare_loss(p: Params, share: Share, reference: Share, paths: int = 100_000, periods: int = 400, seed: int = 0) -> float:
    """Share of consumption that following `share` instead of the reference is worth, on the same shocks from the steady state; a loss is
    negative.

    Log utility: exp(W - W_reference) - 1 with W = (1-beta) sum beta^t log c; else (W / W_reference)^(1/(1-gamma)) - 1.
    """
    d = rates(p)[np.arange(paths) % len(rates(p))]
    worth = []
    for policy in (share, reference):
        total = 0.0
        for t, now in enumerate(walk(p, policy, growth.steady_state(p, d), d, periods, seed)):
            c = (1 - policy(now.k, now.z, now.d)) * growth.resources(p, now.k, now.z, now.d)
            total += p.beta**t * (1 - p.beta) * float(growth.reward(p, c).mean())
        worth.append(total)
    mine, best = worth
    return float(np.exp(mine - best) - 1 if p.crra == 1 else (mine / best) ** (1 / (1 - p.crra)) - 1)


def value_error(p: Params, value: Share, reference: Share, where: str = "box") -> float:
    """sup |V - V_reference|, in units of (1-beta)."""
    at = states(p, where)
    return float(np.abs(at.of(value) - at.of(reference)).max())
