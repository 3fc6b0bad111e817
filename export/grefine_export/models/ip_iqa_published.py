"""An IP-IQA that the authors' public training code saved, and the CLIP that it was trained from.

Their checkpoints hold the parts that learned: the ResNet, both pools with their position tables, the head, and of the
text side the table of embeddings, the positions and the projection. The frozen parts, the text transformer's blocks
and its last norm, come from CLIP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from grefine_export.checkpoints import read_tensors
from grefine_export.models.clip_resnet import STRIDE, AttentionPool2d
from grefine_export.models.clip_resnet_surgery import ResNetClip
from grefine_export.models.ip_iqa import Design, ImageEncoder, IpIqa, PromptEncoder, table_side

_MARK = "txt_attnpool.positional_embedding"
_OUTPUTS = {1: ("quality",), 2: ("quality", "alignment")}
_POOL = {f"cross_attn.{name}_proj": f"{name}_proj" for name in "qkv"} | {"cross_attn.out_proj": "c_proj"}
_HEAD = {"head.dense": "1", "head.out_proj": "4"}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK_NAME = re.compile(r"txt_model\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
_TEXT = {
    "wte.weight": "text.text_model.embeddings.token_embedding.weight",
    "txt_pos": "text.text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text.text_model.final_layer_norm.weight",
    "ln_final.bias": "text.text_model.final_layer_norm.bias",
}


def load_published(path: Path, clip: ResNetClip) -> tuple[IpIqa, int]:
    """(model in evaluation mode, side of the pictures that it was trained on) of the authors' checkpoint at `path`.

    clip: the RN50 that it was trained from, which gives the text side's parts that the file lacks. Raises ValueError
    (one sentence) for a name that the model has not, a weight that is missing or of another shape, and another number
    of scores than 1 or 2; FileNotFoundError.
    """
    tensors = read_tensors(path)
    if _MARK not in tensors:
        raise ValueError(
            f"'{path}' lacks the weight '{_MARK}': give a checkpoint of IP-IQA's public training code"
        )
    head = tensors.get("head.out_proj.weight", tensors.get("head.weight"))
    if head is None or len(head) not in _OUTPUTS:
        raise ValueError(
            f"'{path}' has no head with 1 or 2 scores: give a checkpoint trained on AGIQA-1K or AGIQA-3K"
        )
    design = Design(_OUTPUTS[len(head)], "mlp" if "head.out_proj.weight" in tensors else "linear")
    positions = tensors.get("attnpool.positional_embedding")
    side, old = table_side(tensors[_MARK]), clip.attnpool
    pool = AttentionPool2d(
        side if positions is None else table_side(positions),
        clip.visual.channels,
        old.num_heads,
        old.c_proj.out_features,
    )
    text = PromptEncoder(clip)
    model = IpIqa(ImageEncoder(clip.visual, pool), text, design, side)
    _fill(model, _renamed(tensors, path, text.end), path)
    return model.eval().requires_grad_(False), side * STRIDE


def _fill(model: IpIqa, state: Mapping[str, Tensor], path: Path) -> None:
    """Load `state`, which may lack the parts that the authors freeze."""
    own = model.state_dict()
    for name, value in state.items():
        if name not in own:
            raise ValueError(
                f"'{path}' has the weight '{name}', which this CLIP has no place for: give its CLIP"
            )
        if own[name].shape != value.shape:
            raise ValueError(
                f"'{path}' has '{name}' of shape {tuple(value.shape)}, but with this CLIP it is "
                f"{tuple(own[name].shape)}: give the CLIP that it was trained from"
            )
    lacking = [n for n in own if n not in state and not n.startswith("text.") and "num_batches" not in n]
    if lacking:
        raise ValueError(f"'{path}' lacks the weight '{lacking[0]}' of an IP-IQA: fetch it again")
    model.load_state_dict({name: value.float() for name, value in state.items()}, strict=False)


def _renamed(tensors: Mapping[str, Tensor], path: Path, end: int) -> dict[str, Tensor]:
    """The authors' names as ours. Their [QA] token is the row `end` of the table of embeddings."""
    state: dict[str, Tensor] = {}
    for name, value in tensors.items():
        layer, _, kind = name.rpartition(".")
        if name.startswith("resnet50."):
            state["image.trunk." + name.removeprefix("resnet50.")] = value
        elif name.startswith("attnpool."):
            state["image.pool." + name.removeprefix("attnpool.")] = value
        elif name == _MARK:
            state["cross.positional_embedding"] = value
        elif layer.removeprefix("txt_attnpool.") in _POOL:
            state[f"cross.{_POOL[layer.removeprefix('txt_attnpool.')]}.{kind}"] = value
        elif layer in _HEAD:
            state[f"head.{_HEAD[layer]}.{kind}"] = value
        elif name in ("head.weight", "head.bias"):
            state[name] = value
        elif name in _TEXT:
            state[_TEXT[name]] = value
        elif name == "text_projection":
            state["text.text_projection.weight"] = value.T
        elif match := _BLOCK_NAME.fullmatch(name):
            state |= _block(match[1], match[2], match[3], value, path)
        else:
            raise ValueError(
                f"'{path}' has the weight '{name}', which IP-IQA has not: give a checkpoint of its public training code"
            )
    if "wte.weight" in tensors:
        state["text.qa"] = tensors["wte.weight"][end]
    return state


def _block(index: str, part: str, kind: str, value: Tensor, path: Path) -> dict[str, Tensor]:
    """A weight of a block of the text transformer, which a run that did not freeze the text side saves too."""
    block = f"text.text_model.encoder.layers.{index}"
    if part == "attn.in_proj":
        thirds = torch.chunk(value, 3)
        return {f"{block}.self_attn.{n}_proj.{kind}": third for n, third in zip("qkv", thirds, strict=True)}
    if part not in _BLOCK:
        raise ValueError(f"'{path}' has the weight '{part}.{kind}' in a text block, which CLIP has not")
    return {f"{block}.{_BLOCK[part]}.{kind}": value}
