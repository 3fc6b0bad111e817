"""Training of stage 1's decoder on latents as stage 1 leaves them.

A denoiser answers with the mean of what may be there, so its latents are softer than an encoder's, and a decoder that
knows an encoder's alone draws them softly. This one learns which picture such a latent stands for, beside a critic. The
latents are the UNet's answers at one noise level each: no chain of answers leads away from the truth then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from grefine_export.mini import sizes
from grefine_export.mini.critic import critics_loss, decoders_loss
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.redrawing_pairs import Latents, Pairs, wanted_pictures
from grefine_export.mini.train_clip import encode_texts
from grefine_export.mini.train_inpaint import (
    TRAIN_STEPS,
    WEAKEST,
    TextConditionedUNet,
    alphas_cumprod,
    on_the_way,
)
from grefine_export.mini.train_vae import SHARPNESS, Judged, crops_of, decoding_loss, gradient_ratio, psnr
from grefine_export.mini.training import Schedule, fit, seeded
from grefine_export.mini.world import SIZE
from grefine_export.models.vae import Vae
from grefine_rt.text.emphasis import plain_text

COUNT, AT_ONCE = 4096, 32
"""Answers to learn from, and how many are asked for at once."""
LEVELS = (50, 650)
"""Noise levels of the answers: below, a latent is as its encoder made it; above, it says little of the picture."""
SOUND, DRAWN = 2, 4
"""Whole pictures in a batch: of an encoder's latents, which must stay well decoded, and of the UNet's."""
NOISE = 0.1
"""On the encoder's latents, as everywhere in the decoder's training."""
ADVERSARIAL = 0.15


@dataclass(frozen=True)
class Drawn:
    """`latents` float16 (k, c, 16, 16), answers of the UNet, and `wanted` uint8 (k, 128, 128, 3), their pictures."""

    latents: np.ndarray
    wanted: np.ndarray


@dataclass(frozen=True)
class Batch:
    """`sound` (2, 3, 128, 128) in [-1, 1], pictures; `latents` (4, c, 16, 16) and the pictures `wanted` of them."""

    sound: Tensor
    latents: Tensor
    wanted: Tensor


@torch.no_grad()
def draw(
    model: TextConditionedUNet, pool: Pool, pairs: Pairs, latents: Latents, tokenizer: Tokenizer
) -> Drawn:
    """Answers of the UNet to `COUNT` of the pairs that it learned from, or to all where there are fewer."""
    torch.manual_seed(77)
    rng = np.random.default_rng(77)
    model = model.cpu().eval()
    alphas = alphas_cumprod()
    count = min(COUNT, len(pool.scenes))
    answers = []
    for first in range(0, count, AT_ONCE):
        part = slice(first, min(first + AT_ONCE, count))
        texts = [plain_text(prompt_of(scene, rng)) for scene in pool.scenes[part]]
        start, clean, masked = (
            torch.from_numpy(one[part].astype(np.float32))
            for one in (latents.start, latents.clean, latents.masked)
        )
        mask = torch.from_numpy(latents.mask[part].astype(np.float32))[:, None]
        time = (LEVELS[0] + torch.rand(len(start)) * (LEVELS[1] - LEVELS[0])).long()
        strength = WEAKEST + (1 - WEAKEST) * torch.rand(len(start))
        levels = alphas[time], alphas[(strength * (TRAIN_STEPS - 1)).long().maximum(time)]
        noisy, _ = on_the_way(start, clean, torch.randn_like(clean), *levels)
        text = model.text(encode_texts(tokenizer, texts, sizes.CLIP_LENGTH))
        joined = torch.cat([noisy, mask, masked], 1)
        velocity = model.velocity(joined, time, text.last_hidden_state, text.text_embeds)
        alpha = levels[0][:, None, None, None]
        answers.append((alpha.sqrt() * noisy - (1 - alpha).sqrt() * velocity).half().numpy())
    return Drawn(np.concatenate(answers), wanted_pictures(pool, pairs, slice(0, count)))


def batches(drawn: Drawn, pool: Pool, step: int) -> Iterator[Batch]:
    """Endless batches for a run from `step` on."""
    rng = seeded(78, step)
    sound = crops_of(pool, 1, SIZE, SOUND, step)
    while True:
        rows = rng.integers(len(drawn.latents), size=DRAWN)
        latents = torch.from_numpy(drawn.latents[rows].astype(np.float32))
        wanted = torch.from_numpy(drawn.wanted[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
        yield Batch(next(sound), latents, wanted)


def train_on_drawn(
    judged: Judged, make: Callable[[], Drawn], pool: Pool, folder: Path, steps: int, device: torch.device
) -> Vae:
    """Goes on with stage 1's decoder and its critic. `make` is called where there are steps to make."""
    torch.manual_seed(9)
    model = judged.learning().to(memory_format=torch.channels_last)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, Judged)
        assert isinstance(batch, Batch)
        with torch.no_grad():
            sound = model.vae.encode(batch.sound)
            sound += NOISE * torch.randn_like(sound)
        wanted = torch.cat([batch.sound, batch.wanted])
        decoded = model.vae.decode(torch.cat([sound, batch.latents])).float()
        critics = critics_loss(model.critic, decoded, wanted)
        loss = decoding_loss(decoded - wanted, SHARPNESS) + critics
        loss = loss + ADVERSARIAL * decoders_loss(model.critic, decoded)
        figures = {"critic": float(critics.detach())}
        for name, part in (("sound", slice(0, len(sound))), ("drawn", slice(len(sound), None))):
            figures[f"psnr_{name}"] = psnr(decoded[part], wanted[part])
            figures[f"gradient_{name}"] = gradient_ratio(decoded[part], wanted[part])
        return loss, {name: round(value, 3) for name, value in figures.items()}

    def source(step: int) -> Iterator[Batch]:
        yield from batches(make(), pool, step)  # made when the first batch is asked for

    schedule = Schedule(steps, 8e-4, average=0.995)
    trained = fit("drawn_decoder", model, source, loss_of, schedule, folder, device)
    assert isinstance(trained, Judged)
    return trained.vae
