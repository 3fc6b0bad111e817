"""Clock, progress and cancellation of one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from grefine_rt.cancel import Cancels, stop_if_cancelled

OnProgress = Callable[[str, int, int], None]
"""Called with (part, steps made, steps in all); the parts are the keys of `RefineResult.timings`."""


class Run:
    """One call, made of parts that have names."""

    def __init__(self, on_progress: OnProgress | None, cancel: Cancels | None) -> None:
        self.cancel = cancel
        self._report: OnProgress = on_progress or (lambda part, step, steps: None)
        self._start = time.perf_counter()
        self._spent: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Measures a part and gives the function that takes its steps. Raises Cancelled before it."""
        stop_if_cancelled(self.cancel, f"before '{name}'")
        start = time.perf_counter()
        self._report(name, 0, 1)
        yield lambda step, steps: self._report(name, step, steps)
        self._spent[name] = 1000 * (time.perf_counter() - start)
        self._report(name, 1, 1)

    def timings(self) -> dict[str, float]:
        """Milliseconds of each part so far, and in `total`."""
        return {**self._spent, "total": 1000 * (time.perf_counter() - self._start)}
