"""The options of a plan and of a refine call."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from grefine_rt.assess.options import AssessOptions
from grefine_rt.options import Checked, option
from grefine_rt.readings import WINDOW, ColorFix, Decoding, Joining, MissingRegion, Outside, Redraw
from grefine_rt.readings import StrengthRule as StrengthRule

Indicator = Literal["perceptual", "alignment"]
Stage = Literal[1, 2]
Cropping = Literal["auto", "off"]
Work = Literal["trained", "native"]
Accept = Literal["regions", "off"]

MAX_DRAFTS = 64

WHERE = "What is redrawn (default: the bundle's own)"
STRENGTH = "Strength and steps (default: the bundle's own)"
SAVING = "What it may cost (default: the bundle's own)"
KEPT = "What is kept"
STAGES = "Stages"


@dataclass(frozen=True)
class PlanOptions(Checked):
    """Options of the plan; None means the bundle's own value (manifest, section `plan`).

    `docs/options.md` is the table of all options. Equations of G-Refine: `joining` and `missing_region` Eq. 6,
    `emphasis` Eq. 7, `tau`, `redraw`, `strength_rule` and `delta` Eq. 9, `stage1_steps` and `stage2_steps` Eq. 10;
    `indicators` and `stages` are the rows of Table 8.
    """

    tau: float | Literal["otsu"] | None = option(
        None,
        "How bad a place must be, in its looks and by the prompt together, to be redrawn; otsu finds the bound itself.",
        within=(0, 2),
        panel=WHERE,
    )
    strength_min: float | None = option(
        None,
        "Lowest strength of stage 1, by the rule deficit.",
        within=(0, 1),
        panel=STRENGTH,
        advanced=True,
    )
    strength_max: float | None = option(
        None,
        "Highest strength of stage 1, by the rule deficit.",
        within=(0, 1),
        panel=STRENGTH,
        advanced=True,
    )
    strength_rule: StrengthRule | None = option(
        None,
        "Strength of stage 1: deficit, the worse the picture the stronger; printed, the reverse, as in the paper.",
        panel=STRENGTH,
        reading=True,
    )
    joining: Joining | None = option(
        None,
        "How the regions of phrases join.",
        more="union: what any phrase calls for, so nothing where nothing is wrong. product: what all of them call "
        "for, as the paper prints it.",
        panel=WHERE,
        reading=True,
    )
    missing_region: MissingRegion | None = option(
        None,
        "Where a missing thing is drawn.",
        more="ancestor: at its nearest ancestor that is in the picture, as the paper's text says. printed: at its own "
        "map, as the paper prints it. free: in a compact window where no thing that was found is. Whatever has no such "
        "place goes to a free window.",
        panel=WHERE,
        reading=True,
    )
    window: float = option(
        WINDOW,
        "How much a missing thing without a region may take.",
        within=(0, 1),
        positive=True,
        unit="share of the picture",
        panel=WHERE,
        advanced=True,
    )
    grow: float | None = option(
        None,
        "By how much the mask grows.",
        more="A latent cell is 8 pixels at work resolution.",
        within=(0, 64),
        unit="latent cells",
        panel=WHERE,
        advanced=True,
    )
    feather: float | None = option(
        None,
        "Width of the soft rim outside the mask.",
        within=(0, 64),
        unit="latent cells",
        panel=WHERE,
        advanced=True,
    )
    min_area: float | None = option(
        None,
        "Smaller regions are left alone.",
        within=(0, 1),
        unit="share of the picture",
        panel=WHERE,
        advanced=True,
    )
    p_bound: float | None = option(
        None,
        "In a picture that looks better than this nothing is redrawn for its looks; 1 always looks for poor places.",
        within=(0, 1),
        panel=WHERE,
        advanced=True,
    )
    redraw: Redraw | None = option(
        None,
        "What stage 1 redraws for its looks: all that is poor, or only what is misshapen.",
        more="Misshapen is where shapes that make no sense are the worst of its faults. The rest (blur, noise, wrong "
        "colours) is then left to stage 2, whose business it is; without a stage 2 all that is poor is redrawn.",
        panel=WHERE,
        reading=True,
    )
    restore_first: bool = option(
        True,
        "Where damage may be why a phrase was not found, run stage 2 first and look again.",
        more="That is where only phrases call for stage 1, and more than a fifth of their places is left to stage 2 as "
        "poor. What is still to redraw is decided on what stage 2 gives.",
        panel=STAGES,
        reading=True,
    )
    keep_good: bool = option(
        True,
        "Give a good picture back as it is where stage 2 would make it look worse.",
        more="A good picture is one that looks better than p_bound and in which stage 1 drew nothing. The paper has no "
        "such rule, and its ablations, which leave a stage or an indicator out, do without.",
        panel=KEPT,
        reading=True,
    )
    accept: Accept = option(
        "regions",
        "Keep a stage's change region by region where it helped and nothing sound was lost; off keeps all of it.",
        more="Helped means that it looks better there or shows the prompt better. off is the paper's own flow.",
        panel=KEPT,
        reading=True,
    )
    emphasis: float = option(
        0.1,
        "Weight added in the prompt to each phrase that is missing or looks different.",
        within=(0, 64),
        panel=STRENGTH,
        advanced=True,
    )
    indicators: tuple[Indicator, ...] = option(
        ("perceptual", "alignment"),
        "What counts: how the picture looks (perceptual), how well it shows its prompt (alignment), or both.",
        panel=WHERE,
        flag="--only",
    )
    stages: tuple[Stage, ...] = option(
        (1, 2),
        "Stages to run: 1 regenerates regions, 2 restores all.",
        panel=STAGES,
    )
    full_image: bool = option(
        False,
        "Stage 1 redraws the whole picture, without a mask.",
        panel=STAGES,
    )
    stage1_steps: int | None = option(
        None,
        "Steps of stage 1 at strength 1.",
        within=(1, 1000),
        panel=STRENGTH,
    )
    stage2_steps: int | None = option(
        None,
        "Steps of stage 2 at strength 1.",
        within=(1, 1000),
        panel=STRENGTH,
    )
    drafts: int | None = option(
        None,
        "How often stage 1 draws at most; the draft that scores best is kept.",
        more="Where none scores above the picture itself, the picture is kept.",
        within=(1, MAX_DRAFTS),
        panel=SAVING,
    )
    sketch_steps: int | None = option(
        None,
        "Steps of the sketches by which drafts are chosen; 0 finishes every draft.",
        more="Only the best of several drafts is then drawn with all steps.",
        within=(0, 1000),
        panel=SAVING,
        advanced=True,
    )
    all_drafts: bool = option(
        False,
        "Make every draft, even after one in which nothing is left to redraw.",
        more="Such a draft scores above the picture itself, misses no phrase, and looks better than p_bound.",
        panel=SAVING,
        advanced=True,
    )
    work: Work = option(
        "trained",
        "Stage 2 at the size it was trained at, or at the picture's own, in tiles.",
        more="trained costs the same for every picture; native restores its finest detail.",
        panel=SAVING,
    )
    interval: tuple[float, float] | None = option(
        None,
        "Shares of stage 1's steps between which it is guided; the others cost half.",
        within=(0, 1),
        panel=SAVING,
        advanced=True,
    )
    crop: Cropping | None = option(
        None,
        "auto: stage 1 works on crops around the mask where that costs less.",
        more="The default is auto for a bundle that says how small a crop may be.",
        panel=SAVING,
    )
    context: float = option(
        0.125,
        "What a crop shows around its regions.",
        within=(0, 1),
        unit="share of the model's resolution",
        panel=SAVING,
        advanced=True,
    )
    delta: float | None = option(
        None,
        "Strength of stage 2.",
        within=(0, 1),
        panel=STRENGTH,
    )
    negative: str = option(
        "",
        "What neither stage should draw, with weights as in a prompt.",
        more="The empty text is the bundle's own. `--negative` of the command line also reads it from files.",
        flag=None,
    )


@dataclass(frozen=True)
class RefineOptions(Checked):
    """All options of a refine call. `plan` is ignored when a plan is given; None means the bundle's own.

    `docs/options.md` is the table of all options.
    """

    assess: AssessOptions = field(default_factory=AssessOptions)
    plan: PlanOptions = field(default_factory=PlanOptions)
    decoding: Decoding | None = option(
        None,
        "How stage 2 returns to pixels.",
        more="plain: what the decoder gives. difference: the picture with what stage 2 changed, so that nothing else "
        "changes. quality: as difference where the picture is good, as plain where it is poor.",
        panel=KEPT,
        reading=True,
    )
    match_rim: bool = option(
        True,
        "Match the tint of what stage 1 drew to its surroundings.",
        panel=KEPT,
        reading=True,
    )
    color_fix: ColorFix | None = option(
        None,
        "Where stage 2 takes its colours from the picture: where that is good, everywhere, nowhere.",
        panel=KEPT,
        reading=True,
    )
    outside: Outside = option(
        "refuse",
        "What to do with a picture unlike those that the bundle was made for.",
        more="refuse: nothing is written. refine: it is refined all the same, and result and report say so.",
        panel=KEPT,
    )
