"""Prompts of scenes, in the ways people write them."""

from __future__ import annotations

import numpy as np

from grefine_export.mini.palette import SETTINGS
from grefine_export.mini.things import SKY_KINDS
from grefine_export.mini.world import Scene

STYLES = ("sentence", "list", "setting-first", "weighted", "related")
_CARRIERS = ("", "", "", "a picture of ", "an illustration of ", "a painting of ")
_LIST_TAILS = ("", "", ", storybook style", ", best quality")


def with_article(name: str) -> str:
    """`an orange cat`, `a red house`."""
    return ("an " if name[0] in "aeiou" else "a ") + name


def _joined(names: list[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def prompt_of(scene: Scene, rng: np.random.Generator, style: str | None = None) -> str:
    """A prompt that says every thing with its colour (and its size where it is not medium) and the place."""
    style = style or str(rng.choice(STYLES))
    setting = SETTINGS[scene.setting]
    place = str(rng.choice(setting.words))
    things = [scene.things[k] for k in rng.permutation(len(scene.things))]
    names = [thing.name for thing in things]
    if style == "list":
        return ", ".join([*names, setting.noun.removeprefix("a ")]) + str(rng.choice(_LIST_TAILS))
    names = [with_article(name) for name in names]
    carrier = str(rng.choice(_CARRIERS))
    if style == "setting-first":
        return f"{carrier}{setting.noun} with {_joined(names)}"
    if style == "weighted":
        marked = int(rng.integers(len(names)))
        names[marked] = f"({names[marked]}:{rng.choice([1.1, 1.2, 1.3])})"
        return f"{carrier}{_joined(names)} {place}"
    if style == "related" and len(things) > 1:
        first_in_sky, second_in_sky = (thing.kind in SKY_KINDS for thing in things[:2])
        relation = "next to"
        if first_in_sky != second_in_sky:
            relation = "above" if first_in_sky else "under"
        rest = "" if len(names) == 2 else f", with {names[2]}"
        return f"{carrier}{names[0]} {relation} {names[1]} {place}{rest}"
    return f"{carrier}{_joined(names)} {place}"
