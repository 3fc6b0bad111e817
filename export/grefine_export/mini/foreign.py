"""Pictures of other kinds than the storybook world, drawn by code, against which the domain of pictures is fitted.

They have features of photographs, paintings, screens and charts that the world lacks: occluding leaves of every size
(dead leaves, the model of natural pictures' statistics), textures with 1/f spectra, shading, text and lines.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from grefine_export.mini.world import SIZE

Draw = Callable[[np.random.Generator], np.ndarray]


def foreign_picture(seed: tuple[int, ...]) -> np.ndarray:
    """One picture, uint8 (128, 128, 3), of a random kind, perhaps without colour, blurred, grainy or darkened."""
    rng = np.random.default_rng(seed)
    picture = KINDS[int(rng.integers(len(KINDS)))](rng)
    if rng.random() < 0.25:
        picture = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2)
    if rng.random() < 0.3:
        picture = _blurred(picture, rng.uniform(0.4, 2))
    if rng.random() < 0.3:
        picture = picture + rng.normal(0, rng.uniform(0.01, 0.08), picture.shape)
    picture = np.clip(picture, 0, 1) ** rng.uniform(0.6, 1.8)
    return np.asarray(np.round(255 * picture), np.uint8)


def _spectrum(rng: np.random.Generator, channels: int) -> np.ndarray:
    """Noise (128, 128, channels) in [0, 1] whose amplitude falls as a power of the frequency."""
    fy, fx = np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)[None]
    stretch = rng.uniform(0.5, 2)
    frequency = np.maximum(np.hypot(fy * stretch, fx / stretch), 1 / SIZE)
    spectrum = np.fft.fft2(rng.normal(size=(channels, SIZE, SIZE))) / frequency ** rng.uniform(0.6, 2)
    field = np.fft.ifft2(spectrum).real
    low, high = np.quantile(field, (0.02, 0.98))
    return np.asarray(((field - low) / (high - low)).transpose(1, 2, 0))


def _palette(rng: np.random.Generator) -> Callable[[], np.ndarray]:
    """Colours of one scene: a few tones of low saturation, each a little different every time."""
    tones = rng.uniform(0.05, 0.95, (int(rng.integers(2, 6)), 1)) + rng.normal(
        0, rng.uniform(0.02, 0.2), (1, 3)
    )
    return lambda: np.clip(tones[int(rng.integers(len(tones)))] + rng.normal(0, 0.06, 3), 0, 1)


def _blurred(picture: np.ndarray, radius: float) -> np.ndarray:
    image = Image.fromarray(np.asarray(np.clip(255 * picture, 0, 255), np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float64) / 255


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Grass, gravel, clouds: one spectrum, its channels alike."""
    common, own = _spectrum(rng, 1), _spectrum(rng, 3)
    tint = rng.uniform(0.3, 1, 3)
    return np.asarray(tint * (0.75 * common + 0.25 * own) + rng.uniform(-0.1, 0.2))


def _leaves(rng: np.random.Generator) -> np.ndarray:
    """Things of all sizes, one over another, each textured and shaded, as in a photograph."""
    colour, grain, shade = _palette(rng), _spectrum(rng, 1), _spectrum(rng, 1)
    picture = np.empty((SIZE, SIZE, 3))
    picture[:] = colour()
    smallest, power = rng.uniform(1.5, 6), rng.uniform(1, 2.2)
    for _ in range(int(rng.integers(40, 400))):
        radius = min(smallest * (1 - rng.random()) ** (-1 / power), SIZE / 2)
        amount, light, tone = rng.uniform(0, 0.5), rng.uniform(-0.3, 0.3), colour()
        (left, top), mask = _leaf(rng, radius)
        here = (slice(top, top + mask.shape[0]), slice(left, left + mask.shape[1]))
        leaf = tone * (1 - amount + amount * grain[here]) + light * shade[here]
        picture[here] = np.where(mask[..., None], leaf, picture[here])
    return picture


def _leaf(rng: np.random.Generator, radius: float) -> tuple[tuple[int, int], np.ndarray]:
    """A polygon anywhere: the left and top of its box, and the box as bool (h, w), inside the picture."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 12))))
    reach = radius * rng.uniform(0.5, 1.2, len(angles))
    points = rng.uniform(0, SIZE, 2) + reach[:, None] * np.stack(
        [np.cos(angles), rng.uniform(0.3, 1) * np.sin(angles)], axis=1
    )
    left, top = (int(low) for low in np.clip(points.min(axis=0), 0, SIZE - 1))
    right, bottom = (int(high) + 1 for high in np.clip(points.max(axis=0), 0, SIZE - 1))
    box = Image.new("1", (max(right - left, 1), max(bottom - top, 1)))
    ImageDraw.Draw(box).polygon([(x - left, y - top) for x, y in points], fill=1)
    return (left, top), np.asarray(box)


def _portrait(rng: np.random.Generator) -> np.ndarray:
    """One large shaded thing before a blurred ground."""
    ground = _blurred(np.clip(_leaves(rng), 0, 1), rng.uniform(2, 8))
    thing = _texture(rng) * rng.uniform(0.4, 1) + _palette(rng)() * rng.uniform(0, 0.6)
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE - rng.uniform(0.3, 0.7, (2, 1, 1))
    edge = rng.uniform(0.15, 0.4) * (
        1 + 0.3 * np.sin(np.arctan2(y, x) * rng.integers(2, 7) + rng.uniform(0, 6))
    )
    return np.where((np.hypot(x, y * rng.uniform(0.6, 1.4)) < edge)[..., None], thing, ground)


def _page(rng: np.random.Generator) -> np.ndarray:
    """A page, a screen or a chart: lines of marks, frames, curves and bars on a plain ground."""
    dark = rng.random() < 0.3
    ground, ink = (
        (rng.uniform(0, 0.25), rng.uniform(0.5, 1)) if dark else (rng.uniform(0.75, 1), rng.uniform(0, 0.5))
    )
    image = Image.new("RGB", (SIZE, SIZE), (int(255 * ground),) * 3)
    draw = ImageDraw.Draw(image)

    def colour() -> tuple[int, int, int]:
        tone = np.clip(ink + rng.normal(0, 0.15, 3) * (rng.random() < 0.4), 0, 1)
        return int(255 * tone[0]), int(255 * tone[1]), int(255 * tone[2])

    for _ in range(int(rng.integers(1, 6))):
        left, top = rng.integers(0, SIZE, 2)
        box = (int(left), int(top), int(left + rng.integers(5, SIZE)), int(top + rng.integers(5, SIZE)))
        kind = int(rng.integers(4))
        if kind == 0:
            draw.rectangle(box, outline=colour(), fill=colour() if rng.random() < 0.3 else None)
        elif kind == 1:
            draw.line(
                [(int(x), int(rng.integers(box[1], box[3]))) for x in range(box[0], box[2], 6)], fill=colour()
            )
        elif kind == 2:
            for x in range(box[0], box[2], int(rng.integers(4, 16))):
                draw.rectangle((x, int(rng.integers(box[1], box[3])), x + 3, box[3]), fill=colour())
        else:
            draw.ellipse(box, outline=colour())
    step, height = int(rng.integers(4, 14)), int(rng.integers(1, 8))
    for y in range(int(rng.integers(0, 30)), int(rng.integers(40, SIZE)), step):
        x = int(rng.integers(2, 20))
        while x < SIZE - 10 and rng.random() < 0.97:
            width = int(rng.integers(1, 4))
            draw.rectangle((x, y, x + width, y + min(height, step - 2)), fill=colour())
            x += width + (1 if rng.random() < 0.8 else 5)
    return np.asarray(image, np.float64) / 255


KINDS: tuple[Draw, ...] = (_leaves, _leaves, _leaves, _portrait, _texture, _page)
