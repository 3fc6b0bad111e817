"""`grefine-rt assess`: the quality of a picture and its poor places; nothing is changed."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grefine_rt.assess.options import PANEL
from grefine_rt.cli import options as shared
from grefine_rt.cli.method import takes
from grefine_rt.cli.output import console, print_json, say_notes, status
from grefine_rt.plan.options import WHERE, RefineOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from grefine_rt.assess.indicator import Assessment
    from grefine_rt.assessor import Assessor
    from grefine_rt.cli.pictures import Prompted
    from grefine_rt.plan.plan import RefinePlan
    from grefine_rt.report.report import ReportData

_ShowPrompt = Annotated[
    bool, typer.Option("--show-prompt", help="Say which prompt the picture has, and where; assess nothing.")
]


@takes(RefineOptions, panels=(PANEL, WHERE))
def assess(
    image: shared.Image,
    prompt: shared.Prompt = None,
    show_prompt: _ShowPrompt = False,
    bundle: shared.Bundle = "mini",
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    report: shared.Report = None,
    maps: shared.Maps = None,
    overwrite: shared.Overwrite = False,
    as_json: shared.Json = False,
    *,
    options: RefineOptions,
) -> None:
    """Say how good a picture is, how well it shows its prompt, and where refining would redraw it."""
    status(f"Reading {image}")  # before imports that take a while
    from grefine_rt.assessor import Assessor
    from grefine_rt.cli import pictures
    from grefine_rt.cli.outputs import Outputs
    from grefine_rt.plan.limits import Limits
    from grefine_rt.plan.make import make_plan, shown
    from grefine_rt.refiner import run_id
    from grefine_rt.report import answers

    picture, load_ms = pictures.read_picture(image)
    told = pictures.read_prompt(image, prompt, None, picture)
    if show_prompt:
        _show_prompt(image, told, as_json)
        return
    stem = "stdin" if image == pictures.STREAM else image.stem
    if report is not None and report.is_dir():
        report = report / f"{stem}.html"
    outputs = Outputs(None, report, maps, stem, overwrite=overwrite)
    outputs.check([image, *told.files] if image != pictures.STREAM else told.files)

    status(f"Loading {bundle}")
    with Assessor.load(bundle, device, threads) as assessor:
        manifest = assessor.bundle.manifest
        run = "assess-" + run_id(picture, told.prompt, 0, options, manifest, Limits())
        outputs.check_run(run)
        status("Assessing")
        start = time.perf_counter()
        result = assessor.assess(picture, told.prompt, options.assess)
        assessed = time.perf_counter()
        plan = make_plan(result, manifest, options.plan) if manifest.refines else None
        result = shown(result, plan) if plan else result
        ms = {"assess": 1000 * (assessed - start), "plan": 1000 * (time.perf_counter() - assessed)}
        timings = {"load": load_ms, **ms, "total": load_ms + sum(ms.values())}
        written = outputs.write_maps(picture.rgb, answers.all_maps(result, plan.mask if plan else None), run)
        notes = (*told.notes, *picture.notes, *result.notes)
        if plan is None:
            notes = (*notes, f"Bundle '{manifest.name}' only assesses, so no refining is planned.")
        about = pictures.about(assessor, image)
        data = _report(picture.to_pil(), told.prompt, result, plan, timings, about, notes)
        written += outputs.write_report(data, run)
        say_notes(notes)
        if as_json:
            print_json(_json(assessor, image, told, result, plan, timings))
            return
    _show(result, plan, timings, written)


def _report(
    picture: "Image.Image",
    prompt: str,
    result: "Assessment",
    plan: "RefinePlan | None",
    timings: dict[str, float],
    about: "Mapping[str, object]",
    notes: tuple[str, ...],
) -> "ReportData":
    from grefine_rt.plan.reasons import cost_reasons
    from grefine_rt.report import answers
    from grefine_rt.report.report import ReportData

    return ReportData(
        prompt=prompt,
        image=picture,
        before=result,
        mask=plan.mask if plan else None,
        reasons=(*plan.reasons, *cost_reasons(plan)) if plan else (),
        timings=timings,
        about={**about, **answers.domain_fact(result)},
        notes=notes,
    )


def _json(
    assessor: "Assessor",
    image: Path,
    told: "Prompted",
    result: "Assessment",
    plan: "RefinePlan | None",
    timings: dict[str, float],
) -> dict[str, object]:

    from grefine_rt.report import answers

    return {
        "input": str(image),
        "prompt": told.prompt,
        **({"prompt_source": told.source} if told.notes else {}),
        "seed": None,  # assessing draws no noise
        "bundle": assessor.bundle.manifest.name,
        "device": answers.device_of(assessor),
        "backends": answers.backends_json(assessor),
        "before": answers.scores_json(result),
        "phrases": answers.phrases_json(result),
        **answers.domain_json(result),
        "mask": answers.mask_json(plan) if plan else None,
        "timings_ms": timings,
    }


def _show(
    result: "Assessment", plan: "RefinePlan | None", timings: dict[str, float], written: list[Path]
) -> None:
    from grefine_rt.cli import pictures
    from grefine_rt.plan.reasons import cost_reasons

    out = console()
    out.print(pictures.scores_table(result))
    if result.phrases:
        out.print(pictures.phrases_table(result))
    if result.domain is not None:
        out.print(result.domain.picture_sentence, soft_wrap=True)
    if plan is not None:
        out.print("Refining would do this:")
        for reason in (*plan.reasons, *cost_reasons(plan)):
            out.print(f"- {reason}", soft_wrap=True)
    out.print(f"\n{pictures.time_line(timings)}", soft_wrap=True)
    for path in written:
        out.print(f"written: {path}", soft_wrap=True)


def _show_prompt(image: Path, told: "Prompted", as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "input": str(image),
                "prompt": told.prompt,
                "negative": told.negative,
                "seed": told.seed,
                "prompt_source": told.source,
            }
        )
        return
    out = console()
    said = {"prompt": told.prompt, "negative": told.negative, "seed": told.seed, "from": told.source}
    for name, value in said.items():
        if value not in (None, ""):
            out.print(f"{name + ':':<10}{value}", soft_wrap=True)
