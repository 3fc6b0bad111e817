"""Engines of TensorRT for RTX, or of classic TensorRT, on a GPU: no torch, no copies to the host inside a loop."""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from grefine_rt.engine.base import first_line
from grefine_rt.engine.device_memory import Scratch
from grefine_rt.engine.sized import Shape, SizedEngine, axis_sizes
from grefine_rt.engine.tensorrt import callbacks, jit_cache
from grefine_rt.engine.tensorrt.execution import Graphs, TensorRTExecution
from grefine_rt.engine.tensorrt.sidecar import Sidecar, library
from grefine_rt.errors import BundleError, DeviceError
from grefine_rt.files import proven

Ranges = Mapping[str, tuple[int, ...]]
"""A profile: smallest, best and largest size by axis name."""


class TensorRTEngine(SizedEngine):
    """One engine file on a GPU. Implements `grefine_rt.engine.base.Engine`.

    path: the engine. sidecar: that of this file, valid here (`sidecar.check`); it names the flavour of TensorRT.
    device: "cuda:N". scratch: memory for activations, shared with engines that never run together with this one; None
    for its own. budget: bytes of device memory for the weights of an engine built with weight streaming, the rest
    stays in host memory; None for all of them.

    Every set of input sizes has an execution context and buffers of its own, so a CUDA graph of it outlives the loop
    that it was captured in: a run copies its inputs there, and its outputs from there, on the device.

    Raises BundleError for a missing or unusable file, DeviceError when TensorRT, cuda.core or the GPU cannot be used.
    """

    def __init__(
        self,
        path: Path,
        sidecar: Sidecar,
        device: str = "cuda:0",
        *,
        scratch: Scratch | None = None,
        budget: int | None = None,
    ) -> None:
        self._trt = library(sidecar.flavour)
        super().__init__(
            PurePosixPath(sidecar.graph).stem,
            {tensor.name: tensor.spec for tensor in sidecar.inputs},
            {tensor.name: tensor.spec for tensor in sidecar.outputs},
            scratch or Scratch(device),
            device,
        )
        self._profiles = sidecar.profiles
        self.largest = {
            axis: max(profile[axis][2] for profile in self._profiles) for axis in self._profiles[0]
        }
        self._runs = 0
        _prove(path, sidecar)
        with self._scratch.lock, self._failures():
            self._log = callbacks.logger(self._trt)
            self._runtime = self._trt.Runtime(self._log)
            self._engine = self._load(path)
            streaming = (
                budget is not None and sidecar.streams and budget < self._engine.streamable_weights_size
            )
            if budget is not None and sidecar.streams:
                self._engine.weight_streaming_budget_v2 = min(budget, self._engine.streamable_weights_size)
            self._graphs = Graphs(own=True, note="captured at the third run of a size")
            self._kernels: jit_cache.JitCache | None = None
            self._config: Any = None
            if sidecar.flavour == "tensorrt-rtx":
                self._config = self._engine.create_runtime_config()
                self._configure(sidecar)
            if streaming:
                self._without_graphs("not used, for weights come from host memory in every run")

    @property
    def graphs(self) -> str:
        """The use of CUDA graphs in words: by whom they are captured, or why not."""
        return self._graphs.note

    def _load(self, path: Path) -> Any:
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                engine = self._runtime.deserialize_cuda_engine(data)
        except (OSError, ValueError) as error:
            raise _unreadable(path, error) from error
        if engine is None:
            raise DeviceError(
                f"Engine '{path}' cannot be loaded on '{self.device}' ({self._log.reason}): see 'grefine-rt engine "
                f"list', or use another device."
            )
        return engine

    def _configure(self, sidecar: Sidecar) -> None:
        """Tell TensorRT for RTX what holds for every context: our memory, its own graphs, kernels kept on disk."""
        trt, config = self._trt, self._config
        config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        # Kernels that replace others while a loop runs would change its numbers.
        specialization = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = specialization.EAGER
        config.cuda_graph_strategy = trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._graphs = Graphs(own=False, note="captured by TensorRT for RTX itself")
        path = jit_cache.cache_path(self._gpu.key, sidecar.version, sidecar.engine.sha256)
        self._kernels = jit_cache.JitCache(config.create_runtime_cache(), path)
        config.set_runtime_cache(self._kernels.cache)

    def _without_graphs(self, note: str) -> None:
        self._graphs = Graphs(own=False, note=note)
        if self._config is not None:
            self._config.cuda_graph_strategy = self._trt.CudaGraphStrategy.DISABLED

    def check(self, shapes: Mapping[str, Shape]) -> None:
        self._profile(shapes)

    def execution(self, shapes: Mapping[str, Shape]) -> TensorRTExecution:
        profile = self._profile(shapes)
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = partial(self._engine.create_execution_context, self._config or strategy)
        specs = self.inputs | self.outputs
        return TensorRTExecution(context, self._log, self._scratch, self._graphs, profile, shapes, specs)

    def failure(self, error: Exception) -> DeviceError:
        return DeviceError(
            f"{self.name}: TensorRT failed on '{self.device}' ({first_line(error)}); if memory ran out, use a smaller "
            f"image or the device 'cpu'."
        )

    def _profile(self, shapes: Mapping[str, Shape]) -> int:
        sizes = axis_sizes(self.name, self.inputs, shapes)
        profile = profile_for(self._profiles, sizes)
        if profile is None:
            largest = max(self._profiles, key=_volume)
            wanted = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
            there = ", ".join(f"{axis} = {largest[axis][2]}" for axis in sizes)
            raise BundleError(
                f"{self.name}: no profile of the engine holds {wanted}, its largest is {there}: use a smaller picture, "
                f"or the device 'cuda' or 'cpu'."
            )
        return profile

    def ran(self) -> None:
        self._runs += 1
        if self._kernels is not None and jit_cache.worth_keeping(self._runs):
            self._kernels.keep()


def _prove(path: Path, sidecar: Sidecar) -> None:
    """Raise BundleError unless the file is the engine that the sidecar tells of."""
    try:
        same = proven(path, sidecar.engine.sha256)
    except OSError as error:
        raise _unreadable(path, error) from error
    if not same:
        raise BundleError(
            f"Engine file '{path}' was changed after it was built, its SHA-256 differs from its sidecar: delete it, "
            f"and run 'grefine-rt engine build' again."
        )


def _unreadable(path: Path, error: Exception) -> BundleError:
    return BundleError(
        f"Engine file '{path}' cannot be read ({first_line(error)}): run 'grefine-rt engine build' again."
    )


def profile_for(profiles: Sequence[Ranges], sizes: Mapping[str, int]) -> int | None:
    """The index of the profile that holds these sizes of the free axes and was built for sizes nearest to them, as
    ratios; None when none holds them."""
    fitting = [
        index
        for index, profile in enumerate(profiles)
        if all(profile[axis][0] <= size <= profile[axis][2] for axis, size in sizes.items())
    ]

    def distance(index: int) -> float:
        return sum(abs(math.log(size / profiles[index][axis][1])) for axis, size in sizes.items())

    return min(fitting, key=distance, default=None)


def _volume(profile: Ranges) -> int:
    return math.prod(sizes[2] for sizes in profile.values())
