"""`grefine-export inpaint`: stage 1 of the refiner, SDXL of any form, joins a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grefine_export.choices import Operators, Precision, VaePrecision
from grefine_rt.contract import Prediction, Solver, Spacing

_Checkpoint = Annotated[
    str,
    typer.Option(
        help="SDXL-Inpainting or plain SDXL, any fine-tune: a diffusers folder, a safetensors file with the "
        "original names, or a hub id such as diffusers/stable-diffusion-xl-1.0-inpainting-0.1."
    ),
]
_Bundle = Annotated[Path, typer.Option(help="Folder of the bundle that it joins, changed in place.")]
_Unet = Annotated[
    str, typer.Option(help="Another UNet, such as a distilled one: folder, safetensors file or hub id.")
]
_Vae = Annotated[
    str,
    typer.Option(help="Another autoencoder, such as an FP16-safe one: folder, safetensors file or hub id."),
]
_Lora = Annotated[
    list[str] | None,
    typer.Option(help="FILE:SCALE, a LoRA to fuse and how strongly (1 if not given); may be repeated."),
]
_Tokenizer = Annotated[
    str,
    typer.Option(help="CLIP's tokenizer for a single-file checkpoint; the bundle's own by default."),
]
_UnetPrecision = Annotated[
    Precision,
    typer.Option(help="fp16: for GPUs; fp16-storage: half the file, computed in FP32, for CPUs; fp32."),
]
_TextPrecision = Annotated[Precision, typer.Option(help="As --unet-precision.")]
_VaePrecision = Annotated[
    VaePrecision,
    typer.Option(
        help="As --unet-precision; auto: fp16 beside an fp16 UNet for autoencoders that declare themselves safe "
        "(force_upcast false), else fp32."
    ),
]
_Solver = Annotated[
    Solver | None,
    typer.Option(help="The checkpoint's own by default."),
]
_Spacing = Annotated[
    Spacing | None,
    typer.Option(help="Which training steps a run visits; trailing for SDXL Lightning."),
]
_Prediction = Annotated[Prediction | None, typer.Option(help="What the UNet predicts.")]
_Steps = Annotated[int | None, typer.Option(help="Steps at full strength; 10, or 4 when distilled.")]
_Guidance = Annotated[
    float | None, typer.Option(help="7.5, or 1 when distilled: then a step costs one UNet pass, not two.")
]
_EmbeddedGuidance = Annotated[
    float, typer.Option(help="What a latent consistency UNet is told; becomes part of the graph.")
]
_Rescale = Annotated[float, typer.Option(help="Guidance rescale, 0 to 1.")]
_Interval = Annotated[
    tuple[float, float], typer.Option(help="Shares of the UNet calls between which guidance applies.")
]
_Drafts = Annotated[int, typer.Option(help="How many drafts stage 1 makes.")]
_Tile = Annotated[
    int, typer.Option(help="Side in pixels above which the autoencoder works in tiles; 0 for never.")
]
_Operators = Annotated[
    Operators,
    typer.Option(
        help="portable: for every backend; onnxruntime-cuda: attention, norms and convolutions as ONNX Runtime's own "
        "CUDA operators, for no other backend."
    ),
]
_Origin = Annotated[str, typer.Option(help="Origin of the weights, for the manifest.")]
_License = Annotated[str, typer.Option(help="Licence of the weights; by default that of SDXL.")]


def inpaint(
    checkpoint: _Checkpoint,
    bundle: _Bundle,
    unet: _Unet = "",
    vae: _Vae = "",
    lora: _Lora = None,
    tokenizer: _Tokenizer = "",
    unet_precision: _UnetPrecision = "fp16",
    text_precision: _TextPrecision = "fp16",
    vae_precision: _VaePrecision = "auto",
    solver: _Solver = None,
    spacing: _Spacing = None,
    prediction: _Prediction = None,
    steps: _Steps = None,
    guidance: _Guidance = None,
    embedded_guidance: _EmbeddedGuidance = 8.0,
    rescale: _Rescale = 0.0,
    interval: _Interval = (0.0, 1.0),
    drafts: _Drafts = 1,
    tile: _Tile = 1024,
    operators: _Operators = "portable",
    origin: _Origin = "",
    license: _License = "CreativeML Open RAIL++-M",
) -> None:
    """Add stage 1 of the refiner to a bundle: SDXL's text encoders, autoencoder and fused denoising step."""
    from grefine_export.inpaint_bundle import InpaintOptions, add_inpaint
    from grefine_export.models.lora import parse_lora
    from grefine_export.onnx.parity import ParityError
    from grefine_rt.errors import GRefineError

    try:
        options = InpaintOptions(
            unet_precision=unet_precision,
            text_precision=text_precision,
            vae_precision=vae_precision,
            unet=unet,
            vae=vae,
            loras=tuple(parse_lora(text) for text in lora or ()),
            tokenizer=tokenizer,
            solver=solver,
            spacing=spacing,
            prediction=prediction,
            steps=steps,
            guidance=guidance,
            embedded_guidance=embedded_guidance,
            rescale=rescale,
            interval=interval,
            drafts=drafts,
            tile=tile,
            operators=operators,
            origin=origin,
            license=license,
        )
        errors = add_inpaint(bundle, checkpoint, options, typer.echo)
    except (ValueError, OSError, GRefineError, ParityError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"Stage 1 is in {bundle}; largest relative error {max(errors.values()):.1e}.")
