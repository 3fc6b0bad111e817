"""The things of the storybook world, drawn as filled polygons.

A thing is a list of `Shape`: a polygon in the unit box (x right, y down, -0.5..0.5) and the role of its colour.
`body` takes the colour that the prompt names; the other roles are fixed or derived from it, so that "a red
house" is red where a person would look.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Points = np.ndarray  # (k, 2) float


@dataclass(frozen=True)
class Shape:
    """One filled polygon: `points` (k, 2) in the unit box, `role` the name of its colour."""

    points: Points
    role: str


def _ellipse(
    cx: float, cy: float, rx: float, ry: float, role: str, start: float = 0, end: float = 360
) -> Shape:
    angles = np.radians(np.linspace(start, end, 28))
    return Shape(np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], 1), role)


def _polygon(role: str, *points: tuple[float, float]) -> Shape:
    return Shape(np.array(points, float), role)


def _box(role: str, x0: float, y0: float, x1: float, y1: float) -> Shape:
    return _polygon(role, (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _house() -> list[Shape]:
    return [
        _box("shade", 0.18, -0.47, 0.28, -0.2),
        _box("body", -0.36, -0.1, 0.36, 0.5),
        _polygon("shade", (-0.48, -0.08), (0.0, -0.5), (0.48, -0.08)),
        _box("wood", -0.09, 0.16, 0.09, 0.5),
        _box("glass", -0.28, 0.02, -0.14, 0.18),
        _box("glass", 0.14, 0.02, 0.28, 0.18),
    ]


def _tree() -> list[Shape]:
    return [
        _box("wood", -0.07, 0.1, 0.07, 0.5),
        _ellipse(-0.18, -0.02, 0.24, 0.22, "body"),
        _ellipse(0.18, -0.02, 0.24, 0.22, "body"),
        _ellipse(0.0, -0.22, 0.3, 0.28, "body"),
        _ellipse(-0.1, -0.28, 0.1, 0.09, "light"),
    ]


def _boat() -> list[Shape]:
    return [
        _box("wood", -0.03, -0.5, 0.03, 0.2),
        _polygon("white", (0.06, -0.46), (0.42, 0.1), (0.06, 0.1)),
        _polygon("light", (-0.06, -0.34), (-0.06, 0.1), (-0.34, 0.1)),
        _polygon("body", (-0.5, 0.16), (0.5, 0.16), (0.32, 0.46), (-0.32, 0.46)),
        _polygon("shade", (-0.42, 0.3), (0.42, 0.3), (0.32, 0.46), (-0.32, 0.46)),
    ]


def _fish() -> list[Shape]:
    return [
        _polygon("shade", (0.22, 0.0), (0.5, -0.26), (0.44, 0.0), (0.5, 0.26)),
        _polygon("shade", (-0.08, -0.2), (0.14, -0.4), (0.16, -0.14)),
        _ellipse(-0.1, 0.0, 0.38, 0.26, "body"),
        _ellipse(-0.08, 0.12, 0.26, 0.1, "light"),
        _ellipse(-0.3, -0.06, 0.07, 0.07, "white"),
        _ellipse(-0.31, -0.06, 0.035, 0.035, "ink"),
    ]


def _sun() -> list[Shape]:
    rays = []
    for k in range(10):
        a = 2 * np.pi * k / 10
        c, s = np.cos(a), np.sin(a)
        rays.append(
            _polygon(
                "shade",
                (0.28 * c - 0.09 * s, 0.28 * s + 0.09 * c),
                (0.5 * c, 0.5 * s),
                (0.28 * c + 0.09 * s, 0.28 * s - 0.09 * c),
            )
        )
    return [*rays, _ellipse(0, 0, 0.33, 0.33, "body"), _ellipse(-0.09, -0.1, 0.13, 0.12, "light")]


def _car() -> list[Shape]:
    return [
        _polygon("shade", (-0.26, -0.02), (-0.15, -0.26), (0.16, -0.26), (0.3, -0.02)),
        _polygon("glass", (-0.19, -0.03), (-0.11, -0.2), (-0.01, -0.2), (-0.01, -0.03)),
        _polygon("glass", (0.03, -0.03), (0.03, -0.2), (0.13, -0.2), (0.21, -0.03)),
        _polygon("body", (-0.5, 0.2), (-0.48, 0.0), (0.4, -0.04), (0.5, 0.06), (0.5, 0.2)),
        _ellipse(-0.27, 0.2, 0.12, 0.12, "ink"),
        _ellipse(0.27, 0.2, 0.12, 0.12, "ink"),
        _ellipse(-0.27, 0.2, 0.05, 0.05, "white"),
        _ellipse(0.27, 0.2, 0.05, 0.05, "white"),
    ]


def _flower() -> list[Shape]:
    petals = [
        _ellipse(0.2 * np.cos(a), -0.22 + 0.2 * np.sin(a), 0.15, 0.15, "body")
        for a in np.linspace(0, 2 * np.pi, 7)[:-1]
    ]
    return [
        _box("leaf", -0.03, -0.1, 0.03, 0.5),
        _polygon("leaf", (0.0, 0.36), (0.26, 0.14), (0.2, 0.34)),
        _polygon("leaf", (0.0, 0.42), (-0.26, 0.2), (-0.2, 0.4)),
        *petals,
        _ellipse(0, -0.22, 0.11, 0.11, "honey"),
    ]


def _cat() -> list[Shape]:
    return [
        _polygon("shade", (0.2, 0.42), (0.4, 0.3), (0.4, 0.0), (0.48, 0.0), (0.49, 0.36), (0.26, 0.5)),
        _ellipse(0.02, 0.24, 0.28, 0.27, "body"),
        _polygon("body", (-0.3, -0.12), (-0.28, -0.5), (-0.06, -0.3)),
        _polygon("body", (0.24, -0.12), (0.22, -0.5), (0.0, -0.3)),
        _ellipse(-0.03, -0.14, 0.28, 0.23, "body"),
        _ellipse(0.02, 0.32, 0.13, 0.16, "light"),
        _ellipse(-0.14, -0.16, 0.05, 0.06, "white"),
        _ellipse(0.08, -0.16, 0.05, 0.06, "white"),
        _ellipse(-0.14, -0.15, 0.025, 0.04, "ink"),
        _ellipse(0.08, -0.15, 0.025, 0.04, "ink"),
        _polygon("blush", (-0.06, -0.07), (0.0, -0.07), (-0.03, -0.02)),
    ]


def _balloon() -> list[Shape]:
    return [
        _box("wood", -0.13, 0.34, 0.13, 0.5),
        _polygon("ink", (-0.2, 0.08), (-0.18, 0.08), (-0.1, 0.34), (-0.13, 0.34)),
        _polygon("ink", (0.2, 0.08), (0.18, 0.08), (0.1, 0.34), (0.13, 0.34)),
        _ellipse(0, -0.16, 0.36, 0.34, "body"),
        _ellipse(0, -0.16, 0.14, 0.34, "light"),
    ]


def _mushroom() -> list[Shape]:
    return [
        _polygon("cream", (-0.13, 0.0), (0.13, 0.0), (0.18, 0.5), (-0.18, 0.5)),
        Shape(np.concatenate([_ellipse(0, 0.06, 0.47, 0.52, "", 180, 360).points]), "body"),
        _ellipse(-0.2, -0.14, 0.08, 0.08, "white"),
        _ellipse(0.06, -0.27, 0.09, 0.08, "white"),
        _ellipse(0.26, -0.08, 0.07, 0.07, "white"),
    ]


def _bird() -> list[Shape]:
    return [
        _polygon("shade", (0.2, 0.04), (0.5, -0.08), (0.46, 0.14)),
        _ellipse(0.0, 0.06, 0.3, 0.2, "body"),
        _ellipse(-0.24, -0.1, 0.16, 0.15, "body"),
        _polygon("shade", (-0.08, 0.04), (0.2, 0.02), (0.16, -0.4), (0.0, -0.26)),
        _polygon("honey", (-0.38, -0.12), (-0.5, -0.06), (-0.37, -0.04)),
        _ellipse(-0.27, -0.13, 0.035, 0.035, "ink"),
    ]


def _umbrella() -> list[Shape]:
    return [
        _box("wood", -0.025, -0.2, 0.025, 0.44),
        _polygon("wood", (-0.025, 0.4), (0.15, 0.4), (0.15, 0.3), (0.2, 0.3), (0.2, 0.48), (-0.025, 0.48)),
        _ellipse(0, 0.0, 0.5, 0.46, "body", 180, 360),
        _ellipse(0, 0.0, 0.18, 0.46, "light", 180, 360),
    ]


def _rocket() -> list[Shape]:
    return [
        _polygon("honey", (-0.1, 0.3), (0.0, 0.5), (0.1, 0.3)),
        _polygon("shade", (-0.14, 0.06), (-0.34, 0.36), (-0.12, 0.3)),
        _polygon("shade", (0.14, 0.06), (0.34, 0.36), (0.12, 0.3)),
        _polygon(
            "body",
            (0.0, -0.5),
            (0.13, -0.28),
            (0.17, 0.0),
            (0.12, 0.32),
            (-0.12, 0.32),
            (-0.17, 0.0),
            (-0.13, -0.28),
        ),
        _ellipse(0, -0.1, 0.09, 0.09, "white"),
        _ellipse(0, -0.1, 0.06, 0.06, "glass"),
    ]


def _tent() -> list[Shape]:
    return [
        _polygon("body", (-0.5, 0.4), (0.0, -0.38), (0.5, 0.4)),
        _polygon("light", (-0.5, 0.4), (0.0, -0.38), (-0.2, 0.4)),
        _polygon("ink", (-0.14, 0.4), (0.0, -0.06), (0.14, 0.4)),
    ]


_DRAW: dict[str, Callable[[], list[Shape]]] = {
    "house": _house,
    "tree": _tree,
    "boat": _boat,
    "fish": _fish,
    "sun": _sun,
    "car": _car,
    "flower": _flower,
    "cat": _cat,
    "balloon": _balloon,
    "mushroom": _mushroom,
    "bird": _bird,
    "umbrella": _umbrella,
    "rocket": _rocket,
    "tent": _tent,
}

KINDS: tuple[str, ...] = tuple(_DRAW)
SKY_KINDS = frozenset({"sun", "balloon", "bird", "rocket"})
SHAPES: dict[str, list[Shape]] = {kind: draw() for kind, draw in _DRAW.items()}
# Where a thing ends at the bottom, in its unit box: it stands there.
FOOT: dict[str, float] = {
    kind: max(float(s.points[:, 1].max()) for s in shapes) for kind, shapes in SHAPES.items()
}
