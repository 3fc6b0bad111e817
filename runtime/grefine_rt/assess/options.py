"""The options of the assess step."""

from __future__ import annotations

from dataclasses import dataclass

from grefine_rt.options import Checked, option
from grefine_rt.readings import AdjectiveRule, AlignmentScore, Bounds, Factors, Scoring, Upsampling

PANEL = "How a picture is assessed"

_USUAL = "The default is the script's reading with the scoring published and the paper's with calibrated."


@dataclass(frozen=True)
class AssessOptions(Checked):
    """Readings of the assess step; None means the bundle's own. `docs/options.md` is the table of all options."""

    scoring: Scoring | None = option(
        None,
        "Perceptual scores: calibrated probabilities, or published, the authors' script.",
        more="published alone equals the script as it is called, with factors=product its --multi.",
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
    factors: Factors | None = option(
        None,
        "p of the overall pair alone, as the script by default, or the product of Eq. 3.",
        more=_USUAL,
        panel=PANEL,
        reading=True,
    )
    bounds: Bounds | None = option(
        None,
        "Eq. 3: each factor has its own alpha, as the paper says, or all have the first, as in the script.",
        more=_USUAL,
        panel=PANEL,
        reading=True,
    )
    upsampling: Upsampling | None = option(
        None,
        "Of the perceptual map P: bicubic in the paper, bilinear in the script.",
        more=_USUAL,
        panel=PANEL,
        reading=True,
    )
