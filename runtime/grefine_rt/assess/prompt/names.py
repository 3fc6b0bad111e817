"""Names of people, models and schools in lists of tags: "greg rutkowski", "wlop", "ue5", "vaporwave".

Names are told by words without another use in English: words of known people's names, common given names, and words in
no list at all. A word that names something to be seen stays a thing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from grefine_rt.assess.prompt import lexicon, style_words, words
from grefine_rt.assess.prompt.given_names import GIVEN_NAMES
from grefine_rt.assess.prompt.words import word_set

_MODEL = re.compile(r"(?=.*\d)(?=.*[a-z])[a-z0-9.+-]+", re.ASCII)
_COUNTED = re.compile(r"\d+\+?(?:girls?|boys?|others?)", re.ASCII)
_CLASSES = (
    lexicon.ADJECTIVES
    | lexicon.ADVERBS
    | lexicon.PREPOSITIONS
    | lexicon.PRONOUNS
    | lexicon.RELATIVES
    | lexicon.ING_NOUNS
    | lexicon.METALS
    | lexicon.SHADES
    | style_words.GENRES
)
_LATIN = "\u0250"  # the first letter that no European alphabet has
_STROKES = str.maketrans(
    {"ł": "l", "ø": "o", "đ": "d", "ı": "i", "æ": "ae", "œ": "oe", "ß": "ss", "ð": "d", "þ": "th"}
)
TERM_ENDINGS = ("wave", "core", "punk", "ism", "esque", "pop")
# Things that are asked for after the style has begun, beside those of `lexicon`.
_LATE = word_set(
    "syringe trident shrine monastery mosque synagogue cathedral chapel pyramid sphinx obelisk monument "
    "memorial arena "
    "amphitheater theater theatre cinema hotel motel inn tavern pub diner bakery pharmacy store mall plaza "
    "boulevard avenue lane bazaar playground carousel greenhouse terrace porch deck veranda aqueduct dam canal "
    "lagoon bay cove oasis moor bog geyser skull corpse carcass egg nest web cocoon hive cage trap net hook "
    "wheel engine propeller sail mast oar saddle bridle carriage wagon cart sleigh sled stroller wheelchair "
    "backpack suitcase purse handbag wallet briefcase watch bandage patch chopstick platter bookshop kiosk "
    "booth stall bandstand podium ladder scaffold crane bulldozer tractor truck trailer caravan campervan "
    "trophy coin banknote treasure chest dice card chessboard puzzle keyboard microphone saxophone trumpet "
    "flute harp cello accordion banjo harmonica tambourine turntable jukebox gramophone typewriter "
    "gown tunic halo scepter sceptre countertop gazebo pavilion candelabra hieroglyph idol relic artifact "
    "plant insect animal creature vehicle machine weapon jewelry jewellery pearl coral gem jewel gemstone "
    "diamond ruby emerald sapphire amulet pendant tiara ribbon lace bow corset collar belt buckle button "
    "zipper pocket sleeve legging trousers pants shorts vest blouse blazer kimono hanfu sari turban veil "
    "bandana bonnet beret cap hairpin hairband headband visor gauntlet cuirass breastplate pauldron shield "
    "spear axe dagger knife hammer arrow gun rifle pistol cannon staff wand scythe whip gear cog pipe wire "
    "cable antenna tentacle scale spike fur mane hoof paw snout fang tusk antler beak fin whisker finger arm "
    "leg foot head neck shoulder chest breast belly stomach waist hip thigh knee nose cheek chin jaw forehead "
    "eyebrow eyelash eyeliner lipstick nail body muscle bone rib abs cloth clothes clothing apron overalls "
    "sandal slipper boots stocking tights bikini swimsuit lingerie underwear motorcycle tram taxi van jeep "
    "tank helicopter airship satellite submarine yacht raft canoe kayak sailboat anchor barrel crate pot pan "
    "plate spoon fork jar teapot kettle mug tray basket noodle pancake pizza sandwich cookie cupcake donut "
    "chocolate candy honey milk juice rice salad steak sausage vegetable tomato potato carrot onion pepper "
    "corn garlic herb spice berry blueberry cherry peach pear orange pineapple watermelon melon coconut "
    "avocado nut seed acorn wheat bamboo palm willow birch fern bush hedge reed cactus succulent lotus lily "
    "tulip daisy sunflower orchid dandelion lavender poppy pebble boulder brick tile marble pillar column "
    "arch dome gate wall floor ceiling roof chimney attic basement cellar hallway tunnel alleyway sidewalk "
    "pavement highway railway track station platform airport runway skyscraper building mansion palace "
    "fortress hut barn windmill mill farm vineyard orchard pond swamp marsh stream creek spring shore coast "
    "reef dune glacier iceberg crater ridge peak summit plain prairie savanna tundra grove wood thicket "
    "undergrowth foliage canopy trunk stump log twig thorn pollen spore firefly ember ash dust debris rubble "
    "toy doll puppet balloon confetti gift cake letter envelope scroll parchment newspaper notebook quill pen "
    "glass savannah cemetery graveyard studio paint globe telescope microscope compass hourglass potion "
    "flask cauldron crystal orb throne altar coffin tomb "
    "grave tombstone cross chandelier lamp torch bonfire fireplace furnace stove oven refrigerator sink "
    "bathtub shower toilet towel rug cushion stool armchair bookcase bookshelf drawer cabinet closet dresser "
    "television tv monitor keyboard radio robot droid poster sign billboard vending crowd passerby"
)
_HUES = word_set("reds blues greens yellows pinks purples browns blacks whites grays greys teals")
_SMALL = word_set("the of a an and in on at to for with from is no")  # small in titles
_ROMAN = word_set("ii iii iv vi vii viii ix xi xii xiii xiv xv xvi")
_PARTICLES = word_set("van von de da di del della der den du la le el al bin the")


def is_model(word: str) -> bool:
    """Whether a word of letters and digits names a model or a size ("ue5", "xt3", "70-200mm"), not "1girl"."""
    return bool(_MODEL.fullmatch(word)) and not _COUNTED.fullmatch(word)


def may_be_name(texts: Sequence[str], lenient: bool) -> bool:
    """Whether lower-case words may be a person's name.

    lenient: the place expects a name ("by ..."), so one that is also a common word will do ("james jean").
    """
    texts = [text.removesuffix("'s").rstrip(".") for text in texts]
    if not all(
        text.replace("-", "").replace("'", "").isalpha() and max(text) < _LATIN for text in texts if text
    ):
        return False
    texts = [_plain(text) for text in texts]
    if len(texts) > 2 and texts[-2] == "the" and texts[-1] in ("elder", "younger"):
        texts = texts[:-2]
    own = [text for text in texts if text not in _PARTICLES and len(text) > 1]
    if not own or len(texts) > 5:
        return False
    if len(own) == 1:
        known = words.is_known(words.singular(own[0])) or is_common(own[0])
        plural = _is_plural(own[0]) and (words.is_noun(own[0]) or (known and not words.is_name(own[0])))
        common = own[0] in GIVEN_NAMES or plural
        return _is_nameish(own[0]) and (lenient or len(texts) > 1 or not common)
    first, last = own[0], own[-1]
    if _is_plural(last) and words.is_noun(last) and not lenient:
        return False
    if (first in GIVEN_NAMES or words.is_name(first)) and len(own) <= 4 and not words.is_thing(last):
        return True  # "winslow homer"
    if first in GIVEN_NAMES and len(own) <= 4:
        return True  # "edward hopper"
    nameish = [_is_nameish(text) for text in own]
    if lenient:
        return nameish[0] or nameish[-1]
    if (
        nameish[-1]
        and len(own) == 2
        and words.is_noun(first)
        and not words.is_adjective(first)
        and len(last) > 3
    ):
        return not _is_plural(last)  # "storm thorgerson", "range murata"
    # "max ernst", "ross tran"; a thing at the end stays one: "cyberpunk city"
    return nameish[-1] and (nameish[0] or len(first) < 3 or not (words.is_known(first) or _is_word(first)))


def are_makers(texts: Sequence[str]) -> bool:
    """Whether lower-case words name the picture's makers: "by drew struzan", "art by artgerm and wlop"."""
    if "by" not in texts[:3]:
        return False
    at = list(texts).index("by")
    if any(text not in style_words.MADE for text in texts[:at]):
        return False
    people: list[list[str]] = [[]]
    for text in texts[at + 1 :]:
        if text in ("and", "&"):
            people.append([])
        else:
            people[-1].append(text)
    return all(person and may_be_name(person, lenient=True) for person in people)


def is_term(nouns: Sequence[str], before: str = "") -> bool:
    """Whether a bare noun of a list is no thing: "horror", "cottagecore", "global illumination".

    before: the word before its last one, of any class.
    """
    head = nouns[-1]
    one = words.singular(head)
    if tuple(nouns[-2:]) in lexicon.COMPOUNDS.get(nouns[0], ()):
        return False  # "milky way"
    if head in _HUES:
        return True  # "muted greens"
    if head in style_words.FRANCHISES:
        return True
    genres = style_words.GENRES | style_words.PUBLICATIONS
    if one in style_words.GENRES and (len(nouns) == 1 or before in genres or not words.is_seen(one)):
        return True
    if (before, one) in style_words.LIST_STYLE_PAIRS.get(before, ()):
        return True  # "book cover"
    adjective, before = before, nouns[-2] if len(nouns) > 1 else ""
    part = bool(before) and words.is_seen(before)  # "power lines", "newspaper clippings"
    if one in style_words.PUBLICATIONS:
        return True  # "food magazine"
    if one in ("light", "shadow") and adjective in style_words.LIGHTINGS:
        return True  # "soft light", "dramatic shadows"
    if one == "paint" and before and before not in style_words.PAINTS:
        return False  # "war paint"
    if (head in style_words.LIST_STYLE or one in style_words.LIST_STYLE) and not part:
        return True  # "fine line"
    if head.endswith(TERM_ENDINGS) and not (words.is_known(head) and not head.endswith("ism")):
        return head not in ("prism", "organism")  # "vaporwave", "pointillism"
    visible = any(
        one[at:] in style_words.VISIBLE or one[at:] in lexicon.NOUNS for at in (0, *range(3, len(one) - 2))
    )
    if visible or not head.isascii():
        return False  # "smile", "campfire"
    return words.is_abstract(head) and not part and (len(nouns) > 1 or head == one)


def is_common(noun: str, whole: bool = False) -> bool:
    """Whether a bare lower-case noun is one that prompts ask for, also late: "red hair", "campfire".

    whole: its end alone will not do: no "hearthstone".
    """
    one = words.singular(noun)
    if words.is_wanted(one) and not (whole and words.is_name(one)):
        return True
    common = (
        lexicon.NOUNS,
        lexicon.ANIMATES,
        lexicon.SETTINGS,
        style_words.VISIBLE,
        lexicon.ING_NOUNS,
        _LATE,
    )
    if any(one in nouns for nouns in common):
        return True
    halves = () if whole else range(3, len(one) - 2)
    return any(
        one[at:] in nouns and (words.is_known(one[:at]) or one[:at].endswith("s"))
        for nouns in common
        for at in halves
    )


def _plain(text: str) -> str:
    """The letters without their marks, as the lists of names have them: "rené" is "rene"."""
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFD", text.translate(_STROKES))
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))


def is_title(texts: Sequence[str], capitals: Sequence[bool]) -> bool:
    """Whether lower-case words are a title or a brand: "The Last of Us", not "Eiffel Tower", which can be seen.

    capitals: whether each began with a capital, in a prompt of small letters.
    """
    if len(texts) > 1 and texts[-1] in _ROMAN:
        return True  # "world war ii", "final fantasy xiv"
    if len(texts) == 1:
        return capitals[0] and not words.is_known(texts[0]) and words.singular(texts[0]) not in lexicon.NOUNS
    own = [capital for text, capital in zip(texts, capitals, strict=True) if text not in _SMALL]
    return len(own) > 0 and all(own) and capitals[0] and not words.is_thing(texts[-1])


def _is_nameish(word: str) -> bool:
    """Whether a word is a name's, or in no list of English."""
    if word in GIVEN_NAMES or words.is_name(word):
        return True
    return not (words.is_known(word) or _is_word(word) or _is_compound(word))


def _is_plural(word: str) -> bool:
    return word.endswith("s") and not word.endswith(("ss", "us", "is"))


def is_joined(word: str) -> bool:
    """Whether a lower-case word that no list has ends in a usual thing: "clownfish", "tavernhouse"."""
    ends = any(word[at:] in lexicon.NOUNS and words.is_noun(word[:at]) for at in range(4, len(word) - 3))
    return ends and "-" not in word


def _is_compound(word: str) -> bool:
    """Whether two known words make this one: "wildflowers", "keyhole", "stormtrooper", "snow-covered"."""
    if "-" in word:
        return all(words.is_known(part) or _is_word(part) for part in word.split("-") if part)
    return any(
        words.is_seen(word[at:]) and (words.is_noun(word[:at]) or words.is_adjective(word[:at]))
        for at in range(4, len(word) - 3)
    )


def _is_word(word: str) -> bool:
    """Whether a lower-case word is in the lists of word classes, so that it is nobody's name."""
    return (
        words.singular(word) in lexicon.NOUNS
        or words.singular(word) in style_words.CARRIERS
        or word in _CLASSES
        or style_words.is_style(word)
        or word.endswith(("ly", "-shaped", "-like"))
    )
