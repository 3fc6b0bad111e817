"""Chunks of a segment's tagged words: noun phrases, prepositional phrases, verbs and the rest.

A chunk grammar over one letter a word: D determiner, 1 number, R adverb, J adjective, N noun, S possessor,
C conjunction, P preposition, V verb, X anything else. All quantifiers are possessive, so time stays linear.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from grefine_rt.assess.prompt.leaf import BREAK, POSSESSOR, Leaf

_LETTERS = {
    "PDT": "D",
    "DT": "D",
    "PRP$": "D",
    "WP$": "D",
    "CD": "1",
    "CC": "C",
    ",": ",",
    "IN": "P",
    "TO": "P",
    "MD": "V",
    POSSESSOR: "S",
}
_FAMILIES = {"RB": "R", "JJ": "J", "NN": "N", "VB": "V"}
# No possessive repetition of groups, "(?:...)*+": Python before 3.11.5 forgets where a failed one began.
_AP = r"(?>R*+J++(?:[C,]R*+J++)*)"
_BEFORE_NOUN = rf"(?>[D1R]*+(?:{_AP}1*+)*)"
_NP = rf"(?>(?>(?:{_BEFORE_NOUN}N*+S)*){_BEFORE_NOUN}N++|{_BEFORE_NOUN}N*+S)"
CHUNK = re.compile(rf"(?P<PP>P++{_NP})|(?P<NP>{_NP})|(?P<AP>{_AP})|(?P<word>.)")
_POSSESSOR = re.compile(rf"{_BEFORE_NOUN}(?P<noun>N*+S)")


@dataclass
class Chunk:
    """A chunk of a segment: kind NP, PP, V (verb), CC or X (anything else)."""

    kind: str
    words: list[int]  # of the noun phrase; the one word of the other kinds
    nouns: list[int] = field(default_factory=list)
    prepositions: list[int] = field(default_factory=list)
    possessors: list[tuple[list[int], list[int]]] = field(default_factory=list)  # words, nouns among them
    extra: list[int] = field(default_factory=list)  # carriers and groups that hang on the noun
    style: bool = False


def segments(leaves: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    segment: list[Leaf] = []
    for leaf in leaves:
        if leaf.tag != BREAK:
            segment.append(leaf)
        elif segment:
            yield segment
            segment = []
    if segment:
        yield segment


def letter(tag: str) -> str:
    return _LETTERS.get(tag) or _FAMILIES.get(tag[:2], "X")


def chunks_of(segment: Sequence[Leaf]) -> list[Chunk]:
    letters = "".join(letter(leaf.tag) for leaf in segment)
    items: list[Chunk] = []
    for chunk in CHUNK.finditer(letters):
        start, end = chunk.span()
        words = [leaf.index for leaf in segment[start:end] if leaf.index >= 0]
        if chunk.lastgroup in ("NP", "PP"):
            depth = len(chunk[0]) - len(chunk[0].lstrip("P"))
            items.append(_noun_phrase(chunk.lastgroup, segment[start:end], letters[start:end], depth))
        elif chunk.lastgroup == "AP":
            items += [Chunk("X", [word]) for word in words]
        elif words:  # a comma has none
            items.append(Chunk({"V": "V", "C": "CC"}.get(chunk[0], "X"), words))
    return items


def _noun_phrase(kind: str, leaves: Sequence[Leaf], letters: str, depth: int) -> Chunk:
    head_at = len(letters.rstrip("NS"))
    if letters.endswith("N"):
        head_at = max(head_at, letters.rfind("S") + 1)
    item = Chunk(
        kind,
        [leaf.index for leaf in leaves[depth:] if leaf.index >= 0],
        [leaf.index for leaf in leaves[head_at:]],
        [leaf.index for leaf in leaves[:depth]],
    )
    at = depth
    while found := _POSSESSOR.match(letters, at):
        if found.end() > head_at:
            break
        words = [leaf.index for leaf in leaves[at : found.end()] if leaf.index >= 0]
        item.possessors.append((words, [leaf.index for leaf in leaves[found.start("noun") : found.end()]]))
        at = found.end()
    return item
