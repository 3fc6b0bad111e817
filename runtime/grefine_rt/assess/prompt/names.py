"""Names of people, models and schools in lists of tags: "greg rutkowski", "wlop", "ue5", "vaporwave".

A name is told by what English has no other use for: words of known people's names, common given names, and words in
no list at all. A word that names something to be seen stays a thing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from grefine_rt.assess.prompt import lexicon, words

_MODEL = re.compile(r"(?=.*\d)(?=.*[a-z])[a-z0-9.+-]+", re.ASCII)
_COUNTED = re.compile(r"\d+\+?(?:girls?|boys?|others?)", re.ASCII)
_TERM_ENDINGS = ("wave", "core", "punk", "ism", "esque", "pop")
_PARTICLES = frozenset("van von de da di del della der den du la le el al bin the".split())


def is_model(word: str) -> bool:
    """Whether a word of letters and digits names a model or a size ("ue5", "xt3", "70-200mm"), not "1girl"."""
    return bool(_MODEL.fullmatch(word)) and not _COUNTED.fullmatch(word)


def may_be_name(texts: Sequence[str], lenient: bool) -> bool:
    """Whether lower-case words may be a person's name.

    lenient: where a name is expected ("by ..."), one that is also a common word will do ("james jean").
    """
    texts = [text.removesuffix("'s").rstrip(".") for text in texts]
    if not all(text.replace("-", "").replace("'", "").isalpha() and text.isascii() for text in texts if text):
        return False
    if len(texts) > 2 and texts[-2] == "the" and texts[-1] in ("elder", "younger"):
        texts = texts[:-2]
    own = [text for text in texts if text not in _PARTICLES and len(text) > 1]
    if not own or len(texts) > 5:
        return False
    if len(own) == 1:
        common = own[0] in lexicon.GIVEN_NAMES or (_is_plural(own[0]) and not words.is_name(own[0]))
        return _is_nameish(own[0]) and (lenient or len(texts) > 1 or not common)
    first, last = own[0], own[-1]
    if _is_plural(last) and words.is_noun(last) and not lenient:
        return False
    if first in lexicon.GIVEN_NAMES and len(own) <= 4:
        return True
    nameish = [_is_nameish(text) for text in own]
    if lenient:
        return nameish[0] or nameish[-1]
    # "max ernst", "ross tran"; a thing at the end stays one: "cyberpunk city"
    return nameish[-1] and (nameish[0] or len(first) < 3 or not (words.is_known(first) or lexicon.is_word(first)))


def are_makers(texts: Sequence[str]) -> bool:
    """Whether lower-case words name who made the picture: "by drew struzan", "art by artgerm and wlop"."""
    if "by" not in texts[:3]:
        return False
    at = list(texts).index("by")
    if any(text not in lexicon.MADE for text in texts[:at]):
        return False
    people: list[list[str]] = [[]]
    for text in texts[at + 1 :]:
        if text in ("and", "&"):
            people.append([])
        else:
            people[-1].append(text)
    return all(person and may_be_name(person, lenient=True) for person in people)


def is_term(nouns: Sequence[str]) -> bool:
    """Whether a bare noun of a list is no thing: "horror", "cottagecore", "global illumination"."""
    head = nouns[-1]
    one = words.singular(head)
    if len(nouns) == 1 and one in lexicon.GENRES:
        return True
    if head in lexicon.LIST_STYLE or one in lexicon.LIST_STYLE:
        return True
    if len(nouns) > 1 and one in lexicon.LIST_STYLE_COMPOUND:
        return True
    if head.endswith(_TERM_ENDINGS) and not words.is_known(head):
        return True
    visible = any(one[at:] in lexicon.VISIBLE or one[at:] in lexicon.NOUNS for at in (0, *range(3, len(one) - 2)))
    if visible or not head.isascii():
        return False  # "smile", "campfire"
    if len(nouns) > 1 and words.is_thing(nouns[-2]):
        return False  # "newspaper clippings"
    return words.is_abstract(head)


def _is_nameish(word: str) -> bool:
    """Whether a word is a name's, or in no list of English."""
    if word in lexicon.GIVEN_NAMES or words.is_name(word):
        return True
    return not (words.is_known(word) or lexicon.is_word(word) or _is_compound(word))


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us", "is"))


def _is_compound(word: str) -> bool:
    """Whether two known words make this one: "wildflowers", "keyhole", "stormtrooper", "snow-covered"."""
    if "-" in word:
        return all(words.is_known(part) or lexicon.is_word(part) for part in word.split("-") if part)
    return any(
        words.is_seen(word[at:]) and (words.is_noun(word[:at]) or words.is_adjective(word[:at]))
        for at in range(4, len(word) - 3)
    )
