import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grefine_rt.assess.perceptual import (
    FACTORS,
    PAPER,
    SCRIPT,
    calibrated,
    combine,
    published,
    upsample,
)

ALPHA = (0.9, 0.5, 0.7)
unit = st.floats(0, 1, width=32)


def equation_3(raw, alpha):
    """Eq. 3 for one token, in plain float64 Python."""
    value = float(raw[0])
    for i in (1, 2, 3):
        value *= min(float(raw[i]) / alpha[i - 1], 1.0)
    return value


def cubic(x, a=-0.5):
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def interpolation_matrix(source, target):
    """float64 (target, source): cubic convolution, half-pixel centres, weights renormalised at the edges."""
    matrix = np.zeros((target, source))
    for i in range(target):
        centre = (i + 0.5) * source / target - 0.5
        for j in range(source):
            matrix[i, j] = cubic(j - centre)
    return matrix / matrix.sum(axis=1, keepdims=True)


@given(hnp.arrays(np.float32, (17, 4), elements=unit))
def test_calibrated_is_equation_3_on_every_token(pairs):
    result = calibrated(pairs, ALPHA)
    assert result.score == pytest.approx(equation_3(pairs[0], ALPHA), abs=1e-6)
    expected = [equation_3(token, ALPHA) for token in pairs[1:]]
    np.testing.assert_allclose(result.map.ravel(), expected, atol=1e-6)
    assert result.map.shape == (4, 4)
    assert result.factors == {name: pytest.approx(pairs[0, i]) for i, name in enumerate(FACTORS)}
    np.testing.assert_array_equal(result.factor_maps["naturalness"].ravel(), pairs[1:, 3])


@given(hnp.arrays(np.float32, (4,), elements=unit), st.integers(0, 3), unit)
def test_a_better_factor_never_lowers_the_score(raw, factor, gain):
    better = raw.copy()
    better[factor] = max(raw[factor], gain)
    assert combine(better, ALPHA) >= combine(raw, ALPHA)


def test_a_factor_above_its_bound_changes_nothing():
    at_bound = np.array([0.8, 0.9, 0.5, 0.7], np.float32)
    above = np.array([0.8, 1.0, 0.9, 0.95], np.float32)
    assert combine(at_bound, ALPHA) == pytest.approx(0.8)
    assert combine(above, ALPHA) == pytest.approx(0.8)


def test_every_factor_has_its_own_bound():
    # The authors' script divides all three by the first bound.
    for i, alpha in enumerate(ALPHA):
        raw = np.ones(4, np.float32)
        raw[i + 1] = alpha / 2
        assert combine(raw, ALPHA) == pytest.approx(0.5)


def test_calibrated_is_absolute_and_published_relative():
    good = np.full((17, 4), 0.97, np.float32)
    assert calibrated(good, ALPHA).map.min() > 0.9
    similarities = np.zeros((17, 4, 2), np.float32)
    similarities[1:, 0, 0] = np.linspace(0.90, 0.91, 16)
    relative = published(similarities, ALPHA).map
    assert relative.min() == 0
    assert relative.max() == 1


@given(hnp.arrays(np.float32, (10, 4, 2), elements=st.floats(-3, 3, width=32)))
def test_published_is_the_authors_arithmetic(similarities):
    """By default the overall pair alone, with "product" the script's `--multi`, which divides by one bound thrice; each
    switch alone goes the paper's way."""
    result = published(similarities, ALPHA)
    pairs = similarities[0].astype(float)
    scores = [math.exp(good) / (math.exp(good) + math.exp(bad)) for good, bad in pairs]
    assert result.score == pytest.approx(scores[0], abs=1e-5)
    multi = published(similarities, ALPHA, replace(SCRIPT, factors="product"))
    expected = scores[0] * math.prod(min(score / ALPHA[0], 1) for score in scores[1:])
    assert multi.score == pytest.approx(expected, abs=1e-5)
    own = published(similarities, ALPHA, replace(SCRIPT, factors="product", bounds="own"))
    assert own.score == pytest.approx(equation_3(scores, ALPHA), abs=1e-5)
    patches = similarities[1:, 0, 0].astype(float)
    if np.ptp(patches) > 1e-3:
        np.testing.assert_allclose(result.map.ravel(), (patches - patches.min()) / np.ptp(patches), atol=1e-3)


def test_published_map_of_a_flat_picture_is_finite():
    flat = published(np.full((5, 4, 2), 0.3, np.float32), ALPHA).map
    np.testing.assert_array_equal(flat, 0.5)


def test_calibrated_takes_the_same_switches():
    pairs = np.tile(np.array([0.8, 0.5, 0.4, 0.3], np.float32), (5, 1))
    assert calibrated(pairs, ALPHA, replace(PAPER, factors="overall")).score == pytest.approx(0.8)
    first = calibrated(pairs, ALPHA, replace(PAPER, bounds="first"))
    assert first.score == pytest.approx(0.8 * 0.5 * 0.4 * 0.3 / ALPHA[0] ** 3, rel=1e-5)


def bilinear_point(grid, row, column, height, width):
    """One pixel of a bilinear enlargement, by the definition."""

    def neighbours(index, side, length):
        place = max((index + 0.5) * side / length - 0.5, 0)
        low = int(place)
        return low, min(low + 1, side - 1), place - low

    (a, b, s), (c, d, t) = neighbours(row, len(grid), height), neighbours(column, len(grid), width)
    top = (1 - t) * grid[a, c] + t * grid[a, d]
    return (1 - s) * top + s * ((1 - t) * grid[b, c] + t * grid[b, d])


@pytest.mark.parametrize("size", [(50, 77), (9, 9), (8, 8), (5, 30)])
def test_bilinear_upsampling(size):
    grid = np.random.default_rng(1).uniform(0, 1, (8, 8)).astype(np.float32)
    got = upsample(grid, size, "bilinear")
    expected = [[bilinear_point(grid, r, c, *size) for c in range(size[1])] for r in range(size[0])]
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_upsampling_is_bicubic_at_any_aspect():
    grid = np.random.default_rng(0).uniform(0.3, 0.7, (8, 8)).astype(np.float32)
    result = upsample(grid, (50, 77))
    expected = interpolation_matrix(8, 50) @ grid.astype(float) @ interpolation_matrix(8, 77).T
    assert result.shape == (50, 77)
    np.testing.assert_allclose(result, np.clip(expected, 0, 1), atol=1e-4)


def test_upsampling_stays_in_range_and_keeps_the_orientation():
    grid = np.zeros((4, 4), np.float32)
    grid[0, 3] = 1
    result = upsample(grid, (40, 60))
    assert result.min() == 0
    assert result.max() <= 1
    assert np.unravel_index(result.argmax(), result.shape)[0] < 10
    assert np.unravel_index(result.argmax(), result.shape)[1] >= 45
