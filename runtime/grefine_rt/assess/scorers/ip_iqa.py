"""IP-IQA: opinion scores from a picture and its prompt together, by a network of its own (IP-IQA, section 3).

Three graphs: the picture as keys and values of the attention pools, the prompt as the feature of its [QA]
token, and the two pools with the regression head (Eq. 2 to 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from grefine_rt.assess.scorers.base import Batch, Scale, check_components
from grefine_rt.assess.texts import TextFeatures
from grefine_rt.bundle import manifest
from grefine_rt.bundle.strict import check_ranges, read_strictly
from grefine_rt.engine.batch import run_rows
from grefine_rt.errors import BundleError
from grefine_rt.imaging.image import encoder_input
from grefine_rt.models.bundle import Bundle

_MEASURES = {
    "quality": "how good the picture looks, as people rate it",
    "alignment": "how well it shows its prompt, as people rate it",
}


@dataclass(frozen=True)
class Settings:
    """Input side in pixels, the names of the columns of `scores`, and the scale of the opinions behind them.
    `positions`: whether the cross-modality pool has a position table of its own or reads the attention pool's; it is
    already in the graphs and stands here for the record."""

    resolution: int
    outputs: tuple[Literal["quality", "alignment"], ...]
    positions: Literal["own", "shared"] = "shared"
    scale: tuple[float, ...] = (0.0, 5.0)


class Metric:
    """IP-IQA of a bundle. Scores are in the units of the opinions that the weights were trained on, not clipped."""

    def __init__(self, bundle: Bundle, entry: manifest.Metric, remembered: int = 0) -> None:
        check_components(bundle, "ip_iqa", entry, ("ip_iqa_image", "ip_iqa_text", "ip_iqa_fusion"))
        settings = read_strictly(Settings, entry.settings, "scorers.ip_iqa.settings.")
        low, high = settings.scale if len(settings.scale) == 2 else (0.0, 0.0)
        fine = {
            "resolution": 0 < settings.resolution <= manifest.MAX_SIDE,
            "outputs": settings.outputs in (("quality",), ("quality", "alignment")),
            "scale": low < high,
        }
        check_ranges({f"scorers.ip_iqa.settings.{name}": is_fine for name, is_fine in fine.items()})
        self._bundle = bundle
        self._side = settings.resolution
        self._texts = TextFeatures(bundle, "ip_iqa_text", remembered)
        self.scales: Mapping[str, Scale] = {
            name: Scale(_MEASURES[name], low, high) for name in settings.outputs
        }

    def score(self, batch: Batch) -> Sequence[Mapping[str, float]]:
        """Raises BundleError, also for a graph with another number of scores, and DeviceError."""
        images = np.concatenate([encoder_input(rgb, self._side) for rgb in batch.pictures])
        tokens = run_rows(self._bundle.engine("ip_iqa_image"), {"image": images}, ["tokens"])["tokens"]
        both = {"tokens": tokens, "features": self._texts(batch.texts(self._bundle, "ip_iqa_text"))}
        scores = run_rows(self._bundle.engine("ip_iqa_fusion"), both, ["scores"])["scores"]
        if scores.shape[1] != len(self.scales):
            raise BundleError(
                f"Bundle '{self._bundle.manifest.name}' names {len(self.scales)} scores of IP-IQA, but its graph "
                f"gives {scores.shape[1]}: export it again with 'grefine-export ip-iqa'."
            )
        return [dict(zip(self.scales, map(float, row), strict=True)) for row in scores]
