"""A prompt as noun phrases and their ancestors (G-Refine 3.2: Eq. 4 and Algorithm 1).

The words are tagged (`tags`) and chunked (`chunks`), style is set apart (`style`), every word gets one parent
(`attachment`), and on that tree the two steps of the paper work. The rules that build the tree, since prompts are
seldom sentences:

* A prompt falls into segments at commas, full stops, brackets and the like. The first noun of a segment hangs
  on the root of the tree, so the items of a list are their own ancestors.
* Determiners and adjectives hang on their noun; a run of nouns ("traffic light") is one noun. A possessor is a
  noun of its own and hangs on its possession: woman's -> hat in "a woman's hat".
* A preposition hangs on the noun or verb before it, its noun on the preposition: hair -> woman in
  "a woman with long hair", wind -> hair in "hair blowing in the wind". A time ("at night") and, after a noun,
  a setting ("in a meadow") hang on the segment's first noun, and a place after "a bowl of soup" on the bowl.
* A participle hangs on the noun before it, or on the one above that can do such a thing ("a man on a bench
  feeding pigeons"); a finite verb on the segment's first noun, an object on its verb. A verb between its subject
  and object is as near to both and so joins the object ("wearing a hat").
* The subject of a clause after "while", "where" and the like hangs on the segment's first noun.
* A segment that starts with a preposition, a participle or has only adjectives hangs on the latest noun at
  the root; in lists without articles ("1girl, long hair, standing") on the first one.
* A conjunct hangs on the governor of the first conjunct ("a meadow with a house and a boat": boat -> meadow),
  or, if that is the root, on the first conjunct ("a house and a boat in a meadow": boat -> house,
  meadow -> house). An enumeration over commas does so if it can be told from a list: "a bowl of apples,
  pears and figs", "a table with a lamp, a book, and a cup".

Nouns that are no centres: the carrier in "a photo of a cat", words of style, quality, camera and layout
("8k, masterpiece, cinematic lighting, in the background"), artists and schools, excluded things
("no people", "without a hat or gloves", "not wearing shoes"), words in quotation marks. Words of style, relative
pronouns, labels ("subject:"), requests ("draw me") and parameters ("--ar 16:9") belong to the nearest phrase but
are left out of its text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from grefine_rt.assess.prompt.attachment import build
from grefine_rt.assess.prompt.leaf import BE
from grefine_rt.assess.prompt.places import Position, Relation, opposite, position_of, relation_of
from grefine_rt.assess.prompt.tags import leaves
from grefine_rt.assess.prompt.tree import Tree
from grefine_rt.cancel import Cancels, stop_if_cancelled
from grefine_rt.errors import PromptError
from grefine_rt.text.emphasis import WORD, plain_text, uses_weights

MAX_CHARACTERS = 10_000
"""A longer prompt is refused."""
MAX_WORDS = 400
"""Later words are in no phrase: five times as many as a text encoder of 77 tokens reads."""

_LEADING = ("IN", "TO", "CC", "EX", "WDT", "WRB")  # not shown at the start of a phrase's text
_TRAILING = ("IN", "TO", "CC", "DT")


@dataclass(frozen=True)
class Phrase:
    """A noun with the words that belong to it.

    `text`: its words in prompt order, without words of style and without leading prepositions, conjunctions
    and forms of "be".
    `noun`: the centre alone; the whole text where the prompt has no noun.
    `words`: positions of all its words in `prompt_words(prompt)`, ascending. Each of the first `MAX_WORDS` words is
    in exactly one phrase.
    `spans`: start and end of each of `words` in `plain_text(prompt)`.
    `noun_index`: position of the noun's last word.
    `ancestor`: index of the phrase above, in the tuple that `prompt_phrases` returns; the own index at a root.
    `relation`: the thing's place seen from its ancestor; None if the prompt tells none.
    `position`: its place in the picture ("in the background"); None if the prompt tells none.
    `shown`: positions of the words that `text` is made of, ascending.
    """

    text: str
    noun: str
    words: tuple[int, ...]
    noun_index: int
    ancestor: int
    spans: tuple[tuple[int, int], ...] = ()
    relation: Relation | None = None
    position: Position | None = None
    shown: tuple[int, ...] = ()

    @property
    def noun_span(self) -> tuple[int, int]:
        """Start and end of the noun's last word in `plain_text(prompt)`."""
        return self.spans[self.words.index(self.noun_index)]


def prompt_words(prompt: str) -> tuple[str, ...]:
    """The words that `Phrase.words` counts: the plain prompt's, without punctuation and weights.

    Raises:
        PromptError: the prompt has more than `MAX_CHARACTERS` characters.
    """
    check_length(prompt)
    return tuple(WORD.findall(plain_text(prompt)))


def prompt_phrases(prompt: str, cancel: Cancels | None = None) -> tuple[Phrase, ...]:
    """The phrases of a prompt in the order of their nouns, with their ancestors. An empty prompt gives ().

    Deterministic and safe to call from many threads. The last 256 prompts are remembered.

    Raises:
        PromptError: the prompt has more than `MAX_CHARACTERS` characters. Any other text is accepted.
        Cancelled: `cancel` was set.
    """
    check_length(prompt)
    token = _Token(cancel)
    token.check()
    return _phrases(prompt, token)


def forget_prompts() -> None:
    """Empty the memory of former prompts, for measurements."""
    _phrases.cache_clear()


def check_length(prompt: str) -> None:
    """Raise PromptError, in one sentence, if a prompt has more than `MAX_CHARACTERS` characters."""
    if len(prompt) > MAX_CHARACTERS:
        raise PromptError(
            f"The prompt has {len(prompt)} characters, and {MAX_CHARACTERS} is the most: shorten it; text encoders "
            "read its first lines only."
        )


class _Token:
    """A cancel token that equals every other one, so that a prompt is remembered without it."""

    def __init__(self, cancel: Cancels | None) -> None:
        self.cancel = cancel

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Token)

    def check(self) -> None:
        stop_if_cancelled(self.cancel, "while the prompt was read")


@lru_cache(maxsize=256)
def _phrases(prompt: str, token: _Token) -> tuple[Phrase, ...]:
    text = plain_text(prompt)
    spans = [match.span() for match in WORD.finditer(text)][:MAX_WORDS]
    if not spans:
        return ()
    token.check()
    found = [text[start:end] for start, end in spans]
    tree = build(leaves(text, spans, aside=uses_weights(prompt)), token.check)
    if not tree.nouns:
        whole = " ".join(found)
        every = tuple(range(len(found)))
        return (Phrase(whole, whole, every, len(found) - 1, 0, tuple(spans), shown=every),)
    phrase_of = _assign(tree)
    ancestors = _ancestors(tree, phrase_of)
    members_of: list[list[int]] = [[] for _ in tree.nouns]
    for word, phrase in enumerate(phrase_of):
        members_of[phrase].append(word)
    positions = _positions(tree, phrase_of, found)
    phrases = []
    for index, (noun, members) in enumerate(zip(tree.nouns, members_of, strict=True)):
        shown = _shown(tree, noun, members, found)
        phrases.append(
            Phrase(
                " ".join(found[word] for word in shown),
                " ".join(found[word] for word in noun),
                tuple(members),
                noun[-1],
                ancestors[index],
                tuple(spans[word] for word in members),
                _relation(tree, noun[-1], found) if ancestors[index] != index else None,
                positions.get(index),
                tuple(shown),
            )
        )
    return tuple(phrases)


def _shown(tree: Tree, noun: Sequence[int], members: Sequence[int], found: Sequence[str]) -> list[int]:
    """The members of a phrase that its text shows."""
    shown = [word for word in members if word not in tree.dropped]
    start, end = 0, len(shown)
    while shown[start] not in noun and (
        tree.tags[shown[start]] in _LEADING or found[shown[start]].lower() in BE
    ):
        start += 1
    while shown[end - 1] not in noun and (
        tree.tags[shown[end - 1]] in _TRAILING or found[shown[end - 1]].lower() in BE
    ):
        end -= 1
    return shown[start:end]


def _relation(tree: Tree, head: int, found: Sequence[str]) -> Relation | None:
    if head in tree.own_links:
        return relation_of([found[word].lower() for word in tree.own_links[head]])
    told = relation_of([found[word].lower() for word in tree.links.get(head, ())])
    return opposite(told) if told is not None else None


def _positions(tree: Tree, phrase_of: Sequence[int], found: Sequence[str]) -> dict[int, Position]:
    positions: dict[int, Position] = {}
    for layout in tree.layouts:
        told = position_of([found[word].lower() for word in layout])
        if told is not None:
            positions.setdefault(phrase_of[layout[0]], told)
    return positions


def _assign(tree: Tree) -> list[int]:
    """Eq. 4: the phrase of every word: the noun nearest in the tree; ties go to the noun that follows."""
    phrase_of = [-1] * (tree.root + 1)
    for phrase, noun in enumerate(tree.nouns):
        for word in noun:
            phrase_of[word] = phrase
    centre = list(phrase_of)
    children = tree.children()
    for word in range(tree.root):
        if centre[word] < 0:
            phrase_of[word] = centre[_nearest(tree, children, centre, word)]
    return phrase_of[:-1]


def _nearest(tree: Tree, children: Sequence[Sequence[int]], centre: Sequence[int], word: int) -> int:
    """The word of a noun that is nearest to `word` in the tree."""
    seen, ring = {word}, [word]
    while True:
        outer = []
        for node in ring:
            above = (tree.parent[node],) if node != tree.root else ()
            for neighbour in (*children[node], *above):
                if neighbour not in seen:
                    seen.add(neighbour)
                    outer.append(neighbour)
        ring = outer
        nearest = [node for node in ring if node != tree.root and centre[node] >= 0]
        if nearest:
            return min(nearest, key=lambda node: (node < word, abs(node - word)))


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
    """Whether `target` is `phrase` or above it, so must not become its child."""
    while phrase != target and ancestor[phrase] != phrase:
        phrase = ancestor[phrase]
    return phrase == target
