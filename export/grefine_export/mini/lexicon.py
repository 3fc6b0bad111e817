"""The words of the storybook world: people's names of its things, colours, sizes, places and styles.

Every `Words` has the ones that training uses and the ones `unseen` in training: about a tenth of all synonyms. The
unseen ones are mostly compounds and derivations, as a reader who knows the parts may guess them ("motorcar", "elm
tree", "cherry-red"). British and American spellings are both known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """Ways to say one thing, the plain one first: `trained` on, and `unseen` in training."""

    trained: tuple[str, ...]
    unseen: tuple[str, ...] = ()


def _words(trained: str, unseen: str = "") -> Words:
    """From lists over commas."""
    split = (tuple(word.strip() for word in text.split(",") if word.strip()) for text in (trained, unseen))
    return Words(*split)


NOUNS: dict[str, Words] = {
    "house": _words("house, home, cottage, cabin, hut, bungalow, villa, building, mansion", "farmhouse"),
    "tree": _words("tree, oak, maple, oak tree, maple tree, apple tree", "elm tree"),
    "boat": _words("boat, sailboat, ship, yacht, rowboat, vessel, dinghy", "steamship"),
    "fish": _words("fish, trout, carp, reef fish, salmon", "sea fish"),
    "sun": _words("sun, morning sun, evening sun, summer sun"),
    "car": _words("car, automobile, auto, sedan, motor car, coupe, vehicle", "motorcar"),
    "flower": _words("flower, blossom, daisy, tulip, rose, garden flower", "wildflower"),
    "cat": _words("cat, kitten, kitty, tomcat, house cat", "pussycat"),
    "balloon": _words("balloon, hot air balloon, hot-air balloon", "toy balloon"),
    "mushroom": _words("mushroom, toadstool, fungus", "forest mushroom"),
    "bird": _words("bird, songbird, sparrow, finch, robin", "birdie"),
    "umbrella": _words("umbrella, parasol, garden umbrella", "sunshade"),
    "rocket": _words("rocket, spaceship, spacecraft, space rocket, starship", "rocket ship"),
    "tent": _words("tent, camp tent, tepee, wigwam"),
    "dog": _words("dog, puppy, hound, pup, doggy, pet dog"),
    "duck": _words("duck, duckling, drake, mallard, toy duck"),
    "butterfly": _words("butterfly, monarch butterfly"),
    "moon": _words("moon, winter moon"),
    "bus": _words("bus, coach, minibus, city bus", "school bus"),
    "train": _words("train, locomotive, steam train, steam engine, toy train", "steam locomotive"),
    "castle": _words("castle, fortress, palace, citadel, fort"),
    "lighthouse": _words("lighthouse, beacon, light tower"),
    "robot": _words("robot, android, droid, automaton, toy robot"),
    "apple": _words("apple, fruit, garden apple"),
    "cup": _words("cup, mug, teacup, coffee cup, coffee mug", "tea cup"),
    "kite": _words("kite, paper kite, toy kite"),
}

COLOUR_WORDS: dict[str, Words] = {
    "red": _words("red, scarlet, crimson, bright red, ruby-red, reddish", "cherry-red"),
    "orange": _words("orange, bright orange, orange-coloured, orange-colored, amber"),
    "yellow": _words("yellow, golden, bright yellow, lemon-yellow, yellowish", "canary-yellow"),
    "green": _words("green, emerald-green, bright green, grass-green, greenish, emerald", "leaf-green"),
    "blue": _words("blue, sky-blue, bright blue, cobalt-blue, navy-blue, bluish, azure", "sea-blue"),
    "purple": _words("purple, violet, lavender, purplish, violet-coloured, mauve"),
    "pink": _words("pink, rosy, bright pink, pinkish, magenta, fuchsia"),
    "white": _words("white, snow-white, pure white, milk-white, snowy, ivory-white"),
    "black": _words("black, jet-black, pitch-black, blackish, ebony", "coal-black"),
    "brown": _words("brown, chestnut-brown, chocolate-brown, brownish, chestnut", "nut-brown"),
    "grey": _words("grey, gray, slate-grey, greyish, grayish, silver, ashen", "ash-grey"),
    "turquoise": _words("turquoise, teal, cyan, blue-green, aquamarine", "turquoise-blue"),
}
ATTRIBUTES = frozenset(
    ("amber", "emerald", "azure", "mauve", "fuchsia", "jet-black", "pitch-black", "coal-black", "ebony")
) | {"chestnut", "silver", "ashen", "aquamarine"}
"""Names of colours that are nouns as well: they stand before a thing's name, not behind "is"."""

SIZE_WORDS: dict[str, Words] = {
    "small": _words("small, little, tiny, mini, petite, miniature"),
    "medium": _words("medium-sized, mid-sized, middle-sized"),
    "large": _words("large, big, huge, giant, enormous, gigantic", "massive"),
}

# After a thing. The nouns of places follow below.
PLACES: dict[str, Words] = {
    "meadow": _words(
        "in a meadow, on a green meadow, in a field, in a grassy field, on the grass, in the grassland, "
        "on a green hillside, in the countryside",
        "in a grassy meadow",
    ),
    "beach": _words(
        "on a beach, at the beach, on the shore, by the sea, at the seaside, on a sandy beach, on the coast",
        "on a sandy shore",
    ),
    "desert": _words(
        "in a desert, in the desert, among the dunes, in a sandy desert, in the dry sands",
        "in the desert sands",
    ),
    "snow": _words(
        "in the snow, on a snowy field, in winter, in a wintry landscape, in a snowy landscape",
        "on a snowfield",
    ),
    "night": _words(
        "at night, under the night sky, in the dark night, at midnight, under the stars, on a starry night",
        "under a starry sky",
    ),
    "sunset": _words(
        "at sunset, in the sunset, at dusk, in the evening, at twilight, at sundown, at nightfall"
    ),
    "forest": _words("in a forest, in the woods, among the trees, in a woodland, in a wood, in the forest"),
    "room": _words(
        "in a room, inside a cosy room, inside a cozy room, indoors, in a living room, in a bedroom"
    ),
    "city": _words("in a city, in the city, in a town, in the streets, in a village street, in a big city"),
    "ocean": _words("under the sea, under water, below the waves, in the deep ocean, in the deep sea"),
}
PLACE_NOUNS: dict[str, Words] = {
    "meadow": _words("a meadow, a field, a grassy field, a grassland, a green meadow", "a grassy meadow"),
    "beach": _words("a beach, a shore, a seaside, a sandy beach, a coast", "a sandy shore"),
    "desert": _words("a desert, a sandy desert, a desert landscape"),
    "snow": _words("a snowy field, a snowy landscape, a winter landscape, a wintry landscape", "a snowfield"),
    "night": _words("a night scene, a night sky, a starry night, a dark night"),
    "sunset": _words("a sunset, an evening sky, a twilight, a dusk"),
    "forest": _words("a forest, a wood, a woodland, a green forest"),
    "room": _words("a cosy room, a cozy room, a living room, a room"),
    "city": _words("a city, a town, a city street, a big city"),
    "ocean": _words("a deep sea, an underwater scene, a deep ocean, an ocean floor"),
}
PLACE_MODIFIERS: tuple[str, ...] = (
    *("forest", "sea", "beach", "city", "desert", "town", "ocean", "meadow", "field", "night", "winter"),
    "garden",
)
"""Words of places that may stand before any thing's name."""

_OUTDOORS = frozenset(PLACES) - {"room", "ocean"}
ALSO_TRUE: dict[str, frozenset[str]] = {
    "scene": frozenset(PLACES),
    "landscape": _OUTDOORS - {"city"},
    "sky": _OUTDOORS,
    "floor": frozenset({"room"}),
    "water": frozenset({"beach"}),
}
"""Settings that the bare noun at the end of a place's phrase is true of, besides those with such a phrase."""

# Adjectives that are true of a thing or say nothing of its looks.
LOOKS: tuple[str, ...] = (
    *("pretty", "lovely", "nice", "beautiful", "simple", "old", "new", "plain", "fine", "neat", "fancy"),
    "cheerful",
)
OWN_LOOKS: dict[str, tuple[str, ...]] = {
    kind: tuple(words.split())
    for kind, words in {
        "house": "wooden quiet cosy cozy",
        "tree": "leafy",
        "boat": "wooden",
        "fish": "lively scaly",
        "sun": "warm",
        "car": "shiny fast",
        "flower": "fresh delicate",
        "cat": "fluffy furry cute",
        "mushroom": "spotted",
        "bird": "feathered cute",
        "umbrella": "open",
        "rocket": "shiny fast",
        "dog": "friendly furry cute",
        "duck": "feathered cute",
        "butterfly": "delicate",
        "moon": "silent",
        "bus": "shiny",
        "castle": "ancient",
        "lighthouse": "tall",
        "robot": "friendly shiny",
        "apple": "ripe juicy shiny",
        "cup": "ceramic",
    }.items()
}
MATERIALS: dict[str, tuple[str, ...]] = {
    "house": ("brick", "stone"),
    "car": ("metal", "toy"),
    "rocket": ("metal", "toy"),
    "tent": ("canvas",),
    "bus": ("metal",),
    "train": ("metal",),
    "castle": ("stone",),
    "lighthouse": ("stone",),
    "robot": ("metal", "tin"),
    "cup": ("porcelain", "china"),
}
"""Nouns that stand before a thing's, behind its colour: `a red brick house`."""

# How a prompt calls the picture, with "of" behind it; by drawing style where that is true of one alone.
CARRIERS: tuple[str, ...] = (
    *(
        "a picture",
        "an illustration",
        "a painting",
        "an image",
        "a drawing",
        "artwork",
        "a scene",
        "a sketch",
    ),
    *("a storybook illustration", "a children's book illustration", "a digital illustration"),
)
STYLE_CARRIERS: dict[str, tuple[str, ...]] = {
    "flat": ("a flat illustration", "a minimalist illustration", "vector art"),
    "shaded": ("a soft illustration", "a digital painting"),
    "outlined": ("a line drawing", "a clip art picture"),
    "cartoon": ("a cartoon", "a comic picture"),
    "crayon": ("a crayon drawing", "a child's drawing"),
    "paper": ("a paper collage", "a paper cutout"),
    "watercolour": ("a watercolour painting", "a watercolor painting", "a watercolour"),
    "grainy": ("a grainy illustration", "a retro illustration"),
    "pencil": ("a pencil drawing",),
    "chalk": ("a chalk drawing",),
}
TAGS: tuple[str, ...] = (
    *("storybook", "storybook style", "best quality", "highly detailed", "8k", "4k", "masterpiece", "hd"),
    *("sharp focus", "vivid colours", "vivid colors", "children's book", "digital art", "high quality"),
    *(
        "illustration",
        "ultra detailed",
        "soft light",
        "clean lines",
        "high resolution",
        "professional",
        "trending",
    ),
    *(
        "award winning",
        "concept art",
        "warm colours",
        "bright colors",
        "intricate details",
        "cinematic lighting",
    ),
)
FUNCTION_WORDS: tuple[str, ...] = (
    *("a", "an", "the", "one", "two", "three", "2", "3", "single", "pair", "of", "and", "with"),
    *("in", "on", "at", "by", "under", "over", "above", "below", "beneath", "left", "right"),
    *("next", "to", "beside", "near", "close", "there", "where", "is", "are", "that", "which"),
    *("painted", "you", "we", "can", "see", "featuring", "showing"),
)

_IRREGULAR = {"fish": "fish", "trout": "trout", "carp": "carp", "salmon": "salmon", "fungus": "fungi"}
_IRREGULAR |= {
    "spacecraft": "spacecraft",
    "dinghy": "dinghies",
    "reef fish": "reef fish",
    "sea fish": "sea fish",
}


def plural(noun: str) -> str:
    """`butterflies`, `buses`, `oak trees`."""
    if noun in _IRREGULAR:
        return _IRREGULAR[noun]
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "ch", "sh", "x")) else "s")
