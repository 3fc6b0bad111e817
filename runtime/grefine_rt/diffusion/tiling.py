"""Large pictures in overlapping tiles: memory is that of a tile, seams are blended away.

All tiles of a picture have one shape, so that a graph of fixed shape or one resolution bucket serves them all; those
at the far edges move inwards. Where tiles overlap, their windows share the result and sum to 1.

A step graph is run on the tiles and its results are averaged in every step (MultiDiffusion, Bar-Tal et al.,
2302.08113, Eq. 5, with smooth weights). An autoencoder should give what it gives for the whole picture. Its
convolutions do, given enough overlap; what reaches further is carried from tile to tile (`tile_sharing.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grefine_rt.diffusion.loop import LATENT_SCALE, Cancels, Floats, OnStep, stop_if_cancelled, to_planes
from grefine_rt.diffusion.tile_sharing import Sharing
from grefine_rt.engine.base import Array, Engine
from grefine_rt.engine.host_binding import HostEngine

OVERLAP = 192
"""Pixels that tiles of an autoencoder overlap at least; half a tile where that is less."""
MARGIN = 0.25
"""Share of the overlap at an autoencoder's tile's edge that counts nothing: it lacks surroundings."""
STEP_OVERLAP = 4
"""Tiles of the UNet overlap by this part of their side or more."""
ROUNDS = 8
"""Most rounds over the tiles of an autoencoder until what they share settles."""

_FULL, _LONG = (
    1.25,
    2.5,
)  # in areas and in sides of a tile; rounding to multiples makes work sizes that much larger


def fits(height: int, width: int, tile: int) -> bool:
    """Whether a picture is worked on whole where tiles have `tile` pixels a side; 0 means always.

    It is where its area is about that of a tile: work sizes (`imaging.image.work_size`) of the resolution `tile`,
    which are up to 4 : 1, pass.
    """
    return not tile or (height * width <= _FULL * tile**2 and max(height, width) <= _LONG * tile)


def piece(height: int, width: int, tile: int) -> tuple[int, int]:
    """(height, width) of what a graph sees at once of a picture: all of it where it `fits`, else one tile."""
    return (height, width) if fits(height, width, tile) else (min(height, tile), min(width, tile))


@dataclass(frozen=True)
class Tile:
    """A tile's rows and columns, and what it counts along each of them."""

    rows: slice
    columns: slice
    down: Floats
    across: Floats

    @property
    def window(self) -> Floats:
        """float32 (rows, columns); the windows of all tiles sum to 1."""
        return self.down[:, None] * self.across

    def of(self, planes: Array, factor: int = 1) -> Array:
        """Its part of an array (..., H, W) with `factor` pixels to a unit of the tile, as a view."""
        rows, columns = (slice(s.start * factor, s.stop * factor) for s in (self.rows, self.columns))
        return planes[..., rows, columns]


def cut(
    height: int, width: int, tile: int, overlap: int, multiple: int = 1, margin: float = 0.0
) -> list[Tile]:
    """Tiles of one shape, at most (tile, tile), that cover (height, width) and start at multiples of `multiple`.

    Neighbours overlap by `overlap` or more, at most by half of `tile` if not the picture's size forces more, and share
    all of it but `margin` at each end. All lengths are in one unit; height, width and tile are multiples of `multiple`.
    """
    overlap = min(overlap, tile // 2)
    return [
        Tile(slice(y, y + len(down)), slice(x, x + len(across)), down, across)
        for y, down in _windows(height, tile, overlap, multiple, margin)
        for x, across in _windows(width, tile, overlap, multiple, margin)
    ]


def step_tiles(height: int, width: int, tile: int, multiple: int) -> list[Tile]:
    """The tiles, in latent cells, in which a UNet works on a picture; all arguments in pixels."""
    return cut(*(n // LATENT_SCALE for n in (height, width, tile, tile // STEP_OVERLAP, multiple)))


def _windows(
    length: int, tile: int, overlap: int, multiple: int, margin: float
) -> Iterator[tuple[int, Floats]]:
    """Start and window of every tile along one axis."""
    tile = min(tile, length)
    depth = np.minimum(np.arange(tile), np.arange(tile)[::-1]) + 0.5
    share = (depth / max(overlap, 1) - margin) / (1 - 2 * margin)
    # A rise from each end, never 0: the far side of the first and the last tile has no other.
    rise = np.sin(np.pi / 2 * np.clip(share, 1e-6, 1)) ** 2
    starts = _starts(length, tile, overlap, multiple)
    total = np.zeros(length)
    for start in starts:
        total[start : start + tile] += rise
    for start in starts:
        yield start, (rise / total[start : start + tile]).astype(np.float32)


def _starts(length: int, tile: int, overlap: int, multiple: int) -> list[int]:
    """As few as cover the length, evenly spread."""
    free, stride = (length - tile) // multiple, (tile - overlap) // multiple
    gaps = -(-free // max(stride, 1))
    return [index * free // gaps * multiple for index in range(gaps)] + [length - tile]


class TiledStep(HostEngine):
    """A step graph run tile by tile: an `Engine` for latents larger than the graph's own, so the loop is the same.

    Inputs and outputs of four axes are cut and blended, the others go to every tile. Tensors stay on the host between
    steps.
    """

    def __init__(
        self,
        engine: Engine,
        tiles: Sequence[Tile],
        calls: int,
        on_step: OnStep | None = None,
        cancel: Cancels | None = None,
    ) -> None:
        """tiles: in latent cells. calls: of `run` that the loop makes. on_step: called after every tile with (tiles
        made, tiles in all). cancel: makes `run` raise Cancelled between two."""
        super().__init__(engine)
        self._tiles, self._cancel = tiles, cancel
        self._on_step, self._made, self._total = on_step, 0, calls * len(tiles)

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        shape = arrays["sample"].shape
        blended: dict[str, Array] = {
            name: np.zeros(shape, np.float32) for name in (self.outputs if outputs is None else outputs)
        }
        for tile in self._tiles:
            stop_if_cancelled(self._cancel, "between two tiles")
            part = {
                name: np.ascontiguousarray(tile.of(array, array.shape[2] // shape[2]))
                if array.ndim == 4
                else array
                for name, array in arrays.items()
            }
            for name, result in self._engine.run(part, list(blended)).items():
                here = tile.of(blended[name])
                here += tile.window * result
            self._made += 1
            if self._on_step is not None:
                self._on_step(self._made, self._total)
        return blended


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
