"""Photographs and paintings that packages ship: pictures that no bundle of a drawn world was made for.

They come with scikit-image, scikit-learn and matplotlib (extra `bench`), so nothing is downloaded when the benchmark
runs. Pictures that are drawn by code to fit a domain (`grefine_export.mini.foreign`) are not among them.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import util
from pathlib import Path

import numpy as np
from PIL import Image

from grefine_rt.errors import DatasetError

FACES = 8
"""Of the 100 faces of 25 x 25 pixels in scikit-image, greyscale, enlarged to `FACE_SIDE`."""
FACE_SIDE = 128

SHIPPED: dict[str, dict[str, str]] = {
    "skimage": {
        "data/astronaut.png": "a portrait of a smiling astronaut in an orange suit",
        "data/brick.png": "a wall of bricks",
        "data/camera.png": "a man with a camera on a tripod",
        "data/cell.png": "a cell under a microscope",
        "data/chelsea.png": "the face of a brown cat",
        "data/clock_motion.png": "a clock on a wall",
        "data/coffee.png": "a red cup of coffee on a wooden table",
        "data/coins.png": "old coins on a dark ground",
        "data/grass.png": "green grass",
        "data/gravel.png": "grey gravel",
        "data/hubble_deep_field.jpg": "galaxies in a black sky",
        "data/ihc.png": "brown and blue tissue under a microscope",
        "data/microaneurysms.png": "blood vessels of an eye",
        "data/moon.png": "craters of the moon",
        "data/motorcycle_left.png": "a motorcycle in a garage",
        "data/motorcycle_right.png": "a red motorcycle beside a shelf",
        "data/page.png": "a page of printed text",
        "data/retina.jpg": "the retina of an eye",
        "data/rocket.jpg": "a white rocket above a launch pad",
        "data/text.png": "handwritten words on paper",
    },
    "sklearn": {
        "datasets/images/china.jpg": "a temple with a yellow roof under a blue sky",
        "datasets/images/flower.jpg": "a red flower before green leaves",
    },
    "matplotlib": {
        "mpl-data/sample_data/grace_hopper.jpg": "a portrait of a woman in uniform before a flag",
        "mpl-data/sample_data/Minduka_Present_Blue_Pack.png": "a blue present with a ribbon",
    },
}
"""Files by package, each with a prompt that describes it."""


def photographs(limit: int | None = None) -> Iterator[tuple[str, np.ndarray, str]]:
    """Names, pictures uint8 (H, W, 3) of any size, and prompts; `limit` of them, spread evenly.

    Raises DatasetError where a package is not installed or does not ship a file any more.
    """
    names = [(package, file) for package, files in SHIPPED.items() for file in files]
    names += [("skimage", f"data/lfw_subset.npy#{index}") for index in range(FACES)]
    count = len(names) if limit is None else min(limit, len(names))
    for position in range(count):
        package, file = names[position * len(names) // count]
        if "#" in file:
            path, number = file.split("#")
            yield f"{package}/{file}", _face(package, path, int(number)), "the face of a person"
        else:
            with _opened(package, file).open("rb") as stream:
                picture = np.asarray(Image.open(stream).convert("RGB"))
            yield f"{package}/{file}", picture, SHIPPED[package][file]


def _opened(package: str, file: str) -> Path:
    spec = util.find_spec(package)  # these packages take long to import, and only their files are wanted
    if spec is None or not spec.submodule_search_locations:
        raise DatasetError(
            f"The pictures of the package {package} are wanted, which is not here: install the extra 'bench'."
        )
    found = Path(spec.submodule_search_locations[0], file)
    if not found.is_file():
        raise DatasetError(
            f"The package {package} ships no '{file}' any more: install the version of the extra 'bench'."
        )
    return found


def _face(package: str, file: str, number: int) -> np.ndarray:
    with _opened(package, file).open("rb") as stream:
        face = np.load(stream, allow_pickle=False)[number]
    grey = Image.fromarray(np.asarray(np.clip(np.round(255 * face), 0, 255), np.uint8))
    return np.asarray(grey.resize((FACE_SIDE, FACE_SIDE), Image.Resampling.BICUBIC).convert("RGB"))
