"""The protocol of a metric, its scores with their scales, and the search for the metrics of a bundle."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, util
from typing import Protocol

from grefine_rt.arrays import FloatMap, Rgb
from grefine_rt.bundle.manifest import Metric
from grefine_rt.bundle.strict import MEND
from grefine_rt.errors import BundleError
from grefine_rt.models.bundle import Bundle
from grefine_rt.text.emphasis import as_written


@dataclass(frozen=True)
class Scale:
    """The scale of a score.

    measures: the property of a picture that the score tells, in words.
    low, high: its usual range; a value may fall outside, for networks are not clipped.
    higher_is_better: whether a high value is a good one.
    """

    measures: str
    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True

    def share(self, value: float) -> float:
        """The value as a share of the scale, in [0, 1], 1 best."""
        share = min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
        return share if self.higher_is_better else 1.0 - share

    def shown(self, value: float) -> str:
        """The value with its scale, for people: "4.10 of 5", "0.912 of 1", or "0.30 (-2.5 to 2.5)"."""
        digits = 3 if self.high - self.low <= 1 else 2
        return f"{value:.{digits}f} {self.range}"

    @property
    def range(self) -> str:
        """The scale in words that follow a value: "of 5", "(-2.5 to 2.5, lower is better)"."""
        lower = "" if self.higher_is_better else ", lower is better"
        return f"of {self.high:g}{lower}" if self.low >= 0 else f"({self.low:g} to {self.high:g}{lower})"


@dataclass(frozen=True)
class Score:
    """One score of one metric for one picture.

    value: in the units of `scale`.
    metric: its name. part: the name of this one of its scores; "" for a metric of one score.
    """

    value: float
    scale: Scale
    metric: str
    part: str = ""

    @property
    def share(self) -> float:
        """The value as a share of its scale, in [0, 1], 1 best."""
        return self.scale.share(self.value)

    @property
    def title(self) -> str:
        """The name for people, such as "ip-iqa quality"."""
        return f"{self.metric.replace('_', '-' if self.part else ' ')} {self.part}".strip()

    def __str__(self) -> str:
        return self.scale.shown(self.value)


@dataclass(frozen=True)
class Batch:
    """The pictures that a metric judges, and one prompt for each.

    pictures: uint8 RGB (H, W, 3), each of its own size.
    prompts: plain texts, without weights and tags. written: as they were given, with both.
    images: the same pictures as the alignment indicator takes them, float32 (b, 3, R, R), RGB in [0, 1].
    """

    pictures: Sequence[Rgb]
    prompts: Sequence[str]
    written: Sequence[str]
    images: FloatMap

    def texts(self, bundle: Bundle, component: str) -> Sequence[str]:
        """The prompts as the metric was trained to read them by the tokenizer of `component`: plain, or as written."""
        raw = any(spec.prompts == "raw" for spec in bundle.manifest.tokenizers[component])
        return [as_written(prompt) for prompt in self.written] if raw else self.prompts


class Scorer(Protocol):
    """One metric of a bundle, made once for many pictures. Any number of threads may use one."""

    @property
    def scales(self) -> Mapping[str, Scale]:
        """The scales of its scores by part, known before anything runs; one score alone has the part ""."""

    def score(self, batch: Batch) -> Sequence[Mapping[str, float]]:
        """The values of each picture, by part. Raises BundleError and DeviceError."""


Maker = Callable[[Bundle, Metric, int], Scorer]
"""Makes a metric of a bundle from its entry in the manifest; the number is how many features of texts it may keep.
Loads no graph; raises BundleError for an entry that does not fit."""

_REGISTERED: dict[str, Maker] = {}


def register(name: str, maker: Maker) -> None:
    """Makes a metric known that is defined outside this package; `name` as in the manifest."""
    _REGISTERED[name] = maker


def scorers_of(bundle: Bundle, remembered: int = 0) -> dict[str, Scorer]:
    """Every metric of a bundle by name, in the manifest's order; no graph is loaded.

    The metric `name` is the one registered by that name, or the class `Metric` of the file `scorers/name.py`.
    Raises BundleError for an unknown metric, and for a manifest that does not fit one.
    """
    return {
        name: _maker(name, bundle)(bundle, entry, remembered)
        for name, entry in bundle.manifest.scorers.items()
    }


def flat(scorers: Mapping[str, Scorer]) -> dict[str, tuple[str, str, Scale]]:
    """The names of all scores, such as "ip_iqa_quality": each with its metric, part and scale."""
    return {
        f"{metric}_{part}" if part else metric: (metric, part, scale)
        for metric, scorer in scorers.items()
        for part, scale in scorer.scales.items()
    }


def judge(scorers: Mapping[str, Scorer], batch: Batch) -> Iterator[dict[str, Score]]:
    """The scores that all metrics give to each picture of a batch, by their names. Raises as `Scorer.score`."""
    names = flat(scorers)
    found = {metric: scorer.score(batch) for metric, scorer in scorers.items()}
    for metric, rows in found.items():
        if not all(math.isfinite(value) for row in rows for value in row.values()):
            raise BundleError(
                f"{metric}: the metric gave a score that is NaN or infinite; run it on another device or at a higher "
                f"precision, or leave it out of the bundle."
            )
    for index in range(len(batch.pictures)):
        yield {
            name: Score(float(found[metric][index][part]), scale, metric, part)
            for name, (metric, part, scale) in names.items()
        }


def check_components(bundle: Bundle, name: str, entry: Metric, needed: Sequence[str]) -> None:
    """Raises BundleError unless the entry of the metric `name` has exactly these graphs."""
    for problem, wrong in (
        ("lacks the", set(needed) - set(entry.components)),
        ("has the unknown", set(entry.components) - set(needed)),
    ):
        if wrong:
            raise BundleError(
                f"bundle.json of '{bundle.manifest.name}' {problem} component '{min(wrong)}' of the metric '{name}': "
                f"{MEND}."
            )


def _maker(name: str, bundle: Bundle) -> Maker:
    if name in _REGISTERED:
        return _REGISTERED[name]
    home = f"{__package__}.{name}"
    # The name comes from a file: it may name a file of this folder, and nothing else.
    if not name.isidentifier() or name == "base" or util.find_spec(home) is None:
        raise BundleError(
            f"Bundle '{bundle.manifest.name}' has the metric '{name}', which this version of grefine-rt does not know: "
            f"install a newer one, or register it with 'assess.scorers.base.register'."
        )
    maker: Maker = import_module(home).Metric
    return maker
