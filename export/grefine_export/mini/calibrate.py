"""Fitting the constants of a bundle on the world's validation pictures, with the runtime itself.

a_bound (a noun is missing below it), beta (Eq. 8) and tau (threshold of 1 - P + A) are thresholds: each is put
where it separates best. The strengths of the two stages are chosen by what a refined picture is worth.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from grefine_export.mini.heldout import SIZE_OF_SET, VALIDATION, Sample, samples
from grefine_rt import Refiner
from grefine_rt.assess.indicator import Assessment
from grefine_rt.bundle.manifest import FILE_NAME
from grefine_rt.bundle.store import write


def best_threshold(low: np.ndarray, high: np.ndarray) -> tuple[float, float]:
    """The threshold that best separates two samples (balanced accuracy), and that accuracy. The middle of the
    best interval, so that neither side is at its edge."""
    edges = np.unique(np.concatenate([low, high, [0.0, 1.0]]))
    middles = (edges[1:] + edges[:-1]) / 2
    if not len(low) or not len(high) or not len(middles):
        return 0.5, 0.0
    right = np.searchsorted(np.sort(low), middles) / len(low)
    right = (right + 1 - np.searchsorted(np.sort(high), middles) / len(high)) / 2
    best = np.nonzero(right >= right.max() - 1e-9)[0]
    return float(np.median(middles[best])), float(right.max())


def noun_scores(
    sample: Sample, assessment: Assessment
) -> tuple[list[float], list[float], list[float], list[float]]:
    """a_pns of nouns that are missing and that are there, then a_phs of phrases that are wrong and right."""
    missing, there, wrong, right = [], [], [], []
    for phrase in assessment.phrases:
        words = phrase.text.split()
        thing = sample.wanted
        is_wanted = thing is not None and thing.kind in words
        if is_wanted and sample.misaligned != "other-colour":
            missing.append(phrase.noun_score)
        else:
            there.append(phrase.noun_score)
            (wrong if is_wanted else right).append(phrase.phrase_score)
    return missing, there, wrong, right


def calibrate(folder: Path, count: int) -> dict[str, float]:
    """Fits a_bound, beta and tau on `count` validation pictures and writes them into the bundle's manifest.

    Returns the constants and how well each separates (balanced accuracy).
    """
    refiner = Refiner.load(str(folder))
    pictures = list(samples(min(count, SIZE_OF_SET), VALIDATION))
    assessed = [refiner.assess(sample.image, sample.prompt) for sample in pictures]
    refiner.close()
    scores: list[list[float]] = [[], [], [], []]
    good, bad = [], []
    for sample, assessment in zip(pictures, assessed, strict=True):
        for all_scores, found in zip(scores, noun_scores(sample, assessment), strict=True):
            all_scores.extend(found)
        poor = 1 - assessment.perceptual_map
        # A sound picture counts with its worst places: one of them is enough to redraw it for nothing.
        if not sample.defects:
            good.append(np.quantile(poor, 0.98))
        elif sample.category == "local":
            bad.append(poor[sample.mask].mean())
    missing, there, wrong, right = (np.array(values) for values in scores)
    a_bound, noun_accuracy = best_threshold(missing, there)
    beta, phrase_accuracy = best_threshold(wrong, right)
    tau, map_accuracy = best_threshold(np.array(good), np.array(bad))
    manifest = json.loads((folder / FILE_NAME).read_text())
    manifest["alignment"] |= {"a_bound": round(a_bound, 4), "beta": round(max(beta, 0.05), 4)}
    manifest["plan"]["tau"] = round(float(np.clip(tau, 0.1, 0.9)), 4)
    write(folder, manifest)
    return {
        "a_bound": a_bound,
        "beta": beta,
        "tau": tau,
        "noun_accuracy": noun_accuracy,
        "phrase_accuracy": phrase_accuracy,
        "map_accuracy": map_accuracy,
    }
