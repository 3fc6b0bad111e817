"""`grefine-export bundle`: the estimate, resuming after an interruption anywhere, refusals."""

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from typer.testing import CliRunner

from grefine_export import assemble as module
from grefine_export import estimate as estimates
from grefine_export import stages
from grefine_export.assemble import assemble
from grefine_export.cli.bundle import bundle as command
from grefine_export.estimate import estimate, refuse_full_disk
from grefine_export.recipes import load, with_checkpoints
from grefine_rt.bundle import store
from grefine_rt.bundle.manifest import FILE_NAME
from tests.support.fake_hub import FakeHub

RECIPE = """
name = "small"
version = "7"
description = "Everything, small."
license = "All kinds."

[clip]
size = 64
graph_bytes = 1_000_000_000
[clip.checkpoint]
source = "owner/clip"
revision = "abc"
files = ["config.json", "model.safetensors"]
bytes = 300
license = "MIT"

[inpaint]
graph_bytes = 2_000_000_000
[inpaint.checkpoint]
source = "owner/sdxl"
files = ["unet/*"]
part = "unet"
bytes = 5_000
license = "RAIL"
[inpaint.options]
resolution = 128

[restore]
graph_bytes = 3_000_000_000
[restore.checkpoint]
license = "Apache-2.0"
[restore.base]
source = "owner/sd15"
files = ["vae/*"]
bytes = 700
license = "RAIL-M"
[restore.options]
resolution = 128

[plan]
tau = 0.25
strength_min = 0.3
strength_max = 0.99
joining = "union"
strength_rule = "deficit"
missing_region = "ancestor"
grow = 1.0
feather = 0.5
min_area = 0.01
p_bound = 1.0
"""
FILES = {
    "owner/clip/config.json": 2,
    "owner/clip/model.safetensors": 100,
    "owner/clip/pytorch_model.bin": 100,
    "owner/sdxl/unet/weights.safetensors": 1000,
    "owner/sd15/vae/weights.safetensors": 70,
}
EVENTS = [
    "clip.checkpoint",
    "inpaint.checkpoint",
    "restore.base",
    "clip",
    "inpaint",
    "restore",
    "costs",
    "verify",
]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    for name, size in FILES.items():
        path = tmp_path / "hub" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "pasd").mkdir()
    (tmp_path / "pasd" / "unet.safetensors").write_text("u")
    (tmp_path / "small.toml").write_text(RECIPE)
    return with_checkpoints(
        load(str(tmp_path / "small.toml")), {"restore.checkpoint": str(tmp_path / "pasd")}
    )


def _quiet(line):
    pass


class Stages:
    """Stand-ins that leave a file each; `broken` is where the run breaks off, `ran` what was done."""

    def __init__(self, monkeypatch):
        self.broken, self.ran, self.given = None, [], {}
        self.manifest = json.loads((store.find_bundle("mini") / FILE_NAME).read_text())
        for name in ("inpaint", "restore"):
            self.manifest[name] = None
        self.manifest["components"] = dict.fromkeys(
            ("perceptual", "alignment_image", "alignment_text"), "components/clip.onnx"
        )
        specs = [{"file": "components/clip.onnx", "input": "ids", "length": 9}]
        self.manifest |= {
            "tokenizers": {"alignment_text": specs},
            "costs": None,
            "scorers": {},
            "domain": None,
        }
        self.manifest["weights"] = [{"component": "inpaint_step", "origin": "?", "license": "?"}]
        adders = {name: self._adder(name) for name in ("clip", "inpaint", "restore")}
        monkeypatch.setattr(module, "ADDERS", adders)
        self._after(monkeypatch, module, "add_costs", "costs")
        self._after(monkeypatch, module.store, "verify", "verify")
        fetch = module.fetch

        def fetching(source, revision, files, say):
            place = {"clip": "clip.checkpoint", "sdxl": "inpaint.checkpoint", "sd15": "restore.base"}
            self._note(place[source.partition("/")[2]])
            return fetch(source, revision, files, say)

        monkeypatch.setattr(module, "fetch", fetching)

    def _note(self, event):
        if event == self.broken:
            raise KeyboardInterrupt
        self.ran.append(event)

    def _adder(self, name):
        def add(bundle, table, paths, say):
            self.given[name] = paths
            file = bundle / "components" / f"{name}.onnx"
            assert not file.exists()
            file.parent.mkdir(parents=True, exist_ok=name != "clip")
            if name == self.broken:
                file.with_suffix(".half").write_text("half")
            self._note(name)
            file.write_text(name)
            file.with_suffix(".half").unlink(missing_ok=True)
            store.write(bundle, self.manifest)

        return add

    def _after(self, monkeypatch, owner, attribute, event):
        work = getattr(owner, attribute) if attribute == "verify" else _quiet

        def wrapped(bundle):
            self._note(event)
            return work(bundle)

        monkeypatch.setattr(owner, attribute, wrapped)


@pytest.fixture
def made(monkeypatch, hub):
    return Stages(monkeypatch)


def test_a_whole_bundle_appears_at_once(recipe, made, tmp_path):
    lines = []
    manifest = assemble(recipe, tmp_path / "out", lines.append)
    assert made.ran == EVENTS
    assert {path.name for path in tmp_path.iterdir()} == {"hub", "cache", "pasd", "small.toml", "out"}
    assert (manifest.name, manifest.version, manifest.plan.tau) == ("small", "7", 0.25)
    assert (manifest.weights[0].origin, manifest.weights[0].license) == ("owner/sdxl", "RAIL")
    assert Path(made.given["inpaint"]["inpaint.checkpoint"]).name == "unet"
    assert made.given["restore"]["restore.checkpoint"] == str(tmp_path / "pasd")
    titles = [line[12:] for line in lines if line.startswith("[")]
    assert titles == [name if name in EVENTS[3:] else f"fetch {name}" for name in EVENTS]


@pytest.mark.parametrize("event", EVENTS)
def test_an_interrupted_run_goes_on(recipe, made, tmp_path, event):
    made.broken = event
    with pytest.raises(KeyboardInterrupt):
        assemble(recipe, tmp_path / "out", _quiet)
    assert not (tmp_path / "out").exists()
    made.broken = None
    assemble(recipe, tmp_path / "out", _quiet)
    assert sorted(made.ran) == sorted(EVENTS + ["costs"] * (event == "verify"))
    assert {path.name for path in (tmp_path / "out" / "components").iterdir()} == {
        "clip.onnx",
        "inpaint.onnx",
        "restore.onnx",
    }


def _break_at(made, recipe, out, event):
    made.broken = event
    with pytest.raises(KeyboardInterrupt):
        assemble(recipe, out, _quiet)
    made.broken, made.ran = None, []


def test_a_stage_with_other_inputs_is_made_again(recipe, made, tmp_path):
    _break_at(made, recipe, tmp_path / "out", "costs")
    (tmp_path / "out.partial" / "components" / "restore.onnx").unlink()
    (tmp_path / "pasd" / "unet.safetensors").write_text("another")
    assemble(recipe, tmp_path / "out", _quiet)
    assert made.ran == ["restore", "costs", "verify"]


def test_a_stage_is_made_again_when_a_file_of_its_options_changed(recipe, made, tmp_path):
    lora = tmp_path / "style.safetensors"
    lora.write_text("first")
    options = dataclasses.replace(recipe.inpaint.options, loras=((str(lora), 0.5),))
    own = dataclasses.replace(recipe, inpaint=dataclasses.replace(recipe.inpaint, options=options))
    _break_at(made, own, tmp_path / "out", "costs")
    (tmp_path / "out.partial" / "components" / "inpaint.onnx").unlink()
    lora.write_text("another")
    assemble(own, tmp_path / "out", _quiet)
    assert made.ran == ["inpaint", "costs", "verify"]


def test_another_clip_begins_anew(recipe, made, tmp_path):
    _break_at(made, recipe, tmp_path / "out", "costs")
    other = dataclasses.replace(recipe, clip=dataclasses.replace(recipe.clip, size=96))
    assemble(other, tmp_path / "out", _quiet)
    assert made.ran == ["clip", "inpaint", "restore", "costs", "verify"]


def test_a_stage_less_begins_anew(recipe, made, tmp_path):
    _break_at(made, recipe, tmp_path / "out", "costs")
    assemble(dataclasses.replace(recipe, restore=None), tmp_path / "out", _quiet)
    assert made.ran == ["clip", "inpaint", "costs", "verify"]
    assert not (tmp_path / "out" / "components" / "restore.onnx").exists()


def test_a_cache_that_was_emptied_is_filled_again(recipe, made, hub, tmp_path):
    _break_at(made, recipe, tmp_path / "out", "clip")
    for path in sorted(hub.cache.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    assemble(recipe, tmp_path / "out", _quiet)
    assert made.ran == EVENTS


def test_a_damaged_bundle_is_no_bundle(recipe, made, tmp_path):
    _break_at(made, recipe, tmp_path / "out", "verify")
    enter = stages.enter

    def damage(recipe, bundle):
        enter(recipe, bundle)
        (bundle / "components" / "clip.onnx").write_text("CLIP")

    made_enter = pytest.MonkeyPatch()
    made_enter.setattr(stages, "enter", damage)
    with pytest.raises(Exception, match="SHA-256 differs"):
        assemble(recipe, tmp_path / "out", _quiet)
    made_enter.undo()
    assert not (tmp_path / "out").exists()


def test_the_mini_recipe_trains(made, tmp_path, monkeypatch):
    def train(bundle, table, say):
        assert (table.budget, table.attention) == ("cpu", "vv")
        (bundle / "components").mkdir(parents=True)
        (bundle / "components" / "clip.onnx").write_text("trained")
        store.write(bundle, made.manifest)

    monkeypatch.setattr(stages, "train", train)
    lines = []
    assert assemble(load("mini"), tmp_path / "out", lines.append).name == "mini"
    assert made.ran == ["costs", "verify"]
    assert "time: about 12.0 hours (as measured on two CPU cores)" in lines


def test_estimate_counts_what_is_left(recipe, hub):
    full = estimate(recipe)
    assert full.downloads == {"clip.checkpoint": 102, "inpaint.checkpoint": 1000, "restore.base": 70}
    assert (full.counted, full.bundle, full.download) == (True, 6_000_000_000, 1172)
    assert full.export == pytest.approx(10 * 20 + 6 * 100)
    assert full.seconds == pytest.approx(full.export + 1172 / 12.5e6)
    hub.snapshot_download("owner/sdxl", None, ["unet/*"])
    assert estimate(recipe).downloads["inpaint.checkpoint"] == 0


def test_estimate_without_the_hub(recipe, hub):
    hub.offline = True
    guess = estimate(recipe)
    assert guess.downloads == {"clip.checkpoint": 300, "inpaint.checkpoint": 5000, "restore.base": 700}
    assert not guess.counted
    hub.offline = False
    hub.snapshot_download("owner/sdxl", None, ["unet/*"])
    hub.offline = True
    assert estimate(recipe).downloads == {"clip.checkpoint": 300, "restore.base": 700}
    assert "download: 0 MB at most (from the recipe, for the hub does not say)" in estimates.describe(
        guess, False
    )


def test_a_hub_id_of_ones_own_is_the_stages_matter(recipe, hub, made, tmp_path):
    other = with_checkpoints(recipe, {"inpaint.checkpoint": "me/fine-tune"})
    assert estimate(other).downloads["inpaint.checkpoint"] == 5000
    assemble(other, tmp_path / "out", _quiet)
    assert made.given["inpaint"] == {"inpaint.checkpoint": "me/fine-tune"}


@pytest.mark.parametrize(("free", "fits"), [(6_000_001_171, False), (6_000_001_172, True)])
def test_a_full_disk_is_refused_before_anything_is_fetched(recipe, hub, tmp_path, monkeypatch, free, fits):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(estimates.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    if fits:
        refuse_full_disk(estimate(recipe), tmp_path / "deep" / "out")
        return
    with pytest.raises(
        ValueError, match=r"^the disk of '.*' has 6.0 GB free and 6.0 GB are needed: free some space"
    ):
        assemble(recipe, tmp_path / "deep" / "out", _quiet)
    assert hub.fetched == []
    assert not (tmp_path / "deep").exists()
    refuse_full_disk(estimate(recipe, 1), tmp_path / "deep" / "out")  # a byte is there already


def _run(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_says_in_one_sentence_what_is_wrong(hub, recipe, tmp_path):
    toml, out = tmp_path / "small.toml", tmp_path / "out"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("a")
    pasd = ("--restore", tmp_path / "pasd")
    for arguments, message in (
        (("none",), "there is no recipe 'none': give one of mini, "),
        (
            (toml,),
            "the checkpoint 'restore.checkpoint' of the recipe 'small' is on no hub: give its file",
        ),
        (
            (toml, "--restore", "no/such/folder"),
            "there is no checkpoint 'no/such/folder': give a file or folder with",
        ),
        ((toml, *pasd, "--out", tmp_path / "full"), "is there already and not empty: give a new folder"),
        (("mini", "--base", "sd15"), "the recipe 'mini' has no 'restore': leave --base out"),
    ):
        result = _run(*arguments, *(() if "--out" in arguments else ("--out", out)))
        assert result.exit_code == 1
        assert message in result.stderr
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1
    hub.offline = True
    result = _run(toml, *pasd, "--out", out)
    assert result.exit_code == 1
    assert (
        "error: 'owner/clip' cannot be had from the hub ([Errno 101] Network is unreachable)" in result.stderr
    )
    assert "give its folder with --clip\n" in result.stderr
    assert not out.exists()


def test_command_only_estimates(hub, recipe, tmp_path):
    result = _run(
        tmp_path / "small.toml", "--restore", tmp_path / "pasd", "--out", tmp_path / "out", "--dry-run"
    )
    assert result.exit_code == 0, result.stderr
    assert "disk: 0 MB of downloads and 6.0 GB of bundle" in result.stdout
    assert "time: about 13 minutes (20 s a graph and 100 s a GB as measured on two CPU cores" in result.stdout
    assert hub.fetched == []
    assert not (tmp_path / "out.partial").exists()
