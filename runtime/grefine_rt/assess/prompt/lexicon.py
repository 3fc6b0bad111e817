"""Word lists behind `grefine_rt.assess.prompt`: what neither the newspaper-trained tagger nor WordNet knows of prompts.

All words are lower case and singular; `words.singular` brings a word into that form. Verbs stand in their plain form,
or with -ing where the list says participles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from grefine_rt.assess.prompt.words import singular


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


Phrases = dict[str, list[tuple[str, ...]]]
"""First word -> the phrases that begin with it."""


def _phrases(phrases: str) -> Phrases:
    found: Phrases = {}
    for phrase in phrases.split(","):
        words = tuple(phrase.split())
        found.setdefault(words[0], []).append(words)
    return found


# --- word classes -------------------------------------------------------------------------------------------

COLOURS = _set(
    "red orange yellow green teal blue purple pink brown white black grey gray golden cyan turquoise "
    "violet magenta crimson scarlet beige maroon indigo lavender blonde blond"
)
SHADES = _set(
    "dark light bright pale deep sky navy royal baby neon pastel lime"
)  # adjectives before a colour
METALS = _set("gold silver bronze copper")  # adjectives before a noun, things elsewhere
ADJECTIVES = COLOURS | _set(
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
    "handsome ugly scary spooky creepy eerie haunted grumpy cheerful joyful playful peaceful serene quiet "
    "noisy loud busy crowded steep deep shallow flat hilly mountainous glassy woolen woollen metallic "
    "transparent translucent opaque iridescent luminous radiant vibrant vivid dull monochrome "
    "multicolored multicoloured spotted checkered plaid floral juicy ripe rotten fresh crispy spicy tasty "
    "delicious creamy blurry grainy wild tame stray poor rich chinese japanese korean indian african "
    "american european french italian german russian greek roman egyptian asian norse celtic northern "
    "southern eastern western alien humanoid robotic mechanical electric bearded winged horned armored "
    "armoured hooded masked barefoot naked pregnant strong weak fierce loyal full half whole cloudless "
    "epic lit moonlit sunlit backlit bare lone muted rugged distant nearby tangled twisted curved "
    "spherical rectangular triangular ornamental decorative festive cluttered overgrown flooded submerged "
    "sunken buried hidden secret forgotten lost forbidden sacred divine heavenly celestial cosmic stellar "
    "lunar solar volcanic oceanic coastal alpine autumnal wintry verdant withered dead dying bloody "
    "wounded angelic demonic monstrous ghostly skeletal feline canine avian reptilian feathered scaly "
    "woolly silky velvety leathery rubbery ceramic knitted embroidered quilted tattered ragged shabby "
    "rundown dilapidated derelict industrial nautical astronomical botanical anatomical confident "
    "determined curious surprised shocked excited worried thoughtful pensive melancholic nostalgic "
    "romantic cheeky mischievous sinister ominous menacing dangerous deadly poisonous venomous toxic "
    "fiery flaming blazing sparkling shimmering glittering glowing gleaming floating flickering burning "
    "crumbling"
)
NOUN_TOO = _set("giant human adult dark wild alien round")  # adjectives that name a thing after an article
ADJECTIVE_ENDINGS = ("less", "esque", "-shaped", "-like")  # everywhere
# What an adjective that the tagger has never seen ends in.
ADJECTIVE_LOOK = tuple(_set("y ous ful ic al ar ive ish ble ed en ing ian ese ern ent ant less like"))
ADJECTIVE_ENDINGS_BEFORE_NOUN = ("ous", "ful", "ish", "ical")
ADVERBS = _set("outdoors indoors upside together apart freshly very too extremely slightly")
REFERENCES = _set("it them him her itself one")  # to a thing named before
PRONOUNS = _set("i you he she it we they me him us them")
# Nouns that the tagger takes for verbs or adjectives when they stand in a list.
NOUNS = _set(
    "house tree boat fish sun car flower cat moon cloud bird balloon mushroom star umbrella rocket dog "
    "kite apple duck butterfly snowman lighthouse tent meadow beach desert snow field night sky city sea "
    "forest hill sunset sunrise girl boy man woman child person people robot dragon castle tower bridge "
    "river lake mountain ocean garden park street road grass hair eye face hand hat dress shirt coat "
    "scarf horse sheep wolf fox bear lion tiger rabbit mouse monkey elephant train plane bus bike bicycle "
    "ship truck chair table lamp book cup bowl bottle vase rose knight witch wizard astronaut princess "
    "king queen crown sword ring fence door window roof rock stone sand water wave fire smoke rain fog "
    "light bench cyberpunk steampunk fantasy landscape spiral maple oak pine cherry blossom dew maid "
    "outfit uniform armor armour lantern candle crystal feather petal leaf branch root vine moss ivy "
    "stair staircase balcony cottage cabin temple church ruin statue fountain market shop cafe library "
    "kitchen bedroom classroom laboratory factory harbor harbour pier dock island waterfall cave cliff "
    "valley canyon volcano jungle village town alley path trail puddle reflection shadow spark flame glow "
    "lava ice frost storm lightning rainbow galaxy nebula planet spaceship spacecraft helmet cape cloak "
    "robe hood glove boot shoe sock skirt jacket sweater hoodie jeans glasses goggles mask necklace "
    "earring bracelet tail ear wing horn claw paw beak tooth teeth beard freckle tattoo skin lip smile "
    "owl crow raven eagle parrot peacock swan turtle frog snake lizard whale dolphin shark octopus "
    "jellyfish crab snail bee spider panda koala deer unicorn phoenix goblin elf fairy angel demon "
    "vampire zombie ghost skeleton mermaid samurai ninja pirate warrior soldier cowboy detective "
    "scientist doctor nurse chef waiter farmer fisherman sailor musician dancer artist clown monk priest "
    "nun gardener mother father baby kid lady gentleman bread cake cheese egg fruit banana grape lemon "
    "strawberry pumpkin soup tea coffee wine beer guitar piano violin drum clock computer laptop phone "
    "camera screen key map flag bell basket box barrel bucket ladder rope chain mirror pillow blanket bed "
    "sofa couch desk shelf carpet curtain sunlight moonlight candlelight daylight starlight interior "
    "exterior ink charcoal pencil crayon perfume laundry cobblestone wicker graffiti smirk abbey corridor "
    "hospital burger katana ramen headphone smartphone drone hologram cyborg mecha mech koi bonsai sushi torii pagoda "
    "latte espresso boba tuxedo sneaker leggings miniskirt lightsaber stormtrooper hovercraft jetpack cosplay selfie "
    "campfire present spellbook kimono dumpling taco burrito croissant macaron bubble plushie figurine hologram "
    "skateboard snowboard surfboard scooter segway steampunk android humanoid spacesuit exosuit robe catgirl"
)
# -ing words that are things; any other one after a noun is a participle ("hair blowing").
ING_NOUNS = _set(
    "building painting drawing lighting evening morning ceiling clothing king ring string wing spring "
    "thing swing wedding railing earring sibling pudding viking sting lightning nothing something "
    "everything anything clearing rendering crossing parking landing dumpling duckling sapling being "
    "stocking opening"
)
# The same after the one that does it ("a spaceship landing on a planet").
ING_DEEDS = _set("landing crossing opening painting drawing")
# Participles that take the noun after them as object even without an article ("wearing hat").
TRANSITIVE = _set(
    "holding wearing riding carrying eating drinking playing reading using watching driving showing "
    "facing chasing catching throwing hugging kissing having featuring wielding making pulling pushing "
    "touching feeding walking containing depicting"
)
# Participles of what only people, animals and their like do.
DEEDS = TRANSITIVE - _set("facing showing having featuring containing depicting touching") | _set(
    "sitting running jumping dancing swimming sleeping smiling laughing crying looking kneeling soaring "
    "fighting casting singing cooking painting drawing writing smoking hunting climbing talking shouting "
    "waving fishing crouching grinning staring yawning leaning"
)
# Participles of what things do or undergo by themselves ("hair blowing", "a sign hanging").
EVENTS = _set(
    "hanging blowing flowing trailing flying floating falling growing glowing shining dripping leaking burning melting "
    "rising sticking pointing opening closing spinning turning glistening sparkling fluttering billowing swaying "
    "showing facing overlooking leading reaching containing covering surrounding spilling pouring cascading drifting "
    "reflecting lying resting steaming smoking blooming drying cooling peeking emerging streaming swirling saying reading"
)
# Plain forms of verbs whose -s form the tagger takes for a plural.
VERBS = _set(
    "wait sleep walk stand sit run jump fly swim rest lie lean rise set shine glow float drift hang stare "
    "gaze look watch play dance sing cry laugh smile hold carry wear ride eat drink read write climb fall "
    "grow burn bloom flow crash roar howl bark hunt chase follow guard face point reach swing sail soar "
    "perch loom tower argue glide gallop march kneel pray meditate hover orbit descend emerge flee hide "
    "wander stroll travel drive pull push throw catch kick cast pour cook feed fight attack mend"
)
PREPOSITIONS = _set(
    "above below beside besides behind near inside outside under underneath beneath over on in at by with "
    "without of from through across along around between among amongst amid against into onto toward "
    "towards upon atop within beyond during"
)
PREPOSITION_PHRASES = _phrases(
    "in front of,on top of,next to,close to,near to,adjacent to,opposite to,far from,away from,left of,right of,"
    "left to,right to,inside of,outside of,out of,off of,ahead of,on board of,in between,along with,together with,"
    "due to,because of,instead of,surrounded by,covered in,covered with,covered by,filled with,full of,made of,"
    "made from,dressed in,lit by,hidden by,atop of,up to,down to,face to face with,side by side with,back to back with"
)
# "at the top of", "on the left side of", "out of the middle of": a place noun between prepositions is no thing.
PLACES = _set(
    "left right side top bottom front back rear middle center centre corner edge end foot base midst "
    "outside inside shape form ends sides corners edges tops"
)
PLACE_LINKS = _set("in on at to from by near along around out into onto off of")
# Modifiers of a place in the picture ("on the far left side").
PLACE_MODIFIERS = _set(
    "left right top bottom upper lower far very extreme both either each other opposite all near back front middle "
    "center centre left-hand right-hand lefthand righthand"
)
# Places in the picture.
LAYOUT = _set(
    "left right middle center centre side top bottom front foreground background distance corner back rear edge half"
)
# Adjective and noun that name another thing than the noun alone.
COMPOUNDS = frozenset(
    tuple(pair.split())
    for pair in "hot dog,hot pot,soft drink,hot chocolate,black hole,potted plant,red wine,white wine,green tea,dry ice,"
    "wild boar,red panda,giant panda,golden retriever,french fry,ice cream,grand piano,stuffed animal".split(",")
)
# Prepositions of what a thing has or is made of; any other one tells a place or a way.
CONTENT = _set("of with full filled covered surrounded made")
# Of these and what they hold or show, a place that is told after both is theirs: "a bowl of soup on a table".
HOLDERS = _set(
    "bowl cup glass mug jar plate dish bottle jug pitcher basket bucket box bag sack crate barrel vase "
    "pot pan tray statue bust sculpture figurine bouquet wreath reflection shadow silhouette slice loaf "
    "drop"
)
# Particles that are prepositions before an article ("up a ladder").
PARTICLES = _set("up down off past")
SUBORDINATORS = _set("while whilst when where because although though whereas")
CLAUSE_PREPOSITIONS = _set("as until since after before")  # "as a boat sails by"
RELATIVES = _set("that which who whom")
CORRELATIVES = _set("either both")
NEGATIONS = _set("not never neither isn't aren't wasn't weren't doesn't don't didn't isnt doesnt dont")
NOBODY = _set("nobody nothing none noone")
# "it's" is no possessive.
CONTRACTED = _set("it that there he she who what here let where how this")
ABBREVIATIONS = _set("st mr mrs ms dr mt")

# --- things -------------------------------------------------------------------------------------------------

# "Draw me a cat": what the user asks of the tool is not asked of the picture.
REQUESTS = _set("make create generate draw show imagine give design")
TIMES = _set(
    "night day sunset sunrise dawn dusk noon midday midnight twilight morning evening afternoon winter summer"
)
SETTINGS = _set(
    "meadow beach desert snow rain fog mist field sky city sea forest hill mountain sun moon star street "
    "park garden ocean lake river countryside village jungle woods space"
)
ANIMATES = _set(
    "1girl 1boy girl boy man woman child children mice person people guy lady gentleman kid baby toddler "
    "teenager mother father parent grandmother grandfather sister brother uncle aunt friend couple family "
    "human figure king queen prince princess knight witch wizard sorcerer mage warlock astronaut soldier "
    "warrior samurai ninja pirate viking cowboy hunter archer detective policeman doctor nurse scientist "
    "chef cook waiter farmer fisherman sailor captain gardener musician dancer singer painter artist "
    "clown monk priest nun student teacher player rider angel demon vampire zombie ghost skeleton mermaid "
    "elf fairy goblin orc giant robot cyborg android alien dragon monster creature unicorn cat kitten dog "
    "puppy horse pony cow sheep goat pig wolf fox bear lion tiger leopard rabbit bunny hare mouse rat "
    "squirrel raccoon monkey gorilla elephant giraffe zebra deer panda koala kangaroo bird owl crow raven "
    "eagle hawk falcon parrot duck goose swan penguin chicken rooster frog turtle snake lizard fish whale "
    "dolphin shark octopus bee butterfly spider surfer skier skater cyclist runner climber swimmer diver "
    "gymnast ballerina acrobat juggler magician athlete boxer wrestler driver pilot conductor guard "
    "bodyguard firefighter police officer sheriff spy thief mechanic engineer builder carpenter "
    "blacksmith baker butcher barista bartender tailor potter hairdresser writer author poet reader "
    "photographer model actor actress guitarist pianist violinist drummer shepherd traveler traveller "
    "hiker tourist explorer adventurer wanderer nomad beggar merchant bride groom grandma grandpa son "
    "daughter twin teen adult villager peasant druid bard paladin barbarian cleric assassin gnome dwarf "
    "ogre troll cyclops minotaur centaur gorgon werewolf golem wraith deity god goddess emperor empress "
    "duke duchess lord geisha ape lemur sloth otter beaver badger hedgehog ferret mole bat camel llama "
    "alpaca donkey bull buffalo bison moose hippo rhino crocodile alligator dinosaur corgi poodle husky "
    "retriever terrier dachshund pug hamster kitty cub lamb calf foal pigeon sparrow robin seagull "
    "pelican flamingo ostrich toucan hummingbird vulture seal walrus squid crab lobster ant beetle "
    "dragonfly ladybug"
)
# Groups: in "a group of people" the people are the noun.
GROUPS = _set(
    "group pair bunch lot couple set kind type sort number variety series piece dozen lots hundred "
    "thousand stack pile row herd flock crowd swarm heap cluster"
)

# --- what is no thing in the picture ------------------------------------------------------------------------

DEPTHS = _set("foreground background distance")
# What makes the noun before it a property: "rainbow colored", "heart shaped".
PROPERTY_ENDINGS = _set("colored coloured shaped themed sized patterned flavored flavoured")
# Past participles that English also has as nouns.
CUTS = _set("cut set put built made shot caught split cast hung")
# Carriers: "a photo of a cat" asks for a cat; a photo is nothing that could be missing from the image.
CARRIERS = _set(
    "photo photograph picture painting image drawing illustration view scene close-up closeup portrait "
    "sketch render rendering shot artwork poster watercolor watercolour selfie snapshot depiction still "
    "cartoon collage art fanart logo icon sticker screenshot frame print visual etching engraving "
    "lithograph woodcut linocut doodle panorama headshot screencap footage infographic blueprint diagram "
    "mockup gouache emoji artwork closeup"
)
HANGS = _set("hang hangs hanging hung")
MADE = _set("art artwork painting painted photo photograph photographed illustration illustrated drawn drawing image "
    "concept digital directed created made designed inspired render style work poster")
SHOWN = _set("is are viewed seen shown taken shot made created drawn painted rendered")
CARRIER_VERBS = _set("showing depicting featuring containing")
# Quality, camera and layout words: never centres, and left out of the phrases' texts.
STYLE = _set(
    "masterpiece quality resolution res detail detailed hd uhd hdr artstation deviantart pixiv octane "
    "unreal bokeh focus lighting style aesthetic composition wallpaper realism photorealism "
    "surrealism photography cgi 3d 2d raw dslr sony canon nikon iso dof exposure aperture mm grain color "
    "colour colors tone vibe mood atmosphere background foreground distance left right middle center "
    "centre side top bottom front solo score_9 score_8_up vray blender rtx nsfw sfw grading contrast "
    "angle vector perspective asset watermark signature cryengine screenprint linocut risograph outrun turnaround occlusion hatching illumination scattering styling impressionism expressionism cubism minimalism "
    "symmetry cinematography hue saturation shading linework lineart brushstroke impasto gouache acrylic "
    "vignette blur aberration raytracing zbrush houdini unity behance dribbble pinterest instagram flickr "
    "unsplash cgsociety imax panavision telephoto fisheye softbox backlighting rendering keyword prompt "
    "aspect ratio fps parallax postprocessing anime manga cel crosshatching"
)
# Style unless they have an article of their own: "film grain, soft palette", but "a painter with a palette".
STYLE_OR_THING = _set(
    "engine lens film design bloom palette texture flare tag art visualization visualisation render footage brushwork"
)
# Style as an item of a list ("fine line, bold shapes"), things elsewhere.
LIST_STYLE = _set(
    "stroke brush line shape outline pose still leak paint ratio advertisement render wash mythology"
)
# The same with a noun before it ("comic book, tarot card").
LIST_STYLE_COMPOUND = _set("card sheet print book cover album edition series game model")
STYLE_ADJECTIVES = _set(
    "realistic photorealistic hyperrealistic photo-realistic cinematic intricate sharp trending "
    "award-winning ultra highly detailed ultra-detailed hyperdetailed professional absurdres highres "
    "aesthetic best high-quality high-resolution stunning hyper epic blurry grainy minimalistic isometric "
    "cubist abstract surreal surrealist minimalist impressionist expressionist pointillist photographic "
    "dramatic moody dreamy ethereal whimsical monochrome anamorphic painterly volumetric ambient "
    "atmospheric symmetrical centered uncropped hand-drawn crisp glossy matte lowpoly tilt-shift hyperreal photoreal "
    "backlit overhead desaturated maximalist orthographic panoramic cropped"
)
STYLE_PHRASES = _phrases(
    "depth of field,rule of thirds,golden hour,looking at viewer,looking at the viewer,looking at camera,"
    "looking at the camera,full body,upper body,national geographic,ray tracing,oil on canvas,"
    "acrylic on canvas,ink on paper,low poly,award winning,screen print,key visual,lens flare,motion blur,"
    "long exposure,tilt shift,line art,cel shading,octane render,chromatic aberration,f stop,shot on,"
    "still life,golden age,golden ratio,dungeons and dragons,d & d,league of legends,magic the gathering,"
    "lord of the rings,star wars,mad max,harry potter,blade runner,black and white,art nouveau,art deco,stop motion,"
    "film noir,sci fi,b & w,long shot,wide shot,wide angle,low angle,high angle,dutch angle,close up,rated r,"
    "double exposure,hyper realistic,ultra realistic,photo realistic,post processing,high resolution,mixed media,"
    "cinema 4d,d&d,dc comics,head and shoulders,half body,point of view,top down view,medium full shot,medium shot,"
    "cross section,ghost in the shell,spaghetti western,comic book,pop art,teal and orange,contest winner,dark souls,elden ring,world of warcraft,final fantasy,dark academia,light academia,"
    "shutter speed,extreme close up,extreme close-up,studio light,volumetric light,rim light,cinematic light,"
    "ambient light,natural light,key light,fill light,studio lights,god ray,"
    "bird's eye view,alice in wonderland,pen and ink,god rays"
)
# One of these words makes its whole noun phrase one of style ("Canon EOS R5").
STYLE_NAMES = _set(
    "canon nikon sony leica fujifilm fuji kodak hasselblad olympus pentax panasonic lumix zeiss gopro iphone dji arri "
    "arriflex pixar disney dreamworks marvel artstation deviantart pixiv ghibli aardman nintendo playstation keyshot "
    "adobe photoshop illustrator procreate wacom unreal unity blender octane redshift zbrush cinema4d vray corona lumion midjourney"
)
# Makers of cameras, films and renderers: a whole item of a list that has one is style ("canon eos 5d mark iv").
BRANDS = STYLE_NAMES - _set(
    "pixar disney dreamworks marvel ghibli aardman nintendo playstation unreal unity blender octane corona iphone"
)
MEDIA = _set("oil acrylic ink charcoal pencil crayon watercolor watercolour pastel pen chalk gouache tempera graphite oils")
GROUNDS = _set("canvas paper board panel wood linen parchment silk cardboard vellum")
# First halves of words that some write with blanks round the hyphen: "hyper - realistic".
PREFIXES = _set(
    "post hand hyper ultra photo sci semi neo pre anti non mid high low full half well award multi self super wide close "
    "long cel art steam cyber bio retro ink pen black t x e sun snow blood battle time"
)
LABELS = _set("subject setting style scene mood lighting camera background medium prompt description")
PARAMETERS = _set(
    "ar aspect v version style s stylize q quality seed chaos c no iw niji tile w h hd weird sref cref sw "
    "cw p raw"
)


# Without what they belong to: "in the style of", "school of".
MANNERS = _set("style manner spirit genre school tradition aesthetic vein likeness work")
# Schools and media that English also has as nouns or adjectives; as items of a list they name no thing.
GENRES = _set(
    "fantasy cyberpunk steampunk dieselpunk solarpunk noir retro sepia pastel oil ink charcoal pencil tempera gouache "
    "crayon silkscreen documentary studio stencil sticker kawaii chibi lofi vhs polaroid kodachrome "
    "technicolor chiaroscuro sfumato monochrome candid realism impressionism minimal minimalist baroque rococo gothic victorian "
    "renaissance fashion vintage medieval horror gore anime manga comic cartoon"
)
# Nouns that WordNet takes for abstract and that are seen in a picture all the same.
VISIBLE = _set(
    "light glow sunset sunrise night day dawn dusk twilight smile grin frown tattoo shadow reflection silhouette storm "
    "wave battle fight wedding parade party picnic explosion ray beam pattern stripe spot dot logo text letter word "
    "number sign symbol emblem crest rune mark stain mural dance festival race eclipse aurora scar wound meal feast "
    "makeup braid ponytail hairstyle haircut outfit costume magic spell music sunbeam splash ripple bubble mist "
    "concert ceremony funeral game match circus crash ruin hole crack scratch fold curl spring summer autumn fall "
    "winter rainbow swirl vortex portal orbit star skyline horizon scenery landscape seascape cityscape cloudscape "
    "space sky heaven hell underworld paradise world earth moon sun shape sphere cube triangle circle square line "
    "lunch dinner breakfast snack dessert drink food color colour flag poster menu list map chart graph equation "
    "traffic smoke steam breath wind breeze rain fog blush tear sweat droplet drop fire blaze"
)
GIVEN_NAMES = _set(
    "beatrix rob bao josan tyler magnus kilian filip artur greg zhang wang chen liu yang zhao kim park lee akira hideo "
    "hiroshi kazuo keiichi masaaki osamu satoshi shinichi tetsuya yuji ivan dmitri boris yuri oleg anton pavel marek "
    "tomasz piotr janusz ludwig heinrich hermann ferdinand johann sebastian giacomo luigi paolo pietro sandro alfonso "
    "emilio fernand edouard maurice marcel andrew antoine emile honore berthe mary camille auguste gaston theodore "
    "thomas tony asher craig darek eddie jordan kelly loish mandy marta mucha natasha noah peter rafael rebecca sacha "
    "seb stefan tatiana tianyuan victo viktor weta yuumei zack zoe annie ansel bella billie bruce cate emma ryan scarlett "
    "brad leonardo jennifer natalie margot gal tilda johnny morgan samuel denzel clint harrison sigourney "
    "aaron adam agnes alan albert alberto alex alexander alfred alice allen alphonse amanda amy ana andre andrea andreas "
    "andrew andy angela anna anne annie ansel anthony antonio arnold arthur audrey barbara ben benjamin bernard bill bob "
    "bobby boris brad brandon brian bruce carl carla carlos caroline caspar catherine charles charlie chris christian "
    "christopher claude clara clark claudia clint craig dan daniel dave david dean denis dennis diego don donald dorothea "
    "drew dwayne ed edgar edmund eduard edvard edward edwin egon elena elizabeth ella elon emily emma eric erik ernest "
    "ernst eugene eva evan felix fernando francis francisco frank frans franz fred frederic frida friedrich gabriel gary "
    "george georgia gerald gerard gil gilbert giovanni glenn greg gregory guillermo gustav gustave hans harold harry "
    "hayao helen helmut henri henry herbert hieronymus howard hugh hugo ian igor ilya ivan jack jackson jacob jacques "
    "jake james jamie jan jane janet jason jean jeff jennifer jeremy jerry jesse jessica jim joan joe joel johannes "
    "john johnny jon jonathan jose josef joseph josh juan jules julia julie julian karl kate katsuhiro katsushika keanu "
    "keith kelly kenneth kevin kim kurt laura lawrence lee leo leonardo leonora lewis lisa louis lucas lucian lucy luis "
    "luke magali makoto marc marco margaret maria marie mario mark martin mary masamune matt matthew max michael michel "
    "miguel mike mikhail miles nan nancy natalie nicholas nick nicola nicolas nikolai norman oliver olivia oscar otto pablo "
    "patricia patrick paul pedro peter phil philip philippe pierre pieter quentin rachel ralph raphael ray rebecca rembrandt "
    "rene ricardo richard ridley rob robert roger ron ross roy ruth ryan sam samuel sandra sandro sarah saul scott sean "
    "sebastian sergey sergio simon sophie stanislav stanley stephan stephen steve steven stuart sylvester syd takashi "
    "terry thomas tim timothy todd tom tony tyler victor victoria vincent vladimir walt walter wayne wes will william "
    "winston wolfgang yoji yoshitaka yves zdzislaw"
)

_STYLE_WORDS = STYLE | STYLE_ADJECTIVES
_WORDS = ADJECTIVES | ADVERBS | PREPOSITIONS | PRONOUNS | RELATIVES | ING_NOUNS | GENRES | METALS | SHADES
_CAMERA_FIGURE = re.compile(r"\d+(?:mm|k|p|fps)|f/\d+(?:\.\d+)?", re.ASCII)


def positions_of(phrases: Phrases, words: Sequence[str]) -> set[int]:
    """Positions of the lower-case words that stand in one of `phrases`, all of its words side by side."""
    found: set[int] = set()
    for start, word in enumerate(words):
        for phrase in phrases.get(word, ()):
            if tuple(words[start : start + len(phrase)]) == phrase:
                found.update(range(start, start + len(phrase)))
    return found


def is_style(word: str) -> bool:
    """Whether a lower-case word is one of style, quality or camera by itself ("masterpiece", "8k", "f/1.8")."""
    return word in _STYLE_WORDS or singular(word) in _STYLE_WORDS or bool(_CAMERA_FIGURE.fullmatch(word))


def is_word(word: str) -> bool:
    """Whether a lower-case word is in the lists of word classes, so that it is nobody's name."""
    return (
        singular(word) in NOUNS
        or singular(word) in CARRIERS
        or word in _WORDS
        or is_style(word)
        or word.endswith(("ly", "-shaped", "-like"))
    )


def is_verb_in_s(word: str) -> bool:
    """Whether a word may be the third person of one of `VERBS` ("sleeps", "watches", "flies")."""
    return word.endswith("s") and (
        word[:-1] in VERBS
        or word.removesuffix("es") in VERBS
        or (word.endswith("ies") and word[:-3] + "y" in VERBS)
    )
