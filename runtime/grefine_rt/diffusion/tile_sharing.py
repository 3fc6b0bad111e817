"""Shared statistics of a picture's tiles, with which an autoencoder gives the same as for the whole picture.

Graphs with the inputs `weight` and `rest` (ARCHITECTURE.md) normalise by the statistics of all tiles: the statistics of
one tile alone would give it colours of its own. Graphs with `others` also attend, in their middle block, to the cells
of all tiles. Every tile reads the latest statistics of the others, of this round from the tiles before it. Rounds go
on until the statistics settle.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from grefine_rt.arrays import Array, Doubles, Floats
from grefine_rt.contract import HIDDEN, OTHERS
from grefine_rt.engine.base import TensorSpec
from grefine_rt.imaging.tiles import Tile

SETTLED = 1e-2
"""Change of a group's mean or deviation in a round, in deviations, below which it is settled."""


class Sharing:
    """The statistics of a picture's tiles. In the first round, the tiles that are known stand for all of them."""

    def __init__(self, tiles: Sequence[Tile], inputs: Mapping[str, TensorSpec], cells: int) -> None:
        """tiles: in latent cells. inputs: of the graph. cells: in a square tile."""
        self._tiles = tiles
        count = sum(tile.window.sum(dtype=np.float64) for tile in tiles)
        # The graph takes means over its tile; this turns them into shares of the mean over the picture.
        self._factor = tiles[0].window.size / count
        self._shares = np.zeros((len(tiles), 1, int(inputs["rest"].shape[1]), 2))
        self._known = np.zeros(len(tiles))
        self._scale = 1.0
        self._before = self._moments()
        self._cells = _Cells(tiles, int(inputs["others"].shape[2]), cells) if "others" in inputs else None

    def inputs(self, index: int) -> dict[str, Floats]:
        """The inputs of the graph for a tile, beside its pixels or latent."""
        window = self._tiles[index].window
        self._known[index] = self._factor * window.mean()
        self._scale = 1 / self._known.sum()
        rest = self._shares.sum(axis=0) - self._shares[index]
        unit = np.float32(self._factor * self._scale)
        found = {"weight": window[None, None] * unit, "rest": (rest * self._scale).astype(np.float32)}
        return found if self._cells is None else found | {"others": self._cells.others(index, unit)}

    def take(self, index: int, made: Mapping[str, Array]) -> None:
        """Takes the graph's statistics of the tile that `inputs` was asked for last."""
        self._shares[index] = made["share"] / self._scale
        if self._cells is not None:
            self._cells.take(index, made["cells"])

    def settled(self) -> bool:
        """Whether the last round over the tiles changed little; a single tile knows all at once."""
        before, (mean, deviation) = self._before, self._moments()
        self._before = mean, deviation
        change = np.maximum(abs(mean - before[0]), abs(deviation - before[1]))
        return len(self._tiles) == 1 or bool((change <= SETTLED * deviation).all())

    def _moments(self) -> tuple[Doubles, Doubles]:
        mean, square = np.moveaxis(self._shares.sum(axis=0), -1, 0)
        return mean, np.sqrt(np.maximum(square - mean**2, 0))


class _Cells:
    """Keys and values of the tiles' cells, weighted by their windows, on one grid for the picture."""

    def __init__(self, tiles: Sequence[Tile], columns: int, cells: int) -> None:
        """columns: of keys, values and weight. cells: in a square tile."""
        self._tiles = tiles
        self._size = max(tile.rows.stop for tile in tiles), max(tile.columns.stop for tile in tiles)
        # As few cells together as bring the picture below the limit.
        self._side = 1
        while math.prod(self._grid) > OTHERS * cells:
            self._side += 1
        self._columns = columns
        self._told: dict[int, Floats] = {}

    @property
    def _grid(self) -> tuple[int, int]:
        height, width = self._size
        return -(-height // self._side), -(-width // self._side)

    def others(self, index: int, unit: np.float32) -> Floats:
        """Means of keys and values of the other tiles, and their weights in units of `unit`: (1, m, columns)."""
        if len(self._tiles) == 1:
            return np.zeros((1, HIDDEN, self._columns), np.float32)
        grid = np.zeros((*self._grid, self._columns), np.float32)
        for other, told in self._told.items():
            if other != index:
                tile = self._tiles[other]
                grid[self._coarse(tile.rows), self._coarse(tile.columns)] += told
        counts = grid[..., -1:]
        grid[..., :-1] /= np.where(counts > 0, counts, 1)
        counts *= unit
        return grid.reshape(1, -1, self._columns)

    def take(self, index: int, cells: Array) -> None:
        """Keys and values (1, n, columns - 1) of a tile."""
        if len(self._tiles) == 1:
            return
        tile = self._tiles[index]
        window = tile.window[..., None]
        told = np.concatenate([window * cells.reshape(*window.shape[:2], -1), window], axis=2)
        for axis, span in enumerate((tile.rows, tile.columns)):
            edges = [0, *(edge - span.start for edge in self._edges(span))]
            told = np.add.reduceat(told, edges, axis=axis)
        self._told[index] = told

    def _edges(self, span: slice) -> range:
        """Starts of the squares of the grid inside a span, its own start aside."""
        return range((span.start // self._side + 1) * self._side, span.stop, self._side)

    def _coarse(self, span: slice) -> slice:
        """The squares that a span of cells touches."""
        return slice(span.start // self._side, -(-span.stop // self._side))
