"""Moments: the US column comes out again, statistics agree with theory and hand, data and model go the same way."""
import json
from functools import cache
from pathlib import Path

import numpy as np
import pandas
import pytest
from numpy.testing import assert_allclose
from pytest import approx
from statsmodels.tsa.filters.hp_filter import hpfilter

from rllib_macro import moments as m
from rllib_macro.scorecard import targets, us_recessions

DATA = Path(__file__).parents[2].parent / "shared" / "data"
shared = pytest.mark.skipif(not (DATA / "fredqd.csv").is_file(), reason="the series behind the US moments (../shared/data) are not here")
SAMPLES = {"59-19": ("1959Q2", "2019Q4"), "84-19": ("1984Q1", "2019Q4")}
UNKNOWN = ("phillips acc", "59-19")  # the published value counts a change of inflation that the file cannot give as zero
QUARTERS = np.arange(404)


@cache
def us(sample):
    return m.from_fredqd(pandas.read_csv(DATA / "fredqd.csv"), *SAMPLES[sample])


def still(**series):
    """Series of 404 quarters in which nothing moves but what is given."""
    constant = dict.fromkeys(m.MODEL, 1.0) | {"inventory_change": 0.0, "unemployment": 0.06, "inflation": 0.02, "inflation_4q": 0.02,
                                              "policy_rate": 0.04, "loan_spread": 0.02, "capacity_use": 0.8}
    return {name: np.broadcast_to(np.asarray(series.get(name, value), float), QUARTERS.shape) for name, value in constant.items()}


def moments(**series):
    return m.moments(m.from_model(still(**series)))


def wave(period, amplitude=0.01, shift=0):
    """Log deviations that swing."""
    return amplitude * np.sin(2 * np.pi * (QUARTERS - shift) / period)


def played(replicas=3, quarters=150, seed=0):
    """Series (R, T) of an economy that wanders: every series is persistent noise around its US mean, output falls now and then."""
    rng = np.random.default_rng(seed)
    series = {}
    for name, (mean, size) in {name: (1.0, 0.02) for name in m.QUANTITIES}.items() | {
        ("unemployment", (0.06, 0.01)), ("inflation", (0.02, 0.008)), ("inflation_4q", (0.02, 0.008)), ("policy_rate", (0.04, 0.01)),
        ("loan_spread", (0.02, 0.001)), ("capacity_use", (0.8, 0.01)),
    }:
        noise = rng.normal(size=(replicas, quarters))
        for t in range(1, quarters):
            noise[:, t] += 0.9 * noise[:, t - 1]
        series[name] = mean + size * noise / 2.3
    series["inventory_change"] = 0.01 * (series["inventory_change"] - 1)
    return series


# --- the US column ----------------------------------------------------------------------------------------------------


def test_the_names_are_those_of_the_published_moments_in_their_order():
    assert list(moments()) == list(targets()["moments"])
    assert len(moments()) == 59


@shared
def test_shipped_moments_are_the_published_ones():
    published, shipped = json.loads((DATA / "us_moments.json").read_text()), targets()
    assert list(published["moments"]) == list(shipped["moments"])
    for name, row in published["moments"].items():
        assert shipped["moments"][name]["hp"] == row["values"]
    for key in ("source", "samples", "wealth_scf_2022"):
        assert shipped[key] == published[key]


@shared
@pytest.mark.parametrize("filter", ["hp", "band"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_us_column_comes_out_of_the_series(sample, filter):
    found, errors = m.moments(us(sample), filter), m.standard_errors(us(sample), filter=filter)
    for name, row in targets()["moments"].items():
        if (name, sample, filter) != (*UNKNOWN, "hp"):
            assert (found[name], errors[name]) == approx(row[filter][sample], rel=1e-6, abs=1e-6), name


@shared
def test_other_draws_give_the_same_standard_errors_within_monte_carlo_error():
    errors = m.standard_errors(us("59-19"), seed=1)
    ratios = np.array([errors[name] / row["hp"]["59-19"][1] for name, row in targets()["moments"].items()])
    assert np.abs(ratios - 1).max() < 0.2  # 400 draws: 3.5 % for each of two estimates, more where tails are fat
    assert not np.allclose(ratios, 1, atol=1e-3)


@shared
def test_the_one_moment_that_differs_counts_three_unknown_quarters_as_zero():
    name, sample = UNKNOWN
    columns = m._columns(us(sample), "hp")
    assert np.isnan(columns["dpi4"]).sum() == 3
    zeros = m._statistics(columns | {"dpi4": np.nan_to_num(columns["dpi4"])})
    assert zeros[name] == approx(targets()["moments"][name]["hp"][sample][0], abs=1e-9)
    assert m.moments(us(sample))[name] == approx(zeros[name], abs=0.001)


@shared
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_ancestors_other_statistics_come_out_of_the_series(sample):
    found = m.further(us(sample))
    expected = {name: of[sample] for name, of in targets()["further"].items()}
    assert {name: float(value) for name, value in found.items()} == approx(expected, abs=1e-6)
    for here, there in zip(m.recessions(us(sample)), us_recessions(sample), strict=True):
        assert vars(here) == approx(vars(there), abs=1e-6)


@shared
def test_us_recessions_are_those_of_the_specification():
    found = m.recessions(us("59-19"))
    assert len(found) == 6
    assert np.mean([r.depth for r in found]) == approx(2.25, abs=0.005)
    assert np.mean([r.quarters for r in found]) == approx(2.5)
    assert np.mean([r.recovery for r in found]) == approx(3.3, abs=0.05)


@shared
def test_data_and_model_give_the_same_series():
    assert us("84-19").keys() == m.from_model(still()).keys()
    assert {x.shape for x in us("84-19").values()} == {(144,)}


# --- samples ----------------------------------------------------------------------------------------------------------


def test_shares_become_percent_and_investment_includes_inventories():
    sample = m.from_model(still(output=4.0, hours=2.0, investment=0.5, inventory_change=0.1, unemployment=0.05, policy_rate=0.03))
    firsts = {name: x[0] for name, x in sample.items()}
    assert firsts["investment"] == approx(0.6)
    assert firsts["fixed_investment"] == approx(0.5)
    assert firsts["productivity"] == approx(2.0)
    assert firsts["inventories"] == approx(2.5)  # percent of output
    assert (firsts["unemployment"], firsts["policy_rate"]) == approx((5.0, 3.0))


def test_a_missing_series_is_named():
    series = still()
    del series["hours"], series["vacancies"]
    with pytest.raises(ValueError, match="lack hours, vacancies"):
        m.from_model(series)


def test_a_replica_that_breaks_has_no_moments_and_spoils_no_other():
    series = played()
    whole = m.moments(m.from_model(series))
    series["inflation"][1, -1] = np.inf
    found = m.moments(m.from_model(series))
    for name in found:
        assert np.isnan(found[name][1]), name
        assert_allclose(found[name][[0, 2]], whole[name][[0, 2]])


def test_investment_below_zero_is_no_error():
    assert moments(investment=np.where(QUARTERS == 100, -1.0, 1.0))["rel i"] > 100


def test_replicas_are_scored_one_by_one():
    series = played()
    for filter in ("hp", "band"):
        together = m.moments(m.from_model(series), filter)
        for r in range(3):
            alone = m.moments(m.from_model({name: x[r] for name, x in series.items()}), filter)
            assert_allclose([together[name][r] for name in together], [alone[name] for name in together], rtol=1e-9)


def test_a_short_history_is_refused():
    m.moments(m.from_model({name: x[:40] for name, x in still().items()}))
    with pytest.raises(ValueError, match="40 quarters or more, got 39"):
        m.moments(m.from_model({name: x[:39] for name, x in still().items()}))


# --- cycles -----------------------------------------------------------------------------------------------------------


def test_all_rows_at_once_are_filtered_as_statsmodels_filters_one():
    rows = np.random.default_rng(0).normal(size=(2, 3, 97)).cumsum(-1) + 500
    expected = [[hpfilter(row, 1600)[0] for row in block] for block in rows]
    assert_allclose(m.cycle(rows), expected, atol=1e-8)


def test_a_trend_has_no_cycle():
    assert_allclose(m.cycle(3.0 + 0.5 * np.arange(60)), 0, atol=1e-9)
    assert (m.cycle(np.full(60, 3.7)) == 0).all()
    assert (m.cycle(np.full(60, 3.7), "band") == 0).all()


@pytest.mark.parametrize("period", [8, 16, 40])
def test_the_hp_filter_keeps_of_a_wave_what_its_gain_says(period):
    gain = 4 * 1600 * (1 - np.cos(2 * np.pi / period)) ** 2
    middle = slice(100, 300)
    assert_allclose(m.cycle(wave(period, 1.0))[middle], (gain / (1 + gain) * wave(period, 1.0))[middle], atol=0.01)


def test_the_band_passes_business_cycles_only():
    middle = slice(100, 300)
    for period, kept in ((4, 0), (12, 1), (24, 1), (80, 0)):
        assert_allclose(m.cycle(wave(period, 1.0), "band")[middle], kept * wave(period, 1.0)[middle], atol=0.1)


# --- statistics -------------------------------------------------------------------------------------------------------


def test_volatility_is_relative_to_output():
    y = wave(16)
    found = moments(output=np.exp(y), consumption=np.exp(0.5 * y), investment=np.exp(-4 * y), real_credit=np.exp(2 * y),
                    hours=np.exp(0.75 * y))
    assert [found[f"rel {k}"] for k in ("c", "i", "fi", "cr", "h", "pr", "w")] == approx([0.5, 4, 4, 2, 0.75, 0.25, 0])
    assert [found[f"corr {k},y"] for k in ("c", "i", "h", "pr")] == approx([1, -1, 1, 1])
    assert found["std y"] == approx(1 / np.sqrt(2), abs=0.03)  # percent
    assert found["ac1 y"] == approx(np.cos(2 * np.pi / 16), abs=0.01)


def test_credit_that_follows_output_is_found_there():
    found = moments(output=np.exp(wave(16)), real_credit=np.exp(wave(16, shift=2)))
    assert found["corr cr,y"] == approx(np.cos(np.pi / 4), abs=0.02)
    assert found["corr cr(+2),y"] == approx(1, abs=0.01)
    assert found["corr cr(+4),y"] == approx(np.cos(np.pi / 4), abs=0.02)


def test_unemployment_follows_okun_and_vacancies_beveridge():
    y = wave(16)
    found = moments(output=np.exp(y), unemployment=0.06 - 0.4 * y, vacancies=(0.06 - 0.4 * y) ** -2.0)
    assert found["okun HP"] == approx(-0.4)
    assert found["okun diff"] == approx(-0.4)
    assert found["corr uh,y"] == approx(-1)
    assert found["corr u,v"] == approx(-1)
    assert found["std ln v"] == approx(2 * found["std ln u"])
    assert found["std uh"] == approx(0.4 * found["std y"])


def test_inventories_are_a_share_of_output():
    swing = wave(16)
    assert moments(output=np.exp(swing), inventory_change=0.3 * swing * np.exp(swing))["corr dvh,y"] == approx(1)


def test_levels_keep_their_trends():
    zigzag = np.where(QUARTERS % 2, 1, -1)
    found = moments(unemployment=0.05 + 0.01 * zigzag, inflation=0.03 + 0.02 * zigzag, inflation_4q=0.03 - 0.005 * zigzag,
                    policy_rate=np.where(QUARTERS % 4 == 0, 0.001, 0.05), loan_spread=0.02 + 0.01 * zigzag, capacity_use=0.8 + 0.1 * zigzag)
    assert (found["mean u"], found["std u"], found["ac1 u"]) == approx((5, 1, -1))
    assert (found["mean pi"], found["std pi4"], found["ac1 pi"]) == approx((3, 0.5, -1))
    assert (found["mean ff"], found["share ff<0.25"]) == approx((0.25 * 0.1 + 0.75 * 5, 0.25))
    assert found["std ff"] == approx(4.9 * np.sqrt(0.25 * 0.75))
    assert found["ac1 ff"] == approx(-1 / 3)
    assert (found["mean baa-10y"], found["mean tcu"]) == approx((2, 80))


def test_growth_of_two_speeds():
    even, odd = QUARTERS % 2 == 0, QUARTERS % 2 == 1
    found = moments(output=np.exp(np.cumsum(0.02 * odd - 0.01 * even)), real_credit=np.exp(np.cumsum(0.01 * even - 0.01 * odd)))
    assert (found["mean g (ann)"], found["std g q"], found["ac1 g"], found["share g<0"]) == approx((2, 1.5, -1, 0.5))
    assert found["corr gc,g (1q)"] == approx(-1)
    assert (found["std g4"], found["std 4q credit growth"]) == (0, 0)
    assert np.isnan(found["skew g4"])
    assert np.isnan(found["corr gc4,g4"])


def test_rare_standstills_skew_growth():
    """Growth that pauses every fifth quarter: four-quarter growth takes two values with probabilities p = 0.2 (high) and 0.8."""
    steps = np.where(QUARTERS % 5 == 0, 0.0, 0.01)
    found = moments(output=np.exp(np.cumsum(steps)), real_credit=np.exp(np.cumsum(2 * steps)))
    skewness = (1 - 2 * 0.2) / np.sqrt(0.2 * 0.8)
    assert (found["std g4"], found["skew g4"], found["kurt g4"]) == approx((0.4, skewness, 1 + skewness**2))
    assert (found["std 4q credit growth"], found["corr gc4,g4"]) == approx((0.8, 1))


def test_the_phillips_slope_is_that_of_the_change_of_inflation_on_a_years_unemployment():
    rng = np.random.default_rng(0)
    unemployment = 0.06 + 0.01 * rng.uniform(-1, 1, len(QUARTERS))
    inflation = np.full(len(QUARTERS), 0.02)
    for t in range(4, len(QUARTERS)):
        inflation[t] = inflation[t - 4] - 0.25 * (unemployment[t - 3:t + 1].mean() - 0.06)
    assert moments(unemployment=unemployment, inflation_4q=inflation)["phillips acc"] == approx(-0.25)


def test_what_never_moves_correlates_with_nothing():
    found = moments(output=np.exp(wave(16)), policy_rate=0.0375)
    for name in ("corr ffh,y", "ac1 ff", "corr w,y", "ac1 u", "phillips acc", "corr gc4,g4"):
        assert np.isnan(found[name]), name
    assert (found["std ff"], found["rel w"]) == (0, 0)


# --- standard errors --------------------------------------------------------------------------------------------------


def test_the_error_of_a_mean_of_independent_quarters_is_sigma_over_root_n():
    noise = np.random.default_rng(0).normal(size=len(QUARTERS))
    errors = m.standard_errors(m.from_model(still(output=np.exp(wave(16)), unemployment=0.06 + 0.01 * noise)), block=1)
    assert errors["mean u"] == approx(noise[4:].std() / np.sqrt(400), rel=0.12)


def test_blocks_see_persistence_and_the_seed_repeats_the_draws():
    sample = m.from_model({name: x[0] for name, x in played(1, 400).items()})
    assert m.standard_errors(sample)["mean u"] > 2 * m.standard_errors(sample, block=1)["mean u"]
    assert m.standard_errors(sample, draws=20) == m.standard_errors(sample, draws=20)
    assert m.standard_errors(sample, draws=20) != m.standard_errors(sample, draws=20, seed=1)


# --- the ancestor's other statistics ----------------------------------------------------------------------------------


def test_a_recession_is_two_falls_in_a_row():
    output = np.array([100, 99, 101, 100, 96, 95, 97, 98, 99, 100, 101, 100, 99])  # one fall; peak 101 to trough 95; cut off by the end
    unemployment = np.array([5, 5, 5, 5, 6, 7, 8, 7, 6, 6, 5, 5, 5.5])
    rate = np.array([4, 4, 4, 4, 3, 2, 1, 1, 1, 0.5, 0, 0, 0])
    deep, cut_off = m.recessions({"output": output, "unemployment": unemployment, "policy_rate": rate})
    assert (deep.quarters, deep.depth, deep.recovery) == approx((3, 100 * np.log(101 / 95), 100 * np.log(100 / 95)))
    assert (deep.unemployment_rise, deep.rate_cut) == approx((3, 3.5))
    assert (cut_off.quarters, cut_off.depth) == approx((2, 100 * np.log(101 / 99)))
    assert np.isnan(cut_off.recovery)


def test_recessions_know_their_replica():
    calm, fall = np.arange(1.0, 7), np.array([5.0, 4, 3, 4, 5, 6])
    found = m.recessions({"output": np.stack([calm, fall]), "unemployment": np.ones((2, 6)), "policy_rate": np.ones((2, 6))})
    assert [r.replica for r in found] == [1]


def test_a_rule_that_is_followed_leaves_no_deviation():
    inflation = 0.02 + wave(24)
    found = m.further(m.from_model(still(inflation_4q=inflation, policy_rate=0.02 + inflation + 0.5 * (inflation - 0.02) + 0.01)))
    assert found["taylor deviation"] == approx(1)
    assert found["corr ff,taylor"] == approx(1)


def test_the_rate_rises_with_high_and_falls_with_low_inflation():
    inflation = np.where(QUARTERS % 4 < 2, 0.03, 0.01)
    rate = 0.04 + 0.01 * np.array([0, 1, 0, 1])[QUARTERS % 4]  # up in one of two high quarters; falls in one of two low ones
    found = m.further(m.from_model(still(inflation_4q=inflation, policy_rate=rate)))
    assert [found[k] for k in ("rate up, inflation high", "rate down, inflation low", "rate moves with inflation")] == approx([0.5] * 3)
    always = m.further(m.from_model(still(inflation_4q=0.03, policy_rate=0.001 * (1 + QUARTERS))))
    assert (always["rate up, inflation high"], always["rate moves with inflation"]) == (1, 1)
    assert np.isnan(always["rate down, inflation low"])


def test_the_weight_of_the_last_rate_is_recovered():
    series = played(2, 200)
    for t in range(1, 200):
        series["policy_rate"][:, t] = 0.01 + 0.8 * series["policy_rate"][:, t - 1] + 0.3 * series["inflation_4q"][:, t]
    assert m.further(m.from_model(series))["rule inertia"] == approx([0.8, 0.8])
    assert np.isnan(m.further(m.from_model(still()))["rule inertia"])


def test_growth_autocorrelations_reach_back_one_and_four_quarters():
    """Growth with the period of eight quarters: four-quarter growth has correlation cos(45 degrees) after one, -1 after four."""
    found = m.further(m.from_model(still(output=np.exp(wave(8)), unemployment=0.06 - wave(8))))
    assert (found["ac1 g4"], found["ac4 g4"], found["corr du,g"]) == approx((np.cos(np.pi / 4), -1, -1), abs=0.01)
