"""Regions of things that the prompt places: maps for "left of the dog" and for "in the background". Pure numpy."""

from __future__ import annotations

import numpy as np

from grefine_rt.arrays import Doubles, FloatMap
from grefine_rt.assess.prompt.places import Position, Relation

Interval = tuple[float, float]
_REACH = 0.25  # of the side: how far from a small thing its neighbour may lie


def box_of(weight: FloatMap) -> tuple[float, float, float, float]:
    """The box (x0, y0, x1, y1), in pixels, that holds a thing, from its map (h, w) in [0, 1].

    It holds the cells above half of the map's own range, without a twentieth of their mass at each side; the whole map
    if all values are equal.
    """
    low, high = float(weight.min()), float(weight.max())
    height, width = weight.shape
    if high - low < 1e-6:
        return 0.0, 0.0, float(width), float(height)
    inside = np.where(weight >= (low + high) / 2, weight - low, 0.0).astype(np.float64)
    (x0, x1), (y0, y1) = (_middle(inside.sum(axis)) for axis in (0, 1))
    return x0, y0, x1, y1


def related_region(
    relation: Relation, box: tuple[float, float, float, float], size: tuple[int, int]
) -> FloatMap:
    """The region of a thing whose relation to the thing in `box` is told, float32 (h, w) in [0, 1] with peak 1.

    box: (x0, y0, x1, y1) of the other thing, in pixels. size: (h, w).
    The map falls off with the distance: a thing "left of a dog" is beside it, about as far as the dog is wide. Without
    room on that side of the box, the box's own strip at that side is taken.
    """
    height, width = size
    x, y = (box[0], box[2]), (box[1], box[3])
    across, along_x = _beside(width, x), _along(width, x)
    down, along_y = _beside(height, y), _along(height, y)
    inside = np.outer(_within(height, y), _within(width, x))
    around = np.outer(along_y, along_x) * (1.0 - inside)
    maps: dict[Relation, Doubles] = {
        "left": np.outer(along_y, across),
        "right": np.outer(along_y, _beside(width, x, after=True)),
        "above": np.outer(down, along_x),
        "below": np.outer(_beside(height, y, after=True), along_x),
        "on": np.outer(_beside(height, (y[0], y[0] + (y[1] - y[0]) / 2)), _within(width, x)),
        "under": np.outer(_beside(height, ((y[0] + y[1]) / 2, y[1]), after=True), _within(width, x)),
        "inside": inside,
        "around": around,
        "near": around,
        "behind": around * _ramp(height, (y[0], y[1] + 1e-3))[:, None],
        "front": np.outer(_within(height, ((y[0] + y[1]) / 2, y[1] + (y[1] - y[0]) / 4)), _within(width, x)),
    }
    return _with_peak(maps[relation])


def placed_region(position: Position, size: tuple[int, int]) -> FloatMap:
    """The region of a thing whose place in the picture is told, float32 (h, w) in [0, 1] with peak 1. size: (h, w).

    "left" and the like are 1 on the outer third and fall to 0 at two thirds. The background is the upper part, the
    foreground the lower.
    """
    height, width = size
    first = {
        "top": _ramp(height, (height / 3, height * 2 / 3)),
        "left": _ramp(width, (width / 3, width * 2 / 3)),
    }
    first |= {"bottom": first["top"][::-1], "right": first["left"][::-1]}
    first |= {
        "background": _ramp(height, (height / 2, height)),
        "foreground": _ramp(height, (height / 2, height))[::-1],
    }
    weight = np.ones(size)
    for word in position.split():
        if word == "center":
            middle = [_within(n, (n / 4, n * 3 / 4)) for n in size]
            weight = np.outer(*middle)
        elif word in ("left", "right"):
            weight = weight * first[word][None, :]
        else:
            weight = weight * first[word][:, None]
    return _with_peak(weight)


def _middle(mass: Doubles) -> Interval:
    """The interval that holds nine tenths of `mass`."""
    share = np.concatenate([[0.0], mass.cumsum()]) / mass.sum()
    start, end = np.interp([0.05, 0.95], share, np.arange(len(share)))
    return float(start), float(end)


def _cells(count: int) -> Doubles:
    return np.asarray(np.arange(count) + 0.5, dtype=np.float64)


def _length(interval: Interval) -> float:
    return max(interval[1] - interval[0], 1.0)


def _ramp(count: int, interval: Interval) -> Doubles:
    """1 before `interval`, 0 after it."""
    return np.clip((interval[1] - _cells(count)) / _length(interval), 0.0, 1.0)


def _beside(count: int, interval: Interval, after: bool = False) -> Doubles:
    """Highest just before `interval` (or after it), 0 from its middle on."""
    if after:
        return _beside(count, (count - interval[1], count - interval[0]))[::-1]
    start, middle = interval[0], sum(interval) / 2
    distance = np.maximum(start - _length(interval) - _cells(count), 0.0)
    reach = max(_length(interval), _REACH * count)
    return _ramp(count, (start, middle)) * np.exp(-0.5 * (distance / reach) ** 2)


def _along(count: int, interval: Interval) -> Doubles:
    """1 within `interval`, falling off outside."""
    cells = _cells(count)
    distance = np.maximum(np.maximum(interval[0] - cells, cells - interval[1]), 0.0)
    return np.exp(-0.5 * (2 * distance / max(_length(interval), _REACH * count)) ** 2)


def _within(count: int, interval: Interval) -> Doubles:
    """Highest in the middle of `interval`, low at its ends."""
    return np.exp(-0.5 * ((_cells(count) - sum(interval) / 2) / (_length(interval) / 2.5)) ** 2)


def _with_peak(weight: Doubles) -> FloatMap:
    peak = float(weight.max())
    return np.asarray(weight / peak if peak > 1e-12 else np.ones_like(weight), dtype=np.float32)
