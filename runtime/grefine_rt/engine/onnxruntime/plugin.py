"""ONNX Runtime's plugin provider of TensorRT for RTX (onnxruntime-ep-nv-tensorrt-rtx): compiles graphs as it loads
them, for the GPU that is here. Written after release 0.5.0; no RTX GPU was at hand to run it."""

import importlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grefine_rt.arrays import Array
from grefine_rt.errors import HERE, DeviceError

MODULE = "onnxruntime_ep_nv_tensorrt_rtx"
INSTALL = "pip install .[rtx]"

_lock = threading.Lock()
_registered: set[str] = set()


def installed() -> bool:
    """Whether the plugin is installed. It is not imported: that alone loads TensorRT, and fails without a driver."""
    return importlib.util.find_spec(MODULE) is not None


def ep_device(onnxruntime: Any, index: int) -> Any:
    """The OrtEpDevice of GPU `index`; on first use of a process, the plugin is registered with ONNX Runtime.

    Raises DeviceError when the plugin is missing, cannot be registered, or does not serve that GPU.
    """
    with _lock:
        try:
            module = importlib.import_module(MODULE)
            name = module.get_ep_name()
            if name not in _registered:
                onnxruntime.register_execution_provider_library(name, module.get_library_path())
                _registered.add(name)
            found = [device for device in onnxruntime.get_ep_devices() if device.ep_name == name]
        except ImportError as error:
            raise DeviceError(
                f"Device 'rtx:{index}' needs the TensorRT-RTX plugin of ONNX Runtime: run '{INSTALL}' {HERE}."
            ) from error
        except Exception as error:  # ONNX Runtime's exceptions share no base class
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DeviceError(
                f"Device 'rtx:{index}' cannot be used, for the TensorRT-RTX plugin does not fit this ONNX Runtime or "
                f"driver ({reason}): run '{INSTALL} --upgrade' {HERE}."
            ) from error
    if index >= len(found):
        raise DeviceError(
            f"Device 'rtx:{index}' cannot be used, for the TensorRT-RTX plugin serves {len(found)} GPUs here, all of "
            f"GeForce RTX 30 or later: use the device 'cuda' or 'cpu'."
        )
    return found[index]


def settings() -> dict[str, str]:
    """Options of the provider: the kernels it compiles are kept in our cache folder, apart for each release."""
    from grefine_rt.files import cache_dir

    version = getattr(importlib.import_module(MODULE), "__version__", "unknown")
    folder: Path = cache_dir() / "onnxruntime-rtx" / str(version)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return {}  # without a cache, every process compiles anew
    return {"nv_runtime_cache_path": str(folder)}


class Memory:
    """Tensors in the memory of the plugin's device: ONNX Runtime's own package may know nothing of CUDA."""

    def __init__(self, onnxruntime: Any, device: Any) -> None:
        self._onnxruntime = onnxruntime
        self._info = device.memory_info(onnxruntime.OrtDeviceMemoryType.DEFAULT)

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> Any:
        kind = np.dtype(dtype).type
        return self._onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            list(shape), kind, memory_info=self._info
        )

    def upload(self, array: Array) -> Any:
        value = self.empty(array.shape, array.dtype)
        host = self._onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
        self._onnxruntime.copy_tensors([host], [value])
        return value

    def fetch(self, value: Any, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        host = np.empty(shape, dtype)
        # On the CPU a value shares the array's memory.
        self._onnxruntime.copy_tensors([value], [self._onnxruntime.OrtValue.ortvalue_from_numpy(host)])
        return host
