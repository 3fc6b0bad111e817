"""Answers as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

_NUMBER, _TEXT, _BOOL = {"type": "number"}, {"type": "string"}, {"type": "boolean"}
_TEXTS = {"type": "array", "items": _TEXT}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


_ERROR = _object({"error": _object({"reason": _TEXT, "message": _TEXT})})
_SCORES = {
    **_object(
        {
            "perceptual": _NUMBER,
            "alignment": _NUMBER,
            "ip_iqa": _or_null({"type": "object", "additionalProperties": _NUMBER}),
            "scores": {"type": "object", "additionalProperties": {"type": "object"}},
        }
    ),
    "description": "Both indicators, each metric of the bundle by name, and under `scores` all with their scales",
}
_PHRASES = {
    "type": "array",
    "items": _object(
        {
            "text": _TEXT,
            "noun": _TEXT,
            "ancestor": _TEXT,
            "noun_score": _NUMBER,
            "phrase_score": _NUMBER,
            "defect": {"enum": ["noun", "adjective", None]},
            "known": _or_null(_BOOL),
        },
        ("known",),
    ),
}
_MASK = _object(
    {
        "coverage": _NUMBER,
        "boxes": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}, "minItems": 4}},
    }
)
_PLAN = _object(
    {
        "stage1_steps": {"type": "integer"},
        "stage2_steps": {"type": "integer"},
        "strength": _NUMBER,
        "restore_first": _BOOL,
        "keep_good": _BOOL,
        "prompt": _TEXT,
        "crops": {"type": "array", "items": {"type": "object"}},
        "tflop": {"type": "object"},
    },
    ("crops", "tflop"),
)
_MAPS = {
    "type": "object",
    "description": "PNG in base64; where the request says maps",
    "additionalProperties": {"type": "string", "contentEncoding": "base64"},
}
_DOMAIN = _object(
    {
        "inside": _BOOL,
        "distance": _or_null(_NUMBER),
        "threshold": _or_null(_NUMBER),
        "unknown_words": _TEXTS,
        "unknown_phrases": _TEXTS,
        "sentence": _TEXT,
    }
)
_OPTIONAL = ("maps", "domain")
"""Maps where they are asked for, the domain where the bundle has one."""
_ABOUT = {
    "prompt": _TEXT,
    "prompt_source": _or_null(_TEXT),
    "negative": _TEXT,
    "bundle": _TEXT,
    "device": _TEXT,
}
_ASSESSED = {
    **_ABOUT,
    "before": _SCORES,
    "phrases": _PHRASES,
    "notes": _TEXTS,
    "maps": _MAPS,
    "domain": _DOMAIN,
}
_PLANNED = {**_ASSESSED, "mask": _MASK, "plan": _PLAN, "reasons": _TEXTS}
_ANSWERS = {
    "assess": _object(_ASSESSED, _OPTIONAL),
    "plan": _object(_PLANNED, _OPTIONAL),
    "refine": _object(
        {
            **_PLANNED,
            "seed": {"type": "integer"},
            "run": _TEXT,
            "after": _SCORES,
            "phrases_after": _PHRASES,
            "timings_ms": {"type": "object", "additionalProperties": _NUMBER},
            "image": _object({"media_type": _TEXT, "data": {"type": "string", "contentEncoding": "base64"}}),
        },
        _OPTIONAL,
    ),
    "prompt": _object(
        {
            "prompt": _or_null(_TEXT),
            "negative": _or_null(_TEXT),
            "seed": _or_null({"type": "integer"}),
            "prompt_source": _or_null(_TEXT),
        }
    ),
    "health": _object({"status": {"const": "alive"}, "version": _TEXT}),
    "ready": _object({"status": {"const": "ready"}}),
    "bundle": _object(
        {
            "name": _TEXT,
            "version": _TEXT,
            "description": _TEXT,
            "device": _TEXT,
            "backends": {"type": "array", "items": {"type": "object", "additionalProperties": _TEXT}},
            "limits": {"type": "object", "additionalProperties": _NUMBER},
        }
    ),
}
_WORDS = {
    400: "The body is not what its type says",
    403: "The request comes from a page of another site",
    408: "The body did not arrive in time",
    413: "More bytes, pixels, characters or memory than the limits allow",
    415: "Neither multipart/form-data nor application/json",
    422: "A field, the prompt or a picture cannot be used",
    429: "The queue is full",
    500: "The service failed",
    503: "The device failed",
    504: "No answer within the time limit",
}


def json_answer(name: str) -> dict[str, Any]:
    return {"description": "Done", "content": {"application/json": {"schema": _ANSWERS[name]}}}


def answer_schema(name: str, image: bool) -> dict[str, Any]:
    """The answer 200 of a route; image: whether a request may ask for a picture instead of JSON."""
    answer = json_answer(name)
    if image:
        answer["content"]["image/*"] = {"schema": {"type": "string", "format": "binary"}}
        answer["headers"] = {
            f"x-grefine-{score}-{when}": {
                "description": f"With an image: the {score} score {when} refining",
                "schema": _NUMBER,
            }
            for score in ("perceptual", "alignment")
            for when in (("before", "after") if name == "refine" else ("before",))
        }
    return answer


def _error(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": _WORDS[status],
        "content": {"application/json": {"schema": _ERROR}},
    }
    if status == 429:
        answer["headers"] = {
            "Retry-After": {
                "description": "Seconds after which there should be room",
                "schema": {"type": "integer"},
            }
        }
    return answer


ERRORS: dict[int | str, dict[str, Any]] = {status: _error(status) for status in _WORDS}
"""Every refusal of a route that works on pictures, by status."""
