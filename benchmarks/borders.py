"""How well stage 1's regions sit in their pictures, on the held-out set.

    python -m benchmarks.borders --bundle mini --json borders.json

Every picture that the plan redraws is redrawn once, with and without matching of the rim, and compared with itself
before. All values are in levels of 0 to 255, means over pictures.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.options import heldout_parser, opened, parse, set_of, write_json
from grefine_export.mini.heldout import Sample
from grefine_rt import GRefineError, PlanOptions, RefineOptions, Refiner
from grefine_rt.arrays import Mask
from grefine_rt.imaging.mask import grow

BEFORE, PLAIN, MATCHED = "before", "stage 1, rim not matched", "stage 1, rim matched"
STRIP = 4
"""Pixels on either side of the border whose colours are compared."""

MEANINGS = {
    "jump": "absolute difference of neighbours across the mask's border",
    "jump_within": "the same between neighbours inside the mask and in the strip around it: the picture's own contrast",
    "step": "difference of the mean colours of the strips on either side of the border, largest channel",
    "rim_shift": "mean colour change in the feather, largest channel",
    "rim_change": "absolute colour change in the feather",
    "outside": "absolute colour change outside the mask, feather included",
    "beyond": "largest change of any pixel beyond the feather",
}


def jump(rgb: np.ndarray, mask: Mask) -> float:
    """Mean absolute difference of neighbouring pixels of which one is in the mask, uint8 (H, W, 3) and bool (H, W);
    NaN where the mask has no border."""
    return _neighbours(rgb, mask, across=True)


def measure(picture: np.ndarray, original: np.ndarray, mask: Mask, weight: np.ndarray) -> dict[str, float]:
    """The figures of `MEANINGS` for a picture uint8 (H, W, 3), its original, mask and paste weight (H, W)."""
    around = grow(mask, STRIP) & ~mask
    inner = grow(~mask, STRIP) & mask
    feather = (weight > 0) & ~mask
    change = picture.astype(np.float64) - original
    return {
        "jump": jump(picture, mask),
        "jump_within": _neighbours(picture, mask, across=False),
        "step": _largest(picture[inner].mean(axis=0) - picture[around].mean(axis=0)),
        "rim_shift": _largest(change[feather].mean(axis=0)) if feather.any() else 0.0,
        "rim_change": float(np.abs(change[feather]).mean()) if feather.any() else 0.0,
        "outside": float(np.abs(change[~mask]).mean()),
        "beyond": float(np.abs(change[weight == 0]).max(initial=0)),
    }


def _neighbours(rgb: np.ndarray, mask: Mask, across: bool) -> float:
    near = grow(mask, STRIP)
    found = []
    for axis in (0, 1):
        values, inside, close = (np.moveaxis(part, axis, 0) for part in (rgb.astype(np.float64), mask, near))
        both = close[1:] & close[:-1]
        pairs = (inside[1:] != inside[:-1]) == across
        found.append(np.abs(values[1:] - values[:-1])[pairs & both].ravel())
    every = np.concatenate(found)
    return float(every.mean()) if every.size else float("nan")


def _largest(colour: np.ndarray) -> float:
    return float(np.abs(colour).max())


def compare(refiner: Refiner, sample: Sample, seed: int) -> dict[str, dict[str, float]] | None:
    """The figures of a sample before and after stage 1; None where no border is drawn."""
    assessment = refiner.assess(sample.image, sample.prompt)
    plan = refiner.plan(assessment, options=PlanOptions(stages=(1,), drafts=1))
    if not plan.regenerate or plan.mask.all():
        return None
    weight = plan.weight()
    figures = {BEFORE: measure(sample.image, sample.image, plan.mask, weight)}
    for name, matched in ((PLAIN, False), (MATCHED, True)):
        result = refiner.refine(sample.image, sample.prompt, seed, RefineOptions(match_rim=matched), plan)
        figures[name] = measure(np.asarray(result.stage1.convert("RGB")), sample.image, plan.mask, weight)
    return figures


def summary(found: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """Means over pictures of every figure; of `beyond` the largest."""
    rows = {
        name: {
            key: float((np.max if key == "beyond" else np.mean)([figures[name][key] for figures in found]))
            for key in MEANINGS
        }
        for name in (BEFORE, PLAIN, MATCHED)
    }
    return {"pictures": len(found), "figures": rows, "unchanged_beyond_feather": rows[MATCHED]["beyond"] == 0}


def run(refiner: Refiner, samples: Iterable[Sample], seed: int) -> dict[str, Any]:
    """The summary over all samples that stage 1 redraws. Raises GRefineError where it redraws none."""
    told = [compare(refiner, sample, seed + sample.number) for sample in samples]
    found = [figures for figures in told if figures is not None]
    if not found:
        raise GRefineError("Stage 1 redraws none of these samples; take more of them.")
    return summary(found)


def show(results: dict[str, Any], console: Console) -> None:
    """The figures as a Markdown table."""
    names = list(results["figures"])
    table = Table("figure", *names, "meaning", box=MARKDOWN)
    for key, meaning in MEANINGS.items():
        table.add_row(key, *(f"{results['figures'][name][key]:.2f}" for name in names), meaning)
    console.print(table)
    verdict = "pass" if results["unchanged_beyond_feather"] else "FAIL"
    console.print(f"{verdict}: no pixel beyond the feather changed, on {results['pictures']} pictures")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    parser = heldout_parser(__doc__)
    options = parse(parser, arguments)
    try:
        refiner, samples = opened(options)
        results = {"set": set_of(options, samples), **run(refiner, samples, options.seed)}
    except GRefineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    show(results, Console(width=200))
    if options.json:
        write_json(options.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
