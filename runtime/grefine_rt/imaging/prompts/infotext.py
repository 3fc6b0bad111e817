"""The text of AUTOMATIC1111, Forge, SD.Next and all that write as they do; also in files beside the picture.

    a red house under a yellow sun
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model: v1-5

The prompt and the negative prompt may have several lines; the settings are one line, the last but for lines that
extensions add.
"""

import re

from grefine_rt.imaging.prompts.found import MAX_FIELD, FoundPrompt, clean, found

GENERATOR = "AUTOMATIC1111 layout"

_NEGATIVE = re.compile(r"\s*negative prompt:", re.IGNORECASE)
_POSITIVE = re.compile(r"\s*(?:positive )?prompt:", re.IGNORECASE)
_TEMPLATE = re.compile(r"\s*(?:negative )?template:", re.IGNORECASE)
# SD.Next separates settings by "|" as well.
_SETTING = re.compile(
    r"(?:^|[,|])\s*(steps|sampler|cfg scale|guidance|seed|size|model|model hash|version|schedule type|app):\s*\S",
    re.IGNORECASE,
)
_SEED = re.compile(r"(?:^|[,|])\s*seed:\s*(\d{1,20})\b", re.IGNORECASE | re.ASCII)
_STEPS = re.compile(r"\s*steps:\s*\d+\s*(?:[,|]|$)", re.IGNORECASE | re.ASCII)
# [from:to:when] ends as "to", [to:when] comes in at "when", [from::when] goes out: what was drawn last counts.
_SCHEDULE = re.compile(
    r"(?<!\\)\[([^\[\]():|]{0,400}):(?:([^\[\]():|]{0,400}):)?\s*(?:\d{1,4}(?:\.\d{0,4})?|\.\d{1,4})\s*\]"
)
_ALTERNATION = re.compile(r"(?<!\\)\[([^\[\]()|:]{1,400})(?:\|[^\[\]()|:]{0,400}){1,16}\]")


def read(text: str) -> FoundPrompt | None:
    """The prompt of a text in this layout; a text that has no line of settings is a prompt altogether."""
    if len(text) > MAX_FIELD:
        return None
    prompt, negative, settings = _split(text)
    seed = _SEED.search(settings)
    return found(
        last_drawn(clean(prompt)),
        last_drawn(clean(negative)),
        seed and seed.group(1),
        GENERATOR if settings else "",
    )


def is_infotext(text: str) -> bool:
    """Whether a text has this layout's lines of settings or of a negative prompt."""
    if len(text) > MAX_FIELD:
        return False
    lines = text.splitlines()
    return any(_NEGATIVE.match(line) or _is_settings(line) for line in lines)


def last_drawn(prompt: str) -> str:
    """The prompt without scheduling: of words that change while the picture is drawn, the ones that stay."""

    def ends_as(match: re.Match[str]) -> str:
        first, second = match.groups()
        return first if second is None else second

    return _ALTERNATION.sub(r"\1", _SCHEDULE.sub(ends_as, prompt)).strip(" ")


def _split(text: str) -> tuple[str, str, str]:
    """Prompt, negative prompt and settings."""
    lines = text.splitlines()
    settings = next((index for index in reversed(range(len(lines))) if _is_settings(lines[index])), None)
    line = "" if settings is None else lines[settings]
    parts: tuple[list[str], list[str]] = [], []
    negative = False
    for part in lines[:settings]:
        if _TEMPLATE.match(part):  # of the extension Dynamic Prompts: no part of what was drawn
            break
        if match := _NEGATIVE.match(part):
            negative, part = True, part[match.end() :]
        elif not parts[0] and (match := _POSITIVE.match(part)):
            part = part[match.end() :]
        parts[negative].append(part)
    return "\n".join(parts[0]), "\n".join(parts[1]), line


def _is_settings(line: str) -> bool:
    line = line[:4000]
    first = _SETTING.match(line)
    return bool(_STEPS.match(line)) or (bool(first) and len(_SETTING.findall(line)) >= 3)
