import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grefine_rt.arrays import Box
from grefine_rt.plan.crops import MAX_REGIONS, SIDES, Crop, Frame, choose_crops, crop_around

SDXL = Frame((1024, 1024), 1024, 8, 512, 128)


def pixels(size):
    return size[0] * size[1]


def test_a_small_region_gets_the_smallest_crop_at_the_scale_of_the_whole():
    (crop,) = choose_crops([(500, 500, 600, 560)], SDXL, pixels)
    assert crop == Crop((296, 272, 808, 784), (512, 512), ((500, 500, 600, 560),))
    assert pixels(crop.size) * 4 == pixels(SDXL.size)


def test_a_crop_shows_context_and_has_one_of_few_sizes():
    crop = crop_around([(200, 500, 700, 560)], SDXL)
    x0, y0, x1, y1 = crop.box
    assert crop.size == (768, 512) == (x1 - x0, y1 - y0)
    assert x0 <= 200 - 128
    assert x1 >= 700 + 128
    widths = {crop_around([(0, 0, right, 40)], SDXL).size[0] for right in range(1, 1024)}
    assert widths == {512, 640, 768, 896, 1024}


def test_a_crop_at_the_edge_stays_inside_the_picture():
    crop = crop_around([(1000, 0, 1024, 10)], SDXL)
    assert crop.box == (512, 0, 1024, 512)


def test_boxes_are_merged_where_one_crop_costs_less_and_apart_where_two_do():
    near = choose_crops([(100, 100, 180, 180), (300, 100, 380, 180)], SDXL, pixels)
    assert [(crop.size, len(crop.regions)) for crop in near] == [((640, 512), 2)]
    far = choose_crops([(0, 0, 80, 80), (940, 940, 1020, 1020)], SDXL, pixels)
    assert [crop.size for crop in far] == [(512, 512), (512, 512)]
    # Where every run has a large fixed cost, one is better than two.
    together = choose_crops([(0, 0, 80, 80), (940, 940, 1020, 1020)], SDXL, lambda size: 1e7 + pixels(size))
    assert together == (SDXL.whole_crop([(0, 0, 80, 80), (940, 940, 1020, 1020)]),)


def test_the_whole_picture_is_one_crop_where_that_costs_no_more():
    boxes = [(0, 0, 80, 80), (940, 940, 1020, 1020), (940, 0, 1020, 80), (0, 940, 80, 1020)]
    assert choose_crops(boxes, SDXL, pixels) == (SDXL.whole_crop(boxes),)
    assert choose_crops([(10, 10, 1000, 1000)], SDXL, pixels)[0].box == (0, 0, 1024, 1024)
    many = [(8 * i, 0, 8 * i + 1, 1) for i in range(MAX_REGIONS + 1)]
    assert choose_crops(many, SDXL, pixels) == (SDXL.whole_crop(many),)
    assert choose_crops([], SDXL, pixels) == ()


def test_a_small_region_of_a_large_picture_is_drawn_finer_at_the_same_price():
    large = Frame((4096, 4096), 1024, 8, 512, 32)
    crop = crop_around([(2000, 2000, 2200, 2100)], large)
    assert crop.size == (512, 512)
    # 200 pixels and 2 x 128 of context in 512 work pixels: 3 times as fine as the whole picture's quarter scale.
    assert 456 <= crop.box[2] - crop.box[0] <= 600
    tiny = crop_around([(2000, 2000, 2010, 2010)], large)
    assert tiny.box[2] - tiny.box[0] == 512, "never finer than the picture's own pixels"
    small = crop_around([(30, 30, 34, 34)], Frame((128, 128), 1024, 8, 512, 32))
    assert small.size == (512, 512)
    assert small.box[2] - small.box[0] == 64, "an enlarged picture is not enlarged any more for a crop"


@st.composite
def cases(draw):
    width, height = draw(st.integers(16, 3000)), draw(st.integers(16, 3000))
    resolution = draw(st.sampled_from([128, 512, 1024]))
    multiple = draw(st.sampled_from([8, 16, 64]))
    context = draw(st.floats(0, resolution / 2))
    cuts = sorted(draw(st.lists(st.integers(0, width), min_size=2, max_size=8, unique=True)))
    boxes: list[Box] = []
    for x0, x1 in zip(cuts[::2], cuts[1::2], strict=False):
        y0 = draw(st.integers(0, height - 1))
        boxes.append((x0, y0, x1, draw(st.integers(y0 + 1, height))))
    return Frame((width, height), resolution, multiple, resolution // 2, context), boxes


@settings(max_examples=300, deadline=None)
@given(cases())
def test_crops_hold_their_regions_and_fit_picture_and_model(case):
    frame, boxes = case
    crops = choose_crops(boxes, frame, pixels)
    assert sorted(box for crop in crops for box in crop.regions) == sorted(boxes)
    assert sum(pixels(crop.size) for crop in crops) <= pixels(frame.size)
    for crop in crops:
        x0, y0, x1, y1 = crop.box
        assert 0 <= x0 < x1 <= frame.picture[0]
        assert 0 <= y0 < y1 <= frame.picture[1]
        assert all(x0 <= box[0] and y0 <= box[1] and box[2] <= x1 and box[3] <= y1 for box in crop.regions)
        assert crop.size[0] % frame.multiple == crop.size[1] % frame.multiple == 0
        for side, whole in zip(crop.size, frame.size, strict=True):
            assert side >= min(frame.smallest, whole)


@pytest.mark.parametrize("picture", [(1024, 1024), (1536, 640), (2048, 2048), (900, 1100)])
def test_things_are_as_wide_as_high_in_a_crop(picture):
    frame = Frame(picture, 1024, 8, 512, 128)
    for x, y in itertools.product(np.linspace(0, picture[0] - 40, 9).astype(int), (0, picture[1] // 2)):
        crop = crop_around([(int(x), int(y), int(x) + 40, int(y) + 30)], frame)
        across = crop.size[0] / (crop.box[2] - crop.box[0])
        down = crop.size[1] / (crop.box[3] - crop.box[1])
        assert across == pytest.approx(down, rel=0.02)
    assert crop.size[0] % (1024 // SIDES) == 0
