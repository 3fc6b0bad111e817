"""The ImageReward scalar: what people would prefer, judged from picture and prompt together (method, section 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from grefine_rt.arrays import Floats
from grefine_rt.bundle.manifest import Reward
from grefine_rt.engine.batch import run_rows
from grefine_rt.models.bundle import Bundle


def rewards(bundle: Bundle, images: Floats, prompts: Sequence[str]) -> list[float]:
    """The standardised reward, about -2.5 to 2.5, of each picture for its prompt.

    `images` are the pictures as `alignment_image` takes them, float32 (b, 3, R, R), RGB in [0, 1]. Raises
    BundleError, DeviceError and PromptError.
    """
    (tokenizer,) = bundle.tokenizer("alignment_text")
    ids = np.stack([tokenizer.encode(prompt) for prompt in prompts])
    found = run_rows(bundle.engine("image_reward"), {"image": images, "ids": ids}, ["reward"])
    return [float(reward) for reward in found["reward"]]


def as_score(reward: float, settings: Reward) -> float:
    """The reward as a score in [0, 1]: sigmoid(slope * (reward - centre))."""
    return 0.5 * (1.0 + math.tanh(0.5 * settings.slope * (reward - settings.centre)))
