"""The storybook world: scenes, pictures, the truth of every pixel."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from grefine_export.mini.palette import COLOURS, SETTINGS
from grefine_export.mini.pool import TRAINING, open_pool
from grefine_export.mini.things import FOOT, KINDS, SHAPES, SKY_KINDS
from grefine_export.mini.world import SCALES, SIZE, Scene, Thing, make_scene, render, with_thing, without

SEEDS = st.integers(0, 2**31).map(lambda index: (99, index))
SCENES = [make_scene((98, index)) for index in range(400)]


@pytest.fixture(scope="module")
def drawn():
    return [(scene, render(scene)) for scene in SCENES[:60]]


def grown(mask, pixels):
    image = Image.fromarray((mask * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.MaxFilter(2 * pixels + 1))) > 127


def shadow(thing):
    """Where the thing's shadow may lie, a pixel to spare."""
    ys, xs = np.mgrid[:SIZE, :SIZE]
    foot = thing.y + thing.side * (FOOT[thing.kind] - 0.02)
    beneath = (np.abs(ys - foot) <= 6) & (np.abs(xs - thing.x) <= 0.4 * thing.side + 1)
    return beneath & (thing.kind not in SKY_KINDS)


def outline(thing):
    """Corners of all polygons of a thing, pixels (k, 2)."""
    points = np.concatenate([shape.points for shape in SHAPES[thing.kind]])
    return points * [-thing.side if thing.flip else thing.side, thing.side] + [thing.x, thing.y]


# --- scenes


def test_there_is_enough_of_everything():
    assert (len(KINDS), len(COLOURS), len(SETTINGS)) == (14, 9, 6)
    things = [thing for scene in SCENES for thing in scene.things]
    assert {thing.kind for thing in things} == set(KINDS)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.size for thing in things} == set(SCALES)
    assert {scene.setting for scene in SCENES} == set(SETTINGS)
    counts = Counter(len(scene.things) for scene in SCENES)
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 50
    assert {thing.flip for thing in things} == {True, False}


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_scene_is_its_seed(seed):
    assert make_scene(seed) == make_scene(seed)
    assert make_scene(seed) != make_scene((seed[0] + 1, seed[1]))
    assert make_scene(seed) != make_scene((seed[0], seed[1] + 1))


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_things_lie_inside_the_picture_and_hardly_over_each_other(seed):
    scene = make_scene(seed)
    assert 1 <= len(scene.things) <= 3
    assert len({thing.kind for thing in scene.things}) == len(scene.things)
    covered = np.zeros((len(scene.things), SIZE, SIZE), bool)
    for index, thing in enumerate(scene.things):
        points = outline(thing)
        assert points.min() >= 0
        assert points.max() <= SIZE
        x0, y0, x1, y1 = thing.box
        assert 0 <= x0 < x1 <= SIZE
        assert 0 <= y0 < y1 <= SIZE
        covered[index, y0:y1, x0:x1] = True
    for one in range(len(covered)):
        for other in range(one):
            shared = (covered[one] & covered[other]).sum()
            assert shared <= 0.12 * min(covered[one].sum(), covered[other].sum())


def test_shapes_fill_their_unit_box():
    for kind, shapes in SHAPES.items():
        points = np.concatenate([shape.points for shape in shapes])
        assert np.abs(points).max() <= 0.55, kind
        assert np.ptp(points, axis=0).max() > 0.85, kind
        assert any(shape.role == "body" for shape in shapes), kind


def test_without_and_with_thing():
    scene = next(scene for scene in SCENES if len(scene.things) == 3)
    first, _, third = scene.things
    assert without(scene, 1).things == (first, third)
    assert with_thing(scene, 1, first).things == (first, first, third)
    assert (without(scene, 1).setting, without(scene, 1).seed) == (scene.setting, scene.seed)


# --- pictures and their truth


def test_a_picture_is_its_scene(drawn):
    for scene, picture in drawn[:12]:
        again = render(scene)
        assert again.image.shape == (SIZE, SIZE, 3)
        assert again.owner.shape == (SIZE, SIZE)
        assert again.image.dtype == again.owner.dtype == np.uint8
        assert np.array_equal(again.image, picture.image)
        assert np.array_equal(again.owner, picture.owner)


def test_the_seed_of_a_scene_changes_hills_and_grain_only():
    scene = SCENES[0]
    one, other = render(scene), render(Scene(scene.setting, scene.things, scene.seed + 1))
    assert np.array_equal(one.owner, other.owner)
    difference = np.abs(one.image.astype(int) - other.image).max(2)
    inside = ~grown(one.owner == 0, 1)
    assert inside.any()
    assert 0 < difference[inside].max() < 20


def test_owner_is_what_changes_when_the_thing_goes(drawn):
    for scene, picture in drawn:
        for index, thing in enumerate(scene.things):
            other = render(without(scene, index))
            changed = (picture.image != other.image).any(2)
            owned = picture.owner == index + 1
            assert changed[owned].mean() > 0.97
            assert not (changed & ~grown(owned, 2) & ~shadow(thing)).any()
            # The others stay whose they were.
            kept = ~owned & (other.owner > 0) & (picture.owner > 0)
            after = other.owner.astype(int) + (other.owner > index)
            assert np.array_equal(picture.owner[kept], after[kept])


def test_every_thing_can_be_seen_in_its_colour(drawn):
    for scene, picture in drawn:
        assert set(np.unique(picture.owner)) == set(range(len(scene.things) + 1))
        for index, thing in enumerate(scene.things):
            owned = picture.owner == index + 1
            alone = render(Scene(scene.setting, (thing,), scene.seed)).owner == 1
            assert owned.sum() > 0.9 * alone.sum()
            x0, y0, x1, y1 = thing.box
            assert owned[max(0, y0 - 3) : y1 + 1, max(0, x0 - 1) : x1 + 1].sum() == owned.sum()
            error = np.abs(picture.image[owned].astype(int) - COLOURS[thing.colour]).max(1)
            assert (error <= 12).mean() > 0.15, thing


def test_a_flipped_thing_is_the_mirror_image():
    for kind in ("fish", "car", "cat", "bird"):
        owners = [
            render(Scene("meadow", (Thing(kind, "red", "large", 64.0, 64.0, flip),), 1)).owner
            for flip in (False, True)
        ]
        same = (owners[0] == owners[1][:, ::-1]).mean()
        assert same > 0.98, kind
        assert same > (owners[0] == owners[1]).mean(), kind
        # To a part of a pixel: the truth is sampled where the pixel's middle is.
        centres = [np.nonzero(owner)[1].mean() + 0.5 for owner in owners]
        assert sum(centres) / 2 == pytest.approx(64.0, abs=0.2), kind


# --- the pool


def test_the_pool_keeps_the_training_scenes(tmp_path):
    pool = open_pool(tmp_path / "pool", 3)
    assert pool.images.shape == (3, SIZE, SIZE, 3)
    for index, scene in enumerate(pool.scenes):
        assert scene == make_scene((TRAINING, index))
        picture = render(scene)
        assert np.array_equal(pool.images[index], picture.image)
        assert np.array_equal(pool.owners[index], picture.owner)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "pool").iterdir()}
    again = open_pool(tmp_path / "pool", 3)
    assert np.array_equal(again.images, pool.images)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "pool").iterdir()} == files
