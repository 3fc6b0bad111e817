"""The places that a prompt tells: a thing's relation to another one, and its position in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

Relation = Literal[
    "left", "right", "above", "below", "on", "under", "inside", "around", "behind", "front", "near"
]
"""The place of a thing seen from another one: "on" and "under" touch it, "above" and "below" need not."""

Position = Literal[
    "left",
    "right",
    "top",
    "bottom",
    "center",
    "top left",
    "top right",
    "bottom left",
    "bottom right",
    "background",
    "foreground",
]
"""The place of a thing in the picture."""

_OPPOSITE: dict[Relation, Relation] = {
    "left": "right",
    "above": "below",
    "on": "under",
    "inside": "around",
    "behind": "front",
    "near": "near",
}
_OPPOSITE |= {after: before for before, after in list(_OPPOSITE.items())}

_RELATIONS: dict[Relation, frozenset[str]] = {
    "left": frozenset({"left", "left-hand", "lefthand"}),
    "right": frozenset({"right", "right-hand", "righthand"}),
    "above": frozenset({"above", "over"}),
    "on": frozenset({"on", "onto", "upon", "atop", "top"}),
    "under": frozenset({"under", "underneath", "beneath", "bottom", "foot", "base"}),
    "below": frozenset({"below"}),
    "behind": frozenset({"behind", "back", "rear", "hidden"}),
    "front": frozenset({"front", "ahead", "before"}),
    "inside": frozenset(
        {"inside", "in", "into", "within", "middle", "midst", "center", "centre", "amid", "amidst", "among"}
    ),
    "around": frozenset({"around", "surrounding", "outside"}),
    "near": frozenset(
        {"near", "next", "beside", "besides", "by", "close", "adjacent", "alongside", "along", "opposite", "at",
         "side", "edge", "end", "corner", "between"}
    ),
}  # fmt: skip
_ENCLOSED = frozenset({"surrounded", "filled", "full"})
_POSITIONS = {"centre": "center", "middle": "center", "distance": "background", "back": "background",
              "front": "foreground", "rear": "background"}  # fmt: skip


def opposite(relation: Relation) -> Relation:
    """The relation seen from the other thing: "left" for "right"."""
    return _OPPOSITE[relation]


def relation_of(preposition: Sequence[str]) -> Relation | None:
    """The place of X seen from Y in "X <preposition> Y", from its lower-case words; None if they tell none.

    The word that says most decides: "on the left side of" is "left", "on top of" is "on", "out of" is None.
    """
    if preposition and preposition[0] in _ENCLOSED:
        return "inside"
    if preposition and (
        preposition[0] in ("out", "off", "away", "far") or preposition[-2:-1] in (["shape"], ["form"])
    ):
        return None
    places = [word for word in preposition if word not in ("in", "on", "at", "to", "of", "by", "with", "the")]
    for candidates in (places, preposition):
        for word in reversed(candidates):
            for relation, words in _RELATIONS.items():
                if word in words and not (word == "side" and len(places) > 1):
                    return relation
    return None


def position_of(words: Sequence[str]) -> Position | None:
    """The place that lower-case words tell ("in the top left corner"), or None."""
    found = [_POSITIONS.get(word, word) for word in words]
    found = [{"upper": "top", "lower": "bottom"}.get(word, word) for word in found]
    vertical = next((word for word in found if word in ("top", "bottom")), "")
    horizontal = next((word for word in found if word in ("left", "right")), "")
    name = f"{vertical} {horizontal}".strip() or next((w for w in found if w in get_args(Position)), "")
    return next((position for position in get_args(Position) if position == name), None)
