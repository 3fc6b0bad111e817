"""The ImageReward scalar: people's preference, judged from picture and prompt together (method, section 2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from grefine_rt.arrays import Array
from grefine_rt.assess.scorers.base import Batch, Scale, check_components
from grefine_rt.bundle import manifest
from grefine_rt.bundle.strict import check_ranges, read_strictly
from grefine_rt.engine.batch import run_rows
from grefine_rt.models.bundle import Bundle


@dataclass(frozen=True)
class Settings:
    """The reward as a share of its scale is sigmoid(slope * (reward - centre))."""

    slope: float
    centre: float


@dataclass(frozen=True)
class _Reward(Scale):
    """A scale of preference: its share is the probability of being preferred to a picture of reward `centre`."""

    slope: float = 1.0
    centre: float = 0.0

    def share(self, value: float) -> float:
        return 0.5 * (1.0 + math.tanh(0.5 * self.slope * (value - self.centre)))


class Metric:
    """ImageReward of a bundle: the standardised reward, of the pictures and ids that the alignment indicator takes."""

    def __init__(self, bundle: Bundle, entry: manifest.Metric, remembered: int = 0) -> None:
        check_components(bundle, "image_reward", entry, ("image_reward",))
        settings = read_strictly(Settings, entry.settings, "scorers.image_reward.settings.")
        check_ranges({"scorers.image_reward.settings.slope": settings.slope > 0})
        self._bundle = bundle
        measures = "how much people would prefer the picture for its prompt"
        self.scales: Mapping[str, Scale] = {
            "": _Reward(measures, -2.5, 2.5, slope=settings.slope, centre=settings.centre)
        }

    def score(self, batch: Batch) -> Sequence[Mapping[str, float]]:
        """Raises BundleError, DeviceError and PromptError."""
        (tokenizer,) = self._bundle.tokenizer("alignment_text")
        ids = np.stack([tokenizer.encode(prompt) for prompt in batch.texts(self._bundle, "alignment_text")])
        inputs: dict[str, Array] = {"image": batch.images, "ids": ids}
        found = run_rows(self._bundle.engine("image_reward"), inputs, ["reward"])["reward"]
        return [{"": float(reward)} for reward in found]
