"""One engine of TensorRT at one set of sizes: its context and its CUDA graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.device_memory import Scratch, first_line
from grefine_rt.engine.sized import Shape, SizedPlan


@dataclass
class Graphs:
    """How the plans of an engine use CUDA graphs. own: they capture them themselves. note: for users."""

    own: bool
    note: str


class TensorRTPlan(SizedPlan):
    """An execution context for one set of input sizes.

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
        self._context, self._log, self._graphs = context, log, graphs
        self._address = 0
        self._graph: Any = None
        self._warm = False
        self._see(context is not None, "a context")
        self._see(context.set_optimization_profile_async(profile, scratch.gpu.stream), f"profile {profile}")
        for name, shape in inputs.items():
            self._see(context.set_input_shape(name, shape), f"the shape {shape} of '{name}'")
        # Of these sizes: what the profile's largest would take can be many times as much.
        self._memory = max(int(context.update_device_memory_size_for_shapes()), 1)
        super().__init__(scratch, specs, {name: tuple(context.get_tensor_shape(name)) for name in specs})

    def bind(self) -> None:
        for name in self.shapes:
            self._see(self._context.set_tensor_address(name, self.address(name)), f"the address of '{name}'")

    def compute(self) -> None:
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
