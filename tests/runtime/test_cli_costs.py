"""What `grefine-rt refine` says of plan and costs."""

import dataclasses
import json

import pytest
from PIL import Image

from grefine_rt.bundle.manifest import Cost
from grefine_rt.bundle.store import write
from grefine_rt.plan.graph_costs import ARENA
from grefine_rt.plan.options import MAX_DRAFTS
from tests.support import tiny
from tests.support.fake_bundle import scene

POOR = [*[["sea"] * 8] * 3, ["sea", "poor", *["sea"] * 6], *[["sea"] * 8] * 4]
TFLOP = {"stage1", "stage2", "assess", "full", "total", "alternatives"}


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "scene.png"
    Image.fromarray(scene(POOR)).save(path)
    return path


@pytest.fixture
def counted(fake):
    """The fake bundle, whose graphs cost 1 GFLOP a latent cell."""
    cost = Cost((0.0, 1e9, 0.0), (0.0, 0.0, 0.0))
    fake.manifest = dataclasses.replace(
        fake.manifest,
        components={name: name for name in fake.engines},
        costs=dict.fromkeys(fake.engines, cost),
    )
    return fake


def test_the_plan_alone_is_said_and_nothing_is_drawn_or_written(run, counted, picture):
    done = run("refine", picture, "-p", "the sea", "--plan-only")
    assert done.exit_code == 0, done.stderr
    for expected in ("perceptual quality", "- The region", "TFLOP", "of the full computation"):
        assert expected in done.stdout
    assert counted.engines["inpaint_step"].calls == counted.engines["restore_step"].calls == 0
    assert [path.name for path in picture.parent.iterdir()] == ["scene.png"]


def test_the_plan_alone_as_json_is_that_of_the_run(run, counted, picture):
    plan, made = (
        json.loads(run("refine", picture, "-p", "the sea", "--json", *more).stdout)
        for more in (["--plan-only"], [])
    )
    assert set(made) - set(plan) == {"output", "seed", "after", "summary", "timings_ms"}
    assert plan["plan"] == made["plan"]
    assert plan["before"] == made["before"]
    assert set(plan["plan"]["tflop"]) == TFLOP
    tflop = plan["plan"]["tflop"]
    assert tflop["total"] == pytest.approx(tflop["stage1"] + tflop["stage2"] + tflop["assess"])
    assert 0 < tflop["total"] <= tflop["full"] * (1 + 1e-9)


def test_levers_of_the_command_lower_the_costs(run, counted, picture):
    def plan(*more):
        done = run("refine", picture, "-p", "the sea", "--plan-only", "--json", *more)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)["plan"]

    whole = plan()
    assert "crops" not in whole
    cropped = plan("--crop", "auto")
    assert [crop["size"] for crop in cropped["crops"]] == [[80, 80]]
    assert all(len(crop["box"]) == 4 for crop in cropped["crops"])
    assert cropped["tflop"]["stage1"] == pytest.approx((80 / 128) ** 2 * whole["tflop"]["stage1"], rel=0.01)
    assert plan("--interval", 0, 0.3)["tflop"]["stage1"] < whole["tflop"]["stage1"]
    assert (
        2 * whole["tflop"]["stage1"] < plan("--drafts", 3)["tflop"]["stage1"] < 3 * whole["tflop"]["stage1"]
    )


def test_what_other_options_would_cost_is_what_they_cost(run, counted, picture):
    def tflop(*more):
        done = run("refine", picture, "-p", "the sea", "--plan-only", "--json", "--drafts", 3, *more)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)["plan"]["tflop"]

    told = tflop("--interval", 0, 0.3)["alternatives"]
    assert told.keys() == {"crop auto", "drafts 1", "interval 0 1"}, "nothing is sketched, and it is small"
    assert told["crop auto"] == pytest.approx(tflop("--interval", 0, 0.3, "--crop", "auto")["total"])
    assert told["interval 0 1"] == pytest.approx(tflop()["total"])
    assert told["drafts 1"] == pytest.approx(tflop("--interval", 0, 0.3, "--drafts", 1)["total"])
    text = run("refine", picture, "-p", "the sea", "--plan-only", "--drafts", 3).stdout
    assert f"  --drafts 1 makes it {tflop('--drafts', 1)['total']:.3g} TFLOP" in text


def test_a_plain_decoding_costs_one_decoding_less(run, counted, picture):
    def stage2(*more):
        done = run("refine", picture, "-p", "the sea", "--json", "--force", *more)
        assert done.exit_code == 0, done.stderr
        return json.loads(done.stdout)["plan"]["tflop"]["stage2"]

    restore = counted.manifest.restore
    decode = 1e9 * (restore.resolution // 8) ** 2 / 1e12
    assert stage2("--reading", "decoding=difference") - stage2(
        "--reading", "decoding=plain"
    ) == pytest.approx(decode)


def test_memory_by_component_and_bucket(run, tmp_path):
    cells = tiny.manifest()["inpaint"]["resolution"] // 8
    side = 8 * cells
    data = tiny.manifest()
    cost = {"flops": (0.0, 0.0, 0.0), "memory": (0.0, 1e6, 0.0)}
    folder = tiny.save(tmp_path / "b")
    size = (folder / "components" / "inpaint_encode.onnx").stat().st_size
    write(folder, {**data, "costs": dict.fromkeys(data["components"].values(), cost)})
    done = run("bundle", "memory", folder, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    entries = told["buckets"][str(side)]
    of = {name: entry for entry in entries for name in entry["components"]}
    assert of.keys() == data["components"].keys()
    assert of["inpaint_encode"]["weights"] == 2 * size
    assert of["inpaint_encode"]["activations"] == pytest.approx(ARENA * 1e6 * cells**2)
    assert told["total"][str(side)] == sum(entry["weights"] + entry["activations"] for entry in entries)
    assert told["largest"] is not None
    on_gpu = json.loads(run("bundle", "memory", folder, "--device", "cuda", "--json").stdout)
    assert on_gpu["total"][str(side)] < told["total"][str(side)]
    text = run("bundle", "memory", folder).stdout
    assert f"at {side}" in text
    assert "free here" in text


def test_memory_of_a_bundle_whose_costs_were_not_counted(run, tmp_path):
    folder = tiny.bundle(tmp_path / "b")
    done = run("bundle", "memory", folder)
    assert done.exit_code == 1
    assert "says nothing of its costs" in done.stderr


def test_drafts_that_are_not_made_cost_nothing(run, counted, picture):
    plan = dataclasses.replace(counted.manifest.plan, p_bound=0.96)
    counted.manifest = dataclasses.replace(counted.manifest, plan=plan)

    def stage1(*more):
        done = run("refine", picture, "-p", "the sea", "--json", "--force", "--drafts", 5, *more)
        return json.loads(done.stdout)["plan"]["tflop"]["stage1"]

    most = stage1("--plan-only")
    assert stage1("--all-drafts") == pytest.approx(most)
    assert most / 5 < stage1() < most / 3, "one draft, and the encoding that all would have shared"


def test_the_report_names_the_compute(run, counted, picture, tmp_path):
    report = tmp_path / "report.html"
    assert run("refine", picture, "-p", "the sea", "--report", report).exit_code == 0
    assert "TFLOP (stage 1 " in report.read_text()


def test_a_bundle_without_costs_says_nothing_of_them(run, fake, picture, tmp_path):
    report = tmp_path / "report.html"
    done = run("refine", picture, "-p", "the sea", "--report", report, "--json")
    assert "tflop" not in json.loads(done.stdout)["plan"]
    assert "TFLOP" not in report.read_text()


@pytest.mark.parametrize(
    "wrong", [["--drafts", MAX_DRAFTS + 1], ["--interval", 0.7, 0.2], ["--crop", "square"]]
)
def test_wrong_values_are_wrong_usage(run, fake, picture, wrong):
    done = run("refine", picture, "-p", "the sea", *wrong)
    assert done.exit_code == 2
    assert done.stderr
