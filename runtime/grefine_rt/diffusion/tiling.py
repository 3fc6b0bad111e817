"""Large pictures in overlapping tiles: memory is that of a tile, seams are blended away.

An autoencoder in tiles should give what it gives for the whole picture. Its convolutions do, given enough overlap; what
reaches further is carried from tile to tile (`tile_sharing.py`). Steps in tiles: `tiled_step.py`.
"""

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.cancel import Cancels, stop_if_cancelled
from grefine_rt.contract import LATENT_SCALE
from grefine_rt.diffusion.loop import to_planes
from grefine_rt.diffusion.tile_sharing import Sharing
from grefine_rt.engine.base import Engine
from grefine_rt.imaging.tiles import Tile, cut, fits

OVERLAP = 192
"""Pixels that tiles of an autoencoder overlap at least; half a tile where that is less."""
MARGIN = 0.25
"""Share of the overlap at an autoencoder's tile's edge that counts nothing: it lacks surroundings."""
ROUNDS = 8
"""Most rounds over the tiles of an autoencoder until what they share settles."""


def tiled_encode(
    engine: Engine, picture: Floats, tile: int, overlap: int = OVERLAP, cancel: Cancels | None = None
) -> Floats:
    """The latent (1, c, h, w) of a picture float32 (H, W, 3) in [-1, 1], sides multiples of 8.

    tile, overlap: in pixels, multiples of 8; a picture that `fits` is encoded whole. Raises Cancelled, BundleError
    and DeviceError.
    """
    return _autoencode(engine, to_planes(picture), True, tile, overlap, cancel)


def tiled_decode(
    engine: Engine, latent: Floats, tile: int, overlap: int = OVERLAP, cancel: Cancels | None = None
) -> Floats:
    """The picture float32 (H, W, 3) of a latent (1, c, h, w); in [0, 1] but not clipped. Else as `tiled_encode`."""
    planes = _autoencode(engine, latent, False, tile, overlap, cancel)
    return np.ascontiguousarray(planes[0].transpose(1, 2, 0)) * np.float32(0.5) + np.float32(0.5)


def _autoencode(
    engine: Engine, source: Floats, encode: bool, tile: int, overlap: int, cancel: Cancels | None
) -> Floats:
    """`source` and what comes back are planes (1, C, H, W) of a picture and of a latent, or the reverse."""
    # Pixels of either along the side of a latent cell.
    near, far = (LATENT_SCALE, 1) if encode else (1, LATENT_SCALE)
    key, result = ("image", "latent") if encode else ("latent", "image")
    height, width = (side // near * LATENT_SCALE for side in source.shape[2:])
    if fits(height, width, tile):
        tile = max(height, width)
    pixels = cut(height, width, tile, overlap, LATENT_SCALE, MARGIN)
    cells = [_in_cells(tile) for tile in pixels]
    shared = Sharing(cells, engine.inputs, (tile // LATENT_SCALE) ** 2) if "rest" in engine.inputs else None
    when = f"before {'encoding' if encode else 'decoding'}"
    for _ in range(ROUNDS):
        whole: Floats | None = None
        for index, (cell, pixel) in enumerate(zip(cells, pixels, strict=True)):
            # Also where there is one: an autoencoder may take longer than a step.
            stop_if_cancelled(cancel, when)
            when = "between two tiles"
            arrays = {key: np.ascontiguousarray(cell.of(source, near))}
            if shared is None:
                made = engine.run(arrays)
            else:
                made = engine.run({**arrays, **shared.inputs(index)})
                shared.take(index, made)
            if whole is None:
                size = (side * far // LATENT_SCALE for side in (height, width))
                whole = np.zeros((1, made[result].shape[1], *size), np.float32)
            here = cell.of(whole, far)
            here += (cell if encode else pixel).window * made[result]
        if shared is None or shared.settled():
            break
    assert whole is not None  # there is always a tile and a round
    return whole


def _in_cells(tile: Tile) -> Tile:
    """A tile of pixels as one of latent cells."""
    rows, columns = (
        slice(s.start // LATENT_SCALE, s.stop // LATENT_SCALE) for s in (tile.rows, tile.columns)
    )
    down, across = (each.reshape(-1, LATENT_SCALE).mean(axis=1) for each in (tile.down, tile.across))
    return Tile(rows, columns, down, across)
