"""What the benchmarks on the held-out set have in common: their options, and how they read and write."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from grefine_export.mini import heldout
from grefine_export.mini.heldout import Sample
from grefine_rt import Refiner
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.errors import OutputError
from grefine_rt.files import check_writable, write_whole

REPORT_SECONDS = 15.0
SPLITS = {"test": heldout.TEST, "validation": heldout.VALIDATION}


def heldout_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options that say which bundle runs on which samples; a benchmark adds its own."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", default="mini", help="name or folder of the bundle")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads of an engine run")
    parser.add_argument("--limit", type=int, help="samples, spread evenly over the set; all by default")
    parser.add_argument("--split", choices=SPLITS, default="test", help="'validation' for choosing defaults")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to write")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options of a `heldout_parser`; ends the command with status 2 for wrong ones."""
    options = parser.parse_args(arguments)
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be 1 or more")
    for path in (options.json, getattr(options, "markdown", None)):
        if path is not None:
            try:
                check_writable(path)
            except OutputError as error:
                parser.error(str(error))
    return options


def opened(options: argparse.Namespace) -> tuple[Refiner, list[Sample]]:
    """The bundle and the samples that were asked for. Raises GRefineError."""
    refiner = Refiner.load(options.bundle, options.device, options.threads)
    return refiner, list(heldout.samples(options.limit, SPLITS[options.split]))


def with_progress(samples: Sequence[Sample]) -> Iterator[Sample]:
    """The samples, with a line on standard error now and then on how many are done."""
    started = reported = time.monotonic()
    for done, sample in enumerate(samples):
        if time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            left = (reported - started) / done * (len(samples) - done)
            print(f"{done} of {len(samples)} samples, about {left:.0f} s left", file=sys.stderr)
        yield sample


def named(manifest: Manifest) -> dict[str, str]:
    """Which bundle was measured, as it stands in the JSON."""
    return {"name": manifest.name, "version": manifest.version}


def set_of(options: argparse.Namespace, samples: Sequence[Sample]) -> dict[str, Any]:
    """Which samples were measured, as it stands in the JSON."""
    return {"split": options.split, "samples": len(samples), "seed": options.seed}


def write_json(path: Path, results: object) -> None:
    """Writes the file whole or not at all."""
    write_whole(path, (json.dumps(results, indent=2, allow_nan=False) + "\n").encode())
