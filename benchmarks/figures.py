"""The figures of the benchmark, as functions of outcomes, with the bars they must reach."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.metrics import roc_auc
from benchmarks.outcomes import Outcome, Repair
from grefine_rt.evaluation.correlation import krcc, plcc, srcc

Outcomes = Sequence[Outcome]
Bar = float | bool | tuple[float, float] | None
"""The least value, the truth, or the lowest and highest value that a figure may have."""


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
    bar: Bar
    meaning: str
    repairs: str | None = None


def passes(value: float | bool | None, bar: Bar) -> bool | None:
    """Whether a value reaches its bar; None where one of them is missing."""
    if value is None or bar is None:
        return None
    if isinstance(bar, tuple):
        return bool(bar[0] <= value <= bar[1])
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


def autoencoder_psnr_db(outcomes: Outcomes) -> Measured:
    return quantile(o.seen.round_trip_db for o in outcomes if o.seen.round_trip_db is not None)


def redrawn_sharpness(outcomes: Outcomes) -> Measured:
    """All that was drawn together: in a plain sky the ratio of one picture tells nothing."""
    drawn = [repair.gradients for repair in _repairs(outcomes) if repair.gradients is not None]
    ours, true = (sum(pair[k] for pair in drawn) for k in (0, 1))
    return Measured(ours / true if true else None, len(drawn))


def refine_rmse_reduction_worst(outcomes: Outcomes) -> Measured:
    """The median of the kind of damage whose median is lowest."""
    kinds = _kinds(outcomes, "defect")
    medians = [quantile(_reductions(of_kind)) for of_kind in kinds.values()]
    known = [median for median in medians if median.value is not None]
    return min(known, key=lambda median: median.value) if known else Measured(None, 0)


def refine_alignment_success_missing(outcomes: Outcomes) -> Measured:
    return refine_alignment_success([o for o in outcomes if o.misaligned == "missing"])


def refine_others_kept(outcomes: Outcomes) -> Measured:
    repairs = _repairs(outcomes, "alignment")
    before = sum(repair.others for repair in repairs)
    return Measured(sum(repair.others_kept for repair in repairs) / before if before else None, before)


def perceptual_after(outcomes: Outcomes) -> Measured:
    return mean(repair.perceptual for repair in _repairs(outcomes))


def alignment_after(outcomes: Outcomes) -> Measured:
    return mean(repair.alignment for repair in _repairs(outcomes))


def _kinds(outcomes: Outcomes, key: str) -> dict[str, list[Outcome]]:
    """The samples of each kind: by `defect` or by `misaligned`."""
    kinds: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        kinds.setdefault(getattr(outcome, key), []).append(outcome)
    return kinds


def _reductions(outcomes: Outcomes) -> list[float]:
    return [r.rmse_reduction for r in _repairs(outcomes, "local") if r.rmse_reduction is not None]


STRANGE: dict[str, tuple[str, ...]] = {
    "perceptual_srcc": ("damage", "style"),
    "perceptual_map_auc": ("damage", "style"),
    "alignment_auc": ("prompt", "synonym"),
    "alignment_phrase_accuracy": ("prompt", "synonym"),
    "refine_rmse_reduction": ("damage", "style"),
    "refine_alignment_success": ("prompt", "synonym", "style"),
    "refine_others_kept": ("prompt", "synonym", "style"),
    "clean_skip_rate": ("prompt", "synonym", "style"),
    "autoencoder_psnr_db": ("style",),
}
"""What training never saw and each figure bears on, of `heldout.UNSEEN`."""

_OF: dict[str, Figure] = {
    "autoencoder_psnr_db": Figure(
        autoencoder_psnr_db, 34.0, "clean scenes through stage 1's autoencoder; median"
    ),
    "redrawn_sharpness": Figure(
        redrawn_sharpness, (0.85, 1.1), "mean gradient of what stage 1 drew, of the truth's there"
    ),
    "perceptual_srcc": Figure(perceptual_srcc, 0.88, "p against MOS, all samples"),
    "perceptual_map_auc": Figure(
        perceptual_map_auc, 0.96, "1 - P finds the pixels of local defects; mean over images"
    ),
    "alignment_auc": Figure(alignment_auc, 0.985, "a tells misaligned from clean"),
    "alignment_phrase_accuracy": Figure(
        alignment_phrase_accuracy, 0.93, "the first phrase with a defect is the right one"
    ),
    "refine_rmse_reduction": Figure(
        refine_rmse_reduction, 0.55, "RMSE to the truth in local defects falls; median", "local"
    ),
    "refine_rmse_reduction_worst": Figure(
        refine_rmse_reduction_worst, 0.30, "the same of the kind of damage where it falls least", "local"
    ),
    "refine_alignment_success": Figure(
        refine_alignment_success, 0.85, "the judge finds the wanted thing afterwards", "alignment"
    ),
    "refine_alignment_success_missing": Figure(
        refine_alignment_success_missing, 0.80, "the same where the thing was missing", "alignment"
    ),
    "refine_others_kept": Figure(
        refine_others_kept, 0.99, "the prompt's other things are still there", "alignment"
    ),
    "clean_skip_rate": Figure(clean_skip_rate, 0.97, "stage 1 is skipped on clean images"),
    "clean_psnr_db": Figure(clean_psnr_db, 32.0, "clean images stay as they are; median", "clean"),
    "outside_mask_identical": Figure(
        outside_mask_identical, True, "stage 1 changes no pixel beyond the feather"
    ),
}
_UNSEEN_BARS = {"perceptual_map_auc": 0.94, "alignment_auc": 0.95, "refine_rmse_reduction": 0.40}


def _usual(name: str, outcomes: Outcomes) -> Measured:
    """A figure of the samples in which nothing that bears on it is strange."""
    return _OF[name].of([o for o in outcomes if not o.unseen.intersection(_strange(name))])


def _unseen(name: str, outcomes: Outcomes) -> Measured:
    """A figure of the samples in which something that bears on it is strange."""
    return _OF[name].of([o for o in outcomes if o.unseen.intersection(_strange(name))])


def _strange(name: str) -> tuple[str, ...]:
    # A part of a figure is strange in what the whole is.
    return next((strange for whole, strange in STRANGE.items() if name.startswith(whole)), ())


def _headline() -> dict[str, Figure]:
    """Every figure, and `NAME_unseen` beside it where kinds that bear on it are held out."""
    figures = {}
    for name, figure in _OF.items():
        figures[name] = replace(figure, of=partial(_usual, name))
        if name in STRANGE:
            told = f"the same, never trained on: {', '.join(STRANGE[name])}"
            figures[f"{name}_unseen"] = Figure(
                partial(_unseen, name), _UNSEEN_BARS.get(name), told, figure.repairs
            )
    return figures


HEADLINE = _headline()
"""What one pass over the set gives; `deterministic` is measured apart."""

MORE: dict[str, Figure] = {
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
        parts |= _by(name, _OF[name].of, alignment, "misaligned")
    parts |= _apart(outcomes)
    return {name: {"value": part.value, "samples": part.samples} for name, part in parts.items()}


def _apart(outcomes: Outcomes) -> dict[str, Measured]:
    """Figures of the samples with each strange thing alone (`_unseen/damage`)."""
    return {
        f"{name}_unseen/{what}": _OF[name].of([o for o in outcomes if what in o.unseen])
        for name, strange in STRANGE.items()
        for what in strange
    }


def _by(name: str, of: Callable[[Outcomes], Measured], outcomes: Outcomes, key: str) -> dict[str, Measured]:
    """A figure for each kind of sample: by `defect` or by `misaligned`."""
    return {f"{name}/{kind}": of(those) for kind, those in _kinds(outcomes, key).items()}


def _ceiling(outcomes: Outcomes) -> Measured:
    """The best SRCC that any score without ties can have here: many samples share the MOS of 5."""
    if len(outcomes) < 2:
        return Measured(None, len(outcomes))
    mos = np.array([outcome.mos for outcome in outcomes])
    perfect = np.argsort(np.argsort(mos, kind="stable"), kind="stable")
    return Measured(_number(srcc(perfect, mos)), len(outcomes))
