"""What acceptance costs and spares: refining with it and in the paper's own flow, side by side.

    python -m benchmarks.acceptance --bundle mini --json acceptance.json

Refines every held-out sample twice with the same seed, once as the product does (`accept` regions) and once keeping all
that the stages make (off), and prints the figures of `benchmarks.quality` and `benchmarks.harm` that depend on it.
Pictures outside a bundle's domain are refined all the same.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import harm_figures
from benchmarks.figures import HEADLINE, MORE, Figure, Measured, quantile
from benchmarks.harm import harm_of
from benchmarks.harm_figures import LIMITS
from benchmarks.judge import Judge
from benchmarks.options import heldout_parser, named, opened, parse, set_of, with_progress, write_json
from benchmarks.outcomes import Outcome, repair_of, seen
from benchmarks.tables import console, in_words
from grefine_export.mini.heldout import Sample
from grefine_rt import GRefineError, PlanOptions, RefineOptions, Refiner

FLOWS = {flow: RefineOptions(plan=PlanOptions(accept=flow), outside="refine") for flow in ("regions", "off")}
REPAIRED = {name: figure for name, figure in HEADLINE.items() if name.startswith(("refine_", "clean_psnr"))}
"""Figures of `benchmarks.quality` that depend on what is kept."""
HARMED = {name: limit for name, limit in LIMITS.items() if "refused" not in name and "outside" not in name}
"""Figures of `benchmarks.harm` that do, which are of pictures that were refined."""


@dataclass(frozen=True)
class Flow:
    """One flow on all samples, in their order, as either benchmark counts it."""

    repairs: list[Outcome]
    harms: list[harm_figures.Outcome]


def run(refiner: Refiner, judge: Judge, samples: Iterable[Sample], seed: int = 0) -> dict[str, Flow]:
    """Both flows. Raises GRefineError."""
    flows = {name: Flow([], []) for name in FLOWS}
    for sample in samples:
        for name, options in FLOWS.items():
            result = refiner.refine(sample.image, sample.prompt, seed + sample.number, options)
            flows[name].repairs.append(
                Outcome(
                    number=sample.number,
                    category=sample.category,
                    defect="+".join(defect.kind for defect in sample.defects),
                    misaligned=sample.misaligned,
                    mos=sample.mos,
                    seen=seen(sample, result.before),
                    redraws=result.plan.regenerate,
                    repair=repair_of(sample, result, judge),
                    unseen=sample.unseen,
                )
            )
            done = harm_of(sample, result, judge)
            flows[name].harms.append(
                harm_figures.Outcome(str(sample.number), sample.category, sample.unseen, False, done)
            )
    return flows


def measured(flow: Flow) -> dict[str, Measured]:
    """Every figure of one flow."""
    quality: dict[str, Figure] = {**REPAIRED, **MORE}
    found = {name: figure.of(flow.repairs) for name, figure in quality.items()}
    found |= {name: limit.of(flow.harms) for name, limit in HARMED.items()}
    found["seconds_per_refine"] = quantile(one.repair.seconds for one in flow.repairs if one.repair)
    return found


def side_by_side(flows: dict[str, Flow]) -> dict[str, dict[str, Any]]:
    """By figure: its value in each flow, its bar, and how many samples stand behind it."""
    values = {name: measured(flow) for name, flow in flows.items()}
    bars = {name: figure.bar for name, figure in REPAIRED.items()}
    bars |= {name: limit.bar for name, limit in HARMED.items()}
    return {
        key: {
            **{name: found[key].value for name, found in values.items()},
            "bar": bars.get(key),
            "samples": own.samples,
        }
        for key, own in values["regions"].items()
    }


def show(results: dict[str, Any], console: Console) -> None:
    """One table for people."""
    title = f"Bundle {results['bundle']['name']}, {results['set']['samples']} samples"
    table = Table("figure", "accepted", "off", "bar", "samples", "meaning", title=title)
    meanings = {name: figure.meaning for name, figure in {**REPAIRED, **MORE}.items()}
    meanings |= {name: limit.meaning for name, limit in HARMED.items()}
    for key, row in results["figures"].items():
        limit = LIMITS.get(key)
        sign = "" if row["bar"] is None else "<= " if limit is not None and limit.at_most else ">= "
        cells = (in_words(row["regions"]), in_words(row["off"]), f"{sign}{in_words(row['bar'])}")
        table.add_row(key, *cells, str(row["samples"]), meanings.get(key, "seconds of a call; median"))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    options = parse(heldout_parser(__doc__), arguments)
    try:
        refiner, samples = opened(options)
        flows = run(refiner, Judge.load(), with_progress(samples), options.seed)
    except GRefineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    manifest = refiner.bundle.manifest
    results = {
        "bundle": named(manifest),
        "set": set_of(options, samples),
        "figures": side_by_side(flows),
    }
    show(results, console())
    if options.json:
        write_json(options.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
