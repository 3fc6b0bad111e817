"""The two guidance passes of a step side by side, each on a core of its own.

A run of two rows on two cores makes each operator wait for both; some use one core only. Two runs of one row wait once.
The numbers are the same, bit for bit, but for guidance rescale, whose standard deviations numpy sums in another order.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from grefine_rt.arrays import Array
from grefine_rt.contract import advance, model_alone
from grefine_rt.engine.base import Engine, check_run
from grefine_rt.engine.host_binding import HostEngine

THREADS = 2
"""Threads with which a step is split. Two runs on more would share one pool of workers, which was never measured; with
such a pool on two cores they took longer than one run."""

ROWS = ("context", "pooled", "time_ids")
"""Inputs with one row a guidance pass."""


def splits(step: Engine) -> bool:
    """Whether a graph is a step whose rows of text can be run one by one."""
    axes = {spec.shape[:1] for name, spec in step.inputs.items() if name in ROWS}
    free = all(axis and isinstance(axis[0], str) for axis in axes)
    return {"context", "coefficients"} <= step.inputs.keys() and free and "clean" in step.outputs


class SidePasses(HostEngine):
    """A step on the CPU as an `Engine`; any number of threads may call it at once.

    single: the step's graph, for which `splits` is true, on one thread. Runs of two rows use it twice at a time, others
    as it is: a bundle that is guided in every step has none.
    """

    def __init__(self, name: str, single: Engine) -> None:
        super().__init__(single)
        self.name = name
        self._seconds = 0.0
        self._lock = threading.Lock()
        self._helping = threading.Lock()

    @property
    def seconds(self) -> float:
        return self._seconds

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        names = check_run(self, self.name, arrays, outputs)
        start = time.perf_counter()
        try:
            if len(arrays["context"]) != 2:
                return self._engine.run(arrays, names)
            negative, positive = self._both(arrays)
            made = advance(negative, positive, arrays["coefficients"], arrays)
            return {name: made[name] for name in names}
        finally:
            with self._lock:
                self._seconds += time.perf_counter() - start

    def _both(self, arrays: Mapping[str, Array]) -> tuple[Array, Array]:
        """The UNet's answers to the negative prompt and to the prompt.

        One thread helps at a time: a caller that finds another one helped makes both passes itself, so that callers
        do not wait for each other and memory is that of one pass more than there are callers.
        """
        arrays = {**arrays, "coefficients": model_alone(arrays["coefficients"])}
        helper = _Pass(lambda: self._model(arrays, 1))
        if not self._helping.acquire(blocking=False):
            return self._model(arrays, 0), self._model(arrays, 1)
        try:
            try:
                helper.start()
            except RuntimeError:  # no more threads, or the interpreter is ending
                return self._model(arrays, 0), self._model(arrays, 1)
            try:
                negative = self._model(arrays, 0)
            finally:
                helper.join()
            return negative, helper.result()
        finally:
            self._helping.release()

    def _model(self, arrays: Mapping[str, Array], row: int) -> Array:
        """The UNet's answer to one row of text, given the coefficients of `model_alone`."""
        own = {name: arrays[name][row : row + 1] for name in ROWS if name in arrays}
        return self._engine.run({**arrays, **own}, ["clean"])["clean"]


class _Pass(threading.Thread):
    """One pass on a thread of its own; `result` raises its exception."""

    def __init__(self, make: Callable[[], Array]) -> None:
        super().__init__(name="grefine-pass")
        self._make = make
        self._made: Array | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._made = self._make()
        except BaseException as error:
            self._error = error

    def result(self) -> Array:
        if self._error is not None:
            raise self._error
        assert self._made is not None
        return self._made
