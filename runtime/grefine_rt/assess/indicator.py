"""The assess step as a whole: a picture and its prompt become scores, maps and phrases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from grefine_rt.assess import alignment as matching
from grefine_rt.assess import perceptual
from grefine_rt.assess.phrases import parse
from grefine_rt.errors import OptionError, PromptError
from grefine_rt.imaging.image import encoder_input
from grefine_rt.text.emphasis import plain_text

if TYPE_CHECKING:
    from grefine_rt.bundle.store import Bundle

Scoring = Literal["calibrated", "published"]
FloatMap = NDArray[np.float32]

MAX_PHRASES = 64
"""Phrases of a prompt that are looked at. Text encoders read 50 to 80 tokens: later ones cannot be drawn."""


@dataclass(frozen=True)
class AssessOptions:
    """Readings of the assess step.

    scoring: "calibrated" or "published" perceptual scores, see `assess.perceptual`; None means the bundle's
        own.
    adjective_rule: "penalised" or "printed", see `assess.alignment.score_phrases`.
    """

    scoring: Scoring | None = None
    adjective_rule: matching.AdjectiveRule = "penalised"

    def __post_init__(self) -> None:
        """Raises OptionError for a reading that does not exist."""
        if self.scoring not in ("calibrated", "published", None):
            raise OptionError(f"The option 'scoring' must be calibrated or published, not {self.scoring!r}.")
        if self.adjective_rule not in ("penalised", "printed"):
            raise OptionError(
                f"The option 'adjective_rule' must be penalised or printed, not {self.adjective_rule!r}."
            )


@dataclass(frozen=True, eq=False)
class Assessment:
    """How good a picture is, and where it is not. H and W are the picture's size in pixels; scores in [0, 1].

    perceptual, alignment: p (Eq. 3) and a (Eq. 8).
    ip_iqa: scores of the separate assessor IP-IQA, None where the bundle has none.
    perceptual_map: P of Eq. 3, float32 (H, W) in [0, 1], 1 is good.
    alignment_map: A of Eq. 6 with the bundle's readings, float32 (H, W) in [0, 1], 1 is to be redrawn.
    factors, factor_maps: overall, technical, rationality, naturalness; maps as `perceptual_map`.
    phrases: every phrase of the prompt with its scores and defect.
    prompt: as given.
    notes: plain sentences on what was left out, for example of a very long prompt.
    """

    perceptual: float
    alignment: float
    ip_iqa: dict[str, float] | None
    perceptual_map: FloatMap
    alignment_map: FloatMap
    factors: dict[str, float]
    factor_maps: dict[str, FloatMap]
    phrases: tuple[matching.PhraseScore, ...]
    prompt: str
    notes: tuple[str, ...] = ()


def assess(bundle: Bundle, rgb: NDArray[np.uint8], prompt: str, options: AssessOptions) -> Assessment:
    """Both indicators for a picture, uint8 RGB (H, W, 3). Raises PromptError when the prompt says nothing."""
    text = check_prompt(prompt)
    manifest = bundle.manifest
    scoring = options.scoring or manifest.perceptual.scoring
    wanted, score = (
        ("pairs", perceptual.calibrated) if scoring == "calibrated" else ("published", perceptual.published)
    )
    quality_tokens, image_tokens = _encode_image(bundle, rgb, wanted)
    quality = score(quality_tokens, manifest.perceptual.alpha)

    found = parse(text)
    phrases = found[:MAX_PHRASES]
    texts = ["", text, *(phrase.noun for phrase in phrases), *(phrase.text for phrase in phrases)]
    features = _encode_texts(bundle, texts)
    rows = matching.match(image_tokens, features[1:], features[0], manifest.alignment.temperature)
    scored = matching.score_phrases(
        phrases,
        rows[1 : 1 + len(phrases)],
        rows[1 + len(phrases) :],
        a_bound=manifest.alignment.a_bound,
        beta=manifest.alignment.beta,
        adjective_rule=options.adjective_rule,
    )
    places = matching.regions(scored, manifest.plan.missing_region)
    redraw = matching.join(places, manifest.plan.joining, manifest.alignment.grid)

    size = (rgb.shape[0], rgb.shape[1])
    return Assessment(
        perceptual=quality.score,
        alignment=matching.overall(float(rows[0, 0]), scored, manifest.alignment.beta),
        ip_iqa=None,
        perceptual_map=perceptual.upsample(quality.map, size),
        alignment_map=perceptual.upsample(redraw, size),
        factors=quality.factors,
        factor_maps={name: perceptual.upsample(part, size) for name, part in quality.factor_maps.items()},
        phrases=scored,
        prompt=prompt,
        notes=_notes(bundle, text, len(found)),
    )


def check_prompt(prompt: str) -> str:
    """The prompt without weights and tags. Raises PromptError when nothing is left, or it is no text."""
    text = plain_text(prompt) if isinstance(prompt, str) else ""
    if not text.strip():
        raise PromptError("The prompt is empty: describe in words what the picture should show.")
    return text


def _encode_image(bundle: Bundle, rgb: NDArray[np.uint8], wanted: str) -> tuple[FloatMap, FloatMap]:
    """(1+N, 4[, 2]) of the output `wanted` of `perceptual`, and (1+N, d) of `alignment_image`.

    A bundle may serve both from one graph; then the picture goes through it once.
    """
    manifest = bundle.manifest
    quality, match = bundle.engine("perceptual"), bundle.engine("alignment_image")
    image = encoder_input(rgb, manifest.perceptual.resolution)
    if quality is match:
        both = quality.run({"image": image}, [wanted, "tokens"])
        return both[wanted][0], both["tokens"][0]
    first = quality.run({"image": image}, [wanted])[wanted][0]
    if manifest.alignment.resolution != manifest.perceptual.resolution:
        image = encoder_input(rgb, manifest.alignment.resolution)
    return first, match.run({"image": image}, ["tokens"])["tokens"][0]


def _encode_texts(bundle: Bundle, texts: list[str]) -> FloatMap:
    """Features (n, d) of all texts, through the text encoder in one batch; equal texts are encoded once."""
    unique = list(dict.fromkeys(texts))
    engine = bundle.engine("alignment_text")
    (tokenizer,) = bundle.tokenizer("alignment_text")
    ids = np.stack([tokenizer.encode(text) for text in unique])
    features = engine.run({"ids": ids}, ["features"])["features"]
    return features[[unique.index(text) for text in texts]]


def _notes(bundle: Bundle, text: str, phrases: int) -> tuple[str, ...]:
    notes = []
    (tokenizer,) = bundle.tokenizer("alignment_text")
    shorter = text.strip().rpartition(" ")[0]
    # Where the last word leaves no trace in the ids, it lies beyond what the text encoder reads.
    if shorter and np.array_equal(tokenizer.encode(text), tokenizer.encode(shorter)):
        notes.append("The prompt is longer than the text encoder reads, so its end is not used as a whole.")
    if phrases > MAX_PHRASES:
        notes.append(f"Only the first {MAX_PHRASES} of the {phrases} phrases of the prompt were looked at.")
    return tuple(notes)
