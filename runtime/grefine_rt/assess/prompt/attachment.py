"""The tree of a prompt's words on which Eq. 4 and Algorithm 1 of G-Refine work; its rules stand in `phrases`."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from grefine_rt.assess.prompt import lexicon
from grefine_rt.assess.prompt.tags import BE, BREAK, DETERMINERS, HIDDEN, NEGATION, POSSESSOR, Leaf

_FINITE = ("VBZ", "VBP", "VBD", "MD")

# A chunk grammar over one letter a word: D determiner, 1 number, R adverb, J adjective, N noun, S possessor,
# C conjunction, P preposition, V verb, X anything else. All quantifiers are possessive, so time stays linear.
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
_CHUNK = re.compile(rf"(?P<PP>P++{_NP})|(?P<NP>{_NP})|(?P<AP>{_AP})|(?P<word>.)")
_POSSESSOR = re.compile(rf"{_BEFORE_NOUN}(?P<noun>N*+S)")


@dataclass
class Tree:
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


def build(leaves: Sequence[Leaf]) -> Tree:
    """The tree of tagged words with separators between them."""
    in_order = [leaf for leaf in leaves if leaf.index >= 0]
    count = len(in_order)
    tree = Tree(count, [count] * count, [leaf.tag for leaf in in_order])
    tree.dropped.update(leaf.index for leaf in in_order if leaf.tag == HIDDEN)
    builder = _Builder(tree, [leaf.text for leaf in in_order])
    segments = [builder.prepare(_chunks(segment)) for segment in _segments(leaves)]
    enumerated = builder.enumerated(segments)
    for number, items in enumerate(segments):
        builder.add(items, number in enumerated)
    return tree


# --- chunks -------------------------------------------------------------------------------------------------


@dataclass
class _Item:
    """A chunk of a segment: kind NP, PP, V (verb), CC or X (anything else)."""

    kind: str
    words: list[int]  # of the noun phrase; the one word of the other kinds
    nouns: list[int] = field(default_factory=list)
    prepositions: list[int] = field(default_factory=list)
    possessors: list[tuple[list[int], list[int]]] = field(default_factory=list)  # words, nouns among them
    extra: list[int] = field(default_factory=list)  # carriers and groups that hang on the noun
    style: bool = False


def _segments(leaves: Sequence[Leaf]) -> Iterator[list[Leaf]]:
    segment: list[Leaf] = []
    for leaf in leaves:
        if leaf.tag != BREAK:
            segment.append(leaf)
        elif segment:
            yield segment
            segment = []
    if segment:
        yield segment


def _letter(tag: str) -> str:
    return _LETTERS.get(tag) or _FAMILIES.get(tag[:2], "X")


def _chunks(segment: Sequence[Leaf]) -> list[_Item]:
    letters = "".join(_letter(leaf.tag) for leaf in segment)
    items: list[_Item] = []
    for chunk in _CHUNK.finditer(letters):
        start, end = chunk.span()
        words = [leaf.index for leaf in segment[start:end] if leaf.index >= 0]
        if chunk.lastgroup in ("NP", "PP"):
            depth = len(chunk[0]) - len(chunk[0].lstrip("P"))
            items.append(_noun_phrase(chunk.lastgroup, segment[start:end], letters[start:end], depth))
        elif chunk.lastgroup == "AP":
            items += [_Item("X", [word]) for word in words]
        elif words:  # a comma has none
            items.append(_Item({"V": "V", "C": "CC"}.get(chunk[0], "X"), words))
    return items


def _noun_phrase(kind: str, leaves: Sequence[Leaf], letters: str, depth: int) -> _Item:
    head_at = len(letters.rstrip("NS"))
    if letters.endswith("N"):
        head_at = max(head_at, letters.rfind("S") + 1)
    item = _Item(
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


# --- tree ---------------------------------------------------------------------------------------------------


@dataclass
class _Segment:
    """What the next item of a segment may hang on."""

    root: int | None = None  # the segment's subject
    noun: int | None = None  # the latest
    governor: int | None = None  # of what comes next
    preposition_governor: int | None = None
    verb: int | None = None  # that waits for its object
    conjunction: int | None = None
    latest_preposition: int | None = None
    relative: bool = False
    subordinate: bool = False
    pending: list[int] = field(default_factory=list)  # words that hang on the segment's next noun


class _Builder:
    """Hangs the items of one segment after the other into the tree."""

    def __init__(self, tree: Tree, lower: Sequence[str]) -> None:
        self.tree = tree
        self.lower = lower
        self.first_root: int | None = None
        self.last_root: int | None = None
        self.last_root_has_article = False
        self.waiting: list[int] = []  # words before the first noun at the root
        self.first_conjunct: dict[int, int] = {}
        self.heads: set[int] = set()
        self.list_above: int | None = None  # on what the items of an enumeration hang
        self.style_words = {word for word, text in enumerate(lower) if lexicon.is_style(text)}
        self.style_phrases = lexicon.positions_of(lexicon.STYLE_PHRASES, lower)
        self.style_words |= self.style_phrases

    def prepare(self, items: list[_Item]) -> list[_Item]:
        """The items of a segment with their style, carriers and exclusions marked."""
        items = self._merge(items)
        self._exclude(items)
        return self._without_style(items)

    def enumerated(self, segments: Sequence[Sequence[_Item]]) -> set[int]:
        """Numbers of the segments that go on with an enumeration: "a bowl of apples, oranges, and grapes".

        It starts with something's content ("of apples", "with a lamp"), goes on with nothing but nouns, and ends
        with a conjunction; that one follows a comma, or all nouns have no article, since "a meadow with a house,
        a boat and a tree" is as often meant as a list of its own.
        """
        found: set[int] = set()
        for number, items in enumerate(segments):
            last = items[-1]
            if last.kind != "PP" or self.lower[last.prepositions[0]] not in lexicon.CONTENT:
                continue
            bare = self._bare(last)
            for end in range(number + 1, len(segments)):
                kinds = [item.kind for item in segments[end]]
                bare = bare and all(self._bare(item) for item in segments[end] if item.kind == "NP")
                closes = kinds[:2] == ["CC", "NP"] or (bare and kinds[:3] == ["NP", "CC", "NP"])
                if closes:
                    found.update(range(number + 1, end + 1))
                if closes or kinds != ["NP"]:
                    break
        return found

    def add(self, items: Sequence[_Item], enumerated: bool) -> None:
        """Hang a segment into the tree."""
        state = _Segment()
        if enumerated and self.list_above is not None:
            first = next(item for item in items if item.kind == "NP")
            head = first.nouns[-1]
            self._close(first)
            self._hang(head, self.list_above)
            for item in items[: items.index(first)]:
                self._hang(item.words[0], head)
            items = items[items.index(first) + 1 :]
            state.root = state.noun = state.governor = state.preposition_governor = head
        else:
            self.list_above = None
        for position, item in enumerate(items):
            follower = items[position + 1] if position + 1 < len(items) else None
            if item.kind == "CC":
                if state.conjunction is not None:
                    state.pending.append(state.conjunction)
                state.conjunction = item.words[0]
            elif item.kind == "NP":
                self._add_noun(state, item, follower)
            elif item.kind == "PP":
                self._add_preposition(state, item)
            elif item.kind == "V":
                self._add_verb(state, item.words[0])
            else:
                self._add_word(state, item)

        above = state.root if state.root is not None else self._subject()
        for word in state.pending if state.conjunction is None else [*state.pending, state.conjunction]:
            if above is None:
                self.waiting.append(word)
            else:
                self._hang(word, above)

    def _add_noun(self, state: _Segment, item: _Item, follower: _Item | None) -> None:
        attach, root = self.tree.parent, self.tree.root
        head = item.nouns[-1]
        self._close(item)
        whose = self.tree.tags[item.words[0]] == "WP$" and state.noun is not None
        verb_follows = follower is not None and follower.kind == "V"
        finite_follows = verb_follows and follower is not None and self._finite(follower.words[0])
        state.preposition_governor = head
        if whose and state.noun is not None:
            self._hang(head, state.noun)
        elif state.subordinate and state.root is not None:
            self._hang(head, state.root)
            state.root = head
        elif state.conjunction is not None and state.noun is not None:
            other = state.root if verb_follows and state.root is not None else state.noun
            first = self.first_conjunct.get(other, other)
            self.first_conjunct[head] = first
            self._hang(head, first if attach[first] == root else attach[first])
            if attach[first] == root:
                state.preposition_governor = first
            if finite_follows:
                state.root = head
        elif state.conjunction is not None and self.last_root is not None:
            self._hang(head, self.last_root)
        elif state.verb is not None:
            self._hang(head, state.verb)
        else:
            self._new_root(item)
        if state.conjunction is not None:
            self._hang(state.conjunction, head)
        for word in state.pending:
            self._hang(word, head)
        state.pending, state.conjunction, state.verb = [], None, None
        state.relative, state.subordinate = whose, False
        state.governor = state.noun = head
        state.root = head if state.root is None else state.root

    def _add_preposition(self, state: _Segment, item: _Item) -> None:
        attach, root = self.tree.parent, self.tree.root
        head, first_word = item.nouns[-1], item.prepositions[0]
        self._close(item)
        for word in item.prepositions[1:]:
            self._hang(word, first_word)
        above = state.preposition_governor
        content = self.lower[first_word] in lexicon.CONTENT
        if state.conjunction is not None:
            self._hang(state.conjunction, first_word)
            above = attach[state.latest_preposition] if state.latest_preposition is not None else above
            state.conjunction = None
        elif above is not None and above == state.noun and not content:
            above = self._whole(above)
        key = lexicon.singular(self.lower[head])
        placed = key in lexicon.SETTINGS and self.lower[first_word] not in ("with", "of", "from")
        if state.root is not None and (key in lexicon.TIMES or (placed and state.governor == state.noun)):
            above = state.root
        if above is None:
            above = self._subject()
            state.root = above
        if above is None or above == root:
            self._hang(first_word, head)
            self._new_root(item)
            state.root = head
        else:
            self._hang(first_word, above)
            self._hang(head, first_word)
            state.latest_preposition = first_word
            self.list_above = first_word
        state.governor = state.preposition_governor = state.noun = head
        state.verb, state.relative = None, False

    def _add_verb(self, state: _Segment, word: int) -> None:
        attach = self.tree.parent
        above = state.governor
        finite = self._finite(word) and not state.relative and state.verb is None
        if state.root is not None and (state.conjunction is not None or finite):
            above = state.root
        elif above is not None and above == state.noun and self.lower[word] in lexicon.DEEDS:
            above = self._agent(above)
        if state.conjunction is not None:
            self._hang(state.conjunction, word)
            state.conjunction = None
        if above is None:
            above = self._subject()
            state.root = above
        if above is None or above in state.pending:
            state.pending.append(word)
        elif above == state.verb and self.lower[above] in BE:  # "is sleeping": the auxiliary hangs below
            self._hang(word, attach[above])
            self._hang(above, word)
            state.verb = word
        else:
            self._hang(word, above)
            state.verb = word
        state.governor = state.preposition_governor = word

    def _add_word(self, state: _Segment, item: _Item) -> None:
        word = item.words[-1]
        text = self.lower[item.words[0]]
        state.relative = state.relative or self.tree.tags[item.words[0]] in ("WDT", "WP", "WRB")
        if item.style:
            self._close(item)
        if text in lexicon.SUBORDINATORS:
            state.subordinate = True
            state.verb = None
        if state.governor is None or state.conjunction is not None or state.subordinate:
            state.pending.append(word)
        else:
            self._hang(word, state.governor)

    def _finite(self, word: int) -> bool:
        return self.tree.tags[word] in _FINITE

    def _whole(self, noun: int) -> int:
        """The bowl of "a bowl of soup": a place that is told after it is the bowl's."""
        of = self.tree.parent[noun]
        if of == self.tree.root or self.lower[of] != "of":
            return noun
        holder = self.tree.parent[of]
        held = holder in self.heads and lexicon.singular(self.lower[holder]) in lexicon.HOLDERS
        return self._whole(holder) if held else noun

    def _agent(self, noun: int) -> int:
        """The nearest noun at or above `noun` that can do something; `noun` where there is none."""
        node = noun
        while node != self.tree.root:
            if node in self.heads and lexicon.singular(self.lower[node]) in lexicon.ANIMATES:
                return node
            node = self.tree.parent[node]
        return noun

    def _hang(self, word: int, above: int) -> None:
        """Make `above` the parent of `word`; the root where that would close a ring."""
        node = above
        while node not in (word, self.tree.root):
            node = self.tree.parent[node]
        self.tree.parent[word] = self.tree.root if node == word else above

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
        self.last_root_has_article = not self._bare(item)

    def _bare(self, item: _Item) -> bool:
        return not any(self.tree.tags[word] in DETERMINERS for word in item.words)

    def _close(self, item: _Item) -> None:
        """Hang a noun phrase's words on its last noun, and make the noun a centre unless it is style."""
        head = item.nouns[-1] if item.nouns else item.words[-1]
        for word in [*item.words, *item.extra]:
            if word != head:
                self.tree.parent[word] = head
        if item.style:
            return
        owned = [*(nouns[-1] for _, nouns in item.possessors[1:]), head]
        for (words, nouns), thing in zip(item.possessors, owned, strict=False):
            for word in words:
                self.tree.parent[word] = nouns[-1]
            self.tree.parent[nouns[-1]] = thing
            self._centre(nouns)
        self._centre(item.nouns)

    def _centre(self, nouns: Sequence[int]) -> None:
        self.tree.nouns.append(tuple(nouns))
        self.heads.add(nouns[-1])

    # --- what is no thing in the picture ---

    def _merge(self, items: list[_Item]) -> list[_Item]:
        """Let "a photo of" and "a group of" hang on the noun that follows; carriers are dropped as well."""
        merged: list[_Item] = []
        rest = deque(items)
        while rest:
            item = rest.popleft()
            leads = item.kind == "NP" and all(self._styled(earlier) for earlier in merged if earlier.nouns)
            while item.nouns and rest:
                head = lexicon.singular(self.lower[item.nouns[-1]])
                link = [self.lower[word] for word in rest[0].prepositions or rest[0].words]
                carrier = leads and head in lexicon.CARRIERS
                links_on = link in (["of"], ["with"]) or (head == "view" and link[0] == "from")
                if rest[0].kind == "PP" and (
                    (carrier and links_on) or (head in lexicon.GROUPS and link == ["of"])
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
                item = _Item(
                    item.kind, target.words, target.nouns, item.prepositions, target.possessors, extra
                )
            merged.append(item)
        return merged

    def _exclude(self, items: Sequence[_Item]) -> None:
        """Mark as style what the prompt says is not there: "no people", "not wearing a hat or gloves"."""
        dropped = self.tree.dropped
        scope = ""  # "next": what comes is excluded; "more": so is what a conjunction adds; "pronoun"
        for position, item in enumerate(items):
            text = self.lower[item.words[0]]
            tag = self.tree.tags[item.words[0]]
            follower = items[position + 1] if position + 1 < len(items) else None
            if item.nouns:
                own = text == "no" or any(self.lower[word] == "without" for word in item.prepositions)
                item.style = own or scope == "next"
                scope = "more" if item.style else ""
            elif tag == NEGATION:
                dropped.update(item.words)
                if follower is not None and not follower.nouns:
                    self._drop_copula(items[:position])
                scope = "next"
            elif item.kind == "CC" and scope == "more":
                bare = follower is not None and follower.kind != "PP" and self._bare(follower)
                scope = "next" if text in ("or", "nor") or (text == "and" and bare) else ""
                dropped.update(item.words if scope else [])
            elif scope == "next" and (item.kind == "V" or tag.startswith(("JJ", "RB"))):
                dropped.update(item.words)
                scope = "more" if tag.startswith("JJ") else "next"
            elif text in lexicon.NOBODY:
                dropped.update(item.words)
                if position and self.tree.tags[items[position - 1].words[-1]] in ("IN", "WRB"):
                    dropped.update(items[position - 1].words)
                scope = "pronoun"
            elif scope == "pronoun" and (item.kind == "V" or tag in ("IN", "PRP")):
                dropped.update(item.words)
            else:
                scope = ""

    def _drop_copula(self, items: Sequence[_Item]) -> None:
        for item in reversed(items):
            text = self.lower[item.words[0]]
            if item.nouns or (text not in BE and text not in lexicon.RELATIVES):
                return
            self.tree.dropped.update(item.words)

    def _without_style(self, items: list[_Item]) -> list[_Item]:
        """Turn noun phrases that name nothing to be seen into plain words, left out of the phrases' texts."""
        artist_before = False
        for position, item in enumerate(items):
            before = items[position - 1] if position else None
            if item.kind == "CC" and artist_before:
                self.tree.dropped.update(item.words)
            if not item.nouns:
                artist_before = artist_before and item.kind == "CC"
                self._drop_function_word(item)
                continue
            link = [self.lower[word] for word in item.prepositions]
            bare = self._bare(item)
            name = len(item.nouns) > 1 or self.tree.tags[item.nouns[-1]] == "NNP"
            artist = bare and name and (link == ["by"] or (artist_before and item.kind == "NP"))
            layout = bool(link) and self.lower[item.words[0]] == "the" and self._is_carrier(item)
            follows_style = before is not None and before.style and link == ["of"]
            item.style = item.style or artist or layout or self._styled(item) or follows_style
            if before is not None and self.lower[item.nouns[-1]] == "style" and item.kind == "NP":
                before.style = before.style or (before.kind == "NP" and self._bare(before))
            artist_before = artist
        seen = [item for item in items if item.nouns and not item.style]
        if len(seen) == 1 and seen[0].kind == "NP" and self._is_carrier(seen[0]) and seen[0] is items[0]:
            seen[0].style = all(item.style or item.kind == "X" for item in items[1:])
        for item in items:
            if item.style:
                item.kind, item.words, item.nouns = "X", [*item.prepositions, *item.extra, *item.words], []
                item.prepositions, item.extra = [], []
                self.tree.dropped.update(item.words)
        if not any(item.nouns for item in items):
            members = {word for item in items for word in item.words}
            tags = {self.tree.tags[word] for word in members}
            style = members & (self.style_words | self.tree.dropped)
            if (
                style
                or tags <= {"IN", "TO", "PRP"}
                or all(self.lower[word][0].isdecimal() for word in members)
            ):
                self.tree.dropped.update(members)  # "behind it", "::2", "1930s"
        return items

    def _drop_function_word(self, item: _Item) -> None:
        """Leave relative pronouns and "either" out of the texts, and verbs within phrases of style."""
        word = item.words[0]
        text, tag = self.lower[word], self.tree.tags[word]
        if (text in lexicon.RELATIVES and tag in ("WDT", "WP")) or word in self.style_phrases:
            self.tree.dropped.update(item.words)
        if item.kind == "CC" and text in lexicon.CORRELATIVES:
            item.kind = "X"
            self.tree.dropped.update(item.words)

    def _styled(self, item: _Item) -> bool:
        """Whether a noun phrase names a style, a camera and the like."""
        if item.nouns[-1] in self.style_words:
            return True
        head = self.lower[item.nouns[-1]]
        if head in lexicon.STYLE_OR_THING or lexicon.singular(head) in lexicon.STYLE_OR_THING:
            return self._bare(item) or any(word in self.style_words for word in item.words)
        named = any(self.lower[word] in lexicon.STYLE_NAMES for word in item.words)
        return named and item.kind == "NP" and self._bare(item)

    def _is_carrier(self, item: _Item) -> bool:
        return lexicon.singular(self.lower[item.nouns[-1]]) in lexicon.CARRIERS
