"""The places of a picture that a call may change, as its caller says: only here, never there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from grefine_rt.arrays import FloatMap, Mask, Rgb
from grefine_rt.imaging.mask import feather
from grefine_rt.imaging.mask_source import MaskSource, as_mask
from grefine_rt.plan.change import with_mask
from grefine_rt.plan.plan import RefinePlan

RIM = 4.0
"""Pixels within the limits over which a change fades in."""


@dataclass(frozen=True, eq=False)
class Limits:
    """The user's own regions. mask: bool (H, W), the pixels that stage 1 redraws, whatever the indicators found;
    nothing beyond it changes. None leaves them to the plan. protect: bool (H, W), pixels that every stage leaves, or
    None."""

    mask: Mask | None = None
    protect: Mask | None = None

    def plan(self, plan: RefinePlan) -> RefinePlan:
        """The plan within these limits."""
        mask = plan.mask if self.mask is None else self.mask
        if self.protect is not None:
            mask = mask & ~self.protect
        if self.mask is None and (mask == plan.mask).all():
            return plan
        limited = with_mask(plan, mask)
        if self.mask is not None:
            return limited
        # As long as the plan says where to draw, looking again after stage 2 and judging what is drawn is its business.
        return replace(
            limited, restore_first=plan.restore_first, restored=plan.restored, by_hand=plan.by_hand
        )

    def weight(self, shape: tuple[int, ...]) -> FloatMap | None:
        """The share of a change that a pixel takes, float32 (H, W): exactly 0 outside the limits, 1 from `RIM` pixels
        within them on. None where all may change."""
        if self.mask is None and self.protect is None:
            return None
        closed = np.zeros(shape[:2], np.bool_) if self.mask is None else ~self.mask
        if self.protect is not None:
            closed = closed | self.protect
        return np.asarray(1 - feather(closed, RIM), np.float32)


def limits_of(mask: MaskSource | None, protect: MaskSource | None, shape: tuple[int, ...]) -> Limits:
    """Limits for a picture (H, W, 3), from masks as `as_mask` takes them. Raises OptionError and ImageError."""
    only = None if mask is None else as_mask(mask, shape)
    return Limits(only, None if protect is None else as_mask(protect, shape, "mask of what is protected"))


def within(before: Rgb, after: Rgb, weight: FloatMap | None) -> Rgb:
    """`after` as far as a picture uint8 (H, W, 3) may change; where `weight` is 0 every bit is of `before`."""
    if weight is None or after is before:
        return after
    share = weight[..., None]
    mixed = np.rint(before + share * (after.astype(np.float32) - before)).astype(np.uint8)
    return np.where(share == 0, before, np.where(share == 1, after, mixed))
