"""Random PASD checkpoints and a Stable Diffusion 1.5, small, in the files and under the names of the published ones."""

import json

import torch
from diffusers import AutoencoderKL, ControlNetModel, Transformer2DModel, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from tests.support.clip_files import small_tokenizer_files

WIDTH, VOCABULARY = 64, 560
LEVELS = {
    "block_out_channels": [32, 32, 64, 64],
    "layers_per_block": 2,
    "norm_num_groups": 16,
    "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 2,
}
UP = {"up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}
FLAT = {
    **LEVELS,
    "block_out_channels": [16, 32],
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
}
FLAT_UP = {"up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
SIZES = {"sd15": (LEVELS, UP), "flat": (FLAT, FLAT_UP)}
"""The block types of SD1.5, and a shallow one that is exported in seconds."""
EMBEDDING = [8, 8, 16, 16]
VAE = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [32, 32, 32, 32],
    "layers_per_block": 1,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}


def randomized(module, seed):
    """Every weight has a say, and activations stay of the order of 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(generator=generator)
            if "norm" in name:
                parameter.mul_(0.1).add_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith("bias"):
                parameter.mul_(0.1)
            else:
                parameter.mul_(0.7 * parameter[0].numel() ** -0.5)
    return module.eval().requires_grad_(False)


def skip_widths(unet):
    """Of each up block: channels of the skips, in the order in which its ResNet blocks take them."""
    widths = [unet.conv_in.out_channels]
    for block in unet.down_blocks:
        widths += [resnet.out_channels for resnet in block.resnets]
        widths += [sampler.conv.out_channels for sampler in block.downsamplers or ()]
    return [[widths.pop() for _ in block.resnets] for block in unet.up_blocks]


def states(size="sd15", light=False, rrdb=False):
    """(UNet, ControlNet): name -> tensor, under the names of the published checkpoints."""
    blocks, up = SIZES[size]
    plain = randomized(UNet2DConditionModel(**blocks, **up), 1)
    control = ControlNetModel(**blocks, conditioning_embedding_out_channels=EMBEDDING)
    unet, controlnet = dict(plain.state_dict()), dict(randomized(control, 2).state_dict())
    generator = torch.Generator().manual_seed(3)

    def weight(*shape):
        fan = torch.Size(shape[1:]).numel() if len(shape) > 1 else 100
        return torch.randn(*shape, generator=generator) * 0.7 * fan**-0.5

    for level, widths in enumerate(skip_widths(plain)):
        out = plain.up_blocks[level].resnets[0].out_channels
        for layer, width in enumerate(widths):
            if not light:
                heads = blocks["attention_head_dim"]
                groups = blocks["norm_num_groups"]
                paca = Transformer2DModel(
                    heads, out // heads, out, cross_attention_dim=width, norm_num_groups=groups
                )
                prefix = f"up_blocks.{level}.pixel_attentions.{layer}"
                paca = randomized(paca, 10 * level + layer).state_dict()
                unet |= {f"{prefix}.{name}": value for name, value in paca.items()}
            elif up["up_block_types"][level] == "CrossAttnUpBlock2D":
                prefix = f"up_blocks.{level}.attentions.{layer}"
                block = f"{prefix}.transformer_blocks.0"
                unet |= {
                    f"{prefix}.proj_in_plus.weight": weight(width, width, 1, 1),
                    f"{prefix}.proj_in_plus.bias": weight(width),
                    f"{block}.norm2_plus.weight": 1 + weight(out),
                    f"{block}.norm2_plus.bias": weight(out),
                    f"{block}.attn2_plus.to_q.weight": weight(out, out),
                    f"{block}.attn2_plus.to_k.weight": weight(out, width),
                    f"{block}.attn2_plus.to_v.weight": weight(out, width),
                    f"{block}.attn2_plus.to_out.0.weight": weight(out, out),
                    f"{block}.attn2_plus.to_out.0.bias": weight(out),
                }
    for index, width in enumerate(EMBEDDING[1:]):
        controlnet[f"controlnet_cond_embedding.to_rgbs.{index}.weight"] = weight(3, width, 3, 3)
        controlnet[f"controlnet_cond_embedding.to_rgbs.{index}.bias"] = weight(3)
    first = EMBEDDING[0]
    for block in range(2 if rrdb else 0):  # type: ignore[assignment]
        for dense in (1, 2, 3):
            for number in range(1, 6):
                name = f"controlnet_cond_embedding.preprocesser.{block}.rdb{dense}.conv{number}"
                controlnet[f"{name}.weight"] = weight(first, number * first, 3, 3)
                controlnet[f"{name}.bias"] = weight(first)
    return unet, controlnet


def save_pasd(folder, size="sd15", light=False, rrdb=False, kind="safetensors", more=None):
    """checkpoint-N with `unet` and `controlnet`; `more`: further entries of the UNet's configuration."""
    blocks, up = SIZES[size]
    unet, controlnet = states(size, light, rrdb)
    about = {"_diffusers_version": "0.18.0.dev0", "act_fn": "silu"}
    embedding = {"conditioning_embedding_out_channels": EMBEDDING, "return_rgbs": True, "use_rrdb": rrdb}
    for part, config, state in (
        ("unet", {**blocks, **up, **(more or {}), "_class_name": "UNet2DConditionModel"}, unet),
        ("controlnet", {**blocks, **embedding, "_class_name": "ControlNetModel"}, controlnet),
    ):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(about | config))
        file = folder / part / f"diffusion_pytorch_model.{kind}"
        save_file(state, file) if kind == "safetensors" else torch.save(state, file)
    return folder


def vae():
    return randomized(AutoencoderKL(**VAE), 5)


def text_encoder():
    config = CLIPTextConfig(
        hidden_size=WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=1,
        vocab_size=VOCABULARY,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
    )
    return randomized(CLIPTextModel(config), 6)


def base_unet(size="sd15"):
    """The UNet of a personalised model: not PASD's weights."""
    blocks, up = SIZES[size]
    return randomized(UNet2DConditionModel(**blocks, **up), 7)


def save_base(folder, size="sd15"):
    """A Stable Diffusion 1.5 as a diffusers folder."""
    vae().save_pretrained(folder / "vae")
    text_encoder().save_pretrained(folder / "text_encoder")
    base_unet(size).save_pretrained(folder / "unet")
    small_tokenizer_files(folder / "tokenizer", VOCABULARY)
    return folder


def old_attention(state):
    """What diffusers called an autoencoder's attention before 0.18."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in state.items():
        for new, old in names.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        renamed[name] = value
    assert renamed.keys() != state.keys()
    return renamed


def published_base(folder, size="sd15"):
    """Stable Diffusion 1.5 as it is on hubs: the outer name `text_model.`, old names in the VAE, half precision."""
    save_base(folder, size)
    for part, stem, rename in (
        ("vae", "diffusion_pytorch_model", old_attention),
        ("unet", "diffusion_pytorch_model", dict),
        (
            "text_encoder",
            "model",
            lambda state: {f"text_model.{n.removeprefix('text_model.')}": v for n, v in state.items()},
        ),
    ):
        file = folder / part / f"{stem}.safetensors"
        state = {name: value.half() for name, value in rename(load_file(file)).items()}
        save_file(state, folder / part / f"{stem}.fp16.safetensors")
        file.unlink()
    return folder
