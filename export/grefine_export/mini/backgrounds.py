"""Places of the storybook world: sky, distance, and the ground, without any thing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from grefine_export.mini.palette import SETTINGS, Rgb, Setting, mix

SIZE = 128
SUPERSAMPLING = 3
HORIZON = 76.0  # pixels from the top
SIDE = SIZE * SUPERSAMPLING
_EDGE = int(HORIZON * SUPERSAMPLING)
WHITE: Rgb = (255, 255, 255)

Draw = ImageDraw.ImageDraw
Artist = Callable[[Draw, Setting, np.random.Generator], None]


def _ridge(draw: Draw, heights: np.ndarray, colour: Rgb) -> None:
    """The ridge between the horizon and `heights` above it, evenly spaced over the picture."""
    xs = np.linspace(0, SIDE, len(heights))
    line = [(float(x), float(_EDGE - h)) for x, h in zip(xs, heights, strict=True)]
    draw.polygon([(0, _EDGE + 1), *line, (SIDE, _EDGE + 1)], fill=colour)


def _waves(rng: np.random.Generator, base: float, height: float) -> np.ndarray:
    xs = np.linspace(0, 1, 60)
    return base + height * np.sin(xs * rng.uniform(5, 9) + rng.uniform(0, 6))


def _clouds(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    for x in rng.uniform(0, SIDE, 2):
        y, size = rng.uniform(24, 96), rng.uniform(20, 34)
        colour = mix(mix(setting.top, setting.low, y / _EDGE), WHITE, 0.55)
        for dx, dy, r in ((-1.1, 0.1, 0.6), (0, -0.2, 0.85), (1.0, 0.1, 0.65)):
            cx, cy = x + dx * size, y + dy * size
            draw.ellipse((cx - r * size, cy - r * size, cx + r * size, cy + 0.45 * size), fill=colour)


def _marks(
    draw: Draw, colour: Rgb, rng: np.random.Generator, count: int, length: float, rise: float = 0.0
) -> None:
    """Short strokes on the ground, nearer ones longer."""
    for x, depth in zip(rng.uniform(0, SIDE, count), rng.uniform(0.05, 1, count), strict=True):
        y, reach = _EDGE + depth * (SIDE - _EDGE), length * (0.4 + 0.6 * depth)
        if rise:
            for lean in (-0.5, 0.0, 0.5):
                draw.line((x, y, x + lean * reach, y - rise * reach), fill=colour, width=3)
        else:
            draw.line((x - reach, y, x + reach, y), fill=colour, width=4)


def _hills(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    _clouds(draw, setting, rng)
    _ridge(draw, _waves(rng, 52, 22), mix(setting.hills, setting.low, 0.45))
    _ridge(draw, _waves(rng, 26, 18), setting.hills)
    if setting.ground[1] > setting.ground[0]:
        _marks(draw, mix(setting.ground, setting.hills, 0.75), rng, 14, 11, rise=1.1)
    else:
        _marks(draw, mix(setting.ground, setting.hills, 0.5), rng, 9, 26)


def _sea(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    _clouds(draw, setting, rng)
    draw.rectangle((0, _EDGE - 38, SIDE, _EDGE + 3), fill=setting.hills)
    light = mix(setting.hills, WHITE, 0.4)
    for x, y in zip(rng.uniform(0, SIDE, 9), rng.uniform(_EDGE - 32, _EDGE - 6, 9), strict=True):
        draw.line((x - 14, y, x + 14, y), fill=light, width=3)
    xs = np.linspace(0, SIDE, 50)
    foam = _EDGE + 6 + 4 * np.sin(xs / 26 + rng.uniform(0, 6))
    line = [(float(x), float(y)) for x, y in zip(xs, foam, strict=True)]
    draw.polygon([(0, _EDGE), *line, (SIDE, _EDGE)], fill=setting.hills)
    draw.line(line, fill=mix(setting.hills, WHITE, 0.8), width=7)
    _marks(draw, mix(setting.ground, (150, 110, 60), 0.28), rng, 12, 7)


def _peaks(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    pale = mix(setting.hills, setting.low, 0.5)
    for colour, tall, count in ((pale, 98, 3), (setting.hills, 66, 4)):
        tops = rng.uniform(0.75, 1.0, count) * tall
        step = SIDE / count
        start = rng.uniform(-0.5, 0.0) * step
        for k, top in enumerate((*tops, tops[0])):
            x = start + (k + 0.5) * step
            reach = 0.8 * step
            draw.polygon([(x - reach, _EDGE + 1), (x, _EDGE - top), (x + reach, _EDGE + 1)], fill=colour)
            cap = 0.3
            zigzag = [(x - cap * reach, _EDGE - top * (1 - cap)), (x - 0.1 * reach, _EDGE - top * 0.8)]
            zigzag += [(x, _EDGE - top * 0.7), (x + 0.12 * reach, _EDGE - top * 0.8)]
            zigzag += [(x + cap * reach, _EDGE - top * (1 - cap))]
            draw.polygon([(x, _EDGE - top), *zigzag], fill=mix(colour, WHITE, 0.42))
    _marks(draw, mix(setting.ground, setting.hills, 0.4), rng, 8, 22)


def _stars(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    for x, y in zip(rng.uniform(0, SIDE, 18), rng.uniform(0, _EDGE - 70, 18), strict=True):
        r = rng.uniform(2.5, 5)
        draw.polygon([(x, y - 2 * r), (x + r, y), (x, y + 2 * r), (x - r, y)], fill=(250, 244, 214))
        draw.polygon([(x - 2 * r, y), (x, y + r), (x + 2 * r, y), (x, y - r)], fill=(250, 244, 214))
    _ridge(draw, _waves(rng, 52, 22), mix(setting.hills, setting.low, 0.4))
    _ridge(draw, _waves(rng, 28, 16), setting.hills)
    _marks(draw, mix(setting.ground, (20, 30, 50), 0.35), rng, 12, 11, rise=1.1)


def _trunks(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    far = mix(setting.hills, setting.low, 0.55)
    for colour, count, width in ((far, 9, 9), (mix(setting.hills, setting.low, 0.2), 5, 15)):
        for k in range(count):
            x = (k + rng.uniform(0.1, 0.9)) * SIDE / count
            wide = width * rng.uniform(0.8, 1.2)
            draw.polygon(
                [(x - 0.7 * wide, 0), (x + 0.7 * wide, 0), (x + wide, _EDGE), (x - wide, _EDGE)], fill=colour
            )
    _ridge(draw, 16 + 10 * np.abs(np.sin(np.linspace(0, rng.uniform(14, 20), 90))), setting.hills)
    _marks(draw, mix(setting.ground, (60, 84, 50), 0.4), rng, 14, 10, rise=1.0)


def _wall(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    stripe = mix(setting.low, setting.hills, 0.4)
    step = SIDE / 11
    start = rng.uniform(-step, 0)
    for k in range(13):
        draw.rectangle((start + k * step, 0, start + (k + 0.42) * step, _EDGE), fill=stripe)
    draw.rectangle((0, _EDGE - 15, SIDE, _EDGE), fill=mix(setting.low, WHITE, 0.6))
    draw.line((0, _EDGE, SIDE, _EDGE), fill=mix(setting.ground, (60, 30, 20), 0.4), width=3)
    seam = mix(setting.ground, (80, 50, 30), 0.3)
    for depth in (0.2, 0.5, 0.84):
        y = _EDGE + depth * (SIDE - _EDGE)
        draw.line((0, y, SIDE, y), fill=seam, width=3)
        for x in rng.uniform(0, SIDE, 2):
            draw.line((x, y, x, y + (0.3 if depth < 0.6 else 0.2) * (SIDE - _EDGE)), fill=seam, width=3)


def _skyline(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    for colour, low, high in (
        (mix(setting.hills, setting.low, 0.6), 70, 130),
        (mix(setting.hills, setting.low, 0.2), 30, 80),
    ):
        x = float(rng.uniform(-30, 0))
        while x < SIDE:
            wide, top = rng.uniform(28, 52), _EDGE - rng.uniform(low, high)
            draw.rectangle((x, top, x + wide, _EDGE), fill=colour)
            for row in np.arange(top + 10, _EDGE - 16, 19):
                for column in np.arange(x + 7, x + wide - 9, 14):
                    draw.rectangle(
                        (column, row, column + 6, row + 9), fill=mix(colour, (255, 244, 200), 0.45)
                    )
            x += wide + rng.uniform(2, 10)
    draw.rectangle((0, _EDGE, SIDE, _EDGE + 9), fill=mix(setting.ground, WHITE, 0.45))
    draw.line((0, _EDGE + 11, SIDE, _EDGE + 11), fill=mix(setting.ground, (60, 60, 70), 0.5), width=3)
    start = rng.uniform(-60, 0)
    for k in range(6):
        x = start + k * 84
        draw.polygon(
            [(x, 300), (x + 44, 300), (x + 40, 309), (x - 6, 309)], fill=mix(setting.ground, WHITE, 0.6)
        )


def _deep(draw: Draw, setting: Setting, rng: np.random.Generator) -> None:
    for x in rng.uniform(0, SIDE, 3):
        colour = mix(setting.top, setting.low, 0.32)
        draw.polygon([(x, 0), (x + 26, 0), (x - 34, _EDGE * 0.7), (x - 92, _EDGE * 0.7)], fill=colour)
    _ridge(draw, _waves(rng, 36, 20), mix(setting.hills, setting.low, 0.35))
    _ridge(draw, _waves(rng, 16, 10), setting.hills)
    weed = (52, 128, 112)
    for x in rng.uniform(0, SIDE, 5):
        tall, phase = rng.uniform(40, 84), rng.uniform(0, 6)
        ys = np.linspace(_EDGE + 14, _EDGE + 14 - tall, 12)
        draw.line([(float(x + 6 * np.sin(y / 11 + phase)), float(y)) for y in ys], fill=weed, width=8)
    for x, y in zip(rng.uniform(0, SIDE, 7), rng.uniform(0, _EDGE, 7), strict=True):
        r = rng.uniform(4, 8)
        draw.ellipse((x - r, y - r, x + r, y + r), outline=(196, 230, 238), width=2)
    _marks(draw, mix(setting.ground, (120, 100, 70), 0.3), rng, 9, 20)


_ARTISTS: dict[str, Artist] = {
    "hills": _hills,
    "sea": _sea,
    "peaks": _peaks,
    "stars": _stars,
    "trunks": _trunks,
    "wall": _wall,
    "skyline": _skyline,
    "deep": _deep,
}


def sky_colour(setting: Setting, y: float) -> Rgb:
    """Colour of the sky `y` pixels from the top."""
    return mix(setting.top, setting.low, min(1.0, max(0.0, y / HORIZON)))


def background(name: str, rng: np.random.Generator) -> np.ndarray:
    """The place of `SETTINGS` called `name`, float32 (128, 128, 3), 0..255; `rng` places the details."""
    setting = SETTINGS[name]
    rows = np.linspace(0, 1, _EDGE)[:, None]
    sky = np.array(setting.top) * (1 - rows) + np.array(setting.low) * rows
    depth = np.linspace(0, 1, SIDE - _EDGE)[:, None]
    ground = np.array(setting.ground) * (1.04 - 0.14 * depth)
    column = np.clip(np.concatenate([sky, ground]), 0, 255).astype(np.uint8)
    image = Image.fromarray(column[:, None]).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    _ARTISTS[setting.kind](ImageDraw.Draw(image), setting, rng)
    return np.asarray(image.reduce(SUPERSAMPLING), np.float32)
