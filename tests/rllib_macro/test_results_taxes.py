"""The tables and the figure of the taxes: each number is what the runs play, and nothing is written where runs are missing."""
import logging
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from rllib_macro import evaluate, results_taxes
from rllib_macro.run import Run, RunError
from rllib_macro.terminal import number
from tests.rllib_macro.tiny import tiny

RULES = {"learned": "null", "free": "fixed(income_tax=0, corporate_tax=0)", "all": "fixed(income_tax=1, corporate_tax=1)"}


def untrained(root, name, *overrides):
    """A run folder with weights that training could start from, others for each name."""
    config = tiny(f"name={name}", "params.firm_reward_weight=0.0025", *overrides)
    run = Run.create(config, root)
    weights = {type_: module.state_dict() for type_, module in evaluate.modules(config.model_copy(update={"seed": len(name)})).items()}
    run.save_policies(SimpleNamespace(learner_group=SimpleNamespace(get_weights=lambda: weights)), 4)
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("sweep")
    (root / "sweep.yaml").write_text("")
    return [untrained(root, name, f"policies.government.rule={rule}") for name, rule in RULES.items()]


def cells(text, first):
    """The cells of the only row that begins so."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_of_fixed_behaviour_is_the_learned_run_under_that_rule(runs):
    text = results_taxes.fixed(runs).split("Welfare of every pair")
    everything = {"government": results_taxes.RULE.format(1, 1)}
    played = evaluate.play(runs[0].config, evaluate.modules(runs[0].config, runs[0].weights()), everything)
    row = cells(text[0], "100 %")
    assert row[1:4] == [number(played.rewards[type_][0]) for type_ in ("consumer", "firm", "government")]
    assert cells(text[1], "100 %")[6] == row[3] != cells(text[1], "100 %")[1]
    half = {"government": results_taxes.RULE.format(1, 0)}
    played = evaluate.play(runs[0].config, evaluate.modules(runs[0].config, runs[0].weights()), half)
    assert cells(text[1], "100 %")[1] == number(played.rewards["government"][0])
    assert cells(text[1], "0 %")[1] == cells(text[0], "0 %")[3]
    assert cells(text[0], "learned")[3] != row[3]


def test_a_row_of_learning_anew_is_the_run_of_that_rule(runs):
    text = results_taxes.relearned(runs[::-1])
    for run, name in zip(runs, ("learned", "0 %", "100 %")):
        played = evaluate.play(run.config, evaluate.modules(run.config, run.weights()))
        assert cells(text, name)[1:4] == [number(played.rewards[type_][0]) for type_ in ("consumer", "firm", "government")]
    order = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert order == ["both rates", "--:", "learned", "0 %", "100 %"]


def test_several_seeds_have_their_range(runs, tmp_path):
    both = [runs[0], untrained(tmp_path, "again", "seed=5")]
    text = results_taxes.relearned([*both, runs[1]])
    values = [evaluate.play(run.config, evaluate.modules(run.config, run.weights())).rewards["firm"][0] for run in both]
    assert cells(text, "learned")[2] == f"{number(sum(values) / 2)} ({number(min(values))} to {number(max(values))})"
    assert "training seeds 0, 5; in brackets the range" in text


def test_open_and_closed_are_told_apart(runs, tmp_path):
    closed = untrained(tmp_path, "closed", "params.open_economy=false")
    text = results_taxes.open_closed([closed, runs[0]])
    assert cells(text, "open, seed 0")[1:] == cells(text, "open, mean")[1:] != cells(text, "closed, seed 0")[1:]
    with pytest.raises(RunError, match="none of the runs is of the closed economy; train them with"):
        results_taxes.open_closed(runs)


def test_without_a_learned_government_there_is_nothing_to_compare(runs):
    for make in (results_taxes.fixed, results_taxes.figure):
        with pytest.raises(RunError, match="none of the runs has a government that learns; train one with"):
            make(runs[1:])


def test_the_figure_has_a_bar_for_each_rate_and_a_line_for_the_learned_government(runs):
    welfare = results_taxes.figure(runs).axes[2]
    kept, anew = welfare.containers
    played = evaluate.play(runs[2].config, {**evaluate.modules(runs[2].config, runs[2].weights())})
    assert len(kept) == 6 and kept[5].get_height() != anew[5].get_height() == pytest.approx(played.rewards["government"][0])
    learned = evaluate.play(runs[0].config, evaluate.modules(runs[0].config, runs[0].weights()))
    assert welfare.lines[1].get_ydata()[0] == pytest.approx(learned.rewards["government"][0])
    assert welfare.get_ylabel() == "utils per period"


def test_the_command_replaces_a_section_or_says_what_is_wrong(runs, tmp_path):
    app = typer.Typer()
    app.command()(results_taxes.main)
    file = tmp_path / "taxes.md"
    file.write_text("Before\n<!-- relearned: begin -->\n<!-- relearned: end -->\nAfter\n")
    folder = str(runs[0].path.parent)
    done = CliRunner().invoke(app, ["relearned", folder, "--into", str(file)])
    assert done.exit_code == 0, done.output
    assert file.read_text().startswith("Before\n<!-- relearned: begin -->\nMade by") and file.read_text().endswith("end -->\nAfter\n")
    assert cells(file.read_text(), "100 %")
    wrong = CliRunner().invoke(app, ["fixd", folder])
    assert wrong.exit_code == 2
    assert wrong.stderr == "error: there is no section 'fixd'; choose one of fixed, relearned, open_closed or figure\n"
    assert not logging.root.manager.disable
