"""The options of the assess step."""

from __future__ import annotations

from dataclasses import dataclass

from grefine_rt.options import Checked, option
from grefine_rt.readings import AdjectiveRule, AlignmentScore, Bounds, Factors, Scoring, Upsampling

PANEL = "How a picture is assessed"

_USUAL = "The default is the script's reading with the scoring published and the paper's with calibrated."


@dataclass(frozen=True)
class AssessOptions(Checked):
    """Readings of the assess step; None means the bundle's own. `docs/options.md` is the table of all options.

    Equations of G-Refine: `factors` and `bounds` Eq. 3, `adjective_rule` and `alignment_score` Eq. 8.
    """

    scoring: Scoring | None = option(
        None,
        "How good it looks: calibrated probabilities, or published, as the authors' script has it.",
        more="published alone equals the script as it is called, with factors=product its --multi.",
        panel=PANEL,
        reading=True,
    )
    adjective_rule: AdjectiveRule = option(
        "penalised",
        "When a phrase's adjective is missed.",
        more="The noun is there, and the phrase scores lower than it (printed); it must also be low enough to cost "
        "something in the alignment score (penalised), for a describing word always moves the score a little.",
        panel=PANEL,
        reading=True,
    )
    alignment_score: AlignmentScore = option(
        "phrases",
        "Where the alignment score comes from: the prompt's phrases, or the bundle's ImageReward.",
        more="Maps and phrases are the same either way.",
        panel=PANEL,
        reading=True,
    )
    factors: Factors | None = option(
        None,
        "How good it looks: overall alone (script), or times technical quality, shapes and naturalness (paper).",
        more=_USUAL,
        panel=PANEL,
        reading=True,
    )
    bounds: Bounds | None = option(
        None,
        "Each of these factors has a bound of its own (paper), or all have the first (script).",
        more=_USUAL,
        panel=PANEL,
        reading=True,
    )
    upsampling: Upsampling | None = option(
        None,
        "How the map of looks is enlarged: bicubic in the paper, bilinear in the script.",
        more=_USUAL,
        panel=PANEL,
        reading=True,
    )
