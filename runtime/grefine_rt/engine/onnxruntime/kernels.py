"""The GPUs that ONNX Runtime's CUDA provider has machine code for, read from the headers in its library.

Without code for a GPU every session opens, and its first run fails ("no kernel image is available").
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from grefine_rt.errors import HERE

PROVIDER = "capi/libonnxruntime_providers_cuda.so"
_SECTION = b".nv_fatbin"
_MAGIC = 0xBA55ED50
PTX, MACHINE_CODE = 1, 2

Kernel = tuple[int, int]
"""Kind, `PTX` or `MACHINE_CODE`, and the compute capability it was made for, 89 for 8.9."""


class Entry(NamedTuple):
    """The kernels of a source file for one GPU, in an ELF library: a header of `header` bytes at `at`, then `payload`
    bytes."""

    kind: int
    capability: int
    at: int
    header: int
    payload: int


def missing_for(gpu: str, package: Path) -> str | None:
    """Why ONNX Runtime cannot run on a GPU, such as "sm100"; None when it can, or when its library does not tell.

    package: the folder of the module `onnxruntime`.
    """
    found = compiled(package / PROVIDER)
    if not found or _serves(found, int(gpu.removeprefix("sm"))):
        return None
    known = ", ".join(f"sm{capability}" for capability in sorted({capability for _, capability in found}))
    return (
        f"the installed ONNX Runtime has no kernels for the GPU here, which is {gpu}, only for {known}: run 'pip "
        f"install --upgrade .[gpu]' {HERE}, or use the device 'tensorrt' or 'cpu'"
    )


def _serves(kernels: frozenset[Kernel], gpu: int) -> bool:
    """Machine code runs on later minor versions of its major version; PTX is compiled for every later GPU."""
    return any(
        capability <= gpu and (kind == PTX or capability // 10 == gpu // 10) for kind, capability in kernels
    )


@cache
def compiled(library: Path) -> frozenset[Kernel]:
    """The kernels in an ELF library, by kind and compute capability; none where there is no such file."""
    try:
        with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return frozenset((entry.kind, entry.capability) for entry in entries(data))
    except (OSError, ValueError, IndexError, struct.error):
        return frozenset()


def entries(data: mmap.mmap | bytearray) -> Iterator[Entry]:
    """The entries of a library's fat binaries, PTX and machine code. Raises ValueError, IndexError or struct.error for
    what is no such library."""
    start, size = _section(data)
    return _entries(data, start, start + size)


def _section(data: mmap.mmap | bytearray) -> tuple[int, int]:
    """Offset and size of the section of fat binaries in an ELF64 file; ValueError when there is none."""
    if data[:5] != b"\x7fELF\x02":
        raise ValueError("no ELF64 file")
    (table,) = struct.unpack_from("<Q", data, 0x28)
    width, count, names = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, table + index * width) for index in range(count)]
    strings = headers[names][4]
    for name, _, _, _, offset, size in headers:
        if data[strings + name : strings + name + len(_SECTION) + 1] == _SECTION + b"\0":
            return offset, size
    raise ValueError("no section of fat binaries")


def _entries(data: mmap.mmap | bytearray, at: int, end: int) -> Iterator[Entry]:
    """Each fat binary is a header with the size of what follows, entries of a header and a payload."""
    while at + 16 <= end:
        magic, _, header, size = struct.unpack_from("<IHHQ", data, at)
        if magic != _MAGIC:
            at += 8  # padding
            continue
        entry, at = at + header, at + header + size
        while entry < at:
            kind, _, length, payload = struct.unpack_from("<HHIQ", data, entry)
            (capability,) = struct.unpack_from("<I", data, entry + 0x1C)
            if kind in (PTX, MACHINE_CODE):
                yield Entry(kind, capability, entry, length, payload)
            entry += length + payload
