"""A prompt as noun phrases and their ancestors (G-Refine 3.2: Eq. 4 and Algorithm 1).

The words are tagged (`word_tags`) and chunked, every word gets one parent (`prompt_tree`), and on that tree the two
steps of the paper work. How the tree is built, since prompts are seldom sentences:

* A prompt falls into segments at commas, full stops, brackets and the like. The first noun of a segment hangs
  on the root of the tree, so the items of a list are their own ancestors.
* Determiners and adjectives hang on their noun; a run of nouns ("traffic light") is one noun. A possessor is a
  noun of its own and hangs on what it has: woman's -> hat in "a woman's hat".
* A preposition hangs on what is before it (noun or verb), its noun on the preposition: hair -> woman in
  "a woman with long hair", wind -> hair in "hair blowing in the wind". A time ("at night") and, after a noun,
  a setting ("in a meadow") hang on the segment's first noun, and a place after "a bowl of soup" on the bowl.
* A participle hangs on the noun before it, or on the one above that can do such a thing ("a man on a bench
  feeding pigeons"); a finite verb on the segment's first noun, an object on its verb. A verb between its subject
  and object is as near to both and so joins the object ("wearing a hat").
* The subject of a clause after "while", "where" and the like hangs on the segment's first noun.
* A segment that starts with a preposition, a participle or has only adjectives hangs on the latest noun at
  the root; in lists without articles ("1girl, long hair, standing") on the first one.
* A conjunct hangs on what governs the first conjunct ("a meadow with a house and a boat": boat -> meadow),
  or, if that is the root, on the first conjunct ("a house and a boat in a meadow": boat -> house,
  meadow -> house). An enumeration over commas does so where it can be told from a list: "a bowl of apples,
  pears and figs", "a table with a lamp, a book, and a cup".

Nouns that are no centres: the carrier in "a photo of a cat", words of style, quality, camera and layout
("8k, masterpiece, cinematic lighting, in the background"), artists after "by", what the prompt excludes
("no people", "without a hat or gloves", "not wearing shoes"). Their words belong to the nearest phrase but are left
out of its text, and so are relative pronouns, labels ("subject:"), requests ("draw me") and parameters
("--ar 16:9").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from grefine_rt.assess.prompt.attachment import Tree, build
from grefine_rt.assess.prompt.tags import BE, leaves
from grefine_rt.text.emphasis import WORD, plain_text

_LEADING = ("IN", "TO", "CC", "EX", "WDT", "WRB")  # not shown at the start of a phrase's text
_TRAILING = ("IN", "TO", "CC", "DT")


@dataclass(frozen=True)
class Phrase:
    """A noun with the words that belong to it.

    `text`: its words in prompt order, without words of style and without leading prepositions, conjunctions
    and forms of "be".
    `noun`: the centre alone; the whole text where the prompt has no noun.
    `words`: positions of all its words in `prompt_words(prompt)`, ascending; every word is in exactly one phrase.
    `noun_index`: position of the noun's last word.
    `ancestor`: index of the phrase above, in the tuple that `prompt_phrases` returns; the own index at a root.
    """

    text: str
    noun: str
    words: tuple[int, ...]
    noun_index: int
    ancestor: int
    spans: tuple[tuple[int, int], ...] = ()


def prompt_words(prompt: str) -> tuple[str, ...]:
    """The words that `Phrase.words` counts: those of the plain prompt, without punctuation and weights."""
    return tuple(WORD.findall(plain_text(prompt)))


@lru_cache(maxsize=256)
def prompt_phrases(prompt: str) -> tuple[Phrase, ...]:
    """The phrases of a prompt in the order of their nouns, with their ancestors. An empty prompt gives ().

    Any text is accepted, no exception is raised. Deterministic and safe to call from many threads.
    """
    text = plain_text(prompt)
    spans = [match.span() for match in WORD.finditer(text)]
    if not spans:
        return ()
    found = [text[start:end] for start, end in spans]
    tree = build(leaves(text, spans))
    if not tree.nouns:
        whole = " ".join(found)
        return (Phrase(whole, whole, tuple(range(len(found))), len(found) - 1, 0, tuple(spans)),)
    phrase_of = _assign(tree)
    ancestors = _ancestors(tree, phrase_of)
    members_of: list[list[int]] = [[] for _ in tree.nouns]
    for word, phrase in enumerate(phrase_of):
        members_of[phrase].append(word)
    phrases = []
    for index, (noun, members) in enumerate(zip(tree.nouns, members_of, strict=True)):
        shown = [word for word in members if word not in tree.dropped]
        while shown[0] not in noun and (tree.tags[shown[0]] in _LEADING or found[shown[0]].lower() in BE):
            shown.pop(0)
        while shown[-1] not in noun and (tree.tags[shown[-1]] in _TRAILING or found[shown[-1]].lower() in BE):
            shown.pop()
        phrases.append(
            Phrase(
                " ".join(found[word] for word in shown),
                " ".join(found[word] for word in noun),
                tuple(members),
                noun[-1],
                ancestors[index],
                tuple(spans),
            )
        )
    return tuple(phrases)


def _assign(tree: Tree) -> list[int]:
    """Eq. 4: the phrase of every word: the noun nearest in the tree; ties go to the noun that follows."""
    children = tree.children()
    phrase_of = [-1] * tree.root
    for phrase, noun in enumerate(tree.nouns):
        for word in noun:
            phrase_of[word] = phrase
    centre = list(phrase_of)
    for word in range(tree.root):
        if centre[word] >= 0:
            continue
        seen, ring = {word}, [word]
        nearest: list[int] = []
        while not nearest:
            outer = []
            for node in ring:
                for neighbour in [*children[node], *([tree.parent[node]] if node != tree.root else [])]:
                    if neighbour not in seen:
                        seen.add(neighbour)
                        outer.append(neighbour)
            ring = outer
            nearest = [node for node in ring if node != tree.root and centre[node] >= 0]
        chosen = min(nearest, key=lambda node: (node < word, abs(node - word)))
        phrase_of[word] = centre[chosen]
    return phrase_of


def _ancestors(tree: Tree, phrase_of: Sequence[int]) -> list[int]:
    """Algorithm 1: breadth first from the root; a phrase hangs on the first noun above it."""
    children = tree.children()
    is_noun = {word for noun in tree.nouns for word in noun}
    ancestor = list(range(len(tree.nouns)))
    queue = deque([tree.root])
    while queue:
        node = queue.popleft()
        for child in children[node]:
            queue.append(child)
            if node == tree.root or phrase_of[node] == phrase_of[child]:
                continue
            above = node
            while above != tree.root and above not in is_noun:
                above = tree.parent[above]
            if above != tree.root and not _reaches(ancestor, phrase_of[above], phrase_of[child]):
                ancestor[phrase_of[child]] = phrase_of[above]
    return ancestor


def _reaches(ancestor: Sequence[int], phrase: int, target: int) -> bool:
    """Whether `target` is `phrase` or above it: then it must not become its child."""
    while phrase != target and ancestor[phrase] != phrase:
        phrase = ancestor[phrase]
    return phrase == target
