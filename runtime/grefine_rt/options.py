"""Options of a call: each is one field of a frozen dataclass, declared with `option`.

The field's type and metadata are all there is to know of it: `check` refuses wrong values by them, `parse` reads text
by them, and the command line, its help, the JSON output and docs/options.md are made from them.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar

from grefine_rt.errors import OptionError, shown

T = TypeVar("T")

SWITCH = {"on": True, "off": False}
_ANY = (-sys.float_info.max, sys.float_info.max)


@dataclass(frozen=True)
class Option:
    """One option: what its field declares.

    name, kind, default: those of the field; kind is its type. Numbers, texts, bool, Literal, unions of them, tuples
        of any length of them, and `tuple[float, float]`, which is a range from a number to one not below it.
    help: one or two sentences, for the command line too; more: what else there is to say, for the docs.
    within: lowest and highest value of its numbers, both allowed; positive: 0 is not.
    unit: of its numbers. panel: the heading it stands under.
    flag: of the command line; None for none. reading: it is given as `--reading NAME=VALUE` instead.
    advanced: only `--help-all` shows it.
    """

    help: str
    more: str = ""
    within: tuple[float, float] | None = None
    positive: bool = False
    unit: str = ""
    panel: str = ""
    flag: str | None = None
    reading: bool = False
    advanced: bool = False
    name: str = ""
    kind: Any = object
    default: Any = None

    @property
    def values(self) -> str:
        """What may be given, in short, such as `0..2|otsu`."""
        return "|".join(_short(kind, self) for kind in _kinds(self.kind))

    @property
    def shown_default(self) -> str:
        """The default as one would give it; empty for None, which is the bundle's own, and for the empty text."""
        return "" if self.default is None else to_text(self.default)


def option(
    default: T,
    help: str,
    *,
    more: str = "",
    within: tuple[float, float] | None = None,
    positive: bool = False,
    unit: str = "",
    panel: str = "",
    flag: str | None = "",
    reading: bool = False,
    advanced: bool = False,
) -> T:
    """A field of an options class, see `Option`. An empty flag is the field's name with hyphens."""
    declared = Option(help, more, within, positive, unit, panel, flag, reading, advanced)
    return dataclasses.field(default=default, metadata={"option": declared})


@cache
def options_of(cls: type) -> tuple[Option, ...]:
    """Every option of an options class, those of options classes inside it included, in the order of declaration."""
    kinds = typing.get_type_hints(cls)
    found: list[Option] = []
    for field in dataclasses.fields(cls):
        kind = kinds[field.name]
        if dataclasses.is_dataclass(kind):
            found += options_of(typing.cast(type, kind))
            continue
        declared: Option = field.metadata["option"]
        flag = f"--{field.name.replace('_', '-')}" if declared.flag == "" else declared.flag
        found.append(
            dataclasses.replace(
                declared,
                name=field.name,
                kind=kind,
                default=field.default,
                flag=None if declared.reading else flag,
            )
        )
    return tuple(found)


class Checked:
    """Base of options classes: every instance was checked when it was made."""

    def __post_init__(self) -> None:
        """Raises OptionError for a value of the wrong type or outside its range."""
        check_options(self)


def check_options(options: Any) -> None:
    """Raises OptionError, one sentence, for the first value that its field does not allow."""
    cls: Any = type(options)
    declared, kinds = {each.name: each for each in options_of(cls)}, _hints(cls)
    for field in dataclasses.fields(options):
        value, kind = getattr(options, field.name), kinds[field.name]
        if field.name in declared:
            if not _fits(value, kind, declared[field.name]):
                raise OptionError(_refusal(declared[field.name], value))
        elif not isinstance(value, kind):
            raise OptionError(f"The option '{field.name}' must be {kind.__name__}, not {shown(value)}.")


def parse_option(declared: Option, text: str, label: str = "") -> Any:
    """The value that a text stands for. Raises OptionError for one that the option does not allow, which calls the
    option `label`, where there is one."""
    for kind in _kinds(declared.kind):
        value = _parsed(kind, text)
        if _fits(value, kind, declared):
            return value
    raise OptionError(_refusal(declared, text, label))


def parse_reading(readings: Iterable[Option], text: str) -> tuple[str, Any]:
    """Name and value of one of the readings from `NAME=VALUE`. Raises OptionError, which lists the known ones."""
    known = {each.name: each for each in readings}
    name, equals, value = (part.strip() for part in text.partition("="))
    if name not in known or not equals:
        listed = ", ".join(f"{each.name}={each.values}" for each in known.values())
        raise OptionError(f"A reading is NAME=VALUE, not {shown(text)}; there are {listed}.")
    return name, parse_option(known[name], value, f"The reading '{name}'")


def build(cls: type[T], values: Mapping[str, object]) -> T:
    """An options class, and the options classes inside it, from values by name; the inverse of `changed`.

    A list, as JSON has it, is taken as a tuple. Raises OptionError, also for an unknown name.
    """
    inside: Any = cls
    names = {each.name for each in options_of(inside)}
    for name in values:
        if name not in names:
            raise OptionError(
                f"There is no option '{name}'; 'grefine-rt refine --help-all' lists the options."
            )
    own: dict[str, object] = {}
    for name, kind in _hints(inside).items():
        if dataclasses.is_dataclass(kind):
            theirs = {each.name for each in options_of(typing.cast(Any, kind))}
            own[name] = build(typing.cast(type, kind), {key: values[key] for key in values if key in theirs})
        elif name in values:
            value = values[name]
            own[name] = tuple(value) if isinstance(value, list) else value
    return cls(**own)


def changed(options: Any) -> dict[str, Any]:
    """Options that differ from their defaults, by name, as JSON has them; options classes inside are opened."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if dataclasses.is_dataclass(value):
            found |= changed(value)
        elif value != field.default:
            found[field.name] = list(value) if isinstance(value, tuple) else value
    return found


def to_text(value: object) -> str:
    """A value as `parse` reads it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(to_text, value)) if isinstance(value, tuple) else str(value)


def is_range(kind: object) -> bool:
    """Whether a type is `tuple[float, float]`, perhaps or None."""
    return tuple[float, float] in _kinds(kind)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _kinds(kind: Any) -> tuple[Any, ...]:
    """The members of a union, without None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(member for member in typing.get_args(kind) if member is not types.NoneType)
    return (kind,)


def _fits(value: object, kind: Any, declared: Option) -> bool:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, member, declared) for member in inner)
    if origin is Literal:
        return any(type(value) is type(allowed) and value == allowed for allowed in inner)
    if origin is tuple:
        if not isinstance(value, tuple) or not all(_fits(item, inner[0], declared) for item in value):
            return False
        return bool(value) if inner[-1] is ... else len(value) == 2 and value[0] <= value[1]
    if kind is types.NoneType or kind is bool or kind is str:
        return isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return False
    low, high = declared.within or _ANY
    # Of what is not a number every comparison is false.
    return low <= value <= high and (value > 0 or not declared.positive)


def _parsed(kind: Any, text: str) -> object:
    """The value of one kind that a text stands for, not yet checked; None for none."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return next((allowed for allowed in inner if str(allowed) == text), None)
    if origin is tuple:
        return tuple(_parsed(inner[0], part.strip()) for part in text.split(","))
    if kind is bool:
        return SWITCH.get(text)
    try:
        return kind(text)
    except ValueError:
        return None


def _refusal(declared: Option, value: object, label: str = "") -> str:
    allowed = " or ".join(_words(kind, declared) for kind in _kinds(declared.kind))
    label = label or f"The option '{declared.name}'"
    return f"{label} must be {allowed}, not {shown(value)}."


def _words(kind: Any, declared: Option) -> str:
    """A type and the range of its numbers, in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(filter(None, [", ".join(map(repr, inner[:-1])), repr(inner[-1])]))
    if origin is tuple and inner[-1] is ...:
        return f"one or more of {', '.join(map(repr, typing.get_args(inner[0])))}, as a tuple, or with commas between"
    numbers = f" {_span(declared)}" if declared.within else ""
    if origin is tuple:
        return f"two rising numbers{numbers}"
    return {bool: "on or off", str: "a text", int: f"a whole number{numbers}"}.get(kind, f"a number{numbers}")


def _span(declared: Option) -> str:
    low, high = declared.within or _ANY
    return f"above 0 up to {high:g}" if declared.positive else f"from {low:g} to {high:g}"


def _short(kind: Any, declared: Option) -> str:
    """What may be given for a type, as help and lists show it."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return "|".join(map(str, inner))
    if origin is tuple:
        return "FROM TO" if inner[-1] is not ... else ",".join(map(str, typing.get_args(inner[0])))
    if kind is bool:
        return "|".join(SWITCH)
    if kind is str:
        return "TEXT"
    low, high = declared.within or _ANY
    return f"{low:g}..{high:g}" if declared.within else "NUMBER"
