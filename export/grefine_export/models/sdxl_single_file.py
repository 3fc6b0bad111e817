"""Stable Diffusion XL in a single file: sizes from its tensors, names of the original code as diffusers has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig

from grefine_export.models.inpaint import TIME_IDS

SCALING = 0.13025
"""Factor from SDXL's latents to unit variance, where no configuration says it."""

UNET, VAE = "model.diffusion_model.", "first_stage_model."
TEXT, TEXT_2 = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
"""The prefixes of each part's names in a whole checkpoint."""

_UNET_PREFIXES = (UNET, "diffusion_model.", "unet.", "diffusion_pytorch_model.")
_VAE_PREFIXES = (VAE, "vae.", "diffusion_pytorch_model.")
_MARKS = re.compile(r"v_pred|ztsnr|edm_.*")
"""Tensors that say how a UNet is sampled, and are no weights of it."""
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_HEAD = 64  # channels, in SDXL and both its text encoders


def declared_sampling(names: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The sampling that the file at `path`, with tensors of these `names`, declares, in the words of a
    `scheduler_config.json`: by the empty tensors that tools leave in it, or by its metadata."""
    if any(name.startswith(("edm_mean", "edm_std", "edm_vpred.")) for name in names):
        return {"_class_name": "EDM"}
    found: dict[str, Any] = {}
    if "v_pred" in names or _metadata(path).get("modelspec.prediction_type") in ("v", "v_prediction"):
        found["prediction_type"] = "v_prediction"
    if "ztsnr" in names:
        found["rescale_betas_zero_snr"] = True
    return found


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except SafetensorError:  # of another form
        return {}


def unreadable(path: Path, what: str, reason: str) -> ValueError:
    reason = " ".join(reason.split())[:200].rstrip(".:")
    return ValueError(
        f"'{path}' cannot be loaded as {what} ({reason}): fetch it again, or give another checkpoint"
    )


def filled(
    make: Callable[[Any], nn.Module], config: Any, state: Mapping[str, Tensor], path: Path, what: str
) -> Any:
    """A module with the tensors of `state`, float32. Half tensors become float32 one by one: no second model."""
    with torch.device("meta"):
        module = make(config)
    try:
        module.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    except RuntimeError as error:
        raise unreadable(path, what, str(error).partition("\n\t")[2]) from error
    for name, buffer in module.named_buffers():
        if buffer.is_meta:  # CLIP's position ids, which checkpoints leave out
            owner, _, leaf = name.rpartition(".")
            module.get_submodule(owner).register_buffer(
                leaf, torch.arange(buffer.shape[-1])[None], persistent=False
            )
    return module.eval().requires_grad_(False)


def below(tensors: Mapping[str, Tensor], prefix: str, keep: bool = False) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, which is cut off unless they are to `keep` it."""
    found = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    return found if keep else {name.removeprefix(prefix): value for name, value in found.items()}


def _inner(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors below the first of `prefixes` that there is; all of them where there is none."""
    bare = {name: value for name, value in tensors.items() if not _MARKS.fullmatch(name)}
    return next((found for prefix in prefixes if (found := below(tensors, prefix))), bare)


def _new_attention(name: str) -> str:
    """The name that diffusers gives to a weight of an autoencoder's attention now."""
    *owner, leaf, kind = name.split(".")
    if "attentions" not in owner or leaf not in _OLD_ATTENTION:
        return name
    return ".".join((*owner, _OLD_ATTENTION[leaf], kind))


def _count(names: Mapping[str, Any], pattern: str) -> int:
    """One more than the highest number that `pattern` finds at the start of a name; 0 where it finds none."""
    return max((int(match[1]) + 1 for name in names if (match := re.match(pattern, name))), default=0)


def unet_parts(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of diffusers' UNet, from the original names, or from diffusers' own."""
    state = _inner(tensors, _UNET_PREFIXES)
    try:
        if any(name.startswith("input_blocks.") for name in state):
            original = {UNET + name: value for name, value in state.items()}
            downs = [int(name.split(".")[3]) for name in original if name.endswith(".0.op.weight")]
            config = {"layers_per_block": min(downs) - 1, "addition_embed_type": "text_time"}
            state = convert_ldm_unet_checkpoint(original, config)
        blocks = range(_count(state, r"down_blocks\.(\d+)\."))
        depths = [
            _count(state, rf"down_blocks\.{i}\.attentions\.0\.transformer_blocks\.(\d+)\.") for i in blocks
        ]
        channels = [len(state[f"down_blocks.{i}.resnets.0.conv2.weight"]) for i in blocks]
        attention = next(i for i in blocks if depths[i])
        context = state[f"down_blocks.{attention}.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[
            1
        ]
        joined = state["add_embedding.linear_1.weight"].shape[1]
        pooled = tensors.get(f"{TEXT_2}text_projection")
        embedded = state.get("time_embedding.cond_proj.weight")
        return {
            "in_channels": state["conv_in.weight"].shape[1],
            "out_channels": len(state["conv_out.weight"]),
            "block_out_channels": channels,
            "layers_per_block": _count(state, r"down_blocks\.0\.resnets\.(\d+)\."),
            "down_block_types": ["CrossAttnDownBlock2D" if depth else "DownBlock2D" for depth in depths],
            "up_block_types": ["CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in depths[::-1]],
            "transformer_layers_per_block": [max(depth, 1) for depth in depths],
            "attention_head_dim": [
                max(width // _HEAD, 1) for width in channels
            ],  # how many, in spite of the name
            "cross_attention_dim": context,
            "use_linear_projection": state[f"down_blocks.{attention}.attentions.0.proj_in.weight"].ndim == 2,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256 if pooled is None else (joined - pooled.shape[1]) // TIME_IDS,
            "projection_class_embeddings_input_dim": joined,
            "time_cond_proj_dim": None if embedded is None else embedded.shape[1],
            "sample_size": 128,
        }, state
    except (KeyError, ValueError, IndexError, StopIteration, AttributeError, TypeError) as error:
        raise ValueError(
            f"'{path}' holds no whole SDXL UNet (about {error or 'its attention'}): give an SDXL checkpoint"
        ) from error


def vae_parts(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of diffusers' autoencoder, from the original names, bare or in a whole checkpoint, or
    from diffusers' own."""
    state = _inner(tensors, _VAE_PREFIXES)
    # What the training of an autoencoder leaves behind.
    state = {
        name: value
        for name, value in state.items()
        if name.startswith(("encoder.", "decoder.", "quant", "post"))
    }
    try:
        if levels := _count(state, r"encoder\.down\.(\d+)\."):
            types: dict[str, Any] = {"down_block_types": range(levels), "up_block_types": range(levels)}
            state = convert_ldm_vae_checkpoint(state, types)
        state = {_new_attention(name): value for name, value in state.items()}
        blocks = range(_count(state, r"encoder\.down_blocks\.(\d+)\."))
        return {
            "block_out_channels": [
                len(state[f"encoder.down_blocks.{i}.resnets.0.conv2.weight"]) for i in blocks
            ],
            "layers_per_block": _count(state, r"encoder\.down_blocks\.0\.resnets\.(\d+)\."),
            "down_block_types": ["DownEncoderBlock2D" for _ in blocks],
            "up_block_types": ["UpDecoderBlock2D" for _ in blocks],
            "latent_channels": state["decoder.conv_in.weight"].shape[1],
            "scaling_factor": SCALING,
        }, state
    except (KeyError, AttributeError) as error:
        raise ValueError(f"'{path}' holds no whole VAE (it lacks {error}): give SDXL's") from error


def text_config(state: Mapping[str, Tensor], path: Path, activation: str) -> CLIPTextConfig:
    try:
        vocabulary, width = state["text_model.embeddings.token_embedding.weight"].shape
        projection = state.get("text_projection.weight")
        return CLIPTextConfig(
            hidden_size=width,
            vocab_size=vocabulary,
            max_position_embeddings=len(state["text_model.embeddings.position_embedding.weight"]),
            intermediate_size=len(state["text_model.encoder.layers.0.mlp.fc1.weight"]),
            num_hidden_layers=_count(state, r"text_model\.encoder\.layers\.(\d+)\."),
            num_attention_heads=max(width // _HEAD, 1),
            hidden_act=activation,
            projection_dim=width if projection is None else len(projection),
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
        )
    except KeyError as error:
        raise ValueError(
            f"'{path}' lacks the weight {error} of a text encoder: give a whole SDXL checkpoint"
        ) from error
