"""A plan changed: another mask, other crops, and the costs of other options."""

from __future__ import annotations

from dataclasses import replace

from grefine_rt.contract import LATENT_SCALE
from grefine_rt.imaging import mask as masks
from grefine_rt.imaging.mask_source import MaskSource, as_mask
from grefine_rt.plan.costs import ALL_CALLS, draw_cost, plan_costs
from grefine_rt.plan.crops import Frame, choose_crops
from grefine_rt.plan.options import Cropping, Work
from grefine_rt.plan.plan import RefinePlan
from grefine_rt.plan.reasons import edited_reasons


def with_mask(plan: RefinePlan, mask: MaskSource) -> RefinePlan:
    """The same plan for another mask, as `imaging.mask_source.as_mask` takes them: an empty one switches stage 1 off,
    any other on, at once.

    Stage 2 then follows, if the options have it. Raises OptionError for a mask of another size than the picture's,
    and for a type that is no mask.
    """
    mask = as_mask(mask, plan.mask.shape)
    changed = with_crops(
        replace(
            plan,
            mask=mask,
            regenerate=bool(mask.any()),
            restore=plan.restorations > 0,
            restore_first=False,
            restored=False,
            by_hand=True,
            boxes=tuple(masks.boxes(mask)),
            coverage=float(mask.mean()),
        )
    )
    return replace(changed, reasons=edited_reasons(changed))


def with_crops(plan: RefinePlan) -> RefinePlan:
    """The same plan with the crops that its boxes, strength and settings ask for; none if stage 1 is skipped."""
    if not plan.regenerate:
        return replace(plan, crops=())
    settings, (inpaint, _) = plan.settings, plan.manifest.stages
    height, width = plan.mask.shape
    # Beyond the soft rim a crop shows something, whatever the options say.
    context = max(settings.context * inpaint.resolution, (settings.feather + 1) * LATENT_SCALE)
    # Where the bundle does not say, half the resolution: models are trained on half their sides too.
    smallest = inpaint.smallest or inpaint.resolution // 2
    frame = Frame((width, height), inpaint.resolution, inpaint.multiple, smallest, context)
    if settings.crop == "off":
        return replace(plan, crops=(frame.whole_crop(plan.boxes),))
    cost = draw_cost(plan.manifest, plan.stage1_steps, plan.strength, plan.interval)
    return replace(plan, crops=choose_crops(plan.boxes, frame, cost))


def alternatives(plan: RefinePlan) -> dict[str, float]:
    """The costs of the whole call with one option changed, TFLOP by option and value, such as "crop off".

    Options that would change nothing are left out. Empty where the bundle's costs were not counted.
    """
    changed: dict[str, RefinePlan] = {}
    if plan.regenerate:
        crop: Cropping = "off" if plan.cropped else "auto"
        changed |= {
            f"crop {crop}": with_crops(replace(plan, settings=replace(plan.settings, crop=crop))),
            "sketch_steps 0": replace(plan, sketch_steps=0),
            "drafts 1": replace(plan, drafts=1),
            "interval 0 1": replace(plan, interval=ALL_CALLS),
        }
    if plan.restorations:
        work: Work = "native" if plan.work == "trained" else "trained"
        changed[f"work {work}"] = replace(plan, work=work)
    own, costs = plan_costs(plan), {name: plan_costs(other) for name, other in changed.items()}
    return {name: cost.total for name, cost in costs.items() if cost is not None and cost != own}
