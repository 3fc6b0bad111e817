"""What of a change is kept: the rules on made-up looks, and both stages with them on the fake bundle."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grefine_rt import OptionError, PlanOptions, RefineOptions, Refiner, plan_costs, with_mask
from grefine_rt.accept import (
    GRID,
    LOWER,
    Look,
    accept_drawing,
    accept_restoration,
    changed_regions,
    enlarged_cells,
    grid_of,
    is_lower,
    judge,
    refusals,
    sharpness,
    soft_weight,
    visible_change,
)
from grefine_rt.assess.alignment import PhraseScore, regions
from grefine_rt.bundle.manifest import Cost
from grefine_rt.imaging.image import to_float
from grefine_rt.imaging.paste import paste_region
from tests.support.fake_bundle import COLOURS, Bundle, Engine, scene, solve

SIDE = 32
BOUND, TOLERANCE = 0.8, 0.05
PROMPT = "a house, the sea"
GOOD = [["house", "house", "sea", "sea"]] * 4
POOR = [GOOD[0], ["house", "poor", "sea", "sea"], *GOOD[2:]]
CORNERS = [["poor", *["sea"] * 7], *[["sea"] * 8] * 6, [*["sea"] * 7, "poor"]]
pictures = hnp.arrays(np.uint8, (24, 40, 3))
masks = hnp.arrays(np.bool_, (24, 40))


def box(top, left, size=8, shape=(SIDE, SIDE)):
    out = np.zeros(shape, bool)
    out[top : top + size, left : left + size] = True
    return out


def phrase(text, where, defect=None, score=0.9):
    noun_map = np.where(where, 0.95, 0.02).astype(np.float32)
    return PhraseScore(text, text, text, score, score, defect, noun_map, noun_map, 0)


def view(quality=0.95, sharp=1e-2, phrases=(), score=0.5):
    """A look with maps of one value, or as given."""
    maps = (
        np.full((SIDE, SIDE), value, np.float32) if np.isscalar(value) else value
        for value in (quality, sharp)
    )
    return Look(score, *maps, tuple(phrases), reach=2)


def patched(where, inside, outside=0.95):
    return np.where(where, inside, outside).astype(np.float32)


def verdict(before, after, region=None):
    region = box(8, 8) if region is None else region
    (found,) = judge(region.astype(np.int32), 1, before, after, TOLERANCE, BOUND)
    return found.why


REGION = box(8, 8)
BAD = view(patched(REGION, 0.2))


def test_a_poor_place_that_becomes_better_is_kept():
    assert verdict(BAD, view(score=0.9)) is None


def test_a_sound_place_is_left_alone_and_so_is_one_that_gains_nothing():
    assert verdict(view(), view(0.99, score=0.9)) == "sound"
    assert verdict(BAD, BAD) == "no gain"
    assert verdict(BAD, dataclasses.replace(BAD, score=0.6)) is None, (
        "P tells little where it is poor; p rose"
    )


def test_sound_places_must_stay_sound_inside_and_beyond():
    left = box(8, 8) & (np.arange(SIDE) < 12)
    half = view(patched(left, 0.2))
    spoilt = view(patched(REGION & ~left, 0.6), score=0.9)
    assert verdict(half, spoilt) == "inside"
    far = box(24, 24)
    assert verdict(BAD, view(patched(far, 0.1), score=0.9)) == "around"
    near = box(8, 17, 1)
    assert verdict(BAD, view(patched(near, 0.1), score=0.9)) is None, (
        "a cell beside the region tells of the region"
    )


def test_what_was_shown_must_not_be_lost():
    house, gone = phrase("house", REGION), phrase("house", box(0, 0, 0), score=0.1)
    before = dataclasses.replace(BAD, phrases=(house,))
    missing = dataclasses.replace(gone, defect="noun")
    assert verdict(before, view(phrases=(missing,), score=0.9)) == "phrase"
    # The phrase is shown elsewhere too, so its score tells nothing; its map does.
    assert verdict(before, view(phrases=(gone,), score=0.9)) == "thing"
    assert verdict(before, view(phrases=(house,), score=0.9)) is None
    place = dataclasses.replace(house, noun_map=np.full((SIDE, SIDE), 0.9, np.float32))
    assert verdict(dataclasses.replace(BAD, phrases=(place,)), view(phrases=(gone,), score=0.9)) is None


def test_only_the_region_that_held_a_lost_phrase_is_to_blame():
    first, second = box(2, 2), box(20, 20)
    labels = first.astype(np.int32) + 2 * second
    before = view(patched(first | second, 0.2), phrases=(phrase("house", first),))
    after = view(phrases=(phrase("house", box(0, 0, 0), "noun", 0.1),), score=0.9)
    assert [found.why for found in judge(labels, 2, before, after, TOLERANCE, BOUND)] == ["phrase", None]
    nowhere = dataclasses.replace(before, phrases=(phrase("house", box(12, 12, 3)),))
    assert [found.why for found in judge(labels, 2, nowhere, after, TOLERANCE, BOUND)] == ["phrase", "phrase"]


def test_a_missing_thing_may_be_drawn_over_a_sound_place():
    before = view(phrases=(phrase("tree", box(0, 0, 0), "noun", 0.1),))
    after = view(patched(REGION, 0.7), phrases=(phrase("tree", REGION),), score=0.4)
    assert verdict(before, after) is None
    elsewhere = view(patched(REGION, 0.7), phrases=(phrase("tree", box(24, 24)),), score=0.4)
    assert verdict(before, elsewhere) == "sound", "the phrase is not shown in the region"


def test_a_region_must_not_become_softer_than_it_was_and_its_surroundings_are():
    soft = view(sharp=patched(REGION, 1e-3, 1e-2), score=0.9)
    assert verdict(BAD, soft) == "soft"
    smooth = dataclasses.replace(BAD, sharpness=patched(REGION, 1e-2, 1e-3))
    assert verdict(smooth, soft) is None, "as sharp as what is around it"


@given(
    hnp.arrays(np.float32, (2, SIDE, SIDE), elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.bool_, (SIDE, SIDE)),
)
def test_judging_anything_gives_one_verdict_a_region_and_none_keeps_what_is_sound(quality, change):
    before, after = (view(values) for values in quality)
    labels, count = changed_regions(change, before.quality < BOUND)
    assert ((labels > 0) == change).all()
    found = judge(labels, count, before, after, TOLERANCE, BOUND)
    assert [one.region for one in found] == list(range(1, count + 1))
    for one in found:
        if one.why is None:
            assert (before.quality[labels == one.region] < BOUND).all()
    assert (refusals(found) == "") == all(one.why is None for one in found)


@given(pictures, pictures, masks)
def test_what_is_not_kept_is_bit_for_bit_the_picture_of_before(before, after, cells):
    weight = soft_weight(cells, before.shape)
    out = paste_region(before, to_float(after), weight)
    np.testing.assert_array_equal(out[weight == 0], before[weight == 0])
    np.testing.assert_array_equal(out[weight == 1], after[weight == 1])
    assert (weight[cells] == 1).all()
    low, high = np.minimum(before, after).astype(int), np.maximum(before, after).astype(int)
    assert ((out >= low - 1) & (out <= high + 1)).all()


@given(pictures, pictures)
def test_the_same_picture_has_no_visible_change_and_is_kept_whole(before, after):
    grid = grid_of(before.shape)
    assert not visible_change(before, before, grid).any()
    look = Look(0.5, *np.zeros((2, *grid), np.float32), ())
    accepted = accept_restoration(
        before, before, np.zeros(before.shape[:2], np.float32), look, look, 0.1, 0.8
    )
    np.testing.assert_array_equal(accepted.picture, before)
    assert not accepted.verdicts
    better = dataclasses.replace(look, score=0.9)
    weight = np.zeros(before.shape[:2], np.float32)
    weight[:9, :9] = 1
    mixed = np.where(weight[..., None] > 0, after, before)
    drawn = accept_drawing(before, mixed, weight, look, better, 0.1, 0.8)
    assert drawn.share in (0, 1)
    np.testing.assert_array_equal(drawn.picture, mixed if drawn.share else before)


def test_regions_of_a_drawing_are_taken_back_one_by_one():
    before, draft = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 200, np.uint8)
    first, second = box(4, 4, 8, (64, 64)), box(40, 40, 8, (64, 64))
    weight = (first | second).astype(np.float32)
    draft = np.where(weight[..., None] > 0, draft, before)
    quality = np.where(first, 0.2, 0.95).astype(np.float32)
    old = Look(0.5, quality, np.zeros((64, 64), np.float32), ())
    new = Look(0.9, np.full((64, 64), 0.95, np.float32), old.sharpness, ())
    accepted = accept_drawing(before, draft, weight, old, new, TOLERANCE, BOUND)
    assert accepted.share == pytest.approx(0.5)
    np.testing.assert_array_equal(accepted.picture.any(axis=2), first)
    assert [found.why for found in accepted.verdicts] == [None, "unseen"]


@pytest.mark.parametrize("shape", [(128, 128), (1024, 700), (33, 40), (1, 500)])
def test_the_grid_has_few_cells_and_every_pixel_one(shape):
    grid = grid_of(shape)
    assert 1 <= min(grid) <= max(grid) <= GRID
    assert enlarged_cells(np.ones(grid, bool), shape).all()


def test_noise_is_no_sharpness_and_edges_are():
    rng = np.random.default_rng(0)
    flat = np.full((64, 64, 3), 120, np.uint8)
    noisy = np.clip(flat + rng.normal(0, 25, (64, 64, 1)), 0, 255).astype(np.uint8)
    edges = flat.copy()
    edges[:, ::8] = 220
    plain, grain, lines = (float(sharpness(rgb, (8, 8)).mean()) for rgb in (flat, noisy, edges))
    gradient = (25 / 255) ** 2
    assert plain == 0
    assert grain < 0.2 * gradient
    assert lines > 0.5 * gradient


def scores(perceptual, alignment):
    return dataclasses.make_dataclass("Scores", ["perceptual", "alignment"])(perceptual, alignment)


def test_no_score_may_fall_however_far_the_other_rises():
    before = scores(0.8, 0.5)
    assert is_lower(scores(0.78, 0.9), before, True, True)
    assert not is_lower(scores(0.8, 0.4), before, True, False)
    assert not is_lower(before, before, True, True)
    assert not is_lower(scores(0.9, 0.5 - 1e-7), before, True, True)
    assert is_lower(scores(0.9, 0.4999), before, True, True)


def test_a_missing_thing_is_drawn_only_where_there_is_room():
    everywhere = np.full((8, 8), 0.5, np.float32)
    everywhere[0, 0] = 0.6
    crowd = dataclasses.replace(phrase("house", box(0, 0, 8, (8, 8))), noun_map=everywhere, map=everywhere)
    tree = phrase("tree", box(0, 0, 0, (8, 8)), "noun", 0.1)
    sound = np.full((8, 8), 0.95, np.float32)
    more = [crowd, dataclasses.replace(crowd, text="car", noun="car"), tree]
    (region,) = regions(more, "free", quality=sound)
    assert region.place == ""
    assert region.map.max() == 0
    (region,) = regions(more, "free")
    assert region.map.max() == 1, "without P some window is taken, as ever"
    (region,) = regions([tree], "free", quality=np.where(box(0, 0, 4, (8, 8)), 0.2, 0.95).astype(np.float32))
    assert region.map[:4, :4].min() > 0.5, "what is poor is redrawn anyway"


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def options(**more):
    return RefineOptions(plan=PlanOptions(**{"p_bound": 1.0, **more}), color_fix="off")


def painting(bundle, colour):
    """Stage 1 paints its mask."""

    def step(sample, mask, masked_latent, coefficients, **_):
        flat = np.array([*COLOURS[colour], 127.5], np.float32)[None, :, None, None] / 127.5 - 1
        return solve(sample, (mask * flat + (1 - mask) * masked_latent).astype(np.float32), coefficients)

    bundle.engines["inpaint_step"] = Engine(step, bundle.engines["inpaint_step"].inputs)


@pytest.mark.parametrize("drafts", [1, 3])
def test_stage_1_is_kept_where_it_helped_and_taken_back_where_it_did_not(drafts):
    refiner, picture = Refiner(Bundle()), scene(CORNERS, 256, 256)
    wrong = scene(CORNERS, 256, 256)
    result = refiner.refine(picture, "the sea", options=options(drafts=drafts, stages=(1,), min_area=0))
    assert result.after.perceptual > result.before.perceptual
    assert (pixels(result.image) != wrong).any()
    spoiler = Bundle()
    painting(spoiler, "poor")
    kept = Refiner(spoiler).refine(
        picture, "the sea", options=options(drafts=drafts, stages=(1,), min_area=0)
    )
    np.testing.assert_array_equal(pixels(kept.image), picture)
    assert kept.after.perceptual == kept.before.perceptual
    assert any("not kept: it would look no better" in note for note in kept.notes)


def test_a_thing_that_stands_is_not_drawn_over():
    bundle = Bundle()
    painting(bundle, "tree")
    refiner, picture = Refiner(bundle), scene(GOOD)
    result = refiner.refine(picture, "a house and a tree", options=options(stages=(1,)))
    assert result.plan.regenerate, "the paper's rule draws it over its ancestor"
    np.testing.assert_array_equal(pixels(result.image), picture)
    assert any("would be lost" in note for note in result.notes)
    papers = refiner.refine(picture, "a house and a tree", options=options(stages=(1,), accept="off"))
    assert (pixels(papers.image) != picture).any()


def mending():
    """A bundle whose stage 2 makes sea of what is poor, and the rest brighter."""
    bundle = Bundle()

    def mend(sample, control, coefficients, **_):
        seen = control.reshape(1, 3, control.shape[2] // 8, 8, control.shape[3] // 8, 8).mean(axis=(3, 5))
        poor, sea = (
            np.array(COLOURS[name], np.float32)[None, :, None, None] / 255 for name in ("poor", "sea")
        )
        clean = 2 * np.where(np.abs(seen - poor).sum(1, keepdims=True) < 0.2, sea, seen + 0.06) - 1
        return solve(
            sample, np.concatenate([clean, 0 * clean[:, :1]], axis=1).astype(np.float32), coefficients
        )

    bundle.engines["restore_step"] = Engine(mend, bundle.engines["restore_step"].inputs)
    return bundle


def test_stage_2_changes_poor_places_alone():
    picture = scene(POOR, 256, 256)
    result = Refiner(mending()).refine(picture, PROMPT, options=options(stages=(2,)))
    out = pixels(result.image)
    np.testing.assert_allclose(out[90:102, 90:102].mean((0, 1)), COLOURS["sea"], atol=8)
    np.testing.assert_array_equal(out[:, 192:], picture[:, 192:])
    assert result.after.perceptual > result.before.perceptual
    assert any(
        note.startswith("Of what stage 2 changed") and "nothing is wrong there" in note
        for note in result.notes
    )


def test_nothing_is_said_to_be_kept_of_a_change_that_is_taken_back(monkeypatch):
    picture, chosen = scene(POOR, 256, 256), options(stages=(2,))
    monkeypatch.setattr("grefine_rt.refiner.is_lower", lambda *arguments: True)
    result = Refiner(mending()).refine(picture, PROMPT, options=chosen)
    np.testing.assert_array_equal(pixels(result.image), picture)
    assert any("given back as it was" in note for note in result.notes)
    assert not any("is kept" in note for note in result.notes)


def test_a_picture_that_both_indicators_like_comes_back_as_it_is():
    bundle = Bundle()
    result = Refiner(bundle).refine(scene(GOOD), PROMPT, options=options(p_bound=0.5))
    np.testing.assert_array_equal(pixels(result.image), scene(GOOD))
    assert bundle.engines["restore_step"].calls == bundle.engines["inpaint_step"].calls == 0
    assert any("stays as it is" in reason for reason in result.plan.reasons)
    assert not any("restores the whole picture" in reason for reason in result.plan.reasons)


@pytest.mark.parametrize("drafts", [1, 3])
@pytest.mark.parametrize("rows", [POOR, GOOD, CORNERS])
def test_one_look_a_stage_is_added_at_most_and_costs_tell(rows, drafts):
    bundle = Bundle()
    names = set(bundle.engines) - {"alignment_image"}
    bundle.manifest = dataclasses.replace(
        bundle.manifest,
        components={name: name for name in names} | {"alignment_image": "perceptual"},
        costs={name: Cost((1e9, 0.0, 0.0), (0.0, 0.0, 0.0)) for name in names},
    )
    looks, real = [], bundle.engines["perceptual"].run
    bundle.engines["perceptual"].run = bundle.engines["alignment_image"].run = lambda *arguments: (
        looks.append(1) or real(*arguments)
    )
    refiner = Refiner(bundle)

    def count(accept):
        looks.clear()
        chosen = options(drafts=drafts, min_area=0, all_drafts=True, accept=accept)
        return refiner.refine(scene(rows), PROMPT, options=chosen), len(looks)

    off, before = count("off")
    judged, now = count("regions")
    stages = judged.plan.regenerate + judged.plan.restorations
    assert off.plan.regenerate == judged.plan.regenerate
    assert now <= before + stages
    assert judged.costs.assess <= plan_costs(judged.plan).assess
    assert judged.costs.assess == pytest.approx(off.costs.assess + (now - before) * 1e-3)


def test_no_result_scores_below_its_input():
    for colour in COLOURS:
        for rows in (POOR, GOOD, CORNERS):
            bundle = Bundle()
            painting(bundle, colour)
            result = Refiner(bundle).refine(
                scene(rows), "a house, the sea, a tree", options=options(min_area=0)
            )
            assert result.after.perceptual > result.before.perceptual - LOWER
            assert result.after.alignment > result.before.alignment - LOWER


def test_a_mask_by_hand_is_redrawn_whatever_the_indicators_say():
    bundle, picture = Bundle(), scene(GOOD)
    painting(bundle, "poor")
    refiner = Refiner(bundle)
    mask = box(64, 64, 32, (128, 128))
    plan = dataclasses.replace(with_mask(refiner.plan(picture, PROMPT), mask), feather=0.0, restore=False)
    result = refiner.refine(picture, PROMPT, plan=plan)
    np.testing.assert_array_equal((pixels(result.image) != picture).any(axis=2), mask)


def test_a_plan_of_another_prompt_bundle_or_mask_is_refused():
    refiner, picture = Refiner(Bundle()), scene(POOR)
    plan = refiner.plan(picture, PROMPT)
    with pytest.raises(OptionError, match="for the prompt 'a house, the sea', but this is 'a tree'"):
        refiner.refine(picture, "a tree", plan=plan)
    other = dataclasses.replace(plan, manifest=dataclasses.replace(plan.manifest, name="other"))
    with pytest.raises(OptionError, match="made with bundle 'other', but this is 'fake'"):
        refiner.refine(picture, PROMPT, plan=other)
    with pytest.raises(OptionError, match="boxes are not those of its mask"):
        refiner.refine(picture, PROMPT, plan=dataclasses.replace(plan, mask=box(0, 0, 16, (128, 128))))
    taken_over = dataclasses.replace(plan, prompt="a tall house, the sea")
    assert refiner.refine(picture, PROMPT, plan=taken_over).plan.prompt == "a tall house, the sea"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"drafts": 0}, "'drafts' must be a whole number from 1 to 64, not 0"),
        ({"stage1_steps": None}, "'stage1_steps' cannot be None"),
        ({"work": "huge"}, "'work' must be 'trained' or 'native', not 'huge'"),
        ({"feather": float("nan")}, "'feather' cannot be nan"),
        ({"feather": -1.0}, "'feather' cannot be -1.0"),
        ({"prompt": None}, "'prompt' cannot be None"),
        ({"judged": "beauty"}, "'judged' cannot be 'beauty'"),
        ({"mask": np.full((128, 128), 255, np.uint8)}, "mask must be an array of bool"),
        ({"mask": None}, "mask must be an array of bool"),
    ],
)
def test_a_plan_with_a_value_that_no_plan_has_is_refused(values, said):
    refiner, picture = Refiner(Bundle()), scene(POOR)
    plan = dataclasses.replace(refiner.plan(picture, PROMPT), **values)
    for mask in (None, box(0, 0, 16, (128, 128))):
        with pytest.raises(OptionError, match=said):
            refiner.refine(picture, PROMPT, plan=plan, mask=mask)
