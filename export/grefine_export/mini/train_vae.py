"""Training of the embedded autoencoders: reconstruction of crops, sound and damaged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grefine_export.mini import sizes
from grefine_export.mini.critic import PatchCritic, critics_loss, decoders_loss
from grefine_export.mini.pool import Pool
from grefine_export.mini.training import Schedule, fit, seeded
from grefine_export.mini.world import SIZE
from grefine_export.models.vae import Vae

CROP, CROPS, WHOLES = 64, 16, 4
"""Crops of 64 pixels in a batch of an autoencoder's training; whole pictures in one of its decoder's, for its norms
see more of a picture than of a crop (0.7 dB less on whole pictures after crops alone)."""
SHARPNESS = 1.0
ADVERSARIAL = 0.05
"""The weight of the critic's verdict."""
LINEAR_ON = 256
"""Scenes whose principal components an autoencoder begins with."""


@dataclass(frozen=True)
class Kind:
    """An autoencoder: `name` of its checkpoint and of its `decoder`'s, shape, how many times larger it sees a picture,
    the noise on the latent (of about unit variance) that its decoder learns to bear, and the share of batches in which
    a latent at half its size must decode to the picture at half its size."""

    name: str
    decoder: str
    config: dict[str, Any]
    patch: int
    enlarged: int
    noise: float
    halved: float


STAGE1 = Kind("vae", "decoder", sizes.VAE, sizes.VAE_PATCH, 1, 0.15, 0.25)
STAGE2 = Kind(
    "restore_vae",
    "restore_decoder",
    sizes.RESTORE_VAE,
    sizes.RESTORE_VAE_PATCH,
    sizes.RESTORE_SIDE // 128,
    noise=0.06,
    halved=0.0,
)


def enlarge(images: Tensor, times: int) -> Tensor:
    """Images (b, 3, h, w) as stage 2 gets them at run time: bicubic, clipped to the range of the values given."""
    if times > 1:
        low, high = float(images.min()), float(images.max())
        images = F.interpolate(images, scale_factor=float(times), mode="bicubic").clamp(low, high)
    return images.contiguous(memory_format=torch.channels_last)


def _pictures(pool: Pool, rows: np.ndarray) -> Tensor:
    """Scenes of the pool, (b, 3, 128, 128) in [-1, 1]."""
    return torch.from_numpy(pool.images[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1


def crops_of(pool: Pool, enlarged: int, side: int, count: int, step: int) -> Iterator[Tensor]:
    """Batches of `count` crops of `side` pixels, enlarged, in [-1, 1]; a quarter recoloured, blurred or noisy: it must
    encode bad images too."""
    rng = seeded(11, step)
    span = pool.images.shape[1] - side
    while True:
        rows = []
        for index in rng.integers(len(pool.images), size=count):
            y, x = rng.integers(0, span + 1, size=2)
            crop = pool.images[index, y : y + side, x : x + side]
            rows.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
        batch = torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).float() / 127.5 - 1
        bad = count // 4
        kind = rng.integers(3)
        if kind == 0:
            batch[:bad] = batch[:bad, torch.from_numpy(rng.permutation(3))] * float(rng.uniform(0.5, 1.2))
        elif kind == 1:
            batch[:bad] = F.interpolate(F.avg_pool2d(batch[:bad], 4), scale_factor=4.0, mode="bilinear")
        else:
            batch[:bad] += torch.randn_like(batch[:bad]) * float(rng.uniform(0.05, 0.3))
        yield enlarge(batch.clamp(-1, 1), enlarged)


def edge_error(error: Tensor) -> Tensor:
    """Mean magnitude of the gradient of `error` (b, 3, h, w), at its own and at half its size: blur and halos along an
    edge cost more here than an even shift of the same size."""
    terms = [
        (scale.diff(dim=axis)).abs().mean() for scale in (error, F.avg_pool2d(error, 2)) for axis in (2, 3)
    ]
    return torch.stack(terms).sum()


def decoding_loss(error: Tensor, sharpness: float) -> Tensor:
    """What an `error` (b, 3, h, w) of decoded pictures costs; `sharpness`: the weight of `edge_error`."""
    return error.abs().mean() + 2 * error.pow(2).mean() + sharpness * edge_error(error)


def reconstruction(
    vae: Vae, batch: Tensor, kind: Kind, sharpness: float = 0.0, halved: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """The loss of coding a batch (b, 3, h, w), and the pictures decoded and wanted, at their own size.

    `sharpness`: as in `decoding_loss`; `halved`: see `Kind`.
    """
    mean, log_variance = vae.moments(batch)
    spread = mean.float().pow(2).mean() - 1
    if float(torch.rand(())) < halved:
        # Fine detail of the latent then means fine detail of the picture, which a denoiser may leave for last
        # (Skorokhodov et al. 2502.14831, Kouzelis et al. 2502.09509).
        mean, batch = F.avg_pool2d(mean, 2), F.avg_pool2d(batch, 2)
    # Noise on the latent teaches the decoder to bear a denoiser's errors.
    latent = mean + kind.noise * torch.randn_like(mean)
    large = vae.decode(latent * vae.scaling).float()
    # What counts is the picture at its own size.
    decoded, wanted = (F.avg_pool2d(one, kind.enlarged) for one in (large, batch))
    loss = (
        decoding_loss(decoded - wanted, sharpness)
        + 0.2 * (large - batch).pow(2).mean()
        + 0.02 * spread.pow(2)
        + 1e-6 * log_variance.float().pow(2).mean()
    )
    return loss, decoded, wanted


def psnr(decoded: Tensor, wanted: Tensor) -> float:
    """Of pictures in [-1, 1], in dB."""
    return 10 * float(torch.log10(4 / (decoded.detach() - wanted).pow(2).mean()))


def train_vae(pool: Pool, folder: Path, steps: int, device: torch.device, kind: Kind = STAGE1) -> Vae:
    """Trains an autoencoder and sets its scaling so that latents of the world have unit variance."""
    torch.manual_seed(1)
    model = Vae(kind.config, kind.patch, shortcut=True)
    model.begin_linear(enlarge(_pictures(pool, np.arange(min(len(pool.images), LINEAR_ON))), kind.enlarged))
    model = model.to(memory_format=torch.channels_last)
    source = partial(crops_of, pool, kind.enlarged, CROP, CROPS)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, Vae)
        assert isinstance(batch, Tensor)
        loss, *pictures = reconstruction(model, batch, kind, halved=kind.halved)
        return loss, {"psnr": round(psnr(*pictures), 2)}

    schedule = Schedule(steps, 2e-3, average=0.995, muon=2e-3)
    trained = fit(kind.name, model, source, loss_of, schedule, folder, device)
    assert isinstance(trained, Vae)
    with torch.no_grad():
        sample = _pictures(pool, np.arange(min(len(pool.images), 256))).to(device)
        parts = [trained.moments(enlarge(part, kind.enlarged))[0] for part in sample.split(32)]
        trained.scaling.fill_(1 / float(torch.cat(parts).std()))
    return trained


def gradient_ratio(decoded: Tensor, wanted: Tensor) -> float:
    """Mean gradient of what was decoded, as a share of the wanted pictures'."""
    return float(edge_error(decoded.detach()) / edge_error(wanted))


class Judged(nn.Module):
    """An autoencoder whose decoder alone goes on, and the critic that learns with it."""

    def __init__(self, vae: Vae) -> None:
        super().__init__()
        self.vae = vae
        self.critic = PatchCritic()
        self.learning()

    def learning(self) -> Judged:
        """Itself, its decoder and critic ready to learn: `fit` returns models that are not."""
        self.requires_grad_(False)
        for part in (self.vae.kl.decoder, self.vae.kl.post_quant_conv, self.vae.unfold, self.critic):
            if part is not None:
                part.requires_grad_(True)
        return self


def train_decoder(
    vae: Vae, pool: Pool, folder: Path, steps: int, device: torch.device, kind: Kind = STAGE1
) -> Judged:
    """Goes on with the decoder alone, on sharpness too. Latents, and so a UNet trained on them, stay as they are."""
    torch.manual_seed(8)
    model = Judged(vae).to(memory_format=torch.channels_last)
    source = partial(crops_of, pool, kind.enlarged, SIZE, WHOLES)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, Judged)
        assert isinstance(batch, Tensor)
        loss, decoded, wanted = reconstruction(model.vae, batch, kind, SHARPNESS)
        critics = critics_loss(model.critic, decoded, wanted)
        loss = loss + ADVERSARIAL * decoders_loss(model.critic, decoded) + critics
        figures = {
            "psnr": psnr(decoded, wanted),
            "critic": float(critics.detach()),
            "gradient": gradient_ratio(decoded, wanted),
        }
        return loss, {name: round(value, 3) for name, value in figures.items()}

    schedule = Schedule(steps, 1.5e-3, average=0.995)
    trained = fit(kind.decoder, model, source, loss_of, schedule, folder, device)
    assert isinstance(trained, Judged)
    return trained
