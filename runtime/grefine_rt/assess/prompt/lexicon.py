"""Word lists of prompts for `grefine_rt.assess.prompt`, beside the newspaper-trained tagger and WordNet.

All words are lower case and singular; `words.singular` brings a word into that form. Verbs stand in their plain form,
or with -ing where the list says participles.
"""

from __future__ import annotations

from grefine_rt.assess.prompt.words import phrase_table, word_set

# --- word classes -------------------------------------------------------------------------------------------

COLOURS = word_set(
    "red orange yellow green teal blue purple pink brown white black grey gray golden cyan turquoise "
    "violet magenta crimson scarlet beige maroon indigo lavender blonde blond"
)
SHADES = word_set(
    "dark light bright pale deep sky navy royal baby neon pastel lime"
)  # adjectives before a colour
METALS = word_set("gold silver bronze copper")  # adjectives before a noun, things elsewhere
ADJECTIVES = COLOURS | word_set(
    "big large huge small little tiny giant long short tall wide narrow old young new cute fluffy "
    "beautiful pretty wooden snowy sunny starry cloudy rainy stormy foggy misty grassy sandy rocky "
    "smiling colorful colourful round shiny happy sad lovely calm empty open closed striped bald hollow "
    "pointy pointed bright dark pale dim soft hard rough smooth sharp blunt thick thin fat slim slender "
    "skinny muscular chubby heavy hot warm cool cold icy frozen wet dry damp dusty dirty clean muddy "
    "rusty mossy leafy furry hairy curly wavy straight messy tidy fuzzy spiky slimy sticky sleepy tired "
    "angry scared afraid lonely alone proud brave shy gentle wise evil holy noble royal ancient medieval "
    "modern futuristic vintage retro antique rustic gothic victorian baroque rural urban tropical arctic "
    "lush barren deserted abandoned ruined broken cracked crooked torn burnt weathered worn faded "
    "wrinkled elderly adult magical mystical mysterious magnificent majestic enormous gigantic massive "
    "vast miniature mini cozy cosy elegant ornate fancy plain simple delicate fragile graceful gorgeous "
    "handsome ugly scary spooky creepy eerie haunted grumpy cheerful joyful playful peaceful serene "
    "quiet noisy loud busy crowded steep deep shallow flat hilly mountainous glassy woolen woollen "
    "metallic transparent translucent opaque iridescent luminous radiant vibrant vivid dull monochrome "
    "multicolored multicoloured spotted checkered plaid floral juicy ripe rotten fresh crispy spicy "
    "tasty delicious creamy blurry grainy wild tame stray poor rich chinese japanese korean indian "
    "african american european french italian german russian greek roman egyptian asian norse celtic "
    "northern southern eastern western alien humanoid robotic mechanical electric bearded winged horned "
    "armored armoured hooded masked barefoot naked pregnant strong weak fierce loyal full half whole "
    "cloudless epic lit moonlit sunlit backlit bare lone muted rugged distant nearby tangled twisted "
    "curved spherical rectangular triangular ornamental decorative festive cluttered overgrown flooded "
    "submerged sunken buried hidden secret forgotten lost forbidden sacred divine heavenly celestial "
    "cosmic stellar lunar solar volcanic oceanic coastal alpine autumnal wintry verdant withered dead "
    "dying bloody wounded angelic demonic monstrous ghostly skeletal feline canine avian reptilian "
    "feathered scaly woolly silky velvety leathery rubbery ceramic knitted embroidered quilted tattered "
    "ragged shabby rundown dilapidated derelict industrial nautical astronomical botanical anatomical "
    "confident determined curious surprised shocked excited worried thoughtful pensive melancholic "
    "nostalgic romantic cheeky mischievous sinister ominous menacing dangerous deadly poisonous venomous "
    "toxic fiery flaming blazing sparkling shimmering glittering glowing gleaming floating flickering "
    "burning crumbling"
)
SHAPES = word_set(
    "square oval oblong circular round rectangular triangular cubic spherical conical cylindrical "
    "pyramidal diamond"
)
NOUN_TOO = word_set(
    "giant human adult dark wild alien round"
)  # adjectives that name a thing after an article
ADJECTIVE_ENDINGS = ("less", "esque", "-shaped", "-like")  # everywhere
# What an adjective that the tagger has never seen ends in.
ADJECTIVE_LOOK = tuple(word_set("y ous ful ic al ar ive ish ble ed en ing ian ese ern ent ant less like"))
ADJECTIVE_ENDINGS_BEFORE_NOUN = ("ous", "ful", "ish", "ical")
ADVERBS = word_set("outdoors indoors upside together apart freshly very too extremely slightly")
REFERENCES = word_set("it them him her itself one")  # to a thing named before
PRONOUNS = word_set("i you he she it we they me him us them")
# Nouns that the tagger takes for verbs or adjectives when they stand in a list.
NOUNS = word_set(
    "house tree boat fish sun car flower cat moon cloud bird balloon mushroom star umbrella rocket dog "
    "kite apple duck butterfly snowman lighthouse tent meadow beach desert snow field night sky city sea "
    "forest hill sunset sunrise girl boy man woman child person people robot dragon castle tower bridge "
    "river lake mountain ocean garden park street road grass hair eye face hand hat dress shirt coat "
    "scarf horse sheep wolf fox bear lion tiger rabbit mouse monkey elephant train plane bus bike "
    "bicycle ship truck chair table lamp book cup bowl bottle vase rose knight witch wizard astronaut "
    "princess king queen crown sword ring fence door window roof rock stone sand water wave fire smoke "
    "rain fog light bench cyberpunk steampunk fantasy landscape spiral maple oak pine cherry blossom dew "
    "maid outfit uniform armor armour lantern candle crystal feather petal leaf branch root vine moss "
    "ivy stair staircase balcony cottage cabin temple church ruin statue fountain market shop cafe "
    "library kitchen bedroom classroom laboratory factory harbor harbour pier dock island waterfall cave "
    "cliff valley canyon volcano jungle village town alley path trail puddle reflection shadow spark "
    "flame glow lava ice frost storm lightning rainbow galaxy nebula planet spaceship spacecraft helmet "
    "cape cloak robe hood glove boot shoe sock skirt jacket sweater hoodie jeans glasses goggles mask "
    "necklace earring bracelet tail ear wing horn claw paw beak tooth teeth beard freckle tattoo skin "
    "lip smile owl crow raven eagle parrot peacock swan turtle frog snake lizard whale dolphin shark "
    "octopus jellyfish crab snail bee spider panda koala deer unicorn phoenix goblin elf fairy angel "
    "demon vampire zombie ghost skeleton mermaid samurai ninja pirate warrior soldier cowboy detective "
    "scientist doctor nurse chef waiter farmer fisherman sailor musician dancer artist clown monk priest "
    "nun gardener mother father baby kid lady gentleman bread cake cheese egg fruit banana grape lemon "
    "strawberry pumpkin soup tea coffee wine beer guitar piano violin drum clock computer laptop phone "
    "camera screen key map flag bell basket box barrel bucket ladder rope chain mirror pillow blanket "
    "bed sofa couch desk shelf carpet curtain sunlight moonlight candlelight daylight starlight interior "
    "coral exterior ink charcoal pencil crayon perfume laundry cobblestone wicker graffiti smirk abbey "
    "corridor hospital burger katana ramen headphone smartphone drone hologram cyborg mecha mech koi "
    "bonsai sushi torii pagoda latte espresso boba tuxedo sneaker leggings miniskirt lightsaber "
    "stormtrooper hovercraft jetpack cosplay selfie campfire present spellbook kimono dumpling taco "
    "burrito croissant macaron bubble plushie figurine skateboard snowboard surfboard scooter segway "
    "android humanoid spacesuit exosuit catgirl"
)
# -ing words that are things; any other one after a noun is a participle ("hair blowing").
ING_NOUNS = word_set(
    "building painting drawing lighting evening morning ceiling clothing king ring string wing spring "
    "thing swing wedding railing earring sibling pudding viking sting lightning nothing something "
    "everything anything clearing rendering crossing parking landing dumpling duckling sapling being "
    "stocking opening"
)
# The same after the one that does it ("a spaceship landing on a planet").
ING_DEEDS = word_set("landing crossing opening painting drawing")
# Participles that take the noun after them as object even without an article ("wearing hat").
TRANSITIVE = word_set(
    "holding wearing riding carrying eating drinking playing reading using watching driving showing "
    "facing chasing catching throwing hugging kissing having featuring wielding making pulling pushing "
    "touching feeding walking containing depicting"
)
# Participles of what only people, animals and their like do.
DEEDS = TRANSITIVE - word_set("facing showing having featuring containing depicting touching") | word_set(
    "sitting running jumping dancing swimming sleeping smiling laughing crying looking kneeling soaring "
    "fighting casting singing cooking painting drawing writing smoking hunting climbing talking shouting "
    "waving fishing crouching grinning staring yawning leaning seated crouched dressed armed caught"
)
# Participles of what things do or undergo by themselves ("hair blowing", "a sign hanging").
EVENTS = word_set(
    "hanging blowing flowing trailing flying floating falling growing glowing shining dripping leaking "
    "burning melting rising sticking pointing opening closing spinning turning glistening sparkling "
    "fluttering billowing swaying showing facing overlooking leading reaching containing covering "
    "surrounding spilling pouring cascading drifting reflecting lying resting steaming smoking blooming "
    "drying cooling peeking emerging streaming swirling saying reading"
)
# Plain forms of verbs whose -s form the tagger takes for a plural.
VERBS = word_set(
    "wait sleep walk stand sit run jump fly swim rest lie lean rise set shine glow float drift hang "
    "stare gaze look watch play dance sing cry laugh smile hold carry wear ride eat drink read write "
    "climb fall grow burn bloom flow crash roar howl bark hunt chase follow guard face point reach swing "
    "sail soar perch loom tower argue glide gallop march kneel pray meditate hover orbit descend emerge "
    "flee hide wander stroll travel drive pull push throw catch kick cast pour cook feed fight attack "
    "text mend peer lurk relax lounge graze nibble huddle gather squat cower bask doze nap bounce "
    "roll slide balance crawl creep dive splash pose salute bow wrestle race compete stride"
)
PREPOSITIONS = word_set(
    "above below beside besides behind near inside outside under underneath beneath over on in at by "
    "with without of from through across along around between among amongst amid against into onto "
    "toward towards upon atop within beyond during"
)
PREPOSITION_PHRASES = phrase_table(
    "in front of,on top of,next to,close to,near to,adjacent to,opposite to,far from,away from,left of,"
    "right of,left to,right to,inside of,outside of,out of,off of,ahead of,on board of,in between,"
    "along with,together with,due to,because of,instead of,surrounded by,covered in,covered with,"
    "covered by,filled with,full of,made of,made from,dressed in,lit by,hidden by,atop of,up to,down to,"
    "face to face with,side by side with,back to back with"
)
# All that the tagger may take for a preposition, determiner, pronoun, conjunction, particle or modal verb.
CLOSED = (
    PREPOSITIONS
    | PRONOUNS
    | word_set(
        "about after alongside although amidst and another any are around as aside aboard away back because "
        "before behind between both but by can could despite down during each either every except for forth "
        "forward half herself himself his how if its itself like ll many may might minus mine must my neither "
        "no nor off onto opposite or ought our ours out outside over past per plus shall should since so some "
        "such than that the their theirs themselves then there these this those throughout till to together "
        "unless unlike until unto up versus via vs what whatever when whenever where wherever whether which "
        "whichever while who whom whose why will worth would yet your yours a all an of her hers"
    )
)
# "at the top of", "on the left side of", "out of the middle of": a place noun between prepositions is no thing.
PLACES = word_set(
    "left right side top bottom front back rear middle center centre corner edge end foot base midst "
    "outside inside shape form ends sides corners edges tops"
)
PLACE_LINKS = word_set("in on at to from by near along around out into onto off of")
# Modifiers of a place in the picture ("on the far left side").
PLACE_MODIFIERS = word_set(
    "left right top bottom upper lower far very extreme both either each other opposite all near back "
    "front middle center centre left-hand right-hand lefthand righthand"
)
# Places in the picture.
LAYOUT = word_set(
    "left right middle center centre side top bottom front foreground background distance corner back "
    "rear edge half"
)
# Adjective and noun that name another thing than the noun alone.
COMPOUNDS = phrase_table(
    "hot dog,hot pot,soft drink,hot chocolate,black hole,potted plant,red wine,white wine,green tea,"
    "salt flat,milky way,dry ice,wild boar,red panda,giant panda,golden retriever,french fry,ice cream,grand piano,"
    "stuffed animal"
)
# Prepositions of what a thing has or is made of; any other one tells a place or a way.
CONTENT = word_set("of with full filled covered surrounded made")
# Of these and what they hold or show, a place that is told after both is theirs: "a bowl of soup on a table".
HOLDERS = word_set(
    "bowl cup glass mug jar plate dish bottle jug pitcher basket bucket box bag sack crate barrel vase "
    "pot pan tray statue bust sculpture figurine bouquet wreath reflection shadow silhouette slice loaf "
    "drop"
)
# Particles that are prepositions before an article ("up a ladder").
PARTICLES = word_set("up down off past")
SUBORDINATORS = word_set("while whilst when where because although though whereas")
CLAUSE_PREPOSITIONS = word_set("as until since after before")  # "as a boat sails by"
RELATIVES = word_set("that which who whom")
CORRELATIVES = word_set("either both")
NEGATIONS = word_set("not never neither isn't aren't wasn't weren't doesn't don't didn't isnt doesnt dont")
# What these do goes to where "at" or "to" tells: "looks out from behind a tree at a fox".
AIMED = {
    "at": word_set("look stare gaze peek peer glance point shoot bark smile wave laugh shout aim glare"),
    "to": word_set("give throw hand pass read offer bring toss show feed sing talk speak"),
}
# Past participles of what is somewhere: "by" tells the place, not who did it.
STAYS = word_set(
    "parked seated located situated perched placed set laid left moored docked anchored stationed positioned lined "
    "tied hidden gathered built planted crouched curled sprawled nestled stranded lost"
)
# What other things stand on, hang on or lie in: "a table with a cup on a saucer".
GROUNDS = word_set(
    "room table wall desk shelf tree house building bookshelf floor ceiling stage island square scene tray bed "
    "counter landscape hall tower castle ship boat bridge living"
)
NOBODY = word_set("nobody nothing none noone")
# "it's" is no possessive.
CONTRACTED = word_set("it that there he she who what here let where how this")
ABBREVIATIONS = word_set("st mr mrs ms dr mt")

# --- things -------------------------------------------------------------------------------------------------

# "Draw me a cat": what the user asks of the tool is not asked of the picture.
REQUESTS = word_set("make create generate draw paint sketch render illustrate show imagine give design")
TIMES = word_set(
    "night day sunset sunrise dawn dusk noon midday midnight twilight morning evening afternoon winter summer"
)
SETTINGS = word_set(
    "meadow beach desert snow rain fog mist field sky city sea forest hill mountain sun moon star street "
    "park garden ocean lake river countryside village jungle woods space classroom kitchen cafe restaurant "
    "library bedroom bathroom courtyard yard backyard stadium office bar supermarket museum gym warehouse"
)
ANIMATES = word_set(
    "1girl 1boy girl boy man woman child children mice person people guy lady gentleman kid baby toddler "
    "teenager mother father parent grandmother grandfather sister brother uncle aunt friend couple "
    "family human figure king queen prince princess knight witch wizard sorcerer mage warlock astronaut "
    "soldier warrior samurai ninja pirate viking cowboy hunter archer detective policeman doctor nurse "
    "scientist chef cook waiter farmer fisherman sailor captain gardener musician dancer singer painter "
    "artist clown monk priest nun student teacher player rider angel demon vampire zombie ghost skeleton "
    "mermaid elf fairy goblin orc giant robot cyborg android alien dragon monster creature unicorn cat "
    "kitten dog puppy horse pony cow sheep goat pig wolf fox bear lion tiger leopard rabbit bunny hare "
    "mouse rat squirrel raccoon monkey gorilla elephant giraffe zebra deer panda koala kangaroo bird owl "
    "crow raven eagle hawk falcon parrot duck goose swan penguin chicken rooster frog turtle snake "
    "lizard fish whale dolphin shark octopus bee butterfly spider surfer skier skater cyclist runner "
    "climber swimmer diver gymnast ballerina acrobat juggler magician athlete boxer wrestler driver "
    "pilot conductor guard bodyguard firefighter police officer sheriff spy thief mechanic engineer "
    "builder carpenter blacksmith baker butcher barista bartender tailor potter hairdresser writer "
    "author poet reader photographer model actor actress guitarist pianist violinist drummer shepherd "
    "traveler traveller hiker tourist explorer adventurer wanderer nomad beggar merchant bride groom "
    "grandma grandpa son daughter twin teen adult villager peasant druid bard paladin barbarian cleric "
    "assassin gnome dwarf ogre troll cyclops minotaur centaur gorgon werewolf golem wraith deity god "
    "goddess emperor empress duke duchess lord geisha ape lemur sloth otter beaver badger hedgehog "
    "ferret mole bat camel llama alpaca donkey bull buffalo bison moose hippo rhino crocodile alligator "
    "dinosaur corgi poodle husky retriever terrier dachshund pug hamster kitty cub lamb calf foal pigeon "
    "sparrow robin seagull pelican flamingo ostrich toucan hummingbird vulture seal walrus squid crab "
    "lobster ant beetle dragonfly ladybug"
)
# Groups: in "a group of people" the people are the noun.
GROUPS = word_set(
    "group pair bunch lot couple set kind type sort number variety series piece dozen lots hundred "
    "flight thousand stack pile row herd flock crowd swarm heap cluster"
)
# What makes the noun before it a property: "rainbow colored", "heart shaped".
PROPERTY_ENDINGS = word_set(
    "headed eyed haired legged faced tailed skinned footed toothed bodied inspired themed infused powered "
    "colored coloured shaped themed sized patterned flavored flavoured"
)
# Past participles that English also has as nouns.
CUTS = word_set("cut set put built made shot caught split cast hung")
DEPTHS = word_set("foreground background distance")


def is_verb_in_s(word: str) -> bool:
    """Whether a word may be the third person of one of `VERBS` ("sleeps", "watches", "flies")."""
    return word.endswith("s") and (
        word[:-1] in VERBS
        or word.removesuffix("es") in VERBS
        or (word.endswith("ies") and word[:-3] + "y" in VERBS)
    )
