"""Technical defects, each a function (picture, strength, random numbers) -> picture; all uint8 (128, 128, 3)."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from grefine_export.mini.world import SIZE

Image8 = np.ndarray  # uint8 (128, 128, 3)
Effect = Callable[[Image8, float, np.random.Generator], Image8]


def clipped(values: np.ndarray) -> Image8:
    """Rounded to 8 bits."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """The picture moved by whole pixels; what comes in repeats the edge."""
    rows = np.clip(np.arange(SIZE) - down, 0, SIZE - 1)
    columns = np.clip(np.arange(SIZE) - right, 0, SIZE - 1)
    return image[rows][:, columns]


def _blur(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1.6 + 3.4 * strength)))


def _motion(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    angle, reach = rng.uniform(0, np.pi), 4 + 7 * strength
    steps = np.arange(-round(reach), round(reach) + 1)
    total = np.zeros(image.shape, np.float32)
    for step in steps:
        total += shifted(image, round(step * np.sin(angle)), round(step * np.cos(angle)))
    return clipped(total / len(steps))


def _noise(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    planes = 3 if rng.random() < 0.7 else 1
    grain = rng.standard_normal((SIZE, SIZE, planes), np.float32) * np.float32(18 + 52 * strength)
    return clipped(image + grain)


def _specks(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Salt and pepper, in grains of one or two pixels."""
    grain = int(rng.integers(1, 3))
    side = SIZE // grain
    chance = rng.random((side, side), np.float32).repeat(grain, 0).repeat(grain, 1)
    share = 0.02 + 0.1 * strength
    out = image.copy()
    out[chance < share / 2] = 250
    out[chance > 1 - share / 2] = 8
    return out


def _jpeg(picture: Image.Image, quality: int) -> Image8:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _blocking(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    cell = round(4 + 5 * strength)
    small = Image.fromarray(image).resize((-(-SIZE // cell),) * 2, Image.Resampling.BOX)
    return _jpeg(small.resize((SIZE, SIZE), Image.Resampling.NEAREST), int(30 - 22 * strength))


def _compression(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    return _jpeg(Image.fromarray(image), int(13 - 10 * strength))


def _banding(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    levels = round(5 - 2.4 * strength)
    step = 255 / (levels - 1)
    return (np.round(image / step) * step).astype(np.uint8)


def _ringing(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Sharpened far too much: halos along edges, grain that stands out."""
    smooth = Image.fromarray(image).filter(ImageFilter.GaussianBlur(float(rng.uniform(1.2, 2.6))))
    return clipped(image + (2 + 5 * strength) * (image.astype(np.float32) - np.asarray(smooth)))


def _pixels(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Sampled without a filter at every third to seventh pixel: stairs along edges."""
    cell = round(3 + 4 * strength)
    at = (np.arange(SIZE) // cell) * cell + int(rng.integers(cell))
    at = np.minimum(at, SIZE - 1)
    return image[at][:, at]


def _scanlines(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    period = int(rng.integers(2, 6))
    line = (np.arange(SIZE) + int(rng.integers(period))) % period < max(1, period // 2)
    if rng.random() < 0.2:  # upright lines
        dark = np.broadcast_to(line[None, :, None], image.shape)
    else:
        dark = np.broadcast_to(line[:, None, None], image.shape)
    return clipped(np.where(dark, image * (0.7 - 0.5 * strength), image))


def _haze(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Washed out, as through fog."""
    soft = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(1 + strength)), np.float32)
    fog = rng.uniform(185, 235) + rng.uniform(-10, 10, 3)
    share = 0.35 + 0.4 * strength
    return clipped(soft * (1 - share) + fog * share)


def _fringes(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Red and blue apart from green, as a poor lens or a print out of register has them."""
    angle, reach = rng.uniform(0, 2 * np.pi), 2 + 5 * strength
    down, right = round(reach * np.sin(angle)), round(reach * np.cos(angle))
    red, blue = shifted(image[..., 0], down, right), shifted(image[..., 2], -down, -right)
    return np.stack([red, image[..., 1], blue], -1)


def _ghost(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """A second exposure of the picture beside itself."""
    angle, reach = rng.uniform(0, 2 * np.pi), 7 + 9 * strength
    other = shifted(image, round(reach * np.sin(angle)), round(reach * np.cos(angle)))
    share = 0.3 + 0.2 * strength
    return clipped(image * (1 - share) + other * share)


def _dots(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """A raster of dots over the picture."""
    period, turn = rng.uniform(4, 7), rng.uniform(0, np.pi / 2)
    ys, xs = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    across = np.cos((xs * np.cos(turn) + ys * np.sin(turn)) * 2 * np.pi / period)
    along = np.cos((ys * np.cos(turn) - xs * np.sin(turn)) * 2 * np.pi / period)
    return clipped(image + ((30 + 60 * strength) * across * along)[..., None])


TECHNICAL: dict[str, Effect] = {
    "blur": _blur,
    "motion": _motion,
    "noise": _noise,
    "specks": _specks,
    "blocking": _blocking,
    "compression": _compression,
    "banding": _banding,
    "ringing": _ringing,
    "pixels": _pixels,
    "scanlines": _scanlines,
    "haze": _haze,
    "fringes": _fringes,
    "ghost": _ghost,
    "dots": _dots,
}
