"""`grefine-export blip`: a CLIP bundle whose alignment indicator is BLIP's, with the ImageReward scalar."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grefine_export.choices import Weights


def blip(
    checkpoint: Annotated[
        str,
        typer.Option(
            help="ImageReward.pt, the folder of a BLIP image-text-retrieval model of transformers, or the hub id of "
            "either (THUDM/ImageReward, Salesforce/blip-itm-large-coco)."
        ),
    ],
    clip: Annotated[Path, typer.Option(help="Bundle that everything else is taken from.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    projections: Annotated[
        str | None,
        typer.Option(
            help="A second BLIP, in the same forms, for the text encoder and both projections of the alignment map; "
            "--checkpoint then gives the image encoder and the reward."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            help="Folder or file of BERT's uncased tokenizer (tokenizer.json or vocab.txt, as of bert-base-uncased), "
            "where none lies beside the checkpoint, as with ImageReward."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(help="Input side in pixels, such as 224 or 384; the checkpoint's own by default."),
    ] = None,
    weights: Annotated[Weights, typer.Option(help="How weights are stored.")] = "fp16",
) -> None:
    """Replace the alignment indicator of a bundle by BLIP's; ImageReward's checkpoint adds its reward."""
    from grefine_export.blip_bundle import write_bundle
    from grefine_export.checkpoints import locate, public_name
    from grefine_export.models.blip import load_blip, read_wordpiece
    from grefine_export.onnx.parity import ParityError
    from grefine_rt.errors import GRefineError

    try:
        names = [checkpoint] + ([projections] if projections else [])
        paths = [locate(name) for name in names]
        image_side = load_blip(paths[0], size)
        text_side = load_blip(paths[1]) if projections else image_side
        beside = paths[-1] if paths[-1].is_dir() else paths[-1].parent
        wordpiece = read_wordpiece(tokenizer or beside, text_side.text)
        origins = [public_name(name) for name in names]
        manifest = write_bundle(
            out, clip, image_side, text_side, wordpiece, " and ".join(origins), weights, typer.echo
        )
    except (ValueError, OSError, GRefineError, ParityError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{manifest.description} Bundle: {out}")
