"""Scenes of the storybook world: data, prompt, picture and the truth of every pixel.

A `Scene` is data alone. `render` draws it at 128 x 128 (three times larger first, then averaged: smooth
edges), with a little paper grain. The same scene always gives the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

from grefine_export.mini.palette import COLOURS, SETTINGS, mix, role_colour
from grefine_export.mini.things import FOOT, KINDS, SHAPES, SKY_KINDS

SIZE = 128
SUPERSAMPLING = 3
SCALES = {"small": 38.0, "medium": 48.0, "large": 62.0}  # side of a thing's box, pixels
HORIZON = 76.0  # pixels from the top
Seed = int | tuple[int, ...]


@dataclass(frozen=True)
class Thing:
    """One thing of a scene. `x`, `y`: centre, pixels; `size`: a key of `SCALES`; `flip`: mirrored;
    `variant`: which of the kind's shapes, counted round."""

    kind: str
    colour: str
    size: str
    x: float
    y: float
    flip: bool
    variant: int = 0

    @property
    def side(self) -> float:
        return SCALES[self.size]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1), pixels, inside the picture."""
        half = self.side / 2
        x0, y0 = max(0, round(self.x - half)), max(0, round(self.y - half))
        return x0, y0, min(SIZE, round(self.x + half)), min(SIZE, round(self.y + half))

    @property
    def name(self) -> str:
        """As a prompt says it, without an article: `small red house`."""
        size = "" if self.size == "medium" else self.size + " "
        return f"{size}{self.colour} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """A picture as data.

    `seed` drives hills, stars and texture only. `style` is a key of `styles.STYLES`; `line` the width of
    outlines, pixels; `light` where light comes from, -1 left .. 1 right, always from above.
    """

    setting: str
    things: tuple[Thing, ...]
    seed: int
    style: str = "shaded"
    line: float = 1.2
    light: float = -0.7


@dataclass(frozen=True)
class Rendered:
    """`image` uint8 (128, 128, 3); `owner` uint8 (128, 128): 0 background, k + 1 the k-th thing."""

    image: np.ndarray
    owner: np.ndarray


def _overlap(a: Thing, b: Thing) -> float:
    """Shared part of the smaller box, 0..1."""
    ax0, ay0, ax1, ay1 = a.box
    bx0, by0, bx1, by1 = b.box
    shared = max(0, min(ax1, bx1) - max(ax0, bx0)) * max(0, min(ay1, by1) - max(ay0, by0))
    return shared / max(1, min((ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0)))


def _place(rng: np.random.Generator, kind: str, colour: str, size: str) -> Thing:
    half = SCALES[size] / 2
    x = rng.uniform(half + 2, SIZE - half - 2)
    if kind in SKY_KINDS:
        y = rng.uniform(half + 2, max(half + 3, 50))
    else:  # stands on the ground
        bottom = rng.uniform(max(HORIZON + 14, half * 2 + 3), SIZE - 5)
        y = bottom - 2 * half * FOOT[kind]
    return Thing(kind, colour, size, float(x), float(y), bool(rng.random() < 0.5))


def make_scene(seed: Seed) -> Scene:
    """A random scene of 1 to 3 things of different kinds that hardly cover each other."""
    rng = np.random.default_rng(seed)
    setting = str(rng.choice(list(SETTINGS)))
    wanted = int(rng.choice([1, 2, 3], p=[0.25, 0.45, 0.3]))
    kinds = rng.choice(KINDS, size=wanted, replace=False)
    things: list[Thing] = []
    for kind in kinds:
        colour = str(rng.choice(list(COLOURS)))
        for _ in range(30):
            size = str(rng.choice(["small", "medium", "large"], p=[0.3, 0.35, 0.35]))
            thing = _place(rng, str(kind), colour, size)
            if all(_overlap(thing, other) < 0.12 for other in things):
                things.append(thing)
                break
    return Scene(setting, tuple(things), int(rng.integers(2**31)))


def _background(scene: Scene, rng: np.random.Generator) -> Image.Image:
    setting = SETTINGS[scene.setting]
    side = SIZE * SUPERSAMPLING
    horizon = int(HORIZON * SUPERSAMPLING)
    rows = np.linspace(0, 1, horizon)[:, None]
    sky = np.array(setting.top) * (1 - rows) + np.array(setting.low) * rows
    depth = np.linspace(0, 1, side - horizon)[:, None]
    ground = np.array(setting.ground) * (1.04 - 0.14 * depth)
    column = np.clip(np.concatenate([sky, ground]), 0, 255).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(column[:, None], (side, side, 3))))
    draw = ImageDraw.Draw(image)
    if setting.kind == "sea":
        draw.rectangle((0, horizon - 36, side, horizon + 3), fill=setting.hills)
        draw.rectangle((0, horizon + 3, side, horizon + 9), fill=mix(setting.hills, (255, 255, 255), 0.6))
    else:
        xs = np.linspace(0, side, 40)
        if setting.kind == "peaks":
            phase = rng.uniform(0, 1)
            wave = np.abs(((xs / side * 3 + phase) % 1) - 0.5) * 2
            heights = 24 + 66 * wave
        else:
            heights = 34 + 22 * np.sin(xs / side * rng.uniform(5, 9) + rng.uniform(0, 6))
        line = [(float(x), float(horizon - h)) for x, h in zip(xs, heights, strict=True)]
        draw.polygon([(0, horizon), *line, (side, horizon)], fill=setting.hills)
        draw.rectangle((0, horizon, side, horizon + 2), fill=mix(setting.ground, setting.hills, 0.4))
    if setting.kind == "stars":
        for x, y in zip(rng.uniform(0, side, 16), rng.uniform(0, horizon - 80, 16), strict=True):
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(250, 244, 214))
    return image


def render(scene: Scene) -> Rendered:
    """Draws a scene. About 5 ms on one core."""
    rng = np.random.default_rng((scene.seed, 1))
    image = _background(scene, rng)
    side = SIZE * SUPERSAMPLING
    owner = Image.new("L", (side, side), 0)
    draw, draw_owner = ImageDraw.Draw(image), ImageDraw.Draw(owner)
    for index, thing in enumerate(scene.things):
        scale = np.array([-thing.side if thing.flip else thing.side, thing.side]) * SUPERSAMPLING
        centre = np.array([thing.x, thing.y]) * SUPERSAMPLING
        if thing.kind not in SKY_KINDS:  # a soft shadow that ties the thing to the ground
            foot = centre[1] + thing.side * SUPERSAMPLING * (FOOT[thing.kind] - 0.02)
            reach = thing.side * SUPERSAMPLING * 0.4
            ground = SETTINGS[scene.setting].ground
            draw.ellipse(
                (centre[0] - reach, foot - 7, centre[0] + reach, foot + 11),
                fill=mix(ground, (20, 20, 50), 0.22),
            )
        for shape in SHAPES[thing.kind]:
            points = [tuple(p) for p in shape.points * scale + centre]
            draw.polygon(points, fill=role_colour(shape.role, COLOURS[thing.colour]))
            draw_owner.polygon(points, fill=index + 1)
    small = np.asarray(image.reduce(SUPERSAMPLING), np.float32)
    # Paper grain: weak, a little smoothed, so that flat areas are not perfectly flat.
    grain = rng.standard_normal((SIZE // 2, SIZE // 2)).astype(np.float32) * 1.6
    small += np.kron(grain, np.ones((2, 2), np.float32))[..., None]
    centre_of_pixel = SUPERSAMPLING // 2
    truth = np.asarray(owner)[centre_of_pixel::SUPERSAMPLING, centre_of_pixel::SUPERSAMPLING]
    return Rendered(np.clip(small.round(), 0, 255).astype(np.uint8), truth.copy())


def without(scene: Scene, index: int) -> Scene:
    """The scene with one thing missing."""
    return replace(scene, things=scene.things[:index] + scene.things[index + 1 :])


def with_thing(scene: Scene, index: int, thing: Thing) -> Scene:
    """The scene with one thing exchanged."""
    return replace(scene, things=(*scene.things[:index], thing, *scene.things[index + 1 :]))
