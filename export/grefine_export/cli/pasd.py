"""`grefine-export pasd`: stage 2 from a published PASD joins a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grefine_export.choices import Operators, Precision, VaePrecision
from grefine_rt.solvers import PathSolver


def pasd(
    checkpoint: Annotated[
        str,
        typer.Option(
            help="PASD or PASD-light: the folder with unet and controlnet, such as runs/pasd/checkpoint-100000, or a "
            "hub id."
        ),
    ],
    base: Annotated[
        str,
        typer.Option(
            help="Stable Diffusion 1.5 or a fine-tune, for autoencoder, text encoder and tokenizer: a diffusers "
            "folder, a .safetensors or .ckpt file, or a hub id."
        ),
    ],
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle that it joins, changed in place.")],
    personalised: Annotated[
        bool, typer.Option("--personalised", help="Take the weights of the UNet itself from the base too.")
    ] = False,
    resolution: Annotated[int, typer.Option(help="Side of the work picture in pixels.")] = 1024,
    tile: Annotated[int, typer.Option(help="Side above which it works in tiles; 0 for never.")] = 1024,
    steps: Annotated[int, typer.Option(help="Steps of the schedule.")] = 10,
    delta: Annotated[
        float, typer.Option(help="Strength: the last int(steps * delta) of them are run.")
    ] = 0.2,
    solver: Annotated[PathSolver, typer.Option(help="Solver.")] = "dpm++2m",
    guidance: Annotated[float, typer.Option(help="Guidance; 1 halves the work.")] = 9.0,
    conditioning_scale: Annotated[float, typer.Option(help="Factor of the ControlNet's features.")] = 1.0,
    unet_precision: Annotated[
        Precision,
        typer.Option(help="fp16: half precision, for GPUs; fp16-storage: half on disk, single in use; fp32."),
    ] = "fp16",
    text_precision: Annotated[Precision, typer.Option(help="Likewise, of the text encoder.")] = "fp16",
    vae_precision: Annotated[
        VaePrecision, typer.Option(help="auto: fp16 beside an fp16 UNet where the weights allow it.")
    ] = "auto",
    tokenizer: Annotated[
        str, typer.Option(help="Tokenizer's folder or file, for a base that is a single file.")
    ] = "",
    operators: Annotated[
        Operators,
        typer.Option(
            help="portable: for every backend; onnxruntime-cuda: attention and group norms as ONNX Runtime's own CUDA "
            "operators, for no other backend."
        ),
    ] = "portable",
    origin: Annotated[str, typer.Option(help="What the weights are, for the manifest.")] = "",
    license: Annotated[str, typer.Option(help="Licence of the weights.")] = "unknown",
) -> None:
    """Add stage 2 to a bundle: PASD's UNet and ControlNet in one step, autoencoder, text encoder."""
    from grefine_export.onnx.parity import ParityError
    from grefine_export.pasd_bundle import RestoreOptions, add_restore
    from grefine_rt.errors import GRefineError

    options = RestoreOptions(
        unet_precision=unet_precision,
        text_precision=text_precision,
        vae_precision=vae_precision,
        personalised=personalised,
        tokenizer=tokenizer,
        resolution=resolution,
        steps=steps,
        delta=delta,
        solver=solver,
        guidance=guidance,
        conditioning_scale=conditioning_scale,
        tile=tile,
        operators=operators,
        origin=origin,
        license=license,
    )
    try:
        errors = add_restore(bundle, checkpoint, base, options, typer.echo)
    except (ValueError, OSError, GRefineError, ParityError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"stage 2 joined '{bundle}', relative error at most {max(errors.values()):.1e}")
