"""Checkpoints as people bring them: other names, other storage, parts apart; and those that would run wrongly."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from grefine_export.checkpoints import read_tensors
from grefine_export.inpaint_bundle import InpaintOptions, _sampling
from grefine_export.models.lora import locate_lora, read_lora
from grefine_export.models.pasd_loading import PasdCheckpoint, Sd15
from grefine_export.models.sdxl_loading import SdxlCheckpoint, pipeline_path
from grefine_export.pasd_bundle import SCHEDULE, _noise
from grefine_export.sampling import sampling
from tests.support import tiny_pasd, tiny_sdxl
from tests.support.fake_hub import FakeHub

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return tiny_sdxl.Model()


@pytest.fixture(scope="module")
def single(model, tmp_path_factory):
    return tiny_sdxl.save_single(model, tmp_path_factory.mktemp("single") / "sdxl.safetensors")


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return tiny_sdxl.save_folder(model, tmp_path_factory.mktemp("folder") / "sdxl")


def assert_same(got, expected):
    got, expected = got.state_dict(), expected.state_dict()
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], value) for name, value in expected.items())


def with_marks(single, path, *marks, metadata=None):
    save_file({**load_file(single), **{name: torch.zeros(1) for name in marks}}, path, metadata)
    return SdxlCheckpoint(path)


def sampled(source, **options):
    said = []
    return _sampling(source, source.unet_config(), InpaintOptions(**options), said.append), said


# --- what would run wrongly


@pytest.mark.parametrize(
    ("marks", "metadata"), [(("v_pred",), None), ((), {"modelspec.prediction_type": "v"})]
)
def test_v_prediction_of_a_single_file_is_honoured_with_a_sentence(single, tmp_path, marks, metadata):
    source = with_marks(single, tmp_path / "v.safetensors", *marks, metadata=metadata)
    how, said = sampled(source)
    assert how.prediction == "v_prediction"
    assert said == ["the checkpoint declares that it predicts v: stage 1 is run so"]
    other, said = sampled(source, prediction="epsilon")
    assert other.prediction == "epsilon"
    assert said == [
        "stage 1 is sampled as asked for, not as its checkpoint says: prediction epsilon instead of v_prediction"
    ]
    source.unet()  # the marks are no weights of it


def test_a_file_without_marks_predicts_noise(single):
    assert sampled(SdxlCheckpoint(single)) == (sampling({}), [])


@pytest.mark.parametrize(
    ("marks", "problem"),
    [
        (("v_pred", "ztsnr"), "zero signal"),
        (("edm_mean", "edm_std"), "EDM"),
        (("edm_vpred.sigma_max", "edm_vpred.sigma_min"), "EDM"),
    ],
)
def test_noise_that_cannot_be_run_is_refused(single, folder, tmp_path, marks, problem):
    source = with_marks(single, tmp_path / "marked.safetensors", *marks)
    with pytest.raises(ValueError, match=problem):
        sampled(source)
    with pytest.raises(ValueError, match=problem):  # also where it is the UNet of another
        sampled(SdxlCheckpoint(folder, unet_path=source.path))


def test_a_scheduler_of_a_model_of_its_own_is_no_euler(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "tcd")
    file = tmp_path / "tcd" / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps(tiny_sdxl.SCHEDULER | {"_class_name": "TCDScheduler"}))
    source = SdxlCheckpoint(tmp_path / "tcd")
    with pytest.raises(ValueError, match="TCDScheduler has no counterpart here: choose one with --solver"):
        sampled(source)
    how, said = sampled(source, solver="lcm", steps=6, guidance=1.0)
    assert (how.solver, how.steps) == ("lcm", 6)
    assert "TCDScheduler" in said[0]
    assert "solver lcm, 6 steps and guidance 1" in said[0]


def test_a_recipes_sampling_of_a_distilled_model_is_said(folder, tmp_path):
    """As when `--inpaint` brings SDXL Turbo into a recipe with ten steps and guidance."""
    shutil.copytree(folder, tmp_path / "turbo")
    file = tmp_path / "turbo" / "scheduler" / "scheduler_config.json"
    turbo = {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}
    file.write_text(json.dumps(tiny_sdxl.SCHEDULER | turbo))
    how, (said,) = sampled(SdxlCheckpoint(tmp_path / "turbo"), steps=10, guidance=7.5, spacing="leading")
    assert how.steps == 10
    for words in (
        "steps 10 instead of 4",
        "guidance 7.5 instead of 1",
        "spacing leading instead of trailing",
    ):
        assert words in said
    assert sampled(SdxlCheckpoint(tmp_path / "turbo"))[1] == []


# --- what is read


def test_a_single_file_without_the_parts_that_are_given_elsewhere(model, single, tmp_path):
    tensors = load_file(single)
    bare = tmp_path / "bare.safetensors"
    save_file({name: v for name, v in tensors.items() if name.startswith("conditioner.")}, bare)
    unet, vae = tmp_path / "unet.safetensors", tmp_path / "vae.safetensors"
    save_file(model.unet.state_dict(), unet)
    save_file(model.vae.state_dict(), vae)
    source = SdxlCheckpoint(bare, unet, vae)
    source.check()
    assert_same(source.unet(), model.unet)
    assert_same(source.vae(), model.vae)
    for lacking, given in (("UNet", {"vae_path": vae}), ("VAE", {"unet_path": unet})):
        with pytest.raises(ValueError, match=f"has no {lacking} of SDXL"):
            SdxlCheckpoint(bare, **given).check()


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "diffusion_model.", "unet."])
@pytest.mark.parametrize("names", ["original", "diffusers"])
def test_a_unet_alone_under_any_prefix(model, folder, tmp_path, prefix, names):
    state = tiny_sdxl.original_unet(model.unet) if names == "original" else model.unet.state_dict()
    tensors = {prefix + name: value.contiguous() for name, value in state.items()}
    save_file(tensors | {"v_pred": torch.zeros(1)}, tmp_path / "u.safetensors")
    source = SdxlCheckpoint(folder, unet_path=tmp_path / "u.safetensors")
    assert source.unet_config()["in_channels"] == 9
    assert source.scheduler()["prediction_type"] == "v_prediction"  # over that of the folder
    assert_same(source.unet(), model.unet)


@pytest.mark.parametrize("prefix", ["", "vae.", "first_stage_model."])
@pytest.mark.parametrize("names", ["original", "diffusers", "old"])
def test_a_vae_under_any_name(model, folder, tmp_path, prefix, names):
    make = {"original": lambda: tiny_sdxl.original_vae(model.vae), "diffusers": model.vae.state_dict}
    state = make[names]() if names in make else tiny_pasd.old_attention(model.vae.state_dict())
    save_file(
        {prefix + name: value.contiguous() for name, value in state.items()}, tmp_path / "v.safetensors"
    )
    assert_same(SdxlCheckpoint(folder, vae_path=tmp_path / "v.safetensors").vae(), model.vae)


@pytest.mark.parametrize("marked", [True, False])
def test_comfyuis_scaled_fp8(model, folder, tmp_path, marked):
    """Each weight is its FP8 value times its factor; the rest is as it was."""
    state, expected = {}, {}
    for name, value in tiny_sdxl.original_unet(model.unet).items():
        value = value.contiguous()
        if name.endswith(".weight") and value.ndim >= 2:
            factor = value.abs().max() / 448
            small = (value / factor).to(torch.float8_e4m3fn)
            state |= {name: small, name.replace(".weight", ".scale_weight"): factor.reshape(1)}
            state[name.replace(".weight", ".scale_input")] = torch.ones(1)
            expected[name] = small.double() * factor.double()
        else:
            state[name] = expected[name] = value
    if marked:
        state["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(state, tmp_path / "fp8.safetensors")
    got = read_tensors(tmp_path / "fp8.safetensors")
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name].double(), value.double(), rtol=1e-6, atol=0)
    unet = SdxlCheckpoint(folder, unet_path=tmp_path / "fp8.safetensors").unet()
    name = "mid_block.resnets.0.conv1.weight"
    torch.testing.assert_close(
        unet.state_dict()[name],
        model.unet.state_dict()[name],
        rtol=0.07,
        atol=float(unet.state_dict()[name].abs().max()) / 400,
    )


def as_pickles(folder):
    """Every safetensors file of a pipeline as the older .bin, with the names that go with it."""
    for file in [*folder.rglob("*.safetensors")]:
        name = file.name.replace(".safetensors", ".bin")
        torch.save(load_file(file), file.with_name(f"pytorch_{name}" if name.startswith("model") else name))
        file.unlink()


@pytest.mark.parametrize("half", [True, False])
def test_folders_of_pickles_in_half_precision_too(model, tmp_path, half):
    folder = tiny_sdxl.save_folder(model, tmp_path / "sdxl", half)
    as_pickles(folder)
    variant = ".fp16" if half else ""
    assert (folder / "unet" / f"diffusion_pytorch_model{variant}.bin").is_file()
    source = SdxlCheckpoint(folder)
    for got, expected in ((source.unet(), model.unet), (source.text_encoders()[1], model.second)):
        for name, value in expected.state_dict().items():
            wanted = value.half().float() if half and value.is_floating_point() else value
            assert torch.equal(got.state_dict()[name], wanted)


def test_of_a_hub_pickles_come_where_there_is_nothing_else(model, tmp_path, monkeypatch):
    hub = FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    folder = tiny_sdxl.save_folder(model, hub.root / "o" / "old", half=True)
    as_pickles(folder)
    assert_same(SdxlCheckpoint(pipeline_path("o/old", lambda line: None)).vae(), model.vae.half().float())
    assert "vae/diffusion_pytorch_model.fp16.bin" in hub.fetched
    model.vae.float()


# --- LoRAs


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.down_blocks.1.attn.to_q.lora_{}.default_0.weight",
        "unet.down_blocks.1.attn.to_q.lora_{}.default.weight",
        "diffusion_pytorch_model.down_blocks.1.attn.to_q.lora_{}.weight",
    ],
)
def test_layouts_of_loras(tmp_path, name):
    down, up = torch.randn(4, 8), torch.randn(16, 4)
    save_file({name.format("A"): down, name.format("B"): up}, tmp_path / "x.safetensors")
    ((layer, update),) = read_lora(tmp_path / "x.safetensors").updates.items()
    assert layer == ("unet", "down_blocks.1.attn.to_q")
    assert torch.equal(update.down, down)
    assert torch.equal(update.up, up)


def test_a_lora_by_its_own_name_on_the_hub(tmp_path, monkeypatch):
    hub = FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    for name in ("styles/mine.safetensors", "other.safetensors"):
        path = hub.root / "owner" / "loras" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights of mine, not empty")
    found = locate_lora("owner/loras/styles/mine.safetensors", lambda line: None)
    assert found.read_bytes() == b"weights of mine, not empty"
    assert hub.fetched == ["styles/mine.safetensors"]
    with pytest.raises(ValueError, match=r"has no file 'none\.safetensors'"):
        locate_lora("owner/loras/none.safetensors", lambda line: None)


# --- PASD


def test_a_pasd_with_noise_of_its_own(tmp_path):
    """`pasd_color` starts from zero signal, as its `scheduler` says; without that it is refused by its name."""
    folder = tiny_pasd.save_pasd(tmp_path / "pasd_color" / "checkpoint-180000", "flat", light=True)
    with pytest.raises(ValueError, match="whose noise is told by a folder 'scheduler'"):
        PasdCheckpoint.find(str(folder)).scheduler()
    (folder / "scheduler").mkdir()
    file = folder / "scheduler" / "scheduler_config.json"
    own = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True}
    file.write_text(json.dumps(own))
    with pytest.raises(ValueError, match="zero signal"):
        _noise(PasdCheckpoint.find(str(folder)).scheduler(), print)
    said = []
    file.write_text(
        json.dumps(
            {**own, "rescale_betas_zero_snr": False, "beta_end": 0.02, "prediction_type": "v_prediction"}
        )
    )
    noise = _noise(PasdCheckpoint.find(str(folder)).scheduler(), said.append)
    assert noise == {"prediction": "v_prediction", "schedule": SCHEDULE | {"beta_end": 0.02}}
    assert said == ["the PASD has a scheduler of its own: stage 2 is run with its noise"]
    assert _noise({}, print) == {"prediction": "epsilon", "schedule": SCHEDULE}


@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("unet", {"only_cross_attention": True}),
        ("unet", {"class_embed_type": "timestep"}),
        ("unet", {"norm_eps": 1e-6}),
        ("unet", {"invented_attention": True}),
        ("controlnet", {"controlnet_conditioning_channel_order": "bgr"}),
        ("controlnet", {"act_fn": "gelu"}),
    ],
)
def test_settings_that_the_graph_would_ignore_are_refused(tmp_path, part, settings):
    folder = tiny_pasd.save_pasd(tmp_path / "p", "flat")
    file = folder / part / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    with pytest.raises(ValueError, match=f"sets '{next(iter(settings))}' to") as error:
        PasdCheckpoint.find(str(folder)).load()
    assert "\n" not in str(error.value)


def test_settings_of_stable_diffusion_written_out_are_fine(tmp_path):
    folder = tiny_pasd.save_pasd(tmp_path / "p", "flat")
    file = folder / "unet" / "config.json"
    usual = {"only_cross_attention": False, "class_embed_type": None, "norm_eps": 1e-5, "new_and_off": False}
    file.write_text(json.dumps(json.loads(file.read_text()) | usual))
    PasdCheckpoint.find(str(folder)).load()


def test_a_base_in_the_published_layout(tmp_path):
    base = Sd15.find(str(tiny_pasd.published_base(tmp_path / "sd15")))
    for got, expected in ((base.vae(), tiny_pasd.vae()), (base.text_encoder(), tiny_pasd.text_encoder())):
        wanted = expected.state_dict()
        for name, value in got.state_dict().items():
            if value.is_floating_point():
                assert torch.equal(value, wanted[name].half().float()), name


def test_of_a_hub_half_precision_comes_where_there_is_nothing_else(tmp_path, monkeypatch):
    hub = FakeHub(monkeypatch, tmp_path / "hub", tmp_path / "cache")
    tiny_pasd.published_base(hub.root / "o" / "sd15")
    base = Sd15.find("o/sd15", say=lambda line: None)
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in hub.fetched
    assert base.text_encoder().config.vocab_size == tiny_pasd.VOCABULARY
