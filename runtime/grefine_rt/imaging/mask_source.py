"""Masks as people have them: arrays of any type, PIL pictures, files."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grefine_rt.arrays import Mask
from grefine_rt.errors import ImageError, OptionError
from grefine_rt.imaging.image import open_picture

MaskSource = NDArray[np.generic] | Image.Image | str | os.PathLike[str]


def as_mask(source: MaskSource, shape: tuple[int, ...], name: str = "mask") -> Mask:
    """A mask as bool (H, W), True where it is set.

    source: (H, W) or (H, W, 1 to 4): bool; integers, set from the middle of 0..255 or of 0..65535 on, or where not 0 if
    there is nothing but 0 and 1; floating point in [0, 1], set from 0.5 on. A PIL picture, or the path of one: white is
    set, black and transparent are not; one colour with a transparency is set where it is opaque. The brightest channel
    counts. shape: (H, W) of the picture, upright. name: what errors call the mask. Raises OptionError for another size
    or type, and ImageError for a file that cannot be read.
    """
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        source = open_picture(path)
    elif isinstance(source, (list, tuple)):
        try:
            source = np.asarray(source)
        except (TypeError, ValueError, OverflowError):
            raise OptionError(
                f"The {name} is a list that is no array: its rows must be of one length."
            ) from None
    if not isinstance(source, (np.ndarray, Image.Image)):
        raise OptionError(
            f"The {name} must be an array, a PIL picture or the path of one, not {type(source).__name__}."
        )
    array = _of_picture(source, name) if isinstance(source, Image.Image) else source
    if array.ndim not in (2, 3) or (array.ndim == 3 and not 1 <= array.shape[2] <= 4):
        raise OptionError(f"The {name} must be (H, W) or (H, W, 1 to 4), not {array.shape}.")
    if array.shape[:2] != tuple(shape[:2]):
        raise OptionError(
            f"The {name} has {array.shape[1]} x {array.shape[0]} pixels, but the picture has {shape[1]} x {shape[0]}."
        )
    set_ = _is_set(array, name)
    return set_ if set_.ndim == 2 else np.asarray(set_.any(axis=2))


def _of_picture(image: Image.Image, name: str) -> NDArray[np.generic]:
    try:
        if image.mode.startswith(("I", "F")) or image.mode == "1":
            return np.asarray(image)
        if not image.has_transparency_data:
            return np.asarray(image.convert("RGB"))
        rgba = np.asarray(image.convert("RGBA"))
    except Exception as error:  # Pillow's decoders raise whatever their parsers meet
        raise ImageError(f"The {name} cannot be decoded ({str(error)[:200]}).") from None
    alpha, colours = rgba[..., 3:], rgba[..., :3]
    visible = colours[alpha[..., 0] >= 128]
    if len(visible) and (visible == visible[0]).all() and (alpha < 128).any():
        return alpha
    return np.where(alpha >= 128, colours, np.uint8(0))


def _is_set(array: NDArray[np.generic], name: str) -> Mask:
    if array.dtype == np.bool_:
        return array.astype(np.bool_)
    if np.issubdtype(array.dtype, np.floating):
        values = array.astype(np.float64)
        if not ((values >= 0) & (values <= 1)).all():
            raise OptionError(f"The {name} has floating-point values; they must lie in [0, 1].")
        return np.asarray(values >= 0.5)
    if not np.issubdtype(array.dtype, np.integer):
        raise OptionError(
            f"The {name} has values of type {array.dtype}; use bool, integers, or floats in [0, 1]."
        )
    numbers = array.astype(np.float64)  # exact up to 2**53, and of one type
    if numbers.size and (numbers.min() < 0 or numbers.max() > 65535):
        raise OptionError(f"The {name} has integers beyond 0..65535.")
    highest = numbers.max(initial=0)
    if highest <= 1:
        return np.asarray(numbers > 0)
    # Pillow's 32-bit integers hold what files of 16 bits have.
    return np.asarray(numbers >= (32768 if array.dtype == np.uint16 or highest > 255 else 128))
