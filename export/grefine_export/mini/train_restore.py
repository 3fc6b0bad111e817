"""Training of the embedded restoration UNet (PASD's form) on the perceptual defects of the world.

The picture to be restored goes in twice, as at run time: as control image, and as the latent that the noisy
sample starts from. The target is always the sound picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from grefine_export.mini import sizes
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.restoration_pairs import ALL_SHARES, Pairs, relative_error, restoration_pairs
from grefine_export.mini.train_clip import encode_texts
from grefine_export.mini.train_inpaint import TRAIN_STEPS, alphas_cumprod
from grefine_export.mini.training import Schedule, finished, fit, seeded
from grefine_export.mini.world import SIZE
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.pasd_removal import RemovalEmbedding
from grefine_export.models.vae import Vae
from grefine_rt.text.emphasis import plain_text

PROMPT_SUFFIX = "clean, high-resolution, 8k"
NEGATIVE_PROMPT = "blurry, dotted, noise, raster lines, unclear, lowres, over-smoothed"
CROP, CROPS, WHOLES = 64, 32, 8
CROP_STEPS = 0.6
"""Share of the steps made on batches of 32 crops of 64 pixels, a quarter of the cost of whole pictures; the rest on
8 whole ones."""
MILD = 0.04
"""Mean squared error of a damaged latent below which a sample's weight grows no more."""


@dataclass(frozen=True)
class Batch:
    """`pairs` and `ids` (b, L), the tokens of their prompts."""

    pairs: Pairs
    ids: Tensor


def _with_prompts(
    source: Callable[[int], Iterator[Pairs]],
    pool: Pool,
    tokenizer: Tokenizer,
    step: int,
) -> Iterator[Batch]:
    """Half of the prompts have the words that stage 2 adds."""
    rng = seeded(42, step)
    for pairs in source(step):
        texts = [plain_text(prompt_of(pool.scenes[row], rng)) for row in pairs.rows]
        texts = [f"{text}, {PROMPT_SUFFIX}" if rng.random() < 0.5 else text for text in texts]
        yield Batch(pairs, encode_texts(tokenizer, texts, sizes.CLIP_LENGTH))


def train_restore(
    pool: Pool,
    autoencoders: tuple[Vae, Vae],
    removal: RemovalEmbedding,
    clip: ClipSurgery,
    tokenizer: Tokenizer,
    folder: Path,
    steps: int,
    device: torch.device,
) -> PasdUNet:
    """Trains UNet, ControlNet and PACA together; the ControlNet begins with the trained `removal`. `autoencoders` of
    stage 1 and 2 and the text encoder of `clip` are frozen."""
    torch.manual_seed(5)
    model: nn.Module = PasdUNet(sizes.RESTORE_UNET, sizes.RESTORE_CONTROLNET, removal=sizes.RESTORE_REMOVAL)
    model.get_submodule("controlnet.controlnet_cond_embedding").load_state_dict(removal.state_dict())
    model = model.to(memory_format=torch.channels_last)
    first, second = (vae.eval().requires_grad_(False) for vae in autoencoders)
    first, second = first.cpu(), second.to(device)  # the first one makes data
    clip = clip.to(device).eval().requires_grad_(False)
    alphas = alphas_cumprod().to(device)

    def loss_of(model: nn.Module, batch: object) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(batch, Batch)
        pairs = batch.pairs
        count = len(pairs.good)
        with torch.no_grad():
            context = clip.text_states(clip.embed_text(batch.ids))
            context *= torch.rand(count, 1, 1, device=device) > 0.1
            bad, good = second.encode(torch.cat([pairs.bad, pairs.good]) * 2 - 1).float().split(count)
        # Stage 2 works with a small strength: most samples come from the lower part of the schedule.
        uniform = torch.rand(count, device=device)
        time = (TRAIN_STEPS * torch.where(torch.rand_like(uniform) < 0.9, uniform * 0.3, uniform)).long()
        alpha = alphas[time]
        a = alpha[:, None, None, None]
        # At run time the first step starts from the damaged latent, the last ones from a nearly restored one.
        share = (2 * torch.rand(count, 1, 1, 1, device=device)).clamp(max=1)
        start = good + share * (bad - good)
        noisy = a.sqrt() * start + (1 - a).sqrt() * torch.randn_like(start)
        model_output = model(noisy, time, context, pairs.bad).float()
        clean = a.sqrt() * noisy - (1 - a).sqrt() * model_output  # v-prediction's clean estimate
        error, figures = relative_error(clean, bad, good, MILD)
        return ((alpha / (1 - alpha)).clamp(max=5) * error).mean(), figures

    on_crops = round(CROP_STEPS * steps)
    parts = [
        ("restore_crops", CROP, CROPS, on_crops, 1.5e-3, 2e-3),
        ("restore", SIZE, WHOLES, steps - on_crops, 6e-4, 8e-4),
    ]
    if finished(folder, "restore", steps - on_crops):
        parts = parts[1:]  # the weights after the crops are seldom kept
    for name, side, count, part, rate, muon in parts:
        pairs = partial(restoration_pairs, pool, ALL_SHARES, first, side, count, 42)
        source = partial(_with_prompts, pairs, pool, tokenizer)
        schedule = Schedule(part, rate, min(200, part // 5 + 1), average=0.998, compiled=("",), muon=muon)
        model.requires_grad_(True)
        embedding = model.get_submodule("controlnet.controlnet_cond_embedding").requires_grad_(False)
        embedding.get_submodule("conv_out").requires_grad_(True)  # the rest stays as it was trained
        model = fit(name, model, source, loss_of, schedule, folder, device)
    assert isinstance(model, PasdUNet)
    return model
