"""The files of one picture: whether they may be written, before anything runs, and writing them."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from grefine_rt import __version__
from grefine_rt.arrays import Array, Rgb
from grefine_rt.cli.pictures import STREAM
from grefine_rt.errors import ImageError, OutputError
from grefine_rt.files import check_writable, is_stream, write_whole
from grefine_rt.imaging import heatmap
from grefine_rt.imaging.encode import PLAIN, Encoding, encode, our_entry, save
from grefine_rt.imaging.image import load
from grefine_rt.report.answers import map_names
from grefine_rt.report.report import ReportData, render, run_of_report

if TYPE_CHECKING:
    from grefine_rt.refiner import RefineResult

_ZIP_COMMENT = b"grefine-rt run "


@dataclass(frozen=True)
class Outputs:
    """The files that a command will write.

    picture: None for `assess`, and `STREAM` for standard output.
    maps: folder of the maps, whose names begin with `stem`.
    """

    picture: Path | None
    report: Path | None
    maps: Path | None
    stem: str
    mask: Path | None = None
    encoding: Encoding = PLAIN
    overwrite: bool = True

    def files(self) -> Iterator[tuple[str, Path]]:
        """Each file's kind, in a word, and its path."""
        for what, path in (("picture", self.picture), ("mask", self.mask), ("report", self.report)):
            if path is not None and path != STREAM:
                yield what, path
        if self.maps is not None:
            yield "maps", self._map_path("maps.npz")
            for name in map_names(self.picture is not None):
                yield f"map '{name}'", self._map_path(f"{name}.png")

    def _map_path(self, ending: str) -> Path:
        assert self.maps is not None
        return self.maps / f"{self.stem}.{ending}"

    def check(self, inputs: Sequence[Path], *, alpha: bool = False) -> None:
        """See that all can be written, before anything runs. Raises OutputError.

        A file that an earlier run of ours wrote passes: whether it was the same run `check_run` says.
        """
        if self.maps is not None:
            nearest = next(path for path in (self.maps, *self.maps.parents) if path.exists())
            if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
                raise OutputError(f'The folder "{self.maps}" cannot be made or written; choose another one.')
        taken: dict[Path, str] = {}
        for what, path in self.files():
            if what in ("picture", "mask"):
                encoding = self.encoding if what == "picture" else PLAIN
                encoding.of(path, None, alpha and what == "picture")
            if path.parent != self.maps or path.parent.is_dir():  # a folder of maps is made when it is needed
                check_writable(path, overwrite=self.overwrite or run_of(path) is not None, not_over=inputs)
            other = taken.setdefault(path.resolve(), what)
            if other != what:
                raise OutputError(f'The {other} and the {what} cannot both be "{path}".')

    def check_run(self, run: str) -> None:
        """See that what will be replaced without --overwrite is the result of the same run, which gives it again.
        Raises OutputError."""
        if self.overwrite:
            return
        for _, path in self.files():
            if os.path.lexists(path):
                check_writable(path, overwrite=run_of(path) == run)

    def write_picture(self, result: RefineResult) -> tuple[list[Path], tuple[str, ...]]:
        """Write the result, to its file or to standard output, and the mask; notes on metadata that could not be
        kept."""
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
            entry = _entry("mask", result.run)
            written.append(save(Image.fromarray(result.plan.mask), self.mask, entry=entry)[0])
        return written, notes

    def write_maps(self, rgb: Rgb, maps: Mapping[str, Array], run: str) -> list[Path]:
        """Each map (H, W) in [0, 1] as a PNG over the picture, 1 hot, and all of them as NPZ."""
        if self.maps is None:
            return []
        try:
            self.maps.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f'The folder "{self.maps}" cannot be made: {error.strerror}.') from None
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **maps)  # type: ignore[arg-type]
        with zipfile.ZipFile(buffer, "a") as archive:
            archive.comment = _ZIP_COMMENT + run.encode()
        written = [write_whole(self._map_path("maps.npz"), buffer.getvalue())]
        for name, values in maps.items():
            if values.dtype == np.bool_:
                pixels = values.astype(np.uint8) * 255
            else:
                # Quality maps have 1 where the picture is good; heat is where work is.
                hot = values if name.startswith("alignment") else 1 - values
                pixels = heatmap.overlay(rgb, hot)
            path = self._map_path(f"{name}.png")
            written.append(save(Image.fromarray(pixels), path, entry=_entry(f"map {name}", run))[0])
        return written

    def write_report(self, data: ReportData, run: str) -> list[Path]:
        if self.report is None:
            return []
        return [write_whole(self.report, render(replace(data, run=run)).encode("utf-8"))]


def _entry(what: str, run: str) -> dict[str, str]:
    return {"software": f"grefine-rt {__version__}", "what": what, "run": run}


def run_of(path: Path) -> str | None:
    """The run that wrote a picture, a mask, a map or a report, see `run_id`; None for any other file, and where there
    is none."""
    if is_stream(path) or not path.is_file():
        return None
    if path.suffix == ".npz":
        return _run_of_archive(path)
    if run := run_of_report(path):
        return run
    try:
        entry = our_entry(load(path).metadata)
    except ImageError:
        return None
    run = None if entry is None else entry.get("run")
    return run if isinstance(run, str) and run else None


def _run_of_archive(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            comment = archive.comment
    except (OSError, ValueError, zipfile.BadZipFile):
        return None
    run = comment.removeprefix(_ZIP_COMMENT).decode("ascii", "replace")
    return run if run and comment.startswith(_ZIP_COMMENT) else None


def write_stdout(data: bytes) -> None:
    """Bytes to standard output. Raises OutputError."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"Standard output cannot be written: {error.strerror}.") from None
