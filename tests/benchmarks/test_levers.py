import dataclasses
import functools
import io
import json

import pytest
from rich.console import Console

from benchmarks import levers
from benchmarks.judge import Judge
from benchmarks.outcomes import Outcome, Repair, Seen
from grefine_export.mini import heldout
from grefine_rt import BundleError
from tests.support.priced_refiner import priced_refiner


@functools.cache
def some():
    return list(heldout.samples(5))


@pytest.fixture(scope="module")
def results():
    return levers.measure(priced_refiner(), Judge.load(), some(), 0, levers.levers((0.0, 0.5), 4, 2))


def test_every_lever_has_its_costs_and_every_figure(results):
    rows = results["levers"]
    assert list(rows) == [
        "full computation",
        "skip",
        "skip, crops",
        "skip, 4 steps",
        "skip, interval",
        "skip, fewer drafts",
        "skip, sketches of 2 steps",
        "all levers",
        "default",
    ]
    assert rows["full computation"]["share"] == 1
    full = rows["full computation"]["tflop"]
    assert full > 0
    for row in rows.values():
        assert row["share"] == pytest.approx(row["tflop"] / full)
        assert set(row["figures"]) == set(levers.COMPARED)
    for lever in ("skip, 4 steps", "skip, interval", "skip, fewer drafts", "skip, sketches of 2 steps"):
        assert rows["all levers"]["tflop"] <= rows[lever]["tflop"] <= rows["skip"]["tflop"] <= full
    assert rows["skip, interval"]["tflop"] < rows["skip"]["tflop"]
    json.dumps(results, allow_nan=False)


def test_the_reference_loses_nothing_against_itself(results):
    for name in ("full computation", "skip"):
        assert all(cell["change"] in (0, None) for cell in results["levers"][name]["figures"].values())
        assert results["levers"][name]["worst"]["change"] == 0


def test_the_default_is_what_the_bundle_does_unasked(results):
    rows, default = results["levers"], results["levers"]["default"]
    # The stand-in's manifest guides every call of 4 steps and names no crops.
    options = levers.levers((0.0, 1.0), 4, 0)["skip, fewer drafts"]
    plain = dataclasses.replace(options, stage1_steps=4)
    pulled = [levers.pull(priced_refiner(), Judge.load(), one, {"": plain}, one.number)[""] for one in some()]
    assert default["tflop"] == pytest.approx(sum(one.tflop for one in pulled) / len(pulled))
    assert default["tflop"] < rows["skip, fewer drafts"]["tflop"]
    assert results["passed"]["share"] == (default["share"] <= 0.4)
    assert results["passed"]["loss"] == (default["worst"]["change"] >= -0.02)


def test_the_default_alone_has_the_same_figures(results):
    pulled = levers.levers((0.0, 0.5), 4, 2)
    two = {name: pulled[name] for name in (levers.REFERENCE, levers.DEFAULT)}
    alone = levers.measure(priced_refiner(), Judge.load(), some(), 0, two)
    assert list(alone["levers"]) == ["full computation", "skip", "default"]
    for name, row in alone["levers"].items():
        assert row | {"seconds": 0} == results["levers"][name] | {"seconds": 0}


def test_the_command_measures_the_default_alone(monkeypatch, tmp_path):
    monkeypatch.setattr(levers, "opened", lambda options: (priced_refiner(), some()))
    file = tmp_path / "levers.json"
    assert levers.main(["--default-only", "--steps", "3", "--json", str(file)]) == 0
    written = json.loads(file.read_text())
    assert list(written["levers"]) == ["full computation", "skip", "default"]
    assert (written["steps"], written["sketch_steps"], written["interval"]) == (3, 4, [0.0, 0.45])


def test_a_loss_is_relative_and_named():
    repair = Repair(0.5, 0.5, 40.0, None, None, None, 0, 0, None, 1.0)

    def outcome(number, p):
        return Outcome(
            number, "clean", "", None, 5.0, Seen(p, 0.5, None, None, None), redraws=False, repair=repair
        )

    key = "clean_skip_rate"
    kept = [outcome(number, 0.5) for number in range(4)]
    lost = [dataclasses.replace(one, redraws=one.number == 0) for one in kept]
    assert levers._change(key, [*zip(lost, kept, strict=True)]) == pytest.approx(-0.25)
    assert levers._change(key, [*zip(kept, lost, strict=True)]) == pytest.approx(1 / 3)
    assert levers._change("refine_rmse_reduction", [*zip(kept, kept, strict=True)]) is None
    pulled = [levers.Pulled(one, 1.0, 2.0) for one in lost]
    reference = [levers.Pulled(one, 2.0, 2.0) for one in kept]
    row = levers._row(pulled, reference, 2.0)
    assert row["share"] == 0.5
    assert row["worst"]["figure"] == key
    assert row["worst"]["error"] == pytest.approx(0.22, abs=0.05)


def test_the_table_shows_every_lever_and_the_verdict(results):
    out = io.StringIO()
    levers.show(results, Console(file=out, width=300))
    text = out.getvalue()
    for name in results["levers"]:
        assert f"| {name} " in text
    assert "40% of the full computation" in text


def test_a_bundle_without_costs_is_one_sentence():
    redrawn = next(sample for sample in some() if sample.category == "alignment")
    with pytest.raises(BundleError, match="add_costs"):
        levers.pull(priced_refiner(costs=False), Judge.load(), redrawn, levers.levers((0.0, 0.5), 4, 2), 0)
