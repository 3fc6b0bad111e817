import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from grefine_rt.errors import OptionError
from grefine_rt.imaging import mask as m

EIGHT = np.ones((3, 3), bool)
masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))
radii = st.floats(0, 9, width=32)


def disc(px):
    reach = int(px)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return x * x + y * y <= px * px


def true_distance(mask):
    return ndimage.distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)


def random_blobs(size, seed=0, level=0.55):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random((size, size)), size / 60)
    noise = (noise - noise.min()) / np.ptp(noise)
    return noise > level


@given(masks)
def test_label_agrees_with_scipy(mask):
    labels, count = m.label(mask)
    expected, expected_count = ndimage.label(mask, EIGHT)
    assert count == expected_count
    np.testing.assert_array_equal(labels, expected)


def test_label_contracts_long_and_branching_regions():
    spiral = np.zeros((101, 101), bool)
    for ring in range(0, 50, 4):
        spiral[ring, ring : 101 - ring] = spiral[ring : 101 - ring, 100 - ring] = True
        spiral[100 - ring, ring : 101 - ring] = spiral[ring + 2 : 101 - ring, ring] = True
        spiral[ring + 2, ring : ring + 5] = True
    comb = np.zeros((64, 257), bool)
    comb[:-1, ::2] = True
    comb[-1] = True
    for mask in (spiral, comb, random_blobs(200), np.random.default_rng(1).random((150, 170)) < 0.41):
        expected, expected_count = ndimage.label(mask, EIGHT)
        labels, count = m.label(mask)
        assert count == expected_count
        np.testing.assert_array_equal(labels, expected)


def test_regions_do_not_wrap_round_the_border():
    mask = np.zeros((3, 5), bool)
    mask[0, -1] = mask[1, 0] = mask[2, -1] = True
    assert m.label(mask)[1] == 3


@given(masks, radii)
def test_distance_agrees_with_scipy(mask, limit):
    expected = true_distance(mask)
    expected = np.where(expected**2 <= np.float64(limit) ** 2 + 1e-9, expected, np.inf)
    found = m.distance(mask, limit)
    assert found.dtype == np.float32
    # A distance that equals the limit up to rounding may fall on either side.
    clear = np.abs(true_distance(mask) - limit) > 1e-5
    np.testing.assert_allclose(found[clear], expected[clear], rtol=1e-6)


@given(masks, st.integers(0, 7))
def test_grow_is_dilation_by_a_disc(mask, px):
    np.testing.assert_array_equal(m.grow(mask, px), ndimage.binary_dilation(mask, disc(px)))


@given(masks, st.integers(0, 5), st.integers(0, 5))
def test_grow_contains_the_mask_and_is_monotone(mask, px, more):
    grown = m.grow(mask, px)
    assert grown[mask].all()
    assert m.grow(mask, px + more)[grown].all()


@given(masks, radii)
def test_feather_is_one_inside_zero_beyond_and_falls_between(mask, px):
    weight = m.feather(mask, px)
    away = true_distance(mask)
    assert weight.dtype == np.float32
    assert (weight[mask] == 1).all()
    assert (weight[away >= px + 1e-5][~mask[away >= px + 1e-5]] == 0).all()
    assert ((weight >= 0) & (weight <= 1)).all()
    order = np.argsort(away, axis=None)
    assert (np.diff(weight.ravel()[order]) <= 1e-6).all()


def test_feather_is_smooth():
    mask = np.zeros((1, 64), bool)
    mask[0, :20] = True
    weight = m.feather(mask, 16)[0]
    assert weight[20:35].min() > 0
    assert weight[36] == 0
    assert weight[28 - 1] == pytest.approx(0.5)
    assert np.abs(np.diff(weight)).max() < 0.1


@given(masks, st.integers(0, 30))
def test_remove_specks_keeps_whole_regions_of_the_area_or_more(mask, min_area):
    labels, count = ndimage.label(mask, EIGHT)
    expected = np.zeros_like(mask)
    for index in range(1, count + 1):
        region = labels == index
        if region.sum() >= min_area:
            expected |= region
    np.testing.assert_array_equal(m.remove_specks(mask, min_area), expected)


def touches(a, b):
    return a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3]


@given(masks)
def test_boxes_cover_the_mask_and_lie_apart(mask):
    found = m.boxes(mask)
    covered = np.zeros_like(mask)
    for x0, y0, x1, y1 in found:
        assert 0 <= x0 < x1 <= mask.shape[1]
        assert 0 <= y0 < y1 <= mask.shape[0]
        # Tight: every side of the box holds a pixel of the mask.
        part = mask[y0:y1, x0:x1]
        assert part[0].any()
        assert part[-1].any()
        assert part[:, 0].any()
        assert part[:, -1].any()
        covered[y0:y1, x0:x1] = True
    assert covered[mask].all()
    assert not any(touches(a, b) for i, a in enumerate(found) for b in found[:i])


def test_boxes_of_known_masks():
    mask = np.zeros((20, 30), bool)
    assert m.boxes(mask) == []
    mask[2:5, 3:9] = True
    mask[10:12, 20:25] = True
    assert m.boxes(mask) == [(3, 2, 9, 5), (20, 10, 25, 12)]
    ring = np.zeros((20, 20), bool)
    ring[2:18, 2:18] = True
    ring[4:16, 4:16] = False
    ring[9, 9] = True
    assert m.boxes(ring) == [(2, 2, 18, 18)]


@given(hnp.arrays(np.float32, (7, 9), elements=st.floats(0, 1, width=32)), st.floats(0, 1))
def test_binarise_by_a_number(values, threshold):
    mask = m.binarise(values, threshold)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, values.astype(np.float64) > np.float32(threshold))


@given(hnp.arrays(np.float32, (9, 9), elements=st.floats(0, 1, width=32)))
def test_otsu_lies_within_the_range_and_splits(values):
    threshold = m.otsu(values)
    assert values.min() <= threshold <= values.max()
    if np.ptp(values) > 1e-6:
        assert 0 < m.binarise(values, "otsu").sum() < values.size


def test_otsu_separates_two_classes_as_exhaustive_search_does():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0.25, 0.05, 3000), rng.normal(0.7, 0.08, 1000)]).clip(0, 1)

    def variance_between(threshold):
        low, high = values[values <= threshold], values[values > threshold]
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    candidates = np.linspace(values.min(), values.max(), 2001)[1:-1]
    best = max(variance_between(t) for t in candidates)
    assert variance_between(m.otsu(values.reshape(40, 100))) > 0.999 * best
    two = np.where(np.arange(100).reshape(10, 10) < 30, 0.9, 0.1)
    assert m.otsu(two) == pytest.approx(0.5, abs=0.01)


def test_a_flat_map_has_no_mask():
    for value in (0.0, 0.3, 1.0):
        assert not m.binarise(np.full((8, 8), value, np.float32), "otsu").any()
        rounded = np.full((8, 8), value, np.float32)
        rounded[::2] = np.nextafter(rounded[::2], np.float32(2))
        assert not m.binarise(rounded, "otsu").any()


def test_an_unknown_rule_is_named():
    with pytest.raises(OptionError, match='"ostu"'):
        m.binarise(np.zeros((2, 2), np.float32), "ostu")


@given(masks)
def test_to_latent_takes_the_upper_left_pixel_of_each_cell(mask):
    big = np.kron(mask, np.ones((8, 8), bool))
    latent = m.to_latent(big, mask.shape)
    assert latent.dtype == np.float32
    np.testing.assert_array_equal(latent, mask)
    np.testing.assert_array_equal(m.to_latent(mask, mask.shape), mask)


def test_to_latent_cuts_soft_masks_at_a_half():
    np.testing.assert_array_equal(
        m.to_latent(np.float32([[0.49, 0.5], [1.0, 0.0]]), (2, 2)), [[0, 1], [1, 0]]
    )


def test_empty_and_full_masks():
    empty, full = np.zeros((12, 10), bool), np.ones((12, 10), bool)
    assert not m.grow(empty, 5).any()
    assert not m.feather(empty, 5).any()
    assert not m.remove_specks(empty, 1).any()
    assert m.label(empty)[1] == 0
    assert (m.feather(full, 5) == 1).all()
    assert m.boxes(full) == [(0, 0, 10, 12)]


def test_masks_of_a_megapixel_take_a_fraction_of_a_second():
    mask = random_blobs(1024)

    def best_of_three(work):
        times = []
        for _ in range(3):
            start = time.process_time()
            work()
            times.append(time.process_time() - start)
        return min(times)

    # Generous bounds (about five times what a slow core needs): they catch loops over pixels, not noise.
    assert best_of_three(lambda: m.label(mask)) < 0.3
    assert best_of_three(lambda: m.feather(mask, 16)) < 0.6
