"""The two stages of Eq. 10 on whole pictures: (picture, plan, ...) -> (picture, what happened).

The diffusion below works at a model's sizes and on float planes (`diffusion/`). A stage here takes the user's picture,
works where its plan says, and brings the result back to the picture's own pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grefine_rt.arrays import FloatMap, Rgb
from grefine_rt.assess.indicator import Assessment
from grefine_rt.bundle.manifest import ColorFix, Decoding
from grefine_rt.cancel import Cancels
from grefine_rt.diffusion.loop import OnStep
from grefine_rt.diffusion.restore import restore
from grefine_rt.drafts import Drafts, at_work_size, best
from grefine_rt.imaging.image import resize
from grefine_rt.imaging.paste import add_difference
from grefine_rt.models.bundle import Bundle
from grefine_rt.plan.costs import restore_work
from grefine_rt.plan.plan import Drawn, RefinePlan

NOTHING = Drawn(0, 0)


@dataclass(frozen=True)
class Means:
    """What both stages of one refine call work with.

    decoding, color_fix, match_rim: as in `RefineOptions`. judge: the scores of a draft, with maps of any size.
    """

    bundle: Bundle
    seed: int
    decoding: Decoding | None
    color_fix: ColorFix | None
    match_rim: bool
    judge: Callable[[Rgb], Assessment]
    cancel: Cancels | None


@dataclass(frozen=True, eq=False)
class Happened:
    """What a stage did.

    changed: whether the picture is another one now. anew: how far each pixel was drawn anew, float32 (H, W) in [0, 1].
    drawn: the drafts that were made. notes: plain sentences.
    """

    changed: bool
    anew: FloatMap
    drawn: Drawn = NOTHING
    notes: tuple[str, ...] = ()


def unchanged(rgb: Rgb) -> tuple[Rgb, Happened]:
    """A stage that is skipped."""
    return rgb, Happened(False, np.zeros(rgb.shape[:2], np.float32))


def regenerate_regions(
    rgb: Rgb, plan: RefinePlan, seen: Assessment, means: Means, on_step: OnStep
) -> tuple[Rgb, Happened]:
    """Stage 1: the mask of the plan drawn anew, where the best draft is better than what is there.

    `rgb` is uint8 (H, W, 3), `seen` its assessment. Raises Cancelled, BundleError and DeviceError.
    """
    drafts = Drafts(means.bundle, rgb, plan, means.seed, means.match_rim, on_step, means.cancel)
    choice = best(drafts, plan, seen, means.judge)
    notes = (choice.why,) if choice.why else ()
    if choice.picture is None:
        return rgb, Happened(False, np.zeros_like(seen.perceptual_map), choice.drawn, notes)
    return choice.picture, Happened(True, plan.weight(), choice.drawn, notes)


def restore_picture(
    rgb: Rgb, plan: RefinePlan, seen: Assessment, anew: FloatMap, means: Means, on_step: OnStep
) -> tuple[Rgb, Happened]:
    """Stage 2: the whole picture restored mildly, most where P of what was `seen` is low.

    `rgb` is uint8 (H, W, 3); `anew` float32 (H, W) in [0, 1], where stage 1 drew since it was seen: what it drew is as
    good as the decoder makes it. Raises Cancelled, BundleError and DeviceError.
    """
    size, tile = restore_work(means.bundle.manifest.stage2, rgb.shape[1], rgb.shape[0], plan.work)
    good = np.maximum(seen.perceptual_map, anew)
    picture = at_work_size(rgb, size)
    restored = restore(
        means.bundle,
        picture,
        plan.prompt,
        seed=means.seed,
        delta=plan.delta,
        steps=plan.stage2_steps,
        tile=tile,
        decoding=means.decoding,
        color_fix=means.color_fix,
        keep=np.clip(resize(good, size), 0, 1),
        on_step=on_step,
        cancel=means.cancel,
    )
    return add_difference(rgb, picture, restored.image), Happened(True, anew)
