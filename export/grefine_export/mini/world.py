"""Scenes of the storybook world: data, prompt, picture and the truth of every pixel.

A `Scene` is data alone. `render` draws it at 128 x 128 in its style (three times larger first, then averaged:
smooth edges), with a little texture. The same scene always gives the same picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from grefine_export.mini.backgrounds import HORIZON, SIZE, background, sky_colour
from grefine_export.mini.painting import (
    Layer,
    bare_border,
    contact_shadow,
    dried,
    drop_shadow,
    layer,
    lit,
    outline,
    texture,
)
from grefine_export.mini.palette import COLOURS, SETTINGS, Rgb
from grefine_export.mini.styles import STYLES, TRAINING_STYLES, Style
from grefine_export.mini.things import FOOT, KINDS, SKY_KINDS, VARIANTS, shapes_of

SCALES = {"small": 38.0, "medium": 48.0, "large": 62.0}  # side of a thing's box, pixels
MOST_THINGS = 4
TWINS = 0.16
"""Share of scenes that get more of one of their things, where there is room."""
Seed = int | tuple[int, ...]


@dataclass(frozen=True)
class Thing:
    """One thing of a scene. `x`, `y`: centre, pixels; `size`: a key of `SCALES`; `flip`: mirrored;
    `variant`: the number of the kind's shape, counted round."""

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
        """The thing's name in a prompt, without an article: `small red house`."""
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
    flip, variant = bool(rng.random() < 0.5), int(rng.integers(len(VARIANTS[kind])))
    return Thing(kind, colour, size, float(x), float(y), flip, variant)


def _twins(rng: np.random.Generator, things: list[Thing], wanted: int) -> list[Thing]:
    """Up to `wanted` more of one of the things, as long as there is room and no more than four things in all."""
    model = things[int(rng.integers(len(things)))]
    added: list[Thing] = []
    for _ in range(30):
        if len(added) == min(wanted, MOST_THINGS - len(things)):
            break
        twin = replace(_place(rng, model.kind, model.colour, model.size), variant=model.variant)
        if all(_overlap(twin, other) < 0.12 for other in (*things, *added)):
            added.append(twin)
    return added


def alike(scene: Scene, index: int) -> list[int]:
    """The indices of a thing and of all that look like it: same kind, colour and size. A prompt names them together."""
    one = scene.things[index]
    look = (one.kind, one.colour, one.size)
    return [k for k, other in enumerate(scene.things) if (other.kind, other.colour, other.size) == look]


def make_scene(seed: Seed, styles: Sequence[str] = TRAINING_STYLES) -> Scene:
    """A random scene of 1 to 4 things that hardly cover each other: of different kinds, but that one in ten has two or
    three of a kind, alike in colour and size.

    `styles`: names of `styles.STYLES` to draw from; the held-out ones only where a caller names them. Everything
    but the style is the same for the same seed, whatever `styles` are.
    """
    rng = np.random.default_rng(seed)
    setting = str(rng.choice(list(SETTINGS)))
    wanted = int(rng.choice([1, 2, 3, 4], p=[0.2, 0.3, 0.28, 0.22]))
    kinds = rng.choice(KINDS, size=wanted, replace=False)
    sizes = [0.26, 0.35, 0.39] if wanted < 3 else [0.46, 0.34, 0.2]  # many large things find no room
    things: list[Thing] = []
    for kind in kinds:
        colour = str(rng.choice(list(COLOURS)))
        for _ in range(40):
            size = str(rng.choice(["small", "medium", "large"], p=sizes))
            thing = _place(rng, str(kind), colour, size)
            if all(_overlap(thing, other) < 0.12 for other in things):
                things.append(thing)
                break
    if rng.random() < TWINS:
        things += _twins(rng, things, int(rng.integers(1, 3)))
    line, side = float(rng.uniform(0.8, 1.5)), int(rng.choice([-1, 1]))
    light, last = side * float(rng.uniform(0.3, 1.0)), int(rng.integers(2**31))
    style = styles[int(rng.random() * len(styles))]
    return Scene(setting, tuple(things), last, style, round(line, 2), round(light, 2))


def _behind(scene: Scene, thing: Thing) -> Rgb:
    """The colour of the place where the thing is."""
    setting = SETTINGS[scene.setting]
    return sky_colour(setting, thing.y) if thing.kind in SKY_KINDS else setting.ground


def _layer(scene: Scene, thing: Thing, style: Style) -> Layer:
    body = COLOURS[thing.colour]
    ink = outline(style, body, _behind(scene, thing))
    width = scene.line * (style.line or 0.6)
    drawn = layer(
        shapes_of(thing.kind, thing.variant),
        body,
        (thing.x, thing.y),
        thing.side,
        thing.flip,
        style,
        width,
        ink,
    )
    drawn = lit(drawn, style, scene.light)
    return dried(drawn) if style.texture == "wash" else drawn


def render(scene: Scene, textured: bool = True) -> Rendered:
    """Draws a scene, in about 5 ms on one core. `textured`: with the grain, strokes or fibres of its style."""
    style = STYLES[scene.style]
    picture = background(scene.setting, np.random.default_rng((scene.seed, 1)))
    if style.pale:
        picture = picture + style.pale * (255 - picture)
    if style.texture == "wash":
        picture = bare_border(picture, np.random.default_rng((scene.seed, 3)))
    layers = [_layer(scene, thing, style) for thing in scene.things]
    for thing, drawn in zip(scene.things, layers, strict=True):
        if style.shadow == "drop":
            drop_shadow(picture, drawn, scene.light)
        elif thing.kind not in SKY_KINDS:
            foot = thing.y + thing.side * (FOOT[thing.kind] - 0.01)
            contact_shadow(picture, thing.x, foot, thing.side, scene.light)
    owner = np.zeros((SIZE, SIZE), np.uint8)
    covered = np.zeros((SIZE, SIZE), np.float32)
    for index, drawn in enumerate(layers):
        where = (drawn.rows, drawn.columns)
        cover = drawn.cover[..., None]
        picture[where] = picture[where] * (1 - cover) + drawn.colour
        owner[where][drawn.cover >= 0.5] = index + 1
        covered[where] = np.maximum(covered[where], drawn.cover)
    if textured:
        on_ground, on_things = texture(style, np.random.default_rng((scene.seed, 2)))
        picture = picture + (on_ground + covered * (on_things - on_ground))[..., None]
    return Rendered(np.clip(picture.round(), 0, 255).astype(np.uint8), owner)


def without(scene: Scene, index: int) -> Scene:
    """The scene with one thing missing."""
    return replace(scene, things=scene.things[:index] + scene.things[index + 1 :])


def with_thing(scene: Scene, index: int, thing: Thing) -> Scene:
    """The scene with one thing exchanged."""
    return replace(scene, things=(*scene.things[:index], thing, *scene.things[index + 1 :]))
