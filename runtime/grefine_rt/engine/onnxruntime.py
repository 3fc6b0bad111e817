"""Engines on ONNX Runtime: CPU, or CUDA with tensors bound on the device."""

import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grefine_rt.engine.base import Array, Buffer, TensorSpec, check_inputs
from grefine_rt.errors import BundleError, DeviceError, OptionError

_DTYPES: dict[str, np.dtype[Any]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(bool)": np.dtype(np.bool_),
}
_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


def _onnxruntime() -> Any:
    """The module, imported on first use; DeviceError names the two extras when it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            "ONNX Runtime is not installed: run 'pip install grefine-rt[cpu]' for CPUs "
            "or 'pip install grefine-rt[gpu]' for NVIDIA GPUs."
        ) from error
    return onnxruntime


def resolve_device(device: str = "auto") -> str:
    """The device that `device` ("auto", "cpu", "cuda" or "cuda:N") stands for: "cpu" or "cuda:N".

    "auto" takes the first GPU where ONNX Runtime was built for CUDA, else the CPU. Raises DeviceError for another
    name, when ONNX Runtime is not installed, and when CUDA is asked for but not available.
    """
    match = re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", device)
    if match is None:
        raise DeviceError(
            f"Unknown device '{device}': use 'auto', 'cpu', 'cuda' or 'cuda:N' with a GPU number N."
        )
    has_cuda = _CUDA in _onnxruntime().get_available_providers()
    if device == "cpu" or (device == "auto" and not has_cuda):
        return "cpu"
    if not has_cuda:
        raise DeviceError(
            f"Device '{device}' was asked for, but this ONNX Runtime has no CUDA support: run "
            f"'pip uninstall onnxruntime' and 'pip install grefine-rt[gpu]', or use the device 'cpu'."
        )
    return f"cuda:{match.group(1) or 0}"


class OnnxEngine:
    """One ONNX file in an ONNX Runtime session.

    path: the graph; external data files are looked for beside it.
    device: "auto", "cpu", "cuda" or "cuda:N". With "auto" a GPU that cannot be used is replaced by the CPU;
        one that was asked for by name never is.
    threads: worker threads of a run on the CPU; None leaves the choice to ONNX Runtime (all physical cores).

    Raises DeviceError as `resolve_device` does and when the GPU cannot be used, BundleError for a file that
    is missing, unreadable or has tensors of an unknown kind. Implements `grefine_rt.engine.base.Engine`.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int | None = None) -> None:
        if threads is not None and threads < 1:
            raise OptionError(f"The number of threads must be at least 1, but got {threads}.")
        self.name = path.stem
        resolved = resolve_device(device)
        self._session = _open(path, resolved, threads)
        if resolved != "cpu" and _CUDA not in self._session.get_providers():
            # ONNX Runtime falls back to the CPU on its own and only logs it.
            if device != "auto":
                raise DeviceError(
                    f"Device '{resolved}' cannot be used by ONNX Runtime: check the NVIDIA driver, CUDA and "
                    f"cuDNN with 'grefine-rt doctor', or use the device 'cpu'."
                )
            resolved = "cpu"
        self.device = resolved
        self.inputs = {spec.name: spec for spec in map(self._spec, self._session.get_inputs())}
        self.outputs = {spec.name: spec for spec in map(self._spec, self._session.get_outputs())}
        self._seconds = 0.0
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return self._seconds

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        check_inputs(self.name, self.inputs, arrays)
        names = list(self.outputs) if outputs is None else list(outputs)
        for name in names:
            self._declared(self.outputs, name)
        with self._timed():
            values = self._session.run(names, dict(arrays))
        return dict(zip(names, values, strict=True))

    def bind(self) -> "OnnxBinding":
        return OnnxBinding(self)

    def _spec(self, argument: Any) -> TensorSpec:
        if argument.type not in _DTYPES:
            raise BundleError(
                f"{self.name}: tensor '{argument.name}' is of the unsupported kind {argument.type}; "
                f"export the bundle again with 'grefine-export bundle'."
            )
        shape = tuple(axis if isinstance(axis, int | str) else "?" for axis in argument.shape)
        return TensorSpec(argument.name, _DTYPES[argument.type], shape)

    def _declared(self, specs: Mapping[str, TensorSpec], name: str) -> TensorSpec:
        if name not in specs:
            raise BundleError(
                f"{self.name}: the graph has no tensor '{name}', only {sorted(specs)}; "
                f"export the bundle again with a matching 'grefine-export bundle'."
            )
        return specs[name]

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Add the time inside to `seconds`, and turn what ONNX Runtime raises into a DeviceError."""
        start = time.perf_counter()
        try:
            yield
        except Exception as error:
            raise DeviceError(
                f"{self.name}: ONNX Runtime failed on '{self.device}' ({_first_line(error)}); if memory ran "
                f"out, use a smaller image or the device 'cpu'."
            ) from error
        finally:
            with self._lock:
                self._seconds += time.perf_counter() - start


@dataclass(frozen=True)
class OnnxBuffer:
    """A tensor held by ONNX Runtime in the memory of the engine's device."""

    value: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class OnnxBinding:
    """I/O binding of one engine. Implements `grefine_rt.engine.base.Binding`."""

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self._binding = engine._session.io_binding()
        self._ort_value = _onnxruntime().OrtValue
        kind, _, index = engine.device.partition(":")
        self._place = (kind, int(index or 0))
        self._set: dict[str, OnnxBuffer] = {}

    def buffer(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> OnnxBuffer:
        kind = np.dtype(dtype)
        return OnnxBuffer(
            self._ort_value.ortvalue_from_shape_and_type(list(shape), kind.type, *self._place),
            tuple(shape),
            kind,
        )

    def upload(self, array: Array) -> OnnxBuffer:
        # On the CPU the value shares the array's memory, which the loop will write into: give it its own.
        own = np.array(array, order="C")
        return OnnxBuffer(self._ort_value.ortvalue_from_numpy(own, *self._place), own.shape, own.dtype)

    def set_input(self, name: str, value: Buffer) -> None:
        held = self._checked(self._engine.inputs, name, value)
        self._binding.bind_ortvalue_input(name, held.value)
        self._set[name] = held

    def set_output(self, name: str, value: Buffer) -> None:
        held = self._checked(self._engine.outputs, name, value)
        self._binding.bind_ortvalue_output(name, held.value)
        self._set[name] = held

    def run(self) -> None:
        unset = sorted(self._engine.inputs.keys() - self._set.keys())
        if unset:
            raise BundleError(
                f"{self._engine.name}: the graph also wants the inputs {unset}, which this version does not "
                f"give; export the bundle again with a matching 'grefine-export bundle'."
            )
        with self._engine._timed():
            self._engine._session.run_with_iobinding(self._binding)

    def fetch(self, value: Buffer) -> Array:
        assert isinstance(value, OnnxBuffer)
        return np.array(value.value.numpy())

    def _checked(self, specs: Mapping[str, TensorSpec], name: str, value: Buffer) -> OnnxBuffer:
        assert isinstance(value, OnnxBuffer)
        self._engine._declared(specs, name).check(self._engine.name, value.dtype, value.shape)
        return value


def _open(path: Path, device: str, threads: int | None) -> Any:
    """A session on `device` ("cpu" or "cuda:N"); BundleError when the file cannot be loaded."""
    onnxruntime = _onnxruntime()
    if not path.is_file():
        raise BundleError(f"Model file '{path}' is missing: run 'grefine-rt bundle verify' on its bundle.")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # From the second run on, a pattern takes all activations once more, beside the arena's; it saves no time.
    options.enable_mem_pattern = False
    # Many sessions share the cores: workers may spin inside a run, never after it.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if threads is not None:
        options.intra_op_num_threads = threads
    providers: list[Any] = [_CPU]
    if device != "cpu":
        # Memory grows by what is asked for, not by powers of two; an exhaustive search would cost seconds a
        # shape.
        settings = {
            "device_id": device.partition(":")[2],
            "arena_extend_strategy": "kSameAsRequested",
            "cudnn_conv_algo_search": "HEURISTIC",
        }
        providers.insert(0, (_CUDA, settings))
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the module's exceptions share no base class
        raise BundleError(
            f"Model file '{path}' cannot be loaded by ONNX Runtime ({_first_line(error)}): run "
            f"'grefine-rt bundle verify' on its bundle, or fetch it again with 'grefine-rt bundle fetch'."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
