"""Tags that a word, or a fixed phrase, has in every place, from word lists that know better than the tagger."""

from __future__ import annotations

from collections.abc import Sequence

from grefine_rt.assess.prompt import lexicon, names, style_words, words
from grefine_rt.assess.prompt.leaf import EDGE, NEGATION, POSSESSOR, SETTLED, Leaf, noun_tag
from grefine_rt.assess.prompt.words import word_set

_NUMBERS = word_set("one two three four five six seven eight nine ten half multi")
_CLOSED = word_set("IN CC DT PDT TO PRP PRP$ WP WP$ WDT WRB EX MD POS RP")


def known_tag(leaf: Leaf) -> str:
    """The tag that a word's own form and the word lists give it, else the tagger's."""
    text = leaf.text
    if not any(character.isascii() and character.isalnum() for character in text):
        if text == "&":
            return "CC"
        return "NN" if any(character.isalpha() for character in text) else "SYM"
    if is_possessive(leaf):
        return POSSESSOR
    if text in ("is", "are", "was", "were"):
        return "VBZ"
    if text in lexicon.NEGATIONS:
        return NEGATION
    if text in lexicon.PRONOUNS or text in lexicon.NOBODY:
        return "PRP"
    if text in lexicon.SUBORDINATORS:
        return "WRB"
    if text in lexicon.ADVERBS:
        return "RB"
    if text in lexicon.ADJECTIVES or text.endswith(lexicon.ADJECTIVE_ENDINGS):
        return "JJ"
    if text in lexicon.PREPOSITIONS:
        return "IN"
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    if digits.isdecimal() and words.singular(text[len(digits) :]) in lexicon.NOUNS:
        return "NN"  # "1girl"
    known = leaf.key in lexicon.NOUNS or leaf.key in style_words.CARRIERS or _may_be_style(leaf)
    if text in lexicon.ING_NOUNS or (known and text not in style_words.STYLE_ADJECTIVES):
        return noun_tag(leaf)
    return _english_tag(leaf)


def _english_tag(leaf: Leaf) -> str:
    """The tag as far as WordNet leaves one choice, else the tagger's."""
    text, tag = leaf.text, leaf.tag
    if tag in _CLOSED and text not in lexicon.CLOSED:
        tag = noun_tag(leaf)  # "neon", "booth", "bbc": the tagger's guess for what it has not seen
    if tag == "CD" and text.rsplit("-", 1)[-1] in lexicon.COLOURS:
        return "JJ"  # "blue-green"
    if tag in _CLOSED or tag in ("CD", "SYM"):
        return tag
    noun, adjective, verb = words.is_noun(text), words.is_adjective(text), words.verb_of(text)
    if text.isdecimal():
        return "CD"
    if tag == "JJ" and words.is_thing(text) and not adjective and not _looks_adjective(text):
        return noun_tag(leaf)  # "a hive swarming with bees"
    if tag in ("JJR", "JJS") and not noun:
        return tag
    if "-" in text and not noun:
        first, last = text.split("-")[0], text.split("-")[-1]
        bends = words.is_adjective(last) or last in lexicon.ADJECTIVES or last.endswith(("ed", "ing"))
        return "JJ" if bends or adjective or first.isdecimal() or first in _NUMBERS else tag
    if words.is_thing(text) and not adjective and verb is None:
        return noun_tag(leaf)  # "sled", "corgi"
    if not (noun or adjective or verb) and names.is_joined(text):
        return noun_tag(leaf)  # "clownfish"
    if not (noun or adjective or verb) and not text.endswith("ly"):
        if leaf.name:
            return "NNP"
        look = tag.startswith(("JJ", "VB")) and text.endswith(lexicon.ADJECTIVE_LOOK)
        look = look and not (tag in ("VBN", "VBD") and text.endswith("en"))  # "kraken"
        return tag if look else noun_tag(leaf)  # "cyberpunk city"
    if tag.startswith("NN") and not noun and not leaf.name:
        if adjective:
            return "JJ"
        if verb and not text.endswith("ing"):
            return (
                "VBP"
                if verb == text
                else "VBZ"
                if text.endswith("s")
                else "VBN"
                if text.endswith("ed")
                else "VBD"
            )
    if leaf.name and tag != "JJ":
        return "NNP"
    return tag


def _looks_adjective(text: str) -> bool:
    return len(text) > 5 and text.endswith(lexicon.ADJECTIVE_LOOK)


def _may_be_style(leaf: Leaf) -> bool:
    return (
        style_words.is_style(leaf.text)
        or leaf.text in style_words.STYLE_OR_THING
        or leaf.key in style_words.STYLE_OR_THING
    )


def place_phrases(texts: Sequence[str]) -> set[int]:
    """Positions of the words of "on the left side of", "at the very top of", "out of the middle of"."""
    found: set[int] = set()
    for end, text in enumerate(texts):
        if text != "of" or not end or texts[end - 1] not in lexicon.PLACES:
            continue
        start = end - 1
        while start and (texts[start - 1] in lexicon.PLACE_MODIFIERS or texts[start - 1] in ("the", "its")):
            start -= 1
        links = start
        while links and texts[links - 1] in lexicon.PLACE_LINKS:
            links -= 1
        if links < start:
            found.update(range(links, end + 1))
    return found


def compounds(found: Sequence[Leaf]) -> set[int]:
    """Positions of words that name one thing together: "hot dog", "dining table", "polar bear".

    A plain adjective stays one: "old man" and "big cat" are a man and a cat.
    """
    joined: set[int] = set()
    for position in range(len(found) - 1):
        first, second = found[position], found[position + 1]
        if first.index < 0 or second.index < 0 or not SETTLED.isdisjoint((first.tag, second.tag)):
            continue
        pair = (first.text, second.key)
        deed = first.text.endswith("ing") and second.key in lexicon.ANIMATES  # "flying bird"
        plain = (
            deed
            or first.text in ("left", "right")
            or first.text in lexicon.ADJECTIVES
            or first.text in lexicon.SHADES
            or first.text in lexicon.METALS
        )
        third = found[position + 2] if position + 2 < len(found) else EDGE
        if pair in lexicon.COMPOUNDS.get(first.text, ()) and first.text in lexicon.COLOURS and third.is_noun:
            continue  # "a white wine glass"
        if pair in lexicon.COMPOUNDS.get(first.text, ()) or (
            not plain and words.is_compound(first.text, second.text)
        ):
            first.tag = "NN"
            second.tag = "NN" if second.key == second.text else "NNS"
            joined.update((position, position + 1))
    return joined


def is_possessive(leaf: Leaf) -> bool:
    """Whether a word ends in a possessor's apostrophe: "woman's", not "it's"."""
    base, apostrophe, s = leaf.text.rpartition("'")
    return bool(apostrophe and base) and s in ("s", "") and base not in lexicon.CONTRACTED
