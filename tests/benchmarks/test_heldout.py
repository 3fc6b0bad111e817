import re
from collections import Counter

import numpy as np
import pytest

from grefine_export.mini.heldout import (
    ALIGNMENT,
    SIZE_OF_SET,
    TEST,
    VALIDATION,
    sample,
    samples,
    scene_key,
)
from grefine_export.mini.pool import TRAINING
from grefine_export.mini.world import SIZE, make_scene, render

TRAINED_ON = 24_000


@pytest.fixture(scope="module")
def everything():
    return list(samples())


def test_it_is_large_and_has_every_category(everything):
    assert len(everything) == SIZE_OF_SET >= 400
    counts = Counter(one.category for one in everything)
    assert set(counts) == {"clean", "local", "global", "alignment", "mixed"}
    assert min(counts.values()) >= 40
    wrong = Counter(one.misaligned for one in everything if one.category == "alignment")
    assert set(wrong) == set(ALIGNMENT)


def test_seeds_never_meet_those_of_training():
    judge, damaged = 9, 2
    assert len({TRAINING, TEST, VALIDATION, judge, damaged}) == 5


def test_no_scene_is_one_of_training(everything):
    test = {scene_key(one.scene): one.number for one in everything}
    trained = (scene_key(make_scene((TRAINING, index))) for index in range(TRAINED_ON))
    assert [test[key] for key in trained if key in test] == []


def test_scene_key_tells_scenes_apart():
    scene = make_scene((TRAINING, 0))
    assert scene_key(scene) == scene_key(make_scene((TRAINING, 0)))
    assert scene_key(scene) != scene_key(make_scene((TRAINING, 1)))


def test_it_is_the_same_at_every_call(everything):
    for one in everything[:: len(everything) // 12]:
        again = sample(one.number)
        assert again.prompt == one.prompt
        assert again.mos == one.mos
        assert np.array_equal(again.image, one.image)
        assert np.array_equal(again.mask, one.mask)
    other = sample(0, VALIDATION)
    assert not np.array_equal(other.truth, everything[0].truth)


def test_a_limit_takes_all_categories():
    few = list(samples(25))
    assert len(few) == 25
    assert len({one.category for one in few}) == 5
    assert [one.number for one in few] == sorted({one.number for one in few})


def test_pictures_and_truths_agree(everything):
    for one in everything:
        assert one.image.shape == one.truth.shape == (SIZE, SIZE, 3)
        assert one.image.dtype == one.truth.dtype == np.uint8
        same = np.array_equal(one.image, one.truth)
        assert same == (one.category == "clean"), one.number
        if one.category == "clean":
            assert one.mos == 5
            assert not one.mask.any()
        if one.category == "local":
            untouched = np.abs(one.image.astype(int) - one.truth).max(2) <= 12
            outside = ~one.mask
            assert (untouched | ~outside).mean() > 0.95, one.number


def test_defects_have_masks_and_cost_quality(everything):
    for one in everything:
        if one.defects:
            assert one.mask.any(), one.number
            assert 1 <= one.mos < 5, one.number
        if one.category == "local":
            assert not one.mask.all(), one.number
        if one.category == "global":
            assert one.mask.all()


def test_prompts_name_every_thing_with_its_colour(everything):
    for one in everything:
        for thing in one.scene.things:
            assert re.search(rf"\b{thing.colour} {thing.kind}\b", one.prompt), one.prompt


def test_what_is_wrong_is_what_it_says(everything):
    for one in everything:
        assert (one.misaligned is not None) == (one.category in ("alignment", "mixed"))
        assert (one.wanted is None) == (one.misaligned is None)
        if one.category == "alignment":
            changed = np.abs(one.image.astype(int) - one.truth).max(2) > 12
            wanted = render(one.scene).owner == one.thing + 1
            assert changed[wanted].mean() > 0.2, one.number
