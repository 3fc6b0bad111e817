"""Kernels that TensorRT for RTX compiled on this machine, kept on disk for the next process."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from grefine_rt.files import cache_dir, written_whole


def cache_path(gpu: str, version: str, engine: str) -> Path:
    """The file for an engine with the SHA-256 `engine`, run by TensorRT `version` on a GPU with the key `gpu`."""
    folder = re.sub(r"[^\w.+-]+", "_", f"{gpu}-tensorrt{version}")
    return cache_dir() / "kernels" / folder / f"{engine[:32]}.cache"


def worth_keeping(runs: int) -> bool:
    """Whether to look for new kernels after so many runs, 1 or more: they are compiled beside the first few."""
    return runs & (runs - 1) == 0


class JitCache:
    """A runtime cache of TensorRT and its file, which may be missing, of another release, or unwritable.

    Several processes may share the file: it appears whole, and a smaller cache never replaces a larger one.
    """

    def __init__(self, cache: Any, path: Path) -> None:
        self.cache = cache
        self._path = path
        self._known = 0
        with suppress(OSError):
            data = path.read_bytes()
            if cache.deserialize(data):
                self._known = len(data)
            else:
                path.unlink()

    def keep(self) -> None:
        """Write the cache when it has grown beyond what was read and what is there now. A failure costs only time."""
        made = self.cache.serialize()
        data = memoryview(b"" if made is None else made)
        if data.nbytes <= self._known:
            return
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._path.exists() or self._path.stat().st_size < data.nbytes:
                with written_whole(self._path) as temporary:
                    temporary.write_bytes(data)
        self._known = data.nbytes
