"""Episodes that start in the middle of things: a bank of states that scripted play has reached, drawn from at every reset."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields
from typing import Any

from kernels.core.arrays import namespace
from kernels.core.rng import Draws

WORLDS, VISITS, APART = 32, 8, 10  # replicas that warm up, states taken of each, periods between them
WORLD_BYTES, BANK_BYTES = 2**24, 2**28  # larger economies warm up fewer replicas, and keep fewer states
KEPT = 4  # banks at a time
_banks: OrderedDict[Hashable, Bank] = OrderedDict()


class Bank:
    """States of several replicas at several times, each field stacked along the replica axis."""

    def __init__(self, states: Any):
        self.states = states
        self.size = len(next(iter(vars(states).values())))

    def state(self, draws: Draws) -> Any:
        """A State whose replicas are drawn from the bank, each by its own address."""
        place = draws.integers(0, 1, self.size)[:, 0]
        return type(self.states)(**{name: array[place] for name, array in vars(self.states).items()})


def warmed_up(key: Hashable, bytes_each: int, periods: int, world: Callable[[int], Any]) -> Bank:
    """The bank of an economy, made once for each key: `world(size)` is played for `periods`, then visited a few times."""
    if key not in _banks:
        batch = world(max(1, min(WORLDS, WORLD_BYTES // bytes_each)))
        visits = max(1, min(VISITS, BANK_BYTES // (bytes_each * batch.size)))
        for _ in range(periods):
            batch.step({})
        taken = [batch.state_dict()]
        for _ in range(visits - 1):
            for _ in range(APART):
                batch.step({})
            taken.append(batch.state_dict())
        xp = namespace(batch.s)
        _banks[key] = Bank(type(batch.s)(**{f.name: xp.concatenate([xp.asarray(kept[f"s.{f.name}"]) for kept in taken])
                                            for f in fields(batch.s)}))
        while len(_banks) > KEPT:
            _banks.popitem(last=False)
    _banks.move_to_end(key)
    return _banks[key]
