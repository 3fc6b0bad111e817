"""Engines on ONNX Runtime: CPU, CUDA with tensors bound on the device, or the plugin of TensorRT for RTX."""

import io
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from grefine_rt.arrays import Array
from grefine_rt.engine import nvidia
from grefine_rt.engine.base import Buffer, TensorSpec, check_all_set, check_run, declared, first_line
from grefine_rt.engine.devices import Device, parse_device
from grefine_rt.engine.onnxruntime import plugin
from grefine_rt.engine.onnxruntime.gate import Gate
from grefine_rt.errors import HERE, BundleError, DeviceError, OptionError

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
_SHRINK = "memory.enable_memory_arena_shrinkage"

NO_CUDA_HERE = "this ONNX Runtime has no CUDA support"
NO_CUDA = f"{NO_CUDA_HERE}: run 'pip uninstall onnxruntime' and 'pip install .[gpu]' {HERE}, or use the device 'cpu'"

_OUT_OF_MEMORY = re.compile(
    r"out.of.memory|failed to allocate|smaller than requested|bad_alloc", re.IGNORECASE
)

_preload_lock = threading.Lock()
_preloaded: list[str] = []
"""What `preload_dlls` had to say, once it was called."""


def module() -> Any:
    """onnxruntime, imported on first use; DeviceError names the two extras when it is not installed."""
    # Before the import: builds for Windows report events, others may come to.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise DeviceError(
            f"ONNX Runtime is not installed: run 'pip install .[cpu]' {HERE} for CPUs "
            "or 'pip install .[gpu]' for NVIDIA GPUs."
        ) from error
    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    return onnxruntime


def package() -> Path:
    """The folder of the module `onnxruntime`. Raises DeviceError as `module`."""
    return Path(getattr(module(), "__file__", None) or "nowhere").parent


def has_cuda() -> bool:
    """Whether ONNX Runtime was built for CUDA, which says nothing of the driver. Raises DeviceError as `module`."""
    return _CUDA in module().get_available_providers()


@dataclass(frozen=True)
class CudaOptions:
    """The settings of a graph on ONNX Runtime CUDA.

    shrink: give the memory of activations back after every `run`, for graphs that need much of it, but seldom; loops
        (`bind`) keep theirs. Then a process needs the largest of such graphs, not the sum.
    nhwc: let ONNX Runtime rewrite convolutions to the layout that cuDNN's FP16 kernels want. Off by default: release
        1.31 then also moves arithmetic on sizes to the GPU and copies between the two, and transposes around every
        decomposed group norm. Graphs exported with the operators "onnxruntime-cuda" have that layout already.
    """

    shrink: bool = False
    nhwc: bool = False


_PLAIN = CudaOptions()

GATE = Gate()
"""What of ONNX Runtime may ask CUDA for memory passes together, what captures a CUDA graph alone: it captures in the
mode in which the driver refuses memory to every other thread."""


def _passing(place: str) -> AbstractContextManager[None]:
    """The way through `GATE`, for those who may ask CUDA for memory."""
    return nullcontext() if place == "cpu" else GATE.together()


def cuda_settings(index: int, options: CudaOptions, stream: int | None = None) -> dict[str, str]:
    """The CUDA provider's options for GPU `index`. stream: as in `open_session`."""
    settings = {
        "device_id": str(index),
        # Memory grows by what is asked for, not by powers of two. It has no limit of its own (gpu_mem_limit): a
        # session serves pictures of any size, so no figure is known when it is opened.
        "arena_extend_strategy": "kSameAsRequested",
        # An exhaustive search would cost seconds a shape, and choose by the clock: not the same bits every time.
        "cudnn_conv_algo_search": "HEURISTIC",
        # A graph exported in FP32 computes in FP32; for speed there is FP16.
        "use_tf32": "0",
        "prefer_nhwc": "1" if options.nhwc else "0",
        "enable_cuda_graph": "0" if stream is None else "1",
    }
    return settings if stream is None else settings | {"user_compute_stream": str(stream)}


class Memory(Protocol):
    """The memory that a session's tensors lie in."""

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Any: ...

    def upload(self, array: Array) -> Any: ...

    def fetch(self, value: Any, shape: Sequence[int], dtype: npt.DTypeLike) -> Array: ...


class _Memory:
    """Of ONNX Runtime's own: the host's, or CUDA's. Copies are whole when a call returns."""

    def __init__(self, onnxruntime: Any, device: Device) -> None:
        self._ort_value = onnxruntime.OrtValue
        self._place = (device.kind, device.index)

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Any:
        return self._ort_value.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype).type, *self._place)

    def upload(self, array: Array) -> Any:
        # On the CPU the value shares the array's memory, which the loop will write into: give it its own.
        own = np.array(array, order="C") if self._place[0] == "cpu" else np.ascontiguousarray(array)
        return self._ort_value.ortvalue_from_numpy(own, *self._place)

    def fetch(self, value: Any, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        return np.array(value.numpy())


class OnnxEngine:
    """One ONNX file in an ONNX Runtime session.

    path: the graph; external data files are looked for beside it.
    device: "cpu", "cuda" or "cuda:N", or "rtx" or "rtx:N" for the plugin of TensorRT for RTX.
    threads: worker threads of a run on the CPU; None leaves the choice to ONNX Runtime (all physical cores).
    cuda: see `CudaOptions`.

    Raises DeviceError for an unknown device, when ONNX Runtime is not installed and when the GPU cannot be used or
    has too little memory, and BundleError for a file that is missing, unreadable or has tensors of an unknown kind.
    Implements `grefine_rt.engine.base.Engine`.
    """

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        threads: int | None = None,
        cuda: CudaOptions = _PLAIN,
    ) -> None:
        if threads is not None and threads < 1:
            raise OptionError(f"The number of threads must be at least 1, but got {threads}.")
        wanted = parse_device(device)
        if wanted.kind not in ("cpu", "cuda", "rtx"):
            raise DeviceError(f"'{wanted}' is no device of ONNX Runtime: use 'cpu', 'cuda' or 'rtx'.")
        self.name = path.stem
        self.device = wanted.tensor_device
        self.largest: dict[str, int] = {}
        self._session, self._memory = open_session(path, wanted, threads, cuda)
        self._run_options = None
        if wanted.kind == "cuda" and cuda.shrink:
            self._run_options = module().RunOptions()
            self._run_options.add_run_config_entry(_SHRINK, f"gpu:{wanted.index}")
        self.inputs, self.outputs = specs_of(self.name, self._session)
        self._seconds = 0.0
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        return self._seconds

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        names = check_run(self, self.name, arrays, outputs)
        with self._timed():
            values = self._session.run(names, dict(arrays), self._run_options)
        return dict(zip(names, values, strict=True))

    def bind(self) -> "OnnxBinding":
        return OnnxBinding(self)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Add the time inside to `seconds`; failures are those of `_guarded`."""
        with self._guarded():
            start = time.perf_counter()
            try:
                yield
            finally:
                with self._lock:
                    self._seconds += time.perf_counter() - start

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn what ONNX Runtime raises into a DeviceError."""
        try:
            with _passing(self.device):
                yield
        except Exception as error:  # its exceptions share no base class
            raise failure(self.name, self.device, error) from error


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
        self._set: dict[str, OnnxBuffer] = {}
        self.copies = 0
        """Calls of `upload` and `fetch` so far: every way between host and device."""

    def buffer(self, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> OnnxBuffer:
        kind = np.dtype(dtype)
        with self._engine._guarded():
            return OnnxBuffer(self._engine._memory.empty(shape, kind), tuple(shape), kind)

    def upload(self, array: Array) -> OnnxBuffer:
        self.copies += 1
        with self._engine._guarded():
            return OnnxBuffer(self._engine._memory.upload(array), array.shape, array.dtype)

    def set_input(self, name: str, value: Buffer) -> None:
        held = self._checked(self._engine.inputs, name, value)
        self._binding.bind_ortvalue_input(name, held.value)
        self._set[name] = held

    def set_output(self, name: str, value: Buffer) -> None:
        held = self._checked(self._engine.outputs, name, value)
        self._binding.bind_ortvalue_output(name, held.value)
        self._set[name] = held

    def run(self) -> None:
        check_all_set(self._engine.name, self._engine.inputs, self._set)
        with self._engine._timed():
            self._engine._session.run_with_iobinding(self._binding)

    def fetch(self, value: Buffer) -> Array:
        assert isinstance(value, OnnxBuffer)
        self.copies += 1
        with (
            self._engine._guarded()
        ):  # a run ends when the device has done it, so nothing is left to wait for
            return self._engine._memory.fetch(value.value, value.shape, value.dtype)

    def _checked(self, specs: Mapping[str, TensorSpec], name: str, value: Buffer) -> OnnxBuffer:
        assert isinstance(value, OnnxBuffer)
        declared(self._engine.name, specs, name).check(self._engine.name, value.dtype, value.shape)
        return value


def specs_of(graph: str, session: Any) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Inputs and outputs of a session, by name. BundleError, with the graph's name, for an unknown kind of tensor."""

    def spec(argument: Any) -> TensorSpec:
        if argument.type not in _DTYPES:
            raise BundleError(
                f"{graph}: tensor '{argument.name}' is of the unsupported kind {argument.type}; export the bundle "
                f"again with 'grefine-export bundle'."
            )
        shape = tuple(axis if isinstance(axis, int | str) else "?" for axis in argument.shape)
        return TensorSpec(argument.name, _DTYPES[argument.type], shape)

    inputs, outputs = map(spec, session.get_inputs()), map(spec, session.get_outputs())
    return {spec.name: spec for spec in inputs}, {spec.name: spec for spec in outputs}


def failure(name: str, device: str, error: Exception) -> DeviceError:
    """The sentence for what ONNX Runtime, or the driver, raised in a run of graph `name`."""
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return _memory_ran_out(name, device, error)
    other = "" if device == "cpu" else ", or use the device 'cpu'"
    return DeviceError(
        f"{name}: ONNX Runtime failed on '{device}' ({first_line(error)}); see 'grefine-rt doctor'{other}."
    )


def open_session(
    path: Path, device: Device, threads: int | None, cuda: CudaOptions, stream: int | None = None
) -> tuple[Any, Memory]:
    """A session on `device` and the memory of its tensors; raises as `OnnxEngine`. stream: the handle of a CUDA stream
    on which it runs and captures CUDA graphs, so that no more than one thread may call it."""
    onnxruntime = module()
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
    memory: Memory = _Memory(onnxruntime, device)
    providers: list[Any] | None = [_CPU]
    told = ""
    if device.kind == "cuda":
        if not has_cuda():
            raise DeviceError(f"Device '{device}' was asked for, but {NO_CUDA}.")
        nvidia.number_by_place()
        options.use_deterministic_compute = True
        # Release 1.31 warns at every session that CUDA comes without a plugin, which it does not need.
        onnxruntime.set_default_logger_severity(3)
        told = _preload(onnxruntime)
        providers = [(_CUDA, cuda_settings(device.index, cuda, stream)), _CPU]
    elif device.kind == "rtx":
        place = plugin.ep_device(onnxruntime, device.index)
        memory = plugin.Memory(onnxruntime, place)
        options.add_provider_for_devices([place], plugin.settings())
        # What the plugin does not take would run on the CPU, and nobody would know.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = None
    try:
        # ONNX Runtime's own fallback prints to standard output and runs on the CPU without a word.
        with _passing(device.tensor_device):
            session = onnxruntime.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    except Exception as error:  # the module's exceptions share no base class
        raise _unopened(path, device, error) from error
    if device.kind == "cuda" and _CUDA not in session.get_providers():
        # Without its libraries the provider is left out, and only a log tells.
        raise DeviceError(
            f"Device '{device}' cannot be used by ONNX Runtime{told}: check the NVIDIA driver, CUDA and cuDNN with "
            f"'grefine-rt doctor', or use the device 'cpu'."
        )
    return session, memory


def _preload(onnxruntime: Any) -> str:
    """Load CUDA and cuDNN where pip put them, once a process; what could not be loaded, in brackets."""
    with _preload_lock:
        if not _preloaded:
            said = io.StringIO()
            with redirect_stdout(said):  # it prints, and standard output is the command's
                onnxruntime.preload_dlls()
            _preloaded.append(next((line for line in said.getvalue().splitlines() if "Failed" in line), ""))
    return f" ({_preloaded[0]})" if _preloaded[0] else ""


def _unopened(path: Path, device: Device, error: Exception) -> Exception:
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)):
        return _memory_ran_out(path.stem, str(device), error)
    if device.kind != "cpu":
        return DeviceError(
            f"{path.stem}: ONNX Runtime cannot open it on '{device}' ({first_line(error)}); see 'grefine-rt doctor', "
            f"or use the device 'cpu'."
        )
    if "NOT_IMPLEMENTED" in str(error):
        return DeviceError(
            f"{path.stem}: it has operators without a kernel for CPUs, as graphs have that are exported for ONNX "
            f"Runtime CUDA alone: use the device 'cuda', or export it again with '--operators portable'."
        )
    return BundleError(
        f"Model file '{path}' cannot be loaded by ONNX Runtime ({first_line(error)}): run "
        f"'grefine-rt bundle verify' on its bundle, or fetch it again with 'grefine-rt bundle fetch'."
    )


def _memory_ran_out(name: str, device: str, error: Exception) -> DeviceError:
    other = "" if device == "cpu" else ", or use the device 'cpu'"
    return DeviceError(
        f"{name}: memory ran out on '{device}' ({first_line(error)}); use a smaller picture, end other programs that "
        f"hold its memory{other}."
    )
