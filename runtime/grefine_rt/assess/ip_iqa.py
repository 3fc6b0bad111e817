"""IP-IQA: opinion scores from a picture and its prompt together, by a network of its own (IP-IQA, section 3).

Three graphs: the picture as keys and values of the attention pools, the prompt as the feature of its [QA]
token, and the two pools with the regression head (Eq. 2 to 5).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from grefine_rt.arrays import Rgb
from grefine_rt.assess.texts import TextFeatures
from grefine_rt.bundle.manifest import IpIqa
from grefine_rt.engine.batch import run_rows
from grefine_rt.errors import BundleError
from grefine_rt.imaging.image import encoder_input
from grefine_rt.models.bundle import Bundle


def rate(
    bundle: Bundle,
    settings: IpIqa,
    pictures: Sequence[Rgb],
    prompts: Sequence[str],
    texts: TextFeatures,
) -> list[dict[str, float]]:
    """The scores of each picture, uint8 RGB (H, W, 3) of any size, by the names in `settings.outputs`.

    They are in the units of the opinion scores that the weights were trained on (0..5 for AGIQA-1K and
    AGIQA-3K), not clipped. `texts` encodes with `ip_iqa_text`. Raises BundleError, also for a graph with
    another number of scores, and DeviceError.
    """
    images = np.concatenate([encoder_input(rgb, settings.resolution) for rgb in pictures])
    tokens = run_rows(bundle.engine("ip_iqa_image"), {"image": images}, ["tokens"])["tokens"]
    both = {"tokens": tokens, "features": texts(prompts)}
    scores = run_rows(bundle.engine("ip_iqa_fusion"), both, ["scores"])["scores"]
    if scores.shape[1] != len(settings.outputs):
        raise BundleError(
            f"Bundle '{bundle.manifest.name}' names {len(settings.outputs)} scores of IP-IQA, but its graph "
            f"gives {scores.shape[1]}: export it again with 'grefine-export ip-iqa'."
        )
    return [dict(zip(settings.outputs, map(float, row), strict=True)) for row in scores]
