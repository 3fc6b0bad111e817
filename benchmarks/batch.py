"""Many pictures by `grefine-rt batch`, by the warm library in a loop, and by a shell loop over `grefine-rt refine`.

    python -m benchmarks.batch [--count 500] [--shell 20] [--bundle mini] [--threads N] [--jobs N]

All three refine the same pictures: the examples, over and over, each time with another seed. The library's loop reads,
refines and writes with a Refiner that is loaded and warm, and its time is without loading; that of the batch is a whole
process, and besides without its start, that is, less a batch of the first picture alone. The shell's loop runs
`--shell` of the pictures, for a process each. Prints milliseconds a picture, and the rate of the batch against both;
fails when a picture of the batch has other bits than the library's.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from grefine_rt import Refiner

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
COMMAND = [sys.executable, "-m", "grefine_rt.cli"]

Job = tuple[Path, str, int]
"""A picture, its prompt and a seed."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.batch", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--shell", type=int, default=20, help="pictures of the shell's loop")
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--jobs", type=int)
    chosen = parser.parse_args()
    examples = [
        (path, path.with_suffix(".txt").read_text().strip()) for path in sorted(EXAMPLES.glob("*.png"))
    ]
    jobs = [
        (*item, seed) for seed, item in enumerate(itertools.islice(itertools.cycle(examples), chosen.count))
    ]
    engine = ["--bundle", chosen.bundle, *(["--threads", str(chosen.threads)] if chosen.threads else [])]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "loop").mkdir()
        whole = _batch(jobs, here / "out", engine, chosen.jobs)
        start = _batch(jobs[:1], here / "first", engine, chosen.jobs)
        seconds = {
            "library loop, warm": _library(jobs, here / "loop", chosen.bundle, chosen.threads),
            "batch, whole process": whole / len(jobs),
            "batch, after its start": (whole - start) / max(len(jobs) - 1, 1),
            "shell loop": _shell(jobs[: chosen.shell], here, engine),
        }
        different = [
            seed
            for _, _, seed in jobs
            if not np.array_equal(
                _pixels(here / "loop" / f"{seed}.png"), _pixels(here / f"out/images/{seed}.png")
            )
        ]
    for name, spent in seconds.items():
        print(f"{name:<22}{1000 * spent:8.0f} ms a picture")
    for name in ("batch, whole process", "batch, after its start"):
        print(f"{name}: {seconds['library loop, warm'] / seconds[name]:.2f} of the library loop's rate")
        print(f"{name}: {seconds['shell loop'] / seconds[name]:.2f} times the shell loop's rate")
    print(f"{len(jobs) - len(different)} of {len(jobs)} pictures have the library's bits")
    return 1 if different else 0


def _library(jobs: list[Job], folder: Path, bundle: str, threads: int | None) -> float:
    with Refiner.load(bundle, threads=threads) as refiner:
        refiner.warm_up()
        start = time.perf_counter()
        for path, prompt, seed in jobs:
            refiner.refine(path, prompt, seed).save(folder / f"{seed}.png")
        return (time.perf_counter() - start) / len(jobs)


def _batch(jobs: list[Job], folder: Path, engine: list[str], side_by_side: int | None) -> float:
    folder.mkdir()
    with (folder / "table.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "prompt", "id", "seed"])
        rows.writerows([str(path), prompt, seed, seed] for path, prompt, seed in jobs)
    more = ["--jobs", str(side_by_side)] if side_by_side else []
    start = time.perf_counter()
    subprocess.run(
        [*COMMAND, "batch", str(folder / "table.csv"), "-o", str(folder), *engine, *more], check=True
    )
    return time.perf_counter() - start


def _shell(jobs: list[Job], folder: Path, engine: list[str]) -> float:
    start = time.perf_counter()
    for path, prompt, seed in jobs:
        output = ["-o", str(folder / f"shell-{seed}.png")]
        subprocess.run(
            [*COMMAND, "refine", str(path), "-p", prompt, "--seed", str(seed), *output, *engine],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    return (time.perf_counter() - start) / max(len(jobs), 1)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


if __name__ == "__main__":
    sys.exit(main())
