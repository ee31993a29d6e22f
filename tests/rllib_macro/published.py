"""A run of the 2022 profile that is small enough for a test, made without training, and the tree that the program of 2022 would leave."""
from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import envs
from rllib_macro import evaluate, hparams_2022, layout_2022
from rllib_macro.config import RunConfig, check_against, load
from rllib_macro.env_runner import make_batch
from rllib_macro.run import Run
from rllib_macro.train import log_episode

PROFILE = Path(__file__).parents[2] / "tune_configs" / "rbc_2022.yaml"
SMALL = ["name=small", "params.n_consumers=6", "params.n_firms=3", "params.horizon=4", "replicas=2", "stop.iterations=8",
         "windows={firm.price: [[0, [1000, 1000]], [4, [0, 2500]]]}", "policies.firm.train_from=2", "checkpoint.every=4",
         "log.episode_every=4", "evaluation={replicas: 4, seeds: [7]}"]


def profile(*overrides: str) -> RunConfig:
    """The shipped profile with overrides, checked."""
    return check_against(load(PROFILE, overrides), envs.load("rbc"))


def untrained_run(root: Path) -> Run:
    """A run folder with policies and episodes of iterations 4 and 8, as training leaves it."""
    config = profile(*SMALL)
    run = Run.create(config, root)
    (run.path / "policies").mkdir()
    for k in (4, 8):
        policies = evaluate.modules(config.model_copy(update={"seed": k}))
        weights = {type_: module.state_dict() for type_, module in policies.items()}
        run.save_policies(SimpleNamespace(learner_group=SimpleNamespace(get_weights=lambda weights=weights: weights)), k)
        log_episode(run, k, policies)
    return run


def published_tree(run: Run, folder: Path) -> Path:
    """The run in the layout of 2022, with the pickled grids that its own program writes."""
    layout_2022.write(run, folder)
    grids = hparams_2022.action_arrays(make_batch(run.config, 1).p)
    (folder / "action_arrays.pickle").write_bytes(pickle.dumps(grids))
    (folder / "action_arrays.npz").unlink()
    return folder
