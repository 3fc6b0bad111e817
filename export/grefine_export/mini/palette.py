"""Colours of the storybook world: the named ones of the prompts, and those of the settings."""

from __future__ import annotations

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "red": (214, 56, 54),
    "orange": (240, 138, 40),
    "yellow": (250, 212, 60),
    "green": (74, 160, 82),
    "blue": (58, 108, 204),
    "purple": (136, 78, 176),
    "pink": (244, 146, 184),
    "white": (244, 242, 236),
    "black": (58, 54, 64),
}


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """`a` with `share` (0..1) of `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


class Setting:
    """Colours of a place: sky from `top` to `low` (at the horizon), `ground` and far `hills`."""

    def __init__(
        self, words: tuple[str, ...], noun: str, top: Rgb, low: Rgb, ground: Rgb, hills: Rgb, kind: str
    ):
        self.words, self.noun = words, noun
        self.top, self.low, self.ground, self.hills, self.kind = top, low, ground, hills, kind


# `words`: how a prompt names the place after a thing; `noun`: how it names the place itself.
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
        (226, 234, 244),
        (240, 244, 250),
        (190, 206, 226),
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
        (120, 118, 104),
        (112, 82, 126),
        "peaks",
    ),
}
