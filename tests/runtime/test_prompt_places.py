"""Relations and positions that a prompt tells, and the maps made of them."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grefine_rt.assess.prompt import prompt_phrases
from grefine_rt.assess.prompt.places import Position, Relation, opposite, position_of, relation_of
from grefine_rt.assess.prompt.regions import box_of, placed_region, related_region


def told(prompt):
    """Noun -> what the prompt says of its place."""
    return {phrase.noun: phrase.relation or phrase.position for phrase in prompt_phrases(prompt)}


@pytest.mark.parametrize(
    ("words", "of_the_other"),
    [
        ("left of", "right"),
        ("to the left of", "right"),
        ("on the right side of", "left"),
        ("above", "below"),
        ("over", "below"),
        ("on top of", "under"),
        ("on", "under"),
        ("underneath", "on"),
        ("below", "above"),
        ("at the bottom of", "on"),
        ("in front of", "behind"),
        ("behind", "front"),
        ("inside", "around"),
        ("in the middle of", "around"),
        ("surrounded by", "around"),
        ("next to", "near"),
        ("at the side of", "near"),
        ("close to", "near"),
        ("out of", None),
        ("far from", None),
        ("with", None),
    ],
)
def test_relation_of_the_reference(words, of_the_other):
    assert told(f"a red dog {words} a wooden table") == {"dog": None, "table": of_the_other}


def test_own_relations_and_positions():
    assert told("a house with a tree behind it")["tree"] == "behind"
    assert told("a house and a car in front of it")["car"] == "front"
    assert told("a man on the left and a woman on the right") == {"man": "left", "woman": "right"}
    assert told("a cat, mountains in the background") == {"cat": None, "mountains": "background"}
    assert told("a boat in the top left corner")["boat"] == "top left"
    assert told("a boy in the foreground and a train in the distance") == {
        "boy": "foreground",
        "train": "background",
    }


def test_words_of_places():
    assert [
        position_of(words.split())
        for words in ("in the upper right corner", "at the very bottom", "in a hat")
    ] == [
        "top right",
        "bottom",
        None,
    ]
    assert relation_of([]) is None
    for relation in get_args(Relation):
        assert opposite(opposite(relation)) == relation


def centre(weight):
    y, x = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return (weight * x).sum() / weight.sum(), (weight * y).sum() / weight.sum()


BOX = (24.0, 30.0, 40.0, 42.0)


@pytest.mark.parametrize(
    ("relation", "side"),
    [
        ("left", (-1, 0)),
        ("right", (1, 0)),
        ("above", (0, -1)),
        ("below", (0, 1)),
        ("on", (0, -1)),
        ("under", (0, 1)),
    ],
)
def test_a_region_lies_on_its_side(relation, side):
    weight = related_region(relation, BOX, (72, 64))
    x, y = centre(weight)
    middle = np.array([(BOX[0] + BOX[2]) / 2, (BOX[1] + BOX[3]) / 2])
    away = (np.array([x, y]) - middle) / [BOX[2] - BOX[0], BOX[3] - BOX[1]]
    along = float(away @ side)
    assert along > 0.45
    assert abs(float(away @ side[::-1])) < 0.2
    beyond = {
        "left": np.s_[:, 32:],
        "right": np.s_[:, :32],
        "above": np.s_[36:],
        "below": np.s_[:36],
        "on": np.s_[36:],
        "under": np.s_[:36],
    }
    assert weight[beyond[relation]].max() < 1e-6  # type: ignore[call-overload]


def test_regions_within_around_and_before():
    inside, around = (related_region(relation, BOX, (72, 64)) for relation in ("inside", "around"))
    assert inside[36, 32] > 0.99
    assert inside[10, 10] < 0.01
    assert around[36, 32] < 0.01
    assert around[36, 20] > 0.5
    behind, front = (related_region(relation, BOX, (72, 64)) for relation in ("behind", "front"))
    assert centre(behind)[1] < 36 < centre(front)[1]


def test_a_box_at_the_border_leaves_a_strip():
    weight = related_region("left", (0.0, 10.0, 8.0, 20.0), (32, 32))
    assert weight[:, 4:].max() < 1e-6
    assert weight[15, 0] == 1.0


@given(
    st.sampled_from(get_args(Relation)),
    st.lists(st.floats(-20, 90), min_size=4, max_size=4),
    st.integers(1, 70),
    st.integers(1, 70),
)
@settings(deadline=None)
def test_any_box_gives_a_map(relation, sides, height, width):
    x, y = sorted(sides[:2]), sorted(sides[2:])
    weight = related_region(relation, (x[0], y[0], x[1], y[1]), (height, width))
    assert weight.shape == (height, width)
    assert weight.dtype == np.float32
    assert np.isfinite(weight).all()
    assert weight.min() >= 0
    assert weight.max() == pytest.approx(1)


@pytest.mark.parametrize("position", get_args(Position))
def test_positions_lie_where_they_say(position):
    weight = placed_region(position, (60, 90))
    assert weight.max() == 1.0
    assert weight.min() >= 0.0
    x, y = centre(weight)
    for word, holds in {
        "left": x < 35,
        "right": x > 55,
        "top": y < 25,
        "bottom": y > 35,
        "background": y < 28,
        "foreground": y > 32,
        "center": abs(x - 45) < 1 and abs(y - 30) < 1,
    }.items():
        assert holds or word not in position.split()


def test_the_box_of_a_map():
    weight = np.full((40, 60), 0.2, np.float32)
    weight[10:20, 30:50] = 0.9
    x0, y0, x1, y1 = box_of(weight)
    assert (x0, y0, x1, y1) == pytest.approx((31, 10.5, 49, 19.5))
    assert box_of(np.full((4, 6), 0.3, np.float32)) == (0.0, 0.0, 6.0, 4.0)
