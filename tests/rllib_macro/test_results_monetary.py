"""Sections of the results page: what a comparison found is told with its intervals and with the bars it meets or misses."""
import json

import pytest
from typer.testing import CliRunner

from rllib_macro import results_monetary
from rllib_macro.run import RunError
from rllib_macro.subject import Subject
from tests.rllib_macro.quiet import SMALL, planted, quiet


def row(rule, loss, **more):
    return {"rule": rule, "loss": {"mean": loss, "se": 0.1}, "difference": {"learned": {"mean": loss - 3.0, "low": loss - 3.2,
                                                                                        "high": loss - 2.8}},
            **more}


def written(tmp_path, *rows):
    file = tmp_path / "compare.json"
    file.write_text(json.dumps({"rows": rows}))
    return file


def test_a_bar_is_met_or_missed_by_the_relative_loss(tmp_path):
    text = results_monetary.central_bank([written(tmp_path, row("learned", 3.0), row("taylor93_steps", 3.75), row("best_constant", 6.0))])
    assert "Against taylor93_steps the learned policies lose 20 % less (bar: 25 %, missed)." in text
    assert "Against best_constant the learned policies lose 50 % less (bar: 15 %, met)." in text
    assert "| best_constant | 6.00 (0.10) | 3.00 (2.80 to 3.20) |" in text


def test_what_a_search_found_and_what_was_chosen_are_told(tmp_path):
    file = written(tmp_path, row("learned", 3.0, chosen={"rate_step": {"-0.0025": 0.25, "0.01": 0.75}}),
                   row("best_constant", 6.0, found={"rule": "fixed_rate(rate=0.05)"}))
    text = results_monetary.central_bank([file])
    assert "`learned` chooses -25 bp 25 %, +100 bp 75 %." in text and "| best_constant: fixed_rate(rate=0.05) |" in text


def test_a_comparison_without_a_learned_policy_is_refused(tmp_path):
    with pytest.raises(RunError, match="has no learned policy; make it with: python -m rllib_macro compare monetary"):
        results_monetary.central_bank([written(tmp_path, row("taylor93", 4.0))])


@pytest.fixture
def small(monkeypatch):
    """The sections of a small economy."""
    monkeypatch.setattr(results_monetary, "subject", lambda name, settings=(): Subject(quiet("horizon=30", *settings), {}))
    monkeypatch.setattr(results_monetary, "PAIRS", 2)


def test_a_crisis_is_told_beside_the_same_worlds_without_it(small, monkeypatch):
    monkeypatch.setattr(results_monetary, "CRISES", (("bail_out",), ("losses", "forbearance")))
    text = results_monetary.crises()
    assert "| bail_out | 0.0 ± 0.0 | 0.0 ± 0.0 | 0.0 ± 0.0 | 0.0 ± 0.0 |" in text  # what is always so is no crisis
    assert "| losses + forbearance |" in text and "`losses`: firm loans worth 30 % of bank capital are written off;" in text


def test_purchases_are_told_under_two_banks_and_two_budgets(small):
    rows = [line for line in results_monetary.fiscal().splitlines() if line.startswith("| inertial") or line.startswith("| fixed_rate")]
    assert [row.split(" | ")[1] for row in rows] == ["scripted", "balanced_budget"] * 2


def test_what_a_slump_costs_depends_on_who_sets_the_rate_and_how_far_it_falls(small):
    held, leaning, unbound = (results_monetary._lost(*case) for case in ((0.0, "difference"), (0.0, "taylor99"), (-1.0, "taylor99")))
    assert min(held, leaning, unbound) > 0 and len({held, leaning, unbound}) == 3


def test_what_is_not_there_or_no_comparison_is_one_sentence(tmp_path):
    import typer
    app = typer.Typer()
    app.command()(results_monetary.main)
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    for name, said in (("gone.json", "No such file"), ("other.json", "is not what compare prints")):
        result = CliRunner().invoke(app, ["central_bank", str(tmp_path / name)])
        assert result.exit_code == 2 and result.output.count("error: ") == 1 and said in result.output


def test_variants_play_under_their_params(monkeypatch):
    monkeypatch.setattr(results_monetary, "QUARTERS", 12)
    monkeypatch.setattr(results_monetary, "DROPPED", 4)
    small = tuple(setting for setting in SMALL if not setting.startswith("horizon"))
    none = ("leverage_limit=0", "leverage_target=0", "credit_line=0")
    monkeypatch.setattr(results_monetary, "VARIANTS", {"as it is": small, "no credit": (*small, *none)})
    lines = [line.split(" | ") for line in results_monetary.variants().splitlines() if line.count("|") == 13]
    rows = {line[0]: line for line in lines}
    assert float(rows["| as it is"][8]) > float(rows["| no credit"][8]) >= 0  # real credit over output


def test_a_run_is_told_beside_its_scripts(tmp_path, monkeypatch):
    monkeypatch.setattr(results_monetary, "PAIRS", 2)
    run = planted(tmp_path, "raising", 6, "horizon=30")
    rows = [line.split(" | ") for line in results_monetary.learned([run.path]).splitlines() if line.startswith("| raising")]
    assert [row[0] for row in rows] == ["| raising: scripts", "| raising: learned central_bank"]
    assert all(len(row) == len(results_monetary.LEARNED_CRISES) + 5 for row in rows)
    assert rows[0][1:] != rows[1][1:]  # a rate that only rises is not the script's
    with pytest.raises(RunError, match="name the folders of runs"):
        results_monetary.learned([])


def test_mistakes_are_one_sentence():
    import typer
    app = typer.Typer()
    app.command()(results_monetary.main)
    result = CliRunner().invoke(app, ["no_such_section"])
    assert result.exit_code == 2
    assert result.output.startswith("error: there is no section 'no_such_section'; choose one of impulses, crises, fiscal, variants, "
                                    "central_bank, together, learned")
