"""Denoising steps on ONNX Runtime CUDA as CUDA graphs: captured once for a set of sizes, then launched as one.

Without them the CPU launches each kernel of each step. What ONNX Runtime asks of those who use its graphs is met here:
tensors at fixed addresses, a session that one thread alone calls, nobody who asks CUDA for memory while it captures. No
GPU was at hand to run it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.device_memory import Scratch
from grefine_rt.engine.devices import parse
from grefine_rt.engine.onnxruntime import GATE, CudaOptions, failure, module, open_session, specs_of
from grefine_rt.engine.sized import SIZES_KEPT, Shape, SizedEngine, SizedPlan, axis_sizes
from grefine_rt.errors import BundleError, DeviceError

_NO_GRAPH = -1


class ReplayEngine(SizedEngine):
    """One ONNX file on ONNX Runtime CUDA whose runs replay CUDA graphs. Implements `grefine_rt.engine.base.Engine`.

    path: a graph whose outputs have no free axis that its inputs lack, as steps have. device: "cuda" or "cuda:N".
    scratch: that of engines with which this one takes turns; None for its own. nhwc: see `CudaOptions`.

    The first run of a set of sizes captures, after plain runs of ONNX Runtime's own: it takes as long as a few. A
    captured graph lives as long as its session, so that only the first `SIZES_KEPT` sets get one; others run plainly.

    Raises DeviceError and BundleError as `OnnxEngine` does, also where cuda.core is missing or ONNX Runtime cannot
    capture this graph.
    """

    def __init__(
        self, path: Path, device: str = "cuda", *, scratch: Scratch | None = None, nhwc: bool = False
    ) -> None:
        wanted = parse(device)
        if wanted.kind != "cuda":
            raise DeviceError(f"CUDA graphs need the device 'cuda', but got '{device}'.")
        scratch = scratch or Scratch(wanted.place)
        self._session, _ = open_session(path, wanted, None, CudaOptions(nhwc=nhwc, graphs=True))
        inputs, outputs = specs_of(path.stem, self._session)
        super().__init__(path.stem, inputs, outputs, scratch, wanted.place)
        given = {axis for spec in inputs.values() for axis in spec.shape}
        for spec in outputs.values():
            if unknown := [axis for axis in spec.shape if isinstance(axis, str) and axis not in given]:
                raise BundleError(
                    f"{self.name}: no input has the axes {unknown} of output '{spec.name}', so its size is not known "
                    f"before a run: only graphs such as steps run as CUDA graphs."
                )
        self._index = wanted.index
        self._captured: dict[tuple[Shape, ...], SizedPlan] = {}
        self._thread = ThreadPoolExecutor(1, "grefine-cuda-graphs")

    def plan(self, shapes: Mapping[str, Shape]) -> SizedPlan:
        return self._plan(shapes, _NO_GRAPH)

    def failure(self, error: Exception) -> DeviceError:
        return failure(self.name, self.device, error)

    def _kept(self, shapes: Mapping[str, Shape]) -> SizedPlan:
        key = self._key(shapes)
        if key not in self._captured and len(self._captured) < SIZES_KEPT:
            self._captured[key] = self._plan(shapes, len(self._captured) + 1)
        return self._captured.get(key) or super()._kept(shapes)

    def _plan(self, shapes: Mapping[str, Shape], graph: int) -> SizedPlan:
        sizes = axis_sizes(self.name, self.inputs, shapes)
        made = {
            name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape)
            for name, spec in self.outputs.items()
        }
        return _Plan(self, graph, {**shapes, **made})


class _Plan(SizedPlan):
    """A set of sizes bound to the engine's session. graph: the number of its CUDA graph, or `_NO_GRAPH`."""

    def __init__(self, engine: ReplayEngine, graph: int, shapes: Mapping[str, Shape]) -> None:
        super().__init__(engine._scratch, {**engine.inputs, **engine.outputs}, shapes)
        self._session, self._thread = engine._session, engine._thread
        self._binding = self._session.io_binding()
        for specs, bind in (
            (engine.inputs, self._binding.bind_input),
            (engine.outputs, self._binding.bind_output),
        ):
            self._bind_all(specs, bind, engine._index)
        self._options = module().RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph))
        self._captures = graph != _NO_GRAPH

    def compute(self) -> None:
        self._scratch.gpu.sync()  # ONNX Runtime has a stream of its own, on which it waits itself
        with GATE.alone() if self._captures else GATE.together():
            self._thread.submit(self._session.run_with_iobinding, self._binding, self._options).result()
        self._captures = False

    def _bind_all(self, specs: Mapping[str, TensorSpec], bind: Callable[..., Any], index: int) -> None:
        for name, spec in specs.items():
            bind(name, "cuda", index, spec.dtype.type, self.shapes[name], self.address(name))
