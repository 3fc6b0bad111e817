"""The way back from a stage's work resolution to the picture, whose other pixels stay untouched."""

from __future__ import annotations

import numpy as np

from grefine_rt.arrays import Floats, Rgb
from grefine_rt.imaging.image import resize, to_float, to_uint8


def paste_region(rgb: Rgb, generated: Floats, weight: Floats) -> Rgb:
    """Stage 1: mixes the regenerated picture in where the mask is.

    `rgb` is uint8 (H, W, 3); `generated` float32 (h, w, 3) in [0, 1] at work size; `weight` float32 (H, W) in
    [0, 1], 1 inside the mask. Pixels of weight 0 come back bit for bit. Returns uint8 (H, W, 3).
    """
    rows, columns = np.flatnonzero(weight.any(axis=1)), np.flatnonzero(weight.any(axis=0))
    out = rgb.copy()
    if rows.size == 0:
        return out
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    old = to_float(rgb[window])
    share = weight[window][..., None]
    mixed = old + share * (_window(generated, rgb.shape, window) - old)
    out[window] = np.where(share > 0, to_uint8(mixed), rgb[window])
    return out


def add_difference(rgb: Rgb, before: Floats, after: Floats) -> Rgb:
    """Stage 2: adds the change that restoration made, so that detail finer than the work resolution stays.

    `rgb` is uint8 (H, W, 3), `before` the same picture at work size and `after` the restored one, both
    float32 (h, w, 3) in [0, 1]. At work size the result is `after` itself. Where nothing changed, pixels come
    back bit for bit. Returns uint8 (H, W, 3).
    """
    if before.shape == rgb.shape:
        return to_uint8(after)
    return to_uint8(to_float(rgb) + _at_size(after - before, rgb.shape))


def _window(image: Floats, shape: tuple[int, ...], window: tuple[slice, slice]) -> Floats:
    """A window of `image` at the size of `shape`; of a large picture most is never made."""
    if image.shape == shape:
        return image[window]
    rows, columns = window
    x0, x1 = (edge * image.shape[1] / shape[1] for edge in (columns.start, columns.stop))
    y0, y1 = (edge * image.shape[0] / shape[0] for edge in (rows.start, rows.stop))
    return resize(image, (columns.stop - columns.start, rows.stop - rows.start), box=(x0, y0, x1, y1))


def _at_size(image: Floats, shape: tuple[int, ...]) -> Floats:
    return image if image.shape == shape else resize(image, (shape[1], shape[0]))
