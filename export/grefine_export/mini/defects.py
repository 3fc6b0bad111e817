"""Defects of generated pictures, made on purpose: each has a strength, a mask and a price in quality.

The mean opinion score (MOS, 1..5) of a damaged picture follows one formula, the same for every kind. With strength s
in 0..1, damaged share c of the picture and visibility v = min(1, RMSE inside the mask / 0.12), one defect costs

    penalty = importance[factor] * s**0.5 * v**0.5 * (0.35 + 0.65 * c**0.5)

and MOS = 1 + 4 * prod(1 - penalty) over the defects: defects add up and none is made good by the rest (the
paper's cask effect). The importances 1.0, 0.6, 0.8 are the paper's. The score of one factor is the product
over the defects of that factor alone.

A third of the kinds of every factor, `UNSEEN_DEFECTS`, is never trained on: training draws from `TRAINED`, by
`damage_often` or by name, the test set from all. Every unseen kind has a relative among the seen ones ("motion" and
"blur", "melted" and "warped"), as the defects of a generator that nobody has met are seldom wholly new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from grefine_export.mini.misshapen import RATIONALITY, misdrawn
from grefine_export.mini.regions import NEAR, changed, closed, dilated, spot
from grefine_export.mini.technical import TECHNICAL, Image8
from grefine_export.mini.unnatural import NATURALNESS
from grefine_export.mini.world import SIZE, Rendered

FACTORS = ("technical", "rationality", "naturalness")
IMPORTANCE = {"technical": 1.0, "rationality": 0.6, "naturalness": 0.8}

KINDS_OF: dict[str, tuple[str, ...]] = {
    "technical": tuple(TECHNICAL),
    "rationality": tuple(RATIONALITY),
    "naturalness": tuple(NATURALNESS),
}
"""Factor -> all its kinds."""
KINDS_OF_DEFECT = tuple(kind for factor in FACTORS for kind in KINDS_OF[factor])
UNSEEN_DEFECTS = frozenset(
    {
        *("motion", "compression", "scanlines", "fringes", "ghost"),
        *("melted", "swapped", "limbs", "bitten"),
        *("channels", "duotone", "exposure"),
    }
)
"""A third of the kinds; never trained on, nor used for fitting constants."""
TRAINED: dict[str, tuple[str, ...]] = {
    factor: tuple(kind for kind in kinds if kind not in UNSEEN_DEFECTS) for factor, kinds in KINDS_OF.items()
}
"""Factor -> the kinds that training may draw."""

_WITHOUT_FACTOR = dict.fromkeys(FACTORS, 1.0)
_LEAST_PENALTY, _TRIES = 0.06, 5
_FACTOR_OF = {kind: factor for factor, kinds in KINDS_OF.items() for kind in kinds}


@dataclass(frozen=True)
class Defect:
    """One damage: `kind`, its `factor`, `strength` 0..1, `mask` bool (128, 128) and its `penalty` 0..1."""

    kind: str
    factor: str
    strength: float
    mask: np.ndarray
    penalty: float


def _priced(
    kind: str, factor: str, strength: float, before: Image8, after: Image8, mask: np.ndarray
) -> Defect:
    error = (after.astype(np.float32) - before)[mask] / 255
    visible = min(1.0, float(np.sqrt(np.mean(error**2))) / 0.12) if mask.any() else 0.0
    share = float(mask.mean())
    penalty = IMPORTANCE[factor] * (strength * visible) ** 0.5 * (0.35 + 0.65 * share**0.5)
    return Defect(kind, factor, strength, mask, min(penalty, 0.95))


def _once(drawn: Rendered, kind: str, reach: str, rng: np.random.Generator) -> tuple[Image8, Defect]:
    factor, strength = _FACTOR_OF[kind], float(rng.uniform(0.25, 1.0))
    before = drawn.image
    if factor == "rationality":
        after = misdrawn(drawn, kind, strength, rng)
        mask = closed(changed(before, after), 4)
        return after, _priced(kind, factor, strength, before, after, mask)
    full = (TECHNICAL | NATURALNESS)[kind](before, strength, rng)
    if reach == "global":
        return full, _priced(kind, factor, strength, before, full, np.ones((SIZE, SIZE), bool))
    # A thing of another colour all over is no unnatural one: any thing may have any colour.
    soft = spot(drawn, rng, shapes=factor == "technical")
    mixed = before * (1 - soft[..., None]) + full * soft[..., None]
    after = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    # What is blurred on a plain ground can not be seen: there the picture is as sound as it was.
    mask = (soft > 0.3) & dilated(changed(before, after), NEAR)
    return after, _priced(kind, factor, strength, before, after, mask)


def damage(drawn: Rendered, kind: str, reach: str, rng: np.random.Generator) -> tuple[Image8, Defect]:
    """Applies one defect of any kind. `reach`: "local" or "global" (rationality is always local). Returns picture and
    truth. A defect of which next to nothing shows (a hue turned on grey) is tried again elsewhere, a few times."""
    for _ in range(_TRIES):
        after, defect = _once(drawn, kind, reach, rng)
        if defect.penalty >= _LEAST_PENALTY:
            break
    return after, defect


def mos(defects: Sequence[Defect]) -> float:
    """Mean opinion score, 1..5, of a picture with these defects."""
    return 1 + 4 * float(np.prod([1 - d.penalty for d in defects])) if defects else 5.0


def factor_scores(defects: Sequence[Defect]) -> tuple[float, float, float]:
    """(technical, rationality, naturalness), each 0..1."""
    scores = _WITHOUT_FACTOR.copy()
    for defect in defects:
        scores[defect.factor] *= 1 - defect.penalty
    return scores["technical"], scores["rationality"], scores["naturalness"]


def damage_often(drawn: Rendered, rng: np.random.Generator) -> tuple[Image8, list[Defect]]:
    """None to three random defects of the kinds of `TRAINED`, as pictures of a weak generator have them: a third stay
    sound."""
    kinds = [kind for factor in FACTORS for kind in TRAINED[factor]]
    count = int(rng.choice(4, p=[0.34, 0.46, 0.15, 0.05]))
    image, defects = drawn.image, []
    for kind in rng.choice(kinds, size=count, replace=False):
        reach = "local" if rng.random() < 0.65 else "global"
        image, defect = damage(Rendered(image, drawn.owner), str(kind), reach, rng)
        defects.append(defect)
    return image, defects
