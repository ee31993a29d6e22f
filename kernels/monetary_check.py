"""How wrong each identity of `monetary_books` is, in one pass, so that an audit can stay on while others train; where it is wrong they say.

A model of its own to the compiler: State is the economy's after a quarter, Actions what is remembered of it before, Rewards the errors.
"""
from __future__ import annotations

from dataclasses import dataclass, fields, make_dataclass

from kernels.core.arrays import Array, per
from kernels.core.launch import kernel
from kernels.monetary import AXES as AXES
from kernels.monetary import INVARIANTS, REMEMBERED, Params, State, page

Actions = make_dataclass("Actions", [(f.name, Array, per(*f.metadata["axes"], **{k: f.metadata[k] for k in ("doc", "unit", "dtype")}))
                                     for f in fields(State) if f.name in REMEMBERED], eq=False)
Shocks = make_dataclass("Shocks", [], eq=False)


@dataclass(eq=False)
class Rewards:
    T1: Array = per(doc="largest sum of a row or column of the matrices", unit="micro")
    T2: Array = per(doc="largest gap between the two sides of reserves", unit="micro")
    T3: Array = per(doc="bonds held less bonds issued", unit="micro")
    T4: Array = per(doc="largest gap between a balance and its flows", unit="micro")
    T5: Array = per(doc="largest gap between a bank's capital and its flows", unit="micro")
    T6: Array = per(doc="wealth less what is owned, relative")
    T7: Array = per(doc="largest gap between payrolls and employment, or employers that do not exist", unit="consumers")
    T8: Array = per(doc="largest gap between goods and sales, or between capital and what adds to it, relative")
    T9: Array = per(doc="largest gap between the three sides of domestic product, relative")
    T10: Array = per(doc="how far the lowest balance lies below zero")
    T11: Array = per(doc="most of these in a sector: a real not finite, a balance too high, a balance too low")


@kernel("monetary_check.cu")
def check(p: Params, s: State, a: Actions, r: Rewards) -> None:  # type: ignore[valid-type]
    """The largest error of every identity in any sector. Writes all errors."""
    before, after = page(a), page(s)
    for f in fields(r):
        getattr(r, f.name)[...] = INVARIANTS[f.name](p, before, after)
