"""Files that appear whole or not at all, files proven unchanged, and the folder of what can be made again."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from grefine_rt.errors import OutputError

_STAMP_FROM = 64 * 2**20
"""From this size in bytes on, a file proven whole is remembered by size and time, not hashed again."""


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """An empty file beside `path`, readable as any new file is, that takes its place when the block ends without an
    exception, and else is deleted. Raises OSError where it cannot be made or renamed."""
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.tmp")  # names end at 255 bytes
    try:
        temporary.open("xb").close()
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: str | os.PathLike[str], data: bytes) -> Path:
    """Write a file so that it appears whole or not at all, also when the power fails.

    Raises OutputError when the folder is missing, not writable or full.
    """
    path = Path(path)
    try:
        with whole(path) as temporary, temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f'"{path}" cannot be written: {reason}.') from None
    return path


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
        with whole(note) as temporary:
            temporary.write_text(stamp, encoding="utf-8")
    return True


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
