"""Whatever stands in a file, the answer is a result or one sentence, and nothing that was planted in it is executed."""
import contextlib
import json
import os
import pickle
import shutil

import numpy as np
import pandas
import pytest
import ray
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import envs
from rllib_macro import __main__ as cli
from rllib_macro import evaluate, import_2022, layout_2022, plots, replay, report, train
from rllib_macro.config import ConfigError, check_against, from_dict, from_text
from rllib_macro.hparams_2022 import ImportError2022, LayoutError, from_config, to_config
from rllib_macro.replay import TraceError
from rllib_macro.run import Progress, Run, RunError
from rllib_macro.store import StoreError, load_tree, save_tree, seal
from tests.rllib_macro.published import profile, published_tree, untrained_run
from tests.rllib_macro.tiny import TINY, tiny

SENTENCES = (ConfigError, RunError, StoreError, TraceError, ImportError2022, LayoutError)
few = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60, derandomize=True, database=None)


@contextlib.contextmanager
def at_most_one_sentence():
    """Nothing happens in the block, or an error of the project in one line."""
    try:
        yield
    except SENTENCES as error:
        assert str(error).strip() and "\n" not in str(error), str(error)


def fitted(config):
    """The configuration, compared with its economy if there is one."""
    return check_against(config, envs.load(config.economy)) if config.economy in envs.names() else config


# --- configurations ---------------------------------------------------------------------------------------------------

SNIPPETS = st.text() | st.sampled_from([
    "", "\n", " ", "  ", ":", ": ", "-", "- ", "[", "]", "{", "}", ",", "&a", "*a", "<<: *a", "!!python/object/apply:os.getcwd []",
    "!!set {1}", "#", "'", '"', "|", ">", "?", "%", "@", "\t", "\x00", "\ufeff", "1e999", "-1", "0", ".nan", ".inf", "1_000", "0x10",
    "2024-99-01", "null", "~", "true", "no", "é", "policies:", "extends: x", "economy: rbc", "economy: 1", "name: ../x", "exp: 3",
    "[[0, 1], [0, 2]]", "9" * 30])


@st.composite
def damaged_texts(draw, text=TINY):
    """A configuration with a few pieces cut out and others put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 40))
        text = text[:start] + draw(SNIPPETS) + text[start + length:]
    return text


@few
@given(damaged_texts() | st.text(), st.lists(SNIPPETS, max_size=2))
def test_a_damaged_configuration_is_at_most_one_sentence(text, overrides):
    with at_most_one_sentence():
        fitted(from_text(text, overrides))


KEYS = ["policies", "firm", "lr", "entropy", "train_during", "train_cycle", "network", "hidden", "windows", "firm.price", "params",
        "n_firms", "theta_factor", "stop", "iterations", "checkpoint", "compat", "frozen_uniforms", "masks", "seed", "replicas", "name",
        "exp", "from", "economy", "deviation", "evaluation", "seeds", "resources", "head_entropy", "equivariant", "sees"]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(KEYS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4),
    max_leaves=12)


@few
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6))
def test_any_mapping_is_a_configuration_or_one_sentence(data):
    with at_most_one_sentence():
        check_against(from_dict(data | {"economy": "rbc"}), envs.load("rbc"))


@few
@given(st.lists(st.sampled_from(KEYS), min_size=1, max_size=4).map(".".join) | st.text(), VALUES.map(str) | SNIPPETS)
def test_any_override_is_taken_or_answered_in_one_sentence(key, value):
    with at_most_one_sentence():
        fitted(from_text(TINY, [f"{key}={value}"]))


def test_anchors_cannot_make_a_small_file_large():
    nested = "".join(f"  x{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
    merged = "".join(f"  x{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
    with pytest.raises(ConfigError, match="repeats its anchors until it holds more than"):
        from_text(f"economy: rbc\nparams:\n  x0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]\n{nested}")
    found = from_text(f"economy: rbc\npolicies:\n  x0: &a0 {{lr: 0.5, clip: 0.3}}\n{merged}  y: {{<<: *a39, lr: 0.7}}")
    assert (found.policies["y"].lr, found.policies["y"].clip, len(found.policies)) == (0.7, 0.3, 41)


@few
@given(st.data())
def test_any_settings_of_2022_are_read_or_answered_in_one_sentence(data):
    settings = from_config(profile())
    for _ in range(data.draw(st.integers(1, 3))):
        section = settings[data.draw(st.sampled_from(["agents", "world", "train"]))]
        section[data.draw(st.sampled_from([*section, "training_schedule_mod", "firm_training_list"]))] = data.draw(VALUES)
    with at_most_one_sentence():
        to_config(settings)
    with at_most_one_sentence():
        to_config(data.draw(VALUES))


# --- run folders ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    started = train.start_ray(tiny())
    yield
    if started:
        ray.shutdown()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained run with checkpoints and episodes of two iterations; tests put back what they change."""
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        settings = "stop.iterations=2", "checkpoint.every=1", "log.episode_every=1"
        return train.train(tiny(*settings), tmp_path_factory.mktemp("fuzz"))


@pytest.fixture
def undrawn(monkeypatch):
    draw_nothing(monkeypatch)


def draw_nothing(patch):
    """Training ends without figures and with an empty report."""
    patch.setattr(plots, "draw", lambda run: [])
    patch.setattr(report, "write", lambda run: (run.path / "report.html").touch())


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """A run of the 2022 profile, without checkpoints; tests put back what they change."""
    return untrained_run(tmp_path_factory.mktemp("profiled"))


@pytest.fixture(scope="module")
def tree(profiled, tmp_path_factory):
    """A run of the program of 2022; tests put back what they change."""
    return published_tree(profiled, tmp_path_factory.mktemp("tree") / "old")


@contextlib.contextmanager
def instead(file, content):
    """Within the block the file holds something else, or is not there."""
    kept = file.read_bytes()
    try:
        file.unlink()
        if content is not None:
            file.write_bytes(content)
        yield
    finally:
        partial = file.with_name("restored")  # a new file: readers may still have the old one mapped
        partial.write_bytes(kept)
        os.replace(partial, file)


def read_everything(path):
    """What the verbs read of a run, each piece by itself."""
    with at_most_one_sentence():
        run = Run.open(path)
        for look in (run.checkpoint, run.progress, lambda: plots.rows(run), lambda: plots.sections(run), lambda: report._result(run),
                     lambda: [run.weights(k) for k in run.saved()], lambda: load_tree(run.checkpoint(1)),
                     lambda: evaluate.modules(run.config, run.weights())):
            with at_most_one_sentence():
                look()


def files(folder):
    """Every file below a folder that something of ours reads, in a fixed order."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and "tfevents" not in file.name)


FOREIGN = [b"", b"{}", b"null", b"[]", b"0", b"\x80\x05N.", b"a,b\n1,2\n", b'{"iteration": "x"}\n', b"iteration\nx\n", b"\xff\xfe\x00",
           b"<html>", b"economy: rbc", b"economy: rbc\nname: tiny\nparams: {n_firms: 2}\n", b"PK\x03\x04", b'{"dict": [[1]]}',
           b'{"seeds": [1], "rewards": {"firm": 3}, "measures": {}, "replicas": 1}', b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "]


@st.composite
def damages(draw, content, others):
    """None for a missing file, or bytes that are not what was written."""
    kind = draw(st.sampled_from(["missing", "cut", "flipped", "foreign", "another", "bytes"]))
    if kind == "missing":
        return None
    if kind == "cut":
        return content[:draw(st.integers(0, max(len(content) - 1, 0)))]
    if kind == "flipped" and content:
        at = draw(st.integers(0, len(content) - 1))
        return content[:at] + bytes([content[at] ^ draw(st.integers(1, 255))]) + content[at + 1:]
    return draw(st.sampled_from(FOREIGN) if kind == "foreign" else st.sampled_from(others) if kind == "another" else st.binary())


@few
@given(st.data())
def test_a_run_with_a_damaged_file_is_read_or_answered_in_one_sentence(trained, data):
    known = files(trained.path)
    file = data.draw(st.sampled_from(known))
    others = [other.read_bytes() for other in known if other.suffix == file.suffix and other != file] or FOREIGN
    with instead(file, data.draw(damages(file.read_bytes(), others))):
        read_everything(trained.path)


@settings(few, max_examples=25)
@given(st.data())
def test_a_run_with_a_damaged_file_is_written_in_the_layout_of_2022_or_answered_in_one_sentence(profiled, tmp_path_factory, data):
    file = data.draw(st.sampled_from(files(profiled.path)))
    others = [other.read_bytes() for other in files(profiled.path) if other.suffix == file.suffix]
    with instead(file, data.draw(damages(file.read_bytes(), others))), at_most_one_sentence():
        layout_2022.write(Run.open(profiled.path), tmp_path_factory.mktemp("written"))


@few
@given(st.data())
def test_a_log_with_a_damaged_line_goes_on_or_is_answered_in_one_sentence(trained, tmp_path_factory, data):
    content = (trained.path / "result.json").read_bytes()
    folder = tmp_path_factory.mktemp("log")
    (folder / "result.json").write_bytes(data.draw(damages(content, [content * 2])) or b"")
    with at_most_one_sentence():
        progress = Progress(folder, after=1)
        progress.write({"iteration": 2, "x": 1.0})
        progress.close()
        Progress(folder, after=2).close()
        assert json.loads((folder / "result.json").read_text().splitlines()[-1]) == {"iteration": 2, "x": 1.0}
        assert pandas.read_csv(folder / "progress.csv")["iteration"].iloc[-1] == 2


@pytest.mark.parametrize("economy", ["rbd", "no_such_package.cobweb", "json", "tests.rllib_macro.tiny"])
def test_a_run_of_an_economy_that_is_not_here_is_one_sentence(trained, economy):
    text = (trained.path / "config.yaml").read_text().replace("economy: rbc", f"economy: {economy}")
    sentence = "names what is not here: |plays the economy .* of another project, whose code would run: if you trust it"
    with instead(trained.path / "config.yaml", text.encode()), pytest.raises(RunError, match=sentence):
        Run.open(trained.path)


def test_weights_of_another_network_are_one_sentence(trained):
    file = trained.path / "policies" / "firm_000002.safetensors"
    with instead(file, (trained.path / "policies" / "consumer_000002.safetensors").read_bytes()), pytest.raises(RunError) as caught:
        evaluate.modules(trained.config, trained.weights())
    assert "the weights of firm are not those of its network: " in str(caught.value)


@pytest.fixture(scope="module")
def algo(trained):
    with train.algorithm(trained.config) as built:
        yield built


def test_the_weights_that_the_layout_calls_those_of_iteration_0_are_what_training_starts_from(algo):
    initial, layout = algo.learner_group.get_weights(), evaluate.modules(tiny())
    assert initial.keys() == layout.keys()
    for type_, module in layout.items():
        assert all(np.array_equal(initial[type_][name], x.numpy()) for name, x in module.state_dict().items())


@settings(few, max_examples=25)
@given(st.data())
def test_a_checkpoint_that_was_changed_and_sealed_again_is_restored_or_one_sentence(trained, algo, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("sealed") / "c"
    shutil.copytree(trained.checkpoint(), folder)
    file = data.draw(st.sampled_from([file for file in files(folder) if file.name != "manifest.json"]))
    changed = data.draw(damages(file.read_bytes(), FOREIGN))
    file.unlink()
    if changed is not None:
        file.write_bytes(changed)
    seal(folder)
    with at_most_one_sentence():
        train.restore(algo, folder)


TREES = st.recursive(st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4) | st.just(np.zeros(2)),
                     lambda inner: st.lists(inner, max_size=2) | st.dictionaries(
                         st.sampled_from(["iteration", "learner", "runner", "rl_module", "optimizer", "batch", "firm"]), inner, max_size=4))


@settings(few, max_examples=25)
@given(tree=TREES)
def test_a_checkpoint_of_something_else_is_one_sentence(algo, tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("other")
    save_tree(folder, tree)
    with at_most_one_sentence():
        train.restore(algo, folder)


@few
@given(st.data())
def test_a_damaged_run_of_2022_is_imported_or_answered_in_one_sentence(tree, tmp_path_factory, data):
    file = data.draw(st.sampled_from(files(tree)))
    others = [other.read_bytes() for other in files(tree) if other != file]
    target = tmp_path_factory.mktemp("imported")
    with instead(file, data.draw(damages(file.read_bytes(), others))), at_most_one_sentence():
        import_2022.read(tree, target)
    assert not list(target.glob(".*"))


@settings(few, max_examples=300)
@given(st.data())
def test_a_damaged_pickle_is_read_or_answered_in_one_sentence(tree, data):
    content = (tree / "action_arrays.pickle").read_bytes()
    changed = data.draw(damages(content, FOREIGN) | st.lists(st.binary(min_size=1, max_size=3), max_size=30).map(b"".join)) or b""
    with at_most_one_sentence():
        import_2022.read_arrays(changed)


@settings(few, max_examples=25)
@given(st.data())
def test_any_file_is_a_trace_or_one_sentence(trained, tmp_path_factory, data):
    file = data.draw(st.sampled_from(files(trained.path)))
    trace = tmp_path_factory.mktemp("trace") / "trace.npz"
    trace.write_bytes(data.draw(damages(file.read_bytes(), FOREIGN)) or b"")
    with at_most_one_sentence():
        replay.replay(trace)


# --- planted pickles --------------------------------------------------------------------------------------------------


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path):
    """Where a payload would leave its trace; nothing may be there in the end."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists(), "a planted pickle was executed"


def planted(file, marker):
    """Contents in which a payload may hide from the readers of such a file."""
    payload = Payload(marker)
    contents = [pickle.dumps(payload, 2), pickle.dumps({"iteration": 1, "state": payload}, 5)]
    scratch = marker.with_name("scratch")
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            objects = np.array([payload, None], dtype=object)
            np.savez(scratch.with_suffix(".npz"), **{name: objects for name in arrays})
        contents.append(scratch.with_suffix(".npz").read_bytes())
    if file.suffix == ".pt":
        for legacy in (True, False):
            torch.save({"fc1.weight": payload}, scratch, _use_new_zipfile_serialization=not legacy)
            contents.append(scratch.read_bytes())
    if file.suffix in (".yaml", ".json"):
        call = f"!!python/object/apply:os.mkdir ['{marker}']"
        text = file.read_text()
        contents += [f"economy: {call}\n".encode(), text.replace("rbc", call, 1).encode(), f"{text}\nmetadata: {call}\n".encode()]
    return contents


def test_the_payloads_work(tmp_path):
    """Otherwise the tests below could not fail."""
    (tmp_path / "file.yaml").write_text("a: rbc")
    np.savez(tmp_path / "file.npz", a=np.zeros(1))
    readers = [lambda file: pickle.loads(file.read_bytes()),  # noqa: S301  (what must never be done)
               lambda file: np.load(file, allow_pickle=True)["a"],
               lambda file: yaml.unsafe_load(file.read_text()),  # noqa: S506
               lambda file: torch.load(file, weights_only=False)]
    worked = set()
    for name in ("file.npz", "file.yaml", "file.pt"):
        for number, content in enumerate(planted(tmp_path / name, tmp_path / "executed")):
            (tmp_path / "planted").write_bytes(content)
            for reader in readers:
                with contextlib.suppress(Exception):
                    reader(tmp_path / "planted")
            if (tmp_path / "executed").exists():
                (tmp_path / "executed").rmdir()
                worked.add((name, number))
    assert worked == {("file.npz", 0), ("file.npz", 1), ("file.npz", 2), ("file.yaml", 0), ("file.yaml", 1), ("file.yaml", 2),
                      ("file.yaml", 3), ("file.yaml", 4), ("file.pt", 0), ("file.pt", 1), ("file.pt", 2), ("file.pt", 3)}


def test_a_pickle_in_any_file_of_a_run_is_not_executed(trained, profiled, marker):
    for path, file in [(run.path, file) for run in (trained, profiled) for file in files(run.path)]:
        for content in planted(file, marker):
            with instead(file, content):
                read_everything(path)
                with at_most_one_sentence():
                    layout_2022.write(Run.open(path), marker.with_name("layout"))
            assert not marker.exists(), file


def test_no_verb_executes_what_is_planted_everywhere(trained, marker, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained.path, copy)
    for file in files(copy):
        if file.name != "config.yaml":
            file.write_bytes(planted(file, marker)[-1])
    for checkpoint in copy.glob("checkpoints/iteration_*"):
        seal(checkpoint)
    for verb in (["describe", str(copy / "config.yaml")], ["rollout", str(copy)], ["plot", str(copy)], ["report", str(copy)],
                 ["best-response", str(copy), "--type", "firm"], ["impulse", str(copy), "--shock", "tfp"],
                 ["import-2022", str(copy), "--runs", str(tmp_path / "runs")], ["replay", str(next(copy.glob("episodes/*.npz")))]):
        done = CliRunner().invoke(cli.app, verb)
        assert done.exit_code == (0 if verb[0] == "describe" else 2), (verb, done.output, done.exception)
        assert done.exit_code == 0 or len(done.stderr.splitlines()) == 1
        assert not marker.exists(), verb


def test_a_pickle_in_a_sealed_checkpoint_is_not_executed(trained, algo, marker, tmp_path):
    for name in ("state.json", "arrays.safetensors", "manifest.json"):
        for content in planted(trained.checkpoint() / name, marker):
            folder = tmp_path / "checkpoint"
            shutil.copytree(trained.checkpoint(), folder)
            (folder / name).write_bytes(content)
            if name != "manifest.json":
                seal(folder)
            with at_most_one_sentence():
                train.restore(algo, folder)
            shutil.rmtree(folder)
            assert not marker.exists(), name


def test_resuming_a_run_with_planted_files_does_not_execute_them(trained, marker, tmp_path, undrawn):
    copy = tmp_path / "run"
    shutil.copytree(trained.path, copy)
    for name in ("result.json", "progress.csv", "params.json", "evaluation.json"):
        (copy / name).write_bytes(pickle.dumps(Payload(marker)))
    for file in [*copy.glob("policies/*"), *copy.glob("episodes/*")]:
        file.write_bytes(planted(file, marker)[-1])
    assert train.resume(copy, iterations=3).checkpoints() == [1, 2, 3]


def test_a_pickle_in_any_file_of_an_imported_run_is_not_executed(tree, marker, tmp_path):
    for file in [*files(tree), tree / "action_arrays.npz"]:
        if not file.exists():
            np.savez(file, tax_choices=np.zeros(1))
        for content in planted(file, marker):
            with instead(file, content), at_most_one_sentence():
                import_2022.read(tree, tmp_path / "runs")
            shutil.rmtree(tmp_path / "runs", ignore_errors=True)
            assert not marker.exists(), file
    (tree / "action_arrays.npz").unlink()


def test_an_imported_run_carries_no_planted_object_on(tree, marker, tmp_path):
    """The government's array of objects may hold a payload: the import succeeds, and the run folder has no objects."""
    file = tree / "episode_4_government.npz"
    with np.load(file, allow_pickle=False) as arrays:
        content = dict(arrays) | {"aux_array": np.array([Payload(marker)], dtype=object)}
    scratch = tmp_path / "scratch.npz"
    np.savez(scratch, **content)
    with instead(file, scratch.read_bytes()):
        made = import_2022.read(tree, tmp_path / "runs")
    for kept in made.run.path.rglob("*.npz"):
        with np.load(kept, allow_pickle=False) as arrays:
            assert all(arrays[name].dtype.kind != "O" for name in arrays)
    assert not [kept for kept in made.run.path.rglob("*") if kept.suffix in (".pt", ".pickle", ".pkl")]
