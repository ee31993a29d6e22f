"""Taxes of the gather-trade-build world: brackets, what is due, and the formula of Saez.

Axes: B replica, N agent, K bracket, L rate that can be chosen. Rates are marginal: bracket k taxes the part of an income between its cutoff
and the next. Source: Saez (2001) as Zheng et al. (2020) compute it.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from kernels.core.arrays import Array, namespace, to_host

US, LINEAR, LOGARITHMIC = range(3)  # spacings of brackets
US_CUTOFFS = (0.0, 9700.0, 39475.0, 84200.0, 160725.0, 204100.0, 510300.0)  # dollars, single filer, 2018
US_RATES = (0.10, 0.12, 0.22, 0.24, 0.32, 0.35, 0.37)
MODEL, US_FEDERAL, SAEZ, FIXED = range(4)
INVERSE_INCOME, UNIFORM_WEIGHTS = range(2)
SAMPLES = 500  # incomes that the Saez formula remembers
BINS = 100  # of its schedule below the top cutoff
FEWEST = 10  # incomes from which an elasticity is estimated
MEMORY = 0.98  # weight of the last estimate of the elasticity
RATE_MEMORY = 0.99  # weight of past Saez rates in their running mean
FIRST_ELASTICITY = 0.5
SMALL = 1e-9


def cutoffs(p: Any) -> np.ndarray:
    """Income at which each bracket begins (K,), coins."""
    if p.bracket_spacing == US:
        return np.array(US_CUTOFFS) / p.usd_scaling
    if p.bracket_spacing == LINEAR:
        return np.linspace(0, p.top_cutoff, p.brackets)
    top = np.log2(p.top_cutoff)
    return np.concatenate([[0], 2 ** np.linspace(top - (p.brackets - 2), top, p.brackets - 1)])


def levels(p: Any) -> np.ndarray:
    """Rates that the planner can choose (L,)."""
    if p.disable_taxes:
        return np.zeros(1)
    rates = np.arange(p.rate_min, p.rate_max + p.rate_step, p.rate_step)
    return rates[rates <= p.rate_max]


def highest(p: Any, episodes: Array) -> Array:
    """The highest rate that annealing allows after so many episodes: clip(m (c - w), 0, 1) rate_max."""
    most = 0.0 if p.disable_taxes else p.rate_max
    if not p.annealing:
        return most + 0.0 * episodes
    warmup, slope = p.annealing
    return namespace(episodes).clip(slope * (episodes - warmup), 0, 1) * most


def begin(p: Any, s: Any, before: Any = None) -> None:
    """A tax year begins with the lowest rates, those of the model, or the running mean of Saez rates. Writes all tax fields that a new
    episode changes."""
    xp = namespace(s)
    s.tax_day[...] = 1
    s.cutoffs[...], s.rate_levels[...] = xp.asarray(cutoffs(p)), xp.asarray(levels(p))
    s.rate_limit[...] = highest(p, s.episodes)
    s.rate_index[...] = 0
    s.last_coin[...] = s.coin + s.coin_escrow
    if before is None:
        s.elasticity[...] = FIRST_ELASTICITY
    s.rates[...] = _standing(p, s)
    s.posted_rates[...] = before.rates if before is not None and p.tax_model == SAEZ else s.rates


def _standing(p: Any, s: Any) -> Array:
    """Rates before anybody sets them, (B, K)."""
    xp = namespace(s)
    if p.disable_taxes:
        return 0 * s.rates
    if p.tax_model == MODEL:
        return s.rate_levels[:, :1] + 0 * s.rates
    if p.tax_model == SAEZ:
        return s.mean_rates
    named = US_RATES if p.tax_model == US_FEDERAL else p.fixed_rates
    return xp.minimum(xp.asarray(named)[None, :], s.rate_limit[:, None])


def set_rates(p: Any, s: Any, chosen: Array, uniform: Array, first: Array) -> None:
    """The first day of a tax year (B,): the planner's choice, the Saez formula, or what stands. Writes rate_index, rates, posted_rates,
    elasticity, mean_rates."""
    xp = namespace(s)
    if p.tax_model == MODEL and not p.disable_taxes:
        changes = first[:, None] & (chosen > 0) & (chosen <= p.n_rates)
        s.rate_index[...] = xp.where(changes, chosen - 1, s.rate_index)
        s.rates[...] = xp.take_along_axis(s.rate_levels, s.rate_index.astype(np.int64), 1)
    elif p.tax_model == SAEZ and not p.disable_taxes:
        for b in map(int, np.flatnonzero(to_host(first))):
            _set_saez(p, s, b, uniform)
    s.posted_rates[...] = xp.where(first[:, None], s.rates, s.posted_rates)


def _set_saez(p: Any, s: Any, b: int, uniform: Array) -> None:
    """Rates of one replica by the Saez formula, random while fewer than SAMPLES incomes are known."""
    xp = namespace(s)
    limit = float(s.rate_limit[b])
    income, rate = known(p, s, b)
    if len(income) < SAMPLES:
        s.rates[b] = p.rate_min + (limit - p.rate_min) * uniform[b]
    else:
        s.elasticity[b] = estimate(income, rate, float(s.elasticity[b]))
        elasticity = float(s.elasticity[b]) if p.saez_elasticity < 0 else p.saez_elasticity
        schedule = saez(to_host(s.cutoffs[b]), income, elasticity, p.saez_weights)
        s.rates[b] = xp.asarray(np.clip(schedule, p.rate_min, limit))
        s.mean_rates[b] = RATE_MEMORY * s.mean_rates[b] + (1 - RATE_MEMORY) * s.rates[b]


def known(p: Any, s: Any, b: int) -> tuple[np.ndarray, np.ndarray]:
    """Incomes and marginal rates from which replica b computes: the last SAMPLES of its own. With saez_shared, those that every replica
    remembered when its running episode began, and then this episode's own; what a replica adds reaches the others at its next reset."""
    taken = int(s.samples[b])
    first = int(s.pool_samples[b]) if p.saez_shared else 0
    own = np.arange(max(first, taken - SAMPLES), taken) % SAMPLES
    found = to_host(s.sample_income[b])[own], to_host(s.sample_rate[b])[own]
    if not p.saez_shared:
        return found
    remembered = np.arange(SAMPLES) < to_host(s.pool_samples)[:, None]
    income, rate = (np.concatenate([to_host(pool)[remembered], mine]) for pool, mine in zip((s.pool_income, s.pool_rate), found))
    return income, rate


def estimate(income: np.ndarray, rate: np.ndarray, before: float) -> float:
    """Elasticity of taxable income: slope of ln z on ln(1 - tau) over incomes z > 0 with tau < 1, smoothed; the last one where rates vary
    too little."""
    known = (income > 0) & (rate < 1)
    z, tau = income[known].astype(np.float64), rate[known].astype(np.float64)
    if len(z) < FEWEST or tau.std() < 1e-6:
        return before
    x, y = np.log(1 - tau), np.log(z)
    x -= x.mean()
    slope = (x * (y - y.mean())).sum() / (x * x).sum()
    return (1 - MEMORY) * max(slope, 0.0) + MEMORY * before


def saez(cutoffs: np.ndarray, income: np.ndarray, elasticity: float, weights: int) -> np.ndarray:
    """Bracket rates (K,) of the binned schedule tau = (1 - g) / (1 - g + a e), g the mean Pareto weight above an income, a the local Pareto
    parameter of the distribution of incomes."""
    top, n = float(cutoffs[-1]), len(income)
    edges = np.linspace(0, top, BINS + 1)
    width = edges[1]
    middle = (edges[1:] + edges[:-1]) / 2
    counts = np.histogram(income[(income >= 0) & (income < top)], edges)[0]
    above, below = income[income >= top], income[income < 0]
    p_bin, p_top, p_below = counts / n, len(above) / n, len(below) / n

    def weight(z: np.ndarray) -> np.ndarray:
        return 1 / np.maximum(1, z) if weights == INVERSE_INCOME else np.ones_like(z)

    mass = np.array([*(counts * weight(middle)), weight(above).sum()])
    density = mass / (mass.sum() + weight(np.maximum(below, 0)).sum() + SMALL)
    p_all = np.array([*p_bin, p_top])
    G = np.cumsum(density[::-1])[::-1] / (np.cumsum(p_all[::-1])[::-1] + SMALL)
    g = (G[1:] + G[:-1]) / 2
    cumulated = p_below + np.cumsum(p_bin)
    with np.errstate(invalid="ignore", divide="ignore"):
        a = middle * p_bin / (np.clip(1 - cumulated + 0.5 * p_bin, 0, 1) + SMALL) / width
    a[counts == 0] = np.nan
    mean = above.mean() if len(above) else 0.0
    a_top = mean / (mean - top + SMALL) if len(above) else 0.0
    tau = np.array([*((1 - g) / (1 - g + a * elasticity + SMALL)), (1 - G[-1]) / (1 - G[-1] + a_top * elasticity + SMALL)])
    return by_bracket(cutoffs, edges, fill(tau))


def fill(tau: np.ndarray) -> np.ndarray:
    """Gaps (NaN) become linear between their neighbours; 0 stands before the first."""
    full, last, last_at = tau.copy(), 0.0, -1
    for k in range(len(tau)):
        if np.isnan(tau[k]):
            continue
        for j in range(last_at + 1, k):
            full[j] = last + (tau[k] - last) * (j - last_at) / (k - last_at)
        last, last_at = tau[k], k
    return full


def by_bracket(cutoffs: np.ndarray, edges: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Mean rate of a binned schedule in every bracket: tax due at its right cutoff less that at its left, over its size."""
    def due(z: float) -> float:
        return float((tau[:-1] * np.clip(z - edges[:-1], 0, edges[1:] - edges[:-1])).sum())

    dues = [due(float(z)) for z in cutoffs]
    return np.array([*(np.diff(dues) / np.diff(cutoffs)), tau[-1]])


def bracket(s: Any, income: Array) -> Array:
    """Number of the bracket of each income (B, N), 0 for negative ones."""
    place = 0 * s.last_coin.astype(np.int64)
    for k in range(1, s.cutoffs.shape[1]):
        place += income >= s.cutoffs[:, k, None]
    return place


def marginal(s: Any, income: Array) -> Array:
    """Marginal rate at each income (B, N), 0 below zero."""
    xp = namespace(s)
    return xp.where(income >= 0, xp.take_along_axis(s.rates, bracket(s, income), 1), 0)


def due(s: Any, income: Array) -> Array:
    """Tax on each income (B, N): rates times the parts of it in each bracket."""
    xp = namespace(s)
    total = 0 * income
    for k in range(s.cutoffs.shape[1]):
        part = xp.maximum(income - s.cutoffs[:, k, None], 0)
        if k + 1 < s.cutoffs.shape[1]:
            part = xp.minimum(part, (s.cutoffs[:, k + 1] - s.cutoffs[:, k])[:, None])
        total = total + s.rates[:, k, None] * part
    return total


def enact(p: Any, s: Any, last: Array) -> None:
    """Incomes of the year are taxed, as far as coins that no bid has set aside can pay; all revenue comes back in equal parts, which are no
    income of the next year."""
    xp = namespace(s)
    day = last[:, None]
    income = s.coin + s.coin_escrow - s.last_coin
    paid = xp.where(day, xp.minimum(s.coin, due(s, income)), 0)
    rate = marginal(s, income)
    s.tax_paid[...] = paid
    s.coin -= paid
    total = 0 * s.lump_sum
    for i in range(p.n_agents):
        total += paid[:, i]
    s.collected += total
    s.lump_sum[...] = total / p.n_agents
    s.coin += s.lump_sum[:, None]
    s.last_coin[...] = xp.where(day, s.coin + s.coin_escrow, s.last_coin)
    s.last_income[...] = xp.where(day, income, s.last_income)
    s.last_marginal[...] = xp.where(day, rate, s.last_marginal)
    s.last_effective[...] = xp.where(day, paid / xp.maximum(income, 1e-6), s.last_effective)
    s.total_income += xp.where(day, xp.maximum(income, 0), 0)
    s.total_paid += paid
    place = bracket(s, income)
    for k in range(p.n_brackets):
        s.occupancy[:, k] += (day & (place == k)).sum(-1)
    if p.tax_model == SAEZ:
        _remember(p, s, income, rate, last)


def _remember(p: Any, s: Any, income: Array, rate: Array, last: Array) -> None:
    """The last SAMPLES incomes and their marginal rates, agents in order. Writes samples, sample_*."""
    xp = namespace(s)
    b = xp.arange(len(last))
    for i in range(p.n_agents):
        at = s.samples % SAMPLES
        s.sample_income[b, at] = xp.where(last, income[:, i], s.sample_income[b, at])
        s.sample_rate[b, at] = xp.where(last, rate[:, i], s.sample_rate[b, at])
        s.samples += last


def legal(p: Any, s: Any) -> Array:
    """Which of the planner's options are legal: to keep a rate always, to set one on the first day of a tax year, up to the limit."""
    xp = namespace(s)
    allowed = xp.ones((len(s.period), p.n_brackets, 1 + p.n_rates), bool)
    sets = (s.tax_day == 1)[:, None] & (s.rate_levels <= s.rate_limit[:, None]) & p.planner_acts
    allowed[:, :, 1:] = sets[:, None, :]
    return allowed.reshape(len(s.period), -1)
