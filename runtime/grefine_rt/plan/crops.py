"""Crops: the windows that stage 1 works on, which spare it a whole picture for a small region.

Pure functions. A picture that is worked on as a whole is enlarged or reduced by some scale to its work size. A crop
is worked on at the same scale, so that things have the size in it that the model would have given them in the whole
picture, and a crop of half the sides costs a quarter. It shows some context around its regions, and no side of it is
below the smallest that the model draws well on. A crop that would be smaller is first drawn finer, up to the
picture's own pixels, and then shows more context: at the same cost, and never beyond what the picture resolves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

from grefine_rt.arrays import Box, Size
from grefine_rt.contract import LATENT_SCALE
from grefine_rt.imaging.image import work_size

Cost = Callable[[Size], float]
"""The cost of working at a size, in any unit."""

MAX_REGIONS = 32
"""The most pieces of a mask with crops; with more the whole picture is redrawn, and pairs of pieces stay few."""
SIDES = 8
"""Sides of crops are multiples of this part of the resolution, so that engines meet few sizes."""


@dataclass(frozen=True)
class Crop:
    """A part of the picture that stage 1 works on.

    box: its area, in pixels of the picture. size: (width, height) at which it is worked on. regions: the boxes of
    the mask that it is for; other masked pixels in it stay as they are.
    """

    box: Box
    size: Size
    regions: tuple[Box, ...]

    def size_ids(self, picture: Size) -> tuple[int, int, int, int]:
        """(height, width, top, left) at the crop's scale: of the `picture` (width, height) and of the crop in it."""
        x0, y0, x1, y1 = self.box
        across, down = self.size[0] / (x1 - x0), self.size[1] / (y1 - y0)
        return round(picture[1] * down), round(picture[0] * across), round(y0 * down), round(x0 * across)


@dataclass(frozen=True)
class Frame:
    """The properties that crops of one picture share.

    picture: its size in pixels. resolution, multiple: of the model, see `work_size`. smallest: pixels at work
    resolution below which no side of a crop falls. context: pixels at work resolution that a crop shows around its
    regions, 0 or more.
    """

    picture: Size
    resolution: int
    multiple: int
    smallest: int
    context: float

    @property
    def size(self) -> Size:
        """The work size of the whole picture."""
        return work_size(*self.picture, self.resolution, self.multiple)

    def whole_crop(self, regions: Sequence[Box]) -> Crop:
        """The whole picture as one crop."""
        return Crop((0, 0, *self.picture), self.size, tuple(regions))


def choose_crops(boxes: Sequence[Box], frame: Frame, cost: Cost) -> tuple[Crop, ...]:
    """The crops for `boxes` (x0, y0, x1, y1) in pixels, disjoint, that cost least, found greedily.

    Each box gets a crop; then the two crops that save most as one are merged, as long as that saves. The whole picture
    is one crop when that costs no more. Every box lies in the crop of its regions; without boxes there are no crops.
    """
    if not boxes:
        return ()
    whole = frame.whole_crop(boxes)
    if len(boxes) > MAX_REGIONS:
        return (whole,)
    price = cache(cost)
    crops = [crop_around([box], frame) for box in boxes]
    while len(crops) > 1:
        merged = {
            (one, other): crop_around([*one.regions, *other.regions], frame)
            for one, other in combinations(crops, 2)
        }
        saved = {
            pair: price(pair[0].size) + price(pair[1].size) - price(crop.size)
            for pair, crop in merged.items()
        }
        best = max(saved, key=saved.__getitem__)
        if saved[best] < 0:
            break
        crops = [crop for crop in crops if crop not in best] + [merged[best]]
    if sum(price(crop.size) for crop in crops) >= price(whole.size):
        return (whole,)
    return tuple(crops)


def crop_around(regions: Sequence[Box], frame: Frame) -> Crop:
    """The crop of a picture for `regions`, by the rules above."""
    lows = [min(box[axis] for box in regions) for axis in (0, 1)]
    highs = [max(box[axis + 2] for box in regions) for axis in (0, 1)]
    scales = [side / pixels for side, pixels in zip(frame.size, frame.picture, strict=True)]
    needed = [
        (high - low) * scale + 2 * frame.context for low, high, scale in zip(lows, highs, scales, strict=True)
    ]
    finer = max(min(frame.smallest / max(needed), 1 / max(scales)), 1.0)
    spans = [
        _span(low, high, pixels, side, scale, finer, frame)
        for low, high, pixels, side, scale in zip(lows, highs, frame.picture, frame.size, scales, strict=True)
    ]
    (x0, x1, width), (y0, y1, height) = spans
    return Crop((x0, y0, x1, y1), (width, height), tuple(regions))


def _span(
    low: int, high: int, pixels: int, side: int, scale: float, finer: float, frame: Frame
) -> tuple[int, int, int]:
    """First and last pixel of the crop along one axis, and its work side; `side` is that of the whole picture."""
    step = -(-frame.resolution // SIDES // frame.multiple) * frame.multiple
    scale, side_here = scale * finer, side * finer
    # The box is placed on whole latent cells: up to half a cell may be lost on either side of it.
    around = max(frame.context * finer, LATENT_SCALE)
    work = math.ceil(max((high - low) * scale + 2 * around, frame.smallest) / step) * step
    if work >= side_here:
        # The whole side of the picture, at a size that the model takes.
        return 0, pixels, max(round(side_here / frame.multiple), 1) * frame.multiple
    start = round(((low + high) * scale - work) / 2 / LATENT_SCALE) * LATENT_SCALE
    start = min(max(start, 0), math.floor(side_here) - work)
    return min(round(start / scale), low), max(round((start + work) / scale), high), work
