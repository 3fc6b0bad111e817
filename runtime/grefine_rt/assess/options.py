"""The options of the assess step."""

from __future__ import annotations

from dataclasses import dataclass

from grefine_rt.options import Checked, option
from grefine_rt.readings import AdjectiveRule, AlignmentScore, Scoring

PANEL = "How a picture is assessed"


@dataclass(frozen=True)
class AssessOptions(Checked):
    """Readings of the assess step; None means the bundle's own. `docs/options.md` is the table of all options."""

    scoring: Scoring | None = option(
        None,
        "Perceptual scores: calibrated probabilities, or the authors' similarities as published.",
        panel=PANEL,
        reading=True,
    )
    adjective_rule: AdjectiveRule = option(
        "penalised",
        "When a phrase's adjective is missed.",
        more="The noun is there, and the phrase scores lower than it (printed); it must also be low enough to cost "
        "something in Eq. 8 (penalised), for a describing word always moves the score a little.",
        panel=PANEL,
        reading=True,
    )
    alignment_score: AlignmentScore = option(
        "phrases",
        "What the alignment score a is: Eq. 8, or the bundle's ImageReward.",
        more="Maps and phrases are the same either way.",
        panel=PANEL,
        reading=True,
    )
