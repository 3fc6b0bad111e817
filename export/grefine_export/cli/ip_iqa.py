"""`grefine-export ip-iqa`: a trained IP-IQA joins a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def ip_iqa(
    weights: Annotated[Path, typer.Option(help="`ip_iqa.safetensors` of `learn ip-iqa`.")],
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle that it joins, changed in place.")],
    resolution: Annotated[
        int | None,
        typer.Option(help="Input side in pixels, a multiple of 32; what it was trained on by default."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="tokenizer.json; the one beside the weights by default.")
    ] = None,
    precision: Annotated[Literal["fp16", "fp32"], typer.Option(help="How weights are stored.")] = "fp16",
    origin: Annotated[
        str, typer.Option(help="What the weights were trained on, for the manifest.")
    ] = "trained with `grefine-export learn ip-iqa`",
    license: Annotated[str, typer.Option(help="Licence of the weights.")] = "unknown",
) -> None:
    """Add IP-IQA to a bundle: three graphs, its tokenizer, and its place in bundle.json."""
    from grefine_export.models.ip_iqa import load
    from grefine_export.onnx.ip_iqa import add_to_bundle
    from grefine_export.onnx.parity import ParityError
    from grefine_rt.errors import GRefineError

    try:
        model, trained_at = load(weights)
        source = tokenizer or weights.with_name("tokenizer.json")
        if not source.is_file():
            raise FileNotFoundError(f"there is no tokenizer '{source}': give --tokenizer")
        length = model.text.text_model.config.max_position_embeddings
        _, errors = add_to_bundle(
            model,
            bundle,
            resolution or trained_at,
            source,
            length=length,
            weights=precision,
            origin=origin,
            license_name=license,
        )
    except (ValueError, OSError, GRefineError, ParityError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    for name, error in errors.items():
        typer.echo(f"{name}: relative error {error:.1e}")
