import dataclasses
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from grefine_rt import (
    Assessment,
    AssessOptions,
    BundleError,
    Cancelled,
    CancelToken,
    ImageError,
    MemoryLimitError,
    OptionError,
    PromptError,
    RefineOptions,
    Refiner,
    stages,
    with_mask,
)
from grefine_rt import drafts as drafts_of
from grefine_rt import refiner as refiner_module
from grefine_rt.accept import Accepted
from grefine_rt.bundle.manifest import Cost, FileEntry
from grefine_rt.diffusion.regenerate import Redrawing
from grefine_rt.imaging.image import work_size
from grefine_rt.plan import checks
from grefine_rt.plan import options as plan_options
from tests.support import fake_bundle
from tests.support.fake_bundle import BRIGHTER, SIDE, Bundle, scene


def PlanOptions(**options):
    """The paper's own flow: these tests are of what the stages do; `test_accept.py` is of what is kept of it."""
    return plan_options.PlanOptions(**{"accept": "off", **options})


GOOD = [["house", "house", "sea", "sea"]] * 4
POOR = [GOOD[0], ["house", "poor", "sea", "sea"], *GOOD[2:]]
PROMPT = "a house, the sea"
STAGE_1 = RefineOptions(plan=PlanOptions(stages=(1,)))
STAGE_2 = RefineOptions(plan=PlanOptions(stages=(2,)))
PAPERS = RefineOptions(plan=PlanOptions())


@pytest.fixture
def bundle():
    return Bundle()


@pytest.fixture
def refiner(bundle):
    return Refiner(bundle)


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def test_assess_finds_the_poor_patch_and_the_phrases(refiner):
    result = refiner.assess(scene(POOR), PROMPT)
    assert result.perceptual == pytest.approx(0.97 - 0.92 / 16, abs=0.02)
    assert result.perceptual_map.shape == result.alignment_map.shape == (128, 128)
    assert result.perceptual_map[40:56, 40:56].max() < 0.3
    assert result.perceptual_map[:, 80:].min() > 0.9
    assert [phrase.noun for phrase in result.phrases] == ["house", "sea"]
    assert [phrase.defect for phrase in result.phrases] == [None, None]
    assert result.alignment_map.max() == 0
    assert result.alignment > 0.5
    assert set(result.factors) == {"overall", "technical", "rationality", "naturalness"}
    assert result.ip_iqa is None
    assert result.prompt == PROMPT


def test_assess_finds_what_is_missing(refiner):
    result = refiner.assess(scene(GOOD), "a house and a tree")
    tree = next(phrase for phrase in result.phrases if phrase.noun == "tree")
    assert tree.defect == "noun"
    assert tree.noun_score < 0.5
    assert result.alignment_map.max() > 0.9
    assert result.alignment < refiner.assess(scene(GOOD), "a house").alignment


def test_a_shared_encoder_sees_the_picture_once(bundle, refiner):
    refiner.assess(scene(GOOD), PROMPT)
    assert bundle.engines["perceptual"].calls == 1
    assert bundle.engines["alignment_text"].calls == 1

    apart = Bundle(shared=False)
    result = Refiner(apart).assess(scene(GOOD), PROMPT)
    assert apart.engines["perceptual"].calls == apart.engines["alignment_image"].calls == 1
    assert result.alignment == refiner.assess(scene(GOOD), PROMPT).alignment


def test_a_refine_call_reads_its_prompt_once(bundle, refiner):
    options = RefineOptions(plan=PlanOptions(drafts=3))
    # Nothing is remembered from one call to the next: a seed's bits depend on nothing else.
    for calls in (1, 2):
        refiner.refine(scene(POOR), PROMPT, options=options)
        assert bundle.engines["alignment_text"].calls == calls
        assert bundle.engines["perceptual"].calls == calls * (1 + 3 + 1)


def test_published_scoring_is_a_switch(refiner):
    published = refiner.assess(scene(POOR), PROMPT, AssessOptions(scoring="published"))
    assert published.perceptual_map.min() == pytest.approx(0, abs=1e-6)
    assert published.perceptual_map.max() == pytest.approx(1, abs=1e-6)
    assert published.perceptual != refiner.assess(scene(POOR), PROMPT).perceptual
    for bad in ({"scoring": "best"}, {"adjective_rule": "strict"}):
        with pytest.raises(OptionError, match=next(iter(bad))):
            AssessOptions(**bad)


def test_a_good_picture_skips_stage_1(bundle, refiner):
    result = refiner.refine(scene(GOOD), PROMPT, options=STAGE_1)
    assert not result.plan.regenerate
    assert bundle.engines["inpaint_step"].calls == 0
    np.testing.assert_array_equal(pixels(result.image), scene(GOOD))
    assert result.timings["regenerate"] < result.timings["total"]


@pytest.mark.parametrize("size", [(128, 128), (300, 200), (100, 177), (40, 33)])
def test_stage_1_redraws_the_poor_region_and_nothing_beyond_the_feather(refiner, size):
    picture = scene(POOR, *size)
    result = refiner.refine(picture, PROMPT, options=STAGE_1)
    plan, out = result.plan, pixels(result.image)
    assert out.shape == picture.shape
    assert plan.regenerate
    weight = plan.weight()
    np.testing.assert_array_equal(out[weight == 0], picture[weight == 0])
    y, x = np.nonzero(plan.mask)
    beyond = np.argwhere((out != picture).any(axis=2))
    for row, column in beyond[:: max(len(beyond) // 50, 1)]:
        assert np.hypot(y - row, x - column).min() < max(plan.feather, 1)
    # The poor patch is at a quarter to a half of each side.
    inside = out[size[1] * 5 // 16 : size[1] * 7 // 16, size[0] * 5 // 16 : size[0] * 7 // 16]
    assert np.abs(inside - fake_bundle.COLOURS["tree"]).max() <= 4
    assert result.after.perceptual > result.before.perceptual


def test_stage_1_draws_what_is_missing(refiner):
    options = RefineOptions(plan=PlanOptions(stages=(1,), missing_region="free"))
    result = refiner.refine(scene(GOOD), "a house and a tree", options=options)
    assert [phrase.noun for phrase in result.before.phrases if phrase.defect] == ["tree"]
    assert [phrase.noun for phrase in result.after.phrases if phrase.defect] == []
    assert "(a tree:1.1)" in result.plan.prompt
    assert 0.1 < result.plan.coverage < 0.6


def test_the_papers_rule_draws_a_missing_thing_over_its_ancestor(refiner):
    plan = refiner.plan(scene(GOOD), "a house and a tree")
    assert plan.mask[:, :64].all()
    assert not plan.mask[:, 96:].any()


@pytest.mark.parametrize("size", [(128, 128), (300, 200), (100, 177)])
def test_stage_2_changes_the_whole_picture_mildly(refiner, size):
    # Fine detail that does not exist at work size must survive.
    picture = scene(GOOD, *size).astype(int)
    fine = size != (128, 128)
    picture[::2, ::2] += 8 * fine
    picture = picture.astype(np.uint8)
    result = refiner.refine(picture, PROMPT, options=STAGE_2)
    out = pixels(result.image)
    change = out - picture.astype(int)
    assert np.median(change) >= 0
    assert np.abs(change).max() < 255 * BRIGHTER + 40
    np.testing.assert_array_equal(pixels(result.stage1), picture)
    if fine:
        detail = out[2:-2:2, 2:-2:2] - out[3:-1:2, 3:-1:2]
        assert np.median(detail) == pytest.approx(8, abs=2)


def test_both_stages_run_in_order_with_their_options(bundle, refiner):
    options = RefineOptions(plan=PlanOptions(stage1_steps=6, stage2_steps=3, delta=1.0))
    result = refiner.refine(scene(POOR), PROMPT, options=options)
    assert bundle.engines["inpaint_step"].calls == int(6 * result.plan.strength)
    assert bundle.engines["restore_step"].calls == 3
    assert not np.array_equal(pixels(result.image), pixels(result.stage1))


@pytest.mark.parametrize("decoding", ["plain", "difference", "quality"])
def test_every_decoding_can_be_asked_for(refiner, decoding):
    result = refiner.refine(scene(POOR, 200, 120), PROMPT, options=RefineOptions(decoding=decoding))
    assert result.image.size == (200, 120)


def test_a_stage_without_steps_is_not_run(bundle, refiner):
    options = RefineOptions(plan=PlanOptions(strength_min=0.0, strength_max=0.1, delta=0.1))
    result = refiner.refine(scene(POOR), PROMPT, options=options)
    np.testing.assert_array_equal(pixels(result.image), scene(POOR))
    assert bundle.engines["inpaint_encode"].calls == bundle.engines["restore_encode"].calls == 0


def drawing(bundle, *colours):
    """Makes stage 1 draw one colour a draft, and the last one from then on."""
    left = list(colours)
    draw = bundle.engines["inpaint_step"]

    def step(sample, mask, masked_latent, coefficients, **_):
        flat = np.array([*fake_bundle.COLOURS[left[0]], 127.5], np.float32)[None, :, None, None] / 127.5 - 1
        clean = (mask * flat + (1 - mask) * masked_latent).astype(np.float32)
        if coefficients[3] == 0 and len(left) > 1:  # the last step keeps nothing of its sample
            del left[0]
        return fake_bundle.solve(sample, clean, coefficients)

    bundle.engines["inpaint_step"] = fake_bundle.Engine(step, draw.inputs)


def test_the_draft_that_scores_best_is_kept(bundle, refiner):
    drawing(bundle, "poor", "tree", "poor")
    options = RefineOptions(plan=PlanOptions(stages=(1,), drafts=3))
    result = refiner.refine(scene(POOR), PROMPT, options=options)
    assert bundle.engines["inpaint_step"].calls == 3 * int(4 * result.plan.strength)
    assert np.abs(pixels(result.image)[48, 48] - fake_bundle.COLOURS["tree"]).max() <= 4
    assert result.after.perceptual > result.before.perceptual
    assert any("Draft 2 of 3 was chosen" in note for note in result.notes)


def test_a_picture_is_kept_that_no_draft_improves(bundle, refiner):
    drawing(bundle, "poor")
    options = RefineOptions(plan=PlanOptions(stages=(1,), drafts=2))
    result = refiner.refine(scene(POOR), PROMPT, options=options)
    np.testing.assert_array_equal(pixels(result.image), scene(POOR))
    assert any("None of the 2 drafts" in note for note in result.notes)
    once = refiner.refine(scene(POOR), PROMPT, options=STAGE_1)
    assert not np.array_equal(pixels(once.image), scene(POOR))  # one draft is kept as it is
    assert once.notes == ()


def test_no_draft_is_made_after_one_in_which_nothing_is_left_to_redraw(bundle, refiner):
    def made(prompt=PROMPT, **options):
        calls = bundle.engines["inpaint_step"].calls
        plan = PlanOptions(stages=(1,), drafts=5, strength_min=0.5, strength_max=0.5, **options)
        result = refiner.refine(scene(POOR), prompt, options=RefineOptions(plan=plan))
        return (bundle.engines["inpaint_step"].calls - calls) // 2, result.notes

    def bound(p_bound):
        plan = dataclasses.replace(bundle.manifest.plan, p_bound=p_bound)
        bundle.manifest = dataclasses.replace(bundle.manifest, plan=plan)

    drawing(bundle, "poor", "tree")
    bound(0.95)
    drafts, notes = made()
    assert drafts == 2
    assert any("Draft 2 was chosen" in note and "no more than 2 of 5 were made" in note for note in notes)
    drawing(bundle, "poor", "tree")
    assert made(all_drafts=True)[0] == 5
    bound(1.0)
    assert made()[0] == 5, "no p is above 1"
    bound(0.95)
    drawing(bundle, "sea")
    assert made("a house, the sea and a tree", missing_region="free")[0] == 5, "the tree is still missing"


def test_the_best_sketch_alone_is_drawn_with_all_steps(bundle, refiner, monkeypatch):
    draws, draw = [], Redrawing.draw

    def watched(self, **options):
        draws.append((options["draft"], options["steps"], options["solver"]))
        return draw(self, **options)

    monkeypatch.setattr(Redrawing, "draw", watched)
    options = PlanOptions(stages=(1,), drafts=3, sketch_steps=2, strength_min=0.9)

    def refine(*colours, **more):
        draws.clear()
        drawing(bundle, *colours)
        events = []
        plan = refiner.plan(scene(POOR), PROMPT, dataclasses.replace(options, **more))
        result = refiner.refine(
            scene(POOR), PROMPT, plan=plan, on_progress=lambda *event: events.append(event)
        )
        steps = [event[1:] for event in events if event[0] == "regenerate" and event[2] > 1]
        assert steps == [(number, 3 * 1 + 3) for number in range(1, len(steps) + 1)]
        return pixels(result.image)[48, 48], *result.notes

    sketches = [(number, 2, "dpm++2m") for number in range(3)]
    colour, note = refine("poor", "tree", "poor", "poor")
    assert draws == [*sketches, (1, 4, None)]
    assert np.abs(colour - fake_bundle.COLOURS["tree"]).max() <= 4, "the sketch is better than what it became"
    assert "Draft 2 of 3 was chosen" in note
    colour, note = refine("poor", "poor", "poor", "tree")
    assert draws == sketches, "no sketch is above the picture"
    assert "None of the 3 drafts" in note
    monkeypatch.setattr("grefine_rt.drafts._score", scores := ScoresOf([0.1, 0.2, 0.3, 0.0, 0.9]))
    _, note = refine("poor")
    assert draws == [*sketches, (1, 4, None)]
    assert "Draft 2 of 3, drawn again with 4 steps, was chosen: it scores 0.90 of 1 (mean of" in note
    assert not scores.left


class ScoresOf:
    """Scores of the picture itself and of what is drawn, as given."""

    def __init__(self, scores):
        self.left = scores

    def __call__(self, assessment, plan):
        return self.left.pop(0)


def softer(assessment, rationality):
    """An assessment of a draft: better in shape, worse in technique."""
    factors = {**assessment.factors, "rationality": rationality, "technical": 0.6}
    return dataclasses.replace(assessment, perceptual=assessment.perceptual - 0.2, factors=factors)


@pytest.mark.parametrize(
    ("changed", "kept"),
    [({}, True), ({"redraw": "poor"}, False), ({"stages": (1,)}, False)],
    ids=["stage 2 follows", "all that is poor", "without stage 2"],
)
def test_a_soft_draft_is_judged_by_its_shapes_where_stage_2_does_the_rest(refiner, changed, kept):
    before = refiner.assess(scene(POOR), PROMPT)
    worst = {**before.factor_maps, "rationality": before.factor_maps["technical"] / 2}
    before = dataclasses.replace(
        before, factor_maps=worst, factors={**before.factors, "rationality": 0.75}, perceptual=0.75
    )
    options = PlanOptions(**{"redraw": "misshapen", "drafts": 3, "sketch_steps": 0, **changed})
    plan = refiner.plan(before, options=options)
    assert plan.regenerate
    pictures = [np.full((128, 128, 3), value, np.uint8) for value in (1, 2, 3)]
    looks = {1: softer(before, 0.8), 2: softer(before, 0.97), 3: softer(before, 0.9)}

    class Drawer:
        def draw(self, number, sketch):
            return pictures[number]

    choice = drafts_of.best(Drawer(), plan, before, lambda rgb: looks[int(rgb[0, 0, 0])])
    assert choice.picture is (pictures[1] if kept else None)
    assert choice.drawn.drafts == 3


def test_a_draft_that_lowers_no_score_goes_before_a_better_one_that_does(refiner):
    before = refiner.assess(scene(POOR), PROMPT)
    plan = refiner.plan(before, options=PlanOptions(drafts=3, sketch_steps=0))
    rises = [(0.6, -0.01), (0.3, 0.0), (0.2, 0.1)]
    pictures = [np.full((128, 128, 3), value, np.uint8) for value in range(3)]

    class Drawer:
        def draw(self, number, sketch):
            return pictures[number]

    def look(rgb):
        better, matches = rises[int(rgb[0, 0, 0])]
        return dataclasses.replace(
            before, perceptual=before.perceptual + better, alignment=before.alignment + matches
        )

    def keep_all(picture, seen):
        return Accepted(picture, np.ones((64, 64), bool), 1.0, ())

    with_rule = drafts_of.best(Drawer(), plan, before, look, keep_all)
    assert with_rule.picture is pictures[1]
    as_in_the_paper = drafts_of.best(Drawer(), plan, before, look)
    assert as_in_the_paper.picture is pictures[0]


def test_what_is_drawn_for_a_phrase_alone_is_judged_by_all_of_p(refiner):
    plan = refiner.plan(scene(GOOD), "a house and a tree", PlanOptions(redraw="misshapen"))
    assert plan.regenerate
    assert plan.judged == "perceptual"


def test_the_picture_is_encoded_once_for_all_drafts(bundle, refiner):
    drawing(bundle, "poor")
    refiner.refine(scene(POOR), PROMPT, options=RefineOptions(plan=PlanOptions(stages=(1,), drafts=3)))
    assert bundle.engines["inpaint_encode"].calls == 2, "whole, and masked"
    assert bundle.engines["inpaint_text"].calls == 1
    assert bundle.engines["inpaint_decode"].calls == 3


def test_no_map_of_a_draft_is_made_at_the_picture_s_size(refiner, monkeypatch):
    sizes = []
    real = refiner_module.assess_batch  # type: ignore[attr-defined]

    def noting(*arguments):
        sizes.append(arguments[5])
        return real(*arguments)

    monkeypatch.setattr(refiner_module, "assess_batch", noting)
    refiner.refine(scene(POOR), PROMPT, options=RefineOptions(plan=PlanOptions(drafts=3, all_drafts=True)))
    assert sizes == [None, (64, 64), (64, 64), (64, 64), None]


def test_drafts_differ_in_their_noise_and_the_first_is_that_of_a_single_one(bundle, refiner):
    seen = []
    denoised = bundle.engines["inpaint_decode"]
    bundle.engines["inpaint_decode"] = fake_bundle.Engine(
        lambda latent: seen.append(latent.copy()) or denoised.run({"latent": latent}), denoised.inputs
    )
    for drafts in (1, 3):
        refiner.refine(
            scene(POOR),
            PROMPT,
            options=RefineOptions(plan=PlanOptions(stages=(1,), drafts=drafts)),
        )
    alone, first, *others = seen
    np.testing.assert_array_equal(alone, first)
    assert not any(np.array_equal(first, other) for other in others)
    assert not np.array_equal(*others)


CORNERS = [["poor", *["sea"] * 7], *[["sea"] * 8] * 6, [*["sea"] * 7, "poor"]]


@pytest.mark.parametrize("size", [(128, 128), (512, 512), (300, 200), (100, 177), (1000, 160)])
def test_crops_redraw_their_regions_and_nothing_beyond_the_feather(bundle, refiner, size):
    """At the scale of the whole picture, at a finer one, and enlarged."""
    picture = scene(CORNERS, *size)
    seen = []
    encode = bundle.engines["inpaint_encode"]
    bundle.engines["inpaint_encode"] = fake_bundle.Engine(
        lambda image: seen.append(image.shape[:1:-1]) or encode.run({"image": image}), encode.inputs
    )
    plan = refiner.plan(
        picture, "the sea", PlanOptions(stages=(1,), crop="auto", context=0, grow=0.5, min_area=0)
    )
    result = refiner.refine(picture, "the sea", plan=plan)
    assert len(plan.crops) == 2
    assert set(seen) == {crop.size for crop in plan.crops}
    assert sum(np.prod(crop.size) for crop in plan.crops) <= 0.65 * np.prod(work_size(*size, 128, 16))
    out, weight = pixels(result.image), plan.weight()
    np.testing.assert_array_equal(out[weight == 0], picture[weight == 0])
    assert weight.max() == 1
    for crop in plan.crops:
        rows, columns = np.nonzero(plan.inside(crop.regions))
        middle = out[int(rows.mean()), int(columns.mean())]
        assert np.abs(middle - fake_bundle.COLOURS["tree"]).max() <= 4
    # Cells of the crops are no larger than those that grow and feather were counted in.
    for crop in plan.crops:
        assert (crop.box[2] - crop.box[0]) / crop.size[0] <= size[0] / work_size(*size, 128, 16)[0] * 1.02


def test_crops_of_a_draft_have_noise_of_their_own_and_report_their_steps(bundle, refiner):
    noises, events = [], []
    step = bundle.engines["inpaint_step"]
    bundle.engines["inpaint_step"] = fake_bundle.Engine(
        lambda sample, **more: (
            noises.append(sample[..., :4, :4].copy()) or step.run({"sample": sample, **more})
        ),
        step.inputs,
    )
    picture = scene(CORNERS, 128, 128)
    options = PlanOptions(
        stages=(1,), crop="auto", context=0, grow=0.5, min_area=0, drafts=2, strength_min=0.9
    )
    plan = refiner.plan(picture, "the sea", options)
    refiner.refine(picture, "the sea", plan=plan, on_progress=lambda *event: events.append(event))
    starts = noises[:: int(4 * plan.strength)]
    assert len(starts) == 4
    assert all(not np.array_equal(*pair) for pair in itertools.combinations(starts, 2))
    steps = [step for part, step, steps in events if part == "regenerate" and steps > 1]
    assert steps == [*range(1, len(steps) + 1)]


def test_crops_that_leave_masked_pixels_out_are_refused(refiner):
    picture = scene(CORNERS, 128, 128)
    plan = refiner.plan(picture, "the sea", PlanOptions(crop="auto", context=0, grow=0.5, min_area=0))
    with pytest.raises(OptionError, match="leave a part of its mask out"):
        refiner.refine(picture, "the sea", plan=dataclasses.replace(plan, crops=plan.crops[:1]))


def test_matching_of_the_rim_can_be_switched_off(bundle, refiner):
    tint = bundle.engines["inpaint_decode"]
    bundle.engines["inpaint_decode"] = fake_bundle.Engine(
        lambda latent: {"image": tint.run({"latent": latent})["image"] + np.float32(0.1)}, tint.inputs
    )
    plan = refiner.plan(scene(POOR), PROMPT, PlanOptions(stages=(1,)))
    inside = {}
    for matched in (True, False):
        result = refiner.refine(scene(POOR), PROMPT, options=RefineOptions(match_rim=matched), plan=plan)
        inside[matched] = pixels(result.image)[plan.mask]
    green = np.array(fake_bundle.COLOURS["tree"])
    assert np.abs(np.median(inside[True], axis=0) - green).max() <= 3
    assert np.abs(np.median(inside[False], axis=0) - green - 0.1 * 127.5).max() <= 3


def test_guidance_applies_within_the_interval_of_the_plan(bundle, refiner):
    passes = []
    step = bundle.engines["inpaint_step"]
    bundle.engines["inpaint_step"] = fake_bundle.Engine(
        lambda context, **more: passes.append(len(context)) or step.run({"context": context, **more}),
        step.inputs,
    )
    options = PlanOptions(stages=(1,), strength_min=0.9, strength_max=0.9, interval=(0, 0.4))
    refiner.refine(scene(POOR), PROMPT, options=RefineOptions(plan=options))
    assert passes == [2, 1, 1]


def test_full_image_and_single_indicators(refiner):
    full = refiner.refine(scene(GOOD), PROMPT, options=RefineOptions(plan=PlanOptions(full_image=True)))
    assert full.plan.coverage == 1
    assert np.abs(pixels(full.stage1) - fake_bundle.COLOURS["tree"]).max() <= 4
    alone = RefineOptions(plan=PlanOptions(indicators=("alignment",)))
    assert not refiner.refine(scene(POOR), PROMPT, options=alone).plan.regenerate


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(refiner):
    first, again, other = (pixels(refiner.refine(scene(POOR), PROMPT, seed=seed).image) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_many_threads_share_one_refiner(refiner):
    expected = [pixels(refiner.refine(scene(POOR), PROMPT, seed=seed).image) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda seed: refiner.refine(scene(POOR), PROMPT, seed=seed), range(4))
        for want, result in zip(expected, results, strict=True):
            np.testing.assert_array_equal(pixels(result.image), want)


def test_alpha_and_size_are_given_back(refiner):
    rgba = np.dstack([scene(POOR, 90, 60), np.full((60, 90), 200, np.uint8)])
    result = refiner.refine(Image.fromarray(rgba), PROMPT)
    assert result.image.mode == "RGBA"
    assert result.image.size == (90, 60)
    assert np.asarray(result.image)[..., 3].min() == 200


def test_a_plan_can_be_made_edited_and_run(refiner):
    picture = scene(GOOD)
    assessment = refiner.assess(picture, PROMPT)
    assert isinstance(assessment, Assessment)
    plan = refiner.plan(assessment)
    assert plan.reasons == refiner.plan(picture, PROMPT).reasons
    mask = np.zeros((128, 128), bool)
    mask[64:96, 64:96] = True
    edited = dataclasses.replace(with_mask(plan, mask), feather=0.0, restore=False)
    result = refiner.refine(picture, PROMPT, plan=edited)
    assert result.plan is edited
    changed = (pixels(result.image) != picture).any(axis=2)
    np.testing.assert_array_equal(changed, mask)


def test_a_plan_needs_a_prompt_and_its_own_picture(refiner):
    with pytest.raises(OptionError, match="needs its prompt"):
        refiner.plan(scene(GOOD))
    plan = refiner.plan(scene(GOOD), PROMPT)
    with pytest.raises(OptionError, match="128 x 128 pixels, but this one has 64 x 96"):
        refiner.refine(scene(GOOD, 64, 96), PROMPT, plan=plan)


def test_progress_names_every_part_and_counts_steps(refiner):
    seen = []
    result = refiner.refine(scene(POOR), PROMPT, on_progress=lambda *event: seen.append(event))
    assert list(dict.fromkeys(part for part, _, _ in seen)) == [
        "load",
        "assess_before",
        "plan",
        "regenerate",
        "restore",
        "assess_after",
    ]
    assert set(result.timings) == {part for part, _, _ in seen} | {"total"}
    assert all(0 <= step <= steps for _, step, steps in seen)
    assert ("restore", 2, 2) in seen
    assert sum(result.timings.values()) - result.timings["total"] <= result.timings["total"] + 1


@pytest.mark.parametrize("part", ["assess_before", "regenerate", "restore"])
def test_cancelling_stops_between_steps(bundle, refiner, part):
    token = CancelToken()

    def on_progress(name, step, steps):
        if name == part and step == 1:
            token.cancel()

    with pytest.raises(Cancelled):
        refiner.refine(scene(POOR), PROMPT, on_progress=on_progress, cancel=token)
    assert bundle.engines["inpaint_step"].calls <= (1 if part == "regenerate" else 4)
    assert bundle.engines["restore_step"].calls <= 1


def test_cancelling_from_another_thread_before_the_start(refiner):
    token = CancelToken()
    thread = threading.Thread(target=token.cancel)
    thread.start()
    thread.join()
    with pytest.raises(Cancelled):
        refiner.refine(scene(POOR), PROMPT, cancel=token)


@pytest.mark.parametrize("prompt", ["", "  \n", "<lora:style:1>", None])
def test_an_empty_prompt_is_one_sentence(refiner, prompt):
    for call in (refiner.assess, refiner.refine):
        with pytest.raises(PromptError, match="The prompt is empty") as error:
            call(scene(GOOD), prompt)
        assert str(error.value).count(".") == 1


@pytest.mark.parametrize(
    "prompt",
    ["🏠", "!?", "((a house", "дом у моря", "(a house:1.3), [sea]", r"a house\(red\) on the sea\(side\)"],
)
def test_unusual_prompts_work(refiner, prompt):
    result = refiner.refine(scene(GOOD, 64, 64), prompt)
    assert result.image.size == (64, 64)
    assert 0 <= result.before.alignment <= 1


def test_a_very_long_prompt_works_and_says_what_was_left_out(refiner):
    prompt = ("a house, the sea, a tall tree, " * 400)[:10_000]
    result = refiner.refine(scene(GOOD, 64, 64), prompt)
    assert len(result.before.phrases) <= 64
    assert any("prompt" in note for note in result.notes)
    assert refiner.refine(scene(GOOD, 64, 64), PROMPT, options=PAPERS).notes == ()


def test_bad_pictures_and_closed_refiners(refiner):
    with pytest.raises(ImageError):
        refiner.assess("no-such-file.png", PROMPT)
    with refiner as same:
        assert same is refiner
    with pytest.raises(BundleError, match="closed"):
        refiner.assess(scene(GOOD), PROMPT)
    refiner.close()


def test_load_names_an_unknown_bundle():
    with pytest.raises(BundleError, match="no-such-bundle"):
        Refiner.load("no-such-bundle")


def test_a_unet_with_size_ids_is_told_where_its_crop_lies(bundle, refiner):
    told = []
    step = bundle.engines["inpaint_step"]
    bundle.engines["inpaint_step"] = fake_bundle.Engine(
        lambda time_ids, **more: told.append(time_ids[-1].tolist()) or step.run(more),
        [*step.inputs, "time_ids"],
    )
    picture = scene(CORNERS, 256, 256)
    options = PlanOptions(stages=(1,), crop="auto", context=0, grow=0.5, min_area=0)
    plan = refiner.plan(picture, "the sea", options)
    refiner.refine(picture, "the sea", plan=plan)
    first, second = plan.crops
    assert first.box[:2] == (0, 0)
    whole = 256 * first.size[0] / (first.box[2] - first.box[0])
    assert whole > 128, "crops as small as these are drawn finer"
    assert told[0] == pytest.approx([whole, whole, 0, 0, 64, 64], abs=1)
    top, left = (side * whole / 256 for side in (second.box[1], second.box[0]))
    assert told[-1] == pytest.approx([whole, whole, top, left, 64, 64], abs=1)
    plan = refiner.plan(picture, "the sea", dataclasses.replace(options, crop="off"))
    refiner.refine(picture, "the sea", plan=plan)
    assert told[-1] == [128, 128, 0, 0, 128, 128]


def test_native_work_keeps_the_pictures_own_size_in_stage_2(bundle, refiner):
    seen = []
    real = stages.restore  # type: ignore[attr-defined]

    def noting(bundle, picture, *rest, **named):
        seen.append((picture.shape[:2], named["tile"]))
        return real(bundle, picture, *rest, **named)

    large = np.asarray(Image.fromarray(scene(GOOD)).resize((4 * SIDE, 4 * SIDE)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "restore", noting)
        for work in ("trained", "native"):
            refiner.refine(large, PROMPT, options=RefineOptions(plan=PlanOptions(work=work)))
    resolution = bundle.manifest.restore.resolution
    assert seen[0] == ((resolution, resolution), 0)
    assert seen[1] == ((4 * SIDE, 4 * SIDE), resolution)
    with pytest.raises(OptionError, match="'work' must be 'trained' or 'native', not 'huge'"):
        PlanOptions(work="huge")


@pytest.fixture
def costly(bundle):
    """The bundle with a graph for each component that takes 1.4 GB and two bytes on a CPU."""
    cost = Cost((1e9, 0.0, 0.0), (1e9, 0.0, 0.0))
    components = {name: f"{name}.onnx" for name in bundle.engines}
    files = {file: FileEntry(1, "0" * 64) for file in components.values()}
    bundle.manifest = dataclasses.replace(
        bundle.manifest, components=components, files=files, costs=dict.fromkeys(files, cost)
    )
    return bundle


def test_what_cannot_fit_is_refused_before_anything_is_drawn(costly, refiner, monkeypatch):
    monkeypatch.setattr(checks, "usable_memory", lambda: 10**8)
    with pytest.raises(MemoryLimitError, match=r"GB of memory, but 0\.10 GB are free"):
        refiner.refine(scene(POOR), PROMPT)
    monkeypatch.setattr(checks, "usable_memory", lambda: 10**12)
    refiner.refine(scene(POOR), PROMPT)


def test_memory_is_counted_for_what_runs_on_the_cpu(costly, refiner, monkeypatch):
    components = costly.manifest.components
    steps, here = [name for name in components if name.startswith(("inpaint", "restore"))], costly.foresee
    each = 1.4e9 + 2
    monkeypatch.setattr(checks, "usable_memory", lambda: round(each * (len(components) - 3.5)))
    poor = scene(POOR)
    with pytest.raises(MemoryLimitError):
        refiner.refine(poor, PROMPT)
    asked = []
    monkeypatch.setattr(costly, "foresee", lambda names: asked.append({*names}) or here(names))
    stage2 = RefineOptions(plan=PlanOptions(stages=(2,)))
    refiner.refine(poor, PROMPT, options=stage2)  # stage 1 is never loaded, so nothing has to run it
    assert asked == [{name for name in components if not name.startswith("inpaint")}]

    def on_gpu(names):
        return [dataclasses.replace(c, device="cuda:0") if c.component in steps else c for c in here(names)]

    monkeypatch.setattr(costly, "foresee", on_gpu)
    refiner.refine(poor, PROMPT)


def test_a_plan_that_redraws_nothing_is_refused(refiner):
    picture = scene(GOOD)
    plan = dataclasses.replace(refiner.plan(picture, PROMPT), regenerate=True)
    with pytest.raises(
        OptionError, match="mask is empty, but 'regenerate' is on: change the mask with 'with_mask'"
    ):
        refiner.refine(picture, PROMPT, plan=plan)
