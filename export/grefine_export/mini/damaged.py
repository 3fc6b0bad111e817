"""The pool's scenes as a weak generator would have drawn them: damaged pictures with the truth of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grefine_export.mini.defects import FACTORS, damage_often, factor_scores, mos
from grefine_export.mini.pool import Pool
from grefine_export.mini.world import Rendered

_SEED = 2


@dataclass(frozen=True)
class Damaged:
    """For each scene of a pool: `images` uint8 (k, 128, 128, 3); `masks` bool (k, 3, 128, 128) by factor;
    `factors` float32 (k, 3) in 0..1; `mos` float32 (k,) in 1..5."""

    images: np.ndarray
    masks: np.ndarray
    factors: np.ndarray
    mos: np.ndarray


def open_damaged(pool: Pool, folder: Path) -> Damaged:
    """One damaged version of every scene of the pool; made into `folder` on first use."""
    count, _, _, _ = pool.images.shape
    names = [folder / f"damaged-{part}-{count}.npy" for part in ("images", "masks", "factors", "mos")]
    if not names[-1].exists():
        images = np.lib.format.open_memmap(names[0], "w+", np.uint8, pool.images.shape)
        masks = np.lib.format.open_memmap(names[1], "w+", np.bool_, (count, 3, *pool.images.shape[1:3]))
        factors, scores = np.empty((count, 3), np.float32), np.empty(count, np.float32)
        for index in range(count):
            rng = np.random.default_rng((_SEED, index))
            images[index], defects = damage_often(Rendered(pool.images[index], pool.owners[index]), rng)
            for defect in defects:
                masks[index, FACTORS.index(defect.factor)] |= defect.mask
            factors[index], scores[index] = factor_scores(defects), mos(defects)
        images.flush()
        masks.flush()
        np.save(names[2], factors)
        np.save(names[3], scores)
    return Damaged(*(np.load(name, mmap_mode="r") for name in names))
