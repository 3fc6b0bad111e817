"""A tagged word of a prompt."""

from __future__ import annotations

from dataclasses import dataclass

from grefine_rt.assess.prompt import words

BREAK = "SEP"
"""Tag of separators of segments: punctuation, brackets, a new line."""
NEGATION = "NEG"
"""Tag of "not" and its like; "no" and "without" keep theirs."""
POSSESSOR = "NNPOS"
"""Tag of "woman's" in "a woman's hat"."""
HIDDEN = "HIDDEN"
"""Tag of words for the generator: labels ("subject:") and parameters ("--ar 16:9")."""
QUOTED = "QUOTED"
"""Tag of words in quotation marks, which are lettering in the picture."""
SETTLED = frozenset((HIDDEN, QUOTED, NEGATION, POSSESSOR))
"""Tags that no neighbour changes."""
DETERMINERS = ("PDT", "DT", "PRP$", "WP$", "CD")
BE = ("is", "are", "was", "were", "be", "been", "being")


@dataclass
class Leaf:
    """A word (`index` is its position) or a separator (`index` is -1)."""

    text: str  # lower case, apostrophes straight
    tag: str
    index: int
    name: bool = False  # capitalised within a text of small letters
    capital: bool = False  # the same, at the start of a segment too

    @property
    def key(self) -> str:
        return words.singular(self.text)

    @property
    def is_noun(self) -> bool:
        return self.tag.startswith("NN") and self.tag != POSSESSOR


EDGE = Leaf("", BREAK, -1)
"""The leaf before the first and after the last one."""


def noun_tag(leaf: Leaf) -> str:
    """The tag of a leaf that is a noun: singular, plural or, if the tagger says so, a name."""
    if leaf.tag.startswith("NN"):
        return leaf.tag
    return "NNS" if leaf.text.endswith("s") and leaf.key != leaf.text else "NN"
