"""The figures of the benchmark, as functions of outcomes, with the bars they must reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.metrics import roc_auc
from benchmarks.outcomes import Outcome, Repair
from grefine_rt.evaluation.correlation import krcc, plcc, srcc

Outcomes = Sequence[Outcome]


@dataclass(frozen=True)
class Measured:
    """`value`, None where no sample tells; `samples`: how many stand behind it."""

    value: float | bool | None
    samples: int


@dataclass(frozen=True)
class Figure:
    """`of`: how it is measured. `bar`: what it must reach, None for none. `meaning`: in words, for the table.
    `repairs`: the category of samples whose refined pictures it needs."""

    of: Callable[[Outcomes], Measured]
    bar: float | bool | None
    meaning: str
    repairs: str | None = None


def passes(value: float | bool | None, bar: float | bool | None) -> bool | None:
    """Whether a value reaches its bar; None where one of them is missing."""
    if value is None or bar is None:
        return None
    return bool(value is bar if isinstance(bar, bool) else value >= bar)


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def mean(values: Iterable[float]) -> Measured:
    """The mean, which of truths is a share."""
    row = list(values)
    return Measured(float(np.mean(row)) if row else None, len(row))


def quantile(values: Iterable[float], share: float = 0.5) -> Measured:
    """The value below which a share of the values lies; the median by default."""
    row = list(values)
    return Measured(float(np.quantile(row, share)) if row else None, len(row))


def _of(outcomes: Outcomes, *categories: str) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.category in categories]


def _repairs(outcomes: Outcomes, *categories: str) -> list[Repair]:
    chosen = _of(outcomes, *categories) if categories else outcomes
    return [outcome.repair for outcome in chosen if outcome.repair is not None]


def _correlation(measure: Callable[..., float], outcomes: Outcomes) -> Measured:
    if len(outcomes) < 2:
        return Measured(None, len(outcomes))
    value = measure([o.seen.perceptual for o in outcomes], [o.mos for o in outcomes])
    return Measured(_number(value), len(outcomes))


def _alignment_auc(sound: Outcomes, wrong: Outcomes) -> Measured:
    both = [*sound, *wrong]
    truth = [outcome.misaligned is not None for outcome in both]
    return Measured(_number(roc_auc(truth, [-outcome.seen.alignment for outcome in both])), len(both))


def perceptual_srcc(outcomes: Outcomes) -> Measured:
    return _correlation(srcc, outcomes)


def perceptual_map_auc(outcomes: Outcomes) -> Measured:
    return mean(o.seen.map_auc for o in outcomes if o.seen.map_auc is not None)


def alignment_auc(outcomes: Outcomes) -> Measured:
    return _alignment_auc(_of(outcomes, "clean"), _of(outcomes, "alignment"))


def alignment_phrase_accuracy(outcomes: Outcomes) -> Measured:
    return mean(bool(o.seen.first_phrase) for o in _of(outcomes, "alignment"))


def refine_rmse_reduction(outcomes: Outcomes) -> Measured:
    return quantile(_reductions(outcomes))


def refine_alignment_success(outcomes: Outcomes) -> Measured:
    return mean(bool(repair.present) for repair in _repairs(outcomes, "alignment"))


def clean_skip_rate(outcomes: Outcomes) -> Measured:
    return mean(not outcome.redraws for outcome in _of(outcomes, "clean"))


def clean_psnr_db(outcomes: Outcomes) -> Measured:
    return quantile(repair.psnr for repair in _repairs(outcomes, "clean"))


def outside_mask_identical(outcomes: Outcomes) -> Measured:
    told = [r.outside_identical for r in _repairs(outcomes) if r.outside_identical is not None]
    return Measured(all(told) if told else None, len(told))


def others_kept(outcomes: Outcomes) -> Measured:
    repairs = _repairs(outcomes, "alignment")
    before = sum(repair.others for repair in repairs)
    return Measured(sum(repair.others_kept for repair in repairs) / before if before else None, before)


def perceptual_after(outcomes: Outcomes) -> Measured:
    return mean(repair.perceptual for repair in _repairs(outcomes))


def alignment_after(outcomes: Outcomes) -> Measured:
    return mean(repair.alignment for repair in _repairs(outcomes))


def _reductions(outcomes: Outcomes) -> list[float]:
    return [r.rmse_reduction for r in _repairs(outcomes, "local") if r.rmse_reduction is not None]


HEADLINE: dict[str, Figure] = {
    "perceptual_srcc": Figure(perceptual_srcc, 0.85, "p against MOS, all samples"),
    "perceptual_map_auc": Figure(
        perceptual_map_auc, 0.85, "1 - P finds the pixels of local defects; mean over images"
    ),
    "alignment_auc": Figure(alignment_auc, 0.90, "a tells misaligned from clean"),
    "alignment_phrase_accuracy": Figure(
        alignment_phrase_accuracy, 0.80, "the first phrase with a defect is the right one"
    ),
    "refine_rmse_reduction": Figure(
        refine_rmse_reduction, 0.40, "RMSE to the truth in local defects falls; median", "local"
    ),
    "refine_alignment_success": Figure(
        refine_alignment_success, 0.60, "the judge finds the wanted thing afterwards", "alignment"
    ),
    "clean_skip_rate": Figure(clean_skip_rate, 0.90, "stage 1 is skipped on clean images"),
    "clean_psnr_db": Figure(clean_psnr_db, 32.0, "clean images stay as they are; median", "clean"),
    "outside_mask_identical": Figure(
        outside_mask_identical, True, "stage 1 changes no pixel beyond the feather"
    ),
}
"""What one pass over the set gives; `deterministic` is measured apart."""

MORE: dict[str, Figure] = {
    "others_kept": Figure(others_kept, None, "the prompt's other things are still there", "alignment"),
    "perceptual_after": Figure(perceptual_after, None, "p afterwards; mean"),
    "alignment_after": Figure(alignment_after, None, "a afterwards; mean"),
}

FIGURES = HEADLINE | MORE


def details(outcomes: Outcomes) -> dict[str, Any]:
    """What lies behind the headline figures: other measures, other sets, and parts of the set."""
    damaged = [outcome for outcome in outcomes if outcome.defect]
    aligned = [outcome for outcome in outcomes if outcome.misaligned is None]
    wrong = _of(outcomes, "alignment", "mixed")
    local, alignment = _of(outcomes, "local"), _of(outcomes, "alignment")
    parts = {
        "perceptual_plcc": _correlation(plcc, outcomes),
        "perceptual_krcc": _correlation(krcc, outcomes),
        "perceptual_srcc_damaged_only": _correlation(srcc, damaged),
        "perceptual_srcc_without_misaligned": _correlation(srcc, aligned),
        "perceptual_srcc_ceiling": _ceiling(outcomes),
        "alignment_auc_all_categories": _alignment_auc(aligned, wrong),
        "alignment_phrase_accuracy_worst_first": mean(bool(o.seen.worst_phrase) for o in alignment),
        "alignment_phrase_accuracy_mixed": mean(bool(o.seen.first_phrase) for o in _of(outcomes, "mixed")),
        "refine_rmse_reduction_lower_quartile": quantile(_reductions(outcomes), 0.25),
        "refine_rmse_reduction_upper_quartile": quantile(_reductions(outcomes), 0.75),
        "refine_alignment_success_before": mean(
            bool(r.present_before) for r in _repairs(outcomes, "alignment")
        ),
        "refine_alignment_success_mixed": mean(bool(r.present) for r in _repairs(outcomes, "mixed")),
        "refine_others_kept": others_kept(outcomes),
        "redraw_rate_local": mean(outcome.redraws for outcome in local),
        "redraw_rate_alignment": mean(outcome.redraws for outcome in alignment),
        "perceptual_before": mean(outcome.seen.perceptual for outcome in outcomes),
        "perceptual_after": perceptual_after(outcomes),
        "alignment_before": mean(outcome.seen.alignment for outcome in outcomes),
        "alignment_after": alignment_after(outcomes),
        "seconds_per_refine": quantile(repair.seconds for repair in _repairs(outcomes)),
    }
    parts |= _by("perceptual_map_auc", perceptual_map_auc, local, "defect")
    parts |= _by("refine_rmse_reduction", refine_rmse_reduction, local, "defect")
    for name in ("alignment_phrase_accuracy", "refine_alignment_success"):
        parts |= _by(name, FIGURES[name].of, alignment, "misaligned")
    parts |= _apart(outcomes)
    return {name: {"value": part.value, "samples": part.samples} for name, part in parts.items()}


STRANGE: dict[str, tuple[str, ...]] = {
    "perceptual_srcc": ("damage", "style"),
    "perceptual_map_auc": ("damage", "style"),
    "alignment_auc": ("prompt", "synonym"),
    "alignment_phrase_accuracy": ("prompt", "synonym"),
    "refine_rmse_reduction": ("damage", "style"),
    "refine_alignment_success": ("prompt", "synonym", "style"),
    "clean_skip_rate": ("prompt", "synonym", "style"),
}
"""What training never saw and each figure bears on, of `heldout.UNSEEN`."""


def _apart(outcomes: Outcomes) -> dict[str, Measured]:
    """Figures of the samples that are like training (`_seen`), of those with anything strange that bears on the figure
    (`_unseen`), and of each strange thing alone (`_unseen/damage`)."""
    parts = {}
    for name, strange in STRANGE.items():
        of = FIGURES[name].of
        parts[f"{name}_seen"] = of([o for o in outcomes if not o.unseen])
        parts[f"{name}_unseen"] = of([o for o in outcomes if o.unseen.intersection(strange)])
        for what in strange:
            parts[f"{name}_unseen/{what}"] = of([o for o in outcomes if what in o.unseen])
    return parts


def _by(name: str, of: Callable[[Outcomes], Measured], outcomes: Outcomes, key: str) -> dict[str, Measured]:
    """A figure for each kind of sample: by `defect` or by `misaligned`."""
    kinds = dict.fromkeys(getattr(outcome, key) for outcome in outcomes)
    return {f"{name}/{kind}": of([o for o in outcomes if getattr(o, key) == kind]) for kind in kinds}


def _ceiling(outcomes: Outcomes) -> Measured:
    """The best SRCC that any score without ties can have here: many samples share the MOS of 5."""
    if len(outcomes) < 2:
        return Measured(None, len(outcomes))
    mos = np.array([outcome.mos for outcome in outcomes])
    perfect = np.argsort(np.argsort(mos, kind="stable"), kind="stable")
    return Measured(_number(srcc(perfect, mos)), len(outcomes))
