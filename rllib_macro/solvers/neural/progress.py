"""The budget of a solver, in CPU seconds or steps, and the path of its Euler errors."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from kernels.growth import Params
from rllib_macro import diagnostics
from rllib_macro.solvers.policy import Share, Stopwatch

MOMENTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)  # CPU seconds at which the error is noted
EXACT = 1e-14  # residuals that are rounding: nothing is left to learn


class Progress:
    """Counts steps until the seconds, or where given the steps, are spent; notes [CPU seconds, log10 mean |EE| on the box] on the way."""

    def __init__(self, p: Params, seconds: float, steps: int | None, share: Callable[[], Share]):
        self.p, self.budget, self.limit, self.share = p, seconds, steps, share
        self.path: list[list[float]] = []
        self.taken, self.over, self.watch = 0, False, Stopwatch()

    @property
    def done(self) -> float:
        """Share of the budget that is spent."""
        return self.watch.seconds / self.budget if self.limit is None else self.taken / self.limit if self.limit else 1.0

    def __iter__(self) -> Iterator[int]:
        """Numbers the steps, on one thread."""
        moments = [moment for moment in MOMENTS if self.limit is not None or moment < self.budget]
        with one_thread():
            while self.done < 1 and not self.over:
                if moments and self.watch.seconds >= moments[0]:
                    self.note()
                    moments = [moment for moment in moments if moment > self.watch.seconds]
                yield self.taken
                self.taken += 1
        self.note()

    def stop(self) -> None:
        """Ends after this step, whatever is left."""
        self.over = True

    def note(self) -> None:
        """Adds the error of now to the path; what that takes is not counted."""
        now = self.watch.seconds
        with self.watch.pause():
            self.path.append([now, diagnostics.euler_errors(self.p, self.share()).mean])

    def facts(self) -> dict[str, object]:
        """What every neural solver has to tell."""
        return {"steps": self.taken, "path": self.path}


@contextmanager
def one_thread() -> Iterator[None]:
    """Small networks are faster on one thread, and CPU seconds are then comparable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
