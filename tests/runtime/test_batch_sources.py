"""Rows of every kind of input, made here; and rows that cannot be used."""

import io
import json
import os
import tarfile
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from grefine_rt.batch.rows import Row, file_stem, id_of
from grefine_rt.batch.sources import SourceRows
from grefine_rt.errors import ImageError, OptionError


def png(colour=(200, 30, 30)):
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(("b.png", "a.png", "sub/c.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(png((number, 0, 0)))
    return tmp_path


def shard(path, files):
    with tarfile.open(path, "w") as archive:
        for name, data in files:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def said(rows):
    return [(row.name, row.prompt, row.image_id, row.seed, row.options) for row in rows]


def test_a_folder_gives_its_pictures_by_name_without_results_and_hidden_files(folder):
    (folder / "out").mkdir()
    (folder / "out" / "a.png").write_bytes(png())
    (folder / ".hidden.png").write_bytes(png())
    (folder / "notes.md").write_text("no picture")
    rows = SourceRows(folder, without=folder / "out")
    assert [row.name for row in rows] == ["a.png", "b.png", "sub/c.png"]
    assert rows.count() == 3
    assert [row.read() for row in rows] == [(folder / row.name).read_bytes() for row in rows]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_metadata_in_the_imagefolder_layout_holds_for_its_folder_and_below(folder, form):
    values = [
        {"file_name": "b.png", "text": "a blue house, tall"},
        {"file_name": "sub/c.png", "text": "the sea"},
        {"file_name": "gone.png", "text": "lost"},
    ]
    if form == "csv":
        text = "file_name,text\n" + "".join(f'{row["file_name"]},"{row["text"]}"\n' for row in values)
        (folder / "metadata.csv").write_text(text)
    elif form == "jsonl":
        (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in values))
    else:
        pq.write_table(pa.Table.from_pylist(values), folder / "metadata.parquet")
    rows = list(SourceRows(folder))
    assert [(row.name, row.prompt) for row in rows] == [
        ("a.png", None),
        ("b.png", "a blue house, tall"),
        ("gone.png", "lost"),
        ("sub/c.png", "the sea"),
    ]
    with pytest.raises(ImageError, match=r"no image \"gone\.png\""):
        rows[2].read()


def test_a_picture_named_twice_is_told(folder):
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "prompt": "x"}\n' * 2)
    errors = [row.error for row in SourceRows(folder) if row.error]
    assert errors == ['"metadata.jsonl" names the picture "a.png" twice.']


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_tables_of_every_kind_say_the_same(folder, form):
    values = [
        {"image": "a.png", "prompt": "a house", "id": "one", "seed": 7, "options": {"drafts": 2}},
        {"image": "sub/c.png", "prompt": "the sea", "id": None, "seed": None, "options": None},
    ]
    table = folder / f"table.{form}"
    if form == "csv":
        table.write_text(
            'image,prompt,id,seed,options\na.png,a house,one,7,"{""drafts"": 2}"\nsub/c.png,the sea,,,\n'
        )
    elif form == "jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in values))
    else:
        pq.write_table(pa.Table.from_pylist(values), table)
    rows = SourceRows(table)
    assert said(rows) == [
        ("a.png", "a house", "one", 7, {"drafts": 2}),
        ("sub/c.png", "the sea", None, None, None),
    ]
    assert [row.path for row in rows] == [folder / "a.png", folder / "sub/c.png"]
    assert rows.count() == 2


def test_parquet_may_hold_the_pictures_themselves(tmp_path):
    values = [
        {"image": {"bytes": png(), "path": "first.png"}, "text": "a house"},
        {"image": {"bytes": png((0, 0, 9)), "path": None}, "text": "the sea"},
    ]
    pq.write_table(pa.Table.from_pylist(values), tmp_path / "t.parquet")
    rows = list(SourceRows(tmp_path / "t.parquet"))
    assert [row.name for row in rows] == ["first.png", 'Row 2 of "t.parquet"']
    assert [row.read() for row in rows] == [value["image"]["bytes"] for value in values]


def test_bad_lines_are_rows_with_a_sentence_and_the_others_stand(tmp_path):
    lines = [
        b'{"image": "a.png", "seed": "x"}',
        b"{half",
        b'{"prompt": "no picture"}',
        b'{"image": "a.png", "prompt": "\xff"}',
        b'{"image": "a.png", "options": [1]}',
        b'{"image": "a\\u0000.png"}',
        b"[" * 100_000,
        b'{"image": "good.png", "seed": "12"}',
    ]
    (tmp_path / "t.jsonl").write_bytes(b"\n".join(lines))
    rows = list(SourceRows(tmp_path / "t.jsonl"))
    assert [bool(row.error) for row in rows] == [True] * 7 + [False]
    assert all(row.error.startswith(f'Row {number} of "t.jsonl"') for number, row in enumerate(rows[:7], 1))
    assert (rows[7].name, rows[7].seed) == ("good.png", 12)


@pytest.mark.parametrize(
    "options", ['{"tau": NaN}', '{"tau": 1e999}', '{"negative": "\\ud800"}', '{"\\ud800": 1}']
)
def test_options_that_no_record_can_hold_spoil_their_row_alone(tmp_path, options):
    (tmp_path / "t.jsonl").write_text(f'{{"image": "a.png", "options": {options}}}\n{{"image": "b.png"}}\n')
    first, second = SourceRows(tmp_path / "t.jsonl")
    assert "options that are no JSON object" in first.error
    assert first.error.isascii()
    assert not second.error


def test_bytes_and_dates_among_the_options_of_a_parquet_table_spoil_their_row_alone(tmp_path):
    for number, value in enumerate((b"\xff", datetime(2020, 1, 1), float("nan"), 0.5)):
        table = pa.table({"image": ["a.png"], "options": [{"tau": value, "drafts": None}]})
        pq.write_table(table, tmp_path / f"{number}.parquet")
        (row,) = SourceRows(tmp_path / f"{number}.parquet")
        assert ("options that are no JSON object" in row.error) == (value != 0.5)
    assert row.options == {"tau": 0.5}


def test_a_pipe_in_the_place_of_a_picture_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (row,) = SourceRows(tmp_path)
    with pytest.raises(ImageError, match=r'"pipe\.png" is no file'):
        row.read()


def test_a_cell_of_a_csv_table_that_is_no_utf_8_spoils_its_row_alone(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"image,prompt\na.png,caf\xe9\nb.png,caf\xc3\xa9\n")
    first, second = SourceRows(tmp_path / "t.csv")
    assert "UTF-8" in first.error
    assert second.prompt == "café"


def test_a_table_without_pictures_is_refused_at_once(tmp_path):
    (tmp_path / "t.csv").write_text("prompt\nx\n")
    with pytest.raises(OptionError, match='no column "image"'):
        list(SourceRows(tmp_path / "t.csv"))


def test_samples_of_shards_take_prompt_and_more_from_their_namesakes(tmp_path):
    more = json.dumps({"caption": "the sea", "seed": 3, "id": "mine"}).encode()
    shard(
        tmp_path / "0.tar",
        [("x/1.png", png()), ("x/1.txt", b"a house\n"), ("2.json", more), ("2.seg.png", png((9, 9, 9)))],
    )
    shard(tmp_path / "1.tar", [("1.jpg", png()), ("only.txt", b"no picture")])
    rows = SourceRows(tmp_path)
    assert said(rows) == [
        ("0.tar/x/1.png", "a house", None, None, None),
        ("0.tar/2.seg.png", "the sea", "mine", 3, None),
        ("1.tar/1.jpg", None, None, None, None),
    ]
    assert [row.read() for row in rows] == [png(), png((9, 9, 9)), png()]
    assert rows.count() == 3


def test_a_damaged_shard_gives_what_stands_before_the_damage_and_says_so(tmp_path):
    path = shard(tmp_path / "0.tar", [("1.png", png()), ("2.png", png((1, 1, 1)) * 20)])
    path.write_bytes(path.read_bytes()[: 512 + 512 + 512 + 40])
    shard(tmp_path / "1.tar", [("3.png", png())])
    rows = list(SourceRows(tmp_path))
    assert [row.name for row in rows if not row.error] == ["0.tar/1.png", "1.tar/3.png"]
    (broken,) = (row for row in rows if row.error)
    assert "damaged" in broken.error


@pytest.mark.parametrize("content", ["prompt", "[1]", "\xff"])
def test_a_sample_whose_json_is_no_object_is_a_row_with_an_error(tmp_path, content):
    shard(tmp_path / "0.tar", [("1.png", png()), ("1.json", content.encode("latin-1"))])
    (row,) = SourceRows(tmp_path)
    assert "no object" in row.error


def test_what_is_no_input_is_refused(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "empty").mkdir()
    for path, words in (("a.png", "grefine-rt refine"), ("empty", "no picture"), ("gone", "no input")):
        with pytest.raises(OptionError, match=words):
            SourceRows(tmp_path / path)


def test_results_do_not_go_among_the_inputs(folder):
    with pytest.raises(OptionError, match="choose another folder"):
        SourceRows(folder, without=folder / "sub" / "..")
    (folder / "sub").rename(folder / "images")
    with pytest.raises(OptionError, match="choose another folder"):
        SourceRows(folder / "images", without=folder)


def test_an_id_follows_from_name_content_and_what_the_row_says():
    row = Row("a.png", prompt="a house")
    assert id_of(row, b"1") == id_of(Row("a.png", prompt="a house"), b"1")
    others = [(row, b"2"), (Row("b.png", prompt="a house"), b"1"), (Row("a.png", prompt="x"), b"1")]
    others += [(Row("a.png", prompt="a house", seed=1), b"1")]
    others += [(Row("a.png", prompt="a house", options={"drafts": 1}), b"1")]
    assert len({id_of(*other) for other in [(row, b"1"), *others]}) == 6
    assert id_of(Row("a.png", image_id="mine"), b"1") == "mine"


@pytest.mark.parametrize("image_id", ["../../etc/x", "a/b", "", ".hidden", "x" * 300, "näh", "a b", "\ud800"])
def test_no_id_leads_out_of_the_folder_of_results(image_id):
    stem = file_stem(image_id, "a.png")
    assert stem.startswith("id-")
    assert len(stem) == 35
    assert file_stem("plain-1.v2", "a.png") == "plain-1.v2"
