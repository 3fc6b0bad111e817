"""Word lists from WordNet, and what is taken for a name or a term in a list of tags."""

import pytest

from grefine_rt.assess.prompt import lexicon, names, prompt_phrases, style_words, words


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("knives", "knife"),
        ("buses", "bus"),
        ("geese", "goose"),
        ("tvs", "tv"),
        ("lens", "lens"),
        ("octopus", "octopus"),
        ("ramen", "ramen"),
        ("children's", "child"),
        ("tomatoes", "tomato"),
    ],
)
def test_plain_forms_of_nouns(plural, one):
    assert words.singular(plural) == one


def test_classes_of_words():
    assert all(map(words.is_thing, ["sled", "corgis", "violin", "mountain"]))
    assert all(map(words.is_abstract, ["documentary", "happiness"]))
    assert not words.is_abstract("cable")  # one of its senses can be seen
    assert all(map(words.is_name, ["monet", "rembrandt"]))
    assert not words.is_name("rose")
    assert words.is_compound("dining", "tables")
    assert not words.is_compound("red", "tables")
    assert [words.verb_of(word) for word in ("flew", "carries", "stopped", "writing", "table-cloth")] == [
        "fly",
        "carry",
        "stop",
        "write",
        None,
    ]


@pytest.mark.parametrize(
    "name", ["greg rutkowski", "wlop", "edward hopper", "jan van eyck", "pieter bruegel the elder"]
)
def test_names(name):
    assert names.may_be_name(name.split(), lenient=True)


@pytest.mark.parametrize(
    "thing", ["wooden table", "cyberpunk city", "wildflowers", "park bench", "snow-covered pines"]
)
def test_things_are_no_names(thing):
    assert not names.may_be_name(thing.split(), lenient=False)


@pytest.mark.parametrize(
    "item",
    [
        "greg rutkowski",
        "wlop, artgerm and loish",
        "art by alphonse mucha",
        "by drew struzan",
        "8 k",
        "sci - fi",
        "f / 2. 8",
        "35 mm lens",
        "long-shot",
        "unreal engine 5",
        "canon eos 5d mark iv",
        "ink on paper",
        "vaporwave",
        "pointillism",
        "subsurface scattering",
        "hyper - realistic",
        "in the style of van gogh",
        "trending on artstation",
        "book cover",
        "d & d",
    ],
)
def test_an_item_that_asks_for_style_is_no_thing(item):
    assert [phrase.text for phrase in prompt_phrases(f"a cat, {item}")] == ["a cat"]


@pytest.mark.parametrize(
    ("item", "noun"),
    [
        ("park bench", "park bench"),
        ("power lines", "power lines"),
        ("newspaper clippings", "newspaper clippings"),
        ("campfire", "campfire"),
        ("tattoo", "tattoo"),
        ("ghibli style meadow", "meadow"),
        ("tank top", "tank top"),
        ("orcs", "orcs"),
        ("猫", "猫"),
    ],
)
def test_an_item_that_can_be_seen_is_a_thing(item, noun):
    assert [phrase.noun for phrase in prompt_phrases(f"a cat, {item}")] == ["cat", noun]


def test_lists_are_lower_case():
    for module in (lexicon, style_words, names):
        for name, value in vars(module).items():
            if isinstance(value, frozenset) and name.isupper():
                assert all(word == word.lower() for word in value), name
