"""How fast this machine plays the gather-trade-build world: whole periods of random legal play with all observations, masks and rewards.

A period is what training waits for apart from the networks: draws, random choices among the legal ones, the step, and what everybody sees
next, flat and packed. `batch` adds what arrays for a policy cost: choices decoded, observations in float32, measures, resets. `ppo` adds
the policy and its learning: draws from the network, advantages, one epoch of PPO for all workers, with the map encoder; flat: without
windows of the map; recurrent: with 64 gated recurrent units behind the trunk. Rates are per second of processor time of one core, medians
over interleaved repetitions.
"""
from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from rich.table import Table

import envs
from envs.core.batch import SHOCKS, Batch
from kernels.core import launch
from kernels.core.arrays import adjust
from rllib_macro.bench import _number, blank, processor, versions

NAME, ORIGINAL = "gather_trade_build", "gather_trade_build_original"
FEW, MANY = 4, 10  # agents
REPLICAS = 128
TUTORIAL = {"starting_coin": (10.0,)}  # so that there is something to bid with
ECONOJAX = 4_500.0  # env-steps of 4 agents without a map, played and learned from by that program in a second of processor time
AT_LEAST = {"env_steps_per_second": 300_000.0, "env_steps_per_second_10_agents": 140_000.0, "ppo_env_steps_per_second": 3 * ECONOJAX,
            "ppo_env_steps_per_second_flat": 8 * ECONOJAX}
LEARNER = {"epochs": 1, "minibatches": 16, "network": {"hidden": [64, 64], "activation": "relu", "shared_trunk": True}}
WARM = 20  # periods before anything is measured
QUICK, WHOLE = 10, 400  # periods of one measurement

Play = Callable[[], float]  # -> periods of one replica in a second of processor time


def bench(*, quick: bool = False, replicas: int | None = None, repetitions: int | None = None,
          params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Every number by its name, the bars and whether they are met. Half a minute; `quick` a few seconds."""
    began = time.perf_counter()
    size, compiled = replicas or REPLICAS, "numpy" if launch.native_problem() else "native"
    periods = QUICK if quick else WHOLE
    given = TUTORIAL | dict(params or {})
    plays = {
        "env_steps_per_second": _stepped(given, FEW, size, compiled, periods),
        "env_steps_per_second_10_agents": _stepped(given, MANY, size, compiled, periods),
        "numpy_env_steps_per_second": _stepped(given, FEW, size, "numpy", max(2, periods // 100)),
        "batch_env_steps_per_second": _batched(NAME, given, FEW, size, compiled, max(2, periods // 10)),
        "batch_env_steps_per_second_unpacked": _batched(ORIGINAL, given, FEW, size, compiled, max(2, periods // 10)),
        "ppo_env_steps_per_second": _learned(given, size, compiled, max(2, periods // 4), {}),
        "ppo_env_steps_per_second_flat": _learned({**given, "view_range": 0}, size, compiled, max(2, periods // 4), {"units": 0}),
        "ppo_env_steps_per_second_recurrent": _learned(given, size, compiled, max(2, periods // 4), {}, {"cell": "gru", "units": 64}),
    }
    rates: dict[str, list[float]] = {name: [] for name in plays}
    for repetition in range(repetitions or (2 if quick else 7)):
        for name in list(plays)[::-1 if repetition % 2 else 1]:
            rates[name].append(plays[name]())
    found = {name: median(measured) for name, measured in rates.items()}
    found["agent_steps_per_second"] = FEW * found["env_steps_per_second"]
    return {"economy": NAME, **found, "replicas": size, "backend": compiled, "bars": AT_LEAST,
            "met": {name: found[name] >= bar for name, bar in AT_LEAST.items()}, "quick": quick,
            "repetitions": len(rates["env_steps_per_second"]), "cpu": processor(), "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 2), "versions": versions(), "seconds": round(time.perf_counter() - began, 1)}


def _batch(name: str, given: Mapping[str, Any], agents: int, size: int, backend: str) -> Batch:
    economy = envs.load(name)
    p = adjust(economy.defaults(), **{**given, "n_agents": agents})
    return Batch(economy, p, size, backend=backend, seed=1, rules=dict.fromkeys(economy.agents, "random"))


def _stepped(given: Mapping[str, Any], agents: int, size: int, backend: str, periods: int) -> Play:
    """The kernel alone: draws, random play, step."""
    batch = _batch(NAME, given, agents, size, backend)
    gtb = batch.kernel

    def play(n: int = periods) -> float:
        began = time.process_time()
        with launch.use(backend):
            gtb.draw_shocks(batch.p, batch.s, batch.e, batch.draws(SHOCKS))
            for _ in range(n):
                gtb.draw(batch.p, batch.s, batch.e)
                gtb.play(batch.p, batch.s, batch.a, batch.e)
                gtb.step(batch.p, batch.s, batch.a, batch.e, batch.r)
                batch.e.address[:, 1] += 1
        batch.clock += n
        return n * size / (time.process_time() - began)

    play(min(periods, WARM))
    return play


def _batched(name: str, given: Mapping[str, Any], agents: int, size: int, backend: str, periods: int) -> Play:
    """A Batch as a policy meets it, without the policy."""
    batch = _batch(name, given, agents, size, backend)
    seen = {type_: np.empty((size, n, batch.layout[type_].width), np.float32) for type_, n in batch.count.items()}

    def play() -> float:
        began = time.process_time()
        for _ in range(periods):
            for type_, out in seen.items():
                batch.observe(type_, out)
                batch.legal(type_)
            batch.step({})
        return periods * size / (time.process_time() - began)

    play()
    return play


def _learned(given: Mapping[str, Any], size: int, backend: str, periods: int, encoder: Mapping[str, Any],
             recurrent: Mapping[str, Any] | None = None) -> Play:
    """An iteration of training, the parts of MacroPPO one after the other in this process; the planner is idle."""
    import torch

    from rllib_macro.config import check_against, from_dict
    from rllib_macro.env_runner import Player, make_batch, set_up_torch
    from rllib_macro.evaluate import modules
    from rllib_macro.learner import loss, minibatches, prepare
    from rllib_macro.losses import standardise
    network = {**LEARNER["network"], "map": {"sees": "view", "bits": {"ground": 7}, **encoder},  # type: ignore[dict-item]
               "recurrent": recurrent}
    config = check_against(from_dict({
        "economy": NAME, "replicas": size, "periods": periods, "backend": backend, "params": {**given, "planner_sees_map": False},
        "policies": {"mobile": {**LEARNER, "network": network}, "planner": {"rule": "idle"}}}), envs.load(NAME))
    set_up_torch(config)
    nets, policy = modules(config), config.policies["mobile"]
    player, net = Player(make_batch(config), dict(nets), config), nets["mobile"]
    optimizer, generator = torch.optim.Adam(net.parameters(), lr=3e-4, fused=True), torch.Generator()

    def play() -> float:
        began = time.process_time()
        rollout, _ = player.play(periods, 0)
        columns = prepare(rollout.types["mobile"], FEW, policy, net, generator, torch.device("cpu"))
        columns["advantages"] = standardise(columns["advantages"])
        for rows in minibatches(len(columns["logp"]), policy.minibatches, generator, torch.device("cpu")):
            batch = columns if rows is None else {name: column.index_select(0, rows) for name, column in columns.items()}
            optimizer.zero_grad(set_to_none=True)
            loss(net, batch, policy, 0.02, None)[0].backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(net.parameters(), policy.grad_clip or float("inf"))
            optimizer.step()
        return periods * size / (time.process_time() - began)

    play()
    return play


def table(result: Mapping[str, Any]) -> Table:
    """The result for a person."""
    shown = blank(f"Speed of {NAME}: {result['replicas']} replicas, {FEW} agents where not told; backend {result['backend']}", result)
    for name, bar in result["bars"].items():
        shown.add_row(name.replace("_", " "), _number(result[name]), f"≥ {_number(bar)}", "yes" if result["met"][name] else "no")
    shown.add_section()
    for name in ("agent_steps_per_second", "batch_env_steps_per_second", "batch_env_steps_per_second_unpacked",
                 "numpy_env_steps_per_second", "ppo_env_steps_per_second_recurrent"):
        shown.add_row(name.replace("_", " "), _number(result[name]), "", "")
    return shown


def command(settings: Sequence[str], replicas: int | None, quick: bool, as_json: bool) -> None:
    """`bench gather_trade_build`: a table, or JSON."""
    from rllib_macro.config import check_against, from_dict
    from rllib_macro.terminal import Mistake, asked, console, emit, spelled_out
    with asked():
        changes = spelled_out(list(settings), NAME)
        if other := next((change for change in changes if not change.startswith("params.")), None):
            raise Mistake(f"bench takes Params, such as max_orders=3, and its own options; got {other!r}")
        given = check_against(from_dict({"economy": NAME}, changes), envs.load(NAME)).params
        if "n_agents" in given:
            raise Mistake(f"bench {NAME} measures {FEW} and {MANY} agents; leave n_agents out")
    with console(stderr=True).status(f"measuring {NAME}"):
        measured = bench(quick=quick, replicas=replicas, params=given)
    if as_json:
        return emit(measured)
    console().print(table(measured))
