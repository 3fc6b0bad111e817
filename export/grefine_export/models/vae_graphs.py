"""The autoencoder of a published model as the two graphs of a bundle, and whether a precision can hold it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from grefine_export.models.vae import Vae

MAGNITUDES = (1.0, 4.0, 10.0)
"""Magnitudes of latents that a decoder must survive; pictures' latents lie within about 4."""


class Encode(nn.Module):
    """`image` (b, 3, H, W) in [-1, 1] -> `latent` (b, c, H/8, W/8); both float32, whatever the weights are."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, image: Tensor) -> Tensor:
        return self.vae.encode(image.to(self.vae.kl.dtype)).float()


class Decode(nn.Module):
    """`latent` -> `image`, as `Encode`."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, latent: Tensor) -> Tensor:
        return self.vae.decode(latent.to(self.vae.kl.dtype)).float()


def as_vae(kl: AutoencoderKL) -> Vae:
    """`kl` with its scaling factor: nothing of it is copied."""
    # A configuration may hold what this version of diffusers does not know, which it then ignores.
    known = inspect.signature(AutoencoderKL.__init__).parameters.keys() - {"in_channels", "out_channels"}
    with torch.device("meta"):
        vae = Vae({name: value for name, value in kl.config.items() if name in known})
    vae.kl, vae.scaling = kl, torch.tensor(float(kl.config.scaling_factor))
    return vae.eval()


def latent_channels(vae: Vae) -> int:
    """Channels of its latents: 4 in Stable Diffusion and SDXL, 16 in the embedded stage 1."""
    return int(vae.kl.config.latent_channels)


def extreme_latents(channels: int) -> Iterator[Tensor]:
    """Latents (3, channels, 8, 8) of each of MAGNITUDES: random, and all of one sign."""
    noise = torch.randn(channels, 8, 8, generator=torch.Generator().manual_seed(5))
    one = torch.ones_like(noise)
    for magnitude in MAGNITUDES:
        yield magnitude * torch.stack([noise, one, -one])


def peak_activation(decoder: Decode) -> float:
    """The largest magnitude that any layer of `decoder` (float32) puts out for extreme latents.

    A CPU shows nothing else: its runtimes compute half precision in single, where nothing overflows.
    """
    peaks = [0.0]

    def note(_module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            peaks.append(float(output.abs().max()))

    hooks = [module.register_forward_hook(note) for module in decoder.modules()]
    with torch.no_grad():
        for latents in extreme_latents(latent_channels(decoder.vae)):
            decoder(latents)
    for hook in hooks:
        hook.remove()
    return float(np.max(peaks))  # NaN where there is one
