"""Scores, phrases, masks and plans as JSON, for the command line and the service."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from grefine_rt.arrays import Array, Mask
from grefine_rt.assess.indicator import Assessment
from grefine_rt.assess.perceptual import FACTORS
from grefine_rt.diffusion.solver import unet_calls
from grefine_rt.plan.change import alternatives

if TYPE_CHECKING:
    from grefine_rt.assessor import Assessor
    from grefine_rt.plan.costs import PlanCosts
    from grefine_rt.plan.plan import RefinePlan


def map_names(refined: bool) -> tuple[str, ...]:
    """The names that `all_maps` may give, before the maps are there. refined: with an assessment after refining."""
    names = ("perceptual", "alignment", *FACTORS[1:], "mask")
    return (*names, "perceptual-after", "alignment-after") if refined else names


def all_maps(before: Assessment, mask: Mask | None, after: Assessment | None = None) -> dict[str, Array]:
    """Names and values of the maps that --maps writes; `perceptual` and the factors 1 = good, `alignment`
    1 = to be redrawn, as in `Assessment`."""
    maps: dict[str, Array] = {"perceptual": before.perceptual_map, "alignment": before.alignment_map}
    maps.update((name, values) for name, values in before.factor_maps.items() if name != "overall")
    if mask is not None:
        maps["mask"] = mask
    if after is not None:
        maps["perceptual-after"], maps["alignment-after"] = after.perceptual_map, after.alignment_map
    return maps


def scores_json(assessment: Assessment) -> dict[str, Any]:
    """`before` and `after` of the JSON output: both indicators, each metric of the bundle by name, `ip_iqa` null where
    it has none, and under `scores` every score with its scale."""
    found: dict[str, Any] = {
        "perceptual": float(assessment.perceptual),
        "alignment": float(assessment.alignment),
        "ip_iqa": None,
    }
    for score in assessment.metrics.values():
        if score.part:
            found[score.metric] = {**(found.get(score.metric) or {}), score.part: score.value}
        else:
            found[score.metric] = score.value
    found["scores"] = {
        name: {
            "value": float(score.value),
            "scale": [score.scale.low, score.scale.high],
            "higher_is_better": score.scale.higher_is_better,
            "measures": score.scale.measures,
        }
        for name, score in assessment.scores.items()
    }
    return found


def phrases_json(assessment: Assessment) -> list[dict[str, Any]]:
    """`phrases` of the JSON output; `known` only where the bundle has a domain."""
    return [
        {
            "text": phrase.text,
            "noun": phrase.noun,
            "ancestor": phrase.ancestor,
            "noun_score": float(phrase.noun_score),
            "phrase_score": float(phrase.phrase_score),
            "defect": phrase.defect,
            **({} if assessment.domain is None else {"known": phrase.known}),
        }
        for phrase in assessment.phrases
    ]


def domain_json(assessment: Assessment) -> dict[str, Any]:
    """`domain` of the JSON output, by that name; nothing for a bundle that is open to everything."""
    found = assessment.domain
    if found is None:
        return {}
    domain = {
        "inside": found.inside,
        "distance": found.distance,
        "threshold": found.threshold,
        "unknown_words": list(found.words),
        "unknown_phrases": list(found.phrases),
        "sentence": " ".join(filter(None, [found.picture_sentence, found.words_sentence])),
    }
    return {"domain": domain}


def domain_fact(assessment: Assessment) -> dict[str, object]:
    """The report's fact on the domain; nothing for a bundle that is open to everything."""
    return {} if assessment.domain is None else {"domain": assessment.domain.picture_sentence}


def mask_json(plan: RefinePlan) -> dict[str, Any]:
    """`mask` of the JSON output."""
    return {"coverage": float(plan.coverage), "boxes": [[int(side) for side in box] for box in plan.boxes]}


def device_of(assessor: Assessor) -> str:
    """The device of the models, "cpu" or "cuda:N", also where "auto" was asked for."""
    return assessor.bundle.engine("perceptual").device


def backends_json(assessor: Assessor) -> list[dict[str, str]]:
    """`backends` of the JSON output: the backend of each component that was loaded, and the reason."""
    return [dataclasses.asdict(choice) for choice in assessor.bundle.choices]


def steps(plan: RefinePlan) -> tuple[int, int]:
    """Steps that stage 1 and stage 2 really ran, each time; 0 for a stage that was skipped."""
    return (
        unet_calls(plan.stage1_steps, plan.strength) if plan.regenerate else 0,
        unet_calls(plan.stage2_steps, plan.delta) if plan.restorations else 0,
    )


def steps_json(plan: RefinePlan, costs: PlanCosts | None) -> dict[str, Any]:
    """`plan` of the JSON output; `crops` if stage 1 works on parts of the picture; `tflop`, and its values
    for other options, if the bundle tells its graphs' costs."""
    stage1_steps, stage2_steps = steps(plan)
    crops = [{"box": crop.box, "size": crop.size} for crop in plan.crops] if plan.cropped else None
    return {
        "stage1_steps": stage1_steps,
        "stage2_steps": stage2_steps,
        "strength": float(plan.strength),
        "restore_first": plan.restore_first or plan.restored,
        "keep_good": plan.keep_good,
        "prompt": plan.prompt,
        **({} if crops is None else {"crops": crops}),
        **(
            {}
            if costs is None
            else {
                "tflop": {
                    **dataclasses.asdict(costs),
                    "total": costs.total,
                    "alternatives": alternatives(plan),
                }
            }
        ),
    }
