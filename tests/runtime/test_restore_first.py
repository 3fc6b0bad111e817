"""Where damage may be why a phrase was not found, stage 2 runs first, and the plan is made again."""

import dataclasses

import numpy as np
import pytest

from grefine_rt import RefineOptions, Refiner
from grefine_rt.bundle.manifest import Cost
from grefine_rt.plan import options as plan_options
from grefine_rt.plan.change import with_mask
from grefine_rt.plan.costs import plan_costs
from grefine_rt.plan.plan import Drawn
from grefine_rt.plan.reasons import RESTORE_FIRST, RESTORED_FIRST
from tests.support.fake_bundle import COLOURS, Bundle, Engine, pool, scene, solve


def PlanOptions(**options):
    """The paper's own flow: these tests are of what the stages do; `test_accept.py` is of what is kept of it."""
    return plan_options.PlanOptions(**{"accept": "off", **options})


PROMPT = "a house, the sea"
DAMAGED = [["sea"] * 4, ["sea", "poor", "poor", "sea"], ["sea", "poor", "poor", "sea"], ["sea"] * 4]
GOOD = [["house", "house", "sea", "sea"]] * 4
GONE = [["sea"] * 4] * 4
FREE = {"redraw": "misshapen", "missing_region": "free", "window": 0.2, "drafts": 1}
OPTIONS = RefineOptions(plan=PlanOptions(**FREE))
STRAIGHT = RefineOptions(plan=PlanOptions(**FREE, restore_first=False))


def mending_step(thing):
    """A stage 2 that knows what the damaged place was."""

    def step(sample, control, coefficients, **_):
        poor, thing_there = (
            np.array(COLOURS[name], np.float32)[None, :, None, None] / 255 for name in ("poor", thing)
        )
        seen = pool(control)
        clean = 2 * np.where(np.abs(seen - poor).sum(1, keepdims=True) < 0.2, thing_there, seen) - 1
        clean = np.concatenate([clean, np.zeros_like(clean[:, :1])], axis=1).astype(np.float32)
        return solve(sample, clean, coefficients)

    return Engine(step, ["sample", "noise", "control", "context", "timestep", "coefficients"])


def refiner_whose_stage_2_finds(thing):
    bundle = Bundle()
    bundle.engines["restore_step"] = mending_step(thing)
    return Refiner(bundle), bundle.engines


def pixels(image):
    return np.asarray(image.convert("RGB")).astype(int)


def test_what_stage_2_mends_is_not_drawn_anew():
    refiner, engines = refiner_whose_stage_2_finds("house")
    picture = scene(DAMAGED)
    first = refiner.plan(picture, PROMPT, OPTIONS.plan)
    assert first.regenerate
    assert first.restore_first
    assert RESTORE_FIRST in first.reasons
    result = refiner.refine(picture, PROMPT, options=OPTIONS)
    assert engines["inpaint_step"].calls == 0
    assert engines["restore_step"].calls == 2  # once, in two steps
    assert engines["perceptual"].calls == 1 + 2
    assert not result.plan.regenerate
    assert not result.plan.restore
    assert result.plan.restored
    assert RESTORED_FIRST in result.plan.reasons
    assert not any("Stage 2" in reason or reason == RESTORE_FIRST for reason in result.plan.reasons)
    assert [phrase.defect for phrase in result.before.phrases] == ["noun", None]
    assert [phrase.defect for phrase in result.after.phrases] == [None, None]
    middle = pixels(result.image)[48:80, 48:80].mean((0, 1))
    np.testing.assert_allclose(middle, COLOURS["house"], atol=8)
    np.testing.assert_array_equal(pixels(result.found), pixels(result.image))
    assert result.timings["restore_first"] > 0


def test_what_it_does_not_mend_is_drawn_into_the_restored_picture():
    refiner, engines = refiner_whose_stage_2_finds("sea")
    picture = scene(DAMAGED)
    events = []
    result = refiner.refine(
        picture, "a tree, the sea", options=OPTIONS, on_progress=lambda *event: events.append(event)
    )
    assert engines["inpaint_step"].calls > 0
    assert engines["restore_step"].calls == 4
    assert result.plan.regenerate
    assert result.plan.restore
    assert result.plan.restored
    assert RESTORED_FIRST in result.plan.reasons
    found, stage1 = pixels(result.found), pixels(result.stage1)
    np.testing.assert_allclose(found[48:80, 48:80].mean((0, 1)), COLOURS["sea"], atol=8)
    outside = result.plan.weight() == 0
    np.testing.assert_array_equal(stage1[outside], found[outside])
    assert (stage1 != found).any()
    assert result.after.phrases[0].defect is None
    parts = list(dict.fromkeys(part for part, _, _ in events))
    assert parts[2:6] == ["plan", "restore_first", "regenerate", "restore"]
    assert set(result.timings) == {*parts, "total"}
    again = refiner.refine(picture, "a tree, the sea", options=OPTIONS)
    np.testing.assert_array_equal(pixels(again.image), pixels(result.image))


def test_it_is_a_switch():
    refiner, engines = refiner_whose_stage_2_finds("house")
    result = refiner.refine(scene(DAMAGED), PROMPT, options=STRAIGHT)
    assert engines["inpaint_step"].calls > 0
    assert engines["restore_step"].calls == 2
    assert not result.plan.restored
    assert "restore_first" not in result.timings
    np.testing.assert_array_equal(pixels(result.found), scene(DAMAGED))


@pytest.mark.parametrize(
    ("rows", "changed"),
    [
        (GONE, {}),  # nothing is damaged
        (DAMAGED, {"redraw": "poor"}),  # all that is poor is stage 1's
        (DAMAGED, {"stages": (1,)}),
        (DAMAGED, {"stages": (2,)}),
        (DAMAGED, {"full_image": True}),
        (DAMAGED, {"indicators": ("perceptual",)}),  # no phrase calls for stage 1
        (DAMAGED, {"p_bound": 0.3}),  # the picture counts as good
    ],
)
def test_otherwise_the_stages_keep_their_order(rows, changed):
    plan = Refiner(Bundle()).plan(scene(rows), PROMPT, PlanOptions(**{**FREE, **changed}))
    assert not plan.restore_first
    assert RESTORED_FIRST not in plan.reasons


@pytest.mark.parametrize(("grow", "first"), [(0, True), (1, False)])
def test_damage_that_covers_a_sixth_of_the_mask_explains_nothing_and_a_quarter_may(grow, first):
    little = [["sea", "sea", "sea", "sea"], ["sea", "poor", "sea", "sea"], *2 * [["sea"] * 4]]
    plan = Refiner(Bundle()).plan(scene(little), PROMPT, PlanOptions(**{**FREE, "grow": grow}))
    assert 1 / 16 / plan.coverage == pytest.approx(1 / 4 if first else 1 / 6, rel=0.05)
    assert plan.restore_first is first


def test_a_misshapen_place_is_redrawn_at_once():
    refiner = Refiner(Bundle())
    seen = refiner.assess(scene(DAMAGED), PROMPT)
    worst = {**seen.factor_maps, "rationality": seen.factor_maps["technical"] / 2}
    plan = refiner.plan(dataclasses.replace(seen, factor_maps=worst), options=PlanOptions(**FREE))
    assert plan.regenerate
    assert not plan.restore_first


def test_a_mask_by_hand_is_redrawn_at_once():
    refiner = Refiner(Bundle())
    plan = refiner.plan(scene(DAMAGED), PROMPT, PlanOptions(**FREE))
    mask = np.zeros((128, 128), bool)
    mask[:32, :32] = True
    assert not with_mask(plan, mask).restore_first
    assert RESTORE_FIRST not in with_mask(plan, mask).reasons


def test_costs_count_both_restorations_and_the_look_between():
    bundle = Bundle()
    names = set(bundle.engines) - {"alignment_image"}
    bundle.manifest = dataclasses.replace(
        bundle.manifest,
        components={name: name for name in names} | {"alignment_image": "perceptual"},
        costs={name: Cost((1e9, 1e6, 0.0), (0.0, 0.0, 0.0)) for name in names},
    )
    refiner, picture = Refiner(bundle), scene(DAMAGED)
    plan = refiner.plan(picture, PROMPT, PlanOptions(**FREE))
    straight = refiner.plan(picture, PROMPT, PlanOptions(**FREE, restore_first=False))
    assert plan_costs(plan).stage2 == pytest.approx(2 * plan_costs(straight).stage2)
    look = 1e9 / 1e12  # texts are read once
    assert plan_costs(plan).assess == pytest.approx(plan_costs(straight).assess + look)
    assert plan_costs(plan).stage1 == plan_costs(straight).stage1
    assert plan_costs(plan).full == plan_costs(straight).full
    mended = dataclasses.replace(plan, regenerate=False, restore=False)
    costs = plan_costs(mended, Drawn(0, 0))
    assert (costs.stage1, costs.stage2) == (0, plan_costs(straight).stage2)
    assert costs.assess == plan_costs(straight).assess


def refiner_whose_stage_2_spoils():
    """Stage 2 makes every picture poor."""
    bundle = Bundle()

    def step(sample, control, coefficients, **_):
        poor = 2 * np.array(COLOURS["poor"], np.float32)[None, :, None, None] / 255 - 1
        clean = np.concatenate([poor, poor[:, :1]], axis=1) + np.zeros_like(sample)
        return solve(sample, clean.astype(np.float32), coefficients)

    bundle.engines["restore_step"] = Engine(
        step, ["sample", "noise", "control", "context", "timestep", "coefficients"]
    )
    return Refiner(bundle)


def test_a_good_picture_that_stage_2_spoils_is_given_back():
    refiner, picture = refiner_whose_stage_2_spoils(), scene(GOOD)
    options = RefineOptions(plan=PlanOptions(p_bound=0.9), color_fix="off")
    plan = refiner.plan(picture, PROMPT, options.plan)
    assert plan.keep_good
    assert any("stays as it is" in reason for reason in plan.reasons)
    result = refiner.refine(picture, PROMPT, options=options)
    assert (pixels(result.image) == pixels(result.found)).all()
    assert result.after is result.before
    assert any(note.startswith("Stage 2 would have made the picture look worse") for note in result.notes)


@pytest.mark.parametrize(
    "changed", [{"keep_good": False}, {"stages": (2,)}, {"indicators": ("perceptual",)}, {"p_bound": 1.0}]
)
def test_elsewhere_stage_2_has_the_last_word(changed):
    refiner, picture = refiner_whose_stage_2_spoils(), scene(GOOD)
    options = RefineOptions(plan=PlanOptions(**{"p_bound": 0.9, **changed}), color_fix="off")
    assert not refiner.plan(picture, PROMPT, options.plan).keep_good
    result = refiner.refine(picture, PROMPT, options=options)
    assert (pixels(result.image) != pixels(result.found)).any()
    assert result.after.perceptual < result.before.perceptual
