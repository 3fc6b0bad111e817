"""The tree of a prompt's words on which Eq. 4 and Algorithm 1 of G-Refine work."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tree:
    """Words 0..n-1 and the root n; `parent[word]` is a word or the root. `nouns` are the centres.

    `dropped`: words left out of the texts. `links`: last word of a noun -> the preposition that it hangs on, word by
    word. `own_links`: the same for a noun whose own place is told ("a lamp in front of it"). `layouts`:
    words of each "in the background".
    """

    root: int
    parent: list[int]
    tags: list[str]
    nouns: list[tuple[int, ...]] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)
    links: dict[int, list[int]] = field(default_factory=dict)
    own_links: dict[int, list[int]] = field(default_factory=dict)
    layouts: list[list[int]] = field(default_factory=list)

    def children(self) -> list[list[int]]:
        children: list[list[int]] = [[] for _ in range(self.root + 1)]
        for word, parent in enumerate(self.parent):
            children[parent].append(word)
        return children

    def hang(self, word: int, above: int) -> None:
        """Make `above` the parent of `word`; the root where that would close a ring."""
        node = above
        while node not in (word, self.root):
            node = self.parent[node]
        self.parent[word] = self.root if node == word else above
