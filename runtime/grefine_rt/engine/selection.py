"""Which backend runs each graph of a bundle: a valid TensorRT engine, the TensorRT-RTX plugin, CUDA, or the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

from grefine_rt.bundle.manifest import Manifest
from grefine_rt.engine import plugin
from grefine_rt.engine.base import Engine
from grefine_rt.engine.devices import BACKENDS, ORDER, Backend, Choice, Device, parse
from grefine_rt.engine.onnxruntime import NO_CUDA, CudaOptions, OnnxEngine, has_cuda, module
from grefine_rt.errors import DeviceError, GRefineError

if TYPE_CHECKING:
    from grefine_rt.engine.sidecar import Found

T = TypeVar("T")

_NO_GPU = "no NVIDIA GPU with a driver is here"
_AUTOENCODERS = ("_encode", "_decode")


class Selection:
    """Opens the graphs of one bundle on the device that was asked for, or with "auto" on the first that serves.

    name: how the user calls the bundle, for the commands in messages. Graphs are named by their file in the bundle.
    "auto" asks the driver first: without a GPU, nothing of CUDA or TensorRT is looked for.

    Raises DeviceError for an unknown device, and for one that no component can run on here.
    """

    def __init__(
        self, folder: Path, manifest: Manifest, device: str, threads: int | None = None, name: str = ""
    ) -> None:
        self._folder, self._manifest, self._threads = folder, manifest, threads
        self._name = name or str(folder)
        self._wanted = parse(device)
        if self._wanted.kind in ("auto", "cpu"):
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
        """What `open` would take, if what is installed works; nothing is loaded. Raises DeviceError."""
        return self._take(graph, lambda backend, graph, device: None)[1]

    def _take(self, graph: str, opens: Callable[[Backend, str, Device], T]) -> tuple[T, Choice]:
        """What `opens` gives for the first backend that serves."""
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
            reason = self._reason(passed) if auto else "Asked for by name."
            return opened, Choice(self._serving(graph)[0], backend, device.place, reason)
        raise AssertionError("the last backend either opens a graph or raises")

    def _open(self, backend: Backend, graph: str, device: Device) -> Engine:
        if backend == "tensorrt":
            from grefine_rt.engine.tensorrt import TensorRTEngine

            found = self._built(graph)
            assert isinstance(found, tuple)
            return TensorRTEngine(*found, device.place, scratch=self._scratch)
        serves = self._serving(graph)
        # Autoencoders need much memory, but seldom.
        options = CudaOptions(shrink=any(name.endswith(_AUTOENCODERS) for name in serves))
        return OnnxEngine(self._folder / graph, str(device), self._threads, options)

    def _missing(self, backend: Backend) -> str | None:
        """Why nothing can run on a backend here, known without loading anything; None when it may."""
        if backend == "onnxruntime-cpu":
            return None
        if self._gpu is None:
            return _NO_GPU
        if backend == "onnxruntime-rtx" and not plugin.installed():
            return f"the TensorRT-RTX plugin of ONNX Runtime is not installed: run '{plugin.INSTALL}'"
        if backend == "onnxruntime-cuda" and not has_cuda():
            return NO_CUDA
        return None

    def _obstacle(self, backend: Backend, graph: str) -> str | None:
        """Why a graph cannot run on a backend here, as `_missing`."""
        if obstacle := self._missing(backend):
            return obstacle
        built = self._built(graph) if backend == "tensorrt" else None
        return built if isinstance(built, str) else None

    def _built(self, graph: str) -> tuple[Path, Any] | str:
        """The engine of a graph that is valid here and its sidecar, or why there is none."""
        stem = PurePosixPath(graph).stem
        found = [engine for engine in self._engines if engine.engine.stem == stem]
        for engine in found:
            if engine.problem is None and engine.sidecar is not None:
                return engine.engine, engine.sidecar
        if found:
            return str(found[0].problem)
        return (
            f"no TensorRT engine of '{stem}' is built: run 'grefine-rt engine build {self._name} --component "
            f"{self._serving(graph)[0]}'"
        )

    @cached_property
    def _gpu(self) -> str | None:
        from grefine_rt.engine.sidecar import gpu_target

        return gpu_target()

    @cached_property
    def _engines(self) -> list[Found]:
        from grefine_rt.engine.sidecar import Environment, engines

        return list(engines(self._folder, self._manifest, Environment.here(self._name)))

    @cached_property
    def _scratch(self) -> Any:
        from grefine_rt.engine.device_memory import Scratch

        return Scratch(self._wanted.place)

    def _serving(self, graph: str) -> list[str]:
        """The components that a graph file serves."""
        return [name for name, file in self._manifest.components.items() if file == graph]

    def _reason(self, passed: list[str]) -> str:
        if not passed:
            return f"A TensorRT engine for this GPU ({self._gpu}) is built and valid."
        return " ".join(dict.fromkeys(passed))

    def _refusal(self, obstacle: str) -> DeviceError:
        other = ", so use the device 'auto' or 'cpu'" if obstacle == _NO_GPU else ""
        return DeviceError(f"Device '{self._wanted}' was asked for, but {obstacle.removesuffix('.')}{other}.")


def _first(backend: Backend) -> Device:
    """The first device of a backend."""
    return parse(next(kind for kind, other in BACKENDS.items() if other == backend))
