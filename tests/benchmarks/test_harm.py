"""The figures of `benchmarks.harm` on outcomes whose answers are known, and the command on a stand-in."""

import dataclasses
import json
from importlib import util

import numpy as np
import pytest
from PIL import Image

from benchmarks import harm, photographs
from benchmarks.harm_figures import LIMITS, Harm, Outcome, details, largest_change, measured
from benchmarks.judge import Judge
from grefine_export.mini import heldout
from grefine_rt import RefineOptions, Refiner
from grefine_rt.errors import DatasetError, DomainError
from tests.support import fake_bundle

KEYS = {
    "outside_refined": 0,
    "inside_refused": 0.01,
    "inside_refused_unseen": 0.03,
    "clean_identical": 0.99,
    "clean_worst_db": 38,
    "reworded_redrawn": 0.03,
    "things_lost": 0.005,
    "sound_changed": 0.05,
    "worse_than_before": 0.05,
    "scores_lowered": 0,
}
UNHARMED = Harm(True, 100.0, False, 0.0, 0.0, 0, 0, None, 0.0, 0.0)


def harmed(**facts):
    return dataclasses.replace(UNHARMED, **facts)


def outcome(category="clean", done=UNHARMED, *unseen):
    return Outcome("x", category, frozenset(unseen), done is None, done)


def photograph(refused):
    return Outcome("p", "photograph", frozenset(), refused, None)


def value(key, *outcomes):
    found = LIMITS[key].of(outcomes)
    return found.value, found.samples


@pytest.fixture(scope="module")
def judge():
    return Judge.load()


def test_refusals():
    photos = [photograph(True), photograph(True), photograph(False), photograph(True)]
    own = [outcome("local"), outcome("local", None), outcome("local", None, "damage")]
    assert value("outside_refined", *photos, *own) == (0.25, 4)
    assert value("inside_refused", *photos, *own) == (0.5, 2)
    assert value("inside_refused_unseen", *photos, *own) == (1.0, 1)
    assert value("inside_refused_unseen", *photos) == (None, 0)


def test_a_refused_picture_counts_for_nothing_but_refusals():
    refused = [outcome("clean", None), outcome("local", None)]
    for key in KEYS.keys() - {"inside_refused", "inside_refused_unseen"}:
        assert value(key, *refused) == (None, 0) or (key, value(key, *refused)) == ("scores_lowered", (0, 0))


def test_clean_pictures():
    clean = [outcome(), outcome(done=harmed(identical=False, psnr=31.0)), outcome(done=harmed(psnr=50.0))]
    damaged = outcome("local", harmed(identical=False, psnr=9.0))
    assert value("clean_identical", *clean, damaged) == (pytest.approx(2 / 3), 3)
    assert value("clean_worst_db", *clean, damaged) == (31.0, 3)


def test_reworded_prompts():
    drawn = harmed(redrawn=True)
    some = [outcome("clean", drawn, "prompt"), outcome("clean", UNHARMED, "synonym"), outcome("clean", drawn)]
    assert value("reworded_redrawn", *some, outcome("alignment", drawn, "prompt")) == (0.5, 2)


def test_things():
    lost = [
        outcome("clean", harmed(things=3, things_kept=3)),
        outcome("local", harmed(things=5, things_kept=3)),
    ]
    assert value("things_lost", *lost) == (0.25, 8)
    changed = [outcome(done=harmed(thing_change=change)) for change in (None, 0.0, 12.0, 12.5)]
    assert value("sound_changed", *changed) == (pytest.approx(1 / 3), 3)


def test_farther_from_the_truth():
    pairs = [(5.0, 5.0), (5.0, 5.1), (5.0, 1.0), (5.0, 4.0)]
    wrong = [outcome("local", harmed(rmse_before=b, rmse_after=a)) for b, a in pairs]
    assert value("worse_than_before", *wrong, outcome(done=harmed(rmse_after=9.0))) == (0.25, 4)


def test_scores_that_fell():
    rises = [(0.1, 0.2), (-1e-9, 0.0), (0.5, -0.001), (-0.2, 0.1)]
    fell = [outcome("local", harmed(perceptual=p, alignment=a)) for p, a in rises]
    assert value("scores_lowered", *fell) == (2, 4)


def test_limits_hold_from_their_own_side():
    assert LIMITS["clean_worst_db"].passes(38.0) is True
    assert LIMITS["clean_worst_db"].passes(37.9) is False
    assert LIMITS["things_lost"].passes(0.005) is True
    assert LIMITS["things_lost"].passes(0.006) is False
    assert LIMITS["things_lost"].passes(None) is None


def test_all_keys_and_seen_and_unseen_apart():
    some = [
        outcome("clean", UNHARMED),
        outcome("clean", harmed(identical=False, redrawn=True), "style"),
        outcome("local", harmed(rmse_after=1.0), "damage"),
        photograph(True),
    ]
    results = measured(some)
    assert results["bars"] == KEYS
    assert KEYS.keys() <= results.keys()
    json.dumps(results, allow_nan=False)
    parts = details(some)
    assert parts["clean_identical_seen"] == {"value": 1.0, "samples": 1}
    assert parts["clean_identical_unseen"] == {"value": 0.0, "samples": 1}
    assert parts["worse_than_before_unseen/damage"] == {"value": 1.0, "samples": 1}
    assert parts["clean_identical_redrawn"]["samples"] == 1
    assert "worse_than_before_seen" not in parts, "no such sample"


def test_the_thing_that_changed_most_counts():
    before = np.full((8, 8, 3), 100, np.uint8)
    after = before.copy()
    after[:4] = 130
    after[0, 0] = 0
    upper, lower, none = np.zeros((3, 8, 8), bool)
    upper[1:4], lower[4:] = True, True
    assert largest_change(before, after, [lower, none]) == 0
    assert largest_change(before, after, [upper, lower]) == 30
    assert largest_change(before, after, [none]) is None


def test_things_beside_damage_are_left_out():
    clean = next(one for one in heldout.samples(40) if one.category == "clean")
    whole = harm.sound_things(clean)
    assert 0 < len(whole) <= len(clean.scene.things)
    everywhere = dataclasses.replace(clean, mask=np.ones((128, 128), bool))
    assert harm.sound_things(everywhere) == []
    wrong = next(one for one in heldout.samples(200) if one.misaligned == "other-colour")
    assert all(
        not thing[(wrong.image != wrong.truth).any(axis=2)].any() for thing in harm.sound_things(wrong)
    )


def test_harm_of_a_result_that_is_the_truth_or_spoiled(judge):
    refiner = Refiner(fake_bundle.Bundle())
    sample = next(one for one in heldout.samples(40) if one.category == "clean")
    result = refiner.refine(sample.image, sample.prompt)

    def of(picture, **more):
        image = Image.fromarray(picture)
        return harm.harm_of(sample, dataclasses.replace(result, image=image, **more), judge)

    same = of(sample.image)
    assert (same.identical, same.psnr, same.rmse_after, same.thing_change) == (True, 100, 0, 0)
    assert same.things_kept == same.things > 0
    grey = of(np.full((128, 128, 3), 128, np.uint8), found=Image.fromarray(sample.image))
    assert not grey.identical
    assert grey.things_kept < grey.things == same.things
    assert grey.thing_change > 12
    assert grey.rmse_after > grey.rmse_before == 0


def test_what_was_drawn_and_taken_back_is_not_redrawn(judge):
    refiner = Refiner(fake_bundle.Bundle())
    sample = next(one for one in heldout.samples(40) if one.category == "clean")
    result = refiner.refine(sample.image, sample.prompt)
    given, restored, drawn = (Image.fromarray(sample.image // part) for part in (1, 2, 3))

    def redrawn(found, stage1, image):
        made = dataclasses.replace(result, found=found, stage1=stage1, image=image)
        return harm.harm_of(sample, made, judge).redrawn

    assert redrawn(given, drawn, drawn)
    assert redrawn(restored, drawn, drawn)
    assert not redrawn(given, given, restored)
    assert not redrawn(given, drawn, given)
    assert not redrawn(restored, drawn, given)
    assert not redrawn(restored, drawn, restored)


def test_a_refusal_is_an_outcome_and_other_errors_are_not(judge):
    class Refusing:
        def refine(self, image, prompt, seed, options):
            raise DomainError("The picture is unlike those.")

    class Broken:
        def refine(self, image, prompt, seed, options):
            raise DatasetError("Broken.")

    some, pictures = list(heldout.samples(2)), [("a", np.zeros((9, 9, 3), np.uint8), "a cat")]
    found = harm.run(Refusing(), judge, some, pictures, RefineOptions())
    assert [one.refused for one in found] == [True] * 3
    assert [one.category for one in found][-1] == "photograph"
    with pytest.raises(DatasetError):
        harm.run(Broken(), judge, some, pictures, RefineOptions())


def test_photographs_are_thirty_or_more_and_come_with_prompts():
    count = sum(map(len, photographs.SHIPPED.values())) + photographs.FACES
    assert count >= 30
    for package in photographs.SHIPPED:
        if util.find_spec(package) is None:
            pytest.skip(f"{package} of the extra 'bench' is not installed")
    names = set()
    for name, picture, prompt in photographs.photographs():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert min(picture.shape[:2]) >= 64
        assert picture.std() > 1
        assert prompt
        names.add(name)
    assert len(names) == count
    assert len(list(photographs.photographs(5))) == 5


def test_a_package_that_is_not_there_is_one_clear_sentence(monkeypatch):
    monkeypatch.setattr(photographs, "SHIPPED", {"no_such_package": {"a.png": "a cat"}})
    with pytest.raises(DatasetError, match=r"no_such_package.*extra 'bench'"):
        list(photographs.photographs(1))
    monkeypatch.setattr(photographs, "SHIPPED", {"skimage": {"data/no-such.png": "a cat"}})
    with pytest.raises(DatasetError, match=r"no 'data/no-such\.png'"):
        list(photographs.photographs(1))


@pytest.mark.parametrize("accept", ["regions", "off"])
def test_the_command_prints_and_writes(accept, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(Refiner, "load", lambda *_: Refiner(fake_bundle.Bundle()))
    face = np.zeros((64, 64, 3), np.uint8)
    monkeypatch.setattr(harm, "photographs", lambda limit: iter([("a", face, "a cat")][:limit]))
    file = tmp_path / "harm.json"
    assert harm.main(["--limit", "4", "--accept", accept, "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert written["set"] == {"split": "test", "samples": 4, "seed": 0, "photographs": 1}
    assert (written["accept"], written["domain"]) == (accept, False)
    assert written["outside_refined"] == 1.0, "a bundle that is open to everything refuses nothing"
    printed = capsys.readouterr().out
    assert all(key in printed for key in KEYS)
