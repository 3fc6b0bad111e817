"""Both readings of every ambiguous equation, and the ablations of the paper's Table 8."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import FIGURES, Measured
from benchmarks.outcomes import Outcome, Variant
from grefine_rt import AssessOptions, PlanOptions, RefineOptions
from grefine_rt.bundle.manifest import Manifest

CATEGORIES = ("clean", "local", "global", "alignment", "mixed")


@dataclass(frozen=True)
class Reading:
    """A place where the papers can be read in more than one way.

    choices: the options of each reading, by its name. default: the reading that a bundle uses. figures: what
    the choice bears on.
    """

    equation: str
    choices: Mapping[str, RefineOptions]
    default: Callable[[Manifest], str]
    figures: Sequence[str]


def _planned(**options: Any) -> RefineOptions:
    return RefineOptions(plan=PlanOptions(**options))


_ALWAYS = PlanOptions(keep_good=False, accept="off")
"""How readings of stage 2 are measured: on good pictures, too, and whatever comes of it."""

READINGS: dict[str, Reading] = {
    "scoring": Reading(
        "Eq. 3",
        {name: RefineOptions(assess=AssessOptions(scoring=name)) for name in ("calibrated", "published")},
        lambda m: m.perceptual.scoring,
        ("perceptual_srcc", "perceptual_map_auc"),
    ),
    "adjective_rule": Reading(
        "below Eq. 5",
        {name: RefineOptions(assess=AssessOptions(adjective_rule=name)) for name in ("penalised", "printed")},
        lambda m: AssessOptions().adjective_rule,
        ("alignment_phrase_accuracy", "clean_skip_rate"),
    ),
    "joining": Reading(
        "Eq. 6",
        {name: _planned(joining=name) for name in ("union", "product")},
        lambda m: m.plan.joining,
        ("clean_skip_rate", "refine_alignment_success", "refine_others_kept"),
    ),
    "missing_region": Reading(
        "Eq. 6",
        {name: _planned(missing_region=name) for name in ("ancestor", "printed", "free")},
        lambda m: m.plan.missing_region,
        ("refine_alignment_success", "refine_others_kept"),
    ),
    "strength_rule": Reading(
        "Eq. 9",
        {name: _planned(strength_rule=name) for name in ("deficit", "printed")},
        lambda m: m.plan.strength_rule,
        ("refine_rmse_reduction", "refine_alignment_success"),
    ),
    "redraw": Reading(
        "Eq. 9",
        {name: _planned(redraw=name) for name in ("poor", "misshapen")},
        lambda m: m.plan.redraw,
        ("refine_rmse_reduction", "clean_skip_rate"),
    ),
    "binarisation": Reading(
        "Eq. 9",
        {"threshold": _planned(), "otsu": _planned(tau="otsu")},
        lambda m: "threshold",
        ("clean_skip_rate", "refine_rmse_reduction"),
    ),
    "decoding": Reading(
        "Eq. 10",
        {name: RefineOptions(plan=_ALWAYS, decoding=name) for name in ("difference", "plain", "quality")},
        lambda m: m.restore.decoding,
        ("refine_rmse_reduction", "clean_psnr_db"),
    ),
    "color_fix": Reading(
        "Eq. 10",
        {name: RefineOptions(plan=_ALWAYS, color_fix=name) for name in ("whole", "quality", "off")},
        lambda m: m.restore.color_fix,
        ("refine_rmse_reduction", "clean_psnr_db"),
    ),
}


ABLATIONS: dict[
    str, RefineOptions
] = {  # beside the second, which keeps all that the stages make, as the paper does
    "PQ + AQ": RefineOptions(),
    "every change kept": _planned(accept="off"),
    "AQ": _planned(indicators=("alignment",), accept="off"),
    "PQ": _planned(indicators=("perceptual",), accept="off"),
    "stage 1 only": _planned(stages=(1,), accept="off"),
    "stage 2 only": _planned(stages=(2,), accept="off"),
    "no mask": _planned(full_image=True, accept="off"),
    "one draft": _planned(drafts=1, accept="off"),
    "stages always in order": _planned(restore_first=False, accept="off"),
    "good pictures restored": _planned(keep_good=False, accept="off"),
}
ABLATION_FIGURES = (
    "perceptual_after",
    "alignment_after",
    "refine_rmse_reduction",
    "refine_alignment_success",
    "clean_psnr_db",
)


def variants() -> dict[str, Variant]:
    """All readings and ablations, as `group/choice`."""
    found = {}
    for group, reading in READINGS.items():
        repairs = [FIGURES[key].repairs for key in reading.figures]
        for name, options in reading.choices.items():
            pictures = {category for category in repairs if category}
            found[f"{group}/{name}"] = Variant(options, pictures, plans=None in repairs)
    for name, options in ABLATIONS.items():
        found[f"ablation/{name}"] = Variant(options, CATEGORIES, plans=False)
    return found


def readings_table(outcomes: Mapping[str, Sequence[Outcome]], manifest: Manifest) -> dict[str, Any]:
    """For each reading its equation, the bundle's choice, and the figures of every choice."""
    table: dict[str, Any] = {}
    for group, reading in READINGS.items():
        rows = {name: _row(outcomes[f"{group}/{name}"], reading.figures) for name in reading.choices}
        table[group] = {"equation": reading.equation, "default": reading.default(manifest), "choices": rows}
    return table


def attention_row(manifests: Sequence[Manifest], outcomes: Sequence[Sequence[Outcome]]) -> dict[str, Any]:
    """The row of Eq. 1, from bundles of the same weights made for either attention, the bundle in question first."""
    keys = ("perceptual_srcc", "perceptual_map_auc", "alignment_auc", "alignment_phrase_accuracy")
    rows = {m.perceptual.attention: _row(some, keys) for m, some in zip(manifests, outcomes, strict=True)}
    return {"equation": "Eq. 1", "default": manifests[0].perceptual.attention, "choices": rows}


def ablations_table(outcomes: Mapping[str, Sequence[Outcome]]) -> dict[str, Any]:
    """The rows of Table 8 and, first, what the input is like."""
    inputs = outcomes[f"ablation/{next(iter(ABLATIONS))}"]
    return {"input": _input_row(inputs)} | {
        name: _row(outcomes[f"ablation/{name}"], ABLATION_FIGURES) for name in ABLATIONS
    }


def _input_row(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    repaired = [o for o in outcomes if o.repair is not None]
    before = [o.repair.present_before for o in repaired if o.category == "alignment" and o.repair is not None]

    def mean(values: Sequence[float]) -> dict[str, Any]:
        return _cell(Measured(sum(values) / len(values) if values else None, len(values)))

    return {
        "perceptual_after": mean([o.seen.perceptual for o in repaired]),
        "alignment_after": mean([o.seen.alignment for o in repaired]),
        "refine_alignment_success": mean([float(bool(value)) for value in before]),
    }


def _row(outcomes: Sequence[Outcome], keys: Sequence[str]) -> dict[str, Any]:
    return {key: _cell(FIGURES[key].of(outcomes)) for key in keys}


def _cell(measured: Measured) -> dict[str, Any]:
    return {"value": measured.value, "samples": measured.samples}
