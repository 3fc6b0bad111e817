"""Words of style, quality, camera and layout, of carriers and of media: demands on the picture as a whole.

All words are lower case and singular; `words.singular` brings a word into that form.
"""

from __future__ import annotations

import re

from grefine_rt.assess.prompt.words import phrase_table, singular, word_set

# Carriers: "a photo of a cat" asks for a cat; a photo is nothing that could be missing from the image.
CARRIERS = word_set(
    "photo photograph picture painting image drawing illustration view scene close-up closeup portrait "
    "sketch render rendering shot artwork poster watercolor watercolour selfie snapshot depiction still "
    "cartoon collage art fanart logo icon sticker screenshot print visual etching engraving "
    "lithograph woodcut linocut doodle panorama headshot screencap footage infographic blueprint diagram "
    "mockup gouache emoji photocopy polaroid daguerreotype tintype caricature x-ray clipart thumbnail postcard "
    "mugshot timelapse"
)
HANGS = word_set("hang hangs hanging hung")
MADE = word_set(
    "art artwork painting painted photo photograph photographed illustration illustrated drawn drawing "
    "image concept digital directed created made designed inspired render style work poster"
)
# "shot on iphone 14 pro", "rendered in octane", "trending on artstation".
TAKEN = word_set(
    "shot filmed taken captured photographed rendered drawn trending featured posted published printed developed "
    "illustrated modeled modelled sculpted scanned animated recorded edited processed graded"
)
TAKEN_WITH = word_set("on with in using for at via through")
AWARDS = phrase_table("of the year,of the month,of the week,of the day")
UNITS = word_set("sec mm cm fps dpi ppi px pixel megapixel mp hz bit k iso ev kelvin watt")
SHOWN = word_set("is are viewed seen shown taken shot made created drawn painted rendered")
CARRIER_VERBS = word_set("showing depicting featuring containing")
# Quality, camera and layout words: never centres, and left out of the phrases' texts.
STYLE = word_set(
    "hi-res masterpiece quality resolution res detail detailed hd uhd hdr artstation deviantart pixiv octane "
    "unreal bokeh focus lighting style aesthetic composition wallpaper realism photorealism surrealism "
    "photography cgi 3d 2d raw dslr sony canon nikon iso dof exposure aperture mm grain color colour "
    "colors tone vibe mood atmosphere background backdrop foreground distance left right middle center centre "
    "side top bottom front solo score_9 score_8_up vray blender rtx nsfw sfw grading contrast angle "
    "vector perspective asset watermark signature cryengine screenprint linocut risograph outrun "
    "turnaround occlusion hatching illumination scattering styling impressionism expressionism cubism "
    "minimalism symmetry cinematography hue saturation shading linework lineart brushstroke impasto "
    "gouache acrylic vignette blur aberration raytracing zbrush houdini unity behance dribbble pinterest "
    "instagram flickr unsplash cgsociety imax panavision telephoto fisheye softbox backlighting "
    "snes nes n64 ps1 ps2 ps3 ps4 ps5 gamecube dreamcast sega xbox atari amiga krita gimp inkscape autocad "
    "sketchup enscape twinmotion eevee renderman luxrender daz3d vsco tumblr reddit patreon shutterstock "
    "gettyimages archdaily dezeen designboom netflix hbo pixelart dithering rotoscoping screentone zbrush "
    "subsurface tenebrism claymation hypermaximalist photoshoot screenshot lomography "
    "rendering keyword prompt aspect ratio fps parallax postprocessing anime manga cel crosshatching"
)
# Style unless they have an article of their own: "film grain, soft palette", but "a painter with a palette".
STYLE_OR_THING = word_set(
    "engine lens film design bloom palette texture flare tag art visualization visualisation render "
    "footage brushwork"
)
# Style as an item of a list ("fine line, bold shapes"), things elsewhere.
LIST_STYLE = word_set(
    "tripod shutter flash stroke brush line shape outline pose still leak paint ratio advertisement "
    "render wash mythology finish graphics graphic edge megapixel prize winner filter sensor reflector "
    "softbox storybook picturebook artbook sketchbook cookbook comic comicbook manhwa manhua webtoon "
    "polaroid negative stock shader mesh polygon voxel pixel sprite tileset spritesheet "
    "storyboard moodboard template layout typography font scanline lut stipple contour gradient scheme "
    "panel spread collection exhibition exhibit catalog catalogue magazine lookbook editorial campaign "
    "episode franchise remake sequel trilogy cutscene cinematic gameplay concept lumen nanite "
    "pinstripe archive anatomy proportion year drip highlight caustic refraction era century period age "
    "dynasty movie film "
    "show saga sitcom videogame musical "
    "cycle masterwork showcase series edition portfolio commission reference turnaround cutout decal print "
    "backlight keylight fisheye crop framing viewpoint viewfinder sculpt retouch shoot photoshoot"
)
# What is printed and read: style as an item of a list, whatever it is about ("food magazine").
PUBLICATIONS = word_set(
    "magazine cookbook editorial catalog catalogue lookbook storybook picturebook artbook webtoon manga "
    "manhwa manhua comic comicbook encyclopedia textbook almanac zine photoshoot storyboard moodboard"
)
# The same in pairs only: a "power line" is a thing.
LIST_STYLE_PAIRS = phrase_table(
    "ink wash,riot game,book cover,album cover,magazine cover,record cover,trading card,greeting card,"
    "video game,character sheet,concept sheet,reference sheet,model sheet,style sheet,art print,"
    "woodblock print,block print,comic book,brush stroke,music album,movie poster,film poster,tv series,"
    "character model,art history,museum quality,coloring page,manga cover,comic cover,novel cover,"
    "pulp cover,cd cover,dvd cover,vinyl cover,vogue cover,fashion cover,front cover,negative space,"
    "white space,hard surface,heavy metal,death metal,black metal,art station,book illustration,"
    "splash page,book page,comic page,manga page,comic strip,comic panel,manga panel,vhs tape,"
    "film reel,film roll,film strip,contact sheet,gelatin silver,wet collodion,glass plate,"
    "color wheel,color scheme,color palette,paint stroke,board game,card game,mobile game,pc game,"
    "full frame,film frame,movie frame,still frame,freeze frame,animation frame,sticker sheet,"
    "sprite sheet,children's book,kids book,kid's book,black humor,dark humor,story book,"
    "console game,indie game,graphic novel,light novel,visual novel,pulp magazine,fashion magazine,"
    "stock image,stock photo,beauty dish,ring light,soft box,light setup,hard light,low light,"
    "flat light,back light,side light,split light,top light,warm light,cool light,key light,rim lights,"
    "lens filter,movie set,film set,tattoo design,tattoo flash,flash sheet,oil painter,splash art,"
    "loading screen,start screen,title screen,box art,body shot,hero shot,product shot,studio shot,"
    "rough edge,sharp edge,clean edge,hard edge,soft edge,bold outline,thick outline,white outline,"
    "black outline,white border,black border,traditional tattoo,old master,dutch master,high fashion,"
    "blown glass,fused glass,mri scan,ct scan,thermal camera,trail camera,vector display,offset printing,"
    "delft blue,"
    "cartoon network,puppet animation,paper cut,disposable camera,third person,action pose,space opera,"
    "special effect,practical effect,particle effect,visual effect,green screen,sketch line,palette knife,"
    "paint splatter,ink splash,color splash,colour splash,color pop,pixel sorting,style transfer,bored ape,"
    "official media,game cg,mood board,pitch deck,color field,colour field,body horror,soap opera,reality tv,"
    "music video,cassette cover,vhs cover,game cover,pulp fiction,penny dreadful,point cloud,white model,"
    "character concept,liminal space,acid trip,mushroom trip,fairy tale,volumetric fog,volumetric cloud,"
    "crepuscular ray,playing card,magical girl,school poster,lolita fashion,art informel,game character,"
    "christmas card,birthday card,holiday card,valentine card,tarot card,coloring book,"
    "colouring book,pop-up book,glam rock,punk rock,hard rock,indie rock,classic rock,textured paper,"
    "aged paper,rice paper,watercolor paper,handmade paper,gold leaf,silver leaf,"
    "light leak,epic scale,grand scale,massive scale,"
    "large scale,huge scale,"
    "haute couture,street style,street wear,pattern design,tile pattern,seamless pattern,seamless tile"
)
STYLE_ADJECTIVES = word_set(
    "realistic photorealistic hyperrealistic photo-realistic cinematic intricate sharp trending "
    "award-winning ultra highly detailed ultra-detailed hyperdetailed professional absurdres highres "
    "aesthetic best high-quality high-resolution stunning hyper epic blurry grainy minimalistic "
    "isometric cubist abstract surreal surrealist minimalist impressionist expressionist pointillist "
    "photographic dramatic moody dreamy ethereal whimsical monochrome anamorphic painterly volumetric "
    "ambient atmospheric symmetrical centered uncropped hand-drawn crisp glossy matte lowpoly tilt-shift "
    "hyperreal photoreal backlit overhead desaturated maximalist orthographic panoramic cropped"
)
STYLE_PHRASES = phrase_table(
    "substance painter,substance designer,marvelous designer,after effects,clip studio paint,paint tool sai,"
    "corel painter,affinity designer,speed tree,world machine,3 ds max,3ds max,adobe illustrator,"
    "cd projekt,"
    "world war,cold war,civil war,gold foil,"
    "silver foil,foil stamp,"
    "cinema 4 d,ligne claire,awe inspiring,mid century modern,on location,behind the scenes,text free,"
    "marmoset toolbag,"
    "clip studio,barbizon school,"
    "path tracing,day of the dead,hand drawn,hand painted,hand made,"
    "electron microscope,photo real,"
    "die cut,metal gear solid,metal gear,attack on titan,game of thrones,breath of the wild,"
    "spirited away,wallace and gromit,studio ghibli,sub surface,medium format,"
    "large format,heavy metal magazine,rembrandt lighting,f number,"
    "unreal engine,dark crystal,cowboy bebop,evangelion,warhammer 40k,warhammer,"
    "resident evil,silent hill,red dead redemption,the witcher,dragon age,mass effect,"
    "game art,game asset,concept art,key art,matte paint,digital paint,character design,"
    "film burn,oil paint,acrylic paint,vector graphics,wet plate,body cam,high key,low key,plein air,"
    "alla prima,slice of life,eye level,over the shoulder,line work,high dynamic range,"
    "hudson river school,art history,award winner,retro game,paper cutout,lens dirt,mental ray,"
    "depth of field,rule of thirds,golden hour,looking at viewer,looking at the viewer,looking at camera,"
    "looking at the camera,full body,upper body,national geographic,ray tracing,oil on canvas,"
    "acrylic on canvas,ink on paper,low poly,award winning,screen print,key visual,lens flare,"
    "motion blur,long exposure,tilt shift,line art,cel shading,octane render,chromatic aberration,f stop,"
    "shot on,still life,golden age,golden ratio,dungeons and dragons,d & d,league of legends,"
    "magic the gathering,lord of the rings,star wars,mad max,harry potter,blade runner,black and white,"
    "art nouveau,art deco,stop motion,film noir,sci fi,b & w,long shot,wide shot,wide angle,low angle,"
    "high angle,dutch angle,close up,rated r,double exposure,hyper realistic,ultra realistic,"
    "photo realistic,post processing,high resolution,mixed media,cinema 4d,d&d,dc comics,"
    "head and shoulders,half body,point of view,top down view,medium full shot,medium shot,cross section,"
    "ghost in the shell,spaghetti western,comic book,pop art,teal and orange,contest winner,dark souls,"
    "elden ring,world of warcraft,final fantasy,dark academia,light academia,shutter speed,"
    "extreme close up,extreme close-up,studio light,volumetric light,rim light,cinematic light,"
    "ambient light,natural light,key light,fill light,studio lights,god ray,bird's eye view,"
    "alice in wonderland,pen and ink,god rays"
)
# One of these words makes its whole noun phrase one of style ("Canon EOS R5").
STYLE_NAMES = word_set(
    "canon nikon sony leica fujifilm fuji kodak hasselblad olympus pentax panasonic lumix zeiss gopro "
    "iphone dji arri arriflex pixar disney dreamworks marvel artstation deviantart pixiv ghibli aardman "
    "nintendo playstation keyshot adobe photoshop illustrator procreate wacom unreal unity blender "
    "octane redshift zbrush cinema4d vray corona lumion midjourney cinestill ilford agfa lomo velvia "
    "ektar ektachrome portra provia bbc hbo netflix a24 nasa dnd d&d mtg nvidia getty reuters"
)
# Makers of cameras, films and renderers: a whole item of a list that has one is style ("canon eos 5d mark iv").
BRANDS = STYLE_NAMES - word_set(
    "pixar disney dreamworks marvel ghibli aardman nintendo playstation unreal unity blender octane "
    "corona iphone"
)
# Games, films and series; of these, no one is also a common thing.
FRANCHISES = word_set(
    "overwatch hearthstone fallout borderlands minecraft starcraft skyrim fortnite bloodborne roblox bioshock "
    "dishonored sekiro valorant persona pokemon digimon naruto berserk akira evangelion tron warcraft diablo "
    "destiny witcher undertale terraria subnautica outlast zelda metroid castlevania warframe runescape oblivion "
    "morrowind uncharted fantasia ubisoft capcom konami bioware fromsoftware bethesda neuromancer westworld "
    "futurama simpsons gotham"
)
MEDIA = word_set(
    "oil acrylic ink charcoal pencil crayon watercolor watercolour pastel pen chalk gouache tempera "
    "graphite oils"
)
PAINTS = MEDIA | word_set("digital matte thick loose speed impasto wet")
GROUNDS = word_set("canvas paper board panel wood linen parchment silk cardboard vellum")
# First halves of words that some write with blanks round the hyphen: "hyper - realistic".
PREFIXES = word_set(
    "top post hand hyper ultra photo sci semi neo pre anti non mid high low full half well award multi self "
    "super wide close long cel art steam cyber bio retro ink pen black t x e sun snow blood battle time"
)
LABELS = word_set("subject setting style scene mood lighting camera background medium prompt description")
PARAMETERS = word_set(
    "ar aspect v version style s stylize q quality seed chaos c no iw niji tile w h hd weird sref cref "
    "sw cw p raw"
)


# How a photographer's light is, not what shines.
LIGHTINGS = word_set(
    "soft hard harsh warm cool cold dramatic volumetric cinematic natural ambient studio diffused diffuse dappled "
    "directional even flat strong deep long heavy dynamic moody subtle indirect gentle subdued"
)
# Without what they belong to: "in the style of", "school of".
MANNERS = word_set("style manner spirit genre school tradition aesthetic vein likeness work")
# Schools and media that English also has as nouns or adjectives; as items of a list they name no thing.
GENRES = word_set(
    "fantasy cyberpunk steampunk dieselpunk solarpunk noir retro sepia pastel oil ink charcoal pencil "
    "tempera gouache crayon silkscreen documentary studio stencil sticker kawaii chibi lofi vhs polaroid "
    "kodachrome daguerreotype webcam halftone mezzotint grisaille airbrush cutaway moodboard x-ray "
    "glitch grunge goth emo indie psychedelia psychedelic trippy brutalist bauhaus dieselpunk newsreel "
    "infrared pulp rotoscope tintype cyanotype ambrotype calotype letterpress collage zine vogue western "
    "avatar superflat ukiyo-e sumi-e scandinavian "
    "technicolor chiaroscuro sfumato monochrome candid realism impressionism minimal minimalist baroque "
    "cloisonne enamel filigree intaglio cameo scrimshaw marquetry parquetry lacquer majolica faience stoneware "
    "earthenware porcelain terracotta batik damascene mandala knotwork disco opera cabaret circus "
    "ultrasound arcade "
    "autochrome oscilloscope cosmopolitan totem easter "
    "mural fresco mosaic tapestry decoupage photocollage photomontage cinemascope kitsch lowbrow tribal neo-noir "
    "slasher "
    "ultraviolet stippling chalk clay felt crochet plasticine architecture pottery punk fluorescent blacklight "
    "wireframe lidar cosplay streetwear techwear athleisure backroom boudoir paparazzi lightroom strobe panning "
    "grimdark bioluminescence iridescence profile stamp safe neon mid-century bohemian hieroglyphic fractal "
    "nickelodeon louvre hi-fi "
    "rococo gothic victorian renaissance fashion vintage medieval horror gore anime manga comic cartoon"
)
# Nouns that WordNet takes for abstract and that are seen in a picture all the same.
VISIBLE = word_set(
    "light glow sunset sunrise night day dawn dusk twilight smile grin frown tattoo shadow reflection "
    "silhouette storm wave battle fight wedding parade party picnic explosion ray beam pattern stripe "
    "spot dot logo text letter word number sign symbol emblem crest rune mark stain mural dance festival "
    "race eclipse aurora scar wound meal feast makeup braid ponytail hairstyle haircut outfit costume "
    "magic spell music sunbeam splash ripple bubble mist concert ceremony funeral game match circus "
    "crash ruin hole crack scratch fold curl spring summer autumn fall winter rainbow swirl vortex "
    "portal orbit star skyline horizon scenery landscape seascape cityscape cloudscape space sky heaven "
    "hell underworld paradise world earth moon sun shape sphere cube triangle circle square line lunch "
    "dinner breakfast snack dessert drink food color colour flag poster menu list map chart graph "
    "equation traffic smoke steam breath wind breeze rain fog pearl medal blush tear sweat droplet drop "
    "fire blaze"
)

_STYLE_WORDS = STYLE | STYLE_ADJECTIVES
_CAMERA_FIGURE = re.compile(r"\d+(?:mm|k|p|fps)|f/\d+(?:\.\d+)?", re.ASCII)


def is_style(word: str) -> bool:
    """Whether a lower-case word is one of style, quality or camera by itself ("masterpiece", "8k","
    " "f/1.8")."""
    return word in _STYLE_WORDS or singular(word) in _STYLE_WORDS or bool(_CAMERA_FIGURE.fullmatch(word))
