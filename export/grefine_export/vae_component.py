"""The autoencoder of a stage as its two components, in a precision that can hold it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from grefine_export.choices import Operators, Precision, VaePrecision
from grefine_export.models.fused_attention import fuse_attention
from grefine_export.models.pasd_attention import chunk_vae
from grefine_export.models.vae import Vae
from grefine_export.models.vae_graphs import (
    Decode,
    Encode,
    as_vae,
    extreme_latents,
    latent_channels,
    peak_activation,
)
from grefine_export.onnx.component import Job, number_bytes
from grefine_export.onnx.cuda_operators import on_cpu
from grefine_export.onnx.tiles import connect_tiles
from grefine_rt.contract import OTHERS

_FP16_LIMIT = 65504.0
_REMEDY = "give --vae-precision fp32 (vae_precision in a recipe), or for stage 1 an FP16-safe autoencoder with --vae"

Load = Callable[[], AutoencoderKL]


def precision_of(
    wanted: VaePrecision, unet: Precision, load: Load, otherwise: Precision, upcast: bool
) -> Precision:
    """`wanted`, and for "auto" "fp16" beside a UNet in half precision where the weights are safe for it, else
    `otherwise`.

    upcast: whether the checkpoint's own pipeline runs such autoencoders in single precision unless their configuration
    says otherwise, as SDXL's does: `force_upcast` is true in its own and false in ones mended for half precision.
    In any case the decoder's activations must stay below the limit of half precision.
    """
    if wanted != "auto":
        return wanted
    if unet != "fp16":
        return otherwise
    kl = load()
    if upcast and kl.config.get("force_upcast", True):
        return otherwise
    return "fp16" if peak_activation(Decode(as_vae(kl))) < _FP16_LIMIT else otherwise


def encode_job(
    load: Load, precision: Precision, side: int, tiled: bool, operators: Operators = "portable"
) -> Job:
    """`image` -> `latent`. side: of the largest picture or tile, in pixels, which bounds the attention's memory.
    tiled: larger pictures are worked on in tiles of that side, see `onnx.tiles`. operators: see `choices.Operators`; a
    tiled graph is made of portable ones whatever they are, for its tiles share values from inside of its norms."""
    operators = "portable" if tiled else operators
    axes = {"image": {0: "b", 2: "H", 3: "W"}}
    image, other = (
        torch.rand(*shape, generator=generator()) * 2 - 1 for shape in ((2, 3, 64, 96), (1, 3, 96, 64))
    )

    def finish(file: Path) -> None:
        if tiled:
            connect_tiles(file)

    encoder = Encode(_vae(load, precision, side, tiled, operators))
    return Job(encoder, {"image": image}, {"image": other}, ["latent"], axes, finish, operators)


def decode_job(
    load: Load, precision: Precision, side: int, tiled: bool, operators: Operators = "portable"
) -> Job:
    """`latent` -> `image`, as `encode_job`. Raises ValueError for an autoencoder that FP16 cannot hold."""
    operators = "portable" if tiled else operators
    decoder = Decode(_vae(load, precision, side, tiled, operators))
    if precision == "fp16" and not (peak := peak_activation(decoder)) < _FP16_LIMIT:
        raise ValueError(
            f"the autoencoder's activations reach {peak:.0f}, above what FP16 holds (65504): {_REMEDY}"
        )
    axes = {"latent": {0: "b", 2: "h", 3: "w"}}
    channels = latent_channels(decoder.vae)
    latent, other = (
        torch.randn(*shape, generator=generator()) for shape in ((2, channels, 8, 12), (1, channels, 12, 8))
    )

    def finish(file: Path) -> None:
        check_decoder(file)
        if tiled:
            connect_tiles(file)

    return Job(decoder, {"latent": latent}, {"latent": other}, ["image"], axes, finish, operators)


def check_decoder(file: Path) -> None:
    """Decode latents far beyond those of pictures. Raises ValueError when the graph gives anything but numbers."""
    import onnxruntime

    with on_cpu(file) as runnable:
        session = onnxruntime.InferenceSession(str(runnable), providers=["CPUExecutionProvider"])
    for latents in extreme_latents(session.get_inputs()[0].shape[1]):
        (image,) = session.run(None, {"latent": latents.numpy()})
        if not np.isfinite(image).all():
            raise ValueError(
                f"the decoder gives no numbers for latents of {float(latents.abs().max()):.0f}: {_REMEDY}"
            )


def _vae(load: Load, precision: Precision, side: int, tiled: bool, operators: Operators) -> Vae:
    kl = load()
    if operators == "portable":
        chunk_vae(kl, side, number_bytes(precision), OTHERS if tiled else 0)
    else:
        fuse_attention(kl)
    return as_vae(kl)


def generator() -> torch.Generator:
    """The source of all example inputs."""
    return torch.Generator().manual_seed(17)
