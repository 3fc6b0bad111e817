"""What was asked of the stub CUDA libraries in this process."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL("libstubcuda.so")  # LD_LIBRARY_PATH leads there
    library.stub_count_names.restype = library.stub_told.restype = ctypes.c_char_p
    library.stub_count.restype = ctypes.c_long
    return library


@dataclass(frozen=True)
class Counts:
    """Events since the last `reset`, as `state.h` tells of them. told: the rules that were broken, a sentence."""

    allocations: int
    frees: int
    live: int
    peak: int
    host_to_device: int
    device_to_host: int
    device_to_device: int
    host_to_host: int
    memsets: int
    synchronisations: int
    waits: int
    kernels: int
    captures: int
    captured_kernels: int
    captured_host_copies: int
    captured_allocations: int
    graph_launches: int
    violations: int
    told: str

    @property
    def host_copies(self) -> int:
        """Copies between host and device, captured ones too."""
        return self.host_to_device + self.device_to_host + self.captured_host_copies


def counts() -> Counts:
    library = _library()
    names = library.stub_count_names().decode().split()
    return Counts(
        **{name: library.stub_count(name.encode()) for name in names}, told=library.stub_told().decode()
    )


def reset() -> None:
    """Start to count anew; what is allocated stays counted in `live`."""
    _library().stub_reset()


def limit(size: int) -> None:
    """Let the GPU have `size` bytes of memory."""
    _library().stub_limit(ctypes.c_size_t(size))
