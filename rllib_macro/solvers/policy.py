"""What every solver returns: a policy, how it was found and what that cost. Diagnostics never know who made it."""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Share = Callable[..., np.ndarray]  # arrays of one shape, one for each state variable -> share of resources saved, strictly inside (0, 1)


@dataclass(frozen=True)
class Policy:
    """s(state): the share of its resources that a household or a planner saves.

    `share` and, where the method has one, `value` take one array for every state variable of the model, in the order of the kernel's
    functions, all of one shape, and return a float64 array of that shape. `seconds` are CPU seconds of the solver without compilation;
    `facts` are what the method has to tell: iterations, distances, laws of motion.
    """

    p: Any
    method: str
    share: Share
    value: Share | None = None
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)


class Stopwatch:
    """CPU seconds of this process since it was made."""

    def __init__(self) -> None:
        self.began = time.process_time()
        self.paused = 0.0

    @property
    def seconds(self) -> float:
        """CPU seconds so far, without what was paused."""
        return time.process_time() - self.began - self.paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What happens inside (an evaluation, a compilation) is not counted."""
        stopped = time.process_time()
        yield
        self.paused += time.process_time() - stopped
