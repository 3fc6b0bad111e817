"""Every score that a bundle gives, over a database of rated pictures, and its agreement with the opinions."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from grefine_rt.assess.indicator import Assessment, AssessOptions, check_prompt
from grefine_rt.assessor import Assessor
from grefine_rt.errors import ImageError, OptionError, OutputError, PromptError
from grefine_rt.evaluation import correlation
from grefine_rt.evaluation.databases import Rated
from grefine_rt.files import write_whole
from grefine_rt.imaging.image import Picture, load

_SCORES = ("perceptual", "technical", "rationality", "naturalness", "alignment")
_OPINIONS = ("mos_quality", "mos_alignment")

_ASSESS = AssessOptions()

OnProgress = Callable[[int, int], None]
"""Called with (pictures done, pictures in all)."""


@dataclass(frozen=True)
class Scored:
    """One picture of the database and every score it got; none where `error` says why in a sentence."""

    picture: str
    opinions: Mapping[str, float]
    scores: Mapping[str, float]
    error: str = ""


@dataclass(frozen=True)
class Agreement:
    """The agreement of a score with an opinion over `pictures` of them; -1..1, None for an undefined one.

    plcc: of the score as it is. plcc_fitted: after the four-parameter logistic, as papers report it.
    """

    score: str
    opinion: str
    pictures: int
    srcc: float | None
    plcc: float | None
    plcc_fitted: float | None
    krcc: float | None


def thin_out(items: Sequence[Rated], limit: int | None) -> list[Rated]:
    """At most `limit` of the items, spread evenly: databases are sorted by model. Raises OptionError."""
    if limit is None or limit >= len(items):
        return list(items)
    if limit < 1:
        raise OptionError(f"The option 'limit' must be 1 or more, not {limit}.")
    return [items[i * len(items) // limit] for i in range(limit)]


def score_all(
    assessor: Assessor,
    items: Sequence[Rated],
    options: AssessOptions = _ASSESS,
    *,
    table: Path | None = None,
    batch: int = 8,
    on_progress: OnProgress = lambda done, total: None,
) -> list[Scored]:
    """The scores of all pictures, in the order of `items`.

    table: a CSV file that gets every row as soon as it is there. A former run's file is continued:
    its pictures are kept, and the ones with an error assessed again. A picture that cannot be read, or a
    prompt that says nothing, gives a row with an error, and the others go on.

    Raises OptionError when `table` holds anything else or was made by another bundle or with other options,
    OutputError when it cannot be written, BundleError and DeviceError.
    """
    manifest = assessor.bundle.manifest
    scoring = options.scoring or manifest.perceptual.scoring
    made_by = (
        f"{manifest.name} {manifest.version} {scoring} {options.adjective_rule} {options.alignment_score}"
    )
    made_by += "".join(
        f" {value}" for value in (options.factors, options.bounds, options.upsampling) if value
    )
    scores = (*_SCORES, *(name for name in assessor.scales if name not in _SCORES))
    columns = ("picture", "made_by", *_OPINIONS, *scores, "error")
    done = {} if table is None else _read_table(table, made_by, columns, scores)
    wanted = [item for item in items if item.path.name not in done]
    with _appending(table, made_by, columns, done) as write:
        for start in range(0, len(wanted), batch):
            on_progress(len(items) - len(wanted) + start, len(items))
            for scored in _score(assessor, wanted[start : start + batch], options, batch):
                done[scored.picture] = scored
                write(scored)
    on_progress(len(items), len(items))
    return [done[item.path.name] for item in items]


def agreements(scored: Sequence[Scored]) -> list[Agreement]:
    """Each score against each opinion, over the pictures that have both."""
    rows = [row for row in scored if not row.error]
    found = []
    for opinion in dict.fromkeys(name for row in rows for name in row.opinions):
        for score in dict.fromkeys(name for row in rows for name in row.scores):
            both = [
                (row.scores[score], row.opinions[opinion])
                for row in rows
                if score in row.scores and opinion in row.opinions
            ]
            found.append(_agreement(score, opinion, [pair[0] for pair in both], [pair[1] for pair in both]))
    return found


def _agreement(score: str, opinion: str, given: Sequence[float], asked: Sequence[float]) -> Agreement:
    measures = (correlation.srcc, correlation.plcc, correlation.plcc_fitted, correlation.krcc)
    values = [measure(given, asked) if len(given) > 1 else math.nan for measure in measures]
    return Agreement(score, opinion, len(given), *(None if math.isnan(value) else value for value in values))


def _score(
    assessor: Assessor, items: Sequence[Rated], options: AssessOptions, batch: int
) -> Iterator[Scored]:
    pictures: dict[int, Picture] = {}
    errors: dict[int, str] = {}
    for index, item in enumerate(items):
        try:
            check_prompt(item.prompt)
            pictures[index] = load(item.path)
        except (ImageError, PromptError) as error:
            errors[index] = str(error)
    prompts = [items[index].prompt for index in pictures]
    rgb = (picture.rgb for picture in pictures.values())
    assessments = assessor.assess_batch(rgb, prompts, options, batch)
    for index, item in enumerate(items):
        if index in errors:
            yield Scored(item.path.name, item.scores, {}, errors[index])
        else:
            yield Scored(item.path.name, item.scores, _scores(next(assessments)))


def _scores(assessment: Assessment) -> dict[str, float]:
    found = {name: score.value for name, score in assessment.scores.items()}
    found |= {name: value for name, value in assessment.factors.items() if name != "overall"}
    return {name: found[name] for name in (*_SCORES, *found) if name in found}


def _read_table(path: Path, made_by: str, columns: Sequence[str], scores: Sequence[str]) -> dict[str, Scored]:
    """The rows without an error that a former run wrote, by picture; a row cut off in writing is left out."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f'"{path}" cannot be gone on with ({error}): choose another file.') from None
    # What follows the last line end was cut off in writing.
    header, *rows = list(csv.reader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))) or [[]]
    if text and header != list(columns):
        raise OptionError(
            f'"{path}" is no table of scores of this command: choose another file, it is left as it is.'
        )
    done = {}
    for cells in (dict(zip(columns, row, strict=False)) for row in rows):
        if cells.get("made_by") != made_by:
            raise OptionError(
                f'"{path}" was made by "{cells.get("made_by")}", not by "{made_by}": choose another file.'
            )
        try:
            scored = Scored(
                cells["picture"],
                {name.removeprefix("mos_"): float(cells[name]) for name in _OPINIONS if cells[name]},
                {name: float(cells[name]) for name in scores if cells[name]},
                cells["error"],
            )
        except (KeyError, ValueError):
            raise OptionError(f'"{path}" has a damaged row: delete the file and run again.') from None
        if not scored.error:
            done[scored.picture] = scored
    return done


@contextmanager
def _appending(
    path: Path | None, made_by: str, columns: Sequence[str], done: Mapping[str, Scored]
) -> Iterator[Callable[[Scored], None]]:
    """A function that adds a row to the table, which begins with the rows of `done`."""
    if path is None:
        yield lambda scored: None
        return
    begin = "".join([_line(columns), *(_line(_cells(scored, made_by, columns)) for scored in done.values())])
    write_whole(path, begin.encode("utf-8"))
    with path.open("a", encoding="utf-8", newline="") as file:

        def write(scored: Scored) -> None:
            try:
                file.write(_line(_cells(scored, made_by, columns)))
                file.flush()
            except OSError as error:
                raise OutputError(f'"{path}" cannot be written: {error.strerror}.') from None

        yield write


def _cells(scored: Scored, made_by: str, columns: Sequence[str]) -> list[str]:
    opinions = {f"mos_{name}": value for name, value in scored.opinions.items()}
    values = {name: repr(float(value)) for name, value in {**opinions, **scored.scores}.items()}
    first = {"picture": scored.picture, "made_by": made_by, "error": scored.error}
    return [{**first, **values}.get(column, "") for column in columns]


def _line(cells: Sequence[str]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(cells)
    return out.getvalue()
