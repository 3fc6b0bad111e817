"""One line on a refined picture, in plain words: its defects, the changes, the defects left."""

from __future__ import annotations

from collections.abc import Sequence

from grefine_rt.assess.alignment import PhraseScore
from grefine_rt.assess.indicator import Assessment
from grefine_rt.plan.plan import RefinePlan

SOUND = 0.9
"""At this quality and above it a place looks sound, as in `accept`."""


def summary(
    plan: RefinePlan, before: Assessment, after: Assessment, redrawn: bool, restored: bool, share: float
) -> str:
    """Three sentences on one line.

    redrawn, restored: whether the result has something of stage 1, of stage 2. share: of the picture's pixels that are
    other than before, in [0, 1]. A phrase that the bundle does not know is in none of them.
    """
    settings = plan.settings
    worst = float(before.perceptual_map.min())
    # The bound of whole pictures may lie so high that no place below it looks wrong to anybody.
    poor = settings.quality and before.perceptual <= settings.p_bound and worst < min(settings.p_bound, SOUND)
    wrong = [f"parts of the picture look poor ({worst:.2f} of 1 at worst)"] if poor else []
    wrong += defects(before.phrases) if settings.matching else []
    found = f"Found: {', '.join(wrong)}." if wrong else "Found nothing wrong with the picture."
    if share == 0:
        return f"{found} Nothing was changed."
    done = " and ".join(["redrawn"] * redrawn + ["restored"] * restored) or "changed"
    what = f"{percent(share)} of it was {done}."
    # Both numbers, also where one of them stands: a reader compares.
    scores = (
        f"Now it looks {after.perceptual:.2f} of 1 (before {before.perceptual:.2f}) and shows its prompt "
        f"{after.alignment:.2f} of 1 (before {before.alignment:.2f})."
    )
    left = defects(after.phrases) if settings.matching else []
    return " ".join([found, what, scores, *([f"Left: {', '.join(left)}."] if left else [])])


def defects(phrases: Sequence[PhraseScore]) -> list[str]:
    """A few words on each phrase that is missing or looks different, each once."""
    words = {"noun": "is missing", "adjective": "looks different"}
    told = [f"'{phrase.text}' {words[phrase.defect]}" for phrase in phrases if phrase.defect in words]
    return list(dict.fromkeys(told))


def percent(share: float) -> str:
    """A share above 0, to begin a sentence with: "12 %", "Less than 1 %", "All"."""
    if share >= 0.995:
        return "All"
    return "Less than 1 %" if share < 0.005 else f"{100 * share:.0f} %"
