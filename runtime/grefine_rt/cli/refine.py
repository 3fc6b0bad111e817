"""`grefine-rt refine`: repair a picture where it is poor or misses its prompt."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from grefine_rt.cli import options as shared
from grefine_rt.cli.output import cancelled_by_ctrl_c, console, print_json, progress, say_notes

if TYPE_CHECKING:
    from grefine_rt.assess.indicator import Assessment
    from grefine_rt.cli.pictures import Outputs
    from grefine_rt.imaging.image import Picture
    from grefine_rt.plan.costs import PlanCosts
    from grefine_rt.plan.make import RefinePlan
    from grefine_rt.refiner import Refiner, RefineResult

_SAVING = "What it may cost (default: the bundle's own)"

_PARTS = {
    "load": "Reading the picture",
    "assess_before": "Assessing",
    "plan": "Planning",
    "restore_first": "Stage 2: restoring first",
    "regenerate": "Stage 1: regenerating",
    "restore": "Stage 2: restoring",
    "assess_after": "Assessing again",
}


def refine(
    image: shared.Image,
    prompt: shared.Prompt = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the result goes; the suffix says the format. Default: IMAGE's name with "
            ".refined.png, which must not exist yet.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an older result under the default name.")
    ] = False,
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
    """Repair a picture where it is poor or misses its prompt.

    The result is a new file; the input is never changed.

    Example: grefine-rt refine in.png -p "a red house" -o out.png --report report.html
    """
    from grefine_rt.assess.indicator import AssessOptions
    from grefine_rt.cancel import CancelToken
    from grefine_rt.cli import pictures
    from grefine_rt.errors import Cancelled, OptionError, OutputError
    from grefine_rt.imaging.image import save
    from grefine_rt.plan.options import PlanOptions
    from grefine_rt.refiner import RefineOptions, Refiner

    picture, read_ms = pictures.read_picture(image)
    text, prompt_files = pictures.read_prompt(image, prompt)
    if strength is not None and strength_rule is not None:
        raise OptionError("--strength and --strength-rule exclude each other: give one of them.")
    choices = RefineOptions(
        AssessOptions(scoring, adjective_rule, alignment_score),
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
    if plan_only:
        with Refiner.load(bundle, device, threads, cuda_graphs) as refiner:
            assessment = refiner.assess(picture.to_pil(), text, choices.assess)
            plan = refiner.plan(assessment, options=choices.plan)
            say_notes((*picture.notes, *assessment.notes))
            if as_json:
                print_json(_plan_json(refiner, image, text, assessment, plan, plan.costs))
            else:
                _show_plan(assessment, plan)
        return
    target = output or image.with_name(f"{image.stem}.refined.png")
    if output is None and target.exists() and not force:
        raise OutputError(f'"{target}" exists already: add --force to replace it, or name another with -o.')
    outputs = pictures.Outputs(target, report, maps, image.stem)
    outputs.check([image, *prompt_files], alpha=picture.alpha is not None)

    token = CancelToken()
    with cancelled_by_ctrl_c(token), Refiner.load(bundle, device, threads, cuda_graphs) as refiner:
        with progress(_PARTS) as on_progress:
            result = refiner.refine(
                picture.to_pil(), text, seed, choices, on_progress=on_progress, cancel=token
            )
        for part in ("load", "total"):
            result.timings[part] += read_ms
        if token.cancelled:
            raise Cancelled("Cancelled before the result was written, as asked.")
        written = [save(result.image, target, not_over=[image, *prompt_files])]
        written += _write_more(refiner, image, picture, text, result, outputs)
        say_notes((*picture.notes, *result.notes))
        if as_json:
            print_json(_json(refiner, image, target, text, result))
        else:
            _show(result, written)


def _steps(plan: "RefinePlan") -> tuple[int, int]:
    """Steps that stage 1 and stage 2 really ran, each time; 0 for a stage that was skipped."""
    from grefine_rt.diffusion.solver import unet_calls

    return (
        unet_calls(plan.stage1_steps, plan.strength) if plan.regenerate else 0,
        unet_calls(plan.stage2_steps, plan.delta) if plan.restore or plan.restore_first else 0,
    )


def _plan_json(
    refiner: "Refiner",
    image: Path,
    prompt: str,
    before: "Assessment",
    plan: "RefinePlan",
    costs: "PlanCosts | None",
) -> dict[str, object]:
    """What is known before anything is drawn; `crops` where stage 1 does not work on the whole picture; `tflop`, and
    what other options would make of it, where the bundle says what its graphs cost."""
    from dataclasses import asdict

    from grefine_rt.cli import pictures

    stage1_steps, stage2_steps = _steps(plan)
    crops = [{"box": crop.box, "size": crop.size} for crop in plan.crops] if plan.cropped else None
    return {
        "input": str(image),
        "prompt": prompt,
        "bundle": refiner.bundle.manifest.name,
        "device": pictures.device_of(refiner),
        "backends": pictures.backends_json(refiner),
        "before": pictures.scores_json(before),
        "phrases": pictures.phrases_json(before),
        "domain": pictures.domain_json(before),
        "mask": pictures.mask_json(plan),
        "plan": {
            "stage1_steps": stage1_steps,
            "stage2_steps": stage2_steps,
            "strength": float(plan.strength),
            "restore_first": plan.restore_first,
            "keep_good": plan.keep_good,
            "prompt": plan.prompt,
            **({} if crops is None else {"crops": crops}),
            **(
                {}
                if costs is None
                else {"tflop": {**asdict(costs), "total": costs.total, "alternatives": plan.alternatives}}
            ),
        },
    }


def _json(
    refiner: "Refiner", image: Path, output: Path, prompt: str, result: "RefineResult"
) -> dict[str, object]:
    from grefine_rt.cli import pictures

    return {
        **_plan_json(refiner, image, prompt, result.before, result.plan, result.costs),
        "output": str(output),
        "seed": result.seed,
        "after": pictures.scores_json(result.after),
        "timings_ms": result.timings,
    }


def _write_more(
    refiner: "Refiner",
    image: Path,
    picture: "Picture",
    prompt: str,
    result: "RefineResult",
    outputs: "Outputs",
) -> list[Path]:
    from grefine_rt.cli import pictures
    from grefine_rt.plan.reasons import cost_words
    from grefine_rt.report.report import ReportData

    plan = result.plan
    maps = pictures.all_maps(result.before, plan.mask, result.after)
    written = outputs.write_maps(picture.rgb, maps)
    stage1_steps, stage2_steps = _steps(plan)
    costs = result.costs
    return written + outputs.write_report(
        ReportData(
            prompt=prompt,
            image=picture.to_pil(),
            before=result.before,
            result=result.image,
            after=result.after,
            mask=plan.mask,
            plan={
                "stage 1": f"{stage1_steps} steps at strength {plan.strength:.2f}"
                if stage1_steps
                else "skipped",
                "stage 2": f"{stage2_steps} steps at strength {plan.delta:.2f}"
                + (", also before stage 1" if plan.restore_first else "")
                if stage2_steps
                else "skipped",
                "regions": len(plan.boxes),
                "prompt": plan.prompt,
                **({} if costs is None else {"compute": cost_words(costs)}),
            },
            reasons=plan.reasons,
            timings=result.timings,
            about=pictures.about(refiner, image, result.seed) | pictures.domain_fact(result.before),
            notes=(*picture.notes, *result.notes),
        )
    )


def _show(result: "RefineResult", written: list[Path]) -> None:
    from grefine_rt.cli import pictures

    out = console()
    out.print(pictures.scores_table(result.before, result.after))
    if result.before.phrases:
        out.print(pictures.phrases_table(result.before, result.after))
    for reason in result.plan.reasons:
        out.print(f"- {reason}", soft_wrap=True)
    out.print(f"\n{pictures.time_line(result.timings)}", soft_wrap=True)
    for path in written:
        out.print(f"written: {path}", soft_wrap=True)


def _show_plan(before: "Assessment", plan: "RefinePlan") -> None:
    from grefine_rt.cli import pictures

    out = console()
    out.print(pictures.scores_table(before))
    if before.phrases:
        out.print(pictures.phrases_table(before))
    for reason in plan.reasons:
        out.print(f"- {reason}", soft_wrap=True)
    for option, tflop in plan.alternatives.items():
        out.print(f"  --{option.replace('_', '-')} makes it {tflop:.3g} TFLOP", soft_wrap=True)
