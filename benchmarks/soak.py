"""A server's day in short: one refiner, several threads, pictures of all sizes, rubbish and cancelled calls in between.

    python -m benchmarks.soak [--bundle mini] [--minutes 30] [--workers 4] [--threads N]

Every answer is compared with the one that the same request got alone before: the same pixels, or the same sentence, and
that is a sentence for rubbish alone. A call that is cancelled may say so instead, as fast as a step takes.
Resident memory (Linux) is read after each answer. It fails on any other answer, when a cancelled call goes on for more
than 5 s, and when memory in the last third of the time rises by more than 5 % above that of the second third.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import itertools
import math
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from grefine_rt import CancelToken, GRefineError, Refiner
from grefine_rt.errors import Cancelled
from grefine_rt.system_memory import resident_memory

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
PHOTOGRAPH = EXAMPLES / "photograph.png"
"""Outside of what the embedded bundle was made for."""
SIZES = ((128, 128), (96, 160), (257, 63), (300, 300))
GROWTH = 0.05
CANCELLED = 0.1
"""Share of the calls that are cancelled, within their first `PATIENCE` seconds."""
PATIENCE = 3.0
LATE = 5.0
"""Seconds that a cancelled call may go on, where several share the processor."""


@dataclass(frozen=True)
class Request:
    """A picture as the bytes of a file, its prompt and a seed."""

    picture: bytes
    prompt: str
    seed: int = 0


@dataclass
class Report:
    """What a soak saw: answers by kind, wrong ones in words, and (seconds, bytes) of resident memory."""

    refined: int = 0
    refused: int = 0
    cancelled: int = 0
    wrong: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    def growth(self) -> float:
        """Highest memory of the last third of the time against the second third, as a share."""
        end = max(seconds for seconds, _ in self.memory)
        thirds = [
            max(
                (used for seconds, used in self.memory if low * end <= 3 * seconds <= (low + 1) * end),
                default=0,
            )
            for low in (1, 2)
        ]
        return thirds[1] / thirds[0] - 1 if all(thirds) else 0.0


def pictures() -> list[Request]:
    """The examples that are drawn, in several sizes."""
    found = []
    drawn = [path for path in sorted(EXAMPLES.glob("*.png")) if path != PHOTOGRAPH]
    for number, (path, size) in enumerate(itertools.product(drawn, SIZES)):
        with Image.open(path) as image:
            resized = _png(image.convert("RGB").resize(size))
        found.append(Request(resized, path.with_suffix(".txt").read_text(), number))
    return found


def rubbish() -> list[Request]:
    """What a server is sent besides."""
    whole = pictures()[0].picture
    noise = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    broken = [Request(data, "a house") for data in (b"", b"GIF89a", whole[: len(whole) // 2], noise)]
    outside = Request(PHOTOGRAPH.read_bytes(), PHOTOGRAPH.with_suffix(".txt").read_text())
    return [*broken, Request(whole, ""), Request(whole, " \n "), outside]


def answer(refiner: Refiner, request: Request, cancel: CancelToken | None = None) -> tuple[bool, str]:
    """Whether it was refined, and the SHA-256 of the pixels or the sentence. Raises Cancelled."""
    try:
        result = refiner.refine(request.picture, request.prompt, request.seed, cancel=cancel)
    except Cancelled:
        raise
    except GRefineError as error:
        return False, str(error)
    return True, hashlib.sha256(np.asarray(result.image).tobytes()).hexdigest()


def soak(refiner: Refiner, seconds: float, workers: int) -> Report:
    """Sends pictures and rubbish in random order from `workers` threads for `seconds`."""
    whole, broken = pictures(), rubbish()
    asked = whole + broken
    expected = [answer(refiner, request) for request in asked]
    report, guard = Report(), threading.Lock()
    report.wrong += [
        f"request {which} is {'good' if which < len(whole) else 'rubbish'} and gave {said}"
        for which, (refined, said) in enumerate(expected)
        if refined != (which < len(whole))
    ]
    start = time.monotonic()

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        while time.monotonic() - start < seconds:
            which, token = int(rng.integers(len(asked))), CancelToken()
            given_up = math.inf
            if rng.random() < CANCELLED:
                wait = float(rng.uniform(0, PATIENCE))
                given_up = time.monotonic() + wait
                threading.Timer(wait, token.cancel).start()
            try:
                got = answer(refiner, asked[which], token)
            except Cancelled:
                late = time.monotonic() - given_up
                with guard:
                    report.cancelled += 1
                    if not 0 <= late < LATE:
                        report.wrong.append(
                            f"request {which} was cancelled {late:.1f} s after it was asked to"
                        )
                continue
            except Exception as error:  # whatever it is, it is the finding
                got = False, f"{type(error).__name__}: {error}"
            with guard:
                report.refined += got[0]
                report.refused += not got[0]
                report.memory.append((time.monotonic() - start, resident_memory() or 0))
                if got != expected[which]:
                    report.wrong.append(f"request {which} gave {got[1]} instead of {expected[which][1]}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--threads", type=int, help="CPU threads of a run; default: all cores")
    options = parser.parse_args()
    with Refiner.load(options.bundle, options.device, options.threads).warm_up() as refiner:
        report = soak(refiner, 60 * options.minutes, options.workers)
    used = [used / 1e6 for _, used in report.memory]
    print(
        f"{report.refined} refined, {report.refused} refused, {report.cancelled} cancelled, "
        f"{len(report.wrong)} wrong answers"
    )
    print(
        f"memory {used[0]:.0f} MB at first, {max(used):.0f} MB at most, growth {100 * report.growth():.1f} %"
    )
    for line in report.wrong[:10]:
        print(line)
    sys.exit(bool(report.wrong) or report.growth() > GROWTH)


if __name__ == "__main__":
    main()
