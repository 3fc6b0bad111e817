"""What the nodes do, without ComfyUI: one loaded bundle that stays, options from text, reports as JSON."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from grefine_rt import Assessment, Assessor, OptionError, RefineOptions, RefinePlan, Refiner
from grefine_rt.models.bundle import Bundle
from grefine_rt.options import build, options_of, parse_option

_lock = threading.Lock()
_kept: tuple[tuple[object, ...], Assessor] | None = None


def loaded(bundle: str, device: str) -> Assessor:
    """A Refiner of the bundle on the device, or an Assessor where the bundle only assesses.

    The last one stays loaded; another bundle, another device or a changed bundle takes its place. Raises BundleError
    and DeviceError.
    """
    global _kept
    with _lock:
        key = (bundle, device, _stamp(bundle))
        if _kept is None or _kept[0] != key:
            _kept = None  # the old one's memory goes before the new one's is taken
            opened = Bundle.open(bundle, device)
            _kept = key, Refiner(opened) if opened.manifest.refines else Assessor(opened)
        return _kept[1]


def refiner(bundle: str, device: str) -> Refiner:
    """As `loaded`. Raises BundleError for a bundle that only assesses."""
    found = loaded(bundle, device)
    if isinstance(found, Refiner):
        return found
    return Refiner(found.bundle)


def _stamp(bundle: str) -> int:
    """When a bundle's folder was made; 0 for an embedded one."""
    try:
        return (Path(bundle) / "bundle.json").stat().st_mtime_ns
    except (OSError, ValueError):
        return 0


def options(text: str, negative: str = "") -> RefineOptions:
    """Options from lines `name=value`, names as in docs/options.md; empty lines and those after # are skipped.

    Raises OptionError for an unknown name or a value that is not allowed.
    """
    known = {each.name: each for each in options_of(RefineOptions)}
    values: dict[str, Any] = {"negative": negative} if negative.strip() else {}
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        name, equals, value = (part.strip() for part in line.partition("="))
        name = name.removeprefix("--").replace("-", "_")
        if not equals:
            raise OptionError(f"An option is a line NAME=VALUE, not {line[:60]!r}.")
        values[name] = parse_option(known[name], value) if name in known else value
    return build(RefineOptions, values)


def scores(found: Sequence[Assessment], name: str) -> float:
    """The mean of one score over the pictures of a batch."""
    return float(sum(getattr(each, name) for each in found) / len(found))


def facts(found: Assessment, plan: RefinePlan | None) -> dict[str, Any]:
    """What an assessment says of one picture."""
    said = {
        "prompt": found.prompt,
        "scores": {name: round(float(score.value), 4) for name, score in found.scores.items()},
        "phrases": [{"phrase": each.text, "defect": each.defect} for each in found.phrases],
        "notes": list(found.notes),
    }
    if plan is not None:
        said |= {"coverage": round(float(plan.coverage), 4), "reasons": list(plan.reasons)}
    return said


def report(pictures: Sequence[dict[str, Any]]) -> str:
    """One JSON array with an object for each picture."""
    return json.dumps(list(pictures), indent=2, ensure_ascii=False)


def plans_for(plan: Sequence[RefinePlan] | None, count: int) -> Sequence[RefinePlan | None]:
    """A plan for each of `count` pictures. Raises OptionError for another number of plans."""
    if plan is None:
        return [None] * count
    if len(plan) != count:
        raise OptionError(f"There are {len(plan)} plans for {count} pictures: plan the same batch.")
    return plan


def channels(image: Image.Image, like: NDArray[Any]) -> NDArray[Any]:
    """A result as uint8 (H, W, C), with as many channels as the picture it was made of."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[like.shape[2]]
    array = np.asarray(image.convert(mode))
    return array[..., None] if array.ndim == 2 else array
