"""CLIP from a checkpoint of transformers, open_clip or OpenAI: one set of modules, whatever the names were."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

from grefine_export.checkpoints import read_json, read_tensors
from grefine_export.choices import Attention
from grefine_export.models.clip_resnet import STRIDE, AttentionPool2d, ModifiedResNet, resized_positions
from grefine_export.models.clip_resnet_surgery import ResNetClip, ResNetSurgery
from grefine_export.models.clip_surgery import ClipEncoder, ClipSurgery
from grefine_export.models.open_clip import check_open_clip

Clip: TypeAlias = CLIPModel | ResNetClip

DEPTH = 6
"""Blocks with two paths (G-Refine 3.1)."""

_HEAD_WIDTH = 64  # in every CLIP of OpenAI
_OPENAI_CONSTANTS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives hold beside the weights, and open_clip's files do not."""
_NO_WEIGHTS = re.compile(
    rf"(?:{'|'.join(_OPENAI_CONSTANTS)}|(?:.*\.)?(?:position_ids|attn_mask|num_batches_tracked))"
)
_OUTER = {
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TRANSPOSED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_BLOCK_NAME = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")


def load_clip(path: Path) -> Clip:
    """The CLIP of a checkpoint, in float32 and ready to run: transformers' CLIPModel, or a ResNetClip.

    `path` is whatever `checkpoints.read_tensors` reads, with the names of transformers, open_clip or OpenAI. Sizes
    come from the tensors; a `config.json` (transformers) or `open_clip_config.json` beside them says what tensors
    can not, activation and heads. Only OpenAI's own files, which the numbers beside their weights tell, need none.

    Raises FileNotFoundError when there is nothing at `path`, ValueError (one sentence) when it is no CLIP, one whose
    settings nobody says, or one with settings or weights that this CLIP has no use for.
    """
    tensors = read_tensors(path)
    folder = path if path.is_dir() else path.parent
    # open_clip's newer form keeps its text transformer apart.
    tensors = {name.removeprefix("text."): value for name, value in tensors.items()}
    known = read_json(folder / "open_clip_config.json").get("model_cfg", {})
    check_open_clip(known, folder / "open_clip_config.json")
    try:
        if "vision_model.embeddings.patch_embedding.weight" in tensors:
            config = _given_config(folder)
            if config is None:
                raise ValueError(
                    f"nothing beside '{path}' says which activation and heads its CLIP has: put its config.json there"
                )
            return _filled(CLIPModel(config), tensors, path)
        if "visual.class_embedding" in tensors:
            _refuse_guesses(tensors, known, path)
            state = _renamed(tensors)
            return _filled(CLIPModel(_config(state, known)), state, path)
        if "visual.attnpool.positional_embedding" in tensors:
            _refuse_guesses(tensors, known, path)
            return _filled(*_resnet(tensors, known), path)
    except KeyError as error:
        raise ValueError(
            f"'{path}' lacks the weights {error} of a CLIP: fetch the checkpoint again"
        ) from error
    raise ValueError(
        f"'{path}' is no CLIP with a vision transformer or OpenAI's ResNet in the naming of transformers, open_clip "
        f"or OpenAI: give such a checkpoint"
    )


def load_resnet(path: Path) -> ResNetClip:
    """A CLIP as `load_clip` gives it, with a ResNet. Raises ValueError for a CLIP with a vision transformer too."""
    clip = load_clip(path)
    if not isinstance(clip, ResNetClip):
        raise ValueError(
            f"'{path}' is a CLIP with a vision transformer, but IP-IQA needs a ResNet: give RN50"
        )
    return clip


def surgery(clip: Clip, attention: Attention | None = None) -> ClipEncoder:
    """The two-path encoder: value-value attention is "vv" by default, as the authors' code runs it in a ResNet
    too; its normalisation of V for ResNets is never reached."""
    if isinstance(clip, ResNetClip):
        return ResNetSurgery(clip, attention or "vv")
    return ClipSurgery(clip, min(DEPTH, clip.config.vision_config.num_hidden_layers), attention or "vv")


def patch_side(clip: Clip) -> int:
    """Pixels of the picture's side for one cell of the token grid."""
    return STRIDE if isinstance(clip, ResNetClip) else clip.config.vision_config.patch_size


def image_size(clip: Clip) -> int:
    """The side in pixels of the pictures that the position embedding is for."""
    if isinstance(clip, ResNetClip):
        return STRIDE * round((len(clip.attnpool.positional_embedding) - 1) ** 0.5)
    return clip.config.vision_config.image_size


def at_size(clip: Clip, size: int) -> Clip:
    """The same CLIP for pictures of `size` x `size` pixels, in place: the position embedding is interpolated, bicubic
    as in transformers. Raises ValueError unless `size` is a multiple of the patch side."""
    side = patch_side(clip)
    if size < side or size % side:
        near = max(round(size / side), 1) * side
        raise ValueError(
            f"the size {size} is no multiple of this model's patches of {side} pixels: take {near}"
        )
    grid = size // side
    if isinstance(clip, ResNetClip):
        positions = resized_positions(clip.attnpool.positional_embedding.detach(), grid, grid)
        clip.attnpool.positional_embedding = nn.Parameter(positions, requires_grad=False)
        return clip
    embeddings = clip.vision_model.embeddings
    positions = resized_positions(embeddings.position_embedding.weight.detach(), grid, grid)
    embeddings.position_embedding = nn.Embedding.from_pretrained(positions)
    embeddings.position_ids = torch.arange(len(positions))[None]
    embeddings.num_patches, embeddings.num_positions = grid * grid, len(positions)
    embeddings.image_size = clip.config.vision_config.image_size = size
    return clip


def name_of(clip: Clip) -> str:
    """The usual name, such as "ViT-B/16" or "RN50"; other sizes by their width."""
    if isinstance(clip, ResNetClip):
        stages = (clip.visual.layer1, clip.visual.layer2, clip.visual.layer3, clip.visual.layer4)
        blocks = tuple(len(stage) for stage in stages)
        known: dict[tuple[int, ...], str] = {(3, 4, 6, 3): "RN50", (3, 4, 23, 3): "RN101"}
        return known.get(blocks, f"ResNet {blocks}")
    vision = clip.config.vision_config
    letter = {768: "B", 1024: "L", 1280: "H"}.get(vision.hidden_size, f"{vision.hidden_size} wide")
    return f"ViT-{letter}/{vision.patch_size}"


# --- names


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's names as transformers' names; what has none (constants of the archive) is left out."""
    state: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name in _OUTER:
            state[_OUTER[name]] = value
        elif name in _TRANSPOSED:
            state[_TRANSPOSED[name]] = value.T
        elif match := _BLOCK_NAME.fullmatch(name):
            visual, index, part, kind = match.groups()
            block = f"{'vision' if visual else 'text'}_model.encoder.layers.{index}"
            if part == "attn.in_proj":
                for letter, third in zip("qkv", value.chunk(3), strict=True):
                    state[f"{block}.self_attn.{letter}_proj.{kind}"] = third
            else:
                state[f"{block}.{_BLOCK.get(part, part)}.{kind}"] = value
        elif not name.startswith("visual.") or "visual.class_embedding" in tensors:
            state[name] = value  # unknown: refused by its name, where the model is filled
    return state


def _filled(model: Clip, state: Mapping[str, Tensor], path: Path) -> Clip:
    try:
        lacking, strange = model.load_state_dict(
            {name: value.float() for name, value in state.items()}, strict=False
        )
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise ValueError(f"the weights in '{path}' do not fit its configuration ({reason})") from error
    if lacking:
        raise ValueError(f"'{path}' lacks the weights '{lacking[0]}' of a CLIP: fetch the checkpoint again")
    if unknown := [name for name in strange if not _NO_WEIGHTS.fullmatch(name)]:
        raise ValueError(
            f"'{path}' has the weight '{unknown[0]}', which a CLIP of OpenAI's design has not: give such a CLIP"
        )
    return model.eval().requires_grad_(False)


def _refuse_guesses(tensors: Mapping[str, Tensor], known: Mapping[str, Any], path: Path) -> None:
    if not known and not all(name in tensors for name in _OPENAI_CONSTANTS):
        raise ValueError(
            f"nothing beside '{path}' says which activation and heads its CLIP has: put the open_clip_config.json of "
            f"this model there, or give OpenAI's own file"
        )


# --- sizes


def _given_config(folder: Path) -> CLIPConfig | None:
    content = read_json(folder / "config.json")
    return CLIPConfig.from_dict(content) if content.get("model_type") == "clip" else None


def _blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    """The number of numbered parts PREFIX.0., PREFIX.1., ..."""
    count = 0
    while any(name.startswith(f"{prefix}.{count}.") for name in state):
        count += 1
    return count


def _text_config(state: Mapping[str, Tensor], known: Mapping[str, Any]) -> dict[str, Any]:
    """From a state with transformers' names; `known` is `model_cfg` of open_clip, empty for OpenAI's own."""
    embeddings = "text_model.embeddings"
    vocabulary, width = state[f"{embeddings}.token_embedding.weight"].shape
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "intermediate_size": len(state["text_model.encoder.layers.0.mlp.fc1.bias"]),
        "num_hidden_layers": _blocks(state, "text_model.encoder.layers"),
        "num_attention_heads": known.get("text_cfg", {}).get("heads", width // _HEAD_WIDTH),
        "max_position_embeddings": len(state[f"{embeddings}.position_embedding.weight"]),
        "projection_dim": len(state["text_projection.weight"]),
        "hidden_act": _activation(known),
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
    }


def _config(state: Mapping[str, Tensor], known: Mapping[str, Any]) -> CLIPConfig:
    width, _, side, _ = state["vision_model.embeddings.patch_embedding.weight"].shape
    grid = round((len(state["vision_model.embeddings.position_embedding.weight"]) - 1) ** 0.5)
    vision = {
        "hidden_size": width,
        "intermediate_size": len(state["vision_model.encoder.layers.0.mlp.fc1.bias"]),
        "num_hidden_layers": _blocks(state, "vision_model.encoder.layers"),
        "num_attention_heads": width // known.get("vision_cfg", {}).get("head_width", _HEAD_WIDTH),
        "image_size": grid * side,
        "patch_size": side,
        "hidden_act": _activation(known),
    }
    text = _text_config(state, known)
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=text["projection_dim"])


def _activation(known: Mapping[str, Any]) -> str:
    """open_clip trains with the exact GELU unless its configuration says else; OpenAI never did."""
    return "quick_gelu" if not known or known.get("quick_gelu") else "gelu"


def _resnet(tensors: Mapping[str, Tensor], known: Mapping[str, Any]) -> tuple[ResNetClip, dict[str, Tensor]]:
    state = {
        **{name: value for name, value in _renamed(tensors).items() if not name.startswith("vision_model.")},
        **{
            name.removeprefix("visual.") if name.startswith("visual.attnpool.") else name: value
            for name, value in tensors.items()
            if name.startswith("visual.")
        },
    }
    width = len(state["visual.layer1.0.conv1.weight"])
    visual = ModifiedResNet([_blocks(state, f"visual.layer{stage}") for stage in (1, 2, 3, 4)], width)
    side = round((len(state["attnpool.positional_embedding"]) - 1) ** 0.5)
    projected = len(state["attnpool.c_proj.bias"])
    heads = visual.channels // known.get("vision_cfg", {}).get("head_width", _HEAD_WIDTH)
    pool = AttentionPool2d(side, visual.channels, heads, projected)
    return ResNetClip(visual, pool, CLIPTextConfig(**_text_config(state, known)), projected), state
