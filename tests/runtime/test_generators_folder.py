"""A folder with one picture of each generator, its metadata in the published layout, through the commands."""

import json

import pytest

from grefine_rt.batch import records
from grefine_rt.imaging.image import load
from tests.support import generator_files as made

ALL = made.FILES | made.HIDDEN


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, data in ALL.items():
        (folder / name).write_bytes(data())
    return folder


def told(line):
    return line["prompt"], line["negative"]


def test_refine_reads_the_prompt_of_each_and_keeps_its_format(run, fake, folder, tmp_path):
    files = sorted(folder.iterdir())
    done = run("refine", *files, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.stderr
    lines = {line["input"]: line for line in map(json.loads, done.stdout.splitlines())}
    for file in files:
        line = lines[str(file)]
        negative = made.NEGATIVE if "described" not in file.name else ""
        assert (line["prompt"], line.get("negative", "")) == (made.PROMPT, negative), file.name
        assert line["prompt_source"].startswith(("PNG text", "EXIF", "XMP", "text hidden")), file.name
        assert load(tmp_path / "out" / file.name).metadata.format == load(file).metadata.format


def test_assess_reads_the_prompt_of_each(run, fake, folder):
    for file in sorted(folder.iterdir()):
        done = run("assess", file, "--json")
        assert done.exit_code == 0, done.stderr
        assert json.loads(done.stdout)["prompt"] == made.PROMPT, file.name


def test_batch_reads_the_prompt_of_each(run, fake, folder, tmp_path):
    done = run("batch", folder, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    found = {row["image"]: row for row in records.read(tmp_path / "out")}
    assert len(found) == len(ALL)
    for name in ALL:
        row = next(row for image, row in found.items() if image.endswith(name))
        assert (row["status"], row["prompt"]) == ("refined", made.PROMPT), name
