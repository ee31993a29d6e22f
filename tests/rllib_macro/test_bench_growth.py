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
    assert {goal.id for goal in goals_growth.GOALS} | set(goals_growth.ELSEWHERE) == wanted


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
    assert "| 3 | 3.91" in page.read_text()  # percent of interest at risk aversion 3
    assert (tmp_path / "growth_frontier.png").stat().st_size > 10_000


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
