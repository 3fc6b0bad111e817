"""One class and one manifest entry make a metric: it is then in the scores, JSON, tables, report, CSV and warm-up."""

import csv
import json
from typing import ClassVar

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from grefine_rt import Assessor, BundleError
from grefine_rt.assess.scorers import base
from grefine_rt.assess.scorers.base import Scale, Score
from grefine_rt.bundle.store import write
from grefine_rt.cli import app
from grefine_rt.engine.batch import run_rows
from grefine_rt.engine.tensorrt.profiles import profiles
from grefine_rt.imaging.image import encoder_input
from grefine_rt.plan.graph_costs import assess_flops
from tests.support import assess_bundle as small
from tests.support import tiny

SIDE = 16


class Darkness:
    """A toy metric of two scores, from a graph of its own: how dark a picture is, of 100, and its share of red."""

    scales: ClassVar = {
        "level": Scale("how dark the picture is", 0, 100, higher_is_better=False),
        "red": Scale("how much of its light is red"),
    }

    def __init__(self, bundle, entry, remembered):
        self.bundle, self.white = bundle, entry.settings["white"]

    def score(self, batch):
        images = np.concatenate([encoder_input(rgb, SIDE) for rgb in batch.pictures])
        found = run_rows(self.bundle.engine("darkness"), {"image": images}, ["light"])["light"]
        return [{"level": 100 * (1 - row.mean() / self.white), "red": row[0] / row.sum()} for row in found]


ENTRY = {
    "components": {"darkness": "components/darkness.onnx"},
    "settings": {"resolution": SIDE, "white": 1.0},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = small.save(tmp_path_factory.mktemp("bundles") / "small")
    graph = tiny.model(
        f"g (float[b,3,{SIDE},{SIDE}] image) => (float[b,3] light) {{"
        " sides = Constant<value_ints=[2,3]>() light = ReduceMean<keepdims=0>(image, sides) }",
        {},
    )
    onnx.save(graph, folder / "components" / "darkness.onnx")
    data = json.loads((folder / "bundle.json").read_text())
    data["scorers"]["darkness"] = ENTRY
    write(folder, data)
    base.register("darkness", Darkness)
    yield folder
    base._REGISTERED.pop("darkness")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "red.png"
    Image.fromarray(np.full((40, 60, 3), (204, 51, 0), np.uint8)).save(path)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_scores_have_the_metric_with_its_scale(folder, picture):
    with Assessor.load(folder, "cpu", 1) as assessor:
        found = assessor.assess(picture, "a red house").scores
        assert list(assessor.scales) == list(found)
    names = [
        "perceptual",
        "alignment",
        "ip_iqa_quality",
        "ip_iqa_alignment",
        "darkness_level",
        "darkness_red",
    ]
    assert list(found) == names
    level, red = found["darkness_level"], found["darkness_red"]
    assert (level.value, red.value) == (pytest.approx(66.667, abs=1e-3), pytest.approx(0.8, abs=1e-5))
    assert (str(level), str(red)) == ("66.67 of 100, lower is better", "0.800 of 1")
    assert (level.title, level.share) == ("darkness level", pytest.approx(1 / 3, abs=1e-4))


def test_json_table_maps_and_report_follow(folder, picture, tmp_path):
    asked = ("assess", picture, "-p", "a red house", "--bundle", folder, "--device", "cpu")
    report = tmp_path / "report.html"
    found = run(*asked, "--json", "--report", report)
    assert found.exit_code == 0, found.output
    before = json.loads(found.stdout)["before"]
    assert before["darkness"] == {
        "level": pytest.approx(66.667, abs=1e-3),
        "red": pytest.approx(0.8, abs=1e-5),
    }
    assert before["scores"]["darkness_level"] == {
        "value": before["darkness"]["level"],
        "scale": [0, 100],
        "higher_is_better": False,
        "measures": "how dark the picture is",
    }
    page = report.read_text("utf-8")
    assert all(
        text in page
        for text in ("Darkness level", "66.67", "of 100, lower is better", "how dark the picture")
    )
    shown = run(*asked)
    assert "66.67 of 100, lower is better" in shown.stdout
    assert "darkness\n  resolution: 16\n  white: 1.0" in run("bundle", "show", folder).stdout


def test_csv_of_a_database_has_its_columns(folder, tmp_path):
    header = [
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
    reds = (250, 120, 40)
    lines = [header, *([f"{red}.png", "a red house", "", "", "", red / 50, 0, red / 60, 0] for red in reds)]
    for red in reds:
        Image.fromarray(np.full((20, 20, 3), (red, 0, 0), np.uint8)).save(tmp_path / f"{red}.png")
    with (tmp_path / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    asked = (
        "evaluate",
        "--dataset",
        "agiqa-3k",
        "--root",
        tmp_path,
        "--bundle",
        folder,
        "--device",
        "cpu",
        "--json",
    )
    table = tmp_path / "scores.csv"
    for _ in range(2):  # the second time every row is read from the table
        found = run(*asked, "--csv", table)
        assert found.exit_code == 0, found.output
        agreement = {(row["score"], row["opinion"]): row for row in json.loads(found.stdout)["agreement"]}
        assert agreement["darkness_level", "quality"]["srcc"] == pytest.approx(-1)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["darkness_level"]) for row in rows] == pytest.approx(
        [100 * (1 - red / 765) for red in reds], abs=1e-3
    )


def test_warm_up_engines_and_costs_follow(folder):
    with Assessor.load(folder, "cpu", 1) as assessor:
        assessor.warm_up()
        bundle = assessor.bundle
        assert "darkness" in {choice.component for choice in bundle.choices}
    (profile,) = profiles(bundle.manifest, "components/darkness.onnx")
    assert profile["H"] == (SIDE, SIDE, SIDE)
    assert assess_flops(bundle.manifest, 3) is None  # nothing was counted


def test_a_metric_that_nobody_knows_is_refused(folder):
    maker = base._REGISTERED.pop("darkness")
    try:
        with pytest.raises(
            BundleError, match="has the metric 'darkness', which this version of grefine-rt does not"
        ):
            Assessor.load(folder, "cpu", 1)
    finally:
        base.register("darkness", maker)


def test_scales_say_what_a_value_means():
    reward = Scale("preference", -2.5, 2.5)
    assert Score(0.3, reward, "image_reward").title == "image reward"
    assert (reward.shown(0.3), reward.share(-9), reward.share(9)) == ("0.30 (-2.5 to 2.5)", 0.0, 1.0)
    assert Scale("x", 0, 5).shown(4.1) == "4.10 of 5"
    assert Scale("x", 1, 5, higher_is_better=False).share(2.0) == pytest.approx(0.75)
