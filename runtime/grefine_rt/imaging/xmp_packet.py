"""Writing into an XMP packet: one entry of our own, and where the user asks the kind of source."""

import re
from html import escape, unescape

NAMESPACE = "urn:grefine-rt:1"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's code for a picture of which a part was made by a trained model."""

_IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
_END = re.compile(r"</([\w.-]{1,40}):RDF\s*>")
_OURS = re.compile(
    r'<[\w.-]{1,40}:Description [^<>]{0,80}xmlns:grefine="urn:grefine-rt:1" grefine:entry="([^"<>]*)"/>'
)
_SOURCE = re.compile(
    r'(?P<before>DigitalSourceType\s*(?:=\s*["\']|(?:\s[^<>]{0,80})?>\s*|\s[^<>]{0,40}resource\s*=\s*["\']))'
    r"https?://cv\.iptc\.org/newscodes/digitalsourcetype/[\w-]+"
)


def with_entry(packet: bytes, entry: str | None, composite: bool = False) -> bytes:
    """The packet with `entry` as the property grefine:entry, in the place of an older one, and perhaps the source type
    composite. An empty packet, or one that is no XMP in UTF-8, gives a new one."""
    try:
        text = packet.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if not _END.search(text):
        text = _EMPTY
    text = _OURS.sub("", text)
    properties = []
    if entry is not None:
        properties.append(f'xmlns:grefine="{NAMESPACE}" grefine:entry="{escape(entry)}"')
    if composite:
        text, changed = _SOURCE.subn(rf"\g<before>{COMPOSITE}", text)
        if not changed:
            properties.append(f'xmlns:Iptc4xmpExt="{_IPTC}" Iptc4xmpExt:DigitalSourceType="{COMPOSITE}"')
    end = list(_END.finditer(text))[-1]
    rdf = end.group(1)
    added = "".join(f'<{rdf}:Description {rdf}:about="" {each}/>' for each in properties)
    return (text[: end.start()] + added + text[end.start() :]).encode("utf-8")


def entry_of(packet: bytes) -> str | None:
    """The property grefine:entry of a packet that `with_entry` wrote."""
    match = _OURS.search(packet.decode("utf-8", "replace"))
    return unescape(match.group(1)) if match else None
