"""Stage 2's degradation removal: the module, the pairs it learns from, its training."""

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from grefine_export.mini import restoration_pairs as pairs_of
from grefine_export.mini import sizes
from grefine_export.mini.defects import RATIONALITY
from grefine_export.mini.pool import open_pool
from grefine_export.mini.restoration_pairs import ALL_SHARES, TECHNICAL_SHARES, restoration_pairs
from grefine_export.mini.train_removal import train_removal
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.pasd_removal import Removal, RemovalEmbedding
from grefine_export.models.vae import Vae

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return open_pool(tmp_path_factory.mktemp("pool"), 12)


def module():
    torch.manual_seed(1)
    return RemovalEmbedding(5, Removal(width=12, blocks=2)).eval()


def test_both_heads_have_the_promised_shapes():
    image = torch.rand(2, 3, 48, 64)
    assert module()(image).shape == (2, 5, 6, 8)
    assert module().restored(image).shape == (2, 3, 24, 32)


def test_a_new_module_gives_the_picture_back_and_a_trained_one_reads_the_neighbours():
    fresh, image = module(), torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(fresh.restored(image), avg_pool2d(image, 2))
    other = image.clone()
    other[..., 24:32, 16:24] = 0  # the cell below the middle one
    middle = (..., slice(8, 12), slice(8, 12))
    torch.testing.assert_close(fresh.restored(other)[middle], fresh.restored(image)[middle])
    for layer in (fresh.to_rgb, *(block.conv2 for block in fresh.blocks)):
        torch.nn.init.normal_(layer.weight, std=0.1)
    assert (fresh.restored(other)[middle] - fresh.restored(image)[middle]).abs().max() > 1e-4


def test_a_controlnet_reads_through_it():
    torch.manual_seed(2)
    pasd = PasdUNet(sizes.RESTORE_UNET, sizes.RESTORE_CONTROLNET, removal=Removal(8, 1)).eval()
    assert isinstance(pasd.controlnet.controlnet_cond_embedding, RemovalEmbedding)
    for layer in pasd.controlnet.controlnet_down_blocks:
        torch.nn.init.normal_(layer.weight, std=0.1)
    sample, context = torch.randn(1, 4, 8, 8), torch.randn(1, 5, sizes.CLIP_WIDTH)
    with torch.no_grad():
        dark, light = (
            pasd(sample, torch.tensor([50]), context, torch.full((1, 3, 64, 64), value))
            for value in (0.0, 1.0)
        )
    assert dark.shape == sample.shape
    assert (dark - light).abs().max() > 1e-4


# --- the pairs


@pytest.mark.parametrize(("side", "count"), [(64, 6), (128, 3)])
def test_pairs_are_crops_of_the_pool_enlarged(pool, side, count):
    pairs = next(restoration_pairs(pool, ALL_SHARES, None, side, count, seed=3))
    assert pairs.bad.shape == pairs.good.shape == (count, 3, 2 * side, 2 * side)
    assert float(pairs.bad.min()) >= 0
    assert float(pairs.bad.max()) <= 1
    small = avg_pool2d(pairs.good, 2).permute(0, 2, 3, 1).numpy() * 255
    for crop, row in zip(small, pairs.rows, strict=True):
        places = range(0, 128 - side + 1, 4)
        errors = [
            np.abs(pool.images[row][y : y + side, x : x + side][:, ::turn].astype(float) - crop).mean()
            for y in places
            for x in places
            for turn in (1, -1)
        ]
        assert min(errors) < 4  # bicubic there and the mean back


def test_pairs_come_from_their_seed(pool):
    one, same, other = (next(restoration_pairs(pool, ALL_SHARES, None, 64, 8, seed)) for seed in (3, 3, 4))
    torch.testing.assert_close(one.bad, same.bad, rtol=0, atol=0)
    assert (one.rows == same.rows).all()
    assert not torch.equal(one.bad, other.bad)


@pytest.mark.parametrize("shares", [TECHNICAL_SHARES, ALL_SHARES])
def test_most_crops_are_damaged_and_the_kinds_come_as_often_as_told(pool, monkeypatch, shares):
    kinds = []

    def watched(drawn, kind, reach, rng):
        kinds.append(kind)
        return original(drawn, kind, reach, rng)

    original = pairs_of.damage
    monkeypatch.setattr(pairs_of, "damage", watched)
    source = restoration_pairs(pool, shares, None, 64, 32, seed=7)
    batches = [next(source) for _ in range(25)]
    damaged = torch.cat([(batch.bad != batch.good).flatten(1).any(1) for batch in batches]).float().mean()
    assert 0.7 < float(damaged) < 0.98
    assert set(kinds) == set(shares)
    assert not set(kinds) & set(RATIONALITY)  # shapes are stage 1's
    for kind, share in shares.items():
        assert kinds.count(kind) / len(kinds) == pytest.approx(share / sum(shares.values()), abs=0.07)


def test_a_redrawn_region_is_what_stage_1_draws(pool, monkeypatch):
    torch.manual_seed(4)
    vae = Vae(sizes.VAE, sizes.VAE_PATCH).eval()  # untrained: what it draws is nothing like the picture
    monkeypatch.setattr(pairs_of, "REDRAWN_SHARE", 1.0)
    monkeypatch.setattr(pairs_of, "damage", lambda drawn, kind, reach, rng: (drawn.image, None))
    pairs = next(restoration_pairs(pool, ALL_SHARES, vae, 128, 6, seed=6))
    changed = (avg_pool2d((pairs.bad - pairs.good).abs(), 2).amax(1) > 0.02).float().mean((1, 2))
    assert float(changed.min()) > 0.02
    assert float(changed.max()) < 0.5


def test_a_mild_defect_counts_as_much_as_a_heavy_one():
    good = torch.rand(3, 3, 8, 8)
    damage = torch.rand_like(good) * torch.tensor([0.5, 1.0, 0.0])[:, None, None, None]
    error, figures = pairs_of.relative_error(good + damage / 2, good + damage, good, 1e-9)
    torch.testing.assert_close(error, torch.tensor([0.25, 0.25, 0.0]), atol=1e-4, rtol=0)
    assert figures["clean_mse"] == pytest.approx(figures["bad_mse"] / 4, abs=2e-5)
    bounded, _ = pairs_of.relative_error(good + damage / 2, good + damage, good, 10.0)
    assert bounded[0] < 0.3 * bounded[1]  # so mild that what is left counts as it is


# --- the training


def test_training_comes_closer_to_the_sound_picture(pool, tmp_path, monkeypatch):
    monkeypatch.setattr(sizes, "RESTORE_REMOVAL", Removal(width=40, blocks=2))
    pairs = next(restoration_pairs(pool, TECHNICAL_SHARES, None, 64, 32, seed=7))
    good = avg_pool2d(pairs.good, 2)

    def error(model):
        with torch.no_grad():
            return float((model.restored(pairs.bad) - good).pow(2).mean())

    trained = train_removal(pool, tmp_path, 120, CPU)
    before = float((avg_pool2d(pairs.bad, 2) - good).pow(2).mean())
    assert error(trained) < 0.97 * before
    torch.manual_seed(6)
    fresh = RemovalEmbedding(32, sizes.RESTORE_REMOVAL)
    torch.testing.assert_close(
        trained.conv_out.weight, fresh.conv_out.weight, rtol=5e-4, atol=2e-5
    )  # left to the ControlNet
