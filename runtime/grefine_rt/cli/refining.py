"""Refining pictures one after the other with one loaded bundle: the work of `grefine-rt refine`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import typer

from grefine_rt.cancel import CancelToken
from grefine_rt.cli import pictures, results
from grefine_rt.cli.output import (
    FAILED,
    cancelled_by_ctrl_c,
    print_json,
    print_json_line,
    progress,
    say,
    say_notes,
    status,
)
from grefine_rt.cli.outputs import Outputs
from grefine_rt.cli.pictures import STREAM, Prompted
from grefine_rt.errors import Cancelled, GRefineError, OptionError, OutputError
from grefine_rt.imaging.encode import FORMATS, SUFFIXES, Encoding, suffix_for
from grefine_rt.imaging.image import Picture
from grefine_rt.options import changed
from grefine_rt.plan.costs import plan_costs
from grefine_rt.plan.limits import limits_of
from grefine_rt.refiner import RefineOptions, Refiner, run_id

_PARTS = {
    "load": "Reading the picture",
    "assess_before": "Assessing",
    "plan": "Planning",
    "restore_first": "Stage 2: restoring first",
    "regenerate": "Stage 1: regenerating",
    "restore": "Stage 2: restoring",
    "assess_after": "Assessing again",
}


@dataclass(frozen=True)
class Paths:
    """The files of a run, as the command line has them; of several pictures `output`, `report`, `maps` and
    `save_mask` are folders."""

    output: Path | None
    report: Path | None
    maps: Path | None
    mask: Path | None
    protect: Path | None
    save_mask: Path | None
    encoding: Encoding
    overwrite: bool


@dataclass(frozen=True)
class Job:
    """Pictures and the work on each.

    taken: files that were named so far, with the picture of each.
    """

    images: list[Path]
    prompt: str | None
    negative: str | None
    seed: int
    options: RefineOptions
    paths: Paths
    plan_only: bool
    as_json: bool
    taken: dict[Path, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises OptionError for options that exclude each other."""
        paths = self.paths
        if self.as_json and paths.output == STREAM and not self.plan_only:
            raise OptionError("--json and -o - both want standard output: give the result a file.")
        if self.several and (STREAM in self.images or paths.output == STREAM):
            raise OptionError("Of several pictures none can be standard input or output.")
        if (
            self.several
            and paths.output
            and paths.output.suffix.lower() in SUFFIXES
            and not paths.output.is_dir()
        ):
            raise OptionError(
                f'Of several pictures -o is a folder, but "{paths.output}" is the name of a picture.'
            )
        first, last = self.images[0], self.images[-1]
        if len(self.images) == 2 and paths.output is None and first.exists() and not last.exists():
            raise OptionError(
                f'There is no picture "{last}"; where the result goes is said with -o "{last}".'
            )

    @property
    def several(self) -> bool:
        return len(self.images) > 1

    def options_for(self, told: Prompted) -> RefineOptions:
        return replace(self.options, plan=replace(self.options.plan, negative=told.negative))


@dataclass(frozen=True)
class _Ready:
    """A picture that was read, with its prompt and outputs that can be written."""

    image: Path
    picture: Picture
    read_ms: float
    told: Prompted
    outputs: Outputs


def refine_all(job: Job, bundle: str, device: str, threads: int | None, cuda_graphs: bool) -> None:
    """All pictures, with one bundle. A single one that fails raises its error; of several the others go on, and
    the command ends with exit code 1."""
    if job.several and not job.plan_only:
        _make_folders(job.paths)
    ready = None if job.several else _prepare(job, job.images[0])
    status(f"Loading {bundle}")
    token = CancelToken()
    failed = 0
    with cancelled_by_ctrl_c(token), Refiner.load(bundle, device, threads, cuda_graphs) as refiner:
        for image in job.images:
            with _told(job.several, image) as outcome:
                _refine_one(refiner, job, ready or _prepare(job, image), token)
            failed += outcome[0]
    if failed:
        say(f"error: {failed} of {len(job.images)} pictures failed")
        raise typer.Exit(FAILED)


@contextmanager
def _told(several: bool, image: Path) -> Iterator[list[int]]:
    """Tell and count an error of one of several pictures."""
    outcome = [0]
    try:
        yield outcome
    except (Cancelled, KeyboardInterrupt):
        raise
    except GRefineError as error:
        if not several:
            raise
        outcome[0] = 1
        say(f"error: {image}: {error}")


def _make_folders(paths: Paths) -> None:
    for folder in (paths.output, paths.report, paths.save_mask):
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                reason = error.strerror
                raise OutputError(
                    f'Of several pictures "{folder}" is a folder, which cannot be made: {reason}.'
                ) from None


def _prepare(job: Job, image: Path) -> _Ready:
    paths = job.paths
    status(f"Reading {image}")
    picture, read_ms = pictures.read_picture(image)
    told = pictures.read_prompt(image, job.prompt, job.negative, picture)
    outputs = _outputs(job, image, picture)
    if not job.plan_only:
        inputs = [*job.images, paths.mask, paths.protect, *told.files]
        outputs.check(
            [path for path in inputs if path is not None and path != STREAM], alpha=picture.alpha is not None
        )
        _take(job, image, outputs)
    return _Ready(image, picture, read_ms, told, outputs)


def _outputs(job: Job, image: Path, picture: Picture) -> Outputs:
    """The files of a picture. In a folder they are named after it: x.png, x.html, x.mask.png."""
    paths = job.paths
    stem = "stdin" if image == STREAM else image.stem

    def placed(path: Path | None, ending: str) -> Path | None:
        return path / f"{stem}{ending}" if path is not None and (job.several or path.is_dir()) else path

    suffix = _suffix(paths.encoding, image, picture)
    target = STREAM if paths.output == STREAM else placed(paths.output, suffix)
    if target is None:
        target = STREAM if image == STREAM else image.with_name(f"{stem}.refined{suffix}")
    if target == STREAM and not job.plan_only and sys.stdout.isatty():
        raise OptionError("The result would be written to the terminal: give -o FILE, or redirect it.")
    report, mask = placed(paths.report, ".html"), placed(paths.save_mask, ".mask.png")
    return Outputs(target, report, paths.maps, stem, mask, paths.encoding, paths.overwrite)


def _take(job: Job, image: Path, outputs: Outputs) -> None:
    """Raises OutputError where pictures of the same name would replace each other's files."""
    for what, path in outputs.files():
        other = job.taken.setdefault(path.resolve(), image)
        if other.resolve() != image.resolve():
            raise OutputError(
                f'Its {what} and that of "{other}" would both be "{path}": refine them into different folders.'
            )


def _suffix(encoding: Encoding, image: Path, picture: Picture) -> str:
    said = encoding.format
    suffix = suffix_for(FORMATS[said] if said else picture.metadata.format)
    if said is None and SUFFIXES.get(image.suffix.lower()) == SUFFIXES[suffix]:
        return image.suffix  # .jpeg stays .jpeg
    return suffix


def _refine_one(refiner: Refiner, job: Job, ready: _Ready, token: CancelToken) -> None:
    picture, told, paths = ready.picture, ready.told, job.paths
    options = job.options_for(told)
    limits = limits_of(paths.mask, paths.protect, picture.rgb.shape)
    if job.plan_only:
        assessment = refiner.assess(picture, told.prompt, options.assess)
        plan = limits.plan(refiner.plan(assessment, options=options.plan))
        notes = (*told.notes, *picture.notes, *assessment.notes)
        if job.as_json:
            say_notes(notes)
            costs = plan_costs(plan)
            _print(job, results.plan_json(refiner, ready.image, told, assessment, plan, costs, notes))
        else:
            results.show_plan(assessment, plan, notes)
        return
    outputs = ready.outputs
    manifest = refiner.bundle.manifest
    outputs.check_run(run_id(picture, told.prompt, job.seed, options, manifest, limits))
    with progress(_PARTS) as on_progress:
        result = refiner.refine(
            picture,
            told.prompt,
            job.seed,
            options,
            on_progress=on_progress,
            cancel=token,
            mask=limits.mask,
            protect=limits.protect,
        )
    for part in ("load", "total"):
        result.timings[part] += ready.read_ms
    if token.cancelled:
        raise Cancelled("Cancelled before the result was written, as asked.")
    written, more = outputs.write_picture(result)
    notes = (*told.notes, *result.notes, *more)
    written += results.write_more(refiner, ready.image, picture, told.prompt, result, outputs, notes)
    if job.as_json:
        say_notes(notes)
        target = outputs.picture or STREAM
        _print(job, results.result_json(refiner, ready.image, target, told, result, notes))
    else:
        name = f"{ready.image}:" if job.several else ""
        results.show(result, written, notes, name, stderr=outputs.picture == STREAM)


def _print(job: Job, value: dict[str, object]) -> None:
    """One JSON object, with the options that were given; of several pictures one a line."""
    (print_json_line if job.several else print_json)({**value, "options": changed(job.options)})
