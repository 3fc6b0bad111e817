"""InvokeAI: `invokeai_metadata` (version 3 on), `sd-metadata` (version 2), `Dream` (a command line, version 1)."""

import re
from collections.abc import Mapping
from typing import Any

from grefine_rt.imaging.prompts.found import MAX_FIELD, FoundPrompt, clean, found, read_object

GENERATOR = "InvokeAI"

_COMMAND = re.compile(r'\s*"((?:[^"\\]|\\.)*)"(.*)', re.DOTALL)
_SEED = re.compile(r"(?:^|\s)-S\s*(\d{1,20})\b", re.ASCII)
_WEIGHT = re.compile(r"(?<=\S)[+]{1,8}(?=[\s,.]|$)|(?<=\))-{1,8}(?=[\s,.]|$)")
_SWAP = re.compile(r"\.(?:swap|blend|and)\(")
_NEGATIVE = re.compile(r"(?<!\\)\[([^\[\]]*)\]")


def read(data: Mapping[str, Any]) -> FoundPrompt | None:
    """From the object of `invokeai_metadata`, also in the layouts of versions 2 and 3.0."""
    if "positive_prompt" in data:
        prompt, negative = data.get("positive_prompt"), data.get("negative_prompt")
        return found(_plain(prompt), _plain(negative), data.get("seed"), GENERATOR)
    for part in (data.get("image"), data.get("node")):
        if isinstance(part, dict):
            return _of_version_2(part)
    return None


def _of_version_2(image: Mapping[str, Any]) -> FoundPrompt | None:
    said = image.get("prompt")
    if isinstance(said, list):
        said = said[0].get("prompt") if said and isinstance(said[0], dict) else None
    prompt, negative = _without_negative(clean(said))
    return found(prompt, negative, image.get("seed"), GENERATOR)


def read_dream(text: str) -> FoundPrompt | None:
    """From a command line such as `"a red house [blurry]" -s 50 -S 42 -W 512`."""
    match = _COMMAND.match(text) if len(text) <= MAX_FIELD else None
    if match is None:
        return None
    prompt, negative = _without_negative(clean(match.group(1).replace('\\"', '"')))
    seed = _SEED.search(match.group(2))
    return found(prompt, negative, seed and seed.group(1), GENERATOR)


def read_text(text: str) -> FoundPrompt | None:
    """As `read`, from the text of a field."""
    data = read_object(text)
    return read(data) if data is not None else None


def _without_negative(prompt: str) -> tuple[str, str]:
    """InvokeAI 1 and 2 wrote the negative prompt in square brackets within the prompt."""
    negative = ", ".join(part.strip() for part in _NEGATIVE.findall(prompt))
    return _plain(_NEGATIVE.sub("", prompt)), negative


def _plain(prompt: Any) -> str:
    """Without Compel's signs for weights after a word or a bracket: house++, (red house)-."""
    text = clean(prompt)
    return text if _SWAP.search(text) else _WEIGHT.sub("", text)
