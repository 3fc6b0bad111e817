import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from grefine_rt.imaging import heatmap

maps = hnp.arrays(np.float32, (5, 7), elements=st.floats(0, 1, width=32))


def lightness(rgb):
    """CIE L* of sRGB uint8."""
    linear = np.where(rgb <= 0.04045 * 255, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_lightness_rises_evenly():
    steps = np.diff(lightness(heatmap.scale(256).astype(float)[::8]))
    assert steps.min() > 0.8
    assert steps.max() < 6


def test_the_scale_survives_red_green_blindness():
    # Machado et al. 2009, deuteranopia; applied to linear RGB. Neighbouring anchors must stay apart.
    matrix = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
    seen = (heatmap.ANCHORS[:, 1:] / 255) ** 2.2 @ matrix.T
    seen = np.clip(seen, 0, 1) ** (1 / 2.2)
    assert np.linalg.norm(np.diff(seen, axis=0), axis=1).min() > 0.1


@given(maps)
def test_colours_are_those_of_the_scale(values):
    colours = heatmap.colourise(values)
    assert colours.shape == (5, 7, 3)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours, heatmap.scale()[np.rint(values * 255).astype(int)])


def test_values_outside_are_clipped():
    found = heatmap.indices(np.float32([[-1, np.nan, 0.5, 1, 3]]))
    np.testing.assert_array_equal(found, [[0, 0, 128, 255, 255]])


@given(maps, st.floats(0, 1))
def test_overlay_mixes(values, opacity):
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    mixed = heatmap.overlay(rgb, values, opacity).astype(float)
    exact = rgb * (1 - opacity) + heatmap.colourise(values) * opacity
    assert np.abs(mixed - exact).max() <= 0.5 + 1e-9
    np.testing.assert_array_equal(heatmap.overlay(rgb, values, 0), rgb)
    np.testing.assert_array_equal(heatmap.overlay(rgb, values, 1), heatmap.colourise(values))


def test_legend_runs_from_calm_to_hot():
    legend = heatmap.legend(100, 8)
    assert legend.shape == (8, 100, 3)
    np.testing.assert_array_equal(legend[:, 0], np.tile(heatmap.ANCHORS[0, 1:], (8, 1)))
    np.testing.assert_array_equal(legend[:, -1], np.tile(heatmap.ANCHORS[-1, 1:], (8, 1)))


@pytest.mark.parametrize("shape", [(9, 11), (9, 11, 3), (9, 11, 4)])
def test_png_bytes(shape):
    array = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    image = Image.open(io.BytesIO(heatmap.png_bytes(array)))
    assert image.format == "PNG"
    np.testing.assert_array_equal(image, array)
