"""The noun above another one that a word is about: the bowl of soup, the man on a bench."""

from __future__ import annotations

from collections.abc import Sequence

from grefine_rt.assess.prompt import lexicon, style_words, words
from grefine_rt.assess.prompt.tree import Tree

_HOLDERS = lexicon.HOLDERS | style_words.CARRIERS  # a bowl of soup, a painting of a ship
_DOES = ("VBZ", "VBP", "VBD", "VBG")


class Climber:
    """Climbs the tree that is being built. `heads`: last words of the nouns so far."""

    def __init__(self, tree: Tree, lower: Sequence[str]) -> None:
        self.tree = tree
        self.lower = lower
        self.heads: set[int] = set()

    def container(self, noun: int) -> int:
        """The bowl of "a bowl of soup": a place that is told after it is the bowl's."""
        of = self.tree.parent[noun]
        if of == self.tree.root or self.lower[of] != "of":
            return noun
        holder = self.tree.parent[of]
        held = holder in self.heads and words.singular(self.lower[holder]) in _HOLDERS
        return self.container(holder) if held else noun

    def loaded(self, noun: int) -> int:
        """The cart of "a cart loaded with hay along a road": its load goes nowhere by itself."""
        link = self.tree.links.get(noun)
        if not link or self.lower[link[0]] != "with":
            return noun
        verb = self.tree.parent[link[0]]
        return self.tree.parent[verb] if verb != self.tree.root and self.tree.tags[verb] == "VBN" else noun

    def agent(self, noun: int) -> int:
        """The nearest noun at or above `noun` that can do something; `noun` where there is none."""
        node = noun
        while node != self.tree.root:
            if node in self.heads and words.singular(self.lower[node]) in lexicon.ANIMATES:
                return node
            node = self.tree.parent[node]
        return noun

    def likened(self, link: int) -> int:
        """The ship of "a ship that looks like a teapot" and of "a ship made of cups", for the words behind it."""
        node = self.tree.parent[link]
        above = self.tree.parent[node]
        return above if node not in self.heads and above != self.tree.root else node

    def _stands(self, noun: int) -> bool:
        """Whether a place told after "a cup with a straw" is more likely the cup's: not "a room with a lamp"."""
        link = self.tree.links[noun]
        holder = self.tree.parent[link[0]]
        if self.lower[link[0]] != "with" or holder not in self.heads:
            return False
        one, other = (words.singular(self.lower[word]) for word in (noun, holder))
        return one not in lexicon.ANIMATES and other not in lexicon.SETTINGS and other not in lexicon.GROUNDS

    def accompanied(self, noun: int, place: Sequence[int]) -> int:
        """The verb of "cutting vegetables with a knife on a board" and of "reads to them by a fire".

        place: the words of the place, which is the noun's own in "with a stick in its mouth".
        """
        link = self.tree.links.get(noun)
        if not link or self.lower[link[0]] == "of":
            return noun
        owned = any(
            self.tree.parent[word] == noun and self.tree.tags[word] == "PRP$"
            for word in range(link[-1], noun)
        )  # "carries a fish in its talons over a river"
        if not owned and self.lower[link[0]] not in ("with", "to"):
            return noun
        if any(self.tree.tags[word] == "PRP$" for word in place):
            return noun
        holder = self.tree.parent[link[0]]
        if holder == self.tree.root:
            return noun
        above = self.tree.parent[holder]
        if holder in self.heads and above != self.tree.root and self.tree.tags[above] in _DOES:
            return above
        if self.lower[place[0]] in ("a", "an") and self._stands(noun):
            return self.container(holder)  # "a cup with a straw on a counter"
        given = words.verb_of(self.lower[holder]) in lexicon.AIMED["to"]
        return holder if given and self.tree.tags[holder] in _DOES else noun
