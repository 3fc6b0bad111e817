"""The service under load, over real HTTP on loopback: clients with pictures of mixed sizes, and rubbish in between.

    python -m benchmarks.serve [--bundle mini] [--minutes 1] [--clients 8] [--workers 1] [--threads N] [--batch 8]

Every answer is compared with the library's: the same pixels for a refined picture, the same scores for an assessment, a
refusal with the right status for rubbish; 429 counts as an answer, and its client waits as long as it says. Some
clients leave in the middle of a body, or with it sent and before the answer. It fails on any other answer, on a request
without one, and when memory in the last third rises by more than 5 % above the second. Prints a line a minute, and at
the end requests by kind and the 50th, 95th and 99th percentile of seconds.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import socket
import struct
import sys
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx
import numpy as np
import uvicorn
from PIL import Image

from benchmarks.soak import EXAMPLES, PHOTOGRAPH, SIZES
from grefine_rt import Refiner
from grefine_rt.service.app import build
from grefine_rt.service.limits import ServiceLimits
from grefine_rt.system_memory import resident_memory

RUBBISH = 10
"""One request in so many is rubbish."""
GROWTH = 0.05


@dataclass(frozen=True)
class Request:
    """A request and what the library says to it. path: "refine" or "assess". pixels: of the refined picture. scores:
    (perceptual, alignment). status: of the answer. sent: the share of the body after which the client leaves, above 1
    for one that stays."""

    path: str
    picture: bytes
    prompt: str
    seed: int = 0
    pixels: np.ndarray | None = None
    scores: tuple[float, float] | None = None
    status: int = 200
    sent: float = 2


@dataclass
class Seen:
    """What the clients saw."""

    kinds: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[str] = field(default_factory=list)
    left: int = 0
    memory: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def growth(self) -> float:
        """Of the highest memory in the last third above that in the second."""
        third = len(self.memory) // 3
        return max(self.memory[2 * third :]) / max(self.memory[third : 2 * third]) - 1 if third else 0.0

    def lines(self) -> list[str]:
        lines = [
            f"{sum(self.kinds.values())} answers: {dict(self.kinds)}, wrong: {len(self.wrong)}, left: {self.left}"
        ]
        for kind, seconds in sorted(self.seconds.items()):
            p50, p95, p99 = np.percentile(seconds, [50, 95, 99])
            lines.append(f"{kind}: {len(seconds)}, p50 {p50:.3f} s, p95 {p95:.3f} s, p99 {p99:.3f} s")
        return [*lines, f"memory of the process, last third over second: {self.growth():+.1%}"]


def requests(refiner: Refiner) -> list[Request]:
    """Examples in several sizes with the library's answers, and rubbish."""
    wanted = []
    for number, path in enumerate(sorted(EXAMPLES.glob("*.txt"))):
        prompt = path.read_text(encoding="utf-8").strip()
        size = SIZES[number % len(SIZES)]
        buffer = io.BytesIO()
        with Image.open(path.with_suffix(".png")) as image:
            image.convert("RGB").resize(size).save(buffer, "PNG")
        data = buffer.getvalue()
        if path == PHOTOGRAPH.with_suffix(".txt"):
            wanted.append(Request("refine", data, prompt, number, status=422))
            continue
        result = refiner.refine(data, prompt, seed=number)
        before = result.before.perceptual, result.before.alignment
        wanted.append(Request("refine", data, prompt, number, np.asarray(result.image), before))
        wanted.append(Request("assess", data, prompt, scores=before))
    first = wanted[0]
    rubbish = [
        Request("refine", b"rubbish", first.prompt, status=422),
        Request("refine", first.picture[: len(first.picture) // 2], first.prompt, status=422),
        Request("assess", first.picture, " ", status=422),
        Request("assess", first.picture, "house " * 2000, status=413),
        Request("assess", bomb(), first.prompt, status=413),
        Request("refine", first.picture, first.prompt, sent=0.5),
        Request("refine", first.picture, first.prompt, sent=1),
    ]
    turns = itertools.cycle(rubbish)
    mixed: list[Request] = []
    for request in itertools.islice(itertools.cycle(wanted), 9 * len(wanted)):
        mixed.append(request)
        if len(mixed) % RUBBISH == RUBBISH - 1:
            mixed.append(next(turns))
    return mixed


def bomb(side: int = 20_000) -> bytes:
    """A PNG of some bytes that says it has `side` by `side` pixels, all in its few compressed bytes."""
    parts = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0), zlib.compress(bytes(10**6), 9)
    chunks = [(b"IHDR", parts[0]), (b"IDAT", parts[1]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def leave(client: httpx.Client, request: Request) -> None:
    """Send the first part of a request, and go."""
    body = json.dumps(
        {"image": base64.b64encode(request.picture).decode(), "prompt": request.prompt}
    ).encode()
    head = (
        f"POST /v1/{request.path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    address = client.base_url.host, client.base_url.port
    with socket.create_connection(address, timeout=60) as connection:
        connection.sendall(head.encode() + body[: int(request.sent * len(body))])
        time.sleep(0.1)


def wrong(request: Request, answer: httpx.Response) -> str:
    """What is wrong with an answer; "" for a right one."""
    if answer.status_code != request.status:
        return f"{request.path}: {answer.status_code} in place of {request.status}: {answer.text[:200]}"
    if request.status != 200:
        return "" if answer.json()["error"]["message"] else "a refusal without a sentence"
    if request.pixels is not None:
        with Image.open(io.BytesIO(answer.content)) as image:
            return "" if np.array_equal(np.asarray(image), request.pixels) else "refine: other pixels"
    said = answer.json()["before"]
    return "" if (said["perceptual"], said["alignment"]) == request.scores else "assess: other scores"


def ask(client: httpx.Client, request: Request, seen: Seen) -> None:
    """Send one request and judge its answer; after 429 wait as it says."""
    if request.sent <= 1:
        leave(client, request)
        with seen.lock:
            seen.left += 1
        return
    data = {"prompt": request.prompt}
    if request.path == "refine":
        data |= {"seed": str(request.seed), "answer": "image"}
    start = time.perf_counter()
    try:
        answer = client.post(f"/v1/{request.path}", files={"image": request.picture}, data=data)
    except httpx.HTTPError as error:
        with seen.lock:
            seen.wrong.append(f"no answer: {error!r}")
        return
    seconds = time.perf_counter() - start
    kind = "429" if answer.status_code == 429 else "rubbish" if request.status != 200 else request.path
    fault = "" if kind == "429" else wrong(request, answer)
    with seen.lock:
        seen.kinds[kind] += 1
        seen.seconds[kind].append(seconds)
        seen.memory.append(resident_memory() or 0)
        if fault:
            seen.wrong.append(fault)
    if kind == "429":
        time.sleep(int(answer.headers["retry-after"]))


def go_on(client: httpx.Client, asked: list[Request], first: int, end: float, seen: Seen) -> None:
    """One client: request after request until the time is over."""
    for request in itertools.cycle(asked[first:] + asked[:first]):
        if time.monotonic() > end:
            return
        ask(client, request, seen)


@contextmanager
def running(refiner: Refiner, limits: ServiceLimits):
    """The address of a service in a thread of this process."""
    config = uvicorn.Config(build(refiner, limits, warm_up=False), port=0, log_level="warning")
    server = uvicorn.Server(config)
    bound = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def load(
    refiner: Refiner,
    asked: list[Request],
    seconds: float,
    clients: int,
    workers: int = 1,
    together: int = 8,
    tell: Callable[[Seen], None] = lambda seen: None,
) -> Seen:
    """Run the clients against a service for some seconds; `tell` looks on every minute."""
    seen = Seen()
    with (
        running(refiner, ServiceLimits(workers=workers, together=together)) as address,
        httpx.Client(base_url=address, timeout=600, limits=httpx.Limits(max_connections=None)) as client,
    ):
        end = time.monotonic() + seconds
        threads = [
            threading.Thread(target=go_on, args=(client, asked, number * len(asked) // clients, end, seen))
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(60)
                tell(seen)
    return seen


def _tell(seen: Seen) -> None:
    memory = seen.memory[-1] >> 20 if seen.memory else 0
    counts = f"{sum(seen.kinds.values())} answers, {len(seen.wrong)} wrong, {seen.left} left"
    print(f"{time.strftime('%H:%M:%S')} {counts}, {memory} MiB", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--batch", type=int, default=8, help="assessments in one run")
    given = parser.parse_args()
    print(time.strftime("%d %B %Y %H:%M"), json.dumps(vars(given)), flush=True)
    with Refiner.load(given.bundle, "cpu", given.threads) as refiner:
        asked = requests(refiner)
        seen = load(refiner, asked, 60 * given.minutes, given.clients, given.workers, given.batch, _tell)
    print("\n".join([*seen.lines(), *seen.wrong[:10]]))
    return 1 if seen.wrong or seen.growth() > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
