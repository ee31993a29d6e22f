"""What a run of the gather-trade-build world shows of itself, and the verb `log`, on a world of thirty periods; nothing is trained."""
import json
import re
from html import unescape

import lz4.frame
import numpy as np
import pandas
import pytest
from pytest import approx
from safetensors.torch import save_file

import envs
from kernels import gather_trade_build as gtb
from kernels.gather_trade_build_taxes import US_RATES
from rllib_macro import evaluate, extras, plots, report, train
from rllib_macro import gather_trade_build_log as logs
from rllib_macro import report_gather_trade_build as worlds
from rllib_macro.config import check_against, from_dict
from rllib_macro.run import Run, RunError
from tests.rllib_macro.test_cli import mistake, output
from tests.rllib_macro.test_report import Page
from tests.worlds import golden

SETTINGS = {
    "economy": "gather_trade_build", "name": "village", "stop": {"iterations": 4}, "backend": "numpy",
    "params": {"horizon": 30, "tax_period": 10, "starting_coin": [20.0], "tax_model": gtb.US_FEDERAL},
    "policies": {"mobile": {"rule": "random"}, "planner": {"network": {"hidden": [4]}}},
}
WORLD = ("gather_trade_build", "horizon=30", "tax_period=10", "starting_coin=[20.0]", "backend=numpy")
FIGURES = ("maps", "time", "agents", "coins")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder as training leaves it after four iterations, with episodes logged after two and four."""
    economy = envs.load("gather_trade_build")
    found = Run.create(check_against(from_dict(SETTINGS), economy), tmp_path_factory.mktemp("runs"))
    names = [f"measure/{name}" for name in economy.measures] + ["reward/mobile", "reward/planner"]
    pandas.DataFrame([{"iteration": k} | dict.fromkeys(names, float(k)) for k in range(1, 5)]).to_csv(found.path / "progress.csv")
    policies = evaluate.modules(found.config)
    (found.path / "policies").mkdir()
    save_file(policies["planner"].state_dict(), found.path / "policies" / "planner_000004.safetensors")
    for k in (2, 4):
        train.log_episode(found, k, policies)
    return found


@pytest.fixture(scope="module")
def kept(run):
    return logs.read(run.path / "episodes" / "episode_000004.lz4")


@pytest.fixture(scope="module")
def page(run):
    return Page(report.write(run))


# -- what a run keeps

def test_every_logged_episode_has_a_dense_log_in_the_original_programs_file_format(run):
    files = sorted(file.name for file in (run.path / "episodes").glob("*.lz4"))
    assert files == ["episode_000002.lz4", "episode_000004.lz4"]
    log = json.loads(lz4.frame.decompress((run.path / "episodes" / files[1]).read_bytes()))
    assert len(log["states"]) == 31 and sum(bool(day) for day in log["PeriodicTax"]) == 3
    assert log["PeriodicTax"][9]["schedule"] == approx(US_RATES)


def test_only_models_that_have_something_to_add_add_it(run):
    assert extras.of(run.config) is worlds
    assert extras.of(from_dict({"economy": "gather_trade_build_original"})) is worlds
    assert extras.of(from_dict({"economy": "rbc"})) is None


@pytest.fixture
def by_hand(run, tmp_path):
    """A run that logged an episode after two iterations and after three: replica b ends with 29 + 10 b; rates of 10, 20 and 60 % in the
    three tax years, and as much more in the second episode as the bracket's number."""
    (tmp_path / "progress.csv").write_bytes((run.path / "progress.csv").read_bytes())
    (tmp_path / "episodes").mkdir()
    year = np.array([0.0] + [0.1] * 10 + [0.2] * 10 + [0.6] * 9)  # before each period; the first has no rates yet
    measured = 10.0 * np.arange(3)[:, None] + np.arange(30)
    measures = {f"measure/{name}": measured for name in worlds.ENDS} | {"measure/utility": -measured}
    for k, more in ((2, 0.0), (3, 0.01)):
        rates = np.broadcast_to(year[:, None] + more * np.arange(7), (3, 30, 7))
        np.savez(tmp_path / "episodes" / f"episode_{k:06d}_market.npz", **measures, **{
            "state/rates": rates, "state/cutoffs": np.broadcast_to(10.0 * np.arange(7), (3, 30, 7))})
    return Run(tmp_path, run.config)


# -- figures

def test_the_figures_of_a_run_are_drawn_with_its_episode(run):
    names = [file.stem for file in plots.draw(run)]
    assert names[-5:] == ["social", *(f"episode_{name}" for name in FIGURES)]
    assert all((run.path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in names)


def test_rates_by_bracket_are_drawn_over_training_where_a_planner_learns(by_hand):
    made = worlds.figures(by_hand)["social"]
    assert [ax.get_title("left") for ax in made.axes] == [
        "mobile", "planner", "productivity", "equality", "equality × productivity", "tax rates by bracket"]
    lines = made.axes[-1].get_lines()
    assert [line.get_label() for line in lines] == [*(f"{k}0 to {k + 1}0" if k else "0 to 10" for k in range(6)), "over 60"]
    for k, line in enumerate(lines):
        assert list(line.get_xdata()) == [2, 3]
        assert line.get_ydata() == approx([30, 30 + k])
    scripted = Run(by_hand.path, evaluate.scripted(by_hand.config, {"planner": "idle"}))
    assert "tax rates by bracket" not in [ax.get_title("left") for ax in worlds.figures(scripted)["social"].axes]


# -- report

def test_the_report_has_productivity_equality_and_a_world_after_the_rewards(page):
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections[sections.index("rewards"):][:4] == ["rewards", "social", "world", "measures"]


def test_the_report_says_what_the_replicas_ended_with(by_hand):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", worlds.sections(by_hand)["social"][1]))
    assert "policies of iteration 3, 3 replicas" in text
    assert "productivity 39 10 equality 39 10 equality × productivity 39 10 labor 39 10 utility \N{MINUS SIGN}39 10" in text


def test_the_report_shows_the_episode_agents_by_skill(kept, page):
    skill = sorted(kept["states"][0][str(i)]["build_payment"] for i in range(4))
    end = kept["states"][-1]
    for i, pay in enumerate(skill):
        who = next(key for key in "0123" if kept["states"][0][key]["build_payment"] == pay)
        coins = end[who]["inventory"]["Coin"] + end[who]["escrow"]["Coin"]
        houses = sum(house["builder"] == int(who) for day in kept["Build"] for house in day)
        assert f" {i} {pay:.1f} {houses} " in page.text
        assert f"agent {i}, house pays {pay:.3g}" in page.text
        assert f" {coins:.0f} {end[who]['endogenous']['Labor']:.0f} " in f"{page.text} "


def test_the_film_stands_in_a_frame_that_reaches_nothing(page):
    (frame,) = [attributes for tag, attributes in page.tags if tag == "iframe"]
    assert frame["sandbox"] == "allow-scripts" and frame["title"]
    film = json.loads(frame["srcdoc"].split('id="data">')[1].split("</script>")[0])
    assert len(film["where"]) == 31 and len(film["colours"]) == 4
    assert "script" not in {tag for tag, _ in page.tags} and "http" not in unescape(page.source.replace("http://www.w3.org/", ""))
    assert page.open == [] and page.file.stat().st_size < 2_000_000


def test_without_a_dense_log_the_report_says_how_to_get_one(run, tmp_path):
    bare = Run(tmp_path, run.config)
    (tmp_path / "progress.csv").write_bytes((run.path / "progress.csv").read_bytes())
    text = " ".join(body for _, body in worlds.sections(bare).values())
    assert f"python -m rllib_macro log {tmp_path}" in text and "log.episode_every" in text
    assert list(worlds.figures(bare)) == ["social"]


@pytest.mark.parametrize("harm", [b"", b"\x04\x22\x4d\x18cut", b'{"world": [{}], "states": [{"0": {}}], "actions": [], "rewards": []}'])
def test_a_damaged_dense_log_is_named(run, tmp_path, harm):
    (tmp_path / "episodes").mkdir()
    (tmp_path / "progress.csv").write_bytes((run.path / "progress.csv").read_bytes())
    (tmp_path / "episodes" / "episode_000001.lz4").write_bytes(harm)
    with pytest.raises(RunError, match=r"episode_000001\.lz4 .*, or remove it"):
        worlds.sections(Run(tmp_path, run.config))


def test_a_damaged_episode_is_named(run, tmp_path):
    (tmp_path / "episodes").mkdir()
    (tmp_path / "progress.csv").write_bytes((run.path / "progress.csv").read_bytes())
    (tmp_path / "episodes" / "episode_000001_market.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"episode_000001_market\.npz is damaged"):
        worlds.figures(Run(tmp_path, run.config))


# -- the verb

def test_log_plays_an_economy_and_keeps_what_it_prints(tmp_path):
    file, film, drawn = tmp_path / "new" / "town.lz4", tmp_path / "town.html", tmp_path / "figures"
    printed = output("log", *WORLD, "--rule", "planner=flat_tax(rate=0.5)", "--seed", 3, "--every", 10, "--out", file, "--page", film,
                     "--figures", drawn)
    log = logs.read(file)
    assert [bool(maps) for maps in log["world"]] == [t % 10 == 0 for t in range(31)]
    assert log["PeriodicTax"][9]["schedule"] == approx([0.5] * 7)
    assert printed.splitlines()[-6:] == [str(file), str(film), *(str(drawn / f"episode_{name}.png") for name in FIGURES)]
    assert "http" not in film.read_text()
    again = output("log", file)
    assert again.splitlines()[2:] == printed.splitlines()[2:-6]  # the same table, without files
    told = json.loads(output("log", file, "--json"))
    coins = sum(log["states"][-1][i][where]["Coin"] for i in "0123" for where in ("inventory", "escrow"))
    assert told["productivity"] == approx(coins) and told["files"] == []
    assert [agent["did"]["Build"]["mean price"] for agent in told["agents"]] == sorted(
        log["states"][0][i]["build_payment"] for i in "0123")
    assert sum(agent["incomes"]["Total"] for agent in told["agents"]) == approx(coins - 80)


def test_log_plays_a_runs_policies_beside_its_other_episodes(run):
    told = json.loads(output("log", run.path, "--seed", 7, "--rule", "mobile=idle", "--json"))
    assert told["files"] == [str(run.path / "episodes" / "seed_7_mobile-idle" / "episode_000004.lz4")]
    assert told["productivity"] == approx(80) and told["equality"] == approx(1)  # all have kept what they began with
    assert sum(map(len, logs.read(told["files"][0])["Gather"])) == 0


def test_log_repeats_the_episode_that_training_kept(run, kept, tmp_path):
    output("log", run.path, "--out", tmp_path / "same.json")
    assert logs.read(tmp_path / "same.json") == kept


def test_log_reads_what_the_original_program_wrote():
    sample = golden("gtb_dense_log_sample.json")
    end = json.loads(sample.read_text())["states"][-1]
    coins = sum(agent[where]["Coin"] for key, agent in end.items() if key != "p" for where in ("inventory", "escrow"))
    assert json.loads(output("log", sample, "--json"))["productivity"] == approx(coins)


def test_log_overwrites_nothing(tmp_path):
    for arguments in (("--out", tmp_path / "a.lz4"), ("--out", tmp_path / "b.lz4", "--page", tmp_path / "a.html"),
                      ("--out", tmp_path / "b.lz4", "--figures", tmp_path)):
        there = arguments[-1] if arguments[-1] != tmp_path else tmp_path / "episode_coins.png"
        there.write_text("mine")
        assert mistake("log", *WORLD, *arguments) == f"{there} exists already; choose another place, or remove it"
        assert there.read_text() == "mine" and not (tmp_path / "b.lz4").exists()


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("rbc",), "rbc has no dense log in the schema of the gather-trade-build world"),
    (("gather_trade_buil",), "did you mean 'gather_trade_build'"),
    ((*WORLD, "--rule", "planner=us_federl"), "us_federal"),
    ((*WORLD, "--rule", "mayor=idle"), "--rule must look like TYPE=random"),
    ((*WORLD, "--out", "log.txt"), "log.txt must end with .lz4, .gz, .json"),
    ((*WORLD, "--checkpoint", 3), "so it has no checkpoints"),
    (("nothing.lz4",), "nothing.lz4 cannot be read as a dense log"),
    (("nothing.lz4", "--seed", 0), "only --page, --figures and --json go with a file"),
])
def test_a_mistake_is_one_sentence(arguments, sentence):
    assert sentence in mistake("log", *arguments)
