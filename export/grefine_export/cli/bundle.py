"""`grefine-export bundle`: a complete, verified bundle from a recipe, in one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grefine_export.choices import Operators

Replacement = Annotated[
    str | None, typer.Option(help="File, folder or hub id in place of the recipe's.", show_default=False)
]


_Recipe = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="mini, sdxl-pasd, sdxl-pasd-light, sdxl-lcm-pasd, or the path of your own TOML file.",
        show_default=False,
    ),
]
_Out = Annotated[Path, typer.Option(help="Folder of the new bundle.", show_default=False)]
_IpIqa = Annotated[
    str | None,
    typer.Option(help="Folder of `learn ip-iqa`; the assessor joins the bundle.", show_default=False),
]
_Operators = Annotated[
    Operators | None,
    typer.Option(
        help="Of the graphs of both stages, in place of the recipe's. portable: for every backend; "
        "onnxruntime-cuda: for ONNX Runtime CUDA alone, fewer and larger kernels.",
        show_default=False,
    ),
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print the estimate.")]


def bundle(
    recipe: _Recipe,
    out: _Out,
    clip: Replacement = None,
    ip_iqa: _IpIqa = None,
    inpaint: Replacement = None,
    vae: Replacement = None,
    lora: Replacement = None,
    restore: Replacement = None,
    base: Replacement = None,
    operators: _Operators = None,
    dry_run: _DryRun = False,
) -> None:
    """Make the bundle of a recipe: fetch its checkpoints, export every graph, count costs, verify.

    An estimate of downloads, disk and time comes first. A run that was broken off goes on where it stopped.
    """
    from grefine_export.assemble import assemble, written
    from grefine_export.estimate import describe, estimate
    from grefine_export.onnx.parity import ParityError
    from grefine_export.recipes import load, with_checkpoints, with_operators
    from grefine_rt.errors import GRefineError

    given = {
        "clip.checkpoint": clip,
        "ip_iqa.checkpoint": ip_iqa,
        "inpaint.checkpoint": inpaint,
        "inpaint.vae": vae,
        "inpaint.lora": lora,
        "restore.checkpoint": restore,
        "restore.base": base,
    }
    try:
        chosen = with_checkpoints(load(recipe), {place: source for place, source in given.items() if source})
        if operators:
            chosen = with_operators(chosen, operators)
        if dry_run:
            typer.echo(
                "\n".join(describe(estimate(chosen, written(out)), trained=chosen.training is not None))
            )
            return
        manifest = assemble(chosen, out, typer.echo)
    except (ValueError, OSError, GRefineError, ParityError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{manifest.name} {manifest.version} is whole: {len(manifest.files)} files. Bundle: {out}")
