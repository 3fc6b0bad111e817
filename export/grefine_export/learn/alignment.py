"""The constants of AQ-Map from opinion scores: softmax temperature (Eq. 5), beta (Eq. 8) and a_bound.

The encoders stay as they are. An assessment under any constants tells how much better than "" the picture matches the
prompt, each noun and each phrase; from these log odds every other choice of constants follows without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from grefine_rt.assess.indicator import Assessment
from grefine_rt.bundle.manifest import Alignment
from grefine_rt.evaluation.correlation import plcc, srcc

FALSE_ALARMS = 0.05  # share of well aligned pictures in which a noun may be called missing
ALIGNED = 0.25  # share of the pictures, those with the best opinions, that count as well aligned
TEMPERATURES = np.geomspace(1, 300, 24)
BETAS = np.geomspace(1e-3, 1, 16)

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The encoders' answers on k pictures: similarity to a text minus similarity to "", in units of the cosine.

    prompt (k,); nouns and phrases (k, j), filled up with inf where a prompt has fewer than j; opinions (k,).
    """

    prompt: Floats
    nouns: Floats
    phrases: Floats
    opinions: Floats


@dataclass(frozen=True)
class Fit:
    """The constants, and how a (Eq. 8) agrees with the opinions under them; `missing` is the share of all pictures
    with a noun below a_bound, `false_alarms` that of the well aligned ones."""

    temperature: float
    beta: float
    a_bound: float
    srcc: float
    plcc: float
    missing: float
    false_alarms: float


@dataclass(frozen=True)
class Observation:
    """The evidence on one picture; `nouns` and `phrases` have one entry for each phrase of the prompt."""

    prompt: float
    nouns: tuple[float, ...]
    phrases: tuple[float, ...]


def observe(assessment: Assessment, constants: Alignment) -> Observation:
    """The evidence in an assessment that was made under `constants`, a being Eq. 8; small, so that a database fits into
    memory."""

    def cosines(values: Sequence[float]) -> tuple[float, ...]:
        # float32 probabilities end at 1 - 6e-8; beyond that the order is lost, and 16 is as good as any.
        return tuple(np.clip(special.logit(np.array(values, np.float64)), -80, 16) / constants.temperature)

    known = [one for one in assessment.phrases if one.known]
    # Eq. 8 backwards: a is the prompt's own score times the penalties of its phrases.
    penalty = float(np.prod([min(one.phrase_score / constants.beta, 1.0) for one in known]))
    (prompt,) = cosines([min(assessment.alignment / max(penalty, 1e-300), 1.0)])
    nouns, wholes = [one.noun_score for one in known], [one.phrase_score for one in known]
    return Observation(prompt, cosines(nouns), cosines(wholes))


def gather(observations: Sequence[Observation], opinions: Sequence[float]) -> Evidence:
    """The evidence on a database; `opinions` are those on alignment, in the same order."""
    most = max((len(one.phrases) for one in observations), default=0)

    def rows(parts: Sequence[tuple[float, ...]]) -> Floats:
        return np.array([part + (np.inf,) * (most - len(part)) for part in parts]).reshape(len(parts), most)

    return Evidence(
        np.array([one.prompt for one in observations]),
        rows([one.nouns for one in observations]),
        rows([one.phrases for one in observations]),
        np.asarray(opinions, np.float64),
    )


def scores(found: Evidence, temperature: float, beta: float) -> Floats:
    """a of Eq. 8 (k,) under other constants."""
    phrases = special.expit(temperature * found.phrases)
    return np.asarray(special.expit(temperature * found.prompt) * np.minimum(phrases / beta, 1).prod(1))


def fit(found: Evidence) -> Fit:
    """Temperature and beta that make a agree best with the opinions, SRCC plus PLCC: a grid, then a simplex from its
    best point. a_bound: the number of nouns below it goes down with the opinion as surely as can be, while at most
    `FALSE_ALARMS` of the well aligned pictures have one.

    Raises ValueError (one sentence) for fewer than 8 pictures or opinions that are all the same.
    """
    opinions = found.opinions
    if len(opinions) < 8 or np.ptp(opinions) == 0:
        raise ValueError(
            "the constants need 8 pictures or more with opinions that differ: is this the whole database?"
        )

    def disagreement(logarithms: Sequence[float]) -> float:
        values = scores(found, *np.exp(logarithms))
        if np.ptp(values) < 1e-12:
            return 0.0
        return -srcc(values, opinions) - plcc(values, opinions)

    grid = [(t, b) for t in np.log(TEMPERATURES) for b in np.log(BETAS)]
    start = min(grid, key=disagreement)
    ends = [(np.log(values[0]), np.log(values[-1])) for values in (TEMPERATURES, BETAS)]
    best = optimize.minimize(disagreement, start, method="Nelder-Mead", bounds=ends, options={"maxfev": 120})
    temperature, beta = np.exp(best.x)
    final = scores(found, temperature, beta)
    a_bound, missing, alarms = _bound(special.expit(temperature * found.nouns), opinions)
    return Fit(
        float(temperature),
        float(beta),
        a_bound,
        srcc(final, opinions),
        plcc(final, opinions),
        missing,
        alarms,
    )


def _bound(nouns: Floats, opinions: Floats) -> tuple[float, float, float]:
    """(a_bound, share of pictures with a noun below it, the same of the well aligned pictures)."""
    aligned = opinions >= np.quantile(opinions, 1 - ALIGNED)
    best = (0.0, 0.0, 0.0)
    strongest = 0.0
    for bound in np.unique(np.quantile(nouns.min(1), np.linspace(0.005, 0.8, 100))):
        below = (nouns < bound).sum(1)
        alarms = float((below[aligned] > 0).mean())
        if alarms > FALSE_ALARMS:
            break  # a higher bound only raises more
        if np.ptp(below) and (strength := -plcc(below, opinions)) > strongest:
            strongest, best = strength, (float(bound), float((below > 0).mean()), alarms)
    return best
