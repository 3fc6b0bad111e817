"""A critic of small patches: it learns to tell decoded pictures from true ones, and the decoder learns to pass.

Errors of pixels alone make a decoder draw the mean of what may have been there, which is blurred.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm


class PatchCritic(nn.Module):
    """Pictures (b, 3, h, w) in [-1, 1] -> a score of every patch of 18 pixels, (b, 1, h / 4, w / 4) (Isola et al.
    1611.07004); spectral norms keep it smooth (Miyato et al. 1802.05957)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(3, width, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, 2, 1)),
            nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(2 * width, 1, 3, 1, 1)),
        )

    def forward(self, pictures: Tensor) -> Tensor:
        return self.layers(pictures)


def critics_loss(critic: nn.Module, decoded: Tensor, true: Tensor) -> Tensor:
    """The hinge loss that the critic learns by; the decoder gets no gradient of it."""
    return F.relu(1 + critic(decoded.detach())).mean() + F.relu(1 - critic(true)).mean()


def decoders_loss(critic: nn.Module, decoded: Tensor) -> Tensor:
    """What the decoder learns of the critic, which gets no gradient of it."""
    frozen = {name: value.detach() for name, value in critic.named_parameters()}
    return -functional_call(critic, frozen, (decoded,)).mean()
