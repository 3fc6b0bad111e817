"""Agreement of scores with opinions: rank and linear correlations, in numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from grefine_rt.arrays import Doubles

_NAN = float("nan")
_STARTS, _EVERY = 4, 4
"""Descents of the logistic's fit: from the best widths of the grid, and from every fourth."""

_ROWS = 256
"""Rows of the matrix of pairs that are compared at once: 20,000 pictures then take 40 MB, not 3 GB."""


def plcc(scores: ArrayLike, opinions: ArrayLike) -> float:
    """Pearson's linear correlation of two rows (k,), -1..1; nan when one of them is constant."""
    first, second = _pair(scores, opinions)
    # Not told by the deviations: the mean of equal values may differ from them by rounding.
    if not (np.ptp(first) and np.ptp(second)):
        return _NAN
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))


def srcc(scores: ArrayLike, opinions: ArrayLike) -> float:
    """Spearman's rank correlation of two rows (k,), -1..1; nan when one of them is constant."""
    first, second = _pair(scores, opinions)
    return plcc(ranks(first), ranks(second))


def krcc(scores: ArrayLike, opinions: ArrayLike) -> float:
    """Kendall's rank correlation (tau-b, so ties are allowed) of two rows (k,), -1..1; nan as above."""
    first, second = _pair(scores, opinions)
    agreeing = 0
    for start in range(0, first.size, _ROWS):
        rows = slice(start, start + _ROWS)
        one, other = (np.sign(row[rows, None] - row[None, :]).astype(np.int8) for row in (first, second))
        agreeing += int((one * other).sum(dtype=np.int64))
    untied = [
        row.size**2 - int((np.unique(row, return_counts=True)[1] ** 2).sum()) for row in (first, second)
    ]
    scale = float(np.sqrt(float(untied[0]) * untied[1]))
    return agreeing / scale if scale else _NAN


def ranks(values: ArrayLike) -> Doubles:
    """Ranks from 1 of a row of values (k,); equal values share the mean of their ranks."""
    _, place, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[place], np.float64)


def plcc_fitted(scores: ArrayLike, opinions: ArrayLike) -> float:
    """Pearson's correlation after the scores (k,) went through the logistic that fits the opinions (k,) best.

    The usual report of image quality assessment: scores need not be linear in opinion. nan when
    one of them is constant or there are fewer than 5 of them.
    """
    first, second = _pair(scores, opinions)
    if first.size < 5 or np.isnan(plcc(first, second)):
        return _NAN
    return plcc(logistic(first, fit_logistic(first, second)), second)


def logistic(scores: ArrayLike, parameters: Doubles) -> Doubles:
    """The four-parameter logistic (high - low) / (1 + exp(-(x - middle) / |width|)) + low of scores (k,).

    parameters: (high, low, middle, width); low above high makes it fall.
    """
    high, low, middle, width = parameters
    x = np.asarray(scores, np.float64)
    return np.asarray((high - low) * _sigmoid((x - middle) / abs(width)) + low, np.float64)


def fit_logistic(scores: ArrayLike, opinions: ArrayLike, steps: int = 500) -> Doubles:
    """The parameters of `logistic` with the least squared error, by Levenberg's and Marquardt's method.

    It starts where the video quality experts group does, at the extremes of the opinions, the scores' mean and a
    quarter of their deviation, and at the best places of a grid over middles and widths, for which high and low follow
    by linear least squares. A single start would end in the next hollow when a score lies far out. The best end is
    returned. Neither row (k,) may be constant.
    """
    raw, wanted = _pair(scores, opinions)
    mean, deviation = raw.mean(), raw.std()
    x = (raw - mean) / deviation  # so that one damping suits all four
    extremes = (wanted.max(), wanted.min()) if plcc(raw, wanted) >= 0 else (wanted.min(), wanted.max())
    starts = [np.array([*extremes, 0.0, 0.25]), *_grid_starts(x, wanted)]
    ends = [_descend(x, wanted, start, steps) for start in starts]
    fitted = min(ends, key=lambda end: end[1])[0]
    return np.array([fitted[0], fitted[1], mean + deviation * fitted[2], deviation * fitted[3]])


def _descend(x: Doubles, wanted: Doubles, fitted: Doubles, steps: int) -> tuple[Doubles, float]:
    """The end of the descent from `fitted`, and its squared error."""
    error, damping = float(((logistic(x, fitted) - wanted) ** 2).sum()), 1e-3
    for _ in range(steps):
        high, low, middle, width = fitted
        part = _sigmoid((x - middle) / abs(width))
        slope = (high - low) * part * (1 - part) / abs(width)
        jacobian = np.stack([part, 1 - part, -slope, -slope * (x - middle) / width], axis=1)
        normal, gradient = jacobian.T @ jacobian, jacobian.T @ (logistic(x, fitted) - wanted)
        damped = normal + damping * np.diag(np.maximum(normal.diagonal(), 1e-12))
        trial = fitted - np.linalg.solve(damped, gradient)
        trial_error = float(((logistic(x, trial) - wanted) ** 2).sum()) if trial[3] else float("inf")
        if not trial_error < error:
            damping *= 4
            if damping > 1e12:
                break
            continue
        gained, error, fitted = error - trial_error, trial_error, trial
        damping = max(damping / 3, 1e-12)
        if gained <= 1e-14 * error:
            break
    return fitted, error


def _grid_starts(x: Doubles, wanted: Doubles) -> list[Doubles]:
    """Starts on a grid of middles and widths: the least squared errors among all widths.

    Middles are the scores or quantiles of them, gaps between them and places beyond both ends; widths go from a step
    inside the smallest gap to nearly a line. For each, high and low are the linear least squares'.
    """
    places = np.unique(x) if x.size <= 64 else np.unique(np.quantile(x, np.linspace(0, 1, 48)))
    reach = np.ptp(x)
    beyond = reach * np.array([0.1, 0.3, 1.0, 3.0])
    middles = np.unique(
        np.concatenate([places[0] - beyond, places, (places[1:] + places[:-1]) / 2, places[-1] + beyond])
    )
    gap = max(float(np.diff(places).min()), 1e-4 * reach)
    widths = np.geomspace(gap / 20, 3 * reach, 32)
    centred = wanted - wanted.mean()
    errors = np.empty((len(widths), len(middles)))
    for row, width in enumerate(widths):
        for start in range(0, len(middles), 16):
            part = _sigmoid((x - middles[start : start + 16, None]) / width)
            part -= part.mean(1, keepdims=True)
            spread = (part**2).sum(1)
            explained = (part @ centred) ** 2 / np.maximum(spread, 1e-300)
            errors[row, start : start + 16] = -np.where(spread > 1e-12, explained, 0.0)
    # The best middle of every width: steep steps between two scores would else crowd out everything smooth.
    rows = np.argsort(errors.min(1), kind="stable")[:_STARTS]
    kept = {*rows, *range(0, len(widths), _EVERY)}
    return [_linear(x, wanted, middles[errors[row].argmin()], widths[row]) for row in sorted(kept)]


def _linear(x: Doubles, wanted: Doubles, middle: float, width: float) -> Doubles:
    """The parameters with this middle and width whose high and low fit best."""
    part = _sigmoid((x - middle) / width)
    (high, low), *_ = np.linalg.lstsq(np.stack([part, 1 - part], axis=1), wanted, rcond=None)
    return np.array([high, low, middle, width])


def _sigmoid(values: Doubles) -> Doubles:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)), np.float64)


def _pair(scores: ArrayLike, opinions: ArrayLike) -> tuple[Doubles, Doubles]:
    first, second = np.asarray(scores, np.float64), np.asarray(opinions, np.float64)
    if first.shape != second.shape or first.ndim != 1 or first.size < 2:
        raise ValueError(f"two rows of one length, 2 or more, are needed: not {first.shape}, {second.shape}")
    return first, second
