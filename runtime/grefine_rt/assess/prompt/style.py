"""Noun phrases beside the things to be seen: carriers, style, camera, layout, artists, and excluded things.

Such a phrase becomes plain words (`Chunk` of kind X) that are left out of the phrases' texts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from grefine_rt.assess.prompt import credits, lettering, lexicon, names, style_words, words
from grefine_rt.assess.prompt.chunks import Chunk
from grefine_rt.assess.prompt.exclusions import Exclusions
from grefine_rt.assess.prompt.leaf import DETERMINERS

_SEEN = (
    lexicon.COLOURS
    | lexicon.METALS
    | words.word_set(
        "neon wooden wood marble glass stone leather silk velvet lace crystal iron brass ceramic wool"
    )
)
_MEASURES = style_words.UNITS | {"d"}
_FUNCTION_TAGS = {"IN", "TO", "PRP"}


class Style(Exclusions):
    """Sorts the segments of one prompt, first to last.

    `dropped`: words left out of the texts.
    `capitals`: words with a capital in a text of small letters.
    `layouts`: words of "in the background" and the like, one list for each.
    """

    def __init__(self, lower: Sequence[str], tags: list[str], dropped: set[int], capitals: set[int]) -> None:
        super().__init__(lower, tags, dropped)
        self.capitals = capitals
        self.layouts: list[list[int]] = []
        joined = ["and" if text == "&" else text for text in lower]
        self.phrases = words.positions_of(style_words.STYLE_PHRASES, joined)
        self.words = {word for word, text in enumerate(lower) if style_words.is_style(text)} | self.phrases
        self.things_before = False  # in an earlier segment
        self.artists = False  # the segment before ended with one
        self.doubtful: list[Chunk] = []  # the latest segments, as far as their nouns may be style
        self.turned = False  # from things to style: few things come later
        self.run = 0  # segments of style since the latest thing
        self.signed = False  # one of them tells an artist

    def sorted(self, items: list[Chunk]) -> list[Chunk]:
        """The items of a segment with their style, carriers and exclusions marked.

        Uncommon nouns right before style are style as well: "fresco, by giotto".
        """
        things_before = self.things_before
        items = self._sorted(items)
        if not things_before:
            return items
        seen = any(item.nouns for item in items)
        self.run = 0 if seen else self.run + 1
        self.signed = self.run > 0 and (self.signed or self.artists)
        if not seen:
            for item in self.doubtful if self.turned else ():
                item.style = True
                self._plain_words([item])
            self.doubtful = []
        elif len(items) == 1 and self._is_doubtful(items[0]) and not self._is_described(items[0]):
            self.doubtful.append(items[0])
        else:
            self.doubtful = []
        return items

    def _is_doubtful(self, item: Chunk) -> bool:
        """Whether a lone noun of a list is one that prompts seldom ask for. A plural is seldom style."""
        head = self.lower[item.nouns[-1]]
        if self._is_seen(item):
            return False
        single = self.tags[item.nouns[-1]] != "NNS" and words.singular(head) == head
        if not (item.kind == "NP" and single and self.is_bare(item)):
            return False
        if tuple(self.lower[word] for word in item.words[-2:]) in lexicon.COMPOUNDS.get(
            self.lower[item.words[0]], ()
        ):
            return False  # "milky way"
        late = self.signed and self.run > 1 and len(item.words) == 1  # "by wlop, artstation, alien"
        return late or not names.is_common(head, whole=self.run > 2)

    def _is_described(self, item: Chunk) -> bool:
        """Whether an adjective that is no style's makes a noun a thing: "empty stage"."""
        return any(self.tags[word] == "JJ" and word not in self.words for word in item.words)

    def _is_seen(self, item: Chunk) -> bool:
        """Whether a colour or a material makes a noun a thing: "red gown", "marble countertop"."""
        return any(self.lower[word] in _SEEN for word in item.words[:-1])

    def _sorted(self, items: list[Chunk]) -> list[Chunk]:
        if self._is_name_or_style(items):
            for item in items:
                item.style = bool(item.nouns)
                self.dropped.update(item.words)
            self.artists = True
            self.turned = self.turned or self.things_before
            self._plain_words(items)
            return items
        self._cut_likenesses(items)
        items = self._merge_carriers(items)
        self.exclude(items)
        self._mark(items)
        self._plain_words(items)
        self._drop_leftovers(items)
        if self.things_before and not any(item.nouns for item in items):
            self.turned = self.turned or any(set(item.words) & self.dropped for item in items)
        self.things_before = self.things_before or any(item.nouns for item in items)
        return items

    def _is_name_or_style(self, items: Sequence[Chunk]) -> bool:
        """Whether a whole segment is a name or ends in a word of style: "wes anderson, food styling"."""
        members = sorted(word for item in items for word in (*item.prepositions, *item.words))
        texts = [self.lower[word] for word in members]
        capitals = [word in self.capitals for word in members]
        if credits.are_credits_anywhere(texts, capitals, self.artists):
            return True
        if not self.things_before:
            return False
        tags = [self.tags[word] for word in members]
        told = [
            word in self.words or text in style_words.GENRES
            for word, text in zip(members, texts, strict=True)
        ]
        styled = len(items) > 1 and (all(told) or credits.ends_in_style(texts, tags))  # "pulp sci - fi"
        return styled or credits.are_credits(texts, tags, capitals, self.artists)

    def _cut_likenesses(self, items: Sequence[Chunk]) -> None:
        """Leave the meadow of "a ghibli style meadow"."""
        for item in items:
            at = next((i for i, word in enumerate(item.nouns[:-1]) if self.lower[word] == "style"), -1)
            if at >= 0:
                self.dropped.update(item.nouns[: at + 1])
                item.nouns = item.nouns[at + 1 :]

    def _texts(self, item: Chunk) -> list[str]:
        return [self.lower[word] for word in item.words]

    # --- carriers and groups ---

    def _merge_carriers(self, items: list[Chunk]) -> list[Chunk]:
        """Let "a photo of" and "a group of" hang on the noun that follows; carriers are dropped as well."""
        merged: list[Chunk] = []
        rest = deque(items)
        while rest:
            item = rest.popleft()
            leads = item.kind == "NP" and all(self._styled(earlier) for earlier in merged if earlier.nouns)
            while item.nouns and rest:
                found = self._links(item, rest, leads)
                if found is None:
                    break
                carrier, links = found
                target = rest.popleft()
                extra = [*item.extra, *item.words, *links, *target.prepositions]
                if carrier:
                    self.dropped.update(extra)
                item = Chunk(
                    item.kind, target.words, target.nouns, item.prepositions, target.possessors, extra
                )
            merged.append(item)
        return merged

    def _links(self, item: Chunk, rest: deque[Chunk], leads: bool) -> tuple[bool, list[int]] | None:
        """Whether `item` is a carrier, and the verb between it and the next noun; None: it stays as it is.

        "a photo of a cat", "a portrait with two dogs", "a view from a hill", "a painting showing a ship".
        """
        head = words.singular(self.lower[item.nouns[-1]])
        if self._is_carrier(item) and any(
            other.kind == "V" and self.lower[other.words[0]] in style_words.HANGS for other in rest
        ):
            return None  # "a painting of a ship hangs above the bed"
        link = [self.lower[word] for word in rest[0].prepositions or rest[0].words]
        carrier = leads and (self._is_carrier(item) or self._styled(item))
        links_on = (
            link in (["of"], ["with"])
            or (link[0] == link[-1] == "of")
            or (head in ("view", "shot") and link[0] == "from")
        )
        if head in style_words.MANNERS:
            return None
        if rest[0].kind == "PP" and ((carrier and links_on) or (head in lexicon.GROUPS and link == ["of"])):
            return carrier, []
        if carrier and len(rest) > 1 and link[0] in style_words.CARRIER_VERBS and rest[1].kind == "NP":
            return carrier, rest.popleft().words
        return None

    # --- style, layout, artists ---

    def _mark(self, items: list[Chunk]) -> None:
        by_artist = self.artists  # "by A, B and C" goes on over commas
        self.artists = False
        alone = all(item.kind in ("NP", "CC") or self.lower[item.words[0]].isdecimal() for item in items)
        manner = False  # what comes is a manner's: "in the style of van gogh"
        for position, item in enumerate(items):
            before = items[position - 1] if position else None
            if not item.nouns:
                if item.kind == "CC" and by_artist:
                    self.dropped.update(item.words)
                else:
                    by_artist = by_artist and self.lower[item.words[0]] in ("and", "&")
                    self._drop_function_word(item)
                continue
            link = [self.lower[word] for word in item.prepositions]
            if link == ["by"] and self._by_artist(item, before, by_artist):
                item.style = self.artists = by_artist = True
            elif item.kind == "NP" and self._named(item, by_artist, alone):
                item.style = self.artists = True
            else:
                by_artist = False
                made = before is not None and before.kind == "V" and self._is_made(item)
                styled = not made and (self._styled(item) or self._placed(item) or self._is_lettering(item))
                of = manner and link == ["of"]
                item.style = item.style or styled or of
                named = of and self.is_bare(item) and names.may_be_name(self._texts(item), lenient=True)
                self.artists = by_artist = named  # "in the style of A and B"
            manner = words.singular(self.lower[item.nouns[-1]]) in style_words.MANNERS
            if manner and before is not None and item.kind == "NP":
                before.style = before.style or (before.kind == "NP" and self.is_bare(before))
        self._mark_sole_carrier(items)

    def _by_artist(self, item: Chunk, before: Chunk | None, by_artist: bool) -> bool:
        """Whether "by ..." tells the picture's maker: "by wlop", "art by Greg Rutkowski", not "by the sea"."""
        if not self.is_bare(item):
            return False
        texts = [self.lower[word] for word in item.words]
        if texts[-1] == "artists":
            return True
        if names.may_be_name(texts, lenient=True) or any(self.tags[word] == "NNP" for word in item.nouns):
            return True
        return len(item.nouns) > 1 and (before is None or before.style or by_artist)

    def _named(self, item: Chunk, by_artist: bool, alone: bool) -> bool:
        """Whether a bare item of a list is a person or a term of art: "wlop", "edward hopper", "vaporwave".

        The first segment names things to be seen, so its names are things: "marilyn monroe, pop art".
        """
        if not self.is_bare(item):
            return False
        texts = self._texts(item)
        if by_artist and names.may_be_name(texts, lenient=True):
            return True
        if not (alone and self.things_before):
            return False
        nouns = [self.lower[word] for word in item.nouns]
        before = texts[-2] if len(texts) > 1 else ""
        if len(texts) == 1 and texts[0] in style_words.GROUNDS:
            return self.turned  # "..., ink, parchment"
        if item.words[0] in self.capitals and words.singular(nouns[-1]) in style_words.LIST_STYLE:
            return True  # "Lee filters"
        late = self.turned and self._is_doubtful(item)
        return late or names.may_be_name(texts, lenient=False) or names.is_term(nouns, before)

    def _is_lettering(self, item: Chunk) -> bool:
        """Whether a noun phrase only leads to lettering: "with the words good morning"."""
        after = item.words[-1] + 1
        read = after < len(self.tags) and self.tags[after] == "QUOTED"
        return read and words.singular(self.lower[item.words[-1]]) in lettering.TEXTS

    def _styled(self, item: Chunk) -> bool:
        """Whether a noun phrase names a style, a camera and the like."""
        last = item.nouns[-1]
        head = self.lower[last]
        one = words.singular(head)
        bare = self.is_bare(item)
        owned = any(self.tags[word] in ("PRP$", "WP$") for word in item.words) or bool(item.possessors)
        before = [self.lower[word] for word in item.nouns[:-1]]
        if last in self.phrases or any(word in self.phrases for word in item.prepositions):
            return True
        if "-" in head and head.rsplit("-", 1)[-1] in style_words.CARRIERS:
            return bare or item.kind == "NP"
        if len(item.words) == 2 and self.tags[item.words[0]] == "CD" and one in style_words.UNITS:
            return True  # "1/1000 sec"
        if (
            len(item.words) > 1
            and self.tags[item.words[0]] == "CD"
            and self.lower[item.words[1]] in _MEASURES
        ):
            return True  # "2 d game character", "100 mm macro"
        if (
            self.things_before
            and bare
            and item.kind == "NP"
            and self.lower[item.words[0]] in ("2d", "3d", "2.5d")
        ):
            return True  # "3d model"
        if len(head) == 1 and head.isalpha() and head.isascii():
            return True  # "8 k", "3 d", "f / 2. 8"
        if head in style_words.STYLE_OR_THING or one in style_words.STYLE_OR_THING:
            part = item.kind == "PP" and bool(before) and words.is_thing(before[-1])  # "with latte art"
            styled = any(word in self.words for word in item.words if word != last)
            return (bare and not part) or (styled and not owned)
        if head in lexicon.LAYOUT and head not in lexicon.DEPTHS:
            return not owned and all(self._is_place_word(word) for word in item.words if word != last)
        if last in self.words or (
            bare and one in ("light", "shadow") and self.phrases.intersection(item.words)
        ):
            return True  # "high key shadows"
        if names.is_model(head) and not (before and words.is_thing(before[0]) and not bare):
            return True
        likened = len(item.words) > 1 and self.lower[item.words[-2]] == "style" and words.is_thing(head)
        of_studio = words.is_thing(head) and self.lower[item.words[0]] not in style_words.BRANDS
        named = not (likened or of_studio) and any(
            self.lower[word] in style_words.STYLE_NAMES for word in item.words
        )
        return named and bare and (item.kind == "NP" or self.lower[item.prepositions[0]] == "on")

    def _is_place_word(self, word: int) -> bool:
        """Whether a word before "top", "front" and the like leaves it a place: "the very top", not "a tank top"."""
        place = self.lower[word] in lexicon.PLACE_MODIFIERS or word in self.words
        return place or (self.tags[word] in DETERMINERS and self.lower[word] not in ("a", "an"))

    def _is_made(self, item: Chunk) -> bool:
        """Whether the object of a verb is a thing though it ends in a word of style: "making latte art"."""
        return len(item.nouns) > 1 and words.is_thing(self.lower[item.nouns[-2]])

    def _placed(self, item: Chunk) -> bool:
        """Whether a prepositional phrase tells a place in the picture: "in the background", "on the left side"."""
        if (
            item.kind != "PP"
            or item.possessors
            or self.lower[item.prepositions[-1]] not in lexicon.PLACE_LINKS
        ):
            return False
        if self.tags[item.words[0]] == "PRP$" and self.lower[item.words[-1]] == "back":
            return False  # "a turtle with a city on its back"
        texts = [self.lower[word] for word in item.words if self.tags[word] not in (*DETERMINERS, "CD")]
        own = [text for text in texts if text not in lexicon.PLACE_MODIFIERS]
        head = words.singular(self.lower[item.nouns[-1]])
        layout = (
            head in lexicon.LAYOUT
            and self.lower[item.words[0]] not in ("a", "an")
            and all(words.singular(text) in lexicon.LAYOUT for text in own)
        )
        carrier = self.lower[item.words[0]] == "the" and head in style_words.CARRIERS
        return layout or carrier

    def _mark_sole_carrier(self, items: Sequence[Chunk]) -> None:
        """A carrier that nothing hangs on is style: "digital painting", "portrait"."""
        seen = [item for item in items if item.nouns and not item.style]
        if len(seen) == 1 and seen[0].kind == "NP" and self._is_carrier(seen[0]):
            seen[0].style = all(
                item.style or item.kind in ("X", "CC") or self.lower[item.words[0]] in style_words.SHOWN
                for item in items
                if item is not seen[0]
            )

    def _is_carrier(self, item: Chunk) -> bool:
        head = self.lower[item.nouns[-1]]
        return words.singular(head) in style_words.CARRIERS or head.rsplit("-", 1)[-1] in style_words.CARRIERS

    # --- plain words ---

    def _plain_words(self, items: Sequence[Chunk]) -> None:
        """Turn marked items into plain words, left out of the texts."""
        for item in items:
            if item.style:
                if item.kind == "PP" and (
                    words.singular(self.lower[item.nouns[-1]]) in lexicon.LAYOUT
                    or self.lower[item.nouns[-1]] in lexicon.LAYOUT
                ):
                    self.layouts.append([*item.prepositions, *item.words])
                item.kind, item.words, item.nouns = "X", [*item.prepositions, *item.extra, *item.words], []
                item.prepositions, item.extra, item.possessors = [], [], []
                self.dropped.update(item.words)

    def _drop_leftovers(self, items: Sequence[Chunk]) -> None:
        """Drop a segment that has words of style and no thing: "behind it", "::2", "1930s", "trending on x"."""
        if any(item.nouns for item in items):
            return
        members = {word for item in items for word in item.words}
        if (
            members & (self.words | self.dropped)
            or {self.tags[word] for word in members} <= _FUNCTION_TAGS
            or all(self.lower[word][0].isdecimal() for word in members)
        ):
            self.dropped.update(members)

    def _drop_function_word(self, item: Chunk) -> None:
        """Leave relative pronouns and "either" out of the texts, and verbs within phrases of style."""
        word = item.words[0]
        text, tag = self.lower[word], self.tags[word]
        if (text in lexicon.RELATIVES and tag in ("WDT", "WP")) or word in self.phrases:
            self.dropped.update(item.words)
        if item.kind == "CC" and text in lexicon.CORRELATIVES:
            item.kind = "X"
            self.dropped.update(item.words)
