"""Generators that leave one flat JSON object: SwarmUI, Fooocus and its kin, NovelAI, Easy Diffusion, Draw Things."""

import re
from collections.abc import Mapping
from typing import Any

from grefine_rt.imaging.prompts.found import FoundPrompt, clean, found
from grefine_rt.imaging.prompts.infotext import last_drawn

# SwarmUI: what follows these is the prompt of a part of the picture, no longer of all of it.
_PART = re.compile(r"<(?:segment|object|region|clear|extend|refiner|base|video|videoswap)(?:[:\[][^<>]*)?>")
_BREAK = re.compile(r"<break>")
_TAG = re.compile(r"<[a-z]+(?:\[[^<>]*\])?(?::[^<>]*)?>")
# NovelAI: {strong}, and 1.2::strong::
_NUMERIC = re.compile(r"-?\d{0,3}(?:\.\d{1,4})?::")


def read(data: Mapping[str, Any]) -> FoundPrompt | None:
    """The prompt of a JSON object in one of these layouts; None for another object."""
    for layout in (_swarm, _novelai, _fooocus, _ruined_fooocus, _easy_diffusion, _draw_things):
        if result := layout(data):
            return result
    return None


def _swarm(data: Mapping[str, Any]) -> FoundPrompt | None:
    said = data.get("sui_image_params")
    if not isinstance(said, dict):
        return None
    prompt, negative = (_swarm_text(said.get(key)) for key in ("prompt", "negativeprompt"))
    return found(prompt, negative, said.get("seed"), "SwarmUI")


def _swarm_text(value: Any) -> str:
    text = _PART.split(clean(value), maxsplit=1)[0]
    return _TAG.sub("", _BREAK.sub(", ", text)).strip()


def _novelai(data: Mapping[str, Any]) -> FoundPrompt | None:
    if "uc" not in data and "v4_prompt" not in data:
        return None
    if "c" in data:  # Draw Things has "uc" as well
        return None
    prompt = _captions(data.get("v4_prompt")) or clean(data.get("prompt"))
    negative = _captions(data.get("v4_negative_prompt")) or clean(data.get("uc"))
    return found(novelai_text(prompt), novelai_text(negative), data.get("seed"), "NovelAI")


def novelai_text(prompt: str) -> str:
    """A prompt of NovelAI without its weights, whose signs are others than everyone's."""
    return re.sub(r"[{}]", "", _NUMERIC.sub("", prompt)).strip()


def _captions(value: Any) -> str:
    """NovelAI 4: the caption of all, and those of its characters."""
    caption = value.get("caption") if isinstance(value, dict) else None
    if not isinstance(caption, dict):
        return ""
    characters = caption.get("char_captions")
    parts = [clean(caption.get("base_caption"))]
    for character in characters[:32] if isinstance(characters, list) else ():
        parts.append(clean(character.get("char_caption")) if isinstance(character, dict) else "")
    return ", ".join(filter(None, parts))


def _fooocus(data: Mapping[str, Any]) -> FoundPrompt | None:
    version = data.get("version")
    named = isinstance(version, str) and "fooocus" in version.lower()
    if not (named or "metadata_scheme" in data or "full_prompt" in data or "base_model" in data):
        return None
    # Styles are wrapped around the prompt; what its author typed is what the picture should show.
    prompt = clean(data.get("prompt")) or clean(_joined(data.get("full_prompt")))
    negative = clean(data.get("negative_prompt")) or clean(_joined(data.get("full_negative_prompt")))
    return found(last_drawn(prompt), negative, data.get("seed"), "Fooocus")


def _joined(value: Any) -> str:
    parts = value[:32] if isinstance(value, list) else [value]
    return ", ".join(part for part in parts if isinstance(part, str))


def _ruined_fooocus(data: Mapping[str, Any]) -> FoundPrompt | None:
    """RuinedFooocus, and Fooocus before 2.2."""
    if not isinstance(data.get("Prompt"), str):
        return None
    negative = data.get("Negative", data.get("Negative Prompt"))
    generator = data.get("software") if data.get("software") == "RuinedFooocus" else "Fooocus"
    if "Stable Diffusion model" in data or ("Guidance Scale" in data and "Steps" in data):
        generator = "Easy Diffusion"
    return found(data["Prompt"], negative, data.get("Seed"), str(generator))


def _easy_diffusion(data: Mapping[str, Any]) -> FoundPrompt | None:
    if not isinstance(data.get("prompt"), str) or "negative_prompt" not in data:
        return None
    known = "use_stable_diffusion_model" in data or "num_inference_steps" in data
    return found(
        data["prompt"],
        data["negative_prompt"],
        data.get("seed"),
        "Easy Diffusion" if known else "JSON settings",
    )


def _draw_things(data: Mapping[str, Any]) -> FoundPrompt | None:
    if not isinstance(data.get("c"), str) or "uc" not in data:
        return None
    return found(data["c"], data["uc"], data.get("seed"), "Draw Things")
