"""`grefine-export pasd`: stage 2 from a published PASD joins a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grefine_export.choices import Operators, Precision, VaePrecision
from grefine_rt.solvers import PathSolver

_Checkpoint = Annotated[
    str,
    typer.Option(
        help="PASD or PASD-light: the folder with unet and controlnet, such as runs/pasd/checkpoint-100000, or a "
        "hub id."
    ),
]
_Base = Annotated[
    str,
    typer.Option(
        help="Stable Diffusion 1.5 or a fine-tune, for autoencoder, text encoder and tokenizer: a diffusers "
        "folder, a .safetensors or .ckpt file, or a hub id."
    ),
]
_Bundle = Annotated[Path, typer.Option(help="Folder of the bundle that it joins, changed in place.")]
_Personalised = Annotated[
    bool, typer.Option("--personalised", help="Take the weights of the UNet itself from the base too.")
]
_Resolution = Annotated[int, typer.Option(help="Side of the work picture in pixels.")]
_Tile = Annotated[int, typer.Option(help="Side above which it works in tiles; 0 for never.")]
_Steps = Annotated[int, typer.Option(help="Steps of the schedule.")]
_Delta = Annotated[float, typer.Option(help="Strength: the last int(steps * delta) of them are run.")]
_Solver = Annotated[PathSolver, typer.Option(help="Solver.")]
_Guidance = Annotated[float, typer.Option(help="Guidance; 1 halves the work.")]
_ConditioningScale = Annotated[float, typer.Option(help="Factor of the ControlNet's features.")]
_UnetPrecision = Annotated[
    Precision,
    typer.Option(help="fp16: half precision, for GPUs; fp16-storage: half on disk, single in use; fp32."),
]
_TextPrecision = Annotated[Precision, typer.Option(help="Likewise, of the text encoder.")]
_VaePrecision = Annotated[
    VaePrecision, typer.Option(help="auto: fp16 beside an fp16 UNet where the weights allow it.")
]
_Tokenizer = Annotated[
    str, typer.Option(help="Tokenizer's folder or file, for a base that is a single file.")
]
_Operators = Annotated[
    Operators,
    typer.Option(
        help="portable: for every backend; onnxruntime-cuda: attention, norms and convolutions as ONNX Runtime's own "
        "CUDA operators, for no other backend."
    ),
]
_Origin = Annotated[str, typer.Option(help="What the weights are, for the manifest.")]
_License = Annotated[str, typer.Option(help="Licence of the weights.")]


def pasd(
    checkpoint: _Checkpoint,
    base: _Base,
    bundle: _Bundle,
    personalised: _Personalised = False,
    resolution: _Resolution = 1024,
    tile: _Tile = 1024,
    steps: _Steps = 10,
    delta: _Delta = 0.2,
    solver: _Solver = "dpm++2m",
    guidance: _Guidance = 9.0,
    conditioning_scale: _ConditioningScale = 1.0,
    unet_precision: _UnetPrecision = "fp16",
    text_precision: _TextPrecision = "fp16",
    vae_precision: _VaePrecision = "auto",
    tokenizer: _Tokenizer = "",
    operators: _Operators = "portable",
    origin: _Origin = "",
    license: _License = "unknown",
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
