"""The ImageReward scalar: what people would prefer, judged from picture and prompt together (method, section 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from grefine_rt.engine.batch import run_rows
from grefine_rt.imaging.image import encoder_input

if TYPE_CHECKING:
    from grefine_rt.bundle.manifest import Reward
    from grefine_rt.bundle.store import Bundle


def rewards(bundle: Bundle, pictures: Sequence[NDArray[np.uint8]], prompts: Sequence[str]) -> list[float]:
    """The standardised reward, about -2.5 to 2.5, of each picture, uint8 RGB (H, W, 3), for its prompt.

    Raises BundleError, DeviceError and PromptError.
    """
    resolution = bundle.manifest.alignment.resolution
    (tokenizer,) = bundle.tokenizer("alignment_text")
    both = {
        "image": np.concatenate([encoder_input(rgb, resolution) for rgb in pictures]),
        "ids": np.stack([tokenizer.encode(prompt) for prompt in prompts]),
    }
    return [float(r) for r in run_rows(bundle.engine("image_reward"), both, ["reward"])["reward"]]


def as_score(reward: float, settings: Reward) -> float:
    """The reward as a score in [0, 1]: sigmoid(slope * (reward - centre))."""
    return 0.5 * (1.0 + math.tanh(0.5 * settings.slope * (reward - settings.centre)))
