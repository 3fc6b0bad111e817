"""Checkpoints with random weights, for comparisons of speed: the time does not depend on the weights.

"embedded": the sizes of the embedded bundle. "eighth": SDXL and PASD with every width divided by eight, and CLIP
ViT-B/16 as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    StableDiffusionXLInpaintPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from grefine_export.mini import sizes
from grefine_export.models.inpaint import TIME_IDS, inpaint_unet
from grefine_export.models.pasd import PasdUNet

Size = Literal["embedded", "eighth"]
RESOLUTION: dict[str, int] = {"embedded": 128, "eighth": 512}
RESTORE_RESOLUTION: dict[str, int] = {"embedded": sizes.RESTORE_SIDE, "eighth": 512}
TEXT_LAYERS, VAE_LAYERS = 12, 2
"""Layers of a stage's text encoders, and of each level of its autoencoder."""
_HEAD = 64  # channels of a head in every CLIP


def write_pipeline(folder: Path, size: Size) -> Path:
    """An SDXL-inpainting pipeline in diffusers' folder layout, with two text encoders and an autoencoder of SDXL's form
    in proportion; returns `folder`."""
    torch.manual_seed(0)
    width, width_2, pooled = (128, 128, 128) if size == "embedded" else (128, 192, 160)
    pipeline = StableDiffusionXLInpaintPipeline(
        vae=_vae(size, 0.13025),
        unet=_unet(size, width + width_2, pooled),
        text_encoder=CLIPTextModel(_text(width, pooled)),
        text_encoder_2=CLIPTextModelWithProjection(_text(width_2, pooled)),
        tokenizer=_tokenizer(folder / "tokenizer", "<|endoftext|>"),
        tokenizer_2=_tokenizer(folder / "tokenizer_2", "!"),
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            timestep_spacing="leading",
        ),
    )
    pipeline.save_pretrained(folder)
    return folder


def write_pasd(folder: Path, size: Size) -> tuple[Path, Path]:
    """A PASD and the Stable Diffusion 1.5 under it, in the folders and under the names of the published ones."""
    torch.manual_seed(1)
    width = 128
    unet: dict[str, Any] = {**sizes.RESTORE_UNET, "cross_attention_dim": width}
    control: dict[str, Any] = {
        **sizes.RESTORE_CONTROLNET,
        "cross_attention_dim": width,
        "conditioning_embedding_out_channels": (8, 16, 32, 64),
    }
    if size == "eighth":
        unet = {
            "block_out_channels": (40, 80, 160, 160),
            "attention_head_dim": 1,  # diffusers' name for the number of heads
            "norm_num_groups": 8,
            "cross_attention_dim": width,
        }
        control = {**unet, "conditioning_embedding_out_channels": (8, 8, 16, 32)}
    pasd = PasdUNet(unet, control)
    for parameter in pasd.parameters():
        if not parameter.any():  # where training starts from zeros
            nn.init.normal_(parameter, std=0.02)
    checkpoint, base = folder / "checkpoint-1", folder / "base"
    pasd.unet.save_config(checkpoint / "unet")
    pasd.controlnet.save_config(checkpoint / "controlnet")
    places = [
        f"up_blocks.{level}.pixel_attentions.{layer}"
        for level, block in enumerate(pasd.unet.up_blocks)
        for layer in range(len(block.resnets))
    ]
    paca = {
        f"{place}.{name}": value
        for place, block in zip(places, pasd.paca, strict=True)
        for name, value in block.state_dict().items()
    }
    weights = "diffusion_pytorch_model.safetensors"
    save_file(pasd.unet.state_dict() | paca, checkpoint / "unet" / weights)
    save_file(pasd.controlnet.state_dict(), checkpoint / "controlnet" / weights)
    _vae(size, 0.18215).save_pretrained(base / "vae")
    CLIPTextModel(_text(width, width)).save_pretrained(base / "text_encoder")
    _tokenizer(base / "tokenizer", "<|endoftext|>")
    return checkpoint, base


def clip_model(size: Size) -> CLIPModel:
    """The CLIP of both indicators."""
    torch.manual_seed(2)
    config: dict[str, Any] = {
        "vision_config": {"patch_size": 16}
    }  # ViT-B/16: transformers' defaults for the rest
    if size == "embedded":
        text = {**sizes.CLIP_TEXT, "vocab_size": 49408}
        config = {
            "vision_config": sizes.CLIP_VISION,
            "text_config": text,
            "projection_dim": sizes.CLIP_WIDTH,
        }
    return CLIPModel(CLIPConfig(**config)).eval().requires_grad_(False)


def _vae(size: Size, scaling: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32, 32, 32) if size == "embedded" else (16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=VAE_LAYERS,
        latent_channels=4,
        norm_num_groups=16,
        scaling_factor=scaling,
    )


def _unet(size: Size, context: int, pooled: int) -> UNet2DConditionModel:
    if size == "embedded":
        own = {"cross_attention_dim": context, "pooled_dim": pooled, "latent_channels": 4}  # as SDXL has
        return inpaint_unet({**sizes.INPAINT_UNET, **own})
    return UNet2DConditionModel(
        in_channels=9,
        out_channels=4,
        sample_size=128,
        block_out_channels=(40, 80, 160),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(1, 2, 4),  # diffusers' name for the number of heads
        norm_num_groups=8,
        cross_attention_dim=context,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=pooled + TIME_IDS * 32,
    )


def _text(width: int, pooled: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=width // _HEAD,
        vocab_size=len(_vocabulary()),
        projection_dim=pooled,
        bos_token_id=len(_vocabulary()) - 2,
        eos_token_id=len(_vocabulary()) - 1,
    )


def _vocabulary() -> dict[str, Any]:
    """CLIP's first 512 words, the bytes inside and at the end of words, and its two marks."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [256 + place for place in range(256 - len(printable))]
    letters = [chr(code) for code in printable + others]
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}


def _tokenizer(folder: Path, pad: str) -> CLIPTokenizer:
    """The tokenizer, whose files stay in `folder`: the pipeline itself saves none that older libraries read."""
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(_vocabulary()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer.from_pretrained(folder, pad_token=pad, model_max_length=77)
