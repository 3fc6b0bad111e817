"""What a batch over Ray costs beside the same batch in one process, and the memory of the process that starts it.

    python -m benchmarks.scale overhead [--count 200] [--bundle mini]
    python -m benchmarks.scale memory [--rows 500 20000]

overhead: the examples, over and over, each time with another seed, are refined in this process one at a time and by one
actor of a Ray cluster of this machine, one thread each. CPU seconds are of all processes of either way, wall seconds
and CPU seconds are taken from the fifth row on, so that neither counts a start. memory: tables of so many rows of
one picture are assessed by an actor that assesses once and then repeats itself; the resident memory of this process
is what is told.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from grefine_rt.assess.indicator import Assessment
from grefine_rt.assessor import Assessor
from grefine_rt.batch import records as kept
from grefine_rt.batch.cluster import Loading, Pool, connected
from grefine_rt.batch.runner import Tally, run_batch
from grefine_rt.batch.settings import BatchOptions
from grefine_rt.batch.sources import SourceRows
from grefine_rt.batch.spread import Spread, spread_batch

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
_FIRST = 5
OnRow = Callable[[Any], None]


class _Clock:
    """Wall and CPU seconds from one row to the last, of this process and all below it."""

    def __init__(self) -> None:
        self.rows = 0
        self._from, self._to = (0.0, 0.0), (0.0, 0.0)

    def __call__(self, record: Any) -> None:
        self.rows += 1
        if self.rows == _FIRST:
            self._from = self._now()
        self._to = (time.perf_counter(), 0.0)

    def stop(self) -> None:
        self._to = (self._to[0], self._now()[1])

    def a_row(self) -> tuple[float, float]:
        """Milliseconds of wall and CPU time."""
        wall, cpu = (
            1000 * (end - begin) / (self.rows - _FIRST)
            for begin, end in zip(self._from, self._to, strict=True)
        )
        return wall, cpu

    @staticmethod
    def _now() -> tuple[float, float]:
        this, spent = psutil.Process(), 0.0
        for process in (this, *this.children(recursive=True)):
            try:
                times = process.cpu_times()
                spent += times.user + times.system
            except psutil.Error:
                continue
        return time.perf_counter(), spent


def spread(
    load: Any, rows: SourceRows, out: Path, batch: BatchOptions, on_row: OnRow, end: Callable[[], None]
) -> Tally:
    """A batch by one actor of a cluster that is started here. end: called before the cluster ends."""
    with Assessor.load(load.bundle, "cpu", 1) as loaded:
        run = batch.run_of(loaded.bundle.manifest)

    @contextmanager
    def connect() -> Iterator[Any]:
        with connected("local", cpus=2) as ray:
            yield ray, Spread(load, batch, Pool(1, 1, 0))
            end()

    with kept.opened(out, run) as records:
        return spread_batch(connect, rows, records, out, on_row=on_row)


def overhead(count: int, bundle: str) -> int:
    """Prints both, and their ratio; 1 where pictures differ."""
    with tempfile.TemporaryDirectory() as folder:
        here, batch, load = Path(folder), BatchOptions(), Loading(bundle)
        table = here / "table.jsonl"
        told = [path for path in sorted(EXAMPLES.glob("*.png")) if path.with_suffix(".txt").is_file()]
        examples = itertools.islice(itertools.cycle(told), count)
        rows = [{"image": str(path), "id": str(seed), "seed": seed} for seed, path in enumerate(examples)]
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = SourceRows(table)
        alone, over = _Clock(), _Clock()
        spread(load, source, here / "ray", batch, over, over.stop)
        with load() as worker, kept.opened(here / "alone", batch.run_of(worker.bundle.manifest)) as records:
            run_batch(worker, source, records, here / "alone", batch, on_row=alone)
            alone.stop()
        one, other = (
            {path.name: path.read_bytes() for path in (here / name / "images").iterdir()}
            for name in ("alone", "ray")
        )
    for name, clock in (("one process", alone), ("one actor", over)):
        print(
            f"{name:<12} {clock.a_row()[0]:8.1f} ms of wall time, {clock.a_row()[1]:8.1f} ms of CPU time a picture"
        )
    for index, name in enumerate(("wall", "CPU")):
        print(
            f"{name} time over that of one process: {100 * (over.a_row()[index] / alone.a_row()[index] - 1):+.1f} %"
        )
    print(f"{sum(one[name] == other.get(name) for name in one)} of {len(one)} pictures have the same bits")
    return int(one != other or len(one) != count)


class _Repeats(Loading):
    def __call__(self) -> Assessor:
        assessor = super().__call__()
        told: list[Assessment] = []

        def assess(*arguments: Any, **options: Any) -> Assessment:
            if not told:
                told.append(type(assessor).assess(assessor, *arguments, **options))
            return told[0]

        assessor.assess = assess  # type: ignore[method-assign]
        return assessor


def memory(counts: list[int], bundle: str) -> None:
    """Prints the memory of this process at the end of each run, and at its highest."""
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            table = Path(folder) / "table.jsonl"
            picture = str(EXAMPLES / "clean.png")
            with table.open("w") as file:
                file.writelines(json.dumps({"image": picture, "id": str(n)}) + "\n" for n in range(count))
            this, seen = psutil.Process(), [0]

            def look(record: Any, this: Any = this, seen: list[int] = seen) -> None:
                seen.append(max(this.memory_info().rss, seen.pop()))

            begin = time.perf_counter()
            batch = BatchOptions("assess")
            tally = spread(
                _Repeats(bundle), SourceRows(table), Path(folder) / "out", batch, look, lambda: None
            )
            spent = time.perf_counter() - begin
        print(f"{tally.new:6} rows in {spent:6.0f} s: {seen[0] / 2**20:6.0f} MiB at most", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("overhead", "memory"))
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--rows", type=int, nargs="+", default=[500, 20000])
    parser.add_argument("--bundle", default="mini")
    chosen = parser.parse_args()
    if chosen.what == "overhead":
        return overhead(chosen.count, chosen.bundle)
    memory(chosen.rows, chosen.bundle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
