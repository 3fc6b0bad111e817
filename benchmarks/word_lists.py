"""Make `grefine_rt/assess/prompt/data/words.zlib` from WordNet 3.0's database (Debian: package `wordnet-base`).

    python -m benchmarks.word_lists /usr/share/wordnet

The file is one zlib stream of text: a line for each list, its name, a tab, and its words with tabs between them.

    things      nouns whose most frequent sense can be seen: animals, artefacts, bodies, food, plants, people ...
    wanted      those of them that are asked for one by one: animals, buildings, clothes, food, furniture, vehicles ...
    compounds   the same of two or three words where one before the last is no plain noun ("dining table")
    mixed       nouns whose most frequent sense cannot, and another one can
    abstract    nouns without a sense that can be seen
    adjectives  words whose adjective senses are used at least as often as their noun senses
    verbs       plain forms of verbs
    mostly verbs    those of them that are used more often so than as nouns ("share", "cast")
    only verbs      those that are used so, and never as nouns ("curl")
    irregular nouns, irregular verbs    "plural singular" and "past verb" pairs
    names       words of people's names ("claude", "monet") that are no common words
"""

from __future__ import annotations

import re
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from grefine_rt.files import write_whole

OUTPUT = Path(__file__).resolve().parents[1] / "runtime/grefine_rt/assess/prompt/data/words.zlib"
SEEN = {5, 6, 8, 13, 17, 18, 19, 20, 27}  # animal artifact body food object person phenomenon plant substance
SEEN_TOO = {14, 15, 25}  # group location shape: seen when they are used as often as "crowd" or "park"
# Lemma and number of the sense of what the "wanted" are kinds of.
WANTED = {
    "animal": 0, "clothing": 0, "footwear": 0, "headdress": 0, "jewelry": 0, "structure": 0, "room": 0,
    "vehicle": 0, "furniture": 0, "musical_instrument": 0, "weapon": 0, "tool": 0, "container": 0, "food": 1,
    "geological_formation": 0, "body_of_water": 0, "body_part": 0, "garment": 0, "decoration": 0, "covering": 0,
    "baked_goods": 0, "device": 0, "implement": 0, "conveyance": 0, "equipment": 0, "thread": 0, "dish": 1, "beverage": 0,
}  # fmt: skip
_PLAIN = re.compile(r"[a-z][a-z'-]+\Z")
_PLAIN_COMPOUND = re.compile(r"[a-z'-]+(_[a-z'-]+){1,2}\Z")


def index(folder: Path, part: str) -> Iterator[tuple[str, list[str]]]:
    """Lemma and offsets of its senses, the most frequent first."""
    for line in (folder / f"index.{part}").read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split()
            yield fields[0], fields[-int(fields[2]) :]


def synsets(folder: Path, part: str) -> Iterator[tuple[str, int, list[str], bool, list[str]]]:
    """Offset, lexicographer's file, words as they are written, whether it is a single one's name, kinds it is of."""
    for line in (folder / f"data.{part}").read_text().splitlines():
        if not line.startswith(" "):
            fields = line.split("|")[0].split()
            count = int(fields[3], 16)
            kinds = [after for sign, after in pairwise(fields[4 + 2 * count :]) if sign == "@"]
            yield fields[0], int(fields[1]), fields[4 : 4 + 2 * count : 2], "@i" in fields, kinds


def wanted(above: Mapping[str, Sequence[str]], senses: Mapping[str, Sequence[str]]) -> set[str]:
    """Offsets of what is of one of the kinds in `WANTED`. above: offset -> the kinds that it is of."""
    below: dict[str, list[str]] = defaultdict(list)
    for offset, kinds in above.items():
        for kind in kinds:
            below[kind].append(offset)
    rest = [senses[lemma][number] for lemma, number in WANTED.items()]
    found: set[str] = set()
    while rest:
        offset = rest.pop()
        if offset not in found:
            found.add(offset)
            rest += below[offset]
    return found


def uses(folder: Path) -> dict[tuple[str, str], int]:
    """(lemma, part of speech) -> how often it was tagged in the corpus behind WordNet."""
    found: dict[tuple[str, str], int] = defaultdict(int)
    for line in (folder / "cntlist.rev").read_text().splitlines():
        key, _, count = line.split()
        lemma, _, rest = key.partition("%")
        found[lemma, {"1": "noun", "2": "verb", "3": "adj", "5": "adj", "4": "adv"}[rest[0]]] += int(count)
    return found


def lists(folder: Path) -> dict[str, list[str]]:
    """Name of a list -> its words, sorted."""
    found: dict[str, set[str]] = defaultdict(set)
    sense: dict[str, tuple[int, list[str]]] = {}
    people: set[str] = set()
    above: dict[str, list[str]] = {}
    for offset, file, words, single, kinds in synsets(folder, "noun"):
        sense[offset], above[offset] = (file, words), kinds
        if single and file == 18:
            people.update(word for name in words for word in name.lower().split("_"))
    used = uses(folder)
    asked_for = wanted(above, dict(index(folder, "noun")))
    for lemma, senses in index(folder, "noun"):
        common = [offset for offset in senses if lemma in sense[offset][1]]  # in small letters
        file = sense[common[0]][0] if common else 0
        seen = file in SEEN or file in SEEN_TOO
        if common and seen and _PLAIN_COMPOUND.match(lemma):
            found["compounds"].add(lemma.replace("_", " "))
        elif common and _PLAIN.match(lemma):
            later = any(sense[offset][0] in SEEN | {14, 15} for offset in common)
            found["things" if seen else "mixed" if later else "abstract"].add(lemma)
            if common and common[0] in asked_for:
                found["wanted"].add(lemma)
    for lemma, _ in index(folder, "adj"):
        if _PLAIN.match(lemma) and used.get((lemma, "adj"), 0) >= used.get((lemma, "noun"), 0):
            found["adjectives"].add(lemma)
    for lemma, _ in index(folder, "verb"):
        if _PLAIN.match(lemma):
            found["verbs"].add(lemma)
            if used.get((lemma, "verb"), 0) and not used.get((lemma, "noun"), 0):
                found["only verbs"].add(lemma)
            if used.get((lemma, "verb"), 0) > used.get((lemma, "noun"), 0):
                found["mostly verbs"].add(lemma)
    nouns = found["things"] | found["mixed"] | found["abstract"]
    plain = nouns - found["adjectives"]
    found["compounds"] = {
        name
        for name in found["compounds"]
        if any(word not in plain or word.endswith(("ing", "ed")) for word in name.split()[:-1])
    }
    for part in ("noun", "verb"):
        known = found["verbs"] if part == "verb" else nouns
        for line in (folder / f"{part}.exc").read_text().splitlines():
            form, base = line.split()[:2]
            if _PLAIN.match(form) and base in known:
                found[f"irregular {part}s"].add(f"{form} {base}")
    common_words = nouns | found["adjectives"] | found["verbs"]
    found["names"] = {word for word in people - common_words if _PLAIN.match(word) and len(word) > 2}
    return {name: sorted(words) for name, words in found.items()}


def main() -> None:
    made = lists(Path(sys.argv[1]))
    text = "\n".join("\t".join([name, *words]) for name, words in made.items())
    packed = zlib.compress(text.encode(), 9)
    write_whole(OUTPUT, packed)
    print({name: len(words) for name, words in made.items()}, len(packed), "bytes")


if __name__ == "__main__":
    main()
