"""Engines on a GPU with buffers for every set of input sizes: a CUDA graph is tied to the addresses of its tensors."""

from __future__ import annotations

import math
import time
import traceback
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from grefine_rt.arrays import Array
from grefine_rt.engine.base import Buffer, TensorSpec, check_all_set, check_run, declared
from grefine_rt.engine.device_memory import Scratch
from grefine_rt.errors import BundleError, DeviceError, GRefineError

Shape = tuple[int, ...]

SIZES_KEPT = 8
"""Sets of input sizes whose executions an engine keeps, the last used ones."""


class SizedExecution:
    """Buffers for all tensors of one set of sizes. A subclass says how they are bound and computed.

    shapes: of every tensor in `specs`. Raises the errors of the driver and of `bind`, with all buffers freed. All calls
    are made under the scratch's lock.
    """

    def __init__(
        self, scratch: Scratch, specs: Mapping[str, TensorSpec], shapes: Mapping[str, Shape]
    ) -> None:
        self._scratch = scratch
        self.shapes = dict(shapes)
        self._buffers: dict[str, Any] = {}
        try:
            for name, spec in specs.items():
                size = math.prod(self.shapes[name]) * spec.dtype.itemsize
                self._buffers[name] = scratch.gpu.allocate(size)
            self.bind()
        except BaseException:
            self.close()
            raise

    def bind(self) -> None:
        """Tell the library the addresses of the buffers, which stay the same."""
        raise NotImplementedError

    def run(self, sources: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
        """Run once, from `sources`, all inputs, into `targets`, any outputs; done when it returns."""
        gpu = self._scratch.gpu
        for name, source in sources.items():
            gpu.copy(self._buffers[name], source)
        self.compute()
        for name, target in targets.items():
            gpu.copy(target, self._buffers[name])
        gpu.sync()

    def compute(self) -> None:
        """Compute the outputs' buffers from the inputs', in the order of the GPU's stream: inputs are copied before it,
        outputs after it."""
        raise NotImplementedError

    def address(self, name: str) -> int:
        """The address of the tensor's buffer."""
        return int(self._buffers[name].handle)

    def close(self) -> None:
        """Free the buffers."""
        for buffer in self._buffers.values():
            buffer.close()


class SizedEngine:
    """A graph with an execution for every set of input sizes that it was run with. Implements
    `grefine_rt.engine.base.Engine` for subclasses, which make executions and tell failures.

    A run copies its inputs into the execution's buffers, and its outputs from there, on the device. Raises DeviceError
    for scratch memory on another device.
    """

    def __init__(
        self,
        name: str,
        inputs: Mapping[str, TensorSpec],
        outputs: Mapping[str, TensorSpec],
        scratch: Scratch,
        device: str,
    ) -> None:
        self.name = name
        self.inputs, self.outputs = dict(inputs), dict(outputs)
        self.device = device
        self.largest: dict[str, int] = {}
        if scratch.device != device:
            raise DeviceError(
                f"{name}: the scratch memory is on '{scratch.device}', but the engine on '{device}': give both the "
                f"same device."
            )
        self._scratch, self._gpu = scratch, scratch.gpu
        self._executions: OrderedDict[tuple[Shape, ...], SizedExecution] = OrderedDict()
        self._seconds = 0.0

    @property
    def seconds(self) -> float:
        return self._seconds

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        names = check_run(self, self.name, arrays, outputs)
        given = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        with self.running({name: array.shape for name, array in given.items()}) as execution:
            results = {name: np.empty(execution.shapes[name], self.outputs[name].dtype) for name in names}
            execution.run(
                {name: self._gpu.view(array) for name, array in given.items()},
                {name: self._gpu.view(array) for name, array in results.items()},
            )
        return results

    def bind(self) -> SizedBinding:
        return SizedBinding(self)

    def check(self, shapes: Mapping[str, Shape]) -> None:
        """Raise BundleError for sizes of the inputs without a possible execution; called before one is given up."""

    def execution(self, shapes: Mapping[str, Shape]) -> SizedExecution:
        """A new execution for these sizes of the inputs."""
        raise NotImplementedError

    def failure(self, error: Exception) -> DeviceError:
        """The sentence for an error of the library or the driver."""
        raise NotImplementedError

    @contextmanager
    def running(self, shapes: Mapping[str, Shape]) -> Iterator[SizedExecution]:
        """The execution for these sizes of the inputs, this thread's alone; the time inside is added to `seconds`."""
        with self._scratch.lock:
            start = time.perf_counter()
            try:
                with self._failures():
                    yield self._kept(shapes)
            finally:
                self._seconds += time.perf_counter() - start
            self.ran()

    def ran(self) -> None:
        """Called after each run that went well, under the scratch's lock."""

    def _kept(self, shapes: Mapping[str, Shape]) -> SizedExecution:
        key = self._key(shapes)
        if key in self._executions:
            self._executions.move_to_end(key)
        else:
            self.check(shapes)  # before another one goes
            if len(self._executions) == SIZES_KEPT:
                self._executions.popitem(last=False)[1].close()
            self._executions[key] = self.execution(shapes)
        return self._executions[key]

    def _key(self, shapes: Mapping[str, Shape]) -> tuple[Shape, ...]:
        return tuple(shapes[name] for name in self.inputs)

    @contextmanager
    def using(self) -> Iterator[None]:
        """The GPU and the scratch memory, this thread's alone."""
        with self._scratch.lock, self._failures():
            yield

    @contextmanager
    def _failures(self) -> Iterator[None]:
        """Make the GPU that of this thread, and turn errors of the library and the driver into a DeviceError."""
        try:
            self._gpu.use()
            yield
        except GRefineError:
            raise
        except Exception as error:
            # As long as the error lives, its frames would hold what they have of the device.
            traceback.clear_frames(error.__traceback__)
            raise self.failure(error) from error


@dataclass(frozen=True)
class SizedBuffer:
    """A tensor in the memory of a GPU."""

    value: Any
    shape: Shape
    dtype: np.dtype[Any]


class SizedBinding:
    """A loop on one engine. Implements `grefine_rt.engine.base.Binding`.

    copies: tensors that went from the host to the device or back.
    """

    def __init__(self, engine: SizedEngine) -> None:
        self._engine = engine
        self._inputs: dict[str, SizedBuffer] = {}
        self._outputs: dict[str, SizedBuffer] = {}
        self.copies = 0

    def buffer(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> SizedBuffer:
        kind = np.dtype(dtype)
        with self._engine.using():
            value = self._engine._gpu.allocate(math.prod(shape) * kind.itemsize)
        return SizedBuffer(value, tuple(shape), kind)

    def upload(self, array: Array) -> SizedBuffer:
        made = self.buffer(array.shape, array.dtype)
        gpu = self._engine._gpu
        with self._engine.using():
            gpu.copy(made.value, gpu.view(np.asarray(array, order="C")))
            gpu.sync()
        self.copies += 1
        return made

    def set_input(self, name: str, value: Buffer) -> None:
        self._inputs[name] = self._checked(self._engine.inputs, name, value)

    def set_output(self, name: str, value: Buffer) -> None:
        self._outputs[name] = self._checked(self._engine.outputs, name, value)

    def run(self) -> None:
        engine = self._engine
        check_all_set(engine.name, engine.inputs, self._inputs)
        with engine.running({name: held.shape for name, held in self._inputs.items()}) as execution:
            for name, held in self._outputs.items():
                TensorSpec(name, held.dtype, execution.shapes[name]).check(
                    engine.name, held.dtype, held.shape
                )
            execution.run(
                {name: held.value for name, held in self._inputs.items()},
                {name: held.value for name, held in self._outputs.items()},
            )

    def fetch(self, value: Buffer) -> Array:
        assert isinstance(value, SizedBuffer)
        array = np.empty(value.shape, value.dtype)
        gpu = self._engine._gpu
        with self._engine.using():
            gpu.copy(gpu.view(array), value.value)
            gpu.sync()
        self.copies += 1
        return array

    def _checked(self, specs: Mapping[str, TensorSpec], name: str, value: Buffer) -> SizedBuffer:
        assert isinstance(value, SizedBuffer)
        declared(self._engine.name, specs, name).check(self._engine.name, value.dtype, value.shape)
        return value


def axis_sizes(graph: str, specs: Mapping[str, TensorSpec], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The size of every free axis; BundleError when two tensors disagree on one."""
    sizes: dict[str, int] = {}
    for name, spec in specs.items():
        for axis, size in zip(spec.shape, shapes[name], strict=True):
            if isinstance(axis, str) and sizes.setdefault(axis, size) != size:
                raise BundleError(
                    f"{graph}: axis '{axis}' of '{name}' is {size}, but {sizes[axis]} in another input; give all "
                    f"inputs the same size."
                )
    return sizes
