"""Pictures for runs of a batch, and what such a run left."""

import random

import numpy as np
from PIL import Image

from grefine_rt.batch import records as kept
from tests.support.fake_bundle import scene

KINDS = ("house", "tree", "sea", "poor")


def make(folder, count):
    """Pictures of random scenes, with side files."""
    folder.mkdir()
    draw = random.Random(3)
    for number in range(count):
        rows = [[draw.choice(KINDS) for _ in range(4)] for _ in range(4)]
        Image.fromarray(scene(rows)).save(folder / f"{number:03}.png")
        (folder / f"{number:03}.txt").write_text("a house, the sea")
    return folder


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def images(out):
    return {path.name: path.read_bytes() for path in (out / "images").iterdir()}


def said(out):
    """The records without what differs from run to run: times."""
    return [
        {name: value for name, value in record.items() if not name.endswith("_ms")}
        for record in kept.read(out)
    ]


def rows_of_a_run(count):
    """Records of a run, one in ten failed, with markup in what users wrote."""
    draw = random.Random(1)
    scores = [f"{name}_{when}" for name in ("perceptual", "alignment") for when in ("before", "after")]
    return [
        {
            "image_id": str(number),
            "image": f"<i>{number}</i>.png",
            "status": "refined",
            "prompt": "<script>alert(1)</script>",
            "total_ms": 10.0,
            **{score: draw.random() for score in scores},
        }
        if number % 10
        else {"image_id": str(number), "image": "x", "status": "failed", "error": f'No "{number}" <b>.'}
        for number in range(count)
    ]
