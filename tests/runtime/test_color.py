import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from grefine_rt.imaging.color import RIM_SHIFT_LIMIT, match_rim, wavelet_color_fix


def random_rgb(height, width, seed):
    return np.random.default_rng(seed).random((height, width, 3), np.float32)


def low_frequencies(values, levels):
    """The definition: a 3 x 3 kernel with its taps 2^level apart, borders replicated; float64."""
    values = values.astype(np.float64)
    for level in range(levels):
        step = 2**level
        kernel = np.zeros((2 * step + 1, 2 * step + 1))
        kernel[::step, ::step] = np.outer([1, 2, 1], [1, 2, 1]) / 16
        values = np.stack(
            [ndimage.correlate(values[..., c], kernel, mode="nearest") for c in range(3)], axis=2
        )
    return values


@pytest.mark.parametrize(("height", "width"), [(40, 56), (17, 90), (16, 16)])
@pytest.mark.parametrize("levels", [1, 3, 5])
def test_wavelet_fix_follows_its_definition(height, width, levels):
    output, reference = random_rgb(height, width, 0), random_rgb(height, width, 1)
    expected = output - low_frequencies(output, levels) + low_frequencies(reference, levels)
    found = wavelet_color_fix(output, reference, levels=levels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)


@given(st.integers(16, 50), st.integers(16, 50), st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_wavelet_fix_undoes_any_tint(height, width, tint):
    reference = random_rgb(height, width, 2)
    found = wavelet_color_fix(reference + np.float32(tint), reference)
    np.testing.assert_allclose(found, reference, atol=1e-6)


def test_wavelet_fix_goes_as_far_as_its_weight_says():
    output, reference = random_rgb(40, 56, 4), random_rgb(40, 56, 5)
    weight = np.random.default_rng(6).random((40, 56), np.float32)
    shift = wavelet_color_fix(output, reference) - output
    found = wavelet_color_fix(output, reference, weight)
    np.testing.assert_allclose(found, output + weight[..., None] * shift, atol=1e-6)


def disc(size, centre, radius):
    y, x = np.mgrid[:size, :size]
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def test_match_rim_removes_the_tint_and_keeps_the_repair():
    original = random_rgb(64, 64, 3)
    mask = disc(64, (30, 30), 12)
    repaired = original.copy()
    repaired[mask] = (0.9, 0.1, 0.2)
    tint = np.float32([0.05, -0.03, 0.08])
    found = match_rim(repaired + tint, original, mask, 4)
    np.testing.assert_allclose(found[mask], repaired[mask], atol=1e-6)
    np.testing.assert_allclose(found[disc(64, (30, 30), 15)], repaired[disc(64, (30, 30), 15)], atol=1e-6)
    # Beyond the rim nothing is touched.
    beyond = ~disc(64, (30, 30), 17)
    np.testing.assert_array_equal(found[beyond], (repaired + tint)[beyond])


def test_match_rim_measures_each_region_by_itself():
    original = random_rgb(48, 96, 4)
    left, right = np.zeros((2, 48, 96), bool)
    left[20:28, 15:25] = right[20:28, 70:80] = True
    shifted = original.copy()
    shifted[:, :48] += 0.06
    shifted[:, 48:] -= 0.04
    found = match_rim(shifted, original, left | right, 3)
    np.testing.assert_allclose(found[left | right], original[left | right], atol=1e-6)


def test_match_rim_follows_a_tint_that_changes_along_the_rim():
    original = random_rgb(96, 96, 5)
    mask = disc(96, (48, 48), 24)
    tint = np.linspace(-0.08, 0.08, 96, dtype=np.float32)[None, :, None]
    left = np.abs(match_rim(original + tint, original, mask, 8) - original).max(axis=2)
    inner_rim = mask & ~disc(96, (48, 48), 22)
    # One shift for the whole region would be 0 here, and leave all of the tint.
    assert left[inner_rim].mean() < 0.4 * np.abs(np.broadcast_to(tint, (96, 96, 1)))[inner_rim].mean()
    assert left[48, 48] < 0.01, "deep inside it is the mean"


def test_match_rim_is_bounded_and_survives_a_full_mask():
    original = np.zeros((32, 32, 3), np.float32)
    generated = np.full((32, 32, 3), 0.8, np.float32)
    mask = disc(32, (16, 16), 6)
    np.testing.assert_allclose(
        match_rim(generated, original, mask, 2)[mask], 0.8 - RIM_SHIFT_LIMIT, atol=1e-6
    )
    for empty_rim in (np.ones((32, 32), bool), np.zeros((32, 32), bool)):
        np.testing.assert_array_equal(match_rim(generated, original, empty_rim, 2), generated)
