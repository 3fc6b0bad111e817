"""The plan of a refine call as data: the work of both stages, and its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from grefine_rt.arrays import Box, FloatMap, Mask
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.diffusion.solver import unet_calls
from grefine_rt.imaging.mask import feather
from grefine_rt.plan.crops import Crop
from grefine_rt.plan.options import Work
from grefine_rt.plan.settings import Settings

Judged = Literal["perceptual", "rationality"]

PLAN_SIDE = 1024
"""Masks of larger pictures are made on a grid of at most this side: the maps have no finer detail, and the
cost of growing and feathering rises with the third power of the side."""


class Drawn(NamedTuple):
    """The number of drawings of stage 1: sketches, and drafts with all steps."""

    sketches: int
    drafts: int

    @property
    def rounds(self) -> int:
        return self.sketches + self.drafts


@dataclass(frozen=True, eq=False)
class RefinePlan:
    """The work of a refine call, and the reason of each part. H and W are the picture's size in pixels.

    A plan is data: `plan.change.with_mask` and `dataclasses.replace` change it, `plan.costs.plan_costs` prices it.

    mask: bool (H, W), the pixels that stage 1 redraws.
    feather: width in pixels of the soft rim outside the mask; pixels beyond it stay bit-identical in stage 1.
    strength: of stage 1, in [0, 1]: the share of its steps that are run.
    prompt: with the weights of Eq. 7, as both stages read it. asked: as the user gave it.
    regenerate, restore: whether stage 1 and stage 2 run.
    restore_first: whether stage 2 will run before stage 1, too; the redraw is then planned anew, see
        `plan.make.replan`.
    restored: whether the plan is for a picture that stage 2 restored first.
    keep_good: whether the picture is given back as it is when stage 1 draws nothing and stage 2 lowers its p.
    by_hand: whether the mask was drawn by hand; stage 1's whole change is then kept.
    delta: strength of stage 2, in [0, 1].
    stage1_steps, stage2_steps: n1 and n2 of Eq. 10, of which strength and delta run a share.
    drafts, all_drafts: number of stage 1's drafts, at most or always; the best is kept.
    judged: the quality that drafts are judged by beside a: "perceptual" is p, "rationality" that factor of it alone.
    sketch_steps: steps of the sketches by which a draft is chosen, of which strength runs a share; 0 for none.
    work: the size at which stage 2 sees the picture, see `PlanOptions`.
    interval: first and last share of stage 1's UNet calls, between which they are guided.
    crops: the windows that stage 1 works on, one after the other; their regions together are the boxes. See
        `crops.Crop`.
    boxes: (x0, y0, x1, y1) of the regions of the mask in pixels, x1 and y1 exclusive.
    coverage: share of the picture inside the mask, in [0, 1].
    alignment_map: A of Eq. 6 as it was acted on, with the chosen readings, float32 (H, W) in [0, 1]; 0 everywhere
        without that indicator.
    defect_map: 1 - P + A of Eq. 9 with the chosen indicators, float32 (H, W) in [0, 2].
    reasons: one plain sentence for each region, defective phrase and decision.
    manifest: of the plan's bundle. settings: the switches that the plan was made with.
    texts: number of texts that the assessments read.
    """

    mask: Mask
    feather: float
    strength: float
    delta: float
    prompt: str
    asked: str
    regenerate: bool
    restore: bool
    restore_first: bool
    restored: bool
    keep_good: bool
    by_hand: bool
    stage1_steps: int
    stage2_steps: int
    drafts: int
    judged: Judged
    sketch_steps: int
    all_drafts: bool
    work: Work
    interval: tuple[float, float]
    crops: tuple[Crop, ...]
    boxes: tuple[Box, ...]
    coverage: float
    alignment_map: FloatMap
    defect_map: FloatMap
    reasons: tuple[str, ...]
    manifest: Manifest = field(repr=False)
    settings: Settings = field(repr=False)
    texts: int = field(repr=False)

    @property
    def sketches(self) -> bool:
        """Whether drafts are sketched first: several ones, with fewer UNet calls for it."""
        if self.drafts == 1 or self.sketch_steps == 0:
            return False
        calls = (unet_calls(steps, self.strength) for steps in (self.sketch_steps, self.stage1_steps))
        return 0 < next(calls) < next(calls)

    @property
    def judges(self) -> bool:
        """Whether the stages' changes are kept only in regions that they help, see `accept`."""
        return self.settings.accept == "regions"

    @property
    def restorations(self) -> int:
        """Runs of stage 2 in all, before and after stage 1."""
        return int(self.restore) + int(self.restore_first or self.restored)

    @property
    def most(self) -> Drawn:
        """The most that stage 1 draws."""
        if not self.regenerate:
            return Drawn(0, 0)
        return Drawn(self.drafts, 1) if self.sketches else Drawn(0, self.drafts)

    @property
    def cropped(self) -> bool:
        """Whether stage 1 works on less than the whole picture."""
        height, width = self.mask.shape
        return any(crop.box != (0, 0, width, height) for crop in self.crops)

    def weight(self, regions: Sequence[Box] | None = None) -> FloatMap:
        """The share of stage 1 that a pixel takes, float32 (H, W): 1 in the mask, exactly 0 beyond the feather.

        `regions`: only the mask inside these boxes counts.
        """
        mask = self.mask if regions is None else self.inside(regions)
        step = grid_step(mask.shape)
        rows, columns = (-(-side // step) * step for side in mask.shape)
        padded = np.zeros((rows, columns), dtype=np.bool_)
        padded[: mask.shape[0], : mask.shape[1]] = mask
        blocks = padded.reshape(rows // step, step, columns // step, step)
        coarse: Mask = np.asarray(blocks.any(axis=(1, 3)))
        return enlarge(feather(coarse, self.feather / step), step, mask.shape)

    def inside(self, regions: Sequence[Box]) -> Mask:
        """The mask inside some boxes, bool (H, W)."""
        mask = np.zeros_like(self.mask)
        for x0, y0, x1, y1 in regions:
            mask[y0:y1, x0:x1] = self.mask[y0:y1, x0:x1]
        return mask


def grid_step(shape: tuple[int, ...]) -> int:
    """Pixels along a cell of the grid on which the mask of a picture (H, W) is made."""
    return -(-max(shape) // PLAN_SIDE)


_Array = TypeVar("_Array", Mask, FloatMap)


def enlarge(coarse: _Array, step: int, shape: tuple[int, ...]) -> _Array:
    """Every cell becomes `step` x `step` pixels, cut to `shape`."""
    if step == 1:
        return coarse
    return coarse.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]
