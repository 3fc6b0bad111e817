"""Around one picture: its prompt, the files to write, and results as JSON, tables, maps and reports."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from grefine_rt import __version__
from grefine_rt.arrays import Array, Rgb
from grefine_rt.assess.alignment import PhraseScore
from grefine_rt.assess.indicator import Assessment, check_prompt
from grefine_rt.assess.scorers.base import Scale
from grefine_rt.engine.devices import summary
from grefine_rt.errors import ImageError, OptionError, OutputError
from grefine_rt.files import check_writable, is_stream, write_whole
from grefine_rt.imaging import heatmap
from grefine_rt.imaging.encode import PLAIN, Encoding, check_output, encode, our_entry, save
from grefine_rt.imaging.image import Picture, load
from grefine_rt.imaging.prompts.find import find_prompt, side_file
from grefine_rt.report.answers import device_of
from grefine_rt.report.report import ReportData, is_report, render

if TYPE_CHECKING:
    from rich.table import Table

    from grefine_rt.assessor import Assessor
    from grefine_rt.refiner import Refiner, RefineResult

_MOST_PHRASES = 16
"""Rows of the table of phrases; the JSON and the report have them all."""
_FINDINGS = {"noun": "missing", "adjective": "looks different", None: "fine"}


STREAM = Path("-")
"""Standard input, or standard output."""


@dataclass(frozen=True)
class Prompted:
    """What a picture should show, and not; the file it was read from, if it was; and where it was found, as a note."""

    prompt: str
    negative: str = ""
    files: tuple[Path, ...] = ()
    source: str | None = None
    seed: int | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing where the user said it, on the command line or in a file of their own."""
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


@dataclass(frozen=True)
class Outputs:
    """The files that a command will write. `picture` is None for `assess`, and `STREAM` for standard output."""

    picture: Path | None
    report: Path | None
    maps: Path | None
    stem: str
    mask: Path | None = None
    encoding: Encoding = PLAIN
    overwrite: bool = True

    def check(self, inputs: Sequence[Path], *, alpha: bool = False) -> None:
        """See that all can be written, before anything runs. Raises OutputError.

        A file that an earlier run of ours wrote passes: whether it was the same run `check_run` says.
        """
        pictures = [path for path in (self.picture, self.mask) if path is not None and path != STREAM]
        for path in pictures:
            ours = self.overwrite or run_of(path) is not None
            encoding = self.encoding if path == self.picture else PLAIN
            check_output(
                path, encoding=encoding, alpha=alpha and path == self.picture, overwrite=ours, not_over=inputs
            )
        if self.report is not None:
            check_writable(self.report, overwrite=self.overwrite or is_report(self.report), not_over=inputs)
        if self.maps is not None:
            nearest = next(path for path in (self.maps, *self.maps.parents) if path.exists())
            if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
                raise OutputError(f'The folder "{self.maps}" cannot be made or written; choose another one.')
        named = [path.resolve() for path in (*pictures, self.report) if path is not None]
        if len(set(named)) < len(named):
            one, other = ("picture", "report") if self.report else ("picture", "mask")
            raise OutputError(f'The {one} and the {other} cannot both be "{self.report or self.mask}".')

    def check_run(self, run: str) -> None:
        """See that what will be replaced without --overwrite is the result of the same run, which gives it again.
        Raises OutputError."""
        for path in (self.picture, self.mask):
            if path is not None and path != STREAM and not self.overwrite and os.path.lexists(path):
                check_writable(path, overwrite=run_of(path) == run)

    def write_picture(self, result: RefineResult) -> tuple[list[Path], tuple[str, ...]]:
        """The result, to its file or to standard output, and the mask; notes on what could not be kept."""
        written: list[Path] = []
        notes: tuple[str, ...] = ()
        if self.picture == STREAM:
            name = self.encoding.of(None, result.metadata.format, result.image.has_transparency_data)
            data, notes = encode(result.image, name, self.encoding, result.metadata, result.entry())
            write_stdout(data)
        elif self.picture is not None:
            notes = result.save(self.picture, self.encoding, overwrite=True)
            written.append(self.picture)
        if self.mask is not None:
            entry = {"software": f"grefine-rt {__version__}", "what": "mask", "run": result.run}
            written.append(save(Image.fromarray(result.plan.mask), self.mask, entry=entry)[0])
        return written, notes

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
    """The picture and the milliseconds that reading it took; `STREAM` is standard input. Raises ImageError."""
    start = time.perf_counter()
    picture = load(sys.stdin.buffer if image == STREAM else image)
    return picture, 1000 * (time.perf_counter() - start)


def run_of(path: Path) -> str | None:
    """The run that wrote a picture, see `run_id`; None for any other file, and where there is none."""
    if is_stream(path) or not path.is_file():
        return None
    try:
        entry = our_entry(load(path).metadata)
    except ImageError:
        return None
    run = None if entry is None else entry.get("run")
    return run if isinstance(run, str) and run else None


def write_stdout(data: bytes) -> None:
    """Bytes to standard output. Raises OutputError."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"Standard output cannot be written: {error.strerror}.") from None
