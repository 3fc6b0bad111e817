"""Prompts of the world: true, in words that training may use, and read by the parser as they are meant."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grefine_export.mini import lexicon
from grefine_export.mini.lexicon import (
    COLOUR_WORDS,
    NOUNS,
    PLACE_MODIFIERS,
    PLACE_NOUNS,
    PLACES,
    SIZE_WORDS,
    plural,
)
from grefine_export.mini.naming import phrase_of, with_article
from grefine_export.mini.palette import COLOURS, SETTINGS
from grefine_export.mini.prompts import (
    STYLES,
    TRAINED_STYLES,
    UNSEEN_STYLES,
    describe,
    known_words,
    place_phrases,
    place_texts,
    prompt_of,
)
from grefine_export.mini.things import KINDS
from grefine_export.mini.world import Scene, Thing, make_scene
from grefine_rt.assess.prompt import prompt_phrases, prompt_words
from grefine_rt.text.emphasis import parse_weights, plain_text

SEEDS = st.integers(0, 2**31).map(lambda index: (95, index))
TABLES = (NOUNS, COLOUR_WORDS, SIZE_WORDS, PLACES, PLACE_NOUNS)
RELATIONS = {
    "to the left of": lambda one, other: one.x < other.x,
    "to the right of": lambda one, other: one.x > other.x,
    "above": lambda one, other: one.y < other.y,
    "over": lambda one, other: one.y < other.y,
    "below": lambda one, other: one.y > other.y,
    "under": lambda one, other: one.y > other.y,
    "beneath": lambda one, other: one.y > other.y,
}


def names(table, key):
    return table[key].trained + table[key].unseen


def says(text, phrase):
    return re.search(rf"(?<![\w-]){re.escape(phrase)}(?![\w-])", text) is not None


def unseen_said(text):
    """The held-out synonyms in a text."""
    held = [
        phrase.removeprefix("a ") for table in TABLES for some in table.values() for phrase in some.unseen
    ]
    held += [plural(noun) for some in NOUNS.values() for noun in some.unseen]
    return [phrase for phrase in held if says(text, phrase)]


# --- what a prompt says


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from(STYLES), st.booleans())
def test_a_prompt_says_every_thing_with_its_colour_and_the_place(seed, style, unseen):
    scene = make_scene(seed)
    written = describe(scene, np.random.default_rng(seed), style, unseen)
    assert written == describe(scene, np.random.default_rng(seed), style, unseen)
    text = plain_text(written.text).lower()
    for thing, noun in zip(scene.things, written.nouns, strict=True):
        assert noun in {form for name in names(NOUNS, thing.kind) for form in (name, plural(name))}
        assert says(text, noun), (text, noun)
        assert any(says(text, colour) for colour in names(COLOUR_WORDS, thing.colour))
        if thing.size != "medium":
            assert any(says(text, size) for size in names(SIZE_WORDS, thing.size))
    nouns_of_place = [noun.split(" ", 1)[1] for noun in names(PLACE_NOUNS, scene.setting)]
    assert any(says(text, place) for place in (*names(PLACES, scene.setting), *nouns_of_place))
    assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|\b(an?) \1\b|  | ,|,,", text), text


@settings(max_examples=150, deadline=None)
@given(SEEDS, st.sampled_from(("related", "scene")))
def test_relations_are_true(seed, style):
    scene = make_scene(seed)
    written = describe(scene, np.random.default_rng(seed), style)
    text = plain_text(written.text).lower()
    for relation, holds in RELATIONS.items():
        for one, first in zip(scene.things, written.nouns, strict=True):
            for other, second in zip(scene.things, written.nouns, strict=True):
                between = rf"\b{first} (is |are )?{relation} [\w -]*\b{second}\b"
                if first != second and re.search(between, text):
                    alike = [t for t in scene.things if t.kind == one.kind]
                    others = [t for t in scene.things if t.kind == other.kind]
                    middles = [
                        replace(group[0], x=np.mean([t.x for t in group]), y=np.mean([t.y for t in group]))
                        for group in (alike, others)
                    ]
                    assert holds(*middles), text


def birds(count, colour="red"):
    things = [Thing("bird", colour, "small", 20.0 + 35 * k, 30.0, False) for k in range(count)]
    return Scene("meadow", (*things, Thing("house", "blue", "medium", 64.0, 90.0, False)), 1)


def test_several_alike_are_counted():
    rng = np.random.default_rng(5)
    for count, numbers in ((2, ("two", "2", "a pair of")), (3, ("three", "3"))):
        found = set()
        for _ in range(60):
            written = describe(birds(count), rng)
            assert len(set(written.nouns[:count])) == 1
            assert written.nouns[0] in {plural(name) for name in NOUNS["bird"].trained}
            text = plain_text(written.text).lower()
            found |= {number for number in numbers if says(text, number)}
            assert text.count(written.nouns[0]) == 1
        assert found == set(numbers)


def test_scenes_hold_several_alike_sometimes():
    scenes = [make_scene((94, index)) for index in range(1200)]
    twice = [max(Counter((t.kind, t.colour, t.size) for t in scene.things).values()) for scene in scenes]
    assert 0.02 < np.mean(np.array(twice) > 1) < 0.25
    assert max(twice) == 3
    assert max(len(scene.things) for scene in scenes) == 4


def test_plurals():
    assert [plural(noun) for noun in ("bird", "bus", "butterfly", "coach", "fish", "oak tree", "toy")] == [
        "birds",
        "buses",
        "butterflies",
        "coaches",
        "fish",
        "oak trees",
        "toys",
    ]


# --- ways to write


def test_styles_differ():
    scene = next(s for s in (make_scene((93, k)) for k in range(50)) if len({t.kind for t in s.things}) == 3)
    rng = np.random.default_rng(3)
    prompts = {style: [plain_text(prompt_of(scene, rng, style)) for _ in range(40)] for style in STYLES}
    assert all(prompt.count(",") >= 3 for prompt in prompts["list"] + prompts["tags"])
    assert all(re.search(r"\b(with|featuring|showing)\b", p.lower()) for p in prompts["setting-first"])
    assert all(re.search(r"\bthere (is|are)\b", p.lower()) for p in prompts["there-is"])
    assert all(re.search(r"\b(that|which) (is|are)\b|\bpainted\b", p.lower()) for p in prompts["clause"])
    assert all(re.search(r"\b(you|we|one) (can )?see\b", p.lower()) for p in prompts["see"])
    assert all(" where " in prompt.lower() for prompt in prompts["scene"])
    assert all(re.match(r"(please )?(draw|paint|show)\b", p.lower()) for p in prompts["request"])
    assert all(p.lower().startswith("the ") and " is " in p.lower() for p in prompts["statement"])
    weights = [
        [chunk.weight for chunk in parse_weights(prompt_of(scene, rng, "weighted")) if chunk.weight != 1]
        for _ in range(40)
    ]
    assert {len(row) for row in weights} == {1}
    assert {round(row[0], 3) for row in weights} == {1.1, 1.2, 1.21, 1.3}


def test_without_a_style_all_that_are_trained_on_come_and_no_other():
    rng = np.random.default_rng(4)
    written = [describe(make_scene((92, k)), rng) for k in range(400)]
    assert {one.style for one in written} == set(TRAINED_STYLES)
    texts = [one.text for one in written]
    assert len(set(texts)) > 390
    assert 2 < sum(text.isupper() for text in texts) < 40
    assert 20 < sum(text.endswith(".") for text in texts) < 160
    assert any("8k" in text for text in texts)


def test_a_drawing_style_is_named_only_where_it_is_true():
    rng = np.random.default_rng(6)
    for style, carriers in lexicon.STYLE_CARRIERS.items():
        others = {c for name, some in lexicon.STYLE_CARRIERS.items() if name != style for c in some}
        scenes = [replace(make_scene((91, k)), style=style) for k in range(150)]
        texts = [prompt_of(scene, rng, "sentence").lower() for scene in scenes]
        said = any(text.startswith(carrier) for text in texts for carrier in carriers)
        assert said == (style not in ("pencil", "chalk"))
        assert not any(
            text.startswith(carrier + " of ") for text in texts for carrier in others - {*carriers}
        )


def test_articles():
    assert [with_article(name) for name in ("orange cat", "umbrella", "red house")] == [
        "an orange cat",
        "an umbrella",
        "a red house",
    ]


# --- what training never says


def test_the_lexicon_names_everything_and_holds_a_tenth_back():
    assert set(NOUNS) == set(KINDS)
    assert set(COLOUR_WORDS) == set(COLOURS)
    assert set(PLACES) == set(PLACE_NOUNS) == set(SETTINGS)
    synonyms = held = 0
    for table in TABLES:
        for some in table.values():
            assert not set(some.trained) & set(some.unseen)
            synonyms += len(some.trained) - 1 + len(some.unseen)
            held += len(some.unseen)
    assert 0.08 < held / synonyms < 0.14
    assert len(UNSEEN_STYLES) == 2
    for kind in KINDS:
        assert len(NOUNS[kind].trained) >= 2, kind
    for word in ("automobile", "cottage", "kitten", "ship"):
        assert word in {noun for some in NOUNS.values() for noun in some.trained}


def test_training_prompts_hold_nothing_unseen():
    rng = np.random.default_rng(7)
    known, count = set(known_words()), 2500
    for index in range(count):
        written = describe(make_scene((90, index)), rng)
        assert written.unseen == frozenset()
        assert written.style not in UNSEEN_STYLES
        text = plain_text(written.text).lower()
        assert not unseen_said(text), text
        assert {word.lower() for word in prompt_words(text)} <= known, text
    for kind in KINDS:
        for colour in (None, *COLOURS):
            assert not unseen_said(phrase_of(kind, colour, rng))
    assert not any(unseen_said(phrase) for place in SETTINGS for phrase in place_phrases(place))


def test_phrases_are_written_as_the_runtime_finds_them_in_prompts():
    rng = np.random.default_rng(11)
    said = [phrase_of("house", "red", rng) for _ in range(600)]
    for form in (
        r"\b(is|are) \S*red",
        r"painted red",
        r"^(two|2|three|3|a pair)\b.*s\b",
        r"^the\b",
        r"\bbrick\b",
    ):
        assert any(re.search(form, text) for text in said), form
    assert any({"old", "pretty", "cosy", "wooden"} & set(text.split()) for text in said)
    alone = [phrase_of("fish", None, rng) for _ in range(4000)]
    of_a_place = [text for text in alone if set(text.split()) & set(PLACE_MODIFIERS)]
    assert 0.02 < len(of_a_place) / len(alone) < 0.08
    assert any("forest" in text for text in of_a_place)
    assert not any(unseen_said(text) for text in alone)


def test_a_noun_at_the_end_of_a_place_is_true_of_every_place_that_ends_with_it():
    texts = place_texts()
    assert texts["field"] == texts["a field"] == {"meadow", "snow"}
    assert texts["a snowy field"] == {"snow"}
    assert texts["under the sea"] == {"ocean"}
    assert texts["sea"] == {"beach", "ocean"}
    assert "trees" not in texts
    for setting in SETTINGS:
        assert all(setting in texts[phrase] for phrase in place_phrases(setting))
    assert not any(unseen_said(text) for text in texts)


def test_unseen_words_and_styles_come_when_asked_for():
    rng = np.random.default_rng(8)
    found = 0
    for index in range(200):
        scene = make_scene((89, index))
        asked = describe(scene, rng, unseen_words=True)
        text = plain_text(asked.text).lower()
        assert ("synonym" in asked.unseen) == bool(unseen_said(text)), text
        found += "synonym" in asked.unseen
        style = UNSEEN_STYLES[index % 2]
        assert describe(scene, rng, style).unseen == {"prompt"}
    assert found > 160


def test_at_least_400_words_are_known():
    known = known_words()
    assert len(known) >= 400
    assert list(known) == sorted(set(known))
    assert {"automobile", "gray", "grey", "kittens", "watercolor", "watercolour", "meadow", "8k"} <= set(
        known
    )
    assert not {"motorcar", "elm", "sunshade", "cherry-red"} & set(known)


# --- as the parser reads them


@pytest.mark.parametrize("unseen", [False, True])
def test_the_parser_gives_every_thing_its_phrase_with_its_colour(unseen):
    rng = np.random.default_rng(9)
    right = Counter()
    count = 2000 if not unseen else 600
    for index in range(count):
        scene, style = make_scene((88, index)), STYLES[index % len(STYLES)]
        written = describe(scene, rng, style, unseen)
        phrases = [(p.text.lower().split(), p.noun.lower().split()[-1]) for p in prompt_phrases(written.text)]
        right[style] += all(
            sum(
                noun.split()[-1] == last
                and any(set(colour.split()) <= set(text) for colour in names(COLOUR_WORDS, thing.colour))
                for text, last in phrases
            )
            == 1
            for thing, noun in zip(scene.things, written.nouns, strict=True)
        )
    assert sum(right.values()) / count >= 0.99, right
    assert min(right.values()) / (count / len(STYLES)) >= 0.95, right
