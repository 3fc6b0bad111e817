"""Fitting the constants of a bundle on the world's validation pictures, with the runtime itself.

a_bound and beta (when is a phrase defective, Eq. 5, 6, 8), tau (threshold of 1 - P + A) and p_bound (when P is looked
at) are chosen by one rule: find as many of the true defects as possible, touching at most `FALSE_ALARMS` of the sound
pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from grefine_export.mini.defects import FACTORS
from grefine_export.mini.heldout import VALIDATION, Sample, names_wanted, samples
from grefine_rt import Assessor
from grefine_rt.accept import SOUND
from grefine_rt.assess.indicator import Assessment
from grefine_rt.bundle.manifest import FILE_NAME, Redraw
from grefine_rt.bundle.store import write
from grefine_rt.imaging.mask import grow
from grefine_rt.plan.make import binary_mask, poor_places

FALSE_ALARMS = 0.035
"""Share of sound pictures that either indicator may send to stage 1: both together stay below the tenth that may
be redrawn, for other pictures alarm a little more than the ones that the bounds were fitted on."""
CANDIDATES = 40
KEPT_REPAIRS = 0.95
"""Share of perfect repairs that must not count as harm to their surroundings."""
TOLERANCES = (0.01, 0.1)
"""The tolerance of `accept` lies between: below, every rounding is a harm; above, none is."""

Pair = tuple[Sample, Assessment]


def first_defects(pairs: Sequence[Pair], a_bound: float, beta: float) -> list[int | None]:
    """For each picture the index of the first phrase with a defect (noun below `a_bound`, or phrase below `beta`
    and below its noun), None where there is none."""
    found: list[int | None] = []
    for _, assessment in pairs:
        wrong = (
            index
            for index, phrase in enumerate(assessment.phrases)
            if phrase.noun_score < a_bound or phrase.phrase_score < min(phrase.noun_score, beta)
        )
        found.append(next(wrong, None))
    return found


def _names_the_wanted(pair: Pair, index: int | None) -> bool:
    sample, assessment = pair
    return index is not None and names_wanted(sample, assessment.phrases[index].text)


def fit_bounds(sound: Sequence[Pair], misaligned: Sequence[Pair]) -> tuple[float, float, float, float]:
    """(a_bound, beta, share of misaligned pictures whose first defect is the right one, false alarms)."""
    nouns = [phrase.noun_score for _, assessment in sound for phrase in assessment.phrases]
    wholes = [phrase.phrase_score for _, assessment in sound for phrase in assessment.phrases]
    shares = np.linspace(0, 0.12, CANDIDATES)
    best = (0.01, 0.01, -1.0, 0.0)
    for a_bound in np.quantile(nouns, shares):
        for beta in np.quantile(wholes, shares):
            alarms = float(np.mean([i is not None for i in first_defects(sound, a_bound, beta)]))
            if alarms > FALSE_ALARMS:
                break  # a larger beta only raises more
            firsts = first_defects(misaligned, a_bound, beta)
            hits = float(np.mean([_names_the_wanted(p, i) for p, i in zip(misaligned, firsts, strict=True)]))
            if hits > best[2]:
                best = (float(a_bound), float(beta), hits, alarms)
    return best


def fit_tau(
    sound: Sequence[Pair], local: Sequence[Pair], min_area: float
) -> tuple[float, float, float, float]:
    """(tau, p_bound, mean IoU of the mask with the true local defects, false alarms); the maps of the assessments are
    the ones that stage 1 goes by.

    A picture with p above p_bound is left alone, so the false places of a good picture's map do no harm.
    """
    bounds = np.append(np.linspace(0.5, 0.98, 25), 1.0)
    sound_p, local_p = (np.array([a.perceptual for _, a in pairs]) for pairs in (sound, local))
    best = (0.95, 0.5, -1.0, 0.0)
    for tau in np.linspace(0.3, 0.95, CANDIDATES):
        marked = np.array([binary_mask(1 - a.perceptual_map, tau, min_area, 0).any() for _, a in sound])
        masks = [binary_mask(1 - a.perceptual_map, tau, min_area, 0) for _, a in local]
        overlaps = np.array(
            [(m & s.mask).sum() / max(1, (m | s.mask).sum()) for m, (s, _) in zip(masks, local, strict=True)]
        )
        for bound in bounds:
            alarms = float((marked & (sound_p <= bound)).mean())
            overlap = float((overlaps * (local_p <= bound)).mean())
            if alarms <= FALSE_ALARMS and overlap > best[2]:
                best = (float(tau), float(bound), overlap, alarms)
    return best


def fit_tolerance(repairs: Sequence[tuple[Sample, Assessment, Assessment]], bound: float, cell: int) -> float:
    """The tolerance of `grefine_rt.accept`: the fall of P in sound places when a defect elsewhere is repaired
    perfectly, exceeded in `KEPT_REPAIRS` of all cases at most; within `TOLERANCES`.

    repairs: samples with a local defect, assessed as they are and as their truth. bound: P at which a place is sound.
    cell: side of a cell of P in pixels; nearer to the defect P tells of it, too.
    """
    falls = []
    for sample, seen, repaired in repairs:
        sound = (seen.perceptual_map >= bound) & ~grow(sample.mask, cell)
        if sound.any():
            falls.append(float((seen.perceptual_map - repaired.perceptual_map)[sound].mean()))
    low, high = TOLERANCES
    return float(np.clip(np.quantile(falls, KEPT_REPAIRS), low, high)) if falls else high


def _marked(pairs: Sequence[Pair], alpha: Sequence[float], redraw: Redraw) -> list[Pair]:
    """The pairs with the places that P marks for stage 1 as their maps. Damaged pictures without a marked place are
    left out: with "misshapen" the ones without a broken shape are stage 2's."""
    wanted = ("rationality",) if redraw == "misshapen" else FACTORS
    return [
        (sample, replace(seen, perceptual_map=1 - poor_places(seen, alpha, redraw)[0]))
        for sample, seen in pairs
        if not sample.defects or sample.defects[0].factor in wanted
    ]


def calibrate(folder: Path, count: int) -> dict[str, float]:
    """Fits a_bound, beta, tau, p_bound and tolerance on `count` validation pictures, into the bundle's manifest.

    Returns the constants, their findings and their false alarms.
    """
    with Assessor.load(folder) as assessor:
        pairs = [(s, assessor.assess(s.image, s.prompt)) for s in samples(count, VALIDATION)]
        repairs = [
            (s, seen, assessor.assess(s.truth, s.prompt)) for s, seen in pairs if s.category == "local"
        ]
    sound, misaligned, local = (
        [pair for pair in pairs if pair[0].category == category]
        for category in ("clean", "alignment", "local")
    )
    manifest = json.loads((folder / FILE_NAME).read_text())
    a_bound, beta, named, alarms = fit_bounds(sound, misaligned)
    plan = manifest["plan"]
    whole, broken = (
        _marked(pairs, manifest["perceptual"]["alpha"], plan["redraw"]) for pairs in (sound, local)
    )
    tau, p_bound, overlap, touched = fit_tau(whole, broken, plan["min_area"])
    manifest["alignment"] |= {"a_bound": round(a_bound, 5), "beta": round(max(beta, 1e-5), 5)}
    cell = -(-manifest["perceptual"]["resolution"] // manifest["perceptual"]["grid"])
    tolerance = fit_tolerance(repairs, min(p_bound, SOUND), cell)
    plan |= {"tau": round(tau, 4), "p_bound": round(p_bound, 4), "tolerance": round(tolerance, 4)}
    write(folder, manifest)
    return {
        "a_bound": a_bound,
        "beta": beta,
        "tau": tau,
        "p_bound": p_bound,
        "tolerance": tolerance,
        "misaligned_named": named,
        "alignment_false_alarms": alarms,
        "local_defect_iou": overlap,
        "perceptual_false_alarms": touched,
    }
