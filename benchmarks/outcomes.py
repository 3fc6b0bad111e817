"""What the product does to one sample of the test set, boiled down to numbers and truths.

Several variants of the options can be tried on a sample at once: each assessment is made once for all
variants that read it alike, and each picture is made once for all variants whose plans come out alike.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.judge import Judge
from benchmarks.metrics import gradient, psnr, rmse, roc_auc
from grefine_export.mini.heldout import Sample, names_wanted
from grefine_export.mini.world import alike
from grefine_rt import (
    Assessment,
    AssessOptions,
    PhraseScore,
    PlanOptions,
    RefineOptions,
    RefinePlan,
    Refiner,
    RefineResult,
)
from grefine_rt.diffusion.tiling import tiled_decode, tiled_encode
from grefine_rt.imaging.image import to_float

EQUAL_DB = 100.0  # stands for the infinite PSNR of equal pictures
FEWEST_DRAWN = 64  # pixels


@dataclass(frozen=True)
class Seen:
    """What an assessment says of a sample.

    perceptual, alignment: p and a. map_auc: how well 1 - P finds the defect's pixels (local defects only).
    first_phrase, worst_phrase: the first phrase with a defect, or the one of the lowest score, is the wrong
    thing's (samples with a wrong thing only). round_trip_db: PSNR of a clean picture that went through stage 1's
    autoencoder, dB.
    """

    perceptual: float
    alignment: float
    map_auc: float | None
    first_phrase: bool | None
    worst_phrase: bool | None
    round_trip_db: float | None = None


@dataclass(frozen=True)
class Repair:
    """What refining did to a sample.

    perceptual, alignment: p and a afterwards. psnr: to the input, dB. rmse_reduction: 1 - RMSE(refined,
    truth) / RMSE(input, truth) inside the defect (local defects only). present_before, present: the judge
    finds the wanted thing (wrong things only). others, others_kept: the prompt's other things that the judge
    found before, and those of them it finds afterwards. outside_identical: stage 1 left every pixel without
    weight as it was; None where no such pixel is left or stage 1 did not run. gradients: mean gradient, in levels
    of 255, of what stage 1 drew where something else should be, and of the truth there. seconds: of the whole call.
    """

    perceptual: float
    alignment: float
    psnr: float
    rmse_reduction: float | None
    present_before: bool | None
    present: bool | None
    others: int
    others_kept: int
    outside_identical: bool | None
    seconds: float
    gradients: tuple[float, float] | None = None


@dataclass(frozen=True)
class Outcome:
    """One sample under one variant.

    `defect`: the kinds of its perceptual defects, joined by "+". `unseen`: what of it is never trained on, of
    `heldout.UNSEEN`. `redraws`: the plan runs stage 1. `repair`
    is None where the sample was only assessed and planned.
    """

    number: int
    category: str
    defect: str
    misaligned: str | None
    mos: float
    seen: Seen
    redraws: bool
    repair: Repair | None
    unseen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Variant:
    """Options to try.

    `repairs`: the categories of samples whose pictures are wanted; others are only planned. `plans`: some of
    its figures need no pictures, so that planning alone tells something.
    """

    options: RefineOptions
    repairs: Collection[str] = ()
    plans: bool = True


def try_variants(
    refiner: Refiner, judge: Judge, sample: Sample, variants: Mapping[str, Variant], seed: int
) -> dict[str, Outcome]:
    """The outcome of every variant on one sample; `seed` is that of the noise."""
    assessed: dict[AssessOptions, tuple[Assessment, Seen]] = {}
    planned: dict[tuple[AssessOptions, PlanOptions], RefinePlan] = {}
    repaired: dict[tuple[object, ...], Repair] = {}
    found = {}
    for name, variant in variants.items():
        # What the bundle can do is measured; what it refuses is counted by `benchmarks.harm`.
        options = replace(variant.options, outside="refine")
        if options.assess not in assessed:
            assessment = refiner.assess(sample.image, sample.prompt, options.assess)
            facts = seen(sample, assessment)
            if sample.category == "clean":
                facts = replace(facts, round_trip_db=round_trip_db(refiner, sample.image))
            assessed[options.assess] = assessment, facts
        assessment, what = assessed[options.assess]
        if (options.assess, options.plan) not in planned:
            planned[options.assess, options.plan] = refiner.plan(assessment, options=options.plan)
        plan = planned[options.assess, options.plan]
        repair = None
        if sample.category in variant.repairs:
            key = _key(refiner, plan, options)
            if key not in repaired:
                result = refiner.refine(sample.image, sample.prompt, seed, options, plan)
                repaired[key] = repair_of(sample, result, judge)
            repair = repaired[key]
        found[name] = Outcome(
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
    return found


def seen(sample: Sample, assessment: Assessment) -> Seen:
    """The facts of an assessment of the sample's image."""
    local = sample.category == "local" and sample.mask.any() and not sample.mask.all()
    wrong = [phrase for phrase in assessment.phrases if phrase.defect]
    lowest = sorted(wrong, key=lambda phrase: phrase.phrase_score)
    return Seen(
        perceptual=assessment.perceptual,
        alignment=assessment.alignment,
        map_auc=roc_auc(sample.mask, 1 - assessment.perceptual_map) if local else None,
        first_phrase=_names_wanted(sample, wrong),
        worst_phrase=_names_wanted(sample, lowest),
    )


def repair_of(sample: Sample, result: RefineResult, judge: Judge) -> Repair:
    """The facts of a refined sample."""
    refined = np.asarray(result.image.convert("RGB"))
    before, after = judge.look(sample.image), judge.look(refined)
    apart = () if sample.thing is None else alike(sample.scene, sample.thing)
    others = [thing for index, thing in enumerate(sample.scene.things) if index not in apart]
    kept = [
        after.shows(thing.kind, thing.colour) for thing in others if before.shows(thing.kind, thing.colour)
    ]
    wanted = sample.wanted
    return Repair(
        perceptual=result.after.perceptual,
        alignment=result.after.alignment,
        psnr=min(psnr(refined, sample.image), EQUAL_DB),
        rmse_reduction=_rmse_reduction(sample, refined),
        present_before=None if wanted is None else before.shows(wanted.kind, wanted.colour),
        present=None if wanted is None else after.shows(wanted.kind, wanted.colour),
        others=len(kept),
        others_kept=sum(kept),
        outside_identical=_outside_identical(sample, result),
        seconds=result.timings["total"] / 1000,
        gradients=_gradients(sample, result),
    )


def round_trip_db(refiner: Refiner, rgb: np.ndarray) -> float:
    """PSNR of a picture uint8 (H, W, 3) that went through stage 1's autoencoder and back, dB."""
    bundle = refiner.bundle
    tile = bundle.manifest.stage1.tile
    latent = tiled_encode(
        bundle.engine("inpaint_encode"), to_float(rgb) * np.float32(2) - np.float32(1), tile
    )
    back = np.clip(tiled_decode(bundle.engine("inpaint_decode"), latent, tile), 0, 1)
    return min(psnr((back * 255).round().astype(np.uint8), rgb), EQUAL_DB)


def same_twice(refiner: Refiner, sample: Sample, seed: int) -> bool:
    """Whether the same seed gives the same bytes twice, between the stages and at the end."""
    options = RefineOptions(outside="refine")
    one, two = (refiner.refine(sample.image, sample.prompt, seed, options) for _ in range(2))
    return one.image.tobytes() == two.image.tobytes() and one.stage1.tobytes() == two.stage1.tobytes()


def _gradients(sample: Sample, result: RefineResult) -> tuple[float, float] | None:
    # A missing thing may be drawn where the truth has a plain meadow.
    if sample.misaligned == "missing":
        return None
    stage1, found = (np.asarray(picture.convert("RGB")) for picture in (result.stage1, result.found))
    drawn = (stage1 != found).any(axis=2)
    if drawn.sum() < FEWEST_DRAWN:
        return None
    return gradient(stage1, drawn), gradient(sample.truth, drawn)


def _names_wanted(sample: Sample, wrong: list[PhraseScore]) -> bool | None:
    if sample.wanted is None:
        return None
    return bool(wrong) and names_wanted(sample, wrong[0].text)


def _rmse_reduction(sample: Sample, refined: np.ndarray) -> float | None:
    if sample.category != "local" or not sample.mask.any():
        return None
    before = rmse(sample.image, sample.truth, sample.mask)
    return 1 - rmse(refined, sample.truth, sample.mask) / before if before else None


def _outside_identical(sample: Sample, result: RefineResult) -> bool | None:
    if not result.plan.regenerate:
        return None
    outside = result.plan.weight() == 0
    stage1 = np.asarray(result.stage1.convert("RGB"))
    found = np.asarray(result.found.convert("RGB"))
    return bool((stage1 == found)[outside].all()) if outside.any() else None


def _key(refiner: Refiner, plan: RefinePlan, options: RefineOptions) -> tuple[object, ...]:
    """All that a picture depends on, for one sample and seed."""
    drawing = (plan.mask.tobytes(), plan.feather, plan.strength, plan.stage1_steps, plan.interval, plan.crops)
    stage1 = (
        (*drawing, plan.drafts, plan.sketch_steps, plan.all_drafts, plan.judged, options.match_rim)
        if plan.regenerate
        else ()
    )
    decoding = options.decoding or refiner.bundle.manifest.restore.decoding
    color_fix = options.color_fix or refiner.bundle.manifest.restore.color_fix
    stage2 = (
        (plan.delta, plan.stage2_steps, plan.work, plan.keep_good, decoding, color_fix)
        if plan.restore
        else ()
    )
    again = options.plan if plan.restore_first else None
    kept = (plan.settings.accept, plan.by_hand, plan.settings.quality, plan.settings.matching)
    return (options.assess, plan.prompt, again, stage1, stage2, kept)
