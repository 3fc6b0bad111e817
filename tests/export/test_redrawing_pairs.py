"""What stage 1 learns from: pictures as found, masks, latents, and what a perfect denoiser would say on the way."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from grefine_export.mini import redrawing_pairs, sizes
from grefine_export.mini.pool import open_pool
from grefine_export.mini.redrawing_pairs import as_found, found_mask, make_latents
from grefine_export.mini.train_inpaint import (
    BETA_END,
    BETA_START,
    TRAIN_STEPS,
    alphas_cumprod,
    on_the_way,
)
from grefine_export.mini.world import Rendered
from grefine_export.models.vae import Vae

torch.set_num_threads(1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return open_pool(tmp_path_factory.mktemp("pool"), 16)


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
        shares_changed.append(float((np.abs(found.astype(int) - image).max(2) > 12).mean()))
    if flaw == "sound":
        assert max(shares_changed) == 0
    else:
        assert sum(share > 0.005 for share in shares_changed) >= 14
        assert max(shares_changed) < 0.6


def test_the_shares_are_all_of_it():
    assert sum(redrawing_pairs.SHARES.values()) == pytest.approx(1)


def test_masks_cover_what_is_wrong_and_little_more(pool, monkeypatch):
    monkeypatch.setattr(redrawing_pairs, "ANY_MASK_SHARE", 0.0)
    rng = np.random.default_rng(2)
    scene, drawn = pool.scenes[0], Rendered(pool.images[0], pool.owners[0])
    found = drawn.image.copy()
    found[40:60, 50:90] = 255 - found[40:60, 50:90]
    wrong = np.abs(found.astype(int) - drawn.image).max(2) > 12
    covers = []
    for _ in range(20):
        mask = found_mask(found, scene, drawn, rng)
        assert mask.dtype == np.bool_
        assert mask[wrong].all()
        assert not mask[:30].any()
        assert not mask[70:].any()
        covers.append(mask.sum())
    assert len(set(covers)) > 4  # grown more and less
    anywhere = found_mask(drawn.image, scene, drawn, rng)  # nothing is wrong
    assert anywhere.any()


def test_latents_are_of_the_pictures_and_kept(pool, tmp_path, monkeypatch):
    torch.manual_seed(0)
    vae = Vae(sizes.VAE, sizes.VAE_PATCH).eval()
    latents = make_latents(pool, vae, tmp_path, CPU)
    count = redrawing_pairs.PAIRS_PER_SCENE * len(pool.scenes)
    assert latents.start.shape == latents.clean.shape == latents.masked.shape == (count, 4, 16, 16)
    assert latents.mask.shape == (count, 16, 16)
    assert latents.mask.any((1, 2)).all()
    images = torch.from_numpy(pool.images[:].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        ways = [vae.encode(images).numpy(), vae.encode(images.flip(3)).numpy()]
    scale = np.abs(ways[0]).max()
    turns = []
    for row, clean in zip(latents.scene, latents.clean, strict=True):
        errors = [np.abs(way[row] - clean).max() / scale for way in ways]
        turns.append(int(np.argmin(errors)))
        assert min(errors) < 0.05  # encoded in bfloat16
    assert set(turns) == {0, 1}
    same = (latents.start == latents.clean).all((1, 2, 3))
    assert 0 < same.sum() < 0.6 * count
    # Where the picture was found sound, the third latent is of the truth with the mask cut out.
    rows = np.nonzero(same)[0]
    sound = torch.stack([(images, images.flip(3))[turns[row]][latents.scene[row]] for row in rows])
    holes = torch.from_numpy(latents.mask[rows]).repeat_interleave(8, 1).repeat_interleave(8, 2)[:, None]
    with torch.no_grad():
        expected = vae.encode(sound * ~holes).numpy()
    assert np.abs(expected - latents.masked[rows]).max() / scale < 0.05

    def never(*_args):
        raise AssertionError("encoded again")

    monkeypatch.setattr(redrawing_pairs, "_encoded", never)
    again = make_latents(pool, vae, tmp_path, CPU)
    np.testing.assert_array_equal(again.start, latents.start)
