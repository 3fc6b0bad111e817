"""Whether a plan can be run: on this picture, and in this machine's memory."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np

from grefine_rt.arrays import Size
from grefine_rt.bundle.manifest import SECTION_COMPONENTS, Manifest
from grefine_rt.errors import OptionError, shown
from grefine_rt.imaging.mask import boxes
from grefine_rt.imaging.tiles import piece
from grefine_rt.models.bundle import Bundle
from grefine_rt.plan.costs import restore_work
from grefine_rt.plan.graph_costs import check_memory
from grefine_rt.plan.options import PlanOptions
from grefine_rt.plan.plan import Judged, RefinePlan
from grefine_rt.system_memory import usable_memory

_AS_OPTIONS = ("stage1_steps", "stage2_steps", "drafts", "sketch_steps", "all_drafts", "work", "interval")
"""Fields of a plan whose values are those of the option of the same name."""


def check_plan(plan: RefinePlan, prompt: str, picture: Size, manifest: Manifest) -> None:
    """Raises OptionError for a plan that was made for another bundle, prompt or size of the picture (width, height), or
    that contradicts itself or has a value that no plan may have: plans are changed by hand."""
    _check_values(plan)
    if plan.manifest.name != manifest.name:
        raise OptionError(
            f"The plan was made with bundle '{plan.manifest.name}', but this is '{manifest.name}': make a plan with it."
        )
    if plan.asked.strip() != prompt.strip():
        raise OptionError(
            f"The plan is for the prompt {plan.asked!r}, but this is {prompt!r}: make a plan for it, or change how the "
            f"picture is drawn with 'dataclasses.replace(plan, prompt=...)'."
        )
    height, width = plan.mask.shape
    if (width, height) != picture:
        raise OptionError(
            f"The plan is for a picture of {width} x {height} pixels, but this one has "
            f"{picture[0]} x {picture[1]}: make a plan for it."
        )
    if plan.boxes != tuple(boxes(plan.mask)):
        raise OptionError(
            "The plan's boxes are not those of its mask: change the mask with 'with_mask', which makes both anew."
        )
    if not plan.regenerate:
        return
    if not plan.mask.any():
        raise OptionError(
            "The plan's mask is empty, but 'regenerate' is on: change the mask with 'with_mask'."
        )
    worked_on = np.zeros_like(plan.mask)
    for crop in plan.crops:
        for x0, y0, x1, y1 in crop.regions:
            left, top, right, bottom = crop.box
            worked_on[max(y0, top) : min(y1, bottom), max(x0, left) : min(x1, right)] = True
    if (plan.mask & ~worked_on).any():
        raise OptionError(
            "The plan's crops leave a part of its mask out: change the mask with 'with_mask', which makes new crops."
        )


def _check_values(plan: RefinePlan) -> None:
    """Raises OptionError. Strengths are checked where the solvers make steps of them."""
    if getattr(plan.mask, "dtype", None) != np.bool_ or plan.mask.ndim != 2:
        raise OptionError(
            "The plan's mask must be an array of bool, (height, width): change the mask with 'with_mask'."
        )
    values = {name: getattr(plan, name) for name in _AS_OPTIONS}
    PlanOptions(**values)
    wrong = [name for name, value in values.items() if value is None]  # of an option it is the bundle's own
    wrong += ["prompt"] * (not isinstance(plan.prompt, str))
    wrong += ["feather"] * (not isinstance(plan.feather, float | int) or not 0 <= plan.feather < math.inf)
    wrong += ["judged"] * (plan.judged not in get_args(Judged))
    if wrong:
        raise OptionError(
            f"The plan's '{wrong[0]}' cannot be {shown(getattr(plan, wrong[0]))}: make the plan anew."
        )


def check_plan_memory(plan: RefinePlan, bundle: Bundle) -> None:
    """Raises MemoryLimitError, before anything is loaded, for a plan beyond this machine's memory.

    The memory of a GPU is the business of its backend.
    """
    manifest = bundle.manifest
    skipped = {
        *(() if plan.regenerate or plan.restore_first else SECTION_COMPONENTS["inpaint"]),
        *(() if plan.restorations else SECTION_COMPONENTS["restore"]),
    }
    needed = manifest.components.keys() - skipped
    choices = {choice.component: choice.device for choice in (*bundle.foresee(needed), *bundle.choices)}
    here = {component for component in needed if choices[component] == "cpu"}
    rows, columns = plan.mask.shape
    (width, height), tile = restore_work(manifest.stage2, columns, rows, plan.work)
    height, width = piece(height, width, tile)
    sizes = [crop.size for crop in plan.crops] if plan.regenerate else []
    stage1 = max(sizes, key=math.prod, default=(width, height))
    check_memory(manifest, stage1, usable_memory(), "cpu", (width, height), here)
