"""The backend of each graph of a bundle: a valid TensorRT engine, CUDA, the TensorRT-RTX plugin, or the CPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from grefine_rt.bundle.manifest import Manifest
from grefine_rt.engine.base import Engine
from grefine_rt.engine.devices import BACKENDS, ORDER, Backend, Choice, Device, parse_device
from grefine_rt.engine.onnxruntime import kernels, plugin
from grefine_rt.engine.onnxruntime.session import (
    NO_CUDA,
    NO_CUDA_HERE,
    CudaOptions,
    OnnxEngine,
    has_cuda,
    module,
    package,
)
from grefine_rt.errors import HERE, DeviceError, GRefineError, OptionError

if TYPE_CHECKING:
    from grefine_rt.engine.tensorrt.sidecar import Found, Sidecar

T = TypeVar("T")

_AUTOENCODERS = ("_encode", "_decode")


def step_rows(manifest: Manifest, component: str) -> tuple[int, ...]:
    """With how many rows of text a step runs as the bundle has it: 2 where it is guided, 1 where not, perhaps both.
    Other components read 2 texts here."""
    stage = manifest.restore if component.startswith("restore") else manifest.inpaint
    if stage is None or not component.endswith("_step"):
        return (2,)
    if stage.guidance == 1:
        return (1,)
    return (2,) if tuple(stage.interval) == (0.0, 1.0) else (2, 1)


class Selection:
    """Opens the graphs of one bundle on the device that was asked for, or with "auto" on the first that serves.

    name: how the user calls the bundle, for the commands in messages. Graphs are named by their file in the bundle.
    "auto" asks the driver first: without a GPU, nothing of CUDA or TensorRT is looked for.

    cuda_graphs: with the device "cuda", steps run as CUDA graphs (`replay.ReplayEngine`).

    Engines whose weights can be streamed keep on the GPU what fits there beside the other engines.

    Raises DeviceError for an unknown device, and for one that no component can run on here; OptionError for CUDA graphs
    with another device than "cuda".
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        device: str,
        threads: int | None = None,
        name: str = "",
        cuda_graphs: bool = False,
    ) -> None:
        self._folder, self._manifest, self._threads = folder, manifest, threads
        self._cuda_graphs = cuda_graphs
        self._name = name or str(folder)
        self._wanted = parse_device(device)
        self._loaded: set[Path] = set()
        self._shared: Any = None
        self._guard = threading.Lock()
        if cuda_graphs and self._wanted.kind != "cuda":
            raise OptionError(
                f"CUDA graphs go with the device 'cuda', not with '{device}'; TensorRT engines use them unasked."
            )
        if self._wanted.kind == "auto":
            if self._gpu is None:
                module()
        elif self._wanted.kind == "cpu":
            module()
        elif obstacle := self._missing(BACKENDS[self._wanted.kind]):
            raise self._refusal(obstacle)

    def open(self, graph: str) -> tuple[Engine, Choice]:
        """The engine of a graph, and why it is that one.

        Only "auto" goes on to another backend when one fails, and then the reason says so. Raises DeviceError and
        BundleError.
        """
        return self._take(graph, self._open)

    def foresee(self, graph: str) -> Choice:
        """The backend that `open` would take if the installed ones work; nothing is loaded. Raises DeviceError."""
        return self._take(graph, lambda backend, graph, device: None)[1]

    def _take(self, graph: str, opens: Callable[[Backend, str, Device], T]) -> tuple[T, Choice]:
        """The result of `opens` for the first backend that serves."""
        auto = self._wanted.kind == "auto"
        passed: list[str] = []
        for backend in ORDER if auto else (BACKENDS[self._wanted.kind],):
            device = _first(backend) if auto else self._wanted
            if obstacle := self._obstacle(backend, graph):
                if not auto:
                    raise self._refusal(obstacle)
                passed.append(f"{obstacle[0].upper()}{obstacle[1:].removesuffix('.')}.")
                continue
            try:
                opened = opens(backend, graph, device)
            except GRefineError as error:
                if backend == ORDER[-1] or not auto:
                    raise
                passed.append(str(error))
                continue
            how = ", as CUDA graphs" if self._replays(graph) else ""
            reason = self._reason(passed) if auto else f"Asked for by name{how}."
            return opened, Choice(self._serving(graph)[0], backend, device.tensor_device, reason)
        raise AssertionError("the last backend either opens a graph or raises")

    def _open(self, backend: Backend, graph: str, device: Device) -> Engine:
        if backend == "tensorrt":
            from grefine_rt.engine.tensorrt.run import TensorRTEngine

            found = self._built(graph)
            assert isinstance(found, tuple)
            budget, free = self._weight_budget(*found), self._scratch.gpu.free_memory
            try:
                engine = TensorRTEngine(*found, device.tensor_device, scratch=self._scratch, budget=budget)
            except DeviceError as error:
                if (told := self._without_room(found[1], free)) is None:
                    raise
                raise told from error
            self._loaded.add(found[0])
            return engine
        serves = self._serving(graph)
        if self._replays(graph):
            from grefine_rt.engine.onnxruntime.replay import ReplayEngine

            return ReplayEngine(self._folder / graph, str(device), scratch=self._scratch)
        # Autoencoders need much memory, but seldom.
        options = CudaOptions(shrink=any(name.endswith(_AUTOENCODERS) for name in serves))
        return OnnxEngine(self._folder / graph, str(device), self._threads, options)

    def _replays(self, graph: str) -> bool:
        return self._cuda_graphs and any(name.endswith("_step") for name in self._serving(graph))

    def _missing(self, backend: Backend) -> str | None:
        """Why nothing can run on a backend here, known without loading anything; None when it may."""
        if backend == "onnxruntime-cpu":
            return None
        if self._gpu is None:
            return self._no_gpu
        if backend == "onnxruntime-rtx" and not plugin.installed():
            return f"the TensorRT-RTX plugin of ONNX Runtime is not installed: run '{plugin.INSTALL}' {HERE}"
        if backend == "onnxruntime-cuda" and not has_cuda():
            # What would install it excludes the plugin, which "auto" takes then.
            return NO_CUDA_HERE if self._wanted.kind == "auto" and plugin.installed() else NO_CUDA
        if backend == "onnxruntime-cuda" and (lacking := kernels.missing_for(self._gpu, package())):
            return lacking
        if self._cuda_graphs:
            from grefine_rt.engine import device_memory

            return None if device_memory.installed() else device_memory.MISSING
        return None

    def _obstacle(self, backend: Backend, graph: str) -> str | None:
        """Why a graph cannot run on a backend here, as `_missing`."""
        if obstacle := self._missing(backend):
            return obstacle
        built = self._built(graph) if backend == "tensorrt" else None
        return built if isinstance(built, str) else None

    def _built(self, graph: str) -> tuple[Path, Sidecar] | str:
        """The engine of a graph that is valid here and its sidecar, or why there is none."""
        from grefine_rt.engine.tensorrt import sidecar

        stem = PurePosixPath(graph).stem
        found = [engine for engine in self._engines if engine.engine.stem == stem]
        for engine in found:
            if engine.problem is None and engine.sidecar is not None:
                return engine.engine, engine.sidecar
        if found:
            return str(found[0].problem)
        build = f"grefine-rt engine build {self._name} --component {self._serving(graph)[0]}"
        if self._gpu not in sidecar.RTX_TARGETS:
            # Classic TensorRT builds for the first GPU that it sees.
            index = self._wanted.index
            build = f"CUDA_VISIBLE_DEVICES={index} {build}" if index else build
            return (
                f"TensorRT for RTX builds no engines for the GPU here, which is {self._gpu}: run '{build} --target "
                f"{self._gpu} --flavour tensorrt' for one of classic TensorRT"
            )
        return f"no TensorRT engine of '{stem}' is built: run '{build}'"

    def _weight_budget(self, path: Path, sidecar: Sidecar) -> int | None:
        """Bytes of device memory for the weights of an engine, beside those that are not loaded yet; None for all."""
        if not sidecar.streams:
            return None
        from grefine_rt.engine.tensorrt.weight_budget import weight_budget

        built = [self._built(graph) for graph in dict.fromkeys(self._manifest.components.values())]
        valid = {found[0]: found[1] for found in built if not isinstance(found, str)}
        activations = max(size for engine in valid.values() for size in engine.activations)
        later = [engine for place, engine in valid.items() if place not in self._loaded | {path}]
        free = self._scratch.gpu.free_memory + self._scratch.size - activations
        return weight_budget(sidecar, later, free)

    def _without_room(self, sidecar: Sidecar, free: int) -> DeviceError | None:
        """A sentence on an engine that did not load where `free` bytes are too few for its weights; None elsewhere."""
        from grefine_rt.engine.tensorrt.sidecar import Environment, build_command

        if sidecar.streams or sidecar.engine.size <= free:
            return None
        component, device = self._serving(sidecar.graph)[0], self._wanted.tensor_device
        here = Environment(self._name, {}, self._gpu)
        command = build_command(here, component, sidecar.targets, sidecar.flavour, streams=True)
        return DeviceError(
            f"The weights of engine '{PurePosixPath(sidecar.graph).stem}' take {sidecar.engine.size / 1e9:.1f} GB, but "
            f"'{device}' has {free / 1e9:.1f} GB free: end other programs that hold its memory, or keep "
            f"weights in host memory with '{command}'."
        )

    @property
    def _no_gpu(self) -> str:
        number = f" number {self._wanted.index}" if self._wanted.index else ""
        return f"no NVIDIA GPU{number} with a driver is here"

    @cached_property
    def _gpu(self) -> str | None:
        from grefine_rt.engine.tensorrt.sidecar import gpu_target

        return gpu_target(self._wanted.index)

    @cached_property
    def _engines(self) -> list[Found]:
        from grefine_rt.engine.tensorrt.sidecar import Environment, engines

        return list(engines(self._folder, self._manifest, Environment.here(self._name, self._wanted.index)))

    @property
    def _scratch(self) -> Any:
        from grefine_rt.engine.device_memory import Scratch

        with self._guard:
            if self._shared is None:
                self._shared = Scratch(self._wanted.tensor_device)
            return self._shared

    def _serving(self, graph: str) -> list[str]:
        """The components that a graph file serves."""
        return [name for name, file in self._manifest.components.items() if file == graph]

    def _reason(self, passed: list[str]) -> str:
        if not passed:
            return f"A TensorRT engine for this GPU ({self._gpu}) is built and valid."
        return " ".join(dict.fromkeys(passed))

    def _refusal(self, obstacle: str) -> DeviceError:
        other = ", so use the device 'auto' or 'cpu'" if obstacle == self._no_gpu else ""
        return DeviceError(f"Device '{self._wanted}' was asked for, but {obstacle.removesuffix('.')}{other}.")


def _first(backend: Backend) -> Device:
    """The first device of a backend."""
    return parse_device(next(kind for kind, other in BACKENDS.items() if other == backend))
