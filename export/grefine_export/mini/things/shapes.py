"""Filled polygons, of which every thing of the storybook world is made.

Coordinates lie in the unit box: x right, y down, about -0.5..0.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

Points = np.ndarray  # (k, 2) float
Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One filled polygon: `points` (k, 2) in the unit box, `role` the name of its colour."""

    points: Points
    role: str


def polygon(role: str, *points: Point) -> Shape:
    """A polygon with these corners."""
    return Shape(np.array(points, float), role)


def box(role: str, x0: float, y0: float, x1: float, y1: float) -> Shape:
    """An upright rectangle."""
    return polygon(role, (x0, y0), (x1, y0), (x1, y1), (x0, y1))


def ellipse(
    role: str, cx: float, cy: float, rx: float, ry: float, start: float = 0, end: float = 360
) -> Shape:
    """An ellipse, or its part between two angles in degrees, clockwise from the right."""
    angles = np.radians(np.linspace(start, end, 29))
    points = np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], 1)
    return Shape(points[:-1] if end - start == 360 else points, role)


def rounded(role: str, x0: float, y0: float, x1: float, y1: float, radius: float) -> Shape:
    """A rectangle with round corners."""
    corners = (
        (x1 - radius, y1 - radius, 0),
        (x0 + radius, y1 - radius, 90),
        (x0 + radius, y0 + radius, 180),
        (x1 - radius, y0 + radius, 270),
    )
    arcs = []
    for x, y, start in corners:
        angles = np.radians(np.linspace(start, start + 90, 6))
        arcs.append(np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1))
    return Shape(np.concatenate(arcs), role)


def _spline(before: Points, start: Points, end: Points, after: Points, steps: int) -> Points:
    """Catmull-Rom segments from each `start` to its `end`, `steps` points each, ends left out."""
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    a, b, c, d = (q[:, None] for q in (before, start, end, after))
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.asarray(curve.reshape(-1, 2))


def blob(role: str, *points: Point, steps: int = 6) -> Shape:
    """A smooth closed curve through the points (Catmull-Rom spline)."""
    p = np.array(points, float)
    curve = _spline(np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0), steps)
    return Shape(curve, role)


def stroke(role: str, width: float, *points: Point) -> Shape:
    """A line of even width through the points."""
    p = np.array(points, float)
    along = np.gradient(p, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1)
    normal *= width / 2 / np.maximum(np.hypot(normal[:, 0], normal[:, 1]), 1e-9)[:, None]
    return Shape(np.concatenate([p + normal, (p - normal)[::-1]]), role)


def bent(role: str, width: float, *points: Point) -> Shape:
    """A smooth line of even width through the points (Catmull-Rom spline)."""
    p = np.array(points, float)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    curve = _spline(p[:-3], p[1:-2], p[2:-1], p[3:], 5)
    return stroke(role, width, *(tuple(q) for q in curve.tolist()), points[-1])


def arc(
    role: str, width: float, cx: float, cy: float, rx: float, ry: float, start: float, end: float
) -> Shape:
    """A bent line of even width along an ellipse, angles as in `ellipse`."""
    angles = np.radians(np.linspace(start, end, 19))
    return stroke(role, width, *((cx + rx * np.cos(a), cy + ry * np.sin(a)) for a in angles))


def eye(x: float, y: float, radius: float, look: float = 0.0) -> list[Shape]:
    """A white eye with a pupil (`look`: sideways, -1..1) and a glint."""
    pupil = x + 0.3 * radius * look
    return [
        ellipse("white", x, y, radius, radius * 1.1),
        ellipse("ink", pupil, y + 0.08 * radius, radius * 0.66, radius * 0.74),
        ellipse("white", pupil - 0.22 * radius, y - 0.25 * radius, radius * 0.24, radius * 0.24),
    ]


def dot_eye(x: float, y: float, radius: float) -> list[Shape]:
    """An eye without white, with a glint."""
    return [
        ellipse("mark", x, y, radius, radius * 1.15),
        ellipse("white", x - 0.3 * radius, y - 0.35 * radius, radius * 0.36, radius * 0.36),
    ]


def window(x0: float, y0: float, x1: float, y1: float, bar: float = 0.022) -> list[Shape]:
    """A pane with a white frame and a cross."""
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    return [
        box("white", x0 - bar, y0 - bar, x1 + bar, y1 + bar),
        box("glass", x0, y0, x1, y1),
        box("white", x - bar / 2, y0, x + bar / 2, y1),
        box("white", x0, y - bar / 2, x1, y + bar / 2),
    ]


def wheel(x: float, y: float, radius: float) -> list[Shape]:
    """A tyre with a light hub."""
    return [ellipse("ink", x, y, radius, radius), ellipse("steel", x, y, radius * 0.48, radius * 0.48)]


def mirrored(shapes: Iterable[Shape]) -> list[Shape]:
    """The shapes with left and right exchanged."""
    return [replace(shape, points=shape.points * [-1, 1]) for shape in shapes]


def both(*shapes: Shape) -> list[Shape]:
    """Each shape and its mirror image."""
    return [side for shape in shapes for side in (shape, *mirrored([shape]))]


def turned(shapes: Iterable[Shape], degrees: float) -> list[Shape]:
    """The shapes turned clockwise about the middle of the box."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [replace(shape, points=shape.points @ np.array([[c, s], [-s, c]])) for shape in shapes]


def fitted(shapes: list[Shape], stands: bool) -> list[Shape]:
    """The shapes scaled to fill the unit box in its longer direction, in its middle or `stands` on its bottom."""
    points = np.concatenate([shape.points for shape in shapes])
    low, high = points.min(0), points.max(0)
    scale = 1 / (high - low).max()
    origin = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2])
    shift = np.array([0.0, 0.5 - (high[1] - origin[1]) * scale if stands else 0.0])
    return [replace(shape, points=(shape.points - origin) * scale + shift) for shape in shapes]
