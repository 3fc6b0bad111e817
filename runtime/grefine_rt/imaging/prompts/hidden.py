"""Text in the lowest bits of a picture's samples ("stealth pnginfo"), as NovelAI and plug-ins of web UIs write it.

Pixels go column by column, from the top left. A bit comes from the alpha of each pixel (`stealth_pnginfo`,
`stealth_pngcomp`), or three from its red, green and blue (`stealth_rgbinfo`, `stealth_rgbcomp`). In this order they
are the signature of 15 bytes; the length of the text in bits, as 32 bits, the highest first; the text in UTF-8, with
`comp` as gzip.
"""

import zlib

import numpy as np
from PIL import Image

from grefine_rt.imaging.prompts.found import MAX_FIELD

_SIGNATURE_BITS, _LENGTH_BITS = 15 * 8, 32
_FORMATS = (None, "PNG", "WEBP", "TIFF", "BMP", "TGA", "QOI")
"""Pillow's names of formats that can keep the lowest bits; None is a picture from memory."""


def hidden_text(image: Image.Image) -> str:
    """The text in a loaded picture, turned as it is in its file; "" where there is none.

    At most `MAX_FIELD` bytes are read, and as many made of them.
    """
    if image.format not in _FORMATS or image.mode not in ("RGB", "RGBA"):
        return ""
    for kind, channels in (("png", slice(3, 4)), ("rgb", slice(0, 3))):
        if image.mode == "RGB" and kind == "png":
            continue
        head = _bytes(image, channels, 0, _SIGNATURE_BITS + _LENGTH_BITS)
        signature, bits = head[:15], int.from_bytes(head[15:], "big")
        compressed = signature == f"stealth_{kind}comp".encode()
        if not compressed and signature != f"stealth_{kind}info".encode():
            continue
        if not 0 < bits <= 8 * MAX_FIELD:
            return ""
        data = _bytes(image, channels, _SIGNATURE_BITS + _LENGTH_BITS, bits // 8 * 8)
        return _unpacked(data) if compressed else data.decode("utf-8", "replace")
    return ""


def _bytes(image: Image.Image, channels: slice, start: int, bits: int) -> bytes:
    """So many bits from `start` on as bytes; b"" where the picture has fewer."""
    each = channels.stop - channels.start
    columns = -(-(start + bits) // (each * image.height))
    if columns > image.width:
        return b""
    samples = np.asarray(image.crop((0, 0, columns, image.height)))[..., channels]
    stream = samples.transpose(1, 0, 2).reshape(-1)[start : start + bits] & 1
    return np.packbits(stream).tobytes()


def _unpacked(data: bytes) -> str:
    try:
        text = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, MAX_FIELD + 1)
    except zlib.error:
        return ""
    return text.decode("utf-8", "replace") if len(text) <= MAX_FIELD else ""
