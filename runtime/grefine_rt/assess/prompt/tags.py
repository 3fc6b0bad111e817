"""The words of a prompt with their part-of-speech tags: NLTK's tagger, mended for prompts with `lexicon`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from grefine_rt.assess.prompt import lexicon, tagger, words

BREAK = "SEP"
"""Tag of what separates segments: punctuation, brackets, a new line."""
NEGATION = "NEG"
"""Tag of "not" and its like; "no" and "without" keep theirs."""
POSSESSOR = "NNPOS"
"""Tag of "woman's" in "a woman's hat"."""
HIDDEN = "HIDDEN"
"""Tag of words that are no part of the language: labels ("subject:") and parameters ("--ar 16:9")."""

QUOTED = "QUOTED"
"""Tag of words in quotation marks: they are to be read in the picture, and no things."""

_NO_NOUNS = lexicon.ADJECTIVES | {"well"}
_NUMBERS = frozenset("one two three four five six seven eight nine ten half multi".split())
_SETTLED = frozenset((HIDDEN, QUOTED, NEGATION, POSSESSOR))
DETERMINERS = ("PDT", "DT", "PRP$", "WP$", "CD")
_OBJECT = re.compile(r"\s+(?:me|an?|the)\s")
# A few words in quotation marks; a single mark opens after a blank and closes before one.
_QUOTED = re.compile(r"\"([^\"]{1,80})\"|“([^”]{1,80})”|(?<!\w)['‘]([^'‘’\n]{1,60}(?:'[a-z][^'‘’\n]{0,40})?)['’](?!\w)")
_PARAMETERS = re.compile(r"(?:^|\s)(?:--|—)\Z")


_CLOSED = ("IN", "CC", "DT", "PDT", "TO", "PRP", "PRP$", "WP", "WP$", "WDT", "WRB", "EX", "MD", "CD", "SYM", "POS", "RP")


@dataclass
class Leaf:
    """A word (`index` is its position) or a separator (`index` is -1)."""

    text: str  # lower case, apostrophes straight
    tag: str
    index: int
    name: bool = False  # capitalised within a text of small letters

    @property
    def key(self) -> str:
        return words.singular(self.text)

    @property
    def is_noun(self) -> bool:
        return self.tag.startswith("NN") and self.tag != POSSESSOR


_EDGE = Leaf("", BREAK, -1)


def leaves(text: str, spans: Sequence[tuple[int, int]]) -> list[Leaf]:
    """The words at `spans` with separators between them where the text has punctuation, all tagged."""
    small_letters = sum(text[start].islower() for start, _ in spans) * 2 >= len(spans)
    found: list[Leaf] = []
    hidden: set[int] = set()
    quoted = _quoted(text, spans)
    joined: set[int] = set()  # halves of "hyper - realistic"
    parameters = False
    last = 0
    for index, (start, end) in enumerate(spans):
        gap = text[last:start]
        word = text[start:end].lower().replace("’", "'")
        if index in quoted or index - 1 in quoted:
            gap = gap.strip("\"“”'‘’ ") or " "
        if index and gap == " - " and found[-1].text in lexicon.PREFIXES:
            gap = " "
            joined.update((index - 1, index))
        if index and _separates(gap, found[-1], text[:last]):
            found.append(Leaf("," if "," in gap else ".", BREAK, -1))
        if word == "up" and found and found[-1].text == "close":
            word = "close-up"
        parameters = parameters or (word in lexicon.PARAMETERS and bool(_PARAMETERS.search(gap)))
        starts_segment = not found or found[-1].index < 0
        labels = starts_segment and word in lexicon.LABELS and text[end:].lstrip().startswith(":")
        if parameters or labels or _requests(found, word, text[end:]):
            hidden.add(index)
        name = small_letters and not starts_segment and text[start].isupper() and end - start > 1
        found.append(Leaf(word, "", index, name))
        last = end
    _tag(found)
    for leaf in found:
        if leaf.index in hidden:
            leaf.tag = HIDDEN
        elif leaf.index in quoted:
            leaf.tag = QUOTED
    _mend(found)
    for leaf, after in zip(found, found[1:], strict=False):
        if leaf.index in joined and after.index in joined and not (after.is_noun and words.is_thing(after.text)):
            leaf.tag = after.tag = "JJ"
        elif leaf.index in joined and after.index in joined:
            leaf.tag = "NN"
    return found


def _quoted(text: str, spans: Sequence[tuple[int, int]]) -> set[int]:
    """Positions of words to be read in the picture: `a sign that says "open"`. A prompt all in quotes has none."""
    if not any(mark in text for mark in "\"“'‘"):
        return set()
    areas = [match.span() for match in _QUOTED.finditer(text)]
    found = {
        index for index, (start, end) in enumerate(spans) if any(first <= start and end <= last for first, last in areas)
    }
    return found if 2 * len(found) < len(spans) else set()


def _requests(before: Sequence[Leaf], word: str, rest: str) -> bool:
    """ "Draw me" at the start."""
    if any(leaf.text not in lexicon.REQUESTS for leaf in before):
        return False
    return (not before and word in lexicon.REQUESTS and bool(_OBJECT.match(rest))) or (
        bool(before) and word == "me"
    )


def _separates(gap: str, before: Leaf, text_before: str) -> bool:
    if not gap.strip() and "\n" not in gap:
        return False
    if gap == ". " and before.text in lexicon.ABBREVIATIONS:
        return False
    # "the dogs' bowl", unless the apostrophe closes a quotation
    plural = gap in ("' ", "’ ") and before.text.endswith("s")
    if plural and not re.search(r"(?:^|\s)['‘]", text_before):
        before.text += "'"
        return False
    return True


def _possessive(leaf: Leaf) -> bool:
    base, apostrophe, s = leaf.text.rpartition("'")
    return bool(apostrophe and base) and s in ("s", "") and base not in lexicon.CONTRACTED


def _tag(found: Sequence[Leaf]) -> None:
    """The tagger's own tags. It was trained on text with "'s" apart from its noun."""
    tokens: list[str] = []
    at: list[int] = []
    for leaf in found:
        at.append(len(tokens))
        base, apostrophe, s = leaf.text.rpartition("'")
        tokens += [base, "'s"] if apostrophe and base and s in ("s", "") else [leaf.text]
    tags = tagger.tag(tokens)
    for leaf, position in zip(found, at, strict=True):
        if leaf.index >= 0:
            leaf.tag = tags[position] if tags[position][0].isalpha() else "SYM"


# --- corrections --------------------------------------------------------------------------------------------


def _mend(found: list[Leaf]) -> None:
    """Correct the tagger where prompts differ from newspapers."""
    for position, leaf in enumerate(found):
        if leaf.index >= 0 and leaf.tag not in (HIDDEN, QUOTED):
            leaf.tag = _known_tag(leaf)
        if leaf.text in lexicon.SHADES and position + 1 < len(found):
            leaf.tag = "JJ" if found[position + 1].text in lexicon.COLOURS else leaf.tag
    texts = [leaf.text for leaf in found]
    fixed = lexicon.positions_of(lexicon.PREPOSITION_PHRASES, texts) | _place_phrases(texts)
    for position in fixed:
        found[position].tag = "IN"
    joined = _compounds(found)
    for position, (before, leaf, after) in enumerate(_neighbours(found)):
        if leaf.text in lexicon.COLOURS and after.tag in ("VBG", "VBN", "VBD") and after.index >= 0:
            beyond = found[position + 2] if position + 2 < len(found) else _EDGE
            after = beyond if beyond.tag.startswith(("NN", "JJ")) else after  # "a pink flying pig"
        settled = position in joined or position in fixed or leaf.tag in _SETTLED
        if leaf.index >= 0 and not settled:
            leaf.tag = _tag_in_place(before, leaf, after)
    for position, leaf in enumerate(found):
        if leaf.text in lexicon.CLAUSE_PREPOSITIONS and leaf.tag == "IN" and _clause_follows(found, position):
            leaf.tag = "WRB"
    for before, leaf, after in _neighbours(found):
        if leaf.tag == POSSESSOR and leaf.name and (before.name or after.name):
            leaf.tag = "NNP"  # "St. Mark's Square" is one name
    # "a big, red house": a comma between the adjectives of one noun separates nothing.
    for position, leaf in enumerate(found):
        if leaf.text == "," and leaf.index < 0 and _joins_adjectives(found, position):
            leaf.tag = ","


def _clause_follows(found: Sequence[Leaf], position: int) -> bool:
    """Whether a noun phrase and a finite verb follow: "as a boat sails by"."""
    for leaf in found[position + 1 : position + 8]:
        if leaf.tag in ("VBZ", "VBP", "VBD", "MD"):
            return True
        if leaf.tag not in (*DETERMINERS, "JJ", "PRP", POSSESSOR) and not leaf.is_noun:
            return False
    return False


def _place_phrases(texts: Sequence[str]) -> set[int]:
    """Positions of the words of "on the left side of", "at the very top of", "out of the middle of"."""
    found: set[int] = set()
    for end, text in enumerate(texts):
        if text != "of" or not end or texts[end - 1] not in lexicon.PLACES:
            continue
        start = end - 1
        while start and (texts[start - 1] in lexicon.PLACE_MODIFIERS or texts[start - 1] in ("the", "its")):
            start -= 1
        links = start
        while links and texts[links - 1] in lexicon.PLACE_LINKS:
            links -= 1
        if links < start:
            found.update(range(links, end + 1))
    return found


def _compounds(found: Sequence[Leaf]) -> set[int]:
    """Positions of words that name one thing together: "hot dog", "dining table", "polar bear".

    A plain adjective stays one: "old man" and "big cat" are a man and a cat.
    """
    joined: set[int] = set()
    for position in range(len(found) - 1):
        first, second = found[position], found[position + 1]
        if first.index < 0 or second.index < 0 or not _SETTLED.isdisjoint((first.tag, second.tag)):
            continue
        pair = (first.text, second.key)
        deed = first.text.endswith("ing") and second.key in lexicon.ANIMATES  # "flying bird"
        plain = deed or first.text in ("left", "right") or first.text in lexicon.ADJECTIVES or first.text in lexicon.SHADES or first.text in lexicon.METALS
        third = found[position + 2] if position + 2 < len(found) else _EDGE
        if pair in lexicon.COMPOUNDS and first.text in lexicon.COLOURS and third.is_noun:
            continue  # "a white wine glass"
        if pair in lexicon.COMPOUNDS or (not plain and words.is_compound(first.text, second.text)):
            first.tag = "NN"
            second.tag = "NN" if second.key == second.text else "NNS"
            joined.update((position, position + 1))
    return joined


def _known_tag(leaf: Leaf) -> str:
    text = leaf.text
    if not any(character.isascii() and character.isalnum() for character in text):
        if text == "&":
            return "CC"
        return "NN" if any(character.isalpha() for character in text) else "SYM"
    if _possessive(leaf):
        return POSSESSOR
    if text in lexicon.NEGATIONS:
        return NEGATION
    if text in lexicon.PRONOUNS or text in lexicon.NOBODY:
        return "PRP"
    if text in lexicon.SUBORDINATORS:
        return "WRB"
    if text in lexicon.ADVERBS:
        return "RB"
    if text in lexicon.ADJECTIVES or text.endswith(lexicon.ADJECTIVE_ENDINGS):
        return "JJ"
    if text in lexicon.PREPOSITIONS:
        return "IN"
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    if digits.isdecimal() and words.singular(text[len(digits) :]) in lexicon.NOUNS:
        return "NN"  # "1girl"
    known = leaf.key in lexicon.NOUNS or leaf.key in lexicon.CARRIERS or _may_be_style(leaf)
    if text in lexicon.ING_NOUNS or (known and text not in lexicon.STYLE_ADJECTIVES):
        return _noun_tag(leaf)
    return _english_tag(leaf)


def _noun_tag(leaf: Leaf) -> str:
    if leaf.tag.startswith("NN"):
        return leaf.tag
    return "NNS" if leaf.text.endswith("s") and leaf.key != leaf.text else "NN"


def _english_tag(leaf: Leaf) -> str:
    """The tag as far as WordNet leaves one choice, else the tagger's."""
    text, tag = leaf.text, leaf.tag
    if tag in _CLOSED:
        return tag
    noun, adjective, verb = words.is_noun(text), words.is_adjective(text), words.verb_of(text)
    if text.isdecimal():
        return "CD"
    if tag in ("JJR", "JJS"):
        return tag
    if "-" in text and not noun:
        first, last = text.split("-")[0], text.split("-")[-1]
        bends = words.is_adjective(last) or last in lexicon.ADJECTIVES or last.endswith(("ed", "ing"))
        return "JJ" if bends or adjective or first.isdecimal() or first in _NUMBERS else tag
    if words.is_thing(text) and not adjective and verb is None:
        return _noun_tag(leaf)  # "sled", "corgi"
    if not (noun or adjective or verb) and not text.endswith("ly"):
        if leaf.name:
            return "NNP"
        look = tag.startswith(("JJ", "VB")) and text.endswith(lexicon.ADJECTIVE_LOOK)
        return tag if look else _noun_tag(leaf)  # "cyberpunk city"
    if tag.startswith("NN") and not noun and not leaf.name:
        if adjective:
            return "JJ"
        if verb and not text.endswith("ing"):
            return "VBP" if verb == text else "VBZ" if text.endswith("s") else "VBN" if text.endswith("ed") else "VBD"
    if leaf.name and tag != "JJ":
        return "NNP"
    return tag


def _may_be_style(leaf: Leaf) -> bool:
    return (
        lexicon.is_style(leaf.text)
        or leaf.text in lexicon.STYLE_OR_THING
        or leaf.key in lexicon.STYLE_OR_THING
    )


def _neighbours(found: list[Leaf]) -> Iterator[tuple[Leaf, Leaf, Leaf]]:
    for position, leaf in enumerate(found):
        before = found[position - 1] if position else _EDGE
        yield before, leaf, found[position + 1] if position + 1 < len(found) else _EDGE


def _tag_in_place(before: Leaf, leaf: Leaf, after: Leaf) -> str:
    text = leaf.text
    starts = before.tag in (BREAK, "CC")
    noun_follows = after.tag.startswith(("NN", "JJ"))
    ends = after.tag in (BREAK, "IN", "CC", "TO", "VBG", "VBN", "VBZ", "WRB")
    after_article = before.tag in ("DT", "PRP$", POSSESSOR)
    if text == "dozen" and noun_follows:
        return "CD"
    if text == "close" and after.text == "close-up":
        return "JJ"
    if text in lexicon.PARTICLES and after.tag in DETERMINERS:
        return "IN"
    corner = text in lexicon.PLACE_MODIFIERS and after.text in lexicon.LAYOUT  # "the top left corner"
    if text in ("left", "right") and after.tag.startswith("NN") or (corner and before.tag != BREAK):
        return "JJ"
    if text in lexicon.METALS:
        return "JJ" if noun_follows else "NN"
    if text in lexicon.NOUN_TOO and after_article and ends:
        return "NN"
    if text in lexicon.COLOURS:
        if text == "orange" and before.text in lexicon.COLOURS and not noun_follows:
            return "NN"  # "a red orange and a kite"
        alone = not noun_follows and after.tag != "CC"
        is_thing = before.tag in DETERMINERS or (text == "orange" and (starts or before.text in lexicon.COLOURS))
        return "NN" if alone and is_thing else "JJ"
    if noun_follows and (
        text in lexicon.STYLE_ADJECTIVES
        or (leaf.tag.startswith("NN") and text.endswith(lexicon.ADJECTIVE_ENDINGS_BEFORE_NOUN)
            and not words.is_noun(text))
        or (before.tag in DETERMINERS and text.endswith("ing") and text[:-3] in lexicon.VERBS)
    ):
        return "JJ"
    if text in ("other", "another") and before.text in ("each", "one"):
        return "PRP"
    if text in ("one", "ones", "other", "others") and before.tag in ("DT", BREAK) and not noun_follows:
        return "PRP" if after.tag not in ("CD", "VBG") or text != "one" else leaf.tag  # "the one on the left"
    if text == "each" and after.text == "other":
        return "PRP"
    participle = text.endswith(("ed", "en")) and words.verb_of(text) is not None
    if participle and before.is_noun and after.text in ("by", "with", "in", "from", "under", "behind", "to"):
        return "VBN"  # "a cat hidden by leaves"
    unknown = leaf.tag == "JJ" and text not in lexicon.ADJECTIVES and not words.is_adjective(text) and "-" not in text
    if unknown and before.tag == BREAK and after.tag == "VBG" and text not in lexicon.COLOURS:
        return "NN"  # "mandalorian holding a baby"
    if text in lexicon.CUTS and before.is_noun and after.tag == "IN" and after.text != "of":
        return "VBN"
    if after.text in lexicon.PROPERTY_ENDINGS and text.isalpha() and (leaf.is_noun or text in lexicon.COLOURS):
        return "JJ"
    if text in lexicon.PROPERTY_ENDINGS and before.tag == "JJ" and noun_follows:
        return "JJ"
    if text in lexicon.CORRELATIVES and after.tag == "DT":
        return "CC"
    if (
        text.endswith("ing")
        and before.text in BE
        and (text not in lexicon.ING_NOUNS or after.tag in DETERMINERS)
    ):
        return "VBG"
    verb = _finite(before, leaf, after)
    if verb:
        return verb
    return _participle(before, leaf, after, starts, noun_follows) or _ending(before, leaf, after, ends)


BE = ("is", "are", "was", "were", "be", "been", "being")


def _finite(before: Leaf, leaf: Leaf, after: Leaf) -> str | None:
    """ "sleeps" in "a dog sleeps in the sun", which the tagger takes for a plural."""
    if before.tag in ("WP", "WDT") and leaf.tag in ("NN", "NNS") and leaf.text.endswith("s"):
        return "VBZ"
    goes_on = after.tag in ("IN", "DT", "TO", "PRP$", "RB", "RP") or after.text in lexicon.PARTICLES
    stops = after.tag in (BREAK, "CC", "WRB") and before.key in lexicon.ANIMATES
    if not before.is_noun or not (goes_on or stops) or not leaf.tag.startswith(("NN", "VB", "JJ")):
        return None
    plural = before.tag == "NNS" or before.key != before.text
    third = lexicon.is_verb_in_s(leaf.text) or (words.verb_of(leaf.text) is not None and not words.is_thing(leaf.text))
    if leaf.text.endswith("s") and not leaf.text.endswith("ss"):
        # A plural is seldom part of a compound: "a truck carrying logs drives past".
        if (third and not plural) or (plural and lexicon.is_verb_in_s(leaf.text) and before.tag == "NNS"):
            return "VBZ"
    return "VBP" if plural and leaf.text in lexicon.VERBS else None


def _participle(before: Leaf, leaf: Leaf, after: Leaf, starts: bool, noun_follows: bool) -> str | None:
    text = leaf.text
    if text.endswith("ing") and before.tag.startswith(("NN", "CD")) and after.tag in ("DT", "PRP$"):
        return "VBG"  # "a girl painting a wall"
    ing = text.endswith("ing") and text not in lexicon.ING_NOUNS and len(text) > 4
    made = text in ("painting", "drawing") and before.key not in lexicon.ANIMATES  # "oil painting in ..."
    if text in lexicon.ING_DEEDS and before.is_noun and not made and after.tag == "IN" and after.text not in ("of", "by"):
        return "VBG"  # "a spaceship landing on a planet"
    if leaf.tag in ("NN", "JJ") and ing:
        deed = text in lexicon.DEEDS or text[:-3] in lexicon.VERBS
        participle = before.is_noun or (
            starts and (after.tag in ("DT", "IN", "PRP$") or (deed and after.tag == BREAK))
        )
        return "VBG" if participle else leaf.tag
    if leaf.tag == "VBG":
        if not noun_follows:
            ends_noun_phrase = before.tag in ("DT", "PRP$") and after.tag != "IN"
            return "NN" if ends_noun_phrase else "VBG"
        describes = before.tag in (*DETERMINERS, POSSESSOR, "JJ", "IN", "RB")
        return "JJ" if describes or (starts and text not in lexicon.TRANSITIVE) else "VBG"
    if (
        leaf.tag == "VBD"
        and text.endswith("ed")
        and before.tag.startswith("NN")
        and after.text in ("with", "by")
    ):
        return "VBN"  # "a basket lined with wool"
    if leaf.tag in ("VBN", "VBD") and noun_follows and text.endswith(("ed", "en")):
        return leaf.tag if before.is_noun or before.tag.startswith("VB") else "JJ"
    return None


def _ending(before: Leaf, leaf: Leaf, after: Leaf, ends: bool) -> str:
    """A noun where only a noun can be: at the end of what an article or a list begins."""
    text = leaf.text
    if before.tag == after.tag == BREAK and words.is_thing(text):
        adjective = words.is_adjective(text) and text.endswith(lexicon.ADJECTIVE_LOOK)
        adjective = adjective or text in lexicon.ADJECTIVES or text in lexicon.ADVERBS
        if not (adjective or text.endswith("ing")) or text in lexicon.NOUN_TOO - {"dark", "wild", "round"}:
            return _noun_tag(leaf)  # "..., presents, ..."
    if before.tag in ("DT", "PRP$") and ends and words.is_thing(text) and text not in _NO_NOUNS:
        return _noun_tag(leaf)
    if ends and leaf.tag in ("VB", "VBP", "VBZ", "VBD", "RB", "JJ", "JJS", "FW", "UH"):
        after_article = before.tag in ("DT", "PRP$", POSSESSOR) and text not in lexicon.ADJECTIVES
        after_adjective = before.tag in ("JJ", "CD") and leaf.tag.startswith("VB")
        if after_article or after_adjective:
            return "NN"
    starts = before.tag in (BREAK, "CC")
    if starts and leaf.tag in ("VBZ", "JJ") and text.endswith("s") and after.tag in ("VBG", "VBN", "IN"):
        return "NNS" if not text.endswith(("ss", "ous")) else leaf.tag
    # A verb on its own between commas is a list item.
    if leaf.tag in ("VB", "VBP", "VBD", "FW") and before.tag == after.tag == BREAK:
        return "NN" if not text.endswith("ed") or text.endswith("eed") else leaf.tag
    return leaf.tag


def _joins_adjectives(found: list[Leaf], comma: int) -> bool:
    start = comma - 1
    while start >= 0 and (found[start].tag in ("JJ", "RB") or found[start].tag == ","):
        start -= 1
    end = comma + 1
    while end < len(found) and (found[end].tag in ("JJ", "RB", "CC") or found[end].text == ","):
        end += 1
    return (
        0 <= start < comma - 1
        and found[start].tag in DETERMINERS
        and comma + 1 < end < len(found)
        and found[end].tag.startswith("NN")
        and found[end - 1].tag == "JJ"
        and found[comma + 1].tag != "CC"
    )
