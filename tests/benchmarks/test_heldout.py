from collections import Counter

import numpy as np
import pytest

from grefine_export.mini import defects, redrawing_pairs
from grefine_export.mini.damaged import open_damaged
from grefine_export.mini.defects import KINDS_OF, KINDS_OF_DEFECT, TRAINED, UNSEEN_DEFECTS, damage_often
from grefine_export.mini.heldout import (
    ALIGNMENT,
    TEST,
    UNSEEN,
    VALIDATION,
    names_wanted,
    sample,
    samples,
    size_of,
)
from grefine_export.mini.lexicon import COLOUR_WORDS, NOUNS
from grefine_export.mini.pool import TRAINING, open_pool
from grefine_export.mini.prompts import UNSEEN_STYLES, describe
from grefine_export.mini.rated import DATABASE, rated_picture
from grefine_export.mini.rated import TRAINING as RATED
from grefine_export.mini.redrawing_pairs import as_found
from grefine_export.mini.restoration_pairs import ALL_SHARES, TECHNICAL_SHARES
from grefine_export.mini.styles import HELD_OUT_STYLES
from grefine_export.mini.world import SIZE, make_scene, render

TRAINED_ON = 24_000


@pytest.fixture(scope="module")
def everything():
    return list(samples())


def test_it_is_large_and_has_every_category(everything):
    assert len(everything) == size_of(TEST) >= 500
    counts = Counter(one.category for one in everything)
    assert set(counts) == {"clean", "local", "global", "alignment", "mixed"}
    assert min(counts.values()) >= 40
    wrong = Counter(one.misaligned for one in everything if one.category == "alignment")
    assert set(wrong) == set(ALIGNMENT)


def test_seeds_never_meet_those_of_training():
    judge, damaged = 9, 2
    assert len({TRAINING, TEST, VALIDATION, judge, damaged}) == 5


@pytest.mark.slow  # it makes every scene of the training
def test_no_scene_is_one_of_training(everything):
    test = {scene_key(one.scene): one.number for one in everything}
    trained = (scene_key(make_scene((TRAINING, index))) for index in range(TRAINED_ON))
    assert [test[key] for key in trained if key in test] == []


def scene_key(scene):
    """What makes two scenes the same picture: place and things; style, texture and hills aside."""
    things = ((t.kind, t.colour, t.size, round(t.x), round(t.y), t.flip, t.variant) for t in scene.things)
    return (scene.setting, tuple(sorted(things)))


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
        text = one.prompt.lower()
        assert len(one.nouns) == len(one.scene.things)
        for thing, noun in zip(one.scene.things, one.nouns, strict=True):
            assert noun in text, one.prompt
            colours = COLOUR_WORDS[thing.colour]
            assert any(colour in text for colour in colours.trained + colours.unseen), one.prompt


def test_what_is_wrong_is_what_it_says(everything):
    for one in everything:
        assert (one.misaligned is not None) == (one.category in ("alignment", "mixed"))
        assert (one.wanted is None) == (one.misaligned is None)
        if one.category == "alignment":
            changed = np.abs(one.image.astype(int) - one.truth).max(2) > 12
            wanted = render(one.scene).owner == one.thing + 1
            assert changed[wanted].mean() > 0.2, one.number
            assert names_wanted(one, f"the {one.nouns[one.thing].upper()} here")
            assert not names_wanted(one, "nothing of it")


# --- seen and unseen


def test_every_kind_of_damage_is_in_it(everything):
    local = Counter(one.defects[0].kind for one in everything if one.category == "local")
    assert set(local) == set(KINDS_OF_DEFECT)
    assert min(local.values()) >= 6
    spread = Counter(one.defects[0].kind for one in everything if one.category == "global")
    assert set(spread) == {*KINDS_OF["technical"], *KINDS_OF["naturalness"]}


def test_samples_tell_what_training_never_saw(everything):
    said = {what: [one for one in everything if what in one.unseen] for what in UNSEEN}
    assert {what for one in everything for what in one.unseen} == set(UNSEEN)
    assert min(len(some) for some in said.values()) >= 60
    for one in everything:
        assert ("damage" in one.unseen) == any(defect.kind in UNSEEN_DEFECTS for defect in one.defects)
        assert ("style" in one.unseen) == (one.scene.style in HELD_OUT_STYLES)
    for what in ("prompt", "synonym"):
        for category in ("clean", "alignment"):
            assert sum(one.category == category for one in said[what]) >= 20
    held = {noun for some in NOUNS.values() for noun in some.unseen}
    assert sum(noun in held for one in said["synonym"] for noun in one.nouns) > 20
    assert not held.intersection(
        noun for one in everything if "synonym" not in one.unseen for noun in one.nouns
    )
    plain = [one for one in everything if not one.unseen]
    assert len(plain) > 250
    assert {one.category for one in plain} == {"clean", "local", "global", "alignment", "mixed"}


def test_nothing_is_unseen_in_the_split_that_constants_are_fitted_on():
    assert size_of(VALIDATION) >= 500
    for one in samples(160, VALIDATION):
        assert one.unseen == frozenset(), one.number
        assert not any(defect.kind in UNSEEN_DEFECTS for defect in one.defects)
        assert one.scene.style not in HELD_OUT_STYLES


def test_a_third_of_the_kinds_of_every_factor_is_held_out():
    assert len(KINDS_OF_DEFECT) >= 22
    assert len(UNSEEN_DEFECTS) == round(len(KINDS_OF_DEFECT) / 3)
    for factor, kinds in KINDS_OF.items():
        held = UNSEEN_DEFECTS.intersection(kinds)
        assert 0.25 <= len(held) / len(kinds) <= 0.4, factor
        assert set(TRAINED[factor]) == set(kinds) - held


def test_training_draws_no_unseen_damage(monkeypatch, tmp_path):
    """Whatever training draws damage with, for many seeds."""
    drawn = set()

    def watched(picture, kind, reach, rng):
        drawn.add(kind)
        return original(picture, kind, reach, rng)

    original = defects.damage
    monkeypatch.setattr(defects, "damage", watched)
    monkeypatch.setattr(redrawing_pairs, "damage", watched)
    scenes = [make_scene((TRAINING, index)) for index in range(12)]
    pictures = [render(scene) for scene in scenes]
    rng = np.random.default_rng(1)
    for index in range(400):
        found = damage_often(pictures[index % 12], rng)[1]
        assert not UNSEEN_DEFECTS.intersection(defect.kind for defect in found)
        as_found(scenes[index % 12], pictures[index % 12], rng)
    assert drawn == {kind for kinds in TRAINED.values() for kind in kinds}
    for index in range(40):
        rated_picture(RATED, index, 0)
        rated_picture(DATABASE, index, 1)
    open_damaged(open_pool(tmp_path, 40), tmp_path)
    assert not drawn & UNSEEN_DEFECTS
    assert not UNSEEN_DEFECTS & (set(ALL_SHARES) | set(TECHNICAL_SHARES))


def test_training_draws_no_unseen_style_prompt_or_synonym(tmp_path):
    rng = np.random.default_rng(2)
    for seed in (TRAINING, RATED, DATABASE, VALIDATION):
        for index in range(300):
            scene = make_scene((seed, index))
            assert scene.style not in HELD_OUT_STYLES
            written = describe(scene, rng)
            assert written.style not in UNSEEN_STYLES
            assert written.unseen == frozenset()
    assert not {scene.style for scene in open_pool(tmp_path, 30).scenes} & set(HELD_OUT_STYLES)
