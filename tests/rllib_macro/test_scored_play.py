"""Plays for the scorecard: who is scripted, how long they are, what wealth is measured, and the verb that prints them."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
from pytest import approx
from typer.testing import CliRunner

from rllib_macro import __main__ as program
from rllib_macro import scored_play
from rllib_macro.run import RunError
from rllib_macro.scorecard import TYPES, WEALTH
from tests.rllib_macro.quiet import SMALL, planted

QUARTERS = 44


def behaviours(*names):
    return scored_play.behaviours("monetary", names, SMALL, QUARTERS)


def test_what_a_script_imposes_is_known_of_every_behaviour(tmp_path):
    run = planted(tmp_path, "still", 3)
    found = behaviours("scripted", "random", "untrained", str(run.path))
    assert [of.name for of in found] == ["scripted", "random", "untrained", "trained"]
    assert [of.scripted for of in found] == [list(TYPES), [], [], list(TYPES[:-1])]
    assert [list(of.policies) for of in found] == [[], [], list(TYPES), ["central_bank"]]
    assert {of.config.params["horizon"] for of in found} == {QUARTERS + 1}
    both = behaviours(str(run.path), str(planted(tmp_path, "up", 6).path))
    assert [of.name for of in both] == [str(tmp_path / "still"), str(tmp_path / "up")]


def test_a_name_of_no_behaviour_is_a_mistake():
    with pytest.raises(RunError, match="there is no behaviour or run 'idle'"):
        behaviours("scripted", "idle")
    with pytest.raises(RunError, match="rbc does not measure investment"):
        scored_play.behaviours("rbc", ["random"], [], QUARTERS)


def test_a_play_is_one_long_episode_with_wealth_of_some_of_its_quarters():
    seen = []
    of, = behaviours("scripted")
    series = scored_play.series(of, seed=0, replicas=2, quarters=QUARTERS, drop=4, watch=seen.append)
    assert {x.shape for name, x in series.items() if name not in WEALTH} == {(2, QUARTERS)}
    assert {series[name].shape for name in WEALTH} == {(2,)}
    assert seen == list(range(1, QUARTERS + 1))
    shorter = scored_play.series(of, seed=0, replicas=2, quarters=30, drop=4)
    assert (shorter["output"] == series["output"][:, :30]).all()
    assert (shorter["gini"] == series["gini"]).all()  # of quarters 4 and 24
    assert (scored_play.series(of, seed=0, replicas=2, quarters=30, drop=5)["gini"] != series["gini"]).all()


def test_wealth_is_net_worth_and_income_is_gross():
    nothing = np.zeros((1, 2), np.int64)
    money = np.array([[1, 3]]) * 10**6
    s = SimpleNamespace(deposits=2 * money, loans=money, ownership=np.array([[0.5, 0.5]]), equity=nothing, capital_value=nothing,
                        inventory_cost=nothing, firm_deposits=nothing, firm_loans=nothing, wage_income=money, benefits=nothing,
                        interest_received=nothing, interest_paid=nothing, dividends=money[:, ::-1])
    found = scored_play._inequality(s)
    assert (found["gini"][0], found["income_gini"][0]) == approx((0.25, 0))
    s.interest_paid = money[:, ::-1]
    assert scored_play._inequality(s)["income_gini"][0] == approx(0.25)


def test_the_verb_writes_its_section_and_says_how_it_was_made(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- scorecard: begin -->\nold\n<!-- scorecard: end -->\nafter\n")
    words = ["scorecard", "monetary", *SMALL, "--replicas", "2", "--quarters", str(QUARTERS), "--drop", "4"]
    told = CliRunner().invoke(program.app, [*words, "--into", str(page), "--json"])
    found = json.loads(told.stdout)
    assert {name: of["of"] for name, of in found.items()} == {"scripted": 59, "random": 59, "untrained": 59}
    assert (found["random"]["replicas"], found["random"]["quarters"]) == (2, QUARTERS - 4)
    assert "untrained: quarter 44 of 44" in told.stderr
    text = page.read_text()
    assert text.startswith("before\n<!-- scorecard: begin -->\nMade by `python -m rllib_macro scorecard monetary n_consumers=20")
    assert "old" not in text
    assert f"inside either band | {found['scripted']['inside']} of 59" in text


@pytest.mark.parametrize(("words", "says"), [
    (["--quarters", "120"], "120 quarters are too few: play 140 or more, or drop fewer than 100"),
    (["--into", "nothing.md"], "nothing.md must have the lines <!-- scorecard: begin -->")])
def test_mistakes_are_found_before_anything_is_played(words, says):
    told = CliRunner().invoke(program.app, ["scorecard", "monetary", *words])
    assert told.exit_code == 2
    assert says in told.stderr
