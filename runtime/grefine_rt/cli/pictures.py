"""Around one picture: its prompt, the files to write, and results as JSON, tables, maps and reports."""

from __future__ import annotations

import dataclasses
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from grefine_rt import __version__
from grefine_rt.arrays import Array, Mask, Rgb
from grefine_rt.assess.alignment import PhraseScore
from grefine_rt.assess.indicator import Assessment, check_prompt
from grefine_rt.assess.scorers.base import Scale
from grefine_rt.engine.devices import summary
from grefine_rt.errors import OptionError, OutputError, PromptError
from grefine_rt.files import write_whole
from grefine_rt.imaging import heatmap
from grefine_rt.imaging.image import Picture, check_output, check_writable, load
from grefine_rt.report.report import ReportData, render

if TYPE_CHECKING:
    from rich.table import Table

    from grefine_rt.assessor import Assessor
    from grefine_rt.plan.make import RefinePlan
    from grefine_rt.refiner import Refiner

_MOST_PHRASES = 16
"""Rows of the table of phrases; the JSON and the report have them all."""
_FINDINGS = {"noun": "missing", "adjective": "looks different", None: "fine"}


def read_prompt(image: Path, prompt: str | None) -> tuple[str, list[Path]]:
    """The prompt of a picture and the file it was read from, if it was: IMAGE's namesake that ends in .txt.

    Raises OptionError when there is neither, PromptError when it cannot be read or says nothing.
    """
    if prompt is not None:
        check_prompt(prompt)
        return prompt, []
    path = image.with_suffix(".txt")
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        raise OptionError(
            f'There is no prompt: give --prompt TEXT, or write it into "{path.name}" beside the picture.'
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise PromptError(f'The prompt in "{path}" cannot be read: {reason}; give --prompt TEXT.') from None
    if not text:
        raise PromptError(f'The prompt in "{path}" is empty: write into it what the picture should show.')
    check_prompt(text)
    return text, [path]


def parse_tau(text: str | None) -> float | Literal["otsu"] | None:
    """The option --tau; its range is for `PlanOptions` to check. Raises OptionError."""
    if text is None:
        return None
    if text == "otsu":
        return "otsu"
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"--tau must be a number from 0 to 2, or otsu, not '{text}'.") from None


@dataclass(frozen=True)
class Outputs:
    """The files that a command will write. `picture` is None for `assess`."""

    picture: Path | None
    report: Path | None
    maps: Path | None
    stem: str

    def check(self, inputs: Sequence[Path], *, alpha: bool = False) -> None:
        """See that all can be written, before anything runs. Raises OutputError."""
        if self.picture is not None:
            check_output(self.picture, not_over=inputs, alpha=alpha)
        if self.report is not None:
            check_writable(self.report, not_over=inputs)
        if self.maps is not None:
            nearest = next(path for path in (self.maps, *self.maps.parents) if path.exists())
            if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
                raise OutputError(f'The folder "{self.maps}" cannot be made or written; choose another one.')
        named = [path.resolve() for path in (self.picture, self.report) if path is not None]
        if len(set(named)) < len(named):
            raise OutputError(f'The picture and the report cannot both be "{self.report}".')

    def write_maps(self, rgb: Rgb, maps: Mapping[str, Array]) -> list[Path]:
        """Each map (H, W) in [0, 1] as a PNG over the picture, 1 hot, and all of them as NPZ."""
        if self.maps is None:
            return []
        try:
            self.maps.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'The folder "{self.maps}" cannot be made: {error.strerror}.') from None
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **maps)  # type: ignore[arg-type]
        prefix = str(self.maps / self.stem)
        written = [write_whole(f"{prefix}.maps.npz", buffer.getvalue())]
        for name, values in maps.items():
            if values.dtype == np.bool_:
                pixels = values.astype(np.uint8) * 255
            else:
                # Quality maps have 1 where the picture is good; heat is where work is.
                hot = values if name.startswith("alignment") else 1 - values
                pixels = heatmap.overlay(rgb, hot)
            written.append(write_whole(f"{prefix}.{name}.png", heatmap.png_bytes(pixels)))
        return written

    def write_report(self, data: ReportData) -> list[Path]:
        if self.report is None:
            return []
        return [write_whole(self.report, render(data).encode("utf-8"))]


def all_maps(before: Assessment, mask: Mask | None, after: Assessment | None = None) -> dict[str, Array]:
    """Names and values of the maps that --maps writes; `perceptual` and the factors 1 = good, `alignment`
    1 = to be redrawn, as in `Assessment`."""
    maps: dict[str, Array] = {"perceptual": before.perceptual_map, "alignment": before.alignment_map}
    maps.update((name, values) for name, values in before.factor_maps.items() if name != "overall")
    if mask is not None:
        maps["mask"] = mask
    if after is not None:
        maps["perceptual-after"], maps["alignment-after"] = after.perceptual_map, after.alignment_map
    return maps


def scores_json(assessment: Assessment) -> dict[str, Any]:
    """`before` and `after` of the JSON output: both indicators, each metric of the bundle by name, `ip_iqa` null where
    it has none, and under `scores` every score with its scale."""
    found: dict[str, Any] = {
        "perceptual": float(assessment.perceptual),
        "alignment": float(assessment.alignment),
        "ip_iqa": None,
    }
    for score in assessment.metrics.values():
        if score.part:
            found[score.metric] = {**(found.get(score.metric) or {}), score.part: score.value}
        else:
            found[score.metric] = score.value
    found["scores"] = {
        name: {
            "value": float(score.value),
            "scale": [score.scale.low, score.scale.high],
            "higher_is_better": score.scale.higher_is_better,
            "measures": score.scale.measures,
        }
        for name, score in assessment.scores.items()
    }
    return found


def phrases_json(assessment: Assessment) -> list[dict[str, Any]]:
    """`phrases` of the JSON output."""
    return [
        {
            "text": phrase.text,
            "noun": phrase.noun,
            "ancestor": phrase.ancestor,
            "noun_score": float(phrase.noun_score),
            "phrase_score": float(phrase.phrase_score),
            "defect": phrase.defect,
            "known": phrase.known,
        }
        for phrase in assessment.phrases
    ]


def domain_json(assessment: Assessment) -> dict[str, Any] | None:
    """`domain` of the JSON output; null for a bundle that is open to everything."""
    found = assessment.domain
    if found is None:
        return None
    return {
        "inside": found.inside,
        "distance": found.distance,
        "threshold": found.threshold,
        "unknown_words": list(found.words),
        "unknown_phrases": list(found.phrases),
        "sentence": " ".join(filter(None, [found.picture_sentence, found.words_sentence])),
    }


def domain_fact(assessment: Assessment) -> dict[str, object]:
    """What the report says of the domain; nothing for a bundle that is open to everything."""
    return {} if assessment.domain is None else {"domain": assessment.domain.picture_sentence}


def mask_json(plan: RefinePlan) -> dict[str, Any]:
    """`mask` of the JSON output."""
    return {"coverage": float(plan.coverage), "boxes": [[int(side) for side in box] for box in plan.boxes]}


def device_of(refiner: Refiner | Assessor) -> str:
    """Where the models run, "cpu" or "cuda:N", also where "auto" was asked for."""
    return refiner.bundle.engine("perceptual").device


def backends_json(refiner: Refiner | Assessor) -> list[dict[str, str]]:
    """`backends` of the JSON output: what runs each component that was loaded, and why."""
    return [dataclasses.asdict(choice) for choice in refiner.bundle.choices]


def about(refiner: Refiner | Assessor, image: Path, seed: int | None = None) -> dict[str, object]:
    """What the report says of the run."""
    manifest = refiner.bundle.manifest
    facts: dict[str, object] = {"input": image.name, "bundle": f"{manifest.name} {manifest.version}"}
    facts["device"] = device_of(refiner)
    facts |= summary(refiner.bundle.choices)
    if seed is not None:
        facts["seed"] = seed
    return {**facts, "grefine-rt": __version__}


def scores_table(before: Assessment, after: Assessment | None = None) -> Table:
    """The scores with their scales, and where there is an `after`, what became of them."""
    table = _table("score", *(("before", "after", "change") if after else ("value",)))
    for name, scale, first, then in _scores(before, after):
        cells = [scale.shown(first)]
        if then is not None:
            cells += [scale.shown(then), f"{then - first:+.3f}"]
        table.add_row(name, *cells)
    return table


def _scores(before: Assessment, after: Assessment | None) -> Iterator[tuple[str, Scale, float, float | None]]:
    for name, score in before.scores.items():
        yield score.title, score.scale, score.value, after.scores[name].value if after else None
        factors = before.factors if name == "perceptual" else {}
        for factor, value in factors.items():
            if factor != "overall":
                yield f"  {factor}", score.scale, value, after.factors[factor] if after else None


def phrases_table(before: Assessment, after: Assessment | None = None) -> Table:
    """The phrases of the prompt and what was found of each."""
    table = _table("phrase", "noun", "phrase", "finding", *(("after",) if after else ()))
    for index, phrase in enumerate(before.phrases[:_MOST_PHRASES]):
        cells = [f"{phrase.noun_score:.2f}", f"{phrase.phrase_score:.2f}", _finding(phrase)]
        if after:
            cells.append(_finding(after.phrases[index]))
        table.add_row(phrase.text, *cells)
    if len(before.phrases) > _MOST_PHRASES:
        table.add_row(f"... and {len(before.phrases) - _MOST_PHRASES} more")
    return table


def _finding(phrase: PhraseScore) -> str:
    return _FINDINGS[phrase.defect] if phrase.known else "unknown"


def _table(first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def time_line(timings: Mapping[str, float]) -> str:
    """The milliseconds of all parts in one line."""
    parts = (f"{name.replace('_', ' ')} {ms:.0f}" for name, ms in timings.items() if name != "total")
    return f"time: {timings['total']:.0f} ms ({', '.join(parts)})"


def read_picture(image: Path) -> tuple[Picture, float]:
    """The picture and the milliseconds that reading it took. Raises ImageError."""
    start = time.perf_counter()
    picture = load(image)
    return picture, 1000 * (time.perf_counter() - start)
