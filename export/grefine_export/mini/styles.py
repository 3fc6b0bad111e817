"""Drawing styles of the storybook world, as data.

`TRAINING_STYLES` are what `make_scene` draws from; the two `HELD_OUT_STYLES` come only when they are asked for
by name, so that a test set can measure what training never saw.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Style:
    """A way to paint things and their ground.

    Attributes:
        line: outline, in shares of the scene's line width; 0: only around things that would be lost.
        ink: colour of the outline: "ink", "tone" (a dark tone of the thing) or "chalk".
        gradient: brightness from the lit to the dark side, share of 1.
        crescent: darkening of the rim that the light does not reach, 0..1; `glow`: brightening of the lit rim.
        reach: width of both rims, pixels.
        soft: rims run out softly.
        shadow: "contact" (an oval on the ground) or "drop" (below the whole thing, as of cut paper).
        texture: "plain", "crayon", "paper", "wash", "grain", "hatch" or "chalk".
        wobble: the distance by which corners stray, share of the thing's side.
        pale: share of white in all colours.
    """

    line: float = 0.0
    ink: str = "ink"
    gradient: float = 0.0
    crescent: float = 0.0
    glow: float = 0.0
    reach: float = 3.0
    soft: bool = False
    shadow: str = "contact"
    texture: str = "plain"
    wobble: float = 0.0
    pale: float = 0.0


STYLES: dict[str, Style] = {
    "flat": Style(),
    "shaded": Style(gradient=0.34, crescent=0.26, glow=0.2, reach=6.0, soft=True),
    "outlined": Style(line=1.0),
    "cartoon": Style(line=1.35, crescent=0.2, glow=0.24, reach=3.0),
    "crayon": Style(line=0.9, ink="tone", gradient=0.1, texture="crayon", wobble=0.014),
    "paper": Style(crescent=0.08, glow=0.2, reach=1.0, shadow="drop", texture="paper"),
    "watercolour": Style(
        gradient=0.2, glow=0.22, reach=7.0, soft=True, texture="wash", wobble=0.012, pale=0.1
    ),
    "grainy": Style(gradient=0.3, crescent=0.12, reach=5.0, soft=True, texture="grain"),
    "pencil": Style(line=0.6, ink="tone", crescent=0.1, reach=4.0, soft=True, texture="hatch", wobble=0.008),
    "chalk": Style(line=0.9, ink="chalk", gradient=0.1, texture="chalk", wobble=0.012),
}

HELD_OUT_STYLES: tuple[str, ...] = ("pencil", "chalk")
TRAINING_STYLES: tuple[str, ...] = tuple(name for name in STYLES if name not in HELD_OUT_STYLES)
