"""The settings of one plan: the bundle's own values, and over them the options that were given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

from grefine_rt.bundle.manifest import Manifest
from grefine_rt.contract import Solver
from grefine_rt.diffusion.solver import check_steps, unet_calls
from grefine_rt.plan.options import Accept, Cropping, PlanOptions, Work
from grefine_rt.readings import Joining, MissingRegion, Redraw, StrengthRule

SKETCH_SOLVER: Solver = "dpm++2m"


@dataclass(frozen=True)
class Settings:
    """Every switch of a plan with its value; `PlanOptions` tells their meanings.

    quality, matching: whether the perceptual and the alignment indicator are looked at. stage1, stage2: whether the
    stage may run; a stage 2 whose strength leaves no step may not, for it would only pass the picture through the
    autoencoder. redraw: "poor" without a stage 2 that could do the rest. grow, feather: in latent cells.
    """

    quality: bool
    matching: bool
    stage1: bool
    stage2: bool
    tau: float | Literal["otsu"]
    p_bound: float
    redraw: Redraw
    missing_region: MissingRegion
    joining: Joining
    window: float
    min_area: float
    grow: float
    feather: float
    full_image: bool
    strength_rule: StrengthRule
    strength_min: float
    strength_max: float
    emphasis: float
    restore_first: bool
    keep_good: bool
    accept: Accept
    stage1_steps: int
    sketch_steps: int
    drafts: int
    all_drafts: bool
    interval: tuple[float, float]
    crop: Cropping
    context: float
    stage2_steps: int
    delta: float
    work: Work
    negative: str


def settings_of(options: PlanOptions, manifest: Manifest) -> Settings:
    """The settings of a plan for a bundle.

    Raises OptionError when a stage's solver cannot make so many steps, and BundleError for a bundle that only assesses.
    """
    own = manifest.plan
    inpaint, restoration = manifest.stages
    delta = _choose(options.delta, restoration.delta)
    stage2_steps = _choose(options.stage2_steps, restoration.steps)
    stage2 = 2 in options.stages and unet_calls(stage2_steps, delta) > 0
    start, end = _choose(options.interval, inpaint.interval)
    settings = Settings(
        quality="perceptual" in options.indicators,
        matching="alignment" in options.indicators,
        stage1=1 in options.stages,
        stage2=stage2,
        tau=own.tau if options.tau is None else options.tau,
        p_bound=_choose(options.p_bound, own.p_bound),
        redraw=_choose(options.redraw, own.redraw) if stage2 else "poor",
        missing_region=_choose(options.missing_region, own.missing_region),
        joining=_choose(options.joining, own.joining),
        window=options.window,
        min_area=_choose(options.min_area, own.min_area),
        grow=_choose(options.grow, own.grow),
        feather=_choose(options.feather, own.feather),
        full_image=options.full_image,
        strength_rule=_choose(options.strength_rule, own.strength_rule),
        strength_min=_choose(options.strength_min, own.strength_min),
        strength_max=_choose(options.strength_max, own.strength_max),
        emphasis=options.emphasis,
        restore_first=options.restore_first,
        keep_good=options.keep_good,
        accept=options.accept,
        stage1_steps=_choose(options.stage1_steps, inpaint.steps),
        sketch_steps=_choose(options.sketch_steps, inpaint.sketch_steps),
        drafts=_choose(options.drafts, inpaint.drafts),
        all_drafts=options.all_drafts,
        interval=(start, end),
        # Where the bundle does not say how small a crop may be, the whole picture is worked on.
        crop=_choose(options.crop, "auto" if inpaint.smallest else "off"),
        context=options.context,
        stage2_steps=stage2_steps,
        delta=delta,
        work=options.work,
        negative=options.negative,
    )
    _check_steps(settings, manifest)
    return settings


def _check_steps(settings: Settings, manifest: Manifest) -> None:
    inpaint, restoration = manifest.stages
    if settings.stage1:
        check_steps(inpaint.schedule, inpaint.solver, settings.stage1_steps)
        if settings.drafts > 1 and settings.sketch_steps:
            check_steps(inpaint.schedule, SKETCH_SOLVER, settings.sketch_steps)
    if settings.stage2:
        check_steps(restoration.schedule, restoration.solver, settings.stage2_steps)


_T = TypeVar("_T")


def _choose(value: _T | None, default: _T) -> _T:
    return default if value is None else value
