"""The drafts of stage 1: drawn, judged by the indicators, the best kept.

Drafts that will not be kept need not be finished. With `sketch_steps` in the plan all of them are sketched first: the
same noise, in a few steps of a second-order solver, ends in much the same picture. Only the best sketch is drawn again
with all steps. This is successive halving (Jamieson & Talwalkar, 1502.07943) with two rounds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from grefine_rt.arrays import Floats, Mask, Rgb
from grefine_rt.assess.indicator import Assessment
from grefine_rt.cancel import Cancels
from grefine_rt.contract import LATENT_SCALE
from grefine_rt.diffusion.regenerate import Redrawing
from grefine_rt.diffusion.solver import unet_calls
from grefine_rt.imaging.color import match_rim
from grefine_rt.imaging.image import resize, to_float
from grefine_rt.imaging.paste import paste_region
from grefine_rt.models.bundle import Bundle
from grefine_rt.plan.costs import SKETCH_SOLVER
from grefine_rt.plan.crops import Crop
from grefine_rt.plan.make import RefinePlan
from grefine_rt.plan.plan import Drawn

OnCall = Callable[[int, int], None]
"""Called after each UNet call with (calls made, calls in all, if every draft is made)."""


class Drafts:
    """Drafts of stage 1 for one picture uint8 (H, W, 3): every crop of its plan redrawn and pasted back."""

    def __init__(
        self,
        bundle: Bundle,
        rgb: Rgb,
        plan: RefinePlan,
        seed: int,
        match: bool,
        on_call: OnCall,
        cancel: Cancels | None,
    ) -> None:
        """match: whether the rim is matched. Raises Cancelled, BundleError and DeviceError."""
        self._bundle, self._rgb, self._plan, self._seed, self._match = bundle, rgb, plan, seed, match
        self._on_call, self._cancel = on_call, cancel
        self._crops = [(crop, plan.inside(crop.regions), plan.weight(crop.regions)) for crop in plan.crops]
        most, self._made = plan.most, 0
        calls = most.sketches * unet_calls(plan.sketch_steps or 1, plan.strength)
        calls += most.drafts * unet_calls(plan.stage1_steps, plan.strength)
        self._total = len(plan.crops) * calls
        # What the first crop shows is the same in every draft; later ones show what was drawn before them.
        self._first = self._prepare(*self._crops[0][:2], rgb)

    def draw(self, number: int, sketch: bool) -> Rgb:
        """Draft `number`, 0 or more, as a picture uint8 (H, W, 3). Raises Cancelled, BundleError and DeviceError."""
        plan, out = self._plan, self._rgb.copy()
        for index, (crop, inside, weight) in enumerate(self._crops):
            picture, mask, redrawing = self._prepare(crop, inside, out) if index else self._first
            before = self._made

            def on_step(step: int, steps: int, before: int = before) -> None:
                self._made = before + step
                self._on_call(self._made, self._total)

            image = redrawing.draw(
                seed=self._seed,
                draft=number * len(self._crops) + index,
                steps=plan.sketch_steps if sketch else plan.stage1_steps,
                solver=SKETCH_SOLVER if sketch else None,
                on_step=on_step,
            ).image
            x0, y0, x1, y1 = crop.box
            window = (slice(y0, y1), slice(x0, x1))
            if self._match:
                scale = min(crop.size[0] / (x1 - x0), crop.size[1] / (y1 - y0))
                image = match_rim(image, picture, mask, max(LATENT_SCALE, plan.feather * scale))
            out[window] = paste_region(out[window], image, weight[window])
        return out

    def _prepare(self, crop: Crop, inside: Mask, rgb: Rgb) -> tuple[Floats, Mask, Redrawing]:
        x0, y0, x1, y1 = crop.box
        window = (slice(y0, y1), slice(x0, x1))
        picture, mask = at_work_size(rgb[window], crop.size), _work_mask(inside[window], crop.size)
        plan = self._plan
        redrawing = Redrawing(
            self._bundle,
            picture,
            mask,
            plan.prompt,
            strength=plan.strength,
            interval=plan.interval,
            frame=crop.frame((rgb.shape[1], rgb.shape[0])),
            negative=plan.options.negative,
            cancel=self._cancel,
        )
        return picture, mask, redrawing


def best(
    drafts: Drafts, rgb: Rgb, plan: RefinePlan, before: Assessment, assess: Callable[[Rgb], Assessment]
) -> tuple[Rgb, Drawn, str]:
    """The draft with the highest score, or the picture itself where none is above it; what was drawn; a sentence.

    The score is the mean of a and of what the plan judges drafts by. After a draft in which nothing is left to redraw
    no more are made, unless the plan wants them all. The best sketch is drawn again with all steps, if it is above the
    picture itself; what scores higher of the two is kept. A single draft is kept as it is, as in Eq. 10.
    """
    if plan.drafts == 1:
        return drafts.draw(0, sketch=False), Drawn(0, 1), ""
    own = highest = _score(before, plan)
    kept, number, made, stopped = rgb, 0, 0, False
    while made < plan.drafts and not stopped:
        draft = drafts.draw(made, plan.sketches)
        after, made = assess(draft), made + 1
        if (score := _score(after, plan)) > highest:
            kept, number, highest = draft, made, score
        sound = _quality(after, plan) > plan.manifest.plan.p_bound
        flawless = sound and not any(phrase.defect for phrase in after.phrases)
        stopped = flawless and score > own and not plan.all_drafts
    drawn = Drawn(made, 0) if plan.sketches else Drawn(0, made)
    again = ""
    if plan.sketches and kept is not rgb and not stopped:
        draft, drawn = drafts.draw(number - 1, sketch=False), Drawn(made, 1)
        if (score := _score(assess(draft), plan)) > highest:
            kept, highest, again = draft, score, f", drawn again with {plan.stage1_steps} steps,"
    if kept is rgb:
        why = f"None of the {made} drafts of stage 1 scored above the picture itself ({own:.2f}), so stage 1 changed "
        return kept, drawn, f"{why}nothing."
    scores = f"it scores {highest:.2f} (mean of {plan.judged} and alignment), the picture itself {own:.2f}"
    return kept, drawn, f"Draft {number} of {made}{again} was kept: {scores}."


def at_work_size(rgb: Rgb, size: tuple[int, int]) -> Floats:
    """A picture uint8 as a stage sees it: float32 (height, width, 3) in [0, 1] of `size` (width, height)."""
    return np.clip(resize(to_float(rgb), size), 0, 1)


def _quality(assessment: Assessment, plan: RefinePlan) -> float:
    return assessment.perceptual if plan.judged == "perceptual" else assessment.factors[plan.judged]


def _score(assessment: Assessment, plan: RefinePlan) -> float:
    """(p + a) / 2, the quality of Eq. 9, with what the plan judges drafts by in place of p."""
    return (_quality(assessment, plan) + assessment.alignment) / 2


def _work_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """The mask at work `size` (width, height), bool: every latent cell that holds a masked pixel, whole."""
    cells = (size[0] // LATENT_SCALE, size[1] // LATENT_SCALE)
    touched = resize(mask.astype(np.float32), cells, "area") > 1e-6
    return touched.repeat(LATENT_SCALE, axis=0).repeat(LATENT_SCALE, axis=1)
