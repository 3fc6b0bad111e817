"""Image files of every kind of source, opened by a list of formats; nothing is decoded yet."""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, UnidentifiedImageError

from grefine_rt.errors import ImageError
from grefine_rt.files import is_stream

MAX_BYTES = 2**29
"""Of an image file that comes through a pipe."""
# In the order in which they are tried. No EPS, whose reader starts Ghostscript, and nothing that needs another file.
# HEIF is there where an application has registered a reader.
_COMMON = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "PPM")
_READABLE = (
    *_COMMON,
    "TIFF",
    "AVIF",
    "HEIF",
    "JPEG2000",
    "MPO",
    "TGA",
    "ICO",
    "DIB",
    "DDS",
    "PCX",
    "PSD",
    "QOI",
    "SGI",
)


@contextmanager
def opened(source: Any, max_pixels: int) -> Iterator[tuple[BinaryIO, Image.Image, str]]:
    """The file of a source, the picture in it, not yet decoded, and what messages call it."""
    with _file_of(source) as (file, name):
        if not file.read(1):
            raise ImageError(f"{name} is empty; it holds no image.")
        file.seek(0)
        try:
            with warnings.catch_warnings():
                # The limit below says the same as Pillow's warning, and is an error.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = _open(file)
        except Image.DecompressionBombError:
            raise ImageError(too_large(name, max_pixels)) from None
        except UnidentifiedImageError:
            raise ImageError(
                f"{name} is not an image of a known format (PNG, JPEG, WebP, TIFF, ...)."
            ) from None
        except Exception as error:
            raise undecodable(name, error) from None
        with image:
            yield file, image, name


@contextmanager
def _file_of(source: Any) -> Iterator[tuple[BinaryIO, str]]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        yield io.BytesIO(source), "The image data"
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            if path.is_dir():
                raise ImageError(f'"{path}" is a folder; give the path of an image file.')
            file = path.open("rb")
        except FileNotFoundError:
            raise ImageError(f'There is no image "{path}"; check the path.') from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ImageError(f'The image "{path}" cannot be opened: {reason}.') from None
        with file:
            name = f'The file "{path.name}"'
            yield (io.BytesIO(_read(file, name)) if is_stream(path) else file), name
    elif hasattr(source, "read"):
        yield io.BytesIO(_read(source, "The image data")), "The image data"
    else:
        raise ImageError(
            "An image must be a path, bytes, an open binary file, a PIL image or an array, "
            f"not {type(source).__name__}."
        )


def _read(file: Any, name: str) -> bytes:
    """All of a file that has no size of its own. Raises ImageError where it does not end, or has no bytes."""
    try:
        data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        raise ImageError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    if not isinstance(data, bytes):
        raise ImageError(f"{name} must be bytes, not {type(data).__name__}: open the file in binary mode.")
    if len(data) > MAX_BYTES:
        raise ImageError(f"{name} has more than {MAX_BYTES >> 20} MiB, the limit for a stream.")
    return data


def _open(file: BinaryIO) -> Image.Image:
    try:
        Image.preinit()
        return Image.open(file, formats=[name for name in _COMMON if name in Image.OPEN])
    except UnidentifiedImageError:
        Image.init()
        file.seek(0)
        return Image.open(file, formats=[name for name in _READABLE if name in Image.OPEN])


def too_large(name: str, max_pixels: int) -> str:
    return f"{name} has more than {max_pixels / 1e6:g} million pixels, the limit; make it smaller first."


def undecodable(name: str, error: Exception) -> ImageError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return ImageError(f"{name} is damaged or incomplete and cannot be decoded ({reason}).")
