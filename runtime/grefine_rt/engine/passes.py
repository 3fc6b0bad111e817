"""The two guidance passes of a step side by side, each on a core of its own.

A run of two rows on two cores makes each operator wait for both; some use one core only. Two runs of one row wait once.
The numbers are the same, bit for bit, but for guidance rescale, whose standard deviations numpy sums in another order
(`tests/runtime/test_passes.py`).
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from grefine_rt.diffusion.solver import advance, model_alone
from grefine_rt.engine.base import Array, Engine, TensorSpec, check_inputs, declared
from grefine_rt.engine.host_binding import HostBinding

THREADS = 2
"""Threads with which a step is split. Two runs on more would share one pool of workers, which was never measured; with
such a pool on two cores they took longer than one run."""


def splits(step: Engine) -> bool:
    """Whether a graph is a step whose rows of text can be run one by one."""
    context = step.inputs.get("context")
    return (
        context is not None
        and isinstance(context.shape[0], str)
        and "coefficients" in step.inputs
        and "clean" in step.outputs
    )


class SidePasses:
    """A step graph on the CPU as an `Engine`, of which `splits` is true; any number of threads may call it at once.

    single: the graph on one thread, which two guidance passes use at once. whole: opens it on all threads, with weights
    of its own, for runs of one row; called when the first of them comes.
    """

    def __init__(self, name: str, single: Engine, whole: Callable[[], Engine]) -> None:
        self.name = name
        self._single, self._open_whole = single, whole
        self._whole: Engine | None = None
        self._seconds = 0.0
        self._lock = threading.Lock()
        self._helper = ThreadPoolExecutor(1, thread_name_prefix=f"{name}-pass")
        rows = single.inputs["context"].shape[0]
        self._by_row = [name for name, spec in single.inputs.items() if spec.shape[:1] == (rows,)]

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self._single.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self._single.outputs

    @property
    def largest(self) -> Mapping[str, int]:
        return self._single.largest

    @property
    def device(self) -> str:
        return self._single.device

    @property
    def seconds(self) -> float:
        return self._seconds

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        check_inputs(self.name, self.inputs, arrays)
        names = list(self.outputs) if outputs is None else list(outputs)
        for name in names:
            declared(self.name, self.outputs, name)
        one_row = len(arrays["context"]) != 2
        engine = self._on_all_threads() if one_row else None
        start = time.perf_counter()
        try:
            if engine is not None:
                return engine.run(arrays, names)
            made = self._guided(arrays)
            return {name: made[name] for name in names}
        finally:
            with self._lock:
                self._seconds += time.perf_counter() - start

    def bind(self) -> HostBinding:
        return HostBinding(self)

    def _guided(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        prompt = self._helper.submit(self._model, arrays, 1)
        try:
            negative = self._model(arrays, 0)
        except BaseException:
            prompt.cancel()
            raise
        # Where the helper is busy with another caller's pass, this thread makes its own.
        positive = self._model(arrays, 1) if prompt.cancel() else prompt.result()
        return advance(negative, positive, arrays["coefficients"], arrays)

    def _model(self, arrays: Mapping[str, Array], row: int) -> Array:
        """What the UNet says for one row of text."""
        fed = {**arrays, "coefficients": model_alone(arrays["coefficients"])}
        fed |= {name: arrays[name][row : row + 1] for name in self._by_row}
        return self._single.run(fed, ["clean"])["clean"]

    def _on_all_threads(self) -> Engine:
        with self._lock:
            if self._whole is None:
                self._whole = self._open_whole()
            return self._whole
