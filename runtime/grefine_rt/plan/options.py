"""The switches of a plan, checked where they are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from grefine_rt.assess.alignment import WINDOW, Joining, MissingRegion
from grefine_rt.bundle.manifest import Redraw
from grefine_rt.errors import OptionError, one_of, shown

StrengthRule = Literal["deficit", "printed"]
Indicator = Literal["perceptual", "alignment"]
Cropping = Literal["off", "auto"]
Work = Literal["trained", "native"]

MAX_DRAFTS = 64


@dataclass(frozen=True)
class PlanOptions:
    """Switches of the plan. None means the bundle's own value (manifest, section `plan`).

    tau: threshold of 1 - P + A above which a pixel is redrawn, in [0, 2], or "otsu".
    strength_min, strength_max: range of the stage 1 strength in [0, 1], for the rule "deficit".
    strength_rule: "deficit" gives worse pictures a stronger pass; "printed" is Eq. 9 as it stands.
    joining: "union" or "product" of the phrases' regions (Eq. 6), see `alignment.join`.
    missing_region: where a missing thing is drawn, see `alignment.regions`.
    window: share of the picture, in (0, 1], that a missing thing without a region may take.
    grow: by how much the mask grows, in latent cells (8 pixels at work resolution), 0 or more.
    feather: width of the soft rim outside the mask, in latent cells, 0 or more.
    min_area: regions below this share of the picture are left alone, in [0, 1].
    p_bound: a picture whose p is above it counts as good, and P marks nothing; 1 always looks at P.
    redraw: what P marks for stage 1: all that is "poor" (Eq. 9 as printed), or of it only what is "misshapen", where
        rationality is the weakest factor of Eq. 3. The rest (blur, noise, wrong colours) is then left to stage 2, whose
        business it is; without a stage 2 all that is poor is redrawn.
    restore_first: where only phrases call for stage 1, and more than a fifth of their places is left to stage 2 as
        poor, that damage may be why they were not found: stage 2 then runs first, and what is still to redraw is
        decided on what it gives.
    keep_good: a picture whose p is above p_bound, and in which stage 1 drew nothing, is given back as it is when stage
        2 lowers its p. Eq. 10 has no such rule; rows of Table 8, which leave a stage or an indicator out, do without.
    emphasis: weight added to each defective phrase in the prompt (Eq. 7), 0 or more.
    indicators: which maps and scores count; ("perceptual",) and ("alignment",) are rows of Table 8.
    stages: which stages run; (1,) and (2,) are ablations.
    full_image: stage 1 redraws the whole picture, without a mask.
    stage1_steps, stage2_steps: steps n1 and n2 of Eq. 10, before the strengths shorten them; 1 or more.
    drafts: how often stage 1 draws, 1 or more. Of several the one that the indicators like best is kept, or the
        picture itself where none is above it; one is kept as it is (Eq. 10).
    sketch_steps: steps of the sketches by which the best of several drafts is chosen; it alone is then drawn with all
        steps (see `drafts`). 0 finishes every draft.
    all_drafts: whether stage 1 draws on after a draft in which nothing is left to redraw: one above the picture itself,
        without a defective phrase, and with a quality (`RefinePlan.judged`) above the bundle's p_bound.
    work: the size at which stage 2 sees a large picture: "trained", the bundle's own resolution, which costs the same
        for every picture; or "native", the picture's own size, in tiles, which restores its finest detail.
    interval: from which to which share of its UNet calls stage 1 is guided, in [0, 1]; other calls cost half.
    crop: "auto" works on crops around the mask where that costs less (see `crops`), "off" on the whole picture;
        None is "auto" for a bundle that says how small a crop may be.
    context: what a crop shows around its regions, as a share of the model's resolution, in [0, 1].
    delta: strength of stage 2 in [0, 1] (Eq. 9).
    negative: what neither stage should draw, with weights as in a prompt; "" for the bundle's own.
    """

    tau: float | Literal["otsu"] | None = None
    strength_min: float | None = None
    strength_max: float | None = None
    strength_rule: StrengthRule | None = None
    joining: Joining | None = None
    missing_region: MissingRegion | None = None
    window: float = WINDOW
    grow: float | None = None
    feather: float | None = None
    min_area: float | None = None
    p_bound: float | None = None
    redraw: Redraw | None = None
    restore_first: bool = True
    keep_good: bool = True
    emphasis: float = 0.1
    indicators: tuple[Indicator, ...] = ("perceptual", "alignment")
    stages: tuple[int, ...] = (1, 2)
    full_image: bool = False
    stage1_steps: int | None = None
    stage2_steps: int | None = None
    drafts: int | None = None
    sketch_steps: int | None = None
    all_drafts: bool = False
    work: Work = "trained"
    interval: tuple[float, float] | None = None
    crop: Cropping | None = None
    context: float = 0.125
    delta: float | None = None
    negative: str = ""

    def __post_init__(self) -> None:
        """Raises OptionError for a value outside its range."""
        for name in ("full_image", "all_drafts", "restore_first", "keep_good"):
            one_of(name, getattr(self, name), (True, False))
        for name in ("window", "context", "emphasis"):
            if getattr(self, name) is None:
                raise OptionError(f"The option '{name}' must be a number, not None.")
        if not (isinstance(self.tau, str) and self.tau == "otsu"):
            _in_range("tau", self.tau, 0.0, 2.0, ' or "otsu"')
        for name in ("strength_min", "strength_max", "min_area", "p_bound", "delta"):
            _in_range(name, getattr(self, name), 0.0, 1.0)
        for name in ("grow", "feather", "emphasis"):
            _in_range(name, getattr(self, name), 0.0, 64.0)
        for name in ("stage1_steps", "stage2_steps"):
            _count(name, getattr(self, name), 1, 1000)
        _count("drafts", self.drafts, 1, MAX_DRAFTS)
        _count("sketch_steps", self.sketch_steps, 0, 1000)
        if not isinstance(self.negative, str):
            raise OptionError(f"The option 'negative' must be a text, not {type(self.negative).__name__}.")
        _in_range("window", self.window, 0.0, 1.0)
        _in_range("context", self.context, 0.0, 1.0)
        if self.window == 0:
            raise OptionError("The option 'window' must be above 0.")
        one_of("strength_rule", self.strength_rule, ("deficit", "printed", None))
        one_of("joining", self.joining, ("union", "product", None))
        one_of("missing_region", self.missing_region, ("ancestor", "printed", "free", None))
        one_of("redraw", self.redraw, ("poor", "misshapen", None))
        one_of("crop", self.crop, ("off", "auto", None))
        one_of("work", self.work, ("trained", "native"))
        if self.interval is not None:
            _rising("interval", self.interval)
        _subset("indicators", self.indicators, ("perceptual", "alignment"))
        _subset("stages", self.stages, (1, 2))


def _in_range(name: str, value: float | None, low: float, high: float, also: str = "") -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise OptionError(f"The option '{name}' must be from {low:g} to {high:g}{also}, not {shown(value)}.")


def _count(name: str, value: int | None, low: int, high: int) -> None:
    _in_range(name, value, low, high)
    if isinstance(value, float):
        raise OptionError(f"The option '{name}' must be a whole number, not {shown(value)}.")


def _rising(name: str, value: Sequence[float]) -> None:
    numbers = isinstance(value, (tuple, list)) and all(type(item) in (int, float) for item in value)
    if not numbers or len(value) != 2 or not 0.0 <= value[0] <= value[1] <= 1.0:
        raise OptionError(
            f"The option '{name}' must be two rising shares between 0 and 1, not {shown(value)}."
        )


def _subset(name: str, value: Sequence[object], allowed: tuple[object, ...]) -> None:
    known = isinstance(value, (tuple, list)) and all(
        type(item) in (int, str) and item in allowed for item in value
    )
    if not known or not value:
        names = ", ".join(repr(item) for item in allowed)
        raise OptionError(f"The option '{name}' must hold one or more of {names}, not {shown(value)}.")
