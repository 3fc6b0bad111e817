"""Storybook pictures as raters would see them: drawn by a weak generator, with opinions on quality and alignment.

A weak generator misdraws things of the prompt and damages the picture. The opinion on quality is `defects.mos`. The
opinion on alignment, 1..5, follows one formula. For a prompt of n things,

    MOS_align = 1 + 4 * (1 - w_place) * prod_j (1 - w_j / sqrt(n))

over the things that were misdrawn (several alike, "two red birds", count as one), with w = 0.9 for a missing thing,
0.8 for another thing in its place, and 0.6 * (0.4 + 0.6 * min(1, d / 250)) for another colour, d being the distance of
the two colours in RGB (orange for red is a smaller fault than blue for red); w_place = 0.4 when the place is another
one, else 0. Damage does not enter: the two opinions are independent, as AGIQA-3K asks for them apart.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from grefine_export.mini.defects import damage_often, mos
from grefine_export.mini.heldout import ALIGNMENT, misalign
from grefine_export.mini.palette import COLOURS, SETTINGS
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.world import SIZE, Scene, alike, make_scene, render

# First words of seeds: a database for splits of its own, and pictures to train the embedded model on.
DATABASE = 9
TRAINING = 10

RIGHT = 0.6  # chance that a thing is drawn as the prompt says
WRONG_PLACE = 0.12
IMPORTANCE = {"missing": 0.9, "other-thing": 0.8, "other-colour": 0.6}
PLACE_IMPORTANCE = 0.4


@dataclass(frozen=True)
class RatedPicture:
    """`image` uint8 (128, 128, 3), drawn for `prompt`; opinions `quality` and `alignment`, 1..5."""

    image: np.ndarray
    prompt: str
    quality: float
    alignment: float


@dataclass(frozen=True)
class RatedPool:
    """k pictures in memory-mapped arrays: `images` uint8 (k, 128, 128, 3), `opinions` float32 (k, 2) quality and
    alignment; `prompts` of the pictures."""

    images: np.ndarray
    opinions: np.ndarray
    prompts: list[str]


def thing_penalty(how: str, wanted: str, drawn: str) -> float:
    """w of a misdrawn thing; `wanted` and `drawn` are names of colours, which count for "other-colour" alone."""
    if how != "other-colour":
        return IMPORTANCE[how]
    distance = math.dist(COLOURS[wanted], COLOURS[drawn])
    return IMPORTANCE[how] * (0.4 + 0.6 * min(1.0, distance / 250))


def alignment_mos(penalties: list[float], things: int, wrong_place: bool = False) -> float:
    """The formula above: `penalties` are the w of the misdrawn things, `things` is n."""
    kept = math.prod(1 - w / math.sqrt(things) for w in penalties)
    return 1 + 4 * kept * (1 - PLACE_IMPORTANCE * wrong_place)


def weakly_drawn(scene: Scene, rng: np.random.Generator) -> tuple[Scene, float]:
    """The scene that a weak generator draws for `scene`, and the opinion on its alignment."""
    drawn, penalties = scene, []
    firsts = [index for index in range(len(scene.things)) if alike(scene, index)[0] == index]
    for thing in (scene.things[index] for index in firsts):  # things that are alike are one for the prompt
        if rng.random() < RIGHT:
            continue
        index, how = drawn.things.index(thing), str(rng.choice(ALIGNMENT))
        if how == "missing" and len(alike(drawn, index)) == len(drawn.things):  # something must be left
            how = "other-thing"
        drawn = misalign(drawn, index, how, rng)
        new = drawn.things[index].colour if how == "other-colour" else ""
        penalties.append(thing_penalty(how, thing.colour, new))
    wrong_place = bool(rng.random() < WRONG_PLACE)
    if wrong_place:
        others = [name for name in SETTINGS if name != scene.setting]
        drawn = replace(drawn, setting=str(rng.choice(others)))
    return drawn, alignment_mos(penalties, len(firsts), wrong_place)


def rated_picture(seed: int, prompt: int, version: int) -> RatedPicture:
    """Version `version` of prompt number `prompt`; `seed` is `DATABASE` or `TRAINING`. The same at every call."""
    scene = make_scene((seed, prompt))
    text = prompt_of(scene, np.random.default_rng((seed, prompt, 1)))
    rng = np.random.default_rng((seed, prompt, 2, version))
    drawn, alignment = weakly_drawn(replace(scene, seed=int(rng.integers(2**31))), rng)
    image, defects = damage_often(render(drawn), rng)
    return RatedPicture(image, text, mos(defects), alignment)


def open_rated(folder: Path, count: int, versions: int = 4) -> RatedPool:
    """`count` pictures to train on, `versions` of each prompt; made into `folder` on first use (about 8 ms each)."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [folder / f"rated-{part}-{count}.npy" for part in ("images", "opinions")]
    if not names[1].exists():
        images = np.lib.format.open_memmap(names[0], "w+", np.uint8, (count, SIZE, SIZE, 3))
        opinions = np.empty((count, 2), np.float32)
        for index in range(count):
            one = rated_picture(TRAINING, index // versions, index % versions)
            images[index], opinions[index] = one.image, (one.quality, one.alignment)
        images.flush()
        np.save(names[1], opinions)
    prompts = [
        prompt_of(make_scene((TRAINING, prompt)), np.random.default_rng((TRAINING, prompt, 1)))
        for prompt in range(-(-count // versions))
    ]
    images, opinions = (np.load(name, mmap_mode="r") for name in names)
    return RatedPool(images, opinions, [prompts[index // versions] for index in range(count)])


def database_pictures(prompts: int, versions: int) -> Iterator[tuple[str, RatedPicture]]:
    """(file name, picture) of the storybook database."""
    for prompt in range(prompts):
        for version in range(versions):
            yield f"storybook_{prompt:04}_{version:02}.png", rated_picture(DATABASE, prompt, version)


def write_database(folder: Path, prompts: int = 200, versions: int = 10) -> Path:
    """A rated database in AGIQA-3K's published layout, `data.csv` beside the pictures; returns `folder`.

    Written once: a table that is there stays. Opinions are 1..5 and have no spread.
    """
    table = folder / "data.csv"
    if table.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, one in database_pictures(prompts, versions):
        Image.fromarray(one.image).save(folder / name)
        rows.append((name, one.prompt, round(one.quality, 4), round(one.alignment, 4)))
    write_table(table, rows)
    return folder


def write_table(table: Path, rows: Iterable[tuple[str, str, float, float]]) -> None:
    """AGIQA-3K's `data.csv` of (file name, prompt, opinion on quality, on alignment), whole or not at all."""
    header = "name,prompt,adj1,adj2,style,mos_quality,std_quality,mos_align,std_align"
    partial = table.with_suffix(".partial")
    with partial.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(header.split(","))
        for name, prompt, quality, alignment in rows:
            lines.writerow((name, prompt, "", "", "", quality, 0, alignment, 0))
    partial.replace(table)
