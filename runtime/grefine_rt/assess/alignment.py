"""The alignment indicator: phrases of the prompt that the picture misses, and the regions to draw them in.

G-Refine 3.2, Eq. 5, 6 and 8. All of it is arithmetic on features; phrases and ancestors (Eq. 4, Algorithm 1)
come from `phrases.py`. Where the paper can be read in two ways both readings are here, by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.assess.prompt import Phrase
from grefine_rt.assess.prompt.places import Position, Relation, opposite
from grefine_rt.assess.prompt.regions import box_of, placed_region, related_region
from grefine_rt.readings import WINDOW, AdjectiveRule, Joining, MissingRegion

Defect = Literal["noun", "adjective"]

ROOM = 0.5
"""Share of a window that nothing sound may hold for a missing thing to be drawn in it."""

PLACE = 0.55
"""A noun whose map has this mean or more is a place (a meadow, the night sky), which has room for things."""


@dataclass(frozen=True, eq=False)
class PhraseScore:
    """The scores and maps of one phrase of the prompt.

    `noun_score` and `phrase_score` are a_pns and a_phs of Eq. 5, in [0, 1]; `noun_map` and `map` are A_pns
    and A_phs on the token grid, float32 (g, g) in [0, 1]. `ancestor` is the noun of the ancestor phrase and
    `ancestor_index` its index among the phrases (the phrase's own for a root). `defect` is "noun" when the
    thing is missing, "adjective" when it is there but not as described, None when all is well. `words` are the
    positions of the text's words in the prompt, see `Phrase.shown`; `relation` and `position` are the place that the
    prompt tells, see `Phrase`. `known` is False for a noun that the bundle does not know (`assess.domain`): then the
    scores mean nothing and there is no defect.
    """

    text: str
    noun: str
    ancestor: str
    noun_score: float
    phrase_score: float
    defect: Defect | None
    map: Floats
    noun_map: Floats
    ancestor_index: int
    words: tuple[int, ...] = ()
    relation: Relation | None = None
    position: Position | None = None
    known: bool = True


@dataclass(frozen=True, eq=False)
class Region:
    """The region in which a defective phrase is to be drawn: `map` float32 (g, g) in [0, 1], `place` in words.

    Without room for it the map is 0 and `place` is empty.
    """

    phrase: int
    map: Floats
    place: str


def match(tokens: Floats, texts: Floats, empty: Floats, temperature: float) -> Floats:
    """Eq. 5: softmax over (text, "") of the scaled similarity, for every image token.

    `tokens` (1+N, d), `texts` (n, d) and `empty` (d,) are L2-normalised features; `empty` is that of "". The
    softmax takes away the redundant feature, which every token likes. Returns (n, 1+N) in [0, 1];
    column 0 belongs to the class token and is the score a, the others are the map A.
    """
    logits = temperature * ((texts - empty) @ tokens.T).astype(np.float64)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), dtype=np.float32)


def score_phrases(
    phrases: Sequence[Phrase],
    nouns: Floats,
    wholes: Floats,
    *,
    a_bound: float,
    beta: float,
    adjective_rule: AdjectiveRule = "penalised",
    known: Sequence[bool] | None = None,
) -> tuple[PhraseScore, ...]:
    """Names the defect of every phrase (G-Refine 3.2, the two kinds below Eq. 5).

    `nouns` and `wholes` are rows of `match`, (n, 1+N), for the noun and for the whole of each phrase.

    - Noun unmatched: a_pns < a_bound.
    - Adjective unmatched: the noun is there, but a_phs < a_pns ("printed"). A describing word always moves
      the score a little, so "penalised" (default) also asks that the phrase be poor enough to cost anything
      in Eq. 8: a_phs < beta.

    `known` says of each phrase whether its noun is known; None of all. An unknown one has no defect.
    """
    side = math.isqrt(nouns.shape[1] - 1)
    scored = []
    for i, phrase in enumerate(phrases):
        noun, whole = float(nouns[i, 0]), float(wholes[i, 0])
        bound = noun if adjective_rule == "printed" else min(noun, beta)
        defect: Defect | None = "noun" if noun < a_bound else "adjective" if whole < bound else None
        is_known = known is None or known[i]
        # A phrase whose ancestor was cut away (very long prompts) is a root.
        ancestor = phrase.ancestor if phrase.ancestor < len(phrases) else i
        scored.append(
            PhraseScore(
                text=phrase.text,
                noun=phrase.noun,
                ancestor=phrases[ancestor].noun,
                noun_score=noun,
                phrase_score=whole,
                defect=defect if is_known else None,
                map=wholes[i, 1:].reshape(side, side),
                noun_map=nouns[i, 1:].reshape(side, side),
                ancestor_index=ancestor,
                words=phrase.shown,
                relation=phrase.relation,
                position=phrase.position,
                known=is_known,
            )
        )
    return tuple(scored)


def overall(prompt_score: float, phrases: Sequence[PhraseScore], beta: float) -> float:
    """Eq. 8: a = alignment of the whole prompt * prod_j min(a_phs[j] / beta, 1), in [0, 1], over known phrases."""
    penalties = [min(phrase.phrase_score / beta, 1.0) for phrase in phrases if phrase.known]
    return float(prompt_score * np.prod(penalties))


def regions(
    phrases: Sequence[PhraseScore],
    missing_region: MissingRegion = "ancestor",
    window: float = WINDOW,
    quality: Floats | None = None,
) -> tuple[Region, ...]:
    """The regions in which defective phrases are drawn, one a defect, in the order of the phrases.

    `missing_region` is the reading for a thing that the picture misses:

    - "ancestor" (the paper's text): the region of the nearest ancestor that is in the picture; an unmatched
      adjective is drawn at its own noun's region. Peaks are raised to 1, so that a region passes the
      threshold of the mask however low the encoder's values are.
    - "printed" (Eq. 6 as printed, the two swapped): the thing at its own map, the adjective at its
      ancestor's.
    - "free" (ours): a compact window clear of all things that were found, see `free_region`.

    The paper gives no region to a missing thing that is a root, or whose ancestors are all missing; such a thing
    goes to a free window too, and one whose ancestor is a place to a window inside that place. A place that the prompt
    tells ("left of the dog", "in the background") gets the free window of its thing, except by "printed". `window` is
    the share of the picture such a window takes, in (0, 1].

    `quality` is P on the token grid, (g, g) in [0, 1]. With it a free window must have room: the things that were found
    must leave half of it; of equally free windows the one of poorer quality wins, which is to be redrawn anyway.
    Without it some window is always taken.
    """
    things = [phrase.noun_map for phrase in phrases if phrase.known and phrase.defect != "noun"]
    claimed = [noun_map for noun_map in things if noun_map.mean() < PLACE]
    found = []
    for i, phrase in enumerate(phrases):
        if phrase.defect is None:
            continue
        if missing_region == "printed":
            owner = i if phrase.defect == "noun" else phrase.ancestor_index
            found.append(Region(i, phrases[owner].noun_map, _place(phrases, owner)))
            continue
        holder = i if phrase.defect == "adjective" else _present_ancestor(phrases, i)
        told = told_place(phrases, i) if phrase.defect == "noun" else None
        in_a_place = holder is not None and holder != i and phrases[holder].noun_map.mean() >= PLACE
        if holder is None or in_a_place or told is not None or (missing_region == "free" and holder != i):
            free = free_region(claimed, phrase.noun_map, window, quality, told)
            if free is None:
                found.append(Region(i, np.zeros_like(phrase.noun_map), ""))
                continue
            claimed.append(free)  # the next missing thing looks for a place of its own
            elsewhere = "in a part of the picture that nothing else of the prompt needs"
            found.append(
                Region(i, free, elsewhere if told is None else f"{elsewhere}, where the prompt puts it")
            )
        else:
            found.append(Region(i, _raise_peak(phrases[holder].noun_map), _place(phrases, holder)))
    return tuple(found)


def join(regions: Sequence[Region], joining: Joining, side: int) -> Floats:
    """Eq. 6: one map (side, side) in [0, 1] from the regions of all defects; 1 is to be redrawn.

    "union" (default): D = 1 - prod_j (1 - A_j), which is 0 when nothing is wrong. "product" (as printed):
    prod_j A_j, the intersection, which is 1 everywhere when nothing is wrong.
    """
    maps = np.stack([region.map for region in regions]) if regions else np.empty((0, side, side), np.float32)
    if joining == "product":
        return np.asarray(maps.prod(axis=0), dtype=np.float32)
    return np.asarray(1.0 - (1.0 - maps).prod(axis=0), dtype=np.float32)


def told_place(phrases: Sequence[PhraseScore], index: int) -> Floats | None:
    """The place that the prompt tells for a thing, float32 (g, g) in [0, 1]; None for a prompt that tells none.

    The place is beside the ancestor, else beside a thing that is told to lie beside it, each if it is in the picture,
    else a part of the picture.
    """
    phrase = phrases[index]
    size = (phrase.noun_map.shape[0], phrase.noun_map.shape[1])
    beside = [(phrases[phrase.ancestor_index], phrase.relation)] if phrase.ancestor_index != index else []
    children = (other for other in phrases if other.relation and phrases[other.ancestor_index] is phrase)
    beside += [
        (other, opposite(other.relation)) for other in children if other is not phrase and other.relation
    ]
    for other, relation in beside:
        if relation is not None and other.known and other.defect != "noun":
            return related_region(relation, box_of(other.noun_map), size)
    return None if phrase.position is None else placed_region(phrase.position, size)


def free_region(
    claimed: Sequence[Floats],
    noun_map: Floats,
    window: float = WINDOW,
    quality: Floats | None = None,
    told: Floats | None = None,
) -> Floats | None:
    """A compact place to draw a thing that the picture misses, float32 (g, g) in [0, 1], peak 1; None without room.

    A cell is free by prod_k (1 - A_k) over the maps in `claimed`. A redraw needs room in one piece, and the whole
    background would not be a targeted repair, so the free map is kept only inside the square window of
    `window` times the picture's area where it is highest; of equally free windows, the one where the encoder
    sees more of the missing noun (`noun_map`, stretched to its own range) wins. `quality` as in `regions`. `told`,
    (g, g) in [0, 1], weighs the windows by the place that the prompt tells.
    """
    free = np.ones_like(noun_map)
    for other in claimed:
        free = free * (1.0 - other)
    span = noun_map.max() - noun_map.min()
    hint = (noun_map - noun_map.min()) / span if span > 1e-6 else np.zeros_like(noun_map)
    poorer = 0.0 if quality is None else 1.0 - quality
    there = 1.0 if told is None else told
    top, left, side = best_window(free * (0.5 + 0.5 * hint + poorer) * there, window)
    inside = (slice(top, top + side), slice(left, left + side))
    if quality is not None and free[inside].mean() < ROOM:
        return None
    region = np.zeros_like(noun_map)
    region[inside] = _raise_peak(free[inside])
    return region


def best_window(weight: Floats, share: float) -> tuple[int, int, int]:
    """The square window of about `share` of the area of `weight` (g, g) with the highest mean.

    Returns (top, left, side) in grid cells. Of equal windows the most central one is taken.
    """
    grid = weight.shape[0]
    side = min(max(round(grid * share**0.5), 1), grid)
    table = np.pad(weight.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    sums = table[side:, side:] - table[:-side, side:] - table[side:, :-side] + table[:-side, :-side]
    offset = np.arange(grid - side + 1) - (grid - side) / 2
    distance = offset[:, None] ** 2 + offset[None, :] ** 2
    best = sums >= sums.max() - 1e-9 * side * side
    top, left = np.unravel_index(np.argmin(np.where(best, distance, np.inf)), sums.shape)
    return int(top), int(left), side


def _present_ancestor(phrases: Sequence[PhraseScore], index: int) -> int | None:
    """The first phrase up the chain of ancestors whose noun is known and in the picture; None without one."""
    seen = {index}
    while (index := phrases[index].ancestor_index) not in seen:
        if phrases[index].known and phrases[index].defect != "noun":
            return index
        seen.add(index)
    return None


def _raise_peak(region: Floats) -> Floats:
    peak = float(region.max())
    return np.asarray(region / peak, dtype=np.float32) if peak > 1e-6 else np.ones_like(region)


def _place(phrases: Sequence[PhraseScore], index: int) -> str:
    return f"where '{phrases[index].noun}' is"
