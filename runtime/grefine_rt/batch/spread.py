"""Rows over a Ray cluster: one task lists them, a fixed pool of actors works on them, records come back in order.

Rows whose pictures lie in an object store travel as paths and are read by the actors. Rows of local files travel with
their bytes, for other nodes do not see these files. Results go from the actors into an object store; for a local
folder they come back with the records, and this process alone writes there.

A cell of Ray's tables is a `Group`, a Python object. Ray carries it between the run's own processes as it carries every
argument and result; lists and dictionaries it would turn into columns of Arrow, which fill what a record lacks.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from queue import Empty, Full, Queue
from typing import Any

from grefine_rt.assessor import Assessor
from grefine_rt.batch.cluster import Pool, cause_of, room_for
from grefine_rt.batch.records import Record, Records
from grefine_rt.batch.row_work import Read, read_row
from grefine_rt.batch.rows import Row, numbered
from grefine_rt.batch.runner import LOST, OnRow, Tally, keep_all, work_rows
from grefine_rt.batch.settings import BatchOptions
from grefine_rt.batch.store import Location, StorePath, write_whole
from grefine_rt.cancel import CancelToken, stop_if_cancelled
from grefine_rt.errors import DeviceError, GRefineError

_ROWS = {"refine": 4, "assess": 64}
"""Rows of a block, the unit that is given to an actor; the last to be done decide the end of a run. Ray keeps about
20 KiB for every block in the process that starts a run."""
_BYTES = 16 * 2**20
"""A block with more bytes of pictures than this is closed."""
_TRIES = 10
"""Tries of a block whose worker or node is gone; a picture that kills its worker would else do so for ever."""


@dataclass(frozen=True)
class Spread:
    """The knowledge that all processes of a run share. load: gives an actor its worker on rows. results: the store into
    which actors write; None if the bytes come back. patience: seconds in which a lost node may be replaced; then the
    run goes on with fewer actors."""

    load: Callable[[], Assessor]
    batch: BatchOptions
    pool: Pool
    results: StorePath | None = None
    patience: float = 60.0


@dataclass(frozen=True)
class Group:
    """A cell: rows to be done, or records with the bytes of their results."""

    items: Sequence[Any]


def _table(group: Group) -> Any:
    """A table with one cell."""
    import pandas as pd

    return pd.DataFrame({"group": [group]})


class _Interrupted(Exception):
    """The cluster lost a part that the run stood on."""


def spread_batch(
    connect: Callable[[], AbstractContextManager[tuple[Any, Spread]]],
    rows: Iterable[Row],
    records: Records,
    outdir: Location,
    cancel: CancelToken | None = None,
    on_row: OnRow = lambda record: None,
) -> Tally:
    """`run_batch` over a cluster: do every row without a record, and keep its record. Returns the tally of the rows.

    connect: connects to Ray and gives the run's shared knowledge, with a pool that fits. rows: an iterable that can
    be pickled and gives the same rows every time. A cluster that has lost so much that it cannot go on is connected
    to anew, and the run goes on from its records, as long as it gets on. Raises the errors of `run_batch`;
    DeviceError when Ray gave up.
    """
    new = 0
    while True:
        before = len(records.done)
        try:
            with connect() as (ray, spread):
                tally = _attempt(ray, spread, rows, records, outdir, cancel, on_row)
        except _Interrupted as error:
            if len(records.done) == before:
                raise DeviceError(str(error)) from None
            new += len(records.done) - before
            on_row = _only_new(on_row)
            continue
        return replace(tally, new=tally.new + new, former=tally.former - new)


def _only_new(on_row: OnRow) -> OnRow:
    return lambda record: None if record is None else on_row(record)


def _attempt(
    ray: Any,
    spread: Spread,
    rows: Iterable[Row],
    records: Records,
    outdir: Location,
    cancel: CancelToken | None,
    on_row: OnRow,
) -> Tally:
    def items() -> Iterator[Record | str]:
        for item, data in _spread_rows(ray, spread, rows, frozenset(records.done), cancel):
            if data is not None:
                write_whole(outdir / item["output"], data)
            yield item

    return keep_all(items(), records, on_row)


def _spread_rows(
    ray: Any, spread: Spread, rows: Iterable[Row], done: frozenset[str], cancel: CancelToken | None
) -> Iterator[tuple[Any, bytes | None]]:
    """Records in the order of the rows, each with the bytes of its result where they came back; ids of rows done."""
    made = _pipeline(ray, spread, rows, done)
    stop = threading.Event()
    try:
        for table in _in_time(ray, spread, _pulled(made, stop), cancel):
            for group in table["group"]:
                yield from group.items
    finally:
        stop.set()


def _pulled(made: Any, stop: threading.Event) -> Queue[Any]:
    """The tables that a thread takes out of the dataset, None at the end, or an error; two at most are waiting, so that
    this process holds few results, however slowly it writes."""
    tables: Queue[Any] = Queue(2)

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                return tables.put(item, timeout=1.0)
            except Full:
                continue

    def pull() -> None:
        try:
            for table in made.iter_batches(batch_size=None, batch_format="pandas", prefetch_batches=0):
                put(table)
                if stop.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    threading.Thread(target=pull, daemon=True, name="grefine-rt ray").start()
    return tables


def _in_time(ray: Any, spread: Spread, tables: Queue[Any], cancel: CancelToken | None) -> Iterator[Any]:
    """The tables, as long as the cluster has what the pool needs."""
    short_since: float | None = None
    while True:
        stop_if_cancelled(cancel, "before a row")
        try:
            table = tables.get(timeout=1.0)
        except Empty:
            # Ray waits for ever for room for an actor whose node is gone, and with it for the rows it had.
            short = room_for(ray, spread.pool) < spread.pool.actors
            short_since = (short_since or time.monotonic()) if short else None
            if short_since and time.monotonic() - short_since > spread.patience:
                raise _Interrupted("The Ray cluster has lost the nodes that the run needs.") from None
            continue
        if table is None:
            return
        if isinstance(table, BaseException):
            raise _said(ray, table) from None
        yield table


def _said(ray: Any, error: BaseException) -> BaseException:
    """The sentence of a worker's error, or that Ray gave up."""
    found = cause_of(error)
    if isinstance(found, GRefineError) or not isinstance(error, ray.exceptions.RayError):
        return found
    reason = (str(found).strip().splitlines() or [type(found).__name__])[0].rstrip(".")
    return _Interrupted(
        f"Ray gave the run up ({reason}): run the same line again, and it goes on where it stopped."
    )


def _pipeline(ray: Any, spread: Spread, rows: Iterable[Row], done: frozenset[str]) -> Any:
    """The dataset of the actors' results, which runs as it is read."""
    known = ray.put(done)
    data = ray.data
    context = data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Else Ray joins blocks up to 128 MiB, and a few actors would get all rows.
    context.target_max_block_size = context.target_min_block_size = 1
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    # The keywords that replace `ray_remote_args` have no strategy of scheduling.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        listed = data.read_datasource(
            _listing(rows, known, _ROWS[spread.batch.mode]),
            override_num_blocks=1,
            ray_remote_args={"num_cpus": 0, "scheduling_strategy": here},
        )
        return listed.map_batches(
            _Worker,
            fn_constructor_args=(spread, known),
            batch_size=None,
            batch_format="pandas",
            compute=data.ActorPoolStrategy(size=spread.pool.actors, max_tasks_in_flight_per_actor=2),
            num_cpus=spread.pool.cpus,
            num_gpus=spread.pool.gpus or None,
            max_restarts=-1,
            max_task_retries=_TRIES,
        )


def _listing(rows: Iterable[Row], known: Any, size: int) -> Any:
    """A data source of one task, whose blocks are groups of rows."""
    import ray
    from ray.data.block import BlockMetadata

    base: Any = ray.data.Datasource

    class Listing(base):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int | None:
            return None

        def get_read_tasks(self, parallelism: int, *more: Any, **others: Any) -> list[Any]:
            nothing = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)

            def read() -> Iterator[Any]:
                for group in groups(rows, ray.get(known), size):
                    yield _table(Group(group))

            return [ray.data.datasource.ReadTask(read, nothing)]

    source: Any = Listing
    return source()


def groups(rows: Iterable[Row], done: frozenset[str], size: int) -> Iterator[list[Row | Read | str]]:
    """Rows in groups of at most `size` and about 16 MiB; rows of local files are read, a row that is done is its id."""
    group: list[Row | Read | str] = []
    room = _BYTES
    for row in numbered(rows):
        item: Row | Read | str = row
        if row.image_id is not None and row.repeat == 1 and row.image_id in done:
            item = row.image_id
        elif not isinstance(row.path, StorePath):
            item = read_row(row)
            room -= len(item.data) if isinstance(item.data, bytes) else 0
        group.append(item)
        if len(group) >= size or room <= 0:
            yield group
            group, room = [], _BYTES
    if group:
        yield group


class _Worker:
    """An actor: one assessor or refiner, and its work on groups of rows."""

    def __init__(self, spread: Spread, known: Any) -> None:
        import ray

        self._spread, self._assessor = spread, spread.load()
        self._done: frozenset[str] = ray.get(known)
        self._lost = 0

    def __call__(self, table: Any) -> Iterator[Any]:
        apart = self._spread.batch.mode == "refine"  # a record that has come back is never worked on again
        for group in table["group"]:
            made: list[tuple[Record | str, bytes | None]] = []
            for item in self._work(group.items):
                made.append(item)
                if apart:
                    yield _table(Group(made))
                    made = []
            if made:
                yield _table(Group(made))

    def _work(self, group: Sequence[Row | Read | str]) -> Iterator[tuple[Record | str, bytes | None]]:
        spread, results = self._spread, {}

        def write(output: str, data: bytes) -> None:
            if spread.results is None:
                results[output] = data
            else:
                write_whole(spread.results / output, data)

        for item in work_rows(self._assessor, group, spread.batch, self._done.__contains__, write):
            self._still_there(item)
            output = "" if isinstance(item, str) else item.get("output", "")
            yield item, results.pop(output, None)

    def _still_there(self, item: Record | str) -> None:
        """Raises DeviceError when too many rows in a row of this actor failed by its device."""
        if isinstance(item, str):
            return
        self._lost = self._lost + 1 if item.get("error_kind") == DeviceError.__name__ else 0
        if self._lost >= LOST:
            raise DeviceError(
                f"{LOST} rows in a row failed by one worker's device, the last one so: {item['error']}"
            )
