"""`grefine-export bundle` as a whole: tiny checkpoints in the files of the published ones become a bundle that runs."""

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from grefine_export.cli.bundle import bundle as command
from grefine_export.models.ip_iqa import save
from grefine_rt import PlanOptions, RefineOptions, Refiner
from grefine_rt.bundle import store
from grefine_rt.bundle.manifest import FILE_NAME
from tests.support import clip_files, tiny_ip_iqa, tiny_pasd, tiny_sdxl
from tests.support.fake_hub import FakeHub

RECIPE = """
name = "tiny"
version = "1"
description = "All models, tiny."
license = "None needed."

[clip]
size = 64
weights = "fp32"
batch = "1..2"
graph_bytes = 10_000_000
[clip.checkpoint]
source = "{root}/clip"
license = "MIT"

[inpaint]
graph_bytes = 10_000_000
[inpaint.checkpoint]
source = "owner/sdxl"
revision = "1234"
files = ["*"]
bytes = 9
license = "RAIL"
[inpaint.options]
unet_precision = "fp32"
text_precision = "fp32"
resolution = 64
steps = 2
tile = 64

[restore]
graph_bytes = 10_000_000
[restore.checkpoint]
license = "Apache-2.0"
[restore.base]
source = "{root}/sd15"
license = "RAIL-M"
[restore.options]
unet_precision = "fp32"
text_precision = "fp32"
vae_precision = "fp32"
resolution = 64
steps = 2
delta = 0.5
tile = 64

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
TWO_LEVELS = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 1),
    "attention_head_dim": (1, 1),
}


@pytest.mark.slow
def test_tiny_checkpoints_of_all_models_become_a_bundle_that_refines(monkeypatch, tmp_path):
    clip_files.small_tokenizer_files(tmp_path / "clip")
    clip_files.save_transformers(clip_files.random_clip(clip_files.small_config()), tmp_path / "clip")
    tiny_sdxl.save_folder(tiny_sdxl.Model(**TWO_LEVELS), tmp_path / "hub" / "owner" / "sdxl")
    tiny_pasd.save_pasd(tmp_path / "pasd" / "checkpoint-3", "flat")
    tiny_pasd.save_base(tmp_path / "sd15", "flat")
    tiny_ip_iqa.write_tokenizer(tmp_path / "ip-iqa")
    save(tiny_ip_iqa.tiny_ip_iqa(), tmp_path / "ip-iqa" / "ip_iqa.safetensors", 64)
    FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    (tmp_path / "tiny.toml").write_text(RECIPE.format(root=tmp_path))
    out = tmp_path / "bundles" / "tiny"

    app = typer.Typer()
    app.command()(command)
    given = ["--restore", str(tmp_path / "pasd"), "--ip-iqa", str(tmp_path / "ip-iqa"), "--out", str(out)]
    result = CliRunner().invoke(app, [str(tmp_path / "tiny.toml"), *given])
    assert result.exit_code == 0, result.stderr
    assert f"tiny 1 is whole: {len(store.verify(out).files)} files. Bundle: {out}\n" in result.stdout

    manifest = store.verify(out)
    assert manifest.costs.keys() == set(manifest.components.values())
    origins = {weight.component: (weight.origin, weight.license) for weight in manifest.weights}
    assert origins["inpaint_step"] == ("owner/sdxl@1234", "RAIL")
    assert origins["restore_step"] == ("pasd and sd15", "unknown AND RAIL-M")
    assert str(tmp_path) not in (out / FILE_NAME).read_text()

    picture = np.random.default_rng(3).integers(0, 256, (64, 64, 3), np.uint8)
    options = RefineOptions(plan=PlanOptions(full_image=True, strength_min=0.99, accept="off"))
    refiner = Refiner.load(out, device="cpu")
    refined = refiner.refine(picture, "a red cat", seed=5, options=options)
    assert refined.image.size == (64, 64)
    assert {"regenerate", "restore"} <= refined.timings.keys()
    assert refined.after.ip_iqa.keys() == {"quality", "alignment"}
    assert (np.asarray(refined.image) != picture).any()

    # With acceptance the same bundle gives no result that its own scores call worse.
    options = RefineOptions(plan=PlanOptions(full_image=True, strength_min=0.99))
    judged = refiner.refine(picture, "a red cat", seed=5, options=options)
    changed = (np.asarray(judged.image) != picture).any()
    assert changed or (judged.after.perceptual, judged.after.alignment) == (
        judged.before.perceptual,
        judged.before.alignment,
    )
    scores = [(seen.perceptual, seen.alignment) for seen in (judged.before, judged.after)]
    assert sum(scores[1]) >= sum(scores[0])
