"""Figures of households show what was solved."""
import numpy as np
import pytest
from matplotlib.figure import Figure

from kernels import incomplete_markets as model
from rllib_macro import plots_households
from rllib_macro.denhaan import den_haan
from rllib_macro.households import level_path, simulate
from rllib_macro.solvers import aiyagari, krusell_smith


@pytest.fixture(scope="module")
def solved():
    return krusell_smith.solve(model.krusell_smith(), periods=2000, burn=500, rounds=2)


def lines(panel):
    ax = Figure().add_subplot()
    panel.draw(ax)
    return ax


def test_the_path_shown_contains_the_largest_error(solved):
    test = den_haan(solved.facts["law"], simulate(solved.p, solved.share, level_path(solved.p, 2000, 0)), 500)
    simulated, law = (line.get_ydata() for line in lines(plots_households.forecast(test, 300)).lines)
    assert np.abs(100 * np.log(law / simulated)).max() == pytest.approx(test.largest)


def test_the_fan_narrows_towards_where_capital_lives(solved):
    low, high = (line.get_ydata() for line in lines(plots_households.law_fan(solved, paths=200, periods=300)).lines)
    assert low[0] < high[0] and abs(high[-1] - low[-1]) < 0.2 * (high[0] - low[0])


def test_a_lorenz_curve_lies_below_equality_and_ends_at_one(solved):
    ax = lines(plots_households.lorenz_curve({"": solved}))
    x, y = ax.lines[1].get_data()
    assert (y <= x + 1e-12).all() and y[-1] == pytest.approx(1)


@pytest.mark.parametrize("name", ["krusell_smith", "aiyagari"])
def test_everything_is_drawn_into_one_file(name, solved, tmp_path):
    policy = solved if name == "krusell_smith" else aiyagari.solve(model.aiyagari(1.0, n_incomes=2), points=60, bins=200)
    [file] = plots_households.draw(policy, tmp_path)
    assert file.stat().st_size > 10_000
