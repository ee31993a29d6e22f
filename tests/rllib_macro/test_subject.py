"""What an experiment is done with: a run where there is its folder, else an economy with its scripts."""
import pytest

from rllib_macro import subject
from rllib_macro.run import Run, RunError
from tests.rllib_macro.quiet import SMALL, planted, quiet


def test_in_an_economy_everybody_is_scripted_unless_told_otherwise():
    found = subject.subject("monetary", [*SMALL, "policies.bank.rule=null", "policies.firm.rule=random"])
    rules = {type_: policy.rule for type_, policy in found.config.policies.items()}
    assert rules == {"consumer": "scripted", "firm": "random", "bank": None, "government": "scripted", "central_bank": "scripted"}
    assert list(found.policies) == ["bank"]
    assert found.config.params["n_firms"] == 4


def test_an_economy_without_scripts_asks_what_its_types_do():
    with pytest.raises(RunError, match="rbc has no script for consumer, government: .* policies.consumer.rule=random"):
        subject.subject("rbc", ["policies.firm.rule=keep"])


def test_a_run_folder_comes_before_an_economy_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert subject.subject("monetary", SMALL).run is None
    Run.create(quiet("name=monetary"), tmp_path)
    assert subject.subject("monetary").run is not None


def test_a_run_plays_its_policies_in_a_changed_economy(tmp_path):
    run = planted(tmp_path, "still", 3)
    found = subject.subject(str(run.path), ["n_consumers=30", "policies.bank.rule=random"])
    assert (found.config.params["n_consumers"], found.config.policies["bank"].rule) == (30, "random")
    assert run.config.params["n_consumers"] == 20
    played = found.policies["central_bank"].state_dict()
    assert all((played[name] == tensor).all() for name, tensor in run.weights()["central_bank"].items())


@pytest.mark.parametrize(("name", "says"), [
    ("monetry", "there is no run or economy 'monetry'; did you mean 'monetary'"), ("runs/none", "runs/none is not a run folder")])
def test_a_name_of_nothing_is_a_mistake(name, says):
    with pytest.raises(RunError, match=says):
        subject.subject(name)
