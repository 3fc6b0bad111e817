"""What the product does on the held-out set, against its bars.

    python -m benchmarks.quality --bundle mini --json quality.json

Prints tables and writes JSON. What readings and ablations change in a picture is measured on a part of the
set only, what they change before on all of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import readings
from benchmarks.figures import HEADLINE, details, passes
from benchmarks.judge import CARD, Judge
from benchmarks.options import heldout_parser, named, opened, parse, set_of, with_progress, write_json
from benchmarks.outcomes import Outcome, Variant, same_twice, try_variants
from benchmarks.tables import console, markdown, show
from grefine_export.mini.heldout import Sample
from grefine_rt import GRefineError, RefineOptions, Refiner
from grefine_rt.files import write_whole

MAIN = "main"
_SOURCE = """Written by `python -m benchmarks.quality {}`; nothing in it was typed by hand.

24 of the pictures, spread evenly over the set, before and after, beside the truth
(`python -m benchmarks.sheets --heldout 24 FILE`): [heldout.webp](heldout.webp)."""


def run(
    refiner: Refiner, judge: Judge, samples: Sequence[Sample], seed: int, readings_limit: int
) -> dict[str, list[Outcome]]:
    """The outcomes of the bundle's own options and, with a limit above 0, of all readings and ablations."""
    variants = {MAIN: Variant(RefineOptions(), readings.CATEGORIES)}
    if readings_limit:
        variants |= readings.variants()
    count = len(samples)
    part = {k * count // min(readings_limit, count) for k in range(min(readings_limit, count))}
    planned = {name: Variant(v.options) for name, v in variants.items() if v.plans and name != MAIN}
    planned[MAIN] = variants[MAIN]
    outcomes: dict[str, list[Outcome]] = {name: [] for name in variants}
    for place, sample in enumerate(with_progress(samples)):
        tried = try_variants(
            refiner, judge, sample, variants if place in part else planned, seed + sample.number
        )
        for name, outcome in tried.items():
            outcomes[name].append(outcome)
    return outcomes


def deterministic(refiner: Refiner, samples: Iterable[Sample], seed: int) -> tuple[bool | None, int]:
    """Whether the same seed gives the same bytes, on one sample of each category; and how many those are."""
    chosen = list({sample.category: sample for sample in samples}.values())
    return (all(same_twice(refiner, sample, seed) for sample in chosen) if chosen else None), len(chosen)


def measure(
    refiner: Refiner,
    judge: Judge,
    samples: Sequence[Sample],
    seed: int = 0,
    readings_limit: int = 0,
    other_attention: Refiner | None = None,
) -> dict[str, Any]:
    """All figures as they go into the JSON, without the parts that say where they come from.

    `other_attention` has the same weights with the other reading of Eq. 1, for a row of its own.
    """
    outcomes = run(refiner, judge, samples, seed, readings_limit)
    main = outcomes[MAIN]
    measured = {key: figure.of(main) for key, figure in HEADLINE.items()}
    values: dict[str, float | bool | None] = {key: result.value for key, result in measured.items()}
    counts = {key: result.samples for key, result in measured.items()}
    values["deterministic"], counts["deterministic"] = deterministic(refiner, samples, seed)
    bars = {key: figure.bar for key, figure in HEADLINE.items()} | {"deterministic": True}
    more = details(main)
    results: dict[str, Any] = {
        **values,
        "bars": bars,
        "passed": {key: passes(values[key], bar) for key, bar in bars.items()},
        "samples": counts,
        "seconds_per_refine": more["seconds_per_refine"]["value"],
        "details": more,
    }
    if readings_limit:
        results["readings"] = readings.readings_table(outcomes, refiner.bundle.manifest)
        results["ablations"] = readings.ablations_table(outcomes)
    if readings_limit and other_attention is not None:
        only_seen = {MAIN: Variant(RefineOptions())}
        seen = [try_variants(other_attention, judge, sample, only_seen, seed)[MAIN] for sample in samples]
        manifests = [one.bundle.manifest for one in (refiner, other_attention)]
        results["readings"]["attention"] = readings.attention_row(manifests, [main, seen])
    return results


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = heldout_parser(__doc__)
    parser.add_argument("--no-readings", action="store_true", help="leave readings and ablations out")
    parser.add_argument(
        "--readings-limit", type=int, default=60, help="samples whose pictures they are made on"
    )
    parser.add_argument(
        "--other-attention",
        metavar="BUNDLE",
        help="the same weights made with `grefine-export mini --attention vv-normalised`, for the row of Eq. 1",
    )
    parser.add_argument("--markdown", type=Path, help="file to write the tables to, as in docs/quality.md")
    options = parse(parser, arguments)
    if options.readings_limit < 1:
        parser.error("--readings-limit must be 1 or more; --no-readings leaves them out")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    options = _options(arguments)
    try:
        refiner, samples = opened(options)
        readings_limit = 0 if options.no_readings else options.readings_limit
        other = None
        if options.other_attention:
            other = Refiner.load(options.other_attention, options.device, options.threads)
        measured = measure(refiner, Judge.load(), samples, options.seed, readings_limit, other)
    except GRefineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    manifest = refiner.bundle.manifest
    results = {
        "bundle": named(manifest),
        "set": set_of(options, samples),
        **measured,
        "judge": json.loads(CARD.read_text())["figures"],
    }
    show(results, console())
    if options.json:
        write_json(options.json, results)
    if options.markdown:
        told = "--no-readings" if options.no_readings else f"--readings-limit {options.readings_limit}"
        told += " --other-attention BUNDLE" if options.other_attention else ""
        source = _SOURCE.format(f"{told} --markdown FILE")
        text = f"# What the bundle {manifest.name} does\n\n{source}\n\n{markdown(results)}"
        write_whole(options.markdown, text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
