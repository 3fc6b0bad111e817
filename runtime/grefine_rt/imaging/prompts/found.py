"""What a reader of prompts finds, and the bounds that hold for everything it reads."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAX_FIELD = 8 * 2**20
"""Characters; a longer text field is not looked at."""
MAX_PROMPT = 16384
"""Characters of a prompt that are kept; a text encoder reads a few hundred."""
MAX_SEED = 2**64

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class FoundPrompt:
    """A prompt that a generator left.

    prompt: what the picture should show; never empty.
    negative: what it should not show, or "".
    seed: of the generator, 0 or greater, where it says one. It is no seed of this package: noise differs.
    generator: the software, such as "ComfyUI", or "" where the layout does not tell.
    field: where it stood, such as "PNG text 'parameters'".
    """

    prompt: str
    negative: str = ""
    seed: int | None = None
    generator: str = ""
    field: str = ""

    @property
    def source(self) -> str:
        """Generator and field in words."""
        return f"{self.field} ({self.generator})" if self.generator else self.field


def found(prompt: Any, negative: Any, seed: Any, generator: str) -> FoundPrompt | None:
    """From values of any type; None where the prompt holds no text."""
    text = clean(prompt)
    return FoundPrompt(text, clean(negative), to_seed(seed), generator) if text else None


def clean(value: Any) -> str:
    """A text without control characters and halves of characters, cut to `MAX_PROMPT`; "" for anything else."""
    if not isinstance(value, str):
        return ""
    return _CONTROL.sub(" ", value[: 2 * MAX_PROMPT].replace("\r\n", "\n")).strip()[:MAX_PROMPT].strip()


def to_seed(value: Any) -> int | None:
    """A seed from a number or its digits; None for anything else, and for -1, which stands for a random one."""
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,20}\s*", value, re.ASCII):
        value = int(value)
    return value if type(value) is int and 0 <= value < MAX_SEED else None


def read_object(text: str) -> Mapping[str, Any] | None:
    """The JSON object that a field holds; None for other text, also for JSON too deep to read."""
    if len(text) > MAX_FIELD or text.lstrip()[:1] != "{":
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
