"""Training writes a run folder, goes on bit for bit after an interruption, and never overwrites what is there."""
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import ray
import torch
from safetensors.torch import load_file

from kernels.core import launch
from rllib_macro import train
from rllib_macro.config import ConfigError
from rllib_macro.env_runner import BatchedEnvRunner, fresh_player
from rllib_macro.evaluate import modules
from rllib_macro.learner import MacroLearner
from rllib_macro.run import Progress, Run, RunError
from rllib_macro.store import StoreError, load_tree, save_tree
from tests.rllib_macro.tiny import tiny

ROOT = Path(__file__).parents[2]
TYPES = ("consumer", "firm", "government")


@pytest.fixture(scope="module", autouse=True)
def local_ray():
    started = train.start_ray(tiny("resources={num_env_runners: 2, num_learners: 2}"))  # room for the largest run below
    yield
    if started:
        ray.shutdown()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return train.train(tiny("checkpoint.every=1"), tmp_path_factory.mktemp("runs"))


def weights(run, iteration):
    return {f"{t}/{name}": x for t in TYPES for name, x in load_file(run.path / "policies" / f"{t}_{iteration:06d}.safetensors").items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_folder_holds_what_later_commands_need(uninterrupted):
    path = uninterrupted.path
    for name in ("config.yaml", "params.json", "progress.csv", "result.json", "evaluation.json", "report.html"):
        assert (path / name).stat().st_size > 0
    assert uninterrupted.checkpoints() == [1, 2, 3, 4]
    assert list(path.glob("events.out.tfevents.*"))
    assert not list(path.rglob("*.pkl"))
    table = uninterrupted.progress()
    assert table["iteration"].tolist() == [1, 2, 3, 4]
    assert table["learn/firm/lr"].isna().tolist() == [True, False, False, False]
    assert json.loads((path / "params.json").read_text())["economy_version"] == 1
    assert Run.open(path).config == uninterrupted.config


def test_training_starts_from_the_weights_that_the_untrained_baseline_plays():
    config = tiny()
    with train.algorithm(config) as algo:
        started = {f"{t}/{n}": x for t, m in algo.learner_group._learner.modules.items() for n, x in m.state_dict().items()}
    assert same(started, {f"{t}/{n}": x for t, m in modules(config).items() for n, x in m.state_dict().items()})


def test_the_same_seed_gives_the_same_run_in_every_process():
    program = ("import hashlib; from rllib_macro import train; from tests.rllib_macro.tiny import tiny\n"
               "with train.algorithm(tiny()) as algo:\n    algo.train()\n    modules = algo.learner_group._learner.modules\n"
               "    weights = [x.numpy().tobytes() for t in sorted(modules) for x in modules[t].state_dict().values()]\n"
               "    print(hashlib.sha256(b''.join(weights)).hexdigest())")
    told = [subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True,
                           env=os.environ | {"PYTHONHASHSEED": hashing}).stdout for hashing in ("1", "2")]
    assert told[0] == told[1] != ""


@pytest.mark.parametrize("interrupted_after", [1, 3])
def test_a_resumed_run_has_the_weights_of_an_uninterrupted_one(uninterrupted, tmp_path, interrupted_after):
    def interrupt(row):
        if row["iteration"] == interrupted_after:
            raise KeyboardInterrupt

    with pytest.raises(train.Stopped, match=f"after iteration {interrupted_after}"):
        train.train(tiny(), tmp_path, interrupt)
    run = train.resume(tmp_path / "tiny")
    assert same(weights(run, 4), weights(uninterrupted, 4))
    columns = [c for c in run.progress() if c != "seconds" and not c.startswith("time/") and not c.endswith("/seconds")]
    pandas.testing.assert_frame_equal(run.progress()[columns], uninterrupted.progress()[columns], check_like=True)


def test_ctrl_c_inside_an_iteration_waits_for_its_end(uninterrupted, tmp_path, monkeypatch):
    def interrupted(self, type_, rollouts, coefficients, iteration, plain=MacroLearner.train_type):
        if (type_, iteration) == ("firm", 2):
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self, type_, rollouts, coefficients, iteration)

    monkeypatch.setattr(MacroLearner, "train_type", interrupted)
    with pytest.raises(train.Stopped, match="after iteration 3"):
        train.train(tiny(), tmp_path)
    monkeypatch.undo()
    assert same(weights(train.resume(tmp_path / "tiny"), 4), weights(uninterrupted, 4))


def test_a_run_of_a_foreign_economy_is_not_imported(uninterrupted, tmp_path, monkeypatch):
    import shutil
    run = tmp_path / "evil"
    shutil.copytree(uninterrupted.path, run)
    (tmp_path / "payload.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("economy: rbc", "economy: payload"))
    with pytest.raises(RunError, match="of another project, whose code would run: if you trust it, set RLLIB_MACRO_ECONOMIES=payload"):
        Run.open(run)
    assert not (tmp_path / "ran").exists()


def test_a_run_of_another_version_of_its_economy_is_not_played(uninterrupted, monkeypatch):
    from kernels import rbc
    monkeypatch.setattr(rbc, "VERSION", 99)
    with pytest.raises(RunError, match="was made with version 1 of rbc, this is version 99"):
        Run.open(uninterrupted.path).weights()


def test_a_run_can_be_prolonged_and_remembers_it(uninterrupted, tmp_path):
    short = train.train(tiny("stop.iterations=2"), tmp_path)
    run = train.resume(short.path, iterations=4)
    assert same(weights(run, 4), weights(uninterrupted, 4))
    assert Run.open(short.path).config.stop.iterations == 4


def test_evaluation_during_training_does_not_touch_it(uninterrupted, tmp_path):
    run = train.train(tiny("evaluation.every=2"), tmp_path)
    assert run.progress()["evaluation/firm"].isna().tolist() == [True, False, True, False]
    assert same(weights(run, 4), weights(uninterrupted, 4))


def test_staggered_replicas_show_all_parts_of_an_episode_in_every_iteration():
    with train.algorithm(tiny("periods=1", "staggered=true")) as algo:
        batch, seen = algo.env_runner.env, []
        for _ in range(3):
            seen.append(sorted(batch.age))
            algo.train()
        assert seen == [[0, 1, 2, 3]] * 3  # episodes of four periods, four replicas: one of them ends after each period
        assert not algo.env_runner._evaluator().env.age.any()


def test_fresh_replicas_may_play_where_a_curriculum_has_ended():
    config = tiny("evaluation.params={theta_factor: 0.5}")
    assert fresh_player(config, modules(config), 2, seed=1, iteration=0).batch.p.theta_factor == 0.5
    assert fresh_player(tiny(), modules(tiny()), 2, seed=1, iteration=0).batch.p.theta_factor == 0.0  # where it stands in iteration 0
    with pytest.raises(ConfigError, match="unknown key 'thetafactor' in evaluation.params; did you mean 'theta_factor'"):
        tiny("evaluation.params={thetafactor: 1}")


def test_fresh_replicas_may_not_see_or_choose_other_things():
    with pytest.raises(ConfigError, match="evaluation.params change how many consumer agents there are"):
        train.algorithm(tiny("evaluation.params={n_consumers: 7}")).__enter__()


def test_rllibs_own_evaluation_plays_whole_episodes():
    with train.algorithm(tiny()) as algo:
        assert algo.evaluate()["env_runners"]["num_episodes"] == 4


def test_a_second_run_into_a_folder_is_refused_and_nothing_is_overwritten(uninterrupted):
    before = {f: f.stat().st_mtime_ns for f in uninterrupted.path.rglob("*")}
    with pytest.raises(RunError, match="exists already; choose another name="):
        train.train(tiny(), uninterrupted.path.parent)
    assert {f: f.stat().st_mtime_ns for f in uninterrupted.path.rglob("*")} == before


def test_a_loss_that_is_not_finite_stops_the_run_and_saves_its_state(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="policy 'firm' is not finite in iteration 1.*saved in"):
        train.train(tiny("policies.firm.reward_scale=1e-44"), tmp_path)
    saved = load_tree(tmp_path / "tiny" / "checkpoints" / "iteration_000001_not_finite")
    assert all(np.isfinite(x).all() for of in saved["learner"]["rl_module"].values() for x in of.values())
    assert not (tmp_path / "tiny" / "policies").exists()  # half an iteration is nobody's policy


def test_restored_weights_reach_the_runner_also_after_later_training(uninterrupted):
    with train.algorithm(tiny()) as algo:
        for _ in range(3):
            algo.train()
        algo.restore_from_path(uninterrupted.checkpoint(1))
        assert algo.iteration == 1
        played = {f"{t}/{n}": x for t, m in algo.env_runner.module.items() for n, x in m.state_dict().items()}
        saved = weights(uninterrupted, 1)
        assert played.keys() < saved.keys()  # the runner has no value heads
        assert all(torch.equal(x, saved[name]) for name, x in played.items())


def test_an_older_checkpoint_can_be_resumed_and_the_later_rows_are_kept_aside(uninterrupted, tmp_path):
    import shutil
    copy = tmp_path / "copy"
    shutil.copytree(uninterrupted.path, copy)
    run = train.resume(copy, checkpoint=2)
    assert run.progress()["iteration"].tolist() == [1, 2, 3, 4]
    assert len((copy / "result_superseded.json").read_text().splitlines()) == 2
    assert same(weights(run, 4), weights(uninterrupted, 4))


@pytest.mark.parametrize("damage", ["truncate", "delete", "flip"])
def test_a_damaged_checkpoint_is_refused_in_one_sentence(tmp_path, damage):
    save_tree(tmp_path / "c", {"x": np.arange(10.0), 1: [(2, None), "text"]})
    file = tmp_path / "c" / "arrays.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= damage == "flip"
    file.write_bytes(content[:-4] if damage == "truncate" else content)
    if damage == "delete":
        file.unlink()
    with pytest.raises(StoreError, match="is damaged: arrays.safetensors is not as it was saved; use another checkpoint"):
        load_tree(tmp_path / "c")


def test_a_stored_tree_comes_back_as_it_was(tmp_path):
    tree = {"x": np.arange(6, dtype=np.int32).reshape(2, 3), 1: [(2, None), "text", True, 0.1], "scalar": np.float64(3), "empty": {}}
    save_tree(tmp_path / "c", tree)
    back = load_tree(tmp_path / "c")
    np.testing.assert_array_equal(back.pop("x"), tree.pop("x"))
    assert back == tree


def test_progress_with_new_columns_keeps_the_old_rows(tmp_path):
    progress = Progress(tmp_path)
    progress.write({"iteration": 1, "a": 1.0})
    progress.write({"iteration": 2, "a": 2.0, "b": 5.0})
    progress.close()
    table = pandas.read_csv(tmp_path / "progress.csv")
    assert table["a"].tolist() == [1, 2]
    assert table["b"].isna().tolist() == [True, False]


def test_a_missing_card_is_an_error_before_anything_is_written(tmp_path):
    if launch.cuda_problem() is None:
        pytest.skip("a GPU is here")
    with pytest.raises(launch.BackendError, match="device=cuda: "):
        train.train(tiny("device=cuda"), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("resources", ["{num_env_runners: 2}", "{num_env_runners: 2, num_learners: 2}", "{num_learners: 1}"])
def test_remote_runners_and_learners_train_and_agree(resources):
    with train.algorithm(tiny(f"resources={resources}", "stop.iterations=4")) as algo:
        rows = [algo.train()["env_runners"]["reward/firm"] for _ in range(4)]
        assert np.isfinite(rows).all()
        held = [result.get() if hasattr(result, "get") else result for result in algo.learner_group.foreach_learner(_fingerprint)]
        played = algo.env_runner_group.foreach_env_runner(_played, local_env_runner=False) or [_played(algo.env_runner)]
        assert all(fingerprint == held[0] for fingerprint in held)
        assert all(fingerprint == played[0] for fingerprint in played)
        assert played[0] == held[0][1]


def _fingerprint(learner: MacroLearner):
    return _size(learner.modules), _size(learner.modules, without="value")


def _played(runner: BatchedEnvRunner):
    return _size(dict(runner.module.items()))


def _size(modules, without="nothing"):
    return {t: float(sum(x.double().abs().sum() for name, x in m.state_dict().items() if not name.startswith(without)))
            for t, m in modules.items()}
