"""The perceptual indicator: the quality of the picture and of each of its places (G-Refine 3.1, Eq. 3).

The graph `perceptual` has compared every image token with the four (good, bad) text pairs T_p; the arithmetic of
Eq. 3 is here. Token 0 is the class token, tokens 1..N are the grid, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.imaging.image import resize
from grefine_rt.readings import Bounds, Factors, Upsampling

FACTORS = ("overall", "technical", "rationality", "naturalness")
"""The four pairs of T_p, in the order of the last axis of `pairs`."""


@dataclass(frozen=True)
class Readings:
    """The differences between the paper and the authors' script, beside the scoring.

    factors: p is the "overall" pair alone, or the "product" of Eq. 3 with the other three. bounds: each factor is
    divided by its "own" alpha, or all by the "first". upsampling: the method that brings P to image size.
    """

    factors: Factors
    bounds: Bounds
    upsampling: Upsampling


PAPER = Readings("product", "own", "bicubic")
SCRIPT = Readings("overall", "first", "bilinear")
"""The script as it is called; with factors="product" it is the script's `--multi`."""


@dataclass(frozen=True, eq=False)
class Perceptual:
    """Scores in [0, 1] and maps (g, g) in [0, 1] on the token grid; 1 is good.

    `score` and `map` are p and P before the upsampling; `factors` and `factor_maps` are the same for each of
    the four pairs alone.
    """

    score: float
    map: Floats
    factors: dict[str, float]
    factor_maps: dict[str, Floats]


def combine(raw: Floats, alpha: Sequence[float]) -> Floats:
    """Eq. 3: L_per = L_raw[0] * prod_{i=1..3} min(L_raw[i] / alpha[i], 1).

    `raw` is (..., 4) in [0, 1], the four pairs last; `alpha` are the bounds of technical, rationality and
    naturalness, each above 0. A factor above its bound changes nothing; one below it pulls the result down
    (the cask effect). Returns (...) in [0, 1].
    """
    penalty = np.minimum(raw[..., 1:] / np.asarray(alpha, dtype=np.float32), 1.0)
    return np.asarray(raw[..., 0] * penalty.prod(axis=-1), dtype=np.float32)


def calibrated(pairs: Floats, alpha: Sequence[float], readings: Readings = PAPER) -> Perceptual:
    """The default scoring: absolute, so that a picture that is good everywhere has P near 1 everywhere.

    `pairs` is (1+N, 4): the probability of "good" against "bad" in each pair, class token first. Eq. 3 is
    applied to every token; p is its class-token entry and P its grid entries.
    """
    combined = _combined(pairs, alpha, readings)
    return Perceptual(
        score=float(combined[0]),
        map=to_grid(combined[1:]),
        factors={name: float(pairs[0, i]) for i, name in enumerate(FACTORS)},
        factor_maps={name: to_grid(pairs[1:, i]) for i, name in enumerate(FACTORS)},
    )


def published(similarities: Floats, alpha: Sequence[float], readings: Readings = SCRIPT) -> Perceptual:
    """The scoring of the authors' script: relative to the picture, so P always spans 0..1.

    `similarities` is (1+N, 4, 2): raw similarity of each token to the (good, bad) prompt of each pair, class
    token first. Each factor is the softmax over the two class-token entries, and p is the overall one or combines the
    four, as `readings` say. P is the similarity to the overall good prompt, min-max normalised over the grid; 0.5 for
    a flat one, at which the script divides by zero. Width and height of a picture keep their axes, which the script
    swaps.
    """
    good_minus_bad = similarities[0, :, 0] - similarities[0, :, 1]
    scores = np.asarray(0.5 * (1.0 + np.tanh(0.5 * good_minus_bad)), dtype=np.float32)
    maps = {name: to_grid(_min_max(similarities[1:, i, 0])) for i, name in enumerate(FACTORS)}
    return Perceptual(
        score=float(_combined(scores, alpha, readings)),
        map=maps["overall"],
        factors={name: float(scores[i]) for i, name in enumerate(FACTORS)},
        factor_maps=maps,
    )


def _combined(raw: Floats, alpha: Sequence[float], readings: Readings) -> Floats:
    """p of each row of `raw` (..., 4), as `readings` say."""
    if readings.factors == "overall":
        return raw[..., 0]
    return combine(raw, alpha if readings.bounds == "own" else [alpha[0]] * 3)


def to_grid(tokens: Floats) -> Floats:
    """Patch tokens (g*g,) as a grid (g, g)."""
    side = math.isqrt(tokens.shape[0])
    return np.ascontiguousarray(tokens.reshape(side, side), dtype=np.float32)


def upsample(grid: Floats, size: tuple[int, int], method: Upsampling = "bicubic") -> Floats:
    """BIC of Eq. 3: the map (g, g) at image size (H, W), bicubic, clipped to [0, 1] where bicubic overshoots.

    `size` is (height, width) in pixels. `method` "bilinear" is the script's, as torch interpolates.
    """
    weights = _weights if method == "bicubic" else _bilinear
    rows, columns = (weights(side, length) for side, length in zip(grid.shape, size, strict=True))
    return np.clip(rows @ grid @ columns.T, 0.0, 1.0)


@lru_cache(maxsize=16)
def _weights(side: int, length: int) -> Floats:
    """The weight of each of `side` cells in each of `length` pixels, (length, side).

    Bicubic is linear, so resizing the identity gives the weights. They are kept, for many maps have one size.
    """
    return resize(np.eye(side, dtype=np.float32), (side, length))


@lru_cache(maxsize=16)
def _bilinear(side: int, length: int) -> Floats:
    """The weights of `_weights`, bilinear: a pixel's centre lies between two cells' centres; edge cells reach to the
    edge."""
    places = np.maximum((np.arange(length) + 0.5) * side / length - 0.5, 0.0)
    low = np.minimum(places.astype(int), side - 1)
    share = places - low
    weights = np.zeros((length, side), np.float32)
    pixels = np.arange(length)
    weights[pixels, low] += 1 - share
    weights[pixels, np.minimum(low + 1, side - 1)] += share
    return weights


def _min_max(values: Floats) -> Floats:
    low, high = values.min(), values.max()
    if high - low < 1e-6:
        return np.full_like(values, 0.5)
    return np.asarray((values - low) / (high - low), dtype=np.float32)
