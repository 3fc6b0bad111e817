"""Measures of detection and of likeness, in plain numpy; correlations are in `grefine_rt.evaluation.correlation`."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from grefine_rt.evaluation.correlation import ranks


def roc_auc(positive: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    positive: bool, any shape. score: of that shape, higher for positives. nan without both kinds.
    """
    truth, values = np.asarray(positive, bool).ravel(), np.asarray(score).ravel()
    if truth.shape != values.shape:
        raise ValueError(f"{truth.size} labels do not fit {values.size} scores")
    yes, no = int(truth.sum()), int((~truth).sum())
    if not yes or not no:
        return float("nan")
    return float((ranks(values)[truth].sum() - yes * (yes + 1) / 2) / (yes * no))


def rmse(a: ArrayLike, b: ArrayLike, mask: NDArray[np.bool_] | None = None) -> float:
    """Root mean square difference of two pictures (H, W, 3); with `mask` (H, W) of its pixels alone."""
    difference = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if mask is not None:
        difference = difference[mask]
    return float(np.sqrt(np.mean(difference**2)))


def gradient(rgb: ArrayLike, mask: NDArray[np.bool_]) -> float:
    """Mean magnitude of the change from one pixel of a picture (H, W, 3) to the next, within `mask` (H, W) that is not
    empty; 0 where it has no two neighbours."""
    picture = np.asarray(rgb, np.float64)
    steps = []
    for axis in (0, 1):
        both = np.take(mask, range(1, mask.shape[axis]), axis) & np.take(
            mask, range(mask.shape[axis] - 1), axis
        )
        steps.append(np.abs(np.diff(picture, axis=axis)).mean(axis=2)[both])
    all_steps = np.concatenate(steps)
    return float(all_steps.mean()) if all_steps.size else 0.0


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures, dB; inf when they are equal."""
    error = rmse(a, b)
    return float(20 * np.log10(255 / error)) if error else float("inf")
