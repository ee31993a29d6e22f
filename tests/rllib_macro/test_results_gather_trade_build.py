"""The results of the gather-trade-build world: episodes are booked as a dense log has them, and each cell is what the runs play."""
import logging
import re
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from torch import nn
from typer.testing import CliRunner

import envs
from envs.core.batch import Batch, with_values
from kernels import gather_trade_build as gtb
from rllib_macro import episodes_gather_trade_build as episodes
from rllib_macro import evaluate
from rllib_macro import gather_trade_build_log as logs
from rllib_macro import results_gather_trade_build as results
from rllib_macro.config import check_against, from_text
from rllib_macro.run import Run, RunError

DENSE = {"horizon": 100, "tax_period": 10, "regrowth_stone": 0.3, "regrowth_wood": 0.3, "starting_coin": (10.0,)}
SYSTEM = {"free": "params.disable_taxes=true", "saez": "params.tax_model=2", "learned": "policies.planner.rule=null"}
CONFIG = """
economy: gather_trade_build
replicas: 4
periods: 10
params: {layout: small_9x9, horizon: 20, tax_period: 2, starting_coin: [10], planner_sees_map: false}
policies:
  mobile: {network: {hidden: [8]}}
  planner: {rule: idle, network: {hidden: [8]}}
evaluation: {replicas: 4, seeds: [7]}
stop: {iterations: 5}
"""


def small(*overrides):
    return check_against(from_text(CONFIG, overrides), envs.load("gather_trade_build"))


def untrained(root, name, *overrides):
    """A run folder with weights that training could start from, others for each name, and five iterations of progress."""
    run = Run.create(small(f"name={name}", *overrides), root)
    started = evaluate.modules(run.config.model_copy(update={"seed": len(name)}))
    weights = {type_: {key: 20 * x for key, x in module.state_dict().items()} for type_, module in started.items()}  # none like another
    run.save_policies(SimpleNamespace(learner_group=SimpleNamespace(get_weights=lambda: weights)), 4)
    rows = [f"{k}," + ",".join(str(k * scale) for scale in (10, 1, 2, 0.05, 0.1, 0.25)) for k in range(1, 6)]
    (run.path / "progress.csv").write_text("\n".join([
        "iteration," + ",".join(f"measure/{m}" for m in ("productivity", "utility", "labor", "houses", "trades", "gathered")), *rows]))
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    made = {name: untrained(root, name, of) for name, of in SYSTEM.items()}
    return made | {"second": untrained(root, "second", SYSTEM["free"], "seed=1")}


def policies(run):
    return evaluate.modules(run.config, run.weights())


def cells(text, *first):
    """The cells of the first row that begins so."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    return next(row for row in rows if row[:len(first)] == list(first))


def test_the_books_of_an_episode_are_those_of_its_dense_log():
    economy = envs.load("gather_trade_build")
    p = with_values(gtb.Params(), {**gtb.NAMED["layout"]("small_9x9"), **DENSE, "tax_model": gtb.US_FEDERAL})
    batch = Batch(economy, p, 3, seed=5, rules={"mobile": "random", "planner": "idle"})
    batch.watch = books = episodes.Books(batch.p, 3)
    made = logs.record(batch, replica=1)
    found, log = books.close(), logs.sorted_by(made.log, "build_payment")
    of = {name: values[1] for name, values in found.agents.items()}
    told, income = logs.business(log), logs.incomes(log)
    goods = ("Stone", "Wood")
    assert of["houses"].tolist() == told["Build", "times"].tolist() and of["houses"].sum() > 0
    assert of["sold"].tolist() == sum(told[f"Sell {good}", "times"] for good in goods).tolist() and of["sold"].sum() > 0
    assert of["bought"].tolist() == sum(told[f"Buy {good}", "times"] for good in goods).tolist()
    assert of["sales"] == pytest.approx(sum(income[f"Sell {good}"] for good in goods).to_numpy())
    assert of["purchases"] == pytest.approx(sum(income[f"Buy {good}"] for good in goods).to_numpy())
    assert of["building"] == pytest.approx(income["Build"].to_numpy())
    assert of["taxes"] == pytest.approx(income["Tax"].to_numpy()) and of["taxes"].sum() < 0
    assert of["paid back"] == pytest.approx(income["Lump sum"].to_numpy())
    kept = logs.series(log)
    assert of["coin"] == pytest.approx(kept["Coin"][-1]) and of["labor"] == pytest.approx(kept["Labor"][-1])
    found_units = np.zeros((4, 2))
    for day in log["Gather"]:
        for event in day:
            found_units[event["agent"], goods.index(event["resource"])] += event["n"]
    assert of["gathered"].tolist() == found_units.tolist()
    metrics = made.metrics()
    assert found.social["productivity"][1] == pytest.approx(metrics["social/productivity"])
    assert found.social["equality"][1] == pytest.approx(metrics["social/equality"])
    assert found.social["welfare"][1] == pytest.approx(metrics["social_welfare/coin_eq_times_productivity"])
    assert found.rates[1] == pytest.approx(gtb.taxes.US_RATES)
    assert (np.diff(of["payment"]) > 0).all()


def blind(run):
    """Workers who choose among legal actions by chance, whatever they see."""
    made = policies(run)
    for module in made.values():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
    return made


def test_worlds_of_one_seed_are_the_same_under_all_systems_until_taxes_are_paid(runs):
    config = runs["learned"].config
    never = config.model_copy(update={"params": config.params | {"tax_period": 1000}})
    found = {system: episodes.play(never, blind(runs["learned"]), system, [3], 2) for system in (episodes.FREE, episodes.FEDERAL)}
    assert found[episodes.FREE].agents["coin"].tolist() == found[episodes.FEDERAL].agents["coin"].tolist()
    taxed = episodes.play(config, blind(runs["learned"]), episodes.FEDERAL, [3], 2)
    assert taxed.agents["coin"].tolist() != found[episodes.FREE].agents["coin"].tolist()
    assert taxed.agents["payment"].tolist() == found[episodes.FREE].agents["payment"].tolist()


def test_curricula_hold_nothing_back_in_fresh_replicas(runs):
    config = runs["learned"].config
    held = config.model_copy(update={"params": config.params | {"annealing": (-10.0, 0.01), "energy_warmup": 3000.0, "warmup_method": 1}})
    free, limited = (episodes.play(of, policies(runs["learned"]), episodes.LEARNED, [3], 2) for of in (config, held))
    assert limited.rates.tolist() == free.rates.tolist() and limited.rates.max() > 0.1
    assert limited.agents["utility"].tolist() == free.agents["utility"].tolist()


def test_what_the_saez_formula_knew_while_workers_learned_makes_no_other_world(runs):
    def changed(**params):
        config = runs["saez"].config
        return SimpleNamespace(path="changed", config=config.model_copy(update={"params": config.params | params}))
    results._require_one_world([runs["saez"], changed(saez_shared=True)])
    with pytest.raises(RunError, match="changed plays another world than .*: starting_coin differ"):
        results._require_one_world([runs["saez"], changed(starting_coin=(7.0,))])


def test_the_saez_formula_has_seen_enough_before_it_is_measured(runs, monkeypatch):
    p = episodes.fixed_params(runs["saez"].config)
    assert episodes.warm_up_episodes(gtb.Params()) == 25  # 500 incomes of 4 agents take 125 of its tax years, 10 of which are an episode
    assert episodes.warm_up_episodes(p) == 25  # as many years, each of 2 periods of 20
    monkeypatch.setattr(episodes, "SETTLING", 0)
    met = episodes.play(runs["saez"].config, policies(runs["saez"]), episodes.SAEZ, [3], 2)
    monkeypatch.setattr(episodes, "warm_up_episodes", lambda p: 0)
    unmet = episodes.play(runs["saez"].config, policies(runs["saez"]), episodes.SAEZ, [3], 2)
    assert np.ptp(unmet.rates, 1).min() > 0.1  # drawn at random for each bracket
    assert met.rates.tolist() != unmet.rates.tolist()
    assert met.agents["payment"].tolist() == unmet.agents["payment"].tolist()


@pytest.mark.parametrize(("override", "system"), [
    ("params.disable_taxes=true", "free market"), ("params.tax_model=1", "US federal"), ("params.tax_model=2", "Saez formula"),
    ("policies.planner.rule=null", "learned planner"), ("policies.planner.rule=us_federal", "US federal")])
def test_a_run_says_under_which_system_its_workers_learned(override, system):
    assert episodes.system_of(small(override)) == system


def test_a_run_under_another_system_is_refused():
    with pytest.raises(RunError, match="the planner's rule 'random', none of free market"):
        episodes.system_of(small("policies.planner.rule=random"))


def test_phase_one_is_told_by_whole_episodes(runs):
    text, _ = results.learning([runs["free"], runs["second"]])
    # an episode of 20 periods takes two iterations of 10, the fifth is left out: (10 + 20) / 2, (30 + 40) / 2; 20 (.05 + .1) / 2 houses
    assert cells(text, "coins of all workers")[1:] == ["15 (15 to 15)", "35 (35 to 35)"]
    assert cells(text, "houses in an episode")[1:] == ["1.5 (1.5 to 1.5)", "3.5 (3.5 to 3.5)"]
    played = [episodes.play(run.config, policies(run), episodes.FREE, [7], 4) for run in (runs["free"], runs["second"])]
    coin = np.concatenate([one.agents["coin"] for one in played])
    assert coin.shape == (8, 4)
    equality = 100 * np.concatenate([one.social["equality"] for one in played])
    assert cells(text, "equality, %")[2].startswith(f"{results.number(equality.mean())} ± ")
    half = 2.3646 * coin[:, 0].std(ddof=1) / np.sqrt(8)  # Student's t with 7 degrees of freedom
    least = cells(text, results.number(played[0].agents["payment"][0, 0]))
    assert least[10] == f"{results.number(coin[:, 0].mean())} ± {results.number(half)}"


def test_a_row_of_the_systems_is_what_those_workers_play_under_it(runs, monkeypatch):
    monkeypatch.setattr(episodes, "warm_up_episodes", lambda p: 1)  # the Saez formula is not what this is about
    text, _ = results.systems([runs["free"], runs["second"], runs["learned"]])
    run, planner, product = runs["free"], runs["learned"], {}
    for system in (episodes.FREE, episodes.FEDERAL):
        played = [episodes.play(of.config, policies(of), system, [7], 4) for of in (run, runs["second"])]
        product[system] = np.concatenate([one.social["equality_times_productivity"] for one in played])
    row = cells(text, "no taxes", "US federal")
    assert row[4].startswith(results.number(product["US federal"].mean()) + " ± ")
    gain = product["US federal"] - product["free market"]
    assert row[8].removeprefix("+").startswith(results.number(gain.mean()) + " ± ")
    assert cells(text, "no taxes", "free market")[6:] == ["", "", ""]
    both = policies(planner) | {"mobile": policies(run)["mobile"]}
    taxed = 100 * episodes.play(planner.config, both, "learned planner", [7], 4).social["equality"]
    assert cells(text, "no taxes", "learned planner")[3].startswith(results.number(taxed.mean()) + " ± ")
    assert cells(text, "free market")[1:5] == ["3,285", "39", "1,278", "100"]
    assert cells(text, "learned planner")[4] == "130"  # 1,664 of 1,278
    assert "a second phase 20,000,000 times as long" in text  # 4 million episodes of 1,000 periods, ours 4 replicas x 10 periods x 5
    assert cells(text, "US federal", "10")[1:] == ["10", "12", "22", "24", "32", "35", "37"]


def test_runs_of_different_worlds_are_not_compared(runs, tmp_path):
    other = untrained(tmp_path, "other", "params.energy_cost=0.1")
    with pytest.raises(RunError, match="energy_cost differ; compare runs of one world"):
        results.systems([runs["free"], other])


def test_phase_one_is_not_told_from_taxed_workers(runs):
    with pytest.raises(RunError, match="ask for: systems"):
        results.learning([runs["saez"]])


def test_a_section_goes_onto_its_page_and_its_figure_beside_it(runs, tmp_path):
    app = typer.Typer()
    app.command()(results.main)
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- learning: begin -->\n<!-- learning: end -->\nafter\n")
    done = CliRunner().invoke(app, ["learning", str(runs["free"].path), "--into", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n")
    (figure,) = re.findall(r"\((\w+\.png)\)", text)
    assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")
    for wrong, said in ((["systems", str(runs["free"].path), "--into", str(page)], "systems: begin"), (["all", "x"], "learning, systems")):
        failed = CliRunner().invoke(app, wrong)
        assert failed.exit_code == 2 and said in failed.output
    assert logging.root.manager.disable == 0
