"""What a worker thread does with a request: the picture decoded, the library called, the answer encoded."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from grefine_rt.arrays import Mask
from grefine_rt.assess.indicator import Assessment, check_prompt
from grefine_rt.cancel import CancelToken, stop_if_cancelled
from grefine_rt.errors import PromptError
from grefine_rt.imaging.encode import Encoding, encode
from grefine_rt.imaging.image import Picture, load, open_picture
from grefine_rt.imaging.prompts.read import read_prompt
from grefine_rt.plan.costs import plan_costs
from grefine_rt.plan.limits import limits_of
from grefine_rt.plan.options import PlanOptions
from grefine_rt.refiner import RefineOptions, Refiner, RefineResult
from grefine_rt.report import answers
from grefine_rt.service.requests import Asked, PlanFields

_MEDIA = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
}


@dataclass(frozen=True)
class Answer:
    """value: the JSON. picture: bytes and media type, where the client asked for an image. scores: for its headers.
    timings: milliseconds of the parts."""

    value: dict[str, Any]
    picture: tuple[bytes, str] | None = None
    scores: Mapping[str, float] | None = None
    timings: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Told:
    """The prompt of a request, and where it was found, None where the client said it."""

    prompt: str
    negative: str
    source: str | None


def prompt(refiner: Refiner, asked: Asked, token: CancelToken) -> Answer:
    """The prompt in a picture; nulls where there is none."""
    found = read_prompt(load(asked.image).metadata.fields())
    if found is None:
        return Answer({"prompt": None, "negative": None, "seed": None, "prompt_source": None})
    said = {"prompt": found.prompt, "negative": found.negative, "seed": found.seed}
    return Answer({**said, "prompt_source": found.source})


def assess(refiner: Refiner, asked: Asked, token: CancelToken) -> Answer:
    picture = load(asked.image)
    told = _told(asked, picture)
    stop_if_cancelled(token, "before the picture was assessed")
    found = refiner.assess(picture, told.prompt)
    stop_if_cancelled(token, "after the picture was assessed")
    value = {
        **_about(refiner, told),
        "before": answers.scores_json(found),
        "phrases": answers.phrases_json(found),
        **answers.domain_json(found),
        "notes": [*picture.notes, *found.notes],
        **_maps(asked, lambda: _drawn_maps(picture, found, None)),
    }
    if asked.fields.answer == "image":
        return Answer(
            value, (_png(found.heat_map("perceptual", picture)), "image/png"), _scores("before", found)
        )
    return Answer(value)


def plan(refiner: Refiner, asked: Asked, token: CancelToken) -> Answer:
    """What refining would do to the picture, and what that costs; nothing is drawn."""
    picture = load(asked.image)
    told = _told(asked, picture)
    mask, protect = _masks(asked)
    limits = limits_of(mask, protect, picture.rgb.shape)
    stop_if_cancelled(token, "before the picture was assessed")
    found = refiner.assess(picture, told.prompt)
    planned = limits.plan(refiner.plan(found, options=_plan_options(asked.fields, told)))
    value = {
        **_about(refiner, told),
        "before": answers.scores_json(found),
        "phrases": answers.phrases_json(found),
        **answers.domain_json(found),
        "mask": answers.mask_json(planned),
        "plan": answers.steps_json(planned, plan_costs(planned)),
        "reasons": list(planned.reasons),
        "notes": [*picture.notes, *found.notes],
        **_maps(asked, lambda: _drawn_maps(picture, found, planned.mask)),
    }
    if asked.fields.answer == "image":
        return Answer(value, (_png(Image.fromarray(planned.mask)), "image/png"), _scores("before", found))
    return Answer(value)


def refine(refiner: Refiner, asked: Asked, token: CancelToken) -> Answer:
    fields = asked.fields
    encoding = Encoding(fields.format, fields.quality)
    picture = load(asked.image)
    told = _told(asked, picture)
    # Before the work: a format that cannot hold the picture.
    name = encoding.of(None, picture.metadata.format, picture.alpha is not None)
    mask, protect = _masks(asked)
    options = RefineOptions(plan=_plan_options(fields, told))
    result = refiner.refine(
        picture, told.prompt, fields.seed, options, cancel=token, mask=mask, protect=protect
    )
    stop_if_cancelled(token, "before the result was encoded")
    data, notes = encode(result.image, name, encoding, result.metadata, result.entry())
    value = {**_refined(refiner, told, result), "notes": [*result.notes, *notes]}
    if fields.answer == "image":
        scores = {**_scores("before", result.before), **_scores("after", result.after)}
        return Answer(value, (data, _MEDIA[name]), scores, result.timings)
    value["image"] = {"media_type": _MEDIA[name], "data": _base64(data)}
    value |= _maps(asked, lambda: _drawn_maps(picture, result.before, result.plan.mask, result.after))
    return Answer(value, timings=result.timings)


def _refined(refiner: Refiner, told: Told, result: RefineResult) -> dict[str, Any]:
    return {
        **_about(refiner, told),
        "seed": result.seed,
        "run": result.run,
        "before": answers.scores_json(result.before),
        "after": answers.scores_json(result.after),
        "phrases": answers.phrases_json(result.before),
        **answers.domain_json(result.before),
        "phrases_after": answers.phrases_json(result.after),
        "mask": answers.mask_json(result.plan),
        "plan": answers.steps_json(result.plan, result.costs),
        "reasons": list(result.plan.reasons),
        "timings_ms": result.timings,
    }


def _about(refiner: Refiner, told: Told) -> dict[str, Any]:
    return {
        "prompt": told.prompt,
        "prompt_source": told.source,
        "negative": told.negative,
        "bundle": refiner.bundle.manifest.name,
        "device": answers.device_of(refiner),
    }


def _told(asked: Asked, picture: Picture) -> Told:
    """The prompt that the client said, else the one in the picture. Raises PromptError."""
    said, negative = asked.fields.prompt, getattr(asked.fields, "negative", None)
    if said is not None:
        check_prompt(said)
        return Told(said, negative or "", None)
    found = read_prompt(picture.metadata.fields())
    if found is None:
        raise PromptError("There is no prompt, and the picture's file holds none: send the field 'prompt'.")
    check_prompt(found.prompt)
    return Told(found.prompt, found.negative if negative is None else negative, found.source)


def _plan_options(fields: PlanFields, told: Told) -> PlanOptions:
    return PlanOptions(
        tau=fields.tau,
        strength_min=fields.strength,
        strength_max=fields.strength,
        strength_rule=None if fields.strength is None else "deficit",
        indicators=("perceptual", "alignment") if fields.only is None else (fields.only,),
        drafts=fields.drafts,
        stage1_steps=fields.stage1_steps,
        stage2_steps=fields.stage2_steps,
        delta=fields.delta,
        work=fields.work,
        negative=told.negative,
    )


def _masks(asked: Asked) -> tuple[Image.Image | None, Image.Image | None]:
    mask, protect = (
        open_picture(asked.files[name]) if name in asked.files else None for name in ("mask", "protect")
    )
    return mask, protect


def _scores(when: str, assessment: Assessment) -> dict[str, float]:
    return {
        f"perceptual-{when}": float(assessment.perceptual),
        f"alignment-{when}": float(assessment.alignment),
    }


def _maps(asked: Asked, draw: Callable[[], dict[str, bytes]]) -> dict[str, Any]:
    if not asked.fields.maps:
        return {}
    return {"maps": {name: _base64(data) for name, data in draw().items()}}


def _drawn_maps(
    picture: Picture, before: Assessment, mask: Mask | None, after: Assessment | None = None
) -> dict[str, bytes]:
    """Maps over the picture, hot where work is, as PNG."""
    maps = {name: _png(before.heat_map(name, picture)) for name in ("perceptual", "alignment")}
    if mask is not None:
        maps["mask"] = _png(Image.fromarray(mask))
    if after is not None:
        for name in ("perceptual", "alignment"):
            maps[f"{name}-after"] = _png(after.heat_map(name, picture))
    return maps


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
