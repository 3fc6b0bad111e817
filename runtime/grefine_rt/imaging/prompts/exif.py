"""EXIF's UserComment: eight bytes that name a coding, and a text whose byte order nobody agrees on."""

import re

from grefine_rt.imaging.prompts.found import MAX_FIELD

_CODES = {b"ASCII\0\0\0": "ascii", b"UNICODE\0": "utf-16", b"JIS\0\0\0\0\0": "iso2022_jp", b"\0" * 8: "utf-8"}


def user_comment(value: bytes | str, big_endian: bool) -> str:
    """The text of a UserComment; "" where it is none.

    big_endian: the byte order of the EXIF block. The standard wants UNICODE in this order, but generators write
    big-endian whatever the block is, and editors turn the block and not the text: the order that reads better counts.
    """
    if isinstance(value, str):  # Pillow gives back a field of the type ASCII as text
        value = value.encode("latin-1", "replace")
    if len(value) > 2 * MAX_FIELD:
        return ""
    code = _CODES.get(bytes(value[:8]))
    body = bytes(value[8:] if code else value)
    text = _utf_16(body, big_endian) if code == "utf-16" else _eight_bit(body, code)
    return text.strip("\0\ufeff").strip()


def exif_text(value: object) -> str:
    """A field of the type ASCII, in which everyone writes UTF-8 and Pillow reads Latin-1; "" for another type."""
    if isinstance(value, bytes):
        return _eight_bit(value, None).strip("\0").strip()
    if not isinstance(value, str) or len(value) > MAX_FIELD:
        return ""
    try:
        return value.encode("latin-1").decode("utf-8").strip("\0").strip()
    except UnicodeError:
        return value.strip("\0").strip()


def _eight_bit(body: bytes, code: str | None) -> str:
    if code == "iso2022_jp":
        return body.decode(code, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _utf_16(body: bytes, big_endian: bool) -> str:
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return body.decode("utf-16", "replace")
    if b"\0" not in body and len(body) >= 12 and re.fullmatch(rb"[\t\n\r -~]+", body):
        return body.decode("ascii")  # named UNICODE, written as ASCII
    body = body[: len(body) // 2 * 2]
    big, little = body.decode("utf-16-be", "replace"), body.decode("utf-16-le", "replace")
    readable = [
        sum(character.isascii() and character != "\0" for character in text) for text in (big, little)
    ]
    if readable[0] != readable[1]:
        return big if readable[0] > readable[1] else little
    return big if big_endian else little
