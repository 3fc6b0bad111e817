"""One engine of TensorRT at one set of sizes: its context, its buffers, its CUDA graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.device_memory import Scratch, first_line

Shape = tuple[int, ...]


@dataclass
class Graphs:
    """How the plans of an engine use CUDA graphs. own: they capture them themselves. note: for users."""

    own: bool
    note: str


class Plan:
    """An execution context for one set of input sizes, with a buffer for every tensor, used under the scratch's lock.

    context: with memory that its user gives. log: says why TensorRT refused something. shapes: of all tensors. Raises
    RuntimeError, or what the driver raises; what was allocated is freed then.
    """

    def __init__(
        self,
        context: Any,
        log: Any,
        scratch: Scratch,
        graphs: Graphs,
        profile: int,
        inputs: Mapping[str, Shape],
        specs: Mapping[str, TensorSpec],
    ) -> None:
        self._context, self._log, self._scratch, self._graphs = context, log, scratch, graphs
        self._address = 0
        self._graph: Any = None
        self._warm = False
        gpu = scratch.gpu
        self._see(context is not None, "a context")
        self._see(context.set_optimization_profile_async(profile, gpu.stream), f"profile {profile}")
        for name, shape in inputs.items():
            self._see(context.set_input_shape(name, shape), f"the shape {shape} of '{name}'")
        self.shapes: dict[str, Shape] = {name: tuple(context.get_tensor_shape(name)) for name in specs}
        # Of these sizes: what the profile's largest would take can be many times as much.
        self._memory = max(int(context.update_device_memory_size_for_shapes()), 1)
        self._buffers: dict[str, Any] = {}
        with ExitStack() as undo:
            for name, spec in specs.items():
                size = math.prod(self.shapes[name]) * spec.dtype.itemsize
                self._buffers[name] = gpu.allocate(size)
                undo.callback(self._buffers[name].close)
                address = int(self._buffers[name].handle)
                self._see(context.set_tensor_address(name, address), f"the address of '{name}'")
            undo.pop_all()

    def run(self, sources: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
        """Run once, from `sources`, all inputs, into `targets`, any outputs; done when it returns."""
        gpu = self._scratch.gpu
        for name, source in sources.items():
            gpu.copy(self._buffers[name], source)
        self._compute()
        for name, target in targets.items():
            gpu.copy(target, self._buffers[name])
        gpu.sync()

    def close(self) -> None:
        """Free the buffers."""
        for buffer in self._buffers.values():
            buffer.close()

    def _compute(self) -> None:
        gpu = self._scratch.gpu
        address = self._scratch.address(self._memory)
        if address != self._address:
            self._context.set_device_memory(address, self._memory)
            self._address, self._graph, self._warm = address, None, False
        # A context makes its last preparations in its first run: the second one can be captured.
        if self._graphs.own and self._warm and self._graph is None:
            try:
                self._graph = gpu.capture(self._enqueue)
            except Exception as error:  # of TensorRT or the driver: what cannot be captured can still be run
                self._graphs.own = False
                self._graphs.note = f"not used, for capturing failed ({first_line(error)})"
        if self._graph is None:
            self._enqueue(gpu.stream)
        else:
            gpu.launch(self._graph)
        self._warm = True

    def _enqueue(self, stream: int) -> None:
        self._see(self._context.execute_async_v3(stream), "the run")

    def _see(self, done: bool, what: str) -> None:
        """TensorRT tells by a result, and by its log, that it refused something."""
        if not done:
            raise RuntimeError(f"{what} was refused: {self._log.reason}")
