"""Reality scorecard of the monetary economy: how many of 59 US moments its series reproduce within sampling error.

`score` scores the replicas of one play; `markdown` and `to_dict` lay several plays side by side, since a score says something only beside
scripts, an untrained network and random choices. No weights, no intervals set by hand. US values: data/us_moments.json.
"""
from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from kernels.core.inequality import gini
from rllib_macro.moments import MODEL, SHORTEST, Array, Filter, Recession, Sample, from_model, further, growth, moments, recessions

TARGETS = Path(__file__).parent / "data" / "us_moments.json"
TYPES = ("consumer", "firm", "bank", "government", "central_bank")
HELD_OUT = "84-19"  # the sample that must not guide tuning; its quarters are part of 59-19 too
NULLS = ("scripted", "untrained", "random")  # plays that a trained one must beat
LEVEL = 0.05  # of the test whether it does
ENVIRONMENT = "environment"

IMPOSED = {  # moment: whose script, or the environment, puts it there, and how
    "mean pi": (ENVIRONMENT, "expected inflation is anchored with weight 0.4 on the target of 2 %"),
    "mean g (ann)": (ENVIRONMENT, "trend growth is a parameter, 2 % by default"),
    "share g<0": (ENVIRONMENT, "trend growth decides how often output falls"),
    "mean ff": ("central_bank", "the rule is centred on r* + pi* = 3.5 %"),
    "ac1 ff": ("central_bank", "the rule gives the last rate a weight of 0.8"),
    "mean u": ("firm", "the wage script closes the gap to u*"),
    "phillips acc": ("firm", "the wage slope was tuned to it"),
    "mean baa-10y": ("bank", "the script adds a fixed spread of 2 points"),
}
WEALTH = {"gini": "wealth Gini", "top_10_share": "wealth share of the top 10 %", "top_1_share": "wealth share of the top 1 %",
          "bottom_50_share": "wealth share of the bottom 50 %", "income_gini": "income Gini"}
INVARIANTS = {
    "explosion": "output rises by more than 20 % in four quarters",
    "collapse": "output falls by more than 20 % in four quarters",
    "hyperinflation": "prices rise by more than 50 % in four quarters",
    "deflation": "prices fall by more than 5 % in four quarters",
    "depression": "output is more than 10 % below its highest level of the last ten years",
}


@dataclass(frozen=True)
class Row:
    """One of the 59: US value and standard error of each sample, and the model's mean over the replicas that have it.

    spread is the standard deviation across replicas, se = spread/sqrt(R) the standard error of the mean (NaN for one replica), and
    z = (mean - value) / sqrt(SE^2 + se^2). Within a sample's band is |mean - value| <= 2 SE; a moment that some replica lacks is in none.
    """

    moment: str
    label: str
    data: dict[str, tuple[float, float]]
    mean: float
    spread: float
    se: float
    z: dict[str, float]
    inside_of: dict[str, bool]
    in_hull: bool
    undefined: int
    imposed: str

    @property
    def inside(self) -> bool:
        """Whether the mean lies within 2 SE of either sample."""
        return any(self.inside_of.values())


@dataclass(frozen=True)
class Comparison:
    """A statistic's US values by sample or survey, and the model's mean and standard error over replicas (NaN where it has none)."""

    statistic: str
    data: dict[str, float]
    mean: float
    se: float


@dataclass(frozen=True)
class Metric:
    """One of the 50 metrics of the ancestor: its target there, what became of it, how it is measured here, and the comparisons.

    verdict: kept, fixed, dropped, invariant (events are counted), diagnostic, or elsewhere (it needs other plays than this one).
    """

    number: int
    name: str
    target: float
    verdict: str
    definition: str
    compared: tuple[Comparison, ...]


@dataclass(frozen=True)
class Event:
    """How often something that must not happen happened: spells over all replicas, and replicas with at least one."""

    name: str
    definition: str
    spells: int
    replicas: int


@dataclass(frozen=True)
class Card:
    """The scorecard of one play. A broken replica is one with a series that is not finite: it has no moments, so none counts as inside."""

    rows: tuple[Row, ...]
    wealth: tuple[Comparison, ...]
    metrics: tuple[Metric, ...]
    events: tuple[Event, ...]
    replicas: int
    broken: int
    quarters: int
    drop: int
    filter: Filter

    @property
    def counts(self) -> dict[str, int]:
        """Moments inside either band, inside each sample's own, inside the hull of both, and those of them that nothing imposes."""
        free = [row for row in self.rows if not row.imposed]
        return {
            "inside": sum(row.inside for row in self.rows),
            "of": len(self.rows),
            **{f"inside {sample}": sum(row.inside_of[sample] for row in self.rows) for sample in targets()["samples"]},
            "inside hull": sum(row.in_hull for row in self.rows),
            "inside, not imposed": sum(row.inside for row in free),
            "of, not imposed": len(free),
        }


# --- scoring ----------------------------------------------------------------------------------------------------------


def score(series: Mapping[str, Any], *, drop: int = 100, scripted: Collection[str] = TYPES, filter: Filter = "hp") -> Card:
    """The scorecard of series (R, T) named as in moments.MODEL, after their first `drop` quarters.

    Measures of WEALTH among them, (R, T) or (R,), are compared with the survey. `scripted` are the types that follow their scripts: what
    a learning type's script would impose is not imposed. ValueError if series are missing, of other shapes or too short.
    """
    sample = from_model(_kept(series, drop))
    found = moments(sample, filter)
    rows = compare(found, filter=filter, scripted=scripted)
    wealth = _wealth(series, drop)
    events = count_events(sample)
    cycles = found if filter == "hp" else moments(sample)
    metrics = _metrics(cycles | further(sample) | wealth, recessions(sample), events)
    replicas, quarters = sample["output"].shape
    broken = int(np.isnan(sample["output"]).all(-1).sum())
    return Card(rows, tuple(_compared(name, wealth) for name in wealth), metrics, events, replicas, broken, quarters, drop, filter)


def compare(found: Mapping[str, Any], *, filter: Filter = "hp", scripted: Collection[str] = TYPES) -> tuple[Row, ...]:
    """The 59 rows of moments (R,), as moments.moments gives them; a single history () is one replica."""
    return tuple(_row(name, np.atleast_1d(np.asarray(found[name], float)), filter, scripted) for name in targets()["moments"])


def _row(name: str, values: Array, filter: Filter, scripted: Collection[str]) -> Row:
    target = targets()["moments"][name]
    data = {sample: (value, se) for sample, (value, se) in target[filter].items()}
    undefined = int((~np.isfinite(values)).sum())
    mean, spread, se = _summary(values)
    bands = {sample: (value - 2 * error, value + 2 * error) for sample, (value, error) in data.items()}
    lowest, highest = min(low for low, _ in bands.values()), max(high for _, high in bands.values())
    by, how = IMPOSED.get(name, ("", ""))
    return Row(
        name, target["label"], data, mean, spread, se,
        z={sample: (mean - value) / math.hypot(error, se) for sample, (value, error) in data.items()},
        inside_of={sample: not undefined and low <= mean <= high for sample, (low, high) in bands.items()},
        in_hull=not undefined and lowest <= mean <= highest,
        undefined=undefined,
        imposed=how if by == ENVIRONMENT or by in scripted else "",
    )


def _kept(series: Mapping[str, Any], drop: int) -> dict[str, Array]:
    """Those of MODEL among the series, without their first quarters."""
    kept = {name: np.asarray(series[name]) for name in MODEL if name in series}
    shapes = {x.shape for x in kept.values()}
    if len(shapes) != 1 or any(len(shape) != 2 for shape in shapes):
        raise ValueError(f"series must be (replicas, quarters), all of one shape, got {sorted(shapes)}")
    quarters = shapes.pop()[1]
    if quarters - drop < SHORTEST:
        raise ValueError(f"{quarters} quarters are too few: play {drop + SHORTEST} or more, or drop fewer than {drop}")
    return {name: x[:, drop:] for name, x in kept.items()}


def _wealth(series: Mapping[str, Any], drop: int) -> dict[str, Array]:
    """The measures of WEALTH among the series, (R,): means over the kept quarters where they are paths."""
    measures = {name: np.asarray(series[name], float) for name in WEALTH if name in series}
    return {name: x if x.ndim == 1 else x[:, drop:].mean(-1) for name, x in measures.items()}


def _summary(values: Array) -> tuple[float, float, float]:
    """Mean, standard deviation and standard error of the mean over the replicas that have a value."""
    values = values[np.isfinite(values)]
    spread = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return (float(values.mean()) if len(values) else math.nan), spread, spread / math.sqrt(max(len(values), 1))


# --- wealth, invariants, the ancestor's metrics -----------------------------------------------------------------------


def inequality(net_worth: Array, income: Array | None = None) -> dict[str, Array]:
    """The measures of WEALTH (R,) of households' net worth and income (R, H).

    Shares are of total net worth, debts included, interpolated on the Lorenz curve; Gini coefficients count debts as zero.
    """
    worth = np.asarray(net_worth, float)
    measures = {"gini": gini(worth), "top_10_share": 1 - _lorenz(worth, 0.9), "top_1_share": 1 - _lorenz(worth, 0.99),
                "bottom_50_share": _lorenz(worth, 0.5)}
    return measures | ({} if income is None else {"income_gini": gini(np.asarray(income, float))})


def _lorenz(x: Array, share: float) -> Array:
    """What the poorest `share` own, as a share of the total; NaN where the total is not positive."""
    curve = np.concatenate([np.zeros((*x.shape[:-1], 1)), np.sort(x, -1).cumsum(-1)], -1)
    at = share * x.shape[-1]
    below = min(int(at), x.shape[-1] - 1)
    owned = curve[..., below] + (at - below) * (curve[..., below + 1] - curve[..., below])
    total = curve[..., -1]
    return np.where(total > 0, owned / np.where(total > 0, total, 1), np.nan)


def count_events(sample: Sample) -> tuple[Event, ...]:
    """The INVARIANTS' violations in a sample (R, T): a spell of quarters is one event. Rates are 100 times differences of logs."""
    output = np.atleast_2d(sample["output"])
    year, prices = growth(output, 4), np.atleast_2d(sample["inflation_4q"])
    past = np.pad(output, ((0, 0), (40, 0)), mode="edge")
    peak = np.lib.stride_tricks.sliding_window_view(past, 41, -1).max(-1)
    happens = {"explosion": year > 20, "collapse": year < -20, "hyperinflation": prices > 50, "deflation": prices < -5,
               "depression": output < 0.9 * peak}
    return tuple(_event(name, happens[name]) for name in INVARIANTS)


def _event(name: str, happens: Array) -> Event:
    begins = happens & ~np.pad(happens, ((0, 0), (1, 0)))[:, :-1]
    return Event(name, INVARIANTS[name], int(begins.sum()), int(happens.any(-1).sum()))


def recession_statistics(found: Sequence[Recession]) -> dict[str, float]:
    """Means over all recessions of all replicas, the depth that a tenth of them exceeds, and the distance of depths from the US ones.

    The distance is that of Kolmogorov and Smirnov between the two distributions, 0 to 1. All are NaN without a recession.
    """
    if not found:
        return dict.fromkeys(("recession depth", "recession recovery", "recession unemployment rise", "recession rate cut",
                              "recession depth p90", "recession depth KS"), math.nan)
    depths = [recession.depth for recession in found]
    recoveries = [recession.recovery for recession in found if math.isfinite(recession.recovery)]
    return {
        "recession depth": float(np.mean(depths)),
        "recession recovery": float(np.mean(recoveries)) if recoveries else math.nan,
        "recession unemployment rise": float(np.mean([recession.unemployment_rise for recession in found])),
        "recession rate cut": float(np.mean([recession.rate_cut for recession in found])),
        "recession depth p90": float(np.quantile(depths, 0.9)),
        "recession depth KS": float(stats.ks_2samp(depths, [recession.depth for recession in us_recessions("59-19")]).statistic),
    }


def us_recessions(sample: str) -> list[Recession]:
    """The recessions of the United States in a sample."""
    return [Recession(replica=0, **recession) for recession in targets()["recessions"][sample]]


def _metrics(found: Mapping[str, Array], episodes: Sequence[Recession], events: Sequence[Event]) -> tuple[Metric, ...]:
    """The ancestor's 50."""
    pooled = {name: np.array([value]) for name, value in recession_statistics(episodes).items()}
    counted = {event.name: np.array([event.spells], float) for event in events}
    known = {**found, **pooled, **counted}
    return tuple(
        Metric(**{key: metric[key] for key in ("number", "name", "target", "verdict", "definition")},
               compared=tuple(_compared(name, known) for name in metric["statistics"]))
        for metric in targets()["ancestor"]
    )


def _compared(name: str, found: Mapping[str, Array]) -> Comparison:
    mean, _, se = _summary(found.get(name, np.array([])))
    return Comparison(name, _us(name), mean, se)


def _us(name: str) -> dict[str, float]:
    """US values of any statistic of the ancestor's metrics."""
    us = targets()
    if name in us["moments"]:
        return {sample: value for sample, (value, _) in us["moments"][name]["hp"].items()}
    if name in us["further"]:
        return dict(us["further"][name])
    if name in WEALTH:
        return {"SCF 2022": us["wealth_scf_2022"][name]}
    if name in INVARIANTS:
        return dict.fromkeys(us["samples"], 0.0)
    return {sample: recession_statistics(us_recessions(sample))[name] for sample in us["samples"]}


@cache
def targets() -> dict[str, Any]:
    """data/us_moments.json: source and vintage, samples, the 59 moments by filter and sample as [value, SE], wealth, the ancestor's 50."""
    return dict(json.loads(TARGETS.read_text(encoding="utf-8")))


# --- plays side by side -----------------------------------------------------------------------------------------------


def verdicts(cards: Mapping[str, Card], play: str = "trained") -> list[str]:
    """One sentence for each of NULLS among the plays: whether the scorecard tells `play` from it.

    It does if the moments that only one of the two has inside are split too unevenly for chance (two-sided sign test, p < 0.05). Moments
    are correlated, so p is rather too small.
    """
    if play not in cards:
        return []
    return [_verdict(play, cards[play], null, cards[null]) for null in NULLS if null in cards and null != play]


def _verdict(play: str, card: Card, null: str, other: Card) -> str:
    pairs = [(a.inside, b.inside) for a, b in zip(card.rows, other.rows)]
    won, lost = sum(a and not b for a, b in pairs), sum(b and not a for a, b in pairs)
    p = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    says = f"does not tell {play} from {null}" if p >= LEVEL else f"puts {play} {'before' if won > lost else 'behind'} {null}"
    inside = f"{card.counts['inside']} against {other.counts['inside']} of {card.counts['of']} inside"
    return f"The scorecard {says}: {inside}, {won} of them only in the former and {lost} only in the latter (p = {p:.2g})."


def to_dict(cards: Mapping[str, Card]) -> dict[str, dict[str, Any]]:
    """{play: {"inside": n, "of": 59, ..., "moments": {...}}} as JSON can hold it; a number that is not defined is None."""
    return {play: _plain(card.counts | {"held out": HELD_OUT} | _contents(card)) for play, card in cards.items()}


def _contents(card: Card) -> dict[str, Any]:
    found = asdict(card)
    moments_ = {row.pop("moment"): row | {"inside": of.inside} for row, of in zip(found.pop("rows"), card.rows)}
    return found | {"moments": moments_}


def _plain(x: Any) -> Any:
    """Dicts, lists and Python's own numbers; None for what is not finite."""
    if isinstance(x, Mapping):
        return {key: _plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [_plain(value) for value in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def markdown(cards: Mapping[str, Card]) -> str:
    """Counts, verdicts, and tables of the 59 moments, of wealth and of the ancestor's metrics, a column for each play."""
    us = targets()
    parts = [
        _counts_table(cards),
        "\n".join(f"* {sentence}" for sentence in verdicts(cards)),
        _moments_table(cards),
        "Standard errors in brackets, z against the two samples. `miss`: outside 2 standard errors of both samples. `imposed`: a script or "
        f"the environment puts the moment there. {HELD_OUT} is held out from tuning.",
        _wealth_table(cards),
        _ancestor_table(cards),
        f"US data: {us['source']}. Wealth: {us['wealth_scf_2022']['source']}.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _counts_table(cards: Mapping[str, Card]) -> str:
    counts = {play: card.counts for play, card in cards.items()}
    rows = [["inside either band", *(f"{c['inside']} of {c['of']}" for c in counts.values())]]
    rows += [[f"inside the band of {sample}" + (" (held out)" if sample == HELD_OUT else ""),
              *(str(c[f"inside {sample}"]) for c in counts.values())] for sample in targets()["samples"]]
    rows += [["inside the hull of both bands", *(str(c["inside hull"]) for c in counts.values())],
             ["inside, of those not imposed", *(f"{c['inside, not imposed']} of {c['of, not imposed']}" for c in counts.values())],
             ["replicas (broken) x quarters", *(f"{card.replicas} ({card.broken}) x {card.quarters}" for card in cards.values())]]
    for events in zip(*(card.events for card in cards.values())):
        rows.append([f"{events[0].name}: {events[0].definition}", *(f"{event.spells} in {event.replicas} replicas" for event in events)])
    return _table(["", *cards], rows)


def _moments_table(cards: Mapping[str, Card]) -> str:
    samples = targets()["samples"]
    rows = []
    for of in zip(*(card.rows for card in cards.values())):
        data = [f"{_number(value)} ({_number(se)})" for value, se in of[0].data.values()]
        rows.append([of[0].label, *data, *(_cell(row) for row in of)])
    return _table(["moment", *samples.values(), *cards], rows)


def _cell(row: Row) -> str:
    z = ", ".join(f"{z:.1f}" if math.isfinite(z) else "-" for z in row.z.values())
    lacking = f"undefined in {row.undefined}" if row.undefined else ""
    return " ".join(part for part in (_number(row.mean), f"({_number(row.se)})", f"z {z}", "" if row.inside else "miss", lacking,
                                      "imposed" if row.imposed else "") if part)


def _wealth_table(cards: Mapping[str, Card]) -> str:
    names = [name for name in WEALTH if any(name == of.statistic for card in cards.values() for of in card.wealth)]
    found = {play: {of.statistic: of.mean for of in card.wealth} for play, card in cards.items()}
    rows = [[WEALTH[name], _number(targets()["wealth_scf_2022"][name]), *(_number(of.get(name, math.nan)) for of in found.values())]
            for name in names]
    return _table(["wealth", "SCF 2022", *cards], rows) if rows else ""


def _ancestor_table(cards: Mapping[str, Card]) -> str:
    rows = []
    for of in zip(*(card.metrics for card in cards.values())):
        first = of[0]
        us = "; ".join(" / ".join(_number(value) for value in compared.data.values()) for compared in first.compared)
        rows.append([str(first.number), first.name, f"{first.target:g}", first.verdict, first.definition, us,
                     *("; ".join(_number(compared.mean) for compared in metric.compared) for metric in of)])
    return _table(["#", "metric of the ancestor", "its target", "verdict", "definition", "US", *cards], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _number(x: float) -> str:
    return f"{x:.2f}" if math.isfinite(x) else "-"
