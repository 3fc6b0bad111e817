"""The variational autoencoder: diffusers' own AutoencoderKL, optionally behind a pixel unshuffle.

SDXL's and SD1.5's autoencoders are `patch=1`. The embedded bundle folds 4 x 4 pixels into channels first, so
that no convolution runs at full resolution; to the runtime both are `image -> latent -> image` at 8:1.

`shortcut` adds a linear autoencoder of the pixels of each latent cell beside the deep one, which then learns the
linear one's residual (the residual autoencoding of DC-AE, Chen et al., 2410.10733, with learned weights).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn


class Vae(nn.Module):
    """`image` (b, 3, H, W) in [-1, 1] <-> `latent` (b, c, H/8, W/8), scaled to about unit variance."""

    def __init__(self, config: dict[str, Any], patch: int = 1, shortcut: bool = False):
        super().__init__()
        self.patch = patch
        channels = 3 * patch * patch
        self.kl = AutoencoderKL(in_channels=channels, out_channels=channels, **config)
        self.register_buffer("scaling", torch.tensor(float(self.kl.config.scaling_factor)))
        latent = self.kl.config.latent_channels
        self.cell = patch * 2 ** (len(self.kl.config.block_out_channels) - 1)
        pixels = 3 * self.cell**2
        self.fold = nn.Conv2d(pixels, latent, 1) if shortcut else None
        self.unfold = nn.Conv2d(latent, pixels, 1) if shortcut else None

    @torch.no_grad()
    def begin_linear(self, images: Tensor) -> None:
        """Makes the shortcut the principal components of `images` (b, 3, H, W) in [-1, 1], with latents of unit
        variance, and silences the deep path, which training then wakes."""
        assert self.fold is not None
        assert self.unfold is not None
        cells = F.pixel_unshuffle(images, self.cell).movedim(1, -1).flatten(0, -2)
        mean = cells.mean(0)
        _, _, components = torch.linalg.svd(cells - mean, full_matrices=False)
        components = components[: self.fold.out_channels]
        spread = ((cells - mean) @ components.T).std(0)[:, None]
        self.fold.weight.copy_((components / spread)[..., None, None])
        self.fold.bias.copy_(-(components / spread) @ mean)
        self.unfold.weight.copy_((components * spread).T[..., None, None])
        self.unfold.bias.copy_(mean)
        for last in (self.kl.quant_conv, self.kl.decoder.conv_out):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled posterior mean and log variance."""
        posterior = self.kl.encode(F.pixel_unshuffle(image, self.patch)).latent_dist
        mean = posterior.mean
        if self.fold is not None:
            mean = mean + self.fold(F.pixel_unshuffle(image, self.cell))
        return mean, posterior.logvar

    def encode(self, image: Tensor) -> Tensor:
        """Posterior mean times the scaling factor."""
        return self.moments(image)[0] * self.scaling

    def decode(self, latent: Tensor) -> Tensor:
        """Image of a scaled latent, not clipped."""
        latent = latent / self.scaling
        image = F.pixel_shuffle(self.kl.decode(latent).sample, self.patch)
        return image if self.unfold is None else image + F.pixel_shuffle(self.unfold(latent), self.cell)
