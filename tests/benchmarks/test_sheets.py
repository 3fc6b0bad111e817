"""Pictures for people: what is on them, and what the command writes and refuses."""

import numpy as np
import pytest
from PIL import Image

from benchmarks import sheets
from grefine_rt import Refiner
from tests.support import fake_bundle
from tests.support.paths import ROOT

EXAMPLE = ROOT / "examples" / "broken_shape.png"


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(sheets.Refiner, "load", lambda *_: Refiner(fake_bundle.Bundle()))  # type: ignore[attr-defined]


def test_a_row_shows_the_picture_its_maps_and_the_result():
    image = Image.open(EXAMPLE)
    result = Refiner(fake_bundle.Bundle()).refine(image, EXAMPLE.with_suffix(".txt").read_text().strip())
    row = sheets.panels(image, result)
    captions = [caption for caption, _ in row]
    assert (captions[0], captions[-1]) == ("before", "after")
    assert row[0][1] is image
    assert row[-1][1] is result.image
    assert ("drawn anew" in captions) == result.plan.regenerate
    sheet = sheets.row_of(row)
    assert sheet.size == (len(row) * (sheets.SIDE + sheets.GAP) - sheets.GAP, sheets.SIDE + sheets.LINE)
    shown = np.asarray(sheet)[sheets.LINE :, : sheets.SIDE]
    enlarged = image.convert("RGB").resize((sheets.SIDE,) * 2, Image.Resampling.NEAREST)
    np.testing.assert_array_equal(shown, np.asarray(enlarged))


def test_only_the_edge_of_a_mask_is_drawn():
    mask = np.zeros((32, 32), bool)
    mask[8:20, 10:24] = True
    drawn = np.asarray(sheets.outlined(Image.new("RGB", (32, 32)), mask)).any(axis=2)
    assert drawn[8, 10:24].all()
    assert drawn[8:20, 23].all()
    assert not drawn[9:19, 11:23].any()
    assert not drawn[~mask].any()


def test_samples_are_chosen_by_number_and_laid_out_in_two_columns(fake, tmp_path):
    assert sheets.main(["--heldout", "3", str(tmp_path / "sheet.webp")]) == 0
    with Image.open(tmp_path / "sheet.webp") as sheet:
        row = 3 * (sheets.SIDE + sheets.GAP) - sheets.GAP
        assert sheet.format == "WEBP"
        assert sheet.size == (2 * row + sheets.GAP, 2 * (sheets.SIDE + sheets.LINE) + sheets.GAP)


def test_the_example_is_written_as_png_and_rubbish_is_one_sentence(fake, tmp_path, capsys):
    assert sheets.main(["--example", str(EXAMPLE), str(tmp_path / "row.png")]) == 0
    with Image.open(tmp_path / "row.png") as row:
        assert row.format == "PNG"
    assert sheets.main(["--example", str(tmp_path / "none.png"), str(tmp_path / "row.png")]) == 1
    assert capsys.readouterr().err.startswith("Error: ")
    for wrong in (["--heldout", "0", "a.png"], ["--heldout", "2", "a.gif"], ["a.png"]):
        with pytest.raises(SystemExit):
            sheets.main(wrong)
