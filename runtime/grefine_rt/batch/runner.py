"""Rows in, records out: reading, refining and writing overlap, and the order is that of the input."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from typing import TypeVar

from grefine_rt.assessor import Assessor
from grefine_rt.batch.records import Record, Records
from grefine_rt.batch.row_work import Done, Read, Ready, finish, prepare, read_row, work_all
from grefine_rt.batch.rows import Row, numbered
from grefine_rt.batch.settings import BatchOptions
from grefine_rt.batch.store import Location, write_whole
from grefine_rt.cancel import CancelToken
from grefine_rt.errors import DeviceError
from grefine_rt.refiner import Refiner

_AHEAD = 2
"""Rows that are read before their turn; each holds a decoded picture."""
LOST = 5
"""The number of rows, failed in a row by the device, that mean that it is lost."""
TOLD = 5
"""Failures that a run names at its end; the records have all."""


class _Alone(Assessor):
    remembered = 0  # so that a score never depends on what was assessed before


@dataclass
class Tally:
    """Numbers of rows: done now, done by a former run, and failed ones of both; the first records of failures now."""

    new: int = 0
    former: int = 0
    failed: int = 0
    failures: list[Record] = field(default_factory=list)


T = TypeVar("T")
OnRow = Callable[[Record | None], None]
"""Called for each row in order with its new record; None for a row that a former run did."""


def worker(assessor: Assessor) -> Assessor:
    """The worker on rows: a Refiner for a bundle that refines, else an assessor without memory."""
    return (Refiner if assessor.bundle.manifest.refines else _Alone)(assessor.bundle)


def run_rows(
    assessor: Assessor,
    rows: Iterable[Row],
    batch: BatchOptions,
    skip: Callable[[str], bool] = lambda image_id: False,
    write: Callable[[str, bytes], None] = lambda output, data: None,
    jobs: int = 1,
    cancel: CancelToken | None = None,
) -> Iterator[Record | str]:
    """`work_rows` of rows, the repeated ones told from others."""
    return work_rows(assessor, numbered(rows), batch, skip, write, jobs, cancel)


def work_rows(
    assessor: Assessor,
    rows: Iterable[Row | Read | str],
    batch: BatchOptions,
    skip: Callable[[str], bool] = lambda image_id: False,
    write: Callable[[str, bytes], None] = lambda output, data: None,
    jobs: int = 1,
    cancel: CancelToken | None = None,
) -> Iterator[Record | str]:
    """The records of rows in their order, or the ids of skipped ones.

    rows: not yet read, read, or ids that are passed on.
    skip: says of an image_id whether it is done already. write: takes a result's name and bytes, before its record is
    given. jobs: rows, or batches of them, that are worked on at a time; results do not depend on it. Raises
    BundleError, Cancelled, and the errors of `write`; DeviceError after five rows in a row that failed by it.
    """
    cancel = cancel or CancelToken()

    def begin(group: Sequence[Row | Read | str]) -> tuple[list[Ready | str], Future[list[Done]]]:
        read = [_read(row, batch, skip) for row in group]
        ready = [item for item in read if isinstance(item, Ready)]
        return read, working.submit(work_all, assessor, ready, batch, cancel)

    def store(begun: Future[tuple[list[Ready | str], Future[list[Done]]]]) -> list[Record | str]:
        read, worked = begun.result()
        done = iter(worked.result())
        return [item if isinstance(item, str) else _store(next(done), batch, write) for item in read]

    with _pool(1) as reading, _pool(jobs) as working, _pool(1) as writing:
        waiting: deque[Future[list[Record | str]]] = deque()
        lost = 0
        try:
            for group in chain(_groups(rows, batch.together), repeat(None)):
                if group is not None:
                    waiting.append(writing.submit(store, reading.submit(begin, group)))
                elif not waiting:
                    return
                if group is None or len(waiting) > jobs + _AHEAD:
                    for record in waiting.popleft().result():
                        lost = _still_there(record, lost)
                        yield record
        except BaseException:
            cancel.cancel()  # a step in progress ends, what waits is never begun
            raise


def _read(row: Row | Read | str, batch: BatchOptions, skip: Callable[[str], bool]) -> Ready | str:
    """The row, ready to be worked on, or its id where that is done already."""
    if isinstance(row, str):
        return row
    if isinstance(row, Row) and row.image_id is not None and row.repeat == 1 and skip(row.image_id):
        return row.image_id  # its picture is not even read
    read = row if isinstance(row, Read) else read_row(row)
    return read.image_id if skip(read.image_id) else prepare(read, batch)


def _store(done: Done, batch: BatchOptions, write: Callable[[str, bytes], None]) -> Record:
    done = finish(done, batch)
    if done.data is not None:
        write(done.record["output"], done.data)
    return done.record


def _groups(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(rows)
    while group := list(islice(left, size)):
        yield group


def run_batch(
    assessor: Assessor,
    rows: Iterable[Row],
    records: Records,
    outdir: Location,
    batch: BatchOptions,
    jobs: int = 1,
    cancel: CancelToken | None = None,
    on_row: OnRow = lambda record: None,
) -> Tally:
    """Do every row that has no record yet, and keep its record; what became of the rows."""

    def write(output: str, data: bytes) -> None:
        write_whole(outdir / output, data)

    return keep_all(
        run_rows(assessor, rows, batch, records.done.__contains__, write, jobs, cancel), records, on_row
    )


def keep_all(items: Iterable[Record | str], records: Records, on_row: OnRow) -> Tally:
    """Keep the records among what `run_rows` gives, whose results are whole already; what became of the rows."""
    tally = Tally()
    for item in items:
        if isinstance(item, str):
            tally.former += 1
            tally.failed += not records.done[item]
            on_row(None)
            continue
        records.add(item)
        tally.new += 1
        if item["status"] == "failed":
            tally.failed += 1
            if len(tally.failures) < TOLD:
                tally.failures.append(item)
        on_row(item)
    records.close_part()
    records.complete()
    return tally


def to_repeat(records: Records, outdir: Location, failures: bool) -> set[str]:
    """Ids of rows whose result is gone, and with `failures` of failed ones."""
    there = {f"images/{path.name}" for path in (outdir / "images").iterdir()}
    return {
        record["image_id"]
        for record in records
        if (record["status"] == "refined" and record["output"] not in there)
        or (failures and record["status"] == "failed")
    }


def _still_there(record: Record | str, lost: int) -> int:
    """The number of rows in a row that failed by the device. Raises DeviceError when they are too many."""
    if isinstance(record, str):
        return lost
    lost = lost + 1 if record.get("error_kind") == DeviceError.__name__ else 0
    if lost >= LOST:
        raise DeviceError(f"{LOST} rows in a row failed by the device, the last one so: {record['error']}")
    return lost


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
