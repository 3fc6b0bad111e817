"""ComfyUI's tensors as arrays and back: IMAGE is float (B, H, W, C) in [0, 1], MASK float (B, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grefine_rt import OptionError

Array = NDArray[Any]


def array_of(tensor: Any) -> NDArray[np.float32]:
    """A tensor of any device and type as a float32 array; where it is no number 0, elsewhere clipped to [0, 1]."""
    values = tensor.detach().cpu().float().numpy()
    return np.clip(np.nan_to_num(values, nan=0.0), 0, 1)


def pictures(image: Any) -> list[Array]:
    """An IMAGE as uint8 (H, W, C), one for each picture of the batch. Raises OptionError for another shape."""
    if image.ndim != 4:
        raise OptionError(f"An IMAGE has the shape (B, H, W, C), not {tuple(image.shape)}.")
    return [to_uint8(values) for values in array_of(image)]


def to_uint8(values: Array) -> Array:
    """Values in [0, 1] as uint8."""
    return np.rint(values * 255).astype(np.uint8)


def image_tensor(arrays: Sequence[Array], like: Any = None) -> Any:
    """Arrays uint8 (H, W, C) of one size as an IMAGE. Where one equals the picture of `like`, an IMAGE of that shape,
    that picture's own values are kept, so that what was not changed does not move to the grid of 8 bits either."""
    import torch

    values = np.stack(arrays).astype(np.float32) / 255
    if like is not None and tuple(like.shape) == values.shape:
        given = array_of(like)
        values = np.where(to_uint8(given) == np.stack(arrays), given, values)
    return torch.from_numpy(values)


def mask_tensor(masks: Sequence[Array]) -> Any:
    """Masks bool (H, W) of one size as a MASK."""
    import torch

    return torch.from_numpy(np.stack(masks).astype(np.float32))


def masks(mask: Any, count: int, size: tuple[int, int], name: str) -> list[Array | None]:
    """A MASK, or None, as float32 (H, W) for each of `count` pictures of size (H, W).

    One mask serves all pictures. A mask of another size is resized, as ComfyUI's own nodes do; if it is also empty, it
    is what LoadImage gives for a picture without alpha, and says nothing: None. Raises OptionError for another number.
    """
    if mask is None:
        return [None] * count
    given = array_of(mask)
    given = given.reshape(-1, *given.shape[-2:])
    if len(given) not in (1, count):
        raise OptionError(
            f"The {name} has {len(given)} masks for {count} pictures: give one, or one for each."
        )
    fitted = [_fitted(each, size) for each in given]
    return fitted * count if len(fitted) == 1 else fitted


def _fitted(mask: Array, size: tuple[int, int]) -> Array | None:
    if mask.shape == size:
        return mask
    if not mask.any():
        return None
    resized = Image.fromarray(mask).resize(size[::-1], Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized), 0, 1)
