"""What guiding fewer of stage 1's UNet calls costs in quality, on the held-out set.

    python -m benchmarks.guidance --bundle mini --limit 24 --threads 1 --json guidance.json

A guided call costs two passes of the UNet, a plain one costs one. Stage 1 draws as the SDXL recipes have it, one draft
with all its steps, and nothing of it is refused, so that what is measured is the drawing. Every interval draws the same
pictures from the same noise; changes are told against guidance throughout, with their standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.judge import Judge
from benchmarks.levers import DEFAULT, REFERENCE, measure
from benchmarks.options import heldout_parser, opened, parse, set_of, write_json
from grefine_rt import GRefineError, PlanOptions
from grefine_rt.diffusion.solver import guidance_row

INTERVALS = ((0.0, 0.6), (0.0, 0.3), (0.2, 0.8))
"""Beside guidance throughout: the first calls alone, and those in the middle (Kynkäänniemi et al., 2404.07724)."""
SHOWN = ("refine_rmse_reduction", "refine_alignment_success", "perceptual_after", "alignment_after")
_CALLS = 10  # of the recipes at full strength


def variants(intervals: Sequence[tuple[float, float]]) -> dict[str, PlanOptions]:
    """Options by interval, with the names that `levers.measure` wants for the one that is compared with."""

    def draws(interval: tuple[float, float]) -> PlanOptions:
        return PlanOptions(interval=interval, drafts=1, sketch_steps=0, accept="off")

    named = {f"{start:g} to {end:g}": draws((start, end)) for start, end in intervals}
    return {REFERENCE: draws((0.0, 1.0)), **named, DEFAULT: draws((0.0, 1.0))}


def share(interval: tuple[float, float]) -> float:
    """Share of stage 1's UNet calls that are guided."""
    return float((guidance_row(2.0, _CALLS, interval) != 1).mean())


def show(results: Mapping[str, Any], console: Console) -> None:
    """One line an interval, as a Markdown table."""
    table = Table("guided", "of the calls", "GFLOP", *SHOWN, box=MARKDOWN)
    for name, row in results["intervals"].items():
        cells = []
        for key in SHOWN:
            cell = row["figures"][key]
            change = "" if not cell["change"] else f" ({cell['change']:+.1%} ± {cell['error']:.1%})"
            cells.append("-" if cell["value"] is None else f"{cell['value']:.3f}{change}")
        table.add_row(name, f"{row['guided']:.0%}", f"{1000 * row['tflop']:.1f}", *cells)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    options = parse(heldout_parser(__doc__), arguments)
    try:
        refiner, samples = opened(options)
        found = measure(refiner, Judge.load(), samples, options.seed, variants(INTERVALS))["levers"]
    except GRefineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    rows = {"throughout": found[REFERENCE] | {"guided": 1.0}}
    for interval, name in zip(INTERVALS, (key for key in found if " to " in key), strict=True):
        rows[name] = found[name] | {"guided": share(interval)}
    results = {"set": set_of(options, samples), "intervals": rows}
    show(results, Console(width=200))
    if options.json:
        write_json(options.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
