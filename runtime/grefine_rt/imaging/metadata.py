"""What a picture file says beside its pixels: read whole, given back whole, with one entry of our own.

Kept are the ICC profile (by `Picture`), EXIF without its orientation and thumbnail, XMP, PNG texts, IPTC blocks of a
JPEG, and the resolution. A manifest of content credentials (C2PA) is not kept, for a change makes it invalid.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from grefine_rt.imaging.prompts.exif import exif_text, user_comment
from grefine_rt.imaging.prompts.hidden import hidden_text
from grefine_rt.imaging.prompts.read import TextFields

MAX_TEXTS = 64 * 2**20
"""Characters of all text chunks that are kept."""

_XMP_KEYS = ("XML:com.adobe.xmp", "xmp")
# Pillow decodes these into `exif` and `icc_profile`.
_DECODED = {"Raw profile type exif", "Raw profile type APP1", "Raw profile type icc", *_XMP_KEYS}
TIFF_TEXTS = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)


@dataclass(frozen=True)
class Metadata:
    """Beside the pixels of one file.

    format: Pillow's name of the format, such as "PNG"; None for what was no file.
    texts: text chunks of a PNG, keyword and text, in order.
    exif: the block, beginning with b"Exif\\0\\0"; b"" without. Upright, without a thumbnail.
    xmp: the packet, or b"".
    iptc: APP13 segments of a JPEG.
    comment: of a GIF or JPEG.
    dpi: dots per inch, or None.
    credentials: whether the file has a C2PA manifest.
    hidden: text in the lowest bits of the pixels, or "". What becomes of it is the pixels' matter.
    """

    format: str | None = None
    texts: tuple[tuple[str, str], ...] = ()
    exif: bytes = b""
    xmp: bytes = b""
    iptc: tuple[bytes, ...] = ()
    comment: bytes = b""
    dpi: tuple[float, float] | None = None
    credentials: bool = False
    hidden: str = ""

    def fields(self) -> TextFields:
        """The texts in which a generator may have left a prompt."""
        texts = dict(self.texts)
        if self.comment:
            texts.setdefault("comment", self.comment.decode("utf-8", "replace"))
        return TextFields(texts, exif_fields(self.exif), self.xmp, self.hidden)


NONE = Metadata()


def metadata_of(image: Image.Image, upright: Image.Image, credentials: bool = False) -> Metadata:
    """Of a loaded picture. upright: as `ImageOps.exif_transpose` gave it back. Never an exception: a part that cannot
    be read is left out."""
    info = upright.info
    texts = getattr(image, "text", None)
    return Metadata(
        format=image.format,
        texts=_texts(texts) if isinstance(texts, dict) else (),
        exif=_exif(image, upright),
        xmp=_xmp(image, info),
        iptc=tuple(data for name, data in getattr(image, "applist", ()) if name == "APP13"),
        comment=comment if isinstance(comment := info.get("comment"), bytes) else b"",
        dpi=_dpi(info.get("dpi")),
        credentials=credentials,
        hidden=hidden_text(image),
    )


def exif_fields(exif: bytes) -> Mapping[str, str]:
    """UserComment, ImageDescription, Make and Model of a block, those that say something."""
    said: dict[str, str] = {}
    with suppress(Exception):  # Pillow's parser raises whatever it meets
        block = Image.Exif()
        block.load(exif)
        comment = block.get_ifd(ExifTags.IFD.Exif).get(
            ExifTags.Base.UserComment, block.get(ExifTags.Base.UserComment)
        )
        if isinstance(comment, (bytes, str)):
            said["UserComment"] = user_comment(comment, block.endian == ">")
        for tag in (ExifTags.Base.ImageDescription, ExifTags.Base.Make, ExifTags.Base.Model):
            said[tag.name] = exif_text(block.get(tag))
    return {name: text for name, text in said.items() if text}


def _texts(texts: Mapping[Any, Any]) -> tuple[tuple[str, str], ...]:
    kept, left = [], MAX_TEXTS
    for key, value in texts.items():
        if isinstance(key, str) and isinstance(value, str) and key not in _DECODED and len(value) <= left:
            left -= len(value)
            kept.append((key, str(value)))
    return tuple(kept)


def _exif(image: Image.Image, upright: Image.Image) -> bytes:
    with suppress(Exception):
        raw = upright.info.get("exif")
        if image.format == "TIFF":  # the tags of the file are about its strips and samples as well
            return _tiff_exif(image.getexif())
        block = upright.getexif()
        if not len(block):
            return b""
        if isinstance(raw, bytes) and not block.get_ifd(ExifTags.IFD.IFD1):
            return raw if raw.startswith(b"Exif\0\0") else b"Exif\0\0" + raw
        return block.tobytes()
    return b""


def _tiff_exif(block: Image.Exif) -> bytes:
    kept = Image.Exif()
    for tag in TIFF_TEXTS:
        if tag in block:
            kept[tag] = block[tag]
    for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        if values := block.get_ifd(ifd):
            kept.get_ifd(ifd).update(values)
            kept[ifd] = values
    return kept.tobytes() if len(kept) else b""


def _xmp(image: Image.Image, info: Mapping[Any, Any]) -> bytes:
    for key in _XMP_KEYS:
        value = info.get(key)
        if isinstance(value, str):
            return value.encode("utf-8", "replace")
        if isinstance(value, bytes) and value:
            return value
    tags = getattr(image, "tag_v2", None)
    value = tags.get(700) if tags is not None else None
    return value if isinstance(value, bytes) else b""


def _dpi(value: Any) -> tuple[float, float] | None:
    with suppress(TypeError, ValueError, ZeroDivisionError):
        x, y = (float(each) for each in value)
        if 0 < x < 65536 and 0 < y < 65536:
            return x, y
    return None
