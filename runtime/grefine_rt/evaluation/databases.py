"""Databases of generated pictures rated by people, read as they are published; without torch or pandas.

`root` is the folder that holds the database's table; its pictures may lie in it or in any folder below it, as
their archives unpack, and are found by their names.

| name | table, and its columns | opinion scores | where people get it |
|---|---|---|---|
| `agiqa-1k` | `AIGC_MOS_Zscore.xlsx`: Image, Prompt, MOS | quality, 0..5, of 1,080 pictures | github.com/lcysyzxdxc/AGIQA-1k-Database |
| `agiqa-3k` | `data.csv`: name, prompt, adj1, adj2, style, mos_quality, std_quality, mos_align, std_align | quality and alignment, 0..5, of 2,982 pictures | github.com/lcysyzxdxc/AGIQA-3k-Database |
| `aigiqa-20k` | `info_train.csv`, `info_val.csv`, `info_test.csv`: name, prompt, mos (some copies lack this header) | quality, 0..5, of 14,000 + 2,000 + 4,000 pictures | modelscope.cn/datasets/lcysyzxdxc/AIGCQA-30K-Image |

The scores of AGIQA-1K and AIGIQA-20K rate the look of a picture and its prompt in one; they are called
`quality` here, as IP-IQA's Table 1 does.

A spreadsheet is a ZIP archive of XML and the one needed has a single sheet of three columns, so the standard
library reads it (`_xlsx_rows`) and openpyxl is no dependency.
"""  # noqa: E501 - rows of a table cannot be broken

from __future__ import annotations

import csv
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree

from grefine_rt.errors import DatasetError
from grefine_rt.evaluation.names import Dataset as Dataset
from grefine_rt.evaluation.names import Split as Split

DATASETS: tuple[Dataset, ...] = get_args(Dataset)
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True)
class Rated:
    """One rated picture.

    path: of the picture; it may be missing or unreadable.
    prompt: as published, which may be an empty text.
    group: pictures of one group belong on the same side of a split. AGIQA-1K: the two objects ("man, playing
        football"), which it draws in several places and styles; elsewhere the prompt.
    scores: mean opinion scores by name, "quality" and where the database has it "alignment"; higher is
        better.
    """

    path: Path
    prompt: str
    group: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class _Layout:
    tables: tuple[str, ...]
    name: str
    scores: Mapping[str, str]
    group: Callable[[str], str] = str
    header_may_lack: bool = False


def _objects(prompt: str) -> str:
    return ", ".join(part.strip() for part in prompt.split(",")[:2])


_LAYOUTS: dict[Dataset, _Layout] = {
    "agiqa-1k": _Layout(("AIGC_MOS_Zscore.xlsx",), "image", {"quality": "mos"}, group=_objects),
    "agiqa-3k": _Layout(("data.csv",), "name", {"quality": "mos_quality", "alignment": "mos_align"}),
    "aigiqa-20k": _Layout(
        tuple(f"info_{split}.csv" for split in SPLITS), "name", {"quality": "mos"}, header_may_lack=True
    ),
}


def read(dataset: Dataset, root: str | Path, split: Split | None = None) -> tuple[Rated, ...]:
    """The rated pictures of a database, in the order of its table.

    split: only AIGIQA-20K is published in parts; None reads all parts that are there. Whether the pictures
    can be read is not looked at. Raises DatasetError for an unknown name or split, a missing or damaged
    table, missing columns, a score that is no number, and for a picture's name that lies in two folders.
    """
    if dataset not in _LAYOUTS:
        raise DatasetError(f"Unknown database '{dataset}': choose one of {', '.join(DATASETS)}.")
    layout, root = _LAYOUTS[dataset], Path(root)
    tables = [root / table for table in layout.tables]
    if split is not None:
        if len(tables) == 1 or split not in SPLITS:
            raise DatasetError(f"'{dataset}' has no part '{split}': only aigiqa-20k has train, val and test.")
        tables = [root / f"info_{split}.csv"]
    elif any(path.is_file() for path in tables):
        tables = [path for path in tables if path.is_file()]
    places = _places(root)
    return tuple(rated for table in tables for rated in _read_table(table, layout, root, places))


def _read_table(
    table: Path, layout: _Layout, root: Path, places: Mapping[str, Sequence[Path]]
) -> Iterator[Rated]:
    if not table.is_file():
        raise DatasetError(
            f'There is no "{table.name}" in "{root}": give the folder into which the database was unpacked.'
        )
    rows = _xlsx_rows(table) if table.suffix == ".xlsx" else _csv_rows(table)
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    wanted = [layout.name, "prompt", *layout.scores.values()]
    first = 1
    if layout.header_may_lack and layout.name not in header:
        header, first = wanted[: len(header)], 0
    for column in wanted:
        if column not in header:
            raise DatasetError(
                f'"{table.name}" has no column "{column}": fetch the table that was published with the '
                f"scores."
            )
    for number, row in enumerate(rows[first:], start=first + 1):
        cells = dict(zip(header, row, strict=False))
        name, prompt = cells.get(layout.name, "").strip(), cells.get("prompt", "").strip()
        if not name and not prompt:
            continue  # spreadsheets and editors leave empty rows at the end
        try:
            scores = {score: _number(cells[column]) for score, column in layout.scores.items()}
        except (KeyError, ValueError):
            raise DatasetError(
                f'Row {number} of "{table.name}" has no number as its score: fetch the table again.'
            ) from None
        found = places.get(name, ())
        if len(found) > 1:
            raise DatasetError(
                f'The picture "{name}" lies in "{found[0].parent}" and in "{found[1].parent}": keep one of '
                f"them below the database's folder."
            )
        yield Rated(found[0] if found else root / name, prompt, layout.group(prompt), scores)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _places(root: Path) -> dict[str, list[Path]]:
    """Every file below `root` by its name."""
    places: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            places.setdefault(path.name, []).append(path)
    return places


def _csv_rows(path: Path) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, error) from None


_SHEET = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def _xlsx_rows(path: Path) -> list[list[str]]:
    """The cells of the first sheet as texts; a cell left empty is ""."""
    try:
        with zipfile.ZipFile(path) as archive:
            sheet = ElementTree.fromstring(archive.read("xl/worksheets/sheet1.xml"))
            strings: list[str] = []
            if "xl/sharedStrings.xml" in archive.namelist():
                shared = ElementTree.fromstring(archive.read("xl/sharedStrings.xml"))
                strings = [_text(item) for item in shared.iter(f"{_SHEET}si")]
        rows = []
        for row in sheet.iter(f"{_SHEET}row"):
            cells: dict[int, str] = {}
            for place, cell in enumerate(row.iter(f"{_SHEET}c")):
                cells[_column(cell.get("r"), place)] = _cell(cell, strings)
            rows.append([cells.get(column, "") for column in range(max(cells, default=-1) + 1)])
        return rows
    except (OSError, KeyError, ValueError, IndexError, zipfile.BadZipFile, ElementTree.ParseError) as error:
        raise _damaged(path, error) from None


def _cell(cell: ElementTree.Element, strings: Sequence[str]) -> str:
    kind, value = cell.get("t"), cell.findtext(f"{_SHEET}v", "")
    if kind == "s":
        return strings[int(value)]
    inline = cell.find(f"{_SHEET}is")
    return value if inline is None else _text(inline)


def _text(item: ElementTree.Element) -> str:
    """A text, plain or in runs of differing fonts; its phonetic guide is left out."""
    parts = (*item.findall(f"{_SHEET}t"), *item.findall(f"{_SHEET}r/{_SHEET}t"))
    return "".join(part.text or "" for part in parts)


def _column(reference: str | None, place: int) -> int:
    """The column, from 0, of a cell such as "C7"; where a writer left the reference out, its place."""
    letters = re.match("[A-Z]+", reference or "")
    if letters is None:
        return place
    number = 0
    for letter in letters.group():
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _damaged(path: Path, error: Exception) -> DatasetError:
    reason = getattr(error, "strerror", None) or type(error).__name__
    return DatasetError(f'"{path}" cannot be read as a table ({reason}): fetch it again.')
