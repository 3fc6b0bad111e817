"""JSON as dataclasses, strictly: nothing missing, unknown, of a wrong type, or too large to work with."""

import dataclasses
import hashlib
import json
import re
import types
import typing
from collections.abc import Mapping, Set
from typing import Any, Literal, TypeVar

from grefine_rt.errors import HERE, BundleError, shown

_OLD_METRICS = {
    "ip_iqa": ("ip_iqa_image", "ip_iqa_text", "ip_iqa_fusion"),
    "image_reward": ("image_reward",),
}
"""Metrics that had a section of their own before `scorers` was there, and their components."""

REINSTALL = "pip install --force-reinstall --no-deps ."
"""The command that mends the embedded bundle."""


MEND = "run 'grefine-rt bundle fetch ADDRESS' to fetch it again, or 'grefine-export bundle RECIPE' to make it again"
"""How to get another bundle again."""

MENDS = f"{MEND}, or '{REINSTALL}' {HERE} for the embedded one"
T = TypeVar("T")


HIGHEST = 2**53
"""Of a number: beyond it a float has gaps."""
_TEXT = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]{0,65536}")


def short(text: object) -> str:
    """A value out of a file as text, cut and on one line."""
    line = " ".join(str(text).split())
    return line if len(line) <= 80 else f"{line[:77]}..."


def read_strictly(kind: type[T], value: Any, where: str) -> T:
    """`value`, from JSON, as `kind`: a dataclass, tuple, mapping, Literal or plain type, strictly."""
    return typing.cast(T, _convert(kind, value, where))


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        hints = typing.get_type_hints(kind)
        needed = {
            field.name
            for field in dataclasses.fields(kind)
            if field.default is field.default_factory is dataclasses.MISSING
        }
        for problem, names in (
            ("lacks", needed - value.keys()),
            ("has an unknown", value.keys() - hints.keys()),
        ):
            if names:
                raise BundleError(f"bundle.json {problem} '{short(where + min(names))}': {MENDS}.")
        return typing.cast(Any, kind)(
            **{name: _convert(hints[name], item, f"{where}{name}.") for name, item in value.items()}
        )
    if kind is Any:
        return value
    if origin is types.UnionType:  # a section or null
        return None if value is None else _convert(arguments[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_convert(arguments[0], item, f"{where}{index}.") for index, item in enumerate(value))
    if origin is Mapping and isinstance(value, dict):
        return {key: _convert(arguments[1], item, f"{where}{key}.") for key, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if (
        kind is float and type(value) in (int, float) and abs(value) <= HIGHEST
    ):  # False for what is not a number
        return float(value)
    if kind is int and type(value) is int and abs(value) <= HIGHEST:
        return value
    if kind is bool and type(value) is bool:
        return value
    if kind is str and type(value) is str and _TEXT.fullmatch(value):
        return value
    wanted = " or ".join(map(repr, arguments)) if origin is Literal else getattr(kind, "__name__", str(kind))
    raise BundleError(
        f"bundle.json has {shown(value)} at '{short(where.rstrip('.'))}' where {wanted} is wanted: {MENDS}."
    )


def with_metrics(data: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON of a manifest with its metrics under `scorers`, also of one from before they were there, and with their
    components and tokenizers among all others."""
    data = {"scorers": {}, **data}
    for name, parts in _OLD_METRICS.items():
        section = data.pop(name, None)
        if section is not None:
            own = {
                kind: {part: data[kind][part] for part in parts if part in data[kind]}
                for kind in ("components", "tokenizers")
                if isinstance(data.get(kind), dict)
            }
            data["scorers"] = {**data["scorers"], name: {**own, "settings": section}}
    for metric in data["scorers"].values() if isinstance(data["scorers"], dict) else ():
        for kind in ("components", "tokenizers"):
            if isinstance(metric, dict) and all(
                isinstance(part.get(kind, {}), dict) for part in (metric, data)
            ):
                data[kind] = {**data.get(kind, {}), **metric.get(kind, {})}
    return data


def digest(text: str) -> str:
    """SHA-256 of what a `bundle.json` says, its `checksum` aside, in hexadecimal: order and blanks do not count."""
    said = {key: value for key, value in json.loads(text).items() if key != "checksum"}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def check_ranges(fine: Mapping[str, bool]) -> None:
    """Raises BundleError for the first place in `bundle.json` whose value is not fine."""
    refuse("out of range in", {place for place, is_fine in fine.items() if not is_fine}, "has a value")


def refuse(what: str, wrong: Set[str], problem: str) -> None:
    """Raise BundleError for the first of the wrong names, if there is one."""
    if wrong:
        raise BundleError(f"bundle.json {problem} {what} '{short(min(wrong))}': {MENDS}.")
