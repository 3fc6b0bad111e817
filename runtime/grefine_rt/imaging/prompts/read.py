"""The prompt of a picture, whichever generator left it.

Order, from the field that says most plainly what was drawn:

1. PNG text `parameters`: AUTOMATIC1111, Forge, SD.Next; the JSON of SwarmUI and Fooocus
2. PNG text `invokeai_metadata`, `sd-metadata`, `Dream`
3. PNG text `Comment`, a JSON object: NovelAI, Fooocus before 2.2; NovelAI's `Description` where that has no prompt
4. PNG text `prompt`, `workflow`: ComfyUI's graphs
5. PNG texts `prompt` or `Prompt` beside one of a negative prompt: Easy Diffusion
6. EXIF UserComment: any of the layouts above; then ImageDescription, Make and Model, where ComfyUI has its graphs
7. XMP: exif:UserComment, dc:description, tiff:ImageDescription: any of the layouts above, or a plain description
8. text hidden in the lowest bits of the pixels: NovelAI's texts, or any of the layouts above (`hidden.py`)
9. a plain description: PNG text `Description`, EXIF ImageDescription

A field that holds no prompt is passed over. Nothing here raises an exception, whatever a picture holds.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from grefine_rt.imaging.prompts import comfyui, infotext, invokeai, settings, xmp
from grefine_rt.imaging.prompts.found import MAX_FIELD, FoundPrompt, clean, found, read_object


@dataclass(frozen=True)
class TextFields:
    """What a picture says in words.

    png: text chunks by keyword; also the comments of a GIF or JPEG, as `comment`.
    exif: UserComment, ImageDescription, Make and Model, those that there are.
    xmp: the packet, or b"".
    hidden: text in the pixels themselves, or "".
    """

    png: Mapping[str, str] = field(default_factory=dict)
    exif: Mapping[str, str] = field(default_factory=dict)
    xmp: bytes = b""
    hidden: str = ""


def read_prompt(fields: TextFields) -> FoundPrompt | None:
    """The prompt by the order of this module, with the field it stood in; None where there is none."""
    for name, result in _candidates(fields):
        if result is not None:
            return replace(result, field=name)
    return None


def _candidates(fields: TextFields) -> Iterator[tuple[str, FoundPrompt | None]]:
    png, exif = fields.png, fields.exif

    def text(key: str) -> str:
        value = png.get(key, "")
        return value if len(value) <= MAX_FIELD else ""

    yield "PNG text 'parameters'", _structured(text("parameters"), plain=True)
    yield "PNG text 'invokeai_metadata'", invokeai.read_text(text("invokeai_metadata"))
    yield "PNG text 'sd-metadata'", invokeai.read_text(text("sd-metadata"))
    yield "PNG text 'Dream'", invokeai.read_dream(text("Dream"))
    yield "PNG text 'Comment'", _structured(text("Comment"))
    yield "PNG text 'Description'", _novelai_description(png)
    yield "PNG text 'prompt'", _structured(text("prompt"))
    yield "PNG text 'workflow'", _structured(text("workflow"))
    for key, negative, seed in (
        ("prompt", "negative_prompt", "seed"),
        ("Prompt", "Negative Prompt", "Seed"),
    ):
        if negative in png and not read_object(text(key)):
            yield f"PNG text '{key}'", found(text(key), text(negative), png.get(seed), "Easy Diffusion")
    yield "the comment", _structured(text("comment"))
    for key in ("UserComment", "ImageDescription", "Make", "Model"):
        yield f"EXIF {key}", _structured(exif.get(key, ""))
    packet = xmp.texts(fields.xmp) if fields.xmp else {}
    for name in xmp.FIELDS.values():
        yield name, _structured(packet.get(name, ""))
    yield "text hidden in its pixels", _hidden(fields.hidden)
    for name in xmp.FIELDS.values():
        yield name, _description(packet.get(name, ""))
    yield "PNG text 'Description'", _description(text("Description"))
    for key in ("UserComment", "ImageDescription"):
        yield f"EXIF {key}", _description(exif.get(key, ""))


_JSON = re.compile(r"\s*[\[{]\s*[\"\[\]{}\d]")


def _structured(text: str, plain: bool = False) -> FoundPrompt | None:
    """From a field in any of the layouts; `plain`: or one that is a prompt altogether."""
    if not text or len(text) > MAX_FIELD:
        return None
    # ComfyUI writes "prompt:{...}" and "workflow:{...}" into EXIF.
    marked = re.match(r"(?:prompt|workflow):(?=\s*\{)", text[:64], re.IGNORECASE)
    data = read_object(text[marked.end() :] if marked else text)
    if data is not None:
        for reader in (settings.read, invokeai.read, comfyui.read, comfyui.read_workflow):
            if result := reader(data):
                return result
        return None
    if _JSON.match(text) and not infotext.is_infotext(text):
        return None  # of another kind, or cut off
    return infotext.read(text) if plain or infotext.is_infotext(text) else None


def _hidden(text: str) -> FoundPrompt | None:
    """NovelAI hides the texts that its PNG has beside the pixels, as one JSON object; others hide one of them."""
    data = read_object(text)
    if data is None or not isinstance(data.get("Comment"), (str, dict)):
        return _structured(text, plain=True)
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    if isinstance(data["Comment"], dict):
        texts["Comment"] = json.dumps(data["Comment"])
    return read_prompt(TextFields(texts))


def _novelai_description(png: Mapping[str, str]) -> FoundPrompt | None:
    if "novelai" not in f"{png.get('Software', '')} {png.get('Title', '')}".lower():
        return None
    data = read_object(png.get("Comment", "")) or {}
    description = settings.novelai_text(clean(png.get("Description")))
    return found(description, settings.novelai_text(clean(data.get("uc"))), data.get("seed"), "NovelAI")


# Midjourney ends its descriptions by options and the id of the job.
_MIDJOURNEY = re.compile(r"\s(?:--[a-z]{1,16}\b|Job ID:).*", re.DOTALL)
_MIDJOURNEY_NO = re.compile(r"--no\s+([^-]{1,400})")
_NO_PROMPT = re.compile(
    r"\s*(?:created (?:with|by|using|in)|generated (?:with|by)|made with|screenshot|screen ?capture|https?:|file:|"
    r"copyright|\(c\)|\u00a9|ai generated image|default|untitled|lavc|processed (?:with|by))",
    re.IGNORECASE,
)


def _description(text: str) -> FoundPrompt | None:
    """A description in plain words; None for the marks that cameras and editors leave."""
    text = clean(text)
    if text[:1] in ("{", "[", "<") or _NO_PROMPT.match(text):
        return None
    words = re.findall(r"[^\W\d_]+", text[:400])
    wide = any(ord(character) > 0x2E80 for character in text[:400])  # scripts without blanks between words
    if len(words) < 2 and not (wide and words):
        return None
    if text.upper() == text and not wide:  # OLYMPUS DIGITAL CAMERA
        return None
    if match := _MIDJOURNEY.search(text):
        without = _MIDJOURNEY_NO.search(text)
        return found(text[: match.start()], without.group(1) if without else "", None, "Midjourney")
    return found(text, "", None, "")
