"""The two stages of Eq. 10 on whole pictures: (picture, plan, ...) -> (picture, what happened).

The diffusion below works at a model's sizes and on float planes (`diffusion/`). A stage here takes the user's picture,
works where its plan says, and brings the result back to the picture's own pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from grefine_rt.accept import (
    SOUND,
    Accepted,
    accept_drawing,
    accept_restoration,
    enlarged_cells,
    grid_of,
    look,
    mixed,
    refusals,
)
from grefine_rt.arrays import FloatMap, Rgb
from grefine_rt.assess.indicator import Assessment
from grefine_rt.bundle.manifest import ColorFix, Decoding
from grefine_rt.cancel import Cancels
from grefine_rt.diffusion.encoded import EncodedPicture
from grefine_rt.diffusion.loop import OnStep
from grefine_rt.diffusion.restore import restore
from grefine_rt.drafts import Drafts, Rule, at_work_size, best
from grefine_rt.imaging.image import resize
from grefine_rt.imaging.paste import add_difference
from grefine_rt.models.bundle import Bundle
from grefine_rt.plan.costs import restore_work
from grefine_rt.plan.limits import within
from grefine_rt.plan.plan import Drawn, RefinePlan

NOTHING = Drawn(0, 0)


@dataclass(frozen=True)
class Means:
    """The means of both stages of one refine call.

    decoding, color_fix, match_rim: as in `RefineOptions`. open_to: how far a pixel may change, float32
    (H, W) in [0, 1], None for all (`plan.limits`). assess: assesses a picture uint8 (H, W, 3), with maps of a
    size (h, w). source: the picture as stage 2's autoencoder has it.
    """

    bundle: Bundle
    seed: int
    decoding: Decoding | None
    color_fix: ColorFix | None
    match_rim: bool
    open_to: FloatMap | None
    assess: Callable[[Rgb, tuple[int, int]], Assessment]
    cancel: Cancels | None
    source: EncodedPicture

    def judge(self, candidate: Rgb) -> Assessment:
        """The assessment of a candidate; maps as large as the picture would take longer than drawing it."""
        return self.assess(candidate, grid_of(candidate.shape))


@dataclass(frozen=True, eq=False)
class Happened:
    """The outcome of a stage.

    changed: whether the picture is another one now. seen: an assessment of it, whose P and factors may have any size;
    exact: whether it is of this very picture. anew: how far each pixel was drawn anew, float32 (H, W) in [0, 1]. drawn:
    the drafts that were made. notes: plain sentences.
    """

    changed: bool
    seen: Assessment
    anew: FloatMap
    exact: bool = True
    drawn: Drawn = NOTHING
    notes: tuple[str, ...] = ()


def unchanged(rgb: Rgb, seen: Assessment) -> tuple[Rgb, Happened]:
    """A stage that is skipped."""
    return rgb, Happened(False, seen, np.zeros(rgb.shape[:2], np.float32))


def regenerate_regions(
    rgb: Rgb, plan: RefinePlan, seen: Assessment, means: Means, on_step: OnStep
) -> tuple[Rgb, Happened]:
    """Stage 1: the mask of the plan drawn anew, and kept where the best draft is better than what is there.

    `rgb` is uint8 (H, W, 3), `seen` its assessment. Raises Cancelled, BundleError and DeviceError.
    """
    weight = plan.weight()
    rule: Rule | None = None
    if plan.judges and not plan.by_hand:
        own = plan.manifest.plan
        tokens = plan.manifest.perceptual.grid
        old = look(rgb, seen, tokens, plan.judged)

        def rule(draft: Rgb, then: Assessment) -> Accepted:
            new = look(draft, then, tokens, plan.judged)
            return accept_drawing(rgb, draft, weight, old, new, own.tolerance, min(own.p_bound, SOUND))

    drafts = Drafts(
        means.bundle, rgb, plan, means.seed, means.match_rim, means.open_to, on_step, means.cancel
    )
    choice = best(drafts, plan, seen, means.judge, rule)
    if choice.picture is None:
        return rgb, Happened(False, seen, np.zeros_like(weight), True, choice.drawn, choice.why)
    accepted = choice.accepted
    if accepted is None or accepted.share == 1:
        after = choice.seen or seen
        return choice.picture, Happened(
            True, after, weight, choice.seen is not None, choice.drawn, choice.why
        )
    weight = np.where(enlarged_cells(accepted.cells, weight.shape), weight, np.float32(0))
    # A single draft was looked at already; more looks than one a stage are not spent.
    looks = plan.drafts > 1
    after = means.judge(choice.picture) if looks else mixed(seen, choice.seen or seen, accepted.cells)
    return choice.picture, Happened(True, after, weight, looks, choice.drawn, choice.why)


def restore_picture(
    rgb: Rgb, plan: RefinePlan, seen: Assessment, made: Happened, means: Means, on_step: OnStep
) -> tuple[Rgb, Happened]:
    """Stage 2: the whole picture restored mildly, most where P of what was `seen` is low, and kept where it is better.

    `rgb` is uint8 (H, W, 3); `made` is what stage 1 did since the picture was `seen`: what it drew is as good as the
    decoder makes it. Raises Cancelled, BundleError and DeviceError.
    """
    size, tile = restore_work(means.bundle.manifest.stage2, rgb.shape[1], rgb.shape[0], plan.work)
    good = np.maximum(seen.perceptual_map, made.anew)
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
        negative=plan.settings.negative,
        on_step=on_step,
        cancel=means.cancel,
        source=means.source,
    )
    candidate = within(rgb, add_difference(rgb, picture, restored.image), means.open_to)
    if not plan.judges:
        return candidate, Happened(True, made.seen, made.anew, exact=False)
    own, tokens = plan.manifest.plan, plan.manifest.perceptual.grid
    then = means.judge(candidate)
    old, new = look(rgb, made.seen, tokens), look(candidate, then, tokens)
    accepted = accept_restoration(rgb, candidate, made.anew, old, new, own.tolerance, min(own.p_bound, SOUND))
    notes = _restoration_notes(accepted)
    if not accepted.cells.any():
        return rgb, Happened(False, made.seen, made.anew, made.exact, notes=notes)
    return accepted.picture, Happened(True, then, made.anew, exact=False, notes=notes)


def _restoration_notes(accepted: Accepted) -> tuple[str, ...]:
    """A sentence on what is not kept of what stage 2 changed visibly."""
    why = refusals(accepted.verdicts)
    if not why:
        return ()
    if not accepted.cells.any():
        return (f"What stage 2 changed is not kept: {why}.",)
    share = max(round(100 * accepted.share), 1)
    return (f"Of what stage 2 changed, {share} % is kept; elsewhere {why}.",)
