"""The work on one row: one function for every caller, so that its result depends on this row alone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from grefine_rt.assess.indicator import Assessment, check_prompt
from grefine_rt.assessor import Assessor
from grefine_rt.batch.records import SCORES, Record
from grefine_rt.batch.rows import Row, file_stem, id_of
from grefine_rt.batch.settings import BatchOptions, with_values
from grefine_rt.cancel import Cancels, stop_if_cancelled
from grefine_rt.errors import (
    BundleError,
    Cancelled,
    DomainError,
    GRefineError,
    ImageError,
    OptionError,
    PromptError,
)
from grefine_rt.imaging.encode import FORMATS, encode, suffix_for
from grefine_rt.imaging.image import Picture, load
from grefine_rt.imaging.prompts.found import FoundPrompt
from grefine_rt.imaging.prompts.read import read_prompt
from grefine_rt.imaging.prompts.side_file import read_side_file, side_file
from grefine_rt.plan.costs import TERA, plan_costs
from grefine_rt.plan.graph_costs import assess_flops
from grefine_rt.plan.options import RefineOptions
from grefine_rt.plan.plan import RefinePlan
from grefine_rt.refiner import Refiner

STOPS = (Cancelled, BundleError)
"""Errors that are no matter of one picture."""

_BYTES = "The image data"
"""The name in messages of a picture that came as bytes."""


@dataclass(frozen=True)
class Read:
    """A row with all that its files say, so that nothing more is read for it. data: the bytes of its picture, or why
    there are none. beside: the prompt in the file beside it, where it has one, or why it cannot be read."""

    row: Row
    image_id: str
    data: bytes | GRefineError = field(repr=False)
    beside: FoundPrompt | GRefineError | None = None


@dataclass(frozen=True)
class Ready:
    """A row whose picture and prompt were read. picture: None where that failed, and the record says why."""

    record: Record
    picture: Picture | None = None
    options: RefineOptions | None = None
    read_ms: float = 0.0


@dataclass(frozen=True)
class Done:
    """A record, and the bytes of the result for the file it names as `output`."""

    record: Record
    data: bytes | None = field(default=None, repr=False)
    made: Any = field(default=None, repr=False)


def prepare(read: Read, batch: BatchOptions) -> Ready:
    """Decode the picture, find the prompt, check the options. Raises nothing that is a matter of this row."""
    start, row = time.perf_counter(), read.row
    record: Record = {"image_id": read.image_id, "image": row.name, "status": "failed", "error": ""}
    try:
        if isinstance(read.data, GRefineError):
            raise read.data
        picture = _load(read.data, row.name)
        record |= {"width": picture.size[0], "height": picture.size[1]}
        prompt, negative, source = _prompt(read, picture)
        record |= {"prompt": prompt, "prompt_source": source, "options": dict(row.options or {})}
        found = {"negative": negative} if negative and not batch.options.plan.negative else {}
        options = with_values(batch.options, {**found, **(row.options or {})})
        seed = batch.seed if row.seed is None else row.seed
        record |= {"negative": options.plan.negative, "seed": str(seed)}
        check_prompt(prompt)
        record["notes"] = list(picture.notes)
        return Ready(record, picture, options, 1000 * (time.perf_counter() - start))
    except STOPS:
        raise
    except Exception as error:
        return Ready(failed(record, error))


def work_all(
    assessor: Assessor | Refiner, rows: Sequence[Ready], batch: BatchOptions, cancel: Cancels | None = None
) -> list[Done]:
    """Work on rows; assessed rows of equal options share the runs of the graphs."""
    whole = [row for row in rows if row.picture is not None and row.options is not None]
    if batch.mode != "assess" or len(whole) < 2:
        return [work_row(assessor, row, batch, cancel) for row in rows]
    found: dict[int, Done] = {}
    for options, group in _by_options(whole):
        stop_if_cancelled(cancel, "before a batch")
        start = time.perf_counter()
        pictures = [row.picture for row in group if row.picture is not None]
        prompts = [row.record["prompt"] for row in group]
        try:
            assessments = list(assessor.assess_batch(pictures, prompts, options.assess, len(group)))
            spent = 1000 * (time.perf_counter() - start) / len(group)
            for row, assessment in zip(group, assessments, strict=True):
                found[id(row)] = Done(_assessed(assessor, row, options, assessment, spent))
        except STOPS:
            raise
        except Exception:  # of one of them; alone each says its own
            continue
    return [found.get(id(row)) or work_row(assessor, row, batch, cancel) for row in rows]


def _by_options(rows: Sequence[Ready]) -> list[tuple[RefineOptions, list[Ready]]]:
    groups: list[tuple[RefineOptions, list[Ready]]] = []
    for row in rows:
        assert row.options is not None
        for options, group in groups:
            if options == row.options:
                group.append(row)
                break
        else:
            groups.append((row.options, [row]))
    return groups


def work_row(
    assessor: Assessor | Refiner, ready: Ready, batch: BatchOptions, cancel: Cancels | None = None
) -> Done:
    """Refine or assess a row; the same bits as `Refiner.refine` or `Refiner.assess` gives for it alone."""
    if ready.picture is None or ready.options is None:
        return Done(ready.record)
    try:
        stop_if_cancelled(cancel, "before a row")
        if batch.mode == "assess" or not isinstance(assessor, Refiner):
            return Done(_assess(assessor, ready, ready.options))
        result = assessor.refine(
            ready.picture,
            ready.record["prompt"],
            int(ready.record["seed"]),
            ready.options,
            cancel=cancel,
        )
        timings = {**result.timings, "read": ready.read_ms}
        timings["total"] += ready.read_ms
        record = {
            **ready.record,
            **_scores(result.before, "before"),
            **_scores(result.after, "after"),
            **_found(result.before),
            **_plan(result.plan),
            "status": "refined",
            "changed": result.image.tobytes() != ready.picture.to_pil().tobytes(),
            "notes": list(result.notes),
            "tflop": None if result.costs is None else result.costs.total,
            "tflop_assess": None if result.costs is None else result.costs.assess,
            "timings_ms": timings,
            "total_ms": timings["total"],
            "run": result.run,
        }
        return Done(record, made=result)
    except STOPS:
        raise
    except DomainError as error:
        found = assessor.assess(ready.picture, ready.record["prompt"], ready.options.assess)
        return Done(failed({**ready.record, **_scores(found, "before"), **_found(found)}, error))
    except Exception as error:
        return Done(failed(ready.record, error))


def finish(done: Done, batch: BatchOptions) -> Done:
    """The result as the bytes of a file, and the file's name in the record."""
    if done.made is None:
        return done
    result, encoding = done.made, batch.encoding
    try:
        said = encoding.format
        suffix = suffix_for(FORMATS[said] if said else result.metadata.format)
        name = encoding.of(None, result.metadata.format, result.image.has_transparency_data)
        data, notes = encode(result.image, name, encoding, result.metadata, result.entry())
    except Exception as error:
        return Done(failed(done.record, error))
    output = f"images/{file_stem(done.record['image_id'], done.record['image'])}{suffix}"
    return Done({**done.record, "output": output, "notes": [*done.record["notes"], *notes]}, data)


def failed(record: Record, error: Exception) -> Record:
    """The record of a row that could not be done, with one sentence."""
    kind = type(error).__name__
    text = str(error) if isinstance(error, GRefineError) else f"Unexpected {kind}: {error}"
    return {**record, "status": "failed", "error": " ".join(text.split()), "error_kind": kind}


def read_row(row: Row) -> Read:
    """The row's id and bytes, and the prompt beside its picture. Raises nothing."""
    data, beside = _bytes(row), None
    image_id = id_of(row, data if isinstance(data, bytes) else b"")
    if row.repeat > 1:
        given = f'The id "{image_id}" stands twice in the input.'
        data = OptionError(given if row.image_id else "This row repeats another one.")
        image_id = f"{image_id}~{row.repeat}"
    if row.prompt is None and row.path is not None and isinstance(data, bytes):
        try:
            beside = read_side_file(side_file(row.path))  # type: ignore[arg-type]  # all that it asks of a path
        except PromptError as error:
            return Read(row, image_id, data, error)
    return Read(row, image_id, data, beside)


def _bytes(row: Row) -> bytes | GRefineError:
    try:
        return OptionError(row.error) if row.error else row.read()
    except GRefineError as error:
        return error


def _load(data: bytes, name: str) -> Picture:
    """A picture whose messages call it by its name in the input. Raises ImageError."""
    called = f'The file "{name}"'
    try:
        picture = load(data)
    except ImageError as error:
        raise ImageError(str(error).replace(_BYTES, called, 1)) from None
    notes = tuple(note.replace(_BYTES, called, 1) for note in picture.notes)
    return replace(picture, name=called, notes=notes)


def _prompt(read: Read, picture: Picture) -> tuple[str, str, str]:
    if read.row.prompt is not None:
        return read.row.prompt, "", ""
    if isinstance(read.beside, GRefineError):
        raise read.beside
    found = read.beside or read_prompt(picture.metadata.fields())
    if found is None:
        raise OptionError(
            "There is no prompt for this picture: give the table a column 'prompt', write a .txt file beside the "
            "picture, or use pictures whose generator wrote it into them."
        )
    return found.prompt, found.negative, found.source


def _assess(assessor: Assessor, ready: Ready, options: RefineOptions) -> Record:
    assert ready.picture is not None
    start = time.perf_counter()
    found = assessor.assess(ready.picture, ready.record["prompt"], options.assess)
    return _assessed(assessor, ready, options, found, 1000 * (time.perf_counter() - start))


def _assessed(
    assessor: Assessor, ready: Ready, options: RefineOptions, found: Assessment, spent: float
) -> Record:
    record = {**ready.record, **_scores(found, "before"), **_found(found), "status": "assessed"}
    record["notes"] = [*ready.record["notes"], *found.notes]
    if isinstance(assessor, Refiner):
        plan = assessor.plan(found, options=options.plan)
        costs = plan_costs(plan, decoding=options.decoding)
        record |= _plan(plan)
        record["tflop"] = None if costs is None else costs.total
        look = assess_flops(plan.manifest, plan.texts, 1)
        record["tflop_assess"] = None if look is None else look / TERA
    record["timings_ms"] = {"read": ready.read_ms, "assess": spent, "total": ready.read_ms + spent}
    record["total_ms"] = ready.read_ms + spent
    return record


def _scores(found: Assessment, when: str) -> Record:
    metrics = {name: float(score.value) for name, score in found.metrics.items()}
    values = {**found.factors, "perceptual": found.perceptual, "alignment": found.alignment, **metrics}
    scores = {f"{name}_{when}": float(values[name]) for name in SCORES if name in values}
    return {**scores, f"metrics_{when}": metrics}


def _found(found: Assessment) -> Record:
    phrases = [
        {"text": phrase.text, "noun": phrase.noun, "defect": phrase.defect} for phrase in found.phrases
    ]
    return {
        "phrases": phrases,
        "domain": None if found.domain is None else dataclasses.asdict(found.domain),
    }


def _plan(plan: RefinePlan) -> Mapping[str, Any]:
    return {
        "regenerate": bool(plan.regenerate),
        "restore": bool(plan.restore),
        "restore_first": bool(plan.restore_first or plan.restored),
        "strength": float(plan.strength),
        "delta": float(plan.delta),
        "plan_prompt": plan.prompt,
        "coverage": float(plan.coverage) if plan.regenerate else 0.0,
        "boxes": [[int(side) for side in box] for box in plan.boxes],
        "reasons": list(plan.reasons),
    }
