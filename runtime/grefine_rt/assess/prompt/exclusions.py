"""Things that a prompt excludes: "no people", "without a hat or gloves", "nobody in sight"."""

from __future__ import annotations

import re
from collections.abc import Sequence

from grefine_rt.assess.prompt import lexicon
from grefine_rt.assess.prompt.chunks import Chunk
from grefine_rt.assess.prompt.leaf import BE, DETERMINERS, NEGATION

_YEARS = re.compile(r"(?:1\d|20)\d\ds?|\d0s|\d+(?:st|nd|rd|th)|\d+-?bit", re.ASCII)


class Exclusions:
    """Marks excluded things. `dropped`: words left out of the texts."""

    def __init__(self, lower: Sequence[str], tags: list[str], dropped: set[int]) -> None:
        self.lower = lower
        self.tags = tags
        self.dropped = dropped

    def is_bare(self, item: Chunk) -> bool:
        """Whether a noun phrase has neither article nor number."""
        return not any(
            self.tags[word] in DETERMINERS and not _YEARS.fullmatch(self.lower[word]) for word in item.words
        )

    def exclude(self, items: Sequence[Chunk]) -> None:
        """Mark things that the prompt excludes as style: "no people", "not wearing a hat or gloves"."""
        scope = ""  # "next": what comes is excluded; "more": so is what a conjunction adds; "pronoun"
        for position, item in enumerate(items):
            text = self.lower[item.words[0]]
            tag = self.tags[item.words[0]]
            follower = items[position + 1] if position + 1 < len(items) else None
            if item.nouns:
                own = text == "no" or any(self.lower[word] == "without" for word in item.prepositions)
                item.style = own or scope == "next"
                scope = "more" if item.style else ""
            elif tag == NEGATION:
                self.dropped.update(item.words)
                if follower is not None and not follower.nouns:
                    self._drop_copula(items[:position])
                scope = "next"
            elif item.kind == "CC" and scope == "more":
                bare = follower is not None and follower.kind != "PP" and self.is_bare(follower)
                scope = "next" if text in ("or", "nor") or (text == "and" and bare) else ""
                self.dropped.update(item.words if scope else [])
            elif scope == "next" and (item.kind == "V" or tag.startswith(("JJ", "RB"))):
                self.dropped.update(item.words)
                scope = "more" if tag.startswith("JJ") else "next"
            elif text in lexicon.NOBODY:
                self.dropped.update(item.words)
                if position and self.tags[items[position - 1].words[-1]] in ("IN", "WRB"):
                    self.dropped.update(items[position - 1].words)
                scope = "pronoun"
            elif scope == "pronoun" and (item.kind == "V" or tag in ("IN", "PRP")):
                self.dropped.update(item.words)
            else:
                scope = ""

    def _drop_copula(self, items: Sequence[Chunk]) -> None:
        for item in reversed(items):
            text = self.lower[item.words[0]]
            if item.nouns or (text not in BE and text not in lexicon.RELATIVES):
                return
            self.dropped.update(item.words)
