"""`grefine-rt refine`: repair a picture where it is poor or misses its prompt."""

from dataclasses import replace
from typing import Annotated

import typer

from grefine_rt.cli import options as shared
from grefine_rt.cli.method import takes
from grefine_rt.cli.output import status
from grefine_rt.errors import OptionError
from grefine_rt.plan.options import SAVING, STRENGTH, RefineOptions

_PlanOnly = Annotated[
    bool,
    typer.Option(
        "--plan-only",
        help="Say what would be done and what it costs; write nothing.",
        rich_help_panel=SAVING,
    ),
]
_Strength = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Strength of stage 1 instead of the rule's choice.",
        rich_help_panel=STRENGTH,
        show_default=False,
    ),
]


@takes(RefineOptions)
def refine(
    images: shared.Images,
    prompt: shared.Prompt = None,
    negative: shared.Negative = None,
    output: shared.Output = None,
    overwrite: shared.Overwrite = False,
    form: shared.Format = None,
    quality: shared.Quality = None,
    provenance: shared.Provenance = "keep",
    mask: shared.MaskFile = None,
    protect: shared.Protect = None,
    save_mask: shared.SaveMask = None,
    bundle: shared.Bundle = "mini",
    device: shared.Device = "auto",
    threads: shared.Threads = None,
    cuda_graphs: shared.CudaGraphs = False,
    seed: shared.Seed = 0,
    report: shared.Report = None,
    maps: shared.Maps = None,
    as_json: shared.Json = False,
    plan_only: _PlanOnly = False,
    strength: _Strength = None,
    *,
    options: RefineOptions,
) -> None:
    """Repair pictures where they are poor or miss their prompt.

    The result is a new file; the input is never changed.

    Example: grefine-rt refine in.png -p "a red house" -o out.png --report report.html
    """
    status(f"Reading {images[0]}")  # before imports that take a while
    from grefine_rt.cli.refining import Job, Paths, refine_all
    from grefine_rt.imaging.encode import Encoding

    encoding = Encoding(form, quality, provenance)
    paths = Paths(output, report, maps, mask, protect, save_mask, encoding, overwrite)
    options = _with_strength(options, strength)
    job = Job(images, prompt, negative, seed, options, paths, plan_only, as_json)
    refine_all(job, bundle, device, threads, cuda_graphs)


def _with_strength(options: RefineOptions, strength: float | None) -> RefineOptions:
    """The options with one strength of stage 1 for every picture. Raises OptionError beside another rule."""
    if strength is None:
        return options
    if options.plan.strength_rule is not None:
        raise OptionError("--strength and the reading 'strength_rule' exclude each other: give one of them.")
    plan = replace(options.plan, strength_min=strength, strength_max=strength, strength_rule="deficit")
    return replace(options, plan=plan)
