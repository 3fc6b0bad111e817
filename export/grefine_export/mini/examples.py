"""The example pictures of the project: `python -m grefine_export.mini.examples` makes them in `examples/`.

Five are scenes of their own seeds, in neither the training nor the test set. The sixth is a photograph, which the
embedded bundle must not touch: the astronaut Eileen Collins, taken by NASA and in the public domain, as scikit-image
(extra `bench`) ships it. Each has its prompt in a text file of the same name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from PIL import Image

from grefine_export.mini.defects import damage
from grefine_export.mini.heldout import misalign
from grefine_export.mini.world import SIZE, Scene, Thing, render

EXAMPLES = 10
"""First word of their seeds."""


@dataclass(frozen=True)
class Example:
    """A scene and what is wrong with it: `wrong`, the place of a thing in the scene and what was done to it instead,
    and `damaged`, a kind of local damage. `seed` is the second word of the seeds of both."""

    scene: Scene
    prompt: str
    seed: int
    wrong: tuple[int, str] | None = None
    damaged: str | None = None

    def draw(self) -> np.ndarray:
        """The picture, uint8 (128, 128, 3)."""
        rng = np.random.default_rng((EXAMPLES, self.seed))
        drawn = render(self.scene if self.wrong is None else misalign(self.scene, *self.wrong, rng))
        return drawn.image if self.damaged is None else damage(drawn, self.damaged, "local", rng)[0]


def _thing(kind: str, colour: str, size: str, x: int, y: int) -> Thing:
    return Thing(kind, colour, size, x, y, False)


def _tent_under_a_sun(seed: int) -> Scene:
    tent, sun = _thing("tent", "blue", "large", 44, 86), _thing("sun", "yellow", "medium", 98, 28)
    return Scene("meadow", (tent, sun), seed)


_BEACH = (_thing("sun", "yellow", "medium", 30, 30), _thing("boat", "red", "large", 84, 84))
_SNOW = (_thing("house", "purple", "medium", 36, 84), _thing("balloon", "orange", "medium", 90, 34))
_MEADOW = (_thing("tree", "green", "large", 36, 78), _thing("mushroom", "red", "medium", 92, 92))
_TENT = "a large blue tent under a yellow sun in a meadow"

DRAWN: Mapping[str, Example] = {
    "clean": Example(Scene("beach", _BEACH, 10_001), "a large red boat under a yellow sun on a beach", 1),
    "broken_shape": Example(
        Scene("snow", _SNOW, 10_038),
        "a purple house and an orange balloon in the snow",
        38,
        damaged="moved",
    ),
    "missing_thing": Example(_tent_under_a_sun(10_010), _TENT, 10, wrong=(0, "missing")),
    "wrong_colour": Example(
        Scene("meadow", _MEADOW, 10_005),
        "a large green tree and a red mushroom in a meadow",
        5,
        wrong=(1, "other-colour"),
    ),
    "two_defects": Example(_tent_under_a_sun(10_028), _TENT, 28, wrong=(0, "other-colour"), damaged="moved"),
}
PHOTOGRAPH = "a portrait of a smiling astronaut in an orange suit"


def photograph() -> np.ndarray:
    """The astronaut, uint8 (128, 128, 3). Raises ModuleNotFoundError where scikit-image is not installed."""
    with Image.open(str(files("skimage") / "data" / "astronaut.png")) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def examples() -> dict[str, tuple[np.ndarray, str]]:
    """Name -> (picture uint8 (128, 128, 3), prompt)."""
    drawn = {name: (example.draw(), example.prompt) for name, example in DRAWN.items()}
    return drawn | {"photograph": (photograph(), PHOTOGRAPH)}


def main(folder: Path = Path("examples")) -> None:
    """Writes every example as a PNG and a text file."""
    folder.mkdir(exist_ok=True)
    for name, (image, prompt) in examples().items():
        Image.fromarray(image).save(folder / f"{name}.png", optimize=True)
        (folder / f"{name}.txt").write_text(prompt + "\n")


if __name__ == "__main__":
    main()
