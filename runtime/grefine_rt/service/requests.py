"""Requests as clients send them: multipart forms, or JSON with base64; read within limits, checked, not decoded."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from grefine_rt.plan.options import MAX_DRAFTS
from grefine_rt.readings import Outside
from grefine_rt.service.limits import Refused, ServiceLimits, check_pixels, check_text

FILES = ("image", "mask", "protect")
"""Fields that hold a picture: a file of a form, base64 in JSON."""

Share = Annotated[float, Field(ge=0, le=1)]
Steps = Annotated[int, Field(ge=1, le=1000)]


class PromptFields(BaseModel):
    """A picture."""

    model_config = ConfigDict(extra="forbid")


class AssessFields(PromptFields):
    """A picture and its prompt; `answer` "image" is the map of poor places, over the picture."""

    prompt: str | None = Field(
        None, description="Default: the prompt that its generator wrote into the picture."
    )
    answer: Literal["json", "image"] = "json"
    maps: bool = Field(False, description="Whether the JSON has the maps, as PNG in base64.")


class PlanFields(AssessFields):
    """A picture to plan for, and the options of the plan."""

    negative: str | None = Field(None, description="Default: what is found where the prompt is.")
    only: Literal["perceptual", "alignment"] | None = None
    tau: Annotated[float, Field(ge=0, le=2)] | None = None
    strength: Share | None = None
    delta: Share | None = None
    drafts: Annotated[int, Field(ge=1, le=MAX_DRAFTS)] | None = None
    stage1_steps: Steps | None = None
    stage2_steps: Steps | None = None
    work: Literal["trained", "native"] = "trained"


class RefineFields(PlanFields):
    """A picture to refine."""

    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] = 0
    outside: Outside = Field(
        "refuse", description="What to do with a picture unlike those that the bundle was made for."
    )
    format: Literal["png", "jpeg", "webp", "tiff", "avif"] | None = Field(
        None, description="Of the result. Default: the picture's own, PNG where it cannot be written."
    )
    quality: Annotated[int, Field(ge=1, le=100)] | None = Field(None, description="Of JPEG, WebP and AVIF.")


@dataclass(frozen=True)
class Asked:
    """A request that keeps the limits. files: bytes of image files, by name; `image` is always there. pixels: of that
    one."""

    fields: Any
    files: Mapping[str, bytes] = field(default_factory=dict)
    pixels: int = 0

    @property
    def image(self) -> bytes:
        return self.files["image"]


async def read_request(
    request: Request, model: type[PromptFields], masks: bool, limits: ServiceLimits
) -> Asked:
    """The request within the limits. masks: whether `mask` and `protect` may be given.

    Raises Refused: 400 for a body of another form than its type, 408 for one that does not arrive, 413 and 422, 415
    for another type, 499 for a client that left.
    """
    names = FILES if masks else FILES[:1]
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "encoding", "A compressed body is not read: send it as it is.")
    within = Request(request.scope, _Bounded(request, limits.body_bytes).receive)
    try:
        async with asyncio.timeout(limits.body_seconds):
            if kind == "multipart/form-data":
                fields, files = await _form(within, names, limits)
            elif kind == "application/json":
                fields, files = _json(await within.body(), names)
            else:
                raise Refused(
                    415, "content_type", "Send multipart/form-data, or application/json with base64."
                )
    except TimeoutError:
        raise Refused(408, "slow_body", f"The body took more than {limits.body_seconds:g} s.") from None
    except ClientDisconnect:
        raise Refused(499, "client_gone", "The client left.") from None
    try:
        checked = model.model_validate(fields, strict=kind == "application/json")
    except ValidationError as error:
        raise Refused(422, "field", _sentence(error)) from None
    if not files.get("image"):
        raise Refused(
            422, "field", "There is no image: send the bytes of an image file as the field 'image'."
        )
    for name in ("prompt", "negative"):
        check_text(getattr(checked, name, None), limits.prompt, name)
    pixels = {name: check_pixels(data, limits.pixels, f"The field '{name}'") for name, data in files.items()}
    return Asked(checked, files, pixels["image"])


class _Bounded:
    """The messages of a request, as long as its body keeps the limit. Raises Refused 413."""

    def __init__(self, request: Request, limit: int) -> None:
        self._receive, self._limit, self._seen = request.receive, limit, 0
        said = request.headers.get("content-length", "")
        if said.isascii() and said.isdigit() and int(said[:20]) > limit:
            raise self._refused()

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > self._limit:
            raise self._refused()
        return message

    def _refused(self) -> Refused:
        return Refused(413, "bytes", f"The body has more than {self._limit / 2**20:g} MiB, the limit.")


async def _form(
    request: Request, names: tuple[str, ...], limits: ServiceLimits
) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        form = await request.form(max_files=len(names), max_fields=32, max_part_size=8 * limits.prompt + 1024)
    except HTTPException as error:
        if "maximum size" in error.detail:
            raise Refused(413, "prompt_length", "A text of the form is longer than the limits.") from None
        raise Refused(400, "form", f"The form cannot be read: {error.detail}") from None
    except (ValueError, KeyError):  # of the parser of forms
        raise Refused(400, "form", "The form cannot be read.") from None
    fields: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    try:
        for name, value in form.multi_items():
            if name in fields or name in files:
                raise Refused(422, "field", f"The field '{name[:40]}' is there twice.")
            if isinstance(value, UploadFile):
                if name not in names:
                    raise Refused(422, "field", f"The field '{name[:40]}' takes no file.")
                files[name] = await value.read()
            elif name in names:
                raise Refused(422, "field", f"The field '{name}' must be a file of the form.")
            else:
                fields[name] = value
    finally:
        await form.close()
    return fields, files


def _json(body: bytes, names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, bytes]]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "json", "The body is no JSON.") from None
    if not isinstance(value, dict):
        raise Refused(422, "field", "The body must be a JSON object.")
    files: dict[str, bytes] = {}
    for name in names:
        if name not in value:
            continue
        text = value.pop(name)
        try:
            files[name] = base64.b64decode(text if isinstance(text, str) else b"!", validate=True)
        except (binascii.Error, ValueError):
            raise Refused(422, "field", f"The field '{name}' must be an image file in base64.") from None
    return value, files


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    name = ".".join(str(part)[:40] for part in first["loc"])
    return f"The field '{name}' is wrong: {first['msg']}."


def body_schema(model: type[PromptFields], masks: bool) -> dict[str, Any]:
    """`requestBody` of the OpenAPI document: both types of the same fields."""

    def schema(picture: dict[str, str]) -> dict[str, Any]:
        own = model.model_json_schema()
        files = FILES if masks else FILES[:1]
        properties = {name: {**picture, "description": _FILE_WORDS[name]} for name in files}
        return {**own, "properties": {**properties, **own.get("properties", {})}, "required": ["image"]}

    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": schema({"type": "string", "format": "binary"})},
            "application/json": {"schema": schema({"type": "string", "contentEncoding": "base64"})},
        },
    }


_FILE_WORDS = {
    "image": "The picture: PNG, JPEG, WebP, TIFF, AVIF and others.",
    "mask": "A picture of the same size: what is white is redrawn, and nothing else changes.",
    "protect": "A picture of the same size: what is white never changes.",
}
