"""Tiles: the parts of a large picture that a graph sees one by one, and their weights where they overlap.

All tiles of a picture have one shape, so that a graph of fixed shape or one resolution bucket serves them all. Tiles
at the far edges move inwards. Where tiles overlap, their windows share the result and sum to 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from grefine_rt.arrays import Array, Floats
from grefine_rt.contract import LATENT_SCALE

STEP_OVERLAP = 4
"""Tiles of the UNet overlap by this part of their side or more."""
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
    """(height, width) of the part of a picture that a graph sees at once: all of it where it `fits`, else one tile."""
    return (height, width) if fits(height, width, tile) else (min(height, tile), min(width, tile))


@dataclass(frozen=True)
class Tile:
    """A tile's rows and columns, and its weights along each of them."""

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
    """The fewest starts whose tiles cover the length, evenly spread."""
    free, stride = (length - tile) // multiple, (tile - overlap) // multiple
    gaps = -(-free // max(stride, 1))
    return [index * free // gaps * multiple for index in range(gaps)] + [length - tile]
