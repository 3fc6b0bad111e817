"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from grefine_rt.errors import OutputError


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
