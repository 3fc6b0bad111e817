"""A published PASD and the Stable Diffusion 1.5 that it stands on, from the files that people have."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_ldm_unet_checkpoint
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from grefine_export.checkpoints import read_json, read_tensors
from grefine_export.hub import Unreachable, fetch, file_names, is_hub_id
from grefine_export.models.pasd import PasdUNet
from grefine_export.models.sdxl_loading import SdxlCheckpoint

SCALING = 0.18215
"""Factor from SD1.5's latents to unit variance, where no configuration says it."""

_PASD_PARTS = ("unet", "controlnet")
_BASE_PARTS = ("vae", "text_encoder", "tokenizer")
_WEIGHT_FILES = tuple(
    f"diffusion_pytorch_model{half}.{kind}" for kind in ("safetensors", "bin") for half in ("", ".fp16")
)
_HUB_FILES = re.compile(
    r"(?:.*/)?(?P<part>\w+)/(?:(?:diffusion_pytorch_model|model|pytorch_model)(?P<half>\.fp16)?"
    r"\.(?P<kind>safetensors|bin)"
    r"|config\.json|scheduler_config\.json|vocab\.json|merges\.txt|tokenizer_config\.json)"
)
_TEXT = "text_model."
_HEAD = 64  # channels of a head of CLIP's text encoder
_SIZES = {
    *(
        "sample_size",
        "in_channels",
        "out_channels",
        "block_out_channels",
        "layers_per_block",
        "norm_num_groups",
    ),
    *(
        "down_block_types",
        "up_block_types",
        "cross_attention_dim",
        "attention_head_dim",
        "num_attention_heads",
    ),
    *("conditioning_embedding_out_channels", "use_linear_projection", "addition_embed_type"),
}
"""Settings that are read, or follow from the tensors; `addition_embed_type` has a sentence of its own."""
_OWN_SETTINGS = {"use_rrdb", "return_rgbs"}
"""PASD's own, of its ControlNet: tensors tell of the first, and the heads of the second serve training alone."""


@dataclass(frozen=True)
class PasdCheckpoint:
    """A PASD or PASD-light as its authors' training leaves it: a folder with `unet` and `controlnet`."""

    folder: Path

    @classmethod
    def find(cls, checkpoint: str, say: Callable[[str], None] = print) -> PasdCheckpoint:
        """`checkpoint`: the folder itself, one above its `checkpoint-N` (the latest is taken), or a hub id, with a
        folder behind it where the repository has several models ("yangtao9009/PASD/pasd").

        Raises FileNotFoundError, ConnectionError or ValueError, one sentence each.
        """
        owner, _, rest = checkpoint.partition("/")
        name, _, under = rest.strip("/").partition("/")
        if is_hub_id(f"{owner}/{name}") and not Path(checkpoint).exists():
            return cls(_fetched_model(f"{owner}/{name}", under, say))
        root = Path(checkpoint).expanduser()
        if not root.is_dir():
            raise FileNotFoundError(
                f"there is no folder '{checkpoint}': give a PASD checkpoint with 'unet' and 'controlnet'"
            )
        found = [root] if _is_pasd(root) else [one for one in root.rglob("checkpoint-*") if _is_pasd(one)]
        return cls(Path(_only(found, f"the folder '{checkpoint}'")))

    def files(self) -> list[Path]:
        """The files that decide the model, for telling whether they changed."""
        return [
            file
            for part in ("unet", "controlnet")
            for file in (self.folder / part / "config.json", _weight_file(self.folder / part))
        ]

    def scheduler(self) -> dict[str, Any]:
        """`scheduler/scheduler_config.json` of the model, or nothing: then it has the noise of Stable Diffusion 1.5.

        Raises ValueError for `pasd_color` without it, which is known to have another.
        """
        found = read_json(self.folder / "scheduler" / "scheduler_config.json")
        if not found and any("pasd_color" in part for part in self.folder.parts[-2:]):
            raise ValueError(
                f"'{self.folder}' is PASD's model for colours, whose noise is told by a folder 'scheduler' beside its "
                f"'unet': fetch that too"
            )
        return found

    def unet_config(self) -> dict[str, Any]:
        """Arguments of diffusers' `UNet2DConditionModel`, complete. Raises ValueError, for PASD-SDXL among others."""
        if read_json(self.folder / "unet" / "config.json").get("addition_embed_type") is not None:
            raise ValueError(
                f"'{self.folder}' is PASD-SDXL, whose steps also read a pooled prompt and the picture's size: give a "
                f"PASD or PASD-light for Stable Diffusion 1.5"
            )
        return _config(self.folder / "unet", UNet2DConditionModel)

    def load(self, base: Mapping[str, Tensor] = MappingProxyType({})) -> PasdUNet:
        """The model, float32, strictly: PASD or PASD-light, with RRDBs or without.

        base: weights of an SD1.5 UNet under diffusers' names, which take the place of PASD's own of the same names, as
        the authors' personalised models do. Raises ValueError or FileNotFoundError (one sentence) for anything that is
        no such checkpoint.
        """
        sizes = self.unet_config(), _config(self.folder / "controlnet", ControlNetModel)
        unet, controlnet = (read_tensors(_weight_file(self.folder / part)) for part in ("unet", "controlnet"))
        light = any(".attn2_plus." in key for key in unet)
        if not light and not any(".pixel_attentions." in key for key in unet):
            raise ValueError(
                f"the UNet of '{self.folder}' has no pixel-aware attention: give PASD's own, not Stable Diffusion's"
            )
        if strange := sorted(base.keys() - unet.keys()):
            raise ValueError(
                f"the base's UNet has '{strange[0]}', which PASD's lacks: give a Stable Diffusion 1.5"
            )
        with torch.device("meta"):
            pasd = PasdUNet(*sizes, light=light, rrdb=any(".preprocesser." in key for key in controlnet))
        pasd.load_published({**unet, **base}, controlnet)
        return pasd.eval().requires_grad_(False)


@dataclass(frozen=True)
class Sd15:
    """A Stable Diffusion 1.5, or a fine-tune: a diffusers folder, or a file with the names of the original code."""

    path: Path

    @classmethod
    def find(cls, base: str, unet: bool = False, say: Callable[[str], None] = print) -> Sd15:
        """`base`: a folder, a file (.safetensors, .ckpt) or a hub id; `unet`: whether its UNet is wanted too.

        Raises FileNotFoundError, ConnectionError or ValueError, one sentence each.
        """
        if is_hub_id(base):
            parts = (*_BASE_PARTS, *(["unet"] if unet else []))
            return cls(_fetched(base, file_names(base, *(f"{part}/*" for part in parts)), parts, say))
        path = Path(base).expanduser()
        if not path.exists():
            raise FileNotFoundError(
                f"there is no '{base}': give a Stable Diffusion 1.5 as a folder, a file or a hub id"
            )
        if path.is_dir() and not (path / "text_encoder" / "config.json").is_file():
            raise ValueError(
                f"the folder '{base}' has no text_encoder/config.json: give a Stable Diffusion 1.5"
            )
        return cls(path)

    def vae(self) -> AutoencoderKL:
        """The autoencoder, float32. Raises ValueError."""
        vae = SdxlCheckpoint(self.path).vae()
        if self.path.is_file():
            vae.register_to_config(scaling_factor=SCALING)
        return vae

    def text_encoder(self) -> CLIPTextModel:
        """CLIP's text encoder, float32. Raises ValueError."""
        try:
            if self.path.is_file():
                return _text_encoder(read_tensors(self.path))
            folder = self.path / "text_encoder"
            files = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
            model, info = CLIPTextModel.from_pretrained(
                folder,
                variant="fp16" if files and all(".fp16." in file.name for file in files) else None,
                local_files_only=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
            if lacking := sorted(info["missing_keys"]):
                raise ValueError(f"it lacks the weight '{lacking[0]}'")
        except (
            Exception
        ) as error:  # transformers raises many kinds for files that are missing, cut off or others'
            reason = " ".join(str(error).split())[:200].rstrip(".:")
            raise ValueError(
                f"'{self.path}' has no text encoder of Stable Diffusion 1.5 ({reason}): fetch it again, or give another"
            ) from error
        return model.eval().requires_grad_(False)

    def vocabulary(self) -> int:
        """Number of token embeddings. Raises ValueError."""
        if self.path.is_dir():
            return int(read_json(self.path / "text_encoder" / "config.json").get("vocab_size", 0))
        return int(self.text_encoder().config.vocab_size)

    def tokenizer_folder(self) -> Path | None:
        """The folder of the tokenizer; a single file has none."""
        folder = self.path / "tokenizer"
        return folder if folder.is_dir() else None

    def unet_weights(self, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """The UNet's weights under diffusers' names, as they are stored; `config`: of the PASD's UNet.

        Raises ValueError or FileNotFoundError.
        """
        if self.path.is_dir():
            return read_tensors(_weight_file(self.path / "unet"))
        try:
            return convert_ldm_unet_checkpoint(read_tensors(self.path), config)
        except (KeyError, IndexError) as error:
            raise ValueError(
                f"'{self.path}' has no whole UNet of Stable Diffusion 1.5 (about {error}): fetch it again"
            ) from error

    def files(self, part: str) -> list[Path]:
        """The files that decide a part ("vae", "text_encoder", "unet"), for telling whether they changed."""
        if self.path.is_file():
            return [self.path]
        return sorted(file for file in (self.path / part).rglob("*") if file.is_file())


def _fetched_model(repo: str, under: str, say: Callable[[str], None]) -> Path:
    """The PASD of a hub's repository in the cache: the only one in its folder `under`, or the latest of its
    `checkpoint-N`. Raises ValueError before anything is fetched where there are several, or none."""
    place = PurePosixPath(repo, under)
    try:
        names = file_names(repo, *(str(PurePosixPath(under, f"*{part}/config.json")) for part in _PASD_PARTS))
    except Unreachable as error:
        raise Unreachable(f"there is no folder '{place}', and {error}" if under else str(error)) from error
    folders = {PurePosixPath(name).parent.parent for name in names if name.endswith("unet/config.json")}
    found = [
        PurePosixPath(repo, folder)
        for folder in folders
        if str(folder / "controlnet/config.json") in names and folder.is_relative_to(under)
    ]
    chosen = _only(found, f"'{place}' on the hub").relative_to(repo)
    return _fetched(repo, names, (*_PASD_PARTS, "scheduler"), say, str(chosen)) / chosen


def _only(found: Sequence[PurePath], where: str) -> PurePath:
    """The only model in `where`, of its `checkpoint-N` the latest. Raises ValueError for none, or several."""
    if not found:
        raise ValueError(
            f"{where} has no unet/config.json with controlnet/config.json: give a PASD checkpoint, such as "
            f"runs/pasd/checkpoint-100000"
        )
    numbers = {folder: re.fullmatch(r"checkpoint-(\d+)", folder.name) for folder in found}
    if len({folder.parent if number else folder for folder, number in numbers.items()}) > 1:
        choices = ", ".join(sorted(f"'{folder}'" for folder in found))
        raise ValueError(f"{where} holds several PASD models: give one of {choices}")
    return max(numbers, key=lambda folder: int(number[1]) if (number := numbers[folder]) else -1)


def _fetched(
    repo: str, names: Sequence[str], parts: Sequence[str], say: Callable[[str], None], under: str = "."
) -> Path:
    """A hub's model in the cache: of its files `names` weights, configuration and tokenizer in folders called as
    `parts`, of all that lies in its folder `under`; no pickle where there are safetensors."""
    files = [match for name in names if (match := _HUB_FILES.fullmatch(name))]
    found = [m for m in files if m["part"] in parts and PurePosixPath(m[0]).is_relative_to(under)]
    weights = [match for match in found if match["kind"]]
    others = [match[0] for match in found if not match["kind"]]
    wanted = []
    for folder in {Path(match[0]).parent for match in weights}:
        here = [match for match in weights if Path(match[0]).parent == folder]
        # Safetensors before pickles, then single precision before half: one file of weights.
        best = min(here, key=lambda match: (match["kind"] == "bin", bool(match["half"])))
        wanted.append(best[0])
    return fetch(repo, None, sorted(wanted + others), say)


def _is_pasd(folder: Path) -> bool:
    return all((folder / part / "config.json").is_file() for part in ("unet", "controlnet"))


def _config(folder: Path, kind: type[UNet2DConditionModel] | type[ControlNetModel]) -> dict[str, Any]:
    """The part of the folder's configuration that `kind` takes, with its defaults."""
    defaults = {name: value.default for name, value in inspect.signature(kind.__init__).parameters.items()}
    content = read_json(folder / "config.json")
    for name, value in content.items():
        known = defaults.get(name, None if value else value)  # what is unknown and off changes nothing
        if name.startswith("_") or name in _SIZES | _OWN_SETTINGS or _plain(value) == _plain(known):
            continue
        raise ValueError(
            f"'{folder / 'config.json'}' sets '{name}' to {value!r}, which Stable Diffusion 1.5 has not and PASD's "
            f"graph would ignore: give a PASD for Stable Diffusion 1.5"
        )
    return {name: content.get(name, default) for name, default in defaults.items() if name != "self"}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _weight_file(folder: Path) -> Path:
    file = next((folder / name for name in _WEIGHT_FILES if (folder / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(
            f"the folder '{folder}' has no file of weights: one of {', '.join(_WEIGHT_FILES)}"
        )
    return file


def _text_encoder(tensors: dict[str, Tensor]) -> CLIPTextModel:
    """From a whole checkpoint of the original code, with sizes from its tensors."""
    state = {
        key.removeprefix(_TEXT): value.float()
        for key, value in convert_ldm_clip_checkpoint(tensors).items()
        if not key.endswith("position_ids")
    }
    if not state:
        raise ValueError("it has no weights named cond_stage_model.transformer")
    vocabulary, width = state["embeddings.token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=len(state["encoder.layers.0.mlp.fc1.weight"]),
        num_hidden_layers=sum(key.endswith(".mlp.fc1.weight") for key in state),
        num_attention_heads=max(width // _HEAD, 1),
        max_position_embeddings=len(state["embeddings.position_embedding.weight"]),
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
    )
    model = CLIPTextModel(config)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)
