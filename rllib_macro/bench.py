"""How fast this machine plays and trains an economy, beside stock RLlib and a bare PyTorch loop with the same arithmetic.

Everything is measured in one run, in turn, so that a busy machine slows all of it alike; rates are agent-steps per second of processor
time of one core, medians over the repetitions. All train two passes with 2 x 64 networks on scaled observations.
"""
from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from rich.table import Table

import envs
from envs.core.batch import Batch
from kernels.core import launch
from kernels.core.launch import Kernel
from rllib_macro import schedule, train
from rllib_macro.bare import BareLoop
from rllib_macro.config import RunConfig, check_against, from_dict, to_dict
from rllib_macro.env import MacroEnv
from rllib_macro.env_runner import fixed_params
from rllib_macro.policies import policy_of

ROOT = Path(__file__).parents[1]
AT_LEAST = {"ratio_sampling_vs_stock": 25.0, "ratio_training_vs_stock": 8.0, "ratio_training_vs_bare": 0.93,
            "env_agent_steps_per_second": 4e6, "native_agent_steps_per_second": 8e6}
AT_MOST = {"peak_rss_gb": 2.0, "first_iteration_seconds": 20.0}
EPOCHS, ROWS = 2, 4096  # passes over an iteration's rows, and rows of a minibatch
STOCK = ((8, 20, 1024), (32, 10, ROWS))  # environments, periods of each, rows of a minibatch: the settings that suit stock RLlib best
KERNEL_REPLICAS, KERNEL_SECONDS = 64, 0.3
PATIENCE = 150.0  # seconds after which no further repetition begins, once there are three

Measurement = Callable[[], tuple[float, float]]  # -> agent-steps, seconds of processor time


def bench(economy: str, *, quick: bool = False, replicas: int | None = None, repetitions: int | None = None,
          params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every number by its name, the bars and whether they are met. Three to five minutes; `quick` is a rough look in half of one.

    A rate that this machine cannot offer (no compiler, no twin) is None.
    """
    began = time.perf_counter()
    config = run_config(economy, replicas or (32 if quick else 128), params or {})
    found: dict[str, Any] = {"economy": economy, **_setting(config)}
    found |= command(config)
    rates = interleaved(config, repetitions or (1 if quick else 8), STOCK[:1] if quick else STOCK)
    found |= ratios(rates)
    found |= {"bars": AT_LEAST | AT_MOST, "met": {name: _met(name, found[name]) for name in (*AT_LEAST, *AT_MOST)}}
    return found | {"quick": quick, "repetitions": len(rates["batched_training"]), "cpu": processor(), "cores": os.cpu_count(),
                    "load": round(os.getloadavg()[0], 2), "versions": versions(), "seconds": round(time.perf_counter() - began, 1)}


def run_config(economy: str, replicas: int, params: Mapping[str, Any]) -> RunConfig:
    """What is trained: every type two passes in minibatches of about 4,096 rows, the rest by default."""
    known = envs.load(economy)
    plain = check_against(from_dict({"economy": economy, "replicas": replicas, "params": dict(params)}), known)
    p = fixed_params(plain)
    rows = {type_: replicas * known.periods(p) * agent.number(p) for type_, agent in known.agents.items()}
    policies = {type_: {"epochs": EPOCHS, "minibatches": max(1, round(n / ROWS))} for type_, n in rows.items()}
    return check_against(from_dict(to_dict(plain) | {"policies": policies}), known)


# -- in this process

def interleaved(config: RunConfig, repetitions: int, stock: Sequence[tuple[int, int, int]] = STOCK) -> dict[str, list[float]]:
    """Agent-steps per second of processor time, {name: [one for each repetition]}; every repetition measures all, there or back."""
    rates: dict[str, list[float]] = {}
    with train.algorithm(config) as algo, contextlib.ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        measurements = {f"{backend}_step": kernel_step(config, backend) for backend in backends(config)}
        measurements |= batched(algo, config) | bare(config)
        for number, setting in enumerate(stock):
            measurements |= stock_rllib(config, number, setting, stack)
        for measure in measurements.values():  # the first call compiles, allocates and warms caches
            measure()
        began = time.perf_counter()
        for repetition in range(repetitions):
            if repetition >= 3 and time.perf_counter() - began > PATIENCE:
                break
            for name in list(measurements)[::-1 if repetition % 2 else 1]:
                agent_steps, seconds = measurements[name]()
                rates.setdefault(name, []).append(agent_steps / seconds)
    return rates


def backends(config: RunConfig) -> list[str]:
    """numpy, and native where the economy has a twin and this machine a compiler."""
    twin = isinstance(envs.load(config.economy).kernel.step, Kernel)
    return ["numpy", "native"] if twin and launch.native_problem() is None else ["numpy"]


def kernel_step(config: RunConfig, backend: str) -> Measurement:
    """The kernel's step alone, in float32, with the choices of an episode of random play made beforehand."""
    economy = envs.load(config.economy)
    batch = Batch(economy, fixed_params(config), KERNEL_REPLICAS, backend=backend, rules=dict.fromkeys(economy.agents, "random"))
    batch.reset()
    episode = []
    for _ in range(economy.periods(batch.p)):
        batch.step({})
        episode.append((_copy(batch.a), _copy(batch.e)))
    agent_steps = KERNEL_REPLICAS * len(episode) * sum(batch.count.values())

    def measure() -> tuple[float, float]:
        played, seconds = 0, 0.0
        while seconds < KERNEL_SECONDS:
            batch.reset()
            with launch.use(backend):
                started = time.process_time()
                for actions, shocks in episode:
                    batch.kernel.step(batch.p, batch.s, actions, shocks, batch.r)
                seconds += time.process_time() - started
            played += agent_steps
        return played, seconds
    return measure


def batched(algo: Any, config: RunConfig) -> dict[str, Measurement]:
    """MacroPPO: its runner's sample, and whole iterations."""
    runner = algo.env_runner

    def sample() -> tuple[float, float]:
        rollouts, seconds = _timed(runner.sample)
        runner.get_metrics()
        return sum(rollout.agent_steps() for rollout in rollouts), seconds

    per_iteration = _agent_steps(config)
    return {"batched_sampling": sample, "batched_training": lambda: (per_iteration, _timed(algo.train)[1])}


def bare(config: RunConfig) -> dict[str, Measurement]:
    """The bare loop: an episode, and whole iterations."""
    loop, now, per_iteration = BareLoop(config), schedule.plan(config, 0), _agent_steps(config)
    return {"bare_training": lambda: (per_iteration, _timed(loop.train)[1]),
            "bare_sampling": lambda: (per_iteration, _timed(lambda: loop.play(now))[1])}


def stock_rllib(config: RunConfig, number: int, setting: tuple[int, int, int], stack: contextlib.ExitStack) -> dict[str, Measurement]:
    """RLlib's own PPO and env runner on MacroEnv: sampling, and whole iterations. `stack` stops it."""
    from ray.rllib.algorithms.ppo import PPOConfig
    environments, periods, minibatch = setting
    hidden = _setting(config)["hidden"]
    stock = (
        PPOConfig()
        .environment(MacroEnv, env_config={"economy": config.economy, "params": dict(config.params)}, disable_env_checking=True)
        .framework("torch")
        .multi_agent(policies=set(config.policies), policy_mapping_fn=policy_of)
        .rl_module(model_config={"fcnet_hiddens": hidden, "fcnet_activation": "tanh", "vf_share_layers": False})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=environments, rollout_fragment_length="auto")
        .training(train_batch_size_per_learner=environments * periods, num_epochs=EPOCHS, minibatch_size=minibatch)
        .debugging(seed=config.seed, log_level="ERROR")
        .experimental(_validate_config=False)  # it would compare a minibatch's agent-steps with a batch's env-steps
    )
    algo = stock.build_algo()
    stack.callback(algo.stop)
    steps = environments * periods
    per_iteration = steps * sum(len(agents) for agents in MacroEnv(stock.env_config).types.values())

    def sample() -> tuple[float, float]:
        episodes, seconds = _timed(lambda: algo.env_runner.sample(num_timesteps=steps))
        algo.env_runner.get_metrics()
        return sum(episode.agent_steps() for episode in episodes), seconds

    return {f"stock_sampling_{number}": sample, f"stock_training_{number}": lambda: (per_iteration, _timed(algo.train)[1])}


def ratios(rates: Mapping[str, list[float]]) -> dict[str, Any]:
    """Medians of rates and of ratios within each repetition; stock stands with its better setting."""
    best = {}
    for what in ("sampling", "training"):
        best[what] = max((of for name, of in rates.items() if name.startswith(f"stock_{what}")), key=median)

    def against(what: str, other: list[float]) -> float:
        return median(a / b for a, b in zip(rates[f"batched_{what}"], other, strict=True))

    found: dict[str, Any] = {
        "ratio_sampling_vs_stock": against("sampling", best["sampling"]),
        "ratio_training_vs_stock": against("training", best["training"]),
        "ratio_training_vs_bare": against("training", rates["bare_training"]),
        "env_agent_steps_per_second": median(rates["numpy_step"]),
        "native_agent_steps_per_second": median(rates["native_step"]) if "native_step" in rates else None,
    }
    for what in ("sampling", "training"):
        for who, of in (("batched", rates[f"batched_{what}"]), ("bare", rates[f"bare_{what}"]), ("stock", best[what])):
            found[f"{who}_{what}_agent_steps_per_cpu_second"] = median(of)
    return found


# -- in a process of its own

def command(config: RunConfig) -> dict[str, Any]:
    """A short `train` of the economy's own configuration: seconds until its first iteration is through, and peaks of memory in GB.

    `ray_rss_gb` is what Ray's own processes hold together, pages that they share counted several times.
    """
    file = ROOT / "tune_configs" / f"{config.economy}.yaml"
    with tempfile.TemporaryDirectory() as folder:
        if not file.is_file():
            file = Path(folder) / "bench.yaml"
            file.write_text(f"economy: {config.economy}\n")
        changes = {"name": "bench", "replicas": config.replicas, "stop.iterations": 3, "checkpoint.every": 0, "log.episode_every": 0,
                   "evaluation.replicas": 4, "evaluation.seeds": [0], **{f"params.{name}": value for name, value in config.params.items()}}
        words = [sys.executable, "-m", "rllib_macro", "train", str(file), *(f"{key}={value}" for key, value in changes.items())]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        with (Path(folder) / "log").open("w+") as log:
            started = time.perf_counter()
            child = psutil.Popen(words, cwd=folder, stdout=log, stderr=log, env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
            first, peak, of_ray = math.nan, 0, 0
            while child.poll() is None:
                rows = Path(folder) / "runs" / "bench" / "result.json"
                if math.isnan(first) and rows.is_file() and rows.stat().st_size:
                    first = time.perf_counter() - started
                peak, of_ray = max(peak, _peak_memory(child.pid)), max(of_ray, _memory_below(child))
                time.sleep(0.05)
            if child.returncode:
                log.seek(0)
                raise RuntimeError(f"{' '.join(words[1:5])} failed: {log.read()[-2000:]}")
    return {"peak_rss_gb": peak / 1e9 or None, "ray_rss_gb": of_ray / 1e9, "first_iteration_seconds": first}


def _peak_memory(pid: int) -> int:
    """Most bytes that a process has held in memory so far; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    return 0


def _memory_below(process: psutil.Process) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                total += child.memory_info().rss
    return total


# -- what a reader wants to know beside the numbers

def table(result: Mapping[str, Any]) -> Table:
    """The result for a person: what has a bar above, the rates behind it below."""
    agents = ", ".join(f"{n} {type_}" for type_, n in result["agents"].items())
    shown = blank(f"Speed of {result['economy']} ({agents}; {result['replicas']} replicas)", result)
    for name, bar in result["bars"].items():
        sign, met = "≥" if name in AT_LEAST else "≤", {True: "yes", False: "no", None: ""}[result["met"][name]]
        shown.add_row(_words(name), _number(result[name]), f"{sign} {_number(bar)}", met)
    shown.add_section()
    for name in result:
        if name.endswith("_per_cpu_second") or name == "ray_rss_gb":
            shown.add_row(_words(name), _number(result[name]), "", "")
    return shown


def blank(title: str, result: Mapping[str, Any]) -> Table:
    """An empty table of quantities, with what they were measured on below."""
    shown = Table(title=title,
                  caption=(f"{result['cpu']}, {result['cores']} cores, load {result['load']}; medians of {result['repetitions']} "
                                        f"repetitions in {result['seconds']:.0f} s"))
    shown.add_column("quantity")
    for heading in ("measured", "bar", "met"):
        shown.add_column(heading, justify="right")
    return shown


def _words(name: str) -> str:
    return name.replace("_", " ").replace("rss gb", "memory, GB").replace(" per cpu second", " / CPU-s").replace(" per second", " / s")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def processor() -> str:
    """Name of the processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    libraries = {name: importlib.metadata.version(name) for name in ("ray", "torch", "numpy")}
    compiler = launch.find_compiler()
    if compiler:
        said = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
        libraries["compiler"] = said.splitlines()[0] if said else compiler
    return {"python": platform.python_version(), **libraries}


def _setting(config: RunConfig) -> dict[str, Any]:
    economy, p = envs.load(config.economy), fixed_params(config)
    policy = config.policies[next(iter(config.policies))]
    return {"agents": {type_: agent.number(p) for type_, agent in economy.agents.items()}, "periods": economy.periods(p),
            "replicas": config.replicas, "features": config.features, "hidden": list(policy.network.hidden), "epochs": EPOCHS,
            "rows_per_minibatch": ROWS, "torch_threads": config.resources.torch_threads}


def _agent_steps(config: RunConfig) -> int:
    setting = _setting(config)
    return config.replicas * setting["periods"] * sum(setting["agents"].values())


def _timed(act: Callable[[], Any]) -> tuple[Any, float]:
    started = time.process_time()
    result = act()
    return result, time.process_time() - started


def _copy(arrays: Any) -> Any:
    return type(arrays)(**{name: np.copy(array) for name, array in vars(arrays).items()})


def _met(name: str, value: float | None) -> bool | None:
    if value is None:
        return None
    return value >= AT_LEAST[name] if name in AT_LEAST else value <= AT_MOST[name]
