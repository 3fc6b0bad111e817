"""`grefine-rt refine`: repair a picture where it is poor or misses its prompt."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from grefine_rt.cli import options as shared

_FILES = "Files and masks"
_SAVING = "What it may cost (default: the bundle's own)"


def refine(
    images: shared.Images,
    prompt: shared.Prompt = None,
    negative: shared.Negative = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the result goes; the suffix says the format, - is standard output. Of several pictures a "
            "folder. Default: IMAGE's name with .refined before the suffix.",
            show_default=False,
        ),
    ] = None,
    overwrite: shared.Overwrite = False,
    form: Annotated[
        Literal["png", "jpeg", "jpg", "webp", "tiff", "avif"] | None,
        typer.Option("--format", help="Format of the result. Default: IMAGE's own.", rich_help_panel=_FILES),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=100,
            help="Of JPEG, WebP and AVIF. Default: JPEG 95, AVIF 90, WebP without loss.",
            rich_help_panel=_FILES,
            show_default=False,
        ),
    ] = None,
    provenance: Annotated[
        Literal["keep", "composite"],
        typer.Option(
            help="IPTC's digital source type: as it came, or composite with a model's work.",
            rich_help_panel=_FILES,
        ),
    ] = "keep",
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Redraw what is white in this picture, and change nothing else.",
            rich_help_panel=_FILES,
            show_default=False,
        ),
    ] = None,
    protect: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Never change what is white in this picture.",
            rich_help_panel=_FILES,
            show_default=False,
        ),
    ] = None,
    save_mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Write the mask that was used.",
            rich_help_panel=_FILES,
            show_default=False,
        ),
    ] = None,
    bundle: shared.Bundle = "mini",
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    cuda_graphs: shared.CudaGraphs = False,
    seed: Annotated[int, typer.Option(help="The same seed gives the same picture.")] = 0,
    report: shared.Report = None,
    maps: shared.Maps = None,
    as_json: shared.Json = False,
    only: shared.Only = None,
    stages: Annotated[
        Literal["1,2", "1", "2"],
        typer.Option(
            help="Stages to run: 1 regenerates regions, 2 restores all.", rich_help_panel=shared.ABLATIONS
        ),
    ] = "1,2",
    full_image: Annotated[
        bool,
        typer.Option(
            "--full-image",
            help="Stage 1 redraws the whole picture, without a mask.",
            rich_help_panel=shared.ABLATIONS,
        ),
    ] = False,
    stage1_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Steps of stage 1 at strength 1.",
            rich_help_panel=shared.STRENGTH,
            show_default=False,
        ),
    ] = None,
    stage2_steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1000,
            help="Steps of stage 2 at strength 1.",
            rich_help_panel=shared.STRENGTH,
            show_default=False,
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Strength of stage 1 instead of the rule's choice.",
            rich_help_panel=shared.STRENGTH,
            show_default=False,
        ),
    ] = None,
    drafts: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="How often stage 1 draws at most; the draft that scores best is kept.",
            rich_help_panel=_SAVING,
            show_default=False,
        ),
    ] = None,
    all_drafts: Annotated[
        bool,
        typer.Option(
            "--all-drafts",
            help="Make every draft, even after one in which nothing is left to redraw.",
            rich_help_panel=_SAVING,
        ),
    ] = False,
    sketch_steps: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Steps of the sketches by which drafts are chosen; 0 finishes every draft.",
            rich_help_panel=_SAVING,
            show_default=False,
        ),
    ] = None,
    interval: Annotated[
        tuple[float, float] | None,
        typer.Option(
            metavar="FROM TO",
            help="Shares of stage 1's steps between which it is guided; the others cost half.",
            rich_help_panel=_SAVING,
            show_default=False,
        ),
    ] = None,
    crop: Annotated[
        Literal["auto", "off"] | None,
        typer.Option(
            help="auto: stage 1 works on crops around the mask where that costs less.",
            rich_help_panel=_SAVING,
            show_default=False,
        ),
    ] = None,
    plan_only: Annotated[
        bool,
        typer.Option(
            "--plan-only",
            help="Say what would be done and what it costs; write nothing.",
            rich_help_panel=_SAVING,
        ),
    ] = False,
    delta: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Strength of stage 2.", rich_help_panel=shared.STRENGTH, show_default=False
        ),
    ] = None,
    tau: shared.Tau = None,
    strength_rule: Annotated[
        Literal["deficit", "printed"] | None,
        typer.Option(
            help="Eq. 9: the worse the picture the stronger, or as printed.",
            rich_help_panel=shared.READINGS,
            show_default=False,
        ),
    ] = None,
    redraw: Annotated[
        Literal["poor", "misshapen"] | None,
        typer.Option(
            help="Eq. 9: what P marks for stage 1, all that is poor or only what is misshapen.",
            rich_help_panel=shared.READINGS,
            show_default=False,
        ),
    ] = None,
    restore_first: Annotated[
        bool,
        typer.Option(
            help="Where damage may be why a phrase was not found, run stage 2 first and look again.",
            rich_help_panel=shared.READINGS,
        ),
    ] = True,
    keep_good: Annotated[
        bool,
        typer.Option(
            help="Give a good picture back as it is where stage 2 would lower p.",
            rich_help_panel=shared.READINGS,
        ),
    ] = True,
    joining: shared.Joining = None,
    missing_region: shared.MissingRegion = None,
    scoring: shared.Scoring = None,
    adjective_rule: shared.AdjectiveRule = "penalised",
    alignment_score: shared.AlignmentScore = "phrases",
    factors: shared.Factors = None,
    bounds: shared.Bounds = None,
    upsampling: shared.Upsampling = None,
    decoding: Annotated[
        Literal["plain", "difference", "quality"] | None,
        typer.Option(
            help="How stage 2 returns to pixels.", rich_help_panel=shared.READINGS, show_default=False
        ),
    ] = None,
    color_fix: Annotated[
        Literal["quality", "whole", "off"] | None,
        typer.Option(
            help="Where stage 2 takes its colours from the picture: where that is good, everywhere, nowhere.",
            rich_help_panel=shared.READINGS,
            show_default=False,
        ),
    ] = None,
    outside: Annotated[
        Literal["refuse", "refine"],
        typer.Option(help="What to do with a picture unlike those that the bundle was made for."),
    ] = "refuse",
    work: Annotated[
        Literal["trained", "native"],
        typer.Option(help="Stage 2 at the size it was trained at, or at the picture's own, in tiles."),
    ] = "trained",
) -> None:
    """Repair pictures where they are poor or miss their prompt.

    The result is a new file; the input is never changed.

    Example: grefine-rt refine in.png -p "a red house" -o out.png --report report.html
    """
    from grefine_rt.assess.indicator import AssessOptions
    from grefine_rt.cli import pictures
    from grefine_rt.cli.refining import Job, Paths, refine_all
    from grefine_rt.errors import OptionError
    from grefine_rt.imaging.encode import Encoding
    from grefine_rt.plan.options import PlanOptions
    from grefine_rt.refiner import RefineOptions

    if strength is not None and strength_rule is not None:
        raise OptionError("--strength and --strength-rule exclude each other: give one of them.")
    choices = RefineOptions(
        AssessOptions(scoring, adjective_rule, alignment_score, factors, bounds, upsampling),
        PlanOptions(
            tau=pictures.parse_tau(tau),
            strength_min=strength,
            strength_max=strength,
            strength_rule="deficit" if strength is not None else strength_rule,
            redraw=redraw,
            restore_first=restore_first,
            keep_good=keep_good,
            joining=joining,
            missing_region=missing_region,
            indicators=("perceptual", "alignment") if only is None else (only,),
            stages=tuple(int(stage) for stage in stages.split(",")),
            full_image=full_image,
            stage1_steps=stage1_steps,
            stage2_steps=stage2_steps,
            drafts=drafts,
            all_drafts=all_drafts,
            sketch_steps=sketch_steps,
            work=work,
            interval=interval,
            crop=crop,
            delta=delta,
        ),
        decoding,
        color_fix=color_fix,
        outside=outside,
    )
    paths = Paths(
        output, report, maps, mask, protect, save_mask, Encoding(form, quality, provenance), overwrite
    )
    refine_all(
        Job(images, prompt, negative, seed, choices, paths, plan_only, as_json),
        bundle,
        device,
        threads,
        cuda_graphs,
    )
