"""Training of the embedded restoration UNet (PASD's form) on the technical defects of the world.

The picture to be restored goes in twice, as at run time: as control image, and as the latent that the noisy
sample starts from. The target is always the sound picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from grefine_export.mini import sizes
from grefine_export.mini.defects import TECHNICAL, damage
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.train_clip import encode_texts
from grefine_export.mini.train_inpaint import TRAIN_STEPS, alphas_cumprod
from grefine_export.mini.training import Schedule, fit
from grefine_export.mini.world import Rendered
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.vae import Vae
from grefine_rt.text.emphasis import plain_text

BATCH = 32
SOUND_SHARE = 0.3
PROMPT_SUFFIX = "clean, high-resolution, 8k"
NEGATIVE_PROMPT = "blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed"


@dataclass(frozen=True)
class Pairs:
    """Per scene: `damaged` uint8 (k, 128, 128, 3) and the latents float16 (k, 4, 16, 16) of both versions."""

    damaged: np.ndarray
    damaged_latent: np.ndarray
    clean_latent: np.ndarray


@torch.no_grad()
def make_pairs(pool: Pool, vae: Vae, folder: Path, count: int, device: torch.device) -> Pairs:
    """Damages and encodes the first `count` scenes of the pool, once; kept in `folder`."""
    file = folder / f"pairs-{count}.npz"
    if file.exists():
        return Pairs(**np.load(file))
    damaged = np.empty((count, *pool.images.shape[1:]), np.uint8)
    for index in range(count):
        rng = np.random.default_rng((41, index))
        drawn = Rendered(pool.images[index], pool.owners[index])
        if rng.random() < SOUND_SHARE:
            damaged[index] = drawn.image
        else:
            reach = "local" if rng.random() < 0.6 else "global"
            damaged[index], _ = damage(drawn, str(rng.choice(list(TECHNICAL))), reach, rng)

    def encoded(images: np.ndarray) -> np.ndarray:
        rows = []
        for start in range(0, count, 128):
            batch = torch.from_numpy(images[start : start + 128].astype(np.float32) / 127.5 - 1).permute(
                0, 3, 1, 2
            )
            with torch.autocast(device.type, dtype=torch.bfloat16):
                rows.append(
                    vae.encode(batch.to(device).contiguous(memory_format=torch.channels_last))
                    .float()
                    .cpu()
                    .numpy()
                )
        return np.concatenate(rows).astype(np.float16)

    pairs = Pairs(damaged, encoded(damaged), encoded(pool.images[:count]))
    np.savez(file, **vars(pairs))
    return pairs


@dataclass(frozen=True)
class Batch:
    """`control` (b, 3, 128, 128) in [0, 1], latents (b, 4, 16, 16), `ids` (b, L)."""

    control: Tensor
    damaged: Tensor
    clean: Tensor
    ids: Tensor


def batches(pool: Pool, pairs: Pairs, tokenizer: Tokenizer, device: torch.device) -> Iterator[Batch]:
    """Endless training batches; half of the prompts with the words that stage 2 adds."""
    rng = np.random.default_rng(42)
    while True:
        rows = rng.integers(len(pairs.damaged), size=BATCH)
        texts = [plain_text(prompt_of(pool.scenes[i], rng)) for i in rows]
        texts = [f"{text}, {PROMPT_SUFFIX}" if rng.random() < 0.5 else text for text in texts]
        ids = encode_texts(tokenizer, texts, sizes.CLIP_LENGTH)
        yield Batch(
            torch.from_numpy(pairs.damaged[rows]).to(device).permute(0, 3, 1, 2).float() / 255,
            torch.from_numpy(pairs.damaged_latent[rows].astype(np.float32)).to(device),
            torch.from_numpy(pairs.clean_latent[rows].astype(np.float32)).to(device),
            ids.to(device),
        )


def train_restore(
    pool: Pool,
    pairs: Pairs,
    clip: ClipSurgery,
    tokenizer: Tokenizer,
    folder: Path,
    steps: int,
    device: torch.device,
) -> PasdUNet:
    """Trains UNet, ControlNet and PACA together; `clip`'s text side stays frozen."""
    torch.manual_seed(5)
    model = PasdUNet(sizes.RESTORE_UNET, sizes.RESTORE_CONTROLNET).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    clip = clip.to(device).eval().requires_grad_(False)
    alphas = alphas_cumprod().to(device)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(batch, Batch)
        count = len(batch.clean)
        context = clip.text_states(clip.embed_text(batch.ids))
        context = context * (torch.rand(count, 1, 1, device=device) > 0.1)
        # Stage 2 works with a small strength: most samples come from the lower half of the schedule.
        uniform = torch.rand(count, device=device)
        time = (TRAIN_STEPS * torch.where(torch.rand_like(uniform) < 0.7, uniform * 0.5, uniform)).long()
        alpha = alphas[time]
        a = alpha[:, None, None, None]
        # At run time the first step starts from the damaged latent, the last ones from a nearly restored one.
        share = torch.rand(count, 1, 1, 1, device=device)
        start = batch.clean + share * (batch.damaged - batch.clean)
        noisy = a.sqrt() * start + (1 - a).sqrt() * torch.randn_like(start)
        model_output = model(noisy, time, context, batch.control).float()
        clean = a.sqrt() * noisy - (1 - a).sqrt() * model_output  # v-prediction's clean estimate
        weight = (alpha / (1 - alpha)).clamp(max=5)[:, None, None, None]
        error = (clean - batch.clean) ** 2
        return (weight * error).mean(), {"clean_mse": round(float(error.detach().mean()), 5)}

    source = batches(pool, pairs, tokenizer, device)
    schedule = Schedule(steps, 1.2e-3, warmup=min(200, steps // 5 + 1), average=0.998, compiled=("",))
    trained = fit("restore", model, source, loss_of, schedule, folder, device)
    assert isinstance(trained, PasdUNet)
    return trained
