"""Best responses tested where the answer is known: in Cournot's duopoly the gain of every deviation follows from its probabilities.

A run is planted whose producers play bell-shaped mixtures around chosen quantities. Deviations are trained against it by the code that
questions real runs, and their intervals are compared with their exact gains.
"""
from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

import envs
from rllib_macro import best_response as br
from rllib_macro import evaluate
from rllib_macro.config import check_against, load
from rllib_macro.env_runner import make_batch
from rllib_macro.run import Run
from rllib_macro.store import save_tree
from rllib_macro.train import session

CONFIG = Path(__file__).parents[1] / "tune_configs" / "cournot.yaml"
EQUILIBRIUM = 30.0
OFF = 1.05  # a producer five percent off its best reply loses (1.5 units) squared, a quarter percent of its profit
ITERATIONS = 120


@dataclass(frozen=True)
class Coverage:
    """How often nominal 95 % intervals held the exact gain, planted deviations were found, and an equilibrium was left in peace."""

    repetitions: int
    deviations: int  # trained ones, from which every repetition draws five
    covered: float
    found: float
    left_in_peace: float
    mean_exact_gain: float
    possible_gain: float


def plant(folder: Path, home: float, foreign: float = EQUILIBRIUM, spread: float = 0.3) -> Run:
    """A run whose checkpoint 0 plays bell-shaped mixtures of quantities, `spread` wide, around the given ones."""
    config = load(CONFIG)
    run = Run.create(check_against(config, envs.load(config.economy)), folder)
    save_tree(run.path / "checkpoints" / "iteration_000000", {})
    (run.path / "policies").mkdir()
    for (type_, module), quantity in zip(evaluate.modules(run.config).items(), (home, foreign), strict=True):
        with torch.no_grad():
            module.policy.weight.zero_()
            module.policy.bias.copy_(torch.as_tensor(-((grid() - quantity) ** 2) / (2 * spread**2)).clamp(min=-60))
        save_file(module.state_dict(), run.path / "policies" / f"{type_}_000000.safetensors")
    return run


def grid() -> np.ndarray:
    """The quantities a producer can choose."""
    return envs.load("cournot").agents["home"].chooses[0].grid(None).astype(float)  # type: ignore[attr-defined]


def exact_gain(run: Run, own: Mapping[str, torch.Tensor]) -> float:
    """What the home producer's weights earn more, in expectation, than its planted mixture against the other's planted mixture."""
    planted = {type_: _probabilities(run, type_, weights) for type_, weights in run.weights(0).items()}
    against = float(planted["foreign"] @ grid())
    return float(((_probabilities(run, "home", own) - planted["home"]) * grid() * (90 - grid() - against)).sum())


def coverage(repetitions: int = 200, deviations: int = 20, seeds: int = 5, episodes: int = 128,
             watch: Callable[[str], None] | None = None) -> Coverage:
    """Repeat the analysis of a planted deviation and of the equilibrium, drawing its training seeds from a pool of trained deviations."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, session():
        off, peace = plant(Path(folder) / "off", OFF * EQUILIBRIUM), plant(Path(folder) / "peace", EQUILIBRIUM, spread=0.02)
        config = br.deviating(off.config, "home", None, 0, ITERATIONS, Path())
        pool = [br.deviation(config, off.weights(0), "home", seed, "fresh", watch) for seed in range(deviations)]
        exact = np.array([exact_gain(off, module.state_dict()) for module in pool])
        still = [br.deviation(config, peace.weights(0), "home", seed, "checkpoint", watch) for seed in range(deviations // 2)]
        covered, found, quiet = [], [], []
        for repetition in range(repetitions):
            drawn = rng.choice(deviations, seeds, replace=False)
            _, low, high = _analysis(off, config, [pool[i] for i in drawn], 1000 * repetition, episodes)
            covered.append(low <= exact.mean() <= high)
            found.append(low > 0)
            drawn = rng.choice(len(still), min(seeds, len(still)), replace=False)
            _, low, _ = _analysis(peace, config, [still[i] for i in drawn], 1000 * repetition, episodes)
            quiet.append(low <= 0)
    return Coverage(repetitions, deviations, float(np.mean(covered)), float(np.mean(found)), float(np.mean(quiet)), float(exact.mean()),
                    (EQUILIBRIUM * (OFF - 1)) ** 2)


def _analysis(run: Run, config: Any, own: list[Any], seed: int, episodes: int) -> tuple[float, float, float]:
    profile = evaluate.modules(run.config, run.weights(0))
    seeds = range(br.FRESH + seed, br.FRESH + seed + len(own))
    return br.interval([br.paired_gain(config, profile, module, "home", None, s, episodes) for s, module in zip(seeds, own, strict=True)])


def _probabilities(run: Run, type_: str, weights: Mapping[str, torch.Tensor]) -> np.ndarray:
    module = evaluate.modules(run.config)[type_]
    module.load_state_dict(weights, strict=False)  # a runner's copy has no value head
    with torch.no_grad():
        return torch.softmax(module.inputs(torch.from_numpy(make_batch(run.config, 1).observe(type_))[0])[0].double(), -1).numpy()
