"""Stable Diffusion XL from the files that people have, part by part, so that no two large parts lie in memory."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint
from diffusers.utils import logging as of_diffusers
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils import logging as of_transformers

from grefine_export.checkpoints import read_json, read_tensors
from grefine_export.hub import fetch, file_names, is_hub_id
from grefine_export.models.sdxl_single_file import (
    TEXT,
    TEXT_2,
    UNET,
    VAE,
    below,
    declared_sampling,
    filled,
    text_config,
    unet_parts,
    unreadable,
    vae_parts,
)

_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|(?:pytorch_)?model)(\.fp16)?(?:-\d+-of-\d+)?\.(safetensors|bin)"
    r"(?:\.index(\.fp16)?\.json)?"
)


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
    names = _needed(file_names(checkpoint, "*.json"))
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise ValueError(
            f"the model '{checkpoint}' on the hub is not laid out for diffusers: fetch its safetensors file and give it"
        )
    return fetch(checkpoint, None, names, say)


def _needed(names: Sequence[str]) -> list[str]:
    """The files of a pipeline or of a single model among a hub's, each part's weights once."""
    kept: list[str] = []
    for part in ("", *_PARTS):
        files = [name for name in names if name.rpartition("/")[0] == part]
        every = {name: match for name in files if (match := _WEIGHTS.fullmatch(name.rpartition("/")[2]))}
        # No pickle where there are safetensors.
        found = {n: m for n, m in every.items() if m[2] == "safetensors"} or every
        half = {name for name, match in found.items() if match[1] or match[3]}
        kept += half or found.keys()
        kept += [name for name in files if name.endswith((".json", "merges.txt")) and name not in every]
    return kept


@dataclass(frozen=True)
class SdxlCheckpoint:
    """The paths of SDXL's parts, and their facts that are known before loading.

    path: a diffusers folder, or a safetensors file with the names of the original code. unet_path, vae_path: another
    UNet or autoencoder instead of its own: the folder of the model or of a pipeline, or a safetensors file.
    """

    path: Path
    unet_path: Path | None = None
    vae_path: Path | None = None

    def scheduler(self) -> dict[str, Any]:
        """`scheduler_config.json`, with the declarations of a UNet in a single file in its place; nothing if neither
        says anything. Raises ValueError when it is no JSON object, or the file cannot be read."""
        own = read_json(self.path / "scheduler" / "scheduler_config.json")
        unet = self.unet_path or self.path
        return own | declared_sampling(read_tensors(unet), unet) if unet.is_file() else own

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
            sizes = [
                int(read_json(self.path / name / "config.json").get("vocab_size") or 0)
                for name in _PARTS[2:4]
            ]
        else:
            tensors = read_tensors(self.path)
            names = (
                f"{TEXT}text_model.embeddings.token_embedding.weight",
                f"{TEXT_2}token_embedding.weight",
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
            elsewhere = [name for name in ("unet", "vae") if getattr(self, f"{name}_path")]
            needed = [name for name in _PARTS[:4] if name not in elsewhere]
            if lacking := [name for name in needed if not (self.path / name / "config.json").is_file()]:
                kind = "Stable Diffusion 1.5 or 2" if lacking == ["text_encoder_2"] else "no SDXL pipeline"
                raise ValueError(
                    f"the folder '{self.path}' lacks {lacking[0]}/config.json, so it is {kind}: give the folder of an "
                    f"SDXL pipeline of diffusers, or a safetensors file"
                )
            return
        names = read_tensors(self.path).keys()
        if any(name.startswith("cond_stage_model.") for name in names):
            raise ValueError(f"'{self.path}' is Stable Diffusion 1.5 or 2: give an SDXL checkpoint")
        given = {UNET: self.unet_path, VAE: self.vae_path}
        for prefix, what in (
            (UNET, "UNet"),
            (VAE, "VAE"),
            (TEXT, "first text encoder"),
            (TEXT_2, "second"),
        ):
            if not given.get(prefix) and not any(name.startswith(prefix) for name in names):
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
            config, _ = unet_parts(read_tensors(path), path)
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
        config, state = unet_parts(read_tensors(path), path)
        return filled(UNet2DConditionModel.from_config, config, state, path, "SDXL's UNet")

    def vae(self) -> AutoencoderKL:
        """The autoencoder, float32. Raises ValueError."""
        path = self.vae_path or self.path
        if path.is_dir():
            vae = _pretrained(AutoencoderKL, _model_folder(path, "vae"), "VAE")
        else:
            vae = filled(AutoencoderKL.from_config, *vae_parts(read_tensors(path), path), path, "VAE")
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
        one = convert_ldm_clip_checkpoint(below(tensors, TEXT, keep=True))
        two = convert_open_clip_checkpoint(None, below(tensors, TEXT_2, keep=True), prefix=TEXT_2)
        one.pop("text_model.embeddings.position_ids", None)
        configs = [text_config(state, self.path, act) for state, act in ((one, "quick_gelu"), (two, "gelu"))]
        one = {name.removeprefix("text_model."): value for name, value in one.items()}
        return (
            filled(first, configs[0], one, self.path, "SDXL's first text encoder"),
            filled(second, configs[1], two, self.path, "SDXL's second text encoder"),
        )


# --- diffusers folders


def _model_folder(path: Path, part: str) -> Path:
    """`path` itself or the part of the pipeline there."""
    return path if (path / "config.json").is_file() else path / part


def _pretrained(kind: Any, folder: Path, what: str) -> Any:
    """A model by the library's own loader, in float32 and complete."""
    try:
        weights = [match for file in folder.iterdir() if (match := _WEIGHTS.fullmatch(file.name))]
        half = bool(weights) and all(match[1] or match[3] for match in weights)
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
        raise unreadable(folder, what, str(error)) from error
    if lacking := sorted(info["missing_keys"]):
        raise unreadable(folder, what, f"it lacks the weight '{lacking[0]}'")
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
