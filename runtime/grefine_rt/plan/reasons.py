"""The reasons of a plan: a plain sentence for each region, defective phrase and decision."""

from __future__ import annotations

from collections.abc import Sequence

from grefine_rt.arrays import FloatMap
from grefine_rt.assess.alignment import PhraseScore, Region
from grefine_rt.assess.indicator import Assessment
from grefine_rt.assess.perceptual import FACTORS
from grefine_rt.plan.costs import ALL_CALLS, PlanCosts, plan_costs
from grefine_rt.plan.plan import RefinePlan

_FACTORS = {
    "technical": "blur, noise or other damage",
    "rationality": "shapes that make no sense",
    "naturalness": "unnatural colours",
}
LEFT_TO_STAGE2 = "What is poor in technique or colour, not in shape, is left to stage 2."
CONTENT = "The picture looks good and shows what its prompt asks for, so it stays as it is."
KEPT = "What is changed is kept only where it turns out better and nothing sound is lost."
RESTORE_FIRST = (
    "Damage could be why a phrase was not found: stage 2 runs first, then it is decided what to redraw."
)
RESTORED_FIRST = "Damage could be why a phrase was not found, so stage 2 restored the picture first."


def plan_reasons(
    plan: RefinePlan,
    assessment: Assessment,
    places: Sequence[Region],
    poor: FloatMap,
    missing: FloatMap,
    strength_why: str,
    full_image: bool,
) -> tuple[str, ...]:
    """All sentences on a plan for an assessed picture.

    places: the regions of its defective phrases. poor, missing: 1 - P and A of Eq. 9 as they counted, (H, W).
    strength_why: why stage 1 is as strong as it is. full_image: the mask was not made from them.
    """
    reasons = _phrase_reasons(assessment.phrases, places, plan.manifest.alignment.a_bound)
    if plan.regenerate:
        if full_image:
            reasons.append("The whole picture is redrawn, because the option 'full_image' is set.")
        else:
            reasons += _mask_reasons(plan, assessment, poor, missing)
    return (*reasons, *_stage_reasons(plan, f", {strength_why}"))


def edited_reasons(plan: RefinePlan) -> tuple[str, ...]:
    """All sentences on a plan whose mask was drawn by hand."""
    what = (
        f"what is redrawn is {100 * plan.coverage:.0f} % of the picture" if plan.regenerate else "it is empty"
    )
    return (f"The mask was changed by hand: {what}.", *_stage_reasons(plan, ""))


def _stage_reasons(plan: RefinePlan, strength_why: str) -> list[str]:
    """Sentences on both stages."""
    reasons = ["Stage 1 is skipped."]
    if plan.regenerate:
        reasons = [f"Stage 1 has strength {plan.strength:.2f}{strength_why}.", *_saving_reasons(plan)]
    if plan.restore:
        tries = "tries to restore" if plan.judges or plan.keep_good else "restores"
        reasons.append(f"Stage 2 {tries} the whole picture mildly (strength {plan.delta:.2f}).")
        if plan.keep_good and not plan.judges:
            reasons.append(
                "The picture looks good: if stage 1 draws nothing and stage 2 makes it look worse, it stays as it is."
            )
    elif not plan.restorations:
        reasons.append("Stage 2 is skipped.")
    if plan.judges and (plan.restorations or (plan.regenerate and not plan.by_hand)):
        reasons.append(KEPT)
    return reasons


def strength_reason(quality: float, deficit: bool, absent: bool) -> str:
    """The reason of stage 1's strength: Eq. 9 for a quality, turned round (`deficit`) or as printed."""
    if absent and deficit:
        return "the strongest there is, because something has to be drawn that is not there at all"
    worse = "worse" if deficit else "better"
    return f"because its scores average {quality:.2f} of 1 (the {worse} the picture, the stronger)"


def cost_reasons(plan: RefinePlan) -> list[str]:
    """A sentence on the plan's costs; none for a bundle without counted costs."""
    costs = plan_costs(plan)
    if costs is None:
        return []
    about = "at most" if plan.regenerate and plan.drafts > 1 and not plan.all_drafts else "about"
    return [f"All this takes {about} {cost_words(costs)}."]


def cost_words(costs: PlanCosts) -> str:
    """The costs in words, by stage and beside the full computation."""
    parts = {"stage 1": costs.stage1, "stage 2": costs.stage2, "assessing": costs.assess}
    listed = ", ".join(f"{name} {tflop:.3g}" for name, tflop in parts.items())
    share = 100 * costs.total / costs.full
    return f"{costs.total:.3g} TFLOP ({listed}), {share:.0f} % of the full computation"


def _phrase_reasons(phrases: Sequence[PhraseScore], places: Sequence[Region], a_bound: float) -> list[str]:
    reasons = []
    for place in places:
        phrase = phrases[place.phrase]
        if phrase.defect == "noun":
            why = f"'{phrase.text}' was not found (it scores {phrase.noun_score:.2f} of 1, {a_bound:.2f} would do)"
        else:
            why = (
                f"'{phrase.noun}' was found, but not as '{phrase.text}' "
                f"(the whole phrase scores {phrase.phrase_score:.2f} of 1, the thing {phrase.noun_score:.2f})"
            )
        reasons.append(f"{why}: it is to be drawn {place.place}.")
    return reasons


def crowded_reasons(phrases: Sequence[PhraseScore], crowded: Sequence[int]) -> list[str]:
    """A sentence for each missing thing that is not drawn, because sound things take all the room."""
    return [
        f"'{phrases[index].text}' was not found, but sound things take all the room: it is not drawn."
        for index in crowded
    ]


def _mask_reasons(plan: RefinePlan, assessment: Assessment, poor: FloatMap, missing: FloatMap) -> list[str]:
    reasons = []
    for x0, y0, x1, y1 in plan.boxes:
        inside = (slice(y0, y1), slice(x0, x1))
        share = 100 * plan.mask[inside].sum() / plan.mask.size
        region = (
            f"The region from ({x0}, {y0}) to ({x1}, {y1}), {share:.0f} % of the picture, is to be redrawn"
        )
        if poor[inside].max() < missing[inside].max():
            reasons.append(f"{region} to show what the prompt asks for.")
            continue
        lows = {name: float(assessment.factor_maps[name][inside].min()) for name in FACTORS[1:]}
        weakest = min(lows, key=lows.__getitem__)
        lowest = 1 - poor[inside].max()
        reasons.append(
            f"{region}: it looks poor there ({lowest:.2f} of 1 at worst), most of all for {_FACTORS[weakest]}."
        )
    return reasons


def _saving_reasons(plan: RefinePlan) -> list[str]:
    reasons = []
    if plan.sketches:
        reasons.append(
            f"It sketches up to {plan.drafts} drafts with {plan.sketch_steps} steps each, and draws the best again "
            f"with all {plan.stage1_steps}; after a flawless one it draws no more."
        )
    if plan.cropped:
        sizes = " and ".join(f"{crop.size[0]} x {crop.size[1]}" for crop in plan.crops)
        many = "a crop" if len(plan.crops) == 1 else f"{len(plan.crops)} crops"
        reasons.append(
            f"It works on {many} of {sizes} pixels around the mask, which costs less than the whole."
        )
    if plan.interval != ALL_CALLS:
        start, end = plan.interval
        reasons.append(f"It is guided from {start:.0%} to {end:.0%} of its calls; the others cost half.")
    return reasons
