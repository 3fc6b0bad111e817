"""What `grefine-rt refine` says of a run: as JSON, as tables, as a report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from grefine_rt.cli import pictures
from grefine_rt.cli.output import console
from grefine_rt.diffusion.solver import unet_calls
from grefine_rt.plan.change import alternatives
from grefine_rt.plan.reasons import cost_reasons, cost_words
from grefine_rt.report.report import ReportData

if TYPE_CHECKING:
    from grefine_rt.assess.indicator import Assessment
    from grefine_rt.cli.pictures import Outputs, Prompted
    from grefine_rt.imaging.image import Picture
    from grefine_rt.plan.costs import PlanCosts
    from grefine_rt.plan.plan import RefinePlan
    from grefine_rt.refiner import Refiner, RefineResult


def steps(plan: RefinePlan) -> tuple[int, int]:
    """Steps that stage 1 and stage 2 really ran, each time; 0 for a stage that was skipped."""
    return (
        unet_calls(plan.stage1_steps, plan.strength) if plan.regenerate else 0,
        unet_calls(plan.stage2_steps, plan.delta) if plan.restorations else 0,
    )


def plan_json(
    refiner: Refiner,
    image: Path,
    told: Prompted,
    before: Assessment,
    plan: RefinePlan,
    costs: PlanCosts | None,
    notes: tuple[str, ...],
) -> dict[str, object]:
    """What is known before anything is drawn; `crops` where stage 1 does not work on the whole picture; `tflop`, and
    what other options would make of it, where the bundle says what its graphs cost."""
    stage1_steps, stage2_steps = steps(plan)
    crops = [{"box": crop.box, "size": crop.size} for crop in plan.crops] if plan.cropped else None
    return {
        "input": str(image),
        "prompt": told.prompt,
        **({"prompt_source": told.source} if told.notes else {}),
        **({"negative": told.negative} if told.negative else {}),
        "bundle": refiner.bundle.manifest.name,
        "device": pictures.device_of(refiner),
        "backends": pictures.backends_json(refiner),
        "before": pictures.scores_json(before),
        "phrases": pictures.phrases_json(before),
        **pictures.domain_json(before),
        "mask": pictures.mask_json(plan),
        "reasons": list(plan.reasons),
        "notes": list(notes),
        "plan": {
            "stage1_steps": stage1_steps,
            "stage2_steps": stage2_steps,
            "strength": float(plan.strength),
            "restore_first": plan.restore_first or plan.restored,
            "keep_good": plan.keep_good,
            "prompt": plan.prompt,
            **({} if crops is None else {"crops": crops}),
            **(
                {}
                if costs is None
                else {"tflop": {**asdict(costs), "total": costs.total, "alternatives": alternatives(plan)}}
            ),
        },
    }


def result_json(
    refiner: Refiner,
    image: Path,
    output: Path,
    told: Prompted,
    result: RefineResult,
    notes: tuple[str, ...],
) -> dict[str, object]:
    """Everything about a run."""
    return {
        **plan_json(refiner, image, told, result.before, result.plan, result.costs, notes),
        "summary": result.summary,
        "output": str(output),
        "seed": result.seed,
        "after": pictures.scores_json(result.after),
        "timings_ms": result.timings,
    }


def write_more(
    refiner: Refiner,
    image: Path,
    picture: Picture,
    prompt: str,
    result: RefineResult,
    outputs: Outputs,
    notes: tuple[str, ...],
) -> list[Path]:
    """Maps and report, where they were asked for."""
    plan = result.plan
    maps = pictures.all_maps(result.before, plan.mask, result.after)
    written = outputs.write_maps(picture.rgb, maps)
    stage1_steps, stage2_steps = steps(plan)
    costs = result.costs
    return written + outputs.write_report(
        ReportData(
            prompt=prompt,
            summary=result.summary,
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
                + (", also before stage 1" if plan.restored else "")
                if stage2_steps
                else "skipped",
                "regions": len(plan.boxes),
                "prompt as drawn": plan.prompt,
                **({} if costs is None else {"compute": cost_words(costs)}),
            },
            reasons=plan.reasons,
            timings=result.timings,
            about=pictures.about(refiner, image, result.seed) | pictures.domain_fact(result.before),
            notes=notes,
        )
    )


def show(result: RefineResult, written: list[Path], notes: tuple[str, ...], stderr: bool) -> None:
    """For people: the summary, scores, phrases, reasons, notes, costs, time, files."""
    out = console(stderr)
    out.print(result.summary, soft_wrap=True)
    out.print(pictures.scores_table(result.before, result.after))
    if result.before.phrases:
        out.print(pictures.phrases_table(result.before, result.after))
    for reason in result.plan.reasons:
        out.print(f"- {reason}", soft_wrap=True)
    for note in notes:
        out.print(f"note: {note}", soft_wrap=True)
    if result.costs is not None:
        out.print(f"It took {cost_words(result.costs)}.", soft_wrap=True)
    out.print(f"\n{pictures.time_line(result.timings)}", soft_wrap=True)
    for path in written:
        out.print(f"written: {path}", soft_wrap=True)


def show_plan(before: Assessment, plan: RefinePlan, notes: tuple[str, ...]) -> None:
    """For people: what would be done, and what options would make of its costs."""
    out = console()
    out.print(pictures.scores_table(before))
    if before.phrases:
        out.print(pictures.phrases_table(before))
    for reason in (*plan.reasons, *cost_reasons(plan)):
        out.print(f"- {reason}", soft_wrap=True)
    for note in notes:
        out.print(f"note: {note}", soft_wrap=True)
    for option, tflop in alternatives(plan).items():
        out.print(f"  --{option.replace('_', '-')} makes it {tflop:.3g} TFLOP", soft_wrap=True)
