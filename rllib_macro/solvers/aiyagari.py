"""The stationary equilibrium of Aiyagari (1994): the capital at whose return households want to own just that capital.

For each guess of K the household's problem is solved by endogenous grid points (Carroll, 2006), the distribution that its saving keeps is
the stationary vector of a sparse matrix (Young, 2010), and the guess is moved by Brent's method.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, sparse
from scipy.sparse import linalg

from kernels import incomplete_markets as model
from kernels.incomplete_markets import Params
from rllib_macro.households import Problem, Table, gini, start_mass, wealth_grid
from rllib_macro.solvers.policy import Policy, Stopwatch

SETTLING = 300  # periods after which most households are where some always will be


def solve(p: Params, *, seconds: float | None = None, seed: int = 0, points: int = 300, bins: int = 1000, top: float = 30.0,
          tolerance: float = 1e-8) -> Policy:
    """The policy share(wealth, income, capital, level) at the equilibrium's prices, whatever the capital it is asked for.

    points of wealth for the household and bins for the distribution up to `top` steady states, dense at 0; tolerance of log K. Nothing is
    drawn, so the seed does not matter; seconds are not limited, it takes one or two. ValueError for a model with aggregate risk.
    """
    if len(p.productivity) > 1:
        raise ValueError("aiyagari needs a model without aggregate risk, and params.productivity has several levels; use krusell-smith")
    clock, steady, guesses = Stopwatch(), model.steady_state(p), list[Stationary]()

    def excess(log_capital: float) -> float:
        start = guesses[-1].table.consumed if guesses else None
        guesses.append(stationary(p, float(np.exp(log_capital)), points, bins, top * steady, start))
        return float(np.log(guesses[-1].supply) - log_capital)

    low = np.log(steady)
    optimize.brentq(excess, low + 1e-5, low + 1.0, xtol=tolerance)
    found = min(guesses, key=lambda guess: abs(np.log(guess.supply / guess.capital)))
    labor, _ = model.labor_supply(p, np.zeros(1, int), np.ones(1))
    at = found.capital, float(labor[0]), np.zeros((), int)
    facts: dict[str, Any] = {
        "r": float(model.gross_return(p, np.array(at[0]), at[1], at[2])) - 1, "capital": found.capital, "supply": found.supply,
        "wage": float(model.wage(p, np.array(at[0]), at[1], at[2])), "gini": gini(found.wealth, found.mass.sum(0)),
        "saving_rate": p.depreciation * found.capital / float(model.output(p, np.array(at[0]), at[1], at[2])),
        "constrained": float(found.mass[:, 0].sum()), "mass_at_top": float(found.mass[:, -1].sum()), "iterations": len(guesses),
        "law": [[float(np.log(found.capital)), 0.0]],
    }
    return Policy(p, "aiyagari", found.table.share, seconds=clock.seconds, facts=facts)


@dataclass(frozen=True)
class Stationary:
    """What becomes of households that face the prices of `capital` for ever: mass (E, G) over wealth (G,), which adds up to `supply`."""

    capital: float
    table: Table
    wealth: np.ndarray
    mass: np.ndarray

    @property
    def supply(self) -> float:
        """Wealth per household."""
        return float(self.mass.sum(0) @ self.wealth)


def stationary(p: Params, capital: float, points: int, bins: int, top: float, consumed: np.ndarray | None = None) -> Stationary:
    """The household's best reply to the prices of `capital`, and the distribution that it keeps; `consumed` is where the search starts."""
    grid, wealth = wealth_grid(points, top, 4), wealth_grid(bins, top, 3)
    law = np.array([[np.log(capital), 0.0]])
    problem = Problem.at(p, grid, np.array([capital]), law)
    table = Table(p, grid, problem.nodes, problem.solve(consumed, tolerance=1e-9, most=20000)[0])
    income = np.arange(len(p.labor))[:, None]
    here = np.broadcast_arrays(wealth, income, np.full((1, 1), capital), np.zeros((1, 1), int))
    saved = table.share(*here) * model.resources(p, *here)
    mass = kept(saved, wealth, model.chain(p).incomes[0, 0], start_mass(p, wealth, 0, capital))
    return Stationary(capital, table, wealth, mass)


def kept(saved: np.ndarray, wealth: np.ndarray, incomes: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The distribution (E, G) over incomes and wealth (G,) that saving (E, G) and the rows of the income chain (E, E) leave as it is.

    Who saves between two points of the grid is at either with the chance that makes the mean right. The equations leave the scale open:
    some households are counted as one until all are, those at the point where most are after some periods from the distribution `start`.
    """
    e, g = saved.shape
    low = np.clip(np.searchsorted(wealth, saved, side="right") - 1, 0, g - 2)
    high = np.clip((saved - wealth[low]) / (wealth[low + 1] - wealth[low]), 0, 1)
    income = np.arange(e)[:, None]
    state = np.arange(g) * e + income  # neighbours in wealth are neighbours in the matrix, which makes it a band
    to = np.concatenate([(low * e + income).ravel(), ((low + 1) * e + income).ravel()])
    move = sparse.csr_matrix((np.concatenate([1 - high.ravel(), high.ravel()]), (to, np.tile(state.ravel(), 2))), (e * g, e * g))
    change = (sparse.kron(sparse.eye(g), sparse.csr_matrix(incomes.T)) @ move - sparse.eye(e * g)).tocsc()
    mass = start.T.ravel()
    for _ in range(SETTLING):
        mass = mass + change @ mass
    one = int(mass.argmax())
    others = np.delete(np.arange(e * g), one)
    found = linalg.spsolve(change[others][:, others].tocsc(), -change[others][:, [one]].toarray().ravel(), permc_spec="NATURAL")
    mass = np.maximum(np.insert(found, one, 1.0), 0).reshape(g, e).T
    return mass / mass.sum()
