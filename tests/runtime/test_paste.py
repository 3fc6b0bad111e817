import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grefine_rt.imaging.image import resize, to_float
from grefine_rt.imaging.paste import add_difference, paste_region

sides = st.integers(16, 60)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(sides, sides, st.integers(0, 99))
def test_pixels_of_weight_0_keep_their_bits_and_those_of_weight_1_are_new(height, width, seed):
    rgb = picture(height, width, seed)
    new = picture(height, width, seed + 1)
    weight = np.random.default_rng(seed).choice(np.float32([0, 0, 0.5, 1]), (height, width))
    out = paste_region(rgb, to_float(new), weight)
    np.testing.assert_array_equal(out[weight == 0], rgb[weight == 0])
    np.testing.assert_array_equal(out[weight == 1], new[weight == 1])
    middle = weight == 0.5
    mean = (rgb[middle].astype(float) + new[middle]) / 2
    assert np.abs(out[middle] - mean).max(initial=0) <= 0.5 + 1e-3


def test_values_that_are_no_number_cannot_leave_the_mask():
    rgb = picture(20, 30)
    generated = np.full((20, 30, 3), np.nan, np.float32)
    weight = np.zeros((20, 30), np.float32)
    weight[5:9, 5:9] = 1
    with np.errstate(invalid="ignore"):
        out = paste_region(rgb, generated, weight)
    np.testing.assert_array_equal(out[weight == 0], rgb[weight == 0])


@given(sides, sides, st.integers(0, 40), st.integers(0, 40))
def test_what_is_pasted_into_a_larger_picture_is_resized_with_all_of_its_surroundings(
    height, width, top, left
):
    rgb, generated = picture(3 * height, 2 * width + 5), to_float(picture(height, width, 1))
    weight = np.zeros(rgb.shape[:2], np.float32)
    weight[top : top + 9, left : left + 13] = 1
    whole = resize(generated, (rgb.shape[1], rgb.shape[0])) * 255
    out = paste_region(rgb, generated, weight)
    assert np.abs(out - np.clip(whole, 0, 255))[weight == 1].max(initial=0) < 0.51


def test_an_empty_weight_copies():
    rgb = picture(20, 30)
    out = paste_region(rgb, np.zeros((16, 16, 3), np.float32), np.zeros((20, 30), np.float32))
    np.testing.assert_array_equal(out, rgb)
    assert out is not rgb


@given(sides, sides)
def test_no_difference_keeps_every_bit_at_every_size(height, width):
    rgb = picture(height, width)
    for size in ((width, height), (32, 48), (128, 64)):
        work = np.clip(resize(to_float(rgb), size), 0, 1)
        np.testing.assert_array_equal(add_difference(rgb, work, work), rgb)


def test_at_work_size_the_result_is_the_restored_picture():
    rgb, restored = picture(32, 48), picture(32, 48, 1)
    np.testing.assert_array_equal(add_difference(rgb, to_float(rgb), to_float(restored)), restored)


def test_a_change_of_brightness_reaches_the_picture_and_detail_stays():
    rgb = (picture(64, 96) // 2 + 20).astype(np.uint8)
    work = resize(to_float(rgb), (48, 32))
    out = add_difference(rgb, work, work + np.float32(10 / 255))
    assert (out.astype(int) - rgb).min() == pytest.approx(10)
    assert (out.astype(int) - rgb).max() == pytest.approx(10)
