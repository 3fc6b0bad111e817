"""Finite verbs that the tagger takes for nouns: "a lantern casts long shadows", "the leaves contrast with the sky"."""

from __future__ import annotations

from collections.abc import Container, Sequence

from grefine_rt.assess.prompt import lexicon, words
from grefine_rt.assess.prompt.leaf import BREAK, EDGE, SETTLED, Leaf
from grefine_rt.assess.prompt.words import word_set

_ONE = word_set("a an one another each every this that")
_ALIKE = word_set("fish sheep deer moose bison salmon trout squid people")  # as plurals
_FINITE = ("VBZ", "VBP", "VBD", "MD")
_STARTS_NOUN_PHRASE = ("DT", "PDT", "PRP$", "PRP")
_GOES_ON = ("IN", "TO", "RB", "RP")


def tag_verbs(found: Sequence[Leaf], fixed: Container[int]) -> None:
    """Tag as verbs what can be no noun where it stands. fixed: positions of words that keep their tags."""
    start = 0
    for end in range(len(found) + 1):
        if end == len(found) or found[end].tag == BREAK:
            for at in range(start + 1, end):
                if at not in fixed:
                    _tag(found, start, at, found[at + 1] if at + 1 < end else EDGE)
            start = end + 1


def _tag(found: Sequence[Leaf], start: int, at: int, after: Leaf) -> None:
    before, leaf = found[at - 1], found[at]
    base = words.verb_of(leaf.text) or (leaf.text[:-1] if lexicon.is_verb_in_s(leaf.text) else None)
    noun = leaf.is_noun or leaf.tag == "JJ"
    goes_on = (
        before.tag == "CC" and leaf.text != base and any(other.tag == "VBZ" for other in found[start:at])
    )
    if (
        goes_on
        and noun
        and words.is_mostly_verb(leaf.text)
        and after.tag in (*_GOES_ON, *_STARTS_NOUN_PHRASE)
    ):
        leaf.tag = _form(leaf, base or "")  # "the archer draws his bow and aims at the target"
    if not noun or base is None or not before.is_noun or leaf.tag in SETTLED or leaf.text.endswith("ing"):
        return
    if words.is_compound(before.text, leaf.text) or leaf.capital:
        return
    if after.tag in _STARTS_NOUN_PHRASE:  # "a mug and a notebook share the desk"
        leaf.tag = _form(leaf, base)
    elif leaf.text == base:
        if _is_done_by_many(found, start, at, after):
            leaf.tag = "VBP"
    elif leaf.tag == "NNS" and before.tag != "NNS" and _is_done_by_one(found, start, at, after):
        leaf.tag = "VBZ"


def _form(leaf: Leaf, base: str) -> str:
    if leaf.text == base:
        return "VBP"
    return "VBZ" if leaf.text.endswith("s") else "VBD"


def _is_done_by_one(found: Sequence[Leaf], start: int, at: int, after: Leaf) -> bool:
    """Whether a form in -s is a singular noun's verb, and no plural."""
    likely = words.is_mostly_verb(found[at].text)
    if after.is_noun:
        return likely  # "the dog chases cats"
    first = at - 1
    while first > start and (found[first - 1].is_noun or found[first - 1].tag == "JJ"):
        first -= 1
    if first > start and found[first - 1].text in _ONE:
        return True  # "a lantern casts long shadows": an article of one has no plural
    told = first > start and found[first - 1].tag in ("DT", "PRP$")
    if told and after.tag in _GOES_ON and after.text != "of" and (likely or after.text in lexicon.PARTICLES):
        return True  # "the staircase spirals up to an attic"
    if words.is_only_verb(found[at].text) and after.tag in _GOES_ON and after.text != "of":
        return True  # "steam curls from a bowl"
    beyond = found[at + 2] if at + 2 < len(found) else EDGE
    return after.tag == "JJ" and (likely or beyond.is_noun)  # "the lantern casts long shadows"


def _is_done_by_many(found: Sequence[Leaf], start: int, at: int, after: Leaf) -> bool:
    """Whether a plain form is the verb of a plural or of nouns that "and" joins."""
    leaf, before = found[at], found[at - 1]
    earlier = found[start:at]
    if any(other.tag in _FINITE for other in earlier):
        return False
    likely = words.is_mostly_verb(leaf.text)
    counted = any(
        other.tag == "CD" and other.text != "one" and other.text.isalpha()
        for other in found[max(at - 3, start) : at]
    )
    alike = before.text in _ALIKE and earlier[0].text not in _ONE
    if before.tag == "NNS" or counted or alike:  # "seven sheep graze"
        if likely and (after.is_noun or after.tag in ("JJ", BREAK)):
            return True  # "two players shake hands"
        return (
            likely or before.key in lexicon.ANIMATES
        ) and after.tag in _GOES_ON  # "six women wave at boys"
    subject = next((other for other in earlier if other.is_noun), EDGE)
    many = subject.tag == "NNS" or any(other.text == "and" for other in earlier)
    sentence = earlier[0].tag in ("DT", "CD", "PRP$")
    if likely and many and sentence and after.tag == "NNS":
        return True  # "an alien and an astronaut shake hands"
    if not (many and sentence and after.tag in _GOES_ON and after.text != "of"):
        return False
    return likely or not words.is_seen(leaf.text)  # "the leaves of the maple contrast with the trunk"
