"""Regions of defects: soft masks float32 (128, 128), 0..1, of several shapes, with hard and with soft edges."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from grefine_export.mini.world import SIZE, Rendered

Mask = np.ndarray  # float32 (128, 128), 0..1
EDGES = (1.0, 3.0, 10.0)
"""Over how many pixels a region falls from 1 to 0: cut, soft and fading."""
NEAR = 5
VISIBLE = 12  # of 255


def changed(before: np.ndarray, after: np.ndarray, least: int = VISIBLE) -> np.ndarray:
    """The pixels, bool (128, 128), in which two pictures uint8 (128, 128, 3) differ by more than `least` of 255."""
    return np.abs(after.astype(np.int16) - before).max(2) > least


def dilated(mask: np.ndarray, pixels: int) -> np.ndarray:
    """The mask bool (128, 128) grown by a square of `pixels` (at most 7) around it."""
    image = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.BoxBlur(pixels))) > 0


def closed(mask: np.ndarray, pixels: int, spare: int = 1) -> np.ndarray:
    """The mask with holes of up to 2 `pixels` filled, and `spare` pixels around it."""
    return ~dilated(~dilated(mask, pixels), pixels - spare)


def _distance_to_blob(centre: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels to the uneven rim of a rounded spot, positive inside."""
    ys, xs = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    dx, dy = (xs - centre[0]) / radii[0], (ys - centre[1]) / radii[1]
    angle = np.arctan2(dy, dx)
    edge = 1 + 0.1 * np.sin(3 * angle + rng.uniform(0, 6)) + 0.07 * np.sin(5 * angle + rng.uniform(0, 6))
    return (edge - np.hypot(dx, dy)) * radii.min()


def _distance_to_box(centre: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pixels to the rim of a box, upright or turned, positive inside."""
    ys, xs = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    turn = 0.0 if rng.random() < 0.6 else rng.uniform(0, np.pi)
    dx, dy = xs - centre[0], ys - centre[1]
    across, along = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    return np.minimum(radii[0] - np.abs(across), radii[1] - np.abs(along)) * np.float32(0.9)


def _centre(drawn: Rendered, rng: np.random.Generator) -> np.ndarray:
    """(x, y), mostly on a thing: a defect on plain sky is hardly one."""
    count = int(drawn.owner.max())
    if count and rng.random() < 0.85:
        ys, xs = np.nonzero(drawn.owner == rng.integers(1, count + 1))
        if len(xs):
            return np.clip(np.array([xs.mean(), ys.mean()]) + rng.normal(0, 5, 2), 12, SIZE - 12)
    return rng.uniform(24, SIZE - 24, 2)


def _thing(drawn: Rendered, edge: float, rng: np.random.Generator) -> Mask | None:
    """The very shape of a thing, a little more; None where there is none that is large enough."""
    count = int(drawn.owner.max())
    chosen = drawn.owner == int(rng.integers(1, count + 1)) if count else np.zeros((SIZE, SIZE), bool)
    if not 0.035 < chosen.mean() < 0.25:
        return None
    image = Image.fromarray((chosen * 255).astype(np.uint8))
    image = image.filter(ImageFilter.BoxBlur(1)).point(lambda value: 255 if value > 40 else 0)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(edge / 3)), np.float32) / 255


def spot(drawn: Rendered, rng: np.random.Generator, shapes: bool = True) -> Mask:
    """A region of about 4 to 25 % of the picture, mostly on a thing: a rounded spot, a box, or with `shapes` the shape
    of a thing."""
    shape, edge = rng.random(), float(rng.choice(EDGES, p=[0.3, 0.45, 0.25]))
    if shapes and shape < 0.2:
        of_thing = _thing(drawn, edge, rng)
        if of_thing is not None:
            return of_thing
    centre, radii = _centre(drawn, rng), rng.uniform(19, 34, 2)
    distance_to, least = (_distance_to_blob, 1.0) if shape < 0.75 else (_distance_to_box, 0.9)
    distance = distance_to(centre, radii * least, rng)
    return np.clip(distance / edge + 0.5, 0, 1).astype(np.float32)
