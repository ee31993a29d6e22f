"""Figures of many households: what their capital does beside the law that they expect, who owns it, and what they consume."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from kernels import incomplete_markets as model
from rllib_macro.denhaan import DenHaan, den_haan
from rllib_macro.households import ergodic, level_path, lorenz, simulate, unpacked
from rllib_macro.plots import COLOURS, DASHES, INK, QUIET, SHADE, STYLE, Panel, figure
from rllib_macro.solvers.policy import Policy

SHOWN = 400  # periods of a path
FAN = (5, 25, 75, 95)  # percent of paths


@matplotlib.rc_context(STYLE)
def draw(policy: Policy, folder: Path, reference: Policy | None = None) -> list[Path]:
    """households.png: the policy, the distribution of wealth and, with aggregate risk, the law of motion and den Haan's test."""
    named = {"": policy} if reference is None else {policy.method: policy, reference.method: reference}
    panels = [consumption(named), lorenz_curve(named)]
    if len(policy.p.productivity) > 1:
        happened = simulate(policy.p, policy.share, level_path(policy.p, 11_000, 0))
        test = den_haan(policy.facts["law"], happened)
        panels += [law_of_motion(policy, test), forecast(test), den_haan_path(test), law_fan(policy)]
    file = folder / "households.png"
    figure(panels, f"{policy.method}: households").savefig(file, dpi=110)
    return [file]


def law_of_motion(policy: Policy, test: DenHaan) -> Panel:
    """Growth of capital over capital: every period of a simulation as a dot, the law that households expect as a line."""
    z, k = test.level[:-1], test.simulated
    names = _levels(policy)

    def draw(ax: Axes) -> None:
        for level, name in enumerate(names):
            there = z == level
            grid = np.linspace(k.min(), k.max(), 50)
            ax.scatter(k[:-1][there], 100 * np.log(k[1:] / k[:-1])[there], s=1.5, color=COLOURS[level], alpha=0.25, lw=0, rasterized=True)
            expected = model.next_capital(policy.facts["law"], grid, np.full(50, level))
            ax.plot(grid, 100 * np.log(expected / grid), color=INK, lw=0.9)
            ax.plot([], [], color=COLOURS[level], label=f"{name}, R² {test.r2[level]:.7f}")
        ax.set_xlabel("capital per household")
        ax.legend()
    return Panel("law of motion", "growth of capital, percent", draw, "Dots: simulated. Lines: what households expect.")


def forecast(test: DenHaan, shown: int = SHOWN) -> Panel:
    """Capital as simulated and as the law alone forecasts it from the first period, around the largest gap between them."""
    worst = int(test.percent.argmax())
    first = int(np.clip(worst - shown // 2, 0, max(len(test.percent) - shown, 0)))
    window = slice(first, first + shown)
    time = np.arange(first, first + len(test.simulated[window]))

    def draw(ax: Axes) -> None:
        _shade(ax, time, test.level[window])
        ax.plot(time, test.simulated[window], color=COLOURS[0], label="simulated")
        ax.plot(time, test.alone[window], color=COLOURS[1], ls=DASHES[1], lw=1.1, label="law alone")
        ax.set_xlabel("period; shaded: bad times")
        ax.legend()
    return Panel("capital, where the law errs most", "per household", draw)


def den_haan_path(test: DenHaan) -> Panel:
    """The distance between the two over all periods."""
    def draw(ax: Axes) -> None:
        ax.plot(test.percent, color=COLOURS[0], lw=0.5)
        ax.axhline(test.mean, color=INK, lw=0.8, ls=DASHES[1])
        ax.set_xlabel(f"period; largest {test.largest:.3f}, mean {test.mean:.3f}")
        ax.set_ylim(0)
    return Panel("den Haan's test", "|100 log ratio|", draw, "Nothing pulls the law back to the truth for thousands of periods.")


def law_fan(policy: Policy, paths: int = 2000, periods: int = 80) -> Panel:
    """Where capital goes from far below and far above, by the law of motion, over many histories of shocks: median and ranges of paths."""
    p, law, generator = policy.p, np.asarray(policy.facts["law"]), np.random.default_rng(0)
    steady, below = model.steady_state(p), np.cumsum(model.chain(p).levels, 1)[:, :-1]

    def fan(start: float) -> np.ndarray:
        k, z = np.full(paths, start), generator.integers(len(law), size=paths)
        found = [k]
        for _ in range(periods):
            k = model.next_capital(law, k, z)
            z = (generator.random(paths)[:, None] >= below[z]).sum(-1)
            found.append(k)
        return np.array(found)

    def draw(ax: Axes) -> None:
        for colour, share in zip(COLOURS, (0.85, 1.15), strict=False):
            found = fan(share * steady)
            edges = np.percentile(found, FAN, axis=1)
            ax.fill_between(range(periods + 1), edges[0], edges[3], color=colour, alpha=0.15, lw=0)
            ax.fill_between(range(periods + 1), edges[1], edges[2], color=colour, alpha=0.3, lw=0)
            ax.plot(np.median(found, 1), color=colour, label=f"from {share:g} K*")
        ax.set_xlabel("period; shaded: half and nine tenths of all histories")
        ax.legend()
    return Panel("where capital goes", "per household", draw)


def lorenz_curve(policies: Mapping[str, Policy]) -> Panel:
    """Share of wealth owned by the poorest share of households, each policy in a world of its own."""
    def draw(ax: Axes) -> None:
        ax.plot([0, 1], [0, 1], color=QUIET, lw=0.8)
        for colour, dashes, (name, policy) in zip(COLOURS, DASHES, policies.items(), strict=False):
            wealth, mass = owned(policy)
            people, share = lorenz(wealth, mass)
            ax.plot(people, share, color=colour, ls=dashes,
                    label=f"{name} Gini {1 - ((share[1:] + share[:-1]) * np.diff(people)).sum():.3f}".strip())
        ax.set_xlabel("households, poorest first")
        ax.legend()
    return Panel("wealth", "share of wealth", draw)


def owned(policy: Policy) -> tuple[np.ndarray, np.ndarray]:
    """(wealth, mass) of the households of a solved economy: over time with aggregate risk, in the stationary state without."""
    if len(policy.p.productivity) > 1:
        wealth = np.sort(ergodic(policy)[0])
        return wealth, np.full(len(wealth), 1 / len(wealth))
    from rllib_macro.solvers.aiyagari import stationary
    capital = float(np.exp(policy.facts["law"][0][0]))
    found = stationary(policy.p, capital, 300, 1000, 30 * model.steady_state(policy.p))
    return found.wealth, found.mass.sum(0)


def consumption(policies: Mapping[str, Policy]) -> Panel:
    """Consumption over wealth in the first and the last income state, at the mean capital and the last level, where households are."""
    first = next(iter(policies.values()))
    p, states = first.p, ergodic(first) if len(first.p.productivity) > 1 else None
    wealth = np.linspace(0, np.percentile(states[0], 99) if states is not None else 6 * model.steady_state(p), 200)
    capital = np.full(200, states[2].mean() if states is not None else np.exp(first.facts["law"][0][0]))
    level = np.full(200, len(p.productivity) - 1)

    def draw(ax: Axes) -> None:
        for dashes, (name, policy) in zip(DASHES, policies.items(), strict=False):
            for colour, income in zip(COLOURS, (0, len(p.labor) - 1), strict=False):
                at = unpacked(np.stack([wealth, np.full(200, income), capital, level]))
                consumed = (1 - policy.share(*at)) * model.resources(p, *at)
                label = f"{name} {_income(policy, income)}".strip()
                ax.plot(wealth, consumed, color=colour, ls=dashes, lw=1.2, label=label)
        ax.set_xlabel("wealth")
        ax.legend()
    return Panel("consumption", "goods", draw)


def _levels(policy: Policy) -> list[str]:
    return ["bad times", "good times"] if len(policy.p.productivity) == 2 else [f"A = {a:g}" for a in policy.p.productivity]


def _income(policy: Policy, income: int) -> str:
    labor = policy.p.labor
    return ("unemployed" if labor[income] == 0 else "employed") if min(labor) == 0 and len(labor) == 2 else f"labour {labor[income]:.2g}"


def _shade(ax: Axes, time: np.ndarray, level: np.ndarray) -> None:
    """Bad times grey."""
    ax.fill_between(time, 0, 1, where=level == 0, transform=ax.get_xaxis_transform(), color=SHADE, lw=0, step="mid")
