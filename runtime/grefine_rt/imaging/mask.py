"""Masks: from a defect map to the region that is regenerated and pasted back (the Bi of Eq. 6, and its care).

Everything is plain numpy. A mask is a bool array (H, W), True where the picture is to be regenerated.
Distances are Euclidean, between pixel centres, in pixels. Regions are 8-connected: two pixels that touch
at a corner belong together.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from grefine_rt.arrays import Box, FloatMap, Mask
from grefine_rt.errors import OptionError

OTSU_BINS = 256


def binarise(values: NDArray[np.floating], threshold: float | Literal["otsu"]) -> Mask:
    """Bi of Eq. 6: True where `values` (H, W), 1 = worst, lie above the threshold.

    `threshold` is a number (for calibrated maps, where values are absolute) or "otsu" (for maps that are
    only relative). Raises OptionError for any other text.
    """
    if isinstance(threshold, str):
        if threshold != "otsu":
            raise OptionError(f'The mask threshold must be a number or "otsu", not "{threshold}".')
        threshold = otsu(values)
    return np.asarray(values > threshold)


def otsu(values: NDArray[np.floating]) -> float:
    """The threshold that maximises the variance between the two classes (Otsu 1979), over 256 bins.

    A map with one value only, but for rounding, has no two classes: its highest value is returned, so that nothing
    lies above it.
    """
    values = values.astype(np.float32)
    low, high = float(values.min()), float(values.max())
    if high - low <= 4 * float(np.finfo(np.float32).eps) * max(abs(low), abs(high), 1.0):
        return high
    # float64: 256 edges between two close float32 values are not 256 different float32 values.
    counts, edges = np.histogram(values.astype(np.float64), bins=OTSU_BINS, range=(low, high))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = values.size - below
    sums = np.cumsum(counts * centres)
    difference = sums[:-1] / below - (sums[-1] - sums[:-1]) / above
    # The first bin holds the minimum and the last one the maximum, so no class is empty. Between two
    # separated classes the variance is flat; its middle is the threshold with the widest margin.
    variance = below * above * difference**2
    best = np.flatnonzero(variance >= variance.max() * (1 - 1e-12))
    return float(edges[1:-1][best].mean())


def label(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Number the regions of a mask (H, W): labels (H, W), 0 outside and 1..count inside, and the count.

    Regions are numbered in the order of their first pixel, row by row. Rows are cut into runs, runs that
    touch in consecutive rows become edges of a graph, and the graph is contracted by hooking every root
    onto its smallest neighbour.
    """
    labels = np.zeros(mask.shape, np.int32)
    height, width = mask.shape
    # Two empty columns a row: in flat positions, runs of one row then never touch those of the next.
    stride = width + 2
    padded = np.zeros((height, stride), np.int8)
    padded[:, 1:-1] = mask
    steps = np.diff(padded.ravel(), prepend=np.int8(0))
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    # Run j touches the runs of the row above that end at its start - 1 or later and start by its end.
    first = np.searchsorted(ends, starts - stride, side="left")
    last = np.searchsorted(starts, ends - stride, side="right")
    touching = np.maximum(last - first, 0)
    lower = np.repeat(np.arange(len(starts)), touching)
    upper = np.arange(len(lower)) - np.repeat(np.cumsum(touching) - touching - first, touching)

    root = np.arange(len(starts))
    while True:
        a, b = root[lower], root[upper]
        open_edges = a != b
        if not open_edges.any():
            break
        np.minimum.at(root, np.maximum(a, b)[open_edges], np.minimum(a, b)[open_edges])
        while not np.array_equal(root, higher := root[root]):
            root = higher
    roots, region = np.unique(root, return_inverse=True)
    labels[mask] = np.repeat(region + 1, ends - starts)
    return labels, len(roots)


def remove_specks(mask: Mask, min_area: int) -> Mask:
    """The mask (H, W) without its regions of fewer than `min_area` pixels."""
    labels, count = label(mask)
    keep = np.bincount(labels.ravel(), minlength=count + 1) >= min_area
    keep[0] = False
    return np.asarray(keep[labels])


def distance(mask: Mask, limit: float) -> FloatMap:
    """Exact Euclidean distance to the nearest True pixel, in pixels; infinite where it exceeds `limit`.

    float32 (H, W), 0 inside the mask. Cost grows with `limit` times the area around the mask.
    """
    out = np.full(mask.shape, np.inf, np.float32)
    if not mask.any():
        return out
    reach = int(limit)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = (
        slice(max(rows[0] - reach, 0), rows[-1] + reach + 1),
        slice(max(columns[0] - reach, 0), columns[-1] + reach + 1),
    )
    inside = mask[window]
    height, width = inside.shape

    # Along the rows: distance to the nearest True pixel on the left or on the right.
    position = np.arange(width, dtype=np.float32)
    left = np.maximum.accumulate(np.where(inside, position, -np.inf), axis=1, dtype=np.float32)
    right = np.minimum.accumulate(np.where(inside, position, np.inf)[:, ::-1], axis=1, dtype=np.float32)
    squared = np.minimum(position - left, right[:, ::-1] - position) ** 2
    # Across the rows: the lower envelope of the parabolas, as far as the limit reaches.
    best = squared.copy()
    for offset in range(1, min(reach, height - 1) + 1):
        shifted = squared + np.float32(offset * offset)
        np.minimum(best[offset:], shifted[:-offset], out=best[offset:])
        np.minimum(best[:-offset], shifted[offset:], out=best[:-offset])
    best[best > limit * limit] = np.inf
    out[window] = np.sqrt(best)
    return out


def grow(mask: Mask, px: float) -> Mask:
    """The mask (H, W) and every pixel within `px` pixels of it (dilation by a disc)."""
    return np.isfinite(distance(mask, px))


def feather(mask: Mask, px: float) -> FloatMap:
    """Weight float32 (H, W) for pasting: 1 inside the mask, falling smoothly to exactly 0 at `px` pixels.

    What is mixed as weight * new + (1 - weight) * old leaves every pixel `px` or farther away untouched.
    """
    if px <= 1:  # the nearest pixel outside is at distance 1
        return mask.astype(np.float32)
    nearness = np.clip(1 - distance(mask, px) / np.float32(px), 0, 1)
    return np.asarray(nearness * nearness * (3 - 2 * nearness), np.float32)


def boxes(mask: Mask) -> list[Box]:
    """Bounding boxes of the regions, from top to bottom; boxes that overlap or touch are merged."""
    found = _region_boxes(mask)
    while True:
        # Merging needs only the order of the sides: a grid of their distinct values is far smaller than
        # the picture, and keeps who touches whom.
        xs, columns = np.unique(found[:, 0::2], return_inverse=True)
        ys, rows = np.unique(found[:, 1::2], return_inverse=True)
        merged = _region_boxes(_paint(columns.reshape(-1, 2), rows.reshape(-1, 2)))
        merged = np.stack([xs[merged[:, 0]], ys[merged[:, 1]], xs[merged[:, 2]], ys[merged[:, 3]]], axis=1)
        if len(merged) == len(found):
            return [(int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in merged]
        found = merged


def _region_boxes(mask: Mask) -> NDArray[np.intp]:
    """(count, 4): x0, y0, x1, y1 of every region, in the order of their labels."""
    labels, count = label(mask)
    y, x = np.nonzero(mask)
    region = labels[mask] - 1
    x0, y0 = np.full((2, count), max(mask.shape))
    x1, y1 = np.zeros((2, count), np.intp)
    np.minimum.at(x0, region, x)
    np.minimum.at(y0, region, y)
    np.maximum.at(x1, region, x + 1)
    np.maximum.at(y1, region, y + 1)
    return np.stack([x0, y0, x1, y1], axis=1)


def _paint(columns: NDArray[np.intp], rows: NDArray[np.intp]) -> Mask:
    """Cells that lie in a box, given as column and row ranges (count, 2): a summed-area table of corners."""
    corners = np.zeros((rows.max(initial=0) + 1, columns.max(initial=0) + 1), np.int32)
    for i in (0, 1):
        for j in (0, 1):
            np.add.at(corners, (rows[:, i], columns[:, j]), 1 if i == j else -1)
    return np.asarray(corners.cumsum(axis=0).cumsum(axis=1) > 0)


def to_latent(mask: Mask | FloatMap, size: tuple[int, int]) -> FloatMap:
    """The mask at latent size (h, w): nearest, then cut at 0.5, float32 0 or 1 (SDXL-Inpainting's way).

    Nearest takes the source pixel floor(i * H / h), so a cell is decided by its upper left pixel: grow
    the mask by a cell first where no masked pixel may be lost.
    """
    height, width = mask.shape
    rows = np.arange(size[0]) * height // size[0]
    columns = np.arange(size[1]) * width // size[1]
    return (mask[np.ix_(rows, columns)] >= 0.5).astype(np.float32)
