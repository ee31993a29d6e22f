"""Business-cycle statistics of US data and of the monetary economy, by the same code.

A sample is {name: (..., T)} of quarterly series, one history (T,) or replicas (R, T). `from_model` and `from_fredqd` give the same
names and units; `moments` gives the 59 statistics of data/us_moments.json, which says what their names mean. Time is the last axis.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas
from scipy.linalg import solveh_banded
from statsmodels.tsa.filters.cf_filter import cffilter

Array = np.ndarray[Any, Any]
Sample = dict[str, Array]
Filter = Literal["hp", "band"]

QUANTITIES = ("output", "consumption", "investment", "inventory_change", "hours", "employment", "real_wage", "real_credit", "vacancies")
SHARES = ("unemployment", "inflation", "inflation_4q", "policy_rate", "loan_spread", "capacity_use")  # rates a year
MODEL = (*QUANTITIES, *SHARES)  # the series that an economy measures
FREDQD = {  # series of a sample: its column in FRED-QD
    "output": "GDPC1", "consumption": "PCECC96", "investment": "GPDIC1", "fixed_investment": "FPIx", "hours": "HOANBS",
    "employment": "CE16OV", "real_wage": "COMPRNFB", "productivity": "OPHNFB", "vacancies": "HWIx", "unemployment": "UNRATE",
    "policy_rate": "FEDFUNDS", "loan_spread": "BAA10YM", "capacity_use": "CUMFNS", "inventories": "A014RE1Q156NBEA",
}
LOG_CYCLES = {"y": "output", "c": "consumption", "i": "investment", "fi": "fixed_investment", "h": "hours", "e": "employment",
              "w": "real_wage", "pr": "productivity", "cr": "real_credit", "v": "vacancies", "lu": "unemployment"}
CYCLES = {"uh": "unemployment", "pih": "inflation", "ffh": "policy_rate", "dvh": "inventories"}
LEVELS = {"u": "unemployment", "pi": "inflation", "pi4": "inflation_4q", "ff": "policy_rate", "baa": "loan_spread", "tcu": "capacity_use"}
PERSISTENT = ("y", "c", "i", "h", "cr", "uh", "pi", "u", "ff", "g")  # whose first-order autocorrelation is among the 59
LAGS = 4  # quarters at the start of a sample that only serve as the past of others
SHORTEST = 40  # quarters of which moments are taken
TINY = 1e-9  # stands for a level that is zero or negative where a logarithm is taken
ROUNDING = 1e-10  # a variation that is smaller, relative to the level, is none


# --- samples ----------------------------------------------------------------------------------------------------------


def from_model(series: Mapping[str, Any]) -> Sample:
    """The sample of series (..., T) named as in MODEL: shares become percent, investment includes inventories, productivity = output/hours.

    A replica in which any series is not finite is NaN throughout, so that it has no moments. ValueError if a series is missing.
    """
    missing = [name for name in MODEL if name not in series]
    if missing:
        raise ValueError(f"the series lack {', '.join(missing)}; measure them under these names")
    s = {name: np.asarray(series[name], float) for name in MODEL}
    with np.errstate(all="ignore"):
        sample = {name: s[name] for name in QUANTITIES} | {name: 100 * s[name] for name in SHARES}
        sample |= {
            "fixed_investment": s["investment"],
            "investment": s["investment"] + s["inventory_change"],
            "productivity": s["output"] / s["hours"],
            "inventories": 100 * sample.pop("inventory_change") / s["output"],
        }
    finite = np.all([np.isfinite(x).all(-1, keepdims=True) for x in sample.values()], axis=0)
    return {name: np.where(finite, x, np.nan) for name, x in sample.items()}


def from_fredqd(frame: pandas.DataFrame, first: str, last: str) -> Sample:
    """The sample of the quarters first to last ("1959Q2") of a FRED-QD file read by pandas.read_csv; series (T,).

    Real credit is commercial and industrial, real-estate and consumer bank credit in constant prices. Inflation is that of the GDP
    deflator, 400 dln P; over four quarters it is NaN in 1959, before which the file has no prices.
    """
    rows = frame[~frame["sasdate"].isin(["factors", "transform"])]
    quarters = pandas.PeriodIndex(pandas.to_datetime(rows["sasdate"], format="%m/%d/%Y"), freq="Q")
    rows = rows.drop(columns="sasdate").astype(float).set_index(quarters)
    credit = rows["BUSLOANSx"] + rows["REALLNx"] + rows["TOTALSLx"] / 1000  # the last is in millions
    prices = 100 * np.log(rows["GDPCTPI"])
    columns = {name: rows[code] for name, code in FREDQD.items()}
    columns |= {"real_credit": credit, "inflation": 4 * prices.diff(), "inflation_4q": prices.diff(4)}
    return {name: column.loc[first:last].to_numpy() for name, column in columns.items()}


# --- cycles -----------------------------------------------------------------------------------------------------------


def cycle(x: Array, filter: Filter = "hp") -> Array:
    """Deviations from trend: Hodrick-Prescott, or the band of 6 to 32 quarters; exactly zero for a constant."""
    x = np.asarray(x, float)
    found = hodrick_prescott(x) if filter == "hp" else band_pass(x)
    flat = np.abs(found).max(-1, keepdims=True) <= ROUNDING * np.abs(x).max(-1, keepdims=True)
    return np.where(flat, 0.0, found)


def hodrick_prescott(x: Array, penalty: float = 1600.0) -> Array:
    """x - (I + penalty D'D)^-1 x,  D second differences (Hodrick and Prescott, 1997): statsmodels' hpfilter for all rows at once."""
    n = x.shape[-1]
    second = np.diff(np.eye(n), 2, axis=0)
    matrix = np.eye(n) + penalty * second.T @ second
    bands = np.stack([np.r_[np.zeros(k), np.diagonal(matrix, k)] for k in (2, 1, 0)])
    trend = solveh_banded(bands, x.reshape(-1, n).T, check_finite=False).T
    return x - trend.reshape(x.shape)


def band_pass(x: Array, low: int = 6, high: int = 32) -> Array:
    """The oscillations of low to high quarters, by the filter of Christiano and Fitzgerald (2003), which keeps every quarter."""
    n = x.shape[-1]
    return np.asarray(cffilter(x.reshape(-1, n).T, low, high).cycle).reshape(n, -1).T.reshape(x.shape)


def lag(x: Array, k: int) -> Array:
    """x of k quarters ago, NaN in the first k quarters."""
    return np.concatenate([np.full((*x.shape[:-1], k), np.nan), x[..., :-k]], -1)


def growth(x: Array, k: int) -> Array:
    """100 (ln x - ln x of k quarters ago), NaN in the first k quarters."""
    logs = 100 * np.log(np.maximum(x, TINY))
    return logs - lag(logs, k)


# --- statistics -------------------------------------------------------------------------------------------------------


def moments(sample: Mapping[str, Array], filter: Filter = "hp") -> dict[str, Array]:
    """The 59 statistics of a sample, {name: (...)}, in the order of data/us_moments.json; NaN where one is not defined.

    Not defined is, say, a correlation with something constant. The first four quarters only serve as lags. ValueError below 40 quarters.
    """
    return _statistics(_columns(sample, filter))


def standard_errors(sample: Mapping[str, Array], *, draws: int = 400, block: int = 20, seed: int = 0,
                    filter: Filter = "hp") -> dict[str, float]:
    """Standard deviation of each of the 59 over `draws` circular block bootstraps of one history (T,), blocks of `block` quarters.

    Quarters are drawn together with their filtered values and lags, so the filter runs once and no pair straddles two blocks.
    """
    columns = _columns(sample, filter)
    n = columns["y"].shape[-1]
    starts = np.random.default_rng(seed).integers(0, n, (draws, -(-n // block)))
    quarters = ((starts[..., None] + np.arange(block)) % n).reshape(draws, -1)[:, :n]
    drawn = _statistics({name: column[quarters] for name, column in columns.items()})
    return {name: float(values[~np.isnan(values)].std()) if not np.isnan(values).all() else np.nan for name, values in drawn.items()}


def _columns(sample: Mapping[str, Array], filter: Filter) -> dict[str, Array]:
    """Everything that statistics are taken of, {name: (..., T - 4)}: cycles, levels, growth, and lags as name-k."""
    if sample["output"].shape[-1] < SHORTEST:
        raise ValueError(f"moments need {SHORTEST} quarters or more, got {sample['output'].shape[-1]}; play longer or drop fewer")
    logs = {k: 100 * np.log(np.maximum(sample[name], TINY)) for k, name in LOG_CYCLES.items()}
    cyclical = logs | {k: sample[name] for k, name in CYCLES.items()}
    t = dict(zip(cyclical, cycle(np.stack(list(cyclical.values())), filter)))
    t |= {k: sample[name] for k, name in LEVELS.items()}
    t |= {"g": growth(sample["output"], 1), "g4": growth(sample["output"], 4)}
    t |= {"gc": growth(sample["real_credit"], 1), "gc4": growth(sample["real_credit"], 4)}
    t |= {"du": t["u"] - lag(t["u"], 1), "dpi4": t["pi4"] - lag(t["pi4"], 4)}
    t |= {"u last year": (t["u"] + lag(t["u"], 1) + lag(t["u"], 2) + lag(t["u"], 3)) / 4}
    t |= {"y-2": lag(t["y"], 2), "y-4": lag(t["y"], 4)}
    t |= {f"{k}-1": lag(t[k], 1) for k in PERSISTENT}
    return {k: x[..., LAGS:] for k, x in t.items()}


@np.errstate(invalid="ignore", divide="ignore")
def _statistics(t: Mapping[str, Array]) -> dict[str, Array]:
    """The 59, of columns (..., T); std is sqrt(mean (x - mean)^2)."""
    std_y = _std(t["y"])
    found = {"std y": std_y}
    found |= {f"rel {k}": _std(t[k]) / std_y for k in ("c", "i", "fi", "h", "e", "w", "pr", "cr")}
    found |= {f"ac1 {k}": _corr(t[k], t[f"{k}-1"]) for k in ("y", "c", "i", "h", "cr", "uh")}
    found |= {f"corr {k},y": _corr(t[k], t["y"]) for k in ("c", "i", "fi", "h", "e", "w", "pr", "cr", "uh", "pih", "ffh", "dvh", "v")}
    found |= {f"corr cr(+{k}),y": _corr(t["cr"], t[f"y-{k}"]) for k in (2, 4)}
    found |= {"std uh": _std(t["uh"]), "std ln u": _std(t["lu"]), "std ln v": _std(t["v"]), "corr u,v": _corr(t["lu"], t["v"])}
    found |= {"okun HP": _slope(t["y"], t["uh"]), "okun diff": _slope(t["g"], t["du"]), "phillips acc": _slope(t["u last year"], t["dpi4"])}
    found |= {"mean pi": t["pi"].mean(-1), "std pi4": _std(t["pi4"]), "ac1 pi": _corr(t["pi"], t["pi-1"])}
    found |= {"mean u": t["u"].mean(-1), "std u": _std(t["u"]), "ac1 u": _corr(t["u"], t["u-1"])}
    found |= {"mean ff": t["ff"].mean(-1), "std ff": _std(t["ff"]), "ac1 ff": _corr(t["ff"], t["ff-1"])}
    found |= {"share ff<0.25": _share(t["ff"], 0.25)}
    found |= {"mean g (ann)": 4 * t["g"].mean(-1), "std g q": _std(t["g"]), "ac1 g": _corr(t["g"], t["g-1"])}
    found |= {"std g4": _std(t["g4"]), "skew g4": _standardised(t["g4"], 3), "kurt g4": _standardised(t["g4"], 4)}
    found |= {"share g<0": _share(t["g"], 0), "std 4q credit growth": _std(t["gc4"])}
    found |= {"corr gc,g (1q)": _corr(t["gc"], t["g"]), "corr gc4,g4": _corr(t["gc4"], t["g4"])}
    return found | {"mean baa-10y": t["baa"].mean(-1), "mean tcu": t["tcu"].mean(-1)}


def _centred(x: Array) -> Array:
    """x - mean, exactly zero for a constant."""
    deviation = x - x.mean(-1, keepdims=True)
    flat = np.abs(deviation).max(-1, keepdims=True) <= ROUNDING * np.abs(x).max(-1, keepdims=True)
    return np.where(flat, 0.0, deviation)


def _std(x: Array) -> Array:
    return np.sqrt((_centred(x) ** 2).mean(-1))


def _corr(x: Array, y: Array) -> Array:
    return (_centred(x) * _centred(y)).mean(-1) / (_std(x) * _std(y))


def _slope(x: Array, y: Array) -> Array:
    """Least-squares slope of y on x over the quarters in which both are known."""
    known = ~np.isnan(x + y)
    n = known.sum(-1, keepdims=True)
    dx, dy = (np.where(known, z - np.where(known, z, 0).sum(-1, keepdims=True) / n, 0) for z in (x, y))
    dx = np.where(np.abs(dx).max(-1, keepdims=True) <= ROUNDING * np.abs(np.where(known, x, 0)).max(-1, keepdims=True), 0, dx)
    return (dx * dy).sum(-1) / (dx**2).sum(-1)


def _standardised(x: Array, power: int) -> Array:
    return (_centred(x) ** power).mean(-1) / _std(x) ** power


def _share(x: Array, below: float) -> Array:
    return np.where(np.isnan(x).any(-1), np.nan, (x < below).mean(-1))


# --- what the ancestor's metrics need besides -------------------------------------------------------------------------


@dataclass(frozen=True)
class Recession:
    """A fall of output over two quarters or more, from peak to trough.

    quarters: its length; depth, recovery: 100 ln of peak over trough, of output four quarters later over trough (NaN past the end);
    unemployment_rise, rate_cut: from the peak to the highest, lowest value until four quarters after the trough, in points.
    """

    replica: int
    quarters: int
    depth: float
    recovery: float
    unemployment_rise: float
    rate_cut: float


def recessions(sample: Mapping[str, Array]) -> list[Recession]:
    """Every spell of two or more quarters of falling output, in the order of replicas and time; one that is cut off by the end counts."""
    output, unemployment, rate = (np.atleast_2d(sample[name]) for name in ("output", "unemployment", "policy_rate"))
    return [_recession(replica, output[replica], unemployment[replica], rate[replica], peak, trough)
            for replica, path in enumerate(output) for peak, trough in _falls(path)]


def _falls(path: Array) -> list[tuple[int, int]]:
    """(peak, trough) of spells in which a path falls twice or more in a row."""
    falling = np.r_[False, np.diff(path) < 0, False].astype(int)
    starts, ends = np.flatnonzero(np.diff(falling) == 1), np.flatnonzero(np.diff(falling) == -1)
    return [(int(a), int(b)) for a, b in zip(starts, ends) if b - a >= 2]


def _recession(replica: int, output: Array, unemployment: Array, rate: Array, peak: int, trough: int) -> Recession:
    logs = 100 * np.log(np.maximum(output[[peak, trough, min(trough + 4, len(output) - 1)]], TINY))
    recovery = float(logs[2] - logs[1]) if trough + 4 < len(output) else np.nan
    until = slice(peak, trough + 5)
    return Recession(replica, trough - peak, float(logs[0] - logs[1]), recovery, float(unemployment[until].max() - unemployment[peak]),
                     float(rate[peak] - rate[until].min()))


@np.errstate(invalid="ignore", divide="ignore")
def further(sample: Mapping[str, Array]) -> dict[str, Array]:
    """Statistics of the ancestor's metrics that are not among the 59, {name: (...)}; the Taylor rule is that of 1993 on the HP gap."""
    t = _columns(sample, "hp")
    g4, change = t["g4"], t["ff"] - t["ff-1"]
    taylor = 2 + t["pi4"] + 0.5 * (t["pi4"] - 2) + 0.5 * t["y"]
    high, low = t["pi4"] > 2.5, t["pi4"] < 1.5
    up, down = (high & (change > 0)).sum(-1), (low & (change < 0)).sum(-1)
    return {
        "ac1 g4": _corr(g4[..., 1:], g4[..., :-1]),
        "ac4 g4": _corr(g4[..., 4:], g4[..., :-4]),
        "corr du,g": _corr(t["du"], t["g"]),
        "rule inertia": _inertia(t["ff"], t["ff-1"], t["pi4"], t["y"]),
        "taylor deviation": np.abs(t["ff"] - taylor).mean(-1),
        "corr ff,taylor": _corr(t["ff"], taylor),
        "rate up, inflation high": up / high.sum(-1),
        "rate down, inflation low": down / low.sum(-1),
        "rate moves with inflation": (up + down) / (high | low).sum(-1),
    }


def _inertia(rate: Array, last: Array, inflation: Array, gap: Array) -> Array:
    """b of  rate = a + b last + c inflation + d gap  by least squares; NaN where the regressors do not determine it."""
    n = rate.shape[-1]
    regressors = np.stack([np.ones_like(last), last, inflation, gap], -1).reshape(-1, n, 4)
    found = np.full(len(regressors), np.nan)
    for replica, (x, y) in enumerate(zip(regressors, rate.reshape(-1, n))):
        if np.isfinite(x).all():
            fit, _, rank, _ = np.linalg.lstsq(x, y)
            found[replica] = fit[1] if rank == 4 else np.nan
    return found.reshape(rate.shape[:-1])
