"""Stable Diffusion XL from the files that people have, part by part, so that no two large parts lie in memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from diffusers.utils import logging as of_diffusers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils import logging as of_transformers

from grefine_export.checkpoints import read_json, read_tensors
from grefine_export.hub import fetch, file_names, is_hub_id
from grefine_export.models.inpaint import TIME_IDS

SCALING = 0.13025
"""Factor from SDXL's latents to unit variance, where no configuration says it."""

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|model)(\.fp16)?(?:-\d+-of-\d+)?\.safetensors(?:\.index(\.fp16)?\.json)?"
)
_UNET, _VAE = "model.diffusion_model.", "first_stage_model."
_TEXT, _TEXT_2 = "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."
_HEAD = 64  # channels, in SDXL and both its text encoders


def pipeline_path(checkpoint: str, say: Callable[[str], None] = print) -> Path:
    """The file or folder that `checkpoint` names. A hub id that is no path here is fetched into huggingface_hub's
    cache: the parts of a diffusers pipeline, or the weights of a single model, in half precision where it is offered.

    Raises FileNotFoundError, ConnectionError or ValueError, one sentence each.
    """
    if not is_hub_id(checkpoint):
        path = Path(checkpoint).expanduser()
        if not path.exists():
            raise FileNotFoundError(
                f"there is no checkpoint '{checkpoint}': give a diffusers folder, a safetensors file or a hub id"
            )
        return path
    names = _needed(file_names(checkpoint, "*.json", "*.safetensors"))
    if not any(name.endswith(".safetensors") for name in names):
        raise ValueError(
            f"the model '{checkpoint}' on the hub is not laid out for diffusers: fetch its safetensors file and give it"
        )
    return fetch(checkpoint, None, names, say)


def _needed(names: Sequence[str]) -> list[str]:
    """Of a hub's files those of a pipeline or of a single model, each part's weights once."""
    kept = []
    for part in ("", *_PARTS):
        files = [name for name in names if name.rpartition("/")[0] == part]
        found = {name: match for name in files if (match := _WEIGHTS.fullmatch(name.rpartition("/")[2]))}
        half = {name for name, match in found.items() if match[1] or match[2]}
        kept += half or found.keys()
        kept += [name for name in files if name.endswith((".json", "merges.txt")) and name not in found]
    return kept


@dataclass(frozen=True)
class SdxlCheckpoint:
    """Where SDXL's parts are, and what can be known before they are loaded.

    path: a diffusers folder, or a safetensors file with the names of the original code. unet_path, vae_path: another
    UNet or autoencoder instead of its own: the folder of the model or of a pipeline, or a safetensors file.
    """

    path: Path
    unet_path: Path | None = None
    vae_path: Path | None = None

    def scheduler(self) -> dict[str, Any]:
        """`scheduler_config.json`, or nothing where there is none. Raises ValueError when it is no JSON object."""
        return read_json(self.path / "scheduler" / "scheduler_config.json")

    def zeros_for_empty(self) -> bool:
        """Whether an empty negative prompt stands for zeros, as SDXL was trained, instead of being encoded."""
        return bool(read_json(self.path / "model_index.json").get("force_zeros_for_empty_prompt", True))

    def tokenizer_folders(self) -> tuple[Path, Path] | None:
        """The folders of both tokenizers; a single file has none."""
        folders = (self.path / "tokenizer", self.path / "tokenizer_2")
        return folders if all(folder.is_dir() for folder in folders) else None

    def vocabularies(self) -> tuple[int, int]:
        """Token embeddings of both text encoders. Raises ValueError."""
        if self.path.is_dir():
            sizes = [read_json(self.path / name / "config.json").get("vocab_size") for name in _PARTS[2:4]]
        else:
            tensors = read_tensors(self.path)
            names = (
                f"{_TEXT}text_model.embeddings.token_embedding.weight",
                f"{_TEXT_2}token_embedding.weight",
            )
            sizes = [len(tensors.get(name, ())) for name in names]
        if not all(sizes):
            raise ValueError(
                f"'{self.path}' lacks the token embeddings of a text encoder: give a whole SDXL checkpoint"
            )
        return sizes[0], sizes[1]

    def files(self, part: str) -> list[Path]:
        """The files that decide a part ("unet", "vae", "text"), for telling whether they changed."""
        own = {"unet": self.unet_path, "vae": self.vae_path}.get(part)
        names = {"text": ("text_encoder", "text_encoder_2")}.get(part, (part,))
        roots = [own or self.path] if own or self.path.is_file() else [self.path / name for name in names]
        return sorted(
            {
                file
                for root in roots
                for file in ([root] if root.is_file() else root.rglob("*"))
                if file.is_file()
            }
        )

    def check(self) -> None:
        """Raises ValueError (one sentence) when this is recognisably no complete SDXL, before anything is loaded."""
        if self.path.is_dir():
            if lacking := [name for name in _PARTS[:4] if not (self.path / name / "config.json").is_file()]:
                kind = "Stable Diffusion 1.5 or 2" if lacking == ["text_encoder_2"] else "no SDXL pipeline"
                raise ValueError(
                    f"the folder '{self.path}' lacks {lacking[0]}/config.json, so it is {kind}: give the folder of an "
                    f"SDXL pipeline of diffusers, or a safetensors file"
                )
            return
        names = read_tensors(self.path).keys()
        if any(name.startswith("cond_stage_model.") for name in names):
            raise ValueError(f"'{self.path}' is Stable Diffusion 1.5 or 2: give an SDXL checkpoint")
        for prefix, what in (
            (_UNET, "UNet"),
            (_VAE, "VAE"),
            (_TEXT, "first text encoder"),
            (_TEXT_2, "second"),
        ):
            if not any(name.startswith(prefix) for name in names):
                raise ValueError(
                    f"'{self.path}' has no {what} of SDXL (names beginning with '{prefix}'): give a whole SDXL "
                    f"checkpoint, and a UNet alone with --unet, a VAE alone with --vae"
                )

    def unet_config(self) -> dict[str, Any]:
        """The UNet's configuration in diffusers. Raises ValueError (one sentence) unless it is one of SDXL, with 4
        channels in, or 9 for inpainting."""
        path = self.unet_path or self.path
        if path.is_dir():
            file = _model_folder(path, "unet") / "config.json"
            config = read_json(file)
            if not config:
                raise ValueError(f"there is no UNet in '{path}': give the folder of one, or of a pipeline")
        else:
            config, _ = _unet_parts(read_tensors(path), path)
        if config.get("addition_embed_type") != "text_time":
            raise ValueError(
                f"the UNet of '{path}' takes no picture sizes as SDXL's does: give an SDXL checkpoint"
            )
        if config.get("in_channels") not in (4, 9) or config.get("out_channels") != 4:
            raise ValueError(
                f"the UNet of '{path}' takes {config.get('in_channels')} channels and gives "
                f"{config.get('out_channels')}: give one that takes 9 (inpainting) or 4 and gives 4"
            )
        return config

    def unet(self) -> UNet2DConditionModel:
        """The UNet, float32. Raises ValueError."""
        path = self.unet_path or self.path
        if path.is_dir():
            return _pretrained(UNet2DConditionModel, _model_folder(path, "unet"), "SDXL's UNet")
        config, state = _unet_parts(read_tensors(path), path)
        return _filled(UNet2DConditionModel.from_config, config, state, path, "SDXL's UNet")

    def vae(self) -> AutoencoderKL:
        """The autoencoder, float32. Raises ValueError."""
        path = self.vae_path or self.path
        if path.is_dir():
            vae = _pretrained(AutoencoderKL, _model_folder(path, "vae"), "VAE")
        else:
            vae = _filled(AutoencoderKL.from_config, *_vae_parts(read_tensors(path), path), path, "VAE")
        if len(vae.config.block_out_channels) != 4 or vae.config.latent_channels != 4:
            raise ValueError(
                f"the VAE of '{path}' does not give 4 channels at an eighth of the size: give SDXL's"
            )
        return vae

    def text_encoders(self) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
        """Both text encoders, float32. Raises ValueError."""
        first, second = CLIPTextModel, CLIPTextModelWithProjection
        if self.path.is_dir():
            return (
                _pretrained(first, self.path / "text_encoder", "SDXL's first text encoder"),
                _pretrained(second, self.path / "text_encoder_2", "SDXL's second text encoder"),
            )
        tensors = read_tensors(self.path)
        one = convert_ldm_clip_checkpoint(_below(tensors, _TEXT, keep=True))
        two = convert_open_clip_checkpoint(None, _below(tensors, _TEXT_2, keep=True), prefix=_TEXT_2)
        one.pop("text_model.embeddings.position_ids", None)
        configs = [_text_config(state, self.path, act) for state, act in ((one, "quick_gelu"), (two, "gelu"))]
        one = {name.removeprefix("text_model."): value for name, value in one.items()}
        return (
            _filled(first, configs[0], one, self.path, "SDXL's first text encoder"),
            _filled(second, configs[1], two, self.path, "SDXL's second text encoder"),
        )


# --- diffusers folders


def _model_folder(path: Path, part: str) -> Path:
    """`path` itself or the part of the pipeline there."""
    return path if (path / "config.json").is_file() else path / part


def _pretrained(kind: Any, folder: Path, what: str) -> Any:
    """A model by the library's own loader, in float32 and complete."""
    try:
        weights = [match for file in folder.iterdir() if (match := _WEIGHTS.fullmatch(file.name))]
        half = bool(weights) and all(match[1] or match[2] for match in weights)
        dtype = "torch_dtype" if kind in (UNet2DConditionModel, AutoencoderKL) else "dtype"
        with _without_bars():
            model, info = kind.from_pretrained(
                folder,
                variant="fp16" if half else None,
                local_files_only=True,
                output_loading_info=True,
                **{dtype: torch.float32},
            )
    # The libraries raise many kinds for files that are missing, cut off or another model's.
    except Exception as error:
        raise _unreadable(folder, what, str(error)) from error
    if lacking := sorted(info["missing_keys"]):
        raise _unreadable(folder, what, f"it lacks the weight '{lacking[0]}'")
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Both libraries draw progress bars on standard error, in a pipe too."""
    shown = [each for each in (of_diffusers, of_transformers) if each.is_progress_bar_enabled()]
    for each in shown:
        each.disable_progress_bar()
    try:
        yield
    finally:
        for each in shown:
            each.enable_progress_bar()


def _unreadable(path: Path, what: str, reason: str) -> ValueError:
    reason = " ".join(reason.split())[:200].rstrip(".:")
    return ValueError(
        f"'{path}' cannot be loaded as {what} ({reason}): fetch it again, or give another checkpoint"
    )


# --- single files: sizes from the tensors


def _filled(
    make: Callable[[Any], nn.Module], config: Any, state: Mapping[str, Tensor], path: Path, what: str
) -> Any:
    """A module with the tensors of `state`, float32. Half tensors become float32 one by one: no second model."""
    with torch.device("meta"):
        module = make(config)
    try:
        module.load_state_dict({name: value.float() for name, value in state.items()}, assign=True)
    except RuntimeError as error:
        raise _unreadable(path, what, str(error).partition("\n\t")[2]) from error
    for name, buffer in module.named_buffers():
        if buffer.is_meta:  # CLIP's position ids, which checkpoints leave out
            owner, _, leaf = name.rpartition(".")
            module.get_submodule(owner).register_buffer(
                leaf, torch.arange(buffer.shape[-1])[None], persistent=False
            )
    return module.eval().requires_grad_(False)


def _below(tensors: Mapping[str, Tensor], prefix: str, keep: bool = False) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, which is cut off unless they are to `keep` it."""
    found = {name: value for name, value in tensors.items() if name.startswith(prefix)}
    return found if keep else {name.removeprefix(prefix): value for name, value in found.items()}


def _count(names: Mapping[str, Any], pattern: str) -> int:
    """One more than the highest number that `pattern` finds at the start of a name; 0 where it finds none."""
    return max((int(match[1]) + 1 for name in names if (match := re.match(pattern, name))), default=0)


def _unet_parts(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of diffusers' UNet, from the original names, or from diffusers' own."""
    state = dict(tensors)
    try:
        if original := _below(tensors, _UNET, keep=True):
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
        pooled = tensors.get(f"{_TEXT_2}text_projection")
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


def _vae_parts(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and weights of diffusers' autoencoder, from the original names, bare or in a whole checkpoint, or
    from diffusers' own."""
    state = _below(tensors, _VAE) or dict(tensors)
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


def _text_config(state: Mapping[str, Tensor], path: Path, activation: str) -> CLIPTextConfig:
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
