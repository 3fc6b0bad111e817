"""Colour: keep the tint of the picture where a diffusion model shifts it.

Pictures are float32 (H, W, 3), RGB in [0, 1]. Results are not clipped; `image.to_uint8` does that.
"""

import numpy as np

from grefine_rt.arrays import Floats, Mask
from grefine_rt.imaging.mask import grow, label

WAVELET_LEVELS = 5
STRIP_BYTES = 1 << 19
"""Blurs work on strips of about this size, so that they stay in a core's cache."""
RIM_LEVELS = 4
"""Blurs of `match_rim`: they look about a latent cell around. Fewer would bring the own detail of the rim in."""
RIM_MEAN = 0.05
"""Weight of the mean over the whole rim beside that of the rim nearby."""
RIM_SHIFT_LIMIT = 0.1
"""Largest shift of `match_rim` a channel; what differs by more at the rim is content, not tint."""


def wavelet_color_fix(
    output: Floats, reference: Floats, weight: Floats | None = None, levels: int = WAVELET_LEVELS
) -> Floats:
    """The high frequencies of `output` with the low frequencies of `reference`, as PASD ends its runs.

    weight: how far, (H, W) in [0, 1]; None is 1 everywhere.

    Low frequencies are the rest after `levels` blurs with [1 2 1] x [1 2 1] / 16 at dilations 1, 2, 4,
    ... with replicated borders. The blurs are linear, so output - low(output) + low(reference) is
    output + low(reference - output): one pyramid instead of two.
    """
    low = np.subtract(reference, output, dtype=np.float32)
    low = _blurred(low, levels)
    if weight is not None:
        low *= weight[..., None]
    low += output
    return low


def _blurred(values: Floats, levels: int) -> Floats:
    """[1 2 1] x [1 2 1] / 16 at dilations 1, 2, 4, ... of an image (H, W, C), borders replicated before each."""
    for axis in (0, 1):
        # The blurs of one axis commute with those of the other; strips that fit a cache make them cheap.
        strips = max(1, values.nbytes // STRIP_BYTES)
        values = np.concatenate(
            [_low_frequencies(part, levels, axis) for part in np.array_split(values, strips, axis=1 - axis)],
            axis=1 - axis,
        )
    return values


def _low_frequencies(values: Floats, levels: int, axis: int) -> Floats:
    """[1 2 1] / 4 along one axis at dilations 1, 2, 4, ..., borders replicated before each."""
    length = values.shape[axis]
    for level in range(levels):
        step = 2**level
        pad = [(0, 0)] * values.ndim
        pad[axis] = (step, step)
        padded = np.moveaxis(np.pad(values, pad, mode="edge"), axis, 0)
        sums = padded[:length] + padded[2 * step :]
        centre = padded[step : step + length]
        centre *= 2
        sums += centre
        sums *= np.float32(0.25)
        values = np.moveaxis(sums, 0, axis)
    return values


def match_rim(generated: Floats, original: Floats, mask: Mask, width: float) -> Floats:
    """Remove the tint of a regenerated region, measured on the rim OUTSIDE it.

    A regenerated picture shows the surroundings of the mask (H, W) too, and there it should equal the
    original. The difference original - generated on the rim, up to `width` pixels from the mask, is the tint of the
    model; it is added to region and rim alike: near the rim as it is nearby, deep inside as its mean over the
    rim of the region (regions whose rims meet share one), at most 0.1 a channel. The inside is never compared:
    a repair may look different. A region without a rim, as when the mask covers everything, stays as it is.
    """
    labels, count = label(grow(mask, width))
    rim = (labels > 0) & ~mask
    where = labels[rim]
    pixels = np.bincount(where, minlength=count + 1)
    difference = np.where(rim[..., None], original - generated, np.float32(0))
    shift = np.zeros((count + 1, 3), np.float32)
    for channel in range(3):
        sums = np.bincount(where, weights=difference[rim, channel], minlength=count + 1)
        shift[:, channel] = sums / np.maximum(pixels, 1)
    # A mean around each pixel, of the rim that is there and, with little weight, of the whole rim.
    share = rim[..., None].astype(np.float32)
    around = _blurred(np.concatenate([difference, share], axis=2), RIM_LEVELS)
    local = (around[..., :3] + RIM_MEAN * shift[labels]) / (around[..., 3:] + RIM_MEAN)
    local = np.where(labels[..., None] > 0, local, np.float32(0))
    return np.asarray(generated + np.clip(local, -RIM_SHIFT_LIMIT, RIM_SHIFT_LIMIT), np.float32)
