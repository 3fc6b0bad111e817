"""Umbrellas, cups and kites."""

from __future__ import annotations

from grefine_export.mini.things.shapes import (
    Shape,
    arc,
    bent,
    blob,
    ellipse,
    polygon,
    rounded,
    stroke,
    turned,
)


def umbrella() -> list[list[Shape]]:
    """An umbrella with a crook, straight and leaning, and a parasol."""
    crook = [
        stroke("wood", 0.045, (0.0, -0.2), (0.0, 0.36)),
        arc("wood", 0.045, 0.09, 0.36, 0.09, 0.1, 0, 180),
    ]
    top = [
        stroke("wood", 0.035, (0.0, -0.42), (0.0, -0.52)),
        blob(
            "body",
            (-0.5, 0.04),
            (-0.44, -0.2),
            (-0.24, -0.4),
            (0.0, -0.46),
            (0.24, -0.4),
            (0.44, -0.2),
            (0.5, 0.04),
            (0.34, -0.03),
            (0.17, 0.04),
            (0.0, -0.03),
            (-0.17, 0.04),
            (-0.34, -0.03),
        ),
        blob("light", (0.0, -0.46), (0.14, -0.26), (0.17, 0.04), (0.0, -0.03), (-0.17, 0.04), (-0.14, -0.26)),
    ]
    parasol = [
        stroke("wood", 0.04, (0.0, -0.1), (0.0, 0.5)),
        polygon("body", (-0.5, 0.0), (0.0, -0.42), (0.5, 0.0)),
        polygon("light", (-0.3, 0.0), (0.0, -0.42), (-0.1, 0.0)),
        polygon("light", (0.1, 0.0), (0.0, -0.42), (0.3, 0.0)),
        rounded("shade", -0.5, -0.02, 0.5, 0.07, 0.04),
        ellipse("wood", 0.0, -0.43, 0.04, 0.04),
    ]
    return [[*crook, *top], turned([*crook, *top], 20), parasol]


def cup() -> list[list[Shape]]:
    """A mug, a tea cup on its saucer."""
    mug = [
        arc("shade", 0.085, 0.28, 0.06, 0.17, 0.18, -100, 100),
        rounded("body", -0.36, -0.28, 0.3, 0.44, 0.09),
        ellipse("shade", -0.03, -0.27, 0.33, 0.085),
        ellipse("wood", -0.03, -0.26, 0.27, 0.055),
        rounded("light", -0.28, -0.1, -0.21, 0.28, 0.034),
    ]
    tea = [
        ellipse("shade", 0.0, 0.34, 0.5, 0.1),
        ellipse("light", 0.0, 0.32, 0.42, 0.06),
        arc("shade", 0.07, 0.3, 0.0, 0.16, 0.14, -110, 110),
        blob(
            "body",
            (-0.38, -0.2),
            (0.0, -0.2),
            (0.38, -0.2),
            (0.34, 0.08),
            (0.17, 0.32),
            (-0.17, 0.32),
            (-0.34, 0.08),
        ),
        ellipse("light", 0.0, -0.2, 0.38, 0.085),
        ellipse("wood", 0.0, -0.19, 0.31, 0.055),
        ellipse("white", 0.0, 0.06, 0.075, 0.075),
    ]
    return [mug, tea]


def kite() -> list[list[Shape]]:
    """A diamond with a tail, a broad one."""

    def bow(x: float, y: float) -> list[Shape]:
        return [
            polygon("shade", (x - 0.09, y - 0.045), (x, y), (x - 0.09, y + 0.045)),
            polygon("shade", (x + 0.09, y - 0.045), (x, y), (x + 0.09, y + 0.045)),
        ]

    diamond = [
        bent("ink", 0.032, (0.0, 0.14), (0.08, 0.26), (0.02, 0.36), (0.1, 0.5)),
        *bow(0.07, 0.27),
        *bow(0.04, 0.41),
        polygon("body", (0.0, -0.5), (0.32, -0.16), (0.0, 0.18), (-0.32, -0.16)),
        polygon("light", (0.0, -0.5), (0.0, -0.16), (-0.32, -0.16)),
        polygon("shade", (0.0, -0.16), (0.32, -0.16), (0.0, 0.18)),
    ]
    broad = [
        bent("ink", 0.032, (-0.14, 0.1), (-0.18, 0.24), (-0.12, 0.36), (-0.16, 0.46)),
        bent("ink", 0.032, (0.14, 0.1), (0.18, 0.24), (0.12, 0.36), (0.16, 0.46)),
        polygon("body", (0.0, -0.34), (0.5, 0.06), (0.14, 0.06), (0.0, 0.2), (-0.14, 0.06), (-0.5, 0.06)),
        polygon("light", (0.0, -0.34), (0.14, 0.06), (0.0, 0.2), (-0.14, 0.06)),
        polygon("shade", (0.0, -0.34), (0.02, -0.34), (0.02, 0.19), (-0.02, 0.19), (-0.02, -0.34)),
    ]
    return [turned(diamond, 18), broad]
