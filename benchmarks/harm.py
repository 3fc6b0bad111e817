"""Whether refining makes anything worse that was sound, and refuses what it does not know.

    python -m benchmarks.harm --bundle mini --json harm.json

Runs the product on the held-out set (scenes, damage, prompts and drawing styles that training never sees among them)
and on photographs and paintings that packages ship. `--accept off` measures the paper's own flow, in which all that the
stages make is kept.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.harm_figures import LIMITS, Harm, Outcome, largest_change, measured
from benchmarks.judge import Judge
from benchmarks.metrics import rmse
from benchmarks.options import heldout_parser, named, opened, parse, set_of, with_progress, write_json
from benchmarks.outcomes import repair_of
from benchmarks.photographs import photographs
from benchmarks.tables import VERDICT, console, in_words
from grefine_export.mini.heldout import Sample
from grefine_export.mini.world import alike, render
from grefine_rt import GRefineError, PlanOptions, RefineOptions, Refiner, RefineResult
from grefine_rt.errors import DomainError
from grefine_rt.imaging.mask import grow

AWAY = 4
"""Pixels from the damage at which a thing is none of the repair's business."""
FEWEST = 16
"""Pixels of a thing; fewer of it tell nothing."""


def harm_of(sample: Sample, result: RefineResult, judge: Judge) -> Harm:
    """What refining did to a held-out picture."""
    repair = repair_of(sample, result, judge)
    refined, found, stage1 = (
        np.asarray(picture.convert("RGB")) for picture in (result.image, result.found, result.stage1)
    )
    identical = bool(np.array_equal(refined, sample.image))
    return Harm(
        identical=identical,
        psnr=repair.psnr,
        # Where it was taken back, the result is the input, or what stage 2 made of it before.
        redrawn=not (identical or np.array_equal(stage1, found) or np.array_equal(refined, found)),
        rmse_before=rmse(sample.image, sample.truth),
        rmse_after=rmse(refined, sample.truth),
        things=repair.others,
        things_kept=repair.others_kept,
        thing_change=largest_change(sample.image, refined, sound_things(sample)),
        perceptual=result.after.perceptual - result.before.perceptual,
        alignment=result.after.alignment - result.before.alignment,
    )


def sound_things(sample: Sample) -> list[np.ndarray]:
    """The pixels bool (128, 128) of each thing that is as it should be, `AWAY` from all that is not."""
    damage = sample.mask | (sample.image != sample.truth).any(axis=2)
    owner, away = render(sample.scene).owner, ~grow(damage, AWAY)
    wrong = () if sample.thing is None else alike(sample.scene, sample.thing)
    pixels = [(owner == index + 1) & away for index in range(len(sample.scene.things)) if index not in wrong]
    return [thing for thing in pixels if thing.sum() >= FEWEST]


def run(
    refiner: Refiner,
    judge: Judge,
    samples: Sequence[Sample],
    pictures: Iterable[tuple[str, np.ndarray, str]],
    options: RefineOptions,
    seed: int = 0,
) -> list[Outcome]:
    """The outcomes on held-out samples and on `pictures` with names and prompts. A refusal is an outcome; any other
    error ends the run."""
    outcomes = []
    for sample in with_progress(samples):
        result = refined(refiner, sample.image, sample.prompt, seed + sample.number, options)
        harm = None if result is None else harm_of(sample, result, judge)
        outcomes.append(Outcome(str(sample.number), sample.category, sample.unseen, result is None, harm))
    for name, picture, prompt in pictures:
        refused = refined(refiner, picture, prompt, seed, options) is None
        outcomes.append(Outcome(name, "photograph", frozenset(), refused, None))
    return outcomes


def refined(
    refiner: Refiner, picture: np.ndarray, prompt: str, seed: int, options: RefineOptions
) -> RefineResult | None:
    """The result, None where the picture is refused as outside the bundle's domain."""
    try:
        return refiner.refine(picture, prompt, seed, options)
    except DomainError:
        return None


def show(results: dict[str, Any], console: Console) -> None:
    """The figures against their limits, as a table for people."""
    of = results["set"]
    title = f"Bundle {results['bundle']['name']}, accept {results['accept']}, {of['samples']} samples, "
    table = Table("figure", "value", "limit", "", "samples", "meaning")
    table.title = title + f"{of['photographs']} photographs"
    for key, limit in LIMITS.items():
        bar = f"{'<=' if limit.at_most else '>='} {limit.bar:g}"
        verdict = VERDICT[results["passed"][key]]
        table.add_row(key, in_words(results[key]), bar, verdict, str(results["samples"][key]), limit.meaning)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0 done, 1 a clear error."""
    parser = heldout_parser(__doc__)
    parser.add_argument(
        "--accept", choices=("regions", "off"), default="regions", help="'off' is the paper's own flow"
    )
    options: argparse.Namespace = parse(parser, arguments)
    try:
        refiner, samples = opened(options)
        pictures = list(photographs(options.limit))
        flow = RefineOptions(plan=PlanOptions(accept=options.accept))
        outcomes = run(refiner, Judge.load(), samples, pictures, flow, options.seed)
    except GRefineError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    manifest = refiner.bundle.manifest
    results = {
        "bundle": named(manifest),
        "domain": manifest.domain is not None,
        "set": {**set_of(options, samples), "photographs": len(pictures)},
        "accept": options.accept,
        **measured(outcomes),
    }
    show(results, console())
    if options.json:
        write_json(options.json, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
