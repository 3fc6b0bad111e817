"""Tiles, their windows, and both uses of them on tiny graphs whose whole result is known."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grefine_rt.cancel import CancelToken
from grefine_rt.diffusion.restore import restore
from grefine_rt.diffusion.tiling import tiled_decode, tiled_encode
from grefine_rt.errors import BundleError, Cancelled, OptionError
from grefine_rt.imaging.image import work_size
from grefine_rt.imaging.tiles import cut, fits
from tests.support import tiny

units = st.integers(1, 60)


@given(units, units, st.integers(1, 24), st.integers(0, 24), st.sampled_from([1, 2, 8]))
def test_tiles_cover_every_cell_and_their_windows_sum_to_one(height, width, tile, overlap, multiple):
    height, width, tile = height * multiple, width * multiple, tile * multiple
    tiles = cut(height, width, tile, overlap, multiple)
    total = np.zeros((height, width))
    for part in tiles:
        assert part.rows.start % multiple == part.columns.start % multiple == 0
        assert part.window.shape == (min(tile, height), min(tile, width))
        assert part.window.dtype == np.float32
        assert part.window.min() > 0
        total[part.rows, part.columns] += part.window
    np.testing.assert_allclose(total, 1, atol=1e-5)


@given(units, st.integers(4, 24), st.integers(1, 24))
def test_neighbours_overlap_and_no_tile_is_too_many(length, tile, overlap):
    starts = [part.columns.start for part in cut(tile, length, tile, overlap)]
    side, wanted = min(tile, length), min(overlap, tile // 2)
    assert starts == sorted(set(starts))
    assert all(second - first <= side - wanted for first, second in pairwise(starts))
    assert len(starts) == 1 or (len(starts) - 2) * (side - wanted) < length - side


def test_windows_rise_smoothly_over_the_overlap():
    first, second = cut(8, 24, 16, 8)
    assert (first.window[:, :8] == 1).all()
    np.testing.assert_allclose(first.across[8:], second.across[:8][::-1], atol=1e-6)
    steps = np.diff(second.across[:8])
    assert (steps > 0).all()
    assert steps.max() < 0.25


@given(st.integers(16, 6000), st.integers(16, 6000), st.integers(8, 32), st.sampled_from([8, 16, 32, 64]))
def test_work_sizes_of_a_resolution_fit_a_tile_of_that_side(width, height, cells, multiple):
    resolution = cells * multiple
    assert fits(*work_size(width, height, resolution, multiple), resolution)
    assert fits(height, width, 0)
    assert not fits(3 * resolution, resolution, resolution)


def picture(height, width, seed=3):
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


@pytest.mark.parametrize("size", [(64, 96), (128, 32), (72, 200)])
def test_an_autoencoder_without_surroundings_gives_the_same_in_tiles(bundle, size):
    encoder, decoder = bundle.engine("restore_encode"), bundle.engine("restore_decode")
    image = picture(*size)
    latent = tiled_encode(encoder, image, 32)
    np.testing.assert_allclose(latent, tiny.encode(image), atol=1e-5)
    np.testing.assert_allclose(tiled_encode(encoder, image, 0), latent, atol=1e-5)
    for tile in (32, 0):
        np.testing.assert_allclose(tiled_decode(decoder, latent, tile), tiny.decode(latent), atol=1e-5)


class Normalising:
    """A decoder of one group norm over everything, with the contract of shared statistics; records its tiles."""

    def __init__(self):
        self.inputs = {"latent": None, "weight": None, "rest": SimpleNamespace(shape=(1, 1, 2))}
        self.shapes = []

    def run(self, arrays):
        latent, weight = arrays["latent"], arrays["weight"]
        self.shapes.append(latent.shape)
        share = np.stack([(weight * latent).mean(), (weight * latent**2).mean()])[None, None]
        mean, square = (share + arrays["rest"])[0, 0]
        image = ((latent - mean) / np.sqrt(square - mean**2))[:, :3].repeat(8, axis=2).repeat(8, axis=3)
        return {"image": image, "share": share.astype(np.float32)}


def test_tiles_normalise_with_the_statistics_of_the_picture():
    # Bright at the top, dark at the bottom: each tile's own statistics would make all of them grey.
    latent = np.random.default_rng(0).standard_normal((1, 4, 24, 40)).astype(np.float32)
    latent += np.linspace(5, -5, 24, dtype=np.float32)[:, None]
    engine = Normalising()
    whole = tiled_decode(engine, latent, 0)
    assert engine.shapes == [latent.shape]
    np.testing.assert_allclose(
        2 * whole[::8, ::8] - 1,
        ((latent - latent.mean()) / latent.std())[0, :3].transpose(1, 2, 0),
        atol=1e-4,
    )
    np.testing.assert_allclose(tiled_decode(engine, latent, 96), whole, atol=1e-4)
    assert set(engine.shapes[1:]) == {(1, 4, 12, 12)}


def flat(height, width):
    """The tiny step sees the mean of its control, so the same everywhere; noise makes its latents differ."""
    return np.full((height, width, 3), 0.4, np.float32)


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m", "lcm"])
def test_a_tiled_restoration_is_the_whole_one(bundle, solver):
    def run(tile):
        return restore(
            bundle, flat(80, 128), "cat", seed=4, delta=0.5, solver=solver, guidance=2.0, tile=tile
        )

    whole, tiled = run(0), run(32)
    assert tiled.calls == whole.calls == 5
    np.testing.assert_allclose(tiled.latent, whole.latent, atol=1e-4 * np.abs(whole.latent).max())
    np.testing.assert_allclose(tiled.image, whole.image, atol=1e-4)
    np.testing.assert_array_equal(tiled.latent, run(32).latent)
    np.testing.assert_array_equal(whole.latent, run(128).latent)  # it fits, so the very same path


def test_a_tile_gets_its_own_part_of_the_control(bundle):
    halves = flat(32, 96)
    halves[:, 48:] = 0.9
    tiled = restore(bundle, halves, "cat", seed=1, tile=32).latent
    left = restore(bundle, flat(32, 96), "cat", seed=1, tile=32).latent
    np.testing.assert_allclose(tiled[..., :2], left[..., :2], atol=1e-5)
    assert np.abs(tiled[..., -2:] - left[..., -2:]).max() > 1e-2


@pytest.mark.parametrize("solver", ["ddim", "dpm++2m"])
def test_what_no_step_writes_goes_to_the_device_once_a_tile(bundle, monkeypatch, solver):
    """Of a large picture, `control` alone would be megabytes a tile and step."""
    sent, kind = [], type(bundle.engine("restore_step").bind())
    upload = kind.upload

    def noting(binding, array):
        sent.append(array.shape)
        return upload(binding, array)

    monkeypatch.setattr(kind, "upload", noting)
    steps = restore(
        bundle, flat(64, 96), "cat", seed=1, delta=0.5, solver=solver, guidance=2.0, tile=32
    ).calls
    assert steps > 2
    tiles = len(cut(8, 12, 4, 1, 2))
    assert sent.count((1, 3, 32, 32)) == tiles  # control
    changing = sent.count((1, 4, 4, 4))  # sample and perhaps previous, and noise once a tile
    assert steps * tiles < changing <= (2 * steps + 1) * tiles
    rest = [shape for shape in sent if len(shape) < 4]
    assert len(rest) <= 2 * steps + 1  # a timestep and a row of coefficients a step, and the text


def test_progress_and_cancellation_between_tiles(bundle):
    token, seen = CancelToken(), []

    def on_step(made, total):
        seen.append((made, total))
        if made == 4:
            token.cancel()

    with pytest.raises(Cancelled, match="between two tiles"):
        restore(bundle, flat(32, 96), "cat", seed=1, tile=32, on_step=on_step, cancel=token)
    tiles = len(cut(4, 12, 4, 1, 2))
    assert seen == [(made, 3 * tiles) for made in range(1, 5)]


def test_interval_and_rescale_are_passed_on(bundle):
    def run(**options):
        return restore(bundle, flat(32, 32), "cat", seed=1, delta=0.4, **options).latent

    np.testing.assert_array_equal(run(guidance=3.0, interval=(0.0, 0.5)), run(guidance=[3.0, 3.0, 1.0, 1.0]))
    with pytest.raises(BundleError, match="without guidance rescale"):
        run(guidance=3.0, rescale=0.5)


@pytest.mark.parametrize("tile", [-16, 40])
def test_tiles_that_no_graph_can_take_are_refused(bundle, tile):
    with pytest.raises(OptionError, match="multiple of 16"):
        restore(bundle, flat(64, 96), "cat", seed=1, tile=tile)
