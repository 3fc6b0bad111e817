"""What a batch does with every picture, and what a row may set differently."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from grefine_rt import __version__
from grefine_rt.assess.indicator import AssessOptions
from grefine_rt.bundle.manifest import Manifest
from grefine_rt.errors import OptionError, shown
from grefine_rt.imaging.encode import Encoding
from grefine_rt.plan.options import PlanOptions
from grefine_rt.refiner import RefineOptions

Mode = Literal["refine", "assess"]
_GROUPS: Mapping[str, type[Any]] = {"assess": AssessOptions, "plan": PlanOptions}


@dataclass(frozen=True)
class BatchOptions:
    """mode: "refine", or "assess" for scores alone. options, seed: of every row that sets none of its own. encoding: of
    the results. together: rows that are assessed in one run of each graph; above 1 their scores may differ by rounding
    from those of a row alone."""

    mode: Mode = "refine"
    options: RefineOptions = field(default_factory=RefineOptions)
    seed: int = 0
    encoding: Encoding = field(default_factory=Encoding)
    together: int = 1

    def run_of(self, manifest: Manifest) -> dict[str, Any]:
        """What makes the results of a run what they are, as JSON; two runs that differ in it share no folder."""
        return {
            "software": f"grefine-rt {__version__}",
            "bundle": f"{manifest.name} {manifest.version}",
            "checksum": manifest.checksum,
            "mode": self.mode,
            "seed": self.seed if self.mode == "refine" else None,
            "options": repr(self.options),
            "batch": self.together if self.mode == "assess" else 1,
            "encoding": repr(self.encoding) if self.mode == "refine" else None,
        }


def with_values(options: RefineOptions, values: Mapping[str, Any]) -> RefineOptions:
    """Options with some set anew, by the names of the fields of `RefineOptions`, `PlanOptions` and `AssessOptions`.

    Raises OptionError for a name that none of them has, and for a value out of range.
    """
    parts: dict[str, dict[str, Any]] = {"": {}, **{group: {} for group in _GROUPS}}
    for name, value in values.items():
        value = tuple(value) if isinstance(value, list) else value
        parts[_group_of(name)][name] = value
    try:
        inner = {group: replace(getattr(options, group), **parts[group]) for group in _GROUPS}
        return replace(options, **parts[""], **inner)
    except TypeError:
        raise OptionError(f"The options {shown(dict(values))} have a value of a wrong type.") from None


def _group_of(name: str) -> str:
    if name not in _GROUPS and name in _names(RefineOptions):
        return ""
    for group, kind in _GROUPS.items():
        if name in _names(kind):
            return group
    known = sorted({*_names(RefineOptions), *_names(PlanOptions), *_names(AssessOptions)} - _GROUPS.keys())
    raise OptionError(f"There is no option {shown(name)}: choose among {', '.join(known)}.")


def _names(kind: type[Any]) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]
