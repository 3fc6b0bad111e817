"""The assess step as a whole: a picture and its prompt become scores, maps and phrases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from grefine_rt.arrays import FloatMap, Rgb
from grefine_rt.assess import alignment as matching
from grefine_rt.assess import perceptual
from grefine_rt.assess.domain import Domain, Membership
from grefine_rt.assess.options import AssessOptions as AssessOptions
from grefine_rt.assess.prompt import Phrase, check_length, prompt_phrases
from grefine_rt.assess.scorers.base import Batch, Scale, Score, judge, scorers_of
from grefine_rt.assess.texts import TextFeatures
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.cancel import Cancels
from grefine_rt.engine.batch import run_rows
from grefine_rt.engine.devices import Choice
from grefine_rt.engine.finite import all_finite, finite
from grefine_rt.errors import OptionError, PromptError
from grefine_rt.imaging import heatmap
from grefine_rt.imaging.image import Source, encoder_input, load
from grefine_rt.models.bundle import Bundle
from grefine_rt.readings import AdjectiveRule, Scoring
from grefine_rt.text.emphasis import plain_text

INDICATORS = {
    "perceptual": Scale("how good the picture looks"),
    "alignment": Scale("how well it shows its prompt"),
}
"""The scales of both indicators."""

MAX_PHRASES = 64
"""Phrases of a prompt that are looked at. Text encoders read 50 to 80 tokens: later ones cannot be drawn."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """Scores, maps and phrases of one picture. H and W are its size in pixels; scores in [0, 1].

    perceptual, alignment: p (Eq. 3) and a (Eq. 8).
    perceptual_map: P of Eq. 3, float32 (H, W) in [0, 1], 1 is good.
    alignment_map: A of Eq. 6 with the bundle's readings, float32 (H, W) in [0, 1], 1 is to be redrawn.
    factors, factor_maps: overall, technical, rationality, naturalness; maps as `perceptual_map`.
    phrases: every phrase of the prompt with its scores and defect.
    prompt: as given.
    notes: plain sentences on omissions, for example of the end of a very long prompt.
    metrics: scores of the bundle's metrics, by name, each with its scale.
    domain: whether picture and prompt are of the kind that the bundle was made for; None where it is open.
    backends: the backend of each component that the bundle had loaded by then, and the reason.
    """

    perceptual: float
    alignment: float
    perceptual_map: FloatMap
    alignment_map: FloatMap
    factors: dict[str, float]
    factor_maps: dict[str, FloatMap]
    phrases: tuple[matching.PhraseScore, ...]
    prompt: str
    notes: tuple[str, ...] = ()
    metrics: Mapping[str, Score] = field(default_factory=dict)
    domain: Membership | None = None
    backends: tuple[Choice, ...] = ()

    @property
    def scores(self) -> dict[str, Score]:
        """Every score of the picture by name, each with its scale: "perceptual", "alignment", and the bundle's
        metrics, such as "ip_iqa_quality"."""
        return {
            "perceptual": Score(self.perceptual, INDICATORS["perceptual"], "perceptual", "quality"),
            "alignment": Score(self.alignment, INDICATORS["alignment"], "prompt", "alignment"),
            **self.metrics,
        }

    @property
    def ip_iqa(self) -> dict[str, float] | None:
        """Values of the separate assessor IP-IQA, "quality" and perhaps "alignment", in the units of the opinions it
        was trained on; None where the bundle has none."""
        own = (score for score in self.metrics.values() if score.metric == "ip_iqa")
        return {score.part: score.value for score in own} or None

    def heat(self) -> dict[str, FloatMap]:
        """Every map, float32 (H, W) in [0, 1], turned so that 1 asks for work: `perceptual`, `alignment`,
        `technical`, `rationality`, `naturalness`."""
        factors = {name: 1 - values for name, values in self.factor_maps.items() if name != "overall"}
        return {"perceptual": 1 - self.perceptual_map, "alignment": self.alignment_map, **factors}

    def heat_map(self, name: str = "perceptual", image: Source | None = None) -> Image.Image:
        """One map of `heat` as a picture, hot in places that ask for work, over `image` where one is given.

        `image` is the assessed picture in any form that `imaging.image.load` takes. Raises OptionError for an
        unknown name and for a picture of another size, and ImageError.
        """
        if name not in (heat := self.heat()):
            raise OptionError(f"There is no heat map '{name}': choose one of {', '.join(heat)}.")
        if image is None:
            return Image.fromarray(heatmap.colourise(heat[name]))
        rgb = load(image).rgb
        if rgb.shape[:2] != heat[name].shape:
            raise OptionError(
                f"The heat map has {heat[name].shape[1]} x {heat[name].shape[0]} pixels, but the picture "
                f"{rgb.shape[1]} x {rgb.shape[0]}: give the picture that was assessed."
            )
        return Image.fromarray(heatmap.overlay(rgb, heat[name]))


class Encoders:
    """The text encoders and metrics of a bundle; `remembered` as in `TextFeatures`. Raises BundleError."""

    def __init__(self, bundle: Bundle, remembered: int = 0) -> None:
        self.alignment = TextFeatures(bundle, "alignment_text", remembered)
        self.scorers = scorers_of(bundle, remembered)
        self.domain = Domain(bundle)


def assess_batch(
    bundle: Bundle,
    pictures: Sequence[Rgb],
    prompts: Sequence[str],
    options: AssessOptions,
    encoders: Encoders,
    map_size: tuple[int, int] | None = None,
    cancel: Cancels | None = None,
) -> list[Assessment]:
    """Both indicators for 1 or more pictures, each uint8 RGB (H, W, 3) of its own size, and as many prompts.

    map_size: (H, W) of all maps, for callers that want the scores alone; None for the size of each picture. Every
    picture is resized to the encoders' input, so one run of an encoder serves them all. `cancel` stops the reading of
    a prompt. Raises PromptError when a prompt says nothing, OptionError for an option that the bundle can not serve,
    Cancelled, BundleError also for a graph that gives a NaN, and DeviceError.
    """
    texts = [check_prompt(prompt) for prompt in prompts]
    _check_score(options, bundle.manifest)
    scoring = options.scoring or bundle.manifest.perceptual.scoring
    wanted = "pairs" if scoring == "calibrated" else "published"
    quality_tokens, image_tokens, images = _encode_images(bundle, pictures, wanted)
    # From the prompts as given: brackets that are literal in the plain texts would be read as weights.
    parsed = {text: prompt_phrases(prompt, cancel) for text, prompt in zip(texts, prompts, strict=True)}
    spoken = {text: _spoken(text, phrases[:MAX_PHRASES]) for text, phrases in parsed.items()}
    every = list(dict.fromkeys(piece for pieces in spoken.values() for piece in pieces))
    features = dict(zip(every, encoders.alignment(every), strict=True))
    judged = judge(encoders.scorers, Batch(pictures, texts, prompts, images))
    seen = zip(pictures, prompts, texts, quality_tokens, image_tokens, judged, strict=True)
    return [
        _assessment(
            bundle,
            encoders.domain,
            options,
            map_size or (rgb.shape[0], rgb.shape[1]),
            _Looked(quality, tokens, np.stack([features[piece] for piece in spoken[text]]), metrics),
            prompt,
            text,
            parsed[text],
        )
        for rgb, prompt, text, quality, tokens, metrics in seen
    ]


@dataclass(frozen=True, eq=False)
class _Looked:
    """The graphs' outputs for one picture.

    quality (1+N, 4[, 2]) and tokens (1+N, d) of the image encoders; texts (1 + 1 + 2 k, d), features of `_spoken`;
    metrics: scores of the bundle's metrics.
    """

    quality: FloatMap
    tokens: FloatMap
    texts: FloatMap
    metrics: Mapping[str, Score]


def _check_score(options: AssessOptions, manifest: Manifest) -> None:
    """Raises OptionError where a score is to be ImageReward's and the bundle has none."""
    if options.alignment_score == "reward" and "image_reward" not in manifest.scorers:
        raise OptionError(
            f"Bundle '{manifest.name}' has no ImageReward: leave the option 'alignment_score' at phrases, or make "
            f"a bundle with 'grefine-export blip'."
        )


def _spoken(text: str, phrases: Sequence[Phrase]) -> list[str]:
    """The texts of a prompt that are encoded: "", itself, each phrase's noun and each phrase."""
    return ["", text, *(phrase.noun for phrase in phrases), *(phrase.text for phrase in phrases)]


def _assessment(
    bundle: Bundle,
    domain: Domain,
    options: AssessOptions,
    size: tuple[int, int],
    looked: _Looked,
    prompt: str,
    text: str,
    phrases: Sequence[Phrase],
) -> Assessment:
    """The assessment of one picture, with maps of a `size` (H, W); `text` is its prompt without weights."""
    manifest = bundle.manifest
    scoring = options.scoring or manifest.perceptual.scoring
    readings = _readings(options, scoring)
    score = perceptual.calibrated if scoring == "calibrated" else perceptual.published
    quality = score(looked.quality, manifest.perceptual.alpha, readings)
    overall, scored, redraw = _align(
        manifest, looked.tokens, phrases[:MAX_PHRASES], looked.texts, options.adjective_rule, domain
    )
    if options.alignment_score == "reward":
        overall = looked.metrics["image_reward"].share
    unknown = [phrase.text for phrase in scored if not phrase.known]
    membership = domain.membership(looked.tokens, text, unknown)
    return Assessment(
        perceptual=quality.score,
        alignment=overall,
        perceptual_map=perceptual.upsample(quality.map, size, readings.upsampling),
        alignment_map=perceptual.upsample(redraw, size),
        factors=quality.factors,
        factor_maps={
            name: perceptual.upsample(part, size, readings.upsampling)
            for name, part in quality.factor_maps.items()
        },
        phrases=scored,
        prompt=prompt,
        notes=(*(membership.notes if membership else ()), *_notes(bundle, text, len(phrases))),
        metrics=looked.metrics,
        domain=membership,
        backends=bundle.choices,
    )


def _readings(options: AssessOptions, scoring: Scoring) -> perceptual.Readings:
    """The three readings that a scoring is taken with."""
    usual = perceptual.SCRIPT if scoring == "published" else perceptual.PAPER
    return perceptual.Readings(
        options.factors or usual.factors,
        options.bounds or usual.bounds,
        options.upsampling or usual.upsampling,
    )


def _align(
    manifest: Manifest,
    image_tokens: FloatMap,
    phrases: Sequence[Phrase],
    features: FloatMap,
    adjective_rule: AdjectiveRule,
    domain: Domain,
) -> tuple[float, tuple[matching.PhraseScore, ...], FloatMap]:
    """Eq. 5, 6 and 8 for one picture: the score a, the phrases, and A on the token grid.

    `image_tokens` (1+N, d); `features` of "", of the prompt, of each phrase's noun and of each
    phrase.
    """
    settings = manifest.alignment
    rows = matching.match(image_tokens, features[1:], features[0], settings.temperature)
    scored = matching.score_phrases(
        phrases,
        rows[1 : 1 + len(phrases)],
        rows[1 + len(phrases) :],
        a_bound=settings.a_bound,
        beta=settings.beta,
        adjective_rule=adjective_rule,
        known=[domain.knows(phrase.noun) for phrase in phrases],
    )
    places = matching.regions(scored, manifest.plan.missing_region)
    redraw = matching.join(places, manifest.plan.joining, settings.grid)
    return matching.overall(float(rows[0, 0]), scored, settings.beta), scored, redraw


def check_prompt(prompt: str) -> str:
    """The prompt without weights and tags. Raises PromptError when nothing is left, it is no text, or too long."""
    if isinstance(prompt, str):
        check_length(prompt)
    text = plain_text(prompt) if isinstance(prompt, str) else ""
    if not text.strip():
        raise PromptError("The prompt is empty: describe in words what the picture should show.")
    return text


def _encode_images(
    bundle: Bundle, pictures: Sequence[Rgb], wanted: str
) -> tuple[FloatMap, FloatMap, FloatMap]:
    """(b, 1+N, 4[, 2]) of the output `wanted` of `perceptual`, (b, 1+N, d) of `alignment_image`, and the
    pictures as the latter took them, (b, 3, R, R).

    A bundle may serve both from one graph; then the pictures go through it once.
    """
    manifest = bundle.manifest
    quality, match = bundle.engine("perceptual"), bundle.engine("alignment_image")

    def inputs(resolution: int) -> FloatMap:
        return np.concatenate([encoder_input(rgb, resolution) for rgb in pictures])

    images = inputs(manifest.perceptual.resolution)
    if quality is match:
        both = all_finite("perceptual", run_rows(quality, {"image": images}, [wanted, "tokens"]))
        return both[wanted], both["tokens"], images
    first = finite("perceptual", run_rows(quality, {"image": images}, [wanted])[wanted])
    if manifest.alignment.resolution != manifest.perceptual.resolution:
        images = inputs(manifest.alignment.resolution)
    tokens = finite("alignment_image", run_rows(match, {"image": images}, ["tokens"])["tokens"])
    return first, tokens, images


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
