"""Words to be read in the picture, without quotation marks: "a sign that says Keep Out", "with the word hello"."""

from __future__ import annotations

from collections.abc import Sequence

from grefine_rt.assess.prompt import lexicon, words
from grefine_rt.assess.prompt.words import word_set

_SAYS = word_set("says saying say said spells spelling spell")
_NAMES = word_set("reads reading read titled labeled labelled captioned named called lettered")
TEXTS = word_set(
    "word words text phrase letters caption slogan title message inscription lettering letter name"
)
_WRITTEN = word_set("written printed engraved embroidered stitched stenciled spelled")
_CUTS = word_set(
    "in on at with above below under over behind beside near next inside outside by from against around through "
    "while and"
)
_STARTS = word_set("a an the his her its their my your our each every this that some front top it")
_FORMS = word_set("is are was were has have written drawn made sits stands hangs")


def unquoted(texts: Sequence[str], capitals: Sequence[bool], breaks: Sequence[bool]) -> set[int]:
    """Positions of words that are written in the picture, without marks around them.

    texts: the words in small letters. capitals: positions of words that begin with a capital. breaks: positions
    with punctuation before them.
    """
    found: set[int] = set()
    for at, text in enumerate(texts):
        start = at
        while text in _WRITTEN and start > 1 and capitals[start - 1] and not breaks[start]:
            start -= 1
        found.update(range(start, at) if start > 1 else ())  # "a wall with Hello World written on it"
    for at, text in enumerate(texts[:-1]):
        start = at + 1
        if breaks[start]:
            continue
        if text in _SAYS and texts[start] not in _STARTS:
            found.update(range(start, _end_of_saying(texts, capitals, breaks, start)))
        elif text in _NAMES and capitals[start] and not capitals[at]:  # "a book titled Moby Dick"
            found.update(range(start, _end_of_capitals(texts, capitals, breaks, start)))
        elif text in TEXTS and at and texts[at - 1] in ("the", "a", "with", "big", "large", "single"):
            found.update(range(start, _end_of_text(texts, capitals, breaks, start)))
    return found


def _end_of_saying(texts: Sequence[str], capitals: Sequence[bool], breaks: Sequence[bool], start: int) -> int:
    """The end of the words said, at punctuation or a place: "a parrot saying hello in a cage"."""
    if capitals[start]:
        return _end_of_capitals(texts, capitals, breaks, start)
    end = start + 1
    while end < len(texts) and not breaks[end]:
        if texts[end] in _CUTS and end + 1 < len(texts) and texts[end + 1] in (*_STARTS, "to", "of"):
            break
        end += 1
    return end


def _end_of_capitals(
    texts: Sequence[str], capitals: Sequence[bool], breaks: Sequence[bool], start: int
) -> int:
    """The end of a run like "Welcome to Las Vegas", whose last word begins with a capital."""
    end = start + 1
    for at in range(start + 1, min(len(texts), start + 8)):
        if breaks[at] or not (capitals[at] or texts[at] in lexicon.CLOSED):
            break
        end = at + 1 if capitals[at] else end
    return end


def _end_of_text(texts: Sequence[str], capitals: Sequence[bool], breaks: Sequence[bool], start: int) -> int:
    """The end of a text, at a small word or a participle: "the word openai written on it"."""
    if capitals[start]:
        return _end_of_capitals(texts, capitals, breaks, start)
    end = start
    while end < len(texts) and not (end > start and breaks[end]) and not _ends_text(texts[end]):
        end += 1
    return end


def _ends_text(text: str) -> bool:
    bends = text.endswith(("ed", "ing")) and words.verb_of(text) is not None
    return text in lexicon.CLOSED or bends or text in _FORMS
