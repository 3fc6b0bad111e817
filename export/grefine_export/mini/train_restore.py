"""Training of the embedded restoration UNet (PASD's form) on the perceptual defects of the world.

The picture to be restored goes in twice, as at run time: as control image, and as the latent that the noisy
sample starts from. The target is always the sound picture. Pictures are damaged anew for every batch; in some, a
region is as stage 1 leaves it: sound, but as soft as stage 1's decoder draws.
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
from grefine_export.mini.defects import KINDS_OF_DEFECT, RATIONALITY, damage, spot
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
REDRAWN_SHARE, SOUND_SHARE, GLOBAL_SHARE, TWICE_SHARE = 0.15, 0.12, 0.2, 0.15
CROP, CROPS, WHOLES = 64, 32, 8
CROPS_A_PICTURE = 2
CROP_STEPS = 0.6
"""Share of the steps made on batches of 32 crops of 64 pixels, a quarter of the cost of whole pictures; the rest on
8 whole ones."""
MILD = 0.04
"""Mean squared error of a damaged latent below which a sample's weight grows no more."""


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


def _damaged(drawn: Rendered, rng: np.random.Generator) -> np.ndarray:
    """The picture with no, one or two defects, more often local than not."""
    image = drawn.image
    count = rng.choice(3, p=[SOUND_SHARE, 1 - SOUND_SHARE - TWICE_SHARE, TWICE_SHARE])
    for kind in rng.choice(KINDS_OF_DEFECT, size=count, replace=False):
        reach = "global" if rng.random() < GLOBAL_SHARE and kind not in RATIONALITY else "local"
        image, _ = damage(Rendered(image, drawn.owner), str(kind), reach, rng)
    return image


def _corner(changed: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """Upper left corner of a crop, in multiples of 4 pixels: mostly around a `changed` pixel."""
    highest = (SIZE - side) // 4
    ys, xs = np.nonzero(changed)
    if not len(ys) or rng.random() < 0.2:
        return 4 * rng.integers(0, highest + 1, size=2)
    at = rng.integers(len(ys))
    centre = np.array([ys[at], xs[at]]) + rng.integers(-side // 4, side // 4 + 1, size=2)
    return 4 * np.clip((centre - side // 2) // 4, 0, highest)


def batches(
    pool: Pool,
    first: Vae,
    tokenizer: Tokenizer,
    device: torch.device,
    side: int,
    count: int,
) -> Iterator[Batch]:
    """Endless training batches of `count` crops of `side` pixels; half of the prompts with the words that stage 2
    adds. `first` is stage 1's autoencoder."""
    rng = np.random.default_rng((42, side))
    a_picture = CROPS_A_PICTURE if side < SIZE else 1
    while True:
        rows = rng.integers(len(pool.scenes), size=count // a_picture)
        pairs = np.empty((2, count, side, side, 3), np.uint8)
        for place, index in enumerate(rows):
            good = pool.images[index]
            drawn = Rendered(good, pool.owners[index])
            bad = _damaged(drawn, rng)
            if rng.random() < REDRAWN_SHARE:
                region = spot(drawn, rng) > 0.5
                bad = np.where(region[..., None], _redrawn(first, good, device), bad)
            changed = (bad != good).any(2)
            for part in range(place, count, len(rows)):
                y, x = _corner(changed, side, rng)
                turn = -1 if rng.random() < 0.5 else 1
                for image, kept in ((bad, pairs[0]), (good, pairs[1])):
                    kept[part] = image[y : y + side, x : x + side][:, ::turn]
        texts = [plain_text(prompt_of(pool.scenes[i], rng)) for i in np.tile(rows, a_picture)]
        texts = [f"{text}, {PROMPT_SUFFIX}" if rng.random() < 0.5 else text for text in texts]
        both = torch.from_numpy(pairs).to(device).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        bad, good = enlarge(both, STAGE2.enlarged).split(count)
        yield Batch(bad, good, encode_texts(tokenizer, texts, sizes.CLIP_LENGTH).to(device))


def train_restore(
    pool: Pool,
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
        time = (TRAIN_STEPS * torch.where(torch.rand_like(uniform) < 0.9, uniform * 0.3, uniform)).long()
        alpha = alphas[time]
        a = alpha[:, None, None, None]
        # At run time the first step starts from the damaged latent, the last ones from a nearly restored one.
        share = (2 * torch.rand(count, 1, 1, 1, device=device)).clamp(max=1)
        start = good + share * (bad - good)
        noisy = a.sqrt() * start + (1 - a).sqrt() * torch.randn_like(start)
        model_output = model(noisy, time, context, batch.bad).float()
        clean = a.sqrt() * noisy - (1 - a).sqrt() * model_output  # v-prediction's clean estimate
        error, before = ((x - good).pow(2).mean((1, 2, 3)) for x in (clean, bad))
        # By what it was before: a mild defect counts as much as a heavy one.
        weight = (alpha / (1 - alpha)).clamp(max=5) / (before + MILD)
        figures = {"clean_mse": float(error.detach().mean()), "bad_mse": float(before.mean())}
        return (weight * error).mean(), {name: round(value, 5) for name, value in figures.items()}

    on_crops = round(CROP_STEPS * steps)
    for name, side, count, part, rate in (
        ("restore_crops", CROP, CROPS, on_crops, 1.5e-3),
        ("restore", SIZE, WHOLES, steps - on_crops, 6e-4),
    ):
        source = batches(pool, first, tokenizer, device, side, count)
        schedule = Schedule(part, rate, warmup=min(200, part // 5 + 1), average=0.998, compiled=("",))
        model = fit(name, model.requires_grad_(True), source, loss_of, schedule, folder, device)
    assert isinstance(model, PasdUNet)
    return model
