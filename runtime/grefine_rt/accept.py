"""What of a stage's change is kept: region by region, only where it helped and nothing sound was lost.

Ours; the paper keeps all that its stages make. A stage gives a candidate picture. Its change is cut into regions, the
components of the mask (stage 1) or of the visible difference (stage 2), and each region is judged by what the
indicators say of the picture and of the candidate. A region is refused where

- nothing is wrong: P is sound in it, and no phrase that was missed is shown better;
- nothing became better: P in it did not rise, nor did p;
- a phrase that was shown is not any more, or a thing that was seen in the region is gone from it;
- places in it or beyond it that were sound lost more of P than a tolerance;
- it became softer than it was and than its surroundings are.

A refused region goes back to the pixels of before. P below its bound says that a place is poor, but little of how poor
(measured: noise that is taken away halves the error and may leave P where it was), so falls of P count where it was
sound. All functions are pure. Maps are compared on a grid of at most `GRID` cells a side; indicators see no finer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from grefine_rt.arrays import FloatMap, Mask, Rgb
from grefine_rt.assess.alignment import PLACE, PhraseScore
from grefine_rt.assess.indicator import Assessment
from grefine_rt.assess.perceptual import upsample
from grefine_rt.imaging.image import resize, to_float
from grefine_rt.imaging.mask import grow, label
from grefine_rt.imaging.paste import paste_region

Labels = NDArray[np.int32]
Why = Literal["sound", "unseen", "no gain", "phrase", "thing", "inside", "around", "soft"]

GRID = 64
"""Cells along the longer side of the grid on which pictures are compared."""
VISIBLE = 4 / 255
"""Mean change of a cell, of the channel that changes most, above which a change counts as visible."""
GAIN = 0.01
"""A smaller rise of P, or of a phrase's score, is chance."""
LOWER = 1e-6
"""A fall of p or a below this is rounding."""
SOUND = 0.9
"""At this P and above it a place is sound, whatever bound a bundle sets for whole pictures."""
FLAT = 1e-4
"""Mean squared gradients closer than this are equal: those of a plain sky."""
SOFTEST = 0.7
"""Share of the sharpness of before, or of the surroundings, that a region must keep."""
GONE = 0.5
"""Share of a noun's map that must be left where the noun was seen."""
RING = 3
"""Cells around a region whose sharpness it is compared with."""


@dataclass(frozen=True, eq=False)
class Look:
    """A picture as it is compared with another one. h and w are the sides of the grid.

    score: p, or the factor of it that counts, in [0, 1]. quality: its map, float32 (h, w) in [0, 1]. sharpness: mean
    squared gradient of the light without what noise adds, float32 (h, w), 0 or more. phrases: with scores and maps.
    reach: cells of the grid to one of the indicator, rounded up: so far P tells of its neighbours too.
    """

    score: float
    quality: FloatMap
    sharpness: FloatMap
    phrases: tuple[PhraseScore, ...]
    reach: int = 1


@dataclass(frozen=True)
class Verdict:
    """Whether the change in one region is kept. region: its label, from 1. why: None where it is kept. phrase: the text
    of the phrase that a refusal is about, else empty."""

    region: int
    why: Why | None
    phrase: str = ""


def grid_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """(h, w) of the grid on which pictures (H, W) are compared."""
    longest = max(shape[:2])
    height, width = (max(round(side * min(GRID / longest, 1)), 1) for side in shape[:2])
    return height, width


def look(rgb: Rgb, seen: Assessment, tokens: int, factor: str = "perceptual") -> Look:
    """A picture uint8 (H, W, 3) and its assessment, whose maps may have any size. tokens: cells of P along a side.
    factor: "perceptual" for P, or the name of one of its factors."""
    grid = grid_of(rgb.shape)
    score, quality = seen.perceptual, seen.perceptual_map
    if factor != "perceptual":
        score, quality = seen.factors[factor], seen.factor_maps[factor]
    return Look(score, reduced(quality, grid), sharpness(rgb, grid), seen.phrases, -(-max(grid) // tokens))


def reduced(values: FloatMap, grid: tuple[int, int]) -> FloatMap:
    """The means of a map (H, W) in the cells of a grid (h, w)."""
    return resize(values, (grid[1], grid[0]), "area")


def sharpness(rgb: Rgb, grid: tuple[int, int]) -> FloatMap:
    """Mean squared gradient of the light, less what noise adds to it, float32 (h, w), 0 or more.

    The noise is that of the flatter half of the picture, by a filter that edges and ramps leave at 0 (Immerkaer 1996).
    Without this a picture would have to stay noisy to count as sharp.
    """
    light = rgb[..., 0].astype(np.uint16) + rgb[..., 1] + rgb[..., 1] + rgb[..., 2]
    padded: FloatMap = np.pad(light.astype(np.float32) / np.float32(4 * 255), 1, mode="edge")
    across, down = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2, (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    # A quarter of the rows tells the noise as well as all of them.
    step = 4 if len(light) > 2 * GRID else 1
    rows = padded[:-2:step] - 2 * padded[1:-1:step] + padded[2::step]
    texture = np.abs(rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:])
    noise = float(np.median(texture)) / 0.6745 / 6
    return np.asarray(
        np.maximum(reduced((across**2 + down**2).astype(np.float32), grid) - np.float32(noise**2), 0),
        np.float32,
    )


def mask_regions(weight: FloatMap, grid: tuple[int, int]) -> tuple[Labels, int]:
    """The components of where stage 1 drew, `weight` float32 (H, W) above 0: labels int32 (h, w), and how many.

    Regions whose soft rims share a cell are one, so that each can be taken back without the other.
    """
    labels, count = label(reduced((weight > 0).astype(np.float32), grid) > 0)
    return labels, count


def visible_change(before: Rgb, after: Rgb, grid: tuple[int, int]) -> Mask:
    """Where a change can be seen, bool (h, w)."""
    change = np.maximum(after, before) - np.minimum(after, before)
    most = np.maximum(np.maximum(change[..., 0], change[..., 1]), change[..., 2])
    return reduced(most.astype(np.float32) / 255, grid) > VISIBLE


def changed_regions(visible: Mask, poor: Mask) -> tuple[Labels, int]:
    """The components of a `visible` change, bool (h, w), those that are `poor` apart from the others: labels int32
    (h, w) and how many."""
    wrong, count = label(visible & poor)
    sound, more = label(visible & ~poor)
    return np.where(sound > 0, sound + count, wrong), count + more


def judge(
    labels: Labels, count: int, before: Look, after: Look, tolerance: float, bound: float
) -> tuple[Verdict, ...]:
    """The verdict on each of the regions 1 to `count` of `labels` int32 (h, w).

    tolerance: by how much P of a sound place may fall, in [0, 1]. bound: at this and above it P is sound, in [0, 1].
    """
    changed = labels > 0
    sound, fall = before.quality >= bound, before.quality - after.quality
    # P of a cell beside a region tells of the region, too: what is beyond begins farther off.
    spoils = _mean(fall, sound & ~grow(changed, before.reach)) > tolerance
    things, gains = _things(before, after), _gains(before, after)
    blamed = _blamed(_lost_phrases(before.phrases, after.phrases), labels, count, before)
    verdicts = []
    for number in range(1, count + 1):
        region = labels == number
        gone = [thing.noun for thing in things if thing.is_gone(region)]
        shows = any(_mean(gain, region) > 0 for gain in gains)
        why: Why | None = None
        if blamed[number] or gone:
            why = "phrase" if blamed[number] else "thing"
        elif not shows and sound[region].all():
            why = "sound"
        elif not shows and fall[region].mean() >= 0 and after.score <= before.score:
            why = "no gain"
        # What is drawn for a phrase is another thing than was there: p tells whether it is as good.
        elif not shows and _mean(fall, region & sound) > tolerance:
            why = "inside"
        elif spoils:
            why = "around"
        elif _is_softer(region, changed, before, after):
            why = "soft"
        about = [before.phrases[index].text for index in blamed[number]] or gone
        verdicts.append(Verdict(number, why, about[0] if about else ""))
    return tuple(verdicts)


def _is_softer(region: Mask, changed: Mask, before: Look, after: Look) -> bool:
    # Damage has edges of its own: without surroundings nothing tells how sharp a region should be.
    sharp = min(_mean(before.sharpness, cells) for cells in (region, grow(region, RING) & ~changed))
    # Squared gradients: the share is squared too.
    return _mean(after.sharpness, region) < SOFTEST**2 * sharp - FLAT


def _mean(values: FloatMap, cells: Mask) -> float:
    return float(values[cells].mean()) if cells.any() else 0.0


def _lost_phrases(before: Sequence[PhraseScore], after: Sequence[PhraseScore]) -> list[int]:
    """Phrases that were fine and are not, and things that were found and are missing."""
    return [
        index
        for index, (old, new) in enumerate(zip(before, after, strict=True))
        if (old.defect is None and new.defect is not None) or (old.defect != "noun" and new.defect == "noun")
    ]


def _blamed(lost: Sequence[int], labels: Labels, count: int, before: Look) -> list[list[int]]:
    """For each region, 0 for none, the lost phrases that it is to blame for: those that were seen in it; where none was
    seen in any region, all of them."""
    blamed: list[list[int]] = [[] for _ in range(count + 1)]
    for index in lost:
        seen = _seen(before.phrases[index], labels.shape)
        held = [region for region in range(1, count + 1) if (seen & (labels == region)).any()]
        for region in held or range(1, count + 1):
            blamed[region].append(index)
    return blamed


def _seen(phrase: PhraseScore, grid: tuple[int, ...]) -> Mask:
    """Where a phrase's noun is seen, bool (h, w): nearer to the peak of its map than to the mean."""
    noun_map = upsample(phrase.noun_map, (grid[0], grid[1]))
    middle = (float(noun_map.max()) + float(noun_map.mean())) / 2
    return np.asarray(noun_map > middle)


@dataclass(frozen=True, eq=False)
class _Thing:
    """A thing of the prompt that was in the picture: where it was seen, bool (h, w), and its map before and after."""

    noun: str
    seen: Mask
    was: FloatMap
    now: FloatMap

    def is_gone(self, region: Mask) -> bool:
        """Whether a good part of it was seen in the region and is not there any more."""
        there = self.seen & region
        return bool(
            4 * there.sum() >= self.seen.sum() and _mean(self.now, there) < GONE * _mean(self.was, there)
        )


def _things(before: Look, after: Look) -> list[_Thing]:
    """What was found, without places, which have room for things."""
    grid = before.quality.shape[0], before.quality.shape[1]
    return [
        _Thing(old.noun, _seen(old, grid), upsample(old.noun_map, grid), upsample(new.noun_map, grid))
        for old, new in zip(before.phrases, after.phrases, strict=True)
        if old.known and old.defect != "noun" and old.noun_map.mean() < PLACE and np.ptp(old.noun_map) >= GAIN
    ]


def _gains(before: Look, after: Look) -> list[FloatMap]:
    """Of phrases that were missed and are shown better, how much more of them is where, (h, w)."""
    grid = before.quality.shape[0], before.quality.shape[1]
    return [
        upsample(new.map, grid) - upsample(old.map, grid)
        for old, new in zip(before.phrases, after.phrases, strict=True)
        if old.defect is not None and new.phrase_score > old.phrase_score + GAIN
    ]


@dataclass(frozen=True, eq=False)
class Accepted:
    """What is kept of a change.

    picture: uint8 (H, W, 3). cells: where it is the candidate, bool (h, w). share: of the area of all regions that is
    kept, in [0, 1]. verdicts: one a region.
    """

    picture: Rgb
    cells: Mask
    share: float
    verdicts: tuple[Verdict, ...]


def accept_drawing(
    before: Rgb, draft: Rgb, weight: FloatMap, old: Look, new: Look, tolerance: float, bound: float
) -> Accepted:
    """Stage 1: what is kept of a draft uint8 (H, W, 3), drawn where `weight` float32 (H, W) is above 0; `old` and `new`
    are the looks of the pictures, the numbers those of `judge`."""
    labels, count = mask_regions(weight, old.quality.shape)
    verdicts = tuple(
        # Stage 1 draws in a sound place only for what is missing.
        replace(verdict, why="unseen") if verdict.why == "sound" else verdict
        for verdict in judge(labels, count, old, new, tolerance, bound)
    )
    cells = _kept_cells(labels, verdicts)
    mask = enlarged_cells(cells, before.shape)
    # At the edge of a region both pictures are equal, so nothing has to be mixed.
    picture = np.where(mask[..., None], draft, before)
    return Accepted(picture, cells, _share(cells, labels > 0), verdicts)


def accept_restoration(
    before: Rgb, restored: Rgb, anew: FloatMap, old: Look, new: Look, tolerance: float, bound: float
) -> Accepted:
    """Stage 2: what is kept of a restored picture uint8 (H, W, 3), with soft edges; other arguments as above.

    Only poor places are changed, and what stage 1 drew `anew`, float32 (H, W) above 0, which is soft until now. Where
    no change can be seen the picture of before comes back bit for bit.
    """
    drawn = reduced((anew > 0).astype(np.float32), old.quality.shape) > 0
    # A drawn place counts as poor, as what is to be mended.
    old = replace(old, quality=np.where(drawn, np.float32(0), old.quality))
    visible = visible_change(before, restored, old.quality.shape)
    labels, count = changed_regions(visible, old.quality < bound)
    verdicts = judge(labels, count, old, new, tolerance, bound)
    cells = _kept_cells(labels, verdicts)
    picture = paste_region(before, to_float(restored), soft_weight(cells, before.shape))
    return Accepted(picture, cells, _share(cells, visible), verdicts)


def _kept_cells(labels: Labels, verdicts: Sequence[Verdict]) -> Mask:
    return np.isin(labels, [verdict.region for verdict in verdicts if verdict.why is None])


def enlarged_cells(cells: Mask, shape: tuple[int, ...]) -> Mask:
    """The pixels of cells (h, w), bool (H, W)."""
    return resize(cells.astype(np.float32), (shape[1], shape[0]), "nearest") > 0


def _share(kept: Mask, changed: Mask) -> float:
    return float(kept.sum() / max(changed.sum(), 1))


def soft_weight(cells: Mask, shape: tuple[int, ...]) -> FloatMap:
    """How far a pixel is kept, float32 (H, W) in [0, 1]: 1 inside the cells (h, w), exactly 0 two cells beyond."""
    return np.clip(resize(grow(cells, 1).astype(np.float32), (shape[1], shape[0]), "bilinear"), 0, 1)


_WORDS: dict[Why, str] = {
    "sound": "nothing is wrong there",
    "unseen": "what is missing does not show there",
    "no gain": "it would look no better",
    "phrase": "'{}' would be lost",
    "thing": "the {} that is there would be lost",
    "inside": "sound parts would look worse",
    "around": "what is beside it would suffer",
    "soft": "it would be softer than now",
}


def refusals(verdicts: Sequence[Verdict]) -> str:
    """Why regions are refused, each reason once, in words."""
    told = [_WORDS[verdict.why].format(verdict.phrase) for verdict in verdicts if verdict.why is not None]
    return ", ".join(dict.fromkeys(told))


def is_lower(after: Assessment, before: Assessment, quality: bool, matching: bool) -> bool:
    """Whether a score fell by `LOWER` or more, of p (`quality`) and a (`matching`) those that are looked at."""
    rises = [after.perceptual - before.perceptual] * quality + [after.alignment - before.alignment] * matching
    return min(rises) <= -LOWER


def mixed(before: Assessment, after: Assessment, cells: Mask) -> Assessment:
    """`before` with the maps of `after` in the `cells` (h, w): what a picture is like that nobody looked at."""
    share = cells.astype(np.float32)

    def mix(old: FloatMap, new: FloatMap) -> FloatMap:
        small = reduced(old, share.shape)
        return small + share * (reduced(new, share.shape) - small)

    return replace(
        before,
        perceptual_map=mix(before.perceptual_map, after.perceptual_map),
        factor_maps={name: mix(old, after.factor_maps[name]) for name, old in before.factor_maps.items()},
    )


def enlarged(seen: Assessment, shape: tuple[int, int]) -> Assessment:
    """An assessment with P and its factors at the size of the picture (H, W)."""

    def enlarge(values: FloatMap) -> FloatMap:
        return resize(values, (shape[1], shape[0]), "bilinear")

    return replace(
        seen,
        perceptual_map=enlarge(seen.perceptual_map),
        factor_maps={name: enlarge(values) for name, values in seen.factor_maps.items()},
    )
