"""Steps an economy through a recorded trace and says how far it strays from it, quantity by quantity.

`replay("rbc_steps.npz")` reads one file and returns a Report: for each configuration in it, each backend and each quantity the largest
deviation and the tolerance it is held against. A trace is data and may come from anybody: no pickles are read, every name, shape and
number is checked before the economy sees it, and a file that cannot be used raises TraceError with one sentence.

A format is a `Format`: a function that recognises it by its keys, one that steps the economy through it. FORMATS lists them.
"""
from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from envs.core.batch import check_params
from kernels import rbc
from kernels.core import launch
from kernels.core.arrays import Array, adjust, allocate, to_host

Arrays = dict[str, np.ndarray]
LARGEST = float(np.finfo(float).max)  # stands for a deviation that is not finite, which JSON cannot write
UNREADABLE = (OSError, ValueError, EOFError, KeyError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)  # what NumPy may raise


class TraceError(ValueError):
    """A file that cannot be replayed; the text is one sentence that says what to change."""


@dataclass(frozen=True)
class Deviation:
    """One quantity of one configuration on one backend. `ok` means |deviation| <= atol + rtol |recorded| in every entry; `deviation` is
    the largest one, `atol` the largest granted (it may depend on the sizes of what was summed), `step` where most of it was used up."""

    configuration: str
    backend: str
    quantity: str
    deviation: float
    atol: float
    rtol: float
    step: int
    ok: bool


@dataclass(frozen=True)
class Report:
    """What `replay` found."""

    trace: str
    format: str
    real: str
    deviations: tuple[Deviation, ...]

    @property
    def ok(self) -> bool:
        """Whether every quantity stayed within its tolerance."""
        return all(deviation.ok for deviation in self.deviations)

    @property
    def failures(self) -> list[Deviation]:
        """The quantities that did not."""
        return [deviation for deviation in self.deviations if not deviation.ok]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {**dataclasses.asdict(self), "deviations": [dataclasses.asdict(row) for row in self.deviations], "ok": self.ok}


@dataclass(frozen=True)
class Player:
    """Where and in which precision a trace is replayed; `backends` are numpy and native on a CPU, cuda on a GPU."""

    backends: tuple[str, ...]
    xp: Any
    real: np.dtype

    def playing(self, backend: str) -> contextlib.AbstractContextManager:
        """Within the block kernels run on this backend."""
        return contextlib.nullcontext() if backend == "cuda" else launch.use(backend)


@dataclass(frozen=True)
class Format:
    """One kind of trace. `recognises` looks at the keys of a file; `play` checks its content and yields the deviations."""

    name: str
    recognises: Callable[[Arrays], bool]
    play: Callable[[str, Arrays, Player], Iterator[Deviation]]


def replay(path: str | Path, backends: Sequence[str] = ("numpy", "native"), device: str = "cpu", real: str = "float32") -> Report:
    """Step an economy through the trace in `path` on each backend (device=cuda has one, its twins) in the precision `real`.

    Raises TraceError for a file that cannot be replayed, BackendError for a backend or a device that is not here.
    """
    player = _player(backends, device, real)
    arrays = _load(Path(path))
    for format_ in FORMATS:
        if format_.recognises(arrays):
            return Report(str(path), format_.name, real, tuple(format_.play(str(path), arrays, player)))
    raise TraceError(f"{path} has none of the known formats ({', '.join(f.name for f in FORMATS)}); its keys are {_some(arrays)}")


def _player(backends: Sequence[str], device: str, real: str) -> Player:
    if real not in ("float32", "float64"):
        raise ValueError(f"real must be float32 or float64, got {real!r}")
    if device == "cuda":
        if problem := launch.cuda_problem():
            raise launch.BackendError(f"device=cuda: {problem}")
        import cupy
        return Player(("cuda",), cupy, np.dtype(real))
    if device != "cpu":
        raise ValueError(f"device must be cpu or cuda, got {device!r}")
    if "native" in backends and (problem := launch.native_problem()):
        raise launch.BackendError(f"backend=native: {problem}")
    return Player(tuple(backends), np, np.dtype(real))


def _load(file: Path) -> Arrays:
    """Every array of an .npz file, in memory; nothing in it is ever unpickled."""
    if not file.exists():
        raise TraceError(f"there is no trace {file}; give the path of an .npz file")
    try:
        with file.open("rb") as opened:
            kept = np.load(opened, allow_pickle=False)
            arrays = {name: kept[name] for name in kept.files} if isinstance(kept, np.lib.npyio.NpzFile) else {}
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "allow_pickle" in reason:  # NumPy's own advice is to unpickle
            reason = "it is another kind of file, or holds Python objects"
        raise TraceError(f"{file} cannot be read as an .npz file of plain arrays ({reason[:200]}); record or copy it again") from error
    if not arrays or not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise TraceError(f"{file} holds no named arrays; give an .npz file")
    return arrays


def _some(names: Any, most: int = 8) -> str:
    names = sorted(map(str, names))
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "") if names else "none"


def compare(configuration: str, backend: str, quantity: str, got: Array, recorded: np.ndarray, atol: Any, rtol: float) -> Deviation:
    """How far `got` is from what was recorded; axis 0 is the step, `atol` a number or an array that broadcasts."""
    want = recorded.astype(np.float64)
    off = np.nan_to_num(np.abs(to_host(got).astype(np.float64) - want), nan=LARGEST, posinf=LARGEST)
    atol = np.broadcast_to(np.asarray(atol, np.float64), off.shape)
    granted = atol + rtol * np.abs(want)
    with np.errstate(over="ignore"):
        used = off / np.maximum(granted, np.finfo(float).tiny)
    worst = int(np.unravel_index(np.argmax(used), used.shape)[0])
    return Deviation(configuration, backend, quantity, float(off.max()), float(atol.max()), rtol, worst, bool((off <= granted).all()))


# -- steps of the real-business-cycle economy: <configuration>.cfg and arrays <configuration>.<name>, one row for each recorded step

RTOL = 1e-5
# What float32 arithmetic in another order may change, for fields of State and Rewards; 0 stands for equality.
RBC_ATOL: Mapping[str, float] = {
    "price": 0, "wage": 0, "rationed": 0, "income_tax": 0, "corporate_tax": 0, "period": 0, "theta": 0, "labor_share": 0,
    "bought": 1e-5, "inventory": 5e-4, "exported": 5e-4, "budget": 0.05, "firm_budget": 1.0, "consumer": 2e-5, "firm": 0.5,
}
OF_SUMMANDS = 1e-6  # atol of every other quantity, as a share of the largest number that went into it

MOST = 1_000_000  # consumers, firms, periods

RBC_PARAMS = {  # the trace's names of the numbers in Params
    "num_consumers": "n_consumers", "num_firms": "n_firms", "maxtime": "horizon", "interest_rate": "interest", "crra": "crra",
    "tfp": "productivity", "use_importer": "open_economy", "importer_price": "export_price", "importer_quantity": "export_quota",
    "labor_floor": "labor_floor", "consumer_drip": "gift", "consumer_theta": "theta", "pareto_shape": "theta_pareto",
    "initial_consumer_budget": "consumer_budget", "initial_stock": "initial_inventory", "initial_price": "initial_price",
    "initial_wage": "initial_wage",
}
RBC_OTHERS = ("boost_firm_reward", "boost_factor", "initial_firm_budget", "initial_capital", "production_alpha")


def rbc_configurations(arrays: Arrays) -> list[str]:
    """Names X of the configurations recorded in a file as X.cfg, X.in_cs, ..."""
    return sorted(name.removesuffix(".cfg") for name in arrays if name.endswith(".cfg"))


def rbc_params(where: str, text: str) -> rbc.Params:
    """The parameters that a trace's `cfg` describes; TraceError names the key that is missing, unknown or impossible."""
    cfg = _parse(where, text)
    for key in (*RBC_PARAMS, *RBC_OTHERS):
        if key not in cfg:
            raise TraceError(f"{where} lacks {key!r}; record the trace again with every number of its configuration")
    if unknown := set(cfg) - set(RBC_PARAMS) - set(RBC_OTHERS):
        key = min(unknown)
        near = difflib.get_close_matches(key, (*RBC_PARAMS, *RBC_OTHERS), 1)
        raise TraceError(f"{where} has the unknown key {key!r}; " + (f"did you mean {near[0]!r}?" if near else "remove it"))
    for key in (*RBC_PARAMS, "boost_firm_reward", "boost_factor", "initial_firm_budget"):
        if not _is_number(cfg[key]):
            raise TraceError(f"{where}: {key} must be a number, got {cfg[key]!r}")
    for key in ("num_consumers", "num_firms", "maxtime"):
        if cfg[key] != int(cfg[key]) or not 1 <= cfg[key] <= MOST:
            raise TraceError(f"{where}: {key} must be a whole number from 1 to {MOST}, got {cfg[key]!r}")
    try:
        return check_params(adjust(
            rbc.Params(clamp_budget=False),
            **{ours: cfg[theirs] for theirs, ours in RBC_PARAMS.items()},
            boost=cfg["boost_factor"] if cfg["boost_firm_reward"] else 0,
            firm_budget_per_consumer=cfg["initial_firm_budget"] / cfg["num_consumers"],
            initial_capital=_capital(where, cfg["initial_capital"], int(cfg["num_firms"])),
            labor_share=_labor_share(where, cfg["production_alpha"], int(cfg["num_firms"])),
        ))
    except TraceError:
        raise
    except ValueError as error:
        raise TraceError(f"{where}: {error}") from error


def _parse(where: str, text: str) -> dict[str, Any]:
    try:
        cfg = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TraceError(f"{where} is not JSON ({error}); it must be an object of the configuration's numbers") from error
    if not isinstance(cfg, dict):
        raise TraceError(f"{where} must be a JSON object of the configuration's numbers, got {type(cfg).__name__}")
    return cfg


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _capital(where: str, named: Any, firms: int) -> tuple[float, ...]:
    known = {"twolevel": (5000.0, 10000.0), "ones": (1.0,), "proportional": tuple(2 * (i + 1) / 10 for i in range(firms))}
    if not isinstance(named, str) or named not in known:
        raise TraceError(f"{where}: initial_capital must be one of {', '.join(known)}, got {named!r}")
    return known[named]


def _labor_share(where: str, named: Any, firms: int) -> tuple[float, ...]:
    if _is_number(named):
        return (float(named),)
    known = {"fixed_array": (0.2, 0.3, 0.4, 0.6, 0.8), "proportional": tuple(0.2 * (i + 1) for i in range(max(1, firms // 2)))}
    if not isinstance(named, str) or named not in known:
        raise TraceError(f"{where}: production_alpha must be a number or one of {', '.join(known)}, got {named!r}")
    return known[named]


@dataclass(frozen=True)
class RbcSteps:
    """The recorded steps of one configuration: parameters, and arrays with the step as axis 0."""

    name: str
    p: rbc.Params
    arrays: Arrays

    def state(self, side: str) -> Arrays:
        """State fields before (`in`) or after (`out`) each step, taken apart from the rows that the agents saw."""
        F = self.p.n_firms
        consumer, firm, public = (self.arrays[f"{side}_{who}"] for who in ("cs", "fs", "gs"))
        public = public[:, 0]
        return {
            "price": public[:, :F], "wage": public[:, F:2 * F], "inventory": public[:, 2 * F:3 * F], "rationed": public[:, 3 * F:4 * F],
            "income_tax": public[:, 4 * F], "corporate_tax": public[:, 4 * F + 1], "period": public[:, 4 * F + 2],
            "budget": consumer[:, :, 4 * F + 3], "theta": consumer[:, :, 4 * F + 4],
            "firm_budget": firm[:, :, 4 * F + 3], "capital": firm[:, :, 4 * F + 4], "labor_share": firm[:, :, 4 * F + 5],
        }

    def actions(self) -> Arrays:
        """Actions fields of each step, in economic units."""
        F = self.p.n_firms
        consumer, firm, government = (self.arrays[f"act_{who}"] for who in "cfg")
        return {
            "demand": consumer[:, :, :F], "hours": consumer[:, :, F], "employer": consumer[:, :, F + 1],
            "price": firm[:, :, 0], "wage": firm[:, :, 1], "income_tax": government[:, 0], "corporate_tax": government[:, 1],
        }

    def outcome(self) -> Arrays:
        """What each step led to, by the names of State and Rewards."""
        flows = {"bought": "consumed", "exported": "exported", "produced": "produced", "labor": "hours", "demand": "demand",
                 "tax_revenue": "tax", "invested": "invested", "consumer": "rew_c", "firm": "rew_f", "government": "rew_g"}
        return self.state("out") | {ours: self.arrays[theirs] for ours, theirs in flows.items()}


def rbc_steps(where: str, name: str, arrays: Arrays) -> RbcSteps:
    """One configuration of a file, checked; TraceError says what is wrong with it."""
    text = arrays[f"{name}.cfg"]
    if text.dtype.kind != "U" or text.ndim:
        raise TraceError(f"{where}: {name}.cfg must be one string of JSON, got {text.dtype} of shape {text.shape}")
    p = rbc_params(f"{where}: {name}.cfg", str(text))
    N, F = p.n_consumers, p.n_firms
    widths = {"cs": (N, 4 * F + 5), "fs": (F, 5 * F + 6), "gs": (1, 4 * F + 3)}
    shapes = {f"{side}_{who}": width for who, width in widths.items() for side in ("in", "out")} | {
        "act_c": (N, F + 2), "act_f": (F, 3), "act_g": (2,), "consumed": (N, F), "rew_c": (N,), "rew_f": (F,), "rew_g": (), "tax": (),
        **dict.fromkeys(("exported", "produced", "hours", "demand", "invested"), (F,)),
    }
    kept = {key: _numbers(where, name, key, arrays) for key in shapes}
    steps = kept["act_g"].shape[:1]
    if not steps or not steps[0]:
        raise TraceError(f"{where}: {name}.act_g holds no step; record at least one")
    for key, shape in shapes.items():
        if kept[key].shape != steps + shape:
            raise TraceError(f"{where}: {name}.{key} must have shape {steps + shape} for the sizes in {name}.cfg, got {kept[key].shape}")
    employer, shares = kept["act_c"][:, :, F + 1], kept["act_f"][:, :, 2]
    if (employer != np.floor(employer)).any() or employer.min() < 0 or employer.max() >= F:
        raise TraceError(f"{where}: {name}.act_c names employers that are not 0 .. {F - 1}; its last column must hold firms' numbers")
    if (shares != shares.flat[0]).any():
        raise TraceError(f"{where}: {name}.act_f has several investment shares, this economy has one; record the steps of one share")
    return RbcSteps(name, adjust(p, investment_share=round(float(shares.flat[0]), 6)), kept)


def _numbers(where: str, name: str, key: str, arrays: Arrays) -> np.ndarray:
    if f"{name}.{key}" not in arrays:
        raise TraceError(f"{where} lacks {name}.{key}; record the trace again with every array of the format")
    array = arrays[f"{name}.{key}"]
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise TraceError(f"{where}: {name}.{key} must hold finite numbers only; record the trace again")
    return array


def _play_rbc(where: str, arrays: Arrays, player: Player) -> Iterator[Deviation]:
    """All steps of a configuration are taken at once, as replicas of one batch."""
    for name in rbc_configurations(arrays):
        steps = rbc_steps(where, name, arrays)
        for backend in player.backends:
            yield from _compare_rbc(steps, backend, player)


def _compare_rbc(steps: RbcSteps, backend: str, player: Player) -> Iterator[Deviation]:
    p, before, recorded = steps.p, steps.state("in"), steps.outcome()
    s, a, e, r = (allocate(cls, rbc, p, len(recorded["period"]), player.xp, player.real)
                  for cls in (rbc.State, rbc.Actions, rbc.Shocks, rbc.Rewards))
    for fields, values in ((s, before), (a, steps.actions())):
        for field, value in values.items():
            getattr(fields, field)[...] = player.xp.asarray(value)
    with player.playing(backend):
        rbc.step(p, s, a, e, r)
    got = {field: to_host(value) for field, value in (vars(s) | vars(r)).items()}
    summands = _summands(p, before, steps.actions(), got)
    for quantity, want in recorded.items():
        exact = RBC_ATOL.get(quantity) == 0
        atol = RBC_ATOL[quantity] if quantity in RBC_ATOL else OF_SUMMANDS * np.abs(summands[quantity])
        yield compare(steps.name, backend, quantity, got[quantity], want, atol, 0 if exact else RTOL)


def _summands(p: rbc.Params, before: Arrays, actions: Arrays, after: Arrays) -> Arrays:
    """The largest number that goes into each quantity whose tolerance is a share of it."""
    wages = np.take_along_axis(before["wage"], actions["employer"].astype(int), 1) * actions["hours"]
    payments = before["income_tax"] * wages.max(1)
    taxes = before["corporate_tax"] * np.maximum(after["profit"], 0).max(1)
    welfare = (RBC_ATOL["consumer"] * p.n_consumers + p.firm_reward_weight * RBC_ATOL["firm"] * p.n_firms) / OF_SUMMANDS
    return {
        "capital": np.maximum(before["capital"], after["invested"]), "produced": after["produced"], "demand": after["basket"].max(1),
        "labor": actions["hours"].max(1)[:, None], "tax_revenue": np.maximum(payments, taxes),
        "invested": p.investment_share * np.maximum(after["revenue"], after["wage_bill"]),
        "government": np.full(len(before["period"]), welfare),  # the sum of what each reward may be off
    }


def _play_gather_trade_build(where: str, arrays: Arrays, player: Player) -> Iterator[Deviation]:
    from rllib_macro import replay_gather_trade_build
    return replay_gather_trade_build.play(where, arrays, player)


FORMATS = (
    Format("rbc steps", lambda arrays: bool(rbc_configurations(arrays)), _play_rbc),
    Format("gather-trade-build episode", {"act/agents", "act/planner", "s/inv", "rew"}.issubset, _play_gather_trade_build),
)
