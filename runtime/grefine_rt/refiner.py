"""The refiner: assess, plan, regenerate, restore (G-Refine, Eq. 10)."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from grefine_rt import __version__
from grefine_rt.arrays import FloatMap, Rgb
from grefine_rt.assess import domain
from grefine_rt.assess.indicator import (
    MAX_PHRASES,
    Assessment,
    Encoders,
    assess_batch,
    check_prompt,
)
from grefine_rt.assessor import Assessor
from grefine_rt.bundle.manifest import SECTION_COMPONENTS, Manifest
from grefine_rt.cancel import Cancels, stop_if_cancelled
from grefine_rt.diffusion.restore import restore
from grefine_rt.drafts import Drafts, at_work_size, best
from grefine_rt.engine.devices import Choice
from grefine_rt.errors import OptionError
from grefine_rt.imaging.encode import PLAIN, Encoding, save
from grefine_rt.imaging.image import Picture, Source, load, resize
from grefine_rt.imaging.mask_source import MaskSource
from grefine_rt.imaging.metadata import NONE, Metadata
from grefine_rt.imaging.paste import add_difference
from grefine_rt.imaging.tiles import piece
from grefine_rt.models.bundle import Bundle
from grefine_rt.plan.costs import PlanCosts, plan_costs, restore_work
from grefine_rt.plan.graph_costs import check_memory
from grefine_rt.plan.limits import Limits, limits_of, within
from grefine_rt.plan.make import RefinePlan, make_plan
from grefine_rt.plan.options import PlanOptions, RefineOptions
from grefine_rt.plan.plan import Drawn
from grefine_rt.system_memory import usable_memory

__all__ = ["RefineOptions", "RefineResult", "Refiner"]

OnProgress = Callable[[str, int, int], None]
"""Called with (part, steps made, steps in all); the parts are the keys of `RefineResult.timings`."""


_PLAN = PlanOptions()
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
    plan: what was done, and why; where stage 2 ran first, the plan that was made then (`RefinePlan.again`).
    timings: milliseconds for `load`, `assess_before`, `plan`, `restore_first` (where it ran), `regenerate`,
        `restore`, `assess_after`, `total`.
    seed: as given; the same seed gives the same bits on one backend.
    notes: plain sentences on what was changed or left out on the way.
    costs: what it took, with the drafts that were made; None for a bundle whose costs were not counted.
    backends: what ran each component, and why.
    metadata: what the source's file said beside its pixels; `save` gives it back.
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

    def entry(self) -> dict[str, Any]:
        """What was done, as JSON: the one entry that a result's file has beside what its source said."""
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
            **({"negative": plan.options.negative} if plan.options.negative else {}),
            "seed": self.seed,
            "regenerated": round(float(plan.coverage), 4) if plan.regenerate else 0.0,
            "restored": bool(plan.restore or plan.restore_first),
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
    """What makes a result what it is, as a short hash: equal runs on one backend give equal pictures."""
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
        _ = bundle.manifest.stages
        super().__init__(bundle)

    def plan(
        self, image: Source | Assessment, prompt: str | None = None, options: PlanOptions = _PLAN
    ) -> RefinePlan:
        """What refining would do to a picture, or to one that was assessed; then `prompt` is not needed.

        The plan can be looked at, changed with `RefinePlan.with_mask` or `dataclasses.replace`, and given to
        `refine`. Raises OptionError, ImageError and PromptError.
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
        check_prompt(prompt)
        run = _Run(on_progress, cancel)
        with run.part("load"):
            picture = load(image)
            limits = limits_of(mask, protect, picture.rgb.shape)
            open_to = limits.weight(picture.rgb.shape)
        encoders = Encoders(self.bundle, _TEXTS)

        def assess(rgb: Rgb, map_size: tuple[int, int] | None = None) -> Assessment:
            (assessment,) = assess_batch(self.bundle, [rgb], [prompt], options.assess, encoders, map_size)
            return assessment

        def judge(draft: Rgb) -> Assessment:
            # By scores alone: maps as large as the picture would take longer than drawing it.
            return assess(draft, (1, 1))

        with run.part("assess_before"):
            before = assess(picture.rgb)
            marks = domain.check(before.domain, options.outside)
        with run.part("plan"):
            plan = limits.plan(
                make_plan(before, self.bundle.manifest, options.plan) if plan is None else plan
            )
            _check_fits(plan, picture)
            self._check_memory(plan)
        found, seen = picture.rgb, before
        if plan.restore_first:
            with run.part("restore_first"):
                good = before.perceptual_map
                restored = self._restore(found, plan, good, seed, options, run, "restore_first")
                found = within(picture.rgb, restored, open_to)
                seen = assess(found)
                plan = limits.plan(plan.again(seen))
                self._check_memory(plan)
        with run.part("regenerate"):
            stage1, made, kept = found, Drawn(0, 0), ""
            if plan.regenerate:
                on_call = run.on_step("regenerate")
                drafts = Drafts(self.bundle, stage1, plan, seed, options.match_rim, on_call, run.cancel)
                stage1, made, kept = best(drafts, stage1, plan, seen, judge)
            drawn = stage1 is not found
            stage1 = within(found, stage1, open_to)
            weight = plan.weight() if drawn else np.zeros(plan.mask.shape, np.float32)
        with run.part("restore"):
            # What stage 1 drew anew is as good as the decoder makes it.
            good = np.maximum(seen.perceptual_map, weight)
            stage2 = stage1
            if plan.restore:
                restored = self._restore(stage1, plan, good, seed, options, run, "restore")
                stage2 = within(stage1, restored, open_to)
        with run.part("assess_after"):
            lowered = ""
            mended = plan.restore_first and not plan.restore
            after = seen if mended else assess(stage2)
            if plan.keep_good and not drawn and after.perceptual < before.perceptual:
                lowered = (
                    f"Stage 2 would have lowered p from {before.perceptual:.3f} to {after.perceptual:.3f}, so the "
                    f"picture is given back as it was."
                )
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
            notes=(*picture.notes, *before.notes, *marks, *filter(None, [kept, lowered])),
            costs=plan_costs(plan, made, options.decoding),
            backends=self.bundle.choices,
            metadata=picture.metadata,
            run=run_id(picture, prompt, seed, options, plan.manifest, limits),
        )

    def _restore(
        self,
        rgb: Rgb,
        plan: RefinePlan,
        good: FloatMap,
        seed: int,
        options: RefineOptions,
        run: _Run,
        part: str,
    ) -> Rgb:
        size, tile = restore_work(self.bundle.manifest.stage2, rgb.shape[1], rgb.shape[0], plan.work)
        picture = at_work_size(rgb, size)
        restored = restore(
            self.bundle,
            picture,
            plan.prompt,
            seed=seed,
            delta=plan.delta,
            steps=plan.stage2_steps,
            tile=tile,
            decoding=options.decoding,
            color_fix=options.color_fix,
            keep=np.clip(resize(good, size), 0, 1),
            negative=plan.options.negative,
            on_step=run.on_step(part),
            cancel=run.cancel,
        )
        return add_difference(rgb, picture, restored.image)

    def _check_memory(self, plan: RefinePlan) -> None:
        """Raises MemoryLimitError before anything is loaded that would not fit into this machine's memory.

        What is free on a GPU is the business of its backend.
        """
        skipped = {
            *(() if plan.regenerate or plan.restore_first else SECTION_COMPONENTS["inpaint"]),
            *(() if plan.restore or plan.restore_first else SECTION_COMPONENTS["restore"]),
        }
        needed = self.bundle.manifest.components.keys() - skipped
        choices = {
            choice.component: choice.device for choice in (*self.bundle.foresee(needed), *self.bundle.choices)
        }
        here = {component for component in needed if choices[component] == "cpu"}
        rows, columns = plan.mask.shape
        (width, height), tile = restore_work(self.bundle.manifest.stage2, columns, rows, plan.work)
        height, width = piece(height, width, tile)
        sizes = [crop.size for crop in plan.crops] if plan.regenerate else []
        stage1 = max(sizes, key=math.prod, default=(width, height))
        check_memory(self.bundle.manifest, stage1, usable_memory(), "cpu", (width, height), here)


class _Run:
    """Clock, progress and cancellation of one call."""

    def __init__(self, on_progress: OnProgress | None, cancel: Cancels | None) -> None:
        self.cancel = cancel
        self._report: OnProgress = on_progress or (lambda part, step, steps: None)
        self._start = time.perf_counter()
        self._spent: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        stop_if_cancelled(self.cancel, f"before '{name}'")
        start = time.perf_counter()
        self._report(name, 0, 1)
        yield
        self._spent[name] = 1000 * (time.perf_counter() - start)
        self._report(name, 1, 1)

    def on_step(self, name: str) -> Callable[[int, int], None]:
        return lambda step, steps: self._report(name, step, steps)

    def timings(self) -> dict[str, float]:
        return {**self._spent, "total": 1000 * (time.perf_counter() - self._start)}


def _check_fits(plan: RefinePlan, picture: Picture) -> None:
    if plan.mask.shape != picture.rgb.shape[:2]:
        height, width = plan.mask.shape
        raise OptionError(
            f"The plan is for a picture of {width} x {height} pixels, but this one has "
            f"{picture.size[0]} x {picture.size[1]}: make a plan for it."
        )
    if plan.regenerate and not plan.mask.any():
        raise OptionError(
            "The plan's mask is empty, but 'regenerate' is on: change the mask with 'with_mask'."
        )
    shown = np.zeros_like(plan.mask)
    for crop in plan.crops:
        for x0, y0, x1, y1 in crop.regions:
            left, top, right, bottom = crop.box
            inside = (slice(max(y0, top), min(y1, bottom)), slice(max(x0, left), min(x1, right)))
            shown[inside] = True
    if plan.regenerate and (plan.mask & ~shown).any():
        raise OptionError(
            "The plan's crops leave a part of its mask out: change the mask with 'with_mask', which makes new crops."
        )
