"""The figures of `benchmarks.harm`, as functions of outcomes, with the limits they must keep."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.figures import Measured, mean, quantile

FELL = 1e-6
"""A fall of p or a below this is rounding. The bar has a number of its own: a product that lets more pass fails it."""


@dataclass(frozen=True)
class Harm:
    """What refining did to a picture that was not refused.

    identical: it came back byte for byte. psnr: to the input, dB. redrawn: something that stage 1 drew is in the
    result. rmse_before, rmse_after: of the whole picture to the truth, in levels of 255. things, things_kept: sound
    things that the judge saw before, and those of them it sees afterwards. thing_change: the largest mean change of a
    sound thing 4 px or more away from the damage, in levels of 255; None where there is no such thing. perceptual,
    alignment: by how much p and a rose.
    """

    identical: bool
    psnr: float
    redrawn: bool
    rmse_before: float
    rmse_after: float
    things: int
    things_kept: int
    thing_change: float | None
    perceptual: float
    alignment: float


@dataclass(frozen=True)
class Outcome:
    """One picture. category: of `heldout.Sample`, or "photograph". unseen: what of it is never trained on, of
    `heldout.UNSEEN`. harm: None where the picture was refused as outside the domain; for photographs always None.
    """

    name: str
    category: str
    unseen: frozenset[str]
    refused: bool
    harm: Harm | None


Outcomes = Sequence[Outcome]


@dataclass(frozen=True)
class Limit:
    """`of`: how a figure is measured. `bar`: what it must reach, from below where `at_most`. `meaning`: in words."""

    of: Callable[[Outcomes], Measured]
    bar: float
    meaning: str
    at_most: bool = True

    def passes(self, value: float | None) -> bool | None:
        """Whether a value keeps the limit; None without one."""
        if value is None:
            return None
        return bool(value <= self.bar if self.at_most else value >= self.bar)


def _own(outcomes: Outcomes) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.category != "photograph"]


def _harms(outcomes: Iterable[Outcome]) -> list[Harm]:
    return [outcome.harm for outcome in outcomes if outcome.harm is not None]


def _clean(outcomes: Outcomes) -> list[Harm]:
    return _harms(outcome for outcome in outcomes if outcome.category == "clean")


def outside_refined(outcomes: Outcomes) -> Measured:
    return mean(not outcome.refused for outcome in outcomes if outcome.category == "photograph")


def inside_refused(outcomes: Outcomes) -> Measured:
    """Of pictures whose damage training knows; other strange things may be in them."""
    return mean(outcome.refused for outcome in _own(outcomes) if "damage" not in outcome.unseen)


def inside_refused_unseen(outcomes: Outcomes) -> Measured:
    return mean(outcome.refused for outcome in _own(outcomes) if "damage" in outcome.unseen)


def clean_identical(outcomes: Outcomes) -> Measured:
    return mean(harm.identical for harm in _clean(outcomes))


def clean_worst_db(outcomes: Outcomes) -> Measured:
    return quantile((harm.psnr for harm in _clean(outcomes)), 0)


def reworded_redrawn(outcomes: Outcomes) -> Measured:
    reworded = [outcome for outcome in outcomes if outcome.unseen & {"prompt", "synonym"}]
    return mean(harm.redrawn for harm in _clean(reworded))


def things_lost(outcomes: Outcomes) -> Measured:
    harms = _harms(_own(outcomes))
    seen, kept = sum(harm.things for harm in harms), sum(harm.things_kept for harm in harms)
    return Measured((seen - kept) / seen if seen else None, seen)


CHANGED = 12.0
"""A thing whose mean change is above this, in levels of 255, is another one."""


def sound_changed(outcomes: Outcomes) -> Measured:
    changes = [harm.thing_change for harm in _harms(_own(outcomes)) if harm.thing_change is not None]
    return mean(change > CHANGED for change in changes)


def worse_than_before(outcomes: Outcomes) -> Measured:
    """Of pictures in which something is wrong; of others every change is one for the worse (`clean_identical`)."""
    wrong = _harms(outcome for outcome in _own(outcomes) if outcome.category != "clean")
    return mean(harm.rmse_after > harm.rmse_before for harm in wrong)


def scores_lowered(outcomes: Outcomes) -> Measured:
    harms = _harms(_own(outcomes))
    return Measured(float(sum(min(h.perceptual, h.alignment) < -FELL for h in harms)), len(harms))


LIMITS: dict[str, Limit] = {
    "outside_refined": Limit(outside_refined, 0.0, "photographs that are refined unasked"),
    "inside_refused": Limit(inside_refused, 0.01, "held-out pictures refused as outside, known damage"),
    "inside_refused_unseen": Limit(inside_refused_unseen, 0.03, "the same, damage that is never trained on"),
    "clean_identical": Limit(clean_identical, 0.99, "clean pictures that come back byte for byte", False),
    "clean_worst_db": Limit(clean_worst_db, 38.0, "lowest PSNR of any clean picture", False),
    "reworded_redrawn": Limit(reworded_redrawn, 0.03, "clean pictures with reworded prompts, redrawn"),
    "things_lost": Limit(things_lost, 0.005, "sound things the judge saw before and not after"),
    "sound_changed": Limit(sound_changed, 0.05, "pictures with a sound thing away from damage changed"),
    "worse_than_before": Limit(worse_than_before, 0.05, "wrong pictures that end farther from the truth"),
    "scores_lowered": Limit(scores_lowered, 0.0, "results whose own p or a is lower than before"),
}


def measured(outcomes: Outcomes) -> dict[str, Any]:
    """All figures as they go into the JSON: values by key, limits, verdicts, counts, and parts of the set."""
    found = {key: limit.of(outcomes) for key, limit in LIMITS.items()}
    return {
        **{key: result.value for key, result in found.items()},
        "bars": {key: limit.bar for key, limit in LIMITS.items()},
        "passed": {key: limit.passes(found[key].value) for key, limit in LIMITS.items()},
        "samples": {key: result.samples for key, result in found.items()},
        "details": details(outcomes),
    }


def details(outcomes: Outcomes) -> dict[str, dict[str, float | bool | int | None]]:
    """Every figure of the held-out pictures that are like training (`_seen`), of those that are strange in any way
    (`_unseen`) and in one (`_unseen/damage`); and of those alone into which stage 1 drew (`_redrawn`)."""
    own, parts = _own(outcomes), {}
    kinds = sorted({kind for outcome in own for kind in outcome.unseen})
    redrawn = [outcome for outcome in own if outcome.harm is not None and outcome.harm.redrawn]
    for key, limit in LIMITS.items():
        if key == "outside_refined":
            continue
        parts[f"{key}_seen"] = limit.of([outcome for outcome in own if not outcome.unseen])
        parts[f"{key}_unseen"] = limit.of([outcome for outcome in own if outcome.unseen])
        for kind in kinds:
            parts[f"{key}_unseen/{kind}"] = limit.of([o for o in own if kind in o.unseen])
        parts[f"{key}_redrawn"] = limit.of(redrawn)
    parts["psnr_median"] = quantile((harm.psnr for harm in _harms(own)), 0.5)
    return {
        name: {"value": part.value, "samples": part.samples} for name, part in parts.items() if part.samples
    }


def largest_change(before: np.ndarray, after: np.ndarray, things: Iterable[np.ndarray]) -> float | None:
    """The largest mean change of a thing, in levels of 255, None without things.

    before, after: uint8 (H, W, 3). things: bool (H, W), the pixels of each that count; one without any is left out.
    """
    change = np.abs(after.astype(np.int16) - before.astype(np.int16)).mean(axis=2)
    return max((float(change[thing].mean()) for thing in things if thing.any()), default=None)
