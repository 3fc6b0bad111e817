"""`grefine-export pasd` end to end: a bundle that assesses gets stage 2, and computes what torch computes."""

import dataclasses
import json
import shutil

import numpy as np
import onnx_ir as ir
import pytest
import torch
import typer
from diffusers import DPMSolverMultistepScheduler
from typer.testing import CliRunner

from grefine_export.cli.pasd import pasd
from grefine_export.models.pasd_loading import PasdCheckpoint, Sd15
from grefine_export.onnx.convert import halve_weights
from grefine_export.pasd_bundle import COMPONENTS, RestoreOptions, add_restore
from grefine_rt.bundle import store
from grefine_rt.diffusion.loop import denoise
from grefine_rt.diffusion.restore import restore
from grefine_rt.diffusion.solver import step_table
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.errors import BundleError
from grefine_rt.models.bundle import Bundle
from grefine_rt.text.emphasis import parse_weights
from tests.support import assess_bundle, tiny_pasd

OPTIONS = RestoreOptions(
    unet_precision="fp32",
    text_precision="fp32",
    vae_precision="fp32",
    resolution=64,
    tile=0,
    delta=0.5,
    conditioning_scale=0.8,
    decoding="difference",
)
STEPS = 10


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """(PASD, base) folders."""
    root = tmp_path_factory.mktemp("sources")
    return tiny_pasd.save_pasd(root / "checkpoint-5", "flat"), tiny_pasd.save_base(root / "sd15", "flat")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sources):
    """A bundle with stage 2 in single precision."""
    bundle = assess_bundle.save(tmp_path_factory.mktemp("bundle") / "b")
    lines = []
    errors = add_restore(bundle, *map(str, sources), OPTIONS, lines.append)
    assert errors.keys() == {*COMPONENTS}
    assert max(errors.values()) < 1e-4
    assert not any("done before" in line for line in lines)
    return bundle


def opened(folder):
    return Bundle.open(folder, "cpu", threads=1)


def picture():
    y, x = np.mgrid[:48, :64].astype(np.float32)
    return np.stack([y / 48, x / 64, np.sin(x / 5) * 0.5 + 0.5], axis=-1).astype(np.float32)


def test_the_bundle_is_whole_and_says_how_pasd_runs(folder):
    manifest = store.verify(folder)
    settings = manifest.restore
    assert (settings.steps, settings.guidance, settings.solver, settings.multiple) == (10, 9.0, "dpm++2m", 16)
    assert settings.conditioning_scale == 0.8
    assert settings.prompt_suffix == "clean, high-resolution, 8k"
    assert settings.negative_prompt.startswith("blurry, dotted, noise")
    assert settings.schedule.spacing == "linspace"
    assert {*COMPONENTS} <= {weight.component for weight in manifest.weights}
    assert all(manifest.costs[f"components/{name}.onnx"].flops[0] >= 0 for name in COMPONENTS)
    tokenizer = Bundle.open(folder).tokenizer("restore_text")[0]
    ids, _ = tokenizer.encode_weighted(parse_weights("good cat"))
    assert len(ids) == 77
    assert ids[0] == tiny_pasd.VOCABULARY - 2
    assert (ids[-70:] == tiny_pasd.VOCABULARY - 1).all()


def test_the_runtime_restores_with_it(folder):
    result = restore(opened(folder), picture(), "a cat", seed=3)
    assert result.calls == 5
    assert result.image.shape == (48, 64, 3)
    assert np.isfinite(result.latent).all()
    assert np.abs(result.image - picture()).mean() > 1e-3


@pytest.mark.parametrize(("guidance", "delta"), [(9.0, 1.0), (1.0, 1.0), (9.0, 0.5), (9.0, 0.2)])
def test_ten_steps_equal_a_plain_torch_loop(folder, sources, guidance, delta):
    """All ten, and the share of them that mild restoration runs, from the noised latent of a picture."""
    model, scale = PasdCheckpoint.find(str(sources[0])).load(), OPTIONS.conditioning_scale
    torch.manual_seed(5)
    noise, context = torch.randn(1, 4, 6, 8), torch.randn(2, 77, tiny_pasd.WIDTH)
    original = torch.randn(1, 4, 6, 8)
    control = torch.rand(1, 3, 48, 64)
    scheduler = DPMSolverMultistepScheduler(
        1000, 0.00085, 0.012, "scaled_linear", algorithm_type="dpmsolver++", timestep_spacing="linspace"
    )
    scheduler.set_timesteps(STEPS)
    timesteps = scheduler.timesteps[-round(delta * STEPS) :]
    scheduler.set_begin_index(STEPS - len(timesteps))
    latent = noise if delta == 1 else scheduler.add_noise(original, noise, timesteps[:1])
    for timestep in timesteps:
        rows = context if guidance != 1 else context[1:]
        sample = latent.expand(len(rows), -1, -1, -1)
        with torch.no_grad():
            models = model(sample, timestep.float()[None], rows, control, scale)
        guided = models[:1] + guidance * (models[-1:] - models[:1])
        latent = scheduler.step(guided, timestep, latent).prev_sample
    settings = store.verify(folder).restore
    got = denoise(
        OnnxEngine(folder / "components" / "restore_step.onnx", "cpu", threads=1),
        step_table(settings.schedule, settings.solver, STEPS, delta, settings.prediction, guidance),
        original.numpy(),
        noise.numpy(),
        {"control": control.numpy()},
        {"context": context.numpy()},
    )
    assert np.linalg.norm(got - latent.numpy()) < 1e-3 * np.linalg.norm(latent.numpy())


def test_fp16_weights_keep_the_stage_within_40_db(folder, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    for name in COMPONENTS:
        model = ir.load(half / "components" / f"{name}.onnx")
        assert halve_weights(model) > 0
        ir.save(model, half / "components" / f"{name}.onnx")
    store.write(half, json.loads((half / "bundle.json").read_text()))
    whole, stored = (restore(opened(bundle), picture(), "a cat", seed=3).image for bundle in (folder, half))
    error = np.mean((whole - stored) ** 2)
    assert 0 < error < 1e-4  # 40 dB


@pytest.mark.slow
def test_half_precision_throughout_keeps_the_stage_within_40_db(folder, sources, tmp_path):
    """As the recipes for GPUs have it."""
    half = assess_bundle.save(tmp_path / "half")
    kinds = dict.fromkeys(("unet_precision", "text_precision", "vae_precision"), "fp16")
    add_restore(half, *map(str, sources), dataclasses.replace(OPTIONS, **kinds), lambda line: None)
    whole, less = (
        restore(opened(path), picture(), "a (red:1.2) cat", seed=3).image for path in (folder, half)
    )
    assert 40 < -10 * np.log10(np.mean((np.clip(whole, 0, 1) - np.clip(less, 0, 1)) ** 2)) < 100


def test_a_second_run_exports_nothing_again(folder, sources):
    before = (folder / "components" / "restore_step.onnx").stat().st_mtime_ns
    lines = []
    add_restore(folder, *map(str, sources), OPTIONS, lines.append)
    assert sum("done before" in line for line in lines) == 4
    assert (folder / "components" / "restore_step.onnx").stat().st_mtime_ns == before


def test_the_texts_and_the_autoencoder_are_those_of_the_base(folder, sources):
    base = Sd15.find(str(sources[1]))
    ids = torch.randint(0, 500, (2, 77))
    engines = {
        name: OnnxEngine(folder / "components" / f"{name}.onnx", "cpu", threads=1) for name in COMPONENTS
    }
    with torch.no_grad():
        context = base.text_encoder()(ids).last_hidden_state.numpy()
        image = torch.rand(1, 3, 64, 32) * 2 - 1
        latent = base.vae().encode(image).latent_dist.mean * 0.18215
        decoded = base.vae().decode(latent / 0.18215).sample
    for name, given, output, expected in (
        ("restore_text", {"ids": ids.numpy()}, "context", context),
        ("restore_encode", {"image": image.numpy()}, "latent", latent.numpy()),
        ("restore_decode", {"latent": latent.numpy()}, "image", decoded.numpy()),
    ):
        np.testing.assert_allclose(engines[name].run(given)[output], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_command_takes_a_base_in_the_published_layout(tmp_path, sources):
    """`text_model.`, old names in the VAE and half precision: the graphs compute what torch does with these weights."""
    bundle = assess_bundle.save(tmp_path / "b")
    base = tiny_pasd.published_base(tmp_path / "sd15", "flat")
    fp32 = [part for name in ("unet", "text", "vae") for part in (f"--{name}-precision", "fp32")]
    given = ["--checkpoint", str(sources[0]), "--base", str(base), "--bundle", str(bundle), "--personalised"]
    app = typer.Typer()
    app.command()(pasd)
    result = CliRunner().invoke(app, [*given, *fp32, "--resolution", "64", "--tile", "0", "--delta", "0.5"])
    assert result.exit_code == 0, result.output
    assert {*COMPONENTS} <= store.verify(bundle).components.keys()

    vae, text = tiny_pasd.vae().half().float(), tiny_pasd.text_encoder().half().float()
    torch.manual_seed(1)
    ids, image = torch.randint(0, tiny_pasd.VOCABULARY, (1, 77)), torch.rand(1, 3, 64, 32) * 2 - 1
    with torch.no_grad():
        latent = vae.encode(image).latent_dist.mean * 0.18215
        wanted = {
            "restore_text": ({"ids": ids}, "context", text(ids).last_hidden_state),
            "restore_encode": ({"image": image}, "latent", latent),
            "restore_decode": ({"latent": latent}, "image", vae.decode(latent / 0.18215).sample),
        }
    for name, (inputs, output, expected) in wanted.items():
        engine = OnnxEngine(bundle / "components" / f"{name}.onnx", "cpu", threads=1)
        got = engine.run({key: value.numpy() for key, value in inputs.items()})[output]
        np.testing.assert_allclose(got, expected.numpy(), rtol=1e-3, atol=1e-4)
    image = restore(opened(bundle), picture(), "a cat", seed=3, decoding="difference").image
    assert np.isfinite(image).all()
    assert np.abs(image - picture()).mean() > 1e-3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--bundle": "nothing"}, "there is no bundle"),
        ({"--checkpoint": "nothing"}, "there is no folder"),
        ({"--base": "nothing"}, "give a Stable Diffusion 1.5"),
        ({"--delta": "3"}, "restore.delta"),
        ({"--resolution": "8192"}, "too large for one pass"),
        ({"--tile": "1000"}, "multiples of 16"),
        ({"--tokenizer": "nothing"}, "there is no tokenizer"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, sources, changes, message):
    bundle = assess_bundle.save(tmp_path / "b")
    before = (bundle / "bundle.json").read_text()
    given = {"--checkpoint": str(sources[0]), "--base": str(sources[1]), "--bundle": str(bundle), **changes}
    app = typer.Typer()
    app.command()(pasd)
    result = CliRunner().invoke(app, [part for pair in given.items() for part in pair])
    assert result.exit_code == 1
    (line,) = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert message in line
    assert (bundle / "bundle.json").read_text() == before


def test_options_out_of_range_are_found_before_any_export(tmp_path, sources):
    bundle = assess_bundle.save(tmp_path / "b")
    with pytest.raises(BundleError, match=r"restore\.interval"):
        add_restore(bundle, *map(str, sources), RestoreOptions(interval=(0.9, 0.1)))
    assert not list((bundle / "components").glob("restore_*"))
