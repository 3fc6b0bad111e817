"""Databases of rated pictures, read in the layouts in which they are published."""

import csv
import zipfile
from xml.sax.saxutils import escape

import numpy as np
import pytest
from PIL import Image

from grefine_rt.errors import DatasetError
from grefine_rt.evaluation.databases import DATASETS, read

HEADER_3K = [
    "name",
    "prompt",
    "adj1",
    "adj2",
    "style",
    "mos_quality",
    "std_quality",
    "mos_align",
    "std_align",
]
ROWS_1K = [
    ("deepai_0_0_0_0.jpg", "bird, driving aircraft, city, anime style", "2.7934105045636524"),
    ("deepai_0_0_1_1.jpg", "bird, driving aircraft, wild, realistic style", "4.1599693602540038"),
    ("dreamStudio_7_7_0_1.jpg", "man, playing football, city, realistic style", "1.5"),
]


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(path)


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def write_xlsx(path, rows, sheet=None):
    """A workbook as Excel writes it: texts in the table of shared strings, with a phonetic guide or in runs."""
    strings, lines = [], []
    for number, row in enumerate(rows, start=1):
        cells = []
        for letter, value in zip("ABC", row, strict=False):
            if value.replace(".", "", 1).isdigit():
                cells.append(f'<c r="{letter}{number}" s="1"><v>{value}</v></c>')
            elif value:
                cells.append(f'<c r="{letter}{number}" t="s"><v>{len(strings)}</v></c>')
                strings.append(value)
        lines.append(f'<row r="{number}" spans="1:3">{"".join(cells)}</row>')
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'

    def item(text):
        if "," not in text:
            return f'<si><t>{escape(text)}</t><rPh sb="0" eb="1"><t>guide</t></rPh></si>'
        half = len(text) // 2
        runs = "".join(f"<r><rPr/><t>{escape(part)}</t></r>" for part in (text[:half], text[half:]))
        return f"<si>{runs}</si>"

    shared = f"<sst {space}>{''.join(map(item, strings))}</sst>"
    sheet = sheet or f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/sharedStrings.xml", shared)
        archive.writestr("xl/worksheets/sheet1.xml", sheet)


def test_agiqa_3k(tmp_path):
    write_csv(
        tmp_path / "data.csv",
        [
            HEADER_3K,
            ["sd_000.jpg", "a castle, anime style", "", "", "anime style", "3.5", ".1", "1.25", ".2"],
            ["dalle2_000.jpg", "a castle, anime style", "", "", "anime style", "0.5", ".1", "2", ".2"],
            ["sd_001.jpg", "statue of a man", "", "", "", "1", "0", "4", "0"],
        ],
    )
    picture(tmp_path / "images" / "sd_000.jpg")
    first, second, third = read("agiqa-3k", tmp_path)
    assert first.path == tmp_path / "images" / "sd_000.jpg"
    assert first.prompt == "a castle, anime style"
    assert first.scores == {"quality": 3.5, "alignment": 1.25}
    assert first.group == second.group != third.group
    assert second.path == tmp_path / "dalle2_000.jpg"  # it is missing, which its reader will say


def test_agiqa_1k_groups_by_the_two_objects(tmp_path):
    write_xlsx(tmp_path / "AIGC_MOS_Zscore.xlsx", [("Image", "Prompt", "MOS"), *ROWS_1K])
    picture(tmp_path / "file" / "deepai_0_0_0_0.jpg")
    first, second, third = read("agiqa-1k", str(tmp_path))
    assert first.path == tmp_path / "file" / "deepai_0_0_0_0.jpg"
    assert [item.prompt for item in (first, second, third)] == [row[1] for row in ROWS_1K]
    assert first.scores == {"quality": 2.7934105045636524}
    assert first.group == second.group == "bird, driving aircraft"
    assert third.group == "man, playing football"


def test_empty_cells_of_a_spreadsheet_keep_their_columns(tmp_path):
    write_xlsx(tmp_path / "AIGC_MOS_Zscore.xlsx", [("Image", "Prompt", "MOS"), ("a.jpg", "", "2")])
    (item,) = read("agiqa-1k", tmp_path)
    assert (item.path.name, item.prompt, item.scores) == ("a.jpg", "", {"quality": 2.0})


def test_inline_texts_and_cells_without_a_reference(tmp_path):
    cells = "".join(f'<c t="inlineStr"><is><t>{text}</t></is></c>' for text in ("Image", "Prompt", "MOS"))
    values = '<c t="inlineStr"><is><t>a.jpg</t></is></c><c t="str"><v>a cat</v></c><c><v>3</v></c>'
    space = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    sheet = (
        f'<worksheet xmlns="{space}"><sheetData><row>{cells}</row><row>{values}</row></sheetData></worksheet>'
    )
    write_xlsx(tmp_path / "AIGC_MOS_Zscore.xlsx", [], sheet)
    (item,) = read("agiqa-1k", tmp_path)
    assert (item.path.name, item.prompt, item.scores) == ("a.jpg", "a cat", {"quality": 3.0})


@pytest.mark.parametrize("header", [True, False])
def test_aigiqa_20k_in_parts_with_and_without_a_header(tmp_path, header):
    rows = {
        "train": [["DALLE2_0000.png", 'a "red" cat, 8k', "3.5"]],
        "test": [["Dream_0001.png", "a, b", "1"], ["Dream_0002.png", "c", "2"]],
    }
    for split, lines in rows.items():
        write_csv(tmp_path / f"info_{split}.csv", [["name", "prompt", "mos"]] * header + lines)
        for line in lines:
            picture(tmp_path / split / line[0])
    every = read("aigiqa-20k", tmp_path)
    assert [item.path.name for item in every] == ["DALLE2_0000.png", "Dream_0001.png", "Dream_0002.png"]
    assert every[0].path == tmp_path / "train" / "DALLE2_0000.png"
    assert (every[0].prompt, every[0].scores) == ('a "red" cat, 8k', {"quality": 3.5})
    assert read("aigiqa-20k", tmp_path, "test") == every[1:]
    with pytest.raises(DatasetError, match=r'no "info_val\.csv"'):
        read("aigiqa-20k", tmp_path, "val")


def test_empty_rows_and_a_byte_order_mark_are_harmless(tmp_path):
    rows = [HEADER_3K, ["a.jpg", " a cat ", *[""] * 3, "1", "", "2", ""], [], [""] * 9]
    write_csv(tmp_path / "data.csv", rows)
    text = (tmp_path / "data.csv").read_text(encoding="utf-8")
    (tmp_path / "data.csv").write_text("\ufeff" + text, encoding="utf-8")
    (item,) = read("agiqa-3k", tmp_path)
    assert item.prompt == "a cat"


def good_row(**changes):
    row = dict(zip(HEADER_3K, ["a.jpg", "a cat", "", "", "", "1", "0", "2", "0"], strict=True)) | changes
    return [HEADER_3K, list(row.values())]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r'"data\.csv" has no column "name"'),
        ([["name", "prompt", "mos_quality"]], r'"data\.csv" has no column "mos_align"'),
        (good_row(mos_quality="good"), r'Row 2 of "data\.csv" has no number as its score'),
        (good_row(mos_align="nan"), r'Row 2 of "data\.csv" has no number as its score'),
        ([HEADER_3K, ["a.jpg", "a cat"]], r'Row 2 of "data\.csv" has no number as its score'),
    ],
)
def test_damaged_tables_are_refused_in_one_sentence(tmp_path, rows, message):
    write_csv(tmp_path / "data.csv", rows)
    with pytest.raises(DatasetError, match=message) as error:
        read("agiqa-3k", tmp_path)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_the_challenges_table_without_scores_is_refused(tmp_path):
    write_csv(tmp_path / "info_val.csv", [["DALLE2_0025.png", "oil painting of shakira"]])
    with pytest.raises(DatasetError, match=r'"info_val\.csv" has no column "mos"'):
        read("aigiqa-20k", tmp_path)


def test_a_name_in_two_folders_is_refused(tmp_path):
    write_csv(tmp_path / "data.csv", good_row())
    for folder in ("images", "small"):
        picture(tmp_path / folder / "a.jpg")
    with pytest.raises(DatasetError, match=r'"a\.jpg" lies in ".*images" and in ".*small"'):
        read("agiqa-3k", tmp_path)


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04"])
def test_a_spreadsheet_that_is_none(tmp_path, data):
    (tmp_path / "AIGC_MOS_Zscore.xlsx").write_bytes(data)
    with pytest.raises(DatasetError, match="cannot be read as a table"):
        read("agiqa-1k", tmp_path)


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_folder_without_the_table(tmp_path, dataset):
    with pytest.raises(DatasetError, match="give the folder into which the database was unpacked"):
        read(dataset, tmp_path / "nowhere")


def test_unknown_names_and_parts(tmp_path):
    with pytest.raises(DatasetError, match="choose one of agiqa-1k, agiqa-3k, aigiqa-20k"):
        read("koniq", tmp_path)
    with pytest.raises(DatasetError, match="only aigiqa-20k has train, val and test"):
        read("agiqa-3k", tmp_path, "test")
