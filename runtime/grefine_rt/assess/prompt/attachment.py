"""The parent of each word of a prompt; the rules stand in `phrases`, an example of each beside its branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from grefine_rt.assess.prompt import lexicon, style_words, words
from grefine_rt.assess.prompt.chunks import Chunk, chunks_of, segments
from grefine_rt.assess.prompt.climb import Climber
from grefine_rt.assess.prompt.leaf import BE, HIDDEN, Leaf
from grefine_rt.assess.prompt.style import Style
from grefine_rt.assess.prompt.tree import Tree
from grefine_rt.assess.prompt.words import word_set

_NO_SETTING = word_set("with of from over across through along into onto behind beyond")
_ALONG = word_set("along across through down past toward towards")
_FINITE = ("VBZ", "VBP", "VBD", "MD")


def build(leaves: Sequence[Leaf], check: Callable[[], None]) -> Tree:
    """The tree of tagged words with separators between them. `check` is called for each segment."""
    in_order = [leaf for leaf in leaves if leaf.index >= 0]
    count = len(in_order)
    tree = Tree(count, [count] * count, [leaf.tag for leaf in in_order])
    tree.dropped.update(leaf.index for leaf in in_order if leaf.tag == HIDDEN)
    lower = [leaf.text for leaf in in_order]
    capitals = {leaf.index for leaf in in_order if leaf.capital}
    style = Style(lower, tree.tags, tree.dropped, capitals)
    sorted_segments = [style.sorted(chunks_of(segment)) for segment in segments(leaves)]
    tree.layouts = style.layouts
    builder = _Builder(tree, lower, style.is_bare)
    enumerated = builder.enumerated(sorted_segments)
    for number, items in enumerate(sorted_segments):
        check()
        builder.add(items, number in enumerated)
    return tree


@dataclass
class _Segment:
    """The words of a segment that its next item may hang on."""

    root: int | None = None  # the segment's subject
    noun: int | None = None  # the latest
    governor: int | None = None  # of what comes next
    preposition_governor: int | None = None
    verb: int | None = None  # that waits for its object
    conjunction: int | None = None
    latest_preposition: int | None = None
    relative: bool = False
    object_clause: bool = False  # "which the puppy" has come, and not its verb
    pronoun: bool = False  # the word before is "which" or "that"
    infinitive: bool = False  # the word before is "to"
    subordinate: bool = False
    finite: bool = False  # a finite verb has come
    latest_verb: int | None = None
    link: list[int] = field(default_factory=list)  # prepositions without a noun so far
    pending: list[int] = field(default_factory=list)  # words that hang on the segment's next noun


class _Builder(Climber):
    """Hangs the items of one segment after the other into the tree."""

    def __init__(self, tree: Tree, lower: Sequence[str], is_bare: Callable[[Chunk], bool]) -> None:
        super().__init__(tree, lower)
        self.is_bare = is_bare
        self.first_root: int | None = None
        self.last_root: int | None = None
        self.last_root_has_article = False
        self.last_noun: int | None = None  # of the segment before
        self.waiting: list[int] = []  # words before the first noun at the root
        self.first_conjunct: dict[int, int] = {}
        self.indefinite: set[int] = set()  # heads with "a" or "an"
        self.list_above: int | None = None  # on what the items of an enumeration hang

    def enumerated(self, segments: Sequence[Sequence[Chunk]]) -> set[int]:
        """Numbers of the segments that go on with an enumeration: "a bowl of apples, oranges, and grapes".

        Its first segment tells a content ("of apples", "with a lamp") or a deed ("wearing a hat"), the next ones are
        nouns alone, and the last ends with a conjunction. The conjunction follows a comma, or all nouns lack articles,
        since "a meadow with a house, a boat and a tree" is as often meant as a list of its own.
        """
        found: set[int] = set()
        for number, items in enumerate(segments):
            last = items[-1]
            worn = (
                len(items) > 1
                and items[-2].kind == "V"
                and self.lower[items[-2].words[0]] in lexicon.TRANSITIVE
            )
            content = last.kind == "PP" and self.lower[last.prepositions[0]] in lexicon.CONTENT
            if not content and not (worn and last.kind == "NP"):
                continue
            bare = self.is_bare(last) or worn
            for end in range(number + 1, len(segments)):
                kinds = [item.kind for item in segments[end]]
                bare = worn or (
                    bare and all(self.is_bare(item) for item in segments[end] if item.kind == "NP")
                )
                closes = kinds[:2] == ["CC", "NP"] or (bare and kinds[:3] == ["NP", "CC", "NP"])
                closes = closes or (worn and kinds[:3] == ["NP", "CC", "V"])  # "a hat and holding a cane"
                if closes:
                    found.update(range(number + 1, end + 1))
                if closes or kinds != ["NP"]:
                    break
        return found

    def add(self, items: Sequence[Chunk], enumerated: bool) -> None:
        """Hang a segment into the tree."""
        state = _Segment()
        if enumerated and self.list_above is not None:
            first = next(item for item in items if item.kind == "NP")
            head = first.nouns[-1]
            self._close(first)
            self.tree.hang(head, self.list_above)
            for item in items[: items.index(first)]:
                self.tree.hang(item.words[0], head)
            items = items[items.index(first) + 1 :]
            state.root = state.noun = state.governor = state.preposition_governor = head
            if [item.kind for item in items[:2]] == ["CC", "V"]:  # "wearing boots, a hat and holding a cane"
                state.root = self.tree.parent[self.list_above]
        else:
            self.list_above = None
        for position, item in enumerate(items):
            follower = items[position + 1] if position + 1 < len(items) else None
            if item.nouns:
                state.link = []
            state.pronoun = state.pronoun and item.kind == "NP"
            if item.kind == "CC":
                if state.conjunction is not None:
                    state.pending.append(state.conjunction)
                state.conjunction = item.words[0]
            elif item.kind == "NP":
                self._add_noun(state, item, follower)
            elif item.kind == "PP":
                self._add_preposition(state, item)
            elif item.kind == "V":
                self._add_verb(state, item.words[0], follower is not None and follower.kind == "NP")
            else:
                self._note_own_link(state, item)
                self._add_word(state, item)

        self.last_noun = state.noun if state.noun is not None else self.last_noun
        above = state.root if state.root is not None else self._subject()
        for word in state.pending if state.conjunction is None else [*state.pending, state.conjunction]:
            if above is None:
                self.waiting.append(word)
            else:
                self.tree.hang(word, above)

    def _add_noun(self, state: _Segment, item: Chunk, follower: Chunk | None) -> None:
        attach, root = self.tree.parent, self.tree.root
        head = item.nouns[-1]
        self._close(item)
        whose = self.tree.tags[item.words[0]] == "WP$" and state.noun is not None
        verb_follows = follower is not None and follower.kind == "V"
        finite_follows = verb_follows and follower is not None and self._finite(follower.words[0])
        state.preposition_governor = head
        if whose and state.noun is not None:  # "a temple whose roof is golden"
            self.tree.hang(head, state.noun)
        elif state.pronoun and state.noun is not None:  # "the toy which the puppy chewed"
            self.tree.hang(head, state.noun)
            state.object_clause = True
        elif state.subordinate and state.root is not None:  # "a man sleeps while a dog watches"
            self.tree.hang(head, state.root)
            state.root = head
        elif state.conjunction is not None and state.noun is not None:  # "a house and a boat"
            if verb_follows and (self._disagrees(item, follower) or self._goes_on(state, item)):
                verb_follows = finite_follows = False
            other = state.root if verb_follows and state.root is not None else self._alike(state.noun, item)
            first = self.first_conjunct.get(other, other)
            self.first_conjunct[head] = first
            self.tree.hang(head, first if attach[first] == root else attach[first])
            if attach[first] == root and state.latest_preposition is None:
                state.preposition_governor = first  # but "a boat on a river and a castle on a hill"
            if finite_follows:  # "the house is red and the boat is blue"
                state.root = head
        elif state.conjunction is not None and self.last_root is not None:  # "a king, and a jester"
            self.tree.hang(head, self.last_root)
        elif state.verb is not None:  # "wearing a hat"
            self.tree.hang(head, state.verb)
            self.list_above = state.verb
        else:  # "red car, blue sky"
            self._new_root(item)
        if state.conjunction is not None:
            self.tree.hang(state.conjunction, head)
        for word in state.pending:
            self.tree.hang(word, head)
        state.pending, state.conjunction, state.verb = [], None, None
        state.relative, state.subordinate, state.pronoun = whose, False, False
        state.governor = state.noun = head
        state.root = head if state.root is None else state.root

    def _add_preposition(self, state: _Segment, item: Chunk) -> None:
        attach, root = self.tree.parent, self.tree.root
        head, first_word = item.nouns[-1], item.prepositions[0]
        self._close(item)
        for word in item.prepositions[1:]:
            self.tree.hang(word, first_word)
        above = state.preposition_governor
        content = self.lower[first_word] in lexicon.CONTENT
        if self.lower[first_word] in ("with", "of") and state.governor == state.noun:
            above = state.noun  # "a chair and a table with four legs"
        aimed = self._aimed(state, first_word) if state.conjunction is None else None
        if state.conjunction is not None:  # "left of a sphere and under a cone"
            self.tree.hang(state.conjunction, first_word)
            above = attach[state.latest_preposition] if state.latest_preposition is not None else above
            state.conjunction = None
        elif aimed is not None:
            above = aimed
        elif above is not None and above == state.noun and not content:  # "a bowl of soup on a table"
            above = self.accompanied(self.container(above), item.words)
            if self.lower[first_word] in _ALONG:
                above = self.loaded(above)
        key = words.singular(self.lower[head])
        placed = (
            key in lexicon.SETTINGS
            and len(item.prepositions) == 1
            and self.lower[first_word] not in _NO_SETTING
            and (state.noun not in self.first_conjunct or state.latest_preposition is None)
        )
        if state.root is not None and (key in lexicon.TIMES or (placed and state.governor == state.noun)):
            above = state.root  # "a boat next to a house at night", "a boat next to a house in a meadow"
        if above is None:  # "a red house, with a tent"
            above = self._subject()
            state.root = above
        if above is None or above == root:  # "in a meadow, a red house"
            self.tree.hang(first_word, head)
            self._new_root(item)
            state.root = head
        else:
            self.tree.hang(first_word, above)
            self.tree.hang(head, first_word)
            self.tree.links[head] = item.prepositions
            state.latest_preposition = first_word
            self.list_above = first_word
        state.governor = state.preposition_governor = state.noun = head
        state.verb, state.relative = None, False

    def _add_verb(self, state: _Segment, word: int, acts: bool) -> None:
        attach = self.tree.parent
        above = state.governor
        finite = self._finite(word) and not state.relative and state.verb is None
        while_doing = state.subordinate and self.tree.tags[word] == "VBG"  # "texts on a phone while waiting"
        if state.root is not None and (state.conjunction is not None or finite or while_doing):
            above = state.root  # "a bird perched on a branch is singing"
        elif above is not None and above == state.noun:
            carried = self.tree.links.get(self.first_conjunct.get(above, above), [-1])[0]
            posture = carried >= 0 and self.lower[carried] in ("with", "in") and self._is_deed(word)
            acts = acts and self._is_deed(word)  # "people around a fire roasting chestnuts"
            if posture or acts or self.lower[word] in lexicon.DEEDS or state.infinitive:
                above = self.agent(above)  # "a man with a hat standing", "a man on a bench feeding pigeons"
            elif carried >= 0 and self.lower[carried] in ("made", "like"):
                above = self.likened(carried)  # "a tornado made of tigers crashing into a tower"
            elif self.lower[word] in style_words.HANGS:  # "a painting of a ship hanging above a bed"
                above = self.container(above)
        state.latest_verb = word
        state.infinitive, state.finite = False, state.finite or self._finite(word)
        if state.conjunction is not None:
            self.tree.hang(state.conjunction, word)
            state.conjunction = None
        if above is None:  # "1girl, long hair, standing"
            above = self._subject()
            state.root = above
        if above is None or above in state.pending:
            state.pending.append(word)
        elif above == state.verb and self.lower[above] in BE:  # "is sleeping": the auxiliary hangs below
            self.tree.hang(word, attach[above])
            self.tree.hang(above, word)
            state.verb = word
        else:
            self.tree.hang(word, above)
            state.verb = None if state.object_clause else word  # "the toy which the puppy chewed is red"
            state.object_clause = False
        state.governor = state.preposition_governor = word

    def _note_own_link(self, state: _Segment, item: Chunk) -> None:
        """Keep "behind it" of "a house with a tree behind it": it places the tree, seen from the house."""
        word = item.words[-1]
        if self.tree.tags[word] in ("IN", "TO"):
            state.link.append(word)
            return
        if state.link and state.noun is not None and self.lower[word] in lexicon.REFERENCES:
            self.tree.own_links[state.noun] = state.link
        state.link = []

    def _add_word(self, state: _Segment, item: Chunk) -> None:
        word = item.words[-1]
        if self.tree.tags[word] in ("WDT", "WP") and state.governor is None and self.last_noun is not None:
            state.governor = state.root = state.preposition_governor = self.last_noun  # "..., which is red"
        text = self.lower[item.words[0]]
        state.relative = state.relative or self.tree.tags[item.words[0]] in ("WDT", "WP", "WRB")
        state.pronoun = self.tree.tags[item.words[0]] in ("WDT", "WP")
        state.infinitive = text == "to"
        if item.style:
            self._close(item)
        clause = text in lexicon.CLAUSE_PREPOSITIONS and self.tree.tags[word] == "WRB"
        if text in lexicon.SUBORDINATORS or clause:
            state.subordinate = True
            state.verb = None
        if state.governor is None or state.conjunction is not None or state.subordinate:
            state.pending.append(word)
        else:
            self.tree.hang(word, state.governor)

    def _alike(self, noun: int, item: Chunk) -> int:
        """The noun that `item` is joined to: "holding a kite in the left hand and a ball" joins ball and kite.

        The nearest one above with an article of the same kind is taken, else the nearest.
        """
        node = noun
        while self._indefinite(item.words) and node != self.tree.root:
            if node in self.indefinite:
                return node
            node = self.tree.parent[node]
        return noun

    def _indefinite(self, members: Sequence[int]) -> bool:
        return self.lower[members[0]] in ("a", "an")

    def _disagrees(self, item: Chunk, verb: Chunk | None) -> bool:
        """Whether a plural is not the subject of "is": "a woman wearing a hat and sunglasses is lying on a towel"."""
        plural = self.tree.tags[item.nouns[-1]] == "NNS"
        return plural and verb is not None and self.tree.tags[verb.words[0]] == "VBZ"

    def _aimed(self, state: _Segment, preposition: int) -> int | None:
        """The verb that "at" or "to" belongs to: "a fox peeks from behind a tree at a rabbit"."""
        verbs = lexicon.AIMED.get(self.lower[preposition])
        verb = state.latest_verb
        if self.lower[preposition] == "by" and verb is not None and self.tree.tags[verb] == "VBN":
            stays = self.lower[verb] in lexicon.STAYS  # "a car parked on a hill by a church"
            return None if stays else verb  # "a boat propelled on water by oars"
        return verb if verbs and verb is not None and words.verb_of(self.lower[verb]) in verbs else None

    def _goes_on(self, state: _Segment, item: Chunk) -> bool:
        """Whether the verb is still the first noun's: "a dog wearing a scarf and a hat sits on a stool"."""
        if state.finite or state.root is None or state.noun is None or state.root == state.noun:
            return False
        does = words.singular(self.lower[state.root]) in lexicon.ANIMATES
        link = self.tree.links.get(state.noun) or [state.noun]
        has = self.lower[link[0]] in ("with", "in") and self.tree.parent[link[0]] == state.root
        return (does or has) and words.singular(self.lower[item.nouns[-1]]) not in lexicon.ANIMATES

    def _is_deed(self, word: int) -> bool:
        """Whether a participle is more likely the deed of a person than of a possession such as "hair blowing"."""
        return self.tree.tags[word] == "VBG" and self.lower[word] not in lexicon.EVENTS

    def _finite(self, word: int) -> bool:
        return self.tree.tags[word] in _FINITE

    def _subject(self) -> int | None:
        """The noun of an earlier segment on which a segment without one hangs."""
        return self.last_root if self.last_root_has_article else self.first_root

    def _new_root(self, item: Chunk) -> None:
        head = item.nouns[-1]
        self.tree.parent[head] = self.tree.root
        if self.first_root is None:
            self.first_root = head
            for word in self.waiting:
                self.tree.hang(word, head)
        self.last_root = head
        self.last_root_has_article = not self.is_bare(item)

    def _close(self, item: Chunk) -> None:
        """Hang a noun phrase's words on its last noun, and make the noun a centre unless it is style."""
        head = item.nouns[-1] if item.nouns else item.words[-1]
        for word in [*item.words, *item.extra]:
            if word != head:
                self.tree.parent[word] = head
        if item.style:
            return
        if self._indefinite(item.words):
            self.indefinite.add(head)
        owned = [*(nouns[-1] for _, nouns in item.possessors[1:]), head]
        for (members, nouns), thing in zip(item.possessors, owned, strict=False):
            for word in members:
                self.tree.parent[word] = nouns[-1]
            self.tree.parent[nouns[-1]] = thing
            self._centre(nouns)
        self._centre(item.nouns)

    def _centre(self, nouns: Sequence[int]) -> None:
        self.tree.nouns.append(tuple(nouns))
        self.heads.add(nouns[-1])
