"""Intervals of guidance compared, on the runtime's stand-in for a bundle."""

import json

import pytest

from benchmarks import guidance
from grefine_export.mini import heldout
from tests.support.priced_refiner import priced_refiner


def test_the_command_compares_every_interval_with_guidance_throughout(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(guidance, "opened", lambda options: (priced_refiner(), [*heldout.samples(3)]))
    file = tmp_path / "guidance.json"
    assert guidance.main(["--json", str(file)]) == 0
    rows = json.loads(file.read_text())["intervals"]
    assert [*rows] == ["throughout", "0 to 0.6", "0 to 0.3", "0.2 to 0.8"]
    assert [row["guided"] for row in rows.values()] == [1, 0.6, 0.3, 0.6]
    cost = {name: row["tflop"] for name, row in rows.items()}
    assert cost["0 to 0.3"] < cost["0 to 0.6"] < cost["throughout"]
    for row in rows.values():
        assert set(guidance.SHOWN) <= row["figures"].keys()
    assert all(cell["change"] in (0, None) for cell in rows["throughout"]["figures"].values())
    printed = capsys.readouterr().out
    for name in rows:
        assert f"| {name} " in printed


def test_an_interval_s_share_is_that_of_the_calls_it_guides():
    assert guidance.share((0.0, 1.0)) == 1
    assert guidance.share((0.2, 0.8)) == pytest.approx(0.6)


def test_a_bundle_that_is_not_there_is_one_sentence(tmp_path, capsys):
    assert guidance.main(["--bundle", str(tmp_path / "none"), "--limit", "1"]) == 1
    assert capsys.readouterr().err.startswith("Error: ")
