"""XMP: descriptions and user comments of a packet, read by an event parser that builds no tree."""

from collections.abc import Mapping
from contextlib import suppress
from xml.parsers import expat

from grefine_rt.imaging.prompts.found import MAX_PROMPT

MAX_PACKET = 4 * 2**20
"""Bytes; a longer packet is not looked at."""
MAX_DEPTH = 64

FIELDS = {
    "http://ns.adobe.com/exif/1.0/ UserComment": "XMP exif:UserComment",
    "http://purl.org/dc/elements/1.1/ description": "XMP dc:description",
    "http://ns.adobe.com/tiff/1.0/ ImageDescription": "XMP tiff:ImageDescription",
}
"""Fields that may hold a prompt, in the order in which they are asked."""


class _Refused(Exception):
    """The packet has what no XMP has."""


def texts(packet: bytes) -> Mapping[str, str]:
    """By the names of `FIELDS`: the first text of each; of a packet that is no XML, what stood before its fault.

    Entities are refused, so that nothing is read from elsewhere and nothing grows.
    """
    if len(packet) > MAX_PACKET:
        return {}
    said: dict[str, str] = {}
    path: list[str] = []
    parts: list[str] = []

    def refuse(*_: object) -> None:
        raise _Refused

    def start(name: str, attributes: Mapping[str, str]) -> None:
        path.append(name)
        if len(path) > MAX_DEPTH:
            raise _Refused
        for key, value in attributes.items():  # short values may be attributes
            if key in FIELDS and value.strip():
                said.setdefault(FIELDS[key], value[: 2 * MAX_PROMPT])
        parts.clear()

    def end(name: str) -> None:
        field = next((FIELDS[each] for each in reversed(path) if each in FIELDS), None)
        text = "".join(parts).strip()
        if field and text:
            said.setdefault(field, text)
        parts.clear()
        path.pop()

    def characters(text: str) -> None:
        parts.append(text)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = characters
    # What was read until a fault is well formed.
    with suppress(expat.ExpatError, _Refused, ValueError, LookupError):
        parser.Parse(packet.strip(b"\0 \n\r\t"), True)
    return said
