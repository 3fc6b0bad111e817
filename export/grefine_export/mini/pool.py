"""A pool of rendered training scenes, kept as one array on disk: drawn once, used by every model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from grefine_export.mini.world import SIZE, Scene, make_scene, render

TRAINING = 1  # first word of every training seed; `heldout.TEST` is another, so the sets can not meet


@dataclass(frozen=True)
class Pool:
    """`images` uint8 (k, 128, 128, 3) and `owners` uint8 (k, 128, 128), memory-mapped; `scenes` as data."""

    images: np.ndarray
    owners: np.ndarray
    scenes: list[Scene]


def open_pool(folder: Path, count: int) -> Pool:
    """The first `count` training scenes; renders them into `folder` on first use (about 5 ms each)."""
    folder.mkdir(parents=True, exist_ok=True)
    images_file, owners_file = folder / f"images-{count}.npy", folder / f"owners-{count}.npy"
    scenes = [make_scene((TRAINING, index)) for index in range(count)]
    if not owners_file.exists():
        images = np.lib.format.open_memmap(images_file, "w+", np.uint8, (count, SIZE, SIZE, 3))
        owners = np.empty((count, SIZE, SIZE), np.uint8)
        for index, scene in enumerate(scenes):
            drawn = render(scene)
            images[index], owners[index] = drawn.image, drawn.owner
        images.flush()
        np.save(owners_file, owners)
    return Pool(np.load(images_file, mmap_mode="r"), np.load(owners_file, mmap_mode="r"), scenes)
