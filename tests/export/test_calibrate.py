from types import SimpleNamespace

import numpy as np
import pytest

from grefine_export.mini import calibrate
from grefine_export.mini.calibrate import (
    FALSE_ALARMS,
    TOLERANCES,
    first_defects,
    fit_bounds,
    fit_tau,
    fit_tolerance,
)
from grefine_rt import Assessment

MASK = np.zeros((32, 32), bool)
MASK[8:20, 8:20] = True


def picture(nouns, wholes, wanted=None):
    """A pair of sample and assessment with one phrase a score; `wanted` is the index of the wrong phrase."""
    phrases = [
        SimpleNamespace(noun_score=noun, phrase_score=whole, text=f"a red thing{i}")
        for i, (noun, whole) in enumerate(zip(nouns, wholes, strict=True))
    ]
    nouns = tuple(f"thing{i}" for i in range(len(nouns)))
    return SimpleNamespace(thing=wanted, nouns=nouns), SimpleNamespace(phrases=phrases)


def mapped(p, poor, mask=MASK):
    """A pair whose map is `poor` bad inside MASK and good elsewhere."""
    quality = np.where(MASK, 1 - poor, 1.0).astype(np.float32)
    return SimpleNamespace(mask=mask), SimpleNamespace(perceptual=p, perceptual_map=quality)


def assessed(quality, factor_maps):
    return Assessment(
        perceptual=0.5,
        alignment=1.0,
        perceptual_map=quality,
        alignment_map=np.zeros_like(quality),
        factors=dict.fromkeys(factor_maps, 0.5),
        factor_maps=factor_maps,
        phrases=(),
        prompt="a house",
    )


def test_the_first_defect_is_the_first_phrase_below_a_bound():
    pairs = [picture([0.9, 0.2], [0.9, 0.1]), picture([0.9, 0.9], [0.3, 0.9]), picture([0.9], [0.9])]
    assert first_defects(pairs, a_bound=0.5, beta=0.4) == [1, 0, None]
    # A phrase that is no worse than its noun has no wrong adjective.
    assert first_defects([picture([0.3], [0.35])], a_bound=0.1, beta=0.5) == [None]


def test_bounds_find_the_wrong_phrases_and_spare_the_right_ones():
    rng = np.random.default_rng(0)
    sound = [picture(rng.uniform(0.6, 1, 3), rng.uniform(0.55, 1, 3)) for _ in range(60)]
    wrong = [picture([0.9, 0.1, 0.9], [0.9, 0.05, 0.9], wanted=1) for _ in range(10)]
    wrong += [picture([0.9, 0.8, 0.9], [0.9, 0.9, 0.2], wanted=2) for _ in range(10)]
    a_bound, beta, named, alarms = fit_bounds(sound, wrong)
    assert named == 1
    assert alarms <= FALSE_ALARMS
    assert 0.1 < a_bound < 0.7
    assert 0.2 < beta < 0.7


def test_bounds_never_alarm_more_than_allowed():
    rng = np.random.default_rng(1)
    sound = [picture(rng.uniform(0, 1, 3), rng.uniform(0, 1, 3)) for _ in range(80)]
    wrong = [picture(rng.uniform(0, 1, 3), rng.uniform(0, 1, 3), wanted=0) for _ in range(30)]
    a_bound, beta, _, alarms = fit_bounds(sound, wrong)
    assert alarms <= FALSE_ALARMS
    assert alarms == np.mean([found is not None for found in first_defects(sound, a_bound, beta)])


def test_tau_and_p_bound_keep_good_pictures_with_false_places_out():
    sound = [mapped(0.9, 0.95) for _ in range(10)] + [mapped(0.95, 0.0) for _ in range(10)]
    local = [mapped(0.5, 0.8) for _ in range(10)]
    tau, bound, overlap, alarms = fit_tau(sound, local, min_area=0.01)
    assert alarms == 0
    assert overlap == pytest.approx(1)
    assert tau < 0.8
    assert 0.5 <= bound < 0.9


def test_constants_are_fitted_on_what_stage_1_redraws():
    """Of a noisy and a misshapen picture only the latter is stage 1's, unless all that is poor is."""
    quality = np.where(MASK, 0.2, 1.0).astype(np.float32)
    fine = np.ones_like(quality)
    seen = {}
    for weakest in ("technical", "rationality"):
        maps = dict.fromkeys(("overall", "technical", "rationality", "naturalness"), fine)
        damage = SimpleNamespace(factor=weakest)
        sample = SimpleNamespace(mask=MASK, defects=(damage,))
        seen[weakest] = sample, assessed(quality, maps | {weakest: quality})
    sound = SimpleNamespace(mask=~MASK & MASK, defects=()), seen["technical"][1]
    pairs = [*seen.values(), sound]
    alpha = (0.9, 0.9, 0.9)
    everything = calibrate._marked(pairs, alpha, "poor")
    assert len(everything) == 3
    for _, marked in everything:
        np.testing.assert_allclose(marked.perceptual_map, quality, atol=1e-6)
    (shape, marked), (none, unmarked) = calibrate._marked(pairs, alpha, "misshapen")
    assert shape.defects[0].factor == "rationality"
    assert none.defects == ()
    np.testing.assert_allclose(marked.perceptual_map, quality, atol=1e-6)
    np.testing.assert_allclose(unmarked.perceptual_map, fine)


def test_the_tolerance_is_what_perfect_repairs_cost_their_surroundings():
    near = np.zeros_like(MASK)
    near[np.nonzero(MASK)[0].min() - 1, np.nonzero(MASK)[1].min()] = True

    def repair(fall):
        seen = np.where(MASK, 0.1, 0.95).astype(np.float32)
        repaired = np.where(MASK, 0.95, 0.95 - fall).astype(np.float32)
        repaired[near] = 0.0  # a cell beside the defect tells of the defect
        maps = (SimpleNamespace(perceptual_map=values) for values in (seen, repaired))
        return SimpleNamespace(mask=MASK), *maps

    repairs = [repair(0.002)] * 10 + [repair(fall) for fall in np.linspace(0, 0.04, 41)]
    assert fit_tolerance(repairs, 0.9, 2) == pytest.approx(0.0375, abs=0.002)
    assert fit_tolerance([repair(0.5)], 0.9, 2) == TOLERANCES[1]
    assert fit_tolerance([repair(0.0)], 0.9, 2) == TOLERANCES[0]
    assert fit_tolerance([], 0.9, 2) == TOLERANCES[1]
    nowhere_sound = [repair(0.03)]
    assert fit_tolerance(nowhere_sound, 0.99, 2) == TOLERANCES[1]
