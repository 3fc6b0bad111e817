"""Finite verbs that the tagger takes for nouns: "a lantern casts long shadows", "the leaves contrast with the sky"."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, field

from grefine_rt.assess.prompt import lexicon, words
from grefine_rt.assess.prompt.leaf import BREAK, EDGE, SETTLED, Leaf
from grefine_rt.assess.prompt.words import word_set

_ONE = word_set("a an one another each every this that")
_ALIKE = word_set("fish sheep deer moose bison salmon trout squid people")  # as plurals
_DOERS = lexicon.ANIMATES | word_set("crowd team band class army choir orchestra")
_FLOWS = word_set("sunlight moonlight steam smoke ivy moss fog mist lava lightning daylight")
_THROUGH = word_set("through across over into onto down along past between around")
_FINITE = ("VBZ", "VBP", "VBD", "MD")
_STARTS_NOUN_PHRASE = ("DT", "PDT", "PRP$", "PRP")
_GOES_ON = ("IN", "TO", "RB", "RP")


@dataclass
class _Seen:
    """The parts of a segment so far."""

    first: Leaf = field(default_factory=lambda: EDGE)
    subject: Leaf = field(default_factory=lambda: EDGE)  # the first noun
    before: Leaf = field(
        default_factory=lambda: EDGE
    )  # the nouns and adjectives right before: "a" of "a big red"
    finite: bool = False
    third: bool = False  # a verb in -s
    joined: bool = False  # "and"
    grouped: bool = False  # "a pair of"

    def add(self, leaf: Leaf) -> None:
        noun = leaf.is_noun
        self.first = leaf if self.first is EDGE else self.first
        self.subject = leaf if noun and self.subject is EDGE else self.subject
        self.before = self.before if noun or leaf.tag == "JJ" else leaf
        self.finite = self.finite or leaf.tag in _FINITE
        self.third = self.third or leaf.tag == "VBZ"
        self.joined = self.joined or leaf.text == "and"
        self.grouped = self.grouped or (noun and leaf.key in lexicon.GROUPS)


def tag_verbs(found: Sequence[Leaf], fixed: Container[int]) -> None:
    """Tag as verbs the words that can be no nouns in their places. fixed: positions of words that keep their tags."""
    seen = _Seen()
    for at, leaf in enumerate(found):
        if leaf.tag == BREAK:
            seen = _Seen()
            continue
        if seen.first is not EDGE and at not in fixed:
            _tag(found, at, seen)
        seen.add(leaf)


def _tag(found: Sequence[Leaf], at: int, seen: _Seen) -> None:
    before, leaf = found[at - 1], found[at]
    after = found[at + 1] if at + 1 < len(found) else EDGE
    base = words.verb_of(leaf.text) or (leaf.text[:-1] if lexicon.is_verb_in_s(leaf.text) else None)
    noun = leaf.is_noun or leaf.tag == "JJ"
    if not noun or base is None or leaf.tag in SETTLED or leaf.text.endswith("ing"):
        return
    goes_on = (
        before.tag == "CC"
        and leaf.text != base
        and seen.third
        and after.tag in (*_GOES_ON, *_STARTS_NOUN_PHRASE)
    )
    if goes_on and words.is_mostly_verb(leaf.text):
        leaf.tag = _form(leaf, base)  # "the archer draws his bow and aims at the target"
    if not before.is_noun or leaf.capital or words.is_compound(before.text, leaf.text):
        return
    if after.tag in _STARTS_NOUN_PHRASE:  # "a mug and a notebook share the desk"
        leaf.tag = _form(leaf, base)
    elif leaf.text == base:
        if not seen.finite and _is_done_by_many(found, at, after, seen):
            leaf.tag = "VBP"
    elif leaf.tag == before.tag == "NNS":
        if seen.grouped and words.is_mostly_verb(leaf.text) and after.tag in _GOES_ON:
            leaf.tag = "VBZ"  # "a pair of boots dries by the fire"
    elif leaf.tag == "NNS" and _is_done_by_one(found, at, after, seen):
        leaf.tag = "VBZ"


def _form(leaf: Leaf, base: str) -> str:
    if leaf.text == base:
        return "VBP"
    return "VBZ" if leaf.text.endswith("s") else "VBD"


def _is_done_by_one(found: Sequence[Leaf], at: int, after: Leaf, seen: _Seen) -> bool:
    """Whether a form in -s is a singular noun's verb, and no plural."""
    likely = words.is_mostly_verb(found[at].text)
    if after.is_noun and seen.before.tag == "DT" and after.tag == "NNS" and found[at - 1].key in _DOERS:
        return True  # "the crowd waves flags"
    if after.is_noun:
        return likely  # "the dog chases cats"
    if seen.before.text in _ONE:
        return True  # "a lantern casts long shadows": an article of one has no plural
    if after.tag in _GOES_ON and after.text != "of":
        if seen.before.tag in ("DT", "PRP$") and (likely or after.text in lexicon.PARTICLES):
            return True  # "the staircase spirals up to an attic"
        if found[at - 1].text in _FLOWS and after.text in _THROUGH:
            return True  # "sunlight streams through a window"
        if words.is_only_verb(found[at].text):
            return True  # "steam curls from a bowl"
    beyond = found[at + 2] if at + 2 < len(found) else EDGE
    return after.tag == "JJ" and (likely or beyond.is_noun)  # "the lantern casts long shadows"


def _is_done_by_many(found: Sequence[Leaf], at: int, after: Leaf, seen: _Seen) -> bool:
    """Whether a plain form is the verb of a plural or of nouns that "and" joins."""
    leaf, before = found[at], found[at - 1]
    likely, goes_on = words.is_mostly_verb(leaf.text), after.tag in _GOES_ON and after.text != "of"
    number = next((other for other in found[max(at - 3, 0) : at] if other.tag == "CD"), EDGE)
    counted = number.text.isalpha() and number.text != "one"
    alike = before.text in _ALIKE and seen.first.text not in _ONE
    if before.tag == "NNS" or counted or alike:  # "seven sheep graze"
        told = after.tag != BREAK or before.key in lexicon.ANIMATES
        if likely and told and (after.is_noun or after.tag in ("JJ", "CD", BREAK)):
            return True  # "two players shake hands"
        return (likely or before.key in lexicon.ANIMATES) and goes_on  # "six women wave at boys"
    many = seen.subject.tag == "NNS" or seen.joined
    if not (many and seen.first.tag in ("DT", "CD", "PRP$")):
        return False
    if likely and after.tag == "NNS":
        return True  # "an alien and an astronaut shake hands"
    # "the leaves of the maple contrast with the trunk"
    return goes_on and (likely or not words.is_seen(leaf.text))
