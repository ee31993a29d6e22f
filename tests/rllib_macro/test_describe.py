"""What `describe` tells comes from the declarations, row by row, and a reader sees long runs of columns as one."""
import io
import json
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

import envs
from envs.core.batch import Batch
from kernels import rbc
from rllib_macro import describe
from rllib_macro.config import Exponential, check_against, from_dict, from_text


def told(text="economy: rbc", *overrides, run=False):
    config = from_text(text, overrides)
    return describe.describe(check_against(config, envs.load(config.economy)), run)


def shown(description, width=160):
    out = io.StringIO()
    describe.show(description, Console(file=out, highlight=False, width=width))
    return out.getvalue()


@pytest.fixture(scope="module")
def economy():
    return told()


def test_the_phases_come_in_the_order_in_which_they_happen(economy):
    assert [row["phase"] for row in economy["timing"]] == [
        "afford", "hire", "deliver", "sell_abroad", "produce", "settle_firms", "settle_consumers", "penalise_debt", "value_welfare",
        "post_terms", "innovate"]
    assert economy["timing"][4]["does"] == "Y_i = A exp(z) K_i^(1 - alpha_i) L_i^alpha_i goes on the shelf."
    assert all(row["does"].endswith(".") and "Writes" not in row["does"] for row in economy["timing"])


def test_a_step_with_branches_and_assignments_is_told_too(monkeypatch):
    kernel = ModuleType("kernel")
    kernel.markets = SimpleNamespace(clear=rbc.produce)

    def step(p, s, a, e, r):
        """One period."""
        x = p.n
        markets.clear(p, s)  # noqa: F821
        if p.open:
            trade(x)  # noqa: F821
        else:
            hoard(p)  # noqa: F821
        s.levy[...] = a.levy

    kernel.step = step
    assert describe.timing(kernel) == [
        {"phase": "markets.clear", "does": "Y_i = A exp(z) K_i^(1 - alpha_i) L_i^alpha_i goes on the shelf."},
        {"phase": "trade", "does": "", "when": "if p.open"},
        {"phase": "hoard", "does": "", "when": "unless p.open"},
        {"phase": "s.levy[...] = a.levy", "does": ""},
    ]


def test_params_have_symbol_value_unit_meaning_and_source():
    rows = {row["name"]: row for row in told("economy: rbc", "params.crra=0.5", "params.theta_factor={exp: 100, from: 0, to: 1}")["params"]}
    assert rows["crra"] == {"name": "crra", "symbol": "eta", "default": 0.1, "value": 0.5, "unit": "", "source": "Curry et al. (2022)",
                            "meaning": "relative risk aversion; 1 is log utility"}
    assert rows["theta_factor"]["value"] == 0.0  # where the schedule starts
    assert rows["theta_factor"]["schedule"] == "0 -> 1, 1/e in 100"


@pytest.mark.parametrize("features", ["raw", "scaled", "digits"])
def test_observation_rows_are_the_columns_of_the_batch(features):
    rows = told("economy: rbc", "params.n_firms=3", f"features={features}")["observations"]
    p = rbc.Params(n_firms=3)
    batch = Batch(envs.load("rbc"), p, features=features)
    for type_, layout in batch.layout.items():
        assert [row["index"] for row in rows[type_]] == list(range(batch.observe(type_).shape[-1]))
        columns = [(column.name, column.scale, column.transform) for column in layout.columns]
        assert [(row["name"], row["scale"], row["transform"]) for row in rows[type_]] == columns
    assert rows["consumer"][0] | {"scale": 0} == {"index": 0, "name": "price[0]", "feature": "price", "scale": 0, "transform": "linear",
                                                  "unit": "coins/unit", "meaning": "posted for this quarter"}


def test_a_reader_sees_long_runs_as_one_row(economy):
    rows = {row["index"]: row["name"] for row in describe.collapse(economy["observations"]["firm"])}
    assert (rows["4..13"], rows["44"], rows["0"], rows["50..59"]) == ("price[0..9]", "income_tax", "own price", "is_0..9")
    digits = describe.collapse(told("economy: rbc", "features=digits")["observations"]["consumer"])
    assert [row["name"] for row in digits if "mod" in row["name"]] == ["inventory[0..9] mod 1e1..10", "own budget mod 1e1..10"]


def test_agents_choices_rules_and_measures(economy):
    assert economy["agents"][0] == {"type": "consumer", "count": 100, "observes": 45, "heads": 12, "unit": "utils",
                                    "reward": "utility of consumption less disutility of work"}
    demand, hours, employer = economy["choices"]["consumer"]
    assert (demand["heads"], hours["heads"], employer["heads"]) == ([11] * 10, [5], [10])
    assert hours["values"] == "0, 260, 520, 780, 1040"
    assert hours["unit"] == "hours"
    rules = {row["rule"]: row["does"] for row in economy["rules"]["consumer"] + economy["rules"]["government"]}
    assert rules["fixed(income_tax=0.2, corporate_tax=0.2)"] == "Government: the same two tax rates in every quarter."
    assert "constant(demand=..., hours=..., employer=...)" in rules
    assert told()["rules"]["consumer"][-1] == {"rule": "idle", "does": "demand=0, hours=0, employer=0 in every period."}
    assert economy["measures"] == list(envs.load("rbc").measures)
    assert economy["periods"] == 10


def test_an_economy_from_elsewhere_with_shares_and_no_end_is_described():
    cobweb = told("economy: tests.economies.cobweb")
    assert cobweb["endless"]
    assert [row["heads"] for row in cobweb["choices"]["producer"]] == [[5], [0]]
    assert [row["phase"] for row in cobweb["timing"]][-1] == "s.levy[...] = a.levy"
    text = shown(cobweb)
    assert "interval" in text
    assert "[0, 0.5]" in text  # brackets are no markup


RUN = """
economy: rbc
windows: {firm.price: [[0, [1000, 1000]], [20, [0, 2500]]]}
policies:
  consumer: {lr: [[0, 1.0e-3], [50, 1.0e-4]], entropy: {exp: 30, from: 0.5, floor: 0.05}}
  firm: {train_from: 20, train_every: 2, network: {hidden: [8, 4], activation: relu}}
  government: {rule: keep}
stop: {iterations: 50}
"""


def test_of_a_configuration_who_learns_and_when():
    run = told(RUN, run=True)["run"]
    consumer, firm, government = (run["policies"][type_] for type_ in ("consumer", "firm", "government"))
    assert (consumer["learns"], consumer["lr"]) == ("from 0", "0.001 -> 0.0001 (0 to 50)")
    assert consumer["entropy"] == "0.5 -> 0, 1/e in 30, at least 0.05"
    assert (firm["learns"], firm["network"]) == ("from 20, every 2", "8 x 4 relu")
    assert government == {"rule": "keep"}
    assert run["windows"] == {"firm.price": "[1000, 1000] -> [0, 2500] (0 to 20)"}
    assert run["timetable"][-1] == {"iteration": 20, "what": "firm.price stays at [0, 2500]"}
    text = shown(told(RUN, run=True))
    assert "never: rule keep" in text
    assert "Timetable" in text


def test_the_tables_say_what_the_data_say(economy):
    text = shown(economy)
    for word in ("Timing", "settle_firms", "eta", "M_0/N", "price[0..9]", "{0, 11, 22, 33, 44}", "signed_log", "gini", "Curry et al."):
        assert word in text
    assert "Timetable" not in text
    assert len(text.splitlines()) < 160
    json.dumps(economy, allow_nan=False)


@pytest.mark.parametrize(
    ("given", "text"),
    [(0.001, "0.001"), (((0, 1.0),), "1"), (((0, 1.0), (9, 2.0)), "1 -> 2 (0 to 9)"), ((0.0, 2.5), "[0, 2.5]"),
     (Exponential(exp=10), "1 -> 0, 1/e in 10")],
)
def test_a_schedule_in_a_few_words(given, text):
    assert describe.scheduled(given) == text


@pytest.mark.parametrize(
    ("doc", "sentence"),
    [("One. Two.", "One."), ("p >= .5 holds\n    here. Writes x.", "p >= .5 holds here."), ("No stop\n\nMore.", "No stop"), (None, "")],
)
def test_the_first_sentence_of_a_docstring(doc, sentence):
    assert describe.first_sentence(doc) == sentence


def test_sizes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="n_firms must be at least 1"):
        describe.describe(from_dict({"economy": "rbc", "params": {"n_firms": 0}}), False)
