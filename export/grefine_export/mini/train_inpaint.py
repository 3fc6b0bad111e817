"""Training of the embedded inpainting UNet, with its own text encoder, on latents of the world.

The conditioning is SDXL's: nine channels, context and pooled vector of a text encoder, six size ids. Stage 1 starts
from the noised picture that it is to mend, and the UNet learns on the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from grefine_export.mini import sizes
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.redrawing_pairs import Latents
from grefine_export.mini.train_clip import encode_texts
from grefine_export.mini.training import Schedule, finished, fit, seeded
from grefine_export.mini.vocabulary import BOS, EOS, with_dropout
from grefine_export.mini.world import SIZE
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.inpaint import inpaint_unet
from grefine_rt.text.emphasis import plain_text

BATCH = 32
WEAKEST = 0.35
"""The lowest strength that stage 1 learns to start at."""
LIKENESS = 1.0
"""The weight of `unlikeness`."""
BLOCKS = ("unet.down_blocks.0", "unet.down_blocks.1", "unet.up_blocks.0", "unet.up_blocks.1")
"""What torch.compile fuses. The middle block stays as it is, for training reads its results."""
TRAIN_STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012


def alphas_cumprod() -> Tensor:
    """Stable Diffusion's scaled-linear schedule, float32 (1000,)."""
    betas = np.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS) ** 2
    return torch.from_numpy(np.cumprod(1 - betas)).float()


class TextConditionedUNet(nn.Module):
    """The inpainting UNet and the text encoder that learns with it.

    `likeness` reads CLIP's patch tokens off the UNet's middle; training alone uses it.
    """

    def __init__(self, tokenizer: Tokenizer):
        super().__init__()
        special = {"bos_token_id": tokenizer.token_to_id(BOS), "eos_token_id": tokenizer.token_to_id(EOS)}
        self.text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                **sizes.CLIP_TEXT,
                projection_dim=sizes.CLIP_WIDTH,
                vocab_size=tokenizer.get_vocab_size(),
                pad_token_id=special["eos_token_id"],
                **special,
            )
        )
        self.unet = inpaint_unet(sizes.INPAINT_UNET)
        width = sizes.INPAINT_UNET["block_out_channels"][-1]
        self.likeness = nn.Conv2d(width, sizes.CLIP_WIDTH, 1)

    def velocity(self, latents: Tensor, time: Tensor, context: Tensor, pooled: Tensor) -> Tensor:
        """The UNet's answer (b, c, 16, 16) to noised latents, mask and masked latents (b, 2c + 1, 16, 16), at the
        levels `time` (b,), with the text's `context` (b, L, d) and `pooled` (b, d)."""
        size_ids = torch.tensor([SIZE, SIZE, 0, 0, SIZE, SIZE], dtype=torch.float32, device=pooled.device)
        added = {"text_embeds": pooled, "time_ids": size_ids.expand(len(pooled), 6)}
        joined = latents.contiguous(memory_format=torch.channels_last)
        answer: Tensor = self.unet(joined, time, context, added_cond_kwargs=added).sample
        return answer.float()

    def read_as(self, clip: ClipSurgery) -> None:
        """Takes the text encoder of `clip`, which knows the words already, to begin with."""
        own = self.text.state_dict()
        self.text.load_state_dict({name: clip.clip.state_dict()[name] for name in own})


@dataclass(frozen=True)
class Batch:
    """`start`, `clean`, `masked` (b, c, 16, 16), `mask` (b, 1, 16, 16), `tokens` (b, d, 8, 8) and `ids` (b, L)."""

    start: Tensor
    clean: Tensor
    masked: Tensor
    mask: Tensor
    tokens: Tensor
    ids: Tensor


def batches(pool: Pool, latents: Latents | None, tokenizer: Tokenizer, step: int) -> Iterator[Batch]:
    """Endless batches for a run from `step` on; prompts are written anew each time."""
    rng = seeded(32, step)
    tokenizer = with_dropout(tokenizer)
    assert latents is not None
    while True:
        rows = rng.integers(len(pool.scenes), size=BATCH)
        texts = [plain_text(prompt_of(pool.scenes[i], rng)) for i in rows]
        parts = (latents.start, latents.clean, latents.masked, latents.mask[:, None], latents.tokens)
        start, clean, masked, mask, tokens = (
            torch.from_numpy(part[rows].astype(np.float32)) for part in parts
        )
        ids = encode_texts(tokenizer, texts, sizes.CLIP_LENGTH)
        yield Batch(start, clean, masked, mask, tokens, ids)


def on_the_way(
    start: Tensor, clean: Tensor, noise: Tensor, alpha: Tensor, first: Tensor
) -> tuple[Tensor, Tensor]:
    """The input and the answer of a perfect denoiser at noise level `alpha`, when the loop started from the noised
    picture `start` at level `first`: the noised latent, and the velocity that leads to `clean`.

    Latents (b, c, h, w); levels (b,), cumulative, `first` at most `alpha`. A step of Euler or DDIM towards `clean`
    keeps the difference's part beside the noise in proportion to s = sqrt((1 - alpha) / alpha), so s / s_first of
    `start - clean` is left.
    """
    a, a_first = (level[:, None, None, None] for level in (alpha, first))
    left = ((1 - a) / a * a_first / (1 - a_first)).sqrt()
    noisy = a.sqrt() * (clean + left * (start - clean)) + (1 - a).sqrt() * noise
    return noisy, (a.sqrt() * noisy - clean) / (1 - a).sqrt()


def denoising_loss(predicted: Tensor, velocity: Tensor, weight: Tensor) -> Tensor:
    """Squared error of the v-prediction; `weight` broadcasts to latents.

    Every noise level counts the same. (Min-SNR weights nearly ignore the high levels, which decide what is drawn:
    after 1,100 steps with them the prompt had no effect.)
    """
    return (weight * (predicted - velocity) ** 2).mean()


def unlikeness(middle: Tensor, tokens: Tensor, weight: Tensor) -> Tensor:
    """1 - cosine of features (b, d, 8, 8) and tokens of length 1 in each place, weighted by (b, 1, 16, 16).

    A denoiser that must also say what CLIP would see in the sound picture learns sooner what to draw (REPA, Yu et al.
    2410.06940).
    """
    alike = (F.normalize(middle.float(), dim=1) * tokens).sum(1, keepdim=True)
    return (F.adaptive_avg_pool2d(weight, alike.shape[2:]) * (1 - alike)).mean()


@contextmanager
def seen(module: nn.Module) -> Iterator[list[Tensor]]:
    """The results of `module` while the block runs, in order."""
    results: list[Tensor] = []
    handle = module.register_forward_hook(lambda _module, _inputs, result: results.append(result))
    try:
        yield results
    finally:
        handle.remove()


def train_inpaint(
    pool: Pool,
    latents: Callable[[], Latents],
    tokenizer: Tokenizer,
    clip: ClipSurgery,
    folder: Path,
    steps: int,
    device: torch.device,
) -> TextConditionedUNet:
    """Trains the inpainting UNet and its text encoder, which begins as CLIP's, together. `latents` is called where
    there are steps to make."""
    torch.manual_seed(3)
    model = TextConditionedUNet(tokenizer).to(memory_format=torch.channels_last)
    model.read_as(clip)
    alphas = alphas_cumprod().to(device)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(model, TextConditionedUNet)
        assert isinstance(batch, Batch)
        count = len(batch.clean)
        text = model.text(batch.ids)
        # One in ten learns without the prompt, so that guidance has something to push away from.
        kept = (torch.rand(count, device=device) > 0.1).float()
        context = text.last_hidden_state * kept[:, None, None]
        pooled = text.text_embeds * kept[:, None]
        # Whole redraws start at high noise: half of the samples come from the upper 40 % of the schedule.
        uniform, high = torch.randint(0, TRAIN_STEPS, (2, count), device=device)
        time = torch.where(torch.rand(count, device=device) < 0.3, 600 + high * 2 // 5, uniform).clamp(
            max=TRAIN_STEPS - 1
        )
        strength = WEAKEST + (1 - WEAKEST) * torch.rand(count, device=device)
        first = (strength * (TRAIN_STEPS - 1)).long().maximum(time)
        noisy, velocity = on_the_way(
            batch.start, batch.clean, torch.randn_like(batch.clean), alphas[time], alphas[first]
        )
        joined = torch.cat([noisy, batch.mask, batch.masked], 1)
        with seen(model.unet.mid_block) as middle:
            predicted = model.velocity(joined, time, context, pooled)
        # What lies outside the mask is pasted back anyway: it teaches little.
        weight = 0.15 + 0.85 * batch.mask
        error = denoising_loss(predicted, velocity, weight)
        unlike = unlikeness(model.likeness(middle[0]), batch.tokens, weight)
        figures = {"error": error, "unlike": unlike}
        return error + LIKENESS * unlike, {k: round(float(v.detach()), 4) for k, v in figures.items()}

    made = None if finished(folder, "inpaint", steps) else latents()
    source = partial(batches, pool, made, tokenizer)
    schedule = Schedule(
        steps, 1e-3, warmup=min(200, steps // 5 + 1), average=0.999, compiled=BLOCKS, muon=2e-3
    )
    trained = fit("inpaint", model, source, loss_of, schedule, folder, device)
    assert isinstance(trained, TextConditionedUNet)
    return trained
