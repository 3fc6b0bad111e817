"""Colours of the storybook world: the named ones of the prompts, and the settings' own."""

from __future__ import annotations

from dataclasses import dataclass

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 56, 54),
    "orange": (240, 138, 40),
    "yellow": (250, 212, 60),
    "green": (74, 160, 82),
    "blue": (58, 108, 204),
    "purple": (136, 78, 176),
    "pink": (244, 146, 184),
    "white": (246, 244, 238),
    "black": (54, 50, 60),
    "brown": (138, 90, 56),
    "grey": (146, 148, 154),
    "turquoise": (62, 194, 188),
}

_WARM_SHADES: dict[Rgb, Rgb] = {COLOURS["orange"]: (218, 106, 22), COLOURS["yellow"]: (228, 178, 40)}
INK: Rgb = (52, 46, 58)
FIXED: dict[str, Rgb] = {
    "wood": (116, 82, 60),
    "glass": (186, 222, 236),
    "white": (250, 248, 242),
    "ink": INK,
    "leaf": (88, 146, 80),
    "honey": (246, 190, 74),
    "blush": (236, 128, 132),
    "cream": (244, 228, 200),
    "steel": (170, 176, 188),
}


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """`a` with `share` (0..1) of `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def luma(colour: Rgb) -> float:
    """Brightness 0..255 (ITU-R BT.601)."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def role_colour(role: str, body: Rgb) -> Rgb:
    """The colour of a shape's `role` for a thing whose body is `body`; 8-bit RGB.

    "body", "shade" and "light" follow the body; "mark", for drawings on the body, stands out from it; the
    roles of `FIXED` are always the same. White is shaded and black is lit less than the others, so that neither
    turns grey, and orange and yellow are shaded in their own hue, so that neither turns brown.
    """
    brightness = luma(body)
    if role == "body":
        return body
    if role == "shade":
        return _WARM_SHADES.get(body) or (
            mix(body, (40, 44, 84), 0.17) if brightness > 225 else mix(body, (30, 22, 48), 0.28)
        )
    if role == "light":
        return mix(body, (255, 252, 240), 0.16 if brightness < 70 else 0.32)
    if role == "mark":
        return FIXED["cream"] if brightness < 70 else INK
    return FIXED[role]


@dataclass(frozen=True)
class Setting:
    """A place and its colours: sky from `top` to `low` (at the horizon), `ground` and far `hills`.

    words: the place in a prompt, after a thing. noun: the name of the place itself. kind: the form of
    the distance ("hills", "sea", "peaks", "stars", "trunks", "wall", "skyline", "deep").
    """

    words: tuple[str, ...]
    noun: str
    top: Rgb
    low: Rgb
    ground: Rgb
    hills: Rgb
    kind: str


SETTINGS: dict[str, Setting] = {
    "meadow": Setting(
        ("in a meadow", "on a green meadow"),
        "a meadow",
        (126, 190, 236),
        (214, 236, 246),
        (134, 190, 104),
        (108, 168, 112),
        "hills",
    ),
    "beach": Setting(
        ("on a beach", "at the beach"),
        "a beach",
        (112, 196, 232),
        (230, 242, 240),
        (240, 220, 172),
        (84, 170, 200),
        "sea",
    ),
    "desert": Setting(
        ("in a desert", "in the desert"),
        "a desert",
        (150, 206, 226),
        (252, 232, 196),
        (232, 178, 114),
        (206, 140, 92),
        "hills",
    ),
    "snow": Setting(
        ("in the snow", "on a snowy field"),
        "a snowy field",
        (158, 188, 220),
        (222, 231, 243),
        (234, 239, 247),
        (164, 186, 216),
        "peaks",
    ),
    "night": Setting(
        ("at night", "under the night sky"),
        "a night scene",
        (30, 34, 78),
        (84, 84, 140),
        (58, 88, 92),
        (44, 60, 88),
        "stars",
    ),
    "sunset": Setting(
        ("at sunset", "in the sunset"),
        "a sunset",
        (108, 92, 164),
        (250, 176, 128),
        (146, 112, 108),
        (112, 82, 126),
        "peaks",
    ),
    "forest": Setting(
        ("in a forest", "in the woods"),
        "a forest",
        (150, 196, 160),
        (206, 226, 180),
        (118, 140, 84),
        (92, 122, 92),
        "trunks",
    ),
    "room": Setting(
        ("in a room", "inside a cosy room"),
        "a cosy room",
        (240, 212, 188),
        (246, 224, 204),
        (186, 142, 104),
        (226, 192, 164),
        "wall",
    ),
    "city": Setting(
        ("in a city", "in the city"),
        "a city",
        (168, 190, 214),
        (238, 228, 222),
        (172, 170, 174),
        (142, 152, 178),
        "skyline",
    ),
    "ocean": Setting(
        ("under the sea", "deep under water"),
        "a deep sea",
        (96, 190, 216),
        (34, 112, 164),
        (206, 192, 148),
        (36, 98, 142),
        "deep",
    ),
}
