"""One picture of a command: reading it and its prompt, and its results as tables."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from grefine_rt import __version__
from grefine_rt.assess.alignment import PhraseScore
from grefine_rt.assess.indicator import Assessment, check_prompt
from grefine_rt.assess.scorers.base import Scale
from grefine_rt.engine.devices import summary
from grefine_rt.errors import ImageError, OptionError
from grefine_rt.imaging.image import Picture, load
from grefine_rt.imaging.prompts.side_file import find_prompt, side_file
from grefine_rt.report.answers import device_of

if TYPE_CHECKING:
    from rich.table import Table

    from grefine_rt.assessor import Assessor
    from grefine_rt.refiner import Refiner

_MOST_PHRASES = 16
"""Rows of the table of phrases; the JSON and the report have them all."""
_FINDINGS = {"noun": "missing", "adjective": "looks different", None: "fine"}


STREAM = Path("-")
"""Standard input, or standard output."""


@dataclass(frozen=True)
class Prompted:
    """A picture's prompt and negative prompt; the file they were read from, if any; a note on the place they were
    found."""

    prompt: str
    negative: str = ""
    files: tuple[Path, ...] = ()
    source: str | None = None
    seed: int | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The source of the prompt; empty for one from the command line or the user's own file."""
        if self.source is None or self.files:
            return ()
        both = "The prompt and the negative prompt come" if self.negative else "The prompt comes"
        return (f"{both} from {self.source}.",)


def read_prompt(image: Path, prompt: str | None, negative: str | None, picture: Picture) -> Prompted:
    """The prompt: of the option, of IMAGE's namesake that ends in .txt, or of the picture itself, in this order; and
    the negative prompt of the option, or of where the prompt was found.

    Raises OptionError when there is none, PromptError when it cannot be read or says nothing.
    """
    if prompt is not None:
        check_prompt(prompt)
        return Prompted(prompt, negative or "")
    beside = None if image == STREAM else side_file(image)
    found = find_prompt(None if image == STREAM else image, picture.metadata.fields())
    if found is None:
        where = f', or write it into "{beside.name}" beside the picture' if beside else ""
        raise OptionError(
            f"There is no prompt, and the picture's file holds none: give --prompt TEXT{where}."
        )
    check_prompt(found.prompt)
    from_file = beside is not None and found.field == f'"{beside.name}"'
    return Prompted(
        found.prompt,
        found.negative if negative is None else negative,
        (beside,) if beside and from_file else (),
        found.source,
        found.seed,
    )


def about(refiner: Refiner | Assessor, image: Path, seed: int | None = None) -> dict[str, object]:
    """The report's facts on the run."""
    manifest = refiner.bundle.manifest
    facts: dict[str, object] = {"input": image.name, "bundle": f"{manifest.name} {manifest.version}"}
    facts["device"] = device_of(refiner)
    facts |= summary(refiner.bundle.choices)
    if seed is not None:
        facts["seed"] = seed
    return {**facts, "grefine-rt": __version__}


def scores_table(before: Assessment, after: Assessment | None = None) -> Table:
    """The scores with their scales, and beside them the ones of `after`."""
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
    """The phrases of the prompt and the findings on each."""
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
    """The picture and the milliseconds that reading it took; `STREAM` is standard input. Raises ImageError."""
    start = time.perf_counter()
    if image.is_dir():
        raise ImageError(f'"{image}" is a folder: give a picture, or the folder to grefine-rt batch.')
    if re.match(r"\w{2,}:/", str(image)):
        raise ImageError(f'"{image}" is an address: fetch the picture first, and give its file.')
    picture = load(sys.stdin.buffer if image == STREAM else image)
    return picture, 1000 * (time.perf_counter() - start)
