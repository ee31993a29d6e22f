"""The report: a page that says what a run folder holds, needs nothing else, and trusts no text it is given."""
from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import fields
from html.parser import HTMLParser
from pathlib import Path

import pandas
import pytest

from kernels import rbc
from rllib_macro import report
from rllib_macro.run import Run, RunError
from tests.economies import cobweb_kernel
from tests.rllib_macro.test_plots import COBWEB, RBC, write_run

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """What is on a page: tags with their attributes, visible text, and whether every tag is closed in order."""

    def __init__(self, file: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.file, self.text, self.open = file, "", list[str]()
        self.source = file.read_text()
        self.feed(self.source)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += f" {data}"


def page(run: Run) -> Page:
    return Page(report.write(run))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Page:
    return page(write_run(tmp_path_factory.mktemp("runs")))


def test_the_page_lies_in_the_run_folder_and_is_small(whole):
    assert whole.file.parts[-2:] == ("little", "report.html") and 100_000 < whole.file.stat().st_size < 1_500_000
    assert not list(whole.file.parent.glob("*.partial"))


def test_nothing_is_loaded_and_nothing_runs(whole):
    names = Counter(tag for tag, _ in whole.tags)
    assert not {"script", "link", "iframe", "object", "embed"} & set(names)
    for _, attributes in whole.tags:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action"):
                assert value and value.startswith(("#", "data:image/png;base64,"))
    assert "@import" not in whole.source and not re.search(r"url\((?!#)", whole.source)


def test_the_page_is_well_formed_and_its_links_lead_somewhere(whole):
    assert whole.open == [] and whole.source.startswith("<!doctype html>")
    ids = Counter(attributes["id"] for _, attributes in whole.tags if "id" in attributes)
    assert max(ids.values()) == 1
    links = {value[1:] for _, attributes in whole.tags for name, value in attributes.items() if name.endswith("href") and value[0] == "#"}
    assert links <= set(ids)


def test_every_chart_has_a_description(whole):
    charts = [attributes for tag, attributes in whole.tags if tag == "svg"]
    assert len(charts) > 20 and all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert "price, coins/unit, Shaded: the window on firm.price." in {chart["aria-label"] for chart in charts}


def test_the_page_says_what_was_run(whole):
    for text in ("little", "Real-business-cycle economy: consumers, firms, a government.", f"economy rbc, version {rbc.VERSION}",
                 "consumer agents 50", "firm agents 2", "replicas 2", "iterations 12 of 20 planned", "time of training 6 s",
                 "agent-steps 1,200", "agent-steps per second 200",
                 "After 4 iterations: firm learns; firm.price stays at [0, 2500]; theta_factor stays at 1."):
        assert text in whole.text


def test_the_clock_of_a_resumed_run_is_added_up(tmp_path):
    run = write_run(tmp_path, episode=False)
    frame = pandas.read_csv(run.path / "progress.csv")
    frame.loc[6:, "seconds"] -= 3.0  # resumed after six iterations
    frame.to_csv(run.path / "progress.csv", index=False)
    assert "time of training 6 s" in page(run).text


def test_the_result_shows_every_play_on_every_seed(whole):
    assert "consumer (utils) trained 2.500 2.000 3.000 untrained ✓ on 2 of 2 seeds \N{MINUS SIGN}1.500" in whole.text
    assert "idle ✓ on 2 of 2 seeds 0.375 0.500 0.250" in whole.text
    assert "seed 1000 seed 1001" in whole.text
    assert "every trained type earns more than in untrained, random or idle play, on all 2 seeds" in whole.text


def test_a_type_behind_on_one_seed_has_not_beaten_its_baseline(tmp_path):
    run = write_run(tmp_path, episode=False)
    found = json.loads((run.path / "evaluation.json").read_text())
    found["rewards"]["firm"]["idle"] = [1.0, 3.0]
    (run.path / "evaluation.json").write_text(json.dumps(found))
    shown = page(run)
    assert "Not every baseline is beaten: the trained firm earns more than in idle play on only 1 of 2 seeds." in shown.text
    assert "idle ✗ on 1 of 2 seeds" in shown.text


def test_a_stopped_run_says_what_is_not_there_yet(tmp_path):
    shown = page(write_run(tmp_path, iterations=1, evaluation=False, episode=False))
    assert "Not evaluated yet" in shown.text and "No episode has been logged yet" in shown.text
    assert "iterations 1 of 20 planned" in shown.text


def test_an_economy_without_idle_play_and_with_a_scripted_type(tmp_path):
    shown = page(write_run(tmp_path, COBWEB))
    assert "regulator agents 1, rule laissez_faire" in shown.text and "regulator follows the rule laissez_faire" in shown.text
    assert "earns more than in untrained or random play, on all 2 seeds" in shown.text
    assert f"All {len(fields(cobweb_kernel.Params))} Params of the economy have their default values." in shown.text


def test_nobody_learned(tmp_path):
    shown = page(write_run(tmp_path, COBWEB | {"policies": {"regulator": {"rule": "laissez_faire"}, "producer": {"rule": "random"}}}))
    assert "No type learned: producer follows the rule random; regulator follows the rule laissez_faire." in shown.text
    assert "No type learned in the recorded iterations" in shown.text


def test_params_are_listed_where_they_differ_from_their_defaults(whole):
    assert f"Params that differ from their defaults, out of {len(fields(rbc.Params))}" in whole.text
    assert "n_firms F 2 10 firms, each making its own good" in whole.text
    assert "theta_factor 0 (iteration 0) → 1 (iteration 4) 1.0" in whole.text
    assert "horizon T 4 10 quarters periods of an episode" in whole.text
    assert "n_firms: 2" in whole.text  # and in the configuration


def test_a_param_set_to_its_default_is_not_listed(tmp_path):
    same = RBC | {"params": {"crra": 0.1, "labor_share": [0.2, 0.3, 0.4, 0.6, 0.8]}}
    assert f"All {len(fields(rbc.Params))} Params" in page(write_run(tmp_path, same, iterations=1, evaluation=False, episode=False)).text


def test_text_from_files_and_declarations_is_escaped(tmp_path, monkeypatch):
    run = write_run(tmp_path, episode=False)
    monkeypatch.setattr(rbc, "__doc__", "<script>alert(1)</script>")
    found = json.loads((run.path / "evaluation.json").read_text())
    found["rewards"]["<img src=x onerror=alert(2)>"] = found["rewards"]["firm"]
    found["seeds"] = ["<b>", 'a"b']
    found["measures"] = {"<i>m</i>": [1.0, 2.0]}
    (run.path / "evaluation.json").write_text(json.dumps(found))
    (run.path / "params.json").write_text(json.dumps({"python": "<u>3</u>", "libraries": {}}))
    shown = page(run)
    assert not {"script", "img", "b", "i", "u"} & {tag for tag, _ in shown.tags}
    for text in ("<script>alert(1)</script>", "<img src=x onerror=alert(2)>", "seed <b>", "<i>m</i>", "<u>3</u>"):
        assert text in shown.text


@pytest.mark.parametrize("text", [
    "", "{", "[]", '{"seeds": [1]}', '{"seeds": [1], "replicas": 1, "measures": {}, "rewards": {"firm": {"random": [1]}}}'])
def test_a_damaged_evaluation_is_named(tmp_path, text):
    run = write_run(tmp_path, iterations=1, episode=False)
    (run.path / "evaluation.json").write_text(text)
    with pytest.raises(RunError, match="evaluation.json is damaged"):
        report.write(run)
    assert not (run.path / "report.html").exists()


def test_best_responses_stand_in_the_epsilon_table_with_their_verdicts(tmp_path):
    run = write_run(tmp_path, iterations=1, episode=False)
    assert "Not asked yet" in page(run).text
    for deviator, gain, verdict in (("firm", 250.5, "profitable deviation found"), ("firm_3", -1.0, "no profitable deviation found")):
        folder = run.path / "best_response" / deviator / "iteration_000001"
        folder.mkdir(parents=True)
        found = {"deviator": deviator, "checkpoint": 1, "profile": 100_000.0, "gain": gain, "ci_low": gain - 10, "ci_high": gain + 10,
                 "share_of_training_gain": None if gain < 0 else 0.002, "verdict": verdict, "mismatch": deviator == "firm"}
        (folder / "result.json").write_text(json.dumps(found))
    text = page(run).text
    for part in ("firm_3", "100,000", "240 to 260", "0.2 %", "the profile does not match the training log", "lower bound", "not known",
                 "deviating", "iteration 1"):  # the last two stand in the charts
        assert part in text


def test_nothing_recorded_nothing_written(tmp_path):
    run = write_run(tmp_path)
    (run.path / "progress.csv").write_text("iteration\n")
    with pytest.raises(RunError, match="nothing to plot; train it first"):
        report.write(run)
