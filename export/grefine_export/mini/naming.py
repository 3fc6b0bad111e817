"""How prompts and phrases call the things of the storybook world."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from grefine_export.mini.lexicon import (
    ATTRIBUTES,
    COLOUR_WORDS,
    LOOKS,
    MATERIALS,
    NOUNS,
    OWN_LOOKS,
    PLACE_MODIFIERS,
    SIZE_WORDS,
    Words,
    plural,
)
from grefine_export.mini.world import Thing

PLAIN = 0.4
"""The share of things, colours and places that have their plainest names."""
OF_A_PLACE = 0.05
"""The share of phrases that have the word of a place before the thing's name."""
_HELD_BACK = {name for words in NOUNS.values() for one in words.unseen for name in (one, plural(one))}
_ARTICLES = {1: ("a", "a", "a", "a", "a", "the", "one", "a single"), 2: ("two", "two", "a pair of", "2")}
_ARTICLES |= {3: ("three", "three", "3")}


@dataclass(frozen=True)
class Named:
    """A thing, or several alike, as a prompt calls it. `noun` as it stands there, perhaps plural; `count` 1..3."""

    noun: str
    colour: str
    before: str  # adjectives of size and look, each with a space behind it
    material: str  # with a space behind it, or ""
    count: int
    article: str
    at: tuple[float, float]
    unseen: bool

    @property
    def bare(self) -> str:
        """Without an article: `small red brick house`."""
        return f"{self.before}{self.colour} {self.material}{self.noun}"

    @property
    def whole(self) -> str:
        """With its article or number: `an old red house`."""
        return self.begun(self.bare)

    def begun(self, words: str) -> str:
        """`words` with this thing's article or number before them."""
        return with_article(words) if self.article == "a" else f"{self.article} {words}"

    def apart(self, link: str) -> str:
        """With its colour behind it: `a small brick house that is red`, for the link `that is`."""
        return self.begun(f"{self.before}{self.material}{self.noun} {link} {self.colour}")


def with_article(name: str) -> str:
    """`an orange cat`, `a red house`."""
    return ("an " if name[0] in "aeiou" else "a ") + name


def choose(words: Words, rng: np.random.Generator, unseen: bool) -> tuple[str, bool]:
    """One of the words and whether it is an unseen one; `unseen` asks for one where there is any."""
    if unseen and words.unseen:
        return str(rng.choice(words.unseen)), True
    if rng.random() < PLAIN:
        return words.trained[0], False
    return str(rng.choice(words.trained)), False


def _look(
    kind: str, size: str, size_words: Words, rng: np.random.Generator, unseen: bool
) -> tuple[str, bool]:
    """Adjectives before the colour, each with a space behind it, and whether one is unseen."""
    words, odd = [], False
    if size != "medium" or rng.random() < 0.15:
        word, odd = choose(size_words, rng, unseen)
        words.append(word)
    if rng.random() < 0.16:
        words.append(str(rng.choice([*LOOKS, *OWN_LOOKS.get(kind, ())])))
    return "".join(word + " " for word in words), odd


def name_of(things: list[Thing], rng: np.random.Generator, unseen: bool, predicate: bool) -> Named:
    """The name of things that are alike. unseen: with words never trained on, where there are any. predicate: the
    colour stands behind "is"."""
    thing, count = things[0], len(things)
    noun, odd_noun = choose(NOUNS[thing.kind], rng, unseen)
    colours = COLOUR_WORDS[thing.colour]
    if predicate:
        colours = Words(
            *(tuple(w for w in some if w not in ATTRIBUTES) for some in (colours.trained, colours.unseen))
        )
    colour, odd_colour = choose(colours, rng, unseen and rng.random() < 0.7)
    before, odd_size = _look(thing.kind, thing.size, SIZE_WORDS[thing.size], rng, unseen)
    material = ""
    if " " not in noun and " " not in colour and not before and rng.random() < 0.12:
        material = "".join(word + " " for word in rng.choice(MATERIALS.get(thing.kind, [""]), 1) if word)
    at = tuple(float(np.mean([getattr(t, axis) for t in things])) for axis in "xy")
    return Named(
        noun=plural(noun) if count > 1 else noun,
        colour=colour,
        before=before,
        material=material,
        count=count,
        article=str(rng.choice(_ARTICLES[count])),
        at=(at[0], at[1]),
        unseen=odd_noun or odd_colour or odd_size,
    )


def phrase_of(kind: str, colour: str | None, rng: np.random.Generator) -> str:
    """A thing as a phrase of the runtime names it, in words that training uses: a bare noun, or with a colour, before
    the thing or behind it, and any size, look, material, article and number."""
    if colour is None:
        noun = _of_a_place(choose(NOUNS[kind], rng, False)[0], rng)
        return noun if rng.random() < 0.6 else with_article(noun)
    behind = rng.random() < 0.25
    thing = Thing(kind, colour, str(rng.choice(list(SIZE_WORDS))), 0, 0, False)
    one = name_of([thing] * int(rng.choice((1, 2, 3), p=(0.9, 0.07, 0.03))), rng, False, behind)
    one = replace(one, noun=_of_a_place(one.noun, rng))
    if behind:
        plain = ("painted",) if one.colour in COLOUR_WORDS else ()
        return one.apart(str(rng.choice(["is" if one.count == 1 else "are", *plain])))
    return one.whole if rng.random() < 0.6 else one.bare


def _of_a_place(noun: str, rng: np.random.Generator) -> str:
    """`noun`, in a few cases with the word of a place before it, which says nothing of where the thing is: a forest
    bird may sit in a room. Names that the lexicon holds back are left out."""
    if rng.random() >= OF_A_PLACE:
        return noun
    compound = f"{rng.choice(PLACE_MODIFIERS)} {noun}"
    return noun if compound in _HELD_BACK else compound
