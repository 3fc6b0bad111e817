"""Titles of works, and names of studios, makers and magazines, that read like things: "howl's moving castle".

They count only as whole items of a list, after the first thing. Those that are as often asked for as things ("black
mirror", "the crow") are not among them.
"""

from __future__ import annotations

from grefine_rt.assess.prompt.words import phrase_table

TITLES = phrase_table(
    "forgotten realms,red bull,red bull illume,coca cola,burning man,comic con,fashion week,new wave,"
    "indiana jones,james bond,"
    "le mans,grand prix,formula one,naughty dog,blizzard entertainment,riot games,square enix,"
    "rockstar games,supergiant games,framestore,"
    "blur studio,"
    "digital domain,industrial light and magic,good smile company,sideshow collectibles,hot toys,"
    "kickstarter,valve,"
    "tate modern,met museum,national gallery,hermitage,academy award,spectrum fantastic art,weird tales,"
    "astounding stories,amazing stories,playboy,popular mechanics,popular science,field guide,book of hours,"
    "harper's bazaar,vanity fair,rolling stone,new yorker,the new yorker,saturday evening post,time magazine,"
    "life magazine,sports illustrated,wizards of the coast,monster manual,levis,hermes,google,facebook,snapchat,"
    "transformers,dragon ball,fullmetal alchemist,spy x family,hunter x hunter,fate stay night,your name,"
    "howl's moving castle,my neighbor totoro,castle in the sky,kiki's delivery service,princess mononoke,"
    "toy story,"
    "corpse bride,the nightmare before christmas,nightmare before christmas,beetlejuice,avengers,"
    "guardians of the galaxy,wonder woman,watchmen,the sandman,tank girl,sin city,the shining,"
    "2001 a space odyssey,"
    "a clockwork orange,full metal jacket,apocalypse now,the godfather,django unchained,the grand budapest hotel,"
    "grand budapest hotel,moonrise kingdom,the fifth element,fifth element,district 9,the revenant,"
    "saving private ryan,band of brothers,peaky blinders,the mandalorian,true detective,twin peaks,doctor who,"
    "the expanse,altered carbon,love death and robots,love death robots,horizon zero dawn,the last of us,"
    "demon's souls,shadow of the colossus,ori and the blind forest,little nightmares,dead space,"
    "doom eternal,portal 2,"
    "team fortress 2,counter strike,medal of honor,death stranding,nier automata,kingdom hearts,chrono trigger,"
    "dragon quest,octopath traveler,fire emblem,metroid prime,super mario,street fighter,mortal kombat,"
    "guilty gear,"
    "monster hunter,monster hunter world,devil may cry,watch dogs,tomb raider,elite dangerous,star citizen,"
    "no man's sky,assassin's creed,god of war,stardew valley,animal crossing,call of duty,grand theft auto,"
    "baldur's gate,genshin impact,apex legends,half life,second life,windows 95,commodore 64,associated press,"
    "google earth,corporate memphis,witch house,acid house,doom metal,hip hop,dream pop,the matrix,the witcher,"
    "lord of the rings,the lord of the rings,game of thrones,stranger things,pacific rim,star trek,one piece,"
    "demon slayer,chainsaw man,jujutsu kaisen,my hero academia,sailor moon,death note,jurassic park,"
    "the hobbit,the simpsons,the sopranos,the wizard of oz,pan's labyrinth,the shape of water,blade runner 2049,"
    "the dark crystal,the neverending story,the lion king,beauty and the beast,the little mermaid,the jungle book,"
    "the secret of kells,song of the sea,the iron giant,princess bride,"
    "rick and morty,adventure time,gravity falls,steven universe,over the garden wall,avatar the last airbender,"
    "samurai jack,cowboy bebop,ghost in the shell,neon genesis evangelion,attack on titan,vampire hunter d,"
    "ninja scroll,perfect blue,tokyo ghoul,spice and wolf,magi,black butler,soul eater,blue exorcist,"
    "sea of thieves,league of legends,world of warcraft,heroes of the storm,path of exile,lost ark,black desert,"
    "guild wars,the elder scrolls,elder scrolls,dungeon keeper,disco elysium,dark souls,elden ring,hollow knight,"
    "resident evil,silent hill,left 4 dead,dead by daylight,among us,five nights at freddy's,plants vs zombies,"
    "angry birds,clash of clans,hearts of iron,age of empires,command and conquer,magic the gathering,"
    "dungeons and dragons,pathfinder,warhammer fantasy,shadowrun,call of cthulhu,vampire the masquerade"
)
"""First word -> the titles that begin with it, in small letters."""
