"""Corrections of tags by their neighbours, where prompts differ from newspapers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from grefine_rt.assess.prompt import lexicon, style_words, words
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

_NO_NOUNS = lexicon.ADJECTIVES | {"well"}


def mend(found: list[Leaf]) -> None:
    """Correct the tagger where prompts differ from newspapers."""
    for position, leaf in enumerate(found):
        if leaf.index >= 0 and leaf.tag not in (HIDDEN, QUOTED):
            leaf.tag = known_tag(leaf)
        if leaf.text in lexicon.SHADES and position + 1 < len(found):
            leaf.tag = "JJ" if found[position + 1].text in lexicon.COLOURS else leaf.tag
    texts = [leaf.text for leaf in found]
    fixed = words.positions_of(lexicon.PREPOSITION_PHRASES, texts) | place_phrases(texts)
    for position in fixed:
        found[position].tag = "IN"
    joined = compounds(found)
    for position, (before, leaf, after) in enumerate(_neighbours(found)):
        if leaf.text in lexicon.COLOURS and after.tag in ("VBG", "VBN", "VBD") and after.index >= 0:
            beyond = found[position + 2] if position + 2 < len(found) else EDGE
            after = beyond if beyond.tag.startswith(("NN", "JJ")) else after  # "a pink flying pig"
        settled = position in joined or position in fixed or leaf.tag in SETTLED
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


def _neighbours(found: list[Leaf]) -> Iterator[tuple[Leaf, Leaf, Leaf]]:
    for position, leaf in enumerate(found):
        before = found[position - 1] if position else EDGE
        yield before, leaf, found[position + 1] if position + 1 < len(found) else EDGE


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
        is_thing = before.tag in DETERMINERS or (
            text == "orange" and (starts or before.text in lexicon.COLOURS)
        )
        return "NN" if alone and is_thing else "JJ"
    if noun_follows and (
        text in style_words.STYLE_ADJECTIVES
        or (
            leaf.tag.startswith("NN")
            and text.endswith(lexicon.ADJECTIVE_ENDINGS_BEFORE_NOUN)
            and not words.is_noun(text)
        )
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
    unknown = (
        leaf.tag == "JJ"
        and text not in lexicon.ADJECTIVES
        and not words.is_adjective(text)
        and "-" not in text
    )
    if unknown and before.tag == BREAK and after.tag == "VBG" and text not in lexicon.COLOURS:
        return "NN"  # "mandalorian holding a baby"
    if text in lexicon.CUTS and before.is_noun and after.tag == "IN" and after.text != "of":
        return "VBN"
    if (
        after.text in lexicon.PROPERTY_ENDINGS
        and text.isalpha()
        and (leaf.is_noun or text in lexicon.COLOURS)
    ):
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


def _finite(before: Leaf, leaf: Leaf, after: Leaf) -> str | None:
    """ "sleeps" in "a dog sleeps in the sun", which the tagger takes for a plural."""
    if before.tag in ("WP", "WDT") and leaf.tag in ("NN", "NNS") and leaf.text.endswith("s"):
        return "VBZ"
    goes_on = after.tag in ("IN", "DT", "TO", "PRP$", "RB", "RP") or after.text in lexicon.PARTICLES
    stops = after.tag in (BREAK, "CC", "WRB") and before.key in lexicon.ANIMATES
    if not before.is_noun or not (goes_on or stops) or not leaf.tag.startswith(("NN", "VB", "JJ")):
        return None
    plural = before.tag == "NNS" or before.key != before.text
    third = lexicon.is_verb_in_s(leaf.text) or (
        words.verb_of(leaf.text) is not None and not words.is_thing(leaf.text)
    )
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
    """A noun where only a noun can be: at the end of what an article or a list begins."""
    text = leaf.text
    if before.tag == after.tag == BREAK and words.is_thing(text):
        adjective = words.is_adjective(text) and text.endswith(lexicon.ADJECTIVE_LOOK)
        adjective = adjective or text in lexicon.ADJECTIVES or text in lexicon.ADVERBS
        if not (adjective or text.endswith("ing")) or text in lexicon.NOUN_TOO - {"dark", "wild", "round"}:
            return noun_tag(leaf)  # "..., presents, ..."
    if before.tag in ("DT", "PRP$") and ends and words.is_thing(text) and text not in _NO_NOUNS:
        return noun_tag(leaf)
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
