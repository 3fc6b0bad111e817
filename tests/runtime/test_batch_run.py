"""Whole runs on the fake bundle: the bits of single calls, resuming, rows that fail, the report."""

import io
import json
import re
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from grefine_rt import Refiner
from grefine_rt.assess.domain import Domain, Membership
from grefine_rt.batch import records as kept
from grefine_rt.batch.report import render
from grefine_rt.batch.summary import reason_of
from grefine_rt.errors import DeviceError, OptionError
from tests.support import fake_bundle
from tests.support.batch_runs import images, make, pixels, rows_of_a_run, said
from tests.support.fake_bundle import scene


@pytest.fixture
def pictures(tmp_path):
    return make(tmp_path / "in", 6)


@pytest.mark.parametrize("jobs", [1, 3])
def test_every_row_has_the_bits_of_a_call_alone_and_its_place(run, fake, pictures, tmp_path, jobs):
    out = tmp_path / "out"
    done = run("batch", pictures, "-o", out, "--seed", 5, "--jobs", jobs)
    assert (done.exit_code, done.stderr) == (0, "")
    found = list(kept.read(out))
    assert [record["image"] for record in found] == [f"{number:03}.png" for number in range(6)]
    alone = Refiner(fake_bundle.Bundle())
    for record in found:
        result = alone.refine(pictures / record["image"], "a house, the sea", 5)
        np.testing.assert_array_equal(pixels(out / record["output"]), np.asarray(result.image))
        assert record["run"] == result.run
        assert record["perceptual_before"] == result.before.perceptual
        assert record["alignment_after"] == result.after.alignment
        assert (record["status"], record["error"]) == ("refined", "")
        assert record["reasons"] == list(result.plan.reasons)
        assert record["timings_ms"]["total"] == record["total_ms"] > 0
    assert any(record["changed"] for record in found)


def test_parquet_and_jsonl_hold_the_same(run, fake, pictures, tmp_path):
    run("batch", pictures, "-o", tmp_path / "out")
    (path,) = (tmp_path / "out" / "records").glob("*.parquet")
    table = pq.read_table(path).to_pylist()
    found = list(kept.read(tmp_path / "out"))
    assert len(table) == len(found) == 6
    for row, record in zip(table, found, strict=True):
        assert set(row) == set(kept.COLUMNS)
        assert set(record) <= set(kept.COLUMNS)
        for name, kind in kept.COLUMNS.items():
            value = json.loads(row[name]) if kind == "json" and row[name] else row[name]
            assert value == record.get(name), name


@pytest.mark.parametrize("form", ["tar", "parquet"])
def test_pictures_that_come_as_bytes_give_the_same(run, fake, pictures, tmp_path, form):
    files, source = sorted(pictures.glob("*.png")), tmp_path / f"source.{form}"
    if form == "tar":
        with tarfile.open(source, "w") as archive:
            for path in sorted(pictures.iterdir()):
                archive.add(path, path.name)
    else:
        rows = [
            {"image": {"bytes": path.read_bytes(), "path": path.name}, "prompt": "a house, the sea"}
            for path in files
        ]
        pq.write_table(pa.Table.from_pylist(rows), source)
    run("batch", pictures, "-o", tmp_path / "folder")
    done = run("batch", source, "-o", tmp_path / "out", "--report")
    assert (done.exit_code, done.stderr) == (0, "")
    there, here = kept.read(tmp_path / "folder"), kept.read(tmp_path / "out")
    for one, other in zip(there, here, strict=True):
        first, second = tmp_path / "folder" / one["output"], tmp_path / "out" / other["output"]
        np.testing.assert_array_equal(pixels(first), pixels(second))


def test_results_are_found_by_the_names_of_their_pictures(run, fake, pictures, tmp_path):
    picture, prompt = (pictures / "001.png").read_bytes(), "a house"
    for path in pictures.iterdir():
        path.unlink()
    (pictures / "below").mkdir()
    for name in ("a cat.png", "below/a cat.png", f"{'ä' * 100}.png"):
        (pictures / name).write_bytes(picture)
        (pictures / name).with_suffix(".txt").write_text(prompt)
    table = {"image": "a cat.png", "prompt": prompt, "id": "mine"}
    assert run("batch", pictures, "-o", tmp_path / "out").exit_code == 0
    outputs = {record["image"]: record["output"] for record in kept.read(tmp_path / "out")}
    for record in kept.read(tmp_path / "out"):
        stem = {"ä": "ä" * 40}.get(record["image"][0], "a_cat")
        assert record["output"] == f"images/{stem}-{record['image_id']}.png"
        assert (tmp_path / "out" / record["output"]).is_file()
    assert len(set(outputs.values())) == 3
    (pictures / "t.jsonl").write_text(json.dumps(table))
    assert run("batch", pictures / "t.jsonl", "-o", tmp_path / "named").exit_code == 0
    assert [record["output"] for record in kept.read(tmp_path / "named")] == ["images/mine.png"]


def test_a_second_run_does_nothing_twice(run, fake, pictures, tmp_path):
    out = tmp_path / "out"
    run("batch", pictures, "-o", out)
    first, calls = images(out), fake.engines["perceptual"].calls
    stamps = {path: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    Image.fromarray(scene([["house", "poor"]] * 2)).save(pictures / "zzz.png")
    (pictures / "zzz.txt").write_text("a house")
    done = run("batch", pictures, "-o", out, "--json")
    counts = json.loads(done.stdout)
    assert (counts["rows"], counts["done_before"], counts["failed"]) == (7, 6, 0)
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert first.items() <= images(out).items()
    assert 0 < fake.engines["perceptual"].calls - calls < calls
    assert len({record["image_id"] for record in kept.read(out)}) == len(said(out)) == 7


def test_a_result_that_was_deleted_is_made_again(run, fake, pictures, tmp_path):
    out = tmp_path / "out"
    run("batch", pictures, "-o", out)
    first = images(out)
    next((out / "images").iterdir()).unlink()
    assert run("batch", pictures, "-o", out).exit_code == 0
    assert images(out) == first
    assert len(said(out)) == 6


def test_other_options_or_another_bundle_need_another_folder(run, fake, pictures, tmp_path):
    run("batch", pictures, "-o", tmp_path / "out")
    differing = {
        ("--seed", 1): "seed",
        ("--drafts", 2): "options",
        ("--assess-only",): "mode, seed, encoding",
        ("--format", "webp"): "encoding",
    }
    for more, words in differing.items():
        done = run("batch", pictures, "-o", tmp_path / "out", *more)
        assert done.exit_code == 2
        assert f"holds the results of another run, which differs in: {words}." in done.stderr
    assert len(said(tmp_path / "out")) == 6


def test_what_cannot_be_done_is_a_row_and_the_rest_goes_on(run, fake, pictures, tmp_path):
    (pictures / "001.png").write_bytes((pictures / "001.png").read_bytes()[:90])
    (pictures / "002.txt").unlink()
    (pictures / "003.txt").write_text(" ")
    (pictures / "004.png").write_bytes(b"")
    out = tmp_path / "out"
    done = run("batch", pictures, "-o", out, "--report")
    assert done.exit_code == 1
    found = list(kept.read(out))
    assert done.stderr.splitlines() == [
        *(f"error: {record['image']}: {record['error']}" for record in found[1:5]),
        "error: 4 of 6 rows failed: their records say why",
    ]
    assert [record["status"] for record in found] == ["refined", *["failed"] * 4, "refined"]
    for record in found[1:5]:
        assert record["error"].endswith(".")
        assert "output" not in record
    assert [record["error_kind"] for record in found[1:5]] == [
        "ImageError",
        "OptionError",
        "PromptError",
        "ImageError",
    ]
    assert found[1]["error"].startswith('The file "001.png"')
    assert found[4]["error"] == 'The file "004.png" is empty; it holds no image.'
    page = (out / "report.html").read_text("utf-8")
    assert "Failed: 4" in page
    assert run("batch", pictures, "-o", out).exit_code == 1  # they are still not done

    (pictures / "003.txt").write_text("a house")
    again = json.loads(run("batch", pictures, "-o", out, "--retry-failed", "--json").stdout)
    assert (again["rows"], again["done_before"], again["failed"]) == (6, 2, 3)
    assert len({record["image_id"] for record in kept.read(out)}) == len(said(out)) == 6


def test_a_picture_outside_the_domain_is_a_row_with_its_scores(run, fake, pictures, tmp_path, monkeypatch):
    where = Membership("fake", False, 9.0, 2.0)
    monkeypatch.setattr(Domain, "membership", lambda self, *arguments: where)
    out = tmp_path / "out"
    assert run("batch", pictures, "-o", out).exit_code == 1
    for record in kept.read(out):
        assert (record["status"], record["error_kind"]) == ("failed", "DomainError")
        assert record["domain"]["distance"] == 9.0
        assert 0 <= record["perceptual_before"] <= 1
    assert not images(out)
    needs = json.loads(run("batch", pictures, "--dry-run", "--json").stdout)
    assert (needs["failed"], needs["assessed"]) == (6, 0)
    done = run("batch", pictures, "-o", tmp_path / "all", "--outside", "refine")
    assert (done.exit_code, len(images(tmp_path / "all"))) == (0, 6)


def test_an_error_nobody_foresaw_costs_one_row(run, fake, pictures, tmp_path):
    work = fake.engines["restore_step"]._function
    calls = []

    def fails_once(**arrays):
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("oops")
        return work(**arrays)

    fake.engines["restore_step"]._function = fails_once
    assert run("batch", pictures, "-o", tmp_path / "out", "--jobs", 1).exit_code == 1
    failed = [record for record in kept.read(tmp_path / "out") if record["status"] == "failed"]
    assert [record["error"] for record in failed] == ["Unexpected ZeroDivisionError: oops"]


def test_rows_set_seed_and_options_of_their_own_and_repeated_ids_are_told(run, fake, pictures, tmp_path):
    rows = [
        {"image": "000.png", "prompt": "a house", "id": "x", "seed": 2**70},
        {"image": "000.png", "prompt": "a house", "id": "y", "options": {"stages": [2]}},
        {"image": "000.png", "prompt": "a house", "id": "x"},
        {"image": "000.png", "prompt": "a house", "id": "z", "options": {"nothing": 1}},
        {"image": "000.png", "prompt": "a house", "id": "w", "options": {"drafts": -1}},
        {"image": "000.png", "prompt": "a house"},
        {"image": "000.png", "prompt": "a house"},
    ]
    table = pictures / "t.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "out"
    for _ in range(2):
        assert run("batch", table, "-o", out).exit_code == 1
        found = list(kept.read(out))
        ids = [record["image_id"] for record in found]
        assert ids[:5] == ["x", "y", "x~2", "z", "w"]
        assert ids[6] == f"{ids[5]}~2"
        assert [record["status"] == "failed" for record in found] == [0, 0, 1, 1, 1, 0, 1]
    assert found[0]["seed"] == str(2**70)
    assert not found[1]["regenerate"]
    assert "stands twice" in found[2]["error"]
    assert "no option 'nothing'" in found[3]["error"]


def test_assess_only_gives_the_scores_of_single_calls_and_no_pictures(run, fake, pictures, tmp_path):
    out = tmp_path / "out"
    assert run("batch", pictures, "-o", out, "--assess-only").exit_code == 0
    alone = Refiner(fake_bundle.Bundle())
    for record in kept.read(out):
        found = alone.assess(pictures / record["image"], "a house, the sea")
        assert record["status"] == "assessed"
        assert record["perceptual_before"] == found.perceptual
        assert record["alignment_before"] == found.alignment
    assert not images(out)
    assert not fake.engines["inpaint_step"].calls


def test_rows_assessed_together_give_what_they_give_alone(run, fake, pictures, tmp_path):
    (pictures / "001.png").write_bytes(b"rubbish")
    (pictures / "002.txt").write_text("")
    run("batch", pictures, "-o", tmp_path / "one", "--assess-only")
    calls = fake.engines["perceptual"].calls
    run("batch", pictures, "-o", tmp_path / "four", "--assess-only", "--batch", 4)
    assert said(tmp_path / "four") == said(tmp_path / "one")
    assert [record["status"] for record in said(tmp_path / "one")].count("assessed") == 4
    assert fake.engines["perceptual"].calls - calls < calls


def test_a_dry_run_writes_nothing_and_counts_what_is_needed(run, fake, pictures, tmp_path):
    (pictures / "005.png").write_bytes(b"no picture")
    done = run("batch", pictures, "-o", tmp_path / "out", "--dry-run", "--json")
    needs = json.loads(done.stdout)
    assert done.exit_code == 1
    assert needs["failed"] == 1
    assert needs["assessed"] == needs["stage1"] + needs["stage2"] + needs["both"] + needs["nothing"] == 5
    assert not (tmp_path / "out").exists()


def test_parts_are_made_of_rows_in_order_and_read_back(tmp_path):
    run, out = {"bundle": "x"}, tmp_path / "out"
    record = {"status": "refined", "error": "", "image": "x", "output": "x"}
    with kept.opened(out, run, partition=3) as records:
        for number in range(7):
            records.add({**record, "image_id": str(number)})
    assert [row["image_id"] for row in kept.read(out)] == [str(number) for number in range(7)]
    parts = sorted(path.name for path in (out / "records").glob("part*"))
    assert parts == [f"part-0000{number}.{kind}" for number in (0, 1) for kind in ("jsonl", "parquet")]
    # A part that a kill left open.
    with kept.opened(tmp_path / "five", run, partition=9) as records:
        for number in range(5):
            records.add({**record, "image_id": str(number)})
    with kept.opened(tmp_path / "five", run, partition=5) as records:
        assert (tmp_path / "five" / "records" / "part-00000.jsonl").is_file()
    # A line that a kill cut off, a journal that was not emptied after its part, a part without its Parquet file.
    journal = out / "records" / "open.jsonl"
    journal.write_bytes((out / "records" / "part-00001.jsonl").read_bytes() + journal.read_bytes() + b'{"ima')
    (out / "records" / "part-00000.parquet").unlink()
    with kept.opened(out, run, partition=3) as records:
        assert [row["image_id"] for row in records] == [str(number) for number in range(7)]
        assert records.complete()
    assert (out / "records" / "part-00000.parquet").is_file()


def test_what_others_put_into_the_folder_of_a_run_is_told_or_left_alone(tmp_path):
    run, out = {"bundle": "x"}, tmp_path / "out"
    record = {"image_id": "1", "status": "refined", "image": "\ud800", "notes": ["\udcff is grey."]}
    with kept.opened(out, run) as records:
        (out / "records" / "part-copy.jsonl").write_text("{}")
        records.add(record)
        records.close_part()
    assert [row["image_id"] for row in kept.read(out)] == ["1"]
    assert pq.read_table(out / "records" / "part-00000.parquet").column("notes").to_pylist() == [
        ["\N{REPLACEMENT CHARACTER} is grey."]
    ]
    with kept.opened(out, run) as records:
        assert [*records] == [record]
    for text in ("[]", "5", "null", "{"):
        (out / "run.json").write_text(text)
        with pytest.raises(OptionError, match="is no file of this command"), kept.opened(out, run):
            pass


def test_two_processes_do_not_share_a_folder(tmp_path):
    with (
        kept.opened(tmp_path / "out", {}),
        pytest.raises(Exception, match="Another process"),
        kept.opened(tmp_path / "out", {}),
    ):
        pass


def test_the_report_of_ten_thousand_rows_is_small_and_escapes_what_users_wrote(tmp_path):
    rows = rows_of_a_run(10_000)
    page = render(rows, tmp_path, tmp_path)
    assert len(page) < 200_000
    assert "<script" not in page
    assert "<i>" not in page
    assert "<b>" not in page
    assert "10,000 pictures" in page
    assert "Failed: 1,000" in page
    best = max(
        (row for row in rows if row["status"] == "refined"),
        key=lambda row: (
            row["perceptual_after"]
            + row["alignment_after"]
            - row["perceptual_before"]
            - row["alignment_before"]
        ),
    )
    assert page.index("Improved most") < page.index(f"&lt;i&gt;{best['image_id']}&lt;/i&gt;")
    assert reason_of('The file "a 1.png" has 3 pages of 4.5.') == 'The file "…" has N pages of N.'


def test_progress_tells_rows_rate_and_time_left(monkeypatch):
    from grefine_rt.cli.batch import _progress

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    class Rows:
        def count(self):
            return 10

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with _progress(Rows()) as on_row:
        for _ in range(4):
            time.sleep(0.2)
            on_row()
        time.sleep(0.2)  # it is drawn ten times a second
    said = terminal.getvalue()
    assert "4/10" in said
    rates = [float(rate) for rate in re.findall(r"(\d+\.\d\d)/s", said)]
    assert rates
    assert 0.5 < rates[-1] < 5.1
    assert re.search(r"0:00:\d\d", said)

    monkeypatch.setattr(sys, "stderr", quiet := io.StringIO())
    with _progress(Rows()) as on_row:
        on_row()
    assert quiet.getvalue() == ""


def test_a_device_that_is_lost_stops_the_run(run, fake, tmp_path):
    pictures = make(tmp_path / "in", 20)

    def lost(**arrays):
        raise DeviceError("The GPU is gone.")

    fake.engines["perceptual"]._function = lost
    done = run("batch", pictures, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "5 rows in a row failed by the device" in done.stderr
    assert len(said(tmp_path / "out")) < 6


def test_without_pyarrow_records_are_jsonl_alone_and_come_later(run, fake, pictures, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        patch.setattr(kept, "find_spec", lambda name: None)
        done = run("batch", pictures, "-o", out)
        assert (done.exit_code, "pyarrow is not installed" in done.stderr) == (0, True)
        (pictures / "t.parquet").write_bytes(b"")
        assert "pip install '.[batch]'" in run("batch", pictures / "t.parquet", "-o", out).stderr
    assert not list(out.glob("records/*.parquet"))
    (pictures / "t.parquet").unlink()
    run("batch", pictures, "-o", out)
    assert pq.read_metadata(out / "records" / "part-00000.parquet").num_rows == 6


def test_the_embedded_bundle_gives_the_bits_of_single_calls_side_by_side(run, mini, tmp_path):
    pictures = tmp_path / "in"
    pictures.mkdir()
    examples = Path(__file__).parents[2] / "examples"
    for name in ("wrong_colour", "clean"):
        for suffix in (".png", ".txt"):
            (pictures / (name + suffix)).write_bytes((examples / (name + suffix)).read_bytes())
    out = tmp_path / "out"
    done = run("batch", pictures, "-o", out, "--threads", 1, "--jobs", 2, "--stage1-steps", 4)
    assert done.exit_code == 0, done.stderr
    from grefine_rt import PlanOptions, RefineOptions

    options = RefineOptions(plan=PlanOptions(stage1_steps=4))
    with Refiner.load(mini, "cpu", threads=1) as alone:
        for record in kept.read(out):
            path = pictures / record["image"]
            result = alone.refine(path, path.with_suffix(".txt").read_text(), 0, options)
            np.testing.assert_array_equal(pixels(out / record["output"]), np.asarray(result.image))
            assert record["perceptual_after"] == result.after.perceptual
