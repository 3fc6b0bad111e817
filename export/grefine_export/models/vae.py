"""The variational autoencoder: diffusers' own AutoencoderKL, optionally behind a pixel unshuffle.

SDXL's and SD1.5's autoencoders are `patch=1`. The embedded bundle folds 4 x 4 pixels into channels first, so
that no convolution runs at full resolution; to the runtime both are `image -> latent -> image` at 8:1.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn


class Vae(nn.Module):
    """`image` (b, 3, H, W) in [-1, 1] <-> `latent` (b, c, H/8, W/8), scaled to about unit variance."""

    def __init__(self, config: dict[str, Any], patch: int = 1):
        super().__init__()
        self.patch = patch
        channels = 3 * patch * patch
        self.kl = AutoencoderKL(in_channels=channels, out_channels=channels, **config)
        self.register_buffer("scaling", torch.tensor(float(self.kl.config.scaling_factor)))

    def moments(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Unscaled posterior mean and log variance."""
        posterior = self.kl.encode(F.pixel_unshuffle(image, self.patch)).latent_dist
        return posterior.mean, posterior.logvar

    def encode(self, image: Tensor) -> Tensor:
        """Posterior mean times the scaling factor."""
        return self.moments(image)[0] * self.scaling

    def decode(self, latent: Tensor) -> Tensor:
        """Image of a scaled latent, not clipped."""
        return F.pixel_shuffle(self.kl.decode(latent / self.scaling).sample, self.patch)
