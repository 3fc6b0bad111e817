"""One engine of TensorRT at one set of sizes: its context and its CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from grefine_rt.engine.base import TensorSpec, first_line
from grefine_rt.engine.device_memory import Scratch
from grefine_rt.engine.sized import Shape, SizedExecution

PLAIN_RUNS = 2
"""Runs of a context before one is captured."""


@dataclass
class Graphs:
    """The use of CUDA graphs by the executions of an engine. own: they capture them themselves. note: for users."""

    own: bool
    note: str


class TensorRTExecution(SizedExecution):
    """An execution context for one set of input sizes.

    context: makes one, whose memory its user gives. log: says why TensorRT refused something. shapes: of all tensors.
    Raises RuntimeError, or what the driver raises; what was allocated is freed then.
    """

    def __init__(
        self,
        context: Callable[[], Any],
        log: Any,
        scratch: Scratch,
        graphs: Graphs,
        profile: int,
        inputs: Mapping[str, Shape],
        specs: Mapping[str, TensorSpec],
    ) -> None:
        self._new_context, self._log, self._graphs = context, log, graphs
        self._profile, self._inputs = profile, dict(inputs)
        self._stream = scratch.gpu.stream
        self._address = 0
        self._graph: Any = None
        self._runs = 0
        self._open()
        super().__init__(
            scratch, specs, {name: tuple(self._context.get_tensor_shape(name)) for name in specs}
        )

    def _open(self) -> None:
        """A new context for these sizes, and how much scratch memory it needs."""
        context = self._context = self._new_context()
        self._see(context is not None, "a context")
        self._see(
            context.set_optimization_profile_async(self._profile, self._stream), f"profile {self._profile}"
        )
        for name, shape in self._inputs.items():
            self._see(context.set_input_shape(name, shape), f"the shape {shape} of '{name}'")
        # Of these sizes: what the profile's largest would take can be many times as much.
        self._memory = int(context.update_device_memory_size_for_shapes())
        self._see(self._memory > 0 or not context.engine.device_memory_size_v2, "the memory of these sizes")

    def bind(self) -> None:
        for name in self.shapes:
            self._see(self._context.set_tensor_address(name, self.address(name)), f"the address of '{name}'")

    def compute(self) -> None:
        gpu = self._scratch.gpu
        self._place()
        # A context makes its last preparations in its first runs: the third one can be captured.
        if self._graphs.own and self._runs >= PLAIN_RUNS and self._graph is None:
            try:
                self._graph = gpu.capture(self._enqueue)
            except Exception as error:  # of TensorRT or the driver: what cannot be captured can still be run
                self._graphs.own = False
                self._graphs.note = f"not used, for capturing failed ({first_line(error)})"
        if self._graph is None:
            self._enqueue(gpu.stream)
        else:
            gpu.launch(self._graph)
        self._runs += 1

    def _place(self) -> None:
        """Tell the context where the scratch memory lies. Where it lay before may be in graphs that TensorRT captured
        itself, so a context whose memory moves is made anew."""
        address = self._scratch.address(max(self._memory, 1))
        if address == self._address:
            return
        if self._address:
            self._graph, self._runs = None, 0
            self._open()
            self.bind()
            address = self._scratch.address(max(self._memory, 1))
        self._context.set_device_memory(address, self._memory)
        self._address = address

    def _enqueue(self, stream: int) -> None:
        self._see(self._context.execute_async_v3(stream), "the run")

    def _see(self, done: bool, what: str) -> None:
        """TensorRT tells by a result, and by its log, that it refused something."""
        if not done:
            raise RuntimeError(f"{what} was refused: {self._log.reason}")
