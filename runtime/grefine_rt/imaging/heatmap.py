"""Maps as colours: a colour scale of our own, overlays, legends, PNG bytes.

Heat means work: 0 is dark and calm, 1 is bright and hot. For a quality map (1 = good) colour 1 - map.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grefine_rt.arrays import Rgb

# Night blue, violet, red, orange, pale yellow. Lightness rises evenly along the scale, so it reads the same
# to colour-blind people and in grey print; blue to yellow is the axis that red-green blindness leaves.
ANCHORS = np.array(
    [
        (0.00, 13, 14, 48),
        (0.20, 62, 20, 108),
        (0.40, 140, 35, 118),
        (0.60, 213, 67, 83),
        (0.80, 249, 140, 54),
        (1.00, 252, 240, 165),
    ]
)


def scale(entries: int = 256) -> Rgb:
    """The colour scale as uint8 (entries, 3), from 0 to 1."""
    at = np.linspace(0, 1, entries)
    colours = [np.interp(at, ANCHORS[:, 0], ANCHORS[:, 1 + channel]) for channel in range(3)]
    return np.asarray(np.rint(np.stack(colours, axis=1)), np.uint8)


def indices(values: NDArray[np.floating]) -> Rgb:
    """A map (H, W) in [0, 1] as indices 0..255 into the scale; other values are clipped, NaN is 0."""
    return np.asarray(np.rint(np.clip(np.nan_to_num(values), 0, 1) * 255), np.uint8)


def colourise(values: NDArray[np.floating]) -> Rgb:
    """A map (H, W) in [0, 1] as RGB uint8 (H, W, 3)."""
    return scale()[indices(values)]


def overlay(rgb: Rgb, values: NDArray[np.floating], opacity: float = 0.6) -> Rgb:
    """A map (H, W) in [0, 1] laid over a picture uint8 (H, W, 3) of the same size, `opacity` in [0, 1]."""
    mixed = rgb * (1 - opacity) + colourise(values) * opacity
    return np.asarray(np.rint(mixed), np.uint8)


def legend(width: int = 256, height: int = 12) -> Rgb:
    """The scale from left (0) to right (1) as RGB uint8 (height, width, 3)."""
    return np.repeat(scale(width)[None], height, axis=0)


def png_bytes(array: Rgb) -> bytes:
    """uint8 (H, W), (H, W, 3) or (H, W, 4) as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
