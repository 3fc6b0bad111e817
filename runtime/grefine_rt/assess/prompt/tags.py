"""The words of a prompt with their part-of-speech tags: NLTK's tagger, mended for prompts with word lists."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from grefine_rt.assess.prompt import lexicon, style_words, tagger, words
from grefine_rt.assess.prompt.given_names import GIVEN_NAMES
from grefine_rt.assess.prompt.leaf import BREAK, HIDDEN, QUOTED, Leaf
from grefine_rt.assess.prompt.lettering import unquoted
from grefine_rt.assess.prompt.mend import mend

_NO_BRACKETS = str.maketrans("()[]", "    ")
_COLON = re.compile(r"\s*:")
_OPENS = re.compile(r"(?:^|\s)['‘]")
_OBJECT = re.compile(r"\s+(?:me|an?|the)\s")
# A few words in quotation marks; a single mark opens after a blank and closes before one.
_QUOTED = re.compile(
    r"\"([^\"]{1,80})\"|“([^”]{1,80})”|(?<!\w)['‘]([^'‘’\n]{1,60}(?:'[a-z][^'‘’\n]{0,40})?)['’](?!\w)"
)
# "score_8_up", "source_anime": tags of models, whose words stand apart here.
_MODEL_TAG = re.compile(r"\b(?:score|source|rating)(?:_[a-z0-9]+)+", re.IGNORECASE)
_SIGHT = re.compile(r"\b(?:you|we|i|one)(?: can| could)? see\b", re.IGNORECASE)  # "in a city we see a cat"
_PARAMETERS = re.compile(r"(?:^|\s)(?:--|—)\Z")


def leaves(text: str, spans: Sequence[tuple[int, int]], aside: bool = False) -> list[Leaf]:
    """The words at `spans` with separators for the punctuation between them, all tagged.

    aside: brackets are punctuation; False for a prompt whose brackets may be weights: "a (red) car".
    """
    letters = [text[start] for start, _ in spans if text[start].isalpha()]
    small_letters = sum(letter.islower() for letter in letters) * 2 >= len(letters)
    found: list[Leaf] = []
    unseen = [found.span() for pattern in (_MODEL_TAG, _SIGHT) for found in pattern.finditer(text)]
    hidden = _within(sorted(unseen), spans)
    quoted = _quoted(text, spans) or _lettering(text, spans)
    joined: set[int] = set()  # halves of "hyper - realistic"
    first_quote = _OPENS.search(text)
    opens = first_quote.start() if first_quote else -1
    parameters = False
    last = 0
    for index, (start, end) in enumerate(spans):
        gap = text[last:start] if aside else text[last:start].translate(_NO_BRACKETS)
        word = text[start:end].lower().replace("’", "'")
        if index in quoted or index - 1 in quoted:
            gap = gap.strip("\"“”'‘’ ") or " "
        if index and gap == " - " and found[-1].text in style_words.PREFIXES:
            gap = " "
            joined.update((index - 1, index))
        elif index and gap == " - " and (found[-1].text in GIVEN_NAMES or not words.is_known(found[-1].text)):
            gap = " "  # "jean - baptiste monge"
        if index and _separates(gap, found[-1], 0 <= opens < last):
            found.append(Leaf("," if "," in gap else ".", BREAK, -1))
        if word == "up" and found and found[-1].text == "close":
            word = "close-up"
        parameters = parameters or (word in style_words.PARAMETERS and bool(_PARAMETERS.search(gap)))
        starts_segment = not found or found[-1].index < 0
        labels = starts_segment and word in style_words.LABELS and bool(_COLON.match(text, end))
        if parameters or labels or _requests(found, word, text, end):
            hidden.add(index)
        capital = small_letters and text[start].isupper() and end - start > 1
        found.append(Leaf(word, "", index, capital and not starts_segment, capital))
        last = end
    _tag(found)
    for leaf in found:
        if leaf.index in hidden:
            leaf.tag = HIDDEN
        elif leaf.index in quoted:
            leaf.tag = QUOTED
    mend(found)
    for leaf, after in pairwise(found):
        if (
            leaf.index in joined
            and after.index in joined
            and not (after.is_noun and words.is_thing(after.text))
        ):
            leaf.tag = after.tag = "JJ"
        elif leaf.index in joined and after.index in joined:
            leaf.tag = "NN"
    return found


def _quoted(text: str, spans: Sequence[tuple[int, int]]) -> set[int]:
    """Positions of words to be read in the picture: `a sign that says "open"`. A prompt all in quotes has none."""
    if not any(mark in text for mark in "\"“'‘"):
        return set()
    found = _within([match.span() for match in _QUOTED.finditer(text)], spans)
    return found if 2 * len(found) < len(spans) else set()


def _within(areas: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> set[int]:
    """Positions of the spans that lie in one of the areas; both ascend."""
    found: set[int] = set()
    area = 0
    for index, (start, end) in enumerate(spans):
        while area < len(areas) and areas[area][1] <= start:
            area += 1
        if area < len(areas) and areas[area][0] <= start and end <= areas[area][1]:
            found.add(index)
    return found


def _lettering(text: str, spans: Sequence[tuple[int, int]]) -> set[int]:
    """Positions of words to be read in the picture that stand without marks: "a sign that says Keep Out"."""
    edges = [(0, 0), *spans]
    return unquoted(
        [text[start:end].lower() for start, end in spans],
        [text[start].isupper() for start, _ in spans],
        [bool(text[last:start].strip()) for (_, last), (start, _) in pairwise(edges)],
    )


def _requests(before: Sequence[Leaf], word: str, text: str, end: int) -> bool:
    """ "Please draw me" at the start."""
    asked = [leaf.text for leaf in before if leaf.text != "please"]
    if not asked:
        return word == "please" or (word in lexicon.REQUESTS and bool(_OBJECT.match(text, end)))
    return word == "me" and all(other in lexicon.REQUESTS for other in asked)


def _separates(gap: str, before: Leaf, in_quotation: bool) -> bool:
    if gap == "_" or (not gap.strip() and "\n" not in gap):  # "long_hair"
        return False
    if gap == ". " and before.text in lexicon.ABBREVIATIONS:
        return False
    # "the dogs' bowl", unless the apostrophe closes a quotation
    plural = gap in ("' ", "’ ") and before.text.endswith("s")
    if plural and not in_quotation:
        before.text += "'"
        return False
    return True


def _tag(found: Sequence[Leaf]) -> None:
    """The tagger's own tags. It was trained on text with "'s" apart from its noun."""
    tokens: list[str] = []
    at: list[int] = []
    for leaf in found:
        at.append(len(tokens))
        base, apostrophe, s = leaf.text.rpartition("'")
        tokens += [base, "'s"] if apostrophe and base and s in ("s", "") else [leaf.text]
    tags = tagger.tag(tokens)
    for leaf, position in zip(found, at, strict=True):
        if leaf.index >= 0:
            leaf.tag = tags[position] if tags[position][0].isalpha() else "SYM"
