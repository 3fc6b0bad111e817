"""Word lists of English, made from WordNet 3.0: names of things, people, properties and deeds.

`data/words.zlib` is one zlib stream of text, a line for each list: its name, a tab, its words with tabs between them.
`python -m benchmarks.word_lists` makes it and says each list's content. `lexicon` has the words of prompts.
"""

from __future__ import annotations

import pkgutil
import zlib
from collections.abc import Sequence
from functools import lru_cache

_PLURALS = (
    ("ies", "y"),
    ("lves", "lf"),
    ("shes", "sh"),
    ("ches", "ch"),
    ("xes", "x"),
    ("sses", "ss"),
    ("men", "man"),
)
_REMEMBERED = 1 << 14  # words: more than any prompt has


def word_set(words: str) -> frozenset[str]:
    """The words of a text with blanks between them."""
    return frozenset(words.split())


Phrases = dict[str, list[tuple[str, ...]]]
"""First word -> the phrases that begin with it."""


def phrase_table(phrases: str) -> Phrases:
    """The phrases of a text with commas between them."""
    found: Phrases = {}
    for phrase in phrases.split(","):
        members = tuple(phrase.split())
        found.setdefault(members[0], []).append(members)
    return found


def positions_of(phrases: Phrases, words: Sequence[str]) -> set[int]:
    """Positions of the lower-case words that stand in one of `phrases`, all of its words side by side."""
    found: set[int] = set()
    for start, word in enumerate(words):
        for phrase in phrases.get(word, ()):
            if tuple(words[start : start + len(phrase)]) == phrase:
                found.update(range(start, start + len(phrase)))
    return found


@lru_cache(maxsize=1)
def _lists() -> dict[str, frozenset[str]]:
    packed = pkgutil.get_data("grefine_rt.assess.prompt", "data/words.zlib")
    assert packed is not None  # it is part of the package
    lines = (line.split("\t") for line in zlib.decompress(packed).decode().split("\n"))
    return {name: frozenset(words) for name, *words in lines}


@lru_cache(maxsize=1)
def _irregular_nouns() -> dict[str, str]:
    return dict(pair.split() for pair in _lists()["irregular nouns"]) | {"leaves": "leaf", "elves": "elf"}


@lru_cache(maxsize=1)
def _irregular_verbs() -> dict[str, str]:
    return dict(pair.split() for pair in _lists()["irregular verbs"])


@lru_cache(maxsize=_REMEMBERED)
def singular(word: str) -> str:
    """Lower case, without the possessive and the plural ending: the form in which a noun is looked up."""
    word = word.lower().replace("’", "'").removesuffix("'s").removesuffix("'")
    if len(word) == 3 and word[2] == "s" and word[:2] in _lists()["things"]:
        return word[:2]  # "tvs"
    if word in ("jeans", "goggles") or word.endswith("ss") or len(word) < 4:
        return _irregular_nouns().get(word, word)
    known = _irregular_nouns().get(word)
    if known is not None and not known.endswith("us"):
        return known
    if word.endswith("ies") and word[:-1] in _nouns() and word[:-3] + "y" not in _nouns():
        return word[:-1]  # "birdies"
    for plural, one in _PLURALS:
        if (
            word.endswith(plural)
            and len(word) > len(plural) + 1
            and (plural != "men" or word[:-3] + one in _nouns())
        ):
            return word.removesuffix(plural) + one
    if word.endswith("es") and word[:-1] not in _nouns() and word[:-2] in _nouns():
        return word[:-2]  # "buses", "tomatoes"
    if word.endswith("s") and (word[:-1] in _nouns() or not (word.endswith("us") or word in _nouns())):
        return word[:-1]
    return word


@lru_cache(maxsize=1)
def _nouns() -> frozenset[str]:
    return _lists()["things"] | _lists()["mixed"] | _lists()["abstract"]


def is_noun(word: str) -> bool:
    """Whether a lower-case word, singular or plural, may be a noun."""
    return word in _nouns() or singular(word) in _nouns()


def is_thing(word: str) -> bool:
    """Whether a lower-case noun, singular or plural, mostly means a visible thing."""
    things = _lists()["things"]
    return word in things or singular(word) in things


def is_seen(word: str) -> bool:
    """Whether a lower-case noun, singular or plural, has the sense of a visible thing."""
    return is_thing(word) or word in _lists()["mixed"] or singular(word) in _lists()["mixed"]


def is_abstract(word: str) -> bool:
    """Whether a lower-case noun lacks the sense of a visible thing."""
    return not is_seen(word) and (word in _lists()["abstract"] or singular(word) in _lists()["abstract"])


def is_adjective(word: str) -> bool:
    """Whether a lower-case word is as often an adjective as a noun."""
    return word in _lists()["adjectives"]


def is_name(word: str) -> bool:
    """Whether a lower-case word is one of a known person's names, and no common word."""
    return word in _lists()["names"]


def is_compound(*words: str) -> bool:
    """Whether lower-case words together name one thing ("dining table"), though the first is no noun by itself."""
    compounds = _lists()["compounds"]
    return " ".join(words) in compounds or " ".join((*words[:-1], singular(words[-1]))) in compounds


@lru_cache(maxsize=_REMEMBERED)
def verb_of(word: str) -> str | None:
    """The plain form of the verb that a lower-case word may be a form of ("sits", "flew", "running"), or None."""
    verbs = _lists()["verbs"]
    if word in verbs:
        return word
    known = _irregular_verbs().get(word)
    if known in verbs:
        return known
    for ending in ("s", "es", "ed", "d", "ing"):
        base = word.removesuffix(ending)
        if base == word or len(base) < 2:
            continue
        doubled = base[:-1] if len(base) > 3 and base[-1] == base[-2] else base
        for form in (base, base + "e", doubled):
            if form in verbs:
                return form
        if ending in ("es", "ed") and base.endswith("i") and base[:-1] + "y" in verbs:
            return base[:-1] + "y"
    return None


def is_wanted(word: str) -> bool:
    """Whether a lower-case noun, singular or plural, names an animal, a garment, a building, a dish and the like."""
    wanted = _lists()["wanted"]
    return word in wanted or singular(word) in wanted


def is_mostly_verb(word: str) -> bool:
    """Whether a lower-case word is a form of a verb that is used more often than the noun of the same form."""
    return verb_of(word) in _lists()["mostly verbs"]


def is_only_verb(word: str) -> bool:
    """Whether the verb of a lower-case word is used, and the noun of the same form is not."""
    return verb_of(word) in _lists()["only verbs"]


def is_known(word: str) -> bool:
    """Whether a lower-case word is in any of the lists, in any of its forms."""
    return is_noun(word) or is_adjective(word) or is_name(word) or verb_of(word) is not None
