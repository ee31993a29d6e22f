"""Contests: everybody meets the same chance, losses are those of the reward, and what is learned is read off as it was played."""
import json

import numpy as np
import pytest
from pytest import approx
from typer.testing import CliRunner

import envs
from rllib_macro import __main__ as program
from rllib_macro import contest, evaluate
from rllib_macro.contest import Play, Sampling
from rllib_macro.experiments import paths
from rllib_macro.run import Run, RunError
from rllib_macro.subject import Subject, for_type, subject
from rllib_macro.terminal import CONFIGS
from tests.rllib_macro.quiet import SMALL, planted, quiet
from tests.rllib_macro.tiny import tiny

FEW = Sampling((7,), 4)
STILL = "constant(rate_step=0, asset_purchases=0)"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Central banks that always leave the rate alone, and always raise it by a point."""
    root = tmp_path_factory.mktemp("runs")
    return [planted(root, "still", 3), planted(root, "up", 6)]


# --- who plays --------------------------------------------------------------------------------------------------------


def test_rules_are_separated_by_commas_outside_brackets():
    assert contest.split(["learned, taylor(gap=1, smoothing=0.5)", "inertial"]) == ["learned", "taylor(gap=1, smoothing=0.5)", "inertial"]


@pytest.mark.parametrize(("rule", "says"), [
    ("best_constnt", "did you mean 'best_constant'"), ("taylor(gapp=1)", "did you mean 'gap'"), ("taylor(gap)", "must look like")])
def test_an_unknown_rule_is_named_before_anything_is_played(rule, says):
    with pytest.raises(ValueError, match=says):
        contest.require(quiet(), "central_bank", ["learned", "random", rule])
    with pytest.raises(ValueError, match="did you mean 'central_bank'"):
        contest.require(quiet(), "central_banc", [])


def test_a_learned_policy_plays_as_it_learned_and_nothing_else_changes(runs):
    base = quiet("policies.central_bank.rule=taylor93")
    plays = contest.contest([contest.learned(base, {}, "central_bank", runs[0]), contest.scripted(base, {}, "central_bank", STILL)],
                            "central_bank", FEW)
    assert plays["learned"].loss("central_bank") == approx(plays[STILL].loss("central_bank"))
    assert plays["learned"].paths["output"] == approx(plays[STILL].paths["output"])
    assert plays["learned"].chosen["rate_step"]["0"] == plays["learned"].chosen["asset_purchases"]["0"] == 1
    assert plays[STILL].chosen == {}


def test_a_run_without_the_type_has_nothing_to_play(tmp_path, runs):
    with pytest.raises(RunError, match="has no bank of monetary that learned"):
        contest.learned(quiet(), {}, "bank", runs[0])
    with pytest.raises(RunError, match="has no government of monetary that learned"):
        contest.learned(quiet(), {}, "government", Run.create(tiny(), tmp_path))


def test_windows_of_the_learned_type_are_those_of_its_run(tmp_path):
    run = planted(tmp_path, "bounded", 0, "windows.central_bank.rate_step=[-0.005, 0]")
    config = contest.learned(quiet("windows.central_bank.asset_purchases=[0, 0]", "windows.bank.loan_spread=[0.01, 0.02]"), {},
                             "central_bank", run).config
    assert config.windows == {"bank.loan_spread": (0.01, 0.02), "central_bank.rate_step": (-0.005, 0)}


def test_finished_runs_are_left_alone_and_missing_ones_are_trained(tmp_path):
    made = []

    def train(config):
        made.append((config.name, config.seed, config.params["n_firms"]))
        run = planted(tmp_path, config.name, 3)
        (run.path / "checkpoints" / "iteration_000004").mkdir(parents=True)
        (run.path / "checkpoints" / "iteration_000004" / "manifest.json").write_text("{}")
        (run.path / "evaluation.json").write_text("{}")
        return run

    configuration = CONFIGS / "monetary_central_bank.yaml"
    for _ in range(2):
        found = contest.trained(configuration, SMALL, tmp_path, range(2), train)
    assert [run.path.name for run in found] == ["monetary_central_bank_seed0", "monetary_central_bank_seed1"]
    assert made == [("monetary_central_bank_seed0", 0, 4), ("monetary_central_bank_seed1", 1, 4)]
    (found[1].path / "evaluation.json").unlink()
    with pytest.raises(RunError, match="seed1 is not finished; go on with: train --resume"):
        contest.trained(configuration, SMALL, tmp_path, range(2), train)
    assert len(made) == 2


# --- playing ----------------------------------------------------------------------------------------------------------


def test_the_loss_of_a_central_bank_is_that_of_its_paths():
    of = contest.play(contest.scripted(quiet(), {}, "central_bank", "taylor93"), "central_bank", FEW).paths
    miss, gap, change = 100 * (of["inflation_4q"] - 0.02), 100 * of["output_gap"], 100 * np.diff(of["policy_rate"], axis=1)
    assert -of["reward/central_bank"][:, 1:] == approx((miss**2 + 0.25 * gap**2)[:, 1:] + 0.1 * change**2)


def test_two_names_of_one_rule_meet_the_same_chance():
    about = Subject(quiet(), {})
    rows = contest.compared(about, "central_bank", ["taylor93", "taylor", "difference"], [], Sampling((7, 8), 2))["rows"]
    assert [row["rule"] for row in rows] == ["taylor93", "taylor", "difference", "untrained", "random"]
    assert rows[0]["difference"]["taylor"] == {"mean": 0, "low": 0, "high": 0}
    assert rows[0]["difference"].keys() == {"taylor", "difference", "untrained", "random"}
    assert rows[2]["difference"]["taylor93"]["mean"] == approx(rows[2]["loss"]["mean"] - rows[0]["loss"]["mean"])
    assert rows[2]["loss"]["mean"] == approx(-rows[2]["rewards"]["central_bank"])
    assert rows[2]["gain"]["central_bank"]["mean"] == approx(-rows[2]["difference"]["taylor93"]["mean"])


def test_the_others_go_on_as_they_learned_to():
    config = tiny("policies.firm.rule=keep")
    about = Subject(config, evaluate.modules(config))
    plays = {rule: contest.play(contest.scripted(config, {"consumer": about.policies["consumer"]}, "government", rule), "government", FEW)
             for rule in ("keep", "idle")}
    assert plays["keep"].paths["hours"] == approx(plays["idle"].paths["hours"])
    scripted = contest.play(contest.scripted(tiny("policies.firm.rule=keep", "policies.consumer.rule=random"), {}, "government", "keep"),
                            "government", FEW)
    assert scripted.paths["hours"] != approx(plays["keep"].paths["hours"])


def test_of_cross_play_each_column_is_at_home_somewhere(runs):
    found = contest.cross_play(runs, "central_bank", FEW)
    assert found["runs"] == [str(run.path) for run in runs]
    assert [found["difference"][i][i]["mean"] for i in range(2)] == [0, 0]
    assert found["loss"][0][0] == approx(found["loss"][0][1])  # both private sectors are scripted
    assert found["difference"][1][0]["mean"] == approx(found["loss"][1][0]["mean"] - found["loss"][0][0]["mean"])
    with pytest.raises(RunError, match="two runs or more"):
        contest.cross_play(runs[:1], "central_bank")


# --- searching --------------------------------------------------------------------------------------------------------


@pytest.fixture
def bowl(monkeypatch):
    """Losses that are known: the squared distance of a rule's arguments from 0.3 and 0.7."""
    def play(of, type_, sampling):
        given = [float(part.partition("=")[2].rstrip(")")) for part in of.name.partition("(")[2].split(",")]
        return Play({"reward/central_bank": -np.full((2, 3), sum((x - best) ** 2 for x, best in zip(given, (0.3, 0.7))))}, {})
    monkeypatch.setattr(contest, "play", play)


@pytest.mark.parametrize(("rule", "bounds", "trials"), [
    ("fixed_rate", {"rate": (0, 1)}, 20), ("taylor", {"inflation": (0, 1), "gap": (0, 1)}, 60), ("fixed_rate", {"rate": (0.4, 1)}, 20)])
def test_a_search_finds_the_least_loss_within_its_bounds(bowl, rule, bounds, trials):
    found = contest.search(quiet(), {}, "central_bank", rule, bounds, FEW, trials)
    best = [max(low, of) for of, (low, _) in zip((0.3, 0.7), bounds.values())]
    assert list(found["arguments"].values()) == approx(best, abs=0.02)
    assert found["trials"] <= trials + 1
    assert found["rule"].startswith(f"{rule}({next(iter(bounds))}=")


def test_a_search_starts_at_the_known_rules_and_loses_no_more_than_any(bowl):
    bounds, known = {"inflation": (0, 1), "gap": (0, 1)}, ({"gap": 0.2, "inflation": 0.9}, {"gap": 0.7, "inflation": 0.3})
    found = contest.search(quiet(), {}, "central_bank", "taylor", bounds, FEW, trials=6, starts=known)
    assert (found["rule"], found["loss"]) == ("taylor(inflation=0.3, gap=0.7)", approx(0))


def test_a_start_that_looks_bad_on_few_episodes_is_still_tried_on_all(monkeypatch):
    """Screened on one replica of four, low arguments look best; on all four, the best are those of the start."""
    def play(of, type_, sampling):
        given = float(of.name.partition("inflation=")[2].partition(",")[0])
        return Play({"reward/central_bank": -np.full((2, 3), given if sampling.replicas == 1 else (given - 0.9) ** 2)}, {})
    monkeypatch.setattr(contest, "play", play)
    found = contest.search(quiet(), {}, "central_bank", "taylor", {"inflation": (0, 1), "gap": (0, 1)}, FEW, trials=12,
                           starts=({"inflation": 0.9, "gap": 0.5},))
    assert (found["arguments"]["inflation"], found["loss"]) == (0.9, approx(0))


def test_the_known_rules_of_a_search_are_the_rules_of_their_names():
    starts = envs.load("monetary").study.searches["central_bank"]["tuned_taylor"].starts
    rules = [f"taylor({', '.join(f'{name}={value}' for name, value in start.items())})" for start in starts]
    plays = contest.contest([contest.scripted(quiet(), {}, "central_bank", rule) for rule in (*rules, "taylor93", "taylor99", "inertial")],
                            "central_bank", FEW)
    for rule, name in zip(rules, ("taylor93", "taylor99", "inertial"), strict=True):
        assert plays[rule].paths["output"] == approx(plays[name].paths["output"])


def test_what_is_found_is_played_on_other_seeds():
    of = contest.found(quiet(), {}, "central_bank", "best_constant", FEW, trials=3)
    found = of.told["found"]
    assert of.config.policies["central_bank"].rule == found["rule"]
    assert not set(found["seeds"]) & set(FEW.seeds)
    again = contest.scripted(quiet(), {}, "central_bank", found["rule"])
    assert found["loss"] == approx(contest.play(again, "central_bank", Sampling(tuple(found["seeds"]), 4)).loss("central_bank").mean())


# --- what came of it --------------------------------------------------------------------------------------------------


def lost(*losses):
    return Play({"reward/central_bank": -np.array(losses, float)[:, None]}, {})


def test_half_the_loss_in_every_episode_is_a_reduction_by_half_without_doubt():
    assert contest.reduction(np.array([1.0, 3]), np.array([2.0, 6])) == approx({"mean": 0.5, "low": 0.5, "high": 0.5})
    unsure = contest.reduction(np.array([1.0, 3]), np.array([2.0, 4]))
    assert unsure["mean"] == approx(1 / 3)
    assert unsure["low"] < 0 < unsure["high"]


@pytest.mark.parametrize(("second", "met"), [((1.0, 3.1), True), ((1.9, 6.5), False)])
def test_a_bar_is_met_by_all_training_seeds_or_not_at_all(second, met):
    plays = {"learned[0]": lost(1, 3), "learned[1]": lost(*second), "a": lost(2, 6), "b": lost(3, 9.1)}
    found = contest.bars(plays, "central_bank", ("a", "b"))
    assert found["met"] == met
    assert found["vs_a"]["seeds"]["learned[0]"]["mean"] == approx(0.5)
    assert found["vs_a"]["mean"] == approx(1 - (4 + sum(second)) / 2 / 8)
    assert contest.bars(plays, "central_bank", ("a", "c")) == {}


def test_a_linear_rule_is_read_off_exactly():
    of = contest.play(contest.scripted(quiet("lower_bound=-1", "upper_bound=1", "horizon=30"), {}, "central_bank", "inertial"),
                      "central_bank", FEW)
    found = contest.readout(of.paths, "policy_rate", ("inflation_4q", "output_gap"))
    assert [b["value"] for b in found["coefficients"].values()] == approx([0.2 * (0.015 - 0.01), 0.8, 0.2 * 1.5, 0.2 * 0.5])
    assert found["r2"] == found["r2_change"] == approx(1)
    assert {name: of["value"] for name, of in found["long_run"].items()} == approx({"inflation_4q": 1.5, "output_gap": 0.5})
    assert (found["episodes"], found["quarters"]) == (4, 29)


def test_standard_errors_of_a_rule_are_clustered_by_episode():
    """Episodes that differ by a constant: played twice over they tell nothing new, and their errors stay as they are."""
    rng = np.random.default_rng(0)
    of = {name: rng.normal(size=(20, 10)) for name in ("rate", "gap")}
    of["rate"] += rng.normal(size=(20, 1))
    errors = [contest.readout({name: np.tile(x, (1, n)) for name, x in of.items()}, "rate", ("gap",))["coefficients"]["gap"]["se"]
              for n in (1, 20)]
    assert errors[1] > 0.6 * errors[0]  # as independent quarters they would shrink to a quarter


# --- the verb ---------------------------------------------------------------------------------------------------------


def test_an_economy_is_the_configuration_in_which_the_type_learns():
    about = for_type("monetary", "central_bank", SMALL)
    assert about.config.windows == {"central_bank.asset_purchases": (0, 0)}
    assert (about.policies, about.run) == ({}, None)
    assert for_type("monetary", "bank", SMALL).config == subject("monetary", SMALL).config


def test_the_verb_compares_a_run_with_rules(runs):
    words = ["compare", str(runs[0].path), "--type", "central_bank", "--rules", "taylor93", "--rule", STILL, "--episodes", "3"]
    found = json.loads(CliRunner().invoke(program.app, [*words, "--cross-play", f"{runs[0].path},{runs[1].path}", "--json"]).stdout)
    assert [row["rule"] for row in found["rows"]] == ["learned", "taylor93", STILL, "untrained", "random"]
    assert found["rows"][0]["difference"][STILL]["mean"] == approx(0)
    assert found["rows"][0]["readout"]["instrument"] == "policy_rate"
    assert found["cross_play"]["difference"][0][0]["mean"] == 0
    assert (found["episodes"], found["periods"], found["agents"]["consumer"]) == (3, 12, 20)
    told = CliRunner().invoke(program.app, [*words, f"--runs={runs[0].path},{runs[1].path}"]).stdout
    assert "learned[1] chose rate_step: -0.01 0 %, -0.005 0 %, -0.0025 0 %, 0 0 %, 0.0025 0 %, 0.005 0 %, 0.01 100 %" in told


def test_a_play_is_the_same_with_and_without_being_watched():
    config = quiet()
    seen = []
    watched = paths(config, {}, 7, 2, watch=lambda batch: seen.append(batch.clock[0]))
    assert seen == list(range(1, 13))
    assert watched["output"] == approx(paths(config, {}, 7, 2)["output"])
