"""What the solvers of the growth models should reach: every goal with its measurement and its bars.

T1 is jesusfv-corrected (its closed form is the reference), T2 jesusfv-extended, T3 quarterly. Errors are log10 of the mean or the largest
Euler error on the box, in units of consumption; budgets are CPU seconds of this process.
"""
from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

import envs
from envs.core.batch import SHOCKS, Batch
from kernels import growth, incomplete_markets
from kernels.core import launch
from rllib_macro import diagnostics
from rllib_macro.solve import method
from rllib_macro.solvers.policy import Policy

MODELS = {"T1": growth.jesusfv_corrected, "T2": growth.jesusfv_extended, "T3": growth.quarterly}
SEEDS = (0, 1, 2)
LANES = 65_536  # of the throughput of the environment
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One number of a goal: `sense` <=, >= or ==, the bar, and a bar further out where there is one."""

    name: str
    sense: str
    passes: float
    stretch: float | None = None
    quick: bool = True  # whether a quick run of a quick goal measures it too

    def holds(self, value: float, bar: float) -> bool:
        """Whether a value is on the right side of a bar."""
        return {"<=": value <= bar, ">=": value >= bar, "==": value == bar}[self.sense]


@dataclass(frozen=True)
class Goal:
    """A goal of the benchmark: what is measured, its parts, and the function that measures {part: value}; `quick` ones take seconds."""

    id: str
    definition: str
    parts: tuple[Part, ...]
    measure: Callable[[Options], Values]
    quick: bool = False
    problem: Callable[[], str | None] = lambda: None  # why it cannot be measured here


@dataclass(frozen=True)
class Options:
    """What a benchmark is told: a compiled program to be timed against, and whether to be quick."""

    against: str | None = None
    quick: bool = False


@functools.lru_cache(maxsize=64)
def solved(model: str, name: str, seed: int = 0, **settings: Any) -> Policy:
    """The policy of a method for one of the models; each is computed once."""
    policy = method(name)(MODELS[model](), seed=seed, **settings)
    if path := policy.facts.get("path"):
        _PATHS.setdefault((model, label(name, settings)), [row[:2] for row in path])
    return policy


def label(name: str, settings: Mapping[str, Any]) -> str:
    """A method with what sets it apart from its defaults, budgets left out: "structural, neutral start, envelope 0"."""
    told = {"start": "neutral start" if settings.get("start") == "neutral" else ""}
    told |= {key: f"{key.replace('_', ' ')} {value}" for key, value in settings.items() if key not in ("start", "seconds", "steps")}
    return ", ".join((name, *filter(None, told.values())))


@functools.lru_cache(maxsize=256)
def box(model: str, name: str, seed: int = 0, **settings: Any) -> diagnostics.EulerErrors:
    """Its Euler errors on the box."""
    return diagnostics.euler_errors(MODELS[model](), solved(model, name, seed, **settings).share)


def middle(measure: Callable[[int], float]) -> float:
    """The median over the seeds."""
    return float(median(measure(seed) for seed in SEEDS))


# -- exact solvers

def iteration(options: Options) -> Values:
    """The published program, repeated to the last bit."""
    from rllib_macro.solvers import vfi
    ours, theirs = vfi.solve(growth.jesusfv(), mode="bitwise"), vfi.solve(growth.jesusfv(), mode="published")
    return {"iterations": ours.facts["iterations"], "sup difference": abs(ours.facts["sup_diff"] / 9.7160356538061876e-08 - 1),
            "check value": abs(ours.facts["check"] / 0.14654914369569541 - 1), **vfi.compared(ours, theirs)}


def corrected(options: Options) -> Values:
    """The same with rows that sum to one."""
    from rllib_macro.solvers import vfi
    return {"check value": abs(vfi.solve(growth.jesusfv_corrected(), mode="bitwise").facts["check"] - 0.14653914369569543)}


def iteration_time(options: Options) -> Values:
    """Seconds of the bitwise mode over those of the C++ program."""
    return {"ratio": _iteration_times(options.against)["bitwise"]}


def fast_iteration_time(options: Options) -> Values:
    """Seconds of modified policy iteration over those of the C++ program, without and with a first guess."""
    found = _iteration_times(options.against)
    return {"ratio": found["fast"], "ratio, seeded": found["seeded"], "policies that differ": found["policies that differ"]}


@functools.lru_cache(maxsize=4)
def _iteration_times(against: str | None) -> dict[str, float]:
    from rllib_macro.solvers import vfi
    return vfi.times(against)


def endogenous_grid(options: Options) -> Values:
    """400 nodes at d = .9, in the time of the C++ program."""
    from rllib_macro.solvers import egm
    p = replace(growth.jesusfv_extended(), depreciation=(0.9,))
    runs = [egm.solve(p, nodes=400) for _ in range(9)]
    cpp = _iteration_times(options.against)["seconds"]
    return {"max": diagnostics.euler_errors(p, runs[0].share).max, "ratio": median(run.seconds for run in runs) / cpp}


def moving_rate(options: Options) -> Values:
    """Distance of consumption from the closed form of Hercowitz and Sampson, largest on the box."""
    p = growth.hercowitz_sampson()
    known = growth.closed_form(p)
    assert known is not None
    ways: dict[str, dict[str, Any]] = {"egm": {}, "vfi": {}} | ({} if options.quick else {"euler-lm": {"seconds": 60}})
    return {name: diagnostics.policy_distance(p, method(name)(p, **settings).share, known.share)[1] for name, settings in ways.items()}


# -- neural solvers

def newton(options: Options) -> Values:
    """Levenberg-Marquardt on Euler residuals, 60 CPU seconds from the log-linear rule."""
    return {f"{model} {which}": getattr(box(model, "euler-lm", seconds=60), which) for model in MODELS for which in ("mean", "max")}


def newton_neutral(options: Options) -> Values:
    """The same where half is saved at first."""
    return {f"{model} mean": box(model, "euler-lm", seconds=budget, start="neutral").mean for model, budget in (("T1", 20), ("T3", 30))}


def newton_short(options: Options) -> Values:
    """The same in 10 CPU seconds."""
    return {f"{model} mean": box(model, "euler-lm", seconds=10).mean for model in ("T2", "T3")}


def critic_newton(options: Options) -> Values:
    """Actor and critic by Levenberg-Marquardt on Bellman, first-order and envelope residuals, 60 CPU seconds."""
    return {"T2 mean": box("T2", "actor-critic-lm", seconds=60).mean}


def value_iteration(options: Options) -> Values:
    """Actor and critic by Adam, 60 CPU seconds."""
    return {"T1 mean, neutral start": box("T1", "neural-grid", seconds=60, start="neutral").mean,
            "T2 mean": box("T2", "neural-grid", seconds=60).mean}


# -- reinforcement learning

def twin_delayed(options: Options) -> Values:
    """TD3 from scratch within 20,000 annealed steps; the median of the last ten evaluations, the median over three seeds."""
    def last(seed: int) -> Values:
        return solved("T1", "td3", seed, seconds=None, steps=20_000, start="neutral").facts
    return {"T1 mean": middle(lambda seed: last(seed)["median_of_last_10"]),
            "T1 distance": middle(lambda seed: last(seed)["distance_of_last_10"])}


def cold_start(options: Options) -> Values:
    """Actor at the prior: what 5,000 steps of TD3 leave of it where a critic was trained on it too, and where not; and what structural
    learning adds to the log-linear rule."""
    both, alone = (box("T1", "td3", seconds=None, steps=5_000, start="prior", cold_start=which).mean for which in ("both", "actor"))
    told = {"T1 mean, both started": both, "T1 harm of the actor alone": alone - both}
    for model in ("T2", "T3"):
        prior = diagnostics.euler_errors(MODELS[model](), functools.partial(growth.prior_share, MODELS[model]())).mean
        told[f"{model} gain over the prior"] = prior - box(model, "structural", seconds=60, start="prior").mean
    return told


def structural(options: Options) -> Values:
    """A critic of the state after the choice, shocks only sampled, 60 CPU seconds from a neutral start, the median over three seeds."""
    return {"T1 mean, no envelope": middle(lambda seed: box("T1", "structural", seed, seconds=60, start="neutral", envelope=0.0).mean),
            "T1 mean": middle(lambda seed: box("T1", "structural", seed, seconds=60, start="neutral").mean),
            "T2 mean": middle(lambda seed: box("T2", "structural", seed, seconds=60, start="neutral").mean)}


def structural_prior(options: Options) -> Values:
    """The same from the log-linear rule."""
    return {f"{model} mean": box(model, "structural", seconds=60, start="prior").mean for model in ("T1", "T2")}


def stock(options: Options) -> Values:
    """RLlib's own SAC and PPO on T1: mean distance of consumption from the closed form, and the welfare that it costs."""
    p, found = MODELS["T1"](), {}
    known = growth.closed_form(p)
    assert known is not None
    for name, who, steps in (("sac", "sac", 20_000), ("ppo", "ppo", 20_000), ("ppo, 130,000 steps,", "ppo", 130_000)):
        fewer = {"rollout": 8, "minibatch": 256} if name == "ppo" else {}
        policy = solved("T1", who, seconds=None, steps=steps, start="neutral", **fewer)
        found[f"{name} distance"] = diagnostics.policy_distance(p, policy.share, known.share)[0]
        found[f"{name} welfare"] = diagnostics.welfare_loss(p, policy.share, known.share, paths=2_000)
    return found


def model_based(options: Options) -> Values:
    """TD3 whose targets take the expectation over shocks exactly, 60 CPU seconds from the log-linear rule."""
    return {f"{model} mean": box(model, "model-based", seconds=60, start="prior").mean for model in ("T1", "T2")}


# -- many households

def krusell_smith(options: Options) -> Values:
    """Endogenous grid, histogram and fitted law of motion."""
    facts = _households().facts
    return {"R2": min(facts["r2"].values()), "den Haan max, percent": facts["den_haan_max_percent"],
            "den Haan mean, percent": facts["den_haan_mean_percent"],
            "den Haan max, fresh paths": facts["den_haan_fresh_max_percent"],
            "den Haan mean, fresh paths": facts["den_haan_fresh_mean_percent"],
            "mean capital off 39.55": abs(facts["mean_capital"] - 39.55),
            "CPU seconds": _households().seconds}


@functools.lru_cache(maxsize=1)
def _households() -> Policy:
    return method("krusell-smith")(incomplete_markets.krusell_smith())


def learned_households(options: Options) -> Values:
    """One network for all households, by Euler residuals and its own simulations, against the exact solution on the ergodic set."""
    from rllib_macro import households
    learned = method("neural-krusell-smith")(incomplete_markets.krusell_smith())
    exact = _households()
    return {"distance": households.policy_distance(learned, exact)[0], "R2": min(learned.facts["r2"].values()),
            "mean capital": abs(learned.facts["mean_capital"] / exact.facts["mean_capital"] - 1)}


# -- the environment

def backends_agree(options: Options) -> Values:
    """Largest relative difference of a period between NumPy, PyTorch, one state after the other, and the compiled twin."""
    return {"difference": max(_off(make()) for make in growth.MODELS.values())}


def throughput(options: Options) -> Values:
    """Million periods per second of 65,536 households, one thread, shocks drawn beforehand."""
    rates = {backend: _rate(backend) for backend in ("numpy", "native")}
    return {"numpy": rates["numpy"], "native": rates["native"]}


def one_problem(options: Options) -> Values:
    """Value iteration on a GPU, by the clock, over the C++ program."""
    from rllib_macro.solvers import vfi
    vfi.solve(growth.jesusfv(), mode="fast", start="zero", device="cuda")  # compiles
    began = time.perf_counter()
    vfi.solve(growth.jesusfv(), mode="fast", start="zero", device="cuda")
    return {"ratio": (time.perf_counter() - began) / _iteration_times(options.against)["seconds"]}


def many_problems(options: Options) -> Values:
    """1,024 calibrations on a GPU, by the clock, over the C++ program."""
    from rllib_macro.solvers import calibrations
    models = calibrations.around(growth.jesusfv_corrected(), 1_024)
    calibrations.solve_many(models[:256], method="vfi", device="cuda")  # compiles
    rate = calibrations.solve_many(models, method="vfi", device="cuda").economies_per_second
    return {"ratio": rate * _iteration_times(options.against)["seconds"]}


def _off(p: growth.Params) -> float:
    """One period from 60 states: resources, saving, consumption asked by the Euler equation, tomorrow's capital, on every array library."""
    import torch
    rng = np.random.default_rng(0)
    z, d = rng.integers(0, len(p.productivity), 60), rng.choice(p.depreciation, 60)
    k = rng.uniform(*growth.box(p), 60)

    def period(k: Any, z: Any, d: Any) -> list[Any]:
        def share(*at: Any) -> Any:
            return growth.prior_share(p, *at)
        saved = share(k, z, d) * growth.resources(p, k, z, d)
        return [growth.reward(p, growth.resources(p, k, z, d) - saved), growth.next_capital(p, k, d, saved),
                growth.euler_consumption(p, share, k, z, d)]

    whole = np.array(period(k, z, d))
    single = np.array([[float(v[0]) for v in period(k[i:i + 1], z[i:i + 1], d[i:i + 1])] for i in range(60)]).T
    tensors = np.array([v.numpy() for v in period(*(torch.tensor(v) for v in (k, z, d)))])
    pairs = [(single, whole), (tensors, whole), (_stepped(p, "numpy", k, z, d), _stepped(p, "native", k, z, d))]
    if not launch.cuda_problem():
        import cupy
        pairs.append((np.array([v.get() for v in period(*(cupy.asarray(v) for v in (k, z, d)))]), whole))
    return float(max(np.abs(a / b - 1).max() for a, b in pairs))


def _stepped(p: growth.Params, backend: str, k: np.ndarray, z: np.ndarray, d: np.ndarray) -> np.ndarray:
    batch = Batch(envs.load("growth"), replace(p, transition=growth.CORRECTED) if p.transition == growth.PUBLISHED else p, len(k),
                  backend=backend)
    batch.s.capital[...], batch.s.productivity[...], batch.s.depreciation[...] = k, z, d
    batch.s.steady_consumption[...] = growth.steady_consumption(p, d)
    batch.a.saving[...] = growth.prior_share(p, k, z, d)
    with launch.use(backend):
        batch.kernel.step(batch.p, batch.s, batch.a, batch.e, batch.r)
    return np.array([batch.s.capital, batch.s.consumption, 2 + batch.r.household])


def _rate(backend: str) -> float:
    """Million steps per CPU second."""
    batch = Batch(envs.load("growth"), size=LANES, backend=backend)
    batch.a.saving[...] = growth.prior_share(batch.p, batch.s.capital, batch.s.productivity, batch.s.depreciation)
    seconds = []
    with launch.use(backend):
        batch.kernel.draw_shocks(batch.p, batch.s, batch.e, batch.draws(SHOCKS))
        for _ in range(30):
            began = time.process_time()
            batch.kernel.step(batch.p, batch.s, batch.a, batch.e, batch.r)
            seconds.append(time.process_time() - began)
    return LANES / median(seconds) / 1e6


def paths() -> list[dict[str, Any]]:
    """What was reached in which time, of everything solved here: [{model, method, path: [[CPU seconds, log10 mean error], ...]}, ...]."""
    return [{"model": model, "method": name, "path": path} for (model, name), path in _PATHS.items()]


_PATHS: dict[tuple[str, str], list[list[float]]] = {}


# -- all of them

def at_most(name: str, passes: float, stretch: float | None = None) -> Part:
    """A number that should be small."""
    return Part(name, "<=", passes, stretch)


def at_least(name: str, passes: float, stretch: float | None = None) -> Part:
    """A number that should be large."""
    return Part(name, ">=", passes, stretch)


def exactly(name: str, value: float) -> Part:
    """A number that is known."""
    return Part(name, "==", value)


GOALS = (
    Goal("G1", "value iteration repeats the published program: iterations, and relative errors of its numbers",
         (exactly("iterations", 257), at_most("sup difference", 1e-8, 0), at_most("check value", 1e-12, 0),
          exactly("policies that differ", 0), at_most("values", 1e-12, 0)), iteration, quick=True),
    Goal("G1'", "check value with rows that sum to one, off 0.1465391436957", (at_most("check value", 5e-14, 0),), corrected, quick=True),
    Goal("G2", "CPU time of the bitwise mode over the C++ program's, one thread", (at_most("ratio", 0.5, 0.3),), iteration_time,
         quick=True),
    Goal("G3", "CPU time of the fast mode over the C++ program's, with the same policy",
         (at_most("ratio", 0.25), at_most("ratio, seeded", 0.05, 0.02), exactly("policies that differ", 0)), fast_iteration_time,
         quick=True),
    Goal("G4", "value iteration on a GPU, end to end, over the C++ program's time", (at_most("ratio", 0.05, 0.02),), one_problem,
         problem=launch.cuda_problem),
    Goal("G5", "1,024 calibrations at once on a GPU, economies per second over the C++ program's", (at_least("ratio", 300, 2_000),),
         many_problems, problem=launch.cuda_problem),
    Goal("G6", "endogenous grid of 400 nodes, d = .9: log10 largest Euler error; time over the C++ program's",
         (at_most("max", -5.9), at_most("ratio", 0.02)), endogenous_grid, quick=True),
    Goal("G7", "Euler residuals by Levenberg-Marquardt, 60 CPU s from the log-linear rule (exact on T1): log10 mean and largest "
         "Euler error on the box",
         (at_most("T1 mean", -12, -15), at_most("T1 max", -11), at_most("T2 mean", -6.5, -7.2), at_most("T2 max", -5.5, -6.2),
          at_most("T3 mean", -8, -9), at_most("T3 max", -7.3, -8.5)), newton),
    Goal("G7'", "the same from a neutral start, T1 20 s, T3 30 s", (at_most("T1 mean", -6.5, -7), at_most("T3 mean", -6.5, -7)),
         newton_neutral),
    Goal("G8", "the same in 10 CPU s from the log-linear rule", (at_most("T2 mean", -5, -5.4), at_most("T3 mean", -6.5, -7.2)),
         newton_short, quick=True),
    Goal("G9", "actor and critic by Levenberg-Marquardt, 60 CPU s", (at_most("T2 mean", -4.5, -5.5),), critic_newton),
    Goal("G10", "neural value iteration by Adam, 60 CPU s", (at_most("T1 mean, neutral start", -2, -2.5), at_most("T2 mean", -2.8, -3.3)),
         value_iteration),
    Goal("G11", "TD3 from scratch, 20,000 annealed steps, median of the last ten evaluations and of three seeds",
         (at_most("T1 mean", -1.5, -2), at_most("T1 distance", 0.02, 0.005)), twin_delayed),
    Goal("G12", "cold starts, one seed: TD3 5,000 steps after actor and critic were started, harm where only the actor was; "
         "structural learning over the log-linear rule",
         (at_most("T1 mean, both started", -1.5), at_least("T1 harm of the actor alone", 0), at_least("T2 gain over the prior", 0, 0.3),
          at_least("T3 gain over the prior", 0, 0.3)), cold_start),
    Goal("G12'", "critic of the state after the choice, 60 CPU s, neutral start, three seeds",
         (at_most("T1 mean, no envelope", -1.9, -2.5), at_most("T1 mean", -2.4, -3.2), at_most("T2 mean", -2.7, -3.2)), structural),
    Goal("G12''", "the same from the log-linear rule (exact on T1: how much learning spoils it), one seed",
         (at_most("T1 mean", -3.6, -5), at_most("T2 mean", -3, -3.5)), structural_prior),
    Goal("G13", "RLlib's SAC and PPO, 20,000 steps, one seed: distance of consumption, share of consumption lost (2,000 paths)",
         (at_most("sac distance", 0.05, 0.02), at_least("sac welfare", -1e-3), at_most("ppo distance", 0.05, 0.02),
          at_least("ppo welfare", -1e-3), at_most("ppo, 130,000 steps, distance", 0.05, 0.02),
          at_least("ppo, 130,000 steps, welfare", -1e-3)), stock),
    Goal("G14", "TD3 with exact expectations, 60 CPU s from the log-linear rule (exact on T1: how much learning spoils it), one seed",
         (at_most("T1 mean", -3.3, -4), at_most("T2 mean", -2.7, -3.5)), model_based),
    Goal("G15", "Krusell and Smith (1998) by endogenous grid, histogram and fitted law; den Haan's errors on the path of the fit, seed 0, "
         "and on three others (median)",
         (at_least("R2", 0.999998), at_most("den Haan max, percent", 0.2), at_most("den Haan mean, percent", 0.06),
          at_most("den Haan max, fresh paths", 0.2), at_most("den Haan mean, fresh paths", 0.06),
          at_most("mean capital off 39.55", 0.15), at_most("CPU seconds", 8, 3)), krusell_smith, quick=True),
    Goal("G16", "the same with one network for all households: distance of consumption, fit of the simulated law, mean capital",
         (at_most("distance", 0.03, 0.01), at_least("R2", 0.999, 0.9999), at_most("mean capital", 0.02, 0.005)), learned_households),
    Goal("G17", "Hercowitz and Sampson (1991), moving depreciation: largest distance of consumption from the closed form",
         (at_most("egm", 1e-6), at_most("vfi", 1e-6), Part("euler-lm", "<=", 1e-9, quick=False)), moving_rate),
    Goal("G18", "a period alike on NumPy, PyTorch, one state after the other and compiled", (at_most("difference", 1e-12),), backends_agree,
         quick=True),
    Goal("G19", "million periods per second, 65,536 households, one thread; the equations alone, shocks drawn beforehand",
         (at_least("numpy", 10), at_least("native", 10, 40)), throughput, quick=True),
)
