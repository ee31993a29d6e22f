"""Is the law of motion that households expect what their economy does? Den Haan's accuracy test, and the fit of a regression beside it.

R2 judges a law by one-step forecasts that start from the truth each time; den Haan (2010) lets it run on its own for thousands of periods,
so that errors can add up. Source: den Haan, "Assessing the accuracy of the aggregate law of motion in models with heterogeneous agents"
(2010).
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernels import incomplete_markets as model
from rllib_macro.households import Simulation


@dataclass(frozen=True)
class DenHaan:
    """Aggregate capital over the same shocks, once as simulated, once by the law alone: their distance in percent, and the fit per
    state."""

    level: np.ndarray  # (T,)
    simulated: np.ndarray  # (T,)
    alone: np.ndarray  # (T,) from the law
    r2: np.ndarray  # (Z,) of the law itself, not of a new regression

    @property
    def percent(self) -> np.ndarray:
        """|100 log ratio| (T,)."""
        return np.abs(100 * np.log(self.alone / self.simulated))

    @property
    def largest(self) -> float:
        """Largest distance, percent."""
        return float(self.percent.max())

    @property
    def mean(self) -> float:
        """Mean distance, percent."""
        return float(self.percent.mean())


def alone(law: np.ndarray, level: np.ndarray, start: float) -> np.ndarray:
    """(T,) aggregate capital by the law of motion from `start`, given the levels (T,): log K' = law[z, 0] + law[z, 1] log K."""
    k, path = float(np.log(start)), np.empty(len(level))
    table = np.asarray(law).tolist()
    for t, z in enumerate(level.tolist()):
        path[t] = k
        k = table[z][0] + table[z][1] * k
    return np.exp(path)


def den_haan(law: np.ndarray, simulation: Simulation, burn: int = 1000) -> DenHaan:
    """The test on a simulation, without its first periods; the law starts from the capital at the end of them."""
    level, simulated = simulation.level[burn:len(simulation.capital)], simulation.capital[burn:]
    return DenHaan(level, simulated, alone(law, level, simulated[0]), r2(law, level, simulated))


def r2(law: np.ndarray, level: np.ndarray, capital: np.ndarray) -> np.ndarray:
    """(Z,) share of the variance of log K' that the law explains one period ahead, in each state: 1 - sum e^2 / sum (y - mean y)^2."""
    now, after = capital[:-1], capital[1:]
    error = np.log(after) - np.log(model.next_capital(law, now, level[:-1]))
    of = [level[:-1] == z for z in range(len(law))]
    spread = [((np.log(after[z]) - np.log(after[z]).mean()) ** 2).sum() for z in of]
    return np.array([1 - (error[z] ** 2).sum() / s if s else 1.0 for z, s in zip(of, spread, strict=True)])
