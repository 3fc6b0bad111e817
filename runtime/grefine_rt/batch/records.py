"""Records, one of every row, in the order of the input.

    OUTDIR/run.json                    everything that the results of this run depend on
    OUTDIR/images/NAME-ID.png          the results
    OUTDIR/records/part-00000.jsonl    records of 1,000 rows, written whole; .parquet beside it has the same
    OUTDIR/records/open.jsonl          records of rows since the last part, one line as soon as each row is done

A record is written after its picture is whole on the disk. A kill therefore leaves a picture without a record,
which the next run makes once more with the same bits, and perhaps a line cut off, which it drops. In an object store,
which cannot append, open.jsonl is written anew, at most every ten seconds.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Literal

from grefine_rt.batch.store import Location, StorePath, location, reason_of, write_whole
from grefine_rt.batch.tables import parquet
from grefine_rt.errors import OptionError, OutputError

Record = dict[str, Any]
Kind = Literal["text", "real", "whole", "flag", "texts", "json"]

SCORES = (  # those of metrics also stand in `metrics_before` and `metrics_after`, with any others
    *("perceptual", "technical", "rationality", "naturalness", "alignment"),
    *("ip_iqa_quality", "ip_iqa_alignment", "image_reward"),
)

COLUMNS: Mapping[str, Kind] = {
    "image_id": "text",
    "image": "text",
    "status": "text",
    "error": "text",
    "error_kind": "text",
    "output": "text",
    "prompt": "text",
    "prompt_source": "text",
    "negative": "text",
    "seed": "text",
    "options": "json",
    "width": "whole",
    "height": "whole",
    **{f"{name}_before": "real" for name in SCORES},
    **{f"{name}_after": "real" for name in SCORES},
    "metrics_before": "json",
    "metrics_after": "json",
    "phrases": "json",
    "domain": "json",
    "regenerate": "flag",
    "restore": "flag",
    "restore_first": "flag",
    "strength": "real",
    "delta": "real",
    "plan_prompt": "text",
    "coverage": "real",
    "boxes": "json",
    "changed": "flag",
    "reasons": "texts",
    "notes": "texts",
    "tflop": "real",
    "tflop_assess": "real",
    "timings_ms": "json",
    "total_ms": "real",
    "run": "text",
}
"""Columns of a record. status: refined, assessed or failed; a failed row has its sentence in `error`. seed: digits, for
it may have more than 64 bits. "json" columns are objects or lists in JSONL and their JSON text in Parquet."""


STORE_EVERY = 10.0
"""Seconds between two writings of open.jsonl in an object store."""


class Records:
    """The records in one folder, open for a single run."""

    def __init__(self, folder: Location, partition: int = 1000) -> None:
        """`partition` is the number of rows of a part. Use `opened`."""
        self.folder, self._partition = folder, partition
        self._written = time.monotonic()
        self._parts: list[Any] = _parts(folder)
        self._journal = folder / "open.jsonl"
        self.done = {
            record["image_id"]: record["status"] != "failed"
            for part in self._parts
            for record in _lines(part)
        }
        """Every image_id that has a record, and whether it went well."""
        self._open = [record for record in _lines(self._journal) if record["image_id"] not in self.done]
        self.done |= {record["image_id"]: record["status"] != "failed" for record in self._open}
        self._rewrite()
        self._close_full_part()  # which a kill left open

    def add(self, record: Record) -> None:
        """Keep a record, at once and for good. Raises OutputError."""
        self._open.append(record)
        self.done[record["image_id"]] = record["status"] != "failed"
        if not isinstance(self._journal, StorePath):
            _append(self._journal, _line(record))
        elif time.monotonic() - self._written > STORE_EVERY:
            self._rewrite()
        self._close_full_part()

    def close_part(self) -> None:
        """Make a part of the records since the last one."""
        if self._open:
            number = 1 + max((int(part.stem.rpartition("-")[2]) for part in self._parts), default=-1)
            self._parts.append(self._write_part(self.folder / f"part-{number:05}.jsonl", self._open))
            self._open = []
            self._rewrite()

    def forget(self, image_ids: Collection[str]) -> None:
        """Take records out, so that their rows are done again."""
        for part in self._parts:
            records = list(_lines(part))
            kept = [record for record in records if record["image_id"] not in image_ids]
            if len(kept) < len(records):
                self._write_part(part, kept)
        self._open = [record for record in self._open if record["image_id"] not in image_ids]
        for image_id in image_ids:
            self.done.pop(image_id, None)
        self._rewrite()

    def complete(self) -> bool:
        """Write the Parquet files that a kill, or a run without pyarrow, left out; whether they could be."""
        if find_spec("pyarrow") is None:
            return False
        for part in self._parts:
            if not part.with_suffix(".parquet").is_file():
                _write_parquet(part.with_suffix(".parquet"), list(_lines(part)))
        return True

    def __iter__(self) -> Iterator[Record]:
        yield from (record for part in self._parts for record in _lines(part))
        yield from self._open

    def keep(self) -> None:
        """See that every record is kept now, in a store too."""
        if isinstance(self._journal, StorePath) and self._open:
            self._rewrite()

    def _write_part(self, path: Location, records: Sequence[Record]) -> Location:
        # A Parquet file that does not fit its part is never seen: it goes first.
        path.with_suffix(".parquet").unlink(missing_ok=True)
        write_whole(path, b"".join(map(_line, records)))
        if find_spec("pyarrow") is not None:
            _write_parquet(path.with_suffix(".parquet"), records)
        return path

    def _close_full_part(self) -> None:
        if len(self._open) >= self._partition:
            self.close_part()

    def _rewrite(self) -> None:
        write_whole(self._journal, b"".join(map(_line, self._open)))
        self._written = time.monotonic()


@contextmanager
def opened(outdir: Location, run: Mapping[str, Any], partition: int = 1000) -> Iterator[Records]:
    """The records of a run in a folder, which is made or gone on with.

    Raises OptionError where the folder holds the results of another run, or another process works in it, and
    OutputError where it cannot be written.
    """
    if isinstance(outdir, StorePath):
        _check_run(outdir, run)
        records = Records(outdir / "records", partition)
        try:
            yield records
        finally:
            records.keep()
        return
    try:
        (outdir / "images").mkdir(parents=True, exist_ok=True)
        (outdir / "records").mkdir(exist_ok=True)
        lock = (outdir / ".lock").open("ab")
    except OSError as error:
        raise OutputError(f'The folder "{outdir}" cannot be written: {error.strerror or error}.') from None
    with lock:
        _take(lock, outdir)
        _check_run(outdir, run)
        yield Records(outdir / "records", partition)


def read(outdir: str | os.PathLike[str] | StorePath) -> Iterator[Record]:
    """The records of a folder in their order, also while a run goes on and after it was killed."""
    folder, seen = (outdir if isinstance(outdir, StorePath) else location(outdir)) / "records", set()
    for path in (*_parts(folder), folder / "open.jsonl"):
        for record in _lines(path):
            if record["image_id"] not in seen:
                seen.add(record["image_id"])
                yield record


def _parts(folder: Location) -> list[Any]:
    """The parts in their order; a file that somebody put beside them is none."""
    return sorted(path for path in folder.glob("part-*.jsonl") if path.stem.removeprefix("part-").isdecimal())


def _check_run(outdir: Location, run: Mapping[str, Any]) -> None:
    path = outdir / "run.json"
    try:
        former = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        write_whole(path, (json.dumps(dict(run), indent=2) + "\n").encode())
        return
    except OSError as error:
        raise OptionError(f'"{path}" cannot be read: {reason_of(error)}.') from None
    except ValueError:
        former = None
    if not isinstance(former, dict):
        raise OptionError(f'"{path}" is no file of this command: choose another folder.')
    differing = [name for name, value in run.items() if former.get(name) != value]
    if differing:
        raise OptionError(
            f'"{outdir}" holds the results of another run, which differs in: {", ".join(differing)}. Choose another '
            f"folder."
        )


def _take(lock: BinaryIO, outdir: Path) -> None:
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OptionError(
            f'Another process works in "{outdir}": wait for it, or choose another folder.'
        ) from None
    except (ImportError, OSError):
        pass  # no locks here


def _line(record: Record) -> bytes:
    return (json.dumps(record, allow_nan=False, default=float) + "\n").encode("ascii")


def _append(path: Path, line: bytes) -> None:
    try:
        with path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(f'"{path}" cannot be written: {error.strerror}.') from None


def _lines(path: Location) -> Iterator[Record]:
    """The records of a file; a last line that was cut off is none. Raises OptionError for any other damage."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            record = json.loads(line)
            record["image_id"], record["status"]
        except (ValueError, KeyError, TypeError):
            raise OptionError(
                f'"{path}" has a damaged line: delete it to have its rows done again.'
            ) from None
        yield record


def _write_parquet(path: Location, records: Sequence[Record]) -> None:
    pq = parquet()
    import pyarrow as pa

    kinds = {
        "text": pa.string(),
        "json": pa.string(),
        "real": pa.float64(),
        "whole": pa.int64(),
        "flag": pa.bool_(),
        "texts": pa.list_(pa.string()),
    }
    columns = [
        pa.array([_cell(record.get(name), kind) for record in records], kinds[kind])
        for name, kind in COLUMNS.items()
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, names=list(COLUMNS)), sink)
    write_whole(path, sink.getvalue().to_pybytes())


def _cell(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "json":
        return json.dumps(value, default=float)
    if kind == "texts":
        return [_unicode(text) for text in value]
    return _unicode(value) if kind == "text" else value


def _unicode(text: str) -> str:
    """A text without halves of characters, which names of files may have."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
