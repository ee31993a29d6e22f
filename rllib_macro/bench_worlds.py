"""How fast this machine plays an economy with books: whole periods of scripted play, small and large, and what keeping the audit on costs.

A period is everything that training waits for apart from the networks: scripts, draws, the step, measures. Rates are per second of
processor time of one core, medians over interleaved repetitions.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import Any

from rich.table import Table

import envs
from envs.core.batch import Batch
from kernels.core.arrays import adjust
from rllib_macro.audit import Auditor
from rllib_macro.bench import _number, backends, blank, processor, versions
from rllib_macro.config import check_against, from_dict

SMALL = {"n_consumers": 2000, "n_firms": 200, "n_banks": 4}  # with government and central bank 2,206 agents
LARGE = {"n_consumers": 100_000, "n_firms": 5000, "n_banks": 4}  # 105,006 agents
REPLICAS = 8
AT_LEAST = {"env_agent_steps_per_second": 3e6, "large_steps_per_second": 40.0}
AT_MOST = {"audit_cost": 0.15, "cost_per_agent_large_over_small": 1.5}
WARM = 3  # periods before anything is measured

Play = Callable[[], float]  # -> seconds of processor time of some periods


def bench(economy: str, *, quick: bool = False, repetitions: int | None = None, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every number by its name, the bars and whether they are met. Half a minute; `quick` a few seconds."""
    began = time.perf_counter()
    config = check_against(from_dict({"economy": economy, "params": dict(params or {})}), envs.load(economy))
    compiled = backends(config)[-1]
    periods, large_periods = (10, 2) if quick else (50, 10)
    given = dict(config.params)
    batches = {f"small_{backend}": _world(economy, SMALL | given, REPLICAS, backend) for backend in backends(config)}
    batches["audited"] = _world(economy, SMALL | given, REPLICAS, compiled)
    batches["audited"].watch = Auditor(batches["audited"])
    batches["large"] = _world(economy, (LARGE if not quick else SMALL) | given, 1, compiled)
    lengths = dict.fromkeys(batches, periods) | {"large": large_periods}
    seconds = _interleaved({name: _play(batch, lengths[name]) for name, batch in batches.items()}, repetitions or (2 if quick else 9))
    rate = {name: median(lengths[name] * batch.size * sum(batch.count.values()) / s for s in seconds[name]) for name,
            batch in batches.items()}
    plain = seconds[f"small_{compiled}"]
    found: dict[str, Any] = {
        "economy": economy, "agents": batches["large"].count, "small_agents": batches["audited"].count, "replicas": REPLICAS,
    "backend": compiled,
        "env_agent_steps_per_second": rate[f"small_{compiled}"],
        "numpy_agent_steps_per_second": rate["small_numpy"],
        "large_agent_steps_per_second": rate["large"],
        "large_steps_per_second": median(large_periods / s for s in seconds["large"]),
        "audit_cost": median(on / off for on, off in zip(seconds["audited"], plain, strict=True)) - 1,
        "cost_per_agent_large_over_small": rate[f"small_{compiled}"] / rate["large"],
    }
    met = {name: found[name] >= bar for name, bar in AT_LEAST.items()} | {name: found[name] <= bar for name, bar in AT_MOST.items()}
    return found | {"violations": batches["audited"].watch.finding.violations, "bars": AT_LEAST | AT_MOST, "met": met, "quick": quick,
                    "repetitions": len(plain), "cpu": processor(), "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2),
                    "versions": versions(), "seconds": round(time.perf_counter() - began, 1)}


def _world(economy: str, sizes: Mapping[str, Any], replicas: int, backend: str) -> Batch:
    """Scripted play that never ends, some periods old."""
    known = envs.load(economy)
    endless = replace(known, horizon=10**9, warm_up=0)
    batch = Batch(endless, adjust(known.kernel.Params(), **sizes), replicas, backend=backend, rules=dict.fromkeys(known.agents, "scripted"))
    for _ in range(WARM):
        batch.step({})
    return batch


def _play(batch: Batch, periods: int) -> Play:
    def measure() -> float:
        started = time.process_time()
        for _ in range(periods):
            batch.step({})
        return time.process_time() - started
    return measure


def _interleaved(plays: Mapping[str, Play], repetitions: int) -> dict[str, list[float]]:
    """Seconds of each, {name: [one for each repetition]}; every repetition measures all, there or back."""
    seconds: dict[str, list[float]] = {name: [] for name in plays}
    for repetition in range(repetitions):
        for name in list(plays)[::-1 if repetition % 2 else 1]:
            seconds[name].append(plays[name]())
    return seconds


def table(result: Mapping[str, Any]) -> Table:
    """The result for a person."""
    shown = blank(f"Speed of {result['economy']}: {REPLICAS} x {sum(result['small_agents'].values()):,} agents, "
                  f"1 x {sum(result['agents'].values()):,}; backend {result['backend']}", result)
    for name, bar in result["bars"].items():
        shown.add_row(name.replace("_", " "), _number(result[name]), f"{'≥' if name in AT_LEAST else '≤'} {_number(bar)}",
                      "yes" if result["met"][name] else "no")
    shown.add_section()
    for name in ("numpy_agent_steps_per_second", "large_agent_steps_per_second"):
        shown.add_row(name.replace("_", " "), _number(result[name]), "", "")
    return shown
