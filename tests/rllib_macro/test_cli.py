"""The command line: every verb does its work, every mistake is one sentence with exit code 2, and nothing on disk changes by mistake."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
from rich.console import Console
from typer.testing import CliRunner

import envs
from kernels.core import launch
from rllib_macro import __main__ as program
from rllib_macro import bench, check, config, plots, report, train
from rllib_macro import terminal as cli
from rllib_macro.run import Run
from tests.rllib_macro.tiny import GOLDEN

CONFIG = """
# A run to test with.
economy: rbc
replicas: 2
params: {n_consumers: 4, n_firms: 2, horizon: 3}
stop: {iterations: 2}
checkpoint: {every: 1}
evaluation: {replicas: 2, seeds: [1, 2]}
"""


def run(*arguments):
    """The result of a command: exit_code, stdout, stderr."""
    return CliRunner().invoke(program.app, [str(argument) for argument in arguments])


def output(*arguments):
    """What a command that succeeds prints."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr or result.exception
    return result.stdout


def mistake(*arguments):
    """The one sentence that a command answers a mistake with."""
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def content(folder):
    """Every file and folder below one, with size and time of change."""
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in [folder, *folder.rglob("*")]}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    started = train.start_ray()
    yield
    if started:
        ray.shutdown()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained run and what the command printed; left as it is by every test."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.yaml").write_text(CONFIG)
    printed = run("train", folder / "small.yaml", "--runs", folder / "runs", "seed=3")
    assert printed.exit_code == 0, printed.stderr or printed.exception
    return SimpleNamespace(path=folder / "runs" / "small", file=folder / "small.yaml", stdout=printed.stdout, stderr=printed.stderr)


@pytest.fixture
def undrawn(monkeypatch):
    """Training ends without figures and with an empty report; the trained run has real ones."""
    monkeypatch.setattr(plots, "draw", lambda run: [run.path / "plots" / "rewards.png"])
    monkeypatch.setattr(report, "write", lambda run: (run.path / "report.html").touch())


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of the trained run, to be damaged."""
    shutil.copytree(trained.path, tmp_path / "copy")
    return tmp_path / "copy"


# --- looking ----------------------------------------------------------------------------------------------------------


def test_looking_needs_neither_ray_nor_torch():
    program = """if True:
        import sys
        from typer.testing import CliRunner
        from rllib_macro.__main__ import app
        for arguments in (["--help"], ["list"], ["schema"], ["describe", "rbc"], ["describe", "rbc_quick"], ["train", "--help"]):
            assert CliRunner().invoke(app, arguments).exit_code == 0, arguments
        print(*({"ray", "torch", "pandas", "matplotlib"} & set(sys.modules)))"""
    done = subprocess.run([sys.executable, "-c", program], cwd=cli.CONFIGS.parent, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_help_names_every_verb():
    text = output("--help")
    for verb in ("list", "describe", "train", "rollout", "plot", "report", "replay", "bench", "check", "schema"):
        assert verb in text


def test_list_names_economies_and_configurations():
    found = json.loads(output("list", "--json"))
    assert [row["name"] for row in found["economies"]] == envs.names()
    quick = next(row for row in found["configurations"] if row["name"] == "rbc_quick")
    assert Path(quick["path"]).is_file()
    assert quick["description"].startswith("The real-business-cycle economy")
    assert "Real-business-cycle economy: consumers, firms, a government." in output("list")


def test_schema_is_the_configurations():
    assert json.loads(output("schema")) == config.schema()


def test_the_schema_of_sweeps_knows_the_keys_of_those_that_ship():
    runs, solvers = json.loads(output("schema", "sweep"))["anyOf"]
    assert runs["additionalProperties"] is False and set(runs["required"]) == {"config", "vary", "metric"}
    assert runs["properties"]["search"]["enum"] == ["grid", "random", "asha", "pbt"]
    for file in (cli.CONFIGS / "sweeps").glob("*.yaml"):
        keys = config.mapping(file.read_text(), str(file)).keys()
        kind = solvers if "solve" in keys else runs
        assert set(kind["required"]) <= keys <= kind["properties"].keys()


def test_describe_takes_an_economy_a_configuration_and_changes(file):
    assert "run" not in json.loads(output("describe", "rbc", "--json"))
    assert json.loads(output("describe", "rbc", "n_firms=3", "--features", "raw", "--json"))["agents"][1]["count"] == 3
    assert json.loads(output("describe", "rbc_quick", "--json"))["run"]["name"] == "rbc_quick"
    assert json.loads(output("describe", file, "seed=4", "--json"))["run"]["seed"] == 4
    assert "Timetable" in output("describe", "tune_configs/rbc_2022.yaml" if Path("tune_configs").is_dir() else "rbc_2022")


# --- training and playing ---------------------------------------------------------------------------------------------


def test_training_prints_progress_results_and_last_the_report(trained):
    lines = trained.stdout.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("iteration")] == ["1/2", "2/2"]
    assert "learning: consumer, firm, government" in lines[0]
    header = next(line for line in lines if line.startswith("reward of"))
    assert header.split()[2:] == ["trained", "untrained", "random", "idle"]
    for type_ in ("consumer", "firm", "government", "welfare"):
        assert any(line.startswith(type_) and "±" in line for line in lines)
    assert lines[-1] == str(trained.path / "report.html")
    assert Path(lines[-1]).stat().st_size > 0
    assert trained.stderr == ""


def test_going_on_with_a_run_prints_json_and_nothing_else(copy, undrawn):
    found = json.loads(output("train", "--resume", copy, "stop.iterations=3", "--json"))
    assert (found["run"], found["iterations"]) == (str(copy), 3)
    assert set(found["evaluation"]["rewards"]["firm"]) == {"trained", "untrained", "random", "idle"}
    assert found["welfare"] == found["evaluation"]["rewards"]["government"]["trained"]
    assert Path(found["report"]).is_file()
    assert Run.open(copy).checkpoints() == [1, 2, 3]


def test_a_second_run_into_a_folder_is_refused(trained):
    before = content(trained.path.parent)
    assert "exists already; choose another name=..." in mistake("train", trained.file, "--runs", trained.path.parent)
    assert content(trained.path.parent) == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["seed=4"], "a run goes on with its own settings: only stop.iterations=N may change, got 'seed=4'"),
        (["stop.iterations=9", "policies.firm.lr=1"], "only stop.iterations=N may change, got 'policies.firm.lr=1'"),
        (["--device", "cuda"], "only stop.iterations=N may change, got 'device=cuda'"),
        (["stop.iterations=1"], "is trained for 2 iterations already; give stop.iterations=2 or more"),
        (["stop.iterations=many"], 'stop.iterations must be a whole number, got "many"'),
    ],
)
def test_a_run_goes_on_as_it_began(trained, changes, sentence):
    before = content(trained.path)
    assert sentence in mistake("train", "--resume", trained.path, *changes)
    assert content(trained.path) == before


@pytest.mark.parametrize("damage", ["missing", "truncated", "unsealed"])
def test_a_damaged_checkpoint_is_refused(copy, damage):
    newest = copy / "checkpoints" / "iteration_000002"
    if damage == "missing":
        shutil.rmtree(copy / "checkpoints")
    elif damage == "truncated":
        arrays = newest / "arrays.safetensors"
        arrays.write_bytes(arrays.read_bytes()[:-4])
    else:
        (newest / "manifest.json").write_text("{")
    before = content(copy)
    sentence = mistake("train", "--resume", copy, "stop.iterations=4")
    assert {"missing": "has no checkpoint", "truncated": "is damaged", "unsealed": "is incomplete"}[damage] in sentence
    assert content(copy) == before


def test_ctrl_c_says_how_to_go_on_and_that_command_works(file, tmp_path, monkeypatch, undrawn):
    def interrupt(watch, row):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cli.Watch, "__call__", interrupt)
        stopped = run("train", file, "--runs", tmp_path / "runs")
    assert stopped.exit_code == 130
    sentence, command = stopped.stderr.strip().split("; go on with: python -m rllib_macro ")
    assert sentence == "stopped after iteration 1"
    assert output(*command.split()).splitlines()[-1] == str(tmp_path / "runs" / "small" / "report.html")


def test_ctrl_c_before_the_first_iteration_says_what_to_delete(file, tmp_path, monkeypatch):
    def interrupt(config, root, watch):
        Run.create(config, root)
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", interrupt)
    stopped = run("train", file, "--runs", tmp_path / "runs")
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr == f"interrupted before the first iteration; delete {tmp_path / 'runs' / 'small'} before you start again\n"


def test_a_rollout_is_kept_and_never_overwritten(copy):
    found = json.loads(output("rollout", copy, "--replicas", 3, "--json"))
    assert (found["iteration"], found["seed"], found["replicas"]) == (2, 3, 3)
    kept = {Path(name).name: np.load(name) for name in found["files"]}
    assert kept["episode_000002_consumer.npz"]["rewards"].shape == (3, 3, 4)
    assert found["rewards"]["consumer"] == pytest.approx(kept["episode_000002_consumer.npz"]["rewards"].mean(), rel=1e-5)
    assert found["measures"].keys() == envs.load("rbc").measures.keys()
    before = content(copy)
    assert "exists already; choose another --out, or another --seed" in mistake("rollout", copy)
    assert content(copy) == before
    assert output("rollout", copy, "--seed", 5).splitlines()[-1] == str(copy / "episodes" / "seed_5")
    output("rollout", copy, "--out", copy / "again")


def test_a_rollout_follows_rules_and_older_policies(copy):
    rules = ("--rule", "government=fixed(income_tax=0.4)", "--rule", "firm=random")
    found = json.loads(output("rollout", copy, "--checkpoint", 1, *rules, "--json"))
    np.testing.assert_allclose(np.load(found["files"][-1])["action/income_tax"], 0.4)
    assert found["rules"] == {"government": "fixed(income_tax=0.4)", "firm": "random"}
    assert Path(found["files"][0]).parent.name == "seed_3_government-fixed-income_tax-0.4_firm-random"
    assert all("episode_000001" in name for name in found["files"])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rule", "firm=randm"], "unknown rule 'randm' of firm; did you mean 'random'?"),
        (["--rule", "bank=random"], "--rule must look like TYPE=random, where TYPE is one of consumer, firm, government; got 'bank=r"),
        (["--rule", "firm"], "got 'firm'"),
        (["--checkpoint", 7], "saved iterations are 1, 2"),
    ],
)
def test_a_rollout_that_cannot_be_writes_nothing(trained, options, sentence):
    before = content(trained.path)
    assert sentence in mistake("rollout", trained.path, *options)
    assert content(trained.path) == before


def test_truncated_or_missing_policies_are_refused(copy):
    policies = copy / "policies" / "firm_000002.safetensors"
    policies.write_bytes(policies.read_bytes()[:-4])
    assert "firm_000002.safetensors is damaged" in mistake("rollout", copy)
    policies.unlink()
    assert "firm_000002.safetensors is missing; saved iterations are 1" in mistake("rollout", copy)
    assert not list(copy.glob("episodes/seed*"))


def test_plot_and_report_say_where_their_files_are(copy, monkeypatch):
    shutil.rmtree(copy / "plots")
    (copy / "report.html").unlink()
    figures = output("plot", copy).splitlines()
    assert figures
    assert all(Path(name).parent == copy / "plots" and Path(name).stat().st_size for name in figures)
    monkeypatch.setattr(plots, "draw", None)  # the page needs no files of figures
    assert json.loads(output("report", copy, "--json")) == {"files": [str(copy / "report.html")]}
    assert (copy / "report.html").stat().st_size


@pytest.mark.parametrize("verb", ["rollout", "plot", "report"])
def test_what_is_not_a_run_is_refused(tmp_path, verb):
    assert "is not a run folder" in mistake(verb, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_whose_settings_are_damaged_is_refused(copy):
    (copy / "config.yaml").write_text((copy / "config.yaml").read_text() + "\nseed: 4\n")
    before = content(copy)
    for command in (("rollout",), ("plot",), ("report",), ("train", "--resume")):
        assert "duplicate key 'seed'" in mistake(*command, copy)
    assert content(copy) == before


# --- mistakes in a configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "changes", "sentence"),
    [
        ("replica: 3", [], "unknown key 'replica' in the configuration; did you mean 'replicas'?"),
        ("seed: 1\nseed: 2", [], "duplicate key 'seed' in line"),
        ("seed: {", [], "as YAML"),
        ("", ["replicas=-1"], "replicas must be at least 1, got -1"),
        ("", ["replicas=many"], 'replicas must be a whole number, got "many"'),
        ("", ["policies.firm.lr=fast"], "policies.firm.lr must be a number"),
        ("", ["policies.frm.lr=1e-3"], "unknown key 'frm' in policies; did you mean 'firm'?"),
        ("", ["params.n_firms=0"], "params.n_firms must be at least 1, got 0"),
        ("", ["n_firms=0"], "params.n_firms must be at least 1, got 0"),
        ("", ["n_frms=3"], "unknown key 'n_frms'; did you mean 'n_firms'?"),
        ("", ["n_firms"], "an override must look like policies.firm.lr=1e-4"),
        ("", ["economy=rbd"], "unknown economy 'rbd'; did you mean 'rbc'?"),
        ("", ["policies.firm.rule=kep"], "unknown rule 'kep'"),
        ("", ["windows.firm.price=[100, 200]"], "leave no option; widen them"),
        ("", ["windows.firm.price=[[0, [1000, 1000]], [40, [1500, 1500]]]", "stop.iterations=40"], "leave no option; widen them"),
        ("", ["crra=[[0, 1], [1, -1]]"], "params.crra must be at least 0, got -1"),
        ("", ["policies.consumer.network.equivariant={sees: [price], moves: [hours]}"], "equivariant.moves: hours must have one head"),
        ("", ["features=row"], "features must be 'raw', 'scaled' or 'digits', got \"row\""),
        ("", ["--device", "tpu"], "device must be 'cpu' or 'cuda', got \"tpu\""),
    ],
)
def test_a_mistake_in_a_configuration_is_one_sentence(tmp_path, text, changes, sentence):
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG + text + "\n")
    before = content(tmp_path)
    assert sentence in mistake("train", path, *changes, "--runs", tmp_path / "runs")
    assert content(tmp_path) == before


@pytest.mark.parametrize("given", [["--device", "cuda"], ["device=cuda"]])
def test_a_missing_card_is_one_sentence(file, tmp_path, given):
    if launch.cuda_problem() is None:
        pytest.skip("a GPU is here")
    before = content(tmp_path)
    assert mistake("train", file, *given, "--runs", tmp_path / "runs").startswith("device=cuda: ")
    assert content(tmp_path) == before


def test_a_missing_compiler_is_one_sentence(file, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "find_compiler", lambda: None)
    assert mistake("train", file, "backend=native", "--runs", tmp_path / "runs").startswith("backend=native: no C++ compiler found")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "near"),
    [("rbc_quik", "rbc_quick"), ("tune_configs/rbc_quik.yaml", "tune_configs/rbc_quick.yaml"), ("rbc_quick.yml.yaml", "rbc_quick")],
)
def test_an_unknown_configuration_names_the_nearest(name, near, tmp_path, monkeypatch):
    monkeypatch.chdir(cli.CONFIGS.parent)
    assert mistake("train", name, "--runs", tmp_path).startswith(f"there is no configuration {name}; did you mean {near}")


def test_iterations_stands_for_the_key_that_stops_a_run():
    assert cli.spelled_out(["iterations=200", "n_firms=5", "seed=3"], "rbc") == ["stop.iterations=200", "params.n_firms=5", "seed=3"]


def test_a_neighbour_of_an_unknown_file_is_named(file):
    assert mistake("train", file.with_name("smal.yaml")) == f"there is no configuration {file.with_name('smal.yaml')}; did you mean {file}?"


def test_names_stand_for_files_in_tune_configs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("rbc_quick", "rbc_quick.yaml"):
        assert cli.config_file(name) == cli.CONFIGS / "rbc_quick.yaml"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["describe", "rbd"], "there is no economy or configuration 'rbd'; did you mean 'rbc'?"),
        (["describe", "zebra"], "unknown economy 'zebra'"),
        (["describe", "rbc", "n_firms=0"], "params.n_firms must be at least 1"),
        (["describe", "rbc", "crra=high"], "params.crra must be a number"),
        (["describe", "x y"], "economy must be a file of envs/"),
        (["train"], "name a configuration, such as rbc_quick"),
        (["bench", "zebra"], "unknown economy 'zebra'"),
        (["bench", "rbc", "n_firms=0"], "params.n_firms must be at least 1"),
        (["bench", "rbc", "seed=3"], "bench takes Params, such as n_firms=5, and its own options; got 'seed=3'"),
    ],
)
def test_other_mistakes_are_one_sentence(arguments, sentence):
    assert sentence in mistake(*arguments)


def test_a_folder_that_is_a_file_is_refused(file, tmp_path):
    assert f"{file} is a file; choose another folder" in mistake("train", file, "--runs", file / "runs")


@pytest.mark.parametrize("arguments", [["fly"], ["train", "--speed", "9"], ["rollout", "x", "--replicas", "-1"], ["replay"]])
def test_wrong_usage_exits_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage" in result.stderr


def test_a_defect_keeps_its_traceback(monkeypatch):
    def broken():
        raise ValueError("shapes do not match")

    monkeypatch.setattr(config, "schema", broken)
    result = run("schema")
    assert result.exit_code == 1
    assert isinstance(result.exception, ValueError)


# --- measuring --------------------------------------------------------------------------------------------------------

needs_golden = pytest.mark.skipif(not (GOLDEN / "rbc_steps.npz").exists(), reason="recorded traces are kept outside the repository")


@needs_golden
def test_a_recorded_trace_is_within_tolerance():
    found = json.loads(output("replay", GOLDEN / "rbc_steps.npz", "--backend", "numpy", "--json"))
    assert found["ok"]
    assert {row["backend"] for row in found["deviations"]} == {"numpy"}
    text = output("replay", GOLDEN / "rbc_steps.npz", "--backend", "numpy")
    assert text.splitlines()[-1] == f"All {len(found['deviations'])} comparisons are within tolerance."
    assert len([line for line in text.splitlines() if line.endswith("ok")]) == len({row["quantity"] for row in found["deviations"]})


@needs_golden
def test_a_trace_outside_its_tolerance_exits_1(tmp_path):
    arrays = dict(np.load(GOLDEN / "rbc_steps.npz"))
    arrays = {name: array for name, array in arrays.items() if name.startswith("E.")}
    arrays["E.produced"] = arrays["E.produced"] + 1
    np.savez(tmp_path / "off.npz", **arrays)
    result = run("replay", tmp_path / "off.npz", "--backend", "numpy", "--json")
    assert result.exit_code == 1
    assert [row["quantity"] for row in json.loads(result.stdout)["deviations"] if not row["ok"]] == ["produced"]
    assert "1 of 22 comparisons are outside" in run("replay", tmp_path / "off.npz", "--backend", "numpy").stdout


@pytest.mark.parametrize("kind", ["missing", "text", "empty", "truncated", "objects"])
def test_a_malformed_trace_is_one_sentence(tmp_path, kind):
    trace = tmp_path / "trace.npz"
    if kind == "text":
        trace.write_text("no trace")
    elif kind == "objects":
        np.savez(trace, **{"A.cfg": np.array([{}], object)})
    elif kind != "missing":
        np.savez(trace, **({} if kind == "empty" else {"A.cfg": np.array("{}")}))
    if kind == "truncated":
        trace.write_bytes(trace.read_bytes()[:-20])
    before = content(tmp_path)
    assert str(trace) in mistake("replay", trace)
    assert content(tmp_path) == before


def test_a_replay_without_a_card_is_one_sentence(tmp_path):
    if launch.cuda_problem() is None:
        pytest.skip("a GPU is here")
    assert mistake("replay", tmp_path / "trace.npz", "--backend", "cuda").startswith("device=cuda: ")


def test_bench_prints_what_was_measured(monkeypatch):
    monkeypatch.setattr(bench, "bench", lambda economy, **options: {"economy": economy, **options, "bad": float("nan")})
    monkeypatch.setattr(bench, "table", lambda measured: f"speed of {measured['economy']}")
    found = json.loads(output("bench", "rbc", "n_firms=5", "--replicas", 4, "--quick", "--json"))
    assert found == {"economy": "rbc", "quick": True, "replicas": 4, "params": {"n_firms": 5}, "bad": None}
    assert output("bench", "rbc") == "speed of rbc\n"


def test_check_finds_this_computer_fit(undrawn):
    found = {row["what"]: row for row in json.loads(output("check", "--json"))}
    assert found.keys() == check.LOOKS.keys()
    assert found["tiny run"]["ok"]
    assert found["native backend"]["ok"] == (launch.native_problem() is None)


def test_check_says_what_to_do_and_exits_1_if_something_essential_fails(monkeypatch):
    def no_training(*unused):
        raise RuntimeError("ray\nis broken")

    monkeypatch.setattr(train, "train", no_training)
    monkeypatch.setattr(launch, "find_compiler", lambda: None)
    result = run("check")
    assert result.exit_code == 1
    assert "RuntimeError: ray is broken" in result.stdout
    assert "install g++ or set CXX" in result.stdout


@pytest.mark.parametrize(
    ("text", "found", "ok"),
    [("numpy==0.1\n", "numpy {numpy} (tested: 0.1)", False), ("ray[default,rllib]=={ray}\ntorch=={torch}\n", "2 as tested", True),
     ("no_such_library==1.0\n", "no_such_library is missing", False)],
)
def test_libraries_are_compared_with_the_tested_ones(tmp_path, text, found, ok):
    here = {name: check.installed(name) for name in ("numpy", "ray", "torch")}
    (tmp_path / "requirements.txt").write_text(text.format(**here))
    finding = check.libraries(tmp_path / "requirements.txt")
    assert finding.ok == ok
    assert finding.found.startswith(found.format(**here))


# --- what the user sees -----------------------------------------------------------------------------------------------


def rows(iterations):
    return [{"iteration": k, "seconds": 0.5 * k, "agent_steps": 1000, "reward/firm": 1234.5, "reward/bank": 0.5, "learn/bank/lr": 1.0}
            for k in range(1, iterations + 1)]


def test_without_a_terminal_progress_is_a_line_at_first_and_for_every_tenth(capsys):
    with cli.Watch(40, ["bank", "firm"], Console(width=200)) as watch:
        for row in rows(40):
            watch(row)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["1/40", *(f"{k}/40" for k in range(4, 41, 4))]
    assert lines[1] == "iteration 4/40  2,000 agent-steps/s  0:18 left  reward: bank 0.5, firm 1,234; learning: bank"


def test_on_a_terminal_progress_is_live(capsys):
    with cli.Watch(40, ["bank", "firm"], Console(width=100, force_terminal=True, legacy_windows=False)) as watch:
        for row in rows(40):
            watch(row)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out)
    assert "40/40 2,000 agent-steps/s  0:00 left" in text
    assert "evaluating" in text
    assert "reward: bank 0.5, firm 1,234; learning: bank" in text


@pytest.mark.parametrize(("value", "text"), [(0.01234, "0.0123"), (12.34, "12.3"), (101234.4, "101,234"), (-5, "-5"), (0.0, "0"),
                                              (float("nan"), "nan"), (float("-inf"), "-inf")])
def test_numbers_for_a_reader(value, text):
    assert cli.number(value) == text


def test_a_number_that_is_not_one_stops_no_table():
    assert cli.spread([float("nan"), 1.0]) == "nan ± nan"
    assert cli.spread([1.0, 3.0]) == "2 ± 1.41"
    assert cli.spread([2.5]) == "2.5"


def test_times_for_a_reader():
    assert [cli.clock(seconds) for seconds in (0.4, 75, 3661)] == ["0:00", "1:15", "1:01:01"]
