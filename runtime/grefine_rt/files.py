"""Files that appear whole or not at all, files proven unchanged, and the folder of what can be made again."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from grefine_rt.errors import OutputError

_STAMP_FROM = 64 * 2**20
"""From this size in bytes on, a file proven whole is remembered by size and time, not hashed again."""
_TEMPORARY = re.compile(r"\..{1,160}\.[0-9a-f]{32}\.grefine-tmp", re.DOTALL)
_swept: set[Path] = set()
"""Folders in which this process has looked for what killed runs left."""


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, readable as any new file is, that takes its place and its mode when the block ends
    without an exception, and else is deleted. What killed runs left in this folder is deleted too.

    Raises OSError where it cannot be made or renamed.
    """
    _sweep(path.parent)
    temporary, lock = _locked(path)
    try:
        yield temporary
        with suppress(FileNotFoundError):
            shutil.copymode(path, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        lock.close()


def write_whole(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file so that it appears whole or not at all, also when the power fails.

    A symbolic link stays, what it leads to is written; a FIFO or a device is written to as it is. Raises OutputError
    when the folder is missing, not writable or full.
    """
    path = Path(path)
    try:
        if is_stream(path):
            with path.open("wb", buffering=0) as stream:
                _write_all(stream, data)
            return path
        target = path.resolve() if path.is_symlink() else path
        with written_whole(target) as temporary, temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f'"{path}" cannot be written: {reason}.') from None
    return path


def is_stream(path: Path) -> bool:
    """Whether `path` is there and no plain file or folder: a FIFO, a device, a socket, or a link to one."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def check_writable(
    path: str | os.PathLike[str], *, overwrite: bool = True, not_over: Iterable[str | os.PathLike[str]] = ()
) -> Path:
    """See that a file can be written to `path`.

    Raises OutputError when the folder is missing or not writable, when `path` is a folder, is one of `not_over` (the
    inputs; they are never overwritten), or exists and `overwrite` is off.
    """
    path = Path(path)
    if any(
        os.path.realpath(path) == os.path.realpath(other) or _same_file(path, other) for other in not_over
    ):
        raise OutputError(f'The result would overwrite the input "{path}"; choose another output name.')
    if is_stream(path):
        return path
    if os.path.isdir(path):  # unlike Path.is_dir, False for names that no file can have
        raise OutputError(f'"{path}" is a folder; give the name of a file to write.')
    if not overwrite and os.path.lexists(path):
        raise OutputError(
            f'"{path}" exists already: choose another name, or add --overwrite (in Python overwrite=True).'
        )
    folder = (path.resolve() if os.path.islink(path) else path).parent
    if not folder.is_dir():
        raise OutputError(f'There is no folder "{folder}" to write "{path.name}" into; make it first.')
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f'The folder "{folder}" is not writable; choose another one for "{path.name}".')
    return path


def _same_file(path: Path, other: str | os.PathLike[str]) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def _write_all(stream: BinaryIO, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[stream.write(rest) :]


def _locked(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside `path`, locked for as long as the returned file is open: a lock ends with its process."""
    while True:
        # Names end at 255 bytes, and a character has up to four.
        temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.grefine-tmp")
        lock = temporary.open("xb")
        _try_lock(lock, wait=True)
        if os.fstat(lock.fileno()).st_nlink or os.name == "nt":
            return temporary, lock
        lock.close()  # another process swept it away before it was locked


def _sweep(folder: Path) -> None:
    """Delete what killed runs left in a folder: temporary files that no process has locked. Once a process."""
    if folder in _swept:
        return
    _swept.add(folder)
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if _TEMPORARY.fullmatch(entry.name):
                with suppress(OSError), open(entry.path, "rb") as file:
                    if _try_lock(file, wait=False):
                        os.unlink(entry.path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """While the block runs, no other process or thread is in a block of the same `path`, where the system has locks.
    The file stays. Raises OSError where it cannot be made."""
    with path.open("ab") as file:
        _try_lock(file, wait=True)
        yield


def _try_lock(file: BinaryIO, wait: bool) -> bool:
    """Whether this file is now locked by this process; False also where the system or its folder has no locks."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except (ImportError, OSError):
        return False
    return True


def cache_dir() -> Path:
    """Folder for fetched bundles and notes: $GREFINE_CACHE, else grefine-rt in the user's cache folder."""
    if chosen := os.environ.get("GREFINE_CACHE"):
        return Path(chosen)
    if os.name == "nt" and (local := os.environ.get("LOCALAPPDATA")):
        return Path(local) / "grefine-rt"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grefine-rt"


def proven(path: Path, wanted: str) -> bool:
    """Whether a file has this SHA-256; a large one proven once is not hashed again while its size and time stay."""
    status = path.stat()
    if status.st_size < _STAMP_FROM:
        return sha256(path) == wanted
    stamp = f"{status.st_size} {status.st_mtime_ns} {wanted}"
    note = cache_dir() / "verified" / hashlib.sha256(str(path.resolve()).encode()).hexdigest()
    with suppress(OSError, UnicodeDecodeError):
        if note.read_text(encoding="utf-8") == stamp:
            return True
    if sha256(path) != wanted:
        return False
    with suppress(OSError):  # a cache that cannot be written only costs time
        note.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(note) as temporary:
            temporary.write_text(stamp, encoding="utf-8")
    return True


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
