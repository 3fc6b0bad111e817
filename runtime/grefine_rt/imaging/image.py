"""Pictures in and out: reading whatever users have, sizes to work at, resizing, saving.

Inside the runtime a picture is RGB: uint8 (H, W, 3) at rest, float32 (H, W, 3) in [0, 1] in arithmetic.
"""

import math
import os
from dataclasses import dataclass, replace
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from grefine_rt.arrays import Floats, Rgb
from grefine_rt.errors import ImageError, OptionError
from grefine_rt.imaging import content_credentials
from grefine_rt.imaging.files_in import opened, too_large, undecodable
from grefine_rt.imaging.metadata import NONE, Metadata, metadata_of

Resampling = Literal["nearest", "area", "bilinear", "bicubic", "lanczos"]

MIN_SIDE = 16
"""Pixels; a smaller picture has nothing to assess."""
MAX_PIXELS = 100_000_000
"""Default limit of width times height, checked before any pixel is decoded (decompression bombs)."""
MAX_ASPECT = 4.0
"""Pictures more elongated than this are squeezed to it while they are worked on."""

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "area": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as the runtime sees it, and what is needed to give it back as it came.

    rgb: uint8 (H, W, 3), upright (EXIF orientation applied). Straight colour, not multiplied by alpha;
        wholly transparent pixels are white, so that colours nobody sees influence nothing.
    alpha: uint8 (H, W), or None for an opaque picture.
    hidden: uint8 (H, W, 3), the colours as read, given back under alpha 0; None where alpha is None.
    icc_profile: the embedded RGB colour profile, or None.
    name: what messages call the picture, as the start of a sentence: The file "cat.png", The array.
    notes: what was changed in reading, one sentence each, for people.
    metadata: what the file says beside its pixels.
    """

    rgb: Rgb
    alpha: Rgb | None = None
    hidden: Rgb | None = None
    icc_profile: bytes | None = None
    name: str = "The picture"
    notes: tuple[str, ...] = ()
    metadata: Metadata = NONE

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]

    def to_pil(self, rgb: Rgb | None = None) -> Image.Image:
        """`rgb` uint8 (H, W, 3), or the picture itself, as a PIL image with alpha and profile given back.

        Raises ImageError where `rgb` has another size.
        """
        rgb = self.rgb if rgb is None else rgb
        if rgb.shape != self.rgb.shape or rgb.dtype != np.uint8:
            raise ImageError(
                f"{self.name} needs a result of uint8 {self.rgb.shape}, not of {rgb.dtype} {rgb.shape}."
            )
        if self.alpha is None or self.hidden is None:
            image = Image.fromarray(rgb)
        else:
            rgb = np.where(self.alpha[..., None] == 0, self.hidden, rgb)
            image = Image.fromarray(np.dstack([rgb, self.alpha]))
        if self.icc_profile:
            image.info["icc_profile"] = self.icc_profile
        return image


Source = Picture | Image.Image | NDArray[np.generic] | str | os.PathLike[str] | bytes | BinaryIO
"""What `load` takes."""


def load(source: Source, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Read a PIL image, an array, a path, the bytes of an image file, or an open binary file; a Picture is one already.

    Arrays: (H, W), (H, W, 1), (H, W, 3), or with alpha (H, W, 2), (H, W, 4); uint8, uint16 (0..65535), or
    floating point in [0, 1]. Files: PNG, JPEG, WebP, TIFF, AVIF and a dozen others; of an animation or a file with
    pages the first.
    Grey becomes RGB, CMYK is converted, 16 bits are scaled to 8, EXIF orientation is applied.

    Raises ImageError (one sentence, with the file's name) when the source is missing, unreadable, not an
    image, truncated, smaller than 16 pixels on a side, or larger than `max_pixels` in all.
    """
    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        return _from_pil(source, "The picture", max_pixels)
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    with opened(source, max_pixels) as (file, image, name):
        picture = _from_pil(image, name, max_pixels)
        if content_credentials.present(file):
            picture = replace(picture, metadata=replace(picture.metadata, credentials=True))
        return picture


def open_picture(source: Source, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A file that `load` takes as an upright PIL image, in the mode it was written in. Raises ImageError as `load`."""
    with opened(source, max_pixels) as (_, image, name):
        _check_size(image.width, image.height, name, max_pixels)
        try:
            return ImageOps.exif_transpose(image)
        except Exception as error:
            raise undecodable(name, error) from None


def _from_pil(image: Image.Image, name: str, max_pixels: int) -> Picture:
    _check_size(image.width, image.height, name, max_pixels)
    notes = []
    # Pillow's decoders raise whatever their parsers meet: OSError, SyntaxError, struct.error, EOFError, ...
    try:
        wide = _sixteen_bit_colour(image)
        frames, frame = int(getattr(image, "n_frames", 1)), image.tell() + 1
        image.load()
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
        upright = ImageOps.exif_transpose(image)
        said = metadata_of(image, upright)
        deep = image.mode.startswith(("I", "F"))
        if not deep:
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        pixels = np.asarray(upright)
    except Exception as error:
        raise undecodable(name, error) from None
    if frames > 1:
        notes.append(f"Only frame {frame} of {frames} was used.")
    if turned:
        notes.append("Turned upright as its EXIF orientation says.")
    if image.mode not in ("RGB", "RGBA") or wide:
        kind = "RGB of 16 bits" if wide else _MODE_NAMES.get(image.mode, image.mode)
        notes.append(f"Converted from {kind} to RGB of 8 bits.")
    if deep:
        pixels = np.repeat(_eight_bits(_sixteen_bits(pixels, name), name)[..., None], 3, axis=2)
    profile = image.info.get("icc_profile")
    # A profile describes the colours of one mode; converted pixels no longer fit a grey or CMYK one.
    if not isinstance(profile, bytes) or profile[16:20] != b"RGB ":
        profile = None
    return replace(_picture(pixels, name, tuple(notes), profile), metadata=said)


def _sixteen_bit_colour(image: Image.Image) -> bool:
    """Whether a file that is not decoded yet has colours of 16 bits, of which Pillow keeps the upper 8."""
    # A decoder's tiles name the samples in the file, such as RGB;16B.
    return image.mode in ("RGB", "RGBA") and ";16" in repr(getattr(image, "tile", ""))


_MODE_NAMES = {
    "1": "black and white",
    "L": "greyscale",
    "LA": "greyscale with transparency",
    "P": "a palette",
    "PA": "a palette with transparency",
    "I": "32-bit greyscale",
    "I;16": "16-bit greyscale",
    "I;16B": "16-bit greyscale",
    "F": "floating-point greyscale",
    "RGBX": "RGB with padding",
}


def _from_array(array: NDArray[np.generic], max_pixels: int) -> Picture:
    name = "The array"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)):
        raise ImageError(f"An image array must be (H, W) or (H, W, 1 to 4), not {array.shape}.")
    _check_size(array.shape[1], array.shape[0], name, max_pixels)
    pixels = _eight_bits(array, name)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[2] <= 2:
        pixels = np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)
    return _picture(pixels, name, (), None)


def _picture(pixels: Rgb, name: str, notes: tuple[str, ...], profile: bytes | None) -> Picture:
    """From uint8 (H, W, 3 or 4), straight alpha."""
    rgb = np.array(pixels[..., :3])
    if pixels.shape[2] == 3 or (pixels[..., 3] == 255).all():
        return Picture(rgb, icc_profile=profile, name=name, notes=notes)
    alpha = np.array(pixels[..., 3])
    visible = np.where(alpha[..., None] == 0, np.uint8(255), rgb)
    return Picture(visible, alpha, rgb, profile, name, notes)


def _sixteen_bits(values: NDArray[np.generic], name: str) -> NDArray[np.generic]:
    """Pillow's 32-bit integers hold what decoders found in files of 16 bits."""
    if values.dtype != np.int32:
        return values
    wide = values.astype(np.int64)
    if wide.min() < 0 or wide.max() > 65535:
        raise ImageError(f"{name} has 32-bit samples; they must lie in 0..65535.")
    return wide.astype(np.uint16)


def _eight_bits(values: NDArray[np.generic], name: str) -> Rgb:
    """Samples of any accepted type as uint8; 16 bits are divided by 257, floats multiplied by 255."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8)
    if np.issubdtype(values.dtype, np.floating):
        samples = values.astype(np.float64)
        if not ((samples >= 0) & (samples <= 1)).all():
            raise ImageError(f"{name} has floating-point samples; they must lie in [0, 1].")
        return np.rint(samples * 255).astype(np.uint8)
    if values.dtype.newbyteorder("=") == np.uint16:
        return ((values.astype(np.int64) + 128) // 257).astype(np.uint8)
    raise ImageError(f"{name} has samples of type {values.dtype}; use uint8, uint16, or floats in [0, 1].")


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{name} has {width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed."
        )
    if width * height > max_pixels:
        raise ImageError(too_large(name, max_pixels))


def to_float(rgb: Rgb) -> Floats:
    """uint8 to float32 in [0, 1]."""
    return rgb.astype(np.float32) / np.float32(255)


def to_uint8(values: NDArray[np.floating]) -> Rgb:
    """Floats in [0, 1] to uint8, rounded; what lies outside is clipped."""
    return np.asarray(np.rint(np.clip(values, 0, 1) * 255), np.uint8)


def resize(
    values: Floats,
    size: tuple[int, int],
    method: Resampling = "bicubic",
    box: tuple[float, float, float, float] | None = None,
) -> Floats:
    """Resize float32 (H, W) or (H, W, C) to `size` = (width, height), antialiased as Pillow does.

    box: (x0, y0, x1, y1), the part of `values` that becomes the result, in its pixels; all of it when None. Not
    clipped: bicubic and lanczos may overshoot the range by a little. Returns a new array.
    """
    if method not in _FILTERS:
        raise OptionError(f'Unknown resampling "{method}"; choose one of {", ".join(_FILTERS)}.')
    if box is None and (values.shape[1], values.shape[0]) == tuple(size):
        return values.astype(np.float32)
    channels = values[..., None] if values.ndim == 2 else values
    out = np.empty((size[1], size[0], channels.shape[2]), np.float32)
    for index in range(channels.shape[2]):
        plane = Image.fromarray(np.ascontiguousarray(channels[..., index], np.float32))
        out[..., index] = np.asarray(plane.resize(size, _FILTERS[method], box))
    return out[..., 0] if values.ndim == 2 else out


def encoder_input(rgb: Rgb, resolution: int) -> Floats:
    """The whole picture, uint8 (H, W, 3), for an image encoder: float32 (1, 3, R, R), RGB in [0, 1].

    Bicubic over uint8 with Pillow's antialiasing, as CLIP's own preprocessing, but without centre crop.
    """
    image = Image.fromarray(rgb).resize((resolution, resolution), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(to_float(np.asarray(image)).transpose(2, 0, 1)[None])


def work_size(width: int, height: int, resolution: int, multiple: int) -> tuple[int, int]:
    """(width, height) at which a picture is worked on: multiples of `multiple`, area near resolution squared.

    The aspect is kept as far as the multiples allow, up to 4 : 1; longer pictures are squeezed to 4 : 1.
    A size that is already of this kind is returned as it is, so such pictures are never resampled.
    """
    area = resolution * resolution
    step = multiple / 2
    long, short = max(width, height), min(width, height)
    if (
        width % multiple == 0
        and height % multiple == 0
        and long - step <= MAX_ASPECT * (short + step)
        and abs(width * height - area) <= step * (width + height) + step * step
    ):
        return width, height
    root = math.sqrt(min(max(width / height, 1 / MAX_ASPECT), MAX_ASPECT))
    return _snapped(resolution * root, multiple), _snapped(resolution / root, multiple)


def native_size(width: int, height: int, resolution: int, multiple: int) -> tuple[int, int]:
    """(width, height) at which a picture is worked on in tiles, with all its detail: its own to the nearest multiples.

    Any aspect is kept. A picture whose area is below resolution squared gets its `work_size`.
    """
    if width * height <= resolution * resolution:
        return work_size(width, height, resolution, multiple)
    return _snapped(width, multiple), _snapped(height, multiple)


def _snapped(length: float, multiple: int) -> int:
    return max(multiple, math.floor(length / multiple + 0.5) * multiple)
