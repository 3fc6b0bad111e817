"""The judge: is a thing of the storybook world, in its colour, in a picture?

It shares nothing with what it judges: a small network of its own, trained by `benchmarks.train_judge` on
scenes of its own seeds with the truth of every pixel. For each cell of 8 x 8 pixels it gives the probability
of every kind of thing and of every colour. A thing is present when the cells that show its kind in its
colour, within one window, make up enough of the area of the smallest such thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from grefine_export.mini.palette import COLOURS
from grefine_export.mini.things import KINDS

SIZE, CELL = 128, 8
WEIGHTS = Path(__file__).with_name("judge.onnx")
CARD = Path(__file__).with_name("judge.json")
KIND_INDEX = {kind: index + 1 for index, kind in enumerate(KINDS)}  # 0 is the background
COLOUR_INDEX = {colour: index for index, colour in enumerate(COLOURS)}


@dataclass(frozen=True)
class Rule:
    """When a thing counts as present.

    window: side of the window in cells. areas: area in cells of the smallest thing of each kind. share: how
    much of that area must be seen, about 0..1.
    """

    window: int
    share: float
    areas: dict[str, float]


@dataclass(frozen=True)
class Judge:
    """The network (`weights`, an ONNX file) and its rule."""

    weights: Path
    rule: Rule

    @classmethod
    def load(cls, weights: Path = WEIGHTS, card: Path = CARD) -> Judge:
        """The judge that comes with the benchmarks. Raises FileNotFoundError before `train_judge` has run."""
        return cls(weights, Rule(**json.loads(card.read_text())["rule"]))

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(self.weights, options, providers=["CPUExecutionProvider"])

    def look(self, image: np.ndarray) -> Sight:
        """What is where in `image`, uint8 (128, 128, 3). Raises ValueError for another size."""
        if image.shape != (SIZE, SIZE, 3) or image.dtype != np.uint8:
            raise ValueError(f"the judge looks at uint8 (128, 128, 3), not {image.dtype} {image.shape}")
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
        kinds, colours = self._session.run(["kinds", "colours"], {"image": planes})
        return Sight(kinds[0], colours[0], self.rule)

    def present(self, image: np.ndarray, kind: str, colour: str) -> bool:
        """Whether a `colour` `kind` is in `image`, uint8 (128, 128, 3)."""
        return self.look(image).shows(kind, colour)


@dataclass(frozen=True, eq=False)
class Sight:
    """What the judge sees in one picture: `kinds` float32 (15, 16, 16), background first, and `colours`
    (9, 16, 16), both probabilities over the first axis."""

    kinds: np.ndarray
    colours: np.ndarray
    rule: Rule

    def score(self, kind: str, colour: str) -> float:
        """The most of a `colour` `kind` in one window, in areas of the smallest such thing; 0 and up."""
        cells = self.kinds[KIND_INDEX[kind]] * self.colours[COLOUR_INDEX[colour]]
        side = self.rule.window
        windows = np.lib.stride_tricks.sliding_window_view(cells, (side, side))
        return float(windows.sum(axis=(2, 3)).max()) / self.rule.areas[kind]

    def shows(self, kind: str, colour: str) -> bool:
        """Whether a `colour` `kind` is there."""
        return self.score(kind, colour) >= self.rule.share

    def shown(self, wanted: Iterable[tuple[str, str]]) -> list[bool]:
        """`shows` for several (kind, colour)."""
        return [self.shows(kind, colour) for kind, colour in wanted]
