"""Training of the embedded restoration UNet (PASD's form) on the perceptual defects of the world.

The picture to be restored goes in twice, as at run time: as control image, and as the latent that the noisy
sample starts from. The target is always the sound picture. In some pictures a region is as stage 1 leaves it:
sound, but as soft as stage 1's decoder draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextModelWithProjection

from grefine_export.mini import sizes
from grefine_export.mini.damaged import Damaged
from grefine_export.mini.defects import spot
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.train_clip import encode_texts
from grefine_export.mini.train_inpaint import TRAIN_STEPS, alphas_cumprod
from grefine_export.mini.train_vae import STAGE2, enlarge
from grefine_export.mini.training import Schedule, fit
from grefine_export.mini.world import SIZE, Rendered
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.vae import Vae
from grefine_rt.text.emphasis import plain_text

PROMPT_SUFFIX = "clean, high-resolution, 8k"
NEGATIVE_PROMPT = "blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed"
REDRAWN_SHARE = 0.15
CROP, CROPS, WHOLES = 64, 32, 8
CROP_STEPS = 0.75
"""Share of the steps made on batches of 32 crops of 64 pixels, a quarter of the cost of whole pictures; the rest on
8 whole ones."""


@dataclass(frozen=True)
class Batch:
    """`bad` and `good` (b, 3, s, s) in [0, 1], enlarged; `ids` (b, L)."""

    bad: Tensor
    good: Tensor
    ids: Tensor


@torch.no_grad()
def _redrawn(vae: Vae, image: np.ndarray, device: torch.device) -> np.ndarray:
    """What stage 1's autoencoder makes of an image, uint8 (128, 128, 3)."""
    signed = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).to(device).permute(2, 0, 1)[None]
    back = vae.decode(vae.encode(signed))[0].permute(1, 2, 0)
    return ((back.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()


def batches(
    pool: Pool,
    damaged: Damaged,
    first: Vae,
    tokenizer: Tokenizer,
    device: torch.device,
    side: int,
    count: int,
) -> Iterator[Batch]:
    """Endless training batches of `count` crops of `side` pixels; half of the prompts with the words that stage 2
    adds. `first` is stage 1's autoencoder."""
    rng = np.random.default_rng((42, side))
    while True:
        rows = rng.integers(len(pool.scenes), size=count)
        pairs = np.empty((2, count, side, side, 3), np.uint8)
        for place, index in enumerate(rows):
            bad, good = damaged.images[index], pool.images[index]
            if rng.random() < REDRAWN_SHARE:
                region = spot(Rendered(good, pool.owners[index]), rng) > 0.5
                bad = np.where(region[..., None], _redrawn(first, good, device), bad)
            y, x = 4 * rng.integers(0, (SIZE - side) // 4 + 1, size=2)
            turn = -1 if rng.random() < 0.5 else 1
            for part, image in enumerate((bad, good)):
                pairs[part, place] = image[y : y + side, x : x + side][:, ::turn]
        texts = [plain_text(prompt_of(pool.scenes[i], rng)) for i in rows]
        texts = [f"{text}, {PROMPT_SUFFIX}" if rng.random() < 0.5 else text for text in texts]
        both = torch.from_numpy(pairs).to(device).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        bad, good = enlarge(both, STAGE2.enlarged).split(count)
        yield Batch(bad, good, encode_texts(tokenizer, texts, sizes.CLIP_LENGTH).to(device))


def train_restore(
    pool: Pool,
    damaged: Damaged,
    autoencoders: tuple[Vae, Vae],
    text: CLIPTextModelWithProjection,
    tokenizer: Tokenizer,
    folder: Path,
    steps: int,
    device: torch.device,
) -> PasdUNet:
    """Trains UNet, ControlNet and PACA together. `autoencoders` of stage 1 and 2 and the `text` encoder are frozen."""
    torch.manual_seed(5)
    model: nn.Module = PasdUNet(sizes.RESTORE_UNET, sizes.RESTORE_CONTROLNET)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    first, second = (vae.to(device).eval().requires_grad_(False) for vae in autoencoders)
    text = text.to(device).eval().requires_grad_(False)
    alphas = alphas_cumprod().to(device)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(batch, Batch)
        count = len(batch.good)
        with torch.no_grad():
            context = text(batch.ids).last_hidden_state * (torch.rand(count, 1, 1, device=device) > 0.1)
            bad, good = second.encode(torch.cat([batch.bad, batch.good]) * 2 - 1).float().split(count)
        # Stage 2 works with a small strength: most samples come from the lower part of the schedule.
        uniform = torch.rand(count, device=device)
        time = (TRAIN_STEPS * torch.where(torch.rand_like(uniform) < 0.85, uniform * 0.45, uniform)).long()
        alpha = alphas[time]
        a = alpha[:, None, None, None]
        # At run time the first step starts from the damaged latent, the last ones from a nearly restored one.
        share = torch.rand(count, 1, 1, 1, device=device).sqrt()
        start = good + share * (bad - good)
        noisy = a.sqrt() * start + (1 - a).sqrt() * torch.randn_like(start)
        model_output = model(noisy, time, context, batch.bad).float()
        clean = a.sqrt() * noisy - (1 - a).sqrt() * model_output  # v-prediction's clean estimate
        weight = (alpha / (1 - alpha)).clamp(max=5)[:, None, None, None]
        error = (clean - good) ** 2
        figures = {"clean_mse": float(error.detach().mean()), "bad_mse": float((bad - good).pow(2).mean())}
        return (weight * error).mean(), {name: round(value, 5) for name, value in figures.items()}

    on_crops = round(CROP_STEPS * steps)
    for name, side, count, part, rate in (
        ("restore_crops", CROP, CROPS, on_crops, 1.5e-3),
        ("restore", SIZE, WHOLES, steps - on_crops, 6e-4),
    ):
        source = batches(pool, damaged, first, tokenizer, device, side, count)
        schedule = Schedule(part, rate, warmup=min(200, part // 5 + 1), average=0.998)
        model = fit(name, model.requires_grad_(True), source, loss_of, schedule, folder, device)
    assert isinstance(model, PasdUNet)
    return model
