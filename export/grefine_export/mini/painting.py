"""The painting of one thing in a style: its layer of colour and coverage, light, shadow and texture."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from grefine_export.mini.backgrounds import SIZE, SUPERSAMPLING
from grefine_export.mini.palette import INK, Rgb, luma, mix, role_colour
from grefine_export.mini.styles import Style
from grefine_export.mini.things.shapes import Shape

_NIGHT: Rgb = (30, 22, 48)
_CHALK: Rgb = (252, 247, 236)
_MARGIN = 4  # pixels around a thing's box
_DETAIL = 0.13, 0.06  # shapes whose longer or shorter side is below this have no outline of their own


@dataclass(frozen=True)
class Layer:
    """A thing by itself: `colour` float32 (h, w, 3), times its coverage; `cover` float32 (h, w), 0..1.

    `rows` and `columns` are where it lies in the picture.
    """

    colour: np.ndarray
    cover: np.ndarray
    rows: slice
    columns: slice


def _distance(a: Rgb, b: Rgb) -> float:
    return float(np.hypot.reduce(np.subtract(a, b, dtype=float)))


def outline(style: Style, body: Rgb, behind: Rgb) -> Rgb | None:
    """The colour of a thing's outline before the ground `behind`, None: no outline.

    A thing that would be lost has one in every style.
    """
    dark, pale = mix(body, _NIGHT, 0.55), mix(body, _CHALK, 0.6)
    own = {"ink": mix(INK, body, 0.12), "tone": dark, "chalk": _CHALK}[style.ink] if style.line else None
    if _distance(body, behind) > 75:
        return own
    choices = [own, dark, pale, mix(body, _NIGHT, 0.8)]
    return next((c for c in choices if c and _distance(c, behind) > 60 and _distance(c, body) > 40), dark)


def _strayed(points: np.ndarray, wobble: float, phase: float) -> np.ndarray:
    """The points moved a little, smoothly, as a hand would: shapes that touch stay together."""
    if not wobble:
        return points
    x, y = points[:, 0], points[:, 1]
    return points + wobble * np.stack([np.sin(11 * y + 5 * x + phase), np.sin(9 * x - 7 * y + 2 * phase)], 1)


def _closed_line(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], fill: int | Rgb, width: int, smooth: bool
) -> None:
    draw.line([*points, points[0], points[1]], fill=fill, width=width, joint="curve" if smooth else None)


def layer(
    shapes: list[Shape],
    body: Rgb,
    centre: tuple[float, float],
    side: float,
    flip: bool,
    style: Style,
    width: float,
    ink: Rgb | None,
) -> Layer:
    """Draws a thing, three times larger first. `width`: of its outline, pixels."""
    half = side / 2 + _MARGIN
    x0, y0 = (max(0, int(c - half)) for c in centre)
    x1, y1 = (min(SIZE, int(c + half) + 1) for c in centre)
    extent = ((x1 - x0) * SUPERSAMPLING, (y1 - y0) * SUPERSAMPLING)
    colour, cover = Image.new("RGB", extent), Image.new("L", extent)
    draw, draw_cover = ImageDraw.Draw(colour), ImageDraw.Draw(cover)
    scale = np.array([-side if flip else side, side]) * SUPERSAMPLING
    shift = (np.array(centre) - (x0, y0)) * SUPERSAMPLING
    phase = 0.7 * centre[0] + 1.3 * centre[1]
    drawn = [
        (
            shape.role,
            [tuple(p) for p in (_strayed(shape.points, style.wobble, phase) * scale + shift).tolist()],
        )
        for shape in shapes
    ]
    pen = max(2, round(width * SUPERSAMPLING))
    sizes = [np.ptp(shape.points, axis=0) for shape in shapes]
    if ink:
        for (role, points), size in zip(drawn, sizes, strict=True):
            lines_itself = role == "ink" and luma(ink) < 120  # strings and feelers would grow thick
            if size.max() > 0.75 * _DETAIL[0] and not lines_itself:
                _closed_line(draw, points, ink, 2 * pen, smooth=True)
                _closed_line(draw_cover, points, 255, 2 * pen, smooth=True)
    for role, group in groupby(zip(drawn, sizes, strict=True), lambda item: item[0][0]):
        fill = mix(role_colour(role, body), (255, 255, 255), style.pale)
        members = list(group)
        if ink and style.line:
            for (_, points), size in members:
                if size.max() > _DETAIL[0] and size.min() > _DETAIL[1]:
                    _closed_line(draw, points, ink, pen, smooth=len(points) < 12)
        for (_, points), _ in members:
            draw.polygon(points, fill=fill)
            draw_cover.polygon(points, fill=255)
    return Layer(
        np.asarray(colour.reduce(SUPERSAMPLING), np.float32),
        np.asarray(cover.reduce(SUPERSAMPLING), np.float32) / 255,
        slice(y0, y1),
        slice(x0, x1),
    )


def _shifted(cover: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """`cover` as seen (dx, dy) further; 0 outside."""
    height, width = cover.shape
    out = np.zeros_like(cover)
    out[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)] = cover[
        max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)
    ]
    return out


def _rim(cover: np.ndarray, dx: float, dy: float, reach: float, soft: bool) -> np.ndarray:
    """The nearness, 0..1, of the thing's end in direction (dx, dy)."""
    steps = np.linspace(1, reach, 4) if soft else [reach]
    seen = [_shifted(cover, round(dx * step), round(dy * step)) for step in steps]
    return np.clip(cover - sum(seen) / len(seen), 0, 1)


def lit(this: Layer, style: Style, light: float) -> Layer:
    """The layer with light from above and from `light` (-1 left .. 1 right)."""
    norm = float(np.hypot(light, 1.0))
    away_x, away_y = -light / norm, 1 / norm
    height, width = this.cover.shape
    colour = this.colour
    if style.gradient:
        xs, ys = np.linspace(-0.5, 0.5, width), np.linspace(-0.5, 0.5, height)
        depth = xs[None] * away_x + ys[:, None] * away_y
        colour = colour * (1 - style.gradient * depth[..., None])
    if style.crescent:
        rim = _rim(this.cover, away_x, away_y, style.reach, style.soft)
        colour = colour * (1 - style.crescent * rim[..., None])
    if style.glow:
        rim = (style.glow * _rim(this.cover, -away_x, -away_y, style.reach, style.soft))[..., None]
        colour = colour * (1 - rim) + rim * 255 * this.cover[..., None]
    return Layer(np.minimum(colour, 255).astype(np.float32), this.cover, this.rows, this.columns)


def contact_shadow(picture: np.ndarray, x: float, foot: float, side: float, light: float) -> None:
    """Darkens an oval on the ground beneath a thing, in place."""
    rx, ry = 0.46 * side, max(3.0, 0.075 * side)
    x -= 0.1 * side * light
    y0, y1 = max(0, int(foot - ry)), min(SIZE, int(foot + ry) + 2)
    x0, x1 = max(0, int(x - rx)), min(SIZE, int(x + rx) + 2)
    ys, xs = np.mgrid[y0:y1, x0:x1]
    inside = 1 - ((xs + 0.5 - x) / rx) ** 2 - ((ys + 0.5 - foot) / ry) ** 2
    share = 0.3 * np.clip(1.6 * inside, 0, 1)[..., None]
    part = picture[y0:y1, x0:x1]
    part += share * (np.array([24, 24, 52]) - part)


def drop_shadow(picture: np.ndarray, this: Layer, light: float) -> None:
    """Darkens the ground below cut paper, in place."""
    dx = -2 if light > 0 else 2
    soft = Image.fromarray((255 * _shifted(this.cover, -dx, -2)).astype(np.uint8)).filter(
        ImageFilter.BoxBlur(1)
    )
    share = 0.34 / 255 * np.asarray(soft, np.float32)[..., None]
    part = picture[this.rows, this.columns]
    part += share * (np.array([24, 20, 44]) - part)


def _smooth_noise(rng: np.random.Generator, cells: int) -> np.ndarray:
    """Noise of mean 0 and deviation near 1 with `cells` cells a side, float32 (128, 128)."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells)).astype(np.float32))
    return np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC))


def texture(style: Style, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(on the ground, on things): the material's addition, levels, float32 (128, 128) each."""
    grain = np.kron(rng.standard_normal((SIZE // 2, SIZE // 2)), np.ones((2, 2))).astype(np.float32)
    ys, xs = np.mgrid[:SIZE, :SIZE].astype(np.float32)
    if style.texture == "crayon":
        strokes = _smooth_noise(rng, 32)
        slanted = sum(np.roll(strokes, (k, -k), (0, 1)) for k in range(-3, 4)) / 3.2
        return 1.1 * slanted + 0.5 * grain, 3.1 * slanted + 0.6 * grain
    if style.texture == "paper":
        fibres = _smooth_noise(rng, 64)
        return 1.5 * fibres, 1.5 * np.roll(fibres, 17, 1)
    if style.texture == "wash":
        blots = _smooth_noise(rng, 12)
        return 1.3 * blots + 0.5 * grain, 3.4 * blots + 0.5 * grain
    if style.texture == "grain":
        fine = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
        return 1.5 * fine, 2.2 * fine
    if style.texture == "hatch":
        lines = np.maximum(np.sin(1.15 * (xs + ys)), -0.2)
        return 0.9 * grain, -8 * lines + 0.9 * grain
    if style.texture == "chalk":
        flecks = np.maximum(_smooth_noise(rng, 64) - 0.7, 0)
        return 1.4 * flecks + 0.8 * grain, 6 * flecks + 0.8 * grain
    return 1.0 * grain, 1.0 * grain


def bare_border(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture with an uneven border of bare paper, where watercolour ends."""
    along = np.minimum(np.arange(SIZE), np.arange(SIZE)[::-1]).astype(np.float32)
    inward = np.minimum(along[None], along[:, None]) + 1.4 * _smooth_noise(rng, 16)
    share = np.clip((inward - 2.5) / 2, 0, 1)[..., None]
    return share * picture + (1 - share) * np.array([250, 247, 240], np.float32)


def dried(this: Layer) -> Layer:
    """Watercolour runs to the edge and dries darker there."""
    inner = np.minimum.reduce([_shifted(this.cover, dx, dy) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))])
    rim = np.clip(this.cover - inner, 0, 1)[..., None]
    return Layer(this.colour * (1 - 0.24 * rim), this.cover, this.rows, this.columns)
