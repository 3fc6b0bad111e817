"""LoRA files (Hu et al., 2106.09685) fused into the weights they change: W + scale * alpha / rank * up @ down.

Read are the key layouts of kohya's scripts, with the UNet's names of diffusers or of the original code, and of
diffusers and peft, old and new.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from grefine_export.checkpoints import read_json, read_tensors
from grefine_export.hub import fetch, is_hub_id

FILE = "pytorch_lora_weights.safetensors"
"""Diffusers' name of a LoRA's file in its folder or on the hub."""

_HALF = re.compile(
    r"(.+?)(?:\.lora_(down|up|A|B)(?:\.default(?:_\d+)?)?|(?:[._]lora|\.lora_linear_layer)\.(down|up))\.weight"
)
_PREFIXES = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "text_encoder_2.": "text_encoder_2",
    "base_model.model.": "unet",
    "diffusion_pytorch_model.": "unet",
    "diffusion_model.": "unet",
}
_OTHER_KINDS = {
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "lora_mid": "LoRA of three factors",
    "bundle_emb": "textual inversion",
}
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_OUTER = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_OLD_ATTENTION = {
    "q_proj": "to_q",
    "k_proj": "to_k",
    "v_proj": "to_v",
    "out_proj": "to_out",
    "to_out.0": "to_out",
}


@dataclass(frozen=True)
class Update:
    """A LoRA's addition to one layer: `factor` * up @ down. `down` (rank, in, ...), `up` (out, rank, ...)."""

    down: Tensor
    up: Tensor
    factor: float


@dataclass(frozen=True)
class Lora:
    """A LoRA file. updates: by the part of the model ("unet", "text_encoder", "text_encoder_2") and its layer, as the
    file calls it."""

    name: str
    updates: dict[tuple[str, str], Update]


def parse_lora(text: str) -> tuple[str, float]:
    """Source and scale from "SOURCE:SCALE"; the scale is 1 where none is given."""
    source, _, number = text.rpartition(":")
    try:
        return (source, float(number)) if source else (text, 1.0)
    except ValueError:  # a colon in a path
        return text, 1.0


def locate_lora(source: str, say: Callable[[str], None] = print) -> Path:
    """The file that `source` names: itself, in a folder of diffusers, or on the hub, there with the file's own name
    behind the id where it has another ("owner/name/file.safetensors"). Raises FileNotFoundError, ConnectionError or
    ValueError."""
    owner, _, rest = source.partition("/")
    name, _, file = rest.partition("/")
    if file and is_hub_id(f"{owner}/{name}") and not Path(source).expanduser().exists():
        path = fetch(f"{owner}/{name}", None, [file], say) / file
    else:
        path = fetch(source, None, [FILE], say) if is_hub_id(source) else Path(source).expanduser()
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there is no LoRA '{path}': give a safetensors file, its folder or a hub id")
    return path


def read_lora(path: Path) -> Lora:
    """The LoRA in a file. Raises FileNotFoundError, and ValueError for anything that is no plain LoRA of SDXL."""
    tensors = read_tensors(path)
    halves: dict[tuple[str, str], dict[str, Tensor]] = {}
    alphas: dict[tuple[str, str], float] = {}
    for key, value in tensors.items():
        if key.endswith(".alpha"):
            alphas[_layer(path, key.removesuffix(".alpha"))] = float(value)
            continue
        match = _HALF.fullmatch(key)
        if match is None:
            kind = next((kind for mark, kind in _OTHER_KINDS.items() if mark in key), "an unknown layout")
            raise ValueError(
                f"the LoRA '{path}' has the weight '{key}', which is {kind}: give a plain LoRA, or merge this one into "
                f"the checkpoint with the tool that trained it"
            )
        half = {"A": "down", "B": "up"}.get(match[2], match[2] or match[3])
        halves.setdefault(_layer(path, match[1]), {})[half] = value
    updates = {}
    given = _given_alpha(path)
    for layer, parts in halves.items():
        if len(parts) < 2:
            raise ValueError(f"the LoRA '{path}' has only one half of '{layer[1]}': fetch it again")
        rank = len(parts["down"])
        updates[layer] = Update(parts["down"], parts["up"], alphas.get(layer, given(*layer, rank)) / rank)
    if not updates:
        raise ValueError(
            f"'{path}' holds no LoRA: give a file with lora_down and lora_up, or lora_A and lora_B"
        )
    return Lora(path.name, updates)


def fuse(module: nn.Module, lora: Lora, part: str, scale: float) -> int:
    """Add what `lora` has for `part` of the model, which `module` is, to its weights; return how many changed.

    The sum is computed in float32 and kept in the weight's own type. Raises ValueError (one sentence) for a layer that
    the module does not have or that has another shape.
    """
    layers = {alias: name for name, alias in _aliases(module)}
    mine = {layer: update for (owner, layer), update in lora.updates.items() if owner == part}
    for layer, update in mine.items():
        name = layers.get(_flat(layer))
        if name is None:
            raise ValueError(
                f"the LoRA '{lora.name}' changes '{layer}', which the {part} has not: give a LoRA made for this model"
            )
        weight = module.get_submodule(name).weight
        up, down = update.up.float().flatten(1), update.down.float().flatten(1)
        if up.shape[1] != len(down) or (len(up), down.shape[1]) != (len(weight), weight[0].numel()):
            raise ValueError(
                f"the LoRA '{lora.name}' is for a '{layer}' of {len(up)} x {down.shape[1]}, but the {part} has "
                f"{len(weight)} x {weight[0].numel()}: give a LoRA made for this model"
            )
        with torch.no_grad():
            change = (up @ down).mul_(scale * update.factor).view_as(weight)
            weight.copy_(change.add_(weight))
    return len(mine)


def original_names(unet: nn.Module) -> Iterator[tuple[str, str]]:
    """(name in diffusers, name in the original code) of each layer of a UNet2DConditionModel."""
    stage = unet.config.layers_per_block + 1
    for name, layer in unet.named_modules():
        if not hasattr(layer, "weight"):
            continue
        kind, _, rest = name.partition(".")
        if kind not in ("down_blocks", "mid_block", "up_blocks"):
            yield name, _OUTER.get(name, name)
            continue
        number, part, index, leaf = (f"0.{rest}" if kind == "mid_block" else rest).split(".", 3)
        block = int(number)
        inner = _RESNET[leaf] if part == "resnets" else leaf
        if kind == "mid_block":
            place = f"middle_block.{1 if part == 'attentions' else 2 * int(index)}"
        elif part == "downsamplers":
            place, inner = f"input_blocks.{(block + 1) * stage}.0", "op"
        elif part == "upsamplers":
            last = 2 if getattr(unet.up_blocks[block], "has_cross_attention", False) else 1
            place = f"output_blocks.{(block + 1) * stage - 1}.{last}"
        else:
            side, first = ("input", 1) if kind == "down_blocks" else ("output", 0)
            place = f"{side}_blocks.{first + block * stage + int(index)}.{1 if part == 'attentions' else 0}"
        yield name, f"{place}.{inner}"


def _aliases(module: nn.Module) -> Iterator[tuple[str, str]]:
    """(name, flat name in some layout) of each layer that has a weight."""
    for name, layer in module.named_modules():
        if not isinstance(getattr(layer, "weight", None), Tensor):
            continue
        # transformers drops the outer name of a text encoder without a projection.
        for whole in (name, f"text_model.{name}"):
            yield name, _flat(whole)
            for new, old in _OLD_ATTENTION.items():
                if whole.endswith(new):
                    yield name, _flat(whole.removesuffix(new) + old)
    if hasattr(module, "down_blocks"):
        for name, original in original_names(module):
            yield name, _flat(original)


def _flat(name: str) -> str:
    return name.replace(".processor.", ".").replace(".", "_")


def _layer(path: Path, name: str) -> tuple[str, str]:
    """The part of the model and the layer that `name` means."""
    for prefix, part in _PREFIXES.items():
        if name.startswith(prefix):
            return part, name.removeprefix(prefix)
    if name.startswith(("down_blocks.", "mid_block.", "up_blocks.")):  # of old training scripts of diffusers
        return "unet", name
    raise ValueError(f"the LoRA '{path}' changes '{name}', which SDXL has not: give a LoRA made for SDXL")


def _given_alpha(path: Path) -> Callable[[str, str, int], float]:
    """alpha by (part, layer, rank) as the file's metadata say it (diffusers with peft) or the settings beside it
    (peft); the rank where neither does."""
    metadata = {}
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            metadata = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    if not metadata and path.name.startswith("adapter_model"):  # peft's own layout: settings beside one model
        own = read_json(path.with_name("adapter_config.json"))
        metadata = {f"{_PREFIXES['base_model.model.']}.{name}": value for name, value in own.items()}
    for key in ("use_dora", "use_rslora"):
        if any(metadata.get(f"{part}.{key}") for part in set(_PREFIXES.values())):
            raise ValueError(
                f"the LoRA '{path}' was trained with {key}, which cannot be fused here: give a plain one"
            )

    def alpha(part: str, layer: str, rank: int) -> float:
        for pattern, value in (metadata.get(f"{part}.alpha_pattern") or {}).items():
            if layer == pattern or layer.endswith(f".{pattern}"):
                return float(value)
        value = metadata.get(f"{part}.lora_alpha")
        return float(rank if value is None else value)

    return alpha
