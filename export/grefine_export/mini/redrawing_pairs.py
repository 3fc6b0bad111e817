"""Pairs that stage 1 learns from: pictures as a weak generator drew them, masks as a plan makes them, and the truth.

The masks are real plans' masks, if they cover the damage. A mask that follows the damage closely would betray the shape
to be drawn, which no mask does at run time: a UNet that learned with such masks alone mended half as much with plans'.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from grefine_export.mini import sizes
from grefine_export.mini.defects import TRAINED, damage
from grefine_export.mini.heldout import ALIGNMENT, misalign
from grefine_export.mini.pool import Pool
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.regions import changed, spot
from grefine_export.mini.world import SIZE, Rendered, Scene, render
from grefine_export.models.clip_surgery import ClipSurgery
from grefine_export.models.vae import Vae
from grefine_rt import Assessor
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.contract import LATENT_SCALE
from grefine_rt.imaging.mask import grow
from grefine_rt.plan.make import make_plan
from grefine_rt.plan.options import PlanOptions

BATCH = 64
SHARES = {"sound": 0.2, "misshapen": 0.35, "misaligned": 0.3, "poor": 0.15}
ANY_MASK_SHARE = 0.1
COVERED = 0.6
"""The share of the wrong pixels that a plan's mask must cover: pixels outside of it can not be mended."""


@dataclass(frozen=True)
class Pairs:
    """For each scene of a pool: `found` uint8 (k, 128, 128, 3), the picture as stage 1 finds it; `mask` bool
    (k, 16, 16), the cells that it redraws; `mirrored` bool (k,), whether training mirrors both."""

    found: np.ndarray
    mask: np.ndarray
    mirrored: np.ndarray


@dataclass(frozen=True)
class Latents:
    """For each scene of a pool, float16: `start`, `clean` and `masked` (k, c, 16, 16), the latents of the picture that
    stage 1 finds, of the same with the truth in its mask, and of the same without its mask; `tokens` (k, d, 8, 8), what
    CLIP's patch tokens say about the picture with the truth, each of length 1. `mask` bool (k, 16, 16)."""

    start: np.ndarray
    clean: np.ndarray
    masked: np.ndarray
    mask: np.ndarray
    tokens: np.ndarray


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
            room = rng.uniform(2, 30, size=4).astype(int)
            mask[max(0, y0 - room[0]) : y1 + room[1], max(0, x0 - room[2]) : x1 + room[3]] = True
    return mask


def as_found(scene: Scene, drawn: Rendered, rng: np.random.Generator) -> np.ndarray:
    """The picture of a scene, uint8 (128, 128, 3), as stage 1 may find it: sound, misshapen, with a wrong thing, or
    poor in technique or colour in some place."""
    flaw = str(rng.choice(list(SHARES), p=list(SHARES.values())))
    if flaw == "sound":
        return drawn.image
    if flaw == "misaligned":
        wrong = misalign(scene, int(rng.integers(len(scene.things))), str(rng.choice(ALIGNMENT)), rng)
        return render(wrong).image
    poor = TRAINED["technical"] + TRAINED["naturalness"]
    kinds = TRAINED["rationality"] if flaw == "misshapen" else poor
    return damage(drawn, str(rng.choice(kinds)), "local", rng)[0]


@dataclass(frozen=True)
class Planner:
    """Masks of plans: an assessor, and the manifest with the settings of both stages that the plans are made with."""

    assessor: Assessor
    manifest: Manifest

    def masks(
        self, pictures: Sequence[np.ndarray], prompts: Sequence[str], rng: np.random.Generator
    ) -> list[np.ndarray]:
        """The masks of plans for the pictures, uint8 (128, 128, 3), and their prompts: bool (128, 128) each.

        P is looked at however good the picture is, and its threshold and the growth of the mask vary.
        """
        seen = self.assessor.assess_batch(pictures, prompts, batch=len(pictures))
        options = (
            PlanOptions(p_bound=1.0, tau=rng.uniform(0.6, 0.85), grow=rng.uniform(0.5, 1.5)) for _ in pictures
        )
        return [make_plan(one, self.manifest, option).mask for one, option in zip(seen, options, strict=True)]


def found_mask(
    found: np.ndarray, planned: np.ndarray, scene: Scene, drawn: Rendered, rng: np.random.Generator
) -> np.ndarray:
    """A mask bool (128, 128) for the picture `found`: the `planned` one if it covers the wrong pixels, else one around
    them; and sometimes anywhere."""
    wrong = changed(drawn.image, found)
    if not wrong.any() or rng.random() < ANY_MASK_SHARE:
        return random_mask(drawn, [thing.box for thing in scene.things], rng)
    if (planned & wrong).sum() >= COVERED * wrong.sum():
        return planned
    return grow(wrong, float(rng.uniform(1, 9)))


def open_pairs(pool: Pool, planner: Callable[[], Planner], folder: Path) -> Pairs:
    """A pair of every scene; made into `folder` on first use (about 20 ms each)."""
    count = len(pool.scenes)
    names = [folder / f"pairs-{part}-{count}.npy" for part in ("found", "masks", "mirrored")]
    if not names[-1].exists():
        plans = planner()
        found = np.lib.format.open_memmap(names[0], "w+", np.uint8, (count, SIZE, SIZE, 3))
        masks = np.lib.format.open_memmap(names[1], "w+", np.bool_, (count, sizes.LATENT, sizes.LATENT))
        mirrored = np.empty(count, bool)
        for start in range(0, count, BATCH):
            part = slice(start, start + BATCH)
            found[part], masks[part], mirrored[part] = _made(pool, plans, part)
        found.flush()
        masks.flush()
        np.save(names[2], mirrored)
    found, masks, mirrored = (np.load(name, mmap_mode="r") for name in names)
    return Pairs(found, masks, mirrored)


def _made(pool: Pool, planner: Planner, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`found`, `mask` and `mirrored` of some scenes."""
    rng = np.random.default_rng((31, part.start))
    scenes = pool.scenes[part]
    drawn = [Rendered(*one) for one in zip(pool.images[part], pool.owners[part], strict=True)]
    found = [as_found(scene, one, rng) for scene, one in zip(scenes, drawn, strict=True)]
    planned = planner.masks(found, [prompt_of(scene, rng) for scene in scenes], rng)
    pixels = np.stack([found_mask(*one, rng) for one in zip(found, planned, scenes, drawn, strict=True)])
    # As the runtime does: every cell that holds a masked pixel, whole.
    cells = pixels.reshape(-1, sizes.LATENT, LATENT_SCALE, sizes.LATENT, LATENT_SCALE)
    return np.stack(found), np.asarray(cells.any((2, 4))), rng.random(len(scenes)) < 0.5


def _inside(mask: np.ndarray) -> np.ndarray:
    """The pixels of masked cells (k, 16, 16), bool (k, 128, 128, 1)."""
    return mask.repeat(LATENT_SCALE, 1).repeat(LATENT_SCALE, 2)[..., None]


def _turned(images: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
    """Pictures (k, 128, 128, 3), some of them `mirrored`."""
    return np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def wanted_pictures(pool: Pool, pairs: Pairs, part: slice) -> np.ndarray:
    """What stage 1 should make of some pairs, uint8 (k, 128, 128, 3): the truth in the mask, else what it found."""
    images = np.where(_inside(pairs.mask[part]), pool.images[part], pairs.found[part])
    return _turned(images, pairs.mirrored[part])


@torch.no_grad()
def encode_pairs(
    pool: Pool, pairs: Pairs, vae: Vae, clip: ClipSurgery, device: torch.device, count: int | None = None
) -> Latents:
    """The latents of the first `count` pairs, or all, by an autoencoder, with CLIP's tokens: all in memory, 1.5 KiB a
    channel and pair, and 16."""
    end = len(pool.scenes) if count is None else min(count, len(pool.scenes))
    parts = [
        _encoded(pool, pairs, slice(start, min(start + BATCH, end)), vae, clip, device)
        for start in range(0, end, BATCH)
    ]
    start, clean, masked, mask, tokens = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Latents(start, clean, masked, mask, tokens)


def _encoded(
    pool: Pool, pairs: Pairs, part: slice, vae: Vae, clip: ClipSurgery, device: torch.device
) -> tuple[np.ndarray, ...]:
    """`start`, `clean`, `masked`, `mask` and `tokens` of some pairs."""
    turned = pairs.mirrored[part]
    mask = np.where(turned[:, None, None], pairs.mask[part][:, :, ::-1], pairs.mask[part])
    start, wanted = (
        one.astype(np.float32) / 127.5 - 1
        for one in (_turned(pairs.found[part], turned), wanted_pictures(pool, pairs, part))
    )
    images = np.stack([start, wanted, start * ~_inside(mask)])
    pixels = torch.from_numpy(images).permute(0, 1, 4, 2, 3).to(device)
    encoded = vae.encode(pixels.flatten(0, 1).contiguous(memory_format=torch.channels_last))
    tokens = F.normalize(clip.image_tokens(pixels[1] / 2 + 0.5)[:, 1:], dim=-1)
    tokens = tokens.mT.unflatten(2, (math.isqrt(tokens.shape[1]), -1))
    latents, seen = (one.float().cpu().numpy().astype(np.float16) for one in (encoded, tokens))
    return (*latents.reshape(3, len(mask), *latents.shape[1:]), mask, seen)
