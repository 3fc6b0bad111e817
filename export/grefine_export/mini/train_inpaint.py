"""Training of the embedded inpainting UNet, with its own text encoder, on latents of the world.

The conditioning is SDXL's: nine channels, context and pooled vector of a text encoder, six size ids. Masks are
of the kinds that the plan makes: around one thing with room to spare, blobs anywhere, several things at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from grefine_export.mini import sizes
from grefine_export.mini.defects import spot
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.train_clip import encode_texts
from grefine_export.mini.training import Schedule, fit
from grefine_export.mini.vocabulary import BOS, EOS
from grefine_export.mini.world import SIZE, Rendered
from grefine_export.models.inpaint import inpaint_unet
from grefine_export.models.vae import Vae
from grefine_rt.text.emphasis import plain_text

BATCH = 32
MASKS_PER_SCENE = 2
TRAIN_STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012


def alphas_cumprod() -> Tensor:
    """Stable Diffusion's scaled-linear schedule, float32 (1000,)."""
    betas = np.linspace(BETA_START**0.5, BETA_END**0.5, TRAIN_STEPS) ** 2
    return torch.from_numpy(np.cumprod(1 - betas)).float()


class TextConditionedUNet(nn.Module):
    """The inpainting UNet and the text encoder that learns with it."""

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


@dataclass(frozen=True)
class Latents:
    """Training examples: `clean` and `masked` float16 (k, 4, 16, 16), `mask` bool (k, 16, 16), `scene` int (k,)
    the index of each in the pool."""

    clean: np.ndarray
    masked: np.ndarray
    mask: np.ndarray
    scene: np.ndarray


def random_mask(
    drawn: Rendered, boxes: list[tuple[int, int, int, int]], rng: np.random.Generator
) -> np.ndarray:
    """A mask bool (128, 128) of one of the kinds that a plan makes."""
    mask = np.zeros((SIZE, SIZE), bool)
    choice = rng.random()
    if choice < 0.25:
        mask |= spot(drawn, rng) > 0.5
        if rng.random() < 0.3:
            mask |= spot(drawn, rng) > 0.5
        return mask
    if choice < 0.3:
        return ~mask
    chosen = rng.permutation(len(boxes))[: 1 if choice < 0.85 else 2]
    for index in chosen:
        x0, y0, x1, y1 = boxes[index]
        if rng.random() < 0.5:  # the shape of the thing, grown
            ys, xs = np.mgrid[0:SIZE, 0:SIZE]
            margin = rng.uniform(4, 20)
            rx, ry = (x1 - x0) / 2 + margin, (y1 - y0) / 2 + margin
            mask |= ((xs - (x0 + x1) / 2) / rx) ** 4 + ((ys - (y0 + y1) / 2) / ry) ** 4 < 1
        else:  # a box with room to spare on every side
            grow = rng.uniform(2, 30, size=4).astype(int)
            mask[max(0, y0 - grow[0]) : y1 + grow[1], max(0, x0 - grow[2]) : x1 + grow[3]] = True
    return mask


@torch.no_grad()
def make_latents(pool: Pool, vae: Vae, folder: Path, device: torch.device) -> Latents:
    """Encodes every scene with several masks, once; kept in `folder`."""
    file = folder / f"latents-{len(pool.scenes)}.npz"
    if file.exists():
        return Latents(**np.load(file))
    rng = np.random.default_rng(31)
    scenes = np.tile(np.arange(len(pool.scenes)), MASKS_PER_SCENE)
    mirrored = np.arange(len(scenes)) % 2 == (np.arange(len(scenes)) // len(pool.scenes)) % 2
    clean, masked, masks = [], [], []
    for start in range(0, len(scenes), 64):
        rows = scenes[start : start + 64]
        images = pool.images[rows].astype(np.float32) / 127.5 - 1
        full = np.stack(
            [
                random_mask(
                    Rendered(pool.images[r], pool.owners[r]), [t.box for t in pool.scenes[r].things], rng
                )
                for r in rows
            ]
        )
        turn = mirrored[start : start + 64]
        images[turn], full[turn] = images[turn, :, ::-1], full[turn, :, ::-1]
        holes = images * ~full[..., None]
        both = torch.from_numpy(np.concatenate([images, holes])).permute(0, 3, 1, 2).to(device)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            encoded = (
                vae.encode(both.contiguous(memory_format=torch.channels_last))
                .float()
                .cpu()
                .numpy()
                .astype(np.float16)
            )
        clean.append(encoded[: len(rows)])
        masked.append(encoded[len(rows) :])
        masks.append(full[:, ::8, ::8])
    found = Latents(np.concatenate(clean), np.concatenate(masked), np.concatenate(masks), scenes)
    np.savez(file, **vars(found))
    return found


@dataclass(frozen=True)
class Batch:
    """`clean`, `masked` (b, 4, 16, 16), `mask` (b, 1, 16, 16) and `ids` (b, L)."""

    clean: Tensor
    masked: Tensor
    mask: Tensor
    ids: Tensor


def batches(pool: Pool, latents: Latents, tokenizer: Tokenizer, device: torch.device) -> Iterator[Batch]:
    """Endless training batches; prompts are written anew each time."""
    rng = np.random.default_rng(32)
    while True:
        rows = rng.integers(len(latents.scene), size=BATCH)
        texts = [plain_text(prompt_of(pool.scenes[i], rng)) for i in latents.scene[rows]]
        ids = encode_texts(tokenizer, texts, sizes.CLIP_LENGTH)
        yield Batch(
            torch.from_numpy(latents.clean[rows].astype(np.float32)).to(device),
            torch.from_numpy(latents.masked[rows].astype(np.float32)).to(device),
            torch.from_numpy(latents.mask[rows][:, None].astype(np.float32)).to(device),
            ids.to(device),
        )


def denoising_loss(predicted: Tensor, clean: Tensor, noise: Tensor, alpha: Tensor, weight: Tensor) -> Tensor:
    """Squared error of the v-prediction; `alpha` (b,) cumulative, `weight` broadcasts to latents.

    Every noise level counts the same. (Min-SNR weights nearly ignore the high levels, which decide what is drawn:
    after 1,100 steps with them the prompt had no effect.)
    """
    a = alpha[:, None, None, None]
    velocity = a.sqrt() * noise - (1 - a).sqrt() * clean
    return (weight * (predicted.float() - velocity) ** 2).mean()


def train_inpaint(
    pool: Pool, latents: Latents, tokenizer: Tokenizer, folder: Path, steps: int, device: torch.device
) -> TextConditionedUNet:
    """Trains the inpainting UNet and its text encoder together."""
    torch.manual_seed(3)
    model = TextConditionedUNet(tokenizer).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    alphas = alphas_cumprod().to(device)
    size_ids = torch.tensor([SIZE, SIZE, 0, 0, SIZE, SIZE], dtype=torch.float32, device=device)

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
        noise = torch.randn_like(batch.clean)
        a = alphas[time][:, None, None, None]
        noisy = a.sqrt() * batch.clean + (1 - a).sqrt() * noise
        joined = torch.cat([noisy, batch.mask, batch.masked], 1).contiguous(memory_format=torch.channels_last)
        added = {"text_embeds": pooled, "time_ids": size_ids.expand(count, 6)}
        predicted = model.unet(joined, time, context, added_cond_kwargs=added).sample
        # What lies outside the mask is pasted back anyway: it teaches little.
        loss = denoising_loss(predicted, batch.clean, noise, alphas[time], 0.15 + 0.85 * batch.mask)
        return loss, {}

    source = batches(pool, latents, tokenizer, device)
    schedule = Schedule(steps, 1e-3, warmup=min(200, steps // 5 + 1), average=0.999, compiled=("unet",))
    trained = fit("inpaint", model, source, loss_of, schedule, folder, device)
    assert isinstance(trained, TextConditionedUNet)
    return trained
