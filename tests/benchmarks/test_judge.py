import dataclasses
import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.judge import CARD, WEIGHTS, Judge
from grefine_export.mini.palette import COLOURS
from grefine_export.mini.things import KINDS
from grefine_export.mini.world import make_scene, render, without

FRESH = 300_000  # beyond the scenes of the judge's own training and figures
COUNT = 40


@pytest.fixture(scope="module")
def judge():
    return Judge.load()


@pytest.fixture(scope="module")
def scenes():
    return [make_scene((9, FRESH + index)) for index in range(COUNT)]


@pytest.fixture(scope="module")
def sights(judge, scenes):
    return [judge.look(render(scene).image) for scene in scenes]


def rate(answers):
    return np.mean(list(answers))


def test_it_finds_what_is_there(sights, scenes):
    pairs = [(sight, thing) for sight, scene in zip(sights, scenes, strict=True) for thing in scene.things]
    assert rate(sight.shows(thing.kind, thing.colour) for sight, thing in pairs) >= 0.95


def test_it_finds_what_is_there_in_soft_pictures(judge, scenes):
    found = []
    for scene in scenes:
        soft = Image.fromarray(render(scene).image).filter(ImageFilter.GaussianBlur(1.2))
        sight = judge.look(np.asarray(soft))
        found += sight.shown((thing.kind, thing.colour) for thing in scene.things)
    assert rate(found) >= 0.9


def test_another_colour_does_not_fool_it(sights, scenes):
    wrong = [
        sight.shows(thing.kind, colour)
        for sight, scene in zip(sights, scenes, strict=True)
        for thing in scene.things
        for colour in COLOURS
        if colour != thing.colour
    ]
    assert rate(wrong) <= 0.03


def test_another_thing_of_the_colour_does_not_fool_it(sights, scenes):
    wrong = [
        sight.shows(kind, thing.colour)
        for sight, scene in zip(sights, scenes, strict=True)
        for thing in scene.things
        for kind in set(KINDS) - {other.kind for other in scene.things}
    ]
    assert rate(wrong) <= 0.03


def test_it_misses_a_thing_that_was_taken_away(judge, scenes):
    found = [
        judge.present(render(without(scene, index)).image, thing.kind, thing.colour)
        for scene in scenes[:20]
        for index, thing in enumerate(scene.things)
        if sum((other.kind, other.colour) == (thing.kind, thing.colour) for other in scene.things) == 1
    ]
    assert len(found) >= 30
    assert rate(found) <= 0.03


def test_a_blob_of_the_colour_is_no_thing(judge):
    ground = render(dataclasses.replace(make_scene((9, FRESH)), things=())).image
    blob = np.hypot(*np.mgrid[-64:64, -64:64]) < 22
    found = []
    for colour, rgb in COLOURS.items():
        image = ground.copy()
        image[blob] = rgb
        sight = judge.look(image)
        found += [sight.shows(kind, colour) for kind in KINDS]
    assert rate(found) <= 0.06


def test_its_figures_are_kept_with_it():
    card = json.loads(CARD.read_text())
    assert WEIGHTS.stat().st_size < 1.5e6
    assert card["figures"]["clean_recall"] >= 0.95
    for name, value in card["figures"].items():
        if name.startswith("clean_false_positives"):
            assert value <= 0.03, name


def test_it_refuses_other_pictures(judge):
    with pytest.raises(ValueError, match="128"):
        judge.look(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        judge.look(np.zeros((128, 128, 3), np.float32))
