"""`grefine-export ip-iqa`: a trained IP-IQA joins a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grefine_export.choices import Weights


def ip_iqa(
    weights: Annotated[
        Path,
        typer.Option(
            help="`ip_iqa.safetensors` of `learn ip-iqa`, or a checkpoint that the authors' public training code saved."
        ),
    ],
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle that it joins, changed in place.")],
    clip: Annotated[
        str | None,
        typer.Option(
            help="CLIP RN50, which the authors' checkpoint was trained from and takes its frozen weights of: in any "
            "form that `clip` takes, or its hub id.",
            show_default=False,
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(help="Input side in pixels, a multiple of 32; what it was trained on by default."),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder or file of CLIP's tokenizer; the one beside the weights, or beside --clip, by default."
        ),
    ] = None,
    precision: Annotated[Weights, typer.Option(help="How weights are stored.")] = "fp16",
    origin: Annotated[
        str | None,
        typer.Option(help="What the weights were trained on, for the manifest.", show_default=False),
    ] = None,
    license: Annotated[str, typer.Option(help="Licence of the weights.")] = "unknown",
) -> None:
    """Add IP-IQA to a bundle: three graphs, its tokenizer, and its place in bundle.json."""
    from grefine_export.onnx.ip_iqa import add_to_bundle, read_weights
    from grefine_export.onnx.parity import ParityError
    from grefine_rt.errors import GRefineError

    try:
        trained = read_weights(weights, clip, tokenizer)
        _, errors = add_to_bundle(
            trained.model,
            bundle,
            resolution or trained.resolution,
            trained.tokenizer,
            length=trained.length,
            weights=precision,
            origin=origin or trained.origin,
            license_name=license,
        )
    except (ValueError, OSError, GRefineError, ParityError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for name, relative in errors.items():
        typer.echo(f"{name}: relative error {relative:.1e}")
