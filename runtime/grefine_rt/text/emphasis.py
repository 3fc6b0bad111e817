"""Weights in prompts: reading the bracket syntax of the Stable Diffusion tools and writing Eq. 7 in it.

Syntax: ``(x)`` is 1.1, ``((x))`` 1.21, ``[x]`` 1/1.1, ``(x:1.3)`` 1.3; weights of nested brackets multiply.
``\\(``, ``\\)``, ``\\[``, ``\\]`` and ``\\\\`` are literal characters. A bracket without its partner and a
weight that is no number are literal text. ``<lora:...>`` and its relatives are removed; the words ``BREAK`` and
``AND`` amid small letters separate and become a comma. Nothing the user types raises an exception.

Brackets are syntax only in a prompt that uses it unmistakably (`uses_weights`), as ``(a (red) car:1.2)`` does. In any
other one they are text, as in "a cat (asleep) on a sofa": the authors of SDXL, PASD, CLIP, ImageReward and IP-IQA feed
their encoders prompts as people wrote them, brackets too, and so do we.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.errors import PromptError

MAX_WEIGHT = 3.0
"""Weights are clipped to [0, 3]: beyond it a text encoder's output is noise, below 0 it has no meaning."""

_BRACKET_FACTOR = {"(": 1.1, "[": 1 / 1.1}
_CLOSES = {")": "(", "]": "["}
_WEIGHT_SUFFIX = re.compile(r":\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\Z", re.ASCII)
_DIGITS = 4
_HUGE = 1e30
_EXTRA_NETWORK = re.compile(r"<(?:lora|lyco|lycoris|hypernet|embedding)\s*:[^<>]*>", re.IGNORECASE)
_SMALL_LETTER = re.compile(r"[a-z]")
_SEPARATOR = re.compile(r"[\s,]{0,8}\b(?:BREAK|AND)\b[\s,]{0,8}")
_BLANKS = re.compile(r"[^\S\n]{2,}")
_WEIGHT = re.compile(r":\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*\)", re.ASCII)
_TOOL_SYNTAX = re.compile(
    rf"\\[()\[\]\\]|[(\[]{{2}}[^()\[\]]*[)\]]{{2}}|{_EXTRA_NETWORK.pattern}", re.IGNORECASE
)

# A word is a run of characters that are neither space, control character nor punctuation (so letters of any
# script with their combining marks, digits and emoji); hyphens and apostrophes join two runs, a full stop
# and a slash join when a digit follows ("t-shirt", "cat's", "1.5", "f/1.8").
_RUN = r"[^\s\x00-\x1f\x7f!-%'-/:-@\[-`{-~¡¿«»‐-‧‹›、-】〜！-％’（-／：；？｛-･]+"
WORD = re.compile(rf"{_RUN}(?:(?:[-'’]|[./](?=\d)){_RUN})*")
"""What counts as one word of a plain prompt, here and in `grefine_rt.assess.prompt`."""


@dataclass(frozen=True)
class WeightedText:
    """A piece of a prompt without syntax, and the weight in [0, 3] of its words (1 = as written)."""

    text: str
    weight: float


def parse_weights(prompt: str) -> tuple[WeightedText, ...]:
    """Split a prompt into pieces of equal weight; the texts joined are `plain_text(prompt)`.

    Weights are rounded to four decimals and clipped to [0, `MAX_WEIGHT`]. An empty prompt gives ().
    """
    text, weights = _parse(prompt)
    return _chunks(text, weights)


def plain_text(prompt: str) -> str:
    """The prompt without weights, escapes, extra-network tags and surplus blanks."""
    return _parse(prompt)[0]


def uses_weights(prompt: str) -> bool:
    """Whether a prompt uses the syntax of weights unmistakably, so that its brackets are no text.

    Unmistakable are a number behind a colon in round brackets, doubled brackets (``((x))``), an escaped bracket or
    backslash, an extra-network tag, and ``BREAK`` or ``AND`` amid small letters. Single brackets are not, for people
    write them in sentences.
    """
    weight = _WEIGHT.search(prompt)
    if weight is not None and "(" in prompt[: weight.start()]:
        return True
    return bool(_TOOL_SYNTAX.search(prompt) or (_SEPARATOR.search(prompt) and _SMALL_LETTER.search(prompt)))


def as_written(prompt: str) -> str:
    """The prompt for an encoder that is fed raw ones: unchanged unless it `uses_weights`, then `plain_text(prompt)`."""
    return plain_text(prompt) if uses_weights(prompt) else prompt


def emphasise(prompt: str, phrases: Sequence[Sequence[int]], amount: float = 0.1) -> str:
    """Add `amount` to the weight of every word of `phrases` (Eq. 7), on top of the weights already there.

    A phrase is the positions of its words among the words (`WORD`) of the plain prompt, not necessarily side by side.
    The result is a prompt again, with the words of other weight written as ``(words:weight)``; weights stay within [0,
    `MAX_WEIGHT`], words outside the phrases keep theirs.

    Raises:
        PromptError: the prompt has fewer words than a phrase says.
    """
    text, weights = _parse(prompt)
    spans = [match.span() for match in WORD.finditer(text)]
    for word in (word for phrase in phrases for word in phrase):
        if not 0 <= word < len(spans):
            raise PromptError(
                f"Word {word + 1} cannot be emphasised, for the prompt has {len(spans)} words: take the phrases from "
                "the assessment of this prompt."
            )
        for position in range(*spans[word]):
            weights[position] = _tidy(weights[position] + amount)
    _even_out_gaps(spans, weights)
    return "".join(_written(chunk) for chunk in _chunks(text, weights))


def apply_weights(context: Floats, weights: Floats) -> Floats:
    """Scale the text encoder's output (L, D) token by token with weights (L,), keeping the sequence's mean.

    The convention of the Stable Diffusion tools. With all weights 1 the input comes back unchanged.
    """
    if np.all(weights == 1.0):
        return context
    scaled = context * weights[:, None]
    mean, scaled_mean = float(context.mean(dtype=np.float64)), float(scaled.mean(dtype=np.float64))
    # A mean this close to zero, or of the other sign, says nothing about the scale of the sequence.
    factor = mean / scaled_mean if abs(scaled_mean) > 1e-6 and mean * scaled_mean > 0 else 1.0
    return (scaled * factor).astype(np.float32)


def _parse(prompt: str) -> tuple[str, list[float]]:
    """The plain text and the weight of each of its characters."""
    characters, weights = _read_brackets(prompt)
    # Removing one tag can bring the halves of another together: repeat until nothing changes.
    while True:
        before = characters
        characters, weights = _without_networks(characters, weights)
        separators = ((_SEPARATOR, ", "),) if _SMALL_LETTER.search(characters) else ()
        for pattern, replacement in (*separators, (_BLANKS, " ")):
            characters, weights = _replace(characters, weights, pattern, replacement)
        leading = len(characters) - len(characters.lstrip())
        characters, weights = characters[leading:], weights[leading:]
        characters = characters.rstrip()
        weights = weights[: len(characters)]
        if characters == before:
            return characters, weights


def _without_networks(characters: str, weights: list[float]) -> tuple[str, list[float]]:
    """Remove every <lora:...>, the inner ones first, in one pass however deep they are."""
    if "<" not in characters:
        return characters, weights
    kept: list[str] = []
    kept_weights: list[float] = []
    open_at: list[int] = []  # places of "<" in `kept`
    for character, weight in zip(characters, weights, strict=True):
        kept.append(character)
        kept_weights.append(weight)
        if character == "<":
            open_at.append(len(kept) - 1)
        elif character == ">" and open_at:
            start = open_at.pop()
            if _EXTRA_NETWORK.fullmatch("".join(kept[start:])):
                del kept[start:], kept_weights[start:]
            else:
                open_at.clear()  # no tag goes across what stays
    return "".join(kept), kept_weights


def _read_brackets(prompt: str) -> tuple[str, list[float]]:
    if not uses_weights(prompt) or not any(character in prompt for character in "()[]\\"):
        return prompt, [1.0] * len(prompt)
    tokens: list[tuple[str, bool]] = []  # character, whether it may be syntax
    position = 0
    while position < len(prompt):
        escaped = prompt[position] == "\\" and prompt[position + 1 : position + 2] in tuple("()[]\\")
        position += escaped
        tokens.append((prompt[position], not escaped))
        position += 1

    factors: dict[int, float] = {}  # at an opening bracket: times, at its closing bracket: divided by
    partner: dict[int, int] = {}
    silent: set[int] = set()
    open_brackets: list[int] = []
    for index, (character, syntax) in enumerate(tokens):
        if syntax and character in _BRACKET_FACTOR:
            open_brackets.append(index)
        elif syntax and character in _CLOSES and open_brackets:
            start = open_brackets[-1]
            if tokens[start][0] != _CLOSES[character]:
                continue
            open_brackets.pop()
            factors[start] = _BRACKET_FACTOR[tokens[start][0]]
            partner[start] = index
            silent.update((start, index))
            before = tokens[index - 1][0]
            if character == ")" and (before.isdigit() or before.isspace() or before == "."):
                # No number is longer than this; a longer tail cannot be a weight.
                tail_start = max(start + 1, index - 32)
                tail = "".join(c if s else "\\" for c, s in tokens[tail_start:index])
                weight = _WEIGHT_SUFFIX.search(tail)
                if weight:
                    factors[start] = float(weight.group(1))
                    silent.update(range(tail_start + weight.start(), index))

    enclosing: list[tuple[int, float]] = []  # closing index, product of the factors so far
    characters: list[str] = []
    weights: list[float] = []
    current = 1.0
    for index, (character, _) in enumerate(tokens):
        if index in partner:
            product = (enclosing[-1][1] if enclosing else 1.0) * factors[index]
            # Within bounds: infinity times a weight of 0 would be no number.
            enclosing.append((partner[index], min(max(product, -_HUGE), _HUGE)))
            current = _tidy(enclosing[-1][1])
        elif enclosing and enclosing[-1][0] == index:
            enclosing.pop()
            current = _tidy(enclosing[-1][1]) if enclosing else 1.0
        if index not in silent:
            characters.append(character)
            weights.append(current)
    return "".join(characters), weights


def _replace(
    characters: str, weights: list[float], pattern: re.Pattern[str], replacement: str
) -> tuple[str, list[float]]:
    pieces: list[str] = []
    kept: list[float] = []
    end = 0
    for match in pattern.finditer(characters):
        inside = match.start() > 0 and match.end() < len(characters)
        text = replacement if inside else ""
        pieces += [characters[end : match.start()], text]
        kept += weights[end : match.start()] + [1.0] * len(text)
        end = match.end()
    return "".join([*pieces, characters[end:]]), kept + weights[end:]


def _chunks(text: str, weights: Sequence[float]) -> tuple[WeightedText, ...]:
    chunks = []
    for weight, group in groupby(zip(text, weights, strict=True), key=lambda item: item[1]):
        chunks.append(WeightedText("".join(character for character, _ in group), weight))
    return tuple(chunks)


def _even_out_gaps(spans: Sequence[tuple[int, int]], weights: list[float]) -> None:
    """Give what lies between two words their weight if it is the same, else 1, so brackets hug words."""
    edges = [(0, 0), *spans, (len(weights), len(weights))]
    for (_, start), (end, _) in pairwise(edges):
        same = start > 0 and end < len(weights) and weights[start - 1] == weights[end]
        weights[start:end] = [weights[end] if same else 1.0] * (end - start)


def _written(chunk: WeightedText) -> str:
    text = re.sub(r"([()\[\]\\])", r"\\\1", chunk.text)
    return text if chunk.weight == 1.0 else f"({text}:{chunk.weight:g})"


def _tidy(weight: float) -> float:
    return round(min(max(weight, 0.0), MAX_WEIGHT), _DIGITS)
