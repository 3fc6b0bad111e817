"""The drafts of stage 1: drawn, judged by the indicators, the best kept.

Drafts that will not be kept need not be finished. With `sketch_steps` in the plan all of them are sketched first: the
same noise, in a few steps of a second-order solver, ends in much the same picture. Only the best sketch is drawn again
with all steps. This is successive halving (Jamieson & Talwalkar, 1502.07943) with two rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from grefine_rt.accept import GAIN, Accepted, is_lower, refusals
from grefine_rt.arrays import FloatMap, Floats, Mask, Rgb
from grefine_rt.assess.indicator import Assessment
from grefine_rt.cancel import Cancels
from grefine_rt.contract import LATENT_SCALE
from grefine_rt.diffusion.regenerate import Redrawing
from grefine_rt.diffusion.solver import unet_calls
from grefine_rt.imaging.color import match_rim
from grefine_rt.imaging.image import resize, to_float
from grefine_rt.imaging.paste import paste_region
from grefine_rt.models.bundle import Bundle
from grefine_rt.plan.crops import Crop
from grefine_rt.plan.limits import within
from grefine_rt.plan.plan import Drawn, RefinePlan
from grefine_rt.plan.settings import SKETCH_SOLVER

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
        open_to: FloatMap | None,
        on_call: OnCall,
        cancel: Cancels | None,
    ) -> None:
        """match: whether the rim is matched. open_to: as in `stages.Means`.

        Raises Cancelled, BundleError and DeviceError.
        """
        self._bundle, self._rgb, self._plan, self._seed, self._match = bundle, rgb, plan, seed, match
        self._open_to, self._on_call, self._cancel = open_to, on_call, cancel
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
        return within(self._rgb, out, self._open_to)

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
            size_ids=crop.size_ids((rgb.shape[1], rgb.shape[0])),
            negative=plan.settings.negative,
            cancel=self._cancel,
        )
        return picture, mask, redrawing


Rule = Callable[[Rgb, Assessment], Accepted]
"""What is kept of a draft that was assessed."""


@dataclass(frozen=True, eq=False)
class Choice:
    """The outcome of the drafts of stage 1.

    picture: uint8 (H, W, 3), the draft that is kept, as far as it is; None where none is better than the picture
    itself. seen: the assessment of the draft, None where nobody looked. accepted: what was kept of it, None for all.
    drawn: what was made. why: plain sentences.
    """

    picture: Rgb | None
    drawn: Drawn
    why: tuple[str, ...] = ()
    seen: Assessment | None = None
    accepted: Accepted | None = None


@dataclass(frozen=True, eq=False)
class _Draft:
    """A draft as it was judged. lowers: p or a of it is below the picture's own, and counts (`accept`)."""

    picture: Rgb
    seen: Assessment
    score: float
    accepted: Accepted | None
    lowers: bool

    @property
    def whole(self) -> bool:
        return self.accepted is None or self.accepted.share == 1


def best(
    drafts: Drafts,
    plan: RefinePlan,
    before: Assessment,
    assess: Callable[[Rgb], Assessment],
    rule: Rule | None = None,
) -> Choice:
    """The draft with the highest score, where that is above the score of the picture itself, assessed as `before`.

    The score is the mean of a and of what the plan judges drafts by; of a draft that the `rule` keeps in part, so much
    of its gain. With a rule a draft that lowers neither p nor a goes before one that does, which is likely to be taken
    back in the end. After a draft in which nothing is left to redraw no more are made, unless the plan wants them all.
    The best sketch is drawn again with all steps, if it is above the picture itself; the better of the two is kept. A
    single draft is kept as far as the rule has it, and without a rule as it is, as in Eq. 10.
    """
    if plan.drafts == 1 and rule is None:
        return Choice(drafts.draw(0, sketch=False), Drawn(0, 1))
    own = _score(before, plan)
    enough = own + (GAIN if rule else 0)  # what is drawn anew must be better by more than chance
    judged = partial(_judged, plan=plan, before=before, own=own, assess=assess, rule=rule)

    def rank(draft: _Draft) -> tuple[bool, float]:
        return draft.score > enough and not draft.lowers, draft.score

    if plan.drafts == 1:
        draft = judged(drafts.draw(0, sketch=False))
        return _choice(draft if _kept(draft) else None, Drawn(0, 1), _refused([draft]))
    made: list[_Draft] = []
    stopped = False
    while len(made) < plan.drafts and not stopped:
        made.append(draft := judged(drafts.draw(len(made), plan.sketches)))
        stopped = _flawless(draft, plan) and draft.score > own and not plan.all_drafts
    drawn = Drawn(len(made), 0) if plan.sketches else Drawn(0, len(made))
    top = max(made, key=rank)
    if top.score <= enough:
        why = (
            f"None of the {len(made)} drafts of stage 1 scored above the picture itself ({own:.2f} of 1), so stage 1 "
            f"changed nothing."
        )
        return _choice(None, drawn, (why, *_refused(made)))
    number, again = made.index(top) + 1, False
    if plan.sketches and not stopped:
        finished, drawn = judged(drafts.draw(number - 1, sketch=False)), Drawn(len(made), 1)
        if rank(finished) > rank(top):
            top, again = finished, True
    return _choice(top, drawn, (_why(top, number, again, own, len(made), plan), *_refused([top])))


def _flawless(draft: _Draft, plan: RefinePlan) -> bool:
    """Whether nothing is left to redraw in a draft."""
    sound = _quality(draft.seen, plan) > plan.manifest.plan.p_bound
    defects = any(phrase.defect for phrase in draft.seen.phrases)
    return draft.whole and sound and not draft.lowers and not defects


def _why(draft: _Draft, number: int, again: bool, own: float, made: int, plan: RefinePlan) -> str:
    """A sentence on the draft that was chosen; `again`: drawn with all steps after its sketch."""
    of = f" of {made}" if made == plan.drafts else ""
    anew = f", drawn again with {plan.stage1_steps} steps," if again else ""
    looks = "how good it looks" if plan.judged == "perceptual" else "how sound its shapes are"
    scores = (
        f"it scores {draft.score:.2f} of 1 (mean of {looks} and how well it shows the prompt), the picture itself "
        f"{own:.2f}"
    )
    fewer = (
        ""
        if of or plan.all_drafts
        else f" Nothing is left to redraw in it, so no more than {made} of {plan.drafts} were made."
    )
    return f"Draft {number}{of}{anew} was chosen: {scores}.{fewer}"


def _judged(
    picture: Rgb,
    *,
    plan: RefinePlan,
    before: Assessment,
    own: float,
    assess: Callable[[Rgb], Assessment],
    rule: Rule | None,
) -> _Draft:
    """`own` is the score of the picture itself, assessed as `before`."""
    seen = assess(picture)
    score = _score(seen, plan)
    if rule is None:
        return _Draft(picture, seen, score, None, False)
    accepted = rule(picture, seen)
    lowers = is_lower(seen, before, plan.settings.quality, plan.settings.matching)
    return _Draft(picture, seen, own + accepted.share * (score - own), accepted, lowers)


def _kept(draft: _Draft) -> bool:
    return draft.accepted is None or draft.accepted.share > 0


def _choice(draft: _Draft | None, drawn: Drawn, why: tuple[str, ...]) -> Choice:
    if draft is None:
        return Choice(None, drawn, why)
    picture = draft.picture if draft.accepted is None else draft.accepted.picture
    return Choice(picture, drawn, why, draft.seen, draft.accepted)


def _refused(drafts: Sequence[_Draft]) -> tuple[str, ...]:
    """A sentence on what the rule refused of one draft, or of several of which none is kept."""
    verdicts = [verdict for draft in drafts if draft.accepted for verdict in draft.accepted.verdicts]
    refused = sum(verdict.why is not None for verdict in verdicts)
    if not refused:
        return ()
    some = f"{refused} of {len(verdicts)}" if len(verdicts) > 1 else "one"
    what = "region that stage 1 drew is" if refused == 1 else "regions that stage 1 drew are"
    return (f"{some.capitalize()} {what} not kept: {refusals(verdicts)}.",)


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
