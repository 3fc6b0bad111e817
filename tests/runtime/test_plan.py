import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from grefine_rt.assess.alignment import PhraseScore
from grefine_rt.assess.indicator import Assessment
from grefine_rt.assess.perceptual import FACTORS
from grefine_rt.bundle.manifest import Cost
from grefine_rt.errors import GRefineError, OptionError
from grefine_rt.imaging.tiles import cut
from grefine_rt.plan.change import with_mask
from grefine_rt.plan.costs import plan_costs
from grefine_rt.plan.make import binary_mask, make_plan, stage1_strength
from grefine_rt.plan.options import PlanOptions
from grefine_rt.plan.plan import PLAN_SIDE, Drawn
from grefine_rt.plan.reasons import LEFT_TO_STAGE2, cost_reasons
from tests.support import fake_bundle

HEIGHT, WIDTH = 96, 160
MANIFEST = fake_bundle.manifest()
PROMPT = "a red house, a tall tree"
unit = st.floats(0, 1, width=32)


def hole(top=0.25, left=0.5, size=0.3, shape=(HEIGHT, WIDTH)):
    """True in a box given in shares of the picture."""
    out = np.zeros(shape, bool)
    rows, columns = (
        slice(int(at * side), int((at + size) * side)) for at, side in zip((top, left), shape, strict=True)
    )
    out[rows, columns] = True
    return out


def phrase(text, noun, defect=None, where=(0, 0)):
    grid = np.full((8, 8), 0.02, np.float32)
    grid[where[0] : where[0] + 3, where[1] : where[1] + 3] = 0.95
    words = text.split()
    start = next((i for i in range(6) if PROMPT.replace(",", "").split()[i : i + len(words)] == words), 0)
    return PhraseScore(
        text,
        noun,
        noun,
        0.2 if defect == "noun" else 0.9,
        0.4,
        defect,
        grid,
        grid,
        0,
        tuple(range(start, start + len(words))),
    )


def assessment(poor=None, phrases=(), shape=(HEIGHT, WIDTH), perceptual=0.8, alignment=0.6):
    quality = np.full(shape, 0.97, np.float32)
    if poor is not None:
        quality[poor] = 0.1
    maps = dict.fromkeys(FACTORS, quality)
    maps["technical"] = quality / 2
    return Assessment(
        perceptual=perceptual,
        alignment=alignment,
        perceptual_map=quality,
        alignment_map=np.zeros(shape, np.float32),
        factors=dict.fromkeys(FACTORS, 0.9),
        factor_maps=maps,
        phrases=tuple(phrases),
        prompt=PROMPT,
    )


GOOD = phrase("a red house", "house")
WRONG_TREE = phrase("a tall tree", "tree", "adjective", where=(4, 0))


def test_a_good_picture_is_left_alone_by_stage_1():
    plan = make_plan(assessment(phrases=[GOOD]), MANIFEST, PlanOptions())
    assert not plan.mask.any()
    assert not plan.regenerate
    assert plan.restore
    assert plan.boxes == ()
    assert plan.coverage == 0
    assert plan.prompt == PROMPT
    assert "Stage 1 is skipped." in plan.reasons
    assert plan.weight().max() == 0


@pytest.mark.parametrize(("score", "marked"), [(0.7, True), (0.71, False)])
def test_a_picture_that_scores_above_the_bound_is_good_whatever_its_map_says(score, marked):
    plan = make_plan(assessment(hole(), perceptual=score), MANIFEST, PlanOptions(p_bound=0.7))
    assert plan.mask.any() == marked


def test_a_thing_that_is_absent_takes_the_strongest_pass():
    absent = phrase("a tall tree", "tree", "noun", where=(4, 0))
    options = PlanOptions(strength_min=0.2, strength_max=0.9)
    assert make_plan(assessment(phrases=[GOOD, absent]), MANIFEST, options).strength == 0.9
    milder = make_plan(assessment(phrases=[GOOD, WRONG_TREE]), MANIFEST, options).strength
    assert 0.2 < milder < 0.9
    assert stage1_strength(0.4, "printed", 0.2, 0.9, absent=True) == 0.4


def test_a_poor_region_is_covered_with_room_around_it():
    poor = hole()
    plan = make_plan(assessment(poor), MANIFEST, PlanOptions())
    assert plan.mask[poor].all()
    assert poor.sum() < plan.mask.sum() < 3 * poor.sum()
    assert plan.coverage == pytest.approx(plan.mask.mean())
    ((x0, y0, x1, y1),) = plan.boxes
    assert x0 < 80 < 127 < x1
    assert y0 < 24 < 52 <= y1
    assert any("most of all for blur, noise" in reason for reason in plan.reasons)


def test_grow_and_feather_are_latent_cells_at_the_size_of_the_picture():
    poor = hole()
    plain = make_plan(assessment(poor), MANIFEST, PlanOptions(grow=0))
    np.testing.assert_array_equal(plain.mask, poor)
    # 160 x 96 pixels are worked on at 160 x 96 (near 128 x 128): a cell is 8 pixels.
    assert plain.feather == pytest.approx(8, rel=0.05)
    twice = make_plan(assessment(hole(shape=(192, 320)), shape=(192, 320)), MANIFEST, PlanOptions())
    assert twice.feather == pytest.approx(2 * plain.feather, rel=0.05)


def two_kinds_of_poor():
    """A misshapen region at the top left, a noisy one at the bottom right, and an assessment that shows both."""
    shape, noise = hole(0.1, 0.1), hole(0.6, 0.6)
    seen = assessment(shape | noise)
    low, fine = np.float32(0.2), np.full((HEIGHT, WIDTH), 0.97, np.float32)
    maps = {
        "overall": fine,
        "technical": np.where(noise, low, fine),
        "rationality": np.where(shape, low, fine),
        "naturalness": fine,
    }
    return shape, noise, dataclasses.replace(seen, factor_maps=maps)


def test_only_what_is_misshapen_is_redrawn_where_stage_2_mends_the_rest():
    shape, noise, seen = two_kinds_of_poor()
    plan = make_plan(seen, MANIFEST, PlanOptions(grow=0, redraw="misshapen"))
    np.testing.assert_array_equal(plan.mask, shape)
    assert LEFT_TO_STAGE2 in plan.reasons
    for changed in ({"redraw": "poor"}, {"stages": (1,)}, {"delta": 0.0}):
        options = PlanOptions(**{"grow": 0, "redraw": "misshapen", **changed})
        everything = make_plan(seen, MANIFEST, options)
        np.testing.assert_array_equal(everything.mask, shape | noise)
        assert LEFT_TO_STAGE2 not in everything.reasons


def test_the_weakest_factor_is_judged_by_the_bounds_of_eq_3():
    _, noise, seen = two_kinds_of_poor()
    manifest = dataclasses.replace(
        MANIFEST, perceptual=dataclasses.replace(MANIFEST.perceptual, alpha=(0.1, 1.0, 0.8))
    )
    # A technical score of 0.2 is above its bound 0.1: twice as good as asked for.
    plan = make_plan(seen, manifest, PlanOptions(grow=0, redraw="misshapen"))
    assert plan.mask[noise].all()


def test_a_wrong_phrase_is_drawn_at_its_region_and_emphasised():
    plan = make_plan(assessment(phrases=[GOOD, WRONG_TREE]), MANIFEST, PlanOptions(grow=0))
    assert plan.mask[60:, :40].any()
    assert not plan.mask[:40].any()
    assert not plan.mask[:, 80:].any()
    assert "(a tall tree:1.1)" in plan.prompt
    assert "(a red house" not in plan.prompt
    assert any("'tree' was found, but not as 'a tall tree'" in reason for reason in plan.reasons)


def test_a_missing_thing_always_gets_a_region():
    missing = phrase("a tall tree", "tree", "noun", where=(4, 0))
    for rule in ("ancestor", "free"):
        plan = make_plan(assessment(phrases=[missing]), MANIFEST, PlanOptions(missing_region=rule))
        assert plan.regenerate
        assert 0.05 < plan.coverage < 0.6
        assert any(
            "'a tall tree' was not found (it scores 0.20 of 1, 0.50 would do)" in reason
            for reason in plan.reasons
        )


def test_the_product_is_the_intersection_and_everything_without_a_defect():
    product = PlanOptions(joining="product")
    assert make_plan(assessment(phrases=[GOOD]), MANIFEST, product).coverage == 1
    apart = [dataclasses.replace(WRONG_TREE, noun="house", text="a red house"), WRONG_TREE]
    apart[0] = dataclasses.replace(apart[0], noun_map=np.rot90(WRONG_TREE.noun_map, 2).copy())
    assert make_plan(assessment(phrases=apart), MANIFEST, product).coverage == 0
    assert make_plan(assessment(phrases=apart), MANIFEST, PlanOptions()).coverage > 0


def test_one_indicator_alone_decides_mask_strength_and_prompt():
    both = assessment(hole(0.1, 0.7, 0.2), [GOOD, WRONG_TREE])
    quality = make_plan(both, MANIFEST, PlanOptions(indicators=("perceptual",), grow=0))
    matching = make_plan(both, MANIFEST, PlanOptions(indicators=("alignment",), grow=0))
    assert not quality.mask[:, :80].any()
    assert quality.prompt == PROMPT
    assert quality.strength == pytest.approx(0.5 + 0.4 * (1 - 0.8))
    assert not matching.mask[:, 80:].any()
    assert "1.1" in matching.prompt
    assert matching.strength == pytest.approx(0.5 + 0.4 * (1 - 0.6))
    together = make_plan(both, MANIFEST, PlanOptions(grow=0))
    # 1 - P + A is a sum: at the threshold, both together may mark a little more.
    apart = quality.mask | matching.mask
    assert not (apart & ~together.mask).any()
    assert (together.mask & ~apart).mean() < 0.01


def test_stages_and_full_image():
    poor = assessment(hole())
    first = make_plan(poor, MANIFEST, PlanOptions(stages=(1,)))
    assert (first.regenerate, first.restore) == (True, False)
    second = make_plan(poor, MANIFEST, PlanOptions(stages=(2,)))
    assert (second.regenerate, second.restore) == (False, True)
    full = make_plan(assessment(), MANIFEST, PlanOptions(full_image=True))
    assert full.mask.all()
    assert full.regenerate
    assert full.weight().min() == 1


def test_options_override_the_bundle_and_the_bundle_fills_the_rest():
    options = PlanOptions(
        stage1_steps=7, stage2_steps=3, drafts=5, delta=0.25, strength_min=0.2, strength_max=0.2
    )
    plan = make_plan(assessment(hole()), MANIFEST, options)
    assert (plan.stage1_steps, plan.stage2_steps, plan.drafts, plan.delta) == (7, 3, 5, 0.25)
    assert plan.strength == pytest.approx(0.2)
    assert make_plan(assessment(hole()), MANIFEST, PlanOptions()).delta == 0.5


def counted(**inpaint):
    """The manifest with costs: every graph 1 GFLOP a run and 1 MFLOP a latent cell more, the text encoders 10 MFLOP."""
    names = ["perceptual", "alignment_image", "alignment_text"]
    names += [
        f"{stage}_{part}" for stage in ("inpaint", "restore") for part in ("text", "encode", "step", "decode")
    ]
    costs = {name: Cost((1e9, 1e6, 0.0), (0.0, 0.0, 0.0)) for name in names}
    costs |= {name: Cost((1e7, 0.0, 0.0), (0.0, 0.0, 0.0)) for name in names if name.endswith("_text")}
    return dataclasses.replace(
        MANIFEST,
        components={name: name for name in names} | {"alignment_image": "perceptual"},
        costs=costs,
        inpaint=dataclasses.replace(MANIFEST.inpaint, **inpaint),
    )


def test_costs_are_those_of_every_run_of_a_graph():
    # Worked out by hand for 160 x 96 pixels: 240 latent cells; int(4 * 0.7) guided and int(4 * 0.5) plain UNet calls.
    options = PlanOptions(strength_min=0.7, strength_max=0.7, drafts=3, crop="off", accept="off")
    plan = make_plan(assessment(hole(), [GOOD, GOOD]), counted(), options)
    run = 1e9 + 240e6
    encoding = 1e7 + 2 * run  # of the prompt, the picture and the masked picture, once for all drafts
    draft = 2 * 2 * run + run  # two calls of two passes, one decoding
    stage2 = 1e7 + run + 2 * run + 2 * run  # difference decoding decodes twice
    costs = plan_costs(plan)
    assert costs.stage1 == pytest.approx((encoding + 3 * draft) / 1e12)
    assert costs.stage2 == pytest.approx(stage2 / 1e12)
    assert costs.assess == pytest.approx((5 * 1e9 + 6 * 1e7) / 1e12)
    assert costs.total == pytest.approx(costs.stage1 + costs.stage2 + costs.assess)
    assert costs.full == pytest.approx(costs.total)
    assert plan_costs(plan, Drawn(0, 1)).stage1 == pytest.approx((encoding + draft) / 1e12)
    assert plan_costs(plan, Drawn(0, 1)).full == costs.full
    alone = make_plan(assessment(hole(), [GOOD, GOOD]), counted(), dataclasses.replace(options, drafts=1))
    assert plan_costs(alone).assess == pytest.approx((2 * 1e9 + 6 * 1e7) / 1e12), (
        "a single draft is kept unseen"
    )
    (told,) = cost_reasons(plan)
    assert "All this takes at most" in told
    assert "100 % of the full computation" in told
    assert not any("TFLOP" in reason for reason in plan.reasons), "a run has costs of its own"
    assert plan_costs(make_plan(assessment(hole()), MANIFEST, PlanOptions())) is None


def test_sketches_cost_their_own_calls_and_one_draft_more():
    run, options = 1e9 + 240e6, PlanOptions(strength_min=0.9, strength_max=0.9, crop="off")

    def plan(**more):
        return make_plan(assessment(hole(), [GOOD]), counted(), dataclasses.replace(options, **more))

    finished, sketched = plan(drafts=5), plan(drafts=5, sketch_steps=2)
    assert sketched.most == Drawn(5, 1)
    # A sketch makes int(2 * 0.9) calls of two passes, a draft int(4 * 0.9); both are decoded.
    assert plan_costs(sketched).stage1 == pytest.approx((1e7 + 2 * run + 5 * 3 * run + 7 * run) / 1e12)
    assert plan_costs(sketched).assess > plan_costs(finished).assess, (
        "the draft is judged beside the sketches"
    )
    assert plan_costs(sketched).full == plan_costs(finished).full == pytest.approx(plan_costs(finished).total)
    assert any("sketches up to 5 drafts with 2 steps each" in reason for reason in sketched.reasons)
    # Nothing is sketched where that saves no call, leaves none, or chooses nothing.
    mild = {"strength_min": 0.4, "strength_max": 0.4}
    for kept in (
        plan(drafts=5, sketch_steps=4),
        plan(sketch_steps=2),
        plan(drafts=5, sketch_steps=2, **mild),
    ):
        assert kept.most == Drawn(0, kept.drafts)
        assert not any("sketches" in reason for reason in kept.reasons)
    assert plan(drafts=5, sketch_steps=2, stages=(2,)).most == Drawn(0, 0)


def test_the_bundle_may_ask_for_sketches():
    plan = make_plan(assessment(hole()), counted(drafts=3, sketch_steps=2), PlanOptions())
    assert (plan.drafts, plan.sketch_steps) == (3, 2)
    assert (
        make_plan(assessment(hole()), counted(sketch_steps=2), PlanOptions(sketch_steps=0)).sketch_steps == 0
    )


def test_native_work_counts_the_tiles():
    # 160 x 96 pixels are 20 x 12 cells; tiles of 64 pixels, 8 cells, overlap by 2 or more: 3 x 2 of them.
    manifest = counted()
    manifest = dataclasses.replace(manifest, restore=dataclasses.replace(manifest.restore, resolution=64))
    trained, native = (
        plan_costs(make_plan(assessment(hole(), [GOOD, GOOD]), manifest, PlanOptions(work=work)))
        for work in ("trained", "native")
    )
    tile = 1e7 + 5 * (1e9 + 64e6)  # a text, one encoding, two calls, two decodings
    tiles = len(cut(12, 20, 8, 2, 2))
    assert tiles > 1
    assert native.stage2 == pytest.approx(tiles * tile / 1e12)
    assert native.stage2 > 2 * trained.stage2
    assert native.stage1 == trained.stage1


def test_levers_lower_the_predicted_costs_and_are_named():
    poor = assessment(hole(0.3, 0.4, 0.1))
    full = plan_costs(
        make_plan(poor, counted(), PlanOptions(crop="off", strength_min=0.99, strength_max=0.99))
    )
    half = make_plan(
        poor, counted(), PlanOptions(crop="off", interval=(0, 0.5), strength_min=0.99, strength_max=0.99)
    )
    run = 1e9 + 240e6
    assert full.stage1 - plan_costs(half).stage1 == pytest.approx(2 * run / 1e12), "one of 3 calls is guided"
    assert plan_costs(half).full == full.full
    assert any("guided from 0% to 50% of its calls" in reason for reason in half.reasons)
    cropped = make_plan(poor, counted(), PlanOptions(crop="auto"))
    assert [crop.size for crop in cropped.crops] == [(64, 64)]
    assert plan_costs(cropped).stage1 < full.stage1
    assert any("a crop of 64 x 64 pixels around the mask" in reason for reason in cropped.reasons)
    moved = with_mask(cropped, hole(0, 0, 0.8))
    assert plan_costs(moved).stage1 > plan_costs(cropped).stage1
    told = cost_reasons(moved)
    assert len(told) == 1
    assert f"stage 1 {plan_costs(moved).stage1:.3g}" in told[0]
    skipped = plan_costs(make_plan(assessment(), counted(), PlanOptions()))
    assert skipped.stage1 == 0
    assert skipped.full == pytest.approx(full.full, rel=0.5)
    assert skipped.total < full.total


def test_crops_follow_the_mask_and_can_be_switched_off():
    poor = assessment(hole(0.3, 0.4, 0.1))
    whole = make_plan(poor, MANIFEST, PlanOptions(crop="off"))
    assert [(crop.box, crop.size) for crop in whole.crops] == [((0, 0, 160, 96), (160, 96))]
    plan = make_plan(poor, MANIFEST, PlanOptions(crop="auto"))
    ((x0, y0, x1, y1),) = (crop.box for crop in plan.crops)
    assert (plan.weight() > 0)[y0:y1, x0:x1].sum() == (plan.weight() > 0).sum(), (
        "the feather fits into the crop"
    )
    elsewhere = with_mask(plan, hole(0.8, 0.9, 0.05))
    assert elsewhere.crops[0].box == (96, 32, 160, 96)
    assert with_mask(elsewhere, np.zeros_like(plan.mask)).crops == ()
    corners = hole(0, 0, 0.1) | hole(0.9, 0.9, 0.1)
    apart = make_plan(assessment(corners), MANIFEST, PlanOptions(crop="auto", grow=0, min_area=0))
    assert len(apart.crops) == 2
    first, second = (apart.inside(crop.regions) for crop in apart.crops)
    np.testing.assert_array_equal(first | second, apart.mask)
    assert not (first & second).any()
    weights = [apart.weight(crop.regions) for crop in apart.crops]
    np.testing.assert_array_equal(np.maximum(*weights), apart.weight())


def test_a_bundle_says_whether_and_how_small_crops_may_be():
    poor = assessment(hole(0.3, 0.4, 0.1))
    for smallest, size in ((0, (160, 96)), (32, (64, 64)), (96, (96, 96))):
        inpaint = dataclasses.replace(MANIFEST.inpaint, smallest=smallest)
        plan = make_plan(poor, dataclasses.replace(MANIFEST, inpaint=inpaint), PlanOptions())
        assert [crop.size for crop in plan.crops] == [size]


def test_a_feather_wider_than_the_context_widens_the_context():
    wide = PlanOptions(crop="auto", context=0.0, feather=2.5, grow=0, min_area=0)
    plan = make_plan(assessment(hole(0.4, 0.4, 0.05)), MANIFEST, wide)
    ((x0, y0, x1, y1),) = (crop.box for crop in plan.crops)
    weight = plan.weight() > 0
    assert weight[y0:y1, x0:x1].sum() == weight.sum()


@given(unit, st.floats(0, 1), st.floats(0, 1))
def test_strength_stays_in_its_range_and_falls_with_quality(quality, one, other):
    low, high = sorted((one, other))
    strength = stage1_strength(quality, "deficit", low, high)
    assert low - 1e-9 <= strength <= high + 1e-9
    assert strength >= stage1_strength(min(quality + 0.1, 1.0), "deficit", low, high) - 1e-12
    assert stage1_strength(quality, "printed", low, high) == pytest.approx(quality)


def test_a_strength_range_upside_down_is_an_error():
    with pytest.raises(OptionError, match="strength_min <= strength_max"):
        make_plan(assessment(), MANIFEST, PlanOptions(strength_min=0.95))


@pytest.mark.parametrize("name", ["stage1_steps", "stage2_steps", "sketch_steps"])
def test_steps_that_a_solver_cannot_make_are_refused_before_anything_is_drawn(name):
    with pytest.raises(OptionError, match=r"1000 steps.*use fewer"):
        make_plan(assessment(), MANIFEST, PlanOptions(drafts=2, **{name: 1000}))
    make_plan(assessment(), MANIFEST, PlanOptions(drafts=2, **{name: 400}))
    unused = {
        "stage1_steps": {"stages": (2,)},
        "stage2_steps": {"stages": (1,)},
        "sketch_steps": {"drafts": 1},
    }
    make_plan(assessment(), MANIFEST, PlanOptions(**{name: 1000}, **unused[name]))


@settings(max_examples=40)
@given(hnp.arrays(np.float32, (12, 17), elements=unit), unit, unit, st.floats(0, 0.3), st.floats(0, 4))
def test_a_lower_threshold_never_gives_a_smaller_mask(defect, one, other, min_area, grow):
    low, high = sorted((one, other))
    wide, narrow = (binary_mask(defect, tau, min_area, grow) for tau in (low, high))
    assert wide.shape == defect.shape
    assert not (narrow & ~wide).any()


@settings(max_examples=25)
@given(
    hnp.arrays(np.bool_, (6, 8)),
    st.integers(20, 90),
    st.integers(20, 90),
    st.sampled_from([0.2, "otsu"]),
    st.floats(0.01, 2),
)
def test_a_plan_agrees_with_itself(cells, height, width, tau, feather):
    poor = cells[np.arange(height)[:, None] * 6 // height, np.arange(width) * 8 // width]
    given_options = PlanOptions(tau=tau, feather=feather)
    plan = make_plan(assessment(poor, shape=(height, width)), MANIFEST, given_options)
    weight = plan.weight()
    assert plan.mask.shape == weight.shape == (height, width)
    assert 0 <= plan.coverage <= 1
    assert plan.regenerate == plan.mask.any() == bool(plan.boxes)
    assert weight.min() >= 0
    np.testing.assert_array_equal(weight == 1, plan.mask)
    boxed = np.zeros_like(plan.mask)
    for x0, y0, x1, y1 in plan.boxes:
        boxed[y0:y1, x0:x1] = True
    assert not (plan.mask & ~boxed).any()


def test_weight_is_zero_beyond_the_feather():
    plan = make_plan(assessment(hole()), MANIFEST, PlanOptions())
    y, x = np.nonzero(plan.mask)
    for row, column in np.argwhere(plan.weight() > 0)[::37]:
        assert np.hypot(y - row, x - column).min() < plan.feather


def test_large_pictures_are_planned_on_a_coarser_grid():
    shape = (PLAN_SIDE + 7, 2 * PLAN_SIDE + 5)
    poor = hole(shape=shape)
    plan = make_plan(assessment(poor, shape=shape), MANIFEST, PlanOptions(grow=0))
    assert plan.mask.shape == shape
    assert (plan.mask ^ poor).mean() < 0.005
    weight = plan.weight()
    assert weight.shape == shape
    assert (weight[plan.mask] == 1).all()
    assert 0 < (weight > 0).mean() < 0.5


def test_a_mask_can_be_drawn_by_hand():
    plan = make_plan(assessment(), MANIFEST, PlanOptions())
    mask = hole(0.5, 0.5, 0.25)
    changed = with_mask(plan, mask)
    assert changed.regenerate
    assert changed.stage1_steps == 4
    assert changed.boxes == ((80, 48, 120, 72),)
    assert changed.coverage == pytest.approx(mask.mean())
    assert not with_mask(changed, np.zeros_like(mask)).regenerate
    assert with_mask(changed, mask.tolist()).boxes == changed.boxes
    for same in (mask.astype(np.uint8) * 255, mask.astype(np.float32), Image.fromarray(mask)):
        assert with_mask(changed, same).boxes == changed.boxes
    for bad in (mask[:-1], mask.astype(complex), [[1]]):
        with pytest.raises(OptionError, match="The mask has"):
            with_mask(plan, bad)


def test_reasons_of_a_mask_by_hand_are_those_of_the_new_plan():
    poor = make_plan(assessment(hole()), MANIFEST, PlanOptions())
    emptied = with_mask(poor, np.zeros_like(poor.mask)).reasons
    assert emptied[:2] == ("The mask was changed by hand: it is empty.", "Stage 1 is skipped.")
    assert not any("redrawn" in reason or "strength 0.9" in reason for reason in emptied)
    good = make_plan(assessment(), MANIFEST, PlanOptions())
    assert "Stage 1 is skipped." in good.reasons
    drawn = with_mask(good, hole(0.5, 0.5, 0.25)).reasons
    assert drawn[0].startswith("The mask was changed by hand: what is redrawn is ")
    assert drawn[1].startswith(f"Stage 1 has strength {good.strength:.2f}.")
    assert "Stage 1 is skipped." not in drawn


@pytest.mark.parametrize(
    "bad",
    [
        {"tau": -0.1},
        {"tau": "triangle"},
        {"strength_min": 1.5},
        {"min_area": float("nan")},
        {"grow": -1},
        {"feather": "wide"},
        {"window": 0},
        {"emphasis": True},
        {"strength_rule": "strong"},
        {"redraw": "all"},
        {"joining": "sum"},
        {"missing_region": "left"},
        {"indicators": ()},
        {"indicators": "perceptual"},
        {"stages": (3,)},
        {"stage1_steps": 0},
        {"stage2_steps": 10.0},
        {"drafts": 0},
        {"drafts": 65},
        {"sketch_steps": -1},
        {"crop": "square"},
        {"context": 1.5},
        {"interval": (0.6, 0.5)},
        {"interval": (0.0, 0.5, 1.0)},
        {"delta": 2},
    ],
)
def test_options_outside_their_range_are_named(bad):
    with pytest.raises(OptionError, match=f"'{next(iter(bad))}'") as error:
        PlanOptions(**bad)
    assert isinstance(error.value, GRefineError)
    assert str(error.value).count("\n") == 0
