"""A monetary economy small enough to play in a test: twenty consumers, four firms, few scripted quarters before episodes start. Its gap
is wild, so the policy rate may rise as far as it likes."""
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import torch

from rllib_macro import evaluate
from rllib_macro.config import RunConfig
from rllib_macro.run import Run
from rllib_macro.subject import scripted

SMALL = ("n_consumers=20", "n_firms=4", "n_banks=2", "burn_in=1", "upper_bound=1", "horizon=12", "backend=numpy", "evaluation.seeds=[7]",
         "evaluation.replicas=8")


def quiet(*settings: str) -> RunConfig:
    """All types scripted, with settings."""
    return scripted("monetary", [*SMALL, *settings])


def planted(root: Path, name: str, step: int, *settings: str) -> Run:
    """A run folder, as if trained, whose central bank always takes the same option of rate_step and buys nothing."""
    config = quiet("policies.central_bank.rule=null", f"name={name}", "stop.iterations=4", *settings)
    run = Run.create(config, root)
    weights = {}
    for type_, module in evaluate.modules(config).items():
        with torch.no_grad():
            module.policy.weight.zero_()
            module.policy.bias.fill_(-60)
            module.policy.bias[step] = 60
            module.policy.bias[7 + 1] = 60
        weights[type_] = module.state_dict()
    run.save_policies(SimpleNamespace(learner_group=SimpleNamespace(get_weights=lambda: weights)), 4)
    return run
