"""OpenAI's ModifiedResNet, the image side of CLIP RN50, with OpenAI's own names of weights.

Three convolutions as a stem, average pools wherever a plain ResNet has a stride, and an attention pool at the end.
Trunk and pool are apart, because IP-IQA puts a second pool beside the first and CLIP surgery reads every token.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EXPANSION = 4
STRIDE = 32
"""Pixels of a picture's side for one place of the features."""


class Bottleneck(nn.Module):
    """1x1, 3x3, average pool where `stride` > 1, 1x1; the way around it is pooled and projected alike."""

    def __init__(self, channels: int, planes: int, stride: int = 1):
        super().__init__()
        out = planes * EXPANSION
        self.conv1 = nn.Conv2d(channels, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(planes, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample: nn.Module | None = None
        if stride > 1 or channels != out:
            # The pool has no weights; OpenAI counts it as -1, so the others keep the names of a plain ResNet.
            parts = [("-1", nn.AvgPool2d(stride)), ("0", nn.Conv2d(channels, out, 1, bias=False))]
            self.downsample = nn.Sequential(OrderedDict([*parts, ("1", nn.BatchNorm2d(out))]))

    def forward(self, x: Tensor) -> Tensor:
        way_around = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(self.avgpool(x))) + way_around)


class ModifiedResNet(nn.Module):
    """The trunk without its pool: normalised `image` (b, 3, H, W) -> features (b, 32 * width, H / 32, W / 32).

    `layers`: blocks of each of the four stages, (3, 4, 6, 3) in RN50; `width` 64 there.
    """

    def __init__(self, layers: Sequence[int] = (3, 4, 6, 3), width: int = 64):
        super().__init__()
        half = width // 2
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, width, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.avgpool = nn.AvgPool2d(2)
        self.layer1 = _stage(width, width, layers[0], 1)
        self.layer2 = _stage(width * 4, width * 2, layers[1], 2)
        self.layer3 = _stage(width * 8, width * 4, layers[2], 2)
        self.layer4 = _stage(width * 16, width * 8, layers[3], 2)
        self.channels = width * 32

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(image)))
        x = F.relu(self.bn2(self.conv2(x)))
        x = F.relu(self.bn3(self.conv3(x)))
        x = self.avgpool(x)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def _stage(channels: int, planes: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (Bottleneck(planes * EXPANSION, planes) for _ in range(blocks - 1))
    return nn.Sequential(Bottleneck(channels, planes, stride), *rest)


class QueryPool(nn.Module):
    """Multi-head attention of one query over tokens, with separate projections: a vector of `out` channels.

    `query` (b, query_channels), `tokens` (b, t, channels) -> (b, out). Weights have OpenAI's names.
    """

    def __init__(self, channels: int, heads: int, out: int, query_channels: int | None = None):
        super().__init__()
        self.q_proj = nn.Linear(query_channels or channels, channels)
        self.k_proj = nn.Linear(channels, channels)
        self.v_proj = nn.Linear(channels, channels)
        self.c_proj = nn.Linear(channels, out)
        self.num_heads = heads

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        q, k, v = (
            x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for x in (self.q_proj(query)[:, None], self.k_proj(tokens), self.v_proj(tokens))
        )
        return self.c_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(1))


class AttentionPool2d(QueryPool):
    """CLIP's pool: the mean token asks, mean and patches with their positions answer.

    Features (b, channels, h, w) -> (b, out). `side` is the token grid's side that the positions were trained at (7
    in RN50); other grids read them through bicubic interpolation.
    """

    def __init__(self, side: int, channels: int, heads: int, out: int):
        super().__init__(channels, heads, out)
        self.positional_embedding = nn.Parameter(torch.randn(side * side + 1, channels) / channels**0.5)

    def tokens(self, features: Tensor) -> Tensor:
        """Keys and values before projection (b, 1 + h*w, channels): [mean, patches] + positions."""
        height, width = features.shape[2:]
        return tokens_of(features, resized_positions(self.positional_embedding, height, width))

    def pool(self, tokens: Tensor) -> Tensor:
        """The mean token's answer (b, out), from `tokens`."""
        return super().forward(tokens[:, 0], tokens)

    def forward(self, features: Tensor) -> Tensor:  # type: ignore[override]
        return self.pool(self.tokens(features))


def tokens_of(features: Tensor, positions: Tensor) -> Tensor:
    """[mean, patches] + positions: features (b, c, h, w), positions (1 + h*w, c) -> (b, 1 + h*w, c)."""
    patches = features.flatten(2).transpose(1, 2)
    return torch.cat([patches.mean(1, keepdim=True), patches], 1) + positions


def resized_positions(positions: Tensor, height: int, width: int) -> Tensor:
    """Position embedding (1 + side*side, c) for a grid of `height` x `width`, (1 + height*width, c), by bicubic
    interpolation; the first row, the mean token's, stays."""
    side = round((len(positions) - 1) ** 0.5)
    if (side, side) == (height, width):
        return positions
    grid = positions[1:].T.unflatten(1, (side, side))[None]
    resized = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
    return torch.cat([positions[:1], resized[0].flatten(1).T])


def to_openai(trunk: ModifiedResNet, pool: AttentionPool2d, prefix: str = "visual.") -> dict[str, Tensor]:
    """The weights of both under the names of an OpenAI checkpoint."""
    named = {**trunk.state_dict(), **{f"attnpool.{name}": t for name, t in pool.state_dict().items()}}
    return {f"{prefix}{name}": t.detach().cpu() for name, t in named.items()}
