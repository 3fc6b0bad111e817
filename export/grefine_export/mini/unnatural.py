"""Unnatural colours and light, each a function (picture, strength, random numbers) -> picture; all uint8."""

from __future__ import annotations

import numpy as np
from PIL import Image

from grefine_export.mini.technical import Effect, Image8, clipped
from grefine_export.mini.world import SIZE

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def _hue(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    hsv = np.array(Image.fromarray(image).convert("HSV"))
    hsv[..., 0] += np.uint8(256 * rng.choice([1, -1]) * (0.14 + 0.36 * strength) % 256)
    hsv[..., 1] = np.clip(hsv[..., 1] * 1.15 + 12, 0, 255)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))


def _saturation(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    grey = image.mean(2, keepdims=True)
    factor = 0.25 * (1 - strength) if rng.random() < 0.5 else 1.9 + 1.6 * strength
    return clipped(grey + (image - grey) * factor)


def _contrast(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    mean = image.mean()
    factor = 0.5 - 0.36 * strength if rng.random() < 0.5 else 2.0 + 1.4 * strength
    return clipped(mean + (image - mean) * factor)


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    """A strong colour of any hue, float32 (3,)."""
    hsv = np.array([[[rng.integers(256), 225, 235]]], np.uint8)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"), np.float32)[0, 0]


def _cast(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Everything tinted, as under a coloured lamp."""
    share = 0.25 + 0.35 * strength
    return clipped(image * (1 - share) + (0.35 + image / 255 * 0.65) * _any_colour(rng) * share)


def _inverted(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """A negative, or (half of them) one in colour alone: light stays light."""
    share = 0.7 + 0.3 * strength
    negative = 255.0 - image
    if rng.random() < 0.5:
        negative = negative + (image @ _LUMA - negative @ _LUMA)[..., None]
    return clipped(image * (1 - share) + negative * share)


def _light(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Light that falls from nowhere: a glare or a shade that grows across the picture or around a point."""
    ys, xs = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        amount = 0.5 + (xs * np.cos(angle) + ys * np.sin(angle)) * rng.uniform(0.6, 1.2)
    else:
        x, y = rng.uniform(-0.3, 0.3, 2)
        amount = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 0.12)
    amount = np.clip(amount * (0.6 + 0.4 * strength), 0, 1)[..., None]
    target = np.array([255, 244, 200] if rng.random() < 0.5 else [14, 10, 34], np.float32)
    return clipped(image * (1 - amount) + target * amount)


def _exposure(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Far too bright or far too dark; values beyond white or black are lost."""
    if rng.random() < 0.5:
        return clipped(image * (1.45 + 0.8 * strength) + 12)
    return clipped(image * (0.55 - 0.35 * strength) - 4)


def _channels(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Red, green and blue exchanged."""
    orders = ((1, 0, 2), (2, 1, 0), (0, 2, 1), (1, 2, 0), (2, 0, 1))
    share = 0.75 + 0.25 * strength
    other = image[..., orders[int(rng.integers(len(orders)))]]
    return clipped(image * (1 - share) + other.astype(np.float32) * share)


def _duotone(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Two inks only: dark places in one, light places in another."""
    bright = (image @ _LUMA / 255)[..., None]
    dark, light = _any_colour(rng) * 0.35, 0.35 * _any_colour(rng) + 0.65 * 255
    share = 0.6 + 0.4 * strength
    return clipped(image * (1 - share) + (dark + (light - dark) * bright) * share)


def _stains(image: Image8, strength: float, rng: np.random.Generator) -> Image8:
    """Blotches of foreign colours that run into each other."""
    cells = int(rng.integers(4, 8))
    field = rng.integers(0, 256, (cells, cells, 3), np.uint8)
    blotches = np.asarray(Image.fromarray(field).resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.float32)
    return clipped(image + (blotches - 127) * (0.4 + 0.7 * strength))


NATURALNESS: dict[str, Effect] = {
    "hue": _hue,
    "saturation": _saturation,
    "contrast": _contrast,
    "cast": _cast,
    "inverted": _inverted,
    "light": _light,
    "exposure": _exposure,
    "channels": _channels,
    "duotone": _duotone,
    "stains": _stains,
}
