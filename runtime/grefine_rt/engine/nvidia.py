"""The NVIDIA GPUs of this machine, asked of the driver alone."""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """A GPU as its driver tells. driver: the version. memory, used: bytes in all, and taken by all processes."""

    name: str
    driver: str
    memory: int
    used: int


class _Memory(ctypes.Structure):
    """nvmlMemory_t"""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def number_by_place() -> None:
    """Let CUDA number GPUs by their place on the bus, as NVML and `nvidia-smi` do, unless CUDA_DEVICE_ORDER is set.

    CUDA's own order is by speed. It reads the variable when it is loaded, so whatever may load it calls this before.
    """
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def visible(identities: Sequence[str]) -> list[int]:
    """The GPUs that CUDA shows by CUDA_VISIBLE_DEVICES, in its order. identities: the UUID of each, by place.

    As in CUDA, the first entry that is no GPU ends the list.
    """
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return list(range(len(identities)))
    chosen: list[int] = []
    for entry in map(str.strip, wanted.split(",")):
        if entry.isdigit():
            matching = [int(entry)] if int(entry) < len(identities) else []
        else:
            matching = [index for index, uuid in enumerate(identities) if entry and uuid.startswith(entry)]
        if len(matching) != 1:
            break
        chosen += matching
    return chosen


def gpus() -> tuple[Gpu, ...]:
    """Every GPU that CUDA may use, numbered as there; none where there is no driver. Nothing of CUDA is loaded."""
    number_by_place()
    try:
        nvml = ctypes.CDLL("nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1")
    except OSError:
        return ()
    if nvml.nvmlInit_v2() != 0:
        return ()
    try:
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        driver = ctypes.create_string_buffer(96)
        nvml.nvmlSystemGetDriverVersion(driver, len(driver))
        shown = visible([_uuid(nvml, index) for index in range(count.value)])
        return tuple(_gpu(nvml, index, driver.value.decode()) for index in shown)
    finally:
        nvml.nvmlShutdown()


def _uuid(nvml: ctypes.CDLL, index: int) -> str:
    handle, text = ctypes.c_void_p(), ctypes.create_string_buffer(96)
    nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    nvml.nvmlDeviceGetUUID(handle, text, len(text))
    return text.value.decode()


def _gpu(nvml: ctypes.CDLL, index: int, driver: str) -> Gpu:
    handle, name, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), _Memory()
    nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
    nvml.nvmlDeviceGetName(handle, name, len(name))
    nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
    return Gpu(name.value.decode(), driver, memory.total, memory.used)
