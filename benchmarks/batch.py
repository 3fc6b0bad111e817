"""Many pictures by `grefine-rt batch`, by the warm library in a loop, and by a shell loop over `grefine-rt refine`.

    python -m benchmarks.batch [--count 500] [--shell 20] [--bundle mini] [--threads N] [--jobs N]

All three refine the same storybook pictures: the examples, over and over, each time with another seed. The loop of
the library reads, refines and writes with a Refiner that is loaded and warm, and its time is without loading; that of
the batch is a whole process, and besides without its start, that is, less a batch of the first picture alone. The
shell's loop runs `--shell` of the pictures, for a process each. Half of the library's loop and of the shell's runs
before the batch, half after it, so that a machine that gets slower or faster does so for all.

Prints wall and CPU milliseconds a picture, the rate of the batch against both loops, and how its memory grew. Fails
when a picture of the batch has other bits than the library's, or, from 100 pictures on, when its memory in the last
third of the run, but for the last two seconds, is more than 5 % above that in the second.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from grefine_rt import Refiner

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
COMMAND = [sys.executable, "-m", "grefine_rt.cli"]
GROWTH = 0.05
ENDING = 4
"""Looks at the memory, half a second apart, that belong to the end of a run."""
LONG = 100
"""Pictures of a run from which on memory should not grow: before, graphs and their buffers come."""

Job = tuple[Path, str, int]
"""A picture, its prompt and a seed."""


@dataclass
class Spent:
    """Pictures, and seconds of the clock and of all cores that they took. memory: bytes, over the time."""

    pictures: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    memory: list[int] = field(default_factory=list)

    def less(self, start: Spent) -> Spent:
        """Without a run of one picture, as near as its start can be told."""
        return Spent(self.pictures - start.pictures, self.wall - start.wall, self.cpu - start.cpu)

    def growth(self) -> float | None:
        """Of the highest memory in the last third of the time above that in the second; None for a short run.

        The run's last seconds are left out: the last part of the records is written then, which loads pyarrow once.
        """
        steady = self.memory[:-ENDING]
        third = len(steady) // 3
        if not third or self.pictures < LONG:
            return None
        return max(steady[2 * third :]) / max(steady[third : 2 * third]) - 1


@dataclass(frozen=True)
class Setting:
    """Where everything is written, and with which engine."""

    folder: Path
    bundle: str
    threads: int | None = None
    jobs: int | None = None

    @property
    def engine(self) -> list[str]:
        return ["--bundle", self.bundle, *(["--threads", str(self.threads)] if self.threads else [])]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.batch", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--shell", type=int, default=20, help="pictures of the shell's loop")
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--jobs", type=int)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder), chosen.bundle, chosen.threads, chosen.jobs)
        jobs = pictures(chosen.count)
        spent = measure(jobs, min(chosen.shell, len(jobs)), setting)
        same = len(jobs) - len(different(jobs, setting.folder))
    print("\n".join([*lines(spent), f"{same} of {len(jobs)} pictures have the library's bits"]))
    return 1 if same < len(jobs) or (spent["batch, whole process"].growth() or 0) > GROWTH else 0


def pictures(count: int) -> list[Job]:
    """The examples over and over, each time with another seed."""
    examples = [
        (path.with_suffix(".png"), path.read_text().strip()) for path in sorted(EXAMPLES.glob("*.txt"))
    ]
    return [(*item, seed) for seed, item in enumerate(itertools.islice(itertools.cycle(examples), count))]


def measure(jobs: list[Job], shell: int, setting: Setting) -> dict[str, Spent]:
    """What each of the three ways took, the batch between two halves of the others."""
    loop, single = Spent(), Spent()
    half, few = len(jobs) // 2, shell // 2
    first = batch(jobs[:1], setting.folder / "first", setting)
    library(jobs[:half], loop, setting)
    one_by_one(jobs[:few], single, setting)
    whole = batch(jobs, setting.folder / "out", setting)
    one_by_one(jobs[few:shell], single, setting)
    library(jobs[half:], loop, setting)
    return {
        "library loop, warm": loop,
        "batch, whole process": whole,
        "batch, after its start": whole.less(first),
        "shell loop": single,
    }


def lines(spent: dict[str, Spent]) -> list[str]:
    """The table, the rates against both loops, and the growth of memory."""
    said = [
        f"{name:<23}{1000 * one.wall / one.pictures:8.0f} ms a picture {1000 * one.cpu / one.pictures:8.0f} ms of CPU"
        for name, one in spent.items()
        if one.pictures
    ]

    def times(name: str, other: str) -> str:
        one, two = spent[name], spent[other]
        rate = (two.wall / two.pictures) / (one.wall / one.pictures)
        cpu = (two.cpu / two.pictures) / (one.cpu / one.pictures)
        return f"{name}: {rate:.2f} times the rate of the {other.partition(',')[0]}, by CPU time {cpu:.2f}"

    for name in ("batch, whole process", "batch, after its start"):
        said += [times(name, other) for other in ("library loop, warm", "shell loop") if spent[name].pictures]
    growth = spent["batch, whole process"].growth()
    if growth is not None:
        said.append(f"memory of the batch, last third over second: {growth:+.1%}")
    return said


def library(jobs: list[Job], spent: Spent, setting: Setting) -> None:
    folder = setting.folder / "loop"
    folder.mkdir(exist_ok=True)
    with Refiner.load(setting.bundle, threads=setting.threads) as refiner:
        refiner.warm_up()
        wall, cpu = time.perf_counter(), time.process_time()
        for path, prompt, seed in jobs:
            refiner.refine(path, prompt, seed).save(folder / f"{seed}.png")
        spent.wall += time.perf_counter() - wall
        spent.cpu += time.process_time() - cpu
    spent.pictures += len(jobs)


def batch(jobs: list[Job], folder: Path, setting: Setting) -> Spent:
    folder.mkdir()
    with (folder / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "prompt", "id", "seed"])
        rows.writerows([str(path), prompt, seed, seed] for path, prompt, seed in jobs)
    more = ["--jobs", str(setting.jobs)] if setting.jobs else []
    command = ["batch", str(folder / "table.csv"), "-o", str(folder), *setting.engine, *more]
    spent = Spent(len(jobs))
    run(command, spent, lambda process: spent.memory.append(resident(process.pid)))
    return spent


def one_by_one(jobs: list[Job], spent: Spent, setting: Setting) -> None:
    for path, prompt, seed in jobs:
        output = ["-o", str(setting.folder / f"shell-{seed}.png")]
        run(["refine", str(path), "-p", prompt, "--seed", str(seed), *output, *setting.engine], spent)
    spent.pictures += len(jobs)


def run(
    command: list[str],
    spent: Spent,
    look: Callable[[subprocess.Popen[bytes]], None] = lambda process: None,
) -> None:
    """A process of the command, which adds to what was spent; `look` sees it every half second."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen([*COMMAND, *command], stdout=subprocess.DEVNULL)
    while True:
        try:
            code = process.wait(0.5)
            break
        except subprocess.TimeoutExpired:
            look(process)
    spent.wall += time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent.cpu += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}")


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where the system does not say."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def different(jobs: list[Job], folder: Path) -> list[int]:
    """Seeds of the pictures whose result in the batch is not the library's."""
    return [
        seed
        for _, _, seed in jobs
        if not np.array_equal(
            _pixels(folder / f"loop/{seed}.png"), _pixels(folder / f"out/images/{seed}.png")
        )
    ]


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


if __name__ == "__main__":
    sys.exit(main())
