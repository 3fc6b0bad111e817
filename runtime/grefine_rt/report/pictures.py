"""Pictures, maps and masks of the report, as data URIs."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grefine_rt.arrays import Mask, Rgb
from grefine_rt.imaging import heatmap
from grefine_rt.imaging.mask import grow

MAX_SIDE = 1024
"""Pictures are shown at this many pixels a side at most."""
MAX_PICTURE_BYTES = 700_000
"""The most bytes of one picture in the report; JPEG quality is lowered until it fits."""
MAP_SIDE = 192
"""Maps are smooth: they are stored at this size and enlarged by the browser."""

_MASK_COLOUR = (0, 214, 224)


def opaque(image: Image.Image | Rgb) -> Image.Image:
    """RGB over white, at most MAX_SIDE a side."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    picture = picture.convert("RGB")
    picture.thumbnail((MAX_SIDE, MAX_SIDE))
    return picture


def picture_uri(image: Image.Image) -> str:
    """Small pictures as PNG, exactly; larger ones as JPEG, as good as fits."""
    if image.width * image.height <= 256 * 256:
        return png_uri(np.asarray(image))
    for quality in (92, 85, 75, 60, 40):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MAX_PICTURE_BYTES:
            break
    return _data_uri(buffer.getvalue(), "jpeg")


def map_uri(values: NDArray[np.floating]) -> str:
    """The colours of the map; calm parts let the picture through."""
    image = Image.fromarray(heatmap.indices(values))
    image.thumbnail((MAP_SIDE, MAP_SIDE), Image.Resampling.BOX)
    image.putpalette(heatmap.scale().tobytes())
    opacities = np.linspace(110, 255, 256).astype(np.uint8).tobytes()
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, transparency=opacities)
    return _data_uri(buffer.getvalue(), "png")


def mask_uri(mask: Mask) -> str:
    """A tint inside and a firm line around the mask, transparent elsewhere."""
    image = Image.fromarray(mask.astype(np.uint8) * 255)
    # Enlarged first where it is small, so that the line is thin on the screen.
    factor = 512 / max(image.size)
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    inside = np.asarray(image.resize(size, Image.Resampling.BILINEAR)) >= 128
    rgba = np.zeros((*inside.shape, 4), np.uint8)
    rgba[..., :3] = _MASK_COLOUR
    rgba[..., 3] = np.where(inside, 40, np.where(grow(inside, 3), 255, 0))
    return png_uri(rgba)


def png_uri(array: Rgb) -> str:
    return _data_uri(heatmap.png_bytes(array), "png")


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
