"""A bundle of small Python objects in place of ONNX graphs, with behaviour that tests can foresee.

The world: 8 x 8 patches of one colour. Magenta patches are of poor quality. Red patches show a house, green
ones a tree, blue ones the sea. Stage 1 draws green wherever its mask is; stage 2 makes the picture a little
brighter.
"""

import re
from collections import Counter
from dataclasses import replace

import numpy as np

from grefine_rt.bundle.manifest import (
    Alignment,
    Inpaint,
    Manifest,
    Perceptual,
    Plan,
    Restore,
    TokenizerSpec,
)
from grefine_rt.contract import Schedule
from grefine_rt.engine.base import TensorSpec
from grefine_rt.engine.devices import Choice

SIDE = 128
GRID = 8
COLOURS = {
    "house": (200, 30, 30),
    "tree": (30, 200, 30),
    "sea": (30, 30, 200),
    "poor": (200, 30, 200),
    "nothing": (120, 120, 120),
}
AXES = {"house": 1, "tree": 2, "sea": 3, "tall": 4}
BRIGHTER = 0.1
SCHEDULE = Schedule(1000, 0.00085, 0.012, "leading", 1)


def manifest():
    return Manifest(
        format=1,
        name="fake",
        version="1",
        description="",
        weights=(),
        perceptual=Perceptual(SIDE, GRID, (0.9, 0.9, 0.9), "calibrated", "vv"),
        alignment=Alignment(SIDE, GRID, 12.0, 0.5, 0.7, "clip"),
        plan=Plan(0.5, 0.5, 0.9, "union", "deficit", "ancestor", 1.0, 1.0, 0.01, 1.0),
        inpaint=Inpaint(SIDE, 16, 4, "euler", 2.0, 1, "zeros", "epsilon", SCHEDULE, True),
        restore=Restore(
            SIDE, 16, 4, 0.5, "ddim", 1.0, 1.0, "clean", "blurry", "epsilon", SCHEDULE, "difference"
        ),
        tokenizers={
            name: (TokenizerSpec("t.json", "ids", 16),)
            for name in ("alignment_text", "inpaint_text", "restore_text")
        },
        components={},
        files={},
    )


def scene(rows, width=SIDE, height=SIDE):
    """A picture uint8 (height, width, 3) from rows of names, each a tile of equal size."""
    tiles = np.array([[COLOURS[name] for name in row] for row in rows], np.uint8)
    y = np.arange(height) * len(rows) // height
    x = np.arange(width) * len(rows[0]) // width
    return tiles[y[:, None], x[None, :]]


def normalised(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def pool(planes):
    b, c, h, w = planes.shape
    return planes.reshape(b, c, h // 8, 8, w // 8, 8).mean(axis=(3, 5))


class Tokenizer:
    def encode(self, text):
        ids = [AXES[word] for word in re.findall(r"\w+", text.lower()) if word in AXES]
        return np.array((ids + [0] * 16)[:16], np.int64)

    def encode_weighted(self, chunks):
        ids, weights = [0] * 16, [1.0] * 16
        words = [(word, chunk.weight) for chunk in chunks for word in re.findall(r"\w+", chunk.text)]
        for place, (word, weight) in enumerate(words[:15]):
            ids[place], weights[place] = AXES.get(word, 5), weight
        return np.array(ids, np.int64), np.array(weights, np.float32)


class Engine:
    """The Engine protocol over a Python function."""

    device = "cpu"
    seconds = 0.0
    largest = {}  # noqa: RUF012

    def __init__(self, function, inputs=()):
        self.inputs = {name: TensorSpec(name, np.dtype(np.float32), ()) for name in inputs}
        self.outputs = {}
        self.calls = 0
        self._function = function

    def run(self, arrays, outputs=None):
        self.calls += 1
        results = self._function(**arrays)
        return {name: results[name] for name in outputs or results}

    def bind(self):
        return Binding(self)


class Binding:
    """Buffers are lists of one array."""

    def __init__(self, engine):
        self._engine, self._inputs, self._outputs = engine, {}, {}

    def buffer(self, shape, dtype=np.float32):
        return [np.full(shape, np.nan, dtype)]

    def upload(self, array):
        return [np.array(array)]

    def set_input(self, name, value):
        self._inputs[name] = value

    def set_output(self, name, value):
        self._outputs[name] = value

    def run(self):
        results = self._engine.run({name: value[0] for name, value in self._inputs.items()})
        for name, value in self._outputs.items():
            value[0] = results[name]

    def fetch(self, value):
        return value[0].copy()


def look(image):
    """`perceptual` and `alignment_image` in one graph."""
    rows = [look_at(one) for one in image]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def look_at(image):
    patches = image.reshape(3, GRID, SIDE // GRID, GRID, SIDE // GRID).mean(axis=(2, 4)).reshape(3, -1).T
    kinds = [min(COLOURS, key=lambda name: np.abs(255.0 * patch - COLOURS[name]).sum()) for patch in patches]
    good = np.array([0.05 if kind == "poor" else 0.97 for kind in kinds], np.float32)
    pairs = np.repeat(np.append(good.mean(), good)[:, None], 4, axis=1).astype(np.float32)
    tokens = np.zeros((GRID * GRID, 6), np.float32)
    tokens[:, 0] = 0.3
    for token, kind in zip(tokens, kinds, strict=True):
        token[AXES.get(kind, 5)] = 1.0
    shown = (tokens > 0.9).any(axis=0) * 1.0
    tokens = normalised(np.vstack([np.append([0.3], shown[1:]), tokens])).astype(np.float32)
    return {"pairs": pairs, "published": np.stack([pairs, 1 - pairs], -1), "tokens": tokens}


def read(ids):
    counts = np.stack([(ids == axis).sum(axis=1) > 0 for axis in range(6)], axis=1).astype(np.float32)
    counts[:, 0] = (ids.sum(axis=1) == 0) * 1.0  # only the empty text
    return {"features": normalised(counts).astype(np.float32)}


def context(ids):
    return {"context": np.repeat(ids[..., None], 4, axis=2).astype(np.float32) + 1.0}


def encode(image):
    return {"latent": np.concatenate([pool(image), np.zeros_like(pool(image)[:, :1])], axis=1)}


def decode(latent):
    return {"image": latent[:, :3].repeat(8, axis=2).repeat(8, axis=3)}


def solve(sample, clean, coefficients):
    return {"next": (coefficients[3] * sample + coefficients[4] * clean).astype(np.float32), "clean": clean}


def inpaint_step(sample, mask, masked_latent, coefficients, **_):
    green = np.array([*COLOURS["tree"], 127.5], np.float32)[None, :, None, None] / 127.5 - 1
    # A trace of the noise stays, so that another seed gives another picture.
    drawn = np.clip(green + 0.02 * np.tanh(sample), -1, 1)
    return solve(sample, (mask * drawn + (1 - mask) * masked_latent).astype(np.float32), coefficients)


def restore_step(sample, control, coefficients, **_):
    clean = pool(control) * 2 - 1 + 2 * BRIGHTER
    clean = np.concatenate([clean, np.zeros_like(clean[:, :1])], axis=1).astype(np.float32)
    return solve(sample, clean, coefficients)


class Bundle:
    choices = (Choice("perceptual", "onnxruntime-cpu", "cpu", "No NVIDIA GPU with a driver is here."),)

    def __init__(self, shared=True):
        self.manifest = manifest()
        image = Engine(look, ["image"])
        self.engines = {
            "perceptual": image,
            "alignment_image": image if shared else Engine(look, ["image"]),
            "alignment_text": Engine(read, ["ids"]),
            "inpaint_text": Engine(context, ["ids"]),
            "inpaint_encode": Engine(encode, ["image"]),
            "inpaint_step": Engine(
                inpaint_step,
                ["sample", "noise", "mask", "masked_latent", "context", "timestep", "coefficients"],
            ),
            "inpaint_decode": Engine(decode, ["latent"]),
            "restore_text": Engine(context, ["ids"]),
            "restore_encode": Engine(encode, ["image"]),
            "restore_step": Engine(
                restore_step, ["sample", "noise", "control", "context", "timestep", "coefficients"]
            ),
            "restore_decode": Engine(decode, ["latent"]),
        }
        self.asked = Counter()

    def engine(self, component):
        self.asked[component] += 1
        return self.engines[component]

    def foresee(self, components=None):
        (choice,) = self.choices
        return tuple(
            replace(choice, component=name) for name in self.engines if name in (components or [name])
        )

    def tokenizer(self, component):
        return [Tokenizer()]
