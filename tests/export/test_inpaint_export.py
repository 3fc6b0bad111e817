"""`grefine-export inpaint`: from a small SDXL checkpoint to a bundle whose stage 1 the runtime runs."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import typer
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from grefine_export import inpaint_bundle, stage_bundle, vae_component
from grefine_export.cli.inpaint import inpaint
from grefine_export.inpaint_bundle import InpaintOptions, add_inpaint, fold_guidance
from grefine_export.models.lora import read_lora
from grefine_export.models.sdxl_loading import SdxlCheckpoint
from grefine_export.models.vae_graphs import Decode, as_vae, peak_activation
from grefine_export.onnx.component import Job, export_component
from grefine_export.onnx.parity import ParityError
from grefine_export.sampling import sampling
from grefine_export.vae_component import check_decoder
from grefine_rt.bundle.store import verify
from grefine_rt.diffusion.tiling import tiled_decode, tiled_encode
from grefine_rt.engine.onnxruntime.session import OnnxEngine
from grefine_rt.errors import BundleError
from grefine_rt.models.bundle import Bundle
from tests.support import assess_bundle, tiny, tiny_sdxl
from tests.support.redraw import redraw

# One level, for every node takes time to trace; test_step.py has more, and test_sdxl_loading.py all three.
SMALL = {
    "block_out_channels": (64,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "transformer_layers_per_block": (1,),
    "attention_head_dim": (1,),
    "sample_size": 64,
}
OPTIONS = InpaintOptions(tile=512, origin="", license="test")


def silent(_line):
    pass


@pytest.fixture(scope="module")
def model():
    return tiny_sdxl.Model(**SMALL)


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    return tiny_sdxl.save_folder(model, tmp_path_factory.mktemp("sdxl") / "pipeline")


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """A file with the original names, of all three levels."""
    return tiny_sdxl.save_single(tiny_sdxl.Model(), tmp_path_factory.mktemp("sdxl") / "model.safetensors")


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """Changes one layer of the UNet and one of the second text encoder."""
    path = tmp_path_factory.mktemp("lora") / "style.safetensors"
    unet = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    text = "lora_te2_text_model_encoder_layers_0_mlp_fc1"
    torch.manual_seed(8)
    save_file(
        {
            f"{unet}.lora_down.weight": torch.randn(2, 64),
            f"{unet}.lora_up.weight": torch.randn(64, 2),
            f"{text}.lora_down.weight": torch.randn(2, 128) * 0.1,
            f"{text}.lora_up.weight": torch.randn(256, 2) * 0.1,
        },
        path,
    )
    return path


@pytest.fixture(scope="module")
def bundle(checkpoint, lora, tmp_path_factory):
    """(folder, manifest, errors, lines) of a complete export."""
    folder, lines = assess_bundle.save(tmp_path_factory.mktemp("bundles") / "b"), []
    options = dataclasses.replace(OPTIONS, loras=((str(lora), 0.5),))
    errors = add_inpaint(folder, str(checkpoint), options, lines.append)
    return folder, verify(folder), errors, lines


def opened(folder):
    return Bundle.open(folder, "cpu", threads=1)


def picture(height=64, width=96):
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return np.stack([y / height, x / width, np.sin(x / 5) * 0.5 + 0.5], axis=-1).astype(np.float32)


def region(height=64, width=96):
    mask = np.zeros((height, width), bool)
    mask[13:41, 30:77] = True
    return mask


def test_the_graphs_compute_what_the_modules_do(bundle):
    _, _, errors, lines = bundle
    assert errors.keys() == {"inpaint_text", "inpaint_encode", "inpaint_step", "inpaint_decode"}
    assert max(errors["inpaint_encode"], errors["inpaint_decode"]) < 1e-4
    assert max(errors["inpaint_text"], errors["inpaint_step"]) < 2e-2
    assert all(error > 0 for error in errors.values())
    assert any("inpaint_step: relative error" in line for line in lines)


def test_precision_is_in_the_graphs(bundle):
    types = {}
    for name in ("text", "step", "decode"):
        graph = onnx.load(bundle[0] / "components" / f"inpaint_{name}.onnx").graph
        edges = [*graph.input, *graph.output]
        assert {edge.type.tensor_type.elem_type for edge in edges} <= {
            onnx.TensorProto.FLOAT,
            onnx.TensorProto.INT64,
        }
        types[name] = {value.data_type for value in graph.initializer if np.prod(value.dims) > 4096}
    half, single = {onnx.TensorProto.FLOAT16}, {onnx.TensorProto.FLOAT}
    assert types == {"text": half, "step": half, "decode": single}


def test_manifest(bundle, checkpoint):
    manifest = bundle[1]
    stage = manifest.inpaint
    assert (stage.resolution, stage.multiple, stage.steps, stage.tile) == (512, 8, 10, 512)
    assert (stage.solver, stage.guidance, stage.prediction) == ("euler", 7.5, "epsilon")
    assert (stage.negative, stage.time_ids, stage.blended) == ("zeros", True, False)
    assert dataclasses.asdict(stage.schedule) == {
        "train_steps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "spacing": "leading",
        "offset": 1,
    }
    own = {weight.component: weight for weight in manifest.weights if weight.component.startswith("inpaint")}
    assert own.keys() == set(inpaint_bundle.COMPONENTS)
    assert own["inpaint_step"].origin == "pipeline, LoRA style.safetensors at 0.5"
    assert own["inpaint_step"].license == "test"
    assert [spec.input for spec in manifest.tokenizers["inpaint_text"]] == ["ids", "ids_2"]
    assert manifest.costs.keys() == {f"components/{name}.onnx" for name in inpaint_bundle.COMPONENTS}
    assert manifest.costs["components/inpaint_step.onnx"].flops[1] > 0
    assert str(checkpoint.parent) not in manifest.to_json()


def test_the_lora_is_in_both_graphs(bundle, model, lora):
    ids = torch.randint(0, 500, (1, 77))
    ids[:, -1] = tiny_sdxl.VOCABULARY - 1
    got = opened(bundle[0]).engine("inpaint_text").run({"ids": ids.numpy(), "ids_2": ids.numpy()})
    with torch.no_grad():
        plain = model.second(ids, output_hidden_states=True).hidden_states[-2]
        layer = model.second.text_model.encoder.layers[0].mlp.fc1
        tensors = {key.rpartition("fc1.")[2]: value for key, value in load(lora).items() if "fc1" in key}
        kept = layer.weight.clone()
        layer.weight += 0.5 * tensors["lora_up.weight"] @ tensors["lora_down.weight"]
        fused = model.second(ids, output_hidden_states=True).hidden_states[-2]
        layer.weight.copy_(kept)
    second = got["context"][..., tiny_sdxl.WIDTH :]
    assert relative(second, fused) < 2e-3
    assert relative(second, plain) > 2e-2


def load(path):
    from safetensors.torch import load_file

    return load_file(path)


def relative(got, expected):
    expected = np.asarray(expected)
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def test_the_autoencoder_is_ready_for_tiles(bundle, model):
    """Its graphs share the statistics of group norms, and on a whole picture compute what the module does."""
    run, whole = opened(bundle[0]), 2 * picture() - 1
    encoder, decoder = run.engine("inpaint_encode"), run.engine("inpaint_decode")
    assert {"weight", "rest", "others"} <= encoder.inputs.keys() & decoder.inputs.keys()
    scaling = model.vae.config.scaling_factor
    with torch.no_grad():
        latent = model.vae.encode(torch.from_numpy(whole.transpose(2, 0, 1)[None].copy())).latent_dist.mean
        image = model.vae.decode(latent).sample[0].permute(1, 2, 0) / 2 + 0.5
    assert relative(tiled_encode(encoder, whole, 512), latent * scaling) < 1e-4
    assert relative(tiled_decode(decoder, (latent * scaling).numpy(), 512), image) < 1e-4


def test_the_runtime_regenerates(bundle):
    result = redraw(
        opened(bundle[0]), picture(), region(), "a red cat", strength=0.5, seed=3, steps=4, guidance=2.0
    )
    assert result.calls == 2
    assert result.image.shape == (64, 96, 3)
    assert np.isfinite(result.latent).all()
    other = redraw(
        opened(bundle[0]), picture(), region(), "bad photo", strength=0.5, seed=3, steps=4, guidance=2.0
    )
    assert np.abs(other.latent - result.latent).max() > 1e-3


def test_a_second_run_exports_nothing(bundle, checkpoint, lora):
    folder, manifest, errors, _ = bundle
    times = {file.name: file.stat().st_mtime_ns for file in (folder / "components").glob("*.onnx")}
    lines = []
    options = dataclasses.replace(OPTIONS, loras=((str(lora), 0.5),), steps=6, guidance=3.0)
    assert add_inpaint(folder, str(checkpoint), options, lines.append) == errors
    assert {file.name: file.stat().st_mtime_ns for file in (folder / "components").glob("*.onnx")} == times
    assert sum("done before" in line for line in lines) == 4
    assert (verify(folder).inpaint.steps, verify(folder).inpaint.guidance) == (6, 3.0)
    assert len(verify(folder).weights) == len(manifest.weights)


def test_a_plain_unet_is_blended(checkpoint, bundle, tmp_path):
    """4 channels: only the step is exported anew, the other parts are those of `bundle`."""
    unet = tiny_sdxl.unet(4, **SMALL)
    tiny_sdxl.save_unet(unet, tmp_path / "unet")
    source = SdxlCheckpoint(checkpoint, unet_path=tmp_path / "unet")
    file = tmp_path / "inpaint_step.onnx"
    error = export_component(
        file, lambda: inpaint_bundle.step_job(source, (), OPTIONS, 512), "fp32", {}, silent
    )
    assert error < 1e-4
    run = opened(bundle[0])
    run._engines["components/inpaint_step.onnx"] = OnnxEngine(file, "cpu", threads=1)
    run.manifest = dataclasses.replace(
        run.manifest, inpaint=dataclasses.replace(run.manifest.inpaint, blended=True)
    )
    mask = region()
    result = redraw(run, picture(), mask, "a red cat", strength=0.5, seed=3, steps=4, guidance=2.0)
    kept = tiled_encode(run.engine("inpaint_encode"), 2 * picture() - 1, 0)
    outside = ~mask.reshape(8, 8, 12, 8).any(axis=(1, 3))
    np.testing.assert_allclose(result.latent[0][:, outside], kept[0][:, outside], atol=1e-4)
    assert np.abs(result.latent - kept).max() > 1e-2


@pytest.mark.parametrize("layout", ["folder", "single"])
def test_the_checkpoint_stays_as_it_is(checkpoint, single, lora, layout):
    """Weights may be the files' own pages: what is fused into them must not reach the disk."""
    path = checkpoint if layout == "folder" else single
    file = single if layout == "single" else checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
    before, source = file.read_bytes(), SdxlCheckpoint(path)
    job = inpaint_bundle.step_job(source, [(read_lora(lora), 0.5)], OPTIONS, 512)
    fused, plain = (
        unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn1.to_q").weight.clone()
        for unet in (job.module.unet, source.unet())
    )
    assert not torch.equal(fused, plain)
    assert file.read_bytes() == before


# --- one component


class Twice(nn.Module):
    def __init__(self, factor=2.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((3,), factor))

    def forward(self, x):
        return x.to(self.weight.dtype) * self.weight


def twice():
    return Job(Twice(), {"x": torch.randn(2, 3)}, {"x": torch.randn(5, 3)}, ["y"], {"x": {0: "n"}})


def test_a_component_is_exported_once(tmp_path):
    file, made, lines = tmp_path / "twice.onnx", [], []

    def build():
        made.append(1)
        return twice()

    def run(precision="fp32", source=1):
        export_component(file, build, precision, {"source": source}, lines.append)
        return len(made)

    assert run() == 1
    assert run() == 1
    assert lines[-1] == "twice: done before"
    assert run(source=2) == 2
    assert run("fp16", source=2) == 3
    file.write_bytes(file.read_bytes()[:-1])
    assert run("fp16", source=2) == 4
    (tmp_path / "twice.onnx.json").write_text("[]")
    assert run("fp16", source=2) == 5
    assert run("fp16", source=2) == 5


def test_a_graph_that_differs_leaves_no_mark(tmp_path, monkeypatch):
    def other(module, *arguments, **options):
        return real(Twice(2.1), *arguments, **options)

    import grefine_export.onnx.component as component

    real = component.export
    monkeypatch.setattr(component, "export", other)
    with pytest.raises(ParityError):
        export_component(tmp_path / "twice.onnx", twice, "fp32", {}, silent)
    assert not (tmp_path / "twice.onnx.json").exists()


# --- distilled models


@pytest.mark.parametrize("guidance", [1.0, 8.0])
def test_folded_guidance(guidance):
    unet = tiny_sdxl.unet(4, time_cond_proj_dim=24, **SMALL)
    generator = torch.Generator().manual_seed(2)
    inputs = (
        torch.randn(1, 4, 8, 8, generator=generator),
        torch.tensor(300),
        torch.randn(1, 77, tiny_sdxl.WIDTH + tiny_sdxl.WIDTH_2, generator=generator),
    )
    added = {
        "text_embeds": torch.randn(1, tiny_sdxl.POOLED, generator=generator),
        "time_ids": torch.tensor([[64.0, 64, 0, 0, 64, 64]]),
    }
    embedded = StableDiffusionXLPipeline.get_guidance_scale_embedding(None, torch.tensor([guidance - 1]), 24)
    with torch.no_grad():
        expected = unet(*inputs, timestep_cond=embedded, added_cond_kwargs=added).sample
        untold = unet(*inputs, added_cond_kwargs=added).sample
        fold_guidance(unet, guidance)
        got = unet(*inputs, added_cond_kwargs=added).sample
    assert relative(got.numpy(), expected) < 1e-5
    assert relative(untold.numpy(), expected) > 1e-4


EULER = tiny_sdxl.SCHEDULER
TURBO = EULER | {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}


@pytest.mark.parametrize(
    ("config", "options", "wanted"),
    [
        (EULER, {}, ("euler", "leading", "epsilon", 10, 7.5)),
        ({}, {}, ("euler", "leading", "epsilon", 10, 7.5)),
        ({}, {"prediction": "v_prediction"}, ("euler", "leading", "v_prediction", 10, 7.5)),
        (TURBO, {}, ("euler", "trailing", "epsilon", 4, 1.0)),
        (EULER | {"_class_name": "LCMScheduler"}, {}, ("lcm", "leading", "epsilon", 4, 1.0)),
        (EULER, {"consistency": True}, ("lcm", "leading", "epsilon", 4, 1.0)),
        (EULER, {"consistency": True, "steps": 8, "guidance": 1.5}, ("lcm", "leading", "epsilon", 8, 1.5)),
        (
            EULER,
            {"spacing": "trailing", "steps": 4, "guidance": 1.0},
            ("euler", "trailing", "epsilon", 4, 1.0),
        ),
        (
            EULER | {"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "v_prediction"},
            {},
            ("dpm++2m", "leading", "v_prediction", 10, 7.5),
        ),
        (
            EULER | {"_class_name": "DDIMScheduler"},
            {"solver": "euler"},
            ("euler", "leading", "epsilon", 10, 7.5),
        ),
    ],
)
def test_sampling(config, options, wanted):
    how = sampling(config, **options)
    assert (how.solver, how.schedule.spacing, how.prediction, how.steps, how.guidance) == wanted


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"beta_schedule": "linear"}, "'linear'"),
        ({"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler"),
        ({"rescale_betas_zero_snr": True}, "zero signal"),
        ({"prediction_type": "sample"}, "'sample'"),
    ],
)
def test_schedules_that_cannot_be_run(changes, problem):
    with pytest.raises(ValueError, match=problem):
        sampling(EULER | changes)


# --- the autoencoder's precision


def loud(factor):
    """An autoencoder whose middle is far outside of what FP16 holds, as that of SDXL is."""
    vae = tiny_sdxl.vae()
    with torch.no_grad():
        vae.decoder.conv_in.weight.mul_(factor)
    return vae


def test_peak_activation():
    quiet, high = (peak_activation(Decode(as_vae(vae))) for vae in (tiny_sdxl.vae(), loud(1e4)))
    assert quiet < 65504 < high


def test_fp16_needs_an_fp16_safe_autoencoder(checkpoint, tmp_path):
    tiny_sdxl.save_vae(loud(1e4), tmp_path / "vae")
    source = SdxlCheckpoint(checkpoint, vae_path=tmp_path / "vae")
    vae_component.decode_job(source.vae, "fp16-storage", 512, False)
    with pytest.raises(ValueError, match=r"65504.*--vae-precision fp32") as error:
        vae_component.decode_job(source.vae, "fp16", 512, False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("upcast", "factor", "unet", "stage1", "stage2"),
    [
        (False, 1.0, "fp16", "fp16", "fp16"),
        (True, 1.0, "fp16", "fp32", "fp16"),  # as SDXL's own declares; Stable Diffusion 1.5's says nothing
        (False, 1e4, "fp16", "fp32", "fp16-storage"),  # declared safe, but it is not
        (False, 1.0, "fp32", "fp32", "fp16-storage"),
    ],
)
def test_autoencoders_compute_in_half_precision_where_that_is_safe(upcast, factor, unet, stage1, stage2):
    vae = loud(factor)
    vae.register_to_config(force_upcast=upcast)
    found = [
        vae_component.precision_of("auto", unet, lambda: vae, single, upcast=first)
        for single, first in (("fp32", True), ("fp16-storage", False))
    ]
    assert found == [stage1, stage2]
    assert vae_component.precision_of("fp32", unet, lambda: vae, "fp16", upcast=False) == "fp32"


def test_a_decoder_must_give_numbers(tmp_path):
    fine = "g (float[b,4,h,w] latent) => (float[b,4,h,w] image) { image = Tanh(latent) }"
    broken = (
        "g (float[b,4,h,w] latent) => (float[b,4,h,w] image) { wide = Exp(latent) squared = Mul(wide, wide)"
    )
    broken += " high = Exp(squared) image = Div(high, high) }"
    for name, text in (("fine", fine), ("broken", broken)):
        onnx.save(tiny.model(text, {}), tmp_path / f"{name}.onnx")
    check_decoder(tmp_path / "fine.onnx")
    with pytest.raises(ValueError, match=r"no numbers for latents of \d+: .*--vae-precision fp32"):
        check_decoder(tmp_path / "broken.onnx")


@pytest.mark.parametrize("tiled", [False, True])
def test_attention_is_cut_up_for_1024_pixels(checkpoint, tiled):
    """No score matrix above 1 GB, as it would be in FP32 for the 16384 positions of the autoencoder; a tile attends to
    four times as many beside its own."""
    job = vae_component.decode_job(SdxlCheckpoint(checkpoint).vae, "fp32", 1024, tiled)
    attention = job.module.vae.kl.decoder.mid_block.attentions[0]
    keys = 16384 * (5 if tiled else 1)
    assert 16384 / attention.processor.chunks * keys * 4 < 1e9


# --- failures

app = typer.Typer()
app.command()(inpaint)


def failed(*arguments):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


@pytest.fixture
def empty(tmp_path):
    return assess_bundle.save(tmp_path / "b")


def test_no_bundle(checkpoint, tmp_path):
    assert "grefine-export clip" in failed("--checkpoint", checkpoint, "--bundle", tmp_path)


@pytest.mark.parametrize("option", ["--checkpoint", "--unet", "--vae", "--lora"])
def test_missing_files(checkpoint, empty, tmp_path, option):
    given = {"--checkpoint": checkpoint, "--bundle": empty, option: tmp_path / "none"}
    assert "there is no" in failed(*(part for pair in given.items() for part in pair))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--steps", "0"), "out of range in 'inpaint'"),
        (("--rescale", "2"), "out of range in 'inpaint.rescale'"),
        (("--interval", "0.9", "0.1"), "out of range in 'inpaint.interval'"),
        (("--drafts", "0"), "out of range in 'inpaint.drafts'"),
    ],
)
def test_options_are_checked_before_the_work(checkpoint, empty, monkeypatch, options, problem):
    monkeypatch.setattr(stage_bundle, "export_component", lambda *_: pytest.fail("too late"))
    assert problem in failed("--checkpoint", checkpoint, "--bundle", empty, *options)


def test_a_single_file_needs_a_tokenizer(checkpoint, single, empty):
    assert "--tokenizer" in failed("--checkpoint", single, "--bundle", empty)
    source, manifest = SdxlCheckpoint(single), json.loads((empty / "bundle.json").read_text())
    options = dataclasses.replace(OPTIONS, tokenizer=str(checkpoint / "tokenizer"))
    given = inpaint_bundle._tokenizers(source, options, empty, manifest)
    folders = inpaint_bundle._tokenizers(SdxlCheckpoint(checkpoint), OPTIONS, empty, manifest)
    assert [one.padding["pad_id"] for one in given] == [tiny_sdxl.VOCABULARY - 1, 0]
    assert [one.encode("a red cat! !").ids for one in given] == [
        one.encode("a red cat! !").ids for one in folders
    ]
    # A bundle whose CLIP has the same vocabulary lends its tokenizer.
    Path(empty / "tokenizers" / "words.json").write_text(folders[0].to_str(), encoding="utf-8")
    lent = inpaint_bundle._tokenizers(source, OPTIONS, empty, manifest)
    assert [one.padding["pad_id"] for one in lent] == [tiny_sdxl.VOCABULARY - 1, 0]


@pytest.mark.parametrize("cut", ['"tau"', "}"])
def test_a_damaged_manifest(checkpoint, empty, cut):
    (empty / "bundle.json").write_text((empty / "bundle.json").read_text().replace(cut, ""))
    with pytest.raises(BundleError):
        add_inpaint(empty, str(checkpoint), OPTIONS, silent)
