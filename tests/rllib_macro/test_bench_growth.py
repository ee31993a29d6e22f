"""`bench growth`: bars are on the right side, every goal is a line, and the quick ones run in the tests."""
import json

import pytest

from rllib_macro import bench_growth, goals_growth
from rllib_macro.goals_growth import Part
from tests.rllib_macro.test_cli import mistake, output

QUICK = {goal.id for goal in goals_growth.GOALS if goal.quick}


@pytest.mark.parametrize(("part", "below", "above"), [(Part("", "<=", 0), True, False), (Part("", ">=", 0), False, True),
                                                      (Part("", "==", 0), False, False)])
def test_a_bar_has_a_right_side(part, below, above):
    assert (part.holds(-1.0, part.passes), part.holds(1.0, part.passes)) == (below, above)
    assert part.holds(0.0, part.passes)


def test_the_goals_are_those_of_the_specification():
    wanted = {*(f"G{n}" for n in range(1, 20)), "G1'", "G7'", "G12'", "G12''"}
    assert [goal.id for goal in goals_growth.GOALS if goal.id not in wanted] == []
    assert len(goals_growth.GOALS) == len(wanted)


def test_the_quick_goals_are_measured_and_met(tmp_path):
    page = tmp_path / "growth.md"
    page.write_text("above\n<!-- bench: begin -->\nold\n<!-- bench: end -->\n<!-- aiyagari: begin --><!-- aiyagari: end -->\n"
                    "<!-- transitions: begin --><!-- transitions: end -->\n")
    found = json.loads(output("bench", "growth", "--quick", "--into", page, "--json"))
    assert {row["id"] for row in found["goals"]} == QUICK == set(found["met"])
    assert set(found["not_measured"]).isdisjoint(QUICK)
    timed = {"ratio", "ratio, seeded", "CPU seconds", "numpy", "native", "T2 mean", "T3 mean"}  # what a busy machine may spoil
    assert not [row for row in found["goals"] if not row["met"] and row["part"] not in timed]
    assert "| G1 | value iteration repeats the published program" in page.read_text()
    kept = json.loads((tmp_path / "growth.json").read_text())
    assert kept["goals"] == found["goals"]
    output("bench", "growth", "--only", "G1'", "--into", page)
    assert json.loads((tmp_path / "growth.json").read_text())["met"] == found["met"]  # the others stay as they were
    assert "| 3 | 3.91" in page.read_text()  # percent of interest at risk aversion 3
    assert (tmp_path / "growth_frontier.png").stat().st_size > 10_000


def test_goals_measured_again_replace_those_of_before():
    def result(**values):
        rows = [{"id": id, "part": "", "value": value, "met": value > 0} for id, value in values.items()]
        return {"goals": rows, "frontier": [], "not_measured": {} if "G9" in values else {"G9": "takes minutes"}}
    both = bench_growth.merged(result(G1=1, G2=-1), result(G9=1, G2=2))
    assert [(row["id"], row["value"]) for row in both["goals"]] == [("G1", 1), ("G2", 2), ("G9", 1)]
    assert both["met"] == {"G1": True, "G2": True, "G9": True}
    assert both["not_measured"] == {}


def test_a_curve_is_named_by_what_sets_it_apart():
    settings = {"start": "neutral", "seconds": 60, "envelope": 0.0}
    assert goals_growth.label("structural", settings) == "structural, neutral start, envelope 0.0"
    assert goals_growth.label("td3", {"start": "prior", "steps": 5_000, "cold_start": "actor"}) == "td3, cold start actor"


def test_a_table_has_a_line_for_every_part():
    found = bench_growth.bench(only=["G1'"])
    text = bench_growth.markdown(found)
    assert text.count("| G1' |") == 1
    assert "yes" in text


@pytest.mark.parametrize(("words", "says"), [
    (["--only", "G99"], "unknown goal 'G99' of bench growth"),
    (["alpha=0.3"], "bench growth measures fixed calibrations; leave alpha=0.3 out"),
    (["--against", "nothing"], "there is no program nothing"),
    (["--into", "nothing.md"], "nothing.md must have the lines <!-- bench: begin -->"),
])
def test_mistakes_are_found_before_anything_is_measured(words, says):
    assert says in mistake("bench", "growth", *words)


def test_options_of_growth_are_refused_elsewhere():
    assert "are for bench growth" in mistake("bench", "rbc", "--only", "G1")
