"""The outcome of `grefine-rt refine`: as JSON, as tables, as a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from grefine_rt.cli import pictures
from grefine_rt.cli.output import console
from grefine_rt.plan.change import alternatives
from grefine_rt.plan.reasons import cost_reasons, cost_words
from grefine_rt.report import answers
from grefine_rt.report.report import ReportData

if TYPE_CHECKING:
    from grefine_rt.assess.indicator import Assessment
    from grefine_rt.cli.outputs import Outputs
    from grefine_rt.cli.pictures import Prompted
    from grefine_rt.imaging.image import Picture
    from grefine_rt.plan.costs import PlanCosts
    from grefine_rt.plan.plan import RefinePlan
    from grefine_rt.refiner import Refiner, RefineResult


def plan_json(
    refiner: Refiner,
    image: Path,
    told: Prompted,
    before: Assessment,
    plan: RefinePlan,
    costs: PlanCosts | None,
    notes: tuple[str, ...],
) -> dict[str, object]:
    """The facts that are known before anything is drawn; `crops` if stage 1 works on parts of the picture; `tflop`, and
    its values for other options, if the bundle tells its graphs' costs."""
    return {
        "input": str(image),
        "prompt": told.prompt,
        **({"prompt_source": told.source} if told.notes else {}),
        **({"negative": told.negative} if told.negative else {}),
        "bundle": refiner.bundle.manifest.name,
        "device": answers.device_of(refiner),
        "backends": answers.backends_json(refiner),
        "before": answers.scores_json(before),
        "phrases": answers.phrases_json(before),
        **answers.domain_json(before),
        "mask": answers.mask_json(plan),
        "reasons": list(plan.reasons),
        "notes": list(notes),
        "plan": answers.steps_json(plan, costs),
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
        "after": answers.scores_json(result.after),
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
    maps = answers.all_maps(result.before, plan.mask, result.after)
    written = outputs.write_maps(picture.rgb, maps, result.run)
    stage1_steps, stage2_steps = answers.steps(plan)
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
            about=pictures.about(refiner, image, result.seed) | answers.domain_fact(result.before),
            notes=notes,
        ),
        result.run,
    )


def show(
    result: RefineResult, written: list[Path], notes: tuple[str, ...], heading: str, stderr: bool
) -> None:
    """For people: a heading where there is one, the summary, scores, phrases, reasons, notes, costs, time, files."""
    out = console(stderr)
    if heading:
        out.print(heading, soft_wrap=True)
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
    """Print a plan for people: its work, and its costs with other options."""
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
