"""From an assessment to a plan: what is redrawn, how strongly, and with which prompt (G-Refine Eq. 6, 7, 9).

Pure numpy; nothing here needs a model, so a plan can be made, looked at, edited and run later.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from grefine_rt.arrays import FloatMap, Mask
from grefine_rt.assess.alignment import Region, join, regions
from grefine_rt.assess.indicator import Assessment
from grefine_rt.assess.perceptual import FACTORS, upsample
from grefine_rt.bundle.manifest import Manifest, Redraw
from grefine_rt.contract import LATENT_SCALE
from grefine_rt.diffusion.solver import check_steps, unet_calls
from grefine_rt.errors import OptionError
from grefine_rt.imaging import mask as masks
from grefine_rt.imaging.image import work_size
from grefine_rt.imaging.mask_source import MaskSource, as_mask
from grefine_rt.plan.costs import ALL_CALLS, SKETCH_SOLVER, PlanCosts, draw_cost, plan_costs
from grefine_rt.plan.crops import Frame, choose_crops
from grefine_rt.plan.options import Cropping, PlanOptions, StrengthRule, Work
from grefine_rt.plan.plan import Plan, enlarge, grid_step
from grefine_rt.plan.reasons import (
    LEFT_TO_STAGE2,
    RESTORE_FIRST,
    RESTORED_FIRST,
    edited_reasons,
    plan_reasons,
    strength_reason,
)
from grefine_rt.text.emphasis import emphasise

DAMAGED = 0.2
"""Above this share of a mask, damage that is left to stage 2 may be why a phrase was not found there."""


@dataclass(frozen=True, eq=False)
class RefinePlan(Plan):
    """A `Plan` that can be priced, changed and made again."""

    @property
    def costs(self) -> PlanCosts | None:
        """What the plan as it stands costs, with all of its drafts; None where the bundle's costs were not counted."""
        return plan_costs(self)

    @property
    def alternatives(self) -> dict[str, float]:
        """What the whole call would cost with one option changed, TFLOP by option and value, such as "crop off": those
        that would change it. Empty where the bundle's costs were not counted."""
        changed: dict[str, RefinePlan] = {}
        if self.regenerate:
            crop: Cropping = "off" if self.cropped else "auto"
            options = replace(self.options, crop=crop)
            changed |= {
                f"crop {crop}": replace(self, options=options)._with_crops(),
                "sketch_steps 0": replace(self, sketch_steps=0),
                "drafts 1": replace(self, drafts=1),
                "interval 0 1": replace(self, interval=ALL_CALLS),
            }
        if self.restore or self.restore_first:
            work: Work = "native" if self.work == "trained" else "trained"
            changed[f"work {work}"] = replace(self, work=work)
        own, costs = self.costs, {name: plan.costs for name, plan in changed.items()}
        return {name: cost.total for name, cost in costs.items() if cost is not None and cost != own}

    def with_mask(self, mask: MaskSource) -> RefinePlan:
        """The same plan for another mask, as `imaging.mask_source.as_mask` takes them: an empty one switches stage 1
        off, any other on, at once.

        Stage 2 then follows, where the options have it. Raises OptionError when the mask is not of the picture's size,
        or of a type that is no mask.
        """
        mask = as_mask(mask, self.mask.shape)
        plan = replace(
            self,
            mask=mask,
            regenerate=bool(mask.any()),
            restore=self.restore or self.restore_first,
            restore_first=False,
            boxes=tuple(masks.boxes(mask)),
            coverage=float(mask.mean()),
        )._with_crops()
        return replace(plan, reasons=edited_reasons(plan))

    def again(self, restored: Assessment) -> RefinePlan:
        """The plan of what is still to do for the picture that stage 2 `restored` first, made with the same options;
        what was changed by `dataclasses.replace` is lost. With nothing to redraw nothing is left to do."""
        return make_plan(restored, self.manifest, self.options, restored=True)

    def _with_crops(self) -> RefinePlan:
        """The same plan with the crops that its boxes and strength ask for."""
        if not self.regenerate:
            return replace(self, crops=())
        inpaint, _ = self.manifest.stages
        height, width = self.mask.shape
        # Beyond the soft rim a crop shows something, whatever the options say.
        feather = _choose(self.options.feather, self.manifest.plan.feather)
        context = max(self.options.context * inpaint.resolution, (feather + 1) * LATENT_SCALE)
        # Where the bundle does not say, half the resolution: models are trained on half their sides too.
        smallest = inpaint.smallest or inpaint.resolution // 2
        frame = Frame((width, height), inpaint.resolution, inpaint.multiple, smallest, context)
        if _choose(self.options.crop, "auto" if inpaint.smallest else "off") == "off":
            return replace(self, crops=(frame.whole(self.boxes),))
        cost = draw_cost(self.manifest, self.stage1_steps, self.strength, self.interval)
        return replace(self, crops=choose_crops(self.boxes, frame, cost))


def make_plan(
    assessment: Assessment, manifest: Manifest, options: PlanOptions, restored: bool = False
) -> RefinePlan:
    """The plan of Eq. 9 for an assessed picture: M = Bi(1 - P + A), strength and weighted prompt.

    restored: the picture comes from stage 2 already, see `RefinePlan.again`. Raises OptionError when the bundle's and
    the given strengths together make no range or a stage's solver cannot make so many steps, and BundleError for a
    bundle that only assesses.
    """
    defaults = manifest.plan
    inpaint, restoration = manifest.stages
    tau = defaults.tau if options.tau is None else options.tau
    shape = assessment.perceptual_map.shape
    with_quality, with_alignment = (name in options.indicators for name in ("perceptual", "alignment"))

    delta = _choose(options.delta, restoration.delta)
    stage2_steps = _choose(options.stage2_steps, restoration.steps)
    # A stage whose strength leaves no step would only pass the picture through the autoencoder.
    restore = 2 in options.stages and unet_calls(stage2_steps, delta) > 0

    redraw: Redraw = _choose(options.redraw, defaults.redraw) if restore else "poor"
    places: tuple[Region, ...] = ()
    poor, missing, left = (np.zeros(shape, np.float32) for _ in range(3))
    good = with_quality and assessment.perceptual > _choose(options.p_bound, defaults.p_bound)
    if with_quality and not good:
        poor, left = poor_places(assessment, manifest.perceptual.alpha, redraw)
    if with_alignment:
        places = regions(
            assessment.phrases, _choose(options.missing_region, defaults.missing_region), options.window
        )
        joining = _choose(options.joining, defaults.joining)
        missing = upsample(join(places, joining, manifest.alignment.grid), (shape[0], shape[1]))
    defect = poor + missing

    min_area = _choose(options.min_area, defaults.min_area)
    width, height = work_size(shape[1], shape[0], inpaint.resolution, inpaint.multiple)
    cell = LATENT_SCALE * math.sqrt(shape[0] * shape[1] / (width * height))
    if options.full_image:
        mask = np.ones(shape, dtype=np.bool_)
    else:
        grow = _choose(options.grow, defaults.grow) * cell
        mask = binary_mask(defect, tau, min_area, grow)
    damage = binary_mask(left, tau, min_area, 0) & (not options.full_image)

    scores = [assessment.perceptual] * with_quality + [assessment.alignment] * with_alignment
    quality = sum(scores) / len(scores)
    rule = _choose(options.strength_rule, defaults.strength_rule)
    absent = any(assessment.phrases[place.phrase].defect == "noun" for place in places)
    strength = stage1_strength(
        quality,
        rule,
        _choose(options.strength_min, defaults.strength_min),
        _choose(options.strength_max, defaults.strength_max),
        absent,
    )
    stage1_steps = _choose(options.stage1_steps, inpaint.steps)
    sketch_steps = _choose(options.sketch_steps, inpaint.sketch_steps)
    drafts = _choose(options.drafts, inpaint.drafts)
    if 1 in options.stages:
        check_steps(inpaint.schedule, inpaint.solver, stage1_steps)
        if drafts > 1 and sketch_steps:
            check_steps(inpaint.schedule, SKETCH_SOLVER, sketch_steps)
    if restore:
        check_steps(restoration.schedule, restoration.solver, stage2_steps)
    feather = _choose(options.feather, defaults.feather)
    wrong = [assessment.phrases[place.phrase] for place in places]
    start, end = _choose(options.interval, inpaint.interval)
    regenerate = 1 in options.stages and bool(mask.any()) and unet_calls(stage1_steps, strength) > 0
    broken = binary_mask(poor, tau, min_area, 0).any()
    doubtful = regenerate and not broken and damage[mask].mean() > DAMAGED
    plan = RefinePlan(
        mask=mask,
        feather=feather * cell,
        strength=strength,
        delta=delta,
        prompt=emphasise(assessment.prompt, [phrase.text for phrase in wrong], options.emphasis),
        regenerate=regenerate,
        restore=restore and (regenerate or not restored),
        restore_first=restored or (options.restore_first and bool(doubtful)),
        keep_good=options.keep_good
        and good
        and with_alignment
        and restore
        and not restored
        and 1 in options.stages,
        stage1_steps=stage1_steps,
        stage2_steps=stage2_steps,
        drafts=drafts,
        # A draft is soft until stage 2 has seen it: where shapes are to be mended, p would not tell whether they are.
        judged="rationality" if redraw == "misshapen" and broken else "perceptual",
        sketch_steps=sketch_steps,
        all_drafts=options.all_drafts,
        work=options.work,
        interval=(start, end),
        crops=(),
        boxes=tuple(masks.boxes(mask)),
        coverage=float(mask.mean()),
        defect_map=defect,
        reasons=(),
        manifest=manifest,
        options=options,
        texts=2 * len(assessment.phrases) + 2,
    )._with_crops()
    why = strength_reason(quality, rule == "deficit", absent)
    reasons = plan_reasons(plan, assessment, places, poor, missing, why, options.full_image)
    if damage.any():
        reasons = (LEFT_TO_STAGE2, *reasons)
    if plan.restore_first:
        reasons = (RESTORED_FIRST if restored else RESTORE_FIRST, *reasons)
    return replace(plan, reasons=reasons)


def poor_places(assessment: Assessment, alpha: Sequence[float], redraw: Redraw) -> tuple[FloatMap, FloatMap]:
    """1 - P (H, W) as far as it is marked for stage 1, and the rest, which is left to stage 2; `redraw` as in
    `PlanOptions`, `alpha` of Eq. 3."""
    poor: FloatMap = 1.0 - assessment.perceptual_map
    if redraw == "poor":
        return poor, np.zeros_like(poor)
    shapes = misshapen(assessment, alpha)
    return poor * shapes, poor * ~shapes


def misshapen(assessment: Assessment, alpha: Sequence[float]) -> Mask:
    """Where rationality is the weakest of the three factors that Eq. 3 multiplies, bool (H, W); `alpha` as there."""
    ratios = np.stack(
        [assessment.factor_maps[name] / bound for name, bound in zip(FACTORS[1:], alpha, strict=True)]
    )
    weakest: Mask = ratios.argmin(axis=0) == FACTORS[1:].index("rationality")
    return weakest


def binary_mask(defect: FloatMap, tau: float | Literal["otsu"], min_area: float, grow: float) -> Mask:
    """Bi(1 - P + A): threshold, then specks removed, then grown.

    `defect` is (H, W), 0 is good; `min_area` a share of the picture, `grow` in pixels. Returns bool (H, W).
    Where nothing lies above the threshold the mask is empty. A smaller tau never gives a smaller mask.
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


_T = TypeVar("_T")


def _choose(value: _T | None, default: _T) -> _T:
    return default if value is None else value
