"""What stage 1 learns from: pictures as found, masks, latents, and what a perfect denoiser would say on the way."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler

from grefine_export.mini import redrawing_pairs, sizes
from grefine_export.mini.defects import damage
from grefine_export.mini.pool import open_pool
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.redrawing_pairs import (
    COVERED,
    Planner,
    as_found,
    encode_pairs,
    found_mask,
    open_pairs,
)
from grefine_export.mini.regions import changed
from grefine_export.mini.train_clip import encode_texts, new_clip
from grefine_export.mini.train_inpaint import (
    BETA_END,
    BETA_START,
    TRAIN_STEPS,
    TextConditionedUNet,
    alphas_cumprod,
    on_the_way,
    unlikeness,
)
from grefine_export.mini.vocabulary import train_tokenizer
from grefine_export.mini.world import Rendered
from grefine_rt import Assessor

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return open_pool(tmp_path_factory.mktemp("pool"), 16)


@pytest.fixture(scope="module")
def planner():
    with Assessor.load("mini", "cpu", 1) as assessor:
        yield Planner(assessor, assessor.bundle.manifest)


def levels(*times):
    return alphas_cumprod()[list(times)]


def test_the_loop_starts_from_the_noised_picture_as_found():
    start, clean, noise = torch.randn(3, 2, 4, 6, 5)
    first = levels(500, 900)
    noisy, _ = on_the_way(start, clean, noise, first, first)
    a = first[:, None, None, None]
    torch.testing.assert_close(noisy, a.sqrt() * start + (1 - a).sqrt() * noise)


def test_a_perfect_denoiser_walks_this_way_to_the_clean_picture():
    start, clean, noise = torch.randn(3, 1, 4, 6, 5)
    scheduler = DDIMScheduler(
        TRAIN_STEPS,
        BETA_START,
        BETA_END,
        "scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=True,
    )
    scheduler.set_timesteps(5)
    times = scheduler.timesteps.tolist()[1:]
    first = levels(times[0])
    sample, _ = on_the_way(start, clean, noise, first, first)
    for time in times:
        noisy, velocity = on_the_way(start, clean, noise, levels(time), first)
        torch.testing.assert_close(sample, noisy, atol=1e-4, rtol=1e-4)
        sample = scheduler.step(velocity, time, sample).prev_sample
    torch.testing.assert_close(sample, clean, atol=1e-4, rtol=1e-4)


def test_of_a_sound_picture_the_noise_alone_is_learned():
    clean, noise = torch.randn(2, 3, 4, 6, 5)
    alpha, first = levels(100, 400, 700), levels(100, 600, 900)
    noisy, velocity = on_the_way(clean, clean, noise, alpha, first)
    a = alpha[:, None, None, None]
    torch.testing.assert_close(noisy, a.sqrt() * clean + (1 - a).sqrt() * noise)
    torch.testing.assert_close(velocity, a.sqrt() * noise - (1 - a).sqrt() * clean, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("flaw", ["sound", "misshapen", "misaligned", "poor"])
def test_pictures_are_found_sound_or_with_one_flaw(pool, flaw, monkeypatch):
    shares = dict.fromkeys(redrawing_pairs.SHARES, 0.0) | {flaw: 1.0}
    monkeypatch.setattr(redrawing_pairs, "SHARES", shares)
    rng = np.random.default_rng(1)
    shares_changed = []
    for scene, image, owner in zip(pool.scenes, pool.images, pool.owners, strict=True):
        found = as_found(scene, Rendered(image, owner), rng)
        assert found.shape == image.shape
        assert found.dtype == np.uint8
        shares_changed.append(float(changed(image, found).mean()))
    if flaw == "sound":
        assert max(shares_changed) == 0
    else:
        assert sum(share > 0.005 for share in shares_changed) >= 14
        assert max(shares_changed) < 0.6


def test_the_shares_are_all_of_it():
    assert sum(redrawing_pairs.SHARES.values()) == pytest.approx(1)


def test_plans_mark_most_of_what_is_misshapen(pool, planner):
    rng = np.random.default_rng(3)
    prompts = [prompt_of(scene, rng) for scene in pool.scenes]
    drawn = [Rendered(*both) for both in zip(pool.images, pool.owners, strict=True)]
    torn = [damage(one, "torn", "local", rng)[0] for one in drawn]
    first, again = (planner.masks(torn, prompts, np.random.default_rng(seed)) for seed in (4, 5))
    assert all(mask.shape == (128, 128) and mask.dtype == np.bool_ for mask in first)
    wrong = [changed(one.image, picture) for one, picture in zip(drawn, torn, strict=True)]
    covered = [(mask & bad).sum() / max(1, bad.sum()) for mask, bad in zip(first, wrong, strict=True)]
    assert np.mean(np.array(covered) > COVERED) > 0.6
    assert any((one != other).any() for one, other in zip(first, again, strict=True))  # tau and growth vary
    assert np.mean([mask.mean() for mask in first]) < 0.5


def inverted(drawn):
    """A picture with a broken box, what is wrong in it, and a plan's mask that covers it loosely."""
    found = drawn.image.copy()
    found[40:60, 50:90] = 255 - found[40:60, 50:90]
    loose = np.zeros((128, 128), bool)
    loose[30:70, 45:100] = True
    return found, changed(drawn.image, found), loose


def test_a_plan_that_covers_what_is_wrong_is_taken_as_it_is(pool, monkeypatch):
    monkeypatch.setattr(redrawing_pairs, "ANY_MASK_SHARE", 0.0)
    rng = np.random.default_rng(2)
    scene, drawn = pool.scenes[0], Rendered(pool.images[0], pool.owners[0])
    found, _, loose = inverted(drawn)
    assert found_mask(found, loose, scene, drawn, rng) is loose


def test_other_plans_give_way_to_masks_around_what_is_wrong(pool, monkeypatch):
    monkeypatch.setattr(redrawing_pairs, "ANY_MASK_SHARE", 0.0)
    rng = np.random.default_rng(2)
    scene, drawn = pool.scenes[0], Rendered(pool.images[0], pool.owners[0])
    found, wrong, loose = inverted(drawn)
    elsewhere = np.roll(loose, 40, 0)
    covers = []
    for _ in range(20):
        mask = found_mask(found, elsewhere, scene, drawn, rng)
        assert mask.dtype == np.bool_
        assert mask[wrong].all()
        assert not mask[:30].any()
        assert not mask[70:].any()
        covers.append(mask.sum())
    assert len(set(covers)) > 4  # grown more and less


def test_some_masks_lie_anywhere(pool, monkeypatch):
    rng = np.random.default_rng(2)
    scene, drawn = pool.scenes[0], Rendered(pool.images[0], pool.owners[0])
    assert found_mask(drawn.image, np.zeros((128, 128), bool), scene, drawn, rng).any()  # nothing is wrong
    monkeypatch.setattr(redrawing_pairs, "ANY_MASK_SHARE", 1.0)
    found, _, loose = inverted(drawn)
    assert (found_mask(found, loose, scene, drawn, rng) != loose).any()


class MeanOfCells(torch.nn.Module):
    """An autoencoder that sees every cell for itself: its mean colour, and the mean of that."""

    def encode(self, pixels):
        means = F.avg_pool2d(pixels, 8)
        return torch.cat([means, means.mean(1, keepdim=True)], 1)


class MeanOfPatches:
    """Stands in for CLIP: a class token of zeros, then the mean colour of each of 64 patches in [0, 1]."""

    def image_tokens(self, pixels):
        patches = F.avg_pool2d(pixels, 16).flatten(2).mT
        return F.pad(patches, (0, 0, 1, 0))


def test_latents_are_of_the_pictures_and_kept(pool, planner, tmp_path, monkeypatch):
    autoencoder = MeanOfCells()
    pairs = open_pairs(pool, lambda: planner, tmp_path)
    latents = encode_pairs(pool, pairs, autoencoder, MeanOfPatches(), CPU)
    count = len(pool.scenes)
    assert latents.start.shape == latents.clean.shape == latents.masked.shape == (count, 4, 16, 16)
    assert latents.mask.shape == (count, 16, 16)
    assert latents.mask.any((1, 2)).all()
    images = torch.from_numpy(pool.images.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    truths = [autoencoder.encode(way).numpy() for way in (images, images.flip(3))]
    outside = ~latents.mask[:, None]
    turns = [
        int(np.argmin([np.abs((truth[i] - latents.clean[i])[:, latents.mask[i]]).max() for truth in truths]))
        for i in range(count)
    ]
    assert set(turns) == {0, 1}
    truth = np.stack([truths[turn][i] for i, turn in enumerate(turns)])
    np.testing.assert_allclose(latents.clean, np.where(outside, latents.start, truth), atol=2e-3)
    np.testing.assert_allclose(latents.masked, latents.start * outside, atol=2e-3)
    sound = (np.abs(latents.start - truth) < 2e-3).all((1, 2, 3))
    assert 0 < sound.sum() < 0.6 * count

    def never():
        raise AssertionError("planned again")

    again = open_pairs(pool, never, tmp_path)
    np.testing.assert_array_equal(again.found, pairs.found)
    np.testing.assert_array_equal(again.mirrored, pairs.mirrored)


def test_tokens_are_of_the_sound_pictures_turned_as_their_latents(pool, planner, tmp_path):
    pairs = open_pairs(pool, lambda: planner, tmp_path)
    latents = encode_pairs(pool, pairs, MeanOfCells(), MeanOfPatches(), CPU)
    colours = F.avg_pool2d(torch.from_numpy(latents.clean[:, :3].astype(np.float32)) / 2 + 0.5, 2)
    np.testing.assert_allclose(latents.tokens, F.normalize(colours, dim=1), atol=5e-3)


def test_likeness_counts_where_the_weight_is():
    tokens = F.normalize(torch.randn(1, 5, 8, 8), dim=1)
    features = 3 * tokens  # their length does not matter
    features[..., 4:] *= -1
    left, right = torch.zeros(2, 1, 1, 16, 16)
    left[..., :8], right[..., 8:] = 1, 1
    assert float(unlikeness(features, tokens, left)) == pytest.approx(0, abs=1e-6)
    assert float(unlikeness(features, tokens, right)) == pytest.approx(1)  # half of the places, 2 each


def test_the_text_encoder_begins_as_clips(tmp_path):
    tokenizer = train_tokenizer(tmp_path / "clip.json")
    clip, unet = new_clip(tokenizer), TextConditionedUNet(tokenizer)
    unet.read_as(clip)
    ids = encode_texts(tokenizer, ["a red house"], sizes.CLIP_LENGTH)
    with torch.no_grad():
        read = unet.eval().text(ids)
        torch.testing.assert_close(read.text_embeds, clip.eval().text_features(ids), atol=1e-5, rtol=1e-4)
