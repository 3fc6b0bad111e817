"""Prompts of scenes, in the ways people write them.

`describe` writes one and gives its name of each thing; `prompt_of` is its text alone. Training uses `TRAINED_STYLES`
and words that the lexicon trains on. `UNSEEN_STYLES` and unseen synonyms, which it never uses, come on request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from grefine_export.mini.lexicon import (
    ALSO_TRUE,
    CARRIERS,
    COLOUR_WORDS,
    FUNCTION_WORDS,
    LOOKS,
    MATERIALS,
    NOUNS,
    OWN_LOOKS,
    PLACE_NOUNS,
    PLACES,
    SIZE_WORDS,
    STYLE_CARRIERS,
    TAGS,
    plural,
)
from grefine_export.mini.naming import Named, choose, name_of
from grefine_export.mini.styles import TRAINING_STYLES
from grefine_export.mini.world import Scene, Thing

_APART = 22  # pixels between centres, from where on one is left of, or above, another


@dataclass(frozen=True)
class Prompt:
    """A written prompt. `nouns`: its name of each thing of the scene, in the scene's order. `unseen`: "prompt" if its
    style, "synonym" if a word of it is never trained on."""

    text: str
    nouns: tuple[str, ...]
    style: str
    unseen: frozenset[str]


def _groups(things: tuple[Thing, ...]) -> list[list[int]]:
    """Indices of things that are alike, to be named together: same kind, colour and size."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for index, thing in enumerate(things):
        found.setdefault((thing.kind, thing.colour, thing.size), []).append(index)
    return list(found.values())


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _relation(one: Named, other: Named, rng: np.random.Generator) -> str:
    """The relation of `one` to `other`, always true."""
    (x, y), (other_x, other_y) = one.at, other.at
    words = ["next to", "beside", "near", "close to"]
    if abs(y - other_y) > _APART:
        words += ["above", "over"] * 2 if y < other_y else ["below", "under", "beneath"] * 2
    if abs(x - other_x) > _APART:
        side = "left" if x < other_x else "right"
        words += [f"to the {side} of"] * 4
    return str(rng.choice(words))


class _Writer:
    """The material that every style of prompt is written from."""

    def __init__(self, scene: Scene, named: list[Named], unseen: bool, rng: np.random.Generator):
        self.scene, self.named, self.rng = scene, named, rng
        self.place, odd_place = choose(PLACES[scene.setting], rng, unseen)
        self.setting, odd_setting = choose(PLACE_NOUNS[scene.setting], rng, unseen)
        self.odd = {"place": odd_place, "setting": odd_setting}
        self.used: set[str] = set()

    def pick(self, *choices: str) -> str:
        return str(self.rng.choice(choices))

    def where(self) -> str:
        """The place behind a thing."""
        self.used.add("place")
        return self.place

    def there(self) -> str:
        """The place itself, with its article."""
        self.used.add("setting")
        return self.setting

    def names(self) -> str:
        return _joined([one.whole for one in self.named])

    def carrier(self) -> str:
        """`a picture of `, or nothing."""
        if self.rng.random() < 0.5:
            return ""
        own = STYLE_CARRIERS[self.scene.style] if self.scene.style in TRAINING_STYLES else ()
        return self.pick(*CARRIERS, *own * 3) + " of "

    def tags(self, fewest: int, most: int) -> str:
        count = int(self.rng.integers(fewest, most + 1))
        return "".join(f", {tag}" for tag in self.rng.permutation(TAGS)[:count])


def _sentence(w: _Writer) -> str:
    return f"{w.carrier()}{w.names()} {w.where()}"


def _list(w: _Writer) -> str:
    bare = [one.bare if one.count == 1 else one.whole for one in w.named]
    return ", ".join([*bare, w.there().removeprefix("an ").removeprefix("a ")])


def _tag_list(w: _Writer) -> str:
    text = _list(w)
    return text + w.tags(1, 4)


def _setting_first(w: _Writer) -> str:
    return f"{w.carrier()}{w.there()} {w.pick('with', 'with', 'featuring', 'showing')} {w.names()}"


def _weighted(w: _Writer) -> str:
    names = [one.whole for one in w.named]
    marked = int(w.rng.integers(len(names)))
    names[marked] = w.pick(f"({names[marked]}:{w.pick('1.1', '1.2', '1.3')})", f"(({names[marked]}))")
    return f"{w.carrier()}{_joined(names)} {w.where()}"


def _related(w: _Writer) -> str:
    if len(w.named) == 1:
        return _sentence(w)
    first, second, *rest = w.named
    text = f"{w.carrier()}{first.whole} {_relation(first, second, w.rng)} {second.whole} {w.where()}"
    return text + (f", with {_joined([one.whole for one in rest])}" if rest else "")


def _there_is(w: _Writer) -> str:
    verb = "is" if w.named[0].count == 1 else "are"
    return w.pick(f"there {verb} {w.names()} {w.where()}", f"{w.where()} there {verb} {w.names()}")


def _clause(w: _Writer) -> str:
    """Colours in clauses of their own."""
    names = []
    for one in w.named:
        verb = "is" if one.count == 1 else "are"
        plain = ("painted",) if one.colour in COLOUR_WORDS else ()
        link = w.pick(f"that {verb}", f"which {verb}", *plain)
        names.append(one.apart(link))
    verb = "is" if w.named[0].count == 1 else "are"
    start = w.pick("", f"there {verb} ", w.carrier())
    return f"{start}{_joined(names)} {w.where()}"


def _see(w: _Writer) -> str:
    verb = w.pick("you can see", "you see", "we see", "we can see", "one can see")
    return w.pick(f"{w.where()} {verb} {w.names()}", f"{verb} {w.names()} {w.where()}")


def _scene(w: _Writer) -> str:
    verb = "is" if w.named[0].count == 1 else "are"
    if len(w.named) == 1:
        return f"{w.carrier()}{w.there()} with {w.named[0].whole}"
    rest = _joined([one.whole for one in w.named[2:]]) if len(w.named) > 2 else ""
    relation = _relation(w.named[0], w.named[1], w.rng)
    text = f"{w.there()} where {w.named[0].whole} {verb} {relation} {w.named[1].whole}"
    return text + (f", with {rest}" if rest else "")


def _request(w: _Writer) -> str:
    return f"{w.pick('draw me', 'paint me', 'please draw', 'show me')} {w.names()} {w.where()}"


def _statement(w: _Writer) -> str:
    said = [
        f"the {one.before}{one.material}{one.noun} {'is' if one.count == 1 else 'are'} {one.colour}"
        for one in w.named
    ]
    return f"{_joined(said)}, {w.where()}"


_TRAINED = {
    "sentence": _sentence,
    "list": _list,
    "tags": _tag_list,
    "setting-first": _setting_first,
    "weighted": _weighted,
    "related": _related,
    "there-is": _there_is,
    "clause": _clause,
    "see": _see,
    "scene": _scene,
}
_UNSEEN = {"request": _request, "statement": _statement}
TRAINED_STYLES: tuple[str, ...] = tuple(_TRAINED)
UNSEEN_STYLES: tuple[str, ...] = tuple(_UNSEEN)
"""Two styles of prompt that training never uses."""
STYLES = (*TRAINED_STYLES, *UNSEEN_STYLES)
_AFTER_IS = ("clause", "statement")
_LISTS = ("list", "tags", "weighted")


def _dressed(text: str, style: str, w: _Writer) -> str:
    """In capitals, as a sentence, or with tags of quality, now and then."""
    chance = w.rng.random()
    if style != "tags" and chance < 0.12:
        text += w.tags(1, 2)
    elif style not in _LISTS and chance < 0.3:
        text = text[0].upper() + text[1:] + "."
    chance = w.rng.random()
    if style != "weighted" and chance < 0.06:
        return re.sub(r"\b[a-z](?=[a-z]{2})", lambda letter: letter.group().upper(), text)
    return text.upper() if style != "weighted" and chance < 0.08 else text


def describe(
    scene: Scene, rng: np.random.Generator, style: str | None = None, unseen_words: bool = False
) -> Prompt:
    """A prompt with every thing, its colour, its size unless medium, and the place.

    style: one of `STYLES`, else any of the trained ones. unseen_words: with synonyms that are never trained on where
    the lexicon has any.
    """
    style = style or str(rng.choice(TRAINED_STYLES))
    groups = _groups(scene.things)
    groups = [groups[k] for k in rng.permutation(len(groups))]
    predicate = style in _AFTER_IS
    named = [name_of([scene.things[i] for i in group], rng, unseen_words, predicate) for group in groups]
    writer = _Writer(scene, named, unseen_words, rng)
    text = _dressed((_TRAINED | _UNSEEN)[style](writer), style, writer)
    nouns = {index: one.noun for group, one in zip(groups, named, strict=True) for index in group}
    unseen = {"prompt"} if style in UNSEEN_STYLES else set()
    if any(one.unseen for one in named) or any(writer.odd[part] for part in writer.used):
        unseen.add("synonym")
    return Prompt(text, tuple(nouns[index] for index in range(len(nouns))), style, frozenset(unseen))


def prompt_of(
    scene: Scene, rng: np.random.Generator, style: str | None = None, unseen_words: bool = False
) -> str:
    """The text of `describe`."""
    return describe(scene, rng, style, unseen_words).text


def place_phrases(setting: str) -> tuple[str, ...]:
    """All phrases for a place that training uses."""
    return PLACES[setting].trained + PLACE_NOUNS[setting].trained


_BEFORE_PLACES = {"a", "an", "the", "in", "on", "at", "by", "under", "among", "inside", "below"}


def place_texts() -> dict[str, frozenset[str]]:
    """Phrases for places, and the bare nouns that they end with, each with the settings that it is true of.

    A snowy field is a field. An indicator asks for the noun of a phrase apart, so "field" must not mean meadows alone.
    Nouns that name things as well (in "among the trees") are left out.
    """
    things = {name for words in NOUNS.values() for noun in words.trained for name in (noun, plural(noun))}
    ends = {setting: [_without(text) for text in place_phrases(setting)] for setting in PLACES}

    def true_of(words: tuple[str, ...]) -> frozenset[str]:
        own = (setting for setting, texts in ends.items() if any(t[-len(words) :] == words for t in texts))
        return frozenset(own) | ALSO_TRUE.get(" ".join(words), frozenset())

    nouns = sorted({words[-1] for texts in ends.values() for words in texts} - things)
    texts = {text: frozenset({setting}) for setting in PLACES for text in PLACES[setting].trained}
    texts |= {text: true_of(_without(text)) for words in PLACE_NOUNS.values() for text in words.trained}
    return texts | {noun: true_of((noun,)) for noun in nouns}


def _without(text: str) -> tuple[str, ...]:
    """The words of a place without prepositions and articles."""
    return tuple(word for word in text.split() if word not in _BEFORE_PLACES)


def known_words() -> tuple[str, ...]:
    """Every word, in lower case and sorted, that a training prompt can hold: the words that the embedded bundle
    knows."""
    texts: list[str] = [*FUNCTION_WORDS, *CARRIERS, *TAGS, *LOOKS, *sum(OWN_LOOKS.values(), ())]
    texts += sum(MATERIALS.values(), ())
    texts += [text for style in TRAINING_STYLES for text in STYLE_CARRIERS[style]]
    for table in (NOUNS, COLOUR_WORDS, SIZE_WORDS, PLACES, PLACE_NOUNS):
        texts += [text for words in table.values() for text in words.trained]
    texts += [plural(noun) for words in NOUNS.values() for noun in words.trained]
    return tuple(sorted({word for text in texts for word in text.split()}))
