"""Fused LoRA against W + scale * alpha / rank * up @ down in float64, in every key layout."""

import json

import pytest
import torch
from safetensors.torch import save_file

from grefine_export.models.lora import fuse, locate_lora, original_names, parse_lora, read_lora
from tests.support import tiny_sdxl

RANK, ALPHA = 3, 1.5
UNET = (
    "conv_in",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.downsamplers.0.conv",
    "down_blocks.1.resnets.0.time_emb_proj",
    "down_blocks.1.resnets.0.conv_shortcut",
    "down_blocks.1.attentions.0.proj_in",
    "down_blocks.2.attentions.0.transformer_blocks.1.attn1.to_q",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_k",
    "mid_block.resnets.1.conv2",
    "up_blocks.0.attentions.1.transformer_blocks.1.attn2.to_out.0",
    "up_blocks.1.upsamplers.0.conv",
    "up_blocks.2.resnets.1.conv_shortcut",
    "up_blocks.0.attentions.0.transformer_blocks.0.ff.net.0.proj",
)
ATTENTION = tuple(name for name in UNET if ".attn" in name)
TEXT = (
    "encoder.layers.0.self_attn.q_proj",
    "encoder.layers.1.self_attn.out_proj",
    "encoder.layers.1.mlp.fc1",
)
PARTS = ("unet", "text_encoder", "text_encoder_2")


@pytest.fixture
def modules():
    """By part; `text_model.` is in the names of the second text encoder's module alone."""
    first, second = tiny_sdxl.texts()
    return dict(zip(PARTS, (tiny_sdxl.unet(), first, second), strict=True))


def layers(part):
    prefix = "text_model." if part == "text_encoder_2" else ""
    return UNET if part == "unet" else tuple(prefix + name for name in TEXT)


def pair(weight, generator):
    """Random factors as they are stored for a layer of this weight."""
    if weight.ndim == 4:
        down = torch.randn(RANK, *weight.shape[1:], generator=generator)
        return down, torch.randn(len(weight), RANK, 1, 1, generator=generator)
    return torch.randn(RANK, weight.shape[1], generator=generator), torch.randn(
        len(weight), RANK, generator=generator
    )


def factors(modules, names=layers):
    generator = torch.Generator().manual_seed(4)
    return {
        (part, name): pair(module.get_submodule(name).weight, generator)
        for part, module in modules.items()
        for name in names(part)
    }


def outer(part, name):
    """With the outer name that files have for both text encoders."""
    return name if part == "unet" or name.startswith("text_model.") else f"text_model.{name}"


def kohya(modules, made, original=False):
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"}
    names = dict(original_names(modules["unet"]))
    state = {}
    for (part, name), (down, up) in made.items():
        name = names[name] if original and part == "unet" else outer(part, name)
        key = prefixes[part] + name.replace(".", "_")
        state |= {
            f"{key}.lora_down.weight": down,
            f"{key}.lora_up.weight": up,
            f"{key}.alpha": torch.tensor(ALPHA),
        }
    return state


def peft(_modules, made):
    state = {}
    for (part, name), (down, up) in made.items():
        key = f"{part}.{outer(part, name)}"
        state |= {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up}
    return state


def diffusers_new(_modules, made):
    state = {}
    for (part, name), (down, up) in made.items():
        key = f"{part}.{outer(part, name)}.{'lora' if part == 'unet' else 'lora_linear_layer'}"
        state |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
    return state


def diffusers_old(_modules, made):
    """Attention processors in the UNet, `to_q_lora` in all parts."""
    names = {"q_proj": "to_q", "out_proj": "to_out", "to_out.0": "to_out"}
    state = {}
    for (part, name), (down, up) in made.items():
        for new, old in names.items():
            name = name.removesuffix(new) + old if name.endswith(new) else name
        name = outer(part, name).replace("attn1.", "attn1.processor.").replace("attn2.", "attn2.processor.")
        state |= {f"{part}.{name}_lora.down.weight": down, f"{part}.{name}_lora.up.weight": up}
    return state


LAYOUTS = {
    "kohya": (kohya, ALPHA),
    "kohya, original names": (lambda modules, made: kohya(modules, made, original=True), ALPHA),
    "peft": (peft, RANK),
    "diffusers": (diffusers_new, RANK),
    "diffusers, old": (diffusers_old, RANK),
}


def expected(weight, down, up, scale, alpha):
    product = up.double().flatten(1) @ down.double().flatten(1)
    return weight.double() + scale * alpha / RANK * product.view(weight.shape)


def weights(modules):
    return {
        (part, name): value.detach().clone()
        for part, module in modules.items()
        for name, value in module.state_dict().items()
    }


def saved(state, path, metadata=None):
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fused_weights(modules, tmp_path, layout):
    write, alpha = LAYOUTS[layout]

    def names(part):
        if "old" not in layout:
            return layers(part)
        return ATTENTION if part == "unet" else tuple(n for n in layers(part) if "attn" in n)

    made = factors(modules, names)
    lora = read_lora(saved(write(modules, made), tmp_path / "lora.safetensors"))
    before = weights(modules)
    changed = {part: fuse(module, lora, part, 0.7) for part, module in modules.items()}
    assert changed == {part: len(names(part)) for part in PARTS}
    after = weights(modules)
    for (part, name), value in before.items():
        layer = (part, name.removesuffix(".weight"))
        wanted = expected(value, *made[layer], 0.7, alpha) if layer in made else value.double()
        torch.testing.assert_close(after[part, name].double(), wanted, rtol=0, atol=2e-6)
        assert layer not in made or (wanted - value.double()).abs().max() > 0.1


def test_several_add_up(modules, tmp_path):
    made = factors(modules)
    first = read_lora(saved(kohya(modules, made), tmp_path / "a.safetensors"))
    second = read_lora(saved(peft(modules, made), tmp_path / "b.safetensors"))
    name = UNET[6]
    weight = modules["unet"].get_submodule(name).weight
    before = weight.detach().clone()
    fuse(modules["unet"], first, "unet", 1.0)
    fuse(modules["unet"], second, "unet", -0.25)
    once = expected(before, *made["unet", name], 1.0, ALPHA)
    torch.testing.assert_close(
        weight.double(), expected(once, *made["unet", name], -0.25, RANK), rtol=0, atol=2e-6
    )


def test_half_precision_files_and_weights(modules, tmp_path):
    made = factors(modules)
    half = {name: value.half() for name, value in kohya(modules, made).items()}
    lora = read_lora(saved(half, tmp_path / "lora.safetensors"))
    unet, name = modules["unet"].half(), UNET[6]
    before = unet.get_submodule(name).weight.detach().clone()
    fuse(unet, lora, "unet", 1.0)
    weight = unet.get_submodule(name).weight
    assert weight.dtype == torch.float16
    down, up = (value.half() for value in made["unet", name])
    torch.testing.assert_close(weight.double(), expected(before, down, up, 1.0, ALPHA), rtol=1e-3, atol=1e-3)


def test_alpha_of_the_metadata(modules, tmp_path):
    name = UNET[6]
    made = {
        key: value for key, value in factors(modules).items() if key in (("unet", name), ("unet", UNET[7]))
    }
    metadata = {"unet.lora_alpha": 6, "unet.r": RANK, "unet.alpha_pattern": {UNET[7].partition(".")[2]: 1}}
    path = saved(
        peft(modules, made), tmp_path / "lora.safetensors", {"lora_adapter_metadata": json.dumps(metadata)}
    )
    updates = read_lora(path).updates
    assert updates["unet", name].factor == pytest.approx(6 / RANK)
    assert updates["unet", UNET[7]].factor == pytest.approx(1 / RANK)


def test_alpha_of_the_settings_that_peft_keeps_beside_the_file(modules, tmp_path):
    name = UNET[6]
    made = {key: value for key, value in factors(modules).items() if key == ("unet", name)}
    names = {"lora_A": "down", "lora_B": "up"}
    tensors = {
        f"base_model.model.{name}.{half}.weight": made["unet", name][index]
        for index, half in enumerate(names)
    }
    path = saved(tensors, tmp_path / "adapter_model.safetensors")
    assert read_lora(path).updates["unet", name].factor == 1
    settings = tmp_path / "adapter_config.json"
    settings.write_text(json.dumps({"lora_alpha": 6, "r": RANK, "alpha_pattern": None}))
    assert read_lora(path).updates["unet", name].factor == pytest.approx(6 / RANK)
    settings.write_text(json.dumps({"lora_alpha": None}))
    assert read_lora(path).updates["unet", name].factor == 1
    settings.write_text(json.dumps({"lora_alpha": 6, "use_rslora": True}))
    assert read_lora(saved(tensors, tmp_path / "style.safetensors")).updates["unet", name].factor == 1
    with pytest.raises(ValueError, match="use_rslora"):
        read_lora(path)
    settings.write_text("[")
    with pytest.raises(ValueError, match=r"adapter_config\.json' is no JSON"):
        read_lora(path)


@pytest.mark.parametrize("key", ["use_dora", "use_rslora"])
def test_metadata_of_another_kind(modules, tmp_path, key):
    metadata = {"lora_adapter_metadata": json.dumps({f"unet.{key}": True})}
    path = saved(peft(modules, factors(modules)), tmp_path / "lora.safetensors", metadata)
    with pytest.raises(ValueError, match=key):
        read_lora(path)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_conv_in.hada_w1_a", "LoHa"),
        ("lora_unet_conv_in.lokr_w1", "LoKr"),
        ("lora_unet_conv_in.dora_scale", "DoRA"),
        ("unet.conv_in.lora_magnitude_vector.weight", "DoRA"),
        ("lora_unet_conv_in.lora_mid.weight", "three factors"),
        ("unet.conv_in.weight", "unknown layout"),
    ],
)
def test_other_kinds(modules, tmp_path, key, kind):
    state = kohya(modules, factors(modules)) | {key: torch.zeros(2, 2)}
    with pytest.raises(ValueError, match=kind) as error:
        read_lora(saved(state, tmp_path / "lora.safetensors"))
    assert key in str(error.value)
    assert "\n" not in str(error.value)


def test_half_a_pair(modules, tmp_path):
    state = kohya(modules, factors(modules))
    del state["lora_unet_conv_in.lora_up.weight"]
    with pytest.raises(ValueError, match="one half of 'conv_in'"):
        read_lora(saved(state, tmp_path / "lora.safetensors"))


def test_no_lora_in_it(tmp_path):
    with pytest.raises(ValueError, match="holds no LoRA"):
        read_lora(saved({"lora_unet_conv_in.alpha": torch.ones(())}, tmp_path / "lora.safetensors"))


def test_of_another_architecture(modules, tmp_path):
    down, up = torch.zeros(2, 8), torch.zeros(8, 2)
    flux = {"transformer.blocks.0.lora_A.weight": down, "transformer.blocks.0.lora_B.weight": up}
    with pytest.raises(ValueError, match="SDXL has not"):
        read_lora(saved(flux, tmp_path / "flux.safetensors"))
    unknown = {"lora_unet_blocks_9.lora_down.weight": down, "lora_unet_blocks_9.lora_up.weight": up}
    lora = read_lora(saved(unknown, tmp_path / "unknown.safetensors"))
    with pytest.raises(ValueError, match="which the unet has not"):
        fuse(modules["unet"], lora, "unet", 1.0)
    key = "lora_unet_" + UNET[6].replace(".", "_")
    sd15 = {f"{key}.lora_down.weight": torch.zeros(2, 320), f"{key}.lora_up.weight": torch.zeros(320, 2)}
    lora = read_lora(saved(sd15, tmp_path / "sd15.safetensors"))
    with pytest.raises(ValueError, match="320 x 320, but the unet has 64 x 64"):
        fuse(modules["unet"], lora, "unet", 1.0)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.safetensors:0.6", ("a.safetensors", 0.6)),
        ("a.safetensors", ("a.safetensors", 1.0)),
        ("owner/name:-1", ("owner/name", -1.0)),
        ("C:\\a.safetensors", ("C:\\a.safetensors", 1.0)),
        ("C:\\a.safetensors:2", ("C:\\a.safetensors", 2.0)),
    ],
)
def test_file_and_scale(text, wanted):
    assert parse_lora(text) == wanted


def test_where_it_lies(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no LoRA"):
        locate_lora(str(tmp_path / "none.safetensors"))
    file = tmp_path / "pytorch_lora_weights.safetensors"
    file.write_bytes(b"")
    assert locate_lora(str(tmp_path)) == file
