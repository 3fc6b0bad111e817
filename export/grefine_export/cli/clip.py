"""`grefine-export clip`: a bundle that assesses, from a CLIP checkpoint of any form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from grefine_export.choices import Attention, Weights

_Checkpoint = Annotated[
    str,
    typer.Option(
        help="OpenAI's CLIP ViT-B/16, ViT-B/32, ViT-L/14 or RN50: an OpenAI .pt, a safetensors file of open_clip "
        "or transformers, the folder of either, or a hub id such as openai/clip-vit-base-patch16."
    ),
]
_Out = Annotated[Path, typer.Option(help="Folder of the new bundle.")]
_Size = Annotated[
    int | None,
    typer.Option(help="Input side in pixels, such as 224, 336 or 512; the checkpoint's own by default."),
]
_Weights = Annotated[Weights, typer.Option(help="How weights are stored.")]
_Compute = Annotated[
    Weights,
    typer.Option(help="fp16: half precision throughout, for GPUs and TensorRT engines; fp32 for CPUs."),
]
_Batch = Annotated[
    str, typer.Option(help="Pictures at a time: N for a fixed number, MIN..MAX for any in between.")
]
_Contexts = Annotated[
    Path | None,
    typer.Option(
        help="Folder of learned prompt contexts: those that the authors of G-Refine published (PQ-overall.pth, "
        "...; for ViT-B/16) or your own. Without it CLIP-IQA's pairs of antonyms serve."
    ),
]
_Attention = Annotated[
    Attention | None,
    typer.Option(help="Attention of the second path; vv, as the authors' code runs, by default."),
]
_Tokenizer = Annotated[
    Path | None,
    typer.Option(
        help="Folder or file of CLIP's tokenizer (tokenizer.json, vocab.json with merges.txt, or "
        "bpe_simple_vocab_16e6.txt.gz), where none lies beside the checkpoint."
    ),
]
_License = Annotated[str, typer.Option(help="Licence of the checkpoint; OpenAI's CLIP has MIT.")]
_ContextsLicense = Annotated[
    str, typer.Option(help="Licence of the contexts; the published ones have Apache-2.0.")
]


def clip(
    checkpoint: _Checkpoint,
    out: _Out,
    size: _Size = None,
    weights: _Weights = "fp16",
    compute: _Compute = "fp32",
    batch: _Batch = "1..8",
    contexts: _Contexts = None,
    attention: _Attention = None,
    tokenizer: _Tokenizer = None,
    license: _License = "MIT",
    contexts_license: _ContextsLicense = "Apache-2.0",
) -> None:
    """Make a bundle that assesses pictures with a real CLIP: quality, its map, and alignment with a prompt."""
    from grefine_export.checkpoints import locate, public_name
    from grefine_export.clip_bundle import make_bundle
    from grefine_export.onnx.parity import ParityError
    from grefine_rt.errors import GRefineError

    try:
        manifest = make_bundle(
            out,
            locate(checkpoint),
            public_name(checkpoint),
            license,
            typer.echo,
            size=size,
            attention=attention,
            tokenizer=tokenizer,
            contexts=contexts,
            contexts_license=contexts_license,
            weights=weights,
            compute=compute,
            batch=batch,
        )
    except (ValueError, OSError, GRefineError, ParityError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error
    typer.echo(f"{manifest.description} Bundle: {out}")
