"""The work of a worker thread on a request: the picture decoded, the library called, the answer encoded."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from PIL import Image

from grefine_rt.arrays import Mask
from grefine_rt.assess.indicator import Assessment, check_prompt
from grefine_rt.cancel import CancelToken, stop_if_cancelled
from grefine_rt.errors import ImageError, PromptError
from grefine_rt.imaging.encode import Encoding, encode
from grefine_rt.imaging.image import Picture, load, open_picture
from grefine_rt.imaging.prompts.read import read_prompt
from grefine_rt.plan.costs import plan_costs
from grefine_rt.plan.limits import limits_of
from grefine_rt.plan.options import PlanOptions
from grefine_rt.refiner import RefineOptions, Refiner, RefineResult
from grefine_rt.report import answers
from grefine_rt.service.requests import Asked, PlanFields

T = TypeVar("T")

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


@dataclass(frozen=True)
class Look:
    """A decoded picture and its prompt."""

    picture: Picture
    told: Told


def assess_together(
    refiner: Refiner, requests: Sequence[tuple[Asked, CancelToken]]
) -> list[Answer | Exception]:
    """Pictures assessed in one run of each graph: for every request its answer, or the error that it gets alone."""
    looks = [_tried(_look, asked, token) for asked, token in requests]
    start = time.perf_counter()
    found = iter(_assessed(refiner, [look for look in looks if isinstance(look, Look)]))
    spent = 1000 * (time.perf_counter() - start) / len(requests)
    return [
        _tried(_say, refiner, asked, token, look, next(found), spent) if isinstance(look, Look) else look
        for (asked, token), look in zip(requests, looks, strict=True)
    ]


def _look(asked: Asked, token: CancelToken) -> Look:
    picture = load(asked.image)
    told = _told(asked, picture)
    stop_if_cancelled(token, "before the picture was assessed")
    return Look(picture, told)


def _assessed(refiner: Refiner, looks: Sequence[Look]) -> list[Assessment | Exception]:
    if not looks:
        return []
    pictures, prompts = [look.picture for look in looks], [look.told.prompt for look in looks]
    try:
        return list(refiner.assess_batch(pictures, prompts, batch=len(looks)))
    except Exception as error:
        if len(looks) == 1:
            return [error]
        return [found for look in looks for found in _assessed(refiner, [look])]


def _say(
    refiner: Refiner,
    asked: Asked,
    token: CancelToken,
    look: Look,
    found: Assessment | Exception,
    spent_ms: float,
) -> Answer:
    if isinstance(found, Exception):
        raise found
    stop_if_cancelled(token, "after the picture was assessed")
    picture, timings = look.picture, {"assess": spent_ms}
    value = {
        **_about(refiner, look.told),
        "before": answers.scores_json(found),
        "phrases": answers.phrases_json(found),
        **answers.domain_json(found),
        "notes": [*picture.notes, *found.notes],
        **_maps(asked, lambda: _drawn_maps(picture, found, None)),
    }
    if asked.fields.answer == "image":
        drawn = _png(found.heat_map("perceptual", picture)), "image/png"
        return Answer(value, drawn, _scores("before", found), timings)
    return Answer(value, timings=timings)


def _tried(work: Callable[..., T], *arguments: Any) -> T | Exception:
    try:
        return work(*arguments)
    except Exception as error:
        return error


def plan(refiner: Refiner, asked: Asked, token: CancelToken) -> Answer:
    """The plan of refining the picture, and its costs; nothing is drawn."""
    picture = load(asked.image)
    told = _told(asked, picture)
    mask, protect = _masks(asked)
    limits = limits_of(mask, protect, picture.rgb.shape)
    stop_if_cancelled(token, "before the picture was assessed")
    start = time.perf_counter()
    found = refiner.assess(picture, told.prompt)
    assessed = time.perf_counter()
    planned = limits.plan(refiner.plan(found, options=_plan_options(asked.fields, told)))
    timings = {"assess": 1000 * (assessed - start), "plan": 1000 * (time.perf_counter() - assessed)}
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
        drawn = _png(Image.fromarray(planned.mask)), "image/png"
        return Answer(value, drawn, _scores("before", found), timings)
    return Answer(value, timings=timings)


def refine(refiner: Refiner, asked: Asked, token: CancelToken) -> Answer:
    fields = asked.fields
    encoding = Encoding(fields.format, fields.quality)
    picture = load(asked.image)
    told = _told(asked, picture)
    # Before the work: a format that cannot hold the picture.
    name = encoding.of(None, picture.metadata.format, picture.alpha is not None)
    mask, protect = _masks(asked)
    options = RefineOptions(plan=_plan_options(fields, told), outside=fields.outside)
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
    """`mask` and `protect`, None where they are not given. Raises ImageError."""

    def read(name: str) -> Image.Image | None:
        try:
            return open_picture(asked.files[name]) if name in asked.files else None
        except ImageError as error:
            raise ImageError(f"The field '{name}': {error}") from None

    return read("mask"), read("protect")


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
