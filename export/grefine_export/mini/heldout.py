"""The fixed test set of the storybook world: 678 pictures with their truth, which training never sees.

Its seeds start with `TEST`, the seeds of training with `pool.TRAINING`, so no scene can be in both by seed;
`scene_key` tells whether two scenes are the same picture all the same.

Some samples are strange to training in kind, too: damage of `defects.UNSEEN_DEFECTS`, drawing styles of
`styles.HELD_OUT_STYLES`, prompts in `prompts.UNSEEN_STYLES`, and synonyms that the lexicon holds back. `Sample.unseen`
names them, so that seen and unseen are reported apart. The `VALIDATION` split, on which constants are fitted, has none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from grefine_export.mini.defects import (
    FACTORS,
    KINDS_OF,
    TRAINED,
    UNSEEN_DEFECTS,
    Defect,
    damage,
    factor_scores,
    mos,
)
from grefine_export.mini.palette import COLOURS
from grefine_export.mini.prompts import UNSEEN_STYLES, Prompt, describe
from grefine_export.mini.styles import HELD_OUT_STYLES, TRAINING_STYLES
from grefine_export.mini.things import KINDS
from grefine_export.mini.world import (
    SIZE,
    Rendered,
    Scene,
    Thing,
    alike,
    make_scene,
    render,
    with_thing,
    without,
)

TEST = 7
VALIDATION = 8  # for fitting constants: neither trained on nor reported
CLEAN, LOCAL_EACH, GLOBAL_EACH, ALIGNMENT_EACH, MIXED = 160, 7, 3, 48, 48
ALIGNMENT = ("missing", "other-thing", "other-colour")
UNSEEN = ("damage", "style", "prompt", "synonym")
"""The parts of a sample that can be strange to training."""


@dataclass(frozen=True)
class Sample:
    """One picture of the test set.

    Attributes:
        number: its place in the set; also its seed.
        category: "clean", "local", "global", "alignment" or "mixed".
        prompt: of the picture; `scene` is the same as data.
        truth: uint8 (128, 128, 3), the picture that the prompt describes, without defects.
        image: uint8 (128, 128, 3), the picture as a weak generator drew it.
        defects: perceptual defects; `mask` bool (128, 128) holds their pixels.
        mos: 1..5; `factors`: technical, rationality, naturalness, 0..1.
        misaligned: one of `ALIGNMENT` or None; then `thing` is the index in `scene.things` of the thing that is
            missing or wrong (the first of several that are alike, which are all missing or wrong then).
        nouns: the prompt's name of each thing of the scene.
        unseen: its parts that are never trained on, of `UNSEEN`.
    """

    number: int
    category: str
    prompt: str
    scene: Scene
    truth: np.ndarray
    image: np.ndarray
    defects: tuple[Defect, ...]
    mask: np.ndarray
    mos: float
    factors: tuple[float, float, float]
    misaligned: str | None
    thing: int | None
    nouns: tuple[str, ...]
    unseen: frozenset[str]

    @property
    def wanted(self) -> Thing | None:
        """The thing of the prompt that the picture lacks."""
        return None if self.thing is None else self.scene.things[self.thing]


def names_wanted(sample: Sample, phrase: str) -> bool:
    """Whether a phrase of the prompt names the thing that the picture lacks."""
    if sample.thing is None:
        return False
    return set(sample.nouns[sample.thing].lower().split()) <= set(phrase.lower().split())


@dataclass(frozen=True)
class _Row:
    """The recipe of a sample. `detail`: a kind of damage or of `ALIGNMENT`; `unseen`: one of `UNSEEN`, or "" (unseen
    damage is told by the kind)."""

    category: str
    detail: str = ""
    unseen: str = ""


def _spread(count: int, of: tuple[str, ...]) -> list[str]:
    """`count` entries of `UNSEEN` or "", the ones of `of` in turn."""
    return [of[k % len(of)] for k in range(count)]


@cache
def _plan(split: int) -> tuple[_Row, ...]:
    """Every sample of a split, in order."""
    strange = split != VALIDATION
    kinds_of = KINDS_OF if strange else TRAINED
    local_each = LOCAL_EACH if strange else LOCAL_EACH * 3 // 2
    words = ("", "style", "", "prompt", "", "synonym", "", "prompt", "synonym", "") if strange else ("",)
    drawn = ("", "", "style", "", "", "style", "") if strange else ("",)
    rows = [_Row("clean", "", unseen) for unseen in _spread(CLEAN, words)]
    for kind in (kind for factor in FACTORS for kind in kinds_of[factor]):
        some = ("",) if kind in UNSEEN_DEFECTS else drawn  # strange in one way at a time
        rows += [_Row("local", kind, unseen) for unseen in _spread(local_each, some)]
    rows += [
        _Row("global", kind)
        for factor in ("technical", "naturalness")
        for kind in kinds_of[factor]
        for _ in range(GLOBAL_EACH)
    ]
    rows += [_Row("alignment", how, unseen) for how in ALIGNMENT for unseen in _spread(ALIGNMENT_EACH, words)]
    mixed = ("", "", "damage", "style", "prompt", "synonym") if strange else ("",)
    rows += [_Row("mixed", ALIGNMENT[k // 6 % 3], unseen) for k, unseen in enumerate(_spread(MIXED, mixed))]
    return tuple(rows)


def size_of(split: int) -> int:
    """The number of samples of a split."""
    return len(_plan(split))


def misalign(scene: Scene, index: int, how: str, rng: np.random.Generator) -> Scene:
    """The scene drawn instead of `scene`: its thing `index`, with all alike, is missing, another thing, or of another
    colour."""
    places = alike(scene, index)
    thing = scene.things[index]
    if how == "missing":
        for place in reversed(places):
            scene = without(scene, place)
        return scene
    kind, colour = thing.kind, thing.colour
    if how == "other-thing":
        used = {t.kind for t in scene.things}
        kind = str(rng.choice([k for k in KINDS if k not in used]))
    else:
        colour = str(rng.choice([c for c in COLOURS if c != thing.colour]))
    for place in places:
        scene = with_thing(scene, place, replace(scene.things[place], kind=kind, colour=colour))
    return scene


def _described(row: _Row, split: int, number: int) -> tuple[Scene, Prompt, int]:
    """A scene and its prompt as the row wants them, and the index of the thing that goes wrong if one is to."""
    styles = HELD_OUT_STYLES if row.unseen == "style" else TRAINING_STYLES
    attempt = 0
    while True:
        scene = make_scene((split, number, 100 + attempt) if attempt else (split, number), styles)
        rng = np.random.default_rng((split, number, 2, attempt))
        style = str(rng.choice(UNSEEN_STYLES)) if row.unseen == "prompt" else None
        prompt = describe(scene, rng, style, unseen_words=row.unseen == "synonym")
        index = int(rng.integers(len(scene.things)))
        # Something must be left in the picture, and not every scene has a thing with an unseen name.
        left = row.detail != "missing" or len(alike(scene, index)) < len(scene.things)
        if left and (row.unseen != "synonym" or "synonym" in prompt.unseen):
            return scene, prompt, alike(scene, index)[0]
        attempt += 1


def _damaged(row: _Row, drawn: Rendered, rng: np.random.Generator) -> tuple[np.ndarray, list[Defect]]:
    if row.category not in ("local", "global", "mixed"):
        return drawn.image, []
    kind, reach = row.detail, row.category
    if row.category == "mixed":
        reach, some = "local", (*KINDS_OF["technical"], *KINDS_OF["naturalness"])
        kind = str(rng.choice([k for k in some if (k in UNSEEN_DEFECTS) == (row.unseen == "damage")]))
    image, defect = damage(drawn, kind, reach, rng)
    return image, [defect]


def sample(number: int, split: int = TEST) -> Sample:
    """Sample `number` of the set, 0 <= number < `size_of(split)`; the same at every call."""
    row = _plan(split)[number]
    rng = np.random.default_rng((split, number, 1))
    scene, prompt, index = _described(row, split, number)
    drawn_scene, misaligned, thing = scene, None, None
    if row.category in ("alignment", "mixed"):
        misaligned, thing = row.detail, index
        drawn_scene = misalign(scene, index, misaligned, rng)
    image, defects = _damaged(row, render(drawn_scene), rng)
    mask = np.zeros((SIZE, SIZE), bool)
    unseen = set(prompt.unseen)
    for defect in defects:
        mask |= defect.mask
    if any(defect.kind in UNSEEN_DEFECTS for defect in defects):
        unseen.add("damage")
    if scene.style in HELD_OUT_STYLES:
        unseen.add("style")
    return Sample(
        number=number,
        category=row.category,
        prompt=prompt.text,
        scene=scene,
        truth=render(scene).image,
        image=image,
        defects=tuple(defects),
        mask=mask,
        mos=mos(defects),
        factors=factor_scores(defects),
        misaligned=misaligned,
        thing=thing,
        nouns=prompt.nouns,
        unseen=frozenset(unseen),
    )


def samples(limit: int | None = None, split: int = TEST) -> Iterator[Sample]:
    """The set, or `limit` samples spread evenly over all of its categories."""
    size = size_of(split)
    count = size if limit is None else min(limit, size)
    for position in range(count):
        yield sample(position * size // count, split)
