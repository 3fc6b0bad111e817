"""What stage 1 learns from: pictures as a weak generator drew them, masks as a plan makes them, and the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from grefine_export.mini.defects import NATURALNESS, RATIONALITY, TECHNICAL, changed, damage, spot
from grefine_export.mini.heldout import ALIGNMENT, misalign
from grefine_export.mini.pool import Pool
from grefine_export.mini.world import SIZE, Rendered, Scene, render
from grefine_export.models.vae import Vae
from grefine_rt.diffusion.loop import LATENT_SCALE
from grefine_rt.imaging.mask import grow

PAIRS_PER_SCENE = 2
SHARES = {"sound": 0.25, "misshapen": 0.45, "misaligned": 0.15, "poor": 0.15}
ANY_MASK_SHARE = 0.2


@dataclass(frozen=True)
class Latents:
    """Training examples: `start`, `clean` and `masked` float16 (k, 4, 16, 16), the latents of the picture that stage 1
    finds, of what it should be, and of the first one without its mask; `mask` bool (k, 16, 16); `scene` int (k,) the
    index of each in the pool."""

    start: np.ndarray
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
    kinds = RATIONALITY if flaw == "misshapen" else (*TECHNICAL, *NATURALNESS)
    return damage(drawn, str(rng.choice(kinds)), "local", rng)[0]


def found_mask(found: np.ndarray, scene: Scene, drawn: Rendered, rng: np.random.Generator) -> np.ndarray:
    """A mask bool (128, 128): around what is wrong in the picture `found`, and sometimes anywhere."""
    wrong = changed(drawn.image, found)
    if not wrong.any() or rng.random() < ANY_MASK_SHARE:
        return random_mask(drawn, [thing.box for thing in scene.things], rng)
    return grow(wrong, float(rng.uniform(1, 9)))


@torch.no_grad()
def make_latents(pool: Pool, vae: Vae, folder: Path, device: torch.device) -> Latents:
    """Encodes every scene as it was found, as it should be, and with a hole, `PAIRS_PER_SCENE` times; once, kept in
    `folder`."""
    file = folder / f"redrawing-{len(pool.scenes)}.npz"
    if file.exists():
        return Latents(**np.load(file))
    rows = np.tile(np.arange(len(pool.scenes)), PAIRS_PER_SCENE)
    parts = [
        _encoded(pool, vae, rows[start : start + 64], start, device) for start in range(0, len(rows), 64)
    ]
    start, clean, masked, mask = (np.concatenate(part) for part in zip(*parts, strict=True))
    latents = Latents(start, clean, masked, mask, rows)
    np.savez(file, **vars(latents))
    return latents


def _encoded(
    pool: Pool, vae: Vae, rows: np.ndarray, seed: int, device: torch.device
) -> tuple[np.ndarray, ...]:
    """`start`, `clean`, `masked` and `mask` of some scenes, half of them mirrored."""
    rng = np.random.default_rng((31, seed))
    cells = SIZE // LATENT_SCALE
    images = np.empty((3, len(rows), SIZE, SIZE, 3), np.float32)
    masks = np.empty((len(rows), cells, cells), bool)
    for place, row in enumerate(rows):
        scene, drawn = pool.scenes[row], Rendered(pool.images[row], pool.owners[row])
        found = as_found(scene, drawn, rng)
        mask = found_mask(found, scene, drawn, rng)
        # As the runtime does: every cell that holds a masked pixel, whole.
        mask = mask.reshape(cells, LATENT_SCALE, cells, LATENT_SCALE).any((1, 3))
        both = np.stack([found, drawn.image]).astype(np.float32) / 127.5 - 1
        hole = both[0] * ~mask.repeat(LATENT_SCALE, 0).repeat(LATENT_SCALE, 1)[..., None]
        turn = -1 if rng.random() < 0.5 else 1
        images[:, place] = np.concatenate([both, hole[None]])[:, :, ::turn]
        masks[place] = mask[:, ::turn]
    pixels = torch.from_numpy(images).flatten(0, 1).permute(0, 3, 1, 2).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        encoded = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).float().cpu()
    return (*encoded.numpy().astype(np.float16).reshape(3, len(rows), *encoded.shape[1:]), masks)
