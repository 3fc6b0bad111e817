"""What each lever that saves compute costs in quality, on the held-out set.

    python -m benchmarks.levers --bundle mini --json levers.json

The full computation runs stage 1 on every picture, whole, with the paper's 10 steps, all of them guided, and with all
its drafts. Each lever is pulled alone and then all of them; "default" is what the bundle does unasked. Operations are
those of the bundle's own counts (`grefine_export.onnx.cost.add_costs`), texts counted at full length.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.figures import FIGURES
from benchmarks.judge import Judge
from benchmarks.options import heldout_parser, opened, parse, set_of, write_json
from benchmarks.outcomes import Outcome, Repair, repair_of, seen
from grefine_export.mini.heldout import Sample
from grefine_rt import GRefineError, PlanOptions, Refiner
from grefine_rt.errors import BundleError

FULL = "full computation"
REFERENCE = "skip"
"""Where the mask is empty the full computation pastes nothing of what it draws: its pictures are this lever's."""
DEFAULT = "default"
MOST_OF_FULL, LARGEST_LOSS = 0.40, 0.02
"""What the default must keep to: its share of the full computation, and the loss of any figure."""
COMPARED = [key for key in FIGURES if not key.endswith(("_unseen", "_worst", "_missing"))]
"""Figures of enough samples; those of parts of the set are mostly chance."""
RESAMPLES = 100

PAPER_STEPS = 10
"""n1 of Eq. 10."""

_OFF: dict[str, Any] = {
    "stage1_steps": PAPER_STEPS,
    "interval": (0.0, 1.0),
    "crop": "off",
    "sketch_steps": 0,
    "all_drafts": True,
}


@dataclass(frozen=True)
class Pulled:
    """One sample under one lever: the outcome, TFLOP of the call and of the full computation, drafts made."""

    outcome: Outcome
    tflop: float
    full: float


def levers(interval: tuple[float, float], steps: int, sketch_steps: int) -> dict[str, PlanOptions]:
    """Each lever alone, and all; skipping stage 1 where the mask is empty is part of them all."""
    pulled: dict[str, dict[str, Any]] = {
        REFERENCE: {},
        "skip, crops": {"crop": "auto"},
        f"skip, {steps} steps": {"stage1_steps": steps},
        "skip, interval": {"interval": interval},
        "skip, fewer drafts": {"all_drafts": False},
        f"skip, sketches of {sketch_steps} steps": {"sketch_steps": sketch_steps},
    }
    pulled["all levers"] = {key: value for change in pulled.values() for key, value in change.items()}
    return {name: PlanOptions(**_OFF | change) for name, change in pulled.items()} | {DEFAULT: PlanOptions()}


def pull(
    refiner: Refiner, judge: Judge, sample: Sample, options: Mapping[str, PlanOptions], seed: int
) -> dict[str, Pulled]:
    """What every lever makes of a sample. Raises BundleError for a bundle whose costs were not counted."""
    assessment = refiner.assess(sample.image, sample.prompt)
    what = seen(sample, assessment)
    repaired: dict[object, tuple[Repair, float, float]] = {}
    found = {}
    for name, choice in options.items():
        plan = refiner.plan(assessment, options=choice)
        drawing = (plan.crops, plan.stage1_steps, plan.interval, plan.sketch_steps, plan.all_drafts)
        # A plan that is made again for the restored picture reads all of the options.
        key = choice if plan.restore_first else drawing if plan.regenerate else None
        if key not in repaired:
            result = refiner.refine(sample.image, sample.prompt, seed, plan=plan)
            if result.costs is None:
                raise BundleError(
                    f"Bundle '{refiner.bundle.manifest.name}' says nothing of its costs: count them with "
                    f"grefine_export.onnx.cost.add_costs."
                )
            repaired[key] = repair_of(sample, result, judge), result.costs.total, result.costs.full
        repair, tflop, full = repaired[key]
        outcome = Outcome(
            number=sample.number,
            category=sample.category,
            defect="+".join(defect.kind for defect in sample.defects),
            misaligned=sample.misaligned,
            mos=sample.mos,
            seen=what,
            redraws=plan.regenerate,
            repair=repair,
            unseen=sample.unseen,
        )
        found[name] = Pulled(outcome, tflop, full)
    return found


def measure(
    refiner: Refiner,
    judge: Judge,
    samples: Sequence[Sample],
    seed: int,
    options: Mapping[str, PlanOptions],
) -> dict[str, Any]:
    """The figures of every lever beside the full computation's, as they go into the JSON. `options` hold at least
    `REFERENCE` and `DEFAULT`."""
    found: dict[str, list[Pulled]] = {name: [] for name in options}
    for place, sample in enumerate(samples, start=1):
        for name, pulled in pull(refiner, judge, sample, options, seed + sample.number).items():
            found[name].append(pulled)
        print(f"\r{place} of {len(samples)} samples", end="\n" * (place == len(samples)), file=sys.stderr)
    reference = found[REFERENCE]
    full = float(np.mean([pulled.full for pulled in reference]))
    rows = {FULL: _row(reference, reference, full) | {"tflop": full, "share": 1.0}}
    rows |= {name: _row(pulled, reference, full) for name, pulled in found.items()}
    default = rows[DEFAULT]
    return {
        "levers": rows,
        "bars": {"share": MOST_OF_FULL, "loss": LARGEST_LOSS},
        "passed": {
            "share": default["share"] <= MOST_OF_FULL,
            "loss": default["worst"]["change"] >= -LARGEST_LOSS,
        },
    }


def _row(pulled: Sequence[Pulled], reference: Sequence[Pulled], full: float) -> dict[str, Any]:
    """Mean costs, and of each figure its value, its change relative to the reference, and that change's standard
    error over samples drawn with replacement; with few samples much of a change is chance."""
    pairs = [(one.outcome, other.outcome) for one, other in zip(pulled, reference, strict=True)]
    rng = np.random.default_rng(0)
    draws = [rng.integers(len(pairs), size=len(pairs)) for _ in range(RESAMPLES)]
    cells: dict[str, dict[str, Any]] = {}
    for key in COMPARED:
        change = _change(key, pairs)
        cells[key] = {
            "value": FIGURES[key].of([pair[0] for pair in pairs]).value,
            "change": change,
            "error": 0.0,
        }
        if change:
            again = [_change(key, [pairs[index] for index in draw]) for draw in draws]
            cells[key]["error"] = float(np.std([value for value in again if value is not None]))
    told = {key: cell["change"] for key, cell in cells.items() if cell["change"] is not None}
    worst = min(told, key=told.__getitem__)
    tflop = float(np.mean([one.tflop for one in pulled]))
    seconds = [one.outcome.repair.seconds for one in pulled if one.outcome.repair is not None]
    return {
        "tflop": tflop,
        "share": tflop / full,
        "seconds": float(np.mean(seconds)),
        "figures": cells,
        "worst": {"figure": worst, **cells[worst]},
    }


def _change(key: str, pairs: Sequence[tuple[Outcome, Outcome]]) -> float | None:
    """How much a figure is above (below, if negative) the reference's, relatively; None where one is not told."""
    value, before = (FIGURES[key].of([pair[side] for pair in pairs]).value for side in (0, 1))
    if value is None or before is None:
        return None
    return (float(value) - float(before)) / abs(float(before)) if before else float(value)


def show(results: Mapping[str, Any], console: Console) -> None:
    """One line a lever, as a Markdown table, and whether the default keeps to its bars."""
    shown = [key for key in COMPARED if FIGURES[key].repairs or key.endswith("_after")]
    table = Table("lever", "GFLOP", "of full", "seconds", *shown, "largest loss", box=MARKDOWN)
    for name, row in results["levers"].items():
        values = (row["figures"][key]["value"] for key in shown)
        worst = row["worst"]
        loss = (
            f"{worst['change']:+.1%} (± {worst['error']:.1%}) {worst['figure']}"
            if worst["change"] < 0
            else "-"
        )
        table.add_row(
            name,
            f"{1000 * row['tflop']:.1f}",
            f"{row['share']:.0%}",
            f"{row['seconds']:.2f}",
            *("-" if value is None else f"{value:.3f}" for value in values),
            loss,
        )
    console.print(table)
    bars, passed = results["bars"], results["passed"]
    for key, text in (
        ("share", f"the default takes at most {bars['share']:.0%} of the full computation"),
        ("loss", f"and no figure is more than {bars['loss']:.0%} lower"),
    ):
        console.print(f"{'pass' if passed[key] else 'FAIL'}: {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    parser = heldout_parser(__doc__)
    parser.add_argument(
        "--interval", type=float, nargs=2, default=(0.0, 0.45), help="of the lever: shares of the UNet calls"
    )
    parser.add_argument("--steps", type=int, default=6, help="of the lever: steps of stage 1 at strength 1")
    parser.add_argument(
        "--sketch-steps", type=int, default=4, help="of the lever: steps of a sketch at strength 1"
    )
    parser.add_argument(
        "--default-only", action="store_true", help="no lever alone: the default against the full computation"
    )
    options = parse(parser, arguments)
    start, end = options.interval
    pulled = levers((start, end), options.steps, options.sketch_steps)
    if options.default_only:
        pulled = {name: pulled[name] for name in (REFERENCE, DEFAULT)}
    try:
        refiner, samples = opened(options)
        results = measure(refiner, Judge.load(), samples, options.seed, pulled)
    except GRefineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    settings = {name: getattr(options, name) for name in ("interval", "steps", "sketch_steps")}
    results = {"set": set_of(options, samples), **settings, **results}
    show(results, Console(width=300))
    if options.json:
        write_json(options.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
