"""Phrases and ancestors of prompts of all kinds, against trees written down by hand."""

import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grefine_rt.assess import tagger
from grefine_rt.assess.phrases import parse, words

# Prompt -> its phrases as "text | noun | noun of the ancestor"; "-" marks a root.
PROMPTS = {
    # sentences and captions
    "a woman with long hair blowing in the wind, standing on a beach": [
        "a woman standing | woman | -",
        "long hair blowing | hair | woman",
        "the wind | wind | hair",
        "a beach | beach | woman",
    ],
    "a red house and a yellow boat in a meadow": [
        "a red house | house | -",
        "a yellow boat | boat | house",
        "a meadow | meadow | house",
    ],
    "a sunny meadow with a red house and a small boat": [
        "a sunny meadow | meadow | -",
        "a red house | house | meadow",
        "a small boat | boat | meadow",
    ],
    "a small red boat next to a big house in a snowy field under a yellow sun": [
        "a small red boat | boat | -",
        "a big house | house | boat",
        "a snowy field | field | boat",
        "a yellow sun | sun | boat",
    ],
    "a big duck beside a tiny snowman at night": [
        "a big duck | duck | -",
        "a tiny snowman | snowman | duck",
        "night | night | duck",
    ],
    "a yellow star above a teal lighthouse by the sea": [
        "a yellow star | star | -",
        "a teal lighthouse | lighthouse | star",
        "the sea | sea | star",
    ],
    "a tiny orange fish and a huge purple apple in the desert": [
        "a tiny orange fish | fish | -",
        "a huge purple apple | apple | fish",
        "the desert | desert | fish",
    ],
    "a traffic light in a city": ["a traffic light | traffic light | -", "a city | city | traffic light"],
    "a white rocket in the night sky": ["a white rocket | rocket | -", "the night sky | night sky | rocket"],
    "the dog is sleeping under a tree": ["the dog is sleeping | dog | -", "a tree | tree | dog"],
    "the house is red and the boat is blue": [
        "the house is red | house | -",
        "the boat is blue | boat | house",
    ],
    "a cat sits on a mat": ["a cat sits | cat | -", "a mat | mat | cat"],
    "there is a cat on the roof": ["a cat | cat | -", "the roof | roof | cat"],
    "On a beach stands a lighthouse.": ["a beach | beach | -", "stands a lighthouse | lighthouse | beach"],
    "Flying over the city, a red kite": ["the city | city | kite", "Flying a red kite | kite | -"],
    "in a meadow, a red house and a purple mushroom": [
        "a meadow | meadow | -",
        "a red house | house | -",
        "a purple mushroom | mushroom | house",
    ],
    "a boy holding a red balloon in front of a lighthouse": [
        "a boy | boy | -",
        "holding a red balloon | balloon | boy",
        "a lighthouse | lighthouse | balloon",
    ],
    "an astronaut riding a horse on the moon": [
        "an astronaut | astronaut | -",
        "riding a horse | horse | astronaut",
        "the moon | moon | astronaut",
    ],
    "man riding bicycle down a street": [
        "man | man | -",
        "riding bicycle | bicycle | man",
        "a street | street | man",
    ],
    "a dog chasing a cat and a bird flying above the house": [
        "a dog | dog | -",
        "chasing a cat | cat | dog",
        "a bird flying | bird | dog",
        "the house | house | bird",
    ],
    "a girl with blue eyes and long blonde hair": [
        "a girl | girl | -",
        "blue eyes | eyes | girl",
        "long blonde hair | hair | girl",
    ],
    "a group of people walking in the park": [
        "a group of people walking | people | -",
        "the park | park | people",
    ],
    "a house surrounded by trees": ["a house | house | -", "trees | trees | house"],
    "a red and yellow kite above the sea": ["a red and yellow kite | kite | -", "the sea | sea | kite"],
    "a big, red house by the sea": ["a big red house | house | -", "the sea | sea | house"],
    "a very old, very big tree": ["a very old very big tree | tree | -"],
    "an orange on a table": ["an orange | orange | -", "a table | table | orange"],
    "two dogs and three cats playing in the snow": [
        "two dogs | dogs | -",
        "three cats playing | cats | dogs",
        "the snow | snow | cats",
    ],
    "a red house on the hills, with a tent": [
        "a red house | house | -",
        "the hills | hills | house",
        "a tent | tent | house",
    ],
    # lists
    "red car, blue sky, golden fish on beach": [
        "red car | car | -",
        "blue sky | sky | -",
        "golden fish | fish | -",
        "beach | beach | fish",
    ],
    "teal kite, white rocket flying above the city": [
        "teal kite | kite | -",
        "white rocket flying | rocket | -",
        "the city | city | rocket",
    ],
    "cyan tent, grey cloud, gray star, golden moon": [
        "cyan tent | tent | -",
        "grey cloud | cloud | -",
        "gray star | star | -",
        "golden moon | moon | -",
    ],
    "1girl, solo, long hair, blue eyes, standing on a beach": [
        "1girl standing | 1girl | -",
        "long hair | hair | -",
        "blue eyes | eyes | -",
        "a beach | beach | 1girl",
    ],
    "running dog, flying bird": ["running dog | dog | -", "flying bird | bird | -"],
    "a cat, fluffy, a dog": ["a cat fluffy | cat | -", "a dog | dog | -"],
    "beautiful, a house": ["beautiful a house | house | -"],
    "boat\nkite\nduck": ["boat | boat | -", "kite | kite | -", "duck | duck | -"],
    # tools' syntax
    "a (red car:1.2) and <lora:foo:0.8> a [blue] boat": ["a red car | car | -", "a blue boat | boat | car"],
    "a cat BREAK a dog": ["a cat | cat | -", "a dog | dog | -"],
    "((masterpiece)), (a green tree:1.3)": ["a green tree | tree | -"],
    # carriers, style, camera, artists, exclusions
    "a picture of a red house and a green tree in a forest at sunset": [
        "a red house | house | -",
        "a green tree | tree | house",
        "a forest | forest | house",
        "sunset | sunset | house",
    ],
    "an illustration of a pink umbrella, a brown dog and a white butterfly": [
        "a pink umbrella | umbrella | -",
        "a brown dog | dog | -",
        "a white butterfly | butterfly | dog",
    ],
    "photo of a cat wearing a hat, 8k, masterpiece, best quality": [
        "a cat | cat | -",
        "wearing a hat | hat | cat",
    ],
    "close-up of a flower, bokeh, f/1.8, 50mm lens, depth of field": ["a flower | flower | -"],
    "portrait of a woman by Greg Rutkowski and Alphonse Mucha, highly detailed, trending on artstation": [
        "a woman | woman | -"
    ],
    "a castle in the style of Van Gogh": ["a castle | castle | -"],
    "a scene showing a brown dog": ["a brown dog | dog | -"],
    "oil painting, a cat": ["a cat | cat | -"],
    "a painting on the wall": ["a painting | painting | -", "the wall | wall | painting"],
    "a red house with mountains in the background": [
        "a red house | house | -",
        "mountains | mountains | house",
    ],
    "the red car on the left and the blue car on the right": [
        "the red car | car | -",
        "the blue car | car | car",
    ],
    "a room without windows, no people": ["a room | room | -"],
    # no noun, other scripts, emoji, nothing
    "red and blue": ["red and blue | red and blue | -"],
    "8k, masterpiece": ["8k masterpiece | 8k masterpiece | -"],
    "🐱 🌅": ["🐱 🌅 | 🐱 🌅 | -"],
    "a kitten 🐱 sleeping on a sofa": ["a kitten 🐱 sleeping | kitten | -", "a sofa | sofa | kitten"],
    "一只红色的猫, 草地": ["一只红色的猫 | 一只红色的猫 | -", "草地 | 草地 | -"],
    "красный дом у моря": ["красный дом у моря | красный дом у моря | -"],
    "A RED HOUSE, A BLUE BOAT": ["A RED HOUSE | HOUSE | -", "A BLUE BOAT | BOAT | -"],
    "": [],
    " ,.!? ": [],
    "<lora:foo:1>": [],
}


def listed(text):
    return text.split()


THINGS = listed(
    "house tree boat fish sun car flower cat moon cloud bird balloon mushroom star umbrella rocket dog "
    "kite apple duck butterfly snowman lighthouse tent"
)
COLOURS = listed("red orange yellow green teal blue purple pink brown white black grey gray golden cyan")
SIZES = listed("big large huge small little tiny")
SETTINGS = [
    "in a meadow",
    "on a beach",
    "in the desert",
    "in the snow",
    "in a snowy field",
    "at night",
    "in the night sky",
    "in a city",
    "by the sea",
    "in a forest",
    "on the hills",
    "at sunset",
    "under a yellow sun",
]
PLACES = [
    "next to",
    "beside",
    "above",
    "under",
    "in front of",
    "behind",
    "near",
    "on",
    "below",
    "to the left of",
]


def written(prompt):
    parsed = parse(prompt)
    lines = []
    for index, phrase in enumerate(parsed):
        above = "-" if phrase.ancestor == index else parsed[phrase.ancestor].noun
        lines.append(f"{phrase.text} | {phrase.noun} | {above}")
    return lines


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt[:40] or "empty")
def test_written_down_prompts(prompt):
    assert written(prompt) == PROMPTS[prompt]


def test_enough_prompts_are_written_down():
    assert len(PROMPTS) >= 45


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", ["", *SIZES])
def test_every_thing_in_every_colour_and_size(size, colour):
    for thing in THINGS:
        first = " ".join(["a", *([size] if size else []), colour, thing])
        assert written(f"{first} and a boat") == [f"{first} | {thing} | -", f"a boat | boat | {thing}"]


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_setting_and_place(setting):
    rng = random.Random(setting)
    text = setting.split(" ", 1)[1]
    noun = "night sky" if "night sky" in setting else text.split()[-1]
    for place in PLACES:
        (first, second) = rng.sample(THINGS, 2)
        (colour, other) = rng.sample(COLOURS, 2)
        assert written(f"the {colour} {first} {place} a {other} {second} {setting}") == [
            f"the {colour} {first} | {first} | -",
            f"a {other} {second} | {second} | {first}",
            f"{text} | {noun} | {first}",
        ]


def check(prompt):
    parsed = parse(prompt)
    found = words(prompt)
    assert sorted(word for phrase in parsed for word in phrase.words) == list(range(len(found)))
    assert bool(parsed) == bool(found)
    for index, phrase in enumerate(parsed):
        assert phrase.noun_index in phrase.words
        assert list(phrase.words) == sorted(phrase.words)
        assert phrase.noun.split()[-1] == found[phrase.noun_index]
        assert set(phrase.noun.split()) <= set(phrase.text.split())
        assert set(phrase.text.split()) <= {found[word] for word in phrase.words}
        # Every chain of ancestors ends at a root.
        steps = 0
        while parsed[index].ancestor != index:
            index, steps = parsed[index].ancestor, steps + 1
            assert steps <= len(parsed)


@given(st.text(max_size=120))
@settings(deadline=None)
def test_any_text_is_parsed(text):
    check(text)


VOCABULARY = listed(
    "a the red big very and or , . : ( ) house cat boat photo of painting style standing flying wearing "
    "is sits with in next to under by without no group people 8k masterpiece who that there she night "
    "snow up 🐱 one 's was not"
)


@given(st.lists(st.sampled_from(VOCABULARY), max_size=40).map(" ".join))
@settings(deadline=None, max_examples=300)
def test_any_order_of_prompt_words_is_parsed(text):
    check(text)


def test_long_prompts_are_parsed_quickly():
    rng = random.Random(0)
    parse("a cat")
    prompt = " ".join(rng.choice(VOCABULARY) for _ in range(400))
    start = time.process_time()
    check(prompt)
    for word in ("1", "red", "cat", "the", "in a cat", "standing", "red ,"):
        parse(f"{word} " * 400)
    assert time.process_time() - start < 3


def test_words_count_without_punctuation_and_weights():
    assert words("a (red car:1.2), [old] t-shirt!") == ("a", "red", "car", "old", "t-shirt")


def test_threads_agree():
    prompts = [f"{prompt} {number}" for prompt in PROMPTS for number in range(2)]
    results = []
    threads = [threading.Thread(target=lambda: results.append([parse(p) for p in prompts])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parse.cache_clear()
    assert results == [[parse(p) for p in prompts]] * 4


def test_tags_and_weights_are_those_of_the_published_tagger():
    sentence = listed("a woman with long hair in the wind , standing on a beach while two dogs sleep")
    tags = listed("DT NN IN JJ NN IN DT NN , VBG IN DT NN IN CD NNS VBP")
    assert tagger.tag(sentence) == tags
    assert tagger.tag([]) == []
    rows = tagger._tagger().model.weights
    assert len(rows) == 94_202  # the published 94,208 less six without weights
    assert rows["i word inventiveness"] == {"NN": 0.971, "RB": -0.971}
    assert rows["i+1 word budgets"]["VBG"] == 3.06
    assert "no such feature" not in rows
