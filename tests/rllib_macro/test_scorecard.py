"""The scorecard: what counts as inside, what is imposed, what is counted beside the 59, and plays side by side."""
import json
from dataclasses import replace

import numpy as np
import pytest
from pytest import approx

from rllib_macro import scorecard as sc
from rllib_macro.moments import Recession, from_model
from tests.rllib_macro.test_moments import SAMPLES, played, shared, still, us

NAMES = list(sc.targets()["moments"])


def us_moments(sample, filter="hp"):
    return {name: row[filter][sample][0] for name, row in sc.targets()["moments"].items()}


def row(name, values, **settings):
    """The row of one moment, the others being those of 1959 to 2019."""
    return {r.moment: r for r in sc.compare(us_moments("59-19") | {name: np.array(values)}, **settings)}[name]


# --- inside -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filter", ["hp", "band"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_united_states_pass_their_own_scorecard(sample, filter):
    rows = sc.compare(us_moments(sample, filter), filter=filter)
    assert [r.moment for r in rows] == NAMES
    assert sum(r.inside for r in rows) == sum(r.inside_of[sample] for r in rows) == sum(r.in_hull for r in rows) == 59


def test_inside_is_within_two_standard_errors():
    value, error = sc.targets()["moments"]["mean pi"]["hp"]["59-19"]
    assert row("mean pi", [value + 1.99 * error]).inside_of == {"59-19": True, "84-19": False}
    assert not row("mean pi", [value + 2.01 * error]).inside


def test_between_two_bands_is_inside_neither():
    """Four-quarter inflation swung by 1.35 or more, or by 1.01 or less: 1.2 is in the hull of both bands only."""
    between = row("std pi4", [1.2])
    assert not between.inside
    assert between.in_hull


def test_only_the_volatility_and_persistence_of_inflation_have_bands_apart():
    middles = {}
    for name, target in sc.targets()["moments"].items():
        (a, sa), (b, sb) = target["hp"].values()
        low, high = sorted([(a - 2 * sa, a + 2 * sa), (b - 2 * sb, b + 2 * sb)])
        middles[name] = [(low[1] + high[0]) / 2]
    apart = {name for name, middle in middles.items() if not row(name, middle).inside}
    assert apart == {"std pi4", "ac1 pi"}


def test_z_counts_the_errors_of_both_sides():
    value, error = sc.targets()["moments"]["mean u"]["hp"]["59-19"]
    found = row("mean u", [6.0, 7.0, 8.0, 9.0])
    assert (found.mean, found.spread, found.se) == approx((7.5, np.sqrt(5 / 3), np.sqrt(5 / 12)))
    assert found.z["59-19"] == approx((7.5 - value) / np.sqrt(error**2 + 5 / 12))


def test_one_replica_has_no_error():
    found = row("mean u", [6.0])
    assert found.inside
    assert np.isnan([found.se, found.z["59-19"]]).all()


def test_a_moment_that_a_replica_lacks_is_a_miss():
    found = row("mean u", [5.9, np.nan, 6.1])
    assert (found.mean, found.undefined) == (6.0, 1)
    assert not found.inside
    assert not found.in_hull


# --- imposed ----------------------------------------------------------------------------------------------------------


def test_a_learned_rule_imposes_no_policy_rate():
    assert row("mean ff", [3.5]).imposed
    assert row("mean ff", [3.5], scripted=("firm", "bank")).imposed == ""


def test_the_environment_imposes_growth_on_everybody():
    assert row("mean g (ann)", [0.0], scripted=()).imposed
    assert {name for name in NAMES if row(name, [0.0], scripted=()).imposed} == {"mean pi", "mean g (ann)", "share g<0"}


def test_what_is_imposed_is_among_the_moments_and_the_types():
    assert set(sc.IMPOSED) <= set(NAMES)
    assert {by for by, _ in sc.IMPOSED.values()} <= {*sc.TYPES, sc.ENVIRONMENT}


# --- a play -----------------------------------------------------------------------------------------------------------


def test_the_first_quarters_do_not_count():
    series = played(2, 150)
    wild = {name: np.concatenate([np.full((2, 60), 7.0), x], 1) for name, x in series.items()}
    assert sc.score(wild | {"anything": np.ones(3)}, drop=60).rows == sc.score(series, drop=0).rows
    assert sc.score(wild, drop=0).rows != sc.score(series, drop=0).rows


def test_counts_are_those_of_the_rows():
    card = sc.score(played(), drop=0)
    inside = {name: sum(r.inside_of[name] for r in card.rows) for name in SAMPLES}
    imposed = [r for r in card.rows if r.imposed]
    assert (card.counts["of"], card.counts["of, not imposed"]) == (59, 51)
    assert (card.counts["inside 59-19"], card.counts["inside 84-19"]) == (inside["59-19"], inside["84-19"])
    assert max(inside.values()) <= card.counts["inside"] <= min(sum(inside.values()), card.counts["inside hull"])
    assert card.counts["inside"] - card.counts["inside, not imposed"] == sum(r.inside for r in imposed)
    assert (card.replicas, card.quarters, card.broken) == (3, 150, 0)


@pytest.mark.parametrize(("series", "drop", "sentence"), [
    (played(2, 139), 100, "139 quarters are too few: play 140 or more"),
    (played(2, 140) | {"hours": np.ones((2, 139))}, 100, "all of one shape"),
    ({name: x[0] for name, x in played(1, 140).items()}, 100, r"must be \(replicas, quarters\)"),
    ({name: x for name, x in played(2, 140).items() if name != "hours"}, 100, "lack hours"),
])
def test_unusable_series_are_refused(series, drop, sentence):
    with pytest.raises(ValueError, match=sentence):
        sc.score(series, drop=drop)


def test_a_broken_replica_is_counted_and_nothing_is_inside():
    series = played()
    series["output"][0, -1] = np.nan
    card = sc.score(series, drop=0)
    assert card.broken == 1
    assert card.counts["inside"] == card.counts["inside hull"] == 0


# --- wealth -----------------------------------------------------------------------------------------------------------


def test_shares_of_ten_households():
    worth = np.array([[0.0] * 5 + [5.0] * 4 + [80.0]])
    found = sc.inequality(worth, np.ones((1, 10)))
    assert {name: float(x[0]) for name, x in found.items()} == approx(
        {"gini": 0.8, "top_10_share": 0.8, "top_1_share": 0.08, "bottom_50_share": 0.0, "income_gini": 0.0})


def test_debts_are_part_of_the_shares():
    found = sc.inequality(np.array([[-10.0, 110.0], [1.0, 1.0], [-1.0, 1.0]]))
    assert found["bottom_50_share"][:2] == approx([-0.1, 0.5])
    assert np.isnan(found["bottom_50_share"][2])  # nothing to share


def test_wealth_is_compared_with_the_survey_after_the_first_quarters():
    path = np.concatenate([np.zeros((3, 100)), np.full((3, 150), 0.8)], 1)
    series = {name: np.concatenate([x[:, :100], x], 1) for name, x in played().items()}
    card = sc.score(series | {"gini": path, "top_1_share": np.array([0.3, 0.4, 0.5])}, drop=100)
    gini, top = card.wealth
    assert (gini.statistic, gini.data, gini.mean) == ("gini", {"SCF 2022": 0.83}, approx(0.8))
    assert (top.data, top.mean, top.se) == ({"SCF 2022": 0.351}, approx(0.4), approx(0.1 / np.sqrt(3)))
    assert {m.number: m.compared[0].mean for m in card.metrics if m.number in (40, 41)} == approx({40: 0.8, 41: np.nan}, nan_ok=True)


# --- invariants -------------------------------------------------------------------------------------------------------


def events(**series):
    sample = {name: x[None] for name, x in from_model(still(**series)).items()}
    return {event.name: event.spells for event in sc.count_events(sample) if event.spells}


def test_a_still_economy_has_no_events():
    assert events() == {}


def test_one_crash_is_one_event_of_a_kind():
    crash = np.ones(404)
    crash[100:120] = 0.7
    assert events(output=crash) == {"collapse": 1, "depression": 1, "explosion": 1}


def test_a_slow_decline_is_a_depression_that_is_measured_from_the_last_ten_years():
    steps = np.r_[np.zeros(100), np.full(40, np.log(0.89) / 40), np.zeros(264)]
    assert events(output=np.exp(steps.cumsum())) == {"depression": 1}
    assert events(output=np.exp(np.r_[np.zeros(100), np.full(80, np.log(0.89) / 80), np.zeros(224)].cumsum())) == {}


def test_prices_that_run_away_or_fall_are_counted_by_spells_and_replicas():
    series = {name: np.tile(x, (3, 1)) for name, x in still().items()}
    series["inflation_4q"][1, 50:60], series["inflation_4q"][1, 80:90], series["inflation_4q"][2, 7] = 0.6, 0.6, -0.06
    found = {event.name: (event.spells, event.replicas) for event in sc.score(series, drop=0).events}
    assert found == {"explosion": (0, 0), "collapse": (0, 0), "hyperinflation": (2, 1), "deflation": (1, 1), "depression": (0, 0)}


@shared
def test_the_united_states_had_none():
    assert [event.spells for event in sc.count_events({name: x[None] for name, x in us("59-19").items()})] == [0] * 5


# --- the ancestor's metrics -------------------------------------------------------------------------------------------


def test_every_metric_of_the_ancestor_has_a_verdict_and_if_kept_a_value():
    card = sc.score(played() | dict.fromkeys(sc.WEALTH, np.full(3, 0.5)), drop=0)
    assert [metric.number for metric in card.metrics] == list(range(1, 51))
    for metric in card.metrics:
        measured = metric.verdict in ("kept", "fixed", "diagnostic", "invariant")
        assert measured or metric.verdict in ("dropped", "elsewhere")
        assert bool(metric.compared) == measured, metric.name
        for compared in metric.compared:
            assert np.isfinite([compared.mean, *compared.data.values()]).all(), compared.statistic
            assert compared.data, compared.statistic


def test_metrics_show_the_moments_that_they_are_about():
    card = sc.score(played(), drop=0)
    unemployment = next(r for r in card.rows if r.moment == "mean u")
    third = card.metrics[2].compared[0]
    assert (third.mean, third.se) == (unemployment.mean, unemployment.se)
    assert third.data == {"59-19": approx(5.97, abs=0.005), "84-19": approx(5.90, abs=0.005)}


def test_metrics_of_a_band_pass_card_keep_the_filter_of_their_us_values():
    series = played()
    hp, band = sc.score(series, drop=0), sc.score(series, drop=0, filter="band")
    assert hp.rows != band.rows
    (shown,), (other,) = (sc.to_dict({"play": card}).values() for card in (hp, band))
    assert shown["metrics"] == other["metrics"]


def test_recessions_are_pooled():
    found = [Recession(0, 2, 1.0, 2.0, 1.0, 0.5), Recession(3, 4, 3.0, np.nan, 2.0, 1.5)]
    assert sc.recession_statistics(found) == approx({
        "recession depth": 2.0, "recession recovery": 2.0, "recession unemployment rise": 1.5, "recession rate cut": 1.0,
        "recession depth p90": 2.8, "recession depth KS": 1 / 3})  # US depths .6 1.4 2.2 2.6 2.7 4.1: 2 of 6 are above 2.6 and below 3
    assert np.isnan(list(sc.recession_statistics([]).values())).all()


def test_us_recessions_are_as_deep_as_themselves():
    assert sc.recession_statistics(sc.us_recessions("59-19"))["recession depth KS"] == 0


# --- plays side by side -----------------------------------------------------------------------------------------------


def cards():
    """A trained play that is the United States, a random one that is inside nothing."""
    card = sc.score(played(), drop=0)
    nowhere = sc.compare(dict.fromkeys(NAMES, -100.0))
    return {"scripted": card, "random": replace(card, rows=nowhere), "trained": replace(card, rows=sc.compare(us_moments("59-19")))}


def test_a_scorecard_says_what_it_cannot_tell_apart():
    plays = cards()
    same, before = sc.verdicts({"scripted": plays["trained"], "random": plays["random"], "trained": plays["trained"]})
    assert same.startswith("The scorecard does not tell trained from scripted: 59 against 59 of 59 inside")
    assert before.startswith("The scorecard puts trained before random: 59 against 0 of 59 inside, 59 of them only in the former and 0 ")
    assert sc.verdicts({"random": plays["trained"], "trained": plays["random"]})[0].startswith("The scorecard puts trained behind random")
    assert sc.verdicts({"random": plays["random"]}) == []
    assert len(sc.verdicts(plays, "random")) == 1  # not beside itself


def test_a_lead_that_chance_explains_tells_nothing():
    """Five moments more of five that differ: two-sided p = 2/32 = 0.0625; six of six: 2/64 = 0.03."""
    plays, found = cards(), us_moments("59-19")
    for lead, word in ((5, "does not tell"), (6, "puts trained before")):
        fewer = sc.compare(found | dict.fromkeys(NAMES[:lead], -100.0))
        sentence, = sc.verdicts({"untrained": replace(plays["trained"], rows=fewer), "trained": plays["trained"]})
        assert word in sentence


def test_json_holds_every_play_and_no_nan():
    found = json.loads(json.dumps(sc.to_dict(cards()), allow_nan=False))
    assert {play: (of["inside"], of["of"]) for play, of in found.items() if play != "scripted"} == {"random": (0, 59), "trained": (59, 59)}
    trained = found["trained"]
    assert list(trained["moments"]) == NAMES
    assert trained["moments"]["std y"]["inside"] is True
    assert trained["moments"]["std y"]["se"] is None  # one replica
    assert (trained["held out"], trained["inside 59-19"]) == ("84-19", 59)
    assert len(trained["metrics"]) == 50


def test_the_table_has_a_column_for_every_play():
    plays = cards() | {"untrained": sc.score(played() | {"gini": np.full(3, 0.61)}, drop=0)}
    lines = sc.markdown(plays).splitlines()
    assert lines[0] == "|  | scripted | random | trained | untrained |"
    assert next(line for line in lines if line.startswith("| inside either")).split(" | ")[2:4] == ["0 of 59", "59 of 59"]
    moments = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in lines}
    for target in sc.targets()["moments"].values():
        assert len(moments[target["label"]]) == 6
    output = moments["std output, %"]
    assert output[:2] == ["1.43 (0.18)", "1.00 (0.16)"]
    assert "miss" in output[3]
    assert "miss" not in output[4]
    assert moments["mean policy rate, %"][3].endswith("imposed")
    assert moments["wealth Gini"] == ["0.83", "-", "-", "-", "0.61 |"]
    assert sum(line.startswith("* The scorecard") for line in lines) == 3
    assert lines[-1].startswith("US data: FRED-QD, vintage 2025-06")
