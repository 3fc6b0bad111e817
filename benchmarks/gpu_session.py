"""One call on a GPU: what needs one, in at most 9 minutes, on a machine without a network.

    python -m benchmarks.gpu_session --luggage FOLDER --out FOLDER [--minutes 9] [--only PART ...]

FOLDER of the luggage is what `benchmarks.gpu_luggage` packed or unpacked. Parts run one after the other, each in a
process and under a limit of its own; one that fails, dies or hangs does not stop the rest. `OUT/session.json` holds
what each part found, the one that runs included, whole at any moment; `OUT/session.log` what they printed. Without the
embedded bundle the parts that are about it are left out. `--rehearse` runs every part in small: without a GPU on the
stub of `tests.support.stub_cuda`, where no number means anything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import lzma
import os
import platform
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import gpu_luggage
from grefine_rt.engine import nvidia

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "engines" / "mini" / "bundle.json"
LEAST = 8.0
"""Seconds that must be left for a part to start."""
BEAT, GRACE = 1.0, 5.0
"""Seconds between two looks at what a part has found, and for which a killed one is waited for."""
ROOM = 32 << 30
"""Bytes that the filled skeletons may take."""
ENGINES = ("plain", "graphs", "nhwc")
"""How a step runs: ONNX Runtime CUDA as it is, as CUDA graphs, with convolutions in cuDNN's layout, which fused graphs
have anyway. ONNX Runtime refuses the last two together, for it then computes shapes on the GPU."""
SLOW_TESTS = "two_hundred or gives_its_memory_back"
STUB_TESTS = "memory_gpu and not captured or copies_no_tensor"
"""Tests of tests/gpu that compute nothing; the stub does not finish a graph that cuda.core captures."""
TOLD = ("torch", "onnx", "numpy", "transformers", "pytest")
"""Packages of the machine whose versions are kept beside the figures."""


@dataclass(frozen=True)
class Part:
    """A command, and the seconds that it may take. The command writes its figures where `{json}` stands in it."""

    name: str
    command: tuple[str, ...]
    limit: float


def parts(graphs: Sequence[str], bundle: bool, rehearse: bool = False) -> list[Part]:
    """All parts in their order, what proves most first.

    graphs: of the skeletons, such as "inpaint_step.plain". bundle: whether the embedded bundle is there.
    """
    small = ("--side", "128", "--runs", "2") if rehearse else ()

    def part(name: str, limit: float, kind: str, *more: str) -> Part:
        command = (sys.executable, "-m", "benchmarks.gpu_parts", kind, "--json", "{json}", *small, *more)
        return Part(name, command, limit)

    def tests(name: str, limit: float, file: str, which: str) -> Part:
        return part(name, limit, "tests", "--file", file, "--which", STUB_TESTS if rehearse else which)

    onnxruntime = "tests/gpu/test_onnxruntime_gpu.py"
    found = [tests("cuda.core", 60, "tests/gpu/test_device_memory_gpu.py", "")]
    if bundle:
        found.append(tests("onnxruntime", 110, onnxruntime, f"not ({SLOW_TESTS})"))
    found.append(part("fill", 60, "fill"))
    for stage in ("inpaint_step", "restore_step"):
        for graph in sorted((name for name in graphs if name.startswith(stage)), key=_plain_first):
            for engine in ENGINES[: 3 if graph == "inpaint_step.plain" else 2]:
                found.append(part(f"{graph} {engine}", 45, "step", "--graph", graph, "--engine", engine))
    autoencoders = sorted((name for name in graphs if name.startswith("vae")), key=_plain_first)
    found += [part(graph, 30, "autoencoder", "--graph", graph) for graph in autoencoders]
    found.append(part("torch", 150, "torch"))
    found.append(part("peak", 30, "peak"))
    profiled = [name for name in graphs if "_step" in name]
    found += [part(f"profile {graph}", 45, "profile", "--graph", graph) for graph in sorted(profiled)]
    if bundle:
        found.append(tests("memory", 120, onnxruntime, SLOW_TESTS))
    return found


def _plain_first(name: str) -> tuple[bool, str]:
    return not name.endswith(".plain"), name


def run_parts(
    parts: Iterable[Part], out: Path, seconds: float, environment: Mapping[str, str], told: Mapping[str, Any]
) -> dict[str, Any]:
    """Run each part, within `seconds` for all of them. Returns what `out/session.json` holds: `told`, and `parts`.

    A part's row: state ("running", "done", "failed", "stopped" at its limit, or "skipped" for want of time), seconds,
    exit code, and the figures that it wrote, also those before it died.
    """
    started = time.monotonic()
    result: dict[str, Any] = {**told, "parts": {}}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, (out / "session.log").open("ab", 0) as log:
        for number, part in enumerate(parts):

            def tell(row: dict[str, Any], name: str = part.name) -> None:
                result["parts"][name] = row
                result["seconds"] = round(time.monotonic() - started, 1)
                _write(out / "session.json", result)

            left = seconds - (time.monotonic() - started)
            if left < LEAST:
                row: dict[str, Any] = {"state": "skipped", "seconds": 0.0}
            else:
                log.write(f"\n== {part.name}\n".encode())
                figures = Path(folder) / f"{number}.json"
                row = _run(part, min(part.limit, left), figures, environment, log.fileno(), tell)
            tell(row)
            print(f"{part.name}: {row['state']} after {row['seconds']:.1f} s", flush=True)
    return result


def _run(
    part: Part,
    limit: float,
    figures: Path,
    environment: Mapping[str, str],
    log: int,
    tell: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """The row of a part that has ended. tell: takes its row while it runs."""
    command = [str(figures) if word == "{json}" else word for word in part.command]
    start = time.monotonic()

    def row(state: str, code: int | None = None) -> dict[str, Any]:
        told: dict[str, Any] = {"state": state, "seconds": round(time.monotonic() - start, 1), "code": code}
        with contextlib.suppress(OSError, ValueError):
            told["found"] = json.loads(figures.read_text(encoding="utf-8"))
        return told

    process = subprocess.Popen(
        command, cwd=ROOT, env=dict(environment), stdout=log, stderr=log, process_group=0
    )
    code = None
    try:
        while code is None and (left := limit - (time.monotonic() - start)) > 0:
            tell(row("running"))
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(min(BEAT, left))
    finally:
        with contextlib.suppress(ProcessLookupError):  # also what it started: nothing may hold the GPU
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that hangs in the driver may never die
            process.wait(GRACE)
    return row("stopped" if code is None else "failed" if code else "done", code)


def _write(file: Path, result: Mapping[str, Any]) -> None:
    """Whole or not at all: the machine may go at any moment."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    part.replace(file)


def environment(luggage: Path, work: Path) -> dict[str, str]:
    """Of the parts: the luggage's packages before the machine's, CUDA's libraries as pip installed them."""
    cuda = [folder for path in sys.path for folder in sorted(Path(path).glob("nvidia/*/lib"))]
    libraries = [os.environ.get("LD_LIBRARY_PATH", ""), *map(str, cuda)]
    packages = [luggage / "site", ROOT / "runtime", ROOT / "export", ROOT]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        "PYTHONUNBUFFERED": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "CUDA_MODULE_LOADING": "LAZY",  # of the kernels that were zeroed, none is looked at
        "HF_HUB_OFFLINE": "1",
        "GREFINE_SESSION_LUGGAGE": str(luggage),
        "GREFINE_SESSION_WORK": str(work),
    }


def roomy() -> Path | None:
    """Memory as a folder, where it holds the weights of all skeletons; None for the system's temporary folder.

    Nothing may be run from there: containers forbid it.
    """
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > ROOM else None


def machine() -> dict[str, Any]:
    """Of the machine: GPUs and driver, the C library, Python, versions of what it has itself."""
    versions = {}
    for name in TOLD:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    gpus = [f"{gpu.name}, driver {gpu.driver}, {gpu.memory >> 30} GiB" for gpu in nvidia.gpus()]
    return {
        "gpus": gpus,
        "system": " ".join(platform.libc_ver()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 all parts done, 1 some not, 2 a clear error before the first."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--luggage", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for session.json and session.log")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together")
    parser.add_argument("--only", action="append", metavar="PART", help="parts whose names begin so")
    parser.add_argument("--rehearse", action="store_true", help="every part in small")
    parser.add_argument(
        "--patience", type=float, default=1.0, help="factor of every limit, on a busy machine"
    )
    given = parser.parse_args(arguments)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as laid, tempfile.TemporaryDirectory(dir=roomy()) as work:
        try:
            luggage = gpu_luggage.unpack(given.luggage.resolve(), Path(laid))
            told = json.loads((luggage / "luggage.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, tarfile.TarError, lzma.LZMAError, EOFError) as error:
            said = str(error).partition("\n")[0].rstrip(":")
            print(f"Error: {said}: make it with 'python -m benchmarks.gpu_luggage pack'", file=sys.stderr)
            return 2
        graphs = [file.stem for file in (luggage / "skeletons").glob("*.onnx")]
        wanted = [
            replace(part, limit=part.limit * given.patience)
            for part in parts(graphs, BUNDLE.is_file(), given.rehearse)
            if given.only is None or part.name.startswith(tuple(given.only))
        ]
        if not wanted:
            print(
                "Error: there is no such part here: see docs/gpu_session.md for their names", file=sys.stderr
            )
            return 2
        left = 60 * given.minutes - (time.monotonic() - started)
        told |= {"rehearsal": given.rehearse, **machine()}
        result = run_parts(wanted, given.out, left, environment(luggage, Path(work)), told)
    return 0 if all(row["state"] == "done" for row in result["parts"].values()) else 1


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the part that runs is then ended, too
    sys.exit(main())
