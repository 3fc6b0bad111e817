"""Corrections of tags by their neighbours, for prompts differ from newspapers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile

from grefine_rt.assess.prompt import lexicon, style_words, words
from grefine_rt.assess.prompt.given_names import GIVEN_NAMES
from grefine_rt.assess.prompt.known import compounds, known_tag, place_phrases
from grefine_rt.assess.prompt.leaf import (
    BE,
    BREAK,
    DETERMINERS,
    EDGE,
    HIDDEN,
    POSSESSOR,
    QUOTED,
    SETTLED,
    Leaf,
    noun_tag,
)
from grefine_rt.assess.prompt.names import TERM_ENDINGS
from grefine_rt.assess.prompt.verbs import tag_verbs

_MOST_ADJECTIVES = 12  # on each side of a comma
_BEFORE_ADJECTIVES = words.word_set("post hyper ultra semi neo pre anti non mid super")
_NO_NOUNS = lexicon.ADJECTIVES | {"well"}


def mend(found: list[Leaf]) -> None:
    """Correct the tagger, for prompts differ from newspapers."""
    for position, leaf in enumerate(found):
        if leaf.index >= 0 and leaf.tag not in (HIDDEN, QUOTED):
            leaf.tag = known_tag(leaf)
        if leaf.text in lexicon.SHADES and position + 1 < len(found):
            leaf.tag = "JJ" if found[position + 1].text in lexicon.COLOURS else leaf.tag
    texts = [leaf.text for leaf in found]
    fixed = words.positions_of(lexicon.PREPOSITION_PHRASES, texts) | place_phrases(texts)
    for position in fixed:
        found[position].tag = "IN"
    joined = compounds(found) | _shapes(found)
    for position, (before, leaf, after) in enumerate(_neighbours(found)):
        if leaf.text in lexicon.COLOURS and after.tag in ("VBG", "VBN", "VBD") and after.index >= 0:
            beyond = found[position + 2] if position + 2 < len(found) else EDGE
            after = beyond if beyond.tag.startswith(("NN", "JJ")) else after  # "a pink flying pig"
        settled = position in joined or position in fixed or leaf.tag in SETTLED
        if leaf.index >= 0 and not settled:
            leaf.tag = _tag_in_place(before, leaf, after)
    _name_makers(found)
    _join_subjects(found)
    tag_verbs(found, joined | fixed)
    for before, leaf, after in _neighbours(found):
        if leaf.text in lexicon.PROPERTY_ENDINGS and after.text in ("like", "as", "in") and before.index >= 0:
            leaf.tag = "VBN"  # "a knocker shaped like a wolf"
            before.tag = noun_tag(before) if words.is_noun(before.text) else before.tag
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


def _name_makers(found: Sequence[Leaf]) -> None:
    """Tag "drew struzan" of "by drew struzan" and "in the style of drew struzan", which the tagger takes for verbs."""
    for at, leaf in enumerate(found[:-1]):
        manner = leaf.text == "of" and at > 0 and found[at - 1].key in style_words.MANNERS
        if not (leaf.text == "by" or manner):
            continue
        tail = list(
            takewhile(
                lambda word: word.index >= 0 and word.text not in lexicon.CLOSED, found[at + 1 : at + 6]
            )
        )
        ended = at + 1 + len(tail) == len(found) or found[at + 1 + len(tail)].tag in (BREAK, "CC")
        if ended and len(tail) <= 3 and any(word.text in GIVEN_NAMES for word in tail[:2]):
            for word in tail:
                word.tag = "NNP"


def _join_subjects(found: Sequence[Leaf]) -> None:
    """Tag the verb of "a jacket and a scarf hang on a hook", which the tagger takes for a noun."""
    joined = False
    for before, leaf, after in _neighbours(list(found)):
        joined = leaf.tag != BREAK and (joined or (leaf.text == "and" and leaf.tag == "CC"))
        verb = leaf.tag == "NN" and leaf.text in lexicon.VERBS
        verb = verb and (before.key in lexicon.ANIMATES or not words.is_thing(leaf.text))
        if joined and verb and before.is_noun and after.tag == "IN" and after.text != "of":
            leaf.tag = "VBP"


def _shapes(found: Sequence[Leaf]) -> set[int]:
    """Positions of shapes that are adjectives before a comma: "the square, blue chair"."""
    shapes = set()
    for position in range(1, len(found) - 3):
        before, leaf, comma, second, noun = found[position - 1 : position + 4]
        listed = before.tag in DETERMINERS and comma.text == "," and second.tag == "JJ"
        if leaf.text in lexicon.SHAPES and listed and noun.tag.startswith(("NN", "JJ")):
            leaf.tag = "JJ"
            shapes.add(position)
    return shapes


def _clause_follows(found: Sequence[Leaf], position: int) -> bool:
    """Whether a noun phrase and a finite verb follow: "as a boat sails by"."""
    for leaf in found[position + 1 : position + 8]:
        if leaf.tag in ("VBZ", "VBP", "VBD", "MD"):
            return True
        if leaf.tag not in (*DETERMINERS, "JJ", "PRP", POSSESSOR) and not leaf.is_noun:
            return False
    return False


def _neighbours(found: list[Leaf]) -> Iterator[tuple[Leaf, Leaf, Leaf]]:
    for position, leaf in enumerate(found):
        before = found[position - 1] if position else EDGE
        yield before, leaf, found[position + 1] if position + 1 < len(found) else EDGE


def _tag_in_place(before: Leaf, leaf: Leaf, after: Leaf) -> str:
    starts = before.tag in (BREAK, "CC")
    noun_follows = after.tag.startswith(("NN", "JJ"))
    ends = after.tag in (BREAK, "IN", "CC", "TO", "VBG", "VBN", "VBZ", "WRB")
    return (
        _function_word(before, leaf, after, noun_follows)
        or _colour(before, leaf, after, starts, noun_follows)
        or _property(before, leaf, after, ends, noun_follows)
        or _past_participle(before, leaf, after)
        or _finite(before, leaf, after)
        or _participle(before, leaf, after, starts, noun_follows)
        or _ending(before, leaf, after, ends)
    )


def _function_word(before: Leaf, leaf: Leaf, after: Leaf, noun_follows: bool) -> str | None:
    text = leaf.text
    if text == "can" and (
        before.tag in ("DT", "JJ") or (before.is_noun and after.tag in (BREAK, "IN", "CC"))
    ):
        return "NN"  # "a spray can"
    if text == "dozen" and noun_follows:
        return "CD"
    if text in lexicon.PARTICLES and after.tag in DETERMINERS:
        return "IN"  # "up a ladder"
    if text in lexicon.CORRELATIVES and after.tag == "DT":
        return "CC"  # "either a moon or a star"
    if text in ("other", "another") and before.text in ("each", "one"):
        return "PRP"  # "looking at each other"
    if text == "each" and after.text == "other":
        return "PRP"
    if text in ("one", "ones", "other", "others") and before.tag in ("DT", BREAK) and not noun_follows:
        counted = text == "one" and after.tag in ("CD", "VBG")
        return None if counted else "PRP"  # "the one on the left"
    return None


def _colour(before: Leaf, leaf: Leaf, after: Leaf, starts: bool, noun_follows: bool) -> str | None:
    """ "orange" is a fruit in "an orange on a table" and "a red orange", a colour in "an orange table"."""
    text = leaf.text
    if text in lexicon.METALS:
        return "JJ" if noun_follows else "NN"
    if text not in lexicon.COLOURS:
        return None
    if text == "orange" and before.text in lexicon.COLOURS and not noun_follows:
        return "NN"
    if after.text in lexicon.PROPERTY_ENDINGS:
        return "JJ"  # "a red colored car"
    if before.text in GIVEN_NAMES and not noun_follows:
        return "NN"  # "walter white"
    alone = not noun_follows and after.tag != "CC"
    if alone and text in ("lavender", "orange", "violet") and before.tag == "IN" and before.text != "in":
        return "NN"  # "a bee on lavender"
    return "NN" if alone and (before.tag in DETERMINERS or (text == "orange" and starts)) else "JJ"


def _property(before: Leaf, leaf: Leaf, after: Leaf, ends: bool, noun_follows: bool) -> str | None:
    """The tag of an adjective that the tagger takes for a noun or a verb, or of a noun that looks like one."""
    text = leaf.text
    if text == "close" and after.text == "close-up":
        return "JJ"
    if text in _BEFORE_ADJECTIVES and after.tag == "JJ":
        return "JJ"  # "post apocalyptic"
    if text in GIVEN_NAMES and leaf.tag.startswith("VB") and before.tag in (BREAK, "CC") and after.is_noun:
        return "NNP"  # "harry potter in a forest"
    if before.text in GIVEN_NAMES and leaf.tag == "JJ" and not noun_follows and after.tag != "CC":
        return "NN"  # "tom hardy"
    if text.endswith(TERM_ENDINGS) and after.tag == "JJ" and not words.is_known(text):
        return "JJ"  # "a vaporwave greek statue"
    if text in ("left", "right") and after.tag.startswith("NN"):
        return "JJ"
    if text in lexicon.PLACE_MODIFIERS and after.text in lexicon.LAYOUT and before.tag != BREAK:
        return "JJ"  # "the top left corner"
    described = before.tag == "JJ" or before.is_noun or (before.tag == BREAK and after.tag == "VBG")
    if text in ("giant", "human", "adult", "alien") and described and ends:
        return "NN"  # "a sleeping giant", "a stone giant", "giant holding a house"
    if text in lexicon.NOUN_TOO and before.tag in ("DT", "PRP$", POSSESSOR) and ends:
        return "NN"
    if after.text in lexicon.PROPERTY_ENDINGS and text.isalpha() and leaf.is_noun:
        return "JJ"  # "a rainbow colored penguin"
    if noun_follows:
        guessed = leaf.tag.startswith("NN") and not words.is_noun(text)
        deed = before.tag in DETERMINERS and text.endswith("ing") and text[:-3] in lexicon.VERBS
        ending = guessed and text.endswith(lexicon.ADJECTIVE_ENDINGS_BEFORE_NOUN)
        coloured = text in lexicon.PROPERTY_ENDINGS and before.tag == "JJ"
        if text in style_words.STYLE_ADJECTIVES or ending or deed or coloured:
            return "JJ"
    known = text in lexicon.ADJECTIVES or words.is_adjective(text) or "-" in text
    doer = words.is_thing(text) and text not in lexicon.ADJECTIVES and "-" not in text
    if (
        leaf.tag == "JJ"
        and doer
        and before.tag == BREAK
        and after.tag == "IN"
        and after.text in ("with", "in")
    ):
        return "NN"  # "spartan with a spear"
    if leaf.tag == "JJ" and not known and before.tag == BREAK and after.tag == "VBG":
        return "NN"  # "mandalorian holding a baby"
    return None


def _past_participle(before: Leaf, leaf: Leaf, after: Leaf) -> str | None:
    text = leaf.text
    regular = text.endswith(("ed", "en")) and words.verb_of(text) not in (None, text)  # no "garden"
    if regular and before.is_noun and after.text in ("by", "with", "in", "from", "under", "behind", "to"):
        return "VBN"  # "a cat hidden by leaves"
    if text in lexicon.CUTS and before.is_noun and after.tag == "IN" and after.text != "of":
        return "VBN"  # "a pear cut into pieces"
    if text in lexicon.CUTS and leaf.tag in ("VBN", "VBD") and before.is_noun and after.tag in ("CC", BREAK):
        return "NN"  # "a chess set and a bottle"
    noun = text in lexicon.ING_NOUNS and after.tag not in DETERMINERS
    if text.endswith("ing") and before.text in BE and not noun:
        return "VBG"  # "is painting a wall"
    return None


def _finite(before: Leaf, leaf: Leaf, after: Leaf) -> str | None:
    """ "sleeps" in "a dog sleeps in the sun", which the tagger takes for a plural."""
    if before.tag in ("WP", "WDT") and leaf.tag in ("NN", "NNS") and leaf.text.endswith("s"):
        return "VBZ"
    goes_on = after.tag in ("IN", "DT", "TO", "PRP$", "RB", "RP") or after.text in lexicon.PARTICLES
    stops = after.tag in (BREAK, "CC", "WRB") and before.key in lexicon.ANIMATES
    if not before.is_noun or not (goes_on or stops) or not leaf.tag.startswith(("NN", "VB", "JJ")):
        return None
    acts = before.key in lexicon.ANIMATES and before.key == before.text and after.tag in ("DT", "PRP$")
    if acts and leaf.text.endswith("s") and words.verb_of(leaf.text) is not None:
        return "VBZ"  # "the chef hands a plate to the waiter"
    plural = before.tag == "NNS" or before.key != before.text
    third = lexicon.is_verb_in_s(leaf.text) or (
        words.verb_of(leaf.text) is not None and not words.is_thing(leaf.text)
    )
    # A plural is seldom part of a compound: "a truck carrying logs drives past".
    after_plural = plural and lexicon.is_verb_in_s(leaf.text)
    if leaf.text.endswith("s") and not leaf.text.endswith("ss") and (after_plural if plural else third):
        return "VBZ"
    return "VBP" if plural and leaf.text in lexicon.VERBS else None


def _participle(before: Leaf, leaf: Leaf, after: Leaf, starts: bool, noun_follows: bool) -> str | None:
    text = leaf.text
    if text.endswith("ing") and before.tag.startswith(("NN", "CD")) and after.tag in ("DT", "PRP$"):
        return "VBG"  # "a girl painting a wall"
    ing = text.endswith("ing") and text not in lexicon.ING_NOUNS and len(text) > 4
    ing = ing and not (leaf.key in style_words.CARRIERS and after.tag == BREAK)  # "wood engraving"
    made = text in ("painting", "drawing") and before.key not in lexicon.ANIMATES  # "oil painting in ..."
    if (
        text in lexicon.ING_DEEDS
        and before.is_noun
        and not made
        and after.tag == "IN"
        and after.text not in ("of", "by")
    ):
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
    """The tag of a word at the end of a phrase that an article or a list begins: only a noun can stand there."""
    text = leaf.text
    if before.tag == after.tag == BREAK and words.is_thing(text):
        adjective = words.is_adjective(text) and text.endswith(lexicon.ADJECTIVE_LOOK)
        adjective = adjective or text in lexicon.ADJECTIVES or text in lexicon.ADVERBS
        if not (adjective or text.endswith("ing")) or text in lexicon.NOUN_TOO - {"dark", "wild", "round"}:
            return noun_tag(leaf)  # "..., presents, ..."
    if before.tag in ("DT", "PRP$") and ends and words.is_thing(text) and text not in _NO_NOUNS:
        return noun_tag(leaf)
    plain = words.is_noun(text) and not words.is_adjective(text) and text not in _NO_NOUNS
    if leaf.tag == "JJ" and before.is_noun and after.tag == BREAK and plain and not text.endswith("ed"):
        return noun_tag(leaf)  # "a viking funeral"
    if before.tag == after.tag == BREAK and leaf.tag in ("UH", "FW") and words.is_noun(text):
        return noun_tag(leaf)  # "..., yarn, ..."
    if ends and leaf.tag in ("VB", "VBP", "VBZ", "VBD", "RB", "JJ", "JJS", "FW", "UH"):
        after_article = before.tag in ("DT", "PRP$", POSSESSOR) and text not in lexicon.ADJECTIVES
        after_adjective = before.tag in ("JJ", "CD") and leaf.tag.startswith("VB")
        if after_article or after_adjective:
            return "NN"
    starts = before.tag in (BREAK, "CC")
    if (
        starts
        and text not in BE
        and leaf.tag in ("VBZ", "JJ")
        and text.endswith("s")
        and after.tag in ("VBG", "VBN", "IN")
    ):
        return "NNS" if not text.endswith(("ss", "ous")) else leaf.tag
    if leaf.tag == "VBZ" and before.tag == after.tag == BREAK and words.is_noun(text) and text not in BE:
        return "NNS"  # "..., diamonds, ..."
    # A verb on its own between commas is a list item.
    if leaf.tag in ("VB", "VBP", "VBD", "FW") and before.tag == after.tag == BREAK:
        return "NN" if not text.endswith("ed") or text.endswith("eed") else leaf.tag
    return leaf.tag


def _joins_adjectives(found: list[Leaf], comma: int) -> bool:
    start = comma - 1
    while start >= max(comma - _MOST_ADJECTIVES, 0) and (
        found[start].tag in ("JJ", "RB") or found[start].tag == ","
    ):
        start -= 1
    end = comma + 1
    while end < min(comma + _MOST_ADJECTIVES, len(found)) and (
        found[end].tag in ("JJ", "RB", "CC") or found[end].text == ","
    ):
        end += 1
    return (
        0 <= start < comma - 1
        and found[start].tag in DETERMINERS
        and comma + 1 < end < len(found)
        and found[end].tag.startswith("NN")
        and found[end - 1].tag == "JJ"
        and found[comma + 1].tag != "CC"
    )
