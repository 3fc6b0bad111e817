"""The embedded IP-IQA: opinions on storybook pictures, the database, the three stages and the ablation."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from grefine_export.learn.ip_iqa import TABLE_3
from grefine_export.mini import rated
from grefine_export.mini.damaged import open_damaged
from grefine_export.mini.palette import COLOURS
from grefine_export.mini.pool import open_pool
from grefine_export.mini.rated import alignment_mos, rated_picture, thing_penalty, weakly_drawn
from grefine_export.mini.train_clip import new_clip
from grefine_export.mini.train_ip_iqa import (
    SMOKE,
    ablate,
    clip_batches,
    matching_rows,
    new_image_encoder,
    new_ip_iqa,
    rated_batches,
    text_features,
    train_image_encoders,
    train_ip_iqa,
)
from grefine_export.mini.world import make_scene, render
from grefine_rt.evaluation import databases
from grefine_rt.imaging.image import load

CPU = torch.device("cpu")
TOKENIZER = Path(__file__).parents[2] / "engines" / "mini" / "tokenizers" / "clip.json"


# --- opinions


def test_the_opinion_on_alignment_is_the_formula():
    assert alignment_mos([], 2) == 5
    assert alignment_mos([0.9], 1) == pytest.approx(1.4)
    assert alignment_mos([0.9, 0.8], 3, wrong_place=True) == pytest.approx(
        1 + 4 * (1 - 0.9 / math.sqrt(3)) * (1 - 0.8 / math.sqrt(3)) * 0.6
    )
    # One thing of three missing is a smaller fault than the only one.
    assert alignment_mos([0.9], 3) > alignment_mos([0.9], 1)


def test_a_near_colour_is_a_smaller_fault():
    orange, blue = (thing_penalty("other-colour", "red", name) for name in ("orange", "blue"))
    assert 0.24 < orange < blue < 0.61
    assert blue == pytest.approx(0.6 * (0.4 + 0.6 * math.dist(COLOURS["red"], COLOURS["blue"]) / 250))
    assert thing_penalty("missing", "red", "") == 0.9


def test_opinions_follow_what_was_drawn():
    for number in range(60):
        scene = make_scene((rated.DATABASE, number))
        drawn, opinion = weakly_drawn(scene, np.random.default_rng(number))
        assert 1 <= opinion <= 5
        assert (opinion == 5) == (drawn == scene)
        assert drawn.things
        if len(drawn.things) == len(scene.things) and drawn.setting == scene.setting:
            wrong = [
                thing_penalty("other-thing" if a.kind != b.kind else "other-colour", a.colour, b.colour)
                for a, b in zip(scene.things, drawn.things, strict=True)
                if a != b
            ]
            assert opinion == pytest.approx(alignment_mos(wrong, len(scene.things)))


def test_pictures_are_the_same_at_every_call_and_differ_by_version():
    one, again, other = (rated_picture(rated.DATABASE, 3, version) for version in (0, 0, 1))
    assert np.array_equal(one.image, again.image)
    assert (one.quality, one.alignment) == (again.quality, again.alignment)
    assert one.prompt == other.prompt
    assert not np.array_equal(one.image, other.image)


def test_both_opinions_spread_and_do_not_depend_on_each_other():
    pictures = [rated_picture(rated.DATABASE, number // 2, number % 2) for number in range(240)]
    quality = np.array([one.quality for one in pictures])
    alignment = np.array([one.alignment for one in pictures])
    assert 0.25 < np.mean(alignment == 5) < 0.45
    assert np.ptp(quality) > 2.5
    assert np.ptp(alignment) > 2.5
    assert abs(np.corrcoef(quality, alignment)[0, 1]) < 0.2


def test_a_sound_picture_is_the_scene(monkeypatch):
    monkeypatch.setattr(rated, "RIGHT", 1.1)
    monkeypatch.setattr(rated, "WRONG_PLACE", -1)
    monkeypatch.setattr(rated, "damage_often", lambda drawn, rng: (drawn.image, []))
    one = rated_picture(rated.DATABASE, 5, 0)
    assert (one.quality, one.alignment) == (5, 5)
    scene = make_scene((rated.DATABASE, 5))
    same = (np.abs(one.image.astype(int) - render(scene).image) < 20).mean()
    assert same > 0.9  # hills and grain differ


def test_the_database_is_read_as_agiqa_3k(tmp_path):
    root = rated.write_database(tmp_path / "db", prompts=3, versions=2)
    found = databases.read("agiqa-3k", root)
    assert len(found) == 6
    assert len({one.group for one in found}) == 3
    expected = [one for _, one in rated.database_pictures(3, 2)]
    for got, one in zip(found, expected, strict=True):
        assert np.array_equal(load(got.path).rgb, one.image)
        assert got.prompt == one.prompt
        assert got.scores["alignment"] == pytest.approx(one.alignment, abs=1e-4)
        assert got.scores["quality"] == pytest.approx(one.quality, abs=1e-4)
    before = (root / "data.csv").stat().st_mtime_ns
    rated.write_database(root, prompts=3, versions=2)
    assert (root / "data.csv").stat().st_mtime_ns == before


def test_the_pool_of_rated_pictures(tmp_path):
    pool = rated.open_rated(tmp_path, 6, versions=4)
    one = rated_picture(rated.TRAINING, 1, 1)
    assert np.array_equal(pool.images[5], one.image)
    assert pool.opinions[5] == pytest.approx((one.quality, one.alignment))
    assert pool.prompts[5] == one.prompt
    assert pool.prompts[0] == pool.prompts[3] != pool.prompts[4]


# --- training


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(folder, tokenizer, CLIP without training, pool, damaged pool, rated pictures)."""
    folder = tmp_path_factory.mktemp("ip_iqa")
    tokenizer = Tokenizer.from_file(str(TOKENIZER))
    torch.manual_seed(71)
    clip = new_clip(tokenizer).eval().requires_grad_(False)
    pool = open_pool(folder, 24)
    return folder, tokenizer, clip, pool, open_damaged(pool, folder), rated.open_rated(folder, SMOKE.rated)


def test_the_small_network_has_clips_stem_and_pools(world):
    model = new_ip_iqa(world[2], new_image_encoder())
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 1.0e6 < count < 1.5e6
    with torch.no_grad():
        assert model.image.tokens(torch.rand(1, 3, 128, 128)).shape == (1, 17, 384)


def test_what_pictures_are_compared_with(world):
    _, tokenizer, clip, pool, _, _ = world
    texts = text_features(clip, tokenizer, pool)
    assert texts.prompts.shape == (24, 2, 128)
    assert texts.quality.shape == (4, 128)
    assert texts.present.shape == (24, len(texts.phrases))
    things = [len({(t.kind, c) for t in scene.things for c in (None, t.colour)}) for scene in pool.scenes]
    assert texts.present.sum(1).tolist() == [count + 1 for count in things]


def test_batches_carry_their_truth(world):
    _, _, _, pool, damaged, pictures = world
    batch = next(clip_batches(pool, damaged, 0))
    assert batch.image.shape == (64, 3, 128, 128)
    sound = (batch.truth == 1).all(1)
    shown = (batch.image.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    for row, index in enumerate(batch.rows.tolist()):
        image = pool.images[index] if sound[row] else damaged.images[index]
        assert np.array_equal(shown[row], image) or np.array_equal(shown[row], image[:, ::-1])
    batch = next(rated_batches(pictures, np.arange(3, 9), 0))
    assert set(batch.rows.tolist()) <= {*range(3, 9)}
    assert torch.equal(batch.truth, torch.from_numpy(pictures.opinions[batch.rows.numpy()]))


def test_the_best_matching_pairs_are_kept(world, tmp_path):
    _, tokenizer, clip, _, _, pictures = world
    rows, features = matching_rows(clip, tokenizer, pictures, tmp_path / "matching.pt")
    assert features.shape == (96, 128)
    assert len(rows) == pytest.approx(0.28 * 96, abs=1)
    assert torch.equal(features[0], features[3])  # four pictures of one prompt
    again, _ = matching_rows(clip, tokenizer, pictures, tmp_path / "matching.pt")
    assert np.array_equal(again, rows)


def test_all_stages_run_and_go_on(world):
    folder, tokenizer, clip, pool, damaged, pictures = world
    given = (clip, tokenizer, pool, damaged, pictures, folder, SMOKE, CPU)
    encoders = train_image_encoders(*given)
    again = train_image_encoders(*given)
    for key in (False, True):
        one, other = encoders[key].state_dict(), again[key].state_dict()
        assert all(torch.equal(one[name], other[name]) for name in one)
    weights = [encoders[key].trunk.conv1.weight for key in (False, True)]
    assert not torch.equal(*weights)
    model = train_ip_iqa(clip, encoders[True], tokenizer, pictures, folder, SMOKE, CPU)
    assert not model.training
    text = clip.clip.text_model.state_dict()
    trained = model.text.text_model.state_dict()
    for name, value in text.items():  # frozen, and kept in float16
        torch.testing.assert_close(trained[name], value, rtol=5e-4, atol=1e-6)
    ids = torch.full((2, 40), model.text.end)
    with torch.no_grad():
        scores = model(torch.rand(2, 3, 128, 128), ids)
    assert scores.shape == (2, 2)
    assert ((scores > 0) & (scores < 6)).all()  # the head starts at the mean opinion

    lines = []
    budget = replace(SMOKE, repeats=1)
    text = ablate(clip, encoders, TOKENIZER, folder, budget, CPU, lines.append)
    assert len(text.splitlines()) == 2 + len(TABLE_3)
    assert "alignment SRCC" in text
    assert ablate(clip, encoders, TOKENIZER, folder, budget, CPU, pytest.fail) == text
