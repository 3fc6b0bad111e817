"""The fixed test set of the storybook world: 500 pictures with their truth, which training never sees.

Its seeds start with `TEST`, those of training with `pool.TRAINING`, so no scene can be in both by seed;
`scene_key` tells whether two scenes are the same picture all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from grefine_export.mini.defects import (
    NATURALNESS,
    RATIONALITY,
    TECHNICAL,
    Defect,
    damage,
    factor_scores,
    mos,
)
from grefine_export.mini.palette import COLOURS
from grefine_export.mini.prompts import prompt_of
from grefine_export.mini.things import KINDS
from grefine_export.mini.world import SIZE, Rendered, Scene, Thing, make_scene, render, with_thing, without

TEST = 7
VALIDATION = 8  # for fitting constants: neither trained on nor reported
CLEAN, LOCAL_EACH, GLOBAL_EACH, ALIGNMENT_EACH, MIXED = 120, 16, 6, 40, 42
ALIGNMENT = ("missing", "other-thing", "other-colour")


@dataclass(frozen=True)
class Sample:
    """One picture of the test set.

    Attributes:
        number: its place in the set; also its seed.
        category: "clean", "local", "global", "alignment" or "mixed".
        prompt: what the picture should show; `scene` is that as data.
        truth: uint8 (128, 128, 3), the picture that the prompt describes, without defects.
        image: uint8 (128, 128, 3), the picture as a weak generator drew it.
        defects: perceptual defects; `mask` bool (128, 128) is where they are.
        mos: 1..5; `factors`: technical, rationality, naturalness, 0..1.
        misaligned: one of `ALIGNMENT` or None; then `thing` is the index in `scene.things` of the thing that is
            missing or wrong.
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

    @property
    def wanted(self) -> Thing | None:
        """The thing of the prompt that the picture lacks."""
        return None if self.thing is None else self.scene.things[self.thing]


def scene_key(scene: Scene) -> tuple[object, ...]:
    """What makes two scenes the same picture: place and things; grain and hills aside."""
    things = ((t.kind, t.colour, t.size, round(t.x), round(t.y), t.flip) for t in scene.things)
    return (scene.setting, tuple(sorted(things)))


def _plan() -> list[tuple[str, str]]:
    """(category, detail) of every sample, in order."""
    rows = [("clean", "")] * CLEAN
    rows += [("local", kind) for kind in (*TECHNICAL, *NATURALNESS, *RATIONALITY) for _ in range(LOCAL_EACH)]
    rows += [("global", kind) for kind in (*TECHNICAL, *NATURALNESS) for _ in range(GLOBAL_EACH)]
    rows += [("alignment", kind) for kind in ALIGNMENT for _ in range(ALIGNMENT_EACH)]
    rows += [("mixed", ALIGNMENT[k % 3]) for k in range(MIXED)]
    return rows


SIZE_OF_SET = len(_plan())


def misalign(scene: Scene, index: int, how: str, rng: np.random.Generator) -> Scene:
    """What was drawn instead of `scene`: its thing `index` is missing, another thing, or of another colour."""
    thing = scene.things[index]
    if how == "missing":
        return without(scene, index)
    if how == "other-thing":
        used = {t.kind for t in scene.things}
        return with_thing(
            scene, index, replace(thing, kind=str(rng.choice([k for k in KINDS if k not in used])))
        )
    return with_thing(
        scene, index, replace(thing, colour=str(rng.choice([c for c in COLOURS if c != thing.colour])))
    )


def sample(number: int, split: int = TEST) -> Sample:
    """Sample `number` of the set, 0 <= number < `SIZE_OF_SET`; the same at every call."""
    category, detail = _plan()[number]
    rng = np.random.default_rng((split, number, 1))
    scene = make_scene((split, number))
    attempt = 0
    while detail == "missing" and len(scene.things) < 2:  # something must be left in the picture
        attempt += 1
        scene = make_scene((split, number, 100 + attempt))
    drawn_scene, misaligned, index = scene, None, None
    if category in ("alignment", "mixed"):
        misaligned, index = detail, int(rng.integers(len(scene.things)))
        drawn_scene = misalign(scene, index, misaligned, rng)
    drawn = render(drawn_scene)
    image, defects = drawn.image, []
    if category in ("local", "global"):
        image, defect = damage(drawn, detail, category, rng)
        defects = [defect]
    elif category == "mixed":
        kind = str(rng.choice([*TECHNICAL, *NATURALNESS]))
        image, defect = damage(Rendered(image, drawn.owner), kind, "local", rng)
        defects = [defect]
    mask = np.zeros((SIZE, SIZE), bool)
    for defect in defects:
        mask |= defect.mask
    return Sample(
        number=number,
        category=category,
        prompt=prompt_of(scene, rng),
        scene=scene,
        truth=render(scene).image,
        image=image,
        defects=tuple(defects),
        mask=mask,
        mos=mos(defects),
        factors=factor_scores(defects),
        misaligned=misaligned,
        thing=index,
    )


def samples(limit: int | None = None, split: int = TEST) -> Iterator[Sample]:
    """The set, or `limit` samples spread evenly over all of its categories."""
    count = SIZE_OF_SET if limit is None else min(limit, SIZE_OF_SET)
    for position in range(count):
        yield sample(position * SIZE_OF_SET // count, split)
