"""The refiner: assess, plan, regenerate, restore (G-Refine, Eq. 10)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from grefine_rt import stages
from grefine_rt.arrays import Rgb
from grefine_rt.assess.indicator import (
    MAX_PHRASES,
    Assessment,
    AssessOptions,
    Encoders,
    assess_batch,
    check_prompt,
)
from grefine_rt.assessor import Assessor
from grefine_rt.bundle.manifest import SECTION_COMPONENTS, ColorFix, Decoding
from grefine_rt.cancel import Cancels
from grefine_rt.engine.devices import Choice
from grefine_rt.errors import OptionError
from grefine_rt.imaging.image import Source, load
from grefine_rt.models.bundle import Bundle
from grefine_rt.plan.checks import check_plan, check_plan_memory
from grefine_rt.plan.costs import PlanCosts, plan_costs
from grefine_rt.plan.make import make_plan, replan, shown
from grefine_rt.plan.options import PlanOptions
from grefine_rt.plan.plan import RefinePlan
from grefine_rt.progress import OnProgress, Run

__all__ = ["RefineOptions", "RefineResult", "Refiner"]

_ASSESS = AssessOptions()
_PLAN = PlanOptions()


@dataclass(frozen=True)
class RefineOptions:
    """All switches of a refine call.

    assess, plan: see `AssessOptions` and `PlanOptions`; `plan` is ignored when a plan is given.
    decoding: how stage 2 returns to pixels, "plain", "difference" or "quality" (see `restore`); None means
        the bundle's own.
    color_fix: where stage 2 takes its colours from the picture, "quality", "whole" or "off"; None likewise.
    match_rim: whether the tint of what stage 1 drew is matched to its surroundings (see `imaging.color`).
    """

    assess: AssessOptions = _ASSESS
    plan: PlanOptions = _PLAN
    decoding: Decoding | None = None
    match_rim: bool = True
    color_fix: ColorFix | None = None


_REFINE = RefineOptions()

_TEXTS = 2 * MAX_PHRASES + 2
"""All texts of one prompt: within a refine call they are encoded once."""


@dataclass(frozen=True, eq=False)
class RefineResult:
    """What a refine call made.

    image: PIL image of the size of the input, with its alpha and colour profile.
    found: the picture as stage 1 found it: the input, or what stage 2 made of it where that ran first.
    stage1: the picture between the stages; equal to `found` where stage 1 was skipped or none of its drafts
        was better.
    before, after: the assessments of the input and of the result.
    plan: what was done, and why; where stage 2 ran first, the plan that was made then (`plan.make.replan`).
    timings: milliseconds for `load`, `assess_before`, `plan`, `restore_first` (where it ran), `regenerate`,
        `restore`, `assess_after`, `total`.
    seed: as given; the same seed gives the same bits on one backend.
    notes: plain sentences on what was changed or left out on the way.
    costs: what it took, with the drafts that were made; None for a bundle whose costs were not counted.
    backends: what ran each component, and why.
    """

    image: Image.Image
    found: Image.Image
    stage1: Image.Image
    before: Assessment
    after: Assessment
    plan: RefinePlan
    timings: dict[str, float]
    seed: int
    notes: tuple[str, ...]
    costs: PlanCosts | None
    backends: tuple[Choice, ...]


class Refiner(Assessor):
    """A loaded bundle, ready to assess and refine pictures. Any number of threads may use one Refiner.

    Pictures are given as a PIL image, an array, a path or the bytes of a file (see `imaging.image.load`).
    """

    sections = tuple(SECTION_COMPONENTS)
    remembered = 0  # a seed gives the same bits whatever was assessed before

    def __init__(self, bundle: Bundle) -> None:
        """Raises BundleError for a bundle that only assesses; `Assessor` takes it."""
        bundle.manifest.check_refines()
        super().__init__(bundle)

    def plan(
        self, image: Source | Assessment, prompt: str | None = None, options: PlanOptions = _PLAN
    ) -> RefinePlan:
        """What refining would do to a picture, or to one that was assessed; then `prompt` is not needed.

        The plan can be looked at, changed with `with_mask` or `dataclasses.replace`, and given to `refine`. Raises
        OptionError, ImageError and PromptError.
        """
        if not isinstance(image, Assessment):
            if prompt is None:
                raise OptionError("A plan for a picture needs its prompt: give 'prompt', or an assessment.")
            image = self.assess(image, prompt)
        return make_plan(image, self.bundle.manifest, options)

    def refine(
        self,
        image: Source,
        prompt: str,
        seed: int = 0,
        options: RefineOptions = _REFINE,
        plan: RefinePlan | None = None,
        on_progress: OnProgress | None = None,
        cancel: Cancels | None = None,
    ) -> RefineResult:
        """Eq. 10: R = stage 2 (stage 1 (I)), where and as strongly as the plan says.

        `seed` is any integer. `plan` is a plan made before, perhaps changed; None makes one. `on_progress` is
        called from this thread; `cancel` stops the work between two steps. Raises ImageError, PromptError,
        OptionError (also for a plan of another picture size), MemoryLimitError when it cannot fit into this machine,
        Cancelled, BundleError and DeviceError.
        """
        check_prompt(prompt)
        run, bundle = Run(on_progress, cancel), self.bundle
        assess = self._eyes(prompt, options)
        means = stages.Means(
            bundle=bundle,
            seed=seed,
            decoding=options.decoding,
            color_fix=options.color_fix,
            match_rim=options.match_rim,
            # By scores alone: maps as large as the picture would take longer than drawing it.
            judge=lambda draft: assess(draft, (1, 1)),
            cancel=cancel,
        )
        with run.part("load"):
            picture = load(image)
        found, anew = picture.rgb, np.zeros(picture.rgb.shape[:2], np.float32)
        with run.part("assess_before"):
            before = assess(found)
        with run.part("plan"):
            plan = make_plan(before, bundle.manifest, options.plan) if plan is None else plan
            check_plan(plan, picture.size)
            check_plan_memory(plan, bundle)
            seen = before = shown(before, plan)
        if plan.restore_first or plan.restored:
            with run.part("restore_first") as on_step:
                found, _ = stages.restore_picture(found, plan, seen, anew, means, on_step)
                seen = shown(assess(found), plan)
                plan = replan(plan, seen) if plan.restore_first else plan
                check_plan_memory(plan, bundle)
        with run.part("regenerate") as on_step:
            stage1, drawing = stages.unchanged(found)
            if plan.regenerate:
                stage1, drawing = stages.regenerate_regions(found, plan, seen, means, on_step)
        with run.part("restore") as on_step:
            stage2, restoring = stages.unchanged(stage1)
            if plan.restore:
                stage2, restoring = stages.restore_picture(stage1, plan, seen, drawing.anew, means, on_step)
        with run.part("assess_after"):
            changed = drawing.changed or restoring.changed
            after = shown(assess(stage2), plan) if changed else seen
            lowered = _lowered(before, after) if plan.keep_good and not drawing.changed else ""
            if lowered:
                stage2, after = stage1, before
        return RefineResult(
            image=picture.to_pil(stage2),
            found=picture.to_pil(found),
            stage1=picture.to_pil(stage1),
            before=before,
            after=after,
            plan=plan,
            timings=run.timings(),
            seed=seed,
            notes=(*picture.notes, *before.notes, *drawing.notes, *filter(None, [lowered])),
            costs=plan_costs(plan, drawing.drawn, options.decoding),
            backends=bundle.choices,
        )

    def _eyes(self, prompt: str, options: RefineOptions) -> Callable[..., Assessment]:
        """What assesses the pictures of one call, whose texts are encoded once: (rgb, size of its maps or None)."""
        encoders = Encoders(self.bundle, _TEXTS)

        def assess(rgb: Rgb, map_size: tuple[int, int] | None = None) -> Assessment:
            (assessment,) = assess_batch(self.bundle, [rgb], [prompt], options.assess, encoders, map_size)
            return assessment

        return assess


def _lowered(before: Assessment, after: Assessment) -> str:
    """A sentence where stage 2 lowered p; else nothing."""
    if after.perceptual >= before.perceptual:
        return ""
    return (
        f"Stage 2 would have lowered p from {before.perceptual:.3f} to {after.perceptual:.3f}, so the "
        f"picture is given back as it was."
    )
