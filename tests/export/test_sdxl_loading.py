"""SDXL from every file layout: the same weights, and one clear sentence for what is no SDXL."""

import json
import random
import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from grefine_export.models import sdxl_loading
from grefine_export.models.sd_tokenizer import read_sd_tokenizer
from grefine_export.models.sdxl_loading import SdxlCheckpoint, pipeline_path
from grefine_rt.text.tokenizer import PromptTokenizer
from tests.support import clip_files, tiny_sdxl


@pytest.fixture(scope="module")
def model():
    return tiny_sdxl.Model()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return tiny_sdxl.save_folder(model, tmp_path_factory.mktemp("sdxl") / "pipeline")


@pytest.fixture(scope="module")
def single(model, tmp_path_factory):
    return tiny_sdxl.save_single(model, tmp_path_factory.mktemp("sdxl") / "model.safetensors")


def assert_same(got, expected, half=False):
    got, expected = got.state_dict(), expected.state_dict()
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        value = value.half().float() if half and value.is_floating_point() else value
        assert torch.equal(got[name], value), name


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize("layout", ["folder", "sharded", "single"])
def test_every_layout_gives_the_same_modules(model, tmp_path, layout, half):
    path = tmp_path / "model.safetensors"
    if layout == "single":
        tiny_sdxl.save_single(model, path, half)
    else:
        tiny_sdxl.save_folder(model, path, half, shards=1 if layout == "folder" else 3)
    source = SdxlCheckpoint(path)
    source.check()
    unet, vae, texts = source.unet(), source.vae(), source.text_encoders()
    for got, expected in (
        (unet, model.unet),
        (vae, model.vae),
        (texts[0], model.first),
        (texts[1], model.second),
    ):
        assert_same(got, expected, half)
    for got, expected in ((unet, model.unet), (vae, model.vae)):
        for key, value in expected.config.items():
            if not key.startswith("_"):
                found = got.config[key]
                assert (list(found) == list(value)) if isinstance(value, (list, tuple)) else found == value, (
                    key
                )
    assert [text.config.hidden_act for text in texts] == ["quick_gelu", "gelu"]
    assert source.vocabularies() == (tiny_sdxl.VOCABULARY,) * 2
    assert source.unet_config()["in_channels"] == 9


def test_modules_of_a_single_file_run_as_the_originals(model, single):
    ids = torch.randint(0, 500, (2, 77))
    ids[:, -1] = tiny_sdxl.VOCABULARY - 1
    with torch.no_grad():
        for got, expected in zip(
            SdxlCheckpoint(single).text_encoders(), (model.first, model.second), strict=True
        ):
            assert torch.equal(got(ids)[0], expected(ids)[0])


def test_the_written_names_are_those_of_published_files(single):
    names = load_file(single).keys()
    unet = "model.diffusion_model"
    assert {
        f"{unet}.input_blocks.0.0.weight",
        f"{unet}.input_blocks.2.0.op.weight",
        f"{unet}.input_blocks.3.1.transformer_blocks.0.attn2.to_out.0.bias",
        f"{unet}.middle_block.1.proj_in.weight",
        f"{unet}.output_blocks.1.2.conv.weight",
        f"{unet}.output_blocks.0.0.skip_connection.weight",
        f"{unet}.label_emb.0.2.weight",
        f"{unet}.out.2.bias",
        "first_stage_model.encoder.down.0.block.0.conv1.weight",
        "first_stage_model.decoder.up.3.upsample.conv.weight",
        "first_stage_model.decoder.mid.attn_1.proj_out.weight",
        "conditioner.embedders.0.transformer.text_model.encoder.layers.1.self_attn.q_proj.weight",
        "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight",
        "conditioner.embedders.1.model.text_projection",
    } <= names


def test_another_unet_and_vae(model, folder, tmp_path):
    unet, vae = tiny_sdxl.unet(4, seed=9), tiny_sdxl.vae(seed=9)
    tiny_sdxl.save_unet(unet, tmp_path / "unet", half=True)
    save_file(unet.state_dict(), tmp_path / "unet.safetensors")
    tiny_sdxl.save_vae(vae, tmp_path / "pipeline" / "vae")
    bare = {name: value.contiguous() for name, value in tiny_sdxl.original_vae(vae).items()}
    save_file(bare, tmp_path / "vae.safetensors")
    save_file(vae.state_dict(), tmp_path / "vae_diffusers.safetensors")
    for file, half in (("unet", True), ("unet.safetensors", False)):
        source = SdxlCheckpoint(folder, unet_path=tmp_path / file)
        assert_same(source.unet(), unet, half)
        assert source.unet_config()["in_channels"] == 4
        assert_same(source.vae(), model.vae)
    for file in ("pipeline", "vae.safetensors", "vae_diffusers.safetensors"):
        source = SdxlCheckpoint(folder, vae_path=tmp_path / file)
        assert_same(source.vae(), vae)
        assert source.vae().config.scaling_factor == pytest.approx(0.13025)


def test_a_consistency_unet_in_a_file(folder, tmp_path):
    unet = tiny_sdxl.unet(4, time_cond_proj_dim=24)
    save_file(unet.state_dict(), tmp_path / "lcm.safetensors")
    source = SdxlCheckpoint(folder, unet_path=tmp_path / "lcm.safetensors")
    assert source.unet_config()["time_cond_proj_dim"] == 24
    assert_same(source.unet(), unet)


def test_parts_change_with_their_files(folder, single, tmp_path):
    other = tmp_path / "vae.safetensors"
    other.write_bytes(b"x")
    source = SdxlCheckpoint(folder, vae_path=other)
    assert source.files("vae") == [other]
    assert {file.parent.name for file in source.files("text")} == {"text_encoder", "text_encoder_2"}
    assert {file.parent.name for file in source.files("unet")} == {"unet"}
    assert SdxlCheckpoint(single).files("unet") == [single]


# --- what cannot be used


def sentence(error):
    text = str(error.value)
    assert "\n" not in text
    assert ": " in text
    return text


def everything(path, **parts):
    source = SdxlCheckpoint(path, **parts)
    source.check()
    source.vocabularies()
    source.unet_config()
    source.unet(), source.vae(), source.text_encoders()


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        pipeline_path(str(tmp_path / "none"))


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(ValueError, match="no SDXL pipeline") as error:
        everything(tmp_path)
    sentence(error)


def test_stable_diffusion_1_5(folder, single, tmp_path):
    shutil.copytree(folder, tmp_path / "sd15")
    shutil.rmtree(tmp_path / "sd15" / "text_encoder_2")
    with pytest.raises(ValueError, match=r"Stable Diffusion 1\.5") as error:
        everything(tmp_path / "sd15")
    sentence(error)
    names = {"cond_stage_model.transformer.text_model.final_layer_norm.bias": torch.zeros(1)}
    save_file(names, tmp_path / "sd15.safetensors")
    with pytest.raises(ValueError, match=r"Stable Diffusion 1\.5"):
        everything(tmp_path / "sd15.safetensors")


def test_a_unet_alone_is_no_checkpoint(model, tmp_path):
    save_file(model.unet.state_dict(), tmp_path / "unet.safetensors")
    with pytest.raises(ValueError, match="--unet") as error:
        everything(tmp_path / "unet.safetensors")
    sentence(error)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder_2"])
def test_cut_off_weights_in_a_folder(folder, tmp_path, part):
    shutil.copytree(folder, tmp_path / "cut")
    (file,) = (tmp_path / "cut" / part).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="cannot be loaded as") as error:
        everything(tmp_path / "cut")
    assert part in sentence(error)


def test_a_cut_off_file(single, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(single.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="fetch it again") as error:
        everything(tmp_path / "cut.safetensors")
    sentence(error)


@pytest.mark.parametrize(
    "lost",
    [
        "model.diffusion_model.output_blocks.2.0.in_layers.2.weight",
        "model.diffusion_model.label_emb.0.0.weight",
        "first_stage_model.decoder.conv_in.weight",
        "first_stage_model.encoder.mid.block_1.conv1.bias",
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight",
        "conditioner.embedders.1.model.ln_final.bias",
        "conditioner.embedders.1.model.token_embedding.weight",
    ],
)
def test_a_lost_weight_in_a_file(single, tmp_path, lost):
    tensors = load_file(single)
    del tensors[lost]
    save_file(tensors, tmp_path / "lost.safetensors")
    with pytest.raises(ValueError, match=r"fetch it again|give (a whole |an )?SDXL") as error:
        everything(tmp_path / "lost.safetensors")
    sentence(error)


def test_a_lost_weight_in_a_folder(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "lost")
    (file,) = (tmp_path / "lost" / "unet").glob("*.safetensors")
    tensors = load_file(file)
    del tensors["mid_block.resnets.0.conv1.weight"]
    save_file(tensors, file)
    with pytest.raises(ValueError, match=r"mid_block\.resnets\.0\.conv1\.weight") as error:
        everything(tmp_path / "lost")
    sentence(error)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"in_channels": 8}, "takes 8 channels"),
        ({"out_channels": 8}, "gives 8"),
        ({"addition_embed_type": None}, "picture sizes"),
    ],
)
def test_a_unet_of_another_kind(folder, tmp_path, changes, problem):
    shutil.copytree(folder, tmp_path / "other")
    file = tmp_path / "other" / "unet" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(ValueError, match=problem) as error:
        everything(tmp_path / "other")
    sentence(error)


def test_a_vae_of_another_kind(folder, tmp_path):
    vae = tiny_sdxl.AutoencoderKL(
        block_out_channels=(32, 32),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    tiny_sdxl.save_vae(vae, tmp_path / "vae")
    with pytest.raises(ValueError, match="eighth") as error:
        SdxlCheckpoint(folder, vae_path=tmp_path / "vae").vae()
    sentence(error)


# --- the hub

HUB = [
    "README.md",
    "model_index.json",
    "sd_xl_turbo_1.0.safetensors",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/model.onnx",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    "vae_1_0/diffusion_pytorch_model.fp16.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.safetensors",
    "text_encoder/pytorch_model.bin",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "scheduler/scheduler_config.json",
]


def test_of_a_hub_each_part_is_fetched_once(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(sdxl_loading, "file_names", lambda *_: HUB)
    monkeypatch.setattr(sdxl_loading, "fetch", lambda *request: asked.append(request) or tmp_path)
    assert pipeline_path("someone/turbo", print) == tmp_path
    ((repo, revision, names, _),) = asked
    assert (repo, revision) == ("someone/turbo", None)
    assert set(names) == {
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "scheduler/scheduler_config.json",
    }


def test_a_hub_without_a_diffusers_model(monkeypatch):
    files = ["README.md", "sdxl_lightning_4step.safetensors"]
    monkeypatch.setattr(sdxl_loading, "file_names", lambda *_: files)
    with pytest.raises(ValueError, match="not laid out for diffusers") as error:
        pipeline_path("someone/lightning", print)
    sentence(error)


def test_without_a_hub(monkeypatch, tmp_path):
    import huggingface_hub

    def unreachable(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", unreachable)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(FileNotFoundError, match="cannot be had from the hub") as error:
        pipeline_path("someone/sdxl", print)
    sentence(error)


# --- tokenizers

PIECES = (
    "good", "bad", "photo", "sharp red cat", "RED", "naïve", "漢字", "🐈", "!", "!!", "?!", "it's", "1024", "x,y",
    "(red cat:1.2)", "<lora:a:1>", "\n", "\t ", "e\u0301", "'re", "_", "-", "½", "",
)  # fmt: skip


@pytest.mark.parametrize("name", ["tokenizer", "tokenizer_2"])
def test_ids_are_transformers_own(folder, tmp_path, name):
    read_sd_tokenizer(folder / name, tiny_sdxl.VOCABULARY).save(str(tmp_path / "t.json"))
    own = PromptTokenizer.from_file(tmp_path / "t.json", 77)
    reference = CLIPTokenizer.from_pretrained(folder / name)
    draw = random.Random(5)
    prompts = [
        "".join(draw.choice((" ", "")) + draw.choice(PIECES) for _ in range(n % 40)) for n in range(1000)
    ]
    expected = reference(prompts, padding="max_length", truncation=True, max_length=77).input_ids
    assert [own.encode(prompt).tolist() for prompt in prompts] == expected


def test_both_tokenizers_pad_differently(folder, tmp_path):
    pads = []
    for name in ("tokenizer", "tokenizer_2"):
        read_sd_tokenizer(folder / name, tiny_sdxl.VOCABULARY).save(str(tmp_path / "t.json"))
        pads.append(PromptTokenizer.from_file(tmp_path / "t.json", 77).encode("cat")[-1])
    assert pads == [tiny_sdxl.VOCABULARY - 1, 0]


def test_padding_is_read_from_either_file(tmp_path):
    files = clip_files.small_tokenizer_files(tmp_path / "t")
    vocabulary = clip_files.VOCABULARY
    assert read_sd_tokenizer(files, vocabulary).padding["pad_token"] == "<|endoftext|>"
    assert read_sd_tokenizer(files, vocabulary, pad="!").padding["pad_id"] == 0
    (files / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "!"}}))
    assert read_sd_tokenizer(files, vocabulary).padding["pad_token"] == "!"
    (files / "special_tokens_map.json").write_text("{")
    with pytest.raises(ValueError, match=re.escape("special_tokens_map.json")):
        read_sd_tokenizer(files, vocabulary)
    (files / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<none>"}))
    with pytest.raises(ValueError, match="no token '<none>'"):
        read_sd_tokenizer(files, vocabulary)
