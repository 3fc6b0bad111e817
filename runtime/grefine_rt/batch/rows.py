"""A row of a batch: a picture, its prompt, and its own settings."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count
from pathlib import PurePosixPath
from stat import S_IFREG, S_ISREG
from typing import Any

from grefine_rt.batch.store import Location, location, reason_of
from grefine_rt.errors import ImageError, OptionError, shown
from grefine_rt.imaging.files_in import MAX_BYTES

_HASHED_ID = re.compile(r"[0-9a-f]{24}")
_UNUSUAL = re.compile(r"[^\w-]+")
"""Characters that names of files are better without; of others 40 stay below the 255 bytes that a name may have."""
_PLAIN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_COLUMNS = {
    "image": ("image", "file_name"),
    "prompt": ("prompt", "text", "caption"),
    "id": ("id",),
    "seed": ("seed",),
    "options": ("options",),
}
"""Columns by their use; the first that a table has is taken."""
ALL_COLUMNS = tuple(name for names in _COLUMNS.values() for name in names)


@dataclass(frozen=True)
class Row:
    """A picture that a source lists, not yet read.

    name: of the picture, relative to the source; the same on every machine.
    path, data: the path of its file, or the file's bytes; one of them, unless there is an `error`.
    prompt: None where the picture's side file or the picture itself may have one.
    image_id: as given, or None.
    seed: None for the run's own. options: the row's own ones, see `settings.with_values`.
    error: one sentence on a row that cannot be used. repeat: above 1 for a row that is there already, see `numbered`.
    """

    name: str
    path: Location | None = None
    data: bytes | None = None
    prompt: str | None = None
    image_id: str | None = None
    seed: int | None = None
    options: Mapping[str, Any] | None = None
    error: str = ""
    repeat: int = 1

    def read(self) -> bytes:
        """The bytes of the picture's file. Raises ImageError."""
        if self.data is not None:
            return self.data
        if self.path is None:
            raise ImageError(f'There is no picture for "{self.name}".')
        try:
            found = self.path.stat()
            if not S_ISREG(getattr(found, "st_mode", S_IFREG)):  # a pipe would be waited for without end
                raise ImageError(f'The image "{self.name}" is no file.')
            if found.st_size > MAX_BYTES:
                raise ImageError(f'The image "{self.name}" has more than {MAX_BYTES >> 20} MiB, the limit.')
            return self.path.read_bytes()
        except FileNotFoundError:
            raise ImageError(f'There is no image "{self.name}"; check the path.') from None
        except (OSError, ValueError) as error:
            raise ImageError(f'The image "{self.name}" cannot be read: {reason_of(error)}.') from None


def id_of(row: Row, data: bytes) -> str:
    """The row's id: as given, or of its name, its picture's bytes and its columns, so that it is the same in every run,
    and another one once any of them changes."""
    if row.image_id is not None:
        return row.image_id
    options = json.dumps(row.options, sort_keys=True, default=repr) if row.options else ""
    said = hashlib.sha256()
    for part in (row.name, row.prompt, row.seed, row.error, options):
        said.update(repr(part).encode("utf-8", "surrogatepass") + b"\0")
    said.update(data)
    return said.hexdigest()[:24]


def numbered(rows: Iterable[Row]) -> Iterator[Row]:
    """The same rows; one whose id an earlier row has is told by its `repeat`, without reading a picture.

    Rows without an id have equal ids if all their columns are equal: equal paths hold equal bytes.
    """
    seen: set[str] = set()
    for row in rows:
        said = key = id_of(row, row.data or b"")
        if key in seen:
            number, said = next((n, name) for n in count(2) if (name := f"{key}~{n}") not in seen)
            row = replace(row, repeat=number)
        seen.add(said)
        yield row


def file_stem(image_id: str, image: str) -> str:
    """A name for the files of a row: its id where every file system takes that, else the id's hash. An id that is a
    hash itself comes after the name of the picture `image`, by which people find it."""
    if _HASHED_ID.fullmatch(image_id):
        return f"{_UNUSUAL.sub('_', PurePosixPath(image).stem)[:40]}-{image_id}"
    if _PLAIN_ID.fullmatch(image_id):
        return image_id
    return "id-" + hashlib.sha256(image_id.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def row_of(cells: Mapping[str, Any], where: str, base: Location | None) -> Row:
    """A row of a table, a metadata file or a sample's JSON.

    where: its name in messages, such as: Row 3 of "table.csv". base: the folder of its paths; None if the picture's
    bytes come from elsewhere. A cell that cannot be used makes a row with an `error`.
    """
    try:
        image = _first(cells, "image")
        name, path, data = _picture(image, base, where)
        return Row(
            name,
            path,
            data,
            _text(_first(cells, "prompt"), "prompt", where),
            _identity(_first(cells, "id"), where),
            _seed(_first(cells, "seed"), where),
            _options(_first(cells, "options"), where),
        )
    except OptionError as error:
        return Row(where, error=str(error))


def _first(cells: Mapping[str, Any], kind: str) -> Any:
    for name in _COLUMNS[kind]:
        value = cells.get(name)
        if value is not None and value != "":
            return None if isinstance(value, float) and math.isnan(value) else value
    return None


def _picture(image: Any, base: Location | None, where: str) -> tuple[str, Location | None, bytes | None]:
    if base is None:
        return where, None, None
    name, data = image, None
    if isinstance(image, Mapping):  # how Hugging Face's datasets keep pictures in Parquet
        name, data = image.get("path"), image.get("bytes")
    if isinstance(image, bytes):
        name, data = None, image
    if isinstance(data, bytes):
        return (name if isinstance(name, str) and name else where), None, data
    if not isinstance(name, str) or not name or not _encodable(name):
        raise OptionError(f"{where} names no picture: its column 'image' must hold a path or bytes.")
    try:
        return name, location(name) if "://" in name else base / name, None
    except OptionError as error:
        raise OptionError(f"{where} names a picture that cannot be read: {error}") from None


def _text(value: Any, column: str, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _encodable(value):
        raise OptionError(f"{where} has a {column} that is no UTF-8 text: {shown(value)}.")
    return value


def _identity(value: Any, where: str) -> str | None:
    return str(value) if type(value) is int else _text(value, "id", where)


def _seed(value: Any, where: str) -> int | None:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,30}\s*", value, re.ASCII):
        value = int(value)
    if value is None or type(value) is int:
        return value
    raise OptionError(f"{where} has a seed that is no whole number: {shown(value)}.")


def _options(value: Any, where: str) -> Mapping[str, Any] | None:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise OptionError(f"{where} has options that are no JSON object: {shown(value)}.") from None
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise OptionError(f"{where} has options that are no JSON object: {shown(value)}.")
    # A Parquet struct has every field in every row.
    said = {str(name): item for name, item in value.items() if item is not None}
    try:  # a record must be able to hold them
        json.dumps(said, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        raise OptionError(f"{where} has options that are no JSON object: {shown(value)}.") from None
    return said or None


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text
