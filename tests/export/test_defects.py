"""Defects made on purpose: what they change, where they say so, what they cost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from grefine_export.mini import defects
from grefine_export.mini.damaged import open_damaged
from grefine_export.mini.defects import (
    FACTORS,
    IMPORTANCE,
    KINDS_OF,
    KINDS_OF_DEFECT,
    UNSEEN_DEFECTS,
    Defect,
    damage,
    damage_often,
    factor_scores,
    mos,
)
from grefine_export.mini.misshapen import RATIONALITY
from grefine_export.mini.pool import open_pool
from grefine_export.mini.regions import EDGES, closed, dilated, spot
from grefine_export.mini.technical import TECHNICAL
from grefine_export.mini.unnatural import NATURALNESS
from grefine_export.mini.world import SIZE, Rendered, make_scene, render

PICTURES = [render(make_scene((97, index))) for index in range(12)]
NUMBERS = st.sampled_from(range(len(PICTURES)))
EFFECTS = (*TECHNICAL, *NATURALNESS)
EVERY = [(kind, reach) for kind in EFFECTS for reach in ("local", "global")] + [
    (kind, "local") for kind in RATIONALITY
]


def grown(mask, pixels):
    image = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 127


def changes(before, after):
    return np.abs(after.astype(int) - before).max(2)


@pytest.mark.parametrize(("kind", "reach"), EVERY)
def test_every_kind(kind, reach):
    shown = 0
    for number, picture in enumerate(PICTURES):
        kept = picture.image.copy()
        after, defect = damage(picture, kind, reach, np.random.default_rng(number))
        again, _ = damage(picture, kind, reach, np.random.default_rng(number))
        assert np.array_equal(after, again)
        assert np.array_equal(picture.image, kept)
        assert after.shape == (SIZE, SIZE, 3)
        assert after.dtype == np.uint8
        assert defect.kind == kind
        assert defect.mask.shape == (SIZE, SIZE)
        assert defect.mask.dtype == bool
        assert 0.25 <= defect.strength <= 1
        assert 0 <= defect.penalty <= 0.95
        shown += defect.penalty > 0.05
    assert shown >= 10


def test_the_kinds_of_a_factor():
    picture, rng = PICTURES[0], np.random.default_rng(1)
    factors = {kind: damage(picture, kind, "local", rng)[1].factor for kind in KINDS_OF_DEFECT}
    expected = {"technical": TECHNICAL, "naturalness": NATURALNESS, "rationality": RATIONALITY}
    assert factors == {kind: factor for factor, kinds in expected.items() for kind in kinds}  # type: ignore[attr-defined]
    assert {factor: tuple(kinds) for factor, kinds in expected.items()} == KINDS_OF
    assert len(KINDS_OF_DEFECT) == len(set(KINDS_OF_DEFECT)) >= 22


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(EFFECTS), NUMBERS, st.integers(0, 2**32))
def test_a_local_defect_keeps_to_its_mask(kind, number, seed):
    picture = PICTURES[number]
    after, defect = damage(picture, kind, "local", np.random.default_rng(seed))
    changed = changes(picture.image, after)
    assert defect.mask.any()
    assert defect.mask.mean() < 0.35
    # Beyond the mask lie the outer half of the widest edge and what hardly shows.
    outside = changed[~grown(defect.mask, round(max(EDGES) / 2) + 2)]
    assert not (outside > 12).any()
    # The mask is near what shows, and most of it shows where the defect is dense.
    assert not defect.mask[~grown(changed > 12, 5)].any()


@pytest.mark.parametrize("kind", EFFECTS)
def test_what_lies_in_the_soft_edge_is_little(kind):
    inside = outside = 0.0
    for number, picture in enumerate(PICTURES):
        after, defect = damage(picture, kind, "local", np.random.default_rng(number))
        energy = changes(picture.image, after).astype(float) ** 2
        inside += energy[defect.mask].sum()
        outside += energy[~defect.mask].sum()
    assert outside < 0.15 * inside


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(tuple(RATIONALITY)), NUMBERS, st.integers(0, 2**32))
def test_a_rearranged_thing_keeps_to_its_mask(kind, number, seed):
    picture = PICTURES[number]
    after, defect = damage(picture, kind, "local", np.random.default_rng(seed))
    changed = changes(picture.image, after)
    assert not (changed[~defect.mask] > 12).any()
    # The mask is the broken part with small holes filled, no more.
    assert not defect.mask[~grown(changed > 12, 5)].any()
    # The sky and ground far from every thing stay as they are.
    assert defect.mask.mean() < 0.6


@pytest.mark.parametrize("kind", EFFECTS)
def test_a_global_defect_is_everywhere(kind):
    after, defect = damage(PICTURES[3], kind, "global", np.random.default_rng(5))
    assert defect.mask.all()
    blocks = (changes(PICTURES[3].image, after) > 0).reshape(8, 16, 8, 16).any((1, 3))
    assert blocks.mean() > 0.5


def test_a_picture_without_things_can_not_be_rearranged():
    empty = Rendered(PICTURES[0].image, np.zeros((SIZE, SIZE), np.uint8))
    for kind in RATIONALITY:
        after, defect = damage(empty, kind, "local", np.random.default_rng(6))
        assert np.array_equal(after, empty.image)
        assert not defect.mask.any()
        assert defect.penalty == 0


def test_spots_lie_mostly_on_things():
    rng = np.random.default_rng(7)
    on_thing = 0
    for _ in range(60):
        picture = PICTURES[int(rng.integers(len(PICTURES)))]
        soft = spot(picture, rng, shapes=False)
        assert soft.shape == (SIZE, SIZE)
        assert soft.min() >= 0
        assert soft.max() == 1
        assert 0.02 < (soft > 0.5).mean() < 0.3
        on_thing += (picture.owner > 0)[soft > 0.5].mean() > 0.1
    assert on_thing > 40


def test_edges_are_hard_and_soft():
    rng = np.random.default_rng(17)
    widths = []
    for _ in range(150):
        soft = spot(PICTURES[int(rng.integers(len(PICTURES)))], rng)
        rim = np.abs(np.diff((soft > 0.5).astype(int), axis=1)).sum()
        widths.append(((soft > 0.02) & (soft < 0.98)).sum() / max(1, rim) / 2)
    assert np.mean(np.array(widths) < 1.5) > 0.15
    assert np.mean(np.array(widths) > 3) > 0.1


def test_a_region_can_be_the_shape_of_a_thing():
    rng = np.random.default_rng(18)
    alike = 0
    for _ in range(200):
        picture = PICTURES[int(rng.integers(len(PICTURES)))]
        region = spot(picture, rng) > 0.5
        for number in range(1, int(picture.owner.max()) + 1):
            thing = picture.owner == number
            alike += (region & thing).sum() > 0.75 * (region | thing).sum()
    assert 10 < alike < 80


def test_growing_and_closing_masks():
    mask = np.zeros((SIZE, SIZE), bool)
    mask[40, 40] = True
    expected = np.zeros_like(mask)
    for pixels in range(1, 8):
        expected[40 - pixels : 41 + pixels, 40 - pixels : 41 + pixels] = True
        assert np.array_equal(dilated(mask, pixels), expected)
    ring = np.zeros_like(mask)
    ring[30:50, 30:50] = True
    ring[37:42, 37:42] = False
    filled = closed(ring, 4)
    assert filled[28:52, 28:52].sum() == 22 * 22
    assert filled.sum() == 22 * 22


# --- what it costs


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EVERY), NUMBERS, st.integers(0, 2**32))
def test_the_penalty_is_the_documented_formula(how, number, seed):
    picture = PICTURES[number]
    after, defect = damage(picture, *how, np.random.default_rng(seed))
    expected = 0.0
    if defect.mask.any():
        squares = ((after.astype(float) - picture.image)[defect.mask] / 255) ** 2
        visible = min(1, np.sqrt(squares.mean()) / 0.12)
        share = defect.mask.sum() / SIZE**2
        expected = IMPORTANCE[defect.factor] * (defect.strength * visible) ** 0.5 * (0.35 + 0.65 * share**0.5)
    assert defect.penalty == pytest.approx(min(expected, 0.95), rel=1e-4, abs=1e-6)
    assert IMPORTANCE == {"technical": 1.0, "rationality": 0.6, "naturalness": 0.8}


UNIT = st.floats(0, 1)


@given(UNIT, UNIT, st.integers(0, 40), st.integers(1, SIZE), st.sampled_from(FACTORS))
def test_a_stronger_defect_costs_more(one, other, difference, rows, factor):
    before = np.full((SIZE, SIZE, 3), 100, np.uint8)
    mask = np.zeros((SIZE, SIZE), bool)
    mask[:rows] = True

    def penalty(strength, difference=difference, mask=mask):
        return defects._priced("x", factor, strength, before, before + np.uint8(difference), mask).penalty

    weak, strong = sorted((one, other))
    assert penalty(weak) <= penalty(strong)
    assert penalty(strong) <= penalty(strong, difference + 5)
    wider = mask.copy()
    wider[: rows + 9] = True
    assert penalty(strong) <= penalty(strong, mask=wider)


def defect_of(factor, penalty):
    return Defect("blur", factor, 0.5, np.zeros((1, 1), bool), penalty)


LISTS = st.lists(st.builds(defect_of, st.sampled_from(FACTORS), st.floats(0, 0.95)), max_size=5)


@given(LISTS, st.randoms())
def test_mos_is_between_1_and_5_and_falls_with_every_defect(found, random):
    score = mos(found)
    assert 1 <= score <= 5
    shuffled = random.sample(found, len(found))
    assert mos(shuffled) == pytest.approx(score)
    for index, defect in enumerate(found):
        rest = found[:index] + found[index + 1 :]
        assert mos(rest) >= score
        worse = replace(defect, penalty=min(0.95, defect.penalty + 0.1))
        assert mos([*rest, worse]) <= mos([*rest, defect])
    factors = factor_scores(found)
    assert all(0 <= factor <= 1 for factor in factors)
    assert 1 + 4 * np.prod(factors) == pytest.approx(score)


def test_scores_of_a_few():
    assert mos([]) == 5
    assert factor_scores([]) == (1, 1, 1)
    found = [defect_of("technical", 0.5), defect_of("technical", 0.2), defect_of("naturalness", 0.1)]
    assert mos(found) == pytest.approx(1 + 4 * 0.5 * 0.8 * 0.9)
    assert factor_scores(found) == pytest.approx((0.4, 1, 0.9))


# --- pictures of a weak generator


def test_a_weak_generator_makes_up_to_three_defects_of_the_trained_kinds():
    rng = np.random.default_rng(8)
    counts, masked = [], []
    for number in range(120):
        picture = PICTURES[number % len(PICTURES)]
        after, found = damage_often(picture, rng)
        counts.append(len(found))
        union = np.zeros((SIZE, SIZE), bool)
        for defect in found:
            union |= defect.mask
        masked.append(union.mean())
        far = ~grown(union, 8)
        assert not (changes(picture.image, after)[far] > 25).any()
        assert not UNSEEN_DEFECTS.intersection(defect.kind for defect in found)
        assert found or np.array_equal(after, picture.image)
    assert set(counts) == {0, 1, 2, 3}
    assert 0.2 < counts.count(0) / 120 < 0.5
    assert 0.05 < np.mean(np.array(masked) == 1) < 0.4  # global ones


def test_the_damaged_pool_holds_pictures_and_their_truth(tmp_path):
    pool = open_pool(tmp_path, 16)
    damaged = open_damaged(pool, tmp_path)
    assert damaged.images.shape == (16, SIZE, SIZE, 3)
    assert damaged.masks.shape == (16, 3, SIZE, SIZE)
    np.testing.assert_allclose(damaged.mos, 1 + 4 * damaged.factors.prod(1), rtol=1e-5)
    sound = damaged.mos == 5
    assert 0 < sound.sum() < 16
    for index in range(16):
        same = np.array_equal(damaged.images[index], pool.images[index])
        assert same == sound[index]
        blamed = damaged.factors[index] < 1
        assert np.array_equal(damaged.masks[index].any((1, 2)), blamed)
    again = open_damaged(pool, tmp_path)
    assert np.array_equal(again.images, damaged.images)
