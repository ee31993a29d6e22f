"""Ranking a sweep's trials: a row for each of them, a row for each setting with its spread over seeds."""
from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from scipy import stats

from rllib_macro.sweep import Comparison, Plan, Point

RESAMPLES = 9999  # of the bootstrap
COMPLETE = ("finished", "stopped early")  # how trials end whose results count


def row_of_trial(found: Plan, folder: Path, point: Point, ended: bool, reason: str | None = None) -> dict[str, Any]:
    """A trial's row: what was varied, its seed, means of the metric and of what stands beside it, how far it came and how it ended."""
    lines = (folder / "result.json").read_text().splitlines() if (folder / "result.json").is_file() else []
    played = pandas.DataFrame([json.loads(line) for line in lines[-found.last:]])
    names = measured(played.reindex(columns=sorted(played)), found.sweep)
    done = int(played["iteration"].iloc[-1]) if len(played) else 0
    complete = done >= found.length(point["number"])
    how = "failed" if reason else "unfinished" if not ended else "finished" if complete else "stopped early"
    means = {name: float(played[name].mean()) if name in played else np.nan for name in names}
    return {"trial": folder.name, **scalars(point["vary"]), "seed": point["seed"], **means, "iterations": done, "ended": how}


def scalars(vary: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """What was varied as cells of a table: lists and mappings as JSON."""
    return {key: value if isinstance(value, bool | int | float | str) else json.dumps(value) for key, value in vary.items()}


def ranked(rows: Sequence[Mapping[str, Any]], sweep: Comparison) -> pandas.DataFrame:
    """Rows of trials, the best metric first; ties in the order of the trials; last those that failed, are unfinished or lack the metric."""
    if not rows:
        return pandas.DataFrame(columns=["trial", *sweep.columns(), "seed", sweep.metric, "iterations", "ended"])
    frame = pandas.DataFrame(rows).sort_values("trial")
    frame = frame.sort_values(sweep.metric, ascending=sweep.mode == "min", kind="stable", na_position="last")
    return frame.sort_values("ended", key=lambda ended: ~ended.isin(COMPLETE), kind="stable", ignore_index=True)


def summary(trials: pandas.DataFrame, sweep: Comparison) -> pandas.DataFrame:
    """Over the seeds of each setting, the best first: interquartile means of what was measured, and their 95 % intervals.

    Trials that failed or are unfinished are left out. A population, whose values move while it learns, is one setting.
    Columns NAME, NAME/low, NAME/high.
    """
    trials = trials[trials["ended"].isin(COMPLETE)]
    keys = [] if sweep.search == "pbt" else [key for key in sweep.columns() if key in trials]
    names = measured(trials, sweep)
    groups = trials.groupby(keys, sort=False, dropna=False) if keys else [((), trials)]
    rows = []
    for values, group in groups if len(trials) else ():
        row = dict(zip(keys, values)) | {"seeds": len(group), "iterations": int(group["iterations"].min())}
        for name in names:
            row[name], row[f"{name}/low"], row[f"{name}/high"] = interval(group[name].dropna().tolist())
        rows.append(row)
    frame = pandas.DataFrame(rows, columns=None if rows else [*keys, "seeds", "iterations", sweep.metric])
    return frame.sort_values(sweep.metric, ascending=sweep.mode == "min", kind="stable", na_position="last", ignore_index=True)


def measured(frame: pandas.DataFrame, sweep: Comparison) -> list[str]:
    """The metric and the columns of a table that are shown beside it, such as rewards."""
    return list(dict.fromkeys([sweep.metric, *(str(name) for name in frame if str(name).startswith(sweep.beside))]))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Interquartile mean (a quarter, rounded down, is cut at each end) and its 95 % bias-corrected accelerated bootstrap interval.

    Fewer than three values have no interval (NaN). With five or ten the interval is still a little too short.
    """
    x = np.asarray(values, float)
    if not len(x):
        return np.nan, np.nan, np.nan
    middle = float(stats.trim_mean(x, 0.25))
    if len(x) < 3:
        return middle, np.nan, np.nan
    if np.ptp(x) == 0:
        return middle, middle, middle
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the distribution is degenerate the bounds are NaN, and stay so
        found = stats.bootstrap((x,), lambda sample, axis: stats.trim_mean(sample, 0.25, axis=axis), n_resamples=RESAMPLES, method="BCa",
                                rng=np.random.default_rng(0)).confidence_interval
    return middle, float(found.low), float(found.high)
