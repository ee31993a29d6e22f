"""Plots: what stands on them, from run folders made of small arrays; nothing is trained."""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from matplotlib.axes import Axes
from pytest import approx
from typer.testing import CliRunner

import envs
from kernels.core.arrays import adjust, sizes
from rllib_macro import __main__ as cli
from rllib_macro import plots
from rllib_macro.config import check_against, from_dict
from rllib_macro.run import Run, RunError

RBC = {
    "economy": "rbc", "name": "little", "stop": {"iterations": 20}, "replicas": 2,
    "params": {"n_consumers": 50, "n_firms": 2, "horizon": 4, "theta_factor": [[0, 0.0], [4, 1.0]]},
    "policies": {"firm": {"train_from": 4}, "government": {"train_from": 8}},
    "windows": {"firm.price": [[0, [1000, 1000]], [4, [0, 2500]]]},
}
COBWEB = {"economy": "tests.economies.cobweb", "name": "market", "stop": {"iterations": 12},
          "policies": {"regulator": {"rule": "laissez_faire"}}}


def write_run(root: Path, settings: dict[str, Any] = RBC, iterations: int = 12, evaluation: bool = True, episode: bool = True) -> Run:
    """A run folder as training leaves it, its numbers made up: value i + 1 in row i of every column, an episode of known pattern."""
    config = from_dict(settings)
    economy = envs.load(config.economy)
    run = Run.create(check_against(config, economy), root)
    learners = [type_ for type_, policy in run.config.policies.items() if policy.rule is None]
    rows = []
    for i in range(iterations):
        row = {"iteration": i + 1, "seconds": 0.5 * (i + 1), "env_steps": 8, "agent_steps": 100}
        row |= {f"reward/{type_}": i + 1.0 for type_ in economy.agents} | {f"measure/{name}": i + 1.0 for name in economy.measures}
        row |= {f"learn/{type_}/{name}": i + 1.0 for type_ in learners for name in ("entropy", "kl", "lr")
                if i >= run.config.policies[type_].train_from}
        for name in run.config.windows:
            row |= {f"window/{name}/low": 0.0, f"window/{name}/high": 2500.0}
        rows.append(row)
    pandas.DataFrame(rows).to_csv(run.path / "progress.csv", index=False)
    if evaluation:
        plays = {"trained": [2.0, 3.0], "untrained": [-1.0, -2.0], "random": [0.0, 1.0]}
        kept = {t: plays | ({"idle": [0.5, 0.25]} if "idle" in economy.rules.get(t, {}) else {}) for t in learners}
        measures = {name: [1.0, 2.0] for name in economy.measures}
        found = {"seeds": [1000, 1001], "replicas": 64, "rewards": kept, "measures": measures}
        (run.path / "evaluation.json").write_text(json.dumps(found))
    if episode:
        (run.path / "episodes").mkdir()
        np.savez_compressed(run.path / "episodes" / "episode_000012_market.npz", **dense(economy, run.config.params))  # type: ignore[arg-type]
    return run


def dense(economy: Any, params: Any, replicas: int = 3) -> dict[str, np.ndarray]:
    """A dense log in which replica b has 100 b + 10 t + member in period t."""
    kernel, periods = economy.kernel, 4
    length = sizes(kernel, adjust(kernel.Params(), **{k: v for k, v in params.items() if not isinstance(v, tuple)}))
    log = {}
    for kind, declared in (("action", kernel.Actions), ("state", kernel.State)):
        for f in fields(declared):
            shape = [length[axis] for axis in f.metadata["axes"]]
            base = (100.0 * np.arange(replicas)[:, None] + 10 * np.arange(periods)).reshape(replicas, periods, *[1] * len(shape))
            log[f"{kind}/{f.name}"] = base + (np.arange(shape[-1]) if shape else 0) + np.zeros(shape)
    return log


def chart(run: Run, section: str, title: str) -> Axes:
    """The axes of one panel of a run."""
    panel = next(panel for panel in plots.sections(run)[section] if panel.title == title)
    return plots.figure([panel]).axes[0]


def phase_lines(ax: Axes) -> list[float]:
    return [float(line.get_xdata()[0]) for line in ax.lines if line.get_gid() == "phase"]  # type: ignore[index]


def phase_numbers(ax: Axes) -> list[tuple[float, str]]:
    return [(text.get_position()[0], text.get_text()) for text in ax.texts if text.get_gid() == "phase number"]


# -- over the iterations


def test_a_numbered_line_stands_where_something_starts_once_for_each_iteration(tmp_path):
    run = write_run(tmp_path)
    ax = chart(run, "rewards", "firm")
    assert phase_lines(ax) == [0, 4, 8]
    assert phase_numbers(ax) == [(0, "1"), (4, "2"), (8, "3")]
    assert plots.phases(run.config)[4] == ["firm learns", "firm.price stays at [0, 2500]", "theta_factor stays at 1"]
    assert [text.get_text() for text in ax.texts if text.get_rotation() == 90] == ["consumer learns", "firm learns", "government learns"]


def test_phases_that_a_stopped_run_did_not_reach_have_no_line(tmp_path):
    assert phase_lines(chart(write_run(tmp_path, iterations=6), "measures", "output")) == [0, 4]


def test_phases_too_close_for_two_numbers_share_a_label(tmp_path):
    close = RBC | {"policies": {"firm": {"train_from": 100}, "government": {"train_from": 101}}, "stop": {"iterations": 200}}
    ax = chart(write_run(tmp_path, close, iterations=200), "rewards", "firm")
    assert phase_lines(ax) == [0, 4, 100, 101]
    assert phase_numbers(ax) == [(0, "1,2"), (100, "3,4")]


def test_rewards_are_drawn_as_recorded_in_the_declared_unit(tmp_path):
    ax = chart(write_run(tmp_path), "rewards", "firm")
    assert ax.get_ylabel() == "coins per period" and ax.get_xlabel() == "iteration"
    assert ax.get_title("left") == "firm" and ax.get_title("right") == "ends at 12"
    recorded = ax.lines[0]
    assert list(recorded.get_xdata()) == list(recorded.get_ydata()) == list(range(1, 13))


def test_a_measure_has_its_window_shaded_and_the_unit_of_the_state_it_is_named_after(tmp_path):
    run = write_run(tmp_path)
    price, wage = chart(run, "measures", "price"), chart(run, "measures", "wage")
    assert (price.get_ylabel(), wage.get_ylabel()) == ("coins/unit", "coins/hour")
    low, high = price.collections[0].get_datalim(price.transData).intervaly
    assert (low, high) == (0, 2500)
    assert not wage.collections


def test_a_type_that_skips_iterations_is_drawn_through_those_in_which_it_learned(tmp_path):
    run = write_run(tmp_path, iterations=12)
    frame = pandas.read_csv(run.path / "progress.csv")
    frame.loc[frame["iteration"] % 2 == 0, "learn/firm/kl"] = np.nan
    frame.to_csv(run.path / "progress.csv", index=False)
    ax = chart(run, "learning", "KL divergence")
    firm = next(line for line in ax.lines if line.get_label() == "firm")
    assert list(firm.get_xdata()) == [5, 7, 9, 11]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["consumer", "firm", "government"]  # type: ignore[union-attr]
    assert chart(run, "learning", "entropy: firm").get_ylabel() == "nats"


def test_quantities_of_very_different_size_get_a_logarithmic_axis(tmp_path):
    run = write_run(tmp_path)
    frame = pandas.read_csv(run.path / "progress.csv")
    frame["learn/consumer/lr"] = 1e-5
    frame.to_csv(run.path / "progress.csv", index=False)
    assert chart(run, "learning", "learning rate").get_yscale() == "log"
    assert chart(run, "learning", "KL divergence").get_yscale() == "linear"


def test_numbers_that_are_not_finite_leave_a_gap_or_are_said_to_be_missing(tmp_path):
    run = write_run(tmp_path)
    frame = pandas.read_csv(run.path / "progress.csv")
    frame.loc[3, "reward/firm"], frame.loc[5, "reward/firm"], frame["measure/gini"] = np.nan, np.inf, np.nan
    frame.to_csv(run.path / "progress.csv", index=False)
    drawn = np.array(chart(run, "rewards", "firm").lines[1].get_ydata(), float)
    assert list(np.flatnonzero(np.isnan(drawn))) == [3, 5]
    assert "no finite number" in [text.get_text() for text in chart(run, "measures", "gini").texts]
    gini = next(panel for panel in plots.sections(run)["measures"] if panel.title == "gini")
    assert "no finite number" in plots.svg(plots.figure([gini]), "gini", "")


def test_a_long_run_is_averaged_in_blocks(tmp_path):
    run = write_run(tmp_path, iterations=1, episode=False)
    long = pandas.DataFrame({"iteration": np.arange(1, 30001), "reward/firm": np.tile([1.0, 3.0], 15000)})
    long.to_csv(run.path / "progress.csv", index=False)
    recorded = chart(run, "rewards", "firm").lines[0]
    assert len(recorded.get_xdata()) == plots.POINTS and np.asarray(recorded.get_ydata()) == approx(2.0)  # type: ignore[arg-type]


# -- one episode


def test_a_heat_map_shows_the_first_replica_member_by_member(tmp_path):
    ax = chart(write_run(tmp_path), "episode", "price")
    assert np.asarray(ax.images[0].get_array()) == approx(np.array([[0, 10, 20, 30], [1, 11, 21, 31]]))
    assert ax.get_ylabel() == "firm" and ax.get_xlabel() == "period (quarters)"
    assert ax.figure.axes[1].get_ylabel() == "coins/unit"


def test_a_flow_is_drawn_in_the_period_in_which_it_flowed(tmp_path):
    ax = chart(write_run(tmp_path), "episode", "labor")
    assert np.asarray(ax.images[0].get_array())[0] == approx(np.array([10, 20, 30]))
    assert ax.get_xlim() == (-0.5, 3.5)


def test_many_members_are_drawn_as_their_spread(tmp_path):
    ax = chart(write_run(tmp_path), "episode", "budget")
    assert np.asarray(ax.lines[0].get_ydata()) == approx(np.array([24.5, 34.5, 44.5, 54.5]))  # type: ignore[arg-type]
    assert ax.get_title("right") == "50 consumers: median, 50 %, 90 %" and ax.get_ylabel() == "coins"


def test_what_never_changes_and_what_is_no_real_number_is_not_drawn(tmp_path):
    run = write_run(tmp_path)
    file = next((run.path / "episodes").iterdir())
    log = dict(np.load(file)) | {"state/capital": np.ones((3, 4, 2))}
    np.savez(file, **log)
    titles = [panel.title for panel in plots.sections(run)["episode"]]
    assert "price" in titles and "hours" in titles and "income tax" in titles
    assert not {"capital", "period", "employer", "basket"} & set(titles)


def test_one_firm_and_one_iteration_are_enough(tmp_path):
    run = write_run(tmp_path, RBC | {"params": RBC["params"] | {"n_firms": 1}}, iterations=1)  # type: ignore[operator]
    assert chart(run, "rewards", "firm").lines[1].get_marker() == "o"
    assert not chart(run, "episode", "price").images and len(chart(run, "episode", "price").lines[0].get_xdata()) == 4


# -- best responses


def answer(run: Run, deviator: str, checkpoint: int, profile: float, gain: float, **others: Any) -> None:
    """A best response as it is kept in a run."""
    folder = run.path / "best_response" / deviator / f"iteration_{checkpoint:06d}"
    folder.mkdir(parents=True)
    found = {"deviator": deviator, "checkpoint": checkpoint, "profile": profile, "gain": gain, "ci_low": gain - 1, "ci_high": gain + 2}
    (folder / "result.json").write_text(json.dumps(found | others))


def test_bars_stand_for_the_profile_and_the_deviation_of_each_checkpoint(tmp_path):
    run = write_run(tmp_path, episode=False)
    answer(run, "firm", 8, 100.0, 30.0)
    answer(run, "firm", 4, 80.0, -20.0)
    ax = chart(run, "equilibrium", "firm")
    before, after = ax.containers
    assert [bar.get_height() for bar in before] == [80, 100] and [bar.get_height() for bar in after] == [60, 130]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["iteration 4", "iteration 8"]
    assert [text.get_text() for text in ax.texts] == ["\N{MINUS SIGN}20", "+30"]
    assert [segment[:, 1].tolist() for segment in ax.collections[0].get_segments()] == [[59, 62], [129, 132]]  # type: ignore[attr-defined]
    assert ax.get_ylabel() == "coins per period"
    assert [panel.title for panel in plots.sections(run)["equilibrium"]] == ["firm"]  # no arrow without the others' rewards


def test_an_arrow_leads_from_the_profiles_rewards_to_those_with_the_deviation(tmp_path):
    run = write_run(tmp_path, episode=False)
    answer(run, "government", 8, 1.0, 2.0, rewards={"consumer": [1.0, 2.0], "firm": [50.0, 40.0], "government": [1.0, 3.0]})
    ax = chart(run, "equilibrium", "where deviations lead")
    (arrow,) = [text for text in ax.texts if text.arrow_patch]  # type: ignore[attr-defined]
    assert (arrow.xyann, arrow.xy) == ((1, 50), (2, 40))  # type: ignore[attr-defined]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("consumer (utils per period)", "firm (coins per period)")
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["government"]  # type: ignore[union-attr]
    assert "equilibrium.png" in {file.name for file in plots.draw(run)}


# -- many runs


def several(root: Path, rewards: Sequence[tuple[float, float]], **params: Any) -> list[Run]:
    """Runs whose last iterations paid consumers and firms so much."""
    runs = []
    for number, (consumer, firm) in enumerate(rewards):
        settings = RBC | {"name": f"run{number}{len(params)}", "params": RBC["params"] | params}  # type: ignore[operator]
        runs.append(write_run(root, settings, iterations=30))
        frame = pandas.read_csv(runs[-1].path / "progress.csv")
        frame.loc[frame.index[-plots.LAST:], ["reward/consumer", "reward/firm"]] = consumer, firm
        frame.to_csv(runs[-1].path / "progress.csv", index=False)
    return runs


def test_a_point_is_a_run_and_the_line_is_least_squares(tmp_path):
    panels = plots.regressions(several(tmp_path, [(0, 0), (1, 0), (2, 3)]))
    assert [panel.title for panel in panels] == ["consumer reward and firm reward", "price and consumption", "wage and hours",
                                                 "income tax and government reward"]
    ax = plots.figure(panels[:1]).axes[0]
    assert np.asarray(ax.collections[0].get_offsets()).tolist() == [[0, 0], [1, 0], [2, 3]]
    (line,) = ax.lines
    assert list(zip(line.get_xdata(), line.get_ydata())) == [approx((0, -0.5)), approx((2, 2.5))]  # type: ignore[arg-type]
    assert [text.get_text() for text in ax.texts] == ["r² = 0.75, 3 runs"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("consumer reward (utils)", "firm reward (coins)")


def test_each_value_of_a_setting_has_its_own_panels(tmp_path):
    runs = several(tmp_path, [(0, 0), (1, 1)]) + several(tmp_path, [(5, 5)], open_economy=False)
    panels = plots.regressions(runs, "params.open_economy")
    assert len(panels) == 8
    axes = [plots.figure([panel]).axes[0] for panel in panels]
    said = [ax.texts[0].get_text() for ax in axes]
    assert said[0] == "open_economy = true\n2 runs" and said[4] == "open_economy = false\n1 runs"
    assert np.asarray(axes[4].collections[0].get_offsets()).tolist() == [[5, 5]]
    with pytest.raises(RunError, match="has no setting params.opn_economy; group the runs by one of its configuration"):
        plots.regressions(runs, "params.opn_economy")


def test_heat_maps_of_runs_stand_side_by_side_in_the_same_colours(tmp_path):
    runs = several(tmp_path, [(0, 0), (1, 1)])
    file = runs[1].path / "episodes" / "episode_000012_market.npz"
    with np.load(file) as stored:
        np.savez_compressed(file, **{name: 2 * array for name, array in stored.items()})
    panels = plots.members(runs)
    assert [panel.title for panel in panels[:4]] == ["price, A", "price, B", "wage, A", "wage, B"]
    (first,), (second,) = (plots.figure([panel]).axes[0].images for panel in panels[:2])
    assert first.get_clim() == second.get_clim() == (0, 62)  # firm f has 10 t + f in period t, doubled in the second run
    assert float(first.get_array().max()) == 31 and float(second.get_array().max()) == 62
    assert [file.name for file in plots.draw_many(runs, tmp_path / "out")] == ["regressions.png", "members.png"]


def test_without_episodes_there_are_only_regressions(tmp_path):
    runs = [write_run(tmp_path, RBC | {"name": name}, episode=False) for name in ("a", "b")]
    assert [file.name for file in plots.draw_many(runs, tmp_path / "out")] == ["regressions.png"]


def test_runs_of_different_economies_are_not_compared(tmp_path):
    runs = [write_run(tmp_path), write_run(tmp_path, COBWEB, evaluation=False, episode=False)]
    with pytest.raises(RunError, match="the runs play different economies .*; compare those of one"):
        plots.draw_many(runs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_takes_runs_or_a_sweep(tmp_path):
    runs = several(tmp_path / "sweep", [(0, 0), (1, 1)])
    (tmp_path / "sweep" / "sweep.yaml").write_text("")
    command = ["plot", str(tmp_path / "sweep"), "--json"]
    unfinished = CliRunner().invoke(cli.app, command)
    assert unfinished.exit_code == 2 and "is a sweep of which no trial has ended" in unfinished.stderr
    for run in runs:
        (run.path / "policies").mkdir()
    files = json.loads(CliRunner().invoke(cli.app, command).stdout)["files"]
    assert files == [str(tmp_path / "sweep" / "figures" / name) for name in ("regressions.png", "members.png")]
    named = CliRunner().invoke(cli.app, ["plot", *(str(run.path) for run in runs), "--out", str(tmp_path / "x"), "--by", "seed"])
    assert named.stdout.splitlines()[0] == str(tmp_path / "x" / "regressions.png")
    alone = CliRunner().invoke(cli.app, ["plot", str(runs[0].path), "--by", "seed"])
    assert "--by and --out are for several runs" in alone.stderr


# -- files


def test_draw_writes_one_picture_for_each_section(tmp_path):
    files = plots.draw(write_run(tmp_path))
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        f"little/plots/{name}.png" for name in ("rewards", "measures", "learning", "episode")]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 10_000


def test_every_economy_can_be_drawn_a_scripted_type_without_diagnostics(tmp_path):
    run = write_run(tmp_path, COBWEB, evaluation=False, episode=False)
    assert [file.stem for file in plots.draw(run)] == ["rewards", "measures", "learning"]
    assert [panel.title for panel in plots.sections(run)["rewards"]] == ["producer", "regulator"]
    assert [panel.title for panel in plots.sections(run)["learning"]] == ["entropy: producer", "KL divergence", "learning rate"]


@pytest.mark.parametrize("text", [None, "", "iteration,reward/firm\n", "reward/firm\n1\n", "iteration\nnever\n"])
def test_without_a_finished_iteration_there_is_nothing_to_plot(tmp_path, text):
    run = write_run(tmp_path)
    (run.path / "progress.csv").unlink()
    if text is not None:
        (run.path / "progress.csv").write_text(text)
    with pytest.raises(RunError, match="train it first"):
        plots.draw(run)
    assert not (run.path / "plots").exists()


def test_a_row_cut_off_while_it_was_written_is_drawn_as_far_as_it_goes(tmp_path):
    run = write_run(tmp_path)
    text = (run.path / "progress.csv").read_text().rstrip()
    (run.path / "progress.csv").write_text(text + "\n13,6.5,8,100,13.0,-")
    assert chart(run, "rewards", "consumer").get_xlim() == (0, 13)


@pytest.mark.parametrize("harm", ["cut", "empty", "pickle"])
def test_a_damaged_episode_is_named_and_nothing_in_it_is_unpickled(tmp_path, harm):
    run = write_run(tmp_path)
    file = next((run.path / "episodes").iterdir())
    if harm == "pickle":
        np.savez(file, **{"state/price": np.array([[{"a": 1}]], object)})
    else:
        file.write_bytes(file.read_bytes()[:200] if harm == "cut" else b"")
    with pytest.raises(RunError, match="episode_000012_market.npz is damaged"):
        plots.draw(run)


def test_numbers_are_short():
    assert [plots.short(x) for x in (0, 0.05, 2145, -12.5, 142_000, -3.1e6, 2e9, 12_345)] == [
        "0", "0.05", "2,145", "\N{MINUS SIGN}12.5", "142k", "\N{MINUS SIGN}3.1M", "2bn", "12.35k"]
    assert plots.short(math.nan) == "nan"
