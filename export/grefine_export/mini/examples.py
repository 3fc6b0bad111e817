"""The example pictures of the project: `python -m grefine_export.mini.examples` draws them into `examples/`.

Each is a scene of its own seed, in neither the training nor the test set, with its prompt in a text file of the
same name.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from grefine_export.mini.defects import damage
from grefine_export.mini.heldout import misalign
from grefine_export.mini.world import Scene, Thing, render

EXAMPLES = 10  # first word of their seeds

_CLEAN = Scene(
    "beach",
    (Thing("sun", "yellow", "medium", 30, 30, False), Thing("boat", "red", "large", 84, 84, False)),
    10_001,
)
_LOCAL = Scene(
    "meadow",
    (Thing("tent", "blue", "large", 44, 86, False), Thing("sun", "yellow", "medium", 98, 28, False)),
    10_002,
)
_BROKEN = replace(_LOCAL, seed=10_205)
_TENT = "a large blue tent under a yellow sun in a meadow"
_MISSING = Scene(
    "snow",
    (Thing("house", "purple", "medium", 36, 84, False), Thing("balloon", "orange", "medium", 90, 34, False)),
    10_303,
)
_COLOUR = Scene(
    "sunset",
    (Thing("car", "green", "large", 60, 92, False), Thing("bird", "white", "medium", 92, 32, False)),
    10_004,
)


def examples() -> dict[str, tuple[np.ndarray, str]]:
    """Name -> (picture uint8 (128, 128, 3), prompt)."""
    local, _ = damage(render(_LOCAL), "contrast", "local", np.random.default_rng((EXAMPLES, 5)))
    broken, _ = damage(render(_BROKEN), "moved", "local", np.random.default_rng((EXAMPLES, 24)))
    rng = np.random.default_rng((EXAMPLES, 1))
    missing = misalign(_MISSING, 1, "missing", rng)
    coloured = misalign(_COLOUR, 0, "other-colour", rng)
    return {
        "clean": (render(_CLEAN).image, "a large red boat under a yellow sun on a beach"),
        "local_defect": (local, _TENT),
        "broken_shape": (broken, _TENT),
        "missing_thing": (render(missing).image, "a purple house and an orange balloon in the snow"),
        "wrong_colour": (render(coloured).image, "a picture of a large green car and a white bird at sunset"),
    }


def main(folder: Path = Path("examples")) -> None:
    """Writes every example as a PNG and a text file."""
    folder.mkdir(exist_ok=True)
    for name, (image, prompt) in examples().items():
        Image.fromarray(image).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(prompt + "\n")


if __name__ == "__main__":
    main()
