"""Rows of CSV, JSONL and Parquet tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from typing import Any

from grefine_rt.batch.rows import ALL_COLUMNS, Row, row_of
from grefine_rt.batch.store import Location, reason_of
from grefine_rt.errors import HERE, OptionError

TABLES = (".csv", ".jsonl", ".ndjson", ".parquet")
_CHUNK = 16
"""Rows of a Parquet file in memory at a time; they may hold pictures."""


def table_rows(path: Location, base: Location | None = None) -> Iterator[Row]:
    """The rows of a table in its order; paths in it are relative to `base`, by default the table's folder.

    A line that cannot be read is a row with an error. Raises OptionError for a table without a column of pictures.
    """
    base = path.parent if base is None else base
    suffix = path.suffix.lower()
    read = _csv if suffix == ".csv" else _parquet if suffix == ".parquet" else _jsonl
    for number, cells in enumerate(read(path), 1):
        where = f'Row {number} of "{path.name}"'
        if isinstance(cells, str):
            yield Row(where, error=f"{where} cannot be read: {cells}.")
        else:
            yield row_of(cells, where, base)


def table_length(path: Location) -> int | None:
    """The number of a table's rows, as far as it is known without reading its pictures."""
    if path.suffix.lower() == ".parquet":
        with _opened(path) as file:
            return int(file.metadata.num_rows)
    return sum(1 for _ in (_csv if path.suffix.lower() == ".csv" else _jsonl)(path))


def _csv(path: Location) -> Iterator[Mapping[str, Any] | str]:
    # Bytes that are no UTF-8 become halves of characters, which `row_of` refuses, row by row.
    with _open(path) as file:
        reader = csv.DictReader(file)
        try:
            _check_columns(path, reader.fieldnames or [])
            yield from reader
        except csv.Error as error:
            yield f"{error}; what follows was left out"


def _jsonl(path: Location) -> Iterator[Mapping[str, Any] | str]:
    with _open(path) as file:
        for line in file:
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                value = None
            yield value if isinstance(value, dict) else "it is no JSON object"


def _parquet(path: Location) -> Iterator[Mapping[str, Any] | str]:
    with _opened(path) as file:
        names = file.schema_arrow.names
        _check_columns(path, names)
        try:
            wanted = [name for name in names if name in ALL_COLUMNS]
            for batch in file.iter_batches(batch_size=_CHUNK, columns=wanted):
                yield from batch.to_pylist()
        except (OSError, ValueError) as error:
            yield f"{' '.join(str(error).split())[:200]}; what follows was left out"


def _opened(path: Location) -> Any:
    pq = parquet()
    try:
        return pq.ParquetFile(path.open("rb"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise OptionError(f'"{path}" cannot be read as a Parquet file: {reason}.') from None


def parquet() -> Any:
    """The module pyarrow.parquet. Raises OptionError where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise OptionError(
            f"Parquet needs pyarrow, which is not installed: run pip install '.[batch]' {HERE}."
        ) from None
    return pyarrow.parquet


def _check_columns(path: Location, names: Any) -> None:
    if not {"image", "file_name"} & set(names):
        raise OptionError(f'"{path}" has no column "image" (or "file_name") with the paths of the pictures.')


def _open(path: Location) -> Any:
    try:
        return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise OptionError(f'"{path}" cannot be read: {reason_of(error)}.') from None
