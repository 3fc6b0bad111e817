"""Denoising steps on ONNX Runtime CUDA as CUDA graphs: captured once for a set of sizes, then launched as one.

Without them the CPU launches each kernel of each step. What ONNX Runtime asks of those who use its graphs is met here:
tensors at fixed addresses, a session that one thread alone calls, nobody who asks CUDA for memory while it captures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.device_memory import Scratch
from grefine_rt.engine.devices import parse_device
from grefine_rt.engine.onnxruntime.one_thread import OneThread
from grefine_rt.engine.onnxruntime.session import GATE, CudaOptions, failure, module, open_session, specs_of
from grefine_rt.engine.sized import SIZES_KEPT, Shape, SizedEngine, SizedExecution, axis_sizes
from grefine_rt.errors import BundleError, DeviceError

MOST_CAPTURES = 4 * SIZES_KEPT
"""Graphs that a session captures in its life, for none can be given back."""
_NO_GRAPH = -1


class ReplayEngine(SizedEngine):
    """One ONNX file on ONNX Runtime CUDA whose runs replay CUDA graphs. Implements `grefine_rt.engine.base.Engine`.

    path: a graph whose outputs have no free axis that its inputs lack, as steps have. device: "cuda" or "cuda:N".
    scratch: that of engines with which this one takes turns; None for its own. nhwc: see `CudaOptions`.

    It runs on the stream of the scratch's GPU, so that copies and kernels follow each other without a wait in between.

    The first run of a set of sizes captures, after two plain runs of ONNX Runtime's own: it takes as long as a few. The
    first `SIZES_KEPT` sets are captured and stay; others run plainly, those used last keep their buffers. A set that
    none before was as large as, on every axis, makes all be captured anew, for ONNX Runtime may have replaced buffers
    of its own that older graphs read. After `MOST_CAPTURES` captures no more are made.

    Raises DeviceError and BundleError as `OnnxEngine` does, also where cuda.core is missing; nodes that cannot be
    captured are refused here or by the first run.
    """

    def __init__(
        self, path: Path, device: str = "cuda", *, scratch: Scratch | None = None, nhwc: bool = False
    ) -> None:
        wanted = parse_device(device)
        if wanted.kind != "cuda":
            raise DeviceError(f"CUDA graphs need the device 'cuda', but got '{device}'.")
        scratch = scratch or Scratch(wanted.tensor_device)
        self.session, _ = open_session(path, wanted, None, CudaOptions(nhwc=nhwc), scratch.gpu.stream)
        inputs, outputs = specs_of(path.stem, self.session)
        super().__init__(path.stem, inputs, outputs, scratch, wanted.tensor_device)
        given = {axis for spec in inputs.values() for axis in spec.shape} - {"?"}
        for spec in outputs.values():
            if unknown := [axis for axis in spec.shape if isinstance(axis, str) and axis not in given]:
                raise BundleError(
                    f"{self.name}: no input has the axes {unknown} of output '{spec.name}', so its size is not known "
                    f"before a run: only graphs such as steps run as CUDA graphs."
                )
        self._index = wanted.index
        self._captured: dict[tuple[Shape, ...], ReplayExecution] = {}
        self._seen: list[dict[str, int]] = []
        self._captures = 0
        self._thread = OneThread("grefine-cuda-graphs")

    def execution(self, shapes: Mapping[str, Shape]) -> SizedExecution:
        return self._made(shapes, _NO_GRAPH)

    def failure(self, error: Exception) -> DeviceError:
        sentence = str(failure(self.name, self.device, error)).removesuffix(".")
        return DeviceError(f"{sentence}, or do without CUDA graphs.")

    @contextmanager
    def using(self) -> Iterator[None]:
        with super().using(), GATE.together():
            yield

    def _kept(self, shapes: Mapping[str, Shape]) -> SizedExecution:
        key = self._key(shapes)
        if key in self._captured and not self._captured[key].failed:
            return self._captured[key]
        self._see_growth(axis_sizes(self.name, self.inputs, shapes))
        self._captured = {key: execution for key, execution in self._captured.items() if not execution.failed}
        if len(self._captured) == SIZES_KEPT or self._captures == MOST_CAPTURES:
            return super()._kept(shapes)
        self._captures += 1
        self._captured[key] = self._made(shapes, self._captures)
        if key in self._executions:  # it ran plainly before
            self._executions.pop(key).close()
        return self._captured[key]

    def _see_growth(self, sizes: dict[str, int]) -> None:
        """Drop what was captured before a set of sizes that none so far holds."""
        if any(_holds(seen, sizes) for seen in self._seen):
            return
        self._seen = [seen for seen in self._seen if not _holds(sizes, seen)] + [sizes]
        for execution in self._captured.values():
            execution.close()
        self._captured = {}

    def _made(self, shapes: Mapping[str, Shape], graph: int) -> ReplayExecution:
        sizes = axis_sizes(self.name, self.inputs, shapes)
        made = {
            name: tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.shape)
            for name, spec in self.outputs.items()
        }
        specs = self.inputs, self.outputs
        with GATE.together():
            return ReplayExecution(
                self.session, self._thread, self._scratch, specs, {**shapes, **made}, self._index, graph
            )


class ReplayExecution(SizedExecution):
    """A set of sizes bound to a session. graph: the number of its CUDA graph, or -1 for none.

    failed: its first run failed, so that what ONNX Runtime captured is not known; its buffers are freed, and neither it
    nor its number may be used again.
    """

    def __init__(
        self,
        session: Any,
        thread: OneThread,
        scratch: Scratch,
        specs: tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]],
        shapes: Mapping[str, Shape],
        index: int,
        graph: int,
    ) -> None:
        self.failed = False
        self._session, self._thread, self._specs, self._index = session, thread, specs, index
        self._options = module().RunOptions()
        self._options.add_run_config_entry("gpu_graph_id", str(graph))
        # It runs on the stream of our copies, whose end `run` waits for.
        self._options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._captures = graph != _NO_GRAPH
        inputs, outputs = specs
        super().__init__(scratch, {**inputs, **outputs}, shapes)

    def bind(self) -> None:
        self._binding = self._session.io_binding()
        for specs, bind in zip(
            self._specs, (self._binding.bind_input, self._binding.bind_output), strict=True
        ):
            for name, spec in specs.items():
                bind(name, "cuda", self._index, spec.dtype.type, self.shapes[name], self.address(name))

    def compute(self) -> None:
        run = partial(self._session.run_with_iobinding, self._binding, self._options)
        if not self._captures:
            with GATE.together():
                self._thread.run(run)
            return
        try:
            with GATE.alone():
                self._thread.run(run)
        except BaseException:
            self.failed = True
            with suppress(Exception):  # copies into the buffers may be under way
                self._scratch.gpu.sync()
            self.close()
            raise
        self._captures = False


def _holds(larger: Mapping[str, int], sizes: Mapping[str, int]) -> bool:
    return all(larger[axis] >= size for axis, size in sizes.items())
