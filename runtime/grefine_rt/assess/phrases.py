"""A prompt as noun phrases and their ancestors (G-Refine 3.2: Eq. 4 and Algorithm 1).

NLTK tags and chunks the prompt; from the chunks every word gets one parent, and on that tree the two steps of
the paper work. How the tree is built, since prompts are seldom sentences:

* A prompt falls into segments at commas, full stops, brackets and the like. The first noun of a segment hangs
  on the root of the tree, so the items of a list are their own ancestors.
* Determiners and adjectives hang on their noun; a run of nouns ("traffic light") is one noun.
* A preposition hangs on what is before it (noun or verb), its noun on the preposition: hair -> woman in
  "a woman with long hair", wind -> hair in "hair blowing in the wind". A time ("at night") and, after a noun,
  a setting ("in a meadow") hang on the segment's first noun.
* A participle hangs on the noun before it, a finite verb on the segment's first noun, an object on its verb.
  A verb between its subject and object is as near to both and so joins the object ("wearing a hat").
* A segment that starts with a preposition, a participle or has only adjectives hangs on the latest noun at
  the root; in lists without articles ("1girl, long hair, standing") on the first one.
* A conjunct hangs on what governs the first conjunct ("a meadow with a house and a boat": boat -> meadow),
  or, if that is the root, on the first conjunct ("a house and a boat in a meadow": boat -> house,
  meadow -> house).

Nouns that are no centres: the carrier in "a photo of a cat", words of style, quality, camera and layout
("8k, masterpiece, cinematic lighting, in the background"), artists after "by", and what the prompt excludes
("no people", "without a hat"). Their words belong to the nearest phrase but are left out of its text.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from grefine_rt.assess import lexicon, tagger
from grefine_rt.text.emphasis import WORD, plain_text

_GRAMMAR = r"""
AP: {<RB.*>*<JJ.*>+(<CC|,><RB.*>*<JJ.*>+)*}
NP: {<PDT|DT|PRP\$|WP\$|CD|RB.*>*(<AP><CD>*)*<NN.*>+}
PP: {<IN|TO>+<NP>}
"""
_DETERMINERS = ("PDT", "DT", "PRP$", "WP$", "CD")
_FINITE = ("VBZ", "VBP", "VBD", "MD")
_LEADING = ("IN", "TO", "CC", "EX", "WDT")  # not shown at the start of a phrase's text
_TRAILING = ("IN", "TO", "CC", "DT")
_BE = ("is", "are", "was", "were", "be", "been", "being")
# NLTK's chunker takes time quadratic in the words it is given; no phrase goes over this many.
_LONGEST_SEGMENT = 80
_BREAK = "SEP"  # tag of what separates segments


@dataclass(frozen=True)
class Phrase:
    """A noun with the words that belong to it.

    `text`: its words in prompt order, without words of style and without leading prepositions, conjunctions
    and forms of "be".
    `noun`: the centre alone; the whole text where the prompt has no noun.
    `words`: positions of all its words in `words(prompt)`, ascending; every word is in exactly one phrase.
    `noun_index`: position of the noun's last word.
    `ancestor`: index of the phrase above, in the tuple that `parse` returns; the own index at a root.
    """

    text: str
    noun: str
    words: tuple[int, ...]
    noun_index: int
    ancestor: int


def words(prompt: str) -> tuple[str, ...]:
    """The words that `Phrase.words` counts: those of the plain prompt, without punctuation and weights."""
    return tuple(WORD.findall(plain_text(prompt)))


@lru_cache(maxsize=256)
def parse(prompt: str) -> tuple[Phrase, ...]:
    """The phrases of a prompt in the order of their nouns, with their ancestors. An empty prompt gives ().

    Any text is accepted, no exception is raised. Deterministic and safe to call from many threads.
    """
    text = plain_text(prompt)
    spans = [match.span() for match in WORD.finditer(text)]
    if not spans:
        return ()
    found = [text[start:end] for start, end in spans]
    tree = _build(found, _leaves(text, spans))
    if not tree.nouns:
        whole = " ".join(found)
        return (Phrase(whole, whole, tuple(range(len(found))), len(found) - 1, 0),)
    phrase_of = _assign(tree)
    ancestors = _ancestors(tree, phrase_of)
    members_of: list[list[int]] = [[] for _ in tree.nouns]
    for word, phrase in enumerate(phrase_of):
        members_of[phrase].append(word)
    phrases = []
    for index, (noun, members) in enumerate(zip(tree.nouns, members_of, strict=True)):
        shown = [word for word in members if word not in tree.dropped]
        while shown[0] not in noun and (tree.tags[shown[0]] in _LEADING or found[shown[0]].lower() in _BE):
            shown.pop(0)
        while shown[-1] not in noun and tree.tags[shown[-1]] in _TRAILING:
            shown.pop()
        phrases.append(
            Phrase(
                " ".join(found[word] for word in shown),
                " ".join(found[word] for word in noun),
                tuple(members),
                noun[-1],
                ancestors[index],
            )
        )
    return tuple(phrases)


@dataclass
class _Tree:
    """Words 0..n-1 and the root n; `parent[word]` is a word or the root. `nouns` are the centres."""

    root: int
    parent: list[int]
    tags: list[str]
    nouns: list[tuple[int, ...]] = field(default_factory=list)
    dropped: set[int] = field(default_factory=set)

    def children(self) -> list[list[int]]:
        children: list[list[int]] = [[] for _ in range(self.root + 1)]
        for word, parent in enumerate(self.parent):
            children[parent].append(word)
        return children


def _assign(tree: _Tree) -> list[int]:
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


def _ancestors(tree: _Tree, phrase_of: Sequence[int]) -> list[int]:
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


# --- tags ---------------------------------------------------------------------------------------------------


@dataclass
class _Leaf:
    """A word (`index` is its position) or a separator (`index` is -1)."""

    text: str  # lower case
    tag: str
    index: int
    name: bool = False  # capitalised within a text of small letters

    @property
    def key(self) -> str:
        return lexicon.singular(self.text)


_EDGE = _Leaf("", _BREAK, -1)


def _leaves(text: str, spans: Sequence[tuple[int, int]]) -> list[_Leaf]:
    """The words with separators between them where the text has punctuation or a new line, all tagged."""
    small_letters = sum(text[start].islower() for start, _ in spans) * 2 >= len(spans)
    leaves: list[_Leaf] = []
    last = 0
    for index, (start, end) in enumerate(spans):
        gap = text[last:start]
        if index and (gap.strip() or "\n" in gap):
            leaves.append(_Leaf("," if "," in gap else ".", _BREAK, -1))
        starts_segment = not leaves or leaves[-1].index < 0
        word = text[start:end]
        name = small_letters and not starts_segment and word[:1].isupper() and len(word) > 1
        leaves.append(_Leaf(word.lower(), "", index, name))
        last = end
    tags = tagger.tag([leaf.text for leaf in leaves])
    for leaf, tag in zip(leaves, tags, strict=True):
        if leaf.index >= 0:
            leaf.tag = tag if tag[0].isalpha() else "SYM"
    _mend(leaves)
    return leaves


def _mend(leaves: list[_Leaf]) -> None:
    """Correct the tagger where prompts differ from newspapers, with the lists in `lexicon`."""
    for position, leaf in enumerate(leaves):
        if leaf.index >= 0:
            leaf.tag = _known_tag(leaf)
        if leaf.text in lexicon.SHADES and position + 1 < len(leaves):
            leaf.tag = "JJ" if leaves[position + 1].text in lexicon.COLOURS else leaf.tag
    fixed = _fix_prepositions(leaves)
    for before, leaf, after in _neighbours(leaves):
        if leaf.index >= 0 and id(leaf) not in fixed:
            leaf.tag = _tag_in_place(before, leaf, after)
    # "a big, red house": a comma between the adjectives of one noun separates nothing.
    for position, leaf in enumerate(leaves):
        if leaf.text == "," and leaf.index < 0 and _joins_adjectives(leaves, position):
            leaf.tag = ","


def _known_tag(leaf: _Leaf) -> str:
    if not any(character.isascii() and character.isalnum() for character in leaf.text):
        if leaf.text == "&":
            return "CC"
        return "NN" if any(character.isalpha() for character in leaf.text) else "SYM"
    if leaf.text in lexicon.ADJECTIVES:
        return "JJ"
    if leaf.text in lexicon.PREPOSITIONS:
        return "IN"
    digits = leaf.text.rstrip("abcdefghijklmnopqrstuvwxyz")
    if digits.isdecimal() and lexicon.singular(leaf.text[len(digits) :]) in lexicon.NOUNS:
        return "NN"  # "1girl"
    known = leaf.key in lexicon.NOUNS or leaf.key in lexicon.CARRIERS or leaf.text in lexicon.STYLE
    if leaf.text in lexicon.ING_NOUNS or (known and leaf.text not in lexicon.STYLE_ADJECTIVES):
        return leaf.tag if leaf.tag.startswith("NN") else "NN"
    if leaf.name and leaf.tag not in ("IN", "CC", "DT", "TO", "JJ", "PRP", "PRP$"):
        return "NNP"
    return leaf.tag


def _fix_prepositions(leaves: list[_Leaf]) -> set[int]:
    """Tag all words of "in front of" and its like as prepositions; returns the ids of these leaves."""
    fixed: set[int] = set()
    texts = [leaf.text for leaf in leaves]
    position = 0
    while position < len(leaves):
        for phrase in lexicon.PREPOSITION_PHRASES:
            if phrase[0] == texts[position] and tuple(texts[position : position + len(phrase)]) == phrase:
                for leaf in leaves[position : position + len(phrase)]:
                    leaf.tag = "IN"
                    fixed.add(id(leaf))
                position += len(phrase) - 1
                break
        position += 1
    return fixed


def _neighbours(leaves: list[_Leaf]) -> Iterator[tuple[_Leaf, _Leaf, _Leaf]]:
    for position, leaf in enumerate(leaves):
        before = leaves[position - 1] if position else _EDGE
        yield before, leaf, leaves[position + 1] if position + 1 < len(leaves) else _EDGE


def _tag_in_place(before: _Leaf, leaf: _Leaf, after: _Leaf) -> str:
    starts = before.tag in (_BREAK, "CC")
    noun_follows = after.tag.startswith(("NN", "JJ"))
    if leaf.text in lexicon.COLOURS:
        alone = not noun_follows and after.tag != "CC"
        is_thing = before.tag in _DETERMINERS or (leaf.text == "orange" and starts)
        return "NN" if alone and is_thing else "JJ"
    ing = leaf.text.endswith("ing") and leaf.text not in lexicon.ING_NOUNS and len(leaf.text) > 4
    if leaf.tag in ("NN", "JJ") and ing:
        participle = before.tag.startswith("NN") or (starts and after.tag in ("DT", "IN", "PRP$"))
        return "VBG" if participle else leaf.tag
    if leaf.text in lexicon.CARRIERS and leaf.text.endswith("ing") and after.tag in ("DT", "PRP$"):
        return "VBG"  # "a girl painting a wall"
    if leaf.tag == "VBG":
        if not noun_follows:
            ends_noun_phrase = before.tag in ("DT", "PRP$") and after.tag != "IN"
            return "NN" if ends_noun_phrase else "VBG"
        describes = before.tag in (*_DETERMINERS, "JJ", "IN", "RB")
        return "JJ" if describes or (starts and leaf.text not in lexicon.TRANSITIVE) else "VBG"
    if leaf.tag in ("VBN", "VBD") and noun_follows and leaf.text.endswith(("ed", "en")):
        return leaf.tag if before.tag.startswith(("NN", "VB")) else "JJ"
    ends = after.tag in (_BREAK, "IN", "CC", "TO", "VBG", "VBN", "VBZ")
    if ends and leaf.tag in ("VB", "VBP", "VBZ", "VBD", "RB", "JJ", "JJS", "FW", "UH"):
        after_article = before.tag in ("DT", "PRP$") and leaf.text not in lexicon.ADJECTIVES
        after_adjective = before.tag in ("JJ", "CD") and leaf.tag.startswith("VB")
        if after_article or after_adjective:
            return "NN"
    # A verb on its own between commas is a list item.
    if leaf.tag in ("VB", "VBP", "VBD", "FW") and before.tag == after.tag == _BREAK:
        return "NN" if not leaf.text.endswith("ed") else leaf.tag
    return leaf.tag


def _joins_adjectives(leaves: list[_Leaf], comma: int) -> bool:
    start = comma - 1
    while start >= 0 and (leaves[start].tag in ("JJ", "RB") or leaves[start].tag == ","):
        start -= 1
    end = comma + 1
    while end < len(leaves) and (leaves[end].tag in ("JJ", "RB") or leaves[end].text == ","):
        end += 1
    return (
        0 <= start < comma - 1
        and leaves[start].tag in _DETERMINERS
        and comma + 1 < end < len(leaves)
        and leaves[end].tag.startswith("NN")
        and leaves[end - 1].tag == "JJ"
    )


# --- tree ---------------------------------------------------------------------------------------------------


@dataclass
class _Item:
    """A chunk of a segment: kind NP, PP, V (verb), CC or X (anything else)."""

    kind: str
    words: list[int]  # of the noun phrase; the one word of the other kinds
    nouns: list[int] = field(default_factory=list)
    prepositions: list[int] = field(default_factory=list)
    extra: list[int] = field(default_factory=list)  # carriers and groups that hang on the noun
    style: bool = False


@lru_cache(maxsize=1)
def _chunker() -> Any:
    from nltk.chunk.regexp import RegexpParser

    return RegexpParser(_GRAMMAR)


def _build(found: Sequence[str], leaves: Sequence[_Leaf]) -> _Tree:
    count = len(found)
    by_index = {leaf.index: leaf for leaf in leaves if leaf.index >= 0}
    tree = _Tree(count, [count] * count, [by_index[index].tag for index in range(count)])
    lower = [by_index[index].text for index in range(count)]
    builder = _Builder(tree, lower)
    for segment in _segments(leaves):
        chunks = _chunker().parse([(leaf.text, leaf.tag, leaf.index) for leaf in segment])
        builder.add([item for chunk in chunks for item in _items(chunk)])
    return tree


def _segments(leaves: Sequence[_Leaf]) -> Iterator[list[_Leaf]]:
    segment: list[_Leaf] = []
    for leaf in leaves:
        if leaf.tag == _BREAK or len(segment) == _LONGEST_SEGMENT:
            if segment:
                yield segment
            segment = []
        if leaf.tag != _BREAK:
            segment.append(leaf)
    if segment:
        yield segment


def _items(node: Any) -> list[_Item]:
    if isinstance(node, tuple):
        _, tag, index = node
        kind = "V" if tag.startswith("VB") or tag == "MD" else "CC" if tag == "CC" else "X"
        return [_Item(kind, [index])]
    leaves = [leaf for leaf in node.leaves() if leaf[2] >= 0]
    if node.label() == "AP":
        return [_Item("X", [index]) for _, _, index in leaves]
    depth = sum(isinstance(child, tuple) for child in node) if node.label() == "PP" else 0
    return [
        _Item(
            node.label(),
            [index for _, _, index in leaves[depth:]],
            [index for _, tag, index in leaves[depth:] if tag.startswith("NN")],
            [index for _, _, index in leaves[:depth]],
        )
    ]


class _Builder:
    """Hangs the items of one segment after the other into the tree."""

    def __init__(self, tree: _Tree, lower: Sequence[str]) -> None:
        self.tree = tree
        self.lower = lower
        self.first_root: int | None = None
        self.last_root: int | None = None
        self.last_root_has_article = False
        self.waiting: list[int] = []  # words before the first noun at the root
        self.first_conjunct: dict[int, int] = {}
        style = lexicon.STYLE | lexicon.STYLE_ADJECTIVES
        self.style_words = {
            word for word, text in enumerate(lower) if text in style or lexicon.singular(text) in style
        }
        for phrase in lexicon.STYLE_PHRASES:
            for start in range(len(lower) - len(phrase) + 1):
                if tuple(lower[start : start + len(phrase)]) == phrase:
                    self.style_words.update(range(start, start + len(phrase)))

    def add(self, items: list[_Item]) -> None:
        items = self._without_style(self._merge(items))
        attach = self.tree.parent
        root = self.tree.root
        segment_root: int | None = None
        noun: int | None = None  # the latest
        governor: int | None = None  # of what comes next
        preposition_governor: int | None = None
        verb: int | None = None  # that waits for its object
        conjunction: int | None = None
        latest_preposition: int | None = None
        relative = False
        pending: list[int] = []  # words that hang on the segment's next noun

        for position, item in enumerate(items):
            follower = items[position + 1].kind if position + 1 < len(items) else ""
            if item.kind == "CC":
                if conjunction is not None:
                    pending.append(conjunction)
                conjunction = item.words[0]
            elif item.kind == "NP":
                head = item.nouns[-1]
                self._close(item)
                preposition_governor = head
                if conjunction is not None and noun is not None:
                    other = segment_root if follower == "V" and segment_root is not None else noun
                    first = self.first_conjunct.get(other, other)
                    self.first_conjunct[head] = first
                    self._hang(head, first if attach[first] == root else attach[first])
                    if attach[first] == root:
                        preposition_governor = first
                    if follower == "V" and self.tree.tags[items[position + 1].words[0]] in _FINITE:
                        segment_root = head
                elif conjunction is not None and self.last_root is not None:
                    self._hang(head, self.last_root)
                elif verb is not None:
                    self._hang(head, verb)
                else:
                    self._new_root(item)
                if conjunction is not None:
                    self._hang(conjunction, head)
                for word in pending:
                    self._hang(word, head)
                pending, conjunction, verb, relative = [], None, None, False
                governor = noun = head
                segment_root = head if segment_root is None else segment_root
            elif item.kind == "PP":
                head, first_word = item.nouns[-1], item.prepositions[0]
                self._close(item)
                for word in item.prepositions[1:]:
                    self._hang(word, first_word)
                above = preposition_governor
                if conjunction is not None:
                    self._hang(conjunction, first_word)
                    above = attach[latest_preposition] if latest_preposition is not None else above
                    conjunction = None
                key = lexicon.singular(self.lower[head])
                placed = key in lexicon.SETTINGS and self.lower[first_word] not in ("with", "of", "from")
                if segment_root is not None and (key in lexicon.TIMES or (placed and governor == noun)):
                    above = segment_root
                if above is None:
                    above = self._subject()
                    segment_root = above
                if above is None or above == root:
                    self._hang(first_word, head)
                    self._new_root(item)
                    segment_root = head
                else:
                    self._hang(first_word, above)
                    self._hang(head, first_word)
                    latest_preposition = first_word
                governor = preposition_governor = noun = head
                verb, relative = None, False
            elif item.kind == "V":
                word = item.words[0]
                above = governor
                finite = self.tree.tags[word] in _FINITE and not relative and verb is None
                if segment_root is not None and (conjunction is not None or finite):
                    above = segment_root
                if conjunction is not None:
                    self._hang(conjunction, word)
                    conjunction = None
                if above is None:
                    above = self._subject()
                    segment_root = above
                if above is None or above in pending:
                    pending.append(word)
                elif above == verb and self.lower[above] in _BE:  # "is sleeping": the auxiliary hangs below
                    self._hang(word, attach[above])
                    self._hang(above, word)
                    verb = word
                else:
                    self._hang(word, above)
                    verb = word
                governor = preposition_governor = word
            else:
                word = item.words[0]
                relative = relative or self.tree.tags[word] in ("WDT", "WP", "WRB")
                if item.style:
                    self._close(item)
                    word = item.words[-1]
                if governor is None or conjunction is not None:
                    pending.append(word)
                else:
                    self._hang(word, governor)

        above = segment_root if segment_root is not None else self._subject()
        for word in pending if conjunction is None else [*pending, conjunction]:
            if above is None:
                self.waiting.append(word)
            else:
                self._hang(word, above)

    def _hang(self, word: int, above: int) -> None:
        """Make `above` the parent of `word`; the root where that would close a ring."""
        node = above
        while node not in (word, self.tree.root):
            node = self.tree.parent[node]
        self.tree.parent[word] = self.tree.root if node == word else above

    def _merge(self, items: list[_Item]) -> list[_Item]:
        """Let "a photo of" and "a group of" hang on the noun that follows; carriers are dropped as well."""
        merged: list[_Item] = []
        rest = deque(items)
        while rest:
            item = rest.popleft()
            leads = item.kind == "NP" and not any(earlier.nouns for earlier in merged)
            while item.nouns and rest:
                head = lexicon.singular(self.lower[item.nouns[-1]])
                link = [self.lower[word] for word in rest[0].prepositions or rest[0].words]
                carrier = leads and head in lexicon.CARRIERS
                if rest[0].kind == "PP" and (
                    (carrier and link in (["of"], ["with"])) or (head in lexicon.GROUPS and link == ["of"])
                ):
                    links = []
                elif carrier and len(rest) > 1 and link[0] in lexicon.CARRIER_VERBS and rest[1].kind == "NP":
                    links = rest.popleft().words
                else:
                    break
                target = rest.popleft()
                extra = [*item.extra, *item.words, *links, *target.prepositions]
                if carrier:
                    self.tree.dropped.update(extra)
                item = _Item(item.kind, target.words, target.nouns, item.prepositions, extra)
            merged.append(item)
        return merged

    def _without_style(self, items: list[_Item]) -> list[_Item]:
        """Turn noun phrases that name nothing to be seen into plain words, left out of the phrases' texts."""
        artist_before = False
        for position, item in enumerate(items):
            before = items[position - 1] if position else None
            if item.kind == "CC" and artist_before:
                self.tree.dropped.update(item.words)
            if not item.nouns:
                artist_before = artist_before and item.kind == "CC"
                continue
            link = [self.lower[word] for word in item.prepositions]
            bare = not any(self.tree.tags[word] in _DETERMINERS for word in item.words)
            name = len(item.nouns) > 1 or self.tree.tags[item.nouns[-1]] == "NNP"
            artist = bare and name and (link == ["by"] or (artist_before and item.kind == "NP"))
            item.style = (
                artist
                or item.nouns[-1] in self.style_words
                or "without" in link
                or self.lower[item.words[0]] == "no"
                or (before is not None and before.style and link == ["of"])
            )
            artist_before = artist
        seen = [item for item in items if item.nouns and not item.style]
        if len(seen) == 1 and seen[0].kind == "NP" and self._is_carrier(seen[0]) and seen[0] is items[0]:
            seen[0].style = all(item.style or item.kind == "X" for item in items[1:])
        for item in items:
            if item.style:
                item.kind, item.words, item.nouns = "X", [*item.prepositions, *item.extra, *item.words], []
                item.prepositions, item.extra = [], []
                self.tree.dropped.update(item.words)
        members = {word for item in items for word in item.words}
        if not any(item.nouns for item in items) and members & (self.style_words | self.tree.dropped):
            self.tree.dropped.update(members)
        return items

    def _is_carrier(self, item: _Item) -> bool:
        return lexicon.singular(self.lower[item.nouns[-1]]) in lexicon.CARRIERS

    def _subject(self) -> int | None:
        """The noun of an earlier segment on which a segment without one hangs."""
        return self.last_root if self.last_root_has_article else self.first_root

    def _new_root(self, item: _Item) -> None:
        head = item.nouns[-1]
        self.tree.parent[head] = self.tree.root
        if self.first_root is None:
            self.first_root = head
            for word in self.waiting:
                self._hang(word, head)
        self.last_root = head
        self.last_root_has_article = any(self.tree.tags[word] in _DETERMINERS for word in item.words)

    def _close(self, item: _Item) -> None:
        """Hang a noun phrase's words on its last noun, and make the noun a centre unless it is style."""
        head = item.nouns[-1] if item.nouns else item.words[-1]
        for word in [*item.words, *item.extra]:
            if word != head:
                self.tree.parent[word] = head
        if not item.style:
            self.tree.nouns.append(tuple(item.nouns))
