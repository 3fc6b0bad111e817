"""Measures of agreement and of likeness, in plain numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def _pair(a: ArrayLike, b: ArrayLike) -> tuple[Floats, Floats]:
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if first.shape != second.shape or first.ndim != 1 or first.size < 2:
        raise ValueError(
            f"two rows of the same length, 2 or more, are needed, not {first.shape} and {second.shape}"
        )
    return first, second


def ranks(values: ArrayLike) -> Floats:
    """Ranks from 1 of a row of values (k,); equal values share the mean of their ranks."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)


def plcc(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's linear correlation of two rows (k,), -1..1; nan when one of them is constant."""
    first, second = _pair(a, b)
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale else float("nan")


def srcc(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two rows (k,), -1..1; nan when one of them is constant."""
    first, second = _pair(a, b)
    return plcc(ranks(first), ranks(second))


def krcc(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's rank correlation (tau-b: ties allowed) of two rows (k,), -1..1; nan when one is constant."""
    first, second = _pair(a, b)
    one, other = (np.sign(row[:, None] - row[None, :]) for row in (first, second))
    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale else float("nan")


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


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures, dB; inf when they are equal."""
    error = rmse(a, b)
    return float(20 * np.log10(255 / error)) if error else float("inf")
