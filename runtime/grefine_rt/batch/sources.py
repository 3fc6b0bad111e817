"""The sources of `grefine-rt batch`: a folder of pictures, webdataset shards, or a table."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from grefine_rt.batch.rows import Row
from grefine_rt.batch.shards import PICTURES, shard_length, shard_rows
from grefine_rt.batch.store import Location, StorePath, reason_of
from grefine_rt.batch.tables import TABLES, table_length, table_rows
from grefine_rt.errors import OptionError

_SHARDS = (".tar", ".tar.gz", ".tgz")
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")


@dataclass(frozen=True)
class SourceRows:
    """The rows of an input, in an order that is the same every time.

    input: a folder, a shard, or a table. without: a folder below it that is left out, for results.
    """

    input: Location
    without: Location | None = None

    def __post_init__(self) -> None:
        """Raises OptionError for anything else, and for an empty folder."""
        name = self.input.name.lower()
        if self.without is not None and self._takes_results(self.without):
            raise OptionError(
                f'The results cannot go into the input "{self.input}" itself: choose another folder.'
            )
        if self.input.is_dir():
            if next(iter(self), None) is None:
                raise OptionError(
                    f'There is no picture, shard or metadata file in the folder "{self.input}".'
                )
        elif not self.input.exists():
            raise OptionError(f'There is no input "{self.input}"; check the path.')
        elif not name.endswith((*_SHARDS, *TABLES)):
            raise OptionError(
                f'The input "{self.input}" must be a folder, a .tar shard, or a table '
                f"({', '.join(TABLES)}); for single pictures use grefine-rt refine."
            )

    def _takes_results(self, outdir: Location) -> bool:
        """Whether the input is the folder of the results, or one that they go into: the next run would take them."""
        source: Any = self.input.resolve()
        below = [(outdir / name).resolve() for name in ("images", "records")]
        return source in (outdir.resolve(), *below)

    def __iter__(self) -> Iterator[Row]:
        if not self.input.is_dir():
            yield from _rows_of(self.input)
        elif shards := self._shards():
            for shard in shards:
                yield from shard_rows(shard)
        else:
            yield from _folder_rows(self.input, self.without)

    def count(self) -> int | None:
        """The number of rows, as far as it is known without reading the pictures."""
        if self.input.is_dir():
            shards = self._shards()
            if not shards:
                return sum(1 for _ in self)
            counts = [shard_length(shard) for shard in shards]
            return None if None in counts else sum(count or 0 for count in counts)
        if self.input.name.lower().endswith(_SHARDS):
            return shard_length(self.input)
        return table_length(self.input)

    def _shards(self) -> list[Location]:
        """The shards in the folder; none where it has pictures beside them."""
        folder = self.input
        if isinstance(folder, StorePath):
            files: list[Any] = [path for path, below in folder.listing() if not below]
        else:
            files = sorted(path for path in folder.iterdir() if path.is_file())
        shards = [path for path in files if path.name.lower().endswith(_SHARDS)]
        others = any(path.suffix.lower() in PICTURES or path.name in _METADATA for path in files)
        return [] if others else shards


def _rows_of(path: Location) -> Iterator[Row]:
    return shard_rows(path) if path.name.lower().endswith(_SHARDS) else table_rows(path)


def _folder_rows(root: Location, without: Location | None) -> Iterator[Row]:
    """Pictures in the folder and below it, folder by folder and by name; a metadata file's entry for one holds.

    A picture that a metadata file names and that is not there is a row, too.
    """
    left_out = None if without is None else without.resolve()
    named: set[str] = set()
    for here, below, files in _walk(root):
        below[:] = sorted(
            name for name in below if not name.startswith(".") and (here / name).resolve() != left_out
        )
        told, broken = _metadata(here, files)
        pictures = {
            name for name in files if Path(name).suffix.lower() in PICTURES and not name.startswith(".")
        }
        prefix = PurePosixPath(here.relative_to(root).as_posix())
        for name in sorted(pictures | told.keys()):
            row = told.get(name) or Row(name, here / name)
            whole = (prefix / name).as_posix()
            if whole not in named:  # by a metadata file further up
                yield replace(row, name=whole)
            if name in told:
                named.add(whole)
        for row in broken:
            yield replace(row, name=(prefix / row.name).as_posix())


def _walk(root: Location) -> Iterator[tuple[Any, list[str], list[str]]]:
    if isinstance(root, StorePath):
        try:
            yield from root.walk()
        except OSError as error:
            raise OptionError(f'The folder "{root}" cannot be read: {reason_of(error)}.') from None
        return
    for folder, below, files in os.walk(root, onerror=_cannot_list):
        yield Path(folder), below, files


def _cannot_list(error: OSError) -> None:
    raise OptionError(f'The folder "{error.filename}" cannot be read: {error.strerror}.') from None


def _metadata(folder: Location, files: list[str]) -> tuple[dict[str, Row], list[Row]]:
    """The rows of a folder's metadata file by the name of the picture, and rows that cannot be used."""
    told: dict[str, Row] = {}
    broken: list[Row] = []
    for table in (name for name in _METADATA if name in files):
        for row in table_rows(folder / table):
            if row.error:
                broken.append(row)
                continue
            name = Path(row.name).as_posix()
            if name in told:
                text = f'"{table}" names the picture "{name}" twice.'
                broken.append(Row(f"{table}: {name}", error=text))
            else:
                told[name] = row
        break
    return told, broken
