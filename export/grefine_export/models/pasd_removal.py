"""A degradation-removal module for small models: it reads the image to be restored and learns what was there.

PASD (Yang et al., 2308.14469, section 3.1) puts such a module before its ControlNet: features whose RGB heads are
trained to give the sound image, so that the ControlNet reads cleaned features. In published checkpoints it is
diffusers' conditioning embedding, with convolutions at full resolution. This one does all its work at latent
resolution, which suits a CPU, and hands on the image it restored beside the features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HALF = 4
"""Pixels of the image at half its size to a latent cell, a side."""


@dataclass(frozen=True)
class Removal:
    """Size of a module: `width` channels, `blocks` residual blocks."""

    width: int
    blocks: int


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions on normalised features; before training it changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, feature: Tensor) -> Tensor:
        return feature + self.conv2(F.silu(self.conv1(F.silu(self.norm(feature)))))


class RemovalEmbedding(nn.Module):
    """A ControlNet's conditioning embedding that first removes degradations; all but `conv_out` is trained for that."""

    def __init__(self, channels: int, size: Removal) -> None:
        super().__init__()
        values = 3 * HALF**2
        self.conv_in = nn.Conv2d(values, size.width, 1)
        self.blocks = nn.Sequential(*(ResidualBlock(size.width) for _ in range(size.blocks)))
        self.to_rgb = nn.Conv2d(size.width, values, 1)
        self.conv_out = nn.Conv2d(size.width + values, channels, 3, padding=1)
        nn.init.zeros_(self.to_rgb.weight)
        nn.init.zeros_(self.to_rgb.bias)

    def _restored(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features and the sound image at half the size, both by cells."""
        cells = F.pixel_unshuffle(F.avg_pool2d(image, 2), HALF)
        features = self.blocks(self.conv_in(cells))
        return features, cells + self.to_rgb(features)

    def forward(self, conditioning: Tensor) -> Tensor:
        """`conditioning` (n, 3, 8h, 8w) RGB in [0, 1] -> (n, channels, h, w)."""
        return self.conv_out(torch.cat(self._restored(conditioning), dim=1))

    def restored(self, image: Tensor) -> Tensor:
        """The sound image at half the size, RGB (n, 3, 4h, 4w) in about [0, 1], from `image` (n, 3, 8h, 8w)."""
        return F.pixel_shuffle(self._restored(image)[1], HALF)
