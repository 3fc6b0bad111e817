"""What pictures of each size take: peak memory and CPU seconds of whole commands, each in a process of its own.

    python -m benchmarks.megapixels [--bundle mini] [--sides 128 512 1024 2048 4096] [--markdown FILE]

Pictures are the embedded example, enlarged to a square. CPU seconds are those of all threads, so that other work on the
machine changes them little; memory is the most that the process held (on Unix).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from grefine_rt.files import write_whole

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "broken_shape.png"
PROMPT = "a large blue tent under a yellow sun in a meadow"
COMMANDS = {
    "assess": ("assess",),
    "refine": ("refine",),
    "refine --work native": ("refine", "--work", "native"),
}


@dataclass(frozen=True)
class Took:
    """What one command took. side: of the square picture, in pixels. memory: peak in bytes. seconds: of CPUs."""

    command: str
    side: int
    memory: int
    seconds: float


_WATCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), used.ru_maxrss, used.ru_utime + used.ru_stime)
"""
"""Starts a command and tells its use. A small process does it, for the peak of a new process begins with the memory of
the one that started it."""


def measure(command: str, side: int, bundle: str, folder: Path) -> Took:
    """One command on one picture. Raises RuntimeError where it fails."""
    picture = folder / f"{side}.png"
    if not picture.exists():
        with Image.open(EXAMPLE) as image:
            image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(picture)
    arguments = [*COMMANDS[command], str(picture), "-p", PROMPT, "--bundle", bundle, "--json"]
    if command != "assess":
        arguments += ["-o", str(folder / "out.png"), "--overwrite", "--outside", "refine"]
    watched = [sys.executable, "-c", _WATCH, sys.executable, "-m", "grefine_rt", *arguments]
    code, memory, seconds = subprocess.run(
        watched, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()
    if code != "0":
        raise RuntimeError(f"{command} at {side} x {side} ended with exit code {code}.")
    return Took(command, side, int(memory) * (1 if sys.platform == "darwin" else 1024), float(seconds))


def table(rows: Sequence[Took]) -> str:
    """Markdown: a line for each size, two columns for each command."""
    commands = list(dict.fromkeys(row.command for row in rows))
    found = {(row.command, row.side): row for row in rows}
    heads = [f"{command}: {what}" for command in commands for what in ("MB", "CPU s")]
    lines = [f"| pixels | megapixels | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for side in dict.fromkeys(row.side for row in rows):
        cells = [f"{side} x {side}", f"{side * side / 1e6:.2f}"]
        for command in commands:
            row = found.get((command, side))
            cells += ["", ""] if row is None else [f"{row.memory / 1e6:.0f}", f"{row.seconds:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="mini")
    parser.add_argument("--sides", type=int, nargs="+", default=[128, 512, 1024, 2048, 4096])
    parser.add_argument("--commands", nargs="+", choices=list(COMMANDS), default=list(COMMANDS))
    parser.add_argument("--markdown", type=Path)
    asked = parser.parse_args(arguments)
    rows: list[Took] = []
    with tempfile.TemporaryDirectory() as folder:
        for side in asked.sides:
            for command in asked.commands:
                rows.append(measure(command, side, asked.bundle, Path(folder)))
                print(rows[-1], file=sys.stderr, flush=True)
    print(table(rows), end="")
    if asked.markdown:
        write_whole(asked.markdown, table(rows).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
