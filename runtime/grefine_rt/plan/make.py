"""From an assessment to a plan: mask, strength and prompt of the redraw (G-Refine Eq. 6, 7, 9).

Pure numpy without a model: a plan can be made, looked at, edited and run later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from grefine_rt.arrays import FloatMap, Mask
from grefine_rt.assess.alignment import Region, join, regions
from grefine_rt.assess.indicator import Assessment
from grefine_rt.assess.perceptual import FACTORS, upsample
from grefine_rt.bundle.manifest import Manifest, Redraw
from grefine_rt.contract import LATENT_SCALE
from grefine_rt.diffusion.solver import unet_calls
from grefine_rt.errors import OptionError
from grefine_rt.imaging import mask as masks
from grefine_rt.imaging.image import resize, work_size
from grefine_rt.plan.change import with_crops
from grefine_rt.plan.options import PlanOptions, StrengthRule
from grefine_rt.plan.plan import RefinePlan, enlarge, grid_step
from grefine_rt.plan.reasons import (
    CONTENT,
    LEFT_TO_STAGE2,
    RESTORE_FIRST,
    RESTORED_FIRST,
    crowded_reasons,
    plan_reasons,
    strength_reason,
)
from grefine_rt.plan.settings import Settings, settings_of
from grefine_rt.text.emphasis import emphasise

DAMAGED = 0.2
"""Above this share of a mask, damage that is left to stage 2 may be why a phrase was not found there."""


@dataclass(frozen=True, eq=False)
class Defects:
    """The defects of a picture, as far as the settings look at it. All maps are float32 (H, W).

    poor: 1 - P of Eq. 9 in places that stage 1 shall mend, in [0, 1]; left: the rest of it, which is stage 2's.
    missing: A of Eq. 6, in [0, 1]. places: the regions of the defective phrases; crowded: numbers of the ones without
    room. good: p is above its bound.
    """

    poor: FloatMap
    left: FloatMap
    missing: FloatMap
    places: tuple[Region, ...]
    crowded: tuple[int, ...]
    good: bool


def make_plan(assessment: Assessment, manifest: Manifest, options: PlanOptions) -> RefinePlan:
    """The plan of Eq. 9 for an assessed picture: M = Bi(1 - P + A), strength and weighted prompt.

    Raises OptionError when the bundle's and the given strengths together make no range or a stage's solver cannot make
    so many steps, and BundleError for a bundle that only assesses.
    """
    return _plan(assessment, manifest, settings_of(options, manifest), restored=False)


def replan(plan: RefinePlan, restored: Assessment) -> RefinePlan:
    """The plan of the remaining work on the picture that stage 2 `restored` first, made with the same settings.

    Changes by `dataclasses.replace` are lost. Without anything to redraw both stages are skipped.
    """
    return _plan(restored, plan.manifest, plan.settings, restored=True)


def _plan(assessment: Assessment, manifest: Manifest, settings: Settings, restored: bool) -> RefinePlan:
    shape = assessment.perceptual_map.shape
    cell = _cell(manifest, shape)
    defects = find_defects(assessment, manifest, settings)
    defect_map = defects.poor + defects.missing
    mask = _mask(defect_map, settings, cell)
    damage = _damage(defects, settings)
    broken = bool(binary_mask(defects.poor, settings.tau, settings.min_area, 0).any())
    quality, absent = _quality(assessment, settings), _absent(assessment, defects)
    strength = stage1_strength(
        quality, settings.strength_rule, settings.strength_min, settings.strength_max, absent
    )
    regenerate = settings.stage1 and bool(mask.any()) and unet_calls(settings.stage1_steps, strength) > 0
    doubtful = regenerate and not broken and bool(damage[mask].mean() > DAMAGED)
    judged_whole = defects.good and settings.matching and settings.stage1 and settings.stage2
    # With both indicators content, what stage 2 would change is not known to be wrong.
    content = judged_whole and settings.keep_good and settings.accept == "regions" and not regenerate
    plan = RefinePlan(
        mask=mask,
        feather=settings.feather * cell,
        strength=strength,
        delta=settings.delta,
        prompt=_prompt(assessment, defects, settings),
        asked=assessment.prompt,
        regenerate=regenerate,
        restore=settings.stage2 and (regenerate or not restored) and not content,
        restore_first=settings.restore_first and doubtful and not restored,
        restored=restored,
        keep_good=settings.keep_good and judged_whole and not restored,
        by_hand=False,
        stage1_steps=settings.stage1_steps,
        stage2_steps=settings.stage2_steps,
        drafts=settings.drafts,
        # A draft is soft until stage 2 has seen it: where shapes are to be mended, p would not tell whether they are.
        judged="rationality" if settings.redraw == "misshapen" and broken else "perceptual",
        sketch_steps=settings.sketch_steps,
        all_drafts=settings.all_drafts,
        work=settings.work,
        interval=settings.interval,
        crops=(),
        boxes=tuple(masks.boxes(mask)),
        coverage=float(mask.mean()),
        alignment_map=defects.missing,
        defect_map=defect_map,
        reasons=(),
        manifest=manifest,
        settings=settings,
        texts=2 * len(assessment.phrases) + 2,
    )
    plan = with_crops(plan)
    why = strength_reason(quality, settings.strength_rule == "deficit", absent)
    first = [RESTORED_FIRST if restored else RESTORE_FIRST] * (restored or plan.restore_first)
    first += [LEFT_TO_STAGE2] * bool(damage.any()) + [CONTENT] * content
    first += crowded_reasons(assessment.phrases, defects.crowded)
    reasons = plan_reasons(
        plan, assessment, defects.places, defects.poor, defects.missing, why, settings.full_image
    )
    return replace(plan, reasons=(*first, *reasons))


def find_defects(assessment: Assessment, manifest: Manifest, settings: Settings) -> Defects:
    """Eq. 6 and the terms of Eq. 9 for an assessed picture."""
    poor = left = np.zeros(assessment.perceptual_map.shape, np.float32)
    good = settings.quality and assessment.perceptual > settings.p_bound
    if settings.quality and not good:
        poor, left = poor_places(assessment, manifest.perceptual.alpha, settings.redraw)
    found, missing = _missing(assessment, manifest, settings)
    places = tuple(place for place in found if place.place)
    crowded = tuple(place.phrase for place in found if not place.place)
    return Defects(poor, left, missing, places, crowded, good)


def shown(assessment: Assessment, plan: RefinePlan) -> Assessment:
    """The assessment with A as the plan's settings read it, so that the map that is shown is one that is acted on."""
    _, missing = _missing(assessment, plan.manifest, plan.settings)
    return replace(assessment, alignment_map=missing)


def _missing(
    assessment: Assessment, manifest: Manifest, settings: Settings
) -> tuple[tuple[Region, ...], FloatMap]:
    """The regions of the defective phrases, and A of Eq. 6; none, and 0, where alignment is not looked at."""
    height, width = assessment.perceptual_map.shape
    if not settings.matching:
        return (), np.zeros((height, width), np.float32)
    grid = manifest.alignment.grid
    quality = (
        resize(assessment.perceptual_map, (grid, grid), "area") if settings.accept == "regions" else None
    )
    found = regions(assessment.phrases, settings.missing_region, settings.window, quality)
    drawn = [place for place in found if place.place]
    return found, upsample(join(drawn, settings.joining, grid), (height, width))


def _cell(manifest: Manifest, shape: tuple[int, ...]) -> float:
    """Side of a latent cell of stage 1 in pixels of a picture (H, W)."""
    inpaint, _ = manifest.stages
    width, height = work_size(shape[1], shape[0], inpaint.resolution, inpaint.multiple)
    return LATENT_SCALE * math.sqrt(shape[0] * shape[1] / (width * height))


def _mask(defect: FloatMap, settings: Settings, cell: float) -> Mask:
    if settings.full_image:
        return np.ones(defect.shape, dtype=np.bool_)
    return binary_mask(defect, settings.tau, settings.min_area, settings.grow * cell)


def _damage(defects: Defects, settings: Settings) -> Mask:
    """The places where stage 2 mends what would have been redrawn otherwise."""
    if settings.full_image:
        return np.zeros(defects.left.shape, dtype=np.bool_)
    return binary_mask(defects.left, settings.tau, settings.min_area, 0)


def _quality(assessment: Assessment, settings: Settings) -> float:
    """(p + a) / 2 of Eq. 9, of the indicators that are looked at."""
    scores = [assessment.perceptual] * settings.quality + [assessment.alignment] * settings.matching
    return sum(scores) / len(scores)


def _absent(assessment: Assessment, defects: Defects) -> bool:
    return any(assessment.phrases[place.phrase].defect == "noun" for place in defects.places)


def _prompt(assessment: Assessment, defects: Defects, settings: Settings) -> str:
    """Eq. 7: every defective phrase with more weight."""
    wrong = [assessment.phrases[place.phrase].words for place in defects.places]
    return emphasise(assessment.prompt, wrong, settings.emphasis)


def poor_places(assessment: Assessment, alpha: Sequence[float], redraw: Redraw) -> tuple[FloatMap, FloatMap]:
    """1 - P (H, W) as far as it is marked for stage 1, and the rest, which is left to stage 2; `redraw` as in
    `PlanOptions`, `alpha` of Eq. 3."""
    poor: FloatMap = 1.0 - assessment.perceptual_map
    if redraw == "poor":
        return poor, np.zeros_like(poor)
    shapes = misshapen(assessment, alpha)
    return poor * shapes, poor * ~shapes


def misshapen(assessment: Assessment, alpha: Sequence[float]) -> Mask:
    """The places where rationality is the weakest of the three factors of Eq. 3, bool (H, W); `alpha` as there."""
    ratios = np.stack(
        [assessment.factor_maps[name] / bound for name, bound in zip(FACTORS[1:], alpha, strict=True)]
    )
    weakest: Mask = ratios.argmin(axis=0) == FACTORS[1:].index("rationality")
    return weakest


def binary_mask(defect: FloatMap, tau: float | Literal["otsu"], min_area: float, grow: float) -> Mask:
    """Bi(1 - P + A): threshold, then specks removed, then grown.

    `defect` is (H, W), 0 is good; `min_area` a share of the picture, `grow` in pixels. Returns bool (H, W).
    A map below the threshold everywhere gives an empty mask. A smaller tau gives an equal or larger mask.
    """
    step = grid_step(defect.shape)
    rows, columns = (
        np.minimum(np.arange(-(-side // step)) * step + step // 2, side - 1) for side in defect.shape
    )
    mask = masks.binarise(defect[np.ix_(rows, columns)], tau)
    mask = masks.remove_specks(mask, math.ceil(min_area * mask.size))
    return enlarge(masks.grow(mask, grow / step), step, defect.shape)


def stage1_strength(
    quality: float, rule: StrengthRule, low: float, high: float, absent: bool = False
) -> float:
    """Eq. 9, the strength of stage 1 in [0, 1] for a quality (p + a) / 2 in [0, 1].

    "deficit": low + (high - low) * (1 - quality), so a worse picture gets the stronger pass the paper is
    after; `high` where a thing is `absent`, which no mild pass can draw, however good the rest is. "printed":
    the quality itself, which gives the stronger pass to the better picture. Raises OptionError unless low <=
    high.
    """
    if low > high:
        raise OptionError(
            f"The stage 1 strength must have strength_min <= strength_max, but {low} > {high}; give both."
        )
    quality = min(max(quality, 0.0), 1.0)
    if rule == "printed":
        return quality
    return high if absent else low + (high - low) * (1.0 - quality)
