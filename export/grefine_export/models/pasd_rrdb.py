"""The control embedding of PASD's "rrdb" checkpoints: residual-in-residual dense blocks read the image first.

RRDB: ESRGAN (Wang et al., 1809.00219), section 3.1. Key names are those of the published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor, nn

BLOCKS = 2
_RESIDUAL, _SLOPE = 0.2, 0.2  # scale of every residual, slope of the leaky rectifier


class DenseBlock(nn.Module):
    """Five 3 x 3 convolutions, each reading everything before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for index in range(1, 6):
            self.add_module(f"conv{index}", nn.Conv2d(index * channels, channels, 3, padding=1))

    def forward(self, feature: Tensor) -> Tensor:
        features = [feature]
        for index in range(1, 5):
            layer = self.get_submodule(f"conv{index}")
            features.append(F.leaky_relu(layer(torch.cat(features, dim=1)), _SLOPE))
        return feature + _RESIDUAL * self.get_submodule("conv5")(torch.cat(features, dim=1))


class Rrdb(nn.Module):
    """Three dense blocks in a row, with a residual around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for index in range(1, 4):
            self.add_module(f"rdb{index}", DenseBlock(channels))

    def forward(self, feature: Tensor) -> Tensor:
        hidden = feature
        for block in self.children():
            hidden = block(hidden)
        return feature + _RESIDUAL * hidden


class RrdbEmbedding(ControlNetConditioningEmbedding):
    """diffusers' conditioning embedding with two RRDBs (`preprocesser`, as PASD spells it) after its first
    convolution."""

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__(channels, block_out_channels=tuple(widths))
        self.preprocesser = nn.Sequential(*(Rrdb(widths[0]) for _ in range(BLOCKS)))

    def forward(self, conditioning: Tensor) -> Tensor:
        """`conditioning` (n, 3, H, W) RGB in [0, 1] -> (n, channels, h, w)."""
        embedding = self.preprocesser(F.silu(self.conv_in(conditioning)))
        for block in self.blocks:
            embedding = F.silu(block(embedding))
        return self.conv_out(embedding)
