"""Word lists behind `grefine_rt.assess.phrases`: what the newspaper-trained tagger does not know of prompts.

All words are lower case and singular; `singular` brings a word into that form.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


COLOURS = _set(
    "red orange yellow green teal blue purple pink brown white black grey gray golden cyan turquoise "
    "violet magenta crimson scarlet beige maroon indigo lavender blonde blond"
)
SHADES = _set(
    "dark light bright pale deep sky navy royal baby neon pastel lime"
)  # adjectives before a colour
ADJECTIVES = COLOURS | _set(
    "big large huge small little tiny giant long short tall wide narrow old young new cute fluffy "
    "beautiful pretty wooden snowy sunny starry cloudy rainy stormy foggy misty grassy sandy rocky "
    "smiling colorful colourful round shiny happy sad lovely calm empty open closed striped"
)
# Nouns that the tagger takes for verbs or adjectives when they stand in a list.
NOUNS = _set(
    "house tree boat fish sun car flower cat moon cloud bird balloon mushroom star umbrella rocket dog "
    "kite apple duck butterfly snowman lighthouse tent meadow beach desert snow field night sky city "
    "sea forest hill sunset sunrise girl boy man woman child person people robot dragon castle tower "
    "bridge river lake mountain ocean garden park street road grass hair eye face hand hat dress shirt "
    "coat scarf horse sheep wolf fox bear lion tiger rabbit mouse monkey elephant train plane bus bike "
    "bicycle ship truck chair table lamp book cup bowl bottle vase rose knight witch wizard astronaut "
    "princess king queen crown sword ring fence door window roof rock stone sand water wave fire smoke "
    "rain fog light bench"
)
# -ing words that are things; any other one after a noun is a participle ("hair blowing").
ING_NOUNS = _set(
    "building painting drawing lighting evening morning ceiling clothing king ring string wing spring "
    "thing swing wedding railing earring sibling pudding viking sting lightning nothing something "
    "everything anything clearing rendering crossing parking landing dumpling duckling sapling being "
    "stocking"
)
# Participles that take the noun after them as object even without an article ("wearing hat").
TRANSITIVE = _set(
    "holding wearing riding carrying eating drinking playing reading using watching driving showing "
    "facing chasing catching throwing hugging kissing having featuring wielding making pulling pushing "
    "touching feeding walking containing depicting"
)
PREPOSITIONS = _set(
    "above below beside besides behind near inside outside under underneath beneath over on in at by "
    "with without of from through across along around between among amongst amid against into onto "
    "toward towards upon atop within beyond during"
)
PREPOSITION_PHRASES: tuple[tuple[str, ...], ...] = tuple(
    tuple(phrase.split())
    for phrase in (
        "in the middle of",
        "in the center of",
        "in the centre of",
        "at the top of",
        "at the bottom of",
        "at the edge of",
        "on the edge of",
        "on the side of",
        "on the left of",
        "on the right of",
        "to the left of",
        "to the right of",
        "on the back of",
        "in front of",
        "on top of",
        "next to",
        "close to",
        "far from",
        "inside of",
        "outside of",
        "out of",
        "surrounded by",
        "covered in",
        "covered with",
        "covered by",
        "filled with",
        "full of",
        "made of",
        "made from",
        "dressed in",
        "lit by",
    )
)
TIMES = _set(
    "night day sunset sunrise dawn dusk noon midday midnight twilight morning evening afternoon winter summer"
)
SETTINGS = _set(
    "meadow beach desert snow rain fog mist field sky city sea forest hill mountain sun moon star "
    "street park garden ocean lake river countryside village jungle woods space"
)

# Carriers: "a photo of a cat" asks for a cat; a photo is nothing that could be missing from the image.
CARRIERS = _set(
    "photo photograph picture painting image drawing illustration view scene close-up closeup portrait "
    "sketch render rendering shot artwork poster watercolor watercolour selfie snapshot depiction still "
    "cartoon collage"
)
CARRIER_VERBS = _set("showing depicting featuring containing")
# Groups: in "a group of people" the people are the noun.
GROUPS = _set("group pair bunch lot couple set kind type sort number variety series piece dozen lots")
# Quality, camera and layout words: never centres, and left out of the phrases' texts.
STYLE = _set(
    "masterpiece quality resolution res detail detailed 8k 4k 2k 16k hd uhd hdr artstation deviantart "
    "pixiv octane unreal engine bokeh focus lens lighting style art aesthetic composition wallpaper "
    "realism photorealism surrealism photography cgi 3d 2d raw dslr sony canon nikon iso dof exposure "
    "aperture f/1.4 f/1.8 f/2.8 35mm 50mm 85mm mm film grain color colour colors tone vibe mood "
    "atmosphere background foreground distance left right middle center centre side top bottom front "
    "solo score_9 score_8_up vray blender rtx nsfw sfw"
)
STYLE_ADJECTIVES = _set(
    "realistic photorealistic hyperrealistic photo-realistic cinematic intricate sharp trending "
    "award-winning ultra highly detailed ultra-detailed hyperdetailed professional absurdres highres "
    "aesthetic best high-quality high-resolution stunning"
)
STYLE_PHRASES: tuple[tuple[str, ...], ...] = (
    ("depth", "of", "field"),
    ("rule", "of", "thirds"),
    ("golden", "hour"),
)


def singular(word: str) -> str:
    """Lower case, without the possessive and a plain plural ending: enough to look a word up here."""
    word = word.lower().replace("’", "'").removesuffix("'s")
    for plural, one in (
        ("ies", "y"),
        ("shes", "sh"),
        ("ches", "ch"),
        ("xes", "x"),
        ("sses", "ss"),
        ("men", "man"),
    ):
        if word.endswith(plural) and len(word) > len(plural) + 1:
            return word.removesuffix(plural) + one
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
