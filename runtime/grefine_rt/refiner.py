"""The refiner: assess, plan, regenerate, restore (G-Refine, Eq. 10)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from grefine_rt import __version__, stages
from grefine_rt.accept import enlarged, is_lower
from grefine_rt.arrays import Rgb
from grefine_rt.assess import domain
from grefine_rt.assess.indicator import (
    MAX_PHRASES,
    Assessment,
    Encoders,
    assess_batch,
    check_prompt,
)
from grefine_rt.assess.options import AssessOptions
from grefine_rt.assessor import Assessor
from grefine_rt.bundle.manifest import SECTION_COMPONENTS, Manifest
from grefine_rt.cancel import Cancels
from grefine_rt.diffusion.encoded import EncodedPicture
from grefine_rt.engine.devices import Choice
from grefine_rt.errors import OptionError
from grefine_rt.imaging.encode import PLAIN, Encoding, save
from grefine_rt.imaging.image import Picture, Source, load
from grefine_rt.imaging.mask_source import MaskSource
from grefine_rt.imaging.metadata import NONE, Metadata
from grefine_rt.models.bundle import Bundle
from grefine_rt.plan.checks import check_plan, check_plan_memory
from grefine_rt.plan.costs import PlanCosts, plan_costs
from grefine_rt.plan.limits import Limits, limits_of
from grefine_rt.plan.make import make_plan, replan, shown
from grefine_rt.plan.options import PlanOptions, RefineOptions
from grefine_rt.plan.plan import RefinePlan
from grefine_rt.plan.summary import summary
from grefine_rt.progress import OnProgress, Run

__all__ = ["RefineOptions", "RefineResult", "Refiner"]

_PLAN = PlanOptions()
_REFINE = RefineOptions()

_TEXTS = 2 * MAX_PHRASES + 2
"""All texts of one prompt: within a refine call they are encoded once."""


@dataclass(frozen=True, eq=False)
class RefineResult:
    """The result of a refine call.

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
    metadata: what the source's file said beside its pixels; `save` gives it back.
    summary: what was wrong, what was changed and what is left, on one line in plain words.
    run: a hash of all that makes the result what it is, see `run_id`.
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
    metadata: Metadata = NONE
    run: str = ""
    summary: str = ""

    def entry(self) -> dict[str, Any]:
        """The call as JSON: the one entry that a result's file has beside what its source said."""
        plan = self.plan
        scores = {
            when: {
                "perceptual": round(float(scores.perceptual), 4),
                "alignment": round(float(scores.alignment), 4),
            }
            for when, scores in (("before", self.before), ("after", self.after))
        }
        return {
            "software": f"grefine-rt {__version__}",
            "bundle": f"{plan.manifest.name} {plan.manifest.version}",
            "prompt": self.before.prompt,
            **({"negative": plan.settings.negative} if plan.settings.negative else {}),
            "seed": self.seed,
            "regenerated": round(float(plan.coverage), 4) if plan.regenerate else 0.0,
            "restored": plan.restorations > 0,
            **scores,
            "run": self.run,
        }

    def save(
        self,
        path: str | os.PathLike[str],
        encoding: Encoding = PLAIN,
        *,
        overwrite: bool = False,
        not_over: Iterable[str | os.PathLike[str]] = (),
    ) -> tuple[str, ...]:
        """Write the result with what its source said beside the pixels and `entry`; notes on what could not be kept.

        The format is the encoding's, or the suffix's. Raises OutputError where it cannot be written, where `path` is
        one of `not_over`, and where it exists unless `overwrite` is on.
        """
        _, notes = save(
            self.image,
            path,
            encoding=encoding,
            source=self.metadata,
            entry=self.entry(),
            overwrite=overwrite,
            not_over=not_over,
        )
        return notes


def run_id(
    picture: Picture, prompt: str, seed: int, options: RefineOptions, manifest: Manifest, limits: Limits
) -> str:
    """A short hash of all that a result depends on: equal runs on one backend give equal pictures."""
    said = hashlib.sha256(
        repr((prompt, seed, options, manifest.name, manifest.checksum, __version__)).encode()
    )
    for array in (picture.rgb, picture.alpha, limits.mask, limits.protect):
        said.update(
            b"-" if array is None else repr(array.shape).encode() + np.ascontiguousarray(array).tobytes()
        )
    return said.hexdigest()[:32]


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
        """The plan for a picture, or for one that was assessed; then `prompt` is not needed.

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
        mask: MaskSource | None = None,
        protect: MaskSource | None = None,
    ) -> RefineResult:
        """Eq. 10: R = stage 2 (stage 1 (I)), where and as strongly as the plan says.

        `seed` is any integer. `plan` is a plan made before, perhaps changed; None makes one. `on_progress` is called
        from this thread; `cancel` stops the work between two steps. `mask` is redrawn, whatever was found, and nothing
        outside it changes; `protect` never changes; both as `as_mask` takes them (see `Limits`). Raises ImageError,
        PromptError, OptionError (also for a plan or mask of another picture size), MemoryLimitError when it cannot
        fit into this machine, DomainError for a picture outside the domain, Cancelled, BundleError and DeviceError.
        """
        run = Run(on_progress, cancel)
        with run.part("load"):
            call = _Call.begin(self.bundle, image, prompt, seed, options, mask, protect, cancel)
        with run.part("assess_before"):
            before = call.assess(call.picture.rgb)
            marks = domain.check_domain(before.domain, options.outside)
        with run.part("plan"):
            plan = self.plan(before, options=options.plan) if plan is None else plan
            check_plan(plan, prompt, call.picture.size, self.bundle.manifest)
            plan = call.limits.plan(plan)
            check_plan_memory(plan, self.bundle)
            seen = before = shown(before, plan)
        found, restored = stages.unchanged(call.picture.rgb, before)
        if plan.restore_first or plan.restored:
            with run.part("restore_first") as on_step:
                found, restored = stages.restore_picture(found, plan, seen, restored, call.means, on_step)
                seen = shown(call.assess(found), plan) if restored.changed else before
                plan = call.limits.plan(replan(plan, seen)) if plan.restore_first else plan
                check_plan_memory(plan, self.bundle)
        stage1, drawing = stages.unchanged(found, seen)
        with run.part("regenerate") as on_step:
            if plan.regenerate:
                stage1, drawing = stages.regenerate_regions(found, plan, seen, call.means, on_step)
        stage2, restoring = stages.unchanged(stage1, drawing.seen)
        with run.part("restore") as on_step:
            if plan.restore:
                stage2, restoring = stages.restore_picture(stage1, plan, seen, drawing, call.means, on_step)
        with run.part("assess_after"):
            after = shown(call.assess(stage2), plan) if drawing.changed or restoring.changed else seen
            steps = [_Step(call.picture.rgb, before), _Step(found, seen, False, restored.changed)]
            if drawing.changed and drawing.exact:
                steps.append(_Step(stage1, drawing.seen, True, restored.changed))
            steps.append(_Step(stage2, after, drawing.changed, restored.changed or restoring.changed))
            last, lowered = _last_word(plan, steps)
        happened = _standing(restored, drawing, restoring, last, last is steps[-1])
        return call.result(plan, before, last, (found, stage1), happened, (marks, lowered), run.timings())


class _Eyes:
    """The assessments of one call, whose texts are encoded once. looks: how many were made."""

    def __init__(self, bundle: Bundle, prompt: str, options: AssessOptions, cancel: Cancels | None) -> None:
        self._bundle, self._prompt, self._options, self._cancel = bundle, prompt, options, cancel
        self._encoders = Encoders(bundle, _TEXTS)
        self.looks = 0

    def __call__(self, rgb: Rgb, map_size: tuple[int, int] | None = None) -> Assessment:
        """`rgb` uint8 (H, W, 3); map_size (h, w) of the maps, the picture's when None."""
        self.looks += 1
        (assessment,) = assess_batch(
            self._bundle, [rgb], [self._prompt], self._options, self._encoders, map_size, self._cancel
        )
        return assessment


@dataclass(frozen=True, eq=False)
class _Call:
    """One refine call: what was asked for, and what its stages work with."""

    picture: Picture
    prompt: str
    options: RefineOptions
    limits: Limits
    assess: _Eyes
    means: stages.Means

    @classmethod
    def begin(
        cls,
        bundle: Bundle,
        image: Source,
        prompt: str,
        seed: int,
        options: RefineOptions,
        mask: MaskSource | None,
        protect: MaskSource | None,
        cancel: Cancels | None,
    ) -> _Call:
        """The picture read, masks too. Raises PromptError, ImageError, OptionError and BundleError."""
        check_prompt(prompt)
        assess = _Eyes(bundle, prompt, options.assess, cancel)
        picture = load(image)
        limits = limits_of(mask, protect, picture.rgb.shape)
        open_to = limits.weight(picture.rgb.shape)
        own = options.decoding, options.color_fix, options.match_rim
        return cls(
            picture,
            prompt,
            options,
            limits,
            assess,
            stages.Means(bundle, seed, *own, open_to, assess, cancel, EncodedPicture(bundle, cancel)),
        )

    def result(
        self,
        plan: RefinePlan,
        before: Assessment,
        last: _Step,
        between: tuple[Rgb, Rgb],
        happened: Sequence[stages.Happened],
        notes: tuple[Sequence[str], Sequence[str]],
        timings: dict[str, float],
    ) -> RefineResult:
        """The result: `last` is given back, `between` are the pictures before and after
        stage 1; `notes` come before and after those of the stages."""
        picture, bundle, seed = self.picture, self.means.bundle, self.means.seed
        found, stage1 = (picture.to_pil(rgb) for rgb in between)
        changed = float((last.picture != picture.rgb).any(axis=2).mean())
        said = (note for did in happened for note in did.notes)
        drawn = happened[1].drawn
        return RefineResult(
            image=picture.to_pil(last.picture),
            found=found,
            stage1=stage1,
            before=before,
            after=last.seen,
            plan=plan,
            timings=timings,
            seed=seed,
            notes=(*picture.notes, *before.notes, *notes[0], *said, *notes[1]),
            costs=plan_costs(plan, drawn, self.options.decoding, self.assess.looks),
            backends=bundle.choices,
            metadata=picture.metadata,
            run=run_id(picture, self.prompt, seed, self.options, bundle.manifest, self.limits),
            summary=summary(plan, before, last.seen, last.redrawn, last.restored, changed),
        )


@dataclass(frozen=True, eq=False)
class _Step:
    """A picture that a call went through, uint8 (H, W, 3), and its assessment.

    redrawn, restored: whether it has something of stage 1, of stage 2.
    """

    picture: Rgb
    seen: Assessment
    redrawn: bool = False
    restored: bool = False


def _standing(
    restored: stages.Happened,
    drawing: stages.Happened,
    restoring: stages.Happened,
    last: _Step,
    is_final: bool,
) -> tuple[stages.Happened, ...]:
    """Stage 2 where it ran first, stage 1, stage 2; what was kept of a stage 2 that is taken back is not told.

    last: what is given back; is_final: whether it has all that the stages made.
    """
    if restored.changed and not last.restored:
        restored = replace(restored, notes=())
    if restoring.changed and not is_final:
        restoring = replace(restoring, notes=())
    return restored, drawing, restoring


def _last_word(plan: RefinePlan, steps: Sequence[_Step]) -> tuple[_Step, tuple[str, ...]]:
    """The picture that is given back of those the call went through, the input first; and a sentence if not the last.

    With `accept` it is the latest whose scores are not below the input's (`is_lower`). Without, a good picture of which
    nothing was redrawn is given back where stage 2 lowered its p (`keep_good`).
    """
    first, last = steps[0], steps[-1]
    if plan.by_hand:
        return last, ()
    before, after = first.seen, last.seen
    if not plan.judges:
        if plan.keep_good and not last.redrawn and after.perceptual < before.perceptual:
            return first, (f"Stage 2 {_fall(before, after)}, so the picture is given back as it was.",)
        return last, ()
    rule = plan.settings.quality, plan.settings.matching
    if not is_lower(after, before, *rule):
        return last, ()
    for step in reversed(steps[1:-1]):
        if not np.array_equal(step.picture, first.picture) and not is_lower(step.seen, before, *rule):
            height, width = first.picture.shape[:2]
            sound = shown(enlarged(step.seen, (height, width)), plan)
            back = f"Stage 2 {_fall(before, after)}, so its change is taken back."
            return replace(step, seen=sound), (back,)
    who = "All that was drawn" if last.redrawn else "Stage 2"
    return first, (f"{who} {_fall(before, after)}, so the picture is given back as it was.",)


def _fall(before: Assessment, after: Assessment) -> str:
    """A part of a sentence."""
    how, was, now = "look worse", before.perceptual, after.perceptual
    if now >= was:
        how, was, now = "show its prompt less well", before.alignment, after.alignment
    return f"would have made the picture {how} ({now:.3f} of 1 instead of {was:.3f})"
