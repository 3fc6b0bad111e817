"""Segments of a list that are altogether a name, a tool or a style: "by wlop", "shot on iPhone 14 Pro".

The tagger sees verbs and adjectives in them, so only their words are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from grefine_rt.assess.prompt import lexicon, names, style_words
from grefine_rt.assess.prompt.given_names import GIVEN_NAMES
from grefine_rt.assess.prompt.leaf import DETERMINERS

_SENTENCE_TAGS = {*DETERMINERS, "IN", "TO", "CC", "PRP", "MD", "EX", "NEG", "QUOTED", "HIDDEN", "NNPOS"} - {
    "CD"
}


def are_credits(texts: Sequence[str], tags: Sequence[str], capitals: Sequence[bool], artists: bool) -> bool:
    """Whether the lower-case words of a segment after the first thing are a name, a tool, a title or style.

    tags: of the words. capitals: whether each began with a capital, in a prompt of small letters. artists: whether the
    segment before ended with an artist.
    """
    if _tells_tools(texts, tags) or names.is_title(texts, capitals):
        return True
    if texts[0] in GIVEN_NAMES and _is_called_after_a_place(texts):
        return True
    if len(texts) > 6 or not _SENTENCE_TAGS.isdisjoint(tags):
        return False
    return names.may_be_name(texts, lenient=artists) or not style_words.BRANDS.isdisjoint(texts)


def _is_called_after_a_place(texts: Sequence[str]) -> bool:
    """ "pieter bruegel the elder", "joseph wright of derby"."""
    return len(texts) in (3, 4) and (
        texts[-2:] in (["the", "elder"], ["the", "younger"]) or texts[2:3] == ["of"]
    )


def are_credits_anywhere(texts: Sequence[str], capitals: Sequence[bool], artists: bool) -> bool:
    """Whether a first segment, too, is a name, a tool or a medium: "by drew struzan", "ink on rice paper"."""
    if names.are_makers(texts):
        return True
    if len(texts) in (3, 4) and texts[1] == "on" and texts[0] in style_words.MEDIA:
        return texts[-1] in style_words.GROUNDS
    return artists and all(capitals) and 2 <= len(texts) <= 4  # "by kilian eng, Olly Moss"


def ends_in_style(texts: Sequence[str], tags: Sequence[str]) -> bool:
    """Whether a few words end in one of style: "food styling"."""
    style = texts[-1] in style_words.STYLE and texts[-1] not in lexicon.LAYOUT
    return style and len(texts) < 5 and _SENTENCE_TAGS.isdisjoint(tags)


def _tells_tools(texts: Sequence[str], tags: Sequence[str]) -> bool:
    """Whether a segment tells the tool that the picture was made with: "shot on iPhone 14 Pro", "rendered in
    octane"."""
    if tuple(texts[-3:]) in style_words.AWARDS["of"]:
        return True  # "wildlife photographer of the year"
    made = len(texts) > 2 and texts[0] in style_words.TAKEN and texts[1] in style_words.TAKEN_WITH
    return made and "DT" not in tags and "PRP$" not in tags
