"""Pictures as the bytes of files: formats, quality, and what the file they come from said beside its pixels."""

import io
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from PIL import ExifTags, Image, PngImagePlugin, features

from grefine_rt.errors import OptionError, OutputError, one_of, shown
from grefine_rt.files import check_writable, is_stream, write_whole
from grefine_rt.imaging.metadata import NONE, TIFF_TEXTS, Metadata, exif_fields
from grefine_rt.imaging.xmp_packet import with_entry

Provenance = Literal["keep", "composite"]

KEY = "grefine-rt"
"""Keyword of our entry among a PNG's texts; elsewhere it is the XMP property grefine:entry."""

SUFFIXES = {
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".avif": "AVIF",
}
FORMATS = {"png": "PNG", "jpeg": "JPEG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF", "avif": "AVIF"}
"""Names of formats as options have them, and Pillow's."""
_SUFFIX_OF = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "AVIF": ".avif"}
# Lossless where the format can, else without chroma subsampling.
_LOSSLESS: dict[str, dict[str, object]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {"compression": "tiff_adobe_deflate"},
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 90, "subsampling": "4:4:4"},
}
_JPEG_SEGMENT = 65_000
"""Bytes of EXIF or XMP that a JPEG can hold, with some room for headers."""


@dataclass(frozen=True)
class Encoding:
    """The form in which a result is written.

    format: of `FORMATS`; None for the suffix's, or the source's where there is no name.
    quality: 1 to 100 of JPEG, WebP and AVIF; None for 95 of JPEG, 90 of AVIF and lossless WebP. Raises OptionError
        out of range, and later for a format without a quality.
    provenance: "keep" the IPTC source type that the picture came with, or say "composite".
    """

    format: str | None = None
    quality: int | None = None
    provenance: Provenance = "keep"

    def __post_init__(self) -> None:
        if self.format is not None:
            one_of("format", self.format, tuple(FORMATS))
        if self.quality is not None and (type(self.quality) is not int or not 1 <= self.quality <= 100):
            raise OptionError(f"The quality must be a whole number from 1 to 100, not {shown(self.quality)}.")
        one_of("provenance", self.provenance, ("keep", "composite"))

    def of(self, path: Path | None, source: str | None, alpha: bool) -> str:
        """Pillow's format for a file: the option's, that of `path`'s suffix, or that of the `source`, PNG where it
        cannot be written. Raises OutputError for an unknown suffix and where the format cannot do what is asked."""
        name = FORMATS.get(self.format or "") or (SUFFIXES.get(path.suffix.lower()) if path else None)
        if name is None and path is not None and not is_stream(path):
            raise OutputError(
                f'"{path.name}" has no known image format; end it with one of {", ".join(SUFFIXES)}.'
            )
        name = name or (source if source in _SUFFIX_OF else "PNG")
        if name == "AVIF" and not features.check("avif"):
            raise OutputError(
                "This Pillow cannot write AVIF; choose another format, or install a Pillow that can."
            )
        if alpha and name == "JPEG":
            stem = path.stem if path else "NAME"
            raise OutputError(
                f'JPEG cannot hold the transparency of the picture; write "{stem}.png" instead.'
            )
        if self.quality is not None and name in ("PNG", "TIFF"):
            raise OptionError(
                f"{name} is lossless and has no quality; leave it out, or choose JPEG, WebP or AVIF."
            )
        return name


PLAIN = Encoding()
"""The suffix says the format, without loss where that can be; what the source said is kept."""


def suffix_for(source: str | None) -> str:
    """The suffix of a result whose name nobody gave: that of the source's format, .png where it cannot be written."""
    return _SUFFIX_OF.get(source or "", ".png")


def encode(
    image: Image.Image,
    name: str,
    encoding: Encoding,
    source: Metadata = NONE,
    entry: Mapping[str, Any] | None = None,
) -> tuple[bytes, tuple[str, ...]]:
    """A picture as the bytes of a file, and notes on what could not be kept.

    name: Pillow's name of the format, see `Encoding.of`. entry: what was done, added to what the source said. Raises
    OutputError when Pillow cannot write it.
    """
    text = None if entry is None else json.dumps(entry, ensure_ascii=True, allow_nan=False)
    composite = encoding.provenance == "composite"
    said, notes = (source, []) if name == "PNG" else _without_texts(source)
    if source.credentials:
        notes.append(
            "The picture came with content credentials (C2PA), which do not cover what was changed: they were left out."
        )
    if composite or (text is not None and name != "PNG"):
        said = replace(said, xmp=with_entry(said.xmp, None if name == "PNG" else text, composite))
    options = _options(said, name, text)
    if profile := image.info.get("icc_profile"):
        options["icc_profile"] = profile
    if name == "JPEG":
        for part in ("exif", "xmp"):
            if len(options.get(part, b"")) > _JPEG_SEGMENT:
                del options[part]
                notes.append(f"JPEG holds no more than 64 KB of {part.upper()}, so it was left out.")
    if encoding.quality is not None:
        quality: dict[str, object] = {"quality": encoding.quality}
        settings = quality if name == "WEBP" else {**_LOSSLESS[name], **quality}
    else:
        settings = _LOSSLESS[name]
    bare = image.copy()
    bare.info = {}  # Pillow's writers would take some of it, and not the rest
    buffer = io.BytesIO()
    try:
        bare.save(buffer, name, **settings, **options)
    except Exception as error:  # Pillow's writers raise whatever they meet
        raise OutputError(f"The picture cannot be written as {name}: {str(error)[:200]}.") from None
    return buffer.getvalue(), tuple(notes)


def _options(said: Metadata, name: str, entry: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if name == "TIFF":
        options["tiffinfo"] = _tiff_tags(said)
    elif said.exif:
        options["exif"] = said.exif
    if said.dpi and name in ("PNG", "JPEG", "TIFF"):
        options["dpi"] = said.dpi
    if name == "PNG":
        options["pnginfo"] = _png_texts(said, entry)
    elif said.xmp and name != "TIFF":
        options["xmp"] = said.xmp
    if name == "JPEG":
        if said.comment and len(said.comment) < _JPEG_SEGMENT:
            options["comment"] = said.comment
        blocks = (
            b"\xff\xed" + (len(data) + 2).to_bytes(2, "big") + data for data in said.iptc if len(data) < 65534
        )
        options["extra"] = b"".join(blocks)
    return options


def _png_texts(said: Metadata, entry: str | None) -> PngImagePlugin.PngInfo:
    texts = PngImagePlugin.PngInfo()
    pairs = [(key, text) for key, text in said.texts if key != KEY]
    if entry is not None:
        pairs.append((KEY, entry))
    for key, text in pairs:
        try:
            texts.add_text(key, text.encode("latin-1").decode("latin-1"))
        except UnicodeError:
            texts.add_itxt(key, text.encode("utf-8", "replace").decode("utf-8"))
    if said.xmp:
        texts.add_itxt("XML:com.adobe.xmp", said.xmp.decode("utf-8", "replace"))
    return texts


def _without_texts(said: Metadata) -> tuple[Metadata, list[str]]:
    """For a format without text chunks: they go where generators put them in such a format, into EXIF."""
    texts = {key: text for key, text in said.texts if key != KEY}
    if not texts:
        return said, []
    block = _block(said.exif)
    inner = block.get_ifd(ExifTags.IFD.Exif)
    if "parameters" in texts and ExifTags.Base.UserComment not in inner:
        inner[ExifTags.Base.UserComment] = b"UNICODE\0" + texts.pop("parameters").encode(
            "utf-16-be", "replace"
        )
        block[ExifTags.IFD.Exif] = inner
    moved = (
        ("prompt", ExifTags.Base.Model, "prompt:"),
        ("workflow", ExifTags.Base.Make, "workflow:"),
        ("Description", ExifTags.Base.ImageDescription, ""),
        ("Software", ExifTags.Base.Software, ""),
    )
    for key, tag, mark in moved:
        if key in texts and tag not in block:
            block[tag] = (mark + texts.pop(key)).encode("utf-8", "replace").decode("latin-1")
    notes = []
    if texts:
        names = ", ".join(sorted(texts))[:200]
        notes.append(f"This format has no text chunks, so these were left out: {names}.")
    return replace(said, texts=(), exif=block.tobytes()), notes


def _tiff_tags(said: Metadata) -> dict[int, Any]:
    """A TIFF is EXIF itself, but Pillow's compressing writer takes no directories within: its texts are kept, and a
    UserComment, where generators leave prompts, becomes the description."""
    block = _block(said.exif)
    tags: dict[int, Any] = {int(tag): block[tag] for tag in TIFF_TEXTS if tag in block}
    comment = exif_fields(said.exif).get("UserComment")
    if comment:
        tags.setdefault(ExifTags.Base.ImageDescription, comment)
    tags = {
        tag: value.encode("utf-8", "replace") if isinstance(value, str) else value
        for tag, value in tags.items()
    }
    return {**tags, 700: said.xmp} if said.xmp else tags


def _block(exif: bytes) -> Image.Exif:
    block = Image.Exif()
    if exif:
        block.load(exif)
    return block


def save(
    image: Image.Image,
    path: str | os.PathLike[str],
    *,
    encoding: Encoding = PLAIN,
    source: Metadata = NONE,
    entry: Mapping[str, Any] | None = None,
    overwrite: bool = True,
    not_over: Iterable[str | os.PathLike[str]] = (),
) -> tuple[Path, tuple[str, ...]]:
    """Write an image, whole or not at all: the file, and notes on what could not be kept.

    PNG, TIFF and WebP are lossless, JPEG has quality 95, unless `encoding` says otherwise. Profile and alpha are kept.
    Raises OutputError as `check_output` does, or when writing fails.
    """
    alpha = image.has_transparency_data
    path = check_output(path, encoding=encoding, alpha=alpha, overwrite=overwrite, not_over=not_over)
    data, notes = encode(image, encoding.of(path, source.format, alpha), encoding, source, entry)
    return write_whole(path, data), notes


def check_output(
    path: str | os.PathLike[str],
    *,
    encoding: Encoding = PLAIN,
    alpha: bool = False,
    overwrite: bool = True,
    not_over: Iterable[str | os.PathLike[str]] = (),
) -> Path:
    """See that an image can be written to `path`, so that a long run need not fail at its end.

    Raises OutputError when the format is unknown or cannot hold `alpha`, and as `check_writable` does.
    """
    encoding.of(Path(path), None, alpha)
    return check_writable(path, overwrite=overwrite, not_over=not_over)


def our_entry(said: Metadata) -> Mapping[str, Any] | None:
    """What an earlier run wrote into a file; None where there is nothing of ours."""
    from grefine_rt.imaging.prompts.found import read_object
    from grefine_rt.imaging.xmp_packet import entry_of

    text = dict(said.texts).get(KEY) or entry_of(said.xmp)
    return read_object(text) if text else None
