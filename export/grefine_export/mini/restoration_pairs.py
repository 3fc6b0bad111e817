"""The pairs that stage 2 learns from: damaged crops of the world and the sound ones, damaged anew for every batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from grefine_export.mini.defects import TRAINED, damage
from grefine_export.mini.pool import Pool
from grefine_export.mini.regions import spot
from grefine_export.mini.train_vae import STAGE2, enlarge
from grefine_export.mini.training import seeded
from grefine_export.mini.world import SIZE, Rendered
from grefine_export.models.vae import Vae

REDRAWN_SHARE, SOUND_SHARE, GLOBAL_SHARE, TWICE_SHARE = 0.1, 0.1, 0.2, 0.1
_LONG_TO_LEARN = {"blur": 3.0, "blocking": 3.0, "pixels": 2.0, "banding": 1.5, "ringing": 1.5}
TECHNICAL_SHARES = {kind: _LONG_TO_LEARN.get(kind, 1.0) for kind in TRAINED["technical"]}
ALL_SHARES = {**TECHNICAL_SHARES, **dict.fromkeys(TRAINED["naturalness"], 1.5)}
"""The frequencies of defects: slowly learned kinds come more often, misshapen things, which are stage 1's, never."""


@dataclass(frozen=True)
class Pairs:
    """`bad` and `good` (b, 3, s, s) in [0, 1], enlarged as stage 2 sees them; `rows` (b,), their scenes."""

    bad: Tensor
    good: Tensor
    rows: np.ndarray


def relative_error(clean: Tensor, bad: Tensor, good: Tensor, mild: float) -> tuple[Tensor, dict[str, float]]:
    """Squared error of each sample (b,) over its error before, so that a mild defect counts as much as a heavy one, and
    both means for the log. Below `mild` a sample's weight grows no more."""
    error, before = ((image - good).pow(2).mean((1, 2, 3)) for image in (clean, bad))
    figures = {"clean_mse": float(error.detach().mean()), "bad_mse": float(before.mean())}
    return error / (before + mild), {name: round(value, 5) for name, value in figures.items()}


@torch.no_grad()
def _redrawn(vae: Vae, image: np.ndarray) -> np.ndarray:
    """An image after stage 1's autoencoder, uint8 (128, 128, 3)."""
    signed = torch.from_numpy(image.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    back = vae.decode(vae.encode(signed))[0].permute(1, 2, 0)
    return ((back.clamp(-1, 1) + 1) * 127.5).round().byte().cpu().numpy()


def _damaged(drawn: Rendered, shares: Mapping[str, float], rng: np.random.Generator) -> np.ndarray:
    """The picture with no, one or two defects, more often local than not."""
    image = drawn.image
    often = np.array(list(shares.values()))
    count = rng.choice(3, p=[SOUND_SHARE, 1 - SOUND_SHARE - TWICE_SHARE, TWICE_SHARE])
    for kind in rng.choice(list(shares), size=count, replace=False, p=often / often.sum()):
        reach = "global" if rng.random() < GLOBAL_SHARE else "local"
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


def restoration_pairs(
    pool: Pool,
    shares: Mapping[str, float],
    redrawer: Vae | None,
    side: int,
    count: int,
    seed: int,
    step: int = 0,
) -> Iterator[Pairs]:
    """Endless batches of `count` crops of `side` pixels, two of a picture where the crop is smaller than it.

    shares: the frequency of each kind of defect. In some crops, a region is as stage 1 leaves it: sound, but as soft
    as its autoencoder `redrawer`, which is on the CPU, draws. A run from `step` on gets other
    pairs than one from the beginning.
    """
    rng = seeded(seed, side, step)
    a_picture = 2 if side < SIZE else 1
    while True:
        rows = rng.integers(len(pool.scenes), size=count // a_picture)
        pairs = np.empty((2, count, side, side, 3), np.uint8)
        for place, index in enumerate(rows):
            good = pool.images[index]
            drawn = Rendered(good, pool.owners[index])
            bad = _damaged(drawn, shares, rng)
            if redrawer is not None and rng.random() < REDRAWN_SHARE:
                region = spot(drawn, rng) > 0.5
                bad = np.where(region[..., None], _redrawn(redrawer, good), bad)
            changed = (bad != good).any(2)
            for part in range(place, count, len(rows)):
                y, x = _corner(changed, side, rng)
                turn = -1 if rng.random() < 0.5 else 1
                for image, kept in ((bad, pairs[0]), (good, pairs[1])):
                    kept[part] = image[y : y + side, x : x + side][:, ::turn]
        both = torch.from_numpy(pairs).flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        bad, good = enlarge(both, STAGE2.enlarged).split(count)
        yield Pairs(bad, good, np.tile(rows, a_picture))
