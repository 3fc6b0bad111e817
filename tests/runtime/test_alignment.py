import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from grefine_rt.assess.alignment import (
    PhraseScore,
    Region,
    best_window,
    free_region,
    join,
    match,
    overall,
    regions,
    score_phrases,
)
from grefine_rt.assess.prompt import Phrase

SIDE = 8
unit = st.floats(0, 1, width=32)
grids = hnp.arrays(np.float32, (SIDE, SIDE), elements=unit)


def spot(top, left, size=3, inside=0.9, outside=0.05):
    out = np.full((SIDE, SIDE), outside, np.float32)
    out[top : top + size, left : left + size] = inside
    return out


def phrase_score(noun, noun_map, defect=None, ancestor_index=0, text=None, phrase_score=0.9):
    return PhraseScore(
        text=text or f"a {noun}",
        noun=noun,
        ancestor="",
        noun_score=0.1 if defect == "noun" else 0.9,
        phrase_score=phrase_score,
        defect=defect,
        map=noun_map,
        noun_map=noun_map,
        ancestor_index=ancestor_index,
    )


def phrases(*ancestors):
    return [
        Phrase(f"a red thing{i}", f"thing{i}", (3 * i, 3 * i + 1, 3 * i + 2), 3 * i + 2, ancestor)
        for i, ancestor in enumerate(ancestors)
    ]


def rows(*scores):
    out = np.full((len(scores), 1 + SIDE * SIDE), 0.5, np.float32)
    out[:, 0] = scores
    return out


def test_match_is_the_softmax_over_text_and_empty():
    rng = np.random.default_rng(1)
    tokens, texts, empty = rng.normal(size=(5, 6)), rng.normal(size=(3, 6)), rng.normal(size=6)
    result = match(*(a.astype(np.float32) for a in (tokens, texts, empty)), temperature=4.0)
    for i in range(3):
        for j in range(5):
            own, redundant = (math.exp(4.0 * float(tokens[j] @ text)) for text in (texts[i], empty))
            assert result[i, j] == pytest.approx(own / (own + redundant), abs=1e-5)


def test_match_does_not_overflow_and_the_empty_text_is_a_half():
    tokens = np.eye(3, dtype=np.float32)
    texts = np.stack([tokens[0], tokens[1]])
    with np.errstate(all="raise"):
        result = match(tokens, texts, tokens[0], temperature=1e5)
    np.testing.assert_array_equal(result[0], 0.5)
    assert result[1, 1] == 1.0
    assert result[1, 0] == 0.0


@pytest.mark.parametrize(
    ("noun", "whole", "rule", "defect"),
    [
        (0.3, 0.9, "penalised", "noun"),
        (0.3, 0.1, "printed", "noun"),
        (0.5, 0.5, "penalised", None),  # a_bound itself is matched
        (0.9, 0.4, "penalised", "adjective"),
        (0.9, 0.85, "penalised", None),  # above beta: it costs nothing in Eq. 8
        (0.9, 0.85, "printed", "adjective"),
        (0.9, 0.9, "printed", None),
        (0.55, 0.65, "penalised", None),
    ],
)
def test_defects(noun, whole, rule, defect):
    (scored,) = score_phrases(phrases(0), rows(noun), rows(whole), a_bound=0.5, beta=0.7, adjective_rule=rule)
    assert scored.defect == defect
    assert (scored.noun_score, scored.phrase_score) == (pytest.approx(noun), pytest.approx(whole))
    assert scored.map.shape == (SIDE, SIDE)


def test_ancestors_are_named_and_cut_off_ones_become_roots():
    scored = score_phrases(phrases(1, 1, 7), rows(0.9, 0.9, 0.9), rows(0.9, 0.9, 0.9), a_bound=0.5, beta=0.5)
    assert [(p.ancestor, p.ancestor_index) for p in scored] == [("thing1", 1), ("thing1", 1), ("thing2", 2)]


@given(unit, st.lists(unit, max_size=4), st.floats(0.05, 1))
def test_overall_score_is_equation_8(prompt_score, scores, beta):
    scored = [phrase_score("x", spot(0, 0), phrase_score=score) for score in scores]
    expected = float(prompt_score)
    for score in scores:
        expected *= min(float(score) / beta, 1)
    result = overall(prompt_score, scored, beta)
    assert result == pytest.approx(expected, abs=1e-9)
    assert 0 <= result <= 1


def test_a_missing_noun_goes_to_its_ancestor_and_a_wrong_adjective_to_itself():
    house, boat, sea = spot(0, 0), spot(0, 5), spot(5, 5)
    scored = [
        phrase_score("house", house, "adjective"),
        phrase_score("boat", boat, "noun", ancestor_index=2),
        phrase_score("sea", sea, ancestor_index=2),
    ]
    adjective, noun = regions(scored, "ancestor")
    assert (adjective.phrase, noun.phrase) == (0, 1)
    np.testing.assert_allclose(adjective.map, house / house.max())
    np.testing.assert_allclose(noun.map, sea / sea.max())
    assert noun.place == "where 'sea' is"


def test_the_printed_equation_swaps_the_two():
    house, boat, sea = spot(0, 0), spot(0, 5), spot(5, 5)
    scored = [
        phrase_score("house", house, "adjective", ancestor_index=2),
        phrase_score("boat", boat, "noun", ancestor_index=2),
        phrase_score("sea", sea, ancestor_index=2),
    ]
    adjective, noun = regions(scored, "printed")
    np.testing.assert_array_equal(adjective.map, sea)
    np.testing.assert_array_equal(noun.map, boat)


def test_the_chain_of_ancestors_is_followed_past_missing_ones():
    sea = spot(5, 5)
    scored = [
        phrase_score("flag", spot(0, 0), "noun", ancestor_index=1),
        phrase_score("boat", spot(0, 5), "noun", ancestor_index=2),
        phrase_score("sea", sea, ancestor_index=2),
    ]
    for region in regions(scored, "ancestor"):
        np.testing.assert_allclose(region.map, sea / sea.max())


@pytest.mark.parametrize("ancestors", [(0, 1), (1, 0), (1, 1)])
def test_without_a_present_ancestor_every_missing_thing_gets_a_place_of_its_own(ancestors):
    flat = np.full((SIDE, SIDE), 0.1, np.float32)
    scored = [phrase_score("a", flat, "noun", ancestors[0]), phrase_score("b", flat, "noun", ancestors[1])]
    first, second = regions(scored, "ancestor")
    assert first.map.max() == second.map.max() == 1
    assert (np.minimum(first.map, second.map) > 0.5).mean() < 0.5 * (first.map > 0.5).mean()


def test_the_free_rule_avoids_what_was_found_but_not_the_owner_of_an_adjective():
    found = spot(0, 0, size=5)
    scored = [
        phrase_score("house", found),
        phrase_score("boat", np.zeros((SIDE, SIDE), np.float32), "noun"),
        phrase_score("tree", spot(7, 0, 1), "adjective"),
    ]
    boat, tree = regions(scored, "free")
    assert boat.map[:5, :5].sum() < 0.3 * boat.map.sum()
    np.testing.assert_allclose(tree.map, scored[2].noun_map / scored[2].noun_map.max())


@pytest.mark.parametrize("rule", ["ancestor", "free"])
def test_a_thing_missing_in_a_place_is_drawn_beside_the_things_of_that_place(rule):
    meadow = np.full((SIDE, SIDE), 0.9, np.float32)
    meadow[:, :3] = 0.05  # where the house stands
    scored = [
        phrase_score("meadow", meadow),
        phrase_score("house", spot(0, 0, 3), ancestor_index=0),
        phrase_score("boat", np.zeros((SIDE, SIDE), np.float32), "noun", ancestor_index=0),
    ]
    (boat,) = regions(scored, rule)
    assert boat.map.mean() <= 0.26  # a window, not the whole meadow
    assert boat.map[:3, :3].max() < 0.2


@pytest.mark.parametrize(
    ("relation", "rows", "columns"),
    [
        ("left", slice(0, 8), slice(0, 3)),
        ("right", slice(0, 8), slice(5, 8)),
        ("above", slice(0, 3), slice(0, 8)),
        ("below", slice(5, 8), slice(0, 8)),
    ],
)
@pytest.mark.parametrize("missing_region", ["ancestor", "free"])
@pytest.mark.parametrize("told_of_child", [True, False])
def test_a_missing_thing_goes_where_the_prompt_puts_it(
    relation, rows, columns, missing_region, told_of_child
):
    """Seen from a dog in the middle that is there; also where the dog is told to lie opposite, seen from the thing."""
    dog = phrase_score("dog", spot(3, 3, 2))
    cat = phrase_score("cat", np.full((SIDE, SIDE), 0.1, np.float32), "noun")
    if told_of_child:
        scored = [dog, replace(cat, ancestor_index=0, relation=relation)]
    else:
        back = {"left": "right", "right": "left", "above": "below", "below": "above"}[relation]
        scored = [replace(dog, ancestor_index=1, relation=back), replace(cat, ancestor_index=1)]
    (region,) = regions(scored, missing_region, window=9 / 64)
    assert region.map.any()
    assert region.map[rows, columns].sum() >= 0.99 * region.map.sum()
    assert region.place.endswith("where the prompt puts it")


def test_a_part_of_the_picture_that_the_prompt_names():
    dog = phrase_score("dog", spot(3, 3, 2))
    cat = phrase_score("cat", np.full((SIDE, SIDE), 0.1, np.float32), "noun")
    for position, inside in (
        ("left", np.s_[:, :4]),
        ("bottom right", np.s_[4:, 4:]),
        ("background", np.s_[:4]),
    ):
        (region,) = regions([dog, replace(cat, ancestor_index=1, position=position)], "free", window=4 / 64)
        assert region.map[inside].sum() >= 0.99 * region.map.sum()


def test_a_told_place_beside_a_thing_that_is_not_there_tells_nothing():
    """Nor does any, where Eq. 6 is taken as printed."""
    cat = phrase_score("cat", np.full((SIDE, SIDE), 0.1, np.float32), "noun")
    dog = replace(cat, noun="dog", text="a dog")
    free, told = (regions([dog, replace(cat, relation=relation)], "free") for relation in (None, "left"))
    assert [region.place for region in free] == [region.place for region in told]
    present = phrase_score("dog", spot(3, 3, 2))
    printed, told = (
        regions([present, replace(cat, relation=relation)], "printed") for relation in (None, "left")
    )
    assert (printed[0].map == told[0].map).all()


def test_the_hint_of_the_encoder_breaks_ties_of_the_free_rule():
    region = free_region([], spot(5, 0), 0.15)
    assert region[5:, :3].all()
    assert region.sum() == 9


@given(st.lists(grids, max_size=3), grids, st.floats(0.02, 1))
def test_a_free_region_is_compact_and_never_empty(claimed, noun_map, share):
    region = free_region(claimed, noun_map, share)
    assert region.max() == pytest.approx(1)
    assert region.min() >= 0
    rows_used, columns_used = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    side = max(round(SIDE * share**0.5), 1)
    assert np.ptp(rows_used) < side
    assert np.ptp(columns_used) < side


@given(grids, st.floats(0.02, 1))
def test_best_window_beats_every_other(weight, share):
    top, left, side = best_window(weight, share)
    mine = weight[top : top + side, left : left + side].astype(float).sum()
    for y in range(SIDE - side + 1):
        for x in range(SIDE - side + 1):
            assert mine >= weight[y : y + side, x : x + side].astype(float).sum() - 1e-5


def test_of_equal_windows_the_central_one_wins():
    assert best_window(np.ones((8, 8), np.float32), 0.25) == (2, 2, 4)


@given(st.lists(grids, min_size=1, max_size=4))
def test_union_and_product(maps):
    given_regions = [Region(i, part, "") for i, part in enumerate(maps)]
    union, product = join(given_regions, "union", SIDE), join(given_regions, "product", SIDE)
    assert (union >= np.max(maps, axis=0) - 1e-6).all()
    assert (product <= np.min(maps, axis=0) + 1e-6).all()
    np.testing.assert_allclose(product, np.prod(np.stack(maps).astype(float), axis=0), atol=1e-6)
    assert union.max() <= 1


def test_without_a_defect_the_union_is_empty_and_the_product_everywhere():
    assert join([], "union", SIDE).shape == (SIDE, SIDE)
    assert join([], "union", SIDE).max() == 0
    assert join([], "product", SIDE).min() == 1
